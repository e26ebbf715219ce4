/* SPDX-License-Identifier: Apache-2.0 */
/* pangea check: what this machine can do for Pangea, what matters, and what mends it. */
#include <string.h>

#include "base/log.h"
#include "cli/check.h"

static const char usage[] =
	"Usage: pangea check [OPTION]...\n"
	"Looks at this machine: what was found, whether it matters, and what mends it.\n"
	"\n"
	"  --json                   as JSON\n"
	"  --pki DIR                the directory of certificates to look at\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 nothing is refused; 1 something does not work; 2 wrong usage.\n";

enum {
	OPT_JSON = OPT_OWN,
};

static const struct option longs[] = {
	{"json", no_argument, NULL, OPT_JSON},
	{"pki", required_argument, NULL, OPT_PKI},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

/* Words wrapped below the table's columns. */
static void wrapped_print(const char *text)
{
	static const size_t indent = 27, width = 100;
	size_t at = indent;

	printf("%*s", (int)indent, "");
	while (*text) {
		size_t len = strcspn(text, " ");
		if (at > indent && at + 1 + len > width) {
			printf("\n%*s", (int)indent, "");
			at = indent;
		} else if (at > indent) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)len, text);
		at += len;
		text += len + strspn(text + len, " ");
	}
	putchar('\n');
}

static void item_print(const struct host_item *item)
{
	char found[sizeof(item->found)];

	snprintf(found, sizeof(found), "%s", item->found);
	control_text_clean(found);
	printf("%-19s %-6s %s\n", item->name, host_matters_name(item->matters), found);
	wrapped_print(item->sentence);
	/* In one piece: to be copied. */
	if (item->mend[0])
		printf("%27s%s\n", "mend: ", item->mend);
}

static int report_print(const struct host_report *report, bool json)
{
	json_t *out = json ? control_host_json(report) : NULL;

	if (json && !out)
		return EXIT_ERROR;
	if (json) {
		json_dumpf(out, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(out);
		return EXIT_OK;
	}
	printf("%-19s %-6s %s\n", "WHAT", "", "FOUND");
	for (unsigned i = 0; i < report->count; i++)
		item_print(&report->items[i]);
	return EXIT_OK;
}

int cmd_check(int argc, char **argv)
{
	struct cli_target target = {0};
	struct host_report report;
	bool json = false;
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == OPT_JSON) {
			json = true;
			continue;
		}
		code = cli_common_option(&target, opt, argv[0], usage);
		if (code >= 0)
			return code;
	}
	if (optind < argc)
		return cli_usage(argv[0], "takes no arguments, only options");
	host_probe(&report);
	invariant(report.count < HOST_ITEMS_MAX);
	check_certificates(target.pki, &report.items[report.count++]);
	code = report_print(&report, json);
	for (unsigned i = 0; i < report.count; i++)
		if (report.items[i].matters == HOST_REFUSE)
			code = EXIT_ERROR;
	return fflush(stdout) == 0 ? code : EXIT_ERROR;
}
