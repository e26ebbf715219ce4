/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device on the PCI bus, modern only (virtio 1.2, section 4.1): made, started, halted, unmade. */
#ifndef VMM_VIRTIO_PCI_H
#define VMM_VIRTIO_PCI_H

#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio.h"

/* BAR 0: common configuration, ISR, device configuration, notifications, MSI-X table, pending bits; a page each. */
#define VIRTIO_PCI_BAR_SIZE   0x8000u
#define VIRTIO_PCI_BAR_NOTIFY 0x3000u

struct virtio_env {
	struct guest_memory mem; /* copied */
	/* An interrupt message of the device. Any thread, with a lock held: must neither block nor call back. */
	void (*deliver)(void *ctx, uint64_t address, uint32_t data);
	/* The device's thread is about to end; on that thread, its last call. */
	void (*thread_gone)(void *ctx);
	void *ctx;
};

/*
 * Makes the device; it takes over device->dev, which is destroyed with it, also when this fails. Errors: -EINVAL (more
 * queues, configuration or queue entries than there may be), -ENOMEM, -errno of an eventfd or a lock.
 */
int virtio_create(const struct virtio_device *device, const struct virtio_env *env,
		  struct virtio **out);
/* Its PCI function, for pci_add. */
struct pci_function *virtio_function(struct virtio *v);
/* Starts its thread. 0 or a negative errno. */
int virtio_start(struct virtio *v);
/* Tells the thread to end for good: it does, unless it waits in a page fault that nobody serves. Any thread. */
void virtio_halt(struct virtio *v);
/* After thread_gone was called, or when virtio_start never was. */
void virtio_join(struct virtio *v);
/* After virtio_join. NULL is fine. */
void virtio_destroy(struct virtio *v);

#endif
