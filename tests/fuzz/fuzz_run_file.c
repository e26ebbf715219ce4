/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the files that describe VMs: each ends in options, or in a sentence. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/run_file.h"
#include "tests/fuzz/fuzz.h"

static char said[1024];

/* Of cli_main.c. */
int cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	(void)command;
	va_start(ap, fmt);
	vsnprintf(said, sizeof(said), fmt, ap);
	va_end(ap);
	return EXIT_USAGE;
}

static bool option_said(void *arg, int val)
{
	(void)arg;
	return val == 's';
}

/* A value is a string that lives. */
static int option_take(void *arg, int val, const char *value, const char *at)
{
	size_t *sum = arg;

	invariant(val != 's' && at[0]);
	*sum += value ? strlen(value) : 1;
	return -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct option options[] = {
		{"kernel", required_argument, NULL, 'k'},
		{"cpus", required_argument, NULL, 'c'},
		{"disk", required_argument, NULL, 'd'},
		{"net", required_argument, NULL, 'n'},
		{"slice", required_argument, NULL, 's'},
		{"rm", no_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	size_t sum = 0;
	struct run_description file = {.path = "a/vm.yaml",
				       .options = options,
				       .keys = run_file_keys,
				       .said = option_said,
				       .take = option_take,
				       .arg = &sum,
				       .strings = json_array()};
	FILE *stream = size ? fmemopen((void *)data, size, "r") : NULL;

	said[0] = 0;
	if (stream) {
		int code = run_file_read_stream(&file, stream);
		/* Who refuses a file says why. */
		invariant(code == -1 || (code == EXIT_USAGE && said[0]) || code == EXIT_ERROR);
		fclose(stream);
	}
	json_decref(file.strings);
	return 0;
}
