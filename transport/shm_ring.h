/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of messages in memory that two processes share: one direction, one sender, one receiver. */
#ifndef TRANSPORT_SHM_RING_H
#define TRANSPORT_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "transport/wire.h"

/* Messages that are under way: a burst of some for each CPU; what is beyond waits in the sender's
 * queue. A power of two. */
#define SHM_ENTRIES 128u
/* Payloads that are under way, a page each: as many as a bit set has bits. */
#define SHM_SLOTS 64u

/* A message in the ring: a struct shm_entry, word by word. */
#define SHM_ENTRY_WORDS 8u

/* A message: its header as on the wire, and which slot its payload lies in, if it has one. */
struct shm_entry {
	uint8_t header[WIRE_HEADER_SIZE];
	uint64_t slot;
	uint64_t unused[3];
};

/*
 * The shared part. Each side writes its own line only, and the receiver clears and the sender takes
 * the receiver's wish to be woken. Indexes count without end; a message's entry is its index modulo
 * SHM_ENTRIES. Nothing here is believed: each side keeps its own indexes in its own memory.
 */
struct shm_ring {
	/* The sender's. */
	_Alignas(64) _Atomic uint32_t head; /* messages published */
	_Atomic uint32_t waits;		    /* it waits for room: to be woken when there is some */
	/* The receiver's. */
	_Alignas(64) _Atomic uint32_t
		tail;		 /* messages done with: their entries and slots are free */
	_Atomic uint32_t sleeps; /* to be woken when there is a message */
	_Alignas(PANGEA_PAGE_SIZE) _Atomic uint64_t entries[SHM_ENTRIES][SHM_ENTRY_WORDS];
	_Alignas(PANGEA_PAGE_SIZE) uint8_t slots[SHM_SLOTS][PANGEA_PAGE_SIZE];
};

struct shm_sender {
	struct shm_ring *ring;
	uint32_t head, tail;
	uint64_t slots_used; /* bit per slot */
	uint8_t slot_of[SHM_ENTRIES];
};

struct shm_receiver {
	struct shm_ring *ring;
	uint32_t tail;
	bool asleep; /* ring->sleeps was set */
};

/* The ring is fresh memory, all zero. */
void shm_sender_init(struct shm_sender *sender, struct shm_ring *ring);
void shm_receiver_init(struct shm_receiver *receiver, struct shm_ring *ring);

/*
 * Publishes a message, payload copied. 0; -EAGAIN: no room for it now; -PANGEA_EWIRE: the
 * receiver's index is none that can be.
 */
int shm_put(struct shm_sender *sender, const uint8_t *header, const void *payload,
	    uint32_t payload_len);
/* After shm_put: must the receiver be woken? Its wish is taken: the next answer is no. */
bool shm_put_wakes(struct shm_sender *sender);
/* Says that the sender waits for room, or no longer does. True: the receiver has moved on since the
 * last shm_put, so try again. */
bool shm_room_await(struct shm_sender *sender, bool wanted);

/*
 * Copies the oldest message that was not done with. 1; 0: there is none; -PANGEA_EWIRE: the
 * sender's index is none that can be.
 */
int shm_take(struct shm_receiver *receiver, struct shm_entry *entry);
/* Where an entry's payload lies, or NULL: there is no such slot. */
void *shm_payload(const struct shm_receiver *receiver, const struct shm_entry *entry);
/* The message that was taken is done with. */
void shm_done(struct shm_receiver *receiver);
/* After some: does the sender wait for room? */
bool shm_done_wakes(struct shm_receiver *receiver);
/* The receiver is about to sleep. False: there is something, and it must not. */
bool shm_sleep(struct shm_receiver *receiver);
/* It is awake. */
void shm_awake(struct shm_receiver *receiver);

#endif
