/* SPDX-License-Identifier: Apache-2.0 */
/* VEX-coded instructions: BMI1 and BMI2, and which handler AVX's have. */
#include "vmm/cpu/soft/soft_avx.h"
#include "vmm/cpu/soft/soft_host.h"
#include "vmm/cpu/soft/soft_int.h"

/* ---- Operands -------------------------------------------------------------------------------- */

/* The record's register vvvv. */
static inline unsigned vex_v(const struct insn *i)
{
	return i->opcode;
}

#define VEX_SOURCE(bits)                                                                           \
	static inline uint##bits##_t vex_rm##bits(struct soft_cpu *c, const struct insn *i)        \
	{                                                                                          \
		return i->flags & INSN_MEM ? soft_load##bits(c, i, soft_ea(c, i))                  \
					   : reg_get##bits(c, i->rm);                              \
	}
VEX_SOURCE(32)
VEX_SOURCE(64)

/* The body finds the operand r/m as m, the register vvvv as v, and gives the result r. */
#define VEX_OP(name, N, dest, ...)                                                                 \
	HANDLER(name##N)                                                                           \
	{                                                                                          \
		const uint##N##_t m = vex_rm##N(c, i), v = reg_get##N(c, vex_v(i));                \
		uint##N##_t r;                                                                     \
                                                                                                   \
		(void)v;                                                                           \
		__VA_ARGS__;                                                                       \
		reg_set##N(c, dest, r);                                                            \
		return SOFT_NEXT(c, i);                                                            \
	}
#define VEX_OPS(name, dest, ...)                                                                   \
	VEX_OP(name, 32, dest, __VA_ARGS__) VEX_OP(name, 64, dest, __VA_ARGS__)
#define BITS (8 * sizeof(r))

/* ---- BMI1 (SDM 2A, ANDN to BLSR): flags as logic has them, and CF ---------------------------- */

static inline void logic_flags(struct soft_cpu *c, uint64_t r, unsigned bits, bool cf)
{
	int_flags_logic(c, r, bits / 8);
	soft_flags_set_cf(c, cf);
}

VEX_OPS(andn, i->reg, r = ~v & m; logic_flags(c, r, BITS, false))
VEX_OPS(blsr, vex_v(i), r = (m - 1) & m; logic_flags(c, r, BITS, m == 0))
VEX_OPS(blsmsk, vex_v(i), r = (m - 1) ^ m; logic_flags(c, r, BITS, m == 0))
VEX_OPS(blsi, vex_v(i), r = (0 - m) & m; logic_flags(c, r, BITS, m != 0))

/* Bits from start on, as many as there are. */
static inline uint64_t bits_extract(uint64_t m, unsigned start, unsigned count)
{
	m = start < 64 ? m >> start : 0;
	return count < 64 ? m & ((UINT64_C(1) << count) - 1) : m;
}

VEX_OPS(bextr, i->reg, r = bits_extract(m, v & 0xff, v >> 8 & 0xff); logic_flags(c, r, BITS, false))

/* ---- BMI2 (SDM 2A, 2B) ----------------------------------------------------------------------- */

VEX_OPS(bzhi, i->reg, r = bits_extract(m, 0, v & 0xff); logic_flags(c, r, BITS, (v & 0xff) >= BITS))
VEX_OPS(shlx, i->reg, r = m << (v & (BITS - 1)))
VEX_OPS(shrx, i->reg, r = m >> (v & (BITS - 1)))
VEX_OP(sarx, 32, i->reg, r = (uint32_t)((int32_t)m >> (v & 31)))
VEX_OP(sarx, 64, i->reg, r = (uint64_t)((int64_t)m >> (v & 63)))
VEX_OPS(rorx, i->reg, const unsigned by = i->imm & (BITS - 1);
	r = m >> by | m << (-by & (BITS - 1)))

/* The high half is written last: it stays if both go to one register. */
HANDLER(mulx32)
{
	const uint64_t product = (uint64_t)vex_rm32(c, i) * reg_get32(c, RDX);

	reg_set32(c, vex_v(i), (uint32_t)product);
	reg_set32(c, i->reg, (uint32_t)(product >> 32));
	return SOFT_NEXT(c, i);
}

HANDLER(mulx64)
{
	const unsigned __int128 product = (unsigned __int128)vex_rm64(c, i) * c->reg[RDX];

	c->reg[vex_v(i)] = (uint64_t)product;
	c->reg[i->reg] = (uint64_t)(product >> 64);
	return SOFT_NEXT(c, i);
}

/* The bits of v where mask has ones, next to each other; and back. */
static uint64_t bits_gather(uint64_t v, uint64_t mask)
{
	uint64_t out = 0;

	for (uint64_t to = 1; mask; mask &= mask - 1, to <<= 1)
		if (v & mask & -mask)
			out |= to;
	return out;
}

static uint64_t bits_scatter(uint64_t v, uint64_t mask)
{
	uint64_t out = 0;

	for (; mask; mask &= mask - 1, v >>= 1)
		if (v & 1)
			out |= mask & -mask;
	return out;
}

VEX_OP(pext, 32, i->reg, r = (uint32_t)bits_gather(v, m))
VEX_OP(pext, 64, i->reg, r = bits_gather(v, m))
VEX_OP(pdep, 32, i->reg, r = (uint32_t)bits_scatter(v, m))
VEX_OP(pdep, 64, i->reg, r = bits_scatter(v, m))
VEX_OP(pext_host, 32, i->reg, __asm__("pextl %2, %1, %0" : "=r"(r) : "r"(v), "r"(m)))
VEX_OP(pext_host, 64, i->reg, __asm__("pextq %2, %1, %0" : "=r"(r) : "r"(v), "r"(m)))
VEX_OP(pdep_host, 32, i->reg, __asm__("pdepl %2, %1, %0" : "=r"(r) : "r"(v), "r"(m)))
VEX_OP(pdep_host, 64, i->reg, __asm__("pdepq %2, %1, %0" : "=r"(r) : "r"(v), "r"(m)))

/* ---- Selection ------------------------------------------------------------------------------- */

#define PAIR(name) {name##32, name##64}

/* pp: 0 none, 1: 66, 2: F3, 3: F2. */
static unsigned vex_pp(const struct soft_decode *d)
{
	if (d->prefix_66)
		return 1;
	return d->prefix_rep == 0xf3 ? 2 : d->prefix_rep ? 3 : 0;
}

/* The handlers of 32 and 64 bits, and their feature. */
struct vex_row {
	insn_fn fn[2];
	enum cpu_feature feature;
};

static struct vex_row select_0f38(const struct soft_decode *d)
{
	static const struct vex_row group17[8] = {
		[1] = {PAIR(blsr), CPU_BMI1},
		[2] = {PAIR(blsmsk), CPU_BMI1},
		[3] = {PAIR(blsi), CPU_BMI1},
	};
	static const struct vex_row rows[8][4] = {
		[2] = {{PAIR(andn), CPU_BMI1}},
		[5] = {[0] = {PAIR(bzhi), CPU_BMI2},
		       [2] = {PAIR(pext), CPU_BMI2},
		       [3] = {PAIR(pdep), CPU_BMI2}},
		[6] = {[3] = {PAIR(mulx), CPU_BMI2}},
		[7] = {{PAIR(bextr), CPU_BMI1},
		       {PAIR(shlx), CPU_BMI2},
		       {PAIR(sarx), CPU_BMI2},
		       {PAIR(shrx), CPU_BMI2}},
	};

	if (d->opcode == 0xf3 && vex_pp(d) == 0)
		return group17[d->reg3];
	if (d->opcode < 0xf0 || d->opcode > 0xf7)
		return (struct vex_row){{NULL, NULL}, CPU_BMI1};
	return rows[d->opcode & 7][vex_pp(d)];
}

static struct vex_row vex_row(const struct soft_decode *d)
{
	if (d->map == 2)
		return select_0f38(d);
	if (d->map == 3 && d->opcode == 0xf0 && vex_pp(d) == 3 && d->vex_v == 0)
		return (struct vex_row){PAIR(rorx), CPU_BMI2};
	return (struct vex_row){{NULL, NULL}, CPU_BMI1};
}

/* Does the encoding have what the row asks for? */
static bool avx_fits(const struct soft_decode *d, const struct avx_row *row)
{
	const bool memory = d->mod != 3, wide = d->vex_w;

	if ((row->flags & AVX_NO_V) && d->vex_v)
		return false;
	if ((row->flags & AVX_MEM_NO_V) && memory && d->vex_v)
		return false;
	if (d->has_modrm && ((row->flags & AVX_MEM && !memory) || (row->flags & AVX_REG && memory)))
		return false;
	return !(row->flags & AVX_W0 && wide) && !(row->flags & AVX_W1 && !wide);
}

static bool avx_select(struct soft_decode *d)
{
	const enum fp_prefix prefix = fp_prefix_of(d);
	const struct avx_row *row = avx_move_row(d, prefix);

	if (!row)
		row = avx_int_row(d, prefix);
	if (!row)
		row = avx_fp_row(d, prefix);
	if (!row)
		row = avx_lane_row(d, prefix);
	if (!row)
		row = avx_fma_row(d, prefix);
	if (!row)
		row = avx_string_row(d, prefix);
	if (!row || !row->fn[d->vex_l] || !avx_fits(d, row))
		return false;
	if (!soft_decode_has(d, CPU_AVX) || !soft_decode_has(d, row->feature[d->vex_l]))
		return false;
	if (d->map == 1 && d->opcode == 0xf7)
		fp_maskmov_operand(d);
	d->out->fn = row->fn[d->vex_l];
	return true;
}

bool soft_select_vex(struct soft_decode *d)
{
	const struct vex_row row = vex_row(d);
	insn_fn fn = row.fn[d->out->opsize == 8];

	if (!fn)
		return avx_select(d);
	if (d->vex_l || !soft_decode_has(d, row.feature))
		return false;
	if (fn == pext32 || fn == pext64)
		fn = soft_host_pick(CPU_BMI2, fn == pext32 ? pext_host32 : pext_host64, fn);
	if (fn == pdep32 || fn == pdep64)
		fn = soft_host_pick(CPU_BMI2, fn == pdep32 ? pdep_host32 : pdep_host64, fn);
	d->out->fn = fn;
	return true;
}
