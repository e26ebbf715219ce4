/* SPDX-License-Identifier: Apache-2.0 */
/* Which guest addresses are RAM or an image, and where they lie in this process. */
#include "vmm/virtio/guest_memory.h"

#include "base/limits.h"

uint8_t *guest_memory_at(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	uint64_t end = mem->ram_end;

	if (gpa < GPA_HOLE_START)
		end = end < GPA_HOLE_START ? end : GPA_HOLE_START;
	else if (gpa < GPA_HOLE_END)
		return NULL;
	if (gpa >= end || len > end - gpa)
		return NULL;
	return mem->ram + gpa;
}

bool guest_memory_image(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < mem->images; i++) {
		const struct shape_image *image = &mem->image[i];

		if (gpa >= image->start && gpa < image->end)
			return len <= image->end - gpa;
	}
	return false;
}

const uint8_t *guest_memory_readable(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	return guest_memory_image(mem, gpa, len) ? mem->ram + gpa : guest_memory_at(mem, gpa, len);
}

void guest_memory_changed(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	if (mem->changed && len > 0)
		mem->changed(mem->ctx, gpa, len);
}
