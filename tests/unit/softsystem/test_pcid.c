/* SPDX-License-Identifier: Apache-2.0 */
/* Process-context identifiers: what each keeps, what drops it, and what is refused. */
#include <string.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_pcid, .timeout = 20);

#define CODE_AT	  0x58000u
#define TABLES_B  0x26000u /* another PML4, PDPT, PD and page table, one behind the other */
#define CR4_PCIDE UINT64_C(0x020000)
#define KEEP	  (UINT64_C(1) << 63)

#define CODE_PUT(g, ...)                                                                           \
	code_put((g), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
static void code_put(struct guest *g, const uint8_t *bytes, size_t n)
{
	memcpy(g->ram + CODE_AT, bytes, n);
	g->ram[CODE_AT + n] = 0xf4;
}

#define LOAD_RAX     0x48, 0x8b, 0x03 /* mov rax, [rbx] */
#define LOAD_RDX     0x48, 0x8b, 0x13
#define LOAD_R9	     0x4c, 0x8b, 0x0b
#define LOAD_R11     0x4c, 0x8b, 0x1b
#define CHANGE	     0x48, 0x89, 0x3e /* mov [rsi], rdi */
#define CR3_RCX	     0x0f, 0x22, 0xd9
#define CR3_R8	     0x41, 0x0f, 0x22, 0xd8
#define CR3_R10	     0x41, 0x0f, 0x22, 0xda
#define INVPCID_RBP  0x66, 0x0f, 0x38, 0x82, 0x4d, 0x00 /* invpcid rcx, [rbp] */
#define CALL_RBX     0xff, 0xd3
#define STORE_BYTE_2 0xc6, 0x43, 0x01, 0x02 /* mov byte [rbx + 1], 2 */

/* DATA holds 1 by the guest's own tables; 2, a page further, by the others; one more has 3. */
static void open_two(struct guest *g)
{
	guest_open_newer(g);
	*guest_u64(g, TABLES_B) = (TABLES_B + 0x1000) | ALL;
	*guest_u64(g, TABLES_B + 0x1000) = (TABLES_B + 0x2000) | ALL;
	*guest_u64(g, TABLES_B + 0x2000) = (TABLES_B + 0x3000) | ALL;
	memcpy(g->ram + TABLES_B + 0x3000, g->ram + PT0, 0x1000);
	*guest_u64(g, TABLES_B + 0x3000 + (DATA >> 12) * 8) = (DATA + 0x1000) | ALL;
	for (unsigned n = 0; n < 3; n++)
		*guest_u64(g, DATA + n * 0x1000) = n + 1;
	g->s.cr4 |= CR4_PCIDE;
	g->s.cr3 = PML4 | 1;
	g->s.gpr[RBX] = DATA;
	g->s.gpr[RSI] = PT0 + (DATA >> 12) * 8; /* the entry that is changed, and to what */
	g->s.gpr[RDI] = (DATA + 0x2000) | ALL;
	g->s.gpr[RBP] = DATA + 0x3000; /* INVPCID's descriptor */
}

static void run(struct guest *g)
{
	cr_assert_eq(guest_run_at(g, CODE_AT), VCPU_EXIT_HLT);
	cr_assert_lt(g->s.rip - CODE_AT, 256, "left the code, at %lx", g->s.rip);
}

/* ---- MOV CR3 --------------------------------------------------------------------------------- */

Test(softsystem_pcid, entries_are_kept_if_asked_for)
{
	struct guest g;

	open_two(&g);
	CODE_PUT(&g, LOAD_RAX, CR3_RCX, LOAD_RDX, CHANGE, CR3_R8, LOAD_R9, CR3_R10, LOAD_R11);
	g.s.gpr[RCX] = TABLES_B | 2;
	g.s.gpr[R8] = PML4 | 1 | KEEP;
	g.s.gpr[R10] = PML4 | 1;
	run(&g);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RDX], 2);
	cr_expect_eq(g.s.gpr[R9], 1, "PCID 1 was not kept");
	cr_expect_eq(g.s.gpr[R11], 3, "PCID 1 was not dropped");
	cr_expect_eq(g.s.cr3, PML4 | 1);
	guest_close(&g);
}

/* One that nobody knows holds nothing, whatever bit 63 says, and neither does one that had to give way. */
Test(softsystem_pcid, more_than_there_is_room_for)
{
	struct guest g;

	open_two(&g);
	/* RCX: the tables with PCID 2, 3 ... up to 101, each with bit 63 set; then 1 again. */
	CODE_PUT(&g, LOAD_RAX, CHANGE, CR3_RCX, LOAD_RDX, /* loop: */
		 0x48, 0xff, 0xc1,			  /* inc rcx */
		 CR3_RCX, 0x48, 0x03, 0x13,		  /* add rdx, [rbx] */
		 0x41, 0xff, 0xc9,			  /* dec r9d */
		 0x75, 0xf2,				  /* jnz loop */
		 CR3_R8, LOAD_R11);
	g.s.gpr[RCX] = TABLES_B | 2 | KEEP;
	g.s.gpr[R8] = PML4 | 1 | KEEP;
	g.s.gpr[R9] = 99;
	run(&g);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RDX], 200);
	cr_expect_eq(g.s.gpr[R11], 3);
	guest_close(&g);
}

Test(softsystem_pcid, global_pages_stay_until_invlpg)
{
	struct guest g;

	open_two(&g);
	*guest_pte(&g, DATA) |= G;
	CODE_PUT(&g, LOAD_RAX, CHANGE, CR3_R10, LOAD_RDX, CR3_RCX, 0x0f, 0x01,
		 0x3b /* invlpg [rbx] */, CR3_R8, LOAD_R9);
	g.s.gpr[R10] = PML4 | 1;
	g.s.gpr[RCX] = TABLES_B | 2;
	g.s.gpr[R8] = PML4 | 1 | KEEP;
	run(&g);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RDX], 1, "MOV CR3 dropped a global page");
	cr_expect_eq(g.s.gpr[R9], 3, "INVLPG in PCID 2 kept a global page of PCID 1");
	guest_close(&g);
}

static void expect_gp(struct guest *g, uint64_t rip, uint64_t rax)
{
	g->s.gpr[RAX] = rax;
	g->s.gpr[RSP] = STACK;
	guest_expect(g, rip, 13, 0);
}

Test(softsystem_pcid, what_cr4_and_cr3_refuse)
{
	struct guest g;

	guest_open_newer(&g);
	expect_gp(&g, LABEL(mov_cr3), PML4 | KEEP); /* without PCIDE */
	g.s.cr3 = PML4 | 8;
	expect_gp(&g, LABEL(mov_cr4), g.s.cr4 | CR4_PCIDE); /* CR3 names a PCID */
	g.s.cr3 = PML4;
	g.s.gpr[RAX] = g.s.cr4 | CR4_PCIDE;
	cr_assert_eq(guest_run_at(&g, LABEL(mov_cr4)), VCPU_EXIT_HLT);
	cr_expect(g.s.cr4 & CR4_PCIDE);
	expect_gp(&g, LABEL(mov_cr3), PML4 | UINT64_C(1) << 62);
	g.s.gpr[RAX] = PML4 | 0xfff | KEEP;
	cr_assert_eq(guest_run_at(&g, LABEL(mov_cr3)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.cr3, PML4 | 0xfff);
	guest_close(&g);
	/* A model that has not. */
	guest_open(&g);
	expect_gp(&g, LABEL(mov_cr4), g.s.cr4 | CR4_PCIDE);
	g.s.cr4 |= CR4_PCIDE;
	cr_expect_eq(g.v->ops->state_set(g.v, &g.s), -22);
	guest_close(&g);
}

/* Clearing PCIDE drops all there is. */
Test(softsystem_pcid, cr4_drops_all)
{
	struct guest g;

	open_two(&g);
	g.s.cr3 = PML4;
	*guest_pte(&g, DATA) |= G;
	CODE_PUT(&g, LOAD_RAX, CHANGE, 0x0f, 0x22, 0xe1 /* mov cr4, rcx */, LOAD_RDX);
	g.s.gpr[RCX] = g.s.cr4 & ~CR4_PCIDE;
	run(&g);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RDX], 3);
	guest_close(&g);
}

/* ---- INVPCID --------------------------------------------------------------------------------- */

/* What PCID 1 has of DATA after it was changed and PCID 2 said INVPCID: 1 (kept) or 3 (dropped). */
static uint64_t after_invpcid(uint64_t type, uint64_t pcid, uint64_t linear, bool global)
{
	struct guest g;
	uint64_t found;

	open_two(&g);
	if (global)
		*guest_pte(&g, DATA) |= G;
	CODE_PUT(&g, LOAD_RAX, CHANGE, CR3_R10, INVPCID_RBP, CR3_R8, LOAD_R11);
	*guest_u64(&g, DATA + 0x3000) = pcid;
	*guest_u64(&g, DATA + 0x3008) = linear;
	g.s.gpr[RCX] = type;
	g.s.gpr[R10] = TABLES_B | 2;
	g.s.gpr[R8] = PML4 | 1 | KEEP;
	run(&g);
	cr_expect_eq(g.s.gpr[RAX], 1);
	found = g.s.gpr[R11];
	guest_close(&g);
	return found;
}

Test(softsystem_pcid, invpcid_types)
{
	cr_expect_eq(after_invpcid(0, 1, DATA, false), 3);
	cr_expect_eq(after_invpcid(0, 1, DATA + 0x1000, false), 1);
	cr_expect_eq(after_invpcid(0, 2, DATA, false), 1);
	cr_expect_eq(after_invpcid(1, 1, 0, false), 3);
	cr_expect_eq(after_invpcid(1, 2, 0, false), 1);
	cr_expect_eq(after_invpcid(1, 1, 0, true), 1);
	cr_expect_eq(after_invpcid(2, 0, 0, true), 3);
	cr_expect_eq(after_invpcid(3, 0, 0, false), 3);
	cr_expect_eq(after_invpcid(3, 0, 0, true), 1);
}

static void expect_invpcid(struct guest *g, unsigned vector, uint64_t type, uint64_t pcid,
			   uint64_t linear)
{
	CODE_PUT(g, INVPCID_RBP);
	*guest_u64(g, DATA + 0x3000) = pcid;
	*guest_u64(g, DATA + 0x3008) = linear;
	g->s.gpr[RCX] = type;
	g->s.gpr[RBP] = DATA + 0x3000;
	g->s.gpr[RSP] = STACK;
	guest_expect(g, CODE_AT, vector, 0);
}

Test(softsystem_pcid, invpcid_refuses)
{
	struct guest g;

	open_two(&g);
	expect_invpcid(&g, 13, 4, 0, 0);
	expect_invpcid(&g, 13, UINT64_C(1) << 32, 0, 0);
	expect_invpcid(&g, 13, 0, 0x1000, 0);
	expect_invpcid(&g, 13, 2, UINT64_C(1) << 63, 0);
	expect_invpcid(&g, 13, 0, 1, UINT64_C(1) << 47);
	g.s.cr4 &= ~CR4_PCIDE;
	expect_invpcid(&g, 13, 1, 1, 0);
	guest_user(&g);
	CODE_PUT(&g, INVPCID_RBP);
	guest_expect(&g, CODE_AT, 13, 0);
	g.s.gpr[RSP] = STACK;
	CODE_PUT(&g, 0x66, 0x0f, 0x38, 0x82, 0xc8); /* of a register */
	guest_expect(&g, CODE_AT, 6, 0);
	guest_close(&g);
	guest_open(&g);
	expect_invpcid(&g, 6, 2, 0, 0);
	guest_close(&g);
}

/* ---- Code ------------------------------------------------------------------------------------ */

/* PCID 1 may write the page fast, then PCID 2 runs it: what PCID 1 writes there later is run. */
Test(softsystem_pcid, store_by_an_entry_that_was_kept)
{
	static const uint8_t one[] = {0xb8, 0x01, 0x00, 0x00, 0x00, 0xc3}; /* mov eax, 1; ret */
	struct guest g;

	open_two(&g);
	memcpy(g.ram + DATA, one, sizeof(one));
	CODE_PUT(&g, 0xc6, 0x43, 0x01, 0x01 /* mov byte [rbx + 1], 1 */, CR3_RCX, CALL_RBX, 0x89,
		 0xc2 /* mov edx, eax */, CR3_R8, STORE_BYTE_2, CR3_R10, CALL_RBX);
	g.s.gpr[RCX] = PML4 | 2;
	g.s.gpr[R8] = PML4 | 1 | KEEP;
	g.s.gpr[R10] = PML4 | 2 | KEEP;
	run(&g);
	cr_expect_eq(g.s.gpr[RDX], 1);
	cr_expect_eq(g.s.gpr[RAX], 2, "old code ran");
	guest_close(&g);
}
