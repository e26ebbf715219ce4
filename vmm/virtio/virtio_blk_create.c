/* SPDX-License-Identifier: Apache-2.0 */
/* A block device's beginning and end: what its back end is, and what of that its driver is told. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/virtio/virtio_blk_parts.h"

/*
 * What goes on to the driver where the back end has it. Not CONFIG_WCE: a back end that offers it and says that its
 * cache is off has it on all the same, and a driver that believes so sends no flushes.
 */
#define FEATURES_PASSED                                                                            \
	(VIRTIO_BLK_F_RO | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_TOPOLOGY |    \
	 VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES)
/* What would change the disk. */
#define FEATURES_CHANGING (VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES)
/* What we are to the back end, as a driver. */
#define FEATURES_OURS                                                                              \
	(FEATURES_PASSED | VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_MQ |        \
	 VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

/* A block is a page at most: what Linux takes. */
#define BLOCK_BYTES_MAX 4096u

static_assert((uint64_t)VIRTIO_BLK_SEGMENTS_MAX * VIRTIO_BLK_SEGMENT_BYTES_MAX <=
		      (uint64_t)SHADOW_PIECES * SHADOW_PIECE,
	      "the longest request fits into an arena");
static_assert(VIRTIO_BLK_SEGMENTS_MAX + 2 <= VIRTQUEUE_SEGMENTS_MAX, "header and status fit, too");

static uint32_t at_most(uint32_t value, uint32_t limit)
{
	return value < limit ? value : limit;
}

static void features_choose(struct virtio_blk *b)
{
	b->features = b->back_end.features & FEATURES_PASSED;
	if (b->readonly)
		b->features |= VIRTIO_BLK_F_RO;
	if (b->features & VIRTIO_BLK_F_RO) {
		b->features &= ~FEATURES_CHANGING;
		b->readonly = true;
	}
	b->features |= VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX;
	if (b->queues > 1)
		b->features |= VIRTIO_BLK_F_MQ;
}

/* Keeps of the back end's configuration what holds here, too. */
static int space_choose(struct virtio_blk *b)
{
	struct virtio_blk_space *s = &b->space;
	uint32_t block = s->blk_size;

	if (!(b->features & VIRTIO_BLK_F_BLK_SIZE))
		block = VIRTIO_BLK_SECTOR;
	if (block < VIRTIO_BLK_SECTOR || block > BLOCK_BYTES_MAX || (block & (block - 1))) {
		log_error(
			"%s: the back end's blocks have %u bytes: not a power of two from %u to %u",
			b->name, block, VIRTIO_BLK_SECTOR, BLOCK_BYTES_MAX);
		return -PANGEA_EPROTOCOL;
	}
	s->blk_size = block;
	s->size_max = VIRTIO_BLK_SEGMENT_BYTES_MAX;
	s->seg_max = VIRTIO_BLK_SEGMENTS_MAX;
	s->cylinders = s->heads = s->sectors = 0;
	s->writeback = s->unused0 = 0;
	s->num_queues = (uint16_t)b->queues;
	s->max_discard_seg = at_most(s->max_discard_seg, BLK_RANGES_MAX);
	s->max_write_zeroes_seg = at_most(s->max_write_zeroes_seg, BLK_RANGES_MAX);
	memset(s->unused1, 0, sizeof(s->unused1));
	return 0;
}

/* The queues stand on our side; now the back end gets them. */
static int queues_start(struct virtio_blk *b)
{
	int err = shadow_arena_share(&b->arena, &b->back_end);

	for (unsigned i = 0; !err && i < b->queues; i++)
		err = shadow_queue_start(&b->shadow[i], &b->back_end, i, b->call_fd);
	return err;
}

int virtio_blk_queues_open(struct virtio_blk *b)
{
	bool event_index = b->back_end.features & VIRTIO_F_EVENT_IDX;
	int err = shadow_arena_open(&b->arena, b->queues);

	for (unsigned i = 0; !err && i < b->queues; i++)
		err = shadow_queue_open(&b->shadow[i], &b->arena, i, event_index);
	if (err)
		log_error("%s: cannot make the queues to the back end: %s", b->name,
			  error_text(err));
	return err ? err : queues_start(b);
}

void virtio_blk_queues_close(struct virtio_blk *b)
{
	for (unsigned i = 0; i < SHADOW_QUEUES_MAX; i++)
		shadow_queue_close(&b->shadow[i]);
	shadow_arena_close(&b->arena);
}

int virtio_blk_back_end_open(const struct virtio_blk *b, int fd, struct vhost_user *u,
			     struct virtio_blk_space *space)
{
	int err = vhost_user_open(u, b->name, fd, VHOST_USER_PROTOCOL_CONFIG);

	if (err)
		return err;
	if (!(u->features & VIRTIO_F_VERSION_1)) {
		log_error("%s: the back end knows legacy devices only", b->name);
		err = -PANGEA_EPROTOCOL;
	}
	if (!err)
		err = vhost_user_config_get(u, space, BLK_SPACE_BYTES);
	if (!err)
		err = vhost_user_features_set(u, FEATURES_OURS);
	if (err)
		vhost_user_close(u);
	return err;
}

static uint32_t block_of(uint64_t features, const struct virtio_blk_space *space)
{
	return features & VIRTIO_BLK_F_BLK_SIZE ? space->blk_size : VIRTIO_BLK_SECTOR;
}

bool virtio_blk_back_end_suits(const struct virtio_blk *b, const struct vhost_user *u,
			       const struct virtio_blk_space *space)
{
	uint64_t used = b->features & FEATURES_PASSED & ~VIRTIO_BLK_F_RO;
	const char *why = NULL;

	if (used & ~u->features)
		why = "lacks features that the driver uses";
	else if ((u->features & VIRTIO_BLK_F_RO) && !b->readonly)
		why = "has a disk that is read-only";
	else if (u->queues < b->queues)
		why = "has fewer queues";
	else if (space->capacity != b->space.capacity)
		why = "has a disk of another size";
	else if (block_of(u->features, space) != b->space.blk_size)
		why = "has blocks of another size";
	if (why)
		log_error("%s: the back end is no replacement: it %s", b->name, why);
	return !why;
}

/* The first one: what it is, the driver is told. */
static int back_end_join(struct virtio_blk *b, const struct virtio_blk_config *c)
{
	int err = virtio_blk_back_end_open(b, c->fd, &b->back_end, &b->space);

	if (err)
		return err;
	b->queues = c->queues < b->back_end.queues ? c->queues : b->back_end.queues;
	features_choose(b);
	err = space_choose(b);
	if (err)
		return err;
	b->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return b->call_fd < 0 ? -errno : virtio_blk_queues_open(b);
}

static void blk_destroy(void *dev)
{
	struct virtio_blk *b = dev;
	int offered = atomic_load(&b->offered_fd);

	vhost_user_close(&b->back_end);
	virtio_blk_queues_close(b);
	if (offered >= 0)
		close(offered);
	if (b->call_fd >= 0)
		close(b->call_fd);
	free(b);
}

static void blk_config_read(void *dev, unsigned offset, unsigned size, uint8_t *out)
{
	const struct virtio_blk *b = dev;

	invariant(offset <= BLK_SPACE_BYTES && size <= BLK_SPACE_BYTES - offset);
	memcpy(out, (const uint8_t *)&b->space + offset, size);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLK,
	.config_read = blk_config_read,
	.start = virtio_blk_start,
	.poll = virtio_blk_poll,
	.work = virtio_blk_work,
	.stop = virtio_blk_stop,
	.destroy = blk_destroy,
};

int virtio_blk_create(const struct virtio_blk_config *config, struct virtio_device *out)
{
	bool possible = config->queues > 0 && config->queues <= SHADOW_QUEUES_MAX;
	struct virtio_blk *b = possible ? calloc(1, sizeof(*b)) : NULL;
	int err;

	if (!b) {
		close(config->fd);
		return possible ? -ENOMEM : -EINVAL;
	}
	snprintf(b->name, sizeof(b->name), "%s", config->name);
	b->readonly = config->readonly;
	b->replaceable = config->replaceable;
	b->on_lost = config->on_lost;
	b->ctx = config->ctx;
	atomic_init(&b->offered_fd, BLK_NO_OFFER);
	b->call_fd = -1;
	err = back_end_join(b, config);
	if (err) {
		blk_destroy(b);
		return err;
	}
	*out = (struct virtio_device){.ops = &blk_ops,
				      .dev = b,
				      .features = b->features,
				      .queues = b->queues,
				      .queue_size = VIRTQUEUE_SIZE_MAX,
				      .config_size = BLK_SPACE_BYTES};
	snprintf(out->name, sizeof(out->name), "%s", config->name);
	return 0;
}
