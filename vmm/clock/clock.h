/* SPDX-License-Identifier: Apache-2.0 */
/* Guest time: one clock for all vCPUs of a VM, as a function of this host's monotonic clock. */
#ifndef VMM_CLOCK_H
#define VMM_CLOCK_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/*
 * Guest time is slice 0's clock. Slice 0 counts its own CLOCK_MONOTONIC from the VM's origin; every
 * other slice follows it (vmm/clock/clock_sync.h). The clock is a line in two pieces over the host's
 * clock: up to next.host_ns it runs by prev, from there on by next, which begins where prev is at
 * that moment. Whoever corrects it publishes a piece that begins a little in the future.
 *
 * So all publications agree wherever they are used, and guest time is one non-decreasing function
 * of CLOCK_MONOTONIC: it goes back for no reader, nor from one reader to another on this host,
 * whichever publication each of them saw, down to the last nanosecond. That rests on this:
 *
 *   a reader that found publication p valid read a host clock before p's successor begins.
 *
 * The writer makes seq odd (sequentially consistent: a full barrier), then reads the host's clock,
 * and lets the new piece begin GUEST_CLOCK_LEAD_NS after that. The reader reads the host's clock
 * between its two loads of seq. If the second load gives the old even value, it came before the odd
 * one in seq's order, hence before the writer's reading of the clock. The reader's own reading
 * precedes its second load in the program; a processor may swap the two, but by less than its
 * window of instructions in flight, which the lead exceeds a hundred times over. (A thread that
 * loses its CPU in between executes both again, or in order.)
 *
 * The words between are read with acquire and written with release: a reader that sees one of the
 * new words therefore also sees the odd value, or the one after it, in its second load, and tries
 * again. On x86 all of that is plain loads. The writer's part is some dozen instructions; readers
 * spin meanwhile.
 */

/* Where the host's time comes from; now_ns NULL: CLOCK_MONOTONIC. It never goes back. */
struct guest_clock_source {
	uint64_t (*now_ns)(void *ctx);
	void *ctx;
};

struct guest_clock_piece {
	_Atomic uint64_t host_ns, guest_ns; /* where it begins */
	_Atomic int64_t rate;		    /* guest ns a host ns, less one, times 2^32 */
};

struct guest_clock {
	/* constant */
	struct guest_clock_source source;
	/* any thread; one writer at a time */
	_Alignas(64) _Atomic uint32_t seq;
	struct guest_clock_piece prev, next;
};
static_assert(offsetof(struct guest_clock, next) + sizeof(struct guest_clock_piece) -
			      offsetof(struct guest_clock, seq) <=
		      64,
	      "what readers touch is one cache line");

/* A new piece begins this long after it was made. */
#define GUEST_CLOCK_LEAD_NS 100000u
/* The fastest correction, 500 ppm: what NTP allows itself, and kernels' own clocks take it. */
#define GUEST_CLOCK_RATE_ONE (INT64_C(1) << 32)
#define GUEST_CLOCK_RATE_MAX (GUEST_CLOCK_RATE_ONE / 2000)

/* Guest time is guest_ns at host_ns, and runs as the host's does. Before there are readers. */
void guest_clock_init(struct guest_clock *c, const struct guest_clock_source *source,
		      uint64_t host_ns, uint64_t guest_ns);

/* Sets the clock anew, from host_ns (not in the future) on; rate is cut at +-GUEST_CLOCK_RATE_MAX.
 * Time may jump: only before any guest code reads it. One writer at a time. */
void guest_clock_step(struct guest_clock *c, uint64_t host_ns, uint64_t guest_ns, int64_t rate);

/*
 * Runs at this rate (cut at +-GUEST_CLOCK_RATE_MAX) from GUEST_CLOCK_LEAD_NS after now on. One
 * writer at a time; readers go on. -EAGAIN: the last slew has not begun yet, nothing is changed.
 */
int guest_clock_slew(struct guest_clock *c, int64_t rate);

/* The rate that the clock runs at, or is about to. Any thread. */
int64_t guest_clock_rate(const struct guest_clock *c);

/* The host's time as this clock sees it. Any thread. */
static inline uint64_t guest_clock_host_ns(const struct guest_clock *c)
{
	return c->source.now_ns ? c->source.now_ns(c->source.ctx) : clock_now_ns();
}

/* Guest time by the clock's publication of the moment; the caller checks seq. */
static inline uint64_t guest_clock_compute(const struct guest_clock *c, uint64_t host_ns)
{
	const struct guest_clock_piece *p =
		host_ns < atomic_load_explicit(&c->next.host_ns, memory_order_acquire) ? &c->prev
										       : &c->next;
	uint64_t from_ns = atomic_load_explicit(&p->host_ns, memory_order_acquire);
	uint64_t guest_ns = atomic_load_explicit(&p->guest_ns, memory_order_acquire);
	int64_t rate = atomic_load_explicit(&p->rate, memory_order_acquire);
	uint64_t run_ns = host_ns > from_ns ? host_ns - from_ns : 0;

	/* The shift rounds down: whole and part together never decrease. */
	return guest_ns + run_ns + (uint64_t)(int64_t)(((__int128)run_ns * rate) >> 32);
}

/*
 * Guest time at a host time, which is at most guest_clock_host_ns() and not older than the last two
 * slews. Any thread. For readers that need a pair: host_ns is what guest_clock_host_ns gave.
 */
static inline uint64_t guest_clock_at(const struct guest_clock *c, uint64_t host_ns)
{
	uint64_t guest_ns;
	uint32_t seq;

	do {
		seq = atomic_load_explicit(&c->seq, memory_order_acquire);
		guest_ns = guest_clock_compute(c, host_ns);
	} while ((seq & 1) || seq != atomic_load_explicit(&c->seq, memory_order_relaxed));
	return guest_ns;
}

/* Guest time now, in nanoseconds. Any thread. */
static inline uint64_t guest_clock_now(const struct guest_clock *c)
{
	uint64_t guest_ns;
	uint32_t seq;

	do {
		seq = atomic_load_explicit(&c->seq, memory_order_acquire);
		guest_ns = guest_clock_compute(c, guest_clock_host_ns(c));
	} while ((seq & 1) || seq != atomic_load_explicit(&c->seq, memory_order_relaxed));
	return guest_ns;
}

#endif
