/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the engine: its state, grouped by the thread that owns it, and who calls whom. */
#ifndef DSM_ENGINE_PARTS_H
#define DSM_ENGINE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "dsm/engine/engine.h"
#include "dsm/pages/pages.h"
#include "dsm/protocol/protocol.h"
#include "transport/transport.h"

/* Machine messages that wait for the engine thread: some for each vCPU that a VM can have. */
#define POSTS_MAX (16u * VCPUS_MAX)
/* Posts taken out of the queue under one lock, and in one turn of the loop. */
#define POSTS_BATCH 32u
/* Messages taken from next_post in one turn of the loop: some tens of microseconds. */
#define NEXT_POSTS_BATCH 16u
/* Messages that may wait for a peer's socket while next_post is still asked for more. */
#define PEER_BACKLOG_MAX 64u
/* Hold timers: the protocol sets aside at most 1024 messages at a time; and as many that were
 * answered early, whose timers then fire for nothing. */
#define HOLDS_MAX 2048u
/* Outstanding requests of a whole VM but those ahead: its vCPUs, and a few other threads on every slice. */
#define FAULTERS_TOTAL (VCPUS_MAX + 4u * SLICES_MAX)
/* Reads of the fault descriptor before the loop looks at its other handles. */
#define FAULT_READS_PER_TURN 4

/* A fault that waits: for its page (to measure how long), or for a free request. */
struct pending_fault {
	uint64_t gfn;
	uint64_t start_ns;
	uint32_t tid;
	bool write;
	bool remote; /* was not served within its own step */
};

struct fault_list {
	struct pending_fault *list;
	unsigned count, capacity;
};

/* What a slice knows of the use of one page (engine_predict.c). */
struct prediction {
	uint64_t tag; /* gfn + 1; 0: free */
	uint64_t asked_ns;
	bool read_only_once; /* the last request was for a copy, and no write has followed yet */
	uint8_t uses;	     /* reads that shall be taken for writes */
};
/* Pages remembered, direct-mapped: some times the pages that a booting kernel's CPUs share. */
#define PREDICTIONS 4096u

/* Accesses that go on from page to page, by what each page is missing (engine_ahead.c). */
enum stream_kind {
	STREAM_READ,	/* another slice's memory, to be read */
	STREAM_WRITE,	/* the same, to be written: it has not been here */
	STREAM_UPGRADE, /* a page of any home that is here as a copy beside others, to be written */
};
struct stream {
	uint64_t next;	    /* the miss that goes on with it */
	uint64_t missed_ns; /* its last one; 0: free */
	unsigned window;    /* pages asked for then */
	unsigned zeroes;    /* of writes: that have come since a page of other bytes did */
	unsigned misses;    /* of upgrades: in a row */
	enum stream_kind kind;
};
/* Streams remembered: several for each of a few vCPUs. */
#define STREAMS 16u

/* A contended page that came for a thread (engine_use.c). */
struct grant {
	uint64_t tag; /* gfn + 1; 0: free */
	uint64_t granted_ns;
	uint64_t cpu_ns;  /* the thread's CPU time then */
	uint64_t used_ns; /* when somebody wanted the page and it was seen in use; 0: not yet */
	uint32_t tid;	  /* 0: it was used */
};
/* Grants remembered, direct-mapped: several for each vCPU that a slice can have. */
#define GRANTS 1024u

/* Pages in a row that something is done for (engine_runs.c). */
struct runs {
	bool open, pending;
	unsigned to;
	struct wire_msg msg;	       /* if pending: for arg more pages */
	uint64_t map_first, map_count; /* pages to map writable */
};

/* Windows of untouched memory that are about to be wanted (engine_touch.c). */
struct touch_plan {
	uint64_t window; /* the next one */
	unsigned left;	 /* 0: free */
	bool down;
};
/* Plans at a time: first touches of some vCPUs. */
#define TOUCH_PLANS 4u

struct hold_timer {
	uint64_t deadline_ns;
	uint64_t gfn;
};

struct post {
	struct wire_msg msg;
	unsigned to;
	void *payload; /* owned copy, or NULL */
};

/* The engine thread's counters of evictions; engine_stats has them by these names. */
struct cache_stats {
	uint64_t limit, pages, pages_max;
	uint64_t evictions_shared, evictions_owned;
	uint64_t refetches, spared, waits, returned;
};

struct locked_request;
struct cache_page;

/* LOCKed accesses that wait for their pages, the oldest first (engine_locked.c). */
struct locked_queue {
	struct locked_request *first, *last;
	uint64_t asked; /* gfn + 1 of the page that the first one waits for; 0: none */
	bool under_way; /* the first one's pages are being gathered: no entry from within */
};

/* Counters that any thread may read: struct engine_stats, word by word. */
#define STATS_WORDS (sizeof(struct engine_stats) / sizeof(uint64_t))

/* Whether to look for messages a little longer (engine_spin.c). */
struct spin {
	int load_fd;	/* tells how many threads run; -1: it cannot be told */
	unsigned cpus;	/* of this host */
	uint64_t heard; /* coherence messages */
	uint64_t heard_last, sent_last, served_last; /* at the last turn; served: remote faults */
	bool on;				     /* looking */
	bool crowded; /* threads waited for a CPU when that was last asked */
	uint64_t until_ns, load_next_ns;
	unsigned credit, passed;
	uint64_t spins, hits;
};

/* Requests to the engine thread, and their answer. */
struct command {
	bool connect_wanted, connect_done;
	int result;
};

struct engine {
	/* Constant after engine_create. */
	struct engine_config config;
	uint8_t *home_of_chunk;
	uint64_t chunks;
	void *protocol_mem;
	size_t protocol_bytes;
	uint64_t *home_touched; /* bit per gfn; written by the engine thread */
	size_t home_touched_bytes;
	struct pages *pages;
	struct cache *cache; /* what it points to is the engine thread's; NULL: no limit */
	struct page_counts *page_counts;
	int timer_fd, wake_fd;

	/* The engine thread's (engine_create's caller until the thread starts). */
	uv_loop_t loop;
	uv_poll_t fault_poll, timer_poll, wake_poll;
	uv_prepare_t prepare;
	uv_idle_t idle;
	uv_timer_t cache_timer; /* runs while faults wait and there is a limit on frames */
	uv_timer_t stale_timer; /* runs while there are frames without a copy */
	uint32_t stale_now;	/* the clock, as that timer saw it last (engine_stale.c) */
	struct transport *transport;
	struct protocol *protocol;
	struct protocol_actions actions;
	uint32_t epoch;
	uint64_t peers_up; /* by slice index */
	uint64_t violators;
	bool outgoing; /* posts, or next_post, may have something */
	bool settled;  /* every peer is up or lost: faults and posts are served */
	bool failed;   /* the host refused a page operation; told once */
	bool closing;
	struct fault_list waiting; /* for a free request */
	struct fault_list timing;  /* faults being served */
	struct hold_timer holds[HOLDS_MAX];
	unsigned holds_count;
	uint64_t latency_min_ns; /* of the remote faults since the turns' length was last set */
	unsigned latency_samples;
	uint64_t turn_ns;	 /* 0: no turns */
	uint64_t timer_armed_ns; /* 0: not armed */
	struct grant grants[GRANTS];
	struct prediction predictions[PREDICTIONS];
	struct stream streams[STREAMS];
	uint64_t pages_ahead;
	uint64_t pages_sent, pages_home, pages_lost;
	struct runs runs;
	struct touch_plan touch_plans[TOUCH_PLANS];
	struct cache_stats cache_stats;
	uint64_t fault_ns_total, fault_count_remote;
	struct locked_queue locked;
	struct spin spin;
	uint8_t *scratch; /* a page for each peer: payloads that no frame awaits */

	/* Written by the engine thread, read by any: relaxed atomics. */
	_Atomic uint64_t published[STATS_WORDS];
	_Atomic uint64_t peers_lost;	   /* by slice index */
	_Atomic uint8_t links[SLICES_MAX]; /* enum link_kind */

	_Atomic uint64_t turns; /* of the loop */
	/* Written by any thread, read by the engine thread: a relaxed atomic. */
	_Atomic int64_t clock_offset_ns;
	/* Set by any thread, cleared by the engine thread: sequentially consistent. */
	_Atomic bool rung; /* next_post has something, and the engine has been woken for it */

	/* Pushed to by any thread, emptied by the engine thread. */
	struct locked_request *_Atomic locked_posted;

	/* Under lock. */
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct command command;
	bool stop;
	struct post *posts; /* POSTS_MAX */
	unsigned posts_head, posts_count;

	/* The owner's (the thread that creates, starts and destroys). */
	pthread_t thread;
	bool started;
	/* engine_connect's caller, once; from then on constant. */
	bool addresses_taken;
	char *addresses[SLICES_MAX];
};

/* engine_config.c */
/* Checks the ranges and makes the table of homes. */
int engine_homes_create(struct engine *e);

/* engine_loop.c: the thread, its handles. */
/*
 * Any thread: makes the engine thread look at commands and posts. Not uv_async_send: its receiver
 * spins while the sender is between its two stores, and a real-time receiver that has preempted
 * the sender on one CPU would spin for ever.
 */
void engine_wake(struct engine *e);
int engine_loop_create(struct engine *e);
void *engine_thread_main(void *arg);
/* Closes every handle and runs the loop until that is done. */
void engine_loop_close(struct engine *e);

/* engine_step.c: events into the protocol, actions out. */
/* The host failed us: this slice's memory can no longer be trusted to work. Tells it once. */
void engine_host_failed(struct engine *e, const char *what, int err);
void engine_fault(struct engine *e, const struct page_fault *fault, uint64_t now_ns);
/* Returns 0, or -PANGEA_EPROTOCOL if the sender broke the protocol. */
int engine_message(struct engine *e, unsigned from, const struct wire_msg *msg);
void engine_hold_end(struct engine *e, uint64_t gfn);
void engine_peer_loss(struct engine *e, unsigned peer);
/* Steps the faults again that found no free request, or no room for a frame. */
void engine_retry(struct engine *e);
/* Asks the protocol to give up this slice's copy. */
void engine_evict(struct engine *e, uint64_t gfn);
/* Takes the page from the vCPUs, not from the slice: the next access is a fault, served here. */
void engine_page_hide(struct engine *e, uint64_t gfn);
/* Tells who keeps something made of the page's bytes: after it was unmapped or stored to, before
 * anybody else can know. */
void engine_page_changed(struct engine *e, uint64_t gfn);
/* Shows the vCPUs a page that is exclusive here and was hidden. */
void engine_page_show(struct engine *e, uint64_t gfn);
/* The page stays here once it is exclusive, or no longer. 0 or a negative errno. */
int engine_pin(struct engine *e, uint64_t gfn, bool pinned);
/* Gives frames in a row back to the host; the protocol needs them no longer. */
void engine_frames_drop(struct engine *e, uint64_t gfn, uint64_t count);

/* engine_step.c, for engine_touch.c and engine_runs.c */
/* Steps one event and does what it asks for. */
int engine_step(struct engine *e, const struct protocol_event *event);
/* A page was mapped: all who want to know are told. */
void engine_page_mapped(struct engine *e, uint64_t gfn);
void engine_page_operation_failed(struct engine *e, const char *what, uint64_t gfn, int err);

/*
 * engine_touch.c: nobody has touched the page, which is homed here. Maps it and, where many of its
 * neighbours were touched, all of them that were not. True: done. False: step the fault.
 */
bool engine_touch(struct engine *e, uint64_t gfn, uint64_t now_ns);
/*
 * At the end of a turn: maps a window that is about to be wanted, if there is any. True: there may
 * be more, so do not sleep yet.
 */
bool engine_touch_ahead(struct engine *e);

/*
 * engine_runs.c: between begin and end messages and mappings of pages in a row are put together.
 * Not one within another.
 */
void engine_runs_begin(struct engine *e);
void engine_runs_end(struct engine *e);
/* Maps what has been put together so far: a page may be one that is not only mapped now. */
void engine_runs_settle(struct engine *e);
/* The page is to be mapped writable. True: it will be, by engine_runs_end at the latest. */
bool engine_runs_map(struct engine *e, uint64_t gfn);
/*
 * Sends a coherence message, now or by engine_runs_end at the latest; payload as the transport's
 * send. A peer that cannot be sent to is lost, and its loss is an event of its own.
 */
void engine_send(struct engine *e, unsigned to, const struct wire_msg *msg, const void *payload,
		 bool copy_payload);

/* engine_peers.c: the transport's callbacks. */
int engine_transport_create(struct engine *e, unsigned *port_out);
/* Is every peer up or lost? Starts to serve if so. */
void engine_settle(struct engine *e);

/* engine_holds.c: the heap of hold timers. */
/* Adds a timer; there is room (engine_holds_trim). */
void engine_hold_add(struct engine *e, uint64_t gfn, uint64_t deadline_ns);
/* Fires what is due, and arms the timer for the next. */
void engine_holds_run(struct engine *e);
/* Makes room for the timers of one more event, firing the earliest ones early. */
void engine_holds_trim(struct engine *e);

/* engine_ahead.c */
/* What a miss of gfn belongs to; before it is stepped. */
enum stream_kind engine_ahead_kind(const struct engine *e, uint64_t gfn, bool write);
/* gfn was missed, and others are asked for it. Not within a step. */
void engine_ahead(struct engine *e, uint64_t gfn, enum stream_kind kind, uint64_t now_ns);
/* gfn has come. */
void engine_ahead_learn(struct engine *e, uint64_t gfn, bool zero);

/* engine_predict.c: reads that a write follows. */
/* This slice is about to ask for gfn, which it does not have, to read it: should it ask to write?
 */
bool engine_predict_write(struct engine *e, uint64_t gfn);
/* This slice wants to write gfn, of which it has a copy. */
void engine_predict_learn(struct engine *e, uint64_t gfn);

/* engine_turns.c: whose turn it is to keep contended pages, and how long they may be kept. */
/* A remote fault took this long: the turns' length follows. */
void engine_turns_learn(struct engine *e, uint64_t latency_ns);
/* Fills the event's turn, if there are turns, or its long hold time. */
void engine_turn_tell(const struct engine *e, struct protocol_event *event);
/* For pages that are long contended; 0: they are held no longer than others. */
uint64_t engine_long_hold_ns(const struct engine *e);

/* engine_use.c: pages that were not used yet. */
/* gfn is mapped now for the thread tid, which waited for it (0: not known). */
void engine_use_expect(struct engine *e, uint64_t gfn, uint32_t tid, uint64_t now_ns);
/* Is gfn contended, and its thread has not had the hold time of CPU since it came? Not for longer
 * than some ms. */
bool engine_use_outstanding(struct engine *e, uint64_t gfn, uint64_t now_ns);
/* The same: 0 if not, else after how many ns to look again. */
uint64_t engine_use_recheck_ns(struct engine *e, uint64_t gfn, uint64_t now_ns);
/* When gfn last came, if it was contended then and is remembered; else 0. */
uint64_t engine_use_granted_ns(struct engine *e, uint64_t gfn);

/*
 * engine_cache.c: the frames of remote pages and the limit on them. All but the first two only if
 * they are counted (e->cache).
 */
/* Checks cache_bytes; after the table of homes was made. */
int engine_cache_create(struct engine *e);
void engine_cache_destroy(struct engine *e);
/* May this fault's page have a frame? False: step the fault again later (engine_retry). */
bool engine_cache_admit(struct engine *e, uint64_t gfn);
/* A fault was put off: it is tried again soon, whatever else happens. */
void engine_cache_wait(struct engine *e);
/* Evicts ahead, so that the next faults find room. Not within a step. */
void engine_cache_balance(struct engine *e);
/* The page was mapped for vCPUs. */
void engine_cache_mapped(struct engine *e, uint64_t gfn);
/* The page is valid here but hidden from vCPUs (engine_page_hide). */
bool engine_cache_hidden(struct engine *e, uint64_t gfn);
/* The frame has been given back after an eviction. */
void engine_cache_dropped(struct engine *e, uint64_t gfn);
/* The record of a remote page that has a frame; else NULL. */
struct cache_page *engine_cache_find(const struct engine *e, uint64_t gfn);
/* The protocol's state of gfn may have changed. */
void engine_cache_sync(struct engine *e, uint64_t gfn);
/* Every page's may have. */
void engine_cache_sync_all(struct engine *e);

/* engine_stale.c */
/* The page has just lost its copy: its frame goes when it stays so. */
void engine_stale_note(struct engine *e, struct cache_page *page);

/* page_counts.c: what becomes of the pages that are homed here. */
/* An event was stepped, and e->actions obeyed. */
void engine_page_counts_learn(struct engine *e, const struct protocol_event *event);

/* engine_locked.c */
/* Takes what was posted. */
void engine_locked_take(struct engine *e);
/* Goes on with the accesses, as far as their pages are here. Not within a step. */
void engine_locked_run(struct engine *e);
/* The page that an access waits for was mapped, or must be asked for again. */
static inline void engine_locked_notice(struct engine *e, uint64_t gfn)
{
	if (e->locked.asked == gfn + 1)
		e->locked.asked = 0;
}

/* engine_spin.c */
/* Engine thread, at its start. */
void engine_spin_create(struct engine *e);
void engine_spin_destroy(struct engine *e);
/* At the end of a turn: looks for messages if that is likely to pay. True: do not sleep yet. */
bool engine_spin(struct engine *e);

/* engine_post.c */
/* Sends some of what next_post and other threads have. True: there is more, or may be. */
bool engine_posts_send(struct engine *e);
void engine_posts_free(struct engine *e);

/* engine_stats.c */
void engine_stats_publish(struct engine *e);

/* All slices but this one, as a bit set. */
static inline uint64_t engine_peers_all(const struct engine *e)
{
	uint64_t all = e->config.slices == 64 ? UINT64_MAX : (UINT64_C(1) << e->config.slices) - 1;

	return all & ~(UINT64_C(1) << e->config.self);
}

static inline bool engine_home_is_self(const struct engine *e, uint64_t gfn)
{
	return e->home_of_chunk[gfn >> (HOME_CHUNK_SHIFT - PAGE_SHIFT)] == e->config.self;
}

#endif
