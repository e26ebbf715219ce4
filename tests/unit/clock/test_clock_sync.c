/* SPDX-License-Identifier: Apache-2.0 */
/* The alignment over simulated hosts and networks: drift, jitter, unequal ways, hosts that sleep.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "vmm/clock/clock_sync.h"

#define HOUR_NS (3600.0 * 1e9)
#define PINGS	16u

/* True time goes in doubles of nanoseconds since the VM's origin, which is guest time too. */
struct net {
	uint64_t seed;
	double now;
	double host_offset, host_ppm; /* the slice's host clock: offset + now * (1 + ppm) */
	double there_ns, back_ns;     /* the least delay of each way */
	double jitter_ns;	      /* on top, mostly little, at times much */
	struct guest_clock clock;
	struct clock_sync sync;
	uint64_t interval_ns; /* until the next burst */
	double worst_ns;      /* |the slice's clock - true| since the last close */
	uint64_t last_guest;
};

static double random_unit(struct net *n)
{
	return (double)(random_xorshift(&n->seed) >> 11) / (double)(UINT64_C(1) << 53);
}

static uint64_t host_now(void *ctx)
{
	const struct net *n = ctx;

	return (uint64_t)(n->host_offset + n->now * (1 + n->host_ppm / 1e6));
}

static double delay(struct net *n, double least_ns)
{
	double unit = random_unit(n);

	return least_ns + n->jitter_ns * unit * unit * unit * (random_unit(n) < 0.05 ? 20 : 1);
}

/* Looks at the clock: it never goes back, and how far is it from true? */
static void look(struct net *n)
{
	uint64_t guest = guest_clock_now(&n->clock);
	double away = fabs((double)guest - n->now);

	cr_assert_geq(guest, n->last_guest, "back by %llu ns",
		      (unsigned long long)(n->last_guest - guest));
	n->last_guest = guest;
	n->worst_ns = away > n->worst_ns ? away : n->worst_ns;
}

static void burst(struct net *n)
{
	n->interval_ns = n->sync.interval_ns;
	for (unsigned i = 0; i < PINGS; i++) {
		uint64_t sent = host_now(n), guest;

		n->now += delay(n, n->there_ns);
		guest = (uint64_t)n->now;
		n->now += delay(n, n->back_ns);
		clock_sync_add(&n->sync, sent, host_now(n), guest);
	}
}

static struct net *net_new(uint64_t seed, double host_offset, double ppm)
{
	static const struct guest_clock_source none;
	struct net *n = calloc(1, sizeof(*n));
	struct guest_clock_source source = none;

	cr_assert(n);
	n->seed = seed;
	n->now = 1e9;
	n->host_offset = host_offset;
	n->host_ppm = ppm;
	n->there_ns = n->back_ns = 20000;
	n->jitter_ns = 30000;
	source.now_ns = host_now;
	source.ctx = n;
	guest_clock_init(&n->clock, &source, host_now(n), 0);
	clock_sync_init(&n->sync);
	burst(n);
	cr_assert_eq(clock_sync_close(&n->sync, &n->clock, true), 0);
	return n;
}

/* Until the next burst, which is closed: looks at the clock all the way. The worst is within the
 * bound that the close states, give or take the simulation's own rounding. */
static void interval(struct net *n)
{
	double until = n->now + (double)n->interval_ns;

	n->worst_ns = 0;
	while (n->now < until) {
		look(n);
		n->now += (double)n->interval_ns / 97;
	}
	burst(n);
	cr_assert_eq(clock_sync_close(&n->sync, &n->clock, false), 0);
	cr_assert_leq(n->worst_ns, (double)n->sync.error_ns + 4, "off by %.0f, said at most %llu",
		      n->worst_ns, (unsigned long long)n->sync.error_ns);
}

Test(sync, nothing_answered)
{
	struct net *n = net_new(1, HOUR_NS, 0);

	cr_assert_eq(clock_sync_close(&n->sync, &n->clock, false), -EAGAIN);
	clock_sync_add(&n->sync, 100, 99, 0);
	cr_assert_eq(clock_sync_close(&n->sync, &n->clock, false), -EAGAIN, "back in time");
	free(n);
}

Test(sync, the_first_is_a_step)
{
	struct net *n = net_new(2, 500 * HOUR_NS, 0);

	look(n);
	cr_assert_leq(n->worst_ns, (double)n->sync.error_ns + 2);
	cr_assert_geq(n->sync.error_ns, 20000);
	cr_assert_leq(n->sync.error_ns, 40000);
	cr_assert_float_eq((double)n->sync.offset_ns, -500 * HOUR_NS, 40000);
	free(n);
}

/* Every drift, many seeds: monotonic, within the stated bound all the time, and it converges. */
Test(sync, follows_drift)
{
	static const double ppms[] = {-100, -37, -1, 0, 3, 55, 100};

	for (uint64_t seed = 1; seed <= 40; seed++) {
		double ppm = ppms[seed % 7];
		struct net *n = net_new(seed * 7919, (double)seed * HOUR_NS, ppm);

		for (unsigned i = 0; i < 30; i++)
			interval(n);
		for (unsigned i = 0; i < 100; i++) {
			interval(n);
			/* The rate is known: what is left is the jitter of the shortest. */
			cr_assert_leq(n->worst_ns, 15000, "seed %llu ppm %f interval %u: %f",
				      (unsigned long long)seed, ppm, i, n->worst_ns);
		}
		cr_assert_float_eq((double)guest_clock_rate(&n->clock) /
					   (double)GUEST_CLOCK_RATE_ONE * 1e6,
				   -ppm, 12);
		free(n);
	}
}

/*
 * A message that takes at least as long as the shortest of the burst never arrives before it was
 * sent, by the two slices' clocks, be the two ways as unequal as they may: docs/time.md.
 */
Test(sync, messages_arrive_after_they_were_sent)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct net *n = net_new(seed * 104729, -0.0, 5.0 * (double)(seed % 3));

		n->jitter_ns = 2000;
		n->there_ns = 5000;
		n->back_ns = 55000;
		if (seed & 1) {
			n->there_ns = 55000;
			n->back_ns = 5000;
		}
		for (unsigned i = 0; i < 12; i++)
			interval(n);
		for (unsigned i = 0; i < 40; i++) {
			double sent;

			interval(n);
			sent = n->now; /* by slice 0's clock */
			n->now += n->back_ns;
			cr_assert_geq((double)guest_clock_now(&n->clock), sent, "from slice 0");
			n->now += 1e6;
			sent = (double)guest_clock_now(&n->clock);
			n->now += n->there_ns;
			cr_assert_geq(n->now, sent, "to slice 0");
		}
		free(n);
	}
}

/* Unequal ways from the start are in the bound, and are no drift. */
Test(sync, unequal_ways)
{
	struct net *n = net_new(11, 3 * HOUR_NS, 40);

	n->there_ns = 10000;
	n->back_ns = 210000;
	for (unsigned i = 0; i < 60; i++)
		interval(n);
	cr_assert_float_eq(n->worst_ns, 100000, 20000);
	cr_assert_geq(n->sync.error_ns, 100000);
	free(n);
}

/* A busy host: a few bursts are all late. They count for little, and say that they are bad. */
Test(sync, bad_bursts)
{
	struct net *n = net_new(17, 9 * HOUR_NS, -80);

	for (unsigned i = 0; i < 30; i++)
		interval(n);
	for (unsigned i = 0; i < 3; i++) {
		n->there_ns = 3000000;
		interval(n);
		cr_assert_geq(n->sync.error_ns, 1500000);
	}
	n->there_ns = 20000;
	interval(n);
	cr_assert_leq(n->worst_ns, 100000, "%f", n->worst_ns);
	for (unsigned i = 0; i < 20; i++)
		interval(n);
	cr_assert_leq(n->worst_ns, 15000, "%f", n->worst_ns);
	free(n);
}

/* A first alignment that was wrong by 2 ms is made good at 500 ppm at the utmost, unnoticed. */
Test(sync, slews_what_it_cannot_step)
{
	struct net *n = net_new(23, 2 * HOUR_NS, 10);
	unsigned i;

	guest_clock_step(&n->clock, host_now(n), (uint64_t)n->now + 2000000, 0);
	n->sync.away_ns = 2100000; /* as a first burst of that quality would have said */
	n->last_guest = 0;
	for (i = 0; i < 80; i++)
		interval(n);
	cr_assert_leq(n->worst_ns, 15000, "%f", n->worst_ns);
	free(n);
}

/* A host that sleeps falls behind: its guest time catches up without a jump. */
Test(sync, a_host_that_slept)
{
	struct net *n = net_new(29, 2 * HOUR_NS, 10);
	unsigned i;

	for (i = 0; i < 20; i++)
		interval(n);
	n->now += 5e6;
	n->host_offset -= 5e6;
	n->sync.away_ns += 5000000; /* the bound knows only steady clocks */
	for (i = 0; i < 80; i++)
		interval(n);
	cr_assert_leq(n->worst_ns, 15000, "%f", n->worst_ns);
	free(n);
}

Test(sync, bursts_come_close_at_first)
{
	struct net *n = net_new(31, 0, 100);
	uint64_t first_ns = n->sync.interval_ns;

	/* The rate is 50 ppm unknown; they make an eighth of some 21 us in 53 ms. */
	cr_assert_leq(first_ns, 2 * CLOCK_SYNC_INTERVAL_MIN_NS);
	for (unsigned i = 0; i < 60; i++)
		interval(n);
	cr_assert_eq(n->sync.interval_ns, CLOCK_SYNC_INTERVAL_MAX_NS);
	free(n);
}

/* From the first moment on, before the rate is known, the clock is off by less than half of the
 * round trip: what makes messages arrive after they were sent. */
Test(sync, unknown_rates_do_no_harm)
{
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct net *n = net_new(seed * 65537, HOUR_NS, seed & 1 ? 100 : -70);

		n->jitter_ns = 5000;
		for (unsigned i = 0; i < 60; i++) {
			interval(n);
			cr_assert_leq(n->worst_ns, 20000, "seed %llu, interval %u: %f",
				      (unsigned long long)seed, i, n->worst_ns);
		}
		free(n);
	}
}
