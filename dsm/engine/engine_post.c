/* SPDX-License-Identifier: Apache-2.0 */
/* Machine messages from any thread: a bounded queue, and a bell for what needs none. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

static bool post_valid(const struct engine *e, unsigned to, const struct wire_msg *msg,
		       const void *payload)
{
	return to < e->config.slices && msg->type >= MSG_MACHINE_FIRST && msg->reserved == 0 &&
	       msg->payload_len <= WIRE_PAYLOAD_MAX && (payload || msg->payload_len == 0);
}

static int post_push(struct engine *e, const struct post *post)
{
	int err = -ENOBUFS;

	pthread_mutex_lock(&e->lock);
	if (e->posts_count < POSTS_MAX) {
		e->posts[(e->posts_head + e->posts_count++) % POSTS_MAX] = *post;
		err = 0;
	}
	pthread_mutex_unlock(&e->lock);
	return err;
}

int engine_post(struct engine *e, unsigned to, const struct wire_msg *msg, const void *payload)
{
	struct post post = {.msg = *msg, .to = to};
	int err;

	if (!post_valid(e, to, msg, payload))
		return -EINVAL;
	if (atomic_load_explicit(&e->peers_lost, memory_order_relaxed) & UINT64_C(1) << to)
		return -ENOTCONN;
	if (msg->payload_len) {
		post.payload = malloc(msg->payload_len);
		if (!post.payload)
			return -ENOMEM;
		memcpy(post.payload, payload, msg->payload_len);
	}
	err = post_push(e, &post);
	if (err)
		free(post.payload);
	else
		engine_wake(e);
	return err;
}

void engine_ring(struct engine *e)
{
	if (!atomic_load(&e->rung) && !atomic_exchange(&e->rung, true))
		engine_wake(e);
}

static unsigned posts_take(struct engine *e, struct post *batch)
{
	unsigned n = 0;

	pthread_mutex_lock(&e->lock);
	while (n < POSTS_BATCH && e->posts_count > 0) {
		batch[n++] = e->posts[e->posts_head];
		e->posts_head = (e->posts_head + 1) % POSTS_MAX;
		e->posts_count--;
	}
	pthread_mutex_unlock(&e->lock);
	return n;
}

static void post_send(struct engine *e, struct post *post)
{
	struct engine_callbacks *cb = &e->config.callbacks;
	int err;

	post->msg.epoch = e->epoch;
	if (post->to != e->config.self) {
		/* To a peer that is lost meanwhile: like a message that was under way. */
		(void)e->transport->ops->send(e->transport, post->to, &post->msg, post->payload,
					      true);
		return;
	}
	err = cb->on_machine_msg(cb->ctx, post->to, &post->msg, post->payload);
	if (err)
		log_warn("this slice refused its own message of type %u: %s", post->msg.type,
			 error_text(err));
}

/* The bit of a peer that takes another message now, or 0. */
static uint64_t peer_ready(const struct engine *e, unsigned peer)
{
	bool room = e->transport->ops->backlog(e->transport, peer) < PEER_BACKLOG_MAX;

	return room ? UINT64_C(1) << peer : 0;
}

static uint64_t peers_ready(const struct engine *e)
{
	uint64_t ready = 0;

	for (unsigned i = 0; i < e->config.slices; i++)
		if (i != e->config.self)
			ready |= peer_ready(e, i);
	return ready;
}

/*
 * True: there may be more. What waits for a peer with a full socket is asked for again after
 * whatever wakes the loop next: that the socket takes more is one of these.
 */
static bool next_posts_send(struct engine *e, bool *wait)
{
	const struct engine_callbacks *cb = &e->config.callbacks;
	struct wire_msg msg;
	uint64_t ready;
	unsigned to;

	*wait = false;
	if (!cb->next_post)
		return false;
	atomic_store(&e->rung, false);
	ready = peers_ready(e);
	for (unsigned i = 0; i < NEXT_POSTS_BATCH; i++) {
		if (!cb->next_post(cb->ctx, ready, &to, &msg)) {
			*wait = ready != engine_peers_all(e);
			return false;
		}
		msg.epoch = e->epoch;
		(void)e->transport->ops->send(e->transport, to, &msg, NULL, false);
		ready = (ready & ~(UINT64_C(1) << to)) | peer_ready(e, to);
	}
	return true;
}

static unsigned posts_send(struct engine *e)
{
	struct post batch[POSTS_BATCH];
	unsigned n = posts_take(e, batch);

	for (unsigned i = 0; i < n; i++) {
		if (!e->closing)
			post_send(e, &batch[i]);
		free(batch[i].payload);
	}
	return n;
}

bool engine_posts_send(struct engine *e)
{
	bool wait, more = next_posts_send(e, &wait);

	more |= posts_send(e) == POSTS_BATCH;
	if (more)
		engine_wake(e);
	return more || wait;
}

void engine_posts_free(struct engine *e)
{
	struct post batch[POSTS_BATCH];
	unsigned n;

	while ((n = posts_take(e, batch)) > 0)
		for (unsigned i = 0; i < n; i++)
			free(batch[i].payload);
}
