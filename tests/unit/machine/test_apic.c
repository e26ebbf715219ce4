/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC: priorities, end of interrupt, errors, ICR, #GP cases, and the timer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vmm/apic/apic.h"
#include "vmm/boot/layout.h"

#define TICK_NS UINT64_C(40) /* of the 25 MHz crystal */

/* Sees all that the APIC says to the machine; its clock stands still unless moved. */
struct bench {
	struct apic apic;
	struct apic_env env;
	uint64_t now_ns, deadline_ns;
	unsigned kicks, ipis, eois;
	struct ipi ipi;
	uint8_t eoi_vector;
};

static uint64_t bench_now(void *ctx)
{
	return ((struct bench *)ctx)->now_ns;
}

static void bench_kick(void *ctx, unsigned id)
{
	(void)id;
	((struct bench *)ctx)->kicks++;
}

static void bench_ipi(void *ctx, unsigned id, const struct ipi *ipi)
{
	struct bench *b = ctx;

	cr_assert_eq(id, b->apic.id);
	b->ipis++;
	b->ipi = *ipi;
}

static void bench_eoi(void *ctx, unsigned id, uint8_t vector)
{
	struct bench *b = ctx;

	(void)id;
	b->eois++;
	b->eoi_vector = vector;
}

static void bench_timer(void *ctx, unsigned id, uint64_t deadline_ns)
{
	(void)id;
	((struct bench *)ctx)->deadline_ns = deadline_ns;
}

static void bench_init(struct bench *b, uint32_t id)
{
	memset(b, 0, sizeof(*b));
	b->env = (struct apic_env){b, bench_now, bench_kick, bench_ipi, bench_eoi, bench_timer};
	b->now_ns = 1000000;
	b->deadline_ns = APIC_TIMER_OFF;
	cr_assert_eq(apic_init(&b->apic, id, id, id == 0, &b->env), 0);
}

static int wr(struct bench *b, unsigned reg, uint64_t value)
{
	return apic_msr_write(&b->apic, MSR_X2APIC_FIRST + reg, value);
}

static uint64_t rd(struct bench *b, unsigned reg)
{
	uint64_t value = 0xdead;

	cr_assert_eq(apic_msr_read(&b->apic, MSR_X2APIC_FIRST + reg, &value), 0, "reg %x", reg);
	return value;
}

static void enable(struct bench *b)
{
	cr_assert_eq(wr(b, APIC_SVR, APIC_SVR_ENABLE | 0xff), 0);
}

static void post(struct bench *b, uint8_t vector, bool level)
{
	struct ipi ipi = {
		.dest = b->apic.id, .exclude = IPI_NOBODY, .vector = vector, .level = level};

	apic_deliver(&b->apic, &ipi);
}

Test(apic, reset_values)
{
	struct bench b;
	uint64_t base;
	unsigned i;

	bench_init(&b, 0x23);
	cr_assert_eq(rd(&b, APIC_ID), 0x23);
	cr_assert_eq(rd(&b, APIC_VERSION), 0x50014);
	cr_assert_eq(rd(&b, APIC_LDR), 0x20008);
	cr_assert_eq(rd(&b, APIC_SVR), 0xff);
	for (i = 0; i < APIC_LVTS; i++)
		cr_assert_eq(rd(&b, APIC_LVT_TIMER + i), APIC_LVT_MASKED);
	cr_assert_eq(apic_msr_read(&b.apic, MSR_APIC_BASE, &base), 0);
	cr_assert_eq(base, LAYOUT_LAPIC_BASE | APIC_BASE_ENABLE | APIC_BASE_EXTD);
	bench_init(&b, 0);
	cr_assert_eq(apic_msr_read(&b.apic, MSR_APIC_BASE, &base), 0);
	cr_assert(base & APIC_BASE_BSP);
}

Test(apic, takes_interrupts_only_when_enabled)
{
	struct bench b;

	bench_init(&b, 1);
	post(&b, 0x40, false);
	cr_assert_eq(apic_pending(&b.apic), -1);
	cr_assert_eq(b.kicks, 0);
	enable(&b);
	post(&b, 0x40, false);
	cr_assert_eq(apic_pending(&b.apic), 0x40);
	cr_assert_eq(b.kicks, 1);
	post(&b, 0x40, false);
	cr_assert_eq(b.kicks, 1, "the second request of a vector is no news");
}

Test(apic, priorities_and_eoi_order)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	post(&b, 0x41, false);
	post(&b, 0x45, false);
	post(&b, 0x91, false);
	cr_assert_eq(rd(&b, APIC_IRR + 2), 0x22);
	cr_assert_eq(apic_pending(&b.apic), 0x91);
	apic_accept(&b.apic, 0x91);
	cr_assert_eq(rd(&b, APIC_ISR + 4), 1u << 17);
	cr_assert_eq(rd(&b, APIC_PPR), 0x90);
	cr_assert_eq(apic_pending(&b.apic), -1);
	post(&b, 0x9f, false);
	cr_assert_eq(apic_pending(&b.apic), -1, "the same class does not interrupt");
	post(&b, 0xa0, false);
	cr_assert_eq(apic_pending(&b.apic), 0xa0);
	apic_accept(&b.apic, 0xa0);
	cr_assert_eq(rd(&b, APIC_PPR), 0xa0);
	b.kicks = 0;
	cr_assert_eq(wr(&b, APIC_EOI, 0), 0);
	cr_assert_eq(rd(&b, APIC_PPR), 0x90, "0xa0 ended first");
	cr_assert_eq(b.kicks, 0);
	cr_assert_eq(wr(&b, APIC_EOI, 0), 0);
	cr_assert_eq(b.kicks, 1, "0x9f is due now");
	cr_assert_eq(apic_pending(&b.apic), 0x9f);
	apic_accept(&b.apic, 0x9f);
	wr(&b, APIC_EOI, 0);
	cr_assert_eq(apic_pending(&b.apic), 0x45);
	cr_assert_eq(b.eois, 0, "edge-triggered ones are not told");
	wr(&b, APIC_EOI, 0);
	cr_assert_eq(rd(&b, APIC_PPR), 0, "an EOI with nothing in service does nothing");
}

Test(apic, task_priority_masks)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	cr_assert_eq(wr(&b, APIC_TPR, 0x4f), 0);
	cr_assert_eq(rd(&b, APIC_PPR), 0x4f);
	cr_assert_eq(apic_cr8_read(&b.apic), 4);
	post(&b, 0x4e, false);
	cr_assert_eq(apic_pending(&b.apic), -1);
	post(&b, 0x50, false);
	cr_assert_eq(apic_pending(&b.apic), 0x50);
	b.kicks = 0;
	apic_cr8_write(&b.apic, 3);
	cr_assert_eq(rd(&b, APIC_TPR), 0x30);
	cr_assert_eq(b.kicks, 1);
	apic_cr8_write(&b.apic, 15);
	cr_assert_eq(apic_pending(&b.apic), -1);
	cr_assert_eq(b.kicks, 1, "raising it makes nothing due");
}

Test(apic, level_triggered_eoi_is_told)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	post(&b, 0x60, true);
	cr_assert_eq(rd(&b, APIC_TMR + 3), 1);
	apic_accept(&b.apic, 0x60);
	wr(&b, APIC_EOI, 0);
	cr_assert_eq(b.eois, 1);
	cr_assert_eq(b.eoi_vector, 0x60);
	post(&b, 0x60, false);
	cr_assert_eq(rd(&b, APIC_TMR + 3), 0);
	apic_accept(&b.apic, 0x60);
	wr(&b, APIC_EOI, 0);
	cr_assert_eq(b.eois, 1);
}

Test(apic, disabling_masks_lvts)
{
	struct bench b;

	bench_init(&b, 1);
	cr_assert_eq(wr(&b, APIC_LVT_LINT0, 0x700), 0);
	cr_assert_eq(rd(&b, APIC_LVT_LINT0), 0x700 | APIC_LVT_MASKED, "while disabled");
	enable(&b);
	cr_assert_eq(wr(&b, APIC_LVT_LINT0, 0x700), 0);
	cr_assert_eq(rd(&b, APIC_LVT_LINT0), 0x700);
	cr_assert_eq(wr(&b, APIC_SVR, 0xff), 0);
	cr_assert_eq(rd(&b, APIC_LVT_LINT0), 0x700 | APIC_LVT_MASKED);
}

Test(apic, illegal_vectors_are_errors)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	cr_assert_eq(wr(&b, APIC_LVT_ERROR, 0xfe), 0);
	post(&b, 3, false);
	cr_assert_eq(rd(&b, APIC_ESR), 0, "latched by a write only");
	cr_assert_eq(wr(&b, APIC_ESR, 0), 0);
	cr_assert_eq(rd(&b, APIC_ESR), APIC_ESR_RECV_ILLEGAL);
	cr_assert_eq(apic_pending(&b.apic), 0xfe);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(2) << 32 | 0x05), 0);
	cr_assert_eq(b.ipis, 0);
	wr(&b, APIC_ESR, 0);
	cr_assert_eq(rd(&b, APIC_ESR), APIC_ESR_SEND_ILLEGAL);
	wr(&b, APIC_ESR, 0);
	cr_assert_eq(rd(&b, APIC_ESR), 0);
}

/* ---- ICR ---- */

Test(apic, icr_destinations)
{
	struct bench b;

	bench_init(&b, 5);
	enable(&b);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(0x102) << 32 | 0x4031), 0);
	cr_assert_eq(b.ipi.dest, 0x102);
	cr_assert_eq(b.ipi.vector, 0x31);
	cr_assert_eq(b.ipi.delivery, IPI_FIXED);
	cr_assert_not(b.ipi.logical);
	cr_assert_eq(rd(&b, APIC_ICR), UINT64_C(0x102) << 32 | 0x4031);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(0x10003) << 32 | 0x831), 0);
	cr_assert(b.ipi.logical);
	cr_assert_eq(b.ipi.dest, 0x10003);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(9) << 32 | 0x40031), 0);
	cr_assert_eq(b.ipi.dest, 5, "shorthand self");
	cr_assert_eq(wr(&b, APIC_ICR, 0x80031), 0);
	cr_assert_eq(b.ipi.dest, IPI_BROADCAST);
	cr_assert_eq(b.ipi.exclude, IPI_NOBODY);
	cr_assert_eq(wr(&b, APIC_ICR, 0xc0031), 0);
	cr_assert_eq(b.ipi.dest, IPI_BROADCAST);
	cr_assert_eq(b.ipi.exclude, 5);
	cr_assert_eq(wr(&b, APIC_SELF_IPI, 0x77), 0);
	cr_assert_eq(b.ipi.dest, 5);
	cr_assert_eq(b.ipi.vector, 0x77);
	cr_assert_eq(b.ipis, 6);
}

Test(apic, icr_start_up)
{
	struct bench b;

	bench_init(&b, 0);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(1) << 32 | 0xc500), 0);
	cr_assert_eq(b.ipi.delivery, IPI_INIT);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(1) << 32 | 0x8500), 0);
	cr_assert_eq(b.ipis, 1, "INIT de-assert does nothing");
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(1) << 32 | 0x0699), 0);
	cr_assert_eq(b.ipi.delivery, IPI_SIPI);
	cr_assert_eq(b.ipi.vector, 0x99);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(1) << 32 | 0x0400), 0);
	cr_assert_eq(b.ipi.delivery, IPI_NMI);
	cr_assert_eq(wr(&b, APIC_ICR, UINT64_C(1) << 32 | 0x0200), 0);
	cr_assert_eq(b.ipis, 3, "SMI goes nowhere");
}

Test(apic, matching)
{
	struct ipi physical = {.dest = 17, .exclude = IPI_NOBODY};
	struct ipi all = {.dest = IPI_BROADCAST, .exclude = 3};
	struct ipi cluster = {.dest = 0x10006, .exclude = IPI_NOBODY, .logical = true};
	struct ipi all_logical = {.dest = IPI_BROADCAST, .exclude = IPI_NOBODY, .logical = true};
	unsigned id;

	for (id = 0; id < 64; id++) {
		cr_assert_eq(apic_matches(id, &physical), id == 17);
		cr_assert_eq(apic_matches(id, &all), id != 3);
		cr_assert_eq(apic_matches(id, &cluster), id == 17 || id == 18);
		cr_assert(apic_matches(id, &all_logical));
	}
}

Test(apic, events)
{
	struct ipi ipi = {.dest = 1, .exclude = IPI_NOBODY, .delivery = IPI_SIPI, .vector = 0x9a};
	struct bench b;

	bench_init(&b, 1);
	cr_assert_eq(apic_events_take(&b.apic), 0);
	apic_deliver(&b.apic, &ipi);
	ipi.delivery = IPI_INIT;
	apic_deliver(&b.apic, &ipi);
	cr_assert_eq(apic_events_take(&b.apic), APIC_EVENT_INIT, "INIT voids the SIPI before it");
	ipi.delivery = IPI_INIT;
	apic_deliver(&b.apic, &ipi);
	ipi.delivery = IPI_SIPI;
	apic_deliver(&b.apic, &ipi);
	ipi.delivery = IPI_NMI;
	apic_deliver(&b.apic, &ipi);
	cr_assert(apic_events_pending(&b.apic));
	cr_assert_eq(apic_events_take(&b.apic),
		     APIC_EVENT_INIT | APIC_EVENT_SIPI | APIC_EVENT_NMI | 0x9a00);
	cr_assert_not(apic_events_pending(&b.apic));
	cr_assert_eq(b.kicks, 5);
}

Test(apic, init_resets)
{
	struct bench b;

	bench_init(&b, 6);
	enable(&b);
	post(&b, 0x80, false);
	wr(&b, APIC_TPR, 0x20);
	wr(&b, APIC_TIMER_INITIAL, 1000);
	apic_reset(&b.apic);
	cr_assert_eq(apic_pending(&b.apic), -1);
	cr_assert_eq(rd(&b, APIC_SVR), 0xff);
	cr_assert_eq(rd(&b, APIC_TPR), 0);
	cr_assert_eq(rd(&b, APIC_ID), 6);
	cr_assert_eq(b.deadline_ns, APIC_TIMER_OFF);
}

/* ---- #GP ---- */

struct gp_case {
	unsigned reg;
	uint64_t value;
};

static const struct gp_case bad_writes[] = {
	{APIC_ID, 0},
	{APIC_VERSION, 0},
	{APIC_PPR, 0},
	{APIC_LDR, 0},
	{0x0e, 0}, /* DFR does not exist */
	{APIC_ISR, 0},
	{APIC_TMR + 7, 0},
	{APIC_IRR + 3, 0},
	{APIC_TPR, 0x100},
	{APIC_TPR, UINT64_C(1) << 32},
	{APIC_EOI, 1},
	{APIC_ESR, 1},
	{APIC_SVR, 0x1000},
	{0x2f, 0},	   /* LVT CMCI */
	{0x31, 0},	   /* ICR's upper half in xAPIC */
	{APIC_ICR, 0x300}, /* reserved delivery modes */
	{APIC_ICR, 0x731},
	{APIC_ICR, 0x2031}, /* reserved bits */
	{APIC_ICR, 0x10031},
	{APIC_ICR, 0x100031},
	{APIC_LVT_TIMER, 1u << 18}, /* TSC deadline is not offered */
	{APIC_LVT_TIMER, 0x100},
	{APIC_LVT_ERROR, 0x100},
	{APIC_LVT_THERMAL, 1u << 17},
	{APIC_LVT_LINT1, 1u << 17},
	{APIC_TIMER_CURRENT, 0},
	{APIC_TIMER_DIVIDE, 4},
	{APIC_SELF_IPI, 0x100},
	{0x40, 0},
	{0xff, 0},
};

Test(apic, reserved_writes_fault)
{
	struct bench b;
	size_t i;

	bench_init(&b, 1);
	enable(&b);
	for (i = 0; i < sizeof(bad_writes) / sizeof(bad_writes[0]); i++)
		cr_assert_eq(wr(&b, bad_writes[i].reg, bad_writes[i].value), -EINVAL, "case %zu",
			     i);
	cr_assert_eq(b.ipis, 0);
	cr_assert_eq(apic_msr_write(&b.apic, MSR_X2APIC_LAST + 1, 0), -EINVAL);
}

Test(apic, reserved_reads_fault)
{
	static const unsigned regs[] = {0,    1,   APIC_EOI, 0x0e, 0x2f, 0x31, APIC_SELF_IPI,
					0x3a, 0xff};
	struct bench b;
	uint64_t value;
	size_t i;

	bench_init(&b, 1);
	for (i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
		cr_assert_eq(apic_msr_read(&b.apic, MSR_X2APIC_FIRST + regs[i], &value), -EINVAL,
			     "reg %x", regs[i]);
}

Test(apic, mode_cannot_change)
{
	struct bench b;
	uint64_t base;

	bench_init(&b, 0);
	cr_assert_eq(apic_msr_read(&b.apic, MSR_APIC_BASE, &base), 0);
	cr_assert_eq(apic_msr_write(&b.apic, MSR_APIC_BASE, base), 0);
	cr_assert_eq(apic_msr_write(&b.apic, MSR_APIC_BASE, base & ~(uint64_t)APIC_BASE_EXTD),
		     -EINVAL);
	cr_assert_eq(apic_msr_write(&b.apic, MSR_APIC_BASE, base & ~(uint64_t)APIC_BASE_ENABLE),
		     -EINVAL);
	cr_assert_eq(apic_msr_write(&b.apic, MSR_APIC_BASE, base + 0x1000), -EINVAL);
}

/* ---- the timer ---- */

Test(apic, timer_one_shot)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	cr_assert_eq(wr(&b, APIC_LVT_TIMER, 0xec), 0);
	cr_assert_eq(wr(&b, APIC_TIMER_DIVIDE, 3), 0); /* by 16 */
	cr_assert_eq(wr(&b, APIC_TIMER_INITIAL, 1000), 0);
	cr_assert_eq(b.deadline_ns, b.now_ns + 1000 * 16 * TICK_NS);
	cr_assert_eq(rd(&b, APIC_TIMER_CURRENT), 1000);
	b.now_ns += 250 * 16 * TICK_NS;
	cr_assert_eq(rd(&b, APIC_TIMER_CURRENT), 750);
	apic_timer_fire(&b.apic);
	cr_assert_eq(apic_pending(&b.apic), -1, "too early");
	b.now_ns = b.deadline_ns;
	cr_assert_eq(rd(&b, APIC_TIMER_CURRENT), 0);
	apic_timer_fire(&b.apic);
	cr_assert_eq(apic_pending(&b.apic), 0xec);
	apic_accept(&b.apic, 0xec);
	apic_timer_fire(&b.apic);
	wr(&b, APIC_EOI, 0);
	cr_assert_eq(apic_pending(&b.apic), -1, "once");
	cr_assert_eq(rd(&b, APIC_TIMER_INITIAL), 1000);
}

Test(apic, timer_periodic)
{
	struct bench b;
	uint64_t first;
	unsigned i;

	bench_init(&b, 1);
	enable(&b);
	wr(&b, APIC_LVT_TIMER, 0xec | APIC_LVT_PERIODIC);
	wr(&b, APIC_TIMER_DIVIDE, 0xb); /* by 1 */
	wr(&b, APIC_TIMER_INITIAL, 25000);
	first = b.deadline_ns;
	cr_assert_eq(first, b.now_ns + 1000000);
	for (i = 0; i < 3; i++) {
		b.now_ns = b.deadline_ns + 100;
		apic_timer_fire(&b.apic);
		cr_assert_eq(apic_pending(&b.apic), 0xec);
		apic_accept(&b.apic, 0xec);
		wr(&b, APIC_EOI, 0);
		cr_assert_eq(b.deadline_ns, first + (i + 1) * 1000000, "no drift");
	}
	b.now_ns = b.deadline_ns + 5500000;
	apic_timer_fire(&b.apic);
	cr_assert_eq(b.deadline_ns, first + 9 * 1000000, "missed periods are skipped");
	cr_assert_eq(wr(&b, APIC_TIMER_INITIAL, 0), 0);
	cr_assert_eq(b.deadline_ns, APIC_TIMER_OFF);
	cr_assert_eq(rd(&b, APIC_TIMER_CURRENT), 0);
}

Test(apic, timer_period_has_a_floor)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	wr(&b, APIC_LVT_TIMER, 0xec | APIC_LVT_PERIODIC);
	wr(&b, APIC_TIMER_DIVIDE, 0xb);
	wr(&b, APIC_TIMER_INITIAL, 1);
	b.now_ns = b.deadline_ns;
	apic_timer_fire(&b.apic);
	cr_assert_geq(b.deadline_ns - b.now_ns, 100000);
}

Test(apic, timer_masked_counts_but_is_silent)
{
	struct bench b;

	bench_init(&b, 1);
	enable(&b);
	wr(&b, APIC_LVT_TIMER, 0xec | APIC_LVT_MASKED);
	wr(&b, APIC_TIMER_INITIAL, 100);
	cr_assert_neq(b.deadline_ns, APIC_TIMER_OFF);
	b.now_ns = b.deadline_ns;
	apic_timer_fire(&b.apic);
	cr_assert_eq(apic_pending(&b.apic), -1);
}

Test(apic, timer_divides)
{
	static const unsigned divisors[] = {2, 4, 8, 16, 32, 64, 128, 1};
	struct bench b;
	unsigned i;

	bench_init(&b, 1);
	for (i = 0; i < 8; i++) {
		cr_assert_eq(wr(&b, APIC_TIMER_DIVIDE, (i & 3) | (i & 4) << 1), 0);
		wr(&b, APIC_TIMER_INITIAL, 7);
		cr_assert_eq(b.deadline_ns, b.now_ns + 7 * divisors[i] * TICK_NS);
	}
	wr(&b, APIC_TIMER_INITIAL, 100);
	b.now_ns += 40 * TICK_NS;
	wr(&b, APIC_TIMER_DIVIDE, 0);
	cr_assert_eq(rd(&b, APIC_TIMER_CURRENT), 60, "the count goes on at the new rate");
	cr_assert_eq(b.deadline_ns, b.now_ns + 60 * 2 * TICK_NS);
}
