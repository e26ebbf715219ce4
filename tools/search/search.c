/* SPDX-License-Identifier: Apache-2.0 */
/* Breadth-first search over all interleavings: each state once, the shortest way to what fails. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tools/search/search.h"

/* The first sizes of what grows. */
#define NODES_FIRST 4096u
#define LEVEL_FIRST 65536u
/* States expanded between two calls of the progress function: some tens of milliseconds. */
#define PROGRESS_STATES 4096u

struct node {
	uint64_t hash;
	uint32_t parent;
	struct move move;
};

/* States of one depth, in the order in which they were found: length and bytes of each. */
struct level {
	uint8_t *bytes;
	size_t len, capacity;
};

struct search {
	struct search_options options;
	uint8_t homes[WORLD_PAGES];
	struct world *base, *from, *to;
	struct world *settled; /* where states are made comparable */
	struct state_parts parts;
	struct node *nodes;
	uint32_t nodes_count, nodes_capacity;
	uint32_t *table; /* open addressing over nodes: index + 1 */
	uint32_t table_size;
	struct level now, next;
	struct world_rows rows;
	bool no_memory;
	/* The way to a failure: the state before it, and the last move. */
	const char *failure;
	uint32_t failure_parent;
	struct move failure_move;
};

static struct world *world_new(void)
{
	struct world *w = aligned_alloc(64, sizeof(*w));
	if (w)
		memset(w, 0, sizeof(*w));
	return w;
}

/* The pages are contended: each FWD and INV that finds a copy is set aside. */
static void world_contend(struct world *w, bool everywhere)
{
	for (unsigned i = 0; i < w->slices; i++) {
		struct protocol *p = world_protocol(w, i);
		for (unsigned page = 0; page < w->pages; page++) {
			uint64_t gfn = WORLD_GFN(page);
			if (everywhere || w->homes[page] == i)
				*hold_at(p, gfn) =
					(struct hold){.tag = gfn + 1, .level = HOLD_LEVEL_MAX};
			else
				p->config.hold_ns = 0;
		}
	}
}

/* The directories know groups only. Nothing of their memory depends on how large these are. */
static void world_group(struct world *w, unsigned group)
{
	for (unsigned i = 0; i < w->slices; i++)
		world_protocol(w, i)->config.sharer_group = group;
}

static bool base_init(struct search *s)
{
	const struct search_options *o = &s->options;
	uint64_t hold_ns = o->may & MAY_HOLD ? SEARCH_HOLD_NS : 0;
	for (unsigned page = 0; page < o->pages; page++)
		s->homes[page] = (uint8_t)(page % o->slices);
	if (!world_init(s->base, o->slices, o->pages, s->homes, hold_ns, o->pages))
		return false;
	if (o->may & MAY_HOLD)
		world_contend(s->base, o->may & MAY_HOLD_ALL);
	if (o->group > 1)
		world_group(s->base, o->group);
	s->base->hooks = o->fault ? &o->fault->hooks : NULL;
	s->base->rows = &s->rows;
	s->base->losses_max = o->losses < o->slices ? o->losses : o->slices - 1;
	state_parts_find(&s->parts, s->base);
	*s->from = *s->to = *s->settled = *s->base;
	return true;
}

struct search *search_new(const struct search_options *options)
{
	struct search *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->options = *options;
	s->base = world_new();
	s->from = world_new();
	s->to = world_new();
	s->settled = world_new();
	if (s->base && s->from && s->to && s->settled && base_init(s))
		return s;
	search_free(s);
	return NULL;
}

void search_free(struct search *s)
{
	if (!s)
		return;
	free(s->base);
	free(s->from);
	free(s->to);
	free(s->settled);
	free(s->nodes);
	free(s->table);
	free(s->now.bytes);
	free(s->next.bytes);
	free(s);
}

static uint32_t slot_of(const struct search *s, uint64_t hash)
{
	uint32_t slot = (uint32_t)(hash >> 20) & (s->table_size - 1);
	while (s->table[slot] && s->nodes[s->table[slot] - 1].hash != hash)
		slot = (slot + 1) & (s->table_size - 1);
	return slot;
}

/* Makes room for one more node; the table stays at most half full. */
static bool nodes_grow(struct search *s)
{
	if (s->nodes_count < s->nodes_capacity)
		return true;
	uint32_t capacity = s->nodes_capacity ? 2 * s->nodes_capacity : NODES_FIRST;
	struct node *nodes = realloc(s->nodes, capacity * sizeof(*nodes));
	if (!nodes)
		return false;
	s->nodes = nodes;
	s->nodes_capacity = capacity;
	uint32_t *table = calloc(2 * (size_t)capacity, sizeof(*table));
	if (!table)
		return false;
	free(s->table);
	s->table = table;
	s->table_size = 2 * capacity;
	for (uint32_t i = 0; i < s->nodes_count; i++)
		s->table[slot_of(s, s->nodes[i].hash)] = i + 1;
	return true;
}

static bool level_add(struct level *level, const uint8_t *bytes, size_t len)
{
	uint16_t head = (uint16_t)len;
	if (level->len + sizeof(head) + len > level->capacity) {
		size_t capacity = level->capacity ? 2 * level->capacity : LEVEL_FIRST;
		uint8_t *grown = realloc(level->bytes, capacity);
		if (!grown)
			return false;
		level->bytes = grown;
		level->capacity = capacity;
	}
	memcpy(level->bytes + level->len, &head, sizeof(head));
	memcpy(level->bytes + level->len + sizeof(head), bytes, len);
	level->len += sizeof(head) + len;
	return true;
}

/* The same for states that go on alike: those with one request a slice differ in nothing else. */
static uint64_t world_hash(struct search *s, struct world *w)
{
	uint8_t bytes[STATE_BYTES_MAX];
	if (s->options.pages > 1) {
		state_copy(s->settled, w, &s->parts);
		w = s->settled;
		state_settle(w);
	}
	size_t len = state_encode(w, s->base, &s->parts, bytes);
	return len ? state_hash(bytes, len) : 0;
}

/* Adds a world that was not seen before. */
static bool node_add(struct search *s, struct world *w, uint32_t parent, struct move m)
{
	uint8_t bytes[STATE_BYTES_MAX];
	uint64_t hash = world_hash(s, w);
	if (!nodes_grow(s))
		return false;
	uint32_t slot = slot_of(s, hash);
	if (s->table[slot])
		return true;
	size_t len = state_encode(w, s->base, &s->parts, bytes);
	s->nodes[s->nodes_count] = (struct node){.hash = hash, .parent = parent, .move = m};
	s->table[slot] = ++s->nodes_count;
	return len && level_add(&s->next, bytes, len);
}

static bool search_over(const struct search *s)
{
	return s->failure || s->no_memory || s->nodes_count >= s->options.states_max;
}

static void groups_count(const struct search *s, struct search_result *result, struct move m)
{
	if (s->options.group <= 1 || m.type != MOVE_RECEIVE)
		return;
	const struct wire_msg *msg = &channel_head(s->from, m.slice, m.to)->msg;
	enum page_state state = page_state(world_protocol(s->from, m.to), msg->gfn);
	if (msg->type == MSG_INV)
		result->group_invs[state]++;
	else if (msg->type == MSG_DATA && state == PAGE_SM)
		result->group_data++;
}

static void move_try(struct search *s, struct search_result *result, uint32_t parent, struct move m)
{
	struct world *w = s->to;
	if (search_over(s) || !move_allowed(s->from, m))
		return;
	groups_count(s, result, m);
	state_copy(w, s->from, &s->parts);
	move_do(w, m);
	result->transitions++;
	cells_count(&result->cells, &s->rows);
	if (!w->failure && world_quiet(w)) {
		result->rests++;
		world_check_rest(w);
	}
	if (w->failure) {
		s->failure = w->failure;
		s->failure_parent = parent;
		s->failure_move = m;
		return;
	}
	if (!node_add(s, w, parent, m))
		s->no_memory = true;
}

/* The kinds of a slice's own moves on a page that these options allow. */
static bool move_wanted(unsigned may, enum move_type type)
{
	switch (type) {
	case MOVE_CLEAR:
		return may & MAY_ZERO;
	case MOVE_EVICT:
		return may & MAY_EVICT;
	case MOVE_BEGIN:
		return may & MAY_SPLIT;
	case MOVE_CRASH:
	case MOVE_TELL:
		return may & MAY_LOSE;
	case MOVE_NONE:
	case MOVE_READ:
	case MOVE_WRITE:
	case MOVE_WRITE_AGAIN:
	case MOVE_HOLD_END:
	case MOVE_RECEIVE:
		return true;
	}
	return true;
}

static void expand(struct search *s, struct search_result *result, uint32_t index)
{
	const struct search_options *o = &s->options;
	struct move m = {0};
	for (m.slice = 0; m.slice < o->slices; m.slice++) {
		m.to = 0;
		for (m.page = 0; m.page < o->pages; m.page++) {
			for (m.type = MOVE_READ; m.type <= MOVE_HOLD_END; m.type++) {
				if (move_wanted(o->may, m.type))
					move_try(s, result, index, m);
			}
		}
		m.page = 0;
		for (m.to = 0; m.to < o->slices; m.to++) {
			for (m.type = MOVE_BEGIN; m.type <= MOVE_TELL; m.type++) {
				/* A loss needs no one who does it. */
				if (move_wanted(o->may, m.type) &&
				    (m.type != MOVE_CRASH || !m.slice))
					move_try(s, result, index, m);
			}
		}
	}
}

static void progress_tell(const struct search *s, uint32_t expanded, unsigned depth)
{
	struct search_progress progress = {s->nodes_count, expanded, depth};
	if (s->options.progress)
		s->options.progress(s->options.progress_arg, &progress);
}

/* Expands every state of one depth; their nodes are those from first on. */
static uint32_t level_expand(struct search *s, struct search_result *result, uint32_t first)
{
	uint32_t index = first;
	for (size_t at = 0; at < s->now.len && !search_over(s); index++) {
		uint16_t len;
		memcpy(&len, s->now.bytes + at, sizeof(len));
		state_decode(s->from, s->base, &s->parts, s->now.bytes + at + sizeof(len), len);
		at += sizeof(len) + len;
		expand(s, result, index);
		if (index % PROGRESS_STATES == 0)
			progress_tell(s, index, result->depth);
	}
	/* Else states would count as equal that are not. */
	invariant(!state_strayed(s->to, s->base, &s->parts));
	return index;
}

bool search_run(struct search *s, struct search_result *result)
{
	*result = (struct search_result){0};
	s->no_memory = !node_add(s, s->base, 0, (struct move){0});
	uint32_t expanded = 0;
	unsigned depth_max = s->options.depth_max;
	while (s->next.len && !search_over(s) && (!depth_max || result->depth < depth_max)) {
		struct level done = s->now;
		s->now = s->next;
		s->next = done;
		s->next.len = 0;
		expanded = level_expand(s, result, expanded);
		result->depth += s->next.len != 0;
	}
	result->states = s->nodes_count;
	result->failure = s->failure;
	result->complete = !search_over(s) && expanded == s->nodes_count;
	return !s->no_memory;
}

unsigned search_trace_length(const struct search *s)
{
	unsigned length = 1;
	for (uint32_t at = s->failure_parent; at; at = s->nodes[at].parent)
		length++;
	return length;
}

static void rows_text(const struct world_rows *rows, char *out, size_t size)
{
	size_t len = 0;
	out[0] = '\0';
	for (unsigned i = 0; i < rows->count; i++) {
		struct cell cell;
		char text[96];
		if (!cell_find(rows->list[i], &cell))
			continue;
		cell_text(cell, text, sizeof(text));
		unsigned next = rows->list[i]->next;
		int put = snprintf(out + len, size - len, "%s%s -> %s", len ? "; " : "", text,
				   cell.home ? home_state_name(next) : page_state_name(next));
		if (put < 0 || (size_t)put >= size - len)
			return;
		len += (size_t)put;
	}
}

static void trace_step(struct search *s, struct move m, unsigned number, trace_line_fn *line,
		       void *arg)
{
	char event[160], rows[512];
	move_text(s->to, m, event, sizeof(event));
	move_do(s->to, m);
	rows_text(&s->rows, rows, sizeof(rows));
	line(arg, number, event, rows);
}

void search_trace(struct search *s, trace_line_fn *line, void *arg)
{
	unsigned length = search_trace_length(s);
	state_copy(s->to, s->base, &s->parts);
	for (unsigned number = 1; number < length; number++) {
		/* From the failure back to the event of this number. */
		uint32_t at = s->failure_parent;
		for (unsigned i = number; i + 1 < length; i++)
			at = s->nodes[at].parent;
		trace_step(s, s->nodes[at].move, number, line, arg);
	}
	trace_step(s, s->failure_move, length, line, arg);
}
