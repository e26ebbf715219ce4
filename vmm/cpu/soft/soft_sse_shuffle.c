/* SPDX-License-Identifier: Apache-2.0 */
/* SSE and SSE2 shuffles, floating-point logic, and the insertion and extraction of words. */
#include "vmm/cpu/soft/soft_fp.h"

#define PS(x) _mm_castsi128_ps(x)
#define PD(x) _mm_castsi128_pd(x)

#define SSE_BITS(name, expr)                                                                       \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);                              \
		xmm_set(c, i->reg, expr);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}

SSE_BITS(andp, _mm_and_si128(a, b))
SSE_BITS(andnp, _mm_andnot_si128(a, b))
SSE_BITS(orp, _mm_or_si128(a, b))
SSE_BITS(xorp, _mm_xor_si128(a, b))
SSE_BITS(unpcklps, _mm_unpacklo_epi32(a, b))
SSE_BITS(unpckhps, _mm_unpackhi_epi32(a, b))
SSE_BITS(unpcklpd, _mm_unpacklo_epi64(a, b))
SSE_BITS(unpckhpd, _mm_unpackhi_epi64(a, b))

static inline uint32_t lane32(__m128i v, unsigned n)
{
	uint64_t half = (uint64_t)_mm_cvtsi128_si64(n & 2 ? _mm_srli_si128(v, 8) : v);

	return (uint32_t)(half >> (32 * (n & 1)));
}

static inline uint64_t lane64(__m128i v, unsigned n)
{
	return (uint64_t)_mm_cvtsi128_si64(n & 1 ? _mm_srli_si128(v, 8) : v);
}

/* Four words chosen from a 64-bit half by two bits of imm each. */
static inline uint64_t shuffle_words(uint64_t half, unsigned imm)
{
	uint64_t out = 0;

	for (unsigned n = 0; n < 4; n++)
		out |= (half >> (16 * (imm >> (2 * n) & 3)) & 0xffff) << (16 * n);
	return out;
}

static fp_next sse_pshufd(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i);
	for (unsigned n = 0; n < 4; n++)
		c->xmm[i->reg].u32[n] = lane32(b, i->imm >> (2 * n) & 3);
	return SOFT_NEXT(c, i);
}

static fp_next sse_pshufhw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i);
	c->xmm[i->reg].u64[0] = lane64(b, 0);
	c->xmm[i->reg].u64[1] = shuffle_words(lane64(b, 1), (unsigned)i->imm);
	return SOFT_NEXT(c, i);
}

static fp_next sse_pshuflw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i);
	c->xmm[i->reg].u64[0] = shuffle_words(lane64(b, 0), (unsigned)i->imm);
	c->xmm[i->reg].u64[1] = lane64(b, 1);
	return SOFT_NEXT(c, i);
}

/* The low lanes come from the destination, the high ones from the source. */
static fp_next sse_shufps(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);
	for (unsigned n = 0; n < 4; n++)
		c->xmm[i->reg].u32[n] = lane32(n < 2 ? a : b, i->imm >> (2 * n) & 3);
	return SOFT_NEXT(c, i);
}

static fp_next sse_shufpd(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);
	c->xmm[i->reg].u64[0] = lane64(a, i->imm & 1);
	c->xmm[i->reg].u64[1] = lane64(b, i->imm >> 1 & 1);
	return SOFT_NEXT(c, i);
}

static fp_next sse_pinsrw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	uint16_t word =
		i->flags & INSN_MEM ? soft_load16(c, i, soft_ea(c, i)) : (uint16_t)c->reg[i->rm];
	c->xmm[i->reg].u16[i->imm & 7] = word;
	return SOFT_NEXT(c, i);
}

static fp_next sse_pextrw(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->reg[i->reg] = c->xmm[i->rm].u16[i->imm & 7];
	return SOFT_NEXT(c, i);
}

static const insn_fn shuffle_table[256][FP_PREFIXES] = {
	[0x14] = {sse_unpcklps, sse_unpcklpd},
	[0x15] = {sse_unpckhps, sse_unpckhpd},
	[0x54] = {sse_andp, sse_andp},
	[0x55] = {sse_andnp, sse_andnp},
	[0x56] = {sse_orp, sse_orp},
	[0x57] = {sse_xorp, sse_xorp},
	[0x70] = {NULL, sse_pshufd, sse_pshufhw, sse_pshuflw},
	[0xc4] = {NULL, sse_pinsrw},
	[0xc5] = {NULL, sse_pextrw},
	[0xc6] = {sse_shufps, sse_shufpd},
};

bool fp_select_shuffle(struct soft_decode *d)
{
	insn_fn fn = shuffle_table[d->opcode][fp_prefix_of(d)];

	if (!fn || (d->opcode == 0xc5 && d->mod != 3))
		return false;
	d->out->fn = fn;
	return true;
}
