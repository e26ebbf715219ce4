/* SPDX-License-Identifier: Apache-2.0 */
/* SSSE3 and SSE4 of the opcodes behind 0F 38: by SSE2, or by the host's own where SSE2 is too slow. */
#include "vmm/cpu/soft/soft_sse4.h"
#include "vmm/cpu/soft/soft_ssse3.h"

/* ---- SSSE3 ----------------------------------------------------------------------------------- */

#define X(opcode, name, expr) SIMD_PLAIN(name, sse_src128, expr)
SSSE3_LANES(X)
SSSE3_HORIZONTAL(X)
#undef X
SIMD_PLAIN(pshufb, sse_src128, ssse3_pshufb(a, b))
SIMD_HOST(pshufb, "pshufb")
SIMD_HOST_REG(pshufb, "pshufb")

/* ---- Blends by XMM0, PTEST ------------------------------------------------------------------- */

SIMD_PLAIN(pblendvb, sse_src128, simd_select(sign_mask8(xmm_get(c, 0)), a, b))
SIMD_PLAIN(blendvps, sse_src128, simd_select(sign_mask32(xmm_get(c, 0)), a, b))
SIMD_PLAIN(blendvpd, sse_src128, simd_select(sign_mask64(xmm_get(c, 0)), a, b))

static fp_next sse_ptest(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);
	soft_flags_set_arith(c, (all_zero(_mm_and_si128(a, b)) ? FLAG_ZF : 0) |
					(all_zero(_mm_andnot_si128(a, b)) ? FLAG_CF : 0));
	return SOFT_NEXT(c, i);
}

/* ---- Wider lanes ----------------------------------------------------------------------------- */

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

#define X(opcode, name, feature, expr) SIMD_PLAIN(name, sse_src128, expr)
SSE4_LANES(X)
#undef X
SIMD_PLAIN(phminposuw, sse_src128, least_word(b))

/* ---- MPSADBW (of 0F 3A) ---------------------------------------------------------------------- */

__m128i sse_sad(__m128i a, __m128i b, unsigned imm)
{
	const __m128i zero = _mm_setzero_si128();
	uint8_t bytes[32] = {0};
	union soft_xmm four;
	__m128i sum = zero;

	_mm_storeu_si128((__m128i *)bytes, a);
	_mm_store_si128((__m128i *)&four, b);
	for (unsigned n = 0; n < 4; n++) {
		const uint8_t *at = bytes + (imm & 4) + n;
		__m128i x = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)at), zero);
		__m128i y = _mm_set1_epi16(four.u8[4 * (imm & 3) + n]);
		__m128i d = _mm_sub_epi16(x, y);

		sum = _mm_add_epi16(sum, _mm_max_epi16(d, _mm_sub_epi16(zero, d)));
	}
	return sum;
}
/* ---- Selection ------------------------------------------------------------------------------- */

#define SSSE3(name) {.plain = sse_##name, .feature = CPU_SSSE3}
#define SSE41(name) {.plain = sse_##name, .feature = CPU_SSE41}

/* With the prefix 66. */
static const struct simd_row rows[256] = {
#define X(opcode, name, expr) [opcode] = SSSE3(name),
	SSSE3_LANES(X) SSSE3_HORIZONTAL(X)
#undef X
#define X(opcode, name, needs, expr) [opcode] = {.plain = sse_##name, .feature = needs},
		SSE4_LANES(X)
#undef X
			[0x00] = {.plain = sse_pshufb,
				  .host = sse_pshufb_host,
				  .host_reg = sse_pshufb_reg,
				  .feature = CPU_SSSE3},
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
	[0x2a] = {.plain = sse_movntdqa, .feature = CPU_SSE41, .mem_only = true},
	[0x30] = SSE41(pmovzxbw),
	[0x31] = SSE41(pmovzxbd),
	[0x32] = SSE41(pmovzxbq),
	[0x33] = SSE41(pmovzxwd),
	[0x34] = SSE41(pmovzxwq),
	[0x35] = SSE41(pmovzxdq),
	[0x41] = SSE41(phminposuw),
};

bool simd_row_pick(struct soft_decode *d, const struct simd_row *row)
{
	if (!row->plain || !soft_decode_has(d, row->feature))
		return false;
	if (row->mem_only && d->mod == 3)
		return false;
	d->out->fn = row->plain;
	if (row->host && (soft_host_features() & CPU_BIT(row->feature)))
		d->out->fn = d->mod == 3 && row->host_reg ? row->host_reg : row->host;
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
