/* SPDX-License-Identifier: Apache-2.0 */
/* Which handler a system instruction has, and the flag instructions among them. */
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_system.h"

/* ---- Helpers of all system files ------------------------------------------------------------- */

void soft_require_cpl0(struct soft_cpu *c, const struct insn *i)
{
	if (c->cpl)
		soft_raise_error(c, i, VEC_GP, 0);
}

static uint8_t operand_size(const struct soft_decode *d, uint8_t plain64)
{
	if (d->mode == 64)
		return d->rex & 8 ? 8 : d->prefix_66 ? 2 : plain64;
	return (d->mode == 32) != d->prefix_66 ? 4 : 2;
}

uint8_t soft_operand_size(const struct soft_decode *d)
{
	return operand_size(d, 4);
}

uint8_t soft_operand_size64(const struct soft_decode *d)
{
	return operand_size(d, 8);
}

void soft_reg_write(struct soft_cpu *c, unsigned reg, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		c->reg[reg] = (c->reg[reg] & ~UINT64_C(0xff)) | (uint8_t)value;
		break;
	case 2:
		c->reg[reg] = (c->reg[reg] & ~UINT64_C(0xffff)) | (uint16_t)value;
		break;
	case 4:
		c->reg[reg] = (uint32_t)value;
		break;
	default:
		c->reg[reg] = value;
	}
}

void soft_rflags_load(struct soft_cpu *c, uint64_t value, uint64_t mask)
{
	uint64_t rflags = (soft_flags_get(c) & ~mask) | (value & mask);

	soft_flags_set(c, rflags);
	if ((rflags & (FLAG_TF | FLAG_RF)) || ((rflags & FLAG_IF) && c->irq_window))
		c->leave |= LEAVE_LOOK;
	soft_check_alignment(c);
}

void soft_require_umip(struct soft_cpu *c, const struct insn *i)
{
	if (c->cr4 & CR4_UMIP)
		soft_require_cpl0(c, i);
}

uint16_t soft_rm16(struct soft_cpu *c, const struct insn *i)
{
	return i->flags & INSN_MEM ? soft_load16(c, i, soft_ea(c, i)) : (uint16_t)c->reg[i->rm];
}

/* ---- CLI, STI, PUSHF, POPF, HLT -------------------------------------------------------------- */

static bool iopl_allows(const struct soft_cpu *c)
{
	return c->cpl <= (c->rflags & FLAG_IOPL) >> 12;
}

static const struct insn *op_cli(struct soft_cpu *c, const struct insn *i)
{
	if (!iopl_allows(c))
		soft_raise_error(c, i, VEC_GP, 0);
	c->rflags &= ~(uint64_t)FLAG_IF;
	return SOFT_NEXT(c, i);
}

/* The instruction after STI runs before any interrupt, so STI; HLT cannot miss its wake-up. */
static const struct insn *op_sti(struct soft_cpu *c, const struct insn *i)
{
	if (!iopl_allows(c))
		soft_raise_error(c, i, VEC_GP, 0);
	if (!(c->rflags & FLAG_IF)) {
		c->rflags |= FLAG_IF;
		c->irq_shadow = SHADOW_STI;
		c->leave |= LEAVE_LOOK;
	}
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

static const struct insn *op_pushf(struct soft_cpu *c, const struct insn *i)
{
	soft_push(c, i, i->opsize, soft_flags_get(c) & ~(uint64_t)(FLAG_RF | FLAG_VM));
	return SOFT_NEXT(c, i);
}

static const struct insn *op_popf(struct soft_cpu *c, const struct insn *i)
{
	uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
	uint64_t value = soft_pop(c, i, i->opsize);

	if (i->opsize > 2)
		mask |= FLAG_AC | FLAG_ID;
	if (iopl_allows(c))
		mask |= FLAG_IF;
	if (c->cpl == 0)
		mask |= FLAG_IOPL;
	soft_rflags_load(c, value, mask);
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

static const struct insn *op_hlt(struct soft_cpu *c, const struct insn *i)
{
	soft_require_cpl0(c, i);
	c->halted = 1;
	c->leave |= LEAVE_LOOK;
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* ---- BOUND, ARPL ----------------------------------------------------------------------------- */

static const struct insn *op_bound(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_ea(c, i);
	uint64_t low = soft_load(c, i, linear, i->opsize);
	uint64_t high = soft_load(c, i, linear + i->opsize, i->opsize);
	uint64_t index = c->reg[i->reg];
	bool inside;

	if (i->opsize == 2)
		inside = (int16_t)index >= (int16_t)low && (int16_t)index <= (int16_t)high;
	else
		inside = (int32_t)index >= (int32_t)low && (int32_t)index <= (int32_t)high;
	if (!inside)
		soft_raise(c, i, VEC_BR);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_arpl(struct soft_cpu *c, const struct insn *i)
{
	bool mem = i->flags & INSN_MEM;
	uint64_t linear = mem ? soft_ea(c, i) : 0;
	uint16_t dest, source = (uint16_t)c->reg[i->reg];
	bool adjust;

	if (!soft_protected(c))
		soft_raise(c, i, VEC_UD);
	dest = mem ? soft_load16(c, i, linear) : (uint16_t)c->reg[i->rm];
	adjust = (dest & 3) < (source & 3);
	if (adjust)
		dest = (dest & ~3u) | (source & 3);
	/* Without an adjustment nothing is written, nor need it be writable. */
	if (mem && adjust)
		soft_store16(c, i, linear, dest);
	else if (adjust)
		soft_reg_write(c, i->rm, 2, dest);
	soft_flags_set_zf(c, adjust);
	return SOFT_NEXT(c, i);
}

/* ---- Selection ------------------------------------------------------------------------------- */

static insn_fn select_flags(struct soft_decode *d)
{
	switch (d->opcode) {
	case 0x62:
		d->out->opsize = soft_operand_size(d);
		return d->mode == 64 || d->mod == 3 ? NULL : op_bound;
	case 0x63:
		return d->mode == 64 ? NULL : op_arpl;
	case 0x9c:
		d->out->opsize = soft_operand_size64(d);
		return op_pushf;
	case 0x9d:
		d->out->opsize = soft_operand_size64(d);
		d->end_block = true;
		return op_popf;
	case 0xf4:
		d->end_block = true;
		return op_hlt;
	case 0xfa:
		return op_cli;
	case 0xfb:
		d->end_block = true;
		return op_sti;
	default:
		return NULL;
	}
}

static insn_fn select_one_byte(struct soft_decode *d)
{
	switch (d->opcode) {
	case 0x62:
	case 0x63:
	case 0x9c:
	case 0x9d:
	case 0xf4:
	case 0xfa:
	case 0xfb:
		return select_flags(d);
	case 0x9a:
	case 0xca ... 0xcf:
	case 0xea:
	case 0xf1:
	case 0xff:
		return soft_select_far(d);
	case 0x6c ... 0x6f:
	case 0xe4 ... 0xe7:
	case 0xec ... 0xef:
		return soft_select_io(d);
	default:
		return soft_select_segment(d);
	}
}

static insn_fn select_two_byte(struct soft_decode *d)
{
	switch (d->opcode) {
	case 0x05:
	case 0x07:
	case 0x34:
	case 0x35:
		return soft_select_syscall(d);
	case 0x00:
	case 0x02:
	case 0x03:
	case 0xa0:
	case 0xa1:
	case 0xa8:
	case 0xa9:
	case 0xb2:
	case 0xb4:
	case 0xb5:
		return soft_select_segment(d);
	default:
		return soft_select_control(d);
	}
}

/* Opcodes that are ours and mean #UD (UD0, UD1, UD2, RSM) are those no select function knows. */
bool soft_select_system(struct soft_decode *d)
{
	insn_fn fn = NULL;

	if (d->prefix_lock)
		return false;
	if (d->map == 0)
		fn = select_one_byte(d);
	else if (d->map == 1)
		fn = select_two_byte(d);
	else
		fn = soft_select_invpcid(d);
	if (!fn)
		return false;
	d->out->fn = fn;
	return true;
}
