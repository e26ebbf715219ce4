/* SPDX-License-Identifier: Apache-2.0 */
/* The records of remote pages that have a frame: lists by what may be done with them, and a hash.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/log.h"
#include "dsm/engine/engine_cache.h"

struct cache *cache_create(uint32_t limit)
{
	struct cache *cache = calloc(1, sizeof(*cache));
	uint8_t *mem;

	if (!cache)
		return NULL;
	cache->limit = limit;
	cache->buckets = 1;
	while (cache->buckets < limit && cache->buckets < UINT32_C(1) << 31)
		cache->buckets *= 2;
	cache->bytes =
		limit * sizeof(struct cache_page) + (size_t)cache->buckets * 2 * sizeof(uint32_t);
	mem = mmap(NULL, cache->bytes, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED) {
		free(cache);
		return NULL;
	}
	/* A huge page for the first touch would cost more than a small cache's records. */
	madvise(mem, cache->bytes, MADV_NOHUGEPAGE);
	cache->pages = (struct cache_page *)(void *)mem;
	cache->hash = (uint32_t *)(void *)(mem + limit * sizeof(struct cache_page));
	cache->ghosts = cache->hash + cache->buckets;
	return cache;
}

void cache_destroy(struct cache *cache)
{
	if (!cache)
		return;
	munmap(cache->pages, cache->bytes);
	free(cache);
}

static uint32_t bucket_of(const struct cache *cache, uint64_t gfn)
{
	return hash_u64(gfn) & (cache->buckets - 1);
}

static uint32_t number_of(const struct cache *cache, const struct cache_page *page)
{
	return (uint32_t)(page - cache->pages) + 1;
}

static struct cache_page *page_of(const struct cache *cache, uint32_t number)
{
	return number ? &cache->pages[number - 1] : NULL;
}

static void unlink_page(struct cache *cache, struct cache_page *page)
{
	struct cache_queue *queue = &cache->queues[page->list];

	if (page->prev)
		page_of(cache, page->prev)->next = page->next;
	else
		queue->first = page->next;
	if (page->next)
		page_of(cache, page->next)->prev = page->prev;
	else
		queue->last = page->prev;
	queue->count--;
}

static void append_page(struct cache *cache, struct cache_page *page, enum cache_list list)
{
	struct cache_queue *queue = &cache->queues[list];
	uint32_t number = number_of(cache, page);

	page->list = (uint8_t)list;
	page->next = 0;
	page->prev = queue->last;
	if (queue->last)
		page_of(cache, queue->last)->next = number;
	else
		queue->first = number;
	queue->last = number;
	queue->count++;
}

void cache_move(struct cache *cache, struct cache_page *page, enum cache_list list)
{
	unlink_page(cache, page);
	append_page(cache, page, list);
}

struct cache_page *cache_first(const struct cache *cache, enum cache_list list)
{
	return page_of(cache, cache->queues[list].first);
}

struct cache_page *cache_find(const struct cache *cache, uint64_t gfn)
{
	uint32_t number = cache->hash[bucket_of(cache, gfn)];

	while (number && cache->pages[number - 1].gfn != gfn)
		number = cache->pages[number - 1].chain;
	return page_of(cache, number);
}

struct cache_page *cache_add(struct cache *cache, uint64_t gfn)
{
	struct cache_page *page = cache_first(cache, CACHE_FREE);
	uint32_t *bucket = &cache->hash[bucket_of(cache, gfn)];

	invariant(cache->held < cache->limit);
	if (page)
		unlink_page(cache, page);
	else
		page = &cache->pages[cache->fresh++];
	*page = (struct cache_page){.gfn = (uint32_t)gfn, .chain = *bucket};
	*bucket = number_of(cache, page);
	append_page(cache, page, CACHE_BUSY);
	cache->held++;
	return page;
}

void cache_remove(struct cache *cache, struct cache_page *page)
{
	uint32_t *link = &cache->hash[bucket_of(cache, page->gfn)];

	while (page_of(cache, *link) != page)
		link = &page_of(cache, *link)->chain;
	*link = page->chain;
	cache_move(cache, page, CACHE_FREE);
	cache->held--;
}

void cache_ghost_add(struct cache *cache, uint64_t gfn)
{
	cache->ghosts[bucket_of(cache, gfn)] = (uint32_t)gfn + 1;
}

bool cache_ghost_take(struct cache *cache, uint64_t gfn)
{
	uint32_t *ghost = &cache->ghosts[bucket_of(cache, gfn)];

	if (*ghost != gfn + 1)
		return false;
	*ghost = 0;
	return true;
}
