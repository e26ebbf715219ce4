/* SPDX-License-Identifier: Apache-2.0 */
/* --disk, --net and --fs of `pangea run`, and what it says of them. */
#include <stdio.h>
#include <string.h>

#include "cli/run.h"

int run_disk_option(struct run_options *opts, const char *value, const char *command)
{
	char why[CONTROL_WHY_MAX];

	if (control_disk_parse(value, &opts->devices, why))
		return cli_usage(command, "--disk: %s", why);
	return -1;
}

int run_net_option(struct run_options *opts, const char *value, const char *command)
{
	char why[CONTROL_WHY_MAX];
	unsigned before = opts->devices.count;

	if (control_net_parse(value, &opts->devices, why))
		return cli_usage(command, "--net: %s", why);
	opts->net_none |= opts->devices.count == before;
	for (unsigned i = 0; opts->net_none && i < opts->devices.count; i++)
		if (opts->devices.list[i].type == CONTROL_DEVICE_NET)
			return cli_usage(command, "--net none is for no network at all");
	return -1;
}

int run_fs_option(struct run_options *opts, const char *value, const char *command)
{
	char why[CONTROL_WHY_MAX];

	if (control_fs_parse(value, &opts->devices, why))
		return cli_usage(command, "--fs: %s", why);
	return -1;
}

/* ", of slice 1 on node2"; nothing of slice 0. */
static void where_say(const struct control_device *device, const char *node, char *out, size_t size)
{
	out[0] = '\0';
	if (device->slice)
		snprintf(out, size, ", of slice %u on %s", device->slice, node);
}

static void fs_say(const struct control_device *device, const char *node)
{
	char path[CONTROL_DISK_PATH_MAX], where[NAME_MAX_LEN + 32];

	where_say(device, node, where, sizeof(where));
	snprintf(path, sizeof(path), "%s", device->path);
	control_text_clean(path);
	cli_say("%s is the folder %s%s%s: mount -t virtiofs %s DIR", device->id, path,
		device->readonly ? ", for reading only" : "", where, device->tag);
}

static void disk_say(const struct control_device *device, const char *node)
{
	char path[CONTROL_DISK_PATH_MAX], where[NAME_MAX_LEN + 32];

	if (device->seed) {
		cli_say("%s is what cloud-init reads, for reading only", device->id);
		return;
	}
	where_say(device, node, where, sizeof(where));
	snprintf(path, sizeof(path), "%s", device->path);
	control_text_clean(path);
	cli_say("%s is %s%s%s%s", device->id, path, device->readonly ? ", for reading only" : "",
		device->direct ? ", past the page cache" : "", where);
}

static void net_say(const struct control_device *device, const char *node)
{
	char mac[CONTROL_MAC_TEXT];

	control_mac_format(device->mac, mac);
	if (device->ifname[0])
		cli_say("%s is a network card with the address %s, on %s of %s", device->id, mac,
			device->ifname, node);
	else
		cli_say("%s is a network card with the address %s, by way of %s", device->id, mac,
			node);
	for (unsigned i = 0; i < device->forwards; i++) {
		const struct control_forward *forward = &device->forward[i];
		bool six = strchr(forward->host, ':') != NULL;
		cli_say("%s: %s%s%s:%u on %s leads to port %u of the guest", device->id,
			six ? "[" : "", forward->host, six ? "]" : "", forward->port, node,
			forward->guest_port);
	}
}

void run_devices_say(const json_t *placed)
{
	const json_t *slices = json_object_get(placed, "slices");
	struct control_devices devices;
	char why[CONTROL_WHY_MAX];
	const char *node;

	if (control_devices_get(placed, &devices, why))
		return;
	for (unsigned i = 0; i < devices.count; i++) {
		const struct control_device *device = &devices.list[i];
		if (control_get_name(json_array_get(slices, device->slice), "node", &node, why))
			return;
		if (device->type == CONTROL_DEVICE_BLK)
			disk_say(device, node);
		else if (device->type == CONTROL_DEVICE_FS)
			fs_say(device, node);
		else
			net_say(device, node);
	}
}
