/* SPDX-License-Identifier: Apache-2.0 */
/* The home side of the protocol: the directory of the pages homed here, one transaction a page. */
#include "base/log.h"
#include "dsm/protocol_parts.h"

static bool entry_busy(const struct home_entry *entry)
{
	switch ((enum home_state)entry->state) {
	case HOME_SD:
	case HOME_OD:
	case HOME_SH:
	case HOME_OH:
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

/* A write on a page that is not busy: by who else has a copy. */
static int classify_write(const struct protocol *p, const struct home_entry *entry, unsigned from)
{
	uint64_t others = 0;
	if (entry->state == HOME_S)
		others = entry->sharers & ~slice_bit(from);
	else if (entry->state == HOME_O)
		others = slice_bit(entry->owner);
	if (others & slice_bit(p->config.self))
		return HOME_EVENT_GET_M_OWN;
	return entry->state == HOME_S && others ? HOME_EVENT_GET_M_OTHERS : HOME_EVENT_GET_M;
}

static int classify_get(const struct protocol *p, const struct home_entry *entry, unsigned from,
			bool write)
{
	unsigned self = p->config.self;
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
		return classify_write(p, entry, from);
	if (entry->state == HOME_S && (entry->sharers & slice_bit(from)))
		return -1;
	if (entry->state != HOME_O)
		return HOME_EVENT_GET_S;
	if (from == self)
		return HOME_EVENT_GET_S_NEAR;
	return entry->owner == self ? HOME_EVENT_GET_S_OWN : HOME_EVENT_GET_S;
}

static int classify_put(const struct protocol *p, const struct home_entry *entry, unsigned from,
			bool owned)
{
	/* What was sent to an owner may have been dropped by it, but only by a loss. */
	int never = !owned && p->lost ? HOME_EVENT_PUT_S_NEVER : -1;
	if (requester_waits(entry, from))
		return -1;
	if (is_forwarder(entry, from)) {
		/* PUT_M goes before the answer to the FWD, PUT_S after it. */
		bool answered = entry->flags & ENTRY_WB_HERE;
		if (entry->flags & ENTRY_PUT_LATER)
			return -1;
		if (owned == answered)
			return never;
		return owned ? HOME_EVENT_PUT_M_FWD : HOME_EVENT_PUT_S_FWD;
	}
	if (entry->state == HOME_O && entry->owner == from)
		return owned ? HOME_EVENT_PUT_M : never;
	bool sharer = entry->sharers & slice_bit(from);
	if (owned)
		return sharer ? -1 : HOME_EVENT_PUT_M_LATE;
	/* In OH the sharers have been sent their INVs. */
	return sharer && entry->state != HOME_OH ? HOME_EVENT_PUT_S : HOME_EVENT_PUT_S_LATE;
}

/* Who else than the requester and the home has a copy, or is about to lose it? */
static uint64_t sharers_remote(const struct protocol *p, const struct home_entry *entry)
{
	return entry->sharers & ~slice_bit(p->config.self) & ~slice_bit(entry->requester);
}

static int classify_done(const struct protocol *p, const struct home_entry *entry, unsigned from,
			 const struct wire_msg *msg)
{
	if (msg->requester == from)
		return requester_waits(entry, from) ? HOME_EVENT_DONE : -1;
	/* Our own slice says it for what it obeyed. */
	bool asked = entry->state == HOME_SH || entry->state == HOME_OH;
	if (from != p->config.self || !asked || msg->requester != entry->requester)
		return -1;
	bool others = entry->state == HOME_OH && sharers_remote(p, entry);
	return others ? HOME_EVENT_OWN_OTHERS : HOME_EVENT_OWN;
}

static int classify(const struct protocol *p, const struct home_entry *entry, unsigned from,
		    const struct wire_msg *msg)
{
	if (msg->type != MSG_WB && msg->type != MSG_DONE && msg->requester != from)
		return -1;
	switch (msg->type) {
	case MSG_GET_S:
		return classify_get(p, entry, from, false);
	case MSG_GET_M:
		return classify_get(p, entry, from, true);
	case MSG_DONE:
		return classify_done(p, entry, from, msg);
	case MSG_WB:
		return is_forwarder(entry, from) && msg->requester == entry->requester
			       ? HOME_EVENT_WB
			       : -1;
	case MSG_PUT_M:
		return from != p->config.self ? classify_put(p, entry, from, true) : -1;
	case MSG_PUT_S:
		return from != p->config.self ? classify_put(p, entry, from, false) : -1;
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

static void send_invs(struct step *s, const struct home_entry *entry, uint64_t gfn)
{
	struct wire_msg inv = msg_make(s->p, MSG_INV, gfn, entry->requester);
	uint64_t sharers = entry->sharers & ~slice_bit(entry->requester);
	for (; sharers; sharers &= sharers - 1)
		step_send(s, (unsigned)__builtin_ctzll(sharers), inv);
}

static void forward(struct step *s, struct home_entry *entry, uint64_t gfn, bool write)
{
	unsigned to = entry->requester;
	entry->flags |= ENTRY_FORWARDED;
	/* Who will have a copy when the transaction ends. */
	entry->sharers = write ? 0 : slice_bit(entry->owner) | slice_bit(to);
	step_send(s, entry->owner, msg_make(s->p, write ? MSG_FWD_M : MSG_FWD_S, gfn, to));
}

/* The home's frame, or the right to write, to the requester of the transaction. */
static void page_give(struct step *s, struct home_entry *entry, uint64_t gfn, bool write)
{
	unsigned to = entry->requester;
	bool grant = write && (entry->sharers & slice_bit(to));
	struct wire_msg msg = msg_make(s->p, grant ? MSG_GRANT : MSG_DATA, gfn, to);
	msg.flags = write && !grant ? MSG_FLAG_EXCLUSIVE : 0;
	msg.acks = write ? (uint16_t)bits_count(sharers_remote(s->p, entry)) : 0;
	entry->sharers = write ? 0 : entry->sharers | slice_bit(to);
	if (grant)
		step_send(s, to, msg);
	else
		step_send_page(s, to, msg);
}

/* The page is at rest: the last requester owns it, or nobody does. */
static void entry_settle(struct home_entry *entry)
{
	entry->flags = 0;
	entry->owner = entry->state == HOME_O ? entry->requester : 0;
	if (!entry->queue)
		entry->requester = 0;
}

/* Serves a request on a page that is not busy. */
static void serve(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
		  uint64_t gfn, unsigned from)
{
	uint32_t todo = rule->actions;
	PROTOCOL_ROW_OBEYED(s, rule);
	entry->requester = (uint8_t)from;
	if (todo & HOME_DO_INV)
		send_invs(s, entry, gfn);
	if (todo & (HOME_DO_DATA_S | HOME_DO_DATA_M))
		page_give(s, entry, gfn, todo & HOME_DO_DATA_M);
	if (todo & (HOME_DO_FWD_S | HOME_DO_FWD_M))
		forward(s, entry, gfn, todo & HOME_DO_FWD_M);
	if (todo & HOME_DO_LOST)
		step_action(s, ACTION_PAGE_LOST, gfn);
	entry->state = rule->next;
	if (!entry_busy(entry))
		entry_settle(entry);
}

/* A transaction is over: the PUT_ACK that waited for it, then the next requests. */
static void transaction_end(struct step *s, struct home_entry *entry, uint64_t gfn)
{
	struct protocol *p = s->p;
	if (entry->flags & ENTRY_PUT_LATER)
		step_send(s, entry->owner, msg_make(p, MSG_PUT_ACK, gfn, entry->owner));
	entry_settle(entry);
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

/* What a message that belongs to a transaction does to it. */
static void transaction_step(struct step *s, const struct protocol_rule *rule,
			     struct home_entry *entry, uint64_t gfn)
{
	if (rule->actions & (HOME_DO_DATA_S | HOME_DO_DATA_M))
		page_give(s, entry, gfn, rule->actions & HOME_DO_DATA_M);
	entry->state = rule->next;
	if (rule->actions & HOME_DO_NEXT)
		transaction_end(s, entry, gfn);
}

static void put_message(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
			unsigned from, const struct wire_msg *msg)
{
	bool owner = entry->state == HOME_O && entry->owner == from;
	PROTOCOL_ROW_OBEYED(s, rule);
	/* In OH a sharer that evicts is still one that will acknowledge its INV. */
	if (entry->state != HOME_OH)
		entry->sharers &= ~slice_bit(from);
	if (rule->actions & HOME_DO_PUT_LATER)
		entry->flags |= ENTRY_PUT_LATER;
	if (rule->actions & HOME_DO_TAKE)
		step_take(s, from, msg);
	if (owner)
		entry->owner = 0;
	if (rule->actions & HOME_DO_PUT_ACK)
		step_send(s, from, msg_make(s->p, MSG_PUT_ACK, msg->gfn, from));
	transaction_step(s, rule, entry, msg->gfn);
}

static void get_message(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
			unsigned from, const struct wire_msg *msg)
{
	if (rule->actions & HOME_DO_QUEUE) {
		PROTOCOL_ROW_OBEYED(s, rule);
		queue_request(s->p, entry, from, msg->type == MSG_GET_M);
	} else {
		serve(s, rule, entry, msg->gfn, from);
	}
}

/* DONE, our own or the requester's, or WB: a part of the transaction's end. */
static void end_message(struct step *s, const struct protocol_rule *rule, struct home_entry *entry,
			unsigned from, const struct wire_msg *msg)
{
	PROTOCOL_ROW_OBEYED(s, rule);
	if (rule->actions & HOME_DO_TAKE) {
		step_take(s, from, msg);
		entry->flags |= ENTRY_WB_HERE;
	}
	transaction_step(s, rule, entry, msg->gfn);
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
	PROTOCOL_ROW_OBEYED(s, rule);
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
