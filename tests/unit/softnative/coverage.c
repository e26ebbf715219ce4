/* SPDX-License-Identifier: Apache-2.0 */
/* What the cases reach: operands across pages, each kind of fault. An independent decoder says
 * which bytes an instruction touches, so that a wrong idea of our own cannot hide here. */
#include "tests/unit/softnative/softnative.h"

#include <Zydis/Zydis.h>

#define PF_PRESENT 0x01u
#define PF_FETCH   0x10u
#define STATUS	   (CF | PF | AF | ZF | SF | OF)

/* The bytes that a memory operand touches: first to last. */
struct span {
	uint64_t first, last;
};

static uint64_t register_value(const struct test_case *t, ZydisRegister reg, unsigned len)
{
	ZydisRegister wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (reg == ZYDIS_REGISTER_NONE)
		return 0;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return t->in.rip + len;
	return t->in.gpr[ZydisRegisterGetId(wide) & 15];
}

static uint64_t operand_address(const struct test_case *t, const ZydisDecodedInstruction *z,
				const ZydisDecodedOperand *op)
{
	uint64_t at = register_value(t, op->mem.base, z->length) + (uint64_t)op->mem.disp.value;

	at += register_value(t, op->mem.index, z->length) * op->mem.scale;
	if (z->address_width == 32)
		at = (uint32_t)at;
	return at + (op->mem.segment == ZYDIS_REGISTER_GS ? GS_BASE : 0);
}

/* A push writes below RSP. */
static bool operand_pushes(const ZydisDecodedOperand *op)
{
	return op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
	       (op->mem.base == ZYDIS_REGISTER_RSP || op->mem.base == ZYDIS_REGISTER_ESP) &&
	       (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
}

/* False if the operand touches no memory. Of bit strings in memory only the register knows where.
 */
static bool operand_span(const struct test_case *t, const ZydisDecodedInstruction *z,
			 const ZydisDecodedOperand *op, struct span *s)
{
	const uint64_t bytes = op->size / 8;
	uint64_t rest = 0;

	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
	    bytes == 0 || t->form->special == SP_BIT_REG)
		return false;
	s->first = operand_address(t, z, op);
	if (operand_pushes(op))
		s->first -= bytes;
	if (z->attributes &
	    (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) {
		uint64_t count =
			t->in.gpr[RCX] & (z->address_width == 32 ? UINT32_MAX : UINT64_MAX);

		if (count == 0)
			return false;
		rest = (count < PAGE_BYTES ? count - 1 : PAGE_BYTES) * bytes;
		if (t->in.rflags & DF)
			s->first -= rest;
	}
	s->last = s->first + rest + bytes - 1;
	return true;
}

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
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder decoder;
	struct span s;
	bool memory = false;

	fault_count(cov, native);
	cov->split += native->vector == 3 && !page_same(t->in.rip, t->in.rip + t->len - 1);
	if (native->vector == 3)
		cov->flags |= (uint32_t)(t->in.rflags ^ native->image.rflags) & STATUS;
	if (t->mode == 64)
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, t->code, t->len, &z, operands)))
		return;
	for (unsigned n = 0; n < z.operand_count; n++) {
		if (!operand_span(t, &z, &operands[n], &s))
			continue;
		memory = true;
		operand_count(cov, native, &s);
	}
	cov->memory += memory;
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
