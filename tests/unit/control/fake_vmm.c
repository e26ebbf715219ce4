/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slice program without a machine, for tests of pangead: it speaks the control protocol on fd 3
 * as pangea-vmm does and takes its orders from the guest's command line:
 *   echo         slice 0 returns console input; 'Q' powers off
 *   end=CODE     slice 0 ends with this code at once
 *   die=SLICE    that slice kills itself when told to run
 *   hang=SLICE   that slice never listens, nor stops when asked
 *   garbage=SLICE that slice sends nonsense
 *   victim=SLICE that slice reports a lost peer when told to run, before the other dies
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "control/control.h"

struct fake {
	uv_loop_t loop;
	struct control_conn *conn;
	unsigned slice;
	char append[CMDLINE_MAX];
	json_t *config;
	int code;
};

/* The number after "word=" on the command line; -1 if it is not there. */
static int order(const struct fake *fake, const char *word)
{
	const char *at = strstr(fake->append, word);

	return at ? atoi(at + strlen(word)) : -1;
}

static void say(struct fake *fake, const char *text)
{
	json_t *msg = json_pack("{s:s}", "type", "console-output");

	control_send(fake->conn, msg, text, strlen(text));
	json_decref(msg);
}

static void end(struct fake *fake, int code, const char *reason)
{
	control_sendf(fake->conn, "{s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:I}", "type",
		      "slice-stats", "faults_read", (json_int_t)10 + fake->slice, "faults_write",
		      20, "messages_sent", 30, "messages_received", 40, "bytes_sent", 50,
		      "bytes_received", 60, "pages_held", 70, "instructions", (json_int_t)1 << 40);
	control_sendf(fake->conn, "{s:s, s:i, s:s}", "type", "slice-exit", "code", code, "reason",
		      reason);
	fake->code = code;
	control_close(fake->conn, "done");
}

static void config_take(struct fake *fake, const json_t *msg)
{
	fake->slice = (unsigned)json_integer_value(json_object_get(msg, "slice"));
	snprintf(fake->append, sizeof(fake->append), "%s",
		 json_string_value(json_object_get(msg, "append")));
	fake->config = json_deep_copy(msg);
	if (order(fake, "hang=") == (int)fake->slice) {
		signal(SIGTERM, SIG_IGN);
		return;
	}
	if (order(fake, "garbage=") == (int)fake->slice) {
		if (write(3, "GET / HTTP/1.1\r\n\r\n", 18) < 0)
			_exit(1);
		return;
	}
	control_sendf(fake->conn, "{s:s, s:i, s:s, s:s}", "type", "slice-listening", "port",
		      40000 + (int)fake->slice, "cpu", "soft", "cpu_why",
		      json_string_value(json_object_get(msg, "cpu")));
}

/* The files' sizes, through the paths that the daemon gave. */
static void files_say(struct fake *fake)
{
	static const char *const keys[] = {"kernel", "initrd"};
	char text[256];
	struct stat st;

	for (int i = 0; i < 2; i++) {
		const char *path = json_string_value(json_object_get(fake->config, keys[i]));
		long long size = path[0] && stat(path, &st) == 0 ? (long long)st.st_size : -1;
		FILE *file = path[0] ? fopen(path, "r") : NULL;
		unsigned sum = 0;
		for (int c; file && (c = fgetc(file)) != EOF;)
			sum = sum * 31 + (unsigned)c;
		if (file)
			fclose(file);
		snprintf(text, sizeof(text), "%s %lld bytes hash %08x\r\n", keys[i], size, sum);
		say(fake, text);
	}
}

static void hello_say(struct fake *fake, const json_t *msg)
{
	char *distances = json_dumps(json_object_get(msg, "distances"), JSON_COMPACT), text[512];

	snprintf(text, sizeof(text), "hello from slice 0, distances %s\r\n", distances);
	say(fake, text);
	free(distances);
}

static void run_take(struct fake *fake, const json_t *msg)
{
	control_sendf(fake->conn, "{s:s}", "type", "slice-started");
	if (order(fake, "die=") == (int)fake->slice) {
		if (order(fake, "victim=") >= 0)
			usleep(500000);
		kill(getpid(), SIGKILL);
	}
	if (order(fake, "victim=") == (int)fake->slice) {
		end(fake, EXIT_NODE_LOST, "lost its connection to slice 1");
		return;
	}
	if (fake->slice)
		return;
	hello_say(fake, msg);
	files_say(fake);
	if (order(fake, "end=") >= 0)
		end(fake, order(fake, "end="), exit_text(order(fake, "end=")));
}

static void input_take(struct fake *fake, const uint8_t *data, size_t len)
{
	json_t *msg = json_pack("{s:s}", "type", "console-output");

	control_send(fake->conn, msg, data, len);
	json_decref(msg);
	if (memchr(data, 'Q', len))
		end(fake, EXIT_OK, "the guest powered off");
}

static void fake_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct fake *fake = control_user(conn);

	if (control_is(msg, "slice-config"))
		config_take(fake, msg);
	else if (control_is(msg, "slice-connect"))
		control_sendf(conn, "{s:s, s:[i,i]}", "type", "slice-connected", "rtt_ns",
			      fake->slice ? 30000 : 0, fake->slice ? 0 : 31000);
	else if (control_is(msg, "slice-run"))
		run_take(fake, msg);
	else if (control_is(msg, "console-input"))
		input_take(fake, blob, len);
	else if (control_is(msg, "slice-stop") && order(fake, "hang=") != (int)fake->slice)
		end(fake, EXIT_STOPPED, exit_text(EXIT_STOPPED));
}

static void fake_closed(struct control_conn *conn, int err, const char *why)
{
	struct fake *fake = control_user(conn);

	(void)why;
	fake->conn = NULL;
	if (err)
		fake->code = EXIT_ERROR;
}

int main(int argc, char **argv)
{
	static const struct control_ops ops = {NULL, fake_msg, fake_closed};
	struct fake *fake = calloc(1, sizeof(*fake));
	struct control_options opts = {.ops = &ops, .user = fake, .role = CONTROL_ROLE_VMM};
	int code;

	if (argc == 3 && strcmp(argv[1], "--text") == 0) {
		puts(exit_text(atoi(argv[2])));
		return EXIT_OK;
	}
	if (!fake)
		return EXIT_ERROR;
	uv_loop_init(&fake->loop);
	opts.loop = &fake->loop;
	if (control_open_fd(&opts, 3, &fake->conn) < 0)
		return EXIT_ERROR;
	uv_run(&fake->loop, UV_RUN_DEFAULT);
	uv_loop_close(&fake->loop);
	json_decref(fake->config);
	code = fake->code;
	free(fake);
	return code;
}
