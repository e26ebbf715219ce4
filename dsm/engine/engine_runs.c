/* SPDX-License-Identifier: Apache-2.0 */
/* Runs: what is done for pages in a row is one message and one mapping, not one of each for each. */
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

/*
 * The protocol knows nothing of runs. Messages that differ in nothing but their page, and these in
 * a row, go as one that says how many more there are; who receives it steps each as if it had come
 * alone, in the same order (docs/protocol.md, "Runs"). Pages that became writable in a row are
 * mapped with one call. Both wait no longer than for the end of the run, and never for anything
 * that depends on them: what is no continuation settles all that came before it, the mappings
 * first, since messages may tell of them.
 */

static void maps_settle(struct engine *e)
{
	struct runs *runs = &e->runs;
	uint64_t first = runs->map_first, count = runs->map_count;
	int err;

	runs->map_count = 0;
	if (count == 0)
		return;
	err = pages_map_run(e->pages, first, count);
	if (err)
		engine_page_operation_failed(e, "map", first, err);
	for (uint64_t i = 0; i < count; i++)
		engine_page_mapped(e, first + i);
}

static void message_settle(struct engine *e)
{
	struct runs *runs = &e->runs;

	maps_settle(e);
	if (!runs->pending || e->failed)
		return;
	runs->pending = false;
	(void)e->transport->ops->send(e->transport, runs->to, &runs->msg, NULL, false);
}

void engine_runs_begin(struct engine *e)
{
	invariant(!e->runs.open);
	e->runs = (struct runs){.open = true};
}

void engine_runs_end(struct engine *e)
{
	message_settle(e);
	e->runs.open = false;
}

void engine_runs_settle(struct engine *e)
{
	if (e->runs.open)
		maps_settle(e);
}

bool engine_runs_map(struct engine *e, uint64_t gfn)
{
	struct runs *runs = &e->runs;

	if (!runs->open)
		return false;
	if (gfn != runs->map_first + runs->map_count)
		maps_settle(e);
	if (runs->map_count++ == 0)
		runs->map_first = gfn;
	return true;
}

static bool message_continues(const struct runs *runs, unsigned to, const struct wire_msg *msg)
{
	const struct wire_msg *last = &runs->msg;

	return runs->pending && runs->to == to && last->arg + 1 < WIRE_RUN_MAX &&
	       last->gfn + last->arg + 1 == msg->gfn && last->type == msg->type &&
	       last->flags == msg->flags && last->acks == msg->acks &&
	       last->requester == msg->requester && last->epoch == msg->epoch;
}

void engine_send(struct engine *e, unsigned to, const struct wire_msg *msg, const void *payload,
		 bool copy_payload)
{
	struct runs *runs = &e->runs;

	if (runs->open && message_continues(runs, to, msg)) {
		runs->msg.arg++;
		return;
	}
	if (runs->open)
		message_settle(e);
	if (runs->open && wire_msg_runs(msg)) {
		runs->pending = true;
		runs->to = to;
		runs->msg = *msg;
	} else if (!e->failed) {
		(void)e->transport->ops->send(e->transport, to, msg, payload, copy_payload);
	}
}
