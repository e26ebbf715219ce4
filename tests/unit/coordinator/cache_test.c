/* SPDX-License-Identifier: Apache-2.0 */
/* The limit on remote pages: from the command line's run message to every slice-start. */
#include <criterion/criterion.h>
#include <string.h>

#include "world.h"

/* A run of 2 CPUs and so much memory with these fields, 0 meaning none; up to slice-start. */
static void run_ask(struct world *world, const char *name, uint64_t mem_bytes, json_int_t bytes,
		    json_int_t percent, bool none)
{
	world_say(world, 10,
		  "{s:s, s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:o*, s:o*, s:o*}", "type",
		  "run", "name", name, "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
		  "console", 1, "cpus", 2, "mem_bytes", (json_int_t)mem_bytes, "nodes", 2,
		  "cache_bytes", bytes ? json_integer(bytes) : NULL, "cache_percent",
		  percent ? json_integer(percent) : NULL, "cache_none", none ? json_true() : NULL);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", name);
}

static struct world *run_with(json_int_t bytes, json_int_t percent)
{
	struct world *world = world_pair();

	run_ask(world, "vm1", 256 * MIB, bytes, percent, false);
	return world;
}

/* What both nodes have free, in bytes. */
static uint64_t nodes_free(struct world *world)
{
	const json_t *list;
	json_int_t one, two;

	world_open(world, 20, CONTROL_ROLE_CLI);
	world_say(world, 20, "{s:s}", "type", "nodes");
	list = json_object_get(world_last(world, 20, "nodes-list")->msg, "nodes");
	one = json_integer_value(json_object_get(json_array_get(list, 0), "mem_free_bytes"));
	two = json_integer_value(json_object_get(json_array_get(list, 1), "mem_free_bytes"));
	cr_expect_eq(one, two);
	world_close(world, 20, "done");
	return (uint64_t)one;
}

/* The field in both slices' slice-start; 0: it is missing there. */
static json_int_t started_with(const struct world *world, const char *key)
{
	const json_t *one = json_object_get(world_last(world, 1, "slice-start")->msg, key);
	const json_t *two = json_object_get(world_last(world, 2, "slice-start")->msg, key);

	cr_expect_eq(json_integer_value(one), json_integer_value(two));
	cr_expect_eq(one == NULL, two == NULL);
	return json_integer_value(one);
}

Test(cache, the_limit_travels)
{
	struct world *world = run_with(5 * 1024 * 1024, 0);

	cr_expect_eq(started_with(world, "cache_bytes"), 5 * 1024 * 1024);
	cr_expect_eq(nodes_free(world), GIB - 128 * MIB, "below the floor nothing is taken");
	world_free(world);
	/* Of the slice's own 128 MiB. */
	world = run_with(0, 5);
	cr_expect_eq(started_with(world, "cache_bytes"), (json_int_t)(128 * MIB / 100 * 5));
	world_free(world);
}

Test(cache, without_a_wish_there_is_a_limit_and_it_is_counted)
{
	struct world *world = world_pair();

	/* A floor of an eighth of 256 MiB, and as much again from the offer. */
	run_ask(world, "vm1", 512 * MIB, 0, 0, false);
	cr_expect_eq(started_with(world, "cache_bytes"), (json_int_t)(64 * MIB));
	cr_expect_eq(nodes_free(world), GIB - 288 * MIB);
	world_say(world, 10, "{s:s}", "type", "leaving");
	world_gone(world, 0, "exited");
	world_gone(world, 1, "exited");
	cr_expect_eq(nodes_free(world), GIB, "all of it comes back");
	world_free(world);
}

Test(cache, a_vm_fits_wherever_its_own_memory_fits)
{
	struct world *world = world_pair();

	run_ask(world, "vm1", 2 * GIB, 0, 0, false);
	cr_expect_eq(started_with(world, "cache_bytes"), (json_int_t)(128 * MIB));
	cr_expect_eq(nodes_free(world), 0);
	world_free(world);
}

Test(cache, what_holds_all_has_no_limit)
{
	struct world *world = world_pair();

	/* All of the other slice's 16 MiB are within the floor. */
	run_ask(world, "vm1", 32 * MIB, 0, 0, false);
	cr_expect_eq(started_with(world, "cache_bytes"), 0);
	cr_expect_eq(nodes_free(world), GIB - 16 * MIB);
	world_free(world);
	world = world_pair();
	run_ask(world, "vm1", 2 * GIB, 0, 0, true);
	cr_expect_eq(started_with(world, "cache_bytes"), 0, "none was asked for");
	world_free(world);
}

Test(cache, what_is_asked_for_must_fit)
{
	struct world *world = world_pair();

	/* Of 512 MiB each 64 are overhead, so 128 beyond them need an offer. */
	run_ask(world, "vm1", GIB, 192 * MIB, 0, false);
	cr_expect_eq(started_with(world, "cache_bytes"), (json_int_t)(192 * MIB));
	cr_expect_eq(nodes_free(world), GIB - 640 * MIB);
	world_free(world);
	world = world_pair();
	run_ask(world, "vm1", 2 * GIB - 64 * MIB, 0, 100, false);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NOFIT);
	cr_expect_str_eq(world_text(world, 10, "error", "reason"),
			 "the cache of slice 0 needs 910163876 B of memory beside the slice's own, "
			 "node node0 has 32 MiB free");
	cr_expect_eq(nodes_free(world), GIB);
	world_free(world);
}

/* A coordinator that is started anew counts what its forerunner gave. */
Test(cache, a_record_brings_what_was_counted)
{
	static const char *const bad[] = {"null", "-1", "[]", "\"x\""};
	struct world *old = world_pair(), *world;
	json_t *record = NULL, *slice;
	char why[CONTROL_WHY_MAX];

	run_ask(old, "vm1", 512 * MIB, 0, 0, false);
	record = json_incref(json_object_get(world_last(old, 1, "slice-start")->msg, "record"));
	world = world_new();
	cr_assert_eq(coordinator_restore(world->co, record, 1000, why), 0, "%s", why);
	world->now_ms = 1000;
	for (unsigned i = 0; i < 2; i++) {
		json_t *msg = world_registration(i + 1, i ? "node1" : "node0");
		slice = json_pack("{s:s, s:O, s:i, s:i, s:I, s:[{s:s, s:s, s:O, s:i}]}", "vm",
				  "vm1", "incarnation", json_object_get(record, "incarnation"),
				  "slice", (int)i, "vcpus", 1, "mem_bytes", (json_int_t)(288 * MIB),
				  "reports", "type", "slice-started", "vm", "vm1", "incarnation",
				  json_object_get(record, "incarnation"), "slice", (int)i);
		cr_assert(slice);
		json_object_set_new(msg, "slices", json_pack("[o]", slice));
		world_open(world, i + 1, CONTROL_ROLE_NODE);
		world_say_json(world, i + 1, msg);
	}
	cr_expect_eq(nodes_free(world), GIB - 288 * MIB);
	world_free(world);
	slice = json_array_get(json_object_get(record, "slices"), 0);
	for (unsigned i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
		const char *key = i % 2 ? "cache_bytes" : "cache_room_bytes";
		json_t *good = json_incref(json_object_get(slice, key));
		world = world_new();
		json_object_set_new(slice, key, json_loads(bad[i / 2], JSON_DECODE_ANY, NULL));
		cr_expect_lt(coordinator_restore(world->co, record, 1000, why), 0, "%s: %s", key,
			     bad[i / 2]);
		json_object_set_new(slice, key, good);
		world_free(world);
	}
	json_decref(record);
	world_free(old);
}

static void expect_refused(json_int_t bytes, json_int_t percent, const char *why)
{
	struct world *world = run_with(bytes, percent);

	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	cr_expect(strstr(world_text(world, 10, "error", "reason"), why), "it says: %s",
		  world_text(world, 10, "error", "reason"));
	cr_expect_eq(world_count(world, 0, "slice-start"), 0);
	world_free(world);
}

Test(cache, limits_that_cannot_be_are_refused)
{
	expect_refused(1024, 5, "a size or a percentage or none");
	expect_refused(-1, 0, "cache_bytes");
	expect_refused((json_int_t)GUEST_MEM_MAX + 1, 0, "cache_bytes");
	expect_refused(0, 101, "cache_percent");
	expect_refused(0, -5, "cache_percent");
}
