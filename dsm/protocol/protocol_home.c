/* SPDX-License-Identifier: Apache-2.0 */
/* The home side of the protocol: the directory of the pages homed here, one transaction a page. */
#include "base/log.h"
#include "dsm/protocol/protocol_parts.h"

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

static uint64_t *queue_word(struct home_queue *queue, unsigned slice)
{
	return &queue->bits[slice / 64];
}

static bool queue_has(const struct protocol *p, const struct home_entry *entry, unsigned slice)
{
	struct home_queue *queue = queue_find(p, entry);
	return queue && (*queue_word(queue, slice) & slice_bit(slice % 64));
}

/* Room for one more request of another slice? Our own always find room. */
static bool queue_room(const struct protocol *p)
{
	return p->queued_remote < p->config.requests_total - p->config.requests_max;
}

/* Does the directory know that this slice has a copy? With groups it knows of our own only. */
static bool shares_surely(const struct protocol *p, const struct home_entry *entry, unsigned slice)
{
	if (p->config.sharer_group == 1)
		return entry->sharers & slice_bit(slice);
	return slice == p->config.self && entry->own;
}

static void sharer_add(const struct protocol *p, struct home_entry *entry, unsigned slice)
{
	/* Not in its group: the others in it would get INVs for nothing. */
	if (p->config.sharer_group > 1 && slice == p->config.self)
		entry->own = 1;
	else
		entry->sharers |= sharer_bit(p, slice);
}

static void sharers_clear(struct home_entry *entry)
{
	entry->sharers = 0;
	entry->own = 0;
}

/* The first slice from `at` on whose bit is set, or the number of slices. */
static unsigned sharer_from(const struct protocol *p, const struct home_entry *entry, unsigned at)
{
	unsigned slices = p->config.slices, group = p->config.sharer_group;
	for (; at < slices; at++) {
		uint64_t left = entry->sharers >> (at / group);
		if (!left)
			break;
		if (!(left & 1))
			at = (at / group + (unsigned)__builtin_ctzll(left)) * group;
		if (group == 1 || at != p->config.self)
			return at;
	}
	return slices;
}

/* How many slices but ours and this one may have a copy: so many ACKs it will get. */
static unsigned sharers_remote(const struct protocol *p, const struct home_entry *entry,
			       unsigned requester)
{
	unsigned self = p->config.self, count = 0;
	if (p->config.sharer_group == 1)
		return bits_count(entry->sharers & ~slice_bit(self) & ~slice_bit(requester));
	for (unsigned at = 0; (at = sharer_from(p, entry, at)) < p->config.slices; at++)
		count += at != self && at != requester;
	return count;
}

/* A write on a page that is not busy: by who else has a copy. */
static int classify_write(const struct protocol *p, const struct home_entry *entry, unsigned from)
{
	unsigned self = p->config.self;
	if (entry->state == HOME_O)
		return entry->owner == self ? HOME_EVENT_GET_M_OWN : HOME_EVENT_GET_M;
	if (entry->state != HOME_S)
		return HOME_EVENT_GET_M;
	if (from != self && shares_surely(p, entry, self))
		return HOME_EVENT_GET_M_OWN;
	return sharers_remote(p, entry, from) ? HOME_EVENT_GET_M_OTHERS : HOME_EVENT_GET_M;
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
	if (entry->state == HOME_S && shares_surely(p, entry, from))
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
	bool sharer = shares_surely(p, entry, from);
	if (owned)
		return sharer ? -1 : HOME_EVENT_PUT_M_LATE;
	/* In OH the sharers have been sent their INVs. */
	return sharer && entry->state != HOME_OH ? HOME_EVENT_PUT_S : HOME_EVENT_PUT_S_LATE;
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
	bool others = entry->state == HOME_OH && sharers_remote(p, entry, msg->requester);
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
	queue_word(queue, from)[0] |= slice_bit(from % 64);
	queue_word(queue, from)[words_of(p)] |= write ? slice_bit(from % 64) : 0;
	p->queued_remote += from != p->config.self;
}

/* The first slice from `at` on that waits, or 64 * words. */
static unsigned waiting_from(const struct protocol *p, const struct home_queue *queue, unsigned at)
{
	unsigned word = at / 64;
	uint64_t mask = ~UINT64_C(0) << at % 64;
	for (; word < words_of(p); word++, mask = ~UINT64_C(0)) {
		uint64_t waiting = queue->bits[word] & mask;
		if (waiting)
			return 64 * word + (unsigned)__builtin_ctzll(waiting);
	}
	return 64 * words_of(p);
}

/* The slice whose turn it is: the first one that waits after the last requester. */
static unsigned queue_pop(struct protocol *p, struct home_entry *entry, bool *write)
{
	struct home_queue *queue = queue_find(p, entry);
	unsigned slice = waiting_from(p, queue, entry->requester + 1u);
	if (slice == 64 * words_of(p))
		slice = waiting_from(p, queue, 0);
	uint64_t *word = queue_word(queue, slice), bit = slice_bit(slice % 64);
	*write = word[words_of(p)] & bit;
	word[0] &= ~bit;
	word[words_of(p)] &= ~bit;
	p->queued_remote -= slice != p->config.self;
	if (waiting_from(p, queue, 0) == 64 * words_of(p))
		queue_free(p, entry);
	return slice;
}

static void send_invs(struct step *s, const struct home_entry *entry, uint64_t gfn)
{
	const struct protocol *p = s->p;
	struct wire_msg inv = msg_make(p, MSG_INV, gfn, entry->requester);
	if (entry->own && entry->requester != p->config.self)
		step_send(s, p->config.self, inv);
	for (unsigned to = 0; (to = sharer_from(p, entry, to)) < p->config.slices; to++) {
		if (to != entry->requester)
			step_send(s, to, inv);
	}
}

static void forward(struct step *s, struct home_entry *entry, uint64_t gfn, bool write)
{
	unsigned to = entry->requester;
	entry->flags |= ENTRY_FORWARDED;
	/* Who will have a copy when the transaction ends. */
	sharers_clear(entry);
	if (!write) {
		sharer_add(s->p, entry, entry->owner);
		sharer_add(s->p, entry, to);
	}
	step_send(s, entry->owner, msg_make(s->p, write ? MSG_FWD_M : MSG_FWD_S, gfn, to));
}

/* The home's frame, or the right to write, to the requester of the transaction. */
static void page_give(struct step *s, struct home_entry *entry, uint64_t gfn, bool write)
{
	unsigned to = entry->requester;
	bool grant = write && shares_surely(s->p, entry, to);
	struct wire_msg msg = msg_make(s->p, grant ? MSG_GRANT : MSG_DATA, gfn, to);
	msg.flags = write && !grant ? MSG_FLAG_EXCLUSIVE : 0;
	msg.acks = write ? (uint16_t)sharers_remote(s->p, entry, to) : 0;
	if (write)
		sharers_clear(entry);
	else
		sharer_add(s->p, entry, to);
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
	entry->requester = from & 0x7ffu;
	if (todo & HOME_DO_INV)
		send_invs(s, entry, gfn);
	if (todo & (HOME_DO_DATA_S | HOME_DO_DATA_M))
		page_give(s, entry, gfn, todo & HOME_DO_DATA_M);
	if (todo & (HOME_DO_FWD_S | HOME_DO_FWD_M))
		forward(s, entry, gfn, todo & HOME_DO_FWD_M);
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
	/* In OH a sharer that evicts is still one that will acknowledge its INV; another slice of
	 * its group may have a copy. */
	if (entry->state != HOME_OH && s->p->config.sharer_group == 1)
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
