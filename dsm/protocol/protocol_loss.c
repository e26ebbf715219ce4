/* SPDX-License-Identifier: Apache-2.0 */
/* What the loss of a slice means here: nothing more is given or taken, so that nothing goes wrong.
 */
#include <errno.h>

#include "dsm/protocol/protocol_parts.h"

/*
 * From here on this slice is to every other like one that is very slow: it sends nothing and takes
 * nothing. The protocol bears that for any time, whatever is under way: so nobody reads a wrong
 * byte, nobody breaks a rule, and it does not matter who learns of the loss when, or whether the
 * slice that is taken for lost lives on at the other end of a connection that was cut.
 */
static void freeze(struct protocol *p)
{
	p->frozen = true;
	/* What was set aside will not be obeyed. */
	hold_forget_all(p);
	pin_forget_all(p);
}

/* Had the lost slice, maybe, the only copy of what was last written to a page homed here? */
static bool page_gone(const struct home_entry *entry, unsigned lost)
{
	bool owner = entry->owner == lost;
	switch ((enum home_state)entry->state) {
	case HOME_O:
	case HOME_SW:
	case HOME_SB:
		return owner;
	case HOME_SD:
		return owner && (entry->flags & ENTRY_FORWARDED) && !(entry->flags & ENTRY_WB_HERE);
	case HOME_OD:
		return entry->requester == lost || (owner && (entry->flags & ENTRY_FORWARDED));
	case HOME_U:
	case HOME_S:
	case HOME_SH:
	case HOME_OH:
	case HOME_STATE_COUNT:
		return false;
	}
	return false;
}

/* Looks at every page homed here that was ever touched. False: the actions are full. */
static bool pages_report(struct step *s, struct loss *loss)
{
	struct protocol *p = s->p;
	while (loss->at < p->config.gfns) {
		uint64_t chunk = loss->at >> CHUNK_PAGES_SHIFT;
		if (!(*chunk_at(p, chunk) & CHUNK_TOUCHED)) {
			loss->at = (chunk + 1) << CHUNK_PAGES_SHIFT;
			continue;
		}
		if (s->actions->count == ACTIONS_MAX)
			return false;
		if (page_gone(entry_find(p, loss->at), loss->slice))
			step_action(s, ACTION_PAGE_LOST, loss->at);
		loss->at++;
	}
	return true;
}

int loss_step(struct step *s, unsigned lost)
{
	struct protocol *p = s->p;
	struct loss *loss = &p->loss;
	if (lost >= p->config.slices || lost == p->config.self)
		return -EINVAL;
	if (loss->under_way && loss->slice != lost)
		return -EBUSY;
	freeze(p);
	if (!loss->under_way)
		*loss = (struct loss){.under_way = true, .slice = (uint16_t)lost};
	if (!pages_report(s, loss))
		return -EAGAIN;
	*loss = (struct loss){0};
	return 0;
}
