/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of predecoded instructions, their cache, and how execution goes from one to the next. */
#ifndef VMM_SOFT_SOFT_BLOCK_H
#define VMM_SOFT_SOFT_BLOCK_H

#include "vmm/cpu/soft/soft.h"
#include "vmm/cpu/soft/soft_parts.h"

/* Physical address, kind of code (block_kind), single. */
#define BLOCK_KEY(gpa, kind, single) ((uint64_t)(gpa) << 3 | (unsigned)(single) << 2 | (kind))
#define BLOCK_KEY_GFN(key)	     ((key) >> (3 + PAGE_SHIFT))
#define BLOCK_KEY_GPA(key)	     ((key) >> 3)

/* soft_block.flags */
#define BLOCK_SINGLE 0x1 /* one instruction, for soft_exec_one: never chained */
#define BLOCK_STRADDLE                                                                             \
	0x2 /* one instruction on two pages: checked at each entry, never chained                  \
	     */

/*
 * A block may be entered without a look at its source as long as nothing has hit its page (gen).
 * Else its bytes are compared.
 */
struct soft_block {
	_Atomic uint64_t *page_gen; /* &vm->code[gfn].gen */
	uint64_t gen;	/* what soft_code_watch gave before the bytes were last compared; a dead
			 block's and one's that must be compared at each entry: CODE_GEN_NONE */
	uint16_t count; /* instructions, without the terminator */
	uint8_t len;	/* bytes of source */
	uint8_t flags;
	struct soft_block *link[2]; /* same page: taken branch, fall-through; or a dead block */
	uint64_t key;		    /* BLOCK_KEY */
	struct soft_block *next;    /* in the hash chain */
	const uint8_t *bytes;	    /* the source as decoded */
	struct insn insns[];	    /* count, and a terminator */
};

/* Direct-mapped rip -> block; tag is rip ^ cache->salt. */
#define JUMP_BITS  12
#define JUMP_COUNT (1u << JUMP_BITS)

/* The salt: the privilege, so that a change of it and back keeps the short cuts of each, and that of the TLB's
 * context, a count of flushes. */
#define SALT_USER (UINT64_C(1) << 48)
#define SALT_STEP (UINT64_C(1) << 49)

struct soft_jump {
	uint64_t tag;
	struct soft_block *block;
};

#define BLOCK_HASH_BITS 16

struct soft_cache {
	struct soft_jump jump[JUMP_COUNT];
	uint64_t salt;		 /* in bits 63:48: what a canonical rip cannot differ in */
	uint64_t salts;		 /* the last one that was given to a context */
	struct soft_block *none; /* dead: the target of links that are not there yet */
	uint8_t *pool;
	size_t pool_used;
	uint64_t flushes;
	struct soft_block *hash[1u << BLOCK_HASH_BITS];
};

/* The block at c->rip, valid to enter now: found, compared anew, or built. Raises what the fetch
 * raises, with c->rip. single: for soft_exec_one. */
struct soft_block *soft_block_find(struct soft_cpu *c, bool single);
/* Out-of-line parts of soft_chain and soft_goto. */
const struct insn *soft_chain_slow(struct soft_cpu *c, unsigned slot, uint64_t target);
const struct insn *soft_goto_slow(struct soft_cpu *c, uint64_t target);

/* After whatever load told this CPU of a store: loads stay in order. */
static inline bool block_fresh(const struct soft_block *b)
{
	return atomic_load_explicit(b->page_gen, memory_order_acquire) == b->gen;
}

static inline bool block_interrupted(const struct soft_cpu *c)
{
	return atomic_load_explicit(&c->attention, memory_order_relaxed) | c->leave;
}

static inline const struct insn *block_enter(struct soft_cpu *c, struct soft_block *b, uint64_t rip)
{
	c->block = b;
	/* Its only store, one MOV as ever: other threads look at it (vcpu_ops.place). */
	__atomic_store_n(&c->reg[REG_RIP], rip, __ATOMIC_RELAXED);
	c->insn_count += b->count;
	return b->insns;
}

/* Blocks are counted as they are entered: takes i, which has not completed, and what follows it in
 * the running block off again. */
static inline void block_uncount(struct soft_cpu *c, const struct insn *i)
{
	c->insn_count -= c->block->count - (uint64_t)(i - c->block->insns);
}

/* Goes on with block b at rip, as the tail of a handler. */
static inline const struct insn *block_run(struct soft_cpu *c, struct soft_block *b, uint64_t rip)
{
	const struct insn *i = block_enter(c, b, rip);

#if SOFT_TAIL_DISPATCH
	return i->fn(c, i);
#else
	return i;
#endif
}

static inline struct soft_jump *block_jump(struct soft_cpu *c, uint64_t rip)
{
	return &c->cache->jump[(rip ^ rip >> JUMP_BITS) & (JUMP_COUNT - 1)];
}

/* How a handler ends with a direct branch (slot 0) or the fall-through (slot 1) to target. */
static inline const struct insn *soft_chain(struct soft_cpu *c, unsigned slot, uint64_t target)
{
	struct soft_block *b = c->block->link[slot];

	if (likely(block_fresh(b)) && likely(!block_interrupted(c)))
		return block_run(c, b, target);
	return soft_chain_slow(c, slot, target);
}

/* How a handler ends with any other branch to target. */
static inline const struct insn *soft_goto(struct soft_cpu *c, uint64_t target)
{
	const struct soft_jump *j = block_jump(c, target);

	if (likely(j->tag == (target ^ c->cache->salt)) && likely(block_fresh(j->block)) &&
	    likely(!block_interrupted(c)) && likely(!(c->block->flags & BLOCK_SINGLE)))
		return block_run(c, j->block, target);
	return soft_goto_slow(c, target);
}

#endif
