/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC (82093AA, version 0x20): interrupt lines to messages for local APICs. Slice 0. */
#ifndef VMM_IOAPIC_H
#define VMM_IOAPIC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/boot/layout.h"
#include "vmm/machine/machine_msg.h"

/* MMIO offsets. */
#define IOAPIC_REGSEL 0x00u
#define IOAPIC_WINDOW 0x10u
#define IOAPIC_EOIR   0x40u
/* Indirect registers. */
#define IOAPIC_REG_ID	   0x00u
#define IOAPIC_REG_VERSION 0x01u
#define IOAPIC_REG_ARB	   0x02u
#define IOAPIC_REG_RTE	   0x10u /* two each, low half first */

/* Redirection entries. Bits 55:49 hold bits 14:8 of the destination (KVM_FEATURE_MSI_EXT_DEST_ID,
 * that CPUID 0x40000001 offers), bits 63:56 its low byte. */
#define RTE_LOGICAL    (UINT64_C(1) << 11)
#define RTE_STATUS     (UINT64_C(1) << 12) /* read-only */
#define RTE_REMOTE_IRR (UINT64_C(1) << 14) /* read-only */
#define RTE_LEVEL      (UINT64_C(1) << 15)
#define RTE_MASKED     (UINT64_C(1) << 16)

struct ioapic {
	/* constant; send is called with the lock held, on any thread that drives the I/O APIC,
	 * and must neither block nor call back */
	void (*send)(void *ctx, const struct ipi *ipi);
	void *ctx;
	/* lock */
	pthread_mutex_t lock;
	uint64_t rte[LAYOUT_IOAPIC_PINS];
	uint32_t lines;	  /* level of each pin */
	uint32_t pending; /* edges that came while the pin was masked */
	uint8_t select, id;
};

/* All pins masked. 0 or negative errno. */
int ioapic_init(struct ioapic *io, void (*send)(void *ctx, const struct ipi *ipi), void *ctx);
void ioapic_destroy(struct ioapic *io);
/* Sets the level of a pin (active is true, whatever the entry's polarity says). Any thread. */
void ioapic_line(struct ioapic *io, unsigned pin, bool active);
/* A local APIC ended a level-triggered interrupt. Any thread. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);
/* Registers; offset from LAYOUT_IOAPIC_BASE; unknown ones read 0. Any thread. */
uint32_t ioapic_read(struct ioapic *io, uint64_t offset);
void ioapic_write(struct ioapic *io, uint64_t offset, uint32_t value);

#endif
