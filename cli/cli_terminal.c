/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's console on stdin and stdout: raw mode, the escape key, signals.
 *
 * stdin may be a terminal, a pipe, a file or /dev/null. A thread of its own reads it with plain
 * blocking reads, so that no flag of a file description that others share is ever changed.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"

#define ESCAPE_KEY 0x1d /* Ctrl-] */
#define INPUT_MAX  1024

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

struct terminal {
	const struct terminal_ops *ops;
	void *arg;
	uv_signal_t signal[SIGNALS];
	uv_async_t wake;
	unsigned handles;
	bool raw, escaped, attached;
	struct termios saved;
	/* between the reader and the loop, under lock */
	pthread_mutex_t lock;
	pthread_cond_t taken;
	uint8_t input[INPUT_MAX];
	size_t input_len;
	bool closed;
	unsigned users; /* the loop and the reader: the last one frees */
};

int terminal_write(const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, data, len);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd fd = {.fd = STDOUT_FILENO, .events = POLLOUT};
			poll(&fd, 1, 1000);
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static void terminal_release(struct terminal *terminal)
{
	bool last;

	pthread_mutex_lock(&terminal->lock);
	last = --terminal->users == 0;
	pthread_mutex_unlock(&terminal->lock);
	if (!last)
		return;
	pthread_cond_destroy(&terminal->taken);
	pthread_mutex_destroy(&terminal->lock);
	free(terminal);
}

/* Reads; hands over; waits until it was taken. Ends with stdin or with the process. */
static void *reader_run(void *arg)
{
	struct terminal *terminal = arg;
	uint8_t buf[INPUT_MAX];
	bool go_on = true;

	while (go_on) {
		ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
			poll(&fd, 1, 1000);
			continue;
		}
		if (n <= 0)
			break;
		pthread_mutex_lock(&terminal->lock);
		if (!terminal->closed) {
			memcpy(terminal->input, buf, (size_t)n);
			terminal->input_len = (size_t)n;
			uv_async_send(&terminal->wake);
		}
		while (terminal->input_len && !terminal->closed)
			pthread_cond_wait(&terminal->taken, &terminal->lock);
		go_on = !terminal->closed;
		pthread_mutex_unlock(&terminal->lock);
	}
	terminal_release(terminal);
	return NULL;
}

/* The key after Ctrl-]. Returns true if it is for the guest. */
static bool escape_take(struct terminal *terminal, uint8_t key)
{
	static const char help[] = "\r\n[Ctrl-] d: detach, q: stop and quit, Ctrl-]: itself]\r\n";

	if (key == ESCAPE_KEY)
		return true;
	if (key == 'd')
		terminal->ops->on_key(terminal->arg, TERMINAL_DETACH);
	else if (key == 'q')
		terminal->ops->on_key(terminal->arg, TERMINAL_QUIT);
	else
		terminal_write((const uint8_t *)help, sizeof(help) - 1);
	return false;
}

static void input_take(struct terminal *terminal, const uint8_t *data, size_t len)
{
	uint8_t out[INPUT_MAX];
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		if (terminal->escaped) {
			terminal->escaped = false;
			if (escape_take(terminal, data[i]))
				out[used++] = data[i];
		} else if (terminal->raw && data[i] == ESCAPE_KEY) {
			terminal->escaped = true;
		} else {
			out[used++] = data[i];
		}
	}
	if (used)
		terminal->ops->on_input(terminal->arg, out, used);
}

static void input_came(uv_async_t *async)
{
	struct terminal *terminal = async->data;
	uint8_t buf[INPUT_MAX];
	size_t len;

	pthread_mutex_lock(&terminal->lock);
	len = terminal->input_len;
	memcpy(buf, terminal->input, len);
	terminal->input_len = 0;
	pthread_cond_signal(&terminal->taken);
	pthread_mutex_unlock(&terminal->lock);
	if (len)
		input_take(terminal, buf, len);
}

static void signal_came(uv_signal_t *handle, int signum)
{
	struct terminal *terminal = handle->data;

	terminal->ops->on_signal(terminal->arg, signum);
}

struct terminal *terminal_new(uv_loop_t *loop, const struct terminal_ops *ops, void *arg)
{
	struct terminal *terminal = calloc(1, sizeof(*terminal));

	if (!terminal)
		return NULL;
	terminal->ops = ops;
	terminal->arg = arg;
	pthread_mutex_init(&terminal->lock, NULL);
	pthread_cond_init(&terminal->taken, NULL);
	for (size_t i = 0; i < SIGNALS; i++) {
		uv_signal_init(loop, &terminal->signal[i]);
		terminal->signal[i].data = terminal;
		uv_signal_start(&terminal->signal[i], signal_came, signals[i]);
	}
	uv_async_init(loop, &terminal->wake, input_came);
	terminal->wake.data = terminal;
	terminal->handles = SIGNALS + 1;
	terminal->users = 1;
	return terminal;
}

static void raw_set(struct terminal *terminal)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &terminal->saved) < 0)
		return;
	raw = terminal->saved;
	cfmakeraw(&raw);
	terminal->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

void terminal_attach(struct terminal *terminal)
{
	pthread_attr_t attr;
	pthread_t thread;
	bool tty = isatty(STDIN_FILENO);

	/* A terminal that belongs to another job is neither to be read nor to be changed. */
	if (terminal->attached || (tty && tcgetpgrp(STDIN_FILENO) != getpgrp()))
		return;
	terminal->attached = true;
	if (tty)
		raw_set(terminal);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	terminal->users = 2; /* no reader yet: no lock */
	if (pthread_create(&thread, &attr, reader_run, terminal) != 0) {
		terminal->users = 1;
		cli_say("cannot read the terminal: no thread");
	}
	pthread_attr_destroy(&attr);
}

static void handle_closed(uv_handle_t *handle)
{
	struct terminal *terminal = handle->data;

	/* A reader may sit in read(2) until the process ends: it keeps its memory. */
	if (--terminal->handles == 0)
		terminal_release(terminal);
}

void terminal_close(struct terminal *terminal)
{
	pthread_mutex_lock(&terminal->lock);
	terminal->closed = true;
	pthread_cond_signal(&terminal->taken);
	pthread_mutex_unlock(&terminal->lock);
	if (terminal->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal->saved);
	terminal->raw = false;
	for (size_t i = 0; i < SIGNALS; i++)
		uv_close((uv_handle_t *)&terminal->signal[i], handle_closed);
	uv_close((uv_handle_t *)&terminal->wake, handle_closed);
}
