/* SPDX-License-Identifier: Apache-2.0 */
/* What the litmus driver and its table of tests share. */
#ifndef GUESTS_MICRO_PROGRAMS_LITMUS_H
#define GUESTS_MICRO_PROGRAMS_LITMUS_H

#include "guests/micro/lib/guest.h"

#define LITMUS_THREADS_MAX 4
#define LITMUS_REGS_MAX	   4

/* One iteration's two variables, on two pages; r: where the thread leaves what it read. */
struct litmus_cell {
	volatile uint64_t *x, *y;
};
typedef void litmus_thread(struct litmus_cell c, uint64_t *r);

/* An outcome: the registers in the order of the threads, then the variables' last values. */
struct litmus_outcome {
	uint8_t r[LITMUS_REGS_MAX], x, y;
};

struct litmus_test {
	const char *name;
	const char *code; /* for people */
	unsigned threads;
	litmus_thread *thread[LITMUS_THREADS_MAX];
	unsigned regs[LITMUS_THREADS_MAX]; /* how many each thread reads */
	bool finals;			   /* the last values belong to the outcome */
	const char *weak;		   /* the outcome that interleaving alone never gives */
	bool (*is_weak)(const struct litmus_outcome *o);
	bool weak_allowed; /* x86-TSO allows it */
};

extern const struct litmus_test litmus_tests[];
extern const unsigned litmus_tests_count;

#endif
