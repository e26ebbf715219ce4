/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device: each buffer of the driver is filled from getrandom. */
#include "vmm/virtio/virtio_rng.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define QUEUE_SIZE 64u
/* A driver gets at most this much at once: getrandom gives so much without being interrupted by signals. */
#define PIECE_MAX 256u

static int rng_start(void *dev, struct virtio *v)
{
	(void)dev;
	(void)v;
	return 0;
}

static int rng_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct virtqueue *q = virtio_queue(v, 0);
	struct virtqueue_chain chain;
	uint8_t bytes[PIECE_MAX];
	int got = 0;

	(void)dev;
	(void)notified;
	while (q && (got = virtqueue_pop(q, &chain)) == 1) {
		uint32_t len = chain.in_bytes < PIECE_MAX ? chain.in_bytes : PIECE_MAX;

		if (getrandom(bytes, len, 0) != (ssize_t)len)
			return -EIO;
		virtqueue_push(q, chain.head, virtqueue_write(q, &chain, 0, bytes, len));
	}
	if (q && got == 0)
		virtio_interrupt(v, 0);
	return got;
}

static void rng_stop(void *dev, struct virtio *v)
{
	(void)dev;
	(void)v;
}

static const struct virtio_ops ops = {
	.name = "rng", .id = VIRTIO_ID_RNG, .start = rng_start, .work = rng_work, .stop = rng_stop};

void virtio_rng_device(struct virtio_device *out)
{
	*out = (struct virtio_device){
		.ops = &ops, .name = "rng", .queues = 1, .queue_size = QUEUE_SIZE};
}
