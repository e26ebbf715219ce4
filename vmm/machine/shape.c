/* SPDX-License-Identifier: Apache-2.0 */
/* Lays out a VM's CPUs and memory over its slices, around the hole below 4 GiB. */
#include "vmm/machine/shape.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

#define DISTANCE_LOCAL 10
/* Until measured: far, as coordinator_distance.c says. */
#define DISTANCE_REMOTE NUMA_DISTANCE_MAX

static int slices_check(unsigned slices, const unsigned *vcpus, const uint64_t *mem_bytes)
{
	unsigned vcpus_total = 0;
	uint64_t mem_total = 0;

	if (slices == 0 || slices > SLICES_MAX || vcpus[0] == 0)
		return -EINVAL;
	for (unsigned i = 0; i < slices; i++) {
		if (mem_bytes[i] % HOME_CHUNK_SIZE)
			return -EINVAL;
		if (vcpus[i] > VCPUS_MAX || mem_bytes[i] > GUEST_MEM_MAX)
			return -E2BIG;
		vcpus_total += vcpus[i];
		mem_total += mem_bytes[i];
	}
	if (mem_total == 0)
		return -EINVAL;
	if (vcpus_total > VCPUS_MAX || mem_total > GUEST_MEM_MAX)
		return -E2BIG;
	return 0;
}

static void slice_add_range(struct shape_slice *slice, uint64_t start, uint64_t end)
{
	slice->ranges[slice->ranges_count++] = (struct shape_range){start, end};
}

/* Gives the slice its memory from *gpa on; moves *gpa behind it, over the hole. */
static void slice_place(struct shape_slice *slice, uint64_t *gpa)
{
	uint64_t left = slice->mem_bytes;

	if (left && *gpa < GPA_HOLE_START) {
		uint64_t room = GPA_HOLE_START - *gpa;
		uint64_t low = left < room ? left : room;

		slice_add_range(slice, *gpa, *gpa + low);
		*gpa += low;
		left -= low;
	}
	if (*gpa == GPA_HOLE_START)
		*gpa = GPA_HOLE_END;
	if (left) {
		slice_add_range(slice, *gpa, *gpa + left);
		*gpa += left;
	}
}

/*
 * At least 3 where there are several slices: Linux takes bits from 3 up of the x2APIC id for the last-level cache
 * of AMD's CPU model (family 17h, models 0 to 1Fh), whatever CPUID says of caches.
 */
#define APIC_SHIFT_LEAST 3

static unsigned apic_shift_of(const struct vm_shape *shape)
{
	unsigned shift = shape->slices > 1 ? APIC_SHIFT_LEAST : 0;

	for (unsigned i = 0; i < shape->slices; i++)
		while (shape->slice[i].vcpus > 1u << shift)
			shift++;
	return shift;
}

int shape_init(struct vm_shape *shape, unsigned slices, const unsigned *vcpus,
	       const uint64_t *mem_bytes)
{
	uint64_t gpa = 0;
	int err = slices_check(slices, vcpus, mem_bytes);

	if (err)
		return err;
	memset(shape, 0, sizeof(*shape));
	shape->slices = slices;
	for (unsigned i = 0; i < slices; i++) {
		struct shape_slice *slice = &shape->slice[i];

		slice->first_vcpu = shape->vcpus;
		slice->vcpus = vcpus[i];
		slice->mem_bytes = mem_bytes[i];
		slice_place(slice, &gpa);
		if (slice->ranges_count)
			shape->ram_end = slice->ranges[slice->ranges_count - 1].end;
		shape->vcpus += vcpus[i];
		for (unsigned j = 0; j < slices; j++)
			shape->distance[i][j] = i == j ? DISTANCE_LOCAL : DISTANCE_REMOTE;
	}
	shape->apic_shift = apic_shift_of(shape);
	return 0;
}

uint64_t shape_memory_end(const struct vm_shape *shape)
{
	return shape->images ? shape->image[shape->images - 1].end : shape->ram_end;
}

int shape_image_add(struct vm_shape *shape, uint64_t bytes)
{
	uint64_t before = shape_memory_end(shape), start, size;

	if (!bytes)
		return -EINVAL;
	if (bytes > SHAPE_IMAGE_BYTES_MAX)
		return -E2BIG;
	if (shape->images == SHAPE_IMAGES_MAX)
		return -ENOSPC;
	if (before < GPA_HOLE_END)
		before = GPA_HOLE_END;
	start = (before + HOME_CHUNK_SIZE + SHAPE_IMAGE_ALIGN - 1) & ~(SHAPE_IMAGE_ALIGN - 1);
	size = (bytes + HOME_CHUNK_SIZE - 1) & ~(HOME_CHUNK_SIZE - 1);
	shape->image[shape->images++] = (struct shape_image){start, start + size, bytes};
	return 0;
}

unsigned shape_slice_of_vcpu(const struct vm_shape *shape, unsigned vcpu)
{
	for (unsigned i = 0; i < shape->slices; i++) {
		const struct shape_slice *slice = &shape->slice[i];

		if (vcpu >= slice->first_vcpu && vcpu - slice->first_vcpu < slice->vcpus)
			return i;
	}
	return SLICES_MAX;
}

uint32_t shape_apic_id(const struct vm_shape *shape, unsigned vcpu)
{
	unsigned slice = shape_slice_of_vcpu(shape, vcpu);

	invariant(slice < shape->slices);
	return slice << shape->apic_shift | (vcpu - shape->slice[slice].first_vcpu);
}

unsigned shape_vcpu_of_apic_id(const struct vm_shape *shape, uint32_t apic_id)
{
	uint32_t slice = apic_id >> shape->apic_shift;
	uint32_t index = apic_id & ((1u << shape->apic_shift) - 1);

	if (slice >= shape->slices || index >= shape->slice[slice].vcpus)
		return VCPUS_MAX;
	return shape->slice[slice].first_vcpu + index;
}

bool shape_has_bridge(const struct vm_shape *shape, unsigned slice)
{
	return slice < shape->slices && (slice == 0 || (shape->bridges >> slice & 1));
}
