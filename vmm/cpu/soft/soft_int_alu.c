/* SPDX-License-Identifier: Apache-2.0 */
/* ADD OR ADC SBB AND SUB XOR CMP, TEST, INC, DEC, NOT, NEG in every width and operand form. */
#include "vmm/cpu/soft/soft_int.h"

/* ---- The operations: value of a and b, then flags -------------------------------------------- */

#define VALUE_add(a, b) ((a) + (b))
#define VALUE_or(a, b)	((a) | (b))
#define VALUE_adc(a, b) ((a) + (b) + soft_cf(c))
#define VALUE_sbb(a, b) ((a) - (b) - soft_cf(c))
#define VALUE_and(a, b) ((a) & (b))
#define VALUE_sub(a, b) ((a) - (b))
#define VALUE_xor(a, b) ((a) ^ (b))

#define FLAGS_add(N, a, b, r) flags_add##N(c, a, b, r)
#define FLAGS_or(N, a, b, r)  flags_logic##N(c, r)
#define FLAGS_adc(N, a, b, r) flags_add##N(c, a, b, r)
#define FLAGS_sbb(N, a, b, r) flags_sub##N(c, a, b, r)
#define FLAGS_and(N, a, b, r) flags_logic##N(c, r)
#define FLAGS_sub(N, a, b, r) flags_sub##N(c, a, b, r)
#define FLAGS_xor(N, a, b, r) flags_logic##N(c, r)

/* The same, LOCKed, at a host pointer: XADD gives the old value, a logic instruction the flags. */
#define HOSTED_SUM(N, addend, op)                                                                  \
	const uint##N##_t m = soft_lock_add##N(host, (uint##N##_t)(addend));                       \
	const uint##N##_t r = (uint##N##_t)VALUE_##op(m, b);                                       \
                                                                                                   \
	FLAGS_##op(N, m, b, r)
#define HOSTED_LOGIC(N, op) soft_flags_set_host_logic(c, soft_lock_##op##N(host, b))

#define HOSTED_add(N) HOSTED_SUM(N, b, add)
#define HOSTED_or(N)  HOSTED_LOGIC(N, or)
#define HOSTED_adc(N) HOSTED_SUM(N, b + soft_cf(c), adc)
#define HOSTED_sbb(N) HOSTED_SUM(N, 0 - b - soft_cf(c), sbb)
#define HOSTED_and(N) HOSTED_LOGIC(N, and)
#define HOSTED_sub(N) HOSTED_SUM(N, 0 - b, sub)
#define HOSTED_xor(N) HOSTED_LOGIC(N, xor)

/* The same for soft_locked. */
#define LOCKED_TYPE_add LOCKED_ADD
#define LOCKED_TYPE_or	LOCKED_OR
#define LOCKED_TYPE_adc LOCKED_ADD
#define LOCKED_TYPE_sbb LOCKED_ADD
#define LOCKED_TYPE_and LOCKED_AND
#define LOCKED_TYPE_sub LOCKED_ADD
#define LOCKED_TYPE_xor LOCKED_XOR

#define LOCKED_WITH_add(b) (b)
#define LOCKED_WITH_or(b)  (b)
#define LOCKED_WITH_adc(b) ((uint64_t)(b) + soft_cf(c))
#define LOCKED_WITH_sbb(b) (0 - (uint64_t)(b) - soft_cf(c))
#define LOCKED_WITH_and(b) (b)
#define LOCKED_WITH_sub(b) (0 - (uint64_t)(b))
#define LOCKED_WITH_xor(b) (b)

/* ---- Two operands
 * --------------------------------------------------------------------------------- */

/* Destination a register, the other operand b. */
#define ALU_REG(name, op, N, dest, other)                                                          \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint##N##_t a = reg_get##N(c, dest), b = (uint##N##_t)(other);               \
		const uint##N##_t r = (uint##N##_t)VALUE_##op(a, b);                               \
                                                                                                   \
		reg_set##N(c, dest, r);                                                            \
		FLAGS_##op(N, a, b, r);                                                            \
		return SOFT_NEXT(c, i);                                                            \
	}

/* Destination a register, the other operand memory. */
#define ALU_LOAD(name, op, N)                                                                      \
	HANDLER_LOAD(name, N, const uint##N##_t a = reg_get##N(c, i->reg);                         \
		     const uint##N##_t r = (uint##N##_t)VALUE_##op(a, m);                          \
		     reg_set##N(c, i->reg, r); FLAGS_##op(N, a, m, r))

/* Destination memory, plain and LOCKed. */
#define ALU_MODIFY(name, op, N, other)                                                             \
	HANDLER_MODIFY(name, N, VALUE_##op(m, (uint##N##_t)(other)),                               \
		       FLAGS_##op(N, m, (uint##N##_t)(other), r))
#define ALU_LOCKED(name, op, N, other)                                                             \
	HANDLER_LOCKED(name, N, other, HOSTED_##op(N), LOCKED_TYPE_##op, LOCKED_WITH_##op(b),      \
		       VALUE_##op(m, b), FLAGS_##op(N, m, b, r))

#define ALU_FORMS(op, N)                                                                           \
	ALU_REG(op##_rr##N, op, N, i->rm, reg_get##N(c, i->reg))                                   \
	ALU_REG(op##_ri##N, op, N, i->rm, i->imm)                                                  \
	ALU_LOAD(op##_rm##N, op, N)                                                                \
	ALU_MODIFY(op##_mr##N, op, N, reg_get##N(c, i->reg))                                       \
	ALU_MODIFY(op##_mi##N, op, N, i->imm)                                                      \
	ALU_LOCKED(op##_lock_mr##N, op, N, reg_get##N(c, i->reg))                                  \
	ALU_LOCKED(op##_lock_mi##N, op, N, i->imm)

#define ALU_WIDTHS(op) ALU_FORMS(op, 8) ALU_FORMS(op, 16) ALU_FORMS(op, 32) ALU_FORMS(op, 64)

ALU_WIDTHS(add)
ALU_WIDTHS(or)
ALU_WIDTHS(adc)
ALU_WIDTHS(sbb)
ALU_WIDTHS(and)
ALU_WIDTHS(sub)
ALU_WIDTHS(xor)

/* ---- CMP and TEST: flags alone
 * ---------------------------------------------------------------------- */

#define COMPARE_cmp(N, a, b)  flags_sub##N(c, a, b, (uint##N##_t)((a) - (b)))
#define COMPARE_test(N, a, b) flags_logic##N(c, (uint##N##_t)((a) & (b)))

#define COMPARE_REG(name, op, N, other)                                                            \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint##N##_t a = reg_get##N(c, i->rm), b = (uint##N##_t)(other);              \
                                                                                                   \
		COMPARE_##op(N, a, b);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}

#define COMPARE_FORMS(op, N)                                                                       \
	COMPARE_REG(op##_rr##N, op, N, reg_get##N(c, i->reg))                                      \
	COMPARE_REG(op##_ri##N, op, N, i->imm)                                                     \
	HANDLER_LOAD(op##_rm##N, N, const uint##N##_t a = reg_get##N(c, i->reg);                   \
		     COMPARE_##op(N, a, m))                                                        \
	HANDLER_LOAD(op##_mr##N, N, const uint##N##_t b = reg_get##N(c, i->reg);                   \
		     COMPARE_##op(N, m, b))                                                        \
	HANDLER_LOAD(op##_mi##N, N, const uint##N##_t b = (uint##N##_t)i->imm;                     \
		     COMPARE_##op(N, m, b))

#define COMPARE_WIDTHS(op)                                                                         \
	COMPARE_FORMS(op, 8) COMPARE_FORMS(op, 16) COMPARE_FORMS(op, 32) COMPARE_FORMS(op, 64)

COMPARE_WIDTHS(cmp)
COMPARE_WIDTHS(test)

/* ---- One operand
 * -------------------------------------------------------------------------------------- */

#define UNARY_VALUE_inc(a) ((a) + 1)
#define UNARY_VALUE_dec(a) ((a) - 1)
#define UNARY_VALUE_not(a) (~(a))
#define UNARY_VALUE_neg(a) (0 - (a))

#define UNARY_FLAGS_inc(N, a, r) flags_inc##N(c, a, r)
#define UNARY_FLAGS_dec(N, a, r) flags_dec##N(c, a, r)
#define UNARY_FLAGS_not(N, a, r) ((void)(a))
#define UNARY_FLAGS_neg(N, a, r) flags_sub##N(c, 0, a, r)

#define UNARY_HOSTED_SUM(N, addend, op)                                                            \
	const uint##N##_t m = soft_lock_add##N(host, (uint##N##_t)(addend));                       \
                                                                                                   \
	UNARY_FLAGS_##op(N, m, (uint##N##_t)UNARY_VALUE_##op(m))

#define UNARY_HOSTED_inc(N) UNARY_HOSTED_SUM(N, 1, inc)
#define UNARY_HOSTED_dec(N) UNARY_HOSTED_SUM(N, -1, dec)
#define UNARY_HOSTED_not(N) soft_lock_not##N(host)
#define UNARY_HOSTED_neg(N) soft_flags_set_host(c, soft_lock_neg##N(host))

#define UNARY_LOCKED_TYPE_inc LOCKED_ADD
#define UNARY_LOCKED_TYPE_dec LOCKED_ADD
#define UNARY_LOCKED_TYPE_not LOCKED_XOR
#define UNARY_LOCKED_TYPE_neg LOCKED_NEG

#define UNARY_LOCKED_WITH_inc 1
#define UNARY_LOCKED_WITH_dec UINT64_MAX
#define UNARY_LOCKED_WITH_not UINT64_MAX
#define UNARY_LOCKED_WITH_neg 0

#define UNARY_FORMS(op, N)                                                                         \
	HANDLER(op##_r##N)                                                                         \
	{                                                                                          \
		const uint##N##_t a = reg_get##N(c, i->rm);                                        \
		const uint##N##_t r = (uint##N##_t)UNARY_VALUE_##op(a);                            \
                                                                                                   \
		reg_set##N(c, i->rm, r);                                                           \
		UNARY_FLAGS_##op(N, a, r);                                                         \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER_MODIFY(op##_m##N, N, UNARY_VALUE_##op(m), UNARY_FLAGS_##op(N, m, r))               \
	HANDLER_LOCKED(op##_lock##N, N, 0, UNARY_HOSTED_##op(N), UNARY_LOCKED_TYPE_##op,           \
		       UNARY_LOCKED_WITH_##op, UNARY_VALUE_##op(m), UNARY_FLAGS_##op(N, m, r))

#define UNARY_WIDTHS(op)                                                                           \
	UNARY_FORMS(op, 8) UNARY_FORMS(op, 16) UNARY_FORMS(op, 32) UNARY_FORMS(op, 64)

UNARY_WIDTHS(inc)
UNARY_WIDTHS(dec)
UNARY_WIDTHS(not)
UNARY_WIDTHS(neg)

/* ---- Tables
 * ------------------------------------------------------------------------------------------- */

enum alu_form {
	FORM_RR, /* register, register */
	FORM_RI,
	FORM_RM, /* register, memory */
	FORM_MR,
	FORM_MI,
	FORM_LOCK_MR,
	FORM_LOCK_MI,
	FORM_COUNT
};

#define ALU_ROW(op)                                                                                \
	{                                                                                          \
		[FORM_RR] = INT_REG_SIZES(op##_rr),                                                \
		[FORM_RI] = INT_REG_SIZES(op##_ri),                                                \
		[FORM_RM] = INT_MEM_SIZES(op##_rm),                                                \
		[FORM_MR] = INT_MEM_SIZES(op##_mr),                                                \
		[FORM_MI] = INT_MEM_SIZES(op##_mi),                                                \
		[FORM_LOCK_MR] = INT_MEM_SIZES(op##_lock_mr),                                      \
		[FORM_LOCK_MI] = INT_MEM_SIZES(op##_lock_mi),                                      \
	}
#define COMPARE_ROW(op)                                                                            \
	{                                                                                          \
		[FORM_RR] = INT_REG_SIZES(op##_rr), [FORM_RI] = INT_REG_SIZES(op##_ri),            \
		[FORM_RM] = INT_MEM_SIZES(op##_rm), [FORM_MR] = INT_MEM_SIZES(op##_mr),            \
		[FORM_MI] = INT_MEM_SIZES(op##_mi),                                                \
	}
#define ALU_TEST 8

static const struct int_op alu_ops[9][FORM_COUNT][4] = {
	ALU_ROW(add), ALU_ROW(or),  ALU_ROW(adc),     ALU_ROW(sbb),	 ALU_ROW(and),
	ALU_ROW(sub), ALU_ROW(xor), COMPARE_ROW(cmp), COMPARE_ROW(test),
};

enum unary_form {
	UNARY_REG,
	UNARY_MEM,
	UNARY_LOCK,
	UNARY_FORM_COUNT
};

enum unary_op {
	UNARY_INC,
	UNARY_DEC,
	UNARY_NOT,
	UNARY_NEG,
};

#define UNARY_ROW(op) {INT_REG_SIZES(op##_r), INT_MEM_SIZES(op##_m), INT_MEM_SIZES(op##_lock)}

static const struct int_op unary_ops[4][UNARY_FORM_COUNT][4] = {
	[UNARY_INC] = UNARY_ROW(inc),
	[UNARY_DEC] = UNARY_ROW(dec),
	[UNARY_NOT] = UNARY_ROW(not),
	[UNARY_NEG] = UNARY_ROW(neg),
};

/* ---- Selection
 * ------------------------------------------------------------------------------------------ */

static bool alu_pick(struct soft_decode *d, unsigned op, enum alu_form form)
{
	if (d->prefix_lock)
		form = form == FORM_MR ? FORM_LOCK_MR : FORM_LOCK_MI;
	return int_pick(d, &alu_ops[op][form][int_size_index(d)]);
}

static bool unary_pick(struct soft_decode *d, enum unary_op op)
{
	const enum unary_form form = !int_is_mem(d)   ? UNARY_REG
				     : d->prefix_lock ? UNARY_LOCK
						      : UNARY_MEM;

	return int_pick(d, &unary_ops[op][form][int_size_index(d)]);
}

/* r/m and a register: with two registers the reversed forms (02, 03) swap their fields. */
static bool alu_pick_modrm(struct soft_decode *d, unsigned op, bool to_reg)
{
	struct insn *out = d->out;

	if (int_is_mem(d))
		return alu_pick(d, op, to_reg ? FORM_RM : FORM_MR);
	if (to_reg) {
		const uint8_t rm = out->rm;

		out->rm = out->reg;
		out->reg = rm;
	}
	return alu_pick(d, op, FORM_RR);
}

static bool alu_pick_imm(struct soft_decode *d, unsigned op)
{
	return alu_pick(d, op, int_is_mem(d) ? FORM_MI : FORM_RI);
}

/* The accumulator forms have no modrm: the decoder took the register from the opcode. */
static bool alu_pick_accumulator(struct soft_decode *d, unsigned op)
{
	d->out->rm = RAX;
	return alu_pick(d, op, FORM_RI);
}

bool soft_select_alu(struct soft_decode *d)
{
	const uint8_t op = d->opcode;

	if (op < 0x40) {
		if ((op & 7) < 4)
			return alu_pick_modrm(d, op >> 3, op & 2);
		return alu_pick_accumulator(d, op >> 3);
	}
	switch (op) {
	case 0x80 ... 0x83:
		return alu_pick_imm(d, d->reg3);
	case 0x84:
	case 0x85:
		return alu_pick_modrm(d, ALU_TEST, false);
	case 0xa8:
	case 0xa9:
		return alu_pick_accumulator(d, ALU_TEST);
	case 0xf6:
	case 0xf7:
		if (d->reg3 < 2)
			return alu_pick_imm(d, ALU_TEST);
		return unary_pick(d, d->reg3 == 2 ? UNARY_NOT : UNARY_NEG);
	case 0xfe:
	case 0xff:
		return unary_pick(d, d->reg3 == 0 ? UNARY_INC : UNARY_DEC);
	default: /* 40..4f outside of 64-bit mode */
		return unary_pick(d, op & 8 ? UNARY_DEC : UNARY_INC);
	}
}
