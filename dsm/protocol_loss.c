/* SPDX-License-Identifier: Apache-2.0 */
/* What the loss of a slice means here: a new epoch, and an end for everything that was under way.
 */
#include <errno.h>

#include "dsm/protocol_parts.h"

enum loss_phase {
	LOSS_EVICTIONS, /* first: a torn request looks like one, and has been told */
	LOSS_REQUESTS,
	LOSS_DIRECTORY,
	LOSS_END
};

/* One page causes at most this many actions. */
#define LOSS_ACTIONS_PER_PAGE 4u

static bool actions_full(const struct step *s)
{
	return s->actions->count + LOSS_ACTIONS_PER_PAGE > ACTIONS_MAX;
}

static void page_tear(struct step *s, uint64_t gfn)
{
	struct protocol *p = s->p;
	unsigned home = protocol_home(p, gfn);
	/* A directory that is here sees to its pages itself. */
	bool orphan = home == p->config.self || slice_lost(p, home);
	const struct protocol_rule *rule =
		slice_rule(page_state(p, gfn), orphan ? SLICE_ORPHAN : SLICE_TORN);
	if (rule)
		slice_apply(s, rule, gfn, p->config.self, NULL);
}

/* Every request of this slice: its answer may be of the old epoch, and then never be taken. */
static bool requests_tear(struct step *s, struct loss *loss)
{
	struct protocol *p = s->p;
	for (; loss->at < p->buckets; loss->at++) {
		uint32_t *bucket = (uint32_t *)((char *)p + p->bucket_offset) + loss->at;
		while (*bucket) {
			if (actions_full(s))
				return false;
			uint64_t gfn = request_at(p, *bucket - 1)->gfn;
			request_remove(p, gfn);
			page_tear(s, gfn);
		}
	}
	return true;
}

static bool page_evicting(enum page_state state)
{
	return state == PAGE_MI || state == PAGE_SI || state == PAGE_II || state == PAGE_T;
}

/* Evictions and what was torn before have no record but the page's state, so look for them, but
 * only if there are any. */
static bool evictions_tear(struct step *s, struct loss *loss)
{
	struct protocol *p = s->p;
	for (; p->evicting && loss->at < p->config.gfns; loss->at++) {
		if (!page_evicting(page_state(p, loss->at)))
			continue;
		if (actions_full(s))
			return false;
		page_tear(s, loss->at);
	}
	return true;
}

/* Every page homed here that was ever touched. */
static bool directory_lose(struct step *s, struct loss *loss)
{
	struct protocol *p = s->p;
	while (loss->at < p->config.gfns) {
		uint64_t chunk = loss->at >> CHUNK_PAGES_SHIFT;
		if (!(*chunk_at(p, chunk) & CHUNK_TOUCHED)) {
			loss->at = (chunk + 1) << CHUNK_PAGES_SHIFT;
			continue;
		}
		if (actions_full(s))
			return false;
		home_lose(s, entry_find(p, loss->at), loss->at, loss->slice);
		loss->at++;
	}
	return true;
}

static bool phase_run(struct step *s, struct loss *loss)
{
	switch ((enum loss_phase)loss->phase) {
	case LOSS_EVICTIONS:
		return evictions_tear(s, loss);
	case LOSS_REQUESTS:
		return requests_tear(s, loss);
	case LOSS_DIRECTORY:
		return directory_lose(s, loss);
	case LOSS_END:
		return true;
	}
	return true;
}

static void loss_begin(struct protocol *p, unsigned lost, uint32_t epoch)
{
	slice_lost_set(p, lost);
	p->config.epoch = epoch > p->config.epoch ? epoch : p->config.epoch + 1;
	p->loss = (struct loss){.under_way = true, .slice = (uint16_t)lost};
	/* What was set aside belongs to a transaction that its home gives up. */
	hold_forget_all(p);
}

int loss_step(struct step *s, unsigned lost, uint32_t epoch)
{
	struct protocol *p = s->p;
	struct loss *loss = &p->loss;
	if (lost >= p->config.slices || lost == p->config.self)
		return -EINVAL;
	if (loss->under_way && loss->slice != lost)
		return -EBUSY;
	if (!loss->under_way) {
		if (slice_lost(p, lost))
			return 0;
		loss_begin(p, lost, epoch);
	}
	for (; loss->phase < LOSS_END; loss->phase++, loss->at = 0) {
		if (!phase_run(s, loss))
			return -EAGAIN;
	}
	*loss = (struct loss){0};
	return 0;
}
