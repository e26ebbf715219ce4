/* SPDX-License-Identifier: Apache-2.0 */
/* Slices and nodes that do not answer: who is told, and when a VM ends. */
#include <criterion/criterion.h>
#include <string.h>

#include "world.h"

/* The daemon of slice 1 says so. */
static void silent(struct world *world, int seconds)
{
	world_say(world, 2, "{s:s, s:s, s:i, s:i}", "type", "slice-silent", "vm", "vm1", "slice", 1,
		  "seconds", seconds);
	world_pass(world, 200, 2);
}

/* Says it each second, from..to. */
static void silent_through(struct world *world, int from, int to)
{
	for (int s = from; s <= to; s++) {
		silent(world, s);
		world_pass(world, 800, 2);
	}
}

/* What the VM's `waits` has now; null: it does not wait. */
static const json_t *waits(struct world *world)
{
	const json_t *vms;

	world_open(world, 98, CONTROL_ROLE_CLI);
	world_say(world, 98, "{s:s}", "type", "vms");
	vms = json_object_get(world_last(world, 98, "vms-list")->msg, "vms");
	world_close(world, 98, "done");
	return json_object_get(json_array_get(vms, 0), "waits");
}

static void expect_waits(struct world *world, int seconds, int slice, const char *node)
{
	const json_t *found = waits(world);

	cr_assert(found, "it does not wait");
	cr_expect_eq(json_integer_value(json_object_get(found, "seconds")), seconds);
	cr_expect_str_eq(json_string_value(json_object_get(found, "node")), node);
	if (slice < 0)
		cr_expect_null(json_object_get(found, "slice"));
	else
		cr_expect_eq(json_integer_value(json_object_get(found, "slice")), slice);
}

static unsigned logged(const struct world *world, const char *line)
{
	unsigned count = 0;

	for (size_t i = 0; i < world->out.count; i++)
		count += world->out.list[i].type == COORDINATOR_LOG &&
			 strcmp(world->out.list[i].why, line) == 0;
	return count;
}

static const char *told(const struct world *world)
{
	return world_text(world, 10, "vm-waiting", "sentence");
}

Test(silence, a_slice_that_does_not_answer_is_named)
{
	struct world *world = world_at(STEP_RUNNING);

	cr_expect_null(waits(world));
	silent(world, 3);
	expect_waits(world, 3, 1, "node1");
	cr_expect_str_eq(told(world), "waits 3 s for slice 1 on node node1");
	cr_expect_eq(logged(world, "VM vm1: waits 3 s for slice 1 on node node1"), 1);
	silent(world, 0);
	cr_expect_null(waits(world));
	cr_expect_str_eq(told(world), "slice 1 on node node1 answers again");
	cr_expect_eq(logged(world, "VM vm1: slice 1 on node node1 answers again"), 1);
	world_clear(world);
	world_pass(world, 100000, 2);
	cr_expect_eq(world_count(world, 0, "vm-waiting"), 0);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_free(world);
}

Test(silence, it_is_told_less_and_less_often)
{
	struct world *world = world_at(STEP_RUNNING);

	coordinator_set_deadline(world->co, 1000);
	silent_through(world, 3, 100);
	expect_waits(world, 100, 1, "node1");
	/* After 3, 13, 23, 46 and 92 s. */
	cr_expect_eq(world_count(world, 10, "vm-waiting"), 5);
	cr_expect_str_eq(told(world), "waits 92 s for slice 1 on node node1");
	world_free(world);
}

Test(silence, at_the_deadline_the_vm_ends_and_names_it)
{
	struct world *world = world_at(STEP_RUNNING);

	silent_through(world, 3, 29);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	silent(world, 30);
	cr_expect_eq(world_count(world, 1, "slice-stop"), 1);
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	/* What does not stop is killed. */
	world_pass(world, 6000, 2);
	cr_expect_eq(world_count(world, 2, "slice-kill"), 1);
	world_gone(world, 1, "killed by signal 9");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_NODE_LOST);
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "lost"), "node1");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"),
			 "lost slice 1 on node node1 (it did not answer for 30 s)");
	world_free(world);
}

/* A slice may lose its connection to the one that is silent before the deadline. */
Test(silence, a_slice_that_lost_its_peer_lost_the_silent_one)
{
	struct world *world = world_at(STEP_RUNNING);

	silent_through(world, 3, 8);
	world_exit(world, 0, EXIT_NODE_LOST, "lost its connection to slice 1");
	world_gone(world, 0, "exited");
	world_pass(world, 10000, 2);
	world_gone(world, 1, "killed by signal 9");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "lost"), "node1");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"),
			 "lost slice 1 on node node1 (it did not answer for 8 s)");
	world_free(world);
}

/* The node has its grace time; what it said of its slice is old, and the slice has no deadline. */
Test(silence, a_silent_node_is_named_and_has_its_grace)
{
	struct world *world = world_at(STEP_RUNNING);

	silent(world, 20);
	world_clear(world);
	world_pass(world, 4000, 1);
	expect_waits(world, 4, -1, "node1");
	cr_expect_str_eq(told(world), "waits 3 s for node node1");
	world_pass(world, 36000, 1);
	expect_waits(world, 40, -1, "node1");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_pass(world, 30000, 1);
	cr_expect_eq(world_count(world, 1, "slice-stop"), 1);
	world_free(world);
}

Test(silence, a_daemon_that_comes_back_says_it_anew)
{
	struct world *world = world_at(STEP_RUNNING);
	json_t *msg = world_registration(2, "node1"), *reports = json_array();
	static const char *const types[] = {"slice-listening", "slice-connected", "slice-started"};

	silent(world, 5);
	cr_assert(waits(world));
	for (size_t i = 0; i < 3; i++)
		json_array_append_new(reports, json_pack("{s:s, s:s, s:s, s:i, s:i}", "type",
							 types[i], "vm", "vm1", "incarnation",
							 world_incarnation(world, "vm1"), "slice",
							 1, "port", 5001));
	json_object_set_new(msg, "slices",
			    json_pack("[{s:s, s:s, s:i, s:i, s:I, s:o}]", "vm", "vm1",
				      "incarnation", world_incarnation(world, "vm1"), "slice", 1,
				      "vcpus", 2, "mem_bytes", (json_int_t)(256 * MIB), "reports",
				      reports));
	json_object_set_new(msg, "vms", json_array());
	world_close(world, 2, "connection reset");
	world_open(world, 22, CONTROL_ROLE_NODE);
	world_say_json(world, 22, msg);
	cr_expect_eq(world_count(world, 22, "registered"), 1);
	cr_expect_null(waits(world));
	world_free(world);
}

Test(silence, nonsense_ends_that_vm_alone)
{
	struct world *world = world_at(STEP_RUNNING);

	silent(world, -1);
	cr_expect_eq(world_count(world, 1, "slice-stop"), 1);
	cr_expect(strstr(world_end(world), "slice 1 on node node1 sent a bad report"));
	world_free(world);
}

/* A slice that is being started has the deadline of its step. */
Test(silence, before_it_runs_nobody_waits)
{
	struct world *world = world_at(STEP_BOOTING);

	silent(world, 100);
	cr_expect_null(waits(world));
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	cr_expect_eq(world_count(world, 0, "vm-waiting"), 0);
	world_free(world);
}

Test(silence, slices_are_told_the_deadline)
{
	struct world *world = world_new();

	coordinator_set_deadline(world->co, 15);
	world_node(world, 1, "node0", 4, GIB);
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_run(world, 10, 4, 512 * MIB);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	cr_expect_eq(world_int(world, 1, "slice-start", "deadline_ms"), 15000);
	world_free(world);
}
