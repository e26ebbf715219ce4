/* SPDX-License-Identifier: Apache-2.0 */
/* The symbols of a guest's kernel: what lies on which page, and files that are none. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/symbols.h"

static char why[SYMBOLS_WHY_MAX];

static int text_read(const char *text, size_t size, uint64_t base, struct symbols **out)
{
	FILE *in = fmemopen((void *)(uintptr_t)text, size, "r");
	int err;

	cr_assert_not_null(in);
	memset(why, 0, sizeof(why));
	*out = NULL;
	err = symbols_read(in, base, out, why);
	fclose(in);
	return err;
}

static struct symbols *taken(const char *text, uint64_t base)
{
	struct symbols *s;

	cr_assert_eq(text_read(text, strlen(text), base, &s), 0, "%s", why);
	return s;
}

static void refused(const char *text, int err, const char *reason)
{
	struct symbols *s;

	cr_expect_eq(text_read(text, strlen(text), SYMBOLS_BASE_UNKNOWN, &s), err, "%s: %s", text,
		     why);
	cr_expect_not_null(strstr(why, reason), "%s", why);
	cr_expect_null(s);
}

/* Text, what is freed behind it, data, freed init memory, bss; a module, and what lies nowhere. */
static const char kernel_map[] = "0000000000000000 D fixed_percpu_data\n"
				 "0000000000001000 D cpu_tss\n"
				 "ffffffff81000000 T _text\n"
				 "ffffffff81000000 T startup_64\n"
				 "ffffffff81000100 T schedule\n"
				 "ffffffff81000800 t __helper\n"
				 "ffffffff81000800 t helper\n"
				 "ffffffff81001010 T _etext\n"
				 "ffffffff81004000 D __start_rodata\n"
				 "ffffffff81004000 r table\n"
				 "ffffffff81004100 A absolute\n"
				 "ffffffff81005800 R __end_rodata\n"
				 "ffffffff81007000 D _sdata\n"
				 "ffffffff81007000 D init_stack\n"
				 "ffffffff81009100 d lock\n"
				 "ffffffff81009140 D jiffies\n"
				 "ffffffff81009180 D big\n"
				 "ffffffff8100a000 D __init_begin\n"
				 "ffffffff8100a000 d init_data\n"
				 "ffffffff8100c000 D __init_end\n"
				 "ffffffff8100c000 B __bss_start\n"
				 "ffffffff8100c000 b bss_first\n"
				 "ffffffff8100d800 B _end\n"
				 "ffffffffa0000000 t module_work\t[module]\n";

static void page_is(const struct symbols *s, uint64_t gfn, const char *names)
{
	char list[256] = "";

	for (size_t n = 0; n < symbols_page_count(s, gfn); n++) {
		struct symbol symbol = symbols_page_get(s, gfn, n);

		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s+%llx:%llx ",
			 symbol.name, (unsigned long long)symbol.offset,
			 (unsigned long long)symbol.bytes);
	}
	cr_expect_str_eq(list, names, "page %llx", (unsigned long long)gfn);
}

static void kernel_pages_check(const struct symbols *s, uint64_t first)
{
	page_is(s, first - 1, "");
	page_is(s, first,
		"_text+0:100 startup_64+0:100 schedule+0:700 __helper+0:800 helper+0:800 ");
	page_is(s, first + 1, "__helper+800:10 helper+800:10 _etext+0:ff0 ");
	page_is(s, first + 2, "");
	page_is(s, first + 3, "");
	page_is(s, first + 4, "__start_rodata+0:1000 table+0:1000 ");
	page_is(s, first + 5, "__start_rodata+1000:800 table+1000:800 __end_rodata+0:800 ");
	page_is(s, first + 6, "");
	page_is(s, first + 7, "_sdata+0:1000 init_stack+0:1000 ");
	page_is(s, first + 8, "_sdata+1000:1000 init_stack+1000:1000 ");
	page_is(s, first + 9,
		"_sdata+2000:100 init_stack+2000:100 lock+0:40 jiffies+0:40 big+0:e80 ");
	page_is(s, first + 10, "");
	page_is(s, first + 11, "");
	page_is(s, first + 12, "__init_end+0:1000 __bss_start+0:1000 bss_first+0:1000 ");
	page_is(s, first + 13, "__init_end+1000:800 __bss_start+1000:800 bss_first+1000:800 ");
	page_is(s, first + 14, "");
	page_is(s, UINT64_MAX >> 12, "");
	page_is(s, UINT64_MAX, "");
}

Test(symbols, each_page_has_what_lies_on_it)
{
	struct symbols *s = taken(kernel_map, SYMBOLS_BASE_UNKNOWN);

	kernel_pages_check(s, 0x1000);
	symbols_free(s);
	s = taken(kernel_map, 0x3a00000);
	kernel_pages_check(s, 0x3a00);
	cr_expect_eq(symbols_page_count(s, 0x1000), 0);
	symbols_free(s);
	s = taken(kernel_map, 0); /* at the start of memory */
	page_is(s, 7, "_sdata+0:1000 init_stack+0:1000 ");
	symbols_free(s);
}

Test(symbols, a_random_place_needs_to_be_told)
{
	static const char moved[] = "ffffffff9c600000 T _text\nffffffff9c600800 D here\n"
				    "ffffffff9c601000 B _end\n";
	struct symbols *s;

	refused(moved, -EINVAL, "--symbols-base");
	s = taken(moved, 0x2a400000);
	page_is(s, 0x2a400, "_text+0:800 here+0:800 ");
	symbols_free(s);
}

Test(symbols, what_begins_on_the_page_comes_first_and_marks_last)
{
	struct symbols *s = taken(kernel_map, SYMBOLS_BASE_UNKNOWN);
	struct symbol list[3];
	size_t more;

	cr_assert_eq(symbols_page_first(s, 0x1009, list, 3, &more), 3);
	cr_expect_str_eq(list[0].name, "big");
	cr_expect_str_eq(list[1].name, "lock");
	cr_expect_str_eq(list[2].name, "jiffies");
	cr_expect_eq(more, 1);
	cr_assert_eq(symbols_page_first(s, 0x1008, list, 3, &more), 1);
	cr_expect_str_eq(list[0].name, "init_stack");
	cr_expect_eq(list[0].offset, 0x1000);
	cr_expect_eq(more, 0);
	cr_assert_eq(symbols_page_first(s, 0x1000, list, 3, &more), 3);
	cr_expect_str_eq(list[0].name, "helper");
	cr_expect_str_eq(list[1].name, "schedule");
	cr_expect_str_eq(list[2].name, "startup_64");
	cr_expect_eq(more, 0);
	cr_expect_eq(symbols_page_first(s, 0x100a, list, 3, &more), 0);
	cr_expect_eq(more, 0);
	symbols_free(s);
}

static void function_is(const struct symbols *s, uint64_t address, const char *name,
			uint64_t offset)
{
	struct symbol symbol = symbols_function(s, address);

	if (!name) {
		cr_expect_null(symbol.name, "%llx", (unsigned long long)address);
		return;
	}
	cr_assert_not_null(symbol.name, "%llx", (unsigned long long)address);
	cr_expect_str_eq(symbol.name, name);
	cr_expect_eq(symbol.offset, offset);
}

Test(symbols, an_address_has_its_function)
{
	struct symbols *s = taken(kernel_map, SYMBOLS_BASE_UNKNOWN);

	function_is(s, 0xffffffff81000000, "startup_64", 0);
	function_is(s, 0xffffffff810007ff, "schedule", 0x6ff);
	function_is(s, 0xffffffff81000801, "helper", 1);
	function_is(s, 0xffffffffa0000010, "module_work", 0x10);
	function_is(s, 0xffffffff81009144, NULL, 0); /* data */
	function_is(s, 0xffffffffb0000000, NULL, 0);
	function_is(s, 0x401000, NULL, 0);
	function_is(s, 0, NULL, 0);
	function_is(s, UINT64_MAX, NULL, 0);
	symbols_free(s);
}

/* As it comes from a console: ends of lines, and other people's words. */
Test(symbols, the_log_of_a_console_will_do)
{
	struct symbols *s = taken("[    1.2] Linux\r\n/ # cat /proc/kallsyms\r\n"
				  "ffffffff81000000 T _text\r\n[    2.0] usb: hello\r\n"
				  "ffffffff81000010 t f\t[m]\r\nffffffff81000800 D x\r\n"
				  "ffffffff81001000 B _end\r\n/ # ",
				  SYMBOLS_BASE_UNKNOWN);

	page_is(s, 0x1000, "_text+0:10 f+0:7f0 x+0:800 ");
	symbols_free(s);
}

Test(symbols, what_is_no_list_is_refused_with_a_reason)
{
	refused("\n", -EINVAL, "no line of it is a symbol");
	refused("ELF\x7f what\nffffffff8100000g T _text\nffff T x\nffffffff81000000 T\n"
		"ffffffff81000000 TT x\nffffffff81000000 T \x1bx\n",
		-EINVAL, "no line of it is a symbol");
	refused("0000000000000000 T _text\n0000000000000000 B _end\n", -EINVAL,
		"kernel.kptr_restrict=1");
	refused("ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg "
		"package\n",
		-EINVAL, "linux-image-VERSION-dbg");
	refused("ffffffff81000000 T _text\nffffffff81000100 T f\n", -EINVAL, "_text and _end");
	refused("ffffffff81001000 T _text\nffffffff81000100 T _end\n", -EINVAL, "_text and _end");
	refused("ffffffff81000000 A _text\nffffffff81000100 A _end\n", -EINVAL, "_text and _end");
}

Test(symbols, a_file_of_zero_bytes_has_no_symbols)
{
	static const char zeros[4096];
	struct symbols *s;

	cr_expect_eq(text_read(zeros, sizeof(zeros), SYMBOLS_BASE_UNKNOWN, &s), -EINVAL);
	cr_expect_not_null(strstr(why, "no line of it is a symbol"), "%s", why);
}

/* At the limits: the file's size, the symbols' number, a name's length. */
Test(symbols, a_huge_file_is_not_read_to_its_end)
{
	FILE *zero = fopen("/dev/zero", "re");
	struct symbols *s = NULL;

	cr_assert_not_null(zero);
	cr_expect_eq(symbols_read(zero, SYMBOLS_BASE_UNKNOWN, &s, why), -EFBIG);
	cr_expect_not_null(strstr(why, "more than 64 MiB"), "%s", why);
	cr_expect_null(s);
	fclose(zero);
}

Test(symbols, more_symbols_than_a_kernel_has_are_refused)
{
	size_t size = (SYMBOLS_COUNT_MAX + (size_t)1) * 13;
	char *text = malloc(size + 1);
	struct symbols *s;

	cr_assert_not_null(text);
	for (size_t i = 0; i <= SYMBOLS_COUNT_MAX; i++)
		snprintf(text + i * 13, 14, "%08zx T a\n", i + 1);
	/* 12 characters a line: the last place is a blank line's end. */
	for (size_t i = 0; i <= SYMBOLS_COUNT_MAX; i++)
		text[i * 13 + 12] = '\n';
	cr_expect_eq(text_read(text, size, SYMBOLS_BASE_UNKNOWN, &s), -EFBIG);
	cr_expect_not_null(strstr(why, "more than 2097152 symbols"), "%s", why);
	free(text);
}

/* All symbols of a file at one address: a page's list is long, and comes to its end. */
Test(symbols, a_page_may_have_many)
{
	static const char line[] = "ffffffff81000000 T n\n";
	size_t count = 200000, len = sizeof(line) - 1;
	char *text = malloc(count * len + 100);
	struct symbols *s;
	struct symbol list[3];
	size_t more;

	cr_assert_not_null(text);
	for (size_t i = 0; i < count; i++)
		memcpy(text + i * len, line, len);
	snprintf(text + count * len, 100, "ffffffff81000000 T _text\nffffffff81000800 B _end\n");
	s = taken(text, SYMBOLS_BASE_UNKNOWN);
	cr_expect_eq(symbols_page_count(s, 0x1000), count + 1);
	cr_expect_str_eq(symbols_page_get(s, 0x1000, count).name, "_text");
	cr_expect_eq(symbols_page_get(s, 0x1000, count).bytes, 0x800);
	cr_expect_null(symbols_page_get(s, 0x1000, count + 1).name);
	cr_expect_eq(symbols_page_first(s, 0x1000, list, 3, &more), 1);
	cr_expect_eq(more, 0);
	symbols_free(s);
	free(text);
}

Test(symbols, a_name_that_is_too_long_is_left_out)
{
	char text[2048];
	struct symbols *s;

	snprintf(text, sizeof(text),
		 "ffffffff81000000 T _text\nffffffff81000100 T %0*d\n"
		 "ffffffff81000200 T %0*d\nffffffff81001000 B _end\n",
		 (int)SYMBOLS_NAME_MAX, 0, (int)SYMBOLS_NAME_MAX - 1, 0);
	s = taken(text, SYMBOLS_BASE_UNKNOWN);
	cr_expect_eq(symbols_page_count(s, 0x1000), 2);
	symbols_free(s);
}
