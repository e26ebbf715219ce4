/* SPDX-License-Identifier: Apache-2.0 */
/* Read-modify-write instructions as tests of several folders need them: a table, and their bytes. */
#ifndef TESTS_MODIFY_FORMS_H
#define TESTS_MODIFY_FORMS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cpu/vcpu.h"

enum {
	FORM_LOCKABLE = 1,
	FORM_ALONE = 2,	 /* the host does it alone without LOCK too */
	FORM_WIDE = 4,	 /* no byte operand */
	FORM_HIGHER = 8, /* 4 and 8 bytes are 8 and 16: CMPXCHG8B, CMPXCHG16B */
};

/* In place of a register: the one that the test likes. */
#define FORM_OTHER UINT8_MAX

/* Opcode of a byte operand, or of FORM_WIDE ones; imm bytes of immediate, 0x80: as wide as the
 * operand, 4 at most. */
struct modify_form {
	const char *name;
	uint8_t map, opcode, reg, imm;
	unsigned kind;
};

#define FORMS_ALU(name, op)                                                                        \
	{name " m, r", 0, 8 * (op), FORM_OTHER, 0, FORM_LOCKABLE},                                 \
		{name " m, i", 0, 0x80, op, 0x80, FORM_LOCKABLE},                                  \
	{                                                                                          \
		name " m, i8", 0, 0x83, op, 1, FORM_LOCKABLE | FORM_WIDE                           \
	}
#define FORMS_BIT(name, op)                                                                        \
	{name " m, r", 0x0f, 0xa3 + 8 * ((op) - 4), RDX, 0, FORM_LOCKABLE | FORM_WIDE},            \
	{                                                                                          \
		name " m, i", 0x0f, 0xba, op, 1, FORM_LOCKABLE | FORM_WIDE                         \
	}

/* All that can have a LOCK, but CMPXCHG8B and CMPXCHG16B. */
#define FORMS_LOCKABLE                                                                             \
	FORMS_ALU("add", 0), FORMS_ALU("or", 1), FORMS_ALU("adc", 2), FORMS_ALU("sbb", 3),         \
		FORMS_ALU("and", 4), FORMS_ALU("sub", 5), FORMS_ALU("xor", 6),                     \
		FORMS_BIT("bts", 5), FORMS_BIT("btr", 6), FORMS_BIT("btc", 7),                     \
		{"inc", 0, 0xfe, 0, 0, FORM_LOCKABLE}, {"dec", 0, 0xfe, 1, 0, FORM_LOCKABLE},      \
		{"not", 0, 0xf6, 2, 0, FORM_LOCKABLE}, {"neg", 0, 0xf6, 3, 0, FORM_LOCKABLE},      \
		{"xchg", 0, 0x86, RCX, 0, FORM_LOCKABLE | FORM_ALONE},                             \
		{"xadd", 0x0f, 0xc0, RCX, 0, FORM_LOCKABLE | FORM_ALONE},                          \
	{                                                                                          \
		"cmpxchg", 0x0f, 0xb0, RCX, 0, FORM_LOCKABLE | FORM_ALONE                          \
	}

/* The most bytes of one, and a HLT. */
#define FORM_BYTES_MAX 16

/*
 * The instruction on [base] (a register without SIB and displacement) and a HLT behind it; how many
 * bytes. The immediate's bytes count from imm.
 */
static inline unsigned modify_form_bytes(const struct modify_form *f, unsigned size, bool lock,
					 unsigned base, unsigned other, uint8_t imm,
					 uint8_t code[FORM_BYTES_MAX])
{
	unsigned n = 0, imm_bytes = f->imm == 0x80 ? (size < 4 ? size : 4) : f->imm;

	if (lock)
		code[n++] = 0xf0;
	if (size == 2)
		code[n++] = 0x66;
	if (size == 8)
		code[n++] = 0x48;
	if (f->map)
		code[n++] = f->map;
	code[n++] = f->opcode | (size > 1 && !(f->kind & FORM_WIDE));
	code[n++] = (uint8_t)((f->reg == FORM_OTHER ? other : f->reg) << 3 | base);
	for (unsigned k = 0; k < imm_bytes; k++)
		code[n++] = (uint8_t)(imm + k);
	code[n++] = 0xf4;
	return n;
}

#endif
