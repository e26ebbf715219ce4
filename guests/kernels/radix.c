/* SPDX-License-Identifier: Apache-2.0 */
/* radix: sorts keys by digits of 8 bits, least first. A pass of SPLASH-2's scatters keys over pages
 * that all threads write; here each sorts its own keys by the digit, and then fetches what belongs
 * into its part of the result: threads write to their own pages and read from others'. */
#include <stdlib.h>

#include "kernels.h"

#define DIGIT_BITS 8
#define DIGITS	   (1u << DIGIT_BITS)
#define PASSES	   (32 / DIGIT_BITS)
#define PER_PAGE   (PAGE_BYTES / sizeof(uint32_t))

struct problem {
	size_t n;
	unsigned threads;
	uint32_t *keys, *sorted; /* sorted: each thread's part, by this pass's digit */
	/* Where each digit begins in a thread's sorted part, and the part's end; pages of its own. */
	size_t *start[THREADS_MAX];
};

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	(void)rounds;
	p->n = (size_t)1 << size;
	p->threads = threads;
	p->keys = memory_take(p->n * sizeof(uint32_t));
	p->sorted = memory_take(p->n * sizeof(uint32_t));
	for (unsigned i = 0; i < threads; i++)
		p->start[i] = memory_take((DIGITS + 1) * sizeof(size_t));
	return p;
}

static uint32_t key_at(size_t i)
{
	return (uint32_t)random_at(8, i);
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = share_pages(p->n, PER_PAGE, self, team_threads(team));

	for (size_t i = mine.first; i < mine.end; i++) {
		p->keys[i] = key_at(i);
		p->sorted[i] = 0;
	}
	memset(p->start[self], 0, (DIGITS + 1) * sizeof(size_t));
}

static unsigned digit_of(uint32_t key, unsigned pass)
{
	return key >> (pass * DIGIT_BITS) & (DIGITS - 1);
}

/* This thread's keys by the pass's digit; where each digit begins. */
static void part_sort(struct problem *p, unsigned self, struct share mine, unsigned pass)
{
	size_t *start = p->start[self], next[DIGITS], at = mine.first;
	uint32_t count[DIGITS] = {0};

	for (size_t i = mine.first; i < mine.end; i++)
		count[digit_of(p->keys[i], pass)]++;
	for (unsigned digit = 0; digit < DIGITS; digit++) {
		start[digit] = next[digit] = at;
		at += count[digit];
	}
	start[DIGITS] = at;
	for (size_t i = mine.first; i < mine.end; i++)
		p->sorted[next[digit_of(p->keys[i], pass)]++] = p->keys[i];
}

/* Into this thread's part of the result what belongs there: smaller digits first, and of a digit the
 * keys of threads with smaller numbers. */
static void part_fetch(struct problem *p, struct share mine, unsigned threads)
{
	size_t at = 0;

	for (unsigned digit = 0; digit < DIGITS && at < mine.end; digit++)
		for (unsigned t = 0; t < threads; t++) {
			size_t from = p->start[t][digit], count = p->start[t][digit + 1] - from;
			size_t skip = at < mine.first ? mine.first - at : 0;
			size_t end = at + count > mine.end ? mine.end : at + count;

			if (at + skip < end)
				memcpy(p->keys + at + skip, p->sorted + from + skip,
				       (end - at - skip) * sizeof(uint32_t));
			at += count;
			if (at >= mine.end)
				break;
		}
}

static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = share_pages(p->n, PER_PAGE, self, team_threads(team));

	for (unsigned pass = 0; pass < PASSES; pass++) {
		part_sort(p, self, mine, pass);
		team_wait(team, self);
		part_fetch(p, mine, team_threads(team));
		team_wait(team, self);
	}
}

/* Different for other keys, the same for any order of them. */
static uint64_t key_sum(uint32_t key)
{
	return random_at(9, key);
}

static const char *check(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (i && p->keys[i - 1] > p->keys[i])
			return "the keys are not in order";
		sum += key_sum(p->keys[i]) - key_sum(key_at(i));
	}
	return sum ? "the sorted keys are not the keys that were there" : NULL;
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (size_t i = 0; i < p->n; i++)
		sum = checksum_add(sum, p->keys[i]);
	return sum;
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->keys[p->n / 2] = p->keys[p->n / 2 - 1];
	p->keys[p->n / 2 + 1] = p->keys[p->n / 2 - 1];
}

const struct kernel kernel_radix = {
	.name = "radix",
	.about = "sorts keys by their digits",
	.size_what = "the binary logarithm of the keys",
	.size_min = 8,
	.size_default = 23,
	.size_max = 30,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
