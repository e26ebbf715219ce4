/* SPDX-License-Identifier: Apache-2.0 */
/* What must last of a VM: to a record and back. Daemons keep it too, and bring it when they register. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/coordinator_internal.h"

json_t *vm_record(struct coordinator *co, const struct vm *vm)
{
	return message_make(
		"{s:s, s:o, s:o, s:o, s:b, s:b, s:I, s:I, s:s, s:s, s:b, s:b, s:I, s:o, s:o}", "vm",
		vm->name, "incarnation", control_id_json(vm->incarnation), "coordinator",
		control_id_json(co->incarnation), "owner", control_id_json(vm->owner), "owned",
		(int)vm->owned, "rm", (int)vm->unlisted, "started_s", (json_int_t)vm->started_s,
		"created_ms", (json_int_t)vm->created_ms, "append", vm->append, "cpu", vm->cpu,
		"force", (int)vm->force, "micro", (int)vm->micro, "tsc_hz", (json_int_t)vm->tsc_hz,
		"slices", vm_slices_json(vm, false), "devices", control_devices_json(&vm->devices));
}

void vm_record_keep(struct coordinator *co, struct vm *vm)
{
	json_t *record = vm_record(co, vm);

	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->state > VM_STARTING)
			slice_send(
				co, vm, i,
				message_make("{s:s, s:O}", "type", "vm-record", "record", record),
				NULL, 0);
	action_record(co, COORDINATOR_RECORD_VM, vm->name, record);
}

bool vm_has_ended(const struct coordinator *co, uint64_t incarnation)
{
	for (unsigned i = 0; i < ENDED_MAX; i++)
		if (incarnation && co->ended[i].incarnation == incarnation)
			return true;
	return false;
}

static int options_restore(struct vm *vm, const json_t *record, char *why)
{
	static const char *const names[] = {"auto", "kvm", "soft"};
	const char *append, *cpu;
	int err;

	if ((err = control_get_string(record, "append", &append, why)) ||
	    (err = control_get_string(record, "cpu", &cpu, why)) ||
	    (err = control_get_bool(record, "force", &vm->force, why)) ||
	    (err = control_get_bool(record, "micro", &vm->micro, why)) ||
	    (err = control_get_u64(record, "tsc_hz", 0, CONTROL_TSC_HZ_MAX, &vm->tsc_hz, why)) ||
	    (err = control_devices_get(record, &vm->devices, why)))
		return err;
	snprintf(vm->append, sizeof(vm->append), "%s", append);
	vm->cpu = names[0];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(cpu, names[i]) == 0)
			vm->cpu = names[i];
	return 0;
}

static int identity_restore(struct vm *vm, const json_t *record, char *why)
{
	const char *name;
	int err;

	if ((err = control_get_name(record, "vm", &name, why)) ||
	    (err = control_get_id(record, "incarnation", &vm->incarnation, why)) ||
	    (err = control_get_id(record, "owner", &vm->owner, why)) ||
	    (err = control_get_bool(record, "owned", &vm->owned, why)) ||
	    (err = control_get_u64(record, "created_ms", 0, INT64_MAX, &vm->created_ms, why)))
		return err;
	/* Records of before have neither. */
	if (json_object_get(record, "rm") &&
	    (err = control_get_bool(record, "rm", &vm->unlisted, why)))
		return err;
	if (json_object_get(record, "started_s") &&
	    (err = control_get_u64(record, "started_s", 0, INT64_MAX, &vm->started_s, why)))
		return err;
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	return 0;
}

/* Each field may be missing. */
static int cache_restore(struct slice *slice, const json_t *one, char *why)
{
	int err = 0;

	slice->cache_limited = json_object_get(one, "cache_bytes") != NULL;
	if (slice->cache_limited)
		err = control_get_u64(one, "cache_bytes", 0, GUEST_MEM_MAX, &slice->cache_bytes,
				      why);
	if (!err && json_object_get(one, "cache_room_bytes"))
		err = control_get_u64(one, "cache_room_bytes", 0, GUEST_MEM_MAX,
				      &slice->cache_room_bytes, why);
	return err;
}

static int slices_restore(struct vm *vm, const json_t *record, char *why)
{
	json_t *list, *one;
	size_t i;
	int err = control_get_array(record, "slices", SLICES_MAX, &list, why);

	if (!err && json_array_size(list) == 0) {
		snprintf(why, CONTROL_WHY_MAX, "a record of a VM without slices");
		err = -PANGEA_ECONTROL;
	}
	if (err)
		return err;
	json_array_foreach(list, i, one)
	{
		struct slice *slice = &vm->slice[i];
		const char *node;
		if ((err = control_get_name(one, "node", &node, why)) ||
		    (err = control_get_uint(one, "vcpus", 0, VCPUS_MAX, &slice->vcpus, why)) ||
		    (err = control_get_u64(one, "mem_bytes", 0, GUEST_MEM_MAX, &slice->mem_bytes,
					   why)) ||
		    (err = cache_restore(slice, one, why)) ||
		    (json_object_get(one, "cpus_over") &&
		     (err = control_get_uint(one, "cpus_over", 0, slice->vcpus, &slice->cpus_over,
					     why))))
			return err;
		snprintf(slice->node_name, sizeof(slice->node_name), "%s", node);
		slice->state = SLICE_STARTED;
	}
	vm->slices = (unsigned)json_array_size(list);
	return 0;
}

/* Each device is of a slice that there is. */
static int devices_check(const struct vm *vm, char *why)
{
	for (unsigned i = 0; i < vm->devices.count; i++) {
		const struct control_device *device = &vm->devices.list[i];

		if (!device->node[0] && device->slice < vm->slices)
			continue;
		snprintf(why, CONTROL_WHY_MAX, "a record of a VM with a device of no slice");
		return -PANGEA_ECONTROL;
	}
	return 0;
}

/* The nodes that a VM names; one that has not come yet is away. */
static int nodes_restore(struct coordinator *co, struct vm *vm, char *why)
{
	for (unsigned i = 0; i < vm->slices; i++) {
		struct slice *slice = &vm->slice[i];
		struct node *node = node_find(co, slice->node_name);
		if (!node) {
			node = node_free_slot(co);
			if (!node) {
				snprintf(why, CONTROL_WHY_MAX, "more than %d nodes", NODES_MAX);
				return -PANGEA_ECONTROL;
			}
			node->used = true;
			snprintf(node->name, sizeof(node->name), "%s", slice->node_name);
			node->heard_ms = co->now_ms;
			node->away_until_ms = co->now_ms + co->grace_ms;
			snprintf(node->away_why, sizeof(node->away_why),
				 "the coordinator was started anew");
		}
		slice->node = node;
	}
	return 0;
}

int vm_restore(struct coordinator *co, const json_t *record, char *why)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct vm **slot = NULL;
	int err = vm ? identity_restore(vm, record, why) : -ENOMEM;

	if (!err)
		err = options_restore(vm, record, why);
	if (!err)
		err = slices_restore(vm, record, why);
	if (!err)
		err = devices_check(vm, why);
	for (unsigned i = 0; i < VMS_MAX && !slot; i++)
		if (!co->vm[i])
			slot = &co->vm[i];
	if (!err && (!slot || vm_find(co, vm->name))) {
		snprintf(why, CONTROL_WHY_MAX, "a VM named %s exists already", vm->name);
		err = -PANGEA_ECONTROL;
	}
	if (!err)
		err = nodes_restore(co, vm, why);
	if (err) {
		vm_free(vm);
		return err;
	}
	vm->state = VM_RUNNING;
	vm->ran_ms = vm->created_ms < co->now_ms ? vm->created_ms : co->now_ms;
	if (vm->created_ms > co->now_ms)
		vm->created_ms = co->now_ms;
	vm->owner_until_ms = vm->owned ? co->now_ms + co->grace_ms : 0;
	*slot = vm;
	return 0;
}

int coordinator_restore(struct coordinator *co, const json_t *record, uint64_t now_ms, char *why)
{
	co->now_ms = now_ms;
	return vm_restore(co, record, why);
}
