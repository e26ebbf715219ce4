/* SPDX-License-Identifier: Apache-2.0 */
/* The litmus tests: their threads, and what x86-TSO says of their weak outcomes (Owens, Sarkar,
 * Sewell: A Better x86 Memory Model, 2009; SDM 3A, 8.2.3). */
#include "guests/micro/programs/litmus.h"

static inline void fence(void)
{
	__asm__ volatile("mfence" ::: "memory");
}

static inline void exchange(volatile uint64_t *p, uint64_t value)
{
	__asm__ volatile("xchgq %0, %1" : "+r"(value), "+m"(*p)::"memory");
}

/* ---- threads: plain accesses are single MOVs, in this order, since they are volatile ---- */

static void x1(struct litmus_cell c, uint64_t *r)
{
	(void)r;
	*c.x = 1;
}

static void y1(struct litmus_cell c, uint64_t *r)
{
	(void)r;
	*c.y = 1;
}

static void x1_ry(struct litmus_cell c, uint64_t *r)
{
	*c.x = 1;
	r[0] = *c.y;
}

static void y1_rx(struct litmus_cell c, uint64_t *r)
{
	*c.y = 1;
	r[0] = *c.x;
}

static void x1_fence_ry(struct litmus_cell c, uint64_t *r)
{
	*c.x = 1;
	fence();
	r[0] = *c.y;
}

static void y1_fence_rx(struct litmus_cell c, uint64_t *r)
{
	*c.y = 1;
	fence();
	r[0] = *c.x;
}

static void xchg_x1_ry(struct litmus_cell c, uint64_t *r)
{
	exchange(c.x, 1);
	r[0] = *c.y;
}

static void xchg_y1_rx(struct litmus_cell c, uint64_t *r)
{
	exchange(c.y, 1);
	r[0] = *c.x;
}

static void x1_y1(struct litmus_cell c, uint64_t *r)
{
	(void)r;
	*c.x = 1;
	*c.y = 1;
}

static void x2_y1(struct litmus_cell c, uint64_t *r)
{
	(void)r;
	*c.x = 2;
	*c.y = 1;
}

static void x1_y2(struct litmus_cell c, uint64_t *r)
{
	(void)r;
	*c.x = 1;
	*c.y = 2;
}

static void y1_x2(struct litmus_cell c, uint64_t *r)
{
	(void)r;
	*c.y = 1;
	*c.x = 2;
}

static void y2_rx(struct litmus_cell c, uint64_t *r)
{
	*c.y = 2;
	r[0] = *c.x;
}

static void xchg_y2_rx(struct litmus_cell c, uint64_t *r)
{
	exchange(c.y, 2);
	r[0] = *c.x;
}

static void rx_y1(struct litmus_cell c, uint64_t *r)
{
	r[0] = *c.x;
	*c.y = 1;
}

static void ry_x1(struct litmus_cell c, uint64_t *r)
{
	r[0] = *c.y;
	*c.x = 1;
}

static void ry_rx(struct litmus_cell c, uint64_t *r)
{
	r[0] = *c.y;
	r[1] = *c.x;
}

static void rx_ry(struct litmus_cell c, uint64_t *r)
{
	r[0] = *c.x;
	r[1] = *c.y;
}

static void rx_rx(struct litmus_cell c, uint64_t *r)
{
	r[0] = *c.x;
	r[1] = *c.x;
}

/* ---- weak outcomes ---- */

static bool r0_r1_zero(const struct litmus_outcome *o)
{
	return !o->r[0] && !o->r[1];
}

static bool r0_one_r1_zero(const struct litmus_outcome *o)
{
	return o->r[0] == 1 && !o->r[1];
}

static bool r0_r1_one(const struct litmus_outcome *o)
{
	return o->r[0] == 1 && o->r[1] == 1;
}

static bool s_weak(const struct litmus_outcome *o)
{
	return o->r[0] == 1 && o->x == 2;
}

static bool r_weak(const struct litmus_outcome *o)
{
	return !o->r[0] && o->y == 2;
}

static bool two_w_weak(const struct litmus_outcome *o)
{
	return o->x == 1 && o->y == 1;
}

static bool wrc_weak(const struct litmus_outcome *o)
{
	return o->r[0] == 1 && o->r[1] == 1 && !o->r[2];
}

static bool iriw_weak(const struct litmus_outcome *o)
{
	return o->r[0] == 1 && !o->r[1] && o->r[2] == 1 && !o->r[3];
}

/* clang-format off */
const struct litmus_test litmus_tests[] = {
	{"SB", "x=1 r0=y | y=1 r1=x", 2, {x1_ry, y1_rx}, {1, 1}, false,
	 "r0=0 r1=0", r0_r1_zero, true},
	{"SB+MFENCE", "x=1 MFENCE r0=y | y=1 MFENCE r1=x", 2, {x1_fence_ry, y1_fence_rx}, {1, 1},
	 false, "r0=0 r1=0", r0_r1_zero, false},
	{"SB+LOCK", "XCHG x,1 r0=y | XCHG y,1 r1=x", 2, {xchg_x1_ry, xchg_y1_rx}, {1, 1}, false,
	 "r0=0 r1=0", r0_r1_zero, false},
	{"MP", "x=1 y=1 | r0=y r1=x", 2, {x1_y1, ry_rx}, {0, 2}, false,
	 "r0=1 r1=0", r0_one_r1_zero, false},
	{"LB", "r0=x y=1 | r1=y x=1", 2, {rx_y1, ry_x1}, {1, 1}, false,
	 "r0=1 r1=1", r0_r1_one, false},
	{"S", "x=2 y=1 | r0=y x=1", 2, {x2_y1, ry_x1}, {0, 1}, true,
	 "r0=1 x=2", s_weak, false},
	{"R", "x=1 y=1 | y=2 r0=x", 2, {x1_y1, y2_rx}, {0, 1}, true,
	 "r0=0 y=2", r_weak, true},
	{"R+LOCK", "x=1 y=1 | XCHG y,2 r0=x", 2, {x1_y1, xchg_y2_rx}, {0, 1}, true,
	 "r0=0 y=2", r_weak, false},
	{"2+2W", "x=1 y=2 | y=1 x=2", 2, {x1_y2, y1_x2}, {0, 0}, true,
	 "x=1 y=1", two_w_weak, false},
	{"CoRR", "x=1 | r0=x r1=x", 2, {x1, rx_rx}, {0, 2}, false,
	 "r0=1 r1=0", r0_one_r1_zero, false},
	{"WRC", "x=1 | r0=x y=1 | r1=y r2=x", 3, {x1, rx_y1, ry_rx}, {0, 1, 2}, false,
	 "r0=1 r1=1 r2=0", wrc_weak, false},
	{"IRIW", "x=1 | y=1 | r0=x r1=y | r2=y r3=x", 4, {x1, y1, rx_ry, ry_rx}, {0, 0, 2, 2},
	 false, "r0=1 r1=0 r2=1 r3=0", iriw_weak, false},
};
/* clang-format on */

const unsigned litmus_tests_count = sizeof(litmus_tests) / sizeof(litmus_tests[0]);
