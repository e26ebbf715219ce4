/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's life: the happy path, and every way and state in which it can end. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static void ended_with(const struct world *world, int code, const char *reason, const char *lost)
{
	cr_expect_eq(world_count(world, 10, "vm-ended"), 1);
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), code);
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"), reason);
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "lost"), lost);
}

/* Everything that is registered is free again, and no VM is left. */
static void all_is_free(struct world *world)
{
	const json_t *node, *list;
	size_t i;

	world_clear(world);
	world_open(world, 99, CONTROL_ROLE_CLI);
	world_say(world, 99, "{s:s}", "type", "nodes");
	list = json_object_get(world_last(world, 99, "nodes-list")->msg, "nodes");
	json_array_foreach(list, i, node)
	{
		cr_expect_eq(json_integer_value(json_object_get(node, "cpus_free")), 4);
		cr_expect_eq(json_integer_value(json_object_get(node, "mem_free_bytes")),
			     (json_int_t)GIB);
	}
	world_say(world, 99, "{s:s}", "type", "vms");
	list = json_object_get(world_last(world, 99, "vms-list")->msg, "vms");
	cr_expect_eq(json_array_size(list), 0);
	world_close(world, 99, "done");
}

static bool run_says(const struct world *world, uint64_t peer, const char *key, const char *json)
{
	json_t *want = json_loads(json, 0, NULL);
	bool same =
		json_equal(want, json_object_get(world_last(world, peer, "slice-run")->msg, key));

	json_decref(want);
	return same;
}

static bool run_has(const struct world *world, uint64_t peer, const char *json)
{
	return run_says(world, peer, "distances", json);
}

/* Entry i of the keys that the daemon's slice was given. */
static const char *link_key(struct world *world, uint64_t daemon, size_t i)
{
	const json_t *msg = world_last(world, daemon, "slice-start")->msg;

	return json_string_value(json_array_get(json_object_get(msg, "link_keys"), i));
}

/* Starts a VM of client 10 with this secret on its way; its slices have their keys then. */
static void vm_of_secret(struct world *world, uint8_t secret)
{
	memset(world->fresh_secret, secret, sizeof(world->fresh_secret));
	world_run(world, 10, 4, 512 * MIB);
	memset(world->fresh_secret, 77, sizeof(world->fresh_secret));
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm",
		  world_text(world, 10, "run-placed", "vm"));
}

/* Each slice has the keys that it shares with others; they come of what was drawn for this VM. */
Test(life, each_slice_gets_its_own_row_of_keys)
{
	struct world *world = world_pair();
	uint8_t secret[PAIR_SECRET_SIZE];
	struct pair_keys keys;
	char text[2 * PAIR_KEY_SIZE + 1];

	vm_of_secret(world, 5);
	cr_expect_str_eq(link_key(world, 1, 0), "");
	cr_expect_str_eq(link_key(world, 2, 1), "");
	cr_expect_str_eq(link_key(world, 1, 1), link_key(world, 2, 0));
	memset(secret, 5, sizeof(secret));
	pair_keys_derive(secret, strtoull(world_incarnation(world, "vm1"), NULL, 16), 1, 0, 2,
			 &keys);
	for (unsigned i = 0; i < PAIR_KEY_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", keys.key[1][i]);
	cr_expect_str_eq(link_key(world, 1, 1), text);
	world_free(world);
}

/* Neither the record, which every daemon of the VM keeps, nor what clients are told has a key. */
Test(life, nobody_else_is_given_a_key)
{
	struct world *world = world_pair();
	const char *key;

	vm_of_secret(world, 9);
	key = link_key(world, 1, 1);
	cr_assert_eq(strlen(key), 2 * PAIR_KEY_SIZE);
	for (size_t i = 0; i < world->out.count; i++) {
		json_t *msg = world->out.list[i].msg;
		char *text = msg ? json_dumps(msg, 0) : NULL;
		const char *at = text ? strstr(text, key) : NULL;

		cr_expect(!at || (control_is(msg, "slice-start") && !strstr(at + 1, key)),
			  "a key is said in %s", text);
		cr_expect(!text || !strstr(text, "0909090909"), "the secret is said in %s", text);
		free(text);
	}
	world_free(world);
}

Test(life, happy_path)
{
	struct world *world = world_pair();
	const json_t *msg;

	world_run(world, 10, 4, 512 * MIB);
	cr_expect_str_eq(world_text(world, 10, "run-placed", "vm"), "vm1");
	cr_expect_eq(world_int(world, 1, "files-begin", "kernel_bytes"), 5);
	world_chunk(world, 10, "abcde", 5);
	cr_expect_eq(world_last(world, 1, "file-chunk")->blob_len, 5);
	world_say(world, 1, "{s:s, s:s, s:i}", "type", "file-ack", "vm", "vm1", "bytes", 5);
	cr_expect_eq(world_count(world, 10, "file-ack"), 1);
	cr_expect_eq(world_count(world, 0, "slice-start"), 0);

	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	msg = world_last(world, 2, "slice-start")->msg;
	cr_expect_eq(json_integer_value(json_object_get(msg, "slice")), 1);
	cr_expect_str_eq(json_string_value(json_object_get(msg, "append")), "quiet");
	cr_expect_eq(json_array_size(json_object_get(msg, "link_keys")), 2);
	cr_expect_str_eq(json_string_value(json_object_get(msg, "encryption")), "on");
	cr_expect_eq(json_array_size(json_object_get(msg, "slices")), 2);

	world_slice(world, 1, "slice-listening");
	cr_expect_eq(world_count(world, 0, "slice-connect"), 0);
	world_slice(world, 0, "slice-listening");
	msg = world_last(world, 1, "slice-connect")->msg;
	cr_expect_str_eq(json_string_value(json_array_get(json_object_get(msg, "addresses"), 1)),
			 "127.0.0.1:5001");

	world_slice(world, 0, "slice-connected");
	world_slice(world, 1, "slice-connected");
	cr_expect(run_has(world, 2, "[[10,254],[254,10]]"));
	world_slice(world, 0, "slice-started");
	world_slice(world, 1, "slice-started");
	cr_expect_str_eq(world_text(world, 10, "vm-state", "state"), "running");

	world_say_blob(world, 1, "console-output", "login:", 6);
	cr_expect_eq(world_last(world, 10, "console-output")->blob_len, 6);
	world_say_blob(world, 10, "console-input", "root", 4);
	cr_expect_eq(world_last(world, 1, "console-input")->blob_len, 4);
	cr_expect_eq(world_count(world, 2, "console-input"), 0);

	/* The guest may run for as long as it likes. */
	world_pass(world, 3600 * 1000, 2);
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);

	world_say(world, 2, "{s:s, s:s, s:i, s:i}", "type", "slice-stats", "vm", "vm1", "slice", 1,
		  "faults_read", 7);
	world_exit(world, 0, EXIT_OK, "the guest powered off");
	cr_expect_eq(world_count(world, 2, "slice-stop"), 1);
	cr_expect_eq(world_count(world, 1, "slice-stop"), 0);
	world_gone(world, 0, "exited with code 0");
	world_exit(world, 1, EXIT_STOPPED, "stopped");
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	world_gone(world, 1, "exited with code 14");
	ended_with(world, EXIT_OK, "the guest powered off", "");
	cr_expect_eq(world_count(world, 1, "vm-forget"), 1);
	msg = json_array_get(json_object_get(world_last(world, 10, "vm-ended")->msg, "slices"), 1);
	cr_expect_eq(
		json_integer_value(json_object_get(json_object_get(msg, "stats"), "faults_read")),
		7);
	all_is_free(world);
	world_free(world);
}

/* Three nodes and a client, whose VM has a slice on each; all listen. */
static void three_listening(struct world *world)
{
	static const char *const names[] = {"a", "b", "c"};

	for (unsigned i = 0; i < 3; i++)
		world_node(world, i + 1, names[i], 4, GIB);
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_run(world, 10, 3, 6 * MIB);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	for (unsigned i = 0; i < 3; i++)
		world_slice(world, i, "slice-listening");
}

Test(life, distances_follow_round_trips)
{
	struct world *world = world_new();
	/* a-b 30 us (one end measured 33), a-c 61 us, b-c never measured */
	static const int rtt[3][3] = {{0, 33000, 61000}, {30000, 0, 0}, {60000, 0, 0}};

	three_listening(world);
	for (unsigned i = 0; i < 3; i++)
		world_say(world, i + 1, "{s:s, s:s, s:i, s:[i,i,i]}", "type", "slice-connected",
			  "vm", "vm1", "slice", (int)i, "rtt_ns", rtt[i][0], rtt[i][1], rtt[i][2]);
	cr_expect(run_has(world, 3, "[[10,127,254],[127,10,127],[254,127,10]]"));
	cr_expect(run_says(world, 1, "latencies_ns", "[[0,30000,60000],[30000,0,0],[60000,0,0]]"));
	world_free(world);
}

/* Three slices, of which the first two speak over this and others over TLS. */
static struct world *world_linked(const char *word)
{
	const char *links[3][3] = {{"", word, "tls"}, {word, "", "tls"}, {"tls", "tls", ""}};
	struct world *world = world_new();

	three_listening(world);
	for (unsigned i = 0; i < 3; i++)
		world_say(world, i + 1, "{s:s, s:s, s:i, s:[i,i,i], s:[s,s,s]}", "type",
			  "slice-connected", "vm", "vm1", "slice", (int)i, "rtt_ns", 1, 2, 3,
			  "links", links[i][0], links[i][1], links[i][2]);
	return world;
}

/* Who runs it hears of links that nothing encrypts, and who looks sees what carries each. */
Test(life, links_are_told)
{
	struct world *world = world_linked("rdma");
	json_t *slices, *links;

	cr_expect_eq(world_int(world, 10, "vm-links", "rdma_pairs"), 1);
	world_open(world, 20, CONTROL_ROLE_CLI);
	world_say(world, 20, "{s:s}", "type", "vms");
	slices = json_object_get(
		json_array_get(json_object_get(world_last(world, 20, "vms-list")->msg, "vms"), 0),
		"slices");
	links = json_object_get(json_array_get(slices, 1), "links");
	cr_expect_str_eq(json_string_value(json_array_get(links, 0)), "rdma");
	cr_expect_str_eq(json_string_value(json_array_get(links, 2)), "tls");
	cr_expect_eq(json_integer_value(json_array_get(
			     json_object_get(json_array_get(slices, 1), "rtt_ns"), 2)),
		     3);
	world_free(world);
	world = world_linked("shm");
	cr_expect_eq(world_count(world, 10, "vm-links"), 0);
	world_free(world);
}

Test(life, distances_are_clipped)
{
	struct world *world = world_new();
	static const json_int_t rtt[3][3] = {{0, 1, INT64_MAX}, {1, 0, 0}, {0, 0, 0}};

	three_listening(world);
	for (unsigned i = 0; i < 3; i++)
		world_say(world, i + 1, "{s:s, s:s, s:i, s:[I,I,I]}", "type", "slice-connected",
			  "vm", "vm1", "slice", (int)i, "rtt_ns", rtt[i][0], rtt[i][1], rtt[i][2]);
	cr_expect(run_has(world, 1, "[[10,40,254],[40,10,40],[254,40,10]]"));
	cr_expect(
		run_says(world, 1, "latencies_ns", "[[0,1,1000000000],[1,0,0],[1000000000,0,0]]"));
	world_free(world);
}

/* What the owner says counts, whatever was measured; what is no distance is refused. */
Test(life, distances_as_the_owner_says)
{
	static const int values[] = {10, 255, -1, 15};
	struct world *world = world_pair();

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		cr_expect_eq(world_count(world, 10, "error"), i);
		cr_expect_eq(world_count(world, 10, "run-placed"), 0);
		world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:i}", "type",
			  "run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
			  "console", 1, "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", 0,
			  "distance", values[i]);
	}
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	for (unsigned i = 0; i < 2; i++)
		world_slice(world, i, "slice-listening");
	for (unsigned i = 0; i < 2; i++)
		world_slice(world, i, "slice-connected");
	cr_expect(run_has(world, 2, "[[10,15],[15,10]]"));
	world_free(world);
}

static void run_with_profile(struct world *world, uint64_t client, const char *profile,
			     const char *append, int nodes)
{
	world_say(world, client, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:s}", "type",
		  "run", "slices", "append", append, "kernel_bytes", 5, "initrd_bytes", 0,
		  "console", 1, "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", nodes,
		  "profile", profile);
}

/* The words come before the owner's, are told with reasons, and go by the slices that the VM got. */
Test(life, profile_by_the_shape)
{
	static const char *const profiles[] = {"plain", "spanning"};

	for (int nodes = 1; nodes <= 2; nodes++) {
		struct world *world = world_pair();
		const char *append;
		json_t *words;

		run_with_profile(world, 10, "auto", "nokaslr quiet", nodes);
		cr_expect_str_eq(world_text(world, 10, "run-placed", "profile"),
				 profiles[nodes - 1]);
		words = json_object_get(world_last(world, 10, "run-placed")->msg, "words");
		cr_expect_gt(json_array_size(words), 0);
		cr_expect(json_string_value(json_object_get(json_array_get(words, 0), "why")));
		world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
		append = world_text(world, 1, "slice-start", "append");
		cr_expect_eq(strstr(append, "nohz_full=1-3 ") != NULL, nodes == 2);
		cr_expect_eq(strstr(append, "nokaslr"), strstr(append, "nokaslr quiet"), "once");
		world_free(world);
	}
}

Test(life, profile_none_or_wrong_or_too_long)
{
	struct world *world = world_pair();
	char append[CMDLINE_MAX];

	memset(append, 'x', sizeof(append));
	append[sizeof(append) - 1] = 0;
	run_with_profile(world, 10, "fast", "", 2);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	run_with_profile(world, 10, "spanning", append, 2);
	cr_expect_eq(world_count(world, 10, "error"), 2);
	run_with_profile(world, 10, "none", append, 2);
	cr_expect_eq(world_count(world, 10, "error"), 2);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	cr_expect_str_eq(world_text(world, 1, "slice-start", "append"), append);
	world_free(world);
}

Test(life, guest_ends_have_their_codes)
{
	static const int codes[] = {EXIT_PANIC, EXIT_TRIPLE_FAULT, EXIT_RESET, EXIT_IMAGE};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		struct world *world = world_at(STEP_RUNNING);
		world_exit(world, 0, codes[i], "because");
		world_gone(world, 0, "exited");
		world_exit(world, 1, EXIT_STOPPED, "stopped");
		world_gone(world, 1, "exited");
		ended_with(world, codes[i], "because", "");
		all_is_free(world);
		world_free(world);
	}
}

/* A daemon is lost: in every state the VM ends on the other one and the CLI is told which. */
Test(life, node_lost_in_every_state)
{
	for (int step = STEP_PLACED; step <= STEP_RUNNING; step++) {
		for (unsigned victim = 0; victim < 2; victim++) {
			struct world *world = world_at((enum world_step)step);
			unsigned other = 1 - victim;
			char reason[128], name[8];
			snprintf(name, sizeof(name), "node%u", victim);
			snprintf(reason, sizeof(reason), "lost node %s (connection reset)", name);
			world_close(world, victim + 1, "connection reset");
			if (step == STEP_RUNNING) {
				/* It may come back; the grace time counts from its last word. */
				world_pass(world, 59800, 2);
				cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
				world_pass(world, 200, 2);
				snprintf(reason, sizeof(reason),
					 "lost node %s (connection reset; it did not come back "
					 "within 60 s)",
					 name);
			}
			if (step >= STEP_STARTING) {
				cr_expect_eq(world_count(world, other + 1, "slice-stop"), 1);
				cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
				world_exit(world, other, EXIT_STOPPED, "stopped");
				world_gone(world, other, "exited");
			}
			ended_with(world, EXIT_NODE_LOST, reason, name);
			all_is_free(world);
			world_free(world);
		}
	}
}

/* The same for a slice's process. */
Test(life, slice_lost_in_every_state)
{
	for (int step = STEP_STARTING; step <= STEP_RUNNING; step++) {
		struct world *world = world_at((enum world_step)step);
		world_gone(world, 1, "killed by signal 9");
		world_exit(world, 0, EXIT_NODE_LOST, "lost a peer");
		world_gone(world, 0, "exited with code 13");
		ended_with(world, EXIT_NODE_LOST, "lost slice 1 on node node1 (killed by signal 9)",
			   "node1");
		all_is_free(world);
		world_free(world);
	}
}

Test(life, the_victim_reports_before_the_culprit_is_known)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, EXIT_NODE_LOST, "lost a peer");
	world_gone(world, 0, "exited with code 13");
	world_pass(world, 1000, 2);
	world_gone(world, 1, "killed by signal 9");
	ended_with(world, EXIT_NODE_LOST, "lost slice 1 on node node1 (killed by signal 9)",
		   "node1");
	world_free(world);

	world = world_at(STEP_RUNNING);
	world_exit(world, 0, EXIT_NODE_LOST, "lost a peer");
	world_gone(world, 0, "exited with code 13");
	world_close(world, 2, "connection closed by the peer");
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	world_pass(world, 10000, 1);
	ended_with(world, EXIT_NODE_LOST, "lost node node1 (connection closed by the peer)",
		   "node1");
	world_free(world);
}

Test(life, a_victim_without_a_culprit_is_believed_after_a_while)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, EXIT_NODE_LOST, "lost its link to slice 1");
	world_gone(world, 0, "exited with code 13");
	world_exit(world, 1, EXIT_STOPPED, "stopped");
	world_gone(world, 1, "exited with code 14");
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	world_pass(world, 2200, 2);
	ended_with(world, EXIT_NODE_LOST, "slice 0 on node node0 reports: lost its link to slice 1",
		   "");
	all_is_free(world);
	world_free(world);
}

/* Slice 0 powers off; slice 1 sees the closed connection first. */
Test(life, a_power_off_beats_hearsay)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 1, EXIT_NODE_LOST, "lost a peer");
	world_exit(world, 0, EXIT_OK, "the guest powered off");
	world_gone(world, 1, "exited with code 13");
	world_gone(world, 0, "exited with code 0");
	ended_with(world, EXIT_OK, "the guest powered off", "");
	world_free(world);
}

Test(life, the_first_cause_stays)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, EXIT_PANIC, "the guest kernel panicked");
	world_gone(world, 1, "killed by signal 6");
	world_close(world, 1, "connection reset");
	ended_with(world, EXIT_PANIC, "the guest kernel panicked", "");
	world_free(world);
}

Test(life, stop)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(world_count(world, i + 1, "slice-stop"), 1);
		world_exit(world, i, EXIT_STOPPED, "stopped");
		world_gone(world, i, "exited");
	}
	ended_with(world, EXIT_STOPPED, exit_text(EXIT_STOPPED), "");
	cr_expect_eq(world_count(world, 11, "vm-ended"), 1);
	world_say(world, 11, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	cr_expect_str_eq(world_text(world, 11, "error", "reason"), "there is no VM named vm1");
	all_is_free(world);
	world_free(world);
}

/* The button is slice 0's alone; the guest does with it what it likes. */
Test(life, button)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "button", "vm", "vm1");
	cr_expect_eq(world_count(world, 1, "slice-button"), 1);
	cr_expect_eq(world_count(world, 2, "slice-button"), 0);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	cr_expect_str_eq(world_text(world, 11, "button-pressed", "vm"), "vm1");
	world_say(world, 11, "{s:s, s:s}", "type", "button", "vm", "vm1");
	cr_expect_eq(world_count(world, 1, "slice-button"), 2);
	world_exit(world, 0, EXIT_OK, "the guest powered off");
	/* One that ends is not pressed. */
	world_say(world, 11, "{s:s, s:s}", "type", "button", "vm", "vm1");
	cr_expect_eq(world_count(world, 1, "slice-button"), 2);
	for (unsigned i = 0; i < 2; i++)
		world_gone(world, i, "exited");
	ended_with(world, EXIT_OK, "the guest powered off", "");
	cr_expect_eq(world_count(world, 11, "vm-ended"), 1);
	world_say(world, 11, "{s:s, s:s}", "type", "button", "vm", "vm1");
	cr_expect_str_eq(world_text(world, 11, "error", "reason"), "there is no VM named vm1");
	all_is_free(world);
	world_free(world);
}

/* A VM without a guest has nobody to hear a button. */
Test(life, button_before_it_runs)
{
	for (int step = STEP_PLACED; step < STEP_RUNNING; step++) {
		struct world *world = world_at((enum world_step)step);
		world_open(world, 11, CONTROL_ROLE_CLI);
		world_say(world, 11, "{s:s, s:s}", "type", "button", "vm", "vm1");
		for (unsigned i = 0; step > STEP_PLACED && i < 2; i++)
			world_gone(world, i, "exited");
		cr_expect_eq(world_count(world, 0, "slice-button"), 0);
		cr_expect_eq(world_count(world, 11, "button-pressed"), 0);
		ended_with(world, EXIT_STOPPED, exit_text(EXIT_STOPPED), "");
		cr_expect_eq(world_count(world, 11, "vm-ended"), 1);
		all_is_free(world);
		world_free(world);
	}
}

/* Its owner is told to start it again; those who say so by a code of their own are not believed. */
Test(life, reset)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "reset", "vm", "vm1");
	for (unsigned i = 0; i < 2; i++) {
		cr_expect_eq(world_count(world, i + 1, "slice-stop"), 1);
		world_exit(world, i, EXIT_STOPPED, "stopped");
		world_gone(world, i, "exited");
	}
	ended_with(world, EXIT_RESET, "the virtual machine was reset from outside", "");
	cr_expect(json_is_true(json_object_get(world_last(world, 10, "vm-ended")->msg, "again")));
	cr_expect_eq(world_count(world, 11, "vm-ended"), 1);
	all_is_free(world);
	world_free(world);

	world = world_at(STEP_RUNNING);
	world_exit(world, 0, EXIT_RESET, "the guest asked for a reset");
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "reset", "vm", "vm1");
	for (unsigned i = 0; i < 2; i++)
		world_gone(world, i, "exited");
	ended_with(world, EXIT_RESET, "the guest asked for a reset", "");
	cr_expect_null(json_object_get(world_last(world, 10, "vm-ended")->msg, "again"));
	world_free(world);
}

/* Nobody would start it again. */
Test(life, no_reset_of_a_detached_one)
{
	struct world *world = world_at(STEP_RUNNING);

	world_say(world, 10, "{s:s}", "type", "detach");
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "reset", "vm", "vm1");
	cr_expect_str_eq(world_text(world, 11, "error", "reason"),
			 "VM vm1 has left its 'pangea run', and nothing would start it again: only "
			 "one that was run by 'pangea run -d' is started again by the coordinator");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_free(world);
}

Test(life, ends_with_its_terminal_unless_detached)
{
	struct world *world = world_at(STEP_RUNNING);

	world_say(world, 10, "{s:s}", "type", "detach");
	world_close(world, 10, "closed");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_free(world);

	world = world_at(STEP_RUNNING);
	world_say(world, 10, "{s:s}", "type", "leaving");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 2);
	for (unsigned i = 0; i < 2; i++)
		world_gone(world, i, "exited");
	all_is_free(world);
	world_free(world);
}

/* In each state before running: one slice does nothing, and its deadline names it. */
Test(life, every_state_has_a_deadline)
{
	static const char *const reports[] = {NULL, "slice-listening", "slice-connected",
					      "slice-started"};
	static const char *const reasons[] = {
		"the kernel did not arrive at node node0 within 30 s",
		"slice 1 on node node1 did not start within 20 s",
		"slice 1 on node node1 did not connect to its peers within 30 s",
		"slice 1 on node node1 did not begin to run within 30 s",
	};

	for (int step = STEP_PLACED; step < STEP_RUNNING; step++) {
		struct world *world = world_at((enum world_step)step);
		if (step >= STEP_STARTING)
			world_slice(world, 0, reports[step]);
		world_pass(world, 19000, 2);
		cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
		world_pass(world, 11200, 2);
		if (step >= STEP_STARTING) {
			world_exit(world, 0, EXIT_STOPPED, "stopped");
			world_gone(world, 0, "exited");
			world_gone(world, 1, "exited");
		}
		ended_with(world, step == STEP_PLACED ? EXIT_ERROR : EXIT_NODE_LOST, reasons[step],
			   step == STEP_PLACED ? "" : "node1");
		all_is_free(world);
		world_free(world);
	}
}

Test(life, a_slice_that_does_not_stop_is_killed)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, EXIT_OK, "the guest powered off");
	world_gone(world, 0, "exited with code 0");
	world_pass(world, 5200, 2);
	cr_expect_eq(world_count(world, 2, "slice-kill"), 1);
	cr_expect_eq(world_count(world, 1, "slice-kill"), 0);
	world_gone(world, 1, "killed by signal 9");
	ended_with(world, EXIT_OK, "the guest powered off", "");
	world_free(world);
}

Test(life, a_daemon_that_cannot_kill_is_cut_off)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, EXIT_OK, "the guest powered off");
	world_gone(world, 0, "exited with code 0");
	world_pass(world, 10600, 2);
	cr_expect_str_eq(world_refused(world, 2), "its daemon did not end VM vm1");
	ended_with(world, EXIT_OK, "the guest powered off", "");
	all_is_free(world);
	world_free(world);
}

Test(life, a_silent_node_is_lost)
{
	struct world *world = world_at(STEP_RUNNING);

	world_pass(world, 9000, 1);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_pass(world, 1400, 1);
	cr_expect_str_eq(world_refused(world, 2), "no sign of life for 10 s");
	world_pass(world, 49000, 1);
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_pass(world, 1000, 1);
	world_exit(world, 0, EXIT_STOPPED, "stopped");
	world_gone(world, 0, "exited");
	ended_with(world, EXIT_NODE_LOST,
		   "lost node node1 (no sign of life for 10 s; it did not come back within 60 s)",
		   "node1");
	all_is_free(world);
	world_free(world);
}

Test(life, a_node_says_why_it_leaves)
{
	struct world *world = world_at(STEP_RUNNING);

	world_say(world, 2, "{s:s, s:s}", "type", "leaving", "reason", "the daemon was stopped");
	world_close(world, 2, "connection closed by the peer");
	world_gone(world, 0, "exited");
	ended_with(world, EXIT_NODE_LOST, "lost node node1 (the daemon was stopped)", "node1");
	world_free(world);
}

Test(life, the_boot_node_cannot_keep_the_kernel)
{
	struct world *world = world_at(STEP_PLACED);

	world_say(world, 1, "{s:s, s:s, s:s}", "type", "files-failed", "vm", "vm1", "reason",
		  "No space left on device");
	ended_with(world, EXIT_ERROR, "node node0 cannot keep the kernel: No space left on device",
		   "");
	all_is_free(world);
	world_free(world);
}

Test(life, resources_are_counted_while_it_runs)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_run(world, 11, 5, 64 * MIB);
	cr_expect_str_eq(world_text(world, 11, "error", "reason"),
			 "needs 5 CPUs, the nodes have 4 free: node0 2, node1 2");
	world_run(world, 11, 4, 64 * MIB);
	cr_expect_str_eq(world_text(world, 11, "run-placed", "vm"), "vm2");
	world_run(world, 11, 1, 64 * MIB);
	cr_expect_str_eq(world_text(world, 11, "error", "reason"),
			 "this connection has a VM already");
	world_free(world);
}

Test(life, a_late_console_sees_the_last_64_kib)
{
	struct world *world = world_at(STEP_RUNNING);
	char line[1000];
	const struct coordinator_action *action;

	for (int i = 0; i < 200; i++) {
		memset(line, 'a' + i % 26, sizeof(line));
		world_say_blob(world, 1, "console-output", line, sizeof(line));
	}
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	action = world_last(world, 11, "console-attached");
	cr_assert_eq(action->blob_len, 65536);
	for (size_t i = 0; i < action->blob_len; i++) {
		size_t at = 200 * 1000 - 65536 + i;
		cr_assert_eq(action->blob[i], 'a' + at / 1000 % 26);
	}
	world_clear(world);
	world_say_blob(world, 1, "console-output", "more", 4);
	cr_expect_eq(world_count(world, 10, "console-output"), 1);
	cr_expect_eq(world_count(world, 11, "console-output"), 1);
	/* A watcher that goes does not end the VM. */
	world_close(world, 11, "closed");
	cr_expect_eq(world_count(world, 0, "slice-stop"), 0);
	world_free(world);
}

Test(life, a_huge_piece_of_output_keeps_its_end)
{
	struct world *world = world_at(STEP_RUNNING);
	uint8_t *big = calloc(1, 70000);

	big[69999] = 'z';
	world_say_blob(world, 1, "console-output", big, 70000);
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "console", "vm", "vm1");
	cr_assert_eq(world_last(world, 11, "console-attached")->blob_len, 65536);
	cr_expect_eq(world_last(world, 11, "console-attached")->blob[65535], 'z');
	free(big);
	world_free(world);
}
