/* SPDX-License-Identifier: Apache-2.0 */
/* The memory behind shadow queues: the file that is shared, and who has which piece of it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/vhost/shadow_queue.h"

/* Since Linux 6.3; older headers lack it. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

/* With these the back end cannot take away what is mapped, so that no access to it ends in SIGBUS. */
#define ARENA_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

static uint64_t arena_bytes(const struct shadow_arena *arena)
{
	return arena->queues * sizeof(struct shadow_memory);
}

int shadow_arena_open(struct shadow_arena *arena, unsigned queues)
{
	void *memory = MAP_FAILED;
	int err;

	invariant(queues > 0 && queues <= SHADOW_QUEUES_MAX);
	*arena = (struct shadow_arena){.queues = queues};
	arena->fd = memfd_create("pangea-vhost", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	if (arena->fd < 0)
		return -errno;
	if (ftruncate(arena->fd, (off_t)arena_bytes(arena)) == 0 &&
	    fcntl(arena->fd, F_ADD_SEALS, ARENA_SEALS) == 0)
		memory = mmap(NULL, arena_bytes(arena), PROT_READ | PROT_WRITE, MAP_SHARED,
			      arena->fd, 0);
	if (memory == MAP_FAILED) {
		err = -errno;
		close(arena->fd);
		return err;
	}
	/* A guest's data lie in it: in no core dump. */
	madvise(memory, arena_bytes(arena), MADV_DONTDUMP);
	arena->memory = memory;
	return 0;
}

void shadow_arena_close(struct shadow_arena *arena)
{
	if (!arena->memory)
		return;
	munmap(arena->memory, arena_bytes(arena));
	close(arena->fd);
	arena->memory = NULL;
}

int shadow_arena_share(const struct shadow_arena *arena, struct vhost_user *u)
{
	return vhost_user_memory_set(u, arena->fd, SHADOW_ADDRESS, arena_bytes(arena));
}

/* ---- descriptors ---- */

static struct shadow_extent *extent_take(struct shadow_queue *q, struct shadow_request *r,
					 uint8_t *at, uint32_t len, bool in)
{
	uint16_t index = q->free_first;
	struct shadow_extent *e = &q->extent[index];

	if (q->free_count == 0)
		return NULL;
	q->free_first = e->next;
	q->free_count--;
	*e = (struct shadow_extent){
		.at = at, .len = len, .in = in, .request = (uint8_t)(r - q->request)};
	if (r->count == 0)
		r->first = index;
	else
		q->extent[r->last].next = index;
	r->last = index;
	r->count++;
	return e;
}

/* ---- pieces ---- */

static bool piece_is_busy(const struct shadow_queue *q, unsigned piece)
{
	return q->piece_busy[piece / 64] >> (piece % 64) & 1;
}

static void piece_flip(struct shadow_queue *q, unsigned piece)
{
	q->piece_busy[piece / 64] ^= UINT64_C(1) << (piece % 64);
}

/* The next run of free pieces from *at on, at most `most`; returns how many. */
static unsigned run_find(const struct shadow_queue *q, unsigned *at, unsigned most)
{
	unsigned count = 0;

	while (*at < SHADOW_PIECES && piece_is_busy(q, *at))
		++*at;
	while (count < most && *at + count < SHADOW_PIECES && !piece_is_busy(q, *at + count))
		count++;
	return count;
}

/* Pieces for `bytes`, those in a row under one descriptor. */
static int pieces_take(struct shadow_queue *q, struct shadow_request *r, uint32_t bytes, bool in)
{
	unsigned at = 0;

	while (bytes > 0) {
		unsigned count = run_find(q, &at, (bytes + SHADOW_PIECE - 1) / SHADOW_PIECE);
		uint32_t len = count * SHADOW_PIECE < bytes ? count * SHADOW_PIECE : bytes;
		struct shadow_extent *e;

		if (count == 0)
			return -EAGAIN;
		e = extent_take(q, r, q->memory->piece[at], len, in);
		if (!e)
			return -EAGAIN;
		e->piece_first = (uint16_t)at;
		e->pieces = (uint16_t)count;
		for (unsigned i = 0; i < count; i++)
			piece_flip(q, at + i);
		q->pieces_free -= count;
		at += count;
		bytes -= len;
	}
	return 0;
}

/* ---- requests ---- */

static uint64_t pieces_for(uint32_t bytes)
{
	return ((uint64_t)bytes + SHADOW_PIECE - 1) / SHADOW_PIECE;
}

static int parts_take(struct shadow_queue *q, unsigned number, const struct shadow_shape *s)
{
	struct shadow_request *r = &q->request[number];
	int err = 0;

	if (s->head_bytes > 0 && !extent_take(q, r, q->memory->head[number], s->head_bytes, false))
		return -EAGAIN;
	err = pieces_take(q, r, s->out_bytes, false);
	if (!err)
		err = pieces_take(q, r, s->in_bytes, true);
	if (!err && s->tail_bytes > 0 &&
	    !extent_take(q, r, q->memory->tail[number], s->tail_bytes, true))
		err = -EAGAIN;
	return err;
}

int shadow_queue_take(struct shadow_queue *q, const struct shadow_shape *shape)
{
	uint64_t pieces = pieces_for(shape->out_bytes) + pieces_for(shape->in_bytes);
	unsigned number = 0;

	invariant(shape->head_bytes <= SHADOW_HEAD_MAX && shape->tail_bytes <= SHADOW_TAIL_MAX);
	invariant(shape->head_bytes + shape->tail_bytes + pieces > 0);
	if (pieces > SHADOW_PIECES)
		return -E2BIG;
	while (number < SHADOW_REQUESTS && q->request[number].busy)
		number++;
	if (number == SHADOW_REQUESTS || pieces > q->pieces_free)
		return -EAGAIN;
	q->request[number] = (struct shadow_request){.busy = true};
	if (parts_take(q, number, shape) == 0)
		return (int)number;
	/* Too few descriptors for pieces that lie so scattered: later, with others free. */
	shadow_queue_release(q, number);
	return -EAGAIN;
}

void shadow_queue_release(struct shadow_queue *q, unsigned request)
{
	struct shadow_request *r = &q->request[request];
	uint16_t at = r->first;

	invariant(r->busy && !r->submitted);
	for (unsigned i = 0; i < r->count; i++) {
		struct shadow_extent *e = &q->extent[at];
		uint16_t next = e->next;

		for (unsigned k = 0; k < e->pieces; k++)
			piece_flip(q, e->piece_first + k);
		q->pieces_free += e->pieces;
		e->next = q->free_first;
		q->free_first = at;
		q->free_count++;
		at = next;
	}
	r->busy = false;
}
