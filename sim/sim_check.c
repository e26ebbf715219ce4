/* SPDX-License-Identifier: Apache-2.0 */
/* The checkers. They keep books of their own: what each slice maps, what was written last. */
#include <stdarg.h>
#include <string.h>

#include "sim/sim_parts.h"

void check_fail(struct sim *sim, const char *checker, const char *fmt, ...)
{
	va_list ap;
	if (sim->result->checker)
		return; /* the first one tells most */
	sim->result->checker = checker;
	va_start(ap, fmt);
	vsnprintf(sim->result->sentence, sizeof(sim->result->sentence), fmt, ap);
	va_end(ap);
}

bool check_failed(const struct sim *sim)
{
	return sim->result->checker != NULL;
}

static void books_count(struct sim *sim, unsigned page, unsigned mapping, uint32_t by)
{
	sim->readers[page] += mapping == MAPPED_READ ? by : 0;
	sim->writers[page] += mapping == MAPPED_WRITE ? by : 0;
}

void check_map(struct sim *sim, unsigned n, unsigned page, enum mapping after)
{
	books_count(sim, page, sim->node[n].mapping[page], UINT32_MAX);
	books_count(sim, page, after, 1);
	uint32_t writers = sim->writers[page], readers = sim->readers[page];
	if (writers > 1 || (writers && readers))
		check_fail(sim, "one writer",
			   "page %u has %u writers and %u readers as node %u maps it", page,
			   writers, readers, n);
}

void check_forget(struct sim *sim, unsigned n)
{
	for (unsigned page = 0; page < sim->config.pages; page++) {
		books_count(sim, page, sim->node[n].mapping[page], UINT32_MAX);
		sim->node[n].mapping[page] = MAPPED_NONE;
	}
}

void check_read(struct sim *sim, unsigned n, const struct access *access)
{
	uint64_t got = sim->node[n].frame[access->page][access->word];
	uint64_t want = sim->current[access->page][access->word];
	sim->result->reads_checked++;
	sim->result->reads_frozen += sim->node[n].protocol->frozen;
	if (got != want)
		check_fail(sim, "data value",
			   "node %u reads %llu from page %u word %u, and write %llu was the last",
			   n, (unsigned long long)got, access->page, access->word,
			   (unsigned long long)want);
}

void check_write(struct sim *sim, unsigned n, const struct access *access)
{
	uint64_t *page = sim->current[access->page];
	(void)n;
	sim->result->writes++;
	memcpy(sim->former[access->page], page, sizeof(sim->former[0]));
	sim->written++;
	if (access->clear)
		memset(page, 0, sizeof(sim->current[0]));
	else
		page[access->word] = sim->written;
}

void check_frame(struct sim *sim, unsigned n, unsigned page)
{
	if (sim->node[n].flying[page])
		check_fail(sim, "frame in flight",
			   "node %u changes page %u while its bytes are on their way", n, page);
}

static void check_vcpu(struct sim *sim, unsigned n, unsigned v)
{
	const struct vcpu *vcpu = &sim->node[n].vcpu[v];
	if (vcpu->state != VCPU_WAITING ||
	    sim->now_ns < vcpu->since_ns + sim->result->wait_limit_ns)
		return;
	check_fail(sim, "waiting", "vCPU %u of node %u has waited %llu ms to %s page %u", v, n,
		   (unsigned long long)((sim->now_ns - vcpu->since_ns) / NS_PER_MS),
		   vcpu->access.write ? "write" : "read", vcpu->access.page);
}

void check_waiting(struct sim *sim)
{
	/* Once a slice is lost nobody need be served: the VM ends, and for that there is a limit.
	 */
	for (unsigned n = 0; n < sim->config.nodes && !sim->lossy; n++) {
		for (unsigned v = 0; v < sim->config.vcpus; v++)
			check_vcpu(sim, n, v);
	}
}

static bool page_is_current(const struct sim *sim, unsigned n, unsigned page)
{
	return memcmp(sim->node[n].frame[page], sim->current[page], sizeof(sim->current[0])) == 0;
}

/* What a slice may be in, by its page's directory entry. */
static bool state_fits(const struct sim *sim, const struct home_entry *entry, unsigned n,
		       unsigned page, enum page_state state)
{
	const struct protocol *p = sim->node[n].protocol;
	bool own = page_home(sim, page) == n, groups = p->config.sharer_group > 1;
	if (entry->state == HOME_O)
		return state == (entry->owner == n ? PAGE_M : PAGE_I);
	if (entry->state != HOME_S)
		return state == PAGE_I;
	bool listed = groups && own ? entry->own : (entry->sharers & sharer_bit(p, n)) != 0;
	/* A group's bit says only that one of it may have a copy. */
	if (groups && !own && state == PAGE_I)
		return true;
	return state == (listed ? PAGE_S : PAGE_I);
}

static void rest_slice(struct sim *sim, const struct home_entry *entry, unsigned n, unsigned page)
{
	static const uint8_t mapped[PAGE_STATES] = {
		[PAGE_S] = MAPPED_READ, [PAGE_M] = MAPPED_WRITE};
	const struct node *node = &sim->node[n];
	enum page_state state = page_state(node->protocol, page_gfn(sim, page));
	if (!state_fits(sim, entry, n, page, state))
		check_fail(sim, "directory", "page %u is %s at its home %u and %s at node %u", page,
			   home_state_name(entry->state), page_home(sim, page),
			   page_state_name(state), n);
	if (node->mapping[page] != mapped[state])
		check_fail(sim, "directory", "page %u is %s at node %u and mapped otherwise", page,
			   page_state_name(state), n);
	if (state != PAGE_I && !page_is_current(sim, n, page))
		check_fail(sim, "data value", "node %u's copy of page %u is old", n, page);
}

static void rest_page(struct sim *sim, unsigned page)
{
	unsigned home = page_home(sim, page);
	const struct home_entry *entry = entry_find(sim->node[home].protocol, page_gfn(sim, page));
	if (entry->queue || entry->flags ||
	    (entry->state != HOME_U && entry->state != HOME_S && entry->state != HOME_O))
		check_fail(sim, "directory",
			   "page %u is %s at its home %u, and nothing is under way", page,
			   home_state_name(entry->state), home);
	if (entry->state == HOME_S && !page_is_current(sim, home, page))
		check_fail(sim, "data value", "the frame of page %u at its home %u is old", page,
			   home);
	for (unsigned n = 0; n < sim->config.nodes; n++)
		rest_slice(sim, entry, n, page);
}

static void rest_vcpus(struct sim *sim, unsigned n)
{
	const struct node *node = &sim->node[n];
	for (unsigned v = 0; v < sim->config.vcpus; v++) {
		if (node->vcpu[v].state == VCPU_WAITING)
			check_fail(sim, "waiting",
				   "vCPU %u of node %u waits for page %u, and nothing is under way",
				   v, n, node->vcpu[v].access.page);
	}
}

static void rest_node(struct sim *sim, unsigned n)
{
	const struct node *node = &sim->node[n];
	const struct protocol *p = node->protocol;
	if (p->requests.used || p->queues.used || p->queued_remote || p->evicting ||
	    node->put_off_count)
		check_fail(sim, "leak",
			   "at rest node %u keeps %u requests, %u queues with %u requests, %llu"
			   " evictions, %u faults put off",
			   n, p->requests.used, p->queues.used, p->queued_remote,
			   (unsigned long long)p->evicting, node->put_off_count);
	for (unsigned page = 0; page < sim->config.pages; page++) {
		if (node->flying[page])
			check_fail(sim, "leak", "at rest page %u of node %u is on its way", page,
				   n);
	}
}

void check_rest(struct sim *sim)
{
	for (unsigned n = 0; n < sim->config.nodes && !check_failed(sim); n++)
		rest_vcpus(sim, n);
	for (unsigned n = 0; n < sim->config.nodes && !check_failed(sim); n++)
		rest_node(sim, n);
	for (unsigned page = 0; page < sim->config.pages && !check_failed(sim); page++)
		rest_page(sim, page);
	sim->result->rests++;
}
