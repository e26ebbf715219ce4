/* SPDX-License-Identifier: Apache-2.0 */
/* XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B, PAUSE: what CPUs meet each other with. */
#include <sched.h>

#include "vmm/cpu/soft/soft_int.h"

/* After so many PAUSEs the thread that holds the lock may be waiting for this CPU: let it run. */
#define PAUSES_PER_YIELD 64

/*
 * XADD and CMPXCHG use host atomics without LOCK too: they are cheap enough, and a failed CMPXCHG
 * need not write back a value that another CPU may have changed.
 */

/* ---- XCHG: always locked with memory
 * ------------------------------------------------------------- */

#define ATOMIC_XCHG(N)                                                                             \
	HANDLER(xchg_rr##N)                                                                        \
	{                                                                                          \
		const uint##N##_t a = reg_get##N(c, i->rm), b = reg_get##N(c, i->reg);             \
                                                                                                   \
		reg_set##N(c, i->rm, b);                                                           \
		reg_set##N(c, i->reg, a);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(xchg_mr##N)                                                                        \
	{                                                                                          \
		const uint64_t linear = soft_ea(c, i);                                             \
		uint##N##_t *host = soft_lock_ptr(c, i, linear, N / 8);                            \
		const uint##N##_t b = reg_get##N(c, i->reg);                                       \
		uint##N##_t a;                                                                     \
                                                                                                   \
		if (likely(host)) {                                                                \
			a = __atomic_exchange_n(host, b, __ATOMIC_SEQ_CST);                        \
			soft_lock_end(c);                                                          \
		} else {                                                                           \
			a = (uint##N##_t)soft_locked(c, i, linear, N / 8, LOCKED_SET, b, 0);       \
		}                                                                                  \
		reg_set##N(c, i->reg, a);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}

INT_EVERY_SIZE(ATOMIC_XCHG)

/* ---- XADD
 * ---------------------------------------------------------------------------------------- */

#define ATOMIC_XADD(N)                                                                             \
	HANDLER(xadd_rr##N)                                                                        \
	{                                                                                          \
		const uint##N##_t a = reg_get##N(c, i->rm), b = reg_get##N(c, i->reg);             \
                                                                                                   \
		reg_set##N(c, i->reg, a);                                                          \
		reg_set##N(c, i->rm, (uint##N##_t)(a + b));                                        \
		flags_add##N(c, a, b, (uint##N##_t)(a + b));                                       \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(xadd_mr##N)                                                                        \
	{                                                                                          \
		const uint64_t linear = soft_ea(c, i);                                             \
		uint##N##_t *host = soft_lock_ptr(c, i, linear, N / 8);                            \
		const uint##N##_t b = reg_get##N(c, i->reg);                                       \
		uint##N##_t a;                                                                     \
                                                                                                   \
		if (likely(host)) {                                                                \
			a = __atomic_fetch_add(host, b, __ATOMIC_SEQ_CST);                         \
			soft_lock_end(c);                                                          \
		} else {                                                                           \
			a = (uint##N##_t)soft_locked(c, i, linear, N / 8, LOCKED_ADD, b, 0);       \
		}                                                                                  \
		reg_set##N(c, i->reg, a);                                                          \
		flags_add##N(c, a, b, (uint##N##_t)(a + b));                                       \
		return SOFT_NEXT(c, i);                                                            \
	}

INT_EVERY_SIZE(ATOMIC_XADD)

/* ---- CMPXCHG
 * -------------------------------------------------------------------------------------- */

/* A failure writes the accumulator only, a success the destination only: with 32 bits, the upper
 * half of the other register stays as it is. */
#define ATOMIC_CMPXCHG(N)                                                                          \
	HANDLER(cmpxchg_rr##N)                                                                     \
	{                                                                                          \
		const uint##N##_t acc = reg_get##N(c, RAX), a = reg_get##N(c, i->rm);              \
                                                                                                   \
		if (acc == a)                                                                      \
			reg_set##N(c, i->rm, reg_get##N(c, i->reg));                               \
		else                                                                               \
			reg_set##N(c, RAX, a);                                                     \
		flags_sub##N(c, acc, a, (uint##N##_t)(acc - a));                                   \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	HANDLER(cmpxchg_mr##N)                                                                     \
	{                                                                                          \
		const uint64_t linear = soft_ea(c, i);                                             \
		uint##N##_t *host = soft_lock_ptr(c, i, linear, N / 8);                            \
		const uint##N##_t acc = reg_get##N(c, RAX), b = reg_get##N(c, i->reg);             \
		uint##N##_t a = acc;                                                               \
                                                                                                   \
		if (likely(host)) {                                                                \
			__atomic_compare_exchange_n(host, &a, b, false, __ATOMIC_SEQ_CST,          \
						    __ATOMIC_SEQ_CST);                             \
			soft_lock_end(c);                                                          \
		} else {                                                                           \
			a = (uint##N##_t)soft_locked(c, i, linear, N / 8, LOCKED_COMPARE, b, acc); \
		}                                                                                  \
		if (a != acc)                                                                      \
			reg_set##N(c, RAX, a);                                                     \
		flags_sub##N(c, acc, a, (uint##N##_t)(acc - a));                                   \
		return SOFT_NEXT(c, i);                                                            \
	}

INT_EVERY_SIZE(ATOMIC_CMPXCHG)

/* Only ZF changes (SDM 2A, CMPXCHG8B). */
static void atomic_set_zf(struct soft_cpu *c, bool zf)
{
	const uint64_t rest = soft_flags_get(c) & ~(uint64_t)FLAG_ZF;

	soft_flags_set_arith(c, rest | (zf ? FLAG_ZF : 0));
}

HANDLER(cmpxchg8b)
{
	const uint64_t linear = soft_ea(c, i);
	uint64_t *host = soft_lock_ptr(c, i, linear, 8);
	const uint64_t acc = c->reg[RDX] << 32 | (uint32_t)c->reg[RAX];
	const uint64_t b = c->reg[RCX] << 32 | (uint32_t)c->reg[RBX];
	uint64_t a = acc;

	if (likely(host)) {
		__atomic_compare_exchange_n(host, &a, b, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		soft_lock_end(c);
	} else {
		a = soft_locked(c, i, linear, 8, LOCKED_COMPARE, b, acc);
	}
	if (a != acc) {
		c->reg[RAX] = (uint32_t)a;
		c->reg[RDX] = a >> 32;
	}
	atomic_set_zf(c, a == acc);
	return SOFT_NEXT(c, i);
}

/* 16 aligned bytes; *old is the expectation and becomes what was there. */
static void atomic_swap16(void *host, uint64_t old[2], uint64_t low, uint64_t high)
{
#ifdef __x86_64__
	__asm__ volatile("lock cmpxchg16b %0"
			 : "+m"(*(unsigned __int128 *)host), "+a"(old[0]), "+d"(old[1])
			 : "b"(low), "c"(high)
			 : "cc", "memory");
#else
	unsigned __int128 a = (unsigned __int128)old[1] << 64 | old[0];

	__atomic_compare_exchange_n((unsigned __int128 *)host, &a,
				    (unsigned __int128)high << 64 | low, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
	old[0] = (uint64_t)a;
	old[1] = (uint64_t)(a >> 64);
#endif
}

/* Of a device's registers: sets RDX:RAX to what was there; true if they were equal. */
static __attribute__((noinline)) bool cmpxchg16b_device(struct soft_cpu *c, const struct insn *i,
							uint64_t linear)
{
	struct locked_access access = {.type = LOCKED_COMPARE,
				       .operand = {c->reg[RBX], c->reg[RCX]},
				       .expected = {c->reg[RAX], c->reg[RDX]}};

	soft_locked_access(c, i, linear, 16, &access);
	c->reg[RAX] = access.old[0];
	c->reg[RDX] = access.old[1];
	return access.old[0] == access.expected[0] && access.old[1] == access.expected[1];
}

/* Must be aligned, so that it never crosses a cache line. */
HANDLER(cmpxchg16b)
{
	const uint64_t linear = soft_ea(c, i), acc[2] = {c->reg[RAX], c->reg[RDX]};
	uint64_t a[2] = {acc[0], acc[1]};
	bool equal;
	void *host;

	if (linear & 15)
		soft_raise_error(c, i, VEC_GP, 0);
	host = soft_lock_ptr(c, i, linear, 16);
	if (likely(host)) {
		atomic_swap16(host, a, c->reg[RBX], c->reg[RCX]);
		soft_lock_end(c);
		equal = a[0] == acc[0] && a[1] == acc[1];
		if (!equal) {
			c->reg[RAX] = a[0];
			c->reg[RDX] = a[1];
		}
	} else {
		equal = cmpxchg16b_device(c, i, linear);
	}
	atomic_set_zf(c, equal);
	return SOFT_NEXT(c, i);
}

/* ---- PAUSE, NOP
 * ------------------------------------------------------------------------------------- */

HANDLER(pause_insn)
{
	if (++c->pause_count >= PAUSES_PER_YIELD) {
		c->pause_count = 0;
		sched_yield();
	}
	return SOFT_NEXT(c, i);
}

HANDLER(nop)
{
	return SOFT_NEXT(c, i);
}

/* ---- Selection
 * --------------------------------------------------------------------------------------- */

#define ATOMIC_ROW(name) {name##8, name##16, name##32, name##64}

static const insn_fn xchg_ops[2][4] = {ATOMIC_ROW(xchg_rr), ATOMIC_ROW(xchg_mr)};
static const insn_fn xadd_ops[2][4] = {ATOMIC_ROW(xadd_rr), ATOMIC_ROW(xadd_mr)};
static const insn_fn cmpxchg_ops[2][4] = {ATOMIC_ROW(cmpxchg_rr), ATOMIC_ROW(cmpxchg_mr)};

/* 90..97: the accumulator and the opcode's register; 90 without REX.B is NOP or PAUSE. */
static bool atomic_pick_acc(struct soft_decode *d)
{
	struct insn *out = d->out;

	out->reg = RAX;
	if (out->rm == RAX)
		out->fn = d->prefix_rep == 0xf3 ? pause_insn : nop;
	else
		out->fn = xchg_ops[0][int_size_index(d)];
	return true;
}

static bool atomic_pick_wide(struct soft_decode *d)
{
	if (d->reg3 != 1 || !int_is_mem(d))
		return soft_select_random(d);
	d->out->fn = d->out->opsize == 8 ? cmpxchg16b : cmpxchg8b;
	return true;
}

bool soft_select_atomic(struct soft_decode *d)
{
	const unsigned mem = int_is_mem(d), n = int_size_index(d);

	if (d->map == 0 && d->opcode >= 0x90)
		return atomic_pick_acc(d);
	if (d->map == 0)
		d->out->fn = xchg_ops[mem][n];
	else if (d->opcode == 0xc7)
		return atomic_pick_wide(d);
	else if (d->opcode >= 0xc0)
		d->out->fn = xadd_ops[mem][n];
	else
		d->out->fn = cmpxchg_ops[mem][n];
	return true;
}
