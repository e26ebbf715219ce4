/* SPDX-License-Identifier: Apache-2.0 */
/* Console input: a window for each client, so that nothing typed is dropped and nobody floods. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static void type(struct world *world, uint64_t peer, size_t len)
{
	uint8_t *bytes = calloc(1, len);

	world_say_blob(world, peer, "console-input", bytes, len);
	free(bytes);
}

static void taken(struct world *world, json_int_t bytes)
{
	world_say(world, 1, "{s:s, s:s, s:i, s:I}", "type", "console-taken", "vm", "vm1", "slice",
		  0, "bytes", bytes);
}

/* What a peer was allowed since the last world_clear. */
static json_int_t credit(const struct world *world, uint64_t peer)
{
	json_int_t sum = 0;

	for (size_t i = 0; i < world->out.count; i++)
		if (world->out.list[i].peer == peer && world->out.list[i].msg &&
		    control_is(world->out.list[i].msg, "console-credit"))
			sum += json_integer_value(json_object_get(world->out.list[i].msg, "bytes"));
	return sum;
}

static bool was_refused(const struct world *world, uint64_t peer)
{
	for (size_t i = 0; i < world->out.count; i++)
		if (world->out.list[i].type == COORDINATOR_REFUSE &&
		    world->out.list[i].peer == peer)
			return true;
	return false;
}

Test(input, begins_when_the_guest_runs)
{
	struct world *world = world_at(STEP_BOOTING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	cr_expect_eq(credit(world, 10) + credit(world, 11), 0);
	world_slice(world, 0, "slice-started");
	world_slice(world, 1, "slice-started");
	cr_expect_eq(credit(world, 10), CONTROL_INPUT_WINDOW);
	cr_expect_eq(credit(world, 11), CONTROL_INPUT_WINDOW);
	world_open(world, 12, CONTROL_ROLE_CLI);
	world_say(world, 12, "{s:s, s:s}", "type", "console", "vm", "vm1");
	cr_expect_eq(credit(world, 12), CONTROL_INPUT_WINDOW);
	world_free(world);
}

Test(input, comes_back_as_the_guest_takes_it)
{
	struct world *world = world_at(STEP_RUNNING);

	type(world, 10, 3000);
	cr_expect_eq(world_last(world, 1, "console-input")->blob_len, 3000);
	world_clear(world);
	taken(world, 1000);
	cr_expect_eq(credit(world, 10), 1000);
	type(world, 10, CONTROL_INPUT_WINDOW - 2000);
	cr_expect_not(was_refused(world, 10));
	world_clear(world);
	taken(world, CONTROL_INPUT_WINDOW);
	cr_expect_eq(credit(world, 10), CONTROL_INPUT_WINDOW);
	/* More than anybody owes: of clients that have gone. */
	taken(world, 5);
	cr_expect_eq(credit(world, 10), CONTROL_INPUT_WINDOW);
	world_free(world);
}

Test(input, beyond_the_window_ends_that_client_alone)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	type(world, 11, CONTROL_INPUT_WINDOW);
	cr_expect_not(was_refused(world, 11));
	type(world, 11, 1);
	cr_expect(was_refused(world, 11));
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	/* The guest takes what that one had typed; the other's window is as it was. */
	world_clear(world);
	type(world, 10, CONTROL_INPUT_WINDOW);
	taken(world, 2 * CONTROL_INPUT_WINDOW);
	cr_expect_eq(credit(world, 10), CONTROL_INPUT_WINDOW);
	world_free(world);
}

/* One client that types all the time leaves the other its turn. */
Test(input, clients_take_turns)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	type(world, 10, CONTROL_INPUT_WINDOW);
	type(world, 11, 100);
	world_clear(world);
	for (int i = 0; i < 2 && !credit(world, 11); i++) {
		json_int_t before = credit(world, 10);
		taken(world, 100);
		if (credit(world, 10) > before)
			type(world, 10, (size_t)(credit(world, 10) - before));
		cr_expect_not(was_refused(world, 10));
	}
	cr_expect_eq(credit(world, 11), 100);
	world_free(world);
}

Test(input, a_wrong_count_is_a_bad_report)
{
	struct world *world = world_at(STEP_RUNNING);

	taken(world, 0);
	cr_expect_eq(world_count(world, 2, "slice-stop"), 1);
	world_free(world);
}

Test(input, who_only_watches_may_type_nothing)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s, s:b}", "type", "console", "vm", "vm1", "watch", 1);
	cr_expect_eq(world_count(world, 11, "console-attached"), 1);
	cr_expect_eq(world_count(world, 11, "console-credit"), 0);
	world_clear(world);
	world_say_blob(world, 11, "console-input", "x", 1);
	cr_expect_eq(world_count(world, 1, "console-input"), 0);
	cr_expect(strstr(world_refused(world, 11), "0 were allowed"));
	world_free(world);
}
