/* SPDX-License-Identifier: Apache-2.0 */
/* Far jumps, calls and returns, INT n and IRET (SDM 2A, and 3A chapters 5 and 6). */
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_system.h"

/*
 * Not modelled, each answered by #GP as if the descriptor were of a wrong type: call gates, task
 * gates and task switches (also by IRET with NT), and virtual-8086 mode (IRET to it).
 */

/* ---- JMP and CALL ---------------------------------------------------------------------------- */

/* The code segment of a far transfer that does not change the privilege. */
static void far_code(struct soft_cpu *c, const struct insn *i, uint16_t selector,
		     struct vcpu_segment *cs)
{
	uint32_t error = selector & ~3u;
	unsigned dpl;
	uint64_t raw;

	if (!error || !soft_descriptor_read(c, i, selector, &raw))
		soft_raise_error(c, i, VEC_GP, error);
	soft_segment_fill(cs, error | c->cpl, raw);
	dpl = cs->attr >> ATTR_DPL_SHIFT & 3;
	if ((cs->attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE))
		soft_raise_error(c, i, VEC_GP, error);
	if (cs->attr & ATTR_CONFORMING ? dpl > c->cpl : dpl != c->cpl || (selector & 3) > c->cpl)
		soft_raise_error(c, i, VEC_GP, error);
	if (!(cs->attr & ATTR_P))
		soft_raise_error(c, i, VEC_NP, error);
	if (soft_long_mode(c) && (cs->attr & (ATTR_L | ATTR_DB)) == (ATTR_L | ATTR_DB))
		soft_raise_error(c, i, VEC_GP, error);
	soft_descriptor_access(c, i, selector, &raw);
	cs->attr |= ATTR_ACCESSED;
}

/* The target must be canonical in 64-bit code, within the limit elsewhere. */
static uint64_t far_target(struct soft_cpu *c, const struct insn *i, const struct vcpu_segment *cs,
			   uint64_t offset)
{
	if (soft_long_mode(c) && (cs->attr & ATTR_L)) {
		if (!soft_canonical(offset))
			soft_raise_error(c, i, VEC_GP, 0);
		return offset;
	}
	if (offset > cs->limit)
		soft_raise_error(c, i, VEC_GP, 0);
	return offset;
}

static void far_real_code(const struct soft_cpu *c, uint16_t selector, struct vcpu_segment *cs)
{
	*cs = c->seg[SEG_CS];
	cs->selector = selector;
	cs->base = (uint32_t)selector << 4;
	cs->attr = ATTR_P | ATTR_S | ATTR_CODE | ATTR_WRITABLE | ATTR_ACCESSED;
}

static const struct insn *far_transfer(struct soft_cpu *c, const struct insn *i, uint16_t selector,
				       uint64_t offset, bool call)
{
	struct soft_stack s = soft_stack_current(c, i->opsize);
	struct vcpu_segment cs;

	if (soft_protected(c))
		far_code(c, i, selector, &cs);
	else
		far_real_code(c, selector, &cs);
	offset = far_target(c, i, &cs, offset);
	if (call) {
		soft_stack_push(c, i, &s, c->seg[SEG_CS].selector);
		soft_stack_push(c, i, &s, soft_next_rip(c, i));
		soft_stack_set(c, s.sp);
	}
	soft_code_commit(c, &cs, c->cpl);
	return SOFT_LEAVE(c, offset);
}

/* 9A and EA: imm is the offset, disp the selector. */
static uint16_t imm_selector(const struct insn *i)
{
	return (uint16_t)i->disp;
}

static uint64_t imm_offset(const struct insn *i)
{
	return i->opsize == 2 ? (uint16_t)i->imm : (uint32_t)i->imm;
}

static const struct insn *op_jmp_far_imm(struct soft_cpu *c, const struct insn *i)
{
	return far_transfer(c, i, imm_selector(i), imm_offset(i), false);
}

static const struct insn *op_call_far_imm(struct soft_cpu *c, const struct insn *i)
{
	return far_transfer(c, i, imm_selector(i), imm_offset(i), true);
}

static const struct insn *far_transfer_mem(struct soft_cpu *c, const struct insn *i, bool call)
{
	uint64_t linear = soft_ea(c, i);
	uint64_t offset = soft_load(c, i, linear, i->opsize);
	uint16_t selector = soft_load16(c, i, linear + i->opsize);

	return far_transfer(c, i, selector, offset, call);
}

static const struct insn *op_jmp_far_mem(struct soft_cpu *c, const struct insn *i)
{
	return far_transfer_mem(c, i, false);
}

static const struct insn *op_call_far_mem(struct soft_cpu *c, const struct insn *i)
{
	return far_transfer_mem(c, i, true);
}

/* ---- Returns --------------------------------------------------------------------------------- */

/* The code segment that RETF or IRET goes back to; its RPL is the new CPL. */
static void return_code(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			struct vcpu_segment *cs)
{
	uint32_t error = selector & ~3u;
	unsigned dpl, cpl = selector & 3;
	uint64_t raw;

	if (!error || !soft_descriptor_read(c, i, selector, &raw))
		soft_raise_error(c, i, VEC_GP, error);
	soft_segment_fill(cs, selector, raw);
	dpl = cs->attr >> ATTR_DPL_SHIFT & 3;
	if ((cs->attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) || cpl < c->cpl ||
	    (cs->attr & ATTR_CONFORMING ? dpl > cpl : dpl != cpl))
		soft_raise_error(c, i, VEC_GP, error);
	if (soft_long_mode(c) && (cs->attr & (ATTR_L | ATTR_DB)) == (ATTR_L | ATTR_DB))
		soft_raise_error(c, i, VEC_GP, error);
	if (!(cs->attr & ATTR_P))
		soft_raise_error(c, i, VEC_NP, error);
	soft_descriptor_access(c, i, selector, &raw);
	cs->attr |= ATTR_ACCESSED;
}

/* SS of a return: a null selector is for 64-bit code inside the kernel only. */
static void return_stack(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			 const struct vcpu_segment *cs, struct vcpu_segment *ss)
{
	unsigned cpl = cs->selector & 3;

	if (!(selector & ~3u)) {
		if (!soft_long_mode(c) || !(cs->attr & ATTR_L) || cpl == 3 || (selector & 3) != cpl)
			soft_raise_error(c, i, VEC_GP, 0);
		*ss = (struct vcpu_segment){.selector = selector, .attr = cpl << ATTR_DPL_SHIFT};
		return;
	}
	soft_segment_stack(c, i, selector, cpl, VEC_GP, ss);
}

/* Data segments that the outer privilege may not have become null. */
static void return_drop_segments(struct soft_cpu *c)
{
	static const uint8_t segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned n = 0; n < sizeof(segs); n++) {
		struct vcpu_segment *s = &c->seg[segs[n]];
		bool conforming =
			(s->attr & (ATTR_CODE | ATTR_CONFORMING)) == (ATTR_CODE | ATTR_CONFORMING);

		if ((s->attr >> ATTR_DPL_SHIFT & 3u) < c->cpl && !conforming) {
			uint64_t base = segs[n] >= SEG_FS ? s->base : 0;

			*s = (struct vcpu_segment){.base = base};
		}
	}
	soft_check_segments(c);
}

/* What a return pops, and the register file it leads to. */
struct far_return {
	struct soft_stack stack;
	struct vcpu_segment cs, ss;
	uint64_t rip, rsp;
	bool outer, with_stack;
};

static void return_commit(struct soft_cpu *c, const struct far_return *r, uint64_t release)
{
	unsigned cpl = soft_protected(c) ? r->cs.selector & 3 : 0;

	if (r->with_stack) {
		c->seg[SEG_SS] = r->ss;
		soft_code_commit(c, &r->cs, cpl);
		soft_stack_set(c, r->rsp + release);
	} else {
		soft_stack_set(c, r->stack.sp + release);
		soft_code_commit(c, &r->cs, cpl);
	}
	if (r->outer)
		return_drop_segments(c);
}

static const struct insn *op_retf(struct soft_cpu *c, const struct insn *i)
{
	struct far_return r = {.stack = soft_stack_current(c, i->opsize)};
	uint16_t release = (i->opcode & 1) ? 0 : (uint16_t)i->imm, selector;

	r.rip = soft_stack_pop(c, i, &r.stack);
	selector = (uint16_t)soft_stack_pop(c, i, &r.stack);
	if (!soft_protected(c)) {
		far_real_code(c, selector, &r.cs);
		r.rip = far_target(c, i, &r.cs, r.rip);
		return_commit(c, &r, release);
		return SOFT_LEAVE(c, r.rip);
	}
	return_code(c, i, selector, &r.cs);
	r.outer = r.with_stack = (selector & 3) > c->cpl;
	if (r.outer) {
		r.stack.sp += release;
		r.rsp = soft_stack_pop(c, i, &r.stack);
		return_stack(c, i, (uint16_t)soft_stack_pop(c, i, &r.stack), &r.cs, &r.ss);
	}
	r.rip = far_target(c, i, &r.cs, r.rip);
	return_commit(c, &r, release);
	return SOFT_LEAVE(c, r.rip);
}

/* The flags that IRET may change, by the privilege it is executed with. */
static uint64_t iret_flags_mask(const struct soft_cpu *c, const struct insn *i)
{
	uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;

	if (i->opsize > 2)
		mask |= FLAG_AC | FLAG_ID | FLAG_RF;
	if (c->cpl <= (c->rflags & FLAG_IOPL) >> 12)
		mask |= FLAG_IF;
	if (c->cpl == 0)
		mask |= i->opsize > 2 ? FLAG_IOPL | FLAG_VIF | FLAG_VIP : FLAG_IOPL;
	return mask;
}

static const struct insn *iret_finish(struct soft_cpu *c, const struct insn *i,
				      const struct far_return *r, uint64_t rflags)
{
	uint64_t mask = iret_flags_mask(c, i);

	return_commit(c, r, 0);
	soft_rflags_load(c, rflags, mask);
	return SOFT_LEAVE(c, r->rip);
}

static const struct insn *op_iret(struct soft_cpu *c, const struct insn *i)
{
	struct far_return r = {.stack = soft_stack_current(c, i->opsize)};
	uint16_t selector;
	uint64_t rflags;

	c->nmi_blocked = 0;
	if (c->nmi_pending)
		c->leave |= LEAVE_LOOK;
	if (soft_protected(c) && (c->rflags & FLAG_NT))
		soft_raise_error(c, i, VEC_GP, 0);
	r.rip = soft_stack_pop(c, i, &r.stack);
	selector = (uint16_t)soft_stack_pop(c, i, &r.stack);
	rflags = soft_stack_pop(c, i, &r.stack);
	if (!soft_protected(c)) {
		far_real_code(c, selector, &r.cs);
		r.rip = far_target(c, i, &r.cs, r.rip);
		return iret_finish(c, i, &r, rflags);
	}
	if (!soft_long_mode(c) && i->opsize == 4 && (rflags & FLAG_VM) && c->cpl == 0)
		soft_raise_error(c, i, VEC_GP, 0);
	return_code(c, i, selector, &r.cs);
	r.outer = (selector & 3) > c->cpl;
	r.with_stack = r.outer || c->mode == 64;
	if (r.with_stack) {
		r.rsp = soft_stack_pop(c, i, &r.stack);
		return_stack(c, i, (uint16_t)soft_stack_pop(c, i, &r.stack), &r.cs, &r.ss);
	}
	r.rip = far_target(c, i, &r.cs, r.rip);
	return iret_finish(c, i, &r, rflags);
}

/* ---- INT ------------------------------------------------------------------------------------- */

static const struct insn *op_int(struct soft_cpu *c, const struct insn *i)
{
	soft_raise_software(c, i, (uint8_t)i->imm);
}

static const struct insn *op_int3(struct soft_cpu *c, const struct insn *i)
{
	soft_raise_software(c, i, VEC_BP);
}

static const struct insn *op_into(struct soft_cpu *c, const struct insn *i)
{
	if (soft_flags_get(c) & FLAG_OF)
		soft_raise_software(c, i, VEC_OF);
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* F1: a trap without privilege check. */
static const struct insn *op_int1(struct soft_cpu *c, const struct insn *i)
{
	c->rip = soft_next_rip(c, i);
	soft_raise(c, NULL, VEC_DB);
}

insn_fn soft_select_far(struct soft_decode *d)
{
	d->end_block = true;
	d->out->opsize = soft_operand_size(d);
	switch (d->opcode) {
	case 0x9a:
		return d->mode == 64 ? NULL : op_call_far_imm;
	case 0xea:
		return d->mode == 64 ? NULL : op_jmp_far_imm;
	case 0xff:
		if (d->mod == 3)
			return NULL;
		return d->reg3 == 3 ? op_call_far_mem : d->reg3 == 5 ? op_jmp_far_mem : NULL;
	case 0xca:
	case 0xcb:
		return op_retf;
	case 0xcc:
		return op_int3;
	case 0xcd:
		return op_int;
	case 0xce:
		return d->mode == 64 ? NULL : op_into;
	case 0xcf:
		return op_iret;
	case 0xf1:
		return op_int1;
	default:
		return NULL;
	}
}
