/* SPDX-License-Identifier: Apache-2.0 */
/* Forms: loads of segment registers, LDTR and TR, looks at descriptors, far jumps, calls, returns.
 */
#include "tests/unit/softkvm/softkvm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Segment registers ----------------------------------------------------------------------- */

/* In real mode a data segment may come to lie anywhere: nothing is accessed behind it. */
static void mov_to_seg(struct gen *g, uint32_t seg)
{
	emit_load(g, RCX, selector_any(g));
	EMIT(g, 0x8e);
	emit_modrm(g, seg, RCX);
}

static void mov_to_seg_mem(struct gen *g, uint32_t seg)
{
	emit_load(g, RDI, operand_offset(g, operand_new(g, 2, selector_any(g))));
	emit_memory_prefix(g);
	EMIT(g, 0x8e);
	emit_modrm_memory(g, seg);
}

static void mov_from_seg(struct gen *g, uint32_t seg)
{
	if (rng_one_in(&g->rng, 3))
		EMIT(g, 0x66);
	else if (g->width == 64 && rng_below(&g->rng, 2))
		EMIT(g, 0x48);
	EMIT(g, 0x8c);
	emit_modrm(g, seg, RDX);
}

static void pop_seg(struct gen *g, uint32_t opcode)
{
	uint64_t value = selector_any(g) | (rng_next(&g->rng) & 0xffff0000);
	uint32_t gpa = frame_new(g, &value, 1, 8);

	emit_load(g, RSP, frame_offset(g, gpa));
	EMIT(g, (uint8_t)opcode);
	if (opcode >> 8)
		EMIT(g, (uint8_t)(opcode >> 8));
}

static void push_seg(struct gen *g, uint32_t opcode)
{
	EMIT(g, (uint8_t)opcode);
	if (opcode >> 8)
		EMIT(g, (uint8_t)(opcode >> 8));
}

/* m16:16, m16:32, m16:64 at DATA; returns with RDI loaded and prefixes emitted. */
static void far_pointer(struct gen *g, uint64_t offset, uint16_t selector, bool rex)
{
	unsigned size = g->width == 16 ? 2 : 4;
	uint32_t gpa;

	if (rex)
		size = 8;
	gpa = operand_new(g, 8, offset);
	patch_add(g, gpa + size, 2, selector);
	emit_load(g, RDI, operand_offset(g, gpa));
	emit_memory_prefix(g);
	if (rex)
		EMIT(g, 0x48);
}

static void load_far(struct gen *g, uint32_t opcode)
{
	far_pointer(g, rng_next(&g->rng), selector_any(g), false);
	if (opcode > 0xff)
		EMIT(g, 0x0f);
	EMIT(g, (uint8_t)opcode);
	emit_modrm_memory(g, RBX);
}

/* ---- LDTR, TR, descriptors ------------------------------------------------------------------- */

/* Group 6: 0F 00 /0../5. */
static void group6(struct gen *g, uint32_t reg)
{
	bool memory = rng_below(&g->rng, 2);
	uint16_t selector = selector_any(g);

	if (memory)
		emit_load(g, RDI, operand_offset(g, operand_new(g, 2, selector)));
	else
		emit_load(g, RCX, selector);
	if (memory)
		emit_memory_prefix(g);
	if (reg < 2 && rng_one_in(&g->rng, 3))
		EMIT(g, 0x66);
	EMIT(g, 0x0f, 0x00);
	if (memory)
		emit_modrm_memory(g, reg);
	else
		emit_modrm(g, reg, RCX);
}

static void look(struct gen *g, uint32_t opcode)
{
	emit_load(g, RCX, selector_any(g));
	if (rng_one_in(&g->rng, 4))
		EMIT(g, 0x66);
	else if (g->width == 64 && rng_below(&g->rng, 2))
		EMIT(g, 0x48);
	EMIT(g, 0x0f, (uint8_t)opcode);
	emit_modrm(g, RBX, RCX);
}

static void arpl(struct gen *g, uint32_t arg)
{
	(void)arg;
	EMIT(g, 0x63);
	emit_modrm(g, RBX, RDX);
}

/* ---- Far transfers --------------------------------------------------------------------------- */

static uint16_t selector_real(struct gen *g)
{
	return (uint16_t)(0x1000 + rng_below(&g->rng, 4) * 0x100);
}

/* reg 3: CALL, 5: JMP. */
static void far_mem(struct gen *g, uint32_t reg)
{
	uint64_t target = target_any(g);
	uint16_t selector = selector_code(g);

	if (g->width == 16) {
		target = 0x2000 + rng_below(&g->rng, 0x1000);
		selector = selector_real(g);
	}
	far_pointer(g, target, selector, false);
	EMIT(g, 0xff);
	emit_modrm_memory(g, reg);
}

/* An offset of 64 bits is Intel's. */
static void far_mem64(struct gen *g, uint32_t reg)
{
	far_pointer(g, target_any(g), selector_code(g), true);
	EMIT(g, 0xff);
	emit_modrm_memory(g, reg);
}

static void far_imm(struct gen *g, uint32_t opcode)
{
	EMIT(g, (uint8_t)opcode);
	if (g->width == 16) {
		emit_imm(g, 0x2000 + rng_below(&g->rng, 0x1000), 2);
		emit_imm(g, selector_real(g), 2);
		return;
	}
	emit_imm(g, target_any(g), 4);
	emit_imm(g, selector_code(g), 2);
}

static uint16_t selector_stack(struct gen *g, uint16_t cs)
{
	if (rng_one_in(&g->rng, 4))
		return selector_any(g);
	if (rng_one_in(&g->rng, 8))
		return cs & 3;
	if ((cs & 3) == 3)
		return rng_below(&g->rng, 2) ? SEL_UDATA : SEL_UDATA16;
	return rng_below(&g->rng, 2) ? SEL_KDATA : SEL_DATA16;
}

static uint16_t selector_return(struct gen *g)
{
	static const uint16_t user[] = {SEL_UCODE64, SEL_UCODE32, SEL_UCODE16};

	if (rng_one_in(&g->rng, 3))
		return selector_code(g);
	if (g->cpl || rng_below(&g->rng, 2))
		return user[rng_below(&g->rng, COUNT(user))];
	return rng_below(&g->rng, 2) ? SEL_KCODE64 : SEL_KCODE32;
}

/* The operand size of returns: the code's default, REX.W or 66. */
static unsigned return_size(struct gen *g)
{
	if (g->width != 64)
		return g->width / 8;
	return rng_below(&g->rng, 4) ? 8 : 4;
}

static void return_emit(struct gen *g, const uint64_t *frame, unsigned count, unsigned size)
{
	emit_load(g, RSP, frame_offset(g, frame_new(g, frame, count, size)));
	if (size == 8)
		EMIT(g, 0x48);
}

/* CB, or CA with bytes to release. */
static void retf(struct gen *g, uint32_t opcode)
{
	unsigned size = return_size(g), release = opcode == 0xca ? rng_below(&g->rng, 3) * 8 : 0;
	uint16_t cs = g->width == 16 ? selector_real(g) : selector_return(g);
	uint64_t frame[12] = {target_any(g), cs}; /* 16 bytes to release are 8 values of 16 bits */
	unsigned at = 2 + release / size;

	if (g->width == 16)
		frame[0] = 0x2000 + rng_below(&g->rng, 0x1000);
	frame[at] = GPA_USTACK - 0x100 + rng_below(&g->rng, 0x40);
	frame[at + 1] = selector_stack(g, cs);
	return_emit(g, frame, at + 2, size);
	EMIT(g, (uint8_t)opcode);
	if (opcode == 0xca)
		emit_imm(g, release, 2);
}

/* TF has forms of its own; VM is not modelled. */
static void iret(struct gen *g, uint32_t nested)
{
	unsigned size = return_size(g);
	uint16_t cs = g->width == 16 ? selector_real(g) : selector_return(g);
	uint64_t frame[5] = {target_any(g), cs, rng_next(&g->rng) & ~UINT64_C(0x20100),
			     GPA_USTACK - 0x100 + rng_below(&g->rng, 0x40), selector_stack(g, cs)};

	if (g->width == 16)
		frame[0] = 0x2000 + rng_below(&g->rng, 0x1000);
	if (nested)
		g->t->in.rflags |= 0x4000;
	return_emit(g, frame, 5, size);
	EMIT(g, 0xcf);
}

/* ---- SYSCALL and its kin --------------------------------------------------------------------- */

static void syscall_state(struct gen *g)
{
	struct vcpu_state *s = &g->t->in;
	struct rng *r = &g->rng;

	if (rng_one_in(r, 8))
		s->efer &= ~UINT64_C(1);
	if (rng_one_in(r, 4))
		s->sfmask = rng_next(r) & 0x7fff7;
	if (rng_one_in(r, 8))
		s->star = rng_next(r);
	if (rng_one_in(r, 4))
		s->rflags |= 0x4000;
}

static void syscall_insn(struct gen *g, uint32_t arg)
{
	(void)arg;
	syscall_state(g);
	EMIT(g, 0x0f, 0x05);
}

static void sysret_insn(struct gen *g, uint32_t wide)
{
	syscall_state(g);
	emit_load(g, RCX, target_any(g));
	if (rng_below(&g->rng, 4))
		emit_load(g, g->width == 64 ? R11 : RBX, rng_next(&g->rng) & ~UINT64_C(0x100));
	else
		emit_load(g, g->width == 64 ? R11 : RBX, 0x202);
	if (wide)
		EMIT(g, 0x48);
	EMIT(g, 0x0f, 0x07);
}

static void sysenter_state(struct gen *g)
{
	struct vcpu_state *s = &g->t->in;
	struct rng *r = &g->rng;

	if (rng_one_in(r, 4))
		s->sysenter_cs = rng_below(r, 2) ? rng_below(r, 4) : rng_next(r) & 0xffff;
	if (rng_one_in(r, 8))
		s->sysenter_esp = rng_next(r) & 0x7fffffffffff;
}

static void sysenter_insn(struct gen *g, uint32_t arg)
{
	(void)arg;
	sysenter_state(g);
	EMIT(g, 0x0f, 0x34);
}

static void sysexit_insn(struct gen *g, uint32_t wide)
{
	sysenter_state(g);
	emit_load(g, RDX, target_any(g));
	emit_load(g, RCX, rng_one_in(&g->rng, 4) ? address_any(&g->rng) : GPA_USTACK - 0x80);
	if (wide)
		EMIT(g, 0x48);
	EMIT(g, 0x0f, 0x35);
}

#define NARROW_REAL (IN_NARROW | IN(MODE_REAL))

static const struct form list[] = {
	{"mov_to_es", mov_to_seg, SEG_ES, IN_ALL, F_ALONE, 0},
	{"mov_to_cs", mov_to_seg, SEG_CS, IN_ALL, 0, 0},
	{"mov_to_ss", mov_to_seg, SEG_SS, IN_ALL, F_ALONE, ZOO_STACK},
	{"mov_to_ds", mov_to_seg, SEG_DS, IN_ALL, F_ALONE, 0},
	{"mov_to_fs", mov_to_seg, SEG_FS, IN_ALL, 0, 0},
	{"mov_to_gs", mov_to_seg, SEG_GS, IN_ALL, 0, 0},
	{"mov_to_ds_mem", mov_to_seg_mem, SEG_DS, IN_ALL, F_ALONE, 0},
	{"mov_to_ss_mem", mov_to_seg_mem, SEG_SS, IN_ALL, F_ALONE, ZOO_STACK},
	{"mov_from_cs", mov_from_seg, SEG_CS, IN_ALL, 0, 0},
	{"mov_from_ss", mov_from_seg, SEG_SS, IN_ALL, 0, 0},
	{"mov_from_gs", mov_from_seg, SEG_GS, IN_ALL, 0, 0},
	{"pop_es", pop_seg, 0x07, NARROW_REAL, F_ALONE, 0},
	{"pop_ss", pop_seg, 0x17, NARROW_REAL, F_ALONE, ZOO_STACK},
	{"pop_ds", pop_seg, 0x1f, NARROW_REAL, F_ALONE, 0},
	{"pop_fs", pop_seg, 0xa10f, IN_ALL, 0, 0},
	{"pop_gs", pop_seg, 0xa90f, IN_ALL, 0, 0},
	{"push_cs", push_seg, 0x0e, NARROW_REAL, 0, 0},
	{"push_ss", push_seg, 0x16, NARROW_REAL, 0, 0},
	{"push_fs", push_seg, 0xa00f, IN_ALL, 0, 0},
	{"lss", load_far, 0x1b2, IN_ALL, F_ALONE, ZOO_STACK},
	{"lfs", load_far, 0x1b4, IN_ALL, 0, 0},
	{"lgs", load_far, 0x1b5, IN_ALL, 0, 0},
	{"les", load_far, 0xc4, NARROW_REAL, F_ALONE, 0},
	{"lds", load_far, 0xc5, NARROW_REAL, F_ALONE, 0},
	{"sldt", group6, 0, IN_ALL, 0, 0},
	{"str", group6, 1, IN_ALL, 0, 0},
	{"lldt", group6, 2, IN_ALL, 0, ZOO_SYSTEM},
	{"ltr", group6, 3, IN_ALL, F_ALONE, ZOO_SYSTEM},
	{"verr", group6, 4, IN_ALL, 0, 0},
	{"verw", group6, 5, IN_ALL, 0, 0},
	{"lar", look, 0x02, IN_ALL, 0, 0},
	{"lsl", look, 0x03, IN_ALL, 0, 0},
	{"lar_system", look, 0x02, IN_PROT, 0, ZOO_SYSTEM},
	{"lsl_system", look, 0x03, IN_PROT, 0, ZOO_SYSTEM},
	{"arpl", arpl, 0, NARROW_REAL, 0, 0},
	{"call_far_mem", far_mem, 3, IN_ALL, F_ALONE, ZOO_CODE},
	{"jmp_far_mem", far_mem, 5, IN_ALL, F_ALONE, ZOO_CODE},
	{"call_far_mem64", far_mem64, 3, IN_LONG, F_ALONE, ZOO_CODE},
	{"jmp_far_mem64", far_mem64, 5, IN_LONG, F_ALONE, ZOO_CODE},
	{"call_far_imm", far_imm, 0x9a, IN_ALL, F_ALONE, ZOO_CODE},
	{"jmp_far_imm", far_imm, 0xea, IN_ALL, F_ALONE, ZOO_CODE},
	{"retf", retf, 0xcb, IN_ALL, F_ALONE, ZOO_CODE},
	{"retf_imm", retf, 0xca, IN_ALL, F_ALONE, ZOO_CODE},
	{"iret", iret, 0, IN_ALL, F_ALONE, ZOO_CODE},
	{"iret_nested", iret, 1, IN_LONG, F_ALONE, ZOO_CODE},
	{"syscall", syscall_insn, 0, IN_ALL, F_ALONE, 0},
	{"sysret", sysret_insn, 0, IN_ALL, F_ALONE, 0},
	{"sysret64", sysret_insn, 1, IN_LONG, F_ALONE, 0},
	{"sysenter", sysenter_insn, 0, IN_ALL, F_ALONE, 0},
	{"sysexit", sysexit_insn, 0, IN_ALL, F_ALONE, 0},
	{"sysexit64", sysexit_insn, 1, IN_LONG, F_ALONE, 0},
};

unsigned forms_segment(struct form *forms, unsigned count)
{
	for (unsigned n = 0; n < COUNT(list); n++)
		forms[count++] = list[n];
	return count;
}
