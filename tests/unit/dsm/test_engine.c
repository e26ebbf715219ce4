/* SPDX-License-Identifier: Apache-2.0 */
/* Engines of several slices: what each path costs in messages, and how they come and go. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/dsm/engine_rig.h"

static struct rig rig; /* each test runs in a process of its own */

/* What happened on one slice between two snapshots. */
static struct engine_stats since(const struct engine_stats *before, unsigned i)
{
	struct engine_stats now = rig_stats(&rig, i), d;
	const uint64_t *a = (const uint64_t *)before, *b = (const uint64_t *)&now;

	for (size_t k = 0; k < sizeof(d) / 8; k++)
		((uint64_t *)&d)[k] = b[k] - a[k];
	return d;
}

static void all_stats(struct engine_stats *stats)
{
	for (unsigned i = 0; i < rig.slices; i++)
		stats[i] = rig_stats(&rig, i);
}

static void msgs_are(const struct engine_stats *before, unsigned i, unsigned sent,
		     unsigned received, unsigned pages_sent)
{
	struct engine_stats d = since(&before[i], i);

	cr_assert_eq(d.msgs_sent, sent, "slice %u sent %lu", i, d.msgs_sent);
	cr_assert_eq(d.msgs_received, received, "slice %u received %lu", i, d.msgs_received);
	cr_assert_eq(d.pages_sent, pages_sent, "slice %u sent %lu pages", i, d.pages_sent);
	cr_assert_eq(d.bytes_sent, sent * WIRE_HEADER_SIZE + pages_sent * 4096);
}

/* The host maps its pages, and nobody is told. */
Test(engine, a_home_alone_has_no_faults)
{
	struct engine_stats s;

	rig_up(&rig, 1);
	for (unsigned n = 0; n < RIG_PAGES; n++) {
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), 0);
		rig_write(&rig, 0, rig_page(0, n), n);
	}
	for (unsigned n = 0; n < RIG_PAGES; n++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), n);
	s = rig_stats(&rig, 0);
	cr_assert_eq(s.msgs_sent + s.msgs_received, 0);
	cr_assert_eq(s.faults_read + s.faults_write + s.faults_local, 0);
	cr_assert_eq(s.pages_home, RIG_PAGES);
	cr_assert_eq(s.fault_count_remote, 0);
	rig_down(&rig);
}

/* Of each 64 pages two are touched one by one; then all that is left comes at once. */
Test(engine, first_touches_at_home_come_in_windows)
{
	enum {
		WINDOW = 64,
		SPARSE = 3
	};
	struct engine_stats s;

	rig_up(&rig, 2);
	for (unsigned n = 0; n < WINDOW; n++)
		rig_write(&rig, 0, rig_page(0, n), n + 1);
	s = rig_stats(&rig, 0);
	cr_assert_eq(s.faults_write, SPARSE);
	cr_assert_eq(s.faults_local, SPARSE);
	cr_assert_eq(s.pages_home, WINDOW);
	/* Next to a window that is full the first touch is enough, for reads as well; and as many windows
	 * as were gone through come ahead. */
	cr_assert_eq(rig_read(&rig, 0, rig_page(0, WINDOW)), 0);
	s = rig_stats(&rig, 0);
	cr_assert_eq(s.pages_home, 3 * WINDOW);
	for (unsigned n = WINDOW; n < 3 * WINDOW; n++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), 0);
	s = rig_stats(&rig, 0);
	cr_assert_eq(s.faults_write, SPARSE + 1);
	cr_assert_eq(s.faults_read, 0);
	cr_assert_eq(s.pages_home, 3 * WINDOW);
	/* What was not touched is not given: three windows on, a page each. */
	for (unsigned k = 5; k < 8; k++)
		rig_write(&rig, 0, rig_page(0, k * WINDOW + 5), k);
	s = rig_stats(&rig, 0);
	cr_assert_eq(s.faults_write, SPARSE + 1 + 3);
	cr_assert_eq(s.pages_home, 3 * WINDOW + 3);
	cr_assert_eq(s.msgs_sent + s.msgs_received, 0);
	rig_down(&rig);
}

/* Windows ahead of who comes from above lie below, and they end where another slice has a page. */
Test(engine, windows_come_ahead_in_both_directions_and_leave_out_what_others_have)
{
	enum {
		WINDOW = 64,
		TOP = 10
	};
	struct engine_stats s;

	rig_up(&rig, 2);
	rig_write(&rig, 1, rig_page(0, 5 * WINDOW + 40), 7);
	for (unsigned n = (TOP + 1) * WINDOW; n-- > (TOP - 3) * WINDOW;)
		rig_write(&rig, 0, rig_page(0, n), n);
	s = rig_stats(&rig, 0);
	/* Windows 10 to 7; of the next three one is whole. */
	cr_assert_eq(s.pages_home, 5 * WINDOW);
	cr_assert_eq(rig_read(&rig, 0, rig_page(0, 5 * WINDOW + 40)), 7);
	for (unsigned n = (TOP - 3) * WINDOW; n < (TOP + 1) * WINDOW; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n);
	for (unsigned n = (TOP - 4) * WINDOW; n < (TOP - 3) * WINDOW; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), 0);
	rig_down(&rig);
}

/* Two misses side by side are a stream; then each asks for twice as many pages as the one before. */
Test(engine, reads_that_go_through_memory_are_asked_for_ahead)
{
	enum {
		PAGES = 200
	};
	struct engine_stats s;

	rig_init(&rig, 2);
	rig.config.ahead_max = ENGINE_AHEAD_MAX;
	rig_up(&rig, 2);
	for (unsigned n = 0; n < PAGES; n++)
		rig_write(&rig, 0, rig_page(0, n), n + 1);
	for (unsigned n = 0; n < PAGES; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n + 1);
	s = rig_stats(&rig, 1);
	/* If each window has come before it is read, those of 0, 1, 4, 9, 18, 35, 68 and so on. */
	cr_assert_leq(s.requests_read - s.pages_ahead, 20, "%lu requests, %lu ahead",
		      s.requests_read, s.pages_ahead);
	cr_assert_leq(s.requests_read, PAGES + 2 * ENGINE_AHEAD_MAX);
	/* Each is a copy like any other. */
	for (unsigned n = 0; n < PAGES; n++)
		rig_write(&rig, 0, rig_page(0, n), n + 2);
	for (unsigned n = PAGES; n-- > 0;)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n + 2);
	rig_down(&rig);
}

/* Memory that nobody has touched is asked for ahead of writes, too; what others have is not. */
Test(engine, first_touches_of_remote_memory_are_asked_for_ahead)
{
	enum {
		FRESH = 150,
		USED = 100
	};
	struct engine_stats s, before;

	rig_init(&rig, 2);
	rig.config.ahead_max = ENGINE_AHEAD_MAX;
	rig_up(&rig, 2);
	for (unsigned n = 0; n < FRESH; n++)
		rig_write(&rig, 1, rig_page(0, n), n + 1);
	s = rig_stats(&rig, 1);
	cr_assert_geq(s.pages_ahead, FRESH / 2);
	cr_assert_leq(s.requests_write - s.pages_ahead, 20, "%lu requests, %lu ahead",
		      s.requests_write, s.pages_ahead);
	/* A page alone takes two messages each way. Those that are asked for together share theirs; how many
	 * that are depends on who is fast. */
	cr_assert_lt(s.msgs_sent, s.requests_write / 2, "%lu messages for %lu requests",
		     s.msgs_sent, s.requests_write);
	cr_assert_leq(s.msgs_received, s.msgs_sent);
	for (unsigned n = 0; n < FRESH; n++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), n + 1);
	for (unsigned n = 400; n < 400 + USED; n++)
		rig_write(&rig, 0, rig_page(0, n), n);
	before = rig_stats(&rig, 1);
	for (unsigned n = 400; n < 400 + USED; n++)
		rig_write(&rig, 1, rig_page(0, n), n + 1);
	s = rig_stats(&rig, 1);
	cr_assert_eq(s.pages_ahead, before.pages_ahead);
	cr_assert_eq(s.requests_write, before.requests_write + USED);
	rig_down(&rig);
}

/* Writes of slice to `count` pages that it and the other one have copies of; how many it was asked for. */
static void upgrades_check(unsigned slice, unsigned first, unsigned count)
{
	struct engine_stats before, s;
	uint64_t asked;

	for (unsigned n = first; n < first + count; n++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), rig_read(&rig, 1, rig_page(0, n)));
	before = rig_stats(&rig, slice);
	for (unsigned n = first; n < first + count; n++)
		rig_write(&rig, slice, rig_page(0, n), n + 7);
	s = rig_stats(&rig, slice);
	/* A home asks nobody. The last window may go on behind the last page. */
	asked = s.requests_upgrade - before.requests_upgrade;
	cr_assert_geq(asked, slice ? count : 0);
	cr_assert_leq(asked, slice ? count + ENGINE_AHEAD_MAX : 0);
	/* If each window has come before it is written: those of 0, 1, 2, 5, 10, 19, 36, 69 and so on. */
	cr_assert_geq(s.pages_ahead - before.pages_ahead, count - 20);
	for (unsigned n = first; n < first + count; n++)
		cr_assert_eq(rig_read(&rig, !slice, rig_page(0, n)), n + 7);
}

/* The third miss in a row is a stream; the copies of others are called back ahead of it, at home and elsewhere. */
Test(engine, writes_through_pages_that_others_have_copies_of_are_asked_for_ahead)
{
	struct engine_stats before;

	rig_init(&rig, 2);
	rig.config.ahead_max = ENGINE_AHEAD_MAX;
	rig_up(&rig, 2);
	for (unsigned n = 0; n < 400; n++)
		rig_write(&rig, 0, rig_page(0, n), n + 1);
	upgrades_check(0, 0, 200);
	upgrades_check(1, 200, 200);
	/* Two pages side by side are none, nor is what a slice has alone. */
	for (unsigned n = 0; n < 200; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n + 7);
	before = rig_stats(&rig, 0);
	for (unsigned n = 0; n < 200; n++)
		if (n % 3)
			rig_write(&rig, 0, rig_page(0, n), n + 9);
	cr_assert_eq(rig_stats(&rig, 0).pages_ahead, before.pages_ahead);
	for (unsigned n = 0; n < 200; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n % 3 ? n + 9 : n + 7);
	rig_down(&rig);
}

/* Neither reads here and there, nor reads backwards. */
Test(engine, nothing_else_is_asked_for_ahead)
{
	rig_init(&rig, 2);
	rig.config.ahead_max = ENGINE_AHEAD_MAX;
	rig_up(&rig, 2);
	for (unsigned n = 0; n < 400; n += 2)
		rig_read(&rig, 1, rig_page(0, n));
	for (unsigned n = 599; n > 400; n--)
		rig_read(&rig, 1, rig_page(0, n));
	cr_assert_eq(rig_stats(&rig, 1).pages_ahead, 0);
	rig_down(&rig);
}

/* Pages that another slice has are none of the window, and what came with it is coherent. */
Test(engine, a_window_leaves_out_what_others_have)
{
	enum {
		WINDOW = 64
	};
	struct engine_stats before;

	rig_up(&rig, 2);
	for (unsigned n = 0; n < WINDOW; n += 7)
		rig_write(&rig, 1, rig_page(0, n), 100 + n);
	before = rig_stats(&rig, 1);
	for (unsigned n = 1; n < WINDOW; n++)
		if (n % 7)
			rig_write(&rig, 0, rig_page(0, n), n);
	for (unsigned n = 0; n < WINDOW; n += 7)
		rig_write(&rig, 1, rig_page(0, n), rig_read(&rig, 1, rig_page(0, n)) + 1);
	cr_assert_eq(rig_stats(&rig, 1).invalidations, before.invalidations, "none was taken");
	for (unsigned n = 0; n < WINDOW; n++) {
		uint64_t value = n % 7 ? n : 101 + n;

		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), value);
		rig_write(&rig, 1, rig_page(0, n), value + 1);
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), value + 1);
	}
	rig_down(&rig);
}

Test(engine, a_home_among_others_needs_no_message)
{
	struct engine_stats before[2];

	rig_up(&rig, 2);
	all_stats(before);
	for (unsigned n = 0; n < 50; n++)
		rig_write(&rig, 1, rig_page(1, n), n + 1);
	msgs_are(before, 0, 0, 0, 0);
	msgs_are(before, 1, 0, 0, 0);
	rig_down(&rig);
}

Test(engine, a_read_of_an_untouched_remote_page_moves_no_bytes)
{
	struct engine_stats before[2];

	rig_up(&rig, 2);
	all_stats(before);
	for (unsigned n = 0; n < 100; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), 0);
	msgs_are(before, 1, 100, 100, 0); /* GET_S; DATA */
	msgs_are(before, 0, 100, 100, 0);
	cr_assert_eq(since(&before[1], 1).zero_pages, 100);
	cr_assert_eq(since(&before[1], 1).requests_read, 100);
	cr_assert_eq(since(&before[1], 1).fault_count_remote, 100);
	rig_down(&rig);
}

Test(engine, a_page_written_with_zeroes_moves_no_bytes)
{
	struct engine_stats before[2];

	rig_up(&rig, 2);
	for (unsigned n = 0; n < 20; n++) {
		rig_write(&rig, 0, rig_page(0, n), 5);
		rig_write(&rig, 0, rig_page(0, n), 0);
	}
	/* A stale copy with other bytes must not show through. */
	rig_write(&rig, 1, rig_page(0, 30), 7);
	rig_write(&rig, 0, rig_page(0, 30), 0);
	all_stats(before);
	for (unsigned n = 0; n < 20; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), 0);
	cr_assert_eq(rig_read(&rig, 1, rig_page(0, 30)), 0);
	msgs_are(before, 0, 21, 21, 0);
	cr_assert_eq(since(&before[1], 1).zero_pages, 21);
	rig_down(&rig);
}

Test(engine, a_read_of_a_remote_page_costs_two_messages_and_one_page)
{
	struct engine_stats before[2];

	rig_up(&rig, 2);
	for (unsigned n = 0; n < 10; n++)
		rig_write(&rig, 0, rig_page(0, n), n + 1);
	all_stats(before);
	for (unsigned n = 0; n < 10; n++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n + 1);
	msgs_are(before, 1, 10, 10, 0);
	msgs_are(before, 0, 10, 10, 10);
	all_stats(before);
	for (unsigned n = 0; n < 10; n++) /* a copy is here now */
		cr_assert_eq(rig_read(&rig, 1, rig_page(0, n)), n + 1);
	msgs_are(before, 1, 0, 0, 0);
	cr_assert_eq(rig_stats(&rig, 1).pages_shared, 10);
	rig_down(&rig);
}

Test(engine, an_upgrade_moves_no_page)
{
	struct engine_stats before[2];

	rig_up(&rig, 2);
	rig_write(&rig, 0, rig_page(0, 3), 77);
	cr_assert_eq(rig_read(&rig, 1, rig_page(0, 3)), 77);
	all_stats(before);
	rig_write(&rig, 1, rig_page(0, 3) + 8, 78);
	msgs_are(before, 1, 1, 1, 0); /* GET_M; GRANT, once the home's own copy has gone */
	rig_down(&rig);
}

Test(engine, a_write_takes_the_page_and_a_read_brings_it_home)
{
	struct engine_stats before[2];

	rig_up(&rig, 2);
	rig_write(&rig, 0, rig_page(0, 3), 77);
	all_stats(before);
	rig_write(&rig, 1, rig_page(0, 3) + 8, 78);
	msgs_are(before, 1, 1, 1, 0); /* GET_M; DATA */
	msgs_are(before, 0, 1, 1, 1);
	cr_assert_eq(rig_stats(&rig, 1).pages_exclusive, 1);
	all_stats(before);
	cr_assert_eq(rig_read(&rig, 0, rig_page(0, 3) + 8), 78);
	cr_assert_eq(rig_read(&rig, 0, rig_page(0, 3)), 77);
	msgs_are(before, 0, 1, 1, 0); /* FWD_S; DATA */
	msgs_are(before, 1, 1, 1, 1);
	rig_down(&rig);
}

Test(engine, three_hops_reply_directly)
{
	struct engine_stats before[3];

	rig_up(&rig, 3);
	rig_write(&rig, 1, rig_page(0, 9), 5);
	all_stats(before);
	cr_assert_eq(rig_read(&rig, 2, rig_page(0, 9)), 5);
	msgs_are(before, 2, 2, 1, 0); /* GET_S, DONE; DATA */
	msgs_are(before, 0, 1, 3, 0); /* FWD_S; GET_S, DONE, WB */
	msgs_are(before, 1, 2, 1, 2); /* DATA, WB; FWD_S */
	all_stats(before);
	rig_write(&rig, 2, rig_page(0, 9), 6); /* an upgrade that invalidates slice 1 */
	msgs_are(before, 2, 2, 2, 0);	       /* GET_M, DONE; GRANT, ACK */
	msgs_are(before, 0, 2, 2, 0);	       /* INV, GRANT; GET_M, DONE */
	msgs_are(before, 1, 1, 1, 0);	       /* ACK; INV */
	cr_assert_eq(since(&before[1], 1).invalidations, 1);
	cr_assert_eq(rig_read(&rig, 1, rig_page(0, 9)), 6);
	cr_assert_eq(rig_read(&rig, 0, rig_page(0, 9)), 6);
	rig_down(&rig);
}

/* Every page of slice 1 is written there, read here, written here and read there. */
static void pages_travel(enum transport_wish transport, bool encrypted)
{
	bool shm = transport != TRANSPORT_TCP;

	rig_init(&rig, 2);
	rig.config.transport = transport;
	rig.config.plaintext = !encrypted;
	rig_up(&rig, 2);
	for (unsigned n = 0; n < RIG_PAGES; n++) {
		uint64_t gpa = rig_page(1, n);

		rig_write(&rig, 1, gpa, n + 1);
		cr_assert_eq(rig_read(&rig, 0, gpa), n + 1);
		rig_write(&rig, 0, gpa, n + 2);
		cr_assert_eq(rig_read(&rig, 1, gpa), n + 2);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct engine_stats stats = rig_stats(&rig, i);

		cr_assert_eq(stats.links_shm, shm);
		cr_assert_eq(stats.links_tcp, !shm && !encrypted);
		cr_assert_eq(stats.links_tls + stats.links_ktls, !shm && encrypted);
		cr_assert_leq(stats.bells_sent, stats.msgs_sent + stats.msgs_received);
		cr_assert_leq(stats.spin_hits, stats.spins);
		/* Whoever has a CPU of his own looks for the first messages at least. */
		cr_assert_eq(stats.spins > 0, shm && sysconf(_SC_NPROCESSORS_ONLN) >= 2);
	}
	rig_down(&rig);
}

Test(engine, pages_travel_by_tcp)
{
	pages_travel(TRANSPORT_TCP, false);
}

Test(engine, pages_travel_by_tls)
{
	pages_travel(TRANSPORT_TCP, true);
}

Test(engine, pages_travel_by_shared_memory)
{
	pages_travel(TRANSPORT_SHM, true);
}

Test(engine, engines_without_a_cpu_each_do_not_spin)
{

	bool enough = sysconf(_SC_NPROCESSORS_ONLN) >= RIG_SLICES_MAX;

	rig_up(&rig, RIG_SLICES_MAX);
	for (unsigned n = 0; n < 100; n++)
		rig_write(&rig, n % RIG_SLICES_MAX, rig_page(1, n % 3), n);
	for (unsigned i = 0; i < RIG_SLICES_MAX; i++)
		cr_assert(enough || rig_stats(&rig, i).spins == 0);
	rig_down(&rig);
}

Test(engine, machine_messages_reach_everyone_in_order)
{
	uint8_t payload[WIRE_PAYLOAD_MAX];

	rig_up(&rig, 3);
	for (unsigned n = 0; n < 300; n++)
		for (unsigned to = 0; to < 3; to++) {
			struct wire_msg msg = {.type = MSG_MACHINE_FIRST + 1, .arg = n};

			memset(payload, (int)n, sizeof(payload));
			msg.payload_len = n % 3 == 0 ? n * 13 : 0;
			cr_assert_eq(engine_post(rig.slice[0].engine, to, &msg, payload), 0);
		}
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(rig_until(&rig.slice[i].received, 300));
		for (unsigned n = 0; n < 300; n++) {
			cr_assert_eq(rig.slice[i].from[n], 0);
			cr_assert_eq(rig.slice[i].msgs[n].arg, n);
			cr_assert_eq(rig.slice[i].msgs[n].epoch, 1);
			if (rig.slice[i].msgs[n].payload_len)
				cr_assert_eq(rig.slice[i].first_byte[n], (uint8_t)n);
		}
	}
	rig_down(&rig);
}

Test(engine, bad_posts_are_refused_and_the_queue_is_bounded)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST};
	unsigned accepted = 0;

	rig_init(&rig, 2);
	rig_create(&rig, 0);
	cr_assert_eq(engine_post(rig.slice[0].engine, 2, &msg, NULL), -EINVAL);
	msg.payload_len = 1;
	cr_assert_eq(engine_post(rig.slice[0].engine, 0, &msg, NULL), -EINVAL);
	msg.payload_len = WIRE_PAYLOAD_MAX + 1;
	cr_assert_eq(engine_post(rig.slice[0].engine, 0, &msg, &msg), -EINVAL);
	msg = (struct wire_msg){.type = MSG_GET_S};
	cr_assert_eq(engine_post(rig.slice[0].engine, 0, &msg, NULL), -EINVAL);
	/* Nothing is sent before the peers are there. */
	msg.type = MSG_MACHINE_FIRST;
	while (accepted < 100000 && engine_post(rig.slice[0].engine, 1, &msg, NULL) == 0)
		accepted++;
	cr_assert_eq(engine_post(rig.slice[0].engine, 1, &msg, NULL), -ENOBUFS);
	cr_assert_eq(rig.slice[0].received, 0);
	rig_create(&rig, 1);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig.slice[1].received, accepted));
	rig_down(&rig);
}

Test(engine, a_guest_of_64_gib_costs_next_to_nothing)
{
	struct engine_stats s;
	uint64_t end = (UINT64_C(65) << 30) - 8;

	rig_init(&rig, 2);
	rig.ranges[0] = (struct engine_range){0, 0, GPA_HOLE_START};
	rig.ranges[1] = (struct engine_range){1, GPA_HOLE_END, UINT64_C(65) << 30};
	rig.config.ram_end = UINT64_C(65) << 30;
	rig_up(&rig, 2);
	rig_write(&rig, 0, end, 1);
	cr_assert_eq(rig_read(&rig, 1, end), 1);
	rig_write(&rig, 1, GPA_HOLE_START - 8, 2);
	cr_assert_eq(rig_read(&rig, 0, GPA_HOLE_START - 8), 2);
	s = rig_stats(&rig, 1);
	cr_assert_lt(s.metadata_bytes, 2u << 20, "%lu bytes", s.metadata_bytes);
	rig_down(&rig);
}

static int create_err(const struct engine_config *config)
{
	struct engine *engine;
	unsigned port;

	return engine_create(config, &port, &engine);
}

Test(engine, impossible_configurations_are_refused)
{
	struct engine_config good, bad;

	rig_init(&rig, 2);
	good = rig.config;
	bad = good;
	bad.self = 2;
	cr_assert_eq(create_err(&bad), -EINVAL);
	bad = good;
	bad.slices = 65;
	cr_assert_eq(create_err(&bad), -EINVAL);
	bad = good;
	bad.ram_end += PANGEA_PAGE_SIZE;
	cr_assert_eq(create_err(&bad), -EINVAL);
	bad = good;
	bad.ram_end += HOME_CHUNK_SIZE; /* without a home */
	cr_assert_eq(create_err(&bad), -EINVAL);
	bad = good;
	bad.ranges_count = 1;
	cr_assert_eq(create_err(&bad), -EINVAL);
	bad = good;
	bad.bind_host = "nowhere";
	cr_assert_eq(create_err(&bad), -EINVAL);
	rig.ranges[1].start -= HOME_CHUNK_SIZE; /* two homes */
	cr_assert_eq(create_err(&good), -EINVAL);
	rig.ranges[1].start += HOME_CHUNK_SIZE;
	rig.ranges[1].slice = 2;
	cr_assert_eq(create_err(&good), -EINVAL);
	rig.ranges[1].slice = 1;
	rig_create(&rig, 0);
	bad = good;
	bad.bind_port = rig.slice[0].port;
	cr_assert_eq(create_err(&bad), -EADDRINUSE);
	rig_down(&rig);
}

Test(engine, a_peer_that_never_comes_is_reported)
{
	rig_init(&rig, 2);
	rig.config.connect_timeout_ms = 100;
	rig_create(&rig, 0);
	rig_connect(&rig, 0);
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert_eq(rig.slice[0].lost_peer, 1);
	cr_assert_eq(rig.slice[0].lost_err, -ETIMEDOUT);
	cr_assert_eq(rig.slice[0].ready, 0);
	rig_down(&rig);
}

/* The child's life: slice 1 of 2, told its peer's port by a pipe, until it is killed. */
static void child_main(int port_in, int port_out)
{
	rig_create(&rig, 1);
	if (write(port_out, &rig.slice[1].port, sizeof(unsigned)) < 0 ||
	    read(port_in, &rig.slice[0].port, sizeof(unsigned)) < 0)
		_exit(1);
	rig_connect(&rig, 1);
	rig_until(&rig.slice[1].ready, 1);
	rig_write(&rig, 1, rig_page(0, 0), 11); /* takes a page of the parent's away */
	rig_write(&rig, 1, rig_page(1, 0), 12);
	if (write(port_out, "x", 1) < 0)
		_exit(1);
	pause();
}

static _Atomic unsigned frozen_ended, frozen_tid;

static void *frozen_main(void *arg)
{
	(void)arg;
	atomic_store(&frozen_tid, (unsigned)syscall(SYS_gettid));
	rig_write(&rig, 0, rig_page(0, 200), 20);
	atomic_store(&frozen_ended, 1);
	return NULL;
}

/* A thread's state as /proc has it: R, S, D, ...; 0: there is none. */
static char thread_state(unsigned tid)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(file);
	return state;
}

/* Waits until the thread of this number sleeps: all it ever waits for is its fault. */
static void fault_await(const _Atomic unsigned *tid)
{
	cr_assert(rig_until(tid, 1), "the thread never ran");
	for (unsigned i = 0; i < 20000; i++) {
		char state = thread_state(atomic_load(tid));

		if (state == 'S' || state == 'D')
			return;
		usleep(1000);
	}
	cr_assert_fail("the thread never waited");
}

/* A page that nobody else wants, even: the fault is taken and never answered. */
static void expect_frozen(void)
{
	uint64_t before = rig_stats(&rig, 0).faults_write;
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, frozen_main, NULL), 0);
	pthread_detach(thread);
	fault_await(&frozen_tid);
	rig_stats(&rig, 0);
	cr_assert_not(atomic_load(&frozen_ended));
	cr_assert_eq(rig_stats(&rig, 0).faults_write, before, "nothing begins");
}

Test(engine, a_killed_peer_is_reported_and_what_is_here_stays)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST};
	int down[2], up[2], status;
	char x;
	pid_t pid;

	rig_init(&rig, 2);
	cr_assert_eq(pipe(down) + pipe(up), 0);
	pid = fork();
	if (pid == 0)
		child_main(down[0], up[1]);
	cr_assert_eq(read(up[0], &rig.slice[1].port, sizeof(unsigned)), (ssize_t)sizeof(unsigned));
	rig_create(&rig, 0);
	cr_assert_eq(write(down[1], &rig.slice[0].port, sizeof(unsigned)),
		     (ssize_t)sizeof(unsigned));
	rig_connect(&rig, 0);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	cr_assert_eq(read(up[0], &x, 1), 1);
	cr_assert_eq(rig_read(&rig, 0, rig_page(1, 0)), 12);
	for (unsigned n = 1; n < 20; n++)
		rig_write(&rig, 0, rig_page(0, n), n);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert_eq(rig.slice[0].lost_peer, 1);
	cr_assert_eq(rig.slice[0].lost_err, -PANGEA_EPEERLOST);
	cr_assert(strstr(rig.slice[0].lost_why, "slice 1"));
	cr_assert_eq(engine_post(rig.slice[0].engine, 1, &msg, NULL), -ENOTCONN);
	for (unsigned n = 1; n < 20; n++) {
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), n);
		rig_write(&rig, 0, rig_page(0, n), n + 100);
		cr_assert_eq(rig_read(&rig, 0, rig_page(0, n)), n + 100);
	}
	cr_assert_eq(rig_read(&rig, 0, rig_page(1, 0)), 12); /* the copy that is here */
	expect_frozen();
	/* Its thread waits for ever: the engine ends with the process. */
}

/* What the engine's page 0 holds while a raw peer sends. */
#define RAW_VALUE 7

/* A raw peer that says a right hello, then `bytes`. */
static void raw_peer(const void *bytes, size_t len)
{
	int fd = rig_raw_join(&rig, 1);
	uint8_t buf[WIRE_HEADER_SIZE];

	/* While the peer is there pages are served. */
	rig_write(&rig, 0, 0, RAW_VALUE);
	cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
	cr_assert_eq(recv(fd, buf, sizeof(buf), 0), 0, "the connection is closed");
	close(fd);
}

static void raw_engine_up(void)
{
	rig_init(&rig, 2);
	rig_create(&rig, 0);
	rig_connect(&rig, 0);
}

static void violation(struct wire_msg msg)
{
	uint8_t bytes[WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX];

	raw_engine_up();
	memset(bytes, 0xcc, sizeof(bytes));
	wire_msg_encode(&msg, bytes);
	raw_peer(bytes, WIRE_HEADER_SIZE + msg.payload_len);
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert_eq(rig.slice[0].lost_err, -PANGEA_EPROTOCOL);
	/* The page that it wrote about is as it was. */
	cr_assert_eq(rig_read(&rig, 0, 0), RAW_VALUE);
	rig_down(&rig);
}

Test(engine, protocol_violations_close_the_connection)
{
	violation((struct wire_msg){.type = MSG_ACK, .epoch = 1, .requester = 0});
	violation((struct wire_msg){.type = MSG_DATA, .epoch = 1, .payload_len = 4096});
	violation(
		(struct wire_msg){.type = MSG_WB, .epoch = 1, .requester = 1, .payload_len = 4096});
	violation((struct wire_msg){.type = MSG_PUT_M,
				    .epoch = 1,
				    .requester = 1,
				    .payload_len = 4096,
				    .gfn = 1 << 30});
	violation((struct wire_msg){.type = MSG_GET_S, .epoch = 1, .requester = 63});
	violation((struct wire_msg){.type = MSG_INV, .epoch = 1, .requester = 1, .gfn = ~0ull});
}

Test(engine, unbidden_data_with_an_old_epoch_is_dropped)
{
	uint8_t bytes[2 * (WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX)];
	struct wire_msg msg = {.type = MSG_DATA, .epoch = 0, .payload_len = 4096};

	raw_engine_up();
	memset(bytes, 0xcc, sizeof(bytes));
	wire_msg_encode(&msg, bytes);
	msg.epoch = 1; /* the second is of this epoch: a violation that ends the connection */
	wire_msg_encode(&msg, bytes + WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX);
	raw_peer(bytes, sizeof(bytes));
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert_eq(rig_read(&rig, 0, 0), RAW_VALUE);
	cr_assert_eq(rig_stats(&rig, 0).msgs_received, 2);
	rig_down(&rig);
}

/* ---- more threads than requests ---- */

#define READERS 4u

static struct reader {
	pthread_t thread;
	unsigned page, ended;
	_Atomic unsigned tid;
} readers[READERS];

static void *reader_main(void *arg)
{
	struct reader *r = arg;

	atomic_store(&r->tid, (unsigned)syscall(SYS_gettid));
	rig_read(&rig, 0, rig_page(1, r->page));
	r->ended = 1;
	return NULL;
}

/* The next read request that the raw peer gets. */
static struct wire_msg request_next(int fd)
{
	struct wire_msg msg = {0};
	uint8_t buf[WIRE_HEADER_SIZE];

	do {
		cr_assert_eq(recv(fd, buf, sizeof(buf), MSG_WAITALL), (ssize_t)sizeof(buf));
		cr_assert_eq(wire_msg_decode(buf, sizeof(buf), &msg), 0);
		cr_assert_eq(msg.payload_len, 0);
	} while (msg.type != MSG_GET_S);
	return msg;
}

/* Grants it with a page of zeroes. */
static void request_grant(int fd, const struct wire_msg *request)
{
	struct wire_msg msg = {
		.type = MSG_DATA, .flags = MSG_FLAG_ZERO, .epoch = 1, .gfn = request->gfn};
	uint8_t buf[WIRE_HEADER_SIZE];

	wire_msg_encode(&msg, buf);
	cr_assert_eq(send(fd, buf, sizeof(buf), MSG_NOSIGNAL), (ssize_t)sizeof(buf));
}

/* Four threads where two requests may be under way: while the home says nothing there are two, and
 * each that is granted makes room for the next. */
Test(engine, more_threads_than_requests_wait)
{
	struct wire_msg requests[READERS];
	unsigned asked = 0;
	int fd;

	rig_init(&rig, 2);
	rig.config.faulters_max = 1;
	rig_create(&rig, 0);
	rig_connect(&rig, 0);
	fd = rig_raw_join(&rig, 1);
	cr_assert(rig_until(&rig.slice[0].ready, 1));
	for (unsigned i = 0; i < READERS; i++) {
		readers[i].page = i;
		cr_assert_eq(pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
	}
	requests[asked++] = request_next(fd);
	requests[asked++] = request_next(fd);
	for (unsigned i = 0; i < READERS; i++)
		fault_await(&readers[i].tid);
	cr_expect_eq(rig_stats(&rig, 0).requests_read, 2, "%lu requests are under way",
		     (unsigned long)rig_stats(&rig, 0).requests_read);
	for (unsigned granted = 0; granted < READERS; granted++) {
		request_grant(fd, &requests[granted]);
		if (asked < READERS)
			requests[asked++] = request_next(fd);
	}
	for (unsigned i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		cr_assert(readers[i].ended);
	}
	rig_down(&rig);
	close(fd);
}
