/* SPDX-License-Identifier: Apache-2.0 */
/* The heartbeat of a slice: its main thread says each second that it lives, and how long the engine's
 * thread has stood still. Whoever has both threads stopped says nothing, which tells, too. */
#include "vmm/main/slice.h"

/*
 * Counted in beats, not by a clock: a process that was stopped as a whole and goes on does not take
 * its own pause for its engine's.
 */
static unsigned engine_silent_s(struct slice *s)
{
	uint64_t turns = engine_turns(s->engine);
	bool turned = turns != s->engine_turns;

	s->engine_turns = turns;
	s->engine_still = turned ? 0 : s->engine_still + 1;
	return s->engine_still * SLICE_STATS_INTERVAL_MS / 1000;
}

void slice_beat_send(struct slice *s)
{
	if (!s->engine || !s->node || s->state == SLICE_ENDING)
		return;
	control_sendf(s->node, "{s:s, s:i}", "type", "slice-beat", "engine_silent_s",
		      (int)engine_silent_s(s));
}
