/* SPDX-License-Identifier: Apache-2.0 */
/* First touches at home: an untouched page is mapped with its neighbours, so that few are faults. */
#include "base/clock.h"
#include "dsm/engine/engine_parts.h"

/*
 * A window is a word of home_touched: 64 pages, 256 KiB. Mapping one takes some 50 us, most of it the
 * host's for finding and clearing the memory, and in these the engine does nothing else.
 */
#define WINDOW 64u
/*
 * Windows that are mapped ahead of a thread that goes through them, one a turn of the loop, so that
 * faults and messages come between: as many as it has gone through, up to 2 MiB.
 */
#define AHEAD_MAX 8u
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

/* Makes the pages exclusive here, and maps them; how many, since requests may run out. None of them
 * but missed is one that a thread waits for. */
static uint64_t run_touch(struct engine *e, const struct run *run, uint64_t missed, uint64_t now_ns)
{
	struct protocol_event event = {.type = EVENT_FAULT_WRITE, .now_ns = now_ns};
	uint64_t done = 0;

	engine_runs_begin(e);
	for (; done < run->count; done++) {
		event.gfn = run->first + done;
		event.ahead = event.gfn != missed;
		if (engine_step(e, &event) != 0)
			break;
	}
	engine_runs_end(e);
	return done;
}

/* ---- ahead of the first touches ---- */

static bool window_full(const struct engine *e, uint64_t window)
{
	return window < e->home_touched_bytes / sizeof(uint64_t) &&
	       e->home_touched[window] == UINT64_MAX;
}

/* Windows in a row, from the one beside `window` on, that are full. */
static unsigned windows_full(const struct engine *e, uint64_t window, bool down)
{
	unsigned n = 0;

	while (n < AHEAD_MAX && window_full(e, down ? window - n - 1 : window + n + 1))
		n++;
	return n;
}

/* A window was touched that is not full any more by single touches: does it go on from others? */
static void plan_make(struct engine *e, uint64_t window)
{
	unsigned below = windows_full(e, window, true), above = windows_full(e, window, false);
	bool down = above > below;
	struct touch_plan *plan = e->touch_plans;

	if (e->config.slices == 1 || (below == 0 && above == 0))
		return;
	for (unsigned i = 1; i < TOUCH_PLANS && plan->left > 0; i++)
		plan = &e->touch_plans[i];
	*plan = (struct touch_plan){.window = down ? window - 1 : window + 1,
				    .left = down ? above : below,
				    .down = down};
}

/* Maps the plan's next window, if nobody has touched any of it. */
static bool plan_step(struct engine *e, struct touch_plan *plan)
{
	uint64_t gfn = plan->window * WINDOW;
	struct run run;

	if (plan->window >= e->home_touched_bytes / sizeof(uint64_t) || !untouched(e, gfn))
		return false;
	run = run_around(e, gfn);
	if (run.count < WINDOW || run_touch(e, &run, UINT64_MAX, clock_now_ns()) < WINDOW)
		return false;
	plan->window += plan->down ? UINT64_MAX : 1;
	plan->left--;
	return true;
}

bool engine_touch_ahead(struct engine *e)
{
	for (unsigned i = 0; i < TOUCH_PLANS; i++) {
		struct touch_plan *plan = &e->touch_plans[i];

		if (plan->left == 0)
			continue;
		if (e->closing || e->failed || !plan_step(e, plan))
			plan->left = 0;
		return true;
	}
	return false;
}

bool engine_touch(struct engine *e, uint64_t gfn, uint64_t now_ns)
{
	struct run run;

	if (!untouched(e, gfn) || !window_in_use(e, gfn))
		return false;
	run = run_around(e, gfn);
	run.count = run_touch(e, &run, gfn, now_ns);
	plan_make(e, gfn / WINDOW);
	return gfn < run.first + run.count;
}
