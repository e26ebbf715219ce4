/* SPDX-License-Identifier: Apache-2.0 */
/* Detached VMs: kept without an owner, started again here, over a coordinator that is started anew. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "world.h"

/* An own peer's number. */
#define OWN 77

static unsigned actions(const struct world *world, enum coordinator_action_type type)
{
	unsigned count = 0;

	for (size_t i = 0; i < world->out.count; i++)
		count += world->out.list[i].type == type;
	return count;
}

/* The last record of a kind that is kept; null: the last was dropped, or there was none. */
static json_t *record_last(const struct world *world, enum coordinator_record kind)
{
	json_t *found = NULL;

	for (size_t i = 0; i < world->out.count; i++) {
		const struct coordinator_action *action = &world->out.list[i];
		if (action->record == kind && action->type == COORDINATOR_KEEP)
			found = action->msg;
		else if (action->record == kind && action->type == COORDINATOR_DROP)
			found = NULL;
	}
	return found;
}

static json_t *run_message(const char *on_reboot)
{
	return json_pack("{s:s, s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:b, s:s, s:s}",
			 "type", "run", "name", "vm1", "slices", "append", "quiet", "kernel_bytes",
			 5, "initrd_bytes", 0, "console", 0, "cpus", 4, "mem_bytes",
			 (json_int_t)(512 * MIB), "nodes", 0, "detached", 1, "on_reboot", on_reboot,
			 "on_crash", "end");
}

/* The steps of vm1 from its kernel's arrival on. */
static void steps(struct world *world)
{
	static const char *const reports[] = {"slice-listening", "slice-connected",
					      "slice-started"};

	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	for (unsigned i = 0; i < 3; i++)
		for (unsigned slice = 0; slice < 2; slice++)
			world_slice(world, slice, reports[i]);
}

/* A detached VM of the pair runs, and its client has gone. */
static struct world *detached(const char *on_reboot)
{
	struct world *world = world_pair();

	coordinator_set_keeping(world->co, true);
	world_say_json(world, 10, run_message(on_reboot));
	world_chunk(world, 10, "12345", 5);
	steps(world);
	world_say(world, 10, "{s:s}", "type", "detach");
	cr_assert_eq(world_count(world, 10, "detached"), 1);
	world_close(world, 10, "done");
	return world;
}

static void vm_ends(struct world *world, int code, const char *reason)
{
	world_exit(world, 0, code, reason);
	world_gone(world, 0, "exited");
	world_gone(world, 1, "exited");
}

static json_t *listed(struct world *world, bool all)
{
	world_open(world, 98, CONTROL_ROLE_CLI);
	world_say(world, 98, "{s:s, s:b}", "type", "vms", "all", (int)all);
	json_t *list =
		json_deep_copy(json_object_get(world_last(world, 98, "vms-list")->msg, "vms"));
	world_close(world, 98, "done");
	return list;
}

static const char *state_listed(struct world *world, bool all)
{
	static char state[32];
	json_t *list = listed(world, all);

	snprintf(state, sizeof(state), "%s",
		 json_array_size(list) == 1
			 ? json_string_value(json_object_get(json_array_get(list, 0), "state"))
			 : "(not one)");
	json_decref(list);
	return state;
}

/* What the shell does when it is asked for it. */
static void own_starts(struct world *world, const char *on_reboot)
{
	coordinator_step(world->co,
			 &(struct coordinator_event){.type = COORDINATOR_OPENED,
						     .now_ms = world->now_ms,
						     .peer = OWN,
						     .role = CONTROL_ROLE_CLI,
						     .own = true},
			 &world->out);
	world->seen = world->out.count;
	world_say_json(world, OWN, run_message(on_reboot));
}

Test(kept, its_files_are_stored_once_and_then_sealed)
{
	struct world *world = detached("restart");

	cr_expect_eq(actions(world, COORDINATOR_STORE), 1);
	cr_expect_eq(actions(world, COORDINATOR_STORED), 1);
	cr_expect(record_last(world, COORDINATOR_RECORD_KEPT));
	cr_expect(coordinator_keeps_files(world->co, "vm1"));
	world_free(world);
}

Test(kept, goes_on_without_an_owner)
{
	struct world *world = detached("restart");

	world_pass(world, 200000, 2);
	cr_expect_str_eq(state_listed(world, false), "running");
	world_free(world);
}

Test(kept, a_terminal_that_is_lost_once_the_kernel_is_there_ends_nothing)
{
	struct world *world = world_pair();

	coordinator_set_keeping(world->co, true);
	world_say_json(world, 10, run_message("end"));
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	world_say(world, 10, "{s:s}", "type", "leaving");
	world_close(world, 10, "gone");
	cr_expect_str_eq(state_listed(world, false), "starting");
	world_free(world);
}

Test(kept, a_terminal_that_is_lost_before_ends_it)
{
	struct world *world = world_pair();

	coordinator_set_keeping(world->co, true);
	world_say_json(world, 10, run_message("restart"));
	world_close(world, 10, "gone");
	cr_expect_str_eq(state_listed(world, true), "ended");
	cr_expect_not(coordinator_keeps_files(world->co, "vm1"));
	world_free(world);
}

Test(kept, without_a_place_for_files_it_is_refused)
{
	struct world *world = world_pair();

	world_say_json(world, 10, run_message("restart"));
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_NOFIT);
	cr_expect_str_eq(state_listed(world, true), "(not one)");
	world_free(world);
}

Test(kept, a_policy_that_is_none_is_refused)
{
	struct world *world = world_pair();

	coordinator_set_keeping(world->co, true);
	world_say_json(world, 10, run_message("perhaps"));
	cr_expect(strstr(world_text(world, 10, "error", "reason"), "restart or end"));
	world_free(world);
}

Test(kept, a_reboot_starts_it_again)
{
	struct world *world = detached("restart");

	vm_ends(world, EXIT_RESET, "the guest asked for a reset");
	cr_expect_str_eq(state_listed(world, false), "restarting");
	cr_expect_not(record_last(world, COORDINATOR_RECORD_VM));
	world_pass(world, 400, 2);
	cr_assert_eq(actions(world, COORDINATOR_AGAIN), 1);
	world_clear(world);
	own_starts(world, "restart");
	cr_assert_eq(world_count(world, OWN, "run-placed"), 1);
	world_chunk(world, OWN, "12345", 5);
	cr_expect_eq(world_count(world, 1, "file-chunk"), 1);
	cr_expect_eq(actions(world, COORDINATOR_STORE), 0);
	steps(world);
	world_say(world, OWN, "{s:s}", "type", "heartbeat");
	coordinator_step(world->co,
			 &(struct coordinator_event){.type = COORDINATOR_CLOSED,
						     .now_ms = world->now_ms,
						     .peer = OWN,
						     .why = "done"},
			 &world->out);
	world_pass(world, 200000, 2);
	cr_expect_str_eq(state_listed(world, true), "running");
	cr_expect_eq(json_integer_value(json_object_get(record_last(world, COORDINATOR_RECORD_KEPT),
							"restarts")),
		     1);
	world_free(world);
}

Test(kept, with_end_a_reboot_ends_it_and_it_stays_listed)
{
	struct world *world = detached("end");

	vm_ends(world, EXIT_RESET, "the guest asked for a reset");
	cr_expect_str_eq(state_listed(world, false), "(not one)");
	cr_expect_str_eq(state_listed(world, true), "ended");
	cr_expect_not(coordinator_keeps_files(world->co, "vm1"));
	cr_expect_not(record_last(world, COORDINATOR_RECORD_KEPT));
	const json_t *entry = record_last(world, COORDINATOR_RECORD_ENDED);
	cr_assert(entry);
	cr_expect(json_is_integer(json_object_get(entry, "restarts")));
	cr_expect_str_eq(json_string_value(json_object_get(entry, "on_reboot")), "end");
	world_free(world);
}

Test(kept, a_reset_from_outside_starts_it_again_whatever_it_said)
{
	struct world *world = detached("end");

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "reset", "vm", "vm1");
	vm_ends(world, EXIT_STOPPED, "");
	cr_expect_eq(world_int(world, 11, "vm-ended", "code"), EXIT_RESET);
	cr_expect(
		json_is_true(json_object_get(world_last(world, 11, "vm-ended")->msg, "restarts")));
	world_pass(world, 400, 2);
	cr_expect_eq(actions(world, COORDINATOR_AGAIN), 1);
	world_free(world);
}

/* Each start fails for want of nodes: the pauses grow, and at last it is given up. */
Test(kept, a_start_that_fails_is_tried_again_with_growing_pauses_and_then_given_up)
{
	struct world *world = detached("restart");
	uint64_t at_ms = 0, before_ms = 0, first_ms = 0;
	unsigned starts = 0;

	vm_ends(world, EXIT_RESET, "the guest asked for a reset");
	world_close(world, 1, "gone");
	world_close(world, 2, "gone");
	while (strcmp(state_listed(world, false), "restarting") == 0 && starts < 50) {
		world_clear(world);
		world_pass(world, 200, 0);
		if (!actions(world, COORDINATOR_AGAIN))
			continue;
		starts++;
		before_ms = at_ms;
		at_ms = world->now_ms;
		if (starts == 2)
			first_ms = at_ms - before_ms;
		own_starts(world, "restart");
		coordinator_step(world->co,
				 &(struct coordinator_event){.type = COORDINATOR_CLOSED,
							     .now_ms = world->now_ms,
							     .peer = OWN,
							     .why = "done"},
				 &world->out);
	}
	cr_expect_eq(starts, 10);
	cr_expect_leq(first_ms, 1400);
	cr_expect_geq(at_ms - before_ms, 32000);
	cr_expect_str_eq(state_listed(world, true), "ended");
	cr_expect_not(coordinator_keeps_files(world->co, "vm1"));
	world_free(world);
}

Test(kept, what_waits_to_be_started_again_can_be_stopped)
{
	struct world *world = detached("restart");

	vm_ends(world, EXIT_RESET, "the guest asked for a reset");
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s, s:s}", "type", "button", "vm", "vm1");
	cr_expect_eq(world_int(world, 11, "vm-ended", "code"), EXIT_STOPPED);
	world_pass(world, 60000, 2);
	cr_expect_eq(actions(world, COORDINATOR_AGAIN), 0);
	cr_expect_str_eq(state_listed(world, true), "ended");
	world_free(world);
}

Test(kept, a_name_that_waits_is_taken)
{
	struct world *world = detached("restart");

	vm_ends(world, EXIT_RESET, "the guest asked for a reset");
	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say_json(world, 11, run_message("end"));
	cr_expect(strstr(world_text(world, 11, "error", "reason"), "exists already"));
	world_say(world, 11, "{s:s, s:s}", "type", "rm", "vm", "vm1");
	cr_expect(strstr(world_text(world, 11, "error", "reason"), "has not ended"));
	world_free(world);
}

Test(kept, a_full_disk_ends_it)
{
	struct world *world = world_pair();

	coordinator_set_keeping(world->co, true);
	world_say_json(world, 10, run_message("restart"));
	world_chunk(world, 10, "12345", 5);
	coordinator_step(world->co,
			 &(struct coordinator_event){.type = COORDINATOR_UNKEPT,
						     .now_ms = world->now_ms,
						     .vm = "vm1",
						     .why = "the disk is full"},
			 &world->out);
	cr_expect_str_eq(world_text(world, 10, "vm-ended", "reason"), "the disk is full");
	cr_expect_not(coordinator_keeps_files(world->co, "vm1"));
	world_free(world);
}

/* A coordinator that is started anew with what the first one kept. */
static struct world *anew(struct world *world, bool with_vm)
{
	struct world *next = world_new();
	json_t *vm = record_last(world, COORDINATOR_RECORD_VM),
	       *kept = record_last(world, COORDINATOR_RECORD_KEPT);
	char why[CONTROL_WHY_MAX];

	coordinator_set_keeping(next->co, true);
	if (with_vm)
		cr_assert_eq(coordinator_restore(next->co, vm, next->now_ms, why), 0, "%s", why);
	int err = coordinator_restore_kept(next->co, kept, next->now_ms, why);
	cr_expect_eq(err == 0, with_vm || json_is_true(json_object_get(kept, "pending")));
	return next;
}

Test(kept, a_coordinator_that_is_started_anew_has_it)
{
	struct world *world = detached("restart"), *next = anew(world, true);

	cr_expect_str_eq(state_listed(next, false), "running");
	cr_expect(coordinator_keeps_files(next->co, "vm1"));
	world_free(world);
	world_free(next);
}

Test(kept, a_coordinator_that_is_started_anew_starts_what_waits)
{
	struct world *world = detached("restart");

	vm_ends(world, EXIT_RESET, "the guest asked for a reset");
	struct world *next = anew(world, false);
	world_pass(next, 9000, 0);
	cr_expect_eq(actions(next, COORDINATOR_AGAIN), 0);
	world_pass(next, 2000, 0);
	cr_expect_eq(actions(next, COORDINATOR_AGAIN), 1);
	world_free(world);
	world_free(next);
}

Test(kept, a_record_without_a_vm_that_waits_for_nothing_is_of_no_use)
{
	struct world *world = detached("restart"), *next = anew(world, false);

	cr_expect_not(coordinator_keeps_files(next->co, "vm1"));
	world_free(world);
	world_free(next);
}

Test(kept, bad_records_are_refused)
{
	static const char *const bad[] = {
		"{}",
		"{\"vm\":\"../x\",\"pending\":true,\"restarts\":0,\"short_lives\":0,\"code\":0,"
		"\"reason\":\"\",\"run\":{\"kernel_bytes\":1,\"initrd_bytes\":0}}",
		"{\"vm\":\"x\",\"pending\":true,\"restarts\":0,\"short_lives\":0,\"code\":0,"
		"\"reason\":\"\"}",
		"{\"vm\":\"x\",\"pending\":true,\"restarts\":0,\"short_lives\":99,\"code\":0,"
		"\"reason\":\"\",\"run\":{\"kernel_bytes\":1,\"initrd_bytes\":0}}",
		"{\"vm\":\"x\",\"pending\":true,\"restarts\":0,\"short_lives\":0,\"code\":0,"
		"\"reason\":\"\",\"run\":{\"kernel_bytes\":0,\"initrd_bytes\":0}}",
	};
	struct world *world = world_new();
	char why[CONTROL_WHY_MAX];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *record = json_loads(bad[i], 0, NULL);
		cr_assert(record);
		cr_expect_lt(coordinator_restore_kept(world->co, record, 1000, why), 0, "%zu", i);
		json_decref(record);
	}
	world_free(world);
}
