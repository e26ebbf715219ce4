/* SPDX-License-Identifier: Apache-2.0 */
/* The limit on the memory of remote pages: which pages are given back to their homes, and when. */
#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine_cache.h"
#include "dsm/engine/engine_parts.h"

/*
 * The limit. A remote page has a frame from the moment it is asked for until an eviction is
 * acknowledged (its bytes may be on their way until then), or until the frame of a copy that was
 * taken away is dropped. Each such page has a record, and there are as many records as the limit
 * allows frames, so that the limit cannot be passed. A page that finds no record free waits.
 *
 * No deadlock. A request has its frame before it is sent, so whatever is under way ends without
 * another one; a home takes an eviction without a frame of this kind; what is spared is spared for
 * a time; and records exceed the requests that a slice may have. So some page can always be
 * evicted, at once or a little later, and the acknowledgement frees its record.
 *
 * Which pages. The host keeps no accessed bits for us, and userfaultfd tells of missing pages only.
 * So a page is asked: when the cache gets full, those that were mapped longest ago are put on
 * trial. They are hidden from the vCPUs, while the slice keeps copy and frame. Who still uses one
 * runs into a fault, which is served here in some microseconds, and the page is as if it had just
 * come (a second chance, as in CLOCK). Those on trial longest go first: nobody used them for the
 * time that the cache took to bring in about a quarter of its size. While nothing is brought in,
 * nothing is put on trial: a guest whose pages fit pays nothing.
 *
 * Spared for a while are pages within their hold time, contended pages in a turn, and contended
 * pages that their thread could not use yet (engine_use.c).
 */

/* The widest instructions of x86 touch 6 pages (code, source and destination, each across a page's
 * end), each behind a walk of 4 tables: 30, and 2 that an exception may need beside them. */
#define PAGES_PER_FAULTER 32u
/* The part of the cache that is on trial when it is full. */
#define TRIAL_PART 4u
/* Pages evicted ahead of need, so that a fault seldom waits: a part of the cache, within bounds. */
#define RESERVE_PART 32u
#define RESERVE_MIN  8u
#define RESERVE_MAX  256u
/* Pages put on trial for each that comes: more than one, or the trial would never fill. */
#define TRIALS_PER_PAGE 2u
/* Pages looked at for one victim; the next attempt goes on where this ended. */
#define SCAN_MAX 16u
/* Faults that wait are tried again this often, since what is spared ends with no message. */
#define RETRY_MS 1u

static uint32_t stamp_of(uint64_t now_ns)
{
	return (uint32_t)(now_ns >> 10);
}

uint64_t engine_cache_min_bytes(unsigned faulters_max)
{
	return (uint64_t)PAGES_PER_FAULTER * (faulters_max + 1) * PANGEA_PAGE_SIZE;
}

/* Is gfn homed at another slice? */
static bool page_remote(const struct engine *e, uint64_t gfn)
{
	uint8_t home;

	if (gfn >= e->config.ram_end >> PAGE_SHIFT)
		return false;
	home = e->home_of_chunk[gfn >> (HOME_CHUNK_SHIFT - PAGE_SHIFT)];
	return home != e->config.self && home != SLICE_NONE;
}

struct cache_page *engine_cache_find(const struct engine *e, uint64_t gfn)
{
	return page_remote(e, gfn) ? cache_find(e->cache, gfn) : NULL;
}

static uint64_t remote_bytes(const struct engine *e)
{
	uint64_t chunks = 0;

	for (uint64_t chunk = 0; chunk < e->chunks; chunk++)
		chunks += page_remote(e, chunk << (HOME_CHUNK_SHIFT - PAGE_SHIFT));
	return chunks << HOME_CHUNK_SHIFT;
}

int engine_cache_create(struct engine *e)
{
	uint64_t bytes = e->config.cache_bytes, remote = remote_bytes(e),
		 min = engine_cache_min_bytes(e->config.faulters_max);
	/* What holds all there is limits nothing: a record for each page, and no eviction. */
	bool limited = bytes < remote;

	if (!bytes || !remote)
		return 0;
	if (limited && bytes < min) {
		log_error("a cache of %llu KiB for remote pages is too small: %u faulting threads "
			  "need %llu KiB",
			  (unsigned long long)bytes >> 10, e->config.faulters_max,
			  (unsigned long long)min >> 10);
		return -EINVAL;
	}
	e->cache = cache_create((uint32_t)((limited ? bytes : remote) >> PAGE_SHIFT));
	if (!e->cache)
		return -ENOMEM;
	e->cache->limited = limited;
	e->cache_stats.limit = limited ? e->cache->limit : 0;
	return 0;
}

void engine_cache_destroy(struct engine *e)
{
	cache_destroy(e->cache);
}

/* ---- what the protocol did ---- */

static enum cache_list list_of(const struct engine *e, const struct cache_page *page)
{
	switch (protocol_state(e->protocol, page->gfn)) {
	case PAGE_S:
	case PAGE_M:
		return page->list == CACHE_TRIAL ? CACHE_TRIAL : CACHE_ACTIVE;
	case PAGE_I:
		return CACHE_STALE;
	case PAGE_SI:
	case PAGE_MI:
	case PAGE_II:
		return CACHE_EVICTING;
	case PAGE_IS:
	case PAGE_IM:
	case PAGE_IMA:
	case PAGE_SM:
	case PAGE_SMA:
	case PAGE_STATES:
		break;
	}
	return CACHE_BUSY;
}

static void page_sync(struct engine *e, struct cache_page *page)
{
	enum cache_list list = list_of(e, page);

	if (page->list == list)
		return;
	cache_move(e->cache, page, list);
	if (list == CACHE_STALE)
		engine_stale_note(e, page);
}

void engine_cache_sync(struct engine *e, uint64_t gfn)
{
	struct cache_page *page = engine_cache_find(e, gfn);

	if (page)
		page_sync(e, page);
}

void engine_cache_sync_all(struct engine *e)
{
	for (uint32_t i = 0; i < e->cache->fresh; i++)
		if (e->cache->pages[i].list != CACHE_FREE)
			page_sync(e, &e->cache->pages[i]);
}

void engine_cache_mapped(struct engine *e, uint64_t gfn)
{
	struct cache_page *page = engine_cache_find(e, gfn);

	if (!page)
		return;
	e->cache_stats.spared += page->list == CACHE_TRIAL && page->hidden;
	page->hidden = false;
	page->stamp = stamp_of(clock_now_ns());
	/* The end of the step finds out if it belongs elsewhere. */
	cache_move(e->cache, page, CACHE_ACTIVE);
}

bool engine_cache_hidden(struct engine *e, uint64_t gfn)
{
	const struct cache_page *page = engine_cache_find(e, gfn);

	return page && page->hidden;
}

static void page_forget(struct engine *e, struct cache_page *page)
{
	cache_remove(e->cache, page);
	e->cache_stats.pages = e->cache->held;
}

void engine_cache_dropped(struct engine *e, uint64_t gfn)
{
	struct cache_page *page = engine_cache_find(e, gfn);

	if (!page)
		return;
	if (page->list == CACHE_EVICTING)
		cache_ghost_add(e->cache, gfn);
	e->cache_stats.returned += page->list == CACHE_STALE;
	page_forget(e, page);
}

/* ---- eviction ---- */

static bool page_spared(struct engine *e, const struct cache_page *page, uint64_t now_ns)
{
	uint64_t age_ns = (uint64_t)(uint32_t)(stamp_of(now_ns) - page->stamp) << 10;

	if (age_ns < e->config.hold_ns)
		return true;
	if (age_ns < e->turn_ns && protocol_page_contended(e->protocol, page->gfn))
		return true;
	return engine_use_outstanding(e, page->gfn, now_ns);
}

/* Puts the page that was mapped longest ago on trial. */
static bool trial_begin(struct engine *e, uint64_t now_ns)
{
	struct cache *cache = e->cache;

	for (unsigned i = 0; i < SCAN_MAX; i++) {
		struct cache_page *page = cache_first(cache, CACHE_ACTIVE);

		if (!page)
			return false;
		if (page_spared(e, page, now_ns)) {
			cache_move(cache, page, CACHE_ACTIVE);
			continue;
		}
		if (!page->hidden)
			engine_page_hide(e, page->gfn);
		page->hidden = true;
		cache_move(cache, page, CACHE_TRIAL);
		return true;
	}
	return false;
}

/* Evicts this page, or if it cannot go now, gives it another round. */
static bool page_evict(struct engine *e, struct cache_page *page, uint64_t now_ns)
{
	bool owned = protocol_state(e->protocol, page->gfn) == PAGE_M;

	if (!page_spared(e, page, now_ns))
		engine_evict(e, page->gfn);
	if (page->list != CACHE_EVICTING) {
		cache_move(e->cache, page, CACHE_ACTIVE);
		return false;
	}
	e->cache_stats.evictions_owned += owned;
	e->cache_stats.evictions_shared += !owned;
	return true;
}

static bool evict_one(struct engine *e, uint64_t now_ns)
{
	for (unsigned i = 0; i < SCAN_MAX; i++) {
		struct cache_page *page = cache_first(e->cache, CACHE_TRIAL);

		if (!page && !trial_begin(e, now_ns))
			return false;
		page = cache_first(e->cache, CACHE_TRIAL);
		if (page_evict(e, page, now_ns))
			return true;
	}
	return false;
}

static uint32_t reserve_of(const struct cache *cache)
{
	uint32_t reserve = cache->limit / RESERVE_PART;

	if (reserve < RESERVE_MIN)
		return RESERVE_MIN;
	return reserve > RESERVE_MAX ? RESERVE_MAX : reserve;
}

void engine_cache_balance(struct engine *e)
{
	struct cache *cache = e->cache;
	uint32_t reserve = reserve_of(cache);
	uint64_t now_ns;

	if (!cache->limited ||
	    cache->limit - cache->held + cache->queues[CACHE_EVICTING].count >= reserve)
		return;
	now_ns = clock_now_ns();
	while (cache->limit - cache->held + cache->queues[CACHE_EVICTING].count < reserve) {
		struct cache_page *stale = cache_first(cache, CACHE_STALE);

		/* A copy that is gone needs no message. */
		if (stale)
			engine_frames_drop(e, stale->gfn, 1);
		else if (!evict_one(e, now_ns))
			return;
	}
}

/* ---- admission ---- */

/* The fuller the cache, the more pages are on trial: a quarter of it when it is full. */
static void trials_begin(struct engine *e)
{
	struct cache *cache = e->cache;
	uint32_t trial = cache->limit / TRIAL_PART;
	uint64_t now_ns;

	if (!cache->limited || cache->held + trial < cache->limit ||
	    cache->queues[CACHE_TRIAL].count >= trial)
		return;
	now_ns = clock_now_ns();
	for (unsigned i = 0; i < TRIALS_PER_PAGE; i++)
		if (!trial_begin(e, now_ns))
			return;
}

static void on_retry(uv_timer_t *timer)
{
	struct engine *e = timer->data;

	engine_retry(e);
	if (e->waiting.count == 0)
		uv_timer_stop(timer);
}

void engine_cache_wait(struct engine *e)
{
	e->cache_stats.waits++;
	if (!uv_is_active((uv_handle_t *)&e->cache_timer))
		invariant(uv_timer_start(&e->cache_timer, on_retry, RETRY_MS, RETRY_MS) == 0);
}

bool engine_cache_admit(struct engine *e, uint64_t gfn)
{
	struct cache *cache = e->cache;

	if (!page_remote(e, gfn) || cache_find(cache, gfn))
		return true;
	if (cache->held == cache->limit)
		engine_cache_balance(e);
	if (cache->held == cache->limit)
		return false;
	e->cache_stats.refetches += cache_ghost_take(cache, gfn);
	cache_add(cache, gfn);
	e->cache_stats.pages = cache->held;
	if (cache->held > e->cache_stats.pages_max)
		e->cache_stats.pages_max = cache->held;
	trials_begin(e);
	return true;
}
