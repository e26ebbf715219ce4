/* SPDX-License-Identifier: Apache-2.0 */
/* The command lines of the tools: numbers, --help, --version, and what is wrong with the rest. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

/* The exit code for wrong usage, of every tool. */
#define COMMAND_USAGE 2
/* Values of struct option's val that the tool leaves to command_read; its own are larger. */
#define COMMAND_HELP	1
#define COMMAND_VERSION 2
/* The two options, for the end of a tool's table. */
#define COMMAND_OPTIONS                                                                            \
	{"help", no_argument, NULL, COMMAND_HELP},                                                 \
		{"version", no_argument, NULL, COMMAND_VERSION}, {NULL, 0, NULL, 0}

/* Static text and tables of a tool. */
struct command_line {
	const char *name, *usage;
	const struct option *longs;
};

/* Takes one option of the tool's own. Returns -1 to go on, else the program's exit code. */
typedef int command_option_fn(void *arg, int opt, const char *value);

/*
 * Reads the command line; --help and --version print and end with 0, and an unknown option, a
 * missing value or a word that is no option with COMMAND_USAGE, having said why on standard error.
 * Returns -1 to go on, else the program's exit code. Not while another thread uses getopt.
 */
int command_read(const struct command_line *c, int argc, char **argv, command_option_fn *take,
		 void *arg);
/* Says on standard error what is wrong with a value; returns COMMAND_USAGE. */
int command_wrong(const struct command_line *c, const char *what, const char *value);
/* A decimal number within its limits and nothing else; false: it is none, *out is not set. */
bool command_number(const char *text, uint64_t min, uint64_t max, uint64_t *out);

#endif
