/* SPDX-License-Identifier: Apache-2.0 */
/* What SSE4's operations compute, by SSE2. */
#ifndef VMM_SOFT_SOFT_SSE4_H
#define VMM_SOFT_SOFT_SSE4_H

#include "vmm/cpu/soft/soft_simd.h"

/* ---- Masks ----------------------------------------------------------------------------------- */

static inline __m128i sign_mask8(__m128i v)
{
	return _mm_cmpgt_epi8(_mm_setzero_si128(), v);
}

static inline __m128i sign_mask32(__m128i v)
{
	return _mm_srai_epi32(v, 31);
}

static inline __m128i sign_mask64(__m128i v)
{
	return _mm_shuffle_epi32(_mm_srai_epi32(v, 31), _MM_SHUFFLE(3, 3, 1, 1));
}

static inline bool all_zero(__m128i v)
{
	return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff;
}

/* ---- Wider lanes ----------------------------------------------------------------------------- */

static inline __m128i sign_extend8(__m128i v)
{
	return _mm_srai_epi16(_mm_unpacklo_epi8(v, v), 8);
}

static inline __m128i sign_extend16(__m128i v)
{
	return _mm_srai_epi32(_mm_unpacklo_epi16(v, v), 16);
}

static inline __m128i sign_extend32(__m128i v)
{
	return _mm_unpacklo_epi32(v, _mm_srai_epi32(v, 31));
}

/* ---- Arithmetic ------------------------------------------------------------------------------ */

/* The unsigned product, less what the signs stand for. */
static inline __m128i multiply_signed(__m128i a, __m128i b)
{
	__m128i fix = _mm_add_epi32(_mm_and_si128(_mm_srai_epi32(a, 31), b),
				    _mm_and_si128(_mm_srai_epi32(b, 31), a));

	return _mm_sub_epi64(_mm_mul_epu32(a, b), _mm_slli_epi64(fix, 32));
}

static inline __m128i multiply_low(__m128i a, __m128i b)
{
	__m128i even = _mm_mul_epu32(a, b);
	__m128i odd = _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32));

	return _mm_unpacklo_epi32(_mm_shuffle_epi32(even, _MM_SHUFFLE(2, 0, 2, 0)),
				  _mm_shuffle_epi32(odd, _MM_SHUFFLE(2, 0, 2, 0)));
}

/* Both doublewords of a lane. */
static inline __m128i equal64(__m128i a, __m128i b)
{
	__m128i equal = _mm_cmpeq_epi32(a, b);

	return _mm_and_si128(equal, _mm_shuffle_epi32(equal, _MM_SHUFFLE(2, 3, 0, 1)));
}

/* By the upper doublewords; where they are equal, by the borrow of b - a. */
static inline __m128i greater64(__m128i a, __m128i b)
{
	__m128i above = _mm_cmpgt_epi32(a, b), equal = _mm_cmpeq_epi32(a, b);
	__m128i borrow = _mm_and_si128(equal, _mm_sub_epi64(b, a));

	return sign_mask64(_mm_or_si128(above, borrow));
}

/* Signed doublewords to unsigned words: saturated in steps, then moved into the range of PACKSSDW. */
static inline __m128i saturate_unsigned16(__m128i v)
{
	__m128i most = _mm_set1_epi32(0xffff);

	v = _mm_andnot_si128(_mm_srai_epi32(v, 31), v);
	v = simd_select(_mm_cmpgt_epi32(v, most), v, most);
	return _mm_sub_epi32(v, _mm_set1_epi32(0x8000));
}

static inline __m128i pack_unsigned16(__m128i a, __m128i b)
{
	return _mm_xor_si128(_mm_packs_epi32(saturate_unsigned16(a), saturate_unsigned16(b)),
			     _mm_set1_epi16((short)0x8000));
}

/* The least word, and where it is. */
static inline __m128i least_word(__m128i b)
{
	union soft_xmm v;
	unsigned at = 0;

	_mm_store_si128((__m128i *)&v, b);
	for (unsigned n = 1; n < 8; n++)
		if (v.u16[n] < v.u16[at])
			at = n;
	return _mm_cvtsi32_si128((int)(v.u16[at] | at << 16));
}

/* Unsigned lanes compare as signed ones with the sign flipped. */
#define FLIP16(v) _mm_xor_si128(v, _mm_set1_epi16((short)0x8000))
#define FLIP32(v) _mm_xor_si128(v, _mm_set1_epi32((int)0x80000000u))
/* Sums of the differences of four bytes of b and those of a at eight places (MPSADBW; soft_sse_0f38.c). */
__m128i sse_sad(__m128i a, __m128i b, unsigned imm);

/* X(opcode after 0F 38, name, feature, expression of a and b): lane by lane. */
#define SSE4_LANES(X)                                                                              \
	X(0x28, pmuldq, CPU_SSE41, multiply_signed(a, b))                                          \
	X(0x29, pcmpeqq, CPU_SSE41, equal64(a, b))                                                 \
	X(0x2b, packusdw, CPU_SSE41, pack_unsigned16(a, b))                                        \
	X(0x37, pcmpgtq, CPU_SSE42, greater64(a, b))                                               \
	X(0x38, pminsb, CPU_SSE41, simd_select(_mm_cmpgt_epi8(a, b), a, b))                        \
	X(0x39, pminsd, CPU_SSE41, simd_select(_mm_cmpgt_epi32(a, b), a, b))                       \
	X(0x3a, pminuw, CPU_SSE41, simd_select(_mm_cmpgt_epi16(FLIP16(a), FLIP16(b)), a, b))       \
	X(0x3b, pminud, CPU_SSE41, simd_select(_mm_cmpgt_epi32(FLIP32(a), FLIP32(b)), a, b))       \
	X(0x3c, pmaxsb, CPU_SSE41, simd_select(_mm_cmpgt_epi8(a, b), b, a))                        \
	X(0x3d, pmaxsd, CPU_SSE41, simd_select(_mm_cmpgt_epi32(a, b), b, a))                       \
	X(0x3e, pmaxuw, CPU_SSE41, simd_select(_mm_cmpgt_epi16(FLIP16(a), FLIP16(b)), b, a))       \
	X(0x3f, pmaxud, CPU_SSE41, simd_select(_mm_cmpgt_epi32(FLIP32(a), FLIP32(b)), b, a))       \
	X(0x40, pmulld, CPU_SSE41, multiply_low(a, b))

#endif
