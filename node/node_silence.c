/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices that are silent: stopped, or with a thread that stands still. The coordinator hears how long
 * each one has been, every second from CONTROL_WAIT_S on, and once that it answers again.
 *
 * Seconds are counted in ticks of this daemon, not by a clock: while the daemon itself was stopped it
 * missed nothing of anybody.
 */
#include "base/log.h"
#include "node/node.h"

void silence_beat(struct node_slice *slice, unsigned engine_silent_s)
{
	slice->beaten = true;
	slice->engine_silent_s = engine_silent_s;
}

/* A slice that runs beats; before and after, its steps have deadlines. */
static unsigned silent_s(struct node_slice *slice)
{
	uint64_t seconds;

	slice->missed = slice->beaten || slice->said != SAID_STARTED ? 0 : slice->missed + 1;
	slice->beaten = false;
	if (slice->said != SAID_STARTED)
		return 0;
	seconds = (uint64_t)slice->engine_silent_s + (uint64_t)slice->missed * HEARTBEAT_MS / 1000;
	return seconds < CONTROL_SILENT_MAX_S ? (unsigned)seconds : CONTROL_SILENT_MAX_S;
}

static void slice_tick(struct node_slice *slice)
{
	unsigned seconds = silent_s(slice);
	bool silent = seconds >= CONTROL_WAIT_S;
	json_t *msg;

	if (!silent && !slice->silence_told)
		return;
	if (silent && !slice->silence_told)
		log_warn("VM %s: slice %u, process %d, does not answer", slice->vm, slice->index,
			 (int)slice->pid);
	if (!silent)
		log_info("VM %s: slice %u answers again", slice->vm, slice->index);
	slice->silence_told = silent;
	msg = json_pack("{s:s, s:i}", "type", "slice-silent", "seconds", silent ? (int)seconds : 0);
	slice_sign(slice, msg);
	link_send(slice->node, msg, NULL, 0);
}

void silence_tick(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++)
		if (node->slice[i] && !node->slice[i]->over && !node->slice[i]->reaped &&
		    !node->slice[i]->orphan)
			slice_tick(node->slice[i]);
}
