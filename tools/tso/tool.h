/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-tso's parts: options, the memory that its processes share, slices, the runs of a cluster.
 */
#ifndef TSO_TOOL_H
#define TSO_TOOL_H

#include <signal.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/limits.h"
#include "base/random.h"
#include "tools/tso/check.h"
#include "transport/wish.h"

/* 2 MiB a slice hold more, but more pages than words would stay unused. */
#define TSO_PAGES_MAX 64u
/* A thread's record of a round: 48 bytes an operation; clocks of the checker, 264 bytes. */
#define TSO_OPS_MAX    2000u
#define TSO_ROUNDS_MAX 1000000u

enum tool_exit {
	TOOL_HOLDS = 0,
	TOOL_FAILED = 1,
	TOOL_USAGE = 2, /* COMMAND_USAGE */
	TOOL_BROKEN = 3,
	TOOL_SKIPPED = 77
};

/* Ways to break coherence, or a record of it, that must be caught (fault.c). */
enum tso_fault {
	FAULT_NONE,
	FAULT_PRIVATE_PAGE,
	FAULT_LATE_STORE,
	FAULT_STALE_LOAD,
	FAULT_TORN_UPDATE,
	FAULT_THIN_AIR, /* from here on the record is spoilt, not the run */
	FAULT_OLD_VALUE,
	FAULT_EARLY_VALUE,
	FAULT_LOST_UPDATE,
	FAULT_FINAL_VALUE,
	TSO_FAULTS
};

struct tso_options {
	unsigned slices, threads, words, pages, rounds, ops, seconds;
	uint64_t seed;
	bool stop, kill, cut, json;
	enum transport_wish transport;
	const char *transport_word;
	const char *address; /* that all listen at */
	enum tso_fault fault;
};

/* -1: go on; else the exit code. */
int options_read(int argc, char **argv, struct tso_options *o);

/* ---- memory that parent and slices share, beside the guest's ---- */

enum command {
	COMMAND_NONE,
	COMMAND_PLAY,  /* the round's program */
	COMMAND_FINAL, /* a thread of each slice reads all words */
	COMMAND_QUIT
};

struct shared_slice {
	_Atomic uint32_t state; /* enum slice_state */
	int32_t err;		/* of the engine's making */
	uint32_t port;
	_Atomic uint64_t lost; /* peers, as bits */
	uint64_t lost_ns;
	uint32_t stuck; /* threads that waited for a page that will not come */
	uint64_t faults, faults_remote, msgs;
};

enum slice_state {
	SLICE_BORN,
	SLICE_LISTENS,
	SLICE_FAILED, /* err says why */
	SLICE_READY,
	SLICE_OVER
};

struct shared_thread {
	_Atomic uint32_t begun, done;
	uint32_t epilogue;
	_Atomic uint32_t finished; /* the last command's number */
};

struct shared {
	/* The parent's. */
	_Atomic uint32_t connect;	 /* the ports are there */
	_Atomic uint32_t command_number; /* a futex; raised with each command */
	uint32_t command, round;
	_Atomic uint32_t end; /* wait no longer: whatever is not there will not come */
	_Atomic uint32_t cut_wanted;
	uint32_t cut_a, cut_b;
	uint64_t start_ns, hold_ns;
	uint64_t initial[TSO_WORDS_MAX];
	/* The slices'. */
	struct shared_slice slice[TSO_SLICES_MAX];
	struct shared_thread thread[TSO_THREADS_MAX];
	struct tso_op ops[]; /* of each thread: tso_ops_room() */
};

static inline uint32_t tso_ops_room(const struct tso_options *o)
{
	return o->ops + 1 + o->words; /* the fence at the end; the final reads */
}

/* The address of a word: pages take turns, and so do the slices that are their homes. */
static inline uint64_t tso_word_gpa(const struct tso_options *o, unsigned word)
{
	unsigned page = word % o->pages;

	return page % o->slices * HOME_CHUNK_SIZE +
	       (uint64_t)(page / o->slices) * PANGEA_PAGE_SIZE + word / o->pages * 8;
}

/* Below n, which is not 0. */
static inline unsigned random_below(uint64_t *state, unsigned n)
{
	return (unsigned)(random_splitmix(state) % n);
}

/* ---- program.c: what a thread does in a round ---- */

struct program {
	unsigned count;
	unsigned burst_max; /* operations between two looks at the clock */
	unsigned pause_ns;  /* at most, between bursts */
	uint64_t random;
};

/* Fills in the operations of a thread's round, the fence at the end included. */
void program_make(struct program *p, const struct tso_options *o, unsigned thread, unsigned round,
		  struct tso_op *ops);

/* ---- slice.c: one slice's process ---- */

/* Runs it; the result is the process's exit code. */
int slice_run(const struct tso_options *o, struct shared *s, unsigned self);

/* ---- player.c: a thread of a slice ---- */

struct player {
	const struct tso_options *o;
	struct shared *s;
	uint8_t *ram;
	unsigned slice, number;	      /* number: among all threads */
	_Atomic uint32_t quit;	      /* set by the slice */
	_Atomic uint32_t out;	      /* the thread has ended */
	bool stuck;		      /* it was torn out of a wait for memory */
	uint64_t last[TSO_WORDS_MAX]; /* what it saw last in each word */
	uint8_t *private_page;	      /* FAULT_PRIVATE_PAGE */
	struct tso_op *late;	      /* FAULT_LATE_STORE */
	uint64_t random;	      /* of faults */
};

/* A pthread's function; arg is a struct player. */
void *player_main(void *arg);
/*
 * Ends a player's wait for memory. ThreadSanitizer keeps other signals than those of a thread's own
 * doing, as SIGSYS is, until the thread calls libc, which one that waits for a page never does.
 */
#define PLAYER_SIGNAL SIGSYS
/* Makes the signal do so. Once a process, before its players start. */
void player_signal_install(void);

/* ---- cluster.c: processes from their start to their end ---- */

struct tso_totals {
	unsigned rounds, clusters, stops, kills, cuts, losses, stuck;
	uint64_t ops, events, edges, faults, faults_remote, msgs, faults_put;
	uint64_t notice_ns_max; /* from a loss to the last slice that was told */
};

struct cluster {
	const struct tso_options *o;
	struct tso_totals *totals;
	struct shared *s;
	size_t shared_bytes;
	pid_t pids[TSO_SLICES_MAX]; /* 0: gone */
	uint64_t stopped_until_ns[TSO_SLICES_MAX];
	uint64_t random; /* of disturbances */
	uint64_t next_stop_ns;
	uint64_t lost_wanted[TSO_SLICES_MAX]; /* the losses that a slice must be told of */
	uint64_t disturb_ns; /* when a slice is killed or a connection cut; 0: not */
	uint64_t disturbed_ns;
	unsigned round;
	unsigned killed; /* slices: none */
};

/* All below: 0, or an exit code after saying why on standard error. */
int cluster_start(struct cluster *c);
/* A round: programs, final reads. *torn: a slice or connection was lost in it, as was wanted. */
int cluster_round(struct cluster *c, bool disturb, bool *torn);
/* Ends the processes; each must end by itself, in time, with 0. */
int cluster_end(struct cluster *c);
/* Kills what is left; adds the slices' figures to the totals; frees. */
void cluster_free(struct cluster *c);

/* disturb.c: stops, kills, cuts; called again and again while the programs run. */
int disturb_step(struct cluster *c, uint64_t now_ns);
void disturb_continue_all(struct cluster *c);

/* ---- fault.c ---- */

const char *fault_name(enum tso_fault fault);
const char *fault_text(enum tso_fault fault);
/* Spoils a history if the fault is of that sort and it offers a place. Says if it did. */
bool fault_spoil(enum tso_fault fault, struct tso_history *h, uint64_t *random);

/* ---- main's: run.c, report.c ---- */

int run_all(const struct tso_options *o);
/* The command that repeats a run. */
void report_command(FILE *out, const struct tso_options *o);
void report_totals(const struct tso_options *o, const struct tso_totals *t, const char *verdict,
		   uint64_t elapsed_ns);

#endif
