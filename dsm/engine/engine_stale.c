/* SPDX-License-Identifier: Apache-2.0 */
/* Gives the frames of copies that were taken away back to the host, once they stayed away for seconds. */
#include "base/clock.h"
#include "base/log.h"
#include "dsm/engine/engine_cache.h"
#include "dsm/engine/engine_parts.h"

/*
 * A copy that was taken away leaves its frame behind. Most such pages come back within
 * milliseconds, and a frame that is there then saves the host an allocation. Those that do not come
 * back hold memory for nothing, so a timer takes the oldest of them a few at a time. Faults pay for
 * none of this: who loses a copy notes the timer's last reading of the clock, and the timer runs only
 * while there are such frames. A batch is small, as faults may have to wait for it.
 */

/* The unit of the clock here, about a second, and how many of them a frame is kept. */
#define UNIT_SHIFT 30u
#define AGE_UNITS  4u
/* A look at the oldest frame, and between two batches. */
#define LOOK_MS	 1000u
#define BATCH_MS 10u
/* Of a batch, which takes some 30 us either way: holes, and pages in them. So in a second 800 frames go
 * (3 MiB) that lie alone, or 3,200 in rows. */
#define BATCH_HOLES 8u
#define BATCH_PAGES 32u

static uint32_t units_now(void)
{
	return (uint32_t)(clock_now_ns() >> UNIT_SHIFT);
}

static bool page_old(const struct engine *e, const struct cache_page *page)
{
	return page && page->list == CACHE_STALE && e->stale_now - page->stamp >= AGE_UNITS;
}

static bool gfn_old(const struct engine *e, uint64_t gfn)
{
	return page_old(e, engine_cache_find(e, gfn));
}

/* The page and its neighbours, as far as they are old too, and `most` of them; gives how many. */
static uint64_t hole_punch(struct engine *e, uint64_t gfn, uint64_t most)
{
	uint64_t first = gfn, end = gfn + 1;

	while (end - first < most && gfn_old(e, end))
		end++;
	while (end - first < most && first > 0 && gfn_old(e, first - 1))
		first--;
	engine_frames_drop(e, first, end - first);
	return end - first;
}

/* True: there is more that is old enough. */
static bool batch_return(struct engine *e)
{
	uint64_t pages = 0;

	for (unsigned holes = 0; holes < BATCH_HOLES && pages < BATCH_PAGES; holes++) {
		const struct cache_page *oldest = cache_first(e->cache, CACHE_STALE);

		if (!page_old(e, oldest) || e->failed)
			return false;
		pages += hole_punch(e, oldest->gfn, BATCH_PAGES - pages);
	}
	return true;
}

static void on_timer(uv_timer_t *timer)
{
	struct engine *e = timer->data;
	bool more;

	e->stale_now = units_now();
	more = batch_return(e);
	if (cache_first(e->cache, CACHE_STALE) && !e->failed)
		invariant(uv_timer_start(timer, on_timer, more ? BATCH_MS : LOOK_MS, 0) == 0);
}

void engine_stale_note(struct engine *e, struct cache_page *page)
{
	if (!e->closing && !uv_is_active((uv_handle_t *)&e->stale_timer)) {
		e->stale_now = units_now();
		invariant(uv_timer_start(&e->stale_timer, on_timer, LOOK_MS, 0) == 0);
	}
	page->stamp = e->stale_now;
}
