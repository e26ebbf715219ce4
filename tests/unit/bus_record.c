/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's bus for tests: the accesses' rules and list. */
#include "tests/unit/bus_record.h"

#include <errno.h>

#include "vmm/cpu/msr.h"

static void bus_log(struct bus_record *r, char kind, unsigned size, uint64_t address,
		    uint64_t value)
{
	if (r->logged < BUS_LOG_MAX)
		r->log[r->logged++] = (struct bus_access){kind, size, address, value};
}

static void pio_read(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t *value)
{
	(void)vcpu;
	*value = 0xa0000000u + port;
	if (size < 4)
		*value &= (1u << size * 8) - 1;
	bus_log(ctx, 'i', size, port, *value);
}

static void pio_write(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t value)
{
	(void)vcpu;
	bus_log(ctx, 'o', size, port, value);
}

static void mmio_read(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t *value)
{
	(void)vcpu;
	*value = 0x1122334455667788;
	if (size < 8)
		*value &= (UINT64_C(1) << (size * 8)) - 1;
	bus_log(ctx, 'r', size, gpa, *value);
}

static void mmio_write(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	(void)vcpu;
	bus_log(ctx, 'w', size, gpa, value);
}

/* The APIC's MSRs: 0x80f refuses. APIC_BASE is what a machine's is. */
static int msr_read(void *ctx, unsigned vcpu, uint32_t msr, uint64_t *value)
{
	(void)vcpu;
	*value = msr == MSR_APIC_BASE ? 0xfee00d00 : 0xfee00000u + msr;
	bus_log(ctx, 'm', 8, msr, *value);
	return msr == 0x80f ? -EINVAL : 0;
}

static int msr_write(void *ctx, unsigned vcpu, uint32_t msr, uint64_t value)
{
	(void)vcpu;
	bus_log(ctx, 'n', 8, msr, value);
	return msr == 0x80f ? -EINVAL : 0;
}

static uint64_t cr8_read(void *ctx, unsigned vcpu)
{
	(void)vcpu;
	return ((struct bus_record *)ctx)->cr8;
}

static void cr8_write(void *ctx, unsigned vcpu, uint64_t value)
{
	(void)vcpu;
	((struct bus_record *)ctx)->cr8 = value;
	bus_log(ctx, '8', 8, 0, value);
}

struct vcpu_bus bus_record_bus(struct bus_record *record)
{
	return (struct vcpu_bus){record,   pio_read,  pio_write, mmio_read, mmio_write,
				 msr_read, msr_write, cr8_read,	 cr8_write};
}
