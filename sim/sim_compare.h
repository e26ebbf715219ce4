/* SPDX-License-Identifier: Apache-2.0 */
/* Does it pay to move homes? The same work with homes fixed, moved and moved online, as a table. */
#ifndef SIM_SIM_COMPARE_H
#define SIM_SIM_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

/* What is 0 (the workload: -1) takes all of its values in turn, or what the comparison chooses. */
struct compare_options {
	uint64_t seed, accesses, hold_ns;
	unsigned nodes, vcpus, pages, epochs;
	int workload;
	uint32_t cache; /* as in struct sim_config */
	bool hold_set;	/* take hold_ns */
	bool json;	/* an object a line, for each run, instead of the table */
};

/*
 * Prints the table on standard output. Returns an exit code: EXIT_OK; EXIT_ERROR if a checker
 * failed or memory is short; EXIT_USAGE for limits that are exceeded, each with a sentence on
 * standard error.
 */
int compare_homes(const struct compare_options *options);

#endif
