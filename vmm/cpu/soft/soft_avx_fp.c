/* SPDX-License-Identifier: Apache-2.0 */
/* AVX's floating-point arithmetic, conversions, comparisons and rounding: by SSE's instructions of the host, each half. */
#include "vmm/cpu/soft/soft_avx.h"
#include "vmm/cpu/soft/soft_sse_round.h"

#define PS(x) _mm_castsi128_ps(x)
#define PD(x) _mm_castsi128_pd(x)

static inline uint32_t tiny_of(const struct soft_cpu *c, enum fp_lanes lanes, __m128i v)
{
	if (lanes == LANES_NONE || likely(c->mxcsr & MXCSR_MASK_UE))
		return 0;
	return mxcsr_tiny(lanes, v);
}

/* ---- Arithmetic ------------------------------------------------------------------------------ */

/* Both halves run between loading MXCSR and reading its flags: what either raises counts for the whole. */
#define AVX_RUN2(c, op, x, y, bx, by)                                                              \
	mxcsr_enter(c);                                                                            \
	__asm__ volatile(MXCSR_BEGIN op " %[b], %[a]\n\t" op " %[e], %[d]" MXCSR_END               \
			 : [a] "+&x"(x), [d] "+&x"(y), MXCSR_OUTPUTS(c)                            \
			 : [b] "x"(bx), [e] "x"(by), MXCSR_OPERANDS(c))
#define AVX_RUN1(c, op, x, bx)                                                                     \
	mxcsr_enter(c);                                                                            \
	__asm__ volatile(MXCSR_BEGIN op " %[b], %[a]" MXCSR_END                                    \
			 : [a] "+x"(x), MXCSR_OUTPUTS(c)                                           \
			 : [b] "x"(bx), MXCSR_OPERANDS(c))

#define AVX_PACKED(name, op, lanes)                                                                \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), a = xmm_get(c, avx_v(i));                            \
		AVX_RUN1(c, op, a, b);                                                             \
		mxcsr_leave(c, i, tiny_of(c, lanes, a));                                           \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, avx_v(i));                    \
		AVX_RUN2(c, op, a.low, a.high, b.low, b.high);                                     \
		mxcsr_leave(c, i, tiny_of(c, lanes, a.low) | tiny_of(c, lanes, a.high));           \
		ymm_set(c, i->reg, a.low, a.high);                                                 \
		return SOFT_NEXT(c, i);                                                            \
	}
#define AVX_SCALAR(name, op, source, lanes)                                                        \
	AVX_HANDLER(name)                                                                          \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = source(c, i), a = xmm_get(c, avx_v(i));                                \
		AVX_RUN1(c, op, a, b);                                                             \
		mxcsr_leave(c, i, tiny_of(c, lanes, a));                                           \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
#define AVX_ARITH(name, lanes_like)                                                                \
	AVX_PACKED(v##name##ps, #name "ps", lanes_like##PS)                                        \
	AVX_PACKED(v##name##pd, #name "pd", lanes_like##PD)                                        \
	AVX_SCALAR(v##name##ss, #name "ss", sse_src32, lanes_like##SS)                             \
	AVX_SCALAR(v##name##sd, #name "sd", sse_src64, lanes_like##SD)
#define NEVER_PS LANES_NONE
#define NEVER_PD LANES_NONE
#define NEVER_SS LANES_NONE
#define NEVER_SD LANES_NONE
AVX_ARITH(add, LANES_)
AVX_ARITH(sub, LANES_)
AVX_ARITH(mul, LANES_)
AVX_ARITH(div, LANES_)
AVX_ARITH(min, NEVER_)
AVX_ARITH(max, NEVER_)
AVX_ARITH(sqrt, NEVER_)
AVX_PACKED(vrcpps, "rcpps", LANES_NONE)
AVX_PACKED(vrsqrtps, "rsqrtps", LANES_NONE)
AVX_SCALAR(vrcpss, "rcpss", sse_src32, LANES_NONE)
AVX_SCALAR(vrsqrtss, "rsqrtss", sse_src32, LANES_NONE)
AVX_SCALAR(vcvtsd2ss, "cvtsd2ss", sse_src64, LANES_SS)
AVX_SCALAR(vcvtss2sd, "cvtss2sd", sse_src32, LANES_NONE)
AVX_PACKED(vcvtdq2ps, "cvtdq2ps", LANES_NONE)
AVX_PACKED(vcvtps2dq, "cvtps2dq", LANES_NONE)
AVX_PACKED(vcvttps2dq, "cvttps2dq", LANES_NONE)

/* ---- Horizontal ------------------------------------------------------------------------------ */

#define EVEN_PS(a, b) _mm_castps_si128(_mm_shuffle_ps(PS(a), PS(b), _MM_SHUFFLE(2, 0, 2, 0)))
#define ODD_PS(a, b)  _mm_castps_si128(_mm_shuffle_ps(PS(a), PS(b), _MM_SHUFFLE(3, 1, 3, 1)))
#define EVEN_PD(a, b) _mm_unpacklo_epi64(a, b)
#define ODD_PD(a, b)  _mm_unpackhi_epi64(a, b)

#define AVX_HORIZONTAL(name, op, type)                                                             \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), a = xmm_get(c, avx_v(i));                            \
		__m128i x = EVEN_##type(a, b), y = ODD_##type(a, b);                               \
		AVX_RUN1(c, op, x, y);                                                             \
		mxcsr_leave(c, i, tiny_of(c, LANES_##type, x));                                    \
		avx_set(c, i->reg, x);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, avx_v(i));                    \
		__m128i x = EVEN_##type(a.low, b.low), z = EVEN_##type(a.high, b.high);            \
		AVX_RUN2(c, op, x, z, ODD_##type(a.low, b.low), ODD_##type(a.high, b.high));       \
		mxcsr_leave(c, i, tiny_of(c, LANES_##type, x) | tiny_of(c, LANES_##type, z));      \
		ymm_set(c, i->reg, x, z);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_HORIZONTAL(vhaddps, "addps", PS)
AVX_HORIZONTAL(vhaddpd, "addpd", PD)
AVX_HORIZONTAL(vhsubps, "subps", PS)
AVX_HORIZONTAL(vhsubpd, "subpd", PD)

/* The odd lanes add, the even ones subtract; zeroes in the lanes of the other operation raise no flags. */
static inline __m128i odd_lanes_ps(void)
{
	return _mm_set_epi32(-1, 0, -1, 0);
}

static inline __m128i odd_lanes_pd(void)
{
	return _mm_set_epi64x(-1, 0);
}

/* One half; its flags are added to c->mxcsr_sum. */
#define ADDSUB_HALF(name, type)                                                                    \
	static inline __m128i name(struct soft_cpu *c, __m128i a, __m128i b)                       \
	{                                                                                          \
		const __m128i mask = odd_lanes_##type();                                           \
		__m128i x = _mm_and_si128(mask, a), y = _mm_andnot_si128(mask, a);                 \
                                                                                                   \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(                                                                  \
			MXCSR_BEGIN "add" #type " %[bx], %[x]\n\t"                                 \
				    "sub" #type " %[by], %[y]" MXCSR_END                           \
			: [x] "+&x"(x), [y] "+&x"(y), MXCSR_OUTPUTS(c)                             \
			: [bx] "x"(_mm_and_si128(mask, b)), [by] "x"(_mm_andnot_si128(mask, b)),   \
			  MXCSR_OPERANDS(c));                                                      \
		return simd_select(mask, y, x);                                                    \
	}
ADDSUB_HALF(addsub_ps, ps)
ADDSUB_HALF(addsub_pd, pd)

#define AVX_ADDSUB(name, half, lanes)                                                              \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), x = half(c, xmm_get(c, avx_v(i)), b);                \
		mxcsr_leave(c, i, tiny_of(c, lanes, x));                                           \
		avx_set(c, i->reg, x);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, avx_v(i));                    \
		__m128i x = half(c, a.low, b.low);                                                 \
		uint32_t flags = c->mxcsr_after & MXCSR_FLAGS;                                     \
		__m128i z = half(c, a.high, b.high);                                               \
		mxcsr_leave(c, i, flags | tiny_of(c, lanes, x) | tiny_of(c, lanes, z));            \
		ymm_set(c, i->reg, x, z);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_ADDSUB(vaddsubps, addsub_ps, LANES_PS)
AVX_ADDSUB(vaddsubpd, addsub_pd, LANES_PD)

/* ---- Logic, unpacking, shuffles -------------------------------------------------------------- */

AVX_BOTH(vandp, _mm_and_si128(a, b))
AVX_BOTH(vandnp, _mm_andnot_si128(a, b))
AVX_BOTH(vorp, _mm_or_si128(a, b))
AVX_BOTH(vxorp, _mm_xor_si128(a, b))
AVX_BOTH(vunpcklps, _mm_unpacklo_epi32(a, b))
AVX_BOTH(vunpckhps, _mm_unpackhi_epi32(a, b))
AVX_BOTH(vunpcklpd, _mm_unpacklo_epi64(a, b))
AVX_BOTH(vunpckhpd, _mm_unpackhi_epi64(a, b))

static __attribute__((noinline)) __m128i shuffle_ps(__m128i a, __m128i b, unsigned imm)
{
	union soft_xmm x, y, out;

	_mm_store_si128((__m128i *)&x, a);
	_mm_store_si128((__m128i *)&y, b);
	for (unsigned n = 0; n < 4; n++)
		out.u32[n] = (n < 2 ? x : y).u32[imm >> (2 * n) & 3];
	return _mm_load_si128((const __m128i *)&out);
}

/* Two bits of the immediate. */
static inline __m128i shuffle_pd(__m128i a, __m128i b, uint64_t imm)
{
	a = imm & 1 ? _mm_unpackhi_epi64(a, a) : a;
	b = imm & 2 ? _mm_unpackhi_epi64(b, b) : b;
	return _mm_unpacklo_epi64(a, b);
}
AVX_BOTH(vshufps, shuffle_ps(a, b, (unsigned)i->imm))
AVX_128(vshufpd, avx_src128, shuffle_pd(a, b, i->imm))
AVX_256(vshufpd, shuffle_pd(a, b, high ? i->imm >> 2 : i->imm))

/* ---- Conversions that change the width ------------------------------------------------------- */

#define WIDEN(name, op)                                                                            \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = sse_src64(c, i), a = b;                                                \
		AVX_RUN1(c, op, a, b);                                                             \
		mxcsr_leave(c, i, 0);                                                              \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), a = b, t = b;                                        \
		AVX_RUN2(c, op, a, t, b, _mm_srli_si128(b, 8));                                    \
		mxcsr_leave(c, i, 0);                                                              \
		ymm_set(c, i->reg, a, t);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}
WIDEN(vcvtps2pd, "cvtps2pd")
WIDEN(vcvtdq2pd, "cvtdq2pd")

/* Two quadwords to the low half of 128 bits, four to 128. */
#define NARROW(name, op, lanes)                                                                    \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), a = b;                                               \
		AVX_RUN1(c, op, a, b);                                                             \
		mxcsr_leave(c, i, tiny_of(c, lanes, a));                                           \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i);                                              \
		__m128i a = b.low, t = b.high;                                                     \
		AVX_RUN2(c, op, a, t, b.low, b.high);                                              \
		mxcsr_leave(c, i, tiny_of(c, lanes, a) | tiny_of(c, lanes, t));                    \
		avx_set(c, i->reg, _mm_unpacklo_epi64(a, t));                                      \
		return SOFT_NEXT(c, i);                                                            \
	}
NARROW(vcvtpd2ps, "cvtpd2ps", LANES_PS)
NARROW(vcvtpd2dq, "cvtpd2dq", LANES_NONE)
NARROW(vcvttpd2dq, "cvttpd2dq", LANES_NONE)

/* General register or memory to a scalar. */
#define FROM_GENERAL(name, op, bits, size)                                                         \
	AVX_HANDLER(name)                                                                          \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		uint64_t b = i->flags & INSN_MEM ? soft_load##bits(c, i, soft_ea(c, i))            \
						 : c->reg[i->rm];                                  \
		__m128i a = xmm_get(c, avx_v(i));                                                  \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %" size "[b], %[a]" MXCSR_END                    \
				 : [a] "+x"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "r"(b), MXCSR_OPERANDS(c));                                 \
		mxcsr_leave(c, i, 0);                                                              \
		avx_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
FROM_GENERAL(vcvtsi2ss_from32, "cvtsi2ssl", 32, "k")
FROM_GENERAL(vcvtsi2ss_from64, "cvtsi2ssq", 64, "q")
FROM_GENERAL(vcvtsi2sd_from32, "cvtsi2sdl", 32, "k")
FROM_GENERAL(vcvtsi2sd_from64, "cvtsi2sdq", 64, "q")

#define TO_GENERAL(name, op, source, size)                                                         \
	AVX_HANDLER(name)                                                                          \
	{                                                                                          \
		uint64_t a;                                                                        \
		avx_check(c, i);                                                                   \
		__m128i b = source(c, i);                                                          \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %[b], %" size "[a]" MXCSR_END                    \
				 : [a] "=r"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "x"(b), MXCSR_OPERANDS(c));                                 \
		mxcsr_leave(c, i, 0);                                                              \
		c->reg[i->reg] = a;                                                                \
		return SOFT_NEXT(c, i);                                                            \
	}
TO_GENERAL(vcvtss2si_to32, "cvtss2si", sse_src32, "k")
TO_GENERAL(vcvtss2si_to64, "cvtss2si", sse_src32, "q")
TO_GENERAL(vcvttss2si_to32, "cvttss2si", sse_src32, "k")
TO_GENERAL(vcvttss2si_to64, "cvttss2si", sse_src32, "q")
TO_GENERAL(vcvtsd2si_to32, "cvtsd2si", sse_src64, "k")
TO_GENERAL(vcvtsd2si_to64, "cvtsd2si", sse_src64, "q")
TO_GENERAL(vcvttsd2si_to32, "cvttsd2si", sse_src64, "k")
TO_GENERAL(vcvttsd2si_to64, "cvttsd2si", sse_src64, "q")

/* ---- Comparisons ----------------------------------------------------------------------------- */

#define COMI(name, op, source)                                                                     \
	AVX_HANDLER(name)                                                                          \
	{                                                                                          \
		bool zf, pf, cf;                                                                   \
		avx_check(c, i);                                                                   \
		__m128i b = source(c, i), a = xmm_get(c, i->reg);                                  \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %[b], %[a]" MXCSR_END                            \
				 : MXCSR_OUTPUTS(c), "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf)         \
				 : [a] "x"(a), [b] "x"(b), MXCSR_OPERANDS(c));                     \
		mxcsr_leave(c, i, 0);                                                              \
		soft_flags_set_arith(c, (zf ? FLAG_ZF : 0) | (pf ? FLAG_PF : 0) |                  \
						(cf ? FLAG_CF : 0));                               \
		return SOFT_NEXT(c, i);                                                            \
	}
COMI(vcomiss, "comiss", sse_src32)
COMI(vcomisd, "comisd", sse_src64)
COMI(vucomiss, "ucomiss", sse_src32)
COMI(vucomisd, "ucomisd", sse_src64)

/*
 * The 32 predicates (SDM 2A, table 3-1) are what holds if the first is less, equal, greater, or unordered, one bit
 * each; and whether a quiet NaN raises invalid.
 */
#define IS_LESS	     1u
#define IS_EQUAL     2u
#define IS_GREATER   4u
#define IS_UNORDERED 8u
static const uint8_t predicates[16] = {
	IS_EQUAL,
	IS_LESS,
	IS_LESS | IS_EQUAL,
	IS_UNORDERED,
	IS_LESS | IS_GREATER | IS_UNORDERED,
	IS_EQUAL | IS_GREATER | IS_UNORDERED,
	IS_GREATER | IS_UNORDERED,
	IS_LESS | IS_EQUAL | IS_GREATER,
	IS_EQUAL | IS_UNORDERED,
	IS_LESS | IS_UNORDERED,
	IS_LESS | IS_EQUAL | IS_UNORDERED,
	0,
	IS_LESS | IS_GREATER,
	IS_EQUAL | IS_GREATER,
	IS_GREATER,
	15,
};

/* 1, 2, 5, 6, 9, 10, 13, 14; the upper sixteen are the other way round. */
static inline bool predicate_signals(uint64_t imm)
{
	return ((imm & 3) == 1 || (imm & 3) == 2) != ((imm & 0x10) != 0);
}

static inline __m128i predicate_mask(uint64_t imm, unsigned bit)
{
	return _mm_set1_epi32(predicates[imm & 15] & bit ? -1 : 0);
}

/* One half: the flags of the comparison that signals or does not go to mxcsr_after, as the last. */
#define COMPARE_HALF(type)                                                                         \
	static inline __m128i compare_##type(struct soft_cpu *c, uint64_t imm, __m128i a,          \
					     __m128i b)                                            \
	{                                                                                          \
		__m128i less = a, equal = a, unordered = a;                                        \
                                                                                                   \
		mxcsr_enter(c);                                                                    \
		if (predicate_signals(imm))                                                        \
			__asm__ volatile(                                                          \
				MXCSR_BEGIN "cmplt" #type " %[b], %[l]" MXCSR_END "\n\t"           \
					    "cmpeq" #type " %[b], %[e]\n\t"                        \
					    "cmpunord" #type " %[b], %[u]"                         \
				: [l] "+&x"(less), [e] "+&x"(equal), [u] "+&x"(unordered),         \
				  MXCSR_OUTPUTS(c)                                                 \
				: [b] "x"(b), MXCSR_OPERANDS(c));                                  \
		else                                                                               \
			__asm__ volatile(                                                          \
				MXCSR_BEGIN "cmpeq" #type " %[b], %[e]\n\t"                        \
					    "cmpunord" #type " %[b], %[u]" MXCSR_END               \
					    "\n\tcmplt" #type " %[b], %[l]"                        \
				: [l] "+&x"(less), [e] "+&x"(equal), [u] "+&x"(unordered),         \
				  MXCSR_OUTPUTS(c)                                                 \
				: [b] "x"(b), MXCSR_OPERANDS(c));                                  \
		__m128i greater = _mm_andnot_si128(                                                \
			_mm_or_si128(_mm_or_si128(less, equal), unordered), _mm_set1_epi32(-1));   \
		return _mm_or_si128(                                                               \
			_mm_or_si128(_mm_and_si128(less, predicate_mask(imm, IS_LESS)),            \
				     _mm_and_si128(equal, predicate_mask(imm, IS_EQUAL))),         \
			_mm_or_si128(                                                              \
				_mm_and_si128(greater, predicate_mask(imm, IS_GREATER)),           \
				_mm_and_si128(unordered, predicate_mask(imm, IS_UNORDERED))));     \
	}
COMPARE_HALF(ps)
COMPARE_HALF(pd)
COMPARE_HALF(ss)
COMPARE_HALF(sd)

#define AVX_COMPARE(type)                                                                          \
	AVX_HANDLER(vcmpp##type##_128)                                                             \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i);                                                      \
		__m128i x = compare_p##type(c, i->imm, xmm_get(c, avx_v(i)), b);                   \
		mxcsr_leave(c, i, 0);                                                              \
		avx_set(c, i->reg, x);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(vcmpp##type##_256)                                                             \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, avx_v(i));                    \
		__m128i x = compare_p##type(c, i->imm, a.low, b.low);                              \
		uint32_t flags = c->mxcsr_after & MXCSR_FLAGS;                                     \
		__m128i z = compare_p##type(c, i->imm, a.high, b.high);                            \
		mxcsr_leave(c, i, flags);                                                          \
		ymm_set(c, i->reg, x, z);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_COMPARE(s)
AVX_COMPARE(d)

/* Of scalars the other lanes are the first operand's. */
AVX_HANDLER(vcmpss)
{
	avx_check(c, i);
	__m128i b = sse_src32(c, i), a = xmm_get(c, avx_v(i)), x = compare_ss(c, i->imm, a, b);
	mxcsr_leave(c, i, 0);
	avx_set(c, i->reg, _mm_castps_si128(_mm_move_ss(PS(a), PS(x))));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vcmpsd)
{
	avx_check(c, i);
	__m128i b = sse_src64(c, i), a = xmm_get(c, avx_v(i)), x = compare_sd(c, i->imm, a, b);
	mxcsr_leave(c, i, 0);
	avx_set(c, i->reg, _mm_castpd_si128(_mm_move_sd(PD(a), PD(x))));
	return SOFT_NEXT(c, i);
}

/* ---- Dot products ---------------------------------------------------------------------------- */

/* One step of both halves; its unmasked exceptions come before the next one. */
#define DOT_STEP(name, op, lanes)                                                                  \
	static inline struct simd_ymm dot_##name(struct soft_cpu *c, const struct insn *i,         \
						 struct simd_ymm a, struct simd_ymm b)             \
	{                                                                                          \
		AVX_RUN2(c, op, a.low, a.high, b.low, b.high);                                     \
		mxcsr_leave(c, i, tiny_of(c, lanes, a.low) | tiny_of(c, lanes, a.high));           \
		return a;                                                                          \
	}
DOT_STEP(mulps, "mulps", LANES_PS)
DOT_STEP(addps, "addps", LANES_PS)

static inline __m128i lanes32(uint64_t imm)
{
	const __m128i bit = _mm_set_epi32(8, 4, 2, 1);

	return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int)imm), bit), bit);
}

static inline __m128i lanes64(uint64_t imm)
{
	const __m128i bit = _mm_set_epi32(2, 2, 1, 1);

	return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int)imm), bit), bit);
}

static inline struct simd_ymm ymm_and(struct simd_ymm v, __m128i mask)
{
	return (struct simd_ymm){_mm_and_si128(v.low, mask), _mm_and_si128(v.high, mask)};
}

#define SHUFFLED(v, ...)                                                                           \
	(struct simd_ymm)                                                                          \
	{                                                                                          \
		_mm_shuffle_epi32((v).low, _MM_SHUFFLE(__VA_ARGS__)),                              \
			_mm_shuffle_epi32((v).high, _MM_SHUFFLE(__VA_ARGS__))                      \
	}

static inline struct simd_ymm dot_ps(struct soft_cpu *c, const struct insn *i, struct simd_ymm a,
				     struct simd_ymm b)
{
	const __m128i in = lanes32(i->imm >> 4);

	a = dot_mulps(c, i, ymm_and(a, in), ymm_and(b, in));
	a = dot_addps(c, i, SHUFFLED(a, 2, 2, 0, 0), SHUFFLED(a, 3, 3, 1, 1));
	a = dot_addps(c, i, a, SHUFFLED(a, 1, 0, 3, 2));
	return ymm_and(a, lanes32(i->imm));
}

AVX_HANDLER(vdpps_128)
{
	avx_check(c, i);
	struct simd_ymm b = {avx_src128(c, i), _mm_setzero_si128()};
	struct simd_ymm a = {xmm_get(c, avx_v(i)), _mm_setzero_si128()};
	avx_set(c, i->reg, dot_ps(c, i, a, b).low);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vdpps_256)
{
	avx_check(c, i);
	struct simd_ymm b = avx_src256(c, i), a = dot_ps(c, i, ymm_get(c, avx_v(i)), b);
	ymm_set(c, i->reg, a.low, a.high);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vdppd_128)
{
	const __m128i in = lanes64(i->imm >> 4), out = lanes64(i->imm);

	avx_check(c, i);
	__m128i b = _mm_and_si128(avx_src128(c, i), in);
	__m128i a = _mm_and_si128(xmm_get(c, avx_v(i)), in);
	AVX_RUN1(c, "mulpd", a, b);
	mxcsr_leave(c, i, tiny_of(c, LANES_PD, a));
	b = _mm_shuffle_epi32(a, _MM_SHUFFLE(1, 0, 3, 2));
	AVX_RUN1(c, "addpd", a, b);
	mxcsr_leave(c, i, tiny_of(c, LANES_PD, a));
	avx_set(c, i->reg, _mm_and_si128(a, out));
	return SOFT_NEXT(c, i);
}

/* ---- Rounding -------------------------------------------------------------------------------- */

/* In C, each half; a's other lanes are kept. */
#define ROUND_PACKED(name, singles, doubles)                                                       \
	static __attribute__((noinline)) void name##_run(struct soft_cpu *c, const struct insn *i, \
							 bool wide)                                \
	{                                                                                          \
		struct simd_ymm b = {_mm_setzero_si128(), _mm_setzero_si128()};                    \
		uint32_t flags = 0;                                                                \
                                                                                                   \
		if (wide)                                                                          \
			b = avx_src256(c, i);                                                      \
		else                                                                               \
			b.low = avx_src128(c, i);                                                  \
		b.low = sse_round_lanes(c, i, b.low, singles, doubles, &flags);                    \
		b.high = sse_round_lanes(c, i, b.high, singles, doubles, &flags);                  \
		if (flags & ~(c->mxcsr >> 7))                                                      \
			mxcsr_raise(c, i, flags);                                                  \
		c->mxcsr |= flags;                                                                 \
		ymm_set(c, i->reg, b.low, b.high);                                                 \
	}                                                                                          \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		name##_run(c, i, false);                                                           \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		name##_run(c, i, true);                                                            \
		return SOFT_NEXT(c, i);                                                            \
	}
ROUND_PACKED(vroundps, 4, 0)
ROUND_PACKED(vroundpd, 0, 2)

#define ROUND_SCALAR(name, source, singles, doubles)                                               \
	static __attribute__((noinline)) void name##_run(struct soft_cpu *c, const struct insn *i) \
	{                                                                                          \
		uint32_t flags = 0;                                                                \
		__m128i b = sse_round_lanes(c, i, source(c, i), singles, doubles, &flags);         \
                                                                                                   \
		if (flags & ~(c->mxcsr >> 7))                                                      \
			mxcsr_raise(c, i, flags);                                                  \
		c->mxcsr |= flags;                                                                 \
		avx_set(c, i->reg, xmm_get(c, avx_v(i)));                                          \
		memcpy(&c->xmm[i->reg], &b, (singles) * 4 + (doubles) * 8);                        \
	}                                                                                          \
	AVX_HANDLER(name)                                                                          \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		name##_run(c, i);                                                                  \
		return SOFT_NEXT(c, i);                                                            \
	}
ROUND_SCALAR(vroundss, sse_src32, 1, 0)
ROUND_SCALAR(vroundsd, sse_src64, 0, 1)

/* ---- Selection ------------------------------------------------------------------------------- */

#define TWO(name)  AVX_FP_ROW(name, 0)
#define ONE(name)  AVX_FP_ROW(name, AVX_NO_V)
#define ANY(name)  AVX_SCALAR_ROW(name, 0)
#define ANY1(name) AVX_SCALAR_ROW(name, AVX_NO_V)
#define FOUR(name) {TWO(v##name##ps), TWO(v##name##pd), ANY(v##name##ss), ANY(v##name##sd)}

static const struct avx_row rows[256][FP_PREFIXES] = {
	[0x14] = {TWO(vunpcklps), TWO(vunpcklpd)},
	[0x15] = {TWO(vunpckhps), TWO(vunpckhpd)},
	[0x2e] = {ANY1(vucomiss), ANY1(vucomisd)},
	[0x2f] = {ANY1(vcomiss), ANY1(vcomisd)},
	[0x51] = {ONE(vsqrtps), ONE(vsqrtpd), ANY(vsqrtss), ANY(vsqrtsd)},
	[0x52] = {ONE(vrsqrtps), {{NULL, NULL}, {0, 0}, 0}, ANY(vrsqrtss)},
	[0x53] = {ONE(vrcpps), {{NULL, NULL}, {0, 0}, 0}, ANY(vrcpss)},
	[0x54] = {TWO(vandp), TWO(vandp)},
	[0x55] = {TWO(vandnp), TWO(vandnp)},
	[0x56] = {TWO(vorp), TWO(vorp)},
	[0x57] = {TWO(vxorp), TWO(vxorp)},
	[0x58] = FOUR(add),
	[0x59] = FOUR(mul),
	[0x5a] = {ONE(vcvtps2pd), ONE(vcvtpd2ps), ANY(vcvtss2sd), ANY(vcvtsd2ss)},
	[0x5b] = {ONE(vcvtdq2ps), ONE(vcvtps2dq), ONE(vcvttps2dq)},
	[0x5c] = FOUR(sub),
	[0x5d] = FOUR(min),
	[0x5e] = FOUR(div),
	[0x5f] = FOUR(max),
	[0x7c] = {[FP_66] = TWO(vhaddpd), [FP_F2] = TWO(vhaddps)},
	[0x7d] = {[FP_66] = TWO(vhsubpd), [FP_F2] = TWO(vhsubps)},
	[0xc2] = FOUR(cmp),
	[0xc6] = {TWO(vshufps), TWO(vshufpd)},
	[0xd0] = {[FP_66] = TWO(vaddsubpd), [FP_F2] = TWO(vaddsubps)},
	[0xe6] = {[FP_66] = ONE(vcvttpd2dq), [FP_F3] = ONE(vcvtdq2pd), [FP_F2] = ONE(vcvtpd2dq)},
};

/* [opcode - 2A][F3, F2][W]; 2B is a move. */
static const struct avx_row general_rows[4][2][2] = {
	[0] = {{ANY(vcvtsi2ss_from32), ANY(vcvtsi2ss_from64)},
	       {ANY(vcvtsi2sd_from32), ANY(vcvtsi2sd_from64)}},
	[2] = {{ANY1(vcvttss2si_to32), ANY1(vcvttss2si_to64)},
	       {ANY1(vcvttsd2si_to32), ANY1(vcvttsd2si_to64)}},
	[3] = {{ANY1(vcvtss2si_to32), ANY1(vcvtss2si_to64)},
	       {ANY1(vcvtsd2si_to32), ANY1(vcvtsd2si_to64)}},
};

static const struct avx_row *row_0f3a(const struct soft_decode *d)
{
	static const struct avx_row round[4] = {ONE(vroundps), ONE(vroundpd), ANY(vroundss),
						ANY(vroundsd)};
	static const struct avx_row dot_singles = TWO(vdpps), dot_doubles = AVX_128_ROW(vdppd, 0);

	switch (d->opcode) {
	case 0x08 ... 0x0b:
		return &round[d->opcode - 0x08];
	case 0x40:
		return &dot_singles;
	case 0x41:
		return &dot_doubles;
	default:
		return NULL;
	}
}

const struct avx_row *avx_fp_row(const struct soft_decode *d, enum fp_prefix prefix)
{
	const struct avx_row *row;

	if (d->map == 3)
		return prefix == FP_66 ? row_0f3a(d) : NULL;
	if (d->map != 1)
		return NULL;
	if (d->opcode >= 0x2a && d->opcode <= 0x2d && prefix >= FP_F3)
		row = &general_rows[d->opcode - 0x2a][prefix == FP_F2][d->rex >> 3 & 1];
	else
		row = &rows[d->opcode][prefix];
	return row->fn[0] ? row : NULL;
}
