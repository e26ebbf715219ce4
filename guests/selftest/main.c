/* SPDX-License-Identifier: Apache-2.0 */
/* The guest self-test: a parallel program whose threads share memory over all nodes. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "selftest.h"

/* What --help says, and the sizes of the two settings. */
static const struct options options_full = {
	.sort_mib = 64, .rounds = 1000, .hash_mib = 16, .pages = 64, .timeout_s = 1200, .seed = 1};
static const struct options options_quick = {
	.sort_mib = 8, .rounds = 200, .hash_mib = 2, .pages = 16, .timeout_s = 600, .seed = 1};

static const char usage_text[] =
	"usage: selftest [--quick] [OPTION N]...\n"
	"Runs the self-test on every CPU this process may use; ends in SELFTEST PASS or FAIL.\n"
	"  --quick       small sizes; sizes given after it still count\n"
	"  --sort-mib N  integers to sort together (64)\n"
	"  --rounds N    rounds of the token (1000)\n"
	"  --hash-mib N  buffer that every CPU hashes (16)\n"
	"  --pages N     pages for each pair of nodes in the NUMA test (64)\n"
	"  --cpus N      fail unless there are so many CPUs\n"
	"  --nodes N     fail unless there are so many NUMA nodes with memory\n"
	"  --timeout N   seconds after which the test has failed (1200)\n"
	"  --seed N      of the random keys (1)\n";

/* Reads a number from 1 to max; ends the program with a sentence otherwise. */
static unsigned number_parse(const char *text, unsigned max)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || end == text || *end || value < 1 || value > max) {
		fprintf(stderr, "selftest: '%s' is not a number from 1 to %u\n", text, max);
		exit(2);
	}
	return (unsigned)value;
}

static void options_parse(struct options *opt, int argc, char **argv)
{
	static const struct option longs[] = {{"quick", no_argument, NULL, 'q'},
					      {"sort-mib", required_argument, NULL, 's'},
					      {"rounds", required_argument, NULL, 'r'},
					      {"hash-mib", required_argument, NULL, 'h'},
					      {"pages", required_argument, NULL, 'p'},
					      {"cpus", required_argument, NULL, 'c'},
					      {"nodes", required_argument, NULL, 'n'},
					      {"timeout", required_argument, NULL, 't'},
					      {"seed", required_argument, NULL, 'e'},
					      {"help", no_argument, NULL, 'H'},
					      {NULL, 0, NULL, 0}};
	*opt = options_full;
	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (c) {
		case 'q':
			*opt = options_quick;
			break;
		case 's':
			opt->sort_mib = number_parse(optarg, 4096);
			break;
		case 'r':
			opt->rounds = number_parse(optarg, 1000000);
			break;
		case 'h':
			opt->hash_mib = number_parse(optarg, 4096);
			break;
		case 'p':
			opt->pages = number_parse(optarg, 4096);
			break;
		case 'c':
			opt->want_cpus = number_parse(optarg, CPUS_MAX);
			break;
		case 'n':
			opt->want_nodes = number_parse(optarg, NODES_MAX);
			break;
		case 't':
			opt->timeout_s = number_parse(optarg, 86400);
			break;
		case 'e':
			opt->seed = number_parse(optarg, UINT32_MAX);
			break;
		case 'H':
			fputs(usage_text, stdout);
			exit(0);
		default:
			fputs(usage_text, stderr);
			exit(2);
		}
	}
}

static const char *shape_check(const struct topology *topo, const struct options *opt)
{
	static char why[96];
	if (opt->want_cpus && topo->cpus != opt->want_cpus)
		snprintf(why, sizeof(why), "%u CPUs where %u belong", topo->cpus, opt->want_cpus);
	else if (opt->want_nodes && topo->nodes != opt->want_nodes)
		snprintf(why, sizeof(why), "%u NUMA nodes where %u belong", topo->nodes,
			 opt->want_nodes);
	else
		return NULL;
	return why;
}

static const char *tests_run(struct team *team, const struct options *opt)
{
	const char *(*const tests[])(struct team *, const struct options *) = {
		sort_test, token_test, hash_test, ratio_test};
	const char *why = shape_check(team->topo, opt);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]) && !why; i++) {
		why = tests[i](team, opt);
		fflush(stdout);
	}
	return why;
}

/* SIGALRM: some thread waits for what will never come. Only write(2) is safe here. */
static void timeout_handle(int signo)
{
	static const char text[] = "\nSELFTEST FAIL: no end within the time limit\n";
	(void)signo;
	ssize_t done = write(STDOUT_FILENO, text, sizeof(text) - 1);
	_exit(done < 0 ? 2 : 1);
}

int main(int argc, char **argv)
{
	struct options opt;
	struct topology topo;
	options_parse(&opt, argc, argv);
	int err = topology_read(&topo);
	if (err < 0) {
		printf("SELFTEST FAIL: cannot read the CPUs: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	struct sigaction on_alarm = {.sa_handler = timeout_handle};
	sigaction(SIGALRM, &on_alarm, NULL);
	alarm(opt.timeout_s);
	printf("self-test: %u CPUs, %u NUMA nodes, seed %llu\n", topo.cpus, topo.nodes,
	       (unsigned long long)opt.seed);
	struct team team = {.topo = &topo, .size = topo.cpus};
	const char *why = tests_run(&team, &opt);
	if (why)
		printf("SELFTEST FAIL: %s\n", why);
	else
		printf("SELFTEST PASS\n");
	fflush(stdout);
	tcdrain(STDOUT_FILENO); /* the machine may power off at once; a serial line is slow */
	return why ? EXIT_FAILURE : EXIT_SUCCESS;
}
