/* SPDX-License-Identifier: Apache-2.0 */
/* pangea rm: removes virtual machines that have ended from the list, with their console's log. */
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea rm [OPTION]... VM...\n"
	"Removes virtual machines that have ended from the list, and the logs of their consoles.\n"
	"\n"
	"  -f, --force              pull the plug of one that runs first\n" CLI_COMMON_USAGE;

/* As a stop. */
#define END_MS 20000

/* One question about the VM; an error is said unless quiet. */
static int ask(const struct cli_target *target, const char *type, const char *vm,
	       const char *answer_type, uint64_t ms)
{
	json_t *question = json_pack("{s:s, s:s}", "type", type, "vm", vm), *answer;
	int code = client_ask(target, question, answer_type, ms, &answer, false);

	json_decref(question);
	if (!code)
		json_decref(answer);
	return code;
}

/* Is it one that runs? */
static int runs(const struct cli_target *target, const char *vm, bool *yes)
{
	json_t *question = json_pack("{s:s}", "type", "vms"), *answer, *one;
	int code = client_ask(target, question, "vms-list", CLI_REPLY_MS, &answer, false);
	char why[CONTROL_WHY_MAX];
	const char *name;
	size_t i;

	*yes = false;
	json_decref(question);
	if (code)
		return code;
	json_array_foreach(json_object_get(answer, "vms"), i, one) *yes |=
		control_get_name(one, "name", &name, why) == 0 && strcmp(name, vm) == 0;
	json_decref(answer);
	return EXIT_OK;
}

static int vm_remove(const struct cli_target *target, const char *vm, bool force)
{
	bool running = false;
	int code = force ? runs(target, vm, &running) : EXIT_OK;

	if (!code && running)
		code = ask(target, "stop", vm, "vm-ended", END_MS);
	if (!code)
		code = ask(target, "rm", vm, "vm-removed", CLI_REPLY_MS);
	return code;
}

int cmd_rm(int argc, char **argv)
{
	static const struct option list[] = {
		CLI_COMMON_OPTIONS, {"force", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
	struct cli_target target = {0};
	bool force = false;
	int opt, code, first = EXIT_OK;

	while ((opt = getopt_long(argc, argv, "f", list, NULL)) != -1) {
		if (opt == 'f') {
			force = true;
			continue;
		}
		code = cli_common_option(&target, opt, argv[0], usage);
		if (code >= 0)
			return code;
	}
	if (optind == argc)
		return cli_usage(argv[0], "needs the name of a VM");
	for (int i = optind; i < argc; i++)
		if (!control_name_valid(argv[i]))
			return cli_usage(argv[0], "\"%.70s\" is no name of a VM", argv[i]);
	code = cli_target_resolve(&target);
	if (code)
		return code;
	/* One that cannot be removed does not keep the others. */
	for (int i = optind; i < argc; i++) {
		code = vm_remove(&target, argv[i], force);
		if (!first)
			first = code;
	}
	return first;
}
