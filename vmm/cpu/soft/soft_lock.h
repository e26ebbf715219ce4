/* SPDX-License-Identifier: Apache-2.0 */
/* LOCKed read-modify-writes of guest memory, each as one LOCKed instruction of the host. */
#ifndef VMM_SOFT_SOFT_LOCK_H
#define VMM_SOFT_SOFT_LOCK_H

#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_mem.h"

/*
 * No load comes before: it would ask for a missing page for reading, and the store once more, for
 * writing, where the guest's instruction asks once. So no loop of load and compare-and-swap, which
 * is what the compiler's builtins are where the old value is asked for and it is not XADD.
 *
 * The host pointers are from soft_lock_ptr. bit is less than the operand's bits, so that no byte
 * but the operand's is touched.
 */
#define LOCK_AT(N, host) (*(struct soft_unaligned##N *)(host))

/* The host's flags as LAHF leaves them in AH, and OF in AL, become the guest's. */
static inline void soft_flags_set_host(struct soft_cpu *c, uint32_t ax)
{
	soft_flags_set_arith(c, (ax >> 8 & 0xff) | (ax & 1 ? FLAG_OF : 0));
}

/* The same after a logic operation, in a few instructions: a result that has ZF alone, and what is
 * to be xored to its sign and its parity. */
static inline void soft_flags_set_host_logic(struct soft_cpu *c, uint32_t ax)
{
	c->flag_result = ~ax & FLAG_ZF << 8;
	c->flag_aux = (~ax & FLAG_PF << 8) | (ax >> 15 & 1);
}

/* What was there before b was added to it. */
#define LOCK_ADD(N)                                                                                \
	static inline uint##N##_t soft_lock_add##N(void *host, uint##N##_t b)                      \
	{                                                                                          \
		return __atomic_fetch_add((uint##N##_t *)host, b, __ATOMIC_SEQ_CST);               \
	}

/* OR, AND, XOR: the flags, since the host gives no value and another CPU may store before it could
 * be read. */
#define LOCK_LOGIC(op, N, suffix)                                                                  \
	static inline uint32_t soft_lock_##op##N(void *host, uint##N##_t b)                        \
	{                                                                                          \
		uint32_t ax;                                                                       \
                                                                                                   \
		__asm__ volatile("lock " #op suffix " %2, %1\n\tlahf"                              \
				 : "=a"(ax), "+m"(LOCK_AT(N, host))                                \
				 : "q"(b)                                                          \
				 : "cc", "memory");                                                \
		return ax;                                                                         \
	}

#define LOCK_UNARY(N, suffix)                                                                      \
	static inline uint32_t soft_lock_neg##N(void *host)                                        \
	{                                                                                          \
		uint32_t ax;                                                                       \
                                                                                                   \
		__asm__ volatile("lock neg" suffix " %1\n\tlahf\n\tseto %b0"                       \
				 : "=a"(ax), "+m"(LOCK_AT(N, host))                                \
				 :                                                                 \
				 : "cc", "memory");                                                \
		return ax;                                                                         \
	}                                                                                          \
	static inline void soft_lock_not##N(void *host)                                            \
	{                                                                                          \
		__asm__ volatile("lock not" suffix " %0" : "+m"(LOCK_AT(N, host)) : : "memory");   \
	}

#define LOCK_WIDTH(N, suffix)                                                                      \
	LOCK_ADD(N)                                                                                \
	LOCK_LOGIC(or, N, suffix)                                                                  \
	LOCK_LOGIC(and, N, suffix)                                                                 \
	LOCK_LOGIC(xor, N, suffix)                                                                 \
	LOCK_UNARY(N, suffix)

LOCK_WIDTH(8, "b")
LOCK_WIDTH(16, "w")
LOCK_WIDTH(32, "l")
LOCK_WIDTH(64, "q")

#define LOCK_BIT_WIDTH(op, N, suffix)                                                              \
	static inline bool soft_lock_##op##N(void *host, uint##N##_t bit)                          \
	{                                                                                          \
		bool was;                                                                          \
                                                                                                   \
		__asm__ volatile("lock " #op suffix " %2, %1"                                      \
				 : "=@ccc"(was), "+m"(LOCK_AT(N, host))                            \
				 : "r"(bit)                                                        \
				 : "memory");                                                      \
		return was;                                                                        \
	}
/* The bit as it was, of 2, 4 or 8 bytes. */
#define LOCK_BIT(op)                                                                               \
	LOCK_BIT_WIDTH(op, 16, "w")                                                                \
	LOCK_BIT_WIDTH(op, 32, "l")                                                                \
	LOCK_BIT_WIDTH(op, 64, "q")                                                                \
	static inline bool soft_lock_##op(void *host, unsigned size, uint64_t bit)                 \
	{                                                                                          \
		return size == 8   ? soft_lock_##op##64(host, bit)                                 \
		       : size == 4 ? soft_lock_##op##32(host, (uint32_t)bit)                       \
				   : soft_lock_##op##16(host, (uint16_t)bit);                      \
	}

LOCK_BIT(bts)
LOCK_BIT(btr)
LOCK_BIT(btc)

#endif
