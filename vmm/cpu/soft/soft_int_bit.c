/* SPDX-License-Identifier: Apache-2.0 */
/* BT, BTS, BTR, BTC, BSF, BSR. */
#include "vmm/cpu/soft/soft_int.h"

enum bit_op {
	BIT_TEST,
	BIT_SET,
	BIT_RESET,
	BIT_COMPLEMENT,
};

static inline uint64_t bit_apply(enum bit_op op, uint64_t a, uint64_t bit)
{
	switch (op) {
	case BIT_SET:
		return a | bit;
	case BIT_RESET:
		return a & ~bit;
	case BIT_COMPLEMENT:
		return a ^ bit;
	case BIT_TEST:
	default:
		return a;
	}
}

static const enum locked_type bit_locked_type[] = {
	[BIT_TEST] = LOCKED_TYPES, /* takes no LOCK */
	[BIT_SET] = LOCKED_OR,
	[BIT_RESET] = LOCKED_AND,
	[BIT_COMPLEMENT] = LOCKED_XOR,
};

/* The offset of the bit: a register's value, sign-extended, or the immediate. */
static inline int64_t bit_offset(const struct soft_cpu *c, const struct insn *i)
{
	if (i->opcode == 0xba)
		return (int64_t)(i->imm & (i->opsize * 8 - 1u));
	return (int64_t)int_sign_extend(c->reg[i->reg], i->opsize);
}

/* With a register offset the bit string reaches beyond the operand, in both directions. */
static inline uint64_t bit_linear(struct soft_cpu *c, const struct insn *i, int64_t offset)
{
	const int64_t unit = i->opsize * 8;
	const uint64_t skip = (uint64_t)((offset >> __builtin_ctz((unsigned)unit)) * i->opsize);
	uint64_t ea = soft_ea_sum(c, i) + skip;

	if (likely(!(i->flags & INSN_EA_SLOW)))
		return ea;
	if (i->adsize != 8)
		ea = i->adsize == 4 ? (uint32_t)ea : (uint16_t)ea;
	return soft_linear(c, i->seg, ea);
}

static inline __attribute__((always_inline)) void bit_reg(struct soft_cpu *c, const struct insn *i,
							  enum bit_op op)
{
	const uint64_t bit = 1ull << (bit_offset(c, i) & (i->opsize * 8 - 1));
	const uint64_t a = c->reg[i->rm];

	if (op != BIT_TEST)
		reg_set(c, i->rm, i->opsize, bit_apply(op, a, bit));
	soft_flags_set_cf(c, a & bit);
}

static inline uint64_t bit_host_load(const void *host, unsigned size)
{
	return size == 8   ? soft_host_load64(host)
	       : size == 4 ? soft_host_load32(host)
			   : soft_host_load16(host);
}

static inline void bit_host_store(void *host, unsigned size, uint64_t value)
{
	if (size == 8)
		soft_host_store64(host, value);
	else if (size == 4)
		soft_host_store32(host, (uint32_t)value);
	else
		soft_host_store16(host, (uint16_t)value);
}

static inline __attribute__((always_inline)) void bit_mem(struct soft_cpu *c, const struct insn *i,
							  enum bit_op op)
{
	const int64_t offset = bit_offset(c, i);
	const uint64_t linear = bit_linear(c, i, offset);
	const uint64_t bit = 1ull << (offset & (i->opsize * 8 - 1));
	uint64_t a;

	if (op == BIT_TEST) {
		a = soft_load(c, i, linear, i->opsize);
	} else {
		void *host = soft_write_ptr(c, i, linear, i->opsize);

		if (host) {
			a = bit_host_load(host, i->opsize);
			bit_host_store(host, i->opsize, bit_apply(op, a, bit));
		} else {
			a = soft_load(c, i, linear, i->opsize);
			soft_store(c, i, linear, i->opsize, bit_apply(op, a, bit));
		}
	}
	soft_flags_set_cf(c, a & bit);
}

/* LOCKed at a host pointer: the bit as it was. */
static inline __attribute__((always_inline)) bool bit_host_lock(enum bit_op op, void *host,
								unsigned size, uint64_t bit)
{
	switch (op) {
	case BIT_SET:
		return soft_lock_bts(host, size, bit);
	case BIT_RESET:
		return soft_lock_btr(host, size, bit);
	default:
		return soft_lock_btc(host, size, bit);
	}
}

static inline __attribute__((always_inline)) void bit_lock(struct soft_cpu *c, const struct insn *i,
							   enum bit_op op)
{
	const int64_t offset = bit_offset(c, i);
	const uint64_t linear = bit_linear(c, i, offset);
	const uint64_t bit = (uint64_t)offset & (i->opsize * 8 - 1u);
	void *host = soft_lock_ptr(c, i, linear, i->opsize);
	uint64_t old;
	bool was;

	if (likely(host)) {
		was = bit_host_lock(op, host, i->opsize, bit);
		soft_lock_end(c);
	} else {
		old = soft_locked(c, i, linear, i->opsize, bit_locked_type[op],
				  op == BIT_RESET ? ~(1ull << bit) : 1ull << bit, 0);
		was = old >> bit & 1;
	}
	soft_flags_set_cf(c, was);
}

#define BIT_FORM(name, form, op)                                                                   \
	HANDLER(name##_##form)                                                                     \
	{                                                                                          \
		bit_##form(c, i, op);                                                              \
		return SOFT_NEXT(c, i);                                                            \
	}

BIT_FORM(bt, reg, BIT_TEST)
BIT_FORM(bt, mem, BIT_TEST)
BIT_FORM(bts, reg, BIT_SET)
BIT_FORM(bts, mem, BIT_SET)
BIT_FORM(bts, lock, BIT_SET)
BIT_FORM(btr, reg, BIT_RESET)
BIT_FORM(btr, mem, BIT_RESET)
BIT_FORM(btr, lock, BIT_RESET)
BIT_FORM(btc, reg, BIT_COMPLEMENT)
BIT_FORM(btc, mem, BIT_COMPLEMENT)
BIT_FORM(btc, lock, BIT_COMPLEMENT)

/* ---- BSF, BSR
 * -------------------------------------------------------------------------------------- */

/* A source of zero leaves the whole destination (SDM: undefined; Linux relies on it). CF, OF, SF,
 * AF and PF are undefined: they are those of the source's comparison with zero. */
HANDLER(bit_scan)
{
	const uint64_t source = int_rm_load(c, i);

	if (source) {
		const unsigned at = i->opcode == 0xbc ? (unsigned)__builtin_ctzll(source)
						      : 63 - (unsigned)__builtin_clzll(source);

		reg_set(c, i->reg, i->opsize, at);
	}
	flags_logic64(c, source != 0);
	return SOFT_NEXT(c, i);
}

/* ---- Selection
 * -------------------------------------------------------------------------------------- */

bool soft_select_bit(struct soft_decode *d)
{
	static const insn_fn fns[4][3] = {
		{bt_reg, bt_mem, NULL},
		{bts_reg, bts_mem, bts_lock},
		{btr_reg, btr_mem, btr_lock},
		{btc_reg, btc_mem, btc_lock},
	};
	const unsigned form = !int_is_mem(d) ? 0 : d->prefix_lock ? 2 : 1;

	if (d->opcode == 0xbc || d->opcode == 0xbd) {
		if (soft_select_count(d))
			return true;
		d->out->fn = bit_scan;
		return true;
	}
	if (d->opcode == 0xba) {
		if (d->reg3 < 4)
			return false;
		d->out->fn = fns[d->reg3 - 4][form];
	} else { /* A3 BT, AB BTS, B3 BTR, BB BTC */
		d->out->fn = fns[d->opcode >> 3 & 3][form];
	}
	return true;
}
