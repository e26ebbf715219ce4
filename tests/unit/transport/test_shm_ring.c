/* SPDX-License-Identifier: Apache-2.0 */
/* The ring alone: room, slots, indexes that cannot be, and two threads that sleep and wake each other. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "transport/shm_ring.h"

static struct shm_ring *ring_make(void)
{
	struct shm_ring *ring = aligned_alloc(PANGEA_PAGE_SIZE, sizeof(*ring));

	cr_assert_not_null(ring);
	memset(ring, 0, sizeof(*ring));
	return ring;
}

struct ends {
	struct shm_ring *ring;
	struct shm_sender tx;
	struct shm_receiver rx;
};

static void ends_make(struct ends *ends)
{
	ends->ring = ring_make();
	shm_sender_init(&ends->tx, ends->ring);
	shm_receiver_init(&ends->rx, ends->ring);
}

static int put(struct ends *ends, uint8_t mark, unsigned payload_len)
{
	uint8_t header[WIRE_HEADER_SIZE], payload[WIRE_PAYLOAD_MAX];

	memset(header, mark, sizeof(header));
	memset(payload, mark, sizeof(payload));
	return shm_put(&ends->tx, header, payload, payload_len);
}

static void take(struct ends *ends, uint8_t mark, bool payload)
{
	struct shm_entry entry;
	const uint8_t *bytes;

	cr_assert_eq(shm_take(&ends->rx, &entry), 1);
	cr_assert_eq(entry.header[0], mark);
	cr_assert_eq(entry.header[31], mark);
	if (payload) {
		bytes = shm_payload(&ends->rx, &entry);
		cr_assert_not_null(bytes);
		cr_assert_eq(bytes[0], mark);
		cr_assert_eq(bytes[WIRE_PAYLOAD_MAX - 1], mark);
	}
	shm_done(&ends->rx);
}

Test(shm_ring, it_holds_its_entries_and_no_more)
{
	struct ends ends;

	ends_make(&ends);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < SHM_ENTRIES; i++)
			cr_assert_eq(put(&ends, (uint8_t)i, 0), 0);
		cr_assert_eq(put(&ends, 0, 0), -EAGAIN);
		take(&ends, 0, false);
		cr_assert_eq(put(&ends, SHM_ENTRIES, 0), 0);
		cr_assert_eq(put(&ends, 0, 0), -EAGAIN);
		for (unsigned i = 1; i <= SHM_ENTRIES; i++)
			take(&ends, (uint8_t)i, false);
	}
	free(ends.ring);
}

Test(shm_ring, it_holds_its_slots_and_uses_the_lowest)
{
	struct ends ends;

	ends_make(&ends);
	for (unsigned i = 0; i < 1000; i++) {
		cr_assert_eq(put(&ends, (uint8_t)i, WIRE_PAYLOAD_MAX), 0);
		take(&ends, (uint8_t)i, true);
	}
	cr_assert_eq(ends.ring->slots[1][0], 0, "one page was enough");
	for (unsigned i = 0; i < SHM_SLOTS; i++)
		cr_assert_eq(put(&ends, (uint8_t)i, WIRE_PAYLOAD_MAX), 0);
	cr_assert_eq(put(&ends, 99, WIRE_PAYLOAD_MAX), -EAGAIN);
	cr_assert_eq(put(&ends, 99, 0), 0, "a header still fits");
	take(&ends, 0, true);
	cr_assert_eq(put(&ends, 100, WIRE_PAYLOAD_MAX), 0);
	for (unsigned i = 1; i < SHM_SLOTS; i++)
		take(&ends, (uint8_t)i, true);
	take(&ends, 99, false);
	take(&ends, 100, true);
	free(ends.ring);
}

Test(shm_ring, indexes_wrap)
{
	struct ends ends;

	ends_make(&ends);
	ends.tx.head = ends.tx.tail = ends.rx.tail = UINT32_MAX - 3;
	ends.ring->head = ends.ring->tail = UINT32_MAX - 3;
	for (unsigned i = 0; i < 500; i++) {
		cr_assert_eq(put(&ends, (uint8_t)i, i % 2 ? 4096 : 0), 0);
		cr_assert_eq(put(&ends, (uint8_t)(i + 1), 0), 0);
		take(&ends, (uint8_t)i, i % 2);
		take(&ends, (uint8_t)(i + 1), false);
	}
	free(ends.ring);
}

Test(shm_ring, wild_indexes_are_refused)
{
	static const uint32_t wild[] = {SHM_ENTRIES + 1, SHM_ENTRIES + 2, 1000,
					0x7fffffff,	 0x80000000,	  UINT32_MAX};
	struct shm_entry entry;
	struct ends ends;

	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		ends_make(&ends);
		ends.ring->head = wild[i];
		cr_assert_eq(shm_take(&ends.rx, &entry), -PANGEA_EWIRE);
		ends.ring->tail = wild[i];
		cr_assert_eq(put(&ends, 0, 0), -PANGEA_EWIRE);
		free(ends.ring);
	}
	/* A tail that goes back, or beyond what was published. */
	ends_make(&ends);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(put(&ends, 0, 4096), 0);
	ends.ring->tail = 2;
	cr_assert_eq(put(&ends, 0, 0), 0);
	ends.ring->tail = 1;
	cr_assert_eq(put(&ends, 0, 0), -PANGEA_EWIRE);
	ends.ring->tail = 5;
	cr_assert_eq(put(&ends, 0, 0), -PANGEA_EWIRE);
	free(ends.ring);
}

Test(shm_ring, there_is_no_slot_beyond_the_last)
{
	struct shm_entry entry = {.slot = SHM_SLOTS - 1};
	struct ends ends;

	ends_make(&ends);
	cr_assert_not_null(shm_payload(&ends.rx, &entry));
	entry.slot = SHM_SLOTS;
	cr_assert_null(shm_payload(&ends.rx, &entry));
	entry.slot = UINT64_MAX;
	cr_assert_null(shm_payload(&ends.rx, &entry));
	free(ends.ring);
}

/* Two threads: what is sent arrives, and nobody sleeps for ever. */
#define MESSAGES 200000u

struct talk {
	struct ends ends;
	sem_t receiver_bell, sender_bell;
	unsigned bad;
	_Atomic unsigned late;
};

static void bell_await(struct talk *talk, sem_t *bell)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	while (sem_timedwait(bell, &until) < 0) {
		if (errno == EINTR)
			continue;
		talk->late++;
		return;
	}
}

static void *sender_main(void *arg)
{
	struct talk *talk = arg;
	unsigned seed = 7;

	for (unsigned i = 0; i < MESSAGES && !talk->late; i++) {
		unsigned len = rand_r(&seed) % 8 == 0 ? WIRE_PAYLOAD_MAX : 0;

		while (put(&talk->ends, (uint8_t)i, len) == -EAGAIN)
			if (!shm_room_await(&talk->ends.tx, true))
				bell_await(talk, &talk->sender_bell);
		if (shm_put_wakes(&talk->ends.tx))
			sem_post(&talk->receiver_bell);
	}
	return NULL;
}

static void *receiver_main(void *arg)
{
	struct talk *talk = arg;
	struct shm_receiver *rx = &talk->ends.rx;
	struct shm_entry entry;
	unsigned n = 0;

	while (n < MESSAGES && !talk->late) {
		int got = shm_take(rx, &entry);

		if (got < 0 || (got == 1 && entry.header[5] != (uint8_t)n))
			talk->bad++;
		if (got > 0) {
			n++;
			shm_done(rx);
			if (shm_done_wakes(rx))
				sem_post(&talk->sender_bell);
		} else if (shm_sleep(rx)) {
			bell_await(talk, &talk->receiver_bell);
			shm_awake(rx);
		}
	}
	return NULL;
}

Test(shm_ring, two_threads_wake_each_other)
{
	static struct talk talk;
	pthread_t sender, receiver;

	ends_make(&talk.ends);
	sem_init(&talk.receiver_bell, 0, 0);
	sem_init(&talk.sender_bell, 0, 0);
	pthread_create(&receiver, NULL, receiver_main, &talk);
	pthread_create(&sender, NULL, sender_main, &talk);
	pthread_join(sender, NULL);
	pthread_join(receiver, NULL);
	cr_assert_eq(talk.late, 0, "a wake-up was lost");
	cr_assert_eq(talk.bad, 0);
	free(talk.ends.ring);
}
