/* SPDX-License-Identifier: Apache-2.0 */
/* What accesses are checked for: canonical to their end, alignment, limits and types of segments. */
#include <string.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_checks, .timeout = 20);

#define EDGE (UINT64_C(1) << 47) /* the first address that is not canonical */

/* ---- The canonical half ---------------------------------------------------------------------- */

/* Maps the last 2 MiB below the edge as [0, 2 MiB). */
static void edge_map(struct guest *g)
{
	*guest_u64(g, PML4 + 255 * 8) = PDPT | ALL;
	*guest_u64(g, PDPT + 511 * 8) = PD | ALL;
	*guest_u64(g, PD + 511 * 8) = PT0 | ALL;
}

static void expect_edge(struct guest *g, uint64_t rip, unsigned vector)
{
	guest_expect(g, rip, vector, 0);
	cr_expect_eq(STOP_RIP(g), rip);
	g->s.gpr[RSP] = STACK;
}

/* Begins below the edge and ends beyond: #GP, be the first page there or not. */
static void edge_accesses(struct guest *g)
{
	g->s.gpr[RBX] = g->s.gpr[RBP] = EDGE - 1;
	expect_edge(g, LABEL(load), 13);
	expect_edge(g, LABEL(store), 13);
	expect_edge(g, LABEL(add_mem), 13);
	expect_edge(g, LABEL(edge_lock), 13);
	expect_edge(g, LABEL(watch_movups), 13);
	expect_edge(g, LABEL(edge_fld), 13);
	expect_edge(g, LABEL(edge_bp), 12);
	g->s.gpr[RBX] = EDGE - 0x100;
	expect_edge(g, LABEL(watch_fxsave), 13);
	expect_edge(g, LABEL(edge_fxrstor), 13);
	/* The part of the image that FXSAVE leaves alone counts too. */
	g->s.gpr[RBX] = EDGE - 0x1f0;
	expect_edge(g, LABEL(watch_fxsave), 13);
}

Test(softsystem_checks, edge)
{
	struct guest g;

	guest_open(&g);
	edge_accesses(&g);
	edge_map(&g);
	edge_accesses(&g);
	/* Wholly below it is an access as any other. */
	g.s.gpr[RBX] = EDGE - 8;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	guest_close(&g);
}

Test(softsystem_checks, edge_stack)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 12, LABEL(stubs) + 12 * 16, 0, 1);
	g.s.gpr[RSP] = EDGE - 4;
	guest_expect(&g, LABEL(edge_pop), 12, 0);
	g.s.gpr[RSP] = EDGE + 4;
	guest_expect(&g, LABEL(watch_push), 12, 0);
	/* An interrupt's frame: #SS in its delivery. */
	g.s.gpr[RSP] = EDGE + 0x10;
	guest_expect(&g, LABEL(int_round), 12, 0);
	guest_close(&g);
}

Test(softsystem_checks, edge_strings)
{
	struct guest g;

	guest_open(&g);
	edge_map(&g);
	g.s.gpr[RSI] = DATA;
	g.s.gpr[RDI] = EDGE - 5;
	g.s.gpr[RCX] = 20;
	guest_expect(&g, LABEL(watch_rep), 13, 0);
	cr_expect_eq(g.s.gpr[RCX], 15);
	cr_expect_eq(g.s.gpr[RDI], EDGE);
	memset(g.ram + 0x1fff00, 0, 0x100);
	g.s.gpr[RDI] = EDGE - 7;
	g.s.gpr[RCX] = 9;
	guest_expect(&g, LABEL(edge_scas), 13, 0);
	cr_expect_eq(g.s.gpr[RCX], 2);
	guest_close(&g);
}

/* An instruction across the edge, and the one that would begin beyond it. */
Test(softsystem_checks, edge_fetch)
{
	struct guest g;

	guest_open(&g);
	edge_map(&g);
	g.ram[0x1ffffe] = 0x90;
	g.ram[0x1fffff] = 0x48; /* a prefix */
	guest_expect(&g, EDGE - 2, 13, 0);
	cr_expect_eq(STOP_RIP(&g), EDGE - 1);
	g.ram[0x1fffff] = 0x90;
	guest_expect(&g, EDGE - 2, 13, 0);
	cr_expect_eq(STOP_RIP(&g), EDGE);
	guest_close(&g);
}

/* ---- Alignment ------------------------------------------------------------------------------- */

#define AC 0x40000u

static void align_open(struct guest *g)
{
	guest_open(g);
	guest_user(g);
	guest_gate(g, 0x40, LABEL(stubs) + 0x40 * 16, 3, 0);
	g->s.cr0 |= AC; /* AM is the same bit */
}

/* Runs at CPL 3; whether it was #AC(0) at the instruction (else it ended in INT 40h). */
static bool misaligned(struct guest *g, uint64_t rip, uint64_t address)
{
	guest_user(g);
	g->s.rflags = AC | 2;
	g->s.gpr[RBX] = g->s.gpr[RSI] = address;
	g->s.gpr[RDI] = DATA + 0x800;
	g->s.gpr[RCX] = 2;
	cr_assert_eq(guest_run_at(g, rip), VCPU_EXIT_HLT);
	if (STOP_VECTOR(g) == 0x40)
		return false;
	cr_expect_eq(STOP_VECTOR(g), 17, "vector %lu", STOP_VECTOR(g));
	cr_expect_eq(STOP_ERROR(g), 0);
	cr_expect_eq(STOP_RIP(g), rip);
	return true;
}

static void expect_alignment(struct guest *g, uint64_t rip, unsigned align)
{
	for (unsigned n = 0; n < 17; n++)
		cr_expect_eq(misaligned(g, rip, DATA + n), n % align != 0, "offset %u of %u", n,
			     align);
}

Test(softsystem_checks, alignment)
{
	struct guest g;

	align_open(&g);
	expect_alignment(&g, LABEL(align_byte), 1);
	expect_alignment(&g, LABEL(align_load2), 2);
	expect_alignment(&g, LABEL(align_load4), 4);
	expect_alignment(&g, LABEL(align_load8), 8);
	expect_alignment(&g, LABEL(align_store8), 8);
	expect_alignment(&g, LABEL(align_add4), 4);
	expect_alignment(&g, LABEL(align_lock4), 4);
	expect_alignment(&g, LABEL(align_fld), 8);
	expect_alignment(&g, LABEL(align_movups), 16);
	expect_alignment(&g, LABEL(align_movsd), 4);
	guest_close(&g);
}

/* #GP for operands that must be aligned, and for what is not canonical; but #AC before #PF. */
Test(softsystem_checks, alignment_order)
{
	struct guest g;

	align_open(&g);
	g.s.rflags |= AC;
	g.s.gpr[RBX] = DATA + 8;
	guest_expect(&g, LABEL(align_movaps), 13, 0);
	guest_user(&g);
	guest_expect(&g, LABEL(align_fxsave), 13, 0);
	guest_user(&g);
	g.s.rflags |= AC;
	g.s.gpr[RBX] = EDGE + 1;
	guest_expect(&g, LABEL(align_load4), 13, 0);
	cr_expect(misaligned(&g, LABEL(align_load4), UNMAPPED + 1));
	guest_close(&g);
}

/* Not without one of the three conditions; POPF switches it on and off, an interrupt keeps AC. */
Test(softsystem_checks, alignment_off)
{
	struct guest g;

	align_open(&g);
	g.s.gpr[RBX] = DATA;
	guest_expect(&g, LABEL(align_popf), 17, 0);
	guest_user(&g);
	g.s.rflags = AC | 2;
	guest_expect(&g, LABEL(align_off), 0x40, 0);
	g.s.cr0 &= ~(uint64_t)AC;
	cr_expect_not(misaligned(&g, LABEL(align_load8), DATA + 1));
	g.s.cr0 |= AC;
	cr_expect(misaligned(&g, LABEL(align_load8), DATA + 1));
	guest_close(&g);
	/* CPL 0 */
	guest_open(&g);
	g.s.cr0 |= AC;
	g.s.rflags = AC | 2;
	g.s.gpr[RBX] = DATA + 1;
	cr_expect_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(load) + 4);
	guest_close(&g);
}

Test(softsystem_checks, alignment_stack)
{
	struct guest g;

	align_open(&g);
	g.s.rflags |= AC;
	g.s.gpr[RSP] = STACK_USER - 4;
	guest_expect(&g, LABEL(align_push), 17, 0);
	guest_close(&g);
}

/* ---- Segments -------------------------------------------------------------------------------- */

#define DATA_RW	    0xc93u
#define DATA_RO	    0xc91u
#define DATA_DOWN   0xc97u /* expand-down, 32 bits */
#define DATA_DOWN16 0x897u
#define CODE_RX	    0xc9bu
#define CODE_X	    0xc99u

static void segment(struct guest *g, unsigned seg, uint32_t base, uint32_t limit, uint16_t attr)
{
	g->s.seg[seg] = (struct vcpu_segment){
		.selector = SEL_KDATA, .base = base, .limit = limit, .attr = attr};
}

/* Runs 32-bit code at CPL 0: the vector it ended with, or -1: it came to its own HLT. */
static int run32(struct guest *g, uint64_t rip)
{
	g->s.gpr[RSI] = 0x1000;
	cr_assert_eq(guest_run_at(g, rip), VCPU_EXIT_HLT, "exit %d", g->exit.reason);
	if (g->s.gpr[RSI] >= 256)
		return -1;
	cr_expect_eq(g->s.gpr[RDI], 0, "error %lx", g->s.gpr[RDI]);
	cr_expect_eq(g->s.gpr[RBP], rip, "at %lx", g->s.gpr[RBP]);
	g->s.gpr[RSP] = STACK;
	return (int)g->s.gpr[RSI];
}

static int run32_at(struct guest *g, uint64_t rip, uint32_t ebx)
{
	g->s.gpr[RBX] = ebx;
	return run32(g, rip);
}

Test(softsystem_checks, limit)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	segment(&g, SEG_DS, DATA, 0xff, DATA_RW);
	*guest_u32(&g, DATA + 0xfc) = 0x1234;
	cr_expect_eq(run32_at(&g, LABEL(load32), 0xfc), -1);
	cr_expect_eq(g.s.gpr[RAX], 0x1234);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0xfd), 13);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0x100), 13);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0xfffffffe), 13);
	cr_expect_eq(run32_at(&g, LABEL(store32), 0xfd), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_add), 0xfd), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_lock), 0xfd), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_fxsave), 0), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_add), 0xfc), -1);
	cr_expect_eq(run32_at(&g, LABEL(checked_lock), 0xfc), -1);
	cr_expect_eq(*guest_u32(&g, DATA + 0xfc), 0x1236);
	guest_close(&g);
}

Test(softsystem_checks, expand_down)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	segment(&g, SEG_DS, DATA, 0xff, DATA_DOWN);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0x100), -1);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0xff), 13);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0), 13);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0x10000), -1);
	segment(&g, SEG_DS, DATA, 0xff, DATA_DOWN16);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0xfffc), -1);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0xfffd), 13);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0x10000), 13);
	guest_close(&g);
}

Test(softsystem_checks, types)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	segment(&g, SEG_DS, 0, UINT32_MAX, DATA_RO);
	cr_expect_eq(run32_at(&g, LABEL(load32), DATA), -1);
	cr_expect_eq(run32_at(&g, LABEL(store32), DATA), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_add), DATA), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_lock), DATA), 13);
	segment(&g, SEG_DS, 0, UINT32_MAX, CODE_RX);
	cr_expect_eq(run32_at(&g, LABEL(load32), DATA), -1);
	cr_expect_eq(run32_at(&g, LABEL(store32), DATA), 13);
	segment(&g, SEG_DS, 0, UINT32_MAX, DATA_RW);
	/* CS is never written, even when all else is flat; nor read, if it may only be executed. */
	cr_expect_eq(run32_at(&g, LABEL(checked_store_cs), DATA), 13);
	cr_expect_eq(run32_at(&g, LABEL(checked_load_cs), DATA), -1);
	g.s.seg[SEG_CS].attr = CODE_X;
	cr_expect_eq(run32_at(&g, LABEL(checked_load_cs), DATA), 13);
	guest_close(&g);
}

Test(softsystem_checks, null_segment)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	g.s.seg[SEG_FS] = (struct vcpu_segment){0};
	cr_expect_eq(run32_at(&g, LABEL(checked_load_fs), DATA), 13);
	cr_expect_eq(run32_at(&g, LABEL(load32), DATA), -1);
	/* MOV makes one null as well. */
	g.s.gpr[RCX] = 0;
	g.s.gpr[RAX] = 0;
	cr_expect_eq(run32_at(&g, LABEL(load32), DATA), -1);
	segment(&g, SEG_DS, 0, 0, 0);
	cr_expect_eq(run32_at(&g, LABEL(load32), 0), 13);
	guest_close(&g);
}

Test(softsystem_checks, beside_a_flat_one)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	segment(&g, SEG_ES, DATA, 0xff, DATA_RO);
	*guest_u32(&g, DATA + 0x10) = 1;
	*guest_u32(&g, 0x10010) = 2;
	*guest_u32(&g, DATA + 0x14) = 3;
	cr_expect_eq(run32_at(&g, LABEL(checked_load_flat), 0x10), -1);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RCX], *guest_u32(&g, 0x10010));
	cr_expect_eq(g.s.gpr[RDX], 3);
	guest_close(&g);
}

Test(softsystem_checks, limit_strings)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	segment(&g, SEG_ES, DATA, 0x4b, DATA_RW);
	memset(g.ram + DATA, 0, 0x80);
	for (unsigned n = 0; n < 8; n++)
		*guest_u32(&g, 0x1000 + n * 4) = 0x01010101;
	g.s.gpr[RDI] = 0x40;
	g.s.gpr[RCX] = 8;
	g.s.gpr[RSI] = 0x1000;
	cr_assert_eq(guest_run_at(&g, LABEL(checked_movs)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RSI], 13);
	cr_expect_eq(g.s.gpr[RCX], 5);
	cr_expect_eq(*guest_u32(&g, DATA + 0x48), 0x01010101);
	cr_expect_eq(*guest_u32(&g, DATA + 0x4c), 0);
	guest_close(&g);
}

/* The stack: #SS. The handler of an outer stack overflow needs one of its own, so the gate of #SS
 * leads to CPL 0 from CPL 0 only where there is room: with a limit that leaves it. */
Test(softsystem_checks, limit_stack)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	segment(&g, SEG_SS, 0, STACK - 1, DATA_RW);
	g.s.gpr[RSP] = STACK - 2;
	cr_expect_eq(run32(&g, LABEL(checked_pop)), 12);
	g.s.gpr[RSP] = STACK + 2;
	/* Nor can #SS push its frame, nor #DF: shutdown. */
	cr_expect_eq(guest_run_at(&g, LABEL(checked_push)), VCPU_EXIT_SHUTDOWN);
	guest_close(&g);
}

/* Runs with CS up to what no branch of these may reach; the handlers lie below it. */
static int run32_limited(struct guest *g, uint64_t rip)
{
	segment(g, SEG_CS, 0, (uint32_t)LABEL(checked_target) - 1, CODE_RX);
	g->s.seg[SEG_CS].selector = SEL_KCODE32;
	return run32(g, rip);
}

/* Near branches beyond CS's limit fault where they stand, with nothing changed. */
Test(softsystem_checks, limit_code)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	cr_expect_eq(run32_limited(&g, LABEL(checked_jmp)), 13);
	cr_expect_eq(run32_limited(&g, LABEL(checked_call)), 13);
	g.s.gpr[RCX] = 2;
	cr_expect_eq(run32_limited(&g, LABEL(checked_loop)), 13);
	cr_expect_eq(g.s.gpr[RCX], 2);
	*guest_u32(&g, STACK) = (uint32_t)LABEL(checked_target);
	cr_expect_eq(run32_limited(&g, LABEL(checked_ret)), 13);
	guest_close(&g);
}

/* An instruction whose last byte lies beyond: once its block was known from a larger limit. */
Test(softsystem_checks, limit_fetch)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	g.s.gpr[RAX] = 0;
	cr_expect_eq(run32(&g, LABEL(checked_fall)), -1);
	cr_expect_eq(g.s.gpr[RAX], 0x12345678);
	g.s.gpr[RAX] = 0;
	g.s.gpr[RSI] = 0x1000;
	g.s.seg[SEG_CS].limit = (uint32_t)LABEL(checked_fall) + 5;
	cr_assert_eq(guest_run_at(&g, LABEL(checked_fall)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RSI], 13);
	cr_expect_eq(g.s.gpr[RBP], LABEL(checked_fall) + 2);
	cr_expect_eq(g.s.gpr[RAX], 0);
	guest_close(&g);
}

/* Real mode: a word at FFFFh is #GP, by the stack #SS. */
Test(softsystem_checks, real_mode)
{
	struct guest g;

	guest_open(&g);
	vcpu_state_sipi(&g.s, CODE >> 12);
	*guest_u32(&g, 13 * 4) = CODE << 12 | (uint32_t)(LABEL(hlt) - CODE);
	*guest_u32(&g, 12 * 4) = CODE << 12 | (uint32_t)(LABEL(hlt) - CODE);
	g.s.gpr[RSP] = 0xff00;
	g.s.gpr[RBX] = 0xffff;
	cr_assert_eq(guest_run_at(&g, LABEL(real_word) - CODE), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(hlt) - CODE + 1);
	cr_expect_eq(*(uint16_t *)(g.ram + 0xff00 - 6), LABEL(real_word) - CODE);
	g.s.gpr[RSP] = 0xff00;
	g.s.gpr[RBX] = 0xfffe;
	cr_assert_eq(guest_run_at(&g, LABEL(real_word) - CODE), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(real_word) - CODE + 3);
	guest_close(&g);
}
