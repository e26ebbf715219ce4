/* SPDX-License-Identifier: Apache-2.0 */
/* Every transport between well-behaved slices: connections, order, payloads, backpressure, ends. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/unit/transport/transport_rig.h"

/* unit_rdma has the same tests over RDMA, and skips them where there is no device. */
#ifdef TRANSPORT_BY_RDMA
static enum rig_kind kinds[] = {RIG_RDMA, RIG_RDMA_TLS};
#else
static enum rig_kind kinds[] = {RIG_INPROC, RIG_TCP, RIG_SHM, RIG_TLS};
#endif

#define EACH(name)                                                                                 \
	ParameterizedTestParameters(transport, name)                                               \
	{                                                                                          \
		return cr_make_param_array(enum rig_kind, kinds,                                   \
					   sizeof(kinds) / sizeof(kinds[0]));                      \
	}                                                                                          \
	ParameterizedTest(enum rig_kind *kind, transport, name)

EACH(four_slices_meet)
{
	struct rig rig;

	rig_init(&rig, 4, *kind);
	rig_up(&rig);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = 0; j < 4; j++)
			cr_assert_eq(rig.slice[i].up[j], i != j);
	rig_destroy(&rig);
}

EACH(a_slice_alone_has_nothing_to_wait_for)
{
	struct rig rig;

	rig_init(&rig, 1, *kind);
	rig_create(&rig, 0, NULL);
	rig_connect(&rig, 0);
	rig_run_ms(&rig, 20);
	cr_assert_eq(rig_send(&rig, 0, 0, 0, 0), -ENOTCONN);
	rig_destroy(&rig);
}

EACH(order_and_payloads_are_kept)
{
	unsigned seed = 77, sent[3][3] = {0}, total[3] = {0};
	struct rig rig;

	cr_log_info("seed %u", seed);
	srand(seed);
	rig_init(&rig, 3, *kind);
	rig_up(&rig);
	for (unsigned i = 0; i < 6000; i++) {
		unsigned from = (unsigned)rand() % 3, to = (from + 1 + (unsigned)rand() % 2) % 3;
		unsigned size = (unsigned)rand() % 4;
		unsigned len = size == 0   ? WIRE_PAYLOAD_MAX
			       : size == 1 ? (unsigned)rand() % 600
					   : 0;

		cr_assert_eq(rig_send(&rig, from, to, sent[from][to]++, len), 0);
		total[to]++;
		if (rand() % 50 == 0)
			uv_run(&rig.loop, UV_RUN_NOWAIT);
	}
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(rig_until(&rig, &rig.slice[i].received, total[i]));
		cr_assert_eq(rig.slice[i].received, total[i]);
		cr_assert_eq(rig.slice[i].bad, 0);
	}
	rig_destroy(&rig);
}

EACH(counters_count)
{
	const struct transport_stats *a, *b;
	struct rig rig;

	rig_init(&rig, 2, *kind);
	rig_up(&rig);
	rig_send(&rig, 0, 1, 0, 0);
	rig_send(&rig, 0, 1, 1, 4096);
	cr_assert(rig_until(&rig, &rig.slice[1].received, 2));
	a = rig.slice[0].transport->ops->stats(rig.slice[0].transport);
	b = rig.slice[1].transport->ops->stats(rig.slice[1].transport);
	cr_assert_eq(a->msgs_sent, 2);
	cr_assert_eq(a->bytes_sent, 2 * WIRE_HEADER_SIZE + 4096);
	cr_assert_eq(b->msgs_received, 2);
	cr_assert_eq(b->bytes_received, 2 * WIRE_HEADER_SIZE + 4096);
	cr_assert_eq(a->msgs_received, 0);
	rig_destroy(&rig);
}

EACH(a_peer_that_leaves_is_lost_once_and_its_last_words_arrive)
{
	struct rig rig;

	rig_init(&rig, 2, *kind);
	rig_up(&rig);
	for (unsigned i = 0; i < rig_last_words(*kind); i++)
		cr_assert_eq(rig_send(&rig, 1, 0, i, i % 3 ? 0 : 4096), 0);
	rig.slice[1].transport->ops->close(rig.slice[1].transport);
	rig.slice[1].transport = NULL;
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], -PANGEA_EPEERLOST);
	cr_assert_eq(rig.slice[0].received, rig_last_words(*kind));
	cr_assert_eq(rig.slice[0].bad, 0);
	cr_assert_eq(rig_send(&rig, 0, 1, 0, 0), -ENOTCONN);
	rig_run_ms(&rig, 20);
	rig_destroy(&rig);
}

EACH(a_peer_that_does_not_read_hits_the_limit)
{
	unsigned sent = 0;
	struct rig rig;
	int err = 0;

	rig_init(&rig, 2, *kind);
	rig_up(&rig);
	/* The loop does not run, so nobody reads: buffers and queue are finite. */
	while (sent < 100000 && err == 0)
		err = rig_send(&rig, 0, 1, sent++, 4096);
	cr_assert_eq(err, -ENOBUFS);
	cr_assert_eq(rig.slice[0].lost[1], 0);
	cr_assert_eq(rig_send(&rig, 0, 1, sent, 0), -ENOTCONN);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], -ENOBUFS);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].bad, 0);
	rig_destroy(&rig);
}

EACH(a_full_socket_delays_but_loses_nothing)
{
	struct rig rig;

	rig_init(&rig, 2, *kind);
	rig_up(&rig);
	for (unsigned i = 0; i < 4000; i++)
		cr_assert_eq(rig_send(&rig, 0, 1, i, 4096), 0);
	if (*kind != RIG_INPROC)
		cr_assert_gt(
			rig.slice[0].transport->ops->stats(rig.slice[0].transport)->sends_queued,
			0);
	cr_assert(rig_until(&rig, &rig.slice[1].received, 4000));
	cr_assert_eq(rig.slice[1].bad, 0);
	rig_destroy(&rig);
}

EACH(refusing_a_message_closes_the_connection)
{
	struct rig rig;

	rig_init(&rig, 3, *kind);
	rig_up(&rig);
	rig.slice[0].on_msg_answer = -PANGEA_EPROTOCOL;
	rig_send(&rig, 1, 0, 0, 0);
	rig_send(&rig, 1, 0, 1, 0);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], -PANGEA_EPROTOCOL);
	cr_assert_eq(rig.slice[0].received, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	rig.slice[0].on_msg_answer = 0;
	rig.slice[0].refuse_payload = true;
	rig_send(&rig, 2, 0, 0, 100);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[2], 1));
	cr_assert_eq(rig.slice[0].lost_err[2], -PANGEA_EPROTOCOL);
	cr_assert_eq(rig.slice[1].lost[2], 0, "others stay connected");
	rig_destroy(&rig);
}

EACH(a_peer_that_never_comes_is_lost_at_the_deadline)
{
	struct rig rig;

	rig_init(&rig, 3, *kind);
	rig.timeout_ms = 100;
	rig_create(&rig, 1, NULL);
	rig.slice[0].port = 1; /* nobody listens there */
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert(rig_until(&rig, &rig.slice[1].lost[2], 1));
	cr_assert_eq(rig.slice[1].lost_err[2], -ETIMEDOUT);
	rig_destroy(&rig);
}

EACH(a_slice_of_another_vm_is_refused)
{
	struct wire_hello hello;
	struct rig rig;

	rig_init(&rig, 2, *kind);
	rig.timeout_ms = 200;
	rig_create(&rig, 0, NULL);
	hello = rig_hello(&rig, 1);
	hello.vm++;
	rig_create(&rig, 1, &hello);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -PANGEA_EPEERVM);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].ups, 0);
	rig_destroy(&rig);
}

EACH(closing_ends_the_callbacks)
{
	struct rig rig;

	rig_init(&rig, 2, *kind);
	rig_up(&rig);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(rig_send(&rig, 1, 0, i, 0), 0);
	rig.slice[0].transport->ops->close(rig.slice[0].transport);
	rig.slice[0].transport = NULL;
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[0].received, 0);
	cr_assert_eq(rig.slice[0].lost[1], 0);
	rig_destroy(&rig);
}

EACH(closing_from_a_callback_ends_the_callbacks)
{
	struct rig rig;

	rig_init(&rig, 3, *kind);
	rig_up(&rig);
	rig.slice[0].close_in_msg = true;
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(rig_send(&rig, 1, 0, i, i % 2 ? 4096 : 0), 0);
		cr_assert_eq(rig_send(&rig, 2, 0, i, 0), 0);
	}
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert(rig_until(&rig, &rig.slice[2].lost[0], 1));
	cr_assert_eq(rig.slice[0].received, 1);
	cr_assert_eq(rig.slice[0].lost[1] + rig.slice[0].lost[2], 0);
	rig_destroy(&rig);
}
