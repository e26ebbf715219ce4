/* SPDX-License-Identifier: Apache-2.0 */
/* Virtqueues to a back end in memory of our own, of which we are the driver: a request's bytes are copied through. */
#ifndef VMM_SHADOW_QUEUE_H
#define VMM_SHADOW_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "vmm/vhost/vhost_user.h"

/*
 * A back end is another process, and cannot reach guest memory: a page that is not on this host comes by a page fault
 * of ours. So a device copies a guest's request into an arena that both processes map, and its answer back.
 */

/* Descriptors of a ring: what back ends in use take. A power of two. */
#define SHADOW_RING 256u
/* Requests under way: each has two descriptors at least. */
#define SHADOW_REQUESTS 128u
/* A request's bytes lie in pieces of a page; 4 MiB of them hold one request of the largest, or 32 of 128 KiB. */
#define SHADOW_PIECE  PANGEA_PAGE_SIZE
#define SHADOW_PIECES 1024u
#define SHADOW_WORDS  (SHADOW_PIECES / 64)
/* The small parts at a request's ends lie by themselves, so that data are aligned for direct I/O. */
#define SHADOW_HEAD_MAX 48u
#define SHADOW_TAIL_MAX 16u
/* Queues of one arena, which is so long at most. */
#define SHADOW_QUEUES_MAX 4u
/* Where the arena begins, as the back end is told: any number, and none that says where anything of ours lies. */
#define SHADOW_ADDRESS (UINT64_C(1) << 32)

/* Section 2.7 of virtio 1.2, and the bytes behind it. The back end writes what it likes into all of it: nothing that
 * is read here is believed, and what we wrote is never read again. */
struct shadow_memory {
	_Alignas(PANGEA_PAGE_SIZE) struct {
		uint64_t address;
		uint32_t len;
		uint16_t flags, next;
	} descriptor[SHADOW_RING];
	_Alignas(PANGEA_PAGE_SIZE) _Atomic uint16_t avail_flags;
	_Atomic uint16_t avail_idx, avail_ring[SHADOW_RING], used_event;
	_Alignas(PANGEA_PAGE_SIZE) _Atomic uint16_t used_flags;
	_Atomic uint16_t used_idx;
	struct {
		_Atomic uint32_t id, len;
	} used_ring[SHADOW_RING];
	_Atomic uint16_t avail_event;
	_Alignas(PANGEA_PAGE_SIZE) uint8_t head[SHADOW_REQUESTS][SHADOW_HEAD_MAX];
	uint8_t tail[SHADOW_REQUESTS][SHADOW_TAIL_MAX];
	_Alignas(PANGEA_PAGE_SIZE) uint8_t piece[SHADOW_PIECES][SHADOW_PIECE];
};

/* A device's arena: a sealed memory file, a struct shadow_memory for each queue. */
struct shadow_arena {
	int fd;
	struct shadow_memory *memory;
	unsigned queues;
};

/* What a request takes; either part may be empty, not both. */
struct shadow_shape {
	uint32_t head_bytes; /* the first of the out-part, at most SHADOW_HEAD_MAX */
	uint32_t out_bytes;  /* the others */
	uint32_t in_bytes;   /* the in-part without: */
	uint32_t tail_bytes; /* its last, at most SHADOW_TAIL_MAX */
};

/* Our own record of a descriptor. */
struct shadow_extent {
	uint8_t *at;
	uint32_t len;
	uint16_t next;		      /* of its request, or of those that are free */
	uint16_t piece_first, pieces; /* pieces: 0 for a head or tail */
	uint8_t request;
	bool in;
};

struct shadow_request {
	bool busy, submitted;
	uint16_t first, last, count; /* descriptors */
};

/* The thread of its device alone uses a queue. */
struct shadow_queue {
	struct shadow_memory *memory;
	uint64_t address; /* the memory's, to the back end */
	bool event_index; /* VIRTIO_F_EVENT_IDX was agreed on */
	int kick_fd;
	uint16_t next_available, kicked_available, last_used;
	struct shadow_extent extent[SHADOW_RING];
	uint16_t free_first, free_count;
	uint64_t piece_busy[SHADOW_WORDS];
	unsigned pieces_free;
	struct shadow_request request[SHADOW_REQUESTS];
	unsigned submitted;
};

/* Makes the arena. 0 or a negative errno. */
int shadow_arena_open(struct shadow_arena *arena, unsigned queues);
void shadow_arena_close(struct shadow_arena *arena);
/* Tells the back end of it. Errors as vhost_user.h has them. */
int shadow_arena_share(const struct shadow_arena *arena, struct vhost_user *u);

/* Queue number `index` of the arena, empty. 0 or a negative errno. */
int shadow_queue_open(struct shadow_queue *q, const struct shadow_arena *arena, unsigned index,
		      bool event_index);
void shadow_queue_close(struct shadow_queue *q);
/* Hands it to the back end, which writes into call_fd when it has done something. Errors as vhost_user.h has them. */
int shadow_queue_start(const struct shadow_queue *q, struct vhost_user *u, unsigned index,
		       int call_fd);

/*
 * Room for a request. Returns its number, below SHADOW_REQUESTS, which is taken until shadow_queue_release; -EAGAIN:
 * there is none before some other one is released; -E2BIG: there never is.
 */
int shadow_queue_take(struct shadow_queue *q, const struct shadow_shape *shape);
/* Where the byte at `offset` of the request's out- or in-part lies, and in *len how many there are in a row; NULL:
 * the part is no longer than that. */
uint8_t *shadow_queue_out(const struct shadow_queue *q, unsigned request, uint32_t offset,
			  uint32_t *len);
const uint8_t *shadow_queue_in(const struct shadow_queue *q, unsigned request, uint32_t offset,
			       uint32_t *len);
/* Makes it available to the back end, who must then be told. */
void shadow_queue_submit(struct shadow_queue *q, unsigned request);
/* Tells the back end of what was submitted, if it wants that. */
void shadow_queue_kick(struct shadow_queue *q);
/*
 * The next request that the back end has done: 1 and its number, 0: none, and the back end is asked to call when there
 * is; -PANGEA_EPROTOCOL: it said so of one that it did not have, and is not to be trusted any more. Until then its
 * bytes are the back end's.
 */
int shadow_queue_reap(struct shadow_queue *q, unsigned *request);
/* Frees it. It was reaped, or never submitted. */
void shadow_queue_release(struct shadow_queue *q, unsigned request);

#endif
