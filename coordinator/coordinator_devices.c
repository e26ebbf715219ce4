/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's disks and networks: whose they are, in lists, and what becomes known of their back ends. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

/* The slices of a placement on a node: how many, and the last one. */
static unsigned slices_on(const struct placement *placement, const char *node, unsigned *last)
{
	unsigned count = 0;

	for (unsigned i = 0; i < placement->slices; i++) {
		if (strcmp(placement->slice[i].node->name, node) != 0)
			continue;
		*last = i;
		count++;
	}
	return count;
}

static int device_place(struct control_device *device, const struct placement *placement, char *why)
{
	unsigned on = 1;

	if (device->node[0])
		on = slices_on(placement, device->node, &device->slice);
	if (on == 0)
		snprintf(why, CONTROL_WHY_MAX,
			 "%s: node=%s: the VM has no slice on a node of this name; name one of its "
			 "nodes, or a slice by its number",
			 device->id, device->node);
	else if (on > 1)
		snprintf(why, CONTROL_WHY_MAX,
			 "%s: node=%s: the VM has %u slices on this node; name one by its number, "
			 "from 0 on",
			 device->id, device->node, on);
	else if (device->slice >= placement->slices)
		snprintf(why, CONTROL_WHY_MAX,
			 "%s: node=%u: the VM has no such slice, its %u are numbered from 0 on",
			 device->id, device->slice, placement->slices);
	else
		device->node[0] = 0;
	return on == 1 && device->slice < placement->slices ? 0 : -EINVAL;
}

int devices_place(struct control_devices *devices, const struct placement *placement, char *why)
{
	int err = 0;

	for (unsigned i = 0; i < devices->count && !err; i++)
		err = device_place(&devices->list[i], placement, why);
	return err;
}

unsigned vm_devices_count(const struct vm *vm, unsigned slice)
{
	unsigned count = 0;

	for (unsigned i = 0; i < vm->devices.count; i++)
		count += vm->devices.list[i].slice == slice;
	return count;
}

json_t *vm_devices_of(const struct vm *vm, unsigned slice)
{
	json_t *list = control_devices_json(&vm->devices);

	invariant(list != NULL);
	for (unsigned i = vm->devices.count; i--;)
		if (vm->devices.list[i].slice != slice)
			json_array_remove(list, i);
	return list;
}

json_t *vm_devices_json(const struct vm *vm)
{
	json_t *list = control_devices_json(&vm->devices);

	invariant(list != NULL);
	for (unsigned i = 0; i < vm->devices.count; i++)
		if (vm->ended[i][0])
			json_object_set_new(json_array_get(list, i), "ended",
					    json_string(vm->ended[i]));
	return list;
}

static const char *const consequences[] = {
	[CONTROL_DEVICE_BLK] = "reads and writes fail",
	[CONTROL_DEVICE_NET] = "nothing is sent or received any more",
	[CONTROL_DEVICE_FS] = "what needs the folder fails",
};

/* Into the log, and to whoever runs or watches the VM. */
static void ended_say(struct coordinator *co, const struct vm *vm, unsigned index)
{
	const struct control_device *device = &vm->devices.list[index];
	char sentence[CONTROL_WHY_MAX];

	snprintf(sentence, sizeof(sentence),
		 "%s of VM %s: its back end ended (%s): %s (slice %u, on node %s)", device->id,
		 vm->name, vm->ended[index], consequences[device->type], device->slice,
		 vm->slice[device->slice].node_name);
	action_log(co, "%s", sentence);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm)
			action_send(co, co->peer[i].id,
				    message_make("{s:s, s:s, s:s}", "type", "vm-warning", "vm",
						 vm->name, "sentence", sentence),
				    NULL, 0);
}

static int ended_take(struct coordinator *co, struct vm *vm, unsigned slice, const json_t *one,
		      char *why)
{
	const char *id, *how;
	int err;

	if ((err = control_get_string(one, "id", &id, why)) ||
	    (err = control_get_string(one, "how", &how, why)))
		return err;
	for (unsigned i = 0; i < vm->devices.count; i++) {
		if (vm->devices.list[i].slice != slice || strcmp(vm->devices.list[i].id, id) != 0)
			continue;
		if (vm->ended[i][0])
			return 0; /* it was heard already */
		snprintf(vm->ended[i], CONTROL_ENDED_MAX, "%s", *how ? how : "no reason given");
		control_text_clean(vm->ended[i]);
		ended_say(co, vm, i);
		return 0;
	}
	snprintf(why, CONTROL_WHY_MAX, "malformed control message: slice-devices: no such device");
	return -PANGEA_ECONTROL;
}

int vm_devices_ended(struct coordinator *co, struct vm *vm, unsigned slice, const json_t *msg,
		     char *why)
{
	json_t *list, *one;
	size_t i;
	int err = control_get_array(msg, "ended", CONTROL_DEVICES_MAX, &list, why);

	if (err)
		return err;
	json_array_foreach(list, i, one)
	{
		err = ended_take(co, vm, slice, one, why);
		if (err)
			return err;
	}
	return 0;
}
