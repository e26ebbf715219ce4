/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: RSDP, XSDT, FADT (hardware-reduced), DSDT, MADT, SRAT, SLIT, HMAT (ACPI 6.4), MCFG. */
#include "vmm/boot/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vmm/boot/acpi_aml.h"
#include "vmm/boot/acpi_hmat.h"
#include "vmm/boot/layout.h"

#define HEADER_SIZE	36
#define RSDP_SIZE	36
#define FADT_SIZE	276
#define TABLE_ALIGN	64
#define OEM_ID		"PANGEA"
#define OEM_TABLE_ID	"PANGEAVM"
#define CREATOR_ID	"PNGA"
#define MADT_IOAPIC	1
#define MADT_X2APIC	9
#define MADT_X2APIC_NMI 10
#define SRAT_MEMORY	1
#define SRAT_X2APIC	2
#define ENTRY_ENABLED	1u
#define UID_ALL		0xffffffffu

/* FADT flags (table 5.10). */
#define FADT_WBINVD	(1u << 0)
#define FADT_SLP_BUTTON (1u << 5) /* no fixed sleep button */
#define FADT_PWR_BUTTON (1u << 4) /* no fixed power button */
#define FADT_RESET_REG	(1u << 10)
#define FADT_HW_REDUCED (1u << 20)
/* IAPC_BOOT_ARCH (table 5.11): no 8042, no VGA. A CMOS clock is there. */
#define BOOT_ARCH_NO_VGA (1u << 2)

struct build {
	const struct vm_shape *shape;
	struct acpi_writer w;
	uint64_t area_gpa;
	struct acpi_index *index;
};

static void checksum_set(struct acpi_writer *w, size_t start, size_t length, size_t at)
{
	uint8_t sum = 0;

	if (w->overflow)
		return;
	w->data[at] = 0;
	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + w->data[start + i]);
	w->data[at] = (uint8_t)-sum;
}

/* Begins a table with its header (section 5.2.6); returns its offset. */
static size_t table_open(struct build *b, const char *signature, uint8_t revision)
{
	struct acpi_writer *w = &b->w;

	acpi_align(w, TABLE_ALIGN);
	size_t start = w->used;
	acpi_put_bytes(w, signature, 4);
	acpi_put32(w, 0); /* length: table_close */
	acpi_put8(w, revision);
	acpi_put8(w, 0); /* checksum: table_close */
	acpi_put_bytes(w, OEM_ID, 6);
	acpi_put_bytes(w, OEM_TABLE_ID, 8);
	acpi_put32(w, 1);
	acpi_put_bytes(w, CREATOR_ID, 4);
	acpi_put32(w, 1);
	return start;
}

static void index_add(struct build *b, const char *signature, size_t start, size_t length)
{
	struct acpi_table *table = &b->index->table[b->index->count++];

	memcpy(table->signature, signature, 5);
	table->offset = (uint32_t)start;
	table->length = (uint32_t)length;
}

/* Ends a table; returns its guest physical address. */
static uint64_t table_close(struct build *b, size_t start)
{
	struct acpi_writer *w = &b->w;
	char signature[5] = "";
	size_t length = w->used - start;

	if (w->overflow)
		return 0;
	for (int i = 0; i < 4; i++)
		w->data[start + 4 + (size_t)i] = (uint8_t)(length >> (8 * i));
	checksum_set(w, start, length, start + 9);
	memcpy(signature, w->data + start, 4);
	index_add(b, signature, start, length);
	return b->area_gpa + start;
}

/* Generic address structure (section 5.2.3.2): an I/O port of one byte. */
static void gas_port_put(struct acpi_writer *w, uint16_t port)
{
	acpi_put8(w, 1); /* system I/O space */
	acpi_put8(w, 8); /* bits */
	acpi_put8(w, 0);
	acpi_put8(w, 1); /* byte access */
	acpi_put64(w, port);
}

/* Section 5.2.9. Everything that hardware-reduced ACPI does not use stays zero. */
static uint64_t fadt_build(struct build *b, uint64_t dsdt_gpa)
{
	struct acpi_writer *w = &b->w;
	size_t start = table_open(b, "FACP", 6);

	acpi_put_zeroes(w, 108 - HEADER_SIZE);
	acpi_put8(w, LAYOUT_CMOS_CENTURY);
	acpi_put16(w, BOOT_ARCH_NO_VGA); /* 109: IAPC_BOOT_ARCH */
	acpi_put8(w, 0);
	acpi_put32(w, FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG |
			      FADT_HW_REDUCED);
	gas_port_put(w, LAYOUT_RESET_PORT); /* 116 */
	acpi_put8(w, LAYOUT_RESET_VALUE);
	acpi_put16(w, 0); /* ARM boot flags */
	acpi_put8(w, 4);  /* 131: minor version: 6.4 */
	acpi_put64(w, 0); /* X_FIRMWARE_CTRL: no FACS */
	acpi_put64(w, dsdt_gpa);
	acpi_put_zeroes(w, 244 - 148);
	gas_port_put(w, LAYOUT_SLEEP_CONTROL_PORT); /* 244 */
	gas_port_put(w, LAYOUT_SLEEP_STATUS_PORT);
	acpi_put_bytes(w, "PANGEA\0\0", 8); /* hypervisor vendor */
	return table_close(b, start);
}

static void dsdt_cpu_put(struct acpi_writer *w, unsigned vcpu)
{
	char name[5];

	snprintf(name, sizeof(name), "C%03X", vcpu & 0xfff);
	size_t device = aml_device_open(w, name);
	aml_name_string(w, "_HID", "ACPI0007");
	aml_name_integer(w, "_UID", vcpu);
	aml_close(w, device);
}

/* The host bridge of a slice, on its node. There are no interrupt lines: every device has MSI-X. */
static void dsdt_bridge_put(struct acpi_writer *w, unsigned slice)
{
	char name[5] = "PCI0";
	size_t bridge;

	if (slice)
		snprintf(name, sizeof(name), "PC%02X", slice & 0xff);
	bridge = aml_device_open(w, name);
	aml_name_eisaid(w, "_HID", "PNP0A08");
	aml_name_eisaid(w, "_CID", "PNP0A03");
	aml_name_integer(w, "_UID", slice);
	aml_name_integer(w, "_SEG", 0);
	aml_name_integer(w, "_BBN", slice);
	aml_name_integer(w, "_PXM", slice);
	aml_name_integer(w, "_CCA", 1);
	aml_crs_bridge(w, (uint16_t)slice, LAYOUT_PCI_WINDOW + slice * LAYOUT_PCI_WINDOW_BUS,
		       LAYOUT_PCI_WINDOW_BUS);
	aml_close(w, bridge);
}

/* The host bridges, and what their configuration space takes of the address space (PCI Firmware Specification 3.3,
 * section 4.1.2). */
static void dsdt_pci_put(struct acpi_writer *w, const struct vm_shape *shape)
{
	size_t board;

	for (unsigned i = 0; i < shape->slices; i++)
		if (shape_has_bridge(shape, i))
			dsdt_bridge_put(w, i);
	board = aml_device_open(w, "MBRD");
	aml_name_eisaid(w, "_HID", "PNP0C02");
	aml_name_integer(w, "_UID", 0);
	aml_crs_memory(w, LAYOUT_PCI_ECAM, LAYOUT_PCI_ECAM_SIZE);
	aml_close(w, board);
}

/* Sections 4.8.2.2.1.2 (the button as a device) and 5.6.9 (the interrupt that says it was pressed). */
static void dsdt_button_put(struct acpi_writer *w)
{
	size_t device = aml_device_open(w, "PWRB"), method;

	aml_name_eisaid(w, "_HID", "PNP0C0C");
	aml_name_integer(w, "_UID", 0);
	aml_close(w, device);
	device = aml_device_open(w, "GED0");
	aml_name_string(w, "_HID", "ACPI0013");
	aml_name_integer(w, "_UID", 0);
	aml_crs_irq(w, LAYOUT_BUTTON_GSI);
	method = aml_method_open(w, "_EVT", 1);
	aml_notify(w, "PWRB", 0x80);
	aml_close(w, method);
	aml_close(w, device);
}

static uint64_t dsdt_build(struct build *b)
{
	struct acpi_writer *w = &b->w;
	size_t start = table_open(b, "DSDT", 2);
	size_t scope = aml_scope_open(w, "\\_SB_");

	for (unsigned i = 0; i < b->shape->vcpus; i++)
		dsdt_cpu_put(w, i);
	size_t com1 = aml_device_open(w, "COM1");
	aml_name_eisaid(w, "_HID", "PNP0501");
	aml_name_integer(w, "_UID", 1);
	aml_name_integer(w, "_STA", 0xf);
	aml_crs_port_irq(w, LAYOUT_COM1_PORT, 8, LAYOUT_COM1_GSI);
	aml_close(w, com1);
	size_t rtc = aml_device_open(w, "RTC0");
	aml_name_eisaid(w, "_HID", "PNP0B00");
	aml_crs_port_irq(w, LAYOUT_CMOS_PORT, LAYOUT_CMOS_SIZE, LAYOUT_CMOS_GSI);
	aml_close(w, rtc);
	dsdt_pci_put(w, b->shape);
	dsdt_button_put(w);
	aml_close(w, scope);
	aml_name_sleep_package(w, "_S5_", LAYOUT_SLEEP_TYPE_S5);
	return table_close(b, start);
}

/* Section 5.2.12: one x2APIC entry a vCPU, one I/O APIC. */
static uint64_t madt_build(struct build *b)
{
	struct acpi_writer *w = &b->w;
	size_t start = table_open(b, "APIC", 5);

	acpi_put32(w, LAYOUT_LAPIC_BASE);
	acpi_put32(w, 0); /* no dual 8259 */
	for (unsigned i = 0; i < b->shape->vcpus; i++) {
		acpi_put8(w, MADT_X2APIC);
		acpi_put8(w, 16);
		acpi_put16(w, 0);
		acpi_put32(w, shape_apic_id(b->shape, i));
		acpi_put32(w, ENTRY_ENABLED);
		acpi_put32(w, i); /* processor UID */
	}
	acpi_put8(w, MADT_IOAPIC);
	acpi_put8(w, 12);
	acpi_put8(w, LAYOUT_IOAPIC_ID);
	acpi_put8(w, 0);
	acpi_put32(w, LAYOUT_IOAPIC_BASE);
	acpi_put32(w, 0); /* first GSI */
	acpi_put8(w, MADT_X2APIC_NMI);
	acpi_put8(w, 12);
	acpi_put16(w, 0);
	acpi_put32(w, UID_ALL);
	acpi_put8(w, 1); /* LINT1 */
	acpi_put_zeroes(w, 3);
	return table_close(b, start);
}

static void srat_memory_put(struct acpi_writer *w, unsigned slice, const struct shape_range *range)
{
	acpi_put8(w, SRAT_MEMORY);
	acpi_put8(w, 40);
	acpi_put32(w, slice);
	acpi_put16(w, 0);
	acpi_put64(w, range->start);
	acpi_put64(w, range->end - range->start);
	acpi_put32(w, 0);
	acpi_put32(w, ENTRY_ENABLED);
	acpi_put64(w, 0);
}

static void srat_cpu_put(struct acpi_writer *w, unsigned slice, uint32_t apic_id)
{
	acpi_put8(w, SRAT_X2APIC);
	acpi_put8(w, 24);
	acpi_put16(w, 0);
	acpi_put32(w, slice);
	acpi_put32(w, apic_id);
	acpi_put32(w, ENTRY_ENABLED);
	acpi_put32(w, 0); /* clock domain */
	acpi_put32(w, 0);
}

/*
 * Section 5.2.16: one proximity domain a slice. Images are left out: Linux takes the end of all that the table names for
 * the end of memory, and where that is beyond 4 GiB it fills 64 MiB with zeroes, for bounce buffers, on the last node.
 */
static uint64_t srat_build(struct build *b)
{
	struct acpi_writer *w = &b->w;
	size_t start = table_open(b, "SRAT", 3);

	acpi_put32(w, 1);
	acpi_put64(w, 0);
	for (unsigned i = 0; i < b->shape->slices; i++) {
		const struct shape_slice *slice = &b->shape->slice[i];

		for (unsigned j = 0; j < slice->vcpus; j++)
			srat_cpu_put(w, i, shape_apic_id(b->shape, slice->first_vcpu + j));
		for (unsigned j = 0; j < slice->ranges_count; j++)
			srat_memory_put(w, i, &slice->ranges[j]);
	}
	return table_close(b, start);
}

/* Section 5.2.17. */
static uint64_t slit_build(struct build *b)
{
	struct acpi_writer *w = &b->w;
	size_t start = table_open(b, "SLIT", 1);
	unsigned slices = b->shape->slices;

	acpi_put64(w, slices);
	for (unsigned i = 0; i < slices; i++)
		for (unsigned j = 0; j < slices; j++)
			acpi_put8(w, b->shape->distance[i][j]);
	return table_close(b, start);
}

static uint64_t hmat_build(struct build *b)
{
	size_t start = table_open(b, "HMAT", 2);

	acpi_hmat_put(&b->w, b->shape);
	return table_close(b, start);
}

/* PCI Firmware Specification 3.3, section 4.1.2: up to the last bus that there is. */
static uint64_t mcfg_build(struct build *b)
{
	size_t start = table_open(b, "MCFG", 1);
	unsigned last = b->shape->slices - 1;

	while (!shape_has_bridge(b->shape, last))
		last--;

	acpi_put64(&b->w, 0);
	acpi_put64(&b->w, LAYOUT_PCI_ECAM);
	acpi_put16(&b->w, 0); /* segment */
	acpi_put8(&b->w, 0);  /* first bus */
	acpi_put8(&b->w, (uint8_t)last);
	acpi_put32(&b->w, 0);
	return table_close(b, start);
}

/* Section 5.2.5.3, at the area's start, whose bytes were left free for it. */
static void rsdp_build(struct build *b, uint64_t xsdt_gpa)
{
	struct acpi_writer w = {.data = b->w.data, .size = RSDP_SIZE};

	acpi_put_bytes(&w, "RSD PTR ", 8);
	acpi_put8(&w, 0);
	acpi_put_bytes(&w, OEM_ID, 6);
	acpi_put8(&w, 2);
	acpi_put32(&w, 0); /* no RSDT */
	acpi_put32(&w, RSDP_SIZE);
	acpi_put64(&w, xsdt_gpa);
	acpi_put32(&w, 0);
	checksum_set(&w, 0, 20, 8);
	checksum_set(&w, 0, RSDP_SIZE, 32);
	invariant(w.used == RSDP_SIZE && !w.overflow);
}

static uint64_t xsdt_build(struct build *b, const uint64_t *tables, unsigned count)
{
	size_t start = table_open(b, "XSDT", 1);

	for (unsigned i = 0; i < count; i++)
		acpi_put64(&b->w, tables[i]);
	return table_close(b, start);
}

int acpi_build(const struct vm_shape *shape, uint8_t *area, size_t size, uint64_t area_gpa,
	       struct acpi_index *index)
{
	struct acpi_index own = {0};
	struct build b = {.shape = shape,
			  .w = {.data = area, .size = size},
			  .area_gpa = area_gpa,
			  .index = &own};
	uint64_t tables[6];

	if (size < RSDP_SIZE)
		return -ENOSPC;
	memset(area, 0, size);
	acpi_put_zeroes(&b.w, RSDP_SIZE);
	tables[0] = fadt_build(&b, dsdt_build(&b));
	tables[1] = madt_build(&b);
	tables[2] = srat_build(&b);
	tables[3] = slit_build(&b);
	tables[4] = hmat_build(&b);
	tables[5] = mcfg_build(&b);
	rsdp_build(&b, xsdt_build(&b, tables, 6));
	if (b.w.overflow)
		return -ENOSPC;
	if (index)
		*index = own;
	return 0;
}
