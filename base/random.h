/* SPDX-License-Identifier: Apache-2.0 */
/* Small generators of pseudo-random numbers, the same on every machine: for tests and benchmarks, where
 * a seed must give one sequence for ever. Not for keys: those are the kernel's (getrandom). */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/* Marsaglia's xorshift64 (13, 7, 17). *state is the seed, never zero. Any thread; *state is the
 * caller's alone. */
static inline uint64_t random_xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* xorshift64*: its high bits are better. The same rules. */
static inline uint64_t random_xorshift_star(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Steele, Lea and Flood's splitmix64: any seed will do, zero too. */
static inline uint64_t random_splitmix(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

#endif
