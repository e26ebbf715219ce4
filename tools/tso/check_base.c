/* SPDX-License-Identifier: Apache-2.0 */
/* The graphs' first edges: program order as far as TSO keeps it, reads-from, the clock. */
#include <errno.h>

#include "tools/tso/check_parts.h"

/*
 * Clocks of one host's CPUs agree to within some tens of nanoseconds; a page takes thousands from
 * one slice to another.
 */
#define CLOCK_SLACK_NS 100u

/* ---- one word at a time: all of program order ---- */

static void word_chains(struct check *c)
{
	struct graph *g = &c->word;
	uint32_t words = c->h->words, initial = c->thread_first[c->h->threads];

	for (uint32_t key = 0; key < (c->h->threads + 1) * words; key++) {
		const uint32_t *at = &c->of_word.at[c->of_word.first[key]];
		uint32_t count = c->of_word.first[key + 1] - c->of_word.first[key];

		for (uint32_t i = 0; i < count; i++) {
			uint32_t before = i ? at[i - 1] : initial + key % words;

			g->places[at[i]][0] = (struct place){key / words, i};
			if (before != at[i])
				graph_edge(g, before, at[i], i ? EDGE_PO : EDGE_SYNC, EVENT_NONE);
		}
	}
}

/* The reads at the end came after what each thread had done to the word. */
static void word_epilogue(struct check *c, uint32_t read)
{
	const struct event *e = &c->events[read];

	for (uint32_t t = 0; t < c->h->threads; t++) {
		uint32_t key = t * c->h->words + e->word, k = c->of_word.first[key + 1];

		while (k > c->of_word.first[key] &&
		       c->events[c->of_word.at[k - 1]].index >= c->h->traces[t].epilogue)
			k--;
		if (k > c->of_word.first[key])
			graph_edge(&c->word, c->of_word.at[k - 1], read, EDGE_SYNC, EVENT_NONE);
	}
}

/* ---- all words: what TSO keeps ---- */

/* The last nodes of a thread's chains. */
struct ends {
	uint32_t read, write, reads, writes;
};

static void all_place(struct check *c, uint32_t i, struct ends *ends)
{
	const struct event *e = &c->events[i];
	struct graph *g = &c->all;

	/* Fences and locked operations are in both chains: nothing passes them. */
	if (ends->read != EVENT_NONE)
		graph_edge(g, ends->read, i, EDGE_PO, EVENT_NONE);
	if (e->writes || e->fences) {
		if (ends->write != EVENT_NONE)
			graph_edge(g, ends->write, i, EDGE_PO, EVENT_NONE);
		g->places[i][1] = (struct place){2 * e->thread + 1, ends->writes++};
		ends->write = i;
	}
	if (e->reads || e->fences) {
		g->places[i][0] = (struct place){2 * e->thread, ends->reads++};
		ends->read = i;
	}
}

static void all_thread(struct check *c, uint32_t thread, struct ends *ends)
{
	const struct tso_trace *t = &c->h->traces[thread];
	uint32_t init_last = c->count - 1;

	*ends = (struct ends){EVENT_NONE, EVENT_NONE, 0, 0};
	for (uint32_t i = c->thread_first[thread]; i < c->thread_first[thread + 1]; i++) {
		const struct event *e = &c->events[i];

		if (e->index >= t->epilogue)
			return;
		if ((e->reads && ends->read == EVENT_NONE) ||
		    (e->writes && ends->write == EVENT_NONE) ||
		    (ends->read == EVENT_NONE && ends->write == EVENT_NONE))
			graph_edge(&c->all, init_last, i, EDGE_SYNC, EVENT_NONE);
		all_place(c, i, ends);
	}
}

/* The reads at the end began when all threads had ended and drained. */
static void all_epilogue(struct check *c, uint32_t thread, struct ends *ends)
{
	const struct tso_trace *t = &c->h->traces[thread];
	uint32_t i = c->thread_first[thread], end = c->thread_first[thread + 1];
	bool first = true;

	while (i < end && c->events[i].index < t->epilogue)
		i++;
	for (; i < end; i++, first = false) {
		word_epilogue(c, i);
		for (uint32_t other = 0; first && other < c->h->threads; other++) {
			if (ends[other].read != EVENT_NONE)
				graph_edge(&c->all, ends[other].read, i, EDGE_SYNC, EVENT_NONE);
			if (ends[other].write != EVENT_NONE)
				graph_edge(&c->all, ends[other].write, i, EDGE_SYNC, EVENT_NONE);
		}
		all_place(c, i, &ends[thread]);
	}
}

static void all_chains(struct check *c)
{
	struct ends ends[TSO_THREADS_MAX], init = {EVENT_NONE, EVENT_NONE, 0, 0};

	for (uint32_t i = c->thread_first[c->h->threads]; i < c->count; i++)
		all_place(c, i, &init);
	for (uint32_t t = 0; t < c->h->threads; t++)
		all_thread(c, t, &ends[t]);
	for (uint32_t t = 0; t < c->h->threads; t++) {
		struct ends at[TSO_THREADS_MAX];

		for (uint32_t other = 0; other < c->h->threads; other++)
			at[other] = ends[other];
		all_epilogue(c, t, at);
	}
}

/* A chain's nodes by their places, for looking up times. */
static void chains_list(struct check *c)
{
	uint32_t chains = c->all.chains, *first = c->of_chain.first;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < c->count; i++) {
			for (unsigned p = 0; p < 2; p++) {
				const struct place *place = &c->all.places[i][p];

				if (place->chain == GRAPH_NO_CHAIN)
					continue;
				if (pass == 0)
					first[place->chain + 1]++;
				else
					c->of_chain.at[first[place->chain] + place->at] = i;
			}
		}
		for (uint32_t k = 1; pass == 0 && k <= chains; k++)
			first[k] += first[k - 1];
	}
}

static void sources_add(struct check *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		const struct event *e = &c->events[i];

		if (!e->reads)
			continue;
		graph_edge(&c->word, e->source, i, EDGE_RF, EVENT_NONE);
		/* From its own thread it may come before it is in memory. */
		if (c->events[e->source].thread != e->thread)
			graph_edge(&c->all, e->source, i, EDGE_RF, EVENT_NONE);
	}
}

int graphs_make(struct check *c)
{
	if (graph_init(&c->word, c->count, c->h->threads + 1) ||
	    graph_init(&c->all, c->count, 2 * (c->h->threads + 1)))
		return -ENOMEM;
	/* A fence is no word's; it stands alone there. */
	for (uint32_t i = 0; i < c->count; i++)
		c->word.places[i][0] = (struct place){c->events[i].thread, UINT32_MAX - 1};
	word_chains(c);
	all_chains(c);
	chains_list(c);
	sources_add(c);
	return 0;
}

/* ---- the clock ---- */

static bool ended_before(const struct event *a, const struct event *b)
{
	return a->end_ns != UINT64_MAX && a->end_ns + CLOCK_SLACK_NS < b->begin_ns;
}

/* Ends do not fall along a chain: the last node that had ended speaks for those before it. */
static void time_all(struct check *c, uint32_t i, uint32_t chain)
{
	const uint32_t *at = &c->of_chain.at[c->of_chain.first[chain]];
	uint32_t low = 0, high = c->of_chain.first[chain + 1] - c->of_chain.first[chain];

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (ended_before(&c->events[at[middle]], &c->events[i]))
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0)
		graph_edge(&c->all, at[low - 1], i, EDGE_TIME, EVENT_NONE);
}

static void time_word(struct check *c, uint32_t i, uint32_t thread)
{
	uint32_t key = thread * c->h->words + c->events[i].word;

	for (uint32_t k = c->of_word.first[key + 1]; k-- > c->of_word.first[key];) {
		uint32_t before = c->of_word.at[k];

		if (c->events[before].forwarded || !ended_before(&c->events[before], &c->events[i]))
			continue;
		graph_edge(&c->word, before, i, EDGE_TIME, EVENT_NONE);
		return;
	}
}

void graphs_time(struct check *c)
{
	for (uint32_t i = 0; i < c->thread_first[c->h->threads]; i++) {
		const struct event *e = &c->events[i];

		for (uint32_t t = 0; t < c->h->threads; t++) {
			time_all(c, i, 2 * t);
			time_all(c, i, 2 * t + 1);
			if (e->reads || e->writes)
				time_word(c, i, t);
		}
	}
}
