/* SPDX-License-Identifier: Apache-2.0 */
/* The network device: one queue each way, between the guest's buffers and a stream of frames. */
#include "vmm/virtio/virtio_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

#define QUEUE_RX   0u
#define QUEUE_TX   1u
#define QUEUES	   2u
#define QUEUE_SIZE 256u
/* Section 5.1.3. */
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_MAC	     (UINT64_C(1) << 5)
#define F_MRG_RXBUF  (UINT64_C(1) << 15)
#define F_STATUS     (UINT64_C(1) << 16)
/* Section 5.1.4. */
#define CONFIG_SIZE   8u
#define CONFIG_STATUS 6u
#define LINK_UP	      1u
/* Section 5.1.6: struct virtio_net_hdr, which with VERSION_1 always ends in num_buffers. */
#define HEADER_SIZE    12u
#define HEADER_FLAGS   0u
#define HEADER_BUFFERS 10u
#define DATA_VALID     2u
/* Frames: passt's longest is a 65,535-byte packet behind an Ethernet header; with a tag, and rounded up. */
#define FRAME_MIN   14u
#define FRAME_MAX   65600u
#define LENGTH_SIZE 4u
/* Buffers that one frame may be spread over. */
#define SPREAD_MAX 64u
/* Frames that are moved each way before the device looks for other work. */
#define BATCH 64u

/*
 * What waits for the guest's buffers. passt drops what its socket does not take at once, and TCP then sends it again; so
 * as much is taken here as a guest's TCP lets be on its way, Linux's largest window for all that a user has not asked
 * for more. Memory is touched only as far as it is used.
 */
#define IN_BYTES  (6u << 20)
#define OUT_BYTES (2 * (FRAME_MAX + LENGTH_SIZE))

/* Bytes on their way, one frame at a time or a part of several. */
struct net_buffer {
	size_t used, taken, size;
	uint8_t *bytes;
};

struct net {
	int fd; /* -1: the stream has ended */
	bool tap;
	uint8_t mac[VIRTIO_NET_MAC_SIZE];
	_Atomic bool link_up;
	bool tx_blocked; /* the stream takes no more for now */
	bool more;	 /* a batch has ended before the work had */
	uint64_t dropped;
	struct net_buffer in, out;
};

/* ---- configuration ---- */

static void net_config_read(void *dev, unsigned offset, unsigned size, uint8_t *out)
{
	struct net *n = dev;
	uint8_t config[CONFIG_SIZE] = {0};

	memcpy(config, n->mac, sizeof(n->mac));
	config[CONFIG_STATUS] = atomic_load(&n->link_up) ? LINK_UP : 0;
	memcpy(out, config + offset, size);
}

/* The program at the other end has gone: to the guest its cable is pulled. */
static void stream_ended(struct net *n, struct virtio *v, const char *why)
{
	log_warn("%s: the network has ended: %s", virtio_name(v), why);
	close(n->fd);
	n->fd = -1;
	n->in.used = n->in.taken = n->out.used = n->out.taken = 0;
	n->tx_blocked = false;
	atomic_store(&n->link_up, false);
	virtio_config_changed(v);
}

/* ---- to the guest ---- */

static void length_put(uint8_t *bytes, uint32_t len)
{
	for (unsigned i = 0; i < LENGTH_SIZE; i++)
		bytes[i] = (uint8_t)(len >> (24 - 8 * i));
}

static uint32_t length_get(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

/* Whether there is room to read into; of a tap a frame is read whole. */
static bool in_room(const struct net *n)
{
	return n->in.size - n->in.used >= (n->tap ? LENGTH_SIZE + FRAME_MAX : 1);
}

/* As much of the stream as there is, or the next frame of a tap behind its length; as read(). */
static ssize_t in_read(struct net *n)
{
	uint8_t *at = n->in.bytes + n->in.used;
	ssize_t got;

	if (!n->tap)
		return recv(n->fd, at, n->in.size - n->in.used, MSG_DONTWAIT);
	got = read(n->fd, at + LENGTH_SIZE, FRAME_MAX);
	if (got <= 0)
		return got;
	length_put(at, (uint32_t)got);
	return got + (ssize_t)LENGTH_SIZE;
}

/* Reads more of the stream. False: there is no more for now, or ever. */
static bool stream_read(struct net *n, struct virtio *v)
{
	struct net_buffer *b = &n->in;
	ssize_t got;

	if (n->fd < 0)
		return false;
	/* Moved only when half of it is free, so that each byte is moved once at the most. */
	if (b->taken == b->used || (!in_room(n) && b->taken >= b->size / 2)) {
		memmove(b->bytes, b->bytes + b->taken, b->used - b->taken);
		b->used -= b->taken;
		b->taken = 0;
	}
	if (!in_room(n))
		return false;
	got = in_read(n);
	if (got > 0) {
		b->used += (size_t)got;
		return true;
	}
	if (got == 0)
		stream_ended(n, v, "its program has closed the connection");
	else if (errno != EAGAIN && errno != EINTR)
		stream_ended(n, v, error_text(-errno));
	return false;
}

/* The next whole frame, or NULL; a length that cannot be ends the stream. */
static const uint8_t *frame_next(struct net *n, struct virtio *v, uint32_t *len)
{
	struct net_buffer *b = &n->in;
	const uint8_t *at = b->bytes + b->taken;

	if (b->used - b->taken < LENGTH_SIZE)
		return NULL;
	*len = length_get(at);
	if (*len < FRAME_MIN || *len > FRAME_MAX) {
		stream_ended(n, v, "it sent a frame of an impossible length");
		return NULL;
	}
	return b->used - b->taken - LENGTH_SIZE >= *len ? at + LENGTH_SIZE : NULL;
}

/*
 * Spreads a frame over as many of the guest's buffers as it takes (section 5.1.6.4). 1, 0: there are not enough yet,
 * all that were taken out are back; or a negative code. Only the first has a header.
 */
static int frame_spread(struct virtqueue *q, bool merge, uint8_t header[HEADER_SIZE],
			const uint8_t *frame, uint32_t len)
{
	struct virtqueue_chain first, more;
	uint32_t written[SPREAD_MAX], done = 0;
	uint16_t heads[SPREAD_MAX];
	unsigned count = 0;
	int got = 1;

	first.in_count = first.out_count = 0;
	while (done < len && count < (merge ? SPREAD_MAX : 1)) {
		struct virtqueue_chain *chain = count ? &more : &first;
		uint32_t skip = count ? 0 : HEADER_SIZE;

		got = virtqueue_pop(q, chain);
		if (got == 1 && chain->in_bytes < skip)
			got = -PANGEA_EDRIVER;
		if (got != 1)
			break;
		heads[count] = chain->head;
		written[count] = skip + virtqueue_write(q, chain, skip, frame + done, len - done);
		done += written[count++] - skip;
	}
	if (got < 0)
		return got;
	if (done < len) {
		while (count--)
			virtqueue_unpop(q);
		return got ? -EMSGSIZE : 0;
	}
	header[HEADER_BUFFERS] = (uint8_t)count;
	virtqueue_write(q, &first, 0, header, HEADER_SIZE);
	for (unsigned i = 0; i < count; i++)
		virtqueue_push(q, heads[i], written[i]);
	return 1;
}

static int frames_receive(struct net *n, struct virtio *v)
{
	struct virtqueue *q = virtio_queue(v, QUEUE_RX);
	bool merge = virtio_features(v) & F_MRG_RXBUF;
	const uint8_t *frame;
	unsigned i;
	uint32_t len;
	int err = 0;

	while (stream_read(n, v))
		;
	for (i = 0; q && i < BATCH && n->fd >= 0; i++) {
		uint8_t header[HEADER_SIZE] = {0};

		frame = frame_next(n, v, &len);
		if (!frame)
			break;
		/* What comes by a tap may have been on a wire; what passt has made was not. */
		header[HEADER_FLAGS] =
			!n->tap && virtio_features(v) & F_GUEST_CSUM ? DATA_VALID : 0;
		err = frame_spread(q, merge, header, frame, len);
		if (err == 0)
			break;
		if (err == -EMSGSIZE && !n->dropped++)
			log_warn("%s: a frame of %u bytes is more than the guest's buffers take: "
				 "dropped",
				 virtio_name(v), len);
		else if (err < 0 && err != -EMSGSIZE)
			return err;
		n->in.taken += LENGTH_SIZE + len;
	}
	n->more |= i == BATCH;
	if (q)
		virtio_interrupt(v, QUEUE_RX);
	return 0;
}

/* ---- from the guest ---- */

/* Writes the next of what is waiting, of a tap the next frame; as send(), whose bytes count. A frame that the tap does
 * not take (it is down, or its queue is full) is lost, as on a wire. */
static ssize_t out_write(struct net *n)
{
	const struct net_buffer *b = &n->out;
	const uint8_t *at = b->bytes + b->taken;
	uint32_t len;

	if (!n->tap)
		return send(n->fd, at, b->used - b->taken, MSG_DONTWAIT | MSG_NOSIGNAL);
	len = length_get(at);
	if (write(n->fd, at + LENGTH_SIZE, len) < 0 &&
	    (errno == EAGAIN || errno == EINTR || errno == EBADFD))
		return -1;
	return (ssize_t)(LENGTH_SIZE + len);
}

/* Sends what is waiting; false: some of it still is. */
static bool stream_write(struct net *n, struct virtio *v)
{
	struct net_buffer *b = &n->out;

	while (n->fd >= 0 && b->taken < b->used) {
		ssize_t put = out_write(n);

		if (put > 0)
			b->taken += (size_t)put;
		else if (put < 0 && errno == EAGAIN)
			return false;
		else if (put < 0 && errno != EINTR)
			stream_ended(n, v, error_text(-errno));
	}
	b->used = b->taken = 0;
	return true;
}

/* A frame of the guest into the buffer; what is no frame is dropped, as a wire would. */
static void frame_queue(struct net *n, const struct virtqueue_chain *chain)
{
	struct net_buffer *b = &n->out;
	uint32_t len = chain->out_bytes > HEADER_SIZE ? chain->out_bytes - HEADER_SIZE : 0;

	if (n->fd < 0 || len < FRAME_MIN || len > FRAME_MAX) {
		n->dropped++;
		return;
	}
	length_put(b->bytes + b->used, len);
	virtqueue_read(chain, HEADER_SIZE, b->bytes + b->used + LENGTH_SIZE, len);
	b->used += LENGTH_SIZE + len;
}

static int frames_send(struct net *n, struct virtio *v)
{
	struct virtqueue *q = virtio_queue(v, QUEUE_TX);
	struct virtqueue_chain chain;
	unsigned i;
	int got = 0;

	n->tx_blocked = !stream_write(n, v);
	for (i = 0; q && i < BATCH && !n->tx_blocked; i++) {
		got = virtqueue_pop(q, &chain);
		if (got != 1)
			break;
		frame_queue(n, &chain);
		virtqueue_push(q, chain.head, 0);
		/* As many frames as fit go in one call. */
		if (n->out.used > OUT_BYTES - FRAME_MAX - LENGTH_SIZE)
			n->tx_blocked = !stream_write(n, v);
	}
	if (got < 0)
		return got;
	n->more |= i == BATCH;
	if (!n->tx_blocked)
		n->tx_blocked = !stream_write(n, v);
	if (q)
		virtio_interrupt(v, QUEUE_TX);
	return 0;
}

/* ---- the device ---- */

static int net_start(void *dev, struct virtio *v)
{
	(void)dev;
	(void)v;
	return 0;
}

static unsigned net_poll(void *dev, struct virtio *v, struct pollfd *fds, int *timeout_ms)
{
	struct net *n = dev;

	(void)v;
	if (n->more)
		*timeout_ms = 0;
	if (n->fd < 0)
		return 0;
	fds[0] = (struct pollfd){.fd = n->fd};
	if (in_room(n) || n->in.taken >= n->in.size / 2)
		fds[0].events |= POLLIN;
	if (n->tx_blocked)
		fds[0].events |= POLLOUT;
	return 1;
}

static int net_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct net *n = dev;
	int err;

	(void)notified;
	n->more = false;
	err = frames_send(n, v);
	return err ? err : frames_receive(n, v);
}

/* What was on its way to or from the guest is lost, as on a wire; a frame that has begun goes on. */
static void net_stop(void *dev, struct virtio *v)
{
	(void)dev;
	(void)v;
}

static void net_destroy(void *dev)
{
	struct net *n = dev;

	if (n->fd >= 0)
		close(n->fd);
	free(n->in.bytes);
	free(n->out.bytes);
	free(n);
}

static const struct virtio_ops ops = {.name = "net",
				      .id = VIRTIO_ID_NET,
				      .config_read = net_config_read,
				      .start = net_start,
				      .poll = net_poll,
				      .work = net_work,
				      .stop = net_stop,
				      .destroy = net_destroy};

int virtio_net_create(const struct virtio_net_config *config, struct virtio_device *out)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		close(config->fd);
		return -ENOMEM;
	}
	n->fd = config->fd;
	n->tap = config->tap;
	n->in.size = IN_BYTES;
	n->out.size = OUT_BYTES;
	n->in.bytes = malloc(IN_BYTES);
	n->out.bytes = malloc(OUT_BYTES);
	if (!n->in.bytes || !n->out.bytes) {
		net_destroy(n);
		return -ENOMEM;
	}
	memcpy(n->mac, config->mac, sizeof(n->mac));
	atomic_init(&n->link_up, true);
	*out = (struct virtio_device){.ops = &ops,
				      .dev = n,
				      .features = F_MAC | F_STATUS | F_MRG_RXBUF | F_GUEST_CSUM,
				      .queues = QUEUES,
				      .queue_size = QUEUE_SIZE,
				      .config_size = CONFIG_SIZE};
	snprintf(out->name, sizeof(out->name), "%s", config->name);
	return 0;
}
