/* SPDX-License-Identifier: Apache-2.0 */
/* Where in the guest's code its faults on other slices' pages come from: a table of fixed size. */
#ifndef VMM_FAULT_PLACES_H
#define VMM_FAULT_PLACES_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/limits.h"

/*
 * Sets of Space-Saving summaries, as page_counts.h has them for pages: an address that is not there
 * takes the place of the one with the fewest faults in its set, counts on from these, and notes them
 * as uncertain. Faults count half after each 2^35 ns, 34 s.
 *
 * Threads: one adds (the engine thread), which neither allocates nor locks nor makes a system call.
 * Any thread lists: an address that is replaced meanwhile may come with its successor's faults.
 */
#define FAULT_PLACES_SETS	64u
#define FAULT_PLACES_WAYS	8u
#define FAULT_PLACES_HALF_SHIFT 35

/* All zero: nothing yet. */
struct fault_places {
	struct {
		_Atomic uint64_t address; /* 0: none */
		_Atomic uint32_t faults, uncertain;
	} way[FAULT_PLACES_SETS][FAULT_PLACES_WAYS];
	_Atomic uint64_t recent; /* all faults */
	_Atomic uint64_t period; /* of the last one */
};

struct fault_places_list {
	unsigned count;	 /* the most first */
	uint64_t recent; /* all faults, older ones counting less */
	struct {
		uint64_t address, faults; /* at least so many */
	} place[FAULT_PLACES_MAX];
};

/* address: not 0. */
void fault_places_add(struct fault_places *places, uint64_t address, uint64_t now_ns);
void fault_places_list(const struct fault_places *places, uint64_t now_ns,
		       struct fault_places_list *out);

#endif
