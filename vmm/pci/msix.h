/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X of one PCI function: its table, masks and pending bits (PCI Local Bus 3.0, section 6.8.2). */
#ifndef VMM_MSIX_H
#define VMM_MSIX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A vector for each queue of a device, and one for changes of its configuration. */
#define MSIX_VECTORS_MAX 32u
#define MSIX_ENTRY_SIZE	 16u
/* Bits of the capability's message control register. */
#define MSIX_CONTROL_MASK   0x4000u
#define MSIX_CONTROL_ENABLE 0x8000u

struct msix_entry {
	uint32_t address_low, address_high, data, control;
};

struct msix {
	/* constant; deliver is called with the lock held, on any thread, and must neither block nor call back */
	unsigned vectors;
	void (*deliver)(void *ctx, uint64_t address, uint32_t data);
	void *ctx;
	/* lock */
	pthread_mutex_t lock;
	struct msix_entry entry[MSIX_VECTORS_MAX];
	uint32_t pending;
	uint16_t control; /* the two bits above */
};

/* All vectors masked, none pending. 0, or a negative errno of the lock. */
int msix_init(struct msix *m, unsigned vectors,
	      void (*deliver)(void *ctx, uint64_t address, uint32_t data), void *ctx);
void msix_destroy(struct msix *m);
/* As after power-on. */
void msix_reset(struct msix *m);
/* Sends the vector's message, or keeps it until its masks are gone; nothing while MSI-X is off. Any thread. */
void msix_raise(struct msix *m, unsigned vector);
/* The message control register; only the two bits are taken. Any thread. */
void msix_control_set(struct msix *m, uint16_t control);
uint16_t msix_control(struct msix *m);
/* The table and the pending bits, by dword, as they lie in memory; what is not there reads 0. Any thread. */
uint32_t msix_table_read(struct msix *m, uint32_t offset);
void msix_table_write(struct msix *m, uint32_t offset, uint32_t value);
uint32_t msix_pending_read(struct msix *m, uint32_t offset);

#endif
