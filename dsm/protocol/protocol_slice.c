/* SPDX-License-Identifier: Apache-2.0 */
/* The slice side of the protocol: faults, copies, evictions of the pages that this slice uses. */
#include <errno.h>

#include "base/log.h"
#include "dsm/protocol/protocol_parts.h"

/* What a page's home asked for: sent on to the requester of that transaction. */
static void answer_requester(struct step *s, const struct protocol_rule *rule,
			     const struct wire_msg *ask)
{
	struct protocol *p = s->p;
	unsigned home = protocol_home(p, ask->gfn);
	p->stats.invalidations += (rule->actions & DO_ACK) != 0;
	/* Our own directory sends the page itself: its DATA or GRANT then closes the transaction.
	 */
	if (home == p->config.self) {
		if (rule->actions & (DO_DATA_S | DO_DATA_M | DO_ACK))
			step_send(s, home, msg_make(p, MSG_DONE, ask->gfn, ask->requester));
		return;
	}
	if (rule->actions & (DO_DATA_S | DO_DATA_M)) {
		struct wire_msg msg = msg_make(p, MSG_DATA, ask->gfn, ask->requester);
		msg.flags = rule->actions & DO_DATA_M ? MSG_FLAG_EXCLUSIVE : 0;
		step_send_page(s, ask->requester, msg);
	}
	/* A home that is the requester gets the DATA itself. */
	if ((rule->actions & DO_WB) && home != ask->requester)
		step_send_page(s, home, msg_make(p, MSG_WB, ask->gfn, ask->requester));
	if (rule->actions & DO_ACK)
		step_send(s, ask->requester, msg_make(p, MSG_ACK, ask->gfn, ask->requester));
}

static void request_count(struct protocol *p, unsigned home, bool write, bool upgrade)
{
	if (home == p->config.self)
		return;
	if (upgrade)
		p->stats.requests_upgrade++;
	else if (write)
		p->stats.requests_write++;
	else
		p->stats.requests_read++;
}

static void tell_home(struct step *s, const struct protocol_rule *rule, uint64_t gfn)
{
	static const struct {
		uint32_t action;
		uint8_t type;
	} table[] = {{DO_GET_S, MSG_GET_S}, {DO_GET_M, MSG_GET_M}, {DO_PUT_S, MSG_PUT_S}};
	struct protocol *p = s->p;
	unsigned home = protocol_home(p, gfn), self = p->config.self;
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (rule->actions & table[i].action)
			step_send(s, home, msg_make(p, table[i].type, gfn, self));
	}
	if (rule->actions & (DO_GET_S | DO_GET_M))
		request_count(p, home, rule->actions & DO_GET_M, rule->next == PAGE_SM);
	if (rule->actions & DO_PUT_M)
		step_send_page(s, home, msg_make(p, MSG_PUT_M, gfn, self));
	if (rule->actions & DO_DONE)
		step_send(s, home, msg_make(p, MSG_DONE, gfn, self));
}

static void map_page(struct step *s, const struct protocol_rule *rule, uint64_t gfn)
{
	static const struct {
		uint32_t action;
		enum protocol_action_type type;
	} table[] = {
		{DO_UNMAP, ACTION_UNMAP},
		{DO_PROTECT, ACTION_PROTECT},
		{DO_MAP_SHARED, ACTION_MAP_SHARED},
		{DO_MAP_EXCLUSIVE, ACTION_MAP_EXCLUSIVE},
		{DO_MAP_UPGRADE, ACTION_MAP_UPGRADE},
		{DO_DROP, ACTION_DROP_FRAME},
		{DO_WAKE, ACTION_WAKE},
	};
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (rule->actions & table[i].action)
			step_action(s, table[i].type, gfn);
	}
	if (rule->actions & (DO_MAP_EXCLUSIVE | DO_MAP_UPGRADE))
		*page_at(s->p, gfn) |= PAGE_FRAME_USED;
	if (rule->actions & (DO_MAP_SHARED | DO_MAP_EXCLUSIVE | DO_MAP_UPGRADE)) {
		request_remove(s->p, gfn);
		hold_granted(s, gfn);
	}
}

void slice_apply(struct step *s, const struct protocol_rule *rule, uint64_t gfn, unsigned from,
		 const struct wire_msg *msg)
{
	struct protocol *p = s->p;
	PROTOCOL_ROW_OBEYED(s, rule);
	if (rule->actions & DO_DEFER) {
		if (pin_keeps(p, gfn))
			pin_defer(s, gfn, msg);
		else
			hold_defer(s, gfn, msg);
		return;
	}
	if (rule->actions & DO_TAKE)
		step_take(s, from, msg);
	if (rule->actions & DO_COUNT)
		request_ack(p, request_find(p, gfn), from);
	if (msg && (msg->type == MSG_DATA || msg->type == MSG_GRANT) && msg->acks)
		request_find(p, gfn)->acks = msg->acks;
	page_state_set(p, gfn, rule->next);
	map_page(s, rule, gfn);
	if (msg)
		answer_requester(s, rule, msg);
	tell_home(s, rule, gfn);
}

static bool fault_satisfied(enum page_state state, bool write)
{
	if (state == PAGE_M)
		return true;
	return !write && (state == PAGE_S || state == PAGE_SM || state == PAGE_SMA);
}

int slice_fault(struct step *s, uint64_t gfn, bool write)
{
	struct protocol *p = s->p;
	/* A copy that is here may still be used as it is. */
	if (p->frozen && !fault_satisfied(page_state(p, gfn), write))
		return -EOWNERDEAD;
	/* An upgrade would wait behind the writer that asks for our copy: let that one go first. */
	if (write && page_state(p, gfn) == PAGE_S)
		hold_release(s, gfn);
	enum page_state state = page_state(p, gfn);
	enum slice_event event = write ? SLICE_FAULT_WRITE : SLICE_FAULT_READ;
	const struct protocol_rule *rule = slice_rule(state, event);
	if ((rule->actions & (DO_GET_S | DO_GET_M)) && !request_add(p, gfn))
		return -EAGAIN;
	if (!fault_satisfied(state, write) && !s->event->ahead) {
		p->stats.faults_read += !write;
		p->stats.faults_write += write;
	}
	slice_apply(s, rule, gfn, p->config.self, NULL);
	/* A home's own request may be served at once, by messages to ourselves. */
	step_drain(s);
	if ((rule->actions & (DO_GET_S | DO_GET_M)) && !s->event->ahead &&
	    fault_satisfied(page_state(p, gfn), write))
		p->stats.faults_local++;
	return 0;
}

void slice_evict(struct step *s, uint64_t gfn)
{
	struct protocol *p = s->p;
	/* The home's frame is the page's place. */
	if (protocol_home(p, gfn) == p->config.self || hold_deferred(p, gfn) || pin_keeps(p, gfn))
		return;
	slice_apply(s, slice_rule(page_state(p, gfn), SLICE_EVICT), gfn, p->config.self, NULL);
}

/*
 * May `from` send an answer for our own request on a page homed here? The directory knows whom we
 * wait for, so that a peer out of order cannot bring the two sides apart.
 */
static bool answer_expected(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	unsigned self = p->config.self;
	if (protocol_home(p, msg->gfn) != self || from == self)
		return true;
	const struct home_entry *entry = entry_find(p, msg->gfn);
	if (entry->requester != self || (entry->state != HOME_SD && entry->state != HOME_OD))
		return false;
	if (msg->type == MSG_DATA)
		return (entry->flags & ENTRY_FORWARDED) && entry->owner == from;
	return msg->type == MSG_ACK && !(entry->flags & ENTRY_FORWARDED);
}

static int classify_grant(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	const struct request *r = request_find(p, msg->gfn);
	unsigned have = r ? r->have : 0;
	if (from != protocol_home(p, msg->gfn) || msg->acks >= p->config.slices || have > msg->acks)
		return -1;
	if (have < msg->acks)
		return SLICE_GRANT_ACKS;
	return msg->acks ? SLICE_GRANT : SLICE_GRANT_ALONE;
}

static int classify_data(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	bool exclusive = msg->flags & MSG_FLAG_EXCLUSIVE;
	/* Only the home invalidates beside the page; an owner that gives it up is alone. */
	if (msg->acks >= p->config.slices || (msg->acks && !exclusive) ||
	    (msg->acks && from != protocol_home(p, msg->gfn)))
		return -1;
	bool from_home = from == protocol_home(p, msg->gfn);
	/* A home that knows groups only sends the page: the copy that is here is the same. */
	if (exclusive && from_home && p->config.sharer_group > 1 &&
	    page_state(p, msg->gfn) == PAGE_SM)
		return classify_grant(p, from, msg);
	if (!exclusive)
		return from_home ? SLICE_DATA_S_HOME : SLICE_DATA_S;
	const struct request *r = request_find(p, msg->gfn);
	unsigned have = r ? r->have : 0;
	if (have > msg->acks)
		return -1;
	if (have < msg->acks)
		return SLICE_DATA_M_ACKS;
	return from_home && !msg->acks ? SLICE_DATA_M_HOME : SLICE_DATA_M;
}

static int classify_ack(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	const struct request *r = request_find(p, msg->gfn);
	if (!r || request_acked(p, r, from))
		return -1;
	return r->acks && r->have + 1 == r->acks ? SLICE_ACK_LAST : SLICE_ACK;
}

/* The event that a message is, or -1 if none; whether the state allows it is the table's matter. */
static int classify(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	unsigned self = p->config.self;
	bool from_home = from == protocol_home(p, msg->gfn);
	bool for_us = msg->requester == self;
	switch (msg->type) {
	case MSG_FWD_S:
		return from_home && !for_us ? SLICE_FWD_S : -1;
	case MSG_FWD_M:
		return from_home && !for_us ? SLICE_FWD_M : -1;
	case MSG_INV:
		return from_home && !for_us ? SLICE_INV : -1;
	case MSG_PUT_ACK:
		return from_home && for_us ? SLICE_PUT_ACK : -1;
	case MSG_DATA:
		return for_us ? classify_data(p, from, msg) : -1;
	case MSG_GRANT:
		return for_us ? classify_grant(p, from, msg) : -1;
	case MSG_ACK:
		return for_us ? classify_ack(p, from, msg) : -1;
	default:
		return -1;
	}
}

const struct protocol_rule *slice_classify(const struct protocol *p, unsigned from,
					   const struct wire_msg *msg)
{
	int event = classify(p, from, msg);
	if (event < 0 || !answer_expected(p, from, msg))
		return NULL;
	return slice_rule(page_state(p, msg->gfn), (enum slice_event)event);
}

/* An INV that goes to a whole group finds a slice that has no copy. */
static bool inv_finds_nothing(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	if (msg->type != MSG_INV || p->config.sharer_group == 1 || classify(p, from, msg) < 0)
		return false;
	enum page_state state = page_state(p, msg->gfn);
	return state == PAGE_I || state == PAGE_IS || state == PAGE_IM || state == PAGE_II;
}

void slice_message(struct step *s, unsigned from, const struct wire_msg *msg)
{
	struct protocol *p = s->p;
	/* No state changes, so that this is no row: the requester counts on an ACK of all. */
	if (inv_finds_nothing(p, from, msg)) {
		step_send(s, msg->requester, msg_make(p, MSG_ACK, msg->gfn, msg->requester));
		return;
	}
	const struct protocol_rule *rule = slice_classify(p, from, msg);
	/* One message at a time can be set aside: the home serves one transaction. */
	bool asks = msg->type == MSG_FWD_S || msg->type == MSG_FWD_M || msg->type == MSG_INV;
	if (!rule || (asks && (hold_deferred(p, msg->gfn) || pin_deferred(p, msg->gfn)))) {
		invariant(from != p->config.self);
		step_violation(s, from, msg, "a message that the page's state here does not allow");
		return;
	}
	enum page_state state = page_state(p, msg->gfn);
	if (asks && slice_rule(state, SLICE_HELD)) {
		/* The check learns, too: of a page that is pinned as of others. */
		bool held = hold_check(s, msg->gfn, msg->requester);
		if (held || pin_keeps(p, msg->gfn))
			rule = slice_rule(state, SLICE_HELD);
	}
	slice_apply(s, rule, msg->gfn, from, msg);
}
