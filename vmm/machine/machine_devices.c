/* SPDX-License-Identifier: Apache-2.0 */
/* The platform devices of slice 0, and the bus that leads to devices: directly at home, by messages elsewhere. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/machine_parts.h"

/* ---- devices' calls outwards: ctx is the machine ---- */

static void ioapic_send(void *ctx, const struct ipi *ipi)
{
	machine_ipi(ctx, NULL, ipi);
}

static void serial_line(void *ctx, bool active)
{
	struct machine *m = ctx;

	ioapic_line(&m->devices->ioapic, LAYOUT_COM1_GSI, active);
}

static void serial_tap(void *ctx, uint8_t byte)
{
	struct machine *m = ctx;

	power_console_byte(&m->devices->power, byte);
}

static void serial_out(void *ctx, const uint8_t *bytes, size_t len)
{
	struct machine *m = ctx;

	m->callbacks.on_console(m->callbacks.ctx, bytes, len);
}

static void serial_input_room(void *ctx)
{
	struct machine *m = ctx;

	if (m->callbacks.on_input_room)
		m->callbacks.on_input_room(m->callbacks.ctx);
}

static uint64_t serial_now_ns(void *ctx)
{
	(void)ctx;
	return clock_now_ns();
}

static void serial_refill_at(void *ctx, uint64_t when_ns)
{
	struct machine *m = ctx;

	timer_set(&m->timer, MACHINE_SERIAL_SLOT, when_ns);
}

static void cmos_line(void *ctx, bool active)
{
	struct machine *m = ctx;

	ioapic_line(&m->devices->ioapic, LAYOUT_CMOS_GSI, active);
}

static void cmos_wake_after(void *ctx, uint64_t delay_ns)
{
	struct machine *m = ctx;

	timer_set(&m->timer, MACHINE_CMOS_SLOT,
		  delay_ns == UINT64_MAX ? TIMER_OFF : clock_now_ns() + delay_ns);
}

static void power_end(void *ctx, enum exit_code reason, const char *sentence)
{
	machine_end(ctx, reason, sentence);
}

/* The CPUs look whether the guest has ended, each on its own thread. */
static void power_gave_up(void *ctx)
{
	struct machine *m = ctx;

	for (unsigned i = 0; i < m->vcpus_count; i++)
		machine_vcpu_kick(&m->vcpus[i]);
}

/* ---- registers: byte devices see each byte of a wider access that lies in their range ---- */

static uint64_t bytes_read(struct machine *m, uint64_t port, unsigned size, uint64_t end,
			   uint8_t (*read)(struct machine *m, uint16_t port))
{
	uint64_t value = 0;
	unsigned i;

	for (i = 0; i < size; i++) {
		uint8_t byte = port + i < end ? read(m, (uint16_t)(port + i)) : 0xff;

		value |= (uint64_t)byte << i * 8;
	}
	return value;
}

static void bytes_write(struct machine *m, uint64_t port, unsigned size, uint64_t end,
			uint64_t value,
			void (*write)(struct machine *m, uint16_t port, uint8_t value))
{
	unsigned i;

	for (i = 0; i < size && port + i < end; i++)
		write(m, (uint16_t)(port + i), (uint8_t)(value >> i * 8));
}

static uint8_t com1_byte_read(struct machine *m, uint16_t port)
{
	return serial_read(&m->devices->serial, port - LAYOUT_COM1_PORT);
}

static void com1_byte_write(struct machine *m, uint16_t port, uint8_t value)
{
	serial_write(&m->devices->serial, port - LAYOUT_COM1_PORT, value);
}

static uint64_t com1_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	(void)vcpu;
	return bytes_read(dev, addr, size, LAYOUT_COM1_PORT + LAYOUT_COM1_SIZE, com1_byte_read);
}

static void com1_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	(void)vcpu;
	bytes_write(dev, addr, size, LAYOUT_COM1_PORT + LAYOUT_COM1_SIZE, value, com1_byte_write);
}

static uint8_t cmos_byte_read(struct machine *m, uint16_t port)
{
	return cmos_read(&m->devices->cmos, port - LAYOUT_CMOS_PORT);
}

static void cmos_byte_write(struct machine *m, uint16_t port, uint8_t value)
{
	cmos_write(&m->devices->cmos, port - LAYOUT_CMOS_PORT, value);
}

static uint64_t clock_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	(void)vcpu;
	return bytes_read(dev, addr, size, LAYOUT_CMOS_PORT + LAYOUT_CMOS_SIZE, cmos_byte_read);
}

static void clock_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	(void)vcpu;
	bytes_write(dev, addr, size, LAYOUT_CMOS_PORT + LAYOUT_CMOS_SIZE, value, cmos_byte_write);
}

/* The power registers are single bytes; a wider access reaches the first alone. */
static uint64_t power_port_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct machine *m = dev;

	(void)vcpu;
	return (bus_ones(size) & ~UINT64_C(0xff)) | power_read(&m->devices->power, (uint16_t)addr);
}

static void power_port_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct machine *m = dev;

	(void)vcpu;
	(void)size;
	power_write(&m->devices->power, (uint16_t)addr, (uint8_t)value);
}

static uint64_t debug_exit_port_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct machine *m = dev;

	(void)vcpu;
	(void)addr;
	return debug_exit_read(&m->devices->debug_exit, size);
}

static void debug_exit_port_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size,
				  uint64_t value)
{
	struct machine *m = dev;

	(void)vcpu;
	(void)addr;
	debug_exit_write(&m->devices->debug_exit, size, value);
}

/* The I/O APIC decodes the low byte of the address alone, and only 32-bit registers. */
static uint64_t ioapic_mmio_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct machine *m = dev;

	(void)vcpu;
	(void)size;
	return ioapic_read(&m->devices->ioapic, addr & 0xff);
}

static void ioapic_mmio_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size,
			      uint64_t value)
{
	struct machine *m = dev;

	(void)vcpu;
	(void)size;
	ioapic_write(&m->devices->ioapic, addr & 0xff, (uint32_t)value);
}

/* ---- the table ---- */

struct port_claim {
	uint16_t first;
	uint16_t count;
	struct bus_ops ops;
};

static const struct port_claim port_claims[] = {
	{LAYOUT_COM1_PORT, LAYOUT_COM1_SIZE, {com1_read, com1_write}},
	{LAYOUT_CMOS_PORT, LAYOUT_CMOS_SIZE, {clock_read, clock_write}},
	{LAYOUT_SLEEP_CONTROL_PORT, 1, {power_port_read, power_port_write}},
	{LAYOUT_SLEEP_STATUS_PORT, 1, {power_port_read, power_port_write}},
	{LAYOUT_RESET_PORT, 1, {power_port_read, power_port_write}},
	{LAYOUT_RESET_CF9_PORT, 1, {power_port_read, power_port_write}},
	{LAYOUT_RESET_KBD_PORT, 1, {power_port_read, power_port_write}},
	{LAYOUT_PVPANIC_PORT, 1, {power_port_read, power_port_write}},
	{LAYOUT_DEBUG_EXIT_PORT, 1, {debug_exit_port_read, debug_exit_port_write}},
};

static const struct bus_ops ioapic_ops = {ioapic_mmio_read, ioapic_mmio_write};

int machine_ports_claim(struct machine *m, unsigned owner, uint16_t first, unsigned count,
			const struct bus_ops *ops, void *dev)
{
	int err;

	if (owner != m->self)
		return bus_add_ports(&m->bus, first, count, &remote_port_ops,
				     &m->remote.door[owner]);
	err = bus_add_ports(&m->bus, first, count, ops, dev);
	return err ? err : bus_add_ports(&m->served, first, count, ops, dev);
}

int machine_mmio_claim(struct machine *m, unsigned owner, uint64_t first, uint64_t count,
		       const struct bus_ops *ops, void *dev, const struct bus_ops *far)
{
	int err;

	if (owner != m->self)
		return bus_add_mmio(&m->bus, first, count, far, &m->remote.door[owner]);
	err = bus_add_mmio(&m->bus, first, count, ops, dev);
	return err ? err : bus_add_mmio(&m->served, first, count, ops, dev);
}

int machine_devices_attach(struct machine *m)
{
	size_t i;
	int err = 0;

	for (i = 0; i < sizeof(port_claims) / sizeof(port_claims[0]) && !err; i++) {
		const struct port_claim *claim = &port_claims[i];

		err = machine_ports_claim(m, 0, claim->first, claim->count, &claim->ops, m);
	}
	if (!err)
		err = machine_mmio_claim(m, 0, LAYOUT_IOAPIC_BASE, LAYOUT_IOAPIC_SIZE, &ioapic_ops,
					 m, &remote_mmio_ops);
	return err ? err : machine_pci_attach(m);
}

void machine_console_watch(struct machine *m, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; m->devices && i < len; i++)
		power_console_byte(&m->devices->power, bytes[i]);
}

void machine_power_button(struct machine *m)
{
	if (!m->devices)
		return;
	ioapic_line(&m->devices->ioapic, LAYOUT_BUTTON_GSI, true);
	ioapic_line(&m->devices->ioapic, LAYOUT_BUTTON_GSI, false);
}

static int platform_create(struct machine *m, struct machine_devices *d)
{
	const struct serial_config serial = {m,
					     serial_line,
					     serial_tap,
					     serial_out,
					     serial_input_room,
					     serial_now_ns,
					     serial_refill_at};
	const struct cmos_config cmos = {
		.ctx = m, .line = cmos_line, .wake_after = cmos_wake_after};
	int err = ioapic_init(&d->ioapic, ioapic_send, m);

	if (err)
		return err;
	err = serial_init(&d->serial, &serial);
	if (err)
		goto fail_ioapic;
	err = cmos_init(&d->cmos, &cmos);
	if (err)
		goto fail_serial;
	err = power_init(&d->power, power_end, power_gave_up, m);
	if (err)
		goto fail_cmos;
	debug_exit_init(&d->debug_exit, m->debug_exit, power_end, m);
	return 0;
fail_cmos:
	cmos_destroy(&d->cmos);
fail_serial:
	serial_destroy(&d->serial);
fail_ioapic:
	ioapic_destroy(&d->ioapic);
	return err;
}

int machine_devices_create(struct machine *m)
{
	struct machine_devices *d = calloc(1, sizeof(*d));
	int err = d ? platform_create(m, d) : -ENOMEM;

	if (err) {
		free(d);
		return err;
	}
	m->devices = d;
	return 0;
}

void machine_devices_destroy(struct machine *m)
{
	struct machine_devices *d = m->devices;

	if (!d)
		return;
	power_destroy(&d->power);
	cmos_destroy(&d->cmos);
	serial_destroy(&d->serial);
	ioapic_destroy(&d->ioapic);
	free(d);
}
