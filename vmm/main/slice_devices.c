/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what slice-config says of disks, networks and folders. */
#include "vmm/main/slice_devices.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"
#include "control/devices.h"

/* As a process's own limit on open files (confine/). */
#define FD_LAST	   4095
#define QUEUES_MAX 4

static_assert(SLICE_DEVICES_MAX == CONTROL_DEVICES_MAX, "a slice takes all that a VM may have");
static_assert(SLICE_DEVICE_TAG_MAX == CONTROL_TAG_MAX, "and their tags");
static_assert(SLICE_DEVICE_ID_MAX == CONTROL_ID_MAX, "and their ids");

static int bad(char *why, const char *what)
{
	snprintf(why, CONTROL_WHY_MAX, "slice-config: devices: %s", what);
	return -PANGEA_ECONTROL;
}

static int blk_parse(const json_t *one, struct slice_device *device, char *why)
{
	int err = control_get_bool(one, "readonly", &device->readonly, why);
	unsigned handover;

	device->type = SLICE_DEVICE_BLK;
	if (!err && json_object_get(one, "handover")) {
		err = control_get_uint(one, "handover", SLICE_DEVICE_FD_FIRST, FD_LAST, &handover,
				       why);
		device->handover = err ? -1 : (int)handover;
	}
	return err ? err : control_get_uint(one, "queues", 1, QUEUES_MAX, &device->queues, why);
}

static int fs_parse(const json_t *one, struct slice_device *device, char *why)
{
	const char *tag;
	int err = control_get_string(one, "tag", &tag, why);

	device->type = SLICE_DEVICE_FS;
	if (err)
		return err;
	if (!control_tag_valid(tag))
		return bad(why, "a tag is none");
	snprintf(device->tag, sizeof(device->tag), "%s", tag);
	return 0;
}

static int net_parse(const json_t *one, struct slice_device *device, char *why)
{
	const char *mac;
	int err = control_get_string(one, "mac", &mac, why);

	device->type = SLICE_DEVICE_NET;
	if (!err && json_object_get(one, "tap"))
		err = control_get_bool(one, "tap", &device->tap, why);
	if (err)
		return err;
	return control_mac_parse(mac, device->mac) ? bad(why, "mac is no station's address") : 0;
}

static int device_parse(const json_t *one, struct slice_device *device, char *why)
{
	const char *type, *id;
	unsigned fd;
	int err;

	if ((err = control_get_string(one, "type", &type, why)) ||
	    (err = control_get_string(one, "id", &id, why)) ||
	    (err = control_get_uint(one, "fd", SLICE_DEVICE_FD_FIRST, FD_LAST, &fd, why)))
		return err;
	if (!control_device_id_valid(id))
		return bad(why, "an id is no name");
	snprintf(device->id, sizeof(device->id), "%s", id);
	device->fd = (int)fd;
	device->handover = -1;
	if (strcmp(type, "blk") == 0)
		return blk_parse(one, device, why);
	if (strcmp(type, "net") == 0)
		return net_parse(one, device, why);
	if (strcmp(type, "fs") == 0)
		return fs_parse(one, device, why);
	return bad(why, "a type is not blk, net or fs");
}

/* Each has a descriptor and an id of its own. */
static int distinct_check(const struct slice_devices *devices, unsigned last, char *why)
{
	const struct slice_device *one = &devices->list[last];

	for (unsigned i = 0; i < last; i++)
		if (devices->list[i].fd == one->fd || strcmp(devices->list[i].id, one->id) == 0)
			return bad(why, "two have the same descriptor or id");
	return 0;
}

int slice_devices_parse(const json_t *msg, struct slice_devices *devices, char *why)
{
	json_t *list, *one;
	size_t i;
	int err;

	memset(devices, 0, sizeof(*devices));
	if (!json_object_get(msg, "devices"))
		return 0;
	err = control_get_array(msg, "devices", SLICE_DEVICES_MAX, &list, why);
	if (err)
		return err;
	json_array_foreach(list, i, one)
	{
		err = device_parse(one, &devices->list[i], why);
		if (!err)
			err = distinct_check(devices, (unsigned)i, why);
		if (err)
			return err;
		devices->count++;
	}
	return 0;
}
