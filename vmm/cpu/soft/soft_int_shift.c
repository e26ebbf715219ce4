/* SPDX-License-Identifier: Apache-2.0 */
/* Shifts and rotates: ROL ROR RCL RCR SHL SHR SAR, SHLD, SHRD. */
#include "vmm/cpu/soft/soft_int.h"

enum shift_op {
	SHIFT_ROL,
	SHIFT_ROR,
	SHIFT_RCL,
	SHIFT_RCR,
	SHIFT_SHL,
	SHIFT_SHR,
	SHIFT_SAL, /* D0 /6 does what /4 does */
	SHIFT_SAR,
};

/* What a shift does to the flags. */
enum shift_flags {
	SHIFT_FLAGS_NONE,  /* count 0 */
	SHIFT_FLAGS_CARRY, /* rotates: CF and OF */
	SHIFT_FLAGS_ALL,
};

struct shift_result {
	uint64_t value; /* within the operand's width */
	enum shift_flags flags;
	bool cf, of;
};

#define SHIFT_INLINE static inline __attribute__((always_inline))

/* SDM 2B, RCL/RCR/ROL/ROR. Where OF is undefined (counts above 1) it is what the formula for 1
 * gives. count is masked and not 0; bits is the operand's width. */
SHIFT_INLINE struct shift_result shift_rotate(enum shift_op op, unsigned bits, uint64_t a,
					      unsigned count)
{
	const unsigned n = count & (bits - 1), back = (bits - n) & (bits - 1);
	const uint64_t mask = UINT64_MAX >> (64 - bits);
	struct shift_result s = {.flags = SHIFT_FLAGS_CARRY};

	if (op == SHIFT_ROL) {
		s.value = (a << n | a >> back) & mask;
		s.cf = s.value & 1;
		s.of = (s.value >> (bits - 1) & 1) ^ s.cf;
	} else {
		s.value = (a >> n | a << back) & mask;
		s.cf = s.value >> (bits - 1) & 1;
		s.of = (s.value >> (bits - 2) & 1) ^ s.cf;
	}
	return s;
}

/* Rotates through CF: a rotation of bits + 1 bits, one step a time is fast enough. */
SHIFT_INLINE struct shift_result shift_rotate_carry(enum shift_op op, unsigned bits, uint64_t a,
						    unsigned count, bool cf)
{
	struct shift_result s = {.value = a, .flags = SHIFT_FLAGS_CARRY, .cf = cf};
	const unsigned top = bits - 1;

	count %= bits + 1;
	if (count == 0)
		s.flags = SHIFT_FLAGS_NONE;
	s.of = (a >> top & 1) ^ cf;
	for (unsigned k = 0; k < count; k++) {
		const uint64_t in = s.cf;

		if (op == SHIFT_RCL) {
			s.cf = s.value >> top & 1;
			s.value = (s.value << 1 | in) & (UINT64_MAX >> (64 - bits));
		} else {
			s.cf = s.value & 1;
			s.value = s.value >> 1 | in << top;
		}
	}
	if (op == SHIFT_RCL)
		s.of = (s.value >> top & 1) ^ s.cf;
	return s;
}

/* SHL, SHR, SAR; count is masked, not 0, and may exceed the width of 8- and 16-bit operands. */
SHIFT_INLINE struct shift_result shift_plain(enum shift_op op, unsigned bits, uint64_t a,
					     unsigned count)
{
	const uint64_t mask = UINT64_MAX >> (64 - bits);
	const unsigned top = bits - 1;
	struct shift_result s = {.flags = SHIFT_FLAGS_ALL};

	if (op == SHIFT_SHL) {
		s.value = (a << count) & mask;
		s.cf = count <= bits && (a >> (bits - count) & 1);
		s.of = (s.value >> top & 1) ^ s.cf;
	} else if (op == SHIFT_SHR) {
		s.value = a >> count;
		s.cf = a >> (count - 1) & 1;
		s.of = a >> top & 1;
	} else {
		const int64_t wide = (int64_t)(a << (64 - bits)) >> (64 - bits);

		s.value = (uint64_t)(wide >> count) & mask;
		s.cf = wide >> (count - 1) & 1;
	}
	return s;
}

SHIFT_INLINE struct shift_result shift_compute(const struct soft_cpu *c, enum shift_op op,
					       unsigned bits, uint64_t a, unsigned count)
{
	count &= bits == 64 ? 63 : 31;
	if (count == 0)
		return (struct shift_result){.value = a};
	if (op == SHIFT_ROL || op == SHIFT_ROR)
		return shift_rotate(op, bits, a, count);
	if (op == SHIFT_RCL || op == SHIFT_RCR)
		return shift_rotate_carry(op, bits, a, count, soft_cf(c));
	return shift_plain(op, bits, a, count);
}

SHIFT_INLINE void shift_flags_commit(struct soft_cpu *c, unsigned bits, struct shift_result s)
{
	if (s.flags == SHIFT_FLAGS_NONE)
		return;
	if (s.flags == SHIFT_FLAGS_ALL) {
		c->flag_result = (uint64_t)((int64_t)(s.value << (64 - bits)) >> (64 - bits));
		c->flag_aux = (uint64_t)s.cf << 31 | (uint64_t)(s.cf ^ s.of) << 30;
	} else {
		soft_flags_set_cf_of(c, s.cf, s.of);
	}
}

/* ---- Register forms: one function per operation, width and source of the count --------------- */

#define SHIFT_REG(name, op, N, count)                                                              \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const struct shift_result s =                                                      \
			shift_compute(c, op, N, reg_get##N(c, i->rm), (unsigned)(count));          \
                                                                                                   \
		reg_set##N(c, i->rm, (uint##N##_t)s.value);                                        \
		shift_flags_commit(c, N, s);                                                       \
		return SOFT_NEXT(c, i);                                                            \
	}
#define SHIFT_REG_FORMS(name, op, N)                                                               \
	SHIFT_REG(name##_imm##N, op, N, i->imm)                                                    \
	SHIFT_REG(name##_cl##N, op, N, c->reg[RCX])
#define SHIFT_REG_WIDTHS(name, op)                                                                 \
	SHIFT_REG_FORMS(name, op, 8)                                                               \
	SHIFT_REG_FORMS(name, op, 16)                                                              \
	SHIFT_REG_FORMS(name, op, 32)                                                              \
	SHIFT_REG_FORMS(name, op, 64)

SHIFT_REG_WIDTHS(rol, SHIFT_ROL)
SHIFT_REG_WIDTHS(ror, SHIFT_ROR)
SHIFT_REG_WIDTHS(rcl, SHIFT_RCL)
SHIFT_REG_WIDTHS(rcr, SHIFT_RCR)
SHIFT_REG_WIDTHS(shl, SHIFT_SHL)
SHIFT_REG_WIDTHS(shr, SHIFT_SHR)
SHIFT_REG_WIDTHS(sar, SHIFT_SAR)

#define SHIFT_ROW(name)                                                                            \
	{                                                                                          \
		{name##_imm8, name##_imm16, name##_imm32, name##_imm64},                           \
		{                                                                                  \
			name##_cl8, name##_cl16, name##_cl32, name##_cl64                          \
		}                                                                                  \
	}

static const insn_fn shift_reg_ops[8][2][4] = {
	SHIFT_ROW(rol), SHIFT_ROW(ror), SHIFT_ROW(rcl), SHIFT_ROW(rcr),
	SHIFT_ROW(shl), SHIFT_ROW(shr), SHIFT_ROW(shl), SHIFT_ROW(sar),
};

/* ---- Memory forms: the width at run time
 * ---------------------------------------------------------- */

/* Reads where soft_write_ptr found host, or by the slow path. */
static uint64_t shift_load(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			   const void *host)
{
	if (!host)
		return soft_load(c, i, linear, i->opsize);
	if (i->opsize == 8)
		return soft_host_load64(host);
	if (i->opsize == 4)
		return soft_host_load32(host);
	return i->opsize == 2 ? soft_host_load16(host) : soft_host_load8(host);
}

/* Writes value where soft_write_ptr found host, or by the slow path that it has probed. */
static void shift_store(struct soft_cpu *c, const struct insn *i, uint64_t linear, void *host,
			uint64_t value)
{
	if (!host)
		soft_store(c, i, linear, i->opsize, value);
	else if (i->opsize == 8)
		soft_host_store64(host, value);
	else if (i->opsize == 4)
		soft_host_store32(host, (uint32_t)value);
	else if (i->opsize == 2)
		soft_host_store16(host, (uint16_t)value);
	else
		soft_host_store8(host, (uint8_t)value);
}

SHIFT_INLINE void shift_mem(struct soft_cpu *c, const struct insn *i, enum shift_op op,
			    unsigned count)
{
	const uint64_t linear = soft_ea(c, i);
	void *host = soft_write_ptr(c, i, linear, i->opsize);
	const uint64_t a = shift_load(c, i, linear, host);
	const unsigned bits = i->opsize * 8;
	const struct shift_result s = shift_compute(c, op, bits, a, count);

	shift_store(c, i, linear, host, s.value);
	shift_flags_commit(c, bits, s);
}

#define SHIFT_MEM(name, op)                                                                        \
	HANDLER(name##_mem_imm)                                                                    \
	{                                                                                          \
		shift_mem(c, i, op, (unsigned)i->imm);                                             \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name##_mem_cl)                                                                     \
	{                                                                                          \
		shift_mem(c, i, op, (unsigned)c->reg[RCX]);                                        \
		return SOFT_NEXT(c, i);                                                            \
	}

SHIFT_MEM(rol, SHIFT_ROL)
SHIFT_MEM(ror, SHIFT_ROR)
SHIFT_MEM(rcl, SHIFT_RCL)
SHIFT_MEM(rcr, SHIFT_RCR)
SHIFT_MEM(shl, SHIFT_SHL)
SHIFT_MEM(shr, SHIFT_SHR)
SHIFT_MEM(sar, SHIFT_SAR)

static const insn_fn shift_mem_ops[8][2] = {
	{rol_mem_imm, rol_mem_cl}, {ror_mem_imm, ror_mem_cl}, {rcl_mem_imm, rcl_mem_cl},
	{rcr_mem_imm, rcr_mem_cl}, {shl_mem_imm, shl_mem_cl}, {shr_mem_imm, shr_mem_cl},
	{shl_mem_imm, shl_mem_cl}, {sar_mem_imm, sar_mem_cl},
};

/* ---- SHLD, SHRD
 * -------------------------------------------------------------------------------------- */

/*
 * SDM 2B: a count above the width (16-bit operands) is undefined; as on Intel processors the
 * 32 bits of destination and source rotate on.
 */
static struct shift_result shift_double(bool left, unsigned bits, uint64_t a, uint64_t b,
					unsigned count)
{
	const uint64_t mask = UINT64_MAX >> (64 - bits);
	struct shift_result s = {.value = a};

	count &= bits == 64 ? 63 : 31;
	if (count == 0)
		return s;
	s.flags = SHIFT_FLAGS_ALL;
	if (bits == 16 && count > 16) {
		count -= 16;
		const uint64_t t = a;

		a = b;
		b = t;
	}
	if (left) {
		s.value = (a << count | b >> (bits - count)) & mask;
		s.cf = a >> (bits - count) & 1;
	} else {
		s.value = (a >> count | b << (bits - count)) & mask;
		s.cf = a >> (count - 1) & 1;
	}
	s.of = (s.value ^ a) >> (bits - 1) & 1;
	return s;
}

static inline void shift_double_run(struct soft_cpu *c, const struct insn *i, unsigned count)
{
	const bool left = i->opcode < 0xa8;
	const unsigned bits = i->opsize * 8;
	const uint64_t b = reg_get(c, i->reg, i->opsize);
	struct shift_result s;

	if (i->flags & INSN_MEM) {
		const uint64_t linear = soft_ea(c, i);
		void *host = soft_write_ptr(c, i, linear, i->opsize);

		s = shift_double(left, bits, shift_load(c, i, linear, host), b, count);
		shift_store(c, i, linear, host, s.value);
	} else {
		s = shift_double(left, bits, reg_get(c, i->rm, i->opsize), b, count);
		reg_set(c, i->rm, i->opsize, s.value);
	}
	shift_flags_commit(c, bits, s);
}

HANDLER(shift_double_imm)
{
	shift_double_run(c, i, (unsigned)i->imm);
	return SOFT_NEXT(c, i);
}

HANDLER(shift_double_cl)
{
	shift_double_run(c, i, (unsigned)c->reg[RCX]);
	return SOFT_NEXT(c, i);
}

/* ---- Selection
 * ---------------------------------------------------------------------------------------- */

bool soft_select_shift(struct soft_decode *d)
{
	struct insn *out = d->out;
	bool by_cl;

	if (d->map == 1) {
		out->fn = d->opcode & 1 ? shift_double_cl : shift_double_imm;
		return true;
	}
	by_cl = d->opcode == 0xd2 || d->opcode == 0xd3;
	if (d->opcode == 0xd0 || d->opcode == 0xd1)
		out->imm = 1;
	if (int_is_mem(d))
		out->fn = shift_mem_ops[d->reg3][by_cl];
	else
		out->fn = shift_reg_ops[d->reg3][by_cl][int_size_index(d)];
	return true;
}
