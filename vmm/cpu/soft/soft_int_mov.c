/* SPDX-License-Identifier: Apache-2.0 */
/* MOV, MOVZX, MOVSX, LEA, CMOVcc, SETcc, BSWAP, XLAT, CBW.., flag moves, hint NOPs. */
#include "vmm/cpu/soft/soft_int.h"

/* ---- MOV
 * ----------------------------------------------------------------------------------------- */

#define MOV_FORMS(N)                                                                               \
	HANDLER(mov_rr##N)                                                                         \
	{                                                                                          \
		reg_set##N(c, i->rm, reg_get##N(c, i->reg));                                       \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(mov_ri##N)                                                                         \
	{                                                                                          \
		reg_set##N(c, i->rm, (uint##N##_t)i->imm);                                         \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER_LOAD(mov_rm##N, N, reg_set##N(c, i->reg, m))                                       \
	HANDLER_STORE(mov_mr##N, N, reg_get##N(c, i->reg))                                         \
	HANDLER_STORE(mov_mi##N, N, i->imm)

INT_EVERY_SIZE(MOV_FORMS)

static const struct int_op mov_rr[4] = INT_REG_SIZES(mov_rr);
static const struct int_op mov_ri[4] = INT_REG_SIZES(mov_ri);
static const struct int_op mov_rm[4] = INT_MEM_SIZES(mov_rm);
static const struct int_op mov_mr[4] = INT_MEM_SIZES(mov_mr);
static const struct int_op mov_mi[4] = INT_MEM_SIZES(mov_mi);

/* A0..A3: the address is in the instruction; it may have 64 bits. */
static inline uint64_t mov_moffs_linear(struct soft_cpu *c, const struct insn *i)
{
	return soft_linear(c, i->seg, i->imm);
}

HANDLER(mov_moffs_load)
{
	reg_set(c, RAX, i->opsize, soft_load(c, i, mov_moffs_linear(c, i), i->opsize));
	return SOFT_NEXT(c, i);
}

HANDLER(mov_moffs_store)
{
	soft_store(c, i, mov_moffs_linear(c, i), i->opsize, c->reg[RAX]);
	return SOFT_NEXT(c, i);
}

/* ---- MOVZX, MOVSX, MOVSXD
 * --------------------------------------------------------------------------- */

/* From F bits to T bits. */
#define EXTEND_FORMS(T, F)                                                                         \
	HANDLER(movzx_r##F##_##T)                                                                  \
	{                                                                                          \
		reg_set##T(c, i->reg, reg_get##F(c, i->rm));                                       \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(movsx_r##F##_##T)                                                                  \
	{                                                                                          \
		reg_set##T(c, i->reg, (uint##T##_t)(int##F##_t)reg_get##F(c, i->rm));              \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER_LOAD(movzx_m##F##_##T, F, reg_set##T(c, i->reg, m))                                \
	HANDLER_LOAD(movsx_m##F##_##T, F, reg_set##T(c, i->reg, (uint##T##_t)(int##F##_t)m))

EXTEND_FORMS(16, 8)
EXTEND_FORMS(32, 8)
EXTEND_FORMS(64, 8)
EXTEND_FORMS(16, 16)
EXTEND_FORMS(32, 16)
EXTEND_FORMS(64, 16)
EXTEND_FORMS(16, 32)
EXTEND_FORMS(32, 32)
EXTEND_FORMS(64, 32)

#define EXTEND_ROW(M, name, F) {{NULL, NULL}, M(name##F##_16), M(name##F##_32), M(name##F##_64)}
#define EXTEND_SOURCE(F)                                                                           \
	{EXTEND_ROW(INT_REG, movzx_r, F), EXTEND_ROW(INT_MEM, movzx_m, F),                         \
	 EXTEND_ROW(INT_REG, movsx_r, F), EXTEND_ROW(INT_MEM, movsx_m, F)}

/* [8, 16, 32 bits][zx reg, zx mem, sx reg, sx mem][destination] */
static const struct int_op extend_ops[3][4][4] = {
	EXTEND_SOURCE(8),
	EXTEND_SOURCE(16),
	EXTEND_SOURCE(32),
};

static bool extend_pick(struct soft_decode *d, unsigned source, bool sign)
{
	return int_pick(d, &extend_ops[source][sign * 2 + int_is_mem(d)][int_size_index(d)]);
}

/* ---- LEA
 * -------------------------------------------------------------------------------------------- */

HANDLER(lea64)
{
	c->reg[i->reg] = soft_ea_sum(c, i);
	return SOFT_NEXT(c, i);
}

HANDLER(lea32)
{
	c->reg[i->reg] = (uint32_t)soft_ea_sum(c, i);
	return SOFT_NEXT(c, i);
}

HANDLER(lea_any)
{
	reg_set(c, i->reg, i->opsize, soft_ea_offset(c, i));
	return SOFT_NEXT(c, i);
}

static bool lea_pick(struct soft_decode *d)
{
	struct insn *out = d->out;

	out->fn = lea_any;
	if (out->adsize == 8 && out->opsize >= 4)
		out->fn = out->opsize == 8 ? lea64 : lea32;
	return int_is_mem(d);
}

/* ---- CMOVcc, SETcc
 * ------------------------------------------------------------------------------------- */

/* A 32-bit destination loses its upper half even if the condition is false. */
#define CONDITION_HANDLERS(cc)                                                                     \
	HANDLER(cmov##cc##_rr64)                                                                   \
	{                                                                                          \
		if (soft_condition(c, cc))                                                         \
			c->reg[i->reg] = c->reg[i->rm];                                            \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(cmov##cc##_rr32)                                                                   \
	{                                                                                          \
		c->reg[i->reg] = (uint32_t)c->reg[soft_condition(c, cc) ? i->rm : i->reg];         \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(set##cc##_r)                                                                       \
	{                                                                                          \
		reg_set8(c, i->rm, soft_condition(c, cc));                                         \
		return SOFT_NEXT(c, i);                                                            \
	}
INT_CONDITIONS(CONDITION_HANDLERS)

#define CMOV_ENTRY(cc) {cmov##cc##_rr32, cmov##cc##_rr64},
#define SET_ENTRY(cc)  set##cc##_r,

static const insn_fn cmov_ops[16][2] = {INT_CONDITIONS(CMOV_ENTRY)};
static const insn_fn set_ops[16] = {INT_CONDITIONS(SET_ENTRY)};

/* The source is read, and may fault, whatever the condition. */
HANDLER(cmov_any)
{
	const uint64_t source = int_rm_load(c, i);

	if (soft_condition(c, i->opcode & 15))
		reg_set(c, i->reg, i->opsize, source);
	else if (i->opsize == 4)
		c->reg[i->reg] = (uint32_t)c->reg[i->reg];
	return SOFT_NEXT(c, i);
}

HANDLER(set_mem)
{
	soft_store8(c, i, soft_ea(c, i), soft_condition(c, i->opcode & 15));
	return SOFT_NEXT(c, i);
}

static bool cmov_pick(struct soft_decode *d)
{
	struct insn *out = d->out;

	out->fn = cmov_any;
	if (!int_is_mem(d) && out->opsize >= 4)
		out->fn = cmov_ops[d->opcode & 15][out->opsize == 8];
	return true;
}

/* ---- The rest
 * ------------------------------------------------------------------------------------------ */

HANDLER(bswap)
{
	uint64_t *r = &c->reg[i->rm];

	if (i->opsize == 8)
		*r = __builtin_bswap64(*r);
	else if (i->opsize == 4)
		*r = __builtin_bswap32((uint32_t)*r);
	else
		reg_set16(c, i->rm, 0); /* undefined; what processors do */
	return SOFT_NEXT(c, i);
}

HANDLER(xlat)
{
	uint64_t offset = c->reg[RBX] + (uint8_t)c->reg[RAX];

	if (i->adsize != 8)
		offset = i->adsize == 4 ? (uint32_t)offset : (uint16_t)offset;
	reg_set8(c, 0, soft_load8(c, i, soft_linear(c, i->seg, offset)));
	return SOFT_NEXT(c, i);
}

/* CBW, CWDE, CDQE */
HANDLER(convert_acc)
{
	reg_set(c, RAX, i->opsize, int_sign_extend(c->reg[RAX], i->opsize / 2u));
	return SOFT_NEXT(c, i);
}

/* CWD, CDQ, CQO */
HANDLER(convert_pair)
{
	reg_set(c, RDX, i->opsize,
		(uint64_t)((int64_t)int_sign_extend(c->reg[RAX], i->opsize) >> 63));
	return SOFT_NEXT(c, i);
}

HANDLER(sahf)
{
	const uint64_t kept = soft_of(c) ? FLAG_OF : 0;

	soft_flags_set_arith(c, (c->reg[RAX] >> 8 & 0xff & ~FLAG_OF) | kept);
	return SOFT_NEXT(c, i);
}

HANDLER(lahf)
{
	reg_set8(c, 1, (uint8_t)(soft_flags_get(c) | 2));
	return SOFT_NEXT(c, i);
}

HANDLER(flag_cmc)
{
	soft_flags_set_cf(c, !soft_cf(c));
	return SOFT_NEXT(c, i);
}

HANDLER(flag_clc)
{
	soft_flags_set_cf(c, false);
	return SOFT_NEXT(c, i);
}

HANDLER(flag_stc)
{
	soft_flags_set_cf(c, true);
	return SOFT_NEXT(c, i);
}

HANDLER(flag_cld)
{
	c->rflags &= ~(uint64_t)FLAG_DF;
	return SOFT_NEXT(c, i);
}

HANDLER(flag_std)
{
	c->rflags |= FLAG_DF;
	return SOFT_NEXT(c, i);
}

HANDLER(nop)
{
	return SOFT_NEXT(c, i);
}

/* ---- Selection
 * ------------------------------------------------------------------------------------------ */

static bool mov_pick_0f(struct soft_decode *d)
{
	switch (d->opcode) {
	case 0x40 ... 0x4f:
		return cmov_pick(d);
	case 0x90 ... 0x9f:
		d->out->fn = int_is_mem(d) ? set_mem : set_ops[d->opcode & 15];
		return true;
	case 0xb6:
	case 0xb7:
		return extend_pick(d, d->opcode & 1, false);
	case 0xbe:
	case 0xbf:
		return extend_pick(d, d->opcode & 1, true);
	case 0xc8 ... 0xcf:
		d->out->fn = bswap;
		return true;
	default: /* prefetches, 18..1F: hints, ENDBR and NOP */
		d->out->fn = nop;
		return true;
	}
}

static bool mov_pick_modrm(struct soft_decode *d)
{
	const unsigned n = int_size_index(d);

	if (int_is_mem(d))
		return int_pick(d, d->opcode & 2 ? &mov_rm[n] : &mov_mr[n]);
	if (d->opcode & 2) {
		const uint8_t rm = d->out->rm;

		d->out->rm = d->out->reg;
		d->out->reg = rm;
	}
	return int_pick(d, &mov_rr[n]);
}

static bool mov_pick_plain(struct soft_decode *d)
{
	static const insn_fn fns[256] = {
		[0x98] = convert_acc,
		[0x99] = convert_pair,
		[0x9e] = sahf,
		[0x9f] = lahf,
		[0xa0] = mov_moffs_load,
		[0xa1] = mov_moffs_load,
		[0xa2] = mov_moffs_store,
		[0xa3] = mov_moffs_store,
		[0xd7] = xlat,
		[0xf5] = flag_cmc,
		[0xf8] = flag_clc,
		[0xf9] = flag_stc,
		[0xfc] = flag_cld,
		[0xfd] = flag_std,
	};

	d->out->fn = fns[d->opcode];
	return d->out->fn != NULL;
}

bool soft_select_mov(struct soft_decode *d)
{
	const unsigned n = int_size_index(d);

	if (d->map == 1)
		return mov_pick_0f(d);
	switch (d->opcode) {
	case 0x63:
		return extend_pick(d, 2, true);
	case 0x88 ... 0x8b:
		return mov_pick_modrm(d);
	case 0x8d:
		return lea_pick(d);
	case 0xb0 ... 0xbf:
		return int_pick(d, &mov_ri[n]);
	case 0xc6:
	case 0xc7:
		return d->reg3 == 0 && int_pick(d, int_is_mem(d) ? &mov_mi[n] : &mov_ri[n]);
	default:
		return mov_pick_plain(d);
	}
}
