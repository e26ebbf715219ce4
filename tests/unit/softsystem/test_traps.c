/* SPDX-License-Identifier: Apache-2.0 */
/* Debug traps: single steps through REP, data, instruction and port breakpoints, RF. */
#include <string.h>

#include "tests/unit/softsystem/guest.h"

TestSuite(softsystem_traps, .timeout = 20);

#define TRAP_LOG (DATA + 0x8000)
#define WATCHED	 (DATA + 0x40)
#define RF	 0x10000u

/* R/Wn and LENn of DR7. */
#define EXECUTE 0
#define WRITE	1
#define PORT	2
#define ACCESS	3
#define LEN1	0
#define LEN2	1
#define LEN8	2
#define LEN4	3

struct trap {
	uint64_t rip, dr6, rflags;
};

static uint64_t dr7_of(unsigned n, unsigned kind, unsigned len)
{
	return 0x400 | 1u << n * 2 | kind << (16 + n * 4) | len << (18 + n * 4);
}

static void traps_open(struct guest *g)
{
	guest_open(g);
	guest_gate(g, 1, LABEL(trap_log), 0, 0);
	g->s.gpr[R15] = TRAP_LOG;
	g->s.gpr[RBX] = WATCHED;
}

static unsigned traps(const struct guest *g)
{
	return (unsigned)((g->s.gpr[R15] - TRAP_LOG) / sizeof(struct trap));
}

static struct trap trap_at(struct guest *g, unsigned n)
{
	return ((const struct trap *)(g->ram + TRAP_LOG))[n];
}

/* Runs to HLT with breakpoint n at address; the number of traps. */
static unsigned run_watched(struct guest *g, uint64_t rip, unsigned n, uint64_t address,
			    unsigned kind, unsigned len)
{
	g->s.dr[n] = address;
	g->s.dr7 = dr7_of(n, kind, len);
	g->s.dr6 = 0xffff0ff0;
	g->s.gpr[R15] = TRAP_LOG;
	cr_assert_eq(guest_run_at(g, rip), VCPU_EXIT_HLT, "exit %d", g->exit.reason);
	return traps(g);
}

/* ---- Single steps ---------------------------------------------------------------------------- */

/* POPFQ (0x102) sets TF, so the first trap is behind the instruction after it: the REP's. The last
 * is behind the POPFQ that ends it. */
static void expect_steps(uint64_t rip, unsigned rep_len)
{
	const uint64_t rep = rip + 6; /* PUSH imm32, POPFQ */
	struct guest g;

	traps_open(&g);
	g.s.gpr[RSI] = DATA + 0x100;
	g.s.gpr[RDI] = DATA + 0x200;
	g.s.gpr[RCX] = 4;
	*guest_u32(&g, DATA + 0x200) = 0x01010101; /* what SCASB looks for is not there */
	cr_assert_eq(guest_run_at(&g, rip), VCPU_EXIT_HLT);
	cr_assert_eq(traps(&g), 6, "%u traps", traps(&g));
	for (unsigned n = 0; n < 4; n++) {
		struct trap t = trap_at(&g, n);

		cr_expect_eq(t.rip, n < 3 ? rep : rep + rep_len, "step %u at %lx", n, t.rip);
		cr_expect_eq(t.dr6 & 0xe00f, 0x4000);
		/* In the midst of it the image has RF (SDM 3B, 17.3.1.1). */
		cr_expect_eq(t.rflags & RF, n < 3 ? RF : 0, "flags %lx", t.rflags);
	}
	cr_expect_eq(g.s.gpr[RCX], 0);
	guest_close(&g);
}

Test(softsystem_traps, step_each_iteration)
{
	expect_steps(LABEL(step_movs), 2);
	expect_steps(LABEL(step_stos), 2);
	expect_steps(LABEL(step_lods), 3);
	expect_steps(LABEL(step_scas), 2);
	expect_steps(LABEL(step_ins), 2);
	expect_steps(LABEL(step_outs), 2);
}

Test(softsystem_traps, step_each_comparison)
{
	struct guest g;

	traps_open(&g);
	g.s.gpr[RSI] = DATA + 0x100;
	g.s.gpr[RDI] = DATA + 0x200;
	g.s.gpr[RCX] = 9;
	*guest_u64(&g, DATA + 0x210) = 1; /* differs at the third */
	cr_assert_eq(guest_run_at(&g, LABEL(step_cmps)), VCPU_EXIT_HLT);
	cr_expect_eq(traps(&g), 5);
	cr_expect_eq(trap_at(&g, 1).rip, LABEL(step_cmps) + 6);
	cr_expect_eq(trap_at(&g, 2).rip, LABEL(step_cmps) + 9);
	cr_expect_eq(g.s.gpr[RCX], 6);
	guest_close(&g);
}

/* ---- Data breakpoints ------------------------------------------------------------------------ */

/* The trap comes after the instruction, which has had its effect; DR6 names the breakpoint. */
Test(softsystem_traps, data_write)
{
	struct guest g;

	traps_open(&g);
	g.s.gpr[RAX] = 0x1234;
	cr_assert_eq(run_watched(&g, LABEL(watch_store), 2, WATCHED, WRITE, LEN8), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_store) + 3);
	cr_expect_eq(trap_at(&g, 0).dr6, 0xffff0ff4);
	cr_expect_eq(trap_at(&g, 0).rflags & RF, 0);
	cr_expect_eq(*guest_u64(&g, WATCHED), 0x1234);
	/* Neither a read, nor the rest of the page, nor when DR7 enables nothing. */
	cr_expect_eq(run_watched(&g, LABEL(watch_load), 2, WATCHED, WRITE, LEN8), 0);
	cr_expect_eq(run_watched(&g, LABEL(watch_store), 2, WATCHED + 8, WRITE, LEN8), 0);
	cr_expect_eq(run_watched(&g, LABEL(watch_store), 2, WATCHED - 8, WRITE, LEN8), 0);
	g.s.dr7 = 0x400;
	cr_assert_eq(guest_run_at(&g, LABEL(watch_store)), VCPU_EXIT_HLT);
	cr_expect_eq(traps(&g), 0);
	/* The global bit enables as well. */
	g.s.dr[2] = WATCHED;
	g.s.dr7 = dr7_of(2, WRITE, LEN8) ^ 0x30;
	cr_assert_eq(guest_run_at(&g, LABEL(watch_store)), VCPU_EXIT_HLT);
	cr_expect_eq(traps(&g), 1);
	guest_close(&g);
}

Test(softsystem_traps, data_access)
{
	struct guest g;

	traps_open(&g);
	cr_expect_eq(run_watched(&g, LABEL(watch_load), 1, WATCHED, ACCESS, LEN4), 1);
	cr_expect_eq(trap_at(&g, 0).dr6, 0xffff0ff2);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_load) + 3);
	cr_expect_eq(run_watched(&g, LABEL(watch_store), 1, WATCHED, ACCESS, LEN4), 1);
	/* Instruction fetch is no data access. */
	cr_expect_eq(run_watched(&g, LABEL(watch_load), 1, LABEL(watch_load), ACCESS, LEN1), 0);
	guest_close(&g);
}

/* Any byte in common counts; breakpoints are aligned to their length. */
Test(softsystem_traps, data_overlap)
{
	struct guest g;

	traps_open(&g);
	for (unsigned at = 0; at < 8; at++) {
		cr_expect_eq(run_watched(&g, LABEL(watch_store), 0, WATCHED + at, WRITE, LEN1), 1);
		cr_expect_eq(run_watched(&g, LABEL(watch_store8), 0, WATCHED + at, WRITE, LEN1),
			     at == 0);
		cr_expect_eq(run_watched(&g, LABEL(watch_store8), 0, WATCHED + at, WRITE, LEN2),
			     at < 2);
		cr_expect_eq(run_watched(&g, LABEL(watch_store8), 0, WATCHED + at, WRITE, LEN4),
			     at < 4);
		cr_expect_eq(run_watched(&g, LABEL(watch_store8), 0, WATCHED + at, WRITE, LEN8), 1);
	}
	/* An access across two pages meets one on the second. */
	g.s.gpr[RBX] = DATA + 0xffd;
	cr_expect_eq(run_watched(&g, LABEL(watch_store), 3, DATA + 0x1000, WRITE, LEN1), 1);
	cr_expect_eq(trap_at(&g, 0).dr6, 0xffff0ff8);
	cr_expect_eq(run_watched(&g, LABEL(watch_store), 3, DATA + 0xffc, WRITE, LEN1), 0);
	guest_close(&g);
}

/* Two at once; one that is not enabled is not named. */
Test(softsystem_traps, data_several)
{
	struct guest g;

	traps_open(&g);
	g.s.dr[0] = g.s.dr[1] = g.s.dr[3] = WATCHED;
	g.s.dr7 = dr7_of(0, WRITE, LEN1) | dr7_of(3, ACCESS, LEN4) |
		  (dr7_of(1, WRITE, LEN1) & ~UINT64_C(4));
	cr_assert_eq(guest_run_at(&g, LABEL(watch_store)), VCPU_EXIT_HLT);
	cr_assert_eq(traps(&g), 1);
	cr_expect_eq(trap_at(&g, 0).dr6, 0xffff0ff9, "%lx", trap_at(&g, 0).dr6);
	guest_close(&g);
}

/* Every way to memory. */
Test(softsystem_traps, data_kinds)
{
	struct guest g;

	traps_open(&g);
	cr_expect_eq(run_watched(&g, LABEL(watch_add), 0, WATCHED, WRITE, LEN1), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_add) + 3);
	cr_expect_eq(run_watched(&g, LABEL(watch_lock), 0, WATCHED, WRITE, LEN1), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_lock) + 4);
	cr_expect_eq(run_watched(&g, LABEL(watch_movups), 0, WATCHED + 12, WRITE, LEN4), 1);
	cr_expect_eq(run_watched(&g, LABEL(watch_fxsave), 0, WATCHED + 200, WRITE, LEN4), 1);
	g.s.gpr[RSP] = WATCHED + 8;
	cr_expect_eq(run_watched(&g, LABEL(watch_push), 0, WATCHED, WRITE, LEN8), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_push) + 1);
	g.s.gpr[RSP] = WATCHED + 8;
	cr_expect_eq(run_watched(&g, LABEL(watch_call), 0, WATCHED, WRITE, LEN8), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_called));
	g.s.gpr[RSP] = WATCHED;
	*guest_u64(&g, WATCHED) = LABEL(hlt);
	cr_expect_eq(run_watched(&g, LABEL(watch_ret), 0, WATCHED, ACCESS, LEN8), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(hlt));
	guest_close(&g);
}

/* After the iteration that met it; the rest goes on as fast as ever. */
Test(softsystem_traps, data_rep)
{
	struct guest g;

	traps_open(&g);
	g.s.gpr[RSI] = DATA + 0x2000;
	g.s.gpr[RDI] = WATCHED - 5;
	g.s.gpr[RCX] = 20;
	memset(g.ram + DATA + 0x2000, 0x5a, 20);
	cr_assert_eq(run_watched(&g, LABEL(watch_rep), 0, WATCHED, WRITE, LEN2), 2);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_rep));
	cr_expect_eq(trap_at(&g, 0).rflags & RF, RF);
	cr_expect_eq(trap_at(&g, 1).rip, LABEL(watch_rep));
	cr_expect_eq(g.s.gpr[RCX], 0);
	cr_expect_eq(g.ram[WATCHED + 14], 0x5a);
	cr_expect_eq(g.ram[WATCHED + 15], 0);
	/* The last iteration's trap is behind the instruction, without RF. */
	g.s.gpr[RDI] = WATCHED - 2;
	g.s.gpr[RCX] = 3;
	cr_assert_eq(run_watched(&g, LABEL(watch_rep), 0, WATCHED, WRITE, LEN1), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_rep) + 2);
	cr_expect_eq(trap_at(&g, 0).rflags & RF, 0);
	guest_close(&g);
}

/* A load of SS holds the trap back for one instruction; one that faults has none. */
Test(softsystem_traps, data_held_back)
{
	struct guest g;

	traps_open(&g);
	*guest_u64(&g, WATCHED) = SEL_KDATA;
	cr_assert_eq(run_watched(&g, LABEL(watch_mov_ss), 0, WATCHED, ACCESS, LEN2), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_mov_ss) + 3);
	*guest_pte(&g, DATA + 0x1000) = 0;
	g.s.gpr[RBX] = DATA + 0xffc;
	g.s.dr[0] = DATA + 0xffc;
	g.s.dr7 = dr7_of(0, WRITE, LEN4);
	guest_expect(&g, LABEL(watch_store), 14, 2);
	guest_close(&g);
}

/* The frame of an interrupt is data; the trap comes at its handler's first instruction. */
Test(softsystem_traps, data_frame)
{
	struct guest g;

	traps_open(&g);
	guest_gate(&g, 0x40, LABEL(watch_handler), 0, 0);
	cr_assert_eq(run_watched(&g, LABEL(watch_int), 0, STACK - 8, WRITE, LEN8), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_handler));
	guest_close(&g);
}

/* Code that ran fast before meets a breakpoint that MOV DR sets, and none after it is cleared. */
Test(softsystem_traps, data_while_running)
{
	struct guest g;

	traps_open(&g);
	g.s.gpr[RCX] = 1000;
	g.s.gpr[RDX] = dr7_of(0, WRITE, LEN8);
	cr_assert_eq(guest_run_at(&g, LABEL(watch_later)), VCPU_EXIT_HLT);
	cr_assert_eq(traps(&g), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(watch_later) + 3 + 2 + 2 + 6 + 3);
	guest_close(&g);
}

/* ---- Instruction breakpoints ----------------------------------------------------------------- */

/* A fault: the instruction has not executed, RF of the image is clear, and a return with RF set
 * executes it. */
Test(softsystem_traps, execute)
{
	struct guest g;

	traps_open(&g);
	guest_gate(&g, 1, LABEL(trap_resume), 0, 0);
	cr_assert_eq(run_watched(&g, LABEL(break_at), 1, LABEL(break_at_2), EXECUTE, LEN1), 1);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(break_at_2));
	cr_expect_eq(trap_at(&g, 0).dr6, 0xffff0ff2);
	cr_expect_eq(trap_at(&g, 0).rflags & RF, RF, "as the handler made it");
	cr_expect_eq(g.s.gpr[RAX], 3);
	cr_expect_eq(g.s.rflags & RF, 0);
	/* Also the first instruction; and RF of the state given holds it back. */
	g.s.gpr[RAX] = 0;
	cr_expect_eq(run_watched(&g, LABEL(break_at), 1, LABEL(break_at), EXECUTE, LEN1), 1);
	g.s.rflags |= RF;
	cr_expect_eq(run_watched(&g, LABEL(break_at), 1, LABEL(break_at), EXECUTE, LEN1), 0);
	/* The middle of an instruction is none. */
	cr_expect_eq(run_watched(&g, LABEL(break_at), 1, LABEL(break_at) + 1, EXECUTE, LEN1), 0);
	guest_close(&g);
}

/* Without RF it would come for ever: the state as the fault leaves it. */
Test(softsystem_traps, execute_image)
{
	struct guest g;

	guest_open(&g);
	g.s.dr[0] = LABEL(break_at);
	g.s.dr7 = dr7_of(0, EXECUTE, LEN1);
	guest_expect(&g, LABEL(break_at), 1, 0);
	cr_expect_eq(STOP_RIP(&g), LABEL(break_at));
	cr_expect_eq(*guest_u64(&g, STACK - 24) & RF, 0);
	cr_expect_eq(g.s.gpr[RAX], 0);
	guest_close(&g);
}

/* In a loop whose blocks are linked, and whose short cuts are known. */
Test(softsystem_traps, execute_while_running)
{
	struct guest g;

	traps_open(&g);
	guest_gate(&g, 1, LABEL(trap_resume), 0, 0);
	g.s.dr[0] = LABEL(break_loop);
	g.s.gpr[RCX] = 1000;
	g.s.gpr[RSI] = 8;
	g.s.gpr[RDX] = dr7_of(0, EXECUTE, LEN1);
	cr_assert_eq(guest_run_at(&g, LABEL(break_loop)), VCPU_EXIT_HLT);
	cr_expect_eq(traps(&g), 7, "%u", traps(&g));
	cr_expect_eq(g.s.gpr[RAX], 1000);
	guest_close(&g);
}

Test(softsystem_traps, execute_held_back)
{
	struct guest g;

	traps_open(&g);
	g.s.gpr[RCX] = SEL_KDATA;
	cr_expect_eq(run_watched(&g, LABEL(break_mov_ss), 0, LABEL(break_after_ss), EXECUTE, LEN1),
		     0);
	cr_expect_eq(g.s.gpr[RAX], 1);
	guest_close(&g);
}

/* A step that leads to one is told of first, alone; then, without RF, the breakpoint. */
Test(softsystem_traps, execute_stepped)
{
	struct guest g;

	guest_open(&g);
	g.s.dr[0] = LABEL(break_at_2);
	g.s.dr7 = dr7_of(0, EXECUTE, LEN1);
	g.s.rflags |= 0x100;
	guest_expect(&g, LABEL(break_at), 1, 0);
	cr_expect_eq(g.s.dr6, 0xffff4ff0, "%lx", g.s.dr6);
	cr_expect_eq(STOP_RIP(&g), LABEL(break_at_2));
	g.s.rflags |= 0x100;
	guest_expect(&g, LABEL(break_at_2), 1, 0);
	cr_expect_eq(g.s.dr6 & 0xf, 1, "%lx", g.s.dr6);
	cr_expect_eq(STOP_RIP(&g), LABEL(break_at_2));
	guest_close(&g);
}

/* ---- Ports ----------------------------------------------------------------------------------- */

Test(softsystem_traps, ports)
{
	struct guest g;

	traps_open(&g);
	g.s.cr4 |= 8;
	cr_assert_eq(run_watched(&g, LABEL(break_port), 0, 0x61, PORT, LEN2), 2);
	cr_expect_eq(trap_at(&g, 0).rip, LABEL(break_port) + 2);
	cr_expect_eq(trap_at(&g, 0).dr6, 0xffff0ff1);
	/* LEN2 is aligned to 60h: IN AL, 61h, and IN EAX, 5Fh, which reaches it. */
	cr_expect_eq(trap_at(&g, 1).rip, LABEL(break_port) + 11);
	cr_expect_eq(run_watched(&g, LABEL(break_port), 0, 0x62, PORT, LEN1), 2);
	cr_expect_eq(run_watched(&g, LABEL(break_port), 0, 0x64, PORT, LEN4), 0);
	/* Without CR4.DE that kind is undefined: nothing here. */
	g.s.cr4 &= ~UINT64_C(8);
	cr_expect_eq(run_watched(&g, LABEL(break_port), 0, 0x61, PORT, LEN1), 0);
	guest_close(&g);
}
