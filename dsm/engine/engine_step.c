/* SPDX-License-Identifier: Apache-2.0 */
/* Events into the protocol, its actions out: all actions of one event before the next. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

void engine_host_failed(struct engine *e, const char *what, int err)
{
	char why[160];

	if (e->failed)
		return;
	e->failed = true;
	snprintf(why, sizeof(why), "%s: %s", what, error_text(err));
	log_error("%s", why);
	e->config.callbacks.on_peer_lost(e->config.callbacks.ctx, e->config.self, err, why);
}

void engine_page_operation_failed(struct engine *e, const char *what, uint64_t gfn, int err)
{
	char text[96];

	snprintf(text, sizeof(text), "this host cannot %s guest page 0x%llx", what,
		 (unsigned long long)gfn);
	engine_host_failed(e, text, err);
}

/* A page was mapped: the faults on it that were under way are over. */
static void faults_served(struct engine *e, uint64_t gfn)
{
	struct fault_list *timing = &e->timing;
	unsigned i = 0;

	while (i < timing->count) {
		struct pending_fault *fault = &timing->list[i];

		if (fault->gfn != gfn) {
			i++;
			continue;
		}
		if (fault->remote) {
			uint64_t now_ns = clock_now_ns(), latency_ns = now_ns - fault->start_ns;

			engine_use_expect(e, gfn, fault->tid, now_ns);
			e->fault_ns_total += latency_ns;
			e->fault_count_remote++;
			engine_turns_learn(e, latency_ns);
		}
		*fault = timing->list[--timing->count];
	}
}

/* A page homed here has a frame now. */
static void home_frame_used(struct engine *e, uint64_t gfn)
{
	uint64_t bit = UINT64_C(1) << (gfn % 64);

	if (!engine_home_is_self(e, gfn) || (e->home_touched[gfn / 64] & bit))
		return;
	e->home_touched[gfn / 64] |= bit;
	e->pages_home++;
}

/* A home's page that was never used has no frame yet. */
static bool frame_missing(const struct engine *e, uint64_t gfn)
{
	return engine_home_is_self(e, gfn) &&
	       !(e->home_touched[gfn / 64] & UINT64_C(1) << (gfn % 64));
}

void engine_page_mapped(struct engine *e, uint64_t gfn)
{
	home_frame_used(e, gfn);
	if (e->cache)
		engine_cache_mapped(e, gfn);
	faults_served(e, gfn);
	engine_locked_notice(e, gfn);
}

static void map_check(struct engine *e, uint64_t gfn, int err)
{
	if (err)
		engine_page_operation_failed(e, "map", gfn, err);
	engine_page_mapped(e, gfn);
}

/* The mapping makes the frame, if there is none: in one call. */
static int page_map_exclusive(struct engine *e, uint64_t gfn)
{
	return frame_missing(e, gfn) ? pages_map_run(e->pages, gfn, 1)
				     : pages_map_exclusive(e->pages, gfn);
}

/* A page that is hidden has no mapping to make writable yet. */
static int page_upgrade(struct engine *e, uint64_t gfn)
{
	if (e->cache && engine_cache_hidden(e, gfn))
		return pages_map_exclusive(e->pages, gfn);
	return pages_upgrade(e->pages, gfn);
}

void engine_page_hide(struct engine *e, uint64_t gfn)
{
	int err = pages_unmap(e->pages, gfn);

	if (err)
		engine_page_operation_failed(e, "unmap", gfn, err);
}

void engine_page_changed(struct engine *e, uint64_t gfn)
{
	const struct engine_callbacks *cb = &e->config.callbacks;

	if (cb->on_page_changed)
		cb->on_page_changed(cb->ctx, gfn);
}

void engine_page_show(struct engine *e, uint64_t gfn)
{
	map_check(e, gfn, pages_map_exclusive(e->pages, gfn));
}

void engine_frames_drop(struct engine *e, uint64_t gfn, uint64_t count)
{
	int err = pages_drop_frames(e->pages, gfn, count);

	/* With a limit it would be broken, without anyone noticing. */
	if (err && e->cache)
		engine_page_operation_failed(e, "free the memory of", gfn, err);
	else if (err)
		log_debug("cannot free guest page's memory: %s", error_text(err));
	for (uint64_t i = 0; e->cache && i < count; i++)
		engine_cache_dropped(e, gfn + i);
}

/*
 * The fault was satisfied meanwhile, as far as the protocol knows. Its page table entry may still
 * be missing, since the host may drop entries of file pages at will: so map again, which wakes too.
 */
static int page_wake(struct engine *e, uint64_t gfn)
{
	switch (protocol_state(e->protocol, gfn)) {
	case PAGE_M:
		return pages_map_exclusive(e->pages, gfn);
	case PAGE_S:
	case PAGE_SM:
	case PAGE_SMA:
		return pages_map_shared(e->pages, gfn);
	default:
		return pages_wake(e->pages, gfn);
	}
}

static void page_send(struct engine *e, const struct protocol_action *action)
{
	struct wire_msg msg = action->msg;
	const void *frame = pages_frame(e->pages, action->gfn);
	/* Nobody tells when the frame of a page that was given away has gone out: where it may be
	 * dropped then, what the socket does not take at once is copied. */
	bool copy = e->cache && msg.type == MSG_DATA && (msg.flags & MSG_FLAG_EXCLUSIVE) &&
		    !engine_home_is_self(e, action->gfn);

	if (pages_frame_is_zero(e->pages, action->gfn)) {
		msg.flags |= MSG_FLAG_ZERO;
		msg.payload_len = 0;
		frame = NULL;
	} else {
		e->pages_sent++;
	}
	engine_send(e, action->to, &msg, frame, copy);
}

/*
 * The slice that broke the protocol loses its connection. If that is who sent the message of this
 * step, engine_message tells the transport; but the message may also have set off a request of
 * another slice that waited here, and that one may wait on and never send again. Our own requests
 * are right: what spoils one is the message of this step.
 */
static void violation_act(struct engine *e, const struct protocol_event *event,
			  const struct protocol_action *action)
{
	unsigned from = event->type == EVENT_MESSAGE ? event->from : e->config.self;
	unsigned guilty = action->to == e->config.self ? from : action->to;
	uint64_t bit = UINT64_C(1) << guilty;

	if (e->violators & bit)
		return;
	e->violators |= bit;
	if (guilty != from)
		e->transport->ops->refuse(e->transport, guilty, -PANGEA_EPROTOCOL, action->why);
	log_error(
		"slice %u broke the coherence protocol: %s (%s for page 0x%llx, which is %s here)",
		guilty, action->why, wire_type_name(action->msg.type),
		(unsigned long long)action->msg.gfn,
		protocol_page_state(e->protocol, action->msg.gfn));
}

static void page_lost(struct engine *e, uint64_t gfn)
{
	if (e->pages_lost++ == 0)
		log_warn("guest page 0x%llx may be lost with that slice (others are not listed)",
			 (unsigned long long)gfn);
}

static void action_execute(struct engine *e, const struct protocol_event *event,
			   const struct protocol_action *action)
{
	uint64_t gfn = action->gfn;
	int err;

	/* Whatever else is done to a page finds it mapped. */
	if (action->type != ACTION_MAP_EXCLUSIVE && action->type != ACTION_SEND &&
	    action->type != ACTION_SEND_PAGE)
		engine_runs_settle(e);
	switch (action->type) {
	case ACTION_SEND:
		engine_send(e, action->to, &action->msg, NULL, false);
		break;
	case ACTION_SEND_PAGE:
		page_send(e, action);
		break;
	case ACTION_ZERO_FRAME:
		pages_zero_frame(e->pages, gfn);
		break;
	case ACTION_MAP_SHARED:
		if (frame_missing(e, gfn))
			pages_touch_frame(e->pages, gfn);
		map_check(e, gfn, pages_map_shared(e->pages, gfn));
		break;
	case ACTION_MAP_EXCLUSIVE:
		if (engine_runs_map(e, gfn))
			break;
		map_check(e, gfn, page_map_exclusive(e, gfn));
		break;
	case ACTION_MAP_UPGRADE:
		map_check(e, gfn, page_upgrade(e, gfn));
		break;
	case ACTION_WAKE:
		map_check(e, gfn, page_wake(e, gfn));
		break;
	case ACTION_PROTECT:
		err = pages_protect(e->pages, gfn);
		if (err)
			engine_page_operation_failed(e, "protect", gfn, err);
		break;
	case ACTION_UNMAP:
		engine_page_hide(e, gfn);
		engine_page_changed(e, gfn); /* before the actions that tell others */
		break;
	case ACTION_DROP_FRAME:
		engine_frames_drop(e, gfn, 1);
		break;
	case ACTION_HOLD_TIMER:
		engine_hold_add(e, gfn, action->deadline_ns);
		break;
	case ACTION_PAGE_LOST:
		page_lost(e, gfn);
		break;
	case ACTION_VIOLATION:
		violation_act(e, event, action);
		break;
	}
}

int engine_step(struct engine *e, const struct protocol_event *event)
{
	int err;

	/* What this host could not do must not be built on: no ACK after an unmap that failed. */
	if (e->failed)
		return -EOWNERDEAD;
	engine_holds_trim(e);
	err = protocol_step(e->protocol, event, &e->actions);
	for (unsigned i = 0; i < e->actions.count && !e->failed; i++)
		action_execute(e, event, &e->actions.list[i]);
	engine_page_counts_learn(e, event);
	if (e->cache)
		engine_cache_sync(e, event->gfn);
	return err;
}

void engine_evict(struct engine *e, uint64_t gfn)
{
	struct protocol_event event = {.type = EVENT_EVICT, .gfn = gfn, .now_ns = clock_now_ns()};

	engine_step(e, &event);
}

int engine_pin(struct engine *e, uint64_t gfn, bool pinned)
{
	struct protocol_event event = {
		.type = pinned ? EVENT_PIN : EVENT_UNPIN, .gfn = gfn, .now_ns = clock_now_ns()};

	return engine_step(e, &event);
}

static int fault_step(struct engine *e, const struct pending_fault *fault, uint64_t now_ns)
{
	struct protocol_event event = {
		.type = fault->write ? EVENT_FAULT_WRITE : EVENT_FAULT_READ,
		.gfn = fault->gfn,
		.now_ns = now_ns,
	};

	return engine_step(e, &event);
}

static bool list_add(struct fault_list *list, const struct pending_fault *fault)
{
	if (list->count == list->capacity)
		return false;
	list->list[list->count++] = *fault;
	return true;
}

/* No request is free, or no room for a frame. A thread that cannot even wait in the list is woken,
 * and faults again. */
static void fault_put_off(struct engine *e, const struct pending_fault *fault)
{
	for (unsigned i = 0; i < e->waiting.count; i++)
		if (e->waiting.list[i].gfn == fault->gfn &&
		    e->waiting.list[i].write == fault->write)
			return;
	if (!list_add(&e->waiting, fault))
		(void)pages_wake(e->pages, fault->gfn);
}

/* The faults on a page that are not over when their step is; true if there are any. */
static bool faults_mark_remote(struct engine *e, uint64_t gfn)
{
	bool any = false;

	for (unsigned i = 0; i < e->timing.count; i++)
		if (e->timing.list[i].gfn == gfn)
			any = e->timing.list[i].remote = true;
	return any;
}

/* May the fault be taken for a write, since the last reads of this page became writes? */
static bool fault_will_write(struct engine *e, const struct page_fault *fault)
{
	enum page_state state = protocol_state(e->protocol, fault->gfn);

	if (!fault->write)
		return state == PAGE_I && engine_predict_write(e, fault->gfn);
	if (state == PAGE_S)
		engine_predict_learn(e, fault->gfn);
	return true;
}

/* Where remote pages are limited, they need room before they are asked for. */
static int fault_begin(struct engine *e, const struct pending_fault *fault, uint64_t now_ns)
{
	int err;

	if (!e->cache)
		return fault_step(e, fault, now_ns);
	if (!engine_cache_admit(e, fault->gfn))
		return -EAGAIN;
	err = fault_step(e, fault, now_ns);
	engine_cache_balance(e); /* while the answer is on its way */
	return err;
}

void engine_fault(struct engine *e, const struct page_fault *fault, uint64_t now_ns)
{
	struct pending_fault pending = {
		.gfn = fault->gfn,
		.start_ns = now_ns,
		.tid = fault->tid,
		.write = fault_will_write(e, fault),
	};
	enum stream_kind kind;
	bool remote;
	int err;

	if (engine_home_is_self(e, fault->gfn) && engine_touch(e, fault->gfn, now_ns))
		return;
	kind = engine_ahead_kind(e, fault->gfn, pending.write);
	/* A full list only costs the statistics a sample. */
	(void)list_add(&e->timing, &pending);
	/* Who waits for room comes first. */
	if (e->cache && e->waiting.count > 0)
		engine_retry(e);
	err = fault_begin(e, &pending, now_ns);
	remote = faults_mark_remote(e, fault->gfn);
	if (remote && e->config.callbacks.on_fault_remote)
		e->config.callbacks.on_fault_remote(e->config.callbacks.ctx, fault->tid, now_ns);
	if (remote && err == 0) {
		pages_touch_frame(e->pages, fault->gfn); /* while the answer is on its way */
		engine_ahead(e, fault->gfn, kind, now_ns);
	}
	if (err == -EAGAIN) {
		fault_put_off(e, &pending);
		if (e->cache)
			engine_cache_wait(e);
	} else if (err && err != -EOWNERDEAD) { /* that one waits for the end of the VM */
		engine_host_failed(e, "the host told of a fault that is not in guest memory", err);
	}
}

void engine_retry(struct engine *e)
{
	struct fault_list *waiting = &e->waiting;

	while (waiting->count > 0) {
		struct pending_fault fault = waiting->list[0];

		/* Now: a hold time counts from when the page comes, not from when it was missed. */
		if (fault_begin(e, &fault, clock_now_ns()) == -EAGAIN)
			return;
		waiting->count--;
		memmove(waiting->list, waiting->list + 1, waiting->count * sizeof(fault));
	}
}

static void message_step(struct engine *e, unsigned from, const struct wire_msg *msg)
{
	struct protocol_event event = {
		.type = EVENT_MESSAGE, .from = from, .gfn = msg->gfn, .now_ns = clock_now_ns()};

	event.msg = *msg;
	event.unused = engine_use_outstanding(e, msg->gfn, event.now_ns);
	engine_turn_tell(e, &event);
	if (msg->type == MSG_DATA && e->config.ahead_max)
		engine_ahead_learn(e, msg->gfn, msg->flags & MSG_FLAG_ZERO);
	engine_step(e, &event);
}

static bool violated(const struct engine *e, unsigned from)
{
	return e->violators & UINT64_C(1) << from;
}

/* A message for several pages in a row: one of each, as if they had come one by one. */
static void run_step(struct engine *e, unsigned from, const struct wire_msg *msg)
{
	struct wire_msg one = *msg;

	one.arg = 0;
	engine_runs_begin(e);
	for (uint64_t i = 0; i <= msg->arg && !violated(e, from); i++) {
		one.gfn = msg->gfn + i;
		message_step(e, from, &one);
	}
	engine_runs_end(e);
}

int engine_message(struct engine *e, unsigned from, const struct wire_msg *msg)
{
	if (msg->arg)
		run_step(e, from, msg);
	else
		message_step(e, from, msg);
	if (violated(e, from))
		return -PANGEA_EPROTOCOL;
	/* A dropped message's gfn was never checked: protocol_home does. */
	if (msg->payload_len && protocol_home(e->protocol, msg->gfn) == e->config.self)
		home_frame_used(e, msg->gfn);
	if (e->waiting.count > 0)
		engine_retry(e);
	return 0;
}

void engine_hold_end(struct engine *e, uint64_t gfn)
{
	struct protocol_event event = {
		.type = EVENT_HOLD_END, .gfn = gfn, .now_ns = clock_now_ns()};

	engine_step(e, &event);
}

void engine_peer_loss(struct engine *e, unsigned peer)
{
	struct protocol_event event = {
		.type = EVENT_PEER_LOST, .from = peer, .now_ns = clock_now_ns()};
	int err;

	/* The protocol tells of pages in pieces, each within the limit of one event's actions. */
	do {
		err = engine_step(e, &event);
	} while (err == -EAGAIN);
	invariant(err == 0 || e->failed);
	if (e->cache)
		engine_cache_sync_all(e);
	engine_retry(e);
}
