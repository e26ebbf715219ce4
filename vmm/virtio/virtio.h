/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device without its bus: features, status, queues, and the thread that does its work (virtio 1.2). */
#ifndef VMM_VIRTIO_H
#define VMM_VIRTIO_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/guest_memory.h"
#include "vmm/virtio/virtqueue.h"

#define VIRTIO_QUEUES_MAX 16u
#define VIRTIO_POLL_MAX	  20u
/* The longest device configuration. */
#define VIRTIO_CONFIG_MAX 256u

/* Section 6. The first two are the driver's choice, the third is always asked for. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

/* Section 2.1. */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER	  2u
#define VIRTIO_STATUS_DRIVER_OK	  4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED	  128u

#define VIRTIO_ID_NET	  1u
#define VIRTIO_ID_BLK	  2u
#define VIRTIO_ID_CONSOLE 3u
#define VIRTIO_ID_RNG	  4u
#define VIRTIO_ID_FS	  26u

struct virtio;

/*
 * What a type of device does. Its functions are called on the device's own thread, one at a time, unless said
 * otherwise. They may touch guest memory, and so may wait in a page fault; they must not wait for anything else
 * without a deadline. `dev` belongs to the type.
 */
struct virtio_ops {
	const char *name; /* "blk" */
	uint16_t id;	  /* VIRTIO_ID_... */
	/*
	 * Reads size bytes of the device's configuration from offset on (within config_size); any thread, the engine's
	 * too: must not block for long, nor touch guest memory. NULL: there is none.
	 */
	void (*config_read)(void *dev, unsigned offset, unsigned size, uint8_t *out);
	/*
	 * The driver is ready: virtio_features and virtio_queue tell what it chose. Returns 0, or a negative code: the
	 * device then needs a reset.
	 */
	int (*start)(void *dev, struct virtio *v);
	/*
	 * What to wait for besides the driver's notifications: fills fds (VIRTIO_POLL_MAX) and returns how many; sets
	 * *timeout_ms (-1: none). May be NULL: nothing.
	 */
	unsigned (*poll)(void *dev, struct virtio *v, struct pollfd *fds, int *timeout_ms);
	/*
	 * There may be work: queues that the driver notified (a bit set), descriptors that are ready, or time has gone
	 * by. Also called once after start with all queues. Returns 0, or a negative code: the device needs a reset, and
	 * stop comes next.
	 */
	int (*work)(void *dev, struct virtio *v, uint32_t notified);
	/* The driver resets the device, or the VM has ended: nothing of guest memory is touched any more. */
	void (*stop)(void *dev, struct virtio *v);
	/* The end; the thread is gone. May be NULL. */
	void (*destroy)(void *dev);
};

/* A device to be. */
struct virtio_device {
	const struct virtio_ops *ops;
	void *dev;     /* goes over to the machine that takes it */
	char name[32]; /* for the log: "disk0" */
	uint64_t
		features; /* offered, VERSION_1, EVENT_IDX and INDIRECT_DESC excepted: all offer these */
	unsigned queues;      /* at most VIRTIO_QUEUES_MAX */
	uint16_t queue_size;  /* at most VIRTQUEUE_SIZE_MAX */
	unsigned config_size; /* at most VIRTIO_CONFIG_MAX */
};

/* ---- for the type, on the device's thread ---- */

/* What was negotiated. */
uint64_t virtio_features(const struct virtio *v);
/* A queue, or NULL: the driver did not enable it. */
struct virtqueue *virtio_queue(struct virtio *v, unsigned index);
/* Interrupts the driver for this queue if it wants that: after a batch of pushes. */
void virtio_interrupt(struct virtio *v, unsigned index);
/* The configuration has changed: tells the driver. Any thread. */
void virtio_config_changed(struct virtio *v);
const char *virtio_name(const struct virtio *v);

#endif
