/* SPDX-License-Identifier: Apache-2.0 */
/* The checker: may x86-TSO, on one memory with one clock, have produced this history? */
#ifndef TSO_CHECK_H
#define TSO_CHECK_H

#include "tools/tso/graph.h"
#include "tools/tso/history.h"

enum tso_verdict {
	TSO_HOLDS,
	TSO_TWICE,     /* a value was written twice: the history cannot be judged */
	TSO_THIN_AIR,  /* a value was read that nobody wrote */
	TSO_COHERENCE, /* one word alone: its writes have no order that its reads agree with */
	TSO_ORDER,     /* several words: no order that x86-TSO allows */
	TSO_STALE,     /* one word and the clock: not linearizable */
	TSO_LATE,      /* several words and the clock */
	TSO_VERDICTS
};

/* A line of an explanation: an operation, and how it leads to the next one's. */
struct tso_line {
	uint32_t thread, index;
	enum edge_kind kind;
	uint32_t why_thread, why_index; /* TSO_NO_EPILOGUE: no reason is needed */
};

#define TSO_LINES_MAX 64u

struct tso_result {
	enum tso_verdict verdict;
	uint32_t events, edges;
	unsigned lines_count;
	struct tso_line lines[TSO_LINES_MAX];
};

/*
 * Judges a history. Sound: what it does not let pass cannot have happened on such a machine. What
 * it infers of the order of writes, it infers again and again until nothing new comes. 0 or
 * -ENOMEM. Any thread.
 */
int tso_check(const struct tso_history *h, struct tso_result *result);

/* "one word's reads contradict each other"; static storage. */
const char *tso_verdict_text(enum tso_verdict verdict);
/* The name in JSON: "coherence"; static storage. */
const char *tso_verdict_name(enum tso_verdict verdict);

/* Prints why it does not hold, a line for each event. */
void tso_result_print(FILE *out, const struct tso_history *h, const struct tso_result *result);

#endif
