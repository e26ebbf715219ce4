/* SPDX-License-Identifier: Apache-2.0 */
/* Minimum hold time: a page that is stolen again and again stays a while after each grant. */
#include "dsm/protocol/protocol_parts.h"

/* The entry of gfn, or NULL if its place is free or another page's. */
static struct hold *hold_find(const struct protocol *p, uint64_t gfn)
{
	struct hold *h = hold_at(p, gfn);
	return h && h->tag == gfn + 1 ? h : NULL;
}

static bool long_contended(const struct hold *h)
{
	return h->soon == HOLD_LONG_AFTER;
}

static bool contended(const struct hold *h)
{
	return h->level || long_contended(h);
}

static uint64_t hold_length(const struct protocol *p, const struct hold *h, uint64_t long_hold_ns)
{
	if (long_contended(h) && long_hold_ns > p->config.hold_ns)
		return long_hold_ns;
	return h->level ? p->config.hold_ns >> (HOLD_LEVEL_MAX - h->level) : 0;
}

static uint64_t hold_end(const struct step *s, const struct hold *h)
{
	return h->granted_ns + hold_length(s->p, h, s->event->long_hold_ns);
}

void hold_granted(struct step *s, uint64_t gfn)
{
	struct hold *h = hold_at(s->p, gfn);
	/* A place that keeps a message stays with its page; this one goes without. */
	if (!h || h->deferred)
		return;
	if (h->tag != gfn + 1)
		*h = (struct hold){.tag = gfn + 1};
	h->granted_ns = s->now_ns;
}

/* This slice's place in the turn's order is before the other's. */
static bool turn_is_before(const struct step *s, unsigned other)
{
	unsigned slices = s->p->config.slices, shift = slices - s->event->turn % slices;

	return (s->p->config.self + shift) % slices < (other + shift) % slices;
}

static bool hold_in_force(const struct step *s, const struct hold *h, unsigned requester)
{
	if (!contended(h))
		return false;
	if (s->event->unused)
		return true;
	if (s->event->turn_ns)
		return turn_is_before(s, requester);
	return s->now_ns < hold_end(s, h);
}

/* Has the page been asked for soon most of the last times? An event that does not know the long
 * hold time, such as the end of a hold, which may set off the next request here, does not count. */
static void soon_count(const struct step *s, struct hold *h)
{
	uint64_t long_hold_ns = s->event->long_hold_ns;

	if (!long_hold_ns)
		return;
	if (s->now_ns < h->granted_ns + HOLD_LONG_SOON * long_hold_ns)
		h->soon += h->soon < HOLD_LONG_AFTER;
	else
		h->soon /= 2;
}

bool hold_check(struct step *s, uint64_t gfn, unsigned requester)
{
	struct hold *h = hold_find(s->p, gfn);
	if (!h)
		return false;
	uint64_t hold_ns = s->event->turn_ns ? s->event->turn_ns : s->p->config.hold_ns;
	soon_count(s, h);
	bool held = hold_in_force(s, h, requester);
	if (s->now_ns < h->granted_ns + HOLD_SOON * hold_ns) {
		/* The hold time in force must not move while a message waits for it. */
		if (h->level < HOLD_LEVEL_MAX && !held)
			h->level++;
	} else if (h->level) {
		h->level--;
	}
	return held;
}

void hold_defer(struct step *s, uint64_t gfn, const struct wire_msg *msg)
{
	struct hold *h = hold_find(s->p, gfn);
	h->deferred = msg->type;
	h->requester = msg->requester;
	s->p->stats.deferred++;
	uint64_t end_ns = s->event->turn_ns ? s->event->turn_end_ns : hold_end(s, h);
	/* A page that is held as it is unused is looked at again after one more hold time. */
	if (s->event->unused || end_ns <= s->now_ns)
		end_ns = s->now_ns + s->p->config.hold_ns;
	step_action(s, ACTION_HOLD_TIMER, gfn)->deadline_ns = end_ns;
}

bool hold_deferred(const struct protocol *p, uint64_t gfn)
{
	const struct hold *h = hold_find(p, gfn);
	return h && h->deferred;
}

struct wire_msg hold_deferred_take(struct step *s, uint64_t gfn)
{
	struct hold *h = hold_find(s->p, gfn);
	if (!h || !h->deferred)
		return (struct wire_msg){0};
	struct wire_msg msg = msg_make(s->p, h->deferred, gfn, h->requester);
	h->deferred = 0;
	if (h->level < HOLD_LEVEL_MAX)
		h->level++;
	return msg;
}

void deferred_obey(struct step *s, const struct wire_msg *msg)
{
	unsigned home = protocol_home(s->p, msg->gfn);
	const struct protocol_rule *rule = slice_classify(s->p, home, msg);
	if (rule)
		slice_apply(s, rule, msg->gfn, home, msg);
}

void hold_release(struct step *s, uint64_t gfn)
{
	struct wire_msg msg = hold_deferred_take(s, gfn);
	if (msg.type)
		deferred_obey(s, &msg);
}

bool protocol_page_contended(const struct protocol *p, uint64_t gfn)
{
	const struct hold *h = hold_find(p, gfn);
	return h && contended(h);
}

uint64_t protocol_page_hold_ns(const struct protocol *p, uint64_t gfn, uint64_t long_hold_ns)
{
	const struct hold *h = hold_find(p, gfn);
	return h ? hold_length(p, h, long_hold_ns) : 0;
}

void hold_forget_all(struct protocol *p)
{
	struct hold *holds = p->holds ? (struct hold *)((char *)p + p->hold_offset) : NULL;
	for (uint32_t i = 0; i < p->holds; i++)
		holds[i] = (struct hold){0};
}
