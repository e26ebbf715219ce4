/* SPDX-License-Identifier: Apache-2.0 */
/* Forms: software interrupts, exceptions by gates of all kinds, page faults, single stepping. */
#include "tests/unit/softkvm/softkvm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Events ---------------------------------------------------------------------------------- */

static void int_n(struct gen *g, uint32_t arg)
{
	(void)arg;
	EMIT(g, 0xcd, (uint8_t)rng_next(&g->rng));
}

static void byte(struct gen *g, uint32_t opcode)
{
	EMIT(g, (uint8_t)opcode);
}

static void into(struct gen *g, uint32_t arg)
{
	(void)arg;
	if (rng_below(&g->rng, 2))
		g->t->in.rflags |= 0x800;
	EMIT(g, 0xce);
}

/* What raises a vector: #DE, #UD, #GP, #NP, #SS. */
static void cause(struct gen *g)
{
	switch (rng_below(&g->rng, 4)) {
	case 0:
		emit_load(g, RCX, 0);
		EMIT(g, 0xf7, 0xf1);
		return;
	case 1:
		EMIT(g, 0x0f, 0x0b);
		return;
	case 2: /* CR1 would be #UD: a reserved bit of CR4 */
		emit_load(g, RAX, 0x80000000);
		EMIT(g, 0x0f, 0x22, 0xe0);
		return;
	default:
		emit_load(g, RDI, ABSENT_VA);
		emit_memory_prefix(g);
		EMIT(g, 0x8b, 0x07);
		return;
	}
}

static void exception(struct gen *g, uint32_t arg)
{
	(void)arg;
	cause(g);
}

/* A gate: mostly good, one of its parts random. */
static void gate_vary(struct gen *g, unsigned vector)
{
	bool wide = IN(g->t->mode) & IN_PAGED;
	struct rng *r = &g->rng;
	uint64_t offset = GPA_TARGETS + vector, type = 0xe, present = 1, dpl = rng_below(r, 4),
		 ist = 0;
	uint16_t selector = wide ? SEL_KCODE64 : SEL_KCODE32;
	uint32_t gpa = wide ? GPA_IDT + vector * 16 : GPA_IDT32 + vector * 8;

	switch (rng_below(r, 6)) {
	case 0:
		type = rng_below(r, 32);
		break;
	case 1:
		present = 0;
		break;
	case 2:
		selector = selector_code(g);
		break;
	case 3:
		offset = target_any(g);
		break;
	case 4:
		ist = wide ? rng_below(r, 8) : 0;
		break;
	default:
		type = 0xf;
		break;
	}
	patch_add(g, gpa, 8,
		  (offset & 0xffff) | (uint64_t)selector << 16 | ist << 32 |
			  (type | dpl << 5 | present << 7) << 40 | (offset >> 16 & 0xffff) << 48);
	if (wide)
		patch_add(g, gpa + 8, 8, offset >> 32);
}

static void gate_exception(struct gen *g, uint32_t vectors)
{
	static const uint8_t vector[] = {0, 6, 13, 14, 8, 11, 10, 12};

	for (unsigned n = 0; n < vectors; n++)
		gate_vary(g, vector[n]);
	cause(g);
}

static void gate_int(struct gen *g, uint32_t arg)
{
	uint8_t vector = 0x20 + rng_below(&g->rng, 0xe0);

	(void)arg;
	gate_vary(g, vector);
	EMIT(g, 0xcd, vector);
}

/* The IDT ends within reach of some vectors. */
static void limit_exception(struct gen *g, uint32_t software)
{
	g->t->in.idtr.limit = (uint16_t)rng_below(&g->rng, 0x180);
	if (software)
		EMIT(g, 0xcd, (uint8_t)rng_next(&g->rng));
	else
		cause(g);
}

/* Stacks that cannot be used: the delivery faults, down to a shutdown. */
static void stack_exception(struct gen *g, uint32_t arg)
{
	struct rng *r = &g->rng;
	uint64_t rsp = zoo_address(g, 8);

	(void)arg;
	if (g->cpl)
		patch_add(g, GPA_TSS + 4, g->width == 64 ? 8 : 4, rsp);
	else
		emit_load(g, RSP, rsp);
	/* #DF by a good stack in one of two cases. */
	if ((IN(g->t->mode) & IN_PAGED) && rng_below(r, 2))
		patch_add(g, GPA_IDT + 8 * 16 + 4, 1, 1 + rng_below(r, 7));
	cause(g);
}

/* The TSS ends within its stack pointers. */
static void tss_exception(struct gen *g, uint32_t arg)
{
	(void)arg;
	g->t->in.tr.limit = rng_below(&g->rng, 0x68);
	patch_add(g, GPA_IDT + 6 * 16 + 4, 1, rng_below(&g->rng, 8));
	cause(g);
}

/* ---- Page faults ----------------------------------------------------------------------------- */

static void page_load(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RDI, zoo_address(g, 4));
	EMIT(g, 0x8b, 0x07);
}

static void page_store(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RDI, zoo_address(g, 4));
	EMIT(g, 0x89, 0x07);
}

/* ADD [RDI], EAX: a write from the start. */
static void page_modify(struct gen *g, uint32_t locked)
{
	emit_load(g, RDI, zoo_address(g, 4));
	if (locked)
		EMIT(g, 0xf0);
	EMIT(g, 0x01, 0x07);
}

static void page_push(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RSP, zoo_address(g, 8));
	EMIT(g, 0x50);
}

static void page_pop(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RSP, zoo_address(g, 8));
	EMIT(g, 0x59);
}

static void page_movs(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RSI, zoo_address(g, 4));
	emit_load(g, RDI, zoo_address(g, 4));
	EMIT(g, 0xa5);
}

/* The zoo's frames hold no sense as code: each page begins at a HLT, if it may be fetched at all.
 */
static void page_execute(struct gen *g, uint32_t arg)
{
	uint64_t address = zoo_address(g, 1);

	(void)arg;
	for (unsigned n = 0; n < ZOO_FRAMES; n++)
		patch_add(g, GPA_FRAMES + n * 0x1000 + (address & 0xfff), 1, 0xf4);
	emit_load(g, RCX, address);
	EMIT(g, 0xff, 0xe1);
}

/* Tables in memory that the kernel reads with its own rights, whoever caused it. */
static void page_descriptor(struct gen *g, uint32_t arg)
{
	uint64_t base = zoo_address(g, 8) & ~UINT64_C(7);

	base = (uint64_t)((int64_t)(base << 16) >> 16); /* as LGDT leaves it */
	base &= ~UINT64_C(0x800); /* the first descriptors lie in one page, in each of the frames */
	for (unsigned n = 0; n < ZOO_FRAMES; n++) {
		uint32_t at = GPA_FRAMES + n * 0x1000 + (base & 0xfff);

		patch_add(g, at + SEL_KCODE64, 8, UINT64_C(0x00af9b000000ffff));
		patch_add(g, at + SEL_KDATA, 8, UINT64_C(0x00cff3000000ffff));
		patch_add(g, at + SEL_KCODE32, 8, UINT64_C(0x00cf9b000000ffff));
	}
	g->t->in.gdtr.base = base;
	(void)arg;
	emit_load(g, RCX, SEL_KDATA | 3);
	EMIT(g, 0x8e, 0xe1);
}

/* ---- Accessed and dirty bits ----------------------------------------------------------------- */

/* The path to a page of the zoo with some of its accessed and dirty bits clear, then an access. */
static void page_marks(struct gen *g, uint32_t kind)
{
	struct rng *r = &g->rng;
	unsigned page = (rng_below(r, ZOO_PAGES) & ~1u) & (rng_below(r, 4) ? 0xfu : 0x1fu);
	uint64_t address = ZOO_VA + page * 0x1000u + rng_below(r, 0xff0);
	uint32_t slot = GPA_PT_ZOO + page * 8;

	patch_add(g, slot, 1, (rng_next(r) & 0x60) | (~page & 7));
	patch_add(g, GPA_PD + ZOO_VA / ZOO_VA_REGION * 8, 1, 7 | (rng_next(r) & 0x60));
	patch_add(g, GPA_FRAMES + page % ZOO_FRAMES * 0x1000 + (address & 0xfff), 1, 0xf4);
	emit_load(g, RDI, address);
	if (kind == 0)
		EMIT(g, 0x8b, 0x07);
	else if (kind == 1)
		EMIT(g, 0x89, 0x07);
	else
		EMIT(g, 0xff, 0xe7);
}

/* The kernel changes an entry, drops the old translation or not (more rights only), and goes on. */
static void page_change(struct gen *g, uint32_t flush)
{
	struct rng *r = &g->rng;
	unsigned page = rng_below(r, 8);
	uint64_t address = ZOO_VA + page * 0x1000u + rng_below(r, 0xff0);
	uint64_t entry =
		(GPA_FRAMES + rng_below(r, ZOO_FRAMES) * 0x1000) | 0x60 | (rng_next(r) & 7);

	emit_load(g, RDI, address);
	if (!(page & 1))
		EMIT(g, 0x8b, 0x07); /* the translation is known now */
	emit_load(g, RCX, GPA_PT_ZOO + page * 8);
	emit_load(g, RAX, entry);
	EMIT(g, 0x89, 0x01); /* its low half */
	if (flush == 0)
		EMIT(g, 0x0f, 0x01, 0x3f); /* INVLPG [RDI] */
	else
		EMIT(g, 0x0f, 0x20, 0xda, 0x0f, 0x22, 0xda); /* CR3 from and to RDX */
	EMIT(g, 0x8b, 0x1f, 0x89, 0x07);
}

/* ---- Single stepping and alignment ----------------------------------------------------------- */

static void step(struct gen *g, uint32_t kind)
{
	static const uint32_t insns[] = {0x90, 0xfa, 0xfb, 0x0b0f, 0xc1ff, 0x9c, 0xa20f, 0x060f};
	uint32_t bytes = insns[rng_below(&g->rng, COUNT(insns))];
	uint64_t flags = 0x102 | (rng_next(&g->rng) & 0xcd5);

	if (bytes == 0xa20f)
		emit_load(g, RAX, 0x80000000);
	if (kind == 0) {
		g->t->in.rflags |= 0x100;
	} else {
		emit_load(g, RSP, frame_offset(g, frame_new(g, &flags, 1, g->width / 8)));
		EMIT(g, 0x9d);
	}
	for (; bytes; bytes >>= 8)
		EMIT(g, (uint8_t)bytes);
	EMIT(g, 0x90, 0x90);
}

/* MOV SS holds the trap back for one instruction. */
static void step_mov_ss(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RCX, SEL_KDATA);
	g->t->in.rflags |= 0x100;
	g->t->code[0] = 0x8e;
	g->t->code[1] = 0xd1; /* MOV SS, CX: the first, in place of the load */
	g->t->in.gpr[RCX] = g->cpl ? SEL_UDATA : SEL_KDATA;
	g->t->len = 2;
	EMIT(g, 0x90, 0x90, 0x90);
}

static void misaligned(struct gen *g, uint32_t opcode)
{
	unsigned at = rng_below(&g->rng, 0x20);

	if (rng_below(&g->rng, 4)) {
		g->t->in.cr0 |= 0x40000;
		g->t->in.rflags |= 0x40000;
	}
	emit_load(g, RDI, GPA_DATA + at);
	emit_load(g, RSI, GPA_DATA + rng_below(&g->rng, 0x20));
	if (opcode > 0xff)
		EMIT(g, 0x0f);
	EMIT(g, (uint8_t)opcode);
	if (opcode != 0xa5)
		EMIT(g, 0x07);
}

/* ---- #NM ------------------------------------------------------------------------------------- */

static void no_fpu(struct gen *g, uint32_t opcode)
{
	g->t->in.cr0 = (g->t->in.cr0 & ~UINT64_C(0xe)) | (rng_next(&g->rng) & 0xe);
	if (rng_one_in(&g->rng, 4))
		g->t->in.cr4 &= ~UINT64_C(0x200);
	for (; opcode; opcode >>= 8)
		EMIT(g, (uint8_t)opcode);
}

#define IN_MOST (IN_LONG | IN_NARROW)

static const struct form list[] = {
	{"int_n", int_n, 0, IN_ALL, F_ALONE, 0},
	{"int3", byte, 0xcc, IN_ALL, F_ALONE, 0},
	{"int1", byte, 0xf1, IN_ALL, F_ALONE, 0},
	{"into", into, 0, IN_ALL, F_ALONE, 0},
	{"exception", exception, 0, IN_PROT, F_ALONE, 0},
	{"gate_exception", gate_exception, 4, IN_PROT, F_ALONE, ZOO_CODE},
	{"gate_double", gate_exception, 8, IN_PROT, F_ALONE, ZOO_CODE},
	{"gate_int", gate_int, 0, IN_PROT, F_ALONE, ZOO_CODE},
	{"limit_exception", limit_exception, 0, IN_PROT, F_ALONE, 0},
	{"limit_int", limit_exception, 1, IN_PROT, F_ALONE, 0},
	{"stack_exception", stack_exception, 0, IN_PAGED | IN_LEGACY, F_ALONE, 0},
	{"tss_exception", tss_exception, 0, IN_PAGED | IN_LEGACY, F_ALONE, 0},
	{"page_load", page_load, 0, IN_PROT, 0, 0},
	{"page_store", page_store, 0, IN_PROT, 0, 0},
	{"page_modify", page_modify, 0, IN_PROT, 0, 0},
	{"page_locked", page_modify, 1, IN_PROT, 0, 0},
	{"page_push", page_push, 0, IN_PROT, F_ALONE, 0},
	{"page_pop", page_pop, 0, IN_PROT, F_ALONE, 0},
	{"page_movs", page_movs, 0, IN_PROT, 0, 0},
	{"page_execute", page_execute, 0, IN_PROT, F_ALONE, 0},
	{"page_descriptor", page_descriptor, 0, IN_PROT, F_ALONE, 0},
	{"page_marks_load", page_marks, 0, IN_LONG, F_ALONE | F_FRESH, 0},
	{"page_marks_store", page_marks, 1, IN_LONG, F_ALONE | F_FRESH, 0},
	{"page_marks_execute", page_marks, 2, IN_LONG, F_ALONE | F_FRESH, 0},
	{"page_change_invlpg", page_change, 0, IN(MODE_LONG0), F_ALONE | F_FRESH, 0},
	{"page_change_cr3", page_change, 1, IN(MODE_LONG0), F_ALONE | F_FRESH, 0},
	{"step", step, 0, IN_MOST, F_ALONE, 0},
	{"step_popf", step, 1, IN_MOST, F_ALONE, 0},
	{"step_mov_ss", step_mov_ss, 0, IN_MOST, F_ALONE, 0},
	{"misaligned_load", misaligned, 0x8b, IN_PROT, F_ALONE, 0},
	{"misaligned_store", misaligned, 0x89, IN_PROT, F_ALONE, 0},
	{"misaligned_movs", misaligned, 0xa5, IN_PROT, F_ALONE, 0},
	{"no_fpu_fninit", no_fpu, 0xe3db, IN_PROT, F_ALONE, 0},
	{"no_fpu_fwait", no_fpu, 0x9b, IN_PROT, F_ALONE, 0},
	{"no_fpu_movaps", no_fpu, 0xc8280f, IN_PROT, F_ALONE, 0},
	{"no_fpu_movq", no_fpu, 0xc86f0f, IN_PROT, F_ALONE, 0},
};

unsigned forms_event(struct form *forms, unsigned count)
{
	for (unsigned n = 0; n < COUNT(list); n++)
		forms[count++] = list[n];
	return count;
}
