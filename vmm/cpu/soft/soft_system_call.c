/* SPDX-License-Identifier: Apache-2.0 */
/* SYSCALL, SYSRET, SYSENTER, SYSEXIT: privilege changes between flat segments (SDM 2B). */
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_system.h"

/* Flat segments: 64-bit or 32-bit code, and data, of privilege 0. */
#define FLAT_CODE64 0xa9bu
#define FLAT_CODE32 0xc9bu
#define FLAT_DATA   0xc93u

static void enter_flat(struct soft_cpu *c, uint16_t code, uint16_t stack, uint16_t code_attr,
		       unsigned cpl)
{
	uint16_t dpl = cpl << ATTR_DPL_SHIFT;
	struct vcpu_segment cs;

	soft_segment_flat(&cs, (code & ~3u) | cpl, code_attr | dpl);
	soft_segment_flat(&c->seg[SEG_SS], (stack & ~3u) | cpl, FLAT_DATA | dpl);
	soft_code_commit(c, &cs, cpl);
}

/* 64-bit code has SYSCALL and SYSRET; with AMD's processors compatibility mode has SYSCALL too. */
static void require_syscall(struct soft_cpu *c, const struct insn *i, bool compat)
{
	bool there = c->mode == 64 || (compat && c->amd && soft_long_mode(c));

	if (!there || !(c->efer & EFER_SCE))
		soft_raise(c, i, VEC_UD);
}

/* AMD's processors have no SYSENTER and SYSEXIT in long mode. */
static void require_sysenter(struct soft_cpu *c, const struct insn *i)
{
	if (c->amd && soft_long_mode(c))
		soft_raise(c, i, VEC_UD);
}

static const struct insn *op_syscall(struct soft_cpu *c, const struct insn *i)
{
	uint64_t rflags = soft_flags_get(c) & ~(uint64_t)FLAG_RF;
	uint16_t code = (uint16_t)(c->star >> 32);
	uint64_t target = c->mode == 64 ? c->lstar : c->cstar;

	require_syscall(c, i, true);
	c->reg[RCX] = soft_next_rip(c, i);
	c->reg[R11] = rflags;
	enter_flat(c, code, code + 8, FLAT_CODE64, 0);
	c->seg[SEG_SS].selector = code + 8; /* as STAR has it, RPL too */
	rflags &= ~c->sfmask;
	soft_flags_set(c, rflags);
	if (c->cr4 & CR4_SMAP)
		soft_tlb_select(c); /* AC may have changed */
	if (!(rflags & FLAG_TF))
		c->leave |= LEAVE_NO_TRAP;
	return SOFT_LEAVE(c, target);
}

static const struct insn *op_sysret(struct soft_cpu *c, const struct insn *i)
{
	uint16_t base = (uint16_t)(c->star >> 48);
	uint64_t rip = c->reg[RCX];

	require_syscall(c, i, false);
	soft_require_cpl0(c, i);
	if (i->opsize == 8) {
		if (!soft_canonical(rip))
			soft_raise_error(c, i, VEC_GP, 0);
		enter_flat(c, base + 16, base + 8, FLAT_CODE64, 3);
	} else {
		rip = (uint32_t)rip;
		enter_flat(c, base, base + 8, FLAT_CODE32, 3);
	}
	soft_rflags_load(c, c->reg[R11], 0x3c7fd7);
	return SOFT_LEAVE(c, rip);
}

static const struct insn *op_sysenter(struct soft_cpu *c, const struct insn *i)
{
	uint16_t code = (uint16_t)c->sysenter_cs;
	bool wide = soft_long_mode(c);

	require_sysenter(c, i);
	if (!soft_protected(c) || !(code & ~3u))
		soft_raise_error(c, i, VEC_GP, 0);
	c->rflags &= ~(uint64_t)(FLAG_IF | FLAG_VM | FLAG_RF);
	enter_flat(c, code, code + 8, wide ? FLAT_CODE64 : FLAT_CODE32, 0);
	c->reg[RSP] = wide ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
	return SOFT_LEAVE(c, wide ? c->sysenter_eip : (uint32_t)c->sysenter_eip);
}

static const struct insn *op_sysexit(struct soft_cpu *c, const struct insn *i)
{
	uint16_t base = (uint16_t)c->sysenter_cs;
	uint64_t rip = c->reg[RDX], rsp = c->reg[RCX];
	bool wide = i->opsize == 8;

	require_sysenter(c, i);
	if (!soft_protected(c) || !(base & ~3u))
		soft_raise_error(c, i, VEC_GP, 0);
	soft_require_cpl0(c, i);
	if (wide && !(soft_canonical(rip) && soft_canonical(rsp)))
		soft_raise_error(c, i, VEC_GP, 0);
	if (wide)
		enter_flat(c, base + 32, base + 40, FLAT_CODE64, 3);
	else
		enter_flat(c, base + 16, base + 24, FLAT_CODE32, 3);
	c->reg[RSP] = wide ? rsp : (uint32_t)rsp;
	return SOFT_LEAVE(c, wide ? rip : (uint32_t)rip);
}

insn_fn soft_select_syscall(struct soft_decode *d)
{
	d->end_block = true;
	d->out->opsize = soft_operand_size(d);
	switch (d->opcode) {
	case 0x05:
		return op_syscall;
	case 0x07:
		return op_sysret;
	case 0x34:
		return op_sysenter;
	default:
		return op_sysexit;
	}
}
