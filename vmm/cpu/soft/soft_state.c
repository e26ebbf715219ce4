/* SPDX-License-Identifier: Apache-2.0 */
/* The architectural state as a whole: what state_get gives and state_set checks and takes. */
#include <errno.h>

#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_system.h"

/* What waits for delivery. Exceptions are delivered before run returns: only others can wait. */
static void events_give(const struct soft_cpu *c, struct vcpu_state *out)
{
	out->nmi_pending = c->nmi_pending;
	if (c->pending_irq < 0)
		return;
	out->event = VCPU_EVENT_INTERRUPT;
	out->event_vector = (uint8_t)c->pending_irq;
}

static void events_take(struct soft_cpu *c, const struct vcpu_state *s)
{
	c->nmi_pending = s->nmi_pending;
	c->pending_irq = s->event == VCPU_EVENT_INTERRUPT ? s->event_vector : -1;
	c->exception.vector = s->event == VCPU_EVENT_EXCEPTION ? s->event_vector : -1;
	c->exception.has_error = s->event_has_error;
	c->exception.error = s->event_error;
	c->exception.software = false;
	c->exception.resume = s->event_vector != VEC_DB;
	c->exception.rip = s->rip;
}

static bool event_valid(const struct vcpu_state *s)
{
	if (s->event == VCPU_EVENT_EXCEPTION)
		return s->event_vector < 32 && s->event_vector != VEC_NMI;
	return s->event <= VCPU_EVENT_EXCEPTION;
}

void soft_state_get(const struct vcpu *v, struct vcpu_state *out)
{
	const struct soft_cpu *c = (const struct soft_cpu *)v;

	memset(out, 0, sizeof(*out));
	memcpy(out->gpr, c->reg, sizeof(out->gpr));
	out->rip = c->rip;
	out->rflags = soft_flags_get(c);
	memcpy(out->seg, c->seg, sizeof(out->seg));
	out->ldtr = c->ldtr;
	out->tr = c->tr;
	out->gdtr = c->gdtr;
	out->idtr = c->idtr;
	out->cr0 = c->cr0;
	out->cr2 = c->cr2;
	out->cr3 = c->cr3;
	out->cr4 = c->cr4;
	out->efer = c->efer;
	memcpy(out->dr, c->dr, sizeof(out->dr));
	out->dr6 = c->dr6;
	out->dr7 = c->dr7;
	out->star = c->star;
	out->lstar = c->lstar;
	out->cstar = c->cstar;
	out->sfmask = c->sfmask;
	out->kernel_gs_base = c->kernel_gs_base;
	out->sysenter_cs = c->sysenter_cs;
	out->sysenter_esp = c->sysenter_esp;
	out->sysenter_eip = c->sysenter_eip;
	out->pat = c->pat;
	out->tsc_offset = c->tsc_offset;
	out->tsc_aux = c->tsc_aux;
	out->misc_enable = c->misc_enable;
	soft_fp_save(c, out->fxsave);
	out->xcr0 = c->xcr0;
	memcpy(out->ymm_high, c->ymm_high, sizeof(out->ymm_high));
	out->irq_shadow = c->irq_shadow != 0;
	out->nmi_blocked = c->nmi_blocked;
	out->halted = c->halted;
	events_give(c, out);
}

/* What no sequence of instructions could have made. */
static bool state_valid(const struct soft_cpu *c, const struct vcpu_state *s)
{
	return vcpu_state_possible(s) && event_valid(s) && !(s->cr4 & ~soft_cr4_valid(c)) &&
	       !(s->cr3 & ~SOFT_PHYS_MASK) && soft_xcr0_valid(c, s->xcr0);
}

static void state_take_system(struct soft_cpu *c, const struct vcpu_state *s)
{
	c->cr0 = s->cr0 | CR0_ET;
	c->cr2 = s->cr2;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->efer = s->efer;
	memcpy(c->dr, s->dr, sizeof(c->dr));
	c->dr6 = s->dr6;
	c->dr7 = s->dr7;
	c->star = s->star;
	c->lstar = s->lstar;
	c->cstar = s->cstar;
	c->sfmask = s->sfmask;
	c->kernel_gs_base = s->kernel_gs_base;
	c->sysenter_cs = s->sysenter_cs;
	c->sysenter_esp = s->sysenter_esp;
	c->sysenter_eip = s->sysenter_eip;
	c->pat = s->pat;
	c->tsc_offset = s->tsc_offset;
	c->tsc_aux = s->tsc_aux;
	c->misc_enable = s->misc_enable;
}

int soft_state_set(struct vcpu *v, const struct vcpu_state *s)
{
	struct soft_cpu *c = (struct soft_cpu *)v;

	if (!state_valid(c, s) || soft_fp_restore(c, s->fxsave))
		return -EINVAL;
	c->xcr0 = s->xcr0;
	memcpy(c->ymm_high, s->ymm_high, sizeof(c->ymm_high));
	memcpy(c->reg, s->gpr, sizeof(s->gpr));
	c->rip = s->rip;
	soft_flags_set(c, s->rflags);
	memcpy(c->seg, s->seg, sizeof(c->seg));
	c->ldtr = s->ldtr;
	c->tr = s->tr;
	c->gdtr = s->gdtr;
	c->idtr = s->idtr;
	state_take_system(c, s);
	c->irq_shadow = s->irq_shadow ? SHADOW_STI : 0;
	c->nmi_blocked = s->nmi_blocked;
	c->halted = s->halted;
	events_take(c, s);
	c->delivering = -1;
	/* As hardware's own state format has it, SS tells the privilege. */
	c->cpl = soft_protected(c) ? c->seg[SEG_SS].attr >> ATTR_DPL_SHIFT & 3 : 0;
	c->debug_pending = 0;
	soft_tlb_flush(c, true);
	soft_tlb_enter(c, c->cr4 & CR4_PCIDE ? c->cr3 & SOFT_PCID_MASK : 0, true);
	soft_mode_update(c);
	soft_debug_update(c);
	return 0;
}
