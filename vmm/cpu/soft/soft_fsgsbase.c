/* SPDX-License-Identifier: Apache-2.0 */
/* The bases of FS and GS, read and written by programs: FSGSBASE. */
#include "vmm/cpu/soft/soft_system.h"

/* The operating system allows it by CR4. */
static inline void fsgsbase_check(struct soft_cpu *c, const struct insn *i)
{
	if (!(c->cr4 & CR4_FSGSBASE))
		soft_raise(c, i, VEC_UD);
}

static const struct insn *base_read(struct soft_cpu *c, const struct insn *i, unsigned seg)
{
	fsgsbase_check(c, i);
	c->reg[i->rm] = i->opsize == 8 ? c->seg[seg].base : (uint32_t)c->seg[seg].base;
	return SOFT_NEXT(c, i);
}

static const struct insn *base_write(struct soft_cpu *c, const struct insn *i, unsigned seg)
{
	uint64_t base = i->opsize == 8 ? c->reg[i->rm] : (uint32_t)c->reg[i->rm];

	fsgsbase_check(c, i);
	if (!soft_canonical(base))
		soft_raise_error(c, i, VEC_GP, 0);
	c->seg[seg].base = base;
	return SOFT_NEXT(c, i);
}

static const struct insn *op_rdfsbase(struct soft_cpu *c, const struct insn *i)
{
	return base_read(c, i, SEG_FS);
}

static const struct insn *op_rdgsbase(struct soft_cpu *c, const struct insn *i)
{
	return base_read(c, i, SEG_GS);
}

static const struct insn *op_wrfsbase(struct soft_cpu *c, const struct insn *i)
{
	return base_write(c, i, SEG_FS);
}

static const struct insn *op_wrgsbase(struct soft_cpu *c, const struct insn *i)
{
	return base_write(c, i, SEG_GS);
}

bool soft_select_fsgsbase(struct soft_decode *d)
{
	static const insn_fn fns[4] = {op_rdfsbase, op_rdgsbase, op_wrfsbase, op_wrgsbase};

	if (d->mode != 64 || d->reg3 > 3 || !soft_decode_has(d, CPU_FSGSBASE))
		return false;
	d->out->fn = fns[d->reg3];
	return true;
}
