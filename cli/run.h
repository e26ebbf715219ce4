/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `pangea run` share. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/cli.h"
#include "control/devices.h"
#include "control/images.h"

enum run_file {
	RUN_KERNEL,
	RUN_INITRD,
	RUN_FILES,
};

/* A guest that does no more than begin again shall not keep the cluster busy: with this many new starts within so
 * many seconds it ends. */
#define RUN_AGAIN_MAX	   10
#define RUN_AGAIN_WINDOW_S 60

/* When the VM is started again, and when that was. */
struct run_again {
	bool on_reboot, on_crash;
	uint64_t at_ns[RUN_AGAIN_MAX];
	unsigned count;
};

/* What cloud-init shall find; bytes are the disk that is made of it, CONTROL_SEED_BYTES. */
struct run_seed {
	const char *user_data, *hostname, *ssh_key; /* as given, or null */
	uint8_t *bytes;				    /* null: there is no seed; free it */
};

struct run_options {
	const char *path[RUN_FILES]; /* the initrd's may be null */
	const char *append, *name;
	const char *vendor;    /* of the CPU model; null: the coordinator's choice */
	const char *model;     /* "v1", "v2", "v3" or "max"; null: the coordinator's choice */
	const char *guest;     /* a micro-guest instead of a kernel; null: none */
	const char *args;      /* its words; null: none */
	const char *cpu;       /* "auto", "kvm" or "soft" */
	const char *transport; /* "auto", "shm", "rdma" or "tcp" */
	const char *profile;   /* of words for the kernel; null: by the machine, for a bzImage */
	char guest_path[STATE_PATH_MAX * 2];
	const char *placement; /* "spread" or "pack"; null: the coordinator's choice */
	bool overcommit;       /* more CPUs than nodes offer */
	unsigned cpus, nodes;
	uint64_t mem_bytes;
	/* Of each slice's cache of remote pages; at most one is not 0. */
	uint64_t cache_bytes;
	bool cache_none;
	unsigned cache_percent;
	unsigned distance; /* between any two NUMA nodes; 0: as measured */
	json_t *slices;	   /* array of {node, cpus, mem_bytes} */
	struct control_devices devices;
	unsigned images; /* files of --image */
	const char *image[CONTROL_IMAGES_MAX];
	bool net_none; /* --net none was said */
	struct run_seed seed;
	bool no_console, stats, force;
	bool detach;	     /* the coordinator has the VM, and starts it again */
	bool check;	     /* only look whether the description is in order */
	bool rm;	     /* it is not listed once it has ended */
	bool on_reboot_said; /* else it depends on the devices */
	struct run_again again;
	bool plaintext_data, require_encryption; /* of messages between hosts; not both */
	const char *stats_json;			 /* a file for the statistics; null: none */
	const char *console_log;		 /* a file for all console output; null: none */
	json_t *strings;			 /* what came out of a file */
};

/* cli_run_options.c. Returns -1 to go on, else the exit code. */
int run_options_parse(struct run_options *opts, struct cli_target *target, int argc, char **argv);

/* ---- cli_run_guest.c ---- */
/* The path of the micro-guest of this name. 0, or EXIT_IMAGE, having said which there are. */
int run_guest_find(const char *name, char *path, size_t size);

/* ---- cli_run_profile.c ---- */
/* Takes --profile's value; -1 to go on, else the exit code. */
int run_profile_option(struct run_options *opts, const char *name, const char *command);
/* What to ask the coordinator for; the kernel is open. */
const char *run_profile_choose(const struct run_options *opts, int kernel_fd);
/* Says which words a run-placed message tells of, and why. */
void run_profile_say(const json_t *placed);

/* ---- cli_run_devices.c ---- */
/* Takes a value of --disk, --net or --fs; -1 to go on, else the exit code. */
int run_disk_option(struct run_options *opts, const char *value, const char *command);
int run_net_option(struct run_options *opts, const char *value, const char *command);
int run_fs_option(struct run_options *opts, const char *value, const char *command);

/* ---- cli_run_seed.c ---- */
/* Takes the value of --cloud-init, --hostname or --ssh-key into its place; -1 to go on, else the exit code. */
int run_seed_option(struct run_options *opts, const char **place, const char *value,
		    const char *command);
/* Makes the seed and its device, if one of them was said; -1 to go on, else the exit code. */
int run_seed_make(struct run_options *opts, const char *command);

/* Says which disks, networks and folders a run-placed message tells of. */
void run_devices_say(const json_t *placed);

/* ---- cli_run_again.c ---- */
enum run_next {
	RUN_END,
	RUN_AGAIN,
	RUN_TOO_OFTEN, /* it would be started again, but for the limit */
};

/* Takes the value of an option that is restart or end, as --name; -1 to go on, else the exit code. */
int run_again_option(bool *again, const char *name, const char *value, const char *command);
/* What --on-reboot is if nobody says it: a guest with a disk finds there what it wrote. */
bool run_again_default(const struct control_devices *devices);
/* The VM has ended with this code, by a reset from outside or not: what now, and in *cause, which is null for RUN_END
 * alone, what it did (static). now_ns: of clock_now_ns. */
enum run_next run_again_decide(struct run_again *again, int code, bool reset, uint64_t now_ns,
			       const char **cause);

/* ---- cli_run_upload.c ---- */
struct run_upload {
	int fd[RUN_FILES];
	uint64_t bytes[RUN_FILES], sent[RUN_FILES];
	unsigned unanswered; /* bytes on their way, those of images too */
	bool begun;
};

/* Opens and checks the files; 0 or EXIT_IMAGE, having said why. */
int run_upload_open(struct run_upload *upload, const struct run_options *opts);
void run_upload_close(struct run_upload *upload);
/* Sends as many pieces as may be on their way; 0 or an exit code, having said why. */
int run_upload_continue(struct run_upload *upload, struct control_conn *conn);
/* What a file-ack or image-ack says has arrived. */
void run_upload_answered(struct run_upload *upload, const json_t *msg);

/* ---- cli_run_images.c ---- */
struct run_image {
	int fd;
	bool asked; /* some node lacks it */
	uint64_t sent, said_ns;
};

struct run_images {
	struct control_images list;
	struct run_image one[CONTROL_IMAGES_MAX];
};

/* Takes a value of --image; -1 to go on, else the exit code. */
int run_image_option(struct run_options *opts, const char *value, const char *command);
/* Opens the files and reads all of them, for their digests; 0 or EXIT_IMAGE, having said why. */
int run_images_open(struct run_images *images, const struct run_options *opts);
void run_images_close(struct run_images *images);
/* The VM is started again: as run_images_open left them. */
void run_images_renew(struct run_images *images);
/* An image-send message: that one is wanted. False: it makes no sense. */
bool run_images_asked(struct run_images *images, const json_t *msg);
/* Sends as many pieces as may be on their way, counting their bytes; 0 or an exit code, having said why. */
int run_images_continue(struct run_images *images, struct control_conn *conn, unsigned *unanswered);

/* ---- cli_run_stats.c ---- */
/* Prints the table of a vm-ended message to stderr. */
void run_stats_print(const json_t *ended);
/* Writes it as JSON; 0 or -EIO. */
int run_stats_write(FILE *out, const json_t *ended);

#endif
