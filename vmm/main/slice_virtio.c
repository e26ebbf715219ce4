/* SPDX-License-Identifier: Apache-2.0 */
/* Which virtio devices a slice's machine gets: what every guest has, and what the VM was given. */
#include <assert.h>
#include <string.h>

#include "base/log.h"
#include "vmm/main/slice.h"
#include "vmm/virtio/virtio_blk.h"
#include "vmm/virtio/virtio_fs.h"
#include "vmm/virtio/virtio_net.h"
#include "vmm/virtio/virtio_rng.h"

static_assert(SLICE_DEVICES_MAX + 2 <= MACHINE_DEVICES_MAX, "a machine has room for all");

/* Random numbers for all but micro-guests, which look for nothing. */
static bool rng_wanted(const struct slice_config *c)
{
	return c->self == 0 && !c->micro;
}

unsigned slice_virtio_count(const struct slice_config *c)
{
	return c->devices.count + (rng_wanted(c) ? 1 : 0) + (slice_hvc_wanted(c) ? 1 : 0);
}

static int blk_make(const struct slice_device *one, struct virtio_device *out)
{
	const struct virtio_blk_config config = {.name = one->id,
						 .fd = one->fd,
						 .readonly = one->readonly,
						 .queues = one->queues,
						 .replaceable = one->handover >= 0};

	return virtio_blk_create(&config, out);
}

static int fs_make(const struct slice_device *one, struct virtio_device *out)
{
	const struct virtio_fs_config config = {.name = one->id, .tag = one->tag, .fd = one->fd};

	return virtio_fs_create(&config, out);
}

static int net_make(const struct slice_device *one, struct virtio_device *out)
{
	struct virtio_net_config config = {.name = one->id, .fd = one->fd, .tap = one->tap};

	memcpy(config.mac, one->mac, sizeof(config.mac));
	return virtio_net_create(&config, out);
}

int slice_virtio_make(struct slice *s, struct virtio_device *devices, unsigned *count)
{
	const struct slice_devices *list = &s->config.devices;
	int err = 0;

	*count = 0;
	if (rng_wanted(&s->config))
		virtio_rng_device(&devices[(*count)++]);
	if (slice_hvc_wanted(&s->config)) {
		err = slice_hvc_make(s, &devices[*count]);
		*count += !err;
	}
	for (unsigned i = 0; i < list->count && !err; i++) {
		const struct slice_device *one = &list->list[i];

		if (one->type == SLICE_DEVICE_BLK)
			err = blk_make(one, &devices[*count]);
		else if (one->type == SLICE_DEVICE_FS)
			err = fs_make(one, &devices[*count]);
		else
			err = net_make(one, &devices[*count]);
		s->disk[i] = !err && one->type == SLICE_DEVICE_BLK ? devices[*count].dev : NULL;
		if (err)
			log_error("%s cannot be made: %s", one->id, error_text(err));
		else
			(*count)++;
	}
	if (err)
		s->hvc = NULL;
	while (err && *count) {
		struct virtio_device *made = &devices[--*count];

		if (made->ops->destroy)
			made->ops->destroy(made->dev);
	}
	return err;
}
