/* SPDX-License-Identifier: Apache-2.0 */
/* A VM described in a YAML file: every key is an option of `pangea run`, by that command's own table. */
#ifndef CLI_RUN_FILE_H
#define CLI_RUN_FILE_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* No description of a VM is longer. */
#define RUN_FILE_BYTES_MAX (1u << 20)

/* What a key's value is, beside a plain word. */
struct run_file_key {
	const char *name;
	bool path; /* a file of the client's, relative to the description */
	bool list; /* it may be said several times */
	/* A list's entry as a map: this key's value comes first and bare (null: none does), and is a path if it says so. */
	const char *head;
	bool head_path;
};

struct run_description {
	const char *path;
	const struct option *options; /* ends with a null name: all keys there are */
	const struct run_file_key
		*keys; /* what there is to say of some of them; ends with a null name */
	/* An option that the command line has: not taken from the file. */
	bool (*said)(void *arg, int val);
	/* Takes an option with its value (null: it takes none), which lives as long as strings; at is "FILE:LINE:COLUMN".
	 * -1 to go on, else the exit code, having said why. */
	int (*take)(void *arg, int val, const char *value, const char *at);
	void *arg;
	json_t *strings; /* the caller's array, to which values are added */
};

/* Reads the file and has each of its keys taken; -1 to go on, else the exit code, having said why and where. */
int run_file_read(const struct run_description *file);
/* The same of an open stream; for tests. */
int run_file_read_stream(const struct run_description *file, FILE *stream);

/* ---- cli_run_keys.c ---- */
extern const struct run_file_key run_file_keys[];
/* A key that is no option of a VM: --help, --version and --check are said, not described. */
bool run_file_key_is(const char *name);

#endif
