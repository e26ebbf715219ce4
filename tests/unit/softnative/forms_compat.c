/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of compatibility mode: what 64-bit mode shares with it, and what only it has. */
#include "tests/unit/softnative/softnative.h"

#include <string.h>

#define U_DECIMAL (OF)
#define U_ASCII	  (OF | SF | ZF | PF)
#define U_AAM	  (OF | AF | CF)

#define OWN(name, class, map, op, ext, imm, flags, special, undef)                                 \
	{name, class, 0, map, op, ext, 0, imm, flags, special, undef}

static const struct form own_forms[] = {
	OWN("inc r", CLASS_ALU, 0, 0x40, EXT_NONE, IMM_NONE, F_66 | F_PLUS, SP_NONE, 0),
	OWN("dec r", CLASS_ALU, 0, 0x48, EXT_NONE, IMM_NONE, F_66 | F_PLUS, SP_NONE, 0),
	OWN("add 82", CLASS_ALU, 0, 0x82, 0, IMM_8, F_BYTE | F_LOCK, SP_NONE, 0),
	OWN("sbb 82", CLASS_ALU, 0, 0x82, 3, IMM_8, F_BYTE | F_LOCK, SP_NONE, 0),
	OWN("cmp 82", CLASS_ALU, 0, 0x82, 7, IMM_8, F_BYTE, SP_NONE, 0),
	OWN("daa", CLASS_MULDIV, 0, 0x27, EXT_NONE, IMM_NONE, 0, SP_NONE, U_DECIMAL),
	OWN("das", CLASS_MULDIV, 0, 0x2f, EXT_NONE, IMM_NONE, 0, SP_NONE, U_DECIMAL),
	OWN("aaa", CLASS_MULDIV, 0, 0x37, EXT_NONE, IMM_NONE, 0, SP_NONE, U_ASCII),
	OWN("aas", CLASS_MULDIV, 0, 0x3f, EXT_NONE, IMM_NONE, 0, SP_NONE, U_ASCII),
	OWN("aam", CLASS_MULDIV, 0, 0xd4, EXT_NONE, IMM_8, 0, SP_NONE, U_AAM),
	OWN("aad", CLASS_MULDIV, 0, 0xd5, EXT_NONE, IMM_8, 0, SP_NONE, U_AAM),
	OWN("pusha", CLASS_STACK, 0, 0x60, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_NONE, 0),
	OWN("popa", CLASS_STACK, 0, 0x61, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_POPA, 0),
	OWN("push es", CLASS_STACK, 0, 0x06, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_PUSH_SREG, 0),
	OWN("push cs", CLASS_STACK, 0, 0x0e, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_PUSH_SREG, 0),
	OWN("push ss", CLASS_STACK, 0, 0x16, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_PUSH_SREG, 0),
	OWN("push ds", CLASS_STACK, 0, 0x1e, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_PUSH_SREG, 0),
	OWN("pop es", CLASS_STACK, 0, 0x07, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_POP_SREG, 0),
	OWN("pop ss", CLASS_STACK, 0, 0x17, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_POP_SREG, 0),
	OWN("pop ds", CLASS_STACK, 0, 0x1f, EXT_NONE, IMM_NONE, F_66 | F_STACK, SP_POP_SREG, 0),
	OWN("les", CLASS_MOVE, 0, 0xc4, EXT_R, IMM_NONE, F_66 | F_MEM, SP_LOAD_FAR, 0),
	OWN("lds", CLASS_MOVE, 0, 0xc5, EXT_R, IMM_NONE, F_66 | F_MEM, SP_LOAD_FAR, 0),
	OWN("bound", CLASS_MISC, 0, 0x62, EXT_R, IMM_NONE, F_66 | F_MEM, SP_BOUND, 0),
	OWN("arpl", CLASS_MISC, 0, 0x63, EXT_R, IMM_NONE, 0, SP_NONE, 0),
	OWN("into", CLASS_MISC, 0, 0xce, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	OWN("callf imm", CLASS_BRANCH, 0, 0x9a, EXT_NONE, IMM_FAR, F_STACK, SP_NONE, 0),
	OWN("jmpf imm", CLASS_BRANCH, 0, 0xea, EXT_NONE, IMM_FAR, 0, SP_NONE, 0),
};

/* Opcodes without a prefix map that are invalid in 64-bit mode only, or mean something else there.
 * SALC (D6) is not of the CPU model, though processors have it. */
static bool own_opcode(uint8_t opcode)
{
	static const uint8_t opcodes[] = {0x06, 0x07, 0x0e, 0x16, 0x1f, 0x27, 0x2f,
					  0x37, 0x3f, 0x60, 0x61, 0x63, 0x82, 0x9a,
					  0xce, 0xd4, 0xd5, 0xd6, 0xea};

	return memchr(opcodes, opcode, sizeof(opcodes));
}

/* SYSRET outside of 64-bit mode is up to the vendor. */
static bool form_shared(const struct form *f)
{
	if (f->map == 0)
		return !own_opcode(f->opcode);
	return f->map != 1 || f->opcode != 0x07;
}

unsigned forms_compat(struct form *forms, unsigned count)
{
	unsigned end = forms_newer(forms, forms_fp(forms, forms_int(forms, count)));

	for (unsigned n = count; n < end; n++) {
		if (!form_shared(&forms[n]))
			continue;
		forms[count] = forms[n];
		if (forms[count].map == 1 && (forms[count].opcode & 0xf7) == 0xa0)
			forms[count].special = SP_PUSH_SREG;
		count++;
	}
	memcpy(forms + count, own_forms, sizeof(own_forms));
	return count + sizeof(own_forms) / sizeof(own_forms[0]);
}
