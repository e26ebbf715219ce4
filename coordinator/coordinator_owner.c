/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of a VM that lost us and come back: its owner, `pangea run`, with its token, and those who watch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

#define TERMINAL_WENT "stopped: its terminal went away"

bool owner_bound(const struct vm *vm)
{
	/* As long as its kernel is on the way, nobody else can send the rest. */
	return vm->owned || vm->state < VM_STARTING;
}

void owner_away(struct coordinator *co, struct vm *vm, bool ended)
{
	if (!owner_bound(vm))
		return;
	/* Its kernel is on the way: nobody else can send the rest. */
	if (vm->state < VM_STARTING)
		vm_end(co, vm, EXIT_STOPPED, NULL, TERMINAL_WENT);
	else
		vm->owner_until_ms =
			co->now_ms +
			(ended && co->grace_ms > OWNER_RETURN_MS ? OWNER_RETURN_MS : co->grace_ms);
}

void owner_tick(struct coordinator *co, struct vm *vm)
{
	if (!vm->owner_until_ms || co->now_ms < vm->owner_until_ms)
		return;
	vm->owner_until_ms = 0;
	vm_end(co, vm, EXIT_STOPPED, NULL, TERMINAL_WENT);
}

void ended_note(struct coordinator *co, const struct vm *vm, json_t *msg)
{
	struct ended *slot = &co->ended[co->ended_next++ % ENDED_MAX];

	json_decref(slot->msg);
	*slot = (struct ended){.incarnation = vm->incarnation, .owner = vm->owner, .msg = msg};
}

/* It ended while its owner, or whoever watched, was away. */
static bool ended_tell_late(struct coordinator *co, struct peer *peer, uint64_t incarnation,
			    const uint64_t *owner)
{
	for (unsigned i = 0; i < ENDED_MAX; i++) {
		struct ended *ended = &co->ended[i];
		if (!ended->msg || ended->incarnation != incarnation ||
		    (owner && ended->owner != *owner))
			continue;
		action_send(co, peer->id, json_incref(ended->msg), NULL, 0);
		return true;
	}
	return false;
}

/* An old connection of the owner that is not given up yet. */
static void owner_replace(struct coordinator *co, struct vm *vm)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (!peer->id || peer->vm != vm || !peer->owner)
			continue;
		peer->owner = false;
		peer->vm = NULL;
		peer_refuse(co, peer, "this owner came back on another connection");
	}
}

static void owner_back(struct coordinator *co, struct peer *peer, struct vm *vm)
{
	owner_replace(co, vm);
	peer->owner = vm->owned = true;
	vm->owner_until_ms = 0;
}

/* Goes on with the console from what it has seen. */
static void client_back(struct coordinator *co, struct peer *peer, struct vm *vm, bool console,
			uint64_t seen)
{
	peer->vm = vm;
	peer->console = console;
	action_send(co, peer->id,
		    message_make("{s:s, s:s, s:s}", "type", "attached", "vm", vm->name, "state",
				 vm_state_word(vm->state)),
		    NULL, 0);
	if (console && vm->state == VM_RUNNING)
		console_input_allow(co, peer);
	if (console && seen < vm->console_bytes) {
		uint64_t missed = vm->console_bytes - seen;
		size_t most = missed < vm->ring_exact ? (size_t)missed : vm->ring_exact, len;
		uint8_t *past = vm_console_past(vm, most, &len);
		action_send(co, peer->id,
			    message_make("{s:s, s:s, s:I, s:I}", "type", "console-output", "vm",
					 vm->name, "offset", (json_int_t)(vm->console_bytes - len),
					 "lost", (json_int_t)(missed - len)),
			    past, len);
		free(past);
	}
}

/* A VM that is not known: just after our own start the daemons may not have told of it yet. */
static void unknown_tell(struct coordinator *co, struct peer *peer)
{
	if (co->now_ms - co->first_ms < DAEMONS_RETURN_MS)
		peer_refuse(co, peer, "this VM is not known yet");
	else
		client_error(co, peer, EXIT_NODE_LOST,
			     "the coordinator does not know this VM any more");
}

void attach_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	uint64_t incarnation = 0, owner = 0, seen = 0;
	bool owns = json_object_get(event->msg, "owner") != NULL, console = false;
	char why[CONTROL_WHY_MAX];
	struct vm *vm = NULL;

	if (vm_of_message(co, event->msg, &vm, why) < 0 ||
	    control_get_id(event->msg, "incarnation", &incarnation, why) < 0 ||
	    (owns && control_get_id(event->msg, "owner", &owner, why) < 0) ||
	    control_get_bool(event->msg, "console", &console, why) < 0 ||
	    control_get_u64(event->msg, "console_bytes", 0, INT64_MAX, &seen, why) < 0) {
		client_error(co, peer, EXIT_USAGE, why);
	} else if (peer->vm) {
		client_error(co, peer, EXIT_ERROR, "this connection has a VM already");
	} else if (vm && (!owns || vm->owner == owner)) {
		if (owns)
			owner_back(co, peer, vm);
		peer->watches = json_is_true(json_object_get(event->msg, "watch"));
		client_back(co, peer, vm, console, seen);
	} else if (vm) {
		client_error(co, peer, EXIT_REFUSED, "this VM has another owner");
	} else if (!ended_tell_late(co, peer, incarnation, owns ? &owner : NULL)) {
		unknown_tell(co, peer);
	}
}
