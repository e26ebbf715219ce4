/* SPDX-License-Identifier: Apache-2.0 */
/* SSSE3 and SSE4 of the opcodes behind 0F 38: by SSE2, or by the host's own where SSE2 is too slow. */
#include "vmm/cpu/soft/soft_ssse3.h"

/* ---- SSSE3 ----------------------------------------------------------------------------------- */

#define X(opcode, name, expr) SIMD_PLAIN(name, sse_src128, expr)
SSSE3_LANES(X)
SSSE3_HORIZONTAL(X)
#undef X
SIMD_PLAIN(pshufb, sse_src128, ssse3_pshufb(a, b))
SIMD_HOST(pshufb, "pshufb")

/* ---- Blends by XMM0, PTEST ------------------------------------------------------------------- */

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

SIMD_PLAIN(pblendvb, sse_src128, simd_select(sign_mask8(xmm_get(c, 0)), a, b))
SIMD_PLAIN(blendvps, sse_src128, simd_select(sign_mask32(xmm_get(c, 0)), a, b))
SIMD_PLAIN(blendvpd, sse_src128, simd_select(sign_mask64(xmm_get(c, 0)), a, b))

static inline bool all_zero(__m128i v)
{
	return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff;
}

static fp_next sse_ptest(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);
	soft_flags_set_arith(c, (all_zero(_mm_and_si128(a, b)) ? FLAG_ZF : 0) |
					(all_zero(_mm_andnot_si128(a, b)) ? FLAG_CF : 0));
	return SOFT_NEXT(c, i);
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

#define ZERO _mm_setzero_si128()
SIMD_PLAIN(pmovsxbw, sse_src64, sign_extend8(b))
SIMD_PLAIN(pmovsxbd, sse_src32, sign_extend16(sign_extend8(b)))
SIMD_PLAIN(pmovsxbq, sse_src16, sign_extend32(sign_extend16(sign_extend8(b))))
SIMD_PLAIN(pmovsxwd, sse_src64, sign_extend16(b))
SIMD_PLAIN(pmovsxwq, sse_src32, sign_extend32(sign_extend16(b)))
SIMD_PLAIN(pmovsxdq, sse_src64, sign_extend32(b))
SIMD_PLAIN(pmovzxbw, sse_src64, _mm_unpacklo_epi8(b, ZERO))
SIMD_PLAIN(pmovzxbd, sse_src32, _mm_unpacklo_epi16(_mm_unpacklo_epi8(b, ZERO), ZERO))
SIMD_PLAIN(pmovzxbq, sse_src16,
	   _mm_unpacklo_epi32(_mm_unpacklo_epi16(_mm_unpacklo_epi8(b, ZERO), ZERO), ZERO))
SIMD_PLAIN(pmovzxwd, sse_src64, _mm_unpacklo_epi16(b, ZERO))
SIMD_PLAIN(pmovzxwq, sse_src32, _mm_unpacklo_epi32(_mm_unpacklo_epi16(b, ZERO), ZERO))
SIMD_PLAIN(pmovzxdq, sse_src64, _mm_unpacklo_epi32(b, ZERO))
SIMD_PLAIN(movntdqa, sse_src128, b)

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
static __attribute__((noinline)) __m128i least_word(__m128i b)
{
	union soft_xmm v;
	unsigned at = 0;

	_mm_store_si128((__m128i *)&v, b);
	for (unsigned n = 1; n < 8; n++)
		if (v.u16[n] < v.u16[at])
			at = n;
	return _mm_cvtsi32_si128((int)(v.u16[at] | at << 16));
}

SIMD_PLAIN(pmuldq, sse_src128, multiply_signed(a, b))
SIMD_PLAIN(pmulld, sse_src128, multiply_low(a, b))
SIMD_PLAIN(pcmpeqq, sse_src128, equal64(a, b))
SIMD_PLAIN(pcmpgtq, sse_src128, greater64(a, b))
SIMD_PLAIN(packusdw, sse_src128, pack_unsigned16(a, b))
SIMD_PLAIN(phminposuw, sse_src128, least_word(b))

/* Unsigned lanes compare as signed ones with the sign flipped. */
#define FLIP16(v) _mm_xor_si128(v, _mm_set1_epi16((short)0x8000))
#define FLIP32(v) _mm_xor_si128(v, _mm_set1_epi32((int)0x80000000u))
#define MINMAX(suffix, greater)                                                                    \
	SIMD_PLAIN(pmin##suffix, sse_src128, simd_select(greater, a, b))                           \
	SIMD_PLAIN(pmax##suffix, sse_src128, simd_select(greater, b, a))
MINMAX(sb, _mm_cmpgt_epi8(a, b))
MINMAX(sd, _mm_cmpgt_epi32(a, b))
MINMAX(uw, _mm_cmpgt_epi16(FLIP16(a), FLIP16(b)))
MINMAX(ud, _mm_cmpgt_epi32(FLIP32(a), FLIP32(b)))

/* ---- Selection ------------------------------------------------------------------------------- */

#define SSSE3(name) {sse_##name, NULL, CPU_SSSE3, false, false}
#define SSE41(name) {sse_##name, NULL, CPU_SSE41, false, false}
#define SSE42(name) {sse_##name, NULL, CPU_SSE42, false, false}

/* With the prefix 66. */
static const struct simd_row rows[256] = {
#define X(opcode, name, expr) [opcode] = SSSE3(name),
	SSSE3_LANES(X) SSSE3_HORIZONTAL(X)
#undef X
		[0x00] = {sse_pshufb, sse_pshufb_host, CPU_SSSE3, false, false},
	[0x10] = SSE41(pblendvb),
	[0x14] = SSE41(blendvps),
	[0x15] = SSE41(blendvpd),
	[0x17] = SSE41(ptest),
	[0x20] = SSE41(pmovsxbw),
	[0x21] = SSE41(pmovsxbd),
	[0x22] = SSE41(pmovsxbq),
	[0x23] = SSE41(pmovsxwd),
	[0x24] = SSE41(pmovsxwq),
	[0x25] = SSE41(pmovsxdq),
	[0x28] = SSE41(pmuldq),
	[0x29] = SSE41(pcmpeqq),
	[0x2a] = {sse_movntdqa, NULL, CPU_SSE41, false, true},
	[0x2b] = SSE41(packusdw),
	[0x30] = SSE41(pmovzxbw),
	[0x31] = SSE41(pmovzxbd),
	[0x32] = SSE41(pmovzxbq),
	[0x33] = SSE41(pmovzxwd),
	[0x34] = SSE41(pmovzxwq),
	[0x35] = SSE41(pmovzxdq),
	[0x37] = SSE42(pcmpgtq),
	[0x38] = SSE41(pminsb),
	[0x39] = SSE41(pminsd),
	[0x3a] = SSE41(pminuw),
	[0x3b] = SSE41(pminud),
	[0x3c] = SSE41(pmaxsb),
	[0x3d] = SSE41(pmaxsd),
	[0x3e] = SSE41(pmaxuw),
	[0x3f] = SSE41(pmaxud),
	[0x40] = SSE41(pmulld),
	[0x41] = SSE41(phminposuw),
};

bool simd_row_pick(struct soft_decode *d, const struct simd_row *row)
{
	if (!row->plain || !soft_decode_has(d, row->feature))
		return false;
	if ((row->reg_only && d->mod != 3) || (row->mem_only && d->mod == 3))
		return false;
	d->out->fn = row->host ? soft_host_pick(row->feature, row->host, row->plain) : row->plain;
	return true;
}

bool fp_select_0f38(struct soft_decode *d)
{
	const enum fp_prefix prefix = fp_prefix_of(d);

	if (fp_select_crypto(d))
		return true;
	if (prefix == FP_66)
		return simd_row_pick(d, &rows[d->opcode]);
	if (prefix != FP_NONE || !soft_decode_has(d, CPU_SSSE3))
		return false;
	d->out->fn = ssse3_mmx_handler(d);
	return d->out->fn;
}
