/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's counters: published by its thread once a loop turn, read by any thread. */
#include <sys/mman.h>
#include <unistd.h>

#include "dsm/engine/engine_cache.h"
#include "dsm/engine/engine_parts.h"

/* Every field with its source; all are uint64_t. */
#define STATS_TABLE(X)                                                                             \
	X(faults_read, p->faults_read)                                                             \
	X(faults_write, p->faults_write)                                                           \
	X(faults_local, p->faults_local)                                                           \
	X(requests_read, p->requests_read)                                                         \
	X(requests_write, p->requests_write)                                                       \
	X(requests_upgrade, p->requests_upgrade)                                                   \
	X(msgs_sent, t->msgs_sent)                                                                 \
	X(msgs_received, t->msgs_received)                                                         \
	X(bytes_sent, t->bytes_sent)                                                               \
	X(bytes_received, t->bytes_received)                                                       \
	X(links_shm, t->links_shm)                                                                 \
	X(links_tcp, t->links_tcp)                                                                 \
	X(links_tls, t->links_tls)                                                                 \
	X(links_ktls, t->links_ktls)                                                               \
	X(links_rdma, t->links_rdma)                                                               \
	X(refused, t->refused)                                                                     \
	X(bells_sent, t->bells_sent)                                                               \
	X(spins, e->spin.spins)                                                                    \
	X(spin_hits, e->spin.hits)                                                                 \
	X(pages_received, p->data_received)                                                        \
	X(pages_sent, e->pages_sent)                                                               \
	X(pages_ahead, e->pages_ahead)                                                             \
	X(zero_pages, p->zero_pages)                                                               \
	X(invalidations, p->invalidations)                                                         \
	X(deferred, p->deferred)                                                                   \
	X(pages_shared, p->pages_shared)                                                           \
	X(pages_exclusive, p->pages_exclusive)                                                     \
	X(pages_home, e->pages_home)                                                               \
	X(fault_ns_total, e->fault_ns_total)                                                       \
	X(fault_count_remote, e->fault_count_remote)                                               \
	X(cache_limit, e->cache_stats.limit)                                                       \
	X(cache_pages, e->cache_stats.pages)                                                       \
	X(cache_pages_max, e->cache_stats.pages_max)                                               \
	X(evictions_shared, e->cache_stats.evictions_shared)                                       \
	X(evictions_owned, e->cache_stats.evictions_owned)                                         \
	X(refetches, e->cache_stats.refetches)                                                     \
	X(cache_spared, e->cache_stats.spared)                                                     \
	X(cache_waits, e->cache_stats.waits)                                                       \
	X(frames_stale, e->cache ? e->cache->queues[CACHE_STALE].count : 0)                        \
	X(frames_returned, e->cache_stats.returned)                                                \
	X(home_faults, counts.faults)                                                              \
	X(reads_replicated, counts.reads)                                                          \
	X(ownership_moves, counts.moves)                                                           \
	X(ping_pongs, counts.ping_pongs)                                                           \
	X(upgrades, counts.upgrades)

#define published_of(e, field)                                                                     \
	(&(e)->published[offsetof(struct engine_stats, field) / sizeof(uint64_t)])

void engine_stats_publish(struct engine *e)
{
	const struct protocol_stats *p = protocol_stats(e->protocol);
	const struct transport_stats *t = e->transport->ops->stats(e->transport);
	struct page_counts_totals counts = page_counts_totals(e->page_counts);

#define X(field, source)                                                                           \
	atomic_store_explicit(published_of(e, field), (source), memory_order_relaxed);
	STATS_TABLE(X)
#undef X
}

/* Bytes of a region that are in memory. */
static uint64_t resident_bytes(void *region, size_t size)
{
	unsigned char present[4096];
	size_t page = (size_t)sysconf(_SC_PAGESIZE), step = sizeof(present) * page;
	uint8_t *mem = region;
	uint64_t bytes = 0;

	for (size_t at = 0; at < size; at += step) {
		size_t len = size - at < step ? size - at : step;

		if (mincore(mem + at, len, present) < 0)
			return bytes;
		for (size_t i = 0; i < (len + page - 1) / page; i++)
			bytes += (present[i] & 1) * page;
	}
	return bytes;
}

void engine_stats(struct engine *e, struct engine_stats *out)
{
	void *records;
	size_t records_bytes;

#define X(field, source)                                                                           \
	out->field = atomic_load_explicit(published_of(e, field), memory_order_relaxed);
	STATS_TABLE(X)
#undef X
	page_counts_memory(e->page_counts, &records, &records_bytes);
	out->metadata_bytes = resident_bytes(e->protocol_mem, e->protocol_bytes) +
			      resident_bytes(records, records_bytes);
	out->frame_bytes = pages_frame_bytes(e->pages);
	/* Alone nobody tells the engine of first touches. */
	if (e->config.slices == 1)
		out->pages_home = out->frame_bytes / PANGEA_PAGE_SIZE;
}
