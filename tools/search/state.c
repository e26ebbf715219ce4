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
static_assert(sizeof(struct world) % WORD_BYTES == 0, "a world is whole words");
static_assert(offsetof(struct world, mem) + WORLD_SLICES * WORLD_MEM == sizeof(struct world),
	      "the cores' memory is last");

/* ---- which words of a world are its state ---- */

/* Adds the words that hold these bytes; what begins where the last part ends belongs to it. */
static void part_add(struct state_parts *parts, const struct world *w, const void *from, size_t len)
{
	size_t at = (size_t)((const char *)from - (const char *)w), end = at + len;
	uint16_t first = (uint16_t)(at / WORD_BYTES);
	uint16_t past = (uint16_t)((end + WORD_BYTES - 1) / WORD_BYTES);
	struct state_part *last = parts->count ? &parts->list[parts->count - 1] : NULL;
	if (last && first <= last->past) {
		invariant(first >= last->first);
		last->past = past > last->past ? past : last->past;
		return;
	}
	invariant(parts->count < STATE_PARTS_MAX);
	parts->list[parts->count++] = (struct state_part){first, past};
}

/* A slice's core: all but the bytes and the directory entries of pages that the world has not. */
static void core_add(struct state_parts *parts, const struct world *w, unsigned slice)
{
	const struct protocol *p = world_protocol(w, slice);
	part_add(parts, w, p, p->chunk_offset + p->chunks * sizeof(uint32_t));
	for (unsigned page = 0; page < w->pages; page++)
		part_add(parts, w, page_at(p, WORLD_GFN(page)), 1);
	for (unsigned page = 0; page < w->pages; page++) {
		if (w->homes[page] == slice)
			part_add(parts, w, entry_find(p, WORLD_GFN(page)),
				 sizeof(struct home_entry));
	}
}

void state_parts_find(struct state_parts *parts, const struct world *w)
{
	parts->count = 0;
	part_add(parts, w, w, offsetof(struct world, channel));
	for (unsigned from = 0; from < w->slices; from++) {
		for (unsigned to = 0; to < w->slices; to++) {
			if (from != to)
				part_add(parts, w, &w->channel[from][to],
					 sizeof(w->channel[from][to]));
		}
	}
	for (unsigned i = 0; i < w->slices; i++)
		core_add(parts, w, i);
}

static char *part_at(const struct world *w, const struct state_part *part)
{
	return (char *)(uintptr_t)w + part->first * WORD_BYTES;
}

void state_copy(struct world *to, const struct world *from, const struct state_parts *parts)
{
	for (unsigned i = 0; i < parts->count; i++) {
		const struct state_part *part = &parts->list[i];
		memcpy(part_at(to, part), part_at(from, part),
		       (size_t)(part->past - part->first) * WORD_BYTES);
	}
}

bool state_strayed(const struct world *w, const struct world *base, const struct state_parts *parts)
{
	size_t at = 0;
	for (unsigned i = 0; i <= parts->count; i++) {
		size_t end = i < parts->count ? parts->list[i].first * WORD_BYTES : sizeof(*w);
		if (memcmp((const char *)w + at, (const char *)base + at, end - at) != 0)
			return true;
		at = i < parts->count ? parts->list[i].past * WORD_BYTES : end;
	}
	return false;
}

/* ---- to bytes and back ---- */

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

size_t state_encode(struct world *w, const struct world *base, const struct state_parts *parts,
		    uint8_t *out)
{
	size_t len = 0;
	for (unsigned i = 0; i < w->slices; i++)
		memset(&world_protocol(w, i)->stats, 0, sizeof(struct protocol_stats));
	for (unsigned part = 0; part < parts->count; part++) {
		for (size_t i = parts->list[part].first; i < parts->list[part].past; i++) {
			uint64_t difference = word_at(w, i) ^ word_at(base, i);
			if (!difference)
				continue;
			if (len + ITEM_MAX > STATE_BYTES_MAX)
				return 0;
			len += item_put(out + len, i, difference);
		}
	}
	/* The first state is the base itself, and still has a length. */
	if (!len)
		len = item_put(out, 0, 0);
	return len;
}

void state_decode(struct world *w, const struct world *base, const struct state_parts *parts,
		  const uint8_t *in, size_t len)
{
	state_copy(w, base, parts);
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

/* ---- states that go on alike ---- */

/* Are all entries of a pool that were ever used either in use or in its list of free ones? */
static bool requests_whole(const struct protocol *p, unsigned found)
{
	unsigned freed = 0;
	for (uint32_t link = p->requests.free; link && freed <= p->requests.fresh; freed++)
		link = request_at(p, link - 1)->next;
	return found == p->requests.used && found + freed == p->requests.fresh;
}

static void requests_sort(struct protocol *p, unsigned pages)
{
	struct request found[WORLD_PAGES];
	unsigned count = 0;
	for (unsigned page = 0; page < pages; page++) {
		const struct request *r = request_find(p, WORLD_GFN(page));
		if (r)
			found[count++] = *r;
	}
	/* A pool that has lost something is another state: what was lost is missed some time. */
	if (!requests_whole(p, count))
		return;
	memset((char *)p + p->bucket_offset, 0, p->buckets * sizeof(uint32_t));
	memset(request_at(p, 0), 0, p->requests.capacity * sizeof(struct request));
	p->requests.fresh = p->requests.free = p->requests.used = 0;
	for (unsigned i = 0; i < count; i++) {
		struct request *r = request_add(p, found[i].gfn);
		invariant(r);
		found[i].next = r->next;
		*r = found[i];
	}
}

void state_settle(struct world *w)
{
	for (unsigned i = 0; i < w->slices; i++)
		requests_sort(world_protocol(w, i), w->pages);
}
