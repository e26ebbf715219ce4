/* SPDX-License-Identifier: Apache-2.0 */
/* SMBIOS tables: their own sums and lengths, and what dmidecode reads in them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/boot/layout.h"
#include "vmm/boot/smbios.h"

#define AREA_SIZE (LAYOUT_SMBIOS_END - LAYOUT_SMBIOS_START)
#define MIB	  (UINT64_C(1) << 20)
#define TEXT_MAX  (1u << 20)

/* What dmidecode says of tables that are none. */
static const char *const complaints[] = {"Invalid",	"invalid",   "BROKEN",
					 "OUT OF SPEC", "TRUNCATED", "Wrong"};

static uint8_t area[AREA_SIZE];
static char text[TEXT_MAX];

static void shape_make(struct vm_shape *s, unsigned slices, unsigned vcpus_each, uint64_t mem_each)
{
	unsigned vcpus[SLICES_MAX];
	uint64_t mem[SLICES_MAX];

	for (unsigned i = 0; i < slices; i++) {
		vcpus[i] = vcpus_each;
		mem[i] = mem_each;
	}
	cr_assert_eq(shape_init(s, slices, vcpus, mem), 0);
}

/* dmidecode's words for the tables, built as a file has them. */
static void decode(const struct vm_shape *s, const char *name)
{
	char path[] = "/tmp/pangea-smbios-XXXXXX", command[256];
	int fd = mkstemp(path);
	FILE *pipe;
	size_t n;

	cr_assert_geq(fd, 0);
	cr_assert_eq(smbios_build(s, name, area, AREA_SIZE, 0), 0);
	cr_assert_eq(write(fd, area, AREA_SIZE), (ssize_t)AREA_SIZE);
	close(fd);
	snprintf(command, sizeof(command), "%s --from-dump %s 2>&1", DMIDECODE, path);
	pipe = popen(command, "r");
	cr_assert_not_null(pipe);
	n = fread(text, 1, sizeof(text) - 1, pipe);
	text[n] = 0;
	cr_assert_eq(pclose(pipe), 0, "%s", text);
	unlink(path);
	for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++)
		cr_assert_null(strstr(text, complaints[i]), "%s", text);
}

static unsigned count(const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)); at++)
		n++;
	return n;
}

Test(smbios, the_entry_point_is_where_a_kernel_looks)
{
	struct vm_shape s;
	uint8_t sum = 0;

	shape_make(&s, 2, 2, 512 * MIB);
	cr_assert_eq(smbios_build(&s, "vm1", area, AREA_SIZE, LAYOUT_SMBIOS_START), 0);
	cr_assert(LAYOUT_SMBIOS_START >= 0xf0000 && LAYOUT_SMBIOS_START % 16 == 0);
	cr_assert_eq(memcmp(area, "_SM3_", 5), 0);
	for (unsigned i = 0; i < area[6]; i++)
		sum = (uint8_t)(sum + area[i]);
	cr_assert_eq(sum, 0);
	cr_assert_eq(area[16] | (unsigned)area[17] << 8 | (unsigned)area[18] << 16,
		     LAYOUT_SMBIOS_START + SMBIOS_ENTRY_BYTES);
	cr_assert_eq(area[SMBIOS_ENTRY_BYTES], 0, "the firmware's structure is the first");
}

Test(smbios, dmidecode_reads_what_is_meant)
{
	struct vm_shape s;

	shape_make(&s, 3, 5, 512 * MIB);
	decode(&s, "alpha");
	cr_expect(strstr(text, "SMBIOS 3.4.0 present"), "%s", text);
	cr_expect(strstr(text, "Serial Number: alpha"));
	cr_expect(strstr(text, "Product Name: Pangea virtual machine"));
	cr_expect(strstr(text, "System is a virtual machine"));
	cr_expect_eq(count("Core Count: 5"), 3);
	cr_expect_eq(count("\tSize: 512 MB"), 3);
	cr_expect(strstr(text, "Maximum Capacity: 1536 MB"));
	cr_expect_eq(count("Memory Array Mapped Address"), 3);
	cr_expect(strstr(text, "Starting Address: 0x00040000000"));
	cr_expect(strstr(text, "End Of Table"));
}

Test(smbios, the_uuid_is_the_names)
{
	uint8_t a[SMBIOS_UUID_BYTES], b[SMBIOS_UUID_BYTES];
	char written[64];
	struct vm_shape s;

	smbios_uuid("alpha", a);
	smbios_uuid("alphb", b);
	cr_expect_neq(memcmp(a, b, sizeof(a)), 0);
	shape_make(&s, 1, 1, 512 * MIB);
	decode(&s, "alpha");
	snprintf(written, sizeof(written),
		 "UUID: %02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", a[0],
		 a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
		 a[14], a[15]);
	cr_expect(strstr(text, written), "%s", text);
	cr_expect_eq(a[6] >> 4, 8);
	cr_expect_eq(a[8] >> 6, 2);
}

/* Sizes that the short fields cannot hold, and as much of everything as a VM may have. */
Test(smbios, the_largest_machine_fits)
{
	char name[NAME_MAX_LEN + 1];
	struct vm_shape s;

	memset(name, 'n', NAME_MAX_LEN);
	name[NAME_MAX_LEN] = 0;
	shape_make(&s, SLICES_MAX, VCPUS_MAX / SLICES_MAX, GUEST_MEM_MAX / SLICES_MAX);
	decode(&s, name);
	cr_expect_eq(count("Processor Information"), SLICES_MAX);
	cr_expect(strstr(text, "\tSize: 64 GB"), "%s", text);
	cr_expect(strstr(text, "Maximum Capacity: 4 TB"));
	cr_expect(strstr(text, name));
}

Test(smbios, too_little_room_is_said)
{
	struct vm_shape s;

	shape_make(&s, 2, 1, 512 * MIB);
	for (size_t size = 0; size < 400; size += 7)
		cr_assert_eq(smbios_build(&s, "vm1", area, size, 0), -ENOSPC);
}
