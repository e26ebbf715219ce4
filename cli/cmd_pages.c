/* SPDX-License-Identifier: Apache-2.0 */
/* pangea pages: the pages of a running VM that its slices fault on most, and what becomes of them.
 */
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea pages [OPTION]... VM\n"
	"Lists the hottest pages of a virtual machine: how often each was copied for a reader, "
	"moved\n"
	"to another writer, and moved back soon, and its share of the recent faults.\n"
	"\n"
	"  --json                   as JSON\n" CLI_COMMON_USAGE;

/* The slices of the VM of this name; null: there is none. */
static json_t *slices_find(const json_t *answer, const char *name)
{
	char why[CONTROL_WHY_MAX];
	json_t *vm, *slices;
	const char *said;
	size_t i;

	json_array_foreach(json_object_get(answer, "vms"), i, vm)
	{
		if (control_get_name(vm, "name", &said, why) == 0 && strcmp(said, name) == 0 &&
		    control_get_array(vm, "slices", SLICES_MAX, &slices, why) == 0)
			return slices;
	}
	return NULL;
}

static int pages_print(const json_t *slices, bool json)
{
	json_t *list = hot_pages_list(slices);

	if (!list)
		return EXIT_ERROR;
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		hot_pages_print(stdout, slices, list);
	}
	json_decref(list);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

int cmd_pages(int argc, char **argv)
{
	struct cli_target target = {0};
	json_t *answer, *slices;
	bool json = false;
	int code = cli_simple_options(argc, argv, usage, &target, &json, 1);

	if (code >= 0)
		return code;
	if (!control_name_valid(argv[optind]))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", argv[optind]);
	code = client_list(&target, "vms", "vms-list", &answer);
	if (code)
		return code;
	slices = slices_find(answer, argv[optind]);
	if (slices) {
		code = pages_print(slices, json);
	} else {
		cli_say("there is no VM named %s", argv[optind]);
		code = EXIT_ERROR;
	}
	json_decref(answer);
	return code;
}
