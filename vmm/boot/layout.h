/* SPDX-License-Identifier: Apache-2.0 */
/* Where everything is in the guest: ports, MMIO, interrupt lines, and the boot's low memory. */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#include "base/limits.h"

/* Interrupts. The local APICs are x2APIC only: their page is named in APIC_BASE, never mapped. */
#define LAYOUT_LAPIC_BASE  0xfee00000u
#define LAYOUT_IOAPIC_BASE 0xfec00000u
#define LAYOUT_IOAPIC_SIZE 0x1000u
#define LAYOUT_IOAPIC_PINS 24u /* GSI 0..23; pin = GSI */
#define LAYOUT_IOAPIC_ID   0u

/* COM1, a 16550A: edge triggered, active high in the DSDT (level works as well). */
#define LAYOUT_COM1_PORT 0x3f8u
#define LAYOUT_COM1_SIZE 8u
#define LAYOUT_COM1_GSI	 4u

/* The power button: an edge tells the guest's generic event device (ACPI 6.4, 5.6.9) that it was pressed. */
#define LAYOUT_BUTTON_GSI 5u

/* The CMOS clock: its interrupt is edge triggered, active high. */
#define LAYOUT_CMOS_PORT 0x70u /* index; data at 0x71 */
#define LAYOUT_CMOS_SIZE 2u
#define LAYOUT_CMOS_GSI	 8u
/* FADT's CENTURY: the NVRAM byte that holds it, in BCD. */
#define LAYOUT_CMOS_CENTURY 0x32u

/*
 * Power, ACPI hardware-reduced (ACPI 6.4, 4.8.3.7): FADT's SLEEP_CONTROL_REG, SLEEP_STATUS_REG
 * and RESET_REG, each one byte in system I/O space, access size 1. _S5 is Package { 5, 0, 0, 0 }.
 */
#define LAYOUT_SLEEP_CONTROL_PORT 0x600u
#define LAYOUT_SLEEP_STATUS_PORT  0x601u
#define LAYOUT_SLEEP_TYPE_S5	  5u
#define LAYOUT_RESET_PORT	  0x604u
#define LAYOUT_RESET_VALUE	  1u
/* Two older ways to reset that Linux tries; nothing else answers at these ports. */
#define LAYOUT_RESET_CF9_PORT  0xcf9u /* any value with bit 2 set, byte access */
#define LAYOUT_RESET_KBD_PORT  0x64u  /* value 0xfe */
#define LAYOUT_RESET_KBD_VALUE 0xfeu

/* pvpanic, the ISA device QEMU0001: the guest's driver writes 1 when its kernel panics. */
#define LAYOUT_PVPANIC_PORT 0x505u

/*
 * PCI: a host bridge with one bus on slice 0, and on each other slice that has devices; a bus has its slice's number.
 * Configuration space is reached by the enhanced mechanism (MCFG) and, for kernels that look for it first, by
 * mechanism 1. Byte 0xcf9 of that is the reset register above.
 */
#define LAYOUT_PCI_ECAM		0xe0000000u
#define LAYOUT_PCI_ECAM_BUS	0x100000u /* of one bus */
#define LAYOUT_PCI_ECAM_SIZE	(LAYOUT_PCI_ECAM_BUS * SLICES_MAX)
#define LAYOUT_PCI_ADDRESS_PORT 0xcf8u /* as a dword */
#define LAYOUT_PCI_DATA_PORT	0xcfcu
#define LAYOUT_PCI_DATA_SIZE	4u
#define LAYOUT_PCI_WINDOW	0xd0000000u /* for BARs */
#define LAYOUT_PCI_WINDOW_BUS	0x400000u   /* of one bus */
#define LAYOUT_PCI_WINDOW_SIZE	(LAYOUT_PCI_WINDOW_BUS * SLICES_MAX)

/* Debug exit (debug_exit.h), in no table: only for kernels whose ELF notes ask for it. */
#define LAYOUT_DEBUG_EXIT_PORT 0xf4u

/*
 * Low memory at boot. All of it is RAM; what the kernel must not reuse before it has copied it
 * lies below LAYOUT_LOW_END, and Linux reserves nothing of it afterwards.
 */
#define LAYOUT_BOOT_GDT	      0x1000u  /* four entries; CS 0x10, DS 0x18 */
#define LAYOUT_BOOT_STACK_TOP 0x7ff0u  /* grows down to the GDT's page */
#define LAYOUT_BOOT_PARAMS    0x10000u /* the zero page, 4 KiB */
#define LAYOUT_CMDLINE	      0x20000u /* CMDLINE_MAX bytes with the final NUL */
#define LAYOUT_BOOT_PAGES     0x30000u /* identity map of 4 GiB: PML4, PDPT, four PDs */
#define LAYOUT_BOOT_PAGES_MAX 6u
#define LAYOUT_SEED	      0x3f000u /* a struct setup_data with random bytes */
#define LAYOUT_LOW_END	      0x9fc00u /* end of the first E820 RAM entry */
#define LAYOUT_ACPI_START     0xe0000u /* RSDP first (Linux scans here), then the tables */
#define LAYOUT_ACPI_END	      0xf8000u
#define LAYOUT_SMBIOS_START   0xf8000u	 /* the entry point first (Linux scans from 0xf0000 on) */
#define LAYOUT_SMBIOS_END     0xff000u	 /* all up to LAYOUT_HIGH_START is reserved (E820) */
#define LAYOUT_RESET_VECTOR   0xffff0u	 /* real mode ffff:0000 */
#define LAYOUT_HIGH_START     0x100000u	 /* RAM again */
#define LAYOUT_KERNEL	      0x1000000u /* where a kernel goes that has no preference */

/* CPUID leaf 0x15 says TSC = crystal x 40; the APIC timer counts crystal ticks. */
#define LAYOUT_TSC_HZ	  UINT64_C(1000000000)
#define LAYOUT_CRYSTAL_HZ 25000000u
/* Guest physical and linear address bits (CPUID 0x80000008). */
#define LAYOUT_PHYS_BITS   46u
#define LAYOUT_LINEAR_BITS 48u

static_assert(LAYOUT_PCI_WINDOW >= GPA_HOLE_START &&
		      LAYOUT_PCI_WINDOW + LAYOUT_PCI_WINDOW_SIZE <= LAYOUT_PCI_ECAM &&
		      LAYOUT_PCI_ECAM + LAYOUT_PCI_ECAM_SIZE <= LAYOUT_IOAPIC_BASE,
	      "PCI lies in the hole, before the APICs");
static_assert(LAYOUT_IOAPIC_BASE >= GPA_HOLE_START && LAYOUT_LAPIC_BASE < GPA_HOLE_END,
	      "the APICs lie in the hole");

#endif
