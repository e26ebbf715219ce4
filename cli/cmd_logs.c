/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pangea logs: what a VM's console showed, from the log that the coordinator keeps; also of one that has ended.
 * The log is asked for piece by piece, so that nobody queues it for a slow reader; -f asks again and again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/console.h"

static const char usage[] =
	"Usage: pangea logs [OPTION]... VM\n"
	"Prints what a virtual machine's console showed, as far as its log goes back (1 MiB or "
	"more), also\n"
	"of one that has ended.\n"
	"\n"
	"  -f, --follow             go on with what comes, until the VM has ended\n"
	"  -n, --lines N            only the last N lines of what there is\n" CLI_COMMON_USAGE;

#define FOLLOW_MS 300
/* No log is longer (coordinator/vm_log.h), unless its coordinator is not what it says. */
#define LOG_BYTES_MAX (8u << 20)
#define LINES_MAX     100000000u

struct logs {
	struct client client;
	struct control_deadline *later;
	const char *vm;
	bool follow, lines_said;
	unsigned lines;
	uint64_t offset;
	/* With --lines: what there was, until its end has come. */
	uint8_t *past;
	size_t past_len;
	bool past_done;
};

static void piece_ask(struct logs *logs)
{
	control_sendf(logs->client.conn, "{s:s, s:s, s:I}", "type", "logs", "vm", logs->vm,
		      "offset", (json_int_t)logs->offset);
	client_deadline(&logs->client, CLI_REPLY_MS);
}

static void logs_open(struct client *client)
{
	piece_ask(client->user);
}

static void ask_later(void *arg)
{
	struct logs *logs = arg;

	logs->later = NULL;
	if (logs->client.conn)
		piece_ask(logs);
}

/* For a terminal without what it would answer. */
static void bytes_print(const uint8_t *data, size_t len)
{
	uint8_t *copy = len && isatty(STDOUT_FILENO) ? malloc(len) : NULL;

	if (copy) {
		memcpy(copy, data, len);
		len = console_past_quiet(copy, len);
		data = copy;
	}
	fwrite(data, 1, len, stdout);
	free(copy);
}

/* The last lines of what there was. */
static void past_print(struct logs *logs)
{
	size_t from = logs->past_len, lines = 0;

	/* The end of the last line begins none. */
	if (from && logs->past[from - 1] == '\n')
		from--;
	while (from && lines < logs->lines)
		lines += logs->past[--from] == '\n';
	from += lines == logs->lines && logs->lines && logs->past[from] == '\n';
	if (logs->lines)
		bytes_print(logs->past + from, logs->past_len - from);
	free(logs->past);
	logs->past = NULL;
	logs->past_done = true;
}

static int past_add(struct logs *logs, const void *data, size_t len)
{
	uint8_t *grown;

	if (logs->past_len + len > LOG_BYTES_MAX)
		return -EFBIG;
	grown = realloc(logs->past, logs->past_len + len + 1);
	if (!grown)
		return -ENOMEM;
	logs->past = grown;
	memcpy(logs->past + logs->past_len, data, len);
	logs->past_len += len;
	return 0;
}

/* Shows it, or keeps it until the last lines are known. 0 or -errno. */
static int bytes_take(struct logs *logs, const void *data, size_t len)
{
	if (logs->lines_said && !logs->past_done)
		return past_add(logs, data, len);
	bytes_print(data, len);
	return fflush(stdout) == 0 ? 0 : -EPIPE;
}

static int piece_take(struct logs *logs, const json_t *msg, const uint8_t *blob, size_t len,
		      uint64_t *end, char *why)
{
	char mark[CONTROL_MARK_MAX];
	uint64_t offset, lost;
	int err;

	if ((err = control_get_u64(msg, "offset", 0, INT64_MAX / 2, &offset, why)) ||
	    (err = control_get_u64(msg, "lost", 0, INT64_MAX / 2, &lost, why)) ||
	    (err = control_get_u64(msg, "end", 0, INT64_MAX / 2, end, why)))
		return err;
	if (lost)
		err = bytes_take(logs, mark, control_console_mark(lost, mark));
	if (!err)
		err = bytes_take(logs, blob, len);
	logs->offset = offset + len;
	if (err)
		snprintf(why, CONTROL_WHY_MAX, "cannot write the log: %s", error_text(err));
	return err;
}

/* There is no more, for now. */
static void end_take(struct logs *logs, bool live)
{
	if (logs->lines_said && !logs->past_done) {
		past_print(logs);
		fflush(stdout);
	}
	if (!live || !logs->follow) {
		client_finish(&logs->client, EXIT_OK);
		return;
	}
	control_deadline_cancel(&logs->client.deadline);
	logs->later = control_deadline_start(&logs->client.loop, FOLLOW_MS, ask_later, logs);
	if (!logs->later)
		client_finish(&logs->client, EXIT_ERROR);
}

static void logs_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct logs *logs = client->user;
	const char *missing = json_string_value(json_object_get(msg, "missing"));
	char why[CONTROL_WHY_MAX];
	uint64_t end = 0;
	bool live = json_is_true(json_object_get(msg, "live"));

	if (!control_is(msg, "log"))
		return;
	if (missing) {
		snprintf(why, sizeof(why), "the coordinator cannot read the log: %.200s", missing);
		control_text_clean(why);
	}
	if (missing || piece_take(logs, msg, blob, len, &end, why) < 0) {
		client_finish(client, EXIT_ERROR);
		cli_say("%s", why);
	} else if (logs->offset < end) {
		piece_ask(logs);
	} else {
		end_take(logs, live);
	}
}

static void logs_over(struct client *client)
{
	struct logs *logs = client->user;

	control_deadline_cancel(&logs->later);
}

/* Returns -1 to go on, else the exit code. */
static int options_parse(struct logs *logs, struct cli_target *target, int argc, char **argv)
{
	static const struct option list[] = {CLI_COMMON_OPTIONS,
					     {"follow", no_argument, NULL, 'f'},
					     {"lines", required_argument, NULL, 'n'},
					     {NULL, 0, NULL, 0}};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "fn:", list, NULL)) != -1) {
		if (opt == 'f') {
			logs->follow = true;
		} else if (opt == 'n') {
			logs->lines_said = true;
			if (control_uint_parse(optarg, 0, LINES_MAX, &logs->lines) < 0)
				return cli_usage(argv[0], "--lines is a number, not \"%.20s\"",
						 optarg);
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
	logs->vm = argv[optind];
	return -1;
}

int cmd_logs(int argc, char **argv)
{
	static const struct client_ops ops = {
		.on_open = logs_open, .on_msg = logs_msg, .on_over = logs_over};
	struct logs logs = {0};
	struct cli_target target = {0};
	int code = options_parse(&logs, &target, argc, argv);

	if (code >= 0)
		return code;
	code = cli_target_resolve(&target);
	if (code)
		return code;
	logs.client.ops = &ops;
	logs.client.user = &logs;
	uv_loop_init(&logs.client.loop);
	client_deadline(&logs.client, CLI_REPLY_MS);
	code = client_run(&logs.client, &target);
	uv_loop_close(&logs.client.loop);
	free(logs.past);
	return code;
}
