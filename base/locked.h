/* SPDX-License-Identifier: Apache-2.0 */
/* A LOCKed access as data: who may touch its bytes alone does the operation, whoever asked for it. */
#ifndef BASE_LOCKED_H
#define BASE_LOCKED_H

#include <stdbool.h>
#include <stdint.h>

/* What becomes of the operand; every LOCKed instruction is one of these. */
enum locked_type {
	LOCKED_SET,	/* the operand */
	LOCKED_ADD,	/* old + operand */
	LOCKED_AND,	/* old & operand */
	LOCKED_OR,	/* old | operand */
	LOCKED_XOR,	/* old ^ operand */
	LOCKED_NEG,	/* 0 - old */
	LOCKED_COMPARE, /* the operand if old is the expected value, else old, written back */
	LOCKED_TYPES
};

/* A piece of the access's bytes within one page of guest memory. */
struct locked_part {
	uint64_t gpa;
	unsigned bytes; /* of the second part: 0 if there is none */
};

/* Values are little-endian: word 0 is the lower half of 16 bytes, or the whole of fewer. */
struct locked_access {
	enum locked_type type;
	struct locked_part part[2]; /* in the operand's order; 1, 2, 4, 8 or 16 bytes together */
	uint64_t operand[2], expected[2];
	uint64_t old[2]; /* out: what was there, zero-extended */
};

/* Bytes of both parts. */
unsigned locked_size(const struct locked_access *access);
/* Is it one of the operations, of a size that there is, and each part within a page? */
bool locked_valid(const struct locked_access *access);
/* The operation alone: what the bytes become that were old. Sixteen bytes are set or compared only. */
void locked_apply(const struct locked_access *access, const uint64_t old[2], uint64_t result[2]);
/* The whole access, and access->old: part k lies at place[k], which nobody else touches meanwhile. */
void locked_perform(struct locked_access *access, uint8_t *const place[2]);

#endif
