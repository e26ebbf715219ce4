/* SPDX-License-Identifier: Apache-2.0 */
/* The checker: grows the order of writes from what was read until it contradicts itself or not. */
#include "tools/tso/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tso/check_parts.h"

/* Edges of a cycle before program order is drawn together. */
#define CYCLE_MAX 65536u

void line_add(struct check *c, uint32_t event, enum edge_kind kind, uint32_t why)
{
	struct tso_result *r = c->result;
	struct tso_line *line = &r->lines[r->lines_count];

	if (r->lines_count == TSO_LINES_MAX)
		return;
	*line = (struct tso_line){.thread = c->events[event].thread,
				  .index = c->events[event].index,
				  .kind = kind,
				  .why_thread = TSO_NO_EPILOGUE};
	if (why != EVENT_NONE) {
		line->why_thread = c->events[why].thread;
		line->why_index = c->events[why].index;
	}
	r->lines_count++;
}

/* ---- inference ---- */

/* The last write of the thread to e's word that reaches e in g. */
static uint32_t write_before(const struct check *c, const struct graph *g, uint32_t e,
			     uint32_t thread)
{
	unsigned in = g == &c->all; /* a write's place in its thread's chain of writes */
	uint32_t key = thread * c->h->words + c->events[e].word;
	uint32_t reached = graph_clock(g, e, in ? 2 * thread + 1 : thread);
	uint32_t low = c->writes.first[key], high = c->writes.first[key + 1];

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (g->places[c->writes.at[middle]][in].at < reached)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > c->writes.first[key] && c->writes.at[low - 1] == e)
		low--;
	return low > c->writes.first[key] ? c->writes.at[low - 1] : EVENT_NONE;
}

static bool both_add(struct check *c, uint32_t from, uint32_t to, enum edge_kind kind, uint32_t why)
{
	bool word = graph_edge(&c->word, from, to, kind, why);
	bool all = !c->word_alone && graph_edge(&c->all, from, to, kind, why);

	return word || all;
}

/* `before` was overwritten by e: who read it, read it before. */
static bool overwritten(struct check *c, uint32_t before, uint32_t e)
{
	bool added = both_add(c, before, e, EDGE_CO, EVENT_NONE);
	uint32_t end = c->readers.first[before + 1];

	for (uint32_t k = c->readers.first[before]; k < end; k++) {
		uint32_t reader = c->readers.at[k];
		/* A thread's last reader comes after its others. */
		bool last = k + 1 == end ||
			    c->events[c->readers.at[k + 1]].thread != c->events[reader].thread;

		if (last && reader != e)
			added |= both_add(c, reader, e, EDGE_FR, EVENT_NONE);
	}
	return added;
}

/* What reaches a write was overwritten by it; what reaches a read, by what was read. */
static bool infer(struct check *c, const struct graph *g)
{
	bool added = false;

	for (uint32_t i = 0; i < c->count; i++) {
		const struct event *e = &c->events[i];

		for (uint32_t t = 0; (e->reads || e->writes) && t <= c->h->threads; t++) {
			uint32_t before = write_before(c, g, i, t);

			if (before == EVENT_NONE)
				continue;
			if (e->writes)
				added |= overwritten(c, before, i);
			if (e->reads && before != e->source)
				added |= both_add(c, before, e->source, EDGE_CO, i);
		}
	}
	return added;
}

/* ---- contradictions ---- */

/* Several steps of program order are one. */
static void cycle_lines(struct check *c, const struct edge *cycle, unsigned count)
{
	unsigned start = 0;

	while (start < count && cycle[start].kind == EDGE_PO)
		start++;
	start++;
	for (unsigned i = 0; i < count; i++) {
		const struct edge *edge = &cycle[(start + i) % count];
		const struct edge *last = &cycle[(start + i + count - 1) % count];

		if (edge->kind != EDGE_PO || last->kind != EDGE_PO)
			line_add(c, edge->from, edge->kind, edge->why);
	}
}

static int cycle_report(struct check *c, struct graph *g, enum tso_verdict verdict)
{
	struct edge *cycle = calloc(CYCLE_MAX, sizeof(*cycle));
	unsigned count = cycle ? graph_cycle(g, cycle, CYCLE_MAX) : 0;

	if (count > 0) {
		c->result->verdict = verdict;
		cycle_lines(c, cycle, count);
	}
	free(cycle);
	return count > 0 ? 0 : -ENOMEM;
}

/* 0: an order; 1: a contradiction, in the result; or -ENOMEM. */
static int order_or_report(struct check *c, struct graph *g, enum tso_verdict verdict)
{
	int err;

	if (graph_order(g))
		return 0;
	err = g->no_memory ? -ENOMEM : cycle_report(c, g, verdict);
	return err ? err : 1;
}

/* Infers until nothing new comes: first from each word alone, which makes the plainer reports. */
static int saturate(struct check *c, enum tso_verdict one, enum tso_verdict several)
{
	int end = order_or_report(c, &c->word, one);

	c->word_alone = true;
	while (!end && infer(c, &c->word))
		end = order_or_report(c, &c->word, one);
	c->word_alone = false;
	for (bool added = true; added && !end;) {
		end = order_or_report(c, &c->all, several);
		if (!end)
			end = order_or_report(c, &c->word, several);
		if (end)
			break;
		added = infer(c, &c->word) || infer(c, &c->all);
	}
	return end;
}

static int check_run(struct check *c)
{
	int end = events_make(c);

	if (end)
		return end;
	c->result->events = c->count;
	if (!events_resolve(c))
		return 0;
	end = events_list(c);
	if (!end)
		end = graphs_make(c);
	if (!end)
		end = saturate(c, TSO_COHERENCE, TSO_ORDER);
	if (!end) {
		graphs_time(c);
		end = saturate(c, TSO_STALE, TSO_LATE);
	}
	return end < 0 ? end : 0;
}

int tso_check(const struct tso_history *h, struct tso_result *result)
{
	struct check c = {.h = h, .result = result};
	int err;

	*result = (struct tso_result){.verdict = TSO_HOLDS};
	err = check_run(&c);
	result->edges = c.word.edges_count + c.all.edges_count;
	free(c.events);
	free(c.written);
	for (unsigned i = 0; i < 4; i++) {
		struct lists *l[] = {&c.of_word, &c.writes, &c.readers, &c.of_chain};

		free(l[i]->first);
		free(l[i]->at);
	}
	graph_free(&c.word);
	graph_free(&c.all);
	return err;
}
