/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPUs: each makes one access after another, and waits in a fault where it must. */
#include <string.h>

#include "sim/sim_parts.h"

/* From an access to the next, and from a wake-up to the access that waited. */
#define THINK_NS (3 * NS_PER_US)
#define WAKE_NS	 (2 * NS_PER_US)

static void vcpu_later(struct sim *sim, unsigned n, unsigned v, uint64_t ns)
{
	struct node *node = &sim->node[n];
	uint64_t at = sim->now_ns + (100 + random_below(&sim->random, ns)) * node->slow;
	node->vcpu[v].state = VCPU_READY;
	event_add(sim, at > node->paused_ns ? at : node->paused_ns, SIM_EVENT_VCPU, n, v, 0);
}

static bool access_allowed(const struct node *node, const struct access *access)
{
	enum mapping mapping = node->mapping[access->page];
	return mapping == MAPPED_WRITE || (mapping == MAPPED_READ && !access->write);
}

static void access_make(struct sim *sim, unsigned n, unsigned v, const struct access *access)
{
	struct node *node = &sim->node[n];
	uint64_t *frame = node->frame[access->page];
	struct record record = {.kind = access->write ? RECORD_WRITE : RECORD_READ,
				.a = (uint16_t)n,
				.b = (uint16_t)v,
				.c = access->word,
				.page = access->page};
	if (access->write) {
		check_frame(sim, n, access->page);
		check_write(sim, n, access);
		if (access->clear)
			memset(frame, 0, sizeof(node->frame[0]));
		else
			frame[access->word] = sim->written;
	} else {
		check_read(sim, n, access);
	}
	if (node->used_ns)
		node->used_ns[access->page] = sim->now_ns;
	record.value = frame[access->word];
	trace_add(sim, &record);
}

static void wait_note(struct sim *sim, uint64_t ns)
{
	unsigned exponent = 63 - (unsigned)__builtin_clzll(ns | WAIT_STEPS);
	sim->wait[exponent * WAIT_STEPS + (ns >> (exponent - 5)) % WAIT_STEPS]++;
}

static void access_done(struct sim *sim, unsigned n, struct vcpu *vcpu)
{
	struct sim_result *r = sim->result;
	r->accesses++;
	r->node_accesses[n] += !sim->parking;
	vcpu->done++;
	vcpu->has_access = false;
	if (!vcpu->has_waited)
		return;
	uint64_t waited_ns = sim->now_ns - vcpu->since_ns;
	vcpu->has_waited = false;
	r->waits++;
	r->wait_total_ns += waited_ns;
	wait_note(sim, waited_ns);
	r->wait_max_ns = waited_ns > r->wait_max_ns ? waited_ns : r->wait_max_ns;
}

void vcpu_go(struct sim *sim, unsigned n, unsigned v)
{
	struct node *node = &sim->node[n];
	struct vcpu *vcpu = &node->vcpu[v];
	if (!node->runs || vcpu->state != VCPU_READY)
		return;
	if (sim->now_ns < node->paused_ns) {
		event_add(sim, node->paused_ns, SIM_EVENT_VCPU, n, v, 0);
		return;
	}
	if (!vcpu->has_access && (sim->parking || vcpu->done >= sim->quota)) {
		vcpu->state = VCPU_PARKED;
		return;
	}
	if (!vcpu->has_access) {
		vcpu->access = access_next(sim, n, v);
		vcpu->has_access = true;
	}
	if (access_allowed(node, &vcpu->access)) {
		access_make(sim, n, v, &vcpu->access);
		access_done(sim, n, vcpu);
		vcpu_later(sim, n, v, THINK_NS);
		return;
	}
	if (!vcpu->has_waited)
		vcpu->since_ns = sim->now_ns;
	vcpu->has_waited = true;
	/* Before the step, which may answer at once. */
	vcpu->state = VCPU_WAITING;
	cache_make_room(sim, n, vcpu->access.page);
	node_fault(sim, n, vcpu->access.page, vcpu->access.write);
}

void vcpus_wake(struct sim *sim, unsigned n, unsigned page)
{
	struct node *node = &sim->node[n];
	for (unsigned v = 0; v < sim->config.vcpus; v++) {
		if (node->vcpu[v].state == VCPU_WAITING && node->vcpu[v].access.page == page)
			vcpu_later(sim, n, v, WAKE_NS);
	}
}

void vcpus_give_up(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	for (unsigned v = 0; v < sim->config.vcpus; v++) {
		if (node->vcpu[v].state == VCPU_WAITING)
			node->vcpu[v].state = VCPU_GIVEN_UP;
	}
}
