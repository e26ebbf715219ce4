/* SPDX-License-Identifier: Apache-2.0 */
/* Page walks: faults and their error codes, accessed and dirty, large pages, flushes, MMIO. */
#include <string.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_paging, .timeout = 20);

static void expect_pf(struct guest *g, uint64_t rip, uint64_t cr2, uint64_t error)
{
	guest_expect(g, rip, 14, error);
	cr_expect_eq(STOP_CR2(g), cr2, "CR2 %lx, not %lx", STOP_CR2(g), cr2);
	cr_expect_eq(STOP_RIP(g), rip);
}

Test(softsystem_paging, error_codes)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RBX] = UNMAPPED + 0x123;
	expect_pf(&g, LABEL(load), UNMAPPED + 0x123, 0);
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = UNMAPPED + 0x123;
	expect_pf(&g, LABEL(store), UNMAPPED + 0x123, 2);
	*guest_pte(&g, DATA) = DATA | P | U;
	g.s.gpr[RSP] = STACK;
	g.s.gpr[RBX] = DATA;
	expect_pf(&g, LABEL(store), DATA, 3);
	/* A reserved bit, and NX. */
	*guest_pte(&g, DATA + 0x1000) = (DATA + 0x1000) | ALL | UINT64_C(1) << 50;
	g.s.gpr[RBX] = DATA + 0x1000;
	expect_pf(&g, LABEL(load), DATA + 0x1000, 9);
	*guest_pte(&g, DATA + 0x2000) = (DATA + 0x2000) | ALL | NX;
	g.s.gpr[RBX] = DATA + 0x2000;
	guest_expect(&g, LABEL(call_rbx), 14, 0x11);
	cr_expect_eq(STOP_CR2(&g), DATA + 0x2000);
	cr_expect_eq(STOP_RIP(&g), DATA + 0x2000);
	guest_close(&g);
}

Test(softsystem_paging, error_codes_user)
{
	struct guest g;

	guest_open(&g);
	*guest_pte(&g, DATA) = DATA | P | W;
	guest_user(&g);
	g.s.gpr[RBX] = DATA;
	expect_pf(&g, LABEL(load), DATA, 5);
	guest_user(&g);
	g.s.gpr[RBX] = DATA;
	expect_pf(&g, LABEL(store), DATA, 7);
	guest_user(&g);
	g.s.gpr[RBX] = UNMAPPED;
	expect_pf(&g, LABEL(load), UNMAPPED, 4);
	guest_user(&g);
	g.s.gpr[RBX] = DATA;
	guest_expect(&g, LABEL(call_rbx), 14, 0x15);
	guest_close(&g);
}

Test(softsystem_paging, write_protect_off)
{
	struct guest g;

	guest_open(&g);
	*guest_pte(&g, DATA) = DATA | P | U;
	g.s.cr0 &= ~UINT64_C(0x10000);
	g.s.gpr[RAX] = 42;
	g.s.gpr[RBX] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(store)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(store) + 4);
	cr_expect_eq(*guest_u64(&g, DATA), 42);
	guest_close(&g);
}

Test(softsystem_paging, nx_needs_efer)
{
	struct guest g;

	guest_open(&g);
	*guest_pte(&g, DATA) = DATA | ALL | NX;
	g.s.efer &= ~UINT64_C(0x800);
	g.s.gpr[RBX] = DATA;
	expect_pf(&g, LABEL(load), DATA, 9);
	guest_close(&g);
}

Test(softsystem_paging, accessed_and_dirty)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RBX] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_pte(&g, DATA) & (A | D), A);
	cr_expect(*guest_u64(&g, PML4) & A);
	cr_expect(*guest_u64(&g, PDPT) & A);
	cr_expect(*guest_u64(&g, PD) & A);
	cr_expect_not(*guest_u64(&g, PD) & D);
	cr_expect_not(*guest_pte(&g, DATA + 0x1000) & A);
	/* The first write after reads sets D. */
	g.s.gpr[RBX] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(add_mem)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_pte(&g, DATA) & (A | D), A | D);
	/* A faulting access marks nothing. */
	*guest_pte(&g, DATA + 0x3000) = (DATA + 0x3000) | P | U;
	g.s.gpr[RBX] = DATA + 0x3000;
	expect_pf(&g, LABEL(store), DATA + 0x3000, 3);
	cr_expect_not(*guest_pte(&g, DATA + 0x3000) & (A | D));
	guest_close(&g);
}

/* ---- Read-modify-writes: each is a write ------------------------------------------------------ */

#define MODIFY_CODE 0x58000u

/* With [RBX]; lock: a LOCK prefix may come before. */
static const struct modify {
	const char *name;
	uint8_t bytes[6];
	unsigned len;
	bool lock;
} modifies[] = {
	{"add m, r", {0x48, 0x01, 0x0b}, 3, true},
	{"or m, r", {0x48, 0x09, 0x0b}, 3, true},
	{"adc m, r", {0x48, 0x11, 0x0b}, 3, true},
	{"sbb m, r", {0x48, 0x19, 0x0b}, 3, true},
	{"and m, r", {0x48, 0x21, 0x0b}, 3, true},
	{"sub m, r", {0x48, 0x29, 0x0b}, 3, true},
	{"xor m, r", {0x48, 0x31, 0x0b}, 3, true},
	{"add m, i", {0x80, 0x03, 0x01}, 3, true},
	{"or m, i", {0x83, 0x0b, 0x00}, 3, true},
	{"and m, i", {0x48, 0x83, 0x23, 0xff}, 4, true},
	{"inc", {0x48, 0xff, 0x03}, 3, true},
	{"dec", {0xfe, 0x0b}, 2, true},
	{"not", {0x48, 0xf7, 0x13}, 3, true},
	{"neg", {0x66, 0xf7, 0x1b}, 3, true},
	{"rol m, i", {0x48, 0xc1, 0x03, 0x01}, 4, false},
	{"ror m, cl", {0xd3, 0x0b}, 2, false},
	{"rcl m, 1", {0xd0, 0x13}, 2, false},
	{"rcr m, i", {0xc1, 0x1b, 0x01}, 3, false},
	{"shl m, cl", {0x48, 0xd3, 0x23}, 3, false},
	{"shl m, 0", {0xc1, 0x23, 0x00}, 3, false},
	{"shr m, 1", {0x66, 0xd1, 0x2b}, 3, false},
	{"sar m, i", {0xc0, 0x3b, 0x01}, 3, false},
	{"shld m, r, i", {0x48, 0x0f, 0xa4, 0x0b, 0x01}, 5, false},
	{"shld m, r, cl", {0x0f, 0xa5, 0x0b}, 3, false},
	{"shrd m, r, i", {0x0f, 0xac, 0x0b, 0x01}, 4, false},
	{"shrd m, r, cl", {0x48, 0x0f, 0xad, 0x0b}, 4, false},
	{"bts m, r", {0x48, 0x0f, 0xab, 0x0b}, 4, true},
	{"btr m, i", {0x0f, 0xba, 0x33, 0x01}, 4, true},
	{"btc m, i", {0x48, 0x0f, 0xba, 0x3b, 0x01}, 5, true},
	{"xchg", {0x48, 0x87, 0x0b}, 3, true},
	{"xadd", {0x0f, 0xc1, 0x0b}, 3, true},
	{"cmpxchg", {0x48, 0x0f, 0xb1, 0x0b}, 4, true}, /* unequal */
	{"cmpxchg8b", {0x0f, 0xc7, 0x0b}, 3, true},
	{"cmpxchg16b", {0x48, 0x0f, 0xc7, 0x0b}, 4, true},
	{"sete", {0x0f, 0x94, 0x03}, 3, false},
};

static void modify_put(struct guest *g, const struct modify *m, bool lock)
{
	uint8_t *at = g->ram + MODIFY_CODE;

	if (lock)
		*at++ = 0xf0;
	memcpy(at, m->bytes, m->len);
	at[m->len] = 0xf4;
	vcpu_soft_ops.memory_changed(g->shared, MODIFY_CODE, 8);
}

/* With this entry for the page: #PF with the error, and nothing marked or changed. */
static void modify_faults(struct guest *g, const struct modify *m, uint64_t pte, bool user,
			  uint64_t error)
{
	*guest_pte(g, DATA) = pte;
	*guest_u64(g, DATA + 0x40) = 0x1122334455667788;
	if (user)
		guest_user(g);
	g->s.gpr[RSP] = user ? STACK_USER : STACK;
	g->s.gpr[RBX] = DATA + 0x40;
	guest_expect(g, MODIFY_CODE, 14, error);
	cr_expect_eq(STOP_CR2(g), DATA + 0x40, "%s: CR2 %lx", m->name, STOP_CR2(g));
	cr_expect_eq(STOP_RIP(g), MODIFY_CODE, "%s: RIP %lx", m->name, STOP_RIP(g));
	cr_expect_eq(*guest_pte(g, DATA), pte, "%s: entry %lx", m->name, *guest_pte(g, DATA));
	cr_expect_eq(*guest_u64(g, DATA + 0x40), 0x1122334455667788, "%s", m->name);
}

static void modify_check(const struct modify *m, bool lock)
{
	struct guest g;

	guest_open(&g);
	modify_put(&g, m, lock);
	/* What is written back unchanged is written, too. */
	*guest_pte(&g, DATA) = DATA | ALL;
	g.s.gpr[RBX] = DATA + 0x40;
	cr_assert_eq(guest_run_at(&g, MODIFY_CODE), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_pte(&g, DATA), DATA | ALL | A | D, "%s: entry %lx", m->name,
		     *guest_pte(&g, DATA));
	modify_faults(&g, m, DATA | W | U, false, 2);
	modify_faults(&g, m, DATA | P | U, false, 3);
	modify_faults(&g, m, DATA | W | U, true, 6);
	modify_faults(&g, m, DATA | P | U, true, 7);
	modify_faults(&g, m, DATA | P | W, true, 7);
	guest_close(&g);
}

Test(softsystem_paging, read_modify_writes)
{
	for (unsigned k = 0; k < sizeof(modifies) / sizeof(modifies[0]); k++)
		for (unsigned lock = 0; lock <= modifies[k].lock; lock++)
			modify_check(&modifies[k], lock);
}

Test(softsystem_paging, large_pages)
{
	struct guest g;

	guest_open(&g);
	g.huge_pages = true;
	*guest_u64(&g, PD + 2 * 8) = 0x400000 | ALL | PS;	    /* 2 MiB at 4 MiB */
	*guest_u64(&g, PDPT + 8) = ALL | PS;			    /* 1 GiB: 0 again */
	*guest_u64(&g, PD + 3 * 8) = 0x400000 | ALL | PS | 0x10000; /* reserved bit */
	*guest_u64(&g, 0x5ffff8) = 0xabcdef;
	g.s.gpr[RBX] = 0x5ffff8;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0xabcdef);
	cr_expect_eq(*guest_u64(&g, PD + 2 * 8) & (A | D), A);
	g.s.gpr[RBX] = 0x40000000 + 0x5ffff8;
	g.s.gpr[RAX] = 1;
	cr_assert_eq(guest_run_at(&g, LABEL(add_mem)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u64(&g, 0x5ffff8), 0xabcdf0);
	cr_expect_eq(*guest_u64(&g, PDPT + 8) & (A | D), A | D);
	g.s.gpr[RBX] = 0x600000;
	expect_pf(&g, LABEL(load), 0x600000, 9);
	guest_close(&g);
}

/* In a model without 1 GiB pages PS is a reserved bit of that level. */
Test(softsystem_paging, huge_pages_need_the_model)
{
	struct guest g;

	guest_open(&g);
	*guest_u64(&g, PDPT + 8) = ALL | PS;
	g.s.gpr[RBX] = 0x40000000 + DATA;
	expect_pf(&g, LABEL(load), 0x40000000 + DATA, 9);
	guest_close(&g);
}

Test(softsystem_paging, crossing)
{
	struct guest g;

	guest_open(&g);
	/* Two pages in the wrong order. */
	*guest_pte(&g, DATA) = (DATA + 0x5000) | ALL;
	*guest_pte(&g, DATA + 0x1000) = (DATA + 0x4000) | ALL;
	*guest_u32(&g, DATA + 0x5ffc) = 0x55667788;
	*guest_u32(&g, DATA + 0x4000) = 0x11223344;
	g.s.gpr[RBX] = DATA + 0xffc;
	cr_assert_eq(guest_run_at(&g, LABEL(load)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x1122334455667788);
	g.s.gpr[RBX] = DATA + 0xffc;
	g.s.gpr[RAX] = UINT64_C(1) << 32;
	cr_assert_eq(guest_run_at(&g, LABEL(add_mem)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u32(&g, DATA + 0x4000), 0x11223345);
	g.s.gpr[RBX] = DATA + 0xffd;
	cr_assert_eq(guest_run_at(&g, LABEL(xlock)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u32(&g, DATA + 0x5ffc), 0x55667888);
	/* The second page is read-only: the first is not written either. */
	*guest_pte(&g, DATA + 0x1000) = (DATA + 0x4000) | P;
	g.s.gpr[RBX] = DATA + 0xffc;
	g.s.gpr[RAX] = 0;
	expect_pf(&g, LABEL(store), DATA + 0x1000, 3);
	cr_expect_eq(*guest_u32(&g, DATA + 0x5ffc), 0x55667888);
	guest_close(&g);
}

/* A LOCKed access that faults on its second page must not leave the process's lock taken. */
Test(softsystem_paging, split_lock_fault)
{
	struct guest g;

	guest_open(&g);
	for (unsigned n = 0; n < 3; n++) {
		*guest_pte(&g, DATA + 0x1000) = n == 1 ? 0 : (DATA + 0x1000) | ALL;
		g.s.gpr[RSP] = STACK;
		g.s.gpr[RBX] = DATA + 0xffc;
		cr_assert_eq(guest_run_at(&g, LABEL(xlock)), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.rip == LABEL(xlock) + 6, n != 1);
	}
	cr_expect_eq(*guest_u32(&g, DATA + 0xffc), 2);
	guest_close(&g);
}

Test(softsystem_paging, invlpg)
{
	struct guest g;

	guest_open(&g);
	*guest_pte(&g, DATA) = DATA | ALL | G;
	*guest_u64(&g, DATA) = 1;
	*guest_u64(&g, DATA + 0x1000) = 2;
	g.s.gpr[RBX] = DATA;
	g.s.gpr[RSI] = PT0 + (DATA >> 12) * 8;
	g.s.gpr[RDI] = (DATA + 0x1000) | ALL;
	cr_assert_eq(guest_run_at(&g, LABEL(reload_invlpg)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RDX], 2);
	guest_close(&g);
}

/* INVLPG of any address in a large page drops all of it. */
Test(softsystem_paging, invlpg_large)
{
	struct guest g;

	guest_open(&g);
	*guest_u64(&g, PD + 2 * 8) = 0x400000 | ALL | PS;
	*guest_u64(&g, 0x400010) = 1;
	*guest_u64(&g, 0x600010) = 2;
	g.s.gpr[RBX] = 0x400010;
	g.s.gpr[RSI] = PD + 2 * 8;
	g.s.gpr[RDI] = 0x600000 | ALL | PS;
	cr_assert_eq(guest_run_at(&g, LABEL(reload_invlpg)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect_eq(g.s.gpr[RDX], 2);
	guest_close(&g);
}

/* CR3 reloads keep global pages, the toggle of CR4.PGE drops them. */
Test(softsystem_paging, cr3_and_globals)
{
	struct guest g;

	guest_open(&g);
	for (unsigned global = 0; global < 2; global++) {
		*guest_pte(&g, DATA) = DATA | ALL | (global ? G : 0);
		*guest_u64(&g, DATA) = 1;
		*guest_u64(&g, DATA + 0x1000) = 2;
		g.s.cr4 |= 0x80;
		g.s.gpr[RBX] = DATA;
		g.s.gpr[RSI] = PT0 + (DATA >> 12) * 8;
		g.s.gpr[RDI] = (DATA + 0x1000) | ALL;
		cr_assert_eq(guest_run_at(&g, LABEL(reload_cr3)), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[RAX], 1);
		cr_expect_eq(g.s.gpr[RDX], global ? 1 : 2);
		cr_expect_eq(g.s.gpr[RBP], 2);
	}
	guest_close(&g);
}

Test(softsystem_paging, non_canonical)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RBX] = UINT64_C(1) << 47;
	guest_expect(&g, LABEL(load), 13, 0);
	g.s.gpr[RBX] = (UINT64_C(1) << 47) - 4; /* its last byte */
	*guest_u64(&g, PML4 + 255 * 8) = PDPT | ALL;
	*guest_u64(&g, PDPT + 511 * 8) = PD | ALL;
	*guest_u64(&g, PD + 511 * 8) = PT0 | ALL;
	guest_expect(&g, LABEL(load), 13, 0);
	guest_close(&g);
}

static void put_pae(struct guest *g)
{
	*guest_u64(g, 0x26000) = 0x27000 | P; /* the four entries at CR3 */
	*guest_u64(g, 0x27000) = PT0 | ALL;
	*guest_u64(g, 0x27008) = 0x400000 | ALL | PS;
	g->s.cr0 |= UINT64_C(1) << 31 | 0x10000;
	g->s.cr3 = 0x26000;
	g->s.cr4 = 0x20;
	g->s.efer = 0x800;
}

Test(softsystem_paging, pae)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	put_pae(&g);
	*guest_u32(&g, 0x412340) = 0x99;
	g.s.gpr[RBX] = 0x212340;
	cr_assert_eq(guest_run_at(&g, LABEL(load32)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x99);
	*guest_pte(&g, DATA) = DATA | P;
	g.s.gpr[RBX] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(store32)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RSI], 14);
	cr_expect_eq(g.s.gpr[RDI], 3);
	cr_expect_eq(g.s.cr2, DATA);
	guest_close(&g);
}

Test(softsystem_paging, legacy)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	*guest_u32(&g, 0x26000) = 0x27000 | ALL;
	*guest_u32(&g, 0x26004) = ALL | PS; /* 4 MiB at 4 MiB: 0 again */
	for (unsigned n = 0; n < 1024; n++)
		*guest_u32(&g, 0x27000 + n * 4) = n << 12 | ALL;
	*guest_u32(&g, 0x27000 + (DATA >> 12) * 4) = 0;
	g.s.cr0 |= UINT64_C(1) << 31;
	g.s.cr3 = 0x26000;
	g.s.cr4 = 0x10;
	*guest_u32(&g, DATA + 0x10) = 0x77;
	g.s.gpr[RBX] = 0x400000 + DATA + 0x10;
	cr_assert_eq(guest_run_at(&g, LABEL(load32)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x77);
	cr_expect_eq(*guest_u32(&g, 0x26004) & (A | D), A);
	cr_expect_eq(*guest_u32(&g, 0x27000 + (CODE >> 12) * 4 + 8) & (A | D), A);
	g.s.gpr[RBX] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(load32)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RSI], 14);
	cr_expect_eq(g.s.gpr[RDI], 0);
	cr_expect_eq(g.s.gpr[RBP], LABEL(load32));
	guest_close(&g);
}

/* A page of 4 MiB is dropped whole, whichever half is named, and whichever was used. */
Test(softsystem_paging, invlpg_4_mib)
{
	for (unsigned half = 0; half < 2; half++) {
		struct guest g;

		guest_open(&g);
		guest_protected(&g);
		*guest_u32(&g, 0x26000) = 0x27000 | ALL;
		*guest_u32(&g, 0x26004) = 0x400000 | ALL | PS;
		for (unsigned n = 0; n < 1024; n++)
			*guest_u32(&g, 0x27000 + n * 4) = n << 12 | ALL;
		for (unsigned n = 0; n < 4; n++) /* above the IDT's pages; two pages, two halves */
			*guest_u32(&g, n * 0x200000 + 0x90010) = n;
		g.s.cr0 |= UINT64_C(1) << 31;
		g.s.cr3 = 0x26000;
		g.s.cr4 = 0x10;
		g.s.gpr[RBX] = 0x490010 + half * 0x200000;
		g.s.gpr[RDI] = 0x490010 + !half * 0x200000;
		g.s.gpr[RSI] = 0x26004;
		g.s.gpr[RBP] = 0 | ALL | PS;
		cr_assert_eq(guest_run_at(&g, LABEL(reload_invlpg32)), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[RCX], 2 + !half);
		cr_expect_eq(g.s.gpr[RAX], half, "the half that INVLPG named");
		cr_expect_eq(g.s.gpr[RDX], !half, "the other half");
		guest_close(&g);
	}
}

Test(softsystem_paging, mmio)
{
	static const struct bus_access expected[] = {
		{'r', 4, MMIO_GPA + 0x40, 0x55667788},
		{'w', 4, MMIO_GPA + 0x48, 0xcafe},
		{'r', 8, MMIO_GPA + 0x50, 0x1122334455667788},
		{'w', 1, MMIO_GPA + 0x58, 7},
	};
	struct guest g;

	guest_open(&g);
	guest_map_mmio(&g);
	g.s.gpr[RBX] = MMIO_GPA + 0x40;
	g.s.gpr[RCX] = 0xcafe;
	for (unsigned round = 0; round < 2; round++) {
		g.bus.logged = 0;
		cr_assert_eq(guest_run_at(&g, LABEL(mmio)), VCPU_EXIT_HLT);
		cr_assert_eq(g.bus.logged, 4);
		for (unsigned n = 0; n < 4; n++) {
			cr_expect_eq(g.bus.log[n].kind, expected[n].kind);
			cr_expect_eq(g.bus.log[n].size, expected[n].size);
			cr_expect_eq(g.bus.log[n].address, expected[n].address);
			cr_expect_eq(g.bus.log[n].value, expected[n].value);
		}
		cr_expect_eq(g.s.gpr[RAX], 0x55667788);
		cr_expect_eq(g.s.gpr[RDX], 0x1122334455667788);
	}
	guest_close(&g);
}

/* An access of which only the first half is RAM, and tables that are not in RAM at all. */
Test(softsystem_paging, ram_end)
{
	struct guest g;

	guest_open(&g);
	*guest_pte(&g, UNMAPPED) = (GUEST_RAM - 0x1000) | ALL;
	*guest_pte(&g, UNMAPPED + 0x1000) = GUEST_RAM | ALL;
	*guest_u32(&g, GUEST_RAM - 4) = 0xaaaaaaaa;
	g.s.gpr[RBX] = UNMAPPED + 0xffc;
	cr_assert_eq(guest_run_at(&g, LABEL(mmio_cross)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX] & UINT32_MAX, 0xaaaaaaaa);
	cr_expect_eq(g.s.gpr[RAX] >> 32, 0x55667788);
	*guest_u64(&g, PD + 4 * 8) = UINT64_C(0x200000000) | ALL;
	g.s.gpr[RBX] = 0x800000;
	expect_pf(&g, LABEL(load), 0x800000, 0);
	guest_close(&g);
}

/* Code that overwrites the instruction behind it sees the new one. */
Test(softsystem_paging, self_modifying)
{
	struct guest g;

	guest_open(&g);
	for (unsigned round = 0; round < 2; round++) {
		g.s.gpr[RAX] = 0;
		cr_assert_eq(guest_run_at(&g, LABEL(self_modify)), VCPU_EXIT_HLT);
		cr_expect_eq(g.s.gpr[RAX], 9);
		g.ram[LABEL(self_modify) + 8] = 1;
	}
	guest_close(&g);
}
