/* SPDX-License-Identifier: Apache-2.0 */
/* A small guest driver for tests: finds a virtio device's registers as PCI says, and fills its rings. */
#ifndef TESTS_UNIT_PCI_DRIVER_H
#define TESTS_UNIT_PCI_DRIVER_H

#include <stdatomic.h>

#include "vmm/pci/msix.h"
#include "vmm/virtio/virtio_pci.h"

#define DRIVER_RAM_SIZE	  (UINT64_C(4) << 20)
#define DRIVER_QUEUE_SIZE 16u
#define DRIVER_BAR	  0xd0000000u
#define DRIVER_WAIT_MS	  20000u

struct driver_queue {
	uint64_t descriptors, available, used; /* guest physical */
	uint16_t next_available, next_used;
};

struct driver {
	uint8_t *ram;
	struct pci_bus bus;
	struct virtio *device;
	uint32_t common, notify, notify_stride, isr, config; /* offsets in the BAR */
	struct driver_queue queue[VIRTIO_QUEUES_MAX];
	_Atomic unsigned interrupts[VIRTIO_QUEUES_MAX +
				    1]; /* by vector; the last one is for the configuration */
	_Atomic bool thread_gone;
};

/* Makes the device with a bus and memory around it, and starts its thread. */
struct driver *driver_new(const struct virtio_device *device);
/* Halts it and frees all. */
void driver_free(struct driver *d);

uint32_t driver_read(struct driver *d, uint32_t offset, unsigned size);
void driver_write(struct driver *d, uint32_t offset, unsigned size, uint32_t value);
uint8_t driver_status(struct driver *d);
uint64_t driver_features_offered(struct driver *d);
/* Reset, then up to DRIVER_OK with these features and all queues; false: the device refused the features. */
bool driver_up(struct driver *d, uint64_t features);
/* Writes 0 to the status and waits until it reads 0. */
void driver_reset(struct driver *d);

/* One buffer: a piece to be read and one to be written (len 0: none), as descriptors head and head + 1. */
struct driver_buffer {
	uint64_t out_gpa, in_gpa;
	uint32_t out_len, in_len;
};
/* Puts it into the ring at descriptor head (even) and, if tell, notifies. */
void driver_add(struct driver *d, unsigned queue, uint16_t head, const struct driver_buffer *buffer,
		bool tell);
/* Waits for the next used entry; fails the test after DRIVER_WAIT_MS. */
void driver_used(struct driver *d, unsigned queue, uint16_t *head, uint32_t *written);
/* Waits until this holds. */
#define driver_until(condition)                                                                    \
	for (unsigned driver_ms = 0; !(condition); driver_ms++) {                                  \
		cr_assert_lt(driver_ms, DRIVER_WAIT_MS, "waited too long for " #condition);        \
		usleep(1000);                                                                      \
	}

#endif
