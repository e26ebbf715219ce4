/* SPDX-License-Identifier: Apache-2.0 */
/* What `pangea image kernel` believes of sfdisk's and debugfs's answers, and which kernel it takes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "cli/image.h"

static struct image_part parts[IMAGE_PARTS_MAX];

static int parse(const char *text)
{
	memset(parts, 0, sizeof(parts));
	return image_parts_parse(text, strlen(text), UINT64_C(1) << 30, parts);
}

Test(image_names, partitions_within_the_image_are_taken)
{
	cr_assert_eq(parse("{\"partitiontable\":{\"label\":\"gpt\",\"sectorsize\":512,"
			   "\"partitions\":["
			   "{\"node\":\"/proc/self/fd/3p1\",\"start\":2048,\"size\":4096},"
			   "{\"node\":\"/proc/self/fd/3p15\",\"start\":6144,\"size\":100},"
			   "{\"node\":\"/proc/self/fd/3p16\",\"start\":2097151,\"size\":1}]}}"),
		     3);
	cr_expect_eq(parts[0].number, 1);
	cr_expect_eq(parts[0].start, 2048 * 512);
	cr_expect_eq(parts[0].bytes, 4096 * 512);
	cr_expect_eq(parts[1].number, 15);
	cr_expect_eq(parts[2].start, (UINT64_C(1) << 30) - 512);
}

Test(image_names, partitions_beyond_it_are_left_out)
{
	static const char *const bad[] = {
		"\"start\":2097152,\"size\":1",
		"\"start\":2097151,\"size\":2",
		"\"start\":0,\"size\":1",
		"\"start\":-1,\"size\":1",
		"\"start\":1,\"size\":0",
		"\"start\":1,\"size\":-1",
		"\"start\":1,\"size\":9223372036854775807",
		"\"start\":9223372036854775807,\"size\":1",
		"\"start\":\"1\",\"size\":1",
		"\"size\":1",
	};
	char text[256];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "{\"partitiontable\":{\"partitions\":[{\"node\":\"x1\",%s}]}}", bad[i]);
		cr_expect_eq(parse(text), 0, "%s", bad[i]);
	}
	cr_expect_eq(parse("{\"partitiontable\":{\"partitions\":[{\"start\":1,\"size\":1}]}}"), 0);
	cr_expect_eq(parse("{\"partitiontable\":{\"partitions\":[7, null, []]}}"), 0);
}

Test(image_names, what_is_no_table_is_refused)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"partitiontable\":[]}",
		"{\"partitiontable\":{}}",
		"{\"partitiontable\":{\"sectorsize\":0,\"partitions\":[]}}",
		"{\"partitiontable\":{\"sectorsize\":513,\"partitions\":[]}}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_lt(parse(bad[i]), 0, "%s", bad[i]);
}

Test(image_names, no_more_partitions_than_the_limit)
{
	static char text[64 * 300];
	size_t used = (size_t)snprintf(text, sizeof(text), "{\"partitiontable\":{\"partitions\":[");

	for (int i = 0; i < 200; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "%s{\"node\":\"p%d\",\"start\":%d,\"size\":1}",
					 i ? "," : "", i + 1, i + 1);
	snprintf(text + used, sizeof(text) - used, "]}}");
	cr_expect_eq(parse(text), IMAGE_PARTS_MAX);
}

static bool entry(const char *line, struct image_entry *out)
{
	return image_entry_parse(line, strlen(line), out);
}

Test(image_names, entries_are_read)
{
	struct image_entry e;

	cr_assert(entry("/12/100644/0/0/vmlinuz-6.1.0-9-amd64/8193472/", &e));
	cr_expect_eq(e.inode, 12);
	cr_expect(e.regular && !e.directory);
	cr_expect_eq(e.bytes, 8193472);
	cr_expect_str_eq(e.name, "vmlinuz-6.1.0-9-amd64");
	cr_assert(entry("/8193/040755/0/0/boot//", &e));
	cr_expect(e.directory && !e.regular);
	cr_assert(entry("/13/120777/0/0/vmlinuz/27/", &e));
	cr_expect(!e.directory && !e.regular, "a link is neither");
}

Test(image_names, names_that_lead_elsewhere_are_no_entries)
{
	static const char *const bad[] = {
		"",
		"/",
		"//",
		"/12/100644/0/0/a/b/3/",
		"/12/100644/0/0/../3/",
		"/12/100644/0/0/.hidden/3/",
		"/12/100644/0/0/-rf/3/",
		"/12/100644/0/0/a b/3/",
		"/12/100644/0/0/a\x1b[1m/3/",
		"/12/100644/0/0//3/",
		"/0/100644/0/0/a/3/",
		"/4294967296/100644/0/0/a/3/",
		"/-1/100644/0/0/a/3/",
		"/1/99/0/0/a/3/",
		"/1/100644/0/0/a/99999999999999999999/",
		"/1/100644/0/0/a/-3/",
		"/1/100644/0/0/a/3",
		"12/100644/0/0/a/3/",
		"/1/100644/0/0/a/3x/",
	};
	struct image_entry e;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(entry(bad[i], &e), "%s", bad[i]);
	cr_expect_not(image_entry_parse("/1/100644/0/0/a\0b/3/", 20, &e));
}

Test(image_names, plain_names)
{
	cr_expect(image_name_plain("debian-12.qcow2"));
	cr_expect_not(image_name_plain(""));
	cr_expect_not(image_name_plain(".."));
	cr_expect_not(image_name_plain("a/b"));
	cr_expect_not(image_name_plain("--help"));
}

Test(image_names, a_listing_is_read_to_its_end)
{
	static const char text[] =
		"/2/040755/0/0/.//\nnonsense\n\n/12/100644/0/0/a/1/\n/13/100644/0/0/b/2/";
	const char *at = text, *end = text + strlen(text);
	struct image_entry e;

	cr_assert(image_entry_next(&at, end, &e));
	cr_expect_str_eq(e.name, "a");
	cr_assert(image_entry_next(&at, end, &e));
	cr_expect_str_eq(e.name, "b");
	cr_expect_not(image_entry_next(&at, end, &e));
	cr_expect_eq(at, end);
}

Test(image_names, the_newest_kernel_is_taken)
{
	cr_expect(image_kernel_newer("vmlinuz-6.1.0-9-amd64", NULL));
	cr_expect(image_kernel_newer("vmlinuz-6.1.0-21-amd64", "vmlinuz-6.1.0-9-amd64"));
	cr_expect_not(image_kernel_newer("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-21-amd64"));
	cr_expect(image_kernel_newer("vmlinuz-6.12.1", "vmlinuz-6.9.9"));
	cr_expect_not(image_kernel_newer("vmlinuz-6.1", "vmlinuz-6.1"));
	cr_expect_not(image_kernel_newer("vmlinuz", NULL));
	cr_expect_not(image_kernel_newer("vmlinuz-", NULL));
	cr_expect_not(image_kernel_newer("initrd.img-6.1", NULL));
	cr_expect_not(image_kernel_newer("vmlinuz-0-rescue-0123", NULL));
}

Test(image_names, an_initrd_fits_its_kernel_alone)
{
	const char *kernel = "vmlinuz-6.1.0-9-amd64";

	cr_expect(image_initrd_fits("initrd.img-6.1.0-9-amd64", kernel));
	cr_expect(image_initrd_fits("initramfs-6.1.0-9-amd64.img", kernel));
	cr_expect(image_initrd_fits("initrd-6.1.0-9-amd64", kernel));
	cr_expect_not(image_initrd_fits("initrd.img-6.1.0-8-amd64", kernel));
	cr_expect_not(image_initrd_fits("initramfs-6.1.0-9-amd64kdump.img", kernel));
}

Test(image_names, file_systems_are_known_by_their_first_bytes)
{
	static uint8_t head[IMAGE_MAGIC_BYTES];
	char uuid[IMAGE_UUID_TEXT];

	cr_expect_str_eq(image_magic(head, sizeof(head)), "");
	head[1080] = 0x53;
	head[1081] = 0xef;
	cr_expect_str_eq(image_magic(head, sizeof(head)), "ext");
	cr_expect_str_eq(image_magic(head, 1081), "", "the magic is not all there");
	for (int i = 0; i < 16; i++)
		head[1128 + i] = (uint8_t)(i * 17);
	image_ext_uuid(head, uuid);
	cr_expect_str_eq(uuid, "00112233-4455-6677-8899-aabbccddeeff");
	memset(head, 0, sizeof(head));
	memcpy(head, "XFSB", 4);
	cr_expect_str_eq(image_magic(head, sizeof(head)), "xfs");
}
