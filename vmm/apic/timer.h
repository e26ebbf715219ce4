/* SPDX-License-Identifier: Apache-2.0 */
/* One thread that sleeps until the earliest of many deadlines: the APIC timers of one slice. */
#ifndef VMM_TIMER_H
#define VMM_TIMER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

#define TIMER_OFF UINT64_MAX
/* One a vCPU, one for the machine itself, one for its serial line, one for its clock. */
#define TIMER_SLOTS_MAX (VCPUS_MAX + 3)

struct timer {
	/* constant; fire is called on the timer's thread, without the lock */
	void (*fire)(void *ctx, unsigned slot);
	void *ctx;
	/* lock */
	pthread_mutex_t lock;
	/* The thread sleeps in a read of it. Whoever has another deadline sets it anew, which wakes
	 * nobody. */
	int fd;
	uint64_t deadlines_ns[TIMER_SLOTS_MAX];
	uint64_t wake_ns; /* what fd is set to; 0: the thread is awake and will look at all slots */
	uint64_t fires;
	bool stopping;
	bool thread_running; /* written by timer_start/stop's caller */
	/* timer_start/stop's caller */
	pthread_t thread;
};

/* No deadlines, no thread. 0 or negative errno; then there is nothing to destroy. */
int timer_init(struct timer *t, void (*fire)(void *ctx, unsigned slot), void *ctx);
void timer_destroy(struct timer *t);
/* Deadlines that are set before this fire then. 0 or -EAGAIN. */
int timer_start(struct timer *t);
/* Joins the thread; not from fire. */
void timer_stop(struct timer *t);
/* Sets (CLOCK_MONOTONIC) or with TIMER_OFF clears a slot's deadline; it fires once. Any thread,
 * from within fire too. */
void timer_set(struct timer *t, unsigned slot, uint64_t deadline_ns);
/* The same if the thread is there to fire; false: nothing is set. Any thread. */
bool timer_set_running(struct timer *t, unsigned slot, uint64_t deadline_ns);
/*
 * Clears a slot's deadline and returns it (TIMER_OFF: none): the caller will see to it himself, or
 * set it again. Any thread. A deadline that is being fired at the moment is none any more.
 */
uint64_t timer_take(struct timer *t, unsigned slot);
/* How often fire was called; any thread. */
uint64_t timer_fires(struct timer *t);

#endif
