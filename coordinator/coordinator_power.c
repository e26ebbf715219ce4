/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator does to a VM's power: presses its button, resets it, pulls its plug. */
#include <stdio.h>

#include "coordinator/coordinator_internal.h"

#define RESET_TEXT "the virtual machine was reset from outside"

/* Who asks is told when the VM has ended. */
static void end_watch(struct peer *peer, struct vm *vm)
{
	if (!peer->vm)
		peer->vm = vm;
}

static void plug_pull(struct coordinator *co, const struct peer *peer, struct vm *vm)
{
	action_log(co, "VM %s is to stop: connection %llu asks for it", vm->name,
		   (unsigned long long)peer->id);
	vm_end(co, vm, EXIT_STOPPED, NULL, exit_text(EXIT_STOPPED));
}

void stop_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	struct vm *vm;

	if (kept_stop(co, peer, event->msg))
		return;
	vm = client_vm_named(co, peer, event->msg);
	if (!vm)
		return;
	end_watch(peer, vm);
	plug_pull(co, peer, vm);
}

void button_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	struct vm *vm;

	if (kept_stop(co, peer, event->msg))
		return;
	vm = client_vm_named(co, peer, event->msg);
	if (!vm)
		return;
	end_watch(peer, vm);
	/* Without a guest there is nobody to hear it. */
	if (vm->state < VM_RUNNING) {
		plug_pull(co, peer, vm);
		return;
	}
	if (vm->state == VM_RUNNING) {
		action_log(co, "VM %s: connection %llu presses its power button", vm->name,
			   (unsigned long long)peer->id);
		slice_send(co, vm, 0, message_make("{s:s}", "type", "slice-button"), NULL, 0);
	}
	action_send(co, peer->id,
		    message_make("{s:s, s:s}", "type", "button-pressed", "vm", vm->name), NULL, 0);
}

void reset_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	struct vm *vm = client_vm_named(co, peer, event->msg);
	char why[CONTROL_WHY_MAX];

	if (!vm)
		return;
	if (!vm->owned && !kept_find(co, vm->name)) {
		snprintf(why, sizeof(why),
			 "VM %s has left its 'pangea run', and nothing would start it again: only "
			 "one that was run by 'pangea run -d' is started again by the coordinator",
			 vm->name);
		client_error(co, peer, EXIT_ERROR, why);
		return;
	}
	end_watch(peer, vm);
	if (vm->state < VM_ENDING) {
		action_log(co, "VM %s is reset: connection %llu asks for it", vm->name,
			   (unsigned long long)peer->id);
		vm->again = true;
	}
	vm_end(co, vm, EXIT_RESET, NULL, RESET_TEXT);
}
