/* SPDX-License-Identifier: Apache-2.0 */
/* radix: sorts 32-bit keys by digits of 8 bits; every pass scatters keys over all nodes.
 * Arguments: n= keys (65536); cpus= of the parallel run (all). */
#include "guests/micro/programs/splash.h"

const char guest_name[] = "radix";

#define KEYS_DEFAULT 65536
#define KEYS_MAX     (1ul << 28)
#define DIGIT_BITS   8
#define DIGITS	     (1u << DIGIT_BITS)
#define PASSES	     4

struct problem {
	uint64_t n;
	struct spread keys[2]; /* a pass goes from one to the other */
	uint32_t *histogram[CPUS_MAX];
	struct barrier barrier;
};

static uint64_t keys_count(void)
{
	uint64_t n = arg_number("n", KEYS_DEFAULT);

	if (n < CPUS_MAX || n > KEYS_MAX)
		fail("n= must be %u to %lu", CPUS_MAX, KEYS_MAX);
	return n;
}

static void *make(unsigned n)
{
	struct problem *p = node_alloc(0, sizeof(*p));

	p->n = keys_count();
	for (unsigned i = 0; i < 2; i++)
		spread_make(&p->keys[i], p->n, sizeof(uint32_t), n);
	for (unsigned i = 0; i < n; i++)
		p->histogram[i] = node_alloc(machine.node_of[i], DIGITS * sizeof(uint32_t));
	barrier_init(&p->barrier, n);
	return p;
}

static void fill(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;
	struct share mine = share_of(p->n, self, n);

	for (uint64_t i = mine.first; i < mine.end; i++) {
		struct random r = {i * 0x632be59bd9b4e019ul};

		*(uint32_t *)spread_at(&p->keys[0], i) = (uint32_t)random_next(&r);
	}
}

static void digits_count(struct problem *p, const struct spread *from, struct share mine,
			 unsigned shift, uint32_t *histogram)
{
	(void)p;
	memset(histogram, 0, DIGITS * sizeof(uint32_t));
	for (uint64_t i = mine.first; i < mine.end; i++)
		histogram[*(uint32_t *)spread_at(from, i) >> shift & (DIGITS - 1)]++;
}

/* Where this CPU's keys of each digit go: behind all smaller digits, and behind the same digit of
 * CPUs with smaller numbers. */
static void offsets_make(const struct problem *p, unsigned self, unsigned n, uint64_t *offset)
{
	uint64_t before = 0;

	for (unsigned digit = 0; digit < DIGITS; digit++) {
		for (unsigned cpu = 0; cpu < n; cpu++) {
			if (cpu == self)
				offset[digit] = before;
			before += p->histogram[cpu][digit];
		}
	}
}

static void solve(void *problem, unsigned self, unsigned n)
{
	struct problem *p = problem;
	struct share mine = share_of(p->n, self, n);
	uint64_t offset[DIGITS];

	for (unsigned pass = 0; pass < PASSES; pass++) {
		const struct spread *from = &p->keys[pass % 2], *to = &p->keys[(pass + 1) % 2];
		unsigned shift = pass * DIGIT_BITS;

		digits_count(p, from, mine, shift, p->histogram[self]);
		barrier_wait(&p->barrier);
		offsets_make(p, self, n, offset);
		for (uint64_t i = mine.first; i < mine.end; i++) {
			uint32_t key = *(uint32_t *)spread_at(from, i);

			*(uint32_t *)spread_at(to, offset[key >> shift & (DIGITS - 1)]++) = key;
		}
		barrier_wait(&p->barrier);
	}
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < p->n; i++)
		sum = checksum_add(sum, *(uint32_t *)spread_at(&p->keys[0], i));
	return sum;
}

/* Sorted, and the same keys: their sum is that of the random sequence. */
static void check(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;
	uint32_t last = 0;

	for (uint64_t i = 0; i < p->n; i++) {
		uint32_t key = *(uint32_t *)spread_at(&p->keys[0], i);
		struct random r = {i * 0x632be59bd9b4e019ul};

		if (key < last)
			fail("key %lu is smaller than the one before", i);
		last = key;
		sum += key - (uint64_t)(uint32_t)random_next(&r);
	}
	if (sum)
		fail("the sorted keys are not those that were there before");
}

int main(void)
{
	const struct splash_kernel kernel = {"n", keys_count(), make, fill, solve, checksum, check};

	splash_run(&kernel);
	return 0;
}
