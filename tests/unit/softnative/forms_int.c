/* SPDX-License-Identifier: Apache-2.0 */
/* The integer instructions of 64-bit mode at CPL 3, form by form. */
#include "tests/unit/softnative/softnative.h"

#include <stdio.h>
#include <string.h>

#define U_LOGIC AF
#define U_MUL	(SF | ZF | AF | PF)
#define U_ALL	(CF | PF | AF | ZF | SF | OF)
#define U_BT	(OF | SF | AF | PF)
#define U_BS	(CF | OF | SF | AF | PF)
#define F_WORD	(F_66 | F_W)

/* name, class, prefix, map, opcode, ext, modrm, imm, flags, special, undefined */
#define ALU(name, base, n, lock, undef)                                                             \
	{                                                                                           \
		name " rm8,r8", CLASS_ALU,     0,	0,    base, EXT_R, 0,                       \
		IMM_NONE,	F_BYTE | lock, SP_NONE, undef},                                     \
		{name " rm,r", CLASS_ALU,     0,       0,    base + 1, EXT_R, 0,                    \
		 IMM_NONE,     F_WORD | lock, SP_NONE, undef},                                      \
		{name " r8,rm8", CLASS_ALU, 0,	     0,	   base + 2, EXT_R, 0,                      \
		 IMM_NONE,	 F_BYTE,    SP_NONE, undef},                                        \
		{name " r,rm", CLASS_ALU, 0,	   0,	 base + 3, EXT_R, 0,                        \
		 IMM_NONE,     F_WORD,	  SP_NONE, undef},                                          \
		{name " al,i", CLASS_ALU, 0,	   0,	 base + 4, EXT_NONE, 0,                     \
		 IMM_8,	       F_BYTE,	  SP_NONE, undef},                                          \
		{name " eax,i", CLASS_ALU, 0,	    0,	  base + 5, EXT_NONE, 0,                    \
		 IMM_Z,		F_WORD,	   SP_NONE, undef},                                         \
		{name " rm8,i", CLASS_ALU, 0, 0, 0x80, n, 0, IMM_8, F_BYTE | lock, SP_NONE, undef}, \
		{name " rm,iz", CLASS_ALU, 0, 0, 0x81, n, 0, IMM_Z, F_WORD | lock, SP_NONE, undef}, \
	{                                                                                           \
		name " rm,i8", CLASS_ALU, 0, 0, 0x83, n, 0, IMM_8, F_WORD | lock, SP_NONE, undef    \
	}

#define SHIFT(name, n, special)                                                                    \
	{name " rm8,i", CLASS_SHIFT, 0, 0, 0xc0, n, 0, IMM_8, F_BYTE, special, 0},                 \
		{name " rm,i", CLASS_SHIFT, 0, 0, 0xc1, n, 0, IMM_8, F_WORD, special, 0},          \
		{name " rm8,1", CLASS_SHIFT, 0, 0, 0xd0, n, 0, IMM_NONE, F_BYTE, special, 0},      \
		{name " rm,1", CLASS_SHIFT, 0, 0, 0xd1, n, 0, IMM_NONE, F_WORD, special, 0},       \
		{name " rm8,cl", CLASS_SHIFT, 0, 0, 0xd2, n, 0, IMM_NONE, F_BYTE, special, 0},     \
		{name " rm,cl", CLASS_SHIFT, 0, 0, 0xd3, n, 0, IMM_NONE, F_WORD, special, 0}

#define UNARY(name, op, n, lock, class, special, undef)                                            \
	{name " rm8", class, 0, 0, op, n, 0, IMM_NONE, F_BYTE | lock, special, undef},             \
	{                                                                                          \
		name " rm", class, 0, 0, op + 1, n, 0, IMM_NONE, F_WORD | lock, special, undef     \
	}

#define BITOP(name, op, n, lock)                                                                   \
	{name " rm,r", CLASS_BIT, 0, 1, op, EXT_R, 0, IMM_NONE, F_WORD | lock, SP_BIT_REG, U_BT},  \
	{                                                                                          \
		name " rm,i", CLASS_BIT, 0, 1, 0xba, n, 0, IMM_8, F_WORD | lock, SP_NONE, U_BT     \
	}

#define STRING(name, op, special)                                                                  \
	{name "b", CLASS_STRING, 0, 0, op, EXT_NONE, 0, IMM_NONE, F_BYTE, special, 0},             \
		{name, CLASS_STRING, 0, 0, op + 1, EXT_NONE, 0, IMM_NONE, F_WORD, special, 0}

#define PLAIN(name, class, map, op, ext, imm, flags, special, undef)                               \
	{name, class, 0, map, op, ext, 0, imm, flags, special, undef}

#define FAULT0(name, map, op, ext, imm, flags)                                                     \
	{name, CLASS_FAULT, 0, map, op, ext, 0, imm, F_FAULT | flags, SP_NONE, 0}
#define FAULTM(name, map, op, modrm)                                                               \
	{name, CLASS_FAULT, 0, map, op, EXT_FULL, modrm, IMM_NONE, F_FAULT, SP_NONE, 0}

static const struct form alu_forms[] = {
	ALU("add", 0x00, 0, F_LOCK, 0),
	ALU("or", 0x08, 1, F_LOCK, U_LOGIC),
	ALU("adc", 0x10, 2, F_LOCK, 0),
	ALU("sbb", 0x18, 3, F_LOCK, 0),
	ALU("and", 0x20, 4, F_LOCK, U_LOGIC),
	ALU("sub", 0x28, 5, F_LOCK, 0),
	ALU("xor", 0x30, 6, F_LOCK, U_LOGIC),
	ALU("cmp", 0x38, 7, 0, 0),
	PLAIN("test rm8,r8", CLASS_ALU, 0, 0x84, EXT_R, IMM_NONE, F_BYTE, SP_NONE, U_LOGIC),
	PLAIN("test rm,r", CLASS_ALU, 0, 0x85, EXT_R, IMM_NONE, F_WORD, SP_NONE, U_LOGIC),
	PLAIN("test al,i", CLASS_ALU, 0, 0xa8, EXT_NONE, IMM_8, F_BYTE, SP_NONE, U_LOGIC),
	PLAIN("test eax,i", CLASS_ALU, 0, 0xa9, EXT_NONE, IMM_Z, F_WORD, SP_NONE, U_LOGIC),
	PLAIN("test rm8,i", CLASS_ALU, 0, 0xf6, 0, IMM_8, F_BYTE, SP_NONE, U_LOGIC),
	PLAIN("test rm,i", CLASS_ALU, 0, 0xf7, 0, IMM_Z, F_WORD, SP_NONE, U_LOGIC),
	PLAIN("test rm8,i alias", CLASS_ALU, 0, 0xf6, 1, IMM_8, F_BYTE, SP_NONE, U_LOGIC),
	PLAIN("test rm,i alias", CLASS_ALU, 0, 0xf7, 1, IMM_Z, F_WORD, SP_NONE, U_LOGIC),
	UNARY("inc", 0xfe, 0, F_LOCK, CLASS_ALU, SP_NONE, 0),
	UNARY("dec", 0xfe, 1, F_LOCK, CLASS_ALU, SP_NONE, 0),
	UNARY("not", 0xf6, 2, F_LOCK, CLASS_ALU, SP_NONE, 0),
	UNARY("neg", 0xf6, 3, F_LOCK, CLASS_ALU, SP_NONE, 0),
	UNARY("mul", 0xf6, 4, 0, CLASS_MULDIV, SP_NONE, U_MUL),
	UNARY("imul", 0xf6, 5, 0, CLASS_MULDIV, SP_NONE, U_MUL),
	UNARY("div", 0xf6, 6, 0, CLASS_MULDIV, SP_DIV, U_ALL),
	UNARY("idiv", 0xf6, 7, 0, CLASS_MULDIV, SP_IDIV, U_ALL),
	PLAIN("imul r,rm", CLASS_MULDIV, 1, 0xaf, EXT_R, IMM_NONE, F_WORD, SP_NONE, U_MUL),
	PLAIN("imul r,rm,iz", CLASS_MULDIV, 0, 0x69, EXT_R, IMM_Z, F_WORD, SP_NONE, U_MUL),
	PLAIN("imul r,rm,i8", CLASS_MULDIV, 0, 0x6b, EXT_R, IMM_8, F_WORD, SP_NONE, U_MUL),
	SHIFT("rol", 0, SP_ROTATE),
	SHIFT("ror", 1, SP_ROTATE),
	SHIFT("rcl", 2, SP_ROTATE),
	SHIFT("rcr", 3, SP_ROTATE),
	SHIFT("shl", 4, SP_SHIFT),
	SHIFT("shr", 5, SP_SHIFT),
	SHIFT("sal", 6, SP_SHIFT),
	SHIFT("sar", 7, SP_SHIFT),
	PLAIN("shld i", CLASS_SHIFT, 1, 0xa4, EXT_R, IMM_8, F_WORD, SP_SHIFT_TWO, 0),
	PLAIN("shld cl", CLASS_SHIFT, 1, 0xa5, EXT_R, IMM_NONE, F_WORD, SP_SHIFT_TWO, 0),
	PLAIN("shrd i", CLASS_SHIFT, 1, 0xac, EXT_R, IMM_8, F_WORD, SP_SHIFT_TWO, 0),
	PLAIN("shrd cl", CLASS_SHIFT, 1, 0xad, EXT_R, IMM_NONE, F_WORD, SP_SHIFT_TWO, 0),
	BITOP("bt", 0xa3, 4, 0),
	BITOP("bts", 0xab, 5, F_LOCK),
	BITOP("btr", 0xb3, 6, F_LOCK),
	BITOP("btc", 0xbb, 7, F_LOCK),
	PLAIN("bsf", CLASS_BIT, 1, 0xbc, EXT_R, IMM_NONE, F_WORD, SP_NONE, U_BS),
	PLAIN("bsr", CLASS_BIT, 1, 0xbd, EXT_R, IMM_NONE, F_WORD, SP_NONE, U_BS),
	PLAIN("bswap", CLASS_BIT, 1, 0xc8, EXT_NONE, IMM_NONE, F_W | F_PLUS, SP_NONE, 0),
	PLAIN("xadd rm8,r8", CLASS_ALU, 1, 0xc0, EXT_R, IMM_NONE, F_BYTE | F_LOCK, SP_NONE, 0),
	PLAIN("xadd rm,r", CLASS_ALU, 1, 0xc1, EXT_R, IMM_NONE, F_WORD | F_LOCK, SP_NONE, 0),
	PLAIN("cmpxchg rm8,r8", CLASS_ALU, 1, 0xb0, EXT_R, IMM_NONE, F_BYTE | F_LOCK, SP_CMPXCHG,
	      0),
	PLAIN("cmpxchg rm,r", CLASS_ALU, 1, 0xb1, EXT_R, IMM_NONE, F_WORD | F_LOCK, SP_CMPXCHG, 0),
	PLAIN("cmpxchg8b/16b", CLASS_ALU, 1, 0xc7, 1, IMM_NONE, F_W | F_MEM | F_LOCK | F_ALIGN,
	      SP_CMPXCHG_PAIR, 0),
};

static const struct form move_forms[] = {
	PLAIN("mov rm8,r8", CLASS_MOVE, 0, 0x88, EXT_R, IMM_NONE, F_BYTE, SP_NONE, 0),
	PLAIN("mov rm,r", CLASS_MOVE, 0, 0x89, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("mov r8,rm8", CLASS_MOVE, 0, 0x8a, EXT_R, IMM_NONE, F_BYTE, SP_NONE, 0),
	PLAIN("mov r,rm", CLASS_MOVE, 0, 0x8b, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("mov rm8,i", CLASS_MOVE, 0, 0xc6, 0, IMM_8, F_BYTE, SP_NONE, 0),
	PLAIN("mov rm,i", CLASS_MOVE, 0, 0xc7, 0, IMM_Z, F_WORD, SP_NONE, 0),
	PLAIN("mov r8,i", CLASS_MOVE, 0, 0xb0, EXT_NONE, IMM_8, F_BYTE | F_PLUS, SP_NONE, 0),
	PLAIN("mov r,i", CLASS_MOVE, 0, 0xb8, EXT_NONE, IMM_V, F_WORD | F_PLUS, SP_NONE, 0),
	PLAIN("mov al,moffs", CLASS_MOVE, 0, 0xa0, EXT_NONE, IMM_MOFFS, F_BYTE, SP_NONE, 0),
	PLAIN("mov eax,moffs", CLASS_MOVE, 0, 0xa1, EXT_NONE, IMM_MOFFS, F_WORD, SP_NONE, 0),
	PLAIN("mov moffs,al", CLASS_MOVE, 0, 0xa2, EXT_NONE, IMM_MOFFS, F_BYTE, SP_NONE, 0),
	PLAIN("mov moffs,eax", CLASS_MOVE, 0, 0xa3, EXT_NONE, IMM_MOFFS, F_WORD, SP_NONE, 0),
	PLAIN("lea", CLASS_MOVE, 0, 0x8d, EXT_R, IMM_NONE, F_WORD | F_MEM, SP_NONE, 0),
	PLAIN("movsxd", CLASS_MOVE, 0, 0x63, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("movzx r,rm8", CLASS_MOVE, 1, 0xb6, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("movzx r,rm16", CLASS_MOVE, 1, 0xb7, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("movsx r,rm8", CLASS_MOVE, 1, 0xbe, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("movsx r,rm16", CLASS_MOVE, 1, 0xbf, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("xchg rm8,r8", CLASS_MOVE, 0, 0x86, EXT_R, IMM_NONE, F_BYTE | F_LOCK, SP_NONE, 0),
	PLAIN("xchg rm,r", CLASS_MOVE, 0, 0x87, EXT_R, IMM_NONE, F_WORD | F_LOCK, SP_NONE, 0),
	PLAIN("xchg eax,r", CLASS_MOVE, 0, 0x90, EXT_NONE, IMM_NONE, F_WORD | F_PLUS, SP_NONE, 0),
	PLAIN("mov rm,sreg es", CLASS_MOVE, 0, 0x8c, 0, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("mov rm,sreg cs", CLASS_MOVE, 0, 0x8c, 1, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("mov rm,sreg ss", CLASS_MOVE, 0, 0x8c, 2, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("mov rm,sreg ds", CLASS_MOVE, 0, 0x8c, 3, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("mov es,rm", CLASS_MOVE, 0, 0x8e, 0, IMM_NONE, F_WORD | F_REG, SP_SREG_LOAD, 0),
	PLAIN("mov ds,rm", CLASS_MOVE, 0, 0x8e, 3, IMM_NONE, F_WORD | F_REG, SP_SREG_LOAD, 0),
	PLAIN("mov ss,rm", CLASS_MOVE, 0, 0x8e, 2, IMM_NONE, F_WORD | F_REG, SP_SREG_LOAD, 0),
	PLAIN("cbw", CLASS_MOVE, 0, 0x98, EXT_NONE, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("cwd", CLASS_MOVE, 0, 0x99, EXT_NONE, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("xlat", CLASS_MOVE, 0, 0xd7, EXT_NONE, IMM_NONE, F_BYTE, SP_XLAT, 0),
};

static const struct form stack_forms[] = {
	PLAIN("push r", CLASS_STACK, 0, 0x50, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_PLUS | F_STACK,
	      SP_NONE, 0),
	PLAIN("pop r", CLASS_STACK, 0, 0x58, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_PLUS | F_STACK,
	      SP_NONE, 0),
	PLAIN("push i", CLASS_STACK, 0, 0x68, EXT_NONE, IMM_Z, F_66 | F_D64 | F_STACK, SP_NONE, 0),
	PLAIN("push i8", CLASS_STACK, 0, 0x6a, EXT_NONE, IMM_8, F_66 | F_D64 | F_STACK, SP_NONE, 0),
	PLAIN("push rm", CLASS_STACK, 0, 0xff, 6, IMM_NONE, F_66 | F_D64 | F_STACK, SP_NONE, 0),
	PLAIN("pop rm", CLASS_STACK, 0, 0x8f, 0, IMM_NONE, F_66 | F_D64 | F_STACK, SP_NONE, 0),
	PLAIN("pushf", CLASS_STACK, 0, 0x9c, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_STACK, SP_NONE,
	      0),
	PLAIN("popf", CLASS_STACK, 0, 0x9d, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_STACK, SP_POPF, 0),
	PLAIN("push fs", CLASS_STACK, 1, 0xa0, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_STACK, SP_NONE,
	      0),
	PLAIN("push gs", CLASS_STACK, 1, 0xa8, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_STACK, SP_NONE,
	      0),
	PLAIN("enter", CLASS_STACK, 0, 0xc8, EXT_NONE, IMM_ENTER, F_D64 | F_STACK, SP_FRAME, 0),
	PLAIN("leave", CLASS_STACK, 0, 0xc9, EXT_NONE, IMM_NONE, F_66 | F_D64 | F_STACK, SP_FRAME,
	      0),
	PLAIN("ret", CLASS_BRANCH, 0, 0xc3, EXT_NONE, IMM_NONE, F_D64 | F_STACK, SP_RET, 0),
	PLAIN("ret i", CLASS_BRANCH, 0, 0xc2, EXT_NONE, IMM_16, F_D64 | F_STACK, SP_RET, 0),
	PLAIN("retf", CLASS_BRANCH, 0, 0xcb, EXT_NONE, IMM_NONE, F_W | F_STACK, SP_RETF, 0),
	PLAIN("retf i", CLASS_BRANCH, 0, 0xca, EXT_NONE, IMM_16, F_W | F_STACK, SP_RETF, 0),
	PLAIN("iret", CLASS_BRANCH, 0, 0xcf, EXT_NONE, IMM_NONE, F_W | F_STACK, SP_IRET, 0),
	PLAIN("call", CLASS_BRANCH, 0, 0xe8, EXT_NONE, IMM_REL32, F_D64 | F_STACK, SP_NONE, 0),
	PLAIN("jmp", CLASS_BRANCH, 0, 0xe9, EXT_NONE, IMM_REL32, F_D64, SP_NONE, 0),
	PLAIN("jmp short", CLASS_BRANCH, 0, 0xeb, EXT_NONE, IMM_REL8, F_D64, SP_NONE, 0),
	PLAIN("call rm", CLASS_BRANCH, 0, 0xff, 2, IMM_NONE, F_D64 | F_STACK, SP_JUMP_IND, 0),
	PLAIN("jmp rm", CLASS_BRANCH, 0, 0xff, 4, IMM_NONE, F_D64, SP_JUMP_IND, 0),
	PLAIN("call far", CLASS_BRANCH, 0, 0xff, 3, IMM_NONE, F_MEM | F_STACK, SP_JUMP_FAR, 0),
	PLAIN("jmp far", CLASS_BRANCH, 0, 0xff, 5, IMM_NONE, F_MEM, SP_JUMP_FAR, 0),
	PLAIN("loopne", CLASS_BRANCH, 0, 0xe0, EXT_NONE, IMM_REL8, F_D64, SP_NONE, 0),
	PLAIN("loope", CLASS_BRANCH, 0, 0xe1, EXT_NONE, IMM_REL8, F_D64, SP_NONE, 0),
	PLAIN("loop", CLASS_BRANCH, 0, 0xe2, EXT_NONE, IMM_REL8, F_D64, SP_NONE, 0),
	PLAIN("jrcxz", CLASS_BRANCH, 0, 0xe3, EXT_NONE, IMM_REL8, F_D64, SP_NONE, 0),
	STRING("movs", 0xa4, SP_STRING),
	STRING("cmps", 0xa6, SP_REPEAT),
	STRING("stos", 0xaa, SP_STRING),
	STRING("lods", 0xac, SP_STRING),
	STRING("scas", 0xae, SP_REPEAT),
	PLAIN("cmc", CLASS_MISC, 0, 0xf5, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("clc", CLASS_MISC, 0, 0xf8, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("stc", CLASS_MISC, 0, 0xf9, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("cld", CLASS_MISC, 0, 0xfc, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("std", CLASS_MISC, 0, 0xfd, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("lahf", CLASS_MISC, 0, 0x9f, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("sahf", CLASS_MISC, 0, 0x9e, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	PLAIN("nop rm", CLASS_MISC, 1, 0x1f, 0, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("nop 0f1a", CLASS_MISC, 1, 0x1c, 1, IMM_NONE, F_WORD, SP_NONE, 0),
	PLAIN("prefetch", CLASS_MISC, 1, 0x18, 1, IMM_NONE, F_MEM, SP_NONE, 0),
	PLAIN("prefetchw", CLASS_MISC, 1, 0x0d, 1, IMM_NONE, F_MEM, SP_NONE, 0),
	{"endbr64", CLASS_MISC, 0xf3, 1, 0x1e, EXT_FULL, 0xfa, IMM_NONE, 0, SP_NONE, 0},
	{"pause", CLASS_MISC, 0xf3, 0, 0x90, EXT_NONE, 0, IMM_NONE, 0, SP_NONE, 0},
	PLAIN("int3", CLASS_MISC, 0, 0xcc, EXT_NONE, IMM_NONE, 0, SP_NONE, 0),
	{"int 3", CLASS_MISC, 0, 0, 0xcd, EXT_FULL, 3, IMM_NONE, 0, SP_NONE, 0},
};

static const struct form fault_forms[] = {
	FAULT0("push es", 0, 0x06, EXT_NONE, IMM_NONE, 0),
	FAULT0("pop es", 0, 0x07, EXT_NONE, IMM_NONE, 0),
	FAULT0("push cs", 0, 0x0e, EXT_NONE, IMM_NONE, 0),
	FAULT0("push ss", 0, 0x16, EXT_NONE, IMM_NONE, 0),
	FAULT0("pop ds", 0, 0x1f, EXT_NONE, IMM_NONE, 0),
	FAULT0("daa", 0, 0x27, EXT_NONE, IMM_NONE, 0),
	FAULT0("das", 0, 0x2f, EXT_NONE, IMM_NONE, 0),
	FAULT0("aaa", 0, 0x37, EXT_NONE, IMM_NONE, 0),
	FAULT0("aas", 0, 0x3f, EXT_NONE, IMM_NONE, 0),
	FAULT0("pusha", 0, 0x60, EXT_NONE, IMM_NONE, 0),
	FAULT0("popa", 0, 0x61, EXT_NONE, IMM_NONE, 0),
	FAULT0("82", 0, 0x82, 0, IMM_8, F_BYTE),
	FAULT0("callf imm", 0, 0x9a, EXT_NONE, IMM_Z, 0),
	FAULT0("into", 0, 0xce, EXT_NONE, IMM_NONE, 0),
	FAULT0("aam", 0, 0xd4, EXT_NONE, IMM_8, 0),
	FAULT0("aad", 0, 0xd5, EXT_NONE, IMM_8, 0),
	FAULT0("salc", 0, 0xd6, EXT_NONE, IMM_NONE, 0),
	FAULT0("jmpf imm", 0, 0xea, EXT_NONE, IMM_Z, 0),
	FAULT0("insb", 0, 0x6c, EXT_NONE, IMM_NONE, 0),
	FAULT0("outsd", 0, 0x6f, EXT_NONE, IMM_NONE, 0),
	FAULT0("in al,i", 0, 0xe4, EXT_NONE, IMM_8, 0),
	FAULT0("out i,eax", 0, 0xe7, EXT_NONE, IMM_8, 0),
	FAULT0("in al,dx", 0, 0xec, EXT_NONE, IMM_NONE, 0),
	FAULT0("out dx,eax", 0, 0xef, EXT_NONE, IMM_NONE, 0),
	FAULT0("hlt", 0, 0xf4, EXT_NONE, IMM_NONE, 0),
	FAULT0("cli", 0, 0xfa, EXT_NONE, IMM_NONE, 0),
	FAULT0("sti", 0, 0xfb, EXT_NONE, IMM_NONE, 0),
	FAULT0("clts", 1, 0x06, EXT_NONE, IMM_NONE, 0),
	FAULT0("invd", 1, 0x08, EXT_NONE, IMM_NONE, 0),
	FAULT0("wbinvd", 1, 0x09, EXT_NONE, IMM_NONE, 0),
	FAULT0("ud2", 1, 0x0b, EXT_NONE, IMM_NONE, 0),
	FAULT0("rdmsr", 1, 0x32, EXT_NONE, IMM_NONE, 0),
	FAULT0("wrmsr", 1, 0x30, EXT_NONE, IMM_NONE, 0),
	FAULTM("mov eax,cr0", 1, 0x20, 0xc0),
	FAULTM("mov cr3,eax", 1, 0x22, 0xd8),
	FAULTM("mov cr1,eax", 1, 0x22, 0xc8),
	FAULTM("mov eax,dr7", 1, 0x21, 0xf8),
	FAULTM("mov dr7,eax", 1, 0x23, 0xf8),
	FAULTM("swapgs", 1, 0x01, 0xf8),
	FAULTM("lldt ax", 1, 0x00, 0xd0),
	FAULTM("ltr ax", 1, 0x00, 0xd8),
	FAULTM("lmsw ax", 1, 0x01, 0xf0),
	FAULT0("lgdt", 1, 0x01, 2, IMM_NONE, F_MEM),
	FAULT0("lidt", 1, 0x01, 3, IMM_NONE, F_MEM),
	FAULT0("invlpg", 1, 0x01, 7, IMM_NONE, F_MEM),
	FAULT0("sysret", 1, 0x07, EXT_NONE, IMM_NONE, F_W),
	FAULT0("ff/7", 0, 0xff, 7, IMM_NONE, 0),
	FAULT0("fe/2", 0, 0xfe, 2, IMM_NONE, 0),
	FAULT0("c6/1", 0, 0xc6, 1, IMM_8, 0),
	FAULT0("c7/2", 0, 0xc7, 2, IMM_Z, 0),
	FAULT0("lea reg", 0, 0x8d, EXT_R, IMM_NONE, F_REG),
	FAULT0("mov cs,rm", 0, 0x8e, 1, IMM_NONE, 0),
	FAULT0("mov sreg6,rm", 0, 0x8e, 6, IMM_NONE, 0),
	FAULT0("ba/0", 1, 0xba, 0, IMM_8, 0),
	FAULT0("0f04", 1, 0x04, EXT_NONE, IMM_NONE, 0),
	FAULT0("0f24", 1, 0x24, EXT_NONE, IMM_NONE, 0),
	FAULT0("0fa6", 1, 0xa6, EXT_NONE, IMM_NONE, 0),
};

static unsigned forms_conditions(struct form *forms, unsigned count)
{
	static const struct form rows[] = {
		PLAIN("j%x short", CLASS_BRANCH, 0, 0x70, EXT_NONE, IMM_REL8, F_D64, SP_NONE, 0),
		PLAIN("j%x", CLASS_BRANCH, 1, 0x80, EXT_NONE, IMM_REL32, F_D64, SP_NONE, 0),
		PLAIN("set%x", CLASS_MOVE, 1, 0x90, EXT_R, IMM_NONE, F_BYTE, SP_NONE, 0),
		PLAIN("cmov%x", CLASS_MOVE, 1, 0x40, EXT_R, IMM_NONE, F_WORD, SP_NONE, 0),
	};

	for (unsigned row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		for (unsigned cc = 0; cc < 16; cc++) {
			struct form *f = &forms[count++];
			char digit = "0123456789abcdef"[cc];
			char *percent;

			*f = rows[row];
			f->opcode |= (uint8_t)cc;
			percent = strstr(f->name, "%x");
			*percent = digit;
			memmove(percent + 1, percent + 2, strlen(percent + 2) + 1);
		}
	}
	return count;
}

unsigned forms_int(struct form *forms, unsigned count)
{
	memcpy(forms + count, alu_forms, sizeof(alu_forms));
	count += sizeof(alu_forms) / sizeof(alu_forms[0]);
	memcpy(forms + count, move_forms, sizeof(move_forms));
	count += sizeof(move_forms) / sizeof(move_forms[0]);
	memcpy(forms + count, stack_forms, sizeof(stack_forms));
	count += sizeof(stack_forms) / sizeof(stack_forms[0]);
	memcpy(forms + count, fault_forms, sizeof(fault_forms));
	count += sizeof(fault_forms) / sizeof(fault_forms[0]);
	return forms_conditions(forms, count);
}
