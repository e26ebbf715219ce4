/* SPDX-License-Identifier: Apache-2.0 */
/* Faults that must be caught: ways to break coherence (player.c) or to spoil its record (here). */
#include "tools/tso/tool.h"

static const struct {
	const char *name, *text;
} faults[TSO_FAULTS] = {
	[FAULT_NONE] = {"none", "nothing"},
	[FAULT_PRIVATE_PAGE] = {"private-page", "slice 1 works on a copy of its own of one page"},
	[FAULT_LATE_STORE] = {"late-store", "stores of slice 1 come to memory much later, beyond "
					    "fences"},
	[FAULT_STALE_LOAD] = {"stale-load", "loads of slice 1 find what they found before"},
	[FAULT_TORN_UPDATE] = {"torn-update", "locked operations load, wait, and store"},
	[FAULT_THIN_AIR] = {"thin-air", "a load is said to have found what nobody wrote"},
	[FAULT_OLD_VALUE] = {"old-value", "a load is said to have found what its thread had seen "
					  "overwritten"},
	[FAULT_EARLY_VALUE] = {"early-value", "a load is said to have found what was written after "
					      "its end"},
	[FAULT_LOST_UPDATE] = {"lost-update", "two exchanges are said to have found the same"},
	[FAULT_FINAL_VALUE] = {"final-value", "a slice is said to have found another value at the "
					      "end"},
};

const char *fault_name(enum tso_fault fault)
{
	return faults[fault].name;
}

const char *fault_text(enum tso_fault fault)
{
	return faults[fault].text;
}

/* A place in a history. */
struct at {
	struct tso_history *h;
	unsigned thread;
	uint32_t index;
};

static struct tso_op *op_of(const struct at *at)
{
	return &at->h->traces[at->thread].ops[at->index];
}

static bool op_writes(const struct tso_op *op)
{
	return op->kind == TSO_STORE || op->kind == TSO_XCHG;
}

static bool thin_air(const struct at *at)
{
	struct tso_op *op = op_of(at);

	if (op->kind != TSO_LOAD)
		return false;
	op->result = ~op->result;
	return true;
}

static bool old_value(const struct at *at)
{
	struct tso_op *op = op_of(at);

	for (uint32_t i = 0; op->kind == TSO_LOAD && i < at->index; i++) {
		const struct tso_op *before = &at->h->traces[at->thread].ops[i];
		bool saw = before->kind == TSO_LOAD && before->result != at->h->initial[op->word];

		if (before->word != op->word || !(saw || op_writes(before)))
			continue;
		op->result = at->h->initial[op->word];
		return true;
	}
	return false;
}

static bool early_value(const struct at *at)
{
	struct tso_op *op = op_of(at);

	for (unsigned t = 0; op->kind == TSO_LOAD && t < at->h->threads; t++) {
		const struct tso_trace *trace = &at->h->traces[t];

		for (uint32_t i = 0; i < trace->done; i++) {
			const struct tso_op *other = &trace->ops[i];

			/* Well after: clocks are not compared to the nanosecond. */
			if (!op_writes(other) || other->word != op->word ||
			    other->begin_ns < op->end_ns + 1000)
				continue;
			op->result = other->value;
			return true;
		}
	}
	return false;
}

static bool lost_update(const struct at *at)
{
	struct tso_op *op = op_of(at);

	for (unsigned t = 0; op->kind == TSO_XCHG && t < at->h->threads; t++) {
		const struct tso_trace *trace = &at->h->traces[t];

		for (uint32_t i = 0; i < trace->done; i++) {
			const struct tso_op *other = &trace->ops[i];

			if (other == op || other->kind != TSO_XCHG || other->word != op->word)
				continue;
			op->result = other->result;
			return true;
		}
	}
	return false;
}

static bool final_value(const struct at *at)
{
	struct tso_op *op = op_of(at);

	if (at->index < at->h->traces[at->thread].epilogue ||
	    op->result == at->h->initial[op->word])
		return false;
	op->result = at->h->initial[op->word];
	return true;
}

bool fault_spoil(enum tso_fault fault, struct tso_history *h, uint64_t *random)
{
	static bool (*const spoil[TSO_FAULTS])(const struct at *) = {
		[FAULT_THIN_AIR] = thin_air,	   [FAULT_OLD_VALUE] = old_value,
		[FAULT_EARLY_VALUE] = early_value, [FAULT_LOST_UPDATE] = lost_update,
		[FAULT_FINAL_VALUE] = final_value,
	};
	unsigned first = random_below(random, h->threads);

	for (unsigned k = 0; spoil[fault] && k < h->threads; k++) {
		struct at at = {.h = h, .thread = (first + k) % h->threads};
		uint32_t done = h->traces[at.thread].done, start = random_below(random, done + 1);

		for (uint32_t i = 0; i < done; i++) {
			at.index = (start + i) % done;
			if (spoil[fault](&at))
				return true;
		}
	}
	return false;
}
