/* SPDX-License-Identifier: Apache-2.0 */
/* What the floating-point and SIMD parts share: availability checks, operands, MXCSR, MMX. */
#ifndef VMM_SOFT_SOFT_FP_H
#define VMM_SOFT_SOFT_FP_H

#include <emmintrin.h>

#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_mem.h"
#include "vmm/cpu/soft/soft_parts.h"

#ifndef __x86_64__
#error "the software CPU computes floating point with the host's own x86-64 instructions"
#endif

#define FP_CR0_MP	  0x02u
#define FP_CR0_EM	  0x04u
#define FP_CR0_TS	  0x08u
#define FP_CR0_NE	  0x20u
#define FP_CR4_OSFXSR	  0x200u
#define FP_CR4_OSXMMEXCPT 0x400u
#define FP_CR4_OSXSAVE	  0x40000u

/* MXCSR (SDM 1, 10.2.3). */
#define MXCSR_FLAGS    0x3fu
#define MXCSR_PRE      0x07u /* invalid, denormal, divide by zero: found before computing */
#define MXCSR_MASKS    0x1f80u
#define MXCSR_MASK_UE  0x0800u
#define MXCSR_FTZ      0x8000u
#define MXCSR_RESERVED 0xffff0000u
#define MXCSR_DEFAULT  0x1f80u

/* x87 status and control word (SDM 1, 8.1). */
#define X87_EXCEPTIONS	0x3fu
#define X87_CW_TRUNCATE 0x0c00u
#define X87_SF		0x40u
#define X87_CONDITIONS	0x4700u
#define X87_TAG_EMPTY	0xffffu

/* An 80-bit register as it lies in memory. */
struct soft_f80 {
	uint64_t mantissa;
	uint16_t sign_exponent;
};

typedef const struct insn *fp_next;

/* The mandatory prefix of an SSE opcode: F2/F3 win over 66. Columns of the opcode tables. */
enum fp_prefix {
	FP_NONE,
	FP_66,
	FP_F3,
	FP_F2,
	FP_PREFIXES
};

static inline enum fp_prefix fp_prefix_of(const struct soft_decode *d)
{
	if (d->prefix_rep)
		return d->prefix_rep == 0xf3 ? FP_F3 : FP_F2;
	return d->prefix_66 ? FP_66 : FP_NONE;
}

/* Each looks whether the opcode is its file's and sets out->fn; false: not mine, or #UD. */
bool fp_select_move(struct soft_decode *d);
bool fp_select_shuffle(struct soft_decode *d);
bool fp_select_arith(struct soft_decode *d);
bool fp_select_convert(struct soft_decode *d);
bool fp_select_packed(struct soft_decode *d);
bool fp_select_mmx(struct soft_decode *d);
bool fp_select_x87(struct soft_decode *d);
bool fp_select_x87_control(struct soft_decode *d);
bool fp_select_state(struct soft_decode *d);
bool fp_select_sse3(struct soft_decode *d);
/* Of 0F 38 and 0F 3A. */
bool fp_select_0f38(struct soft_decode *d);
bool fp_select_0f3a(struct soft_decode *d);
bool fp_select_crypto(struct soft_decode *d);

/* MASKMOVQ, MASKMOVDQU: makes DS:rDI (or the prefix's segment) the memory operand of out. */
void fp_maskmov_operand(struct soft_decode *d);

/* Raises the exception that makes SSE, MMX or x87 unavailable (SDM 3A, tables 14-1 and 2-1). */
_Noreturn void fp_sse_unavailable(struct soft_cpu *c, const struct insn *i);
_Noreturn void fp_mmx_unavailable(struct soft_cpu *c, const struct insn *i);

/* SSE needs CR0.EM = 0, CR0.TS = 0 and CR4.OSFXSR = 1. */
static inline void fp_check_sse(struct soft_cpu *c, const struct insn *i)
{
	if (unlikely((c->cr0 & (FP_CR0_EM | FP_CR0_TS)) | (~c->cr4 & FP_CR4_OSFXSR)))
		fp_sse_unavailable(c, i);
}

/* An unmasked x87 exception waits for the next x87 or MMX instruction. Without CR0.NE it would be
 * an interrupt of the PIC, which this machine does not have. */
static inline bool fp_x87_pending(const struct soft_cpu *c)
{
	return (c->x87.sw & ~c->x87.cw & X87_EXCEPTIONS) && (c->cr0 & FP_CR0_NE);
}

static inline void fp_check_mmx(struct soft_cpu *c, const struct insn *i)
{
	if (unlikely((c->cr0 & (FP_CR0_EM | FP_CR0_TS)) || fp_x87_pending(c)))
		fp_mmx_unavailable(c, i);
}

/* ---- XMM registers and operands -------------------------------------------------------------- */

static inline __m128i xmm_get(const struct soft_cpu *c, unsigned n)
{
	return _mm_load_si128((const __m128i *)&c->xmm[n]);
}

static inline void xmm_set(struct soft_cpu *c, unsigned n, __m128i value)
{
	_mm_store_si128((__m128i *)&c->xmm[n], value);
}

/* The linear address of a 16-byte operand that must be aligned. */
static inline uint64_t sse_ea_aligned(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_ea(c, i);

	if (unlikely(linear & 15))
		soft_raise_error(c, i, VEC_GP, 0);
	return linear;
}

/* By any other way than one page that the TLB knows (soft_sse_move.c). */
__m128i sse_load128_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear);
void sse_store128_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, __m128i value);

/* Two host accesses of 8 bytes each. */
static inline __m128i sse_load128(struct soft_cpu *c, const struct insn *i, uint64_t linear)
{
	const uint8_t *host = soft_tlb_host(c->tlb->read, linear, 16);

	if (unlikely(!host))
		return sse_load128_slow(c, i, linear);
	return _mm_set_epi64x((long long)soft_host_load64(host + 8),
			      (long long)soft_host_load64(host));
}

static inline void sse_store128(struct soft_cpu *c, const struct insn *i, uint64_t linear,
				__m128i value)
{
	uint8_t *host = soft_tlb_host(c->tlb->write, linear, 16);

	if (unlikely(!host)) {
		sse_store128_slow(c, i, linear, value);
		return;
	}
	soft_host_store64(host, (uint64_t)_mm_cvtsi128_si64(value));
	soft_host_store64(host + 8, (uint64_t)_mm_cvtsi128_si64(_mm_srli_si128(value, 8)));
}

/* Source operands: a register, or memory of 16 (aligned), 8, 4 bytes zero-extended. */
static inline __m128i sse_src128(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return sse_load128(c, i, sse_ea_aligned(c, i));
	return xmm_get(c, i->rm);
}

static inline __m128i sse_src64(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return _mm_cvtsi64_si128((long long)soft_load64(c, i, soft_ea(c, i)));
	return xmm_get(c, i->rm);
}

static inline __m128i sse_src32(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return _mm_cvtsi32_si128((int)soft_load32(c, i, soft_ea(c, i)));
	return xmm_get(c, i->rm);
}

/* ---- MXCSR ----------------------------------------------------------------------------------- */

/*
 * An operation runs as one asm block: MXCSR_BEGIN loads the guest's MXCSR, all masked and flags
 * clear, MXCSR_END reads the flags; MXCSR_OPERANDS are its memory operands. They lie in the CPU,
 * not on the stack, for handlers must not take the address of a local. mxcsr_enter before,
 * mxcsr_leave after it. Flush-to-zero has no effect while underflow is unmasked.
 */
#define MXCSR_BEGIN	  "ldmxcsr %[run]\n\t"
#define MXCSR_END	  "\n\tstmxcsr %[after]"
#define MXCSR_OUTPUTS(c)  [after] "=m"((c)->mxcsr_after)
#define MXCSR_OPERANDS(c) [run] "m"((c)->mxcsr_run)

static inline void mxcsr_enter(struct soft_cpu *c)
{
	uint32_t run = (c->mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS;

	c->mxcsr_run = likely(c->mxcsr & MXCSR_MASK_UE) ? run : run & ~MXCSR_FTZ;
}

/* An unmasked exception is among flags: sets the flags and raises #XM (#UD without OSXMMEXCPT). */
_Noreturn void mxcsr_raise(struct soft_cpu *c, const struct insn *i, uint32_t flags);

/* What lanes of a result may be tiny. */
enum fp_lanes {
	LANES_NONE, /* cannot underflow */
	LANES_SS,
	LANES_PS,
	LANES_SD,
	LANES_PD
};

/* The underflow flag, or 0. With underflow unmasked a tiny result counts even if exact (SDM 1, 4.9.1.5), and the
 * masked run on the host does not tell: look at the result. */
uint32_t mxcsr_tiny(enum fp_lanes lanes, __m128i result);

/* Gives C code its rounding mode back (its sticky flags do not matter to anyone), then raises what
 * is unmasked, or sets the flags. more: flags that the host did not tell. */
static inline void mxcsr_leave(struct soft_cpu *c, const struct insn *i, uint32_t more)
{
	static const uint32_t host = MXCSR_DEFAULT;
	uint32_t flags = (c->mxcsr_after & MXCSR_FLAGS) | more;

	if (unlikely(c->mxcsr_run != MXCSR_DEFAULT))
		__asm__ volatile("ldmxcsr %0" : : "m"(host));
	if (unlikely(flags & ~(c->mxcsr >> 7)))
		mxcsr_raise(c, i, flags);
	c->mxcsr |= flags;
}

/* ---- MMX: the mantissas of the physical x87 registers ---------------------------------------- */

static inline struct soft_f80 *x87_reg(struct soft_cpu *c, unsigned physical)
{
	return (struct soft_f80 *)&c->x87.st[physical & 7];
}

static inline __m128i mmx_get(struct soft_cpu *c, unsigned n)
{
	return _mm_cvtsi64_si128((long long)x87_reg(c, n)->mantissa);
}

/* Every MMX instruction but EMMS makes all registers valid and TOP zero. */
static inline void mmx_enter(struct soft_cpu *c)
{
	c->x87.top = 0;
	c->x87.tag = 0;
}

static inline void mmx_set(struct soft_cpu *c, unsigned n, uint64_t value)
{
	struct soft_f80 *r = x87_reg(c, n);

	r->mantissa = value;
	r->sign_exponent = 0xffff;
	mmx_enter(c);
}

/* The 64-bit source operand of an MMX instruction, in the low half. */
static inline __m128i mmx_src64(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return _mm_cvtsi64_si128((long long)soft_load64(c, i, soft_ea(c, i)));
	return mmx_get(c, i->rm);
}

/* ---- x87 words (soft_x87_control.c) ---------------------------------------------------------- */

/* The status word as software sees it: TOP, and ES and B computed. */
uint16_t x87_status(const struct soft_cpu *c);
/* Takes a status word apart into sw and top. */
void x87_status_set(struct soft_cpu *c, uint16_t status);
/* The full tag word, contents classified: valid, zero, special, empty. */
uint16_t x87_tags(const struct soft_cpu *c);
/* FLDCW: takes a control word, its reserved bits fixed. */
void x87_control_set(struct soft_cpu *c, uint16_t cw);
/* FNINIT. */
void x87_init(struct soft_cpu *c);

#endif
