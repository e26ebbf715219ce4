/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-kernels, in the guest: one parallel kernel, its time, and whether its result is right. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

static const struct kernel *const kernels[] = {&kernel_lu, &kernel_fft, &kernel_ocean, &kernel_cg,
					       &kernel_mg, &kernel_ep,	&kernel_radix, &kernel_is};
#define KERNELS (sizeof(kernels) / sizeof(kernels[0]))

static const char usage_text[] =
	"Usage: pangea-kernels KERNEL [OPTION]...\n"
	"       pangea-kernels --list [--json]\n"
	"Runs one parallel kernel: each thread fills what it will work on, then the work is timed "
	"and its\n"
	"result checked.\n"
	"  --size N       how large; --list says of what\n"
	"  --rounds N     how often, for kernels that have rounds\n"
	"  --threads N    threads (one for each CPU that this process may use)\n"
	"  --bind HOW     spread: a thread to a CPU, nodes in turn of their CPUs; none: where "
	"Linux and\n"
	"                 pangea-spread put them (spread; none with --openmp)\n"
	"  --openmp       threads and barriers of OpenMP's library, which OMP_PROC_BIND and "
	"OMP_PLACES bind\n"
	"  --reference    also solves it with one thread, and compares the checksums\n"
	"  --spoil        makes one number of the result wrong before it is checked\n"
	"  --timeout S    seconds until it ends as failed (1200)\n"
	"  --json         the result, or the list, as JSON\n"
	"  --list         the kernels\n"
	"  --help, --version\n";

struct options {
	const struct kernel *kernel;
	unsigned long size;
	unsigned rounds, timeout_s;
	struct team_setting team;
	bool reference, spoil, json, list, bind_given;
};

struct run {
	const struct kernel *kernel;
	void *problem;
	struct team *team;
	const struct place *place;
	double seconds;
	unsigned node[THREADS_MAX]; /* where each thread was at the end */
};

/* ---- options ---- */

static unsigned long number_parse(const char *option, const char *text, unsigned long min,
				  unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || text[0] < '0' || text[0] > '9' || *end || value < min || value > max) {
		fprintf(stderr, "pangea-kernels: %s must be a number from %lu to %lu, not '%s'\n",
			option, min, max, text);
		exit(2);
	}
	return value;
}

static bool bind_parse(const char *text)
{
	if (strcmp(text, "spread") != 0 && strcmp(text, "none") != 0) {
		fprintf(stderr, "pangea-kernels: --bind is spread or none, not '%s'\n", text);
		exit(2);
	}
	return strcmp(text, "spread") == 0;
}

static _Noreturn void usage_exit(void)
{
	fputs(usage_text, stderr);
	exit(2);
}

/* One option; false: that is none. */
static bool option_take(struct options *opt, int c)
{
	switch (c) {
	case 's':
		opt->size = number_parse("--size", optarg, 1, 1ul << 36);
		return true;
	case 'r':
		opt->rounds = (unsigned)number_parse("--rounds", optarg, 1, 1000000);
		return true;
	case 't':
		opt->team.threads = (unsigned)number_parse("--threads", optarg, 1, THREADS_MAX);
		return true;
	case 'b':
		opt->team.bind = bind_parse(optarg);
		opt->bind_given = true;
		return true;
	case 'T':
		opt->timeout_s = (unsigned)number_parse("--timeout", optarg, 1, 86400);
		return true;
	case 'o':
		opt->team.kind = TEAM_OPENMP;
		return true;
	case 'R':
		return opt->reference = true;
	case 'S':
		return opt->spoil = true;
	case 'j':
		return opt->json = true;
	case 'l':
		return opt->list = true;
	default:
		return false;
	}
}

static void options_parse(struct options *opt, int argc, char **argv)
{
	static const struct option longs[] = {{"size", required_argument, NULL, 's'},
					      {"rounds", required_argument, NULL, 'r'},
					      {"threads", required_argument, NULL, 't'},
					      {"bind", required_argument, NULL, 'b'},
					      {"timeout", required_argument, NULL, 'T'},
					      {"openmp", no_argument, NULL, 'o'},
					      {"reference", no_argument, NULL, 'R'},
					      {"spoil", no_argument, NULL, 'S'},
					      {"json", no_argument, NULL, 'j'},
					      {"list", no_argument, NULL, 'l'},
					      {"help", no_argument, NULL, 'H'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};

	*opt = (struct options){.timeout_s = 1200};
	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		if (c == 'H')
			exit(fputs(usage_text, stdout) < 0);
		if (c == 'V')
			exit(printf("pangea-kernels %s\n", PANGEA_VERSION) < 0);
		if (!option_take(opt, c))
			usage_exit();
	}
	if (optind + (opt->list ? 0 : 1) != argc)
		usage_exit();
	for (size_t i = 0; i < KERNELS && !opt->list; i++)
		if (strcmp(argv[optind], kernels[i]->name) == 0)
			opt->kernel = kernels[i];
	if (!opt->kernel && !opt->list) {
		fprintf(stderr, "pangea-kernels: there is no kernel '%s': see --list\n",
			argv[optind]);
		exit(2);
	}
}

/* What the kernel and this machine make of the options. */
static void options_settle(struct options *opt, const struct place *place)
{
	const struct kernel *k = opt->kernel;

	opt->size = opt->size ? opt->size : k->size_default;
	if (opt->size < k->size_min || opt->size > k->size_max ||
	    (k->size_good && !k->size_good(opt->size))) {
		fprintf(stderr, "pangea-kernels: --size of %s is %s, from %lu to %lu\n", k->name,
			k->size_what, k->size_min, k->size_max);
		exit(2);
	}
	if (opt->rounds && !k->rounds_what) {
		fprintf(stderr, "pangea-kernels: %s has no rounds\n", k->name);
		exit(2);
	}
	opt->rounds = opt->rounds ? opt->rounds : k->rounds_default;
	if (!opt->team.threads)
		opt->team.threads =
			place_cpus(place) < THREADS_MAX ? place_cpus(place) : THREADS_MAX;
	if (!opt->bind_given)
		opt->team.bind = opt->team.kind != TEAM_OPENMP;
	if (opt->team.kind == TEAM_OPENMP && !team_openmp_built()) {
		fprintf(stderr, "pangea-kernels: built without OpenMP: leave --openmp out\n");
		exit(2);
	}
}

/* ---- running ---- */

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run_work(void *arg, unsigned self)
{
	struct run *run = arg;
	double start_s;

	run->kernel->fill(run->problem, run->team, self);
	team_wait(run->team, self);
	start_s = now_s();
	run->kernel->solve(run->problem, run->team, self);
	team_wait(run->team, self);
	if (self == 0)
		run->seconds = now_s() - start_s;
	run->node[self] = place_here(run->place);
}

static void run_once(struct run *run, const struct options *opt, const struct team_setting *setting)
{
	run->kernel = opt->kernel;
	run->problem = opt->kernel->make(opt->size, opt->rounds, setting->threads);
	run->team = team_make(setting, run->place);
	team_run(run->team, run_work, run);
	team_free(run->team);
}

/* NULL: its checksum is that of one thread. */
static const char *reference_compare(const struct run *run, const struct options *opt)
{
	static struct run one; /* too large for a stack */
	struct team_setting setting = {.kind = TEAM_PTHREADS, .threads = 1};

	if (!opt->kernel->checksum)
		return NULL;
	one.place = run->place;
	run_once(&one, opt, &setting);
	return opt->kernel->checksum(one.problem) == opt->kernel->checksum(run->problem)
		       ? NULL
		       : "one thread comes to another result";
}

static unsigned nodes_count(const struct run *run, unsigned threads)
{
	bool used[NODES_MAX] = {false};
	unsigned count = 0;

	for (unsigned i = 0; i < threads; i++) {
		count += !used[run->node[i]];
		used[run->node[i]] = true;
	}
	return count;
}

/* ---- what it says ---- */

static void kernels_list(bool json)
{
	for (size_t i = 0; i < KERNELS; i++) {
		const struct kernel *k = kernels[i];

		if (json)
			printf("%s{\"name\": \"%s\", \"about\": \"%s\", \"size\": %lu, "
			       "\"size_what\": \"%s\", \"rounds\": %u}%s\n",
			       i ? " " : "[", k->name, k->about, k->size_default, k->size_what,
			       k->rounds_default, i + 1 < KERNELS ? "," : "]");
		else
			printf("%-6s %s\n       --size %lu: %s\n", k->name, k->about,
			       k->size_default, k->size_what);
		if (!json && k->rounds_what)
			printf("       --rounds %u: %s\n", k->rounds_default, k->rounds_what);
	}
}

static void report(const struct run *run, const struct options *opt, const char *why)
{
	const struct kernel *k = opt->kernel;
	const char *team = opt->team.kind == TEAM_OPENMP ? "openmp" : "pthreads";
	const char *bind = opt->team.bind ? "spread" : "none";
	unsigned nodes = nodes_count(run, opt->team.threads);
	char sum[20] = "none";

	if (k->checksum)
		snprintf(sum, sizeof(sum), "%016llx",
			 (unsigned long long)k->checksum(run->problem));
	if (opt->json)
		printf("{\"kernel\": \"%s\", \"size\": %lu, \"rounds\": %u, \"threads\": %u, "
		       "\"nodes\": %u, \"team\": \"%s\", \"bind\": \"%s\", \"seconds\": %.6f, "
		       "\"checksum\": \"%s\", \"wrong\": \"%s\"}\n",
		       k->name, opt->size, opt->rounds, opt->team.threads, nodes, team, bind,
		       run->seconds, sum, why ? why : "");
	else
		printf("%s %lu: %.3f s, %u threads (%s, bind %s) on %u nodes, checksum %s, %s%s\n",
		       k->name, opt->size, run->seconds, opt->team.threads, team, bind, nodes, sum,
		       why ? "WRONG: " : "right", why ? why : "");
}

/* SIGALRM: some thread waits for what will never come. Only write(2) is safe here. */
static void timeout_handle(int signo)
{
	static const char text[] = "pangea-kernels: no end within the time limit (--timeout)\n";
	ssize_t done = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)signo;
	_exit(done < 0 ? 2 : 1);
}

int main(int argc, char **argv)
{
	static struct run run; /* too large for a stack */
	struct sigaction on_alarm = {.sa_handler = timeout_handle};
	struct options opt;
	struct place *place;
	const char *why;

	options_parse(&opt, argc, argv);
	if (opt.list) {
		kernels_list(opt.json);
		return 0;
	}
	place = place_read();
	options_settle(&opt, place);
	sigaction(SIGALRM, &on_alarm, NULL);
	alarm(opt.timeout_s);
	run.place = place;
	run_once(&run, &opt, &opt.team);
	if (opt.spoil)
		opt.kernel->spoil(run.problem);
	why = opt.kernel->check(run.problem);
	if (!why && opt.reference)
		why = reference_compare(&run, &opt);
	report(&run, &opt, why);
	free(place);
	return why || fflush(stdout) ? 1 : 0;
}
