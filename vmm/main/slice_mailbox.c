/* SPDX-License-Identifier: Apache-2.0 */
/* What engine and machine threads tell the main thread: readiness, the end, lost peers, console. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/lock.h"
#include "base/log.h"
#include "vmm/main/slice.h"

int slice_mailbox_init(struct slice *s)
{
	struct slice_mailbox *box = &s->mailbox;
	int err;

	box->lost_peer = SLICES_MAX;
	err = lock_init(&box->lock);
	if (err)
		return err;
	return lock_cond_init(&box->console_room);
}

static void engine_ready(void *ctx)
{
	struct slice *s = ctx;

	pthread_mutex_lock(&s->mailbox.lock);
	s->mailbox.ready = true;
	pthread_mutex_unlock(&s->mailbox.lock);
	uv_async_send(&s->wake);
}

static void engine_peer_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct slice *s = ctx;

	/* At once: what the guest computes now, nobody can use. machine_make came before
	 * engine_start. */
	if (s->machine)
		machine_halt(s->machine);
	pthread_mutex_lock(&s->mailbox.lock);
	if (s->mailbox.lost_peer == SLICES_MAX) {
		s->mailbox.lost_peer = peer;
		snprintf(s->mailbox.lost_why, sizeof(s->mailbox.lost_why), "%s",
			 why ? why : error_text(err));
	}
	pthread_mutex_unlock(&s->mailbox.lock);
	uv_async_send(&s->wake);
}

static int engine_machine_msg(void *ctx, unsigned from, const struct wire_msg *msg,
			      const void *payload)
{
	struct slice *s = ctx;

	return machine_msg(s->machine, from, msg, payload);
}

static bool engine_next_post(void *ctx, uint64_t slices, unsigned *to, struct wire_msg *msg)
{
	struct slice *s = ctx;

	return machine_next_post(s->machine, slices, to, msg);
}

static void engine_page_changed(void *ctx, uint64_t gfn)
{
	struct slice *s = ctx;

	machine_page_changed(s->machine, gfn);
}

static void engine_fault_remote(void *ctx, uint32_t tid, uint64_t now_ns)
{
	struct slice *s = ctx;

	machine_faulted(s->machine, tid, now_ns);
}

struct engine_callbacks slice_engine_callbacks(struct slice *s)
{
	return (struct engine_callbacks){.ctx = s,
					 .on_ready = engine_ready,
					 .on_machine_msg = engine_machine_msg,
					 .next_post = engine_next_post,
					 .on_page_changed = engine_page_changed,
					 .on_fault_remote = engine_fault_remote,
					 .on_peer_lost = engine_peer_lost};
}

static void machine_exited(void *ctx, enum exit_code reason, const char *sentence)
{
	struct slice *s = ctx;

	pthread_mutex_lock(&s->mailbox.lock);
	s->mailbox.exited = true;
	s->mailbox.exit_reason = reason;
	snprintf(s->mailbox.exit_sentence, sizeof(s->mailbox.exit_sentence), "%s", sentence);
	pthread_mutex_unlock(&s->mailbox.lock);
	uv_async_send(&s->wake);
}

/* Waits, at most until deadline, for room; 0 bytes: there is none. Behind a gap there is none before
 * the gap was told. Called with the lock held. */
static size_t console_room_wait(struct slice_mailbox *box, const struct timespec *deadline)
{
	while ((box->console_used == sizeof(box->console) || box->console_lost) &&
	       !box->console_closed)
		if (pthread_cond_timedwait(&box->console_room, &box->lock, deadline) == ETIMEDOUT)
			break;
	return box->console_closed || box->console_lost ? 0
							: sizeof(box->console) - box->console_used;
}

/* The slice's main loop offers what it has: slice_mailbox_drain. */
static void machine_input_room(void *ctx)
{
	struct slice *s = ctx;

	uv_async_send(&s->wake);
}

void slice_console_output(struct slice *s, const uint8_t *bytes, size_t len)
{
	struct slice_mailbox *box = &s->mailbox;
	struct timespec deadline;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += SLICE_CONSOLE_WAIT_MS / 1000;
	pthread_mutex_lock(&box->lock);
	while (len) {
		size_t room = console_room_wait(box, &deadline), n = len < room ? len : room;

		if (n == 0)
			break;
		memcpy(box->console + box->console_used, bytes, n);
		box->console_used += n;
		bytes += n;
		len -= n;
		uv_async_send(&s->wake);
	}
	box->console_lost += len;
	pthread_mutex_unlock(&box->lock);
}

static void machine_console(void *ctx, const uint8_t *bytes, size_t len)
{
	slice_console_output(ctx, bytes, len);
}

static int machine_post(void *ctx, unsigned to, const struct wire_msg *msg, const void *payload)
{
	struct slice *s = ctx;

	return engine_post(s->engine, to, msg, payload);
}

static int machine_locked(void *ctx, struct locked_access *access)
{
	struct slice *s = ctx;

	return engine_locked(s->engine, access);
}

static void machine_ring(void *ctx)
{
	struct slice *s = ctx;

	engine_ring(s->engine);
}

struct machine_callbacks slice_machine_callbacks(struct slice *s)
{
	return (struct machine_callbacks){.ctx = s,
					  .on_exit = machine_exited,
					  .on_console = machine_console,
					  .on_input_room = machine_input_room,
					  .post = machine_post,
					  .ring = machine_ring,
					  .locked = machine_locked};
}

void slice_mailbox_drain(uv_async_t *wake)
{
	struct slice *s = wake->data;
	struct slice_mailbox *box = &s->mailbox;
	char lost_why[SLICE_SENTENCE_MAX], sentence[2 * SLICE_SENTENCE_MAX];
	bool ready, exited;
	unsigned lost;

	pthread_mutex_lock(&box->lock);
	ready = box->ready;
	box->ready = false;
	exited = box->exited;
	lost = box->lost_peer;
	strcpy(lost_why, box->lost_why);
	pthread_mutex_unlock(&box->lock);

	slice_console_flush(s);
	slice_input_offer(s);
	if (ready)
		slice_connected(s);
	if (lost != SLICES_MAX && !exited) {
		snprintf(sentence, sizeof(sentence), "lost slice %u on node %s: %s", lost,
			 s->config.node[lost], lost_why);
		slice_end(s, EXIT_NODE_LOST, sentence);
	}
	if (exited) {
		slice_console_flush(s);
		slice_exit(s, box->exit_reason, "%s", box->exit_sentence);
	}
}
