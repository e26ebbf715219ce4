/* SPDX-License-Identifier: Apache-2.0 */
/* Integer instructions where they are easy to get wrong: widths, flags, overflow, repetition. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/softcore/flat.h"
#include "vmm/cpu/soft/soft_flags.h"
#include "vmm/cpu/soft/soft_parts.h"

static struct flat flat;

static void setup(void)
{
	flat_make(&flat);
}

static void teardown(void)
{
	flat_free(&flat);
}

TestSuite(softint, .init = setup, .fini = teardown);

static uint64_t *reg(void)
{
	return flat.cpu[0]->reg;
}

/* Executes one instruction; the vector it raised, or -1. */
static int exec_one(struct soft_cpu *c)
{
	c->exception.vector = -1;
	if (sigsetjmp(c->escape, 0) == 0)
		soft_exec_one(c);
	return c->exception.vector;
}

/* One instruction: RAX, RCX, RDX and arithmetic flags before and after. */
struct int_case {
	const char *name;
	uint8_t code[12];
	uint64_t rax, rcx, rdx, flags;
	uint64_t rax_after, rcx_after, rdx_after, flags_after;
	uint64_t flags_mask; /* the defined ones */
};

#define CF  FLAG_CF
#define PF  FLAG_PF
#define AF  FLAG_AF
#define ZF  FLAG_ZF
#define SF  FLAG_SF
#define OF  FLAG_OF
#define ALL FLAGS_ARITH

/* clang-format off */
static const struct int_case cases[] = {
	{"add r32 zero-extends", {0x01, 0xc8}, ~0ull, 1, 0, 0, 0, 1, 0, CF | PF | AF | ZF, ALL},
	{"add al keeps the rest", {0x00, 0xc8}, 0x11ff, 1, 0, 0, 0x1100, 1, 0, CF | PF | AF | ZF, ALL},
	{"add ah, cl", {0x00, 0xcc}, 0x7f00, 1, 0, 0, 0x8000, 1, 0, SF | OF | AF, ALL},
	{"add spl with REX: not ah", {0x40, 0x00, 0xc8}, 0x7f01, 1, 0, 0, 0x7f02, 1, 0, 0, ALL},
	{"sub overflow", {0x29, 0xc8}, 0x80000000, 1, 0, 0, 0x7fffffff, 1, 0, PF | AF | OF, ALL},
	{"adc with carry", {0x48, 0x11, 0xc8}, ~0ull, 0, 0, CF, 0, 0, 0, CF | PF | AF | ZF, ALL},
	{"sbb with borrow", {0x48, 0x19, 0xc8}, 0, 0, 0, CF, ~0ull, 0, 0, CF | PF | AF | SF, ALL},
	{"inc keeps CF", {0xff, 0xc0}, 0x7fffffff, 0, 0, CF, 0x80000000, 0, 0, CF | PF | AF | SF | OF, ALL},
	{"dec keeps CF", {0xff, 0xc8}, 1, 0, 0, CF, 0, 0, 0, CF | ZF | PF, ALL},
	{"neg of 0", {0xf7, 0xd8}, 0, 0, 0, CF, 0, 0, 0, ZF | PF, ALL},
	{"cmp keeps", {0x48, 0x39, 0xc8}, 5, 5, 0, 0, 5, 5, 0, ZF | PF, ALL},
	{"shl by 0 keeps flags", {0x48, 0xd3, 0xe0}, 5, 64, 0, CF | ZF | OF, 5, 64, 0, CF | ZF | OF, ALL},
	{"shl r32 by 32 zero-extends", {0xd3, 0xe0}, ~0ull, 32, 0, CF, 0xffffffff, 32, 0, CF, ALL},
	{"shl 1: OF", {0xd1, 0xe0}, 0x40000000, 0, 0, 0, 0x80000000, 0, 0, PF | SF | OF, ALL & ~AF},
	{"shr al by 9", {0xd2, 0xe8}, 0xff, 9, 0, 0, 0, 9, 0, ZF | PF, ZF | PF | SF | CF},
	{"sar 63", {0x48, 0xc1, 0xf8, 63}, 1ull << 63, 0, 0, 0, ~0ull, 0, 0, SF | PF, ZF | PF | SF | CF},
	{"rcl al by 9 does nothing", {0xd2, 0xd0}, 0x81, 9, 0, CF, 0x81, 9, 0, CF, CF},
	{"rcl al by 10 is by 1", {0xd2, 0xd0}, 0x81, 10, 0, CF, 0x03, 10, 0, CF, CF},
	{"rcr ax, 1", {0x66, 0xd1, 0xd8}, 0x0001, 0, 0, CF, 0x8000, 0, 0, CF | OF, CF | OF},
	{"rol al by 8: CF", {0xc0, 0xc0, 8}, 0x81, 0, 0, ZF, 0x81, 0, 0, CF | ZF, CF | ZF},
	{"shld", {0x0f, 0xa4, 0xc8, 8}, 0x12345678, 0xab000000, 0, 0, 0x345678ab, 0xab000000, 0, 0, CF | ZF | SF},
	{"bsf of 0 keeps rax", {0x0f, 0xbc, 0xc1}, ~0ull, 0, 0, 0, ~0ull, 0, 0, ZF, ZF},
	{"rep bsf is bsf", {0xf3, 0x0f, 0xbc, 0xc1}, 7, 0x10, 0, 0, 4, 0x10, 0, 0, ZF},
	{"bsr", {0x48, 0x0f, 0xbd, 0xc1}, 7, 1ull << 40, 0, 0, 40, 1ull << 40, 0, 0, ZF},
	{"cmov not taken zero-extends", {0x0f, 0x44, 0xc1}, ~0ull, 3, 0, 0, 0xffffffff, 3, 0, 0, ALL},
	{"cmov taken", {0x48, 0x0f, 0x44, 0xc1}, 1, ~0ull, 0, ZF, ~0ull, ~0ull, 0, ZF, ALL},
	{"setl", {0x0f, 0x9c, 0xc0}, 0x1ff, 0, 0, SF, 0x101, 0, 0, SF, ALL},
	{"setg with all", {0x0f, 0x9f, 0xc0}, 0, 0, 0, SF | OF, 1, 0, 0, SF | OF, ALL},
	{"setp", {0x0f, 0x9a, 0xc0}, 0, 0, 0, PF, 1, 0, 0, PF, ALL},
	{"mul r64", {0x48, 0xf7, 0xe1}, ~0ull, ~0ull, 0, 0, 1, ~0ull, ~1ull, CF | OF, CF | OF},
	{"imul small", {0x48, 0x0f, 0xaf, 0xc1}, 6, 7, 0, CF | OF, 42, 7, 0, 0, CF | OF},
	{"imul r16 overflow", {0x66, 0x0f, 0xaf, 0xc1}, 0xf0100, 0x100, 0, 0, 0xf0000, 0x100, 0, CF | OF, CF | OF},
	{"imul al", {0xf6, 0xe9}, 0xff, 2, 0, CF, 0xfffe, 2, 0, 0, CF | OF},
	{"div", {0x48, 0xf7, 0xf1}, 7, 2, 1, 0, 0x8000000000000003, 2, 1, 0, 0},
	{"idiv rounds to zero", {0xf7, 0xf9}, 0xfffffff9, 2, 0xffffffff, 0, 0xfffffffd, 2, 0xffffffff, 0, 0},
	{"idiv smallest quotient", {0xf6, 0xf9}, 0xff80, 1, 0, 0, 0x0080, 1, 0, 0, 0},
	{"cmpxchg equal keeps upper rax", {0x0f, 0xb1, 0xd1}, 0x500000001, 0x700000001, 9, 0, 0x500000001, 9, 9, ZF | PF, ALL},
	{"cmpxchg not equal", {0x0f, 0xb1, 0xd1}, 0x500000001, 0x700000002, 9, 0, 2, 0x700000002, 9, CF | SF | PF | AF, ALL},
	{"xadd", {0x0f, 0xc1, 0xc8}, 3, 4, 0, 0, 7, 3, 0, 0, ALL},
	{"bswap r32", {0x0f, 0xc8}, 0xff11223344, 0, 0, 0, 0x44332211, 0, 0, 0, ALL},
	{"movsx", {0x48, 0x0f, 0xbe, 0xc1}, 0, 0x80, 0, 0, ~0x7full, 0x80, 0, 0, ALL},
	{"movsxd", {0x48, 0x63, 0xc1}, 0, 0x80000000, 0, 0, 0xffffffff80000000, 0x80000000, 0, 0, ALL},
	{"movzx ch", {0x0f, 0xb6, 0xc5}, ~0ull, 0x4200, 0, 0, 0x42, 0x4200, 0, 0, ALL},
	{"cwde", {0x98}, 0x8000, 0, 0, 0, 0xffff8000, 0, 0, 0, ALL},
	{"cqo", {0x48, 0x99}, 1ull << 63, 0, 0, 0, 1ull << 63, 0, ~0ull, 0, ALL},
	{"lahf", {0x9f}, 0, 0, 0, CF | ZF | OF, 0x4300, 0, 0, CF | ZF | OF, ALL},
	{"sahf keeps OF", {0x9e}, 0xd500, 0, 0, OF, 0xd500, 0, 0, ALL, ALL},
	{"lea with 67 is cut", {0x67, 0x48, 0x8d, 0x04, 0x08}, 0xffffffff, 2, 0, 0, 1, 2, 0, 0, ALL},
	{"bt by register", {0x48, 0x0f, 0xa3, 0xc8}, 1ull << 33, 33 + 64, 0, ZF | OF, 1ull << 33, 97, 0, CF | ZF | OF, CF | ZF},
	{"btc", {0x0f, 0xba, 0xf8, 31}, 0, 0, 0, 0, 0x80000000, 0, 0, 0, CF},
	{"xchg eax, ecx", {0x91}, 0x5ffffffff, 0x600000001, 0, 0, 1, 0xffffffff, 0, 0, ALL},
};
/* clang-format on */

Test(softint, cases)
{
	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		const struct int_case *t = &cases[n];
		struct soft_cpu *c = flat.cpu[0];

		flat_put(&flat, FLAT_CODE, t->code, sizeof(t->code));
		flat_reset(&flat, 0, FLAT_CODE);
		reg()[RAX] = t->rax;
		reg()[RCX] = t->rcx;
		reg()[RDX] = t->rdx;
		soft_flags_set_arith(c, t->flags);
		cr_expect_eq(exec_one(c), -1, "%s raised %d", t->name, c->exception.vector);
		cr_expect_eq(reg()[RAX], t->rax_after, "%s: rax %#lx", t->name, reg()[RAX]);
		cr_expect_eq(reg()[RCX], t->rcx_after, "%s: rcx %#lx", t->name, reg()[RCX]);
		cr_expect_eq(reg()[RDX], t->rdx_after, "%s: rdx %#lx", t->name, reg()[RDX]);
		cr_expect_eq(soft_flags_get(c) & t->flags_mask, t->flags_after & t->flags_mask,
			     "%s: flags %#lx", t->name, soft_flags_get(c));
	}
}

/* Instructions that must raise #DE, #UD or #GP and change nothing. */
Test(softint, faults)
{
	static const struct {
		uint8_t code[8];
		uint64_t rax, rcx, rdx;
		int vector;
	} faults[] = {
		{{0x48, 0xf7, 0xf1}, 0, 1, 1, VEC_DE},			 /* div: quotient 2^64 */
		{{0xf7, 0xf1}, 1, 0, 0, VEC_DE},			 /* div by 0 */
		{{0x48, 0xf7, 0xf9}, 1ull << 63, ~0ull, ~0ull, VEC_DE},	 /* idiv min / -1 */
		{{0xf6, 0xf9}, 0x0080, 1, 0, VEC_DE},			 /* idiv: 128 */
		{{0x0f, 0x0b}, 0, 0, 0, VEC_UD},			 /* ud2 */
		{{0xf0, 0x90}, 0, 0, 0, VEC_UD},			 /* lock nop */
		{{0x06}, 0, 0, 0, VEC_UD},				 /* push es */
		{{0x8d, 0xc0}, 0, 0, 0, VEC_UD},			 /* lea of a register */
		{{0xff, 0xe1}, 0, 1ull << 47, 0, VEC_GP},		 /* jmp to nowhere */
		{{0x48, 0x8b, 0x01}, 0, 1ull << 47, 0, VEC_GP},		 /* load from nowhere */
		{{0x48, 0x0f, 0xc7, 0x09}, 0, FLAT_DATA + 8, 0, VEC_GP}, /* cmpxchg16b: 8-aligned */
		{{0x48, 0x89, 0x01}, 0, FLAT_HOLE - 4, 0, VEC_PF},	 /* store into the hole */
		{{0x48, 0x01, 0x01}, 0, FLAT_HOLE - 4, 0, VEC_PF},	 /* add into the hole */
		{{0xf0, 0x48, 0x01, 0x01}, 0, FLAT_HOLE, 0, VEC_PF},	 /* lock add */
		{{0x8f, 0x01}, 0, FLAT_HOLE, 0, VEC_PF},		 /* pop into the hole */
	};

	for (unsigned n = 0; n < sizeof(faults) / sizeof(faults[0]); n++) {
		struct soft_cpu *c = flat.cpu[0];

		flat_put(&flat, FLAT_CODE, faults[n].code, sizeof(faults[n].code));
		flat_reset(&flat, 0, FLAT_CODE);
		reg()[RAX] = faults[n].rax;
		reg()[RCX] = faults[n].rcx;
		reg()[RDX] = faults[n].rdx;
		cr_expect_eq(exec_one(c), faults[n].vector, "case %u raised %d", n,
			     c->exception.vector);
		cr_expect_eq(c->exception.rip, FLAT_CODE, "case %u", n);
		cr_expect_eq(reg()[RAX], faults[n].rax, "case %u", n);
		cr_expect_eq(reg()[RDX], faults[n].rdx, "case %u", n);
		cr_expect_eq(reg()[RSP], FLAT_STACK, "case %u", n);
	}
}

static void run_string(uint8_t prefix, uint8_t opcode, uint64_t rsi, uint64_t rdi, uint64_t rcx)
{
	FLAT_PUT(&flat, FLAT_CODE, prefix, 0x48, opcode, 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	reg()[RSI] = rsi;
	reg()[RDI] = rdi;
	reg()[RCX] = rcx;
}

/* Across pages, and an odd start. */
Test(softint, rep_movs)
{
	for (unsigned k = 0; k < 0x3000; k++)
		flat.ram[FLAT_DATA + k] = (uint8_t)(k * 7);
	run_string(0xf3, 0xa4, FLAT_DATA + 3, FLAT_DATA + 0x10005, 0x2800);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg()[RCX], 0);
	cr_assert_eq(reg()[RSI], FLAT_DATA + 3 + 0x2800);
	cr_assert_eq(reg()[RDI], FLAT_DATA + 0x10005 + 0x2800);
	cr_assert_arr_eq(flat.ram + FLAT_DATA + 0x10005, flat.ram + FLAT_DATA + 3, 0x2800);
	cr_assert_eq(flat.ram[FLAT_DATA + 0x10005 + 0x2800], 0);
}

/* A destination one byte above the source fills; backward it moves. */
Test(softint, rep_movs_overlap)
{
	memcpy(flat.ram + FLAT_DATA, "abcdefgh", 9);
	run_string(0xf3, 0xa4, FLAT_DATA, FLAT_DATA + 1, 7);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_str_eq((char *)flat.ram + FLAT_DATA, "aaaaaaaa");
	memcpy(flat.ram + FLAT_DATA, "abcdefgh", 9);
	run_string(0xf3, 0xa4, FLAT_DATA + 6, FLAT_DATA + 7, 7);
	flat.cpu[0]->rflags |= FLAG_DF;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_str_eq((char *)flat.ram + FLAT_DATA, "aabcdefg");
	cr_assert_eq(reg()[RDI], FLAT_DATA);
}

/* A fault in the middle leaves the registers at the element that faulted. */
Test(softint, rep_stos_fault)
{
	run_string(0xf3, 0xab, 0, FLAT_HOLE - 24, 10);
	reg()[RAX] = 0x1122334455667788;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_SHUTDOWN);
	cr_assert_eq(reg()[RDI], FLAT_HOLE);
	cr_assert_eq(reg()[RCX], 7);
	cr_assert_eq(flat.cpu[0]->cr2, FLAT_HOLE);
	cr_assert_eq(flat_get64(&flat, FLAT_CODE + 0xff8), 0x1122334455667788);
}

Test(softint, repne_scas)
{
	memcpy(flat.ram + FLAT_DATA, "hello", 6);
	FLAT_PUT(&flat, FLAT_CODE, 0xf2, 0xae, 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	reg()[RDI] = FLAT_DATA;
	reg()[RCX] = ~0ull;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg()[RCX], ~0ull - 6);
	cr_assert_eq(reg()[RDI], FLAT_DATA + 6);
	cr_assert(soft_zf(flat.cpu[0]));
}

Test(softint, repe_cmps)
{
	memcpy(flat.ram + FLAT_DATA, "abcdx", 5);
	memcpy(flat.ram + FLAT_DATA + 16, "abcdy", 5);
	FLAT_PUT(&flat, FLAT_CODE, 0xf3, 0xa6, 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	reg()[RSI] = FLAT_DATA;
	reg()[RDI] = FLAT_DATA + 16;
	reg()[RCX] = 100;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg()[RCX], 95);
	cr_assert(soft_cf(flat.cpu[0]));
}

/* A count of zero touches no memory. */
Test(softint, rep_zero)
{
	run_string(0xf3, 0xa4, FLAT_HOLE, FLAT_HOLE, 0);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg()[RSI], FLAT_HOLE);
}

/* push rsp pushes the old value; pop [rsp] uses the new one; pop rsp takes the value. */
Test(softint, stack)
{
	FLAT_PUT(&flat, FLAT_CODE, 0x54,       /* push rsp */
		 0x58,			       /* pop rax */
		 0x68, 0x44, 0x33, 0x22, 0xf1, /* push sign-extended */
		 0x6a, 0x11,		       /* push 0x11 */
		 0x8f, 0x04, 0x24,	       /* pop [rsp] */
		 0x5b,			       /* pop rbx */
		 0xc8, 0x20, 0x00, 0x01,       /* enter 0x20, 1 */
		 0x48, 0x89, 0xe9,	       /* mov rcx, rbp */
		 0xc9,			       /* leave */
		 0x6a, 0x7f, 0x5c,	       /* push 0x7f; pop rsp */
		 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg()[RAX], FLAT_STACK);
	cr_assert_eq(reg()[RBX], 0x11);
	cr_assert_eq(reg()[RCX], FLAT_STACK - 8);
	cr_assert_eq(flat_get64(&flat, FLAT_STACK - 16), FLAT_STACK - 8);
	cr_assert_eq(reg()[RSP], 0x7f);
}

/* 32-bit code: pusha, the stack's width, aam, loops by cx. */
Test(softint, code_32)
{
	FLAT_PUT(&flat, FLAT_CODE, 0xb8, 0x44, 0, 0, 0, /* mov eax, 0x44 */
		 0xd4, 0x0a,				/* aam: ax = 0x0608 */
		 0x60,					/* pusha */
		 0x31, 0xc0,				/* xor eax, eax */
		 0x61,					/* popa */
		 0xb9, 3, 0, 1, 0,			/* mov ecx, 0x10003 */
		 0x43,					/* 1: inc ebx */
		 0x67, 0xe2, 0xfc,			/* loop 1b by cx */
		 0xf4);
	flat_reset_mode(&flat, 0, FLAT_CODE, 32);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg()[RAX], 0x0608);
	cr_assert_eq(reg()[RBX], 3);
	cr_assert_eq(reg()[RCX], 0x10000);
	cr_assert_eq(reg()[RSP], FLAT_STACK);
}

/* LOCKed operations on one operand: in place, and across a page border. */
Test(softint, locked)
{
	for (uint64_t at = FLAT_DATA; at <= FLAT_DATA + 0xffc; at += 0xffc) {
		FLAT_PUT(&flat, FLAT_CODE, 0xf0, 0x48, 0x0f, 0xc1, 0x07, /* lock xadd [rdi], rax */
			 0xf0, 0x48, 0x83, 0x27, 0x0f,			 /* lock and [rdi], 15 */
			 0xf0, 0x48, 0x0f, 0xba, 0x2f, 40,		 /* lock bts [rdi], 40 */
			 0x48, 0x87, 0x1f,				 /* xchg [rdi], rbx */
			 0xf4);
		flat_put(&flat, at, &(uint64_t){0x1234}, 8);
		flat_reset(&flat, 0, FLAT_CODE);
		reg()[RDI] = at;
		reg()[RAX] = 1;
		reg()[RBX] = 77;
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
		cr_assert_eq(reg()[RAX], 0x1234);
		cr_assert_eq(reg()[RBX], 5 | 1ull << 40);
		cr_assert_eq(flat_get64(&flat, at), 77);
	}
}

/* A bit offset reaches far from the operand, both ways. */
Test(softint, bit_strings)
{
	FLAT_PUT(&flat, FLAT_CODE, 0x0f, 0xab, 0x0f, 0xf4); /* bts [rdi], ecx */
	for (int64_t offset = -1000; offset <= 1000; offset += 333) {
		flat_reset(&flat, 0, FLAT_CODE);
		reg()[RDI] = FLAT_DATA + 0x800;
		reg()[RCX] = (uint32_t)offset;
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
		cr_assert(flat.ram[FLAT_DATA + 0x800 + (offset >> 3)] & 1 << (offset & 7));
		cr_assert_not(soft_cf(flat.cpu[0]));
	}
}
