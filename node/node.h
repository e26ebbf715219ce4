/* SPDX-License-Identifier: Apache-2.0 */
/* pangead's state and what its files share. One thread, one libuv loop. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "control/control.h"

/* Slices and uploads of one daemon at a time; a machine with more CPUs than this is rare. */
#define NODE_SLICES_MAX	 256
#define NODE_UPLOADS_MAX 64

/* How often the daemon says that it lives, and how long the coordinator may be silent. */
#define HEARTBEAT_MS	       1000
#define COORDINATOR_SILENCE_MS 10000
/* Waits between attempts to reach the coordinator: doubling from the first to the last. */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS	 5000
/* A slice that has said its last word, or closed its connection, has this long to exit. */
#define SLICE_EXIT_MS 2000

enum upload_file {
	UPLOAD_KERNEL,
	UPLOAD_INITRD,
	UPLOAD_FILES,
};

/* The kernel and initrd of a VM whose slice 0 is here: files without names, gone with us. */
struct upload {
	char vm[NAME_MAX_LEN + 1]; /* "": free */
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
	unsigned index, vcpus;
	uint64_t mem_bytes;
	pid_t pid;
	bool reaped;
	bool orphan; /* the coordinator that wanted it is gone: nobody hears its end */
	int status;  /* of waitpid, once reaped */
	struct control_conn *conn;
	struct control_deadline *deadline; /* to exit, then to close */
	char how[CONTROL_WHY_MAX];	   /* how it ended, if not by its exit status */
	uint64_t console_lost;		   /* bytes of output dropped and not yet told */
	int log_fd;			   /* of its console; -1: none */
	uint64_t log_bytes;
	enum slice_said said;
	uint64_t input_owed; /* bytes of console input it was given and did not say it took */
	uint64_t reports_ns; /* its allowance of reports: node_check.c */
};

struct node_options {
	const char *coordinator, *name, *data_address, *run_dir, *vmm, *token_file;
	const char *console_dir; /* logs of consoles; null: none */
	unsigned cpus;
	uint64_t mem_bytes;
};

struct node_daemon {
	uv_loop_t loop;
	struct node_options opts;
	char token[CONTROL_TOKEN_MAX];
	json_t *host; /* what this machine can do, as found at the start */
	uv_signal_t sigterm, sigint, sigchld;
	bool stopping;
	int exit_code;
	/* the coordinator (uv_link.c) */
	struct control_conn *conn;
	bool registered, ever_registered, failing;
	uint64_t heard_ns;
	unsigned backoff_ms;
	struct control_deadline *retry;
	uv_timer_t heartbeat;
	/* slices (uv_slices.c) */
	struct node_slice *slice[NODE_SLICES_MAX];
	struct upload upload[NODE_UPLOADS_MAX];
};

/* ---- node_main.c ---- */
/* A slice is gone: a daemon that is stopping ends with its last one. */
void daemon_slice_over(struct node_daemon *node);

/* ---- uv_link.c ---- */
/* Connects to the coordinator, again and again. */
void link_start(struct node_daemon *node);
/* Says why we leave and closes. */
void link_stop(struct node_daemon *node, const char *reason);
/* Sends a message to the coordinator, if there is one; msg's reference is taken. */
void link_send(struct node_daemon *node, json_t *msg, const void *blob, size_t len);

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
bool slices_any(const struct node_daemon *node);

/* ---- node_check.c ---- */
/*
 * Checks what a slice says, but for console-output. 0, and a new message for the coordinator, made
 * of the checked fields; or -PANGEA_ECONTROL or -ENOMEM with a sentence in why.
 */
int report_check(struct node_slice *slice, const json_t *msg, json_t **out, char *why);

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

/* ---- node_spawn.c ---- */
/*
 * Starts the vmm with the socket as fd 3, the kernel as 4 and the initrd as 5 (each -1: none). It
 * dies with us. Returns the pid or -errno.
 */
pid_t vmm_spawn(const char *path, int sock, int kernel, int initrd);
/* "killed by signal 9", "exited with code 1". */
void status_describe(int status, char *out, size_t size);

/* ---- node_uploads.c ---- */
/* files-begin, file-chunk, vm-forget. 0, or -errno with a sentence in why. */
int upload_begin(struct node_daemon *node, const json_t *msg, char *why);
int upload_chunk(struct node_daemon *node, const json_t *msg, const uint8_t *blob, size_t len,
		 char *why);
void upload_forget(struct node_daemon *node, const char *vm);
/* The upload of a VM; null if there is none. */
struct upload *upload_find(struct node_daemon *node, const char *vm);
bool upload_whole(const struct upload *upload);

#endif
