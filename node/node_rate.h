/* SPDX-License-Identifier: Apache-2.0 */
/* How often somebody may do a thing: so many at once, and then so many a second. Pure. */
#ifndef NODE_RATE_H
#define NODE_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: nothing was done yet. One thread. */
struct rate {
	uint64_t at_ns;	  /* of the last time */
	uint64_t used_ns; /* what of the allowance is used up, as the time that gives it back */
};

/*
 * Counts one more at now_ns, of a clock that does not go back and may begin at any value. False: that
 * is more than `burst` at once and per_second after that.
 */
bool rate_allows(struct rate *rate, uint64_t now_ns, unsigned burst, unsigned per_second);

#endif
