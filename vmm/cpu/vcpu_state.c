/* SPDX-License-Identifier: Apache-2.0 */
/* The states a vCPU starts in: after reset, and after INIT and SIPI. */
#include <string.h>

#include "vmm/cpu/vcpu.h"

/* Present; code or data; accessed. */
#define ATTR_DATA 0x93
#define ATTR_CODE 0x9b
#define ATTR_LDT  0x82
#define ATTR_TSS  0x8b

#define REAL_LIMIT 0xffff

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
}

void vcpu_state_sipi(struct vcpu_state *state, uint8_t vector)
{
	vcpu_state_reset(state);
	state->rip = 0;
	state->seg[SEG_CS].selector = (uint16_t)(vector << 8);
	state->seg[SEG_CS].base = (uint64_t)vector << 12;
}
