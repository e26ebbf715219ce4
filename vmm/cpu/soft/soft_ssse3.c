/* SPDX-License-Identifier: Apache-2.0 */
/* SSSE3's MMX forms, and what both forms compute byte by byte. */
#include "vmm/cpu/soft/soft_ssse3.h"

__m128i ssse3_pshufb(__m128i a, __m128i b)
{
	union soft_xmm from, at, out;

	_mm_store_si128((__m128i *)&from, a);
	_mm_store_si128((__m128i *)&at, b);
	for (unsigned n = 0; n < 16; n++)
		out.u8[n] = at.u8[n] & 0x80 ? 0 : from.u8[at.u8[n] & 15];
	return _mm_load_si128((const __m128i *)&out);
}

uint64_t ssse3_pshufb64(uint64_t a, uint64_t b)
{
	uint64_t out = 0;

	for (unsigned n = 0; n < 64; n += 8)
		if (!(b >> n & 0x80))
			out |= (a >> 8 * (b >> n & 7) & 0xff) << n;
	return out;
}

__m128i ssse3_palignr(__m128i a, __m128i b, unsigned shift)
{
	uint8_t bytes[64] = {0};

	_mm_storeu_si128((__m128i *)bytes, b);
	_mm_storeu_si128((__m128i *)(bytes + 16), a);
	return _mm_loadu_si128((const __m128i *)(bytes + (shift < 32 ? shift : 32)));
}

uint64_t ssse3_palignr64(uint64_t a, uint64_t b, unsigned shift)
{
	unsigned bits = 8 * (shift & 7);

	if (shift >= 16)
		return 0;
	if (shift >= 8)
		return a >> bits;
	return bits ? b >> bits | a << (64 - bits) : b;
}

#define MMX_OP(name, result)                                                                       \
	static fp_next mmx_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_mmx(c, i);                                                                \
		__m128i b = mmx_src64(c, i), a = mmx_get(c, i->reg);                               \
		(void)a;                                                                           \
		mmx_set(c, i->reg & 7, result);                                                    \
		return SOFT_NEXT(c, i);                                                            \
	}

#define X(opcode, name, expr) MMX_OP(name, simd_low64(expr))
SSSE3_LANES(X)
#undef X

#define X(opcode, name, expr)                                                                      \
	static inline __m128i halves_##name(__m128i a, __m128i b)                                  \
	{                                                                                          \
		return expr;                                                                       \
	}                                                                                          \
	MMX_OP(name, simd_low64(halves_##name(_mm_unpacklo_epi64(a, b), _mm_setzero_si128())))
SSSE3_HORIZONTAL(X)
#undef X

MMX_OP(pshufb, ssse3_pshufb64(simd_low64(a), simd_low64(b)))
MMX_OP(palignr, ssse3_palignr64(simd_low64(a), simd_low64(b), (uint8_t)i->imm))

static const insn_fn mmx_table[0x20] = {
#define X(opcode, name, expr) [opcode] = mmx_##name,
	SSSE3_LANES(X) SSSE3_HORIZONTAL(X)
#undef X
		[0x00] = mmx_pshufb,
};

insn_fn ssse3_mmx_handler(const struct soft_decode *d)
{
	if (d->map == 3)
		return d->opcode == 0x0f ? mmx_palignr : NULL;
	return d->opcode < 0x20 ? mmx_table[d->opcode] : NULL;
}
