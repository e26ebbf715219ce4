/* SPDX-License-Identifier: Apache-2.0 */
/* Fetch coherence: marks of pages with code, and what each CPU may still do to them untold. */
#include <errno.h>

#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_code.h"

/*
 * The argument is in docs/softcpu.md; in short:
 *
 * A store to a page that was ever marked goes the slow way: first the bytes, then the page's
 * generation is stepped, then whatever the CPU stores next. A block is entered after one look at
 * the generation; it was read before the bytes were. So a CPU that knows of a later store either
 * finds the generation stepped or has decoded the new bytes.
 *
 * A CPU whose write TLB held the page before it was marked stores fast, and tells nobody. So each
 * mark draws a ticket, and all CPUs are asked to give such entries up; each does at its next block
 * and publishes the last ticket it has followed. Until all are there, blocks of the page are
 * compared with memory each time they are entered. Nobody waits for anybody.
 *
 * A page that holds data only, now, would stay slow: after MIXED_STORES told stores without a look
 * at its code the mark is taken off. Who then takes a fast entry first steps the generation, so
 * that every block of the page is looked at, and the page marked anew, before it runs again.
 */
#define MIXED_STORES 16

static uint64_t mark_ticket(uint64_t mark)
{
	return mark >> CODE_TICKET_SHIFT;
}

static struct soft_cpu *cpu_at(const struct soft_vm *vm, unsigned slot)
{
	return atomic_load(&vm->cpus[slot]);
}

/* ---- The CPUs of a process ------------------------------------------------------------------- */

int soft_code_join(struct soft_cpu *c)
{
	struct soft_vm *vm = c->vm;

	atomic_store(&c->code_seen, CODE_PARKED);
	for (unsigned slot = 0; slot < VCPUS_MAX; slot++) {
		struct soft_cpu *nobody = NULL;
		unsigned end = slot;

		if (!atomic_compare_exchange_strong(&vm->cpus[slot], &nobody, c))
			continue;
		while (end <= slot && !atomic_compare_exchange_weak(&vm->cpus_end, &end, slot + 1))
			;
		return 0;
	}
	return -ENOSPC;
}

void soft_code_part(struct soft_cpu *c)
{
	for (unsigned slot = 0; slot < VCPUS_MAX; slot++)
		if (cpu_at(c->vm, slot) == c)
			atomic_store(&c->vm->cpus[slot], NULL);
}

/* The bit may be set already: then the CPU has yet to take it, and reads the ticket after that. */
static void others_ask(const struct soft_cpu *c)
{
	unsigned end = atomic_load(&c->vm->cpus_end);

	for (unsigned slot = 0; slot < end; slot++) {
		struct soft_cpu *other = cpu_at(c->vm, slot);

		if (other && other != c && !(atomic_load(&other->attention) & ATTENTION_CODE))
			atomic_fetch_or(&other->attention, ATTENTION_CODE);
	}
}

/* Have all others given up what they could do untold when the ticket was drawn? Bytes that are
 * read after this said yes hold all that they stored so. */
static bool others_followed(struct soft_cpu *c, uint64_t ticket)
{
	unsigned end = atomic_load(&c->vm->cpus_end);

	if (ticket <= c->code_trusted)
		return true;
	for (unsigned slot = 0; slot < end; slot++) {
		struct soft_cpu *other = cpu_at(c->vm, slot);

		if (other && other != c && atomic_load(&other->code_seen) < ticket)
			return false;
	}
	c->code_trusted = ticket;
	return true;
}

void soft_code_acknowledge(struct soft_cpu *c)
{
	/* Before the marks are read: they are at least of this ticket. */
	uint64_t ticket = atomic_load(&c->vm->code_ticket);

	soft_tlb_protect_code(c);
	c->code_acked = ticket;
	if (atomic_load_explicit(&c->code_seen, memory_order_relaxed) != CODE_PARKED)
		atomic_store(&c->code_seen, ticket);
}

/* Either who draws a ticket sees that this CPU is not parked, or this CPU sees the ticket. */
void soft_code_unpark(struct soft_cpu *c)
{
	atomic_store(&c->code_seen, c->code_acked);
	if (atomic_load(&c->vm->code_ticket) != c->code_acked)
		soft_code_acknowledge(c);
}

void soft_code_park(struct soft_cpu *c)
{
	atomic_store_explicit(&c->code_seen, CODE_PARKED, memory_order_release);
}

/* ---- Marks ----------------------------------------------------------------------------------- */

/* Marks the page unless it is marked; the mark. It is set before the ticket is drawn, so that who
 * reads the ticket finds the mark; until the ticket is written beside it nobody can trust it. */
static uint64_t page_mark(struct soft_cpu *c, struct soft_code_page *page)
{
	uint64_t mark = atomic_load(&page->mark);

	do {
		if (mark & CODE_MARKED)
			return mark;
	} while (!atomic_compare_exchange_weak(&page->mark, &mark, CODE_MARKED | CODE_PENDING));
	mark = (atomic_fetch_add(&c->vm->code_ticket, 1) + 1) << CODE_TICKET_SHIFT | CODE_MARKED;
	atomic_store(&page->mark, mark); /* a pending mark is changed by nobody else */
	others_ask(c);
	return mark;
}

uint64_t soft_code_watch(struct soft_cpu *c, uint64_t gfn)
{
	struct soft_code_page *page = &c->vm->code[gfn];
	uint64_t mark = page_mark(c, page), gen;
	bool trusted;

	if ((mark & CODE_PENDING) || mark_ticket(mark) > c->code_acked)
		soft_code_acknowledge(c);
	trusted = !(mark & CODE_PENDING) && others_followed(c, mark_ticket(mark));
	gen = atomic_load(&page->gen);
	if (atomic_load_explicit(&page->looked, memory_order_relaxed) != gen)
		atomic_store_explicit(&page->looked, gen, memory_order_relaxed);
	return trusted ? gen : CODE_GEN_NONE;
}

static bool page_runs(const struct soft_cpu *c, uint64_t gfn)
{
	return BLOCK_KEY_GFN(c->block->key) == gfn;
}

/* The block that runs must hear of this CPU's stores to it, whatever other CPUs do to the mark. */
bool soft_code_store_untold(struct soft_cpu *c, uint64_t gfn)
{
	struct soft_code_page *page = &c->vm->code[gfn];
	uint64_t mark = atomic_load_explicit(&page->mark, memory_order_relaxed);

	if (mark == 0)
		return true;
	if ((mark & CODE_MARKED) || page_runs(c, gfn))
		return false;
	atomic_fetch_add(&page->gen, CODE_GEN_STEP);
	return true;
}

void soft_code_tell(struct soft_cpu *c, uint64_t gfn)
{
	struct soft_code_page *page = &c->vm->code[gfn];
	uint64_t gen = atomic_fetch_add(&page->gen, CODE_GEN_STEP) + CODE_GEN_STEP;
	uint64_t looked = atomic_load_explicit(&page->looked, memory_order_relaxed);
	uint64_t mark = atomic_load(&page->mark);

	if (gen - looked < MIXED_STORES * CODE_GEN_STEP || page_runs(c, gfn))
		return;
	if ((mark & CODE_MARKED) && !(mark & CODE_PENDING))
		atomic_compare_exchange_strong(&page->mark, &mark, mark & ~(uint64_t)CODE_MARKED);
}

/* Who decodes marks the page before it reads the bytes. The fence puts the store (or the unmapping)
 * before our look at the mark: we see the mark, or the decoder the store. */
void soft_code_changed(void *shared, uint64_t gpa, uint64_t len)
{
	struct soft_vm *vm = shared;
	uint64_t end = gpa + len < vm->ram_end ? gpa + len : vm->ram_end;

	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t gfn = gpa >> PAGE_SHIFT; gfn << PAGE_SHIFT < end; gfn++)
		if (atomic_load(&vm->code[gfn].mark))
			atomic_fetch_add(&vm->code[gfn].gen, CODE_GEN_STEP);
}
