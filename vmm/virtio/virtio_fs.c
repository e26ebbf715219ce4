/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system device: FUSE requests are copied into a shadow queue for the back end, and its answers copied back.
 * What they ask for is between the driver and the back end; of FUSE only the two headers are looked at.
 */
#include "vmm/virtio/virtio_fs.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/vhost/shadow_queue.h"
#include "vmm/vhost/vhost_user.h"

/* How every request begins (linux/fuse.h: struct fuse_in_header). */
struct fs_in_header {
	uint32_t len, opcode;
	uint64_t unique, nodeid;
	uint32_t uid, gid, pid, padding;
};

/* How every answer does (struct fuse_out_header). */
struct fs_out_header {
	uint32_t len;
	int32_t error;
	uint64_t unique;
};

/* Section 5.11.4, little-endian. */
struct fs_space {
	uint8_t tag[VIRTIO_FS_TAG_BYTES];
	uint32_t request_queues;
};

static_assert(sizeof(struct fs_in_header) == 40 && sizeof(struct fs_out_header) == 16,
	      "the headers' layouts");
static_assert(sizeof(struct fs_space) == 40, "the configuration's layout");
static_assert(2 * ((uint64_t)VIRTIO_FS_BYTES_MAX + SHADOW_PIECE) <=
		      (uint64_t)SHADOW_PIECES * SHADOW_PIECE,
	      "the longest request and its answer fit into an arena");
static_assert(VIRTIO_FS_QUEUES <= SHADOW_QUEUES_MAX, "an arena has both queues");

/* What becomes of a request, beside an error for its driver. */
#define PASSED_ON 1
#define NO_ROOM	  2 /* later, when the back end has given something back */

/* A request that the back end has. */
struct fs_request {
	bool busy;
	bool dropped; /* the driver has reset the device: nobody waits for it */
	uint64_t unique;
	struct virtqueue_chain chain;
};

/* The device's thread has all of it once it is made; name and space are constant. */
struct virtio_fs {
	char name[32];
	struct fs_space space;
	struct vhost_user back_end;
	bool lost;   /* the back end */
	int call_fd; /* any queue's */
	struct shadow_arena arena;
	struct shadow_queue shadow[VIRTIO_FS_QUEUES];
	/* The same number as the shadow queue's. */
	struct fs_request request[VIRTIO_FS_QUEUES][SHADOW_REQUESTS];
	unsigned dropped; /* requests of before a reset that the back end still has */
	uint32_t waiting; /* queues that may have buffers: a bit set */
	bool more;	  /* one of them has, and nothing else will wake us */
	bool told_nonsense;
	struct virtqueue_chain chain;
};

/* ---- answers of our own ---- */

/* error: of Linux, negative. A request that wants no answer gets none. */
static void request_fail(struct virtqueue *q, const struct virtqueue_chain *chain, uint64_t unique,
			 int error)
{
	const struct fs_out_header header = {
		.len = sizeof(header), .error = error, .unique = unique};
	uint32_t done = 0;

	if (chain->in_bytes >= sizeof(header))
		done = virtqueue_write(q, chain, 0, &header, sizeof(header));
	virtqueue_push(q, chain->head, done);
}

/* ---- to the back end ---- */

/* Copies the request, with the header as it was judged: the driver may have changed its own since. */
static void request_send(struct virtio_fs *fs, unsigned queue, unsigned number,
			 const struct fs_in_header *header)
{
	const struct fs_request *r = &fs->request[queue][number];
	struct shadow_queue *shadow = &fs->shadow[queue];
	uint32_t done = sizeof(*header), len = 0;
	uint8_t *at = shadow_queue_out(shadow, number, 0, &len);

	invariant(at && len == sizeof(*header));
	memcpy(at, header, sizeof(*header));
	for (; (at = shadow_queue_out(shadow, number, done, &len)) != NULL; done += len)
		virtqueue_read(&r->chain, done, at, len);
	shadow_queue_submit(shadow, number);
}

static int request_submit(struct virtio_fs *fs, unsigned queue, const struct fs_in_header *header)
{
	const struct virtqueue_chain *chain = &fs->chain;
	const struct shadow_shape shape = {.head_bytes = sizeof(*header),
					   .out_bytes =
						   chain->out_bytes - (uint32_t)sizeof(*header),
					   .in_bytes = chain->in_bytes};
	int number = shadow_queue_take(&fs->shadow[queue], &shape);
	struct fs_request *r;

	if (number < 0) {
		/* All that is judged as possible fits into an empty arena. */
		invariant(number == -EAGAIN);
		return NO_ROOM;
	}
	r = &fs->request[queue][number];
	r->busy = true;
	r->dropped = false;
	r->unique = header->unique;
	virtqueue_chain_copy(&r->chain, chain);
	request_send(fs, queue, (unsigned)number, header);
	return PASSED_ON;
}

/* PASSED_ON, or an error for the driver. */
static int request_judge(struct virtio_fs *fs, const struct fs_in_header *header)
{
	const struct virtqueue_chain *chain = &fs->chain;
	int error = PASSED_ON;

	if (chain->out_bytes > VIRTIO_FS_BYTES_MAX || chain->in_bytes > VIRTIO_FS_BYTES_MAX)
		error = -E2BIG;
	else if (header->len != chain->out_bytes ||
		 (chain->in_bytes > 0 && chain->in_bytes < sizeof(struct fs_out_header)))
		error = -EINVAL;
	if (error != PASSED_ON && !fs->told_nonsense) {
		log_warn("%s: its driver sends a request that cannot be: %u bytes, and %u for the "
			 "answer",
			 fs->name, chain->out_bytes, chain->in_bytes);
		fs->told_nonsense = true;
	}
	return error;
}

/* The next request of a driver's queue: 1: dealt with; 0: none, or no room for it; or -PANGEA_EDRIVER. */
static int request_take(struct virtio_fs *fs, struct virtqueue *q, unsigned queue)
{
	struct virtqueue_chain *chain = &fs->chain;
	struct fs_in_header header;
	int got = virtqueue_pop(q, chain), fate;

	if (got <= 0)
		return got;
	if (virtqueue_read(chain, 0, &header, sizeof(header)) != sizeof(header))
		return -PANGEA_EDRIVER;
	fate = request_judge(fs, &header);
	if (fate == PASSED_ON)
		fate = fs->lost ? -ENOTCONN : request_submit(fs, queue, &header);
	if (fate == NO_ROOM) {
		virtqueue_unpop(q);
		fs->waiting |= 1u << queue;
		return 0;
	}
	if (fate != PASSED_ON)
		request_fail(q, chain, header.unique, fate);
	return 1;
}

/* As many requests as a queue can hold; if there may be others, they come after what else there is to do. */
static int queue_serve(struct virtio_fs *fs, struct virtqueue *q, unsigned queue)
{
	int got = 1;

	fs->waiting &= ~(1u << queue);
	if (!q)
		return 0;
	for (unsigned i = 0; got == 1 && i < VIRTQUEUE_SIZE_MAX; i++)
		got = request_take(fs, q, queue);
	if (got == 1) {
		fs->waiting |= 1u << queue;
		fs->more = true;
	}
	return got < 0 ? got : 0;
}

/* ---- back from it ---- */

/* The length that the answer has by its own header, read once; 0: it makes no sense. */
static uint32_t answer_bytes(const struct shadow_queue *shadow, const struct fs_request *r,
			     unsigned number)
{
	uint32_t len = 0, bytes;
	const uint8_t *at = shadow_queue_in(shadow, number, 0, &len);

	if (!at || len < sizeof(struct fs_out_header))
		return 0;
	bytes = *(const volatile uint32_t *)(const void *)at;
	return bytes >= sizeof(struct fs_out_header) && bytes <= r->chain.in_bytes ? bytes : 0;
}

static void answer_return(const struct shadow_queue *shadow, struct virtqueue *q,
			  const struct fs_request *r, unsigned number)
{
	uint32_t bytes = answer_bytes(shadow, r, number), len;

	if (r->chain.in_bytes > 0 && bytes == 0) {
		request_fail(q, &r->chain, r->unique, -EIO);
		return;
	}
	for (uint32_t done = 0; done < bytes; done += len) {
		const uint8_t *at = shadow_queue_in(shadow, number, done, &len);

		invariant(at);
		len = len < bytes - done ? len : bytes - done;
		/* The back end may still write to it: the driver is told the length that was judged. */
		if (done == 0) {
			virtqueue_write(q, &r->chain, 0, &bytes, sizeof(bytes));
			virtqueue_write(q, &r->chain, sizeof(bytes), at + sizeof(bytes),
					len - (uint32_t)sizeof(bytes));
		} else {
			virtqueue_write(q, &r->chain, done, at, len);
		}
	}
	virtqueue_push(q, r->chain.head, bytes);
}

static int queue_reap(struct virtio_fs *fs, struct virtqueue *q, unsigned queue)
{
	unsigned number;
	int got;

	/* Each was submitted before, so there is an end to them. */
	while ((got = shadow_queue_reap(&fs->shadow[queue], &number)) == 1) {
		struct fs_request *r = &fs->request[queue][number];

		if (r->dropped)
			fs->dropped--;
		else
			answer_return(&fs->shadow[queue], q, r, number);
		r->busy = false;
		shadow_queue_release(&fs->shadow[queue], number);
	}
	return got;
}

/* ---- a back end that is no more ---- */

/* All that it had ends; what a driver's reset has dropped is nobody's. Returns how many failed. */
static unsigned requests_end(struct virtio_fs *fs, struct virtio *v)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < VIRTIO_FS_QUEUES; i++)
		for (unsigned k = 0; k < SHADOW_REQUESTS; k++) {
			struct fs_request *r = &fs->request[i][k];

			if (r->busy && !r->dropped) {
				request_fail(virtio_queue(v, i), &r->chain, r->unique, -ENOTCONN);
				failed++;
			}
			r->busy = false;
		}
	fs->dropped = 0;
	return failed;
}

static void back_end_lose(struct virtio_fs *fs, struct virtio *v, const char *why)
{
	fs->lost = true;
	vhost_user_close(&fs->back_end);
	log_error("%s: the back end %s; %u requests failed, and all others will", fs->name, why,
		  requests_end(fs, v));
}

/* What it had done before it died counts. */
static void back_end_hear(struct virtio_fs *fs, struct virtio *v)
{
	bool lives = vhost_user_lives(&fs->back_end);
	eventfd_t calls;
	int err = 0;

	(void)eventfd_read(fs->call_fd, &calls);
	for (unsigned i = 0; !err && i < VIRTIO_FS_QUEUES; i++)
		err = queue_reap(fs, virtio_queue(v, i), i);
	if (err)
		back_end_lose(fs, v, "says that it has done what it was not given");
	else if (!lives)
		back_end_lose(fs, v, "has closed its connection");
}

/* ---- virtio_ops ---- */

static int fs_start(void *dev, struct virtio *v)
{
	struct virtio_fs *fs = dev;

	(void)v;
	fs->waiting = 0;
	return 0;
}

static unsigned fs_poll(void *dev, struct virtio *v, struct pollfd *fds, int *timeout_ms)
{
	struct virtio_fs *fs = dev;

	(void)v;
	*timeout_ms = fs->more ? 0 : -1;
	if (fs->lost)
		return 0;
	fds[0] = (struct pollfd){.fd = fs->call_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = fs->back_end.fd, .events = POLLIN};
	return 2;
}

static int fs_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct virtio_fs *fs = dev;
	uint32_t serve;
	int err = 0;

	if (!fs->lost)
		back_end_hear(fs, v);
	fs->more = false;
	fs->waiting |= notified & ((1u << VIRTIO_FS_QUEUES) - 1);
	/* What the back end still has of before a reset shall not come after what comes now. */
	serve = fs->dropped == 0 ? fs->waiting : 0;
	for (unsigned i = 0; !err && i < VIRTIO_FS_QUEUES; i++) {
		if (serve & 1u << i)
			err = queue_serve(fs, virtio_queue(v, i), i);
		if (!fs->lost)
			shadow_queue_kick(&fs->shadow[i]);
		if (virtio_queue(v, i))
			virtio_interrupt(v, i);
	}
	return err;
}

static void fs_stop(void *dev, struct virtio *v)
{
	struct virtio_fs *fs = dev;

	(void)v;
	for (unsigned i = 0; i < VIRTIO_FS_QUEUES; i++)
		for (unsigned k = 0; k < SHADOW_REQUESTS; k++) {
			struct fs_request *r = &fs->request[i][k];

			fs->dropped += r->busy && !r->dropped;
			r->dropped = r->busy;
		}
	fs->waiting = 0;
	fs->more = false;
}

static void fs_config_read(void *dev, unsigned offset, unsigned size, uint8_t *out)
{
	const struct virtio_fs *fs = dev;

	invariant(offset <= sizeof(fs->space) && size <= sizeof(fs->space) - offset);
	memcpy(out, (const uint8_t *)&fs->space + offset, size);
}

static void fs_destroy(void *dev)
{
	struct virtio_fs *fs = dev;

	vhost_user_close(&fs->back_end);
	for (unsigned i = 0; i < VIRTIO_FS_QUEUES; i++)
		shadow_queue_close(&fs->shadow[i]);
	shadow_arena_close(&fs->arena);
	if (fs->call_fd >= 0)
		close(fs->call_fd);
	free(fs);
}

static const struct virtio_ops fs_ops = {
	.name = "fs",
	.id = VIRTIO_ID_FS,
	.config_read = fs_config_read,
	.start = fs_start,
	.poll = fs_poll,
	.work = fs_work,
	.stop = fs_stop,
	.destroy = fs_destroy,
};

/* ---- its beginning ---- */

static int queues_open(struct virtio_fs *fs)
{
	bool event_index = fs->back_end.features & VIRTIO_F_EVENT_IDX;
	int err = shadow_arena_open(&fs->arena, VIRTIO_FS_QUEUES);

	for (unsigned i = 0; !err && i < VIRTIO_FS_QUEUES; i++)
		err = shadow_queue_open(&fs->shadow[i], &fs->arena, i, event_index);
	if (err) {
		log_error("%s: cannot make the queues to the back end: %s", fs->name,
			  error_text(err));
		return err;
	}
	err = shadow_arena_share(&fs->arena, &fs->back_end);
	for (unsigned i = 0; !err && i < VIRTIO_FS_QUEUES; i++)
		err = shadow_queue_start(&fs->shadow[i], &fs->back_end, i, fs->call_fd);
	return err;
}

static int back_end_join(struct virtio_fs *fs, int fd)
{
	int err = vhost_user_open(&fs->back_end, fs->name, fd, 0);

	if (err)
		return err;
	if (!(fs->back_end.features & VIRTIO_F_VERSION_1) ||
	    fs->back_end.queues < VIRTIO_FS_QUEUES) {
		log_error("%s: the back end %s", fs->name,
			  fs->back_end.queues < VIRTIO_FS_QUEUES ? "has one queue only"
								 : "knows legacy devices only");
		return -PANGEA_EPROTOCOL;
	}
	err = vhost_user_features_set(&fs->back_end, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX);
	if (err)
		return err;
	fs->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fs->call_fd < 0 ? -errno : queues_open(fs);
}

int virtio_fs_create(const struct virtio_fs_config *config, struct virtio_device *out)
{
	size_t tag_bytes = strlen(config->tag);
	bool possible = tag_bytes > 0 && tag_bytes <= VIRTIO_FS_TAG_BYTES;
	struct virtio_fs *fs = possible ? calloc(1, sizeof(*fs)) : NULL;
	int err;

	if (!fs) {
		close(config->fd);
		return possible ? -ENOMEM : -EINVAL;
	}
	snprintf(fs->name, sizeof(fs->name), "%s", config->name);
	memcpy(fs->space.tag, config->tag, tag_bytes);
	fs->space.request_queues = VIRTIO_FS_QUEUES - 1;
	fs->call_fd = -1;
	fs->back_end.fd = -1;
	err = back_end_join(fs, config->fd);
	if (err) {
		fs_destroy(fs);
		return err;
	}
	*out = (struct virtio_device){.ops = &fs_ops,
				      .dev = fs,
				      .queues = VIRTIO_FS_QUEUES,
				      .queue_size = VIRTQUEUE_SIZE_MAX,
				      .config_size = sizeof(fs->space)};
	snprintf(out->name, sizeof(out->name), "%s", config->name);
	return 0;
}
