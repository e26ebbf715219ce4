/* SPDX-License-Identifier: Apache-2.0 */
/* What the cases reach: operands across pages, each kind of fault. */
#include "tests/unit/softnative/softnative.h"

#define PF_PRESENT 0x01u
#define PF_FETCH   0x10u
#define STATUS	   (CF | PF | AF | ZF | SF | OF)

static bool page_same(uint64_t a, uint64_t b)
{
	return ((a ^ b) & ~UINT64_C(0xfff)) == 0;
}

/* A fault counts as the second page's if the operand begins on another one. */
static void operand_count(struct coverage *cov, const struct outcome *native, const struct span *s)
{
	if (page_same(s->first, s->last))
		return;
	if (native->vector == 3)
		cov->crossed++;
	else if (native->vector == 14 && page_same(native->cr2, s->last))
		cov->second++;
}

static void fault_count(struct coverage *cov, const struct outcome *native)
{
	switch (native->vector) {
	case 0:
	case 16:
	case 19:
		cov->arithmetic++;
		break;
	case 6:
		cov->undefined++;
		break;
	case 12:
	case 13:
		cov->protection++;
		break;
	case 14:
		if (native->error & PF_FETCH)
			cov->fetch++;
		else if (native->error & PF_PRESENT)
			cov->readonly++;
		else
			cov->absent++;
		break;
	default:
		break;
	}
}

void coverage_add(struct coverage *cov, const struct test_case *t, const struct outcome *native)
{
	struct span spans[SPANS_MAX];
	unsigned count;

	fault_count(cov, native);
	cov->split += native->vector == 3 && !page_same(t->in.rip, t->in.rip + t->len - 1);
	if (native->vector == 3)
		cov->flags |= (uint32_t)(t->in.rflags ^ native->image.rflags) & STATUS;
	count = operand_spans(t, &t->in, true, spans);
	for (unsigned n = 0; n < count; n++)
		operand_count(cov, native, &spans[n]);
	cov->memory += count > 0;
}

void coverage_sum(struct coverage *sum, const struct coverage *cov)
{
	sum->memory += cov->memory;
	sum->crossed += cov->crossed;
	sum->second += cov->second;
	sum->absent += cov->absent;
	sum->readonly += cov->readonly;
	sum->protection += cov->protection;
	sum->undefined += cov->undefined;
	sum->arithmetic += cov->arithmetic;
	sum->split += cov->split;
	sum->fetch += cov->fetch;
	sum->flags |= cov->flags;
}

unsigned coverage_missed(const struct coverage *cov, enum form_class class)
{
	static const struct {
		bool memory, stores;
		uint32_t flags;
	} wanted[CLASS_COUNT] = {
		[CLASS_ALU] = {true, true, STATUS},	[CLASS_SHIFT] = {true, true, STATUS},
		[CLASS_MULDIV] = {true, false, STATUS}, [CLASS_MOVE] = {true, true, 0},
		[CLASS_BIT] = {true, true, CF | ZF},	[CLASS_STACK] = {true, true, STATUS},
		[CLASS_BRANCH] = {true, true, 0},	[CLASS_STRING] = {true, true, STATUS},
		[CLASS_SSE] = {true, true, CF | ZF},	[CLASS_MMX] = {true, true, 0},
		[CLASS_X87] = {true, true, CF | ZF},
	};
	unsigned missed = 0;

	missed += (cov->flags & wanted[class].flags) != wanted[class].flags;
	missed += class != CLASS_FAULT && cov->split == 0;
	missed += class != CLASS_STATE && cov->fetch == 0;
	if (!wanted[class].memory)
		return missed;
	missed += cov->crossed == 0;
	missed += cov->second == 0;
	missed += cov->absent == 0;
	return missed + (wanted[class].stores && cov->readonly == 0);
}
