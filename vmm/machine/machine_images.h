/* SPDX-License-Identifier: Apache-2.0 */
/* Read-only images: the node's own files as memory of the guest, outside of coherence. */
#ifndef VMM_MACHINE_IMAGES_H
#define VMM_MACHINE_IMAGES_H

#include <stdint.h>

#include "vmm/machine/shape.h"

/*
 * Maps the file fds[i] where the shape has its image i, at ram + its address: the page cache of this host, shared by
 * all VMs that use the file, and never writable. ram is engine_ram() with room up to shape_memory_end(shape). The
 * descriptors stay the caller's. 0, -EINVAL (a file that is shorter than its image), or what mmap and fstat give.
 */
int machine_images_map(uint8_t *ram, const struct vm_shape *shape, const int *fds);

#endif
