/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of a VM: its slices, their CPUs and memory ranges, and the distances between them. */
#ifndef VMM_SHAPE_H
#define VMM_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/* The hole at 3 GiB can cut one slice's memory in two. */
#define SHAPE_RANGES_MAX 2

/* Read-only images of one VM, and how they lie: each begins at a multiple of SHAPE_IMAGE_ALIGN, at least HOME_CHUNK_SIZE
 * behind RAM or the one before, and takes whole pieces of HOME_CHUNK_SIZE: what Linux asks of persistent memory. */
#define SHAPE_IMAGES_MAX      4
#define SHAPE_IMAGE_ALIGN     (UINT64_C(1) << 30)
#define SHAPE_IMAGE_BYTES_MAX (UINT64_C(64) << 30)

/* 1 << this == VCPUS_MAX: with SLICES_MAX slices the ids fit in the 15 bits of an I/O APIC's destination. */
#define SHAPE_APIC_SHIFT_MAX 8

struct shape_range {
	uint64_t start, end; /* guest physical; multiples of HOME_CHUNK_SIZE */
};

struct shape_slice {
	unsigned first_vcpu, vcpus;
	uint64_t mem_bytes;
	unsigned ranges_count; /* 0 for a slice without memory */
	struct shape_range ranges[SHAPE_RANGES_MAX];
};

/* The same bytes on every slice, outside of the coherent memory (docs/images.md). */
struct shape_image {
	uint64_t start, end; /* guest physical */
	uint64_t bytes;	     /* of its file; the rest up to end is zero */
};

struct vm_shape {
	unsigned slices;
	unsigned vcpus;
	uint64_t ram_end; /* one past the last RAM address */
	/*
	 * vCPUs are numbered densely; the guest knows them by x2APIC ids, of which each slice has a power of two,
	 * so that a shift gives the slice and all its CPUs are one package.
	 */
	unsigned apic_shift;
	uint64_t bridges; /* slices other than 0 with a PCI host bridge, a bit each */
	struct shape_slice slice[SLICES_MAX];
	uint8_t distance[SLICES_MAX][SLICES_MAX];    /* ACPI SLIT: 10 to itself, 11..254 else */
	uint32_t latency_ns[SLICES_MAX][SLICES_MAX]; /* of an access to another slice; 0: unknown */
	unsigned images;
	struct shape_image image[SHAPE_IMAGES_MAX];
};

/*
 * Lays the slices out: CPUs and memory in slice order, memory around the hole. vcpus[i] and
 * mem_bytes[i] describe slice i. Errors: -EINVAL (no slices or too many, no CPU at all, no memory
 * at all, a size that is no multiple of HOME_CHUNK_SIZE, slice 0 without a CPU), -E2BIG (beyond
 * VCPUS_MAX or GUEST_MEM_MAX).
 */
int shape_init(struct vm_shape *shape, unsigned slices, const unsigned *vcpus,
	       const uint64_t *mem_bytes);
/*
 * Places an image of so many bytes behind what there is. -EINVAL (no bytes), -E2BIG (beyond SHAPE_IMAGE_BYTES_MAX), -ENOSPC
 * (there are SHAPE_IMAGES_MAX).
 */
int shape_image_add(struct vm_shape *shape, uint64_t bytes);
/* One past the last address of RAM and images. */
uint64_t shape_memory_end(const struct vm_shape *shape);
/* The slice of a vCPU; SLICES_MAX if there is none such. */
unsigned shape_slice_of_vcpu(const struct vm_shape *shape, unsigned vcpu);
/* The x2APIC id of a vCPU that there is. */
uint32_t shape_apic_id(const struct vm_shape *shape, unsigned vcpu);
/* And back; VCPUS_MAX if no vCPU has this id. */
unsigned shape_vcpu_of_apic_id(const struct vm_shape *shape, uint32_t apic_id);
/* Has the slice a PCI host bridge? Slice 0 always has one. */
bool shape_has_bridge(const struct vm_shape *shape, unsigned slice);

#endif
