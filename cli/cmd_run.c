/* SPDX-License-Identifier: Apache-2.0 */
/* pangea run: places a VM, sends its kernel, is its console, and carries its end out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/console.h"
#include "cli/run.h"

/* After asking for the end: slices have 5 s, daemons 5 more. */
#define STOP_MS 20000

struct run {
	struct console console;
	struct run_options opts;
	struct run_upload upload;
	struct run_images images;
	FILE *stats_json;	     /* or null */
	bool sent;		     /* its kernel has arrived */
	bool stopped;		     /* we asked for its end */
	bool ended;		     /* the coordinator has told us of its end */
	bool reset;		     /* that was a reset from outside */
	char name[NAME_MAX_LEN + 1]; /* of a VM that is started again, if it was not said */
};

static void run_over(struct client *client)
{
	struct run *run = client->user;

	/* A coordinator that hears nothing would wait for us; a detached VM it has, once the kernel is there. */
	if (run->console.known && client->conn && !(run->opts.detach && run->sent))
		control_sendf(client->conn, "{s:s}", "type", "leaving");
	terminal_close(run->console.terminal);
	run_upload_close(&run->upload);
}

static void run_ask(struct client *client)
{
	struct run *run = client->user;
	json_t *msg = json_pack(
		"{s:s, s:O, s:s, s:I, s:I, s:b, s:i, s:I, s:i, s:s, s:b, s:b}", "type", "run",
		"slices", run->opts.slices, "append", run->opts.append ? run->opts.append : "",
		"kernel_bytes", (json_int_t)run->upload.bytes[RUN_KERNEL], "initrd_bytes",
		(json_int_t)run->upload.bytes[RUN_INITRD], "console",
		(!run->opts.no_console && !run->opts.detach) || run->console.log, "cpus",
		(int)run->opts.cpus, "mem_bytes", (json_int_t)run->opts.mem_bytes, "nodes",
		(int)run->opts.nodes, "cpu", run->opts.cpu, "force", (int)run->opts.force, "micro",
		run->opts.guest != NULL);

	if (run->opts.name)
		json_object_set_new(msg, "name", json_string(run->opts.name));
	if (run->opts.devices.count)
		json_object_set_new(msg, "devices", control_devices_json(&run->opts.devices));
	if (run->opts.images)
		json_object_set_new(msg, "images", control_images_json(&run->images.list));
	if (run->opts.vendor)
		json_object_set_new(msg, "vendor", json_string(run->opts.vendor));
	if (run->opts.model)
		json_object_set_new(msg, "cpu_model", json_string(run->opts.model));
	if (run->opts.cache_bytes)
		json_object_set_new(msg, "cache_bytes",
				    json_integer((json_int_t)run->opts.cache_bytes));
	if (run->opts.cache_none)
		json_object_set_new(msg, "cache_none", json_true());
	if (run->opts.cache_percent)
		json_object_set_new(msg, "cache_percent",
				    json_integer((json_int_t)run->opts.cache_percent));
	json_object_set_new(msg, "transport", json_string(run->opts.transport));
	json_object_set_new(msg, "encryption",
			    json_string(run->opts.plaintext_data       ? "off"
					: run->opts.require_encryption ? "required"
								       : "on"));
	json_object_set_new(
		msg, "profile",
		json_string(run_profile_choose(&run->opts, run->upload.fd[RUN_KERNEL])));
	if (run->opts.placement)
		json_object_set_new(msg, "placement", json_string(run->opts.placement));
	if (run->opts.overcommit)
		json_object_set_new(msg, "overcommit", json_true());
	if (run->opts.rm)
		json_object_set_new(msg, "rm", json_true());
	if (run->opts.detach)
		json_object_set_new(msg, "detached", json_true());
	if (run->opts.detach)
		json_object_set_new(msg, "on_reboot",
				    json_string(run->opts.again.on_reboot ? "restart" : "end"));
	if (run->opts.detach)
		json_object_set_new(msg, "on_crash",
				    json_string(run->opts.again.on_crash ? "restart" : "end"));
	if (run->opts.distance)
		json_object_set_new(msg, "distance", json_integer((json_int_t)run->opts.distance));
	control_send(client->conn, msg, run->opts.seed.bytes,
		     run->opts.seed.bytes ? CONTROL_SEED_BYTES : 0);
	json_decref(msg);
	client_deadline(client, CLI_REPLY_MS);
}

static void run_open(struct client *client)
{
	struct run *run = client->user;

	if (run->console.known)
		console_ask_again(&run->console);
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
	cli_say("VM %s on%s", run->console.vm, text);
	if (run->opts.plaintext_data)
		cli_say("--plaintext-data: whoever is on the network between the nodes can read "
			"and "
			"change the guest's memory");
}

static void upload_go_on(struct run *run)
{
	int code = run_upload_continue(&run->upload, run->console.client.conn);

	if (!code)
		code = run_images_continue(&run->images, run->console.client.conn,
					   &run->upload.unanswered);
	if (code)
		client_finish(&run->console.client, code);
}

static void placed_take(struct run *run, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	const char *owner;
	json_t *slices;

	if (control_get_string(msg, "owner", &owner, why) ||
	    control_get_array(msg, "slices", SLICES_MAX, &slices, why) ||
	    console_known(&run->console, msg, why)) {
		console_end(&run->console, EXIT_ERROR, why);
		return;
	}
	snprintf(run->console.owner, sizeof(run->console.owner), "%s", owner);
	placed_say(run, slices);
	run_devices_say(msg);
	run_profile_say(msg);
	upload_go_on(run);
}

static void state_take(struct run *run, const json_t *msg)
{
	const char *state;
	char why[CONTROL_WHY_MAX];

	if (control_get_string(msg, "state", &state, why) < 0)
		return;
	run->sent = strcmp(state, "placing") != 0;
	if (strcmp(state, "running") == 0 && run->opts.detach)
		control_sendf(run->console.client.conn, "{s:s}", "type", "detach");
	else if (strcmp(state, "running") == 0 && !run->opts.no_console)
		terminal_attach(run->console.terminal);
}

static void stop_ask(struct run *run)
{
	control_sendf(run->console.client.conn, "{s:s, s:s}", "type", "stop", "vm",
		      run->console.vm);
	client_deadline(&run->console.client, STOP_MS);
}

static void attached_take(struct run *run, const json_t *msg)
{
	state_take(run, msg);
	if (run->stopped) /* It may not have heard it. */
		stop_ask(run);
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

/* Some links go over RDMA. */
static void links_take(const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	unsigned pairs;

	if (control_get_uint(msg, "rdma_pairs", 1, SLICES_MAX * SLICES_MAX, &pairs, why) == 0)
		cli_say("%u link%s over RDMA, which nothing encrypts: whoever is on that network "
			"can read and change the guest's memory (--require-encryption goes "
			"without RDMA)",
			pairs, pairs == 1 ? " goes" : "s go");
}

static void ended_take(struct run *run, const json_t *msg)
{
	char text[2 * CONTROL_WHY_MAX];

	run->ended = true;
	run->reset = json_is_true(json_object_get(msg, "again"));
	console_ended(&run->console, msg, text);
	if (run->opts.stats)
		run_stats_print(msg);
	if (run->stats_json && run_stats_write(run->stats_json, msg))
		cli_say("cannot write all of %s", run->opts.stats_json);
	cli_say("%s", text);
}

static void run_stop(struct run *run)
{
	if (run->stopped || !run->console.known) {
		/* The coordinator stops a VM whose terminal goes away. */
		console_end(&run->console, EXIT_STOPPED, "interrupted");
		return;
	}
	run->stopped = true;
	if (run->console.client.conn) {
		stop_ask(run);
		return;
	}
	cli_say_raw("VM %s is stopped as soon as the coordinator is there again; once more quits",
		    run->console.vm);
	client_deadline(&run->console.client, STOP_MS);
}

static void detached_take(struct run *run)
{
	char text[256];

	if (run->opts.detach) {
		client_finish(&run->console.client, EXIT_OK);
		printf("%s\n", run->console.vm);
		return;
	}
	snprintf(text, sizeof(text), "detached; VM %s goes on: 'pangea console %s' comes back",
		 run->console.vm, run->console.vm);
	console_end(&run->console, EXIT_OK, text);
}

static void run_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct run *run = client->user;

	if (console_msg(&run->console, msg)) {
		if (control_is(msg, "attached"))
			attached_take(run, msg);
	} else if (control_is(msg, "run-placed")) {
		placed_take(run, msg);
	} else if (control_is(msg, "file-ack") || control_is(msg, "image-ack")) {
		run_upload_answered(&run->upload, msg);
		upload_go_on(run);
	} else if (control_is(msg, "image-send")) {
		if (run_images_asked(&run->images, msg))
			upload_go_on(run);
	} else if (control_is(msg, "vm-engines")) {
		engines_take(msg);
	} else if (control_is(msg, "vm-links")) {
		links_take(msg);
	} else if (control_is(msg, "vm-state")) {
		state_take(run, msg);
	} else if (control_is(msg, "console-output")) {
		if (console_output(&run->console, msg, blob, len) < 0)
			run_stop(run);
	} else if (control_is(msg, "vm-ended")) {
		ended_take(run, msg);
	} else if (control_is(msg, "detached")) {
		detached_take(run);
	}
}

/* A VM whose kernel was on its way has ended; any other goes on without us for a while. */
static bool run_retry(struct client *client, const char *why)
{
	struct run *run = client->user;

	if (!run->console.known || !run->sent)
		return false;
	console_retry(&run->console, why);
	return true;
}

static int run_lost(struct client *client, const char *why)
{
	struct run *run = client->user;

	if (!run->console.known) {
		cli_say("the coordinator cannot be reached: %s", why);
		return EXIT_UNREACHABLE;
	}
	cli_say("VM %s ended: lost the coordinator: %s", run->console.vm, why);
	return EXIT_UNREACHABLE;
}

static void run_input(void *arg, const uint8_t *data, size_t len)
{
	struct run *run = arg;

	console_input(&run->console, data, len);
}

static void run_key(void *arg, enum terminal_key key)
{
	struct run *run = arg;

	if (key == TERMINAL_DETACH && run->console.client.conn)
		control_sendf(run->console.client.conn, "{s:s}", "type", "detach");
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
		code = file_open(run->opts.console_log, &run->console.log);
	/* The log is for those who look while the guest runs, too. */
	if (run->console.log)
		setvbuf(run->console.log, NULL, _IONBF, 0);
	return code;
}

/* One life of the VM; the files are open. */
static int run_once(struct run *run, const struct cli_target *target)
{
	run->console.log_path = run->opts.console_log;
	run->console.hidden = run->opts.no_console || run->opts.detach;
	return console_run(&run->console, &client_ops, &terminal_ops, run, target);
}

/* As before the first life, but that the name is known and the log goes on. 0, or an exit code, having said why. */
static int run_renew(struct run *run)
{
	snprintf(run->name, sizeof(run->name), "%s", run->console.vm);
	run->opts.name = run->name;
	run->console = (struct console){.log = run->console.log};
	run->sent = run->stopped = run->ended = run->reset = false;
	run_images_renew(&run->images);
	return run_upload_open(&run->upload, &run->opts);
}

/* The VM has ended with this code: is it started again? If that fails, the code says so. */
static bool run_goes_on(struct run *run, int *code)
{
	const char *cause;
	enum run_next next;

	/* Who asked for its end wants no new one. */
	if (!run->ended || run->stopped || run->opts.detach)
		return false;
	next = run_again_decide(&run->opts.again, *code, run->reset, clock_now_ns(), &cause);
	if (next == RUN_TOO_OFTEN)
		cli_say("%s: that was too often, %d times within %d s: it is not started again",
			cause, RUN_AGAIN_MAX + 1, RUN_AGAIN_WINDOW_S);
	if (next != RUN_AGAIN)
		return false;
	cli_say("%s: VM %s is started again", cause, run->console.vm);
	*code = run_renew(run);
	return *code == EXIT_OK;
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
	code = run_images_open(&run->images, &run->opts);
	if (code)
		return code;
	code = files_open(run);
	if (code)
		return code;
	do
		code = run_once(run, &target);
	while (run_goes_on(run, &code));
	return code;
}

int cmd_run(int argc, char **argv)
{
	struct run *run = calloc(1, sizeof(*run));
	int code = run ? run_main(run, argc, argv) : EXIT_ERROR;

	if (run)
		run_images_close(&run->images);
	if (run && run->stats_json)
		fclose(run->stats_json);
	if (run && run->console.log)
		fclose(run->console.log);
	if (run) {
		json_decref(run->opts.slices);
		json_decref(run->opts.strings);
		free(run->opts.seed.bytes);
	}
	free(run);
	return code;
}
