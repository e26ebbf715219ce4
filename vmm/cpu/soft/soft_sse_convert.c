/* SPDX-License-Identifier: Apache-2.0 */
/* SSE and SSE2 conversions between floating point and general or MMX registers. */
#include "vmm/cpu/soft/soft_fp.h"

static inline uint64_t general32(struct soft_cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? soft_load32(c, i, soft_ea(c, i)) : (uint32_t)c->reg[i->rm];
}

static inline uint64_t general64(struct soft_cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? soft_load64(c, i, soft_ea(c, i)) : c->reg[i->rm];
}

/* General register or memory to a scalar; size is the register's modifier in the asm. */
#define CVT_FROM_GENERAL(name, op, source, size)                                                   \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		uint64_t b = source(c, i);                                                         \
		__m128i a = xmm_get(c, i->reg);                                                    \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %" size "[b], %[a]" MXCSR_END                    \
				 : [a] "+x"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "r"(b), MXCSR_OPERANDS(c));                                 \
		mxcsr_leave(c, i, 0);                                                              \
		xmm_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
CVT_FROM_GENERAL(cvtsi2ss32, "cvtsi2ssl", general32, "k")
CVT_FROM_GENERAL(cvtsi2ss64, "cvtsi2ssq", general64, "q")
CVT_FROM_GENERAL(cvtsi2sd32, "cvtsi2sdl", general32, "k")
CVT_FROM_GENERAL(cvtsi2sd64, "cvtsi2sdq", general64, "q")

/* A scalar to a general register; the 32-bit forms zero the upper half. */
#define CVT_TO_GENERAL(name, op, source, size)                                                     \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		uint64_t a;                                                                        \
		fp_check_sse(c, i);                                                                \
		__m128i b = source(c, i);                                                          \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %[b], %" size "[a]" MXCSR_END                    \
				 : [a] "=r"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "x"(b), MXCSR_OPERANDS(c));                                 \
		mxcsr_leave(c, i, 0);                                                              \
		c->reg[i->reg] = a;                                                                \
		return SOFT_NEXT(c, i);                                                            \
	}
CVT_TO_GENERAL(cvtss2si32, "cvtss2si", sse_src32, "k")
CVT_TO_GENERAL(cvtss2si64, "cvtss2si", sse_src32, "q")
CVT_TO_GENERAL(cvttss2si32, "cvttss2si", sse_src32, "k")
CVT_TO_GENERAL(cvttss2si64, "cvttss2si", sse_src32, "q")
CVT_TO_GENERAL(cvtsd2si32, "cvtsd2si", sse_src64, "k")
CVT_TO_GENERAL(cvtsd2si64, "cvtsd2si", sse_src64, "q")
CVT_TO_GENERAL(cvttsd2si32, "cvttsd2si", sse_src64, "k")
CVT_TO_GENERAL(cvttsd2si64, "cvttsd2si", sse_src64, "q")

/* MMX state is entered only if an MMX register is touched, but then even if the conversion raises
 * an exception. */
static inline void mmx_operand_check(struct soft_cpu *c, const struct insn *i)
{
	if (!(i->flags & INSN_MEM))
		fp_check_mmx(c, i);
}

static inline __m128i mmx_operand(struct soft_cpu *c, const struct insn *i)
{
	__m128i v = mmx_src64(c, i);

	if (!(i->flags & INSN_MEM))
		mmx_enter(c);
	return v;
}

/* Two doublewords of MMX or memory to the low lanes, as CVTDQ2PS on the low half would do. */
static fp_next sse_cvtpi2ps(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	mmx_operand_check(c, i);
	__m128i b = mmx_operand(c, i);
	mxcsr_enter(c);
	__asm__ volatile(MXCSR_BEGIN "cvtdq2ps %[b], %[b]" MXCSR_END
			 : [b] "+x"(b), MXCSR_OUTPUTS(c)
			 : MXCSR_OPERANDS(c));
	mxcsr_leave(c, i, 0);
	c->xmm[i->reg].u64[0] = (uint64_t)_mm_cvtsi128_si64(b);
	return SOFT_NEXT(c, i);
}

/* Exact. */
static fp_next sse_cvtpi2pd(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	mmx_operand_check(c, i);
	xmm_set(c, i->reg, _mm_castpd_si128(_mm_cvtepi32_pd(mmx_operand(c, i))));
	return SOFT_NEXT(c, i);
}

/* To MMX: the XMM form of the same conversion gives both doublewords in the low half. The two low
 * lanes alone may raise flags, so a 64-bit source has zeroes above. */
static inline __m128i src_two_singles(struct soft_cpu *c, const struct insn *i)
{
	return _mm_move_epi64(sse_src64(c, i));
}

#define CVT_TO_MMX(name, op, source)                                                               \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		fp_check_mmx(c, i);                                                                \
		__m128i b = source(c, i);                                                          \
		mmx_enter(c);                                                                      \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %[b], %[b]" MXCSR_END                            \
				 : [b] "+x"(b), MXCSR_OUTPUTS(c)                                   \
				 : MXCSR_OPERANDS(c));                                             \
		mxcsr_leave(c, i, 0);                                                              \
		mmx_set(c, i->reg & 7, (uint64_t)_mm_cvtsi128_si64(b));                            \
		return SOFT_NEXT(c, i);                                                            \
	}
CVT_TO_MMX(cvtps2pi, "cvtps2dq", src_two_singles)
CVT_TO_MMX(cvttps2pi, "cvttps2dq", src_two_singles)
CVT_TO_MMX(cvtpd2pi, "cvtpd2dq", sse_src128)
CVT_TO_MMX(cvttpd2pi, "cvttpd2dq", sse_src128)

/* [opcode - 2A][prefix][REX.W]; 2B is a move. */
static const insn_fn convert_table[4][FP_PREFIXES][2] = {
	[0] = {{sse_cvtpi2ps, sse_cvtpi2ps},
	       {sse_cvtpi2pd, sse_cvtpi2pd},
	       {sse_cvtsi2ss32, sse_cvtsi2ss64},
	       {sse_cvtsi2sd32, sse_cvtsi2sd64}},
	[2] = {{sse_cvttps2pi, sse_cvttps2pi},
	       {sse_cvttpd2pi, sse_cvttpd2pi},
	       {sse_cvttss2si32, sse_cvttss2si64},
	       {sse_cvttsd2si32, sse_cvttsd2si64}},
	[3] = {{sse_cvtps2pi, sse_cvtps2pi},
	       {sse_cvtpd2pi, sse_cvtpd2pi},
	       {sse_cvtss2si32, sse_cvtss2si64},
	       {sse_cvtsd2si32, sse_cvtsd2si64}},
};

bool fp_select_convert(struct soft_decode *d)
{
	insn_fn fn;

	if (d->opcode < 0x2a || d->opcode > 0x2d)
		return false;
	fn = convert_table[d->opcode - 0x2a][fp_prefix_of(d)][d->rex >> 3 & 1];
	if (!fn)
		return false;
	d->out->fn = fn;
	return true;
}
