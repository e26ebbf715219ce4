/* SPDX-License-Identifier: Apache-2.0 */
/* What SSSE3's operations compute, by SSE2: for XMM, and for MMX in the low halves. */
#ifndef VMM_SOFT_SOFT_SSSE3_H
#define VMM_SOFT_SOFT_SSSE3_H

#include "vmm/cpu/soft/soft_simd.h"

/* ---- Horizontal: the even and the odd lanes of both operands --------------------------------- */

static inline __m128i even_words(__m128i a, __m128i b)
{
	return _mm_packs_epi32(_mm_srai_epi32(_mm_slli_epi32(a, 16), 16),
			       _mm_srai_epi32(_mm_slli_epi32(b, 16), 16));
}

static inline __m128i odd_words(__m128i a, __m128i b)
{
	return _mm_packs_epi32(_mm_srai_epi32(a, 16), _mm_srai_epi32(b, 16));
}

static inline __m128i even_dwords(__m128i a, __m128i b)
{
	return _mm_castps_si128(
		_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(2, 0, 2, 0)));
}

static inline __m128i odd_dwords(__m128i a, __m128i b)
{
	return _mm_castps_si128(
		_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(3, 1, 3, 1)));
}

/* X(opcode after 0F 38, name, expression of a and b). The MMX form is that of a register whose halves are a and b,
 * and of zero. */
#define SSSE3_HORIZONTAL(X)                                                                        \
	X(0x01, phaddw, _mm_add_epi16(even_words(a, b), odd_words(a, b)))                          \
	X(0x02, phaddd, _mm_add_epi32(even_dwords(a, b), odd_dwords(a, b)))                        \
	X(0x03, phaddsw, _mm_adds_epi16(even_words(a, b), odd_words(a, b)))                        \
	X(0x05, phsubw, _mm_sub_epi16(even_words(a, b), odd_words(a, b)))                          \
	X(0x06, phsubd, _mm_sub_epi32(even_dwords(a, b), odd_dwords(a, b)))                        \
	X(0x07, phsubsw, _mm_subs_epi16(even_words(a, b), odd_words(a, b)))

/* ---- Lane by lane ---------------------------------------------------------------------------- */

/* Unsigned bytes of a times signed ones of b, neighbours added. */
static inline __m128i ssse3_pmaddubsw(__m128i a, __m128i b)
{
	__m128i even = _mm_mullo_epi16(_mm_and_si128(a, _mm_set1_epi16(0xff)),
				       _mm_srai_epi16(_mm_slli_epi16(b, 8), 8));
	__m128i odd = _mm_mullo_epi16(_mm_srli_epi16(a, 8), _mm_srai_epi16(b, 8));

	return _mm_adds_epi16(even, odd);
}

/* Bits 30:15 of the products, rounded. 8000h squared gives 8000h, which must not saturate. */
static inline __m128i ssse3_round_product(__m128i product)
{
	product = _mm_add_epi32(_mm_srai_epi32(product, 14), _mm_set1_epi32(1));
	return _mm_srai_epi32(_mm_slli_epi32(product, 15), 16);
}

static inline __m128i ssse3_pmulhrsw(__m128i a, __m128i b)
{
	__m128i low = _mm_mullo_epi16(a, b), high = _mm_mulhi_epi16(a, b);

	return _mm_packs_epi32(ssse3_round_product(_mm_unpacklo_epi16(low, high)),
			       ssse3_round_product(_mm_unpackhi_epi16(low, high)));
}

/* a negated where mask has ones. */
#define SSSE3_NEGATE(bits, a, mask) _mm_sub_epi##bits(_mm_xor_si128(a, mask), mask)

#define SSSE3_SIGN(bits)                                                                           \
	static inline __m128i ssse3_sign##bits(__m128i a, __m128i b)                               \
	{                                                                                          \
		__m128i zero = _mm_setzero_si128(), minus = _mm_cmpgt_epi##bits(zero, b);          \
                                                                                                   \
		return _mm_andnot_si128(_mm_cmpeq_epi##bits(b, zero),                              \
					SSSE3_NEGATE(bits, a, minus));                             \
	}                                                                                          \
	static inline __m128i ssse3_abs##bits(__m128i b)                                           \
	{                                                                                          \
		__m128i minus = _mm_cmpgt_epi##bits(_mm_setzero_si128(), b);                       \
                                                                                                   \
		return SSSE3_NEGATE(bits, b, minus);                                               \
	}
SSSE3_SIGN(8)
SSSE3_SIGN(16)
SSSE3_SIGN(32)

/* X(opcode, name, expression): the MMX form is the low half. */
#define SSSE3_LANES(X)                                                                             \
	X(0x04, pmaddubsw, ssse3_pmaddubsw(a, b))                                                  \
	X(0x08, psignb, ssse3_sign8(a, b))                                                         \
	X(0x09, psignw, ssse3_sign16(a, b))                                                        \
	X(0x0a, psignd, ssse3_sign32(a, b))                                                        \
	X(0x0b, pmulhrsw, ssse3_pmulhrsw(a, b))                                                    \
	X(0x1c, pabsb, ssse3_abs8(b))                                                              \
	X(0x1d, pabsw, ssse3_abs16(b))                                                             \
	X(0x1e, pabsd, ssse3_abs32(b))

/* ---- Bytes moved ----------------------------------------------------------------------------- */

/* Bytes of a chosen by b; with bit 7 set, zero. */
__m128i ssse3_pshufb(__m128i a, __m128i b);
/* The same of eight bytes. */
uint64_t ssse3_pshufb64(uint64_t a, uint64_t b);
/* The 32 bytes a (above) and b, from byte shift on. */
__m128i ssse3_palignr(__m128i a, __m128i b, unsigned shift);
/* The same of 16 bytes. */
uint64_t ssse3_palignr64(uint64_t a, uint64_t b, unsigned shift);

/* Of an opcode without a mandatory prefix; NULL: no such instruction. */
insn_fn ssse3_mmx_handler(const struct soft_decode *d);

#endif
