/* SPDX-License-Identifier: Apache-2.0 */
/* The small guest driver: one device at number 1 of a bus of its own. */
#include "driver.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define FUNCTION   (1u << 15)
#define MSI_BASE   0xfee00000u
#define RINGS	   0x10000u
#define RING_BYTES 0x4000u
#define COMMON(at) (d->common + (at))

static void deliver(void *ctx, uint64_t address, uint32_t data)
{
	struct driver *d = ctx;

	cr_assert_eq(address, MSI_BASE);
	cr_assert_leq(data, VIRTIO_QUEUES_MAX);
	atomic_fetch_add(&d->interrupts[data], 1);
}

static void gone(void *ctx)
{
	struct driver *d = ctx;

	atomic_store(&d->thread_gone, true);
}

uint32_t driver_read(struct driver *d, uint32_t offset, unsigned size)
{
	return (uint32_t)pci_memory_read(&d->bus, DRIVER_BAR + offset, size);
}

void driver_write(struct driver *d, uint32_t offset, unsigned size, uint32_t value)
{
	pci_memory_write(&d->bus, DRIVER_BAR + offset, size, value);
}

/* Follows the list of capabilities; every kind of structure must be there but the device's own. */
static void structures_find(struct driver *d)
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
static void vectors_set(struct driver *d)
{
	unsigned at = pci_ecam_read(&d->bus, FUNCTION + PCI_CAPS, 1), last, table;

	while (pci_ecam_read(&d->bus, FUNCTION + at, 1) != PCI_CAP_MSIX)
		at = pci_ecam_read(&d->bus, FUNCTION + at + 1, 1);
	last = pci_ecam_read(&d->bus, FUNCTION + at + 2, 2) & 0x7ff;
	table = pci_ecam_read(&d->bus, FUNCTION + at + 4, 4);
	for (unsigned i = 0; i <= last; i++) {
		driver_write(d, table + i * 16, 4, MSI_BASE);
		driver_write(d, table + i * 16 + 8, 4, i == last ? VIRTIO_QUEUES_MAX : i);
		driver_write(d, table + i * 16 + 12, 4, 0);
	}
	pci_ecam_write(&d->bus, FUNCTION + at + 2, 2, MSIX_CONTROL_ENABLE | last);
}

struct driver *driver_new(const struct virtio_device *device)
{
	struct driver *d = calloc(1, sizeof(*d));
	struct virtio_env env = {.deliver = deliver, .thread_gone = gone, .ctx = d};

	cr_assert_not_null(d);
	d->ram = mmap(NULL, DRIVER_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	cr_assert_neq(d->ram, MAP_FAILED);
	env.mem = (struct guest_memory){.ram = d->ram, .ram_end = DRIVER_RAM_SIZE};
	cr_assert_eq(pci_bus_init(&d->bus), 0);
	cr_assert_eq(virtio_create(device, &env, &d->device), 0);
	pci_add(&d->bus, 1, virtio_function(d->device), DRIVER_BAR);
	pci_ecam_write(&d->bus, FUNCTION + PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	structures_find(d);
	vectors_set(d);
	cr_assert_eq(virtio_start(d->device), 0);
	return d;
}

void driver_free(struct driver *d)
{
	virtio_halt(d->device);
	driver_until(atomic_load(&d->thread_gone));
	virtio_join(d->device);
	virtio_destroy(d->device);
	pci_bus_destroy(&d->bus);
	munmap(d->ram, DRIVER_RAM_SIZE);
	free(d);
}

uint8_t driver_status(struct driver *d)
{
	return (uint8_t)driver_read(d, COMMON(0x14), 1);
}

uint64_t driver_features_offered(struct driver *d)
{
	uint64_t features;

	driver_write(d, COMMON(0x00), 4, 0);
	features = driver_read(d, COMMON(0x04), 4);
	driver_write(d, COMMON(0x00), 4, 1);
	return features | (uint64_t)driver_read(d, COMMON(0x04), 4) << 32;
}

void driver_reset(struct driver *d)
{
	driver_write(d, COMMON(0x14), 1, 0);
	driver_until(driver_status(d) == 0);
}

static void queue_up(struct driver *d, unsigned index)
{
	struct driver_queue *q = &d->queue[index];
	uint64_t base = RINGS + index * RING_BYTES;

	memset(d->ram + base, 0, RING_BYTES);
	*q = (struct driver_queue){base, base + 0x1000, base + 0x2000, 0, 0};
	driver_write(d, COMMON(0x16), 2, index);
	driver_write(d, COMMON(0x18), 2, DRIVER_QUEUE_SIZE);
	driver_write(d, COMMON(0x1a), 2, index);
	cr_assert_eq(driver_read(d, COMMON(0x1a), 2), index);
	driver_write(d, COMMON(0x20), 4, (uint32_t)q->descriptors);
	driver_write(d, COMMON(0x28), 4, (uint32_t)q->available);
	driver_write(d, COMMON(0x30), 4, (uint32_t)q->used);
	driver_write(d, COMMON(0x1c), 2, 1);
	cr_assert_eq(driver_read(d, COMMON(0x1c), 2), 1);
}

bool driver_up(struct driver *d, uint64_t features)
{
	unsigned queues = driver_read(d, COMMON(0x12), 2);

	driver_reset(d);
	driver_write(d, COMMON(0x14), 1, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		driver_write(d, COMMON(0x08), 4, i);
		driver_write(d, COMMON(0x0c), 4, (uint32_t)(features >> 32 * i));
	}
	driver_write(d, COMMON(0x14), 1, driver_status(d) | VIRTIO_STATUS_FEATURES_OK);
	if (!(driver_status(d) & VIRTIO_STATUS_FEATURES_OK))
		return false;
	driver_write(d, COMMON(0x10), 2, queues);
	for (unsigned i = 0; i < queues; i++)
		queue_up(d, i);
	driver_write(d, COMMON(0x14), 1, driver_status(d) | VIRTIO_STATUS_DRIVER_OK);
	return true;
}

/* ---- rings ---- */

static void descriptor_put(struct driver *d, unsigned queue, uint16_t index, uint64_t gpa,
			   uint32_t len, uint16_t flags)
{
	uint8_t *at = d->ram + d->queue[queue].descriptors + 16u * index;
	uint16_t next = index + 1;

	memcpy(at, &gpa, 8);
	memcpy(at + 8, &len, 4);
	memcpy(at + 12, &flags, 2);
	memcpy(at + 14, &next, 2);
}

void driver_add(struct driver *d, unsigned queue, uint16_t head, const struct driver_buffer *b,
		bool tell)
{
	struct driver_queue *q = &d->queue[queue];
	uint16_t *available = (uint16_t *)(void *)(d->ram + q->available);
	uint16_t first = head;

	if (b->out_len)
		descriptor_put(d, queue, first++, b->out_gpa, b->out_len, b->in_len ? 1 : 0);
	if (b->in_len)
		descriptor_put(d, queue, first, b->in_gpa, b->in_len, 2);
	available[2 + q->next_available++ % DRIVER_QUEUE_SIZE] = head;
	__atomic_store_n(&available[1], q->next_available, __ATOMIC_RELEASE);
	if (tell)
		driver_write(d, d->notify + queue * d->notify_stride, 2, queue);
}

void driver_used(struct driver *d, unsigned queue, uint16_t *head, uint32_t *written)
{
	struct driver_queue *q = &d->queue[queue];
	uint16_t *used = (uint16_t *)(void *)(d->ram + q->used);
	uint32_t *entry = (uint32_t *)(void *)(d->ram + q->used + 4 +
					       8u * (q->next_used % DRIVER_QUEUE_SIZE));

	driver_until(__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) != q->next_used);
	*head = (uint16_t)entry[0];
	*written = entry[1];
	q->next_used++;
}
