/* SPDX-License-Identifier: Apache-2.0 */
/* SSE and SSE2 moves: whole, half, scalar, to and from general and MMX registers, masked. */
#include "vmm/cpu/soft/soft_fp.h"

static inline uint64_t low64(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(v);
}

__m128i sse_load128_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear)
{
	__m128i value;

	soft_load_bytes_slow(c, i, linear, &value, 16);
	return value;
}

void sse_store128_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, __m128i value)
{
	soft_store_bytes_slow(c, i, linear, &value, 16);
}

/* MOVUPS, MOVUPD, MOVDQU: any alignment. */
static fp_next sse_movu_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	xmm_set(c, i->reg,
		i->flags & INSN_MEM ? sse_load128(c, i, soft_ea(c, i)) : xmm_get(c, i->rm));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movu_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		sse_store128(c, i, soft_ea(c, i), xmm_get(c, i->reg));
	else
		xmm_set(c, i->rm, xmm_get(c, i->reg));
	return SOFT_NEXT(c, i);
}

/* MOVAPS, MOVAPD, MOVDQA: aligned. */
static fp_next sse_mova_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	xmm_set(c, i->reg, sse_src128(c, i));
	return SOFT_NEXT(c, i);
}

/* Also MOVNTPS, MOVNTPD, MOVNTDQ. */
static fp_next sse_mova_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		sse_store128(c, i, sse_ea_aligned(c, i), xmm_get(c, i->reg));
	else
		xmm_set(c, i->rm, xmm_get(c, i->reg));
	return SOFT_NEXT(c, i);
}

/* Scalars: memory zeroes the rest of the register, a register leaves it. */
static fp_next sse_movss_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		xmm_set(c, i->reg, sse_src32(c, i));
	else
		c->xmm[i->reg].u32[0] = c->xmm[i->rm].u32[0];
	return SOFT_NEXT(c, i);
}

static fp_next sse_movss_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		soft_store32(c, i, soft_ea(c, i), c->xmm[i->reg].u32[0]);
	else
		c->xmm[i->rm].u32[0] = c->xmm[i->reg].u32[0];
	return SOFT_NEXT(c, i);
}

static fp_next sse_movsd_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		xmm_set(c, i->reg, sse_src64(c, i));
	else
		c->xmm[i->reg].u64[0] = c->xmm[i->rm].u64[0];
	return SOFT_NEXT(c, i);
}

static fp_next sse_movsd_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[0]);
	else
		c->xmm[i->rm].u64[0] = c->xmm[i->reg].u64[0];
	return SOFT_NEXT(c, i);
}

/* Halves. MOVLPS/MOVLPD, MOVHPS/MOVHPD with memory; MOVHLPS, MOVLHPS between registers. */
static fp_next sse_movlp_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->xmm[i->reg].u64[0] = soft_load64(c, i, soft_ea(c, i));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movhp_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->xmm[i->reg].u64[1] = soft_load64(c, i, soft_ea(c, i));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movhp_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[1]);
	return SOFT_NEXT(c, i);
}

static fp_next sse_movhlps(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->xmm[i->reg].u64[0] = c->xmm[i->rm].u64[1];
	return SOFT_NEXT(c, i);
}

static fp_next sse_movlhps(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->xmm[i->reg].u64[1] = c->xmm[i->rm].u64[0];
	return SOFT_NEXT(c, i);
}

/* MOVQ xmm, xmm/m64 and back: the upper half of a register becomes zero. */
static fp_next sse_movq_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	xmm_set(c, i->reg, _mm_move_epi64(sse_src64(c, i)));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movq_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[0]);
	else
		xmm_set(c, i->rm, _mm_move_epi64(xmm_get(c, i->reg)));
	return SOFT_NEXT(c, i);
}

/* MOVD and MOVQ with a general register or memory. */
static fp_next sse_movd_load(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	uint32_t v =
		i->flags & INSN_MEM ? soft_load32(c, i, soft_ea(c, i)) : (uint32_t)c->reg[i->rm];
	xmm_set(c, i->reg, _mm_cvtsi32_si128((int)v));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movq_load_general(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	uint64_t v = i->flags & INSN_MEM ? soft_load64(c, i, soft_ea(c, i)) : c->reg[i->rm];
	xmm_set(c, i->reg, _mm_cvtsi64_si128((long long)v));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movd_store(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		soft_store32(c, i, soft_ea(c, i), c->xmm[i->reg].u32[0]);
	else
		c->reg[i->rm] = c->xmm[i->reg].u32[0];
	return SOFT_NEXT(c, i);
}

static fp_next sse_movq_store_general(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	if (i->flags & INSN_MEM)
		soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[0]);
	else
		c->reg[i->rm] = c->xmm[i->reg].u64[0];
	return SOFT_NEXT(c, i);
}

/* MOVNTI is a plain store, and needs neither SSE nor MMX state. */
static fp_next sse_movnti32(struct soft_cpu *c, const struct insn *i)
{
	soft_store32(c, i, soft_ea(c, i), (uint32_t)c->reg[i->reg]);
	return SOFT_NEXT(c, i);
}

static fp_next sse_movnti64(struct soft_cpu *c, const struct insn *i)
{
	soft_store64(c, i, soft_ea(c, i), c->reg[i->reg]);
	return SOFT_NEXT(c, i);
}

/* MOVQ2DQ, MOVDQ2Q: MMX state is entered, so its checks hold as well. */
static fp_next sse_movq2dq(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	fp_check_mmx(c, i);
	xmm_set(c, i->reg, mmx_get(c, i->rm));
	mmx_enter(c);
	return SOFT_NEXT(c, i);
}

static fp_next sse_movdq2q(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	fp_check_mmx(c, i);
	mmx_set(c, i->reg & 7, low64(xmm_get(c, i->rm)));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movmskps(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->reg[i->reg] = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(xmm_get(c, i->rm)));
	return SOFT_NEXT(c, i);
}

static fp_next sse_movmskpd(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->reg[i->reg] = (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(xmm_get(c, i->rm)));
	return SOFT_NEXT(c, i);
}

static fp_next sse_pmovmskb(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	c->reg[i->reg] = (uint32_t)_mm_movemask_epi8(xmm_get(c, i->rm));
	return SOFT_NEXT(c, i);
}

/* MASKMOVDQU: only the bytes whose mask bit is set are touched, and all are checked first. */
static fp_next sse_maskmovdqu(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	unsigned mask = (unsigned)_mm_movemask_epi8(xmm_get(c, i->rm));
	uint64_t linear = soft_ea(c, i);

	for (unsigned n = 0; n < 16; n++)
		if (mask >> n & 1)
			soft_probe(c, i, linear + n, 1, true);
	for (unsigned n = 0; n < 16; n++)
		if (mask >> n & 1)
			soft_store8(c, i, linear + n, c->xmm[i->reg].u8[n]);
	return SOFT_NEXT(c, i);
}

/* By mandatory prefix: the handlers for a register and for a memory operand; NULL: #UD. */
struct move_form {
	insn_fn reg, mem;
};
#define BOTH(fn) {fn, fn}
#define MEM(fn)	 {NULL, fn}
#define REG(fn)	 {fn, NULL}

static const struct move_form move_table[256][FP_PREFIXES] = {
	[0x10] = {BOTH(sse_movu_load), BOTH(sse_movu_load), BOTH(sse_movss_load),
		  BOTH(sse_movsd_load)},
	[0x11] = {BOTH(sse_movu_store), BOTH(sse_movu_store), BOTH(sse_movss_store),
		  BOTH(sse_movsd_store)},
	[0x12] = {{sse_movhlps, sse_movlp_load}, MEM(sse_movlp_load)},
	[0x13] = {MEM(sse_movq_store), MEM(sse_movq_store)},
	[0x16] = {{sse_movlhps, sse_movhp_load}, MEM(sse_movhp_load)},
	[0x17] = {MEM(sse_movhp_store), MEM(sse_movhp_store)},
	[0x28] = {BOTH(sse_mova_load), BOTH(sse_mova_load)},
	[0x29] = {BOTH(sse_mova_store), BOTH(sse_mova_store)},
	[0x2b] = {MEM(sse_mova_store), MEM(sse_mova_store)},
	[0x50] = {REG(sse_movmskps), REG(sse_movmskpd)},
	[0x6e] = {[FP_66] = BOTH(sse_movd_load)},
	[0x6f] = {[FP_66] = BOTH(sse_mova_load), [FP_F3] = BOTH(sse_movu_load)},
	[0x7e] = {[FP_66] = BOTH(sse_movd_store), [FP_F3] = BOTH(sse_movq_load)},
	[0x7f] = {[FP_66] = BOTH(sse_mova_store), [FP_F3] = BOTH(sse_movu_store)},
	[0xc3] = {MEM(sse_movnti32)},
	[0xd6] = {[FP_66] = BOTH(sse_movq_store),
		  [FP_F3] = REG(sse_movq2dq),
		  [FP_F2] = REG(sse_movdq2q)},
	[0xd7] = {[FP_66] = REG(sse_pmovmskb)},
	[0xe7] = {[FP_66] = MEM(sse_mova_store)},
	[0xf7] = {[FP_66] = REG(sse_maskmovdqu)},
};

/* REX.W makes the general operand of MOVD and MOVNTI 64 bits wide. */
static insn_fn move_widen(insn_fn fn)
{
	if (fn == sse_movd_load)
		return sse_movq_load_general;
	if (fn == sse_movd_store)
		return sse_movq_store_general;
	return fn == sse_movnti32 ? sse_movnti64 : fn;
}

void fp_maskmov_operand(struct soft_decode *d)
{
	struct insn *out = d->out;

	out->base = RDI;
	out->index = REG_ZERO;
	out->scale = 0;
	out->disp = 0;
	/* The decoder knew no memory operand: whether the address is a plain one is settled here.
	 */
	if (d->mode != 64 || out->adsize != 8 || out->seg >= SEG_FS)
		out->flags |= INSN_EA_SLOW;
}

bool fp_select_move(struct soft_decode *d)
{
	const struct move_form *form = &move_table[d->opcode][fp_prefix_of(d)];
	insn_fn fn = d->mod == 3 ? form->reg : form->mem;

	if (!fn)
		return false;
	if (d->opcode == 0xf7)
		fp_maskmov_operand(d);
	d->out->fn = d->rex & 8 ? move_widen(fn) : fn;
	return true;
}
