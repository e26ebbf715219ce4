/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's step: checks an event, gives it to the slice or the home side, gives out actions.
 */
#include <errno.h>

#include "base/log.h"
#include "dsm/protocol/protocol_parts.h"

struct protocol_action *step_action(struct step *s, enum protocol_action_type type, uint64_t gfn)
{
	invariant(s->actions->count < ACTIONS_MAX);
	struct protocol_action *action = &s->actions->list[s->actions->count++];
	/* msg is large and set only by those who send. */
	action->type = type;
	action->to = s->p->config.self;
	action->gfn = gfn;
	action->deadline_ns = 0;
	action->why = NULL;
	return action;
}

struct wire_msg msg_make(const struct protocol *p, unsigned type, uint64_t gfn, unsigned requester)
{
	return (struct wire_msg){
		.type = (uint8_t)type,
		.requester = (uint16_t)requester,
		.epoch = p->config.epoch,
		.gfn = gfn,
	};
}

static void step_emit(struct step *s, enum protocol_action_type type, unsigned to,
		      const struct wire_msg *msg)
{
	struct protocol_action *action = step_action(s, type, msg->gfn);
	action->to = to;
	action->msg = *msg;
}

void step_send(struct step *s, unsigned to, struct wire_msg msg)
{
	if (to != s->p->config.self) {
		step_emit(s, ACTION_SEND, to, &msg);
		return;
	}
	invariant(s->local_count < LOCAL_MAX);
	s->local[(s->local_head + s->local_count++) % LOCAL_MAX] = msg;
}

void step_send_page(struct step *s, unsigned to, struct wire_msg msg)
{
	/* To ourselves: the frame is where the bytes are. */
	if (to == s->p->config.self) {
		step_send(s, to, msg);
		return;
	}
	if (!(*page_at(s->p, msg.gfn) & PAGE_FRAME_USED)) {
		msg.flags |= MSG_FLAG_ZERO;
		step_emit(s, ACTION_SEND, to, &msg);
		return;
	}
	msg.payload_len = PANGEA_PAGE_SIZE;
	s->p->stats.data_sent++;
	step_emit(s, ACTION_SEND_PAGE, to, &msg);
}

void step_take(struct step *s, unsigned from, const struct wire_msg *msg)
{
	uint8_t *page = page_at(s->p, msg->gfn);
	if (from == s->p->config.self)
		return;
	if (!(msg->flags & MSG_FLAG_ZERO)) {
		*page |= PAGE_FRAME_USED;
		s->p->stats.data_received++;
		return;
	}
	s->p->stats.zero_pages++;
	if (*page & PAGE_FRAME_USED)
		step_action(s, ACTION_ZERO_FRAME, msg->gfn);
	*page &= (uint8_t)~PAGE_FRAME_USED;
}

void step_violation(struct step *s, unsigned from, const struct wire_msg *msg, const char *why)
{
	s->p->stats.violations++;
	struct protocol_action *action = step_action(s, ACTION_VIOLATION, msg->gfn);
	action->to = from;
	action->why = why;
	action->msg = *msg;
}

/* Is the message for the directory (else for the slice side)? */
static bool type_is_homes(unsigned type)
{
	switch (type) {
	case MSG_GET_S:
	case MSG_GET_M:
	case MSG_WB:
	case MSG_DONE:
	case MSG_PUT_M:
	case MSG_PUT_S:
		return true;
	default:
		return false;
	}
}

/* A page comes either whole or as a flag, and only with the types that carry one. */
static bool payload_valid(const struct wire_msg *msg)
{
	bool zero = msg->flags & MSG_FLAG_ZERO;
	switch (msg->type) {
	case MSG_DATA:
	case MSG_WB:
	case MSG_PUT_M:
		return zero ? msg->payload_len == 0 : msg->payload_len == PANGEA_PAGE_SIZE;
	default:
		return msg->payload_len == 0 && !zero;
	}
}

/* What is wrong with a message whatever the state of its page, or NULL. */
static const char *msg_fault(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	unsigned allowed = MSG_FLAG_ZERO | (msg->type == MSG_DATA ? MSG_FLAG_EXCLUSIVE : 0);
	if (msg->type < MSG_GET_S || msg->type >= MSG_COHERENCE_END)
		return "not a coherence message";
	if ((msg->flags & ~allowed) || msg->arg || msg->reserved || !payload_valid(msg))
		return "malformed coherence message";
	if (msg->acks && msg->type != MSG_DATA && msg->type != MSG_GRANT)
		return "ACKs announced by a message that has none";
	if (msg->requester >= p->config.slices)
		return "no such requester";
	unsigned home = protocol_home(p, msg->gfn);
	if (!gfn_known(p, msg->gfn))
		return "no such page";
	if (type_is_homes(msg->type) && home != p->config.self)
		return "the page's home is elsewhere";
	if (from == p->config.self || from >= p->config.slices)
		return "no such sender";
	return NULL;
}

static bool msg_dropped(const struct protocol *p, const struct wire_msg *msg)
{
	return p->frozen || msg->epoch != p->config.epoch;
}

static void step_message(struct step *s, unsigned from, const struct wire_msg *msg)
{
	if (msg_dropped(s->p, msg)) {
		s->p->stats.dropped++;
		return;
	}
	const char *why = msg_fault(s->p, from, msg);
	if (why)
		step_violation(s, from, msg, why);
	else if (type_is_homes(msg->type))
		home_message(s, from, msg);
	else
		slice_message(s, from, msg);
}

bool protocol_awaits_page(const struct protocol *p, unsigned from, const struct wire_msg *msg)
{
	if (!msg->payload_len || msg_dropped(p, msg) || msg_fault(p, from, msg))
		return false;
	bool homes = type_is_homes(msg->type);
	const struct protocol_rule *rule =
		homes ? home_classify(p, from, msg) : slice_classify(p, from, msg);
	if (!rule)
		return false;
	return rule->actions & (homes ? (unsigned)HOME_DO_TAKE : (unsigned)DO_TAKE);
}

/* Messages to ourselves take the same road, at once. */
void step_drain(struct step *s)
{
	unsigned self = s->p->config.self;
	while (s->local_count) {
		struct wire_msg msg = s->local[s->local_head];
		s->local_head = (s->local_head + 1) % LOCAL_MAX;
		s->local_count--;
		if (type_is_homes(msg.type))
			home_message(s, self, &msg);
		else
			slice_message(s, self, &msg);
	}
}

static int step_event(struct step *s, const struct protocol_event *event)
{
	struct protocol *p = s->p;
	bool known = gfn_known(p, event->gfn);
	switch (event->type) {
	case EVENT_FAULT_READ:
	case EVENT_FAULT_WRITE:
		if (!known)
			return -EFAULT;
		return slice_fault(s, event->gfn, event->type == EVENT_FAULT_WRITE);
	case EVENT_MESSAGE:
		step_message(s, event->from, &event->msg);
		return 0;
	case EVENT_HOLD_END:
		if (known && !p->frozen)
			hold_release(s, event->gfn);
		return 0;
	case EVENT_EVICT:
		if (known && !p->frozen)
			slice_evict(s, event->gfn);
		return 0;
	case EVENT_PEER_LOST:
		return loss_step(s, event->from);
	case EVENT_PIN:
		return known ? pin_add(s, event->gfn) : -EFAULT;
	case EVENT_UNPIN:
		if (known && !p->frozen)
			pin_remove(s, event->gfn);
		return 0;
	}
	return -EINVAL;
}

int protocol_step(struct protocol *p, const struct protocol_event *event,
		  struct protocol_actions *actions)
{
	/* The ring of local messages needs no clearing. */
	struct step s;
	s.p = p;
	s.actions = actions;
	s.now_ns = event->now_ns;
	s.event = event;
	s.local_head = s.local_count = 0;
	actions->count = 0;
	int err = step_event(&s, event);
	step_drain(&s);
	return err;
}

const struct protocol_stats *protocol_stats(const struct protocol *p)
{
	return &p->stats;
}

enum page_state protocol_state(const struct protocol *p, uint64_t gfn)
{
	return gfn < p->config.gfns ? page_state(p, gfn) : PAGE_I;
}

unsigned protocol_requests_free(const struct protocol *p)
{
	return p->requests.capacity - p->requests.used;
}

bool protocol_untouched(const struct protocol *p, uint64_t gfn)
{
	return entry_find(p, gfn)->state == HOME_U && page_state(p, gfn) == PAGE_I;
}

const char *protocol_page_state(const struct protocol *p, uint64_t gfn)
{
	return gfn < p->config.gfns ? page_state_name(page_state(p, gfn)) : "?";
}
