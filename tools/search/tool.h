/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the program pangea-search share: its options, its report, its exit codes. */
#ifndef TOOLS_SEARCH_TOOL_H
#define TOOLS_SEARCH_TOOL_H

#include "tools/search/search.h"

/* Exit codes; docs/man/pangea-search.1 lists the same. */
enum tool_exit {
	TOOL_HOLDS = 0,
	TOOL_FAILED = 1,     /* a check failed: the trace says how */
	TOOL_USAGE = 2,	     /* wrong usage: COMMAND_USAGE */
	TOOL_INCOMPLETE = 3, /* all that was visited holds, but a limit came first */
	TOOL_CELLS = 4,	     /* a cell's explanation is wrong */
	TOOL_MEMORY = 5	     /* no memory */
};

struct tool_options {
	struct search_options search;
	bool json;
	bool cells; /* print every cell, not only those unreached */
};

/* Reads the command line. Returns -1 to go on, else the exit code, having printed what there was to
 * print. */
int tool_options_read(int argc, char **argv, struct tool_options *options);

/* What a search took: time by the wall's clock, and the most memory that the process had. */
struct tool_cost {
	double seconds, memory_mib;
};

/* Prints the trace of a failure, if there is one, what the search found, and what it took; as text
 * or as JSON. */
void report_print(const struct tool_options *options, struct search *s,
		  const struct search_result *result, const struct tool_cost *cost);
/* The exit code for what was found. */
int report_exit(const struct tool_options *options, const struct search_result *result);

#endif
