/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator keeps on disk of a VM: its console's log, its kernel and initrd. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/vm_files.h"
#include "coordinator/vm_log.h"

#define ONE "00000000000000aa"
#define TWO "00000000000000bb"

static char dir[64];

static void dir_make(void)
{
	snprintf(dir, sizeof(dir), "/tmp/pangea-log-test.XXXXXX");
	cr_assert(mkdtemp(dir));
}

static void dir_remove(void)
{
	vm_log_remove(dir, "vm");
	vm_files_remove(dir, "vm");
	cr_expect_eq(rmdir(dir), 0, "something is left in %s", dir);
}

TestSuite(log, .init = dir_make, .fini = dir_remove);
TestSuite(files, .init = dir_make, .fini = dir_remove);

static void add(const char *incarnation, uint64_t offset, const char *text)
{
	cr_assert_eq(vm_log_add(dir, "vm", incarnation, offset, text, strlen(text)), 0);
}

/* The log from this offset on, as it is read piece by piece. */
static char *all_from(uint64_t offset, uint64_t *lost)
{
	static uint8_t data[VM_LOG_PIECE];
	char *text = calloc(1, 2 * VM_LOG_BYTES_MAX);
	struct vm_log_piece piece;
	size_t len = 0;

	*lost = 0;
	do {
		cr_assert_eq(vm_log_read(dir, "vm", offset, data, &piece), 0);
		memcpy(text + len, data, piece.len);
		len += piece.len;
		*lost += piece.lost;
		offset = piece.offset + piece.len;
	} while (offset < piece.end);
	return text;
}

static void expect_log(const char *want)
{
	uint64_t lost;
	char *text = all_from(0, &lost);

	cr_expect_str_eq(text, want);
	cr_expect_eq(lost, 0);
	free(text);
}

Test(log, of_nothing_is_empty)
{
	expect_log("");
}

Test(log, what_comes_twice_is_written_once)
{
	add(ONE, 0, "abcdef");
	add(ONE, 0, "abc");
	add(ONE, 3, "defgh");
	add(ONE, 8, "i");
	expect_log("abcdefghi");
}

Test(log, a_gap_has_a_mark)
{
	add(ONE, 0, "abc");
	add(ONE, 10, "def");
	uint64_t lost;
	char *text = all_from(0, &lost);
	cr_expect(strstr(text, "abc") && strstr(text, "7 bytes of console output") &&
		  strstr(text, "def"));
	free(text);
}

Test(log, another_life_is_said_and_counts_anew)
{
	add(ONE, 0, "first");
	add(TWO, 0, "second");
	add(TWO, 6, "!");
	expect_log("first\r\n[pangea: VM vm is started again]\r\nsecond!");
}

Test(log, is_bounded_and_says_what_was_lost)
{
	char line[64];
	uint64_t offset = 0, lost;
	struct stat st;
	char path[128];

	for (unsigned i = 0; offset < 3 * (uint64_t)VM_LOG_BYTES_MAX; i++) {
		snprintf(line, sizeof(line), "line %012u of a guest that says much\n", i);
		add(ONE, offset, line);
		offset += strlen(line);
	}
	char *text = all_from(0, &lost);
	size_t len = strlen(text);
	cr_expect_eq(lost + len, offset);
	cr_expect_geq(len, VM_LOG_BYTES_MAX / 2);
	cr_expect_leq(len, VM_LOG_BYTES_MAX + sizeof(line));
	cr_expect(strncmp(text + len - strlen(line), line, strlen(line)) == 0, "the last line");
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/log-vm.%s", dir, i ? "old" : "new");
		if (stat(path, &st) == 0)
			cr_expect_leq((size_t)st.st_size, VM_LOG_BYTES_MAX / 2 + sizeof(line));
	}
	free(text);
}

Test(log, from_beyond_its_end_is_nothing)
{
	static uint8_t data[VM_LOG_PIECE];
	struct vm_log_piece piece;

	add(ONE, 0, "abc");
	cr_assert_eq(vm_log_read(dir, "vm", 100, data, &piece), 0);
	cr_expect_eq(piece.len, 0);
	cr_expect_eq(piece.offset, 3);
	cr_expect_eq(piece.end, 3);
}

/* Whatever stands in the file that says where it is: no crash, and it goes on. */
Test(log, a_place_that_is_damaged_is_no_end)
{
	char path[128];

	add(ONE, 0, "abc");
	snprintf(path, sizeof(path), "%s/log-vm.at", dir);
	FILE *file = fopen(path, "w");
	cr_assert(file);
	fputs("nonsense", file);
	fclose(file);
	add(ONE, 3, "def");
	uint64_t lost;
	char *text = all_from(0, &lost);
	cr_expect(strstr(text, "def"));
	free(text);
}

static int none(void *arg, const char *vm)
{
	(void)arg;
	(void)vm;
	return 0;
}

Test(log, a_sweep_leaves_what_is_of_use)
{
	add(ONE, 0, "abc");
	vm_log_sweep(dir, none, NULL);
	expect_log("");
}

Test(files, are_there_once_they_are_whole)
{
	char text[16] = "";

	cr_assert_eq(vm_files_store(dir, "vm", "kernel", 0, "abc", 3), 0);
	cr_assert_eq(vm_files_store(dir, "vm", "kernel", 3, "def", 3), 0);
	cr_expect_eq(vm_files_open(dir, "vm", "kernel"), -ENOENT);
	cr_assert_eq(vm_files_seal(dir, "vm"), 0);
	int fd = vm_files_open(dir, "vm", "kernel");
	cr_assert_geq(fd, 0);
	cr_expect_eq(read(fd, text, sizeof(text) - 1), 6);
	cr_expect_str_eq(text, "abcdef");
	close(fd);
	cr_expect_eq(vm_files_open(dir, "vm", "initrd"), -ENOENT);
}

Test(files, without_a_kernel_nothing_is_whole)
{
	cr_assert_eq(vm_files_store(dir, "vm", "initrd", 0, "abc", 3), 0);
	cr_expect_eq(vm_files_seal(dir, "vm"), -ENOENT);
}

Test(files, a_sweep_takes_parts_too)
{
	cr_assert_eq(vm_files_store(dir, "vm", "kernel", 0, "abc", 3), 0);
	vm_files_sweep(dir, none, NULL);
	cr_expect_eq(vm_files_seal(dir, "vm"), -ENOENT);
}
