/* SPDX-License-Identifier: Apache-2.0 */
/* pangea vms: the virtual machines and where they are. */
#include "cli/cli.h"
#include "cli/links.h"
#include "control/devices.h"

static const char usage[] = "Usage: pangea vms [OPTION]...\n"
			    "Lists the virtual machines, their state, size, links and nodes.\n"
			    "\n"
			    "  --links                  also each pair of slices, what carries its "
			    "messages, and\n"
			    "                           how long a round trip takes\n"
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

/* A disk, network or folder that does not work any more. */
static void ended_print(const json_t *device, const char *id)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *how;

	if (!json_object_get(device, "ended") || control_get_string(device, "ended", &how, why))
		return;
	snprintf(text, sizeof(text), "%.40s: its back end ended (%.200s)", id, how);
	control_text_clean(text);
	printf("%16s %s\n", "", text);
}

/* Below a VM: whose its disks and networks are. */
static void devices_print(const json_t *vm, const json_t *slices)
{
	const char *id, *node;
	const json_t *device;
	char why[CONTROL_WHY_MAX];
	unsigned slice;
	size_t i;

	json_array_foreach(json_object_get(vm, "devices"), i, device)
	{
		if (control_get_string(device, "id", &id, why) || !control_device_id_valid(id) ||
		    control_get_uint(device, "node", 0, SLICES_MAX - 1, &slice, why) ||
		    control_get_name(json_array_get(slices, slice), "node", &node, why))
			continue;
		printf("%16s %s: of slice %u on node %s\n", "", id, slice, node);
		ended_print(device, id);
	}
}

enum {
	OPT_JSON = OPT_OWN,
	OPT_LINKS,
};

static void vm_print(const json_t *vm, bool pairs)
{
	const char *name, *state, *node;
	uint64_t cpus, mem, age_ms;
	char why[CONTROL_WHY_MAX], size[32], links[LINKS_WORDS_MAX], rtt[LINKS_RTT_MAX];
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
	links_words(slices, links);
	links_rtt(slices, rtt);
	printf("%-16s %-10s %5llu %12s %11s %8llu s %-11s ", name, state, (unsigned long long)cpus,
	       size, rtt, (unsigned long long)(age_ms / 1000), links);
	json_array_foreach(slices, i, slice) if (control_get_name(slice, "node", &node, why) == 0)
		printf("%s%s", i ? "," : " ", node);
	wait_print(vm);
	putchar('\n');
	devices_print(vm, slices);
	if (pairs)
		links_pairs_print(slices);
}

/* Returns -1 to go on, else the exit code. */
static int options_parse(int argc, char **argv, struct cli_target *target, bool *json, bool *links)
{
	static const struct option list[] = {CLI_COMMON_OPTIONS,
					     {"json", no_argument, NULL, OPT_JSON},
					     {"links", no_argument, NULL, OPT_LINKS},
					     {NULL, 0, NULL, 0}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (opt == OPT_JSON) {
			*json = true;
			continue;
		}
		if (opt == OPT_LINKS) {
			*links = true;
			continue;
		}
		code = cli_common_option(target, opt, argv[0], usage);
		if (code >= 0)
			return code;
	}
	return optind < argc ? cli_usage(argv[0], "takes no arguments") : -1;
}

int cmd_vms(int argc, char **argv)
{
	struct cli_target target = {0};
	json_t *answer, *vm;
	bool json = false, links = false;
	size_t i;
	int code = options_parse(argc, argv, &target, &json, &links);

	if (code >= 0)
		return code;
	code = client_list(&target, "vms", "vms-list", &answer);
	if (code)
		return code;
	if (json) {
		json_dumpf(json_object_get(answer, "vms"), stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		printf("%-16s %-10s %5s %12s %11s %10s %-11s  %s\n", "VM", "STATE", "CPUS",
		       "MEMORY", "ROUND-TRIP", "AGE", "LINKS", "NODES");
		json_array_foreach(json_object_get(answer, "vms"), i, vm) vm_print(vm, links);
	}
	json_decref(answer);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}
