/* SPDX-License-Identifier: Apache-2.0 */
/* RDMA, as far as others than the transport see it: what may be used of it, and what must be loaded first. */
#ifndef TRANSPORT_RDMA_H
#define TRANSPORT_RDMA_H

#include <stdbool.h>

#define RDMA_DEVICE_MAX 64
#define RDMA_WHY_MAX	256

/* What a node says about its RDMA devices. All zero: none is used. */
struct rdma_option {
	bool allowed;
	char device[RDMA_DEVICE_MAX]; /* "": the one that has the data address */
	unsigned port;		      /* of the device; 0: the one that has the data address */
	int gid_index;		      /* -1: the one that stands for the data address */
	unsigned mtu;		      /* of the path, bytes: 256 to 4096; 0: the link's */
};

/*
 * Loads the devices' drivers, which are libraries, while the process still sees the host's files. Once,
 * at the process's start, before confine_enter. Without a device it does nothing. Any failure shows later, as a
 * reason not to use RDMA.
 */
void rdma_preload(void);

#endif
