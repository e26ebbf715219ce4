/* SPDX-License-Identifier: Apache-2.0 */
/* A slice's disks, networks and folders on this node: their files and sockets, and the programs that serve them. */
#ifndef NODE_NODE_DEVICES_H
#define NODE_NODE_DEVICES_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "control/control.h"
#include "control/devices.h"

/* An image and the images it stands on: deeper chains are somebody's mistake. */
#define NODE_LAYERS_MAX 16
/* The first descriptor that a slice gets for a device; one after the other. */
#define NODE_DEVICE_FD_FIRST 6

struct node_daemon;
struct node_slice;
struct node_backend;
struct node_options;

/* ---- node_disk.c: the files of a disk ---- */

struct node_layer {
	int fd; /* open and locked */
	bool qcow2;
};

/* The image first, then what it stands on. */
struct node_disk {
	unsigned layers;
	struct node_layer layer[NODE_LAYERS_MAX];
	uid_t uid; /* the image's owner and group */
	gid_t gid;
	char real[PATH_MAX]; /* a folder's name: it is the only layer, not locked */
};

/*
 * Opens a disk's image and all that it stands on, each below a folder that the daemon allows (--disks), and locks
 * them: the image against everybody if it is to be written, else against writers. The locks last until every copy of
 * the descriptors is closed. Waits for file systems. 0, or -errno with a sentence in why (CONTROL_WHY_MAX bytes) that
 * says what to do; then nothing is open.
 */
int node_disk_open(const struct node_options *opts, const struct control_device *device,
		   struct node_disk *out, char *why);
/* The same for the seed, whose contents are there: opened anew, for reading only. */
int node_seed_open(const struct control_device *device, int contents, struct node_disk *out,
		   char *why);
/* Opens a folder in the same way, below the same ones. As above; node_disk_close closes it. */
int node_folder_open(const struct node_options *opts, const struct control_device *device,
		     struct node_disk *out, char *why);
void node_disk_close(struct node_disk *disk);

/* ---- qcow2.c: the head of an image; no I/O ---- */

#define QCOW2_HEAD_BYTES   4096
#define QCOW2_BACKING_MAX  1023
#define QCOW2_DRIVER_BYTES 16

struct qcow2_head {
	bool qcow2;			 /* else all that follows is meaningless */
	bool data_file;			 /* its contents lie in another file */
	uint64_t backing_offset;	 /* of the name of what it stands on; 0: it stands alone */
	unsigned backing_bytes;		 /* of that name */
	char driver[QCOW2_DRIVER_BYTES]; /* the format of what it stands on; "": not said */
};

/* Looks at the first bytes of a file, len of at most QCOW2_HEAD_BYTES. 0, or -EINVAL: it begins as qcow2, and goes
 * on as nonsense. Any thread. */
int qcow2_head_parse(const uint8_t *head, size_t len, struct qcow2_head *out);

/* ---- node_devices.c: the devices of a slice that is about to start ---- */

struct node_device {
	struct control_device what;
	int slice_fd,
		back_fd; /* a connection's two ends; of a disk or folder the second one listens */
	struct node_disk disk; /* or folder */
	char program[PATH_MAX];
	int handover; /* where its program is started again: the slice's descriptor for new connections; else -1 */
};

/* The programs that serve folders: written in Rust (Debian 13) and in C (Debian 12). */
#define NODE_VIRTIOFSD "/usr/lib/qemu/virtiofsd"

/* Whether its program speaks vhost-user, on a socket that listens; else it has a stream. */
bool node_device_listens(enum control_device_type type);

struct node_devices {
	unsigned count;
	struct node_device list[CONTROL_DEVICES_MAX];
	/* Where a device has restart: by which the slice is handed new connections, our end and its; else -1. */
	int handover[2];
};

/* None yet; free() it when it is closed. Null without memory. */
struct node_devices *node_devices_new(void);
/*
 * Takes slice-start's "devices" and makes all that can fail before there are processes: programs found, files open,
 * sockets connected. seed: the contents of the device that is one, which keeps no claim on it; -1: they have not come. 0, or negative with a sentence in why; then nothing is open.
 */
int node_devices_open(const struct node_daemon *node, const json_t *msg, int seed,
		      struct node_devices *out, char *why);
/* How many descriptors a slice inherits of them. */
unsigned node_devices_fds(const struct node_devices *devices);
/* Closes what is still open. */
void node_devices_close(struct node_devices *devices);
/* For slice-config: a new reference, null without memory. slices: of the VM. */
json_t *node_devices_json(const struct node_devices *devices, unsigned slices);

/* Two ends of a new connection to a disk's program, which is to listen at one. 0 or -errno. */
int node_device_connect(const struct node_daemon *node, struct node_device *device);

/* ---- node_tap.c ---- */
/* Opens the tap that the device names: a lasting one that belongs to this daemon's user. 0, or -errno with a sentence
 * in why. */
int node_tap_open(const struct node_daemon *node, const struct control_device *what, int *out,
		  char *why);

/* ---- node_restart.c: disks whose program is started again ---- */

/* So often within so many seconds; then the disk's requests fail. */
#define NODE_RESTARTS_MAX 5
#define NODE_RESTART_S	  60

struct node_kept {
	struct node_device device; /* its files open and locked by copies; no connection */
	unsigned starts;
	uint64_t first_ns;
};

/* Null without memory or descriptors. */
struct node_kept *node_kept_new(const struct node_device *device);
void node_kept_free(struct node_kept *kept);
/* Counts a start at now_ns (CLOCK_MONOTONIC); false: that is one too many. */
bool node_kept_again(struct node_kept *kept, uint64_t now_ns);
/* The two ends of what carries new connections; the second is the slice's. 0 or -errno. */
int node_handover_open(int fds[2]);
/* Hands the slice a connection for this device; fd -1: there will be none. Does not wait. 0 or -errno. */
int node_handover_send(int handover, const char *id, int fd);

/* ---- node_command.c: the command lines ---- */

#define NODE_ARGS_MAX (NODE_LAYERS_MAX * 4 + 16)

/* A program's words, each one's memory its own; null behind the last. */
struct node_command {
	unsigned count;
	char *word[NODE_ARGS_MAX + 1];
};

/* In the child: the socket, and behind it the layers of a disk, or the folder. */
#define NODE_BACK_SOCKET 3
#define NODE_BACK_LAYER	 4
/* 0 or -ENOMEM; free it either way. */
int node_command_make(const struct node_device *device, unsigned queues, struct node_command *out);
void node_command_free(struct node_command *command);
/* Queues of a disk: one for each slice, up to four. */
unsigned node_queues(unsigned slices);

/* ---- uv_backends.c: the processes ---- */

/*
 * Starts the back ends of a slice that has been spawned. When all are ready it calls slice_configure_go; if one
 * cannot start or ends before that, slice_refuse. 0, or -errno with a sentence in why: those that run end with the
 * slice's process.
 */
int backends_start(struct node_slice *slice, struct node_devices *devices, char *why);
/* The slice's process has been reaped: they end, too, and slice_backends_over is called when the last one has. */
void backends_end(struct node_slice *slice);
/* A child has ended. */
void backends_reap(struct node_daemon *node);
bool backends_ready(const struct node_slice *slice);

#endif
