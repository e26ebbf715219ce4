/* SPDX-License-Identifier: Apache-2.0 */
/* The guest self-test's shared parts: the options, the team of pinned threads, the four tests. */
#ifndef SELFTEST_H
#define SELFTEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As many as a Pangea VM can have (VCPUS_MAX, SLICES_MAX). */
#define CPUS_MAX  256
#define NODES_MAX 64
#define PAGE_SIZE 4096u

struct options {
	unsigned sort_mib, rounds, hash_mib, pages;
	unsigned want_cpus, want_nodes; /* 0: any number will do */
	unsigned timeout_s;
	uint64_t seed;
};

/* What the kernel says of the machine. Filled once, before threads start. */
struct topology {
	unsigned cpus, nodes;
	unsigned cpu[CPUS_MAX];	     /* the CPU numbers we may run on */
	unsigned cpu_node[CPUS_MAX]; /* by index into cpu[] */
	unsigned node[NODES_MAX];    /* the node numbers that have memory */
	bool numa;		     /* false: the kernel offers no NUMA calls; one node */
};

/* Reads the topology; returns 0 or a negative errno. */
int topology_read(struct topology *topo);
/*
 * Maps `bytes` of zero pages, none present yet, that will come from `node` (NODE_ANY: from the node
 * of the first to touch them). NULL when there is no memory. Never unmapped: the program is short.
 */
#define NODE_ANY UINT32_MAX
void *topology_map(const struct topology *topo, size_t bytes, unsigned node);
/* The node that holds the page at `addr`, or a negative errno. */
int topology_node_of(const struct topology *topo, const void *addr);

struct team {
	const struct topology *topo;
	unsigned size;
	pthread_barrier_t barrier;
};

/* Runs work(arg, i) on one thread for each CPU i, pinned to it, and waits for all of them. */
void team_run(struct team *team, void (*work)(void *arg, unsigned member), void *arg);
/* Waits until every member is here. Sleeps rather than spins: CPUs may share a host core. */
void team_wait(struct team *team);

uint64_t now_ns(void);
/* The well-mixed 64-bit value number `index` of the sequence `seed` (splitmix64). */
uint64_t random_at(uint64_t seed, uint64_t index);

/* Sorts `count` keys at `keys` by way of `spare` (as large); the result lies in `spare`. */
void radix_sort(uint32_t *keys, uint32_t *spare, size_t count);

/*
 * The four tests. Each prints its lines of the table and returns NULL, or returns what went wrong
 * in a few words (static storage or the caller's `why`).
 */
const char *sort_test(struct team *team, const struct options *opt);
const char *token_test(struct team *team, const struct options *opt);
const char *hash_test(struct team *team, const struct options *opt);
const char *ratio_test(struct team *team, const struct options *opt);

#endif
