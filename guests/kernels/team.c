/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A team of threads, and its barrier, made for a machine on which a page that another node wrote costs
 * a thousand times what one costs that is here.
 *
 * Threads of one node meet at a counter on a page of that node. The last of them speaks for the node:
 * in round k it writes to a mailbox of the node 2^k before, and waits for mail of the node 2^k behind
 * (Hensgen, Finkel, Manber: Two Algorithms for Barrier Synchronization, 1988). A mailbox is a page that
 * one node writes and one reads, so a barrier of two nodes costs each of them one page that it writes
 * and one that it reads, at the same time, and nobody waits for a third. Mail carries values, so a sum
 * over all threads costs no more. Mailboxes are used in turns of two: who writes one again has passed
 * a barrier that its reader had come to after reading it.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels.h"

#define ROUNDS_MAX 8u /* 2^8 groups */
/* To sleep and to be woken by another node costs some ten pages, so it is worth looking for a while: 5 ms
 * where the TSC runs at 1 GHz, as in guests of software CPUs. The TSC is read, and no clock of the
 * kernel's: that lies on a page which another node writes at every tick. */
#define SPIN_TICKS 5000000u
/* After so long the one waited for may be waiting for this CPU. */
#define YIELD_TICKS    500000u
#define SPIN_LOOKS_MAX 64u /* between two looks at the TSC */

static_assert(1u << ROUNDS_MAX >= THREADS_MAX, "each thread may be a group");

/* A word that is waited for, and whether somebody sleeps. */
struct gate {
	_Atomic uint32_t epoch, asleep;
};

struct mail {
	struct gate gate;
	double value[THREADS_MAX / 2];
};

struct box {
	alignas(PAGE_BYTES) struct mail mail[2];
};

struct slot {
	alignas(64) double value;
};

/* Threads that meet on one node's memory: those bound to it, or one. */
struct group {
	alignas(PAGE_BYTES) _Atomic uint32_t arrived;
	struct gate gate;
	unsigned members;
	double total;
	struct slot slot[THREADS_MAX];
	struct box box[ROUNDS_MAX];
};

/* What only one thread writes; on a page of its own. */
struct member {
	alignas(PAGE_BYTES) struct team *team;
	unsigned self, group, index; /* in the group */
	uint32_t epoch;
	double value; /* team_sum with OpenMP */
	void (*work)(void *arg, unsigned self);
	void *arg;
};

struct team {
	struct team_setting setting;
	const struct place *place;
	unsigned groups;
	uint64_t spin_ticks;
	struct group *group;
	struct member *member;
};

/* ---- memory ---- */

void *memory_take(size_t bytes)
{
	void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED) {
		fprintf(stderr, "pangea-kernels: no memory for %zu MiB: take a smaller size\n",
			bytes >> 20);
		exit(1);
	}
	return memory;
}

void memory_free(void *memory, size_t bytes)
{
	munmap(memory, bytes ? bytes : 1);
}

/* ---- gates ---- */

static bool gate_open(struct gate *gate, uint32_t epoch)
{
	return (int32_t)(atomic_load_explicit(&gate->epoch, memory_order_acquire) - epoch) >= 0;
}

/* Opens it; who looks needs nothing more. What was stored before is seen by who finds it open. */
static void gate_set(struct gate *gate, uint32_t epoch)
{
	atomic_store(&gate->epoch, epoch);
	/* After the store: who sleeps said so before he looked at the epoch for the last time. */
	if (!atomic_load(&gate->asleep))
		return;
	atomic_store(&gate->asleep, 0);
	syscall(SYS_futex, &gate->epoch, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void gate_sleep(struct gate *gate, uint32_t epoch)
{
	while (!gate_open(gate, epoch)) {
		uint32_t seen;

		atomic_store(&gate->asleep, 1);
		seen = atomic_load(&gate->epoch);
		if ((int32_t)(seen - epoch) >= 0)
			return;
		/* It ends at once when the epoch has changed. main.c has the deadline of it all. */
		syscall(SYS_futex, &gate->epoch, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	}
}

/*
 * Looks for a while, then sleeps. PAUSE lets a software CPU's host run others; sched_yield lets a
 * thread run that is on this CPU, and does not count as waiting (pangea-spread looks at that).
 */
static void gate_wait(struct gate *gate, uint32_t epoch, uint64_t spin_ticks)
{
	uint64_t start = __builtin_ia32_rdtsc(), yielded = start;

	for (;;) {
		uint64_t now;

		for (unsigned look = 0; look < SPIN_LOOKS_MAX; look++) {
			if (gate_open(gate, epoch))
				return;
			__builtin_ia32_pause();
		}
		now = __builtin_ia32_rdtsc();
		if (now - start >= spin_ticks)
			return gate_sleep(gate, epoch);
		if (now - yielded < YIELD_TICKS)
			continue;
		sched_yield();
		yielded = now;
	}
}

/* ---- the barrier ---- */

/* This group's total to all, everybody's to it; the sum in the order of the groups. */
static double groups_exchange(struct team *team, unsigned self, uint32_t epoch, double total)
{
	double known[THREADS_MAX], sum = 0; /* known[i]: that of group self + i */
	unsigned n = team->groups;

	known[0] = total;
	for (unsigned round = 0, have = 1; have < n; round++, have *= 2) {
		unsigned take = have < n - have ? have : n - have;
		struct mail *out = &team->group[(self + n - have) % n].box[round].mail[epoch & 1];
		struct mail *in = &team->group[self].box[round].mail[epoch & 1];

		memcpy(out->value, known, take * sizeof(double));
		gate_set(&out->gate, epoch);
		gate_wait(&in->gate, epoch, team->spin_ticks);
		memcpy(known + have, in->value, take * sizeof(double));
	}
	for (unsigned i = 0; i < n; i++)
		sum += known[(i + n - self) % n];
	return sum;
}

static double barrier(struct team *team, unsigned self, double value)
{
	struct member *me = &team->member[self];
	struct group *group = &team->group[me->group];
	uint32_t epoch = ++me->epoch;
	double total = 0;

	group->slot[me->index].value = value;
	if (atomic_fetch_add(&group->arrived, 1) + 1 < group->members) {
		gate_wait(&group->gate, epoch, team->spin_ticks);
		return group->total;
	}
	for (unsigned i = 0; i < group->members; i++)
		total += group->slot[i].value;
	total = groups_exchange(team, me->group, epoch, total);
	group->total = total;
	atomic_store_explicit(&group->arrived, 0, memory_order_relaxed);
	if (group->members > 1)
		gate_set(&group->gate, epoch);
	return total;
}

/* libgomp's barrier twice: nobody may write his value again before everybody has read it. */
static double openmp_sum(struct team *team, unsigned self, double value)
{
	double sum = 0;

	team->member[self].value = value;
	team_openmp_wait();
	for (unsigned i = 0; i < team->setting.threads; i++)
		sum += team->member[i].value;
	team_openmp_wait();
	return sum;
}

void team_wait(struct team *team, unsigned self)
{
	if (team->setting.kind == TEAM_OPENMP)
		team_openmp_wait();
	else
		barrier(team, self, 0);
}

double team_sum(struct team *team, unsigned self, double value)
{
	if (team->setting.kind == TEAM_OPENMP)
		return openmp_sum(team, self, value);
	return barrier(team, self, value);
}

/* ---- the team ---- */

unsigned team_threads(const struct team *team)
{
	return team->setting.threads;
}

struct team *team_make(const struct team_setting *setting, const struct place *place)
{
	struct team *team = calloc(1, sizeof(*team));

	if (!team) {
		perror("pangea-kernels");
		exit(1);
	}
	team->setting = *setting;
	team->place = place;
	team->spin_ticks = setting->threads > place_cpus(place) ? 0 : SPIN_TICKS;
	team->groups = setting->bind ? 0 : setting->threads;
	team->group = memory_take(setting->threads * sizeof(*team->group));
	team->member = memory_take(setting->threads * sizeof(*team->member));
	for (unsigned i = 0; i < setting->threads; i++) {
		/* Nodes come in order, so a thread's is the last group or the next one. */
		bool next =
			setting->bind && (!i || place_node(place, i, setting->threads) !=
							place_node(place, i - 1, setting->threads));

		team->groups += next;
		team->member[i].group = setting->bind ? team->groups - 1 : i;
	}
	return team;
}

void team_free(struct team *team)
{
	memory_free(team->group, team->setting.threads * sizeof(*team->group));
	memory_free(team->member, team->setting.threads * sizeof(*team->member));
	free(team);
}

static void member_bind(const struct member *me)
{
	int err = me->team->setting.bind
			  ? place_bind(me->team->place, me->self, me->team->setting.threads)
			  : 0;

	if (err < 0) {
		fprintf(stderr, "pangea-kernels: cannot bind thread %u: %s\n", me->self,
			strerror(-err));
		exit(1);
	}
}

static void *member_main(void *data)
{
	struct member *me = data;

	member_bind(me);
	me->work(me->arg, me->self);
	return NULL;
}

static void openmp_main(void *data, unsigned self)
{
	member_main(&((struct team *)data)->member[self]);
}

static void pthreads_run(struct team *team)
{
	pthread_t thread[THREADS_MAX];

	for (unsigned i = 0; i < team->setting.threads; i++) {
		int err = pthread_create(&thread[i], NULL, member_main, &team->member[i]);

		if (err) {
			fprintf(stderr, "pangea-kernels: cannot start thread %u: %s\n", i,
				strerror(err));
			exit(1);
		}
	}
	for (unsigned i = 0; i < team->setting.threads; i++)
		pthread_join(thread[i], NULL);
}

void team_run(struct team *team, void (*work)(void *arg, unsigned self), void *arg)
{
	for (unsigned g = 0; g < team->groups; g++)
		team->group[g].members = 0;
	for (unsigned i = 0; i < team->setting.threads; i++) {
		struct member *member = &team->member[i];

		member->team = team;
		member->self = i;
		member->index = team->group[member->group].members++;
		member->work = work;
		member->arg = arg;
	}
	if (team->setting.kind == TEAM_OPENMP)
		team_openmp_run(team->setting.threads, openmp_main, team);
	else
		pthreads_run(team);
}
