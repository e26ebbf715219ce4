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

/* ---- XSAVE ------------------------------------------------------------------------------------ */

#define CR4_OSXSAVE UINT64_C(0x40000)
#define IMAGE	    DATA /* 64-byte aligned */
#define HEADER	    (IMAGE + 512)
#define AVX	    (IMAGE + 576)

static void xmm_put(struct guest *g, uint8_t seed)
{
	for (unsigned n = 0; n < 256; n++) {
		g->s.fxsave[160 + n] = (uint8_t)(n * 3 + seed);
		g->s.ymm_high[n / 16][n % 16] = (uint8_t)(n * 5 + seed);
	}
}

static void xsave_open(struct guest *g)
{
	guest_open_newer(g);
	g->s.cr4 |= CR4_OSXSAVE;
	g->s.xcr0 = 7;
}

Test(softsystem_newer, xcr0)
{
	static const struct {
		uint64_t value;
		bool valid;
	} cases[] = {{1, true},	 {3, true},  {7, true},	  {0, false},
		     {2, false}, {5, false}, {15, false}, {UINT64_C(1) << 62 | 1, false}};
	struct guest g;

	xsave_open(&g);
	CODE_PUT(&g, 0x0f, 0x01, 0xd1, 0x0f, 0x01, 0xd0); /* xsetbv; xgetbv */
	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		g.s.gpr[RSP] = STACK;
		g.s.gpr[RCX] = 0;
		g.s.gpr[RAX] = (uint32_t)cases[n].value;
		g.s.gpr[RDX] = cases[n].value >> 32;
		if (!cases[n].valid) {
			guest_expect(&g, CODE_AT, 13, 0);
			continue;
		}
		cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.xcr0, cases[n].value);
		cr_expect_eq(g.s.gpr[RAX], cases[n].value);
		cr_expect_eq(g.s.gpr[RDX], 0);
	}
	/* Another register of its kind; without the system's leave; at CPL 3. */
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RAX] = g.s.gpr[RCX] = 1;
	guest_expect(&g, CODE_AT, 13, 0);
	guest_user(&g);
	g.s.gpr[RCX] = 0;
	g.s.gpr[RAX] = 7;
	guest_expect(&g, CODE_AT, 13, 0);
	g.s.cr4 &= ~CR4_OSXSAVE;
	g.s.gpr[RSP] = STACK;
	guest_expect(&g, CODE_AT, 6, 0);
	guest_close(&g);
}

/* OSXSAVE and the image's size follow the state. */
Test(softsystem_newer, cpuid_of_xsave)
{
	struct guest g;

	xsave_open(&g);
	CODE_PUT(&g, 0x0f, 0xa2);
	for (unsigned n = 0; n < 2; n++) {
		g.s.cr4 = 0x6a0 | (n ? CR4_OSXSAVE : 0);
		g.s.gpr[RAX] = 1;
		cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[RCX] >> 27 & 1, n);
	}
	guest_close(&g);
}

Test(softsystem_newer, xsave_and_back)
{
	struct guest g;
	struct vcpu_state before;

	xsave_open(&g);
	CODE_PUT(&g, 0x48, 0x0f, 0xae, 0x23); /* xsave64 [rbx] */
	xmm_put(&g, 7);
	g.s.fxsave[24] = 0xa0; /* MXCSR 1fa0 */
	g.s.fxsave[0] = 0x7a;
	g.s.gpr[RBX] = IMAGE;
	g.s.gpr[RAX] = g.s.gpr[RDX] = UINT32_MAX;
	*guest_u64(&g, HEADER) = UINT64_C(0xf0);
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	before = g.s;
	cr_expect_eq(*guest_u64(&g, HEADER), 0xf7); /* bits of others stay */
	cr_expect_eq(memcmp(g.ram + IMAGE, g.s.fxsave, 416), 0);
	cr_expect_eq(memcmp(g.ram + AVX, g.s.ymm_high, 256), 0);
	*guest_u64(&g, HEADER) = 7;
	/* All of it comes back; and with bits clear, the initial state, but for MXCSR. */
	CODE_PUT(&g, 0x48, 0x0f, 0xae, 0x2b); /* xrstor64 [rbx] */
	xmm_put(&g, 99);
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(memcmp(g.s.fxsave, before.fxsave, 416), 0);
	cr_expect_eq(memcmp(g.s.ymm_high, before.ymm_high, 256), 0);
	*guest_u64(&g, HEADER) = 2;
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.fxsave[0] | g.s.fxsave[1] << 8, 0x37f);
	cr_expect_eq(g.s.fxsave[24] | g.s.fxsave[25] << 8, 0x1fa0);
	cr_expect_eq(memcmp(g.s.fxsave + 160, before.fxsave + 160, 256), 0);
	for (unsigned n = 0; n < 256; n++)
		cr_expect_eq(g.s.ymm_high[n / 16][n % 16], 0);
	/* Only what is asked for. */
	xmm_put(&g, 55);
	*guest_u64(&g, HEADER) = 7;
	g.s.gpr[RAX] = 4;
	g.s.gpr[RDX] = 0;
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(memcmp(g.s.ymm_high, before.ymm_high, 256), 0);
	cr_expect_eq(g.s.fxsave[160], 55);
	guest_close(&g);
}

/* Without upper halves in use XSAVEOPT leaves theirs in memory alone. */
Test(softsystem_newer, xsaveopt)
{
	struct guest g;

	xsave_open(&g);
	CODE_PUT(&g, 0x48, 0x0f, 0xae, 0x33); /* xsaveopt64 [rbx] */
	memset(g.ram + AVX, 0x5a, 256);
	g.s.gpr[RBX] = IMAGE;
	g.s.gpr[RAX] = 7;
	*guest_u64(&g, HEADER) = 7;
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u64(&g, HEADER), 3);
	cr_expect_eq(g.ram[AVX], 0x5a);
	xmm_put(&g, 1);
	g.s.gpr[RAX] = 7;
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u64(&g, HEADER), 7);
	cr_expect_eq(memcmp(g.ram + AVX, g.s.ymm_high, 256), 0);
	guest_close(&g);
}

Test(softsystem_newer, xrstor_refuses)
{
	static const struct {
		uint64_t header[3];
		uint32_t mxcsr;
		unsigned skew;
	} cases[] = {{{8, 0, 0}, 0x1f80, 0},
		     {{7, UINT64_C(1) << 63, 0}, 0x1f80, 0},
		     {{7, 0, 1}, 0x1f80, 0},
		     {{7, 0, 0}, 0x10000, 0},
		     {{7, 0, 0}, 0x1f80, 16}};
	struct guest g;

	xsave_open(&g);
	CODE_PUT(&g, 0x48, 0x0f, 0xae, 0x2b);
	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		memcpy(g.ram + HEADER, cases[n].header, sizeof(cases[n].header));
		*guest_u32(&g, IMAGE + 24) = cases[n].mxcsr;
		g.s.gpr[RSP] = STACK;
		g.s.gpr[RBX] = IMAGE + cases[n].skew;
		g.s.gpr[RAX] = 7;
		guest_expect(&g, CODE_AT, 13, 0);
	}
	g.s.cr0 |= 8; /* TS */
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = IMAGE;
	guest_expect(&g, CODE_AT, 7, 0);
	guest_close(&g);
}

/* ---- AVX -------------------------------------------------------------------------------------- */

Test(softsystem_newer, avx_needs_the_systems_leave)
{
	struct guest g;

	xsave_open(&g);
	CODE_PUT(&g, 0xc5, 0xfc, 0x58, 0xc1); /* vaddps ymm0, ymm0, ymm1 */
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	g.s.cr0 |= 8; /* TS; and EM, which means nothing to it */
	g.s.gpr[RSP] = STACK;
	guest_expect(&g, CODE_AT, 7, 0);
	g.s.cr0 = (g.s.cr0 & ~UINT64_C(8)) | 4;
	cr_expect_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	g.s.xcr0 = 3;
	g.s.gpr[RSP] = STACK;
	guest_expect(&g, CODE_AT, 6, 0);
	g.s.xcr0 = 7;
	g.s.cr4 &= ~CR4_OSXSAVE;
	g.s.gpr[RSP] = STACK;
	guest_expect(&g, CODE_AT, 6, 0);
	guest_close(&g);
}

/* A gather that faults leaves what it has read, and clears its mask so far; going on it gives the rest. */
Test(softsystem_newer, gather_goes_on)
{
	struct guest g;

	xsave_open(&g);
	CODE_PUT(&g, 0xc4, 0xe2, 0x69, 0x90, 0x04,
		 0x8b); /* vpgatherdd xmm0, [rbx + xmm1 * 4], xmm2 */
	for (unsigned n = 0; n < 4; n++) {
		*guest_u32(&g, DATA + 0xff8 + n * 4) = 0x100 + n;
		*(uint32_t *)(g.s.fxsave + 160 + 16 + n * 4) = n - 2; /* indexes -2 to 1 */
		*(uint32_t *)(g.s.fxsave + 160 + 32 + n * 4) = n == 1 ? 0 : 0x80000000u;
		*(uint32_t *)(g.s.fxsave + 160 + n * 4) = 0xaaaa;
	}
	memset(g.s.ymm_high, 0xff, sizeof(g.s.ymm_high));
	g.s.gpr[RBX] = DATA + 0x1000;
	*guest_pte(&g, DATA + 0x1000) &= ~(uint64_t)P;
	expect_pf(&g, 0, DATA + 0x1000, CODE_AT);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 160), 0x100);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 164), 0xaaaa);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 168), 0xaaaa);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 192), 0);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 200), UINT32_MAX);
	*guest_pte(&g, DATA + 0x1000) |= P;
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = DATA + 0x1000;
	cr_assert_eq(guest_run_at(&g, CODE_AT), VCPU_EXIT_HLT);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 160), 0x100);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 164), 0xaaaa); /* not asked for */
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 168), 0x102);
	cr_expect_eq(*(uint32_t *)(g.s.fxsave + 172), 0x103);
	for (unsigned n = 0; n < 16; n++) {
		cr_expect_eq(g.s.fxsave[192 + n], 0);
		cr_expect_eq(g.s.ymm_high[0][n], 0);
		cr_expect_eq(g.s.ymm_high[2][n], 0);
	}
	guest_close(&g);
}
