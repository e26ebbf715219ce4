/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI tables: checksums, what they say, and iasl disassembling and recompiling each of them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/boot/acpi.h"
#include "vmm/boot/layout.h"

#define AREA_SIZE (LAYOUT_ACPI_END - LAYOUT_ACPI_START)
#define MIB	  (UINT64_C(1) << 20)

static uint8_t area[AREA_SIZE];

static void shape_make(struct vm_shape *s, unsigned slices, unsigned vcpus_each)
{
	unsigned vcpus[SLICES_MAX];
	uint64_t mem[SLICES_MAX];

	for (unsigned i = 0; i < slices; i++) {
		vcpus[i] = vcpus_each;
		mem[i] = 1024 * MIB;
	}
	cr_assert_eq(shape_init(s, slices, vcpus, mem), 0);
}

static const uint8_t *table_find(const struct acpi_index *index, const char *signature,
				 uint32_t *length)
{
	for (unsigned i = 0; i < index->count; i++)
		if (strcmp(index->table[i].signature, signature) == 0) {
			*length = index->table[i].length;
			return area + index->table[i].offset;
		}
	cr_assert(false, "no table %s", signature);
	return NULL;
}

static uint8_t bytes_sum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *p++);
	return sum;
}

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* Counts MADT/SRAT entries of a type, from offset first on. */
static unsigned entries_count(const uint8_t *table, uint32_t length, uint32_t first, uint8_t type)
{
	unsigned count = 0;

	for (uint32_t at = first; at + 2 <= length; at += table[at + 1]) {
		cr_assert_gt(table[at + 1], 1);
		count += table[at] == type;
	}
	return count;
}

Test(acpi, checksums_and_links)
{
	struct vm_shape s;
	struct acpi_index index;

	shape_make(&s, 4, 3);
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, &index), 0);
	cr_assert_eq(index.count, 8);
	cr_assert_eq(bytes_sum(area, 20), 0);
	cr_assert_eq(bytes_sum(area, 36), 0);
	for (unsigned i = 0; i < index.count; i++) {
		const uint8_t *t = area + index.table[i].offset;

		cr_assert_eq(get32(t + 4), index.table[i].length);
		cr_assert_eq(bytes_sum(t, index.table[i].length), 0);
	}
	uint32_t length;
	const uint8_t *xsdt = table_find(&index, "XSDT", &length);
	cr_assert_eq(get64(area + 24), LAYOUT_ACPI_START + (uint64_t)(xsdt - area));
	cr_assert_eq(length, 36 + 6 * 8);
	for (uint32_t at = 36; at < length; at += 8)
		cr_assert_lt(get64(xsdt + at) - LAYOUT_ACPI_START, AREA_SIZE);
}

Test(acpi, what_the_tables_say)
{
	struct vm_shape s;
	struct acpi_index index;
	uint32_t length;

	shape_make(&s, 4, 3);
	s.distance[1][2] = 37;
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, &index), 0);
	const uint8_t *madt = table_find(&index, "APIC", &length);
	cr_assert_eq(entries_count(madt, length, 44, 9), 12);
	cr_assert_eq(entries_count(madt, length, 44, 1), 1);
	const uint8_t *srat = table_find(&index, "SRAT", &length);
	cr_assert_eq(entries_count(srat, length, 48, 2), 12);
	cr_assert_eq(entries_count(srat, length, 48, 1), 4, "slice 3 begins behind the hole");
	for (unsigned i = 0; i < 12; i++) {
		cr_assert_eq(get32(madt + 44 + 16 * i + 4), shape_apic_id(&s, i), "MADT: vCPU %u",
			     i);
		cr_assert_eq(get32(madt + 44 + 16 * i + 12), i, "its UID");
	}
	cr_assert_eq(get32(srat + 48 + 8), 0);
	cr_assert_eq(get32(srat + 48 + 24 + 8), 1);
	const uint8_t *slit = table_find(&index, "SLIT", &length);
	cr_assert_eq(get64(slit + 36), 4);
	cr_assert_eq(slit[44 + 4 * 1 + 2], 37);
	cr_assert_eq(slit[44 + 4 * 2 + 2], 10);
	const uint8_t *mcfg = table_find(&index, "MCFG", &length);
	cr_assert_eq(length, 60);
	cr_assert_eq(get64(mcfg + 44), LAYOUT_PCI_ECAM);
	cr_assert_eq(get32(mcfg + 52), 0, "segment 0, bus 0 to 0");
	const uint8_t *fadt = table_find(&index, "FACP", &length);
	cr_assert_eq(length, 276);
	cr_assert(get32(fadt + 112) & (1u << 20), "hardware-reduced");
	cr_assert_eq(get64(fadt + 116 + 4), LAYOUT_RESET_PORT);
	cr_assert_eq(get64(fadt + 244 + 4), LAYOUT_SLEEP_CONTROL_PORT);
	cr_assert_eq(get64(fadt + 256 + 4), LAYOUT_SLEEP_STATUS_PORT);
	cr_assert_eq(memcmp(area + (get64(fadt + 140) - LAYOUT_ACPI_START), "DSDT", 4), 0);
}

static unsigned get16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

/* Slice 1 has only CPUs, slice 2 only memory; what was not measured is not told. */
Test(acpi, hmat)
{
	static const unsigned vcpus[] = {2, 1, 0};
	static const uint64_t mem[] = {64 * MIB, 0, 32 * MIB};
	/* Rows: slices 0 and 1; columns: 0 and 2. 2 ms are more than fits. */
	static const unsigned ns10[2][2] = {{10, 0}, {8000, 0xfffe}};
	static const unsigned mbps[2][2] = {{10000, 0}, {51, 2}};
	struct vm_shape s;
	struct acpi_index index;
	uint32_t length;

	cr_assert_eq(shape_init(&s, 3, vcpus, mem), 0);
	s.latency_ns[1][0] = 80000;
	s.latency_ns[1][2] = 2000000;
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, &index), 0);
	const uint8_t *t = table_find(&index, "HMAT", &length);
	cr_assert_eq(t[8], 2, "revision");
	cr_assert_eq(length, 40 + 2 * 40 + 2 * (32 + 8 + 8 + 8));
	const uint8_t *first = t + 40, *second = first + 40;
	cr_assert_eq(get16(first) + get16(second), 0);
	cr_expect_eq(get16(first + 8), 1, "slice 0 has CPUs");
	cr_expect_eq(get16(second + 8), 0, "slice 2 has none");
	cr_expect_eq(get32(second + 16), 2);
	for (unsigned m = 0; m < 2; m++) {
		const uint8_t *matrix = second + 40 + m * 56;

		cr_assert_eq(get16(matrix), 1);
		cr_assert_eq(get32(matrix + 4), 56);
		cr_expect_eq(matrix[9], m ? 3 : 0);
		cr_expect_eq(get32(matrix + 12), 2);
		cr_expect_eq(get32(matrix + 16), 2);
		cr_expect_eq(get64(matrix + 24), m ? 1 : 10000, "MB/s; 10 ns in ps");
		cr_expect_eq(get32(matrix + 32 + 4), 1, "initiators 0 and 1");
		cr_expect_eq(get32(matrix + 40 + 4), 2, "targets 0 and 2");
		for (unsigned i = 0; i < 4; i++)
			cr_expect_eq(get16(matrix + 48 + 2 * i), (m ? mbps : ns10)[i / 2][i % 2],
				     "matrix %u, entry %u: %u", m, i, get16(matrix + 48 + 2 * i));
	}
}

Test(acpi, the_largest_shape_fits_and_a_small_area_is_refused)
{
	struct vm_shape s;

	shape_make(&s, SLICES_MAX, VCPUS_MAX / SLICES_MAX);
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, NULL), 0);
	for (size_t size = 0; size < 4096; size += 7)
		cr_assert_eq(acpi_build(&s, area, size, LAYOUT_ACPI_START, NULL), -ENOSPC);
}

/* Runs iasl on the file; true if it says no error. Its output goes into the log file. */
static bool iasl_run(const char *dir, const char *arguments)
{
	char command[512];

	snprintf(command, sizeof(command), "cd %s && %s %s >iasl.log 2>&1", dir, IASL, arguments);
	return system(command) == 0;
}

static bool text_contains(const char *dir, const char *name, const char *text)
{
	char path[300], line[512];
	bool found = false;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "r");
	cr_assert(file, "%s", path);
	while (fgets(line, sizeof(line), file))
		found |= strstr(line, text) != NULL;
	fclose(file);
	return found;
}

static void table_judge(const char *dir, const struct acpi_table *table)
{
	char name[16], path[300], arguments[64];

	snprintf(name, sizeof(name), "%s.dat", table->signature);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "wb");
	cr_assert(file);
	cr_assert_eq(fwrite(area + table->offset, 1, table->length, file), table->length);
	fclose(file);
	snprintf(arguments, sizeof(arguments), "-d %s", name);
	cr_assert(iasl_run(dir, arguments), "iasl cannot disassemble %s", name);
	snprintf(name, sizeof(name), "%s.dsl", table->signature);
	cr_assert_not(text_contains(dir, name, "****"), "iasl complains in %s", name);
	cr_assert(iasl_run(dir, name), "iasl cannot recompile %s", name);
	cr_assert(text_contains(dir, "iasl.log", "0 Errors"), "%s", name);
}

static bool area_contains(const struct acpi_index *index, const char *signature, const char *text)
{
	uint32_t length;
	const uint8_t *table = table_find(index, signature, &length);

	return memmem(table, length, text, strlen(text)) != NULL;
}

/* A bridge for each slice that has devices: its name, and all buses in the one entry of MCFG. */
Test(acpi, host_bridges)
{
	struct vm_shape s;
	struct acpi_index index;
	uint32_t length;

	shape_make(&s, 40, 1);
	s.bridges = 1u << 1 | UINT64_C(1) << 38;
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, &index), 0);
	cr_assert(area_contains(&index, "DSDT", "PCI0"));
	cr_assert(area_contains(&index, "DSDT", "PC01"));
	cr_assert(area_contains(&index, "DSDT", "PC26"));
	cr_assert_not(area_contains(&index, "DSDT", "PC02"));
	const uint8_t *mcfg = table_find(&index, "MCFG", &length);
	cr_assert_eq(length, 60);
	cr_assert_eq(get32(mcfg + 52), 38u << 24, "segment 0, bus 0 to 38");
}

Test(acpi, iasl_accepts_every_table)
{
	char dir[] = "/tmp/pangea-acpi-XXXXXX", command[64];
	struct vm_shape s;
	struct acpi_index index;

	cr_assert(mkdtemp(dir));
	shape_make(&s, 4, 20);
	s.bridges = 1u << 3;
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, &index), 0);
	for (unsigned i = 0; i < index.count; i++)
		table_judge(dir, &index.table[i]);
	cr_assert(text_contains(dir, "DSDT.dsl", "PNP0501"));
	cr_assert(text_contains(dir, "DSDT.dsl", "Device (PC03)"));
	cr_assert(text_contains(dir, "DSDT.dsl", "0xD0C00000,"), "its window");
	cr_assert(text_contains(dir, "DSDT.dsl", "0xD0FFFFFF,"));
	snprintf(command, sizeof(command), "rm -r %s", dir);
	cr_assert_eq(system(command), 0);
}

Test(acpi, images_are_left_out)
{
	struct vm_shape s;
	struct acpi_index index;
	const uint8_t *srat;
	uint32_t length;

	shape_make(&s, 2, 1);
	cr_assert_eq(shape_image_add(&s, 5 * MIB), 0);
	cr_assert_eq(acpi_build(&s, area, AREA_SIZE, LAYOUT_ACPI_START, &index), 0);
	srat = table_find(&index, "SRAT", &length);
	cr_expect_eq(entries_count(srat, length, 48, 1), 2, "Linux would make bounce buffers");
}
