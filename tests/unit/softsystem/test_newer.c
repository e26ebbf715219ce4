/* SPDX-License-Identifier: Apache-2.0 */
/* What processors after 2003 have for systems: SMEP, SMAP, UMIP, FSGSBASE, RDPID, RDTSCP, RDRAND, RDSEED. */
#include <string.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_newer, .timeout = 20);

#define CODE_AT	     0x58000u
#define CR4_UMIP     UINT64_C(0x000800)
#define CR4_FSGSBASE UINT64_C(0x010000)
#define CR4_SMEP     UINT64_C(0x100000)
#define CR4_SMAP     UINT64_C(0x200000)
#define FLAG_AC	     0x40000u
#define FLAG_CF	     1u

/* Bytes of code at CODE_AT, and HLT behind them. */
#define CODE_PUT(g, ...)                                                                           \
	code_put((g), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
static void code_put(struct guest *g, const uint8_t *bytes, size_t n)
{
	memcpy(g->ram + CODE_AT, bytes, n);
	g->ram[CODE_AT + n] = 0xf4;
}

/* All pages but this one are the supervisor's. */
static void user_page(struct guest *g, uint64_t page)
{
	for (uint64_t at = 0; at < 0x200000; at += 0x1000)
		if (at != page)
			*guest_pte(g, at) &= ~(uint64_t)U;
}

static void expect_pf(struct guest *g, uint64_t error, uint64_t cr2, uint64_t rip)
{
	guest_expect(g, CODE_AT, 14, error);
	cr_expect_eq(STOP_CR2(g), cr2, "CR2 %lx, not %lx", STOP_CR2(g), cr2);
	cr_expect_eq(STOP_RIP(g), rip, "RIP %lx, not %lx", STOP_RIP(g), rip);
}

#define LOAD  0x48, 0x8b, 0x03 /* mov rax, [rbx] */
#define STORE 0x48, 0x89, 0x03
#define STAC  0x0f, 0x01, 0xcb
#define CLAC  0x0f, 0x01, 0xca

/* ---- SMAP and SMEP ---------------------------------------------------------------------------- */

Test(softsystem_newer, smap_denies_users_data)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, DATA);
	g.s.cr4 |= CR4_SMAP;
	g.s.gpr[RBX] = DATA + 8;
	CODE_PUT(&g, LOAD);
	expect_pf(&g, 1, DATA + 8, CODE_AT);
	CODE_PUT(&g, STORE);
	g.s.gpr[RBX] = DATA + 8;
	g.s.gpr[RSP] = STACK;
	expect_pf(&g, 3, DATA + 8, CODE_AT);
	cr_expect_not(*guest_pte(&g, DATA) & (A | D));
	/* Without CR4.SMAP it is there. */
	g.s.cr4 &= ~CR4_SMAP;
	g.s.gpr[RBX] = DATA + 8;
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, CODE_AT + 4);
	guest_close(&g);
}

/* What the TLB learnt while AC was set does not count when it is clear. */
Test(softsystem_newer, ac_lifts_smap)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, DATA);
	*guest_u64(&g, DATA) = 0x1234;
	g.s.cr4 |= CR4_SMAP;
	g.s.gpr[RBX] = DATA;
	CODE_PUT(&g, STAC, LOAD, STORE, CLAC, LOAD);
	expect_pf(&g, 1, DATA, CODE_AT + 12);
	cr_expect_eq(g.s.gpr[RAX], 0x1234);
	/* By POPF; STAC may be given twice. */
	CODE_PUT(&g, STAC, LOAD, 0x6a, 0x00, 0x9d, LOAD); /* push 0; popf */
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = DATA;
	expect_pf(&g, 1, DATA, CODE_AT + 9);
	CODE_PUT(&g, CLAC, 0x68, 0x00, 0x00, 0x04, 0x00, 0x9d, STAC, LOAD);
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = DATA;
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, CODE_AT + 16);
	cr_expect(g.s.rflags & FLAG_AC);
	guest_close(&g);
}

/* The CPU's own look at a descriptor table is not lifted: #PF, and #DF, and the third fault. */
Test(softsystem_newer, smap_holds_for_tables)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, GDT);
	CODE_PUT(&g, STAC, 0x8e, 0xd8); /* mov ds, eax */
	g.s.gpr[RAX] = SEL_KDATA;
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	g.s.cr4 |= CR4_SMAP;
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_SHUTDOWN);
	guest_close(&g);
}

Test(softsystem_newer, smap_leaves_users_alone)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, DATA);
	*guest_pte(&g, CODE_AT) |= U;
	g.s.cr4 |= CR4_SMAP | CR4_SMEP;
	guest_user(&g);
	g.s.gpr[RBX] = DATA;
	CODE_PUT(&g, LOAD, STORE, 0x0f, 0x0b);
	guest_expect(&g, CODE_AT, 6, 0);
	cr_expect_eq(STOP_RIP(&g), CODE_AT + 6);
	/* Of its own it may not lift anything. */
	CODE_PUT(&g, STAC);
	guest_user(&g);
	guest_expect(&g, CODE_AT, 6, 0);
	guest_close(&g);
}

Test(softsystem_newer, syscall_drops_ac)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, DATA);
	*guest_pte(&g, CODE_AT) |= U;
	*guest_pte(&g, CODE_AT + 0x1000) &= ~(uint64_t)U;
	memcpy(g.ram + CODE_AT + 0x1000, (const uint8_t[]){LOAD, 0xf4}, 4);
	g.s.cr4 |= CR4_SMAP;
	g.s.cr0 &= ~UINT64_C(0x40000); /* AM: AC would check alignment at CPL 3 */
	g.s.lstar = CODE_AT + 0x1000;
	g.s.sfmask = FLAG_AC;
	guest_user(&g);
	g.s.rflags |= FLAG_AC;
	g.s.gpr[RBX] = DATA;
	CODE_PUT(&g, LOAD, 0x0f, 0x05);
	/* The kernel has no stack of its own yet: the fault's frame goes to the user's, which is the supervisor's. */
	expect_pf(&g, 1, DATA, CODE_AT + 0x1000);
	guest_close(&g);
}

Test(softsystem_newer, smep_denies_users_code)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, DATA);
	g.ram[DATA] = 0xf4;
	CODE_PUT(&g, 0xff, 0xd3); /* call rbx */
	g.s.gpr[RBX] = DATA;
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, DATA + 1);
	g.s.cr4 |= CR4_SMEP;
	g.s.gpr[RSP] = STACK;
	expect_pf(&g, 0x11, DATA, DATA);
	/* The error code has I/D without NX, too. */
	g.s.efer &= ~UINT64_C(0x800);
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = DATA;
	expect_pf(&g, 0x11, DATA, DATA);
	guest_close(&g);
}

/* MOV CR4 takes effect at the next instruction, in blocks and TLB entries there were before. */
Test(softsystem_newer, cr4_switches_them)
{
	struct guest g;

	guest_open_newer(&g);
	user_page(&g, DATA);
	g.ram[DATA + 0x10] = 0xc3; /* ret */
	CODE_PUT(&g, 0xff, 0xd3, 0x0f, 0x22, 0xe1, 0xff,
		 0xd3); /* call rbx; mov cr4, rcx; call rbx */
	g.s.gpr[RBX] = DATA + 0x10;
	g.s.gpr[RCX] = g.s.cr4 | CR4_SMEP;
	expect_pf(&g, 0x11, DATA + 0x10, DATA + 0x10);
	g.s.cr4 &= ~CR4_SMEP;
	CODE_PUT(&g, LOAD, 0x0f, 0x22, 0xe1, LOAD);
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = DATA;
	g.s.gpr[RCX] = g.s.cr4 | CR4_SMAP;
	expect_pf(&g, 1, DATA, CODE_AT + 6);
	guest_close(&g);
}

/* ---- UMIP ------------------------------------------------------------------------------------- */

Test(softsystem_newer, umip)
{
	static const uint8_t codes[][4] = {
		{0x0f, 0x01, 0x03}, /* sgdt [rbx] */
		{0x0f, 0x01, 0x0b}, /* sidt [rbx] */
		{0x0f, 0x00, 0xc0}, /* sldt eax */
		{0x0f, 0x00, 0xc8}, /* str eax */
		{0x0f, 0x01, 0xe0}, /* smsw eax */
	};
	struct guest g;

	guest_open_newer(&g);
	for (unsigned n = 0; n < sizeof(codes) / sizeof(codes[0]); n++) {
		CODE_PUT(&g, codes[n][0], codes[n][1], codes[n][2], 0x0f, 0x0b);
		for (unsigned k = 0; k < 4; k++) {
			g.s.cr4 = 0x6a0 | (k & 1 ? CR4_UMIP : 0);
			g.s.gpr[RSP] = STACK;
			if (k & 2)
				guest_user(&g);
			g.s.gpr[RBX] = DATA;
			guest_expect(&g, CODE_AT, k == 3 ? 13 : 6, 0);
			cr_expect_eq(STOP_RIP(&g), CODE_AT + (k == 3 ? 0 : 3));
		}
	}
	guest_close(&g);
}

/* ---- FSGSBASE --------------------------------------------------------------------------------- */

Test(softsystem_newer, fsgsbase)
{
	struct guest g;

	guest_open_newer(&g);
	/* wrfsbase rbx; wrgsbase ecx; rdfsbase eax; rdgsbase rdx */
	CODE_PUT(&g, 0xf3, 0x48, 0x0f, 0xae, 0xd3, 0xf3, 0x0f, 0xae, 0xd9, 0xf3, 0x0f, 0xae, 0xc0,
		 0xf3, 0x48, 0x0f, 0xae, 0xca);
	g.s.gpr[RBX] = UINT64_C(0xffff812345678000);
	g.s.gpr[RCX] = UINT64_C(0x1111111187654321);
	guest_expect(&g, CODE_AT, 6, 0); /* the system has not allowed it */
	g.s.cr4 |= CR4_FSGSBASE;
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = UINT64_C(0xffff812345678000);
	g.s.gpr[RCX] = UINT64_C(0x1111111187654321);
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.seg[SEG_FS].base, UINT64_C(0xffff812345678000));
	cr_expect_eq(g.s.seg[SEG_GS].base, 0x87654321);
	cr_expect_eq(g.s.gpr[RAX], 0x45678000);
	cr_expect_eq(g.s.gpr[RDX], 0x87654321);
	g.s.gpr[RBX] = UINT64_C(0x0000812345678000);
	guest_expect(&g, CODE_AT, 13, 0);
	guest_close(&g);
}

/* ---- Numbers of the CPU, and random ones ------------------------------------------------------ */

Test(softsystem_newer, rdpid_and_rdtscp)
{
	struct guest g;

	guest_open_newer(&g);
	g.s.tsc_aux = 0x1234567;
	g.s.gpr[RBX] = g.s.gpr[RCX] = UINT64_MAX;
	CODE_PUT(&g, 0xf3, 0x0f, 0xc7, 0xfb, 0x0f, 0x01, 0xf9); /* rdpid rbx; rdtscp */
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RBX], 0x1234567);
	cr_expect_eq(g.s.gpr[RCX], 0x1234567);
	guest_close(&g);
}

/* Three equal numbers of 64 bits are no accident. */
static void random_expect(struct guest *g, uint8_t modrm)
{
	uint64_t value[3];

	CODE_PUT(g, 0x48, 0x0f, 0xc7, modrm);
	for (unsigned n = 0; n < 3; n++) {
		g->s.rflags = 0x8d6;
		cr_assert_eq(guest_run_at(g, CODE_AT), VCPU_EXIT_HLT);
		cr_expect_eq(g->s.rflags & 0x8d5, FLAG_CF);
		value[n] = g->s.gpr[RBX];
	}
	cr_expect(value[0] != value[1] || value[1] != value[2]);
	CODE_PUT(g, 0x66, 0x0f, 0xc7, modrm);
	g->s.gpr[RBX] = UINT64_C(0x1111111111110000);
	cr_assert_eq(guest_run_at(g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g->s.gpr[RBX] >> 16, UINT64_C(0x111111111111));
}

Test(softsystem_newer, random_numbers)
{
	struct guest g;

	guest_open_newer(&g);
	random_expect(&g, 0xf3); /* rdrand rbx */
	random_expect(&g, 0xfb); /* rdseed rbx */
	guest_close(&g);
}

/* ---- Models without them ---------------------------------------------------------------------- */

Test(softsystem_newer, older_models_refuse_the_bits)
{
	static const uint64_t bits[] = {CR4_UMIP, CR4_FSGSBASE, CR4_SMEP, CR4_SMAP};
	struct guest g;

	guest_open(&g);
	CODE_PUT(&g, 0x0f, 0x22, 0xe3); /* mov cr4, rbx */
	for (unsigned n = 0; n < sizeof(bits) / sizeof(bits[0]); n++) {
		g.s.gpr[RSP] = STACK;
		g.s.gpr[RBX] = 0x6a0 | bits[n];
		guest_expect(&g, CODE_AT, 13, 0);
		g.s.cr4 |= bits[n];
		cr_expect_eq(g.v->ops->state_set(g.v, &g.s), -22, "bit %u", n);
		g.s.cr4 = 0x6a0;
	}
	CODE_PUT(&g, STAC);
	g.s.gpr[RSP] = STACK;
	guest_expect(&g, CODE_AT, 6, 0);
	guest_close(&g);
}
