/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of pangea-search. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tools/search/tool.h"

/* About 1.5 GiB, with the states that wait. */
#define STATES_DEFAULT 20000000u
/* Node numbers are 32 bits, and the table has two places a state. */
#define STATES_MAX 1000000000u

static const char usage[] =
	"Usage: pangea-search [OPTION]...\n"
	"Visits, breadth first, every state that a few slices running the coherence protocol's\n"
	"core can come to, checks each, and prints the shortest way to one that fails.\n"
	"\n"
	"  --nodes N          slices, 1 to 4 (3; with a seeded fault as few as show it)\n"
	"  --pages P          pages, 1 or 2 (1); page P is homed at slice P mod N\n"
	"What may happen besides reads and writes; with none of these --evict --zero --split\n"
	"(with a seeded fault: what shows it):\n"
	"  --evict            a slice gives up its copy\n"
	"  --zero             a page is written with zeroes\n"
	"  --split            a page's first bytes arrive before the rest\n"
	"  --hold             the home sets aside each FWD and INV that finds a copy\n"
	"  --hold-all         every slice does\n"
	"  --loss             one slice is lost; each other learns of it at its own time; twice:\n"
	"                     two are\n"
	"  --none             nothing else\n"
	"How far:\n"
	"  --events N         events from the start (any number)\n"
	"  --limit STATES     states (20000000)\n"
	"What is printed:\n"
	"  --cells            every cell of the tables, and how often it was obeyed\n"
	"  --json             as JSON\n"
#ifdef SEARCH_FAULTS
	"Does the search find what it should?\n"
	"  --seed-fault NAME  breaks the machine around the core in one way\n"
	"  --faults           lists those ways\n"
#endif
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 all holds; 1 a check failed; 2 wrong usage; 3 a limit came first; 4 a cell\n"
	"of the tables is reached or not against its explanation; 5 no memory.\n";

enum {
	OPT_NODES = 1000,
	OPT_PAGES,
	OPT_EVENTS,
	OPT_LIMIT,
	OPT_EVICT,
	OPT_ZERO,
	OPT_SPLIT,
	OPT_HOLD,
	OPT_HOLD_ALL,
	OPT_LOSS,
	OPT_NONE,
	OPT_CELLS,
	OPT_JSON,
	OPT_SEED_FAULT,
	OPT_FAULTS,
	OPT_HELP,
	OPT_VERSION
};

static const struct option longs[] = {
	{"nodes", required_argument, NULL, OPT_NODES},
	{"pages", required_argument, NULL, OPT_PAGES},
	{"events", required_argument, NULL, OPT_EVENTS},
	{"limit", required_argument, NULL, OPT_LIMIT},
	{"evict", no_argument, NULL, OPT_EVICT},
	{"zero", no_argument, NULL, OPT_ZERO},
	{"split", no_argument, NULL, OPT_SPLIT},
	{"hold", no_argument, NULL, OPT_HOLD},
	{"hold-all", no_argument, NULL, OPT_HOLD_ALL},
	{"loss", no_argument, NULL, OPT_LOSS},
	{"none", no_argument, NULL, OPT_NONE},
	{"cells", no_argument, NULL, OPT_CELLS},
	{"json", no_argument, NULL, OPT_JSON},
#ifdef SEARCH_FAULTS
	{"seed-fault", required_argument, NULL, OPT_SEED_FAULT},
	{"faults", no_argument, NULL, OPT_FAULTS},
#endif
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

static int usage_say(const char *what, const char *value)
{
	fprintf(stderr, "pangea-search: %s '%s'; see pangea-search --help\n", what, value);
	return TOOL_USAGE;
}

/* A number between 1 and max; 0: it is none. */
static unsigned number_read(const char *text, unsigned max)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || *end || text[0] < '0' || text[0] > '9' || value > max)
		return 0;
	return (unsigned)value;
}

static int number_option(int opt, const char *text, struct search_options *search)
{
	static const unsigned max[] = {[OPT_NODES - OPT_NODES] = WORLD_SLICES,
				       [OPT_PAGES - OPT_NODES] = WORLD_PAGES,
				       [OPT_EVENTS - OPT_NODES] = STATES_MAX,
				       [OPT_LIMIT - OPT_NODES] = STATES_MAX};
	unsigned value = number_read(text, max[opt - OPT_NODES]);
	if (!value)
		return usage_say("not a number in its limits:", text);
	if (opt == OPT_NODES)
		search->slices = value;
	else if (opt == OPT_PAGES)
		search->pages = value;
	else if (opt == OPT_EVENTS)
		search->depth_max = value;
	else
		search->states_max = value;
	return -1;
}

static unsigned may_of(int opt)
{
	static const unsigned table[] = {
		[OPT_EVICT - OPT_EVICT] = MAY_EVICT,
		[OPT_ZERO - OPT_EVICT] = MAY_ZERO,
		[OPT_SPLIT - OPT_EVICT] = MAY_SPLIT,
		[OPT_HOLD - OPT_EVICT] = MAY_HOLD,
		[OPT_HOLD_ALL - OPT_EVICT] = MAY_HOLD | MAY_HOLD_ALL,
		[OPT_LOSS - OPT_EVICT] = MAY_LOSE,
		[OPT_NONE - OPT_EVICT] = 0,
	};
	return table[opt - OPT_EVICT];
}

static int faults_print(void)
{
	for (unsigned i = 0; i < faults_count; i++)
		printf("%-18s %s\n", faults[i].name, faults[i].text);
	return TOOL_HOLDS;
}

static int option_read(int opt, struct tool_options *options)
{
	switch (opt) {
	case OPT_CELLS:
		options->cells = true;
		return -1;
	case OPT_JSON:
		options->json = true;
		return -1;
	case OPT_SEED_FAULT:
		options->search.fault = fault_find(optarg);
		return options->search.fault ? -1 : usage_say("no such fault:", optarg);
	case OPT_FAULTS:
		return faults_print();
	case OPT_HELP:
		fputs(usage, stdout);
		return TOOL_HOLDS;
	case OPT_VERSION:
		puts("pangea-search " PANGEA_VERSION);
		return TOOL_HOLDS;
	default:
		fputs("see pangea-search --help\n", stderr);
		return TOOL_USAGE;
	}
}

int tool_options_read(int argc, char **argv, struct tool_options *options)
{
	unsigned may = 0;
	bool may_given = false;
	int opt, code = -1;
	*options = (struct tool_options){.search = {.pages = 1, .states_max = STATES_DEFAULT}};
	while (code < 0 && (opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt >= OPT_NODES && opt <= OPT_LIMIT) {
			code = number_option(opt, optarg, &options->search);
		} else if (opt >= OPT_EVICT && opt <= OPT_NONE) {
			may |= may_of(opt);
			may_given = true;
			options->search.losses += opt == OPT_LOSS;
		} else {
			code = option_read(opt, options);
		}
	}
	if (code < 0 && optind < argc)
		code = usage_say("what is", argv[optind]);
	if (!may_given)
		may = options->search.fault ? options->search.fault->may
					    : MAY_EVICT | MAY_ZERO | MAY_SPLIT;
	options->search.may = may;
	if (!options->search.slices)
		options->search.slices = options->search.fault ? options->search.fault->slices : 3;
	if (!may_given)
		options->search.losses = may & MAY_LOSE ? 1 : 0;
	return code;
}
