/* SPDX-License-Identifier: Apache-2.0 */
/* Which guest addresses are RAM, and where they lie in this process. */
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

void guest_memory_changed(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	if (mem->changed && len > 0)
		mem->changed(mem->ctx, gpa, len);
}
