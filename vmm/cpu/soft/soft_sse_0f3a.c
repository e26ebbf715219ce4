/* SPDX-License-Identifier: Apache-2.0 */
/* SSSE3 and SSE4.1 of the opcodes behind 0F 3A, which have an immediate: by SSE2, rounding by the host. */
#include "vmm/cpu/soft/soft_simd.h"
#include "vmm/cpu/soft/soft_sse4.h"
#include "vmm/cpu/soft/soft_sse_round.h"
#include "vmm/cpu/soft/soft_sse_string.h"
#include "vmm/cpu/soft/soft_ssse3.h"

/* ---- Bits of the immediate as masks of lanes ------------------------------------------------- */

static inline __m128i lanes16(uint64_t imm)
{
	const __m128i bit = _mm_set_epi16(128, 64, 32, 16, 8, 4, 2, 1);

	return _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16((short)imm), bit), bit);
}

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

SIMD_PLAIN(pblendw, sse_src128, simd_select(lanes16(i->imm), a, b))
SIMD_PLAIN(blendps, sse_src128, simd_select(lanes32(i->imm), a, b))
SIMD_PLAIN(blendpd, sse_src128, simd_select(lanes64(i->imm), a, b))
SIMD_PLAIN(palignr, sse_src128, ssse3_palignr(a, b, (uint8_t)i->imm))

/* ---- Extraction and insertion ---------------------------------------------------------------- */

/* A lane to memory, or zero-extended to a general register. */
#define SSE_EXTRACT(name, bits, lane)                                                              \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		uint##bits##_t v = c->xmm[i->reg].u##bits[i->imm & (lane)];                        \
		if (i->flags & INSN_MEM)                                                           \
			soft_store##bits(c, i, soft_ea(c, i), v);                                  \
		else                                                                               \
			c->reg[i->rm] = v;                                                         \
		return SOFT_NEXT(c, i);                                                            \
	}
SSE_EXTRACT(pextrb, 8, 15)
SSE_EXTRACT(pextrw_store, 16, 7)
SSE_EXTRACT(pextrd, 32, 3)
SSE_EXTRACT(pextrq, 64, 1)
SSE_EXTRACT(extractps, 32, 3)

#define SSE_INSERT(name, bits, lane)                                                               \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		c->xmm[i->reg].u##bits[i->imm & (lane)] =                                          \
			i->flags & INSN_MEM ? soft_load##bits(c, i, soft_ea(c, i))                 \
					    : (uint##bits##_t)c->reg[i->rm];                       \
		return SOFT_NEXT(c, i);                                                            \
	}
SSE_INSERT(pinsrb, 8, 15)
SSE_INSERT(pinsrd, 32, 3)
SSE_INSERT(pinsrq, 64, 1)

static fp_next sse_insertps(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	uint32_t v = i->flags & INSN_MEM ? soft_load32(c, i, soft_ea(c, i))
					 : c->xmm[i->rm].u32[i->imm >> 6 & 3];
	c->xmm[i->reg].u32[i->imm >> 4 & 3] = v;
	xmm_set(c, i->reg, _mm_andnot_si128(lanes32(i->imm), xmm_get(c, i->reg)));
	return SOFT_NEXT(c, i);
}

/* ---- Dot products ---------------------------------------------------------------------------- */

/* One of the steps; its unmasked exceptions come before the next one (SDM 2A, DPPS). */
#define DOT_STEP(name, op, lanes)                                                                  \
	static inline __m128i dot_##name(struct soft_cpu *c, const struct insn *i, __m128i a,      \
					 __m128i b)                                                \
	{                                                                                          \
		uint32_t tiny = 0;                                                                 \
                                                                                                   \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op " %[b], %[a]" MXCSR_END                            \
				 : [a] "+x"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "x"(b), MXCSR_OPERANDS(c));                                 \
		if (unlikely(!(c->mxcsr & MXCSR_MASK_UE)))                                         \
			tiny = mxcsr_tiny(lanes, a);                                               \
		mxcsr_leave(c, i, tiny);                                                           \
		return a;                                                                          \
	}
DOT_STEP(mulps, "mulps", LANES_PS)
DOT_STEP(addps, "addps", LANES_PS)
DOT_STEP(mulpd, "mulpd", LANES_PD)
DOT_STEP(addpd, "addpd", LANES_PD)

/* Products that are not wanted are those of zeroes. Which of two NaNs a lane gets is up to the processor; this is
 * Intel's order. */
static fp_next sse_dpps(struct soft_cpu *c, const struct insn *i)
{
	const __m128i in = lanes32(i->imm >> 4), out = lanes32(i->imm);

	fp_check_sse(c, i);
	__m128i b = _mm_and_si128(sse_src128(c, i), in), a = _mm_and_si128(xmm_get(c, i->reg), in);
	a = dot_mulps(c, i, a, b);
	a = dot_addps(c, i, _mm_shuffle_epi32(a, _MM_SHUFFLE(2, 2, 0, 0)),
		      _mm_shuffle_epi32(a, _MM_SHUFFLE(3, 3, 1, 1)));
	a = dot_addps(c, i, a, _mm_shuffle_epi32(a, _MM_SHUFFLE(1, 0, 3, 2)));
	xmm_set(c, i->reg, _mm_and_si128(a, out));
	return SOFT_NEXT(c, i);
}

static fp_next sse_dppd(struct soft_cpu *c, const struct insn *i)
{
	const __m128i in = lanes64(i->imm >> 4), out = lanes64(i->imm);

	fp_check_sse(c, i);
	__m128i b = _mm_and_si128(sse_src128(c, i), in), a = _mm_and_si128(xmm_get(c, i->reg), in);
	a = dot_mulpd(c, i, a, b);
	a = dot_addpd(c, i, a, _mm_shuffle_epi32(a, _MM_SHUFFLE(1, 0, 3, 2)));
	xmm_set(c, i->reg, _mm_and_si128(a, out));
	return SOFT_NEXT(c, i);
}

SIMD_PLAIN(mpsadbw, sse_src128, sse_sad(a, b, (unsigned)i->imm))

/* ---- Selection ------------------------------------------------------------------------------- */

#define SSE41(name)  {.plain = sse_##name, .feature = CPU_SSE41}
#define STRING(name) {.plain = sse_##name, .host = sse_##name##_host, .feature = CPU_SSE42}
#define ROUND(name)  {.plain = sse_##name, .host = sse_##name##_host, .feature = CPU_SSE41}

/* With the prefix 66. */
static const struct simd_row rows[256] = {
	[0x08] = ROUND(roundps),    [0x09] = ROUND(roundpd),
	[0x0a] = ROUND(roundss),    [0x0b] = ROUND(roundsd),
	[0x0c] = SSE41(blendps),    [0x0d] = SSE41(blendpd),
	[0x0e] = SSE41(pblendw),    [0x0f] = {.plain = sse_palignr, .feature = CPU_SSSE3},
	[0x14] = SSE41(pextrb),	    [0x15] = SSE41(pextrw_store),
	[0x16] = SSE41(pextrd),	    [0x17] = SSE41(extractps),
	[0x20] = SSE41(pinsrb),	    [0x21] = SSE41(insertps),
	[0x22] = SSE41(pinsrd),	    [0x40] = SSE41(dpps),
	[0x41] = SSE41(dppd),	    [0x42] = SSE41(mpsadbw),
	[0x60] = STRING(pcmpestrm), [0x61] = STRING(pcmpestri),
	[0x62] = STRING(pcmpistrm), [0x63] = STRING(pcmpistri),
};

bool fp_select_0f3a(struct soft_decode *d)
{
	const enum fp_prefix prefix = fp_prefix_of(d);
	struct simd_row row = rows[d->opcode];

	if (fp_select_crypto(d))
		return true;
	if (prefix == FP_66) {
		if ((d->rex & 8) && row.plain == sse_pextrd)
			row.plain = sse_pextrq;
		if ((d->rex & 8) && row.plain == sse_pinsrd)
			row.plain = sse_pinsrq;
		return simd_row_pick(d, &row);
	}
	if (prefix != FP_NONE || !soft_decode_has(d, CPU_SSSE3))
		return false;
	d->out->fn = ssse3_mmx_handler(d);
	return d->out->fn;
}
