/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator: every workload, losses, groups of sharers, faults; the same seed twice. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "sim/sim.h"

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
#undef REFUSED
}
