/* SPDX-License-Identifier: Apache-2.0 */
/* What single forms need: counts, divisors, stack frames, images in memory, undefined flags. */
#include "tests/unit/softnative/softnative.h"

#include <string.h>

#define TF    0x100u
#define AC    0x40000u
#define RF_VM 0x30000u

static bool count_in_cl(const struct form *f)
{
	return f->imm == IMM_NONE && f->opcode != 0xd0 && f->opcode != 0xd1;
}

/* A double shift by more than the operand's size is undefined altogether. */
static void shift_two_before(struct generator *g)
{
	g->imm = rng_below(&g->rng, 256);
	if (g->t->opsize == 2)
		g->imm = rng_below(&g->rng, 17) | (g->imm & 0xe0);
	g->reserved |= 1u << RCX;
}

void special_before(struct generator *g)
{
	switch (g->form->special) {
	case SP_SHIFT_TWO:
		shift_two_before(g);
		break;
	case SP_SHIFT:
	case SP_ROTATE:
		g->imm = rng_below(&g->rng, 3) ? rng_below(&g->rng, 70) : rng_next(&g->rng);
		break;
	case SP_BIT_REG:
		g->reserved |= (uint16_t)(1u << g->reg);
		break;
	case SP_DIV:
	case SP_IDIV:
		g->reserved |= 1u << RAX | 1u << RDX;
		break;
	case SP_CMPXCHG:
		g->reserved |= 1u << RAX;
		break;
	case SP_CMPXCHG_PAIR:
		g->reserved |= 1u << RAX | 1u << RDX | 1u << RCX | 1u << RBX;
		break;
	case SP_COMPARE:
		g->reserved |= 1u << RAX | 1u << RDX;
		break;
	case SP_VEX_COUNT:
		g->reserved |= (uint16_t)(1u << g->vvvv);
		break;
	case SP_JUMP_IND:
		if (g->rm == RSP && !g->memory)
			g->rm = RAX;
		break;
	default:
		break;
	}
}

static uint64_t *gpr(struct generator *g, unsigned n)
{
	return &g->t->in.gpr[n];
}

static uint64_t data_random_address(struct generator *g)
{
	return DATA_VA + 0x400 + rng_below(&g->rng, DATA_BYTES - 0x800);
}

static void data_put(struct generator *g, uint64_t va, const void *src, size_t n)
{
	if (va >= DATA_VA && va + n <= DATA_VA + DATA_BYTES)
		memcpy(g->t->data + (va - DATA_VA), src, n);
}

static void data_put_int(struct generator *g, uint64_t va, uint64_t value, unsigned n)
{
	data_put(g, va, &value, n);
}

static void blank(struct generator *g, unsigned offset, unsigned bytes)
{
	uint64_t va = g->t->target + offset;

	if (va >= DATA_VA && va < DATA_VA + DATA_BYTES)
		g->t->blank[g->t->blanks++] = (struct blank){(uint32_t)(va - DATA_VA), bytes};
}

static unsigned shift_count(const struct generator *g)
{
	unsigned count = (unsigned)g->imm & 0xff;

	if (g->form->opcode == 0xd0 || g->form->opcode == 0xd1)
		count = 1;
	else if (count_in_cl(g->form))
		count = (unsigned)g->t->in.gpr[RCX] & 0xff;
	return count & (g->t->opsize == 8 ? 0x3f : 0x1f);
}

/* SDM 2B, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD. */
static void shift_undefined(struct generator *g)
{
	unsigned count = shift_count(g), bits = g->t->opsize * 8;
	bool rotate = g->form->special == SP_ROTATE;

	if (count != 1 && count)
		g->t->undefined |= OF;
	if (!rotate && count)
		g->t->undefined |= AF;
	if (!rotate && count >= bits)
		g->t->undefined |= CF;
}

static void shift_two_after(struct generator *g)
{
	if (count_in_cl(g->form))
		*gpr(g, RCX) = (*gpr(g, RCX) & ~UINT64_C(0xff)) | g->imm;
	shift_undefined(g);
}

/* The bit lies within 256 bytes of the operand; bits above the operand size are ignored. */
static void bit_after(struct generator *g)
{
	uint64_t offset = (uint64_t)(int64_t)((int)rng_below(&g->rng, 4096) - 2048);

	if (!g->memory)
		return;
	if (g->t->opsize == 2)
		offset = (offset & 0xffff) | rng_next(&g->rng) << 16;
	else if (g->t->opsize == 4)
		offset = (uint32_t)offset | rng_next(&g->rng) << 32;
	*gpr(g, g->reg) = offset;
}

/* Half of the dividends fit, so that not nearly all divisions overflow. */
static void div_after(struct generator *g)
{
	bool is_signed = g->form->special == SP_IDIV;
	uint64_t low = value_int(&g->rng), high = value_int(&g->rng);

	if (rng_below(&g->rng, 4)) {
		high = is_signed && low >> (g->t->opsize * 8 - 1) & 1 ? UINT64_MAX : 0;
		if (!rng_below(&g->rng, 3))
			high ^= rng_below(&g->rng, 16);
	}
	if (g->t->opsize == 1) {
		*gpr(g, RAX) = (low & 0xff) | (high & 0xff) << 8;
		return;
	}
	*gpr(g, RAX) = low;
	*gpr(g, RDX) = high;
}

static void cmpxchg_after(struct generator *g)
{
	if (rng_below(&g->rng, 2))
		return;
	if (g->memory)
		data_put_int(g, g->t->target, *gpr(g, RAX), g->t->opsize);
	else if (g->rm != RSP)
		*gpr(g, g->rm) = *gpr(g, RAX);
}

static void cmpxchg_pair_after(struct generator *g)
{
	unsigned half = g->wide ? 8 : 4;

	if (rng_below(&g->rng, 2))
		return;
	data_put_int(g, g->t->target, *gpr(g, RAX), half);
	data_put_int(g, g->t->target + half, *gpr(g, RDX), half);
}

static uint64_t jump_target(struct generator *g)
{
	switch (rng_below(&g->rng, 16)) {
	case 0:
		return UINT64_C(0x0000800000000000) + rng_below(&g->rng, 4096);
	case 1:
		return DATA_VA + rng_below(&g->rng, DATA_BYTES); /* not executable */
	default:
		return trap_random(g);
	}
}

static void jump_after(struct generator *g)
{
	uint64_t target = jump_target(g), rsp = *gpr(g, RSP);
	bool room = rsp >= DATA_VA + 64 && rsp < DATA_VA + DATA_BYTES - 64;

	/* If the push faults as well, vendors differ in which goes first. */
	if ((g->form->flags & F_STACK) && !room)
		target = trap_random(g);
	if (g->memory)
		data_put_int(g, g->t->target, target, 8);
	else
		*gpr(g, g->rm) = target;
}

/* From compatibility mode a far branch may also go to 64-bit mode. */
static uint64_t code_selector(struct generator *g, bool valid)
{
	if (!valid)
		return 0;
	return g->t->mode == 32 && rng_below(&g->rng, 8) ? USER_CS_32 : USER_CS;
}

/* The offset is 32 bits wide here: m16:64 exists on Intel's processors only. */
static void jump_far_after(struct generator *g)
{
	data_put_int(g, g->t->target, trap_random(g), 4);
	data_put_int(g, g->t->target + 4, code_selector(g, rng_below(&g->rng, 8)), 2);
}

/* A frame of items of the operand size at RSP. */
static void frame_put(struct generator *g, const uint64_t *items, unsigned n)
{
	uint64_t rsp = data_random_address(g);

	*gpr(g, RSP) = rsp;
	for (unsigned k = 0; k < n; k++)
		data_put_int(g, rsp + (uint64_t)k * g->t->opsize, items[k], g->t->opsize);
}

static void ret_after(struct generator *g)
{
	/* With an immediate AMD's processors look beyond the frame before they check CS. */
	bool null_cs = g->form->imm == IMM_NONE && !rng_below(&g->rng, 8);
	uint64_t items[2] = {jump_target(g), code_selector(g, !null_cs)};

	if (g->form->special == SP_RETF)
		items[0] = trap_random(g);
	frame_put(g, items, g->form->special == SP_RETF ? 2 : 1);
}

/* Flags that software may load without a trap or an alignment check behind it. */
static uint64_t flags_loadable(struct generator *g)
{
	return (rng_next(&g->rng) & 0x3fffffu & ~(uint64_t)(TF | AC | RF_VM)) | 2;
}

static void iret_after(struct generator *g)
{
	uint64_t items[5] = {trap_random(g), code_selector(g, rng_below(&g->rng, 12)),
			     flags_loadable(g), value_int(&g->rng), USER_SS};

	frame_put(g, items, 5);
}

static void popf_after(struct generator *g)
{
	uint64_t items[1] = {flags_loadable(g)};

	frame_put(g, items, 1);
}

static void string_count(struct generator *g)
{
	uint64_t count = rng_below(&g->rng, 40);

	if (!rng_below(&g->rng, 6))
		count = rng_below(&g->rng, 3000);
	if (!rng_below(&g->rng, 24))
		count = value_int(&g->rng);
	*gpr(g, RCX) = g->ad32 ? (uint32_t)count | rng_next(&g->rng) << 32 : count;
}

/* Both operands anywhere in the data; equal runs for the comparisons. */
static void string_after(struct generator *g)
{
	uint64_t garbage = g->ad32 ? rng_next(&g->rng) << 32 : 0;
	uint64_t rsi = target_random(&g->rng, rng_below(&g->rng, 2));
	uint64_t rdi = target_random(&g->rng, rng_below(&g->rng, 2));
	unsigned run = rng_below(&g->rng, 256);

	if (!rng_below(&g->rng, 4)) /* overlapping */
		rdi = rsi + rng_below(&g->rng, 32) - 16u;
	*gpr(g, RSI) = rsi | garbage;
	*gpr(g, RDI) = rdi | garbage;
	if (g->rep)
		string_count(g);
	if (g->form->special != SP_REPEAT || rng_below(&g->rng, 3) == 0)
		return;
	for (unsigned n = 0; n < run; n++) {
		uint8_t byte = (uint8_t)*gpr(g, RAX);

		data_put(g, rsi + n - run / 2, &byte, 1);
		data_put(g, rdi + n - run / 2, &byte, 1);
	}
}

static void xlat_after(struct generator *g)
{
	g->t->target = target_random(&g->rng, false);
	*gpr(g, RBX) = g->t->target - (*gpr(g, RAX) & 0xff);
	if (g->ad32)
		*gpr(g, RBX) = (uint32_t)*gpr(g, RBX) | rng_next(&g->rng) << 32;
}

/* Null selectors, the user's data segment; SS must be the latter. */
static void sreg_after(struct generator *g)
{
	uint64_t selector = rng_below(&g->rng, 2) ? USER_SS : rng_below(&g->rng, 4);

	*gpr(g, g->rm) = selector | (*gpr(g, g->rm) & ~UINT64_C(0xffff));
}

/* Within the writable pages: whether bytes that are masked out fault is up to the processor. */
static void maskmov_after(struct generator *g)
{
	g->t->target = data_random_address(g);
	*gpr(g, RDI) = g->t->target | (g->ad32 ? rng_next(&g->rng) << 32 : 0);
}

/* FOP and the pointers, the mask, and what is reserved or left to software. */
static void fxsave_after(struct generator *g)
{
	blank(g, 5, 19);
	blank(g, 28, 4);
	blank(g, 416, 96);
	g->t->wide = true;
}

static void fxrstor_after(struct generator *g)
{
	uint8_t fx[512];
	uint32_t mxcsr = (uint32_t)rng_next(&g->rng);

	g->t->wide = true;
	fx_random(&g->rng, fx);
	if (!rng_below(&g->rng, 8))
		memcpy(fx + FX_MXCSR, &mxcsr, 4);
	data_put(g, g->t->target, fx, sizeof(fx));
}

static void ldmxcsr_after(struct generator *g)
{
	uint32_t mxcsr = rng_below(&g->rng, 8) ? value_mxcsr(&g->rng) : (uint32_t)rng_next(&g->rng);

	data_put(g, g->t->target, &mxcsr, 4);
}

/* The pointers are not compared. */
static void fnstenv_after(struct generator *g)
{
	if (g->t->opsize == 2)
		blank(g, 6, 8);
	else
		blank(g, 12, 16);
	g->t->wide = true;
}

static void fldenv_after(struct generator *g)
{
	unsigned step = g->t->opsize == 2 ? 2 : 4, at = 7 * step;
	uint16_t cw = value_cw(&g->rng), sw = (uint16_t)rng_next(&g->rng);
	uint16_t tag = (uint16_t)rng_next(&g->rng);

	g->t->wide = true;
	if (rng_below(&g->rng, 4))
		sw &= (uint16_t)~(~cw & 0x3f);
	data_put(g, g->t->target, &cw, 2);
	data_put(g, g->t->target + step, &sw, 2);
	data_put(g, g->t->target + 2 * step, &tag, 2);
	for (unsigned n = 0; n < 8 && g->form->special == SP_FRSTOR; n++) {
		uint8_t f80[10];

		value_f80(&g->rng, f80);
		data_put(g, g->t->target + at + 10 * n, f80, 10);
	}
}

static void load80_after(struct generator *g)
{
	uint8_t v[10];

	if (g->form->special == SP_LOADBCD)
		value_bcd(&g->rng, v);
	else
		value_f80(&g->rng, v);
	if (rng_below(&g->rng, 4))
		data_put(g, g->t->target, v, 10);
}

/* The index within its bounds, mostly. */
static void bound_after(struct generator *g)
{
	uint64_t low = value_int(&g->rng), high = low + rng_below(&g->rng, 256);

	data_put_int(g, g->t->target, low, g->t->opsize);
	data_put_int(g, g->t->target + g->t->opsize, high, g->t->opsize);
	if (!((g->reserved >> g->reg) & 1) && rng_below(&g->rng, 2))
		*gpr(g, g->reg) = low + rng_below(&g->rng, 16);
}

static uint64_t data_selector(struct generator *g)
{
	return rng_below(&g->rng, 2) ? USER_SS : rng_below(&g->rng, 4);
}

/* Of a slot of 32 bits Intel's processors write the lower half alone (SDM 2B, PUSH). */
static void push_sreg_after(struct generator *g)
{
	uint64_t rsp = data_random_address(g);

	*gpr(g, RSP) = rsp;
	g->t->target = rsp - 2;
	if (g->t->opsize == 4)
		blank(g, 0, 2);
}

static void pop_sreg_after(struct generator *g)
{
	uint64_t items[1] = {data_selector(g)};

	frame_put(g, items, 1);
}

/* Within the data: a host that faults has loaded some of the registers. */
static void popa_after(struct generator *g)
{
	uint64_t items[8];

	for (unsigned n = 0; n < 8; n++)
		items[n] = value_int(&g->rng);
	frame_put(g, items, 8);
}

static void load_far_after(struct generator *g)
{
	data_put_int(g, g->t->target, value_int(&g->rng), g->t->opsize);
	data_put_int(g, g->t->target + g->t->opsize, data_selector(g), 2);
}

/* Strings of few characters with ends, so that something is equal; lengths that fit, mostly. */
static void compare_after(struct generator *g)
{
	uint8_t text[2][16];

	for (unsigned n = 0; n < 32; n++)
		text[n / 16][n % 16] =
			rng_below(&g->rng, 16) ? "aabbcz\x80\xff"[rng_below(&g->rng, 8)] : 0;
	if (rng_below(&g->rng, 4))
		memcpy(g->t->in.fx + FX_XMM + (size_t)16 * g->reg, text[0], 16);
	if (g->memory)
		data_put(g, g->t->target, text[1], 16);
	else if (rng_below(&g->rng, 4))
		memcpy(g->t->in.fx + FX_XMM + (size_t)16 * g->rm, text[1], 16);
	for (unsigned n = RAX; n <= RDX; n += RDX - RAX)
		if (rng_below(&g->rng, 4))
			*gpr(g, n) = (uint64_t)(int64_t)((int)rng_below(&g->rng, 40) - 20);
}

/* BEXTR has two bytes of them. */
static void vex_count_after(struct generator *g)
{
	if (rng_below(&g->rng, 4) && (g->memory || g->vvvv != g->rm))
		*gpr(g, g->vvvv) = rng_below(&g->rng, 70) | rng_below(&g->rng, 70) << 8 |
				   rng_next(&g->rng) << 16;
}

/* Small indexes, so that all elements lie in the data: which others are read before a fault is the processor's choice. */
static void gather_after(struct generator *g)
{
	const unsigned bytes = g->form->opcode & 1 ? 8 : 4;

	for (unsigned n = 0; n < 32; n += bytes) {
		int64_t index = (int64_t)rng_below(&g->rng, 32) - 8;
		uint8_t *low = g->t->in.fx + FX_XMM + (size_t)16 * g->vector_index;

		memcpy(n < 16 ? low + n : g->t->in.ymm[g->vector_index] + n - 16, &index, bytes);
	}
}

void special_after(struct generator *g)
{
	static void (*const after[])(struct generator *) = {
		[SP_SHIFT] = shift_undefined,
		[SP_ROTATE] = shift_undefined,
		[SP_SHIFT_TWO] = shift_two_after,
		[SP_BIT_REG] = bit_after,
		[SP_DIV] = div_after,
		[SP_IDIV] = div_after,
		[SP_CMPXCHG] = cmpxchg_after,
		[SP_CMPXCHG_PAIR] = cmpxchg_pair_after,
		[SP_JUMP_IND] = jump_after,
		[SP_JUMP_FAR] = jump_far_after,
		[SP_RET] = ret_after,
		[SP_RETF] = ret_after,
		[SP_IRET] = iret_after,
		[SP_POPF] = popf_after,
		[SP_STRING] = string_after,
		[SP_REPEAT] = string_after,
		[SP_XLAT] = xlat_after,
		[SP_SREG_LOAD] = sreg_after,
		[SP_MASKMOV] = maskmov_after,
		[SP_FXSAVE] = fxsave_after,
		[SP_FXRSTOR] = fxrstor_after,
		[SP_LDMXCSR] = ldmxcsr_after,
		[SP_FNSTENV] = fnstenv_after,
		[SP_FNSAVE] = fnstenv_after,
		[SP_FLDENV] = fldenv_after,
		[SP_FRSTOR] = fldenv_after,
		[SP_LOAD80] = load80_after,
		[SP_LOADBCD] = load80_after,
		[SP_BOUND] = bound_after,
		[SP_POPA] = popa_after,
		[SP_PUSH_SREG] = push_sreg_after,
		[SP_POP_SREG] = pop_sreg_after,
		[SP_LOAD_FAR] = load_far_after,
		[SP_COMPARE] = compare_after,
		[SP_VEX_COUNT] = vex_count_after,
		[SP_GATHER] = gather_after,
	};

	if (g->form->special == SP_FRAME)
		*gpr(g, RBP) = data_random_address(g);
	else if (g->form->special < sizeof(after) / sizeof(after[0]) && after[g->form->special])
		after[g->form->special](g);
}
