/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a case of a form: encodes an instruction, and chooses registers that give its address. */
#include "tests/unit/softnative/softnative.h"

#include <string.h>

#define NONCANONICAL UINT64_C(0x0000900000000000)

static void emit(struct generator *g, uint64_t value, unsigned bytes)
{
	for (unsigned n = 0; n < bytes; n++)
		g->t->code[g->t->len++] = (uint8_t)(value >> (8 * n));
}

/* Most operands lie in the writable pages; the others begin near an edge, mostly so few bytes
 * before it that they straddle it. */
uint64_t target_random(struct rng *r, bool aligned)
{
	static const uint64_t edges[] = {
		DATA_VA, /* from an absent page */
		DATA_VA + PAGE_BYTES,
		DATA_VA + PAGE_BYTES,
		DATA_VA + PAGE_BYTES,
		READONLY_VA,		  /* into the read-only page */
		READONLY_VA + PAGE_BYTES, /* off the end */
	};
	uint64_t at;

	if (rng_below(r, 4)) {
		at = DATA_VA + 0x80 + rng_below(r, DATA_BYTES - 0x400);
	} else {
		at = edges[rng_below(r, sizeof(edges) / sizeof(edges[0]))];
		at += rng_below(r, 4) ? 0 - (uint64_t)(1 + rng_below(r, 1u << rng_below(r, 5)))
				      : rng_below(r, 16);
	}
	return aligned ? at & ~UINT64_C(15) : at;
}

uint64_t trap_random(struct generator *g)
{
	uint64_t at;

	do
		at = CODE_VA + rng_below(&g->rng, CODE_BYTES);
	while (at >= g->t->in.rip && at < g->t->in.rip + CODE_MAX);
	return at;
}

/* How many general and SSE registers instructions of the mode can name. */
static unsigned registers(const struct generator *g)
{
	return g->t->mode == 64 ? 16 : 8;
}

static unsigned register_free(struct generator *g, unsigned other)
{
	unsigned n;

	do
		n = rng_below(&g->rng, registers(g));
	while ((g->reserved >> n & 1) || n == other);
	return n;
}

/* A displacement of the given bytes; small where it shall not lead RSP out of the data. */
static int64_t disp_random(struct generator *g, unsigned bytes)
{
	if (bytes == 0)
		return 0;
	if (bytes == 1)
		return (int8_t)rng_next(&g->rng);
	if (g->form->flags & F_STACK)
		return (int)rng_below(&g->rng, 0x200) - 0x100;
	return (int)rng_below(&g->rng, 0x2000000) - 0x1000000;
}

/* Address registers take only 32 bits of their value with an address-size prefix. */
static void set_address(struct generator *g, unsigned n, uint64_t value)
{
	if (g->ad32)
		value = (uint32_t)value | rng_next(&g->rng) << 32;
	g->t->in.gpr[n] = value;
}

/* The offset that the address must give: the target less the segment's base. */
static uint64_t target_offset(const struct generator *g)
{
	return g->t->target - (g->gs ? GS_BASE : 0);
}

struct address {
	int base, index; /* -1: none */
	unsigned scale, disp_bytes;
	int64_t disp;
	uint8_t modrm, sib;
	bool has_sib;
};

/* [base + vector * scale + disp8]; the base alone leads to the target. */
static void address_gather(struct generator *g, struct address *a)
{
	g->vector_index = rng_below(&g->rng, registers(g));
	a->base = (int)register_free(g, 16);
	a->has_sib = true;
	a->disp_bytes = 1;
	a->disp = disp_random(g, 1);
	a->modrm = 0x44;
	a->sib = (uint8_t)(rng_below(&g->rng, 4) << 6 | (g->vector_index & 7) << 3 | (a->base & 7));
	if (g->vector_index & 8)
		g->rex_bits |= 2;
}

static void address_choose(struct generator *g, struct address *a)
{
	unsigned kind = rng_below(&g->rng, g->absolute ? 2 : 16);

	memset(a, 0, sizeof(*a));
	a->base = a->index = -1;
	if (g->form->special == SP_GATHER) {
		address_gather(g, a);
		return;
	}
	if (kind == 0 && g->t->target < REGION_VA + REGION_BYTES) { /* [rip + disp32] */
		g->rip_relative = g->t->mode == 64;
		a->modrm = 0x05;
		a->disp_bytes = 4;
		a->disp = g->rip_relative ? 0 : (int64_t)target_offset(g);
		return;
	}
	if (kind == 1 && g->t->target < REGION_VA + REGION_BYTES) { /* [disp32] */
		a->has_sib = true;
		a->modrm = 0x04;
		a->sib = 0x25;
		a->disp_bytes = 4;
		a->disp = (int64_t)target_offset(g);
		return;
	}
	a->base = kind == 2 ? -1 : (int)register_free(g, 16);
	if (kind == 2 || kind >= 9 || (a->base & 7) == RSP)
		a->has_sib = true;
	if (kind == 2 || kind >= 10) {
		do
			a->index = (int)register_free(g, (unsigned)a->base);
		while (a->index == RSP); /* encodes "none" */
	}
	a->scale = rng_below(&g->rng, 4);
}

/* modrm.mod, and the bytes of the displacement. */
static void address_encode(struct generator *g, struct address *a)
{
	unsigned mod = 0;

	if (g->form->special == SP_GATHER)
		return;
	if (a->base < 0 && a->disp_bytes == 0) { /* [index * scale + disp32] */
		a->disp_bytes = 4;
		a->disp = disp_random(g, 4);
		a->modrm = 0x04;
		a->sib = (uint8_t)(a->scale << 6 | (a->index & 7) << 3 | 5);
	} else if (a->base >= 0) {
		mod = rng_below(&g->rng, 3);
		if (mod == 0 && (a->base & 7) == RBP)
			mod = 1;
		a->disp_bytes = mod == 2 ? 4 : mod;
		a->disp = disp_random(g, a->disp_bytes);
		a->modrm = (uint8_t)(mod << 6 | (a->has_sib ? 4 : a->base & 7));
		a->sib = (uint8_t)(a->scale << 6 | (a->index < 0 ? 4 : a->index & 7) << 3 |
				   (a->base & 7));
	}
}

/* Gives base and index values whose sum is the target. */
static void address_assign(struct generator *g, const struct address *a)
{
	uint64_t rest = target_offset(g) - (uint64_t)a->disp;

	if (a->index >= 0 && a->base >= 0) {
		uint64_t index =
			rng_below(&g->rng, 2) ? value_int(&g->rng) : rng_below(&g->rng, 0x1000);

		/* Where RSP is the base of a stack operation it must stay in the data. */
		if (g->form->flags & F_STACK)
			index &= 0xf;
		set_address(g, (unsigned)a->index, index);
		rest -= g->t->in.gpr[a->index] << a->scale;
	} else if (a->index >= 0) {
		g->t->target -= rest & ((1u << a->scale) - 1);
		set_address(g, (unsigned)a->index, rest >> a->scale);
	}
	if (a->base >= 0)
		set_address(g, (unsigned)a->base, rest);
}

static void target_choose(struct generator *g)
{
	bool aligned =
		(g->form->flags & F_ALIGN) ? rng_below(&g->rng, 8) != 0 : !rng_below(&g->rng, 4);

	g->t->target = target_random(&g->rng, aligned);
	/* Where a jump's target is read it must be what special_after wrote. */
	if (g->form->special == SP_JUMP_IND || g->form->special == SP_JUMP_FAR)
		g->t->target = DATA_VA + 0x80 + rng_below(&g->rng, DATA_BYTES - 0x400);
	/* What a gather that faults has read and left of its mask is the processor's choice: none does. */
	if (g->form->special == SP_GATHER) {
		g->t->target = DATA_VA + 0x400 + rng_below(&g->rng, DATA_BYTES - 0x600);
		return;
	}
	/* Nothing lies there natively either, so any instruction may try it. */
	if (g->t->mode == 64 && !g->ad32 && !g->absolute && !rng_below(&g->rng, 64))
		g->t->target = NONCANONICAL + rng_below(&g->rng, 4096);
}

static unsigned operand_size(const struct generator *g)
{
	if (g->form->flags & F_BYTE)
		return 1;
	if (g->wide)
		return 8;
	if (g->half)
		return 2;
	return (g->form->flags & F_D64) && g->t->mode == 64 ? 8 : 4;
}

/* Operand and address size, REP, LOCK, segment: what the form allows. */
static void prefixes_choose(struct generator *g)
{
	const struct form *f = g->form;

	g->wide = g->t->mode == 64 && (f->flags & F_W) && rng_below(&g->rng, 3) == 0;
	g->half = (f->flags & F_66) && rng_below(&g->rng, 4) == 0;
	g->lock = !g->registers_only && (f->flags & F_LOCK) && rng_below(&g->rng, 3) == 0;
	/* A LOCK that is not allowed is #UD, whatever the operands are. */
	if (!g->registers_only && !(f->flags & (F_LOCK | F_FAULT | F_VEX)) &&
	    !rng_below(&g->rng, 256))
		g->lock = true;
	/* In compatibility mode the prefix would make 16-bit addresses, where nothing is. */
	if (g->t->mode == 64 && f->class != CLASS_FAULT && f->class != CLASS_BRANCH)
		g->ad32 = rng_below(&g->rng, 16) == 0;
	g->t->opsize = operand_size(g);
	if (f->special == SP_STRING && rng_below(&g->rng, 2))
		g->rep = 0xf3;
	if (f->special == SP_REPEAT && rng_below(&g->rng, 4))
		g->rep = rng_below(&g->rng, 2) ? 0xf3 : 0xf2;
}

/* Segments without a base. CS is not writable in compatibility mode, and does nothing in 64-bit
 * mode. */
static void emit_prefixes(struct generator *g)
{
	static const uint8_t ignored[] = {0x26, 0x36, 0x3e, 0x2e};

	if (g->half)
		emit(g, 0x66, 1);
	if (g->ad32)
		emit(g, 0x67, 1);
	if (g->gs)
		emit(g, 0x65, 1);
	else if (g->form->class != CLASS_BRANCH && !rng_below(&g->rng, 16))
		emit(g, ignored[rng_below(&g->rng, g->t->mode == 64 ? 4 : 3)], 1);
	if (g->lock)
		emit(g, 0xf0, 1);
	if (g->rep)
		emit(g, g->rep, 1);
	if (g->form->prefix && !(g->form->flags & F_VEX))
		emit(g, g->form->prefix, 1);
	if (g->wide)
		g->rex_bits |= 8;
	if ((g->rex || g->rex_bits) && !(g->form->flags & F_VEX))
		emit(g, 0x40 | g->rex_bits, 1);
}

/* SDM 2A, 2.3.5: R, X, B and vvvv are inverted. */
static void emit_vex(struct generator *g)
{
	const uint8_t prefix = g->form->prefix;
	unsigned pp = prefix == 0x66 ? 1 : prefix == 0xf3 ? 2 : prefix == 0xf2 ? 3 : 0;

	emit(g, 0xc4, 1);
	emit(g, (~g->rex_bits & 7) << 5 | g->form->map, 1);
	emit(g,
	     (g->rex_bits & 8 || g->form->flags & F_VEX_W1 ? 0x80 : 0) | (~g->vvvv & 15) << 3 |
		     (g->long_vector ? 4 : 0) | pp,
	     1);
}

static void emit_opcode(struct generator *g)
{
	uint8_t opcode = g->form->opcode;

	if (g->form->flags & F_VEX)
		emit_vex(g);
	else if (g->form->map)
		emit(g, 0x0f, 1);
	if (g->form->map == 2 && !(g->form->flags & F_VEX))
		emit(g, 0x38, 1);
	if (g->form->map == 3 && !(g->form->flags & F_VEX))
		emit(g, 0x3a, 1);
	emit(g, g->form->flags & F_PLUS ? (uint64_t)opcode + (g->rm & 7) : opcode, 1);
}

/* Chooses the operands of a modrm form; returns its address if it has one. */
static void operands_choose(struct generator *g, struct address *a)
{
	const struct form *f = g->form;

	g->reg = f->ext >= 0 ? (unsigned)f->ext : rng_below(&g->rng, registers(g));
	g->rm = rng_below(&g->rng, registers(g));
	g->vvvv = f->flags & F_NOVVVV || !(f->flags & F_VEX) ? 0 : rng_below(&g->rng, registers(g));
	g->memory = !g->registers_only && !(f->flags & F_REG) &&
		    ((f->flags & F_MEM) || rng_below(&g->rng, 2));
	g->long_vector = (f->flags & F_VEX_L) && rng_below(&g->rng, 2);
	/* LOCK with a register is #UD: a few will do. */
	if (g->lock && rng_below(&g->rng, 8) && !(f->flags & F_REG))
		g->memory = true;
	g->rex_bits = 0;
	if (g->reg & 8)
		g->rex_bits |= 4;
	special_before(g);
	if (g->memory) {
		target_choose(g);
		g->gs = g->t->mode == 64 && f->class != CLASS_FAULT && !rng_below(&g->rng, 24);
		address_choose(g, a);
		address_encode(g, a);
		if (g->rip_relative || a->base < 0)
			g->ad32 = g->ad32 && !g->rip_relative;
		if (a->base >= 8)
			g->rex_bits |= 1;
		if (a->index >= 8)
			g->rex_bits |= 2;
		/* Without a base REX.B means nothing. */
		if (g->t->mode == 64 && a->base < 0 && !rng_below(&g->rng, 4))
			g->rex_bits |= 1;
	} else if (g->rm & 8) {
		g->rex_bits |= 1;
	}
}

static void emit_modrm(struct generator *g, const struct address *a)
{
	if (!g->memory) {
		emit(g, 0xc0 | (g->reg & 7) << 3 | (g->rm & 7), 1);
		return;
	}
	emit(g, a->modrm | (g->reg & 7) << 3, 1);
	if (a->has_sib)
		emit(g, a->sib, 1);
	if (g->rip_relative)
		g->disp_at = g->t->len;
	emit(g, (uint64_t)a->disp, a->disp_bytes);
}

/* A branch's target holds a trap. */
static void emit_relative(struct generator *g, unsigned bytes)
{
	uint64_t next = g->t->in.rip + g->t->len + bytes;
	int64_t rel = (int64_t)(trap_random(g) - next);

	if (bytes == 1) { /* backwards before the instruction, or behind its trap */
		rel = rng_below(&g->rng, 2) ? 8 + (int)rng_below(&g->rng, 100)
					    : -40 - (int)rng_below(&g->rng, 80);
	}
	emit(g, (uint64_t)rel, bytes);
}

static void emit_imm(struct generator *g)
{
	unsigned size = g->t->opsize;

	switch (g->form->imm) {
	case IMM_NONE:
		break;
	case IMM_8:
		emit(g, g->imm, 1);
		break;
	case IMM_16:
		emit(g, g->imm, 2);
		break;
	case IMM_Z:
		emit(g, g->imm, size == 2 ? 2 : 4);
		break;
	case IMM_V:
		emit(g, g->imm, size);
		break;
	case IMM_ENTER:
		emit(g, rng_below(&g->rng, 0x40), 2);
		emit(g, rng_below(&g->rng, 4) ? rng_below(&g->rng, 6) : rng_next(&g->rng), 1);
		break;
	case IMM_REL8:
		emit_relative(g, 1);
		break;
	case IMM_REL32:
		emit_relative(g, 4);
		break;
	case IMM_MOFFS:
		emit(g, target_offset(g), g->ad32 || g->t->mode == 32 ? 4 : 8);
		break;
	case IMM_FAR:
		emit(g, trap_random(g), 4);
		emit(g, rng_below(&g->rng, 8) ? USER_CS_32 : 0, 2);
		break;
	}
}

static void rip_relative_fix(struct generator *g)
{
	uint32_t disp;

	if (!g->disp_at)
		return;
	disp = (uint32_t)(target_offset(g) - (g->t->in.rip + g->t->len));
	memcpy(g->t->code + g->disp_at, &disp, 4);
}

/* Anywhere in the code pages; at times the page's end lies within the instruction, or no page
 * follows. */
static uint64_t rip_random(struct rng *r, bool single)
{
	switch (single ? rng_below(r, 32) : 3) {
	case 0:
	case 1:
		return CODE_VA + PAGE_BYTES - 1 - rng_below(r, 14);
	case 2:
		return CODE_VA + CODE_BYTES - 1 - rng_below(r, 14);
	default:
		return CODE_VA + 0x100 + rng_below(r, CODE_BYTES - 0x100 - CODE_MAX - 0x100);
	}
}

/* VMASKMOVPS and its kin: which byte of an element CR2 tells is the processor's choice. */
static bool form_masked(const struct form *f)
{
	if (!(f->flags & F_VEX) || f->map != 2)
		return false;
	return (f->opcode >= 0x2c && f->opcode <= 0x2f) || f->opcode == 0x8c || f->opcode == 0x8e;
}

static void encode(struct generator *g)
{
	const struct form *f = g->form;
	struct address a = {0};

	g->t->wide |= form_masked(f);
	prefixes_choose(g);
	g->imm = value_int(&g->rng);
	g->rex = g->t->mode == 64 && rng_below(&g->rng, 4) == 0;
	if (f->ext >= EXT_R) {
		operands_choose(g, &a);
	} else {
		g->rm = rng_below(&g->rng, registers(g));
		g->reg = g->rm;
		if ((f->flags & F_PLUS) && (g->rm & 8))
			g->rex_bits = 1;
		special_before(g);
		if (f->imm == IMM_MOFFS)
			target_choose(g);
	}
	emit_prefixes(g);
	emit_opcode(g);
	if (f->ext == EXT_FULL)
		emit(g, f->modrm, 1);
	else if (f->ext >= EXT_R)
		emit_modrm(g, &a);
	emit_imm(g);
	rip_relative_fix(g);
	if (f->ext >= EXT_R && g->memory)
		address_assign(g, &a);
}

static void case_begin(struct generator *g, uint64_t seed, bool single)
{
	struct test_case *t = g->t;

	g->rng.state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	for (unsigned n = 0; n < 4; n++)
		rng_next(&g->rng);
	t->seed = seed;
	t->len = 0;
	t->target = 0;
	t->blanks = 0;
	t->wide = false;
	t->undefined = 0;
	memcpy(t->data, g->pool, DATA_BYTES);
	image_random(&g->rng, &t->in);
	t->in.rip = rip_random(&g->rng, single);
}

/* Compatibility mode has the registers' low halves. */
static void case_end(struct test_case *t)
{
	for (unsigned n = 0; n < 16 && t->mode == 32; n++)
		t->in.gpr[n] = n < 8 ? (uint32_t)t->in.gpr[n] : 0;
}

void case_generate(struct test_case *t, const struct form *form, uint64_t seed, const uint8_t *pool)
{
	struct generator g = {.t = t, .form = form, .pool = pool};

	case_begin(&g, seed, true);
	t->form = form;
	t->undefined = form->undefined;
	encode(&g);
	special_after(&g);
	case_end(t);
}

/* Nothing undefined but AF, which only the end of the sequence looks at. */
bool form_plain(const struct form *f, bool memory)
{
	if (f->flags & (F_FAULT | F_STACK | F_NANS) || f->special != SP_NONE)
		return false;
	if ((f->flags & F_MEM) && !memory)
		return false;
	switch (f->class) {
	case CLASS_ALU:
	case CLASS_MOVE:
		return !(f->undefined & ~AF) && (f->imm != IMM_MOFFS);
	case CLASS_BRANCH:
		return f->imm == IMM_REL8;
	case CLASS_SSE:
	case CLASS_MMX:
	case CLASS_X87:
		return true;
	default:
		return false;
	}
}

#define SEQUENCE_MAX 12

/* A conditional branch goes to the next instruction, so that it ends a block and is taken or not.
 */
static void sequence_add(struct generator *g, const struct form *f)
{
	struct test_case *t = g->t;

	if (f->class == CLASS_BRANCH) {
		emit(g, f->opcode, 1);
		emit(g, 0, 1);
		return;
	}
	g->form = f;
	g->rex_bits = 0;
	g->rep = 0;
	g->ad32 = g->gs = g->rip_relative = false;
	g->disp_at = 0;
	encode(g);
	t->undefined |= f->undefined;
	t->form = f;
}

void sequence_generate(struct test_case *t, const struct form *forms, unsigned count, uint64_t seed,
		       const uint8_t *pool)
{
	struct generator g = {.t = t, .pool = pool};
	unsigned length, added = 0;

	case_begin(&g, seed, false);
	t->form = forms;
	length = 2 + rng_below(&g.rng, SEQUENCE_MAX - 1);
	/* Half of the sequences are integer ones alone: there are more forms of the others. */
	bool integer = rng_below(&g.rng, 2);

	g.absolute = rng_below(&g.rng, 2);
	g.registers_only = !g.absolute;
	while (added < length) {
		const struct form *f = &forms[rng_below(&g.rng, count)];

		if (!form_plain(f, g.absolute) || (integer && f->class >= CLASS_SSE))
			continue;
		sequence_add(&g, f);
		added++;
	}
	case_end(t);
}
