/* SPDX-License-Identifier: Apache-2.0 */
/* A limit on the pages of other homes that a node keeps: the coldest of a few go. */
#include <errno.h>
#include <stdlib.h>

#include "sim/sim_parts.h"

/* Of so many pages the one goes that was used longest ago. */
#define CANDIDATES 16u
/* The core refuses pages that are busy; after so many the limit waits for the next fault. */
#define TRIES 4u

static bool limited(const struct sim *sim)
{
	return sim->config.cache && sim->config.cache != SIM_CACHE_ALL;
}

int cache_create(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	unsigned pages = sim->config.pages;
	if (!limited(sim))
		return 0;
	node->held = calloc(pages, sizeof(node->held[0]));
	node->held_at = calloc(pages, sizeof(node->held_at[0]));
	node->used_ns = calloc(pages, sizeof(node->used_ns[0]));
	return node->held && node->held_at && node->used_ns ? 0 : -ENOMEM;
}

void cache_free(struct sim *sim, unsigned n)
{
	free(sim->node[n].held);
	free(sim->node[n].held_at);
	free(sim->node[n].used_ns);
}

void cache_note(struct sim *sim, unsigned n, unsigned page)
{
	struct node *node = &sim->node[n];
	if (!node->held)
		return;
	bool holds = node->mapping[page] != MAPPED_NONE && page_home(sim, page) != n;
	uint32_t at = node->held_at[page];
	if (holds && !at) {
		node->held[node->held_count++] = page;
		node->held_at[page] = node->held_count;
		if (node->held_count > sim->result->cache_max)
			sim->result->cache_max = node->held_count;
	} else if (!holds && at) {
		uint32_t last = node->held[--node->held_count];
		node->held[at - 1] = last;
		node->held_at[last] = at;
		node->held_at[page] = 0;
	}
}

void cache_count_again(struct sim *sim, unsigned n)
{
	for (unsigned page = 0; page < sim->config.pages; page++)
		cache_note(sim, n, page);
}

static unsigned coldest(struct sim *sim, const struct node *node)
{
	uint32_t page = node->held[random_below(&sim->random, node->held_count)];
	for (unsigned i = 1; i < CANDIDATES; i++) {
		uint32_t other = node->held[random_below(&sim->random, node->held_count)];
		if (node->used_ns[other] < node->used_ns[page])
			page = other;
	}
	return page;
}

void cache_make_room(struct sim *sim, unsigned n, unsigned page)
{
	struct node *node = &sim->node[n];
	/* An upgrade takes no more than it has. */
	if (!node->held || page_home(sim, page) == n || node->mapping[page] != MAPPED_NONE)
		return;
	for (unsigned i = 0; i < TRIES && node->held_count >= sim->config.cache; i++) {
		unsigned out = coldest(sim, node);
		node_evict(sim, n, out);
		/* Busy, or it would be gone: the next one, then. */
		node->used_ns[out] = sim->now_ns;
	}
}
