/* SPDX-License-Identifier: Apache-2.0 */
/* A rig for engine tests: the engines of several slices in one process, joined over loopback. */
#ifndef TESTS_ENGINE_RIG_H
#define TESTS_ENGINE_RIG_H

#include <pthread.h>

#include "dsm/engine/engine.h"

#define RIG_SLICES_MAX	4
#define RIG_SLICE_BYTES (2 * HOME_CHUNK_SIZE)
#define RIG_PAGES	(RIG_SLICE_BYTES / PANGEA_PAGE_SIZE) /* of one slice */
#define RIG_POSTS	8192

struct rig;

struct rig_slice {
	struct rig *rig;
	unsigned index;
	struct engine *engine;
	unsigned port;
	/* Written by the engine thread: atomics. */
	_Atomic unsigned ready, lost, received;
	unsigned lost_peer;
	int lost_err;
	char lost_why[256];
	struct wire_msg msgs[RIG_POSTS];
	unsigned from[RIG_POSTS];
	uint8_t first_byte[RIG_POSTS];
};

struct rig {
	unsigned slices;
	struct engine_range ranges[RIG_SLICES_MAX];
	struct engine_config config; /* the template */
	struct rig_slice slice[RIG_SLICES_MAX];
};

/* Prepares the template: each slice is home of RIG_SLICE_BYTES. */
void rig_init(struct rig *rig, unsigned slices);
/* Creates and starts slice i's engine. */
void rig_create(struct rig *rig, unsigned i);
/* Tells slice i where the others are. */
void rig_connect(struct rig *rig, unsigned i);
/* Everything: init with faulters for the tests' threads, create, connect, wait until ready. */
void rig_up(struct rig *rig, unsigned slices);
void rig_down(struct rig *rig);
/* Waits at most 20 s until *counter >= value (an engine thread raises it). */
bool rig_until(const _Atomic unsigned *counter, unsigned value);

/* The word at a guest physical address as slice i sees it. The test's own thread may touch it,
 * since the engines run in theirs. */
uint64_t *rig_word(struct rig *rig, unsigned i, uint64_t gpa);
uint64_t rig_read(struct rig *rig, unsigned i, uint64_t gpa);
void rig_write(struct rig *rig, unsigned i, uint64_t gpa, uint64_t value);
/* The page number n of those homed at slice `home`, as an address. */
uint64_t rig_page(unsigned home, unsigned n);
/* The socket, blocking for 20 s at most, of a peer that is no engine and has said its hello to slice 0. */
int rig_raw_join(const struct rig *rig, unsigned self);
/* Statistics once they are at rest. */
struct engine_stats rig_stats(struct rig *rig, unsigned i);

#endif
