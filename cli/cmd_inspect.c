/* SPDX-License-Identifier: Apache-2.0 */
/* pangea inspect: all that the coordinator knows of one virtual machine, as JSON. */
#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea inspect [OPTION]... VM\n"
	"Prints all that is known of a virtual machine, as JSON: its shape, where it is, its "
	"devices and\n"
	"options, how often it was started again, and how it ended.\n"
	"\n" CLI_COMMON_USAGE;

int cmd_inspect(int argc, char **argv)
{
	struct cli_target target = {0};
	json_t *question, *answer;
	int code = cli_simple_options(argc, argv, usage, &target, NULL, 1);

	if (code >= 0)
		return code;
	if (!control_name_valid(argv[optind]))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", argv[optind]);
	code = cli_target_resolve(&target);
	if (code)
		return code;
	question = json_pack("{s:s, s:s}", "type", "inspect", "vm", argv[optind]);
	code = client_ask(&target, question, "vm-inspected", CLI_REPLY_MS, &answer, false);
	json_decref(question);
	if (code)
		return code;
	json_dumpf(json_object_get(answer, "vm"), stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(answer);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}
