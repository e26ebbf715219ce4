/* SPDX-License-Identifier: Apache-2.0 */
/* RDMA devices of a host: which there are, in which state their ports are, and what they lack. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/host_parts.h"

#define DEVICES	     "/sys/class/infiniband"
#define NODES	     "/dev/infiniband"
#define DRIVERS	     "/etc/libibverbs.d"
#define PATH_BYTES   512
#define DEVICES_MAX  16
#define NAME_BYTES   64
#define VERBS_NUMBER 32

struct devices {
	char name[DEVICES_MAX][NAME_BYTES];
	unsigned count;
};

static int name_order(const void *a, const void *b)
{
	return strverscmp(a, b);
}

/* Folders and links to such, in the order of their names. */
static void entries_read(const struct host_judge *j, const char *path, struct devices *out)
{
	char full[PATH_BYTES];
	struct dirent *entry;
	DIR *dir;

	out->count = 0;
	if (snprintf(full, sizeof(full), "%s%s", j->root, path) >= (int)sizeof(full))
		return;
	dir = opendir(full);
	while (dir && out->count < DEVICES_MAX && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strlen(entry->d_name) >= NAME_BYTES)
			continue;
		strcpy(out->name[out->count++], entry->d_name);
	}
	if (dir)
		closedir(dir);
	qsort(out->name, out->count, sizeof(out->name[0]), name_order);
}

bool host_rdma_any(const struct host_judge *j)
{
	struct devices devices;

	entries_read(j, DEVICES, &devices);
	return devices.count > 0;
}

/* An attribute of a port; "?" if it does not tell. */
static void port_read(const struct host_judge *j, const char *device, const char *port,
		      const char *attribute, char *text, size_t size)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), DEVICES "/%s/ports/%s/%s", device, port, attribute);
	/* An empty line is nothing, too. */
	if (!host_file_read(j, path, text, size) || !text[0])
		snprintf(text, size, "?");
}

/* The kernel writes a state as "4: ACTIVE". */
static const char *state_word(const char *state)
{
	const char *word = strstr(state, ": ");

	return word ? word + 2 : state;
}

/* What brings a port up: that of a network card, or of a fabric that has a manager. */
static void port_mend(const struct host_judge *j, const char *device, const char *port,
		      const char *layer, struct host_item *item)
{
	char netdev[32], mend[96];

	port_read(j, device, port, "gid_attrs/ndevs/0", netdev, sizeof(netdev));
	if (strcmp(layer, "InfiniBand") == 0)
		snprintf(mend, sizeof(mend),
			 "systemctl start opensm  # on one machine of the fabric");
	else if (strcmp(netdev, "?") != 0)
		snprintf(mend, sizeof(mend), "ip link set dev %s up", netdev);
	else
		snprintf(mend, sizeof(mend), "rdma link show  # which network card it is");
	host_item_say(item,
		      "the port is not up: links over it cannot be made, and TCP takes their place",
		      mend);
}

static void port_judge(struct host_judge *j, const char *device, const char *port)
{
	char name[NAME_BYTES], path[PATH_BYTES], layer[16], state[24], rate[32], firmware[24];
	struct host_item *item;
	bool active;

	port_read(j, device, port, "link_layer", layer, sizeof(layer));
	port_read(j, device, port, "state", state, sizeof(state));
	port_read(j, device, port, "rate", rate, sizeof(rate));
	snprintf(path, sizeof(path), DEVICES "/%s/fw_ver", device);
	if (!host_file_read(j, path, firmware, sizeof(firmware)) || !firmware[0])
		snprintf(firmware, sizeof(firmware), "?");
	active = strcmp(state_word(state), "ACTIVE") == 0;
	snprintf(name, sizeof(name), "rdma:%.20s/%.3s", device, port);
	item = host_item_add(j, name, active ? HOST_OK : HOST_NOTE);
	host_item_found(item, "%s, %s, %s, firmware %.16s", layer, state_word(state), rate,
			firmware);
	if (active)
		host_item_say(item, "links can go over it, if the data address is this port's", "");
	else
		port_mend(j, device, port, layer, item);
}

static void ports_judge(struct host_judge *j, const char *device, unsigned *left)
{
	char path[PATH_BYTES];
	struct devices ports;

	snprintf(path, sizeof(path), DEVICES "/%s/ports", device);
	entries_read(j, path, &ports);
	for (unsigned i = 0; i < ports.count && *left; i++, --*left)
		port_judge(j, device, ports.name[i]);
}

/* Whether programs can reach any device at all. */
static bool verbs_there(const struct host_judge *j)
{
	char path[64];

	for (unsigned i = 0; i < VERBS_NUMBER; i++) {
		snprintf(path, sizeof(path), NODES "/uverbs%u", i);
		if (host_file_there(j, path))
			return true;
	}
	return false;
}

/* What devices need beside themselves; the first that is missing. */
static void parts_judge(struct host_judge *j, unsigned count)
{
	bool manager = host_file_there(j, NODES "/rdma_cm");
	bool whole = verbs_there(j) && manager && host_file_there(j, DRIVERS);
	struct host_item *item = host_item_add(j, "rdma", whole ? HOST_OK : HOST_WARN);

	host_item_found(item, "%u device%s, " NODES "/rdma_cm is %s", count, count == 1 ? "" : "s",
			manager ? "there" : "missing");
	if (!verbs_there(j))
		host_item_say(item,
			      "no program can reach the devices: " NODES "/uverbs0 is missing",
			      "modprobe ib_uverbs");
	else if (!manager)
		host_item_say(item,
			      "connections over RDMA cannot be made: their manager in the kernel "
			      "is not loaded",
			      "modprobe rdma_ucm");
	else if (!whole)
		host_item_say(item, "the devices' drivers for programs are missing (" DRIVERS ")",
			      "apt-get install ibverbs-providers");
	else
		host_item_say(item,
			      "links to other hosts go over RDMA where both have it. Nothing "
			      "encrypts them: pangead --rdma none, or pangea run "
			      "--require-encryption, goes without",
			      "");
}

void host_rdma_judge(struct host_judge *j)
{
	unsigned left = HOST_RDMA_PORTS_MAX;
	struct devices devices;
	struct host_item *item;

	entries_read(j, DEVICES, &devices);
	if (devices.count) {
		parts_judge(j, devices.count);
	} else {
		item = host_item_add(j, "rdma", HOST_OK);
		host_item_found(item, "no device");
		host_item_say(item, "links to other hosts are TLS over TCP", "");
	}
	for (unsigned i = 0; i < devices.count; i++)
		ports_judge(j, devices.name[i], &left);
}
