/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process transport between loops of different threads. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "transport/transport.h"

#define THREADS 3
#define TURNS	2000u

/* Each slice answers each message with the next number, until all numbers have been said. */
struct talker {
	pthread_t thread;
	struct inproc_hub *hub;
	unsigned self;
	uv_loop_t loop;
	struct transport *transport;
	unsigned up, lost, bad, finished;
	uint64_t last[THREADS]; /* number from each peer */
	uint8_t payload[THREADS][WIRE_PAYLOAD_MAX];
};

static void talker_end(struct talker *t)
{
	t->transport->ops->close(t->transport);
}

static void say(struct talker *t, unsigned to, uint64_t number)
{
	uint8_t payload[WIRE_PAYLOAD_MAX];
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST,
			       .arg = number,
			       .payload_len = number % 3 ? 0 : WIRE_PAYLOAD_MAX};

	memset(payload, (int)number, sizeof(payload));
	if (t->transport->ops->send(t->transport, to, &msg, payload, false) < 0)
		t->bad++;
}

static void *on_payload(void *ctx, unsigned peer, const struct wire_msg *msg, void *lies)
{
	struct talker *t = ctx;

	(void)msg;
	(void)lies;
	return t->payload[peer];
}

static int on_msg(void *ctx, unsigned peer, const struct wire_msg *msg, void *payload)
{
	struct talker *t = ctx;
	const uint8_t *bytes = payload;

	if (t->last[peer] && msg->arg != t->last[peer] + 2)
		t->bad++;
	if (bytes && (bytes[0] != (uint8_t)msg->arg || bytes[4095] != (uint8_t)msg->arg))
		t->bad++;
	t->last[peer] = msg->arg;
	if (msg->arg < TURNS)
		say(t, peer, msg->arg + 1);
	if (msg->arg >= TURNS - 1)
		t->finished++;
	return 0;
}

static void on_up(void *ctx, unsigned peer)
{
	struct talker *t = ctx;

	t->up++;
	if (t->self < peer)
		say(t, peer, 1);
}

static void on_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct talker *t = ctx;

	(void)peer;
	(void)err;
	(void)why;
	t->lost++;
}

/* Leaves when everything was said with every peer; what a peer still has to read is delivered. */
static void on_check(uv_timer_t *timer)
{
	struct talker *t = timer->data;

	if (t->finished < THREADS - 1)
		return;
	uv_close((uv_handle_t *)timer, NULL);
	talker_end(t);
}

static void *talker_main(void *arg)
{
	struct talker *t = arg;
	struct transport_config config = {
		.loop = &t->loop,
		.hello = {.magic = WIRE_MAGIC, .slice = (uint16_t)t->self, .slices = THREADS},
		.callbacks = {.ctx = t,
			      .payload_buffer = on_payload,
			      .on_msg = on_msg,
			      .on_up = on_up,
			      .on_lost = on_lost},
		.connect_timeout_ms = 10000};
	uv_timer_t timer;

	uv_loop_init(&t->loop);
	uv_timer_init(&t->loop, &timer);
	timer.data = t;
	uv_timer_start(&timer, on_check, 5, 5);
	if (transport_inproc_create(&config, t->hub, &t->transport) < 0)
		return NULL;
	t->transport->ops->connect(t->transport, NULL);
	uv_run(&t->loop, UV_RUN_DEFAULT);
	t->bad += uv_loop_close(&t->loop) != 0;
	return NULL;
}

Test(inproc, threads_talk)
{
	static struct talker talkers[THREADS];
	struct inproc_hub *hub;

	cr_assert_eq(inproc_hub_create(THREADS, &hub), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		talkers[i].hub = hub;
		talkers[i].self = i;
		cr_assert_eq(pthread_create(&talkers[i].thread, NULL, talker_main, &talkers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(talkers[i].thread, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		cr_assert_eq(talkers[i].up, THREADS - 1);
		cr_assert_eq(talkers[i].bad, 0, "slice %u", i);
	}
	for (unsigned i = 0; i < THREADS; i++)
		cr_assert_eq(talkers[i].finished, THREADS - 1);
	inproc_hub_destroy(hub);
}

Test(inproc, sizes_out_of_limits_are_refused)
{
	struct inproc_hub *hub;

	cr_assert_eq(inproc_hub_create(0, &hub), -EINVAL);
	cr_assert_eq(inproc_hub_create(SLICES_MAX + 1, &hub), -EINVAL);
}
