/* SPDX-License-Identifier: Apache-2.0 */
/* Sends the slice's counters to the daemon. */
#include <stdio.h>

#include "vmm/main/slice.h"

static void put(json_t *msg, const char *key, uint64_t value)
{
	json_object_set_new(msg, key, json_integer((json_int_t)value));
}

static void engine_put(json_t *msg, const struct engine_stats *e)
{
	put(msg, "faults_read", e->faults_read);
	put(msg, "faults_write", e->faults_write);
	put(msg, "faults_local", e->faults_local);
	put(msg, "requests_read", e->requests_read);
	put(msg, "requests_write", e->requests_write);
	put(msg, "requests_upgrade", e->requests_upgrade);
	put(msg, "messages_sent", e->msgs_sent);
	put(msg, "messages_received", e->msgs_received);
	put(msg, "bytes_sent", e->bytes_sent);
	put(msg, "bytes_received", e->bytes_received);
	put(msg, "links_shm", e->links_shm);
	put(msg, "links_tcp", e->links_tcp);
	put(msg, "links_tls", e->links_tls);
	put(msg, "links_ktls", e->links_ktls);
	put(msg, "links_rdma", e->links_rdma);
	put(msg, "links_refused", e->refused);
	put(msg, "bells_sent", e->bells_sent);
	put(msg, "spins", e->spins);
	put(msg, "spin_hits", e->spin_hits);
	put(msg, "pages_sent", e->pages_sent);
	put(msg, "pages_received", e->pages_received);
	put(msg, "zero_pages", e->zero_pages);
	put(msg, "invalidations", e->invalidations);
	put(msg, "deferred", e->deferred);
	put(msg, "pages_shared", e->pages_shared);
	put(msg, "pages_exclusive", e->pages_exclusive);
	put(msg, "pages_home", e->pages_home);
	put(msg, "pages_held", e->pages_home + e->pages_shared + e->pages_exclusive);
	put(msg, "metadata_bytes", e->metadata_bytes);
	put(msg, "frame_bytes", e->frame_bytes);
	put(msg, "cache_limit", e->cache_limit);
	put(msg, "cache_pages", e->cache_pages);
	put(msg, "cache_pages_max", e->cache_pages_max);
	put(msg, "evictions_shared", e->evictions_shared);
	put(msg, "pages_ahead", e->pages_ahead);
	put(msg, "evictions_owned", e->evictions_owned);
	put(msg, "refetches", e->refetches);
	put(msg, "cache_spared", e->cache_spared);
	put(msg, "cache_waits", e->cache_waits);
	put(msg, "frames_stale", e->frames_stale);
	put(msg, "frames_returned", e->frames_returned);
	put(msg, "home_faults", e->home_faults);
	put(msg, "reads_replicated", e->reads_replicated);
	put(msg, "ownership_moves", e->ownership_moves);
	put(msg, "ping_pongs", e->ping_pongs);
	put(msg, "upgrades", e->upgrades);
}

static json_t *hot_page_json(const struct page_counts_hot *hot)
{
	json_t *page = json_object();

	put(page, "gfn", hot->gfn);
	put(page, "recent_faults", hot->recent);
	put(page, "reads_replicated", hot->page.reads);
	put(page, "ownership_moves", hot->page.moves);
	put(page, "ping_pongs", hot->page.ping_pongs);
	put(page, "upgrades", hot->page.upgrades);
	if (hot->other != PAGE_COUNTS_NOBODY)
		put(page, "other_slice", hot->other);
	return page;
}

static void hot_pages_put(json_t *msg, struct engine *engine)
{
	struct page_counts_list list;
	json_t *hottest = json_array();

	engine_hot_pages(engine, &list);
	for (unsigned i = 0; i < list.count; i++)
		json_array_append_new(hottest, hot_page_json(&list.page[i]));
	put(msg, "recent_faults", list.recent);
	put(msg, "hot_pages", list.hot_count);
	json_object_set_new(msg, "hottest", hottest);
}

/* Pairs of an address, as a signed integer, and its faults. */
static void fault_places_put(json_t *msg, const struct machine *machine)
{
	struct fault_places_list list;
	json_t *pairs = json_array();

	machine_fault_places(machine, &list);
	for (unsigned i = 0; i < list.count; i++) {
		json_array_append_new(pairs, json_integer((json_int_t)list.place[i].address));
		json_array_append_new(pairs, json_integer((json_int_t)list.place[i].faults));
	}
	put(msg, "placed_faults", list.recent);
	json_object_set_new(msg, "fault_places", pairs);
}

static void machine_put(json_t *msg, const struct machine_stats *m)
{
	put(msg, "instructions", m->instructions);
	put(msg, "exits_hlt", m->exits_hlt);
	put(msg, "exits_kicked", m->exits_kicked);
	put(msg, "interrupts", m->interrupts);
	put(msg, "ipis_local", m->ipis_local);
	put(msg, "ipis_remote", m->ipis_remote);
	put(msg, "remote_io", m->remote_io);
	put(msg, "remote_io_served", m->remote_io_served);
	put(msg, "timer_fires", m->timer_fires);
	put(msg, "clock_offset_ns", (uint64_t)m->clock_offset_ns);
	put(msg, "clock_error_ns", m->clock_error_ns);
	put(msg, "clock_rate_ppb", (uint64_t)m->clock_rate_ppb);
	put(msg, "clock_bursts", m->clock_bursts);
}

void slice_stats_send(struct slice *s)
{
	struct engine_stats engine;
	struct machine_stats machine;
	json_t *msg;

	if (!s->engine || !s->machine || !s->node)
		return;
	msg = json_pack("{ss}", "type", "slice-stats");
	if (!msg)
		return;
	engine_stats(s->engine, &engine);
	machine_stats(s->machine, &machine);
	engine_put(msg, &engine);
	hot_pages_put(msg, s->engine);
	machine_put(msg, &machine);
	fault_places_put(msg, s->machine);
	control_send(s->node, msg, NULL, 0);
	json_decref(msg);
}
