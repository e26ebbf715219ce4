/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's state of pages that change their places in guest memory, while all is at rest. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "sim/sim_parts.h"

static struct hold hold_take(struct protocol *p, uint64_t gfn)
{
	struct hold none = {0}, *h = hold_at(p, gfn);
	if (!h || h->tag != gfn + 1)
		return none;
	struct hold taken = *h;
	invariant(!taken.deferred);
	*h = none;
	return taken;
}

static void hold_put(struct protocol *p, uint64_t gfn, struct hold hold)
{
	struct hold *h = hold_at(p, gfn);
	if (!h || !hold.tag)
		return;
	*h = hold;
	h->tag = gfn + 1;
}

/* What a slice knows of two pages. */
static void slice_swap(struct protocol *p, uint64_t a, uint64_t b)
{
	enum page_state state_a = page_state(p, a), state_b = page_state(p, b);
	uint8_t used_a = *page_at(p, a) & PAGE_FRAME_USED;
	uint8_t used_b = *page_at(p, b) & PAGE_FRAME_USED;
	struct hold hold_a = hold_take(p, a), hold_b = hold_take(p, b);
	/* This way, since the core counts pages by their state. */
	page_state_set(p, a, state_b);
	page_state_set(p, b, state_a);
	*page_at(p, a) = (uint8_t)((*page_at(p, a) & ~PAGE_FRAME_USED) | used_b);
	*page_at(p, b) = (uint8_t)((*page_at(p, b) & ~PAGE_FRAME_USED) | used_a);
	hold_put(p, a, hold_b);
	hold_put(p, b, hold_a);
}

static void slots_swap(struct sim *sim, unsigned s, unsigned t)
{
	unsigned nodes = sim->config.nodes;
	uint64_t a = slot_gfn(sim, s), b = slot_gfn(sim, t);
	for (unsigned n = 0; n < nodes; n++)
		slice_swap(sim->node[n].protocol, a, b);
	struct home_entry *at_a = entry_touch(sim->node[s % nodes].protocol, a);
	struct home_entry *at_b = entry_touch(sim->node[t % nodes].protocol, b);
	struct home_entry entry = *at_a;
	/* The queue is the home's own. */
	invariant(!at_a->queue && !at_b->queue);
	*at_a = *at_b;
	*at_b = entry;
	unsigned page = sim->page_of[s];
	sim->page_of[s] = sim->page_of[t];
	sim->page_of[t] = page;
	sim->slot_of[sim->page_of[s]] = s;
	sim->slot_of[page] = t;
}

/* With groups the home's own copy is not among the others'. */
static void sharers_correct(struct sim *sim, unsigned page, unsigned before,
			    struct home_entry *entry)
{
	unsigned home = page_home(sim, page);
	uint64_t gfn = page_gfn(sim, page);
	const struct protocol *p = sim->node[home].protocol;
	if (p->config.sharer_group == 1)
		return;
	if (page_state(sim->node[before].protocol, gfn) == PAGE_S)
		entry->sharers |= sharer_bit(p, before);
	entry->own = page_state(p, gfn) == PAGE_S;
}

/* What else changes with a page's home: the frame that must be valid, and how sharers are kept. */
static void home_settle(struct sim *sim, unsigned page, unsigned before)
{
	unsigned home = page_home(sim, page);
	uint64_t gfn = page_gfn(sim, page);
	struct protocol *p = sim->node[home].protocol, *old = sim->node[before].protocol;
	struct home_entry *entry = entry_find(p, gfn);
	invariant(entry->state == HOME_U || entry->state == HOME_S || entry->state == HOME_O);
	if (entry->state != HOME_S)
		return;
	sharers_correct(sim, page, before, entry);
	memcpy(sim->node[home].frame[page], sim->node[before].frame[page],
	       sizeof(sim->node[home].frame[page]));
	*page_at(p, gfn) |= *page_at(old, gfn) & PAGE_FRAME_USED;
}

void slots_permute(struct sim *sim, const uint32_t *slot_of)
{
	const struct sim_config *c = &sim->config;
	unsigned *before = calloc(c->pages, sizeof(before[0]));
	invariant(before);
	for (unsigned page = 0; page < c->pages; page++)
		before[page] = page_home(sim, page);
	/* Each exchange brings one page to its place for good. */
	for (unsigned page = 0; page < c->pages; page++) {
		if (sim->slot_of[page] != slot_of[page])
			slots_swap(sim, sim->slot_of[page], slot_of[page]);
	}
	for (unsigned page = 0; page < c->pages; page++) {
		invariant(sim->slot_of[page] == slot_of[page]);
		if (page_home(sim, page) != before[page])
			home_settle(sim, page, before[page]);
	}
	free(before);
}
