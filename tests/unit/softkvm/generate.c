/* SPDX-License-Identifier: Apache-2.0 */
/* Cases from seeds: the state they begin with, the zoo of descriptors, and the emitter of code. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/softkvm/softkvm.h"

#define SEQUENCE_MAX 4u
#define FRAME_BYTES  0x600u

/* ---- Emitter --------------------------------------------------------------------------------- */

void emit_bytes(struct gen *g, const uint8_t *bytes, unsigned n)
{
	cr_assert_leq(g->t->len + n, CODE_MAX);
	memcpy(g->t->code + g->t->len, bytes, n);
	g->t->len += n;
}

void emit_imm(struct gen *g, uint64_t value, unsigned size)
{
	uint8_t bytes[8];

	memcpy(bytes, &value, sizeof(bytes));
	emit_bytes(g, bytes, size);
}

void emit_load(struct gen *g, unsigned reg, uint64_t value)
{
	if (g->width == 64)
		EMIT(g, reg >= 8 ? 0x49 : 0x48);
	else if (g->width == 16)
		EMIT(g, 0x66);
	EMIT(g, (uint8_t)(0xb8 | (reg & 7)));
	emit_imm(g, value, g->width == 64 ? 8 : 4);
}

void emit_memory_prefix(struct gen *g)
{
	if (g->width == 16)
		EMIT(g, 0x67);
}

void emit_modrm_memory(struct gen *g, unsigned reg)
{
	EMIT(g, (uint8_t)(reg << 3 | RDI));
}

void emit_modrm(struct gen *g, unsigned reg, unsigned rm)
{
	EMIT(g, (uint8_t)(0xc0 | reg << 3 | rm));
}

/* ---- Memory ---------------------------------------------------------------------------------- */

void patch_add(struct gen *g, uint64_t gpa, unsigned size, uint64_t value)
{
	struct test_case *t = g->t;

	cr_assert_lt(t->patches, PATCHES_MAX);
	cr_assert_leq(gpa + size, IMAGE_BYTES);
	t->patch[t->patches++] = (struct patch){(uint32_t)gpa, size, value};
}

uint32_t operand_new(struct gen *g, unsigned size, uint64_t value)
{
	uint32_t gpa = GPA_DATA + g->data;

	cr_assert_leq(size, 16);
	g->data = (g->data + 0x40) % (DATA_BYTES - 0x80);
	patch_add(g, gpa, size < 8 ? size : 8, value);
	return gpa;
}

uint32_t frame_new(struct gen *g, const uint64_t *values, unsigned count, unsigned size)
{
	uint32_t gpa = GPA_FRAME + g->frame;

	g->frame = (g->frame + 0x60) % FRAME_BYTES;
	for (unsigned n = 0; n < count; n++)
		patch_add(g, gpa + n * size, size, values[n]);
	return gpa;
}

uint64_t operand_offset(const struct gen *g, uint32_t gpa)
{
	return g->t->mode == MODE_REAL ? gpa - GPA_DATA : gpa;
}

uint64_t frame_offset(const struct gen *g, uint32_t gpa)
{
	return g->t->mode == MODE_REAL ? gpa - 0x10000 : gpa;
}

/* ---- State ----------------------------------------------------------------------------------- */

static bool mode_user(enum run_mode mode)
{
	return IN(mode) & IN_CPL3;
}

/* Paging without long mode: none, PAE, 32-bit. */
static void paging_vary(struct gen *g, struct vcpu_state *s)
{
	switch (rng_below(&g->rng, 3)) {
	case 0:
		return;
	case 1:
		s->cr3 = GPA_PAE;
		break;
	default:
		s->cr3 = GPA_PD32;
		s->cr4 = (s->cr4 & ~UINT64_C(0x20)) | 0x10;
		break;
	}
	s->cr0 |= UINT64_C(0x80010000);
}

static void state_vary(struct gen *g, struct vcpu_state *s)
{
	struct rng *r = &g->rng;

	for (unsigned n = 0; n < 16; n++)
		if (n != RSP)
			s->gpr[n] = value_any(r);
	s->rip += rng_below(r, 0x600);
	s->rflags = 2 | (rng_next(r) & 0x2008d5) | (rng_one_in(r, 3) ? 0x200 : 0);
	if (rng_below(r, 2))
		s->rflags |= rng_next(r) & 0x3000;
	if (IN(g->t->mode) & IN_LEGACY)
		paging_vary(g, s);
	if (rng_below(r, 2))
		s->cr0 ^= rng_next(r) & 0x50000;
	if (rng_below(r, 2))
		s->cr4 ^= rng_next(r) & 0x10c;
	s->cr2 = address_any(r);
	for (unsigned n = 0; n < 4; n++)
		s->dr[n] = UINT64_C(0xffff900000000000) + rng_below(r, 0x10000);
	g->t->cr8 = rng_below(r, 16);
	for (unsigned n = 160; n < 416; n++)
		s->fxsave[n] = (uint8_t)rng_next(r);
	s->kernel_gs_base = UINT64_C(0xffff910000000000) + rng_below(r, 0x10000);
	s->tsc_aux = 0;
	if (IN(g->t->mode) & IN_LONG) {
		s->seg[SEG_FS].base = UINT64_C(0xffff920000000000) + rng_below(r, 0x10000);
		s->seg[SEG_GS].base = UINT64_C(0xffff930000000000) + rng_below(r, 0x10000);
	}
}

/* Each slot's second half: mostly a good upper half of a system descriptor. */
static void zoo_put(struct gen *g, struct patch *out, unsigned slot, uint32_t table)
{
	struct rng *r = &g->rng;
	uint32_t high = rng_one_in(r, 8) ? (uint32_t)rng_next(r) : 0;

	out[0] = (struct patch){table + slot * 16, 8, descriptor_any(g)};
	out[1] = (struct patch){table + slot * 16 + 8, 8, high};
}

void zoo_fill(const struct test_case *t, uint8_t *ram)
{
	struct test_case copy = {.mode = t->mode};
	struct gen g = {.rng = {t->seed * 2 + 1}, .t = &copy, .zoo = t->form->zoo};
	struct patch p[2];

	g.cpl = mode_user(t->mode) ? 3 : 0;
	g.width = IN(t->mode) & IN_LONG ? 64 : 32;
	for (unsigned slot = 0; slot < ZOO_SLOTS * 2; slot++) {
		zoo_put(&g, p, slot % ZOO_SLOTS, slot < ZOO_SLOTS ? GPA_GDT + SEL_ZOO : GPA_LDT);
		memcpy(ram + p[0].gpa, &p[0].value, 8);
		memcpy(ram + p[1].gpa, &p[1].value, 8);
	}
}

static void gen_begin(struct gen *g, struct test_case *t, enum run_mode mode, uint64_t seed)
{
	memset(t, 0, sizeof(*t));
	memset(g, 0, sizeof(*g));
	t->mode = mode;
	t->seed = seed;
	g->t = t;
	g->rng.state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	g->cpl = mode_user(mode) ? 3 : 0;
	g->width = mode == MODE_REAL ? 16 : IN(mode) & IN_LONG ? 64 : 32;
	state_base(&t->in, mode);
	state_vary(g, &t->in);
}

void case_generate(struct test_case *t, const struct form *f, enum run_mode mode, uint64_t seed)
{
	struct gen g;

	gen_begin(&g, t, mode, seed);
	t->form = f;
	f->emit(&g, f->arg);
}

void case_sequence(struct test_case *t, const struct form *const *forms, unsigned count,
		   enum run_mode mode, uint64_t seed)
{
	struct gen g;
	unsigned length;

	gen_begin(&g, t, mode, seed);
	length = 2 + rng_below(&g.rng, SEQUENCE_MAX - 1);
	for (unsigned n = 0; n < length; n++) {
		t->form = forms[rng_below(&g.rng, count)];
		t->form->emit(&g, t->form->arg);
	}
}
