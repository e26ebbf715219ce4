/* SPDX-License-Identifier: Apache-2.0 */
/* A bucket that runs empty at the allowed rate. */
#include "node/node_rate.h"

#include "base/clock.h"

bool rate_allows(struct rate *rate, uint64_t now_ns, unsigned burst, unsigned per_second)
{
	uint64_t one_ns = NS_PER_S / per_second, gone_ns = now_ns - rate->at_ns;

	rate->at_ns = now_ns;
	rate->used_ns = rate->used_ns > gone_ns ? rate->used_ns - gone_ns : 0;
	rate->used_ns += one_ns;
	return rate->used_ns <= burst * one_ns;
}
