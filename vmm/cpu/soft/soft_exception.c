/* SPDX-License-Identifier: Apache-2.0 */
/* Raising exceptions, and delivering events through the IVT or IDT in every mode (SDM 3A, ch. 6).
 */
#include "base/log.h"
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_system.h"

/* Error code: the index names an IDT entry. EXT (bit 0) is added when the fault is raised. */
#define ERROR_IDT 2u

/* ---- Raising --------------------------------------------------------------------------------- */

static bool vector_contributory(int vector)
{
	return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* What a fault during the delivery of another exception becomes (SDM 3A, table 6-5). */
static void combine(struct soft_cpu *c)
{
	int first = c->delivering, second = c->exception.vector;
	bool severe = vector_contributory(second) || second == VEC_PF;

	if (second >= VEC_TS && second <= VEC_GP && c->delivering_ext)
		c->exception.error |= 1;
	c->delivering = -1;
	if (!c->delivering_hw)
		return;
	if (first == VEC_DF && severe) {
		c->exception.vector = VEC_TRIPLE_FAULT;
	} else if ((vector_contributory(first) && vector_contributory(second)) ||
		   (first == VEC_PF && severe)) {
		c->exception.vector = VEC_DF;
		c->exception.has_error = true;
		c->exception.error = 0;
	}
}

static _Noreturn void raise_event(struct soft_cpu *c, const struct insn *i, int vector,
				  bool has_error, uint32_t error)
{
	if (i) {
		c->debug_pending = 0; /* it has not completed, and comes again */
		c->rip = soft_rip_wrap(c, soft_rip(c, i));
		block_uncount(c, i);
	}
	c->exception.vector = vector;
	c->exception.has_error = has_error;
	c->exception.error = error;
	c->exception.software = false;
	c->exception.resume = vector != VEC_DB || i;
	c->exception.rip = c->rip;
	if (c->delivering >= 0)
		combine(c);
	siglongjmp(c->escape, 1);
}

_Noreturn void soft_raise(struct soft_cpu *c, const struct insn *i, int vector)
{
	raise_event(c, i, vector, false, 0);
}

_Noreturn void soft_raise_error(struct soft_cpu *c, const struct insn *i, int vector,
				uint32_t error)
{
	raise_event(c, i, vector, true, error);
}

_Noreturn void soft_raise_pf(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			     uint32_t error)
{
	c->cr2 = linear;
	raise_event(c, i, VEC_PF, true, error);
}

/* What DR6 said of breakpoints before is gone; the rest stays until software clears it. */
_Noreturn void soft_raise_debug(struct soft_cpu *c, const struct insn *i, uint32_t cause)
{
	c->dr6 = (c->dr6 & ~UINT64_C(0xf)) | cause;
	soft_raise(c, i, VEC_DB);
}

/* Instructions that trap do so after they are complete, so this raises nothing, but is next. */
void soft_debug_trap(struct soft_cpu *c)
{
	c->dr6 = (c->dr6 & ~UINT64_C(0xf)) | c->debug_pending;
	c->debug_pending = 0;
	c->exception.vector = VEC_DB;
	c->exception.has_error = c->exception.software = c->exception.resume = false;
	c->exception.rip = c->rip;
}

_Noreturn void soft_raise_software(struct soft_cpu *c, const struct insn *i, int vector)
{
	c->rip = soft_rip_wrap(c, soft_rip(c, i));
	c->exception.vector = vector;
	c->exception.has_error = false;
	c->exception.software = true;
	c->exception.resume = false;
	c->exception.rip = soft_next_rip(c, i);
	siglongjmp(c->escape, 1);
}

_Noreturn void soft_break_off(struct soft_cpu *c, const struct insn *i)
{
	c->debug_pending = 0;
	c->rip = soft_rip_wrap(c, soft_rip(c, i));
	block_uncount(c, i);
	atomic_fetch_or_explicit(&c->attention, ATTENTION_KICK, memory_order_relaxed);
	siglongjmp(c->escape, 1);
}

/* ---- Delivery -------------------------------------------------------------------------------- */

/* One event on its way: what is pushed, and where it goes. */
struct event {
	int vector;
	bool has_error, software;
	uint32_t error;
	uint64_t rip;	 /* return address */
	uint64_t rflags; /* image to push */
};

struct gate {
	uint16_t selector;
	uint64_t offset;
	unsigned type, dpl, ist;
	bool present;
};

static void deliver_real(struct soft_cpu *c, const struct event *e)
{
	struct soft_stack s = soft_stack_current(c, 2);
	struct vcpu_segment cs = c->seg[SEG_CS];
	uint32_t entry;

	if (e->vector * 4u + 3 > c->idtr.limit)
		soft_raise(c, NULL, VEC_GP);
	entry = (uint32_t)soft_load_as(c, NULL, c->idtr.base + e->vector * 4u, 4,
				       TLB_BANK_SUPERVISOR);
	soft_stack_push(c, NULL, &s, e->rflags);
	soft_stack_push(c, NULL, &s, cs.selector);
	soft_stack_push(c, NULL, &s, e->rip);
	soft_stack_set(c, s.sp);
	soft_flags_set(c, soft_flags_get(c) & ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
	cs.selector = entry >> 16;
	cs.base = (entry >> 16) << 4;
	soft_code_commit(c, &cs, 0);
	c->rip = entry & 0xffff;
}

static void gate_read(struct soft_cpu *c, const struct event *e, struct gate *g)
{
	unsigned size = soft_long_mode(c) ? 16 : 8;
	uint64_t linear = c->idtr.base + (uint64_t)e->vector * size, raw;

	if (e->vector * size + size - 1 > c->idtr.limit)
		soft_raise_error(c, NULL, VEC_GP, e->vector * 8u + ERROR_IDT);
	raw = soft_load_as(c, NULL, linear, 8, TLB_BANK_SUPERVISOR);
	g->selector = raw >> 16;
	g->offset = (raw & 0xffff) | (raw >> 32 & 0xffff0000);
	g->type = raw >> 40 & 0x1f;
	g->dpl = raw >> 45 & 3;
	g->present = raw >> 47 & 1;
	g->ist = 0;
	if (size == 16) {
		g->ist = raw >> 32 & 7;
		g->offset |= soft_load_as(c, NULL, linear + 8, 4, TLB_BANK_SUPERVISOR) << 32;
	} else if (g->type == TYPE_INT16 || g->type == TYPE_TRAP16) {
		g->offset &= 0xffff;
	}
}

/* Task gates are refused like any other wrong type: hardware task switching is not modelled. */
static void gate_check(struct soft_cpu *c, const struct event *e, const struct gate *g)
{
	uint32_t error = e->vector * 8u + ERROR_IDT;
	bool ok = g->type == TYPE_INT || g->type == TYPE_TRAP;

	if (!soft_long_mode(c))
		ok |= g->type == TYPE_INT16 || g->type == TYPE_TRAP16;
	if (!ok || (e->software && g->dpl < c->cpl))
		soft_raise_error(c, NULL, VEC_GP, error);
	if (!g->present)
		soft_raise_error(c, NULL, VEC_NP, error);
}

/* The handler's code segment; returns the privilege it runs with. */
static unsigned gate_code(struct soft_cpu *c, const struct gate *g, struct vcpu_segment *cs)
{
	uint32_t error = g->selector & ~3u;
	unsigned dpl, cpl;
	uint64_t raw;

	if (!error || !soft_descriptor_read(c, NULL, g->selector, &raw))
		soft_raise_error(c, NULL, VEC_GP, error);
	soft_segment_fill(cs, g->selector, raw);
	dpl = cs->attr >> ATTR_DPL_SHIFT & 3;
	if ((cs->attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) || dpl > c->cpl)
		soft_raise_error(c, NULL, VEC_GP, error);
	if (soft_long_mode(c) && (cs->attr & (ATTR_L | ATTR_DB)) != ATTR_L)
		soft_raise_error(c, NULL, VEC_GP, error);
	if (!(cs->attr & ATTR_P))
		soft_raise_error(c, NULL, VEC_NP, error);
	soft_descriptor_access(c, NULL, g->selector, &raw);
	cs->attr |= ATTR_ACCESSED;
	cpl = cs->attr & ATTR_CONFORMING ? c->cpl : dpl;
	cs->selector = error | cpl;
	return cpl;
}

/* A stack pointer from the TSS; read each time, since the guest rewrites it. */
static uint64_t tss_read(struct soft_cpu *c, unsigned offset, unsigned size)
{
	if (offset + size - 1 > c->tr.limit || !(c->tr.attr & ATTR_P))
		soft_raise_error(c, NULL, VEC_TS, c->tr.selector & ~3u);
	return soft_load_as(c, NULL, c->tr.base + offset, size, TLB_BANK_SUPERVISOR);
}

/* The stack of a 64-bit handler: always aligned, IST or RSPn or the current one. */
static struct soft_stack stack_long(struct soft_cpu *c, const struct gate *g, unsigned cpl)
{
	struct soft_stack s = {.mask = UINT64_MAX, .size = 8, .sp = c->reg[RSP]};

	if (g->ist)
		s.sp = tss_read(c, 0x24 + (g->ist - 1) * 8, 8);
	else if (cpl < c->cpl)
		s.sp = tss_read(c, 4 + cpl * 8, 8);
	if (!soft_canonical(s.sp))
		soft_raise_error(c, NULL, VEC_SS, 0);
	s.sp &= ~(uint64_t)15;
	s.bank = cpl == 3 ? TLB_BANK_USER : TLB_BANK_SUPERVISOR;
	return s;
}

static void deliver_long(struct soft_cpu *c, const struct event *e, const struct gate *g)
{
	struct vcpu_segment cs, ss = c->seg[SEG_SS];
	unsigned cpl = gate_code(c, g, &cs);
	struct soft_stack s = stack_long(c, g, cpl);

	if (!soft_canonical(g->offset))
		soft_raise_error(c, NULL, VEC_GP, 0);
	soft_stack_push(c, NULL, &s, ss.selector);
	soft_stack_push(c, NULL, &s, c->reg[RSP]);
	soft_stack_push(c, NULL, &s, e->rflags);
	soft_stack_push(c, NULL, &s, c->seg[SEG_CS].selector);
	soft_stack_push(c, NULL, &s, e->rip);
	if (e->has_error)
		soft_stack_push(c, NULL, &s, e->error);
	if (cpl < c->cpl)
		c->seg[SEG_SS] =
			(struct vcpu_segment){.selector = cpl, .attr = cpl << ATTR_DPL_SHIFT};
	c->reg[RSP] = s.sp;
	c->rip = g->offset;
	soft_code_commit(c, &cs, cpl);
}

/* The stack of an inner privilege, from the 16- or 32-bit TSS. */
static struct soft_stack stack_inner(struct soft_cpu *c, unsigned cpl, unsigned size,
				     struct vcpu_segment *ss)
{
	bool tss32 = (c->tr.attr & ATTR_TYPE) == TYPE_TSS_BUSY;
	struct soft_stack s = {.size = size};
	uint16_t selector;

	if (tss32) {
		s.sp = tss_read(c, 4 + cpl * 8, 4);
		selector = tss_read(c, 8 + cpl * 8, 2);
	} else {
		s.sp = tss_read(c, 2 + cpl * 4, 2);
		selector = tss_read(c, 4 + cpl * 4, 2);
	}
	soft_segment_stack(c, NULL, selector, cpl, VEC_TS, ss);
	s.base = ss->base;
	s.mask = ss->attr & ATTR_DB ? UINT32_MAX : UINT16_MAX;
	s.limits = ss;
	s.error = selector & ~3u;
	return s;
}

static void deliver_legacy(struct soft_cpu *c, const struct event *e, const struct gate *g)
{
	unsigned size = g->type == TYPE_INT || g->type == TYPE_TRAP ? 4 : 2;
	struct vcpu_segment cs, ss = c->seg[SEG_SS];
	unsigned cpl = gate_code(c, g, &cs);
	bool inner = cpl < c->cpl;
	struct soft_stack s = inner ? stack_inner(c, cpl, size, &ss) : soft_stack_current(c, size);

	if (g->offset > cs.limit)
		soft_raise_error(c, NULL, VEC_GP, 0);
	if (inner) {
		soft_stack_push(c, NULL, &s, c->seg[SEG_SS].selector);
		soft_stack_push(c, NULL, &s, c->reg[RSP]);
	}
	soft_stack_push(c, NULL, &s, e->rflags);
	soft_stack_push(c, NULL, &s, c->seg[SEG_CS].selector);
	soft_stack_push(c, NULL, &s, e->rip);
	if (e->has_error)
		soft_stack_push(c, NULL, &s, e->error);
	c->seg[SEG_SS] = ss;
	soft_code_commit(c, &cs, cpl);
	soft_stack_set(c, s.sp);
	c->rip = g->offset;
}

static void deliver_protected(struct soft_cpu *c, const struct event *e)
{
	uint64_t cleared = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM;
	struct gate g;

	gate_read(c, e, &g);
	gate_check(c, e, &g);
	if (soft_long_mode(c))
		deliver_long(c, e, &g);
	else
		deliver_legacy(c, e, &g);
	if (!(g.type & 1))
		cleared |= FLAG_IF;
	soft_flags_set(c, soft_flags_get(c) & ~cleared);
}

static void deliver(struct soft_cpu *c, const struct event *e)
{
	c->halted = 0;
	c->irq_shadow = 0;
	if (soft_protected(c))
		deliver_protected(c, e);
	else
		deliver_real(c, e);
	c->delivering = -1;
}

void soft_exception_deliver(struct soft_cpu *c)
{
	struct event e = {
		.vector = c->exception.vector,
		.has_error = c->exception.has_error,
		.software = c->exception.software,
		.error = c->exception.error,
		.rip = c->exception.rip,
		.rflags = soft_flags_get(c) | (c->exception.resume ? FLAG_RF : 0),
	};

	invariant(e.vector >= 0 && e.vector < 256);
	c->delivering = e.vector;
	c->delivering_hw = !e.software;
	c->delivering_ext = !e.software;
	c->exception.vector = -1;
	/* The handler may use the debug registers. */
	if (e.vector == VEC_DB && !e.software)
		c->dr7 &= ~(uint64_t)DR7_GD;
	deliver(c, &e);
}

void soft_interrupt_deliver(struct soft_cpu *c, uint8_t vector)
{
	struct event e = {
		.vector = vector,
		.rip = c->rip,
		.rflags = soft_flags_get(c),
	};

	c->delivering = vector;
	c->delivering_hw = 0;
	c->delivering_ext = 1;
	deliver(c, &e);
}
