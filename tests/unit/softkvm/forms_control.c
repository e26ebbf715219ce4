/* SPDX-License-Identifier: Apache-2.0 */
/* Forms: control and debug registers, MSRs, table registers, flags, ports, and what flushes. */
#include "tests/unit/softkvm/softkvm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Control registers ----------------------------------------------------------------------- */

/* Flips bits: one of any, or some of those that have a meaning. */
static uint64_t flip(struct rng *r, uint64_t value, uint64_t known)
{
	if (rng_below(r, 2))
		return value ^ (rng_next(r) & rng_next(r) & known);
	return value ^ UINT64_C(1) << rng_below(r, rng_below(r, 2) ? 32 : 64);
}

static uint64_t cr_value(struct gen *g, unsigned cr)
{
	const struct vcpu_state *s = &g->t->in;
	struct rng *r = &g->rng;

	switch (cr) {
	case 0:
		return flip(r, s->cr0, 0xe005003f);
	case 2:
		return value_any(r);
	case 3: /* other tables would be no tables */
		return s->cr3 ^
		       (rng_next(r) & (rng_below(r, 2) ? 0x18 : UINT64_C(0xfffe000000000000)));
	case 4:
		return flip(r, s->cr4, 0x7ff);
	case 8:
		return rng_below(r, 2) ? rng_below(r, 16) : value_any(r);
	default:
		return value_any(r);
	}
}

static void emit_mov_cr(struct gen *g, uint8_t opcode, unsigned cr, unsigned reg)
{
	if (cr >= 8)
		EMIT(g, 0x44);
	EMIT(g, 0x0f, opcode);
	emit_modrm(g, cr & 7, reg);
}

static void mov_to_cr(struct gen *g, uint32_t cr)
{
	emit_load(g, RAX, cr_value(g, cr));
	emit_mov_cr(g, 0x22, cr, RAX);
}

static void mov_from_cr(struct gen *g, uint32_t cr)
{
	emit_mov_cr(g, 0x20, cr, RBX);
}

/* Those that do not exist: #UD. */
static void mov_cr_none(struct gen *g, uint32_t arg)
{
	static const uint8_t none[] = {1, 5, 6, 7, 9, 10, 15};
	unsigned cr = none[rng_below(&g->rng, g->width == 64 ? COUNT(none) : 4)];

	(void)arg;
	emit_mov_cr(g, rng_below(&g->rng, 2) ? 0x20 : 0x22, cr, RAX);
}

static void clts(struct gen *g, uint32_t arg)
{
	(void)arg;
	if (rng_below(&g->rng, 2))
		g->t->in.cr0 |= 8;
	EMIT(g, 0x0f, 0x06);
}

/* TS and EM stay clear after it, or no x87 form behind it would run. */
static void lmsw(struct gen *g, uint32_t memory)
{
	uint64_t value = rng_next(&g->rng);

	if (memory)
		emit_load(g, RDI, operand_offset(g, operand_new(g, 2, value)));
	else
		emit_load(g, RCX, value);
	if (memory)
		emit_memory_prefix(g);
	EMIT(g, 0x0f, 0x01);
	if (memory)
		emit_modrm_memory(g, 6);
	else
		emit_modrm(g, 6, RCX);
}

static void operand_prefix(struct gen *g)
{
	if (rng_one_in(&g->rng, 3))
		EMIT(g, 0x66);
	else if (g->width == 64 && rng_below(&g->rng, 2))
		EMIT(g, 0x48);
}

static void smsw(struct gen *g, uint32_t memory)
{
	if (memory) {
		emit_load(g, RDI, operand_offset(g, operand_new(g, 8, rng_next(&g->rng))));
		emit_memory_prefix(g);
	}
	operand_prefix(g);
	EMIT(g, 0x0f, 0x01);
	if (memory)
		emit_modrm_memory(g, 4);
	else
		emit_modrm(g, 4, RDX);
}

/* ---- Debug registers ------------------------------------------------------------------------- */

/* Breakpoints may be armed only where nothing is. GD is on in one case of eight. */
static void mov_to_dr(struct gen *g, uint32_t dr)
{
	uint64_t value = dr < 4 ? UINT64_C(0xffff940000000000) | (rng_next(&g->rng) & 0xffffff)
				: value_any(&g->rng);

	if (rng_one_in(&g->rng, 8))
		g->t->in.dr7 |= 0x2000;
	if (dr >= 4 && rng_below(&g->rng, 2))
		value = (uint32_t)value;
	emit_load(g, RCX, value);
	EMIT(g, 0x0f, 0x23);
	emit_modrm(g, dr, RCX);
}

static void mov_from_dr(struct gen *g, uint32_t dr)
{
	if (rng_one_in(&g->rng, 8))
		g->t->in.dr7 |= 0x2000;
	g->t->in.dr6 |= rng_next(&g->rng) & 0xe00f;
	EMIT(g, 0x0f, 0x21);
	emit_modrm(g, dr, RBX);
}

/* ---- MSRs ------------------------------------------------------------------------------------ */

/* Those of the model whose value is no clock; not 0xfe, for KVM has MTRRs. */
static const uint32_t msrs[] = {
	0x17,	    0x1b,	0x34,	    0x3a,	0x8b,	    0x174,
	0x175,	    0x176,	0x1a0,	    0x277,	0x802,	    0x803,
	0x80b,	    0x80f,	0x8ff,	    0xc0000080, 0xc0000081, 0xc0000082,
	0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102,
};
/* Those that neither it nor KVM has. */
static const uint32_t msrs_none[] = {
	0x12,	    0x9f,	0x1b3,	    0x4c0,	0x900,
	0x1000,	    0x4b564e99, 0x7fffffff, 0xbfffffff, 0xc0000085,
	0xc0000200, 0xc0001000, 0xc0010200, 0xdeadbeef, 0xffffffff,
};

static uint64_t msr_value(struct gen *g, uint32_t msr)
{
	struct rng *r = &g->rng;

	switch (msr) {
	case 0xc0000080:
		return flip(r, g->t->in.efer, 0xd01);
	case 0x277:
		return UINT64_C(0x0007040600070406) ^
		       (rng_next(r) & rng_next(r) &
			(rng_below(r, 2) ? UINT64_C(0x0707070707070707) : UINT64_MAX));
	case 0x1b:
		return 0xfee00d00;
	case 0x1a0:
		return 1;
	case 0x8b:
		return 0;
	default:
		return rng_below(r, 2) ? address_any(r) : value_any(r);
	}
}

static void rdmsr(struct gen *g, uint32_t none)
{
	emit_load(g, RCX,
		  none ? msrs_none[rng_below(&g->rng, COUNT(msrs_none))]
		       : msrs[rng_below(&g->rng, COUNT(msrs))]);
	EMIT(g, 0x0f, 0x32);
}

static void wrmsr(struct gen *g, uint32_t none)
{
	uint32_t msr = none ? msrs_none[rng_below(&g->rng, COUNT(msrs_none))]
			    : msrs[rng_below(&g->rng, COUNT(msrs))];
	uint64_t value = msr_value(g, msr);

	emit_load(g, RCX, msr);
	emit_load(g, RAX, (uint32_t)value);
	emit_load(g, RDX, value >> 32);
	EMIT(g, 0x0f, 0x30);
}

/* ---- GDTR, IDTR ------------------------------------------------------------------------------ */

/* The tables that are there, or a base of any kind: then nothing may need them any more. */
static void load_table(struct gen *g, uint32_t reg)
{
	struct rng *r = &g->rng;
	uint64_t base = reg == 2 ? g->t->in.gdtr.base : g->t->in.idtr.base;
	uint64_t limit = reg == 2 ? GDT_LIMIT : g->t->in.idtr.limit;
	uint32_t gpa;

	if (rng_one_in(r, 4))
		base = address_any(r);
	if (rng_one_in(r, 4))
		limit = rng_next(r) & 0xffff;
	gpa = operand_new(g, 2, limit);
	patch_add(g, gpa + 2, 8, base);
	emit_load(g, RDI, operand_offset(g, gpa));
	emit_memory_prefix(g);
	if (rng_one_in(r, 4))
		EMIT(g, 0x66);
	EMIT(g, 0x0f, 0x01);
	emit_modrm_memory(g, reg);
}

static void store_table(struct gen *g, uint32_t reg)
{
	emit_load(g, RDI, operand_offset(g, operand_new(g, 8, rng_next(&g->rng))));
	emit_memory_prefix(g);
	if (rng_one_in(&g->rng, 4))
		EMIT(g, 0x66);
	EMIT(g, 0x0f, 0x01);
	emit_modrm_memory(g, reg);
}

/* ---- Flags ----------------------------------------------------------------------------------- */

/* TF has forms of its own. */
static void popf(struct gen *g, uint32_t size16)
{
	uint64_t flags = rng_next(&g->rng) & ~UINT64_C(0x100);
	unsigned size = size16 ? 2 : g->width == 64 ? 8 : 4;
	uint32_t gpa = frame_new(g, &flags, 1, size);

	emit_load(g, RSP, frame_offset(g, gpa));
	if ((g->width == 16) != !!size16)
		EMIT(g, 0x66);
	EMIT(g, 0x9d);
}

static void pushf(struct gen *g, uint32_t size16)
{
	if ((g->width == 16) != !!size16)
		EMIT(g, 0x66);
	EMIT(g, 0x9c);
}

/* ---- Ports ----------------------------------------------------------------------------------- */

static uint16_t port_any(struct gen *g)
{
	return rng_below(&g->rng, 3) ? (uint16_t)rng_below(&g->rng, 0x110)
				     : (uint16_t)rng_next(&g->rng);
}

static void port(struct gen *g, uint32_t opcode)
{
	emit_load(g, RDX, port_any(g));
	if (rng_one_in(&g->rng, 4))
		EMIT(g, 0x66);
	EMIT(g, (uint8_t)opcode);
}

static void port_imm(struct gen *g, uint32_t opcode)
{
	EMIT(g, (uint8_t)opcode, (uint8_t)rng_next(&g->rng));
}

/* ---- Others ---------------------------------------------------------------------------------- */

static void raw(struct gen *g, uint32_t bytes)
{
	while (bytes) {
		EMIT(g, (uint8_t)bytes);
		bytes >>= 8;
	}
}

static void invlpg(struct gen *g, uint32_t arg)
{
	(void)arg;
	emit_load(g, RDI, rng_below(&g->rng, 2) ? zoo_address(g, 1) : address_any(&g->rng));
	EMIT(g, 0x0f, 0x01);
	emit_modrm_memory(g, 7);
}

static void cpuid(struct gen *g, uint32_t arg)
{
	static const uint32_t leaves[] = {0x0,	      0x1,	  0x2,	      0x4,
					  0x6,	      0x7,	  0x40000000, 0x80000000,
					  0x80000001, 0x80000002, 0x80000008};

	(void)arg;
	emit_load(g, RAX, leaves[rng_below(&g->rng, COUNT(leaves))]);
	emit_load(g, RCX, rng_below(&g->rng, 3));
	EMIT(g, 0x0f, 0xa2);
}

/* LOCK before anything that is not a read-modify-write: #UD. */
static void locked(struct gen *g, uint32_t arg)
{
	static const uint32_t opcodes[] = {0xa20f, 0x300f, 0x060f, 0x9090, 0xfa, 0xf4, 0xf8010f};

	(void)arg;
	EMIT(g, 0xf0);
	raw(g, opcodes[rng_below(&g->rng, COUNT(opcodes))]);
}

static const struct form list[] = {
	{"mov_to_cr0", mov_to_cr, 0, IN_ALL, F_ALONE, 0},
	{"mov_to_cr2", mov_to_cr, 2, IN_ALL, 0, 0},
	{"mov_to_cr3", mov_to_cr, 3, IN_ALL, 0, 0},
	{"mov_to_cr4", mov_to_cr, 4, IN_ALL, 0, 0},
	{"mov_to_cr8", mov_to_cr, 8, IN_LONG, 0, 0},
	{"mov_from_cr0", mov_from_cr, 0, IN_ALL, 0, 0},
	{"mov_from_cr2", mov_from_cr, 2, IN_ALL, 0, 0},
	{"mov_from_cr3", mov_from_cr, 3, IN_ALL, 0, 0},
	{"mov_from_cr4", mov_from_cr, 4, IN_ALL, 0, 0},
	{"mov_from_cr8", mov_from_cr, 8, IN_LONG, 0, 0},
	{"mov_cr_none", mov_cr_none, 0, IN_ALL, 0, 0},
	{"clts", clts, 0, IN_ALL, 0, 0},
	{"lmsw", lmsw, 0, IN_ALL, 0, 0},
	{"lmsw_mem", lmsw, 1, IN_ALL, 0, 0},
	{"smsw", smsw, 0, IN_ALL, 0, 0},
	{"smsw_mem", smsw, 1, IN_ALL, 0, 0},
	{"mov_to_dr0", mov_to_dr, 0, IN_ALL, 0, 0},
	{"mov_to_dr3", mov_to_dr, 3, IN_ALL, 0, 0},
	{"mov_to_dr4", mov_to_dr, 4, IN_ALL, 0, 0},
	{"mov_to_dr6", mov_to_dr, 6, IN_ALL, 0, 0},
	{"mov_to_dr7", mov_to_dr, 7, IN_ALL, 0, 0},
	{"mov_from_dr1", mov_from_dr, 1, IN_ALL, 0, 0},
	{"mov_from_dr5", mov_from_dr, 5, IN_ALL, 0, 0},
	{"mov_from_dr6", mov_from_dr, 6, IN_ALL, 0, 0},
	{"mov_from_dr7", mov_from_dr, 7, IN_ALL, 0, 0},
	{"rdmsr", rdmsr, 0, IN_ALL, 0, 0},
	{"rdmsr_none", rdmsr, 1, IN_ALL, 0, 0},
	{"wrmsr", wrmsr, 0, IN_ALL, 0, 0},
	{"wrmsr_none", wrmsr, 1, IN_ALL, 0, 0},
	{"sgdt", store_table, 0, IN_ALL, 0, 0},
	{"sidt", store_table, 1, IN_ALL, 0, 0},
	{"lgdt", load_table, 2, IN_ALL, F_ALONE, 0},
	{"lidt", load_table, 3, IN_ALL, F_ALONE, 0},
	{"cli", raw, 0xfa, IN_ALL, 0, 0},
	{"sti", raw, 0xfb, IN_ALL, 0, 0},
	{"popf", popf, 0, IN_ALL, 0, 0},
	{"popf16", popf, 1, IN_ALL, 0, 0},
	{"pushf", pushf, 0, IN_ALL, 0, 0},
	{"pushf16", pushf, 1, IN_ALL, 0, 0},
	{"in", port, 0xed, IN_ALL, 0, 0},
	{"in8", port, 0xec, IN_ALL, 0, 0},
	{"out", port, 0xef, IN_ALL, 0, 0},
	{"out8", port, 0xee, IN_ALL, 0, 0},
	{"in_imm", port_imm, 0xe5, IN_ALL, 0, 0},
	{"out_imm", port_imm, 0xe6, IN_ALL, 0, 0},
	{"wbinvd", raw, 0x090f, IN_ALL, 0, 0},
	{"invd", raw, 0x080f, IN_ALL, 0, 0},
	{"swapgs", raw, 0xf8010f, IN_ALL, 0, 0},
	{"rdtscp", raw, 0xf9010f, IN_ALL, 0, 0},
	{"monitor", raw, 0xc8010f, IN_KERNEL, 0, 0},
	{"rdpmc", raw, 0x330f, IN_ALL, 0, 0},
	{"rsm", raw, 0xaa0f, IN_ALL, 0, 0},
	{"ud2", raw, 0x0b0f, IN_ALL, 0, 0},
	{"invlpg", invlpg, 0, IN_PROT, 0, 0},
	{"cpuid", cpuid, 0, IN_KERNEL, 0, 0},
	{"locked", locked, 0, IN_ALL, 0, 0},
};

unsigned forms_control(struct form *forms, unsigned count)
{
	for (unsigned n = 0; n < COUNT(list); n++)
		forms[count++] = list[n];
	return count;
}
