/* SPDX-License-Identifier: Apache-2.0 */
/* The software CPU as a CPU engine: its life, its run loop, and the events between instructions. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/cpu/soft/soft_code.h"
#include "vmm/cpu/soft/soft_system.h"

static struct soft_cpu *soft_of(struct vcpu *v)
{
	return (struct soft_cpu *)v;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void soft_destroy(struct vcpu *v)
{
	struct soft_cpu *c = soft_of(v);

	if (!c)
		return;
	soft_code_part(c);
	soft_cache_destroy(c);
	free(c);
}

static void model_read(void *ctx, uint32_t leaf, uint32_t regs[4])
{
	const struct soft_cpu *c = ctx;
	struct vcpu_cpuid r = {0};

	c->config.cpuid(c->config.cpuid_ctx, c->vcpu.id, leaf, 0, &r);
	regs[0] = r.eax, regs[1] = r.ebx, regs[2] = r.ecx, regs[3] = r.edx;
}

static int soft_create(const struct vcpu_config *config, struct vcpu **out)
{
	size_t size = (sizeof(struct soft_cpu) + 63) & ~(size_t)63;
	struct vcpu_cpuid leaf0;
	struct vcpu_state reset;
	struct soft_cpu *c;
	int err;

	if (!config->shared || !config->cpuid || !config->tsc_hz)
		return -EINVAL;
	c = aligned_alloc(64, size);
	if (!c)
		return -ENOMEM;
	memset(c, 0, size);
	c->vcpu.ops = &vcpu_soft_ops;
	c->vcpu.id = config->id;
	c->config = *config;
	c->vm = config->shared;
	config->cpuid(config->cpuid_ctx, config->id, 0, 0, &leaf0);
	c->amd = vcpu_vendor(&leaf0) == CPU_VENDOR_AMD;
	c->features = cpu_features_read(model_read, c);
	soft_tlb_init(c);
	err = soft_cache_create(c);
	if (err) {
		free(c);
		return err;
	}
	soft_fp_reset(c);
	vcpu_state_reset(&reset);
	err = soft_code_join(c);
	if (!err)
		err = soft_state_set(&c->vcpu, &reset);
	if (err) {
		soft_destroy(&c->vcpu);
		return err;
	}
	*out = &c->vcpu;
	return 0;
}

/* ---- Events between instructions ------------------------------------------------------------- */

static bool soft_interrupt_ready(const struct vcpu *v)
{
	const struct soft_cpu *c = (const struct soft_cpu *)v;

	return (c->rflags & FLAG_IF) && !c->irq_shadow && c->pending_irq < 0 &&
	       c->exception.vector < 0;
}

static void soft_interrupt(struct vcpu *v, uint8_t vector)
{
	soft_of(v)->pending_irq = vector;
}

static void soft_irq_window(struct vcpu *v, bool wanted)
{
	soft_of(v)->irq_window = wanted;
}

static void soft_nmi(struct vcpu *v)
{
	soft_of(v)->nmi_pending = 1;
}

/* Release: what the caller did before (an interrupt put into the APIC) is seen after the kick. */
static void soft_kick(struct vcpu *v)
{
	atomic_fetch_or_explicit(&soft_of(v)->attention, ATTENTION_KICK, memory_order_release);
}

/*
 * Delivers what is due, by the SDM's order (3A, table 6-2): the exception of the last instruction, its
 * debug trap, NMI, the injected interrupt. A fault in a delivery comes back here as the next exception, and at
 * the third it is a triple fault, so the loop ends.
 */
static void events_deliver(struct soft_cpu *c)
{
	for (;;) {
		if (c->exception.vector == VEC_TRIPLE_FAULT)
			return;
		if (c->exception.vector >= 0) {
			soft_exception_deliver(c);
		} else if (c->debug_pending && c->irq_shadow != SHADOW_MOV_SS) {
			soft_debug_trap(c);
		} else if (c->nmi_pending && !c->nmi_blocked && !c->irq_shadow) {
			c->nmi_pending = 0;
			c->nmi_blocked = 1;
			soft_interrupt_deliver(c, VEC_NMI);
		} else if (c->pending_irq >= 0) {
			uint8_t vector = (uint8_t)c->pending_irq;

			c->pending_irq = -1;
			soft_interrupt_deliver(c, vector);
		} else {
			return;
		}
	}
}

/* Attention is cleared before anything that it announces is looked at (the machine looks after run
 * has returned): whatever comes later sets it again. */
static bool kick_taken(struct soft_cpu *c)
{
	uint32_t attention;

	if (likely(!atomic_load_explicit(&c->attention, memory_order_relaxed)))
		return false;
	attention = atomic_exchange(&c->attention, 0);
	if (attention & ATTENTION_CODE)
		soft_code_acknowledge(c);
	return attention & ATTENTION_KICK;
}

/* Is there a reason to return from run? */
static bool run_exits(struct soft_cpu *c, struct vcpu_exit *exit)
{
	exit->error = 0;
	if (c->exception.vector == VEC_TRIPLE_FAULT)
		exit->reason = VCPU_EXIT_SHUTDOWN;
	else if (kick_taken(c))
		exit->reason = VCPU_EXIT_KICKED;
	else if (c->irq_window && soft_interrupt_ready(&c->vcpu))
		exit->reason = VCPU_EXIT_IRQ_WINDOW;
	else if (c->halted)
		exit->reason = VCPU_EXIT_HLT;
	else
		return false;
	return true;
}

/* ---- Execution ------------------------------------------------------------------------------- */

/* One instruction alone: after STI or MOV SS without interrupts, with RF without instruction
 * breakpoints, and with TF followed by #DB. */
static void run_one(struct soft_cpu *c)
{
	bool trap = c->rflags & FLAG_TF;

	if (trap)
		c->leave |= LEAVE_STEP;
	soft_exec_one(c);
	if (trap && !(c->leave & LEAVE_NO_TRAP) && c->irq_shadow != SHADOW_MOV_SS)
		c->debug_pending |= DR6_BS;
}

static void soft_run(struct vcpu *v, struct vcpu_exit *exit)
{
	struct soft_cpu *c = soft_of(v);

	soft_code_unpark(c);
	/* Exceptions come back here; c and exit do not change. */
	(void)sigsetjmp(c->escape, 0);
	for (;;) {
		events_deliver(c);
		if (run_exits(c, exit))
			break;
		c->leave = 0;
		if (unlikely(c->irq_shadow || (c->rflags & (FLAG_TF | FLAG_RF))))
			run_one(c);
		else
			soft_exec(c);
	}
	soft_code_park(c);
}

static uint64_t soft_instructions(const struct vcpu *v)
{
	return __atomic_load_n(&((const struct soft_cpu *)v)->insn_count, __ATOMIC_RELAXED);
}

static uint64_t soft_place(const struct vcpu *v)
{
	return __atomic_load_n(&((const struct soft_cpu *)v)->reg[REG_RIP], __ATOMIC_RELAXED);
}

const struct vcpu_ops vcpu_soft_ops = {
	.name = "soft",
	.shared_create = soft_vm_create,
	.shared_destroy = soft_vm_destroy,
	.image_add = soft_vm_image_add,
	.create = soft_create,
	.destroy = soft_destroy,
	.run = soft_run,
	.interrupt_ready = soft_interrupt_ready,
	.interrupt = soft_interrupt,
	.irq_window = soft_irq_window,
	.nmi = soft_nmi,
	.kick = soft_kick,
	.memory_changed = soft_code_changed,
	.state_get = soft_state_get,
	.state_set = soft_state_set,
	.instructions = soft_instructions,
	.place = soft_place,
};
