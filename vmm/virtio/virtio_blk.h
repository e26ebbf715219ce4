/* SPDX-License-Identifier: Apache-2.0 */
/* A disk: a virtio block device (virtio 1.2, section 5.2) whose requests a vhost-user back end serves. */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include <stdbool.h>

#include "vmm/virtio/virtio.h"

/* Section 5.2.3. */
#define VIRTIO_BLK_F_SIZE_MAX	  (UINT64_C(1) << 1)
#define VIRTIO_BLK_F_SEG_MAX	  (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_RO		  (UINT64_C(1) << 5)
#define VIRTIO_BLK_F_BLK_SIZE	  (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH	  (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_TOPOLOGY	  (UINT64_C(1) << 10)
#define VIRTIO_BLK_F_CONFIG_WCE	  (UINT64_C(1) << 11)
#define VIRTIO_BLK_F_MQ		  (UINT64_C(1) << 12)
#define VIRTIO_BLK_F_DISCARD	  (UINT64_C(1) << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

/* Section 5.2.6: what a request asks for, and how it ended. */
#define VIRTIO_BLK_T_IN		  0u
#define VIRTIO_BLK_T_OUT	  1u
#define VIRTIO_BLK_T_FLUSH	  4u
#define VIRTIO_BLK_T_GET_ID	  8u
#define VIRTIO_BLK_T_DISCARD	  11u
#define VIRTIO_BLK_T_WRITE_ZEROES 13u
#define VIRTIO_BLK_S_OK		  0
#define VIRTIO_BLK_S_IOERR	  1
#define VIRTIO_BLK_S_UNSUPP	  2

#define VIRTIO_BLK_SECTOR   512u
#define VIRTIO_BLK_ID_BYTES 20u

/*
 * What a driver is told of the longest request: so many segments of so many bytes. All of it fits into an
 * arena (shadow_queue.h). By default Linux makes requests of 1,280 KiB at most, and so shorter ones only where
 * each page lies for itself.
 */
#define VIRTIO_BLK_SEGMENTS_MAX	     254u
#define VIRTIO_BLK_SEGMENT_BYTES_MAX 16384u

struct virtio_blk_config {
	const char *name; /* for the log, and the disk's serial number: its first 20 bytes */
	int fd;		  /* connected to the back end */
	bool readonly;	  /* no request changes the disk, whatever the back end offers */
	unsigned queues;  /* wanted, at most 4; the back end may have fewer */
	/*
	 * A back end that is lost may be replaced: requests then wait for virtio_blk_replace instead of
	 * failing. Each write is made durable before it is answered, since a back end that dies takes
	 * with it what it has not flushed.
	 */
	bool replaceable;
	/* The back end is lost, or what was offered in its place cannot be used. On the device's thread;
	 * must not wait. May be NULL. */
	void (*on_lost)(void *ctx);
	void *ctx;
};

/*
 * Asks the back end what it is, and makes a device of it. 0, or -EINVAL: no such number of queues; a
 * negative errno; or an error of vhost_user.h, which was logged, -PANGEA_EPROTOCOL also for a disk that
 * cannot be one. The socket is the device's from now on, also when this fails. Waits, with deadlines.
 * The back end never sees guest memory.
 *
 * When the back end is lost, its requests and all later ones end with VIRTIO_BLK_S_IOERR, unless the
 * device is replaceable; it is logged once.
 */
int virtio_blk_create(const struct virtio_blk_config *config, struct virtio_device *out);
/*
 * Offers a socket that is connected to a back end with the same disk, or (-1) gives up: then all requests
 * fail. dev is the device's, which lives; any thread; does not wait. It is taken up once the back end is
 * lost; requests that were under way are then done again. That nobody else writes to the disk by then is
 * the caller's business. -EINVAL: the device is not replaceable. The socket is the device's in any case.
 */
int virtio_blk_replace(void *dev, int fd);

#endif
