/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the block device share: its state, and the configuration that a driver reads. */
#ifndef VMM_VIRTIO_BLK_PARTS_H
#define VMM_VIRTIO_BLK_PARTS_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

#include "vmm/vhost/shadow_queue.h"
#include "vmm/vhost/vhost_user.h"
#include "vmm/virtio/virtio_blk.h"

/* Section 5.2.4, little-endian. */
struct virtio_blk_space {
	uint64_t capacity; /* sectors */
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};

/* Without the padding. */
#define BLK_SPACE_BYTES 60u

static_assert(offsetof(struct virtio_blk_space, unused1) + 3 == BLK_SPACE_BYTES,
	      "the configuration's layout");

/* Section 5.2.6: how a request begins. */
struct virtio_blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

static_assert(sizeof(struct virtio_blk_header) == 16, "the header's layout");

/* Section 5.2.6: what a discard and a write of zeroes are about. */
#define BLK_RANGE_BYTES 16u
#define BLK_RANGES_MAX	256u

/* A request that the back end has. */
struct blk_request {
	bool busy;
	bool dropped; /* the driver has reset the device: nobody waits for it */
	bool flushes; /* the write is done, and this makes it durable */
	struct virtio_blk_header header;
	struct virtqueue_chain chain;
};

/* Values of virtio_blk.offered_fd that are no descriptor. */
#define BLK_NO_OFFER (-1)
#define BLK_GIVE_UP  (-2)

/* The device's thread has all of it once it is made; name, features and space are constant. */
struct virtio_blk {
	char name[32];
	bool readonly, replaceable;
	void (*on_lost)(void *ctx);
	void *ctx;
	uint64_t features; /* offered to the driver */
	struct virtio_blk_space space;
	unsigned queues;
	struct vhost_user back_end;
	bool lost;		/* the back end */
	bool waits;		/* for another one, and with it all requests */
	_Atomic int offered_fd; /* virtio_blk_replace's, from any thread */
	bool told_too_long;
	int call_fd; /* any queue's */
	struct shadow_arena arena;
	struct shadow_queue shadow[SHADOW_QUEUES_MAX];
	/* The same number as the shadow queue's. */
	struct blk_request request[SHADOW_QUEUES_MAX][SHADOW_REQUESTS];
	unsigned dropped; /* requests of before a reset that the back end still has */
	uint64_t driver_features;
	uint32_t waiting; /* queues that may have buffers: a bit set */
	bool more;	  /* one of them has, and nothing else will wake us */
	struct virtqueue_chain chain;
};

/* virtio_blk_create.c: a connection on which the back end has said what it is. Errors as vhost_user.h has them. */
int virtio_blk_back_end_open(const struct virtio_blk *b, int fd, struct vhost_user *u,
			     struct virtio_blk_space *space);
/* Whether it can take the place of the one that the driver knows; says why not. */
bool virtio_blk_back_end_suits(const struct virtio_blk *b, const struct vhost_user *u,
			       const struct virtio_blk_space *space);
/* An arena and queues to b->back_end. 0 or a negative code, which was logged. */
int virtio_blk_queues_open(struct virtio_blk *b);
void virtio_blk_queues_close(struct virtio_blk *b);
/* virtio_blk_replace.c: takes up what virtio_blk_replace has offered to a device that waits. */
void virtio_blk_offer_take(struct virtio_blk *b, struct virtio *v);
/* virtio_blk.c: what the back end had is given to the one that took its place. */
void virtio_blk_resubmit(struct virtio_blk *b);
/* All requests that the back end had end with an error. Returns how many. */
unsigned virtio_blk_requests_fail(struct virtio_blk *b, struct virtio *v);
/* virtio_ops, in virtio_blk.c. */
int virtio_blk_start(void *dev, struct virtio *v);
unsigned virtio_blk_poll(void *dev, struct virtio *v, struct pollfd *fds, int *timeout_ms);
int virtio_blk_work(void *dev, struct virtio *v, uint32_t notified);
void virtio_blk_stop(void *dev, struct virtio *v);

#endif
