/* SPDX-License-Identifier: Apache-2.0 */
/* SSE3, but for FISTTP: by SSE2's instructions, of which the host makes them too. */
#include "vmm/cpu/soft/soft_simd.h"

#define PS(x) _mm_castsi128_ps(x)
#define PD(x) _mm_castsi128_pd(x)

static inline __m128i even_ps(__m128i a, __m128i b)
{
	return _mm_castps_si128(_mm_shuffle_ps(PS(a), PS(b), _MM_SHUFFLE(2, 0, 2, 0)));
}

static inline __m128i odd_ps(__m128i a, __m128i b)
{
	return _mm_castps_si128(_mm_shuffle_ps(PS(a), PS(b), _MM_SHUFFLE(3, 1, 3, 1)));
}

static inline __m128i even_pd(__m128i a, __m128i b)
{
	return _mm_unpacklo_epi64(a, b);
}

static inline __m128i odd_pd(__m128i a, __m128i b)
{
	return _mm_unpackhi_epi64(a, b);
}

/* HADDxx, HSUBxx: neighbours of both operands. */
#define SSE_HORIZONTAL(name, op, even, odd, lanes)                                                 \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		uint32_t tiny = 0;                                                                 \
		fp_check_sse(c, i);                                                                \
		__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);                              \
		__m128i x = even(a, b), y = odd(a, b);                                             \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %[y], %[x]" MXCSR_END                            \
				 : [x] "+x"(x), MXCSR_OUTPUTS(c)                                   \
				 : [y] "x"(y), MXCSR_OPERANDS(c));                                 \
		if (unlikely(!(c->mxcsr & MXCSR_MASK_UE)))                                         \
			tiny = mxcsr_tiny(lanes, x);                                               \
		mxcsr_leave(c, i, tiny);                                                           \
		xmm_set(c, i->reg, x);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
SSE_HORIZONTAL(haddps, "addps", even_ps, odd_ps, LANES_PS)
SSE_HORIZONTAL(haddpd, "addpd", even_pd, odd_pd, LANES_PD)
SSE_HORIZONTAL(hsubps, "subps", even_ps, odd_ps, LANES_PS)
SSE_HORIZONTAL(hsubpd, "subpd", even_pd, odd_pd, LANES_PD)

/* ADDSUBxx: the lanes of mask add, the others subtract. Zeroes in the lanes of the other operation raise
 * no flags. */
#define SSE_ADDSUB(name, type, mask_value, lanes)                                                  \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		const __m128i mask = mask_value;                                                   \
		uint32_t tiny = 0;                                                                 \
		fp_check_sse(c, i);                                                                \
		__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);                              \
		__m128i x = _mm_and_si128(mask, a), y = _mm_andnot_si128(mask, a);                 \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(                                                                  \
			MXCSR_BEGIN "add" type " %[bx], %[x]\n\t"                                  \
				    "sub" type " %[by], %[y]" MXCSR_END                            \
			: [x] "+&x"(x), [y] "+&x"(y), MXCSR_OUTPUTS(c)                             \
			: [bx] "x"(_mm_and_si128(mask, b)), [by] "x"(_mm_andnot_si128(mask, b)),   \
			  MXCSR_OPERANDS(c));                                                      \
		x = simd_select(mask, y, x);                                                       \
		if (unlikely(!(c->mxcsr & MXCSR_MASK_UE)))                                         \
			tiny = mxcsr_tiny(lanes, x);                                               \
		mxcsr_leave(c, i, tiny);                                                           \
		xmm_set(c, i->reg, x);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
SSE_ADDSUB(addsubps, "ps", _mm_set_epi32(-1, 0, -1, 0), LANES_PS)
SSE_ADDSUB(addsubpd, "pd", _mm_set_epi64x(-1, 0), LANES_PD)

SIMD_PLAIN(movddup, sse_src64, _mm_unpacklo_epi64(b, b))
SIMD_PLAIN(movsldup, sse_src128, _mm_shuffle_epi32(b, _MM_SHUFFLE(2, 2, 0, 0)))
SIMD_PLAIN(movshdup, sse_src128, _mm_shuffle_epi32(b, _MM_SHUFFLE(3, 3, 1, 1)))

/* Memory at any alignment. */
static fp_next sse_lddqu(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	xmm_set(c, i->reg, sse_load128(c, i, soft_ea(c, i)));
	return SOFT_NEXT(c, i);
}

static insn_fn sse3_select(const struct soft_decode *d)
{
	const enum fp_prefix prefix = fp_prefix_of(d);

	switch (d->opcode) {
	case 0x12:
		return prefix == FP_F2 ? sse_movddup : prefix == FP_F3 ? sse_movsldup : NULL;
	case 0x16:
		return prefix == FP_F3 ? sse_movshdup : NULL;
	case 0x7c:
		return prefix == FP_66 ? sse_haddpd : prefix == FP_F2 ? sse_haddps : NULL;
	case 0x7d:
		return prefix == FP_66 ? sse_hsubpd : prefix == FP_F2 ? sse_hsubps : NULL;
	case 0xd0:
		return prefix == FP_66 ? sse_addsubpd : prefix == FP_F2 ? sse_addsubps : NULL;
	case 0xf0:
		return prefix == FP_F2 && d->mod != 3 ? sse_lddqu : NULL;
	default:
		return NULL;
	}
}

bool fp_select_sse3(struct soft_decode *d)
{
	const insn_fn fn = sse3_select(d);

	if (!fn || !soft_decode_has(d, CPU_SSE3))
		return false;
	d->out->fn = fn;
	return true;
}
