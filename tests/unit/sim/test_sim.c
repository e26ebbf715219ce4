/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator: every workload, losses, groups, homes that move, shares, faults; one seed twice.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "sim/sim_parts.h"

#define EVENTS 30000

static struct sim_config small(uint64_t seed, unsigned nodes)
{
	struct sim_config config;
	sim_config_default(&config, seed, nodes);
	config.pages = 48;
	config.events = EVENTS;
	return config;
}

static struct sim_result run(const struct sim_config *config)
{
	struct sim_result result;
	cr_assert_null(sim_config_fault(config));
	cr_assert_eq(sim_run(config, &result, NULL), 0);
	return result;
}

static struct sim_result run_good(const struct sim_config *config)
{
	struct sim_result result = run(config);
	cr_assert_null(result.checker, "seed %llu, %s: %s: %s", (unsigned long long)config->seed,
		       sim_workloads[config->workload].word, result.checker, result.sentence);
	return result;
}

Test(sim, every_workload_stays_coherent_and_comes_to_rest)
{
	for (unsigned w = 0; w < SIM_WORKLOAD_COUNT; w++) {
		struct sim_config config = small(100 + w, 2 + w);
		config.workload = w;
		struct sim_result result = run_good(&config);
		cr_assert_geq(result.events, EVENTS);
		cr_assert_eq(result.rests, 4);
		cr_assert_gt(result.reads_checked, 1000);
		cr_assert_gt(result.evictions, 0);
		cr_assert_eq(result.vm_code, EXIT_STOPPED);
		cr_assert_gt(result.wait_max_ns, 0);
	}
}

Test(sim, the_same_seed_is_the_same_run)
{
	struct sim_config config = small(7, 5);
	struct sim_result a = run_good(&config), b = run_good(&config);
	cr_assert_eq(memcmp(&a, &b, sizeof(a)), 0);
	config.seed = 8;
	cr_assert_neq(run_good(&config).hash, a.hash);
}

Test(sim, a_vm_ends_when_a_slice_is_lost)
{
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct sim_config config = small(seed, 2 + (unsigned)seed % 5);
		config.disturbances |= 1u << (seed % 3 ? SIM_BIT_CRASH : SIM_BIT_CUT);
		struct sim_result result = run_good(&config);
		cr_assert_eq(result.vm_code, EXIT_NODE_LOST);
		cr_assert_gt(result.vm_end_max_ns, 0);
	}
}

Test(sim, groups_of_sharers_are_coherent)
{
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct sim_config config = small(seed, 9);
		config.group = 1 + (unsigned)seed % 5;
		config.workload = seed % 2 ? SIM_UNIFORM : SIM_PAGE_TABLE;
		cr_assert_eq(run_good(&config).group, config.group);
	}
	struct sim_config many = small(1, 130);
	struct sim_result result = run_good(&many);
	cr_assert_eq(result.group, 3);
	cr_assert_eq(result.vm_code, -1);
}

Test(sim, homes_that_move_stay_coherent)
{
	for (unsigned w = 0; w < SIM_WORKLOAD_COUNT; w++) {
		struct sim_config config = small(200 + w, 2 + w % 6);
		config.workload = w;
		config.epochs = 8;
		for (unsigned h = SIM_HOMES_MOVED; h < SIM_HOMES_COUNT; h++) {
			config.homes = h;
			/* Half of the runs give copies back all the time. */
			config.cache = w % 2 ? 0 : 2 * config.vcpus;
			struct sim_result result = run_good(&config);
			cr_assert_eq(result.rests, 8);
			cr_assert(h != SIM_HOMES_MOVED || result.homes_moved);
		}
	}
}

Test(sim, homes_move_in_groups_and_before_a_loss)
{
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct sim_config config = small(seed, 9);
		config.homes = seed % 2 ? SIM_HOMES_MOVED : SIM_HOMES_ONLINE;
		config.workload = SIM_AFFINE;
		config.epochs = 12;
		config.group = 1 + (unsigned)seed % 5;
		cr_assert_gt(run_good(&config).homes_moved, 0);
		config.disturbances |= 1u << (seed % 2 ? SIM_BIT_CRASH : SIM_BIT_CUT);
		cr_assert_eq(run_good(&config).vm_code, EXIT_NODE_LOST);
	}
	struct sim_config many = small(1, 130);
	many.homes = SIM_HOMES_MOVED;
	cr_assert_gt(run_good(&many).homes_moved, 0);
}

/* What is the same work, with every page at its home's neighbour's beck. */
static struct sim_config affine(unsigned nodes, enum sim_homes homes)
{
	struct sim_config config = small(9, nodes);
	config.workload = SIM_AFFINE;
	config.homes = homes;
	config.accesses = 12000 / nodes;
	config.epochs = 8;
	config.cache = SIM_CACHE_ALL;
	config.disturbances = 0;
	return config;
}

Test(sim, moved_homes_do_the_same_work_with_fewer_messages)
{
	for (unsigned nodes = 4; nodes <= 8; nodes += 4) {
		struct sim_config config = affine(nodes, SIM_HOMES_FIXED);
		struct sim_result fixed = run_good(&config);
		config = affine(nodes, SIM_HOMES_MOVED);
		struct sim_result moved = run_good(&config);
		cr_assert_eq(fixed.accesses, nodes * config.vcpus * config.accesses);
		cr_assert_eq(moved.accesses, fixed.accesses);
		cr_assert_eq(fixed.homes_moved, 0);
		cr_assert_lt(10 * moved.messages, 8 * fixed.messages);
		cr_assert_lt(2 * moved.three_hops, fixed.three_hops);
		struct sim_result again = run_good(&config);
		cr_assert_eq(memcmp(&moved, &again, sizeof(moved)), 0);
		config = affine(nodes, SIM_HOMES_ONLINE);
		struct sim_result online = run_good(&config);
		again = run_good(&config);
		cr_assert_eq(memcmp(&online, &again, sizeof(online)), 0);
		cr_assert_eq(online.accesses, fixed.accesses);
	}
}

/* Every page has one place, and every node as many pages as before. */
static void assert_permutation(const uint32_t *slot_of, unsigned pages)
{
	bool *taken = calloc(pages, sizeof(taken[0]));
	for (unsigned page = 0; page < pages; page++) {
		cr_assert_lt(slot_of[page], pages);
		cr_assert(!taken[slot_of[page]], "two pages in place %u", slot_of[page]);
		taken[slot_of[page]] = true;
	}
	free(taken);
}

Test(sim, pages_are_exchanged_among_homes)
{
	enum {
		PAGES = 101,
		NODES = 7
	};
	static uint32_t misses[PAGES * NODES], from[PAGES], to[PAGES];
	struct sim_random random = {4711};
	for (unsigned page = 0; page < PAGES; page++)
		from[page] = page;
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < PAGES * NODES; i++)
			misses[i] = (uint32_t)random_below(&random, 1 + round % 5);
		homes_assign(PAGES, NODES, misses, from, round % 2, to);
		assert_permutation(to, PAGES);
		memcpy(from, to, sizeof(from));
	}
	/* Nobody missed anything: nothing moves. */
	memset(misses, 0, sizeof(misses));
	homes_assign(PAGES, NODES, misses, from, false, to);
	cr_assert_arr_eq(from, to, sizeof(from));
	/* As many favourites of each as it has room for: each gets all of its own. */
	for (unsigned page = 0; page < PAGES; page++)
		misses[page * NODES + (page + 3) % NODES] = page < 98 ? 10 : 0;
	homes_assign(PAGES, NODES, misses, from, true, to);
	assert_permutation(to, PAGES);
	for (unsigned page = 0; page < 98; page++)
		cr_assert_eq(to[page] % NODES, (page + 3) % NODES);
}

Test(sim, what_is_missed_most_moves_first_and_little_is_not_worth_a_move)
{
	/* Two nodes, two places each; three pages are wanted at node 1. */
	static const uint32_t identity[4] = {0, 1, 2, 3};
	static const uint32_t misses[4 * 2] = {0, 9, 0, 5, 0, 7, 0, 0};
	static const uint32_t few[4 * 2] = {3, 4, 0, 1, 0, 1, 1, 0};
	uint32_t to[4];
	homes_assign(4, 2, misses, identity, false, to);
	cr_assert_eq(to[0] % 2, 1);
	cr_assert_eq(to[2] % 2, 1);
	cr_assert_eq(to[1] % 2, 0);
	cr_assert_eq(to[3] % 2, 0);
	homes_assign(4, 2, few, identity, true, to);
	cr_assert_arr_eq(to, identity, sizeof(to));
}

Test(sim, a_limited_cache_is_kept)
{
	for (unsigned w = 0; w < SIM_WORKLOAD_COUNT; w++) {
		struct sim_config config = small(300 + w, 2 + w);
		config.workload = w;
		config.cache = 5;
		struct sim_result result = run_good(&config);
		/* Four pages are all that false-sharing has. */
		cr_assert(result.evictions || w == SIM_FALSE_SHARING);
		/* Each vCPU may have one more on its way, and what is busy cannot go. */
		cr_assert_leq(result.cache_max, config.cache + config.vcpus);
		config.cache = SIM_CACHE_ALL;
		cr_assert_eq(run_good(&config).evictions, 0);
	}
}

Test(sim, no_node_has_less_than_four_fifths_of_its_share)
{
	static const unsigned nodes[] = {2, 4, 16};
	static const enum sim_workload workloads[] = {SIM_HOT_PAGE, SIM_FALSE_SHARING};
	for (unsigned i = 0; i < 6; i++) {
		struct sim_config config = small(1 + i, nodes[i / 2]);
		double least, most;
		config.workload = workloads[i % 2];
		config.disturbances &= ~(1u << SIM_BIT_SLOW);
		config.events = 10 * EVENTS;
		config.cache = SIM_CACHE_ALL;
		struct sim_result result = run_good(&config);
		sim_shares(&config, &result, &least, &most);
		cr_assert_geq(least, 80, "%u nodes, %s: %.1f %%", config.nodes,
			      sim_workloads[config.workload].word, least);
		cr_assert_geq(most, 100);
	}
}

Test(sim, faults_are_caught)
{
	for (unsigned f = 1; f < SIM_FAULT_COUNT; f++) {
		struct sim_config config = small(3, 6);
		config.fault = f;
		config.workload = f == SIM_FAULT_DROP_HOLD ? SIM_HOT_PAGE : SIM_UNIFORM;
		config.events = 3 * EVENTS;
		struct sim_result result = run(&config);
		cr_assert_gt(result.faulted, 0, "%s was never put in", sim_faults[f].word);
		cr_assert_not_null(result.checker, "%s was not caught", sim_faults[f].word);
		cr_assert_not_null(strstr(sim_faults[f].text, result.checker), "%s by %s",
				   sim_faults[f].word, result.checker);
	}
}

Test(sim, configurations_beyond_the_limits_are_refused)
{
	struct sim_config good = small(1, 8), bad;
	cr_assert_null(sim_config_fault(&good));
#define REFUSED(field, value)                                                                      \
	do {                                                                                       \
		bad = good;                                                                        \
		bad.field = (value);                                                               \
		cr_assert_not_null(sim_config_fault(&bad), #field);                                \
	} while (0)
	REFUSED(nodes, 1);
	REFUSED(nodes, SIM_NODES_MAX + 1);
	REFUSED(nodes, SLICES_MAX + 1); /* with a coordinator */
	REFUSED(vcpus, 0);
	REFUSED(vcpus, SIM_VCPUS_MAX + 1);
	REFUSED(pages, 0);
	REFUSED(pages, 8 * SIM_PAGES_A_HOME + 1);
	REFUSED(group, 9);
	REFUSED(last, 0);
	REFUSED(epochs, 0);
	REFUSED(epochs, SIM_EPOCHS_MAX + 1);
	REFUSED(cache, 2 * good.vcpus - 1);
	good = small(1, 1000);
	good.pages = SIM_PAGES_MAX;
	good.epochs = SIM_EPOCHS_MAX;
	REFUSED(homes, SIM_HOMES_MOVED);
	good = small(1, 8);
	good.disturbances |= 1u << SIM_BIT_CRASH;
	REFUSED(accesses, 1000);
#undef REFUSED
}
