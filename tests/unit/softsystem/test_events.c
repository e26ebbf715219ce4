/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and exceptions: delivery, windows, shadows, NMI, single step, double and triple. */
#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_events, .timeout = 20);

Test(softsystem_events, int_and_iret)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 0x40, LABEL(handler_count), 0, 0);
	g.s.gpr[RSP] = STACK - 3; /* the frame is aligned */
	cr_assert_eq(guest_run_at(&g, LABEL(int_round)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[R12], 1);
	cr_expect_eq(g.s.gpr[R13], LABEL(int_round) + 2);
	cr_expect_eq(g.s.gpr[R15], STACK - 16 - 40);
	cr_expect_eq(g.s.gpr[RSP], STACK - 3);
	cr_expect_eq(g.s.rip, LABEL(int_round) + 3);
	guest_close(&g);
}

Test(softsystem_events, gate_checks)
{
	struct guest g;

	guest_open(&g);
	guest_user(&g);
	guest_expect(&g, LABEL(int_41), 13, 0x41 * 8 + 2);
	cr_expect_eq(STOP_RIP(&g), LABEL(int_41));
	guest_user(&g);
	guest_gate(&g, 3, LABEL(stubs) + 3 * 16, 3, 0);
	guest_expect(&g, LABEL(int3), 3, 0);
	cr_expect_eq(STOP_RIP(&g), LABEL(int3) + 1);
	/* Not present; wrong type; beyond the limit. */
	g.s.seg[SEG_CS].selector = SEL_KCODE;
	guest_close(&g);
	guest_open(&g);
	*guest_u64(&g, IDT + 0x41 * 16) &= ~(UINT64_C(1) << 47);
	guest_expect(&g, LABEL(int_41), 11, 0x41 * 8 + 2);
	*guest_u64(&g, IDT + 0x41 * 16) |= UINT64_C(0x85) << 40;
	*guest_u64(&g, IDT + 0x41 * 16) &= ~(UINT64_C(0xa) << 40);
	guest_expect(&g, LABEL(int_41), 13, 0x41 * 8 + 2);
	g.s.idtr.limit = 0x41 * 16 - 1;
	guest_expect(&g, LABEL(int_41), 13, 0x41 * 8 + 2);
	guest_close(&g);
}

Test(softsystem_events, invalid_opcode)
{
	struct guest g;

	guest_open(&g);
	guest_expect(&g, LABEL(ud2), 6, 0);
	cr_expect_eq(STOP_RIP(&g), LABEL(ud2));
	guest_close(&g);
}

Test(softsystem_events, privileged_in_user)
{
	struct guest g;

	guest_open(&g);
	guest_user(&g);
	guest_expect(&g, LABEL(hlt_user), 13, 0);
	cr_expect_eq(g.s.gpr[RSP], STACK_RSP0 - 40);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 8), SEL_UDATA);
	cr_expect_eq(g.s.seg[SEG_SS].selector, 0);
	guest_user(&g);
	guest_expect(&g, LABEL(cli_user), 13, 0);
	guest_user(&g);
	guest_expect(&g, LABEL(rdmsr), 13, 0);
	guest_user(&g);
	guest_expect(&g, LABEL(mov_cr3), 13, 0);
	guest_close(&g);
}

/* ---- Interrupts ------------------------------------------------------------------------------ */

Test(softsystem_events, window_after_sti)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 0x50, LABEL(handler_count), 0, 0);
	g.s.rip = LABEL(sti_window);
	guest_put(&g);
	cr_expect_not(g.v->ops->interrupt_ready(g.v));
	g.v->ops->irq_window(g.v, true);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_IRQ_WINDOW);
	cr_expect_eq(g.s.rip, LABEL(sti_window) + 5); /* one instruction after STI */
	cr_expect_eq(g.s.gpr[RAX], 1);
	cr_expect(g.v->ops->interrupt_ready(g.v));
	g.v->ops->irq_window(g.v, false);
	g.v->ops->interrupt(g.v, 0x50);
	cr_expect_not(g.v->ops->interrupt_ready(g.v));
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[R12], 1);
	cr_expect_eq(g.s.gpr[R13], LABEL(sti_window) + 5);
	cr_expect_eq(g.s.gpr[R14] & 0x200, 0x200);
	cr_expect_eq(g.s.gpr[RAX], 3);
	guest_close(&g);
}

/* An interrupt that waits while STI; HLT runs is taken after the HLT. */
Test(softsystem_events, sti_hlt)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 0x50, LABEL(handler_count), 0, 0);
	g.s.rip = LABEL(sti_hlt);
	guest_put(&g);
	g.v->ops->irq_window(g.v, true);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_IRQ_WINDOW);
	cr_expect_eq(g.s.rip, LABEL(sti_hlt) + 2);
	cr_expect(g.s.halted);
	g.v->ops->irq_window(g.v, false);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_HLT); /* still halted */
	g.v->ops->interrupt(g.v, 0x50);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[R12], 1);
	cr_expect_eq(g.s.gpr[R13], LABEL(sti_hlt) + 2);
	cr_expect_eq(g.s.gpr[RAX], 1);
	guest_close(&g);
}

Test(softsystem_events, window_after_popf)
{
	struct guest g;

	guest_open(&g);
	g.s.rip = LABEL(popf_window);
	guest_put(&g);
	g.v->ops->irq_window(g.v, true);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_IRQ_WINDOW);
	cr_expect_eq(g.s.gpr[RAX], 0); /* POPF has no shadow */
	guest_close(&g);
}

Test(softsystem_events, mov_ss_shadow)
{
	struct guest g;

	guest_open(&g);
	g.s.rflags = 0x202;
	g.s.rip = LABEL(mov_ss);
	g.s.gpr[RCX] = SEL_KDATA;
	guest_put(&g);
	g.v->ops->irq_window(g.v, true);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_IRQ_WINDOW);
	g.v->ops->irq_window(g.v, false);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	/* The same with an NMI pending from the start of the shadow. */
	g.s.irq_shadow = 1;
	g.s.rip = LABEL(mov_ss) + 2;
	g.s.gpr[RAX] = 0;
	guest_gate(&g, 2, LABEL(handler_count), 0, 0);
	g.s.halted = 0;
	guest_put(&g);
	cr_expect_not(g.v->ops->interrupt_ready(g.v));
	g.v->ops->nmi(g.v);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 2);
	cr_expect_eq(g.s.gpr[R13], LABEL(mov_ss) + 5); /* after one INC */
	guest_close(&g);
}

/* A second NMI waits for the IRET of the first. */
Test(softsystem_events, nmi_latched)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 2, LABEL(nmi_handler), 0, 0);
	g.s.rip = LABEL(nmi_main);
	guest_put(&g);
	g.v->ops->nmi(g.v);
	g.v->ops->kick(g.v);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_KICKED);
	cr_expect_eq(g.s.rip, LABEL(nmi_handler));
	cr_expect(g.s.nmi_blocked);
	g.v->ops->nmi(g.v);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[R12], 2);
	cr_expect_eq(g.s.gpr[R13], 2);
	cr_expect_not(g.s.nmi_blocked);
	cr_expect_eq(g.s.rip, LABEL(nmi_main) + 3);
	guest_close(&g);
}

Test(softsystem_events, single_step)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 1, LABEL(step_handler), 0, 0);
	cr_assert_eq(guest_run_at(&g, LABEL(single_step)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 3);
	/* Three INC, PUSHFQ, AND, and the POPFQ that ends it. */
	cr_expect_eq(g.s.gpr[R12], 6);
	cr_expect_eq(g.s.gpr[R13] & 0x4000, 0x4000);
	guest_close(&g);
}

/* What DR6 told of breakpoints is gone after a step. */
Test(softsystem_events, single_step_dr6)
{
	struct guest g;

	guest_open(&g);
	g.s.dr6 = 0xffff2fff;
	guest_expect(&g, LABEL(single_step), 1, 0);
	cr_expect_eq(g.s.dr6, 0xffff6ff0, "%lx", g.s.dr6);
	guest_close(&g);
}

/* ---- Double and triple faults ---------------------------------------------------------------- */

Test(softsystem_events, double_fault_ist)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 8, LABEL(stubs) + 8 * 16, 0, 1);
	g.s.gpr[RBX] = UNMAPPED;
	g.s.gpr[RSP] = UNMAPPED + 0x800; /* #PF cannot push its frame: #PF again */
	guest_expect(&g, LABEL(load), 8, 0);
	cr_expect_eq(STOP_RIP(&g), LABEL(load));
	cr_expect_eq(g.s.gpr[RSP], STACK_IST1 - 40);
	guest_close(&g);
}

Test(softsystem_events, fault_in_contributory)
{
	struct guest g;

	guest_open(&g);
	/* #GP whose gate is absent: #NP upon #GP is #DF. */
	*guest_u64(&g, IDT + 13 * 16) &= ~(UINT64_C(1) << 47);
	guest_user(&g);
	guest_expect(&g, LABEL(hlt_user), 8, 0);
	/* #UD whose gate is absent: benign, so #NP with EXT. */
	*guest_u64(&g, IDT + 6 * 16) &= ~(UINT64_C(1) << 47);
	guest_user(&g);
	guest_expect(&g, LABEL(ud2), 11, 6 * 8 + 2 + 1);
	guest_close(&g);
}

Test(softsystem_events, triple_fault)
{
	struct guest g;

	guest_open(&g);
	g.s.idtr.limit = 0;
	g.s.rip = LABEL(ud2);
	guest_put(&g);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_SHUTDOWN);
	cr_expect_eq(guest_run(&g), VCPU_EXIT_SHUTDOWN);
	guest_close(&g);
}

/* ---- IRET ------------------------------------------------------------------------------------ */

static void put_frame(struct guest *g, uint64_t rip, uint64_t cs, uint64_t rsp, uint64_t ss)
{
	uint64_t *frame = guest_u64(g, STACK - 40);

	frame[0] = rip;
	frame[1] = cs;
	frame[2] = 0x202;
	frame[3] = rsp;
	frame[4] = ss;
	g->s.gpr[RSP] = STACK - 40;
}

Test(softsystem_events, iret_checks)
{
	uint64_t iret = LABEL(iret_frame), hlt = LABEL(hlt);
	struct guest g;

	guest_open(&g);
	put_frame(&g, hlt, SEL_KCODE, STACK, 0); /* null SS in the kernel */
	cr_assert_eq(guest_run_at(&g, iret), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, hlt + 1);
	cr_expect_eq(g.s.rflags & 0x200, 0x200);
	put_frame(&g, hlt, SEL_UCODE, STACK_USER, 0); /* but not for users */
	guest_expect(&g, iret, 13, 0);
	put_frame(&g, hlt, SEL_UCODE, STACK_USER, SEL_KDATA);
	guest_expect(&g, iret, 13, SEL_KDATA);
	put_frame(&g, hlt, SEL_KDATA, STACK, SEL_KDATA);
	guest_expect(&g, iret, 13, SEL_KDATA);
	put_frame(&g, UINT64_C(1) << 60, SEL_KCODE, STACK, SEL_KDATA);
	guest_expect(&g, iret, 13, 0);
	put_frame(&g, hlt, 0, STACK, SEL_KDATA);
	guest_expect(&g, iret, 13, 0);
	put_frame(&g, hlt, SEL_UCODE, STACK_USER, SEL_UDATA);
	guest_expect(&g, iret, 13, 0); /* HLT at CPL 3 */
	cr_expect_eq(STOP_RIP(&g), hlt);
	put_frame(&g, hlt, SEL_KCODE, STACK, SEL_KDATA); /* VIF and VIP are the kernel's */
	*guest_u64(&g, g.s.gpr[RSP] + 16) = 0x180002;
	cr_assert_eq(guest_run_at(&g, iret), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rflags, 0x180002);
	g.s.rflags = 0x4002; /* NT */
	put_frame(&g, hlt, SEL_KCODE, STACK, SEL_KDATA);
	guest_expect(&g, iret, 13, 0);
	guest_close(&g);
}

/* ---- SYSCALL --------------------------------------------------------------------------------- */

Test(softsystem_events, syscall_round_trip)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 0x40, LABEL(stubs) + 0x40 * 16, 3, 0);
	*guest_u64(&g, DATA) = 0x5a5a;
	guest_user(&g);
	g.s.lstar = LABEL(syscall_kernel);
	g.s.sfmask = 0x200;
	g.s.kernel_gs_base = DATA;
	g.s.rflags = 0x202;
	guest_expect(&g, LABEL(syscall_user), 0x40, 0);
	cr_expect_eq(g.s.gpr[R12], 2);
	cr_expect_eq(g.s.gpr[RBX], 0x5a5a);
	cr_expect_eq(g.s.gpr[RBP], LABEL(syscall_user) + 8); /* RCX: after the first SYSCALL */
	cr_expect_eq(g.s.gpr[R14] & 0x200, 0);
	cr_expect_eq(g.s.kernel_gs_base, DATA);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 32), SEL_UCODE);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 8), SEL_UDATA);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 24) & 0x200, 0x200);
	guest_close(&g);
}

/* CS is without the RPL of STAR's selector, SS has it. */
Test(softsystem_events, syscall_selectors)
{
	struct guest g;

	guest_open(&g);
	guest_user(&g);
	g.s.lstar = LABEL(hlt);
	g.s.star = (uint64_t)(SEL_KCODE | 3) << 32;
	cr_assert_eq(guest_run_at(&g, LABEL(syscall_user)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.seg[SEG_CS].selector, SEL_KCODE);
	cr_expect_eq(g.s.seg[SEG_SS].selector, SEL_KDATA | 3);
	guest_close(&g);
}

Test(softsystem_events, syscall_disabled)
{
	struct guest g;

	guest_open(&g);
	guest_user(&g);
	g.s.efer &= ~UINT64_C(1);
	guest_expect(&g, LABEL(syscall_user), 6, 0);
	guest_close(&g);
}

/* SYSCALL; then a byte that must not be executed. */
static const uint8_t syscall_code[] = {0x0f, 0x05, 0xf4};

static void compat_put(struct guest *g)
{
	memcpy(g->ram + DATA, syscall_code, sizeof(syscall_code));
	guest_user(g);
	g->s.seg[SEG_CS].selector = SEL_UCODE32;
	g->s.seg[SEG_CS].attr = 0xcfb;
	g->s.lstar = LABEL(ud2);
	g->s.sfmask = 0x200;
	g->s.rflags = 0x202;
}

/* Intel's processors have it in 64-bit code alone, and their kernels leave CSTAR zero. */
Test(softsystem_events, syscall_in_compatibility_mode_intel)
{
	struct guest g;

	guest_open(&g);
	compat_put(&g);
	guest_expect(&g, DATA, 6, 0);
	guest_close(&g);
}

Test(softsystem_events, syscall_in_compatibility_mode_amd)
{
	struct guest g;

	guest_open_amd(&g);
	compat_put(&g);
	g.s.cstar = LABEL(hlt);
	cr_assert_eq(guest_run_at(&g, DATA), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(hlt) + 1);
	cr_expect_eq(g.s.gpr[RCX], DATA + 2);
	cr_expect_eq(g.s.gpr[R11] & 0x200, 0x200);
	cr_expect_eq(g.s.rflags & 0x200, 0);
	cr_expect_eq(g.s.seg[SEG_CS].selector, SEL_KCODE);
	cr_expect(g.s.seg[SEG_CS].attr & 1 << 9, "64-bit code");
	guest_close(&g);
}

/* AMD's processors have no SYSENTER in long mode, neither in 64-bit code nor in compatibility mode. */
Test(softsystem_events, sysenter_amd)
{
	struct guest g;

	guest_open_amd(&g);
	guest_user(&g);
	g.s.sysenter_cs = SEL_KCODE;
	g.s.sysenter_eip = LABEL(hlt);
	guest_expect(&g, LABEL(sysenter), 6, 0);
	guest_close(&g);
}

Test(softsystem_events, sysenter_sysexit)
{
	struct guest g;

	guest_open(&g);
	guest_user(&g);
	guest_expect(&g, LABEL(sysenter), 13, 0); /* no code selector */
	guest_user(&g);
	g.s.sysenter_cs = SEL_KCODE;
	g.s.sysenter_esp = STACK;
	g.s.sysenter_eip = LABEL(hlt);
	cr_assert_eq(guest_run_at(&g, LABEL(sysenter)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.rip, LABEL(hlt) + 1);
	cr_expect_eq(g.s.gpr[RSP], STACK);
	cr_expect_eq(g.s.seg[SEG_CS].selector, SEL_KCODE);
	cr_expect_eq(g.s.seg[SEG_SS].selector, SEL_KDATA);
	g.s.gpr[RCX] = STACK_USER;
	g.s.gpr[RDX] = LABEL(ud2);
	guest_expect(&g, LABEL(sysexit), 6, 0);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 32), SEL_KCODE + 32 + 3);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 16), STACK_USER);
	guest_close(&g);
}
