/* SPDX-License-Identifier: Apache-2.0 */
/* A run: the machine is made, works, comes to rest now and then, and is ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "sim/sim_parts.h"

/* Times in a run that all vCPUs stop and everything must come to rest, if nobody says otherwise. */
#define EPOCHS 4u
/* Between two evictions of a slice, two disturbances, two looks at who waits. */
#define EVICTION_NS (400 * NS_PER_US)
#define DISTURB_NS  (2 * NS_PER_MS)
#define WATCH_NS    (20 * NS_PER_MS)
#define SLOW_TIMES  10u
/* A wait may be this long, and so much longer for each vCPU that may stand in line before it. */
#define WAIT_LIMIT_NS	   (500 * NS_PER_MS)
#define WAIT_LIMIT_VCPU_NS (4 * NS_PER_MS)
/* The VM's hold time. */
#define HOLD_NS (20 * NS_PER_US)
/* What booting, stopping or ending a VM may take; a silent node is missed after 10 s. */
#define LIFE_LIMIT_NS (60 * NS_PER_S)

#define X(name, word, text) {word, text},
const struct sim_word sim_workloads[SIM_WORKLOAD_COUNT] = {SIM_WORKLOADS(X)};
const struct sim_word sim_disturbances[SIM_DISTURBANCE_COUNT] = {SIM_DISTURBANCES(X)};
const struct sim_word sim_homes[SIM_HOMES_COUNT] = {SIM_HOMES(X)};
const struct sim_word sim_faults[SIM_FAULT_COUNT] = {SIM_FAULTS(X)};
#undef X

void sim_config_default(struct sim_config *config, uint64_t seed, unsigned nodes)
{
	*config = (struct sim_config){
		.seed = seed,
		.nodes = nodes,
		.vcpus = nodes > SLICES_MAX ? 1 : 2,
		.pages = 2048,
		.events = 200000,
		.epochs = EPOCHS,
		.disturbances =
			1u << SIM_BIT_BURSTS | 1u << SIM_BIT_SLOW | 1u << SIM_BIT_PARTITIONS,
		.hold_ns = HOLD_NS,
		.coordinator = nodes <= SLICES_MAX,
		.last = 60,
	};
	if (config->pages > nodes * SIM_PAGES_A_HOME)
		config->pages = nodes * SIM_PAGES_A_HOME;
}

const char *sim_config_fault(const struct sim_config *c)
{
	if (c->nodes < 2 || c->nodes > SIM_NODES_MAX)
		return "there must be 2 to 1024 nodes";
	if (c->vcpus < 1 || c->vcpus > SIM_VCPUS_MAX)
		return "a node must have 1 to 8 vCPUs";
	if (c->pages < 1 || c->pages > SIM_PAGES_MAX || c->pages > c->nodes * SIM_PAGES_A_HOME)
		return "there must be 1 to 65536 pages, and at most 512 a node";
	if (c->epochs < 1 || c->epochs > SIM_EPOCHS_MAX)
		return "a run has 1 to 64 epochs";
	if (c->accesses && c->disturbances & (1u << SIM_BIT_CRASH | 1u << SIM_BIT_CUT))
		return "a run that is lost does not come to a number of accesses";
	if (c->homes == SIM_HOMES_MOVED &&
	    (uint64_t)c->pages * c->nodes * c->epochs > SIM_FORESIGHT_MAX)
		return "to move homes foreknowing, pages times nodes times epochs must be less";
	if (c->cache && c->cache < 2 * c->vcpus)
		return "a node must keep at least two pages for each vCPU";
	if (c->coordinator && (c->nodes > SLICES_MAX || c->nodes * c->vcpus > VCPUS_MAX))
		return "the coordinator takes at most 64 nodes and 256 vCPUs";
	if (c->group > c->nodes || (c->group && c->group * 64 < c->nodes))
		return "the sharers' groups must be so large that 64 of them hold all nodes";
	if (c->last < 1 || c->last > 1000000)
		return "1 to 1000000 events can be kept for a failure";
	if (!c->coordinator && c->fault == SIM_FAULT_DROP_GONE)
		return "that fault is the coordinator's, which takes no part";
	return NULL;
}

static int home_table_create(struct sim *sim)
{
	unsigned nodes = sim->config.nodes;
	/* As in a real VM where that is possible. */
	if (nodes <= SLICES_MAX) {
		sim->homes = malloc(nodes);
		for (unsigned n = 0; sim->homes && n < nodes; n++)
			sim->homes[n] = (uint8_t)n;
		return sim->homes ? 0 : -ENOMEM;
	}
	sim->homes_wide = malloc(nodes * sizeof(sim->homes_wide[0]));
	for (unsigned n = 0; sim->homes_wide && n < nodes; n++)
		sim->homes_wide[n] = (uint16_t)n;
	return sim->homes_wide ? 0 : -ENOMEM;
}

static int world_create(struct sim *sim)
{
	const struct sim_config *c = &sim->config;
	sim->node = calloc(c->nodes, sizeof(sim->node[0]));
	sim->link = calloc((size_t)c->nodes * c->nodes, sizeof(sim->link[0]));
	sim->current = calloc(c->pages, sizeof(sim->current[0]));
	sim->former = calloc(c->pages, sizeof(sim->former[0]));
	sim->readers = calloc(c->pages, sizeof(sim->readers[0]));
	sim->writers = calloc(c->pages, sizeof(sim->writers[0]));
	sim->trace.ring = calloc(c->last, sizeof(sim->trace.ring[0]));
	sim->frames_bytes = (size_t)c->nodes * c->pages * sizeof(uint64_t[WORDS]);
	sim->frames = mmap(NULL, sim->frames_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sim->frames == MAP_FAILED)
		sim->frames = NULL;
	if (!sim->node || !sim->link || !sim->current || !sim->former || !sim->readers ||
	    !sim->writers || !sim->trace.ring || !sim->frames)
		return -ENOMEM;
	int err = home_table_create(sim);
	if (!err)
		err = homes_create(sim);
	for (unsigned n = 0; n < c->nodes && !err; n++)
		err = node_init(sim, n);
	if (!err && c->coordinator)
		err = control_create(sim);
	return err;
}

static void world_free(struct sim *sim)
{
	for (unsigned n = 0; sim->node && n < sim->config.nodes; n++) {
		if (sim->node[n].mem)
			munmap(sim->node[n].mem, sim->node[n].mem_bytes);
		free(sim->node[n].mapping);
		free(sim->node[n].flying);
		cache_free(sim, n);
	}
	if (sim->frames)
		munmap(sim->frames, sim->frames_bytes);
	control_free(sim);
	homes_free(sim);
	free(sim->node);
	free(sim->link);
	free(sim->packet);
	free(sim->current);
	free(sim->former);
	free(sim->readers);
	free(sim->writers);
	free(sim->trace.ring);
	free(sim->homes);
	free(sim->homes_wide);
	free(sim->queue.heap);
}

static uint64_t about(struct sim *sim, uint64_t ns)
{
	return sim->now_ns + ns / 2 + random_below(&sim->random, ns);
}

/* What comes by itself as long as the run lasts. */
static void regular(struct sim *sim, const struct event *event)
{
	switch (event->type) {
	case SIM_EVENT_EVICTION:
		if (sim->node[event->a].runs && !sim->parking && !sim->config.cache)
			node_evict_some(sim, event->a);
		event_add(sim, about(sim, EVICTION_NS), SIM_EVENT_EVICTION, event->a, 0, 0);
		break;
	case SIM_EVENT_DISTURB:
		if (!sim->parking)
			net_disturb(sim);
		event_add(sim, about(sim, DISTURB_NS), SIM_EVENT_DISTURB, 0, 0, 0);
		break;
	default: /* WATCH */
		check_waiting(sim);
		event_add(sim, sim->now_ns + WATCH_NS, SIM_EVENT_WATCH, 0, 0, 0);
		break;
	}
}

static void handle(struct sim *sim, const struct event *event)
{
	bool gone = sim->node[event->a].gone;
	switch ((enum event_type)event->type) {
	case SIM_EVENT_VCPU:
		vcpu_go(sim, event->a, event->b);
		break;
	case SIM_EVENT_BEGIN:
		net_begin(sim, event->a, event->b);
		break;
	case SIM_EVENT_DELIVER:
		net_deliver(sim, event->a, event->b);
		break;
	case SIM_EVENT_TIMER:
		if (!gone)
			node_timer(sim, event->a, event->arg);
		break;
	case SIM_EVENT_EVICTION:
	case SIM_EVENT_DISTURB:
	case SIM_EVENT_WATCH:
		regular(sim, event);
		break;
	case SIM_EVENT_LEARN:
		node_learn(sim, event->a, event->b);
		break;
	case SIM_EVENT_END:
		if (sim->control)
			control_event(sim, event);
		node_gone(sim, event->a);
		break;
	case SIM_EVENT_CONTROL:
	case SIM_EVENT_TICK:
	case SIM_EVENT_HEARTBEAT:
		control_event(sim, event);
		break;
	}
}

static bool event_next(struct sim *sim)
{
	struct event event;
	if (check_failed(sim) || !event_take(sim, &event))
		return false;
	sim->now_ns = event.time_ns;
	sim->result->events += event.type <= SIM_EVENT_WORK_LAST;
	handle(sim, &event);
	if (sim->fatal_at && sim->result->events >= sim->fatal_at) {
		sim->fatal_at = 0;
		fatal_happen(sim);
	}
	return true;
}

static bool all_run(const struct sim *sim)
{
	for (unsigned n = 0; n < sim->config.nodes; n++) {
		if (!sim->node[n].runs)
			return false;
	}
	return true;
}

static void boot(struct sim *sim)
{
	if (sim->control)
		control_boot(sim);
	for (unsigned n = 0; n < sim->config.nodes; n++) {
		if (!sim->control)
			node_run(sim, n);
		event_add(sim, about(sim, EVICTION_NS), SIM_EVENT_EVICTION, n, 0, 0);
	}
	event_add(sim, about(sim, DISTURB_NS), SIM_EVENT_DISTURB, 0, 0, 0);
	event_add(sim, WATCH_NS, SIM_EVENT_WATCH, 0, 0, 0);
	/* A slice may be lost before all of them run. */
	while (!all_run(sim) && !sim->lossy && sim->now_ns < LIFE_LIMIT_NS && event_next(sim))
		;
	if (!all_run(sim) && !sim->lossy)
		check_fail(sim, "coordinator", "the VM does not come up");
}

/* All vCPUs finish what they are at, what is under way arrives, and the books are compared. */
static void rest(struct sim *sim)
{
	sim->parking = true;
	while (sim->queue.work && !sim->lossy && event_next(sim))
		;
	if (!check_failed(sim) && !sim->lossy)
		check_rest(sim);
	sim->parking = false;
}

static void work(struct sim *sim)
{
	const struct sim_config *c = &sim->config;
	uint64_t begun = sim->result->events, until = UINT64_MAX;
	for (sim->epoch = 0; sim->epoch < c->epochs; sim->epoch++) {
		if (c->accesses)
			sim->quota = c->accesses * (sim->epoch + 1) / c->epochs;
		else
			until = begun + c->events * (sim->epoch + 1) / c->epochs;
		if (!sim->lossy)
			homes_epoch_begin(sim);
		for (unsigned n = 0; n < c->nodes; n++)
			node_run(sim, n);
		while (sim->result->events < until && sim->queue.work && event_next(sim))
			;
		if (!sim->lossy)
			rest(sim);
		if (!sim->lossy && !check_failed(sim))
			homes_epoch_end(sim);
	}
}

/* The VM is stopped, or ends because of what was lost. */
static void end(struct sim *sim)
{
	uint64_t limit_ns = sim->now_ns + LIFE_LIMIT_NS;
	if (!sim->control)
		return;
	if (!sim->fatal_ns)
		control_stop(sim);
	while (!control_ended(sim) && sim->now_ns < limit_ns && event_next(sim))
		;
	control_check(sim);
}

static uint64_t resident_bytes(const struct node *node)
{
	size_t pages = (node->mem_bytes + PANGEA_PAGE_SIZE - 1) / PANGEA_PAGE_SIZE;
	unsigned char *map = malloc(pages);
	uint64_t count = 0;
	if (!map || mincore(node->mem, node->mem_bytes, map) != 0)
		pages = 0;
	for (size_t i = 0; i < pages; i++)
		count += map[i] & 1;
	free(map);
	return count * PANGEA_PAGE_SIZE;
}

static uint64_t wait_p99_ns(const struct sim *sim)
{
	uint64_t left = sim->result->waits / 100;
	for (unsigned i = WAIT_BUCKETS; i-- > 0;) {
		if (sim->wait[i] > left)
			return (uint64_t)(WAIT_STEPS + i % WAIT_STEPS + 1) << (i / WAIT_STEPS - 5);
		left -= sim->wait[i];
	}
	return 0;
}

void sim_shares(const struct sim_config *config, const struct sim_result *result, double *least,
		double *most)
{
	uint64_t sum = 0;
	for (unsigned n = 0; n < config->nodes; n++)
		sum += result->node_accesses[n];
	*least = *most = 100;
	for (unsigned n = 0; n < config->nodes && sum; n++) {
		double share =
			100.0 * (double)result->node_accesses[n] * config->nodes / (double)sum;
		*least = share < *least ? share : *least;
		*most = share > *most ? share : *most;
	}
}

static void sum_up(struct sim *sim)
{
	struct sim_result *r = sim->result;
	for (unsigned n = 0; n < sim->config.nodes; n++) {
		const struct protocol *p = sim->node[n].protocol;
		const struct protocol_stats *stats = protocol_stats(p);
		r->faults += stats->faults_read + stats->faults_write;
		r->deferred += stats->deferred;
		r->dropped += stats->dropped;
		r->resident_bytes += resident_bytes(&sim->node[n]);
		r->queue_bytes +=
			(uint64_t)p->queues.fresh * (sizeof(struct home_queue) + 16 * words_of(p));
		r->group = p->config.sharer_group;
	}
	for (unsigned page = 0; page < sim->config.pages; page++) {
		const struct home_entry *entry =
			entry_find(sim->node[page_home(sim, page)].protocol, page_gfn(sim, page));
		r->pages_touched += entry->state != HOME_U;
	}
	r->directory_bytes = r->pages_touched * sizeof(struct home_entry);
	r->hash = sim->trace.hash;
	r->virtual_ns = sim->now_ns;
	r->wait_p99_ns = wait_p99_ns(sim);
}

static void prepare(struct sim *sim)
{
	const struct sim_config *c = &sim->config;
	sim->random.state = c->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	sim->trace.room = c->last;
	sim->trace.file = c->trace;
	sim->trace.hash = 14695981039346656037u;
	sim->crashed = -1;
	sim->quota = c->accesses ? c->accesses / c->epochs : UINT64_MAX;
	sim->result->vm_code = -1;
	sim->result->wait_limit_ns =
		WAIT_LIMIT_NS + (uint64_t)c->nodes * c->vcpus * WAIT_LIMIT_VCPU_NS;
	if (c->disturbances & (1u << SIM_BIT_CRASH | 1u << SIM_BIT_CUT))
		sim->fatal_at = c->events / 4 + random_below(&sim->random, c->events / 2 + 1) + 1;
}

int sim_run_once(const struct sim_config *config, const uint32_t *plan, uint32_t *counts,
		 struct sim_result *result, FILE *report)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	if (!sim)
		return -ENOMEM;
	sim->plan = plan;
	sim->counts = counts;
	memset(result, 0, sizeof(*result));
	sim->config = *config;
	sim->result = result;
	prepare(sim);
	int err = world_create(sim);
	if (!err) {
		if (config->disturbances & 1u << SIM_BIT_SLOW)
			sim->node[random_below(&sim->random, config->nodes)].slow = SLOW_TIMES;
		boot(sim);
		work(sim);
		if (!check_failed(sim))
			end(sim);
		sum_up(sim);
		if (result->checker && report)
			trace_print_last(sim, report);
	}
	world_free(sim);
	free(sim);
	return err;
}

int sim_run(const struct sim_config *config, struct sim_result *result, FILE *report)
{
	if (config->homes == SIM_HOMES_MOVED)
		return homes_run_moved(config, result, report);
	return sim_run_once(config, NULL, NULL, result, report);
}
