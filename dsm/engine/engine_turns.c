/* SPDX-License-Identifier: Apache-2.0 */
/* Which slice keeps the contended pages now, where page-table walks write; and for how long,
 * elsewhere. */
#include "base/clock.h"
#include "dsm/engine/engine_parts.h"

/*
 * Where a walk needs its tables writable, a CPU needs a dozen pages at once to run at all. Two
 * slices that run the same kernel then take tables from each other for ever: each holds one that
 * the other waits for, and once both hold times are over they have changed places. So there is an
 * order, which changes with time: in its turn a slice keeps what it has and gets what it asks for,
 * at other times it gives way (as in wound-wait, Rosenkrantz, Stearns and Lewis 1978, with turns
 * for ages). Who has no turn runs on until it meets a page that is kept.
 *
 * A turn must be longer than it takes to get the pages together, so its length follows the latency
 * of faults: the quickest of several, since the others include what other slices kept. It is a
 * power of two, so that slices whose measurements differ agree most of the time; where they do not,
 * two may both keep their pages, or both give way, until a turn ends.
 */
#define LEARN_FAULTS 64u
/* A turn, in units of a fault, at least: some dozens of pages for an interrupt, and time to run. */
#define TURN_FAULTS	 32u
#define TURN_SHORTEST_NS (UINT64_C(1) << 20) /* about a millisecond */
#define TURN_LONGEST_NS	 (UINT64_C(1) << 27) /* an eighth of a second */

/*
 * Of three slices or more that all want a page, all of the time, some hear that the next one wants
 * it as they get it, since the home sends the FWD right behind the page, or is the slice itself.
 * The others hear of it after a round trip (their DONE, the home's FWD), and have it for that long.
 * So that all have it equally long, the hold time for such pages is longer than a round trip
 * between hosts of one network. It is a constant, as slices that measured would disagree: the home
 * gets its pages with one message less. Two slices always hear of it at once.
 */
#define LONG_HOLD_TIMES 5u /* in units of hold_ns: 100 us */

uint64_t engine_long_hold_ns(const struct engine *e)
{
	if (e->config.slices <= 2 || e->turn_ns)
		return 0;
	return LONG_HOLD_TIMES * e->config.hold_ns;
}

void engine_turns_learn(struct engine *e, uint64_t latency_ns)
{
	uint64_t turn_ns = TURN_SHORTEST_NS;

	if (!e->config.walks_write)
		return;
	if (e->latency_samples == 0 || latency_ns < e->latency_min_ns)
		e->latency_min_ns = latency_ns;
	if (++e->latency_samples < LEARN_FAULTS)
		return;
	e->latency_samples = 0;
	while (turn_ns < TURN_LONGEST_NS && turn_ns < e->latency_min_ns * TURN_FAULTS)
		turn_ns *= 2;
	/* Not for a step of two, which a measurement near a power of two makes again and again. */
	if (turn_ns < e->turn_ns && turn_ns * 2 == e->turn_ns)
		return;
	e->turn_ns = turn_ns;
}

void engine_turn_tell(const struct engine *e, struct protocol_event *event)
{
	uint64_t shared_ns, turns;

	event->long_hold_ns = engine_long_hold_ns(e);
	if (!e->turn_ns)
		return;
	shared_ns = event->now_ns +
		    (uint64_t)atomic_load_explicit(&e->clock_offset_ns, memory_order_relaxed);
	turns = shared_ns / e->turn_ns;
	event->turn_ns = e->turn_ns;
	event->turn = (unsigned)(turns % e->config.slices);
	event->turn_end_ns = event->now_ns + (turns + 1) * e->turn_ns - shared_ns;
}

void engine_clock_set(struct engine *e, int64_t offset_ns)
{
	atomic_store_explicit(&e->clock_offset_ns, offset_ns, memory_order_relaxed);
}
