/* SPDX-License-Identifier: Apache-2.0 */
/* The coherence protocol as a pure function: (state, event) -> actions. No I/O, clock or malloc. */
#ifndef DSM_PROTOCOL_H
#define DSM_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "dsm/protocol/protocol_table.h" /* enum page_state */
#include "transport/wire.h" /* struct wire_msg and the message types; wire.h does no I/O */

/*
 * One slice's part of the protocol: the state of every guest page here (slice side) and the
 * directory of the pages homed here (home side). MSI, directory at the home, forwarding owner;
 * docs/protocol.md is its description, protocol_table.c the transition table as data.
 *
 * Memory: the caller provides one zeroed region of protocol_size() bytes, which may be lazily
 * backed (mmap of anonymous memory): pages never touched cost nothing.
 * Threads: none; one owner at a time.
 */
struct protocol;

/*
 * Homes: home_of_chunk[gpa >> HOME_CHUNK_SHIFT] is the slice whose memory holds that address
 * (SLICE_NONE in the hole and beyond RAM). Borrowed: it outlives the protocol.
 */
#define SLICE_NONE 0xffu
/* The same in the wide table, for more slices than a real VM can have. */
#define SLICE_NONE_WIDE 0xffffu
/* What the core can do; the transports and the control protocol stop at SLICES_MAX. */
#define PROTOCOL_SLICES_MAX 1024u

struct protocol_config {
	unsigned self;	 /* this slice's index, < slices */
	unsigned slices; /* 1..SLICES_MAX; with home_of_chunk_wide 1..PROTOCOL_SLICES_MAX */
	uint32_t epoch;
	/*
	 * Slices that a bit of the directory's sharer vector stands for; 0: as few as its 64 bits
	 * allow, which is one up to 64 slices. The same on all slices. With more than one, an INV
	 * goes to all slices of a group in which one may have a copy.
	 */
	unsigned sharer_group;
	uint64_t gfns;		      /* one past the last gfn; the hole is included */
	const uint8_t *home_of_chunk; /* see above */
	/* The same in 16 bits (SLICE_NONE_WIDE: none), taken instead if it is not NULL. */
	const uint16_t *home_of_chunk_wide;
	uint64_t hold_ns;      /* minimum hold time after a grant that others contend for */
	unsigned requests_max; /* outstanding requests of this slice (vCPUs + 1, say) */
	/*
	 * Requests that may be outstanding in the whole VM (sum of all slices' requests_max), which
	 * bounds the home's transactions and queues; 0: slices * requests_max.
	 */
	unsigned requests_total;
};

enum protocol_event_type {
	EVENT_FAULT_READ,  /* a vCPU here wants to read gfn */
	EVENT_FAULT_WRITE, /* a vCPU here wants to write gfn */
	EVENT_MESSAGE,	   /* msg came from slice `from` (its page, if any, is in the frame) */
	EVENT_HOLD_END,	   /* the timer that ACTION_HOLD_TIMER asked for has come */
	EVENT_EVICT,	   /* give up this slice's copy of gfn (ignored while busy or at home) */
	EVENT_PEER_LOST, /* slice `from` is gone: this one freezes (below), and tells what went with
			    it */
	EVENT_PIN,	 /* gfn is kept once it is exclusive here, until EVENT_UNPIN */
	EVENT_UNPIN,	 /* what was set aside for gfn meanwhile is obeyed */
};

/* Pages that may be pinned at a time: those of one LOCKed access. */
#define PROTOCOL_PINS_MAX 2

struct protocol_event {
	enum protocol_event_type type;
	unsigned from;	 /* EVENT_MESSAGE, EVENT_PEER_LOST */
	uint64_t gfn;	 /* faults, hold end, evict */
	uint64_t now_ns; /* the caller's monotonic clock */
	bool ahead;	 /* EVENT_FAULT_...: no vCPU has asked yet; it is not counted as a fault */
	/* EVENT_MESSAGE: if gfn is contended it stays, past its hold time too: who waited for it
	 * could not use it yet. The caller answers for an end of this. */
	bool unused;
	/* EVENT_MESSAGE: how long a page may be held that has long been asked for soon after each
	 * grant; 0, or less than the configuration's hold_ns: no longer than others. */
	uint64_t long_hold_ns;
	/*
	 * With turns: their length (0: no turns), whose it is, and when it ends by now_ns's clock.
	 * A contended page is then not held for hold_ns but given up at once to slices that come
	 * before this one in the turn's order (from `turn` upwards, modulo slices), and kept from
	 * others until its end.
	 */
	uint64_t turn_ns, turn_end_ns;
	unsigned turn;
	struct wire_msg msg;
};

/*
 * What the engine must do, in this order, before it steps the next event. "The mapping" is what
 * vCPUs see (G); "the frame" is the page's bytes in the alias mapping (A).
 */
enum protocol_action_type {
	ACTION_SEND, /* msg to slice `to`; no page */
	/* msg to slice `to` with the frame: payload_len is set; the engine may send MSG_FLAG_ZERO
	 * and no payload instead if the frame is all zero. */
	ACTION_SEND_PAGE,
	ACTION_ZERO_FRAME,    /* make the frame all zeroes (a zero page arrived or is born) */
	ACTION_MAP_SHARED,    /* invalid -> readable, write-protected; wakes waiting vCPUs */
	ACTION_MAP_EXCLUSIVE, /* invalid -> writable; wakes */
	ACTION_MAP_UPGRADE,   /* readable -> writable; wakes */
	ACTION_PROTECT,	      /* writable -> readable */
	ACTION_UNMAP,	      /* any -> invalid: when it returns no CPU can use the page */
	ACTION_WAKE,	   /* the fault needs no change (it was satisfied meanwhile): wake only */
	ACTION_HOLD_TIMER, /* step EVENT_HOLD_END for gfn at deadline_ns */
	ACTION_DROP_FRAME, /* the frame's bytes are no longer needed here (memory may go) */
	/* EVENT_PEER_LOST: gfn is homed here, and the lost slice had, maybe, the only copy of what
	 * was last written to it. */
	ACTION_PAGE_LOST,
	ACTION_VIOLATION, /* slice `to` broke the protocol: log `why`, close the connection */
};

struct protocol_action {
	enum protocol_action_type type;
	unsigned to;
	uint64_t gfn;
	uint64_t deadline_ns;
	const char *why; /* static text */
	struct wire_msg msg;
};

/* An event causes at most: DATA to every slice that waits for a page, then an INV to each of them,
 * and a handful of steps through messages to ourselves, each with a few actions. */
#define ACTIONS_MAX (2 * PROTOCOL_SLICES_MAX + 64)

struct protocol_actions {
	unsigned count;
	struct protocol_action list[ACTIONS_MAX];
};

/* Counters, readable at any time by the owner. */
struct protocol_stats {
	uint64_t faults_read, faults_write; /* EVENT_FAULT_... that were not already satisfied */
	uint64_t faults_local;		    /* of these: answered without a message */
	uint64_t requests_read, requests_write, requests_upgrade; /* sent to another slice */
	uint64_t data_received, data_sent;			  /* pages with bytes */
	uint64_t zero_pages;					  /* pages that came as a flag */
	uint64_t invalidations;					  /* INVs obeyed */
	uint64_t dropped;  /* messages of another epoch, or that came after a loss */
	uint64_t deferred; /* FWD/INV that waited for the hold time */
	uint64_t violations;
	uint64_t pages_shared, pages_exclusive; /* pages of other homes held here now */
};

/* Bytes that protocol_init needs; 0 if the configuration is out of its limits. */
size_t protocol_size(const struct protocol_config *config);
/* Lays the state out in mem (zeroed, 64-byte aligned, protocol_size bytes). Returns NULL if the
 * configuration is out of its limits. The protocol is all in mem: forget mem to destroy it. */
struct protocol *protocol_init(void *mem, const struct protocol_config *config);

/*
 * Takes one event; fills actions (count reset first). Never fails: bad messages become
 * ACTION_VIOLATION. -EAGAIN: the fault cannot start now since requests_max are outstanding;
 * step it again after the next event. A fault on a page whose request is under way joins it; what
 * wakes it may not satisfy it (it wanted to write and a read was under way): it faults again.
 * -EFAULT: a fault where no slice's memory is. -EINVAL: no such peer. A message of another epoch is
 * dropped: stats.dropped, no action.
 *
 * EVENT_PIN asks for nothing: the caller does, by EVENT_FAULT_WRITE. While a pinned page is
 * exclusive here a FWD for it waits, and EVENT_EVICT is ignored. So that slices which pin two pages
 * never wait for each other in a circle, each asks for the next page when it has those with lower
 * gfns, and unpins soon once it has all. -ENOBUFS: PROTOCOL_PINS_MAX are pinned. -EFAULT as above.
 *
 * The first EVENT_PEER_LOST freezes the slice for good: it asks for nothing, answers nothing, takes
 * no message (stats.dropped), and gives up and maps no page. Copies that are here stay as they are,
 * and vCPUs may use them. -EOWNERDEAD: a fault that needs more than such a copy; it, and every
 * fault that waited at the loss, is never served. -EAGAIN for EVENT_PEER_LOST: there are more pages
 * to tell of: obey the actions and step the same event again at once.
 */
int protocol_step(struct protocol *p, const struct protocol_event *event,
		  struct protocol_actions *actions);

/* Is gfn pinned, and exclusive here? Then it stays so until EVENT_UNPIN (or a loss). */
bool protocol_page_pinned(const struct protocol *p, uint64_t gfn);

/* Has gfn been taken away soon after a grant, of late? Then a hold time is in force for it. */
bool protocol_page_contended(const struct protocol *p, uint64_t gfn);
/* The hold time in force for gfn, with that of the event for pages that are long contended; 0:
 * none.
 */
uint64_t protocol_page_hold_ns(const struct protocol *p, uint64_t gfn, uint64_t long_hold_ns);

/*
 * Would protocol_step take the page that comes with msg from slice `from`? True exactly if so.
 * A DATA or WB that is awaited stays awaited until its step, and nothing here reads or writes the
 * frame until then (but a loss in between: then the message is dropped, and nobody maps it): its
 * payload may be received straight into gfn's frame. A PUT_M comes unasked and may cease to be
 * awaited while it arrives, the frame being the page's again by then: receive it elsewhere, ask
 * once more just before its step, and copy it if awaited.
 */
bool protocol_awaits_page(const struct protocol *p, unsigned from, const struct wire_msg *msg);

const struct protocol_stats *protocol_stats(const struct protocol *p);
/* The slice that is gfn's home, or SLICE_NONE (with a wide table SLICE_NONE_WIDE). */
unsigned protocol_home(const struct protocol *p, uint64_t gfn);
/* Slice-side state of gfn; a gfn that is beyond the last one is invalid. */
enum page_state protocol_state(const struct protocol *p, uint64_t gfn);
/* How many more requests may be begun. */
unsigned protocol_requests_free(const struct protocol *p);
/* Is gfn, which is homed here, in the directory's state U: nobody has had it, no request is out? */
bool protocol_untouched(const struct protocol *p, uint64_t gfn);
/* The same as text ("I", "S", "M", "IS", ...), for traces. */
const char *protocol_page_state(const struct protocol *p, uint64_t gfn);

#endif
