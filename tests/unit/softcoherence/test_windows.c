/* SPDX-License-Identifier: Apache-2.0 */
/* Fetch coherence by hand: two CPUs, one step at a time, through each window between a store and
 * the run of what it changed. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/softcore/flat.h"
#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_code.h"
#include "vmm/cpu/soft/soft_mem.h"

#define READER 0 /* runs the page FLAT_CODE */
#define WRITER 1 /* stores to it, from the page FLAT_CODE2 */
#define VALUE  1 /* offset of what the code returns */
#define DATA   0x800u

static struct flat flat;

static void setup(void)
{
	flat_make(&flat);
	FLAT_PUT(&flat, FLAT_CODE, 0xb8, 1, 0, 0, 0, 0xf4); /* mov eax, 1; hlt */
	FLAT_PUT(&flat, FLAT_CODE2, 0x88, 0x07);	    /* mov [rdi], al */
	FLAT_PUT(&flat, FLAT_CODE2 + 8, 0x86, 0x07);	    /* xchg [rdi], al */
	FLAT_PUT(&flat, FLAT_CODE2 + 16, 0xf3, 0xaa);	    /* rep stosb */
}

static void teardown(void)
{
	flat_free(&flat);
}

TestSuite(softwindows, .init = setup, .fini = teardown);

/* One instruction; the CPU is where the run loop would have it. */
static void step(unsigned cpu, uint64_t rip)
{
	struct soft_cpu *c = flat.cpu[cpu];

	if (sigsetjmp(c->escape, 0))
		cr_assert(false, "exception %d", c->exception.vector);
	c->rip = rip;
	soft_exec_one(c);
}

/* The writer is within guest code from now on, in the middle of some block. */
static void writer_enters(void)
{
	flat_reset(&flat, WRITER, FLAT_CODE2);
	soft_code_unpark(flat.cpu[WRITER]);
}

static void store_at(uint64_t insn, uint64_t linear, uint8_t value)
{
	struct soft_cpu *c = flat.cpu[WRITER];

	c->reg[RDI] = linear;
	c->reg[RAX] = value;
	c->reg[RCX] = 1;
	step(WRITER, insn);
}

static void store(uint64_t linear, uint8_t value)
{
	store_at(FLAT_CODE2, linear, value);
}

/* The end of the writer's block: what the run loop does when it is asked. */
static void writer_acknowledges(void)
{
	struct soft_cpu *c = flat.cpu[WRITER];

	cr_assert(atomic_exchange(&c->attention, 0) & ATTENTION_CODE);
	soft_code_acknowledge(c);
}

static uint64_t code_run(void)
{
	flat_reset(&flat, READER, FLAT_CODE);
	cr_assert_eq(flat_run(&flat, READER), VCPU_EXIT_HLT);
	return flat.cpu[READER]->reg[RAX];
}

/* Is the block that the reader ran last entered without a look at its bytes? */
static bool trusted(void)
{
	return block_fresh(flat.cpu[READER]->block);
}

static bool stores_fast(unsigned cpu, uint64_t linear)
{
	return soft_tlb_host(flat.cpu[cpu]->tlb->write, linear, 1);
}

static uint64_t generation(void)
{
	return atomic_load(&flat.cpu[READER]->vm->code[FLAT_CODE >> PAGE_SHIFT].gen);
}

static bool marked(void)
{
	return soft_code_marked(flat.cpu[READER], FLAT_CODE >> PAGE_SHIFT);
}

/* The writer is in guest code, and has acknowledged the mark of the page that the reader ran. */
static void trusted_run(void)
{
	writer_enters();
	cr_assert_eq(code_run(), 1);
	writer_acknowledges();
	cr_assert_eq(code_run(), 1);
	cr_assert(trusted());
}

/* The writer's TLB knew the page before it was decoded: its stores tell nobody until it has
 * acknowledged the mark. */
static void fast_entry_before_the_mark(uint64_t page)
{
	uint64_t gen;

	writer_enters();
	store(page + DATA, 1);
	cr_assert(stores_fast(WRITER, page));
	cr_assert_eq(code_run(), 1);
	cr_assert_not(trusted());
	gen = generation();
	for (uint8_t n = 2; n < 5; n++) {
		store(page + VALUE, n);
		cr_assert_eq(generation(), gen, "a store that tells nobody");
		cr_assert_eq(code_run(), n);
	}
	store(page + VALUE, 5); /* between the reader's look and the acknowledgement */
	writer_acknowledges();
	cr_assert_not(stores_fast(WRITER, page));
	cr_assert_eq(code_run(), 5);
	cr_assert(trusted());
	store(page + VALUE, 6);
	cr_assert_neq(generation(), gen);
	cr_assert_eq(code_run(), 6);
	cr_assert(trusted());
}

Test(softwindows, fast_entry_before_the_mark)
{
	fast_entry_before_the_mark(FLAT_CODE);
}

Test(softwindows, fast_entry_of_an_alias)
{
	fast_entry_before_the_mark(FLAT_ALIAS);
}

/* Every instruction that stores: a locked one, and a repeated one. */
Test(softwindows, told_by_every_kind_of_store)
{
	trusted_run();
	for (unsigned n = 0; n < 3; n++) {
		const uint64_t gen = generation();

		store_at(FLAT_CODE2 + n * 8, FLAT_CODE + VALUE, (uint8_t)(n + 2));
		cr_expect_gt(generation(), gen, "store %u", n);
		cr_expect_eq(code_run(), n + 2, "store %u", n);
	}
}

/* A locked store is told after it was made: a look in between must not count for it. */
Test(softwindows, locked_store_is_told_when_it_is_made)
{
	struct soft_cpu *c = flat.cpu[WRITER];
	uint8_t *host;

	trusted_run();
	host = soft_lock_ptr(c, NULL, FLAT_CODE + VALUE, 1);
	cr_assert_eq(code_run(), 1);
	*host = 2;
	soft_lock_end(c);
	cr_assert_eq(code_run(), 2);
}

/* A CPU that is outside of guest code holds nobody up; it gives up its entries as it comes in. */
Test(softwindows, parked_cpu)
{
	struct soft_cpu *c = flat.cpu[WRITER];

	writer_enters();
	store(FLAT_CODE + DATA, 1);
	soft_code_park(c);
	cr_assert_eq(code_run(), 1);
	cr_assert(trusted());
	cr_assert(stores_fast(WRITER, FLAT_CODE));
	soft_code_unpark(c);
	cr_assert_not(stores_fast(WRITER, FLAT_CODE));
	store(FLAT_CODE + VALUE, 2);
	cr_assert_eq(code_run(), 2);
}

/* The page becomes data by many stores, and code again: the writer is fast once more. */
Test(softwindows, mark_cleared_and_set_again)
{
	writer_enters();
	cr_assert_eq(code_run(), 1);
	for (unsigned n = 0; n < 100; n++)
		store(FLAT_CODE + DATA, (uint8_t)n);
	cr_assert_not(marked());
	cr_assert(stores_fast(WRITER, FLAT_CODE));
	cr_assert_not(trusted());
	store(FLAT_CODE + VALUE, 2);
	cr_assert_eq(code_run(), 2);
	cr_assert(marked());
	cr_assert_not(trusted());
	store(FLAT_CODE + VALUE, 3);
	cr_assert_eq(code_run(), 3);
	writer_acknowledges();
	cr_assert_eq(code_run(), 3);
	cr_assert(trusted());
	store(FLAT_CODE + VALUE, 4);
	cr_assert_eq(code_run(), 4);
}

/* Another CPU marked the page first: the writer, which stores fast, then runs it itself. */
Test(softwindows, own_store_after_anothers_mark)
{
	struct soft_cpu *c = flat.cpu[WRITER];

	writer_enters();
	store(FLAT_CODE + DATA, 1);
	cr_assert_eq(code_run(), 1);
	cr_assert(stores_fast(WRITER, FLAT_CODE));
	for (uint8_t n = 1; n < 4; n++) {
		store(FLAT_CODE + VALUE, n);
		step(WRITER, FLAT_CODE);
		cr_assert_eq(c->reg[RAX], n);
		cr_assert_not(stores_fast(WRITER, FLAT_CODE));
	}
}

/* Another CPU takes the mark off while a block of the page runs, which then stores into itself. */
Test(softwindows, own_store_after_another_took_the_mark_off)
{
	struct soft_cpu *c = flat.cpu[READER];
	const struct insn *i;
	insn_fn before;

	cr_assert_eq(code_run(), 1);
	i = c->block->insns;
	before = i[1].fn;
	writer_enters();
	for (unsigned n = 0; n < 100; n++)
		store(FLAT_CODE + DATA, (uint8_t)n);
	cr_assert_not(marked());
	soft_store8(c, i, FLAT_CODE + VALUE, 9);
	cr_assert_neq((void *)i[1].fn, (void *)before, "what follows in the block is given up");
	cr_assert_eq(code_run(), 9);
}

/* The bytes are others' when the page comes back from another slice, or a device has stored. */
Test(softwindows, page_taken_away)
{
	cr_assert_eq(code_run(), 1);
	cr_assert(trusted());
	flat.ram[FLAT_CODE + VALUE] = 2;
	vcpu_soft_ops.memory_changed(flat.shared, FLAT_CODE, PANGEA_PAGE_SIZE);
	cr_assert_not(trusted());
	cr_assert_eq(code_run(), 2);
	cr_assert(trusted());
}

/* A stretch of memory that begins and ends within pages, and one that ends beyond RAM. */
Test(softwindows, memory_changed_in_part)
{
	cr_assert_eq(code_run(), 1);
	vcpu_soft_ops.memory_changed(flat.shared, FLAT_CODE + 4096, 1);
	vcpu_soft_ops.memory_changed(flat.shared, FLAT_CODE - 1, 1);
	cr_assert(trusted());
	vcpu_soft_ops.memory_changed(flat.shared, FLAT_CODE - 1, 2);
	cr_assert_not(trusted());
	cr_assert_eq(code_run(), 1);
	vcpu_soft_ops.memory_changed(flat.shared, FLAT_CODE + 4095, UINT64_C(1) << 40);
	cr_assert_not(trusted());
}

/* The walk's own stores: a page table that holds code beside its entries. */
Test(softwindows, accessed_bit_beside_code)
{
	struct soft_cpu *c = flat.cpu[WRITER];
	const uint64_t pte = 0x4000 + 8 * (FLAT_DATA >> 12), gfn = pte >> PAGE_SHIFT;
	uint64_t gen;

	writer_enters();
	cr_assert_eq(soft_code_watch(flat.cpu[READER], gfn), CODE_GEN_NONE);
	writer_acknowledges();
	gen = soft_code_watch(flat.cpu[READER], gfn);
	cr_assert_neq(gen, CODE_GEN_NONE);
	store(FLAT_DATA, 1);
	cr_assert(flat.ram[pte] & 0x60);
	cr_assert_neq(soft_code_watch(c, gfn), gen);
}

/* An instruction on two pages, of which the second is stored to fast. */
Test(softwindows, straddling_instruction)
{
	const uint64_t at = FLAT_CODE + 0xffd;

	FLAT_PUT(&flat, at, 0xb8, 1, 0, 0, 0, 0xf4);
	writer_enters();
	store(FLAT_CODE + 0x1000, 0);
	for (uint8_t n = 1; n < 4; n++) {
		store(FLAT_CODE + 0x1000, n);
		flat_reset(&flat, READER, at);
		cr_assert_eq(flat_run(&flat, READER), VCPU_EXIT_HLT);
		cr_assert_eq(flat.cpu[READER]->reg[RAX], 1 + ((uint64_t)n << 16));
	}
}

/* As many CPUs as a VM can have, and one more. */
Test(softwindows, cpus_of_a_process_are_bounded)
{
	struct soft_cpu *c = flat.cpu[WRITER];

	for (unsigned n = FLAT_CPUS; n < VCPUS_MAX; n++)
		cr_assert_eq(soft_code_join(c), 0);
	cr_assert_lt(soft_code_join(c), 0);
	soft_code_part(c);
	cr_assert_eq(soft_code_join(c), 0);
}
