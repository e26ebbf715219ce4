/* SPDX-License-Identifier: Apache-2.0 */
/* SSE2's packed integer operations. */
#include "vmm/cpu/soft/soft_fp.h"
#include "vmm/cpu/soft/soft_fp_packed.h"

#define SSE_PACKED(name, expr)                                                                     \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg);                              \
		xmm_set(c, i->reg, expr);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}

#define X(opcode, name, expr) SSE_PACKED(name, expr)
PACKED_LANES(X)
PACKED_COUNTED(X)
#undef X
#define X(opcode, name, op) SSE_PACKED(name, op(a, b))
PACKED_UNPACK_LOW(X)
PACKED_PACK(X)
#undef X
#define X(opcode, name, op, low) SSE_PACKED(name, op(a, b))
PACKED_UNPACK_HIGH(X)
#undef X
SSE_PACKED(punpcklqdq, _mm_unpacklo_epi64(a, b))
SSE_PACKED(punpckhqdq, _mm_unpackhi_epi64(a, b))

/* 71, 72, 73: the register is modrm.rm, the count an immediate. */
#define X(opcode, digit, name, expr)                                                               \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		fp_check_sse(c, i);                                                                \
		__m128i a = xmm_get(c, i->rm), b = _mm_cvtsi32_si128((uint8_t)i->imm);             \
		xmm_set(c, i->rm, expr);                                                           \
		return SOFT_NEXT(c, i);                                                            \
	}
PACKED_SHIFTS(X)
#undef X

/* Shifts the whole register by bytes; a count over 15 leaves zero. */
static fp_next sse_psrldq(struct soft_cpu *c, const struct insn *i)
{
	unsigned count = (uint8_t)i->imm < 16 ? (uint8_t)i->imm : 16;
	union soft_xmm out = {{0}};

	fp_check_sse(c, i);
	for (unsigned n = count; n < 16; n++)
		out.u8[n - count] = c->xmm[i->rm].u8[n];
	c->xmm[i->rm] = out;
	return SOFT_NEXT(c, i);
}

static fp_next sse_pslldq(struct soft_cpu *c, const struct insn *i)
{
	unsigned count = (uint8_t)i->imm < 16 ? (uint8_t)i->imm : 16;
	union soft_xmm out = {{0}};

	fp_check_sse(c, i);
	for (unsigned n = count; n < 16; n++)
		out.u8[n] = c->xmm[i->rm].u8[n - count];
	c->xmm[i->rm] = out;
	return SOFT_NEXT(c, i);
}

static const insn_fn packed_table[256] = {
#define X(opcode, name, ...) [opcode] = sse_##name,
	PACKED_LANES(X) PACKED_COUNTED(X) PACKED_UNPACK_LOW(X) PACKED_PACK(X) PACKED_UNPACK_HIGH(X)
#undef X
		[0x6c] = sse_punpcklqdq,
	[0x6d] = sse_punpckhqdq,
};

static const insn_fn shift_table[3][8] = {
#define X(opcode, digit, name, expr) [opcode - 0x71][digit] = sse_##name,
	PACKED_SHIFTS(X)
#undef X
		[2][3] = sse_psrldq,
	[2][7] = sse_pslldq,
};

bool fp_select_packed(struct soft_decode *d)
{
	insn_fn fn = packed_table[d->opcode];

	if (fp_prefix_of(d) != FP_66)
		return false;
	if (d->opcode >= 0x71 && d->opcode <= 0x73)
		fn = d->mod == 3 ? shift_table[d->opcode - 0x71][d->reg3] : NULL;
	if (!fn)
		return false;
	d->out->fn = fn;
	return true;
}
