/* SPDX-License-Identifier: Apache-2.0 */
/* From operations to events, and which write each read saw: values are written once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tso/check_parts.h"

/* ---- events ---- */

/* An operation that may have happened: only what it may have written counts. */
static bool event_pending(struct event *e, const struct tso_op *op)
{
	e->end_ns = UINT64_MAX;
	switch (op->kind) {
	case TSO_STORE:
	case TSO_XCHG:
		e->writes = true;
		return true;
	case TSO_CMPXCHG:
		e->writes = true;
		return true;
	case TSO_XADD:
		e->writes = true;
		e->out = op->result + op->value;
		e->unknown = true;
		return true;
	default:
		return false;
	}
}

static void event_complete(struct event *e, const struct tso_op *op)
{
	bool updates = tso_kind_updates(op->kind);

	e->in = op->result;
	e->reads = op->kind == TSO_LOAD || updates;
	e->writes = op->kind == TSO_STORE ||
		    (updates && (op->kind != TSO_CMPXCHG || op->result == op->expect));
	e->fences = tso_kind_fences(op->kind);
	if (op->kind == TSO_XADD)
		e->out = op->result + op->value;
	e->end_ns = op->end_ns && op->kind != TSO_STORE ? op->end_ns : UINT64_MAX;
}

static bool event_make(const struct tso_history *h, uint32_t thread, uint32_t i, struct event *e)
{
	const struct tso_trace *t = &h->traces[thread];
	const struct tso_op *op = &t->ops[i];

	*e = (struct event){.out = op->value,
			    .begin_ns = op->begin_ns,
			    .thread = thread,
			    .index = i,
			    .source = EVENT_NONE,
			    .word = op->word};
	if (i >= t->done)
		return event_pending(e, op);
	event_complete(e, op);
	return true;
}

/* What has ended when a thread's fence has: the stores before it. */
static void stores_end(struct event *events, uint32_t first, uint32_t end)
{
	uint64_t drained_ns = UINT64_MAX;

	for (uint32_t i = end; i-- > first;) {
		struct event *e = &events[i];

		if (e->fences)
			drained_ns = e->end_ns;
		else if (e->writes && !e->reads)
			e->end_ns = drained_ns;
	}
}

static void thread_events(struct check *c, uint32_t thread)
{
	const struct tso_history *h = c->h;
	const struct tso_trace *t = &h->traces[thread];

	for (uint32_t i = 0; i < t->begun; i++)
		c->count += event_make(h, thread, i, &c->events[c->count]);
	stores_end(c->events, c->thread_first[thread], c->count);
}

int events_make(struct check *c)
{
	const struct tso_history *h = c->h;
	uint64_t room = h->words;

	for (unsigned t = 0; t < h->threads; t++)
		room += h->traces[t].begun;
	c->events = calloc(room + 1, sizeof(*c->events));
	if (!c->events)
		return -ENOMEM;
	for (unsigned t = 0; t < h->threads; t++) {
		c->thread_first[t] = c->count;
		thread_events(c, t);
	}
	c->thread_first[h->threads] = c->count;
	for (unsigned x = 0; x < h->words; x++)
		c->events[c->count++] = (struct event){.out = h->initial[x],
						       .thread = h->threads,
						       .index = x,
						       .source = EVENT_NONE,
						       .word = (uint8_t)x,
						       .writes = true};
	c->thread_first[h->threads + 1] = c->count;
	return 0;
}

/* ---- who wrote what ---- */

static int written_compare(const void *a, const void *b)
{
	const struct written *x = a, *y = b;

	if (x->word != y->word)
		return x->word < y->word ? -1 : 1;
	return (x->value > y->value) - (x->value < y->value);
}

static bool written_make(struct check *c)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->events[i].writes && !c->events[i].unknown)
			c->written[c->written_count++] =
				(struct written){c->events[i].out, i, c->events[i].word};
	qsort(c->written, c->written_count, sizeof(*c->written), written_compare);
	for (uint32_t i = 1; i < c->written_count; i++) {
		if (written_compare(&c->written[i - 1], &c->written[i]) != 0)
			continue;
		c->result->verdict = TSO_TWICE;
		line_add(c, c->written[i - 1].event, EDGE_CO, EVENT_NONE);
		line_add(c, c->written[i].event, EDGE_CO, EVENT_NONE);
		return false;
	}
	return true;
}

/*
 * The write of this value. An XADD that had not ended may have written any; it did this one if
 * what it must have found then was written, too. Depth: as many as had not ended.
 */
static uint32_t writer_find(struct check *c, unsigned word, uint64_t value)
{
	struct written key = {.value = value, .word = (uint8_t)word};
	const struct written *found =
		bsearch(&key, c->written, c->written_count, sizeof(*c->written), written_compare);

	if (found)
		return found->event;
	for (uint32_t i = 0; i < c->count; i++) {
		struct event *e = &c->events[i];

		if (!e->unknown || e->word != word || e->busy)
			continue;
		uint64_t added = c->h->traces[e->thread].ops[e->index].value;

		if (e->reads) {
			if (e->out == value)
				return i;
			continue;
		}
		e->busy = true;
		e->source = writer_find(c, word, value - added);
		e->busy = false;
		if (e->source == EVENT_NONE)
			continue;
		e->reads = true;
		e->in = value - added;
		e->out = value;
		return i;
	}
	return EVENT_NONE;
}

bool events_resolve(struct check *c)
{
	c->written = calloc(c->count + 1u, sizeof(*c->written));
	if (!c->written)
		return true; /* the lists below find no memory either */
	if (!written_make(c))
		return false;
	for (uint32_t i = 0; i < c->count; i++) {
		struct event *e = &c->events[i];

		if (!e->reads || e->source != EVENT_NONE)
			continue;
		e->source = writer_find(c, e->word, e->in);
		if (e->source != EVENT_NONE)
			continue;
		c->result->verdict = TSO_THIN_AIR;
		line_add(c, i, EDGE_RF, EVENT_NONE);
		return false;
	}
	return true;
}

/* A read of what its own thread stored, before a fence made sure that it was in memory. */
static void forwarded_mark(struct check *c, struct event *e)
{
	uint32_t self = (uint32_t)(e - c->events);

	if (!e->reads || e->fences || c->events[e->source].thread != e->thread || e->source > self)
		return;
	for (uint32_t i = e->source; i < self; i++)
		if (c->events[i].fences)
			return;
	e->forwarded = true;
}

/* ---- lists ---- */

static int lists_init(struct lists *l, uint32_t lists, uint32_t entries)
{
	l->first = calloc(lists + 2u, sizeof(*l->first));
	l->at = calloc(entries + 1u, sizeof(*l->at));
	return l->first && l->at ? 0 : -ENOMEM;
}

enum list_of {
	LIST_WORD,
	LIST_WRITES,
	LIST_READERS
};

static uint32_t list_key(const struct check *c, enum list_of of, const struct event *e)
{
	uint32_t key = e->thread * c->h->words + e->word;

	switch (of) {
	case LIST_WORD:
		return e->reads || e->writes ? key : EVENT_NONE;
	case LIST_WRITES:
		return e->writes ? key : EVENT_NONE;
	case LIST_READERS:
		return e->reads ? e->source : EVENT_NONE;
	}
	return EVENT_NONE;
}

static int lists_fill(struct check *c, struct lists *l, enum list_of of, uint32_t lists)
{
	if (lists_init(l, lists, c->count))
		return -ENOMEM;
	for (uint32_t i = 0; i < c->count; i++) {
		uint32_t key = list_key(c, of, &c->events[i]);

		if (key != EVENT_NONE)
			l->first[key + 2]++;
	}
	for (uint32_t k = 2; k <= lists; k++)
		l->first[k] += l->first[k - 1];
	for (uint32_t i = 0; i < c->count; i++) {
		uint32_t key = list_key(c, of, &c->events[i]);

		if (key != EVENT_NONE)
			l->at[l->first[key + 1]++] = i;
	}
	return 0;
}

int events_list(struct check *c)
{
	uint32_t keys = (c->h->threads + 1) * c->h->words;

	if (!c->written || lists_fill(c, &c->of_word, LIST_WORD, keys) ||
	    lists_fill(c, &c->writes, LIST_WRITES, keys) ||
	    lists_fill(c, &c->readers, LIST_READERS, c->count))
		return -ENOMEM;
	for (uint32_t i = 0; i < c->count; i++)
		forwarded_mark(c, &c->events[i]);
	/* A node is in at most two chains. */
	return lists_init(&c->of_chain, 2 * (c->h->threads + 1), 2 * c->count);
}
