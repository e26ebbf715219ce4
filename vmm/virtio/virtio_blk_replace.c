/* SPDX-License-Identifier: Apache-2.0 */
/* Another back end in the place of one that is lost: its queues lie in an arena of their own, since the old one may still
 * write into the old one. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/virtio/virtio_blk_parts.h"

int virtio_blk_replace(void *dev, int fd)
{
	struct virtio_blk *b = dev;
	int before;

	if (!b->replaceable) {
		if (fd >= 0)
			close(fd);
		return -EINVAL;
	}
	before = atomic_exchange(&b->offered_fd, fd >= 0 ? fd : BLK_GIVE_UP);
	if (before >= 0)
		close(before);
	(void)eventfd_write(b->call_fd, 1);
	return 0;
}

static bool back_end_replace(struct virtio_blk *b, int fd)
{
	struct virtio_blk_space space;
	struct vhost_user u;

	if (virtio_blk_back_end_open(b, fd, &u, &space) != 0)
		return false;
	if (!virtio_blk_back_end_suits(b, &u, &space)) {
		vhost_user_close(&u);
		return false;
	}
	virtio_blk_queues_close(b);
	b->back_end = u;
	if (virtio_blk_queues_open(b) == 0)
		return true;
	vhost_user_close(&b->back_end);
	return false;
}

void virtio_blk_offer_take(struct virtio_blk *b, struct virtio *v)
{
	int fd = atomic_exchange(&b->offered_fd, BLK_NO_OFFER);
	eventfd_t count;

	(void)eventfd_read(b->call_fd, &count);
	if (fd == BLK_GIVE_UP) {
		b->waits = false;
		log_error("%s: no other back end comes; %u requests failed, and all others will",
			  b->name, virtio_blk_requests_fail(b, v));
	} else if (fd >= 0 && back_end_replace(b, fd)) {
		b->lost = b->waits = false;
		virtio_blk_resubmit(b);
		log_info("%s: another back end has taken its place", b->name);
	} else if (fd >= 0 && b->on_lost) {
		b->on_lost(b->ctx);
	} else if (fd >= 0) {
		/* Nobody would know that another one is to be offered. */
		b->waits = false;
		log_error("%s: %u requests failed, and all others will", b->name,
			  virtio_blk_requests_fail(b, v));
	}
}
