/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the protocol core: its memory, and what its source files share. */
#ifndef DSM_PROTOCOL_PARTS_H
#define DSM_PROTOCOL_PARTS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dsm/protocol/protocol.h"
#include "dsm/protocol/protocol_table.h"

#define CHUNK_PAGES_SHIFT (HOME_CHUNK_SHIFT - PAGE_SHIFT)
#define CHUNK_PAGES	  (1u << CHUNK_PAGES_SHIFT)

/* A slice has one request per faulting thread; more threads than this are a mistake. */
#define PROTOCOL_REQUESTS_MAX 4096u
/* Pages whose contention is remembered at a time (direct-mapped: older ones are forgotten). */
#define PROTOCOL_HOLDS_MAX 1024u
/* Hold times grow in this many steps to hold_ns: 0, 1/4, 1/2, 1. */
#define HOLD_LEVEL_MAX 3u
/* A page that is taken away within this many hold times (or turns) of its grant is contended. */
#define HOLD_SOON 4u
/* One that was asked for this many times within so many long hold times is long contended. */
#define HOLD_LONG_AFTER 16u
#define HOLD_LONG_SOON	2u

/* The slice's byte for every guest page: an enum page_state and one flag. */
#define PAGE_STATE_MASK 0x0fu
/* The frame may hold bytes other than zero. */
#define PAGE_FRAME_USED 0x10u

/* The directory's entry for a page homed here. All zero: untouched. */
struct home_entry {
	uint64_t sharers;	 /* by sharer_bit; valid in S, the states of a read, and OH */
	uint32_t state : 4;	 /* enum home_state */
	uint32_t flags : 4;	 /* ENTRY_... */
	uint32_t owner : 11;	 /* in O, and while ENTRY_FORWARDED */
	uint32_t requester : 11; /* of the transaction under way */
	uint32_t own : 1;	 /* with groups: our own slice is a sharer; it has no bit then */
	uint32_t spare : 1;
	uint32_t queue; /* index + 1 of the home_queue; 0: nobody waits */
};
static_assert(sizeof(struct home_entry) == 16, "a homed page costs 16 bytes");
static_assert(HOME_STATE_COUNT <= 1 << 4, "a state fits its field");
static_assert(PROTOCOL_SLICES_MAX <= 1u << 11, "a slice fits its fields");

#define ENTRY_FORWARDED 0x01u /* this transaction sent a FWD to the owner */
#define ENTRY_WB_HERE	0x02u /* and the owner's WB has come */
#define ENTRY_PUT_LATER 0x04u /* the owner gets a PUT_ACK when this transaction ends */

/* Who waits for a page that is busy; served in turn, from the last requester's index upwards. */
struct home_queue {
	uint32_t next; /* free list: index + 1 */
	uint32_t pad;
	/* By slice index, words_of each: who waits, and of these who wants to write. */
	uint64_t bits[];
};

/* A request of this slice that is under way. Freed ones are all zero but for next. */
struct request {
	uint64_t gfn;
	uint64_t acked; /* who has sent its ACK; beyond 64 slices in an array of its own */
	uint16_t acks;	/* how many must: known in IMA and SMA */
	uint16_t have;	/* how many have */
	uint32_t next;	/* hash chain or free list: index + 1 */
};

/* The contention of one page, and the one message that waits for its hold time. */
struct hold {
	uint64_t tag; /* gfn + 1; 0: free */
	uint64_t granted_ns;
	uint16_t requester; /* of the message set aside */
	uint8_t level;
	uint8_t deferred; /* its type, or 0 */
	uint8_t soon;	  /* to HOLD_LONG_AFTER: long contended */
	uint8_t pad[3];
};

/* A page that is kept once it is exclusive here, and the one message that waits for its release. */
struct pin {
	uint64_t tag;	    /* gfn + 1; 0: free */
	uint16_t requester; /* of the message set aside */
	uint8_t deferred;   /* its type, or 0 */
	uint8_t pad[5];
};

/* A fixed pool with a free list; entries never used are still untouched memory. */
struct pool {
	uint32_t capacity;
	uint32_t fresh; /* entries from here on were never used */
	uint32_t free;	/* index + 1 */
	uint32_t used;
};

/* The pages that a loss took are told in several steps, since actions are bounded. */
struct loss {
	bool under_way;
	uint16_t slice;
	uint64_t at; /* the next page to look at */
};

/* Offsets, not pointers: a copy of the memory is a copy of the protocol. */
struct protocol {
	struct protocol_config config;
	bool frozen; /* a slice is lost: nothing is given or taken any more */
	uint64_t chunks;
	uint64_t homed; /* directory entries */
	size_t chunk_offset, page_offset, entry_offset;
	uint32_t bucket_offset, request_offset, queue_offset, hold_offset, acked_offset;
	uint32_t buckets, holds; /* powers of two; holds may be 0 */
	struct pool requests, queues;
	uint32_t queued_remote; /* requests of other slices that wait here */
	uint64_t evicting;	/* pages in MI, SI or II */
	struct loss loss;
	struct pin pins[PROTOCOL_PINS_MAX];
	struct protocol_stats stats;
};

/* A chunk's word: the index of its first directory entry, and whether any was touched. */
#define CHUNK_TOUCHED 0x80000000u

/* Messages to ourselves that wait inside one step: never more than three at a time. */
#define LOCAL_MAX 8u

struct step {
	struct protocol *p;
	struct protocol_actions *actions;
	uint64_t now_ns;
	const struct protocol_event *event;
	struct wire_msg local[LOCAL_MAX];
	unsigned local_head, local_count;
};

/* protocol_memory.c: the arrays and pools. */
uint8_t *page_at(const struct protocol *p, uint64_t gfn);
enum page_state page_state(const struct protocol *p, uint64_t gfn);
void page_state_set(struct protocol *p, uint64_t gfn, enum page_state state);
/* The entry of a page that is homed here (protocol_home says so). */
struct home_entry *entry_find(const struct protocol *p, uint64_t gfn);
/* The same, and remembers that the chunk has entries in use. */
struct home_entry *entry_touch(struct protocol *p, uint64_t gfn);
uint32_t *chunk_at(const struct protocol *p, uint64_t chunk);
struct request *request_find(const struct protocol *p, uint64_t gfn);
struct request *request_at(const struct protocol *p, uint32_t index);
/* NULL: requests_max are under way. */
struct request *request_add(struct protocol *p, uint64_t gfn);
void request_remove(struct protocol *p, uint64_t gfn);
/* Has this slice's ACK come? */
bool request_acked(const struct protocol *p, const struct request *r, unsigned slice);
void request_ack(struct protocol *p, struct request *r, unsigned slice);
/* Is there any memory of a slice at this address? */
bool gfn_known(const struct protocol *p, uint64_t gfn);
/* The queue of an entry, made if there is none; NULL: the pool is empty. */
struct home_queue *queue_of(struct protocol *p, struct home_entry *entry);
struct home_queue *queue_find(const struct protocol *p, const struct home_entry *entry);
void queue_free(struct protocol *p, struct home_entry *entry);
struct hold *hold_at(const struct protocol *p, uint64_t gfn);

static inline uint64_t slice_bit(unsigned slice)
{
	return UINT64_C(1) << slice;
}

/* Words of a set of slices by index. */
static inline unsigned words_of(const struct protocol *p)
{
	return (p->config.slices + 63) / 64;
}

/* The bit of home_entry.sharers that stands for this slice and, maybe, for others. */
static inline uint64_t sharer_bit(const struct protocol *p, unsigned slice)
{
	return slice_bit(p->config.sharer_group == 1 ? slice : slice / p->config.sharer_group);
}

static inline unsigned bits_count(uint64_t bits)
{
	return (unsigned)__builtin_popcountll(bits);
}

/* protocol.c: what a step gives out. */
struct protocol_action *step_action(struct step *s, enum protocol_action_type type, uint64_t gfn);
/* Sends a message of this type, or keeps it for this step if it is to ourselves. */
void step_send(struct step *s, unsigned to, struct wire_msg msg);
/* The same with the frame, or with the zero flag if the frame was never written. */
void step_send_page(struct step *s, unsigned to, struct wire_msg msg);
/* Handles the messages to ourselves, in their order. */
void step_drain(struct step *s);
struct wire_msg msg_make(const struct protocol *p, unsigned type, uint64_t gfn, unsigned requester);
void step_violation(struct step *s, unsigned from, const struct wire_msg *msg, const char *why);
/* The bytes that came with a message are in the frame now. */
void step_take(struct step *s, unsigned from, const struct wire_msg *msg);

/* protocol_slice.c: the slice side. */
int slice_fault(struct step *s, uint64_t gfn, bool write);
void slice_evict(struct step *s, uint64_t gfn);
/* The row for a message, or NULL if it breaks the protocol; changes nothing. */
const struct protocol_rule *slice_classify(const struct protocol *p, unsigned from,
					   const struct wire_msg *msg);
void slice_message(struct step *s, unsigned from, const struct wire_msg *msg);
/* Obeys a rule for a page. */
void slice_apply(struct step *s, const struct protocol_rule *rule, uint64_t gfn, unsigned from,
		 const struct wire_msg *msg);

/* protocol_home.c: the home side. */
const struct protocol_rule *home_classify(const struct protocol *p, unsigned from,
					  const struct wire_msg *msg);
void home_message(struct step *s, unsigned from, const struct wire_msg *msg);

/* protocol_hold.c: minimum hold times. */
void hold_granted(struct step *s, uint64_t gfn);
/* A FWD or INV has come for a page here: must it wait? Also learns from it. */
bool hold_check(struct step *s, uint64_t gfn, unsigned requester);
void hold_defer(struct step *s, uint64_t gfn, const struct wire_msg *msg);
bool hold_deferred(const struct protocol *p, uint64_t gfn);
/* Obeys the message that was set aside for gfn, if any. */
void hold_release(struct step *s, uint64_t gfn);
void hold_forget_all(struct protocol *p);
/* The message that waits for gfn's hold time, which is not to be obeyed then; type 0: none. */
struct wire_msg hold_deferred_take(struct step *s, uint64_t gfn);
/* Obeys a message that was set aside. */
void deferred_obey(struct step *s, const struct wire_msg *msg);

/* protocol_pin.c: pages that the engine keeps. */
/* Is gfn pinned and exclusive here? */
bool pin_keeps(const struct protocol *p, uint64_t gfn);
/* Sets aside a message for a page that is kept. */
void pin_defer(struct step *s, uint64_t gfn, const struct wire_msg *msg);
bool pin_deferred(const struct protocol *p, uint64_t gfn);
/* EVENT_PIN, EVENT_UNPIN. */
int pin_add(struct step *s, uint64_t gfn);
void pin_remove(struct step *s, uint64_t gfn);
void pin_forget_all(struct protocol *p);

/* protocol_loss.c: a slice is gone: freezes this one, and tells of the pages that went with it.
 * Returns 0, or -EAGAIN: step the event again for the rest. */
int loss_step(struct step *s, unsigned lost);

#endif
