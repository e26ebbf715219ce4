/* SPDX-License-Identifier: Apache-2.0 */
/* One engine among peers that are bare sockets, which say what no engine would, or nothing. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/dsm/engine_rig.h"

static struct rig rig; /* each test runs in a process of its own */

/* Slice 0 is an engine; the others are to be rig_raw_join'ed. */
static void raw_up(unsigned slices)
{
	rig_init(&rig, slices);
	rig_create(&rig, 0);
	rig_connect(&rig, 0);
}

static void raw_send(int fd, struct wire_msg msg)
{
	uint8_t bytes[WIRE_HEADER_SIZE];

	msg.epoch = msg.epoch ? msg.epoch : 1;
	wire_msg_encode(&msg, bytes);
	cr_assert_eq(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), (ssize_t)sizeof(bytes));
}

/* The next message must be of this type; a page behind it is thrown away. */
static struct wire_msg raw_expect(int fd, unsigned type)
{
	uint8_t bytes[WIRE_HEADER_SIZE], page[WIRE_PAYLOAD_MAX];
	struct wire_msg msg = {0};

	cr_assert_eq(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), (ssize_t)sizeof(bytes));
	cr_assert_eq(wire_msg_decode(bytes, sizeof(bytes), &msg), 0);
	cr_assert_eq(msg.type, type, "%s came instead of %s", wire_type_name(msg.type),
		     wire_type_name(type));
	if (msg.payload_len)
		cr_assert_eq(recv(fd, page, msg.payload_len, MSG_WAITALL),
			     (ssize_t)msg.payload_len);
	return msg;
}

Test(engine_raw, machine_messages_of_another_epoch_are_dropped)
{
	int fd;

	raw_up(2);
	fd = rig_raw_join(&rig, 1);
	raw_send(fd, (struct wire_msg){.type = MSG_MACHINE_FIRST, .epoch = 7, .arg = 1});
	raw_send(fd, (struct wire_msg){.type = MSG_MACHINE_FIRST, .epoch = 1, .arg = 2});
	raw_send(fd, (struct wire_msg){.type = MSG_MACHINE_FIRST, .epoch = 2, .arg = 3});
	raw_send(fd, (struct wire_msg){.type = MSG_MACHINE_FIRST, .epoch = 1, .arg = 4});
	cr_assert(rig_until(&rig.slice[0].received, 2));
	cr_assert_eq(rig.slice[0].msgs[0].arg, 2);
	cr_assert_eq(rig.slice[0].msgs[1].arg, 4);
	cr_assert_eq(rig.slice[0].received, 2);
	cr_assert_eq(rig.slice[0].lost, 0, "a late message is nobody's fault");
	rig_down(&rig);
	close(fd);
}

/*
 * Slice 2 owns a page and asks for it all the same, while the home serves slice 1's read of it. The
 * request waits in the home's queue; that it is wrong is found when slice 1 says DONE.
 */
Test(engine_raw, a_wrong_request_that_waited_costs_its_sender_the_connection)
{
	struct wire_msg msg = {0};
	int one, two;

	raw_up(3);
	one = rig_raw_join(&rig, 1);
	two = rig_raw_join(&rig, 2);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	raw_send(two, (struct wire_msg){.type = MSG_GET_M, .requester = 2, .gfn = 5});
	raw_expect(two, MSG_DATA);
	raw_send(one, (struct wire_msg){.type = MSG_GET_S, .requester = 1, .gfn = 5});
	msg = raw_expect(two, MSG_FWD_S);
	cr_assert_eq(msg.requester, 1);
	raw_send(two, (struct wire_msg){.type = MSG_GET_S, .requester = 2, .gfn = 5});
	raw_send(two, (struct wire_msg){
			      .type = MSG_WB, .requester = 1, .gfn = 5, .flags = MSG_FLAG_ZERO});
	/* Both are here once the engine answers what comes behind them. */
	raw_send(two, (struct wire_msg){.type = MSG_GET_S, .requester = 2, .gfn = 6});
	raw_expect(two, MSG_DATA);
	raw_send(one, (struct wire_msg){.type = MSG_DONE, .requester = 1, .gfn = 5});
	cr_assert(rig_until(&rig.slice[0].lost, 1), "nobody is told of the violation");
	cr_assert_eq(rig.slice[0].lost_peer, 2, "slice %u", rig.slice[0].lost_peer);
	cr_assert_eq(rig.slice[0].lost_err, -PANGEA_EPROTOCOL);
	/* The connection of slice 1, which did nothing wrong, still carries what it says. */
	raw_send(one, (struct wire_msg){.type = MSG_MACHINE_FIRST, .arg = 1});
	cr_assert(rig_until(&rig.slice[0].received, 1));
	cr_assert_eq(rig.slice[0].lost, 1);
	rig_down(&rig);
	close(one);
	close(two);
}

/* A request for pages in a row is one of each: the answers are runs, as far as they are alike. */
Test(engine_raw, a_run_of_requests_is_answered_page_by_page)
{
	const unsigned flags = MSG_FLAG_ZERO | MSG_FLAG_EXCLUSIVE;
	struct wire_msg msg;
	int fd;

	raw_up(2);
	fd = rig_raw_join(&rig, 1);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	rig_write(&rig, 0, rig_page(0, 10), 7);
	raw_send(fd, (struct wire_msg){.type = MSG_GET_M, .requester = 1, .gfn = 5, .arg = 19});
	msg = raw_expect(fd, MSG_DATA);
	cr_assert(msg.gfn == 5 && msg.arg == 4 && msg.flags == flags);
	msg = raw_expect(fd, MSG_DATA);
	cr_assert(msg.gfn == 10 && msg.arg == 0 && msg.flags == MSG_FLAG_EXCLUSIVE);
	msg = raw_expect(fd, MSG_DATA);
	cr_assert(msg.gfn == 11 && msg.arg == 13 && msg.flags == flags);
	/* The last one is the peer's already: what comes before it is served, and no more. */
	raw_send(fd, (struct wire_msg){.type = MSG_GET_S, .requester = 1, .gfn = 3, .arg = 5});
	msg = raw_expect(fd, MSG_DATA);
	cr_assert(msg.gfn == 3 && msg.arg == 1 && msg.flags == MSG_FLAG_ZERO);
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert_eq(rig.slice[0].lost_err, -PANGEA_EPROTOCOL);
	rig_down(&rig);
	close(fd);
}

/* Pages beyond the end of memory are refused as they are one by one. */
Test(engine_raw, a_run_beyond_memory_costs_its_sender_the_connection)
{
	int fd;

	raw_up(2);
	fd = rig_raw_join(&rig, 1);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	raw_send(fd, (struct wire_msg){
			     .type = MSG_GET_M, .requester = 1, .gfn = UINT64_MAX - 3, .arg = 100});
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert_eq(rig.slice[0].lost_err, -PANGEA_EPROTOCOL);
	rig_down(&rig);
	close(fd);
}

/* ---- what waits for the bell ---- */

/* So many messages for each slice wait to be taken; the engine thread's, but for the first. */
static _Atomic unsigned bell_left[RIG_SLICES_MAX], bell_taken[RIG_SLICES_MAX];

static bool bell_next(void *ctx, uint64_t slices, unsigned *to, struct wire_msg *msg)
{
	(void)ctx;
	for (unsigned i = 1; i < rig.slices; i++) {
		if (!(slices >> i & 1) || !atomic_load(&bell_left[i]))
			continue;
		atomic_fetch_sub(&bell_left[i], 1);
		*to = i;
		*msg = (struct wire_msg){.type = MSG_MACHINE_FIRST, .arg = bell_taken[i]};
		atomic_fetch_add(&bell_taken[i], 1);
		return true;
	}
	return false;
}

static void bell_ring(unsigned slice, unsigned messages)
{
	atomic_fetch_add(&bell_left[slice], messages);
	engine_ring(rig.slice[0].engine);
}

/* More than all buffers between two sockets hold, at 32 bytes. */
#define MANY 2000000u

static unsigned taken_at_rest(unsigned slice)
{
	unsigned last, now = atomic_load(&bell_taken[slice]);

	do {
		last = now;
		usleep(300000);
		now = atomic_load(&bell_taken[slice]);
	} while (now != last);
	return now;
}

/*
 * Slice 1 reads nothing. It takes what its socket holds, and the rest is left where it is: no
 * queue grows, the connection stays, pages are served, and slice 2 gets what is meant for it.
 */
Test(engine_raw, a_peer_that_does_not_read_is_not_sent_what_can_wait)
{
	unsigned taken, got = 0;
	int one, two;

	rig_init(&rig, 3);
	rig.config.callbacks.next_post = bell_next;
	rig_create(&rig, 0);
	rig_connect(&rig, 0);
	one = rig_raw_join(&rig, 1);
	two = rig_raw_join(&rig, 2);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	bell_ring(1, MANY);
	for (unsigned n = 0; n < 50; n++) /* while they go out */
		rig_write(&rig, 0, rig_page(0, n), n + 1);
	taken = taken_at_rest(1);
	cr_assert_gt(taken, 0);
	cr_assert_lt(taken, MANY, "all went out: the test needs more of them");
	bell_ring(2, 5);
	for (; got < 5; got++)
		cr_assert_eq(raw_expect(two, MSG_MACHINE_FIRST).arg, got);
	rig_write(&rig, 0, rig_page(0, 60), 60);
	cr_assert_eq(rig.slice[0].lost, 0, "%s", rig.slice[0].lost_why);
	/* It reads again, and nothing is missing or out of order. */
	for (got = 0; got < taken + 1000; got++)
		cr_assert_eq(raw_expect(one, MSG_MACHINE_FIRST).arg, got);
	cr_assert_eq(rig.slice[0].lost, 0, "%s", rig.slice[0].lost_why);
	rig_down(&rig);
	close(one);
	close(two);
}

static void *pages_write(void *arg)
{
	(void)arg;
	for (unsigned n = 0; n < 400; n++)
		rig_write(&rig, 0, rig_page(0, n), n + 1);
	return NULL;
}

/* A bell that never stops is heard a little at a time: pages and other posts come in between. */
Test(engine_raw, a_bell_without_end_starves_nobody)
{
	struct wire_msg post = {.type = MSG_MACHINE_FIRST + 1};
	pthread_t thread;
	unsigned posts = 0;
	int one;

	rig_init(&rig, 2);
	rig.config.callbacks.next_post = bell_next;
	rig_create(&rig, 0);
	rig_connect(&rig, 0);
	one = rig_raw_join(&rig, 1);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	bell_ring(1, MANY);
	cr_assert_eq(pthread_create(&thread, NULL, pages_write, NULL), 0);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(engine_post(rig.slice[0].engine, 1, &post, NULL), 0);
	/* The peer reads all the while, so that there is always room for more. */
	while (posts < 20) {
		uint8_t bytes[WIRE_HEADER_SIZE];

		cr_assert_eq(recv(one, bytes, sizeof(bytes), MSG_WAITALL), (ssize_t)sizeof(bytes));
		posts += bytes[0] == MSG_MACHINE_FIRST + 1;
	}
	pthread_join(thread, NULL);
	cr_assert_gt(atomic_load(&bell_left[1]), 0,
		     "all rings were heard before the pages were served");
	rig_down(&rig);
	close(one);
}
