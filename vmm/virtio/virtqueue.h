/* SPDX-License-Identifier: Apache-2.0 */
/* The device's side of a split virtqueue in guest memory (virtio 1.2, section 2.7). */
#ifndef VMM_VIRTQUEUE_H
#define VMM_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/guest_memory.h"

#define VIRTQUEUE_SIZE_MAX 256u
/* The segments of one chain, indirect ones too: no chain that a driver may make has more (a chain is no longer than
 * its queue, and neither is a table that it points to, section 2.7.5.3.1). */
#define VIRTQUEUE_SEGMENTS_MAX VIRTQUEUE_SIZE_MAX
/* The bytes of one chain: more than any driver sends at once, and small beside what a sum could overflow. */
#define VIRTQUEUE_CHAIN_BYTES_MAX (UINT32_C(64) << 20)

struct virtqueue_config {
	uint16_t size;			      /* a power of two, at most VIRTQUEUE_SIZE_MAX */
	uint64_t descriptors, driver, device; /* guest physical */
	bool event_index;		      /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;			      /* VIRTIO_F_INDIRECT_DESC was */
};

/* One piece of a buffer. It may cross pages, so touching it may fault several times. What is to be sent may lie in a
 * read-only image; what is to be filled and does has no base: bytes for it are dropped. */
struct virtqueue_segment {
	const uint8_t *base;
	uint64_t gpa;
	uint32_t len; /* not 0 */
};

/* A buffer: what the driver sends, then what it wants filled (section 2.7.4.2). */
struct virtqueue_chain {
	uint16_t head;
	unsigned out_count, in_count; /* segment[0..out_count), then in_count more */
	uint32_t out_bytes, in_bytes;
	bool refused; /* a segment to be filled lies in an image: the request cannot be done */
	struct virtqueue_segment segment[VIRTQUEUE_SEGMENTS_MAX];
};

/* The thread of its device alone uses a queue. */
struct virtqueue {
	struct virtqueue_config config;
	const struct guest_memory *mem;
	uint16_t next_available; /* the next entry of the available ring */
	uint16_t next_used;
	uint16_t told_used; /* next_used when it was last asked whether to interrupt */
	uint16_t inflight;  /* taken out and not yet given back */
};

/*
 * Takes up a queue that the driver has set up. -EINVAL: a size that is none, or rings that are misaligned or do not
 * lie in RAM as a whole. Touches no guest memory.
 */
int virtqueue_init(struct virtqueue *q, const struct virtqueue_config *config,
		   const struct guest_memory *mem);
/*
 * Takes the next buffer out: 1, or 0 when there is none (the driver is then asked to say when there is one), or
 * -PANGEA_EDRIVER: what stands in the rings is no buffer (an index beyond the queue, a loop, an address outside of
 * RAM, an empty segment, a readable one behind a writable one, more buffers than the queue has): the device needs a
 * reset. Every field is read from guest memory once.
 */
int virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *chain);
/* Puts back what was taken out last, as if it never had been. */
void virtqueue_unpop(struct virtqueue *q);
/* Gives a buffer back; written: how many bytes of it were filled, from the start of its in-part. */
void virtqueue_push(struct virtqueue *q, uint16_t head, uint32_t written);
/* Whether the driver wants to be interrupted for what was pushed since this was last asked. */
bool virtqueue_interrupt_wanted(struct virtqueue *q);

/* Copies a chain: no more of it than it has. */
void virtqueue_chain_copy(struct virtqueue_chain *to, const struct virtqueue_chain *from);
/* Copies from the out-part (at offset) or into the in-part; returns how many bytes there were, at most len. */
uint32_t virtqueue_read(const struct virtqueue_chain *chain, uint32_t offset, void *out,
			uint32_t len);
uint32_t virtqueue_write(const struct virtqueue *q, const struct virtqueue_chain *chain,
			 uint32_t offset, const void *bytes, uint32_t len);

#endif
