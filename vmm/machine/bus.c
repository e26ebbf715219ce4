/* SPDX-License-Identifier: Apache-2.0 */
/* Port and MMIO dispatch by range. */
#include "vmm/machine/bus.h"

#include <errno.h>

uint64_t bus_ones(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << size * 8) - 1;
}

static int range_add(struct bus_range *ranges, unsigned *count, const struct bus_range *add)
{
	unsigned i;

	if (!add->count || add->first + add->count < add->first)
		return -EINVAL;
	for (i = 0; i < *count; i++)
		if (add->first < ranges[i].first + ranges[i].count &&
		    ranges[i].first < add->first + add->count)
			return -EINVAL;
	if (*count == BUS_RANGES_MAX)
		return -ENOSPC;
	ranges[(*count)++] = *add;
	return 0;
}

int bus_add_ports(struct bus *bus, uint16_t first, unsigned count, const struct bus_ops *ops,
		  void *dev)
{
	const struct bus_range range = {first, count, ops, dev};

	if (first + count > 0x10000u)
		return -EINVAL;
	return range_add(bus->ports, &bus->ports_count, &range);
}

int bus_add_mmio(struct bus *bus, uint64_t first, uint64_t count, const struct bus_ops *ops,
		 void *dev)
{
	const struct bus_range range = {first, count, ops, dev};

	return range_add(bus->mmio, &bus->mmio_count, &range);
}

static const struct bus_range *range_find(const struct bus_range *ranges, unsigned count,
					  uint64_t addr)
{
	unsigned i;

	for (i = 0; i < count; i++)
		if (addr - ranges[i].first < ranges[i].count)
			return &ranges[i];
	return NULL;
}

bool bus_claims_port(const struct bus *bus, uint16_t port)
{
	return range_find(bus->ports, bus->ports_count, port) != NULL;
}

bool bus_claims_mmio(const struct bus *bus, uint64_t gpa)
{
	return range_find(bus->mmio, bus->mmio_count, gpa) != NULL;
}

uint32_t bus_pio_read(const struct bus *bus, unsigned vcpu, uint16_t port, unsigned size)
{
	const struct bus_range *r = range_find(bus->ports, bus->ports_count, port);
	uint64_t ones = bus_ones(size);

	return (uint32_t)(r ? r->ops->read(r->dev, vcpu, port, size) & ones : ones);
}

void bus_pio_write(const struct bus *bus, unsigned vcpu, uint16_t port, unsigned size,
		   uint32_t value)
{
	const struct bus_range *r = range_find(bus->ports, bus->ports_count, port);

	if (r)
		r->ops->write(r->dev, vcpu, port, size, value & bus_ones(size));
}

uint64_t bus_mmio_read(const struct bus *bus, unsigned vcpu, uint64_t gpa, unsigned size)
{
	const struct bus_range *r = range_find(bus->mmio, bus->mmio_count, gpa);
	uint64_t ones = bus_ones(size);

	return r ? r->ops->read(r->dev, vcpu, gpa, size) & ones : ones;
}

void bus_mmio_write(const struct bus *bus, unsigned vcpu, uint64_t gpa, unsigned size,
		    uint64_t value)
{
	const struct bus_range *r = range_find(bus->mmio, bus->mmio_count, gpa);

	if (r)
		r->ops->write(r->dev, vcpu, gpa, size, value & bus_ones(size));
}
