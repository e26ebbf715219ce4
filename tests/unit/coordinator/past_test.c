/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that have ended: listed with their reason, a bounded number of them, until they are removed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

static json_t *list_of(struct world *world, bool all)
{
	world_open(world, 98, CONTROL_ROLE_CLI);
	world_say(world, 98, "{s:s, s:b}", "type", "vms", "all", (int)all);
	json_t *list =
		json_deep_copy(json_object_get(world_last(world, 98, "vms-list")->msg, "vms"));
	world_close(world, 98, "done");
	return list;
}

static size_t count_of(struct world *world, bool all)
{
	json_t *list = list_of(world, all);
	size_t count = json_array_size(list);

	json_decref(list);
	return count;
}

static json_t *ended_record(const char *name, int ended_s)
{
	return json_pack("{s:s, s:s, s:i, s:s, s:i}", "name", name, "state", "ended", "code", 0,
			 "reason", "the guest powered off", "ended_s", ended_s);
}

static struct world *with_ended(unsigned count)
{
	struct world *world = world_pair();
	char name[16], why[CONTROL_WHY_MAX];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "old%u", i);
		/* Not in order, as a directory has none. */
		json_t *record = ended_record(name, (int)(1000 + i * 7 % count));
		cr_assert_eq(coordinator_restore_ended(world->co, record, why), 0, "%s", why);
		json_decref(record);
	}
	return world;
}

Test(past, an_ended_vm_is_listed_with_its_reason)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, 0, "the guest powered off");
	world_end(world);
	cr_expect_eq(count_of(world, false), 0);
	json_t *list = list_of(world, true), *one = json_array_get(list, 0);
	cr_assert_eq(json_array_size(list), 1);
	cr_expect_str_eq(json_string_value(json_object_get(one, "state")), "ended");
	cr_expect_str_eq(json_string_value(json_object_get(one, "reason")),
			 "the guest powered off");
	cr_expect_eq(json_integer_value(json_object_get(one, "cpus")), 4);
	json_decref(list);
	world_free(world);
}

Test(past, inspect_has_where_it_was)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, 10, "kernel panic");
	world_end(world);
	world_say(world, 10, "{s:s, s:s}", "type", "inspect", "vm", "vm1");
	const json_t *vm = json_object_get(world_last(world, 10, "vm-inspected")->msg, "vm");
	cr_expect_eq(json_array_size(json_object_get(vm, "slices")), 2);
	cr_expect_eq(json_integer_value(json_object_get(vm, "code")), 10);
	cr_expect(strstr(json_string_value(json_object_get(vm, "append")), "quiet"));
	world_free(world);
}

Test(past, rm_takes_it_off_with_its_log)
{
	struct world *world = world_at(STEP_RUNNING);
	bool log = false, record = false;

	world_exit(world, 0, 0, "the guest powered off");
	world_end(world);
	cr_expect(coordinator_keeps_log(world->co, "vm1"));
	world_clear(world);
	world_say(world, 10, "{s:s, s:s}", "type", "rm", "vm", "vm1");
	cr_expect_eq(world_count(world, 10, "vm-removed"), 1);
	for (size_t i = 0; i < world->out.count; i++) {
		const struct coordinator_action *action = &world->out.list[i];
		log |= action->type == COORDINATOR_LOG_REMOVE && strcmp(action->why, "vm1") == 0;
		record |= action->type == COORDINATOR_DROP &&
			  action->record == COORDINATOR_RECORD_ENDED;
	}
	cr_expect(log && record);
	cr_expect_eq(count_of(world, true), 0);
	world_say(world, 10, "{s:s, s:s}", "type", "rm", "vm", "vm1");
	cr_expect(strstr(world_text(world, 10, "error", "reason"), "no VM named vm1"));
	world_free(world);
}

Test(past, one_that_runs_is_not_removed)
{
	struct world *world = world_at(STEP_RUNNING);

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "rm", "vm", "vm1");
	cr_expect(strstr(world_text(world, 11, "error", "reason"), "pangea stop vm1"));
	cr_expect_eq(count_of(world, false), 1);
	world_free(world);
}

Test(past, with_rm_nothing_stays)
{
	struct world *world = world_pair();

	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:b}", "type", "run",
		  "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0, "console", 1,
		  "cpus", 1, "mem_bytes", (json_int_t)(64 * MIB), "nodes", 0, "rm", 1);
	world_say(world, 10, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	cr_expect_eq(world_int(world, 10, "vm-ended", "code"), EXIT_STOPPED);
	cr_expect_eq(count_of(world, true), 0);
	world_free(world);
}

Test(past, a_new_vm_of_the_name_takes_its_place)
{
	struct world *world = world_at(STEP_RUNNING);

	world_exit(world, 0, 0, "the guest powered off");
	world_end(world);
	world_say(world, 10, "{s:s, s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i}", "type", "run",
		  "name", "vm1", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
		  "console", 1, "cpus", 1, "mem_bytes", (json_int_t)(64 * MIB), "nodes", 0);
	cr_expect_eq(count_of(world, true), 1);
	cr_expect_eq(count_of(world, false), 1);
	world_free(world);
}

Test(past, names_are_not_invented_twice)
{
	struct world *world = world_pair();
	json_t *record = ended_record("vm1", 5);
	char why[CONTROL_WHY_MAX];

	cr_assert_eq(coordinator_restore_ended(world->co, record, why), 0);
	json_decref(record);
	world_run(world, 10, 1, 64 * MIB);
	cr_expect_str_eq(world_text(world, 10, "run-placed", "vm"), "vm2");
	world_free(world);
}

Test(past, the_oldest_goes_when_there_are_too_many)
{
	struct world *world = with_ended(64);
	bool dropped = false;

	cr_expect_eq(count_of(world, true), 64);
	json_t *list = list_of(world, true);
	for (size_t i = 0; i < 64; i++)
		cr_expect_eq(
			json_integer_value(json_object_get(json_array_get(list, i), "ended_s")),
			(json_int_t)(1000 + i));
	json_decref(list);
	world_run(world, 10, 1, 64 * MIB);
	world_clear(world);
	world_say(world, 10, "{s:s, s:s}", "type", "stop", "vm", "vm1");
	cr_expect_eq(count_of(world, true), 64);
	/* The first of them in time is old0. */
	for (size_t i = 0; i < world->out.count; i++)
		dropped |= world->out.list[i].type == COORDINATOR_DROP &&
			   world->out.list[i].record == COORDINATOR_RECORD_ENDED &&
			   strcmp(world->out.list[i].why, "old0") == 0;
	cr_expect(dropped);
	cr_expect_not(coordinator_keeps_log(world->co, "old0"));
	world_free(world);
}

Test(past, one_too_many_and_bad_records_are_refused)
{
	static const char *const bad[] = {
		"{}", "{\"name\":\"A\",\"code\":0,\"reason\":\"\",\"ended_s\":1}",
		"{\"name\":\"a\",\"code\":256,\"reason\":\"\",\"ended_s\":1}",
		"{\"name\":\"a\",\"code\":0,\"ended_s\":1}",
		"{\"name\":\"a\",\"code\":0,\"reason\":\"\",\"ended_s\":-1}"};
	struct world *world = with_ended(63);
	char why[CONTROL_WHY_MAX];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *record = json_loads(bad[i], 0, NULL);
		cr_assert(record);
		cr_expect_lt(coordinator_restore_ended(world->co, record, why), 0, "%zu", i);
		json_decref(record);
	}
	json_t *again = ended_record("old5", 1), *one = ended_record("one", 1),
	       *two = ended_record("two", 1);
	cr_expect_lt(coordinator_restore_ended(world->co, again, why), 0);
	cr_expect_eq(coordinator_restore_ended(world->co, one, why), 0);
	cr_expect_lt(coordinator_restore_ended(world->co, two, why), 0);
	json_decref(again);
	json_decref(one);
	json_decref(two);
	world_free(world);
}
