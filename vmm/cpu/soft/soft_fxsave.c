/* SPDX-License-Identifier: Apache-2.0 */
/* The 0F AE group: FXSAVE and FXRSTOR, MXCSR, fences, CLFLUSH; and the saved image itself. */
#include "vmm/cpu/soft/soft_fp.h"

#include <errno.h>

/* Offsets in the image (SDM 1, table 10-2). */
#define FX_CW	      0
#define FX_SW	      2
#define FX_TAG	      4
#define FX_OP	      6
#define FX_IP	      8
#define FX_DP	      16
#define FX_MXCSR      24
#define FX_MXCSR_MASK 28
#define FX_ST	      32
#define FX_XMM	      160
#define FX_END	      416 /* the rest is left alone */

static uint8_t tag_abridge(uint16_t tag)
{
	uint8_t valid = 0;

	for (unsigned n = 0; n < 8; n++)
		if ((tag >> (2 * n) & 3) != 3)
			valid |= (uint8_t)(1u << n);
	return valid;
}

static uint16_t tag_expand(uint8_t valid)
{
	uint16_t tag = 0;

	for (unsigned n = 0; n < 8; n++)
		if (!(valid >> n & 1))
			tag |= (uint16_t)(3u << (2 * n));
	return tag;
}

void soft_fp_save(const struct soft_cpu *c, uint8_t image[512])
{
	uint16_t sw = x87_status(c);
	uint32_t mxcsr_mask = ~MXCSR_RESERVED;

	memset(image, 0, 512);
	memcpy(image + FX_CW, &c->x87.cw, 2);
	memcpy(image + FX_SW, &sw, 2);
	image[FX_TAG] = tag_abridge(c->x87.tag);
	memcpy(image + FX_OP, &c->x87.fop, 2);
	memcpy(image + FX_IP, &c->x87.fip, 8);
	memcpy(image + FX_DP, &c->x87.fdp, 8);
	memcpy(image + FX_MXCSR, &c->mxcsr, 4);
	memcpy(image + FX_MXCSR_MASK, &mxcsr_mask, 4);
	for (unsigned n = 0; n < 8; n++)
		memcpy(image + FX_ST + 16 * n, &c->x87.st[(c->x87.top + n) & 7], 10);
	memcpy(image + FX_XMM, c->xmm, sizeof(c->xmm));
}

/* The x87 and XMM registers of an image whose MXCSR is valid. */
static void image_take(struct soft_cpu *c, const uint8_t *image, unsigned xmm_count)
{
	uint16_t cw, sw;

	memcpy(&cw, image + FX_CW, 2);
	memcpy(&sw, image + FX_SW, 2);
	x87_control_set(c, cw);
	x87_status_set(c, sw);
	c->x87.tag = tag_expand(image[FX_TAG]);
	memcpy(&c->x87.fop, image + FX_OP, 2);
	c->x87.fop &= 0x7ff;
	memcpy(&c->x87.fip, image + FX_IP, 8);
	memcpy(&c->x87.fdp, image + FX_DP, 8);
	for (unsigned n = 0; n < 8; n++)
		memcpy(x87_reg(c, c->x87.top + n), image + FX_ST + 16 * n, 10);
	memcpy(&c->mxcsr, image + FX_MXCSR, 4);
	memcpy(c->xmm, image + FX_XMM, 16 * xmm_count);
}

static bool image_valid(const uint8_t *image)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, image + FX_MXCSR, 4);
	return !(mxcsr & MXCSR_RESERVED);
}

int soft_fp_restore(struct soft_cpu *c, const uint8_t image[512])
{
	if (!image_valid(image))
		return -EINVAL;
	image_take(c, image, 16);
	return 0;
}

/* SDM 3A, table 10-1. */
void soft_fp_reset(struct soft_cpu *c)
{
	x87_init(c);
	c->x87.cw = 0x40;
	c->x87.tag = 0x5555;
	memset(c->x87.st, 0, sizeof(c->x87.st));
	memset(c->xmm, 0, sizeof(c->xmm));
	c->mxcsr = MXCSR_DEFAULT;
}

static void check_fxsave(struct soft_cpu *c, const struct insn *i)
{
	if (c->cr0 & FP_CR0_EM)
		soft_raise(c, i, VEC_UD);
	if (c->cr0 & FP_CR0_TS)
		soft_raise(c, i, VEC_NM);
}

/* Outside of 64-bit mode there are eight XMM registers. */
static unsigned xmm_count(const struct soft_cpu *c)
{
	return c->mode == 64 ? 16 : 8;
}

/* The whole image must be canonical, also the end of it that is left alone; here, unlike with SSE
 * operands, that goes before #GP(0) for a misaligned one, and so does #AC. */
static uint64_t image_ea(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_ea(c, i);

	soft_check_canonical(c, i, linear, 512);
	soft_check_aligned(c, i, linear, 512);
	if (linear & 15)
		soft_raise_error(c, i, VEC_GP, 0);
	return linear;
}

/* Without REX.W the pointers are 32 bits and a selector (0, deprecated). */
static __attribute__((noinline)) void fxsave_run(struct soft_cpu *c, const struct insn *i,
						 bool wide)
{
	uint64_t linear = image_ea(c, i);
	uint8_t image[512];

	soft_fp_save(c, image);
	if (!wide) {
		memset(image + FX_IP + 4, 0, 4);
		memset(image + FX_DP + 4, 0, 4);
	}
	soft_store_bytes(c, i, linear, image, FX_XMM + 16 * xmm_count(c));
}

static __attribute__((noinline)) void fxrstor_run(struct soft_cpu *c, const struct insn *i,
						  bool wide)
{
	uint64_t linear = image_ea(c, i);
	uint8_t image[512];

	soft_load_bytes(c, i, linear, image, 512);
	if (!image_valid(image))
		soft_raise_error(c, i, VEC_GP, 0);
	if (!wide) {
		memset(image + FX_IP + 4, 0, 4);
		memset(image + FX_DP + 4, 0, 4);
	}
	image_take(c, image, xmm_count(c));
}

static fp_next fp_fxsave(struct soft_cpu *c, const struct insn *i)
{
	check_fxsave(c, i);
	fxsave_run(c, i, false);
	return SOFT_NEXT(c, i);
}

static fp_next fp_fxsave64(struct soft_cpu *c, const struct insn *i)
{
	check_fxsave(c, i);
	fxsave_run(c, i, true);
	return SOFT_NEXT(c, i);
}

static fp_next fp_fxrstor(struct soft_cpu *c, const struct insn *i)
{
	check_fxsave(c, i);
	fxrstor_run(c, i, false);
	return SOFT_NEXT(c, i);
}

static fp_next fp_fxrstor64(struct soft_cpu *c, const struct insn *i)
{
	check_fxsave(c, i);
	fxrstor_run(c, i, true);
	return SOFT_NEXT(c, i);
}

static fp_next fp_ldmxcsr(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	uint32_t v = soft_load32(c, i, soft_ea(c, i));
	if (v & MXCSR_RESERVED)
		soft_raise_error(c, i, VEC_GP, 0);
	c->mxcsr = v;
	return SOFT_NEXT(c, i);
}

static fp_next fp_stmxcsr(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	soft_store32(c, i, soft_ea(c, i), c->mxcsr);
	return SOFT_NEXT(c, i);
}

/* Ordered against the host's memory: other vCPUs are other threads. */
static fp_next fp_fence(struct soft_cpu *c, const struct insn *i)
{
	(void)c;
	atomic_thread_fence(memory_order_seq_cst);
	return SOFT_NEXT(c, i);
}

/* Memory is coherent: only the checks of a load remain. */
static fp_next fp_clflush(struct soft_cpu *c, const struct insn *i)
{
	soft_probe(c, i, soft_ea(c, i), 1, false);
	return SOFT_NEXT(c, i);
}

/* The registers of 0F AE with F3 are no business of floating point. */
static bool select_prefixed(struct soft_decode *d)
{
	return fp_prefix_of(d) == FP_F3 && d->mod == 3 && soft_select_fsgsbase(d);
}

bool fp_select_state(struct soft_decode *d)
{
	static const insn_fn mem[8] = {fp_fxsave, fp_fxrstor, fp_ldmxcsr, fp_stmxcsr,
				       NULL,	  NULL,	      NULL,	  fp_clflush};
	static const insn_fn reg[8] = {[5] = fp_fence, [6] = fp_fence, [7] = fp_fence};
	insn_fn fn = d->mod == 3 ? reg[d->reg3] : mem[d->reg3];

	if (d->opcode != 0xae)
		return false;
	if (!fn && fp_prefix_of(d) == FP_NONE)
		fn = soft_select_xsave(d);
	if (fp_prefix_of(d) != FP_NONE || !fn)
		return select_prefixed(d);
	if (d->rex & 8 && fn == fp_fxsave)
		fn = fp_fxsave64;
	else if (d->rex & 8 && fn == fp_fxrstor)
		fn = fp_fxrstor64;
	d->out->fn = fn;
	return true;
}
