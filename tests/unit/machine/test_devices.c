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

static time_t fixed_now(void *ctx)
{
	return *(time_t *)ctx;
}

static uint8_t cmos_get(struct cmos *c, uint8_t index)
{
	cmos_write(c, 0, index);
	return cmos_read(c, 1);
}

Test(cmos, time_in_bcd)
{
	time_t now = 1709210096; /* Thu 2024-02-29 12:34:56 UTC */
	struct cmos c;

	cr_assert_eq(cmos_init(&c, fixed_now, &now), 0);
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
	now = 0;
	cr_assert_eq(cmos_get(&c, 9), 0x70);
	cmos_destroy(&c);
}

Test(cmos, only_nvram_can_be_written)
{
	time_t now = 1709210096;
	struct cmos c;
	unsigned i;

	cr_assert_eq(cmos_init(&c, fixed_now, &now), 0);
	for (i = 0; i < 256; i++) {
		cmos_write(&c, 0, (uint8_t)i); /* bit 7 is the NMI gate */
		cmos_write(&c, 1, (uint8_t)(i ^ 0x5a));
	}
	cr_assert_eq(cmos_get(&c, 0), 0x56);
	cr_assert_eq(cmos_get(&c, 11), 0x02);
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
