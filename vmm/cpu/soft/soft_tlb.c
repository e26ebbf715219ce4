/* SPDX-License-Identifier: Apache-2.0 */
/* The contexts of the TLB, one a process-context identifier, and what flushes them (SDM 3A, 4.10). */
#include "vmm/cpu/soft/soft_code.h"
#include "vmm/cpu/soft/soft_system.h"
#include "vmm/cpu/soft/soft_tlb.h"

/*
 * Without CR4.PCIDE all is of PCID 0, and MOV CR3 drops what is not global. With it, each PCID has a context, as long as there
 * are enough; the one that was CR3's longest ago gives way. A context keeps global entries when it is given another PCID, since
 * these are of every PCID; but a look-up finds only those that were entered while the context was CR3's. What a flush must drop
 * in every PCID it drops in every context.
 */

/* ---- Flushes of one context ------------------------------------------------------------------ */

static void flush_word(struct soft_tlb_entry *entries, uint64_t bits)
{
	for (; bits; bits &= bits - 1)
		entries[__builtin_ctzll(bits)].tag = SOFT_TLB_INVALID;
}

static void flush_array(struct soft_tlb_context *t, unsigned bank, enum tlb_kind kind, bool globals)
{
	struct soft_tlb_entry *array = tlb_array(&t->bank[bank], kind);

	for (unsigned word = 0; word < SOFT_TLB_SIZE / 64; word++) {
		uint64_t *filled = &t->filled[bank][kind][word];
		uint64_t bits = *filled;

		if (!globals)
			bits &= ~t->global[bank][kind][word];
		flush_word(array + word * 64, bits);
		*filled &= ~bits;
	}
}

static void context_flush(struct soft_cpu *c, struct soft_tlb_context *t, bool globals)
{
	for (unsigned bank = 0; bank < TLB_BANKS; bank++)
		for (unsigned kind = TLB_READ; kind <= TLB_EXEC; kind++)
			flush_array(t, bank, kind, globals);
	if (globals) {
		memset(t->large, 0, sizeof(t->large));
		t->huge = false;
	}
	soft_cache_flush_context(c, t);
}

/* The 512 slots that may hold parts of a 2 MiB region, which is linear >> 21. */
static void flush_region(struct soft_tlb_context *t, uint64_t region)
{
	for (unsigned bank = 0; bank < TLB_BANKS; bank++)
		for (unsigned kind = TLB_READ; kind <= TLB_EXEC; kind++) {
			struct soft_tlb_entry *array =
				tlb_array(&t->bank[bank], kind) + tlb_slot(region << 21);

			for (unsigned n = 0; n < 512; n++)
				if (array[n].tag >> 21 == region)
					array[n].tag = SOFT_TLB_INVALID;
		}
}

static bool region_large(const struct soft_tlb_context *t, uint64_t region)
{
	return t->large[region / 64 % 16] >> (region % 64) & 1;
}

/* The large page that linear may lie in: one region, or two where large pages have 4 MiB. */
static void flush_large(const struct soft_cpu *c, struct soft_tlb_context *t, uint64_t linear)
{
	uint64_t region = linear >> 21, other = c->cr4 & CR4_PAE ? region : region ^ 1;

	if (!region_large(t, region) && !region_large(t, other))
		return;
	flush_region(t, region);
	if (other != region)
		flush_region(t, other);
}

static void context_flush_page(struct soft_cpu *c, struct soft_tlb_context *t, uint64_t linear)
{
	uint64_t page = linear & LINEAR_PAGE_MASK;

	if (t->huge) {
		context_flush(c, t, true);
		return;
	}
	flush_large(c, t, linear);
	for (unsigned bank = 0; bank < TLB_BANKS; bank++)
		for (unsigned kind = TLB_READ; kind <= TLB_EXEC; kind++) {
			struct soft_tlb_entry *e =
				&tlb_array(&t->bank[bank], kind)[tlb_slot(linear)];

			if ((e->tag & LINEAR_PAGE_MASK) == page)
				e->tag = SOFT_TLB_INVALID;
		}
	soft_cache_flush_context(c, t);
}

/* ---- Stores that are told -------------------------------------------------------------------- */

static void protect_entry(struct soft_cpu *c, struct soft_tlb_entry *e, bool ever)
{
	uint64_t gpa;

	if (e->tag & ~LINEAR_PAGE_MASK)
		return;
	gpa = e->tag + e->addend - (uint64_t)(uintptr_t)c->vm->ram;
	if (ever ? !soft_code_heard(c, gpa >> PAGE_SHIFT) : !soft_code_marked(c, gpa >> PAGE_SHIFT))
		return;
	e->addend = gpa - e->tag;
	e->tag |= SOFT_TLB_SLOW;
}

/* ever: pages that were marked once, too. */
static void context_protect(struct soft_cpu *c, struct soft_tlb_context *t, bool ever)
{
	for (unsigned bank = 0; bank < TLB_BANKS; bank++)
		for (unsigned word = 0; word < SOFT_TLB_SIZE / 64; word++)
			for (uint64_t bits = t->filled[bank][TLB_WRITE][word]; bits;
			     bits &= bits - 1)
				protect_entry(c,
					      &t->bank[bank].write[word * 64 +
								   (unsigned)__builtin_ctzll(bits)],
					      ever);
}

void soft_tlb_protect_code(struct soft_cpu *c)
{
	context_protect(c, c->context, false);
}

/* ---- Contexts -------------------------------------------------------------------------------- */

static void bank_clear(struct soft_tlb *bank)
{
	for (unsigned kind = TLB_READ; kind <= TLB_EXEC; kind++)
		for (unsigned n = 0; n < SOFT_TLB_SIZE; n++)
			tlb_array(bank, kind)[n].tag = SOFT_TLB_INVALID;
}

static void context_init(struct soft_tlb_context *t)
{
	for (unsigned bank = 0; bank < TLB_BANKS; bank++)
		bank_clear(&t->bank[bank]);
	t->used = true;
}

void soft_tlb_init(struct soft_cpu *c)
{
	bank_clear(&c->tlb_empty);
	context_init(&c->tlb_context[0]);
	c->context = &c->tlb_context[0];
	c->tlb = &c->context->bank[TLB_BANK_SUPERVISOR];
}

static struct soft_tlb_context *context_find(struct soft_cpu *c, unsigned pcid)
{
	for (unsigned n = 0; n < SOFT_TLB_CONTEXTS; n++)
		if (c->tlb_context[n].used && c->tlb_context[n].pcid == pcid)
			return &c->tlb_context[n];
	return NULL;
}

/* One that was never used, or else the one that was CR3's longest ago. */
static struct soft_tlb_context *context_take(struct soft_cpu *c)
{
	struct soft_tlb_context *oldest = NULL;

	for (unsigned n = 0; n < SOFT_TLB_CONTEXTS; n++) {
		struct soft_tlb_context *t = &c->tlb_context[n];

		if (!t->used) {
			context_init(t);
			return t;
		}
		if (t != c->context && (!oldest || t->entered < oldest->entered))
			oldest = t;
	}
	return oldest;
}

/* The others' entries are given up when they are entered, and so those of pages whose mark came and went, too: a store by
 * such an entry would not step the page's generation (soft_code_store_untold). */
static void context_enter(struct soft_cpu *c, struct soft_tlb_context *t)
{
	c->context->code_acked = c->code_acked;
	if (t->code_acked != c->code_acked)
		context_protect(c, t, true);
	t->entered = ++c->tlb_entered;
	c->context = t;
	soft_tlb_select(c);
	soft_cache_enter_context(c);
}

void soft_tlb_enter(struct soft_cpu *c, unsigned pcid, bool keep)
{
	struct soft_tlb_context *t = c->context;

	if (t->pcid != pcid)
		t = context_find(c, pcid);
	if (!t) {
		t = context_take(c);
		t->pcid = (uint16_t)pcid;
		keep = false;
	}
	if (!keep)
		context_flush(c, t, false);
	if (t != c->context)
		context_enter(c, t);
}

/* ---- Flushes --------------------------------------------------------------------------------- */

void soft_tlb_flush(struct soft_cpu *c, bool globals)
{
	for (unsigned n = 0; n < SOFT_TLB_CONTEXTS; n++)
		if (c->tlb_context[n].used)
			context_flush(c, &c->tlb_context[n], globals);
}

void soft_tlb_flush_page(struct soft_cpu *c, uint64_t linear)
{
	for (unsigned n = 0; n < SOFT_TLB_CONTEXTS; n++)
		if (c->tlb_context[n].used)
			context_flush_page(c, &c->tlb_context[n], linear);
}

void soft_tlb_flush_pcid(struct soft_cpu *c, unsigned pcid)
{
	struct soft_tlb_context *t = context_find(c, pcid);

	if (t)
		context_flush(c, t, false);
}

/* Global entries of the page may go, too (SDM 3A, 4.10.4.1). */
void soft_tlb_flush_pcid_page(struct soft_cpu *c, unsigned pcid, uint64_t linear)
{
	struct soft_tlb_context *t = context_find(c, pcid);

	if (t)
		context_flush_page(c, t, linear);
}
