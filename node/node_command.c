/* SPDX-License-Identifier: Apache-2.0 */
/* The command lines of the programs that serve disks, networks and folders. No name of a file is in them, only numbers. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node_devices.h"

/* More gain nothing: each is a vCPU's own, and a slice of a machine has few. */
#define QUEUES_MAX 4

unsigned node_queues(unsigned slices)
{
	return slices < QUEUES_MAX ? slices : QUEUES_MAX;
}

static int word_add(struct node_command *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int word_add(struct node_command *command, const char *fmt, ...)
{
	char *word = NULL;
	va_list ap;
	int n;

	if (command->count == NODE_ARGS_MAX)
		return -E2BIG;
	va_start(ap, fmt);
	n = vasprintf(&word, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	command->word[command->count++] = word;
	command->word[command->count] = NULL;
	return 0;
}

/* --blockdev takes JSON; the reference is taken. */
static int blockdev_add(struct node_command *command, json_t *node)
{
	char *text = node ? json_dumps(node, JSON_COMPACT) : NULL;
	int err = text ? word_add(command, "--blockdev") : -ENOMEM;

	if (!err)
		err = word_add(command, "%s", text);
	free(text);
	json_decref(node);
	return err;
}

/* A file, by the number that the child has it under, and its format above it; all from the bottom upwards. */
static int layer_words(const struct node_device *device, unsigned i, struct node_command *out)
{
	bool readonly = i > 0 || device->what.readonly, last = i + 1 == device->disk.layers;
	char file[16], name[16], below[16], path[32];
	json_t *node;
	int err;

	snprintf(file, sizeof(file), "file%u", i);
	snprintf(name, sizeof(name), "layer%u", i);
	snprintf(below, sizeof(below), "layer%u", i + 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%u", NODE_BACK_LAYER + i);
	err = blockdev_add(out, json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:b, s:b}}", "driver",
					  "file", "node-name", file, "filename", path, "read-only",
					  (int)readonly, "discard", "unmap", "cache", "direct",
					  (int)device->what.direct, "no-flush", 0));
	if (err)
		return err;
	node = json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:b, s:b}}", "driver",
			 device->disk.layer[i].qcow2 ? "qcow2" : "raw", "node-name", name, "file",
			 file, "read-only", (int)readonly, "discard", "unmap", "cache", "direct",
			 (int)device->what.direct, "no-flush", 0);
	/* Said in any case: else a name in the image would be followed. */
	if (node && device->disk.layer[i].qcow2)
		json_object_set_new(node, "backing", last ? json_null() : json_string(below));
	return blockdev_add(out, node);
}

static int disk_words(const struct node_device *device, unsigned queues, struct node_command *out)
{
	int err = 0;

	for (unsigned i = device->disk.layers; i-- > 0 && !err;)
		err = layer_words(device, i, out);
	if (!err)
		err = word_add(out, "--export");
	return err ? err
		   : word_add(out,
			      "type=vhost-user-blk,id=disk,node-name=layer0,writable=%s,"
			      "num-queues=%u,addr.type=fd,addr.str=%d",
			      device->what.readonly ? "off" : "on", queues, NODE_BACK_SOCKET);
}

/* Some port is forwarded for who connects from the node itself. */
static bool from_loopback(const struct control_device *what)
{
	for (unsigned i = 0; i < what->forwards; i++) {
		const char *host = what->forward[i].host;

		if (strncmp(host, "127.", 4) == 0 || strcmp(host, "0.0.0.0") == 0 ||
		    strcmp(host, "::1") == 0 || strcmp(host, "::") == 0)
			return true;
	}
	return false;
}

/*
 * TCP ports as asked for and nothing else. The gateway's address does not lead to what listens on the node's loopback
 * (--no-map-gw), unless callers from there are wanted: passt knows that address for both ways or for neither.
 */
static int net_words(const struct node_device *device, struct node_command *out)
{
	int err = word_add(out, "--foreground");

	if (!err)
		err = word_add(out, "--quiet");
	if (!err)
		err = word_add(out, "--fd");
	if (!err)
		err = word_add(out, "%d", NODE_BACK_SOCKET);
	if (!err && !from_loopback(&device->what))
		err = word_add(out, "--no-map-gw");
	for (unsigned i = 0; !err && i < device->what.forwards; i++) {
		const struct control_forward *forward = &device->what.forward[i];

		err = word_add(out, "--tcp-ports");
		if (!err)
			err = word_add(out, "%s/%u:%u", forward->host, forward->port,
				       forward->guest_port);
	}
	/* UDP ports of the same numbers would be forwarded, too. */
	if (!err)
		err = word_add(out, "--udp-ports");
	return err ? err : word_add(out, "none");
}

/*
 * The folder is its root (confine/confine_folder.c), so that it needs no mount of its own; a limit on open files it
 * has. What another process on the host changes the guest sees a second later (its default).
 */
static int fs_words(struct node_command *out)
{
	int err = word_add(out, "--fd=%d", NODE_BACK_SOCKET);

	if (!err)
		err = word_add(out, "--rlimit-nofile=0");
	if (!err)
		err = word_add(out, "-o");
	if (!err)
		err = word_add(out, "sandbox=chroot");
	if (!err)
		err = word_add(out, "-o");
	if (!err)
		err = word_add(out, "source=/proc/self/fd/%d/.", NODE_BACK_LAYER);
	if (!err)
		err = word_add(out, "-o");
	return err ? err : word_add(out, "log_level=warn");
}

int node_command_make(const struct node_device *device, unsigned queues, struct node_command *out)
{
	int err;

	memset(out, 0, sizeof(*out));
	err = word_add(out, "%s", device->program);
	if (err)
		return err;
	if (device->what.type == CONTROL_DEVICE_BLK)
		return disk_words(device, queues, out);
	return device->what.type == CONTROL_DEVICE_NET ? net_words(device, out) : fs_words(out);
}

void node_command_free(struct node_command *command)
{
	for (unsigned i = 0; i < command->count; i++)
		free(command->word[i]);
	command->count = 0;
}
