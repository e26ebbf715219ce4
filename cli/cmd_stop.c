/* SPDX-License-Identifier: Apache-2.0 */
/* pangea stop: ends a virtual machine and waits until it is gone. */
#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea stop [OPTION]... VM\n"
	"Stops a virtual machine as pulling the plug would, and waits for its end.\n"
	"\n" CLI_COMMON_USAGE;

/* Slices have 5 s to stop, 5 more to be killed, and then their daemon is cut off. */
#define STOP_MS 20000

int cmd_stop(int argc, char **argv)
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
	question = json_pack("{s:s, s:s}", "type", "stop", "vm", argv[optind]);
	code = client_ask(&target, question, "vm-ended", STOP_MS, &answer, false);
	json_decref(question);
	if (code)
		return code;
	json_decref(answer);
	cli_say("VM %s is stopped", argv[optind]);
	return EXIT_OK;
}
