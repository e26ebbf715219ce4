/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of the ways between slices, from measured round trips: ACPI's distances, and latencies. */
#include "base/log.h"
#include "coordinator/coordinator_internal.h"

#define DISTANCE_SELF 10
/*
 * A page of another slice costs some 100 us, one that is here 100 ns: no byte can say that. So the farthest is
 * at the most that there is, and the others in proportion; but all are well beyond 30, above which Linux
 * (node_reclaim_distance) no longer starts, wakes and balances tasks across nodes as if that cost nothing.
 */
#define DISTANCE_LEAST 40
/* More than the distances can show. */
#define TIMES_LIMIT 1000

static uint64_t rtt_one(const struct vm *vm, unsigned from, unsigned to)
{
	json_int_t ns = json_integer_value(json_array_get(vm->slice[from].rtt_ns, to));

	return ns > 0 ? (uint64_t)ns : 0;
}

/* Both ends measured the same wire: the smaller has less noise in it. 0: unknown. */
static uint64_t rtt_between(const struct vm *vm, unsigned a, unsigned b)
{
	uint64_t x = rtt_one(vm, a, b), y = rtt_one(vm, b, a);

	if (!x || !y)
		return x ? x : y;
	return x < y ? x : y;
}

/* In whole multiples of the nearest: a busy host makes more noise than halves. Not measured: as the nearest. */
static uint64_t times_of(uint64_t rtt_ns, uint64_t nearest_ns)
{
	uint64_t times = rtt_ns && nearest_ns ? rtt_ns / nearest_ns : 1;

	return times < TIMES_LIMIT ? times : TIMES_LIMIT;
}

static unsigned distance_of(uint64_t times, uint64_t times_max)
{
	uint64_t distance = NUMA_DISTANCE_MAX * times / times_max;

	return distance < DISTANCE_LEAST ? DISTANCE_LEAST : (unsigned)distance;
}

static uint64_t nearest_find(const struct vm *vm)
{
	uint64_t nearest = 0;

	for (unsigned a = 0; a < vm->slices; a++) {
		for (unsigned b = 0; b < a; b++) {
			uint64_t rtt = rtt_between(vm, a, b);
			if (rtt && (!nearest || rtt < nearest))
				nearest = rtt;
		}
	}
	return nearest;
}

json_t *distances_make(const struct vm *vm)
{
	uint64_t nearest = nearest_find(vm), times_max = 1;
	json_t *rows = json_array();

	for (unsigned a = 0; a < vm->slices; a++) {
		for (unsigned b = 0; b < a; b++) {
			uint64_t times = times_of(rtt_between(vm, a, b), nearest);
			times_max = times > times_max ? times : times_max;
		}
	}
	for (unsigned a = 0; a < vm->slices; a++) {
		json_t *row = json_array();
		for (unsigned b = 0; b < vm->slices; b++) {
			unsigned distance = vm->distance;
			if (a == b)
				distance = DISTANCE_SELF;
			else if (!distance)
				distance = distance_of(times_of(rtt_between(vm, a, b), nearest),
						       times_max);
			invariant(json_array_append_new(row, json_integer(distance)) == 0);
		}
		invariant(json_array_append_new(rows, row) == 0);
	}
	return rows;
}

/* A page that another slice has is a round trip away; the rest of a fault is small beside it. */
json_t *latencies_make(const struct vm *vm)
{
	json_t *rows = json_array();

	for (unsigned a = 0; a < vm->slices; a++) {
		json_t *row = json_array();
		for (unsigned b = 0; b < vm->slices; b++) {
			uint64_t ns = a == b ? 0 : rtt_between(vm, a, b);
			if (ns > CONTROL_LATENCY_NS_MAX)
				ns = CONTROL_LATENCY_NS_MAX;
			invariant(json_array_append_new(row, json_integer((json_int_t)ns)) == 0);
		}
		invariant(json_array_append_new(rows, row) == 0);
	}
	return rows;
}
