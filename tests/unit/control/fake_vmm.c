/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slice program without a machine, for tests of pangead: it speaks the control protocol on fd 3
 * as pangea-vmm does and takes its orders from the guest's command line:
 *   echo         slice 0 returns console input; 'Q' powers off
 *   end=CODE     slice 0 ends with this code at once
 *   button=CODE  slice 0 ends with this code when its power button is pressed; else it only says so
 *   die=SLICE    that slice kills itself when told to run
 *   hang=SLICE   that slice never listens, nor stops when asked
 *   garbage=SLICE that slice sends nonsense
 *   bad=KIND     once it runs, slice 1 reports what no slice reports: order, code, stats, grow,
 *                flood, after (its exit), taken
 *   lines=N      slice 0 prints N numbered lines as fast as they are taken, and powers off
 *   stuck=SLICE  that slice beats once it runs, and says that its engine stands still
 *   victim=SLICE that slice reports a lost peer when told to run, before the other dies
 * Slice 0 says of each device what it was given, and whether its back end answers.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
	uv_timer_t timer, beat;
	int beats;
	int lines, lines_said;
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

/* VHOST_USER_GET_FEATURES is answered by a number. */
static bool disk_answers(int fd)
{
	const uint32_t question[3] = {1, 1, 0};
	uint32_t answer[5];
	const struct timeval limit = {.tv_sec = 10};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return send(fd, question, sizeof(question), MSG_NOSIGNAL) == sizeof(question) &&
	       recv(fd, answer, sizeof(answer), MSG_WAITALL) == sizeof(answer) && answer[0] == 1 &&
	       answer[2] == 8;
}

/* The other side is there, and has said nothing yet that ends it. */
static bool net_stands(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* To the console, which only slice 0 has; else to the daemon's log. */
static void line_say(struct fake *fake, const char *text)
{
	if (fake->slice)
		fputs(text, stderr);
	else
		say(fake, text);
}

static void devices_say(struct fake *fake)
{
	const json_t *list = json_object_get(fake->config, "devices"), *one;
	char text[256];
	size_t i;
	int fd;

	json_array_foreach(list, i, one)
	{
		bool blk = strcmp(json_string_value(json_object_get(one, "type")), "blk") == 0;

		fd = (int)json_integer_value(json_object_get(one, "fd"));
		snprintf(text, sizeof(text), "device %s %s fd %d queues %d readonly %d %s %s\r\n",
			 json_string_value(json_object_get(one, "id")), blk ? "blk" : "net", fd,
			 (int)json_integer_value(json_object_get(one, "queues")),
			 json_is_true(json_object_get(one, "readonly")),
			 blk ? "-" : json_string_value(json_object_get(one, "mac")),
			 (blk ? disk_answers(fd) : net_stands(fd)) ? "answers" : "is dead");
		line_say(fake, text);
	}
	snprintf(text, sizeof(text), "devices %zu\r\n", json_array_size(list));
	line_say(fake, text);
}

static void hello_say(struct fake *fake, const json_t *msg)
{
	char *distances = json_dumps(json_object_get(msg, "distances"), JSON_COMPACT), text[512];

	snprintf(text, sizeof(text), "hello from slice 0, distances %s\r\n", distances);
	say(fake, text);
	free(distances);
}

/* The word after "word=" is this one. */
static bool order_is(const struct fake *fake, const char *word, const char *value)
{
	const char *at = strstr(fake->append, word);

	return at && strncmp(at + strlen(word), value, strlen(value)) == 0;
}

static void stats_many(struct fake *fake)
{
	json_t *msg = json_pack("{s:s}", "type", "slice-stats");
	char key[16];

	for (int i = 0; i < 65; i++) {
		snprintf(key, sizeof(key), "n%d", i);
		json_object_set_new(msg, key, json_integer(i));
	}
	control_send(fake->conn, msg, NULL, 0);
	json_decref(msg);
}

/* Numbers that are short here and long when they are written again: 2 MiB and more. */
static void stats_grow(void)
{
	static const char head[] = "{\"type\":\"slice-stats\",\"x\":[0", tail[] = "]}";
	size_t room = 500000, used = 0;
	uint8_t *frame = malloc(room);

	used = 8 + sizeof(head) - 1;
	memcpy(frame + 8, head, sizeof(head) - 1);
	while (used + 16 < room) {
		memcpy(frame + used, ",1e99", 5);
		used += 5;
	}
	memcpy(frame + used, tail, 2);
	used += 2;
	for (int i = 0; i < 8; i++)
		frame[i] = i < 4 ? (uint8_t)((used - 8) >> (8 * i)) : 0;
	for (size_t at = 0; at < used;) {
		ssize_t n = write(3, frame + at, used - at);
		if (n > 0)
			at += (size_t)n;
		else
			usleep(1000);
	}
	free(frame);
}

static void bad_say(struct fake *fake)
{
	if (order_is(fake, "bad=", "order"))
		control_sendf(fake->conn, "{s:s}", "type", "slice-started");
	if (order_is(fake, "bad=", "code"))
		control_sendf(fake->conn, "{s:s, s:i, s:s}", "type", "slice-exit", "code", 256,
			      "reason", "x");
	if (order_is(fake, "bad=", "stats"))
		stats_many(fake);
	if (order_is(fake, "bad=", "grow"))
		stats_grow();
	for (int i = 0; i < 100000 && order_is(fake, "bad=", "flood"); i++)
		if (control_sendf(fake->conn, "{s:s, s:i}", "type", "slice-stats", "n", i))
			break;
	for (int i = 0; i < 2 && order_is(fake, "bad=", "after"); i++)
		control_sendf(fake->conn, "{s:s, s:i, s:s}", "type", "slice-exit", "code", 14,
			      "reason", "x");
	if (order_is(fake, "bad=", "taken"))
		control_sendf(fake->conn, "{s:s, s:i}", "type", "console-taken", "bytes", 1);
}

/* Prints while the daemon takes it, as a slice does. */
static void lines_say(uv_timer_t *timer)
{
	struct fake *fake = timer->data;
	char text[64 * 1024];
	size_t used = 0;

	if (control_queued(fake->conn) > CONTROL_CONSOLE_QUEUE_MAX / 2)
		return;
	while (fake->lines_said < fake->lines && used + 128 < 16384)
		used += (size_t)snprintf(text + used, 128,
					 "line %06d: the quick brown fox jumps over the lazy "
					 "dog\r\n",
					 fake->lines_said++);
	text[used] = 0;
	say(fake, text);
	if (fake->lines_said < fake->lines)
		return;
	uv_close((uv_handle_t *)timer, NULL);
	end(fake, EXIT_OK, exit_text(EXIT_OK));
}

static void lines_begin(struct fake *fake)
{
	fake->lines = order(fake, "lines=");
	uv_timer_init(&fake->loop, &fake->timer);
	fake->timer.data = fake;
	uv_timer_start(&fake->timer, lines_say, 1, 1);
}

static void beat_say(uv_timer_t *timer)
{
	struct fake *fake = timer->data;
	bool stuck = order(fake, "stuck=") == (int)fake->slice;

	fake->beats++;
	if (fake->conn)
		control_sendf(fake->conn, "{s:s, s:i}", "type", "slice-beat", "engine_silent_s",
			      stuck ? fake->beats : 0);
}

/* As a slice does each second; nothing waits for it at the end. */
static void beats_begin(struct fake *fake)
{
	uv_timer_init(&fake->loop, &fake->beat);
	fake->beat.data = fake;
	uv_timer_start(&fake->beat, beat_say, 0, 1000);
	uv_unref((uv_handle_t *)&fake->beat);
}

static void run_take(struct fake *fake, const json_t *msg)
{
	control_sendf(fake->conn, "{s:s}", "type", "slice-started");
	beats_begin(fake);
	if (fake->slice == 1)
		bad_say(fake);
	if (order(fake, "die=") == (int)fake->slice) {
		if (order(fake, "victim=") >= 0)
			usleep(500000);
		__builtin_trap(); /* no signal of its own would end the first process of a PID name space */
	}
	if (order(fake, "victim=") == (int)fake->slice) {
		end(fake, EXIT_NODE_LOST, "lost its connection to slice 1");
		return;
	}
	if (fake->slice) {
		devices_say(fake);
		return;
	}
	if (order(fake, "lines=") >= 0) {
		lines_begin(fake);
		return;
	}
	hello_say(fake, msg);
	files_say(fake);
	devices_say(fake);
	if (order(fake, "end=") >= 0)
		end(fake, order(fake, "end="), exit_text(order(fake, "end=")));
}

static void input_take(struct fake *fake, const uint8_t *data, size_t len)
{
	json_t *msg = json_pack("{s:s}", "type", "console-output");

	control_send(fake->conn, msg, data, len);
	json_decref(msg);
	control_sendf(fake->conn, "{s:s, s:I}", "type", "console-taken", "bytes", (json_int_t)len);
	if (memchr(data, 'Q', len))
		end(fake, EXIT_OK, "the guest powered off");
}

static void button_take(struct fake *fake)
{
	say(fake, "pressed\r\n");
	if (order(fake, "button=") >= 0)
		end(fake, order(fake, "button="), exit_text(order(fake, "button=")));
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
	else if (control_is(msg, "slice-button"))
		button_take(fake);
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
