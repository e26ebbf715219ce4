/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the remote pages that have a frame here: what engine_cache.c decides on. */
#ifndef DSM_ENGINE_CACHE_H
#define DSM_ENGINE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each record is in one list, but those on the free list have no frame. Oldest first. */
enum cache_list {
	CACHE_FREE,
	CACHE_STALE,	/* no copy any more: the frame is kept for the page's return */
	CACHE_ACTIVE,	/* a copy, by the time it was last mapped */
	CACHE_TRIAL,	/* a copy that is hidden, and goes if nobody misses it */
	CACHE_BUSY,	/* being asked for */
	CACHE_EVICTING, /* given up, until the home has acknowledged it */
	CACHE_LISTS
};

struct cache_page {
	uint32_t gfn;
	uint32_t next, prev; /* index + 1; 0: none */
	uint32_t chain;	     /* hash chain: index + 1 */
	/* When it was mapped, in 1024 ns; in CACHE_STALE, when the copy went (engine_stale.c). It may
	 * wrap. */
	uint32_t stamp;
	uint8_t list;
	bool hidden; /* from vCPUs, though there is a copy */
};

struct cache_queue {
	uint32_t first, last; /* index + 1 */
	uint32_t count;
};

/* Memory: one lazily backed region for as many records as the limit allows. Threads: none. */
struct cache {
	uint32_t limit;	  /* records: frames of remote pages */
	bool limited;	  /* fewer than there are such pages */
	uint32_t held;	  /* records in use */
	uint32_t fresh;	  /* records from here on were never used */
	uint32_t buckets; /* a power of two, of ghosts too */
	struct cache_queue queues[CACHE_LISTS];
	struct cache_page *pages;
	uint32_t *hash;	  /* index + 1 */
	uint32_t *ghosts; /* gfn + 1 of pages evicted lately, direct-mapped */
	size_t bytes;	  /* of the region */
};

/* NULL: no memory. limit: at least 1. */
struct cache *cache_create(uint32_t limit);
void cache_destroy(struct cache *cache);
/* NULL: none. */
struct cache_page *cache_find(const struct cache *cache, uint64_t gfn);
/* A record in CACHE_BUSY; there is none for gfn, and held < limit. */
struct cache_page *cache_add(struct cache *cache, uint64_t gfn);
void cache_remove(struct cache *cache, struct cache_page *page);
/* To the end of a list, which may be the one it is in. */
void cache_move(struct cache *cache, struct cache_page *page, enum cache_list list);
/* The one that has been longest in a list, or NULL. */
struct cache_page *cache_first(const struct cache *cache, enum cache_list list);
/* The page was evicted. */
void cache_ghost_add(struct cache *cache, uint64_t gfn);
/* Was it, as far as is remembered? Forgets it. */
bool cache_ghost_take(struct cache *cache, uint64_t gfn);

#endif
