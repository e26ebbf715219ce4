/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that came but were not used yet: the thread that waited for one has hardly run since. */
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "dsm/engine/engine_parts.h"

/*
 * On a host with more to run than CPUs a thread may wait for a CPU longer than a page's hold time:
 * the page would go before the access it came for, again and again. A contended page therefore
 * stays until its thread had some CPU time, if that takes not too long.
 *
 * And the hold time counts from there: a slice whose thread is slow to come back from the fault
 * would otherwise have less of each turn than others. The thread may block on something else, which
 * nobody tells: so once it has run, the page stays for no more than another hold time.
 */
#define UNUSED_LONGEST_NS (10 * NS_PER_MS)
/* Less than it takes to come back from a fault and meet the next one. */
#define USE_NS		    1000
#define RECHECK_SHORTEST_NS 20000
#define RECHECK_LONGEST_NS  500000

/* The CPU time of a thread of this process, in guest mode too; UINT64_MAX if it is gone. */
static uint64_t thread_cpu_ns(uint32_t tid)
{
	/* CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED of include/linux/posix-timers.h: what
	 * pthread_getcpuclockid makes of a thread's id. */
	clockid_t clock = (clockid_t)(~(clockid_t)tid * 8 + 6);
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		return UINT64_MAX;
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct grant *grant_of(struct engine *e, uint64_t gfn)
{
	return &e->grants[hash_u64(gfn) % GRANTS];
}

void engine_use_expect(struct engine *e, uint64_t gfn, uint32_t tid, uint64_t now_ns)
{
	uint64_t cpu_ns;

	if (!tid || !protocol_page_contended(e->protocol, gfn))
		return;
	cpu_ns = thread_cpu_ns(tid);
	if (cpu_ns != UINT64_MAX)
		*grant_of(e, gfn) = (struct grant){gfn + 1, now_ns, cpu_ns, 0, tid};
}

static uint64_t recheck_within(uint64_t ns)
{
	if (ns < RECHECK_SHORTEST_NS)
		return RECHECK_SHORTEST_NS;
	return ns < RECHECK_LONGEST_NS ? ns : RECHECK_LONGEST_NS;
}

uint64_t engine_use_recheck_ns(struct engine *e, uint64_t gfn, uint64_t now_ns)
{
	struct grant *grant = grant_of(e, gfn);
	uint64_t used_ns, hold_ns;

	if (grant->tag != gfn + 1 || !grant->tid)
		return 0;
	if (now_ns >= grant->granted_ns + UNUSED_LONGEST_NS)
		goto over;
	used_ns = thread_cpu_ns(grant->tid) - grant->cpu_ns;
	/* Who waits for a CPU waits for a part of a millisecond or for some: look ever later. */
	if (used_ns < USE_NS)
		return recheck_within((now_ns - grant->granted_ns) / 2);
	/* In turns it is not the hold time that lets a slice get on. */
	hold_ns = e->turn_ns ? 0 : protocol_page_hold_ns(e->protocol, gfn, engine_long_hold_ns(e));
	if (used_ns >= hold_ns)
		goto over;
	if (!grant->used_ns)
		grant->used_ns = now_ns;
	if (now_ns < grant->used_ns + hold_ns)
		return recheck_within(hold_ns - used_ns);
over:
	grant->tid = 0;
	return 0;
}

uint64_t engine_use_granted_ns(struct engine *e, uint64_t gfn)
{
	const struct grant *grant = grant_of(e, gfn);

	return grant->tag == gfn + 1 ? grant->granted_ns : 0;
}

bool engine_use_outstanding(struct engine *e, uint64_t gfn, uint64_t now_ns)
{
	return engine_use_recheck_ns(e, gfn, now_ns) != 0;
}
