/* SPDX-License-Identifier: Apache-2.0 */
/* pangea vms: the virtual machines and where they are. */
#include "cli/cli.h"

static const char usage[] = "Usage: pangea vms [OPTION]...\n"
			    "Lists the virtual machines, their state, size and nodes.\n"
			    "\n"
			    "  --json                   as JSON\n" CLI_COMMON_USAGE;

/* Behind a VM that waits: for whom. */
static void wait_print(const json_t *vm)
{
	const json_t *waits = json_object_get(vm, "waits");
	char why[CONTROL_WHY_MAX];
	unsigned seconds, slice;
	const char *node;

	if (!waits || control_get_uint(waits, "seconds", 0, CONTROL_SILENT_MAX_S, &seconds, why) ||
	    control_get_name(waits, "node", &node, why))
		return;
	if (!json_object_get(waits, "slice"))
		printf("  waits %u s for node %s", seconds, node);
	else if (control_get_uint(waits, "slice", 0, SLICES_MAX - 1, &slice, why) == 0)
		printf("  waits %u s for slice %u on node %s", seconds, slice, node);
}

/* What carries the messages between its slices, as far as they have told. */
static void links_words(const json_t *slices, char *out, size_t size)
{
	static const struct {
		const char *key, *word;
	} carriers[] = {{"links_shm", "shm"},
			{"links_ktls", "tls(kernel)"},
			{"links_tls", "tls"},
			{"links_tcp", "tcp"}};
	size_t used = 0, i;

	snprintf(out, size, "-");
	for (size_t c = 0; c < sizeof(carriers) / sizeof(carriers[0]); c++) {
		const json_t *slice;
		json_int_t links = 0;

		json_array_foreach((json_t *)slices, i, slice) links += json_integer_value(
			json_object_get(json_object_get(slice, "stats"), carriers[c].key));
		if (links)
			used += (size_t)snprintf(out + used, size - used, "%s%s", used ? "+" : "",
						 carriers[c].word);
	}
}

static void vm_print(const json_t *vm)
{
	const char *name, *state, *node;
	uint64_t cpus, mem, age_ms;
	char why[CONTROL_WHY_MAX], size[32], links[40];
	json_t *slices, *slice;
	size_t i;

	if (control_get_name(vm, "name", &name, why) ||
	    control_get_string(vm, "state", &state, why) ||
	    control_get_u64(vm, "cpus", 0, UINT64_MAX, &cpus, why) ||
	    control_get_u64(vm, "mem_bytes", 0, UINT64_MAX, &mem, why) ||
	    control_get_u64(vm, "age_ms", 0, UINT64_MAX, &age_ms, why) ||
	    control_get_array(vm, "slices", SLICES_MAX, &slices, why))
		return;
	control_size_format(mem, size, sizeof(size));
	links_words(slices, links, sizeof(links));
	printf("%-16s %-10s %5llu %12s %8llu s %-11s ", name, state, (unsigned long long)cpus, size,
	       (unsigned long long)(age_ms / 1000), links);
	json_array_foreach(slices, i, slice) if (control_get_name(slice, "node", &node, why) == 0)
		printf("%s%s", i ? "," : " ", node);
	wait_print(vm);
	putchar('\n');
}

int cmd_vms(int argc, char **argv)
{
	struct cli_target target = {0};
	json_t *answer, *vm;
	bool json = false;
	size_t i;
	int code = cli_simple_options(argc, argv, usage, &target, &json, 0);

	if (code >= 0)
		return code;
	code = client_list(&target, "vms", "vms-list", &answer);
	if (code)
		return code;
	if (json) {
		json_dumpf(json_object_get(answer, "vms"), stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		printf("%-16s %-10s %5s %12s %10s %-11s  %s\n", "VM", "STATE", "CPUS", "MEMORY",
		       "AGE", "LINKS", "NODES");
		json_array_foreach(json_object_get(answer, "vms"), i, vm) vm_print(vm);
	}
	json_decref(answer);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}
