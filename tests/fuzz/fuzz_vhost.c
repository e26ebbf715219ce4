/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what a back end says: its answers to the front end, and what it writes into the arena of a shadow queue. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/vhost/shadow_queue.h"
#include "vmm/vhost/vhost_user.h"

static struct shadow_arena arena;

static uint64_t number(struct fuzz_input *in, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)fuzz_byte(in) << (8 * i);
	return value;
}

/* ---- answers ---- */

static bool error_fits(int err)
{
	return err == 0 || err == -PANGEA_EPEERLOST || err == -PANGEA_EPROTOCOL;
}

/* All answers are there before the questions; when there are no more, the back end is gone, and nothing waits. */
static void talk(struct fuzz_input *in)
{
	uint8_t config[VHOST_USER_CONFIG_MAX];
	struct vhost_user u;
	int ends[2], err;
	uint32_t size = 1 + fuzz_byte(in);

	invariant(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	if (in->at < in->end)
		invariant(send(ends[0], in->at, (size_t)(in->end - in->at), MSG_NOSIGNAL) > 0);
	shutdown(ends[0], SHUT_WR);
	err = vhost_user_open(&u, "fuzz", ends[1], VHOST_USER_PROTOCOL_CONFIG);
	invariant(error_fits(err));
	invariant(err == 0 || u.fd < 0);
	if (!err) {
		invariant(u.queues > 0 && u.queues <= UINT16_MAX);
		err = vhost_user_config_get(&u, config, size);
		invariant(error_fits(err));
		(void)vhost_user_lives(&u);
		if (!err)
			err = vhost_user_features_set(&u, UINT64_MAX);
		if (!err)
			err = shadow_arena_share(&arena, &u);
		invariant(error_fits(err));
		vhost_user_close(&u);
	}
	close(ends[0]);
}

/* ---- a ring ---- */

/* What we know of our requests. */
struct known {
	enum {
		FREE,
		OURS,
		THEIRS
	} state;
	uint32_t out, in;
};

/* Each part is as long as it was asked for, and lies in the queue's own memory. */
static void bytes_check(const struct shadow_queue *q, unsigned request, const struct known *k)
{
	const uint8_t *first = (const uint8_t *)q->memory, *end = first + sizeof(*q->memory);

	for (unsigned part = 0; part < 2; part++) {
		uint32_t offset = 0, len;
		const uint8_t *at;

		while ((at = part ? shadow_queue_in(q, request, offset, &len)
				  : shadow_queue_out(q, request, offset, &len)) != NULL) {
			invariant(at >= first && at < end && len > 0 &&
				  len <= (uint64_t)(end - at));
			offset += len;
		}
		invariant(offset == (part ? k->in : k->out));
	}
}

static void take(struct shadow_queue *q, struct known *known, struct fuzz_input *in)
{
	struct shadow_shape shape = {.head_bytes = fuzz_byte(in) % (SHADOW_HEAD_MAX + 1),
				     .out_bytes = (uint32_t)number(in, 3),
				     .in_bytes = (uint32_t)number(in, 3),
				     .tail_bytes = 1};
	int got;

	if (fuzz_byte(in) % 4)
		shape.out_bytes %= 20000, shape.in_bytes %= 20000;
	got = shadow_queue_take(q, &shape);
	if (got < 0) {
		invariant(got == -EAGAIN || got == -E2BIG);
		return;
	}
	invariant(got < (int)SHADOW_REQUESTS && known[got].state == FREE);
	known[got] = (struct known){OURS, shape.head_bytes + shape.out_bytes, shape.in_bytes + 1};
	bytes_check(q, (unsigned)got, &known[got]);
	if (fuzz_byte(in) % 4) {
		shadow_queue_submit(q, (unsigned)got);
		known[got].state = THEIRS;
	}
}

/* Returns false when the back end is not to be trusted any more. */
static bool reap(struct shadow_queue *q, struct known *known)
{
	unsigned request;
	int got = shadow_queue_reap(q, &request);

	invariant(got == 0 || got == 1 || got == -PANGEA_EPROTOCOL);
	if (got == 1) {
		invariant(request < SHADOW_REQUESTS && known[request].state == THEIRS);
		bytes_check(q, request, &known[request]);
		known[request].state = OURS;
	}
	return got >= 0;
}

static void release(struct shadow_queue *q, struct known *known, unsigned request)
{
	if (known[request].state != OURS)
		return;
	shadow_queue_release(q, request);
	known[request].state = FREE;
}

/* As a back end that behaves would, or as one that does not. */
static void answer(struct shadow_memory *m, struct fuzz_input *in)
{
	uint16_t idx = m->used_idx;
	uint8_t what = fuzz_byte(in);

	m->used_ring[idx % SHADOW_RING].id =
		what < 200 ? m->avail_ring[idx % SHADOW_RING] : (uint32_t)number(in, 4);
	m->used_idx = (uint16_t)(idx + (what < 240 ? 1 : number(in, 2)));
}

static void scribble(struct shadow_memory *m, struct fuzz_input *in)
{
	/* The rings lie first. */
	uint64_t at = number(in, 2) % offsetof(struct shadow_memory, piece);

	((uint8_t *)m)[at] = fuzz_byte(in);
}

static void serve(struct fuzz_input *in)
{
	static struct known known[SHADOW_REQUESTS];
	static struct shadow_queue q;
	bool trusted = true;

	memset(known, 0, sizeof(known));
	memset(arena.memory, 0, offsetof(struct shadow_memory, piece));
	invariant(shadow_queue_open(&q, &arena, 0, fuzz_byte(in) % 2) == 0);
	while (trusted && in->at < in->end) {
		switch (fuzz_byte(in) % 6) {
		case 0:
			take(&q, known, in);
			break;
		case 1:
			shadow_queue_kick(&q);
			break;
		case 2:
			trusted = reap(&q, known);
			break;
		case 3:
			release(&q, known, fuzz_byte(in) % SHADOW_REQUESTS);
			break;
		case 4:
			answer(arena.memory, in);
			break;
		default:
			scribble(arena.memory, in);
			break;
		}
	}
	shadow_queue_close(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};

	if (!arena.memory)
		invariant(shadow_arena_open(&arena, 1) == 0);
	if (fuzz_byte(&in) % 2)
		talk(&in);
	else
		serve(&in);
	return 0;
}
