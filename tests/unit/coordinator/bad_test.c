/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that say wrong things: refused with a sentence, and never a crash. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static bool says(const char *text, const char *part)
{
	return strstr(text, part) != NULL;
}

static void register_is_refused(const char *name, int cpus, json_int_t mem, const char *address,
				const char *part)
{
	struct world *world = world_pair();

	world_open(world, 3, CONTROL_ROLE_NODE);
	world_say(world, 3, "{s:s, s:s, s:i, s:I, s:s}", "type", "register", "name", name, "cpus",
		  cpus, "mem_bytes", mem, "data_address", address);
	world_pass(world, 400, 2); /* the first of that name is heard again */
	cr_expect(says(world_refused(world, 3), part), "%s", world_refused(world, 3));
	/* Whatever it says now, nobody listens. */
	world_clear(world);
	world_say(world, 3, "{s:s}", "type", "heartbeat");
	cr_expect_eq(world->out.count, 0);
	world_free(world);
}

Test(bad, registrations)
{
	register_is_refused("node0", 4, 1 << 30, "127.0.0.1",
			    "a node named node0 is registered already");
	register_is_refused("Node/2", 4, 1 << 30, "127.0.0.1", "\"name\" is no name");
	register_is_refused("x", 257, 1 << 30, "127.0.0.1", "\"cpus\" is 257");
	register_is_refused("x", -1, 1 << 30, "127.0.0.1", "\"cpus\" is -1");
	register_is_refused("x", 4, -1, "127.0.0.1", "\"mem_bytes\" is -1");
	register_is_refused("x", 4, 1 << 30, "localhost", "no numeric data address");
	register_is_refused("x", 4, 1 << 30, "127.0.0.1:80", "no numeric data address");
}

Test(bad, roles_and_order)
{
	struct world *world = world_pair();

	world_open(world, 3, CONTROL_ROLE_VMM);
	cr_expect(says(world_refused(world, 3), "nodes and to the command line only"));
	world_open(world, 4, CONTROL_ROLE_NODE);
	world_say(world, 4, "{s:s}", "type", "heartbeat");
	cr_expect(says(world_refused(world, 4), "register first"));
	world_say(world, 1, "{s:s}", "type", "register");
	cr_expect(says(world_refused(world, 1), "only once"));
	world_say(world, 10, "{s:s}", "type", "register");
	cr_expect(says(world_refused(world, 10), "unknown type \"register\""));
	world_free(world);
}

static void node_is_refused(enum world_step step, uint64_t peer, const char *json, const char *part)
{
	struct world *world = world_at(step);
	json_t *msg = json_loads(json, 0, NULL);

	cr_assert(msg, "%s", json);
	world_say(world, peer, "o", msg);
	cr_expect(says(world_refused(world, peer), part), "%s", world_refused(world, peer));
	/* A node that is cut off is a lost node. */
	cr_expect_eq(world_count(world, 3 - peer, "slice-stop"), step >= STEP_STARTING);
	world_free(world);
}

Test(bad, reports)
{
	node_is_refused(STEP_RUNNING, 2, "{\"type\":\"slice-started\"}", "\"vm\" is missing");
	node_is_refused(STEP_RUNNING, 2, "{\"type\":\"slice-started\",\"vm\":\"../x\"}",
			"\"vm\" is no name");
	node_is_refused(STEP_RUNNING, 2, "{\"type\":\"slice-started\",\"vm\":\"vm1\",\"slice\":2}",
			"\"slice\" is 2, outside 0..1");
	node_is_refused(STEP_RUNNING, 2, "{\"type\":\"slice-gone\",\"vm\":\"vm1\",\"slice\":0}",
			"slice 0 of VM vm1 is not on node node1");
}

/* A bad report about slice 1 of vm1: that VM ends, with a sentence; the node and its other VM stay. */
static void vm_is_ended(enum world_step step, const char *fields, const char *part)
{
	struct world *world = world_at(step);
	char json[4096];
	json_t *msg;

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_run(world, 11, 4, 512 * MIB);
	world_clear(world);
	snprintf(json, sizeof(json), "{\"vm\":\"vm1\",\"slice\":1,%s}", fields);
	msg = json_loads(json, 0, NULL);
	cr_assert(msg, "%s", json);
	world_say(world, 2, "o", msg);
	for (size_t i = 0; i < world->out.count; i++)
		cr_assert_neq(world->out.list[i].type, COORDINATOR_REFUSE, "%s", json);
	cr_expect_eq(world_count(world, 1, "slice-stop"), step >= STEP_STARTING, "%s", json);
	world_end(world);
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_NODE_LOST, "%s", json);
	cr_expect(says(world_text(world, 10, "vm-ended", "reason"),
		       "slice 1 on node node1 sent a bad report ("));
	cr_expect(says(world_text(world, 10, "vm-ended", "reason"), part), "%s",
		  world_text(world, 10, "vm-ended", "reason"));
	cr_expect_eq(world_count(world, 11, "vm-ended"), 0);
	/* The other VM goes on its way on the same nodes. */
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm2");
	cr_expect_eq(world_count(world, 2, "slice-start"), 1);
	world_free(world);
}

Test(bad, a_report_ends_its_vm_alone)
{
	char many[3000] = "\"type\":\"slice-stats\"";

	vm_is_ended(STEP_RUNNING, "\"type\":\"nonsense\"", "unknown type \"nonsense\"");
	vm_is_ended(STEP_RUNNING, "\"type\":\"slice-started\"", "out of order");
	vm_is_ended(STEP_PLACED, "\"type\":\"slice-listening\",\"port\":80", "out of order");
	vm_is_ended(STEP_STARTING, "\"type\":\"slice-listening\",\"port\":0", "\"port\" is 0");
	vm_is_ended(STEP_CONNECTING, "\"type\":\"slice-connected\",\"rtt_ns\":[1,{}]",
		    "\"rtt_ns\" has more than integers");
	vm_is_ended(STEP_CONNECTING, "\"type\":\"slice-connected\",\"links\":[\"\",\"pigeon\"]",
		    "\"links\" has an unknown word");
	vm_is_ended(STEP_CONNECTING, "\"type\":\"slice-connected\",\"links\":[\"\",7]",
		    "\"links\" has an unknown word");
	vm_is_ended(STEP_RUNNING, "\"type\":\"slice-exit\",\"code\":256,\"reason\":\"x\"",
		    "\"code\" is 256");
	vm_is_ended(STEP_RUNNING, "\"type\":\"slice-exit\",\"code\":0", "\"reason\" is missing");
	vm_is_ended(STEP_RUNNING, "\"type\":\"console-taken\",\"bytes\":-1", "\"bytes\" is -1");
	for (int i = 0; i < 65; i++)
		snprintf(many + strlen(many), sizeof(many) - strlen(many), ",\"n%d\":1", i);
	vm_is_ended(STEP_RUNNING, many, "more than 64 statistics");
}

/* Who holds a connection for nothing makes room; a terminal with a VM may be silent for ever. */
Test(bad, idle_peers)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_open(world, 12, CONTROL_ROLE_NODE);
	world_clear(world);
	world_pass(world, 29000, 2);
	for (size_t i = 0; i < world->out.count; i++)
		cr_assert_neq(world->out.list[i].type, COORDINATOR_REFUSE);
	world_pass(world, 2000, 2);
	cr_expect_str_eq(world_refused(world, 11), "it wants nothing");
	cr_expect_str_eq(world_refused(world, 12), "it wants nothing");
	world_pass(world, 600000, 2);
	for (size_t i = 0; i < world->out.count; i++)
		cr_assert(world->out.list[i].type != COORDINATOR_REFUSE ||
			  world->out.list[i].peer == 11 || world->out.list[i].peer == 12);
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	world_free(world);
}

/* Who sends more of its kernel than its window ends alone; the boot node's queue never fills. */
Test(bad, an_upload_beyond_its_window)
{
	static uint8_t piece[CONTROL_UPLOAD_PIECE];
	struct world *world = world_pair();

	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i}", "type", "run",
		  "slices", "append", "", "kernel_bytes", 1 << 20, "initrd_bytes", 0, "console", 1,
		  "cpus", 1, "mem_bytes", (json_int_t)(64 * MIB), "nodes", 0);
	for (unsigned i = 0; i < CONTROL_UPLOAD_WINDOW / CONTROL_UPLOAD_PIECE; i++)
		world_chunk(world, 10, piece, sizeof(piece));
	cr_expect_eq(world_count(world, 1, "file-chunk"), 3);
	world_say(world, 1, "{s:s, s:s, s:i}", "type", "file-ack", "vm", "vm1", "bytes",
		  (int)sizeof(piece));
	world_chunk(world, 10, piece, sizeof(piece));
	cr_expect_eq(world_count(world, 1, "file-chunk"), 4);
	world_chunk(world, 10, piece, 1);
	cr_expect(says(world_refused(world, 10), "1 bytes of a file came where 0 were allowed"));
	cr_expect_eq(world_count(world, 1, "file-chunk"), 4);
	cr_expect_eq(world_count(world, 1, "vm-forget"), 1);
	world_free(world);
}

/* A sentence from elsewhere can be long, and cut in the middle of a letter. */
Test(bad, reasons_are_cleaned)
{
	struct world *world = world_at(STEP_RUNNING);
	char reason[1000];

	for (size_t i = 0; i + 2 < sizeof(reason); i += 2)
		memcpy(reason + i, "\xc3\xa4", 2);
	reason[sizeof(reason) - 2] = 0;
	world_exit(world, 0, EXIT_PANIC, reason);
	world_gone(world, 0, reason);
	world_gone(world, 1, reason);
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_PANIC);
	for (const char *p = world_text(world, 10, "vm-ended", "reason"); *p; p++)
		cr_assert_eq(*p, '?');
	world_free(world);
}

Test(bad, run_requests)
{
	struct world *world = world_pair();

	world_say(world, 10, "{s:s}", "type", "run");
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	world_say(world, 10, "{s:s, s:s}", "type", "run", "name", "../../etc");
	cr_expect(says(world_text(world, 10, "error", "reason"), "\"name\" is no name"));
	world_say(world, 10, "{s:s, s:s, s:I}", "type", "run", "append", "", "kernel_bytes",
		  (json_int_t)1 << 30);
	cr_expect(says(world_text(world, 10, "error", "reason"), "\"kernel_bytes\" is 1073741824"));
	cr_expect_eq(world_count(world, 10, "run-placed"), 0);
	/* Not for a VM it does not own, nor for none. */
	world_clear(world);
	world_chunk(world, 10, "x", 1);
	world_say_blob(world, 10, "console-input", "x", 1);
	cr_expect_eq(world->out.count, 0);
	world_free(world);
}

Test(bad, too_many_vms_and_peers)
{
	struct world *world = world_new();

	for (unsigned i = 0; i < 64; i++) {
		char name[16];
		snprintf(name, sizeof(name), "n%u", i);
		world_node(world, i + 1, name, 4, GIB);
	}
	for (unsigned i = 0; i < 65; i++) {
		world_open(world, 100 + i, CONTROL_ROLE_CLI);
		world_run(world, 100 + i, 1, 2 * MIB);
	}
	cr_expect_eq(world_count(world, 0, "run-placed"), 64);
	cr_expect(says(world_text(world, 164, "error", "reason"), "64 VMs already"));
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++)
		world_open(world, 1000 + i, CONTROL_ROLE_CLI);
	cr_expect(says(world_refused(world, 1000 + CONTROL_CONNS_MAX - 1), "too many connections"));
	world_free(world);
}

/* ---- random events: nothing may break an invariant, and time must clean everything up ---- */

static const char *const types[] = {
	"register",
	"heartbeat",
	"leaving",
	"files-stored",
	"files-failed",
	"file-ack",
	"slice-listening",
	"slice-connected",
	"slice-started",
	"slice-stats",
	"slice-exit",
	"slice-gone",
	"console-output",
	"nodes",
	"vms",
	"run",
	"file-chunk",
	"stop",
	"button",
	"reset",
	"console",
	"console-input",
	"detach",
	"x",
	"slice-listening",
	"slice-connected",
	"slice-started",
	"files-stored",
	"run",
	"run",
};

static json_t *random_message(unsigned *seed)
{
	char vm[8], name[16];
	static const int codes[] = {0, 1, 5, 10, 11, 12, 13, 13, 14, 200};

	snprintf(vm, sizeof(vm), "vm%d", 1 + rand_r(seed) % 4);
	snprintf(name, sizeof(name), "n%d", rand_r(seed) % 6);
	json_t *msg = json_pack(
		"{s:s, s:s, s:i, s:i, s:s, s:i, s:s, s:I, s:s, s:s, s:i, s:i, s:i, s:[], s:b, "
		"s:i}",
		"type", types[(unsigned)rand_r(seed) % (sizeof(types) / sizeof(types[0]))], "vm",
		vm, "slice", rand_r(seed) % 3, "port", 1 + rand_r(seed) % 65535, "reason",
		"because", "cpus", 1 + rand_r(seed) % 3, "data_address", "127.0.0.1", "mem_bytes",
		(json_int_t)(2 * MIB) * (1 + rand_r(seed) % 8), "how", "killed", "append", "",
		"kernel_bytes", 1, "initrd_bytes", 0, "nodes", rand_r(seed) % 3, "slices",
		"console", rand_r(seed) % 2, "code", codes[(unsigned)rand_r(seed) % 10]);
	cr_assert(msg);
	if (control_is(msg, "register"))
		json_object_set_new(msg, "name", json_string(name));
	return msg;
}

static void random_event(struct world *world, unsigned *seed, uint64_t *next_peer)
{
	uint64_t peer = *next_peer - (uint64_t)(rand_r(seed) % 12);
	int kind = rand_r(seed) % 100;

	if (kind < 4) {
		world_open(world, ++*next_peer,
			   rand_r(seed) % 2 ? CONTROL_ROLE_NODE : CONTROL_ROLE_CLI);
	} else if (kind < 6) {
		world_close(world, peer, "closed");
	} else if (kind < 10) {
		world_pass(world, 200u << (rand_r(seed) % 5), 0);
	} else {
		/* Real nodes say the right things much of the time: address slices well. */
		for (size_t i = world->out.count; i-- > 0 && kind < 70;) {
			const struct coordinator_action *action = &world->out.list[i];
			if (!action->msg || !json_object_get(action->msg, "slice"))
				continue;
			json_t *msg = random_message(seed);
			json_object_set(msg, "vm", json_object_get(action->msg, "vm"));
			json_object_set(msg, "slice", json_object_get(action->msg, "slice"));
			world_say(world, action->peer, "o", msg);
			return;
		}
		world_say(world, peer, "o", random_message(seed));
	}
}

Test(bad, random_events, .timeout = 100)
{
	for (unsigned round = 0; round < 300; round++) {
		unsigned seed = 7000 + round;
		struct world *world = world_new();
		uint64_t next_peer = 20;
		for (uint64_t i = 9; i <= 20; i++)
			world_open(world, i, i % 3 ? CONTROL_ROLE_NODE : CONTROL_ROLE_CLI);
		for (int i = 0; i < 400; i++) {
			random_event(world, &seed, &next_peer);
			if (world->out.count > 300)
				world_clear(world);
		}
		/* Without heartbeats all nodes go, and every VM ends. */
		world_pass(world, 90000, 0);
		world_clear(world);
		world_open(world, 100000, CONTROL_ROLE_CLI);
		world_say(world, 100000, "{s:s}", "type", "vms");
		world_say(world, 100000, "{s:s}", "type", "nodes");
		cr_assert_eq(json_array_size(json_object_get(
				     world_last(world, 100000, "vms-list")->msg, "vms")),
			     0, "seed %u", 7000 + round);
		cr_assert_eq(json_array_size(json_object_get(
				     world_last(world, 100000, "nodes-list")->msg, "nodes")),
			     0, "seed %u", 7000 + round);
		world_free(world);
	}
}
