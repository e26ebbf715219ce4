/* SPDX-License-Identifier: Apache-2.0 */
/* Which file handles a floating-point or SIMD opcode, and the exceptions that all of them raise. */
#include "vmm/cpu/soft/soft_fp.h"

bool soft_select_fp(struct soft_decode *d)
{
	if (d->prefix_lock)
		return false;
	if (d->map == 0)
		return fp_select_x87(d);
	if (d->map == 2)
		return fp_select_0f38(d);
	if (d->map == 3)
		return fp_select_0f3a(d);
	return fp_select_move(d) || fp_select_shuffle(d) || fp_select_arith(d) ||
	       fp_select_convert(d) || fp_select_packed(d) || fp_select_mmx(d) ||
	       fp_select_state(d) || fp_select_sse3(d);
}

void fp_sse_unavailable(struct soft_cpu *c, const struct insn *i)
{
	if ((c->cr0 & FP_CR0_EM) || !(c->cr4 & FP_CR4_OSFXSR))
		soft_raise(c, i, VEC_UD);
	soft_raise(c, i, VEC_NM);
}

void fp_mmx_unavailable(struct soft_cpu *c, const struct insn *i)
{
	if (c->cr0 & FP_CR0_EM)
		soft_raise(c, i, VEC_UD);
	if (c->cr0 & FP_CR0_TS)
		soft_raise(c, i, VEC_NM);
	soft_raise(c, i, VEC_MF);
}

/*
 * SDM 1, 11.5.3: an unmasked exception found before computing (invalid, denormal, divide by zero)
 * keeps the operation from being carried out, so that overflow, underflow and precision are not
 * reported.
 */
void mxcsr_raise(struct soft_cpu *c, const struct insn *i, uint32_t flags)
{
	if (flags & ~(c->mxcsr >> 7) & MXCSR_PRE)
		flags &= MXCSR_PRE;
	c->mxcsr |= flags;
	soft_raise(c, i, c->cr4 & FP_CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}
