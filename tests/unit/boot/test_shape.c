/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of CPUs and memory over slices: holes, bounds, and refusals. */
#include <criterion/criterion.h>
#include <errno.h>

#include "vmm/machine/shape.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

Test(shape, two_even_slices)
{
	struct vm_shape s;
	unsigned vcpus[] = {2, 2};
	uint64_t mem[] = {512 * MIB, 512 * MIB};

	cr_assert_eq(shape_init(&s, 2, vcpus, mem), 0);
	cr_assert_eq(s.vcpus, 4);
	cr_assert_eq(s.ram_end, GIB);
	cr_assert_eq(s.slice[1].first_vcpu, 2);
	cr_assert_eq(s.slice[1].ranges_count, 1);
	cr_assert_eq(s.slice[1].ranges[0].start, 512 * MIB);
	cr_assert_eq(s.distance[0][0], 10);
	cr_assert_eq(s.distance[0][1], 254);
	cr_assert_eq(shape_slice_of_vcpu(&s, 1), 0);
	cr_assert_eq(shape_slice_of_vcpu(&s, 2), 1);
	cr_assert_eq(shape_slice_of_vcpu(&s, 4), SLICES_MAX);
}

Test(shape, the_hole_cuts_a_slice)
{
	struct vm_shape s;
	unsigned vcpus[] = {1, 1, 1};
	uint64_t mem[] = {2 * GIB, 2 * GIB, GIB};

	cr_assert_eq(shape_init(&s, 3, vcpus, mem), 0);
	cr_assert_eq(s.slice[1].ranges_count, 2);
	cr_assert_eq(s.slice[1].ranges[0].end, GPA_HOLE_START);
	cr_assert_eq(s.slice[1].ranges[1].start, GPA_HOLE_END);
	cr_assert_eq(s.slice[1].ranges[1].end, GPA_HOLE_END + GIB);
	cr_assert_eq(s.slice[2].ranges[0].start, GPA_HOLE_END + GIB);
	cr_assert_eq(s.ram_end, 6 * GIB);
}

Test(shape, memory_that_ends_at_the_hole)
{
	struct vm_shape s;
	unsigned vcpus[] = {1, 1};
	uint64_t mem[] = {3 * GIB, 2 * MIB};

	cr_assert_eq(shape_init(&s, 1, vcpus, mem), 0);
	cr_assert_eq(s.ram_end, GPA_HOLE_START);
	cr_assert_eq(shape_init(&s, 2, vcpus, mem), 0);
	cr_assert_eq(s.slice[1].ranges[0].start, GPA_HOLE_END);
}

Test(shape, memory_only_and_cpu_only_slices)
{
	struct vm_shape s;
	unsigned vcpus[] = {1, 0, 3};
	uint64_t mem[] = {0, 64 * MIB, 0};

	cr_assert_eq(shape_init(&s, 3, vcpus, mem), 0);
	cr_assert_eq(s.slice[0].ranges_count, 0);
	cr_assert_eq(s.slice[2].ranges_count, 0);
	cr_assert_eq(s.ram_end, 64 * MIB);
	cr_assert_eq(shape_slice_of_vcpu(&s, 1), 2);
}

Test(shape, refusals)
{
	struct vm_shape s;
	unsigned one[] = {1}, none[] = {0}, many[] = {VCPUS_MAX, 1};
	uint64_t mem[] = {64 * MIB, 64 * MIB}, odd[] = {64 * MIB + 4096}, empty[] = {0},
		 huge[] = {GUEST_MEM_MAX + HOME_CHUNK_SIZE};

	cr_assert_eq(shape_init(&s, 0, one, mem), -EINVAL);
	cr_assert_eq(shape_init(&s, SLICES_MAX + 1, one, mem), -EINVAL);
	cr_assert_eq(shape_init(&s, 1, none, mem), -EINVAL);
	cr_assert_eq(shape_init(&s, 1, one, odd), -EINVAL);
	cr_assert_eq(shape_init(&s, 1, one, empty), -EINVAL);
	cr_assert_eq(shape_init(&s, 1, one, huge), -E2BIG);
	cr_assert_eq(shape_init(&s, 2, many, mem), -E2BIG);
}

/* The ids that the guest knows: dense on one slice, a power of two for each of several, and back. */
Test(shape, apic_ids)
{
	static const struct {
		unsigned slices, vcpus[SLICES_MAX], shift;
	} cases[] = {{1, {5}, 3},    {1, {8}, 3},	{1, {1}, 0},
		     {2, {1, 1}, 3}, {3, {2, 0, 9}, 4}, {2, {8, 1}, 3}};

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		uint64_t mem[SLICES_MAX] = {HOME_CHUNK_SIZE};
		struct vm_shape s;
		unsigned found = 0;

		cr_assert_eq(shape_init(&s, cases[c].slices, cases[c].vcpus, mem), 0);
		cr_expect_eq(s.apic_shift, cases[c].shift, "case %zu", c);
		for (unsigned i = 0; i < s.vcpus; i++) {
			uint32_t id = shape_apic_id(&s, i);

			cr_expect_eq(id >> s.apic_shift, shape_slice_of_vcpu(&s, i));
			cr_expect_eq(shape_vcpu_of_apic_id(&s, id), i);
		}
		for (uint32_t id = 0; id < 1024; id++)
			found += shape_vcpu_of_apic_id(&s, id) != VCPUS_MAX;
		cr_expect_eq(found, s.vcpus);
		cr_expect_eq(shape_vcpu_of_apic_id(&s, UINT32_MAX), VCPUS_MAX);
	}
}

Test(shape, images_lie_behind_memory_with_gaps)
{
	struct vm_shape s;
	unsigned vcpus[] = {1};
	uint64_t mem[] = {64 * MIB}, big[] = {6 * GIB}, end;

	cr_assert_eq(shape_init(&s, 1, vcpus, mem), 0);
	cr_expect_eq(shape_memory_end(&s), s.ram_end);
	cr_expect_eq(shape_image_add(&s, 0), -EINVAL);
	cr_expect_eq(shape_image_add(&s, SHAPE_IMAGE_BYTES_MAX + 1), -E2BIG);
	cr_assert_eq(s.images, 0);
	cr_assert_eq(shape_image_add(&s, 1), 0);
	cr_expect_eq(s.image[0].start, 5 * GIB, "behind the hole");
	cr_expect_eq(s.image[0].end, 5 * GIB + 2 * MIB);
	cr_expect_eq(s.image[0].bytes, 1);
	cr_assert_eq(shape_image_add(&s, GIB), 0);
	cr_assert_eq(shape_image_add(&s, 3 * MIB), 0);
	cr_assert_eq(shape_image_add(&s, SHAPE_IMAGE_BYTES_MAX), 0);
	end = s.ram_end;
	for (unsigned i = 0; i < s.images; i++) {
		cr_expect_eq(s.image[i].start % SHAPE_IMAGE_ALIGN, 0);
		cr_expect_eq((s.image[i].end - s.image[i].start) % HOME_CHUNK_SIZE, 0);
		cr_expect_geq(s.image[i].start, end + HOME_CHUNK_SIZE, "neighbours would be one");
		end = s.image[i].end;
	}
	cr_expect_eq(shape_memory_end(&s), end);
	cr_expect_eq(shape_image_add(&s, 1), -ENOSPC);
	cr_assert_eq(shape_init(&s, 1, vcpus, big), 0);
	cr_assert_eq(shape_image_add(&s, 1), 0);
	cr_expect_eq(s.image[0].start, 8 * GIB);
}
