/* SPDX-License-Identifier: Apache-2.0 */
/* Block devices before a back end that lies, waits, or lacks something: the device keeps its promises. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/virtio/blk_rig.h"
#include "tests/unit/virtio/fake_back_end.h"
#include "vmm/vhost/shadow_queue.h"
#include "vmm/vhost/vhost_user.h"

#define SECTORS 100000u

static struct fake_back_end fake;
static struct blk_rig rig;

/* ---- no back end that one could use ---- */

static int create(unsigned queues)
{
	struct virtio_blk_config config = {.name = "disk", .queues = queues};
	struct virtio_device device;
	int err;

	config.fd = fake_start(&fake);
	err = virtio_blk_create(&config, &device);
	if (!err)
		device.ops->destroy(device.dev);
	fake_settle(&fake);
	fake_close(&fake);
	return err;
}

static int create_from(enum fake_fault fault)
{
	fake_init(&fake, SECTORS);
	fake.fault = fault;
	return create(1);
}

Test(blk_create, takes_a_good_one)
{
	cr_assert_eq(create_from(FAKE_NONE), 0);
	cr_assert_eq(create_from(FAKE_SENDS_FILES), 0);
}

Test(blk_create, refuses_one_that_does_not_talk)
{
	cr_assert_eq(create_from(FAKE_SILENT), -ETIMEDOUT);
	cr_assert_eq(create_from(FAKE_CLOSES), -PANGEA_EPEERLOST);
	cr_assert_eq(create_from(FAKE_HALF_ANSWER), -PANGEA_EPEERLOST);
}

Test(blk_create, refuses_one_that_talks_nonsense)
{
	cr_assert_eq(create_from(FAKE_OTHER_REQUEST), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_from(FAKE_NO_REPLY_FLAG), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_from(FAKE_LONG_ANSWER), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_from(FAKE_NO_CONFIG), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_from(FAKE_REFUSES_MEMORY), -PANGEA_EPROTOCOL);
}

static int create_without(uint64_t features, uint64_t protocol)
{
	fake_init(&fake, SECTORS);
	fake.features &= ~features;
	fake.protocol &= ~protocol;
	return create(2);
}

Test(blk_create, refuses_one_that_lacks_what_is_needed)
{
	cr_assert_eq(create_without(VHOST_USER_F_PROTOCOL_FEATURES, 0), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_without(VIRTIO_F_VERSION_1, 0), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_without(0, VHOST_USER_PROTOCOL_CONFIG), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_without(0, VHOST_USER_PROTOCOL_MQ), 0);
	cr_assert_eq(create_without(VIRTIO_F_EVENT_IDX, VHOST_USER_PROTOCOL_REPLY_ACK), 0);
	fake_init(&fake, SECTORS);
	fake.queues = 0;
	cr_assert_eq(create(1), -PANGEA_EPROTOCOL);
	cr_assert_eq(create_from(FAKE_NONE), 0);
}

Test(blk_create, refuses_blocks_that_cannot_be)
{
	const uint32_t sizes[] = {0, 1, 256, 513, 1536, 8192, UINT32_MAX};

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fake_init(&fake, SECTORS);
		memcpy(fake.config + 20, &sizes[i], 4);
		cr_assert_eq(create(1), -PANGEA_EPROTOCOL, "%u", sizes[i]);
	}
}

Test(blk_create, refuses_no_queues_and_too_many)
{
	fake_init(&fake, SECTORS);
	cr_assert_eq(create(0), -EINVAL);
	fake_init(&fake, SECTORS);
	cr_assert_eq(create(5), -EINVAL);
}

/* ---- what it is told ---- */

static void begin(unsigned queues, uint64_t driver_features)
{
	blk_rig_open(&rig, fake_start(&fake), false, queues, driver_features);
	fake_settle(&fake);
}

static void end(void)
{
	blk_rig_close(&rig);
	fake_close(&fake);
}

Test(blk_fake, sees_nothing_but_the_arena)
{
	uint8_t writeback;

	fake_init(&fake, SECTORS);
	begin(3, UINT64_MAX);
	cr_assert_eq(fake.memory_tables, 1);
	cr_assert_eq(fake.bytes, 3 * sizeof(struct shadow_memory));
	cr_assert_eq(fake.address, SHADOW_ADDRESS);
	cr_assert_eq(fake.protocol_set, VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_REPLY_ACK |
						VHOST_USER_PROTOCOL_CONFIG);
	cr_assert_eq(fake.features_set, fake.features & ~VIRTIO_BLK_F_CONFIG_WCE);
	cr_assert_not(rig.device.features & VIRTIO_BLK_F_CONFIG_WCE);
	blk_rig_config(&rig, 32, 1, &writeback);
	cr_assert_eq(writeback, 0);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(fake.ring[i].enabled, i < 3);
	/* No more queues than the back end has. */
	end();
	fake_init(&fake, SECTORS);
	fake.queues = 2;
	begin(4, UINT64_MAX);
	cr_assert_eq(rig.device.queues, 2);
	end();
}

/* Sends a request and takes it as the back end. */
static void pass(struct blk_op *op, unsigned queue, struct fake_request *request)
{
	blk_op_send(&rig, op, queue, 0);
	blk_rig_step(&rig, 0);
	cr_assert_not(op->done);
	cr_assert(fake_take(&fake, queue, request));
}

static void make_and_pass(struct blk_op *op, uint32_t type, uint32_t bytes,
			  struct fake_request *request)
{
	blk_op_make(&rig, op, type, 8, bytes);
	pass(op, 0, request);
}

Test(blk_fake, is_given_what_was_judged)
{
	struct fake_request request;
	struct blk_op op;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	blk_op_make(&rig, &op, VIRTIO_BLK_T_OUT, 8, 4096);
	memset(blk_op_data(&rig, &op), 0x61, 4096);
	pass(&op, 0, &request);
	/* The driver changes its mind too late. */
	memset(driver_at(&rig.ram.mem, op.header), 0xff, 16);
	memset(blk_op_data(&rig, &op), 0xff, 4096);
	cr_assert(request.type == VIRTIO_BLK_T_OUT && request.sector == 8);
	cr_assert(request.out_bytes == 4096 && request.in_bytes == 0);
	for (unsigned i = 0; i < 4096; i++)
		cr_assert_eq(request.out[i], 0x61);
	cr_assert_eq((uintptr_t)request.out % 4096, 0);
	cr_assert_gt(fake_kicks(&fake, 0), 0);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_OK);
	make_and_pass(&op, VIRTIO_BLK_T_FLUSH, 0, &request);
	cr_assert_eq(request.type, VIRTIO_BLK_T_FLUSH);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_op_wait(&rig, &op);
	end();
}

/* ---- answers ---- */

Test(blk_fake, data_of_a_failed_read_are_not_passed_on)
{
	struct fake_request request;
	struct blk_op op;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	make_and_pass(&op, VIRTIO_BLK_T_IN, 4096, &request);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_IOERR, 0xab);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(op.len, 0);
	cr_assert_eq(blk_op_data(&rig, &op)[0], 0);
	/* A status that there is none of. */
	make_and_pass(&op, VIRTIO_BLK_T_IN, 4096, &request);
	fake_finish(&fake, 0, &request, 77, 0xab);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_IOERR);
	make_and_pass(&op, VIRTIO_BLK_T_IN, 4096, &request);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0xab);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_OK);
	cr_assert_eq(op.len, 4097);
	cr_assert_eq(blk_op_data(&rig, &op)[4095], 0xab);
	end();
}

/* The back end's own ring says what cannot be: the request fails, and the device is as without a back end. */
static void lies(void (*lie)(const struct fake_request *request))
{
	struct fake_request request;
	struct blk_op op, late;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	make_and_pass(&op, VIRTIO_BLK_T_IN, 4096, &request);
	*request.status = VIRTIO_BLK_S_OK;
	lie(&request);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_IOERR);
	blk_op_make(&rig, &late, VIRTIO_BLK_T_IN, 0, 512);
	cr_assert_eq(blk_op_run(&rig, &late, 0), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(rig.failed, 0);
	cr_assert_lt(send(fake.fd, "x", 1, MSG_NOSIGNAL), 0, "the connection is over");
	end();
}

static void lie_of_another(const struct fake_request *request)
{
	fake_use(&fake, 0, request->head + 1u, 1);
}

static void lie_beyond(const struct fake_request *request)
{
	(void)request;
	fake_use(&fake, 0, SHADOW_RING, 1);
}

static void lie_far_beyond(const struct fake_request *request)
{
	(void)request;
	fake_use(&fake, 0, UINT32_MAX, 1);
}

static void lie_of_many(const struct fake_request *request)
{
	(void)request;
	fake_step(&fake, 0, 2);
}

static void lie_backwards(const struct fake_request *request)
{
	(void)request;
	fake_step(&fake, 0, UINT16_MAX);
}

static void lie_by_talking(const struct fake_request *request)
{
	(void)request;
	cr_assert_eq(write(fake.fd, "hello", 5), 5);
}

Test(blk_fake, is_not_believed)
{
	lies(lie_of_another);
	lies(lie_beyond);
	lies(lie_far_beyond);
	lies(lie_of_many);
	lies(lie_backwards);
	lies(lie_by_talking);
}

/* What it had done by then counts. */
Test(blk_fake, may_leave_after_its_work)
{
	struct fake_request first, second;
	struct blk_op one, two;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	make_and_pass(&one, VIRTIO_BLK_T_IN, 512, &first);
	make_and_pass(&two, VIRTIO_BLK_T_IN, 512, &second);
	fake_finish(&fake, 0, &second, VIRTIO_BLK_S_OK, 0x44);
	shutdown(fake.fd, SHUT_RDWR);
	blk_op_wait(&rig, &one);
	blk_op_wait(&rig, &two);
	cr_assert_eq(blk_op_status(&rig, &one), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(blk_op_status(&rig, &two), VIRTIO_BLK_S_OK);
	cr_assert_eq(blk_op_data(&rig, &two)[511], 0x44);
	end();
}

/* One that says twice that it did the same. */
Test(blk_fake, may_not_answer_twice)
{
	struct fake_request first, second;
	struct blk_op one, two;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	make_and_pass(&one, VIRTIO_BLK_T_IN, 512, &first);
	make_and_pass(&two, VIRTIO_BLK_T_IN, 512, &second);
	fake_finish(&fake, 0, &first, VIRTIO_BLK_S_OK, 1);
	fake_finish(&fake, 0, &first, VIRTIO_BLK_S_OK, 2);
	blk_op_wait(&rig, &two);
	cr_assert_eq(blk_op_status(&rig, &one), VIRTIO_BLK_S_OK);
	cr_assert_eq(blk_op_status(&rig, &two), VIRTIO_BLK_S_IOERR);
	end();
}

/* ---- caches ---- */

/* A driver that did not take FLUSH never asks: each write is made durable before it is answered. */
Test(blk_fake, flushes_for_a_driver_that_cannot)
{
	struct fake_request request, flush;
	struct blk_op op;

	fake_init(&fake, SECTORS);
	begin(1, ~VIRTIO_BLK_F_FLUSH);
	make_and_pass(&op, VIRTIO_BLK_T_OUT, 4096, &request);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_rig_step(&rig, 0);
	cr_assert_not(op.done);
	cr_assert(fake_take(&fake, 0, &flush));
	cr_assert_eq(flush.type, VIRTIO_BLK_T_FLUSH);
	cr_assert_gt(fake_kicks(&fake, 0), 0);
	fake_finish(&fake, 0, &flush, VIRTIO_BLK_S_OK, 0);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_OK);
	/* A flush that fails is a write that failed; so is a write that failed at once. */
	make_and_pass(&op, VIRTIO_BLK_T_OUT, 4096, &request);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_rig_step(&rig, 0);
	cr_assert(fake_take(&fake, 0, &flush));
	fake_finish(&fake, 0, &flush, VIRTIO_BLK_S_IOERR, 0);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_IOERR);
	make_and_pass(&op, VIRTIO_BLK_T_OUT, 4096, &request);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_IOERR, 0);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_IOERR);
	/* Reads need none. */
	make_and_pass(&op, VIRTIO_BLK_T_IN, 4096, &request);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_op_wait(&rig, &op);
	cr_assert_not(fake_take(&fake, 0, &request));
	end();
}

Test(blk_fake, flushes_many_writes_each)
{
	struct fake_request request[20];
	struct blk_op op[20];

	fake_init(&fake, SECTORS);
	begin(1, ~VIRTIO_BLK_F_FLUSH);
	for (unsigned i = 0; i < 20; i++)
		make_and_pass(&op[i], VIRTIO_BLK_T_OUT, 4096, &request[i]);
	/* The numbers of requests that are done are taken up again in another order. */
	for (unsigned i = 20; i-- > 0;)
		fake_finish(&fake, 0, &request[i], VIRTIO_BLK_S_OK, 0);
	blk_rig_step(&rig, 0);
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_not(op[i].done);
		cr_assert(fake_take(&fake, 0, &request[i]));
		cr_assert_eq(request[i].type, VIRTIO_BLK_T_FLUSH);
		fake_finish(&fake, 0, &request[i], VIRTIO_BLK_S_OK, 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		blk_op_wait(&rig, &op[i]);
		cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_OK);
	}
	end();
}

/* ---- resets, and room ---- */

Test(blk_fake, answers_of_before_a_reset_reach_nobody)
{
	struct fake_request old[2], request;
	struct blk_op before[2], after;

	fake_init(&fake, SECTORS);
	begin(2, UINT64_MAX);
	make_and_pass(&before[0], VIRTIO_BLK_T_IN, 4096, &old[0]);
	make_and_pass(&before[1], VIRTIO_BLK_T_OUT, 4096, &old[1]);
	blk_rig_reset(&rig);
	blk_op_make(&rig, &after, VIRTIO_BLK_T_OUT, 0, 512);
	blk_op_send(&rig, &after, 1, 0);
	blk_rig_step(&rig, 0);
	cr_assert_not(fake_take(&fake, 1, &request), "the old ones come first");
	/* Another reset changes nothing of that. */
	blk_rig_reset(&rig);
	blk_op_send(&rig, &after, 1, 0);
	fake_finish(&fake, 0, &old[0], VIRTIO_BLK_S_OK, 0x99);
	blk_rig_step(&rig, 0);
	cr_assert_not(fake_take(&fake, 1, &request));
	fake_finish(&fake, 0, &old[1], VIRTIO_BLK_S_OK, 0);
	blk_rig_step(&rig, 0);
	cr_assert(fake_take(&fake, 1, &request));
	fake_finish(&fake, 1, &request, VIRTIO_BLK_S_OK, 0);
	blk_op_wait(&rig, &after);
	cr_assert_eq(blk_op_status(&rig, &after), VIRTIO_BLK_S_OK);
	cr_assert_eq(blk_op_status(&rig, &before[0]), 0xee);
	cr_assert_eq(blk_op_data(&rig, &before[0])[0], 0);
	end();
}

Test(blk_fake, back_end_that_dies_after_a_reset_holds_up_nobody)
{
	struct fake_request old;
	struct blk_op before, after;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	make_and_pass(&before, VIRTIO_BLK_T_IN, 4096, &old);
	blk_rig_reset(&rig);
	shutdown(fake.fd, SHUT_RDWR);
	blk_op_make(&rig, &after, VIRTIO_BLK_T_OUT, 0, 512);
	cr_assert_eq(blk_op_run(&rig, &after, 0), VIRTIO_BLK_S_IOERR);
	end();
}

/* Small requests: all that the shadow queue takes are under way, the others stay in the driver's queue; any order of
 * the answers frees room. */
Test(blk_fake, holds_no_more_than_it_has_room_for)
{
	static struct fake_request request[VIRTQUEUE_SIZE_MAX];
	static struct blk_op op[VIRTQUEUE_SIZE_MAX];
	unsigned taken = 0, done = 0, answered;

	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	for (unsigned i = 0; i < VIRTQUEUE_SIZE_MAX; i++) {
		blk_op_make(&rig, &op[i], VIRTIO_BLK_T_IN, i, 512);
		blk_op_send(&rig, &op[i], 0, 0);
	}
	blk_rig_step(&rig, 0);
	while (done < VIRTQUEUE_SIZE_MAX) {
		while (taken < VIRTQUEUE_SIZE_MAX && fake_take(&fake, 0, &request[taken]))
			taken++;
		cr_assert_leq(taken - done, SHADOW_RING / 3);
		cr_assert_gt(taken, done);
		/* The last first. */
		for (unsigned i = taken; i-- > done;)
			fake_finish(&fake, 0, &request[i], VIRTIO_BLK_S_OK,
				    (uint8_t)request[i].sector);
		done = taken;
		blk_rig_step(&rig, 0);
	}
	answered = 0;
	for (unsigned i = 0; i < VIRTQUEUE_SIZE_MAX; i++) {
		answered += op[i].done;
		cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_OK);
		cr_assert_eq(blk_op_data(&rig, &op[i])[511], (uint8_t)i);
	}
	cr_assert_eq(answered, VIRTQUEUE_SIZE_MAX);
	end();
}

/* ---- another back end in its place ---- */

static struct fake_back_end other;
static unsigned lost;

static void count(void *ctx)
{
	cr_assert_eq(ctx, &lost);
	lost++;
}

static void begin_replaceable(void)
{
	fake_init(&fake, SECTORS);
	blk_rig_open_replaceable(&rig, fake_start(&fake), 2, count, &lost);
	fake_settle(&fake);
}

/* Offers `other`, and lets the device look at it. */
static void offer_other(void)
{
	cr_assert_eq(virtio_blk_replace(rig.device.dev, fake_start(&other)), 0);
	blk_rig_step(&rig, 0);
	fake_settle(&other);
}

static void end_both(void)
{
	fake_close(&other);
	end();
}

Test(blk_replace, does_all_of_a_request_again)
{
	struct fake_request request, again;
	struct blk_op write, read, late;

	begin_replaceable();
	/* A write that was done, and was being flushed. */
	blk_op_make(&rig, &write, VIRTIO_BLK_T_OUT, 8, 4096);
	memset(blk_op_data(&rig, &write), 0x3c, 4096);
	pass(&write, 0, &request);
	make_and_pass(&read, VIRTIO_BLK_T_IN, 512, &again);
	fake_finish(&fake, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_rig_step(&rig, 0);
	cr_assert(fake_take(&fake, 0, &request));
	cr_assert_eq(request.type, VIRTIO_BLK_T_FLUSH);
	cr_assert_not(write.done);
	shutdown(fake.fd, SHUT_RDWR);
	blk_rig_step(&rig, 0);
	cr_assert_eq(lost, 1);
	blk_op_make(&rig, &late, VIRTIO_BLK_T_IN, 0, 512);
	blk_op_send(&rig, &late, 1, 0);
	blk_rig_step(&rig, 0);
	cr_assert_not(write.done || read.done || late.done);
	fake_init(&other, SECTORS);
	offer_other();
	for (unsigned i = 0; i < 2; i++) {
		cr_assert(fake_take(&other, 0, &request));
		if (request.type == VIRTIO_BLK_T_OUT) {
			cr_assert(request.sector == 8 && request.out_bytes == 4096);
			cr_assert(request.out[0] == 0x3c && request.out[4095] == 0x3c);
		} else {
			cr_assert_eq(request.type, VIRTIO_BLK_T_IN);
		}
		/* What the old one writes now reaches nobody. */
		memset(again.in, 0xbb, 512);
		fake_finish(&other, 0, &request, VIRTIO_BLK_S_OK, 0x2d);
	}
	cr_assert(fake_take(&other, 1, &request));
	fake_finish(&other, 1, &request, VIRTIO_BLK_S_OK, 0x2d);
	blk_op_wait(&rig, &read);
	blk_op_wait(&rig, &late);
	cr_assert_eq(blk_op_data(&rig, &read)[511], 0x2d);
	cr_assert_not(write.done);
	cr_assert(fake_take(&other, 0, &request));
	cr_assert_eq(request.type, VIRTIO_BLK_T_FLUSH);
	fake_finish(&other, 0, &request, VIRTIO_BLK_S_OK, 0);
	blk_op_wait(&rig, &write);
	cr_assert_eq(blk_op_status(&rig, &write), VIRTIO_BLK_S_OK);
	cr_assert_eq(lost, 1);
	end_both();
}

/* As many as there can be, given back in an order that leaves gaps. */
Test(blk_replace, has_room_for_all_that_was_under_way)
{
	static struct blk_op op[120];
	struct fake_request request[120];
	unsigned taken = 0, seen = 0;

	begin_replaceable();
	for (unsigned i = 0; i < 120; i++) {
		blk_op_make(&rig, &op[i], VIRTIO_BLK_T_IN, i, 512 + i % 9 * 4096);
		blk_op_send(&rig, &op[i], 0, 0);
	}
	blk_rig_step(&rig, 0);
	while (fake_take(&fake, 0, &request[taken]))
		taken++;
	cr_assert_eq(taken, SHADOW_RING / 3);
	for (unsigned i = 0; i < taken; i += 2)
		fake_finish(&fake, 0, &request[i], VIRTIO_BLK_S_OK, 1);
	blk_rig_step(&rig, 0);
	shutdown(fake.fd, SHUT_RDWR);
	blk_rig_step(&rig, 0);
	cr_assert_eq(lost, 1);
	fake_init(&other, SECTORS);
	offer_other();
	for (;;) {
		struct fake_request r;

		while (fake_take(&other, 0, &r)) {
			fake_finish(&other, 0, &r, VIRTIO_BLK_S_OK, 1);
			seen++;
		}
		if (seen == 120 - (taken + 1) / 2)
			break;
		blk_rig_step(&rig, 1000);
	}
	for (unsigned i = 0; i < 120; i++) {
		blk_op_wait(&rig, &op[i]);
		cr_assert_eq(blk_op_status(&rig, &op[i]), VIRTIO_BLK_S_OK);
	}
	end_both();
}

static void other_is_refused(const char *why)
{
	unsigned before = lost;

	offer_other();
	cr_assert_eq(lost, before + 1, "%s", why);
	fake_close(&other);
	fake_init(&other, SECTORS);
}

Test(blk_replace, takes_no_other_disk)
{
	struct fake_request request;
	uint32_t block = 4096;
	struct blk_op op;

	begin_replaceable();
	make_and_pass(&op, VIRTIO_BLK_T_OUT, 512, &request);
	shutdown(fake.fd, SHUT_RDWR);
	blk_rig_step(&rig, 0);
	fake_init(&other, SECTORS + 1);
	other_is_refused("size");
	other.queues = 1;
	other_is_refused("queues");
	other.features &= ~VIRTIO_BLK_F_DISCARD;
	other_is_refused("features");
	other.features |= VIRTIO_BLK_F_RO;
	other_is_refused("read-only");
	memcpy(other.config + 20, &block, 4);
	other_is_refused("blocks");
	other.fault = FAKE_CLOSES;
	other_is_refused("connection");
	other.fault = FAKE_REFUSES_MEMORY;
	other_is_refused("memory");
	cr_assert_not(op.done);
	offer_other();
	cr_assert(fake_take(&other, 0, &request));
	end_both();
}

Test(blk_replace, may_be_given_up)
{
	struct fake_request request;
	struct blk_op op, late;

	begin_replaceable();
	make_and_pass(&op, VIRTIO_BLK_T_OUT, 512, &request);
	shutdown(fake.fd, SHUT_RDWR);
	blk_rig_step(&rig, 0);
	cr_assert_not(op.done);
	cr_assert_eq(virtio_blk_replace(rig.device.dev, -1), 0);
	blk_op_wait(&rig, &op);
	cr_assert_eq(blk_op_status(&rig, &op), VIRTIO_BLK_S_IOERR);
	blk_op_make(&rig, &late, VIRTIO_BLK_T_IN, 0, 512);
	cr_assert_eq(blk_op_run(&rig, &late, 1), VIRTIO_BLK_S_IOERR);
	end();
}

/* A driver that resets the device while it waits has nothing under way any more. */
Test(blk_replace, forgets_what_a_reset_has_dropped)
{
	struct fake_request request;
	struct blk_op old, fresh;

	begin_replaceable();
	make_and_pass(&old, VIRTIO_BLK_T_OUT, 512, &request);
	shutdown(fake.fd, SHUT_RDWR);
	blk_rig_step(&rig, 0);
	blk_rig_reset(&rig);
	blk_op_make(&rig, &fresh, VIRTIO_BLK_T_IN, 9, 512);
	blk_op_send(&rig, &fresh, 0, 0);
	fake_init(&other, SECTORS);
	offer_other();
	cr_assert(fake_take(&other, 0, &request));
	cr_assert(request.type == VIRTIO_BLK_T_IN && request.sector == 9);
	fake_finish(&other, 0, &request, VIRTIO_BLK_S_OK, 4);
	blk_op_wait(&rig, &fresh);
	cr_assert_eq(blk_op_status(&rig, &old), 0xee);
	end_both();
}

Test(blk_replace, is_nothing_for_others)
{
	fake_init(&fake, SECTORS);
	begin(1, UINT64_MAX);
	fake_init(&other, SECTORS);
	cr_assert_eq(virtio_blk_replace(rig.device.dev, fake_start(&other)), -EINVAL);
	fake_settle(&other);
	cr_assert_eq(virtio_blk_replace(rig.device.dev, -1), -EINVAL);
	end_both();
	/* One that is offered and never taken goes with the device. */
	begin_replaceable();
	fake_init(&other, SECTORS);
	cr_assert_eq(virtio_blk_replace(rig.device.dev, fake_start(&other)), 0);
	end();
	fake_settle(&other);
	cr_assert_lt(send(other.fd, "x", 1, MSG_NOSIGNAL), 0);
	fake_close(&other);
}
