/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, networks and folders in messages: each field checked, whoever sent it. */
#include "control/devices.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"

static const char *const types[] = {
	[CONTROL_DEVICE_BLK] = "blk", [CONTROL_DEVICE_NET] = "net", [CONTROL_DEVICE_FS] = "fs"};
/* Of ids that nobody chose. */
static const char *const names[] = {
	[CONTROL_DEVICE_BLK] = "disk", [CONTROL_DEVICE_NET] = "net", [CONTROL_DEVICE_FS] = "fs"};
static const char *const formats[] = {
	[CONTROL_DISK_AUTO] = "auto", [CONTROL_DISK_RAW] = "raw", [CONTROL_DISK_QCOW2] = "qcow2"};

const char *control_device_type_name(enum control_device_type type)
{
	return types[type];
}

const char *control_disk_format_name(enum control_disk_format format)
{
	return formats[format];
}

bool control_device_id_valid(const char *id)
{
	return control_name_valid(id) && strlen(id) < CONTROL_ID_MAX;
}

static bool plain_name(const char *name, size_t size)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t len = strlen(name);

	return len > 0 && len < size && strspn(name, allowed) == len && name[0] != '-';
}

bool control_tag_valid(const char *tag)
{
	return plain_name(tag, CONTROL_TAG_MAX);
}

bool control_ifname_valid(const char *name)
{
	return plain_name(name, CONTROL_IFNAME_MAX) && name[0] != '.';
}

void control_mac_format(const uint8_t mac[6], char out[CONTROL_MAC_TEXT])
{
	snprintf(out, CONTROL_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int control_mac_parse(const char *text, uint8_t mac[6])
{
	uint8_t any = 0;

	if (strlen(text) != CONTROL_MAC_TEXT - 1)
		return -EINVAL;
	for (int i = 0; i < 6; i++, text += 3) {
		int high = digit(text[0]), low = digit(text[1]);
		if (high < 0 || low < 0 || text[2] != (i < 5 ? ':' : 0))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
		any |= mac[i];
	}
	return any && !(mac[0] & 1) ? 0 : -EINVAL;
}

static int bad(char *why, const char *what)
{
	snprintf(why, CONTROL_WHY_MAX, "malformed control message: devices: %s", what);
	return -PANGEA_ECONTROL;
}

/* An absolute path that can stand in a log. */
static bool path_valid(const char *path)
{
	if (path[0] != '/' || strlen(path) >= CONTROL_DISK_PATH_MAX)
		return false;
	for (; *path; path++)
		if ((unsigned char)*path < 0x20 || *path == 0x7f)
			return false;
	return true;
}

static int format_get(const json_t *one, struct control_device *device, char *why)
{
	const char *word;
	int err = control_get_string(one, "format", &word, why);

	if (err)
		return err;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(word, formats[i]) != 0)
			continue;
		device->format = (enum control_disk_format)i;
		return 0;
	}
	return bad(why, "a format is not auto, raw or qcow2");
}

static int path_get(const json_t *one, struct control_device *device, char *why)
{
	const char *path;
	int err = control_get_string(one, "path", &path, why);

	if (!err)
		err = control_get_bool(one, "readonly", &device->readonly, why);
	if (err)
		return err;
	if (!path_valid(path))
		return bad(why, "a path is not absolute, or too long");
	snprintf(device->path, sizeof(device->path), "%s", path);
	return 0;
}

static int fs_get(const json_t *one, struct control_device *device, char *why)
{
	const char *tag;
	int err = path_get(one, device, why);

	if (!err)
		err = control_get_string(one, "tag", &tag, why);
	if (err)
		return err;
	if (!control_tag_valid(tag))
		return bad(why, "a tag is not 1 to 36 of A-Z, a-z, 0-9, '.', '_' and '-'");
	snprintf(device->tag, sizeof(device->tag), "%s", tag);
	return 0;
}

static int disk_get(const json_t *one, struct control_device *device, char *why)
{
	int err;

	if (json_object_get(one, "seed")) {
		if ((err = control_get_bool(one, "seed", &device->seed, why)))
			return err;
		device->readonly = true;
		device->format = CONTROL_DISK_RAW;
		return device->seed ? 0 : bad(why, "a seed is none");
	}
	err = path_get(one, device, why);
	if (!err)
		err = format_get(one, device, why);
	if (!err)
		err = control_get_bool(one, "direct", &device->direct, why);
	if (!err && json_object_get(one, "restart"))
		err = control_get_bool(one, "restart", &device->restart, why);
	return err;
}

/* The text that the kernel makes of it goes on, never the one that came. */
static bool numeric_take(const char *text, char out[CONTROL_NUMERIC_MAX])
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, text, &four) == 1)
		return inet_ntop(AF_INET, &four, out, CONTROL_NUMERIC_MAX) != NULL;
	return inet_pton(AF_INET6, text, &six) == 1 &&
	       inet_ntop(AF_INET6, &six, out, CONTROL_NUMERIC_MAX) != NULL;
}

static int forward_get(const json_t *one, struct control_forward *forward, char *why)
{
	const char *host;
	int err;

	if ((err = control_get_string(one, "host", &host, why)) ||
	    (err = control_get_uint(one, "port", 1, 65535, &forward->port, why)) ||
	    (err = control_get_uint(one, "guest_port", 1, 65535, &forward->guest_port, why)))
		return err;
	return numeric_take(host, forward->host) ? 0 : bad(why, "a host is no numeric address");
}

static int net_get(const json_t *one, struct control_device *device, char *why)
{
	const char *mac, *ifname;
	json_t *list, *entry;
	size_t i;
	int err = control_get_array(one, "forward", CONTROL_FORWARDS_MAX, &list, why);

	if (err)
		return err;
	json_array_foreach(list, i, entry)
	{
		err = forward_get(entry, &device->forward[i], why);
		if (err)
			return err;
	}
	device->forwards = (unsigned)json_array_size(list);
	if (json_object_get(one, "ifname")) {
		if ((err = control_get_string(one, "ifname", &ifname, why)))
			return err;
		if (!control_ifname_valid(ifname) || device->forwards)
			return bad(why, "an ifname is none, or has forwards");
		snprintf(device->ifname, sizeof(device->ifname), "%s", ifname);
	}
	device->mac_known = json_object_get(one, "mac") != NULL;
	if (!device->mac_known)
		return 0;
	if ((err = control_get_string(one, "mac", &mac, why)))
		return err;
	return control_mac_parse(mac, device->mac) ? bad(why, "a mac is no station's address") : 0;
}

/* A slice's number or a node's name; it may be missing: slice 0. */
static int node_get(const json_t *one, struct control_device *device, char *why)
{
	const json_t *node = json_object_get(one, "node");
	const char *name;
	int err;

	if (!node)
		return 0;
	if (!json_is_string(node))
		return control_get_uint(one, "node", 0, SLICES_MAX - 1, &device->slice, why);
	err = control_get_name(one, "node", &name, why);
	if (!err)
		snprintf(device->node, sizeof(device->node), "%s", name);
	return err;
}

static int device_get(const json_t *one, struct control_device *device, char *why)
{
	const char *type, *id = "";
	int err = control_get_string(one, "type", &type, why);

	if (!err && json_object_get(one, "id"))
		err = control_get_string(one, "id", &id, why);
	if (err)
		return err;
	if (*id && !control_device_id_valid(id))
		return bad(why, "an id is not 1 to 31 of a-z, 0-9 and '-'");
	snprintf(device->id, sizeof(device->id), "%s", id);
	if ((err = node_get(one, device, why)))
		return err;
	if (strcmp(type, "blk") == 0) {
		device->type = CONTROL_DEVICE_BLK;
		return disk_get(one, device, why);
	}
	if (strcmp(type, "net") == 0) {
		device->type = CONTROL_DEVICE_NET;
		return net_get(one, device, why);
	}
	if (strcmp(type, "fs") == 0) {
		device->type = CONTROL_DEVICE_FS;
		return fs_get(one, device, why);
	}
	return bad(why, "a type is not blk, net or fs");
}

static unsigned count_of(const struct control_devices *devices, enum control_device_type type)
{
	unsigned count = 0;

	for (unsigned i = 0; i < devices->count; i++)
		count += devices->list[i].type == type;
	return count;
}

static unsigned seeds_of(const struct control_devices *devices)
{
	unsigned count = 0;

	for (unsigned i = 0; i < devices->count; i++)
		count += devices->list[i].seed;
	return count;
}

int control_devices_get(const json_t *msg, struct control_devices *out, char *why)
{
	json_t *list, *one;
	size_t i;
	int err;

	memset(out, 0, sizeof(*out));
	if (!json_object_get(msg, "devices"))
		return 0;
	err = control_get_array(msg, "devices", CONTROL_DEVICES_MAX, &list, why);
	if (err)
		return err;
	json_array_foreach(list, i, one)
	{
		err = device_get(one, &out->list[i], why);
		if (err)
			return err;
		out->count++;
	}
	if (count_of(out, CONTROL_DEVICE_BLK) > CONTROL_DISKS_MAX ||
	    count_of(out, CONTROL_DEVICE_NET) > CONTROL_NETS_MAX ||
	    count_of(out, CONTROL_DEVICE_FS) > CONTROL_FOLDERS_MAX)
		return bad(why, "there are too many of a kind");
	return seeds_of(out) > 1 ? bad(why, "there are two seeds") : 0;
}

static json_t *net_json(const struct control_device *device)
{
	json_t *list = json_array(), *out;
	char mac[CONTROL_MAC_TEXT];

	for (unsigned i = 0; i < device->forwards; i++) {
		const struct control_forward *forward = &device->forward[i];
		json_array_append_new(list, json_pack("{s:s, s:i, s:i}", "host", forward->host,
						      "port", (int)forward->port, "guest_port",
						      (int)forward->guest_port));
	}
	out = json_pack("{s:s, s:s, s:o}", "type", "net", "id", device->id, "forward", list);
	if (device->ifname[0])
		json_object_set_new(out, "ifname", json_string(device->ifname));
	control_mac_format(device->mac, mac);
	if (device->mac_known)
		json_object_set_new(out, "mac", json_string(mac));
	return out;
}

bool control_seed_wanted(const struct control_devices *devices)
{
	return seeds_of(devices) > 0;
}

int control_seed_add(struct control_devices *out, char *why)
{
	struct control_device *device = &out->list[out->count];

	if (control_seed_wanted(out) || count_of(out, CONTROL_DEVICE_BLK) >= CONTROL_DISKS_MAX) {
		snprintf(why, CONTROL_WHY_MAX,
			 "the seed for cloud-init is a disk, too: a VM has at most %d",
			 CONTROL_DISKS_MAX);
		return -EINVAL;
	}
	memset(device, 0, sizeof(*device));
	device->type = CONTROL_DEVICE_BLK;
	device->format = CONTROL_DISK_RAW;
	device->seed = device->readonly = true;
	snprintf(device->id, sizeof(device->id), "seed");
	out->count++;
	return 0;
}

static json_t *disk_json(const struct control_device *device)
{
	if (device->seed)
		return json_pack("{s:s, s:s, s:b}", "type", "blk", "id", device->id, "seed", 1);
	return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b}", "type", "blk", "id", device->id,
			 "path", device->path, "format", formats[device->format], "readonly",
			 (int)device->readonly, "direct", (int)device->direct, "restart",
			 (int)device->restart);
}

static json_t *fs_json(const struct control_device *device)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "fs", "id", device->id, "path",
			 device->path, "tag", device->tag, "readonly", (int)device->readonly);
}

static json_t *device_type_json(const struct control_device *device)
{
	if (device->type == CONTROL_DEVICE_BLK)
		return disk_json(device);
	return device->type == CONTROL_DEVICE_NET ? net_json(device) : fs_json(device);
}

static json_t *device_json(const struct control_device *device)
{
	json_t *one = device_type_json(device);
	json_t *node = device->node[0] ? json_string(device->node)
				       : json_integer((json_int_t)device->slice);

	if (json_object_set_new(one, "node", node) == 0)
		return one;
	json_decref(one);
	return NULL;
}

json_t *control_devices_json(const struct control_devices *devices)
{
	json_t *list = json_array();

	for (unsigned i = 0; list && i < devices->count; i++) {
		if (json_array_append_new(list, device_json(&devices->list[i])) == 0)
			continue;
		json_decref(list);
		return NULL;
	}
	return list;
}

/* FNV-1a, of a name and a number: the same on every machine and in every version. */
static uint64_t name_hash(const char *name, unsigned number)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return (hash ^ (0x100 + number)) * UINT64_C(0x100000001b3);
}

static void mac_give(struct control_device *device, const char *vm, unsigned number)
{
	uint64_t hash = name_hash(vm, number);

	/* Locally administered, of one station. */
	device->mac[0] = 0x52;
	for (int i = 1; i < 6; i++)
		device->mac[i] = (uint8_t)(hash >> (8 * i));
	device->mac_known = true;
}

int control_devices_complete(struct control_devices *devices, const char *vm, char *why)
{
	unsigned number[CONTROL_DEVICE_TYPES] = {0};

	for (unsigned i = 0; i < devices->count; i++) {
		struct control_device *device = &devices->list[i];
		unsigned n = number[device->type]++;

		if (!device->id[0])
			snprintf(device->id, sizeof(device->id), "%s%u", names[device->type], n);
		if (device->type == CONTROL_DEVICE_NET && !device->mac_known)
			mac_give(device, vm, n);
	}
	for (unsigned i = 0; i < devices->count; i++)
		for (unsigned j = 0; j < i; j++)
			if (strcmp(devices->list[i].id, devices->list[j].id) == 0) {
				snprintf(why, CONTROL_WHY_MAX,
					 "two devices have the id %s: give one of them another by "
					 "id=",
					 devices->list[i].id);
				return -EINVAL;
			}
	return 0;
}
