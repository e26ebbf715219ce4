/* SPDX-License-Identifier: Apache-2.0 */
/* The disks, networks and folders of a slice: connected sockets that the daemon left open, and what it says of them. */
#ifndef VMM_MAIN_SLICE_DEVICES_H
#define VMM_MAIN_SLICE_DEVICES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* As many as a VM may have (control/devices.h). */
#define SLICE_DEVICES_MAX    16
#define SLICE_DEVICE_ID_MAX  32
#define SLICE_DEVICE_TAG_MAX 37
/* The descriptors below are the daemon's socket, kernel and initrd. */
#define SLICE_DEVICE_FD_FIRST 6

enum slice_device_type {
	SLICE_DEVICE_BLK, /* fd: a vhost-user front end's socket, its back end ready */
	SLICE_DEVICE_FS,  /* as BLK */
	SLICE_DEVICE_NET, /* fd: a stream of frames, each behind its length (4 bytes, big-endian) */
};

struct slice_device {
	enum slice_device_type type;
	int fd; /* connected; open in this process */
	char id[SLICE_DEVICE_ID_MAX];
	/* a disk */
	bool readonly;
	int handover; /* a socket by which connections to its next back ends come; -1: there are none */
	unsigned queues; /* that its back end offers, at least 1 */
	/* a folder */
	char tag[SLICE_DEVICE_TAG_MAX];
	/* a network */
	uint8_t mac[6];
	bool tap; /* fd is a tap's: a frame for each read and write */
};

struct slice_devices {
	unsigned count;
	struct slice_device list[SLICE_DEVICES_MAX];
};

/*
 * Takes slice-config's field "devices", which may be missing, trusting nothing of it; whether the descriptors are
 * open is seen when they are used. 0, or -PANGEA_ECONTROL with a sentence in why (CONTROL_WHY_MAX bytes). Any thread.
 */
int slice_devices_parse(const json_t *msg, struct slice_devices *devices, char *why);

#endif
