/* SPDX-License-Identifier: Apache-2.0 */
/* pangea console: the console of a virtual machine that runs already. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/console.h"

static const char usage[] =
	"Usage: pangea console [OPTION]... VM\n"
	"Shows the last 64 KiB of a VM's console and what follows; typing goes to the guest.\n"
	"Ctrl-] d or Ctrl-] q leaves it; the VM goes on.\n"
	"\n"
	"  --read-only              only show it: nothing is typed, and Ctrl-C leaves "
	"it\n" CLI_COMMON_USAGE;

struct watch {
	struct console console;
	const char *vm;
};

static void watch_open(struct client *client)
{
	struct watch *watch = client->user;

	if (watch->console.known) {
		console_ask_again(&watch->console);
		return;
	}
	control_sendf(client->conn, "{s:s, s:s, s:b}", "type", "console", "vm", watch->vm, "watch",
		      (int)watch->console.watches);
	client_deadline(client, CLI_REPLY_MS);
}

static void output_take(struct watch *watch, const json_t *msg, const uint8_t *data, size_t len)
{
	if (console_output(&watch->console, msg, data, len) < 0)
		console_end(&watch->console, EXIT_ERROR, "the output is closed");
}

/* The past, whole; for a terminal without what it would answer. */
static void past_take(struct watch *watch, const json_t *msg, const uint8_t *data, size_t len)
{
	uint8_t *past = len ? malloc(len) : NULL;

	if (past && isatty(STDOUT_FILENO)) {
		memcpy(past, data, len);
		output_take(watch, msg, past, console_past_quiet(past, len));
	} else {
		output_take(watch, msg, data, len);
	}
	free(past);
}

/* The past comes with it. */
static void watched_take(struct watch *watch, const json_t *msg, const uint8_t *data, size_t len)
{
	struct console *console = &watch->console;
	char why[CONTROL_WHY_MAX];
	uint64_t bytes;

	if (console_known(console, msg, why) ||
	    control_get_u64(msg, "console_bytes", 0, INT64_MAX, &bytes, why)) {
		console_end(console, EXIT_ERROR, why);
		return;
	}
	if (!console->watches)
		terminal_attach(console->terminal);
	past_take(watch, msg, data, len);
	console->bytes = bytes;
}

static void ended_take(struct watch *watch, const json_t *msg)
{
	char text[2 * CONTROL_WHY_MAX];

	console_ended(&watch->console, msg, text);
	cli_say("%s", text);
}

static void watch_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct watch *watch = client->user;

	if (console_msg(&watch->console, msg))
		return;
	if (control_is(msg, "console-attached"))
		watched_take(watch, msg, blob, len);
	else if (control_is(msg, "console-output"))
		output_take(watch, msg, blob, len);
	else if (control_is(msg, "vm-ended"))
		ended_take(watch, msg);
}

static bool watch_retry(struct client *client, const char *why)
{
	struct watch *watch = client->user;

	if (watch->console.known)
		console_retry(&watch->console, why);
	return watch->console.known;
}

static int watch_lost(struct client *client, const char *why)
{
	struct watch *watch = client->user;

	cli_say("%s: %s",
		watch->console.known ? "lost the coordinator" : "the coordinator cannot be reached",
		why);
	return EXIT_UNREACHABLE;
}

static void watch_over(struct client *client)
{
	struct watch *watch = client->user;

	terminal_close(watch->console.terminal);
}

static void watch_input(void *arg, const uint8_t *data, size_t len)
{
	struct watch *watch = arg;

	console_input(&watch->console, data, len);
}

static void watch_leave(struct watch *watch)
{
	console_end(&watch->console, EXIT_OK, "detached; the VM goes on");
}

static void watch_key(void *arg, enum terminal_key key)
{
	(void)key;
	watch_leave(arg);
}

static void watch_signal(void *arg, int signum)
{
	(void)signum;
	watch_leave(arg);
}

/* Returns -1 to go on, else the exit code. */
static int options_parse(struct watch *watch, struct cli_target *target, int argc, char **argv)
{
	static const struct option list[] = {
		CLI_COMMON_OPTIONS, {"read-only", no_argument, NULL, OPT_OWN}, {NULL, 0, NULL, 0}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (opt == OPT_OWN) {
			watch->console.watches = true;
			continue;
		}
		code = cli_common_option(target, opt, argv[0], usage);
		if (code >= 0)
			return code;
	}
	return argc - optind == 1 ? -1 : cli_usage(argv[0], "needs the name of a VM");
}

int cmd_console(int argc, char **argv)
{
	static const struct client_ops client_ops = {.on_open = watch_open,
						     .on_msg = watch_msg,
						     .on_lost = watch_lost,
						     .on_retry = watch_retry,
						     .on_over = watch_over};
	static const struct terminal_ops terminal_ops = {watch_input, watch_key, watch_signal};
	struct cli_target target = {0};
	struct watch watch = {0};
	int code = options_parse(&watch, &target, argc, argv);

	if (code >= 0)
		return code;
	watch.vm = argv[optind];
	if (!control_name_valid(watch.vm))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", watch.vm);
	code = cli_target_resolve(&target);
	return code ? code
		    : console_run(&watch.console, &client_ops, &terminal_ops, &watch, &target);
}
