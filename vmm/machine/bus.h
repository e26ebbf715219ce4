/* SPDX-License-Identifier: Apache-2.0 */
/* Which device answers at which port and address. A machine has the same ranges on all slices: behind each stands the
 * device itself on its own slice, elsewhere the calls to that slice. */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The machine has eleven port ranges; of MMIO the I/O APIC's, and two for each slice with PCI devices, which share a
 * window: not more slices than a VM has devices, and slice 0. */
#define BUS_RANGES_MAX 48u

/* Reads give the value zero-extended. addr is absolute; the access begins within the range. */
struct bus_ops {
	uint64_t (*read)(void *dev, unsigned vcpu, uint64_t addr, unsigned size);
	void (*write)(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value);
};

struct bus_range {
	uint64_t first, count;
	const struct bus_ops *ops;
	void *dev;
};

/* Filled before any access, constant afterwards: any thread may then use it. */
struct bus {
	struct bus_range ports[BUS_RANGES_MAX], mmio[BUS_RANGES_MAX];
	unsigned ports_count, mmio_count;
};

/* -EINVAL for an empty range or one that overlaps another, -ENOSPC when the table is full. */
int bus_add_ports(struct bus *bus, uint16_t first, unsigned count, const struct bus_ops *ops,
		  void *dev);
int bus_add_mmio(struct bus *bus, uint64_t first, uint64_t count, const struct bus_ops *ops,
		 void *dev);

/*
 * An access goes to the range in which it begins, whole: a dword at 0xcf8 is not a byte at 0xcf9.
 * Unclaimed reads give all ones (of the size), unclaimed writes nothing.
 */
uint32_t bus_pio_read(const struct bus *bus, unsigned vcpu, uint16_t port, unsigned size);
void bus_pio_write(const struct bus *bus, unsigned vcpu, uint16_t port, unsigned size,
		   uint32_t value);
uint64_t bus_mmio_read(const struct bus *bus, unsigned vcpu, uint64_t gpa, unsigned size);
void bus_mmio_write(const struct bus *bus, unsigned vcpu, uint64_t gpa, unsigned size,
		    uint64_t value);

/* Whether somebody has claimed where an access begins. */
bool bus_claims_port(const struct bus *bus, uint16_t port);
bool bus_claims_mmio(const struct bus *bus, uint64_t gpa);

/* All ones of 1, 2, 4 or 8 bytes. */
uint64_t bus_ones(unsigned size);

#endif
