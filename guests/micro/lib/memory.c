/* SPDX-License-Identifier: Apache-2.0 */
/* Free memory by node, and page tables: an identity map in 2 MiB pages, one copy a node. */
#include "guests/micro/lib/kernel.h"

#define TABLE_ENTRIES 512
#define LARGE_PAGE    (2ul << 20)
#define GIB	      (1ul << 30)
#define PML4_SPAN     (512 * GIB)

/* Accessed and dirty are set from the start: nobody needs to write a table ever again. */
#define PTE_TABLE 0x27u /* present, writable, user, accessed */
#define PTE_LARGE 0xe7u /* and dirty, 2 MiB */

static void region_cut(struct region *r, uint64_t start, uint64_t end)
{
	if (end <= r->start || start >= r->end)
		return;
	if (start > r->start && end < r->end) {
		if (machine.regions_count == REGIONS_MAX)
			panic("too many memory ranges");
		machine.regions[machine.regions_count++] =
			(struct region){r->node, end, r->end, end};
		r->end = start;
	} else if (start > r->start) {
		r->end = start;
	} else {
		r->start = end < r->end ? end : r->end;
	}
	r->next = r->start;
}

void regions_reserve(uint64_t start, uint64_t end)
{
	unsigned count = machine.regions_count;

	for (unsigned i = 0; i < count; i++)
		region_cut(&machine.regions[i], start, end);
}

static void *region_take(unsigned node, size_t bytes, size_t align)
{
	for (unsigned i = 0; i < machine.regions_count; i++) {
		struct region *r = &machine.regions[i];
		uint64_t start = (r->next + align - 1) & ~(uint64_t)(align - 1);

		if (r->node != node || start > r->end || r->end - start < bytes)
			continue;
		r->next = start + bytes;
		return (void *)start;
	}
	return NULL;
}

/* Guest memory is born zero, and nothing is ever given back. NULL when all is taken. */
void *block_alloc(unsigned node, size_t bytes, size_t align)
{
	bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
	for (unsigned i = 0; i < machine.nodes; i++) {
		void *block = region_take((node + i) % machine.nodes, bytes, align);

		if (block)
			return block;
	}
	return NULL;
}

static uint64_t *table_alloc(unsigned node)
{
	uint64_t *table = block_alloc(node, PAGE, PAGE);

	if (!table)
		panic("no memory for page tables");
	return table;
}

static void gib_map(unsigned node, uint64_t *pdpt, uint64_t start)
{
	uint64_t *pd = table_alloc(node);

	for (unsigned i = 0; i < TABLE_ENTRIES; i++)
		pd[i] = (start + i * LARGE_PAGE) | PTE_LARGE;
	pdpt[start / GIB % TABLE_ENTRIES] = (uint64_t)pd | PTE_TABLE;
}

/* Returns CR3. All RAM is mapped for CPL3 as well; the hole below 4 GiB comes along, unused. */
uint64_t page_tables_build(unsigned node)
{
	uint64_t *pml4 = table_alloc(node), *pdpt = NULL;

	for (uint64_t start = 0; start < machine.ram_end; start += GIB) {
		if (start % PML4_SPAN == 0) {
			pdpt = table_alloc(node);
			pml4[start / PML4_SPAN] = (uint64_t)pdpt | PTE_TABLE;
		}
		gib_map(node, pdpt, start);
	}
	return (uint64_t)pml4;
}
