/* SPDX-License-Identifier: Apache-2.0 */
/* Where the guest's pages lie: as ever, where they will be missed, or where they were missed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "sim/sim_parts.h"

/*
 * By experience a page moves to who missed it so many times more often than its home did. To ask
 * for more keeps chance from moving pages to and fro, and makes less of `affine`.
 */
#define ONLINE_MORE 1u
/* In the word that tells a slice of moved pages: number and new home of each. */
#define MOVE_BYTES 8u

#define NOWHERE UINT32_MAX

static const uint32_t *plan_of(const struct sim *sim, unsigned epoch)
{
	return &sim->plan[(size_t)epoch * sim->config.pages];
}

int homes_create(struct sim *sim)
{
	const struct sim_config *c = &sim->config;
	bool counts = sim->counts || c->homes == SIM_HOMES_ONLINE;
	sim->slot_of = calloc(c->pages, sizeof(sim->slot_of[0]));
	sim->page_of = calloc(c->pages, sizeof(sim->page_of[0]));
	if (counts)
		sim->misses = calloc((size_t)c->pages * c->nodes, sizeof(sim->misses[0]));
	if (!sim->slot_of || !sim->page_of || (counts && !sim->misses))
		return -ENOMEM;
	for (unsigned page = 0; page < c->pages; page++) {
		/* Nobody has had any page: the first map costs nothing. */
		unsigned slot = sim->plan ? plan_of(sim, 0)[page] : page;
		sim->slot_of[page] = slot;
		sim->page_of[slot] = page;
		sim->result->homes_moved += slot % c->nodes != page % c->nodes;
	}
	return 0;
}

void homes_free(struct sim *sim)
{
	free(sim->slot_of);
	free(sim->page_of);
	free(sim->misses);
}

void homes_missed(struct sim *sim, unsigned n, unsigned page)
{
	if (sim->misses)
		sim->misses[(size_t)page * sim->config.nodes + n]++;
}

struct wish {
	uint64_t worth;
	uint32_t page, node;
	bool stays;
};

static int wish_compare(const void *a, const void *b)
{
	const struct wish *x = a, *y = b;
	if (x->worth != y->worth)
		return x->worth > y->worth ? -1 : 1;
	if (x->stays != y->stays)
		return x->stays ? -1 : 1;
	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	return x->node < y->node ? -1 : x->node > y->node;
}

static size_t wishes_fill(unsigned pages, unsigned nodes, const uint32_t *misses,
			  const uint32_t *slot_of, bool online, struct wish *out)
{
	size_t count = 0;
	for (unsigned page = 0; page < pages; page++) {
		for (unsigned n = 0; n < nodes; n++) {
			uint64_t worth = misses[(size_t)page * nodes + n];
			bool stays = slot_of[page] % nodes == n;
			if (online && stays)
				worth += ONLINE_MORE;
			if (worth && out)
				out[count] = (struct wish){worth, page, n, stays};
			count += worth > 0;
		}
	}
	return count;
}

static bool room_take(uint32_t *home, uint32_t *room, unsigned page, unsigned n)
{
	if (home[page] != NOWHERE || !room[n])
		return false;
	home[page] = n;
	room[n]--;
	return true;
}

/* Who is nobody's wish, or finds no room there, stays if there is room, else goes where it is. */
static void rest_settle(unsigned pages, unsigned nodes, const uint32_t *slot_of, uint32_t *home,
			uint32_t *room)
{
	unsigned free_node = 0;
	for (unsigned page = 0; page < pages; page++)
		(void)room_take(home, room, page, slot_of[page] % nodes);
	for (unsigned page = 0; page < pages; page++) {
		while (free_node < nodes && !room[free_node])
			free_node++;
		if (home[page] == NOWHERE)
			invariant(free_node < nodes && room_take(home, room, page, free_node));
	}
}

/* Each page keeps its place if its home stays, and takes a free one at its new home if not. */
static void slots_choose(unsigned pages, unsigned nodes, const uint32_t *slot_of,
			 const uint32_t *home, uint32_t *next, uint32_t *out)
{
	bool *taken = calloc(pages, sizeof(taken[0]));
	invariant(taken);
	for (unsigned page = 0; page < pages; page++) {
		if (slot_of[page] % nodes == home[page])
			taken[out[page] = slot_of[page]] = true;
	}
	for (unsigned n = 0; n < nodes; n++)
		next[n] = n;
	for (unsigned page = 0; page < pages; page++) {
		uint32_t *at = &next[home[page]];
		if (slot_of[page] % nodes == home[page])
			continue;
		while (*at < pages && taken[*at])
			*at += nodes;
		invariant(*at < pages);
		taken[out[page] = *at] = true;
	}
	free(taken);
}

void homes_assign(unsigned pages, unsigned nodes, const uint32_t *misses, const uint32_t *slot_of,
		  bool online, uint32_t *out)
{
	size_t count = wishes_fill(pages, nodes, misses, slot_of, online, NULL);
	struct wish *wish = calloc(count + 1, sizeof(wish[0]));
	uint32_t *home = calloc(pages, sizeof(home[0])), *room = calloc(nodes, sizeof(room[0]));
	invariant(wish && home && room);
	wishes_fill(pages, nodes, misses, slot_of, online, wish);
	qsort(wish, count, sizeof(wish[0]), wish_compare);
	for (unsigned page = 0; page < pages; page++) {
		home[page] = NOWHERE;
		room[page % nodes]++;
	}
	for (size_t i = 0; i < count; i++)
		(void)room_take(home, room, wish[i].page, wish[i].node);
	rest_settle(pages, nodes, slot_of, home, room);
	slots_choose(pages, nodes, slot_of, home, room, out);
	free(wish);
	free(home);
	free(room);
}

static bool page_moves(const struct sim *sim, unsigned page, const uint32_t *slot_of)
{
	return slot_of[page] % sim->config.nodes != page_home(sim, page);
}

/*
 * What a real migration would send at the least: each page once, with its bytes if the home's frame
 * counts, and a word to every slice with all of the moves. Nobody works meanwhile.
 */
static void moves_pay(struct sim *sim, const uint32_t *slot_of)
{
	struct sim_result *r = sim->result;
	unsigned nodes = sim->config.nodes, moved = 0, sent_max = 0;
	unsigned *sent = calloc(nodes, sizeof(sent[0]));
	invariant(sent);
	for (unsigned page = 0; page < sim->config.pages; page++) {
		unsigned home = page_home(sim, page);
		uint64_t gfn = page_gfn(sim, page);
		const struct protocol *p = sim->node[home].protocol;
		if (!page_moves(sim, page, slot_of))
			continue;
		bool bytes =
			entry_find(p, gfn)->state == HOME_S && (*page_at(p, gfn) & PAGE_FRAME_USED);
		moved++;
		sent[home] += bytes;
		sent_max = sent[home] > sent_max ? sent[home] : sent_max;
		r->messages_page += bytes;
		r->bytes += WIRE_HEADER_SIZE + (bytes ? PANGEA_PAGE_SIZE : 0);
	}
	free(sent);
	sim->resume_ns = 0;
	if (!moved)
		return;
	r->messages += moved + nodes - 1;
	r->bytes += (uint64_t)(nodes - 1) * (WIRE_HEADER_SIZE + MOVE_BYTES * moved);
	sim->resume_ns = NET_ROUND_TRIP_NS + sent_max * NET_PAGE_NS;
}

static void homes_move(struct sim *sim, const uint32_t *slot_of)
{
	for (unsigned page = 0; page < sim->config.pages; page++)
		sim->result->homes_moved += page_moves(sim, page, slot_of);
	slots_permute(sim, slot_of);
	for (unsigned n = 0; n < sim->config.nodes; n++)
		cache_count_again(sim, n);
}

void homes_epoch_begin(struct sim *sim)
{
	if (sim->plan && sim->epoch)
		homes_move(sim, plan_of(sim, sim->epoch));
}

/* Of two runs the larger number counts: a home does not miss what lies with it. */
static void counts_take(struct sim *sim)
{
	size_t count = (size_t)sim->config.pages * sim->config.nodes;
	uint32_t *out = &sim->counts[sim->epoch * count];
	for (size_t i = 0; i < count; i++) {
		out[i] = sim->misses[i] > out[i] ? sim->misses[i] : out[i];
		sim->misses[i] = 0;
	}
}

static void move_by_experience(struct sim *sim)
{
	const struct sim_config *c = &sim->config;
	uint32_t *next = calloc(c->pages, sizeof(next[0]));
	invariant(next);
	homes_assign(c->pages, c->nodes, sim->misses, sim->slot_of, true, next);
	moves_pay(sim, next);
	homes_move(sim, next);
	free(next);
	/* What is long ago counts less. */
	for (size_t i = 0; i < (size_t)c->pages * c->nodes; i++)
		sim->misses[i] /= 2;
}

void homes_epoch_end(struct sim *sim)
{
	if (sim->counts)
		counts_take(sim);
	else if (sim->misses && sim->epoch + 1 < sim->config.epochs)
		move_by_experience(sim);
}

static void plan_make(const struct sim_config *c, const uint32_t *counts, uint32_t *plan)
{
	uint32_t *before = calloc(c->pages, sizeof(before[0]));
	invariant(before);
	for (unsigned page = 0; page < c->pages; page++)
		before[page] = page;
	for (unsigned epoch = 0; epoch < c->epochs; epoch++, plan += c->pages) {
		homes_assign(c->pages, c->nodes, counts, before, false, plan);
		memcpy(before, plan, c->pages * sizeof(before[0]));
		counts += (size_t)c->pages * c->nodes;
	}
	free(before);
}

int homes_run_moved(const struct sim_config *config, struct sim_result *result, FILE *report)
{
	struct sim_config look = *config;
	size_t pages = (size_t)config->epochs * config->pages;
	uint32_t *plan = calloc(pages, sizeof(plan[0]));
	uint32_t *counts = calloc(pages * config->nodes, sizeof(counts[0]));
	int err = plan && counts ? 0 : -ENOMEM;
	look.homes = SIM_HOMES_FIXED;
	look.trace = NULL;
	if (!err)
		err = sim_run_once(&look, NULL, counts, result, report);
	if (err || result->checker)
		goto out;
	plan_make(config, counts, plan);
	look.homes = SIM_HOMES_MOVED;
	err = sim_run_once(&look, plan, counts, result, report);
	if (err || result->checker)
		goto out;
	plan_make(config, counts, plan);
	err = sim_run_once(config, plan, NULL, result, report);
out:
	free(plan);
	free(counts);
	return err;
}
