/* SPDX-License-Identifier: Apache-2.0 */
/* pangea reset: ends a virtual machine so that its `pangea run`, or the coordinator, starts it again. */
#include "cli/cli.h"

static const char usage[] = "Usage: pangea reset [OPTION]... VM\n"
			    "Has a virtual machine begin anew, as its reset button would: its "
			    "'pangea run' starts it again,\n"
			    "or the coordinator if it is detached.\n"
			    "The guest is not asked.\n"
			    "\n" CLI_COMMON_USAGE;

/* As that of a stop: it ends in the same way. */
#define RESET_MS 20000

int cmd_reset(int argc, char **argv)
{
	struct cli_target target = {0};
	json_t *question, *answer;
	char text[CONTROL_WHY_MAX];
	int code = cli_simple_options(argc, argv, usage, &target, NULL, 1);

	if (code >= 0)
		return code;
	if (!control_name_valid(argv[optind]))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", argv[optind]);
	code = cli_target_resolve(&target);
	if (code)
		return code;
	question = json_pack("{s:s, s:s}", "type", "reset", "vm", argv[optind]);
	code = client_ask(&target, question, "vm-ended", RESET_MS, &answer, false);
	json_decref(question);
	if (code)
		return code;
	code = client_end_code(answer, text);
	if (code == EXIT_RESET && json_is_true(json_object_get(answer, "restarts")))
		cli_say("VM %s is reset: the coordinator starts it again", argv[optind]);
	else if (code == EXIT_RESET)
		cli_say("VM %s is reset: its 'pangea run' starts it again", argv[optind]);
	else
		cli_say("VM %s ended: %s", argv[optind], text);
	json_decref(answer);
	/* It ended for another reason before it could be reset. */
	return code == EXIT_RESET ? EXIT_OK : EXIT_ERROR;
}
