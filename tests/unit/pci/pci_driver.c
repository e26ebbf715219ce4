/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's driver: one device at number 1 of a bus of its own. */
#include "tests/unit/pci/pci_driver.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#define FUNCTION   (1u << 15)
#define MSI_BASE   0xfee00000u
#define COMMON(at) (d->common + (at))

static void deliver(void *ctx, uint64_t address, uint32_t data)
{
	struct pci_driver *d = ctx;

	cr_assert_eq(address, MSI_BASE);
	cr_assert_leq(data, VIRTIO_QUEUES_MAX);
	atomic_fetch_add(&d->interrupts[data], 1);
}

static void gone(void *ctx)
{
	struct pci_driver *d = ctx;

	atomic_store(&d->thread_gone, true);
}

uint32_t pci_driver_read(struct pci_driver *d, uint32_t offset, unsigned size)
{
	return (uint32_t)pci_memory_read(&d->bus, PCI_DRIVER_BAR + offset, size);
}

void pci_driver_write(struct pci_driver *d, uint32_t offset, unsigned size, uint32_t value)
{
	pci_memory_write(&d->bus, PCI_DRIVER_BAR + offset, size, value);
}

/* Follows the list of capabilities; every kind of structure must be there but the device's own. */
static void structures_find(struct pci_driver *d)
{
	unsigned found = 0, at = pci_ecam_read(&d->bus, FUNCTION + PCI_CAPS, 1);

	for (; at; at = pci_ecam_read(&d->bus, FUNCTION + at + 1, 1)) {
		uint32_t offset = pci_ecam_read(&d->bus, FUNCTION + at + 8, 4);
		unsigned type = pci_ecam_read(&d->bus, FUNCTION + at + 3, 1);

		if (pci_ecam_read(&d->bus, FUNCTION + at, 1) != PCI_CAP_VENDOR)
			continue;
		found |= 1u << type;
		if (type == 1)
			d->common = offset;
		if (type == 2) {
			d->notify = offset;
			d->notify_stride = pci_ecam_read(&d->bus, FUNCTION + at + 16, 4);
		}
		if (type == 3)
			d->isr = offset;
		if (type == 4)
			d->config = offset;
	}
	cr_assert_eq(found & ~(1u << 4), 1u << 1 | 1u << 2 | 1u << 3 | 1u << 5);
}

/* Vector k for queue k, and the last one for the configuration, each as a message of its number. */
static void vectors_set(struct pci_driver *d)
{
	unsigned at = pci_ecam_read(&d->bus, FUNCTION + PCI_CAPS, 1), last, table;

	while (pci_ecam_read(&d->bus, FUNCTION + at, 1) != PCI_CAP_MSIX)
		at = pci_ecam_read(&d->bus, FUNCTION + at + 1, 1);
	last = pci_ecam_read(&d->bus, FUNCTION + at + 2, 2) & 0x7ff;
	table = pci_ecam_read(&d->bus, FUNCTION + at + 4, 4);
	for (unsigned i = 0; i <= last; i++) {
		pci_driver_write(d, table + i * 16, 4, MSI_BASE);
		pci_driver_write(d, table + i * 16 + 8, 4, i == last ? VIRTIO_QUEUES_MAX : i);
		pci_driver_write(d, table + i * 16 + 12, 4, 0);
	}
	pci_ecam_write(&d->bus, FUNCTION + at + 2, 2, MSIX_CONTROL_ENABLE | last);
}

struct pci_driver *pci_driver_new(const struct virtio_device *device)
{
	struct pci_driver *d = calloc(1, sizeof(*d));
	struct virtio_env env = {.deliver = deliver, .thread_gone = gone, .ctx = d};

	cr_assert_not_null(d);
	driver_ram_open(&d->memory);
	d->ram = d->memory.mem.ram;
	env.mem = d->memory.mem;
	cr_assert_eq(pci_bus_init(&d->bus), 0);
	cr_assert_eq(virtio_create(device, &env, &d->device), 0);
	pci_add(&d->bus, 1, virtio_function(d->device), PCI_DRIVER_BAR);
	pci_ecam_write(&d->bus, FUNCTION + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	structures_find(d);
	vectors_set(d);
	cr_assert_eq(virtio_start(d->device), 0);
	return d;
}

void pci_driver_free(struct pci_driver *d)
{
	virtio_halt(d->device);
	pci_driver_until(atomic_load(&d->thread_gone));
	virtio_join(d->device);
	virtio_destroy(d->device);
	pci_bus_destroy(&d->bus);
	driver_ram_close(&d->memory);
	free(d);
}

uint8_t pci_driver_status(struct pci_driver *d)
{
	return (uint8_t)pci_driver_read(d, COMMON(0x14), 1);
}

uint64_t pci_driver_features_offered(struct pci_driver *d)
{
	uint64_t features;

	pci_driver_write(d, COMMON(0x00), 4, 0);
	features = pci_driver_read(d, COMMON(0x04), 4);
	pci_driver_write(d, COMMON(0x00), 4, 1);
	return features | (uint64_t)pci_driver_read(d, COMMON(0x04), 4) << 32;
}

void pci_driver_reset(struct pci_driver *d)
{
	pci_driver_write(d, COMMON(0x14), 1, 0);
	pci_driver_until(pci_driver_status(d) == 0);
}

static void queue_up(struct pci_driver *d, unsigned index)
{
	struct driver_queue *q = &d->queue[index];

	driver_queue_init(q, &d->memory.mem, index, PCI_DRIVER_QUEUE_SIZE, false);
	pci_driver_write(d, COMMON(0x16), 2, index);
	pci_driver_write(d, COMMON(0x18), 2, PCI_DRIVER_QUEUE_SIZE);
	pci_driver_write(d, COMMON(0x1a), 2, index);
	cr_assert_eq(pci_driver_read(d, COMMON(0x1a), 2), index);
	pci_driver_write(d, COMMON(0x20), 4, (uint32_t)q->config.descriptors);
	pci_driver_write(d, COMMON(0x28), 4, (uint32_t)q->config.driver);
	pci_driver_write(d, COMMON(0x30), 4, (uint32_t)q->config.device);
	pci_driver_write(d, COMMON(0x1c), 2, 1);
	cr_assert_eq(pci_driver_read(d, COMMON(0x1c), 2), 1);
}

bool pci_driver_up(struct pci_driver *d, uint64_t features)
{
	unsigned queues = pci_driver_read(d, COMMON(0x12), 2);

	pci_driver_reset(d);
	pci_driver_write(d, COMMON(0x14), 1, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		pci_driver_write(d, COMMON(0x08), 4, i);
		pci_driver_write(d, COMMON(0x0c), 4, (uint32_t)(features >> 32 * i));
	}
	pci_driver_write(d, COMMON(0x14), 1, pci_driver_status(d) | VIRTIO_STATUS_FEATURES_OK);
	if (!(pci_driver_status(d) & VIRTIO_STATUS_FEATURES_OK))
		return false;
	pci_driver_write(d, COMMON(0x10), 2, queues);
	for (unsigned i = 0; i < queues; i++)
		queue_up(d, i);
	pci_driver_write(d, COMMON(0x14), 1, pci_driver_status(d) | VIRTIO_STATUS_DRIVER_OK);
	return true;
}

/* ---- rings ---- */

/* The test names the descriptors, so it can tell buffers apart. */
static void descriptor_use(struct driver_queue *q, uint16_t index, uint64_t gpa, uint32_t len,
			   uint16_t flags)
{
	driver_descriptor(q, index, gpa, len, flags, (uint16_t)(index + 1));
	q->busy[index] = true;
}

void pci_driver_put(struct pci_driver *d, unsigned queue, uint16_t head, const struct pci_buffer *b,
		    bool tell)
{
	struct driver_queue *q = &d->queue[queue];
	uint16_t index = head;

	if (b->out_len)
		descriptor_use(q, index++, b->out_gpa, b->out_len, b->in_len ? DRIVER_F_NEXT : 0);
	if (b->in_len)
		descriptor_use(q, index++, b->in_gpa, b->in_len, DRIVER_F_WRITE);
	q->chained[head] = (uint16_t)(index - head);
	driver_offer(q, head);
	if (tell)
		pci_driver_write(d, d->notify + queue * d->notify_stride, 2, queue);
}

void pci_driver_await(struct pci_driver *d, unsigned queue, uint16_t *head, uint32_t *written)
{
	pci_driver_until(driver_used(&d->queue[queue], head, written));
}
