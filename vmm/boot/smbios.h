/* SPDX-License-Identifier: Apache-2.0 */
/* The SMBIOS tables: what the guest reads of its machine's name, serial number, processors and memory. */
#ifndef VMM_SMBIOS_H
#define VMM_SMBIOS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/shape.h"

/* The bytes before the first structure: the entry point, rounded up. */
#define SMBIOS_ENTRY_BYTES 0x20u
#define SMBIOS_UUID_BYTES  16u

/*
 * Writes entry point and structures (SMBIOS 3.4) into area (size bytes, zeroed by this call), which the guest will see
 * at area_gpa: a multiple of 16 from 0xF0000 on, where a kernel without EFI looks. name is the VM's, at most
 * NAME_MAX_LEN: serial number, and what the UUID is made of. Pure: any thread. Returns 0 or -ENOSPC.
 */
int smbios_build(const struct vm_shape *shape, const char *name, uint8_t *area, size_t size,
		 uint64_t area_gpa);
/* The same into guest memory, at LAYOUT_SMBIOS_START. Touches guest memory. 0, -ENOSPC or -ENOMEM. */
int smbios_place(const struct vm_shape *shape, const char *name, uint8_t *ram);
/* A VM's UUID (RFC 9562, version 8), in the order in which it is written: the same for the same name, as a disk's
 * software would have it across starts of its VM. */
void smbios_uuid(const char *name, uint8_t out[SMBIOS_UUID_BYTES]);

#endif
