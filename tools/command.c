/* SPDX-License-Identifier: Apache-2.0 */
/* The command lines of the tools: the loop over options, and what all of them have in common. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/command.h"

int command_wrong(const struct command_line *c, const char *what, const char *value)
{
	fprintf(stderr, "%s: %s '%s'; see %s --help\n", c->name, what, value, c->name);
	return COMMAND_USAGE;
}

bool command_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	char *end;
	/* strtoull would take a sign and spaces. */
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || *end || value < min || value > max)
		return false;
	*out = value;
	return true;
}

static int option_take(const struct command_line *c, int opt, command_option_fn *take, void *arg)
{
	switch (opt) {
	case COMMAND_HELP:
		fputs(c->usage, stdout);
		return 0;
	case COMMAND_VERSION:
		printf("%s %s\n", c->name, PANGEA_VERSION);
		return 0;
	case '?': /* getopt has said what is wrong */
		fprintf(stderr, "see %s --help\n", c->name);
		return COMMAND_USAGE;
	default:
		return take(arg, opt, optarg);
	}
}

int command_read(const struct command_line *c, int argc, char **argv, command_option_fn *take,
		 void *arg)
{
	int opt, code = -1;
	while (code < 0 && (opt = getopt_long(argc, argv, "", c->longs, NULL)) != -1)
		code = option_take(c, opt, take, arg);
	if (code < 0 && optind < argc)
		code = command_wrong(c, "what is", argv[optind]);
	return code;
}
