/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's console on our terminal: output once and in order, input as there is room for it. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "cli/console.h"

int console_run(struct console *console, const struct client_ops *client_ops,
		const struct terminal_ops *terminal_ops, void *user,
		const struct cli_target *target)
{
	int code;

	console->client.ops = client_ops;
	console->client.user = user;
	uv_loop_init(&console->client.loop);
	console->terminal = terminal_new(&console->client.loop, terminal_ops, user);
	if (!console->terminal)
		return EXIT_ERROR;
	code = client_run(&console->client, target);
	uv_loop_close(&console->client.loop);
	return code;
}

void console_end(struct console *console, int code, const char *sentence)
{
	if (console->client.finished)
		return;
	client_finish(&console->client, code);
	cli_say("%s", sentence);
}

int console_known(struct console *console, const json_t *msg, char *why)
{
	const char *vm, *incarnation;
	int err;

	if ((err = control_get_name(msg, "vm", &vm, why)) ||
	    (err = control_get_string(msg, "incarnation", &incarnation, why)) ||
	    (err = control_get_u64(msg, "grace_ms", 0, INT64_MAX / NS_PER_MS,
				   &console->client.grace_ms, why)))
		return err;
	snprintf(console->vm, sizeof(console->vm), "%s", vm);
	snprintf(console->incarnation, sizeof(console->incarnation), "%s", incarnation);
	console->known = true;
	control_deadline_cancel(&console->client.deadline);
	return 0;
}

void console_ask_again(struct console *console)
{
	json_t *msg = json_pack("{s:s, s:s, s:s, s:b, s:I}", "type", "attach", "vm", console->vm,
				"incarnation", console->incarnation, "console",
				!console->hidden || console->log, "console_bytes",
				(json_int_t)console->bytes);

	if (console->watches)
		json_object_set_new(msg, "watch", json_true());
	if (console->owner[0])
		json_object_set_new(msg, "owner", json_string(console->owner));
	control_send(console->client.conn, msg, NULL, 0);
	json_decref(msg);
	client_deadline(&console->client, CLI_REPLY_MS);
}

static void log_write(struct console *console, const void *data, size_t len)
{
	if (!console->log || fwrite(data, 1, len, console->log) == len)
		return;
	cli_say("cannot write all of %s: %s", console->log_path, strerror(errno));
	fclose(console->log);
	console->log = NULL;
}

/* Bytes that we know already, because the connection was made again; and in *lost those that never
 * came. */
static size_t output_known(struct console *console, const json_t *msg, size_t len, uint64_t *lost)
{
	uint64_t offset, known = 0;
	char why[CONTROL_WHY_MAX];

	*lost = output_lost_of(msg);
	if (len && json_object_get(msg, "offset") &&
	    control_get_u64(msg, "offset", 0, INT64_MAX, &offset, why) == 0) {
		known = offset < console->bytes ? console->bytes - offset : 0;
		*lost = offset > console->bytes ? offset - console->bytes : 0;
	}
	known = known < len ? known : len;
	console->bytes += *lost + (len - known);
	return (size_t)known;
}

int console_output(struct console *console, const json_t *msg, const uint8_t *data, size_t len)
{
	char mark[CONTROL_MARK_MAX];
	uint64_t lost;
	size_t known = output_known(console, msg, len, &lost);
	json_t *news;
	int err = 0;

	/* All of it into the log, and what the reader of our output has room for there. */
	if (lost)
		log_write(console, mark, control_console_mark(lost, mark));
	log_write(console, data + known, len - known);
	if (console->hidden || (!lost && len == known))
		return 0;
	news = json_pack("{s:s, s:I}", "type", "console-output", "lost", (json_int_t)lost);
	err = terminal_output(console->terminal, news, data + known, len - known);
	json_decref(news);
	return err;
}

static void credit_take(struct console *console, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	unsigned bytes;

	if (control_get_uint(msg, "bytes", 1, CONTROL_INPUT_WINDOW, &bytes, why) == 0)
		terminal_credit(console->terminal, bytes);
}

/* Who does not answer, or answers again. */
static void waiting_take(const struct console *console, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *sentence;

	if (control_get_string(msg, "sentence", &sentence, why))
		return;
	snprintf(text, sizeof(text), "%.255s", sentence);
	control_text_clean(text);
	cli_say_raw("VM %s: %s", console->vm, text);
}

/* The VM goes on, but not all of it works. */
static void warning_take(const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *sentence;

	if (control_get_string(msg, "sentence", &sentence, why))
		return;
	snprintf(text, sizeof(text), "%s", sentence);
	control_text_clean(text);
	cli_say_raw("%s", text);
}

static void attached_take(struct console *console)
{
	control_deadline_cancel(&console->client.deadline);
	client_back(&console->client);
	cli_say_raw("the coordinator is there again; VM %s goes on", console->vm);
}

bool console_msg(struct console *console, const json_t *msg)
{
	if (control_is(msg, "console-credit"))
		credit_take(console, msg);
	else if (control_is(msg, "vm-waiting"))
		waiting_take(console, msg);
	else if (control_is(msg, "vm-warning"))
		warning_take(msg);
	else if (control_is(msg, "attached"))
		attached_take(console);
	else
		return false;
	return true;
}

void console_ended(struct console *console, const json_t *msg, char text[2 * CONTROL_WHY_MAX])
{
	char why[CONTROL_WHY_MAX];
	const char *reason;
	unsigned code = EXIT_ERROR;

	if (control_get_string(msg, "reason", &reason, why) ||
	    control_get_uint(msg, "code", 0, 255, &code, why))
		snprintf(text, 2 * CONTROL_WHY_MAX, "%s", why);
	else
		snprintf(text, 2 * CONTROL_WHY_MAX, "VM %s ended: %s", console->vm, reason);
	control_text_clean(text);
	client_finish(&console->client, (int)code);
}

void console_retry(struct console *console, const char *why)
{
	const struct client *client = &console->client;

	terminal_credit_none(console->terminal); /* it comes anew */
	if (!client->lost_ns)
		cli_say_raw("lost the coordinator: %s; trying for %llu s to come back to VM %s",
			    why, (unsigned long long)client->grace_ms / 1000, console->vm);
}

void console_input(struct console *console, const uint8_t *data, size_t len)
{
	json_t *msg = json_pack("{s:s}", "type", "console-input");

	if (console->client.conn)
		control_send(console->client.conn, msg, data, len);
	json_decref(msg);
}
