/* SPDX-License-Identifier: Apache-2.0 */
/* What the sub-commands of pangea(1) share. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"
#include "control/control.h"

/* A question to a coordinator that is there is answered in milliseconds. */
#define CLI_REPLY_MS 10000

/* ---- the sub-commands, one file each; argv[0] is "pangea NAME" ---- */
int cmd_check(int argc, char **argv);
int cmd_cluster(int argc, char **argv);
int cmd_console(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_join(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_nodes(int argc, char **argv);
int cmd_pages(int argc, char **argv);
int cmd_pki(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_reset(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_vm(int argc, char **argv);
int cmd_vms(int argc, char **argv);

/* ---- cli_main.c ---- */
/* Prints "pangea: ..." to stderr. */
void cli_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same while the terminal may be raw. */
void cli_say_raw(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same, with a hint at --help; returns EXIT_USAGE. */
int cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- options that every command with a coordinator takes ---- */
struct cli_target {
	const char *coordinator, *state_dir, *token_file, *pki; /* as given, or null */
	bool plaintext; /* of the control connection: without TLS */
	char address[CONTROL_HOST_MAX + 8];
	char token[CONTROL_TOKEN_MAX]; /* "": none */
	char pki_dir[PKI_PATH_MAX];    /* where its certificates are, unless plaintext */
};

enum {
	OPT_COORDINATOR = 1000,
	OPT_STATE_DIR,
	OPT_TOKEN_FILE,
	OPT_PKI,
	OPT_PLAINTEXT,
	OPT_HELP,
	OPT_VERSION,
	OPT_OWN, /* the first of a command's own */
};

#define CLI_COMMON_OPTIONS                                                                         \
	{"coordinator", required_argument, NULL, OPT_COORDINATOR},                                 \
		{"state-dir", required_argument, NULL, OPT_STATE_DIR},                             \
		{"pki", required_argument, NULL, OPT_PKI},                                         \
		{"plaintext", no_argument, NULL, OPT_PLAINTEXT},                                   \
		{"token-file", required_argument, NULL, OPT_TOKEN_FILE},                           \
		{"help", no_argument, NULL, OPT_HELP},                                             \
	{                                                                                          \
		"version", no_argument, NULL, OPT_VERSION                                          \
	}

#define CLI_COMMON_USAGE                                                                           \
	"  --coordinator HOST:PORT  the coordinator (or $PANGEA_COORDINATOR)\n"                    \
	"  --state-dir DIR          that of 'pangea cluster up', if none is given\n"               \
	"  --pki DIR                operator.pem and ca.crt (or $PANGEA_PKI; pki in the state\n"   \
	"                           directory, /etc/pangea/pki, ~/.config/pangea/pki)\n"           \
	"  --plaintext              without TLS, as the coordinator was started\n"                 \
	"  --token-file FILE        with --plaintext, its token (or $PANGEA_TOKEN_FILE)\n"         \
	"  --help, --version\n"

/* Takes one of the common options. Returns -1 to go on, else the exit code. */
int cli_common_option(struct cli_target *target, int opt, const char *command, const char *usage);
/* Finds the coordinator's address and token. 0 or an exit code, having said why. */
int cli_target_resolve(struct cli_target *target);
/* Where certificates are: given, $PANGEA_PKI, or the usual place. 0 or an exit code, having said why. */
int cli_pki_dir(const char *given, char dir[PKI_PATH_MAX]);
/* For a command with only common options and, if json is not null, --json, then args arguments. */
int cli_simple_options(int argc, char **argv, const char *usage, struct cli_target *target,
		       bool *json, int args);

/* ---- cli_hot.c: what slices say of the pages that are homed at them ---- */
/* The hottest pages of a VM from its slices (of vms-list or vm-ended): an array, the hottest first,
 * each with its share of the recent faults of all pages. A new reference; null without memory. */
json_t *hot_pages_list(const json_t *slices);
struct symbols;
/* Gives each page of the list "symbols", an array of what lies on it. */
void hot_pages_name(json_t *list, const struct symbols *symbols);
/* What became of all pages, one line, and a table of the first of the list, with the names of what
 * lies on them unless symbols is null. */
void hot_pages_print(FILE *out, const json_t *slices, const json_t *list,
		     const struct symbols *symbols);

/* ---- cli_functions.c: where in the guest's code its faults come from ---- */
/* The functions that fault most, from a VM's slices: an array, the most first; without symbols (null)
 * the places in the code. A new reference; null without memory. */
json_t *functions_list(const json_t *slices, const struct symbols *symbols);
/* A table of the first of the list. */
void functions_print(FILE *out, const json_t *slices, const json_t *list);

/* ---- cli_client.c: one connection to the coordinator ---- */
struct client;

struct client_ops {
	void (*on_open)(struct client *client);
	/* Messages but "error" and "heartbeat", which the client takes itself. */
	void (*on_msg)(struct client *client, json_t *msg, const uint8_t *blob, size_t len);
	/* The coordinator, which had taken us, is gone: returns the exit code. May be null:
	 * EXIT_UNREACHABLE. */
	int (*on_lost)(struct client *client, const char *why);
	/* Shall a lost connection be made again? on_open comes again then. Null: never. */
	bool (*on_retry)(struct client *client, const char *why);
	/* It is over: lets go of the terminal and the loop before anything is said. May be null. */
	void (*on_over)(struct client *client);
};

struct client {
	uv_loop_t loop;
	const struct client_ops *ops;
	void *user;
	struct control_conn *conn;
	uv_timer_t heartbeat;
	struct control_deadline *deadline;
	const struct cli_target *target;
	struct control_tls *tls; /* set by a command that joins; else made of the target */
	enum control_role role;
	struct control_deadline *retry;
	const char *address; /* as it was given */
	uint64_t heard_ns;   /* 0: it never said hello */
	uint64_t grace_ms;   /* how long a lost connection may be tried to make again */
	uint64_t lost_ns;    /* since when there is none; 0: there is one */
	bool answered;	     /* it took our hello, too */
	bool over, finished;
	bool quiet; /* says nothing about a coordinator that cannot be reached */
	int code;
};

/* Connects and runs until client_finish; returns the exit code. Set tls and role to join, else zero them:
 * the role is then an operator's. */
int client_run(struct client *client, const struct cli_target *target);
/* Ends client_run with this code. */
void client_finish(struct client *client, int code);
/* Ends with EXIT_UNREACHABLE and a sentence if client_finish is not called within ms. */
void client_deadline(struct client *client, uint64_t ms);
/* A connection that was lost is in order again. */
void client_back(struct client *client);
/* One question and its answer of the given type (a new reference). 0 or an exit code. */
int client_ask(const struct cli_target *target, json_t *question, const char *answer_type,
	       uint64_t deadline_ms, json_t **answer, bool quiet);
/* What a vm-ended message says: the code, and the reason, fit to be shown, in text (CONTROL_WHY_MAX bytes); of one that
 * says nothing sound EXIT_ERROR and what is wrong. */
int client_end_code(const json_t *ended, char *text);
/* Finds the coordinator and asks it for a list; the same. */
int client_list(struct cli_target *target, const char *type, const char *answer_type,
		json_t **answer);

/* ---- cli_terminal.c: the guest's console on our stdin and stdout ---- */
struct terminal;

enum terminal_key {
	TERMINAL_DETACH, /* Ctrl-] d */
	TERMINAL_QUIT,	 /* Ctrl-] q */
};

struct terminal_ops {
	void (*on_input)(void *arg, const uint8_t *data, size_t len);
	void (*on_key)(void *arg, enum terminal_key key);
	void (*on_signal)(void *arg, int signum); /* INT, TERM or HUP */
};

/* Catches signals; reads nothing yet. Null without memory. */
struct terminal *terminal_new(uv_loop_t *loop, const struct terminal_ops *ops, void *arg);
/* Raw mode if stdin is a terminal and ours; begins to read stdin. Once. */
void terminal_attach(struct terminal *terminal);
/* The guest's side has room for so many more bytes of input. */
void terminal_credit(struct terminal *terminal, size_t bytes);
/* No more until there is new credit. */
void terminal_credit_none(struct terminal *terminal);
/* Restores the terminal, lets go of the loop, and waits until all output is written: as long as its
 * reader takes, unless a signal asked for the end. */
void terminal_close(struct terminal *terminal);
/* Shows a message with console output, by cli_output.h: never waits; 0 or -EPIPE. Not after
 * terminal_close. */
int terminal_output(struct terminal *terminal, const json_t *msg, const uint8_t *data, size_t len);
/* How many bytes such a message says were dropped before its own. */
uint64_t output_lost_of(const json_t *msg);

/* ---- cli_state.c: the state directory of `pangea cluster` ---- */
#define STATE_PATH_MAX 512

/* Its path: given, or $XDG_RUNTIME_DIR/pangea, or /tmp/pangea-UID. 0 or -ENAMETOOLONG. */
int state_dir_path(const char *given, char out[STATE_PATH_MAX]);
/* DIR/NAME; the callers' names are short. */
void state_path(const char *dir, const char *name, char out[STATE_PATH_MAX + 64]);
/* 0 if it is a directory that is ours alone; -ENOENT, -EPERM, -errno. */
int state_dir_check(const char *dir);
/* Reads one line without its end. 0, -errno, -EINVAL. */
int state_line_read(const char *path, char *line, size_t size);

/* ---- cli_process.c: background processes ---- */
/* Starts a program in a session of its own with its output in a log. pid or -errno. */
pid_t process_start(char *const argv[], const char *log_path);
/* Writes "PID START-TIME": a number alone could be another process's by now. */
int process_note(pid_t pid, const char *path);
/* The process of such a file if it still runs; 0 if not. */
pid_t process_noted(const char *path);

#endif
