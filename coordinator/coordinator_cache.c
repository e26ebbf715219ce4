/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory each slice may spend on copies of the other slices' pages, and which part of it
 * comes from what its node offers. A floor is overhead: no node is asked for it, so that a VM fits
 * wherever its own memory fits. All that goes beyond is taken from the node's free memory.
 */
#include <stdio.h>

#include "coordinator/coordinator_internal.h"

/* The floor, and what comes on top where there is room, are such a part of a slice's base each. */
#define PART	       8u
#define FLOOR_MIN      (UINT64_C(16) << 20)
#define FLOOR_PER_VCPU (UINT64_C(256) << 10)

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t vm_bytes(const struct placement *placement)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < placement->slices; i++)
		bytes += placement->slice[i].mem_bytes;
	return bytes;
}

/* A slice's own memory, or an even share of the VM's where that is more: CPUs without memory work
 * on copies alone. */
static uint64_t slice_base(const struct placement *placement, unsigned i)
{
	uint64_t own = placement->slice[i].mem_bytes,
		 share = vm_bytes(placement) / placement->slices;

	return own > share ? own : share;
}

static uint64_t slice_floor(const struct placement *placement, unsigned i)
{
	uint64_t bytes = slice_base(placement, i) / PART,
		 /* 2 more: the thread that writes the kernel, and what is on its way. */
		cpus = (placement->slice[i].vcpus + 2) * FLOOR_PER_VCPU;

	bytes = bytes > FLOOR_MIN ? bytes : FLOOR_MIN;
	bytes = bytes > cpus ? bytes : cpus;
	return bytes & ~(PANGEA_PAGE_SIZE - 1);
}

/* What a slice's node has left beside this placement, as far as it is worked out. */
static uint64_t node_left(const struct placement *placement, const struct node *node)
{
	uint64_t taken = 0;

	for (unsigned i = 0; i < placement->slices; i++)
		if (placement->slice[i].node == node)
			taken += placement->slice[i].mem_bytes +
				 placement->slice[i].cache_room_bytes;
	return node->mem_free > taken ? node->mem_free - taken : 0;
}

static int room_missing(const struct placement *placement, unsigned i, uint64_t room, uint64_t left,
			char *why)
{
	char need[32], have[32];

	control_size_format(room, need, sizeof(need));
	control_size_format(left, have, sizeof(have));
	snprintf(why, CONTROL_WHY_MAX,
		 "the cache of slice %u needs %s of memory beside the slice's own, node %s has %s "
		 "free",
		 i, need, placement->slice[i].node->name, have);
	return -PANGEA_ENOFIT;
}

/* The limit that the user asked for: what is above the floor must fit. */
static int slice_plan_wish(const struct cache_wish *wish, struct placement *placement, unsigned i,
			   uint64_t others, char *why)
{
	uint64_t limit = wish->bytes, left = node_left(placement, placement->slice[i].node),
		 floor = slice_floor(placement, i), used;

	if (wish->none)
		return 0;
	if (wish->percent)
		limit = placement->slice[i].mem_bytes / 100 * wish->percent;
	placement->slice[i].cache_limited = true;
	placement->slice[i].cache_bytes = limit;
	/* More than there is, nobody can use. */
	used = least(limit, others);
	if (used <= floor)
		return 0;
	if (used - floor > left)
		return room_missing(placement, i, used - floor, left, why);
	placement->slice[i].cache_room_bytes = used - floor;
	return 0;
}

/* Without a wish: the floor, and as much again as the node has room. */
static void slice_plan(struct placement *placement, unsigned i, uint64_t others)
{
	uint64_t floor = slice_floor(placement, i), room = slice_base(placement, i) / PART;

	/* Where all of the others' memory fits there is nothing to keep to. */
	if (others <= floor)
		return;
	room = least(room, others - floor);
	room = least(room, node_left(placement, placement->slice[i].node));
	/* Slices are made of whole chunks: nothing is left over that no other slice can use. */
	room &= ~(HOME_CHUNK_SIZE - 1);
	placement->slice[i].cache_limited = true;
	placement->slice[i].cache_bytes = floor + room;
	placement->slice[i].cache_room_bytes = room;
}

int cache_plan(const struct cache_wish *wish, struct placement *placement, char *why)
{
	uint64_t all = vm_bytes(placement);
	int err = 0;

	for (unsigned i = 0; i < placement->slices && !err; i++) {
		uint64_t others = all - placement->slice[i].mem_bytes;
		if (wish->none || wish->bytes || wish->percent)
			err = slice_plan_wish(wish, placement, i, others, why);
		else
			slice_plan(placement, i, others);
	}
	return err;
}
