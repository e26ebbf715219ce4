/* SPDX-License-Identifier: Apache-2.0 */
/* What ends a VM: a slice or a node that is gone, two slices that lose their connection. */
#include "sim/sim_parts.h"

/* Until a peer sees that a connection has ended. */
#define LEARN_NS (3 * NS_PER_MS)
/* From there until its process has ended: its vCPUs run on meanwhile. */
#define END_NS (5 * NS_PER_MS)

static void learn_later(struct sim *sim, unsigned n, unsigned lost)
{
	event_add(sim, sim->now_ns + 20 * NS_PER_US + random_below(&sim->random, LEARN_NS),
		  SIM_EVENT_LEARN, n, lost, 0);
}

void node_gone(struct sim *sim, unsigned n)
{
	struct node *node = &sim->node[n];
	if (node->gone)
		return;
	node->gone = true;
	node->runs = false;
	sim->lossy = true;
	trace_text(sim, RECORD_HAPPENS, n, 0, "is gone");
	check_forget(sim, n);
	for (unsigned i = 0; i < sim->config.nodes; i++) {
		/* What it had sent already may still arrive. */
		net_drop_all(sim, i, n);
		if (!sim->node[i].gone)
			learn_later(sim, i, n);
	}
}

void node_ending(struct sim *sim, unsigned n, unsigned lost)
{
	struct node *node = &sim->node[n];
	if (node->ending)
		return;
	node->ending = true;
	if (sim->control)
		control_slice_exits(sim, n, lost);
	event_add(sim, sim->now_ns + 100 * NS_PER_US + random_below(&sim->random, END_NS),
		  SIM_EVENT_END, n, 0, 0);
}

static void crash(struct sim *sim)
{
	unsigned n = (unsigned)random_below(&sim->random, sim->config.nodes);
	/* Its process only; its node, whose connections end; its node, which falls silent. */
	unsigned how = (unsigned)random_below(&sim->random, 3);
	sim->crashed = (int)n;
	if (sim->control)
		control_crashed(sim, n, how > 0, how > 1);
	node_gone(sim, n);
}

static void cut(struct sim *sim)
{
	unsigned a = (unsigned)random_below(&sim->random, sim->config.nodes);
	unsigned b = (a + 1 + (unsigned)random_below(&sim->random, sim->config.nodes - 1)) %
		     sim->config.nodes;
	trace_text(sim, RECORD_HAPPENS, a, b, "is cut off from");
	sim->lossy = true;
	learn_later(sim, a, b);
	learn_later(sim, b, a);
}

void fatal_happen(struct sim *sim)
{
	bool cuts = sim->config.disturbances & 1u << SIM_BIT_CUT;
	bool crashes = sim->config.disturbances & 1u << SIM_BIT_CRASH;
	if (!cuts && !crashes)
		return;
	sim->fatal_ns = sim->now_ns;
	if (cuts && (!crashes || random_one_in(&sim->random, 2))) {
		sim->result->disturbed[SIM_BIT_CUT]++;
		cut(sim);
	} else {
		sim->result->disturbed[SIM_BIT_CRASH]++;
		crash(sim);
	}
}
