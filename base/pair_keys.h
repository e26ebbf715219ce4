/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of the pairs of a VM's slices, made of the VM's secret; a library of its own (pangea_keys). */
#ifndef BASE_PAIR_KEYS_H
#define BASE_PAIR_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define PAIR_KEY_SIZE	 32u
#define PAIR_SECRET_SIZE 32u

/*
 * What one slice knows: the key that it shares with each other slice, and no other key. So it can
 * prove that it is itself, and cannot speak for another. Its own entry is zero.
 */
struct pair_keys {
	uint8_t key[SLICES_MAX][PAIR_KEY_SIZE];
};

/*
 * The keys of slice self of a VM (its incarnation) of so many slices in this epoch. Each is
 * HMAC-SHA256(secret, "pangea pair" | vm | epoch | i | j), i < j, the numbers little-endian of 8, 4,
 * 2 and 2 bytes; so both slices of a pair get the same. Any thread.
 */
void pair_keys_derive(const uint8_t secret[PAIR_SECRET_SIZE], uint64_t vm, uint32_t epoch,
		      unsigned self, unsigned slices, struct pair_keys *out);
/* HMAC-SHA256 over the parts, one after the other: 32 bytes to out. Any thread. */
struct pair_part {
	const void *bytes;
	size_t len;
};
void pair_hmac(const uint8_t key[PAIR_KEY_SIZE], const struct pair_part *parts, unsigned count,
	       uint8_t out[PAIR_KEY_SIZE]);
/* Are two proofs or keys the same? Takes as long whether they are or not. */
int pair_equal(const uint8_t a[PAIR_KEY_SIZE], const uint8_t b[PAIR_KEY_SIZE]);
/* Overwrites what must not stay in memory. */
void pair_wipe(void *bytes, size_t len);

#endif
