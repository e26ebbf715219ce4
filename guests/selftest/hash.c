/* SPDX-License-Identifier: Apache-2.0 */
/* Test (c): every CPU hashes one read-only buffer, twice; the second time the pages are local. */
#include <stdio.h>
#include <sys/mman.h>

#include "selftest.h"

struct hash {
	struct team *team;
	uint64_t *words;
	size_t count;
	uint64_t seed, expected;
	uint64_t hash[2][CPUS_MAX];
	uint64_t ns[2][CPUS_MAX];
};

static uint64_t hash_add(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9fb21c651e98df25);
	return hash ^ (hash >> 32);
}

static uint64_t words_hash(const uint64_t *words, size_t count)
{
	uint64_t hash = 0;
	for (size_t i = 0; i < count; i++)
		hash = hash_add(hash, words[i]);
	return hash;
}

/* Each member writes its part, so the buffer lies on all nodes. */
static void words_fill(void *arg, unsigned i)
{
	struct hash *h = arg;
	for (size_t k = h->count * i / h->team->size; k < h->count * (i + 1) / h->team->size; k++)
		h->words[k] = random_at(h->seed, k);
}

static void hash_work(void *arg, unsigned i)
{
	struct hash *h = arg;
	for (unsigned pass = 0; pass < 2; pass++) {
		team_wait(h->team);
		uint64_t start = now_ns();
		h->hash[pass][i] = words_hash(h->words, h->count);
		h->ns[pass][i] = now_ns() - start;
	}
}

/* Computed from the generator, not from the buffer. */
static uint64_t hash_expected(const struct hash *h)
{
	uint64_t hash = 0;
	for (size_t k = 0; k < h->count; k++)
		hash = hash_add(hash, random_at(h->seed, k));
	return hash;
}

static const char *hash_verdict(const struct hash *h)
{
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < h->team->size; i++)
			if (h->hash[pass][i] != h->expected)
				return "hash: a CPU read other bytes than were written";
	return NULL;
}

/* The slowest member's pass, in MiB a second. */
static double pass_mib_s(const struct hash *h, unsigned pass)
{
	uint64_t slowest = 1;
	for (unsigned i = 0; i < h->team->size; i++)
		slowest = h->ns[pass][i] > slowest ? h->ns[pass][i] : slowest;
	return (double)(h->count * sizeof(uint64_t)) / (1 << 20) / ((double)slowest / 1e9);
}

const char *hash_test(struct team *team, const struct options *opt)
{
	struct hash h = {.team = team, .seed = opt->seed + 1};
	size_t bytes = (size_t)opt->hash_mib << 20;
	h.count = bytes / sizeof(uint64_t);
	h.words = topology_map(team->topo, bytes, NODE_ANY);
	if (!h.words)
		return "hash: no memory";
	h.expected = hash_expected(&h);
	team_run(team, words_fill, &h);
	if (mprotect(h.words, bytes, PROT_READ) < 0)
		return "hash: mprotect failed";
	team_run(team, hash_work, &h);
	const char *why = hash_verdict(&h);
	printf("  hash   %4u MiB on every CPU    first %7.1f  again %7.1f MiB/s  %s\n",
	       opt->hash_mib, pass_mib_s(&h, 0), pass_mib_s(&h, 1), why ? "FAIL" : "ok");
	return why;
}
