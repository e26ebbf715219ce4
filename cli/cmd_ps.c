/* SPDX-License-Identifier: Apache-2.0 */
/* pangea ps: the virtual machines in short, and those that have ended. The list is that of pangea vms. */
#include <string.h>
#include <time.h>

#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea ps [OPTION]...\n"
	"Lists the virtual machines that run; 'pangea vms' shows their links and nodes.\n"
	"\n"
	"  -a, --all                also those that have ended, with the reason\n"
	"  -q, --quiet              their names alone\n"
	"  --json                   as JSON\n" CLI_COMMON_USAGE;

enum {
	OPT_JSON = OPT_OWN,
};

struct ps {
	struct cli_target target;
	bool all, quiet, json;
};

/* "42 s", "17 min", "5 h", "3 d" */
static void span_format(uint64_t seconds, char *out, size_t size)
{
	static const struct {
		unsigned seconds;
		const char *unit;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (seconds < 2 * (uint64_t)units[i].seconds)
			continue;
		snprintf(out, size, "%llu %s", (unsigned long long)(seconds / units[i].seconds),
			 units[i].unit);
		return;
	}
	snprintf(out, size, "%llu s", (unsigned long long)seconds);
}

/* Since when it is as it is: since its end, or its beginning. */
static void since_format(const json_t *vm, char *out, size_t size)
{
	char why[CONTROL_WHY_MAX], span[32];
	uint64_t ended_s, age_ms, now_s = (uint64_t)time(NULL);

	out[0] = 0;
	if (json_object_get(vm, "ended_s")) {
		if (control_get_u64(vm, "ended_s", 0, INT64_MAX, &ended_s, why) == 0) {
			span_format(now_s > ended_s ? now_s - ended_s : 0, span, sizeof(span));
			snprintf(out, size, "%s ago", span);
		}
	} else if (control_get_u64(vm, "age_ms", 0, INT64_MAX, &age_ms, why) == 0) {
		span_format(age_ms / 1000, out, size);
	}
}

/* What a VM of which something is missing has is left out. */
static uint64_t number_of(const json_t *vm, const char *key)
{
	char why[CONTROL_WHY_MAX];
	uint64_t number = 0;

	return control_get_u64(vm, key, 0, INT64_MAX, &number, why) ? 0 : number;
}

static void vm_print(const json_t *vm)
{
	char why[CONTROL_WHY_MAX], size[32], since[40], state[24], text[CONTROL_WHY_MAX] = "";
	const char *name, *word, *reason;
	unsigned code = 0;

	if (control_get_name(vm, "name", &name, why) || control_get_string(vm, "state", &word, why))
		return;
	snprintf(state, sizeof(state), "%.15s", word);
	if (json_object_get(vm, "code") && control_get_uint(vm, "code", 0, 255, &code, why) == 0) {
		if (strcmp(word, "ended") == 0)
			snprintf(state, sizeof(state), "ended (%u)", code);
		if (control_get_string(vm, "reason", &reason, why) == 0)
			snprintf(text, sizeof(text), "%s", reason);
	}
	control_text_clean(state);
	control_text_clean(text);
	control_size_format(number_of(vm, "mem_bytes"), size, sizeof(size));
	since_format(vm, since, sizeof(since));
	printf("%-16s %-11s %5llu %10s %11s %8llu%s%s\n", name, state,
	       (unsigned long long)number_of(vm, "cpus"), size, since,
	       (unsigned long long)number_of(vm, "restarts"), text[0] ? "  " : "", text);
}

static void names_print(const json_t *vms)
{
	char why[CONTROL_WHY_MAX];
	const char *name;
	const json_t *vm;
	size_t i;

	json_array_foreach(vms, i, vm) if (control_get_name(vm, "name", &name, why) == 0)
		printf("%s\n", name);
}

/* Returns -1 to go on, else the exit code. */
static int options_parse(struct ps *ps, int argc, char **argv)
{
	static const struct option list[] = {CLI_COMMON_OPTIONS,
					     {"all", no_argument, NULL, 'a'},
					     {"quiet", no_argument, NULL, 'q'},
					     {"json", no_argument, NULL, OPT_JSON},
					     {NULL, 0, NULL, 0}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "aq", list, NULL)) != -1) {
		if (opt == 'a') {
			ps->all = true;
		} else if (opt == 'q') {
			ps->quiet = true;
		} else if (opt == OPT_JSON) {
			ps->json = true;
		} else {
			code = cli_common_option(&ps->target, opt, argv[0], usage);
			if (code >= 0)
				return code;
		}
	}
	if (ps->quiet && ps->json)
		return cli_usage(argv[0], "takes --quiet or --json, not both");
	return optind < argc ? cli_usage(argv[0], "takes no arguments") : -1;
}

static void list_print(const struct ps *ps, const json_t *vms)
{
	const json_t *vm;
	size_t i;

	if (ps->json) {
		json_dumpf(vms, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (ps->quiet) {
		names_print(vms);
	} else {
		printf("%-16s %-11s %5s %10s %11s %8s  %s\n", "VM", "STATE", "CPUS", "MEMORY",
		       "AGE", "RESTARTS", "REASON");
		json_array_foreach(vms, i, vm) vm_print(vm);
	}
}

int cmd_ps(int argc, char **argv)
{
	struct ps ps = {0};
	json_t *question, *answer;
	int code = options_parse(&ps, argc, argv);

	if (code >= 0)
		return code;
	code = cli_target_resolve(&ps.target);
	if (code)
		return code;
	question = json_pack("{s:s, s:b}", "type", "vms", "all", (int)ps.all);
	code = client_ask(&ps.target, question, "vms-list", CLI_REPLY_MS, &answer, false);
	json_decref(question);
	if (code)
		return code;
	list_print(&ps, json_object_get(answer, "vms"));
	json_decref(answer);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}
