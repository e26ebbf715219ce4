/* SPDX-License-Identifier: Apache-2.0 */
/* x87 computing instructions: the host executes the very instruction on the guest's registers. */
#include <assert.h>

#include "vmm/cpu/soft/soft_fp.h"

/*
 * Registers, control word, tags and TOP are loaded with FRSTOR, the instruction runs with its
 * memory operand in a buffer, FNSAVE takes the result back and leaves the host's x87 initialised,
 * as C code expects it. An exception that the guest has unmasked only sets the host's status word:
 * FNSAVE clears it before any instruction could deliver it. So precision and rounding control,
 * stack faults, and the results left by unmasked exceptions are right by construction.
 */
struct x87_image { /* FSAVE, 32-bit protected mode (SDM 1, figure 8-9) */
	uint32_t cw, sw, tag, fip, fcs, fdp, fds;
	uint8_t st[8][10]; /* relative to TOP */
} __attribute__((packed));
static_assert(sizeof(struct x87_image) == 108, "the layout of FSAVE");

uint64_t soft_x87_native_run(struct x87_image *image, const uint8_t *stub, void *operand,
			     uint64_t rflags);
extern const uint8_t soft_x87_register_stubs[8][64][4];
extern const uint8_t soft_x87_memory_stubs[8][8][4];

/* One stub for each opcode and modrm: the instruction and RET; memory operands are (%rdx). */
__asm__(".text\n"
	".p2align 4\n"
	".globl soft_x87_native_run\n"
	".hidden soft_x87_native_run\n"
	".type soft_x87_native_run, @function\n"
	"soft_x87_native_run:\n"
	"	frstor (%rdi)\n"
	"	pushq %rcx\n"
	"	popfq\n"
	"	call *%rsi\n"
	"	pushfq\n"
	"	popq %rax\n"
	"	fnsave (%rdi)\n"
	"	ret\n"
	".size soft_x87_native_run, . - soft_x87_native_run\n"
	".p2align 4\n"
	".globl soft_x87_register_stubs\n"
	".hidden soft_x87_register_stubs\n"
	"soft_x87_register_stubs:\n"
	".set x87_opcode, 0xd8\n"
	".rept 8\n"
	".set x87_modrm, 0xc0\n"
	".rept 64\n"
	".byte x87_opcode, x87_modrm, 0xc3, 0x90\n"
	".set x87_modrm, x87_modrm + 1\n"
	".endr\n"
	".set x87_opcode, x87_opcode + 1\n"
	".endr\n"
	".globl soft_x87_memory_stubs\n"
	".hidden soft_x87_memory_stubs\n"
	"soft_x87_memory_stubs:\n"
	".set x87_opcode, 0xd8\n"
	".rept 8\n"
	".set x87_modrm, 0x02\n"
	".rept 8\n"
	".byte x87_opcode, x87_modrm, 0xc3, 0x90\n"
	".set x87_modrm, x87_modrm + 8\n"
	".endr\n"
	".set x87_opcode, x87_opcode + 1\n"
	".endr\n");

/* The select function leaves FOP in imm: opcode bits 2:0, then modrm (SDM 1, figure 8-8). */
static inline unsigned fop_of(const struct insn *i)
{
	return (unsigned)i->imm & 0x7ff;
}

static void image_fill(struct soft_cpu *c, struct x87_image *image)
{
	image->cw = c->x87.cw;
	/* Sticky flags are left out: an old pending one would trap on the host. */
	image->sw = (c->x87.sw & X87_CONDITIONS) | (uint32_t)c->x87.top << 11;
	image->tag = c->x87.tag;
	image->fip = image->fcs = image->fdp = image->fds = 0;
	for (unsigned n = 0; n < 8; n++)
		memcpy(image->st[n], x87_reg(c, c->x87.top + n), 10);
}

static void image_take(struct soft_cpu *c, const struct x87_image *image)
{
	c->x87.sw = (c->x87.sw & (X87_EXCEPTIONS | X87_SF)) |
		    (image->sw & (X87_EXCEPTIONS | X87_SF | X87_CONDITIONS));
	c->x87.top = image->sw >> 11 & 7;
	c->x87.tag = (uint16_t)image->tag;
	for (unsigned n = 0; n < 8; n++)
		memcpy(x87_reg(c, c->x87.top + n), image->st[n], 10);
}

/* SSE3's FISTTP is FISTP with truncation: DB /3, DF /7, DF /3 for DB /1, DD /1, DF /1. */
static const uint8_t *fisttp_stub(unsigned opcode, struct x87_image *image)
{
	image->cw |= X87_CW_TRUNCATE;
	return soft_x87_memory_stubs[opcode == 3 ? 3 : 7][opcode == 5 ? 7 : 3];
}

static bool is_fisttp(unsigned opcode, unsigned modrm)
{
	return (modrm & 0x38) == 0x08 && (opcode == 3 || opcode == 5 || opcode == 7);
}

/* Runs the instruction; returns the exceptions that it raised. */
static __attribute__((noinline)) unsigned x87_run(struct soft_cpu *c, const struct insn *i,
						  void *operand)
{
	unsigned fop = fop_of(i), opcode = fop >> 8, modrm = fop & 0xff;
	const uint8_t *stub = operand ? soft_x87_memory_stubs[opcode][modrm >> 3 & 7]
				      : soft_x87_register_stubs[opcode][modrm & 0x3f];
	uint64_t rflags = (soft_flags_get(c) & FLAGS_ARITH) | 0x202;
	struct x87_image image;

	image_fill(c, &image);
	if (operand && is_fisttp(opcode, modrm))
		stub = fisttp_stub(opcode, &image);
	rflags = soft_x87_native_run(&image, stub, operand, rflags);
	image_take(c, &image);
	/* FCOMI, FUCOMI and their popping forms: DB, DF with E8..F7. */
	if (!operand && (opcode == 3 || opcode == 7) && modrm >= 0xe8 && modrm <= 0xf7)
		soft_flags_set_arith(c, (uint32_t)(rflags & FLAGS_ARITH));
	c->x87.fip = soft_rip(c, i);
	c->x87.fop = (uint16_t)fop;
	return image.sw & X87_EXCEPTIONS;
}

/* A waiting instruction: #NM, then a pending exception. */
static inline void x87_check(struct soft_cpu *c, const struct insn *i)
{
	if (unlikely(c->cr0 & (FP_CR0_EM | FP_CR0_TS)))
		soft_raise(c, i, VEC_NM);
	if (unlikely(fp_x87_pending(c)))
		soft_raise(c, i, VEC_MF);
}

static fp_next x87_register(struct soft_cpu *c, const struct insn *i)
{
	x87_check(c, i);
	x87_run(c, i, NULL);
	return SOFT_NEXT(c, i);
}

/* i->opsize is the operand's size here, 10 included: set by the select function. */
static __attribute__((noinline)) void x87_load_run(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_ea(c, i);
	uint8_t operand[16];

	soft_load_bytes(c, i, linear, operand, i->opsize);
	x87_run(c, i, operand);
	c->x87.fdp = soft_ea_offset(c, i);
}

static fp_next x87_load(struct soft_cpu *c, const struct insn *i)
{
	x87_check(c, i);
	x87_load_run(c, i);
	return SOFT_NEXT(c, i);
}

/* An unmasked invalid, overflow or underflow stores nothing (SDM 1, 8.5). */
static __attribute__((noinline)) void x87_store_run(struct soft_cpu *c, const struct insn *i)
{
	uint64_t linear = soft_ea(c, i);
	uint8_t operand[16];
	unsigned raised;

	soft_probe(c, i, linear, i->opsize, true);
	raised = x87_run(c, i, operand);
	c->x87.fdp = soft_ea_offset(c, i);
	if (!(raised & ~c->x87.cw & 0x1f))
		soft_store_bytes(c, i, linear, operand, i->opsize);
}

static fp_next x87_store(struct soft_cpu *c, const struct insn *i)
{
	x87_check(c, i);
	x87_store_run(c, i);
	return SOFT_NEXT(c, i);
}

static fp_next x87_wait(struct soft_cpu *c, const struct insn *i)
{
	if ((c->cr0 & (FP_CR0_MP | FP_CR0_TS)) == (FP_CR0_MP | FP_CR0_TS))
		soft_raise(c, i, VEC_NM);
	if (fp_x87_pending(c))
		soft_raise(c, i, VEC_MF);
	return SOFT_NEXT(c, i);
}

/* Memory forms [opcode - D8][/digit]: bytes loaded, or stored with the high bit; 0: control or
 * undefined. */
#define ST(n) (0x80 | (n))
static const uint8_t memory_forms[8][8] = {
	{4, 4, 4, 4, 4, 4, 4, 4}, {4, 0, ST(4), ST(4), 0, 0, 0, 0},
	{4, 4, 4, 4, 4, 4, 4, 4}, {4, ST(4), ST(4), ST(4), 0, 10, 0, ST(10)},
	{8, 8, 8, 8, 8, 8, 8, 8}, {8, ST(8), ST(8), ST(8), 0, 0, 0, 0},
	{2, 2, 2, 2, 2, 2, 2, 2}, {2, ST(2), ST(2), ST(2), 10, 8, ST(10), ST(8)},
};

/* Bits lo..hi: undefined register forms by modrm - C0. */
#define BITS(lo, hi) ((UINT64_MAX >> (63 - (hi))) & (UINT64_MAX << (lo)))
static const uint64_t register_undefined[8] = {
	[1] = BITS(17, 23) | BITS(34, 35) | BITS(38, 39) | BITS(47, 47),
	[2] = BITS(32, 40) | BITS(42, 63),
	[3] = BITS(37, 39) | BITS(56, 63),
	[5] = BITS(48, 63),
	[6] = BITS(24, 24) | BITS(26, 31),
	[7] = BITS(33, 39) | BITS(56, 63),
};

static bool select_memory(struct soft_decode *d)
{
	uint8_t form = memory_forms[d->opcode & 7][d->reg3];

	if (!form || (is_fisttp(d->opcode & 7, d->modrm) && !soft_decode_has(d, CPU_SSE3)))
		return false;
	d->out->fn = form & 0x80 ? x87_store : x87_load;
	d->out->opsize = form & 0x7f;
	return true;
}

bool fp_select_x87(struct soft_decode *d)
{
	if (d->opcode == 0x9b) {
		d->out->fn = x87_wait;
		return true;
	}
	if (d->opcode < 0xd8 || d->opcode > 0xdf)
		return false;
	d->out->imm = (uint64_t)(d->opcode & 7) << 8 | d->modrm;
	if (fp_select_x87_control(d))
		return true;
	if (d->mod != 3)
		return select_memory(d);
	if (register_undefined[d->opcode & 7] >> (d->modrm & 0x3f) & 1)
		return false;
	d->out->fn = x87_register;
	return true;
}
