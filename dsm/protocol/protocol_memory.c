/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of the protocol core: one region with dense lazily backed arrays and fixed pools. */
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "dsm/protocol/protocol_parts.h"

#define REGION_ALIGN	 64u
#define ARRAY_ALIGN	 4096u
#define REQUESTS_ALL_MAX (PROTOCOL_REQUESTS_MAX * SLICES_MAX)
#define WORD_BITS	 64u

static size_t align_up(size_t value, size_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static uint32_t power_of_two(uint64_t at_least, uint32_t at_most)
{
	uint32_t n = 1;
	while (n < at_least && n < at_most)
		n *= 2;
	return n;
}

/* Slices to a bit of the directory's sharers. */
static unsigned group_of(const struct protocol_config *config)
{
	return config->sharer_group ? config->sharer_group
				    : (config->slices + WORD_BITS - 1) / WORD_BITS;
}

static bool slices_valid(const struct protocol_config *config)
{
	unsigned most = config->home_of_chunk_wide ? PROTOCOL_SLICES_MAX : SLICES_MAX;
	return config->slices >= 1 && config->slices <= most && config->self < config->slices &&
	       config->sharer_group <= PROTOCOL_SLICES_MAX &&
	       group_of(config) * WORD_BITS >= config->slices;
}

static bool config_valid(const struct protocol_config *config)
{
	uint64_t total = config->requests_total;
	return slices_valid(config) && config->gfns >= 1 &&
	       /* RAM and the hole below it */
	       config->gfns <= (GUEST_MEM_MAX + GPA_HOLE_END) >> PAGE_SHIFT &&
	       (config->home_of_chunk || config->home_of_chunk_wide) && config->requests_max >= 1 &&
	       config->requests_max <= PROTOCOL_REQUESTS_MAX && total <= REQUESTS_ALL_MAX &&
	       (!total || total >= config->requests_max) &&
	       config->hold_ns <= UINT64_MAX / (2 * HOLD_SOON);
}

static uint64_t chunk_pages(const struct protocol_config *config, uint64_t chunk)
{
	uint64_t start = chunk << CHUNK_PAGES_SHIFT;
	uint64_t left = config->gfns - start;
	return left < CHUNK_PAGES ? left : CHUNK_PAGES;
}

static unsigned chunk_home(const struct protocol_config *config, uint64_t chunk)
{
	return config->home_of_chunk_wide ? config->home_of_chunk_wide[chunk]
					  : config->home_of_chunk[chunk];
}

static unsigned home_none(const struct protocol_config *config)
{
	return config->home_of_chunk_wide ? SLICE_NONE_WIDE : SLICE_NONE;
}

static bool homed_count(const struct protocol_config *config, uint64_t chunks, uint64_t *out)
{
	uint64_t homed = 0;
	for (uint64_t chunk = 0; chunk < chunks; chunk++) {
		unsigned home = chunk_home(config, chunk);
		if (home != home_none(config) && home >= config->slices)
			return false;
		if (home == config->self)
			homed += chunk_pages(config, chunk);
	}
	*out = homed;
	return homed < CHUNK_TOUCHED;
}

static size_t region_take(size_t *end, size_t align, size_t size)
{
	size_t at = align_up(*end, align);
	*end = at + size;
	return at;
}

static size_t queue_bytes(const struct protocol *p)
{
	return sizeof(struct home_queue) + (size_t)2 * words_of(p) * sizeof(uint64_t);
}

/* Lays out *p; returns the size of it all, or 0. Small things first, then the big arrays. */
static size_t layout(struct protocol *p, const struct protocol_config *config)
{
	if (!config_valid(config))
		return 0;
	memset(p, 0, sizeof(*p));
	p->config = *config;
	if (!p->config.requests_total)
		p->config.requests_total = config->slices * config->requests_max;
	p->config.sharer_group = group_of(config);
	p->chunks = (config->gfns + CHUNK_PAGES - 1) >> CHUNK_PAGES_SHIFT;
	if (!homed_count(config, p->chunks, &p->homed))
		return 0;
	p->requests.capacity = config->requests_max;
	p->queues.capacity = config->slices > 1 ? p->config.requests_total : 0;
	p->buckets = power_of_two(config->requests_max, PROTOCOL_REQUESTS_MAX);
	p->holds = config->hold_ns ? power_of_two(config->gfns, PROTOCOL_HOLDS_MAX) : 0;

	size_t end = sizeof(*p);
	/* Sets of up to 64 slices have their word where it is used. */
	if (words_of(p) > 1)
		p->acked_offset = (uint32_t)region_take(
			&end, REGION_ALIGN, p->requests.capacity * words_of(p) * sizeof(uint64_t));
	p->bucket_offset = (uint32_t)region_take(&end, REGION_ALIGN, p->buckets * sizeof(uint32_t));
	p->request_offset = (uint32_t)region_take(&end, REGION_ALIGN,
						  p->requests.capacity * sizeof(struct request));
	p->hold_offset = (uint32_t)region_take(&end, REGION_ALIGN, p->holds * sizeof(struct hold));
	p->queue_offset =
		(uint32_t)region_take(&end, REGION_ALIGN, p->queues.capacity * queue_bytes(p));
	p->chunk_offset = region_take(&end, REGION_ALIGN, p->chunks * sizeof(uint32_t));
	size_t align = config->gfns > ARRAY_ALIGN ? ARRAY_ALIGN : REGION_ALIGN;
	p->page_offset = region_take(&end, align, config->gfns);
	p->entry_offset = region_take(&end, align, p->homed * sizeof(struct home_entry));
	return align_up(end, REGION_ALIGN);
}

size_t protocol_size(const struct protocol_config *config)
{
	struct protocol p;
	return layout(&p, config);
}

struct protocol *protocol_init(void *mem, const struct protocol_config *config)
{
	struct protocol *p = mem;
	if (!layout(p, config))
		return NULL;
	uint32_t base = 0;
	for (uint64_t chunk = 0; chunk < p->chunks; chunk++) {
		*chunk_at(p, chunk) = base;
		if (chunk_home(config, chunk) == config->self)
			base += (uint32_t)chunk_pages(config, chunk);
	}
	return p;
}

unsigned protocol_home(const struct protocol *p, uint64_t gfn)
{
	if (gfn >= p->config.gfns)
		return home_none(&p->config);
	return chunk_home(&p->config, gfn >> CHUNK_PAGES_SHIFT);
}

bool gfn_known(const struct protocol *p, uint64_t gfn)
{
	return protocol_home(p, gfn) != home_none(&p->config);
}

static void *region_at(const struct protocol *p, size_t offset)
{
	return (char *)(uintptr_t)p + offset;
}

uint32_t *chunk_at(const struct protocol *p, uint64_t chunk)
{
	return (uint32_t *)region_at(p, p->chunk_offset) + chunk;
}

uint8_t *page_at(const struct protocol *p, uint64_t gfn)
{
	return (uint8_t *)region_at(p, p->page_offset) + gfn;
}

enum page_state page_state(const struct protocol *p, uint64_t gfn)
{
	return *page_at(p, gfn) & PAGE_STATE_MASK;
}

/* Keeps the counters of what is held of other homes, and of evictions. */
static void page_count(struct protocol *p, bool remote, enum page_state state, int by)
{
	switch (state) {
	case PAGE_S:
	case PAGE_SM:
	case PAGE_SMA:
		p->stats.pages_shared += remote ? (uint64_t)by : 0;
		break;
	case PAGE_M:
		p->stats.pages_exclusive += remote ? (uint64_t)by : 0;
		break;
	case PAGE_MI:
	case PAGE_SI:
	case PAGE_II:
		p->evicting += (uint64_t)by;
		break;
	case PAGE_I:
	case PAGE_IS:
	case PAGE_IM:
	case PAGE_IMA:
	case PAGE_STATES:
		break;
	}
}

void page_state_set(struct protocol *p, uint64_t gfn, enum page_state state)
{
	uint8_t *page = page_at(p, gfn);
	enum page_state before = *page & PAGE_STATE_MASK;
	if (state == before)
		return;
	bool remote = protocol_home(p, gfn) != p->config.self;
	page_count(p, remote, before, -1);
	page_count(p, remote, state, 1);
	*page = (uint8_t)((*page & ~PAGE_STATE_MASK) | state);
}

struct home_entry *entry_find(const struct protocol *p, uint64_t gfn)
{
	uint32_t base = *chunk_at(p, gfn >> CHUNK_PAGES_SHIFT) & ~CHUNK_TOUCHED;
	return (struct home_entry *)region_at(p, p->entry_offset) + base +
	       (gfn & (CHUNK_PAGES - 1));
}

struct home_entry *entry_touch(struct protocol *p, uint64_t gfn)
{
	uint32_t *chunk = chunk_at(p, gfn >> CHUNK_PAGES_SHIFT);
	if (!(*chunk & CHUNK_TOUCHED))
		*chunk |= CHUNK_TOUCHED;
	return entry_find(p, gfn);
}

/* Returns the index + 1 of a free entry, 0 if there is none; next is the entry's link. */
static uint32_t pool_take(struct pool *pool)
{
	if (pool->fresh >= pool->capacity)
		return 0;
	pool->used++;
	return ++pool->fresh;
}

struct request *request_at(const struct protocol *p, uint32_t index)
{
	return (struct request *)region_at(p, p->request_offset) + index;
}

static uint32_t *request_bucket(const struct protocol *p, uint64_t gfn)
{
	uint64_t hash = hash_u64(gfn);
	return (uint32_t *)region_at(p, p->bucket_offset) + (hash & (p->buckets - 1));
}

struct request *request_find(const struct protocol *p, uint64_t gfn)
{
	uint32_t link = *request_bucket(p, gfn);
	while (link) {
		struct request *r = request_at(p, link - 1);
		if (r->gfn == gfn)
			return r;
		link = r->next;
	}
	return NULL;
}

struct request *request_add(struct protocol *p, uint64_t gfn)
{
	uint32_t link = p->requests.free;
	if (link) {
		p->requests.free = request_at(p, link - 1)->next;
		p->requests.used++;
	} else {
		link = pool_take(&p->requests);
	}
	if (!link)
		return NULL;
	struct request *r = request_at(p, link - 1);
	uint32_t *bucket = request_bucket(p, gfn);
	*r = (struct request){.gfn = gfn, .next = *bucket};
	*bucket = link;
	return r;
}

/* The set of slices that have sent their ACK. */
static uint64_t *request_bits(const struct protocol *p, const struct request *r)
{
	if (words_of(p) == 1)
		return (uint64_t *)(uintptr_t)&r->acked;
	size_t index = (size_t)(r - request_at(p, 0));
	return (uint64_t *)region_at(p, p->acked_offset) + index * words_of(p);
}

bool request_acked(const struct protocol *p, const struct request *r, unsigned slice)
{
	return request_bits(p, r)[slice / WORD_BITS] & slice_bit(slice % WORD_BITS);
}

void request_ack(struct protocol *p, struct request *r, unsigned slice)
{
	request_bits(p, r)[slice / WORD_BITS] |= slice_bit(slice % WORD_BITS);
	r->have++;
}

void request_remove(struct protocol *p, uint64_t gfn)
{
	uint32_t *link = request_bucket(p, gfn);
	while (*link && request_at(p, *link - 1)->gfn != gfn)
		link = &request_at(p, *link - 1)->next;
	invariant(*link);
	uint32_t index = *link;
	struct request *r = request_at(p, index - 1);
	*link = r->next;
	memset(request_bits(p, r), 0, words_of(p) * sizeof(uint64_t));
	*r = (struct request){.next = p->requests.free};
	p->requests.free = index;
	p->requests.used--;
}

static struct home_queue *queue_at(const struct protocol *p, uint32_t index)
{
	return (struct home_queue *)((char *)region_at(p, p->queue_offset) +
				     index * queue_bytes(p));
}

struct home_queue *queue_find(const struct protocol *p, const struct home_entry *entry)
{
	return entry->queue ? queue_at(p, entry->queue - 1) : NULL;
}

struct home_queue *queue_of(struct protocol *p, struct home_entry *entry)
{
	if (entry->queue)
		return queue_at(p, entry->queue - 1);
	uint32_t link = p->queues.free;
	if (link) {
		p->queues.free = queue_at(p, link - 1)->next;
		p->queues.used++;
	} else {
		link = pool_take(&p->queues);
	}
	if (!link)
		return NULL;
	entry->queue = link;
	struct home_queue *queue = queue_at(p, link - 1);
	memset(queue, 0, queue_bytes(p));
	return queue;
}

void queue_free(struct protocol *p, struct home_entry *entry)
{
	struct home_queue *queue = queue_at(p, entry->queue - 1);
	memset(queue, 0, queue_bytes(p));
	queue->next = p->queues.free;
	p->queues.free = entry->queue;
	p->queues.used--;
	entry->queue = 0;
}

struct hold *hold_at(const struct protocol *p, uint64_t gfn)
{
	if (!p->holds)
		return NULL;
	uint64_t hash = hash_u64(gfn);
	return (struct hold *)region_at(p, p->hold_offset) + (hash & (p->holds - 1));
}
