/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences and names of error and exit codes, from the tables in error.h. */
#include "base/error.h"

#include <string.h>

const char *error_text(int err)
{
	int code = err < 0 ? -err : err;

	switch (code) {
#define X(name, value, text)                                                                       \
	case name:                                                                                 \
		return text;
		ERROR_TABLE(X)
#undef X
	default: {
		const char *text = strerrordesc_np(code);
		return text ? text : "unknown error";
	}
	}
}

const char *error_name(int err)
{
	int code = err < 0 ? -err : err;

	switch (code) {
#define X(name, value, text)                                                                       \
	case name:                                                                                 \
		return #name;
		ERROR_TABLE(X)
#undef X
	default: {
		const char *name = strerrorname_np(code);
		return name ? name : "E?";
	}
	}
}

const char *exit_text(int code)
{
	switch (code) {
#define X(name, value, text)                                                                       \
	case name:                                                                                 \
		return text;
		EXIT_TABLE(X)
#undef X
	default:
		return "unknown exit code";
	}
}
