/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's console on stdin and stdout: raw mode, the escape key, signals.
 *
 * stdin may be a terminal, a pipe, a file or /dev/null. A thread of its own reads it with plain
 * reads, so that no flag of a file description that others share is ever changed, and only when there is something to
 * read, so that the next console of this process finds what is typed for it. What was
 * read waits in `pending` until the guest's side has room for it (terminal_credit); the escape key is
 * looked for before that, so that it works also when the guest reads nothing. When pending is full,
 * no more is read.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_output.h"

#define ESCAPE_KEY 0x1d /* Ctrl-] */
#define INPUT_MAX  1024
/* A pasted file. Beyond it the terminal, or the pipe, waits. */
#define PENDING_MAX (1u << 20)
/* Once a signal has asked for the end, a reader of our output that does not read has this long. */
#define HURRIED_MS 2000

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

struct terminal {
	const struct terminal_ops *ops;
	void *arg;
	uv_signal_t signal[SIGNALS];
	uv_async_t wake;
	unsigned handles;
	bool raw, escaped, attached;
	bool hurried; /* a signal asked for the end */
	struct termios saved;
	struct output *output;
	/* input, escape keys taken out, that waits for credit */
	size_t pending_used, credit;
	uint8_t *pending;
	/* between the reader and the loop, under lock */
	pthread_mutex_t lock;
	pthread_cond_t taken;
	uint8_t input[INPUT_MAX];
	size_t input_len;
	bool closed;
	int closing;	/* readable once it is closed: wakes the reader */
	unsigned users; /* the loop and the reader: the last one frees */
};

int terminal_output(struct terminal *terminal, const json_t *msg, const uint8_t *data, size_t len)
{
	uint64_t lost = output_lost_of(msg);

	if (lost)
		output_lost(terminal->output, lost);
	return output_write(terminal->output, data, len);
}

uint64_t output_lost_of(const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	uint64_t lost = 0;

	if (json_object_get(msg, "lost") &&
	    control_get_u64(msg, "lost", 0, INT64_MAX / 2, &lost, why) < 0)
		return 0;
	return lost;
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
	close(terminal->closing);
	free(terminal->pending);
	free(terminal);
}

/* Waits until there is something to read; false: the terminal is closed. */
static bool reader_wait(const struct terminal *terminal)
{
	struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
			       {.fd = terminal->closing, .events = POLLIN}};

	/* It may take for ever: so may who types. */
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return !fds[1].revents;
}

/* Reads; hands over; waits until it was taken. Ends with stdin or when the terminal is closed. */
static void *reader_run(void *arg)
{
	struct terminal *terminal = arg;
	uint8_t buf[INPUT_MAX];
	bool go_on = true;

	while (go_on && reader_wait(terminal)) {
		ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
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
		output_write(terminal->output, help, sizeof(help) - 1);
	return false;
}

static void pending_add(struct terminal *terminal, const uint8_t *data, size_t len)
{
	/* A key may end all. */
	for (size_t i = 0; i < len && !terminal->closed; i++) {
		if (terminal->escaped) {
			terminal->escaped = false;
			if (!escape_take(terminal, data[i]))
				continue;
		} else if (terminal->raw && data[i] == ESCAPE_KEY) {
			terminal->escaped = true;
			continue;
		}
		terminal->pending[terminal->pending_used++] = data[i];
	}
}

/* Sends what may be sent. */
static void pending_send(struct terminal *terminal)
{
	size_t n = terminal->pending_used < terminal->credit ? terminal->pending_used
							     : terminal->credit;

	if (n == 0)
		return;
	terminal->credit -= n;
	terminal->ops->on_input(terminal->arg, terminal->pending, n);
	terminal->pending_used -= n;
	memmove(terminal->pending, terminal->pending + n, terminal->pending_used);
}

/* Takes what the reader has, if there is room for it. */
static void input_take(struct terminal *terminal)
{
	uint8_t buf[INPUT_MAX];
	size_t len = 0;

	if (PENDING_MAX - terminal->pending_used < INPUT_MAX)
		return;
	pthread_mutex_lock(&terminal->lock);
	if (!terminal->closed) {
		len = terminal->input_len;
		memcpy(buf, terminal->input, len);
		terminal->input_len = 0;
		pthread_cond_signal(&terminal->taken);
	}
	pthread_mutex_unlock(&terminal->lock);
	pending_add(terminal, buf, len);
}

static void input_came(uv_async_t *async)
{
	struct terminal *terminal = async->data;

	input_take(terminal);
	pending_send(terminal);
}

void terminal_credit_none(struct terminal *terminal)
{
	terminal->credit = 0;
}

void terminal_credit(struct terminal *terminal, size_t bytes)
{
	terminal->credit += bytes;
	pending_send(terminal);
	input_take(terminal);
	pending_send(terminal);
}

static void signal_came(uv_signal_t *handle, int signum)
{
	struct terminal *terminal = handle->data;

	terminal->hurried = true;
	terminal->ops->on_signal(terminal->arg, signum);
}

struct terminal *terminal_new(uv_loop_t *loop, const struct terminal_ops *ops, void *arg)
{
	struct terminal *terminal = calloc(1, sizeof(*terminal));

	if (!terminal)
		return NULL;
	terminal->pending = malloc(PENDING_MAX);
	terminal->closing = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	terminal->output =
		terminal->pending && terminal->closing >= 0 ? output_new(STDOUT_FILENO) : NULL;
	if (!terminal->output) {
		if (terminal->closing >= 0)
			close(terminal->closing);
		free(terminal->pending);
		free(terminal);
		return NULL;
	}
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
	if (terminal->attached)
		return;
	terminal->attached = true;
	if (tty && tcgetpgrp(STDIN_FILENO) != getpgrp()) {
		cli_say("what is typed is not read: the terminal is another job's");
		return;
	}
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

	/* The reader may be about to go: it keeps its memory until then. */
	if (--terminal->handles == 0)
		terminal_release(terminal);
}

void terminal_close(struct terminal *terminal)
{
	pthread_mutex_lock(&terminal->lock);
	terminal->closed = true;
	pthread_cond_signal(&terminal->taken);
	pthread_mutex_unlock(&terminal->lock);
	eventfd_write(terminal->closing, 1);
	/* Not TCSADRAIN: it would wait for a terminal that is paused, with its keys still raw. */
	if (terminal->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal->saved);
	terminal->raw = false;
	/* From here on a signal ends us at once. */
	for (size_t i = 0; i < SIGNALS; i++)
		uv_close((uv_handle_t *)&terminal->signal[i], handle_closed);
	uv_close((uv_handle_t *)&terminal->wake, handle_closed);
	output_close(terminal->output, terminal->hurried ? HURRIED_MS : 0);
	terminal->output = NULL;
}
