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

#include "coordinator/coordinator_internal.h"

static void credit_give(struct coordinator *co, struct peer *peer, unsigned bytes)
{
	peer->input_credit += bytes;
	action_send(co, peer->id,
		    message_make("{s:s, s:i}", "type", "console-credit", "bytes", (int)bytes), NULL,
		    0);
}

void console_input_allow(struct coordinator *co, struct peer *peer)
{
	unsigned has = peer->input_credit + peer->input_owed;

	if (!peer->watches && has < CONTROL_INPUT_WINDOW)
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
	peer->console = peer->watches = false;
	peer->input_credit = peer->input_owed = 0;
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
	slice_send(co, peer->vm, 0, message_make("{s:s}", "type", "console-input"), event->blob,
		   event->blob_len);
}

void console_inputs_renew(struct coordinator *co, struct vm *vm)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (!peer->id || peer->vm != vm || !peer->console)
			continue;
		peer->input_owed = 0;
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
