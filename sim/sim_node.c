/* SPDX-License-Identifier: Apache-2.0 */
/* A slice without its machine: steps the protocol core and obeys its actions as dsm/engine/engine_step.c
 * does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/sim_parts.h"

/* Timers that come early, as those do that the engine has no room to keep. */
#define EARLY_ONE_IN 64
#define TIMER_LATE   (4 * NS_PER_US)

static struct protocol_config node_config(const struct sim *sim, unsigned n)
{
	const struct sim_config *c = &sim->config;
	unsigned total = c->nodes * (c->vcpus + 1), least = VCPUS_MAX + 4u * SLICES_MAX;
	return (struct protocol_config){
		.self = n,
		.slices = c->nodes,
		.epoch = 1,
		.sharer_group = c->group,
		.gfns = (uint64_t)c->nodes << CHUNK_PAGES_SHIFT,
		.home_of_chunk = sim->homes,
		.home_of_chunk_wide = sim->homes_wide,
		.hold_ns = c->hold_ns,
		/* As engine.c asks for. */
		.requests_max = c->vcpus + 1,
		.requests_total = total > least ? total : least,
	};
}

int node_init(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	struct protocol_config config = node_config(sim, n);
	node->mem_bytes = protocol_size(&config);
	if (!node->mem_bytes)
		return -EINVAL;
	node->mem = mmap(NULL, node->mem_bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (node->mem == MAP_FAILED) {
		node->mem = NULL;
		return -ENOMEM;
	}
	madvise(node->mem, node->mem_bytes, MADV_NOHUGEPAGE);
	node->protocol = protocol_init(node->mem, &config);
	node->frame = (uint64_t(*)[WORDS])sim->frames + (size_t)n * sim->config.pages;
	node->mapping = calloc(sim->config.pages, sizeof(node->mapping[0]));
	node->flying = calloc(sim->config.pages, sizeof(node->flying[0]));
	if (!node->mapping || !node->flying || cache_create(sim, n) < 0)
		return -ENOMEM;
	node->slow = 1;
	for (unsigned v = 0; v < sim->config.vcpus; v++)
		node->vcpu[v].random.state = sim->config.seed * 1000003 + n * 31 + v;
	return node->protocol ? 0 : -EINVAL;
}

void node_run(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	if (node->gone)
		return;
	node->runs = true;
	for (unsigned v = 0; v < sim->config.vcpus; v++) {
		if (node->vcpu[v].state != VCPU_OFF && node->vcpu[v].state != VCPU_PARKED)
			continue;
		node->vcpu[v].state = VCPU_READY;
		event_add(sim,
			  sim->now_ns + sim->resume_ns + random_below(&sim->random, 10 * NS_PER_US),
			  SIM_EVENT_VCPU, n, v, 0);
	}
}

static void map(struct sim *sim, unsigned n, unsigned page, enum mapping before, enum mapping after)
{
	struct node *node = &sim->node[n];
	if (node->mapping[page] != before)
		check_fail(sim, "actions", "node %u maps page %u from another state than it is in",
			   n, page);
	check_map(sim, n, page, after);
	node->mapping[page] = (uint8_t)after;
	cache_note(sim, n, page);
	if (after > before && !fault_now(sim, SIM_FAULT_SKIP_WAKE))
		vcpus_wake(sim, n, page);
}

static void unmap(struct sim *sim, unsigned n, unsigned page)
{
	struct node *node = &sim->node[n];
	if (node->mapping[page] == MAPPED_NONE)
		check_fail(sim, "actions", "node %u unmaps page %u, which is not mapped", n, page);
	if (fault_now(sim, SIM_FAULT_SKIP_UNMAP))
		return;
	check_map(sim, n, page, MAPPED_NONE);
	node->mapping[page] = MAPPED_NONE;
	cache_note(sim, n, page);
}

static void frame_fill(struct sim *sim, unsigned n, unsigned page, uint64_t word)
{
	check_frame(sim, n, page);
	for (unsigned i = 0; i < WORDS; i++)
		sim->node[n].frame[page][i] = word;
}

static void timer_set(struct sim *sim, unsigned n, unsigned page, uint64_t deadline_ns)
{
	uint64_t at = deadline_ns + random_below(&sim->random, TIMER_LATE);
	if (random_one_in(&sim->random, EARLY_ONE_IN))
		at = sim->now_ns;
	if (!fault_now(sim, SIM_FAULT_DROP_HOLD))
		event_add(sim, at, SIM_EVENT_TIMER, n, 0, page);
}

static void page_lost(struct sim *sim, unsigned n, unsigned page)
{
	if (!sim->lossy)
		check_fail(sim, "actions", "node %u says that page %u is lost, and no slice is", n,
			   page);
}

static void violation(struct sim *sim, unsigned n, const struct protocol_action *a, unsigned page)
{
	check_fail(sim, "violation",
		   "node %u sees %s from node %u for page %u, which is %s there:"
		   " %s",
		   n, wire_type_name(a->msg.type), a->to, page,
		   protocol_page_state(sim->node[n].protocol, a->gfn), a->why);
}

static void obey(struct sim *sim, unsigned n, const struct protocol_action *a)
{
	unsigned page = gfn_page(sim, a->gfn);
	switch (a->type) {
	case ACTION_SEND:
	case ACTION_SEND_PAGE:
		net_send(sim, n, a);
		break;
	case ACTION_ZERO_FRAME:
		frame_fill(sim, n, page, 0);
		break;
	case ACTION_MAP_SHARED:
		map(sim, n, page, MAPPED_NONE, MAPPED_READ);
		break;
	case ACTION_MAP_EXCLUSIVE:
		map(sim, n, page, MAPPED_NONE, MAPPED_WRITE);
		break;
	case ACTION_MAP_UPGRADE:
		map(sim, n, page, MAPPED_READ, MAPPED_WRITE);
		break;
	case ACTION_PROTECT:
		if (!fault_now(sim, SIM_FAULT_SKIP_PROTECT))
			map(sim, n, page, MAPPED_WRITE, MAPPED_READ);
		break;
	case ACTION_UNMAP:
		unmap(sim, n, page);
		break;
	case ACTION_WAKE:
		vcpus_wake(sim, n, page);
		break;
	case ACTION_HOLD_TIMER:
		timer_set(sim, n, page, a->deadline_ns);
		break;
	case ACTION_DROP_FRAME:
		/* The memory may go, which leaves zeroes. */
		check_frame(sim, n, page);
		if (random_one_in(&sim->random, 2))
			frame_fill(sim, n, page, 0);
		break;
	case ACTION_PAGE_LOST:
		page_lost(sim, n, page);
		break;
	case ACTION_VIOLATION:
		violation(sim, n, a, page);
		break;
	}
}

/* Steps one event and does all that it asks for, before the next. */
static int step(struct sim *sim, unsigned n, const struct protocol_event *event)
{
	int err = protocol_step(sim->node[n].protocol, event, &sim->actions);
	for (unsigned i = 0; i < sim->actions.count; i++)
		obey(sim, n, &sim->actions.list[i]);
	return err;
}

static int step_traced(struct sim *sim, unsigned n, const struct protocol_event *event,
		       struct record *record)
{
	struct protocol *p = sim->node[n].protocol;
	record->a = (uint16_t)n;
	record->page = gfn_page(sim, event->gfn);
	record->before = (uint8_t)page_state(p, event->gfn);
	int err = step(sim, n, event);
	record->after = (uint8_t)page_state(p, event->gfn);
	trace_add(sim, record);
	return err;
}

static int fault_step(struct sim *sim, unsigned n, unsigned page, bool write, bool again)
{
	struct protocol_event event = {.type = write ? EVENT_FAULT_WRITE : EVENT_FAULT_READ,
				       .gfn = page_gfn(sim, page),
				       .now_ns = sim->now_ns};
	struct record record = {.kind = again ? RECORD_FAULT_AGAIN : RECORD_FAULT, .flags = write};
	return step_traced(sim, n, &event, &record);
}

/* No request is free: once more after the next message. */
static void put_off(struct sim *sim, unsigned n, unsigned page, bool write)
{
	struct node *node = &sim->node[n];
	for (unsigned i = 0; i < node->put_off_count; i++) {
		if (node->put_off[i].page == page && node->put_off[i].write == write)
			return;
	}
	if (node->put_off_count == 2 * SIM_VCPUS_MAX)
		vcpus_wake(sim, n, page);
	else
		node->put_off[node->put_off_count++] = (struct put_off){page, write};
}

void node_fault(struct sim *sim, unsigned n, unsigned page, bool write)
{
	int err = fault_step(sim, n, page, write, false);
	homes_missed(sim, n, page);
	/* The kernel may report a fault twice. */
	if (!err && random_one_in(&sim->random, 64))
		err = fault_step(sim, n, page, write, true);
	if (err == -EAGAIN)
		put_off(sim, n, page, write);
	else if (err == -EOWNERDEAD && sim->lossy)
		vcpus_give_up(sim, n);
	else if (err)
		check_fail(sim, "actions", "node %u is refused page %u", n, page);
}

static void retry(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	while (node->put_off_count) {
		struct put_off *first = &node->put_off[0];
		if (fault_step(sim, n, first->page, first->write, true) == -EAGAIN)
			return;
		node->put_off_count--;
		memmove(first, first + 1, node->put_off_count * sizeof(*first));
	}
}

static void queue_sample(struct sim *sim, unsigned n)
{
	struct sim_result *r = sim->result;
	unsigned queued = sim->node[n].protocol->queued_remote;
	r->queue_max = queued > r->queue_max ? queued : r->queue_max;
	r->queue_sum += queued;
	r->queue_samples++;
}

void node_receive(struct sim *sim, unsigned from, unsigned n, const struct wire_msg *msg)
{
	struct protocol_event event = {.type = EVENT_MESSAGE,
				       .from = from,
				       .gfn = msg->gfn,
				       .now_ns = sim->now_ns,
				       .msg = *msg};
	struct record record = {.kind = RECORD_MESSAGE,
				.message = msg->type,
				.flags = msg->flags,
				.b = (uint16_t)from,
				.c = msg->requester,
				.value = msg->acks};
	step_traced(sim, n, &event, &record);
	if (page_home(sim, gfn_page(sim, msg->gfn)) == n) {
		fault_directory(sim, n, msg->gfn);
		queue_sample(sim, n);
	}
	retry(sim, n);
}

void node_timer(struct sim *sim, unsigned n, unsigned page)
{
	struct protocol_event event = {
		.type = EVENT_HOLD_END, .gfn = page_gfn(sim, page), .now_ns = sim->now_ns};
	struct record record = {.kind = RECORD_TIMER};
	step_traced(sim, n, &event, &record);
}

void node_evict(struct sim *sim, unsigned n, unsigned page)
{
	struct protocol_event event = {
		.type = EVENT_EVICT, .gfn = page_gfn(sim, page), .now_ns = sim->now_ns};
	struct record record = {.kind = RECORD_EVICT};
	sim->result->evictions++;
	step_traced(sim, n, &event, &record);
}

void node_evict_some(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	unsigned start = (unsigned)random_below(&sim->random, sim->config.pages);
	/* The first mapped page of a few: on a slice that has little there is little to do. */
	for (unsigned i = 0; i < 16; i++) {
		unsigned page = (start + i) % sim->config.pages;
		if (node->mapping[page] == MAPPED_NONE || page_home(sim, page) == n)
			continue;
		node_evict(sim, n, page);
		return;
	}
}

void node_learn(struct sim *sim, unsigned n, unsigned lost)
{
	struct node *node = &sim->node[n];
	if (node->gone || (node->loss_heard[lost / 64] & slice_bit(lost % 64)))
		return;
	node->loss_heard[lost / 64] |= slice_bit(lost % 64);
	trace_text(sim, RECORD_HAPPENS, n, lost, "learns of the loss of");
	net_drop_all(sim, lost, n);
	link_of(sim, lost, n)->closed = true;
	link_of(sim, n, lost)->closed = true;
	struct protocol_event event = {.type = EVENT_PEER_LOST, .from = lost};
	event.now_ns = sim->now_ns;
	while (step(sim, n, &event) == -EAGAIN)
		;
	retry(sim, n);
	vcpus_give_up(sim, n);
	node_ending(sim, n, lost);
}
