/* SPDX-License-Identifier: Apache-2.0 */
/* A folder of the host: a virtio file system device (virtio 1.2, section 5.11) whose requests a vhost-user back end serves. */
#ifndef VMM_VIRTIO_FS_H
#define VMM_VIRTIO_FS_H

#include "vmm/virtio/virtio.h"

/* Section 5.11.4: the name by which a driver mounts it. */
#define VIRTIO_FS_TAG_BYTES 36u
/* Section 5.11.2: requests that must not wait for others, and all others. */
#define VIRTIO_FS_QUEUE_HIGH 0u
#define VIRTIO_FS_QUEUES     2u

/*
 * The bytes of a request, and of an answer: 256 pages of data and a page of headers, which is what virtiofsd takes
 * and FUSE's limit (FUSE_MAX_MAX_PAGES). Linux sends fewer, since its requests fit into a queue of 256 descriptors. A
 * longer one is answered with E2BIG, and the back end does not see it.
 */
#define VIRTIO_FS_BYTES_MAX (257u * 4096u)

struct virtio_fs_config {
	const char *name; /* for the log */
	const char *tag;  /* at most VIRTIO_FS_TAG_BYTES */
	int fd;		  /* connected to the back end */
};

/*
 * Makes a device of it. 0, -EINVAL (the tag), a negative errno, or an error of vhost_user.h, which was logged. The
 * socket is the device's from now on, also when this fails. Waits, with deadlines. The back end never sees guest memory.
 *
 * When the back end is lost, its requests and all later ones end with ENOTCONN, as when a FUSE server has ended; it is
 * logged once. Another one could not go on, since it would not know which files are open.
 */
int virtio_fs_create(const struct virtio_fs_config *config, struct virtio_device *out);

#endif
