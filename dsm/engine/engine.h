/* SPDX-License-Identifier: Apache-2.0 */
/* The DSM engine of one slice: guest memory, and the thread that keeps it coherent. */
#ifndef DSM_ENGINE_H
#define DSM_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/locked.h"
#include "dsm/engine/page_counts.h"
#include "transport/wire.h"
#include "base/pair_keys.h"
#include "transport/rdma.h"
#include "transport/wish.h"

struct engine;

/* All callbacks run on the engine thread and must not block or touch guest memory. */
struct engine_callbacks {
	void *ctx;
	/* Every peer is connected: the machine may start. */
	void (*on_ready)(void *ctx);
	/* A machine message (type >= MSG_MACHINE_FIRST); payload is valid during the call. Returns
	 * 0 or a negative code, which closes the connection to the peer. */
	int (*on_machine_msg)(void *ctx, unsigned from, const struct wire_msg *msg,
			      const void *payload);
	/*
	 * What the owner keeps for the engine to take when it can, after engine_ring: fills one
	 * machine message for one of these slices (a bit set: those that are up or lost and whose
	 * connection has room) and gives true, or gives false: nothing for them. It has no payload.
	 * May be NULL.
	 */
	bool (*next_post)(void *ctx, uint64_t slices, unsigned *to, struct wire_msg *msg);
	/*
	 * This slice gives a page up: its threads can no longer read it, and no other slice has
	 * been told so yet. Or the engine has stored to the page, and nobody has been told yet.
	 * Whoever keeps something that was made from the page's bytes must not use it before it has
	 * looked at the page again. NULL: nobody does.
	 */
	void (*on_page_changed)(void *ctx, uint64_t gfn);
	/*
	 * A thread of this process (0: unknown) sleeps in a fault that waits for other slices, or
	 * for room: it is not woken before this returns, but signals may have woken it. NULL:
	 * nobody wants to know.
	 */
	void (*on_fault_remote)(void *ctx, uint32_t tid, uint64_t now_ns);
	/*
	 * The peer is gone (why is a sentence); or, with this slice's own index, this host refused
	 * a page operation. From then on no page is fetched or given up: copies that are here may
	 * be used, every other access waits for ever. So the vCPUs are to be stopped, and the VM
	 * ended.
	 */
	void (*on_peer_lost)(void *ctx, unsigned peer, int err, const char *why);
};

/* Some 100 us of a fast link. */
#define ENGINE_AHEAD_MAX 32u
/* So many times as many if they are zeroes, which carry nothing. */
#define ENGINE_ZEROES_TIMES 4u

/* A slice's memory: [start, end) of guest physical addresses, multiples of HOME_CHUNK_SIZE. */
struct engine_range {
	unsigned slice;
	uint64_t start, end;
};

struct engine_config {
	unsigned self, slices;
	uint64_t vm; /* the VM's incarnation: no secret */
	/* What this slice proves itself with; copied, and forgotten once every peer is there. */
	const struct pair_keys *keys;
	bool plaintext; /* what goes over the network is not encrypted: whoever is on it reads and writes */
	uint32_t epoch;
	uint64_t ram_end; /* one past the last guest physical address of RAM */
	/* Address space kept free behind engine_ram() up to there, for what is no RAM; 0: none. */
	uint64_t room_end;
	const struct engine_range *ranges;
	unsigned ranges_count; /* must tile RAM: no gap but the hole, no overlap */
	const char *bind_host; /* numeric address to listen on */
	unsigned bind_port;    /* 0: any */
	unsigned connect_timeout_ms;
	unsigned silence_ms; /* as transport_config's */
	enum transport_wish transport;
	struct rdma_option rdma; /* what may be used of it; all zero: nothing */
	unsigned faulters_max;	 /* threads of this process that touch guest memory */
	/* Pages that a miss may ask for ahead, where accesses go through memory (engine_ahead.c); the
	 * same on all slices, at most ENGINE_AHEAD_MAX; 0: none. */
	unsigned ahead_max;
	uint64_t hold_ns; /* the protocol's hold time, to begin with */
	/*
	 * Page-table walks of this slice's vCPUs need the tables writable (AMD's nested paging, EPT
	 * with accessed bits), so slices that share tables must be kept from taking them from each
	 * other in the middle of walks: they have turns (engine_turns.c).
	 */
	bool walks_write;
	/*
	 * Most memory that the frames of remote pages (homed at other slices) may take, those being
	 * fetched and those being given back included; 0: no limit. It is held exactly, in whole
	 * pages: at the limit a fault on another page waits until one was evicted (engine_cache.c).
	 * At least engine_cache_min_bytes() of faulters_max, so that each thread can have the pages
	 * of one instruction at once.
	 */
	uint64_t cache_bytes;
	bool poll; /* spin instead of sleeping (needs a CPU of its own) */
	/* Resolve the kernel's own faults on guest memory too: KVM needs it, and it a privilege. */
	bool kernel_faults;
	struct engine_callbacks callbacks;
};

/* Counters; a snapshot that any thread may take. */
struct engine_stats {
	uint64_t faults_read, faults_write, faults_local;
	uint64_t requests_read, requests_write, requests_upgrade;
	uint64_t msgs_sent, msgs_received, bytes_sent, bytes_received;
	/* Peers that came up, by what carries their messages, and callers that were sent away: as
	 * transport_stats. */
	uint64_t links_shm, links_tcp, links_tls, links_ktls, links_rdma, refused;
	uint64_t bells_sent; /* system calls that woke a peer beside shared memory */
	/* Times that the engine looked on instead of sleeping, and those when something came. */
	uint64_t spins, spin_hits;
	uint64_t pages_received, pages_sent, zero_pages, invalidations, deferred;
	uint64_t pages_ahead; /* pages asked for before anybody missed them (engine_ahead.c) */
	uint64_t pages_shared, pages_exclusive; /* held now, of other homes */
	uint64_t pages_home;			/* homed here and ever touched (frames) */
	uint64_t metadata_bytes; /* protocol state and counters of pages: resident bytes */
	uint64_t fault_ns_total, fault_count_remote; /* service time of remote faults seen here */
	uint64_t frame_bytes;			     /* memory of all frames, now */
	/* With cache_bytes; else 0. In pages. No limit if all remote pages fit. */
	uint64_t cache_limit, cache_pages, cache_pages_max;
	uint64_t evictions_shared, evictions_owned;
	uint64_t refetches;    /* evicted pages fetched again (as far as they are remembered) */
	uint64_t cache_spared; /* pages that were used while on trial for eviction */
	uint64_t cache_waits;  /* faults that were put off */
	/* Of copies that were taken away: frames kept for their return, and those given back to the
	 * host. 0 without cache_bytes. */
	uint64_t frames_stale, frames_returned;
	/* Of pages homed here (page_counts.h): faults that took another slice, and what they did.
	 */
	uint64_t home_faults;
	uint64_t reads_replicated, ownership_moves, ping_pongs, upgrades;
};

/*
 * The least cache_bytes that is not 0, for so many faulters: the pages that the widest instructions
 * touch, with their page tables, for each thread that faults.
 */
uint64_t engine_cache_min_bytes(unsigned faulters_max);

/*
 * Makes the memory and the listening socket; no thread yet. *port_out: the port bound. The
 * sentence of a failure is logged. Errors: -EINVAL (configuration), -ENOMEM, -EPERM (userfaultfd
 * refused), -ENOSYS (kernel too old), -EADDRINUSE, ...
 */
int engine_create(const struct engine_config *config, unsigned *port_out, struct engine **out);
/* Starts the thread. With one slice on_ready comes at once. */
int engine_start(struct engine *engine);
/* Connects to the peers; addresses[slice] "host:port"; any thread, once, after engine_start. */
int engine_connect(struct engine *engine, const char *const *addresses);

/*
 * Guest memory as the vCPUs use it: gpa is at engine_ram() + gpa for RAM below the hole and above
 * it. Reads and writes block until coherent. Only threads that hold no lock the engine thread or
 * a fault's progress needs may touch it; never the engine thread itself. System calls must not be
 * given these addresses (the kernel's own access is not resolved without kernel_faults).
 */
uint8_t *engine_ram(struct engine *engine);

/*
 * A LOCKed access that no instruction of the host may do (it crosses a page or a cache line): atomic
 * over the whole VM, against accesses of every kind to its bytes by all slices. Blocks like a fault
 * on its pages. Any thread that may touch guest memory. 0, and access->old is set; -EINVAL: not
 * locked_valid; -EFAULT: not RAM; -ECANCELED: a slice is lost or this host failed, so that the VM
 * ends, and nothing was done.
 */
int engine_locked(struct engine *engine, struct locked_access *access);

/*
 * Sends a machine message to a slice (itself included: it loops back through the engine thread).
 * Any thread; never blocks; in order. payload (at most WIRE_PAYLOAD_MAX) is copied. -ENOBUFS when the
 * queue's limit is reached, -ENOTCONN if the peer is gone.
 */
int engine_post(struct engine *engine, unsigned to, const struct wire_msg *msg,
		const void *payload);

/*
 * next_post has something. Any thread; never blocks; rings that the engine has not heard yet are
 * one. For what may come faster than it can be sent, and needs no queue: it is asked for a few at a
 * time, after the faults and messages that have come, and not for a peer that does not keep up.
 */
void engine_ring(struct engine *engine);

/*
 * A clock that all slices share is this host's monotonic clock plus offset_ns, or about that. Any
 * thread, again and again.
 */
void engine_clock_set(struct engine *engine, int64_t offset_ns);

/*
 * How often the engine thread has gone round its loop; and has it go round once more. So a thread
 * that stands still, in a lock or a call that does not return, is found: some time after one call the
 * next gives the same number. Any thread; never blocks.
 */
uint64_t engine_turns(struct engine *engine);

/* Any thread. */
void engine_stats(struct engine *engine, struct engine_stats *out);

/* What carries the messages to a peer; LINK_NONE before it is there. Any thread. */
enum link_kind engine_link(const struct engine *engine, unsigned peer);

/* The hottest of the pages that are homed here. Any thread; some microseconds. */
void engine_hot_pages(struct engine *engine, struct page_counts_list *out);

/* Stops and joins the thread, closes connections, frees memory. vCPU threads must be gone. */
void engine_destroy(struct engine *engine);

#endif
