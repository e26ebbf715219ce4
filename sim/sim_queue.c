/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's time: a binary heap of events, and the random numbers that everything is from. */
#include <stdlib.h>

#include "base/log.h"
#include "base/random.h"
#include "sim/sim_parts.h"

uint64_t random_next(struct sim_random *r)
{
	return random_splitmix(&r->state);
}

uint64_t random_below(struct sim_random *r, uint64_t limit)
{
	return (random_next(r) >> 11) % limit;
}

bool random_one_in(struct sim_random *r, uint64_t n)
{
	return random_below(r, n) == 0;
}

static bool event_before(const struct event *a, const struct event *b)
{
	return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->seq < b->seq;
}

void event_add(struct sim *sim, uint64_t time_ns, enum event_type type, unsigned a, unsigned b,
	       uint32_t arg)
{
	struct event_queue *q = &sim->queue;
	if (q->count == q->room) {
		q->room = q->room ? 2 * q->room : 4096;
		q->heap = realloc(q->heap, q->room * sizeof(q->heap[0]));
		invariant(q->heap);
	}
	struct event event = {
		time_ns < sim->now_ns ? sim->now_ns : time_ns, q->seq++, type, a, b, arg};
	size_t at = q->count++;
	for (; at && event_before(&event, &q->heap[(at - 1) / 2]); at = (at - 1) / 2)
		q->heap[at] = q->heap[(at - 1) / 2];
	q->heap[at] = event;
	q->work += type <= SIM_EVENT_WORK_LAST;
}

bool event_take(struct sim *sim, struct event *out)
{
	struct event_queue *q = &sim->queue;
	if (!q->count)
		return false;
	*out = q->heap[0];
	struct event last = q->heap[--q->count];
	size_t at = 0;
	for (size_t child; (child = 2 * at + 1) < q->count; at = child) {
		if (child + 1 < q->count && event_before(&q->heap[child + 1], &q->heap[child]))
			child++;
		if (!event_before(&q->heap[child], &last))
			break;
		q->heap[at] = q->heap[child];
	}
	q->heap[at] = last;
	q->work -= out->type <= SIM_EVENT_WORK_LAST;
	return true;
}
