/* SPDX-License-Identifier: Apache-2.0 */
/* Where in the guest's code its faults on other slices' pages come from: counts by address. */
#include "vmm/machine/fault_places.h"

#include <assert.h>
#include <string.h>

#include "base/hash.h"

/* One thread writes: no read-modify-write is needed. */
#define GET(object)	   atomic_load_explicit(&(object), memory_order_relaxed)
#define SET(object, value) atomic_store_explicit(&(object), (value), memory_order_relaxed)

/* The best bits of a hash choose the set. */
#define SET_SHIFT 26
static_assert(FAULT_PLACES_SETS == 1u << (32 - SET_SHIFT), "as many sets as hashes");

/* How much less faults count that were counted up to period `then`. */
static unsigned halvings(uint64_t now_ns, uint64_t then)
{
	uint64_t now = now_ns >> FAULT_PLACES_HALF_SHIFT;

	if (now <= then)
		return 0;
	return now - then < 31 ? (unsigned)(now - then) : 31;
}

static void age(struct fault_places *places, uint64_t now_ns)
{
	unsigned shift = halvings(now_ns, GET(places->period));

	if (!shift)
		return;
	for (unsigned set = 0; set < FAULT_PLACES_SETS; set++)
		for (unsigned i = 0; i < FAULT_PLACES_WAYS; i++) {
			SET(places->way[set][i].faults, GET(places->way[set][i].faults) >> shift);
			SET(places->way[set][i].uncertain,
			    GET(places->way[set][i].uncertain) >> shift);
		}
	SET(places->recent, GET(places->recent) >> shift);
	SET(places->period, now_ns >> FAULT_PLACES_HALF_SHIFT);
}

void fault_places_add(struct fault_places *places, uint64_t address, uint64_t now_ns)
{
	unsigned set = hash_u64(address) >> SET_SHIFT, least = 0;

	age(places, now_ns);
	SET(places->recent, GET(places->recent) + 1);
	for (unsigned i = 0; i < FAULT_PLACES_WAYS; i++) {
		if (GET(places->way[set][i].address) == address) {
			SET(places->way[set][i].faults, GET(places->way[set][i].faults) + 1);
			return;
		}
		if (GET(places->way[set][i].faults) < GET(places->way[set][least].faults))
			least = i;
	}
	SET(places->way[set][least].uncertain, GET(places->way[set][least].faults));
	SET(places->way[set][least].faults, GET(places->way[set][least].faults) + 1);
	SET(places->way[set][least].address, address);
}

/* Keeps the list in order; what falls off its end has the fewest. */
static void list_insert(struct fault_places_list *out, uint64_t address, uint64_t faults)
{
	unsigned at = out->count;

	while (at && out->place[at - 1].faults < faults)
		at--;
	if (at == FAULT_PLACES_MAX)
		return;
	if (out->count < FAULT_PLACES_MAX)
		out->count++;
	memmove(&out->place[at + 1], &out->place[at],
		(out->count - 1 - at) * sizeof(out->place[0]));
	out->place[at].address = address;
	out->place[at].faults = faults;
}

void fault_places_list(const struct fault_places *places, uint64_t now_ns,
		       struct fault_places_list *out)
{
	unsigned shift = halvings(now_ns, GET(places->period));

	memset(out, 0, sizeof(*out));
	out->recent = GET(places->recent) >> shift;
	for (unsigned set = 0; set < FAULT_PLACES_SETS; set++)
		for (unsigned i = 0; i < FAULT_PLACES_WAYS; i++) {
			uint64_t address = GET(places->way[set][i].address);
			uint32_t faults = GET(places->way[set][i].faults);
			uint32_t uncertain = GET(places->way[set][i].uncertain);

			faults = faults > uncertain ? (faults - uncertain) >> shift : 0;
			if (address && faults)
				list_insert(out, address, faults);
		}
}
