/* SPDX-License-Identifier: Apache-2.0 */
/* The limits that several parts share, each with its reason. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <stdint.h>

#define PAGE_SHIFT	 12
#define PANGEA_PAGE_SIZE 4096u

/* The sharer set of the directory is one 64-bit word. */
#define SLICES_MAX 64
/* x2APIC ids are dense; MADT entries and per-CPU arrays are sized by it. */
#define VCPUS_MAX 256
/* Guest physical addresses are 46 bits; metadata for 4 TiB is 2 GiB of lazily backed arrays. */
#define GUEST_MEM_MAX (UINT64_C(4) << 40)
/* The PCI/APIC hole: RAM lies in [0, 3 GiB) and from 4 GiB on. */
#define GPA_HOLE_START (UINT64_C(3) << 30)
#define GPA_HOLE_END   (UINT64_C(4) << 30)
/* A slice's memory comes in these pieces: the home of a page is found by one table look-up. */
#define HOME_CHUNK_SHIFT 21
#define HOME_CHUNK_SIZE	 (UINT64_C(1) << HOME_CHUNK_SHIFT)
/* Linux's own limit on the command line for x86 (COMMAND_LINE_SIZE). */
#define CMDLINE_MAX 2048
/* The hottest pages that a slice names: more than people look at, few enough for a message a
 * second.
 */
#define HOT_PAGES_MAX 16u
/* The same of the places in its code where it faults most. */
#define FAULT_PLACES_MAX 64u
/* ACPI's distance from a NUMA node to another one: 10 is to itself, 255 no way at all. */
#define NUMA_DISTANCE_MIN 11
#define NUMA_DISTANCE_MAX 254
/* Names of nodes, VMs: they appear in file names and tables. */
#define NAME_MAX_LEN 63

#endif
