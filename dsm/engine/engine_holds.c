/* SPDX-License-Identifier: Apache-2.0 */
/* Hold timers: a bounded heap by deadline under one timerfd, finer than the loop's milliseconds. */
#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

static void heap_swap(struct hold_timer *a, struct hold_timer *b)
{
	struct hold_timer tmp = *a;

	*a = *b;
	*b = tmp;
}

static struct hold_timer heap_pop(struct engine *e)
{
	struct hold_timer *heap = e->holds, first = heap[0];
	unsigned at = 0, child;

	heap[0] = heap[--e->holds_count];
	while ((child = 2 * at + 1) < e->holds_count) {
		if (child + 1 < e->holds_count &&
		    heap[child + 1].deadline_ns < heap[child].deadline_ns)
			child++;
		if (heap[at].deadline_ns <= heap[child].deadline_ns)
			break;
		heap_swap(&heap[at], &heap[child]);
		at = child;
	}
	return first;
}

/* Sets the timer for the earliest deadline, if that is not what it is set for. */
static void timer_arm(struct engine *e)
{
	struct itimerspec when = {0};
	uint64_t deadline_ns;

	if (e->holds_count == 0)
		return;
	deadline_ns = e->holds[0].deadline_ns ? e->holds[0].deadline_ns : 1;
	if (e->timer_armed_ns && e->timer_armed_ns <= deadline_ns)
		return;
	when.it_value.tv_sec = (time_t)(deadline_ns / NS_PER_S);
	when.it_value.tv_nsec = (long)(deadline_ns % NS_PER_S);
	invariant(timerfd_settime(e->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
	e->timer_armed_ns = deadline_ns;
}

void engine_hold_add(struct engine *e, uint64_t gfn, uint64_t deadline_ns)
{
	struct hold_timer *heap = e->holds;
	unsigned at = e->holds_count++;

	invariant(at < HOLDS_MAX);
	heap[at] = (struct hold_timer){deadline_ns, gfn};
	while (at > 0 && heap[(at - 1) / 2].deadline_ns > heap[at].deadline_ns) {
		heap_swap(&heap[(at - 1) / 2], &heap[at]);
		at = (at - 1) / 2;
	}
	timer_arm(e);
}

void engine_holds_run(struct engine *e)
{
	uint64_t expirations, now_ns = clock_now_ns();

	if (read(e->timer_fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		log_warn("reading the hold timer failed");
	e->timer_armed_ns = 0;
	while (e->holds_count > 0 && e->holds[0].deadline_ns <= now_ns) {
		struct hold_timer timer = heap_pop(e);
		uint64_t recheck_ns = engine_use_recheck_ns(e, timer.gfn, now_ns);

		if (recheck_ns)
			engine_hold_add(e, timer.gfn, now_ns + recheck_ns);
		else
			engine_hold_end(e, timer.gfn);
	}
	timer_arm(e);
}

/* Timers that one event can ask for at most: an event is about one page, with few steps. */
#define HOLDS_PER_EVENT 64u

void engine_holds_trim(struct engine *e)
{
	/* The step that this calls trims too, which ends since each level takes one out. */
	if (e->holds_count + HOLDS_PER_EVENT > HOLDS_MAX)
		engine_hold_end(e, heap_pop(e).gfn);
}
