/* SPDX-License-Identifier: Apache-2.0 */
/* The states a vCPU starts in, after reset and after INIT and SIPI; and which states can be at all. */
#include <string.h>

#include "vmm/cpu/vcpu.h"

/* Present; code or data; accessed. */
#define ATTR_DATA 0x93
#define ATTR_CODE 0x9b
#define ATTR_LDT  0x82
#define ATTR_TSS  0x8b

#define REAL_LIMIT 0xffff

#define FLAG_VM (1u << 17)
#define CR0_PE	(1u << 0)
#define CR0_NW	(1u << 29)
#define CR0_CD	(1u << 30)
#define CR0_PG	(1u << 31)
/* PE MP EM TS ET NE WP AM NW CD PG. */
#define CR0_VALID 0xe005003fu
#define CR4_PAE	  (1u << 5)
#define CR4_PCIDE (1u << 17)
#define EFER_LME  (1u << 8)
#define EFER_LMA  (1u << 10)
/* SCE, LME, LMA, NXE. */
#define EFER_VALID 0xd01u

static void fxsave_reset(uint8_t image[512])
{
	/* FCW 037f, all registers empty, MXCSR 1f80, MXCSR_MASK ffff. */
	image[0] = 0x7f;
	image[1] = 0x03;
	image[24] = 0x80;
	image[25] = 0x1f;
	image[28] = 0xff;
	image[29] = 0xff;
}

void vcpu_state_reset(struct vcpu_state *state)
{
	memset(state, 0, sizeof(*state));
	state->rip = 0xfff0;
	state->rflags = 2;
	for (unsigned n = 0; n < SEG_COUNT; n++)
		state->seg[n] = (struct vcpu_segment){.limit = REAL_LIMIT, .attr = ATTR_DATA};
	state->seg[SEG_CS].selector = 0xf000;
	state->seg[SEG_CS].base = 0xffff0000;
	state->seg[SEG_CS].attr = ATTR_CODE;
	state->ldtr = (struct vcpu_segment){.limit = REAL_LIMIT, .attr = ATTR_LDT};
	state->tr = (struct vcpu_segment){.limit = REAL_LIMIT, .attr = ATTR_TSS};
	state->gdtr.limit = REAL_LIMIT;
	state->idtr.limit = REAL_LIMIT;
	state->cr0 = 0x60000010;
	state->dr6 = 0xffff0ff0;
	state->dr7 = 0x400;
	state->pat = 0x0007040600070406;
	state->misc_enable = 1; /* fast strings */
	fxsave_reset(state->fxsave);
	state->xcr0 = 1;
}

void vcpu_state_sipi(struct vcpu_state *state, uint8_t vector)
{
	vcpu_state_reset(state);
	state->rip = 0;
	state->seg[SEG_CS].selector = (uint16_t)(vector << 8);
	state->seg[SEG_CS].base = (uint64_t)vector << 12;
}

/* Linear addresses have 48 bits, sign-extended. */
static bool canonical(uint64_t address)
{
	return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

bool vcpu_state_possible(const struct vcpu_state *s)
{
	bool paging = s->cr0 & CR0_PG, lme = s->efer & EFER_LME, lma = s->efer & EFER_LMA;

	if ((s->cr0 & ~(uint64_t)CR0_VALID) || (paging && !(s->cr0 & CR0_PE)) ||
	    ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)))
		return false;
	if ((s->efer & ~(uint64_t)EFER_VALID) || lma != (paging && lme) ||
	    (lma && !(s->cr4 & CR4_PAE)) || (!lma && (s->cr4 & CR4_PCIDE)))
		return false;
	if ((s->rflags & FLAG_VM) || s->dr6 >> 32 || s->dr7 >> 32)
		return false;
	return canonical(s->seg[SEG_FS].base) && canonical(s->seg[SEG_GS].base) &&
	       canonical(s->kernel_gs_base);
}
