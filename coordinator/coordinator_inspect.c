/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a VM: a line of a list, all that is known, a piece of its console's log. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

static void field_add(json_t *out, const char *key, json_t *value)
{
	invariant(json_object_set_new(out, key, value) == 0);
}

json_t *vm_json(struct coordinator *co, const struct vm *vm, bool with_stats)
{
	const struct kept *kept = kept_find(co, vm->name);
	uint64_t mem_bytes = 0;
	unsigned cpus = 0;
	json_t *out;

	for (unsigned i = 0; i < vm->slices; i++) {
		cpus += vm->slice[i].vcpus;
		mem_bytes += vm->slice[i].mem_bytes;
	}
	out = message_make("{s:s, s:s, s:i, s:I, s:I, s:o}", "name", vm->name, "state",
			   vm_state_word(vm->state), "cpus", (int)cpus, "mem_bytes",
			   (json_int_t)mem_bytes, "age_ms",
			   (json_int_t)(co->now_ms - vm->created_ms), "slices",
			   vm_slices_json(vm, with_stats));
	if (vm->started_s)
		field_add(out, "started_s", json_integer((json_int_t)vm->started_s));
	if (kept)
		field_add(out, "restarts", json_integer((json_int_t)kept->restarts));
	if (vm->devices.count)
		field_add(out, "devices", vm_devices_json(vm));
	vm_wait_json(co, vm, out);
	return out;
}

json_t *vm_inspect_json(struct coordinator *co, const struct vm *vm, bool with_stats)
{
	const struct kept *kept = kept_find(co, vm->name);
	json_t *out = vm_json(co, vm, with_stats);

	field_add(out, "incarnation", control_id_json(vm->incarnation));
	field_add(out, "detached", json_boolean(!vm->owned));
	field_add(out, "append", json_string(vm->append));
	field_add(out, "engine", json_string(vm->cpu));
	field_add(out, "micro", json_boolean(vm->micro));
	/* A VM that was taken up by a coordinator that was started anew: not known any more. */
	if (vm->vendor)
		field_add(out, "cpu_vendor", json_string(vm->vendor));
	if (vm->transport)
		field_add(out, "transport", json_string(vm->transport));
	if (vm->encryption)
		field_add(out, "encryption", json_string(vm->encryption));
	field_add(out, "console_bytes", json_integer((json_int_t)vm->console_bytes));
	if (kept) {
		field_add(out, "on_reboot", json_string(kept->on_reboot ? "restart" : "end"));
		field_add(out, "on_crash", json_string(kept->on_crash ? "restart" : "end"));
		field_add(out, "kept_bytes", json_integer((json_int_t)kept->bytes));
	}
	if (vm->state < VM_ENDING)
		return out;
	field_add(out, "code", json_integer(vm->code));
	field_add(out, "reason", json_string(vm->reason));
	if (vm->lost[0])
		field_add(out, "lost", json_string(vm->lost));
	field_add(out, "ended_s", json_integer((json_int_t)co->unix_s));
	/* Nothing of it is left. */
	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->slice[i].state != SLICE_GONE)
			return out;
	field_add(out, "state", json_string("ended"));
	return out;
}

/* The VM of a message, by its name; false: the client is told that there is none. */
static bool named_take(struct coordinator *co, struct peer *peer, const json_t *msg,
		       const char **name, struct vm **vm, struct kept **kept)
{
	char why[CONTROL_WHY_MAX];

	if (control_get_name(msg, "vm", name, why) < 0) {
		client_error(co, peer, EXIT_USAGE, why);
		return false;
	}
	*vm = vm_find(co, *name);
	*kept = kept_find(co, *name);
	if (*vm || *kept || past_find(co, *name))
		return true;
	snprintf(why, sizeof(why), "there is no VM named %s", *name);
	client_error(co, peer, EXIT_ERROR, why);
	return false;
}

void inspect_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	struct kept *kept;
	const char *name;
	struct vm *vm;
	json_t *out;

	if (!named_take(co, peer, event->msg, &name, &vm, &kept))
		return;
	if (vm)
		out = vm_inspect_json(co, vm, true);
	else if (kept && kept->last)
		out = kept_json(kept);
	else if (kept)
		out = message_make("{s:s, s:s}", "name", name, "state", "restarting");
	else
		out = json_incref((json_t *)past_find(co, name));
	action_send(co, peer->id, message_make("{s:s, s:o}", "type", "vm-inspected", "vm", out),
		    NULL, 0);
}

void logs_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	char why[CONTROL_WHY_MAX];
	struct kept *kept;
	uint64_t offset;
	const char *name;
	struct vm *vm;

	if (control_get_u64(event->msg, "offset", 0, INT64_MAX / 2, &offset, why) < 0) {
		client_error(co, peer, EXIT_USAGE, why);
		return;
	}
	if (!named_take(co, peer, event->msg, &name, &vm, &kept))
		return;
	action_log_read(co, peer->id, name,
			message_make("{s:s, s:s, s:b, s:I}", "type", "log", "vm", name, "live",
				     (int)(vm || kept), "offset", (json_int_t)offset));
}
