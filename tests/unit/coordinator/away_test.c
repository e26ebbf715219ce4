/* SPDX-License-Identifier: Apache-2.0 */
/* Links that are lost and made again: nodes, owners, and a coordinator that is started anew. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/* A report of a slice as its daemon keeps it. */
static json_t *report(const struct world *world, unsigned slice, const char *type)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s}", "type", type, "vm", "vm1",
			 "incarnation", world_incarnation(world, "vm1"), "slice", (int)slice,
			 "port", 5000 + (int)slice, "code", 0, "reason", "the guest powered off",
			 "how", "exited with code 0");
}

/* A slice of the inventory that has gone through these steps. */
static json_t *entry(const struct world *world, unsigned slice, const char *const *types)
{
	json_t *reports = json_array();

	for (size_t i = 0; types[i]; i++)
		json_array_append_new(reports, report(world, slice, types[i]));
	return json_pack("{s:s, s:s, s:i, s:i, s:I, s:o}", "vm", "vm1", "incarnation",
			 world_incarnation(world, "vm1"), "slice", (int)slice, "vcpus", 2,
			 "mem_bytes", (json_int_t)(256 * MIB), "reports", reports);
}

static const char *const running[] = {"slice-listening", "slice-connected", "slice-started", NULL};
static const char *const ended[] = {"slice-listening", "slice-connected", "slice-started",
				    "slice-exit",      "slice-gone",	  NULL};
static const char *const half[] = {"slice-listening", NULL};

/* The daemon of node `slice` registers on a new connection with this inventory (or none). */
static void come_back(struct world *world, uint64_t peer, unsigned slice, uint64_t incarnation,
		      json_t *inventory, json_t *records)
{
	char name[8];
	json_t *msg;

	snprintf(name, sizeof(name), "node%u", slice);
	msg = world_registration(incarnation, name);
	json_object_set_new(msg, "slices", json_pack("[o*]", inventory));
	json_object_set_new(msg, "vms", records ? records : json_array());
	world_open(world, peer, CONTROL_ROLE_NODE);
	world_say_json(world, peer, msg);
}

static unsigned vms_count(struct world *world)
{
	world_open(world, 98, CONTROL_ROLE_CLI);
	world_say(world, 98, "{s:s}", "type", "vms");
	unsigned count = (unsigned)json_array_size(
		json_object_get(world_last(world, 98, "vms-list")->msg, "vms"));
	world_close(world, 98, "done");
	return count;
}

/* A node whose certificate was revoked is not waited for. */
Test(away, a_banned_node_is_lost_at_once)
{
	struct world *world = world_at(STEP_RUNNING);

	world_ban(world, 2, "its certificate was revoked");
	cr_expect_eq(world_count(world, 1, "slice-stop"), 1);
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"),
			 "lost node node1 (its certificate was revoked)");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_NODE_LOST);
	world_free(world);
}

Test(away, a_daemon_that_comes_back_is_taken_up)
{
	struct world *world = world_at(STEP_RUNNING);

	world_close(world, 2, "connection reset");
	world_pass(world, 5000, 1);
	world_clear(world);
	come_back(world, 22, 1, 2, entry(world, 1, running), NULL);
	cr_expect_eq(world_count(world, 22, "registered"), 1);
	cr_expect_eq(world_count(world, 0, "slice-kill"), 0);
	for (int i = 0; i < 120; i++) {
		world_say(world, 22, "{s:s}", "type", "heartbeat");
		world_pass(world, 1000, 1);
	}
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	/* It is told what it must know where it is now. */
	world_say(world, 10, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	cr_expect_eq(world_count(world, 22, "slice-stop"), 1);
	world_free(world);
}

/* By who may type already, it is held; who comes meanwhile may not type yet. */
Test(away, what_is_typed_meanwhile_comes_when_the_daemon_is_back)
{
	struct world *world = world_at(STEP_RUNNING);

	world_close(world, 1, "connection reset");
	world_clear(world);
	world_say_blob(world, 10, "console-input", "ab", 2);
	world_say_blob(world, 10, "console-input", "c", 1);
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	cr_expect_eq(world_count(world, 11, "console-attached"), 1);
	cr_expect_eq(world_count(world, 0, "console-input"), 0);
	cr_expect_eq(world_count(world, 11, "console-credit"), 0);
	come_back(world, 21, 0, 1, entry(world, 0, running), NULL);
	const struct coordinator_action *input = world_last(world, 21, "console-input");
	cr_assert_eq(input->blob_len, 3);
	cr_expect_arr_eq(input->blob, "abc", 3);
	cr_expect_eq(world_int(world, 11, "console-credit", "bytes"), CONTROL_INPUT_WINDOW);
	/* What the first may send and what it waits for are still the window. */
	cr_expect_eq(world_count(world, 10, "console-credit"), 0);
	world_say(world, 21, "{s:s, s:s, s:i, s:i}", "type", "console-taken", "vm", "vm1", "slice",
		  0, "bytes", 3);
	cr_expect_eq(world_int(world, 10, "console-credit", "bytes"), 3);
	world_free(world);
}

/* What was held goes with who typed it. */
Test(away, what_is_typed_meanwhile_is_forgotten_with_its_client)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	world_close(world, 1, "connection reset");
	world_clear(world);
	world_say_blob(world, 11, "console-input", "ab", 2);
	world_close(world, 11, "connection reset");
	come_back(world, 21, 0, 1, entry(world, 0, running), NULL);
	cr_expect_eq(world_count(world, 21, "console-input"), 0);
	world_free(world);
}

/* The old connection hangs: nobody has noticed that it is gone. */
Test(away, a_daemon_that_comes_back_early_is_taken_up)
{
	struct world *world = world_at(STEP_RUNNING);

	come_back(world, 22, 1, 2, entry(world, 1, running), NULL);
	cr_expect_str_eq(world_refused(world, 2), "this daemon came back on another connection");
	cr_expect_eq(world_count(world, 22, "registered"), 1);
	/* The end of the old connection is not the node's. */
	world_close(world, 2, "refused");
	world_say(world, 22, "{s:s}", "type", "heartbeat");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_free(world);
}

Test(away, two_daemons_of_one_name)
{
	struct world *world = world_at(STEP_RUNNING);

	/* The first is alive: the second is refused. */
	come_back(world, 22, 1, 77, NULL, NULL);
	world_pass(world, 200, 2);
	cr_expect_str_eq(world_refused(world, 22), "a node named node1 is registered already");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	/* The first is silent: the second takes its place, and what ran on the first is lost. */
	come_back(world, 23, 1, 78, NULL, NULL);
	world_pass(world, 2800, 1);
	cr_expect_eq(world_count(world, 23, "registered"), 0);
	world_pass(world, 400, 1);
	cr_expect_str_eq(world_refused(world, 2), "another daemon has taken its name");
	cr_expect_eq(world_count(world, 23, "registered"), 1);
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"),
			 "lost node node1 (its daemon was started anew)");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_NODE_LOST);
	world_free(world);
}

Test(away, a_slice_that_did_not_come_back_ends_its_vm)
{
	struct world *world = world_at(STEP_RUNNING);

	world_close(world, 2, "connection reset");
	come_back(world, 22, 1, 2, NULL, NULL);
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"),
			 "lost slice 1 on node node1 (its daemon came back without it)");
	world_free(world);
}

/* The guest powered off while nobody heard it. */
Test(away, an_end_that_nobody_heard)
{
	struct world *world = world_at(STEP_RUNNING);

	world_close(world, 1, "connection reset");
	/* The other slice only saw its peer go. */
	world_exit(world, 1, EXIT_NODE_LOST, "lost a peer");
	world_gone(world, 1, "exited with code 13");
	world_pass(world, 4000, 2);
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	come_back(world, 22, 0, 1, entry(world, 0, ended), NULL);
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_OK);
	cr_expect_eq(world_count(world, 22, "slice-forget"), 1);
	cr_expect_eq(vms_count(world), 0);
	world_free(world);
}

/* While its link was away it was ended elsewhere: what comes back is killed, and then free. */
Test(away, slices_of_a_vm_that_has_ended_are_killed)
{
	struct world *world = world_at(STEP_RUNNING);
	const json_t *node;

	world_close(world, 2, "connection reset");
	world_say(world, 10, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_STOPPED);
	come_back(world, 22, 1, 2, entry(world, 1, running), NULL);
	cr_expect_eq(world_count(world, 22, "slice-kill"), 1);
	for (int free = 2; free <= 4; free += 2) {
		world_open(world, 99, CONTROL_ROLE_CLI);
		world_say(world, 99, "{s:s}", "type", "nodes");
		node = json_array_get(
			json_object_get(world_last(world, 99, "nodes-list")->msg, "nodes"), 1);
		cr_expect_eq(json_integer_value(json_object_get(node, "cpus_free")), free);
		world_close(world, 99, "done");
		world_say_json(world, 22, report(world, 1, "slice-gone"));
	}
	cr_expect_eq(world_count(world, 22, "slice-forget"), 2);
	world_free(world);
}

/* What belongs to a former VM of the same name is recognised. */
Test(away, another_incarnation)
{
	struct world *world = world_at(STEP_RUNNING);

	world_say(world, 2, "{s:s, s:s, s:s, s:i, s:i, s:s}", "type", "slice-exit", "vm", "vm1",
		  "incarnation", "0123456789abcdef", "slice", 1, "code", 10, "reason", "panic");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_say(world, 2, "{s:s, s:s, s:s, s:i}", "type", "slice-stats", "vm", "vm1",
		  "incarnation", "0123456789abcdef", "slice", 1);
	cr_expect_eq(world_count(world, 2, "slice-kill"), 1);
	cr_expect_str_eq(world_text(world, 2, "slice-kill", "incarnation"), "0123456789abcdef");
	world_free(world);
}

/* ---- the owner ---- */

static void attach(struct world *world, uint64_t peer, const char *owner, json_int_t seen)
{
	world_open(world, peer, CONTROL_ROLE_CLI);
	world_say(world, peer, "{s:s, s:s, s:s, s:s, s:b, s:I}", "type", "attach", "vm", "vm1",
		  "incarnation", world_incarnation(world, "vm1"), "owner", owner, "console", 1,
		  "console_bytes", seen);
}

static char *owner_token(const struct world *world)
{
	return strdup(world_text(world, 10, "run-placed", "owner"));
}

Test(away, an_owner_comes_back)
{
	struct world *world = world_at(STEP_RUNNING);
	char *owner = owner_token(world);
	const struct coordinator_action *past;

	world_say_blob(world, 1, "console-output", "0123456789", 10);
	world_close(world, 10, "connection reset");
	world_pass(world, 30000, 2);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	attach(world, 11, owner, 4);
	cr_expect_str_eq(world_text(world, 11, "attached", "state"), "running");
	past = world_last(world, 11, "console-output");
	cr_expect_eq(past->blob_len, 6);
	cr_expect_eq(memcmp(past->blob, "456789", 6), 0);
	cr_expect_eq(world_int(world, 11, "console-output", "offset"), 4);
	world_pass(world, 120000, 2);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	/* And it is the owner as before. */
	world_say(world, 11, "{s:s}", "type", "leaving");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 2);
	free(owner);
	world_free(world);
}

static void watch_again(struct world *world, uint64_t peer, const char *incarnation,
			json_int_t seen)
{
	world_open(world, peer, CONTROL_ROLE_CLI);
	world_say(world, peer, "{s:s, s:s, s:s, s:b, s:I}", "type", "attach", "vm", "vm1",
		  "incarnation", incarnation, "console", 1, "console_bytes", seen);
}

Test(away, a_watcher_comes_back)
{
	struct world *world = world_at(STEP_RUNNING);
	const struct coordinator_action *past;
	char *incarnation;

	world_say_blob(world, 1, "console-output", "0123", 4);
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	incarnation = strdup(world_text(world, 11, "console-attached", "incarnation"));
	cr_expect_eq(world_int(world, 11, "console-attached", "console_bytes"), 4);
	world_close(world, 11, "connection reset");
	world_say_blob(world, 1, "console-output", "456789", 6);
	watch_again(world, 12, incarnation, 4);
	cr_expect_str_eq(world_text(world, 12, "attached", "state"), "running");
	past = world_last(world, 12, "console-output");
	cr_expect_eq(past->blob_len, 6);
	cr_expect_eq(memcmp(past->blob, "456789", 6), 0);
	cr_expect_eq(world_int(world, 12, "console-output", "offset"), 4);
	cr_expect_eq(world_count(world, 12, "console-credit"), 1);
	/* It is no owner: neither its leaving nor its loss ends the VM, and the owner is in its place. */
	world_say(world, 12, "{s:s}", "type", "leaving");
	world_pass(world, 120000, 2);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_say(world, 10, "{s:s}", "type", "leaving");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 2);
	free(incarnation);
	world_free(world);
}

Test(away, an_owner_that_does_not_come_back)
{
	struct world *world = world_at(STEP_RUNNING);

	world_close(world, 10, "connection reset");
	world_pass(world, 59800, 2);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_pass(world, 400, 2);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 2);
	world_free(world);
}

Test(away, only_the_owner_may_attach)
{
	struct world *world = world_at(STEP_RUNNING);

	attach(world, 11, "0123456789abcdef", 0);
	cr_expect_eq(world_count(world, 11, "attached"), 0);
	cr_expect_eq(world_count(world, 11, "error"), 1);
	world_free(world);
}

Test(away, an_owner_learns_an_end_that_it_missed)
{
	struct world *world = world_at(STEP_RUNNING);
	char *owner = owner_token(world);

	world_close(world, 10, "connection reset");
	for (unsigned i = 0; i < 2; i++) {
		world_exit(world, i, EXIT_PANIC, "the guest kernel panicked");
		world_gone(world, i, "exited");
	}
	cr_expect_eq(vms_count(world), 0);
	attach(world, 11, owner, 0);
	cr_expect_eq(world_int(world, 11, "vm-ended", "code"), EXIT_PANIC);
	watch_again(world, 12, world_incarnation(world, "vm1"), 0);
	cr_expect_eq(world_int(world, 12, "vm-ended", "code"), EXIT_PANIC);
	free(owner);
	world_free(world);
}

/* ---- a coordinator that is started anew ---- */

static json_t *record_kept(const struct world *world)
{
	for (size_t i = world->out.count; i-- > 0;)
		if (world->out.list[i].type == COORDINATOR_KEEP)
			return json_deep_copy(world->out.list[i].msg);
	cr_assert(false, "no record was kept");
	return NULL;
}

/* The same world with another coordinator, which knows the record or not. */
static struct world *started_anew(struct world *old, const json_t *record, bool restore)
{
	struct world *world = world_new();
	char why[CONTROL_WHY_MAX];

	coordinator_free(world->co);
	world->co = coordinator_new();
	coordinator_set_lease(world->co, 2, CONTROL_GRACE_MS);
	world->now_ms = old->now_ms;
	json_object_update(world->incarnations, old->incarnations);
	if (restore)
		cr_assert_eq(coordinator_restore(world->co, record, world->now_ms, why), 0, "%s",
			     why);
	return world;
}

static void is_taken_up(bool from_disk)
{
	struct world *old = world_at(STEP_RUNNING), *world;
	json_t *record = record_kept(old);
	char *owner = owner_token(old);

	world = started_anew(old, record, from_disk);
	world_free(old);
	come_back(world, 2, 1, 2, entry(world, 1, running),
		  from_disk ? NULL : json_pack("[O]", record));
	cr_expect_eq(vms_count(world), 1);
	attach(world, 10, owner, 0);
	cr_expect_eq(world_count(world, 10, "attached"), 1);
	world_pass(world, 20000, 2);
	come_back(world, 1, 0, 1, entry(world, 0, running),
		  from_disk ? NULL : json_pack("[O]", record));
	cr_expect_eq(world_int(world, 1, "console-from", "offset"), 0);
	world_pass(world, 120000, 2);
	cr_expect_eq(world_count(world, 0, "slice-kill"), 0);
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	for (unsigned i = 0; i < 2; i++) {
		world_exit(world, i, EXIT_OK, "the guest powered off");
		world_gone(world, i, "exited");
	}
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_OK);
	cr_expect_eq(vms_count(world), 0);
	/* A daemon that is late with its record does not bring it to life again. */
	world_close(world, 2, "connection reset");
	come_back(world, 22, 1, 2, entry(world, 1, running), json_pack("[O]", record));
	cr_expect_eq(vms_count(world), 0);
	cr_expect_eq(world_count(world, 22, "slice-kill"), 1);
	free(owner);
	json_decref(record);
	world_free(world);
}

Test(away, an_owner_who_is_back_before_the_daemons)
{
	struct world *old = world_at(STEP_RUNNING), *world;
	json_t *record = record_kept(old);
	char *owner = owner_token(old);

	world = started_anew(old, record, false);
	world_free(old);
	attach(world, 10, owner, 0);
	cr_expect(world_refused(world, 10), "it shall come again");
	cr_expect_eq(world_count(world, 10, "error"), 0);
	come_back(world, 2, 1, 2, entry(world, 1, running), json_pack("[O]", record));
	attach(world, 11, owner, 0);
	cr_expect_eq(world_count(world, 11, "attached"), 1);
	free(owner);
	json_decref(record);
	world_free(world);
}

Test(away, an_owner_of_a_vm_that_nobody_knows)
{
	struct world *old = world_at(STEP_RUNNING), *world;
	char *owner = owner_token(old);

	world = started_anew(old, NULL, false);
	world_free(old);
	world_pass(world, 10400, 0);
	attach(world, 10, owner, 0);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NODE_LOST);
	free(owner);
	world_free(world);
}

Test(away, a_coordinator_finds_its_vms_on_disk)
{
	is_taken_up(true);
}

Test(away, a_coordinator_finds_its_vms_at_the_daemons)
{
	is_taken_up(false);
}

Test(away, a_vm_whose_nodes_do_not_come_ends)
{
	struct world *old = world_at(STEP_RUNNING), *world;
	json_t *record = record_kept(old);

	world = started_anew(old, record, true);
	world_free(old);
	come_back(world, 1, 0, 1, entry(world, 0, running), NULL);
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s, s:s}", "type", "console", "vm", "vm1");
	world_pass(world, 60200, 1);
	cr_expect_eq(world_count(world, 1, "slice-stop"), 1);
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_NODE_LOST);
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "lost"), "node1");
	json_decref(record);
	world_free(world);
}

/* Half a start is not taken up. */
Test(away, a_start_under_way_ends)
{
	struct world *old = world_at(STEP_CONNECTING), *world;
	json_t *record = record_kept(old);

	world = started_anew(old, record, true);
	world_free(old);
	come_back(world, 1, 0, 1, entry(world, 0, half), NULL);
	cr_expect_eq(world_count(world, 1, "slice-stop"), 1);
	world_gone(world, 0, "exited");
	cr_expect_eq(vms_count(world), 0);
	json_decref(record);
	world_free(world);
}

/* Records come from disk and from daemons: none may do harm. */
Test(away, bad_records)
{
	static const char *const keys[] = {"vm",	 "incarnation", "owner",  "owned",
					   "created_ms", "append",	"cpu",	  "force",
					   "micro",	 "tsc_hz",	"slices", "devices"};
	struct world *old = world_at(STEP_RUNNING);
	json_t *record = record_kept(old);
	char why[CONTROL_WHY_MAX];

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		static const char *const values[] = {"null", "-1", "[]", "{}", "\"../x\"", "[1]"};
		for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			struct world *world = world_new();
			json_t *bad = json_deep_copy(record);
			json_object_set_new(bad, keys[i],
					    json_loads(values[v], JSON_DECODE_ANY, NULL));
			int err = coordinator_restore(world->co, bad, 1000, why);
			/* A command line may say anything, and an unknown engine is `auto`. */
			/* No devices are as good as an empty list of them. */
			if (v == 2 && strcmp(keys[i], "devices") == 0)
				cr_expect_eq(err, 0);
			else if (v != 4 || (strcmp(keys[i], "append") && strcmp(keys[i], "cpu")))
				cr_expect_lt(err, 0, "%s: %s", keys[i], values[v]);
			json_decref(bad);
			world_free(world);
		}
	}
	json_decref(record);
	world_free(old);
}
