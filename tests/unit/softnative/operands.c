/* SPDX-License-Identifier: Apache-2.0 */
/* What an instruction may touch, and which faults that may raise. An independent decoder says which bytes
 * those are, so that a wrong idea of our own cannot hide here. */
#include "tests/unit/softnative/softnative.h"

#include <Zydis/Zydis.h>

#define PF_PRESENT 0x01u
#define PF_WRITE   0x02u
#define PF_USER	   0x04u
#define PF_FETCH   0x10u

static uint64_t register_value(const struct test_case *t, const struct image *image,
			       ZydisRegister reg, unsigned len)
{
	ZydisRegister wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (reg == ZYDIS_REGISTER_NONE)
		return 0;
	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return t->in.rip + len;
	return image->gpr[ZydisRegisterGetId(wide) & 15];
}

static uint64_t operand_address(const struct test_case *t, const struct image *image,
				const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
	uint64_t at =
		register_value(t, image, op->mem.base, z->length) + (uint64_t)op->mem.disp.value;

	at += register_value(t, image, op->mem.index, z->length) * op->mem.scale;
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

static bool repeats(const ZydisDecodedInstruction *z)
{
	return z->attributes &
	       (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* False if the operand touches no memory. Of bit strings in memory only the register knows where.
 */
static bool operand_span(const struct test_case *t, const struct image *image,
			 const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op, bool all,
			 struct span *s)
{
	const uint64_t bytes = op->size / 8;
	uint64_t rest = 0;

	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
	    bytes == 0 || t->form->special == SP_BIT_REG)
		return false;
	s->first = operand_address(t, image, z, op);
	s->read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	s->written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	if (operand_pushes(op))
		s->first -= bytes;
	if (repeats(z)) {
		uint64_t mask = z->address_width == 32 ? UINT32_MAX : UINT64_MAX;
		uint64_t count = image->gpr[RCX] & mask;

		if (count == 0)
			return false;
		if (all)
			rest = (count < PAGE_BYTES ? count - 1 : PAGE_BYTES) * bytes;
		if (t->in.rflags & DF)
			s->first -= rest;
	}
	s->last = s->first + rest + bytes - 1;
	return true;
}

unsigned operand_spans(const struct test_case *t, const struct image *image, bool all,
		       struct span spans[SPANS_MAX])
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder decoder;
	unsigned count = 0;

	if (t->mode == 64)
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else
		ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, t->code, t->len, &z, operands)))
		return 0;
	for (unsigned n = 0; n < z.operand_count && count < SPANS_MAX; n++)
		count += operand_span(t, image, &z, &operands[n], all, &spans[count]);
	return count;
}

static bool canonical_address(uint64_t at)
{
	return (uint64_t)((int64_t)(at << 16) >> 16) == at;
}

/* Whether an access of the operand at this address is a #PF with this error code. */
static bool page_faults(const struct span *s, uint64_t at, uint32_t error)
{
	bool readable = at >= DATA_VA && at < READONLY_VA + PAGE_BYTES;
	bool writable = at >= DATA_VA && at < READONLY_VA;

	/* The code can be read, and natively written. */
	if (at < s->first || at > s->last || (at >= CODE_VA && at < CODE_VA + CODE_BYTES))
		return false;
	if (error & PF_WRITE ? writable || !s->written : readable || !s->read)
		return false;
	return (error & ~PF_WRITE) == (readable ? PF_PRESENT | PF_USER : PF_USER);
}

static bool fault_possible(const struct span *spans, unsigned count, const struct outcome *out)
{
	for (unsigned n = 0; n < count; n++) {
		bool outside =
			!canonical_address(spans[n].first) || !canonical_address(spans[n].last);

		if (out->vector == 14 ? page_faults(&spans[n], out->cr2, out->error)
				      : (out->vector == 12 || out->vector == 13) && outside)
			return out->vector == 14 || out->error == 0;
	}
	return false;
}

bool fault_order_free(const struct test_case *t, const struct outcome *native,
		      const struct outcome *soft)
{
	struct span spans[SPANS_MAX];
	unsigned count = operand_spans(t, &native->image, false, spans);

	/* What one operand's access to one place faults with is no matter of order. */
	if (count < 2 && native->vector == soft->vector && native->cr2 == soft->cr2)
		return false;
	return fault_possible(spans, count, native) && fault_possible(spans, count, soft);
}
