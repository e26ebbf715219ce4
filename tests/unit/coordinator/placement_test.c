/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: even spreads, limits, explicit slices, and the sentences of refusals. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

/* "node0:2:512,node1:2:512" of a placed VM. */
static void placed_is(const struct world *world, const char *want)
{
	const json_t *msg = world_last(world, 10, "run-placed")->msg, *slice;
	char got[512] = "";
	size_t i;

	json_array_foreach(json_object_get(msg, "slices"), i, slice) snprintf(
		got + strlen(got), sizeof(got) - strlen(got), "%s%s:%d:%d", i ? "," : "",
		json_string_value(json_object_get(slice, "node")),
		(int)json_integer_value(json_object_get(slice, "vcpus")),
		(int)(json_integer_value(json_object_get(slice, "mem_bytes")) / (json_int_t)MIB));
	cr_expect_str_eq(got, want);
}

static void refused_with(const struct world *world, int code, const char *want)
{
	cr_expect_eq(world_int(world, 10, "error", "code"), code);
	cr_expect_str_eq(world_text(world, 10, "error", "reason"), want);
	cr_expect_eq(world_count(world, 10, "run-placed"), 0);
}

/* Nodes with the given CPUs and MiB, in this order of registration. */
static struct world *nodes(unsigned count, const unsigned *cpus, const unsigned *mib)
{
	struct world *world = world_new();
	char name[16];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "node%u", i);
		world_node(world, i + 1, name, cpus[i], mib[i] * MIB);
	}
	world_open(world, 10, CONTROL_ROLE_CLI);
	return world;
}

static void run_limited(struct world *world, unsigned cpus, unsigned mib, unsigned limit)
{
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i}", "type", "run",
		  "slices", "append", "", "kernel_bytes", 1, "initrd_bytes", 0, "console", 0,
		  "cpus", (int)cpus, "mem_bytes", (json_int_t)(mib * MIB), "nodes", (int)limit);
}

struct spread {
	unsigned count, cpus[4], mib[4], want_cpus, want_mib, limit;
	const char *placed;
};

Test(placement, spreads)
{
	static const struct spread cases[] = {
		{2, {4, 4}, {1024, 1024}, 4, 1024, 0, "node0:2:512,node1:2:512"},
		{1, {4}, {1024}, 4, 1024, 0, "node0:4:1024"},
		/* remainders to the first */
		{3,
		 {4, 4, 4},
		 {1024, 1024, 1024},
		 4,
		 1024,
		 0,
		 "node0:2:342,node1:1:342,node2:1:340"},
		/* what a small node cannot take, the others do */
		{2, {2, 4}, {1024, 1024}, 6, 1024, 0, "node0:2:512,node1:4:512"},
		{2, {4, 4}, {100, 1024}, 4, 1024, 0, "node0:2:100,node1:2:924"},
		/* a CPU on every node: not more nodes than CPUs */
		{4, {4, 4, 4, 4}, {512, 512, 512, 512}, 2, 64, 0, "node0:1:32,node1:1:32"},
		/* unless their memory is needed */
		{3, {4, 4, 4}, {512, 512, 512}, 1, 1536, 0, "node0:1:512,node1:0:512,node2:0:512"},
		/* --nodes, and the nodes that fit come first */
		{3, {1, 4, 4}, {512, 512, 512}, 4, 64, 2, "node1:2:32,node2:2:32"},
		{3, {4, 4, 4}, {512, 512, 512}, 3, 64, 1, "node0:3:64"},
		{2, {1, 8}, {512, 512}, 8, 64, 1, "node1:8:64"},
		/* the first slice needs a CPU */
		{2, {0, 4}, {512, 512}, 2, 1024, 0, "node1:2:512,node0:0:512"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct spread *c = &cases[i];
		struct world *world = nodes(c->count, c->cpus, c->mib);
		run_limited(world, c->want_cpus, c->want_mib, c->limit);
		placed_is(world, c->placed);
		world_free(world);
	}
}

Test(placement, orders_nodes_by_number)
{
	struct world *world = world_new();

	world_node(world, 1, "node10", 4, GIB);
	world_node(world, 2, "node9", 4, GIB);
	world_open(world, 10, CONTROL_ROLE_CLI);
	run_limited(world, 2, 64, 0);
	placed_is(world, "node9:1:32,node10:1:32");
	world_free(world);
}

Test(placement, says_what_is_missing)
{
	struct world *world = nodes(2, (unsigned[]){2, 2}, (unsigned[]){1024, 512});

	run_limited(world, 8, 64, 0);
	refused_with(world, EXIT_NOFIT, "needs 8 CPUs, the nodes have 4 free: node0 2, node1 2");
	run_limited(world, 2, 2048, 0);
	refused_with(
		world, EXIT_NOFIT,
		"needs 2 GiB of memory, the nodes have 1536 MiB free: node0 1 GiB, node1 512 MiB");
	run_limited(world, 2, 64, 3);
	refused_with(world, EXIT_NOFIT, "needs 3 nodes, 2 are ready: node0, node1");
	run_limited(world, 2, 63, 0);
	refused_with(world, EXIT_USAGE, "memory comes in pieces of 2 MiB: 63 MiB does not");
	world_free(world);
	world = nodes(0, NULL, NULL);
	run_limited(world, 2, 64, 0);
	refused_with(world, EXIT_NOFIT, "no node is ready");
	world_free(world);
}

static void run_slices(struct world *world, const char *slices)
{
	json_t *list = json_loads(slices, 0, NULL);

	cr_assert(list);
	world_say(world, 10, "{s:s, s:o, s:s, s:i, s:i, s:b}", "type", "run", "slices", list,
		  "append", "", "kernel_bytes", 1, "initrd_bytes", 0, "console", 0);
}

#define SLICE(node, cpus, mem) "{\"node\":\"" node "\",\"cpus\":" cpus ",\"mem_bytes\":" mem "}"

Test(placement, explicit_slices)
{
	struct world *world = world_pair();

	run_slices(world, "[" SLICE("node1", "3", "2097152") "," SLICE(
				  "node0", "0", "4194304") "," SLICE("node1", "1", "0") "]");
	placed_is(world, "node1:3:2,node0:0:4,node1:1:0");
	world_free(world);
}

Test(placement, explicit_refusals)
{
	struct world *world = world_pair();

	run_slices(world, "[" SLICE("node1", "3", "0") "," SLICE("node1", "2", "2097152") "]");
	refused_with(world, EXIT_NOFIT, "slice 1 needs 2 CPUs, node node1 has 1 free");
	run_slices(world, "[" SLICE("node1", "1", "2147483648") "]");
	refused_with(world, EXIT_NOFIT, "slice 0 needs 2 GiB of memory, node node1 has 1 GiB free");
	run_slices(world, "[" SLICE("node2", "1", "2097152") "]");
	refused_with(world, EXIT_NOFIT, "slice 0 wants node node2; the nodes are: node0, node1");
	run_slices(world, "[" SLICE("node0", "0", "2097152") "]");
	refused_with(world, EXIT_USAGE, "the first slice boots the guest: it needs a CPU");
	run_slices(world, "[" SLICE("node0", "1", "0") "]");
	refused_with(world, EXIT_USAGE, "a VM needs memory");
	run_slices(world, "[" SLICE("node0", "1", "1048576") "]");
	refused_with(world, EXIT_USAGE, "memory comes in pieces of 2 MiB: 1 MiB does not");
	run_slices(world, "[" SLICE("../node0", "1", "1048576") "]");
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	world_free(world);
}

static void run_packed(struct world *world, unsigned cpus, unsigned mib, unsigned limit,
		       const char *placement)
{
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:s}", "type", "run",
		  "slices", "append", "", "kernel_bytes", 1, "initrd_bytes", 0, "console", 0,
		  "cpus", (int)cpus, "mem_bytes", (json_int_t)(mib * MIB), "nodes", (int)limit,
		  "placement", placement);
}

Test(placement, packs)
{
	static const struct spread cases[] = {
		/* one node does; of two that do, the first by name */
		{2, {4, 4}, {1024, 1024}, 4, 512, 0, "node0:4:512"},
		/* the one with the least room that fits */
		{3, {8, 4, 2}, {2048, 1024, 512}, 2, 256, 0, "node2:2:256"},
		{3, {8, 4, 2}, {2048, 1024, 512}, 3, 256, 0, "node1:3:256"},
		/* two, when one does not do */
		{3, {4, 4, 4}, {1024, 1024, 1024}, 6, 1024, 0, "node0:3:512,node1:3:512"},
		/* the emptiest, when shares are uneven */
		{3, {2, 6, 3}, {1024, 1024, 1024}, 9, 512, 0, "node1:6:256,node2:3:256"},
		/* all of them */
		{3, {2, 2, 2}, {512, 512, 512}, 6, 512, 0, "node0:2:172,node1:2:170,node2:2:170"},
		/* memory alone needs two */
		{2, {4, 4}, {512, 512}, 1, 768, 0, "node0:1:384,node1:0:384"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct spread *one = &cases[i];
		struct world *world = nodes(one->count, one->cpus, one->mib);
		run_packed(world, one->want_cpus, one->want_mib, one->limit, "pack");
		placed_is(world, one->placed);
		world_free(world);
	}
}

Test(placement, packs_no_more_than_nodes_offer)
{
	struct world *world = nodes(2, (unsigned[]){2, 2}, (unsigned[]){512, 512});

	run_packed(world, 5, 512, 0, "pack");
	refused_with(world, EXIT_NOFIT, "needs 5 CPUs, the nodes have 4 free: node0 2, node1 2");
	world_clear(world);
	run_packed(world, 3, 256, 1, "pack");
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NOFIT);
	world_clear(world);
	run_packed(world, 1, 256, 0, "scatter");
	cr_expect(strstr(world_text(world, 10, "error", "reason"), "spread or pack"));
	world_free(world);
}

static void run_over(struct world *world, uint64_t client, unsigned cpus, bool over)
{
	world_say(world, client, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:b}", "type",
		  "run", "slices", "append", "", "kernel_bytes", 1, "initrd_bytes", 0, "console", 0,
		  "cpus", (int)cpus, "mem_bytes", (json_int_t)(128 * MIB), "nodes", 1, "overcommit",
		  (int)over);
}

static json_int_t cpus_free(struct world *world)
{
	world_open(world, 99, CONTROL_ROLE_CLI);
	world_say(world, 99, "{s:s}", "type", "nodes");
	const json_t *list = json_object_get(world_last(world, 99, "nodes-list")->msg, "nodes");
	json_int_t cpus = json_integer_value(json_object_get(json_array_get(list, 0), "cpus_free"));
	world_close(world, 99, "done");
	return cpus;
}

/* One node of 2 CPUs: 8 vCPUs at most, and what is taken comes back exactly. */
Test(placement, overcommits_cpus_when_asked_and_not_beyond_its_limit)
{
	struct world *world = nodes(1, (unsigned[]){2}, (unsigned[]){1024});

	run_over(world, 10, 3, false);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NOFIT);
	run_over(world, 10, 9, true);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NOFIT);
	run_over(world, 10, 3, true);
	cr_expect_str_eq(world_text(world, 10, "run-placed", "vm"), "vm1");
	cr_expect_eq(cpus_free(world), 0);
	world_open(world, 11, CONTROL_ROLE_CLI);
	run_over(world, 11, 6, true);
	cr_expect_eq(world_int(world, 11, "error", "code"), EXIT_NOFIT);
	run_over(world, 11, 5, true);
	cr_expect_str_eq(world_text(world, 11, "run-placed", "vm"), "vm2");
	world_say(world, 10, "{s:s, s:s}", "type", "stop", "vm", "vm2");
	cr_expect_eq(cpus_free(world), 0);
	world_say(world, 10, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	cr_expect_eq(cpus_free(world), 2);
	world_free(world);
}

Test(placement, memory_is_never_given_twice)
{
	struct world *world = nodes(1, (unsigned[]){2}, (unsigned[]){64});

	run_over(world, 10, 1, true);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NOFIT);
	world_free(world);
}
