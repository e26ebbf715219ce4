/* SPDX-License-Identifier: Apache-2.0 */
/* pangea nodes: the nodes and what they have free. */
#include <string.h>

#include "cli/cli.h"

static const char usage[] = "Usage: pangea nodes [OPTION]...\n"
			    "Lists the nodes, their CPUs and memory, and what of it is free.\n"
			    "\n"
			    "  --json                   as JSON\n" CLI_COMMON_USAGE;

static void node_print(const json_t *node)
{
	const char *name = "?", *state = "?", *address = "?", *cpu = "?";
	uint64_t cpus = 0, cpus_free = 0, mem = 0, mem_free = 0;
	char why[CONTROL_WHY_MAX], total[32], spare[32];

	if (control_get_name(node, "name", &name, why) ||
	    control_get_string(node, "state", &state, why) ||
	    control_get_string(node, "data_address", &address, why) ||
	    control_get_string(node, "cpu", &cpu, why) ||
	    control_get_u64(node, "cpus", 0, UINT64_MAX, &cpus, why) ||
	    control_get_u64(node, "cpus_free", 0, UINT64_MAX, &cpus_free, why) ||
	    control_get_u64(node, "mem_bytes", 0, UINT64_MAX, &mem, why) ||
	    control_get_u64(node, "mem_free_bytes", 0, UINT64_MAX, &mem_free, why))
		return;
	control_size_format(mem, total, sizeof(total));
	control_size_format(mem_free, spare, sizeof(spare));
	printf("%-16s %5llu %5llu %12s %12s  %-6s %s%s\n", name, (unsigned long long)cpus,
	       (unsigned long long)cpus_free, total, spare, cpu, address,
	       strcmp(state, "away") == 0 ? " (away)" : "");
}

int cmd_nodes(int argc, char **argv)
{
	struct cli_target target = {0};
	json_t *answer, *node;
	bool json = false;
	size_t i;
	int code = cli_simple_options(argc, argv, usage, &target, &json, 0);

	if (code >= 0)
		return code;
	code = client_list(&target, "nodes", "nodes-list", &answer);
	if (code)
		return code;
	if (json) {
		json_dumpf(json_object_get(answer, "nodes"), stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		printf("%-16s %5s %5s %12s %12s  %-6s %s\n", "NODE", "CPUS", "FREE", "MEMORY",
		       "FREE", "ENGINE", "ADDRESS");
		json_array_foreach(json_object_get(answer, "nodes"), i, node) node_print(node);
	}
	json_decref(answer);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}
