/* SPDX-License-Identifier: Apache-2.0 */
/* Spreads keys that lie close together (page numbers) over the places of a table. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdint.h>

/*
 * Multiplication by 2^64 divided by the golden ratio (Knuth, volume 3, 6.4). The high bits of the
 * product depend on all of the key, and of the 32 that are returned the highest are the best. Pure;
 * any thread. Not for keys that an attacker chooses to collide.
 */
static inline uint32_t hash_u64(uint64_t key)
{
	return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

#endif
