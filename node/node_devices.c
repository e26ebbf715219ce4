/* SPDX-License-Identifier: Apache-2.0 */
/* What the devices of a slice need before there are processes: programs, files, connected sockets. */
#include "node/node_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "node/node.h"

/* Where programs are if nobody says. */
#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"

static const struct {
	const char *program, *package, *what;
} tools[] = {
	[CONTROL_DEVICE_BLK] = {"qemu-storage-daemon", "qemu-utils (Debian 12: qemu-system-common)",
				"disks"},
	[CONTROL_DEVICE_NET] = {"passt", "passt", "networks"},
	[CONTROL_DEVICE_FS] = {NODE_VIRTIOFSD, "qemu-system-common (of Debian 12)", "folders"},
};

static int program_find(const char *name, char out[PATH_MAX])
{
	const char *path = getenv("PATH");
	struct stat st;

	for (const char *at = path ? path : PATH_DEFAULT; *at;) {
		size_t len = strcspn(at, ":");
		/* An empty part means the working directory to a shell; not here. */
		if (len && *at == '/' &&
		    snprintf(out, PATH_MAX, "%.*s/%s", (int)len, at, name) < PATH_MAX &&
		    stat(out, &st) == 0 && S_ISREG(st.st_mode) && access(out, X_OK) == 0)
			return 0;
		at += len + (at[len] == ':');
	}
	return -ENOENT;
}

/* virtiofsd is no command. That of Debian 13, /usr/libexec/virtiofsd, does not serve here: it takes the folder's name from its
 * descriptor and serves what has that name, which of a folder that is no part of a tree is the root. */
static int folder_program_find(char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s", NODE_VIRTIOFSD);
	return access(out, X_OK) < 0 ? -ENOENT : 0;
}

static int tool_find(const struct node_daemon *node, struct node_device *device, char *why)
{
	enum control_device_type type = device->what.type;

	int err = type == CONTROL_DEVICE_FS ? folder_program_find(device->program)
					    : program_find(tools[type].program, device->program);

	if (!err)
		return 0;
	snprintf(why, CONTROL_WHY_MAX,
		 "%s: node %s lacks the program %s, which %s need: install Debian's package %s "
		 "there",
		 device->what.id, node->opts.name, tools[type].program, tools[type].what,
		 tools[type].package);
	return -ENOENT;
}

/* A socket that listens in the run directory, and its one caller; then its name goes, so that nobody else calls. */
static int listener_call(int folder, int back, int slice)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int err = 0;

	/* By the folder's descriptor: its name may be longer than an address. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/back-end", folder);
	if (bind(back, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (listen(back, 1) < 0 || connect(slice, (struct sockaddr *)&address, sizeof(address)) < 0)
		err = -errno;
	unlinkat(folder, "back-end", 0);
	return err;
}

static int listener_make(const char *run_dir, struct node_device *device)
{
	int folder = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (folder < 0)
		return -errno;
	device->back_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	device->slice_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (device->back_fd < 0 || device->slice_fd < 0)
		err = -errno;
	if (!err)
		err = listener_call(folder, device->back_fd, device->slice_fd);
	close(folder);
	return err;
}

/* A network's two ends. passt drops frames that its socket has no room for: what one connection has on its way fits. */
static int stream_pair(int fds[2])
{
	static const int bytes = 4 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	for (unsigned i = 0; i < 2; i++)
		if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
			/* Without the privilege, as much as the host lets anybody have. */
			setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	return 0;
}

static int sockets_make(const struct node_daemon *node, struct node_device *device, char *why)
{
	int fds[2], err = 0;

	if (node_device_listens(device->what.type)) {
		err = listener_make(node->opts.run_dir, device);
	} else if (stream_pair(fds) < 0) {
		err = -errno;
	} else {
		device->slice_fd = fds[0];
		device->back_fd = fds[1];
	}
	if (err)
		snprintf(why, CONTROL_WHY_MAX, "%s: no socket for it on node %s: %s",
			 device->what.id, node->opts.name, error_text(err));
	return err;
}

bool node_device_listens(enum control_device_type type)
{
	return type == CONTROL_DEVICE_BLK || type == CONTROL_DEVICE_FS;
}

static int device_open(const struct node_daemon *node, struct node_device *device, int seed,
		       char *why)
{
	int err;

	/* A tap has no program. */
	if (device->what.ifname[0])
		return node_tap_open(node, &device->what, &device->slice_fd, why);
	err = tool_find(node, device, why);
	if (!err && device->what.seed)
		err = node_seed_open(&device->what, seed, &device->disk, why);
	else if (!err && device->what.type == CONTROL_DEVICE_BLK)
		err = node_disk_open(&node->opts, &device->what, &device->disk, why);
	if (!err && device->what.type == CONTROL_DEVICE_FS)
		err = node_folder_open(&node->opts, &device->what, &device->disk, why);
	return err ? err : sockets_make(node, device, why);
}

struct node_devices *node_devices_new(void)
{
	struct node_devices *devices = calloc(1, sizeof(*devices));

	if (devices)
		devices->handover[0] = devices->handover[1] = -1;
	return devices;
}

int node_device_connect(const struct node_daemon *node, struct node_device *device)
{
	return listener_make(node->opts.run_dir, device);
}

/* The descriptor behind those of the devices is for all of them. */
static int handover_make(const struct node_daemon *node, struct node_devices *devices, char *why)
{
	bool any = false;
	int err;

	for (unsigned i = 0; i < devices->count; i++) {
		struct node_device *device = &devices->list[i];

		device->handover =
			device->what.restart ? (int)(NODE_DEVICE_FD_FIRST + devices->count) : -1;
		any |= device->what.restart;
	}
	err = any ? node_handover_open(devices->handover) : 0;
	if (err)
		snprintf(why, CONTROL_WHY_MAX, "no socket for its devices on node %s: %s",
			 node->opts.name, error_text(err));
	return err;
}

unsigned node_devices_fds(const struct node_devices *devices)
{
	return devices->count + (devices->handover[1] >= 0 ? 1 : 0);
}

int node_devices_open(const struct node_daemon *node, const json_t *msg, int seed,
		      struct node_devices *out, char *why)
{
	struct control_devices devices;
	int err = control_devices_get(msg, &devices, why);

	out->count = 0;
	out->handover[0] = out->handover[1] = -1;
	for (unsigned i = 0; !err && i < devices.count; i++) {
		struct node_device *device = &out->list[out->count++];

		memset(device, 0, sizeof(*device));
		device->what = devices.list[i];
		device->slice_fd = device->back_fd = -1;
		err = device->what.id[0] ? device_open(node, device, seed, why) : -PANGEA_ECONTROL;
		if (err == -PANGEA_ECONTROL)
			snprintf(why, CONTROL_WHY_MAX, "slice-start: a device has no id");
	}
	if (!err)
		err = handover_make(node, out, why);
	if (err)
		node_devices_close(out);
	return err;
}

void node_devices_close(struct node_devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++) {
		struct node_device *device = &devices->list[i];

		if (device->slice_fd >= 0)
			close(device->slice_fd);
		if (device->back_fd >= 0)
			close(device->back_fd);
		node_disk_close(&device->disk);
	}
	for (unsigned i = 0; i < 2; i++)
		if (devices->handover[i] >= 0)
			close(devices->handover[i]);
	devices->handover[0] = devices->handover[1] = -1;
	devices->count = 0;
}

json_t *node_devices_json(const struct node_devices *devices, unsigned slices)
{
	json_t *list = json_array();
	char mac[CONTROL_MAC_TEXT];

	for (unsigned i = 0; i < devices->count; i++) {
		const struct control_device *what = &devices->list[i].what;
		json_t *one =
			json_pack("{s:s, s:s, s:i}", "type", control_device_type_name(what->type),
				  "id", what->id, "fd", (int)(NODE_DEVICE_FD_FIRST + i));

		control_mac_format(what->mac, mac);
		if (what->type == CONTROL_DEVICE_NET)
			json_object_set_new(one, "mac", json_string(mac));
		else if (what->type == CONTROL_DEVICE_FS)
			json_object_set_new(one, "tag", json_string(what->tag));
		else
			json_object_set_new(one, "readonly", json_boolean(what->readonly));
		if (what->ifname[0])
			json_object_set_new(one, "tap", json_true());
		if (devices->list[i].handover >= 0)
			json_object_set_new(one, "handover",
					    json_integer(devices->list[i].handover));
		if (what->type == CONTROL_DEVICE_BLK)
			json_object_set_new(one, "queues",
					    json_integer((json_int_t)node_queues(slices)));
		json_array_append_new(list, one);
	}
	return list;
}
