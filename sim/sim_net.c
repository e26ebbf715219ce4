/* SPDX-License-Identifier: Apache-2.0 */
/* The network between slices: in order within a pair, nothing else; late, in bursts, in parts. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "sim/sim_parts.h"

/* A message's way through two hosts and a switch, of which each pair has its own length. */
#define LATENCY_NS	(8 * NS_PER_US)
#define LATENCY_PAIR_NS (16 * NS_PER_US)
#define LATENCY_TAIL_NS (40 * NS_PER_US)
/* One message in so many is late by up to this. */
#define LATE_ONE_IN 64
#define LATE_NS	    (600 * NS_PER_US)
/* A page at about 10 Gbit/s; one in so many trickles. */
#define PAGE_NS	       NET_PAGE_NS
#define TRICKLE_ONE_IN 32
#define TRICKLE_NS     (200 * NS_PER_US)
/* What a slice's engine does for one message. */
#define STEP_NS NS_PER_US

static struct packet *packet_at(struct sim *sim, uint32_t link)
{
	return &sim->packet[link - 1];
}

static uint32_t packet_take(struct sim *sim)
{
	uint32_t at = sim->packet_free;
	if (at) {
		sim->packet_free = packet_at(sim, at)->next;
		return at;
	}
	if (sim->packet_fresh == sim->packet_room) {
		sim->packet_room = sim->packet_room ? 2 * sim->packet_room : 1024;
		sim->packet = realloc(sim->packet, sim->packet_room * sizeof(sim->packet[0]));
		invariant(sim->packet);
	}
	return ++sim->packet_fresh;
}

static uint64_t latency_ns(struct sim *sim, unsigned from, unsigned to)
{
	uint64_t ns = LATENCY_NS + (from * 31u + to * 17u) % 16 * (LATENCY_PAIR_NS / 16);
	/* Two dice: short delays are the rule. */
	uint64_t a = random_below(&sim->random, LATENCY_TAIL_NS);
	uint64_t b = random_below(&sim->random, LATENCY_TAIL_NS);
	ns += a < b ? a : b;
	if (random_one_in(&sim->random, LATE_ONE_IN))
		ns += random_below(&sim->random, LATE_NS);
	return ns * sim->node[from].slow;
}

static void link_begin_at(struct sim *sim, unsigned from, unsigned to)
{
	struct link *link = link_of(sim, from, to);
	uint64_t at = packet_at(sim, link->head)->due_ns;
	event_add(sim, at > link->blocked_ns ? at : link->blocked_ns, SIM_EVENT_BEGIN, from, to, 0);
}

static void link_append(struct sim *sim, unsigned from, unsigned to, uint32_t at)
{
	struct link *link = link_of(sim, from, to);
	packet_at(sim, at)->next = 0;
	if (link->tail)
		packet_at(sim, link->tail)->next = at;
	else
		link->head = at;
	link->tail = at;
	if (++link->count > sim->result->link_max)
		sim->result->link_max = link->count;
	if (link->head == at)
		link_begin_at(sim, from, to);
}

static void packet_fill(struct sim *sim, unsigned from, const struct protocol_action *action,
			struct packet *packet)
{
	static const uint64_t zeroes[WORDS];
	*packet = (struct packet){.msg = action->msg};
	if (action->type != ACTION_SEND_PAGE)
		return;
	/* As the engine does: a page of zeroes goes as a flag. */
	memcpy(packet->words, sim->node[from].frame[gfn_page(sim, action->gfn)],
	       sizeof(packet->words));
	if (memcmp(packet->words, zeroes, sizeof(zeroes)) == 0) {
		packet->msg.flags |= MSG_FLAG_ZERO;
		packet->msg.payload_len = 0;
	}
}

static void packet_send(struct sim *sim, unsigned from, unsigned to, const struct packet *packet)
{
	uint32_t at = packet_take(sim);
	*packet_at(sim, at) = *packet;
	packet_at(sim, at)->due_ns = sim->now_ns + latency_ns(sim, from, to);
	sim->result->messages++;
	sim->result->bytes += WIRE_HEADER_SIZE + packet->msg.payload_len;
	if (packet->msg.payload_len) {
		unsigned page = gfn_page(sim, packet->msg.gfn);
		sim->result->messages_page++;
		invariant(++sim->node[from].flying[page]);
	}
	link_append(sim, from, to, at);
	if (fault_now(sim, SIM_FAULT_TWICE) && !packet->msg.payload_len) {
		at = packet_take(sim);
		*packet_at(sim, at) = *packet;
		packet_at(sim, at)->due_ns = sim->now_ns;
		link_append(sim, from, to, at);
	}
}

void net_send(struct sim *sim, unsigned from, const struct protocol_action *action)
{
	struct packet packet;
	unsigned to = action->to;
	if (sim->node[to].gone || link_of(sim, from, to)->closed)
		return;
	packet_fill(sim, from, action, &packet);
	sim->result->invalidations += packet.msg.type == MSG_INV;
	sim->result->three_hops += (packet.msg.type == MSG_FWD_S || packet.msg.type == MSG_FWD_M) &&
				   packet.msg.requester != from;
	if (fault_send(sim, from, to, &packet))
		packet_send(sim, from, to, &packet);
}

/* When the receiver's engine has time for one more message. */
static uint64_t engine_slot(struct sim *sim, struct node *node, uint64_t ready_ns)
{
	uint64_t at = ready_ns > node->free_ns ? ready_ns : node->free_ns;
	if (at < node->paused_ns)
		at = node->paused_ns;
	(void)sim;
	node->free_ns = at + STEP_NS * node->slow;
	return at;
}

void net_begin(struct sim *sim, unsigned from, unsigned to)
{
	struct link *link = link_of(sim, from, to);
	struct node *node = &sim->node[to];
	if (!link->head)
		return; /* dropped meanwhile */
	if (sim->now_ns < link->blocked_ns) {
		link_begin_at(sim, from, to);
		return;
	}
	struct packet *packet = packet_at(sim, link->head);
	uint64_t take_ns = 0;
	packet->receiving = true;
	if (packet->msg.payload_len) {
		/* A PUT_M comes unasked, and waits in a page of its own until it is whole. */
		packet->into_frame = packet->msg.type != MSG_PUT_M &&
				     protocol_awaits_page(node->protocol, from, &packet->msg);
		take_ns = PAGE_NS;
		if (random_one_in(&sim->random, TRICKLE_ONE_IN))
			take_ns += random_below(&sim->random, TRICKLE_NS);
	}
	if (packet->into_frame) {
		unsigned page = gfn_page(sim, packet->msg.gfn);
		check_frame(sim, to, page);
		for (unsigned i = 0; i < WORDS; i++)
			node->frame[page][i] = WORD_GARBAGE;
	}
	event_add(sim, engine_slot(sim, node, sim->now_ns + take_ns), SIM_EVENT_DELIVER, from, to,
		  0);
}

static struct packet link_pop(struct sim *sim, unsigned from, unsigned to)
{
	struct link *link = link_of(sim, from, to);
	uint32_t at = link->head;
	struct packet packet = *packet_at(sim, at);
	link->head = packet.next;
	link->count--;
	if (!link->head)
		link->tail = 0;
	packet_at(sim, at)->next = sim->packet_free;
	sim->packet_free = at;
	if (packet.msg.payload_len)
		sim->node[from].flying[gfn_page(sim, packet.msg.gfn)]--;
	return packet;
}

/* The fault that lets the second message of a pair overtake the first. */
static void link_swap(struct sim *sim, struct link *link)
{
	struct packet *first = packet_at(sim, link->head), *second = packet_at(sim, first->next);
	struct packet tmp = *first;
	uint32_t first_next = first->next, second_next = second->next;
	*first = *second;
	*second = tmp;
	first->next = first_next;
	second->next = second_next;
}

void net_deliver(struct sim *sim, unsigned from, unsigned to)
{
	struct link *link = link_of(sim, from, to);
	struct node *node = &sim->node[to];
	if (!link->head)
		return;
	if (sim->now_ns < node->paused_ns) {
		event_add(sim, engine_slot(sim, node, sim->now_ns), SIM_EVENT_DELIVER, from, to, 0);
		return;
	}
	if (link->count > 1 && !packet_at(sim, link->head)->msg.payload_len &&
	    !packet_at(sim, packet_at(sim, link->head)->next)->msg.payload_len &&
	    fault_now(sim, SIM_FAULT_SWAP))
		link_swap(sim, link);
	struct packet packet = link_pop(sim, from, to);
	bool taken = protocol_awaits_page(node->protocol, from, &packet.msg);
	unsigned page = packet.msg.payload_len ? gfn_page(sim, packet.msg.gfn) : 0;
	/* A loss may be learned of in between. */
	if (packet.into_frame && !taken && !node->protocol->frozen)
		check_fail(sim, "frame in flight",
			   "page %u came into node %u's frame and is not"
			   " taken",
			   page, to);
	if (packet.msg.payload_len && taken && !packet.into_frame)
		check_frame(sim, to, page);
	if (packet.msg.payload_len && (taken || packet.into_frame))
		memcpy(node->frame[page], packet.words, sizeof(packet.words));
	if (link->head)
		link_begin_at(sim, from, to);
	node_receive(sim, from, to, &packet.msg);
}

void net_drop_all(struct sim *sim, unsigned from, unsigned to)
{
	while (link_of(sim, from, to)->head)
		(void)link_pop(sim, from, to);
}

static void link_block(struct sim *sim, unsigned from, unsigned to, uint64_t until_ns)
{
	struct link *link = link_of(sim, from, to);
	if (link->blocked_ns < until_ns)
		link->blocked_ns = until_ns;
}

static void burst(struct sim *sim, unsigned node)
{
	uint64_t ns = NS_PER_US * (50 + random_below(&sim->random, 500));
	trace_text(sim, RECORD_HAPPENS, node, (unsigned)(ns / NS_PER_US), "burst in us");
	for (unsigned to = 0; to < sim->config.nodes; to++)
		link_block(sim, node, to, sim->now_ns + ns);
}

static void pause_slow(struct sim *sim, unsigned slow)
{
	uint64_t ns = NS_PER_US * (200 + random_below(&sim->random, 5000));
	trace_text(sim, RECORD_HAPPENS, slow, (unsigned)(ns / NS_PER_US), "stands still, us");
	sim->node[slow].paused_ns = sim->now_ns + ns;
}

/* Nothing is lost: what TCP carries comes when the way is open again. */
static void partition(struct sim *sim)
{
	unsigned nodes = sim->config.nodes;
	uint64_t ns = NS_PER_MS + random_below(&sim->random, 8 * NS_PER_MS);
	unsigned first = (unsigned)random_below(&sim->random, nodes);
	unsigned size = 1 + (unsigned)random_below(&sim->random, nodes - 1);
	trace_text(sim, RECORD_HAPPENS, first, size, "partition from, size");
	for (unsigned i = 0; i < nodes; i++) {
		for (unsigned j = 0; j < nodes; j++) {
			bool a = (i + nodes - first) % nodes < size;
			bool b = (j + nodes - first) % nodes < size;
			if (a != b)
				link_block(sim, i, j, sim->now_ns + ns);
		}
	}
}

void net_disturb(struct sim *sim)
{
	unsigned set = sim->config.disturbances &
		       (1u << SIM_BIT_BURSTS | 1u << SIM_BIT_SLOW | 1u << SIM_BIT_PARTITIONS);
	unsigned which = (unsigned)random_below(&sim->random, 8);
	/* A partition in eight, a pause in eight, else bursts. */
	enum sim_disturbance_bit bit = which == 0   ? SIM_BIT_PARTITIONS
				       : which == 1 ? SIM_BIT_SLOW
						    : SIM_BIT_BURSTS;
	if (!(set & 1u << bit))
		return;
	sim->result->disturbed[bit]++;
	if (bit == SIM_BIT_PARTITIONS) {
		partition(sim);
	} else if (bit == SIM_BIT_BURSTS) {
		burst(sim, (unsigned)random_below(&sim->random, sim->config.nodes));
	} else {
		for (unsigned i = 0; i < sim->config.nodes; i++) {
			if (sim->node[i].slow > 1)
				pause_slow(sim, i);
		}
	}
}
