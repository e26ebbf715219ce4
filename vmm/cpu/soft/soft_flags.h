/* SPDX-License-Identifier: Apache-2.0 */
/* Lazy arithmetic flags: what an instruction leaves behind, and how each flag is read from it. */
#ifndef VMM_SOFT_SOFT_FLAGS_H
#define VMM_SOFT_SOFT_FLAGS_H

#include "vmm/cpu/soft/soft.h"

/*
 * The scheme is Bochs' (lazy_flags.h there). flag_result is the result sign-extended to 64 bits;
 * flag_aux says what the result cannot:
 *   bit 31     CF
 *   bit 30     PO: the carry into the sign bit, so that OF = CF ^ PO
 *   bits 8-15  a byte to be xored to the result's low byte before its parity is taken
 *   bit 3      AF
 *   bit 0      to be xored to the result's sign
 * So ZF is flag_result == 0, each flag is read by itself, and logic operations store zero.
 */
#define AUX_CF	  0x80000000u
#define AUX_PO	  0x40000000u
#define AUX_AF	  0x00000008u
#define AUX_CARRY (AUX_CF | AUX_PO)

static inline bool soft_cf(const struct soft_cpu *c)
{
	return c->flag_aux >> 31 & 1;
}

static inline bool soft_of(const struct soft_cpu *c)
{
	return (c->flag_aux ^ c->flag_aux << 1) >> 31 & 1;
}

static inline bool soft_zf(const struct soft_cpu *c)
{
	return c->flag_result == 0;
}

static inline bool soft_sf(const struct soft_cpu *c)
{
	return (c->flag_result >> 63 ^ c->flag_aux) & 1;
}

static inline bool soft_af(const struct soft_cpu *c)
{
	return c->flag_aux >> 3 & 1;
}

static inline bool soft_pf(const struct soft_cpu *c)
{
	return !__builtin_parity((c->flag_result ^ c->flag_aux >> 8) & 0xff);
}

/* SF != OF: "less" of signed comparisons. */
static inline bool soft_less(const struct soft_cpu *c)
{
	uint64_t a = c->flag_aux;

	return (c->flag_result >> 63 ^ a ^ a >> 31 ^ a >> 30) & 1;
}

/* The condition of Jcc, SETcc, CMOVcc: the opcode's low four bits (SDM 1, appendix B). */
static inline bool soft_condition(const struct soft_cpu *c, unsigned cc)
{
	bool value;

	switch (cc >> 1 & 7) {
	case 0:
		value = soft_of(c);
		break;
	case 1:
		value = soft_cf(c);
		break;
	case 2:
		value = soft_zf(c);
		break;
	case 3:
		value = soft_cf(c) + soft_zf(c) != 0;
		break;
	case 4:
		value = soft_sf(c);
		break;
	case 5:
		value = soft_pf(c);
		break;
	case 6:
		value = soft_less(c);
		break;
	default:
		value = soft_less(c) + soft_zf(c) != 0;
	}
	return value ^ (cc & 1);
}

/* The whole RFLAGS. */
static inline uint64_t soft_flags_get(const struct soft_cpu *c)
{
	return (c->rflags & ~(uint64_t)FLAGS_ARITH) | (soft_cf(c) ? FLAG_CF : 0) |
	       (soft_pf(c) ? FLAG_PF : 0) | (soft_af(c) ? FLAG_AF : 0) |
	       (soft_zf(c) ? FLAG_ZF : 0) | (soft_sf(c) ? FLAG_SF : 0) | (soft_of(c) ? FLAG_OF : 0);
}

/* Only CF PF AF ZF SF OF, from bits. */
static inline void soft_flags_set_arith(struct soft_cpu *c, uint64_t bits)
{
	const uint64_t result = !(bits & FLAG_ZF);
	const uint64_t parity = result ^ !(bits & FLAG_PF);
	const uint64_t cf = bits & FLAG_CF ? 1 : 0;
	const uint64_t of = bits & FLAG_OF ? 1 : 0;

	c->flag_result = result;
	c->flag_aux = (bits & FLAG_SF ? 1 : 0) | (bits & FLAG_AF ? AUX_AF : 0) | parity << 8 |
		      cf << 31 | (cf ^ of) << 30;
}

/* The whole RFLAGS, without privilege checks. */
static inline void soft_flags_set(struct soft_cpu *c, uint64_t rflags)
{
	c->rflags = (rflags & ~(uint64_t)FLAGS_ARITH) | 2;
	soft_flags_set_arith(c, rflags);
}

static inline void soft_flags_set_zf(struct soft_cpu *c, bool zf)
{
	uint64_t flags = soft_flags_get(c);

	soft_flags_set_arith(c, zf ? flags | FLAG_ZF : flags & ~(uint64_t)FLAG_ZF);
}

/* CF alone; OF stays. */
static inline void soft_flags_set_cf(struct soft_cpu *c, bool cf)
{
	const uint64_t flip = (c->flag_aux >> 31 & 1) ^ cf;

	c->flag_aux ^= flip << 31 | flip << 30;
}

/* CF and OF alone (rotates). */
static inline void soft_flags_set_cf_of(struct soft_cpu *c, bool cf, bool of)
{
	c->flag_aux = (c->flag_aux & ~(uint64_t)AUX_CARRY) | (uint64_t)cf << 31 |
		      (uint64_t)(cf ^ of) << 30;
}

/* The carries out of every bit, moved so that the top two are CF and PO. */
#define FLAGS_AUX_8(carries)                                                                       \
	(((uint32_t)(carries) << 24 & AUX_CARRY) | ((uint32_t)(carries) & AUX_AF))
#define FLAGS_AUX_16(carries)                                                                      \
	(((uint32_t)(carries) << 16 & AUX_CARRY) | ((uint32_t)(carries) & AUX_AF))
#define FLAGS_AUX_32(carries) ((uint32_t)(carries) & (AUX_CARRY | AUX_AF))
#define FLAGS_AUX_64(carries)                                                                      \
	(((uint32_t)((carries) >> 32) & AUX_CARRY) | ((uint32_t)(carries) & AUX_AF))

/*
 * Per width: the flags after ADD/ADC, SUB/SBB/CMP (result r of a and b with any carry in), logic
 * operations, and INC/DEC, which keep CF.
 */
#define FLAGS_OF_WIDTH(N)                                                                          \
	static inline void flags_logic##N(struct soft_cpu *c, uint##N##_t r)                       \
	{                                                                                          \
		c->flag_result = (uint64_t)(int64_t)(int##N##_t)r;                                 \
		c->flag_aux = 0;                                                                   \
	}                                                                                          \
	static inline void flags_add##N(struct soft_cpu *c, uint##N##_t a, uint##N##_t b,          \
					uint##N##_t r)                                             \
	{                                                                                          \
		const uint##N##_t carries = (a & b) | ((a | b) & ~r);                              \
                                                                                                   \
		c->flag_result = (uint64_t)(int64_t)(int##N##_t)r;                                 \
		c->flag_aux = FLAGS_AUX_##N(carries);                                              \
	}                                                                                          \
	static inline void flags_sub##N(struct soft_cpu *c, uint##N##_t a, uint##N##_t b,          \
					uint##N##_t r)                                             \
	{                                                                                          \
		const uint##N##_t borrows = (~a & b) | ((~a | b) & r);                             \
                                                                                                   \
		c->flag_result = (uint64_t)(int64_t)(int##N##_t)r;                                 \
		c->flag_aux = FLAGS_AUX_##N(borrows);                                              \
	}                                                                                          \
	static inline void flags_inc##N(struct soft_cpu *c, uint##N##_t a, uint##N##_t r)          \
	{                                                                                          \
		const bool cf = soft_cf(c);                                                        \
                                                                                                   \
		flags_add##N(c, a, 1, r);                                                          \
		soft_flags_set_cf(c, cf);                                                          \
	}                                                                                          \
	static inline void flags_dec##N(struct soft_cpu *c, uint##N##_t a, uint##N##_t r)          \
	{                                                                                          \
		const bool cf = soft_cf(c);                                                        \
                                                                                                   \
		flags_sub##N(c, a, 1, r);                                                          \
		soft_flags_set_cf(c, cf);                                                          \
	}
FLAGS_OF_WIDTH(8)
FLAGS_OF_WIDTH(16)
FLAGS_OF_WIDTH(32)
FLAGS_OF_WIDTH(64)

#endif
