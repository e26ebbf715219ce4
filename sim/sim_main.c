/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-sim: its options, what it prints, and fresh seeds for a given time. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "control/control.h"
#include "sim/sim.h"
#include "sim/sim_compare.h"

static const char help[] =
	"usage: pangea-sim [OPTION]...\n"
	"Simulates a VM from a seed: the real coherence protocol and coordinator on a virtual "
	"clock\n"
	"and network. The same options give the same run; checkers look at every step of it.\n"
	"  --seed N            1\n"
	"  --nodes K           2 to 1024 (8)\n"
	"  --vcpus V           a node, 1 to 8 (2; 1 above 64 nodes)\n"
	"  --pages P           (2048)\n"
	"  --events M          then the vCPUs stop (200000)\n"
	"  --accesses A        instead: each vCPU makes so many\n"
	"  --epochs E          of the run; each ends at rest, 1 to 64 (4)\n"
	"  --homes H           where the guest's pages lie: fixed, moved or online (fixed)\n"
	"  --cache N           pages of other homes that a node keeps, or all (all, with "
	"evictions\n"
	"                      at random)\n"
	"  --compare-homes     a table: homes fixed, moved and online, for each workload (or\n"
	"                      --workload), 2, 4, 16 and 64 nodes (or --nodes), two caches (or "
	"--cache)\n"
	"  --workload W        --list shows them (uniform)\n"
	"  --disturb D[,D]...  what goes wrong, or none (bursts,slow,partitions)\n"
	"  --hold-ns N         the protocol's hold time (20000)\n"
	"  --group G           slices a bit of the sharers (as few as fit)\n"
	"  --no-coordinator    slices without a VM around them\n"
	"  --fault F           puts a fault in, to see that it is caught\n"
	"  --trace FILE        a line for each event\n"
	"  --last N            events printed when a checker fails (60)\n"
	"  --fresh SECONDS     runs of seeds never used before, for that long\n"
	"  --json              prints a JSON object\n"
	"  --list              workloads, disturbances, homes and faults\n"
	"  --help, --version\n"
	"Exit status: 0 all checks held; 1 one failed, or an error; 2 wrong usage\n";

/* More nodes than these have the smallest and the largest share printed only. */
#define SHARES_PRINTED 64u

struct options {
	struct sim_config config;
	uint64_t seed, events, accesses, hold_ns;
	unsigned nodes, vcpus, pages, epochs, fresh_s;
	bool events_set, hold_set, disturb_set, nodes_set, workload_set, json, list, compare;
	const char *trace;
};

static int usage(const char *what, const char *value)
{
	fprintf(stderr, "pangea-sim: %s: %s\npangea-sim --help says more\n", what, value);
	return -EINVAL;
}

static int number_parse(const char *text, uint64_t *out)
{
	char *end;
	errno = 0;
	*out = strtoull(text, &end, 10);
	/* JSON's integers end there. */
	bool fits = !errno && *out <= INT64_MAX;
	return *text < '0' || *text > '9' || *end || !fits ? -EINVAL : 0;
}

static int word_find(const struct sim_word *words, unsigned count, const char *word, size_t len)
{
	for (unsigned i = 0; i < count; i++) {
		if (strlen(words[i].word) == len && memcmp(words[i].word, word, len) == 0)
			return (int)i;
	}
	return -1;
}

static int disturb_parse(const char *text, unsigned *out)
{
	*out = 0;
	if (strcmp(text, "none") == 0)
		return 0;
	for (;;) {
		size_t len = strcspn(text, ",");
		int bit = word_find(sim_disturbances, SIM_DISTURBANCE_COUNT, text, len);
		if (bit < 0)
			return usage("no such disturbance", text);
		*out |= 1u << bit;
		if (!text[len])
			return 0;
		text += len + 1;
	}
}

static const struct option long_options[] = {
	{"seed", required_argument, NULL, 's'},	    {"nodes", required_argument, NULL, 'n'},
	{"vcpus", required_argument, NULL, 'v'},    {"pages", required_argument, NULL, 'p'},
	{"events", required_argument, NULL, 'e'},   {"accesses", required_argument, NULL, 'a'},
	{"epochs", required_argument, NULL, 'E'},   {"homes", required_argument, NULL, 'o'},
	{"cache", required_argument, NULL, 'c'},    {"compare-homes", no_argument, NULL, 'x'},
	{"workload", required_argument, NULL, 'w'}, {"disturb", required_argument, NULL, 'd'},
	{"hold-ns", required_argument, NULL, 'H'},  {"group", required_argument, NULL, 'g'},
	{"no-coordinator", no_argument, NULL, 'C'}, {"fault", required_argument, NULL, 'f'},
	{"trace", required_argument, NULL, 't'},    {"last", required_argument, NULL, 'l'},
	{"fresh", required_argument, NULL, 'F'},    {"json", no_argument, NULL, 'j'},
	{"list", no_argument, NULL, 'L'},	    {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},	    {NULL, 0, NULL, 0},
};

/* Options that are a number; true if it was one of them. */
static bool number_option(struct options *o, int c, int *err)
{
	switch (c) {
	case 's':
		*err = number_parse(optarg, &o->seed);
		return true;
	case 'e':
		*err = number_parse(optarg, &o->events);
		o->events_set = true;
		return true;
	case 'H':
		*err = number_parse(optarg, &o->hold_ns);
		*err = *err || o->hold_ns > NS_PER_S ? -EINVAL : 0;
		o->hold_set = true;
		return true;
	case 'a':
		*err = number_parse(optarg, &o->accesses);
		*err = *err || !o->accesses || o->accesses > UINT32_MAX ? -EINVAL : 0;
		return true;
	case 'E':
		*err = control_uint_parse(optarg, 1, SIM_EPOCHS_MAX, &o->epochs);
		return true;
	case 'n':
		o->nodes_set = true;
		*err = control_uint_parse(optarg, 2, SIM_NODES_MAX, &o->nodes);
		return true;
	case 'v':
		*err = control_uint_parse(optarg, 1, SIM_VCPUS_MAX, &o->vcpus);
		return true;
	case 'p':
		*err = control_uint_parse(optarg, 1, SIM_PAGES_MAX, &o->pages);
		return true;
	case 'g':
		*err = control_uint_parse(optarg, 1, SIM_NODES_MAX, &o->config.group);
		return true;
	case 'l':
		*err = control_uint_parse(optarg, 1, 1000000, &o->config.last);
		return true;
	case 'F':
		*err = control_uint_parse(optarg, 1, 86400, &o->fresh_s);
		return true;
	default:
		return false;
	}
}

static int cache_parse(struct options *o, const char *text)
{
	unsigned pages = SIM_CACHE_ALL;
	if (strcmp(text, "all") != 0 && control_uint_parse(text, 1, SIM_PAGES_MAX, &pages) < 0)
		return usage("neither a number of pages that can be nor all", text);
	o->config.cache = pages;
	return 0;
}

static int word_option(struct options *o, int c)
{
	int at;
	switch (c) {
	case 'o':
		at = word_find(sim_homes, SIM_HOMES_COUNT, optarg, strlen(optarg));
		o->config.homes = (enum sim_homes)at;
		return at < 0 ? usage("no such homes", optarg) : 0;
	case 'c':
		return cache_parse(o, optarg);
	case 'x':
		o->compare = true;
		return 0;
	case 'w':
		o->workload_set = true;
		at = word_find(sim_workloads, SIM_WORKLOAD_COUNT, optarg, strlen(optarg));
		o->config.workload = (enum sim_workload)at;
		return at < 0 ? usage("no such workload", optarg) : 0;
	case 'f':
		at = word_find(sim_faults, SIM_FAULT_COUNT, optarg, strlen(optarg));
		o->config.fault = (enum sim_fault)at;
		return at < 0 ? usage("no such fault", optarg) : 0;
	case 'd':
		o->disturb_set = true;
		return disturb_parse(optarg, &o->config.disturbances);
	case 'C':
		o->config.coordinator = false;
		return 0;
	case 't':
		o->trace = optarg;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case 'L':
		o->list = true;
		return 0;
	default:
		return -EINVAL;
	}
}

/* Returns 0, 1 if all is said (help), or -EINVAL. */
static int options_parse(struct options *o, int argc, char **argv)
{
	*o = (struct options){.seed = 1, .nodes = 8};
	o->config.coordinator = true;
	o->config.last = 60;
	for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		int err = 0;
		if (c == 'h' || c == 'V') {
			fputs(c == 'h' ? help : "pangea-sim " PANGEA_VERSION "\n", stdout);
			return 1;
		}
		if (number_option(o, c, &err)) {
			if (err)
				return usage("not a number that can be", optarg);
			continue;
		}
		err = word_option(o, c);
		if (err)
			return err;
	}
	return optind < argc ? usage("no such argument", argv[optind]) : 0;
}

static void config_finish(struct options *o)
{
	struct sim_config given = o->config, *c = &o->config;
	sim_config_default(c, o->seed, o->nodes);
	c->workload = given.workload;
	c->fault = given.fault;
	c->group = given.group;
	c->homes = given.homes;
	c->cache = given.cache;
	c->last = given.last;
	c->coordinator = c->coordinator && given.coordinator;
	if (o->disturb_set)
		c->disturbances = given.disturbances;
	if (o->vcpus)
		c->vcpus = o->vcpus;
	if (o->pages)
		c->pages = o->pages;
	if (o->events_set)
		c->events = o->events;
	c->accesses = o->accesses;
	if (o->epochs)
		c->epochs = o->epochs;
	if (o->hold_set)
		c->hold_ns = o->hold_ns;
}

static void disturbances_print(FILE *out, unsigned set)
{
	const char *comma = "";
	for (unsigned i = 0; i < SIM_DISTURBANCE_COUNT; i++) {
		if (!(set & 1u << i))
			continue;
		fprintf(out, "%s%s", comma, sim_disturbances[i].word);
		comma = ",";
	}
	if (!set)
		fputs("none", out);
}

/* The command that repeats the run. */
static void command_print(FILE *out, const struct sim_config *c)
{
	fprintf(out,
		"pangea-sim --seed %" PRIu64 " --nodes %u --vcpus %u --pages %u --events %" PRIu64
		" --workload %s --hold-ns %" PRIu64 " --disturb ",
		c->seed, c->nodes, c->vcpus, c->pages, c->events, sim_workloads[c->workload].word,
		c->hold_ns);
	disturbances_print(out, c->disturbances);
	if (c->accesses)
		fprintf(out, " --accesses %" PRIu64, c->accesses);
	fprintf(out, " --epochs %u --homes %s", c->epochs, sim_homes[c->homes].word);
	if (c->cache == SIM_CACHE_ALL)
		fputs(" --cache all", out);
	else if (c->cache)
		fprintf(out, " --cache %u", c->cache);
	if (c->group)
		fprintf(out, " --group %u", c->group);
	if (c->fault)
		fprintf(out, " --fault %s", sim_faults[c->fault].word);
	if (!c->coordinator && c->nodes <= SLICES_MAX)
		fputs(" --no-coordinator", out);
	fputc('\n', out);
}

static double ratio(uint64_t a, uint64_t b)
{
	return b ? (double)a / (double)b : 0;
}

static void shares_print(const struct sim_config *c, const struct sim_result *r)
{
	uint64_t sum = 0;
	double least, most;
	sim_shares(c, r, &least, &most);
	printf("  shares     of the accesses, in percent of a fair one: %.1f to %.1f", least, most);
	bool each = c->nodes <= SHARES_PRINTED &&
		    (c->workload == SIM_HOT_PAGE || c->workload == SIM_FALSE_SHARING);
	for (unsigned n = 0; n < c->nodes; n++)
		sum += r->node_accesses[n];
	for (unsigned n = 0; n < c->nodes && each; n++)
		printf("%s%.1f", n ? " " : "; by node ",
		       100 * ratio(r->node_accesses[n] * c->nodes, sum));
	printf("\n");
}

static void result_print(const struct sim_config *c, const struct sim_result *r)
{
	command_print(stdout, c);
	printf("  events     %" PRIu64 " in %.3f virtual ms, hash %016" PRIx64 "\n", r->events,
	       (double)r->virtual_ns / 1e6, r->hash);
	printf("  accesses   %" PRIu64 ": %" PRIu64 " reads compared, %" PRIu64 " writes; %" PRIu64
	       " times at rest compared\n",
	       r->accesses, r->reads_checked, r->writes, r->rests);
	shares_print(c, r);
	printf("  faults     %" PRIu64
	       ", %.2f messages each, %.1f %% by three hops; %.1f us each on"
	       " average, 99 %% within %.1f, %.3f ms at most (limit %.0f)\n",
	       r->faults, ratio(r->messages, r->faults), 100 * ratio(r->three_hops, r->faults),
	       ratio(r->wait_total_ns, r->waits) / 1e3, (double)r->wait_p99_ns / 1e3,
	       (double)r->wait_max_ns / 1e6, (double)r->wait_limit_ns / 1e6);
	printf("  messages   %" PRIu64 ", %" PRIu64 " bytes: %" PRIu64 " with a page, %" PRIu64
	       " INVs; %" PRIu64 " put off by a hold time; %" PRIu64 " evictions\n",
	       r->messages, r->bytes, r->messages_page, r->invalidations, r->deferred,
	       r->evictions);
	if (c->homes != SIM_HOMES_FIXED)
		printf("  homes      moved %" PRIu64 " times\n", r->homes_moved);
	if (r->cache_max)
		printf("  cache      %u pages of other homes at most\n", r->cache_max);
	printf("  queues     %u requests at most and %.2f on average at one home; %u messages on"
	       " one link\n",
	       r->queue_max, ratio(r->queue_sum, r->queue_samples), r->link_max);
	printf("  directory  %" PRIu64 " pages in use, %" PRIu64 " bytes, queues %" PRIu64
	       " bytes; %u slices a bit; all state %.1f KiB a node\n",
	       r->pages_touched, r->directory_bytes, r->queue_bytes, r->group,
	       ratio(r->resident_bytes, c->nodes) / 1024);
	printf("  disturbed ");
	for (unsigned i = 0; i < SIM_DISTURBANCE_COUNT; i++)
		printf(" %s %" PRIu64, sim_disturbances[i].word, r->disturbed[i]);
	printf("\n");
	if (r->vm_code >= 0)
		printf("  VM         %" PRIu64 " control messages; ended with code %d (%s)\n",
		       r->control_messages, r->vm_code, exit_text(r->vm_code));
	if (r->vm_end_max_ns)
		printf("  loss       the VM had ended %.3f s later; %" PRIu64 " messages dropped,"
		       " %" PRIu64 " reads on slices that knew\n",
		       (double)r->vm_end_max_ns / 1e9, r->dropped, r->reads_frozen);
}

static void result_json(const struct sim_config *c, const struct sim_result *r)
{
	json_t *o = json_pack(
		"{s:I, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:i, s:I, s:I, s:I}",
		"seed", (json_int_t)c->seed, "nodes", (int)c->nodes, "workload",
		sim_workloads[c->workload].word, "events", (json_int_t)r->events, "virtual_ns",
		(json_int_t)r->virtual_ns, "accesses", (json_int_t)r->accesses, "reads_checked",
		(json_int_t)r->reads_checked, "faults", (json_int_t)r->faults, "messages",
		(json_int_t)r->messages, "invalidations", (json_int_t)r->invalidations,
		"messages_per_fault", ratio(r->messages, r->faults), "wait_max_ns",
		(json_int_t)r->wait_max_ns, "queue_max", (int)r->queue_max, "directory_bytes",
		(json_int_t)r->directory_bytes, "resident_bytes", (json_int_t)r->resident_bytes,
		"control_messages", (json_int_t)r->control_messages);
	double least, most;
	sim_shares(c, r, &least, &most);
	json_object_set_new(o, "homes", json_string(sim_homes[c->homes].word));
	json_object_set_new(o, "homes_moved", json_integer((json_int_t)r->homes_moved));
	json_object_set_new(o, "three_hops", json_integer((json_int_t)r->three_hops));
	json_object_set_new(o, "bytes", json_integer((json_int_t)r->bytes));
	json_object_set_new(o, "wait_mean_ns", json_real(ratio(r->wait_total_ns, r->waits)));
	json_object_set_new(o, "wait_p99_ns", json_integer((json_int_t)r->wait_p99_ns));
	json_object_set_new(o, "share_least_percent", json_real(least));
	json_object_set_new(o, "share_most_percent", json_real(most));
	char hash[17];
	snprintf(hash, sizeof(hash), "%016" PRIx64, r->hash);
	json_object_set_new(o, "hash", json_string(hash));
	json_object_set_new(o, "vm_code", r->vm_code < 0 ? json_null() : json_integer(r->vm_code));
	json_object_set_new(o, "failed", r->checker ? json_string(r->checker) : json_null());
	if (r->checker)
		json_object_set_new(o, "sentence", json_string(r->sentence));
	json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	fputc('\n', stdout);
	json_decref(o);
}

static int run(const struct options *o)
{
	struct sim_result result;
	int err = sim_run(&o->config, &result, stderr);
	if (err) {
		fprintf(stderr, "pangea-sim: %s\n", error_text(err));
		return EXIT_ERROR;
	}
	if (o->json)
		result_json(&o->config, &result);
	else
		result_print(&o->config, &result);
	fflush(stdout);
	if (!result.checker)
		return EXIT_OK;
	fprintf(stderr, "FAILED: %s: %s\nrepeat: ", result.checker, result.sentence);
	command_print(stderr, &o->config);
	return EXIT_ERROR;
}

/* Anything that a run can be, by its seed; a third of the machines end by a loss. */
static void config_fresh(struct sim_config *c, uint64_t seed)
{
	static const unsigned nodes[] = {2, 3, 4, 8, 16, 32, 64};
	static const unsigned pages[] = {1, 16, 256, 2048, 8192};
	uint64_t r = seed * UINT64_C(0xd1342543de82ef95);
	sim_config_default(c, seed, nodes[(r >> 8) % 7]);
	c->vcpus = 1 + (r >> 16) % 4;
	c->pages = pages[(r >> 24) % 5];
	if (c->pages > c->nodes * SIM_PAGES_A_HOME)
		c->pages = c->nodes * SIM_PAGES_A_HOME;
	c->workload = (r >> 32) % SIM_WORKLOAD_COUNT;
	c->events = 60000;
	c->disturbances = (r >> 40) % 8;
	if ((r >> 48) % 3 == 0)
		c->disturbances |= 1u << (SIM_BIT_CRASH + (r >> 52) % 2);
	c->hold_ns = (r >> 56) % 4 ? c->hold_ns : 0;
	/* Groups of neighbours are for more than 64 nodes, and can be tried with fewer. */
	c->group = (r >> 60) % 4 ? 0 : 1 + (c->nodes - 1) / 2;
	uint64_t r2 = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
	c->homes = (r2 >> 40) % 4 ? SIM_HOMES_FIXED : SIM_HOMES_MOVED + (r2 >> 48) % 2;
	c->epochs = (r2 >> 52) % 2 ? 4 : 8;
	c->cache = (r2 >> 56) % 3 ? 0 : 2 * c->vcpus + (r2 >> 58) % 64;
}

static int run_fresh(struct options *o)
{
	uint64_t seed, end_ns = clock_now_ns() + o->fresh_s * NS_PER_S;
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = clock_now_ns();
	seed >>= 24; /* short enough to be typed */
	int code = EXIT_OK;
	do {
		config_fresh(&o->config, seed++);
		o->config.last = 60;
		code = run(o);
	} while (code == EXIT_OK && clock_now_ns() < end_ns);
	return code;
}

static void words_print(const char *what, const struct sim_word *words, unsigned count)
{
	printf("%s\n", what);
	for (unsigned i = 0; i < count; i++)
		printf("  %-18s %s\n", words[i].word, words[i].text);
}

static void words_json(json_t *o, const char *key, const struct sim_word *words, unsigned count)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_string(words[i].word));
	json_object_set_new(o, key, list);
}

static int list(bool json)
{
	if (!json) {
		words_print("workloads", sim_workloads, SIM_WORKLOAD_COUNT);
		words_print("disturbances", sim_disturbances, SIM_DISTURBANCE_COUNT);
		words_print("homes", sim_homes, SIM_HOMES_COUNT);
		words_print("faults, and what catches them", sim_faults + 1, SIM_FAULT_COUNT - 1);
		return EXIT_OK;
	}
	json_t *o = json_object();
	words_json(o, "workloads", sim_workloads, SIM_WORKLOAD_COUNT);
	words_json(o, "disturbances", sim_disturbances, SIM_DISTURBANCE_COUNT);
	words_json(o, "homes", sim_homes, SIM_HOMES_COUNT);
	words_json(o, "faults", sim_faults, SIM_FAULT_COUNT);
	json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	fputc('\n', stdout);
	json_decref(o);
	return EXIT_OK;
}

static int run_one(struct options *o)
{
	if (o->trace) {
		o->config.trace = fopen(o->trace, "w");
		if (!o->config.trace) {
			fprintf(stderr, "pangea-sim: cannot write %s: %s\n", o->trace,
				error_text(-errno));
			return EXIT_ERROR;
		}
	}
	int code = run(o);
	if (o->config.trace && fclose(o->config.trace) != 0 && code == EXIT_OK) {
		fprintf(stderr, "pangea-sim: cannot write %s\n", o->trace);
		code = EXIT_ERROR;
	}
	return code;
}

static int run_compare(const struct options *o)
{
	struct compare_options compare = {
		.seed = o->seed,
		.nodes = o->nodes_set ? o->nodes : 0,
		.vcpus = o->vcpus,
		.pages = o->pages,
		.epochs = o->epochs,
		.workload = o->workload_set ? (int)o->config.workload : -1,
		.cache = o->config.cache,
		.accesses = o->accesses,
		.hold_ns = o->hold_ns,
		.hold_set = o->hold_set,
		.json = o->json,
	};
	return compare_homes(&compare);
}

int main(int argc, char **argv)
{
	struct options o;
	int err = options_parse(&o, argc, argv);
	if (err)
		return err > 0 ? EXIT_OK : EXIT_USAGE;
	if (o.list)
		return list(o.json);
	log_init("pangea-sim", LOG_WARN);
	if (o.fresh_s)
		return run_fresh(&o);
	config_finish(&o);
	if (o.compare)
		return run_compare(&o);
	const char *fault = sim_config_fault(&o.config);
	if (fault) {
		fprintf(stderr, "pangea-sim: %s\n", fault);
		return EXIT_USAGE;
	}
	return run_one(&o);
}
