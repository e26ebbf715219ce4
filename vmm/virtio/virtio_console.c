/* SPDX-License-Identifier: Apache-2.0 */
/* The console's two queues, and the bounded buffer for what was typed. */
#include "vmm/virtio/virtio_console.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/lock.h"

/* Section 5.3.2. */
#define QUEUE_RECEIVE  0u
#define QUEUE_TRANSMIT 1u
#define QUEUES	       2u

struct virtio_console {
	struct virtio_console_config config; /* constant */
	int wake_fd;			     /* something was typed */
	/* the device's thread */
	uint32_t waiting; /* queues that may have buffers of use: a bit set */
	bool more;	  /* one of them has, and nothing else will wake us */
	struct virtqueue_chain chain;
	/* lock */
	pthread_mutex_t lock;
	uint8_t input[VIRTIO_CONSOLE_INPUT_MAX];
	unsigned first, count;
	bool refused; /* virtio_console_input did not take all */
};

/* ---- what is typed ---- */

size_t virtio_console_input(struct virtio_console *c, const uint8_t *bytes, size_t len)
{
	size_t taken;

	pthread_mutex_lock(&c->lock);
	for (taken = 0; taken < len && c->count < VIRTIO_CONSOLE_INPUT_MAX; taken++)
		c->input[(c->first + c->count++) % VIRTIO_CONSOLE_INPUT_MAX] = bytes[taken];
	c->refused = taken < len;
	pthread_mutex_unlock(&c->lock);
	/* A counter that is full wakes as well. */
	if (taken > 0)
		(void)eventfd_write(c->wake_fd, 1);
	return taken;
}

/* What lies in a row; it stays until input_drop, and only the device's thread takes it. */
static unsigned input_peek(struct virtio_console *c, const uint8_t **bytes)
{
	unsigned row;

	pthread_mutex_lock(&c->lock);
	row = VIRTIO_CONSOLE_INPUT_MAX - c->first;
	*bytes = c->input + c->first;
	row = c->count < row ? c->count : row;
	pthread_mutex_unlock(&c->lock);
	return row;
}

/* Half of the buffer is worth a call; one for each byte would not be. */
static void input_drop(struct virtio_console *c, unsigned count)
{
	bool room;

	pthread_mutex_lock(&c->lock);
	c->first = (c->first + count) % VIRTIO_CONSOLE_INPUT_MAX;
	c->count -= count;
	room = c->refused && c->count <= VIRTIO_CONSOLE_INPUT_MAX / 2;
	if (room)
		c->refused = false;
	pthread_mutex_unlock(&c->lock);
	if (room && c->config.input_room)
		c->config.input_room(c->config.ctx);
}

/* Fills the driver's next buffer. 1; 0: there is no buffer, or nothing for it; or -PANGEA_EDRIVER. No lock is held
 * while guest memory is touched. */
static int receive(struct virtio_console *c, struct virtqueue *q)
{
	const uint8_t *bytes;
	unsigned row = input_peek(c, &bytes);
	uint32_t done;
	int got;

	if (row == 0)
		return 0;
	got = virtqueue_pop(q, &c->chain);
	if (got <= 0)
		return got;
	if (c->chain.in_bytes == 0)
		return -PANGEA_EDRIVER;
	done = virtqueue_write(q, &c->chain, 0, bytes, row);
	virtqueue_push(q, c->chain.head, done);
	input_drop(c, done);
	return 1;
}

/* ---- what is printed ---- */

static int transmit(struct virtio_console *c, struct virtqueue *q)
{
	uint8_t bytes[PANGEA_PAGE_SIZE];
	uint32_t len;
	int got = virtqueue_pop(q, &c->chain);

	if (got <= 0)
		return got;
	if (c->chain.out_bytes == 0)
		return -PANGEA_EDRIVER;
	for (uint32_t done = 0; done < c->chain.out_bytes; done += len) {
		len = virtqueue_read(&c->chain, done, bytes, sizeof(bytes));
		c->config.output(c->config.ctx, bytes, len);
	}
	virtqueue_push(q, c->chain.head, 0);
	return 1;
}

/* ---- virtio_ops ---- */

static int console_start(void *dev, struct virtio *v)
{
	struct virtio_console *c = dev;

	(void)v;
	c->waiting = 0;
	c->more = false;
	return 0;
}

static unsigned console_poll(void *dev, struct virtio *v, struct pollfd *fds, int *timeout_ms)
{
	struct virtio_console *c = dev;

	(void)v;
	*timeout_ms = c->more ? 0 : -1;
	fds[0] = (struct pollfd){.fd = c->wake_fd, .events = POLLIN};
	return 1;
}

/* As many buffers as a queue can hold; others come after what else there is to do. */
static int queue_serve(struct virtio_console *c, struct virtio *v, unsigned index)
{
	struct virtqueue *q = virtio_queue(v, index);
	int got = 1;

	if (!q)
		return 0;
	for (unsigned i = 0; got == 1 && i < VIRTQUEUE_SIZE_MAX; i++)
		got = index == QUEUE_RECEIVE ? receive(c, q) : transmit(c, q);
	if (got == 1) {
		c->waiting |= 1u << index;
		c->more = true;
	}
	virtio_interrupt(v, index);
	return got < 0 ? got : 0;
}

static int console_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct virtio_console *c = dev;
	uint32_t serve = c->waiting | notified;
	eventfd_t typed;
	int err = 0;

	if (eventfd_read(c->wake_fd, &typed) == 0)
		serve |= 1u << QUEUE_RECEIVE;
	c->waiting = 0;
	c->more = false;
	for (unsigned i = 0; !err && i < QUEUES; i++)
		if (serve & 1u << i)
			err = queue_serve(c, v, i);
	return err;
}

static void console_stop(void *dev, struct virtio *v)
{
	(void)dev;
	(void)v;
}

static void console_destroy(void *dev)
{
	struct virtio_console *c = dev;

	close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct virtio_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.start = console_start,
	.poll = console_poll,
	.work = console_work,
	.stop = console_stop,
	.destroy = console_destroy,
};

int virtio_console_create(const struct virtio_console_config *config, struct virtio_device *out,
			  struct virtio_console **console)
{
	struct virtio_console *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->config = *config;
	err = lock_init(&c->lock);
	if (err)
		goto fail_memory;
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0) {
		err = -errno;
		goto fail_lock;
	}
	*out = (struct virtio_device){
		.ops = &console_ops, .dev = c, .queues = QUEUES, .queue_size = VIRTQUEUE_SIZE_MAX};
	snprintf(out->name, sizeof(out->name), "%s", config->name);
	*console = c;
	return 0;
fail_lock:
	pthread_mutex_destroy(&c->lock);
fail_memory:
	free(c);
	return err;
}
