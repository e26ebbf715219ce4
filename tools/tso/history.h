/* SPDX-License-Identifier: Apache-2.0 */
/* What threads did to shared words and what they saw: the record that the checker judges. */
#ifndef TSO_HISTORY_H
#define TSO_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Eight slices of four threads: more would only wait for the two or four CPUs of a test machine. */
#define TSO_SLICES_MAX	8u
#define TSO_THREADS_MAX 32u
/* The checker's tables are threads x words; more words means less contention. */
#define TSO_WORDS_MAX	64u
#define TSO_NO_EPILOGUE UINT32_MAX

enum tso_kind {
	TSO_LOAD,
	TSO_STORE,
	TSO_FENCE,
	TSO_XCHG,
	TSO_XADD,
	TSO_CMPXCHG,
	TSO_KINDS
};

struct tso_op {
	uint64_t value;		   /* what is stored; of XADD what is added */
	uint64_t expect;	   /* CMPXCHG: stores only if the word holds this */
	uint64_t result;	   /* what a load or a locked operation found */
	uint64_t begin_ns, end_ns; /* end 0: not known */
	uint8_t kind, word;
};

/* One thread's operations in program order. */
struct tso_trace {
	struct tso_op *ops;
	/* Those below `done` were executed and recorded; those up to `begun` maybe executed. */
	uint32_t begun, done;
	/* From here on come reads that began after all threads had ended what stands before. */
	uint32_t epilogue;
};

struct tso_history {
	unsigned threads, words, threads_per_slice;
	const uint64_t *initial; /* of each word */
	struct tso_trace traces[TSO_THREADS_MAX];
};

/* Locked operations drain the store buffer as MFENCE does. */
static inline bool tso_kind_fences(unsigned kind)
{
	return kind >= TSO_FENCE && kind < TSO_KINDS;
}

/* A locked read-modify-write. */
static inline bool tso_kind_updates(unsigned kind)
{
	return kind > TSO_FENCE && kind < TSO_KINDS;
}

/* "load", "xadd"; static storage. */
const char *tso_kind_name(unsigned kind);
/* Writes "slice 1 thread 0 #17: load w3 = 0x12 [4.000 .. 4.100 us]" without a line's end; times
 * count from base_ns. Thread number h->threads stands for the initial values, index for the word.
 */
void tso_op_print(FILE *out, const struct tso_history *h, unsigned thread, unsigned index,
		  uint64_t base_ns);

#endif
