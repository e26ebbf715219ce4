/* SPDX-License-Identifier: Apache-2.0 */
/* Looking for messages in shared memory or over RDMA a little longer instead of sleeping, as far as that pays. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

/* After what was last said, either way. The answer to a request takes some 10 us if its home does not
 * sleep either; waking a thread on another CPU takes as long. */
#define SPIN_NS 40000
/* Between looks at the faults and the other descriptors. */
#define SPIN_ROUND_NS 5000
/* How often it is asked whether threads wait for a CPU; to ask takes some microseconds. */
#define SPIN_LOAD_NS 2000000
/*
 * A spin that found something earns so many that find nothing: where a CPU is idle, and where threads
 * wait for one.
 */
#define SPIN_EARNS	   4
#define SPIN_EARNS_CROWDED 1
#define SPIN_CREDIT_MAX	   64
/* Without credit one in so many is tried all the same. */
#define SPIN_TRY 32

void engine_spin_create(struct engine *e)
{
	long cpus;

	e->spin.load_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	e->spin.cpus = cpus > 0 ? (unsigned)cpus : 0;
	e->spin.credit = SPIN_CREDIT_MAX;
}

void engine_spin_destroy(struct engine *e)
{
	if (e->spin.load_fd >= 0)
		close(e->spin.load_fd);
}

/* Threads of this host that run or wait for a CPU, this one included; 0: not known. */
static unsigned threads_running(int load_fd)
{
	char text[64];
	const char *word;
	ssize_t n = load_fd < 0 ? -1 : pread(load_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* Three averages, then running/all. */
	word = strchr(text, '/');
	while (word && word > text && word[-1] >= '0' && word[-1] <= '9')
		word--;
	return word ? (unsigned)strtoul(word, NULL, 10) : 0;
}

/*
 * Is there a CPU for each engine of this VM on this host? Where they share one, an engine that looks
 * for a message keeps the one that would send it from running.
 */
static bool cpus_enough(const struct engine *e)
{
	const struct transport_stats *t = e->transport->ops->stats(e->transport);

	/* A peer over RDMA is on another host. */
	return t->links_shm + t->links_rdma > 0 && t->links_shm + 1 <= e->spin.cpus;
}

/* Do threads wait for a CPU? */
static bool host_crowded(struct spin *spin, uint64_t now_ns)
{
	unsigned running;

	if (now_ns < spin->load_next_ns)
		return spin->crowded;
	spin->load_next_ns = now_ns + SPIN_LOAD_NS;
	running = threads_running(spin->load_fd);
	spin->crowded = running == 0 || running > spin->cpus;
	return spin->crowded;
}

static void credit_earn(struct spin *spin, uint64_t now_ns)
{
	spin->hits++;
	spin->credit += host_crowded(spin, now_ns) ? SPIN_EARNS_CROWDED : SPIN_EARNS;
	if (spin->credit > SPIN_CREDIT_MAX)
		spin->credit = SPIN_CREDIT_MAX;
}

/* Has it paid of late, or is it time to try? */
static bool credit_allows(struct spin *spin)
{
	return spin->credit > 0 || spin->passed++ % SPIN_TRY == 0;
}

/*
 * Is a message to be expected soon? An answer, while a thread of ours waits for a page; the next
 * request, after one was served. Not after an answer, nor after a machine message: threads that they
 * wake may want this CPU.
 */
static void talk_follow(struct engine *e, uint64_t now_ns)
{
	struct spin *spin = &e->spin;
	const struct transport_stats *t = e->transport->ops->stats(e->transport);
	bool asking = e->timing.count > 0, said = t->msgs_sent != spin->sent_last;
	bool heard = spin->heard != spin->heard_last;
	bool woken = e->fault_count_remote != spin->served_last;

	if (woken && !asking)
		spin->until_ns = 0;
	else if (heard || (asking && said))
		spin->until_ns = now_ns + SPIN_NS;
	if (spin->on && heard) {
		credit_earn(spin, now_ns);
		spin->on = false; /* the next one begins anew */
	}
	spin->served_last = e->fault_count_remote;
	spin->sent_last = t->msgs_sent;
	spin->heard_last = spin->heard;
}

/* Looks until something comes, or the descriptors' turn does. */
static void round_spin(struct engine *e, uint64_t now_ns)
{
	uint64_t until_ns = now_ns + SPIN_ROUND_NS;

	do {
		if (e->transport->ops->poll(e->transport) != 0)
			return;
		__builtin_ia32_pause();
	} while (clock_now_ns() < until_ns);
}

static void spin_end(struct engine *e)
{
	struct spin *spin = &e->spin;

	if (!spin->on)
		return;
	spin->on = false;
	if (spin->credit > 0)
		spin->credit--;
}

bool engine_spin(struct engine *e)
{
	struct spin *spin = &e->spin;
	uint64_t now_ns = clock_now_ns();

	talk_follow(e, now_ns);
	if (now_ns >= spin->until_ns) {
		spin_end(e);
		return false;
	}
	if (!spin->on) {
		if (!cpus_enough(e) || !credit_allows(spin)) {
			spin->until_ns = 0; /* until something is said again */
			return false;
		}
		spin->on = true;
		spin->spins++;
	}
	round_spin(e, now_ns);
	return true;
}
