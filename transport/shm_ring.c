/* SPDX-License-Identifier: Apache-2.0 */
/* The ring's two ends. All that the other side may write is read once, by an atomic, and checked. */
#include "transport/shm_ring.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"

#define SLOT_NONE UINT8_MAX

static_assert((SHM_ENTRIES & (SHM_ENTRIES - 1)) == 0, "indexes wrap");
static_assert(SHM_SLOTS == 64, "bits of slots_used");
static_assert(sizeof(struct shm_entry) == 64, "a cache line");
static_assert(sizeof(struct shm_entry) == SHM_ENTRY_WORDS * sizeof(uint64_t), "copied in words");
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LONG_LOCK_FREE == 2,
	      "another process has none of our locks");
static_assert(WIRE_PAYLOAD_MAX <= PANGEA_PAGE_SIZE, "a payload fits its slot");

void shm_sender_init(struct shm_sender *sender, struct shm_ring *ring)
{
	*sender = (struct shm_sender){.ring = ring};
	memset(sender->slot_of, SLOT_NONE, sizeof(sender->slot_of));
}

void shm_receiver_init(struct shm_receiver *receiver, struct shm_ring *ring)
{
	*receiver = (struct shm_receiver){.ring = ring};
}

/* Frees what the receiver is done with. */
static int sender_reclaim(struct shm_sender *sender)
{
	uint32_t tail = atomic_load_explicit(&sender->ring->tail, memory_order_acquire);

	if (tail - sender->tail > sender->head - sender->tail)
		return -PANGEA_EWIRE;
	for (; sender->tail != tail; sender->tail++) {
		uint8_t *slot = &sender->slot_of[sender->tail % SHM_ENTRIES];

		if (*slot != SLOT_NONE)
			sender->slots_used &= ~(UINT64_C(1) << *slot);
		*slot = SLOT_NONE;
	}
	return 0;
}

static bool sender_has_room(const struct shm_sender *sender, bool slot)
{
	return sender->head - sender->tail < SHM_ENTRIES &&
	       (!slot || sender->slots_used != UINT64_MAX);
}

static void entry_store(_Atomic uint64_t *to, const struct shm_entry *from)
{
	uint64_t words[SHM_ENTRY_WORDS];

	memcpy(words, from, sizeof(words));
	for (unsigned i = 0; i < SHM_ENTRY_WORDS; i++)
		atomic_store_explicit(&to[i], words[i], memory_order_relaxed);
}

int shm_put(struct shm_sender *sender, const uint8_t *header, const void *payload,
	    uint32_t payload_len)
{
	uint32_t at = sender->head % SHM_ENTRIES;
	struct shm_entry entry = {0};
	int err = sender_reclaim(sender);

	if (err)
		return err;
	if (!sender_has_room(sender, payload_len > 0))
		return -EAGAIN;
	if (payload_len > 0) {
		/* The lowest free one: the fewest pages are touched, and those are warm. */
		unsigned slot = (unsigned)__builtin_ctzll(~sender->slots_used);

		sender->slots_used |= UINT64_C(1) << slot;
		sender->slot_of[at] = (uint8_t)slot;
		memcpy(sender->ring->slots[slot], payload, payload_len);
		entry.slot = slot;
	}
	memcpy(entry.header, header, WIRE_HEADER_SIZE);
	entry_store(sender->ring->entries[at], &entry);
	sender->head++;
	/*
	 * Sequentially consistent, as the receiver's store to sleeps and its load of head after it:
	 * either it sees this message, or shm_put_wakes sees that it sleeps.
	 */
	atomic_store(&sender->ring->head, sender->head);
	return 0;
}

bool shm_put_wakes(struct shm_sender *sender)
{
	_Atomic uint32_t *sleeps = &sender->ring->sleeps;

	return atomic_load(sleeps) && atomic_exchange(sleeps, 0);
}

bool shm_room_await(struct shm_sender *sender, bool wanted)
{
	atomic_store(&sender->ring->waits, wanted);
	return atomic_load(&sender->ring->tail) != sender->tail;
}

/* Each word is read once: what is checked afterwards is what was copied. */
static void entry_load(struct shm_entry *to, const _Atomic uint64_t *from)
{
	uint64_t words[SHM_ENTRY_WORDS];

	for (unsigned i = 0; i < SHM_ENTRY_WORDS; i++)
		words[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
	memcpy(to, words, sizeof(words));
}

int shm_take(struct shm_receiver *receiver, struct shm_entry *entry)
{
	uint32_t there =
		atomic_load_explicit(&receiver->ring->head, memory_order_acquire) - receiver->tail;

	if (there == 0)
		return 0;
	if (there > SHM_ENTRIES)
		return -PANGEA_EWIRE;
	entry_load(entry, receiver->ring->entries[receiver->tail % SHM_ENTRIES]);
	return 1;
}

void *shm_payload(const struct shm_receiver *receiver, const struct shm_entry *entry)
{
	return entry->slot < SHM_SLOTS ? receiver->ring->slots[entry->slot] : NULL;
}

void shm_done(struct shm_receiver *receiver)
{
	receiver->tail++;
	atomic_store_explicit(&receiver->ring->tail, receiver->tail, memory_order_release);
}

bool shm_done_wakes(struct shm_receiver *receiver)
{
	/* Once more, so that either this sees the wish, or the sender the new tail. */
	atomic_store(&receiver->ring->tail, receiver->tail);
	return atomic_load(&receiver->ring->waits) && atomic_exchange(&receiver->ring->waits, 0);
}

bool shm_sleep(struct shm_receiver *receiver)
{
	receiver->asleep = true;
	atomic_store(&receiver->ring->sleeps, 1);
	return atomic_load(&receiver->ring->head) == receiver->tail;
}

void shm_awake(struct shm_receiver *receiver)
{
	if (!receiver->asleep)
		return;
	receiver->asleep = false;
	atomic_store_explicit(&receiver->ring->sleeps, 0, memory_order_relaxed);
}
