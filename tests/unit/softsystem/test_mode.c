/* SPDX-License-Identifier: Apache-2.0 */
/* From SIPI through real and protected into long mode; 16- and 32-bit code; the states at start. */
#include <string.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_mode, .timeout = 20);

Test(softsystem_mode, reset_state)
{
	struct guest g;

	guest_open(&g);
	guest_get(&g);
	cr_expect_eq(g.s.rip, 0xfff0);
	cr_expect_eq(g.s.seg[SEG_CS].base, 0xffff0000);
	cr_expect_eq(g.s.cr0, 0x60000010);
	cr_expect_eq(g.s.rflags, 2);
	cr_expect_eq(g.s.fxsave[0] | g.s.fxsave[1] << 8, 0x37f);
	cr_expect_eq(g.s.fxsave[24] | g.s.fxsave[25] << 8, 0x1f80);
	cr_expect_eq(g.s.dr6, 0xffff0ff0);
	cr_expect_eq(g.s.dr7, 0x400);
	vcpu_state_sipi(&g.s, 0x9a);
	cr_expect_eq(g.s.rip, 0);
	cr_expect_eq(g.s.seg[SEG_CS].selector, 0x9a00);
	cr_expect_eq(g.s.seg[SEG_CS].base, 0x9a000);
	cr_expect_eq(g.s.cr0, 0x60000010);
	guest_close(&g);
}

Test(softsystem_mode, sipi_to_long)
{
	struct guest g;

	guest_open(&g);
	vcpu_state_sipi(&g.s, CODE >> 12);
	guest_put(&g);
	cr_assert_eq(guest_run(&g), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RBX], 0x123456789abcdef0);
	cr_expect_eq(g.s.gpr[RAX], 0xd01); /* EFER: SCE LME LMA NXE */
	cr_expect_eq(g.s.efer, 0xd01);
	cr_expect_eq(g.s.cr0 & 0x80010011, 0x80010011);
	cr_expect_eq(g.s.seg[SEG_CS].selector, SEL_KCODE);
	cr_expect_eq(g.s.gpr[RSP], STACK);
	guest_close(&g);
}

Test(softsystem_mode, real_mode_interrupt)
{
	struct guest g;

	guest_open(&g);
	*guest_u32(&g, 0x21 * 4) = (CODE >> 4) << 16 | (uint32_t)(LABEL(real_handler) - CODE);
	vcpu_state_sipi(&g.s, CODE >> 12);
	g.s.seg[SEG_SS].base = 0x70000;
	g.s.seg[SEG_SS].selector = 0x7000;
	g.s.gpr[RSP] = 0x100;
	g.s.rflags = 0x202;
	cr_assert_eq(guest_run_at(&g, LABEL(real_int) - CODE), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RBX], 0x4321);
	cr_expect_eq(g.s.gpr[RSP], 0x100);
	cr_expect_eq(g.s.rflags & 0x200, 0x200);
	cr_expect_eq(g.s.rip, LABEL(real_int) - CODE + 3);
	/* Vector beyond the IVT's limit, and so on for #GP and #DF: shutdown. */
	g.s.idtr.limit = 3;
	cr_expect_eq(guest_run_at(&g, LABEL(real_int) - CODE), VCPU_EXIT_SHUTDOWN);
	guest_close(&g);
}

Test(softsystem_mode, real_mode_far_call)
{
	static const uint8_t callee[] = {0xb8, 0x34, 0x12, 0xcb}; /* mov ax, 1234h; retf */
	struct guest g;

	guest_open(&g);
	memcpy(g.ram + 0x11010, callee, sizeof(callee));
	vcpu_state_sipi(&g.s, CODE >> 12);
	g.s.gpr[RSP] = 0xff00;
	cr_assert_eq(guest_run_at(&g, LABEL(real_call) - CODE), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x1234);
	cr_expect_eq(g.s.seg[SEG_CS].base, CODE);
	cr_expect_eq(g.s.gpr[RSP], 0xff00);
	guest_close(&g);
}

Test(softsystem_mode, big_real_mode)
{
	struct guest g;

	guest_open(&g);
	*guest_u32(&g, 0x300000) = 0xfeedbeef;
	vcpu_state_sipi(&g.s, CODE >> 12);
	cr_assert_eq(guest_run_at(&g, LABEL(real_big) - CODE), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0xfeedbeef);
	cr_expect_eq(g.s.seg[SEG_DS].limit, UINT32_MAX);
	guest_close(&g);
}

Test(softsystem_mode, segment_16_and_back)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	cr_assert_eq(guest_run_at(&g, LABEL(jump16)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RAX], 0x1234);
	cr_expect_eq(g.s.gpr[RBX], 0x77);
	cr_expect_eq(g.s.seg[SEG_CS].selector, SEL_KCODE32);
	guest_close(&g);
}

Test(softsystem_mode, protected_interrupt)
{
	uint64_t handler = LABEL(handler32);
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	*guest_u64(&g, IDT + 0x40 * 8) = (handler & 0xffff) | SEL_KCODE32 << 16 |
					 UINT64_C(0x8e) << 40 | (handler >> 16) << 48;
	cr_assert_eq(guest_run_at(&g, LABEL(int32_round)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RCX], 1);
	cr_expect_eq(g.s.gpr[RDX], SEL_KCODE32);
	cr_expect_eq(g.s.gpr[RSP], STACK);
	cr_expect_eq(g.s.rip, LABEL(int32_round) + 3);
	guest_close(&g);
}

/* IRET to CPL 3, then INT with a gate for all: the stack comes from the 32-bit TSS. */
Test(softsystem_mode, protected_privileges)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	*guest_u64(&g, IDT + 0x40 * 8) |= UINT64_C(3) << 45;
	*guest_u32(&g, STACK - 20) = (uint32_t)LABEL(user32);
	*guest_u32(&g, STACK - 16) = SEL_UCODE32;
	*guest_u32(&g, STACK - 12) = 0x202;
	*guest_u32(&g, STACK - 8) = STACK_USER;
	*guest_u32(&g, STACK - 4) = SEL_UDATA;
	g.s.gpr[RSP] = STACK - 20;
	g.s.seg[SEG_FS].selector = SEL_KDATA; /* becomes null on the way out */
	cr_assert_eq(guest_run_at(&g, LABEL(iret32_user)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RSI], 0x40, "vector %lx", g.s.gpr[RSI]);
	cr_expect_eq(g.s.gpr[RAX], 0x55);
	cr_expect_eq(g.s.gpr[RDX] & 0xffff, SEL_UDATA);
	cr_expect_eq(g.s.gpr[RSP], STACK_RSP0 - 20);
	cr_expect_eq(*guest_u32(&g, STACK_RSP0 - 4), SEL_UDATA);
	cr_expect_eq(*guest_u32(&g, STACK_RSP0 - 8), STACK_USER);
	cr_expect_eq(*guest_u32(&g, STACK_RSP0 - 12) & 0x200, 0x200);
	cr_expect_eq(*guest_u32(&g, STACK_RSP0 - 16), SEL_UCODE32);
	cr_expect_eq(g.s.seg[SEG_FS].selector, 0);
	cr_expect_eq(g.s.rflags & 0x200, 0);
	guest_close(&g);
}

Test(softsystem_mode, protected_stack_and_les)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	g.s.gpr[RSI] = DATA;
	g.s.gpr[RDI] = 15;
	*guest_u32(&g, DATA) = 0x10;
	*guest_u32(&g, DATA + 4) = SEL_UDATA;
	cr_assert_eq(guest_run_at(&g, LABEL(pushes32)), VCPU_EXIT_HLT);
	/* The last BOUND raises: 15 is below 10h. */
	cr_expect_eq(g.s.gpr[RSI], 5);
	cr_expect_eq(g.s.gpr[RAX], 0x1234);
	cr_expect_eq(g.s.gpr[RBX] & 2, 2);
	cr_expect_eq(g.s.gpr[RCX], 0x10);
	cr_expect_eq(g.s.seg[SEG_ES].selector, SEL_UDATA);
	guest_close(&g);
}

/* PUSH of a segment register with 32 bits leaves the upper half of its place alone. */
Test(softsystem_mode, push_segment32)
{
	struct guest g;

	guest_open(&g);
	guest_protected(&g);
	*guest_u32(&g, STACK - 4) = 0xabcd0000;
	cr_assert_eq(guest_run_at(&g, LABEL(push_ds32)), VCPU_EXIT_HLT);
	cr_expect_eq(g.s.gpr[RSP], STACK - 4);
	cr_expect_eq(*guest_u32(&g, STACK - 4), 0xabcd0000 | SEL_KDATA);
	guest_close(&g);
}

/* 64-bit kernel to 32-bit user code by SYSRET, and back by INT. */
Test(softsystem_mode, compatibility)
{
	struct guest g;

	guest_open(&g);
	guest_gate(&g, 0x40, LABEL(stubs) + 0x40 * 16, 3, 0);
	g.s.gpr[RCX] = LABEL(compat_user);
	g.s.gpr[R11] = 0x202;
	g.s.gpr[RSP] = STACK_USER;
	guest_expect(&g, LABEL(sysret_compat), 0x40, 0);
	cr_expect_eq(g.s.gpr[RAX], 0);
	cr_expect_eq(g.s.gpr[RDX], 0x1234);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 32), SEL_UCODE32);
	cr_expect_eq(*guest_u64(&g, STACK_RSP0 - 16), STACK_USER);
	guest_close(&g);
}
