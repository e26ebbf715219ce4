/* SPDX-License-Identifier: Apache-2.0 */
/* Which nodes give which CPUs and memory to a VM, or the sentence that says what is missing. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/coordinator_internal.h"

/* What a node could still give, while a placement is being worked out. */
struct offer {
	struct node *node;
	unsigned cpus;
	uint64_t mem_bytes;
};

struct offers {
	unsigned count;
	struct offer offer[NODES_MAX];
};

static int offer_compare(const void *a, const void *b)
{
	const struct offer *x = a, *y = b;

	/* node2 before node10 */
	return strverscmp(x->node->name, y->node->name);
}

/* All vCPUs that slices on the node have. */
static unsigned node_vcpus(const struct coordinator *co, const struct node *node)
{
	unsigned vcpus = 0;

	for (unsigned i = 0; i < VMS_MAX; i++)
		for (unsigned s = 0; co->vm[i] && s < co->vm[i]->slices; s++)
			if (co->vm[i]->slice[s].node == node &&
			    co->vm[i]->slice[s].state != SLICE_GONE)
				vcpus += co->vm[i]->slice[s].vcpus;
	return vcpus;
}

/* The CPUs that the node has for a VM that may share them with others. */
static unsigned node_cpus_shared(const struct coordinator *co, const struct node *node)
{
	unsigned taken = node_vcpus(co, node), all = node->cpus * OVERCOMMIT_CPUS;

	return all > taken ? all - taken : 0;
}

static void offers_collect(struct coordinator *co, bool overcommit, struct offers *offers)
{
	offers->count = 0;
	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &co->node[i];
		if (node->used && node->peer)
			offers->offer[offers->count++] = (struct offer){
				node, overcommit ? node_cpus_shared(co, node) : node->cpus_free,
				node->mem_free};
	}
	qsort(offers->offer, offers->count, sizeof(offers->offer[0]), offer_compare);
}

/* Appends to a sentence; a sentence that gets too long is cut. */
__attribute__((format(printf, 2, 3))) static void why_add(char *why, const char *fmt, ...)
{
	size_t used = strlen(why);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why + used, CONTROL_WHY_MAX - used, fmt, ap);
	va_end(ap);
}

static void why_names(char *why, const struct offers *offers)
{
	if (offers->count == 0)
		why_add(why, " none");
	for (unsigned i = 0; i < offers->count; i++)
		why_add(why, "%s %s", i ? "," : "", offers->offer[i].node->name);
}

static int cpus_missing(unsigned need, const struct offers *offers, char *why)
{
	unsigned total = 0;

	for (unsigned i = 0; i < offers->count; i++)
		total += offers->offer[i].cpus;
	snprintf(why, CONTROL_WHY_MAX, "needs %u CPUs, the nodes have %u free:", need, total);
	for (unsigned i = 0; i < offers->count; i++)
		why_add(why, "%s %s %u", i ? "," : "", offers->offer[i].node->name,
			offers->offer[i].cpus);
	return -PANGEA_ENOFIT;
}

static int mem_missing(uint64_t need, const struct offers *offers, char *why)
{
	char text[32];
	uint64_t total = 0;

	for (unsigned i = 0; i < offers->count; i++)
		total += offers->offer[i].mem_bytes & ~(HOME_CHUNK_SIZE - 1);
	control_size_format(need, text, sizeof(text));
	snprintf(why, CONTROL_WHY_MAX, "needs %s of memory, the nodes have", text);
	control_size_format(total, text, sizeof(text));
	why_add(why, " %s free:", text);
	for (unsigned i = 0; i < offers->count; i++) {
		control_size_format(offers->offer[i].mem_bytes, text, sizeof(text));
		why_add(why, "%s %s %s", i ? "," : "", offers->offer[i].node->name, text);
	}
	return -PANGEA_ENOFIT;
}

/*
 * Splits total evenly over n bins, none above its cap, remainders to the first; what a full bin
 * cannot take goes evenly to the others. False if the caps are too small together.
 */
static bool split_even(uint64_t total, const uint64_t *cap, uint64_t *out, unsigned n)
{
	memset(out, 0, n * sizeof(out[0]));
	while (total) {
		unsigned open = 0, nth = 0;
		for (unsigned i = 0; i < n; i++)
			open += out[i] < cap[i];
		if (open == 0)
			return false;
		uint64_t share = total / open, rest = total % open;
		for (unsigned i = 0; i < n; i++) {
			if (out[i] >= cap[i])
				continue;
			uint64_t give = share + (nth++ < rest);
			if (give > cap[i] - out[i])
				give = cap[i] - out[i];
			out[i] += give;
			total -= give;
		}
	}
	return true;
}

/* Puts the nodes that can take an even share first; else the order stays. */
static void offers_fit_first(struct offers *offers, unsigned n, unsigned cpus, uint64_t chunks)
{
	struct offer sorted[NODES_MAX];
	unsigned at = 0;

	for (int fits = 1; fits >= 0; fits--) {
		for (unsigned i = 0; i < offers->count; i++) {
			const struct offer *offer = &offers->offer[i];
			bool fit = offer->cpus >= (cpus + n - 1) / n &&
				   offer->mem_bytes / HOME_CHUNK_SIZE >= (chunks + n - 1) / n;
			if (fit == (bool)fits)
				sorted[at++] = *offer;
		}
	}
	memcpy(offers->offer, sorted, at * sizeof(sorted[0]));
	qsort(offers->offer, n, sizeof(offers->offer[0]), offer_compare);
}

/* Tries a VM on exactly n of the nodes that are on offer. */
static int spread_over(const struct offers *all, unsigned n, unsigned cpus, uint64_t mem_bytes,
		       struct placement *out, char *why)
{
	struct offers offers = *all;
	uint64_t cap[SLICES_MAX] = {0}, got_cpus[SLICES_MAX], got_chunks[SLICES_MAX];

	offers_fit_first(&offers, n, cpus, mem_bytes / HOME_CHUNK_SIZE);
	offers.count = n;
	for (unsigned i = 0; i < n; i++)
		cap[i] = offers.offer[i].cpus;
	if (!split_even(cpus, cap, got_cpus, n))
		return cpus_missing(cpus, &offers, why);
	for (unsigned i = 0; i < n; i++)
		cap[i] = offers.offer[i].mem_bytes / HOME_CHUNK_SIZE;
	if (!split_even(mem_bytes / HOME_CHUNK_SIZE, cap, got_chunks, n))
		return mem_missing(mem_bytes, &offers, why);
	out->slices = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!got_cpus[i] && !got_chunks[i])
			continue;
		out->slice[out->slices].node = offers.offer[i].node;
		out->slice[out->slices].vcpus = (unsigned)got_cpus[i];
		out->slice[out->slices++].mem_bytes = got_chunks[i] * HOME_CHUNK_SIZE;
	}
	/* Slice 0 boots, so it needs a CPU: the first that has one becomes slice 0. */
	for (unsigned i = 1; i < out->slices && !out->slice[0].vcpus; i++) {
		if (!out->slice[i].vcpus)
			continue;
		__typeof__(out->slice[0]) first = out->slice[i];
		out->slice[i] = out->slice[0];
		out->slice[0] = first;
	}
	return 0;
}

static int free_compare(const void *a, const void *b)
{
	const struct offer *x = a, *y = b;

	if (x->cpus != y->cpus)
		return x->cpus < y->cpus ? -1 : 1;
	if (x->mem_bytes != y->mem_bytes)
		return x->mem_bytes < y->mem_bytes ? -1 : 1;
	return offer_compare(a, b);
}

/* On as few nodes as there need be: of those that can take a share the fullest, so that the emptiest are left for others; where no such will
 * do, the emptiest. */
static int pack(const struct offers *all, unsigned most, unsigned cpus, uint64_t mem_bytes,
		struct placement *out, char *why)
{
	struct offers up = *all, down = *all;
	int err = -PANGEA_ENOFIT;

	qsort(up.offer, up.count, sizeof(up.offer[0]), free_compare);
	for (unsigned i = 0; i < up.count; i++)
		down.offer[i] = up.offer[up.count - 1 - i];
	for (unsigned n = 1; n <= most && err; n++) {
		err = spread_over(&up, n, cpus, mem_bytes, out, why);
		if (err)
			err = spread_over(&down, n, cpus, mem_bytes, out, why);
	}
	return err;
}

/* "placement", which may be missing. */
static int pack_parse(const json_t *run, bool *packs, char *why)
{
	const char *word = "spread";
	int err = json_object_get(run, "placement")
			  ? control_get_string(run, "placement", &word, why)
			  : 0;

	*packs = strcmp(word, "pack") == 0;
	if (err || *packs || strcmp(word, "spread") == 0)
		return err;
	snprintf(why, CONTROL_WHY_MAX, "the placement is spread or pack, not \"%.20s\"", word);
	return -EINVAL;
}

static int mem_check(uint64_t mem_bytes, char *why)
{
	char text[32];

	if (mem_bytes % HOME_CHUNK_SIZE == 0)
		return 0;
	control_size_format(mem_bytes, text, sizeof(text));
	snprintf(why, CONTROL_WHY_MAX, "memory comes in pieces of 2 MiB: %s does not", text);
	return -EINVAL;
}

static int spread(const struct offers *all, const json_t *run, struct placement *out, char *why)
{
	struct offers offers = {0};
	unsigned cpus, limit, most, n;
	uint64_t mem_bytes;
	bool packs;
	int err;

	if ((err = control_get_uint(run, "cpus", 1, VCPUS_MAX, &cpus, why)) ||
	    (err = control_get_u64(run, "mem_bytes", 1, GUEST_MEM_MAX, &mem_bytes, why)) ||
	    (err = control_get_uint(run, "nodes", 0, SLICES_MAX, &limit, why)) ||
	    (err = pack_parse(run, &packs, why)) || (err = mem_check(mem_bytes, why)))
		return err;
	if (all->count == 0) {
		snprintf(why, CONTROL_WHY_MAX, "no node is ready");
		return -PANGEA_ENOFIT;
	}
	if (limit > all->count) {
		snprintf(why, CONTROL_WHY_MAX, "needs %u nodes, %u %s ready:", limit, all->count,
			 all->count == 1 ? "is" : "are");
		why_names(why, all);
		return -PANGEA_ENOFIT;
	}
	for (unsigned i = 0; i < all->count; i++)
		if (all->offer[i].cpus || all->offer[i].mem_bytes >= HOME_CHUNK_SIZE)
			offers.offer[offers.count++] = all->offer[i];
	most = limit ? limit : SLICES_MAX;
	most = most < offers.count ? most : offers.count;
	if (most == 0)
		return cpus_missing(cpus, all, why);
	if (packs)
		return pack(&offers, most, cpus, mem_bytes, out, why);
	/* A CPU on every node if possible; nodes that only give memory if that is needed. */
	n = cpus < most ? cpus : most;
	err = spread_over(&offers, n, cpus, mem_bytes, out, why);
	if (err && n < most)
		err = spread_over(&offers, most, cpus, mem_bytes, out, why);
	return err;
}

static struct offer *offer_find(struct offers *offers, const char *name)
{
	for (unsigned i = 0; i < offers->count; i++)
		if (strcmp(offers->offer[i].node->name, name) == 0)
			return &offers->offer[i];
	return NULL;
}

/* One slice that the user spelled out; takes it off the offer. */
static int slice_place(struct offers *offers, const json_t *want, struct placement *out, char *why)
{
	unsigned at = out->slices, cpus;
	char need[32], have[32];
	struct offer *offer;
	uint64_t mem_bytes;
	const char *name;
	int err;

	if ((err = control_get_name(want, "node", &name, why)) ||
	    (err = control_get_uint(want, "cpus", 0, VCPUS_MAX, &cpus, why)) ||
	    (err = control_get_u64(want, "mem_bytes", 0, GUEST_MEM_MAX, &mem_bytes, why)) ||
	    (err = mem_check(mem_bytes, why)))
		return err;
	offer = offer_find(offers, name);
	if (!offer) {
		snprintf(why, CONTROL_WHY_MAX, "slice %u wants node %s; the nodes are:", at, name);
		why_names(why, offers);
		return -PANGEA_ENOFIT;
	}
	if (cpus > offer->cpus) {
		snprintf(why, CONTROL_WHY_MAX, "slice %u needs %u CPUs, node %s has %u free", at,
			 cpus, name, offer->cpus);
		return -PANGEA_ENOFIT;
	}
	if (mem_bytes > offer->mem_bytes) {
		control_size_format(mem_bytes, need, sizeof(need));
		control_size_format(offer->mem_bytes, have, sizeof(have));
		snprintf(why, CONTROL_WHY_MAX, "slice %u needs %s of memory, node %s has %s free",
			 at, need, name, have);
		return -PANGEA_ENOFIT;
	}
	offer->cpus -= cpus;
	offer->mem_bytes -= mem_bytes;
	out->slice[at].node = offer->node;
	out->slice[at].vcpus = cpus;
	out->slice[at].mem_bytes = mem_bytes;
	out->slices++;
	return 0;
}

static int place_explicit(struct offers *offers, const json_t *slices, struct placement *out,
			  char *why)
{
	uint64_t mem_bytes = 0;
	unsigned cpus = 0;
	size_t i;
	json_t *want;

	json_array_foreach(slices, i, want)
	{
		int err = slice_place(offers, want, out, why);
		if (err)
			return err;
		cpus += out->slice[i].vcpus;
		mem_bytes += out->slice[i].mem_bytes;
	}
	if (cpus > VCPUS_MAX || mem_bytes > GUEST_MEM_MAX) {
		snprintf(why, CONTROL_WHY_MAX, "at most %d CPUs and 4 TiB of memory make a VM",
			 VCPUS_MAX);
		return -EINVAL;
	}
	if (out->slice[0].vcpus == 0 || mem_bytes == 0) {
		snprintf(why, CONTROL_WHY_MAX, "%s",
			 mem_bytes ? "the first slice boots the guest: it needs a CPU"
				   : "a VM needs memory");
		return -EINVAL;
	}
	return 0;
}

int placement_find(struct coordinator *co, const json_t *run, struct placement *out, char *why)
{
	struct offers offers;
	json_t *slices;
	int err = control_get_array(run, "slices", SLICES_MAX, &slices, why);

	if (err)
		return err;
	memset(out, 0, sizeof(*out));
	if (json_object_get(run, "overcommit") &&
	    (err = control_get_bool(run, "overcommit", &out->overcommit, why)))
		return err;
	offers_collect(co, out->overcommit, &offers);
	if (json_array_size(slices))
		return place_explicit(&offers, slices, out, why);
	return spread(&offers, run, out, why);
}
