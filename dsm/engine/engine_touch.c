/* SPDX-License-Identifier: Apache-2.0 */
/* First touches at home: an untouched page is mapped with its neighbours, so that few are faults. */
#include "dsm/engine/engine_parts.h"

/*
 * A window is a word of home_touched: 64 pages, 256 KiB. Mapping one takes some 100 us, most of it the
 * host's for finding and clearing the memory, and in these the engine does nothing else.
 */
#define WINDOW 64u
/* Pages of a window that are touched one by one: memory that is used here and there stays sparse. */
#define SPARSE_MAX 2u

struct run {
	uint64_t first, count;
};

static bool untouched(const struct engine *e, uint64_t gfn)
{
	return pages_is_ram(e->pages, gfn) && engine_home_is_self(e, gfn) &&
	       protocol_untouched(e->protocol, gfn);
}

/* Does whoever touches gfn go through its window, or come from the one before or behind? */
static bool window_in_use(const struct engine *e, uint64_t gfn)
{
	uint64_t window = gfn / WINDOW, last = e->home_touched_bytes / sizeof(uint64_t) - 1;

	if ((unsigned)__builtin_popcountll(e->home_touched[window]) >= SPARSE_MAX)
		return true;
	if (window > 0 && e->home_touched[window - 1] == UINT64_MAX)
		return true;
	return window < last && e->home_touched[window + 1] == UINT64_MAX;
}

/* The untouched pages around gfn, within its window. */
static struct run run_around(const struct engine *e, uint64_t gfn)
{
	uint64_t start = gfn / WINDOW * WINDOW, end = start + WINDOW, last = gfn;
	struct run run = {.first = gfn};

	while (run.first > start && untouched(e, run.first - 1))
		run.first--;
	while (last + 1 < end && untouched(e, last + 1))
		last++;
	run.count = last + 1 - run.first;
	return run;
}

/* Makes the pages exclusive here; how many, since requests may run out. */
static uint64_t run_step(struct engine *e, const struct run *run, uint64_t gfn, uint64_t now_ns)
{
	struct protocol_event event = {.type = EVENT_FAULT_WRITE, .now_ns = now_ns};
	uint64_t done = 0;

	e->run_under_way = true;
	for (; done < run->count; done++) {
		event.gfn = run->first + done;
		event.ahead = event.gfn != gfn;
		if (engine_step(e, &event) != 0)
			break;
	}
	e->run_under_way = false;
	return done;
}

bool engine_touch(struct engine *e, uint64_t gfn, uint64_t now_ns)
{
	struct run run;
	int err;

	if (!untouched(e, gfn) || !window_in_use(e, gfn))
		return false;
	run = run_around(e, gfn);
	run.count = run_step(e, &run, gfn, now_ns);
	if (run.count == 0)
		return false;
	pages_touch_run(e->pages, run.first, run.count);
	err = pages_map_run(e->pages, run.first, run.count);
	if (err)
		engine_page_operation_failed(e, "map", run.first, err);
	for (uint64_t i = 0; i < run.count; i++) {
		engine_home_frame_used(e, run.first + i);
		engine_faults_served(e, run.first + i);
		engine_locked_notice(e, run.first + i);
	}
	return gfn < run.first + run.count;
}
