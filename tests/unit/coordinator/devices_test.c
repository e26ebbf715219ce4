/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's disks and networks: to their slices, into the record and lists, and what is told of their ends. */
#include <criterion/criterion.h>
#include <string.h>

#include "control/devices.h"
#include "world.h"

static json_t *devices_ask(void)
{
	return json_loads(
		"[{\"type\":\"blk\",\"path\":\"/srv/a.img\",\"format\":\"auto\",\"readonly\":false,"
		"\"direct\":false},{\"type\":\"net\",\"forward\":[{\"host\":\"127.0.0.1\",\"port\":"
		"8080,\"guest_port\":80}]}]",
		0, NULL);
}

/* The pair's client asks for a VM over both nodes with these devices; the reference is taken. */
static void run_with(struct world *world, json_t *devices)
{
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:o}", "type", "run",
		  "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0, "console", 1,
		  "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", 0, "devices", devices);
}

/* The disk stays where it is, and the network goes to this one. */
static json_t *devices_ask_net(json_t *node)
{
	json_t *list = devices_ask();

	json_object_set_new(json_array_get(list, 1), "node", node);
	return list;
}

static struct world *running_with(json_t *devices)
{
	static const char *const steps[] = {"slice-connected", "slice-started"};
	struct world *world = world_pair();

	run_with(world, devices);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	for (unsigned i = 0; i < 2; i++)
		world_say(world, i + 1, "{s:s, s:s, s:i, s:i}", "type", "slice-listening", "vm",
			  "vm1", "slice", (int)i, "port", 40000);
	for (unsigned s = 0; s < 2; s++)
		for (unsigned i = 0; i < 2; i++)
			world_slice(world, i, steps[s]);
	cr_assert_str_eq(world_text(world, 10, "vm-state", "state"), "running");
	return world;
}

static struct world *running(void)
{
	return running_with(devices_ask());
}

static void ended_say_by(struct world *world, unsigned slice, const char *id, const char *how)
{
	world_say(world, slice + 1, "{s:s, s:s, s:i, s:[{s:s, s:s}]}", "type", "slice-devices",
		  "vm", "vm1", "slice", (int)slice, "ended", "id", id, "how", how);
}

static void ended_say(struct world *world, const char *id, const char *how)
{
	ended_say_by(world, 0, id, how);
}

static json_t *listed(struct world *world)
{
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s}", "type", "vms");
	return json_object_get(
		json_array_get(json_object_get(world_last(world, 11, "vms-list")->msg, "vms"), 0),
		"devices");
}

static const char *text(const json_t *list, size_t i, const char *key)
{
	const char *value = json_string_value(json_object_get(json_array_get(list, i), key));

	return value ? value : "";
}

Test(devices, go_to_slice_0_alone)
{
	struct world *world = running();
	const json_t *list = json_object_get(world_last(world, 1, "slice-start")->msg, "devices");

	cr_expect_eq(json_array_size(list), 2);
	cr_expect_str_eq(text(list, 0, "id"), "disk0");
	cr_expect_str_eq(text(list, 0, "path"), "/srv/a.img");
	cr_expect_str_eq(text(list, 1, "id"), "net0");
	cr_expect_eq(strncmp(text(list, 1, "mac"), "52:", 3), 0);
	cr_expect_not(json_object_get(world_last(world, 2, "slice-start")->msg, "devices"));
	cr_expect(json_equal(list,
			     json_object_get(world_last(world, 10, "run-placed")->msg, "devices")));
	cr_expect(json_equal(list, listed(world)));
	world_free(world);
}

/* How many devices all daemons hear that each slice has. */
static void counts_expect(struct world *world, unsigned of_0, unsigned of_1)
{
	for (uint64_t peer = 1; peer <= 2; peer++) {
		const json_t *slices =
			json_object_get(world_last(world, peer, "slice-start")->msg, "slices");

		for (size_t i = 0; i < 2; i++)
			cr_expect_eq(json_integer_value(
					     json_object_get(json_array_get(slices, i), "devices")),
				     i ? of_1 : of_0);
	}
}

Test(devices, go_to_their_slices)
{
	json_t *const places[] = {json_integer(1), json_string("node1")};

	for (unsigned i = 0; i < 2; i++) {
		struct world *world = running_with(devices_ask_net(places[i]));
		const json_t *all = listed(world), *first, *second;

		first = json_object_get(world_last(world, 1, "slice-start")->msg, "devices");
		second = json_object_get(world_last(world, 2, "slice-start")->msg, "devices");
		cr_expect_eq(json_array_size(first), 1);
		cr_expect_str_eq(text(first, 0, "id"), "disk0");
		cr_expect_eq(json_array_size(second), 1);
		cr_expect_str_eq(text(second, 0, "id"), "net0");
		counts_expect(world, 1, 1);
		cr_expect_eq(json_integer_value(json_object_get(json_array_get(all, 0), "node")),
			     0);
		cr_expect_eq(json_integer_value(json_object_get(json_array_get(all, 1), "node")),
			     1);
		/* Its end is its slice's to tell. */
		ended_say_by(world, 1, "net0", "x");
		cr_expect(strstr(world_text(world, 10, "vm-warning", "sentence"),
				 "(slice 1, on node node1)"));
		ended_say_by(world, 0, "net0", "x");
		cr_expect(strstr(world_end(world), "bad report"));
		world_free(world);
	}
}

Test(devices, of_a_slice_that_is_not_there)
{
	json_t *const places[] = {json_integer(2), json_string("node2")};
	static const char *const whys[] = {"net0: node=2: the VM has no such slice, its 2 are",
					   "net0: node=node2: the VM has no slice on a node"};
	struct world *world = world_pair();

	for (unsigned i = 0; i < 2; i++) {
		run_with(world, devices_ask_net(places[i]));
		cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
		cr_expect(strstr(world_text(world, 10, "error", "reason"), whys[i]), "%s",
			  world_text(world, 10, "error", "reason"));
		cr_expect_eq(world_count(world, 0, "run-placed"), 0);
		world_clear(world);
		world_close(world, 10, "done");
	}
	world_free(world);
}

/* Two slices on one node are told apart by their numbers alone. */
Test(devices, of_a_node_with_two_slices)
{
	json_t *const places[] = {json_string("node0"), json_integer(1)};
	struct world *world = world_pair();
	json_t *slices = json_array();

	for (unsigned i = 0; i < 2; i++)
		json_array_append_new(slices, json_pack("{s:s, s:i, s:I}", "node", "node0", "cpus",
							1, "mem_bytes", (json_int_t)(128 * MIB)));
	for (unsigned i = 0; i < 2; i++) {
		world_open(world, 10, CONTROL_ROLE_CLI);
		world_say(world, 10, "{s:s, s:O, s:s, s:i, s:i, s:b, s:o}", "type", "run", "slices",
			  slices, "append", "", "kernel_bytes", 5, "initrd_bytes", 0, "console", 1,
			  "devices", devices_ask_net(places[i]));
		if (i) {
			cr_expect_eq(world_count(world, 10, "run-placed"), 1);
			continue;
		}
		cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
		cr_expect(strstr(world_text(world, 10, "error", "reason"),
				 "net0: node=node0: the VM has 2 slices on this node"));
		world_clear(world);
		world_close(world, 10, "done");
	}
	json_decref(slices);
	world_free(world);
}

Test(devices, bad_ones_are_refused)
{
	struct world *world = world_pair();
	json_t *list = devices_ask();

	json_object_set_new(json_array_get(list, 0), "path", json_string("a.img"));
	run_with(world, list);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	cr_expect_eq(world_count(world, 10, "run-placed"), 0);
	world_clear(world);
	list = devices_ask();
	for (size_t i = 0; i < 2; i++)
		json_object_set_new(json_array_get(list, i), "id", json_string("same"));
	world_close(world, 10, "done");
	run_with(world, list);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	cr_expect(strstr(world_text(world, 10, "error", "reason"), "same"));
	/* Nothing is taken of the nodes. */
	world_clear(world);
	world_close(world, 10, "done");
	run_with(world, devices_ask());
	cr_expect_eq(world_count(world, 10, "run-placed"), 1);
	world_free(world);
}

/* A run with a seed among its devices or not, and so many bytes beside it. */
static void run_seeded(struct world *world, bool wanted, size_t bytes)
{
	static uint8_t contents[CONTROL_SEED_BYTES + 1];
	json_t *list = devices_ask();

	memset(contents, 7, sizeof(contents));
	if (wanted)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:b}", "type", "blk", "id", "seed", "seed", 1));
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say_json_blob(world, 10,
			    json_pack("{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:o}", "type",
				      "run", "slices", "append", "", "kernel_bytes", 5,
				      "initrd_bytes", 0, "console", 1, "cpus", 4, "mem_bytes",
				      (json_int_t)(512 * MIB), "nodes", 0, "devices", list),
			    contents, bytes);
}

Test(devices, a_seed_goes_where_the_kernel_goes)
{
	struct world *world = world_pair();
	const struct coordinator_action *begin;

	run_seeded(world, true, CONTROL_SEED_BYTES);
	begin = world_last(world, 1, "files-begin");
	cr_assert_not_null(begin);
	cr_assert_eq(begin->blob_len, CONTROL_SEED_BYTES);
	cr_expect_eq(((const uint8_t *)begin->blob)[CONTROL_SEED_BYTES - 1], 7);
	cr_expect_eq(world_count(world, 2, "files-begin"), 0);
	world_free(world);
}

Test(devices, a_seed_without_its_bytes_is_refused)
{
	static const struct {
		bool wanted;
		size_t bytes;
	} bad[] = {{true, 0},
		   {true, CONTROL_SEED_BYTES - 1},
		   {true, CONTROL_SEED_BYTES + 1},
		   {false, 1},
		   {false, CONTROL_SEED_BYTES}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct world *world = world_pair();

		run_seeded(world, bad[i].wanted, bad[i].bytes);
		cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE, "case %zu", i);
		cr_expect_eq(world_count(world, 1, "files-begin"), 0, "case %zu", i);
		world_free(world);
	}
}

Test(devices, last_in_the_record)
{
	struct world *old = running(), *world = world_new();
	json_t *record = json_object_get(world_last(old, 1, "slice-start")->msg, "record");
	char why[CONTROL_WHY_MAX];

	cr_assert_eq(coordinator_restore(world->co, record, 1000, why), 0, "%s", why);
	cr_expect(json_equal(listed(world), listed(old)));
	world_free(world);
	world_free(old);
}

Test(devices, of_no_slice_are_in_no_record)
{
	struct world *old = running_with(devices_ask_net(json_integer(1))), *world = world_new();
	json_t *record = json_object_get(world_last(old, 1, "slice-start")->msg, "record");
	json_t *net = json_array_get(json_object_get(record, "devices"), 1);
	char why[CONTROL_WHY_MAX];

	json_object_set_new(net, "node", json_integer(2));
	cr_expect_eq(coordinator_restore(world->co, record, 1000, why), -PANGEA_ECONTROL);
	json_object_set_new(net, "node", json_string("node1"));
	cr_expect_eq(coordinator_restore(world->co, record, 1000, why), -PANGEA_ECONTROL);
	json_object_set_new(net, "node", json_integer(1));
	cr_expect_eq(coordinator_restore(world->co, record, 1000, why), 0, "%s", why);
	world_free(world);
	world_free(old);
}

Test(devices, who_runs_the_vm_hears_of_an_end_once)
{
	struct world *world = running();
	const json_t *list;

	ended_say(world, "disk0", "killed by signal 9");
	cr_expect_str_eq(
		world_text(world, 10, "vm-warning", "sentence"),
		"disk0 of VM vm1: its back end ended (killed by signal 9): reads and writes fail "
		"(slice 0, on node node0)");
	ended_say(world, "disk0", "killed by signal 9");
	cr_expect_eq(world_count(world, 10, "vm-warning"), 1);
	ended_say(world, "net0", "exited with code 1");
	cr_expect_str_eq(world_text(world, 10, "vm-warning", "sentence"),
			 "net0 of VM vm1: its back end ended (exited with code 1): nothing is sent "
			 "or received any more (slice 0, on node node0)");
	list = listed(world);
	cr_expect_str_eq(text(list, 0, "ended"), "killed by signal 9");
	cr_expect_str_eq(text(list, 1, "ended"), "exited with code 1");
	/* The VM goes on. */
	cr_expect_eq(world_count(world, 10, "vm-ended"), 0);
	cr_expect_str_eq(world_text(world, 10, "vm-state", "state"), "running");
	world_free(world);
}

Test(devices, an_end_of_none_is_a_bad_report)
{
	struct world *world = running();

	ended_say(world, "disk7", "x");
	cr_expect_str_eq(world_text(world, 10, "vm-state", "state"), "ending");
	cr_expect(strstr(world_end(world), "bad report"));
	world_free(world);
}

/* A coordinator that is started anew hears of it from the daemon's inventory. */
Test(devices, an_end_is_heard_from_an_inventory)
{
	struct world *old = running(), *world = world_new();
	json_t *record = json_object_get(world_last(old, 1, "slice-start")->msg, "record");
	json_t *id = json_object_get(record, "incarnation"), *msg;
	char why[CONTROL_WHY_MAX];

	cr_assert_eq(coordinator_restore(world->co, record, 1000, why), 0, "%s", why);
	msg = world_registration(1, "node0");
	json_object_set_new(
		msg, "slices",
		json_pack(
			"[{s:s, s:O, s:i, s:i, s:I, s:[{s:s, s:s, s:O, s:i}, {s:s, s:s, s:O, s:i, "
			"s:[{s:s, s:s}]}]}]",
			"vm", "vm1", "incarnation", id, "slice", 0, "vcpus", 1, "mem_bytes",
			(json_int_t)MIB, "reports", "type", "slice-started", "vm", "vm1",
			"incarnation", id, "slice", 0, "type", "slice-devices", "vm", "vm1",
			"incarnation", id, "slice", 0, "ended", "id", "net0", "how", "x"));
	world_open(world, 1, CONTROL_ROLE_NODE);
	world_say_json(world, 1, msg);
	cr_expect_str_eq(text(listed(world), 1, "ended"), "x");
	world_free(world);
	world_free(old);
}
