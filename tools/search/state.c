/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a world as few bytes: the words that differ from a base, without their zero bytes.
 */
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "tools/search/search.h"

/* Per word that differs: its index, which of its bytes differ, and those. */
#define WORD_BYTES 8u
#define ITEM_MAX   (sizeof(uint16_t) + 1 + WORD_BYTES)

static_assert(sizeof(struct world) / WORD_BYTES <= UINT16_MAX, "a word's index fits its field");
static_assert(offsetof(struct world, mem) + WORLD_SLICES * WORLD_MEM == sizeof(struct world),
	      "the cores' memory is last");

size_t world_used(const struct world *w)
{
	return offsetof(struct world, mem) + w->slices * w->mem_size;
}

static uint64_t word_at(const void *from, size_t index)
{
	uint64_t word;
	memcpy(&word, (const char *)from + index * WORD_BYTES, sizeof(word));
	return word;
}

static size_t item_put(uint8_t *out, size_t index, uint64_t difference)
{
	size_t len = 3;
	out[0] = (uint8_t)index;
	out[1] = (uint8_t)(index >> 8);
	out[2] = 0;
	for (unsigned i = 0; i < WORD_BYTES; i++) {
		uint8_t byte = (uint8_t)(difference >> (8 * i));
		if (byte) {
			out[2] |= (uint8_t)(1u << i);
			out[len++] = byte;
		}
	}
	return len;
}

size_t state_encode(struct world *w, const struct world *base, uint8_t *out)
{
	size_t len = 0, words = world_used(w) / WORD_BYTES;
	for (unsigned i = 0; i < w->slices; i++)
		memset(&world_protocol(w, i)->stats, 0, sizeof(struct protocol_stats));
	for (size_t i = 0; i < words; i++) {
		uint64_t difference = word_at(w, i) ^ word_at(base, i);
		if (!difference)
			continue;
		if (len + ITEM_MAX > STATE_BYTES_MAX)
			return 0;
		len += item_put(out + len, i, difference);
	}
	/* The first state is the base itself, and still has a length. */
	if (!len)
		len = item_put(out, 0, 0);
	return len;
}

void state_decode(struct world *w, const struct world *base, const uint8_t *in, size_t len)
{
	memcpy(w, base, world_used(base));
	for (size_t at = 0; at < len;) {
		size_t index = in[at] | (size_t)in[at + 1] << 8;
		uint8_t mask = in[at + 2];
		uint64_t difference = 0;
		at += 3;
		for (unsigned i = 0; i < WORD_BYTES; i++) {
			if (mask & (1u << i))
				difference |= (uint64_t)in[at++] << (8 * i);
		}
		difference ^= word_at(w, index);
		memcpy((char *)w + index * WORD_BYTES, &difference, sizeof(difference));
	}
}

/* A multiply-and-fold hash over words; 64 bits keep a hundred million states apart. */
uint64_t state_hash(const uint8_t *bytes, size_t len)
{
	uint64_t hash = UINT64_C(14695981039346656037) ^ len;
	while (len) {
		uint64_t word = 0;
		size_t take = len < WORD_BYTES ? len : WORD_BYTES;
		memcpy(&word, bytes, take);
		hash = (hash ^ word) * UINT64_C(0xff51afd7ed558ccd);
		hash ^= hash >> 32;
		bytes += take;
		len -= take;
	}
	return hash;
}
