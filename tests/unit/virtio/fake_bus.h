/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the bus of a virtio device under test: queues that are enabled, features, and counted interrupts. */
#ifndef TESTS_UNIT_VIRTIO_FAKE_BUS_H
#define TESTS_UNIT_VIRTIO_FAKE_BUS_H

#include "vmm/virtio/virtio.h"

#define FAKE_BUS_QUEUES 4u

struct virtio {
	uint64_t features;
	unsigned queues;
	struct virtqueue queue[FAKE_BUS_QUEUES];
	unsigned interrupts[FAKE_BUS_QUEUES];
};

#endif
