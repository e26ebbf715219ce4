/* SPDX-License-Identifier: Apache-2.0 */
/* Radix sort of one thread's keys: three passes of 11 bits, all counts taken in one read. */
#include <string.h>

#include "selftest.h"

#define DIGIT_BITS 11
#define BUCKETS	   (1u << DIGIT_BITS)
#define PASSES	   3

static unsigned digit_of(uint32_t key, unsigned pass)
{
	return (key >> (pass * DIGIT_BITS)) & (BUCKETS - 1);
}

/* Turns counts into the index at which each bucket starts. */
static void counts_to_starts(uint32_t *count)
{
	uint32_t start = 0;
	for (unsigned b = 0; b < BUCKETS; b++) {
		uint32_t n = count[b];
		count[b] = start;
		start += n;
	}
}

void radix_sort(uint32_t *keys, uint32_t *spare, size_t count)
{
	uint32_t start[PASSES][BUCKETS];
	memset(start, 0, sizeof(start));
	for (size_t i = 0; i < count; i++)
		for (unsigned p = 0; p < PASSES; p++)
			start[p][digit_of(keys[i], p)]++;
	uint32_t *from = keys, *to = spare;
	for (unsigned p = 0; p < PASSES; p++) {
		counts_to_starts(start[p]);
		for (size_t i = 0; i < count; i++)
			to[start[p][digit_of(from[i], p)]++] = from[i];
		uint32_t *other = from;
		from = to;
		to = other;
	}
}
