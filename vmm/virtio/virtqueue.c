/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue. The rings are the driver's: what stands in them is copied
 * once, checked, and only then used, since other vCPUs may change it meanwhile.
 */
#include "vmm/virtio/virtqueue.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"

/* Section 2.7.5: the table of descriptors. */
#define DESCRIPTOR_BYTES 16u
#define DESCRIPTOR_ALIGN 16u
#define DESC_F_NEXT	 1u
#define DESC_F_WRITE	 2u
#define DESC_F_INDIRECT	 4u

/* Section 2.7.6: the available ring: flags, index, the entries, used_event. */
#define AVAIL_ALIGN	     2u
#define AVAIL_F_NO_INTERRUPT 1u
#define AVAIL_IDX	     2u
#define AVAIL_RING	     4u
#define AVAIL_ENTRY	     2u

/* Section 2.7.8: the used ring: flags, index, the entries, avail_event. */
#define USED_ALIGN 4u
#define USED_IDX   2u
#define USED_RING  4u
#define USED_ENTRY 8u

/* used_event and avail_event. */
#define EVENT_BYTES 2u

struct descriptor {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

static_assert(sizeof(struct descriptor) == DESCRIPTOR_BYTES, "a descriptor's layout");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the rings are little-endian");

/* The table that a chain is followed through. */
struct table {
	const uint8_t *at;
	unsigned size; /* descriptors */
	bool indirect;
};

/* ---- fields of the rings, each an aligned number ---- */

static uint16_t *field16(const struct virtqueue *q, uint64_t gpa)
{
	return (uint16_t *)(void *)(q->mem->ram + gpa);
}

static uint16_t field16_read(const struct virtqueue *q, uint64_t gpa)
{
	return __atomic_load_n(field16(q, gpa), __ATOMIC_RELAXED);
}

static void field32_write(const struct virtqueue *q, uint64_t gpa, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)(q->mem->ram + gpa), value, __ATOMIC_RELAXED);
}

static uint64_t used_event_gpa(const struct virtqueue *q)
{
	return q->config.driver + AVAIL_RING + (uint64_t)AVAIL_ENTRY * q->config.size;
}

static uint64_t avail_event_gpa(const struct virtqueue *q)
{
	return q->config.device + USED_RING + (uint64_t)USED_ENTRY * q->config.size;
}

/* ---- setting up ---- */

static bool ring_lies_in_ram(const struct guest_memory *mem, uint64_t gpa, uint64_t len,
			     unsigned align)
{
	return gpa % align == 0 && guest_memory_at(mem, gpa, len);
}

int virtqueue_init(struct virtqueue *q, const struct virtqueue_config *config,
		   const struct guest_memory *mem)
{
	uint64_t size = config->size;

	if (size == 0 || size > VIRTQUEUE_SIZE_MAX || (size & (size - 1)))
		return -EINVAL;
	if (!ring_lies_in_ram(mem, config->descriptors, DESCRIPTOR_BYTES * size,
			      DESCRIPTOR_ALIGN) ||
	    !ring_lies_in_ram(mem, config->driver, AVAIL_RING + AVAIL_ENTRY * size + EVENT_BYTES,
			      AVAIL_ALIGN) ||
	    !ring_lies_in_ram(mem, config->device, USED_RING + USED_ENTRY * size + EVENT_BYTES,
			      USED_ALIGN))
		return -EINVAL;
	*q = (struct virtqueue){.config = *config, .mem = mem};
	return 0;
}

/* ---- taking buffers out ---- */

/* How many buffers the driver has made available beyond those taken; acquires what it wrote before
 * it stepped the index: entries, descriptors, data. */
static uint16_t available_count(const struct virtqueue *q)
{
	uint16_t idx = __atomic_load_n(field16(q, q->config.driver + AVAIL_IDX), __ATOMIC_ACQUIRE);

	return (uint16_t)(idx - q->next_available);
}

/*
 * Asks to be told of the next buffer, and looks again: the driver steps its index and then reads
 * avail_event, we the other way round, both with a full fence between. One of us sees the other.
 * What stands there already was asked for before; only a store would take the page from the driver.
 */
static uint16_t available_await(const struct virtqueue *q)
{
	uint64_t gpa = avail_event_gpa(q);

	if (field16_read(q, gpa) != q->next_available) {
		__atomic_store_n(field16(q, gpa), q->next_available, __ATOMIC_RELAXED);
		guest_memory_changed(q->mem, gpa, EVENT_BYTES);
	}
	atomic_thread_fence(memory_order_seq_cst);
	return available_count(q);
}

/* A copy, each byte of it loaded once. An indirect table may lie at any address. */
static struct descriptor descriptor_read(const struct table *table, unsigned index)
{
	const uint8_t *at = table->at + (size_t)DESCRIPTOR_BYTES * index;
	uint64_t word[DESCRIPTOR_BYTES / 8];
	struct descriptor d;

	if ((uintptr_t)at % sizeof(word[0]) == 0) {
		const uint64_t *words = (const uint64_t *)(const void *)at;

		word[0] = __atomic_load_n(&words[0], __ATOMIC_RELAXED);
		word[1] = __atomic_load_n(&words[1], __ATOMIC_RELAXED);
	} else {
		for (unsigned i = 0; i < sizeof(word); i++)
			((uint8_t *)word)[i] = __atomic_load_n(&at[i], __ATOMIC_RELAXED);
	}
	memcpy(&d, word, sizeof(d));
	return d;
}

/* Section 2.7.5.3: the last descriptor of a chain may stand for a table that has the rest. */
static int table_enter(const struct virtqueue *q, const struct descriptor *d, struct table *table)
{
	if (!q->config.indirect || table->indirect || (d->flags & DESC_F_NEXT))
		return -PANGEA_EDRIVER;
	if (d->len == 0 || d->len % DESCRIPTOR_BYTES ||
	    d->len / DESCRIPTOR_BYTES > VIRTQUEUE_SEGMENTS_MAX)
		return -PANGEA_EDRIVER;
	table->at = guest_memory_at(q->mem, d->gpa, d->len);
	table->size = d->len / DESCRIPTOR_BYTES;
	table->indirect = true;
	return table->at ? 0 : -PANGEA_EDRIVER;
}

static int segment_add(const struct virtqueue *q, const struct descriptor *d,
		       struct virtqueue_chain *chain)
{
	unsigned count = chain->out_count + chain->in_count;
	uint64_t bytes = (uint64_t)chain->out_bytes + chain->in_bytes + d->len;
	bool in = d->flags & DESC_F_WRITE,
	     refused = in && guest_memory_image(q->mem, d->gpa, d->len);
	const uint8_t *base = in ? guest_memory_at(q->mem, d->gpa, d->len)
				 : guest_memory_readable(q->mem, d->gpa, d->len);

	if (d->len == 0 || (!base && !refused) || count == VIRTQUEUE_SEGMENTS_MAX ||
	    bytes > VIRTQUEUE_CHAIN_BYTES_MAX || (!in && chain->in_count > 0))
		return -PANGEA_EDRIVER;
	chain->segment[count] = (struct virtqueue_segment){base, d->gpa, d->len};
	chain->refused |= refused;
	if (in) {
		chain->in_count++;
		chain->in_bytes += d->len;
	} else {
		chain->out_count++;
		chain->out_bytes += d->len;
	}
	return 0;
}

/* Follows a chain; as many steps as a table has descriptors are no loop yet. */
static int chain_read(const struct virtqueue *q, uint16_t head, struct virtqueue_chain *chain)
{
	struct table table = {q->mem->ram + q->config.descriptors, q->config.size, false};
	unsigned index = head, steps = 0;

	chain->head = head;
	chain->out_count = chain->in_count = 0;
	chain->out_bytes = chain->in_bytes = 0;
	chain->refused = false;
	for (;;) {
		struct descriptor d;
		int err;

		if (index >= table.size || steps++ == table.size)
			return -PANGEA_EDRIVER;
		d = descriptor_read(&table, index);
		if (d.flags & DESC_F_INDIRECT) {
			err = table_enter(q, &d, &table);
			index = steps = 0;
		} else {
			err = segment_add(q, &d, chain);
			if (!err && !(d.flags & DESC_F_NEXT))
				return 0;
			index = d.next;
		}
		if (err)
			return err;
	}
}

int virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain)
{
	uint16_t count = available_count(q), entry = q->next_available & (q->config.size - 1u);
	int err;

	if (count == 0 && q->config.event_index)
		count = available_await(q);
	if (count == 0)
		return 0;
	/* A buffer has at least one descriptor of its own until it is given back. */
	if (count > q->config.size - q->inflight)
		return -PANGEA_EDRIVER;
	err = chain_read(
		q, field16_read(q, q->config.driver + AVAIL_RING + (uint64_t)AVAIL_ENTRY * entry),
		chain);
	if (err)
		return err;
	q->next_available++;
	q->inflight++;
	return 1;
}

void virtqueue_unpop(struct virtqueue *q)
{
	invariant(q->inflight > 0);
	q->next_available--;
	q->inflight--;
}

/* ---- giving them back ---- */

void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
	uint64_t entry = q->config.device + USED_RING +
			 (uint64_t)USED_ENTRY * (q->next_used & (q->config.size - 1u));

	invariant(q->inflight > 0);
	field32_write(q, entry, head);
	field32_write(q, entry + 4, written);
	q->next_used++;
	q->inflight--;
	/* Releases the entry, and the bytes that were written into the buffer. */
	__atomic_store_n(field16(q, q->config.device + USED_IDX), q->next_used, __ATOMIC_RELEASE);
	guest_memory_changed(q->mem, entry, USED_ENTRY);
	guest_memory_changed(q->mem, q->config.device, USED_RING);
}

/*
 * Section 2.7.10: an interrupt is due when the entry that used_event names is among those pushed
 * since we last looked. The fence puts our index before the look, as the driver's puts its event
 * before its look at the index.
 */
bool virtqueue_interrupt_wanted(struct virtqueue *q)
{
	uint16_t pushed = (uint16_t)(q->next_used - q->told_used), event;

	if (pushed == 0)
		return false;
	q->told_used = q->next_used;
	atomic_thread_fence(memory_order_seq_cst);
	if (!q->config.event_index)
		return !(field16_read(q, q->config.driver) & AVAIL_F_NO_INTERRUPT);
	event = field16_read(q, used_event_gpa(q));
	return (uint16_t)(q->next_used - event - 1) < pushed;
}

/* ---- their bytes ---- */

void virtqueue_chain_copy(struct virtqueue_chain *to, const struct virtqueue_chain *from)
{
	size_t segments = from->out_count + from->in_count;

	memcpy(to, from, offsetof(struct virtqueue_chain, segment));
	memcpy(to->segment, from->segment, segments * sizeof(from->segment[0]));
}

uint32_t virtqueue_read(const struct virtqueue_chain *chain, uint32_t offset, void *out,
			uint32_t len)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < chain->out_count && done < len; i++) {
		const struct virtqueue_segment *s = &chain->segment[i];
		uint32_t here;

		if (offset >= s->len) {
			offset -= s->len;
			continue;
		}
		here = s->len - offset < len - done ? s->len - offset : len - done;
		memcpy((uint8_t *)out + done, s->base + offset, here);
		done += here;
		offset = 0;
	}
	return done;
}

uint32_t virtqueue_write(const struct virtqueue *q, const struct virtqueue_chain *chain,
			 uint32_t offset, const void *bytes, uint32_t len)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < chain->in_count && done < len; i++) {
		const struct virtqueue_segment *s = &chain->segment[chain->out_count + i];
		uint32_t here;

		if (offset >= s->len) {
			offset -= s->len;
			continue;
		}
		here = s->len - offset < len - done ? s->len - offset : len - done;
		if (s->base) {
			memcpy(q->mem->ram + s->gpa + offset, (const uint8_t *)bytes + done, here);
			guest_memory_changed(q->mem, s->gpa + offset, here);
		}
		done += here;
		offset = 0;
	}
	return done;
}
