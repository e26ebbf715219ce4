/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device's registers on PCI (virtio 1.2, section 4.1.4): one BAR, a page for each structure. */
#include "vmm/virtio/virtio_pci.h"

#include "vmm/virtio/virtio_parts.h"

#define VENDOR_VIRTIO 0x1af4u
#define DEVICE_MODERN 0x1040u
#define PAGE_SIZE_    0x1000u
#define BAR_COMMON    0x0000u
#define BAR_ISR	      0x1000u
#define BAR_CONFIG    0x2000u
#define BAR_NOTIFY    VIRTIO_PCI_BAR_NOTIFY
#define BAR_MSIX      0x4000u
#define BAR_PENDING   0x5000u
#define NOTIFY_STRIDE 4u

/* Section 4.1.4, struct virtio_pci_cap. */
#define CAP_COMMON 1u
#define CAP_NOTIFY 2u
#define CAP_ISR	   3u
#define CAP_DEVICE 4u
#define CAP_WINDOW 5u
#define CAP_BYTES  16u
#define CAP_TYPE   3u
#define CAP_BAR	   4u
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_MORE   16u /* the notify multiplier, or the window's data */

/* Section 4.1.4.3, struct virtio_pci_common_cfg. */
enum common_register {
	COMMON_DEVICE_SELECT = 0x00,
	COMMON_DEVICE_FEATURES = 0x04,
	COMMON_DRIVER_SELECT = 0x08,
	COMMON_DRIVER_FEATURES = 0x0c,
	COMMON_CONFIG_VECTOR = 0x10,
	COMMON_QUEUES = 0x12,
	COMMON_STATUS = 0x14,
	COMMON_GENERATION = 0x15,
	COMMON_QUEUE_SELECT = 0x16,
	COMMON_QUEUE_SIZE = 0x18,
	COMMON_QUEUE_VECTOR = 0x1a,
	COMMON_QUEUE_ENABLE = 0x1c,
	COMMON_QUEUE_NOTIFY_OFF = 0x1e,
	COMMON_QUEUE_ADDRESS = 0x20, /* three of 64 bits */
	COMMON_END = 0x38
};

static struct virtio *virtio_of(struct pci_function *f)
{
	return (struct virtio *)((char *)f - offsetof(struct virtio, pci));
}

/* The selected queue's registers, or NULL. lock held. */
static struct virtio_queue_registers *queue_selected(struct virtio *v)
{
	return v->queue_select < v->device.queues ? &v->registers[v->queue_select] : NULL;
}

/* ---- the common configuration: lock held ---- */

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

static uint32_t queue_read(struct virtio *v, uint32_t offset)
{
	const struct virtio_queue_registers *q = queue_selected(v);

	if (!q)
		return offset == COMMON_QUEUE_VECTOR ? VIRTIO_NO_VECTOR : 0;
	switch (offset) {
	case COMMON_QUEUE_SIZE:
		return q->size;
	case COMMON_QUEUE_VECTOR:
		return q->vector;
	case COMMON_QUEUE_ENABLE:
		return q->enabled;
	case COMMON_QUEUE_NOTIFY_OFF:
		return v->queue_select;
	default:
		offset -= COMMON_QUEUE_ADDRESS;
		return (uint32_t)(q->address[offset / 8] >> (offset & 4) * 8);
	}
}

static uint32_t common_read(struct virtio *v, uint32_t offset)
{
	switch (offset) {
	case COMMON_DEVICE_SELECT:
		return v->device_select;
	case COMMON_DEVICE_FEATURES:
		return feature_word(v->features, v->device_select);
	case COMMON_DRIVER_SELECT:
		return v->driver_select;
	case COMMON_DRIVER_FEATURES:
		return feature_word(v->driver_features, v->driver_select);
	case COMMON_CONFIG_VECTOR:
		return atomic_load(&v->config_vector);
	case COMMON_QUEUES:
		return v->device.queues;
	case COMMON_STATUS:
		return v->status;
	case COMMON_GENERATION:
		return atomic_load(&v->generation);
	case COMMON_QUEUE_SELECT:
		return v->queue_select;
	default:
		return offset >= COMMON_QUEUE_SIZE && offset < COMMON_END ? queue_read(v, offset)
									  : 0;
	}
}

/* A vector that there is not is answered by "no vector", which tells the driver (section 4.1.5.1.3.1). */
static uint16_t vector_check(const struct virtio *v, uint32_t value)
{
	return value < v->msix.vectors ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static void queue_size_set(const struct virtio *v, struct virtio_queue_registers *q, uint32_t size)
{
	if (size && size <= v->device.queue_size && !(size & (size - 1)))
		q->size = (uint16_t)size;
}

static void address_set(struct virtio_queue_registers *q, uint32_t offset, uint32_t value)
{
	unsigned shift = (offset & 4) * 8;
	uint64_t *address = &q->address[offset / 8];

	*address = (*address & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value << shift;
}

/* Of a queue that is in use nothing changes (section 4.1.4.3.2). */
static void queue_write(struct virtio *v, uint32_t offset, uint32_t value)
{
	struct virtio_queue_registers *q = queue_selected(v);

	if (!q || q->enabled || (v->status & VIRTIO_STATUS_DRIVER_OK))
		return;
	if (offset == COMMON_QUEUE_SIZE)
		queue_size_set(v, q, value);
	else if (offset == COMMON_QUEUE_VECTOR)
		q->vector = vector_check(v, value);
	else if (offset == COMMON_QUEUE_ENABLE)
		q->enabled = value == 1;
	else if (offset >= COMMON_QUEUE_ADDRESS && offset < COMMON_END)
		address_set(q, offset - COMMON_QUEUE_ADDRESS, value);
}

static void features_write(struct virtio *v, uint32_t value)
{
	unsigned shift = 32 * v->driver_select;

	if (v->driver_select > 1 || (v->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	v->driver_features =
		(v->driver_features & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value << shift;
}

static void common_write(struct virtio *v, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case COMMON_DEVICE_SELECT:
		v->device_select = value;
		break;
	case COMMON_DRIVER_SELECT:
		v->driver_select = value;
		break;
	case COMMON_DRIVER_FEATURES:
		features_write(v, value);
		break;
	case COMMON_CONFIG_VECTOR:
		atomic_store(&v->config_vector, vector_check(v, value));
		break;
	case COMMON_STATUS:
		virtio_status_write(v, (uint8_t)value);
		break;
	case COMMON_QUEUE_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	default:
		queue_write(v, offset, value);
	}
}

/* ---- the other structures ---- */

/* Reading it acknowledges (section 4.1.4.5); with MSI-X no driver needs it. */
static uint32_t isr_read(struct virtio *v)
{
	uint32_t isr = v->isr;

	v->isr = 0;
	return isr;
}

static uint32_t config_read(struct virtio *v, uint32_t offset, unsigned size)
{
	uint8_t bytes[4] = {0};

	if (!v->device.ops->config_read || offset + size > v->device.config_size)
		return 0;
	v->device.ops->config_read(v->device.dev, offset, size, bytes);
	return pci_get32(bytes, 0);
}

static void notify_write(struct virtio *v, uint32_t offset)
{
	unsigned index = offset / NOTIFY_STRIDE;

	if (index >= v->device.queues)
		return;
	atomic_fetch_or(&v->notified, UINT32_C(1) << index);
	virtio_wake(v);
}

static uint32_t bar_read(struct pci_function *f, uint32_t offset, unsigned size)
{
	struct virtio *v = virtio_of(f);
	uint32_t value = 0, at = offset % PAGE_SIZE_;

	switch (offset - at) {
	case BAR_COMMON:
		pthread_mutex_lock(&v->lock);
		value = common_read(v, at);
		pthread_mutex_unlock(&v->lock);
		return value;
	case BAR_ISR:
		pthread_mutex_lock(&v->lock);
		value = at ? 0 : isr_read(v);
		pthread_mutex_unlock(&v->lock);
		return value;
	case BAR_CONFIG:
		return config_read(v, at, size);
	case BAR_MSIX:
		return size == 4 ? msix_table_read(&v->msix, at) : 0;
	case BAR_PENDING:
		return size == 4 ? msix_pending_read(&v->msix, at) : 0;
	default:
		return 0;
	}
}

static void bar_write(struct pci_function *f, uint32_t offset, unsigned size, uint32_t value)
{
	struct virtio *v = virtio_of(f);
	uint32_t at = offset % PAGE_SIZE_;

	switch (offset - at) {
	case BAR_COMMON:
		pthread_mutex_lock(&v->lock);
		common_write(v, at, value);
		pthread_mutex_unlock(&v->lock);
		return;
	case BAR_NOTIFY:
		notify_write(v, at);
		return;
	case BAR_MSIX:
		if (size == 4)
			msix_table_write(&v->msix, at, value);
		return;
	default:
		return;
	}
}

/* ---- configuration space ---- */

/* Section 4.1.4.9: a window of up to four bytes into the BAR, for who cannot reach it otherwise. */
static void window_touched(struct virtio *v, bool write)
{
	uint8_t *cap = v->pci.config + v->window_cap;
	uint32_t offset = pci_get32(cap, CAP_OFFSET), size = pci_get32(cap, CAP_LENGTH);

	if (cap[CAP_BAR] != 0 || (size != 1 && size != 2 && size != 4) || offset % size ||
	    offset > VIRTIO_PCI_BAR_SIZE - size)
		return;
	if (write)
		bar_write(&v->pci, offset, size,
			  pci_get32(cap, CAP_MORE) & (UINT32_MAX >> (32 - 8 * size)));
	else
		pci_put32(cap, CAP_MORE, bar_read(&v->pci, offset, size));
}

static void config_touched(struct pci_function *f, uint32_t offset, unsigned size, bool write)
{
	struct virtio *v = virtio_of(f);
	uint32_t data = v->window_cap + CAP_MORE;

	if (offset < data + 4 && data < offset + size)
		window_touched(v, write);
	if (write && offset <= v->msix_cap + 3u && v->msix_cap + 3u < offset + size)
		msix_control_set(&v->msix, (uint16_t)(f->config[v->msix_cap + 3] << 8));
}

static const struct pci_ops ops = {bar_read, bar_write, config_touched};

/* ---- the header ---- */

static uint8_t capability_put(struct pci_function *f, uint8_t type, uint32_t offset,
			      uint32_t length, uint8_t more)
{
	uint8_t bytes = (uint8_t)(CAP_BYTES + more),
		at = pci_capability_add(f, PCI_CAP_VENDOR, bytes);
	uint8_t *cap = f->config + at;

	cap[2] = bytes;
	cap[CAP_TYPE] = type;
	pci_put32(cap, CAP_OFFSET, offset);
	pci_put32(cap, CAP_LENGTH, length);
	return at;
}

static void capabilities_put(struct virtio *v)
{
	struct pci_function *f = &v->pci;
	uint8_t *writable = f->writable;
	uint8_t notify;

	capability_put(f, CAP_COMMON, BAR_COMMON, COMMON_END, 0);
	capability_put(f, CAP_ISR, BAR_ISR, 1, 0);
	if (v->device.config_size)
		capability_put(f, CAP_DEVICE, BAR_CONFIG, v->device.config_size, 0);
	notify = capability_put(f, CAP_NOTIFY, BAR_NOTIFY, v->device.queues * NOTIFY_STRIDE, 4);
	pci_put32(f->config, notify + CAP_MORE, NOTIFY_STRIDE);
	v->window_cap = capability_put(f, CAP_WINDOW, 0, 0, 4);
	writable[v->window_cap + CAP_BAR] = 0xff;
	for (unsigned i = CAP_OFFSET; i < CAP_MORE + 4; i++)
		writable[v->window_cap + i] = 0xff;
	v->msix_cap = pci_capability_add(f, PCI_CAP_MSIX, 12);
	pci_put16(f->config, v->msix_cap + 2u, (uint16_t)(v->msix.vectors - 1));
	pci_put16(writable, v->msix_cap + 2u, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
	pci_put32(f->config, v->msix_cap + 4u, BAR_MSIX);
	pci_put32(f->config, v->msix_cap + 8u, BAR_PENDING);
}

/* PCI class codes (Code and ID Assignment, 1.11) by the type of device. */
static uint32_t class_of(uint16_t id)
{
	switch (id) {
	case VIRTIO_ID_NET:
		return 0x020000;
	case VIRTIO_ID_BLK:
		return 0x010000;
	case VIRTIO_ID_CONSOLE:
		return 0x078000;
	case VIRTIO_ID_FS:
		return 0x018000;
	default:
		return 0x00ff00;
	}
}

int virtio_pci_init(struct virtio *v, void (*deliver)(void *ctx, uint64_t address, uint32_t data),
		    void *ctx)
{
	int err = msix_init(&v->msix, v->device.queues + 1, deliver, ctx);

	if (err)
		return err;
	pci_function_init(&v->pci, &ops, VENDOR_VIRTIO,
			  (uint16_t)(DEVICE_MODERN + v->device.ops->id),
			  class_of(v->device.ops->id));
	v->pci.bar_size = VIRTIO_PCI_BAR_SIZE;
	capabilities_put(v);
	return 0;
}

struct pci_function *virtio_function(struct virtio *v)
{
	return &v->pci;
}
