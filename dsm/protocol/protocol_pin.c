/* SPDX-License-Identifier: Apache-2.0 */
/* Pins: pages that the engine needs exclusive at one moment are kept here, each once it has come. */
#include <errno.h>
#include <string.h>

#include "dsm/protocol/protocol_parts.h"

/* The pin of gfn, or NULL; tag 0 is a free one. */
static struct pin *pin_find(const struct protocol *p, uint64_t tag)
{
	for (unsigned i = 0; i < PROTOCOL_PINS_MAX; i++) {
		if (p->pins[i].tag == tag)
			return (struct pin *)(uintptr_t)&p->pins[i];
	}
	return NULL;
}

bool pin_keeps(const struct protocol *p, uint64_t gfn)
{
	return pin_find(p, gfn + 1) && page_state(p, gfn) == PAGE_M;
}

bool protocol_page_pinned(const struct protocol *p, uint64_t gfn)
{
	return pin_keeps(p, gfn);
}

bool pin_deferred(const struct protocol *p, uint64_t gfn)
{
	const struct pin *pin = pin_find(p, gfn + 1);
	return pin && pin->deferred;
}

void pin_defer(struct step *s, uint64_t gfn, const struct wire_msg *msg)
{
	struct pin *pin = pin_find(s->p, gfn + 1);
	pin->deferred = msg->type;
	pin->requester = msg->requester;
	s->p->stats.deferred++;
}

int pin_add(struct step *s, uint64_t gfn)
{
	if (s->p->frozen)
		return -EOWNERDEAD;
	if (pin_find(s->p, gfn + 1))
		return 0;
	struct pin *pin = pin_find(s->p, 0);
	if (!pin)
		return -ENOBUFS;
	*pin = (struct pin){.tag = gfn + 1};
	/* The end of a hold must not take away what is pinned. (An INV that waits for the hold of a
	 * shared copy goes on waiting for that, or for our own wish to write.) */
	if (pin_keeps(s->p, gfn)) {
		struct wire_msg msg = hold_deferred_take(s, gfn);
		pin->deferred = msg.type;
		pin->requester = msg.requester;
	}
	return 0;
}

void pin_remove(struct step *s, uint64_t gfn)
{
	struct pin *pin = pin_find(s->p, gfn + 1);
	if (!pin)
		return;
	struct wire_msg msg = msg_make(s->p, pin->deferred, gfn, pin->requester);
	*pin = (struct pin){0};
	if (msg.type)
		deferred_obey(s, &msg);
}

void pin_forget_all(struct protocol *p)
{
	memset(p->pins, 0, sizeof(p->pins));
}
