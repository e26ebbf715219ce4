/* SPDX-License-Identifier: Apache-2.0 */
/* What few programs need of a data access: alignment, and limits and types of segments. */
#include "vmm/cpu/soft/soft_system.h"

/*
 * Neither costs anything where it is not in force. The fast paths compare with the TLB bank c->tlb
 * and with nothing else, so a CPU whose accesses must be checked is given a bank that stays empty:
 * all its accesses come to the slow paths, which check them and translate by the real banks.
 *
 * Alignment (SDM 3A, 6.15, #AC): the empty bank stays while CR0.AM, EFLAGS.AC and CPL 3 hold.
 *
 * Segments (SDM 3A, 5.3 to 5.5): only outside of 64-bit mode, where every address is made by
 * soft_linear, right before its accesses. It arms the check if the segment is not flat, writable
 * data, and the next address of a flat segment disarms it. What is not flat: every segment of real
 * mode but "big" ones, null selectors, and in protected mode CS, which no write may go through.
 */

/* ---- Which bank ------------------------------------------------------------------------------ */

void soft_tlb_select(struct soft_cpu *c)
{
	bool checked = c->align_check || (c->seg_check & SEG_ARMED);

	c->tlb = checked ? &c->tlb_empty : &c->context->bank[soft_data_bank(c)];
}

void soft_check_alignment(struct soft_cpu *c)
{
	c->align_check = c->cpl == 3 && (c->cr0 & CR0_AM) && (c->rflags & FLAG_AC);
	soft_tlb_select(c);
}

void soft_check_arm(struct soft_cpu *c, unsigned seg)
{
	c->seg_armed = (uint8_t)seg;
	c->seg_check &= ~SEG_ARMED;
	if (c->seg_check >> seg & 1)
		c->seg_check |= SEG_ARMED;
	soft_tlb_select(c);
}

/* ---- Segments -------------------------------------------------------------------------------- */

/* Does every access of 32-bit offsets go through? An access that wraps at 4 GiB may, or may not. */
static bool segment_flat(const struct soft_cpu *c, const struct vcpu_segment *s)
{
	const uint16_t all = ATTR_P | ATTR_S | ATTR_CODE | ATTR_EXPAND_DOWN | ATTR_WRITABLE;

	if (s->limit != UINT32_MAX)
		return false;
	return !soft_protected(c) || (s->attr & all) == (ATTR_P | ATTR_S | ATTR_WRITABLE);
}

void soft_check_segments(struct soft_cpu *c)
{
	c->seg_check = 0;
	if (c->mode != 64)
		for (unsigned seg = 0; seg < SEG_COUNT; seg++)
			if (!segment_flat(c, &c->seg[seg]))
				c->seg_check |= (uint8_t)(1u << seg);
	soft_tlb_select(c);
}

/* Real mode leaves types alone. */
static bool segment_allows(const struct soft_cpu *c, const struct vcpu_segment *s, bool write)
{
	if (!soft_protected(c))
		return true;
	if ((s->attr & (ATTR_P | ATTR_S)) != (ATTR_P | ATTR_S))
		return false;
	if (s->attr & ATTR_CODE)
		return !write && (s->attr & ATTR_WRITABLE);
	return !write || (s->attr & ATTR_WRITABLE);
}

static bool segment_contains(const struct vcpu_segment *s, uint32_t offset, unsigned size)
{
	uint64_t last = (uint64_t)offset + size - 1;

	if ((s->attr & (ATTR_S | ATTR_CODE | ATTR_EXPAND_DOWN)) == (ATTR_S | ATTR_EXPAND_DOWN))
		return offset > s->limit && last <= (s->attr & ATTR_DB ? UINT32_MAX : UINT16_MAX);
	return last <= s->limit;
}

void soft_check_segment(struct soft_cpu *c, const struct insn *i, const struct vcpu_segment *s,
			uint32_t offset, unsigned size, bool write, int vector, uint32_t error)
{
	if (!segment_allows(c, s, write) || !segment_contains(s, offset, size))
		soft_raise_error(c, i, vector, error);
}

/* ---- Accesses -------------------------------------------------------------------------------- */

/* What an operand of so many bytes is aligned to (SDM 3A, table 6-7): the images of FXSAVE, FNSAVE
 * and FNSTENV to their fields. */
static unsigned alignment(unsigned size)
{
	switch (size) {
	case 10:
		return 8;
	case 14:
	case 94:
		return 2;
	default:
		return (size & (size - 1)) || size > 16 ? 4 : size;
	}
}

void soft_check_aligned(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size)
{
	if (!c->align_check || !(linear & (alignment(size) - 1)))
		return;
	if (soft_long_mode(c) && !soft_canonical(linear))
		return; /* #GP and #SS go first */
	soft_raise_error(c, i, VEC_AC, 0);
}

void soft_check_access(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		       bool write)
{
	if (c->seg_check & SEG_ARMED) {
		const struct vcpu_segment *s = &c->seg[c->seg_armed];

		soft_check_segment(c, i, s, (uint32_t)(linear - s->base), size, write,
				   c->seg_armed == SEG_SS ? VEC_SS : VEC_GP, 0);
	}
	soft_check_aligned(c, i, linear, size);
}
