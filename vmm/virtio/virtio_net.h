/* SPDX-License-Identifier: Apache-2.0 */
/* The network device (virtio 1.2, section 5.1) over a stream of Ethernet frames, as passt speaks it, or a tap. */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include "vmm/virtio/virtio.h"

#define VIRTIO_NET_MAC_SIZE 6u

struct virtio_net_config {
	/*
	 * A connected stream socket, taken over: each frame, without its check sequence, behind its length as four
	 * bytes, most significant first (passt(1), "--socket"; QEMU's -netdev stream).
	 */
	int fd;
	/*
	 * Else fd is a tap without headers (IFF_NO_PI), not blocking: each read and each write is a frame. Nothing is
	 * left to the other side to do, neither checksums nor cutting into segments.
	 */
	bool tap;
	uint8_t mac[VIRTIO_NET_MAC_SIZE];
	const char *name; /* copied */
};

/* 0, -ENOMEM, or -errno of the socket, which is closed then. */
int virtio_net_create(const struct virtio_net_config *config, struct virtio_device *out);

#endif
