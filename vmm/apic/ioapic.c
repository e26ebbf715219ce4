/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O APIC: edge and level pins, masks, remote IRR, and both ways of ending an interrupt. */
#include "vmm/apic/ioapic.h"

#include <string.h>

#include "base/lock.h"

#define VERSION (0x20u | (LAYOUT_IOAPIC_PINS - 1) << 16)

#define RTE_VECTOR(rte)	  ((uint8_t)(rte))
#define RTE_DELIVERY(rte) ((uint8_t)((rte) >> 8 & 7))
#define RTE_DEST(rte)	  ((uint32_t)((rte) >> 56 | ((rte) >> 49 & 0x7f) << 8))
#define RTE_READ_ONLY	  (RTE_STATUS | RTE_REMOTE_IRR)

int ioapic_init(struct ioapic *io, void (*send)(void *ctx, const struct ipi *ipi), void *ctx)
{
	unsigned pin;

	memset(io, 0, sizeof(*io));
	io->send = send;
	io->ctx = ctx;
	io->id = LAYOUT_IOAPIC_ID;
	for (pin = 0; pin < LAYOUT_IOAPIC_PINS; pin++)
		io->rte[pin] = RTE_MASKED;
	return lock_init(&io->lock);
}

void ioapic_destroy(struct ioapic *io)
{
	pthread_mutex_destroy(&io->lock);
}

static void pin_send(struct ioapic *io, unsigned pin)
{
	uint64_t rte = io->rte[pin];
	struct ipi ipi = {.dest = RTE_DEST(rte),
			  .exclude = IPI_NOBODY,
			  .vector = RTE_VECTOR(rte),
			  .delivery = RTE_DELIVERY(rte),
			  .logical = rte & RTE_LOGICAL,
			  .level = rte & RTE_LEVEL};

	switch (ipi.delivery) {
	case IPI_FIXED:
	case IPI_LOWEST:
	case IPI_NMI:
	case IPI_INIT:
		io->send(io->ctx, &ipi);
		return;
	default:
		return; /* SMI, ExtINT and reserved modes go nowhere */
	}
}

/* Sends what the pin has to say, if it may. lock held. */
static void pin_service(struct ioapic *io, unsigned pin)
{
	uint64_t rte = io->rte[pin];
	uint32_t bit = 1u << pin;

	if (rte & RTE_MASKED)
		return;
	if (!(rte & RTE_LEVEL)) {
		if (io->pending & bit)
			pin_send(io, pin);
	} else if ((io->lines & bit) && !(rte & RTE_REMOTE_IRR)) {
		io->rte[pin] |= RTE_REMOTE_IRR;
		pin_send(io, pin);
	}
	io->pending &= ~bit;
}

void ioapic_line(struct ioapic *io, unsigned pin, bool active)
{
	uint32_t bit = 1u << pin;

	pthread_mutex_lock(&io->lock);
	if (active && !(io->lines & bit)) {
		io->lines |= bit;
		io->pending |= bit;
		pin_service(io, pin);
	} else if (!active) {
		io->lines &= ~bit;
	}
	pthread_mutex_unlock(&io->lock);
}

static void eoi_locked(struct ioapic *io, uint8_t vector)
{
	unsigned pin;

	for (pin = 0; pin < LAYOUT_IOAPIC_PINS; pin++) {
		uint64_t rte = io->rte[pin];

		if (RTE_VECTOR(rte) != vector || !(rte & RTE_LEVEL) || !(rte & RTE_REMOTE_IRR))
			continue;
		io->rte[pin] &= ~RTE_REMOTE_IRR;
		pin_service(io, pin);
	}
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	pthread_mutex_lock(&io->lock);
	eoi_locked(io, vector);
	pthread_mutex_unlock(&io->lock);
}

/* ---- registers ---- */

static void rte_write(struct ioapic *io, unsigned pin, bool high, uint32_t value)
{
	uint64_t old = io->rte[pin], rte;

	if (high)
		rte = (old & 0xffffffffu) | (uint64_t)value << 32;
	else
		rte = (old & ~UINT64_C(0xffffffff)) | (value & ~RTE_READ_ONLY) |
		      (old & RTE_READ_ONLY);
	/* Making a pin edge-triggered ends a level interrupt: Linux's EOI for old I/O APICs. */
	if (!(rte & RTE_LEVEL))
		rte &= ~RTE_REMOTE_IRR;
	io->rte[pin] = rte;
	pin_service(io, pin);
}

static void window_write(struct ioapic *io, uint32_t value)
{
	unsigned index = io->select - IOAPIC_REG_RTE;

	if (io->select == IOAPIC_REG_ID)
		io->id = value >> 24 & 0xf;
	else if (io->select >= IOAPIC_REG_RTE && index / 2 < LAYOUT_IOAPIC_PINS)
		rte_write(io, index / 2, index & 1, value);
}

static uint32_t window_read(const struct ioapic *io)
{
	unsigned index = io->select - IOAPIC_REG_RTE;

	switch (io->select) {
	case IOAPIC_REG_ID:
	case IOAPIC_REG_ARB:
		return (uint32_t)io->id << 24;
	case IOAPIC_REG_VERSION:
		return VERSION;
	default:
		if (io->select < IOAPIC_REG_RTE || index / 2 >= LAYOUT_IOAPIC_PINS)
			return 0;
		return (uint32_t)(io->rte[index / 2] >> (index & 1) * 32);
	}
}

uint32_t ioapic_read(struct ioapic *io, uint64_t offset)
{
	uint32_t value = 0;

	pthread_mutex_lock(&io->lock);
	if (offset == IOAPIC_REGSEL)
		value = io->select;
	else if (offset == IOAPIC_WINDOW)
		value = window_read(io);
	pthread_mutex_unlock(&io->lock);
	return value;
}

void ioapic_write(struct ioapic *io, uint64_t offset, uint32_t value)
{
	pthread_mutex_lock(&io->lock);
	if (offset == IOAPIC_REGSEL)
		io->select = (uint8_t)value;
	else if (offset == IOAPIC_WINDOW)
		window_write(io, value);
	else if (offset == IOAPIC_EOIR)
		eoi_locked(io, (uint8_t)value);
	pthread_mutex_unlock(&io->lock);
}
