/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what slice-config says of images. */
#include "vmm/main/slice_images.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"
#include "control/images.h"
#include "vmm/main/slice_devices.h"

/* As a process's own limit on open files (confine/). */
#define FD_LAST 4095

static_assert(CONTROL_IMAGES_MAX == SHAPE_IMAGES_MAX, "a slice takes all that a VM may have");
static_assert(CONTROL_IMAGE_BYTES_MAX == SHAPE_IMAGE_BYTES_MAX, "and of their size");

static int image_parse(const json_t *one, int *out, struct vm_shape *shape, char *why)
{
	uint64_t bytes;
	unsigned fd;
	int err = control_get_uint(one, "fd", SLICE_DEVICE_FD_FIRST, FD_LAST, &fd, why);

	if (!err)
		err = control_get_u64(one, "bytes", 1, SHAPE_IMAGE_BYTES_MAX, &bytes, why);
	if (err)
		return err;
	*out = (int)fd;
	err = shape_image_add(shape, bytes);
	if (err)
		snprintf(why, CONTROL_WHY_MAX, "slice-config: images: %s", error_text(err));
	return err;
}

int slice_images_parse(const json_t *msg, struct slice_images *images, struct vm_shape *shape,
		       char *why)
{
	json_t *list, *one;
	size_t i;
	int err;

	images->count = 0;
	if (!json_object_get(msg, "images"))
		return 0;
	err = control_get_array(msg, "images", SHAPE_IMAGES_MAX, &list, why);
	if (err)
		return err;
	json_array_foreach(list, i, one)
	{
		err = image_parse(one, &images->fd[i], shape, why);
		if (err)
			return err;
		images->count++;
	}
	return 0;
}
