/* SPDX-License-Identifier: Apache-2.0 */
/* VMs described in files: what each key and value becomes, and where each error is said to be. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/run_file.h"

static char said[512]; /* what cli_usage was told */

/* Of cli_main.c. */
int cli_usage(const char *command, const char *fmt, ...)
{
	int n = snprintf(said, sizeof(said), "%s: ", command);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said + n, sizeof(said) - (size_t)n, fmt, ap);
	va_end(ap);
	return EXIT_USAGE;
}

static const struct option options[] = {
	{"kernel", required_argument, NULL, 'k'}, {"cpus", required_argument, NULL, 'c'},
	{"disk", required_argument, NULL, 'd'},	  {"net", required_argument, NULL, 'n'},
	{"slice", required_argument, NULL, 's'},  {"rm", no_argument, NULL, 'r'},
	{"help", no_argument, NULL, 'h'},	  {NULL, 0, NULL, 0},
};

/* What was taken: "k=VALUE c=VALUE r". */
struct taken {
	char text[2048];
	char line; /* an option that the command line has */
};

static bool option_said(void *arg, int val)
{
	const struct taken *taken = arg;

	return taken->line == val;
}

/* 'c' takes digits alone. */
static int option_take(void *arg, int val, const char *value, const char *at)
{
	struct taken *taken = arg;
	size_t used = strlen(taken->text);

	if (val == 'c' && strspn(value, "0123456789") != strlen(value))
		return cli_usage(at, "no number");
	snprintf(taken->text + used, sizeof(taken->text) - used, value ? "%s%c=%s" : "%s%c",
		 used ? " " : "", val, value);
	return -1;
}

static int read_text(const char *path, const char *text, size_t len, struct taken *taken)
{
	struct run_description file = {.path = path,
				       .options = options,
				       .keys = run_file_keys,
				       .said = option_said,
				       .take = option_take,
				       .arg = taken,
				       .strings = json_array()};
	FILE *stream = fmemopen((void *)text, len, "r");
	int code = run_file_read_stream(&file, stream);

	fclose(stream);
	json_decref(file.strings);
	return code;
}

static void expect(const char *text, const char *want)
{
	struct taken taken = {0};

	said[0] = 0;
	cr_expect_eq(read_text("vm.yaml", text, strlen(text), &taken), -1, "%s: %s", text, said);
	cr_expect_str_eq(taken.text, want, "%s gives %s", text, taken.text);
}

static void expect_bad(const char *text, const char *at, const char *why)
{
	struct taken taken = {0};

	said[0] = 0;
	cr_expect_eq(read_text("vm.yaml", text, strlen(text), &taken), EXIT_USAGE, "%s", text);
	cr_expect(strncmp(said, at, strlen(at)) == 0 && strstr(said, why), "%s: %s", text, said);
}

Test(run_file, words_are_taken_as_options)
{
	expect("kernel: /k\ncpus: 4\n", "k=/k c=4");
	expect("cpus: \"4\" # a comment\n", "c=4");
	expect("{}", "");
	expect("rm: true\n", "r");
	expect("rm: false\n", "");
}

Test(run_file, entries_are_texts_or_maps)
{
	expect("disk: /a.img,readonly\n", "d=/a.img,readonly");
	expect("disk:\n  - /a\n  - /b,id=x\n", "d=/a d=/b,id=x");
	expect("disk: {format: raw, file: /a, readonly: true, id: x}\n",
	       "d=/a,format=raw,readonly,id=x");
	expect("disk: [{file: /a, readonly: false}]\n", "d=/a");
	expect("disk: {file: \"/a,b\"}\n", "d=/a,,b");
	expect("net: {type: user, forward: [1:2, 3:4]}\n", "n=user,forward=1:2,forward=3:4");
	expect("slice: [{node: n, cpus: 1, mem: 2M}]\n", "s=node=n,cpus=1,mem=2M");
	expect("disk: []\n", "");
}

Test(run_file, paths_are_the_files)
{
	struct taken taken = {0};
	static const char text[] = "kernel: k\ndisk: [a, {file: b}, /c]\nnet: user\n";

	cr_expect_eq(read_text("/x/y/vm.yaml", text, strlen(text), &taken), -1, "%s", said);
	cr_expect_str_eq(taken.text, "k=/x/y/k d=/x/y/a d=/x/y/b d=/c n=user");
}

Test(run_file, the_command_line_takes_a_keys_place)
{
	struct taken taken = {.line = 'd'};
	static const char text[] = "cpus: 4\ndisk: [/a, /b]\n";

	cr_expect_eq(read_text("vm.yaml", text, strlen(text), &taken), -1);
	cr_expect_str_eq(taken.text, "c=4");
}

Test(run_file, errors_say_where)
{
	expect_bad("kernel: k\n  cpus: 4\n", "vm.yaml:2:", "");
	expect_bad("cpus: 4\nkernell: x\n", "vm.yaml:2:1: ", "no key \"kernell\"");
	expect_bad("help: true\n", "vm.yaml:1:1: ", "no key \"help\"");
	expect_bad("cpus: 4\nkernel: /k\ncpus: 5\n", "vm.yaml:3:1: ", "twice");
	expect_bad("cpus: four\n", "vm.yaml:1:7: ", "no number");
	expect_bad("cpus: [1, 2]\n", "vm.yaml:1:7: ", "one word");
	expect_bad("cpus: {a: b}\n", "vm.yaml:1:7: ", "one word");
	expect_bad("rm: maybe\n", "vm.yaml:1:5: ", "true or false");
	expect_bad("rm: \"true\"\n", "vm.yaml:1:5: ", "true or false");
	expect_bad("disk:\n  - [/a]\n", "vm.yaml:2:5: ", "a text or a map");
	expect_bad("disk: {readonly: true}\n", "vm.yaml:1:7: ", "\"file\" is missing");
	expect_bad("disk: {file: a, file: b}\n", "vm.yaml:1:17: ", "twice");
	expect_bad("disk: {file: [a]}\n", "vm.yaml:1:14: ", "one word");
	expect_bad("disk: {file: a, id: \"x,y\"}\n", "vm.yaml:1:21: ", "comma");
	expect_bad("net: {type: user, forward: [[1]]}\n", "vm.yaml:1:29: ", "one word");
	expect_bad("- a\n", "vm.yaml: ", "keys and values");
	expect_bad("", "vm.yaml: ", "keys and values");
	expect_bad("[: a\n", "vm.yaml:", "");
	expect_bad("? [a]\n: b\n", "vm.yaml:1:3: ", "no key");
	expect_bad("kernel: \"a\\0b\"\n", "vm.yaml:1:9: ", "one word");
	expect_bad("kernel: \xff\xfe\xfd\n", "vm.yaml:", "");
}

Test(run_file, what_refers_to_itself_ends)
{
	expect_bad("disk: &a [*a]\n", "vm.yaml:1:", "");
	expect_bad("disk: &a {file: x, id: *a}\n", "vm.yaml:1:", "");
	expect_bad("&a {kernel: *a}\n", "vm.yaml:1:", "");
}
