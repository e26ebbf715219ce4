/* SPDX-License-Identifier: Apache-2.0 */
/* pangea console: the console of a virtual machine that runs already. */
#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea console [OPTION]... VM\n"
	"Shows the last 64 KiB of a VM's console and what follows; typing goes to the guest.\n"
	"Ctrl-] d or Ctrl-] q leaves it; the VM goes on.\n"
	"\n" CLI_COMMON_USAGE;

struct console {
	struct client client;
	struct terminal *terminal;
	const char *vm;
	bool attached;
};

static void console_end(struct console *console, int code, const char *sentence)
{
	if (console->client.finished)
		return;
	client_finish(&console->client, code);
	cli_say("%s", sentence);
}

static void console_open(struct client *client)
{
	struct console *console = client->user;

	control_sendf(client->conn, "{s:s, s:s}", "type", "console", "vm", console->vm);
	client_deadline(client, CLI_REPLY_MS);
}

static void ended_take(struct console *console, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX + 128];
	const char *reason;
	unsigned code;

	if (control_get_string(msg, "reason", &reason, why) < 0 ||
	    control_get_uint(msg, "code", 0, 255, &code, why) < 0) {
		console_end(console, EXIT_ERROR, why);
		return;
	}
	snprintf(text, sizeof(text), "VM %s ended: %s", console->vm, reason);
	control_text_clean(text);
	console_end(console, (int)code, text);
}

static void credit_take(struct console *console, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	unsigned bytes;

	if (control_get_uint(msg, "bytes", 1, CONTROL_INPUT_WINDOW, &bytes, why) == 0)
		terminal_credit(console->terminal, bytes);
}

static void console_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct console *console = client->user;

	if (control_is(msg, "console-attached")) {
		control_deadline_cancel(&client->deadline);
		console->attached = true;
		terminal_attach(console->terminal);
	}
	if (control_is(msg, "console-attached") || control_is(msg, "console-output")) {
		if (terminal_output(console->terminal, msg, blob, len) < 0)
			console_end(console, EXIT_ERROR, "the output is closed");
	} else if (control_is(msg, "console-credit")) {
		credit_take(console, msg);
	} else if (control_is(msg, "vm-ended")) {
		ended_take(console, msg);
	}
}

static int console_lost(struct client *client, const char *why)
{
	struct console *console = client->user;

	cli_say("%s: %s",
		console->attached ? "lost the coordinator" : "the coordinator cannot be reached",
		why);
	return EXIT_UNREACHABLE;
}

static void console_over(struct client *client)
{
	struct console *console = client->user;

	terminal_close(console->terminal);
}

static void console_input(void *arg, const uint8_t *data, size_t len)
{
	struct console *console = arg;
	json_t *msg = json_pack("{s:s}", "type", "console-input");

	if (console->client.conn)
		control_send(console->client.conn, msg, data, len);
	json_decref(msg);
}

static void console_key(void *arg, enum terminal_key key)
{
	(void)key;
	console_end(arg, EXIT_OK, "detached; the VM goes on");
}

static void console_signal(void *arg, int signum)
{
	(void)signum;
	console_end(arg, EXIT_OK, "detached; the VM goes on");
}

int cmd_console(int argc, char **argv)
{
	static const struct client_ops client_ops = {.on_open = console_open,
						     .on_msg = console_msg,
						     .on_lost = console_lost,
						     .on_over = console_over};
	static const struct terminal_ops terminal_ops = {console_input, console_key,
							 console_signal};
	struct cli_target target = {0};
	struct console console = {.client = {.ops = &client_ops}};
	int code = cli_simple_options(argc, argv, usage, &target, NULL, 1);

	if (code >= 0)
		return code;
	console.vm = argv[optind];
	if (!control_name_valid(console.vm))
		return cli_usage(argv[0], "\"%.70s\" is no name of a VM", console.vm);
	code = cli_target_resolve(&target);
	if (code)
		return code;
	console.client.user = &console;
	uv_loop_init(&console.client.loop);
	console.terminal = terminal_new(&console.client.loop, &terminal_ops, &console);
	if (!console.terminal)
		return EXIT_ERROR;
	code = client_run(&console.client, &target);
	uv_loop_close(&console.client.loop);
	return code;
}
