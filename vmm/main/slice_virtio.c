/* SPDX-License-Identifier: Apache-2.0 */
/* Which virtio devices a slice's machine gets: what every guest has, and what the VM was given. */
#include "vmm/main/slice.h"
#include "vmm/virtio/virtio_rng.h"

unsigned slice_virtio_count(const struct slice_config *c)
{
	/* A micro-guest looks for nothing. */
	return c->self == 0 && !c->micro ? 1 : 0;
}

int slice_virtio_make(struct slice *s, struct virtio_device *devices, unsigned *count)
{
	*count = 0;
	if (!slice_virtio_count(&s->config))
		return 0;
	virtio_rng_device(&devices[(*count)++]);
	return 0;
}
