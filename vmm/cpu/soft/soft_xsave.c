/* SPDX-License-Identifier: Apache-2.0 */
/* XSAVE, XSAVEOPT, XRSTOR, XGETBV, XSETBV (SDM 1, chapter 13): the standard form, for x87, SSE and AVX. */
#include "vmm/cpu/soft/soft_fp.h"
#include "vmm/cpu/soft/soft_system.h"

#define XCR0_X87 1u
#define XCR0_SSE 2u
#define XCR0_AVX 4u

/* The image: as FXSAVE's, a header, the upper halves of YMM (CPUID leaf 0xd tells). */
#define IMAGE_X87_END  24
#define IMAGE_MXCSR    24
#define IMAGE_ST       32
#define IMAGE_XMM      160
#define IMAGE_HEADER   512
#define IMAGE_AVX      576
#define IMAGE_BYTES    832
#define HEADER_NEEDED  24 /* XSTATE_BV, XCOMP_BV, and eight bytes that must be zero */
#define FX_POINTERS_AT 8

bool soft_xcr0_valid(const struct soft_cpu *c, uint64_t value)
{
	uint64_t valid = XCR0_X87;

	if (c->features & CPU_BIT(CPU_XSAVE))
		valid |= XCR0_SSE;
	if (c->features & CPU_BIT(CPU_AVX))
		valid |= XCR0_AVX;
	return (value & XCR0_X87) && !(value & ~valid) &&
	       (!(value & XCR0_AVX) || (value & XCR0_SSE));
}

static void require_osxsave(struct soft_cpu *c, const struct insn *i)
{
	if (!(c->cr4 & CR4_OSXSAVE))
		soft_raise(c, i, VEC_UD);
}

static const struct insn *op_xgetbv(struct soft_cpu *c, const struct insn *i)
{
	require_osxsave(c, i);
	if ((uint32_t)c->reg[RCX])
		soft_raise_error(c, i, VEC_GP, 0);
	c->reg[RAX] = (uint32_t)c->xcr0;
	c->reg[RDX] = c->xcr0 >> 32;
	return SOFT_NEXT(c, i);
}

static const struct insn *op_xsetbv(struct soft_cpu *c, const struct insn *i)
{
	uint64_t value = c->reg[RDX] << 32 | (uint32_t)c->reg[RAX];

	require_osxsave(c, i);
	soft_require_cpl0(c, i);
	if ((uint32_t)c->reg[RCX] || !soft_xcr0_valid(c, value))
		soft_raise_error(c, i, VEC_GP, 0);
	c->xcr0 = value;
	return SOFT_NEXT(c, i);
}

/* ---- The image ------------------------------------------------------------------------------- */

/* Outside of 64-bit mode there are eight registers. */
static unsigned registers(const struct soft_cpu *c)
{
	return c->mode == 64 ? 16 : 8;
}

/* The parts that the instruction asks for and the system has enabled. */
static uint64_t parts_asked(const struct soft_cpu *c)
{
	return (c->reg[RDX] << 32 | (uint32_t)c->reg[RAX]) & c->xcr0;
}

static uint64_t image_ea(struct soft_cpu *c, const struct insn *i, unsigned bytes)
{
	uint64_t linear;

	require_osxsave(c, i);
	if (c->cr0 & CR0_TS)
		soft_raise(c, i, VEC_NM);
	linear = soft_ea(c, i);
	soft_check_canonical(c, i, linear, bytes);
	if (linear & 63)
		soft_raise_error(c, i, VEC_GP, 0);
	return linear;
}

/* x87 and SSE count as in use always, which the SDM allows. */
static uint64_t parts_in_use(const struct soft_cpu *c)
{
	uint64_t any = 0;

	for (unsigned n = 0; n < 16; n++)
		any |= c->ymm_high[n].u64[0] | c->ymm_high[n].u64[1];
	return XCR0_X87 | XCR0_SSE | (any ? XCR0_AVX : 0);
}

/* Without REX.W the pointers are 32 bits and a selector. */
static void pointers_narrow(uint8_t *image)
{
	memset(image + FX_POINTERS_AT + 4, 0, 4);
	memset(image + FX_POINTERS_AT + 12, 0, 4);
}

static __attribute__((noinline)) void xsave_run(struct soft_cpu *c, const struct insn *i,
						bool optimise)
{
	const uint64_t asked = parts_asked(c), in_use = parts_in_use(c);
	const uint64_t written = optimise ? asked & in_use : asked;
	const unsigned bytes = asked & XCR0_AVX ? IMAGE_BYTES : IMAGE_AVX;
	uint64_t linear = image_ea(c, i, bytes), there;
	uint8_t image[512];

	soft_probe(c, i, linear, bytes, true);
	soft_fp_save(c, image);
	if (i->opsize != 8)
		pointers_narrow(image);
	there = soft_load64(c, i, linear + IMAGE_HEADER);
	if (written & XCR0_X87) {
		soft_store_bytes(c, i, linear, image, IMAGE_X87_END);
		soft_store_bytes(c, i, linear + IMAGE_ST, image + IMAGE_ST, IMAGE_XMM - IMAGE_ST);
	}
	if (written & (XCR0_SSE | XCR0_AVX))
		soft_store64(c, i, linear + IMAGE_MXCSR, *(const uint64_t *)(image + IMAGE_MXCSR));
	if (written & XCR0_SSE)
		soft_store_bytes(c, i, linear + IMAGE_XMM, image + IMAGE_XMM, 16 * registers(c));
	if (written & XCR0_AVX)
		soft_store_bytes(c, i, linear + IMAGE_AVX, c->ymm_high, 16 * registers(c));
	soft_store64(c, i, linear + IMAGE_HEADER, (there & ~asked) | (asked & in_use));
}

static const struct insn *op_xsave(struct soft_cpu *c, const struct insn *i)
{
	xsave_run(c, i, false);
	return SOFT_NEXT(c, i);
}

static const struct insn *op_xsaveopt(struct soft_cpu *c, const struct insn *i)
{
	xsave_run(c, i, true);
	return SOFT_NEXT(c, i);
}

/* A header of the standard form, with parts that are enabled. */
static bool header_valid(const struct soft_cpu *c, const uint8_t *header)
{
	uint64_t words[HEADER_NEEDED / 8];

	memcpy(words, header, sizeof(words));
	return !(words[0] & ~c->xcr0) && !words[1] && !words[2];
}

/* What soft_fp_restore would take: this CPU's own registers, replaced part by part. */
static __attribute__((noinline)) void xrstor_run(struct soft_cpu *c, const struct insn *i)
{
	const uint64_t asked = parts_asked(c);
	uint64_t linear = image_ea(c, i, IMAGE_AVX), there;
	uint8_t image[IMAGE_BYTES], now[512];
	uint32_t mxcsr;

	soft_load_bytes(c, i, linear, image, IMAGE_AVX);
	memcpy(&there, image + IMAGE_HEADER, sizeof(there));
	memcpy(&mxcsr, image + IMAGE_MXCSR, sizeof(mxcsr));
	if (!header_valid(c, image + IMAGE_HEADER) ||
	    ((asked & (XCR0_SSE | XCR0_AVX)) && (mxcsr & MXCSR_RESERVED)))
		soft_raise_error(c, i, VEC_GP, 0);
	if (asked & there & XCR0_AVX)
		soft_load_bytes(c, i, linear + IMAGE_AVX, image + IMAGE_AVX, 256);
	if (i->opsize != 8)
		pointers_narrow(image);
	soft_fp_save(c, now);
	if (asked & XCR0_X87) {
		if (!(there & XCR0_X87)) { /* FNINIT's state, registers zero */
			memset(image, 0, IMAGE_X87_END);
			memset(image + IMAGE_ST, 0, IMAGE_XMM - IMAGE_ST);
			image[0] = 0x7f, image[1] = 0x03;
		}
		memcpy(now, image, IMAGE_X87_END);
		memcpy(now + IMAGE_ST, image + IMAGE_ST, IMAGE_XMM - IMAGE_ST);
	}
	if (asked & (XCR0_SSE | XCR0_AVX))
		memcpy(now + IMAGE_MXCSR, &mxcsr, sizeof(mxcsr));
	for (unsigned n = 0; n < registers(c) && (asked & XCR0_SSE); n++)
		if (there & XCR0_SSE)
			memcpy(now + IMAGE_XMM + 16 * n, image + IMAGE_XMM + 16 * n, 16);
		else
			memset(now + IMAGE_XMM + 16 * n, 0, 16);
	(void)soft_fp_restore(c, now);
	for (unsigned n = 0; n < registers(c) && (asked & XCR0_AVX); n++)
		if (there & XCR0_AVX)
			memcpy(&c->ymm_high[n], image + IMAGE_AVX + 16 * n, 16);
		else
			memset(&c->ymm_high[n], 0, 16);
}

static const struct insn *op_xrstor(struct soft_cpu *c, const struct insn *i)
{
	xrstor_run(c, i);
	return SOFT_NEXT(c, i);
}

/* ---- Selection ------------------------------------------------------------------------------- */

insn_fn soft_select_xcr(const struct soft_decode *d)
{
	if (!soft_decode_has(d, CPU_XSAVE) || d->prefix_rep || d->prefix_66)
		return NULL;
	return d->rm3 == 0 ? op_xgetbv : d->rm3 == 1 ? op_xsetbv : NULL;
}

insn_fn soft_select_xsave(const struct soft_decode *d)
{
	static const insn_fn fns[8] = {[4] = op_xsave, [5] = op_xrstor, [6] = op_xsaveopt};

	return d->mod == 3 || !soft_decode_has(d, CPU_XSAVE) ? NULL : fns[d->reg3];
}
