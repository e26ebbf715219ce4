/* SPDX-License-Identifier: Apache-2.0 */
/* What happened: a hash over all of it, the last of it in a ring, and each as one line. */
#include <string.h>

#include "sim/sim_parts.h"

static uint64_t hash_word(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
	return hash ^ (hash >> 32);
}

static uint64_t record_hash(uint64_t hash, const struct record *r)
{
	hash = hash_word(hash, r->time_ns);
	hash = hash_word(hash, r->kind | (uint64_t)r->message << 8 | (uint64_t)r->before << 16 |
				       (uint64_t)r->after << 24 | (uint64_t)r->flags << 32);
	hash = hash_word(hash, r->a | (uint64_t)r->b << 16 | (uint64_t)r->c << 32);
	hash = hash_word(hash, r->page);
	hash = hash_word(hash, r->value);
	for (const char *c = r->text; *c; c++)
		hash = hash_word(hash, (uint8_t)*c);
	return hash;
}

static void print_message(const struct record *r, FILE *out)
{
	fprintf(out, "%s%s%s from %u", wire_type_name(r->message),
		r->flags & MSG_FLAG_EXCLUSIVE ? " M" : "", r->flags & MSG_FLAG_ZERO ? " zero" : "",
		r->b);
	if (r->c != r->b && r->c != r->a)
		fprintf(out, " for %u", r->c);
	if (r->value)
		fprintf(out, ", %llu ACKs", (unsigned long long)r->value);
	fprintf(out, ": page %u %s -> %s", r->page, page_state_name(r->before),
		page_state_name(r->after));
}

static void record_print(const struct record *r, FILE *out)
{
	fprintf(out, "%12.3f us  ", (double)r->time_ns / 1000);
	if (r->a == RECORD_OWNER)
		fprintf(out, "owner  ");
	else
		fprintf(out, "node %u  ", r->a);
	switch ((enum record_kind)r->kind) {
	case RECORD_READ:
	case RECORD_WRITE:
		fprintf(out, "vCPU %u %s page %u word %u: %llu", r->b,
			r->kind == RECORD_READ ? "reads" : "writes", r->page, r->c,
			(unsigned long long)r->value);
		break;
	case RECORD_FAULT:
	case RECORD_FAULT_AGAIN:
		fprintf(out, "%s fault%s: page %u %s -> %s", r->flags ? "write" : "read",
			r->kind == RECORD_FAULT ? "" : " (stepped again)", r->page,
			page_state_name(r->before), page_state_name(r->after));
		break;
	case RECORD_MESSAGE:
		print_message(r, out);
		break;
	case RECORD_TIMER:
	case RECORD_EVICT:
		fprintf(out, "%s: page %u %s -> %s",
			r->kind == RECORD_TIMER ? "end of hold" : "evicts", r->page,
			page_state_name(r->before), page_state_name(r->after));
		break;
	case RECORD_TELL:
		fprintf(out, "%s %s", r->b ? "is told" : "says", r->text);
		break;
	case RECORD_HAPPENS:
		fprintf(out, "%s (%u)", r->text, r->b);
		break;
	}
	fputc('\n', out);
}

void trace_add(struct sim *sim, const struct record *record)
{
	struct trace *t = &sim->trace;
	struct record *slot = &t->ring[t->count++ % t->room];
	*slot = *record;
	slot->time_ns = sim->now_ns;
	t->hash = record_hash(t->hash, slot);
	if (t->file)
		record_print(slot, t->file);
}

void trace_text(struct sim *sim, enum record_kind kind, unsigned a, unsigned b, const char *text)
{
	struct record r = {.kind = (uint8_t)kind, .a = (uint16_t)a, .b = (uint16_t)b};
	snprintf(r.text, sizeof(r.text), "%s", text);
	trace_add(sim, &r);
}

void trace_print_last(struct sim *sim, FILE *out)
{
	struct trace *t = &sim->trace;
	uint64_t count = t->count < t->room ? t->count : t->room;
	for (uint64_t i = t->count - count; i < t->count; i++)
		record_print(&t->ring[i % t->room], out);
}
