/* SPDX-License-Identifier: Apache-2.0 */
/* A coordinator under test in virtual time. */
#include "world.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	world->co = coordinator_new();
	world->now_ms = 1000;
	world->incarnations = json_object();
	return world;
}

void world_clear(struct world *world)
{
	coordinator_actions_free(&world->out);
	world->seen = 0;
}

void world_free(struct world *world)
{
	world_clear(world);
	coordinator_free(world->co);
	json_decref(world->incarnations);
	free(world);
}

static void step(struct world *world, struct coordinator_event *event)
{
	event->now_ms = world->now_ms;
	memcpy(event->fresh_secret, world->fresh_secret, sizeof(event->fresh_secret));
	event->fresh_incarnation = ++world->fresh_incarnation;
	event->fresh_owner = world->fresh_incarnation << 32;
	coordinator_step(world->co, event, &world->out);
	for (; world->seen < world->out.count; world->seen++) {
		const json_t *msg = world->out.list[world->seen].msg;
		const char *vm = json_string_value(json_object_get(msg, "vm"));
		if (control_is(msg, "run-placed"))
			json_object_set(world->incarnations, vm,
					json_object_get(msg, "incarnation"));
	}
}

const char *world_incarnation(const struct world *world, const char *vm)
{
	const char *text = json_string_value(json_object_get(world->incarnations, vm));

	return text ? text : "00000000000000ff";
}

/* What every message of a real daemon has. */
static void message_complete(const struct world *world, uint64_t peer, json_t *msg)
{
	const char *vm = json_string_value(json_object_get(msg, "vm"));

	if (json_object_get(msg, "incarnation"))
		return;
	if (vm)
		json_object_set_new(msg, "incarnation", json_string(world_incarnation(world, vm)));
	else if (control_is(msg, "register"))
		json_object_set_new(msg, "incarnation", control_id_json(peer));
}

void world_open(struct world *world, uint64_t peer, enum control_role role)
{
	step(world,
	     &(struct coordinator_event){.type = COORDINATOR_OPENED, .peer = peer, .role = role});
}

void world_close(struct world *world, uint64_t peer, const char *why)
{
	step(world,
	     &(struct coordinator_event){.type = COORDINATOR_CLOSED, .peer = peer, .why = why});
}

void world_ban(struct world *world, uint64_t peer, const char *why)
{
	step(world, &(struct coordinator_event){
			    .type = COORDINATOR_CLOSED, .peer = peer, .why = why, .lost = true});
}

static void say(struct world *world, uint64_t peer, json_t *msg, const void *blob, size_t len)
{
	cr_assert(msg);
	message_complete(world, peer, msg);
	step(world, &(struct coordinator_event){.type = COORDINATOR_MESSAGE,
						.peer = peer,
						.msg = msg,
						.blob = blob,
						.blob_len = len});
	json_decref(msg);
}

void world_say(struct world *world, uint64_t peer, const char *fmt, ...)
{
	va_list ap;
	json_t *msg;

	va_start(ap, fmt);
	msg = json_vpack_ex(NULL, 0, fmt, ap);
	va_end(ap);
	say(world, peer, msg, NULL, 0);
}

void world_say_json(struct world *world, uint64_t peer, json_t *msg)
{
	say(world, peer, msg, NULL, 0);
}

void world_say_json_blob(struct world *world, uint64_t peer, json_t *msg, const void *blob,
			 size_t len)
{
	say(world, peer, msg, blob, len);
}

json_t *world_registration(uint64_t incarnation, const char *name)
{
	return json_pack("{s:s, s:s, s:o, s:i, s:I, s:s}", "type", "register", "name", name,
			 "incarnation", control_id_json(incarnation), "cpus", 4, "mem_bytes",
			 (json_int_t)GIB, "data_address", "127.0.0.1");
}

void world_say_blob(struct world *world, uint64_t peer, const char *type, const void *blob,
		    size_t len)
{
	say(world, peer,
	    json_pack("{s:s, s:s, s:i}", "type", type, "vm", "vm1", "slice", peer == 2 ? 1 : 0),
	    blob, len);
}

void world_say_with(struct world *world, uint64_t peer, json_t *msg, const void *blob, size_t len)
{
	say(world, peer, msg, blob, len);
}

void world_chunk(struct world *world, uint64_t peer, const void *blob, size_t len)
{
	say(world, peer,
	    json_pack("{s:s, s:s, s:i}", "type", "file-chunk", "file", "kernel", "offset", 0), blob,
	    len);
}

void world_pass(struct world *world, uint64_t ms, unsigned beating)
{
	for (uint64_t end = world->now_ms + ms; world->now_ms < end;) {
		world->now_ms += 200;
		for (unsigned i = 1; i <= beating; i++)
			world_say(world, i, "{s:s}", "type", "heartbeat");
		step(world, &(struct coordinator_event){.type = COORDINATOR_TICK});
	}
}

void world_node(struct world *world, uint64_t peer, const char *name, unsigned cpus,
		uint64_t mem_bytes)
{
	world_open(world, peer, CONTROL_ROLE_NODE);
	world_say(world, peer, "{s:s, s:s, s:i, s:I, s:s}", "type", "register", "name", name,
		  "cpus", (int)cpus, "mem_bytes", (json_int_t)mem_bytes, "data_address",
		  "127.0.0.1");
}

static bool action_is(const struct coordinator_action *action, uint64_t peer, const char *type)
{
	return action->type != COORDINATOR_REFUSE && (!peer || action->peer == peer) &&
	       control_is(action->msg, type);
}

unsigned world_count(const struct world *world, uint64_t peer, const char *type)
{
	unsigned count = 0;

	for (size_t i = 0; i < world->out.count; i++)
		count += action_is(&world->out.list[i], peer, type);
	return count;
}

const struct coordinator_action *world_last(const struct world *world, uint64_t peer,
					    const char *type)
{
	for (size_t i = world->out.count; i-- > 0;)
		if (action_is(&world->out.list[i], peer, type))
			return &world->out.list[i];
	cr_assert(false, "no %s for peer %d", type, (int)peer);
	return NULL;
}

const char *world_text(const struct world *world, uint64_t peer, const char *type, const char *key)
{
	const char *text =
		json_string_value(json_object_get(world_last(world, peer, type)->msg, key));

	cr_assert(text, "%s has no %s", type, key);
	return text;
}

json_int_t world_int(const struct world *world, uint64_t peer, const char *type, const char *key)
{
	return json_integer_value(json_object_get(world_last(world, peer, type)->msg, key));
}

const char *world_refused(const struct world *world, uint64_t peer)
{
	for (size_t i = 0; i < world->out.count; i++)
		if (world->out.list[i].type == COORDINATOR_REFUSE &&
		    world->out.list[i].peer == peer)
			return world->out.list[i].why;
	cr_assert(false, "peer %d was not refused", (int)peer);
	return NULL;
}

struct world *world_pair(void)
{
	struct world *world = world_new();

	world_node(world, 1, "node0", 4, GIB);
	world_node(world, 2, "node1", 4, GIB);
	world_open(world, 10, CONTROL_ROLE_CLI);
	return world;
}

void world_run(struct world *world, uint64_t client, unsigned cpus, uint64_t mem_bytes)
{
	world_say(world, client, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i}", "type", "run",
		  "slices", "append", "quiet", "kernel_bytes", 5, "initrd_bytes", 0, "console", 1,
		  "cpus", (int)cpus, "mem_bytes", (json_int_t)mem_bytes, "nodes", 0);
}

void world_slice(struct world *world, unsigned slice, const char *type)
{
	world_say(world, slice + 1, "{s:s, s:s, s:i, s:i}", "type", type, "vm", "vm1", "slice",
		  (int)slice, "port", 5000 + (int)slice);
}

void world_gone(struct world *world, unsigned slice, const char *how)
{
	world_say(world, slice + 1, "{s:s, s:s, s:i, s:s}", "type", "slice-gone", "vm", "vm1",
		  "slice", (int)slice, "how", how);
}

void world_exit(struct world *world, unsigned slice, int code, const char *reason)
{
	world_say(world, slice + 1, "{s:s, s:s, s:i, s:i, s:s}", "type", "slice-exit", "vm", "vm1",
		  "slice", (int)slice, "code", code, "reason", reason);
}

const char *world_end(struct world *world)
{
	world_gone(world, 0, "exited with code 14");
	world_gone(world, 1, "exited with code 14");
	return world_text(world, 10, "vm-ended", "reason");
}

struct world *world_at(enum world_step at)
{
	static const char *const reports[] = {NULL, "slice-listening", "slice-connected",
					      "slice-started"};
	struct world *world = world_pair();

	world_run(world, 10, 4, 512 * MIB);
	if (at >= STEP_STARTING)
		world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
	for (int i = 1; i < (int)at; i++)
		for (unsigned slice = 0; slice < 2; slice++)
			world_slice(world, slice, reports[i]);
	return world;
}
