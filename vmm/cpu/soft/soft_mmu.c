/* SPDX-License-Identifier: Apache-2.0 */
/* The page walk (SDM 3A, chapter 4), and what it enters into the TLB. */
#include "vmm/cpu/soft/soft_code.h"
#include "vmm/cpu/soft/soft_system.h"
#include "vmm/cpu/soft/soft_tlb.h"

/* Page table entry bits. */
#define PTE_P  0x001u
#define PTE_W  0x002u
#define PTE_U  0x004u
#define PTE_A  0x020u
#define PTE_D  0x040u
#define PTE_PS 0x080u
#define PTE_G  0x100u
#define PTE_NX (UINT64_C(1) << 63)

/* #PF error code bits. */
#define PF_P 0x01u
#define PF_W 0x02u
#define PF_U 0x04u
#define PF_R 0x08u
#define PF_I 0x10u

#define LEVELS_MAX 4

/* How the current paging mode cuts an address and what its entries look like. */
struct paging {
	unsigned levels, index_bits, entry_size;
	uint64_t root;
};

struct walk {
	struct paging paging;
	uint64_t linear;
	uint32_t access;			      /* PF_W, PF_U, PF_I: what is asked */
	uint32_t error;				      /* of the fault, if the walk fails */
	uint64_t slot[LEVELS_MAX], entry[LEVELS_MAX]; /* by level, 0 is the lowest */
	unsigned leaf;				      /* level of the page */
	uint64_t gpa;				      /* of linear */
	unsigned page_shift;
	bool global, large;
	bool lifted; /* SMAP does not hold: EFLAGS.AC */
};

/* ---- Walk ------------------------------------------------------------------------------------ */

static bool paging_pae(const struct soft_cpu *c)
{
	return c->cr4 & CR4_PAE;
}

static bool paging_nx(const struct soft_cpu *c)
{
	return paging_pae(c) && (c->efer & EFER_NXE);
}

static struct paging paging_of(const struct soft_cpu *c)
{
	struct paging p = {.index_bits = 9, .entry_size = 8};

	if (soft_long_mode(c)) {
		p.levels = 4;
		p.root = c->cr3 & SOFT_PHYS_MASK & LINEAR_PAGE_MASK;
	} else if (paging_pae(c)) {
		p.levels = 3;
		p.root = c->cr3 & 0xffffffe0u;
	} else {
		p.levels = 2;
		p.index_bits = 10;
		p.entry_size = 4;
		p.root = c->cr3 & 0xfffff000u;
	}
	return p;
}

/* Tables outside of memory read as zeroes: not present. */
static uint64_t entry_read(const struct soft_cpu *c, uint64_t gpa, unsigned size)
{
	const uint8_t *host = c->vm->ram + gpa;

	if (!soft_is_memory(c->vm, gpa))
		return 0;
	if (size == 8)
		return __atomic_load_n((const uint64_t *)host, __ATOMIC_ACQUIRE);
	return __atomic_load_n((const uint32_t *)host, __ATOMIC_ACQUIRE);
}

/* Sets bits in an entry unless it has changed meanwhile. What lies in an image stays as it is, as on a bus. */
static bool entry_set(struct soft_cpu *c, uint64_t gpa, unsigned size, uint64_t old, uint64_t bits)
{
	uint8_t *host = c->vm->ram + gpa;
	uint32_t old32 = (uint32_t)old;
	bool done;

	if (!soft_is_ram(c->vm, gpa))
		return true;
	if (size == 8)
		done = __atomic_compare_exchange_n((uint64_t *)host, &old, old | bits, false,
						   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	else
		done = __atomic_compare_exchange_n((uint32_t *)host, &old32, old32 | (uint32_t)bits,
						   false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	if (done && soft_code_heard(c, gpa >> PAGE_SHIFT))
		soft_code_written(c, gpa, size);
	return done;
}

/* Is the entry at this level a page? */
static bool entry_is_leaf(const struct soft_cpu *c, const struct walk *w, unsigned level,
			  uint64_t entry)
{
	if (level == 0)
		return true;
	if (!(entry & PTE_PS))
		return false;
	if (w->paging.entry_size == 4)
		return c->cr4 & CR4_PSE;
	return level == 1 || (level == 2 && w->paging.levels == 4 && soft_has_huge_pages(c));
}

/* PAE's top-level entries have neither permissions nor an accessed bit. They are read at each walk
 * here, not cached by MOV CR3; a guest that changes them must write CR3 anyhow. */
static bool level_is_pdpt(const struct walk *w, unsigned level)
{
	return w->paging.levels == 3 && level == 2;
}

/* The bits that must be zero (SDM 3A, tables 4-4 to 4-20). */
static uint64_t entry_reserved(const struct soft_cpu *c, const struct walk *w, unsigned level,
			       bool leaf)
{
	uint64_t mask = ~SOFT_PHYS_MASK & UINT64_C(0xfffffffffffff);

	if (w->paging.entry_size == 4)
		return leaf && level ? UINT64_C(1) << 21 : 0;
	if (level_is_pdpt(w, level))
		return mask | UINT64_C(0xfff00000000001e6);
	if (w->paging.levels == 3)
		mask |= UINT64_C(0x7ff) << 52;
	if (!paging_nx(c))
		mask |= PTE_NX;
	/* Where PS names no page of this size. */
	if (level == 3 || (level == 2 && !leaf))
		mask |= PTE_PS;
	if (leaf && level)
		mask |= ((UINT64_C(1) << (12 + 9 * level)) - 1) & ~UINT64_C(0x1fff);
	return mask;
}

static uint64_t entry_address(const struct walk *w, uint64_t entry)
{
	return w->paging.entry_size == 4 ? entry & 0xfffff000u
					 : entry & SOFT_PHYS_MASK & LINEAR_PAGE_MASK;
}

/* Where the byte lies in the page that the leaf names (4 MiB pages: PSE-36). */
static void walk_page(struct walk *w, unsigned level, uint64_t entry)
{
	unsigned shift = 12 + w->paging.index_bits * level;
	uint64_t in_page = (UINT64_C(1) << shift) - 1;
	uint64_t page = entry_address(w, entry) & ~in_page;

	if (w->paging.entry_size == 4 && level)
		page |= (entry >> 13 & 0xff) << 32;
	w->leaf = level;
	w->gpa = page | (w->linear & in_page);
	w->page_shift = shift;
	w->large = level > 0;
}

/* A supervisor's access to a user's page: fetches with SMEP, others with SMAP. */
static bool supervisor_denied(const struct soft_cpu *c, const struct walk *w)
{
	if (w->access & PF_I)
		return c->cr4 & CR4_SMEP;
	return (c->cr4 & CR4_SMAP) && !w->lifted;
}

/* May the access be done with the rights gathered on the way? */
static bool walk_allowed(const struct soft_cpu *c, const struct walk *w, uint64_t rights, bool nx)
{
	bool user = w->access & PF_U;

	if (user && !(rights & PTE_U))
		return false;
	if (!user && (rights & PTE_U) && supervisor_denied(c, w))
		return false;
	if ((w->access & PF_W) && !(rights & PTE_W) && (user || (c->cr0 & CR0_WP)))
		return false;
	return !((w->access & PF_I) && nx);
}

/* Descends the tables; false: w->error says why (without the access's own bits). */
static bool walk_descend(const struct soft_cpu *c, struct walk *w)
{
	uint64_t table = w->paging.root, rights = PTE_W | PTE_U, entry;
	uint64_t index_mask = (UINT64_C(1) << w->paging.index_bits) - 1;
	bool nx = false, leaf;

	for (unsigned level = w->paging.levels - 1;; level--) {
		uint64_t index = w->linear >> (12 + w->paging.index_bits * level) & index_mask;

		w->slot[level] = table + index * w->paging.entry_size;
		w->entry[level] = entry = entry_read(c, w->slot[level], w->paging.entry_size);
		w->error = 0;
		if (!(entry & PTE_P))
			return false;
		w->error = PF_P | PF_R;
		leaf = entry_is_leaf(c, w, level, entry);
		if (entry & entry_reserved(c, w, level, leaf))
			return false;
		if (!level_is_pdpt(w, level)) {
			rights &= entry;
			nx |= paging_nx(c) && (entry & PTE_NX);
		}
		if (leaf) {
			walk_page(w, level, entry);
			break;
		}
		table = entry_address(w, entry);
	}
	w->global = (entry & PTE_G) && (c->cr4 & CR4_PGE);
	w->error = PF_P;
	return walk_allowed(c, w, rights, nx);
}

/* Accessed bits on the path, and dirty in the leaf of a write; false: an entry changed meanwhile.
 */
static bool walk_mark(struct soft_cpu *c, const struct walk *w)
{
	for (unsigned level = w->paging.levels; level-- > w->leaf;) {
		uint64_t want = PTE_A;

		if (level_is_pdpt(w, level))
			continue;
		if (level == w->leaf && (w->access & PF_W))
			want |= PTE_D;
		if ((w->entry[level] & want) != want &&
		    !entry_set(c, w->slot[level], w->paging.entry_size, w->entry[level], want))
			return false;
	}
	return true;
}

/* The whole walk; false: a page fault with w->error. */
static bool walk_linear(struct soft_cpu *c, struct walk *w)
{
	if (!(c->cr0 & CR0_PG)) {
		w->gpa = (uint32_t)w->linear;
		w->page_shift = PAGE_SHIFT;
		return true;
	}
	w->paging = paging_of(c);
	do {
		if (!walk_descend(c, w)) {
			w->error |= w->access & (PF_W | PF_U);
			w->error |= paging_nx(c) || (c->cr4 & CR4_SMEP) ? w->access & PF_I : 0;
			return false;
		}
	} while (!walk_mark(c, w));
	return true;
}

/* ---- TLB ------------------------------------------------------------------------------------- */

static void tlb_enter(struct soft_cpu *c, unsigned bank, enum tlb_kind kind, const struct walk *w,
		      const struct soft_tlb_entry *entry)
{
	struct soft_tlb_context *t = c->context;
	unsigned slot = tlb_slot(w->linear);
	uint64_t bit = UINT64_C(1) << (slot % 64);

	tlb_array(&t->bank[bank], kind)[slot] = *entry;
	t->filled[bank][kind][slot / 64] |= bit;
	if (w->global)
		t->global[bank][kind][slot / 64] |= bit;
	else
		t->global[bank][kind][slot / 64] &= ~bit;
	if (w->large) {
		uint64_t region = w->linear >> 21;

		t->large[region / 64 % 16] |= UINT64_C(1) << (region % 64);
		t->huge |= w->page_shift >= 30;
	}
}

/* The entry for a data access: direct to host memory, or slow. */
static struct soft_tlb_entry tlb_data_entry(struct soft_cpu *c, const struct walk *w, bool write)
{
	uint64_t page = w->linear & LINEAR_PAGE_MASK, gpa = w->gpa & LINEAR_PAGE_MASK;
	const struct soft_vm *vm = c->vm;

	if (!(write ? soft_is_ram(vm, gpa) : soft_is_memory(vm, gpa)) ||
	    (c->break_data && soft_debug_page(c, page)) ||
	    (write && !soft_code_store_untold(c, gpa >> PAGE_SHIFT)))
		return (struct soft_tlb_entry){page | SOFT_TLB_SLOW, gpa - page};
	return (struct soft_tlb_entry){page, (uint64_t)(uintptr_t)(vm->ram + gpa) - page};
}

static void tlb_fill_data(struct soft_cpu *c, unsigned bank, const struct walk *w, bool write)
{
	struct soft_tlb_entry entry = tlb_data_entry(c, w, false);

	tlb_enter(c, bank, TLB_READ, w, &entry);
	if (write) {
		entry = tlb_data_entry(c, w, true);
		tlb_enter(c, bank, TLB_WRITE, w, &entry);
	}
}

/* A slow write entry of a page whose code was given up becomes a fast one. */
static void tlb_promote(struct soft_cpu *c, struct soft_tlb_entry *e, uint64_t linear)
{
	struct walk w = {.linear = linear, .gpa = linear + e->addend};

	*e = tlb_data_entry(c, &w, true);
}

void soft_check_canonical(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size)
{
	if (unlikely(!soft_canonical_range(c, linear, size)))
		soft_raise_error(c, i, i && (i->flags & INSN_STACK) ? VEC_SS : VEC_GP, 0);
}

uint64_t soft_translate(struct soft_cpu *c, const struct insn *i, uint64_t linear, bool write,
			unsigned bank, uint8_t **host)
{
	struct soft_tlb_entry *e =
		&tlb_array(&c->context->bank[bank], write ? TLB_WRITE : TLB_READ)[tlb_slot(linear)];
	uint64_t page = linear & LINEAR_PAGE_MASK;

	if ((e->tag & ~(uint64_t)SOFT_TLB_SLOW) != page) {
		struct walk w = {.linear = linear, .lifted = bank == TLB_BANK_LIFTED};

		soft_check_canonical(c, i, linear, 1);
		w.access = (write ? PF_W : 0) | (bank == TLB_BANK_USER ? PF_U : 0);
		if (!walk_linear(c, &w))
			soft_raise_pf(c, i, linear, w.error);
		tlb_fill_data(c, bank, &w, write);
	} else if (write && e->tag != page) {
		tlb_promote(c, e, linear);
	}
	*host = NULL;
	if (e->tag != page)
		return linear + e->addend;
	*host = (uint8_t *)(uintptr_t)(linear + e->addend);
	return (uint64_t)(*host - c->vm->ram);
}

uint64_t soft_fetch_translate(struct soft_cpu *c, uint64_t linear)
{
	bool user = c->cpl == 3;
	struct soft_tlb_entry *e = &c->context->bank[user].exec[tlb_slot(linear)];
	struct walk w = {.linear = linear};

	if (e->tag == (linear & LINEAR_PAGE_MASK))
		return linear + e->addend;
	if (soft_long_mode(c) && !soft_canonical(linear))
		soft_raise_error(c, NULL, VEC_GP, 0);
	w.access = PF_I | (user ? PF_U : 0);
	if (!walk_linear(c, &w))
		soft_raise_pf(c, NULL, linear, w.error);
	tlb_enter(c, user, TLB_EXEC, &w,
		  &(struct soft_tlb_entry){linear & LINEAR_PAGE_MASK, w.gpa - linear});
	return w.gpa;
}
