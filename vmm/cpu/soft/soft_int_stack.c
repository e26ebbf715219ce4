/* SPDX-License-Identifier: Apache-2.0 */
/* PUSH, POP, PUSHA, POPA, ENTER, LEAVE. */
#include "vmm/cpu/soft/soft_int.h"

/* ---- PUSH
 * ------------------------------------------------------------------------------------------ */

/* A fast push of a 64-bit value, and the slow one of any size. */
#define PUSH_HANDLER(name, value)                                                                  \
	HANDLER_SLOW(name)                                                                         \
	{                                                                                          \
		soft_push(c, i, i->opsize, (value));                                               \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint64_t rsp = c->reg[RSP] - 8;                                              \
		const struct soft_tlb_entry *e = int_tlb(c->tlb->write, rsp);                      \
                                                                                                   \
		if (!int_tlb_hit(e, rsp, 8))                                                       \
			return name##_slow(c, i);                                                  \
		soft_host_store64(int_host(e, rsp), (value));                                      \
		c->reg[RSP] = rsp;                                                                 \
		return SOFT_NEXT(c, i);                                                            \
	}

PUSH_HANDLER(push_r, c->reg[i->rm])
PUSH_HANDLER(push_i, i->imm)

HANDLER(push_m)
{
	soft_push(c, i, i->opsize, int_rm_load(c, i));
	return SOFT_NEXT(c, i);
}

/* SDM 2B, PUSHA: the value of SP before. Stores all, then moves SP. */
HANDLER(pusha)
{
	for (unsigned r = RAX; r <= RDI; r++)
		soft_stack_store(c, i, -(uint64_t)((r + 1) * i->opsize), i->opsize, c->reg[r]);
	soft_stack_set(c, c->reg[RSP] - 8ull * i->opsize);
	return SOFT_NEXT(c, i);
}

/* ---- POP
 * ------------------------------------------------------------------------------------------- */

HANDLER_SLOW(pop_r)
{
	const uint64_t value = soft_pop(c, i, i->opsize);

	reg_set(c, i->rm, i->opsize, value);
	return SOFT_NEXT(c, i);
}

HANDLER(pop_r)
{
	const uint64_t rsp = c->reg[RSP];
	const struct soft_tlb_entry *e = int_tlb(c->tlb->read, rsp);

	if (!int_tlb_hit(e, rsp, 8))
		return pop_r_slow(c, i);
	const uint64_t value = soft_host_load64(int_host(e, rsp));

	c->reg[RSP] = rsp + 8;
	c->reg[i->rm] = value; /* POP RSP: the value stays */
	return SOFT_NEXT(c, i);
}

/* An address based on RSP sees it incremented; a fault of the store leaves it as it was. */
HANDLER(pop_m)
{
	const uint64_t value = soft_stack_load(c, i, 0, i->opsize), rsp = c->reg[RSP];
	uint64_t linear;

	soft_stack_set(c, rsp + i->opsize);
	linear = soft_ea(c, i);
	c->reg[RSP] = rsp;
	soft_store(c, i, linear, i->opsize, value);
	soft_stack_set(c, rsp + i->opsize);
	return SOFT_NEXT(c, i);
}

HANDLER(popa)
{
	uint64_t value[8];

	for (unsigned k = 0; k < 8; k++)
		value[7 - k] = soft_stack_load(c, i, (uint64_t)k * i->opsize, i->opsize);
	for (unsigned r = RAX; r <= RDI; r++)
		if (r != RSP)
			reg_set(c, r, i->opsize, value[r]);
	soft_stack_set(c, c->reg[RSP] + 8ull * i->opsize);
	return SOFT_NEXT(c, i);
}

/* ---- ENTER, LEAVE
 * ------------------------------------------------------------------------------------ */

/* SDM 2A, ENTER: pushes BP, the display of level - 1 outer frames, and the frame's own address. */
HANDLER(enter)
{
	const unsigned size = i->opsize, level = i->imm >> 16 & 31;
	const uint64_t mask = soft_stack_mask(c), rbp = c->reg[RBP];
	const uint64_t frame = c->reg[RSP] - size;
	uint64_t pushed = size, rsp;

	soft_stack_store(c, i, -pushed, size, rbp);
	for (unsigned k = 1; k < level; k++) {
		const uint64_t at = soft_linear(c, SEG_SS, (rbp - (uint64_t)k * size) & mask);
		const uint64_t outer = soft_load(c, i, at, size);

		pushed += size;
		soft_stack_store(c, i, -pushed, size, outer);
	}
	if (level) {
		pushed += size;
		soft_stack_store(c, i, -pushed, size, frame);
	}
	/* #PF if a write at the final RSP would fault (SDM 2A, ENTER). */
	rsp = c->reg[RSP] - pushed - (i->imm & 0xffff);
	soft_probe(c, i, soft_linear(c, SEG_SS, rsp & mask), 1, true);
	soft_stack_set(c, rsp);
	reg_set(c, RBP, size, (frame & mask) | (rbp & ~mask));
	return SOFT_NEXT(c, i);
}

HANDLER_SLOW(leave)
{
	const uint64_t linear = soft_linear(c, SEG_SS, c->reg[RBP] & soft_stack_mask(c));
	const uint64_t value = soft_load(c, i, linear, i->opsize);

	soft_stack_set(c, c->reg[RBP] + i->opsize);
	reg_set(c, RBP, i->opsize, value);
	return SOFT_NEXT(c, i);
}

HANDLER(leave)
{
	const uint64_t rbp = c->reg[RBP];
	const struct soft_tlb_entry *e = int_tlb(c->tlb->read, rbp);

	if (!int_tlb_hit(e, rbp, 8))
		return leave_slow(c, i);
	c->reg[RBP] = soft_host_load64(int_host(e, rbp));
	c->reg[RSP] = rbp + 8;
	return SOFT_NEXT(c, i);
}

/* ---- Selection
 * ----------------------------------------------------------------------------------------- */

/* The fast forms are those of 64-bit mode's 8-byte stack operations. */
static bool stack_pick(struct soft_decode *d, insn_fn fast, insn_fn slow)
{
	d->out->fn = d->mode == 64 && d->out->opsize == 8 ? fast : slow;
	return true;
}

bool soft_select_stack(struct soft_decode *d)
{
	struct insn *out = d->out;

	switch (d->opcode) {
	case 0x50 ... 0x57:
		return stack_pick(d, push_r, push_r_slow);
	case 0x58 ... 0x5f:
		return stack_pick(d, pop_r, pop_r_slow);
	case 0x60:
		return stack_pick(d, pusha, pusha);
	case 0x61:
		return stack_pick(d, popa, popa);
	case 0x68:
	case 0x6a:
		return stack_pick(d, push_i, push_i_slow);
	case 0x8f:
		if (d->reg3 != 0)
			return false;
		return int_is_mem(d) ? stack_pick(d, pop_m, pop_m)
				     : stack_pick(d, pop_r, pop_r_slow);
	case 0xc8:
		return stack_pick(d, enter, enter);
	case 0xc9:
		out->flags |= INSN_STACK;
		return stack_pick(d, leave, leave_slow);
	default: /* FF /6 */
		return int_is_mem(d) ? stack_pick(d, push_m, push_m)
				     : stack_pick(d, push_r, push_r_slow);
	}
}
