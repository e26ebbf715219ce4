/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of which we are the driver: submitting, kicking, reaping. What the back end writes is checked. */
#include "vmm/vhost/shadow_queue.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

#define DESC_F_NEXT	 1u
#define DESC_F_WRITE	 2u
#define USED_F_NO_NOTIFY 1u

#define MEMORY_BETWEEN(a, b) (offsetof(struct shadow_memory, b) - offsetof(struct shadow_memory, a))

static_assert(MEMORY_BETWEEN(avail_flags, used_event) == 4 + 2 * SHADOW_RING, "available ring");
static_assert(MEMORY_BETWEEN(used_flags, avail_event) == 4 + 8 * SHADOW_RING, "used ring");
static_assert(sizeof(((struct shadow_memory *)0)->descriptor) == 16 * SHADOW_RING, "descriptors");
static_assert(SHADOW_REQUESTS <= UINT8_MAX + 1, "an extent's request is a byte");

int shadow_queue_open(struct shadow_queue *q, const struct shadow_arena *arena, unsigned index,
		      bool event_index)
{
	invariant(index < arena->queues);
	memset(q, 0, sizeof(*q));
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0)
		return -errno;
	q->memory = &arena->memory[index];
	q->address = SHADOW_ADDRESS + index * sizeof(struct shadow_memory);
	q->event_index = event_index;
	for (uint16_t i = 0; i < SHADOW_RING; i++)
		q->extent[i].next = i + 1;
	q->free_count = SHADOW_RING;
	q->pieces_free = SHADOW_PIECES;
	return 0;
}

void shadow_queue_close(struct shadow_queue *q)
{
	if (q->memory)
		close(q->kick_fd);
	q->memory = NULL;
}

int shadow_queue_start(const struct shadow_queue *q, struct vhost_user *u, unsigned index,
		       int call_fd)
{
	const struct vhost_user_ring ring = {
		.index = index,
		.size = SHADOW_RING,
		.descriptors = q->address + offsetof(struct shadow_memory, descriptor),
		.driver = q->address + offsetof(struct shadow_memory, avail_flags),
		.device = q->address + offsetof(struct shadow_memory, used_flags),
		.kick_fd = q->kick_fd,
		.call_fd = call_fd,
	};

	return vhost_user_ring_start(u, &ring);
}

/* ---- a request's bytes ---- */

static uint8_t *part_at(const struct shadow_queue *q, unsigned request, bool in, uint32_t offset,
			uint32_t *len)
{
	const struct shadow_request *r = &q->request[request];
	uint16_t at = r->first;

	for (unsigned i = 0; i < r->count; i++, at = q->extent[at].next) {
		const struct shadow_extent *e = &q->extent[at];

		if (e->in != in)
			continue;
		if (offset < e->len) {
			*len = e->len - offset;
			return e->at + offset;
		}
		offset -= e->len;
	}
	return NULL;
}

uint8_t *shadow_queue_out(const struct shadow_queue *q, unsigned request, uint32_t offset,
			  uint32_t *len)
{
	return part_at(q, request, false, offset, len);
}

const uint8_t *shadow_queue_in(const struct shadow_queue *q, unsigned request, uint32_t offset,
			       uint32_t *len)
{
	return part_at(q, request, true, offset, len);
}

/* ---- submitting ---- */

void shadow_queue_submit(struct shadow_queue *q, unsigned request)
{
	struct shadow_request *r = &q->request[request];
	struct shadow_memory *m = q->memory;
	uint16_t at = r->first;

	invariant(r->busy && !r->submitted);
	for (unsigned i = 0; i < r->count; i++, at = q->extent[at].next) {
		const struct shadow_extent *e = &q->extent[at];
		bool last = i + 1u == r->count;

		m->descriptor[at].address = q->address + (uint64_t)(e->at - (uint8_t *)m);
		m->descriptor[at].len = e->len;
		m->descriptor[at].flags =
			(uint16_t)((e->in ? DESC_F_WRITE : 0) | (last ? 0 : DESC_F_NEXT));
		m->descriptor[at].next = last ? 0 : e->next;
	}
	atomic_store_explicit(&m->avail_ring[q->next_available % SHADOW_RING], r->first,
			      memory_order_relaxed);
	q->next_available++;
	/* Releases the entry, the descriptors and the bytes. */
	atomic_store_explicit(&m->avail_idx, q->next_available, memory_order_release);
	r->submitted = true;
	q->submitted++;
}

/* The fence puts our index before the look at the back end's wish, which it states before it looks
 * at the index for the last time. */
void shadow_queue_kick(struct shadow_queue *q)
{
	uint16_t added = (uint16_t)(q->next_available - q->kicked_available);
	bool wanted;

	if (added == 0)
		return;
	q->kicked_available = q->next_available;
	atomic_thread_fence(memory_order_seq_cst);
	if (q->event_index) {
		uint16_t event =
			atomic_load_explicit(&q->memory->avail_event, memory_order_relaxed);

		wanted = (uint16_t)(q->next_available - event - 1) < added;
	} else {
		wanted = !(atomic_load_explicit(&q->memory->used_flags, memory_order_relaxed) &
			   USED_F_NO_NOTIFY);
	}
	/* A counter that is full says the same. */
	if (wanted)
		(void)eventfd_write(q->kick_fd, 1);
}

/* ---- reaping ---- */

static uint16_t used_count(const struct shadow_queue *q)
{
	uint16_t idx = atomic_load_explicit(&q->memory->used_idx, memory_order_acquire);

	return (uint16_t)(idx - q->last_used);
}

/* Asks for a call when there is more, and looks again. */
static uint16_t used_await(const struct shadow_queue *q)
{
	if (!q->event_index)
		return 0;
	atomic_store_explicit(&q->memory->used_event, q->last_used, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	return used_count(q);
}

/* Whose first descriptor this is, if the back end has it. */
static int request_of(const struct shadow_queue *q, uint32_t first)
{
	unsigned number = first < SHADOW_RING ? q->extent[first].request : 0;

	if (!q->request[number].submitted || q->request[number].first != first)
		return -PANGEA_EPROTOCOL;
	return (int)number;
}

int shadow_queue_reap(struct shadow_queue *q, unsigned *request)
{
	uint16_t count = used_count(q);
	int found;

	if (count == 0)
		count = used_await(q);
	if (count == 0)
		return 0;
	if (count > q->submitted)
		return -PANGEA_EPROTOCOL;
	found = request_of(
		q, atomic_load_explicit(&q->memory->used_ring[q->last_used % SHADOW_RING].id,
					memory_order_relaxed));
	if (found < 0)
		return found;
	q->last_used++;
	q->request[found].submitted = false;
	q->submitted--;
	*request = (unsigned)found;
	return 1;
}
