/* SPDX-License-Identifier: Apache-2.0 */
/* A block device without a bus: its thread is the test's, its driver too, its back end whatever is at the socket. */
#ifndef TESTS_UNIT_VIRTIO_BLK_RIG_H
#define TESTS_UNIT_VIRTIO_BLK_RIG_H

#include "tests/unit/virtio/driver.h"
#include "tests/unit/virtio/fake_bus.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_blk.h"

#define RIG_SEGMENTS 256u

/* A request of the driver's: header, data and status lie in guest memory of its own. */
struct blk_op {
	uint32_t type;
	uint64_t sector;
	unsigned queue;
	uint64_t header, data, status_at; /* gpa */
	uint32_t bytes;			  /* of data */
	bool done;
	uint32_t len; /* as the used ring has it */
};

struct blk_rig {
	struct driver_ram ram;
	struct virtio v;
	struct virtio_device device;
	struct driver_queue queue[FAKE_BUS_QUEUES];
	struct blk_op *op[FAKE_BUS_QUEUES][VIRTQUEUE_SIZE_MAX]; /* by head */
	uint32_t notified;
	uint64_t next; /* guest memory that no request has had */
	int failed;    /* what work said, when it was not 0 */
};

/* Makes the device, which must work; features: what the driver takes of those offered. */
void blk_rig_open(struct blk_rig *rig, int fd, bool readonly, unsigned queues, uint64_t features);
/* The same with a back end that may be replaced; on_lost as the device has it. */
void blk_rig_open_replaceable(struct blk_rig *rig, int fd, unsigned queues,
			      void (*on_lost)(void *ctx), void *ctx);
void blk_rig_close(struct blk_rig *rig);
/* The driver resets the device, forgets all requests and starts it again. */
void blk_rig_reset(struct blk_rig *rig);

/* Guest memory for a request; its bytes may be filled before it is sent. */
void blk_op_make(struct blk_rig *rig, struct blk_op *op, uint32_t type, uint64_t sector,
		 uint32_t bytes);
uint8_t *blk_op_data(const struct blk_rig *rig, const struct blk_op *op);
uint8_t blk_op_status(const struct blk_rig *rig, const struct blk_op *op);
/* Sends it, its data in segments of `segment` bytes (0: one). */
void blk_op_send(struct blk_rig *rig, struct blk_op *op, unsigned queue, uint32_t segment);
/* One round of the device's thread: waits at most so long. */
void blk_rig_step(struct blk_rig *rig, int timeout_ms);
/* Until it is answered; the test fails after 20 s. */
void blk_op_wait(struct blk_rig *rig, struct blk_op *op);
/* All of it: returns the status. */
uint8_t blk_op_run(struct blk_rig *rig, struct blk_op *op, unsigned queue);
/* The device's configuration. */
void blk_rig_config(const struct blk_rig *rig, unsigned offset, unsigned size, void *out);

#endif
