/* SPDX-License-Identifier: Apache-2.0 */
/* The read-only images of a slice: files that the daemon left open, the same bytes on every slice. */
#ifndef VMM_MAIN_SLICE_IMAGES_H
#define VMM_MAIN_SLICE_IMAGES_H

#include <jansson.h>
#include <stdint.h>

#include "vmm/machine/shape.h"

struct slice_images {
	unsigned count;
	int fd[SHAPE_IMAGES_MAX]; /* open in this process for reading */
};

/*
 * Takes slice-config's field "images", which may be missing, trusting nothing of it: an array of {fd, bytes}. Places
 * each in the shape. 0, or a negative code with a sentence in why (CONTROL_WHY_MAX bytes). Any thread.
 */
int slice_images_parse(const json_t *msg, struct slice_images *images, struct vm_shape *shape,
		       char *why);

#endif
