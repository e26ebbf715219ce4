/* SPDX-License-Identifier: Apache-2.0 */
/* The driver and the thread of a block device under test. */
#include "tests/unit/virtio/blk_rig.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"

#define WAIT_S 20

/* ---- the device ---- */

static void start(struct blk_rig *rig)
{
	memset(rig->op, 0, sizeof(rig->op));
	rig->v.queues = rig->device.queues;
	for (unsigned i = 0; i < rig->device.queues; i++) {
		driver_queue_init(&rig->queue[i], &rig->ram.mem, i, rig->device.queue_size, true);
		cr_assert_eq(virtqueue_init(&rig->v.queue[i], &rig->queue[i].config, &rig->ram.mem),
			     0);
	}
	cr_assert_eq(rig->device.ops->start(rig->device.dev, &rig->v), 0);
	rig->notified = UINT32_MAX;
	rig->failed = 0;
	blk_rig_step(rig, 0);
}

static void open_as(struct blk_rig *rig, const struct virtio_blk_config *config, uint64_t features)
{
	memset(rig, 0, sizeof(*rig));
	driver_ram_open(&rig->ram);
	rig->next = DRIVER_DATA;
	cr_assert_eq(virtio_blk_create(config, &rig->device), 0);
	cr_assert_eq(rig->device.features &
			     (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC),
		     0, "these are everybody's");
	rig->v.features = (rig->device.features & features) | VIRTIO_F_VERSION_1;
	start(rig);
}

void blk_rig_open(struct blk_rig *rig, int fd, bool readonly, unsigned queues, uint64_t features)
{
	const struct virtio_blk_config config = {
		.name = "disk", .fd = fd, .readonly = readonly, .queues = queues};

	open_as(rig, &config, features);
}

void blk_rig_open_replaceable(struct blk_rig *rig, int fd, unsigned queues,
			      void (*on_lost)(void *ctx), void *ctx)
{
	const struct virtio_blk_config config = {.name = "disk",
						 .fd = fd,
						 .queues = queues,
						 .replaceable = true,
						 .on_lost = on_lost,
						 .ctx = ctx};

	open_as(rig, &config, UINT64_MAX);
}

void blk_rig_reset(struct blk_rig *rig)
{
	rig->device.ops->stop(rig->device.dev, &rig->v);
	start(rig);
}

void blk_rig_close(struct blk_rig *rig)
{
	rig->device.ops->stop(rig->device.dev, &rig->v);
	rig->device.ops->destroy(rig->device.dev);
	driver_ram_close(&rig->ram);
}

void blk_rig_config(const struct blk_rig *rig, unsigned offset, unsigned size, void *out)
{
	cr_assert_leq(offset + size, rig->device.config_size);
	rig->device.ops->config_read(rig->device.dev, offset, size, out);
}

static void used_collect(struct blk_rig *rig)
{
	uint16_t head;
	uint32_t len;

	for (unsigned i = 0; i < rig->device.queues; i++)
		while (driver_used(&rig->queue[i], &head, &len)) {
			struct blk_op *op = rig->op[i][head];

			cr_assert_not_null(op);
			cr_assert_not(op->done);
			op->done = true;
			op->len = len;
			rig->op[i][head] = NULL;
		}
}

void blk_rig_step(struct blk_rig *rig, int timeout_ms)
{
	struct pollfd fds[VIRTIO_POLL_MAX];
	int most_ms = -1;
	unsigned count = rig->device.ops->poll(rig->device.dev, &rig->v, fds, &most_ms);
	uint32_t notified = rig->notified;

	if (notified)
		timeout_ms = 0;
	else if (most_ms >= 0 && most_ms < timeout_ms)
		timeout_ms = most_ms;
	cr_assert_geq(poll(fds, count, timeout_ms), 0);
	rig->notified = 0;
	if (!rig->failed)
		rig->failed = rig->device.ops->work(rig->device.dev, &rig->v, notified);
	used_collect(rig);
}

/* ---- requests ---- */

static uint64_t memory_take(struct blk_rig *rig, uint64_t bytes)
{
	uint64_t at = rig->next;

	rig->next += (bytes + PANGEA_PAGE_SIZE - 1) & ~(uint64_t)(PANGEA_PAGE_SIZE - 1);
	cr_assert_leq(rig->next, DRIVER_RAM_BYTES);
	return at;
}

void blk_op_make(struct blk_rig *rig, struct blk_op *op, uint32_t type, uint64_t sector,
		 uint32_t bytes)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {type, 0, sector};

	*op = (struct blk_op){.type = type, .sector = sector, .bytes = bytes};
	op->header = memory_take(rig, PANGEA_PAGE_SIZE);
	op->status_at = op->header + 64;
	op->data = memory_take(rig, bytes);
	memcpy(driver_at(&rig->ram.mem, op->header), &header, sizeof(header));
	memset(driver_at(&rig->ram.mem, op->status_at), 0xee, 1);
}

uint8_t *blk_op_data(const struct blk_rig *rig, const struct blk_op *op)
{
	return driver_at(&rig->ram.mem, op->data);
}

uint8_t blk_op_status(const struct blk_rig *rig, const struct blk_op *op)
{
	return *(uint8_t *)driver_at(&rig->ram.mem, op->status_at);
}

void blk_op_send(struct blk_rig *rig, struct blk_op *op, unsigned queue, uint32_t segment)
{
	struct driver_piece piece[RIG_SEGMENTS];
	bool in = op->type == VIRTIO_BLK_T_IN || op->type == VIRTIO_BLK_T_GET_ID;
	unsigned count = 0;
	uint16_t head;

	piece[count++] = (struct driver_piece){op->header, 16, false};
	for (uint32_t done = 0, len; done < op->bytes; done += len) {
		len = segment && op->bytes - done > segment ? segment : op->bytes - done;
		cr_assert_lt(count, RIG_SEGMENTS - 1);
		piece[count++] = (struct driver_piece){op->data + done, len, in};
	}
	piece[count++] = (struct driver_piece){op->status_at, 1, true};
	head = driver_add(&rig->queue[queue], piece, count, true);
	op->queue = queue;
	rig->op[queue][head] = op;
	rig->notified |= 1u << queue;
}

void blk_op_wait(struct blk_rig *rig, struct blk_op *op)
{
	uint64_t deadline_ns = clock_now_ns() + WAIT_S * NS_PER_S;

	while (!op->done) {
		cr_assert_lt(clock_now_ns(), deadline_ns, "no answer to a request of type %u",
			     op->type);
		cr_assert_eq(rig->failed, 0);
		blk_rig_step(rig, 100);
	}
}

uint8_t blk_op_run(struct blk_rig *rig, struct blk_op *op, unsigned queue)
{
	blk_op_send(rig, op, queue, 0);
	blk_op_wait(rig, op);
	return blk_op_status(rig, op);
}
