/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the checker share: events, which write each read saw, and the two graphs. */
#ifndef TSO_CHECK_PARTS_H
#define TSO_CHECK_PARTS_H

#include "tools/tso/check.h"

#define EVENT_NONE UINT32_MAX

struct event {
	uint64_t in, out; /* what it read and wrote */
	uint64_t begin_ns;
	uint64_t end_ns; /* a plain store is in memory at its thread's next fence, not before */
	uint32_t thread, index;
	uint32_t source; /* the write that it read */
	uint8_t word;
	bool reads, writes, fences;
	bool forwarded; /* maybe read from its own thread's store buffer: when, says nothing */
	bool unknown;	/* an XADD that had not ended: what it wrote is known if somebody read it */
	bool busy;	/* of such a one: being looked for */
};

/* A value's writer. */
struct written {
	uint64_t value;
	uint32_t event;
	uint8_t word;
};

/* Lists of events, one after the other: list k is at[first[k]] .. at[first[k + 1] - 1]. */
struct lists {
	uint32_t *first, *at;
};

struct check {
	const struct tso_history *h;
	struct tso_result *result;
	struct event *events; /* by thread, in program order; the initial values at the end */
	uint32_t count;
	uint32_t thread_first[TSO_THREADS_MAX + 2];
	struct written *written; /* sorted */
	uint32_t written_count;
	struct lists of_word;  /* a thread's events on a word: thread * words + word */
	struct lists writes;   /* those that write */
	struct lists readers;  /* of each write, by thread, in program order */
	struct lists of_chain; /* the nodes of each chain of `all` */
	/*
	 * word: each word's events; chains are threads. all: every event; each thread has two
	 * chains, what it reads (2t) and what it writes (2t + 1); a fence is in both. TSO orders
	 * neither write before read, so the chains are all that holds of program order, and that
	 * a write comes after the reads before it.
	 */
	struct graph word, all;
	bool word_alone; /* what is inferred is kept from `all` for now */
};

/* check_events.c */
int events_make(struct check *c);
/* Finds each read's write. False: the result says why that cannot be. */
bool events_resolve(struct check *c);
int events_list(struct check *c);

/* check_base.c */
/* Makes both graphs of program order, reads-from and the joint before the epilogue. */
int graphs_make(struct check *c);
/* Adds what the clock says. */
void graphs_time(struct check *c);

/* check.c */
/* One line of the result. */
void line_add(struct check *c, uint32_t event, enum edge_kind kind, uint32_t why);

#endif
