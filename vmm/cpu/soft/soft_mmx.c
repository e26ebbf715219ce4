/* SPDX-License-Identifier: Apache-2.0 */
/* MMX, and SSE's additions to it: the low half of the SSE2 operation on the x87 mantissas. */
#include "vmm/cpu/soft/soft_fp.h"
#include "vmm/cpu/soft/soft_fp_packed.h"

static inline uint64_t low64(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(v);
}

static inline uint64_t high64(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(_mm_srli_si128(v, 8));
}

/* PUNPCKL reads only 32 bits of memory (SDM 2B). */
static inline __m128i mmx_src32(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return _mm_cvtsi32_si128((int)soft_load32(c, i, soft_ea(c, i)));
	return mmx_get(c, i->rm);
}

#define MMX_OP(name, source, result)                                                               \
	static fp_next mmx_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_mmx(c, i);                                                                \
		__m128i b = source(c, i), a = mmx_get(c, i->reg);                                  \
		mmx_set(c, i->reg & 7, result);                                                    \
		return SOFT_NEXT(c, i);                                                            \
	}

#define X(opcode, name, expr) MMX_OP(name, mmx_src64, low64(expr))
PACKED_LANES(X)
PACKED_COUNTED(X)
#undef X
#define X(opcode, name, op) MMX_OP(name, mmx_src32, low64(op(a, b)))
PACKED_UNPACK_LOW(X)
#undef X
#define X(opcode, name, op, low) MMX_OP(name, mmx_src64, high64(low(a, b)))
PACKED_UNPACK_HIGH(X)
#undef X
#define X(opcode, name, op)                                                                        \
	MMX_OP(name, mmx_src64, low64(op(_mm_unpacklo_epi64(a, b), _mm_setzero_si128())))
PACKED_PACK(X)
#undef X

#define X(opcode, digit, name, expr)                                                               \
	static fp_next mmx_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_mmx(c, i);                                                                \
		__m128i a = mmx_get(c, i->rm), b = _mm_cvtsi32_si128((uint8_t)i->imm);             \
		mmx_set(c, i->rm & 7, low64(expr));                                                \
		return SOFT_NEXT(c, i);                                                            \
	}
PACKED_SHIFTS(X)
#undef X

static fp_next mmx_pshufw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint64_t b = low64(mmx_src64(c, i)), out = 0;
	for (unsigned n = 0; n < 4; n++)
		out |= (b >> (16 * ((i->imm >> (2 * n)) & 3)) & 0xffff) << (16 * n);
	mmx_set(c, i->reg & 7, out);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_pinsrw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint64_t word =
		i->flags & INSN_MEM ? soft_load16(c, i, soft_ea(c, i)) : (uint16_t)c->reg[i->rm];
	unsigned shift = 16 * (i->imm & 3);
	uint64_t a = low64(mmx_get(c, i->reg)) & ~(UINT64_C(0xffff) << shift);

	mmx_set(c, i->reg & 7, a | word << shift);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_pextrw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	c->reg[i->reg] = low64(mmx_get(c, i->rm)) >> (16 * (i->imm & 3)) & 0xffff;
	mmx_enter(c);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_pmovmskb(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	c->reg[i->reg] = (uint32_t)_mm_movemask_epi8(mmx_get(c, i->rm)) & 0xff;
	mmx_enter(c);
	return SOFT_NEXT(c, i);
}

/* MOVD and MOVQ to an MMX register; REX.W makes the general operand 64 bits wide. */
static fp_next mmx_movd_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint32_t v =
		i->flags & INSN_MEM ? soft_load32(c, i, soft_ea(c, i)) : (uint32_t)c->reg[i->rm];
	mmx_set(c, i->reg & 7, v);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_movq_load_general(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint64_t v = i->flags & INSN_MEM ? soft_load64(c, i, soft_ea(c, i)) : c->reg[i->rm];
	mmx_set(c, i->reg & 7, v);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_movd_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint32_t v = (uint32_t)low64(mmx_get(c, i->reg));
	if (i->flags & INSN_MEM)
		soft_store32(c, i, soft_ea(c, i), v);
	else
		c->reg[i->rm] = v;
	mmx_enter(c);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_movq_store_general(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint64_t v = low64(mmx_get(c, i->reg));
	if (i->flags & INSN_MEM)
		soft_store64(c, i, soft_ea(c, i), v);
	else
		c->reg[i->rm] = v;
	mmx_enter(c);
	return SOFT_NEXT(c, i);
}

static fp_next mmx_movq_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	mmx_set(c, i->reg & 7, low64(mmx_src64(c, i)));
	return SOFT_NEXT(c, i);
}

/* MOVQ and MOVNTQ to memory, MOVQ to a register. */
static fp_next mmx_movq_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint64_t v = low64(mmx_get(c, i->reg));
	if (i->flags & INSN_MEM) {
		soft_store64(c, i, soft_ea(c, i), v);
		mmx_enter(c);
	} else {
		mmx_set(c, i->rm & 7, v);
	}
	return SOFT_NEXT(c, i);
}

static fp_next mmx_emms(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	c->x87.top = 0;
	c->x87.tag = X87_TAG_EMPTY;
	return SOFT_NEXT(c, i);
}

/* MASKMOVQ: the select function has made DS:rDI its memory operand. */
static fp_next mmx_maskmovq(struct soft_cpu *c, const struct insn *i)
{
	fp_check_mmx(c, i);
	uint64_t v = low64(mmx_get(c, i->reg)), mask = low64(mmx_get(c, i->rm));
	uint64_t linear = soft_ea(c, i);

	for (unsigned n = 0; n < 8; n++)
		if (mask >> (8 * n + 7) & 1)
			soft_probe(c, i, linear + n, 1, true);
	for (unsigned n = 0; n < 8; n++)
		if (mask >> (8 * n + 7) & 1)
			soft_store8(c, i, linear + n, (uint8_t)(v >> (8 * n)));
	mmx_enter(c);
	return SOFT_NEXT(c, i);
}

static const insn_fn mmx_table[256] = {
#define X(opcode, name, ...) [opcode] = mmx_##name,
	PACKED_LANES(X) PACKED_COUNTED(X) PACKED_UNPACK_LOW(X) PACKED_PACK(X) PACKED_UNPACK_HIGH(X)
#undef X
		[0x6f] = mmx_movq_load,
	[0x70] = mmx_pshufw,
	[0x77] = mmx_emms,
	[0x7f] = mmx_movq_store,
	[0xc4] = mmx_pinsrw,
};

static const insn_fn shift_table[3][8] = {
#define X(opcode, digit, name, expr) [opcode - 0x71][digit] = mmx_##name,
	PACKED_SHIFTS(X)
#undef X
};

/* The forms for which register or memory, or REX.W, decide. */
static insn_fn mmx_select_special(const struct soft_decode *d)
{
	bool is_register = d->mod == 3, wide = d->rex & 8;

	switch (d->opcode) {
	case 0x6e:
		return wide ? mmx_movq_load_general : mmx_movd_load;
	case 0x7e:
		return wide ? mmx_movq_store_general : mmx_movd_store;
	case 0x71:
	case 0x72:
	case 0x73:
		return is_register ? shift_table[d->opcode - 0x71][d->reg3] : NULL;
	case 0xc5:
		return is_register ? mmx_pextrw : NULL;
	case 0xd7:
		return is_register ? mmx_pmovmskb : NULL;
	case 0xe7:
		return is_register ? NULL : mmx_movq_store;
	case 0xf7:
		return is_register ? mmx_maskmovq : NULL;
	default:
		return mmx_table[d->opcode];
	}
}

bool fp_select_mmx(struct soft_decode *d)
{
	insn_fn fn = fp_prefix_of(d) == FP_NONE ? mmx_select_special(d) : NULL;

	if (!fn)
		return false;
	if (d->opcode == 0xf7)
		fp_maskmov_operand(d);
	d->out->fn = fn;
	return true;
}
