/* SPDX-License-Identifier: Apache-2.0 */
/* AVX's registers and operands, the moulds of its handlers, and the rows of its tables. */
#ifndef VMM_SOFT_SOFT_AVX_H
#define VMM_SOFT_SOFT_AVX_H

#include "vmm/cpu/soft/soft_simd.h"

/* ---- Availability and registers -------------------------------------------------------------- */

#define XCR0_SSE_AVX 6u

_Noreturn void avx_unavailable(struct soft_cpu *c, const struct insn *i);

/* VEX-coded SIMD needs CR4.OSXSAVE, XCR0's SSE and AVX, and CR0.TS = 0 (SDM 2A, 2.4); not CR0.EM nor OSFXSR. */
static inline void avx_check(struct soft_cpu *c, const struct insn *i)
{
	if (unlikely((~c->cr4 & FP_CR4_OSXSAVE) | (~c->xcr0 & XCR0_SSE_AVX) | (c->cr0 & FP_CR0_TS)))
		avx_unavailable(c, i);
}

struct simd_ymm {
	__m128i low, high;
};

/* The register vvvv. */
static inline unsigned avx_v(const struct insn *i)
{
	return i->opcode;
}

static inline __m128i ymm_high(const struct soft_cpu *c, unsigned n)
{
	return _mm_load_si128((const __m128i *)&c->ymm_high[n]);
}

static inline struct simd_ymm ymm_get(const struct soft_cpu *c, unsigned n)
{
	return (struct simd_ymm){xmm_get(c, n), ymm_high(c, n)};
}

static inline void ymm_set(struct soft_cpu *c, unsigned n, __m128i low, __m128i high)
{
	xmm_set(c, n, low);
	_mm_store_si128((__m128i *)&c->ymm_high[n], high);
}

/* What writes 128 bits or fewer clears the rest. */
static inline void avx_set(struct soft_cpu *c, unsigned n, __m128i low)
{
	ymm_set(c, n, low, _mm_setzero_si128());
}

/* ---- Operands in memory: no alignment is asked of them --------------------------------------- */

struct simd_ymm avx_load256_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear);
void avx_store256_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, __m128i low,
		       __m128i high);

static inline struct simd_ymm avx_load256(struct soft_cpu *c, const struct insn *i, uint64_t linear)
{
	const uint8_t *host = soft_tlb_host(c->tlb->read, linear, 32);

	if (unlikely(!host))
		return avx_load256_slow(c, i, linear);
	return (struct simd_ymm){_mm_set_epi64x((long long)soft_host_load64(host + 8),
						(long long)soft_host_load64(host)),
				 _mm_set_epi64x((long long)soft_host_load64(host + 24),
						(long long)soft_host_load64(host + 16))};
}

static inline void avx_store256(struct soft_cpu *c, const struct insn *i, uint64_t linear,
				__m128i low, __m128i high)
{
	uint8_t *host = soft_tlb_host(c->tlb->write, linear, 32);

	if (unlikely(!host)) {
		avx_store256_slow(c, i, linear, low, high);
		return;
	}
	soft_host_store64(host, simd_low64(low));
	soft_host_store64(host + 8, simd_high64(low));
	soft_host_store64(host + 16, simd_low64(high));
	soft_host_store64(host + 24, simd_high64(high));
}

static inline __m128i avx_src128(struct soft_cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? sse_load128(c, i, soft_ea(c, i)) : xmm_get(c, i->rm);
}

static inline struct simd_ymm avx_src256(struct soft_cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? avx_load256(c, i, soft_ea(c, i)) : ymm_get(c, i->rm);
}

/* ---- Moulds ---------------------------------------------------------------------------------- */

#define AVX_HANDLER(name) static fp_next avx_##name(struct soft_cpu *c, const struct insn *i)

/* 128 bits: expr of a (vvvv) and b (r/m, by source). */
#define AVX_128(name, source, expr)                                                                \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = source(c, i), a = xmm_get(c, avx_v(i));                                \
		(void)a;                                                                           \
		avx_set(c, i->reg, expr);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}

/* 256 bits: the expression for each half; high says which. */
#define AVX_256(name, expr)                                                                        \
	static inline __m128i avx_##name##_half(struct soft_cpu *c, const struct insn *i,          \
						__m128i a, __m128i b, bool high)                   \
	{                                                                                          \
		(void)c;                                                                           \
		(void)i;                                                                           \
		(void)a;                                                                           \
		(void)high;                                                                        \
		return expr;                                                                       \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, avx_v(i));                    \
		__m128i low = avx_##name##_half(c, i, a.low, b.low, false);                        \
		__m128i top = avx_##name##_half(c, i, a.high, b.high, true);                       \
		ymm_set(c, i->reg, low, top);                                                      \
		return SOFT_NEXT(c, i);                                                            \
	}

#define AVX_BOTH(name, expr) AVX_128(name, avx_src128, expr) AVX_256(name, expr)

/* ---- Tables ---------------------------------------------------------------------------------- */

/* row.flags */
#define AVX_NO_V     0x01u /* vvvv names nothing and must be 1111b */
#define AVX_MEM	     0x02u /* only with a memory operand */
#define AVX_REG	     0x04u /* only with registers */
#define AVX_MEM_NO_V 0x08u /* with a memory operand vvvv must be 1111b */
#define AVX_W0	     0x10u
#define AVX_W1	     0x20u
#define AVX_ANY_L    0x40u /* scalars: the vector length means nothing */

struct avx_row {
	insn_fn fn[2];		     /* by vector length: 128, 256 bits; NULL: #UD */
	enum cpu_feature feature[2]; /* which of the model each needs */
	uint8_t flags;
};

/* The same handler names with _128 and _256; floating point, and integers, whose wide forms are AVX2's. */
#define AVX_FP_ROW(name, ...)                                                                      \
	{{avx_##name##_128, avx_##name##_256}, {CPU_AVX, CPU_AVX}, __VA_ARGS__}
#define AVX_INT_ROW(name, ...)                                                                     \
	{{avx_##name##_128, avx_##name##_256}, {CPU_AVX, CPU_AVX2}, __VA_ARGS__}
#define AVX_128_ROW(name, ...) {{avx_##name##_128, NULL}, {CPU_AVX, CPU_AVX}, __VA_ARGS__}
#define AVX_SCALAR_ROW(name, ...)                                                                  \
	{{avx_##name, avx_##name}, {CPU_AVX, CPU_AVX}, AVX_ANY_L | (__VA_ARGS__)}

/* Each file's rows for an opcode under its mandatory prefix; NULL: none of its own. */
const struct avx_row *avx_move_row(const struct soft_decode *d, enum fp_prefix prefix);
const struct avx_row *avx_int_row(const struct soft_decode *d, enum fp_prefix prefix);
const struct avx_row *avx_fp_row(const struct soft_decode *d, enum fp_prefix prefix);
const struct avx_row *avx_lane_row(const struct soft_decode *d, enum fp_prefix prefix);
const struct avx_row *avx_string_row(const struct soft_decode *d, enum fp_prefix prefix);
const struct avx_row *avx_fma_row(const struct soft_decode *d, enum fp_prefix prefix);

#endif
