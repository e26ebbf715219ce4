/* SPDX-License-Identifier: Apache-2.0 */
/* MOVS, STOS, LODS, SCAS, CMPS, alone and repeated. */
#include <string.h>

#include "vmm/cpu/soft/soft_block.h"
#include "vmm/cpu/soft/soft_int.h"

/*
 * A repeated instruction updates its registers after each element or chunk, and looks for attention
 * there: it then leaves with rip still on itself (SDM 2B, REP: interrupts are taken between
 * iterations). A fault leaves registers as after the last whole element. The chunk functions are
 * not inlined: their locals' addresses would keep the handlers from ending in a sibling call.
 */

static inline uint64_t string_mask(const struct insn *i)
{
	return int_mask(i->adsize);
}

/* The source at seg:rSI, the destination at ES:rDI. */
static inline uint64_t string_source(struct soft_cpu *c, const struct insn *i)
{
	return soft_linear(c, i->seg, c->reg[RSI] & string_mask(i));
}

static inline uint64_t string_dest(struct soft_cpu *c, const struct insn *i)
{
	return soft_linear(c, SEG_ES, c->reg[RDI] & string_mask(i));
}

static inline bool string_repeated(const struct insn *i)
{
	return i->flags & (INSN_REP | INSN_REPNE);
}

static inline bool string_backward(const struct soft_cpu *c)
{
	return c->rflags & FLAG_DF;
}

/* Elements left to do; 1 without a prefix. */
static inline uint64_t string_count(const struct soft_cpu *c, const struct insn *i)
{
	return string_repeated(i) ? c->reg[RCX] & string_mask(i) : 1;
}

/* Moves an index register by n elements. */
static inline void string_step(struct soft_cpu *c, const struct insn *i, unsigned r, uint64_t n)
{
	const uint64_t bytes = n * i->opsize;

	reg_set(c, r, i->adsize, string_backward(c) ? c->reg[r] - bytes : c->reg[r] + bytes);
}

static inline void string_counted(struct soft_cpu *c, const struct insn *i, uint64_t n)
{
	if (string_repeated(i))
		reg_set(c, RCX, i->adsize, c->reg[RCX] - n);
}

/* Leaves in the middle: the instruction comes again, and is counted then. RF keeps it from meeting
 * an instruction breakpoint again (SDM 3B, 17.3.1.1). */
static const struct insn *string_interrupt(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t rip = soft_rip(c, i);

	block_uncount(c, i);
	c->rflags |= FLAG_RF;
	return SOFT_LEAVE(c, c->mode == 64 ? rip : soft_rip_wrap(c, rip));
}

/* May several elements be done at once? Not backward, and not when each is followed by a trap. */
static inline bool string_chunked(const struct soft_cpu *c, uint64_t count)
{
	return count > 1 && !string_backward(c) && !(c->leave & LEAVE_STEP);
}

/* Whole elements that fit into bytes, at most count. */
static inline uint64_t string_fit(const struct insn *i, unsigned bytes, uint64_t count)
{
	const uint64_t fit = bytes / i->opsize;

	return fit < count ? fit : count;
}

/* ---- MOVS
 * ------------------------------------------------------------------------------------------ */

/* As many elements as lie in one page of source and destination, by memmove; 0 if only element by
 * element is right: backward, MMIO, code, or a destination that overlaps the source from above
 * (there the copied bytes are read again: the fill idiom). */
static __attribute__((noinline)) uint64_t movs_chunk(struct soft_cpu *c, const struct insn *i,
						     uint64_t count)
{
	unsigned src_left, dst_left;
	uint64_t n;
	const uint8_t *src = soft_host_span(c, i, string_source(c, i), false, &src_left);
	uint8_t *dst;

	/* An element that straddles the page is loaded before the store may fault. */
	if (!src || src_left < i->opsize)
		return 0;
	dst = soft_host_span(c, i, string_dest(c, i), true, &dst_left);
	if (!dst)
		return 0;
	n = string_fit(i, src_left < dst_left ? src_left : dst_left, count);
	if (dst > src && dst < src + n * i->opsize)
		return 0;
	memmove(dst, src, n * i->opsize);
	return n;
}

static void movs_one(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t value = soft_load(c, i, string_source(c, i), i->opsize);

	soft_store(c, i, string_dest(c, i), i->opsize, value);
}

HANDLER(movs)
{
	for (uint64_t count = string_count(c, i), n; count; count -= n) {
		n = string_chunked(c, count) ? movs_chunk(c, i, count) : 0;
		if (n == 0) {
			movs_one(c, i);
			n = 1;
		}
		string_step(c, i, RSI, n);
		string_step(c, i, RDI, n);
		string_counted(c, i, n);
		if (count > n && block_interrupted(c))
			return string_interrupt(c, i);
	}
	return SOFT_NEXT(c, i);
}

/* ---- STOS
 * ------------------------------------------------------------------------------------------ */

/* Fills n elements of RAX. */
static void string_fill(struct soft_cpu *c, const struct insn *i, uint8_t *dst, uint64_t n)
{
	const uint64_t value = c->reg[RAX] & int_mask(i->opsize);
	const uint64_t byte = value & 0xff;

	if (value == (byte * 0x0101010101010101ull & int_mask(i->opsize))) {
		memset(dst, (int)byte, n * i->opsize);
		return;
	}
	for (uint64_t k = 0; k < n; k++, dst += i->opsize) {
		if (i->opsize == 8)
			soft_host_store64(dst, value);
		else if (i->opsize == 4)
			soft_host_store32(dst, (uint32_t)value);
		else
			soft_host_store16(dst, (uint16_t)value);
	}
}

static __attribute__((noinline)) uint64_t stos_chunk(struct soft_cpu *c, const struct insn *i,
						     uint64_t count)
{
	unsigned left;
	uint64_t n;
	uint8_t *dst = soft_host_span(c, i, string_dest(c, i), true, &left);

	if (!dst)
		return 0;
	n = string_fit(i, left, count);
	string_fill(c, i, dst, n);
	return n;
}

HANDLER(stos)
{
	for (uint64_t count = string_count(c, i), n; count; count -= n) {
		n = string_chunked(c, count) ? stos_chunk(c, i, count) : 0;
		if (n == 0) {
			soft_store(c, i, string_dest(c, i), i->opsize, c->reg[RAX]);
			n = 1;
		}
		string_step(c, i, RDI, n);
		string_counted(c, i, n);
		if (count > n && block_interrupted(c))
			return string_interrupt(c, i);
	}
	return SOFT_NEXT(c, i);
}

/* ---- LODS, SCAS, CMPS
 * -------------------------------------------------------------------------------- */

HANDLER(lods)
{
	for (uint64_t count = string_count(c, i); count; count--) {
		const uint64_t value = soft_load(c, i, string_source(c, i), i->opsize);

		reg_set(c, RAX, i->opsize, value);
		string_step(c, i, RSI, 1);
		string_counted(c, i, 1);
		if (count > 1 && block_interrupted(c))
			return string_interrupt(c, i);
	}
	return SOFT_NEXT(c, i);
}

/* REPE (F3) goes on while equal, REPNE (F2) while not. */
static inline bool string_goes_on(const struct soft_cpu *c, const struct insn *i)
{
	return soft_zf(c) == !(i->flags & INSN_REPNE);
}

HANDLER(scas)
{
	for (uint64_t count = string_count(c, i); count; count--) {
		const uint64_t value = soft_load(c, i, string_dest(c, i), i->opsize);

		int_flags_sub(c, c->reg[RAX], value, i->opsize);
		string_step(c, i, RDI, 1);
		string_counted(c, i, 1);
		if (!string_goes_on(c, i))
			break;
		if (count > 1 && block_interrupted(c))
			return string_interrupt(c, i);
	}
	return SOFT_NEXT(c, i);
}

HANDLER(cmps)
{
	for (uint64_t count = string_count(c, i); count; count--) {
		const uint64_t a = soft_load(c, i, string_source(c, i), i->opsize);
		const uint64_t b = soft_load(c, i, string_dest(c, i), i->opsize);

		int_flags_sub(c, a, b, i->opsize);
		string_step(c, i, RSI, 1);
		string_step(c, i, RDI, 1);
		string_counted(c, i, 1);
		if (!string_goes_on(c, i))
			break;
		if (count > 1 && block_interrupted(c))
			return string_interrupt(c, i);
	}
	return SOFT_NEXT(c, i);
}

bool soft_select_string(struct soft_decode *d)
{
	static const insn_fn fns[8] = {
		[0x4 >> 1] = movs, [0x6 >> 1] = cmps, [0xa >> 1] = stos,
		[0xc >> 1] = lods, [0xe >> 1] = scas,
	};

	d->out->fn = fns[d->opcode >> 1 & 7];
	return true;
}
