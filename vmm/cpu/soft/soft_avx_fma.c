/* SPDX-License-Identifier: Apache-2.0 */
/* FMA and F16C: by the host's own instructions: a host without them has no such CPU model. */
#include <math.h>

#include "vmm/cpu/soft/soft_avx.h"

/* ---- FMA by the host: each half, all in one run ---------------------------------------------- */

/* dest is reg, the second operand vvvv, the third r/m. */
#define FMA_HOST_PACKED(name, lanes)                                                               \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), v = xmm_get(c, avx_v(i)), a = xmm_get(c, i->reg);    \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN #name " %[b], %[v], %[a]" MXCSR_END                   \
				 : [a] "+x"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "x"(b), [v] "x"(v), MXCSR_OPERANDS(c));                     \
		mxcsr_leave(c, i, c->mxcsr &MXCSR_MASK_UE ? 0 : mxcsr_tiny(lanes, a));             \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		uint32_t tiny = 0;                                                                 \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), v = ymm_get(c, avx_v(i));                    \
		struct simd_ymm a = ymm_get(c, i->reg);                                            \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(                                                                  \
			MXCSR_BEGIN #name " %[b], %[v], %[a]\n\t" #name                            \
					  " %[d], %[w], %[e]" MXCSR_END                            \
			: [a] "+&x"(a.low), [e] "+&x"(a.high), MXCSR_OUTPUTS(c)                    \
			: [b] "x"(b.low), [v] "x"(v.low), [d] "x"(b.high), [w] "x"(v.high),        \
			  MXCSR_OPERANDS(c));                                                      \
		if (!(c->mxcsr & MXCSR_MASK_UE))                                                   \
			tiny = mxcsr_tiny(lanes, a.low) | mxcsr_tiny(lanes, a.high);               \
		mxcsr_leave(c, i, tiny);                                                           \
		ymm_set(c, i->reg, a.low, a.high);                                                 \
		return SOFT_NEXT(c, i);                                                            \
	}
#define FMA_HOST_SCALAR(name, source, lanes)                                                       \
	AVX_HANDLER(name)                                                                          \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = source(c, i), v = xmm_get(c, avx_v(i)), a = xmm_get(c, i->reg);        \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN #name " %[b], %[v], %[a]" MXCSR_END                   \
				 : [a] "+x"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "x"(b), [v] "x"(v), MXCSR_OPERANDS(c));                     \
		mxcsr_leave(c, i, c->mxcsr &MXCSR_MASK_UE ? 0 : mxcsr_tiny(lanes, a));             \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
#define FMA_PACKED(name)                                                                           \
	FMA_HOST_PACKED(name##ps, LANES_PS)                                                        \
	FMA_HOST_PACKED(name##pd, LANES_PD)
#define FMA_FOUR(name)                                                                             \
	FMA_PACKED(name)                                                                           \
	FMA_HOST_SCALAR(name##ss, sse_src32, LANES_SS)                                             \
	FMA_HOST_SCALAR(name##sd, sse_src64, LANES_SD)
#define FMA_ORDERS(order)                                                                          \
	FMA_PACKED(vfmaddsub##order)                                                               \
	FMA_PACKED(vfmsubadd##order)                                                               \
	FMA_FOUR(vfmadd##order)                                                                    \
	FMA_FOUR(vfmsub##order)                                                                    \
	FMA_FOUR(vfnmadd##order)                                                                   \
	FMA_FOUR(vfnmsub##order)
FMA_ORDERS(132)
FMA_ORDERS(213)
FMA_ORDERS(231)

#define PAIR(name)	     AVX_FMA_ROW(name##ps), AVX_FMA_ROW(name##pd)
#define ONES(name)	     AVX_FMA_SCALAR(name##ss), AVX_FMA_SCALAR(name##sd)
#define AVX_FMA_ROW(name)    {{avx_##name##_128, avx_##name##_256}, {CPU_FMA, CPU_FMA}, 0}
#define AVX_FMA_SCALAR(name) {{avx_##name, avx_##name}, {CPU_FMA, CPU_FMA}, AVX_ANY_L}

/* [opcode - 96, A6, B6][W]. */
#define ORDER(order)                                                                               \
	{                                                                                          \
		{PAIR(vfmaddsub##order)}, {PAIR(vfmsubadd##order)}, {PAIR(vfmadd##order)},         \
			{ONES(vfmadd##order)}, {PAIR(vfmsub##order)}, {ONES(vfmsub##order)},       \
			{PAIR(vfnmadd##order)}, {ONES(vfnmadd##order)}, {PAIR(vfnmsub##order)},    \
		{                                                                                  \
			ONES(vfnmsub##order)                                                       \
		}                                                                                  \
	}
static const struct avx_row fma_rows[3][10][2] = {ORDER(132), ORDER(213), ORDER(231)};

/* ---- F16C ------------------------------------------------------------------------------------ */

AVX_HANDLER(vcvtph2ps_128)
{
	avx_check(c, i);
	__m128i b = sse_src64(c, i);
	mxcsr_enter(c);
	__asm__ volatile(MXCSR_BEGIN "vcvtph2ps %[b], %[b]" MXCSR_END
			 : [b] "+x"(b), MXCSR_OUTPUTS(c)
			 : MXCSR_OPERANDS(c));
	mxcsr_leave(c, i, 0);
	avx_set(c, i->reg, b);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vcvtph2ps_256)
{
	avx_check(c, i);
	__m128i b = avx_src128(c, i), t = _mm_srli_si128(b, 8);
	mxcsr_enter(c);
	__asm__ volatile(MXCSR_BEGIN "vcvtph2ps %[b], %[b]\n\tvcvtph2ps %[t], %[t]" MXCSR_END
			 : [b] "+&x"(b), [t] "+&x"(t), MXCSR_OUTPUTS(c)
			 : MXCSR_OPERANDS(c));
	mxcsr_leave(c, i, 0);
	ymm_set(c, i->reg, b, t);
	return SOFT_NEXT(c, i);
}

/* VCVTPS2PH's rounding goes into the MXCSR that the host's runs with; flushing to zero does not touch its results. */
static inline void half_enter(struct soft_cpu *c, const struct insn *i)
{
	mxcsr_enter(c);
	if (!(i->imm & 4))
		c->mxcsr_run = (c->mxcsr_run & ~0x6000u) | (uint32_t)(i->imm & 3) << 13;
}

/* A tiny half counts with underflow unmasked even if it is exact. */
static uint32_t half_tiny(const struct soft_cpu *c, __m128i v, unsigned count)
{
	union soft_xmm r;

	if (c->mxcsr & MXCSR_MASK_UE)
		return 0;
	_mm_store_si128((__m128i *)&r, v);
	for (unsigned n = 0; n < count; n++)
		if (!(r.u16[n] & 0x7c00) && (r.u16[n] & 0x3ff))
			return 0x10;
	return 0;
}

static __attribute__((noinline)) void half_store(struct soft_cpu *c, const struct insn *i,
						 bool wide)
{
	__m128i low = xmm_get(c, i->reg), top = wide ? ymm_high(c, i->reg) : _mm_setzero_si128();

	half_enter(c, i);
	__asm__ volatile(MXCSR_BEGIN
			 "vcvtps2ph $4, %[a], %[a]\n\tvcvtps2ph $4, %[b], %[b]" MXCSR_END
			 : [a] "+&x"(low), [b] "+&x"(top), MXCSR_OUTPUTS(c)
			 : MXCSR_OPERANDS(c));
	mxcsr_leave(c, i, half_tiny(c, low, 4) | half_tiny(c, top, 4));
	/* A fault of the store comes after MXCSR's flags. */
	if (!(i->flags & INSN_MEM))
		avx_set(c, i->rm, wide ? _mm_unpacklo_epi64(low, top) : _mm_move_epi64(low));
	else if (wide)
		sse_store128(c, i, soft_ea(c, i), _mm_unpacklo_epi64(low, top));
	else
		soft_store64(c, i, soft_ea(c, i), simd_low64(low));
}

AVX_HANDLER(vcvtps2ph_128)
{
	avx_check(c, i);
	half_store(c, i, false);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vcvtps2ph_256)
{
	avx_check(c, i);
	half_store(c, i, true);
	return SOFT_NEXT(c, i);
}

/* ---- Selection ------------------------------------------------------------------------------- */

#define HALF(name, flags) {{avx_##name##_128, avx_##name##_256}, {CPU_F16C, CPU_F16C}, flags}

const struct avx_row *avx_fma_row(const struct soft_decode *d, enum fp_prefix prefix)
{
	static const struct avx_row to_single = HALF(vcvtph2ps, AVX_W0 | AVX_NO_V);
	static const struct avx_row to_half = HALF(vcvtps2ph, AVX_W0 | AVX_NO_V);
	const unsigned order = (unsigned)(d->opcode >> 4) - 9, kind = (d->opcode & 15) - 6u;

	if (prefix != FP_66)
		return NULL;
	if (d->map == 2 && d->opcode == 0x13)
		return &to_single;
	if (d->map == 3 && d->opcode == 0x1d)
		return &to_half;
	if (d->map != 2 || order > 2 || kind > 9)
		return NULL;
	return &fma_rows[order][kind][d->vex_w];
}
