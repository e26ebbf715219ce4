/* SPDX-License-Identifier: Apache-2.0 */
/* Near branches: Jcc, JMP, CALL, RET, LOOP, JrCXZ. */
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_int.h"

/* Where a branch goes outside of 64-bit mode: the operand size cuts the address. */
static inline uint64_t branch_cut(const struct insn *i, uint64_t rip)
{
	return i->opsize == 2 ? (uint16_t)rip : i->opsize == 4 ? (uint32_t)rip : rip;
}

static inline uint64_t branch_target(const struct soft_cpu *c, const struct insn *i)
{
	return c->reg[REG_RIP] + i->imm;
}

/* In 64-bit mode, where nothing wraps. */
static inline uint64_t branch_next64(const struct soft_cpu *c, const struct insn *i)
{
	return c->reg[REG_RIP] + i->off + i->len;
}

/* An indirect target in 64-bit mode must be canonical, any target elsewhere within the limit of CS:
 * else #GP(0) before anything changes (SDM 2A, CALL, JMP, RET). */
static inline void branch_check(struct soft_cpu *c, const struct insn *i, uint64_t target)
{
	if (unlikely(c->mode == 64 ? !soft_canonical(target) : target > c->seg[SEG_CS].limit))
		soft_raise_error(c, i, VEC_GP, 0);
}

/* A relative target outside of 64-bit mode, checked. */
static inline uint64_t branch_cut_target(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t target = branch_cut(i, branch_target(c, i));

	branch_check(c, i, target);
	return target;
}

/* ---- Jcc, JMP rel
 * ---------------------------------------------------------------------------------- */

#define JCC_HANDLER(cc)                                                                            \
	HANDLER(jcc##cc)                                                                           \
	{                                                                                          \
		if (soft_condition(c, cc))                                                         \
			return soft_chain(c, 0, branch_target(c, i));                              \
		return soft_chain(c, 1, branch_next64(c, i));                                      \
	}
INT_CONDITIONS(JCC_HANDLER)

#define JCC_ENTRY(cc) jcc##cc,
static const insn_fn jcc_ops[16] = {INT_CONDITIONS(JCC_ENTRY)};

HANDLER(jmp_rel)
{
	return soft_chain(c, 0, branch_target(c, i));
}

HANDLER(jcc_cut)
{
	if (soft_condition(c, i->opcode & 15))
		return soft_chain(c, 0, branch_cut_target(c, i));
	return soft_chain(c, 1, soft_next_rip(c, i));
}

HANDLER(jmp_rel_cut)
{
	return soft_chain(c, 0, branch_cut_target(c, i));
}

/* ---- LOOPNE, LOOPE, LOOP, JrCXZ (E0..E3)
 * ------------------------------------------------------------- */

HANDLER(loop)
{
	const uint64_t mask = int_mask(i->adsize);
	const uint64_t target = branch_cut(i, branch_target(c, i));
	uint64_t count = c->reg[RCX] & mask;
	bool taken = count == 0;

	if (i->opcode != 0xe3) {
		count = (count - 1) & mask;
		taken = count != 0 && (i->opcode == 0xe2 || soft_zf(c) == (i->opcode == 0xe1));
	}
	if (taken)
		branch_check(c, i, target);
	if (i->opcode != 0xe3)
		reg_set(c, RCX, i->adsize, count);
	return soft_chain(c, !taken, taken ? target : soft_next_rip(c, i));
}

/* ---- CALL
 * ---------------------------------------------------------------------------------------------- */

HANDLER_SLOW(call_rel)
{
	const uint64_t target = branch_cut(i, branch_target(c, i));

	branch_check(c, i, target);
	soft_push(c, i, i->opsize, soft_next_rip(c, i));
	return soft_chain(c, 0, target);
}

HANDLER(call_rel)
{
	const uint64_t rsp = c->reg[RSP] - 8;
	const struct soft_tlb_entry *e = int_tlb(c->tlb->write, rsp);

	if (!int_tlb_hit(e, rsp, 8))
		return call_rel_slow(c, i);
	soft_host_store64(int_host(e, rsp), branch_next64(c, i));
	c->reg[RSP] = rsp;
	return soft_chain(c, 0, branch_target(c, i));
}

/* CALL r/m of any form. */
static __attribute__((noinline)) const struct insn *call_rm(struct soft_cpu *c,
							    const struct insn *i)
{
	const uint64_t target = int_rm_load(c, i);

	branch_check(c, i, target);
	soft_push(c, i, i->opsize, soft_next_rip(c, i));
	return soft_goto(c, target);
}

HANDLER(call_r64)
{
	const uint64_t rsp = c->reg[RSP] - 8, target = c->reg[i->rm];
	const struct soft_tlb_entry *e = int_tlb(c->tlb->write, rsp);

	if (!int_tlb_hit(e, rsp, 8) || unlikely(!soft_canonical(target)))
		return call_rm(c, i);
	soft_host_store64(int_host(e, rsp), branch_next64(c, i));
	c->reg[RSP] = rsp;
	return soft_goto(c, target);
}

/* ---- JMP r/m, RET
 * ---------------------------------------------------------------------------------------- */

static __attribute__((noinline)) const struct insn *jmp_rm(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t target = int_rm_load(c, i);

	branch_check(c, i, target);
	return soft_goto(c, target);
}

HANDLER(jmp_r64)
{
	const uint64_t target = c->reg[i->rm];

	if (unlikely(!soft_canonical(target)))
		return jmp_rm(c, i);
	return soft_goto(c, target);
}

/* RET and RET imm16 of any form. */
HANDLER_SLOW(ret)
{
	const uint64_t target = soft_stack_load(c, i, 0, i->opsize);

	branch_check(c, i, target);
	soft_stack_set(c, c->reg[RSP] + i->opsize + i->imm);
	return soft_goto(c, target);
}

HANDLER(ret)
{
	const uint64_t rsp = c->reg[RSP];
	const struct soft_tlb_entry *e = int_tlb(c->tlb->read, rsp);

	if (!int_tlb_hit(e, rsp, 8))
		return ret_slow(c, i);
	const uint64_t target = soft_host_load64(int_host(e, rsp));

	if (unlikely(!soft_canonical(target)))
		return ret_slow(c, i);
	c->reg[RSP] = rsp + 8 + i->imm;
	return soft_goto(c, target);
}

/* ---- Selection
 * --------------------------------------------------------------------------------------------- */

static bool branch_pick_rm(struct soft_decode *d)
{
	const bool call = d->reg3 == 2;

	if (d->mode == 64 && !int_is_mem(d))
		d->out->fn = call ? call_r64 : jmp_r64;
	else
		d->out->fn = call ? call_rm : jmp_rm;
	return true;
}

bool soft_select_branch(struct soft_decode *d)
{
	const bool wide = d->mode == 64;
	struct insn *out = d->out;

	d->end_block = true;
	if (d->map == 1 || (d->opcode & 0xf0) == 0x70) {
		out->fn = wide ? jcc_ops[d->opcode & 15] : jcc_cut;
		return true;
	}
	switch (d->opcode) {
	case 0xc2:
	case 0xc3:
		out->fn = wide ? ret : ret_slow;
		return true;
	case 0xe8:
		out->fn = wide ? call_rel : call_rel_slow;
		return true;
	case 0xe9:
	case 0xeb:
		out->fn = wide ? jmp_rel : jmp_rel_cut;
		return true;
	case 0xff:
		return branch_pick_rm(d);
	default:
		out->fn = loop;
		return true;
	}
}
