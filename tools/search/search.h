/* SPDX-License-Identifier: Apache-2.0 */
/* The exhaustive search of the protocol core: what it may do, what it found, and its parts. */
#ifndef TOOLS_SEARCH_SEARCH_H
#define TOOLS_SEARCH_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/search/world.h"

/* ---- what may happen besides reads and writes ---- */

#define MAY_EVICT 0x01u
#define MAY_ZERO  0x02u /* writes of zeroes */
#define MAY_SPLIT 0x04u /* a page arrives in two moves: its first bytes, then all of it */
#define MAY_HOLD  0x08u /* FWD and INV are set aside at the home, and obeyed at any later moment */
#define MAY_HOLD_ALL                                                                               \
	0x10u /* the same at every slice; goes with MAY_HOLD                          */
#define MAY_LOSE                                                                                   \
	0x20u /* one slice is lost at any moment, and any slice takes another for lost at          \
		 any moment, so or because their connection was cut                       */

/* ---- one move: what happens, and to whom (search.c) ---- */

enum move_type {
	MOVE_NONE,
	MOVE_READ,
	MOVE_WRITE,
	MOVE_WRITE_AGAIN, /* a write fault that was satisfied meanwhile */
	MOVE_CLEAR,	  /* writes zeroes */
	MOVE_EVICT,
	MOVE_HOLD_END,
	MOVE_BEGIN,
	MOVE_RECEIVE,
	MOVE_CRASH,
	MOVE_TELL
};

struct move {
	uint8_t type;
	uint8_t slice; /* who does it; the sender of what arrives */
	uint8_t to;    /* who receives; the slice that is lost */
	uint8_t page;
};

/* Can it happen now? */
bool move_allowed(struct world *w, struct move m);
/* Lets it happen; w->failure and w->rows tell what came of it. */
void move_do(struct world *w, struct move m);
/* Says it, as "slice 1 writes page 0"; before it happens, since it names what arrives. */
void move_text(struct world *w, struct move m, char *out, size_t size);

/* Time stands still: a hold time ends by a move of its own. */
#define SEARCH_HOLD_NS 8u
/* A page's values: what is there now, and what was there before. 0 is zeroes. */
#define VALUE_NOW 1u
#define VALUE_OLD 2u

/* ---- states as bytes (state.c) ---- */

/*
 * The words of a world that its moves can change, as ranges of words: all of it but the memory of
 * channels and pages that it has not. The rest stays as it is in the base.
 */
#define STATE_PARTS_MAX 32u
struct state_parts {
	unsigned count;
	struct state_part {
		uint16_t first, past;
	} list[STATE_PARTS_MAX];
};

/* The parts of this world and of all that it can become. */
void state_parts_find(struct state_parts *parts, const struct world *w);
void state_copy(struct world *to, const struct world *from, const struct state_parts *parts);
/* Has anything changed that is in none of its parts? Then they are wrong. */
bool state_strayed(const struct world *w, const struct world *base,
		   const struct state_parts *parts);

/*
 * A world's state as the bytes in which it differs from a base, so that equal bytes are equal
 * worlds. Counters do not belong to it.
 */
#define STATE_BYTES_MAX 4096u

/* Returns the number of bytes in out (STATE_BYTES_MAX of them), or 0: they do not fit. */
size_t state_encode(struct world *w, const struct world *base, const struct state_parts *parts,
		    uint8_t *out);
/* The world that was encoded with this base; what is in no part stays. */
void state_decode(struct world *w, const struct world *base, const struct state_parts *parts,
		  const uint8_t *in, size_t len);
uint64_t state_hash(const uint8_t *bytes, size_t len);
/*
 * Puts each slice's requests in the order of their pages into a pool as if new. Which place of the
 * pool a request has, and which places are free, shows in nothing that a core does: the world goes
 * on as it would have.
 */
void state_settle(struct world *w);

/* ---- the cells of the transition tables (cells.c) ---- */

/* How often each row was obeyed. */
struct cells {
	uint64_t slice[PAGE_STATES][SLICE_EVENT_COUNT];
	uint64_t home[HOME_STATE_COUNT][HOME_EVENT_COUNT];
};

/* Where in the tables a row stands; false: nowhere. */
struct cell {
	bool home; /* of the home's table */
	unsigned state, event;
};
bool cell_find(const struct protocol_rule *rule, struct cell *cell);
void cells_count(struct cells *cells, const struct world_rows *rows);
/* Takes what another search reached. */
void cells_add(struct cells *cells, const struct cells *more);
const struct protocol_rule *cell_rule(struct cell cell);
uint64_t cell_count(const struct cells *cells, struct cell cell);
/* "slice S: INV" or "home OD: GET_S"; static storage for the parts. */
void cell_text(struct cell cell, char *out, size_t size);
/* The next row of the tables, slice side first; false: that was the last. Begin with {0}. */
bool cell_next(struct cell *cell, bool *begun);

/*
 * Why a search like this does not reach a cell; null: it does. Static storage.
 */
struct search_options;
struct search_result;
const char *cell_unreached(struct cell cell, const struct search_options *options);
/*
 * Is the cell reached, or not, against that? A search that did not visit everything says nothing of
 * what it did not reach, and one with a fault nothing at all.
 */
bool cell_wrong(struct cell cell, const struct search_options *options,
		const struct search_result *result);

/* ---- seeded faults (faults.c) ---- */

struct fault {
	const char *name, *text;
	/* The smallest search that shows it. */
	unsigned slices, may;
	struct world_hooks hooks;
};

extern const struct fault faults[];
extern const unsigned faults_count;
const struct fault *fault_find(const char *name);

/* ---- the search (search.c) ---- */

struct search_progress {
	uint32_t states, expanded; /* found; of these, those whose moves were all tried */
	unsigned depth;		   /* of those that are being expanded, in events */
};

struct search_options {
	unsigned slices, pages, may;
	unsigned group;	 /* slices that a bit of the directory's sharers stands for; 0: one */
	unsigned losses; /* with MAY_LOSE: at most so many, and one slice always stays */
	uint32_t states_max;
	unsigned depth_max;	   /* events from the start; 0: any number */
	const struct fault *fault; /* null: none */
	/* Called now and then while it runs, unless null. */
	void (*progress)(void *arg, const struct search_progress *progress);
	void *progress_arg;
};

struct search;

struct search_result {
	uint32_t states;
	uint64_t transitions, rests;
	unsigned depth;	     /* the longest of the shortest ways to a state, in events */
	bool complete;	     /* every state was visited */
	const char *failure; /* of the check that failed, after the trace */
	struct cells cells;
	/* What only sharers in groups cause and is no row: INVs by the state of the slice that they
	 * find, and DATA for a write that found SM. */
	uint64_t group_invs[PAGE_STATES], group_data;
};

/* Null: without memory, or the world does not fit. */
struct search *search_new(const struct search_options *options);
void search_free(struct search *s);
/* Visits every state, or ends at the first that fails. False: without memory. */
bool search_run(struct search *s, struct search_result *result);
/* The length of the way to the failure, in events. */
unsigned search_trace_length(const struct search *s);
/* Calls line for each event on the way to the failure, first to last: what happened, and the rows
 * that it obeyed. */
typedef void trace_line_fn(void *arg, unsigned number, const char *event, const char *rows);
void search_trace(struct search *s, trace_line_fn *line, void *arg);

#endif
