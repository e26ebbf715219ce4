/* SPDX-License-Identifier: Apache-2.0 */
/* The memory ranges of a VM's slices, checked and laid out as the table of homes. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "dsm/engine/engine_parts.h"

static bool range_valid(const struct engine_config *config, const struct engine_range *range)
{
	bool in_hole = range->start < GPA_HOLE_END && range->end > GPA_HOLE_START;

	return range->slice < config->slices && range->start < range->end &&
	       range->end <= config->ram_end && range->start % HOME_CHUNK_SIZE == 0 &&
	       range->end % HOME_CHUNK_SIZE == 0 && !in_hole;
}

static int range_fill(struct engine *e, const struct engine_range *range)
{
	uint64_t end = range->end >> HOME_CHUNK_SHIFT;

	for (uint64_t chunk = range->start >> HOME_CHUNK_SHIFT; chunk < end; chunk++) {
		if (e->home_of_chunk[chunk] != SLICE_NONE) {
			log_error("guest memory at 0x%llx has two homes: slices %u and %u",
				  (unsigned long long)(chunk << HOME_CHUNK_SHIFT),
				  e->home_of_chunk[chunk], range->slice);
			return -EINVAL;
		}
		e->home_of_chunk[chunk] = (uint8_t)range->slice;
	}
	return 0;
}

static int homes_complete(const struct engine *e)
{
	for (uint64_t chunk = 0; chunk < e->chunks; chunk++) {
		uint64_t gpa = chunk << HOME_CHUNK_SHIFT;
		bool hole = gpa >= GPA_HOLE_START && gpa < GPA_HOLE_END;

		if (!hole && e->home_of_chunk[chunk] == SLICE_NONE) {
			log_error("guest memory at 0x%llx has no home", (unsigned long long)gpa);
			return -EINVAL;
		}
	}
	return 0;
}

int engine_homes_create(struct engine *e)
{
	const struct engine_config *config = &e->config;
	void *table;
	int err = 0;

	if (config->ram_end == 0 || config->ram_end % HOME_CHUNK_SIZE ||
	    config->ram_end > GUEST_MEM_MAX + GPA_HOLE_END) {
		log_error("guest memory cannot end at 0x%llx", (unsigned long long)config->ram_end);
		return -EINVAL;
	}
	e->chunks = config->ram_end >> HOME_CHUNK_SHIFT;
	table = mmap(NULL, e->chunks, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED)
		return -ENOMEM;
	e->home_of_chunk = table;
	memset(table, SLICE_NONE, e->chunks);
	for (unsigned i = 0; i < config->ranges_count && !err; i++) {
		const struct engine_range *range = &config->ranges[i];

		if (range_valid(config, range)) {
			err = range_fill(e, range);
			continue;
		}
		log_error("memory range [0x%llx, 0x%llx) of slice %u cannot be",
			  (unsigned long long)range->start, (unsigned long long)range->end,
			  range->slice);
		err = -EINVAL;
	}
	return err ? err : homes_complete(e);
}
