/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, loads of segment registers, the stack of far transfers, and the mode they imply. */
#include "vmm/cpu/soft/soft_system.h"

/* ---- Descriptors (SDM 3A, 3.4.5) ------------------------------------------------------------- */

static bool descriptor_linear(const struct soft_cpu *c, uint16_t selector, unsigned bytes,
			      uint64_t *linear)
{
	unsigned offset = selector & ~7u;
	bool local = selector & 4;

	if (local && !(c->ldtr.attr & ATTR_P))
		return false;
	if (offset + bytes - 1 > (local ? c->ldtr.limit : c->gdtr.limit))
		return false;
	*linear = (local ? c->ldtr.base : c->gdtr.base) + offset;
	return true;
}

bool soft_descriptor_read(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			  uint64_t *raw)
{
	uint64_t linear;

	if (!descriptor_linear(c, selector, 8, &linear))
		return false;
	*raw = soft_load_as(c, i, linear, 8, TLB_BANK_SUPERVISOR);
	return true;
}

uint32_t soft_descriptor_high(struct soft_cpu *c, const struct insn *i, uint16_t selector)
{
	uint64_t linear;

	if (!descriptor_linear(c, selector, 16, &linear))
		soft_raise_error(c, i, VEC_GP, selector & ~3u);
	return (uint32_t)soft_load_as(c, i, linear + 8, 4, TLB_BANK_SUPERVISOR);
}

uint16_t soft_descriptor_attr(uint64_t raw)
{
	return (raw >> 40 & 0xff) | (raw >> 44 & 0xf00);
}

uint32_t soft_descriptor_limit(uint64_t raw)
{
	uint32_t limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);

	return raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}

uint32_t soft_descriptor_base(uint64_t raw)
{
	return (uint32_t)((raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000));
}

void soft_descriptor_access(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			    uint64_t *raw)
{
	uint64_t linear;

	if (*raw >> 40 & ATTR_ACCESSED || !descriptor_linear(c, selector, 8, &linear))
		return;
	*raw |= (uint64_t)ATTR_ACCESSED << 40;
	soft_store_as(c, i, linear + 5, 1, *raw >> 40 & 0xff, TLB_BANK_SUPERVISOR);
}

void soft_segment_fill(struct vcpu_segment *s, uint16_t selector, uint64_t raw)
{
	s->selector = selector;
	s->base = soft_descriptor_base(raw);
	s->limit = soft_descriptor_limit(raw);
	s->attr = soft_descriptor_attr(raw);
}

void soft_segment_flat(struct vcpu_segment *s, uint16_t selector, uint16_t attr)
{
	*s = (struct vcpu_segment){.selector = selector, .attr = attr, .limit = UINT32_MAX};
}

/* ---- Loads ----------------------------------------------------------------------------------- */

/* A null selector: not usable; the DPL of SS keeps telling the CPL. */
static void segment_null(struct vcpu_segment *s, uint16_t selector, unsigned cpl)
{
	*s = (struct vcpu_segment){.selector = selector, .attr = cpl << ATTR_DPL_SHIFT};
}

static unsigned attr_dpl(uint16_t attr)
{
	return attr >> ATTR_DPL_SHIFT & 3;
}

void soft_segment_stack(struct soft_cpu *c, const struct insn *i, uint16_t selector, unsigned cpl,
			int vector, struct vcpu_segment *out)
{
	uint32_t error = selector & ~3u;
	uint16_t attr;
	uint64_t raw;

	if (!error) {
		if (c->mode != 64 || cpl == 3 || (selector & 3) != cpl)
			soft_raise_error(c, i, vector, 0);
		segment_null(out, selector, cpl);
		return;
	}
	if (!soft_descriptor_read(c, i, selector, &raw))
		soft_raise_error(c, i, vector, error);
	attr = soft_descriptor_attr(raw);
	if ((attr & (ATTR_S | ATTR_CODE | ATTR_WRITABLE)) != (ATTR_S | ATTR_WRITABLE) ||
	    (selector & 3) != cpl || attr_dpl(attr) != cpl)
		soft_raise_error(c, i, vector, error);
	if (!(attr & ATTR_P))
		soft_raise_error(c, i, VEC_SS, error);
	soft_descriptor_access(c, i, selector, &raw);
	soft_segment_fill(out, selector, raw);
}

/* ES, DS, FS, GS in protected mode. */
static void segment_load_data(struct soft_cpu *c, const struct insn *i, unsigned seg,
			      uint16_t selector)
{
	uint32_t error = selector & ~3u;
	uint16_t attr;
	uint64_t raw;

	if (!error) {
		segment_null(&c->seg[seg], selector, 0);
		return;
	}
	if (!soft_descriptor_read(c, i, selector, &raw))
		soft_raise_error(c, i, VEC_GP, error);
	attr = soft_descriptor_attr(raw);
	if (!(attr & ATTR_S) || (attr & (ATTR_CODE | ATTR_WRITABLE)) == ATTR_CODE)
		soft_raise_error(c, i, VEC_GP, error);
	if ((attr & (ATTR_CODE | ATTR_CONFORMING)) != (ATTR_CODE | ATTR_CONFORMING) &&
	    (attr_dpl(attr) < c->cpl || attr_dpl(attr) < (selector & 3)))
		soft_raise_error(c, i, VEC_GP, error);
	if (!(attr & ATTR_P))
		soft_raise_error(c, i, VEC_NP, error);
	soft_descriptor_access(c, i, selector, &raw);
	soft_segment_fill(&c->seg[seg], selector, raw);
}

/* Real mode changes selector and base alone: limit and size stay ("big real mode"). */
static void segment_load_real(struct vcpu_segment *s, uint16_t selector)
{
	s->selector = selector;
	s->base = (uint32_t)selector << 4;
	s->attr = (s->attr & ~0xffu) | ATTR_P | ATTR_S | ATTR_WRITABLE | ATTR_ACCESSED;
}

void soft_segment_load(struct soft_cpu *c, const struct insn *i, unsigned seg, uint16_t selector)
{
	if (!soft_protected(c)) {
		segment_load_real(&c->seg[seg], selector);
	} else if (seg == SEG_SS) {
		struct vcpu_segment ss;

		soft_segment_stack(c, i, selector, c->cpl, VEC_GP, &ss);
		c->seg[SEG_SS] = ss;
	} else {
		segment_load_data(c, i, seg, selector);
	}
	if (c->mode != 64)
		soft_check_segments(c);
}

/* ---- Stack of far transfers ------------------------------------------------------------------ */

struct soft_stack soft_stack_current(const struct soft_cpu *c, unsigned size)
{
	return (struct soft_stack){
		.base = c->mode == 64 ? 0 : c->seg[SEG_SS].base,
		.mask = soft_stack_mask(c),
		.sp = c->reg[RSP],
		.size = size,
		.bank = soft_data_bank(c),
		.limits = c->seg_check >> SEG_SS & 1 ? &c->seg[SEG_SS] : NULL,
	};
}

static uint64_t stack_linear(struct soft_cpu *c, const struct insn *i, const struct soft_stack *s)
{
	uint64_t linear = s->base + (s->sp & s->mask);

	if (!soft_canonical_range(c, linear, s->size))
		soft_raise_error(c, i, VEC_SS, 0);
	if (s->limits)
		soft_check_segment(c, i, s->limits, (uint32_t)(s->sp & s->mask), s->size, true,
				   VEC_SS, s->error);
	if (s->bank == TLB_BANK_USER)
		soft_check_aligned(c, i, linear, s->size);
	return linear;
}

void soft_stack_push(struct soft_cpu *c, const struct insn *i, struct soft_stack *s, uint64_t value)
{
	s->sp -= s->size;
	soft_store_as(c, i, stack_linear(c, i, s), s->size, value, s->bank);
}

uint64_t soft_stack_pop(struct soft_cpu *c, const struct insn *i, struct soft_stack *s)
{
	uint64_t value = soft_load_as(c, i, stack_linear(c, i, s), s->size, s->bank);

	s->sp += s->size;
	return value;
}

/* ---- Mode ------------------------------------------------------------------------------------ */

/* What rip leads to depends on the mode, on CS's base outside 64-bit mode, and on the privilege. */
void soft_mode_update(struct soft_cpu *c)
{
	uint16_t attr = c->seg[SEG_CS].attr;
	uint8_t old_mode = c->mode;

	if (soft_long_mode(c) && (attr & ATTR_L))
		c->mode = 64;
	else
		c->mode = attr & ATTR_DB ? 32 : 16;
	soft_check_segments(c);
	soft_check_alignment(c);
	soft_cache_select(c, c->cpl == 3);
	if (old_mode != 64 || c->mode != 64)
		soft_cache_flush_lookup(c);
}

void soft_code_commit(struct soft_cpu *c, const struct vcpu_segment *cs, unsigned cpl)
{
	c->seg[SEG_CS] = *cs;
	c->cpl = cpl;
	soft_mode_update(c);
}
