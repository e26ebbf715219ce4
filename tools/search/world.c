/* SPDX-License-Identifier: Apache-2.0 */
/* A machine that runs the protocol core: obeys its actions as the engine does, and checks. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "tools/search/world.h"

/* What a step fills: the rows beside the actions, where world_row_obeyed finds them. */
struct stepping {
	struct protocol_actions actions;
	struct world_rows *rows; /* null: nobody asks */
};

static_assert(offsetof(struct stepping, actions) == 0, "world_row_obeyed gets the actions");

static void fail(struct world *w, const char *what)
{
	if (!w->failure)
		w->failure = what;
}

static unsigned page_of(uint64_t gfn)
{
	return (unsigned)(gfn >> CHUNK_PAGES_SHIFT);
}

void world_row_obeyed(struct protocol_actions *actions, const struct protocol_rule *rule)
{
	struct world_rows *rows = ((struct stepping *)actions)->rows;
	if (rows && rows->count < WORLD_ROWS_MAX)
		rows->list[rows->count++] = rule;
}

bool world_init(struct world *w, unsigned slices, unsigned pages, const uint8_t *homes,
		uint64_t hold_ns, unsigned requests_max)
{
	memset(w, 0, sizeof(*w));
	if (slices > WORLD_SLICES || pages > WORLD_PAGES)
		return false;
	w->slices = slices;
	w->pages = pages;
	w->homes = homes;
	w->now_ns = 1;
	struct protocol_config config = {
		.slices = slices,
		.epoch = 1,
		.gfns = WORLD_GFN(pages - 1) + 1,
		.home_of_chunk = homes,
		.hold_ns = hold_ns,
		.requests_max = requests_max,
	};
	for (config.self = 0; config.self < slices; config.self++) {
		size_t size = protocol_size(&config);
		if (!size || size > WORLD_MEM)
			return false;
		w->mem_size = size > w->mem_size ? size : w->mem_size;
	}
	for (config.self = 0; config.self < slices; config.self++) {
		if (!protocol_init(world_protocol(w, config.self), &config))
			return false;
	}
	return true;
}

struct protocol *world_protocol(const struct world *w, unsigned slice)
{
	return (struct protocol *)(uintptr_t)(w->mem + slice * w->mem_size);
}

struct packet *channel_head(struct world *w, unsigned from, unsigned to)
{
	struct channel *c = &w->channel[from][to];
	return c->count ? &c->packets[0] : NULL;
}

/* A slice that is frozen answers nothing; when the message arrives makes no difference. */
static void packet_ignored(struct world *w, unsigned from, unsigned to, const struct wire_msg *msg)
{
	struct stepping stepping = {.rows = NULL};
	struct protocol_event event = {.type = EVENT_MESSAGE,
				       .from = from,
				       .gfn = msg->gfn,
				       .now_ns = w->now_ns,
				       .msg = *msg};
	struct protocol *p = world_protocol(w, to);
	if (protocol_awaits_page(p, from, msg) || protocol_step(p, &event, &stepping.actions) ||
	    stepping.actions.count)
		fail(w, "a slice goes on after it was told of a loss");
}

static void channel_push(struct world *w, unsigned from, const struct protocol_action *a,
			 uint32_t value)
{
	struct channel *c = &w->channel[from][a->to];
	struct packet packet = {.msg = a->msg, .value = value};
	enum world_sending sending = SENDING_ONCE;
	if (w->lost & slice_bit(a->to))
		return;
	if (w->frozen & slice_bit(a->to)) {
		packet_ignored(w, from, a->to, &a->msg);
		return;
	}
	if (w->hooks && w->hooks->send)
		sending = w->hooks->send(w, from, a->to, &packet);
	if (sending == SENDING_NEVER)
		return;
	if (c->count + 1 >= WORLD_DEPTH) {
		fail(w, "a channel is full");
		return;
	}
	c->packets[c->count++] = packet;
	if (sending == SENDING_TWICE)
		c->packets[c->count++] = packet;
	if (sending == SENDING_AHEAD && c->count > 1 && !c->packets[c->count - 2].receiving) {
		c->packets[c->count - 1] = c->packets[c->count - 2];
		c->packets[c->count - 2] = packet;
	}
}

static struct packet channel_pop(struct world *w, unsigned from, unsigned to)
{
	struct channel *c = &w->channel[from][to];
	struct packet packet = c->packets[0];
	c->count--;
	memmove(c->packets, c->packets + 1, c->count * sizeof(packet));
	c->packets[c->count] = (struct packet){0};
	return packet;
}

/* The bytes of a frame change: none of its pages may still be on its way out. */
static void frame_touch(struct world *w, unsigned slice, unsigned page)
{
	for (unsigned to = 0; to < w->slices; to++) {
		struct channel *c = &w->channel[slice][to];
		for (unsigned i = 0; i < c->count; i++) {
			struct packet *packet = &c->packets[i];
			if (packet->msg.payload_len && page_of(packet->msg.gfn) == page)
				fail(w, "a frame changes while it is in flight");
		}
	}
}

static void send_page(struct world *w, unsigned slice, const struct protocol_action *action)
{
	struct protocol_action a = *action;
	uint32_t value = w->frame[slice][page_of(a.gfn)];
	if (value == 0) {
		a.msg.flags |= MSG_FLAG_ZERO;
		a.msg.payload_len = 0;
	}
	channel_push(w, slice, &a, value);
}

static void map(struct world *w, unsigned slice, unsigned page, enum mapping before,
		enum mapping after)
{
	if (w->mapping[slice][page] != before)
		fail(w, "a mapping changes from another state than the action says");
	w->mapping[slice][page] = (uint8_t)after;
	if (after > before)
		w->pending[slice][page] = 0;
}

static void obey(struct world *w, unsigned slice, const struct protocol_action *a)
{
	unsigned page = page_of(a->gfn);
	switch (a->type) {
	case ACTION_SEND:
		channel_push(w, slice, a, 0);
		break;
	case ACTION_SEND_PAGE:
		send_page(w, slice, a);
		break;
	case ACTION_ZERO_FRAME:
		frame_touch(w, slice, page);
		w->frame[slice][page] = 0;
		break;
	case ACTION_MAP_SHARED:
		map(w, slice, page, MAPPED_NONE, MAPPED_READ);
		break;
	case ACTION_MAP_EXCLUSIVE:
		map(w, slice, page, MAPPED_NONE, MAPPED_WRITE);
		break;
	case ACTION_MAP_UPGRADE:
		map(w, slice, page, MAPPED_READ, MAPPED_WRITE);
		break;
	case ACTION_PROTECT:
		map(w, slice, page, MAPPED_WRITE, MAPPED_READ);
		break;
	case ACTION_UNMAP:
		if (w->mapping[slice][page] == MAPPED_NONE)
			fail(w, "an unmapped page is unmapped");
		w->mapping[slice][page] = MAPPED_NONE;
		break;
	case ACTION_WAKE:
		w->pending[slice][page] = 0;
		break;
	case ACTION_HOLD_TIMER:
		w->timer[slice][page] = a->deadline_ns;
		break;
	case ACTION_DROP_FRAME:
		/* The engine may keep the bytes; the protocol must not count on zeroes. */
		frame_touch(w, slice, page);
		break;
	case ACTION_PAGE_LOST:
		if (!(w->frozen & slice_bit(slice)))
			fail(w, "a page is reported lost");
		break;
	case ACTION_VIOLATION:
		fail(w, a->why);
		break;
	}
}

int world_step(struct world *w, unsigned slice, const struct protocol_event *event)
{
	const struct world_hooks *hooks = w->hooks;
	struct stepping stepping;
	stepping.rows = w->rows;
	if (hooks && hooks->before)
		hooks->before(w, slice);
	int err = protocol_step(world_protocol(w, slice), event, &stepping.actions);
	for (unsigned i = 0; i < stepping.actions.count; i++) {
		const struct protocol_action *action = &stepping.actions.list[i];
		if (!hooks || !hooks->obey || hooks->obey(w, slice, action))
			obey(w, slice, action);
	}
	if (hooks && hooks->after)
		hooks->after(w, slice);
	world_check(w);
	return err;
}

static bool fault(struct world *w, unsigned slice, unsigned page, enum protocol_event_type type)
{
	struct protocol_event event = {.type = type, .gfn = WORLD_GFN(page), .now_ns = w->now_ns};
	/* Before the step, since the step may answer it. */
	w->pending[slice][page] |= type == EVENT_FAULT_WRITE ? PENDING_WRITE : PENDING_READ;
	int err = world_step(w, slice, &event);
	bool told = err == -EOWNERDEAD && (w->frozen & slice_bit(slice));
	if (err == -EAGAIN || told)
		w->pending[slice][page] = 0; /* the test comes again by itself */
	else if (err)
		fail(w, "a fault is refused");
	return false;
}

bool world_read(struct world *w, unsigned slice, unsigned page)
{
	if (w->mapping[slice][page] != MAPPED_NONE)
		return true; /* world_check has compared the value */
	return fault(w, slice, page, EVENT_FAULT_READ);
}

void world_refault(struct world *w, unsigned slice, unsigned page, bool write)
{
	struct protocol_event event = {.type = write ? EVENT_FAULT_WRITE : EVENT_FAULT_READ,
				       .gfn = WORLD_GFN(page),
				       .now_ns = w->now_ns};
	if (world_step(w, slice, &event))
		fail(w, "a fault that was satisfied meanwhile is refused");
}

bool world_write(struct world *w, unsigned slice, unsigned page, uint32_t value)
{
	if (w->mapping[slice][page] != MAPPED_WRITE)
		return fault(w, slice, page, EVENT_FAULT_WRITE);
	frame_touch(w, slice, page);
	w->frame[slice][page] = value;
	w->current[page] = value;
	return true;
}

void world_evict(struct world *w, unsigned slice, unsigned page)
{
	struct protocol_event event = {
		.type = EVENT_EVICT, .gfn = WORLD_GFN(page), .now_ns = w->now_ns};
	world_step(w, slice, &event);
}

void world_hold_end(struct world *w, unsigned slice, unsigned page)
{
	struct protocol_event event = {
		.type = EVENT_HOLD_END, .gfn = WORLD_GFN(page), .now_ns = w->now_ns};
	w->timer[slice][page] = 0;
	world_step(w, slice, &event);
}

void world_crash(struct world *w, unsigned lost)
{
	w->lost |= slice_bit(lost);
	w->frozen &= ~slice_bit(lost);
	for (unsigned i = 0; i < w->slices; i++)
		memset(&w->channel[i][lost], 0, sizeof(w->channel[i][lost]));
	memset(w->frame[lost], 0, sizeof(w->frame[lost]));
	memset(w->mapping[lost], 0, sizeof(w->mapping[lost]));
	memset(w->pending[lost], 0, sizeof(w->pending[lost]));
	memset(w->timer[lost], 0, sizeof(w->timer[lost]));
	memset(world_protocol(w, lost), 0, w->mem_size);
}

void world_tell(struct world *w, unsigned slice, unsigned lost)
{
	struct protocol_event event = {.type = EVENT_PEER_LOST, .from = lost, .now_ns = w->now_ns};
	/* More than one page in four steps' actions is more pages than a world has. */
	unsigned steps = 4 * WORLD_PAGES + 1;
	int err;
	w->frozen |= slice_bit(slice);
	do
		err = world_step(w, slice, &event);
	while (err == -EAGAIN && --steps);
	if (err)
		fail(w, "a loss never ends");
	/* Nothing that waits here is served any more, and nothing that comes is taken. */
	memset(w->pending[slice], 0, sizeof(w->pending[slice]));
	memset(w->timer[slice], 0, sizeof(w->timer[slice]));
	for (unsigned from = 0; from < w->slices; from++) {
		struct channel *c = &w->channel[from][slice];
		for (unsigned i = 0; i < c->count; i++)
			packet_ignored(w, from, slice, &c->packets[i].msg);
		memset(c, 0, sizeof(*c));
	}
}

void world_receive_begin(struct world *w, unsigned from, unsigned to)
{
	struct packet *packet = channel_head(w, from, to);
	unsigned page = page_of(packet->msg.gfn);
	if (!packet->msg.payload_len || packet->receiving)
		return;
	/* What a lost slice had in its frames is not kept. */
	if (w->frame[from][page] != packet->value && !(w->lost & slice_bit(from)))
		fail(w, "a frame changed before it was sent");
	bool in_frame = packet->msg.type != MSG_PUT_M || (w->hooks && w->hooks->put_in_frame);
	bool awaited = in_frame && protocol_awaits_page(world_protocol(w, to), from, &packet->msg);
	packet->receiving = awaited ? 1 : 2;
	if (awaited) {
		frame_touch(w, to, page);
		w->frame[to][page] = VALUE_GARBAGE;
		world_check(w);
	}
}

void world_receive(struct world *w, unsigned from, unsigned to)
{
	world_receive_begin(w, from, to);
	struct packet packet = channel_pop(w, from, to);
	if (w->hooks && w->hooks->deliver)
		w->hooks->deliver(w, from, to, &packet);
	unsigned page = page_of(packet.msg.gfn);
	bool taken = protocol_awaits_page(world_protocol(w, to), from, &packet.msg);
	if (packet.receiving == 1 && !taken)
		fail(w, "a page was awaited and is not taken");
	if (packet.receiving == 2 && taken)
		frame_touch(w, to, page);
	if (packet.receiving == 1 || taken)
		w->frame[to][page] = packet.value;
	struct protocol_event event = {.type = EVENT_MESSAGE,
				       .from = from,
				       .gfn = packet.msg.gfn,
				       .now_ns = w->now_ns,
				       .msg = packet.msg};
	world_step(w, to, &event);
}

bool world_quiet(const struct world *w)
{
	for (unsigned i = 0; i < w->slices; i++) {
		for (unsigned j = 0; j < w->slices; j++) {
			if (w->channel[i][j].count)
				return false;
		}
		for (unsigned page = 0; page < w->pages; page++) {
			if (w->timer[i][page])
				return false;
		}
	}
	return true;
}

void world_check(struct world *w)
{
	for (unsigned page = 0; page < w->pages; page++) {
		unsigned readers = 0, writers = 0;
		for (unsigned i = 0; i < w->slices; i++) {
			if (w->lost & slice_bit(i))
				continue;
			readers += w->mapping[i][page] == MAPPED_READ;
			writers += w->mapping[i][page] == MAPPED_WRITE;
			if (w->mapping[i][page] != MAPPED_NONE &&
			    w->frame[i][page] != w->current[page])
				fail(w, "a mapped page is stale");
		}
		if (writers > 1 || (writers && readers))
			fail(w, "a writer is not alone");
	}
}

/* Does what the directory knows at rest allow a slice's state? */
static bool entry_fits(const struct world *w, unsigned page, const struct home_entry *entry,
		       unsigned slice, enum page_state state)
{
	const struct protocol *p = world_protocol(w, w->homes[page]);
	bool groups = p->config.sharer_group > 1, own = slice == p->config.self;
	if (entry->state == HOME_O)
		return state == (entry->owner == slice ? PAGE_M : PAGE_I);
	if (entry->state != HOME_S)
		return state == PAGE_I;
	bool listed = groups && own ? entry->own : (entry->sharers & sharer_bit(p, slice)) != 0;
	/* A group's bit says only that one of it may have a copy. */
	if (groups && !own && state == PAGE_I)
		return true;
	return state == (listed ? PAGE_S : PAGE_I);
}

static void check_entry(struct world *w, unsigned page, const struct home_entry *entry)
{
	for (unsigned i = 0; i < w->slices; i++) {
		enum page_state state = page_state(world_protocol(w, i), WORLD_GFN(page));
		if (!entry_fits(w, page, entry, i, state))
			fail(w, "directory and slice disagree at rest");
		if (w->pending[i][page])
			fail(w, "a vCPU waits at rest");
	}
	if (entry->queue || entry->flags)
		fail(w, "the directory is busy at rest");
}

void world_check_rest(struct world *w)
{
	if (w->lost || w->frozen)
		return;
	for (unsigned page = 0; page < w->pages; page++) {
		unsigned home = w->homes[page];
		const struct home_entry *entry =
			entry_find(world_protocol(w, home), WORLD_GFN(page));
		if (entry->state != HOME_U && entry->state != HOME_S && entry->state != HOME_O)
			fail(w, "a transaction never ends");
		if (entry->state == HOME_S && w->frame[home][page] != w->current[page])
			fail(w, "the home's frame is stale at rest");
		check_entry(w, page, entry);
	}
	for (unsigned i = 0; i < w->slices; i++) {
		const struct protocol *p = world_protocol(w, i);
		if (p->requests.used || p->queues.used || p->queued_remote || p->evicting)
			fail(w, "something is left in a pool at rest");
	}
}
