/* SPDX-License-Identifier: Apache-2.0 */
/* pangead's state and what its files share. One thread, one libuv loop. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "confine/confine.h"
#include "control/control.h"
#include "control/service.h"
#include "node/node_devices.h"
#include "node/node_images.h"
#include "node/node_rate.h"

/* Slices and uploads of one daemon at a time; a machine with more CPUs than this is rare. */
#define NODE_SLICES_MAX	 256
#define NODE_UPLOADS_MAX 64

/* Folders for disks that it can be told. */
#define NODE_DISK_DIRS_MAX 16
/* Where disks lie if nobody says. */
#define NODE_DISK_DIR "/var/lib/pangea/disks"

/* How often the daemon says that it lives, and how long the coordinator may be silent. */
#define HEARTBEAT_MS	       1000
#define COORDINATOR_SILENCE_MS 10000
/* Waits between attempts to reach the coordinator: doubling from the first to the last. */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS	 5000
/* The same while slices wait for it. */
#define BACKOFF_SLICES_MS 1000
/* Of a slice's console this much is kept, for a coordinator that comes back. */
#define CONSOLE_KEPT_BYTES 262144u
/* A slice that has said its last word, or closed its connection, has this long to exit. */
#define SLICE_EXIT_MS 2000

enum upload_file {
	UPLOAD_KERNEL,
	UPLOAD_INITRD,
	UPLOAD_SEED, /* what cloud-init reads; it comes with files-begin */
	UPLOAD_FILES,
};

/* The kernel and initrd of a VM whose slice 0 is here: files without names, gone with us. */
struct upload {
	char vm[NAME_MAX_LEN + 1]; /* "": free */
	uint64_t incarnation;
	uint64_t want[UPLOAD_FILES], got[UPLOAD_FILES];
	int fd[UPLOAD_FILES];
};

/* How far a slice has come by its own words; each is said once, in this order but for the last. */
enum slice_said {
	SAID_NOTHING,
	SAID_LISTENING,
	SAID_CONNECTED,
	SAID_STARTED,
	SAID_EXIT,
};

struct node_slice {
	struct node_daemon *node;
	char vm[NAME_MAX_LEN + 1];
	uint64_t incarnation; /* the VM's */
	unsigned index, vcpus;
	uint64_t mem_bytes;
	unsigned slices;      /* of its VM */
	uint64_t limit_bytes; /* of all memory of its process; 0: none */
	pid_t pid;
	struct confine_hold hold; /* with the process */
	bool reaped;
	bool orphan; /* nobody wants it any more, nor to hear of its end */
	bool over;   /* nothing is left but its reports, until the coordinator has heard its end */
	json_t *reports;  /* what it has said of its state: for the inventory */
	uint8_t *console; /* the newest of console_bytes of output (node_console.c); or null */
	uint64_t console_bytes, console_gap; /* all of it; up to where the last was dropped */
	bool console_open;		     /* the coordinator has said from where it wants it */
	int status;			     /* of waitpid, once reaped */
	struct control_conn *conn;
	struct control_deadline *deadline; /* to exit, then to close */
	char how[CONTROL_WHY_MAX];	   /* how it ended, if not by its exit status */
	uint64_t console_lost;		   /* bytes of output dropped and not yet told */
	int log_fd;			   /* of its console; -1: none */
	uint64_t log_bytes;
	enum slice_said said;
	uint64_t input_owed;	  /* bytes of console input it was given and did not say it took */
	struct rate report_rate;  /* its allowance of them: node_check.c */
	bool beaten;		  /* it has sent a beat since the last tick: node_silence.c */
	unsigned missed;	  /* ticks since the last beat */
	unsigned engine_silent_s; /* what that said */
	bool silence_told;	  /* the coordinator knows that it is silent */
	/* Its devices: each one's back end while there is one, and what it is told of them. */
	struct node_backend *backend[CONTROL_DEVICES_MAX];
	int handover_fd; /* by which it gets connections to those that were started again; -1: none */
	json_t *devices;
	json_t *images; /* what it is told of images; or null */
	json_t *config; /* slice-start, until the slice has been told; or null */
	json_t *ended;	/* the report of back ends that ended; or null */
};

/* What slices here may use of RDMA. */
struct node_rdma {
	bool allowed;
	char device[CONTROL_DEVICE_MAX]; /* "": the one that has the data address */
	unsigned port;			 /* of it; 0: the one that has the data address */
	int gid_index;			 /* -1: the one that stands for the data address */
	unsigned mtu;			 /* of the path, bytes; 0: the link's */
};

struct node_options {
	const char *coordinator, *name, *data_address, *run_dir, *vmm, *token_file;
	const char *pki_dir; /* null: the usual one */
	bool plaintext;
	enum log_level level;
	const char *console_dir; /* logs of consoles; null: none */
	const char *slice_user;	 /* whom slices run as; null: each VM as one of its own */
	enum confine_wish confine;
	struct node_rdma rdma;
	const char *disk_dir[NODE_DISK_DIRS_MAX]; /* below which disks may lie */
	unsigned disks;				  /* how many */
	const char *image_dir;			  /* the folder of images */
	uint64_t image_cache_bytes;		  /* of them, at most */
	unsigned cpus, grace_s;
	uint64_t mem_bytes;
};

struct node_daemon {
	uv_loop_t loop;
	uint64_t incarnation;
	struct node_options opts;
	char token[CONTROL_TOKEN_MAX];
	json_t *host;		/* what this machine can do, as found at the start */
	struct confine confine; /* how slices can be confined here, found then too */
	uv_signal_t sigterm, sigint, sigchld, sighup;
	struct service service; /* what started this daemon is told */
	bool stopping;
	int exit_code;
	/* the coordinator (uv_link.c) */
	struct control_conn *conn;
	bool told; /* the registration has been sent: whatever follows it is understood */
	bool registered, ever_registered, failing;
	uint64_t heard_ns;
	unsigned backoff_ms;
	struct control_deadline *retry;
	struct control_deadline *grace; /* until then the slices wait for a coordinator */
	uv_timer_t heartbeat;
	/* its certificate (node_certificate.c) */
	struct control_tls *tls; /* null: plaintext */
	EVP_PKEY *renew_key;	 /* of the certificate that it has asked for; null: none */
	unsigned watch_ticks, renew_ticks;
	uint64_t pki_stamp; /* of the directory when it was read last */
	/* slices (uv_slices.c) */
	struct node_slice *slice[NODE_SLICES_MAX];
	json_t *records; /* what the coordinator wants kept of each VM, by incarnation */
	struct upload upload[NODE_UPLOADS_MAX];
	struct node_images images; /* uv_images.c */
};

/* ---- node_rdma.c ---- */
/* The values of --rdma ("auto", "none", DEVICE or DEVICE:PORT), --rdma-gid and --rdma-mtu. 0 or -EINVAL. */
int node_rdma_parse(const char *text, struct node_rdma *rdma);
int node_rdma_gid_parse(const char *text, struct node_rdma *rdma);
int node_rdma_mtu_parse(const char *text, struct node_rdma *rdma);
/* For slice-config; null: RDMA is not allowed, or there is no memory. */
json_t *node_rdma_json(const struct node_rdma *rdma);

/* ---- node_main.c ---- */
/* A slice is gone: a daemon that is stopping ends with its last one. */
void daemon_slice_over(struct node_daemon *node);

/* ---- uv_link.c ---- */
/* Connects to the coordinator, again and again. */
void link_start(struct node_daemon *node);
/* Says why we leave and closes. */
void link_stop(struct node_daemon *node, const char *reason);
/* Sends a message to the coordinator, if we are registered; msg's reference is taken. */
void link_send(struct node_daemon *node, json_t *msg, const void *blob, size_t len);

/* ---- node_certificate.c ---- */
/* Reads the directory of certificates, unless it is plaintext. 0 or -errno, having logged what mends it. */
int certificate_open(struct node_daemon *node);
void certificate_close(struct node_daemon *node);
/* Each HEARTBEAT_MS: looks whether its files have changed, and whether it must be renewed. */
void certificate_tick(struct node_daemon *node);
/* Reads the files again if they have changed, or if asked to. */
void certificate_reload(struct node_daemon *node, bool asked);
/* renewed and revocations. */
void certificate_renewed(struct node_daemon *node, const json_t *msg);
void certificate_revocations(struct node_daemon *node, const json_t *msg);

/* ---- uv_slices.c ---- */
/* Starts a slice as slice-start says; on failure the coordinator gets its slice-gone. */
void slice_start(struct node_daemon *node, const json_t *msg);
/* Hands a message of the coordinator on to the slice it names. Unknown slices have ended. */
void slice_relay(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len);
void slice_kill_one(struct node_daemon *node, const json_t *msg);
/* Kills every slice and tells nobody about them. */
void slices_kill(struct node_daemon *node);
/* A child has ended. */
void slices_reap(struct node_daemon *node);
/* All back ends are ready: the slice is told what it is. */
void slice_configure_go(struct node_slice *slice);
/* It cannot start, for this reason: the coordinator hears it as its last word, and it is killed. */
void slice_refuse(struct node_slice *slice, const char *why);
/* Ends it if there is neither process, connection nor back end of it. */
void slice_finish_if_over(struct node_slice *slice);
/* The back end of a device has ended while the slice goes on. */
void slice_device_ended(struct node_slice *slice, const char *id, const char *how);

/* ---- node_inventory.c ---- */
/* Keeps what a slice has said of its state (a new reference), each kind once. */
void slice_report_keep(struct node_slice *slice, json_t *msg);
/* The same in place of an older one of the kind. */
void slice_report_replace(struct node_slice *slice, json_t *msg);
/* Frees a slice that is over. */
void slice_drop(struct node_slice *slice);
/* Finds the slice of a message; null: it has ended, or the message names none. */
struct node_slice *slice_named(struct node_daemon *node, const json_t *msg);
struct node_slice *slice_find(struct node_daemon *node, uint64_t incarnation, unsigned index);
/* Are there processes? With orphans: those that nobody wants; else any. */
bool slices_any(const struct node_daemon *node, bool orphans);
/* Is there anything that the coordinator shall hear of, be it only how a slice ended? */
bool slices_wait(const struct node_daemon *node);
/* The link is lost: consoles wait until it is made again. */
void slices_hold(struct node_daemon *node);
/* The two lists of the inventory; new references. */
json_t *slices_inventory(const struct node_daemon *node);
json_t *slices_records(const struct node_daemon *node);
/* slice-forget and vm-record. */
void slice_forget(struct node_daemon *node, const json_t *msg);
void slice_record(struct node_daemon *node, const json_t *msg);
/* Puts "vm", "incarnation" and "slice" into a message about it. */
void slice_sign(const struct node_slice *slice, json_t *msg);

/* ---- node_kept.c ---- */
/* Keeps the newest output of a slice; lost: bytes dropped before it. */
void console_keep(struct node_slice *slice, uint64_t lost, const uint8_t *data, size_t len);
/* console-from: sends what is kept from there on, and from now on all. */
void console_from(struct node_slice *slice, uint64_t offset);

/* ---- node_check.c ---- */
/*
 * Checks what a slice says, but for console-output. 0, and a new message for the coordinator, made
 * of the checked fields; or -PANGEA_ECONTROL or -ENOMEM with a sentence in why.
 */
int report_check(struct node_slice *slice, const json_t *msg, json_t **out, char *why);

/* ---- node_silence.c ---- */
/* Each HEARTBEAT_MS: slices that do not beat any more, and those that do again. */
void silence_tick(struct node_daemon *node);
/* slice-beat, checked. */
void silence_beat(struct node_slice *slice, unsigned engine_silent_s);

/* ---- node_console.c ---- */
/* Begins the log of a slice's console, if the daemon keeps one. */
void console_log_open(struct node_slice *slice);
void console_log_close(struct node_slice *slice);
/*
 * Takes a slice's console-output: into the log, and on to the coordinator, or dropped while that is
 * far behind. 0, or -PANGEA_ECONTROL with a sentence in why.
 */
int console_relay(struct node_slice *slice, const json_t *msg, const uint8_t *data, size_t len,
		  char *why);
/* Tells what was dropped and not yet told; before the slice's last words. */
void console_lost_send(struct node_slice *slice);

/* ---- node_service.c ---- */
/* Begins to tell the service manager, if there is one, how the daemon is. */
void node_service_start(struct node_daemon *node);

/* ---- node_spawn.c ---- */
/*
 * Starts the slice's vmm, confined, with the socket as fd 3, the kernel as 4 and the initrd as 5 (each
 * -1: none), from NODE_DEVICE_FD_FIRST on its ends of its devices' connections (null: it has none), and behind them its
 * images. It dies with us. Returns the pid or -errno.
 */
pid_t vmm_spawn(struct node_slice *slice, int sock, int kernel, int initrd,
		const struct node_devices *devices, const int *images, unsigned images_count);
/* "killed by signal 9", "exited with code 1". */
void status_describe(int status, char *out, size_t size);

/* ---- node_uploads.c ---- */
/* files-begin (with the seed, or seed_len 0), file-chunk, vm-forget. 0, or -errno with a sentence in why. */
int upload_begin(struct node_daemon *node, const json_t *msg, const uint8_t *seed, size_t seed_len,
		 char *why);
int upload_chunk(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len,
		 char *why);
void upload_forget(struct node_daemon *node, uint64_t incarnation);
/* The upload of a VM; null if there is none. */
struct upload *upload_find(struct node_daemon *node, uint64_t incarnation);
/* Forgets the files of VMs that have no slice here: they will not be completed. */
void uploads_drop_unused(struct node_daemon *node);
bool upload_whole(const struct upload *upload);

#endif
