/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the decoder and the integer handlers: opcode attributes, registers, handler moulds. */
#ifndef VMM_SOFT_SOFT_INT_H
#define VMM_SOFT_SOFT_INT_H

#include <assert.h>

#include "vmm/cpu/soft/soft.h"
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_mem.h"
#include "vmm/cpu/soft/soft_lock.h"
#include "vmm/cpu/soft/soft_parts.h"

/* ---- Opcode attributes (soft_decode_table.c) ------------------------------------------------- */

/* Who selects the handler. PART_NONE is #UD. */
enum decode_part {
	PART_NONE,
	PART_ALU,
	PART_GROUP3, /* F6, F7: TEST, NOT, NEG; then MUL..IDIV */
	PART_GROUP5, /* FE, FF: INC, DEC; then branches, PUSH */
	PART_SHIFT,
	PART_MULDIV,
	PART_BIT,
	PART_MOV,
	PART_BRANCH,
	PART_STRING,
	PART_STACK,
	PART_ATOMIC,
	PART_SYSTEM,
	PART_FP,
	PART_VEX,
	PART_EXTRA, /* what processors got after 2003, on general registers */
	PART_COUNT
};

/* The immediate that follows modrm and displacement. */
enum decode_imm {
	IMM_NONE,
	IMM_8,	   /* sign-extended */
	IMM_16,	   /* zero-extended */
	IMM_Z,	   /* 16 or 32 bits by operand size, sign-extended to 64 */
	IMM_V,	   /* as wide as the operand (MOV r64, imm64) */
	IMM_16_8,  /* ENTER: imm = size | level << 16 */
	IMM_MOFFS, /* address of adsize bytes, in imm */
	IMM_FAR,   /* far pointer: imm = offset, disp = selector */
	REL_8,	   /* branches: imm = target relative to the block's start */
	REL_Z,
	IMM_GROUP3, /* IMM_8 or IMM_Z if modrm.reg is 0 or 1 (TEST) */
};

#define ATTR_PART(a)	  ((a) & 31u)
#define ATTR_IMM(a)	  ((enum decode_imm)((a) >> 5 & 15u))
#define ATTR_IMM_SET(imm) ((uint32_t)(imm) << 5)
#define ATTR_MODRM	  0x0200u
#define ATTR_BYTE_RM	  0x0400u /* r/m (or the opcode's register) is a byte register */
#define ATTR_BYTE_REG	  0x0800u
#define ATTR_BYTE	  0x1000u  /* operand size 1 */
#define ATTR_D64	  0x2000u  /* 64-bit mode: operand size 8, or 2 with 66 */
#define ATTR_F64	  0x4000u  /* 64-bit mode: operand size 8, 66 ignored (near branches) */
#define ATTR_INV64	  0x8000u  /* #UD in 64-bit mode */
#define ATTR_REG_RM	  0x10000u /* modrm.mod is ignored: r/m is a register (MOV CRn, DRn) */

extern const uint32_t decode_attr_one[256]; /* one-byte opcodes */
extern const uint32_t decode_attr_0f[256];  /* 0F xx */

/*
 * As soft_decode_insn, but the instruction lies off bytes behind its block's start: RIP-relative
 * displacements and branch targets count from there.
 */
bool soft_decode_at(const uint8_t *bytes, unsigned len, uint8_t mode, uint64_t features,
		    unsigned off, struct insn *out, bool *end);

/* Select functions of the integer parts; the contract is soft_select_system's. */
bool soft_select_alu(struct soft_decode *d);
bool soft_select_shift(struct soft_decode *d);
bool soft_select_muldiv(struct soft_decode *d);
bool soft_select_bit(struct soft_decode *d);
bool soft_select_mov(struct soft_decode *d);
bool soft_select_branch(struct soft_decode *d);
bool soft_select_string(struct soft_decode *d);
bool soft_select_stack(struct soft_decode *d);
bool soft_select_atomic(struct soft_decode *d);
bool soft_select_extra(struct soft_decode *d);
/* TZCNT and LZCNT; false: what older processors have there, BSF and BSR. */
bool soft_select_count(struct soft_decode *d);
/* What has a VEX prefix (soft_vex.c). */
bool soft_select_vex(struct soft_decode *d);
/* RDRAND, RDSEED, RDPID of 0F C7. */
bool soft_select_random(struct soft_decode *d);

/* Raises #UD; what invalid opcodes decode to. */
const struct insn *soft_op_ud(struct soft_cpu *c, const struct insn *i);

/* ---- Choosing handlers ----------------------------------------------------------------------- */

/* The two forms of a handler: fast computes the address inline and hands over to slow when the TLB
 * misses; slow takes any address form. Register forms have the same function twice. */
struct int_op {
	insn_fn fast, slow;
};
#define INT_MEM(name) {name, name##_slow}
#define INT_REG(name) {name, name}
#define INT_MEM_SIZES(name)                                                                        \
	{INT_MEM(name##8), INT_MEM(name##16), INT_MEM(name##32), INT_MEM(name##64)}
#define INT_REG_SIZES(name)                                                                        \
	{INT_REG(name##8), INT_REG(name##16), INT_REG(name##32), INT_REG(name##64)}
#define INT_EVERY_SIZE(M) M(8) M(16) M(32) M(64)

/* M for each condition code, as jcc, setcc and cmovcc number them. */
#define INT_CONDITIONS(M)                                                                          \
	M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)

static inline bool int_pick(struct soft_decode *d, const struct int_op *op)
{
	d->out->fn = d->out->flags & INSN_EA_SLOW ? op->slow : op->fast;
	return d->out->fn != NULL;
}

/* 0..3 for operand sizes 1, 2, 4, 8. */
static inline unsigned int_size_index(const struct soft_decode *d)
{
	return (unsigned)__builtin_ctz(d->out->opsize);
}

static inline bool int_is_mem(const struct soft_decode *d)
{
	return d->out->flags & INSN_MEM;
}

/* ---- Registers ------------------------------------------------------------------------------- */

/*
 * Byte registers are encoded as the offset of their byte in the register file (AH is 1, CL 8):
 * little-endian hosts only, as all of the CPU.
 */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "byte registers, guest memory");

static inline uint8_t reg_get8(const struct soft_cpu *c, unsigned r)
{
	return ((const uint8_t *)c->reg)[r];
}
static inline uint16_t reg_get16(const struct soft_cpu *c, unsigned r)
{
	return (uint16_t)c->reg[r];
}
static inline uint32_t reg_get32(const struct soft_cpu *c, unsigned r)
{
	return (uint32_t)c->reg[r];
}
static inline uint64_t reg_get64(const struct soft_cpu *c, unsigned r)
{
	return c->reg[r];
}
static inline void reg_set8(struct soft_cpu *c, unsigned r, uint8_t value)
{
	((uint8_t *)c->reg)[r] = value;
}
static inline void reg_set16(struct soft_cpu *c, unsigned r, uint16_t value)
{
	c->reg[r] = (c->reg[r] & ~(uint64_t)UINT16_MAX) | value;
}
static inline void reg_set32(struct soft_cpu *c, unsigned r, uint32_t value)
{
	c->reg[r] = value;
}
static inline void reg_set64(struct soft_cpu *c, unsigned r, uint64_t value)
{
	c->reg[r] = value;
}

/* By operand size; byte registers by their encoding. */
static inline uint64_t reg_get(const struct soft_cpu *c, unsigned r, unsigned size)
{
	switch (size) {
	case 1:
		return reg_get8(c, r);
	case 2:
		return reg_get16(c, r);
	case 4:
		return reg_get32(c, r);
	default:
		return reg_get64(c, r);
	}
}

static inline void reg_set(struct soft_cpu *c, unsigned r, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		reg_set8(c, r, (uint8_t)value);
		break;
	case 2:
		reg_set16(c, r, (uint16_t)value);
		break;
	case 4:
		reg_set32(c, r, (uint32_t)value);
		break;
	default:
		reg_set64(c, r, value);
	}
}

/* The r/m operand's value, register or memory. */
static inline uint64_t int_rm_load(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return soft_load(c, i, soft_ea(c, i), i->opsize);
	return reg_get(c, i->rm, i->opsize);
}

static inline uint64_t int_sign_extend(uint64_t value, unsigned size)
{
	const unsigned shift = 64 - size * 8;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

static inline uint64_t int_mask(unsigned size)
{
	return UINT64_MAX >> (64 - size * 8);
}

/* Flags after a logic operation or a comparison of a run-time size. */
static inline void int_flags_logic(struct soft_cpu *c, uint64_t r, unsigned size)
{
	flags_logic64(c, int_sign_extend(r, size));
}

static inline void int_flags_sub(struct soft_cpu *c, uint64_t a, uint64_t b, unsigned size)
{
	switch (size) {
	case 1:
		flags_sub8(c, (uint8_t)a, (uint8_t)b, (uint8_t)(a - b));
		break;
	case 2:
		flags_sub16(c, (uint16_t)a, (uint16_t)b, (uint16_t)(a - b));
		break;
	case 4:
		flags_sub32(c, (uint32_t)a, (uint32_t)b, (uint32_t)(a - b));
		break;
	default:
		flags_sub64(c, a, b, a - b);
	}
}

/* ---- Moulds of handlers ---------------------------------------------------------------------- */

#define HANDLER(name) static const struct insn *name(struct soft_cpu *c, const struct insn *i)
#define HANDLER_SLOW(name)                                                                         \
	static __attribute__((noinline))                                                           \
	const struct insn *name##_slow(struct soft_cpu *c, const struct insn *i)

static inline const struct soft_tlb_entry *int_tlb(const struct soft_tlb_entry *array,
						   uint64_t linear)
{
	return &array[(linear >> PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];
}

static inline bool int_tlb_hit(const struct soft_tlb_entry *e, uint64_t linear, unsigned size)
{
	return likely(((linear + size - 1) & LINEAR_PAGE_MASK) == e->tag);
}

/* The same for a host atomic: see soft_lock_ptr. */
static inline bool int_tlb_hit_aligned(const struct soft_tlb_entry *e, uint64_t linear,
				       unsigned size)
{
	return likely((linear & (LINEAR_PAGE_MASK | (size - 1))) == e->tag);
}

static inline void *int_host(const struct soft_tlb_entry *e, uint64_t linear)
{
	return (void *)(uintptr_t)(linear + e->addend);
}

/*
 * The fast forms make no call that returns, so that they need no stack frame: on a TLB miss they
 * leave for the slow form as a whole, having changed nothing.
 *
 * HANDLER_LOAD: the body finds the operand as m.
 */
#define HANDLER_LOAD(name, N, ...)                                                                 \
	HANDLER_SLOW(name)                                                                         \
	{                                                                                          \
		const uint##N##_t m = soft_load##N(c, i, soft_ea(c, i));                           \
                                                                                                   \
		__VA_ARGS__;                                                                       \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint64_t linear = soft_ea_sum(c, i);                                         \
		const struct soft_tlb_entry *e = int_tlb(c->tlb->read, linear);                    \
                                                                                                   \
		if (!int_tlb_hit(e, linear, N / 8))                                                \
			return name##_slow(c, i);                                                  \
		const uint##N##_t m = soft_host_load##N(int_host(e, linear));                      \
                                                                                                   \
		__VA_ARGS__;                                                                       \
		return SOFT_NEXT(c, i);                                                            \
	}

/* HANDLER_STORE: stores the value. */
#define HANDLER_STORE(name, N, value)                                                              \
	HANDLER_SLOW(name)                                                                         \
	{                                                                                          \
		soft_store##N(c, i, soft_ea(c, i), (uint##N##_t)(value));                          \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint64_t linear = soft_ea_sum(c, i);                                         \
		const struct soft_tlb_entry *e = int_tlb(c->tlb->write, linear);                   \
                                                                                                   \
		if (!int_tlb_hit(e, linear, N / 8))                                                \
			return name##_slow(c, i);                                                  \
		soft_host_store##N(int_host(e, linear), (uint##N##_t)(value));                     \
		return SOFT_NEXT(c, i);                                                            \
	}

/* HANDLER_MODIFY: a plain read-modify-write: result from m, then the body (flags) with m and r. */
#define HANDLER_MODIFY(name, N, result, ...)                                                       \
	HANDLER_SLOW(name)                                                                         \
	{                                                                                          \
		const uint64_t linear = soft_ea(c, i);                                             \
		void *host = soft_write_ptr(c, i, linear, N / 8);                                  \
		const uint##N##_t m = host ? soft_host_load##N(host) : soft_load##N(c, i, linear); \
		const uint##N##_t r = (uint##N##_t)(result);                                       \
                                                                                                   \
		if (host)                                                                          \
			soft_host_store##N(host, r);                                               \
		else                                                                               \
			soft_store##N(c, i, linear, r);                                            \
		__VA_ARGS__;                                                                       \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint64_t linear = soft_ea_sum(c, i);                                         \
		const struct soft_tlb_entry *e = int_tlb(c->tlb->write, linear);                   \
                                                                                                   \
		if (!int_tlb_hit(e, linear, N / 8))                                                \
			return name##_slow(c, i);                                                  \
		void *host = int_host(e, linear);                                                  \
		const uint##N##_t m = soft_host_load##N(host);                                     \
		const uint##N##_t r = (uint##N##_t)(result);                                       \
                                                                                                   \
		soft_host_store##N(host, r);                                                       \
		__VA_ARGS__;                                                                       \
		return SOFT_NEXT(c, i);                                                            \
	}

/*
 * HANDLER_LOCKED: the same with LOCK; b is the other operand. hosted does it, with flags, at the
 * pointer host; where the host must not, the operation is as soft_locked has it (type, operand),
 * followed by the body (flags) with b, m and r.
 */
#define HANDLER_LOCKED(name, N, other, hosted, type, operand, result, ...)                         \
	HANDLER_SLOW(name)                                                                         \
	{                                                                                          \
		const uint64_t linear = soft_ea(c, i);                                             \
		const uint##N##_t b = (uint##N##_t)(other);                                        \
		void *host = soft_lock_ptr(c, i, linear, N / 8);                                   \
                                                                                                   \
		(void)b;                                                                           \
		if (host) {                                                                        \
			hosted;                                                                    \
			soft_lock_end(c);                                                          \
		} else {                                                                           \
			const uint##N##_t m =                                                      \
				(uint##N##_t)soft_locked(c, i, linear, N / 8, type, operand, 0);   \
			const uint##N##_t r = (uint##N##_t)(result);                               \
                                                                                                   \
			(void)r;                                                                   \
			__VA_ARGS__;                                                               \
		}                                                                                  \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint64_t linear = soft_ea_sum(c, i);                                         \
		const struct soft_tlb_entry *e = int_tlb(c->tlb->write, linear);                   \
                                                                                                   \
		if (!int_tlb_hit_aligned(e, linear, N / 8))                                        \
			return name##_slow(c, i);                                                  \
		const uint##N##_t b = (uint##N##_t)(other);                                        \
		void *host = int_host(e, linear);                                                  \
                                                                                                   \
		(void)b;                                                                           \
		hosted;                                                                            \
		return SOFT_NEXT(c, i);                                                            \
	}

#endif
