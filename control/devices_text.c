/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, networks and folders as people write them: the values of --disk, --net and --fs. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/control.h"
#include "control/devices.h"

/* What one option's words may be all together. */
#define TEXT_MAX (CONTROL_DISK_PATH_MAX + 1024)

static int wrong(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int wrong(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, CONTROL_WHY_MAX, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* A new device, unless there are as many of its kind as may be. */
static struct control_device *device_add(struct control_devices *out, enum control_device_type type,
					 unsigned most)
{
	struct control_device *device = &out->list[out->count];
	unsigned count = 0;

	for (unsigned i = 0; i < out->count; i++)
		count += out->list[i].type == type;
	if (count == most)
		return NULL;
	memset(device, 0, sizeof(*device));
	device->type = type;
	return device;
}

/* Takes what stands before the first comma that is not doubled; doubled ones become one. The rest, or null. */
static char *path_take(const char *text, char out[CONTROL_DISK_PATH_MAX])
{
	size_t used = 0;

	for (; *text; text++) {
		if (*text == ',' && text[1] != ',')
			break;
		if (*text == ',')
			text++;
		if (used + 1 == CONTROL_DISK_PATH_MAX)
			return NULL;
		out[used++] = *text;
	}
	out[used] = 0;
	return (char *)(uintptr_t)text;
}

static bool path_printable(const char *path)
{
	for (; *path; path++)
		if ((unsigned char)*path < 0x20 || *path == 0x7f)
			return false;
	return true;
}

static int id_word(struct control_device *device, const char *value, char *why)
{
	if (!control_device_id_valid(value))
		return wrong(why, "id= is 1 to %d of a-z, 0-9 and '-', not first '-'",
			     CONTROL_ID_MAX - 1);
	snprintf(device->id, sizeof(device->id), "%s", value);
	return 0;
}

/* node=: digits are a slice, all else is a node's name. */
static int node_word(struct control_device *device, const char *value, char *why)
{
	bool number = value[0] && strspn(value, "0123456789") == strlen(value);

	device->slice = 0;
	device->node[0] = 0;
	if (number && control_uint_parse(value, 0, SLICES_MAX - 1, &device->slice) == 0)
		return 0;
	if (number || !control_name_valid(value))
		return wrong(why,
			     "node= is the number of one of the VM's slices, 0 to %d, or the name "
			     "of the node that holds it, not \"%.40s\"",
			     SLICES_MAX - 1, value);
	snprintf(device->node, sizeof(device->node), "%s", value);
	return 0;
}

/* The value of a word KEY=VALUE of this key; null: it is another. */
static const char *value_of(const char *word, const char *key)
{
	size_t len = strlen(key);

	return strncmp(word, key, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

static int disk_word(struct control_device *device, const char *word, char *why)
{
	const char *value;

	if (strcmp(word, "readonly") == 0) {
		device->readonly = true;
		return 0;
	}
	if ((value = value_of(word, "id")))
		return id_word(device, value, why);
	if ((value = value_of(word, "format"))) {
		device->format = strcmp(value, "raw") == 0 ? CONTROL_DISK_RAW : CONTROL_DISK_QCOW2;
		return strcmp(value, control_disk_format_name(device->format)) == 0
			       ? 0
			       : wrong(why, "format= is raw or qcow2, not \"%.40s\"", value);
	}
	if ((value = value_of(word, "cache"))) {
		device->direct = strcmp(value, "none") == 0;
		return device->direct || strcmp(value, "writeback") == 0
			       ? 0
			       : wrong(why, "cache= is writeback or none, not \"%.40s\"", value);
	}
	if ((value = value_of(word, "on-error"))) {
		device->restart = strcmp(value, "restart") == 0;
		return device->restart || strcmp(value, "report") == 0
			       ? 0
			       : wrong(why, "on-error= is report or restart, not \"%.40s\"", value);
	}
	if ((value = value_of(word, "node")))
		return node_word(device, value, why);
	return wrong(
		why,
		"it takes format=, readonly, id=, cache=, on-error= and node=, not \"%.40s\" (a "
		"comma in FILE "
		"is written twice)",
		word);
}

static int fs_word(struct control_device *device, const char *word, char *why)
{
	const char *value;

	if (strcmp(word, "readonly") == 0) {
		device->readonly = true;
		return 0;
	}
	if ((value = value_of(word, "id")))
		return id_word(device, value, why);
	if ((value = value_of(word, "node")))
		return node_word(device, value, why);
	if (!(value = value_of(word, "tag")))
		return wrong(
			why,
			"it takes tag=, readonly, id= and node=, not \"%.40s\" (a comma in DIR is "
			"written twice)",
			word);
	if (!control_tag_valid(value))
		return wrong(why,
			     "tag= is 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-', not first '-'",
			     CONTROL_TAG_MAX - 1);
	snprintf(device->tag, sizeof(device->tag), "%s", value);
	return 0;
}

/* A path, and words behind it. what: "FILE". */
static int path_words(const char *text, struct control_device *device, const char *what,
		      int (*take)(struct control_device *device, const char *word, char *why),
		      char *why)
{
	char copy[TEXT_MAX], *rest, *word;
	int err = 0;

	rest = path_take(text, device->path);
	if (!rest || strlen(rest) >= sizeof(copy))
		return wrong(why, "it is longer than %d bytes", CONTROL_DISK_PATH_MAX - 1);
	if (device->path[0] != '/' || !path_printable(device->path))
		return wrong(why,
			     "%s is a path on the node of the device's slice: it begins with '/' "
			     "and has no control characters",
			     what);
	strcpy(copy, rest);
	rest = *copy ? copy + 1 : NULL;
	while (!err && (word = strsep(&rest, ",")))
		err = take(device, word, why);
	return err;
}

int control_disk_parse(const char *text, struct control_devices *out, char *why)
{
	struct control_device *device = device_add(out, CONTROL_DEVICE_BLK, CONTROL_DISKS_MAX);
	int err;

	if (!device)
		return wrong(why, "a VM has at most %d disks", CONTROL_DISKS_MAX);
	err = path_words(text, device, "FILE", disk_word, why);
	out->count += !err;
	return err;
}

int control_fs_parse(const char *text, struct control_devices *out, char *why)
{
	struct control_device *device = device_add(out, CONTROL_DEVICE_FS, CONTROL_FOLDERS_MAX);
	int err;

	if (!device)
		return wrong(why, "a VM has at most %d folders", CONTROL_FOLDERS_MAX);
	err = path_words(text, device, "DIR", fs_word, why);
	if (!err && !device->tag[0])
		err = wrong(why, "it lacks tag=, the name by which the guest mounts the folder");
	for (unsigned i = 0; !err && i < out->count; i++)
		if (strcmp(out->list[i].tag, device->tag) == 0)
			err = wrong(why, "two folders have the tag %s", device->tag);
	out->count += !err;
	return err;
}

/* An address, perhaps in brackets; what stands between is one of the node. */
static int host_take(char *text, char out[CONTROL_NUMERIC_MAX])
{
	size_t len = strlen(text);
	uint8_t address[16];
	int family = AF_INET;

	if (text[0] == '[' && len > 2 && text[len - 1] == ']') {
		text[len - 1] = 0;
		text++;
		family = AF_INET6;
	}
	if (inet_pton(family, text, address) != 1 ||
	    !inet_ntop(family, address, out, CONTROL_NUMERIC_MAX))
		return -EINVAL;
	return 0;
}

static int forward_word(struct control_device *device, const char *value, char *why)
{
	struct control_forward *forward = &device->forward[device->forwards];
	char copy[128], *guest, *port = copy;

	if (device->forwards == CONTROL_FORWARDS_MAX)
		return wrong(why, "a network has at most %d forward=", CONTROL_FORWARDS_MAX);
	if (strlen(value) >= sizeof(copy))
		goto malformed;
	strcpy(copy, value);
	strcpy(forward->host, "127.0.0.1");
	guest = strrchr(copy, ':');
	if (!guest)
		goto malformed;
	*guest++ = 0;
	port = strrchr(copy, ':');
	if (port) {
		*port++ = 0;
		if (host_take(copy, forward->host))
			goto malformed;
	} else {
		port = copy;
	}
	if (control_uint_parse(port, 1, 65535, &forward->port) ||
	    control_uint_parse(guest, 1, 65535, &forward->guest_port))
		goto malformed;
	device->forwards++;
	return 0;
malformed:
	return wrong(why,
		     "forward= is [HOST:]PORT:GUESTPORT, HOST a numeric address of the node (an "
		     "IPv6 one in brackets), not \"%.80s\"",
		     value);
}

static int net_word(struct control_device *device, bool tap, const char *word, char *why)
{
	const char *value;

	if ((value = value_of(word, "id")))
		return id_word(device, value, why);
	if (!tap && (value = value_of(word, "forward")))
		return forward_word(device, value, why);
	if (tap && (value = value_of(word, "ifname"))) {
		if (!control_ifname_valid(value))
			return wrong(why, "ifname= is the name of a tap, not \"%.40s\"", value);
		snprintf(device->ifname, sizeof(device->ifname), "%s", value);
		return 0;
	}
	if ((value = value_of(word, "node")))
		return node_word(device, value, why);
	if (!(value = value_of(word, "mac")))
		return wrong(why, "it takes %s=, mac=, id= and node=, not \"%.40s\"",
			     tap ? "ifname" : "forward", word);
	if (control_mac_parse(value, device->mac))
		return wrong(why,
			     "mac= is the address of one station, as 52:54:00:12:34:56, not "
			     "\"%.40s\"",
			     value);
	device->mac_known = true;
	return 0;
}

int control_net_parse(const char *text, struct control_devices *out, char *why)
{
	struct control_device *device;
	char copy[TEXT_MAX], *rest = copy, *word;
	bool tap;
	int err = 0;

	if (strcmp(text, "none") == 0)
		return 0;
	device = device_add(out, CONTROL_DEVICE_NET, CONTROL_NETS_MAX);
	if (!device)
		return wrong(why, "a VM has at most %d networks", CONTROL_NETS_MAX);
	if (strlen(text) >= sizeof(copy))
		return wrong(why, "it is too long");
	strcpy(copy, text);
	word = strsep(&rest, ",");
	tap = strcmp(word, "tap") == 0;
	if (!tap && strcmp(word, "user") != 0)
		return wrong(why, "the network is user, tap or none, not \"%.40s\"", word);
	while (!err && (word = strsep(&rest, ",")))
		err = net_word(device, tap, word, why);
	if (!err && tap && !device->ifname[0])
		err = wrong(
			why,
			"tap lacks ifname=, the name of a tap on the node that boots the guest");
	out->count += !err;
	return err;
}
