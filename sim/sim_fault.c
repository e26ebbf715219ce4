/* SPDX-License-Identifier: Apache-2.0 */
/* Faults on purpose, in the network and in the obeying of actions: each must be caught. */
#include <string.h>

#include "sim/sim_parts.h"

/* Eligible moments that pass before the first, so that the machine has warmed up; then one in. */
#define FAULT_AFTER  40u
#define FAULT_ONE_IN 8u

bool fault_now(struct sim *sim, enum sim_fault fault)
{
	if (sim->config.fault != fault || sim->parking || sim->lossy)
		return false;
	if (sim->fault_wait++ < FAULT_AFTER || !random_one_in(&sim->random, FAULT_ONE_IN))
		return false;
	sim->result->faulted++;
	trace_text(sim, RECORD_HAPPENS, 0, (unsigned)sim->result->faulted, sim_faults[fault].word);
	return true;
}

static const struct {
	enum sim_fault fault;
	uint8_t type;
} drops[] = {
	{SIM_FAULT_DROP_INV, MSG_INV},
	{SIM_FAULT_DROP_ACK, MSG_ACK},
	{SIM_FAULT_DROP_DONE, MSG_DONE},
	{SIM_FAULT_DROP_PUT_ACK, MSG_PUT_ACK},
};

static bool is_stale(const struct sim *sim, const struct packet *packet)
{
	unsigned page = gfn_page(sim, packet->msg.gfn);
	return memcmp(sim->former[page], packet->words, sizeof(packet->words)) != 0;
}

/* Somebody says that the INV was obeyed, and it was not. */
static void ack_early(struct sim *sim, unsigned to, const struct wire_msg *inv)
{
	struct protocol_action ack = {.type = ACTION_SEND, .to = inv->requester, .gfn = inv->gfn};
	ack.msg = *inv;
	ack.msg.type = MSG_ACK;
	net_send(sim, to, &ack);
}

bool fault_send(struct sim *sim, unsigned from, unsigned to, struct packet *packet)
{
	(void)from;
	for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]); i++) {
		if (packet->msg.type == drops[i].type && fault_now(sim, drops[i].fault))
			return false;
	}
	if (packet->msg.type == MSG_INV && fault_now(sim, SIM_FAULT_EARLY_ACK)) {
		ack_early(sim, to, &packet->msg);
		return false;
	}
	if (packet->msg.type == MSG_DATA && packet->msg.payload_len && is_stale(sim, packet) &&
	    fault_now(sim, SIM_FAULT_STALE_DATA))
		memcpy(packet->words, sim->former[gfn_page(sim, packet->msg.gfn)],
		       sizeof(packet->words));
	return true;
}

void fault_directory(struct sim *sim, unsigned n, uint64_t gfn)
{
	struct home_entry *entry = entry_find(sim->node[n].protocol, gfn);
	if (entry->state != HOME_S || !entry->sharers || !fault_now(sim, SIM_FAULT_FORGET_SHARER))
		return;
	entry->sharers &= entry->sharers - 1;
}
