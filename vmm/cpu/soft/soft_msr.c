/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers (SDM 4) and the time-stamp counter. */
#include <errno.h>

#include "vmm/clock/clock.h"
#include "vmm/cpu/msr.h"
#include "vmm/cpu/soft/soft_system.h"

/*
 * What is here is what the CPU model advertises, and what kernels read unconditionally on a CPU of
 * this family. Anything else is #GP, as on hardware.
 */
/* ---- TSC ------------------------------------------------------------------------------------- */

static uint64_t guest_time_ns(const struct vcpu_config *config)
{
	uint64_t now_ns;

	if (likely(config->clock))
		return guest_clock_now(config->clock);
	now_ns = clock_now_ns();
	return now_ns > config->tsc_origin_ns ? now_ns - config->tsc_origin_ns : 0;
}

/* Without the vCPU's offset: the same for all vCPUs of a VM. */
static uint64_t tsc_base(const struct soft_cpu *c)
{
	uint64_t ns = guest_time_ns(&c->config);

	if (c->config.tsc_hz == NS_PER_S)
		return ns;
	return (uint64_t)((unsigned __int128)ns * c->config.tsc_hz / NS_PER_S);
}

uint64_t soft_tsc(const struct soft_cpu *c)
{
	return tsc_base(c) + c->tsc_offset;
}

/* ---- Read ------------------------------------------------------------------------------------ */

/* MSRs that are plain 64-bit fields. */
static uint64_t *msr_field(struct soft_cpu *c, uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_CS:
		return &c->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &c->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &c->sysenter_eip;
	case MSR_MISC_ENABLE:
		return &c->misc_enable;
	case MSR_PAT:
		return &c->pat;
	case MSR_EFER:
		return &c->efer;
	case MSR_STAR:
		return &c->star;
	case MSR_LSTAR:
		return &c->lstar;
	case MSR_CSTAR:
		return &c->cstar;
	case MSR_SFMASK:
		return &c->sfmask;
	case MSR_FS_BASE:
		return &c->seg[SEG_FS].base;
	case MSR_GS_BASE:
		return &c->seg[SEG_GS].base;
	case MSR_KERNEL_GS_BASE:
		return &c->kernel_gs_base;
	case MSR_TSC_AUX:
		return &c->tsc_aux;
	case MSR_TSC_ADJUST: /* moves with every change of the counter, as the offset does */
		return &c->tsc_offset;
	default:
		return NULL;
	}
}

static int msr_read(struct soft_cpu *c, uint32_t msr, uint64_t *value)
{
	const uint64_t *field = msr_field(c, msr);

	if (field) {
		*value = *field;
		return 0;
	}
	if (msr_is_bus(msr))
		return c->config.bus.msr_read(c->config.bus.ctx, c->vcpu.id, msr, value);
	if (msr == MSR_TSC) {
		*value = soft_tsc(c);
		return 0;
	}
	return msr_is_constant(msr, value) ? 0 : -EINVAL;
}

/* ---- Write ----------------------------------------------------------------------------------- */

static int efer_write(struct soft_cpu *c, uint64_t value)
{
	uint64_t changed = c->efer ^ value;

	if (value & ~(uint64_t)EFER_VALID)
		return -EINVAL;
	if ((changed & EFER_LME) && (c->cr0 & CR0_PG))
		return -EINVAL;
	c->efer = (value & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
	if (changed & EFER_NXE)
		soft_tlb_flush(c, true);
	return 0;
}

/* Memory types: UC, WC, WT, WP, WB, UC-. */
static bool pat_valid(uint64_t value)
{
	for (unsigned n = 0; n < 8; n++, value >>= 8)
		if ((value & 0xff) > 7 || (value & 0xff) == 2 || (value & 0xff) == 3)
			return false;
	return true;
}

/* May value be written to a plain field? */
static bool field_valid(uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
		return soft_canonical(value);
	case MSR_PAT:
		return pat_valid(value);
	case MSR_TSC_AUX:
		return value <= UINT32_MAX;
	default:
		return true;
	}
}

static int msr_write(struct soft_cpu *c, uint32_t msr, uint64_t value)
{
	uint64_t *field = msr_field(c, msr);

	if (msr == MSR_EFER)
		return efer_write(c, value);
	if (field) {
		if (!field_valid(msr, value))
			return -EINVAL;
		/* AMD's processors keep 32 bits of these, since long mode does not use them. */
		if (c->amd && (msr == MSR_SYSENTER_ESP || msr == MSR_SYSENTER_EIP))
			value = (uint32_t)value;
		*field = value;
		return 0;
	}
	if (msr_is_bus(msr))
		return c->config.bus.msr_write(c->config.bus.ctx, c->vcpu.id, msr, value);
	switch (msr) {
	case MSR_TSC:
		c->tsc_offset = value - tsc_base(c);
		return 0;
	case MSR_UCODE_REV: /* written before CPUID by who reads the revision */
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- Instructions ---------------------------------------------------------------------------- */

const struct insn *soft_rdmsr(struct soft_cpu *c, const struct insn *i)
{
	uint64_t value = 0;

	soft_require_cpl0(c, i);
	if (msr_read(c, (uint32_t)c->reg[RCX], &value))
		soft_raise_error(c, i, VEC_GP, 0);
	c->reg[RAX] = (uint32_t)value;
	c->reg[RDX] = value >> 32;
	return SOFT_NEXT(c, i);
}

const struct insn *soft_wrmsr(struct soft_cpu *c, const struct insn *i)
{
	uint32_t msr = (uint32_t)c->reg[RCX];

	soft_require_cpl0(c, i);
	if (msr_write(c, msr, c->reg[RDX] << 32 | (uint32_t)c->reg[RAX]))
		soft_raise_error(c, i, VEC_GP, 0);
	return SOFT_LEAVE(c, soft_next_rip(c, i));
}
