/* SPDX-License-Identifier: Apache-2.0 */
/* What reading guest time costs beside reading the host's clock: the price of a guest's RDTSC. */
#include <stdio.h>

#include "vmm/clock/clock.h"

/* Rounds shorter than a turn on a busy CPU; the best is one that nobody disturbed. */
#define READS  20000u
#define ROUNDS 300u

static uint64_t host_read(const struct guest_clock *c)
{
	(void)c;
	return clock_now_ns();
}

static uint64_t guest_read(const struct guest_clock *c)
{
	return guest_clock_now(c);
}

/* The best of some rounds; the sum keeps the reads from being left out. */
static double read_ns(uint64_t (*read)(const struct guest_clock *), const struct guest_clock *c,
		      uint64_t *sum)
{
	double best = 1e9;

	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t start_ns = clock_now_ns();

		for (unsigned i = 0; i < READS; i++)
			*sum += read(c);
		double each = (double)(clock_now_ns() - start_ns) / READS;
		best = each < best ? each : best;
	}
	return best;
}

int main(void)
{
	struct guest_clock c;
	uint64_t sum = 0;

	guest_clock_init(&c, NULL, clock_now_ns(), 0);
	printf("%-40s %10s\n", "read", "ns");
	printf("%-40s %10.1f\n", "CLOCK_MONOTONIC", read_ns(host_read, &c, &sum));
	printf("%-40s %10.1f\n", "guest clock, as on slice 0", read_ns(guest_read, &c, &sum));
	guest_clock_slew(&c, GUEST_CLOCK_RATE_ONE / 10000);
	printf("%-40s %10.1f\n", "guest clock, at another rate", read_ns(guest_read, &c, &sum));
	return sum == 0;
}
