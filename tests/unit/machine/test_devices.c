/* SPDX-License-Identifier: Apache-2.0 */
/* CMOS clock, power registers with the watch for panics, the bus, and the timer thread. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/machine/bus.h"
#include "vmm/devices/cmos.h"
#include "vmm/boot/layout.h"
#include "vmm/devices/power.h"
#include "vmm/apic/timer.h"

/* ---- CMOS ---- */

struct fixed_clock {
	uint64_t now_ns, delay_ns;
	bool line;
	unsigned edges;
};

static uint64_t fixed_now(void *ctx)
{
	return ((struct fixed_clock *)ctx)->now_ns;
}

static void fixed_line(void *ctx, bool active)
{
	struct fixed_clock *f = ctx;

	cr_assert_neq(f->line, active);
	f->line = active;
	f->edges += active;
}

static void fixed_wake_after(void *ctx, uint64_t delay_ns)
{
	((struct fixed_clock *)ctx)->delay_ns = delay_ns;
}

#define FIXED_S UINT64_C(1709210096) /* Thu 2024-02-29 12:34:56 UTC */

static void fixed_begin(struct cmos *c, struct fixed_clock *f)
{
	const struct cmos_config config = {
		.ctx = f, .now_ns = fixed_now, .line = fixed_line, .wake_after = fixed_wake_after};

	*f = (struct fixed_clock){.now_ns = FIXED_S * NS_PER_S, .delay_ns = UINT64_MAX};
	cr_assert_eq(cmos_init(c, &config), 0);
}

static void cmos_put(struct cmos *c, uint8_t index, uint8_t value)
{
	cmos_write(c, 0, index);
	cmos_write(c, 1, value);
}

/* Lets time go by, waking as asked for; returns how often the line rose. */
static unsigned fixed_pass(struct cmos *c, struct fixed_clock *f, uint64_t ns)
{
	uint64_t end = f->now_ns + ns;
	unsigned before = f->edges;

	while (f->delay_ns != UINT64_MAX && f->delay_ns <= end - f->now_ns) {
		f->now_ns += f->delay_ns;
		f->delay_ns = UINT64_MAX;
		cmos_wake(c);
	}
	if (f->delay_ns != UINT64_MAX)
		f->delay_ns -= end - f->now_ns;
	f->now_ns = end;
	return f->edges - before;
}

static uint8_t cmos_get(struct cmos *c, uint8_t index)
{
	cmos_write(c, 0, index);
	return cmos_read(c, 1);
}

Test(cmos, time_in_bcd)
{
	struct fixed_clock f;
	struct cmos c;

	fixed_begin(&c, &f);
	cr_assert_eq(cmos_get(&c, 0), 0x56);
	cr_assert_eq(cmos_get(&c, 2), 0x34);
	cr_assert_eq(cmos_get(&c, 4), 0x12);
	cr_assert_eq(cmos_get(&c, 6), 5, "Thursday");
	cr_assert_eq(cmos_get(&c, 7), 0x29);
	cr_assert_eq(cmos_get(&c, 8), 0x02);
	cr_assert_eq(cmos_get(&c, 9), 0x24);
	cr_assert_eq(cmos_get(&c, LAYOUT_CMOS_CENTURY), 0x20);
	cr_assert_not(cmos_get(&c, 10) & 0x80, "UIP is clear");
	cr_assert_eq(cmos_get(&c, 11), 0x02);
	cr_assert_eq(cmos_get(&c, 12), 0);
	cr_assert_eq(cmos_get(&c, 13), 0x80);
	f.now_ns = 0;
	cr_assert_eq(cmos_get(&c, 9), 0x70);
	cmos_destroy(&c);
}

Test(cmos, an_alarm_comes_at_its_time_and_nothing_wakes_before)
{
	struct fixed_clock f;
	struct cmos c;

	fixed_begin(&c, &f);
	cmos_put(&c, 1, 0x06);
	cmos_put(&c, 3, 0x35);
	cmos_put(&c, 5, 0x12);
	cr_expect_eq(f.delay_ns, UINT64_MAX, "it is not enabled");
	cmos_put(&c, 11, 0x22);
	cr_expect_eq(f.delay_ns, 10 * NS_PER_S);
	cr_expect_eq(cmos_get(&c, 11), 0x22);
	cr_expect_eq(fixed_pass(&c, &f, 10 * NS_PER_S - 1), 0);
	cr_expect_eq(fixed_pass(&c, &f, 1), 1);
	cr_expect_eq(f.delay_ns, UINT64_MAX, "the guest has not taken it");
	cr_expect_eq(cmos_get(&c, 12), 0xf0, "periods and updates have been, too");
	cr_expect_not(f.line);
	cr_expect_eq(cmos_get(&c, 12), 0);
	/* Tomorrow again; the wait is in pieces. */
	cr_expect_eq(f.delay_ns, CMOS_SLEEP_NS);
	cr_expect_eq(fixed_pass(&c, &f, 86400 * NS_PER_S), 1);
	cr_expect_eq(cmos_get(&c, 12) & 0xa0, 0xa0);
	cmos_put(&c, 11, 0x02);
	cr_expect_eq(f.delay_ns, UINT64_MAX);
	cmos_destroy(&c);
}

Test(cmos, an_alarm_may_leave_fields_open)
{
	struct fixed_clock f;
	struct cmos c;

	fixed_begin(&c, &f);
	cmos_put(&c, 1, 0x30);
	cmos_put(&c, 3, 0xff);
	cmos_put(&c, 5, 0xff);
	cmos_put(&c, 11, 0x22);
	for (unsigned i = 0; i < 5; i++) {
		cr_expect_eq(fixed_pass(&c, &f, 60 * NS_PER_S), 1);
		cr_expect_eq(cmos_get(&c, 12) & 0xa0, 0xa0);
	}
	cmos_put(&c, 1, 0x61); /* no second has this number */
	cr_expect_eq(f.delay_ns, UINT64_MAX);
	cr_expect_eq(fixed_pass(&c, &f, 86400 * NS_PER_S), 0);
	cmos_destroy(&c);
}

Test(cmos, an_alarm_of_the_past_is_for_tomorrow)
{
	struct fixed_clock f;
	struct cmos c;

	fixed_begin(&c, &f);
	fixed_pass(&c, &f, 100 * NS_PER_S);
	cmos_put(&c, 1, 0x00); /* 12:35:00, half a minute ago */
	cmos_put(&c, 3, 0x35);
	cmos_put(&c, 5, 0x12);
	cmos_put(&c, 11, 0x22);
	cr_expect_not(f.line);
	cr_expect_eq(cmos_get(&c, 12) & 0x20, 0);
	cmos_destroy(&c);
}

Test(cmos, seconds_and_periods)
{
	struct fixed_clock f;
	struct cmos c;
	unsigned edges = 0;

	fixed_begin(&c, &f);
	cmos_put(&c, 11, 0x12);
	for (unsigned i = 0; i < 10; i++) {
		edges += fixed_pass(&c, &f, NS_PER_S);
		cr_expect_eq(cmos_get(&c, 12) & 0x90, 0x90);
	}
	cr_expect_eq(edges, 10);
	/* 2 Hz, taken at once. */
	cmos_put(&c, 10, 0x2f);
	cr_expect_eq(cmos_get(&c, 10), 0x2f);
	cmos_put(&c, 11, 0x42);
	(void)cmos_get(&c, 12);
	for (unsigned i = 0; i < 20; i++) {
		cr_expect_eq(fixed_pass(&c, &f, NS_PER_S / 2), 1);
		cr_expect_eq(cmos_get(&c, 12) & 0xc0, 0xc0);
	}
	/* No rate: no period. */
	cmos_put(&c, 10, 0x20);
	cr_expect_eq(f.delay_ns, UINT64_MAX);
	cmos_destroy(&c);
}

/* A host whose time is set while an alarm waits. */
Test(cmos, time_that_steps_back_and_forth)
{
	struct fixed_clock f;
	struct cmos c;

	fixed_begin(&c, &f);
	cmos_put(&c, 1, 0x00);
	cmos_put(&c, 3, 0x00);
	cmos_put(&c, 5, 0x13);
	cmos_put(&c, 11, 0x22);
	f.now_ns += 3600 * NS_PER_S;
	cmos_wake(&c);
	cr_expect(f.line);
	cr_expect(cmos_get(&c, 12) & 0x20);
	f.now_ns -= 3600 * NS_PER_S;
	cmos_wake(&c);
	cr_expect_not(f.line);
	f.now_ns = 0;
	cmos_wake(&c);
	cr_expect_eq(f.delay_ns, CMOS_SLEEP_NS);
	cmos_destroy(&c);
}

Test(cmos, only_nvram_and_controls_can_be_written)
{
	struct fixed_clock f;
	struct cmos c;
	unsigned i;

	fixed_begin(&c, &f);
	for (i = 0; i < 256; i++) {
		cmos_write(&c, 0, (uint8_t)i); /* bit 7 is the NMI gate */
		cmos_write(&c, 1, (uint8_t)(i ^ 0x5a));
	}
	cr_assert_eq(cmos_get(&c, 0), 0x56);
	cr_assert_eq(cmos_get(&c, 11), 0x52, "and which interrupts are wanted");
	cr_assert_eq(cmos_get(&c, 1), 0xdb, "an alarm byte");
	cr_assert_eq(cmos_get(&c, 0x0f), (uint8_t)(0x8f ^ 0x5a));
	cr_assert_eq(cmos_get(&c, 0xff), (uint8_t)(0xff ^ 0x5a));
	cr_assert_eq(cmos_read(&c, 0), 0xff);
	cmos_destroy(&c);
}

/* ---- power ---- */

struct ends {
	unsigned count;
	enum exit_code reason;
	char sentence[300];
};

static void end_seen(void *ctx, enum exit_code reason, const char *sentence)
{
	struct ends *e = ctx;

	e->count++;
	e->reason = reason;
	snprintf(e->sentence, sizeof(e->sentence), "%s", sentence);
}

static void console(struct power *p, const char *text)
{
	for (; *text; text++)
		power_console_byte(p, (uint8_t)*text);
}

Test(power, sleep_and_reset_registers)
{
	struct ends e = {0};
	struct power p;

	cr_assert_eq(power_init(&p, end_seen, NULL, &e), 0);
	power_write(&p, LAYOUT_SLEEP_CONTROL_PORT, 5 << 2);
	power_write(&p, LAYOUT_SLEEP_CONTROL_PORT, 0x20 | 3 << 2);
	power_write(&p, LAYOUT_SLEEP_STATUS_PORT, 0x80);
	power_write(&p, LAYOUT_RESET_PORT, 2);
	power_write(&p, LAYOUT_RESET_CF9_PORT, 2);
	power_write(&p, LAYOUT_RESET_KBD_PORT, 0xff);
	power_write(&p, LAYOUT_PVPANIC_PORT, 2);
	cr_assert_eq(e.count, 0);
	power_write(&p, LAYOUT_SLEEP_CONTROL_PORT, 0x20 | 5 << 2);
	cr_assert_eq(e.reason, EXIT_OK);
	power_write(&p, LAYOUT_RESET_PORT, 1);
	cr_assert_eq(e.reason, EXIT_RESET);
	power_write(&p, LAYOUT_RESET_CF9_PORT, 0x06);
	power_write(&p, LAYOUT_RESET_KBD_PORT, 0xfe);
	cr_assert_eq(e.count, 4);
	power_write(&p, LAYOUT_PVPANIC_PORT, 1);
	cr_assert_eq(e.reason, EXIT_PANIC);
	cr_assert_eq(power_read(&p, LAYOUT_PVPANIC_PORT), 3);
	cr_assert_eq(power_read(&p, LAYOUT_SLEEP_STATUS_PORT), 0);
	cr_assert_eq(power_read(&p, LAYOUT_RESET_KBD_PORT), 0xff);
	power_destroy(&p);
}

Test(power, panic_message_explains_a_reset)
{
	struct ends e = {0};
	struct power p;
	char text[300];

	cr_assert_eq(power_init(&p, end_seen, NULL, &e), 0);
	console(&p, "[    0.1] Kernel panic - not");
	cr_assert_not(power_panicked(&p, text, sizeof(text)), "half a line");
	console(&p, " syncing: Attempted to kill init!\r\nCPU: 0\n");
	cr_assert(power_panicked(&p, text, sizeof(text)));
	cr_assert_str_eq(text, "Kernel panic - not syncing: Attempted to kill init!");
	power_write(&p, LAYOUT_RESET_PORT, 1);
	cr_assert_eq(e.reason, EXIT_PANIC);
	cr_assert_str_eq(e.sentence, text);
	power_write(&p, LAYOUT_SLEEP_CONTROL_PORT, 0x34);
	cr_assert_eq(e.reason, EXIT_OK, "a power-off is a power-off");
	power_destroy(&p);
}

Test(power, an_old_panic_message_was_only_a_log)
{
	struct ends e = {0};
	struct power p;
	char text[300];
	unsigned i;

	cr_assert_eq(power_init(&p, end_seen, NULL, &e), 0);
	console(&p, "Kernel panic - not syncing: from a log\n");
	for (i = 0; i < 100; i++)
		console(&p, "a line of a trace\n");
	cr_assert(power_panicked(&p, text, sizeof(text)));
	for (i = 0; i < 300; i++)
		console(&p, "a line of something else\n");
	power_write(&p, LAYOUT_RESET_PORT, 1);
	cr_assert_eq(e.reason, EXIT_RESET);
	for (i = 0; i < 5000; i++)
		console(&p, "x"); /* a line without end */
	console(&p, "\nKernel panic - not syncing: new\n");
	cr_assert(power_panicked(&p, text, sizeof(text)));
	power_destroy(&p);
}

/* ---- the bus ---- */

struct probe {
	uint64_t addr, value;
	unsigned size, vcpu, calls;
};

static uint64_t probe_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct probe *p = dev;

	*p = (struct probe){.addr = addr, .size = size, .vcpu = vcpu, .calls = p->calls + 1};
	return 0x1122334455667788;
}

static void probe_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct probe *p = dev;

	*p = (struct probe){addr, value, size, vcpu, p->calls + 1};
}

static const struct bus_ops probe_ops = {probe_read, probe_write};

Test(bus, dispatch)
{
	struct bus bus = {0};
	struct probe p = {0};

	cr_assert_eq(bus_add_ports(&bus, 0x3f8, 8, &probe_ops, &p), 0);
	cr_assert_eq(bus_add_ports(&bus, 0xcf9, 1, &probe_ops, &p), 0);
	cr_assert_eq(bus_add_mmio(&bus, LAYOUT_IOAPIC_BASE, 0x1000, &probe_ops, &p), 0);
	cr_assert_eq(bus_pio_read(&bus, 3, 0x3ff, 1), 0x88);
	cr_assert_eq(p.addr, 0x3ff);
	cr_assert_eq(p.vcpu, 3);
	cr_assert_eq(bus_pio_read(&bus, 0, 0x3f8, 4), 0x55667788);
	cr_assert_eq(bus_mmio_read(&bus, 0, LAYOUT_IOAPIC_BASE + 0xff8, 8), 0x1122334455667788);
	bus_pio_write(&bus, 1, 0x3f9, 2, 0xaabbccdd);
	cr_assert_eq(p.value, 0xccdd);
	p.calls = 0;
	cr_assert_eq(bus_pio_read(&bus, 0, 0x400, 1), 0xff);
	cr_assert_eq(bus_pio_read(&bus, 0, 0xcfc, 4), 0xffffffff);
	cr_assert_eq(bus_pio_read(&bus, 0, 0xcfe, 2), 0xffff);
	bus_pio_write(&bus, 0, 0xcf8, 4, 0x80000e00); /* no reset through byte 1 */
	cr_assert_eq(bus_mmio_read(&bus, 0, LAYOUT_LAPIC_BASE, 8), UINT64_MAX);
	bus_mmio_write(&bus, 0, LAYOUT_IOAPIC_BASE - 8, 8, 1);
	cr_assert_eq(p.calls, 0);
}

Test(bus, bad_ranges)
{
	struct bus bus = {0};
	struct probe p = {0};
	unsigned i;

	cr_assert_eq(bus_add_ports(&bus, 0x100, 0, &probe_ops, &p), -EINVAL);
	cr_assert_eq(bus_add_ports(&bus, 0xffff, 2, &probe_ops, &p), -EINVAL);
	cr_assert_eq(bus_add_mmio(&bus, UINT64_MAX, 2, &probe_ops, &p), -EINVAL);
	cr_assert_eq(bus_add_ports(&bus, 0x100, 8, &probe_ops, &p), 0);
	cr_assert_eq(bus_add_ports(&bus, 0x107, 1, &probe_ops, &p), -EINVAL);
	cr_assert_eq(bus_add_ports(&bus, 0x0ff, 2, &probe_ops, &p), -EINVAL);
	for (i = 1; i < BUS_RANGES_MAX; i++)
		cr_assert_eq(bus_add_ports(&bus, (uint16_t)(0x200 + i), 1, &probe_ops, &p), 0);
	cr_assert_eq(bus_add_ports(&bus, 0x300, 1, &probe_ops, &p), -ENOSPC);
}

/* ---- the timer thread ---- */

struct order {
	_Atomic unsigned count;
	_Atomic unsigned slots[8];
};

static void order_fire(void *ctx, unsigned slot)
{
	struct order *o = ctx;
	unsigned n = atomic_load(&o->count);

	if (n < 8)
		atomic_store(&o->slots[n], slot);
	atomic_store(&o->count, n + 1);
}

Test(timer, fires_in_order_and_once)
{
	struct order o = {0};
	struct timer t;
	uint64_t now;
	unsigned ms;

	cr_assert_eq(timer_init(&t, order_fire, &o), 0);
	now = clock_now_ns();
	timer_set(&t, 5, now + 30 * NS_PER_MS);
	timer_set(&t, 2, now + 10 * NS_PER_MS);
	timer_set(&t, 9, now + 20 * NS_PER_MS);
	timer_set(&t, 7, now + 15 * NS_PER_MS);
	timer_set(&t, 7, TIMER_OFF);
	cr_assert_eq(timer_start(&t), 0);
	timer_set(&t, TIMER_SLOTS_MAX - 1, 1); /* long past: at once */
	for (ms = 0; atomic_load(&o.count) < 4 && ms < 10000; ms++)
		nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
	timer_stop(&t);
	cr_assert_eq(atomic_load(&o.count), 4);
	cr_assert_eq(timer_fires(&t), 4);
	cr_assert_eq(atomic_load(&o.slots[0]), TIMER_SLOTS_MAX - 1);
	cr_assert_eq(atomic_load(&o.slots[1]), 2);
	cr_assert_eq(atomic_load(&o.slots[2]), 9);
	cr_assert_eq(atomic_load(&o.slots[3]), 5);
	timer_destroy(&t);
}

/* What was taken does not fire, and what it hid does; taken once it is gone. */
Test(timer, a_deadline_that_was_taken_is_the_takers)
{
	struct order o = {0};
	struct timer t;
	uint64_t soon;
	unsigned ms;

	cr_assert_eq(timer_init(&t, order_fire, &o), 0);
	cr_assert_eq(timer_start(&t), 0);
	cr_assert_eq(timer_take(&t, 3), TIMER_OFF);
	soon = clock_now_ns() + 20 * NS_PER_S;
	timer_set(&t, 4, soon + 1);
	timer_set(&t, 3, soon);
	cr_assert_eq(timer_take(&t, 3), soon);
	cr_assert_eq(timer_take(&t, 3), TIMER_OFF);
	cr_assert_eq(timer_take(&t, 4), soon + 1);
	timer_set(&t, 6, clock_now_ns() + 5 * NS_PER_MS);
	for (ms = 0; atomic_load(&o.count) < 1 && ms < 10000; ms++)
		nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
	timer_stop(&t);
	cr_assert_eq(atomic_load(&o.count), 1);
	cr_assert_eq(atomic_load(&o.slots[0]), 6);
	timer_destroy(&t);
}
