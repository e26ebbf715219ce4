/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device (virtio 1.2, section 5.4): the host's random numbers. */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

#include "vmm/virtio/virtio.h"

/* Fills in a device that needs nothing to be destroyed. */
void virtio_rng_device(struct virtio_device *out);

#endif
