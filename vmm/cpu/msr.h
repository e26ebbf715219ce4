/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers: their numbers, and those that read the same on every CPU here. */
#ifndef VMM_MSR_H
#define VMM_MSR_H

#include <stdbool.h>
#include <stdint.h>

/* SDM 4; APM 2, appendix A. */
#define MSR_TSC		   0x10u
#define MSR_PLATFORM_ID	   0x17u
#define MSR_APIC_BASE	   0x1bu
#define MSR_SMI_COUNT	   0x34u
#define MSR_FEAT_CTL	   0x3au
#define MSR_TSC_ADJUST	   0x3bu
#define MSR_UCODE_REV	   0x8bu
#define MSR_MTRRCAP	   0xfeu
#define MSR_SYSENTER_CS	   0x174u
#define MSR_SYSENTER_ESP   0x175u
#define MSR_SYSENTER_EIP   0x176u
#define MSR_MISC_ENABLE	   0x1a0u
#define MSR_PAT		   0x277u
#define MSR_TSC_DEADLINE   0x6e0u
#define MSR_X2APIC_FIRST   0x800u
#define MSR_X2APIC_LAST	   0x8ffu
#define MSR_EFER	   0xc0000080u
#define MSR_STAR	   0xc0000081u
#define MSR_LSTAR	   0xc0000082u
#define MSR_CSTAR	   0xc0000083u
#define MSR_SFMASK	   0xc0000084u
#define MSR_FS_BASE	   0xc0000100u
#define MSR_GS_BASE	   0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX	   0xc0000103u
#define MSR_AMD_HWCR	   0xc0010015u
#define MSR_AMD_NB_CFG	   0xc001001fu

/* The machine's, on its bus: the APIC and its timer. */
static inline bool msr_is_bus(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

/* Those that every kernel reads on a CPU of this model, and that never change: true, and the value.
 */
static inline bool msr_is_constant(uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_FEAT_CTL:
		*value = 1; /* locked, nothing enabled */
		return true;
	case MSR_AMD_HWCR:
		*value = 1u << 24; /* the TSC counts at one rate */
		return true;
	case MSR_AMD_NB_CFG:
		*value = UINT64_C(1)
			 << 46; /* extended configuration by port 0xcf8: nothing to set */
		return true;
	case MSR_PLATFORM_ID:
	case MSR_SMI_COUNT:
	case MSR_UCODE_REV:
	case MSR_MTRRCAP: /* no MTRRs */
		*value = 0;
		return true;
	default:
		return false;
	}
}

#endif
