/* SPDX-License-Identifier: Apache-2.0 */
/* PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM 1, 4.1; SDM 2B). */
#include "vmm/cpu/soft/soft_avx.h"
#include "vmm/cpu/soft/soft_sse_string.h"

/*
 * All four compare two strings of known lengths to a bit for each element (SDM's IntRes2); only how they
 * come to the lengths and what they make of the bits differs. The comparison is the host's PCMPESTRM, whose
 * immediate must be a constant, or C.
 */
#define STRING_WORDS  0x01u
#define STRING_SIGNED 0x02u
#define STRING_LAST   0x40u /* the last element's index; a mask of lanes instead of bits */
#define STRING_KIND   0x3fu /* what the bits depend on */

enum string_compare {
	STRING_ANY,
	STRING_RANGES,
	STRING_EACH,
	STRING_ORDERED
};

/* Two operands, their lengths (at most the elements that fit), what to do. */
struct strings {
	union soft_xmm a, b;
	unsigned a_len, b_len;
	unsigned imm;
};

static unsigned elements(unsigned imm)
{
	return imm & STRING_WORDS ? 8 : 16;
}

/* ---- The bits, in C -------------------------------------------------------------------------- */

static int element(const union soft_xmm *v, unsigned imm, unsigned n)
{
	switch (imm & (STRING_WORDS | STRING_SIGNED)) {
	case 0:
		return v->u8[n];
	case STRING_WORDS:
		return v->u16[n];
	case STRING_SIGNED:
		return v->s8[n];
	default:
		return v->s16[n];
	}
}

/* Is element at of b one of a's? */
static bool is_any(const struct strings *s, unsigned at)
{
	const int wanted = element(&s->b, s->imm, at);

	for (unsigned n = 0; n < s->a_len; n++)
		if (element(&s->a, s->imm, n) == wanted)
			return true;
	return false;
}

/* Within one of a's ranges? */
static bool is_within(const struct strings *s, unsigned at)
{
	const int wanted = element(&s->b, s->imm, at);

	for (unsigned n = 0; n + 1 < s->a_len; n += 2)
		if (element(&s->a, s->imm, n) <= wanted && wanted <= element(&s->a, s->imm, n + 1))
			return true;
	return false;
}

/* Does a begin there? What reaches beyond the operand's end counts as equal. */
static bool is_begin(const struct strings *s, unsigned at)
{
	for (unsigned n = 0; n < s->a_len && at + n < elements(s->imm); n++)
		if (at + n >= s->b_len ||
		    element(&s->a, s->imm, n) != element(&s->b, s->imm, at + n))
			return false;
	return true;
}

static bool is_equal(const struct strings *s, unsigned at)
{
	if (at >= s->a_len || at >= s->b_len)
		return at >= s->a_len && at >= s->b_len;
	return element(&s->a, s->imm, at) == element(&s->b, s->imm, at);
}

static bool compare_at(const struct strings *s, unsigned at)
{
	switch ((enum string_compare)(s->imm >> 2 & 3)) {
	case STRING_ANY:
		return at < s->b_len && is_any(s, at);
	case STRING_RANGES:
		return at < s->b_len && is_within(s, at);
	case STRING_EACH:
		return is_equal(s, at);
	case STRING_ORDERED:
	default:
		return is_begin(s, at);
	}
}

static uint32_t bits_plain(const struct strings *s)
{
	const uint32_t all = (1u << elements(s->imm)) - 1, valid = (1u << s->b_len) - 1;
	uint32_t bits = 0;

	for (unsigned n = 0; n < elements(s->imm); n++)
		bits |= (uint32_t)compare_at(s, n) << n;
	switch (s->imm >> 4 & 3) {
	case 1:
		return bits ^ all;
	case 3: /* only where b has elements */
		return bits ^ valid;
	default:
		return bits;
	}
}

/* ---- The bits, by the host ------------------------------------------------------------------- */

#define STRING_CASE(n)                                                                             \
	case n:                                                                                    \
		__asm__("pcmpestrm $" #n ", %[b], %[a]"                                            \
			: "=Yz"(mask)                                                              \
			: [a] "x"(a), [b] "x"(b), "a"(s->a_len), "d"(s->b_len)                     \
			: "cc");                                                                   \
		break;
/* The case labels of eight kinds in a row. */
#define STRING_CASES8(h, l)                                                                        \
	STRING_CASE(h##l##0)                                                                       \
	STRING_CASE(h##l##1)                                                                       \
	STRING_CASE(h##l##2)                                                                       \
	STRING_CASE(h##l##3)                                                                       \
	STRING_CASE(h##l##4)                                                                       \
	STRING_CASE(h##l##5)                                                                       \
	STRING_CASE(h##l##6)                                                                       \
	STRING_CASE(h##l##7)

static uint32_t bits_host(const struct strings *s)
{
	__m128i a = _mm_load_si128((const __m128i *)&s->a);
	__m128i b = _mm_load_si128((const __m128i *)&s->b), mask = a;

	switch (s->imm & STRING_KIND) { /* octal: two digits of three bits */
		STRING_CASES8(0, 0)
		STRING_CASES8(0, 1)
		STRING_CASES8(0, 2)
		STRING_CASES8(0, 3)
		STRING_CASES8(0, 4)
		STRING_CASES8(0, 5)
		STRING_CASES8(0, 6)
		STRING_CASES8(0, 7)
	default:
		break;
	}
	return (uint32_t)_mm_cvtsi128_si32(mask);
}

/* ---- Lengths and results --------------------------------------------------------------------- */

/* Up to the first zero. */
static unsigned length_implicit(const union soft_xmm *v, unsigned imm)
{
	__m128i x = _mm_load_si128((const __m128i *)v), zero = _mm_setzero_si128();
	unsigned zeroes = (unsigned)_mm_movemask_epi8(imm & STRING_WORDS ? _mm_cmpeq_epi16(x, zero)
									 : _mm_cmpeq_epi8(x, zero));

	if (!zeroes)
		return elements(imm);
	return (unsigned)__builtin_ctz(zeroes) >> (imm & STRING_WORDS);
}

/* A register's absolute value, as much as fits. */
static unsigned length_explicit(uint64_t reg, bool wide, unsigned imm)
{
	int64_t value = wide ? (int64_t)reg : (int32_t)reg;
	uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;

	return size < elements(imm) ? (unsigned)size : elements(imm);
}

/* Memory operands of these need no alignment. */
static void strings_load(struct soft_cpu *c, const struct insn *i, bool implicit, struct strings *s)
{
	__m128i b = i->flags & INSN_MEM ? sse_load128(c, i, soft_ea(c, i)) : xmm_get(c, i->rm);

	_mm_store_si128((__m128i *)&s->b, b);
	s->a = c->xmm[i->reg];
	s->imm = (uint8_t)i->imm;
	if (implicit) {
		s->a_len = length_implicit(&s->a, s->imm);
		s->b_len = length_implicit(&s->b, s->imm);
	} else {
		s->a_len = length_explicit(c->reg[RAX], i->opsize == 8, s->imm);
		s->b_len = length_explicit(c->reg[RDX], i->opsize == 8, s->imm);
	}
}

static void index_store(struct soft_cpu *c, const struct strings *s, uint32_t bits)
{
	if (!bits)
		c->reg[RCX] = elements(s->imm);
	else if (s->imm & STRING_LAST)
		c->reg[RCX] = 31 - (unsigned)__builtin_clz(bits);
	else
		c->reg[RCX] = (unsigned)__builtin_ctz(bits);
}

static void mask_store(struct soft_cpu *c, const struct strings *s, uint32_t bits)
{
	union soft_xmm out = {{0}};

	if (!(s->imm & STRING_LAST))
		out.u32[0] = bits;
	else
		for (unsigned n = 0; n < elements(s->imm); n++) {
			uint16_t lane = bits >> n & 1 ? UINT16_MAX : 0;

			if (s->imm & STRING_WORDS)
				out.u16[n] = lane;
			else
				out.u8[n] = (uint8_t)lane;
		}
	c->xmm[0] = out;
}

static inline __attribute__((always_inline)) void
string_run(struct soft_cpu *c, const struct insn *i, bool implicit, bool index, bool host)
{
	struct strings s;
	uint32_t bits;

	strings_load(c, i, implicit, &s);
	bits = host ? bits_host(&s) : bits_plain(&s);
	if (index)
		index_store(c, &s, bits);
	else
		mask_store(c, &s, bits);
	soft_flags_set_arith(c, (bits ? FLAG_CF : 0) | (s.b_len < elements(s.imm) ? FLAG_ZF : 0) |
					(s.a_len < elements(s.imm) ? FLAG_SF : 0) |
					(bits & 1 ? FLAG_OF : 0));
}

#define STRING_HANDLER(name, implicit, index, host)                                                \
	static __attribute__((noinline)) void name##_run(struct soft_cpu *c, const struct insn *i) \
	{                                                                                          \
		string_run(c, i, implicit, index, host);                                           \
	}                                                                                          \
	fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                               \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		name##_run(c, i);                                                                  \
		return SOFT_NEXT(c, i);                                                            \
	}
STRING_HANDLER(pcmpestrm, false, false, false)
STRING_HANDLER(pcmpestri, false, true, false)
STRING_HANDLER(pcmpistrm, true, false, false)
STRING_HANDLER(pcmpistri, true, true, false)
STRING_HANDLER(pcmpestrm_host, false, false, true)
STRING_HANDLER(pcmpestri_host, false, true, true)
STRING_HANDLER(pcmpistrm_host, true, false, true)
STRING_HANDLER(pcmpistri_host, true, true, true)

/* AVX's: XMM0 as a result has zeroes above. */
#define AVX_STRING(name, mask)                                                                     \
	AVX_HANDLER(v##name##_128)                                                                 \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		name##_run(c, i);                                                                  \
		if (mask)                                                                          \
			memset(&c->ymm_high[0], 0, sizeof(c->ymm_high[0]));                        \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_STRING(pcmpestrm, true)
AVX_STRING(pcmpestri, false)
AVX_STRING(pcmpistrm, true)
AVX_STRING(pcmpistri, false)
AVX_STRING(pcmpestrm_host, true)
AVX_STRING(pcmpestri_host, false)
AVX_STRING(pcmpistrm_host, true)
AVX_STRING(pcmpistri_host, false)

const struct avx_row *avx_string_row(const struct soft_decode *d, enum fp_prefix prefix)
{
	static const struct avx_row rows[2][4] = {
		{AVX_128_ROW(vpcmpestrm, AVX_NO_V), AVX_128_ROW(vpcmpestri, AVX_NO_V),
		 AVX_128_ROW(vpcmpistrm, AVX_NO_V), AVX_128_ROW(vpcmpistri, AVX_NO_V)},
		{AVX_128_ROW(vpcmpestrm_host, AVX_NO_V), AVX_128_ROW(vpcmpestri_host, AVX_NO_V),
		 AVX_128_ROW(vpcmpistrm_host, AVX_NO_V), AVX_128_ROW(vpcmpistri_host, AVX_NO_V)},
	};
	const bool host = soft_host_features() & CPU_BIT(CPU_SSE42);

	if (d->map != 3 || prefix != FP_66 || d->opcode < 0x60 || d->opcode > 0x63)
		return NULL;
	return &rows[host][d->opcode - 0x60];
}
