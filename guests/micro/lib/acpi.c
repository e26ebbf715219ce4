/* SPDX-License-Identifier: Apache-2.0 */
/* Learns the machine from boot_params and the ACPI tables: CPUs, nodes, memory, the command line.
 */
#include "guests/micro/lib/kernel.h"

/* Offsets in boot_params (Documentation/arch/x86/zero-page.rst). */
#define BP_ACPI_RSDP_ADDR 0x070
#define BP_CMDLINE	  0x228

#define TABLE_HEADER	36
#define RSDP_XSDT	24
#define MADT_ENTRIES	44
#define MADT_APIC	0
#define MADT_X2APIC	9
#define SRAT_ENTRIES	48
#define SRAT_APIC	0
#define SRAT_MEMORY	1
#define SRAT_X2APIC	2
#define ENTRY_ENABLED	1u
#define APIC_X2_ENABLED 0xc00u

struct machine machine PAGE_ALIGNED;

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

static const uint8_t *at(uint64_t gpa)
{
	return (const uint8_t *)gpa;
}

static const uint8_t *table_find(const uint8_t *xsdt, const char *signature)
{
	uint32_t length = get32(xsdt + 4);

	for (uint32_t i = TABLE_HEADER; i + 8 <= length; i += 8) {
		const uint8_t *table = at(get64(xsdt + i));

		if (memcmp(table, signature, 4) == 0)
			return table;
	}
	return NULL;
}

/* CPUs beyond CPUS_MAX stay asleep. The boot CPU becomes number 0, whatever its place. */
static void cpu_add(uint32_t apic_id, uint32_t boot_id)
{
	unsigned i = machine.cpus;

	if (i == CPUS_MAX)
		return;
	machine.cpus++;
	machine.apic_id[i] = apic_id;
	if (apic_id == boot_id) {
		machine.apic_id[i] = machine.apic_id[0];
		machine.apic_id[0] = apic_id;
	}
}

static void madt_read(const uint8_t *madt, uint32_t boot_id)
{
	uint32_t length = get32(madt + 4);

	for (uint32_t i = MADT_ENTRIES; i + 2 <= length && madt[i + 1] >= 2; i += madt[i + 1]) {
		const uint8_t *e = madt + i;

		if (e[0] == MADT_X2APIC && (get32(e + 8) & ENTRY_ENABLED))
			cpu_add(get32(e + 4), boot_id);
		else if (e[0] == MADT_APIC && (get32(e + 4) & ENTRY_ENABLED))
			cpu_add(e[3], boot_id);
	}
}

static void cpu_node_set(uint32_t apic_id, uint32_t node)
{
	if (node >= NODES_MAX)
		panic("too many nodes");
	if (node >= machine.nodes)
		machine.nodes = node + 1;
	for (unsigned i = 0; i < machine.cpus; i++)
		if (machine.apic_id[i] == apic_id)
			machine.node_of[i] = (uint16_t)node;
}

static void memory_add(uint32_t node, uint64_t start, uint64_t size)
{
	struct region *r = &machine.regions[machine.regions_count];

	if (node >= NODES_MAX || machine.regions_count == REGIONS_MAX)
		panic("too many nodes or memory ranges");
	if (node >= machine.nodes)
		machine.nodes = node + 1;
	machine.regions_count++;
	machine.node_bytes[node] += size;
	*r = (struct region){node, start, start + size, start};
	if (r->end > machine.ram_end)
		machine.ram_end = r->end;
}

static void srat_read(const uint8_t *srat)
{
	uint32_t length = get32(srat + 4);

	for (uint32_t i = SRAT_ENTRIES; i + 2 <= length && srat[i + 1] >= 2; i += srat[i + 1]) {
		const uint8_t *e = srat + i;

		if (e[0] == SRAT_X2APIC && (get32(e + 12) & ENTRY_ENABLED))
			cpu_node_set(get32(e + 8), get32(e + 4));
		else if (e[0] == SRAT_APIC && (get32(e + 4) & ENTRY_ENABLED))
			cpu_node_set(e[3], e[2]);
		else if (e[0] == SRAT_MEMORY && (get32(e + 28) & ENTRY_ENABLED))
			memory_add(get32(e + 2), get64(e + 8), get64(e + 16));
	}
}

static void cmdline_read(const uint8_t *boot_params)
{
	const char *text = (const char *)at(get32(boot_params + BP_CMDLINE));
	size_t i;

	for (i = 0; i + 1 < sizeof(machine.cmdline) && text[i]; i++)
		machine.cmdline[i] = text[i];
}

void acpi_read(const uint8_t *boot_params)
{
	const uint8_t *rsdp = at(get64(boot_params + BP_ACPI_RSDP_ADDR));
	const uint8_t *xsdt, *madt, *srat;

	cmdline_read(boot_params);
	if (!rsdp || memcmp(rsdp, "RSD PTR ", 8) != 0)
		panic("no ACPI tables");
	xsdt = at(get64(rsdp + RSDP_XSDT));
	madt = table_find(xsdt, "APIC");
	srat = table_find(xsdt, "SRAT");
	if (!madt || !srat)
		panic("no MADT or no SRAT");
	if ((msr_read(MSR_APIC_BASE) & APIC_X2_ENABLED) != APIC_X2_ENABLED)
		msr_write(MSR_APIC_BASE, msr_read(MSR_APIC_BASE) | APIC_X2_ENABLED);
	madt_read(madt, (uint32_t)msr_read(MSR_X2APIC_ID));
	srat_read(srat);
	if (!machine.cpus || !machine.regions_count)
		panic("no CPUs or no memory in the ACPI tables");
}
