/* SPDX-License-Identifier: Apache-2.0 */
/* Moves to and from segment registers, LDT and TSS registers, and the selector checks. */
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_system.h"

/* A load of SS holds interrupts back for one instruction, which loads RSP. */
static const struct insn *segment_loaded(struct soft_cpu *c, const struct insn *i, unsigned seg)
{
	if (seg != SEG_SS)
		return SOFT_NEXT(c, i);
	c->irq_shadow = SHADOW_MOV_SS;
	c->leave |= LEAVE_LOOK;
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* ---- MOV, PUSH, POP, Lxx; reg is the segment ------------------------------------------------- */

static const struct insn *op_mov_from_seg(struct soft_cpu *c, const struct insn *i)
{
	uint16_t selector = c->seg[i->reg].selector;

	if (i->flags & INSN_MEM)
		soft_store16(c, i, soft_ea(c, i), selector);
	else
		soft_reg_write(c, i->rm, i->opsize, selector);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_mov_to_seg(struct soft_cpu *c, const struct insn *i)
{
	soft_segment_load(c, i, i->reg, soft_rm16(c, i));
	return segment_loaded(c, i, i->reg);
}

/* With 32 bits only the lower half is written, as Intel's processors do (SDM 2B, PUSH). */
static const struct insn *op_push_seg(struct soft_cpu *c, const struct insn *i)
{
	unsigned written = i->opsize == 4 ? 2 : i->opsize;

	soft_stack_store(c, i, -(uint64_t)i->opsize, written, c->seg[i->reg].selector);
	soft_stack_set(c, c->reg[RSP] - i->opsize);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_pop_seg(struct soft_cpu *c, const struct insn *i)
{
	uint64_t selector = soft_stack_load(c, i, 0, i->opsize);
	struct vcpu_segment old_ss = c->seg[SEG_SS], loaded;

	soft_segment_load(c, i, i->reg, (uint16_t)selector);
	/* RSP moves by the size of the stack that was popped. */
	loaded = c->seg[SEG_SS];
	c->seg[SEG_SS] = old_ss;
	soft_stack_set(c, c->reg[RSP] + i->opsize);
	c->seg[SEG_SS] = loaded;
	return segment_loaded(c, i, i->reg);
}

/* LES, LDS, LSS, LFS, LGS: the segment's index is in imm. */
static const struct insn *op_load_far_pointer(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_ea(c, i);
	uint64_t offset = soft_load(c, i, linear, i->opsize);
	uint16_t selector = soft_load16(c, i, linear + i->opsize);

	soft_segment_load(c, i, (unsigned)i->imm, selector);
	soft_reg_write(c, i->reg, i->opsize, offset);
	return SOFT_NEXT(c, i);
}

/* ---- LDTR, TR -------------------------------------------------------------------------------- */

static const struct insn *store_selector(struct soft_cpu *c, const struct insn *i,
					 uint16_t selector)
{
	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	soft_require_umip(c, i);
	if (i->flags & INSN_MEM)
		soft_store16(c, i, soft_ea(c, i), selector);
	else
		soft_reg_write(c, i->rm, i->opsize, selector);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_sldt(struct soft_cpu *c, const struct insn *i)
{
	return store_selector(c, i, c->ldtr.selector);
}

static const struct insn *op_str(struct soft_cpu *c, const struct insn *i)
{
	return store_selector(c, i, c->tr.selector);
}

/* A system descriptor of the GDT; in long mode it has 16 bytes. Returns its type. */
static unsigned system_descriptor(struct soft_cpu *c, const struct insn *i, uint16_t selector,
				  struct vcpu_segment *out)
{
	uint64_t raw;

	if ((selector & 4) || !soft_descriptor_read(c, i, selector, &raw))
		soft_raise_error(c, i, VEC_GP, selector & ~3u);
	soft_segment_fill(out, selector, raw);
	if (out->attr & ATTR_S)
		soft_raise_error(c, i, VEC_GP, selector & ~3u);
	if (soft_long_mode(c)) {
		out->base |= (uint64_t)soft_descriptor_high(c, i, selector) << 32;
		if (!soft_canonical(out->base))
			soft_raise_error(c, i, VEC_GP, selector & ~3u);
	}
	return out->attr & ATTR_TYPE;
}

static void require_system(struct soft_cpu *c, const struct insn *i)
{
	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	soft_require_cpl0(c, i);
}

static const struct insn *op_lldt(struct soft_cpu *c, const struct insn *i)
{
	struct vcpu_segment ldtr = {0};
	uint16_t selector;

	require_system(c, i);
	selector = soft_rm16(c, i);
	if (selector & ~3u) {
		if (system_descriptor(c, i, selector, &ldtr) != TYPE_LDT)
			soft_raise_error(c, i, VEC_GP, selector & ~3u);
		if (!(ldtr.attr & ATTR_P))
			soft_raise_error(c, i, VEC_NP, selector & ~3u);
	}
	ldtr.selector = selector;
	c->ldtr = ldtr;
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

static const struct insn *op_ltr(struct soft_cpu *c, const struct insn *i)
{
	struct vcpu_segment tr;
	uint16_t selector;
	unsigned type;

	require_system(c, i);
	selector = soft_rm16(c, i);
	if (!(selector & ~3u))
		soft_raise_error(c, i, VEC_GP, 0);
	type = system_descriptor(c, i, selector, &tr);
	if (type != TYPE_TSS_FREE && (type != TYPE_TSS16_FREE || soft_long_mode(c)))
		soft_raise_error(c, i, VEC_GP, selector & ~3u);
	if (!(tr.attr & ATTR_P))
		soft_raise_error(c, i, VEC_NP, selector & ~3u);
	tr.attr |= TYPE_TSS16_BUSY; /* the busy bit */
	soft_store_as(c, i, c->gdtr.base + (selector & ~7u) + 5, 1, tr.attr & 0xff,
		      TLB_BANK_SUPERVISOR);
	c->tr = tr;
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* ---- LAR, LSL, VERR, VERW -------------------------------------------------------------------- */

/* Reads a descriptor that the current privilege may see; system: those types (bits) count too. */
static bool descriptor_visible(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			       unsigned system_types, uint64_t *raw)
{
	unsigned attr, dpl;

	if (!(selector & ~3u) || !soft_descriptor_read(c, i, selector, raw))
		return false;
	attr = soft_descriptor_attr(*raw);
	dpl = attr >> ATTR_DPL_SHIFT & 3;
	if (!(attr & ATTR_S) && !(system_types >> (attr & ATTR_TYPE) & 1))
		return false;
	if ((attr & (ATTR_S | ATTR_CODE | ATTR_CONFORMING)) ==
	    (ATTR_S | ATTR_CODE | ATTR_CONFORMING))
		return true;
	return dpl >= c->cpl && dpl >= (selector & 3u);
}

static const struct insn *op_lar(struct soft_cpu *c, const struct insn *i)
{
	/* LDT, TSS, call gates (and in legacy mode the 16-bit ones, task gates). */
	unsigned types = soft_long_mode(c) ? 0x1a04 : 0x1a3e;
	uint16_t selector;
	uint64_t raw;
	bool ok;

	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	selector = soft_rm16(c, i);
	ok = descriptor_visible(c, i, selector, types, &raw);
	if (ok)
		soft_reg_write(c, i->reg, i->opsize, raw >> 32 & 0x00f0ff00);
	soft_flags_set_zf(c, ok);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_lsl(struct soft_cpu *c, const struct insn *i)
{
	unsigned types = soft_long_mode(c) ? 0x0a04 : 0x0a0e; /* LDT, TSS */
	uint16_t selector;
	uint64_t raw;
	bool ok;

	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	selector = soft_rm16(c, i);
	ok = descriptor_visible(c, i, selector, types, &raw);
	if (ok)
		soft_reg_write(c, i->reg, i->opsize, soft_descriptor_limit(raw));
	soft_flags_set_zf(c, ok);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_verr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t raw = 0;
	unsigned attr;
	bool ok;

	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	ok = descriptor_visible(c, i, soft_rm16(c, i), 0, &raw);
	attr = soft_descriptor_attr(raw);
	soft_flags_set_zf(c, ok && (!(attr & ATTR_CODE) || (attr & ATTR_WRITABLE)));
	return SOFT_NEXT(c, i);
}

static const struct insn *op_verw(struct soft_cpu *c, const struct insn *i)
{
	uint64_t raw = 0;
	unsigned attr;
	bool ok;

	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	ok = descriptor_visible(c, i, soft_rm16(c, i), 0, &raw);
	attr = soft_descriptor_attr(raw);
	soft_flags_set_zf(c, ok && (attr & (ATTR_CODE | ATTR_WRITABLE)) == ATTR_WRITABLE);
	return SOFT_NEXT(c, i);
}

/* ---- Selection ------------------------------------------------------------------------------- */

static insn_fn select_group6(struct soft_decode *d)
{
	static const insn_fn group[8] = {op_sldt, op_str,  op_lldt, op_ltr,
					 op_verr, op_verw, NULL,    NULL};

	d->end_block = d->reg3 == 2 || d->reg3 == 3;
	d->out->opsize = soft_operand_size(d);
	return group[d->reg3];
}

static insn_fn select_move(struct soft_decode *d)
{
	if (d->reg3 >= SEG_COUNT || (d->opcode == 0x8e && d->reg3 == SEG_CS))
		return NULL;
	d->out->reg = d->reg3;
	d->out->opsize = soft_operand_size(d);
	d->end_block = d->opcode == 0x8e && d->reg3 == SEG_SS;
	return d->opcode == 0x8c ? op_mov_from_seg : op_mov_to_seg;
}

/* PUSH and POP of ES CS SS DS (bits 4:3 of the opcode; not in 64-bit mode), FS, GS. */
static insn_fn select_push_pop(struct soft_decode *d)
{
	unsigned seg = d->map ? SEG_FS + (d->opcode >> 3 & 1u) : d->opcode >> 3 & 3u;

	if (!d->map && d->mode == 64)
		return NULL;
	d->out->reg = seg;
	d->out->opsize = soft_operand_size64(d);
	d->end_block = (d->opcode & 1) && seg == SEG_SS;
	return d->opcode & 1 ? op_pop_seg : op_push_seg;
}

static insn_fn select_far_pointer(struct soft_decode *d, unsigned seg)
{
	if (d->mod == 3 || (!d->map && d->mode == 64))
		return NULL;
	d->out->imm = seg;
	d->out->opsize = soft_operand_size(d);
	return op_load_far_pointer;
}

static insn_fn select_segment_two_byte(struct soft_decode *d)
{
	switch (d->opcode) {
	case 0x00:
		return select_group6(d);
	case 0x02:
	case 0x03:
		d->out->opsize = soft_operand_size(d);
		return d->opcode == 0x02 ? op_lar : op_lsl;
	case 0xb2:
		return select_far_pointer(d, SEG_SS);
	case 0xb4:
		return select_far_pointer(d, SEG_FS);
	case 0xb5:
		return select_far_pointer(d, SEG_GS);
	default: /* A0, A1, A8, A9 */
		return select_push_pop(d);
	}
}

insn_fn soft_select_segment(struct soft_decode *d)
{
	if (d->map)
		return select_segment_two_byte(d);
	switch (d->opcode) {
	case 0x06:
	case 0x07:
	case 0x0e:
	case 0x16:
	case 0x17:
	case 0x1e:
	case 0x1f:
		return select_push_pop(d);
	case 0x8c:
	case 0x8e:
		return select_move(d);
	case 0xc4:
		return select_far_pointer(d, SEG_ES);
	case 0xc5:
		return select_far_pointer(d, SEG_DS);
	default:
		return NULL;
	}
}
