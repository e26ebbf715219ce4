/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI SLIT distances from measured round trips. */
#include "base/log.h"
#include "coordinator/coordinator_internal.h"

#define DISTANCE_SELF	 10
#define DISTANCE_NEAREST 20
#define DISTANCE_MAX	 254

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

static unsigned distance_of(uint64_t rtt_ns, uint64_t nearest_ns)
{
	if (!rtt_ns || !nearest_ns)
		return DISTANCE_NEAREST;
	/* In whole multiples of the nearest: a busy host makes more noise than halves. */
	uint64_t times = rtt_ns / nearest_ns;

	return times > DISTANCE_MAX / DISTANCE_NEAREST ? DISTANCE_MAX
						       : (unsigned)times * DISTANCE_NEAREST;
}

json_t *distances_make(const struct vm *vm)
{
	json_t *rows = json_array();
	uint64_t nearest = 0;

	for (unsigned a = 0; a < vm->slices; a++) {
		for (unsigned b = 0; b < a; b++) {
			uint64_t rtt = rtt_between(vm, a, b);
			if (rtt && (!nearest || rtt < nearest))
				nearest = rtt;
		}
	}
	for (unsigned a = 0; a < vm->slices; a++) {
		json_t *row = json_array();
		for (unsigned b = 0; b < vm->slices; b++) {
			unsigned distance = a == b ? DISTANCE_SELF
						   : distance_of(rtt_between(vm, a, b), nearest);
			invariant(json_array_append_new(row, json_integer(distance)) == 0);
		}
		invariant(json_array_append_new(rows, row) == 0);
	}
	return rows;
}
