/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus: configuration accesses under its lock, memory accesses by the addresses decoded. */
#include "vmm/pci/pci.h"

#include <string.h>

#include "base/lock.h"
#include "base/log.h"

#define FUNCTIONS     8u
#define FUNCTION_SIZE 4096u
#define BAR_TYPE_BITS 0xfu
#define CAPS_FIRST    0x40u
#define BAR_SIZE_MIN  4096u
/* Port 0xcf8: enable, bus, device, function, register. */
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS   0x80fffffcu

int pci_bus_init(struct pci_bus *bus)
{
	memset(bus, 0, sizeof(*bus));
	return lock_init(&bus->lock);
}

void pci_bus_destroy(struct pci_bus *bus)
{
	pthread_mutex_destroy(&bus->lock);
}

/* ---- making a function ---- */

void pci_put16(uint8_t *bytes, unsigned at, uint16_t value)
{
	bytes[at] = (uint8_t)value;
	bytes[at + 1] = (uint8_t)(value >> 8);
}

void pci_put32(uint8_t *bytes, unsigned at, uint32_t value)
{
	pci_put16(bytes, at, (uint16_t)value);
	pci_put16(bytes, at + 2, (uint16_t)(value >> 16));
}

uint32_t pci_get32(const uint8_t *bytes, unsigned at)
{
	return bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 |
	       (uint32_t)bytes[at + 3] << 24;
}

void pci_function_init(struct pci_function *f, const struct pci_ops *ops, uint16_t vendor,
		       uint16_t device, uint32_t class_code)
{
	memset(f, 0, sizeof(*f));
	f->ops = ops;
	pci_put16(f->config, PCI_VENDOR, vendor);
	pci_put16(f->config, PCI_DEVICE, device);
	pci_put32(f->config, PCI_REVISION, class_code << 8 | 1);
	pci_put16(f->config, PCI_SUB_VENDOR, vendor);
	pci_put16(f->writable, PCI_COMMAND,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
	/* Cache line size and interrupt line are the guest's to note. */
	f->writable[0x0c] = 0xff;
	f->writable[0x3c] = 0xff;
	f->caps_link = PCI_CAPS;
	f->caps_end = CAPS_FIRST;
}

uint8_t pci_capability_add(struct pci_function *f, uint8_t id, uint8_t len)
{
	uint8_t at = f->caps_end;

	invariant(at + len <= PCI_CONFIG_SIZE);
	f->config[f->caps_link] = at;
	f->config[at] = id;
	f->caps_link = at + 1;
	f->caps_end = (uint8_t)((at + len + 3) & ~3);
	pci_put16(f->config, PCI_STATUS, PCI_STATUS_CAPS);
	return at;
}

void pci_add(struct pci_bus *bus, unsigned number, struct pci_function *f, uint32_t bar_gpa)
{
	invariant(number < PCI_DEVICES_MAX && !bus->device[number]);
	invariant(!f->bar_size ||
		  (f->bar_size >= BAR_SIZE_MIN && !(f->bar_size & (f->bar_size - 1)) &&
		   !(bar_gpa & (f->bar_size - 1))));
	if (f->bar_size) {
		pci_put32(f->writable, PCI_BAR0, ~(f->bar_size - 1));
		pci_put32(f->config, PCI_BAR0, bar_gpa);
	}
	atomic_store(&f->bar_at, 0);
	bus->device[number] = f;
}

/* ---- configuration space ---- */

static void bar_decode(struct pci_function *f)
{
	bool on = f->bar_size && (f->config[PCI_COMMAND] & PCI_COMMAND_MEMORY);

	atomic_store(&f->bar_at, on ? pci_get32(f->config, PCI_BAR0) & ~BAR_TYPE_BITS : 0);
}

/* A register of the bus, or NULL: nobody is there. In *at its offset in the function. */
static struct pci_function *function_at(const struct pci_bus *bus, uint32_t offset, unsigned size,
					uint32_t *at)
{
	unsigned number = offset / FUNCTION_SIZE / FUNCTIONS;

	*at = offset % FUNCTION_SIZE;
	if (number >= PCI_DEVICES_MAX || offset / FUNCTION_SIZE % FUNCTIONS ||
	    (offset & 3) + size > 4)
		return NULL;
	return bus->device[number];
}

static uint32_t ones(unsigned size)
{
	return size >= 4 ? UINT32_MAX : (UINT32_C(1) << size * 8) - 1;
}

uint32_t pci_ecam_read(struct pci_bus *bus, uint32_t offset, unsigned size)
{
	struct pci_function *f = function_at(bus, offset, size, &offset);
	uint32_t value = 0;

	if (!f)
		return ones(size);
	if (offset >= PCI_CONFIG_SIZE)
		return 0;
	pthread_mutex_lock(&bus->lock);
	if (f->ops->config_touched)
		f->ops->config_touched(f, offset, size, false);
	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)f->config[offset + i] << i * 8;
	pthread_mutex_unlock(&bus->lock);
	return value;
}

void pci_ecam_write(struct pci_bus *bus, uint32_t offset, unsigned size, uint32_t value)
{
	struct pci_function *f = function_at(bus, offset, size, &offset);

	if (!f || offset >= PCI_CONFIG_SIZE)
		return;
	pthread_mutex_lock(&bus->lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = f->writable[offset + i], byte = (uint8_t)(value >> i * 8);

		f->config[offset + i] = (uint8_t)((f->config[offset + i] & ~mask) | (byte & mask));
	}
	bar_decode(f);
	if (f->ops->config_touched)
		f->ops->config_touched(f, offset, size, true);
	pthread_mutex_unlock(&bus->lock);
}

uint32_t pci_address_read(struct pci_bus *bus, unsigned size)
{
	uint32_t address;

	if (size != 4)
		return ones(size);
	pthread_mutex_lock(&bus->lock);
	address = bus->address;
	pthread_mutex_unlock(&bus->lock);
	return address;
}

void pci_address_write(struct pci_bus *bus, unsigned size, uint32_t value)
{
	if (size != 4)
		return;
	pthread_mutex_lock(&bus->lock);
	bus->address = value & ADDRESS_BITS;
	pthread_mutex_unlock(&bus->lock);
}

bool pci_address_leads(uint32_t address, unsigned byte, uint32_t *offset)
{
	if (!(address & ADDRESS_ENABLE))
		return false;
	*offset = (address >> 8 & 0xffff) * FUNCTION_SIZE + (address & 0xfc) + byte;
	return true;
}

/* ---- memory ---- */

/* Who decodes all bytes of it; NULL: nobody. */
static struct pci_function *decoder_of(const struct pci_bus *bus, uint64_t gpa, unsigned size,
				       uint32_t *offset)
{
	for (unsigned i = 0; i < PCI_DEVICES_MAX; i++) {
		struct pci_function *f = bus->device[i];
		uint32_t at = f ? atomic_load_explicit(&f->bar_at, memory_order_relaxed) : 0;

		if (!at || gpa < at || gpa - at + size > f->bar_size)
			continue;
		*offset = (uint32_t)(gpa - at);
		return f;
	}
	return NULL;
}

uint64_t pci_memory_read(struct pci_bus *bus, uint64_t gpa, unsigned size)
{
	uint32_t offset;
	struct pci_function *f = decoder_of(bus, gpa, size, &offset);

	if (!f)
		return size == 8 ? UINT64_MAX : ones(size);
	if (size < 8)
		return f->ops->bar_read(f, offset, size);
	return f->ops->bar_read(f, offset, 4) | (uint64_t)f->ops->bar_read(f, offset + 4, 4) << 32;
}

void pci_memory_write(struct pci_bus *bus, uint64_t gpa, unsigned size, uint64_t value)
{
	uint32_t offset;
	struct pci_function *f = decoder_of(bus, gpa, size, &offset);

	if (!f)
		return;
	f->ops->bar_write(f, offset, size < 4 ? size : 4, (uint32_t)value);
	if (size == 8)
		f->ops->bar_write(f, offset + 4, 4, (uint32_t)(value >> 32));
}
