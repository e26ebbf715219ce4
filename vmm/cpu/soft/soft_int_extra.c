/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions on general registers that came after 2003: POPCNT, CRC32, MOVBE, TZCNT, LZCNT, RDRAND, RDSEED. */
#include <sys/random.h>

#include "vmm/cpu/soft/soft_host.h"
#include "vmm/cpu/soft/soft_int.h"

/* ---- POPCNT, TZCNT, LZCNT -------------------------------------------------------------------- */

/* One handler for all sizes: the host's POPCNT would gain little over what the compiler makes. */
HANDLER(popcnt)
{
	const uint64_t source = int_rm_load(c, i);

	reg_set(c, i->reg, i->opsize, (unsigned)__builtin_popcountll(source));
	soft_flags_set_arith(c, source ? 0 : FLAG_ZF);
	return SOFT_NEXT(c, i);
}

HANDLER(popcnt_host)
{
	const uint64_t source = int_rm_load(c, i);
	uint64_t count;

	__asm__("popcntq %1, %0" : "=r"(count) : "r"(source) : "cc");
	reg_set(c, i->reg, i->opsize, count);
	soft_flags_set_arith(c, source ? 0 : FLAG_ZF);
	return SOFT_NEXT(c, i);
}

/* CF: the source is zero; ZF: the result is. The others are undefined: cleared. */
static inline void count_finish(struct soft_cpu *c, const struct insn *i, uint64_t source,
				unsigned count)
{
	reg_set(c, i->reg, i->opsize, count);
	soft_flags_set_arith(c, (source ? 0 : FLAG_CF) | (count ? 0 : FLAG_ZF));
}

HANDLER(tzcnt)
{
	const uint64_t source = int_rm_load(c, i);

	count_finish(c, i, source, source ? (unsigned)__builtin_ctzll(source) : i->opsize * 8u);
	return SOFT_NEXT(c, i);
}

HANDLER(lzcnt)
{
	const uint64_t source = int_rm_load(c, i);

	count_finish(c, i, source,
		     source ? (unsigned)__builtin_clzll(source) - (64 - i->opsize * 8u)
			    : i->opsize * 8u);
	return SOFT_NEXT(c, i);
}

/* ---- MOVBE ----------------------------------------------------------------------------------- */

HANDLER_LOAD(movbe_rm16, 16, reg_set16(c, i->reg, __builtin_bswap16(m)))
HANDLER_LOAD(movbe_rm32, 32, reg_set32(c, i->reg, __builtin_bswap32(m)))
HANDLER_LOAD(movbe_rm64, 64, reg_set64(c, i->reg, __builtin_bswap64(m)))
HANDLER_STORE(movbe_mr16, 16, __builtin_bswap16(reg_get16(c, i->reg)))
HANDLER_STORE(movbe_mr32, 32, __builtin_bswap32(reg_get32(c, i->reg)))
HANDLER_STORE(movbe_mr64, 64, __builtin_bswap64(reg_get64(c, i->reg)))

/* ---- CRC32: the polynomial 11EDC6F41h, bits reflected (SDM 2A) ------------------------------- */

/* Four bits at a time. */
static uint32_t crc_run(uint32_t crc, uint64_t source, unsigned size)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};

	for (unsigned n = 0; n < size * 2; n++, source >>= 4)
		crc = crc >> 4 ^ table[(crc ^ source) & 15];
	return crc;
}

/* The source's size is the handler's, and the destination's is 64 bits or less: zeroes are above the CRC. */
#define CRC32(name, bits, suffix)                                                                  \
	HANDLER(name)                                                                              \
	{                                                                                          \
		const uint64_t b = crc_source##bits(c, i);                                         \
                                                                                                   \
		c->reg[i->reg] = crc_run((uint32_t)c->reg[i->reg], b, (bits) / 8);                 \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(name##_host)                                                                       \
	{                                                                                          \
		const uint##bits##_t b = crc_source##bits(c, i);                                   \
		uint64_t crc = (uint32_t)c->reg[i->reg];                                           \
                                                                                                   \
		__asm__("crc32" suffix : "+r"(crc) : "r"(b));                                      \
		c->reg[i->reg] = crc;                                                              \
		return SOFT_NEXT(c, i);                                                            \
	}
#define CRC_SOURCE(bits)                                                                           \
	static inline uint##bits##_t crc_source##bits(struct soft_cpu *c, const struct insn *i)    \
	{                                                                                          \
		return i->flags & INSN_MEM ? soft_load##bits(c, i, soft_ea(c, i))                  \
					   : reg_get##bits(c, i->rm);                              \
	}
INT_EVERY_SIZE(CRC_SOURCE)
CRC32(crc32_b, 8, "b %b1, %k0")
CRC32(crc32_w, 16, "w %w1, %k0")
CRC32(crc32_l, 32, "l %k1, %k0")
CRC32(crc32_q, 64, "q %q1, %q0")

/* ---- RDRAND, RDSEED -------------------------------------------------------------------------- */

/* The processor's generator may be exhausted; so many tries are its maker's advice (SDM 1, 7.3.17.1). */
#define RANDOM_TRIES 10

static bool random_from_host(uint64_t *value)
{
	bool done = false;

	for (unsigned n = 0; n < RANDOM_TRIES && !done; n++)
		__asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(done));
	return done;
}

/* The kernel's generator seeds itself from the processor's and more; it is never exhausted once it runs. */
static bool random_from_kernel(uint64_t *value)
{
	return getrandom(value, sizeof(*value), GRND_NONBLOCK) == sizeof(*value);
}

static __attribute__((noinline)) void random_run(struct soft_cpu *c, const struct insn *i,
						 bool seed)
{
	const bool host = !seed && (soft_host_features() & CPU_BIT(CPU_RDRAND));
	uint64_t value = 0;
	bool done = host ? random_from_host(&value) : random_from_kernel(&value);

	reg_set(c, i->rm, i->opsize, done ? value : 0);
	soft_flags_set_arith(c, done ? FLAG_CF : 0);
}

HANDLER(rdrand)
{
	random_run(c, i, false);
	return SOFT_NEXT(c, i);
}

HANDLER(rdseed)
{
	random_run(c, i, true);
	return SOFT_NEXT(c, i);
}

/* The number that the kernel gave this CPU. */
HANDLER(rdpid)
{
	c->reg[i->rm] = (uint32_t)c->tsc_aux;
	return SOFT_NEXT(c, i);
}

/* ---- Selection ------------------------------------------------------------------------------- */

static bool select_crc32(struct soft_decode *d)
{
	static const insn_fn plain[4] = {crc32_b, crc32_w, crc32_l, crc32_q};
	static const insn_fn host[4] = {crc32_b_host, crc32_w_host, crc32_l_host, crc32_q_host};
	const unsigned n = d->opcode == 0xf0 ? 0 : int_size_index(d);

	if (!soft_decode_has(d, CPU_SSE42))
		return false;
	d->out->fn = soft_host_pick(CPU_SSE42, host[n], plain[n]);
	return true;
}

/* [store][size], of 16 bits and more. */
static bool select_movbe(struct soft_decode *d)
{
	static const struct int_op ops[2][3] = {
		{INT_MEM(movbe_rm16), INT_MEM(movbe_rm32), INT_MEM(movbe_rm64)},
		{INT_MEM(movbe_mr16), INT_MEM(movbe_mr32), INT_MEM(movbe_mr64)},
	};

	if (!soft_decode_has(d, CPU_MOVBE) || !int_is_mem(d))
		return false;
	return int_pick(d, &ops[d->opcode & 1][int_size_index(d) - 1]);
}

bool soft_select_extra(struct soft_decode *d)
{
	if (d->map == 2) /* F0, F1 */
		return d->prefix_rep == 0xf2   ? select_crc32(d)
		       : d->prefix_rep == 0xf3 ? false
					       : select_movbe(d);
	/* 0F B8 */
	if (d->prefix_rep != 0xf3 || !soft_decode_has(d, CPU_POPCNT))
		return false;
	d->out->fn = soft_host_pick(CPU_POPCNT, popcnt_host, popcnt);
	return true;
}

bool soft_select_count(struct soft_decode *d)
{
	const bool leading = d->opcode == 0xbd;

	if (d->prefix_rep != 0xf3 || !soft_decode_has(d, leading ? CPU_LZCNT : CPU_BMI1))
		return false;
	d->out->fn = leading ? lzcnt : tzcnt;
	return true;
}

bool soft_select_random(struct soft_decode *d)
{
	if (d->mod != 3 || d->reg3 < 6)
		return false;
	if (d->prefix_rep) {
		if (d->prefix_rep == 0xf2 || d->reg3 == 6 || !soft_decode_has(d, CPU_RDPID))
			return false;
		d->out->fn = rdpid;
		return true;
	}
	if (!soft_decode_has(d, d->reg3 == 6 ? CPU_RDRAND : CPU_RDSEED))
		return false;
	d->out->fn = d->reg3 == 6 ? rdrand : rdseed;
	return true;
}
