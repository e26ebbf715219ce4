/* SPDX-License-Identifier: Apache-2.0 */
/* A whole machine in one struct: slices that run the protocol core, channels, frames, checks. */
#ifndef TESTS_PROTOCOL_WORLD_H
#define TESTS_PROTOCOL_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dsm/protocol_parts.h"

/* The search clones worlds by the thousand and sets these small. */
#ifndef WORLD_SLICES
#define WORLD_SLICES 8
#define WORLD_PAGES  8
#define WORLD_DEPTH  64
#define WORLD_MEM    65536
#endif

/* Page k is the k-th page of chunk k, homed at slice k % slices. */
#define WORLD_GFN(page) (((uint64_t)(page) << CHUNK_PAGES_SHIFT) + (page))

/* What a vCPU sees of a page. */
enum mapping {
	MAPPED_NONE,
	MAPPED_READ,
	MAPPED_WRITE
};

/* A page's bytes, as far as a test cares. 0 is the zero page. */
#define VALUE_GARBAGE 0xffffffffu

struct packet {
	struct wire_msg msg;
	uint32_t value;	   /* of the page that it carries */
	uint8_t receiving; /* 0: not begun, 1: into the frame, 2: into scratch memory */
};

struct channel {
	uint32_t head, count;
	struct packet packets[WORLD_DEPTH];
};

#define PENDING_READ  1u
#define PENDING_WRITE 2u

struct world_timer {
	uint64_t deadline_ns; /* 0: none */
};

struct world {
	unsigned slices, pages;
	const uint8_t *homes; /* by chunk; outlives the world */
	uint64_t now_ns;
	uint32_t current[WORLD_PAGES]; /* what the last write wrote */
	uint32_t frame[WORLD_SLICES][WORLD_PAGES];
	uint8_t mapping[WORLD_SLICES][WORLD_PAGES];
	uint8_t pending[WORLD_SLICES][WORLD_PAGES];
	uint64_t timer[WORLD_SLICES][WORLD_PAGES]; /* of the hold; 0: none */
	uint64_t lost;				   /* slices that are gone */
	uint64_t told[WORLD_SLICES];		   /* pages reported lost, by page */
	bool loss_allowed;
	const char *failure; /* the first check that failed */
	struct channel channel[WORLD_SLICES][WORLD_SLICES];
	_Alignas(64) uint8_t mem[WORLD_SLICES][WORLD_MEM];
};

/* hold_ns as in the protocol's configuration; requests_max per slice. False: it does not fit. */
bool world_init(struct world *w, unsigned slices, unsigned pages, const uint8_t *homes,
		uint64_t hold_ns, unsigned requests_max);
struct protocol *world_protocol(const struct world *w, unsigned slice);
/* Steps one event and obeys its actions; returns what protocol_step returned. */
int world_step(struct world *w, unsigned slice, const struct protocol_event *event);
/* A vCPU accesses a page: true if the mapping allows it, else the fault is stepped. */
bool world_read(struct world *w, unsigned slice, unsigned page);
bool world_write(struct world *w, unsigned slice, unsigned page, uint32_t value);
void world_evict(struct world *w, unsigned slice, unsigned page);
/* The timer of a hold fires. */
void world_hold_end(struct world *w, unsigned slice, unsigned page);
/* The first bytes of the packet at the head of a channel arrive. */
void world_receive_begin(struct world *w, unsigned from, unsigned to);
/* All of it has arrived: the message is stepped. */
void world_receive(struct world *w, unsigned from, unsigned to);
struct packet *channel_head(struct world *w, unsigned from, unsigned to);
bool world_quiet(const struct world *w);
/* Checks one writer or many readers, and that every mapped page holds the last write. */
void world_check(struct world *w);
/* With nothing under way: directory and slices agree, and nobody waits. */
void world_check_rest(struct world *w);

#endif
