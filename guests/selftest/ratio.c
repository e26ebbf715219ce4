/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test (d): the NUMA ratio. For every pair of a CPU's node and a memory's node: the mean time of
 * the first access to pages placed on, and first written by, the memory's node, and of a second
 * access once they have come; each over the time on the CPU's own node.
 */
#include <stdio.h>

#include "selftest.h"

#define AGAIN_PASSES 4

struct ratio {
	struct team *team;
	unsigned pages; /* for each pair */
	unsigned
		actor[NODES_MAX]; /* the member that acts for node n: one of its CPUs, else CPU 0 */
	bool has_cpu[NODES_MAX];
	char *memory[NODES_MAX]; /* on node n, `pages` for each node that reads them, and more to
				    warm up on */
	double ns[2][NODES_MAX][NODES_MAX]; /* [first, again][reader][memory] */
	bool bytes_wrong, placed_wrong;
	unsigned turn; /* the node whose CPU measures now */
};

/* The page that `reader` reads on `node`. */
static char *ratio_page(const struct ratio *r, unsigned node, unsigned reader, unsigned page)
{
	return r->memory[node] + ((size_t)reader * r->pages + page) * PAGE_SIZE;
}

static uint64_t page_pattern(unsigned node, unsigned reader, unsigned page)
{
	return random_at(node, (uint64_t)reader << 32 | page);
}

static void pages_write(struct ratio *r, unsigned node)
{
	for (unsigned reader = 0; reader <= r->team->topo->nodes; reader++)
		for (unsigned page = 0; page < r->pages; page++) {
			char *at = ratio_page(r, node, reader, page);
			*(uint64_t *)at = page_pattern(node, reader, page);
			if (topology_node_of(r->team->topo, at) != (int)r->team->topo->node[node])
				r->placed_wrong = true;
		}
}

/* Mean nanoseconds of one access to the pages of `node` that are `reader`'s. */
static double pages_read(struct ratio *r, unsigned node, unsigned reader)
{
	uint64_t wrong = 0, start = now_ns();
	for (unsigned page = 0; page < r->pages; page++) {
		const volatile uint64_t *word = (void *)ratio_page(r, node, reader, page);
		wrong |= *word ^ page_pattern(node, reader, page);
	}
	uint64_t end = now_ns();
	if (wrong)
		r->bytes_wrong = true;
	return (double)(end - start) / r->pages;
}

static void write_work(void *arg, unsigned i)
{
	struct ratio *r = arg;
	for (unsigned node = 0; node < r->team->topo->nodes; node++)
		if (r->actor[node] == i)
			pages_write(r, node);
}

/* One node measures at a time: on shared host cores they would measure each other. */
static void read_work(void *arg, unsigned i)
{
	struct ratio *r = arg;
	if (r->actor[r->turn] != i)
		return;
	/* Code, stack and clock come to this CPU before anything counts. */
	pages_read(r, r->turn, r->team->topo->nodes);
	for (unsigned node = 0; node < r->team->topo->nodes; node++) {
		r->ns[0][r->turn][node] = pages_read(r, node, r->turn);
		r->ns[1][r->turn][node] = pages_read(r, node, r->turn);
		/* What has come stays: the least of some passes is the one nobody interrupted. */
		for (unsigned pass = 1; pass < AGAIN_PASSES; pass++) {
			double ns = pages_read(r, node, r->turn);
			if (ns < r->ns[1][r->turn][node])
				r->ns[1][r->turn][node] = ns;
		}
	}
}

static void actors_choose(struct ratio *r)
{
	const struct topology *topo = r->team->topo;
	for (unsigned node = 0; node < topo->nodes; node++)
		for (unsigned i = topo->cpus; i-- > 0;)
			if (topo->cpu_node[i] == topo->node[node]) {
				r->actor[node] = i;
				r->has_cpu[node] = true;
			}
}

static void ratio_print(const struct ratio *r, unsigned pass, const char *title)
{
	const struct topology *topo = r->team->topo;
	printf("  numa   %s, ns (ratio to its own node)\n", title);
	for (unsigned reader = 0; reader < topo->nodes; reader++) {
		if (!r->has_cpu[reader])
			continue;
		const double *row = r->ns[pass][reader];
		printf("         node %2u:", topo->node[reader]);
		for (unsigned node = 0; node < topo->nodes; node++)
			printf("  %8.0f (%.2f)", row[node],
			       row[reader] > 0 ? row[node] / row[reader] : 0);
		printf("\n");
	}
}

const char *ratio_test(struct team *team, const struct options *opt)
{
	static struct ratio r; /* too large for a stack */
	const struct topology *topo = team->topo;
	r.team = team;
	r.pages = opt->pages;
	actors_choose(&r);
	for (unsigned node = 0; node < topo->nodes; node++) {
		size_t bytes = (size_t)(topo->nodes + 1) * r.pages * PAGE_SIZE;
		r.memory[node] = topology_map(topo, bytes, topo->node[node]);
		if (!r.memory[node])
			return "numa: no memory on one of the nodes";
	}
	team_run(team, write_work, &r);
	for (r.turn = 0; r.turn < topo->nodes; r.turn++)
		if (r.has_cpu[r.turn])
			team_run(team, read_work, &r);
	ratio_print(&r, 0, "first access");
	ratio_print(&r, 1, "once the page has come");
	if (r.bytes_wrong)
		return "numa: a page held other bytes than its node wrote";
	return r.placed_wrong ? "numa: memory did not come from the node it was asked of" : NULL;
}
