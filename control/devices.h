/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's disks, networks and folders: as people write them, as messages carry them, and their limits. */
#ifndef CONTROL_DEVICES_H
#define CONTROL_DEVICES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

/* Of one VM. Each costs the node a process, and the guest a place on its PCI bus. */
#define CONTROL_DISKS_MAX   8
#define CONTROL_NETS_MAX    4
#define CONTROL_FOLDERS_MAX 4
#define CONTROL_DEVICES_MAX (CONTROL_DISKS_MAX + CONTROL_NETS_MAX + CONTROL_FOLDERS_MAX)
/* Ports of one network. With these limits the devices of 64 VMs fit into a list of VMs. */
#define CONTROL_FORWARDS_MAX 8
/* Path of a disk on its node, id of a device, numeric address; each with its zero. */
#define CONTROL_DISK_PATH_MAX 1024
#define CONTROL_ID_MAX	      32
#define CONTROL_NUMERIC_MAX   46
/* The byte of a disk's file that our locks are on: far from those of QEMU's locks (100 to 263), which its storage daemon
 * takes on a raw image without excluding other writers. */
#define CONTROL_DISK_LOCK 0x70616e67
/* A seed for cloud-init: a disk whose contents come with the VM's start, all of them. */
#define CONTROL_SEED_BYTES (64u << 10)
/* The name of a network interface, with its zero: the kernel's IFNAMSIZ. */
#define CONTROL_IFNAME_MAX 16
/* The name by which a guest mounts a folder, with its zero. */
#define CONTROL_TAG_MAX 37
/* How a device's back end ended, with its zero. */
#define CONTROL_ENDED_MAX 128

enum control_device_type {
	CONTROL_DEVICE_BLK,
	CONTROL_DEVICE_NET,
	CONTROL_DEVICE_FS,
	CONTROL_DEVICE_TYPES,
};

enum control_disk_format {
	CONTROL_DISK_AUTO, /* qcow2 if the file begins so, else raw */
	CONTROL_DISK_RAW,
	CONTROL_DISK_QCOW2,
};

/* A TCP port of the node that leads to one of the guest. */
struct control_forward {
	char host[CONTROL_NUMERIC_MAX]; /* an address of the node */
	unsigned port, guest_port;
};

struct control_device {
	enum control_device_type type;
	char id[CONTROL_ID_MAX]; /* "": to be given */
	/* Whose it is: the slice of this number, or, until the coordinator has looked, the VM's slice on this node. */
	unsigned slice;
	char node[NAME_MAX_LEN + 1]; /* "": slice says it */
	/* a disk or a folder */
	char path[CONTROL_DISK_PATH_MAX];
	bool readonly;
	/* a folder */
	char tag[CONTROL_TAG_MAX];
	/* a disk */
	enum control_disk_format format;
	bool direct;  /* past the node's page cache */
	bool restart; /* its back end is started again when it ends */
	bool seed;    /* it has no path: its contents travel beside the message; for reading only */
	/* a network */
	bool mac_known;
	uint8_t mac[6];
	char ifname[CONTROL_IFNAME_MAX]; /* a tap of the node's; "": passt, and then: */
	unsigned forwards;
	struct control_forward forward[CONTROL_FORWARDS_MAX];
};

struct control_devices {
	unsigned count;
	struct control_device list[CONTROL_DEVICES_MAX];
};

/*
 * Adds what one --disk or --net says: "FILE[,format=raw|qcow2][,readonly][,id=ID][,cache=writeback|none]
 * [,on-error=report|restart][,node=N]", a comma in FILE written twice;
 * "user[,forward=[HOST:]PORT:GUESTPORT]...[,mac=MAC][,id=ID][,node=N]", "tap,ifname=NAME[,mac=MAC][,id=ID][,node=N]" or
 * "none", which adds nothing. N is a slice's number or a node's name. 0, or -EINVAL with a sentence in why
 * (CONTROL_WHY_MAX bytes). Any thread.
 */
int control_disk_parse(const char *text, struct control_devices *out, char *why);
int control_net_parse(const char *text, struct control_devices *out, char *why);
/* Adds what one --fs says: "DIR,tag=TAG[,readonly][,id=ID][,node=N]", a comma in DIR written twice. As above. */
int control_fs_parse(const char *text, struct control_devices *out, char *why);
/* Adds the seed as one more disk. 0, or -EINVAL with a sentence in why: there are too many, or there is one. */
int control_seed_add(struct control_devices *out, char *why);
/* Whether one of them is the seed. */
bool control_seed_wanted(const struct control_devices *devices);
/*
 * Takes a message's field "devices", which may be missing, trusting nothing. 0, or -PANGEA_ECONTROL with a
 * sentence in why. Any thread.
 */
int control_devices_get(const json_t *msg, struct control_devices *out, char *why);
/* The same backwards; a new reference, null without memory. */
json_t *control_devices_json(const struct control_devices *devices);
/*
 * Gives an id to each device that has none (disk0, net0, fs0, ... by their order) and an address to each network
 * that has none: locally administered, and for the same VM name and place always the same. 0, or -EINVAL with a
 * sentence in why: two have the same id.
 */
int control_devices_complete(struct control_devices *devices, const char *vm, char *why);

/* "disk0", "net1": [a-z0-9-]{1,31}, not beginning with '-'. */
bool control_device_id_valid(const char *id);
#define CONTROL_MAC_TEXT 18
void control_mac_format(const uint8_t mac[6], char out[CONTROL_MAC_TEXT]);
/* "52:54:00:12:34:56" of one station, not of a group, and not zero; 0 or -EINVAL. */
int control_mac_parse(const char *text, uint8_t mac[6]);
/* What can be the name of a network interface, and stand in a path: 1 to 15 of A-Z, a-z, 0-9, '.', '_' and '-', not
 * first '.' or '-'. */
bool control_ifname_valid(const char *name);
/* 1 to 36 of A-Z, a-z, 0-9, '.', '_' and '-', not first '-'. */
bool control_tag_valid(const char *tag);
/* "blk", "net" or "fs"; static. */
const char *control_device_type_name(enum control_device_type type);
/* "auto", "raw" or "qcow2"; static. */
const char *control_disk_format_name(enum control_disk_format format);

#endif
