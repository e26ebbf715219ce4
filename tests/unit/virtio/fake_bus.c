/* SPDX-License-Identifier: Apache-2.0 */
/* What a virtio device calls of its bus, for devices without one. */
#include "tests/unit/virtio/fake_bus.h"

#include <stddef.h>

uint64_t virtio_features(const struct virtio *v)
{
	return v->features;
}

struct virtqueue *virtio_queue(struct virtio *v, unsigned index)
{
	return index < v->queues ? &v->queue[index] : NULL;
}

void virtio_interrupt(struct virtio *v, unsigned index)
{
	if (virtqueue_interrupt_wanted(&v->queue[index]))
		v->interrupts[index]++;
}

void virtio_config_changed(struct virtio *v)
{
	(void)v;
}

const char *virtio_name(const struct virtio *v)
{
	(void)v;
	return "disk";
}
