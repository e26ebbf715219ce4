/* SPDX-License-Identifier: Apache-2.0 */
/* is: ranks keys by counting, after IS of the NAS parallel benchmarks: each thread counts its own keys,
 * then sums a part of all threads' counts. Every round changes two keys. */
#include <stdlib.h>

#include "kernels.h"

#define KEYS_EACH 16 /* keys to a value, in the mean */
#define PER_PAGE  (PAGE_BYTES / sizeof(uint32_t))

struct total {
	uint64_t keys;
	uint8_t pad[PAGE_BYTES - sizeof(uint64_t)];
};

struct problem {
	size_t n, values;
	unsigned rounds;
	uint32_t *keys, *rank;	      /* rank: how many keys are no larger */
	uint32_t *count[THREADS_MAX]; /* each thread's, of every value */
	struct total *total;	      /* of each thread's part of the values */
};

static void *make(unsigned long size, unsigned rounds, unsigned threads)
{
	struct problem *p = memory_take(sizeof(*p));

	p->n = (size_t)1 << size;
	p->values = p->n / KEYS_EACH;
	p->rounds = rounds;
	p->keys = memory_take(p->n * sizeof(uint32_t));
	p->rank = memory_take(p->values * sizeof(uint32_t));
	for (unsigned i = 0; i < threads; i++)
		p->count[i] = memory_take(p->values * sizeof(uint32_t));
	p->total = memory_take(threads * sizeof(*p->total));
	return p;
}

/* Values in the middle are likelier: the mean of four. */
static uint32_t key_at(const struct problem *p, size_t i)
{
	uint64_t random = random_at(10, i), sum = 0;

	for (unsigned k = 0; k < 4; k++)
		sum += random >> (16 * k) & 0xffff;
	return (uint32_t)(sum * p->values >> 18);
}

static void fill(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = share_pages(p->n, PER_PAGE, self, team_threads(team));
	struct share values = share_pages(p->values, PER_PAGE, self, team_threads(team));

	for (size_t i = mine.first; i < mine.end; i++)
		p->keys[i] = key_at(p, i);
	memset(p->rank + values.first, 0, (values.end - values.first) * sizeof(uint32_t));
	memset(p->count[self], 0, p->values * sizeof(uint32_t));
	p->total[self].keys = 0;
}

/* What round `round` makes of the keys: see keys_change in check(), too. */
static uint32_t changed_key(const struct problem *p, unsigned round, bool second)
{
	return (uint32_t)(second ? p->values - 1 - round % p->values : round % p->values);
}

static void keys_change(struct problem *p, unsigned round, struct share mine)
{
	size_t at[2] = {round % p->n, (round + p->n / 2) % p->n};

	for (unsigned k = 0; k < 2; k++)
		if (at[k] >= mine.first && at[k] < mine.end)
			p->keys[at[k]] = changed_key(p, round, k);
}

/* One round; three barriers: counts are there, totals are there, counts were read. */
static void keys_rank(struct problem *p, struct team *team, unsigned self, struct share mine)
{
	unsigned threads = team_threads(team);
	struct share values = share_pages(p->values, PER_PAGE, self, threads);
	uint32_t *count = p->count[self];
	uint64_t before = 0;

	memset(count, 0, p->values * sizeof(uint32_t));
	for (size_t i = mine.first; i < mine.end; i++)
		count[p->keys[i]]++;
	team_wait(team, self);
	for (size_t v = values.first; v < values.end; v++) {
		for (unsigned t = 0; t < threads; t++)
			before += p->count[t][v];
		p->rank[v] = (uint32_t)before;
	}
	p->total[self].keys = before;
	team_wait(team, self);
	before = 0;
	for (unsigned t = 0; t < self; t++)
		before += p->total[t].keys;
	for (size_t v = values.first; before && v < values.end; v++)
		p->rank[v] += (uint32_t)before;
	team_wait(team, self);
}

static void solve(void *problem, struct team *team, unsigned self)
{
	struct problem *p = problem;
	struct share mine = share_pages(p->n, PER_PAGE, self, team_threads(team));

	for (unsigned round = 0; round < p->rounds; round++) {
		keys_change(p, round, mine);
		keys_rank(p, team, self, mine);
	}
}

/* Keys put where their ranks say fill every place once and are in order; and they are the right keys. */
static const char *check(void *problem)
{
	struct problem *p = problem;
	struct problem again = *p;
	uint32_t *next = memory_take(p->values * sizeof(uint32_t));
	uint32_t *out = memory_take(p->n * sizeof(uint32_t));
	const char *why = p->rank[p->values - 1] == p->n ? NULL : "the last rank is not all keys";

	memcpy(next, p->rank, p->values * sizeof(uint32_t));
	for (size_t i = 0; i < p->n && !why; i++) {
		uint32_t place = next[p->keys[i]]--;

		if (!place || place > p->n || out[place - 1])
			why = "two keys have one place";
		else
			out[place - 1] = p->keys[i] + 1;
	}
	for (size_t i = 1; i < p->n && !why; i++)
		if (out[i - 1] > out[i])
			why = "the keys are not in order";
	again.keys = out;
	for (size_t i = 0; i < p->n; i++)
		out[i] = key_at(p, i);
	for (unsigned round = 0; round < p->rounds; round++)
		keys_change(&again, round, (struct share){0, p->n});
	if (!why && memcmp(out, p->keys, p->n * sizeof(uint32_t)) != 0)
		why = "the keys are not those that were there";
	memory_free(next, p->values * sizeof(uint32_t));
	memory_free(out, p->n * sizeof(uint32_t));
	return why;
}

static uint64_t checksum(void *problem)
{
	struct problem *p = problem;
	uint64_t sum = 0;

	for (size_t v = 0; v < p->values; v++)
		sum = checksum_add(sum, p->rank[v]);
	return sum;
}

static void spoil(void *problem)
{
	struct problem *p = problem;

	p->rank[p->values / 2]++;
}

const struct kernel kernel_is = {
	.name = "is",
	.about = "ranks keys by counting",
	.size_what = "the binary logarithm of the keys",
	.size_min = 8,
	.size_default = 22,
	.size_max = 30,
	.rounds_what = "rounds",
	.rounds_default = 40,
	.make = make,
	.fill = fill,
	.solve = solve,
	.check = check,
	.checksum = checksum,
	.spoil = spoil,
};
