/* SPDX-License-Identifier: Apache-2.0 */
/* A PCI bus of single-function devices: configuration space, base addresses, and who decodes what. */
#ifndef VMM_PCI_H
#define VMM_PCI_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PCI_DEVICES_MAX 32u
/* Of a conventional function; the extended space behind it reads as zeroes: no capabilities there. */
#define PCI_CONFIG_SIZE 256u
#define PCI_ECAM_BUS	(UINT32_C(1) << 20)

/* Registers of a type 0 header (PCI Local Bus 3.0, section 6.1). */
#define PCI_VENDOR     0x00u
#define PCI_DEVICE     0x02u
#define PCI_COMMAND    0x04u
#define PCI_STATUS     0x06u
#define PCI_REVISION   0x08u
#define PCI_CLASS      0x09u /* interface, sub-class, class */
#define PCI_BAR0       0x10u
#define PCI_SUB_VENDOR 0x2cu
#define PCI_SUB_ID     0x2eu
#define PCI_CAPS       0x34u

#define PCI_COMMAND_MEMORY  0x0002u
#define PCI_COMMAND_MASTER  0x0004u
#define PCI_COMMAND_NO_INTX 0x0400u
#define PCI_STATUS_CAPS	    0x0010u
#define PCI_CAP_VENDOR	    0x09u
#define PCI_CAP_MSIX	    0x11u

struct pci_function;

/* Called on any thread; they must not block for long, nor touch guest memory. size is 1, 2 or 4. */
struct pci_ops {
	uint32_t (*bar_read)(struct pci_function *f, uint32_t offset, unsigned size);
	void (*bar_write)(struct pci_function *f, uint32_t offset, unsigned size, uint32_t value);
	/*
	 * A look at [offset, offset + size) of the configuration space is coming (write false), or a store there was
	 * made: for registers that are more than memory. config may be read and written. The bus's lock is held. May
	 * be NULL.
	 */
	void (*config_touched)(struct pci_function *f, uint32_t offset, unsigned size, bool write);
};

/* A function, part of its device's own struct. */
struct pci_function {
	/* constant after pci_add */
	const struct pci_ops *ops;
	uint32_t
		bar_size; /* of BAR 0, 32 bits of memory, a power of two from 4096 on; 0: it has none */
	uint8_t writable[PCI_CONFIG_SIZE];
	uint8_t caps_link,
		caps_end; /* where the next capability's offset goes, and where it may begin */
	/* the bus's lock; bar_at also read without it */
	uint8_t config[PCI_CONFIG_SIZE];
	_Atomic uint32_t bar_at; /* where BAR 0 is decoded; 0: it is not */
};

struct pci_bus {
	struct pci_function *device[PCI_DEVICES_MAX]; /* constant once there are accesses */
	/* lock */
	pthread_mutex_t lock;
	uint32_t address; /* the register at port 0xcf8 */
};

/* 0, or a negative errno of the lock. */
int pci_bus_init(struct pci_bus *bus);
void pci_bus_destroy(struct pci_bus *bus);

/*
 * Fills in a header with what is the same for all: these ids, class (24 bits, as in PCI_CLASS), and which bits can be
 * written. Before pci_add.
 */
void pci_function_init(struct pci_function *f, const struct pci_ops *ops, uint16_t vendor,
		       uint16_t device, uint32_t class_code);
/*
 * Appends a capability of len bytes (its first two are written here) at a multiple of four, in the order of the calls;
 * returns its offset. The caller fills in the rest. There is room for all that one device has (asserted).
 */
uint8_t pci_capability_add(struct pci_function *f, uint8_t id, uint8_t len);
/* Puts the function at a free device number, BAR 0 at bar_gpa. The function outlives the bus. */
void pci_add(struct pci_bus *bus, unsigned number, struct pci_function *f, uint32_t bar_gpa);

/* Little-endian fields of the header and of capabilities. */
void pci_put16(uint8_t *bytes, unsigned at, uint16_t value);
void pci_put32(uint8_t *bytes, unsigned at, uint32_t value);
uint32_t pci_get32(const uint8_t *bytes, unsigned at);

/*
 * Configuration space by the enhanced access mechanism (PCI Express 5.0, section 7.2.2): offset within the bus's 1 MiB.
 * Absent functions read as ones. size 1, 2, 4; an access that crosses a dword reads as ones and is not written. Any
 * thread.
 */
uint32_t pci_ecam_read(struct pci_bus *bus, uint32_t offset, unsigned size);
void pci_ecam_write(struct pci_bus *bus, uint32_t offset, unsigned size, uint32_t value);
/* Configuration mechanism 1 (PCI Local Bus 3.0, section 3.2.2.3.2): the register at port 0xcf8, which bus 0 has for all. */
uint32_t pci_address_read(struct pci_bus *bus, unsigned size);
void pci_address_write(struct pci_bus *bus, unsigned size, uint32_t value);
/* Where the ports 0xcfc to 0xcff (byte 0 to 3) lead then: an offset from bus 0's configuration space on, 1 MiB a bus.
 * False: nowhere. Pure. */
bool pci_address_leads(uint32_t address, unsigned byte, uint32_t *offset);
/* Memory: goes to whoever decodes gpa; else ones, and nothing. size 1, 2, 4, 8. Any thread. */
uint64_t pci_memory_read(struct pci_bus *bus, uint64_t gpa, unsigned size);
void pci_memory_write(struct pci_bus *bus, uint64_t gpa, unsigned size, uint64_t value);

#endif
