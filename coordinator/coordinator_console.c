/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients type, on its way to the guest: a window for each, so that no byte is ever dropped.
 *
 * A client may have CONTROL_INPUT_WINDOW bytes between it and the guest. It begins with that many
 * once the VM runs, spends them with each console-input, and gets them back (console-credit) as the
 * slice says that the guest took bytes (console-taken). The slice says how many, not whose: the
 * order among clients is not kept, only their sum, which is all that its buffer needs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

static void credit_give(struct coordinator *co, struct peer *peer, unsigned bytes)
{
	peer->input_credit += bytes;
	action_send(co, peer->id,
		    message_make("{s:s, s:i}", "type", "console-credit", "bytes", (int)bytes), NULL,
		    0);
}

/* Is slice 0's node there to take anything? It may have to come back, to this coordinator or to one that was started anew. */
static bool taker_there(const struct vm *vm)
{
	return vm->slice[0].node && vm->slice[0].node->peer;
}

/* While nobody takes it the client keeps what is typed. */
void console_input_allow(struct coordinator *co, struct peer *peer)
{
	unsigned has = peer->input_credit + peer->input_owed;

	if (!peer->watches && taker_there(peer->vm) && has < CONTROL_INPUT_WINDOW)
		credit_give(co, peer, CONTROL_INPUT_WINDOW - has);
}

void console_inputs_allow(struct coordinator *co, struct vm *vm)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm && co->peer[i].console)
			console_input_allow(co, &co->peer[i]);
}

void console_leave(struct peer *peer)
{
	free(peer->held);
	peer->held = NULL;
	peer->held_len = 0;
	peer->console = peer->watches = false;
	peer->input_credit = peer->input_owed = 0;
}

/* No more than the window, which was checked. */
static void input_hold(struct peer *peer, const uint8_t *bytes, size_t len)
{
	if (!peer->held)
		peer->held = malloc(CONTROL_INPUT_WINDOW);
	invariant(peer->held != NULL && len <= CONTROL_INPUT_WINDOW - peer->held_len);
	memcpy(peer->held + peer->held_len, bytes, len);
	peer->held_len += (unsigned)len;
}

static void input_send(struct coordinator *co, struct vm *vm, const uint8_t *bytes, size_t len)
{
	slice_send(co, vm, 0, message_make("{s:s}", "type", "console-input"), bytes, len);
}

void console_input_take(struct coordinator *co, struct peer *peer,
			const struct coordinator_event *event)
{
	char why[CONTROL_WHY_MAX];

	/* What was on its way when the VM ended, or the client detached, has no guest any more. */
	if (!peer->vm || !peer->console || peer->vm->state != VM_RUNNING || !event->blob_len)
		return;
	if (event->blob_len > peer->input_credit) {
		snprintf(why, sizeof(why), "%zu bytes of console input came where %u were allowed",
			 event->blob_len, peer->input_credit);
		peer_refuse(co, peer, why);
		return;
	}
	peer->input_credit -= (unsigned)event->blob_len;
	peer->input_owed += (unsigned)event->blob_len;
	if (taker_there(peer->vm))
		input_send(co, peer->vm, event->blob, event->blob_len);
	else
		input_hold(peer, event->blob, event->blob_len);
}

void console_inputs_renew(struct coordinator *co, struct vm *vm)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (!peer->id || peer->vm != vm || !peer->console)
			continue;
		peer->input_owed = peer->held_len;
		if (peer->held_len)
			input_send(co, vm, peer->held, peer->held_len);
		peer->held_len = 0;
		console_input_allow(co, peer);
	}
}

/* Each in turn, so that one who types without end starves nobody. */
void console_input_taken(struct coordinator *co, struct vm *vm, uint64_t bytes)
{
	for (unsigned n = 0; n < PEERS_MAX && bytes; n++) {
		struct peer *peer = &co->peer[vm->input_turn];
		vm->input_turn = (vm->input_turn + 1) % PEERS_MAX;
		if (!peer->id || peer->vm != vm || !peer->input_owed)
			continue;
		unsigned back = bytes < peer->input_owed ? (unsigned)bytes : peer->input_owed;
		peer->input_owed -= back;
		bytes -= back;
		credit_give(co, peer, back);
	}
	/* What is left was typed by clients that have gone. */
}
