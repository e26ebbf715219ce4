/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks: chaining, modified code, page borders, attention, single instructions, the pool's end. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/softcore/flat.h"
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_code.h"

static struct flat flat;

static void setup(void)
{
	flat_make(&flat);
}

static void teardown(void)
{
	flat_free(&flat);
}

TestSuite(softblocks, .init = setup, .fini = teardown);

static uint64_t *reg(unsigned cpu)
{
	return flat.cpu[cpu]->reg;
}

/* Counts to 1000: the backward branch is linked, and every instruction is counted. */
Test(softblocks, chain)
{
	struct soft_cpu *c = flat.cpu[0];

	FLAT_PUT(&flat, FLAT_CODE, 0xb9, 0xe8, 0x03, 0, 0, /* mov ecx, 1000 */
		 0x48, 0xff, 0xc0,			   /* 1: inc rax */
		 0x48, 0xff, 0xc9,			   /* dec rcx */
		 0x75, 0xf8,				   /* jne 1b */
		 0xf4);					   /* hlt */
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 1000);
	cr_assert_eq(c->insn_count, 1 + 3000 + 1);
	c->rip = FLAT_CODE + 5;
	struct soft_block *loop = soft_block_find(c, false);

	cr_assert_eq((void *)loop->link[0], (void *)loop);
	cr_assert_neq((void *)loop->link[1], (void *)c->cache->none);
}

/* What a fault cuts off is not counted, nor is the instruction that faults. */
Test(softblocks, faults_are_not_counted)
{
	static const uint8_t faults[][4] = {
		{0x0f, 0x0b, 0x90, 0x90}, /* ud2 */
		{0xf7, 0xf1, 0x90, 0x90}, /* div ecx */
		{0x8b, 0x06, 0x90, 0x90}, /* mov eax, [rsi]: not mapped */
		{0x8e, 0xd9, 0x90, 0x90}, /* mov ds, ecx: beyond the GDT */
	};

	for (unsigned n = 0; n < sizeof(faults) / sizeof(faults[0]); n++) {
		uint64_t before = flat.cpu[0]->insn_count;

		FLAT_PUT(&flat, FLAT_CODE, 0x90, 0x90, 0x90);
		flat_put(&flat, FLAT_CODE + 3, faults[n], 4);
		FLAT_PUT(&flat, FLAT_CODE + 7, 0x90, 0x90, 0xf4);
		flat_reset(&flat, 0, FLAT_CODE);
		reg(0)[RCX] = n < 2 ? 0 : 0x7f0;
		reg(0)[RSI] = FLAT_HOLE;
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_SHUTDOWN, "case %u", n);
		cr_expect_eq(flat.cpu[0]->insn_count - before, 3, "case %u", n);
	}
}

/* A REP instruction that attention interrupts counts once, when it has ended; what follows it in
 * its block counts when it runs. */
Test(softblocks, interrupted_rep_counts_once)
{
	struct soft_cpu *c = flat.cpu[0];
	unsigned parts = 0;

	FLAT_PUT(&flat, FLAT_CODE, 0xf3, 0xaa, 0x90, 0xf4); /* rep stosb; nop; hlt */
	flat_reset(&flat, 0, FLAT_CODE);
	reg(0)[RCX] = 0x3000;
	reg(0)[RDI] = FLAT_DATA;
	for (; c->rip == FLAT_CODE; parts++) {
		cr_assert_eq(c->insn_count, 0);
		atomic_store(&c->attention, ATTENTION_KICK);
		soft_exec_one(c);
	}
	cr_assert_eq(parts, 3);
	cr_assert_eq(c->insn_count, 1);
	atomic_store(&c->attention, 0);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(c->insn_count, 3);
}

/* A store to the next instruction of the very block that runs. */
Test(softblocks, store_into_running_block)
{
	FLAT_PUT(&flat, FLAT_CODE, 0xc6, 0x05, 1, 0, 0, 0, 7, /* mov byte [rip+1], 7 */
		 0xb8, 1, 0, 0, 0,			      /* mov eax, 1 -> 7 */
		 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 7);
	cr_assert_eq(flat.cpu[0]->insn_count, 3);
}

/* The function at +0x40 returns an immediate; the caller patches it between two calls, at where
 * RDI points. */
static void put_patching_caller(void)
{
	FLAT_PUT(&flat, FLAT_CODE, 0xe8, 0x3b, 0, 0, 0, /* call +0x40 */
		 0x89, 0xc3,				/* mov ebx, eax */
		 0xc6, 0x07, 9,				/* mov byte [rdi], 9 */
		 0xe8, 0x31, 0, 0, 0,			/* call +0x40 */
		 0xf4);
	FLAT_PUT(&flat, FLAT_CODE + 0x40, 0xb8, 5, 0, 0, 0, 0xc3); /* mov eax, 5; ret */
}

Test(softblocks, store_into_other_block)
{
	put_patching_caller();
	flat_reset(&flat, 0, FLAT_CODE);
	reg(0)[RDI] = FLAT_CODE + 0x41;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RBX], 5);
	cr_assert_eq(reg(0)[RAX], 9);
}

/* The store goes through another linear address of the same page, already in the write TLB. */
Test(softblocks, store_through_alias)
{
	put_patching_caller();
	FLAT_PUT(&flat, FLAT_CODE2, 0xc6, 0x07, 5, /* mov byte [rdi], 5: enters the write TLB */
		 0xe9, 0xf8, 0xff, 0xfe, 0xff);	   /* jmp FLAT_CODE */
	flat_reset(&flat, 0, FLAT_CODE2);
	reg(0)[RDI] = FLAT_ALIAS + 0x41;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RBX], 5);
	cr_assert_eq(reg(0)[RAX], 9);
}

/* mov eax, value; hlt; jump back to the start. */
static void put_constant(uint8_t value)
{
	FLAT_PUT(&flat, FLAT_CODE, 0xb8, value, 0, 0, 0, 0xf4, /* mov eax, value; hlt */
		 0xeb, 0xf8);				       /* jmp back */
}

/* A device changes the code. */
Test(softblocks, changed_from_outside)
{
	put_constant(1);
	flat_reset(&flat, 0, FLAT_CODE);
	for (uint8_t n = 1; n < 20; n++) {
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
		cr_assert_eq(reg(0)[RAX], n);
		put_constant(n + 1);
		flat.cpu[0]->halted = 0;
	}
}

/* Another CPU of this process changes the code with a store. */
Test(softblocks, changed_by_other_cpu)
{
	put_constant(1);
	FLAT_PUT(&flat, FLAT_CODE2, 0x88, 0x07, 0xf4); /* mov [rdi], al; hlt */
	flat_reset(&flat, 0, FLAT_CODE);
	for (uint8_t n = 1; n < 50; n++) {
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
		cr_assert_eq(reg(0)[RAX], n);
		flat_reset(&flat, 1, FLAT_CODE2);
		reg(1)[RAX] = n + 1;
		reg(1)[RDI] = FLAT_CODE + 1;
		cr_assert_eq(flat_run(&flat, 1), VCPU_EXIT_HLT);
		flat.cpu[0]->halted = 0;
	}
}

/* Unchanged bytes though the page was stored to: the same block again. */
Test(softblocks, unchanged_block_survives)
{
	struct soft_cpu *c = flat.cpu[0];
	struct soft_block *before;

	put_constant(3);
	flat_reset(&flat, 0, FLAT_CODE);
	before = soft_block_find(c, false);
	FLAT_PUT(&flat, FLAT_CODE + 0x800, 1);
	cr_assert_not(block_fresh(before));
	cr_assert_eq((void *)soft_block_find(c, false), (void *)before);
	cr_assert(block_fresh(before));
}

/* An instruction on two pages; then the second page's bytes change. */
Test(softblocks, straddle)
{
	const uint64_t at = FLAT_CODE + 0xffe;

	FLAT_PUT(&flat, at, 0xb8, 0x11, 0x22, 0x33, 0x44, /* mov eax, 0x44332211 */
		 0xf4, 0xeb, 0xf8);			  /* hlt; jmp back */
	flat_reset(&flat, 0, at);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 0x44332211);
	FLAT_PUT(&flat, at + 4, 0x55);
	flat.cpu[0]->halted = 0;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 0x55332211);
}

/* The second page is missing: #PF there, before anything is executed. */
Test(softblocks, straddle_into_hole)
{
	FLAT_PUT(&flat, FLAT_CODE + 0xffe, 0xb8, 0x11);
	flat_reset(&flat, 0, FLAT_ALIAS + 0xffe);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_SHUTDOWN);
	cr_assert_eq(flat.cpu[0]->cr2, FLAT_HOLE);
	cr_assert_eq(reg(0)[RAX], 0);
}

/* A counter beside the code: many stores to the page, none to a block. */
Test(softblocks, data_beside_code)
{
	FLAT_PUT(&flat, FLAT_CODE, 0xb9, 0x10, 0x27, 0, 0, /* mov ecx, 10000 */
		 0x48, 0xff, 0x05, 0xf4, 0x01, 0, 0,	   /* 1: inc qword [FLAT_CODE + 0x200] */
		 0x48, 0xff, 0xc9,			   /* dec rcx */
		 0x75, 0xf4, 0xf4);			   /* jne 1b; hlt */
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(flat_get64(&flat, FLAT_CODE + 0x200), 10000);
}

static bool watched(void)
{
	return soft_code_marked(flat.cpu[0], FLAT_CODE >> 12);
}

/* A page whose code is no longer used becomes plain data; as code again, it is watched again. */
Test(softblocks, page_stops_being_code)
{

	put_constant(1);
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert(watched());
	FLAT_PUT(&flat, FLAT_CODE2, 0x88, 0x07, 0xff, 0xc9, 0x75, 0xfa, /* 1: store; dec; jne 1b */
		 0xe9, 0xf5, 0xff, 0xfe, 0xff);				/* jmp FLAT_CODE */
	flat_reset(&flat, 0, FLAT_CODE2);
	reg(0)[RAX] = 0x90;
	reg(0)[RCX] = 100;
	reg(0)[RDI] = FLAT_CODE + 0x800;
	flat.cpu[0]->halted = 0;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 1);
	cr_assert(watched());
	flat_reset(&flat, 0, FLAT_CODE2);
	FLAT_PUT(&flat, FLAT_CODE2 + 6, 0xf4); /* hlt instead of jmp */
	reg(0)[RCX] = 100;
	reg(0)[RDI] = FLAT_CODE + 0x800;
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_not(watched());
}

/* One instruction each, with attention pending; branches do not run on into their target. */
Test(softblocks, exec_one)
{
	struct soft_cpu *c = flat.cpu[0];

	FLAT_PUT(&flat, FLAT_CODE, 0x48, 0xff, 0xc0, 0xeb, 0xfb); /* 1: inc rax; jmp 1b */
	flat_reset(&flat, 0, FLAT_CODE);
	atomic_store(&c->attention, ATTENTION_KICK);
	cr_assert_eq(sigsetjmp(c->escape, 0), 0);
	for (unsigned n = 1; n < 10; n++) {
		soft_exec_one(c);
		cr_assert_eq(c->rip, FLAT_CODE + 3);
		soft_exec_one(c);
		cr_assert_eq(c->rip, FLAT_CODE);
		cr_assert_eq(reg(0)[RAX], n);
	}
}

static void *kick_later(void *arg)
{
	struct soft_cpu *c = arg;

	while (__atomic_load_n(&c->insn_count, __ATOMIC_RELAXED) < 1000000)
		sched_yield();
	vcpu_soft_ops.kick(&c->vcpu);
	return NULL;
}

/* A kick ends a loop that never leaves its chain. */
Test(softblocks, kick)
{
	pthread_t thread;

	FLAT_PUT(&flat, FLAT_CODE, 0x48, 0xff, 0xc0, 0xeb, 0xfb);
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(pthread_create(&thread, NULL, kick_later, flat.cpu[0]), 0);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_KICKED);
	pthread_join(thread, NULL);
	cr_assert_geq(reg(0)[RAX], 400000);
}

/* More blocks than the pool holds: it starts over, and execution goes on. */
Test(softblocks, pool_wraps)
{
	const uint64_t jumps = 400000, start = FLAT_DATA;

	for (uint64_t n = 0; n < jumps; n++)
		FLAT_PUT(&flat, start + n * 2, 0xeb, 0x00); /* jmp to the next */
	FLAT_PUT(&flat, start + jumps * 2, 0xf4);
	for (unsigned round = 0; round < 2; round++) {
		flat_reset(&flat, 0, start);
		cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	}
	cr_assert_eq(flat.cpu[0]->insn_count, 2 * (jumps + 1));
	cr_assert_gt(flat.cpu[0]->cache->flushes, 1);
}

/* RIP-relative beyond what 32 bits hold from the block's start. */
Test(softblocks, rip_relative_far)
{
	FLAT_PUT(&flat, FLAT_CODE, 0x90, 0x48, 0x8d, 0x05, 0xfe, 0xff, 0xff, 0x7f, /* lea rax */
		 0xf4);
	flat_reset(&flat, 0, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], FLAT_CODE + 8 + 0x7ffffffe);
}

/* The mode is part of what a block is: the same bytes in 16, 32 and 64-bit code. */
Test(softblocks, modes)
{
	FLAT_PUT(&flat, FLAT_DATA >> 4, 0xb8, 0x01, 0x02, 0x40, 0x90, 0xf4);
	flat_reset_mode(&flat, 0, FLAT_DATA >> 4, 16);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 0x0202); /* mov ax, 0x201; inc ax; nop */
	flat_reset_mode(&flat, 0, FLAT_DATA >> 4, 32);
	cr_assert_eq(flat_run(&flat, 0), VCPU_EXIT_HLT);
	cr_assert_eq(reg(0)[RAX], 0x90400201);
}
