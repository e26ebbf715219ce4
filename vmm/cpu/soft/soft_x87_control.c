/* SPDX-License-Identifier: Apache-2.0 */
/* x87 control instructions: words, environment, whole state; none of them computes. */
#include "vmm/cpu/soft/soft_fp.h"

#define CR0_PE	      0x01u
#define CW_RESERVED_1 0x0040u /* reads as 1 */
#define CW_WRITABLE   0x1f3fu
#define CW_INIT	      0x037fu

uint16_t x87_status(const struct soft_cpu *c)
{
	uint16_t sw = (c->x87.sw & (X87_CONDITIONS | X87_SF | X87_EXCEPTIONS)) |
		      (uint16_t)(c->x87.top << 11);

	/* ES and B: an unmasked exception is pending. */
	return c->x87.sw & ~c->x87.cw & X87_EXCEPTIONS ? sw | 0x8080 : sw;
}

void x87_status_set(struct soft_cpu *c, uint16_t status)
{
	c->x87.sw = status & (X87_CONDITIONS | X87_SF | X87_EXCEPTIONS);
	c->x87.top = status >> 11 & 7;
}

static unsigned tag_classify(const struct soft_f80 *r)
{
	unsigned exponent = r->sign_exponent & 0x7fff;

	if (exponent == 0 && r->mantissa == 0)
		return 1;
	if (exponent == 0 || exponent == 0x7fff || !(r->mantissa >> 63))
		return 2;
	return 0;
}

uint16_t x87_tags(const struct soft_cpu *c)
{
	uint16_t tags = 0;

	for (unsigned n = 0; n < 8; n++) {
		unsigned tag = c->x87.tag >> (2 * n) & 3;

		if (tag != 3)
			tag = tag_classify((const struct soft_f80 *)&c->x87.st[n]);
		tags |= (uint16_t)(tag << (2 * n));
	}
	return tags;
}

void x87_control_set(struct soft_cpu *c, uint16_t cw)
{
	c->x87.cw = (cw & CW_WRITABLE) | CW_RESERVED_1;
}

void x87_init(struct soft_cpu *c)
{
	c->x87.cw = CW_INIT;
	c->x87.sw = 0;
	c->x87.top = 0;
	c->x87.tag = X87_TAG_EMPTY;
	c->x87.fop = 0;
	c->x87.fip = c->x87.fdp = 0;
}

static inline void check_available(struct soft_cpu *c, const struct insn *i)
{
	if (unlikely(c->cr0 & (FP_CR0_EM | FP_CR0_TS)))
		soft_raise(c, i, VEC_NM);
}

static inline void check_waiting(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	if (unlikely(fp_x87_pending(c)))
		soft_raise(c, i, VEC_MF);
}

/* ---- Environment: 14 bytes (16-bit operand size) or 28; SDM 1, figures 8-9 to 8-12 ----------- */

static unsigned env_size(const struct insn *i)
{
	return i->opsize == 2 ? 14 : 28;
}

static bool env_real(const struct soft_cpu *c)
{
	return !(c->cr0 & CR0_PE) || (c->rflags & FLAG_VM);
}

static void put16(uint8_t *p, uint64_t v)
{
	uint16_t word = (uint16_t)v;

	memcpy(p, &word, 2);
}

static void put32(uint8_t *p, uint64_t v)
{
	uint32_t word = (uint32_t)v;

	memcpy(p, &word, 4);
}

static uint16_t get16(const uint8_t *p)
{
	uint16_t word;

	memcpy(&word, p, 2);
	return word;
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t word;

	memcpy(&word, p, 4);
	return word;
}

/* The selectors are zero, as on CPUs that deprecate FCS and FDS (CPUID.7.0:EBX[13]). */
static void env_encode16(const struct soft_cpu *c, uint8_t *env)
{
	bool real = env_real(c);

	put16(env, c->x87.cw);
	put16(env + 2, x87_status(c));
	put16(env + 4, x87_tags(c));
	put16(env + 6, c->x87.fip);
	put16(env + 8, real ? (c->x87.fip >> 16 & 0xf) << 12 | c->x87.fop : 0);
	put16(env + 10, c->x87.fdp);
	put16(env + 12, real ? (c->x87.fdp >> 16 & 0xf) << 12 : 0);
}

static void env_encode32(const struct soft_cpu *c, uint8_t *env)
{
	put32(env, c->x87.cw | 0xffff0000u);
	put32(env + 4, x87_status(c) | 0xffff0000u);
	put32(env + 8, x87_tags(c) | 0xffff0000u);
	if (env_real(c)) {
		put32(env + 12, c->x87.fip & 0xffff);
		put32(env + 16, (c->x87.fip >> 16 & 0xffff) << 12 | c->x87.fop);
		put32(env + 20, c->x87.fdp & 0xffff);
		put32(env + 24, (c->x87.fdp >> 16 & 0xffff) << 12);
	} else {
		put32(env + 12, c->x87.fip);
		put32(env + 16, (uint32_t)c->x87.fop << 16);
		put32(env + 20, c->x87.fdp);
		put32(env + 24, 0xffff0000u);
	}
}

static void env_encode(const struct soft_cpu *c, const struct insn *i, uint8_t *env)
{
	if (i->opsize == 2)
		env_encode16(c, env);
	else
		env_encode32(c, env);
}

static void env_decode16(struct soft_cpu *c, const uint8_t *env)
{
	bool real = env_real(c);
	uint16_t high = get16(env + 8);

	x87_control_set(c, get16(env));
	x87_status_set(c, get16(env + 2));
	c->x87.tag = get16(env + 4);
	c->x87.fip = get16(env + 6) | (real ? (uint64_t)(high >> 12) << 16 : 0);
	c->x87.fop = real ? high & 0x7ff : c->x87.fop;
	c->x87.fdp = get16(env + 10) | (real ? (uint64_t)(get16(env + 12) >> 12) << 16 : 0);
}

static void env_decode32(struct soft_cpu *c, const uint8_t *env)
{
	uint32_t high = get32(env + 16);

	x87_control_set(c, get16(env));
	x87_status_set(c, get16(env + 4));
	c->x87.tag = get16(env + 8);
	if (env_real(c)) {
		c->x87.fip = get16(env + 12) | (uint64_t)(high >> 12 & 0xffff) << 16;
		c->x87.fop = high & 0x7ff;
		c->x87.fdp = get16(env + 20) | (uint64_t)(get32(env + 24) >> 12 & 0xffff) << 16;
	} else {
		c->x87.fip = get32(env + 12);
		c->x87.fop = high >> 16 & 0x7ff;
		c->x87.fdp = get32(env + 20);
	}
}

static void env_decode(struct soft_cpu *c, const struct insn *i, const uint8_t *env)
{
	if (i->opsize == 2)
		env_decode16(c, env);
	else
		env_decode32(c, env);
}

static __attribute__((noinline)) void env_store(struct soft_cpu *c, const struct insn *i)
{
	uint8_t env[28];

	env_encode(c, i, env);
	soft_store_bytes(c, i, soft_ea(c, i), env, env_size(i));
	c->x87.cw |= X87_EXCEPTIONS;
}

static __attribute__((noinline)) void env_load(struct soft_cpu *c, const struct insn *i)
{
	uint8_t env[28];

	soft_load_bytes(c, i, soft_ea(c, i), env, env_size(i));
	env_decode(c, i, env);
}

/* FNSAVE and FRSTOR: the environment, then ST(0)..ST(7), 10 bytes each. */
static __attribute__((noinline)) void state_store(struct soft_cpu *c, const struct insn *i)
{
	unsigned size = env_size(i);
	uint8_t image[28 + 80];

	env_encode(c, i, image);
	for (unsigned n = 0; n < 8; n++)
		memcpy(image + size + 10 * n, x87_reg(c, c->x87.top + n), 10);
	soft_store_bytes(c, i, soft_ea(c, i), image, size + 80);
	x87_init(c);
}

static __attribute__((noinline)) void state_load(struct soft_cpu *c, const struct insn *i)
{
	unsigned size = env_size(i);
	uint8_t image[28 + 80];

	soft_load_bytes(c, i, soft_ea(c, i), image, size + 80);
	env_decode(c, i, image);
	for (unsigned n = 0; n < 8; n++)
		memcpy(x87_reg(c, c->x87.top + n), image + size + 10 * n, 10);
}

static fp_next x87_fnstenv(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	env_store(c, i);
	return SOFT_NEXT(c, i);
}

static fp_next x87_fldenv(struct soft_cpu *c, const struct insn *i)
{
	check_waiting(c, i);
	env_load(c, i);
	return SOFT_NEXT(c, i);
}

static fp_next x87_fnsave(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	state_store(c, i);
	return SOFT_NEXT(c, i);
}

static fp_next x87_frstor(struct soft_cpu *c, const struct insn *i)
{
	check_waiting(c, i);
	state_load(c, i);
	return SOFT_NEXT(c, i);
}

static fp_next x87_fldcw(struct soft_cpu *c, const struct insn *i)
{
	check_waiting(c, i);
	x87_control_set(c, soft_load16(c, i, soft_ea(c, i)));
	return SOFT_NEXT(c, i);
}

static fp_next x87_fnstcw(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	soft_store16(c, i, soft_ea(c, i), c->x87.cw);
	return SOFT_NEXT(c, i);
}

static fp_next x87_fnstsw(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	soft_store16(c, i, soft_ea(c, i), x87_status(c));
	return SOFT_NEXT(c, i);
}

static fp_next x87_fnstsw_ax(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	c->reg[RAX] = (c->reg[RAX] & ~UINT64_C(0xffff)) | x87_status(c);
	return SOFT_NEXT(c, i);
}

static fp_next x87_fnclex(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	c->x87.sw &= X87_CONDITIONS;
	return SOFT_NEXT(c, i);
}

static fp_next x87_fninit(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	x87_init(c);
	return SOFT_NEXT(c, i);
}

/* FENI, FDISI, FSETPM: the 8087's and the 80287's, no operation since. */
static fp_next x87_obsolete(struct soft_cpu *c, const struct insn *i)
{
	check_available(c, i);
	return SOFT_NEXT(c, i);
}

static insn_fn control_memory(const struct soft_decode *d)
{
	static const insn_fn d9[8] = {
		[4] = x87_fldenv, [5] = x87_fldcw, [6] = x87_fnstenv, [7] = x87_fnstcw};
	static const insn_fn dd[8] = {[4] = x87_frstor, [6] = x87_fnsave, [7] = x87_fnstsw};

	if (d->opcode == 0xd9)
		return d9[d->reg3];
	return d->opcode == 0xdd ? dd[d->reg3] : NULL;
}

static insn_fn control_register(const struct soft_decode *d)
{
	static const insn_fn db[8] = {x87_obsolete, x87_obsolete, x87_fnclex, x87_fninit,
				      x87_obsolete};

	if (d->opcode == 0xdb && (d->modrm & 0xf8) == 0xe0)
		return db[d->modrm & 7];
	return d->opcode == 0xdf && d->modrm == 0xe0 ? x87_fnstsw_ax : NULL;
}

bool fp_select_x87_control(struct soft_decode *d)
{
	insn_fn fn = d->mod == 3 ? control_register(d) : control_memory(d);

	if (fn)
		d->out->fn = fn;
	return fn;
}
