/* SPDX-License-Identifier: Apache-2.0 */
/* A whole machine simulated from a seed: the real protocol core and coordinator, virtual time. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The core's own limit; the coordinator takes part up to SLICES_MAX nodes. */
#define SIM_NODES_MAX 1024u
#define SIM_VCPUS_MAX 8u
/* Each home has at most one chunk of pages: 512. */
#define SIM_PAGES_MAX	 65536u
#define SIM_PAGES_A_HOME 512u
#define SIM_SENTENCE_MAX 400u
/* Quiet points that a run may have: each has a map of the guest's pages while it is planned. */
#define SIM_EPOCHS_MAX 64u
/* Phases of a run in which the pages of `affine` have the same favourites. */
#define SIM_PHASES 4u
/* Pages times nodes times epochs, if homes move as is foreknown: what is counted of each. */
#define SIM_FORESIGHT_MAX (1u << 26)
/* sim_config.cache: pages of other homes are never evicted. */
#define SIM_CACHE_ALL UINT32_MAX

/* What the vCPUs do. */
#define SIM_WORKLOADS(X)                                                                           \
	X(UNIFORM, "uniform", "any page, one access in three a write")                             \
	X(HOT_PAGE, "hot-page", "nine accesses in ten to two pages, half of them writes")          \
	X(MIGRATORY, "migratory", "each page is read and written a while by one, then by another") \
	X(PRODUCER_CONSUMER, "producer-consumer", "one slice writes a page, three others read it") \
	X(FALSE_SHARING, "false-sharing", "every vCPU has a word of its own on a few pages")       \
	X(SCAN, "scan", "all read all pages in order; one in a hundred accesses is a write")       \
	X(PAGE_TABLE, "page-table",                                                                \
	  "walks over three levels of tables; leaves change now and then")                         \
	X(AFFINE, "affine",                                                                        \
	  "each page is used mostly by one slice, not its home; four times another")

/* Where the guest's pages lie, all nodes having the same share of them. */
#define SIM_HOMES(X)                                                                               \
	X(FIXED, "fixed", "where they lay from the beginning")                                     \
	X(MOVED, "moved", "in each epoch where most will miss them: foreknown, and for nothing")   \
	X(ONLINE, "online", "between epochs they move to who missed them most, at a price")

/* What goes wrong outside of the code under test. */
#define SIM_DISTURBANCES(X)                                                                        \
	X(BURSTS, "bursts", "all that a slice sends is held back, then comes at once")             \
	X(SLOW, "slow", "one slice takes ten times as long for everything, and stops at times")    \
	X(PARTITIONS, "partitions", "for a while nothing passes between two sets of slices")       \
	X(CRASH, "crash", "a slice, or a node with it, is gone at some moment: the VM must end")   \
	X(CUT, "cut", "the connection of two slices breaks: the VM must end")

/* Faults put into the network or into the obeying of actions, and the checkers that may see them.
 */
#define SIM_FAULTS(X)                                                                              \
	X(NONE, "none", "")                                                                        \
	X(DROP_INV, "drop-inv", "waiting")                                                         \
	X(DROP_ACK, "drop-ack", "waiting")                                                         \
	X(DROP_DONE, "drop-done", "waiting, directory, violation")                                 \
	X(DROP_PUT_ACK, "drop-put-ack", "waiting, leak")                                           \
	X(DROP_HOLD, "drop-hold-timer", "waiting")                                                 \
	X(EARLY_ACK, "early-ack", "one writer, data value")                                        \
	X(STALE_DATA, "stale-data", "data value")                                                  \
	X(SKIP_UNMAP, "skip-unmap", "one writer, data value, actions")                             \
	X(SKIP_PROTECT, "skip-protect", "one writer, data value, actions, frame in flight")        \
	X(SKIP_WAKE, "skip-wake", "waiting")                                                       \
	X(SWAP, "swap", "violation, data value, one writer, waiting")                              \
	X(TWICE, "twice", "violation")                                                             \
	X(FORGET_SHARER, "forget-sharer", "one writer, data value, directory, violation")          \
	X(DROP_GONE, "drop-slice-gone", "coordinator")

#define X(name, word, text) SIM_##name,
enum sim_workload {
	SIM_WORKLOADS(X) SIM_WORKLOAD_COUNT
};
#undef X
#define X(name, word, text) SIM_BIT_##name,
enum sim_disturbance_bit {
	SIM_DISTURBANCES(X) SIM_DISTURBANCE_COUNT
};
#undef X
#define X(name, word, text) SIM_HOMES_##name,
enum sim_homes {
	SIM_HOMES(X) SIM_HOMES_COUNT
};
#undef X
#define X(name, word, text) SIM_FAULT_##name,
enum sim_fault {
	SIM_FAULTS(X) SIM_FAULT_COUNT
};
#undef X

struct sim_word {
	const char *word, *text;
};
extern const struct sim_word sim_workloads[SIM_WORKLOAD_COUNT];
extern const struct sim_word sim_disturbances[SIM_DISTURBANCE_COUNT];
extern const struct sim_word sim_homes[SIM_HOMES_COUNT];
extern const struct sim_word sim_faults[SIM_FAULT_COUNT];

struct sim_config {
	uint64_t seed;
	unsigned nodes;	 /* 2..SIM_NODES_MAX */
	unsigned vcpus;	 /* a node, 1..SIM_VCPUS_MAX */
	unsigned pages;	 /* 1..SIM_PAGES_MAX, at most SIM_PAGES_A_HOME a node */
	uint64_t events; /* then the vCPUs stop, and everything must come to rest */
	/* Not 0: each vCPU makes so many accesses instead, whatever events they take. */
	uint64_t accesses;
	unsigned epochs; /* 1..SIM_EPOCHS_MAX: each ends at rest */
	enum sim_homes homes;
	/* Pages of other homes that a node keeps; 0: all, but evictions come at random. */
	uint32_t cache;
	enum sim_workload workload;
	unsigned disturbances; /* 1 << enum sim_disturbance_bit */
	enum sim_fault fault;
	uint64_t hold_ns;
	unsigned group;	  /* slices a bit of the sharers; 0: as few as there is room for */
	bool coordinator; /* the real one runs the VM; else slices are just there */
	FILE *trace;	  /* a line for each event, or NULL */
	unsigned last;	  /* lines kept for a failure */
};

/* What a run did; all of it is a function of the configuration. */
struct sim_result {
	const char *checker; /* static: which one failed; NULL: all held */
	char sentence[SIM_SENTENCE_MAX];
	uint64_t hash; /* over every event */
	uint64_t events, virtual_ns;
	uint64_t accesses, reads_checked, writes, faults, joined;
	uint64_t messages, messages_page, invalidations, deferred, evictions, dropped;
	uint64_t bytes;	      /* headers and pages */
	uint64_t three_hops;  /* faults for which the home sent for an owner elsewhere */
	uint64_t homes_moved; /* pages; their messages are among the others if they cost any */
	uint32_t cache_max;   /* pages of other homes that a node had at most */
	/* By node, while all worked. */
	uint64_t node_accesses[SIM_NODES_MAX];
	uint64_t rests;	       /* times that all came to rest and was compared */
	uint64_t reads_frozen; /* of reads_checked: on slices that knew of a loss */
	uint64_t disturbed[SIM_DISTURBANCE_COUNT], faulted;
	uint64_t wait_max_ns, wait_total_ns, waits, wait_limit_ns;
	uint64_t wait_p99_ns;	      /* 99 in 100 waits were shorter; within 3 % */
	unsigned queue_max, link_max; /* requests that wait at one home; messages on one link */
	uint64_t queue_sum, queue_samples;
	unsigned group;
	uint64_t pages_touched, directory_bytes, queue_bytes, resident_bytes;
	uint64_t control_messages;
	int vm_code;		/* how the VM ended: an exit code; -1: no coordinator */
	uint64_t vm_end_max_ns; /* from the crash to the word that the VM has ended */
};

/* Fills in what a run of this many nodes and this seed takes if nobody says otherwise. */
void sim_config_default(struct sim_config *config, uint64_t seed, unsigned nodes);
/* NULL, or a sentence that says what is out of its limits; static. */
const char *sim_config_fault(const struct sim_config *config);
/* The smallest and the largest share of the accesses that a node had, in percent of its fair one.
 */
void sim_shares(const struct sim_config *config, const struct sim_result *result, double *least,
		double *most);
/*
 * Runs a valid configuration. Returns 0 or -ENOMEM; what the checkers found is in result. If one
 * failed, the last events are written to report (may be NULL), one line each.
 */
int sim_run(const struct sim_config *config, struct sim_result *result, FILE *report);

#endif
