/* SPDX-License-Identifier: Apache-2.0 */
/* pangea stop: presses a VM's power button, waits for its end, and pulls its plug if that does not come. */
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea stop [OPTION]... VM\n"
	"Presses the power button of a virtual machine, waits until it has powered off, and pulls "
	"its plug\n"
	"if it does not. One whose guest does not run yet is stopped at once.\n"
	"\n"
	"  --timeout SECONDS        how long the guest may take to power off, 1 to 86400 (30)\n"
	"  --now                    pull the plug at once\n" CLI_COMMON_USAGE;

enum {
	OPT_TIMEOUT = OPT_OWN,
	OPT_NOW,
};

/* Slices have 5 s to stop, 5 more to be killed, and then their daemon is cut off. */
#define STOP_MS	      20000
#define TIMEOUT_S     30
#define TIMEOUT_S_MAX 86400

struct stop {
	struct client client;
	struct control_deadline *patience;
	const char *vm;
	unsigned timeout_s;
	bool now, pressed, pulled;
};

static void plug_pull(struct stop *stop)
{
	stop->pulled = true;
	control_sendf(stop->client.conn, "{s:s, s:s}", "type", "stop", "vm", stop->vm);
	client_deadline(&stop->client, STOP_MS);
}

static void patience_over(void *arg)
{
	struct stop *stop = arg;

	stop->patience = NULL;
	/* Without a connection the client ends by itself. */
	if (stop->client.conn)
		plug_pull(stop);
}

static void stop_open(struct client *client)
{
	struct stop *stop = client->user;

	if (stop->now) {
		plug_pull(stop);
		return;
	}
	control_sendf(client->conn, "{s:s, s:s}", "type", "button", "vm", stop->vm);
	client_deadline(client, STOP_MS);
}

/* It is the guest's turn, for as long as the timeout. */
static void pressed_take(struct stop *stop)
{
	if (stop->pressed)
		return;
	stop->pressed = true;
	control_deadline_cancel(&stop->client.deadline);
	stop->patience = control_deadline_start(
		&stop->client.loop, (uint64_t)stop->timeout_s * 1000, patience_over, stop);
	if (!stop->patience)
		plug_pull(stop);
}

static void ended_say(const struct stop *stop, int code, const char *reason)
{
	if (code == EXIT_STOPPED && stop->pressed && stop->pulled)
		cli_say("VM %s: the guest did not power off within %u s: stopped", stop->vm,
			stop->timeout_s);
	else if (code == EXIT_STOPPED)
		cli_say("VM %s is stopped", stop->vm);
	else if (code == EXIT_OK)
		cli_say("VM %s: the guest powered off", stop->vm);
	else
		cli_say("VM %s ended: %s", stop->vm, reason);
}

static void stop_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct stop *stop = client->user;
	char text[CONTROL_WHY_MAX];
	int code;

	(void)blob;
	(void)len;
	if (control_is(msg, "button-pressed")) {
		pressed_take(stop);
	} else if (control_is(msg, "vm-ended")) {
		code = client_end_code(msg, text);
		client_finish(client, EXIT_OK);
		ended_say(stop, code, text);
	}
}

static void stop_over(struct client *client)
{
	struct stop *stop = client->user;

	control_deadline_cancel(&stop->patience);
}

static int options_parse(struct stop *stop, struct cli_target *target, int argc, char **argv)
{
	static const struct option longs[] = {CLI_COMMON_OPTIONS,
					      {"timeout", required_argument, NULL, OPT_TIMEOUT},
					      {"now", no_argument, NULL, OPT_NOW},
					      {NULL, 0, NULL, 0}};
	bool timed = false;
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == OPT_NOW) {
			stop->now = true;
		} else if (opt == OPT_TIMEOUT) {
			timed = true;
			if (control_uint_parse(optarg, 1, TIMEOUT_S_MAX, &stop->timeout_s) < 0)
				return cli_usage(argv[0],
						 "--timeout is a number of seconds, 1 to %d",
						 TIMEOUT_S_MAX);
		} else {
			code = cli_common_option(target, opt, argv[0], usage);
			if (code >= 0)
				return code;
		}
	}
	if (argc - optind != 1)
		return cli_usage(argv[0], "needs the name of a VM");
	if (!control_name_valid(argv[optind]))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", argv[optind]);
	if (stop->now && timed)
		return cli_usage(argv[0], "takes --now or --timeout, not both");
	stop->vm = argv[optind];
	return -1;
}

int cmd_stop(int argc, char **argv)
{
	static const struct client_ops ops = {
		.on_open = stop_open, .on_msg = stop_msg, .on_over = stop_over};
	struct stop stop = {.timeout_s = TIMEOUT_S};
	struct cli_target target = {0};
	int code = options_parse(&stop, &target, argc, argv);

	if (code >= 0)
		return code;
	code = cli_target_resolve(&target);
	if (code)
		return code;
	stop.client.ops = &ops;
	stop.client.user = &stop;
	uv_loop_init(&stop.client.loop);
	/* As any question: to a coordinator that never says hello, too. */
	client_deadline(&stop.client, STOP_MS);
	code = client_run(&stop.client, &target);
	uv_loop_close(&stop.client.loop);
	return code;
}
