/* SPDX-License-Identifier: Apache-2.0 */
/* Time, and waiting for other CPUs: deadlines, locks, barriers. */
#include "guests/micro/lib/kernel.h"

#define PAUSES_PER_LOOK	  16
#define NAP_FIRST_US	  50
#define NAP_LAST_US	  400
#define TIMEOUT_DEFAULT_S 60

uint64_t ticks_now(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
	return (uint64_t)high << 32 | low;
}

uint64_t ticks_ns(uint64_t ticks)
{
	return ticks / machine.tsc_hz * 1000000000ul +
	       ticks % machine.tsc_hz * 1000ul / (machine.tsc_hz / 1000000);
}

uint64_t ns_ticks(uint64_t ns)
{
	return ns / 1000 * (machine.tsc_hz / 1000000) +
	       ns % 1000 * (machine.tsc_hz / 1000000) / 1000;
}

void wait_init(struct wait *w, const char *what, unsigned spin_us)
{
	uint64_t now = ticks_now();

	w->what = what;
	w->spin_until = now + ns_ticks(spin_us * 1000ul);
	w->deadline = 0;
	w->nap_us = NAP_FIRST_US;
}

/* The argument is read only by those who wait long. */
static void deadline_check(struct wait *w, uint64_t now)
{
	uint64_t limit_s;

	if (!w->deadline) {
		limit_s = arg_number("timeout", TIMEOUT_DEFAULT_S);
		w->deadline = now + limit_s * machine.tsc_hz;
	}
	if (now > w->deadline)
		fail("CPU %u waited too long for %s", cpu_index(), w->what);
}

void wait_more(struct wait *w)
{
	uint64_t now;

	for (unsigned i = 0; i < PAUSES_PER_LOOK; i++)
		cpu_pause();
	now = ticks_now();
	if (now < w->spin_until)
		return;
	deadline_check(w, now);
	call(CALL_NAP, w->nap_us, 0);
	if (w->nap_us < NAP_LAST_US)
		w->nap_us *= 2;
}

void lock_take(struct lock *l)
{
	struct wait w;

	if (!atomic_exchange32(&l->held, 1))
		return;
	wait_init(&w, "a lock", SPIN_US);
	do {
		while (l->held)
			wait_more(&w);
	} while (atomic_exchange32(&l->held, 1));
}

/* x86-TSO: a store is seen after all before it. */
void lock_drop(struct lock *l)
{
	__asm__ volatile("" ::: "memory");
	l->held = 0;
}

void barrier_init(struct barrier *b, unsigned n)
{
	b->arrived = 0;
	b->generation = 0;
	b->n = n;
}

void barrier_wait(struct barrier *b)
{
	uint32_t generation = b->generation, one = 1;
	struct wait w;

	__asm__ volatile("lock xaddl %0, %1" : "+r"(one), "+m"(b->arrived)::"memory", "cc");
	if (one + 1 == b->n) {
		b->arrived = 0;
		__asm__ volatile("" ::: "memory");
		b->generation = generation + 1;
		return;
	}
	wait_init(&w, "the others at a barrier", SPIN_US);
	while (b->generation == generation)
		wait_more(&w);
	__asm__ volatile("" ::: "memory");
}
