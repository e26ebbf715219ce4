/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-sim --compare-homes: runs each workload with the same accesses, and prints what differs.
 */
#include "sim/sim_compare.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/error.h"
#include "base/limits.h"
#include "sim/sim.h"

/* Of all vCPUs together: some hundred for each page, and half a second of computing a run. */
#define ACCESSES_TOTAL 400000u
#define PAGES	       1024u
#define EPOCHS	       16u
/* The limited cache, of the memory that a node gives. */
#define CACHE_PART 2u

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void head_print(void)
{
	printf("%-17s %5s %5s | %7s %5s | %-20s | %-14s | %-9s | %-9s | %-20s | %-20s | %-9s |"
	       " %-9s\n",
	       "", "", "", "faults", "three", "faults, % of fixed", "messages/fault", "messages",
	       "bytes", "mean wait, us", "p99 wait, us", "waiting", "time");
	printf("%-17s %5s %5s | %7s %5s | %-20s | %-14s | %-9s | %-9s | %-20s | %-20s | %-9s |"
	       " %-9s\n",
	       "workload", "nodes", "cache", "fixed", "hops%", "mov onl, homes/fault",
	       " fix  mov  onl", " mov  onl", " mov  onl", "   fix    mov    onl",
	       "   fix    mov    onl", " mov  onl", " mov  onl");
}

static double wait_us(const struct sim_result *r)
{
	return ratio((double)r->wait_total_ns, (double)r->waits) / 1e3;
}

/* Percent of what it is with homes fixed. */
#define PART(field, mode) (100 * ratio((double)(mode)->field, (double)fixed->field))

static void row_print(const struct sim_config *c, const struct sim_result r[SIM_HOMES_COUNT])
{
	const struct sim_result *fixed = &r[SIM_HOMES_FIXED], *moved = &r[SIM_HOMES_MOVED],
				*online = &r[SIM_HOMES_ONLINE];
	char cache[16] = "all";
	if (c->cache != SIM_CACHE_ALL)
		snprintf(cache, sizeof(cache), "%u", c->cache);
	printf("%-17s %5u %5s | %7" PRIu64 " %5.1f | %4.0f %4.0f  %8.3f  |",
	       sim_workloads[c->workload].word, c->nodes, cache, fixed->faults,
	       100 * ratio((double)fixed->three_hops, (double)fixed->faults), PART(faults, moved),
	       PART(faults, online), ratio((double)online->homes_moved, (double)online->faults));
	for (unsigned h = 0; h < SIM_HOMES_COUNT; h++)
		printf(" %4.2f", ratio((double)r[h].messages, (double)r[h].faults));
	printf("| %4.0f %4.0f | %4.0f %4.0f |", PART(messages, moved), PART(messages, online),
	       PART(bytes, moved), PART(bytes, online));
	for (unsigned h = 0; h < SIM_HOMES_COUNT; h++)
		printf(" %6.1f", wait_us(&r[h]));
	printf(" |");
	for (unsigned h = 0; h < SIM_HOMES_COUNT; h++)
		printf(" %6.1f", (double)r[h].wait_p99_ns / 1e3);
	printf(" | %4.0f %4.0f | %4.0f %4.0f\n", PART(wait_total_ns, moved),
	       PART(wait_total_ns, online), PART(virtual_ns, moved), PART(virtual_ns, online));
}

static void row_json(const struct sim_config *c, const struct sim_result r[SIM_HOMES_COUNT])
{
	for (unsigned h = 0; h < SIM_HOMES_COUNT; h++) {
		json_t *o = json_pack(
			"{s:s, s:i, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I}",
			"workload", sim_workloads[c->workload].word, "nodes", (int)c->nodes,
			"cache", c->cache == SIM_CACHE_ALL ? (json_int_t)-1 : (json_int_t)c->cache,
			"homes", sim_homes[h].word, "accesses", (json_int_t)r[h].accesses, "faults",
			(json_int_t)r[h].faults, "three_hops", (json_int_t)r[h].three_hops,
			"messages", (json_int_t)r[h].messages, "bytes", (json_int_t)r[h].bytes,
			"wait_mean_ns", 1e3 * wait_us(&r[h]), "wait_p99_ns",
			(json_int_t)r[h].wait_p99_ns, "virtual_ns", (json_int_t)r[h].virtual_ns,
			"homes_moved", (json_int_t)r[h].homes_moved);
		json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
		putchar('\n');
		json_decref(o);
	}
}

/* The same work three times. */
static int row_run(struct sim_config *c, bool json)
{
	struct sim_result r[SIM_HOMES_COUNT];
	const char *fault = sim_config_fault(c);
	if (fault) {
		fprintf(stderr, "pangea-sim: %s\n", fault);
		return EXIT_USAGE;
	}
	for (unsigned h = 0; h < SIM_HOMES_COUNT; h++) {
		c->homes = (enum sim_homes)h;
		int err = sim_run(c, &r[h], stderr);
		if (err) {
			fprintf(stderr, "pangea-sim: %s\n", error_text(err));
			return EXIT_ERROR;
		}
		if (r[h].checker) {
			fprintf(stderr, "FAILED: %s, %u nodes, homes %s: %s: %s\n",
				sim_workloads[c->workload].word, c->nodes, sim_homes[h].word,
				r[h].checker, r[h].sentence);
			return EXIT_ERROR;
		}
	}
	if (json)
		row_json(c, r);
	else
		row_print(c, r);
	fflush(stdout);
	return EXIT_OK;
}

static struct sim_config row_config(const struct compare_options *o, unsigned workload,
				    unsigned nodes, bool all)
{
	struct sim_config c;
	sim_config_default(&c, o->seed, nodes);
	c.workload = (enum sim_workload)workload;
	c.pages = o->pages ? o->pages : PAGES;
	if (c.pages > nodes * SIM_PAGES_A_HOME)
		c.pages = nodes * SIM_PAGES_A_HOME;
	c.vcpus = o->vcpus ? o->vcpus : c.vcpus;
	c.epochs = o->epochs ? o->epochs : EPOCHS;
	c.accesses = o->accesses ? o->accesses : ACCESSES_TOTAL / (nodes * c.vcpus);
	if (o->hold_set)
		c.hold_ns = o->hold_ns;
	c.disturbances = 0;
	c.coordinator = false;
	c.cache = SIM_CACHE_ALL;
	if (!all)
		c.cache = o->cache ? o->cache : c.pages / nodes / CACHE_PART;
	return c;
}

int compare_homes(const struct compare_options *o)
{
	static const unsigned nodes[] = {2, 4, 16, 64};
	unsigned w_first = o->workload < 0 ? 0 : (unsigned)o->workload;
	unsigned w_end = o->workload < 0 ? SIM_WORKLOAD_COUNT : w_first + 1;
	unsigned n_end = o->nodes ? 1 : sizeof(nodes) / sizeof(nodes[0]);
	int code = EXIT_OK;
	if (!o->json)
		head_print();
	/* The second time around with the limited cache. */
	for (unsigned limited = o->cache && o->cache != SIM_CACHE_ALL;
	     limited < (o->cache == SIM_CACHE_ALL ? 1 : 2) && code == EXIT_OK; limited++) {
		for (unsigned w = w_first; w < w_end && code == EXIT_OK; w++) {
			for (unsigned n = 0; n < n_end && code == EXIT_OK; n++) {
				struct sim_config c =
					row_config(o, w, o->nodes ? o->nodes : nodes[n], !limited);
				code = row_run(&c, o->json);
			}
		}
	}
	return code;
}
