/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's driver of a virtio device on PCI, for tests: finds its registers as PCI says, and sets up its queues. */
#ifndef TESTS_UNIT_PCI_PCI_DRIVER_H
#define TESTS_UNIT_PCI_PCI_DRIVER_H

#include <stdatomic.h>

#include "tests/unit/virtio/driver.h"
#include "vmm/pci/msix.h"
#include "vmm/virtio/virtio_pci.h"

#define PCI_DRIVER_QUEUE_SIZE 16u
#define PCI_DRIVER_BAR	      0xd0000000u
#define PCI_DRIVER_WAIT_MS    20000u

struct pci_driver {
	struct driver_ram memory;
	uint8_t *ram; /* memory's bytes */
	struct pci_bus bus;
	struct virtio *device;
	uint32_t common, notify, notify_stride, isr, config; /* offsets in the BAR */
	struct driver_queue queue[VIRTIO_QUEUES_MAX];
	_Atomic unsigned interrupts[VIRTIO_QUEUES_MAX +
				    1]; /* by vector; the last one is for the configuration */
	_Atomic bool thread_gone;
};

/* Makes the device with a bus and memory around it, and starts its thread. */
struct pci_driver *pci_driver_new(const struct virtio_device *device);
/* Halts it and frees all. */
void pci_driver_free(struct pci_driver *d);

uint32_t pci_driver_read(struct pci_driver *d, uint32_t offset, unsigned size);
void pci_driver_write(struct pci_driver *d, uint32_t offset, unsigned size, uint32_t value);
uint8_t pci_driver_status(struct pci_driver *d);
uint64_t pci_driver_features_offered(struct pci_driver *d);
/* Reset, then up to DRIVER_OK with these features and all queues; false: the device refused the features. */
bool pci_driver_up(struct pci_driver *d, uint64_t features);
/* Writes 0 to the status and waits until it reads 0. */
void pci_driver_reset(struct pci_driver *d);

/* One buffer: a piece to be read and one to be written (len 0: none), as descriptors head and head + 1. */
struct pci_buffer {
	uint64_t out_gpa, in_gpa;
	uint32_t out_len, in_len;
};
/* Puts it into the ring at descriptor head (even) and, if tell, notifies. */
void pci_driver_put(struct pci_driver *d, unsigned queue, uint16_t head,
		    const struct pci_buffer *buffer, bool tell);
/* Waits for the next used entry; fails the test after PCI_DRIVER_WAIT_MS. */
void pci_driver_await(struct pci_driver *d, unsigned queue, uint16_t *head, uint32_t *written);
/* Waits until this holds. */
#define pci_driver_until(condition)                                                                \
	for (unsigned pci_driver_ms = 0; !(condition); pci_driver_ms++) {                          \
		cr_assert_lt(pci_driver_ms, PCI_DRIVER_WAIT_MS,                                    \
			     "waited too long for " #condition);                                   \
		usleep(1000);                                                                      \
	}

#endif
