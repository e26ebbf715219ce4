/* SPDX-License-Identifier: Apache-2.0 */
/* Random values, selectors, descriptors and addresses, biased towards where rules have edges. */
#include "base/random.h"
#include "tests/unit/softkvm/softkvm.h"

#define CR0_PG 0x80000000u

uint64_t rng_next(struct rng *r)
{
	return random_xorshift_star(&r->state);
}

unsigned rng_below(struct rng *r, unsigned n)
{
	return (unsigned)((rng_next(r) >> 33) % n);
}

bool rng_one_in(struct rng *r, unsigned n)
{
	return rng_below(r, n) == 0;
}

uint64_t value_any(struct rng *r)
{
	switch (rng_below(r, 6)) {
	case 0:
		return rng_next(r);
	case 1:
		return rng_next(r) >> rng_below(r, 64);
	case 2:
		return UINT64_C(1) << rng_below(r, 64);
	case 3:
		return ~(UINT64_C(1) << rng_below(r, 64));
	case 4:
		return rng_below(r, 2) ? UINT64_MAX : 0;
	default:
		return (uint64_t)(int64_t)(int32_t)rng_next(r);
	}
}

uint64_t address_any(struct rng *r)
{
	static const uint64_t edges[] = {
		UINT64_C(0x00007fffffffffff), UINT64_C(0x0000800000000000),
		UINT64_C(0xffff7fffffffffff), UINT64_C(0xffff800000000000),
		UINT64_C(0x0001000000000000), UINT64_C(0x8000000000000000),
	};
	uint64_t value = rng_next(r);

	switch (rng_below(r, 4)) {
	case 0:
		return edges[rng_below(r, sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return value;
	case 2: /* canonical */
		return (uint64_t)((int64_t)(value << 16) >> 16);
	default:
		return value & 0x7fffffff;
	}
}

uint16_t selector_any(struct gen *g)
{
	static const uint16_t plain[] = {SEL_KCODE64, SEL_KDATA,   SEL_UCODE32, SEL_UDATA,
					 SEL_UCODE64, SEL_KCODE32, SEL_KCODE16, SEL_DATA16,
					 SEL_LDT,     SEL_UCODE16, SEL_UDATA16, SEL_TSS};
	struct rng *r = &g->rng;
	unsigned rpl = rng_below(r, 3) ? g->cpl : rng_below(r, 4);

	switch (rng_below(r, 16)) {
	case 0:
		return (uint16_t)rng_below(r, 4);
	case 1: /* beyond the table's limit */
		return (uint16_t)((GDT_LIMIT + 1) | rng_below(r, 8));
	case 2:
		return (uint16_t)(rng_next(r) & 0xffff);
	case 3:
	case 4:
	case 5:
		return (plain[rng_below(r, sizeof(plain) / sizeof(plain[0]))] & ~3u) | rpl;
	case 6:
	case 7: /* of the LDT */
		return (uint16_t)(rng_below(r, ZOO_SLOTS) * 16 | 4 | rpl);
	default:
		return (uint16_t)((SEL_ZOO + rng_below(r, ZOO_SLOTS) * 16) | rpl);
	}
}

static uint64_t descriptor_type(struct gen *g)
{
	struct rng *r = &g->rng;

	switch (rng_below(r, 4) ? g->zoo : ZOO_ANY) {
	case ZOO_CODE:
		return 0x18 | rng_below(r, 8);
	case ZOO_STACK:
		return rng_below(r, 4) ? 0x12 | rng_below(r, 2) : 0x10 | rng_below(r, 8);
	case ZOO_SYSTEM:
		return rng_below(r, 2) ? rng_below(r, 16)
				       : (0x0000000b0902u >> rng_below(r, 3) * 8) & 0xf;
	default:
		return rng_below(r, 4) ? 0x10 | rng_below(r, 16) : rng_below(r, 16);
	}
}

/* Bases and limits keep what a case reaches within the image. */
uint64_t descriptor_any(struct gen *g)
{
	struct rng *r = &g->rng;
	uint64_t type = descriptor_type(g), dpl, flags, base, limit;
	bool system = !(type & 0x10);

	dpl = rng_below(r, 2) ? g->cpl : rng_below(r, 4);
	flags = rng_below(r, 16);
	/* A 64-bit, a 32-bit or a 16-bit segment, as the form's code needs; or anything. */
	if (rng_below(r, 4))
		flags = g->width == 64 && rng_below(r, 2) ? 0xa : rng_below(r, 2) ? 0xc : 0;
	base = system ? (rng_below(r, 2) ? GPA_TSS : GPA_LDT) : rng_below(r, 3) << 12;
	limit = system ? 0x60 + rng_below(r, 0x40) : 0xfffff;
	if (rng_one_in(r, 8))
		limit = rng_below(r, 0x20000);
	return (limit & 0xffff) | (base & 0xffffff) << 16 |
	       (type | dpl << 5 | (uint64_t)!rng_one_in(r, 6) << 7) << 40 | (limit >> 16) << 48 |
	       flags << 52 | (base >> 24) << 56;
}

uint16_t selector_code(struct gen *g)
{
	static const uint16_t code[] = {SEL_KCODE64, SEL_KCODE32, SEL_KCODE16,
					SEL_UCODE64, SEL_UCODE32, SEL_UCODE16};

	if (rng_below(&g->rng, 2))
		return selector_any(g);
	return code[rng_below(&g->rng, sizeof(code) / sizeof(code[0]))];
}

/* There is a zoo only with paging. */
static void paging_force(struct gen *g)
{
	struct vcpu_state *s = &g->t->in;

	if (!(IN(g->t->mode) & IN_LEGACY) || (s->cr0 & CR0_PG))
		return;
	s->cr0 |= CR0_PG | 0x10000;
	s->cr3 = GPA_PAE;
}

uint64_t zoo_address(struct gen *g, unsigned size)
{
	static const uint64_t top[] = {0,
				       UINT64_C(1) << 39,
				       UINT64_C(2) << 39,
				       UINT64_C(0xffff800000000000),
				       UINT64_C(0xffffff8000000000),
				       0x40000000,
				       0x80000000};
	struct rng *r = &g->rng;
	uint64_t offset = rng_below(r, 0x1000 - size);
	uint64_t address = ZOO_VA + rng_below(r, ZOO_PAGES) * 0x1000u;

	paging_force(g);
	if (rng_one_in(r, 4))
		address += rng_below(r, ZOO_REGIONS) * ZOO_VA_REGION;
	if (g->width == 64 && rng_one_in(r, 6))
		address += top[rng_below(r, sizeof(top) / sizeof(top[0]))];
	if (rng_one_in(r, 4)) /* across the page's end */
		offset = 0x1000 - size + rng_below(r, size);
	if (g->width == 64 && rng_one_in(r, 24))
		return address_any(r);
	return rng_one_in(r, 16) ? ABSENT_VA + offset : address + offset;
}

uint64_t target_any(struct gen *g)
{
	struct rng *r = &g->rng;

	if (rng_one_in(r, 8))
		return g->width == 64 ? address_any(r) : rng_next(r);
	return GPA_TARGETS + rng_below(r, 0x1000);
}
