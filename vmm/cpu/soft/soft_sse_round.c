/* SPDX-License-Identifier: Apache-2.0 */
/* ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD. */
#include "vmm/cpu/soft/soft_simd.h"
#include "vmm/cpu/soft/soft_sse_round.h"

#define MXCSR_DAZ 0x40u
#define MXCSR_IE  0x01u
#define MXCSR_PE  0x20u

/* ---- By the host ----------------------------------------------------------------------------- */

#define ROUND_HOST(name, source)                                                                   \
	fp_next sse_##name##_host(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i b = source(c, i), a = xmm_get(c, i->reg);                                  \
		round_enter(c, i);                                                                 \
		if (i->imm & ROUND_SILENT)                                                         \
			__asm__ volatile(MXCSR_BEGIN #name " $12, %[b], %[a]" MXCSR_END            \
					 : [a] "+x"(a), MXCSR_OUTPUTS(c)                           \
					 : [b] "x"(b), MXCSR_OPERANDS(c));                         \
		else                                                                               \
			__asm__ volatile(MXCSR_BEGIN #name " $4, %[b], %[a]" MXCSR_END             \
					 : [a] "+x"(a), MXCSR_OUTPUTS(c)                           \
					 : [b] "x"(b), MXCSR_OPERANDS(c));                         \
		mxcsr_leave(c, i, 0);                                                              \
		xmm_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}
ROUND_HOST(roundps, sse_src128)
ROUND_HOST(roundpd, sse_src128)
ROUND_HOST(roundss, sse_src32)
ROUND_HOST(roundsd, sse_src64)

/* ---- In C ------------------------------------------------------------------------------------ */

#define F64_FRACTION UINT64_C(0x000fffffffffffff)
#define F64_QUIET    UINT64_C(0x0008000000000000)
#define F64_INF	     UINT64_C(0x7ff0000000000000)
#define F64_SIGN     UINT64_C(0x8000000000000000)
#define F64_BIAS     1023
#define F64_BITS     52

/* Whether the magnitude is rounded up: half and more tell what was cut off, odd the last bit kept. */
static bool round_up(unsigned mode, bool negative, bool half, bool more, bool odd)
{
	switch (mode) {
	case 0: /* nearest, ties to even */
		return half && (more || odd);
	case 1: /* down */
		return negative && (half || more);
	case 2: /* up */
		return !negative && (half || more);
	default:
		return false;
	}
}

/* A finite number, rounded; *flags gets PE if it was not whole. */
static uint64_t round_finite(uint64_t v, unsigned mode, uint32_t *flags)
{
	const uint64_t sign = v & F64_SIGN, magnitude = v & ~F64_SIGN;
	const int exponent = (int)(magnitude >> F64_BITS) - F64_BIAS;
	unsigned cut; /* bits behind the point */
	uint64_t rest, half;

	if (!magnitude || exponent >= F64_BITS)
		return v;
	if (exponent < 0) { /* below 1: to 0 or 1; above a half is exponent -1 with a fraction */
		*flags |= MXCSR_PE;
		bool is_half = exponent == -1;
		bool more = is_half ? magnitude & F64_FRACTION : true;

		return sign |
		       (round_up(mode, sign, is_half, more, false) ? (uint64_t)F64_BIAS << F64_BITS
								   : 0);
	}
	cut = (unsigned)(F64_BITS - exponent);
	rest = magnitude & ((UINT64_C(1) << cut) - 1);
	half = UINT64_C(1) << (cut - 1);
	if (!rest)
		return v;
	*flags |= MXCSR_PE;
	/* The last bit kept may be the hidden one, which is set. */
	bool odd = cut == F64_BITS || (magnitude >> cut & 1);
	uint64_t whole = magnitude - rest;

	if (round_up(mode, sign, rest >= half, rest & (half - 1), odd))
		whole += UINT64_C(1) << cut; /* may carry into the exponent, which is right */
	return sign | whole;
}

/* daz: denormals are zeroes. */
static uint64_t round_number(uint64_t v, unsigned mode, bool daz, uint32_t *flags)
{
	const uint64_t magnitude = v & ~F64_SIGN;

	if (magnitude > F64_INF) {
		if (!(v & F64_QUIET))
			*flags |= MXCSR_IE;
		return v | F64_QUIET;
	}
	if (magnitude == F64_INF)
		return v;
	if (daz && magnitude && magnitude <= F64_FRACTION)
		return v & F64_SIGN;
	return round_finite(v, mode, flags);
}

/* Every single is a double, and rounded it is one again. NaNs keep their payload. */
static uint32_t round_single(uint32_t v, unsigned mode, bool daz, uint32_t *flags)
{
	const uint32_t magnitude = v & 0x7fffffffu;
	uint64_t wide;
	double d;
	float f;

	if (magnitude > 0x7f800000u) {
		if (!(v & 0x00400000u))
			*flags |= MXCSR_IE;
		return v | 0x00400000u;
	}
	if (daz && magnitude && magnitude <= 0x007fffffu)
		return v & 0x80000000u;
	memcpy(&f, &v, sizeof(f));
	d = f;
	memcpy(&wide, &d, sizeof(wide));
	wide = round_number(wide, mode, false, flags);
	memcpy(&d, &wide, sizeof(d));
	f = (float)d;
	memcpy(&v, &f, sizeof(v));
	return v;
}

__m128i sse_round_lanes(const struct soft_cpu *c, const struct insn *i, __m128i b, unsigned singles,
			unsigned doubles, uint32_t *raised)
{
	const unsigned mode = i->imm & ROUND_MXCSR ? c->mxcsr >> MXCSR_RC_SHIFT & 3 : i->imm & 3;
	const bool daz = c->mxcsr & MXCSR_DAZ;
	uint32_t flags = 0;
	union soft_xmm v;

	_mm_store_si128((__m128i *)&v, b);
	for (unsigned n = 0; n < singles; n++)
		v.u32[n] = round_single(v.u32[n], mode, daz, &flags);
	for (unsigned n = 0; n < doubles; n++)
		v.u64[n] = round_number(v.u64[n], mode, daz, &flags);
	if (i->imm & ROUND_SILENT)
		flags &= ~MXCSR_PE;
	*raised |= flags;
	return _mm_load_si128((const __m128i *)&v);
}

/* The lanes of b; the others are left. */
static __attribute__((noinline)) void round_run(struct soft_cpu *c, const struct insn *i, __m128i b,
						unsigned singles, unsigned doubles)
{
	uint32_t flags = 0;
	__m128i v = sse_round_lanes(c, i, b, singles, doubles, &flags);

	if (flags & ~(c->mxcsr >> 7))
		mxcsr_raise(c, i, flags);
	c->mxcsr |= flags;
	memcpy(&c->xmm[i->reg], &v, singles * 4 + doubles * 8);
}

#define ROUND_PLAIN(name, source, singles, doubles)                                                \
	fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                               \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		round_run(c, i, source(c, i), singles, doubles);                                   \
		return SOFT_NEXT(c, i);                                                            \
	}
ROUND_PLAIN(roundps, sse_src128, 4, 0)
ROUND_PLAIN(roundpd, sse_src128, 0, 2)
ROUND_PLAIN(roundss, sse_src32, 1, 0)
ROUND_PLAIN(roundsd, sse_src64, 0, 1)
