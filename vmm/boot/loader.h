/* SPDX-License-Identifier: Apache-2.0 */
/* Direct boot of a Linux kernel: reads bzImage or ELF, lays it out in guest memory, no firmware. */
#ifndef VMM_LOADER_H
#define VMM_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/shape.h"
#include "vmm/cpu/vcpu.h"

/* A kernel of 512 MiB, an initrd of 2 GiB: beyond what any distribution ships. */
#define LOADER_KERNEL_MAX (UINT64_C(512) << 20)
#define LOADER_INITRD_MAX (UINT64_C(2) << 30)

struct loader_image;

/*
 * Reads and checks the files against the shape: all that can be wrong with them shows here, before
 * the guest exists. initrd_path may be "" or NULL. The files' contents are copied.
 * Errors, each with a sentence in why (why_size bytes): -errno of open and read, -PANGEA_EKERNEL
 * (not a kernel with the 64-bit boot protocol, or memory too small for it), -PANGEA_EINITRD (does
 * not fit beside the kernel), -E2BIG (command line too long), -ENOMEM.
 */
int loader_open(const struct vm_shape *shape, const char *kernel_path, const char *initrd_path,
		const char *cmdline, struct loader_image **out, char *why, size_t why_size);

/*
 * Writes kernel, initrd, command line, boot_params (with the e820 map), a random seed, ACPI tables, GDT and
 * identity page tables into guest memory at ram, and sets the boot CPU's state to the 64-bit entry
 * (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). shape is that of loader_open, now with
 * the measured distances. Any thread that may touch guest memory; blocks while pages come.
 * Returns 0, -ENOMEM, -EIO (no random numbers), or -ENOSPC (the ACPI tables do not fit their area).
 */
int loader_place(const struct loader_image *image, const struct vm_shape *shape, uint8_t *ram,
		 struct vcpu_state *bsp);

/* Whether the kernel is a program that ends through the debug-exit port: an ELF file with a note of
 * owner "Pangea", type 1. */
bool loader_debug_exit(const struct loader_image *image);

void loader_close(struct loader_image *image);

#endif
