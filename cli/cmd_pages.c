/* SPDX-License-Identifier: Apache-2.0 */
/* pangea pages: the pages of a running VM that its slices fault on most, and what becomes of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/symbols.h"

static const char usage[] =
	"Usage: pangea pages [OPTION]... VM\n"
	"Lists the hottest pages of a virtual machine: how often each was copied for a reader, "
	"moved\n"
	"to another writer, and moved back soon, and its share of the recent faults.\n"
	"\n"
	"  --symbols FILE           names what lies on the pages of the guest's kernel image: FILE "
	"is its\n"
	"                           System.map, or a copy of its /proc/kallsyms (x86-64 Linux, "
	"booted "
	"with\n"
	"                           'nokaslr')\n"
	"  --symbols-base ADDRESS   where the kernel lies, if not at 0x1000000: where \"Kernel "
	"code\" "
	"begins\n"
	"                           in the guest's /proc/iomem\n"
	"  --functions              instead of pages the functions of the guest that fault most on "
	"them\n"
	"                           (software CPU; names with --symbols)\n"
	"  --json                   as JSON\n" CLI_COMMON_USAGE;

enum {
	OPT_JSON = OPT_OWN,
	OPT_SYMBOLS,
	OPT_SYMBOLS_BASE,
	OPT_FUNCTIONS,
};

struct pages_options {
	struct cli_target target;
	const char *symbols_path;
	uint64_t text_gpa;
	bool json, functions;
};

/* 0 or -EINVAL: no hexadecimal guest physical address of a page. */
static int base_parse(const char *text, uint64_t *gpa)
{
	char *end;

	if (strncmp(text, "0x", 2) == 0)
		text += 2;
	if (!strchr("0123456789abcdefABCDEF", text[0]) || !text[0])
		return -EINVAL;
	errno = 0;
	*gpa = strtoull(text, &end, 16);
	if (errno || *end || *gpa % PANGEA_PAGE_SIZE || *gpa >= GUEST_MEM_MAX)
		return -EINVAL;
	return 0;
}

/* Returns -1 to go on, else the exit code. */
static int option_take(struct pages_options *o, int opt, const char *command)
{
	switch (opt) {
	case OPT_JSON:
		o->json = true;
		return -1;
	case OPT_FUNCTIONS:
		o->functions = true;
		return -1;
	case OPT_SYMBOLS:
		o->symbols_path = optarg;
		return -1;
	case OPT_SYMBOLS_BASE:
		if (base_parse(optarg, &o->text_gpa) == 0)
			return -1;
		return cli_usage(
			command,
			"--symbols-base is the address of a page in hexadecimal, not \"%.60s\"",
			optarg);
	default:
		return cli_common_option(&o->target, opt, command, usage);
	}
}

static int options_parse(int argc, char **argv, struct pages_options *o)
{
	static const struct option list[] = {
		CLI_COMMON_OPTIONS,
		{"json", no_argument, NULL, OPT_JSON},
		{"symbols", required_argument, NULL, OPT_SYMBOLS},
		{"symbols-base", required_argument, NULL, OPT_SYMBOLS_BASE},
		{"functions", no_argument, NULL, OPT_FUNCTIONS},
		{NULL, 0, NULL, 0}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
		code = option_take(o, opt, argv[0]);
		if (code >= 0)
			return code;
	}
	if (argc - optind != 1)
		return cli_usage(argv[0], "needs the name of a VM");
	if (!control_name_valid(argv[optind]))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", argv[optind]);
	if (o->text_gpa != SYMBOLS_BASE_UNKNOWN && !o->symbols_path)
		return cli_usage(argv[0], "--symbols-base needs --symbols");
	return -1;
}

/* EXIT_OK or EXIT_ERROR, having said why. */
static int symbols_open(const struct pages_options *o, struct symbols **symbols)
{
	char why[SYMBOLS_WHY_MAX];
	FILE *file;
	int err;

	if (!o->symbols_path)
		return EXIT_OK;
	file = fopen(o->symbols_path, "re");
	if (!file) {
		cli_say("cannot read %s: %s", o->symbols_path, error_text(-errno));
		return EXIT_ERROR;
	}
	err = symbols_read(file, o->text_gpa, symbols, why);
	if (err)
		cli_say("cannot use %s: %s", o->symbols_path, why);
	fclose(file);
	return err ? EXIT_ERROR : EXIT_OK;
}

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

static int list_print(const json_t *slices, const struct pages_options *o,
		      const struct symbols *symbols)
{
	json_t *list = o->functions ? functions_list(slices, symbols) : hot_pages_list(slices);

	if (!list)
		return EXIT_ERROR;
	if (symbols && o->json && !o->functions)
		hot_pages_name(list, symbols);
	if (o->json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (o->functions) {
		functions_print(stdout, slices, list);
	} else {
		hot_pages_print(stdout, slices, list, symbols);
	}
	json_decref(list);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

int cmd_pages(int argc, char **argv)
{
	struct pages_options options = {.text_gpa = SYMBOLS_BASE_UNKNOWN};
	struct symbols *symbols = NULL;
	json_t *answer, *slices;
	int code = options_parse(argc, argv, &options);

	if (code >= 0)
		return code;
	code = symbols_open(&options, &symbols);
	if (code == EXIT_OK)
		code = client_list(&options.target, "vms", "vms-list", &answer);
	if (code == EXIT_OK) {
		slices = slices_find(answer, argv[optind]);
		if (slices) {
			code = list_print(slices, &options, symbols);
		} else {
			cli_say("there is no VM named %s", argv[optind]);
			code = EXIT_ERROR;
		}
		json_decref(answer);
	}
	symbols_free(symbols);
	return code;
}
