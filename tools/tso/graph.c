/* SPDX-License-Identifier: Apache-2.0 */
/* The graph: edges, topological order with a clock for each node, short cycles. */
#include "tools/tso/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Nodes from which a short cycle is looked for: enough to find one that reads well. */
#define CYCLE_STARTS_MAX 512u

int graph_init(struct graph *g, uint32_t nodes, uint32_t chains)
{
	*g = (struct graph){.nodes = nodes, .chains = chains, .edges_capacity = 8 * nodes + 16};
	g->places = calloc(nodes + 1u, sizeof(*g->places));
	g->edges = calloc(g->edges_capacity, sizeof(*g->edges));
	g->clocks = calloc((uint64_t)nodes * chains + 1, sizeof(*g->clocks));
	g->first = calloc(nodes + 2u, sizeof(*g->first));
	g->indegree = calloc(nodes + 1u, sizeof(*g->indegree));
	g->queue = calloc(nodes + 1u, sizeof(*g->queue));
	if (!g->places || !g->edges || !g->clocks || !g->first || !g->indegree || !g->queue)
		return -ENOMEM;
	for (uint32_t n = 0; n < nodes; n++)
		g->places[n][0].chain = g->places[n][1].chain = GRAPH_NO_CHAIN;
	return 0;
}

void graph_free(struct graph *g)
{
	free(g->places);
	free(g->edges);
	free(g->clocks);
	free(g->first);
	free(g->out);
	free(g->indegree);
	free(g->queue);
}

static bool reaches(const struct graph *g, uint32_t from, uint32_t to)
{
	const struct place *place = g->places[from];

	if (place->chain == GRAPH_NO_CHAIN)
		place++;
	return graph_clock(g, to, place->chain) > place->at;
}

bool graph_edge(struct graph *g, uint32_t from, uint32_t to, enum edge_kind kind, uint32_t why)
{
	if (reaches(g, from, to) || g->no_memory)
		return false;
	if (g->edges_count == g->edges_capacity) {
		uint64_t capacity = (uint64_t)g->edges_capacity * 2;
		struct edge *edges =
			capacity < UINT32_MAX ? realloc(g->edges, capacity * sizeof(*edges)) : NULL;

		if (!edges) {
			g->no_memory = true;
			return false;
		}
		g->edges = edges;
		g->edges_capacity = (uint32_t)capacity;
	}
	g->edges[g->edges_count++] = (struct edge){from, to, why, kind};
	return true;
}

/* Sorts the edges by where they begin, and counts those that end at each node. */
static bool edges_sort(struct graph *g)
{
	uint32_t *out = realloc(g->out, (g->edges_count + 1u) * sizeof(*out));

	if (!out) {
		g->no_memory = true;
		return false;
	}
	g->out = out;
	memset(g->first, 0, (g->nodes + 2u) * sizeof(*g->first));
	memset(g->indegree, 0, g->nodes * sizeof(*g->indegree));
	for (uint32_t i = 0; i < g->edges_count; i++) {
		g->first[g->edges[i].from + 2]++;
		g->indegree[g->edges[i].to]++;
	}
	for (uint32_t n = 2; n <= g->nodes; n++)
		g->first[n] += g->first[n - 1];
	for (uint32_t i = 0; i < g->edges_count; i++)
		g->out[g->first[g->edges[i].from + 1]++] = i;
	return true;
}

static void clock_merge(struct graph *g, uint32_t from, uint32_t to)
{
	const uint32_t *a = &g->clocks[(uint64_t)from * g->chains];
	uint32_t *b = &g->clocks[(uint64_t)to * g->chains];

	for (uint32_t c = 0; c < g->chains; c++)
		b[c] = a[c] > b[c] ? a[c] : b[c];
}

static void clock_own(struct graph *g, uint32_t node)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct place *place = &g->places[node][i];

		if (place->chain != GRAPH_NO_CHAIN)
			g->clocks[(uint64_t)node * g->chains + place->chain] = place->at + 1;
	}
}

bool graph_order(struct graph *g)
{
	uint32_t head = 0, tail = 0;

	if (g->no_memory || !edges_sort(g))
		return false;
	for (uint32_t n = 0; n < g->nodes; n++)
		if (g->indegree[n] == 0)
			g->queue[tail++] = n;
	while (head < tail) {
		uint32_t node = g->queue[head++];

		clock_own(g, node);
		for (uint32_t i = g->first[node]; i < g->first[node + 1]; i++) {
			uint32_t to = g->edges[g->out[i]].to;

			clock_merge(g, node, to);
			if (--g->indegree[to] == 0)
				g->queue[tail++] = to;
		}
	}
	return tail == g->nodes;
}

/* ---- a short cycle, among the nodes that have an edge from before ---- */

struct hunt {
	uint32_t *cost, *by; /* of each node: crossings from the start, and the last edge */
	uint32_t *ring;	     /* of nodes to look at, those of the same cost first */
	uint32_t size, head, count;
};

static void ring_put(struct hunt *h, uint32_t node, bool first)
{
	if (h->count == h->size)
		return; /* each node enters at most twice: cannot be */
	if (first)
		h->head = (h->head + h->size - 1) % h->size;
	h->ring[first ? h->head : (h->head + h->count) % h->size] = node;
	h->count++;
}

static void edges_follow(struct graph *g, struct hunt *h, uint32_t node, uint32_t start)
{
	for (uint32_t i = g->first[node]; i < g->first[node + 1]; i++) {
		const struct edge *edge = &g->edges[g->out[i]];
		uint32_t cost = h->cost[node] + (edge->kind != EDGE_PO);

		if (g->indegree[edge->to] == 0 || cost >= h->cost[edge->to])
			continue;
		h->cost[edge->to] = cost;
		h->by[edge->to] = g->out[i];
		if (edge->to != start)
			ring_put(h, edge->to, edge->kind == EDGE_PO);
	}
}

/* The least crossings on a way from start back to it. */
static uint32_t cycle_cost(struct graph *g, struct hunt *h, uint32_t start)
{
	memset(h->cost, 0xff, g->nodes * sizeof(*h->cost));
	h->head = h->count = 0;
	/* The start is entered by a price of its own, so that coming back to it can be told. */
	for (uint32_t i = g->first[start]; i < g->first[start + 1]; i++) {
		const struct edge *edge = &g->edges[g->out[i]];
		uint32_t cost = edge->kind != EDGE_PO;

		if (g->indegree[edge->to] == 0 || cost >= h->cost[edge->to])
			continue;
		h->cost[edge->to] = cost;
		h->by[edge->to] = g->out[i];
		ring_put(h, edge->to, cost == 0);
	}
	while (h->count > 0) {
		uint32_t node = h->ring[h->head];

		h->head = (h->head + 1) % h->size;
		h->count--;
		edges_follow(g, h, node, start);
	}
	return h->cost[start];
}

static unsigned cycle_take(const struct graph *g, const struct hunt *h, uint32_t start,
			   struct edge *out, unsigned max)
{
	unsigned count = 0;
	uint32_t node = start;

	do {
		out[count] = g->edges[h->by[node]];
		node = out[count++].from;
	} while (node != start && count < max);
	for (unsigned i = 0; i < count / 2; i++) {
		struct edge swap = out[i];

		out[i] = out[count - 1 - i];
		out[count - 1 - i] = swap;
	}
	return count;
}

static unsigned cycle_hunt(struct graph *g, struct hunt *h, struct edge *out, unsigned max)
{
	uint32_t best = GRAPH_NO_NODE, best_cost = UINT32_MAX, starts = 0;

	for (uint32_t n = 0; n < g->nodes && starts < CYCLE_STARTS_MAX; n++) {
		if (g->indegree[n] == 0)
			continue;
		starts++;
		uint32_t cost = cycle_cost(g, h, n);

		if (cost < best_cost) {
			best_cost = cost;
			best = n;
		}
	}
	if (best == GRAPH_NO_NODE)
		return 0;
	(void)cycle_cost(g, h, best);
	return cycle_take(g, h, best, out, max);
}

/* Keeps of the nodes with edges from before those that have edges to behind, too: the cycles. */
static void tails_drop(struct graph *g)
{
	bool changed = true;

	while (changed) {
		changed = false;
		for (uint32_t n = 0; n < g->nodes; n++) {
			bool leads = false;

			if (g->indegree[n] == 0)
				continue;
			for (uint32_t i = g->first[n]; i < g->first[n + 1] && !leads; i++)
				leads = g->indegree[g->edges[g->out[i]].to] != 0;
			if (leads)
				continue;
			g->indegree[n] = 0;
			changed = true;
		}
	}
}

unsigned graph_cycle(struct graph *g, struct edge *out, unsigned max)
{
	struct hunt h = {.size = 4 * g->edges_count + 4};
	unsigned count = 0;

	tails_drop(g);
	h.cost = calloc(g->nodes + 1u, sizeof(*h.cost));
	h.by = calloc(g->nodes + 1u, sizeof(*h.by));
	h.ring = calloc(h.size, sizeof(*h.ring));
	if (h.cost && h.by && h.ring)
		count = cycle_hunt(g, &h, out, max);
	free(h.cost);
	free(h.by);
	free(h.ring);
	return count;
}
