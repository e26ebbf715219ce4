/* SPDX-License-Identifier: Apache-2.0 */
/* The limit on remote pages: from the command line's run message to every slice-start. */
#include <criterion/criterion.h>
#include <string.h>

#include "world.h"

/* A run of 2 CPUs and 256 MiB with these two fields, 0 meaning none; up to slice-start. */
static struct world *run_with(json_int_t bytes, json_int_t percent)
{
	struct world *world = world_pair();

	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:o*, s:o*}", "type",
		  "run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0, "console", 1,
		  "cpus", 2, "mem_bytes", (json_int_t)(256 * MIB), "nodes", 2, "cache_bytes",
		  bytes ? json_integer(bytes) : NULL, "cache_percent",
		  percent ? json_integer(percent) : NULL);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	return world;
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
	cr_expect_eq(started_with(world, "cache_percent"), 0);
	world_free(world);
	world = run_with(0, 5);
	cr_expect_eq(started_with(world, "cache_bytes"), 0);
	cr_expect_eq(started_with(world, "cache_percent"), 5);
	world_free(world);
	world = run_with(0, 0);
	cr_expect_eq(started_with(world, "cache_bytes"), 0);
	cr_expect_eq(started_with(world, "cache_percent"), 0);
	world_free(world);
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
	expect_refused(1024, 5, "a size or a percentage, not both");
	expect_refused(-1, 0, "cache_bytes");
	expect_refused((json_int_t)GUEST_MEM_MAX + 1, 0, "cache_bytes");
	expect_refused(0, 101, "cache_percent");
	expect_refused(0, -5, "cache_percent");
}
