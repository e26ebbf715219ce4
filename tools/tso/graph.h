/* SPDX-License-Identifier: Apache-2.0 */
/* A growing graph of events in chains: an order of them or a cycle, and what reaches what. */
#ifndef TSO_GRAPH_H
#define TSO_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#define GRAPH_NO_CHAIN UINT32_MAX
#define GRAPH_NO_NODE  UINT32_MAX

enum edge_kind {
	EDGE_PO,   /* program order, as far as it holds */
	EDGE_SYNC, /* all threads had ended when it began */
	EDGE_RF,   /* reads what was written */
	EDGE_CO,   /* is overwritten by */
	EDGE_FR,   /* read what this overwrote */
	EDGE_TIME, /* had ended when it began */
};

struct edge {
	uint32_t from, to;
	uint32_t why; /* EDGE_CO: the read that forces it; or GRAPH_NO_NODE */
	enum edge_kind kind;
};

/* A node's place in a chain; each node of a chain reaches those after it. */
struct place {
	uint32_t chain, at;
};

struct graph {
	uint32_t nodes, chains;
	struct place (*places)[2]; /* of each node; chain GRAPH_NO_CHAIN: none */
	struct edge *edges;
	uint32_t edges_count, edges_capacity;
	/* Of each node and chain: how many of the chain's first nodes reach the node or are it. */
	uint32_t *clocks;
	uint32_t *first, *out; /* the edges from node n: out[first[n]] .. out[first[n + 1] - 1] */
	uint32_t *indegree, *queue;
	bool no_memory; /* an edge could not be kept */
};

/* Makes a graph without edges and places. 0 or -ENOMEM; free it in either case. */
int graph_init(struct graph *g, uint32_t nodes, uint32_t chains);
void graph_free(struct graph *g);

/* Adds an edge, unless from reached to when graph_order was last called. Says if it was added. */
bool graph_edge(struct graph *g, uint32_t from, uint32_t to, enum edge_kind kind, uint32_t why);

/* Finds out what reaches what. False: there is a cycle, or (no_memory) no memory. */
bool graph_order(struct graph *g);

/*
 * After graph_order found a cycle: one with few edges but for program order, as edges in turn.
 * Returns how many, at most max.
 */
unsigned graph_cycle(struct graph *g, struct edge *out, unsigned max);

static inline uint32_t graph_clock(const struct graph *g, uint32_t node, uint32_t chain)
{
	return g->clocks[(uint64_t)node * g->chains + chain];
}

#endif
