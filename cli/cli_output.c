/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard output for the guest's console. Its reader may be a pager or a terminal that is paused,
 * so that a write takes hours: a thread does the writing, and the loop goes on with the connection.
 */
#include "cli/cli_output.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "control/control.h"

#define CHUNK 16384u

struct output {
	int fd;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* lock */
	size_t at, used; /* of ring: the oldest byte, how many */
	uint64_t lost;	 /* dropped since the last mark */
	bool closing, broken;
	unsigned users; /* the owner and the thread: the last one frees */
	uint8_t ring[OUTPUT_BYTES_MAX];
};

/* lock held; there is room. */
static void ring_add(struct output *output, const uint8_t *data, size_t len)
{
	size_t end = (output->at + output->used) % OUTPUT_BYTES_MAX;
	size_t first = OUTPUT_BYTES_MAX - end < len ? OUTPUT_BYTES_MAX - end : len;

	memcpy(output->ring + end, data, first);
	memcpy(output->ring, data + first, len - first);
	output->used += len;
}

/* lock held: says what was dropped, once the reader has made room for more than the mark. */
static void mark_add(struct output *output)
{
	char mark[CONTROL_MARK_MAX];

	if (!output->lost || output->used > OUTPUT_BYTES_MAX / 2)
		return;
	ring_add(output, (uint8_t *)mark, control_console_mark(output->lost, mark));
	output->lost = 0;
}

int output_write(struct output *output, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t n = len;
	int err;

	pthread_mutex_lock(&output->lock);
	mark_add(output);
	/* Behind a gap nothing is added before its mark. */
	if (output->lost)
		n = 0;
	else if (n > OUTPUT_BYTES_MAX - output->used)
		n = OUTPUT_BYTES_MAX - output->used;
	ring_add(output, bytes, n);
	output->lost += len - n;
	err = output->broken ? -EPIPE : 0;
	pthread_cond_broadcast(&output->changed);
	pthread_mutex_unlock(&output->lock);
	return err;
}

void output_lost(struct output *output, uint64_t bytes)
{
	pthread_mutex_lock(&output->lock);
	output->lost += bytes;
	pthread_cond_broadcast(&output->changed);
	pthread_mutex_unlock(&output->lock);
}

static bool fd_write(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};
			poll(&wait, 1, 1000);
			continue;
		}
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return true;
}

/* lock held: takes the oldest bytes out; waits for some. 0: there will be no more. */
static size_t chunk_take(struct output *output, uint8_t *chunk)
{
	size_t len;

	for (;;) {
		mark_add(output);
		if (output->used || output->closing || output->broken)
			break;
		pthread_cond_wait(&output->changed, &output->lock);
	}
	len = output->used < CHUNK ? output->used : CHUNK;
	if (len > OUTPUT_BYTES_MAX - output->at)
		len = OUTPUT_BYTES_MAX - output->at;
	memcpy(chunk, output->ring + output->at, len);
	output->at = (output->at + len) % OUTPUT_BYTES_MAX;
	output->used -= len;
	return output->broken ? 0 : len;
}

/* lock held; lets go of it. */
static void output_release(struct output *output)
{
	bool last = --output->users == 0;

	pthread_cond_broadcast(&output->changed);
	pthread_mutex_unlock(&output->lock);
	if (!last)
		return;
	pthread_cond_destroy(&output->changed);
	pthread_mutex_destroy(&output->lock);
	free(output);
}

static void *writer_run(void *arg)
{
	struct output *output = arg;
	uint8_t chunk[CHUNK];
	size_t len;

	pthread_mutex_lock(&output->lock);
	while ((len = chunk_take(output, chunk)) > 0) {
		pthread_mutex_unlock(&output->lock);
		bool good = fd_write(output->fd, chunk, len);
		pthread_mutex_lock(&output->lock);
		output->broken |= !good;
	}
	output_release(output);
	return NULL;
}

struct output *output_new(int fd)
{
	struct output *output = calloc(1, sizeof(*output));
	pthread_condattr_t attr;
	pthread_t thread;

	if (!output)
		return NULL;
	output->fd = fd;
	output->users = 2;
	pthread_mutex_init(&output->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&output->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&thread, NULL, writer_run, output) != 0) {
		free(output);
		return NULL;
	}
	pthread_detach(thread);
	return output;
}

void output_close(struct output *output, unsigned limit_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += limit_ms / 1000;
	pthread_mutex_lock(&output->lock);
	output->closing = true;
	pthread_cond_broadcast(&output->changed);
	while (output->users == 2) {
		if (!limit_ms)
			pthread_cond_wait(&output->changed, &output->lock);
		else if (pthread_cond_timedwait(&output->changed, &output->lock, &until))
			break;
	}
	output_release(output);
}
