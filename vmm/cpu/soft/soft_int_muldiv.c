/* SPDX-License-Identifier: Apache-2.0 */
/* MUL, IMUL, DIV, IDIV, and the decimal adjustments of 16- and 32-bit code. */
#include "vmm/cpu/soft/soft_int.h"

typedef unsigned __int128 uint128;
typedef __int128 int128;

/* SF, ZF, PF and AF are undefined after a multiplication: they come from the low half, as Intel
 * processors do it; CF = OF = the high half matters. */
static inline void mul_flags(struct soft_cpu *c, uint64_t low, unsigned size, bool wide)
{
	c->flag_result = int_sign_extend(low, size);
	c->flag_aux = wide ? AUX_CF : 0; /* PO = CF ^ OF = 0 */
}

/* ---- IMUL with two and three operands -------------------------------------------------------- */

#define IMUL_TRUNCATED(N, a, b)                                                                    \
	int##N##_t r;                                                                              \
	const bool wide = __builtin_mul_overflow((int##N##_t)(a), (int##N##_t)(b), &r);            \
                                                                                                   \
	reg_set##N(c, i->reg, (uint##N##_t)r);                                                     \
	mul_flags(c, (uint64_t)(int64_t)r, 8, wide)

#define IMUL_FORMS(N)                                                                              \
	HANDLER(imul_rr##N)                                                                        \
	{                                                                                          \
		IMUL_TRUNCATED(N, reg_get##N(c, i->reg), reg_get##N(c, i->rm));                    \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(imul_rri##N)                                                                       \
	{                                                                                          \
		IMUL_TRUNCATED(N, reg_get##N(c, i->rm), i->imm);                                   \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER_LOAD(imul_rm##N, N, IMUL_TRUNCATED(N, reg_get##N(c, i->reg), m))                   \
	HANDLER_LOAD(imul_rmi##N, N, IMUL_TRUNCATED(N, m, i->imm))

IMUL_FORMS(16)
IMUL_FORMS(32)
IMUL_FORMS(64)

#define IMUL_ROW(M, name) {{NULL, NULL}, M(name##16), M(name##32), M(name##64)}

static const struct int_op imul_ops[4][4] = {
	IMUL_ROW(INT_REG, imul_rr),
	IMUL_ROW(INT_REG, imul_rri),
	IMUL_ROW(INT_MEM, imul_rm),
	IMUL_ROW(INT_MEM, imul_rmi),
};

/* ---- One operand: rDX:rAX (AX for bytes) ----------------------------------------------------- */

/* The double-width result goes to AX, or to rDX:rAX. */
static inline void mul_store(struct soft_cpu *c, unsigned size, uint64_t low, uint64_t high)
{
	if (size == 1) {
		reg_set16(c, RAX, (uint16_t)((high & 0xff) << 8 | (low & 0xff)));
		return;
	}
	reg_set(c, RAX, size, low);
	reg_set(c, RDX, size, high);
}

HANDLER(mul_one)
{
	const unsigned size = i->opsize, bits = size * 8;
	const uint128 product = (uint128)int_rm_load(c, i) * (c->reg[RAX] & int_mask(size));
	const uint64_t low = (uint64_t)product & int_mask(size), high = (uint64_t)(product >> bits);

	mul_store(c, size, low, high);
	mul_flags(c, low, size, high != 0);
	return SOFT_NEXT(c, i);
}

HANDLER(imul_one)
{
	const unsigned size = i->opsize, bits = size * 8;
	const int64_t a = (int64_t)int_sign_extend(int_rm_load(c, i), size);
	const int64_t b = (int64_t)int_sign_extend(c->reg[RAX], size);
	const int128 product = (int128)a * b;
	const uint64_t low = (uint64_t)product, high = (uint64_t)(product >> bits);

	mul_store(c, size, low, high);
	mul_flags(c, low, size, product != (int64_t)int_sign_extend(low, size));
	return SOFT_NEXT(c, i);
}

/* The dividend: AX or rDX:rAX, zero-extended. */
static inline uint128 div_dividend(const struct soft_cpu *c, unsigned size)
{
	if (size == 1)
		return (uint16_t)c->reg[RAX];
	return (uint128)(c->reg[RDX] & int_mask(size)) << size * 8 | (c->reg[RAX] & int_mask(size));
}

HANDLER(div_one)
{
	const unsigned size = i->opsize;
	const uint64_t divisor = int_rm_load(c, i);
	const uint128 dividend = div_dividend(c, size);

	if (divisor == 0 || (dividend >> size * 8) >= divisor)
		soft_raise(c, i, VEC_DE);
	if ((uint64_t)(dividend >> 64) == 0)
		mul_store(c, size, (uint64_t)dividend / divisor, (uint64_t)dividend % divisor);
	else
		mul_store(c, size, (uint64_t)(dividend / divisor), (uint64_t)(dividend % divisor));
	return SOFT_NEXT(c, i);
}

/* Divides magnitudes, so that the smallest number over -1 needs no care of the host's. */
HANDLER(idiv_one)
{
	const unsigned size = i->opsize, bits = size * 8;
	const int64_t divisor = (int64_t)int_sign_extend(int_rm_load(c, i), size);
	const uint128 raw = div_dividend(c, size);
	const bool negative = raw >> (2 * bits - 1) & 1;
	const uint128 wide_mask = size == 8 ? ~(uint128)0 : ((uint128)1 << 2 * bits) - 1;
	const uint128 magnitude = (negative ? 0 - raw : raw) & wide_mask;
	const uint64_t by = divisor < 0 ? 0 - (uint64_t)divisor : (uint64_t)divisor;
	const bool minus = negative != (divisor < 0);
	uint64_t quotient, remainder;

	if (by == 0 || (magnitude >> bits) >= by)
		soft_raise(c, i, VEC_DE);
	quotient = (uint64_t)(magnitude / by);
	remainder = (uint64_t)(magnitude % by);
	if (quotient > (int_mask(size) >> 1) + minus)
		soft_raise(c, i, VEC_DE);
	mul_store(c, size, minus ? 0 - quotient : quotient, negative ? 0 - remainder : remainder);
	return SOFT_NEXT(c, i);
}

/* ---- Decimal adjustments (SDM 2A, DAA, DAS, AAA, AAS, AAM, AAD)
 * ---------------------------------- */

static void bcd_flags(struct soft_cpu *c, uint8_t al, bool af, bool cf)
{
	c->flag_result = (uint64_t)(int64_t)(int8_t)al;
	c->flag_aux = (af ? AUX_AF : 0) | (cf ? AUX_CARRY : 0); /* OF, undefined, is 0 */
}

HANDLER(bcd_daa_das)
{
	const uint8_t old = (uint8_t)c->reg[RAX];
	const bool subtract = i->opcode == 0x2f, old_cf = soft_cf(c);
	const bool af = (old & 15) > 9 || soft_af(c), high = old > 0x99 || old_cf;
	const uint8_t adjust = (uint8_t)((af ? 6 : 0) + (high ? 0x60 : 0));
	const uint8_t al = (uint8_t)(subtract ? old - adjust : old + adjust);
	const bool borrow = subtract && af && old < 6;

	reg_set8(c, 0, al);
	bcd_flags(c, al, af, high || borrow);
	return SOFT_NEXT(c, i);
}

HANDLER(bcd_aaa_aas)
{
	const uint16_t ax = (uint16_t)c->reg[RAX];
	const bool adjust = (ax & 15) > 9 || soft_af(c);
	uint16_t r = ax;

	if (adjust)
		r = (uint16_t)(i->opcode == 0x37 ? ax + 0x106 : ax - 0x106);
	reg_set16(c, RAX, r & 0xff0f);
	bcd_flags(c, (uint8_t)(r & 15), adjust, adjust);
	return SOFT_NEXT(c, i);
}

HANDLER(bcd_aam)
{
	const uint8_t base = (uint8_t)i->imm, al = (uint8_t)c->reg[RAX];

	if (base == 0)
		soft_raise(c, i, VEC_DE);
	reg_set16(c, RAX, (uint16_t)(al / base << 8 | al % base));
	bcd_flags(c, al % base, false, false);
	return SOFT_NEXT(c, i);
}

HANDLER(bcd_aad)
{
	const uint16_t ax = (uint16_t)c->reg[RAX];
	const uint8_t al = (uint8_t)((ax >> 8) * (uint8_t)i->imm + (ax & 0xff));

	reg_set16(c, RAX, al);
	bcd_flags(c, al, false, false);
	return SOFT_NEXT(c, i);
}

/* ---- Selection
 * ----------------------------------------------------------------------------------- */

static bool muldiv_pick_one(struct soft_decode *d)
{
	static const insn_fn fns[4] = {mul_one, imul_one, div_one, idiv_one};

	d->out->fn = fns[d->reg3 - 4];
	return true;
}

bool soft_select_muldiv(struct soft_decode *d)
{
	const unsigned form = int_is_mem(d) ? 2 : 0;

	if (d->map == 1)
		return int_pick(d, &imul_ops[form][int_size_index(d)]);
	switch (d->opcode) {
	case 0x69:
	case 0x6b:
		return int_pick(d, &imul_ops[form + 1][int_size_index(d)]);
	case 0x27:
	case 0x2f:
		d->out->fn = bcd_daa_das;
		return true;
	case 0x37:
	case 0x3f:
		d->out->fn = bcd_aaa_aas;
		return true;
	case 0xd4:
		d->out->fn = bcd_aam;
		return true;
	case 0xd5:
		d->out->fn = bcd_aad;
		return true;
	default:
		return muldiv_pick_one(d);
	}
}
