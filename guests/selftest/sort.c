/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test (a): all threads sort one array together. Each sorts its own part; then each finds, by
 * searching in all sorted parts, the keys that belong into its part of the result, and merges them.
 * The parts are read across nodes; what a thread writes lies on its own node.
 */
#include <stdio.h>

#include "selftest.h"

struct sort {
	struct team *team;
	uint32_t *keys, *runs; /* runs: the parts of keys, each sorted */
	size_t count;
	uint64_t seed;
	uint64_t sum_before[CPUS_MAX], sum_after[CPUS_MAX];
	bool ordered[CPUS_MAX];
};

/* Part `i` of the array is [part_start(i), part_start(i + 1)). */
static size_t part_start(const struct sort *s, unsigned i)
{
	return s->count * i / s->team->size;
}

/* A sum that does not depend on the order, and changes when a key is lost or written twice. */
static uint64_t keys_sum(const uint32_t *keys, size_t count)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += (keys[i] | UINT64_C(0x100000000)) * (keys[i] ^ UINT64_C(0x5bd1e995));
	return sum;
}

/* How many of run `r` are below `key` (a 33-bit number, so that "all" can be said). */
static size_t run_below(const struct sort *s, unsigned r, uint64_t key)
{
	size_t low = part_start(s, r), high = part_start(s, r + 1);
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (s->runs[mid] < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low - part_start(s, r);
}

static size_t all_below(const struct sort *s, uint64_t key)
{
	size_t sum = 0;
	for (unsigned r = 0; r < s->team->size; r++)
		sum += run_below(s, r, key);
	return sum;
}

/* cut[r]: where in run r the keys begin that have rank `rank` or more; equal keys in run order. */
static void runs_cut(const struct sort *s, size_t rank, size_t *cut)
{
	uint64_t low = 0, high = UINT64_C(1)
				 << 32; /* the largest key with all_below(key) <= rank */
	while (low < high) {
		uint64_t mid = low + (high - low + 1) / 2;
		if (all_below(s, mid) <= rank)
			low = mid;
		else
			high = mid - 1;
	}
	size_t equal = rank - all_below(s, low);
	for (unsigned r = 0; r < s->team->size; r++) {
		size_t first = run_below(s, r, low), have = run_below(s, r, low + 1) - first;
		size_t take = have < equal ? have : equal;
		cut[r] = part_start(s, r) + first + take;
		equal -= take;
	}
}

/* Merges runs[from[r]..to[r]) of every r into `out`. */
static void runs_merge(const struct sort *s, size_t *from, const size_t *to, uint32_t *out)
{
	const uint32_t *head[CPUS_MAX], *end[CPUS_MAX];
	unsigned live = 0;
	for (unsigned r = 0; r < s->team->size; r++) {
		head[live] = s->runs + from[r];
		end[live] = s->runs + to[r];
		live += from[r] < to[r];
	}
	while (live > 0) {
		unsigned best = 0;
		uint32_t least = *head[0];
		for (unsigned r = 1; r < live; r++) {
			uint32_t key = *head[r];
			best = key < least ? r : best;
			least = key < least ? key : least;
		}
		*out++ = least;
		if (++head[best] == end[best]) {
			live--;
			head[best] = head[live];
			end[best] = end[live];
		}
	}
}

static void part_fill(struct sort *s, unsigned i)
{
	size_t first = part_start(s, i), last = part_start(s, i + 1);
	for (size_t k = first; k < last; k++)
		s->keys[k] = (uint32_t)random_at(s->seed, k);
	s->sum_before[i] = keys_sum(s->keys + first, last - first);
}

static void part_check(struct sort *s, unsigned i)
{
	size_t first = part_start(s, i), last = part_start(s, i + 1);
	s->sum_after[i] = keys_sum(s->keys + first, last - first);
	s->ordered[i] = true;
	/* The part before is another thread's: its last key is read across the border. */
	for (size_t k = first > 0 ? first : 1; k < last; k++)
		if (s->keys[k - 1] > s->keys[k])
			s->ordered[i] = false;
}

static void fill_work(void *arg, unsigned i)
{
	part_fill(arg, i);
}

static void sort_work(void *arg, unsigned i)
{
	struct sort *s = arg;
	size_t from[CPUS_MAX], to[CPUS_MAX];
	size_t first = part_start(s, i), last = part_start(s, i + 1);
	radix_sort(s->keys + first, s->runs + first, last - first);
	team_wait(s->team);
	runs_cut(s, first, from);
	runs_cut(s, last, to);
	runs_merge(s, from, to, s->keys + first);
	team_wait(s->team);
	part_check(s, i);
}

static const char *sort_verdict(const struct sort *s)
{
	uint64_t before = 0, after = 0;
	for (unsigned i = 0; i < s->team->size; i++) {
		before += s->sum_before[i];
		after += s->sum_after[i];
		if (!s->ordered[i])
			return "sort: the keys are not in order";
	}
	return before == after ? NULL
			       : "sort: the sorted keys are not the keys that were filled in";
}

const char *sort_test(struct team *team, const struct options *opt)
{
	struct sort s = {.team = team, .seed = opt->seed};
	size_t bytes = (size_t)opt->sort_mib << 20;
	s.count = bytes / sizeof(uint32_t);
	s.keys = topology_map(team->topo, bytes, NODE_ANY);
	s.runs = topology_map(team->topo, bytes, NODE_ANY);
	if (!s.keys || !s.runs)
		return "sort: no memory";
	uint64_t start = now_ns();
	team_run(team, fill_work, &s);
	uint64_t filled = now_ns();
	team_run(team, sort_work, &s);
	uint64_t end = now_ns();
	const char *why = sort_verdict(&s);
	printf("  sort   %4u MiB together        fill %6.2f s  sort+check %6.2f s   %s\n",
	       opt->sort_mib, (double)(filled - start) / 1e9, (double)(end - filled) / 1e9,
	       why ? "FAIL" : "ok");
	return why;
}
