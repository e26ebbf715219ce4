/* SPDX-License-Identifier: Apache-2.0 */
/* Moulds of the handlers for SIMD instructions newer than SSE2. */
#ifndef VMM_SOFT_SOFT_SIMD_H
#define VMM_SOFT_SOFT_SIMD_H

#include "vmm/cpu/soft/soft_fp.h"
#include "vmm/cpu/soft/soft_host.h"

/* One of them: the feature it needs of the CPU model, and the handlers. host is NULL where SSE2 does it
 * as well; else it is the handler for hosts that have the feature themselves. */
struct simd_row {
	insn_fn plain, host;
	insn_fn host_reg; /* as host, for register operands alone: the shortest; may be NULL */
	enum cpu_feature feature;
	bool mem_only;
};

/* Gives d the row's handler; false: no such instruction in the model. */
bool simd_row_pick(struct soft_decode *d, const struct simd_row *row);

/* xmm = expr of a (modrm.reg) and b (modrm.rm, or memory by source). */
#define SIMD_PLAIN(name, source, expr)                                                             \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i b = source(c, i), a = xmm_get(c, i->reg);                                  \
		(void)a;                                                                           \
		xmm_set(c, i->reg, expr);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}

/* The same by an instruction that the host must have: asm of the operands a and b. */
#define SIMD_HOST(name, op)                                                                        \
	static fp_next sse_##name##_host(struct soft_cpu *c, const struct insn *i)                 \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);                              \
		__asm__(op " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                              \
		xmm_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}

/* The same of registers alone, which builds no stack frame. */
#define SIMD_HOST_REG(name, op)                                                                    \
	static fp_next sse_##name##_reg(struct soft_cpu *c, const struct insn *i)                  \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i b = xmm_get(c, i->rm), a = xmm_get(c, i->reg);                             \
		__asm__(op " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                              \
		xmm_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}

static inline __m128i sse_src16(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return _mm_cvtsi32_si128(soft_load16(c, i, soft_ea(c, i)));
	return xmm_get(c, i->rm);
}

/* Lanes of b where mask has ones, of a where it has zeroes. */
static inline __m128i simd_select(__m128i mask, __m128i a, __m128i b)
{
	return _mm_or_si128(_mm_and_si128(mask, b), _mm_andnot_si128(mask, a));
}

static inline uint64_t simd_low64(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(v);
}

static inline uint64_t simd_high64(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(_mm_srli_si128(v, 8));
}

#endif
