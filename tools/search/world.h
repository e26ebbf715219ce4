/* SPDX-License-Identifier: Apache-2.0 */
/* A whole machine in one struct: slices that run the protocol core, channels, frames, checks. */
#ifndef TOOLS_SEARCH_WORLD_H
#define TOOLS_SEARCH_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dsm/protocol/protocol_parts.h"

/* Limits; the search clones worlds by the million and sets them small. */
#ifndef WORLD_SLICES
#define WORLD_SLICES 8
#define WORLD_PAGES  8
#define WORLD_DEPTH  64
#define WORLD_MEM    65536 /* of one slice's core */
#endif

/* Page k is the k-th page of chunk k, homed at slice k % slices. */
#define WORLD_GFN(page) (((uint64_t)(page) << CHUNK_PAGES_SHIFT) + (page))

/* What a vCPU sees of a page. */
enum mapping {
	MAPPED_NONE,
	MAPPED_READ,
	MAPPED_WRITE
};

/* A page's bytes, as far as a checker cares. 0 is the zero page. */
#define VALUE_GARBAGE 0xffffffffu

struct packet {
	struct wire_msg msg;
	uint32_t value;	    /* of the page that it carries */
	uint32_t receiving; /* 0: not begun, 1: into the frame, 2: into scratch memory */
};

/* The head is packets[0] and what lies beyond count is zero: equal channels are equal bytes. */
struct channel {
	uint32_t count;
	struct packet packets[WORLD_DEPTH];
};

#define PENDING_READ  1u
#define PENDING_WRITE 2u

struct world;

/* What becomes of a message that is sent. */
enum world_sending {
	SENDING_ONCE,
	SENDING_NEVER,
	SENDING_TWICE,
	SENDING_AHEAD /* of the message that went before it */
};

/*
 * Faults seeded into the machine, never into the core; each may be null. They keep what they
 * remember in the world's hook_memory.
 */
struct world_hooks {
	/* A message leaves, and may be changed. */
	enum world_sending (*send)(struct world *w, unsigned from, unsigned to,
				   struct packet *packet);
	/* A message arrives, and may be changed. */
	void (*deliver)(struct world *w, unsigned from, unsigned to, struct packet *packet);
	/* Is the action obeyed? */
	bool (*obey)(struct world *w, unsigned slice, const struct protocol_action *action);
	/* Before and after a slice's step. */
	void (*before)(struct world *w, unsigned slice);
	void (*after)(struct world *w, unsigned slice);
	bool put_in_frame; /* a PUT_M is received straight into the frame */
};

/* The rows that were obeyed since whoever asks set count to 0; no more than these are kept. */
#define WORLD_ROWS_MAX 64
struct world_rows {
	unsigned count;
	const struct protocol_rule *list[WORLD_ROWS_MAX];
};

struct world {
	unsigned slices, pages;
	const uint8_t *homes; /* by chunk; outlives the world, as do hooks and rows */
	const struct world_hooks *hooks;
	struct world_rows *rows; /* filled if the core was built to tell them; may be null */
	size_t mem_size;	 /* of one slice's core */
	uint64_t now_ns;
	uint32_t current[WORLD_PAGES]; /* what the last write wrote */
	uint32_t frame[WORLD_SLICES][WORLD_PAGES];
	uint8_t mapping[WORLD_SLICES][WORLD_PAGES];
	uint8_t pending[WORLD_SLICES][WORLD_PAGES];
	uint64_t timer[WORLD_SLICES][WORLD_PAGES]; /* of the hold; 0: none */
	uint64_t lost;				   /* slices that are gone */
	uint64_t frozen;			   /* slices that were told of a loss */
	unsigned losses_max;			   /* what a checker lets happen */
	uint8_t hook_memory[WORLD_SLICES];
	const char *failure; /* the first check that failed */
	struct channel channel[WORLD_SLICES][WORLD_SLICES];
	_Alignas(64) uint8_t mem[WORLD_SLICES * WORLD_MEM]; /* slices * mem_size are used */
};

/* hold_ns as in the protocol's configuration; requests_max per slice. False: it does not fit. */
bool world_init(struct world *w, unsigned slices, unsigned pages, const uint8_t *homes,
		uint64_t hold_ns, unsigned requests_max);
/* A slice's core, mem_size bytes. */
struct protocol *world_protocol(const struct world *w, unsigned slice);
/* Steps one event and obeys its actions; returns what protocol_step returned. */
int world_step(struct world *w, unsigned slice, const struct protocol_event *event);
/* A vCPU accesses a page: true if the mapping allows it, else the fault is stepped. */
bool world_read(struct world *w, unsigned slice, unsigned page);
/* A fault that was satisfied meanwhile, as two vCPUs that fault at once cause them. */
void world_refault(struct world *w, unsigned slice, unsigned page, bool write);
bool world_write(struct world *w, unsigned slice, unsigned page, uint32_t value);
void world_evict(struct world *w, unsigned slice, unsigned page);
/* The timer of a hold fires. */
void world_hold_end(struct world *w, unsigned slice, unsigned page);
/* The first bytes of the packet at the head of a channel arrive. */
void world_receive_begin(struct world *w, unsigned from, unsigned to);
/* All of it has arrived: the message is stepped. */
void world_receive(struct world *w, unsigned from, unsigned to);
/* A slice is gone: it does nothing any more; what it had sent is still on its way. */
void world_crash(struct world *w, unsigned lost);
/*
 * A slice is told that another is lost, which is so, or the connection between the two was cut, or
 * the other has ended since it was told of a loss itself: it freezes.
 */
void world_tell(struct world *w, unsigned slice, unsigned lost);
struct packet *channel_head(struct world *w, unsigned from, unsigned to);
bool world_quiet(const struct world *w);
/* Checks one writer or many readers, and that every mapped page holds the last write. */
void world_check(struct world *w);
/* With nothing under way: directory and slices agree, and nobody waits; unless a slice is lost or
 * was told so, since then nobody need be served. */
void world_check_rest(struct world *w);
/* What a core that was built to tell its rows calls (tools/search/rows.h). */
void world_row_obeyed(struct protocol_actions *actions, const struct protocol_rule *rule);

#endif
