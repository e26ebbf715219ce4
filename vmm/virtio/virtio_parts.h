/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a virtio device, shared by its thread (virtio.c) and its registers (virtio_pci.c). */
#ifndef VMM_VIRTIO_PARTS_H
#define VMM_VIRTIO_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/pci/msix.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_pci.h"

/* "No vector" in a vector register (virtio 1.2, section 4.1.5.1.3). */
#define VIRTIO_NO_VECTOR 0xffffu

/* A queue's registers. */
struct virtio_queue_registers {
	uint16_t size, vector;
	bool enabled;
	uint64_t address[3]; /* descriptors, driver, device */
};

struct virtio {
	/* constant */
	struct virtio_device device;
	struct guest_memory mem;
	uint64_t features; /* all that are offered */
	int wake_fd;	   /* an eventfd: something below is new for the device's thread */
	void (*thread_gone)(void *ctx);
	void *thread_gone_ctx;
	struct pci_function pci;
	uint8_t window_cap; /* offset of the capability that looks into the BAR */
	uint8_t msix_cap;
	/* own lock */
	struct msix msix;
	/* any thread */
	_Atomic uint32_t notified;  /* queues, by bit */
	_Atomic uint8_t generation; /* of the configuration */
	_Atomic uint16_t config_vector;
	/* lock: never held while guest memory is touched, since the engine thread takes it too */
	pthread_mutex_t lock;
	uint8_t status;
	bool reset_wanted, start_wanted, halt_wanted; /* for the device's thread */
	uint32_t device_select, driver_select;
	uint64_t driver_features;
	uint16_t queue_select;
	struct virtio_queue_registers registers[VIRTIO_QUEUES_MAX];
	uint8_t isr;
	/* the device's thread */
	bool running;
	uint64_t negotiated;
	uint16_t vector[VIRTIO_QUEUES_MAX];
	bool queue_there[VIRTIO_QUEUES_MAX];
	struct virtqueue queue[VIRTIO_QUEUES_MAX];
	/* virtio_start and virtio_join's caller */
	pthread_t thread;
	bool thread_running;
};

/* virtio.c: lock held. The driver wrote this into the status register. */
void virtio_status_write(struct virtio *v, uint8_t status);
/* virtio.c: any thread. There is something for the device's thread. */
void virtio_wake(struct virtio *v);
/* virtio_pci.c: the function's header, capabilities and MSI-X. 0 or a negative errno. */
int virtio_pci_init(struct virtio *v, void (*deliver)(void *ctx, uint64_t address, uint32_t data),
		    void *ctx);

#endif
