/* SPDX-License-Identifier: Apache-2.0 */
/* The allowance of a slice's reports: whatever the clock shows at its start. */
#include <criterion/criterion.h>

#include "base/clock.h"
#include "node/node_rate.h"

#define BURST	   100
#define PER_SECOND 20

/* A machine that has just been started has a clock near zero; one that ran for years, a large one. */
static const uint64_t starts_ns[] = {0, 1, NS_PER_S, 4 * NS_PER_S, 300000000 * NS_PER_S};

Test(rate, a_burst_and_no_more_whatever_the_clock_shows)
{
	for (unsigned s = 0; s < sizeof(starts_ns) / sizeof(starts_ns[0]); s++) {
		struct rate rate = {0};

		for (unsigned i = 0; i < BURST; i++)
			cr_assert(rate_allows(&rate, starts_ns[s], BURST, PER_SECOND),
				  "the clock shows %llu, report %u",
				  (unsigned long long)starts_ns[s], i);
		cr_assert_not(rate_allows(&rate, starts_ns[s], BURST, PER_SECOND));
	}
}

Test(rate, time_gives_the_allowance_back)
{
	struct rate rate = {0};
	uint64_t now_ns = NS_PER_S;

	for (unsigned i = 0; i < BURST; i++)
		cr_assert(rate_allows(&rate, now_ns, BURST, PER_SECOND));
	for (unsigned i = 0; i < 1000; i++) {
		now_ns += NS_PER_S / PER_SECOND;
		cr_assert(rate_allows(&rate, now_ns, BURST, PER_SECOND));
	}
	cr_assert_not(rate_allows(&rate, now_ns, BURST, PER_SECOND));
	now_ns += 3600 * NS_PER_S;
	for (unsigned i = 0; i < BURST; i++)
		cr_assert(rate_allows(&rate, now_ns, BURST, PER_SECOND));
	cr_assert_not(rate_allows(&rate, now_ns, BURST, PER_SECOND));
}
