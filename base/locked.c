/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of LOCKed accesses, on values and on bytes. */
#include "base/locked.h"

#include <string.h>

#include "base/limits.h"

unsigned locked_size(const struct locked_access *a)
{
	return a->part[0].bytes + a->part[1].bytes;
}

static bool part_valid(const struct locked_part *part)
{
	return part->bytes <= PANGEA_PAGE_SIZE &&
	       part->gpa % PANGEA_PAGE_SIZE <= PANGEA_PAGE_SIZE - part->bytes;
}

bool locked_valid(const struct locked_access *a)
{
	if ((unsigned)a->type >= LOCKED_TYPES || !a->part[0].bytes || !part_valid(&a->part[0]) ||
	    !part_valid(&a->part[1]))
		return false;
	switch (locked_size(a)) {
	case 1:
	case 2:
	case 4:
	case 8:
		return true;
	case 16:
		return a->type == LOCKED_SET || a->type == LOCKED_COMPARE;
	default:
		return false;
	}
}

static uint64_t word_apply(enum locked_type type, uint64_t old, uint64_t operand)
{
	switch (type) {
	case LOCKED_ADD:
		return old + operand;
	case LOCKED_AND:
		return old & operand;
	case LOCKED_OR:
		return old | operand;
	case LOCKED_XOR:
		return old ^ operand;
	case LOCKED_NEG:
		return 0 - old;
	case LOCKED_SET:
	case LOCKED_COMPARE:
	case LOCKED_TYPES:
		break;
	}
	return operand;
}

void locked_apply(const struct locked_access *a, const uint64_t old[2], uint64_t result[2])
{
	unsigned size = locked_size(a);
	uint64_t mask = size >= 8 ? UINT64_MAX : (UINT64_C(1) << size * 8) - 1;
	bool equal = old[0] == (a->expected[0] & mask) && (size < 16 || old[1] == a->expected[1]);

	if (a->type == LOCKED_COMPARE && !equal) {
		result[0] = old[0];
		result[1] = old[1];
		return;
	}
	result[0] = word_apply(a->type, old[0], a->operand[0]) & mask;
	result[1] = size < 16 ? 0 : a->operand[1];
}

void locked_perform(struct locked_access *a, uint8_t *const place[2])
{
	unsigned first = a->part[0].bytes, second = a->part[1].bytes;
	uint64_t old[2] = {0}, result[2];
	uint8_t *bytes = (uint8_t *)old;

	memcpy(bytes, place[0], first);
	if (second)
		memcpy(bytes + first, place[1], second);
	locked_apply(a, old, result);
	bytes = (uint8_t *)result;
	memcpy(place[0], bytes, first);
	if (second)
		memcpy(place[1], bytes + first, second);
	a->old[0] = old[0];
	a->old[1] = old[1];
}
