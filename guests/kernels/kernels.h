/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels share: the team of threads and its barrier, shares of work, memory, the table. */
#ifndef GUESTS_KERNELS_KERNELS_H
#define GUESTS_KERNELS_KERNELS_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE_BYTES  4096u /* what nodes take from each other */
#define THREADS_MAX 256u
#define NODES_MAX   64u

/* ---- place.c: nodes, and the CPUs of each that this process may use ---- */

struct place;

/* Reads the nodes from /sys; one node with all CPUs where that has none. Exits if it cannot. */
struct place *place_read(void);

/* CPUs that this process may use. */
unsigned place_cpus(const struct place *place);

/* Nodes with such CPUs. */
unsigned place_nodes(const struct place *place);

/* Which of these nodes thread `self` of `threads` belongs to: as many on each as it has CPUs, and
 * neighbours together. */
unsigned place_node(const struct place *place, unsigned self, unsigned threads);

/* Binds the calling thread to a CPU of that node; to all of them where there are more threads than
 * CPUs. 0 or a negative errno. */
int place_bind(const struct place *place, unsigned self, unsigned threads);

/* The node, counted as above, where the calling thread runs now; 0 if that cannot be known. */
unsigned place_here(const struct place *place);

/* ---- team.c, team_openmp.c: threads that work together ---- */

struct team;

enum team_kind {
	TEAM_PTHREADS,
	TEAM_OPENMP, /* libgomp's threads and barriers; only where team_openmp_built() */
};

struct team_setting {
	enum team_kind kind;
	unsigned threads;
	bool bind; /* each to its place; else whoever comes: the kernel, pangea-spread, OMP_PLACES */
};

/* Exits if there is no memory. The team has no threads of its own between runs. */
struct team *team_make(const struct team_setting *setting, const struct place *place);
void team_free(struct team *team);

/* Calls work(arg, self) in every thread, self from 0; returns when all have returned. Exits if a
 * thread cannot be started or bound. */
void team_run(struct team *team, void (*work)(void *arg, unsigned self), void *arg);

unsigned team_threads(const struct team *team);

/* A barrier: returns when every thread has come to it. What they wrote before can be read after. */
void team_wait(struct team *team, unsigned self);

/* A barrier that also brings everybody the sum of all values, added in the order of the threads. */
double team_sum(struct team *team, unsigned self, double value);

bool team_openmp_built(void);
/* Adds the CPUs of OMP_PLACES, if there are any: libgomp has bound the program's first thread to one of them. */
void team_openmp_cpus(cpu_set_t *cpus);
void team_openmp_run(unsigned threads, void (*work)(void *arg, unsigned self), void *arg);
void team_openmp_wait(void);

/* ---- memory and shares ---- */

/* Zeroed memory of whole pages, which lie on the node of the thread that first writes to them.
 * Exits if there is none. memory_free takes what it returned, and the same size. */
void *memory_take(size_t bytes);
void memory_free(void *memory, size_t bytes);

/* What self of n does of `items`: [first, end). */
struct share {
	size_t first, end;
};
static inline struct share share_of(size_t items, unsigned self, unsigned n)
{
	return (struct share){items * self / n, items * (self + 1) / n};
}

/* The same in whole pages of `per_page` items, so that no page has two writers; by single items
 * where some threads would get none. */
static inline struct share share_pages(size_t items, size_t per_page, unsigned self, unsigned n)
{
	struct share share;

	if (items < 4 * per_page * n)
		return share_of(items, self, n);
	share = share_of((items + per_page - 1) / per_page, self, n);
	share.first *= per_page;
	share.end = share.end * per_page < items ? share.end * per_page : items;
	return share;
}

/* Number `index` of a sequence of random numbers. */
static inline uint64_t random_at(uint64_t seed, uint64_t index)
{
	uint64_t z = seed + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* The same in [0, 1). */
static inline double random_real(uint64_t seed, uint64_t index)
{
	return (double)(random_at(seed, index) >> 11) / 9007199254740992.0;
}

/* Adds a value to a sum in which places matter. */
static inline uint64_t checksum_add(uint64_t sum, uint64_t value)
{
	return (sum ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (sum >> 29);
}

static inline uint64_t checksum_reals(uint64_t sum, const double *real, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t bits;

		memcpy(&bits, &real[i], sizeof(bits));
		sum = checksum_add(sum, bits);
	}
	return sum;
}

/* ---- the kernels, a file each ---- */

/*
 * A problem is made by one thread, filled and solved by a team: what a thread works on, it fills, so
 * that it lies on its node. The same problem comes out whatever the number of threads.
 */
struct kernel {
	const char *name, *about;
	const char *size_what; /* what the size counts, and which there are */
	unsigned long size_min, size_default, size_max;
	bool (*size_good)(unsigned long size); /* NULL: every one between the two */
	const char *rounds_what;	       /* NULL: it has none */
	unsigned rounds_default;
	void *(*make)(unsigned long size, unsigned rounds, unsigned threads);
	void (*fill)(void *problem, struct team *team, unsigned self);
	void (*solve)(void *problem, struct team *team, unsigned self);
	/* One thread: NULL, or what is wrong with the solution. */
	const char *(*check)(void *problem);
	/* The same for any number of threads; NULL where sums of reals depend on it. */
	uint64_t (*checksum)(void *problem);
	/* Makes one number of the solution wrong. */
	void (*spoil)(void *problem);
};

extern const struct kernel kernel_lu, kernel_fft, kernel_ocean, kernel_cg, kernel_mg, kernel_ep,
	kernel_radix, kernel_is;

#endif
