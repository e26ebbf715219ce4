/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI bus of a slice: its host bridge, the virtio devices, their interrupts and their threads. */
#include <errno.h>
#include <stdlib.h>

#include "vmm/boot/layout.h"
#include "vmm/machine/machine_parts.h"
#include "vmm/virtio/virtio_pci.h"

/* A host bridge that no driver binds to, by the name that other monitors without a chipset give it. */
#define BRIDGE_VENDOR 0x8086u
#define BRIDGE_DEVICE 0x0d57u
#define BRIDGE_CLASS  0x060000u

/* Message signalled interrupts (SDM 3A, section 11.11). Bits 11:5 hold bits 14:8 of the destination, as in the I/O
 * APIC's entries (KVM_FEATURE_MSI_EXT_DEST_ID). */
#define MSI_ADDRESS_BASE 0xfee00000u
#define MSI_ADDRESS_MASK UINT64_C(0xfffffffffff00000)
#define MSI_LOGICAL	 4u

struct machine_pci {
	struct pci_bus bus;
	struct pci_function bridge;
	unsigned count;
	struct virtio *device[MACHINE_DEVICES_MAX];
};

/* ---- what the devices call: ctx is the machine ---- */

static void msi_deliver(void *ctx, uint64_t address, uint32_t data)
{
	struct ipi ipi = {.dest = (uint32_t)(address >> 12 & 0xff) | (uint32_t)(address >> 5 & 0x7f)
									     << 8,
			  .exclude = IPI_NOBODY,
			  .vector = (uint8_t)data,
			  .delivery = data >> 8 & 7,
			  .logical = address & MSI_LOGICAL};

	/* Elsewhere it would be a write to memory, which no driver wants of an interrupt. */
	if ((address & MSI_ADDRESS_MASK) != MSI_ADDRESS_BASE)
		return;
	if (ipi.delivery == IPI_FIXED || ipi.delivery == IPI_LOWEST || ipi.delivery == IPI_NMI)
		machine_ipi(ctx, NULL, &ipi);
}

static void memory_changed(void *ctx, uint64_t gpa, uint64_t len)
{
	struct machine *m = ctx;

	if (m->ops->memory_changed)
		m->ops->memory_changed(m->vcpu_shared, gpa, len);
}

static void device_gone(void *ctx)
{
	machine_thread_gone(ctx);
}

/* ---- the bus's side ---- */

/* dev is the struct pci_bus; an address's offset is within its bus. */
static uint64_t ecam_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	uint32_t offset = (uint32_t)(addr - LAYOUT_PCI_ECAM) % LAYOUT_PCI_ECAM_BUS;

	(void)vcpu;
	return size > 4 ? bus_ones(size) : pci_ecam_read(dev, offset, size);
}

static void ecam_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	uint32_t offset = (uint32_t)(addr - LAYOUT_PCI_ECAM) % LAYOUT_PCI_ECAM_BUS;

	(void)vcpu;
	if (size <= 4)
		pci_ecam_write(dev, offset, size, (uint32_t)value);
}

static uint64_t window_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	(void)vcpu;
	return pci_memory_read(dev, addr, size);
}

static void window_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	(void)vcpu;
	pci_memory_write(dev, addr, size, value);
}

static uint64_t address_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	(void)vcpu;
	(void)addr;
	return pci_address_read(dev, size);
}

static void address_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	(void)vcpu;
	(void)addr;
	pci_address_write(dev, size, (uint32_t)value);
}

/*
 * The data ports of mechanism 1 may lead to any slice, and slice 0's engine thread could not wait for a third one. So
 * each slice decodes them for its own vCPUs, which may wait: dev is the machine. Nobody else may ask for them.
 */
static bool data_leads(struct machine *m, unsigned vcpu, uint64_t port, uint64_t *gpa)
{
	uint32_t address = bus_pio_read(&m->bus, vcpu, LAYOUT_PCI_ADDRESS_PORT, 4), offset;

	if (!pci_address_leads(address, (unsigned)(port - LAYOUT_PCI_DATA_PORT), &offset) ||
	    offset >= LAYOUT_PCI_ECAM_SIZE)
		return false;
	*gpa = LAYOUT_PCI_ECAM + offset;
	return true;
}

static uint64_t data_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	struct machine *m = dev;
	uint64_t gpa;

	return data_leads(m, vcpu, addr, &gpa) ? bus_mmio_read(&m->bus, vcpu, gpa, size)
					       : bus_ones(size);
}

static void data_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	struct machine *m = dev;
	uint64_t gpa;

	if (data_leads(m, vcpu, addr, &gpa))
		bus_mmio_write(&m->bus, vcpu, gpa, size, value);
}

/*
 * A window of another slice: dev is its door. Only notifications are posted, which nothing else must come behind. CPUs
 * of several slices may use a device's other registers in turn, and with posted writes nothing would keep the turns.
 */
static uint64_t far_read(void *dev, unsigned vcpu, uint64_t addr, unsigned size)
{
	return remote_memory_ops.read(dev, vcpu, addr, size);
}

static void far_write(void *dev, unsigned vcpu, uint64_t addr, unsigned size, uint64_t value)
{
	uint64_t offset = addr % VIRTIO_PCI_BAR_SIZE - VIRTIO_PCI_BAR_NOTIFY;
	const struct bus_ops *far =
		offset < PANGEA_PAGE_SIZE ? &remote_posted_ops : &remote_memory_ops;

	far->write(dev, vcpu, addr, size, value);
}

/* A slice's bus: its configuration space and its window. */
static int bridge_attach(struct machine *m, unsigned slice)
{
	static const struct bus_ops ecam = {ecam_read, ecam_write},
				    window = {window_read, window_write},
				    far = {far_read, far_write};
	void *dev = slice == m->self ? &m->pci->bus : NULL;
	int err = machine_mmio_claim(m, slice, LAYOUT_PCI_ECAM + slice * LAYOUT_PCI_ECAM_BUS,
				     LAYOUT_PCI_ECAM_BUS, &ecam, dev, &remote_mmio_ops);

	return err ? err
		   : machine_mmio_claim(m, slice, LAYOUT_PCI_WINDOW + slice * LAYOUT_PCI_WINDOW_BUS,
					LAYOUT_PCI_WINDOW_BUS, &window, dev, &far);
}

int machine_pci_attach(struct machine *m)
{
	static const struct bus_ops address = {address_read, address_write},
				    data = {data_read, data_write};
	int err = machine_ports_claim(m, 0, LAYOUT_PCI_ADDRESS_PORT, 1, &address,
				      m->self == 0 ? &m->pci->bus : NULL);

	if (!err)
		err = bus_add_ports(&m->bus, LAYOUT_PCI_DATA_PORT, LAYOUT_PCI_DATA_SIZE, &data, m);
	for (unsigned i = 0; i < m->shape.slices && !err; i++)
		if (shape_has_bridge(&m->shape, i))
			err = bridge_attach(m, i);
	return err;
}

/* ---- life ---- */

static int devices_create(struct machine *m, struct machine_pci *pci,
			  const struct machine_config *c)
{
	const struct virtio_env env = {.mem = {.ram = c->ram,
					       .ram_end = m->shape.ram_end,
					       .changed = memory_changed,
					       .ctx = m,
					       .images = m->shape.images,
					       .image = m->shape.image},
				       .deliver = msi_deliver,
				       .thread_gone = device_gone,
				       .ctx = m};
	int err = 0;

	for (unsigned i = 0; i < c->devices_count && !err; i++) {
		err = virtio_create(&c->devices[i], &env, &pci->device[i]);
		if (err)
			break;
		pci->count++;
		pci_add(&pci->bus, i + 1, virtio_function(pci->device[i]),
			LAYOUT_PCI_WINDOW + m->self * LAYOUT_PCI_WINDOW_BUS +
				i * VIRTIO_PCI_BAR_SIZE);
	}
	return err;
}

void machine_pci_drop(const struct machine_config *c, unsigned first)
{
	for (unsigned i = first; i < c->devices_count; i++)
		if (c->devices[i].ops->destroy)
			c->devices[i].ops->destroy(c->devices[i].dev);
}

static void pci_free(struct machine_pci *pci)
{
	for (unsigned i = 0; i < pci->count; i++)
		virtio_destroy(pci->device[i]);
	pci_bus_destroy(&pci->bus);
	free(pci);
}

int machine_pci_create(struct machine *m, const struct machine_config *c)
{
	static const struct pci_ops bridge_ops = {0};
	struct machine_pci *pci = calloc(1, sizeof(*pci));
	int err = pci ? pci_bus_init(&pci->bus) : -ENOMEM;

	if (err) {
		machine_pci_drop(c, 0);
		free(pci);
		return err;
	}
	pci_function_init(&pci->bridge, &bridge_ops, BRIDGE_VENDOR, BRIDGE_DEVICE, BRIDGE_CLASS);
	pci_add(&pci->bus, 0, &pci->bridge, 0);
	err = devices_create(m, pci, c);
	if (err) {
		machine_pci_drop(c, pci->count + 1);
		pci_free(pci);
		return err;
	}
	m->pci = pci;
	return 0;
}

void machine_pci_destroy(struct machine *m)
{
	if (m->pci)
		pci_free(m->pci);
	m->pci = NULL;
}

int machine_pci_start(struct machine *m)
{
	struct machine_pci *pci = m->pci;
	int err = 0;

	for (unsigned i = 0; pci && i < pci->count && !err; i++) {
		machine_thread_new(m);
		err = virtio_start(pci->device[i]);
		if (err)
			machine_thread_gone(m);
	}
	return err;
}

void machine_pci_halt(struct machine *m)
{
	for (unsigned i = 0; m->pci && i < m->pci->count; i++)
		virtio_halt(m->pci->device[i]);
}

void machine_pci_join(struct machine *m)
{
	for (unsigned i = 0; m->pci && i < m->pci->count; i++)
		virtio_join(m->pci->device[i]);
}
