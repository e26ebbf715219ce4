/* SPDX-License-Identifier: Apache-2.0 */
/* The home side of the protocol: the directory of the pages homed here, one transaction a page. */
#include "base/log.h"
#include "dsm/protocol_parts.h"

static bool entry_busy(const struct home_entry *entry)
{
	switch ((enum home_state)entry->state) {
	case HOME_SD:
	case HOME_OD:
	case HOME_SW:
	case HOME_SB:
		return true;
	case HOME_U:
	case HOME_S:
	case HOME_O:
	case HOME_L:
	case HOME_STATE_COUNT:
		return false;
	}
	return false;
}

/* Has the requester of the transaction under way not yet said DONE? */
static bool requester_waits(const struct home_entry *entry, unsigned slice)
{
	return entry_busy(entry) && entry->state != HOME_SB && entry->requester == slice;
}

/* Is this slice the owner that was sent a FWD in this transaction? */
static bool is_forwarder(const struct home_entry *entry, unsigned slice)
{
	return entry_busy(entry) && (entry->flags & ENTRY_FORWARDED) && entry->owner == slice;
}

static bool queue_has(const struct protocol *p, const struct home_entry *entry, unsigned slice)
{
	const struct home_queue *queue = queue_find(p, entry);
	return queue && (queue->waiting & slice_bit(slice));
}

/* Room for one more request of another slice? Our own always find room. */
static bool queue_room(const struct protocol *p)
{
	return p->queued_remote < p->config.requests_total - p->config.requests_max;
}

static int classify_get(const struct protocol *p, const struct home_entry *entry, unsigned from,
			bool write)
{
	unsigned self = p->config.self;
	bool sharer = entry->sharers & slice_bit(from);
	if (entry_busy(entry)) {
		if (requester_waits(entry, from) || queue_has(p, entry, from))
			return -1;
		if (from != self && !queue_room(p))
			return -1;
		return write ? HOME_EVENT_GET_M : HOME_EVENT_GET_S;
	}
	if (entry->state == HOME_O && entry->owner == from)
		return -1;
	if (write)
		return entry->state == HOME_S && sharer ? HOME_EVENT_UPGRADE : HOME_EVENT_GET_M;
	if (entry->state == HOME_S && sharer)
		return -1;
	bool near = from == self || entry->owner == self;
	return entry->state == HOME_O && near ? HOME_EVENT_GET_S_NEAR : HOME_EVENT_GET_S;
}

static int classify_put(const struct home_entry *entry, unsigned from, bool owned)
{
	if (requester_waits(entry, from))
		return -1;
	if (is_forwarder(entry, from)) {
		/* PUT_M goes before the answer to the FWD, PUT_S after it. */
		bool answered = entry->flags & ENTRY_WB_HERE;
		if ((entry->flags & ENTRY_PUT_LATER) || owned == answered)
			return -1;
		return owned ? HOME_EVENT_PUT_M_FWD : HOME_EVENT_PUT_S_FWD;
	}
	if (entry->state == HOME_O && entry->owner == from)
		return owned ? HOME_EVENT_PUT_M : -1;
	bool sharer = entry->sharers & slice_bit(from);
	if (owned)
		return sharer ? -1 : HOME_EVENT_PUT_M_LATE;
	return sharer ? HOME_EVENT_PUT_S : HOME_EVENT_PUT_S_LATE;
}

static int classify(const struct protocol *p, const struct home_entry *entry, unsigned from,
		    const struct wire_msg *msg)
{
	if (msg->type != MSG_WB && msg->requester != from)
		return -1;
	switch (msg->type) {
	case MSG_GET_S:
		return classify_get(p, entry, from, false);
	case MSG_GET_M:
		return classify_get(p, entry, from, true);
	case MSG_DONE:
		return requester_waits(entry, from) ? HOME_EVENT_DONE : -1;
	case MSG_WB:
		return is_forwarder(entry, from) && msg->requester == entry->requester
			       ? HOME_EVENT_WB
			       : -1;
	case MSG_PUT_M:
		return from != p->config.self ? classify_put(entry, from, true) : -1;
	case MSG_PUT_S:
		return from != p->config.self ? classify_put(entry, from, false) : -1;
	default:
		return -1;
	}
}

const struct protocol_rule *home_classify(const struct protocol *p, unsigned from,
					  const struct wire_msg *msg)
{
	const struct home_entry *entry = entry_find(p, msg->gfn);
	int event = classify(p, entry, from, msg);
	if (event < 0)
		return NULL;
	return home_rule((enum home_state)entry->state, (enum home_event)event);
}

static void queue_request(struct protocol *p, struct home_entry *entry, unsigned from, bool write)
{
	struct home_queue *queue = queue_of(p, entry);
	invariant(queue);
	queue->waiting |= slice_bit(from);
	queue->writers |= write ? slice_bit(from) : 0;
	p->queued_remote += from != p->config.self;
}

/* The slice whose turn it is: the first one that waits after the last requester. */
static unsigned queue_pop(struct protocol *p, struct home_entry *entry, bool *write)
{
	struct home_queue *queue = queue_find(p, entry);
	uint64_t after = entry->requester == 63 ? 0 : ~(slice_bit(entry->requester + 1) - 1);
	uint64_t candidates = queue->waiting & after ? queue->waiting & after : queue->waiting;
	unsigned slice = (unsigned)__builtin_ctzll(candidates);
	*write = queue->writers & slice_bit(slice);
	queue->waiting &= ~slice_bit(slice);
	queue->writers &= ~slice_bit(slice);
	p->queued_remote -= slice != p->config.self;
	if (!queue->waiting)
		queue_free(p, entry);
	return slice;
}

/* A read begins: who will have a copy when it ends. A write: nobody but the requester. */
static void sharers_set(const struct protocol_rule *rule, struct home_entry *entry, unsigned from)
{
	if (rule->actions & HOME_DO_FWD_S)
		entry->sharers = slice_bit(entry->owner) | slice_bit(from);
	else if (rule->actions & HOME_DO_DATA_S)
		entry->sharers |= slice_bit(from);
	else if (rule->actions & (HOME_DO_DATA_M | HOME_DO_GRANT | HOME_DO_FWD_M))
		entry->sharers = 0;
}

static unsigned send_invs(struct step *s, uint64_t gfn, uint64_t sharers, unsigned requester)
{
	struct wire_msg inv = msg_make(s->p, MSG_INV, gfn, requester);
	unsigned count = 0;
	sharers &= ~slice_bit(requester);
	for (; sharers; sharers &= sharers - 1, count++)
		step_send(s, (unsigned)__builtin_ctzll(sharers), inv);
	return count;
}

/* Serves a request on a page that is not busy. */
static void serve(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
		  uint64_t gfn, unsigned from)
{
	unsigned acks = 0;
	uint32_t todo = rule->actions;
	if (todo & HOME_DO_INV)
		acks = send_invs(s, gfn, entry->sharers, from);
	entry->requester = (uint8_t)from;
	sharers_set(rule, entry, from);
	if (todo & (HOME_DO_DATA_S | HOME_DO_DATA_M)) {
		struct wire_msg msg = msg_make(s->p, MSG_DATA, gfn, from);
		msg.flags = todo & HOME_DO_DATA_M ? MSG_FLAG_EXCLUSIVE : 0;
		msg.acks = (uint16_t)acks;
		step_send_page(s, from, msg);
	}
	if (todo & HOME_DO_GRANT) {
		struct wire_msg msg = msg_make(s->p, MSG_GRANT, gfn, from);
		msg.acks = (uint16_t)acks;
		step_send(s, from, msg);
	}
	if (todo & (HOME_DO_FWD_S | HOME_DO_FWD_M)) {
		unsigned type = todo & HOME_DO_FWD_S ? MSG_FWD_S : MSG_FWD_M;
		entry->flags |= ENTRY_FORWARDED;
		step_send(s, entry->owner, msg_make(s->p, type, gfn, from));
	}
	if (todo & HOME_DO_LOST)
		step_action(s, ACTION_PAGE_LOST, gfn);
	entry->state = rule->next;
}

/* A transaction is over: the PUT_ACK that waited for it, then the next request. */
static void transaction_end(struct step *s, struct home_entry *entry, uint64_t gfn)
{
	struct protocol *p = s->p;
	if (entry->flags & ENTRY_PUT_LATER)
		step_send(s, entry->owner, msg_make(p, MSG_PUT_ACK, gfn, entry->owner));
	entry->flags = 0;
	entry->owner = entry->state == HOME_O ? entry->requester : 0;
	while (entry->queue && !entry_busy(entry)) {
		bool write;
		unsigned from = queue_pop(p, entry, &write);
		struct wire_msg msg = msg_make(p, write ? MSG_GET_M : MSG_GET_S, gfn, from);
		const struct protocol_rule *rule = home_classify(p, from, &msg);
		if (rule)
			serve(s, rule, entry, gfn, from);
		else
			step_violation(s, from, &msg, "a request for a page that it has");
	}
	if (!entry_busy(entry))
		entry->requester = 0;
}

static void put_message(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
			unsigned from, const struct wire_msg *msg)
{
	entry->sharers &= ~slice_bit(from);
	if (rule->actions & HOME_DO_PUT_LATER)
		entry->flags |= ENTRY_PUT_LATER;
	if (rule->actions & HOME_DO_TAKE) {
		step_take(s, from, msg);
		entry->sharers = 0;
		entry->owner = 0;
	}
	entry->state = rule->next;
	if (rule->actions & HOME_DO_PUT_ACK)
		step_send(s, from, msg_make(s->p, MSG_PUT_ACK, msg->gfn, from));
}

static void get_message(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
			unsigned from, const struct wire_msg *msg)
{
	if (rule->actions & HOME_DO_QUEUE)
		queue_request(s->p, entry, from, msg->type == MSG_GET_M);
	else
		serve(s, rule, entry, msg->gfn, from);
}

/* DONE or WB: a part of the transaction's end. */
static void end_message(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
			unsigned from, const struct wire_msg *msg)
{
	if (rule->actions & HOME_DO_TAKE) {
		step_take(s, from, msg);
		entry->flags |= ENTRY_WB_HERE;
	}
	entry->state = rule->next;
	if (rule->actions & HOME_DO_NEXT)
		transaction_end(s, entry, msg->gfn);
}

void home_message(struct step *s, unsigned from, const struct wire_msg *msg)
{
	const struct protocol_rule *rule = home_classify(s->p, from, msg);
	if (!rule) {
		invariant(from != s->p->config.self);
		step_violation(s, from, msg, "a message that the directory does not allow");
		return;
	}
	struct home_entry *entry = entry_touch(s->p, msg->gfn);
	if (msg->type == MSG_GET_S || msg->type == MSG_GET_M)
		get_message(s, rule, entry, from, msg);
	else if (msg->type == MSG_PUT_M || msg->type == MSG_PUT_S)
		put_message(s, rule, entry, from, msg);
	else
		end_message(s, rule, entry, from, msg);
}

static void queue_drop(struct protocol *p, struct home_entry *entry)
{
	bool write;
	while (entry->queue)
		queue_pop(p, entry, &write);
}

void home_lose(struct step *s, struct home_entry *entry, uint64_t gfn, unsigned lost)
{
	bool owner = entry->state == HOME_O && entry->owner == lost;
	enum home_event event = owner ? HOME_EVENT_OWNER_LOST : HOME_EVENT_SLICE_LOST;
	const struct protocol_rule *rule = home_rule((enum home_state)entry->state, event);
	if (!rule)
		return;
	/* Those who wait ask again, or are told by their own slice. */
	queue_drop(s->p, entry);
	entry->sharers &= ~slice_bit(lost);
	entry->state = rule->next;
	if (rule->next != HOME_L)
		return;
	if (rule->actions & HOME_DO_LOST)
		step_action(s, ACTION_PAGE_LOST, gfn);
	*entry = (struct home_entry){.state = HOME_L};
}
