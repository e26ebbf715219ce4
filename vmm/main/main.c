/* SPDX-License-Identifier: Apache-2.0 */
/* pangea-vmm: the process of one slice, started by the daemon with its control socket as fd 3. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "confine/confine.h"
#include "transport/rdma.h"
#include "vmm/main/slice.h"

static void usage_print(FILE *out)
{
	fputs("Usage: pangea-vmm\n"
	      "Runs one slice of a virtual machine. pangead starts it, with its control socket as\n"
	      "file descriptor 3; it is of no use by hand.\n\n"
	      "  --confine HOW  what pangead has prepared to confine this process by\n"
	      "  -h, --help     print this\n"
	      "  -V, --version  print the version\n",
	      out);
}

static void message_unexpected(struct slice *s, const char *type)
{
	slice_exit(s, EXIT_ERROR, "unexpected message '%s' from the daemon", type);
}

/* One message from the daemon; each is allowed in one state only. */
static void node_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct slice *s = control_user(conn);
	const char *type = control_type(msg);

	if (s->state == SLICE_ENDING)
		return;
	if (strcmp(type, "console-input") == 0)
		slice_console_input(s, blob, len);
	else if (strcmp(type, "slice-stop") == 0)
		slice_end(s, EXIT_STOPPED, exit_text(EXIT_STOPPED));
	else if (strcmp(type, "slice-button") == 0)
		slice_button(s);
	else if (strcmp(type, "slice-config") == 0 && s->state == SLICE_WAIT_CONFIG)
		slice_configure(s, msg);
	else if (strcmp(type, "slice-connect") == 0 && s->state == SLICE_LISTENING) {
		slice_connect(s, msg);
		uv_async_send(&s->wake);
	} else if (strcmp(type, "slice-run") == 0 && s->state == SLICE_CONNECTED)
		slice_run(s, msg);
	else
		message_unexpected(s, type);
}

/*
 * The daemon is gone, or has everything we had to say: vCPU threads may hang in page faults that
 * nobody will serve, so there is no joining.
 */
static void node_closed(struct control_conn *conn, int err, const char *why)
{
	struct slice *s = control_user(conn);

	if (s->state != SLICE_ENDING) {
		log_error("lost the daemon: %s", why ? why : error_text(err));
		s->exit_code = EXIT_NODE_LOST;
	}
	_exit(s->exit_code);
}

static void stats_tick(uv_timer_t *timer)
{
	struct slice *s = timer->data;

	slice_beat_send(s);
	slice_stats_send(s);
	slice_console_flush(s);
}

/* SIGALRM's default would say "killed"; this is our own deadline. */
static void alarm_exit(int signal_number)
{
	(void)signal_number;
	_exit(EXIT_NODE_LOST);
}

/* As the first process of its PID name space it gets no signal that it has no handler for. */
static void term_exit(int signal_number)
{
	_exit(128 + signal_number);
}

static int slice_open(struct slice *s)
{
	static const struct control_ops ops = {.on_msg = node_msg, .on_closed = node_closed};
	struct control_options options = {
		.loop = &s->loop, .ops = &ops, .user = s, .role = CONTROL_ROLE_VMM};
	int err = uv_loop_init(&s->loop);

	if (!err)
		err = uv_async_init(&s->loop, &s->wake, slice_mailbox_drain);
	if (!err)
		err = uv_timer_init(&s->loop, &s->stats_timer);
	if (!err)
		err = uv_timer_init(&s->loop, &s->rtt_timer);
	if (!err)
		err = slice_mailbox_init(s);
	if (err)
		return err;
	s->wake.data = s->stats_timer.data = s->rtt_timer.data = s;
	uv_timer_start(&s->stats_timer, stats_tick, SLICE_STATS_INTERVAL_MS,
		       SLICE_STATS_INTERVAL_MS);
	slice_step_deadline(s, true);
	return control_open_fd(&options, SLICE_CONTROL_FD, &s->node);
}

static int options_parse(int argc, char **argv, const char **confine)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {"confine", required_argument, NULL, 'c'},
					      {0}};
	int c;

	while ((c = getopt_long(argc, argv, "hV", longs, NULL)) != -1) {
		if (c == 'h') {
			usage_print(stdout);
			return EXIT_OK;
		}
		if (c == 'V') {
			puts("pangea-vmm " PANGEA_VERSION);
			return EXIT_OK;
		}
		if (c == 'c') {
			*confine = optarg;
			continue;
		}
		fputs("Try 'pangea-vmm --help'.\n", stderr);
		return EXIT_USAGE;
	}
	if (optind < argc) {
		usage_print(stderr);
		return EXIT_USAGE;
	}
	return -1;
}

int main(int argc, char **argv)
{
	char why[CONFINE_WHY_MAX];
	const char *confine = NULL;
	struct slice *s;
	int code = options_parse(argc, argv, &confine);

	if (code >= 0)
		return code;
	log_init("pangea-vmm", LOG_INFO);
	control_values_wipe();
	if (fcntl(SLICE_CONTROL_FD, F_GETFD) < 0) {
		fputs("pangea-vmm: no control socket on file descriptor 3; pangead starts this "
		      "program, see 'pangea run --help'\n",
		      stderr);
		return EXIT_USAGE;
	}
	/* Drivers are libraries, and from here on there are no files to load. */
	if (confine_rdma(confine))
		rdma_preload();
	if (confine_enter(confine, why)) {
		log_error("%s", why);
		return EXIT_ERROR;
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, alarm_exit);
	signal(SIGTERM, term_exit);
	s = calloc(1, sizeof(*s));
	code = s ? slice_open(s) : -ENOMEM;
	if (code) {
		log_error("cannot start: %s", error_text(code));
		return EXIT_ERROR;
	}
	uv_run(&s->loop, UV_RUN_DEFAULT);
	return s->exit_code;
}
