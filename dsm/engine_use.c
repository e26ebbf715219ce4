/* SPDX-License-Identifier: Apache-2.0 */
/* Pages that came but were not used yet: the thread that waited for one has not run since. */
#include <time.h>

#include "base/clock.h"
#include "dsm/engine_parts.h"

/*
 * On a host with more to run than CPUs a thread may wait for a CPU longer than a page's hold time:
 * the page would go before the access it came for, again and again. A contended page therefore
 * stays until its thread had some CPU time, if that takes not too long.
 */
#define UNUSED_LONGEST_NS (10 * NS_PER_MS)
/* Less than it takes to come back from a fault and meet the next one. */
#define USE_NS 1000

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
	return &e->grants[(gfn * UINT64_C(0x9e3779b97f4a7c15) >> 32) % GRANTS];
}

void engine_use_expect(struct engine *e, uint64_t gfn, uint32_t tid, uint64_t now_ns)
{
	uint64_t cpu_ns;

	if (!tid || !protocol_page_contended(e->protocol, gfn))
		return;
	cpu_ns = thread_cpu_ns(tid);
	if (cpu_ns != UINT64_MAX)
		*grant_of(e, gfn) = (struct grant){gfn + 1, now_ns, cpu_ns, tid};
}

bool engine_use_outstanding(struct engine *e, uint64_t gfn, uint64_t now_ns)
{
	struct grant *grant = grant_of(e, gfn);

	if (grant->tag != gfn + 1)
		return false;
	if (now_ns < grant->granted_ns + UNUSED_LONGEST_NS &&
	    thread_cpu_ns(grant->tid) < grant->cpu_ns + USE_NS)
		return true;
	grant->tag = 0;
	return false;
}
