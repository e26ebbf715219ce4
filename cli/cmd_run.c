/* SPDX-License-Identifier: Apache-2.0 */
/* pangea run: places a VM, sends its kernel, is its console, and carries its end out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/run.h"

/* After asking for the end: slices have 5 s, daemons 5 more. */
#define STOP_MS 20000

struct run {
	struct client client;
	struct run_options opts;
	struct run_upload upload;
	struct terminal *terminal;
	FILE *stats_json;  /* or null */
	FILE *console_log; /* or null */
	char vm[NAME_MAX_LEN + 1];
	char incarnation[20], owner[20]; /* what shows that it is ours, if we must come back */
	uint64_t console_bytes;		 /* of its output seen so far */
	bool placed;			 /* the coordinator took it */
	bool sent;			 /* its kernel has arrived */
	bool stopped;			 /* we asked for its end */
};

static void run_end(struct run *run, int code, const char *sentence)
{
	if (run->client.finished)
		return;
	client_finish(&run->client, code);
	cli_say("%s", sentence);
}

static void run_over(struct client *client)
{
	struct run *run = client->user;

	/* A coordinator that hears nothing would wait for us. */
	if (run->placed && client->conn)
		control_sendf(client->conn, "{s:s}", "type", "leaving");
	terminal_close(run->terminal);
	run_upload_close(&run->upload);
}

/* The connection was lost, and is there again. */
static void attach_ask(struct run *run)
{
	control_sendf(run->client.conn, "{s:s, s:s, s:s, s:s, s:b, s:I}", "type", "attach", "vm",
		      run->vm, "incarnation", run->incarnation, "owner", run->owner, "console",
		      !run->opts.no_console || run->console_log, "console_bytes",
		      (json_int_t)run->console_bytes);
	client_deadline(&run->client, CLI_REPLY_MS);
}

static void run_ask(struct client *client)
{
	struct run *run = client->user;
	json_t *msg = json_pack(
		"{s:s, s:O, s:s, s:I, s:I, s:b, s:i, s:I, s:i, s:s, s:b, s:b}", "type", "run",
		"slices", run->opts.slices, "append", run->opts.append ? run->opts.append : "",
		"kernel_bytes", (json_int_t)run->upload.bytes[RUN_KERNEL], "initrd_bytes",
		(json_int_t)run->upload.bytes[RUN_INITRD], "console",
		!run->opts.no_console || run->console_log, "cpus", (int)run->opts.cpus, "mem_bytes",
		(json_int_t)run->opts.mem_bytes, "nodes", (int)run->opts.nodes, "cpu",
		run->opts.cpu, "force", (int)run->opts.force, "micro", run->opts.guest != NULL);

	if (run->opts.name)
		json_object_set_new(msg, "name", json_string(run->opts.name));
	if (run->opts.vendor)
		json_object_set_new(msg, "vendor", json_string(run->opts.vendor));
	if (run->opts.cache_bytes)
		json_object_set_new(msg, "cache_bytes",
				    json_integer((json_int_t)run->opts.cache_bytes));
	if (run->opts.cache_none)
		json_object_set_new(msg, "cache_none", json_true());
	if (run->opts.cache_percent)
		json_object_set_new(msg, "cache_percent",
				    json_integer((json_int_t)run->opts.cache_percent));
	if (run->opts.distance)
		json_object_set_new(msg, "distance", json_integer((json_int_t)run->opts.distance));
	control_send(client->conn, msg, NULL, 0);
	json_decref(msg);
	client_deadline(client, CLI_REPLY_MS);
}

static void run_open(struct client *client)
{
	struct run *run = client->user;

	if (run->placed)
		attach_ask(run);
	else
		run_ask(client);
}

static void placed_say(const struct run *run, const json_t *slices)
{
	char why[CONTROL_WHY_MAX], text[900] = "", mem[32];
	const json_t *slice;
	const char *node;
	uint64_t vcpus, mem_bytes;
	size_t i;

	json_array_foreach(slices, i, slice)
	{
		size_t used = strlen(text);
		if (control_get_name(slice, "node", &node, why) ||
		    control_get_u64(slice, "vcpus", 0, VCPUS_MAX, &vcpus, why) ||
		    control_get_u64(slice, "mem_bytes", 0, GUEST_MEM_MAX, &mem_bytes, why))
			continue;
		control_size_format(mem_bytes, mem, sizeof(mem));
		snprintf(text + used, sizeof(text) - used, "%s %s (%llu CPU%s, %s)", i ? "," : "",
			 node, (unsigned long long)vcpus, vcpus == 1 ? "" : "s", mem);
	}
	cli_say("VM %s on%s", run->vm, text);
}

static void upload_go_on(struct run *run)
{
	int code = run_upload_continue(&run->upload, run->client.conn);

	if (code)
		client_finish(&run->client, code);
}

static void placed_take(struct run *run, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	const char *vm, *incarnation, *owner;
	json_t *slices;

	if (control_get_name(msg, "vm", &vm, why) ||
	    control_get_string(msg, "incarnation", &incarnation, why) ||
	    control_get_string(msg, "owner", &owner, why) ||
	    control_get_u64(msg, "grace_ms", 0, INT64_MAX / NS_PER_MS, &run->client.grace_ms,
			    why) ||
	    control_get_array(msg, "slices", SLICES_MAX, &slices, why)) {
		run_end(run, EXIT_ERROR, why);
		return;
	}
	control_deadline_cancel(&run->client.deadline);
	run->placed = true;
	snprintf(run->vm, sizeof(run->vm), "%s", vm);
	snprintf(run->incarnation, sizeof(run->incarnation), "%s", incarnation);
	snprintf(run->owner, sizeof(run->owner), "%s", owner);
	placed_say(run, slices);
	upload_go_on(run);
}

static void state_take(struct run *run, const json_t *msg)
{
	const char *state;
	char why[CONTROL_WHY_MAX];

	if (control_get_string(msg, "state", &state, why) < 0)
		return;
	run->sent = strcmp(state, "placing") != 0;
	if (strcmp(state, "running") == 0 && !run->opts.no_console)
		terminal_attach(run->terminal);
}

static void attached_take(struct run *run, const json_t *msg)
{
	control_deadline_cancel(&run->client.deadline);
	client_back(&run->client);
	cli_say_raw("the coordinator is there again; VM %s goes on", run->vm);
	state_take(run, msg);
	if (!run->stopped)
		return;
	/* It may not have heard it. */
	control_sendf(run->client.conn, "{s:s, s:s}", "type", "stop", "vm", run->vm);
	client_deadline(&run->client, STOP_MS);
}

/* One line for each slice: what runs its CPUs, and why. */
static void engines_take(const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *node, *reason;
	json_t *slices, *slice;
	size_t i;

	if (control_get_array(msg, "slices", SLICES_MAX, &slices, why))
		return;
	json_array_foreach(slices, i, slice)
	{
		if (control_get_name(slice, "node", &node, why) ||
		    control_get_string(slice, "cpu_why", &reason, why))
			continue; /* a slice without CPUs */
		snprintf(text, sizeof(text), "slice %zu on %s: %.255s", i, node, reason);
		control_text_clean(text);
		cli_say("%s", text);
	}
}

/* Who does not answer, or answers again. */
static void waiting_take(const struct run *run, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *sentence;

	if (control_get_string(msg, "sentence", &sentence, why))
		return;
	snprintf(text, sizeof(text), "%.255s", sentence);
	control_text_clean(text);
	cli_say_raw("VM %s: %s", run->vm, text);
}

static void ended_take(struct run *run, const json_t *msg)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX + 128];
	const char *reason;
	unsigned code;

	if (control_get_string(msg, "reason", &reason, why) ||
	    control_get_uint(msg, "code", 0, 255, &code, why)) {
		run_end(run, EXIT_ERROR, why);
		return;
	}
	snprintf(text, sizeof(text), "VM %s ended: %s", run->vm, reason);
	control_text_clean(text);
	client_finish(&run->client, (int)code);
	if (run->opts.stats)
		run_stats_print(msg);
	if (run->stats_json && run_stats_write(run->stats_json, msg))
		cli_say("cannot write all of %s", run->opts.stats_json);
	cli_say("%s", text);
}

static void run_stop(struct run *run)
{
	if (run->stopped || !run->placed) {
		/* The coordinator stops a VM whose terminal goes away. */
		run_end(run, EXIT_STOPPED, "interrupted");
		return;
	}
	run->stopped = true;
	if (!run->client.conn)
		cli_say_raw("VM %s is stopped as soon as the coordinator is there again; once more "
			    "quits",
			    run->vm);
	else
		control_sendf(run->client.conn, "{s:s, s:s}", "type", "stop", "vm", run->vm);
	client_deadline(&run->client, STOP_MS);
}

static void credit_take(struct run *run, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	unsigned bytes;

	if (control_get_uint(msg, "bytes", 1, CONTROL_INPUT_WINDOW, &bytes, why) == 0)
		terminal_credit(run->terminal, bytes);
}

static void log_write(struct run *run, const void *data, size_t len)
{
	if (!run->console_log || fwrite(data, 1, len, run->console_log) == len)
		return;
	cli_say("cannot write all of %s: %s", run->opts.console_log, strerror(errno));
	fclose(run->console_log);
	run->console_log = NULL;
}

/* Bytes that we know already, because the connection was made again; and in *lost those that never
 * came. */
static size_t output_known(struct run *run, const json_t *msg, size_t len, uint64_t *lost)
{
	uint64_t offset, known = 0;
	char why[CONTROL_WHY_MAX];

	*lost = output_lost_of(msg);
	if (len && json_object_get(msg, "offset") &&
	    control_get_u64(msg, "offset", 0, INT64_MAX, &offset, why) == 0) {
		known = offset < run->console_bytes ? run->console_bytes - offset : 0;
		*lost = offset > run->console_bytes ? offset - run->console_bytes : 0;
	}
	known = known < len ? known : len;
	run->console_bytes += *lost + (len - known);
	return (size_t)known;
}

/* Console output: all of it into the log, and what the reader of our output has room for there. */
static void output_take(struct run *run, const json_t *msg, const uint8_t *data, size_t len)
{
	char mark[CONTROL_MARK_MAX];
	uint64_t lost;
	size_t known = output_known(run, msg, len, &lost);
	json_t *news = json_pack("{s:s, s:I}", "type", "console-output", "lost", (json_int_t)lost);

	if (lost)
		log_write(run, mark, control_console_mark(lost, mark));
	log_write(run, data + known, len - known);
	if (!run->opts.no_console && (lost || len > known) &&
	    terminal_output(run->terminal, news, data + known, len - known) < 0)
		run_stop(run);
	json_decref(news);
}

static void run_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct run *run = client->user;
	char text[256];

	if (control_is(msg, "run-placed")) {
		placed_take(run, msg);
	} else if (control_is(msg, "file-ack")) {
		run_upload_answered(&run->upload);
		upload_go_on(run);
	} else if (control_is(msg, "vm-engines")) {
		engines_take(msg);
	} else if (control_is(msg, "vm-waiting")) {
		waiting_take(run, msg);
	} else if (control_is(msg, "vm-state")) {
		state_take(run, msg);
	} else if (control_is(msg, "attached")) {
		attached_take(run, msg);
	} else if (control_is(msg, "console-output")) {
		output_take(run, msg, blob, len);
	} else if (control_is(msg, "console-credit")) {
		credit_take(run, msg);
	} else if (control_is(msg, "vm-ended")) {
		ended_take(run, msg);
	} else if (control_is(msg, "detached")) {
		snprintf(text, sizeof(text),
			 "detached; VM %s goes on: 'pangea console %s' comes back", run->vm,
			 run->vm);
		run_end(run, EXIT_OK, text);
	}
}

/* A VM whose kernel was on its way has ended; any other goes on without us for a while. */
static bool run_retry(struct client *client, const char *why)
{
	struct run *run = client->user;

	if (!run->placed || !run->sent)
		return false;
	terminal_credit_none(run->terminal); /* it comes anew */
	if (!client->lost_ns)
		cli_say_raw("lost the coordinator: %s; trying for %llu s to come back to VM %s",
			    why, (unsigned long long)client->grace_ms / 1000, run->vm);
	return true;
}

static int run_lost(struct client *client, const char *why)
{
	struct run *run = client->user;

	if (!run->placed) {
		cli_say("the coordinator cannot be reached: %s", why);
		return EXIT_UNREACHABLE;
	}
	cli_say("VM %s ended: lost the coordinator: %s", run->vm, why);
	return EXIT_UNREACHABLE;
}

static void run_input(void *arg, const uint8_t *data, size_t len)
{
	struct run *run = arg;
	json_t *msg = json_pack("{s:s}", "type", "console-input");

	if (run->client.conn)
		control_send(run->client.conn, msg, data, len);
	json_decref(msg);
}

static void run_key(void *arg, enum terminal_key key)
{
	struct run *run = arg;

	if (key == TERMINAL_DETACH && run->client.conn)
		control_sendf(run->client.conn, "{s:s}", "type", "detach");
	else if (key == TERMINAL_QUIT)
		run_stop(run);
}

static void run_signal(void *arg, int signum)
{
	(void)signum;
	run_stop(arg);
}

static const struct client_ops client_ops = {.on_open = run_open,
					     .on_msg = run_msg,
					     .on_lost = run_lost,
					     .on_retry = run_retry,
					     .on_over = run_over};
static const struct terminal_ops terminal_ops = {run_input, run_key, run_signal};

/* Before the VM runs: a file that cannot be written shall not be found out at its end. */
static int file_open(const char *path, FILE **out)
{
	*out = path ? fopen(path, "we") : NULL;
	if (!path || *out)
		return EXIT_OK;
	cli_say("cannot write %s: %s", path, strerror(errno));
	return EXIT_ERROR;
}

static int files_open(struct run *run)
{
	int code = file_open(run->opts.stats_json, &run->stats_json);

	if (!code)
		code = file_open(run->opts.console_log, &run->console_log);
	/* The log is for those who look while the guest runs, too. */
	if (run->console_log)
		setvbuf(run->console_log, NULL, _IONBF, 0);
	return code;
}

static int run_main(struct run *run, int argc, char **argv)
{
	struct cli_target target = {0};
	int code = run_options_parse(&run->opts, &target, argc, argv);

	if (code >= 0)
		return code;
	code = run_upload_open(&run->upload, &run->opts);
	if (code)
		return code;
	code = cli_target_resolve(&target);
	if (code)
		return code;
	code = files_open(run);
	if (code)
		return code;
	run->client.ops = &client_ops;
	run->client.user = run;
	uv_loop_init(&run->client.loop);
	run->terminal = terminal_new(&run->client.loop, &terminal_ops, run);
	if (!run->terminal)
		return EXIT_ERROR;
	code = client_run(&run->client, &target);
	uv_loop_close(&run->client.loop);
	return code;
}

int cmd_run(int argc, char **argv)
{
	struct run *run = calloc(1, sizeof(*run));
	int code = run ? run_main(run, argc, argv) : EXIT_ERROR;

	if (run && run->stats_json)
		fclose(run->stats_json);
	if (run && run->console_log)
		fclose(run->console_log);
	if (run)
		json_decref(run->opts.slices);
	free(run);
	return code;
}
