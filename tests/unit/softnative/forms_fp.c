/* SPDX-License-Identifier: Apache-2.0 */
/* The SSE, SSE2, MMX and x87 forms: whole opcode ranges, but for what the model does not have. */
#include "tests/unit/softnative/softnative.h"

#include <stdio.h>
#include <string.h>

/* Opcode ranges after 0F that hold MMX and SSE to SSE3, which every host has. */
static const struct range {
	uint8_t first, last;
} ranges[] = {
	{0x10, 0x17}, {0x28, 0x2f}, {0x50, 0x77}, {0x7c, 0x7f}, {0xc2, 0xc6}, {0xd0, 0xfe},
};

/* What hosts may have and the model has not: SSE4a (MOVNTSS, MOVNTSD). */
static bool beyond_model(unsigned opcode, unsigned prefix)
{
	return opcode == 0x2b && (prefix == 0xf2 || prefix == 0xf3);
}

static bool has_imm8(unsigned opcode)
{
	return (opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 ||
	       (opcode >= 0xc4 && opcode <= 0xc6);
}

static unsigned add_sse(struct form *forms, unsigned count, unsigned opcode, unsigned prefix,
			int ext, bool memory)
{
	struct form *f = &forms[count];
	bool mmx =
		opcode >= 0x60 && prefix == 0 && opcode != 0xc2 && opcode != 0xc3 && opcode != 0xc6;

	memset(f, 0, sizeof(*f));
	if (ext >= 0)
		snprintf(f->name, sizeof(f->name), "0f%02x/%d p%02x %s", opcode, ext, prefix,
			 memory ? "m" : "r");
	else
		snprintf(f->name, sizeof(f->name), "0f%02x p%02x %s", opcode, prefix,
			 memory ? "m" : "r");
	f->class = mmx ? CLASS_MMX : CLASS_SSE;
	f->prefix = (uint8_t)prefix;
	f->map = 1;
	f->opcode = (uint8_t)opcode;
	f->ext = (int8_t)ext;
	f->imm = has_imm8(opcode) ? IMM_8 : IMM_NONE;
	f->flags = F_W | (memory ? F_MEM : F_REG) | (mmx ? 0 : F_ALIGN);
	f->special = opcode == 0xf7 && !memory ? SP_MASKMOV : SP_NONE;
	return count + 1;
}

static unsigned add_opcode(struct form *forms, unsigned count, unsigned opcode, unsigned prefix)
{
	if (beyond_model(opcode, prefix))
		return count;
	if (opcode == 0x77) { /* EMMS has no modrm */
		count = add_sse(forms, count, opcode, prefix, EXT_NONE, false);
		forms[count - 1].flags = 0;
		return count;
	}
	if (opcode >= 0x71 && opcode <= 0x73) {
		for (int digit = 0; digit < 8; digit++)
			count = add_sse(forms, count, opcode, prefix, digit, false);
		return add_sse(forms, count, opcode, prefix, 2, true);
	}
	count = add_sse(forms, count, opcode, prefix, EXT_R, false);
	return add_sse(forms, count, opcode, prefix, EXT_R, true);
}

static enum form_special x87_special(unsigned opcode, unsigned digit)
{
	switch (opcode << 4 | digit) {
	case 0xd94:
		return SP_FLDENV;
	case 0xd96:
		return SP_FNSTENV;
	case 0xdb5:
		return SP_LOAD80;
	case 0xdd4:
		return SP_FRSTOR;
	case 0xdd6:
		return SP_FNSAVE;
	case 0xdf4:
		return SP_LOADBCD;
	default:
		return SP_NONE;
	}
}

static unsigned forms_x87(struct form *forms, unsigned count)
{
	for (unsigned n = 0; n < 8 * (8 + 64); n++) {
		struct form *f = &forms[count];
		unsigned opcode = 0xd8 + n / 72, k = n % 72;

		memset(f, 0, sizeof(*f));
		f->class = CLASS_X87;
		f->opcode = (uint8_t)opcode;
		if (k < 8) {
			snprintf(f->name, sizeof(f->name), "x87 %02x/%u", opcode, k);
			f->ext = (int8_t)k;
			f->flags = F_MEM | (opcode == 0xd9 || opcode == 0xdd ? F_66 : 0);
			f->special = x87_special(opcode, k);
		} else {
			f->modrm = (uint8_t)(0xc0 + k - 8);
			snprintf(f->name, sizeof(f->name), "x87 %02x %02x", opcode, f->modrm);
			f->ext = EXT_FULL;
		}
		count++;
	}
	return count;
}

static const struct form state_forms[] = {
	{"fxsave", CLASS_STATE, 0, 1, 0xae, 0, 0, IMM_NONE, F_W | F_MEM | F_ALIGN, SP_FXSAVE, 0},
	{"fxrstor", CLASS_STATE, 0, 1, 0xae, 1, 0, IMM_NONE, F_W | F_MEM | F_ALIGN, SP_FXRSTOR, 0},
	{"ldmxcsr", CLASS_STATE, 0, 1, 0xae, 2, 0, IMM_NONE, F_MEM, SP_LDMXCSR, 0},
	{"stmxcsr", CLASS_STATE, 0, 1, 0xae, 3, 0, IMM_NONE, F_MEM, SP_NONE, 0},
	{"clflush", CLASS_STATE, 0, 1, 0xae, 7, 0, IMM_NONE, F_MEM, SP_NONE, 0},
	{"lfence", CLASS_STATE, 0, 1, 0xae, EXT_FULL, 0xe8, IMM_NONE, 0, SP_NONE, 0},
	{"mfence", CLASS_STATE, 0, 1, 0xae, EXT_FULL, 0xf0, IMM_NONE, 0, SP_NONE, 0},
	{"sfence", CLASS_STATE, 0, 1, 0xae, EXT_FULL, 0xf8, IMM_NONE, 0, SP_NONE, 0},
	{"fwait", CLASS_X87, 0, 0, 0x9b, EXT_NONE, 0, IMM_NONE, 0, SP_NONE, 0},
};

unsigned forms_fp(struct form *forms, unsigned count)
{
	static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};

	for (unsigned r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++)
		for (unsigned op = ranges[r].first; op <= ranges[r].last; op++)
			for (unsigned p = 0; p < 4; p++)
				count = add_opcode(forms, count, op, prefixes[p]);
	count = forms_x87(forms, count);
	memcpy(forms + count, state_forms, sizeof(state_forms));
	return count + sizeof(state_forms) / sizeof(state_forms[0]);
}
