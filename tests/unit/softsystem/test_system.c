/* SPDX-License-Identifier: Apache-2.0 */
/* Control registers, MSRs, time, descriptors, ports; the state as a whole; kicks. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_system, .timeout = 20);

/* ---- MSRs ------------------------------------------------------------------------------------ */

static uint64_t read_msr(struct guest *g, uint32_t msr)
{
	g->s.gpr[RCX] = msr;
	g->s.gpr[RSP] = STACK;
	cr_assert_eq(guest_run_at(g, LABEL(rdmsr)), VCPU_EXIT_HLT);
	cr_assert_eq(g->s.rip, LABEL(rdmsr) + 3, "RDMSR %x faulted", msr);
	return g->s.gpr[RAX] | g->s.gpr[RDX] << 32;
}

static bool write_msr(struct guest *g, uint32_t msr, uint64_t value)
{
	g->s.gpr[RCX] = msr;
	g->s.gpr[RAX] = (uint32_t)value;
	g->s.gpr[RDX] = value >> 32;
	g->s.gpr[RSP] = STACK;
	cr_assert_eq(guest_run_at(g, LABEL(wrmsr)), VCPU_EXIT_HLT);
	if (g->s.rip == LABEL(wrmsr) + 3)
		return true;
	cr_assert_eq(STOP_VECTOR(g), 13);
	cr_assert_eq(STOP_ERROR(g), 0);
	return false;
}

Test(softsystem_system, msr_values)
{
	static const struct {
		uint32_t msr;
		uint64_t value;
	} fixed[] = {
		{0x17, 0},
		{0x34, 0},
		{0x3a, 1},
		{0x8b, 0},
		{0xfe, 0},
		{0x1a0, 1},
		{0x277, 0x0007040600070406},
		{0xc0000080, 0xd01},
	};
	struct guest g;

	guest_open(&g);
	for (unsigned n = 0; n < sizeof(fixed) / sizeof(fixed[0]); n++)
		cr_expect_eq(read_msr(&g, fixed[n].msr), fixed[n].value, "MSR %x", fixed[n].msr);
	cr_expect(write_msr(&g, 0xc0000082, 0xffffffff81000000));
	cr_expect_eq(g.s.lstar, 0xffffffff81000000);
	cr_expect(write_msr(&g, 0xc0000100, 0x1234567890));
	cr_expect_eq(g.s.seg[SEG_FS].base, 0x1234567890);
	cr_expect_eq(read_msr(&g, 0xc0000100), 0x1234567890);
	cr_expect(write_msr(&g, 0x8b, 0));
	guest_close(&g);
}

Test(softsystem_system, msr_faults)
{
	static const uint32_t unknown[] = {0xce, 0x140, 0x200, 0xc0010015, 0x48, 0xffffffff};
	struct guest g;

	guest_open(&g);
	for (unsigned n = 0; n < sizeof(unknown) / sizeof(unknown[0]); n++) {
		g.s.gpr[RCX] = unknown[n];
		guest_expect(&g, LABEL(rdmsr), 13, 0);
		cr_expect_not(write_msr(&g, unknown[n], 0));
	}
	cr_expect_not(write_msr(&g, 0xc0000082, UINT64_C(1) << 50)); /* not canonical */
	cr_expect_not(write_msr(&g, 0xc0000101, UINT64_C(1) << 50));
	cr_expect_not(write_msr(&g, 0x277, 2));		  /* no such memory type */
	cr_expect_not(write_msr(&g, 0xc0000080, 0xc01));  /* LME cleared under paging */
	cr_expect_not(write_msr(&g, 0xc0000080, 0x2d01)); /* reserved bit */
	cr_expect(write_msr(&g, 0xc0000080, 0xd00));
	cr_expect_eq(g.s.efer, 0xd00);
	guest_close(&g);
}

Test(softsystem_system, msr_of_the_bus)
{
	struct guest g;

	guest_open(&g);
	cr_expect_eq(read_msr(&g, 0x1b), 0xfee00d00);
	cr_expect_eq(read_msr(&g, 0x802), 0xfee00802);
	cr_expect(write_msr(&g, 0x830, 0x3000000fd));
	cr_expect_eq(g.bus.log[g.bus.logged - 1].kind, 'n');
	cr_expect_eq(g.bus.log[g.bus.logged - 1].address, 0x830);
	cr_expect_eq(g.bus.log[g.bus.logged - 1].value, 0x3000000fd);
	cr_expect(write_msr(&g, 0x6e0, 5));
	cr_expect_eq(g.bus.log[g.bus.logged - 1].address, 0x6e0);
	cr_expect_not(write_msr(&g, 0x80f, 0));
	guest_close(&g);
}

Test(softsystem_system, tsc)
{
	struct guest g;
	uint64_t first;

	guest_open(&g);
	cr_assert_eq(guest_run_at(&g, LABEL(rdtsc)), VCPU_EXIT_HLT);
	cr_expect_leq(g.s.gpr[RBX], g.s.gpr[RAX]);
	first = g.s.gpr[RAX];
	cr_expect_geq(read_msr(&g, 0x10), first);
	cr_expect(write_msr(&g, 0x10, UINT64_C(1) << 60));
	cr_expect_geq(read_msr(&g, 0x10), UINT64_C(1) << 60);
	cr_expect_eq(read_msr(&g, 0x3b), g.s.tsc_offset);
	cr_expect(write_msr(&g, 0x3b, 0));
	cr_expect_lt(read_msr(&g, 0x10), UINT64_C(1) << 60);
	/* CR4.TSD reserves it for the kernel. */
	guest_user(&g);
	g.s.cr4 |= 4;
	guest_expect(&g, LABEL(rdtsc), 13, 0);
	guest_close(&g);
}

/* ---- Control and debug registers ------------------------------------------------------------- */

static void expect_gp(struct guest *g, uint64_t rip, uint64_t rax)
{
	g->s.gpr[RAX] = rax;
	g->s.gpr[RSP] = STACK;
	guest_expect(g, rip, 13, 0);
}

Test(softsystem_system, control_registers)
{
	struct guest g;

	guest_open(&g);
	expect_gp(&g, LABEL(mov_cr0), 0x80000010);	 /* PG without PE */
	expect_gp(&g, LABEL(mov_cr0), 0x11);		 /* paging off in 64-bit code */
	expect_gp(&g, LABEL(mov_cr0), 0xa0000011);	 /* NW without CD */
	expect_gp(&g, LABEL(mov_cr0), 0x180000011);	 /* upper half */
	expect_gp(&g, LABEL(mov_cr4), 0x680);		 /* PAE off in long mode */
	expect_gp(&g, LABEL(mov_cr4), 0x6a0 | 1u << 21); /* SMAP is not advertised */
	expect_gp(&g, LABEL(mov_cr3), UINT64_C(1) << 63 | PML4);
	g.s.gpr[RAX] = 0x80010021;
	cr_assert_eq(guest_run_at(&g, LABEL(mov_cr0)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.cr0, 0x80010031); /* ET sticks */
	cr_assert_eq(guest_run_at(&g, LABEL(mov_dr)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RCX] & 0x400, 0x400);
	g.bus.cr8 = 3;
	g.s.gpr[RBX] = 9;
	cr_assert_eq(guest_run_at(&g, LABEL(cr8)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 3);
	cr_expect_eq(g.bus.cr8, 9);
	g.s.gpr[RBX] = 16;
	guest_expect(&g, LABEL(cr8), 13, 0);
	guest_close(&g);
}

/* DR7.GD: #DB before any access, and clear in the handler. */
Test(softsystem_system, debug_registers_guarded)
{
	struct guest g;

	guest_open(&g);
	g.s.dr[0] = 0x1234;
	g.s.dr6 = 0xffff4ff5;
	g.s.dr7 = 0x2400;
	guest_expect(&g, LABEL(mov_dr), 1, 0);
	cr_expect_eq(STOP_RIP(&g), LABEL(mov_dr));
	cr_expect_eq(g.s.dr[0], 0x1234);
	cr_expect_eq(g.s.dr6, 0xffff6ff0, "%lx", g.s.dr6);
	cr_expect_eq(g.s.dr7, 0x400);
	g.s.gpr[RBX] = 0x2400; /* the guest sets it, and meets it when it reads DR7 */
	guest_expect(&g, LABEL(mov_dr), 1, 0);
	cr_expect_eq(STOP_RIP(&g), LABEL(mov_dr) + 6);
	guest_close(&g);
}

/* DR4 is #UD with CR4.DE, but the privilege is looked at before. */
Test(softsystem_system, debug_register_4)
{
	struct guest g;

	guest_open(&g);
	g.s.dr6 = 0xffff4ff0;
	cr_assert_eq(guest_run_at(&g, LABEL(mov_dr4)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0xffff4ff0);
	g.s.cr4 |= 8;
	guest_expect(&g, LABEL(mov_dr4), 6, 0);
	guest_user(&g);
	guest_expect(&g, LABEL(mov_dr4), 13, 0);
	guest_close(&g);
}

Test(softsystem_system, cpuid)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RAX] = 0xffffffff00012345;
	g.s.gpr[RCX] = 0xffffffff00000007;
	cr_assert_eq(guest_run_at(&g, LABEL(cpuid)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 3);
	cr_expect_eq(g.s.gpr[RBX], 7);
	cr_expect_eq(g.s.gpr[RCX], 0xcccc);
	cr_expect_eq(g.s.gpr[RDX], 0xdddd);
	guest_close(&g);
}

/* ---- Descriptors ----------------------------------------------------------------------------- */

Test(softsystem_system, selector_queries)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RCX] = SEL_TSS;
	cr_assert_eq(guest_run_at(&g, LABEL(descriptors)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x8900);
	cr_expect_eq(g.s.gpr[RDX], 0x87);
	cr_expect_eq(g.s.gpr[RBX] & 0xffff, 0x0101);
	cr_expect_eq(g.s.gpr[RCX] & 0xff, 0); /* a TSS is not writable */
	g.s.gpr[RCX] = SEL_KDATA;
	cr_assert_eq(guest_run_at(&g, LABEL(descriptors)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0xc09300);
	cr_expect_eq(g.s.gpr[RDX], UINT32_MAX);
	cr_expect_eq(g.s.gpr[RCX] & 0xff, 1);
	g.s.gpr[RCX] = GDT_LIMIT + 1; /* beyond the table */
	cr_assert_eq(guest_run_at(&g, LABEL(descriptors)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RBX] & 0xffff, 0);
	guest_close(&g);
}

Test(softsystem_system, segment_loads)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RCX] = SEL_STALE;
	cr_assert_eq(guest_run_at(&g, LABEL(mov_ds)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.seg[SEG_DS].selector, SEL_STALE);
	cr_expect_eq(*guest_u64(&g, GDT + SEL_STALE) >> 40 & 1, 1); /* accessed now */
	g.s.gpr[RCX] = SEL_ABSENT;
	guest_expect(&g, LABEL(mov_ds), 11, SEL_ABSENT);
	g.s.gpr[RCX] = SEL_TSS;
	guest_expect(&g, LABEL(mov_ds), 13, SEL_TSS);
	g.s.gpr[RCX] = GDT_LIMIT + 1;
	guest_expect(&g, LABEL(mov_ds), 13, GDT_LIMIT + 1);
	g.s.gpr[RCX] = SEL_RODATA; /* fine for DS, not for SS */
	cr_assert_eq(guest_run_at(&g, LABEL(mov_ds)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(mov_ds) + 6, "rip %lx", g.s.rip - LABEL(mov_ds));
	g.s.gpr[RCX] = SEL_RODATA;
	guest_expect(&g, LABEL(mov_ss), 13, SEL_RODATA);
	g.s.seg[SEG_FS].base = 0x1234; /* a null selector takes the base away */
	g.s.gpr[RCX] = 0;
	cr_assert_eq(guest_run_at(&g, LABEL(mov_fs)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.seg[SEG_FS].base, 0);
	guest_user(&g);
	g.s.gpr[RCX] = SEL_KDATA;
	guest_expect(&g, LABEL(mov_ds), 13, SEL_KDATA);
	guest_close(&g);
}

Test(softsystem_system, ldt_and_tss)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RCX] = SEL_LDT;
	cr_assert_eq(guest_run_at(&g, LABEL(lldt)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], SEL_LDT);
	cr_expect_eq(g.s.ldtr.base, DATA + 0x800);
	*guest_u64(&g, DATA + 0x808) = 0x00cf93000000ffff;
	g.s.gpr[RCX] = 8 | 4; /* from the LDT */
	cr_assert_eq(guest_run_at(&g, LABEL(mov_ds)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.seg[SEG_DS].selector, 12);
	g.s.gpr[RCX] = SEL_TSS;
	cr_assert_eq(guest_run_at(&g, LABEL(ltr)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], SEL_TSS);
	cr_expect_eq(g.s.tr.attr & 15, 11);
	cr_expect_eq(g.s.tr.base, TSS);
	cr_expect_eq(*guest_u64(&g, GDT + SEL_TSS) >> 40 & 15, 11); /* busy */
	g.s.gpr[RCX] = SEL_TSS;
	guest_expect(&g, LABEL(ltr), 13, SEL_TSS);
	g.s.gpr[RBX] = DATA + 6;
	cr_assert_eq(guest_run_at(&g, LABEL(tables)), VCPU_EXIT_HLT);
	cr_expect_eq(*guest_u32(&g, DATA + 4) >> 16, GDT_LIMIT);
	cr_expect_eq(*guest_u32(&g, DATA + 8), GDT);
	cr_expect_eq(*guest_u32(&g, DATA + 24), IDT);
	guest_close(&g);
}

Test(softsystem_system, far_transfers)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RCX] = SEL_KCODE;
	cr_assert_eq(guest_run_at(&g, LABEL(far_call)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 77);
	g.s.gpr[RCX] = SEL_KDATA;
	guest_expect(&g, LABEL(far_call), 13, SEL_KDATA);
	*guest_u64(&g, DATA) = LABEL(hlt);
	*guest_u64(&g, DATA + 8) = SEL_KCODE;
	g.s.gpr[RBX] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(far_jump_mem)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(hlt) + 1);
	*guest_u64(&g, DATA) = LABEL(far_target) | (uint64_t)SEL_KCODE << 32;
	cr_assert_eq(guest_run_at(&g, LABEL(far_call_mem)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[R12], 5);
	cr_expect_eq(g.s.rip, LABEL(far_call_mem) + 3);
	/* An offset of 64 bits must lie within the limit as a whole. */
	*guest_u64(&g, DATA) = LABEL(hlt) | UINT64_C(1) << 32;
	*guest_u64(&g, DATA + 8) = SEL_KCODE32;
	guest_expect(&g, LABEL(far_jump_mem), 13, 0);
	guest_close(&g);
}

/* ---- Ports ----------------------------------------------------------------------------------- */

Test(softsystem_system, ports)
{
	static const struct bus_access expected[] = {
		{'i', 1, 0x61, 0x61},
		{'i', 4, 0x3f8, 0xa00003f8},
		{'o', 1, 0x80, 0xf8},
		{'o', 2, 0x3f8, 0x5678},
	};
	struct guest g;

	guest_open(&g);
	cr_assert_eq(guest_run_at(&g, LABEL(pio)), VCPU_EXIT_HLT);
	cr_assert_eq(g.bus.logged, 4);
	for (unsigned n = 0; n < 4; n++) {
		cr_expect_eq(g.bus.log[n].kind, expected[n].kind);
		cr_expect_eq(g.bus.log[n].size, expected[n].size);
		cr_expect_eq(g.bus.log[n].address, expected[n].address);
		cr_expect_eq(g.bus.log[n].value, expected[n].value);
	}
	guest_close(&g);
}

Test(softsystem_system, string_ports)
{
	struct guest g;

	guest_open(&g);
	g.s.gpr[RDX] = 0x1f0;
	g.s.gpr[RCX] = 5;
	g.s.gpr[RDI] = DATA + 0xffe; /* into the next page */
	cr_assert_eq(guest_run_at(&g, LABEL(ins)), VCPU_EXIT_HLT);
	cr_expect_eq(g.bus.logged, 5);
	cr_expect_eq(g.s.gpr[RCX], 0);
	cr_expect_eq(g.s.gpr[RDI], DATA + 0x1003);
	cr_expect_eq(g.ram[DATA + 0x1002], 0xf0);
	g.bus.logged = 0;
	*guest_u32(&g, DATA) = 0x11112222;
	g.s.gpr[RCX] = 2;
	g.s.gpr[RSI] = DATA;
	cr_assert_eq(guest_run_at(&g, LABEL(outs)), VCPU_EXIT_HLT);
	cr_expect_eq(g.bus.logged, 2);
	cr_expect_eq(g.bus.log[0].value, 0x2222);
	cr_expect_eq(g.bus.log[1].value, 0x1111);
	/* A fault comes before the device is read. */
	g.bus.logged = 0;
	g.s.gpr[RCX] = 1;
	g.s.gpr[RDI] = UNMAPPED;
	guest_expect(&g, LABEL(ins), 14, 2);
	cr_expect_eq(g.bus.logged, 0);
	guest_close(&g);
}

Test(softsystem_system, port_permissions)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 0x40, LABEL(stubs) + 0x40 * 16, 3, 0);
	guest_user(&g);
	g.s.gpr[RDX] = 0x64;
	g.ram[TSS + 0x68 + 0x64 / 8] = 0xef; /* all but 64h denied */
	guest_expect(&g, LABEL(out_user), 0x40, 0);
	cr_expect_eq(g.bus.logged, 1);
	guest_user(&g);
	g.s.gpr[RDX] = 0x65;
	guest_expect(&g, LABEL(out_user), 13, 0);
	guest_user(&g);
	g.s.gpr[RDX] = 0x3f8; /* beyond the TSS */
	guest_expect(&g, LABEL(out_user), 13, 0);
	guest_user(&g);
	g.s.rflags |= 0x3000; /* IOPL 3 */
	g.s.gpr[RDX] = 0x3f8;
	guest_expect(&g, LABEL(out_user), 0x40, 0);
	guest_close(&g);
}

/* ---- State and kicks ------------------------------------------------------------------------- */

Test(softsystem_system, state_round_trip)
{
	struct vcpu_state got;
	struct guest g;

	guest_open(&g);
	for (unsigned n = 0; n < 16; n++)
		g.s.gpr[n] = UINT64_C(0x1111111111111111) * n;
	g.s.rflags = 0xad7;
	g.s.tsc_offset = 5;
	g.s.seg[SEG_GS].base = 0xffff888000000000;
	g.s.irq_shadow = 1;
	g.s.nmi_blocked = 1;
	g.s.fxsave[160] = 0x42; /* XMM0 */
	guest_put(&g);
	g.v->ops->state_get(g.v, &got);
	cr_expect_eq(memcmp(&got, &g.s, sizeof(got)), 0);
	guest_close(&g);
}

Test(softsystem_system, state_refused)
{
	struct vcpu_state bad;
	struct guest g;

	guest_open(&g);
	bad = g.s;
	bad.cr0 &= ~UINT64_C(1);
	cr_expect_lt(g.v->ops->state_set(g.v, &bad), 0);
	bad = g.s;
	bad.efer &= ~UINT64_C(0x400);
	cr_expect_lt(g.v->ops->state_set(g.v, &bad), 0);
	bad = g.s;
	bad.cr4 = 1u << 30;
	cr_expect_lt(g.v->ops->state_set(g.v, &bad), 0);
	bad = g.s;
	bad.seg[SEG_FS].base = UINT64_C(1) << 47;
	cr_expect_lt(g.v->ops->state_set(g.v, &bad), 0);
	bad = g.s;
	bad.fxsave[27] = 0x80; /* MXCSR */
	cr_expect_lt(g.v->ops->state_set(g.v, &bad), 0);
	guest_put(&g);
	guest_close(&g);
}

Test(softsystem_system, kick_is_latched)
{
	struct guest g;

	guest_open(&g);
	g.s.rip = LABEL(hlt);
	guest_put(&g);
	g.v->ops->kick(g.v);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_KICKED);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_HLT);
	guest_close(&g);
}

struct kicker {
	struct guest *g;
	atomic_bool started, stop;
};

static void *kick_thread(void *arg)
{
	struct kicker *k = arg;

	atomic_store(&k->started, true);
	while (!atomic_load(&k->stop)) {
		usleep(2000);
		k->g->v->ops->kick(k->g->v);
	}
	return NULL;
}

static void kick_running(uint64_t rip)
{
	struct guest g;
	struct kicker k = {.g = &g};
	pthread_t thread;

	guest_open(&g);
	g.s.gpr[RBX] = DATA;
	g.s.rip = rip;
	guest_put(&g);
	cr_assert_eq(pthread_create(&thread, NULL, kick_thread, &k), 0);
	cr_expect_eq(g.v->ops->place(g.v), 0);
	for (unsigned n = 0; n < 20; n++) {
		cr_expect_eq(guest_run(&g), VCPU_EXIT_KICKED);
		/* The loop is two instructions or three. */
		cr_expect_lt(g.v->ops->place(g.v) - rip, 16);
	}
	atomic_store(&k.stop, true);
	pthread_join(thread, NULL);
	cr_expect_gt(g.v->ops->instructions(g.v), 1000);
	guest_close(&g);
}

Test(softsystem_system, kick_from_thread)
{
	kick_running(LABEL(spin));
	kick_running(LABEL(spin_load));
}

Test(softsystem_system, bad_configuration)
{
	struct vcpu_config config = {0};
	struct vcpu *v = NULL;
	void *shared = NULL;
	uint8_t byte = 0;

	cr_expect_lt(vcpu_soft_ops.create(&config, &v), 0);
	cr_expect_null(v);
	cr_expect_lt(vcpu_soft_ops.shared_create(&byte, 100, &shared), 0);
	cr_expect_lt(vcpu_soft_ops.shared_create(NULL, 4096, &shared), 0);
}
