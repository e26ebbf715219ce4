/* SPDX-License-Identifier: Apache-2.0 */
/* Port I/O: IN, OUT, INS, OUTS, and who may do it. */
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_system.h"

/* IOPL, else the TSS's permission bitmap (SDM 1, 19.5.2), which is read with two bytes always. */
static void io_check(struct soft_cpu *c, const struct insn *i, uint16_t port, unsigned size)
{
	unsigned type = c->tr.attr & ATTR_TYPE, offset;
	uint16_t bits;

	if (!soft_protected(c) || c->cpl <= (c->rflags & FLAG_IOPL) >> 12)
		return;
	if ((type != TYPE_TSS_BUSY && type != TYPE_TSS_FREE) || c->tr.limit < 0x67)
		soft_raise_error(c, i, VEC_GP, 0);
	offset =
		(uint16_t)soft_load_as(c, i, c->tr.base + 0x66, 2, TLB_BANK_SUPERVISOR) + port / 8u;
	if (offset + 1 > c->tr.limit)
		soft_raise_error(c, i, VEC_GP, 0);
	bits = (uint16_t)soft_load_as(c, i, c->tr.base + offset, 2, TLB_BANK_SUPERVISOR);
	if (bits >> (port & 7) & ((1u << size) - 1))
		soft_raise_error(c, i, VEC_GP, 0);
}

static uint32_t io_read(struct soft_cpu *c, uint16_t port, unsigned size)
{
	uint32_t value = UINT32_MAX;

	if (unlikely(c->break_io))
		soft_debug_port(c, port, size);
	c->config.bus.pio_read(c->config.bus.ctx, c->vcpu.id, port, size, &value);
	return value;
}

static void io_write(struct soft_cpu *c, uint16_t port, unsigned size, uint64_t value)
{
	uint32_t mask = size == 4 ? UINT32_MAX : (1u << (size * 8)) - 1;

	if (unlikely(c->break_io))
		soft_debug_port(c, port, size);
	c->config.bus.pio_write(c->config.bus.ctx, c->vcpu.id, port, size, (uint32_t)value & mask);
}

/* Opcodes EC..EF name the port by DX, E4..E7 by the immediate. */
static uint16_t io_port(const struct soft_cpu *c, const struct insn *i)
{
	return i->opcode & 8 ? (uint16_t)c->reg[RDX] : (uint8_t)i->imm;
}

/* A device may have asked for something (a kick): the block ends, so that it is seen at once. */
static const struct insn *op_in(struct soft_cpu *c, const struct insn *i)
{
	uint16_t port = io_port(c, i);

	io_check(c, i, port, i->opsize);
	soft_reg_write(c, RAX, i->opsize, io_read(c, port, i->opsize));
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

static const struct insn *op_out(struct soft_cpu *c, const struct insn *i)
{
	uint16_t port = io_port(c, i);

	io_check(c, i, port, i->opsize);
	io_write(c, port, i->opsize, c->reg[RAX]);
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}

/* ---- Strings --------------------------------------------------------------------------------- */

static uint64_t string_reg(const struct soft_cpu *c, const struct insn *i, unsigned reg)
{
	if (i->adsize == 8)
		return c->reg[reg];
	return i->adsize == 4 ? (uint32_t)c->reg[reg] : (uint16_t)c->reg[reg];
}

static void string_step(struct soft_cpu *c, const struct insn *i, unsigned reg)
{
	uint64_t step = c->rflags & FLAG_DF ? -(uint64_t)i->opsize : i->opsize;

	soft_reg_write(c, reg, i->adsize, c->reg[reg] + step);
}

/* The memory operand is probed first: a device must not be read for nothing. */
static void string_in(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_linear(c, SEG_ES, string_reg(c, i, RDI));

	soft_probe(c, i, linear, i->opsize, true);
	soft_store(c, i, linear, i->opsize, io_read(c, (uint16_t)c->reg[RDX], i->opsize));
	string_step(c, i, RDI);
}

static void string_out(struct soft_cpu *c, const struct insn *i)
{
	uint64_t value = soft_load(c, i, soft_linear(c, i->seg, string_reg(c, i, RSI)), i->opsize);

	io_write(c, (uint16_t)c->reg[RDX], i->opsize, value);
	string_step(c, i, RSI);
}

/* One iteration an execution: REP leaves with rip on itself until the count is used up, so that
 * interrupts and single stepping come between iterations. */
static const struct insn *op_string_io(struct soft_cpu *c, const struct insn *i)
{
	bool rep = i->flags & (INSN_REP | INSN_REPNE);

	if (rep && !string_reg(c, i, RCX))
		return SOFT_LEAVE(c, soft_next_rip(c, i));
	io_check(c, i, (uint16_t)c->reg[RDX], i->opsize);
	if (i->opcode & 2)
		string_out(c, i);
	else
		string_in(c, i);
	if (!rep)
		return SOFT_LEAVE(c, soft_next_rip(c, i));
	soft_reg_write(c, RCX, i->adsize, c->reg[RCX] - 1);
	if (!string_reg(c, i, RCX))
		return SOFT_LEAVE(c, soft_next_rip(c, i));
	block_uncount(c, i); /* it comes again */
	c->rflags |= FLAG_RF;
	c->leave |= LEAVE_LOOK;
	return SOFT_LEAVE(c, soft_rip_wrap(c, soft_rip(c, i)));
}

/* ---- Selection ------------------------------------------------------------------------------- */

insn_fn soft_select_io(struct soft_decode *d)
{
	unsigned size = soft_operand_size(d);

	d->end_block = true;
	d->out->opsize = !(d->opcode & 1) ? 1 : size == 2 ? 2 : 4;
	if (d->opcode < 0x70)
		return op_string_io;
	return d->opcode & 2 ? op_out : op_in;
}
