/* SPDX-License-Identifier: Apache-2.0 */
/* The debug registers and their breakpoints (SDM 3B, 17.2 and 17.3). */
#include "vmm/cpu/soft/soft_system.h"

/*
 * Breakpoints cost nothing unless DR7 enables one, and then only what is near them:
 *  - a page with a data breakpoint has no fast TLB entry, so that accesses to it come to the slow
 *    paths, which compare them. A hit stops the block after the instruction; the trap follows it;
 *  - in a page with an instruction breakpoint blocks hold one instruction each, and nothing leads
 *    from one to the next but soft_block_find, which compares. The fault comes before the
 *    instruction, unless RF is set or a load of SS came before;
 *  - ports are compared at each access, if CR4.DE and DR7 enable any.
 */

/* DR7: what breaks (R/Wn), how long it is (LENn), and whether it is enabled, locally or globally. */
#define DR7_ENABLED(dr7, n) ((dr7) >> (n) * 2 & 3)
#define DR7_KIND(dr7, n)    ((dr7) >> (16 + (n) * 4) & 3)
#define DR7_LEN(dr7, n)	    ((dr7) >> (18 + (n) * 4) & 3)

enum break_kind {
	BREAK_EXECUTE,
	BREAK_WRITE,
	BREAK_PORT, /* with CR4.DE; else it is undefined, and nothing here */
	BREAK_ACCESS
};

static unsigned break_len(uint64_t dr7, unsigned n)
{
	static const uint8_t len[4] = {1, 2, 8, 4};

	return len[DR7_LEN(dr7, n)];
}

/* The lowest address; a breakpoint is aligned to its length. */
static uint64_t break_start(const struct soft_cpu *c, unsigned n)
{
	return c->dr[n] & ~(uint64_t)(break_len(c->dr7, n) - 1);
}

/* ---- What is in force ------------------------------------------------------------------------ */

void soft_debug_update(struct soft_cpu *c)
{
	uint8_t old_data = c->break_data, kinds[4] = {0};

	for (unsigned n = 0; n < 4; n++)
		if (DR7_ENABLED(c->dr7, n))
			kinds[DR7_KIND(c->dr7, n)] |= (uint8_t)(1u << n);
	c->break_code = kinds[BREAK_EXECUTE];
	c->break_data = kinds[BREAK_WRITE] | kinds[BREAK_ACCESS];
	c->break_io = c->cr4 & CR4_DE ? kinds[BREAK_PORT] : 0;
	if (c->break_data || old_data)
		soft_tlb_flush(c, true);
	/* Short cuts know nothing of breakpoints; links stay within a page, and none leads into it. */
	soft_cache_flush_lookup(c);
}

/* ---- Matching -------------------------------------------------------------------------------- */

/* Which of the breakpoints in mask overlap [first, first + size). */
static uint32_t break_hits(const struct soft_cpu *c, uint8_t mask, uint64_t first, unsigned size)
{
	uint32_t hits = 0;

	for (unsigned n = 0; n < 4; n++) {
		uint64_t start = break_start(c, n);

		if ((mask >> n & 1) && first < start + break_len(c->dr7, n) && start < first + size)
			hits |= 1u << n;
	}
	return hits;
}

static bool break_in_page(const struct soft_cpu *c, uint8_t mask, uint64_t linear)
{
	for (unsigned n = 0; n < 4; n++)
		if ((mask >> n & 1) && !((c->dr[n] ^ linear) & LINEAR_PAGE_MASK))
			return true;
	return false;
}

bool soft_debug_page(const struct soft_cpu *c, uint64_t linear)
{
	return break_in_page(c, c->break_data, linear);
}

static void debug_hit(struct soft_cpu *c, uint32_t hits)
{
	if (!hits)
		return;
	c->debug_pending |= hits;
	c->leave |= LEAVE_LOOK;
	soft_block_stop(c);
}

void soft_debug_data(struct soft_cpu *c, uint64_t linear, unsigned size, bool write)
{
	uint8_t mask = 0;

	for (unsigned n = 0; n < 4; n++)
		if (write || DR7_KIND(c->dr7, n) == BREAK_ACCESS)
			mask |= (uint8_t)(1u << n);
	debug_hit(c, break_hits(c, mask & c->break_data, linear, size));
}

void soft_debug_port(struct soft_cpu *c, uint16_t port, unsigned size)
{
	debug_hit(c, break_hits(c, c->break_io, port, size));
}

/* An instruction breakpoint is the address of an instruction's first byte. */
bool soft_debug_fetch(struct soft_cpu *c, uint64_t linear)
{
	uint32_t hits = 0;

	if (!break_in_page(c, c->break_code, linear))
		return false;
	for (unsigned n = 0; n < 4; n++)
		if ((c->break_code >> n & 1) && c->dr[n] == linear)
			hits |= 1u << n;
	if (hits && !(c->rflags & FLAG_RF) && c->irq_shadow != SHADOW_MOV_SS)
		soft_raise_debug(c, NULL, hits);
	return true;
}

/* ---- MOV DR ---------------------------------------------------------------------------------- */

static unsigned dr_index(struct soft_cpu *c, const struct insn *i)
{
	unsigned index = i->reg;

	if (index > 7)
		soft_raise(c, i, VEC_UD);
	soft_require_cpl0(c, i);
	if ((index == 4 || index == 5) && (c->cr4 & CR4_DE))
		soft_raise(c, i, VEC_UD);
	if (c->dr7 & DR7_GD)
		soft_raise_debug(c, i, DR6_BD);
	return index == 4 || index == 5 ? index + 2 : index;
}

const struct insn *op_mov_from_dr(struct soft_cpu *c, const struct insn *i)
{
	unsigned index = dr_index(c, i);
	uint64_t value = index < 4 ? c->dr[index] : index == 6 ? c->dr6 : c->dr7;

	soft_reg_write(c, i->rm, c->mode == 64 ? 8 : 4, value);
	return SOFT_NEXT(c, i);
}

const struct insn *op_mov_to_dr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t value = c->mode == 64 ? c->reg[i->rm] : (uint32_t)c->reg[i->rm];
	unsigned index = dr_index(c, i);

	if (index >= 6 && value >> 32)
		soft_raise_error(c, i, VEC_GP, 0);
	if (index < 4)
		c->dr[index] = value;
	else if (index == 6)
		c->dr6 = (value & 0xe00f) | 0xffff0ff0;
	else
		c->dr7 = (value & 0xffff23ff) | 0x400;
	if (index != 6)
		soft_debug_update(c);
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}
