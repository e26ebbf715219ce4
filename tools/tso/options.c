/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of pangea-tso. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "tools/command.h"
#include "tools/tso/tool.h"

static const char usage[] =
	"Usage: pangea-tso [OPTION]...\n"
	"Runs random racy programs on real slices, a process each, joined by shared memory or\n"
	"TCP over loopback, and checks that what their threads saw is what x86-TSO allows, and "
	"each word "
	"linearizable.\n"
	"\n"
	"  --slices N       processes, 2 to 8 (2)\n"
	"  --threads T      threads of each, 1 to 4 (2)\n"
	"  --words W        words of 8 bytes, 1 to 64 (12)\n"
	"  --pages P        pages they are on, 1 to 64 (4); page P is homed at slice P mod N\n"
	"  --rounds R       rounds, 1 to 1000000 (50)\n"
	"  --ops N          operations of a thread in a round, 1 to 2000 (100)\n"
	"  --seed S         of programs and disturbances (1)\n"
	"  --transport W    auto, shm, rdma or tcp: what carries messages (auto: shm)\n"
	"  --address A      where processes listen (127.0.0.1); for rdma, a device's\n"
	"  --seconds S      begin no round after this time, 1 to 100000\n"
	"  --stop           stop processes for 1 to 200 ms, again and again\n"
	"  --kill           kill one process; the rest must notice; then start anew\n"
	"  --cut            cut one connection; both its ends must notice; then start anew\n"
	"  --json           the figures as JSON\n"
#ifdef TSO_SEED_FAULTS
	"Does the checker find what it should?\n"
	"  --seed-fault NAME  breaks coherence, or the record of it, in one way\n"
	"  --faults           lists those ways\n"
#endif
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 all holds; 1 a check failed; 2 wrong usage; 3 a slice did not do its part;\n"
	"77 userfaultfd is refused here.\n";

enum {
	OPT_SLICES = 1000,
	OPT_THREADS,
	OPT_WORDS,
	OPT_PAGES,
	OPT_ROUNDS,
	OPT_OPS,
	OPT_SECONDS,
	OPT_SEED,
	OPT_STOP,
	OPT_KILL,
	OPT_CUT,
	OPT_JSON,
	OPT_TRANSPORT,
	OPT_ADDRESS,
	OPT_SEED_FAULT,
	OPT_FAULTS
};

static const struct option longs[] = {
	{"slices", required_argument, NULL, OPT_SLICES},
	{"threads", required_argument, NULL, OPT_THREADS},
	{"words", required_argument, NULL, OPT_WORDS},
	{"pages", required_argument, NULL, OPT_PAGES},
	{"rounds", required_argument, NULL, OPT_ROUNDS},
	{"ops", required_argument, NULL, OPT_OPS},
	{"seconds", required_argument, NULL, OPT_SECONDS},
	{"seed", required_argument, NULL, OPT_SEED},
	{"stop", no_argument, NULL, OPT_STOP},
	{"kill", no_argument, NULL, OPT_KILL},
	{"cut", no_argument, NULL, OPT_CUT},
	{"transport", required_argument, NULL, OPT_TRANSPORT},
	{"address", required_argument, NULL, OPT_ADDRESS},
	{"json", no_argument, NULL, OPT_JSON},
#ifdef TSO_SEED_FAULTS
	{"seed-fault", required_argument, NULL, OPT_SEED_FAULT},
	{"faults", no_argument, NULL, OPT_FAULTS},
#endif
	COMMAND_OPTIONS,
};

static const struct command_line command = {"pangea-tso", usage, longs};

static int number_option(int opt, const char *text, struct tso_options *o)
{
	const struct {
		unsigned *to, min, max;
	} table[] = {
		[OPT_SLICES - OPT_SLICES] = {&o->slices, 2, TSO_SLICES_MAX},
		[OPT_THREADS - OPT_SLICES] = {&o->threads, 1, TSO_THREADS_MAX / TSO_SLICES_MAX},
		[OPT_WORDS - OPT_SLICES] = {&o->words, 1, TSO_WORDS_MAX},
		[OPT_PAGES - OPT_SLICES] = {&o->pages, 1, TSO_PAGES_MAX},
		[OPT_ROUNDS - OPT_SLICES] = {&o->rounds, 1, TSO_ROUNDS_MAX},
		[OPT_OPS - OPT_SLICES] = {&o->ops, 1, TSO_OPS_MAX},
		[OPT_SECONDS - OPT_SLICES] = {&o->seconds, 1, 100000},
	};
	uint64_t value;

	if (!command_number(text, table[opt - OPT_SLICES].min, table[opt - OPT_SLICES].max, &value))
		return command_wrong(&command, "not a number in its limits:", text);
	*table[opt - OPT_SLICES].to = (unsigned)value;
	return -1;
}

static int fault_option(const char *name, struct tso_options *o)
{
	for (unsigned f = 1; f < TSO_FAULTS; f++) {
		if (strcmp(name, fault_name(f)) != 0)
			continue;
		o->fault = f;
		return -1;
	}
	return command_wrong(&command, "no such fault:", name);
}

static int faults_print(void)
{
	for (unsigned f = 1; f < TSO_FAULTS; f++)
		printf("%-14s %s\n", fault_name(f), fault_text(f));
	return TOOL_HOLDS;
}

static int option_take(void *arg, int opt, const char *value)
{
	struct tso_options *o = arg;
	struct in_addr in;

	if (opt >= OPT_SLICES && opt <= OPT_SECONDS)
		return number_option(opt, value, o);
	switch (opt) {
	case OPT_SEED:
		/* JSON has no larger integers. */
		if (command_number(value, 0, INT64_MAX, &o->seed))
			return -1;
		return command_wrong(&command, "not a seed:", value);
	case OPT_STOP:
		o->stop = true;
		return -1;
	case OPT_KILL:
		o->kill = true;
		return -1;
	case OPT_CUT:
		o->cut = true;
		return -1;
	case OPT_TRANSPORT:
		o->transport_word = value;
		if (transport_wish_parse(value, &o->transport) == 0)
			return -1;
		return command_wrong(&command, "not auto, shm, rdma or tcp:", value);
	case OPT_ADDRESS:
		o->address = value;
		if (inet_pton(AF_INET, value, &in) == 1)
			return -1;
		return command_wrong(&command, "not an IPv4 address:", value);
	case OPT_JSON:
		o->json = true;
		return -1;
	case OPT_SEED_FAULT:
		return fault_option(value, o);
	default: /* OPT_FAULTS: there is no other */
		return faults_print();
	}
}

int options_read(int argc, char **argv, struct tso_options *o)
{
	*o = (struct tso_options){.slices = 2,
				  .threads = 2,
				  .words = 12,
				  .pages = 4,
				  .rounds = 50,
				  .ops = 100,
				  .address = "127.0.0.1",
				  .seed = 1};
	return command_read(&command, argc, argv, option_take, o);
}
