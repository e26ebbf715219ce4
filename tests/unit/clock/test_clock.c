/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's clock: never back, for one reader nor from reader to reader, whatever the rates. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/random.h"
#include "vmm/clock/clock.h"

#define HOUR_NS (3600 * NS_PER_S)

/* A host whose time stands still until it is told to go. */
static uint64_t still_now(void *ctx)
{
	return *(uint64_t *)ctx;
}

static struct guest_clock_source still(uint64_t *now_ns)
{
	return (struct guest_clock_source){.now_ns = still_now, .ctx = now_ns};
}

static uint64_t random_next(uint64_t *state)
{
	return random_xorshift(state);
}

Test(clock, runs_as_the_host)
{
	uint64_t now = 5 * HOUR_NS;
	struct guest_clock_source source = still(&now);
	struct guest_clock c;

	guest_clock_init(&c, &source, now - 70, 0);
	cr_assert_eq(guest_clock_now(&c), 70);
	now += 1000 * HOUR_NS;
	cr_assert_eq(guest_clock_now(&c), 1000 * HOUR_NS + 70);
	cr_assert_eq(guest_clock_rate(&c), 0);
}

Test(clock, before_its_origin_it_stands)
{
	uint64_t now = 1000;
	struct guest_clock_source source = still(&now);
	struct guest_clock c;

	guest_clock_init(&c, &source, 5000, 7);
	cr_assert_eq(guest_clock_now(&c), 7);
	now = 5001;
	cr_assert_eq(guest_clock_now(&c), 8);
}

Test(clock, a_step_jumps)
{
	uint64_t now = 1000;
	struct guest_clock_source source = still(&now);
	struct guest_clock c;

	guest_clock_init(&c, &source, now, 0);
	guest_clock_step(&c, 500, HOUR_NS, 0);
	cr_assert_eq(guest_clock_now(&c), HOUR_NS + 500);
}

Test(clock, a_slew_begins_where_it_was)
{
	uint64_t now = HOUR_NS;
	struct guest_clock_source source = still(&now);
	struct guest_clock c;

	guest_clock_init(&c, &source, now, 0);
	now += NS_PER_S;
	cr_assert_eq(guest_clock_slew(&c, GUEST_CLOCK_RATE_ONE / 4000), 0);
	cr_assert_eq(guest_clock_now(&c), NS_PER_S, "not yet");
	cr_assert_eq(guest_clock_slew(&c, 0), -EAGAIN, "the last one has not begun");
	now += GUEST_CLOCK_LEAD_NS;
	cr_assert_eq(guest_clock_now(&c), NS_PER_S + GUEST_CLOCK_LEAD_NS);
	now += NS_PER_S;
	cr_assert_eq(guest_clock_now(&c), 2 * NS_PER_S + GUEST_CLOCK_LEAD_NS + 249999,
		     "2^32 / 4000 is rounded down");
	/* Times that were, as the alignment asks for them. */
	cr_assert_eq(guest_clock_at(&c, HOUR_NS + NS_PER_S / 2), NS_PER_S / 2);
}

Test(clock, rates_are_cut)
{
	uint64_t now = HOUR_NS;
	struct guest_clock_source source = still(&now);
	struct guest_clock c;

	guest_clock_init(&c, &source, now, 0);
	cr_assert_eq(guest_clock_slew(&c, INT64_MAX), 0);
	cr_assert_eq(guest_clock_rate(&c), GUEST_CLOCK_RATE_MAX);
	now += NS_PER_S;
	cr_assert_eq(guest_clock_slew(&c, INT64_MIN), 0);
	cr_assert_eq(guest_clock_rate(&c), -GUEST_CLOCK_RATE_MAX);
}

/* Random slews at random times: each nanosecond around every knee, and in between. */
Test(clock, no_nanosecond_back)
{
	uint64_t seed = 20240607, now = HOUR_NS, last = 0;
	struct guest_clock_source source = still(&now);
	struct guest_clock c;

	printf("seed %llu\n", (unsigned long long)seed);
	guest_clock_init(&c, &source, now, 0);
	for (unsigned i = 0; i < 2000; i++) {
		int64_t rate = (int64_t)(random_next(&seed) % (2 * GUEST_CLOCK_RATE_MAX)) -
			       GUEST_CLOCK_RATE_MAX;

		cr_assert_eq(guest_clock_slew(&c, rate), 0);
		for (unsigned j = 0; j < 300; j++) {
			uint64_t guest = guest_clock_now(&c);

			cr_assert_geq(guest, last, "slew %u, read %u", i, j);
			last = guest;
			now += j < 100 ? GUEST_CLOCK_LEAD_NS / 100 : j < 200;
		}
		now += random_next(&seed) % NS_PER_S + GUEST_CLOCK_LEAD_NS;
	}
}

/* ---- readers on threads, while the clock is corrected: the host's own clock ---- */

#define READERS	  3u
#define RUN_NS	  (NS_PER_S / 2)
#define SLEW_EACH (2 * GUEST_CLOCK_LEAD_NS)

struct race {
	struct guest_clock clock;
	_Atomic bool over;
	_Atomic uint64_t seen; /* the latest time that any reader passed on */
	_Atomic unsigned backward;
};

/* Takes what another reader read, then reads: that is later. */
static void *race_reader(void *arg)
{
	struct race *r = arg;

	while (!atomic_load(&r->over)) {
		uint64_t passed = atomic_load(&r->seen);
		uint64_t mine = guest_clock_now(&r->clock);

		if (mine < passed)
			atomic_fetch_add(&r->backward, 1);
		while (passed < mine && !atomic_compare_exchange_weak(&r->seen, &passed, mine))
			;
	}
	return NULL;
}

Test(clock, readers_pass_time_on)
{
	static struct race r;
	struct timespec pause = {.tv_nsec = SLEW_EACH};
	uint64_t until_ns = clock_now_ns() + RUN_NS;
	pthread_t reader[READERS];
	unsigned slews = 0;

	guest_clock_init(&r.clock, NULL, clock_now_ns(), 0);
	for (unsigned i = 0; i < READERS; i++)
		cr_assert_eq(pthread_create(&reader[i], NULL, race_reader, &r), 0);
	while (clock_now_ns() < until_ns) {
		slews += guest_clock_slew(&r.clock, slews & 1 ? GUEST_CLOCK_RATE_MAX
							      : -GUEST_CLOCK_RATE_MAX) == 0;
		nanosleep(&pause, NULL);
	}
	atomic_store(&r.over, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(reader[i], NULL);
	cr_assert_gt(slews, 0);
	cr_assert_eq(atomic_load(&r.backward), 0);
}
