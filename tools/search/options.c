/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of pangea-search. */
#include "tools/command.h"
#include "tools/search/tool.h"

/* Room for two slices with two pages; up to 2 GiB, with the states that wait. */
#define STATES_DEFAULT 40000000u
/* Node numbers are 32 bits, and the table has two places a state. */
#define STATES_MAX 1000000000u

static const char usage[] =
	"Usage: pangea-search [OPTION]...\n"
	"Visits, breadth first, every state that a few slices running the coherence protocol's\n"
	"core can come to, checks each, and prints the shortest way to one that fails.\n"
	"\n"
	"  --nodes N          slices, 1 to 4 (3; with a seeded fault as few as show it)\n"
	"  --pages P          pages, 1 or 2 (1); page P is homed at slice P mod N\n"
	"  --group G          slices that a bit of the directory's sharers stands for (1)\n"
	"What may happen besides reads and writes; with none of these --evict --zero --split\n"
	"(with a seeded fault: what shows it):\n"
	"  --evict            a slice gives up its copy\n"
	"  --zero             a page is written with zeroes\n"
	"  --split            a page's first bytes arrive before the rest\n"
	"  --hold             the home sets aside each FWD and INV that finds a copy\n"
	"  --hold-all         every slice does\n"
	"  --loss             one slice is lost, each may take another for lost; twice:\n"
	"                     two are lost\n"
	"  --none             nothing else\n"
	"How far:\n"
	"  --events N         events from the start (any number)\n"
	"  --limit STATES     states (40000000)\n"
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
	OPT_GROUP,
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
	OPT_FAULTS
};

static const struct option longs[] = {
	{"nodes", required_argument, NULL, OPT_NODES},
	{"pages", required_argument, NULL, OPT_PAGES},
	{"group", required_argument, NULL, OPT_GROUP},
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
	COMMAND_OPTIONS,
};

static const struct command_line command = {"pangea-search", usage, longs};

static int number_option(int opt, const char *text, struct search_options *search)
{
	const struct {
		unsigned *to, max;
	} table[] = {[OPT_NODES - OPT_NODES] = {&search->slices, WORLD_SLICES},
		     [OPT_PAGES - OPT_NODES] = {&search->pages, WORLD_PAGES},
		     [OPT_GROUP - OPT_NODES] = {&search->group, WORLD_SLICES},
		     [OPT_EVENTS - OPT_NODES] = {&search->depth_max, STATES_MAX},
		     [OPT_LIMIT - OPT_NODES] = {&search->states_max, STATES_MAX}};
	uint64_t value;
	if (!command_number(text, 1, table[opt - OPT_NODES].max, &value))
		return command_wrong(&command, "not a number in its limits:", text);
	*table[opt - OPT_NODES].to = (unsigned)value;
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

/* What is read, and which of it has defaults that depend on the rest. */
struct reading {
	struct tool_options *options;
	unsigned may;
	bool may_given;
};

static int option_take(void *arg, int opt, const char *value)
{
	struct reading *r = arg;
	struct search_options *search = &r->options->search;
	if (opt >= OPT_NODES && opt <= OPT_LIMIT)
		return number_option(opt, value, search);
	if (opt >= OPT_EVICT && opt <= OPT_NONE) {
		r->may |= may_of(opt);
		r->may_given = true;
		search->losses += opt == OPT_LOSS;
		return -1;
	}
	switch (opt) {
	case OPT_CELLS:
		r->options->cells = true;
		return -1;
	case OPT_JSON:
		r->options->json = true;
		return -1;
	case OPT_SEED_FAULT:
		search->fault = fault_find(value);
		return search->fault ? -1 : command_wrong(&command, "no such fault:", value);
	default: /* OPT_FAULTS: there is no other */
		return faults_print();
	}
}

int tool_options_read(int argc, char **argv, struct tool_options *options)
{
	struct reading r = {.options = options};
	struct search_options *search = &options->search;
	*options = (struct tool_options){
		.search = {.pages = 1, .group = 1, .states_max = STATES_DEFAULT}};
	int code = command_read(&command, argc, argv, option_take, &r);
	if (!r.may_given)
		r.may = search->fault ? search->fault->may : MAY_EVICT | MAY_ZERO | MAY_SPLIT;
	search->may = r.may;
	if (!search->slices)
		search->slices = search->fault ? search->fault->slices : 3;
	if (!r.may_given)
		search->losses = r.may & MAY_LOSE ? 1 : 0;
	return code;
}
