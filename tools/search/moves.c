/* SPDX-License-Identifier: Apache-2.0 */
/* What can happen next in the search: accesses, evictions, arrivals, ends of hold times, a loss. */
#include <stdlib.h>

#include "tools/search/search.h"

/* Only "now" and "before" matter of a page's values: so their number stays finite. */
static void values_age(struct world *w, unsigned page)
{
	for (unsigned i = 0; i < w->slices; i++) {
		if (w->frame[i][page] == VALUE_NOW)
			w->frame[i][page] = VALUE_OLD;
		for (unsigned j = 0; j < w->slices; j++) {
			struct channel *c = &w->channel[i][j];
			for (unsigned k = 0; k < c->count; k++) {
				struct packet *packet = &c->packets[k];
				if (packet->msg.gfn == WORLD_GFN(page) &&
				    packet->value == VALUE_NOW)
					packet->value = VALUE_OLD;
			}
		}
	}
}

static bool slice_lives(const struct world *w, unsigned slice)
{
	return !(w->lost & slice_bit(slice));
}

static bool arrival_allowed(struct world *w, struct move m)
{
	const struct packet *packet = channel_head(w, m.slice, m.to);
	if (!packet || !slice_lives(w, m.to))
		return false;
	return m.type == MOVE_RECEIVE || (packet->msg.payload_len && !packet->receiving);
}

/* Whom a slice takes for lost makes no difference to what it does: one is enough. */
static bool tell_allowed(const struct world *w, struct move m)
{
	unsigned lost = w->lost ? (unsigned)__builtin_ctzll(w->lost) : (m.slice + 1) % w->slices;
	return slice_lives(w, m.slice) && !(w->frozen & slice_bit(m.slice)) && m.to == lost &&
	       m.to != m.slice;
}

bool move_allowed(struct world *w, struct move m)
{
	enum mapping mapping = w->mapping[m.slice][m.page];
	switch ((enum move_type)m.type) {
	case MOVE_READ:
	case MOVE_WRITE:
		return slice_lives(w, m.slice);
	case MOVE_WRITE_AGAIN:
		return mapping == MAPPED_WRITE;
	case MOVE_CLEAR:
		return mapping == MAPPED_WRITE && w->current[m.page] != 0;
	case MOVE_EVICT:
		return slice_lives(w, m.slice) && m.slice != w->homes[m.page];
	case MOVE_HOLD_END:
		return w->timer[m.slice][m.page] != 0;
	case MOVE_BEGIN:
	case MOVE_RECEIVE:
		return arrival_allowed(w, m);
	case MOVE_CRASH:
		return slice_lives(w, m.to) && bits_count(w->lost) < w->losses_max;
	case MOVE_TELL:
		return tell_allowed(w, m);
	case MOVE_NONE:
		return false;
	}
	return false;
}

static void access_do(struct world *w, struct move m)
{
	bool write = m.type == MOVE_WRITE || m.type == MOVE_CLEAR;
	enum mapping mapping = w->mapping[m.slice][m.page];
	if (m.type == MOVE_WRITE_AGAIN || (!write && mapping != MAPPED_NONE)) {
		world_refault(w, m.slice, m.page, m.type == MOVE_WRITE_AGAIN);
		return;
	}
	if (!write) {
		world_read(w, m.slice, m.page);
		return;
	}
	if (mapping == MAPPED_WRITE)
		values_age(w, m.page);
	world_write(w, m.slice, m.page, m.type == MOVE_CLEAR ? 0 : VALUE_NOW);
}

void move_do(struct world *w, struct move m)
{
	if (w->rows)
		w->rows->count = 0;
	switch ((enum move_type)m.type) {
	case MOVE_READ:
	case MOVE_WRITE:
	case MOVE_WRITE_AGAIN:
	case MOVE_CLEAR:
		access_do(w, m);
		break;
	case MOVE_EVICT:
		world_evict(w, m.slice, m.page);
		break;
	case MOVE_HOLD_END:
		world_hold_end(w, m.slice, m.page);
		break;
	case MOVE_BEGIN:
		world_receive_begin(w, m.slice, m.to);
		break;
	case MOVE_RECEIVE:
		world_receive(w, m.slice, m.to);
		break;
	case MOVE_CRASH:
		world_crash(w, m.to);
		break;
	case MOVE_TELL:
		world_tell(w, m.slice, m.to);
		break;
	case MOVE_NONE:
		break;
	}
}

static unsigned page_of(uint64_t gfn)
{
	return (unsigned)(gfn >> CHUNK_PAGES_SHIFT);
}

/* "GET_M", "DATA M, 2 ACKs", "INV for 2": what matters of a message. */
static void packet_text(const struct packet *packet, char *out, size_t size)
{
	const struct wire_msg *msg = &packet->msg;
	int len = snprintf(out, size, "%s", wire_type_name(msg->type));
	if (len < 0 || (size_t)len >= size)
		return;
	out += len;
	size -= (size_t)len;
	if (msg->type == MSG_DATA)
		snprintf(out, size, " %s%s, %u ACKs", msg->flags & MSG_FLAG_EXCLUSIVE ? "M" : "S",
			 msg->flags & MSG_FLAG_ZERO ? " (zeroes)" : "", msg->acks);
	else if (msg->type == MSG_GRANT)
		snprintf(out, size, ", %u ACKs", msg->acks);
	else
		snprintf(out, size, "%s for slice %u",
			 msg->flags & MSG_FLAG_ZERO ? " (zeroes)" : "", msg->requester);
}

static void arrival_text(struct world *w, struct move m, char *out, size_t size)
{
	const struct packet *packet = channel_head(w, m.slice, m.to);
	char what[64];
	if (!packet) {
		snprintf(out, size, "nothing arrives");
		return;
	}
	packet_text(packet, what, sizeof(what));
	snprintf(out, size, "slice %u %s page %u's %s from slice %u", m.to,
		 m.type == MOVE_BEGIN ? "begins to receive" : "receives", page_of(packet->msg.gfn),
		 what, m.slice);
}

void move_text(struct world *w, struct move m, char *out, size_t size)
{
	static const char *const verbs[] = {[MOVE_READ] = "reads",
					    [MOVE_WRITE] = "writes",
					    [MOVE_WRITE_AGAIN] = "faults, though it may write,",
					    [MOVE_CLEAR] = "clears",
					    [MOVE_EVICT] = "evicts",
					    [MOVE_HOLD_END] = "ends its hold of"};
	switch ((enum move_type)m.type) {
	case MOVE_NONE:
		snprintf(out, size, "nothing");
		break;
	case MOVE_BEGIN:
	case MOVE_RECEIVE:
		arrival_text(w, m, out, size);
		break;
	case MOVE_CRASH:
		snprintf(out, size, "slice %u is lost", m.to);
		break;
	case MOVE_TELL:
		snprintf(out, size, "slice %u takes slice %u for lost", m.slice, m.to);
		break;
	case MOVE_READ:
	case MOVE_WRITE:
	case MOVE_WRITE_AGAIN:
	case MOVE_CLEAR:
	case MOVE_EVICT:
	case MOVE_HOLD_END:
		snprintf(out, size, "slice %u %s page %u", m.slice, verbs[m.type], m.page);
		break;
	}
}
