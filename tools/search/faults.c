/* SPDX-License-Identifier: Apache-2.0 */
/* Faults seeded into the machine around the core, each of which the search must find. */
#include <string.h>

#include "tools/search/search.h"

/* ---- messages that are lost, repeated or overtaken ---- */

static enum world_sending ack_drop(struct world *w, unsigned from, unsigned to,
				   struct packet *packet)
{
	(void)w, (void)from, (void)to;
	return packet->msg.type == MSG_ACK ? SENDING_NEVER : SENDING_ONCE;
}

static enum world_sending wb_drop(struct world *w, unsigned from, unsigned to,
				  struct packet *packet)
{
	(void)w, (void)from, (void)to;
	return packet->msg.type == MSG_WB ? SENDING_NEVER : SENDING_ONCE;
}

static enum world_sending done_drop(struct world *w, unsigned from, unsigned to,
				    struct packet *packet)
{
	(void)w, (void)from, (void)to;
	return packet->msg.type == MSG_DONE ? SENDING_NEVER : SENDING_ONCE;
}

static enum world_sending put_ack_drop(struct world *w, unsigned from, unsigned to,
				       struct packet *packet)
{
	(void)w, (void)from, (void)to;
	return packet->msg.type == MSG_PUT_ACK ? SENDING_NEVER : SENDING_ONCE;
}

static enum world_sending data_repeat(struct world *w, unsigned from, unsigned to,
				      struct packet *packet)
{
	(void)w, (void)from, (void)to;
	return packet->msg.type == MSG_DATA ? SENDING_TWICE : SENDING_ONCE;
}

static enum world_sending inv_overtake(struct world *w, unsigned from, unsigned to,
				       struct packet *packet)
{
	(void)w, (void)from, (void)to;
	return packet->msg.type == MSG_INV ? SENDING_AHEAD : SENDING_ONCE;
}

static enum world_sending put_overtaken(struct world *w, unsigned from, unsigned to,
					struct packet *packet)
{
	(void)w, (void)from, (void)to;
	bool get = packet->msg.type == MSG_GET_S || packet->msg.type == MSG_GET_M;
	return get || packet->msg.type == MSG_WB ? SENDING_AHEAD : SENDING_ONCE;
}

/* Every second request is lost, of each slice. */
static enum world_sending get_drop(struct world *w, unsigned from, unsigned to,
				   struct packet *packet)
{
	(void)to;
	if (packet->msg.type != MSG_GET_S && packet->msg.type != MSG_GET_M)
		return SENDING_ONCE;
	w->hook_memory[from] ^= 1;
	return w->hook_memory[from] ? SENDING_ONCE : SENDING_NEVER;
}

/* ---- messages that say something else ---- */

static enum world_sending write_weaken(struct world *w, unsigned from, unsigned to,
				       struct packet *packet)
{
	(void)w, (void)from, (void)to;
	if (packet->msg.type == MSG_GET_M)
		packet->msg.type = MSG_GET_S;
	return SENDING_ONCE;
}

/* The page or the right to write comes as if nobody had to acknowledge. */
static enum world_sending grant_early(struct world *w, unsigned from, unsigned to,
				      struct packet *packet)
{
	(void)w, (void)from, (void)to;
	packet->msg.acks = 0;
	return SENDING_ONCE;
}

static enum world_sending data_stale(struct world *w, unsigned from, unsigned to,
				     struct packet *packet)
{
	(void)w, (void)from, (void)to;
	if (packet->msg.type == MSG_DATA && packet->value == VALUE_NOW)
		packet->value = VALUE_OLD;
	return SENDING_ONCE;
}

static enum world_sending wb_stale(struct world *w, unsigned from, unsigned to,
				   struct packet *packet)
{
	(void)w, (void)from, (void)to;
	if (packet->msg.type == MSG_WB && packet->value == VALUE_NOW)
		packet->value = VALUE_OLD;
	return SENDING_ONCE;
}

/* ---- actions that are not obeyed ---- */

static bool unmap_skip(struct world *w, unsigned slice, const struct protocol_action *action)
{
	(void)w, (void)slice;
	return action->type != ACTION_UNMAP;
}

static bool protect_skip(struct world *w, unsigned slice, const struct protocol_action *action)
{
	(void)w, (void)slice;
	return action->type != ACTION_PROTECT;
}

static bool zero_skip(struct world *w, unsigned slice, const struct protocol_action *action)
{
	(void)w, (void)slice;
	return action->type != ACTION_ZERO_FRAME;
}

static bool timer_skip(struct world *w, unsigned slice, const struct protocol_action *action)
{
	(void)w, (void)slice;
	return action->type != ACTION_HOLD_TIMER;
}

static bool wake_skip(struct world *w, unsigned slice, const struct protocol_action *action)
{
	(void)w, (void)slice;
	return action->type != ACTION_WAKE;
}

/* The page is unmapped only when the slice steps next: its ACK is on its way by then. */
static bool unmap_delay(struct world *w, unsigned slice, const struct protocol_action *action)
{
	if (action->type != ACTION_UNMAP)
		return true;
	w->hook_memory[slice] = 1;
	return false;
}

static void unmap_late(struct world *w, unsigned slice)
{
	if (w->hook_memory[slice])
		w->mapping[slice][0] = MAPPED_NONE;
	w->hook_memory[slice] = 0;
}

/* ---- a directory that forgets ---- */

static struct home_entry *entry_of(struct world *w, unsigned slice)
{
	return slice == w->homes[0] ? entry_find(world_protocol(w, slice), WORLD_GFN(0)) : NULL;
}

static void sharer_forget(struct world *w, unsigned slice)
{
	struct home_entry *entry = entry_of(w, slice);
	if (entry && entry->state == HOME_S)
		entry->sharers &= ~sharer_bit(world_protocol(w, slice), 2);
}

/* The eviction's frame may be used again although its bytes are still on their way. */
static void put_ack_early(struct world *w, unsigned slice)
{
	struct home_entry *entry = entry_of(w, slice);
	if (entry)
		entry->flags &= (uint8_t)~ENTRY_PUT_LATER;
}

/* The home does not wait for the owner's bytes. */
static void wb_forget(struct world *w, unsigned slice)
{
	struct home_entry *entry = entry_of(w, slice);
	if (entry && entry->state == HOME_SW)
		entry->state = HOME_SD;
}

/* ---- a slice that goes on after a loss ---- */

static void thaw(struct world *w, unsigned slice)
{
	world_protocol(w, slice)->frozen = false;
	w->frozen &= ~slice_bit(slice);
}

/* The home gives the page to a writer without asking a slice that took another for lost: what
 * would be so if the slices that are left went on without the lost one. */
static void lost_forget(struct world *w, unsigned slice)
{
	struct home_entry *entry = entry_of(w, slice);
	for (unsigned i = 0; entry && entry->state == HOME_S && i < w->slices; i++) {
		if (w->frozen & slice_bit(i))
			entry->sharers &= ~sharer_bit(world_protocol(w, slice), i);
	}
}

/* Two hooks in one argument. */
#define UNMAP_LATE .obey = unmap_delay, .before = unmap_late

#define FAULT(name_, slices_, may_, hook, text_)                                                   \
	{                                                                                          \
		.name = name_, .text = text_, .slices = slices_, .may = may_, .hooks = { hook }    \
	}

const struct fault faults[] = {
	FAULT("ack-dropped", 2, 0, .send = ack_drop, "no ACK arrives"),
	FAULT("wb-dropped", 3, 0, .send = wb_drop, "no WB arrives"),
	FAULT("done-dropped", 3, 0, .send = done_drop, "no DONE arrives"),
	FAULT("put-ack-dropped", 2, MAY_EVICT, .send = put_ack_drop, "no PUT_ACK arrives"),
	FAULT("get-dropped", 2, 0, .send = get_drop, "every second GET of a slice is lost"),
	FAULT("write-weakened", 2, 0, .send = write_weaken, "a GET_M arrives as a GET_S"),
	FAULT("data-twice", 2, 0, .send = data_repeat, "each DATA comes twice"),
	FAULT("inv-overtakes", 2, 0, .send = inv_overtake,
	      "an INV overtakes the message that went before it"),
	FAULT("put-overtaken", 3, MAY_EVICT, .send = put_overtaken,
	      "a GET or WB overtakes the message that went before it"),
	FAULT("grant-early", 3, 0, .send = grant_early,
	      "DATA and GRANT announce no ACKs: the writer does not wait"),
	FAULT("data-stale", 2, 0, .send = data_stale, "DATA brings bytes of before the last write"),
	FAULT("wb-stale", 3, 0, .send = wb_stale, "WB brings bytes of before the last write"),
	FAULT("lost-not-asked", 2, MAY_LOSE, .after = lost_forget,
	      "the home goes on without a slice whose connection was cut"),
	FAULT("loss-outlived", 2, MAY_LOSE, .before = thaw,
	      "a slice that was told of a loss and dropped what came goes on after it"),
	FAULT("unmap-skipped", 2, 0, .obey = unmap_skip, "an unmap is not done"),
	FAULT("unmap-late", 2, 0, UNMAP_LATE, "an ACK goes out before the unmap is done"),
	FAULT("protect-skipped", 2, 0, .obey = protect_skip, "a write-protect is not done"),
	FAULT("zeroing-skipped", 2, MAY_ZERO, .obey = zero_skip,
	      "a zero page arrives and the frame is not cleared"),
	FAULT("timer-skipped", 2, MAY_HOLD, .obey = timer_skip, "no hold time ends"),
	FAULT("wake-skipped", 2, MAY_EVICT, .obey = wake_skip, "no vCPU is woken but by a mapping"),
	FAULT("sharer-forgotten", 3, 0, .after = sharer_forget, "the directory forgets slice 2"),
	FAULT("put-ack-forgotten", 2, MAY_EVICT, .after = put_ack_early,
	      "the directory forgets whom it owes a PUT_ACK"),
	FAULT("wb-not-awaited", 3, 0, .after = wb_forget, "the home goes on without the WB"),
	FAULT("put-in-frame", 2, MAY_EVICT | MAY_SPLIT, .put_in_frame = true,
	      "a PUT_M is received straight into the frame"),
};
const unsigned faults_count = sizeof(faults) / sizeof(faults[0]);

const struct fault *fault_find(const char *name)
{
	for (unsigned i = 0; i < faults_count; i++) {
		if (strcmp(faults[i].name, name) == 0)
			return &faults[i];
	}
	return NULL;
}
