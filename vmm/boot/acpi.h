/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI tables that describe a VM's CPUs, NUMA nodes and devices to the guest. */
#ifndef VMM_ACPI_H
#define VMM_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/shape.h"

/* Where a table lies in the area, for tests. */
struct acpi_table {
	char signature[5];
	uint32_t offset, length;
};

/* RSDP (no signature of its own here), XSDT, FADT, DSDT, MADT, SRAT, SLIT, HMAT, MCFG. */
#define ACPI_TABLES_MAX 9

struct acpi_index {
	unsigned count;
	struct acpi_table table[ACPI_TABLES_MAX];
};

/*
 * Writes all tables for the shape into area (size bytes, zeroed by this call), which the guest will
 * see at guest physical area_gpa; the RSDP is at its start (ACPI 6.4, section 5.2.5: found by a
 * search of 0xE0000..0xFFFFF or by boot_params). index may be NULL. Hardware-reduced ACPI: no PM
 * timer, no SCI, no legacy PIC; sleep and reset by the registers of vmm/boot/layout.h.
 * Pure: any thread. Returns 0 or -ENOSPC when the area is too small.
 */
int acpi_build(const struct vm_shape *shape, uint8_t *area, size_t size, uint64_t area_gpa,
	       struct acpi_index *index);

#endif
