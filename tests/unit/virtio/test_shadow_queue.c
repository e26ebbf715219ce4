/* SPDX-License-Identifier: Apache-2.0 */
/* Room in a shadow queue: each byte has one request, parts lie as they should, and all comes back. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "vmm/vhost/shadow_queue.h"

static struct shadow_arena arena;
static struct shadow_queue queue;

static void begin(bool event_index)
{
	cr_assert_eq(shadow_arena_open(&arena, 1), 0);
	cr_assert_eq(shadow_queue_open(&queue, &arena, 0, event_index), 0);
}

static void end(void)
{
	cr_assert_eq(queue.pieces_free, SHADOW_PIECES);
	cr_assert_eq(queue.free_count, SHADOW_RING);
	for (unsigned i = 0; i < SHADOW_WORDS; i++)
		cr_assert_eq(queue.piece_busy[i], 0);
	shadow_queue_close(&queue);
	shadow_arena_close(&arena);
}

static uint32_t draw(uint32_t below)
{
	static uint32_t seed = 5;

	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

/* Writes (or checks) a number into each byte of a request. */
static uint64_t fill(unsigned request, bool in, uint8_t value, bool check)
{
	uint64_t offset = 0, wrong = 0;
	uint32_t len;
	uint8_t *at;

	for (;; offset += len) {
		at = in ? (uint8_t *)(uintptr_t)shadow_queue_in(&queue, request, (uint32_t)offset,
								&len)
			: shadow_queue_out(&queue, request, (uint32_t)offset, &len);
		if (!at)
			return offset;
		for (uint32_t i = 0; check && i < len; i++)
			wrong += at[i] != value;
		cr_assert_eq(wrong, 0);
		if (!check)
			memset(at, value, len);
	}
}

Test(shadow_queue, gives_each_byte_once)
{
	struct shadow_shape shape[SHADOW_REQUESTS];
	bool busy[SHADOW_REQUESTS] = {false};
	unsigned taken = 0, refused = 0;

	begin(true);
	for (unsigned i = 0; i < 4000; i++) {
		unsigned victim = draw(SHADOW_REQUESTS);
		struct shadow_shape s = {.head_bytes = draw(2) * 16,
					 .out_bytes = draw(3) ? draw(20000) : draw(300000),
					 .in_bytes = draw(3) ? draw(20000) : draw(300000),
					 .tail_bytes = 1};
		int got = shadow_queue_take(&queue, &s);

		if (got >= 0) {
			cr_assert_lt(got, SHADOW_REQUESTS);
			cr_assert_not(busy[got]);
			busy[got] = true;
			shape[got] = s;
			cr_assert_eq(fill((unsigned)got, false, (uint8_t)got, false),
				     s.head_bytes + s.out_bytes);
			cr_assert_eq(fill((unsigned)got, true, (uint8_t)got, false),
				     s.in_bytes + s.tail_bytes);
			taken++;
		} else {
			cr_assert_eq(got, -EAGAIN);
			refused++;
		}
		if (busy[victim] && (got < 0 || draw(2))) {
			fill(victim, false, (uint8_t)victim, true);
			fill(victim, true, (uint8_t)victim, true);
			shadow_queue_release(&queue, victim);
			busy[victim] = false;
		}
	}
	cr_assert_gt(taken, 500);
	cr_assert_gt(refused, 500);
	for (unsigned i = 0; i < SHADOW_REQUESTS; i++)
		if (busy[i]) {
			cr_assert_eq(fill(i, true, (uint8_t)i, true),
				     shape[i].in_bytes + shape[i].tail_bytes);
			shadow_queue_release(&queue, i);
		}
	end();
}

Test(shadow_queue, has_room_for_one_of_the_longest)
{
	const uint32_t all = SHADOW_PIECES * SHADOW_PIECE;
	struct shadow_shape shape = {16, all, 0, 1};
	uint32_t len;
	int got;

	begin(true);
	got = shadow_queue_take(&queue, &shape);
	cr_assert_geq(got, 0);
	cr_assert_not_null(shadow_queue_out(&queue, (unsigned)got, 16, &len));
	cr_assert_eq(len, all, "in one row");
	shape = (struct shadow_shape){16, 1, 0, 1};
	cr_assert_eq(shadow_queue_take(&queue, &shape), -EAGAIN);
	shadow_queue_release(&queue, (unsigned)got);
	shape = (struct shadow_shape){16, all, 1, 1};
	cr_assert_eq(shadow_queue_take(&queue, &shape), -E2BIG);
	shape = (struct shadow_shape){16, UINT32_MAX, UINT32_MAX, 1};
	cr_assert_eq(shadow_queue_take(&queue, &shape), -E2BIG);
	end();
}

/* Every second piece is free: that needs more descriptors than there are. */
Test(shadow_queue, waits_while_room_lies_scattered)
{
	const struct shadow_shape one = {0, 2 * SHADOW_PIECE, 0, 0},
				  many = {16, 300 * SHADOW_PIECE, 0, 1};
	int got[SHADOW_REQUESTS], last;

	begin(true);
	for (unsigned i = 0; i < SHADOW_PIECES; i += 2)
		queue.piece_busy[i / 64] |= UINT64_C(1) << i % 64;
	queue.pieces_free = SHADOW_PIECES / 2;
	cr_assert_eq(shadow_queue_take(&queue, &many), -EAGAIN);
	cr_assert_eq(queue.pieces_free, SHADOW_PIECES / 2);
	cr_assert_eq(queue.free_count, SHADOW_RING);
	for (unsigned i = 0; i < 100; i++) {
		got[i] = shadow_queue_take(&queue, &one);
		cr_assert_geq(got[i], 0);
	}
	for (unsigned i = 0; i < 100; i++)
		shadow_queue_release(&queue, (unsigned)got[i]);
	memset(queue.piece_busy, 0, sizeof(queue.piece_busy));
	queue.pieces_free = SHADOW_PIECES;
	last = shadow_queue_take(&queue, &many);
	cr_assert_geq(last, 0);
	shadow_queue_release(&queue, (unsigned)last);
	end();
}

/* The back end can neither shrink it under us, nor grow it. */
Test(shadow_queue, arena_is_sealed)
{
	int seals;

	begin(false);
	seals = fcntl(arena.fd, F_GET_SEALS);
	cr_assert_eq(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
		     F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	cr_assert_lt(ftruncate(arena.fd, 0), 0);
	end();
}

static bool kicked(void)
{
	uint64_t count;

	return read(queue.kick_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void submit_one(void)
{
	const struct shadow_shape shape = {16, 0, 0, 1};
	int got = shadow_queue_take(&queue, &shape);

	cr_assert_geq(got, 0);
	shadow_queue_submit(&queue, (unsigned)got);
	shadow_queue_kick(&queue);
}

static void serve_one(void)
{
	struct shadow_memory *m = queue.memory;
	uint16_t idx = m->used_idx;
	unsigned number;

	m->used_ring[idx % SHADOW_RING].id = m->avail_ring[idx % SHADOW_RING];
	m->used_idx = (uint16_t)(idx + 1);
	cr_assert_eq(shadow_queue_reap(&queue, &number), 1);
	shadow_queue_release(&queue, number);
}

Test(shadow_queue, kicks_when_it_is_wanted)
{
	unsigned number;

	begin(true);
	cr_assert_eq(shadow_queue_reap(&queue, &number), 0);
	submit_one(); /* avail_event is 0 */
	cr_assert(kicked());
	submit_one();
	cr_assert_not(kicked());
	queue.memory->avail_event = 2;
	submit_one();
	cr_assert(kicked());
	for (unsigned i = 0; i < 3; i++)
		serve_one();
	cr_assert_eq(queue.memory->used_event, 0);
	cr_assert_eq(shadow_queue_reap(&queue, &number), 0);
	cr_assert_eq(queue.memory->used_event, 3);
	/* Round and round. */
	for (unsigned i = 3; i < 70000; i++) {
		queue.memory->avail_event = (uint16_t)i;
		submit_one();
		cr_assert(kicked());
		serve_one();
	}
	end();
	begin(false);
	submit_one();
	cr_assert(kicked());
	queue.memory->used_flags = 1;
	submit_one();
	cr_assert_not(kicked());
	serve_one();
	serve_one();
	end();
}
