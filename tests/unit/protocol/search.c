/* SPDX-License-Identifier: Apache-2.0 */
/* Breadth-first search over every interleaving of a few slices that use one page, with and without
 * hold times. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/protocol/world.h"

/* One transition: what happens, and to whom. */
enum move_type {
	MOVE_READ,
	MOVE_WRITE,
	MOVE_CLEAR, /* writes zeroes */
	MOVE_EVICT,
	MOVE_HOLD_END,
	MOVE_BEGIN,
	MOVE_RECEIVE
};

struct move {
	uint8_t type, from, to;
};

struct node {
	uint64_t hash;
	uint32_t parent;
	struct move move;
};

struct search {
	unsigned slices;
	bool coarse;	/* without zeroes, and without the arrival of a page in two moves */
	uint32_t limit; /* states */
	struct node *nodes;
	uint32_t nodes_count;
	uint32_t *table; /* open addressing over nodes: index + 1 */
	uint32_t table_mask;
	struct world **frontier; /* by node; freed once expanded */
	uint64_t transitions, rests;
	const char *failure;
};

static const uint8_t homes[WORLD_PAGES] = {0};

/* Time stands still: a hold time ends by a move of its own. */
#define HOLD_NS 8u

/* Values of the one page: what is there now, what was there before, zeroes, half a page. */
#define VALUE_NOW 1u
#define VALUE_OLD 2u

static void values_age(struct world *w)
{
	for (unsigned i = 0; i < w->slices; i++) {
		if (w->frame[i][0] == VALUE_NOW)
			w->frame[i][0] = VALUE_OLD;
		for (unsigned j = 0; j < w->slices; j++) {
			struct channel *c = &w->channel[i][j];
			for (unsigned k = 0; k < c->count; k++) {
				struct packet *packet = &c->packets[(c->head + k) % WORLD_DEPTH];
				if (packet->value == VALUE_NOW)
					packet->value = VALUE_OLD;
			}
		}
	}
}

/* A multiply-and-fold hash over words; 64 bits keep a million states apart. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *bytes = data;
	while (size) {
		uint64_t word = 0;
		size_t take = size < 8 ? size : 8;
		memcpy(&word, bytes, take);
		hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
		hash ^= hash >> 32;
		bytes += take;
		size -= take;
	}
	return hash;
}

/* Everything that decides what can happen next; channels by their contents from the head on. */
static uint64_t world_hash(struct world *w)
{
	uint64_t hash = 14695981039346656037u;
	hash = hash_bytes(hash, w->frame, sizeof(w->frame));
	hash = (hash ^ w->current[0]) * 31;
	uint8_t small[64] = {0};
	for (unsigned i = 0; i < w->slices; i++) {
		small[i] = w->mapping[i][0];
		small[8 + i] = w->pending[i][0];
		small[48 + i] = w->timer[i][0] != 0;
		for (unsigned j = 0; j < w->slices; j++)
			small[16 + i * WORLD_SLICES + j] = (uint8_t)w->channel[i][j].count;
	}
	hash = hash_bytes(hash, small, sizeof(small));
	for (unsigned i = 0; i < w->slices; i++) {
		for (unsigned j = 0; j < w->slices; j++) {
			struct channel *c = &w->channel[i][j];
			for (unsigned k = 0; k < c->count; k++)
				hash = hash_bytes(hash, &c->packets[(c->head + k) % WORLD_DEPTH],
						  sizeof(struct packet));
		}
		struct protocol *p = world_protocol(w, i);
		memset(&p->stats, 0, sizeof(p->stats));
		hash = hash_bytes(hash, w->mem[i], WORLD_MEM);
	}
	return hash;
}

static bool move_allowed(struct world *w, struct move m)
{
	switch ((enum move_type)m.type) {
	case MOVE_READ:
		return w->mapping[m.from][0] == MAPPED_NONE &&
		       !(w->pending[m.from][0] & PENDING_READ);
	case MOVE_WRITE:
		return !(w->pending[m.from][0] & PENDING_WRITE);
	case MOVE_CLEAR:
		return w->mapping[m.from][0] == MAPPED_WRITE && w->current[0] != 0;
	case MOVE_EVICT:
		return m.from != homes[0] && w->mapping[m.from][0] != MAPPED_NONE;
	case MOVE_HOLD_END:
		return w->timer[m.from][0] != 0;
	case MOVE_BEGIN: {
		struct packet *packet = channel_head(w, m.from, m.to);
		return packet && packet->msg.payload_len && !packet->receiving;
	}
	case MOVE_RECEIVE:
		return channel_head(w, m.from, m.to) != NULL;
	}
	return false;
}

static void move_do(struct world *w, struct move m)
{
	switch ((enum move_type)m.type) {
	case MOVE_READ:
		world_read(w, m.from, 0);
		break;
	case MOVE_WRITE:
		if (w->mapping[m.from][0] == MAPPED_WRITE)
			values_age(w);
		world_write(w, m.from, 0, VALUE_NOW);
		break;
	case MOVE_CLEAR:
		values_age(w);
		world_write(w, m.from, 0, 0);
		break;
	case MOVE_EVICT:
		world_evict(w, m.from, 0);
		break;
	case MOVE_HOLD_END:
		world_hold_end(w, m.from, 0);
		break;
	case MOVE_BEGIN:
		world_receive_begin(w, m.from, m.to);
		break;
	case MOVE_RECEIVE:
		world_receive(w, m.from, m.to);
		break;
	}
}

static void move_print(const struct move *m)
{
	static const char *const names[] = {"read",	   "write", "clear",  "evict",
					    "end of hold", "begin", "receive"};
	if (m->type < MOVE_BEGIN)
		printf("  slice %u: %s\n", m->from, names[m->type]);
	else
		printf("  %s %u -> %u\n", names[m->type], m->from, m->to);
}

static void trace_print(const struct search *s, uint32_t index)
{
	if (s->nodes[index].parent != index)
		trace_print(s, s->nodes[index].parent);
	if (index)
		move_print(&s->nodes[index].move);
}

/* Adds a world that was not seen before; true if it is new. */
static bool node_add(struct search *s, struct world *w, uint32_t parent, struct move m)
{
	uint64_t hash = world_hash(w);
	uint32_t slot = (uint32_t)(hash >> 20) & s->table_mask;
	while (s->table[slot]) {
		if (s->nodes[s->table[slot] - 1].hash == hash)
			return false;
		slot = (slot + 1) & s->table_mask;
	}
	uint32_t index = s->nodes_count++;
	s->nodes[index] = (struct node){.hash = hash, .parent = parent, .move = m};
	s->table[slot] = index + 1;
	s->frontier[index] = w;
	return true;
}

static bool world_check_state(struct search *s, struct world *w, uint32_t parent, struct move m)
{
	if (!w->failure && world_quiet(w)) {
		s->rests++;
		world_check_rest(w);
	}
	if (!w->failure)
		return true;
	s->failure = w->failure;
	printf("FAILED: %s, after\n", w->failure);
	trace_print(s, parent);
	move_print(&m);
	return false;
}

static bool move_try(struct search *s, uint32_t index, struct move m)
{
	struct world *from = s->frontier[index];
	if (!move_allowed(from, m) || s->nodes_count >= s->limit)
		return true;
	if (s->coarse && (m.type == MOVE_CLEAR || m.type == MOVE_BEGIN))
		return true;
	struct world *w = aligned_alloc(64, sizeof(*w));
	if (!w)
		return false;
	memcpy(w, from, sizeof(*w));
	move_do(w, m);
	s->transitions++;
	if (!world_check_state(s, w, index, m)) {
		free(w);
		return false;
	}
	if (!node_add(s, w, index, m))
		free(w);
	return true;
}

static bool expand(struct search *s, uint32_t index)
{
	for (uint8_t i = 0; i < s->slices; i++) {
		for (uint8_t type = MOVE_READ; type <= MOVE_HOLD_END; type++) {
			if (!move_try(s, index, (struct move){type, i, 0}))
				return false;
		}
		for (uint8_t j = 0; j < s->slices; j++) {
			if (!move_try(s, index, (struct move){MOVE_BEGIN, i, j}) ||
			    !move_try(s, index, (struct move){MOVE_RECEIVE, i, j}))
				return false;
		}
	}
	free(s->frontier[index]);
	s->frontier[index] = NULL;
	return true;
}

static bool search_alloc(struct search *s)
{
	uint32_t table_size = 1;
	while (table_size < 2 * s->limit)
		table_size *= 2;
	s->table_mask = table_size - 1;
	s->nodes = calloc(s->limit, sizeof(*s->nodes));
	s->frontier = calloc(s->limit, sizeof(struct world *));
	s->table = calloc(table_size, sizeof(*s->table));
	return s->nodes && s->frontier && s->table;
}

static void search_free(struct search *s)
{
	for (uint32_t i = 0; s->frontier && i < s->nodes_count; i++)
		free(s->frontier[i]);
	free(s->nodes);
	free(s->frontier);
	free(s->table);
}

/*
 * The page is contended: each FWD and INV that finds a copy is set aside. With more than two slices
 * only at the home, where it changes most, and coarse: everywhere would be too many states.
 */
static void world_contend(struct world *w)
{
	for (unsigned i = 0; i < w->slices; i++) {
		struct protocol *p = world_protocol(w, i);
		struct hold *h = hold_at(p, WORLD_GFN(0));
		if (w->slices > 2 && i != homes[0]) {
			p->config.hold_ns = 0;
			continue;
		}
		*h = (struct hold){.tag = WORLD_GFN(0) + 1, .level = HOLD_LEVEL_MAX};
	}
}

/* Returns 0 if every state was visited and every check held. */
static int search_run(unsigned slices, uint32_t limit, bool holds)
{
	struct search s = {.slices = slices, .limit = limit, .coarse = holds && slices > 2};
	struct world *w = aligned_alloc(64, sizeof(*w));
	if (!w || !search_alloc(&s) || !world_init(w, slices, 1, homes, holds ? HOLD_NS : 0, 1)) {
		printf("%u slices: the world does not fit\n", slices);
		free(w);
		search_free(&s);
		return 1;
	}
	if (holds)
		world_contend(w);
	node_add(&s, w, 0, (struct move){0});
	uint32_t done = 0;
	while (done < s.nodes_count && expand(&s, done))
		done++;
	bool complete = !s.failure && done == s.nodes_count && s.nodes_count < limit;
	printf("%u slices%s: %u states, %llu transitions, %llu states at rest: %s\n", slices,
	       !holds	  ? ""
	       : s.coarse ? ", hold times at the home, coarse"
			  : ", hold times",
	       s.nodes_count, (unsigned long long)s.transitions, (unsigned long long)s.rests,
	       complete ? "all checks hold" : "NOT complete");
	search_free(&s);
	return complete ? 0 : 1;
}

int main(int argc, char **argv)
{
	unsigned slices_max = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 3;
	uint32_t limit = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 2000000;
	if (slices_max < 1 || slices_max > WORLD_SLICES || limit < 1) {
		fprintf(stderr, "usage: %s [SLICES [STATES]]\n", argv[0]);
		return 1;
	}
	for (unsigned slices = 1; slices <= slices_max; slices++) {
		if (search_run(slices, limit, false) || search_run(slices, limit, true))
			return 1;
	}
	return 0;
}
