/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps a slice's guest clock with slice 0's: takes round trips, estimates, corrects the rate. */
#ifndef VMM_CLOCK_SYNC_H
#define VMM_CLOCK_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/clock/clock.h"

/*
 * Pure: no thread, no message, no clock but the guest_clock given. The caller locks.
 *
 * A round trip that left at host time a and came back at b with slice 0's guest time g says: guest
 * time at (a + b) / 2 was g, give or take (b - a) / 2, whatever the delays of the two ways were.
 * Of a burst of round trips the shortest counts. Closing a burst fits a line through the last
 * bursts' offsets (weighted by their errors, so a burst on a busy host counts for little) and sets
 * the rate at which the guest's clock meets that line when the next burst is due. See docs/time.md.
 */

/* The line goes through this many bursts: 32 s of them, which follows a crystal's temperature. */
#define CLOCK_SYNC_HISTORY 16u
/* Bursts come closer while the hosts' relative rate is not known: 100 ppm unknown are 3 us after
 * the least of these, 200 us after the greatest. */
#define CLOCK_SYNC_INTERVAL_MIN_NS (32 * NS_PER_MS)
#define CLOCK_SYNC_INTERVAL_MAX_NS (2 * NS_PER_S)

struct clock_sync_sample {
	uint64_t host_ns;  /* the middle of the round trip */
	int64_t offset_ns; /* guest time less host time */
	uint64_t error_ns; /* half the round trip */
};

struct clock_sync {
	struct clock_sync_sample best; /* of the open burst */
	unsigned samples;	       /* in it */
	struct clock_sync_sample history[CLOCK_SYNC_HISTORY];
	unsigned used, at;
	uint64_t interval_ns; /* from the beginning of the next burst to that of the one after */
	uint64_t away_ns;     /* how far the clock can be off where its last piece begins */
	/* results */
	int64_t offset_ns;
	uint64_t error_ns;
	uint64_t bursts;
};

void clock_sync_init(struct clock_sync *s);

/* One answered round trip, by this host's clock, and slice 0's guest time; later than the earlier
 * ones. Impossible ones (received before sent) are left out. */
void clock_sync_add(struct clock_sync *s, uint64_t sent_ns, uint64_t received_ns,
		    uint64_t guest_ns);

/*
 * Ends the burst and corrects the clock: by a step if that is still allowed, else by its rate.
 * -EAGAIN: no round trip was answered since the last close; nothing is changed.
 *
 * Then offset_ns is guest time less host time, and error_ns bounds how far this clock was from
 * slice 0's at any moment since the close before (for a step: just now), provided that the two
 * hosts' rates were steady in between.
 */
int clock_sync_close(struct clock_sync *s, struct guest_clock *clock, bool step);

#endif
