/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block device at work: requests are judged, copied into a shadow queue for the back end, and its answers copied
 * back. Their order is nobody's business: a driver that wants one waits (section 5.2.6.2).
 */
#include "vmm/virtio/virtio_blk.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/virtio/virtio_blk_parts.h"

/* What becomes of a request, beside a status for its driver. */
#define PASSED_ON (-1) /* the back end has it */
#define NO_ROOM	  (-2) /* later, when the back end has given something back */

static const struct shadow_shape flush_shape = {.head_bytes = sizeof(struct virtio_blk_header),
						.tail_bytes = 1};

/* ---- what a request may be ---- */

static bool sectors_exist(const struct virtio_blk *b, uint64_t sector, uint32_t bytes)
{
	return bytes > 0 && bytes % VIRTIO_BLK_SECTOR == 0 && sector <= b->space.capacity &&
	       bytes / VIRTIO_BLK_SECTOR <= b->space.capacity - sector;
}

static int ranges_judge(const struct virtio_blk *b, uint64_t feature, uint32_t most, uint32_t out,
			uint32_t in)
{
	if (!(b->driver_features & feature))
		return VIRTIO_BLK_S_UNSUPP;
	if (in > 0 || out == 0 || out % BLK_RANGE_BYTES || out / BLK_RANGE_BYTES > most)
		return VIRTIO_BLK_S_IOERR;
	return PASSED_ON;
}

/* out and in: its bytes without header and status. The back end checks what it is given again. */
static int request_judge(const struct virtio_blk *b, const struct virtio_blk_header *header,
			 uint32_t out, uint32_t in)
{
	const struct virtio_blk_space *s = &b->space;

	switch (header->type) {
	case VIRTIO_BLK_T_IN:
		return out == 0 && sectors_exist(b, header->sector, in) ? PASSED_ON
									: VIRTIO_BLK_S_IOERR;
	case VIRTIO_BLK_T_OUT:
		return in == 0 && !b->readonly && sectors_exist(b, header->sector, out)
			       ? PASSED_ON
			       : VIRTIO_BLK_S_IOERR;
	case VIRTIO_BLK_T_FLUSH:
		if (!(b->features & VIRTIO_BLK_F_FLUSH))
			return VIRTIO_BLK_S_UNSUPP;
		return in == 0 && out == 0 ? PASSED_ON : VIRTIO_BLK_S_IOERR;
	case VIRTIO_BLK_T_DISCARD:
		return ranges_judge(b, VIRTIO_BLK_F_DISCARD, s->max_discard_seg, out, in);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return ranges_judge(b, VIRTIO_BLK_F_WRITE_ZEROES, s->max_write_zeroes_seg, out, in);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* ---- answers ---- */

/* Of a request that failed, nothing but its last byte was written, and the first ones are what counts. */
static void request_answer(struct virtqueue *q, const struct virtqueue_chain *chain, uint8_t status)
{
	uint32_t last = chain->in_bytes - 1;

	virtqueue_write(q, chain, last, &status, sizeof(status));
	virtqueue_push(q, chain->head,
		       status == VIRTIO_BLK_S_OK || last == 0 ? chain->in_bytes : 0);
}

/* The serial number is a string that needs no end. */
static int id_give(const struct virtio_blk *b, struct virtqueue *q,
		   const struct virtqueue_chain *chain)
{
	uint8_t id[VIRTIO_BLK_ID_BYTES] = {0};

	if (chain->in_bytes != sizeof(id) + 1)
		return VIRTIO_BLK_S_IOERR;
	memcpy(id, b->name, strnlen(b->name, sizeof(id)));
	virtqueue_write(q, chain, 0, id, sizeof(id));
	return VIRTIO_BLK_S_OK;
}

/* ---- to the back end ---- */

/* Fills the room that was taken, and hands it over. The header is as it was judged: the driver may have changed its
 * own since. */
static void request_send(struct virtio_blk *b, unsigned queue, unsigned number)
{
	const struct blk_request *r = &b->request[queue][number];
	struct shadow_queue *shadow = &b->shadow[queue];
	uint32_t done = sizeof(r->header), len = 0;
	uint8_t *at = shadow_queue_out(shadow, number, 0, &len);

	invariant(at && len == sizeof(r->header));
	memcpy(at, &r->header, sizeof(r->header));
	for (; (at = shadow_queue_out(shadow, number, done, &len)) != NULL; done += len)
		virtqueue_read(&r->chain, done, at, len);
	shadow_queue_submit(shadow, number);
}

static struct shadow_shape shape_of(const struct virtqueue_chain *chain)
{
	const uint32_t header = sizeof(struct virtio_blk_header);

	return (struct shadow_shape){.head_bytes = header,
				     .out_bytes = chain->out_bytes - header,
				     .in_bytes = chain->in_bytes - 1,
				     .tail_bytes = 1};
}

static int request_submit(struct virtio_blk *b, unsigned queue,
			  const struct virtio_blk_header *header)
{
	const struct shadow_shape shape = shape_of(&b->chain);
	int number = shadow_queue_take(&b->shadow[queue], &shape);
	struct blk_request *r;

	if (number == -EAGAIN)
		return NO_ROOM;
	if (number < 0) {
		if (!b->told_too_long)
			log_warn("%s: a request of %u bytes is longer than its driver was told",
				 b->name, b->chain.out_bytes + b->chain.in_bytes);
		b->told_too_long = true;
		return VIRTIO_BLK_S_IOERR;
	}
	r = &b->request[queue][number];
	r->busy = true;
	r->dropped = r->flushes = false;
	r->header = *header;
	virtqueue_chain_copy(&r->chain, &b->chain);
	request_send(b, queue, (unsigned)number);
	return PASSED_ON;
}

/* From one number to another. */
static void request_move(struct virtio_blk *b, unsigned queue, unsigned from, unsigned to)
{
	struct blk_request *r = &b->request[queue][from], *next = &b->request[queue][to];

	if (from == to)
		return;
	next->busy = true;
	next->dropped = r->dropped;
	next->flushes = r->flushes;
	next->header = r->header;
	virtqueue_chain_copy(&next->chain, &r->chain);
	r->busy = false;
}

/* All of a request is done again, in any order: so were they before. An empty queue has room for what another one held,
 * and gives the lowest numbers first. */
void virtio_blk_resubmit(struct virtio_blk *b)
{
	for (unsigned i = 0; i < b->queues; i++)
		for (unsigned k = 0; k < SHADOW_REQUESTS; k++) {
			struct blk_request *r = &b->request[i][k];
			struct shadow_shape shape;
			int number;

			if (!r->busy)
				continue;
			shape = shape_of(&r->chain);
			r->flushes = false;
			number = shadow_queue_take(&b->shadow[i], &shape);
			invariant(number >= 0 && (unsigned)number <= k);
			request_move(b, i, k, (unsigned)number);
			request_send(b, i, (unsigned)number);
		}
}

/* The next request of a driver's queue: 1: dealt with; 0: none, or no room for it; or -PANGEA_EDRIVER. */
static int request_take(struct virtio_blk *b, struct virtqueue *q, unsigned queue)
{
	struct virtqueue_chain *chain = &b->chain;
	struct virtio_blk_header header;
	int got = virtqueue_pop(q, chain), fate;

	if (got <= 0)
		return got;
	/* There is no room for an answer, or there is no question. */
	if (chain->in_bytes < 1 ||
	    virtqueue_read(chain, 0, &header, sizeof(header)) != sizeof(header))
		return -PANGEA_EDRIVER;
	header.reserved = 0;
	if (chain->refused)
		fate = VIRTIO_BLK_S_IOERR;
	else if (header.type == VIRTIO_BLK_T_GET_ID)
		fate = id_give(b, q, chain);
	else
		fate = request_judge(b, &header, chain->out_bytes - sizeof(header),
				     chain->in_bytes - 1);
	if (fate == PASSED_ON)
		fate = b->lost ? VIRTIO_BLK_S_IOERR : request_submit(b, queue, &header);
	if (fate == NO_ROOM) {
		virtqueue_unpop(q);
		b->waiting |= 1u << queue;
		return 0;
	}
	if (fate != PASSED_ON)
		request_answer(q, chain, (uint8_t)fate);
	return 1;
}

/* As many requests as a queue can hold; if there may be others, they come after what else there is to do. */
static int queue_serve(struct virtio_blk *b, struct virtqueue *q, unsigned queue)
{
	int got = 1;

	b->waiting &= ~(1u << queue);
	if (!q)
		return 0;
	for (unsigned i = 0; got == 1 && i < VIRTQUEUE_SIZE_MAX; i++)
		got = request_take(b, q, queue);
	if (got == 1) {
		b->waiting |= 1u << queue;
		b->more = true;
	}
	return got < 0 ? got : 0;
}

/* ---- back from it ---- */

/* A write is done when it is durable. What was just given back is room enough. */
static void request_flush(struct virtio_blk *b, unsigned queue, unsigned number)
{
	const struct virtio_blk_header header = {.type = VIRTIO_BLK_T_FLUSH};
	struct shadow_queue *shadow = &b->shadow[queue];
	uint32_t len = 0;
	uint8_t *at;
	int flush;

	shadow_queue_release(shadow, number);
	flush = shadow_queue_take(shadow, &flush_shape);
	invariant(flush >= 0);
	request_move(b, queue, number, (unsigned)flush);
	b->request[queue][flush].flushes = true;
	at = shadow_queue_out(shadow, (unsigned)flush, 0, &len);
	invariant(at && len == sizeof(header));
	memcpy(at, &header, sizeof(header));
	shadow_queue_submit(shadow, (unsigned)flush);
}

/* A driver that did not take FLUSH has a disk without a cache (section 5.2.6.2); so has one whose back end may be
 * replaced. */
static bool request_needs_flush(const struct virtio_blk *b, const struct blk_request *r)
{
	uint32_t type = r->header.type;
	bool cached = (b->driver_features & VIRTIO_BLK_F_FLUSH) && !b->replaceable;

	return !r->flushes && type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_FLUSH && !cached &&
	       (b->features & VIRTIO_BLK_F_FLUSH);
}

/* The back end's status, read once. What it may not say is an error. */
static uint8_t status_read(const struct shadow_queue *shadow, const struct blk_request *r,
			   unsigned number)
{
	uint32_t len;
	const volatile uint8_t *at =
		shadow_queue_in(shadow, number, r->flushes ? 0 : r->chain.in_bytes - 1, &len);
	uint8_t status = at ? *at : VIRTIO_BLK_S_IOERR;

	return status <= VIRTIO_BLK_S_UNSUPP ? status : VIRTIO_BLK_S_IOERR;
}

static void data_return(const struct shadow_queue *shadow, struct virtqueue *q,
			const struct blk_request *r, unsigned number)
{
	uint32_t data = r->chain.in_bytes - 1, len;

	for (uint32_t done = 0; done < data; done += len) {
		const uint8_t *at = shadow_queue_in(shadow, number, done, &len);

		invariant(at);
		virtqueue_write(q, &r->chain, done, at, len);
	}
}

static void request_done(struct virtio_blk *b, struct virtqueue *q, unsigned queue, unsigned number)
{
	struct shadow_queue *shadow = &b->shadow[queue];
	struct blk_request *r = &b->request[queue][number];
	uint8_t status = status_read(shadow, r, number);

	if (!r->dropped && status == VIRTIO_BLK_S_OK && request_needs_flush(b, r)) {
		request_flush(b, queue, number);
		return;
	}
	if (r->dropped) {
		b->dropped--;
	} else {
		if (status == VIRTIO_BLK_S_OK && r->header.type == VIRTIO_BLK_T_IN)
			data_return(shadow, q, r, number);
		request_answer(q, &r->chain, status);
	}
	r->busy = false;
	shadow_queue_release(shadow, number);
}

static int queue_reap(struct virtio_blk *b, struct virtqueue *q, unsigned queue)
{
	unsigned number;
	int got = 1;

	/* Each was submitted before, so there is an end to them but for flushes: one for each. */
	while (got == 1) {
		got = shadow_queue_reap(&b->shadow[queue], &number);
		if (got == 1)
			request_done(b, q, queue, number);
	}
	return got;
}

/* ---- a back end that is no more ---- */

unsigned virtio_blk_requests_fail(struct virtio_blk *b, struct virtio *v)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < b->queues; i++)
		for (unsigned k = 0; k < SHADOW_REQUESTS; k++) {
			struct blk_request *r = &b->request[i][k];

			if (!r->busy)
				continue;
			request_answer(virtio_queue(v, i), &r->chain, VIRTIO_BLK_S_IOERR);
			r->busy = false;
			failed++;
		}
	return failed;
}

/* What a driver's reset has dropped is nobody's. */
static void dropped_forget(struct virtio_blk *b)
{
	for (unsigned i = 0; i < b->queues; i++)
		for (unsigned k = 0; k < SHADOW_REQUESTS; k++) {
			struct blk_request *r = &b->request[i][k];

			r->busy = r->busy && !r->dropped;
		}
	b->dropped = 0;
}

static void back_end_lose(struct virtio_blk *b, struct virtio *v, const char *why)
{
	b->lost = true;
	b->waits = b->replaceable;
	vhost_user_close(&b->back_end);
	dropped_forget(b);
	if (b->waits)
		log_error("%s: the back end %s; requests wait for another one", b->name, why);
	else
		log_error("%s: the back end %s; %u requests failed, and all others will", b->name,
			  why, virtio_blk_requests_fail(b, v));
	if (b->on_lost)
		b->on_lost(b->ctx);
}

/* What it had done before it died counts. */
static void back_end_hear(struct virtio_blk *b, struct virtio *v)
{
	bool lives = vhost_user_lives(&b->back_end);
	eventfd_t calls;
	int err = 0;

	(void)eventfd_read(b->call_fd, &calls);
	for (unsigned i = 0; !err && i < b->queues; i++)
		err = queue_reap(b, virtio_queue(v, i), i);
	if (err)
		back_end_lose(b, v, "says that it has done what it was not given");
	else if (!lives)
		back_end_lose(b, v, "has closed its connection");
}

/* ---- virtio_ops ---- */

int virtio_blk_start(void *dev, struct virtio *v)
{
	struct virtio_blk *b = dev;

	b->driver_features = virtio_features(v);
	b->waiting = 0;
	return 0;
}

unsigned virtio_blk_poll(void *dev, struct virtio *v, struct pollfd *fds, int *timeout_ms)
{
	struct virtio_blk *b = dev;

	(void)v;
	*timeout_ms = b->more ? 0 : -1;
	if (b->lost && !b->waits)
		return 0;
	fds[0] = (struct pollfd){.fd = b->call_fd, .events = POLLIN};
	if (b->lost)
		return 1;
	fds[1] = (struct pollfd){.fd = b->back_end.fd, .events = POLLIN};
	return 2;
}

/*
 * Only queues that may have something are looked at: a look at another one's ring would take a page from the slice
 * whose queue it is.
 */
int virtio_blk_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct virtio_blk *b = dev;
	uint32_t serve;
	int err = 0;

	if (!b->lost)
		back_end_hear(b, v);
	if (b->lost && b->waits)
		virtio_blk_offer_take(b, v);
	b->more = false;
	b->waiting |= notified & ((1u << b->queues) - 1);
	/* What the back end still has of before a reset shall not come after what comes now. */
	serve = b->dropped == 0 && !b->waits ? b->waiting : 0;
	for (unsigned i = 0; !err && i < b->queues; i++) {
		if (serve & 1u << i)
			err = queue_serve(b, virtio_queue(v, i), i);
		if (!b->lost)
			shadow_queue_kick(&b->shadow[i]);
		if (virtio_queue(v, i))
			virtio_interrupt(v, i);
	}
	return err;
}

void virtio_blk_stop(void *dev, struct virtio *v)
{
	struct virtio_blk *b = dev;

	(void)v;
	for (unsigned i = 0; i < b->queues; i++)
		for (unsigned k = 0; k < SHADOW_REQUESTS; k++) {
			struct blk_request *r = &b->request[i][k];

			b->dropped += r->busy && !r->dropped;
			r->dropped = r->busy;
		}
	if (b->lost)
		dropped_forget(b);
	b->waiting = 0;
	b->more = false;
}
