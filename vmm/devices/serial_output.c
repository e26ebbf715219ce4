/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port's way to the host: the output buffer, and the thread that empties it. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/lock.h"
#include "vmm/devices/serial_parts.h"

/* The first byte waits this long for company, so that a line costs one call, not eighty. */
#define BATCH_NS 1000000

#define DRAIN_CHUNK  4096u
#define DRAIN_LOCK_S 1

int serial_init(struct serial *s, const struct serial_config *config)
{
	int err;

	memset(s, 0, sizeof(*s));
	s->config = *config;
	s->dll = 1; /* 115200 baud */
	err = lock_init(&s->lock);
	if (err)
		return err;
	err = lock_init(&s->drain_lock);
	if (err)
		goto fail_lock;
	err = lock_cond_init(&s->out_more);
	if (err)
		goto fail_drain;
	return 0;
fail_drain:
	pthread_mutex_destroy(&s->drain_lock);
fail_lock:
	pthread_mutex_destroy(&s->lock);
	return err;
}

void serial_destroy(struct serial *s)
{
	pthread_cond_destroy(&s->out_more);
	pthread_mutex_destroy(&s->drain_lock);
	pthread_mutex_destroy(&s->lock);
}

bool serial_out_room(const struct serial *s)
{
	return s->out_count + SERIAL_FIFO <= SERIAL_OUT_MAX;
}

void serial_out_push(struct serial *s, uint8_t byte)
{
	if (s->out_count == SERIAL_OUT_MAX) {
		s->out_lost++;
		return;
	}
	s->out[(s->out_first + s->out_count) % SERIAL_OUT_MAX] = byte;
	if (s->out_count++ == 0)
		pthread_cond_signal(&s->out_more);
	if (s->config.tap)
		s->config.tap(s->config.ctx, byte);
}

/* Takes up to DRAIN_CHUNK bytes out of the ring. */
static size_t out_take(struct serial *s, uint8_t *buf)
{
	size_t len = 0;
	bool was_full;

	pthread_mutex_lock(&s->lock);
	was_full = !serial_out_room(s);
	while (len < DRAIN_CHUNK && s->out_count) {
		buf[len++] = s->out[s->out_first];
		s->out_first = (s->out_first + 1) % SERIAL_OUT_MAX;
		s->out_count--;
	}
	if (was_full && serial_out_room(s)) {
		s->thre_pending = true;
		serial_line_update(s);
	}
	pthread_mutex_unlock(&s->lock);
	return len;
}

void serial_drain(struct serial *s)
{
	uint8_t buf[DRAIN_CHUNK];
	const struct timespec pause = {.tv_nsec = 1000000};
	unsigned tries = DRAIN_LOCK_S * 1000;
	size_t len;

	while (pthread_mutex_trylock(&s->drain_lock)) {
		if (tries-- == 0)
			return;
		nanosleep(&pause, NULL);
	}
	while ((len = out_take(s, buf)) > 0)
		s->config.output(s->config.ctx, buf, len);
	pthread_mutex_unlock(&s->drain_lock);
}

static void *output_thread(void *arg)
{
	const struct timespec batch = {.tv_nsec = BATCH_NS};
	struct serial *s = arg;
	bool stopping;

	do {
		pthread_mutex_lock(&s->lock);
		while (!s->out_count && !s->stopping)
			pthread_cond_wait(&s->out_more, &s->lock);
		stopping = s->stopping;
		pthread_mutex_unlock(&s->lock);
		if (!stopping)
			nanosleep(&batch, NULL);
		serial_drain(s);
	} while (!stopping);
	return NULL;
}

int serial_output_start(struct serial *s)
{
	int err = pthread_create(&s->thread, NULL, output_thread, s);

	if (err)
		return -err;
	s->thread_running = true;
	pthread_setname_np(s->thread, "console");
	return 0;
}

void serial_output_stop(struct serial *s)
{
	if (!s->thread_running)
		return;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_signal(&s->out_more);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	s->thread_running = false;
}
