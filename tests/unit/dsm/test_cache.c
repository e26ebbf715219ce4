/* SPDX-License-Identifier: Apache-2.0 */
/* The limit on remote pages: it holds, nothing is lost to evictions, and what is used stays. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "tests/unit/dsm/engine_rig.h"

#define THREADS_MAX 8
/* Words in use of each page, shared out among the threads. */
#define WORDS 16
#define SEED  UINT64_C(88172645463325252)

static struct rig rig; /* each test runs in a process of its own */

struct worker {
	pthread_t thread;
	unsigned id, slice, threads, rounds;
	unsigned bad;
	uint64_t state;	  /* of the random numbers */
	uint64_t *shadow; /* what this thread wrote last, by page and word */
};

static struct worker workers[THREADS_MAX];

static uint64_t random_next(struct worker *w)
{
	return random_xorshift(&w->state);
}

static uint64_t page_gpa(unsigned page)
{
	return rig_page(page / RIG_PAGES, page % RIG_PAGES);
}

static unsigned pages_all(void)
{
	return rig.slices * RIG_PAGES;
}

/* Engines with the least cache that so many faulters may have, plus some pages. */
static void cache_up(unsigned slices, unsigned faulters, unsigned more_pages)
{
	if (rig.slices == 0)
		rig_init(&rig, slices);
	rig.config.faulters_max = faulters;
	rig.config.cache_bytes = engine_cache_min_bytes(faulters) + more_pages * PANGEA_PAGE_SIZE;
	rig_up(&rig, slices);
	/* Every home has all its frames, so that what comes on top is remote pages. */
	for (unsigned page = 0; page < pages_all(); page++)
		rig_write(&rig, page / RIG_PAGES, page_gpa(page) + PANGEA_PAGE_SIZE - 8, page);
}

static uint64_t limit_pages(void)
{
	return rig.config.cache_bytes / PANGEA_PAGE_SIZE;
}

/* The engine's count and the host's: neither is more than 1 % over the limit. */
static unsigned limit_broken(unsigned slice)
{
	struct engine_stats stats;
	uint64_t most = limit_pages() + limit_pages() / 100;

	engine_stats(rig.slice[slice].engine, &stats);
	return stats.cache_pages > most || stats.cache_pages_max > most ||
	       stats.frame_bytes / PANGEA_PAGE_SIZE > RIG_PAGES + most;
}

/* Looks at the limit of every slice all the time. */
static _Atomic bool watch_stop;
static unsigned watch_broken;

static void *watch_main(void *arg)
{
	(void)arg;
	while (!atomic_load(&watch_stop)) {
		for (unsigned i = 0; i < rig.slices; i++)
			watch_broken += limit_broken(i);
		usleep(200);
	}
	return NULL;
}

/* Runs body in `count` threads, spread over the slices, with the limit being watched. */
static void workers_run(unsigned count, unsigned rounds, void *(*body)(void *))
{
	pthread_t watch;

	cr_assert_eq(pthread_create(&watch, NULL, watch_main, NULL), 0);
	for (unsigned i = 0; i < count; i++) {
		struct worker *w = &workers[i];

		w->id = i;
		w->slice = i % rig.slices;
		w->threads = count;
		w->rounds = rounds;
		w->state = SEED + i;
		cr_assert_eq(pthread_create(&w->thread, NULL, body, w), 0);
	}
	for (unsigned i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		cr_expect_eq(workers[i].bad, 0, "seed %lu: thread %u saw %u wrong values",
			     (unsigned long)SEED, i, workers[i].bad);
	}
	atomic_store(&watch_stop, true);
	pthread_join(watch, NULL);
	cr_expect_eq(watch_broken, 0, "the limit was broken");
	for (unsigned i = 0; i < rig.slices; i++)
		cr_expect_not(limit_broken(i));
}

/* Random reads and writes of all pages; each thread has words of its own in each. */
static void *random_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->rounds; i++) {
		unsigned page = (unsigned)(random_next(w) % pages_all());
		unsigned word = (unsigned)(random_next(w) % (WORDS / w->threads));
		uint64_t gpa = page_gpa(page) + 8 * (word * w->threads + w->id);
		uint64_t *shadow = &w->shadow[page * WORDS + word], value = random_next(w);

		if (rig_read(&rig, w->slice, gpa) != *shadow)
			w->bad++;
		if (value % 3 == 0)
			continue;
		rig_write(&rig, w->slice, gpa, value);
		*shadow = value;
	}
	return NULL;
}

static void random_check(unsigned slices, unsigned threads, unsigned rounds, unsigned more_pages)
{
	cache_up(slices, threads / slices, more_pages);
	for (unsigned i = 0; i < threads; i++)
		workers[i].shadow = calloc((size_t)pages_all() * WORDS, 8);
	workers_run(threads, rounds, random_main);
	for (unsigned page = 0; page < pages_all(); page++)
		for (unsigned word = 0; word < WORDS / threads * threads; word++)
			cr_assert_eq(rig_read(&rig, (page + 1) % slices, page_gpa(page) + 8 * word),
				     workers[word % threads].shadow[page * WORDS + word / threads],
				     "seed %lu: page %u word %u", (unsigned long)SEED, page, word);
	for (unsigned i = 0; i < slices; i++) {
		struct engine_stats stats = rig_stats(&rig, i);

		cr_expect_eq(stats.cache_limit, limit_pages());
		cr_expect_gt(stats.cache_pages_max, limit_pages() / 2);
		cr_expect_gt(stats.evictions_owned, 0);
		cr_expect_gt(stats.evictions_shared, 0);
		cr_expect_gt(stats.refetches, 0);
		cr_expect_not(limit_broken(i));
	}
	rig_down(&rig);
	for (unsigned i = 0; i < threads; i++)
		free(workers[i].shadow);
}

Test(cache, limit_holds_on_two_slices)
{
	random_check(2, 2, 6000, 0);
}

Test(cache, limit_holds_on_three_slices)
{
	random_check(3, 3, 4000, 77);
}

Test(cache, limit_holds_on_four_slices)
{
	random_check(4, 4, 4000, 300);
}

Test(cache, many_threads_fault_while_pages_go)
{
	random_check(2, 8, 2000, 0);
}

Test(cache, four_slices_with_two_threads_each)
{
	random_check(4, 8, 1500, 0);
}

/* Slice 0 writes far more pages than it may keep; all of them are right, here and at home. */
Test(cache, written_pages_come_back)
{
	struct engine_stats stats;

	cache_up(2, 1, 0);
	for (unsigned round = 1; round <= 2; round++)
		for (unsigned page = 0; page < RIG_PAGES; page++) {
			uint64_t gpa = rig_page(1, page);

			cr_assert_eq(rig_read(&rig, 0, gpa), (round - 1) * (page + 1));
			rig_write(&rig, 0, gpa, round * (page + 1));
			cr_assert_not(limit_broken(0));
		}
	for (unsigned page = 0; page < RIG_PAGES; page++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(1, page)), 2 * (page + 1));
	stats = rig_stats(&rig, 0);
	cr_expect_geq(stats.evictions_owned, 2 * (RIG_PAGES - limit_pages()));
	rig_down(&rig);
}

/* What went and comes again soon is counted, if not exactly. */
Test(cache, pages_fetched_again_are_counted)
{
	unsigned pages;
	struct engine_stats stats;

	cache_up(2, 1, 0);
	pages = (unsigned)limit_pages() * 3 / 2;
	for (unsigned page = 0; page < pages; page++)
		rig_read(&rig, 0, rig_page(1, page));
	stats = rig_stats(&rig, 0);
	cr_expect_eq(stats.refetches, 0);
	cr_expect_eq(stats.requests_read, pages);
	for (unsigned page = 0; page < pages; page++)
		rig_read(&rig, 0, rig_page(1, page));
	stats = rig_stats(&rig, 0);
	cr_expect_geq(stats.refetches, pages / 4);
	cr_expect_leq(stats.refetches, stats.requests_read - pages);
	rig_down(&rig);
}

/* Copies that are only read go by a notice; the home's bytes stay the page. */
Test(cache, read_pages_go_with_a_notice)
{
	struct engine_stats stats, home;

	cache_up(2, 1, 0);
	for (unsigned page = 0; page < RIG_PAGES; page++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page) + PANGEA_PAGE_SIZE - 8),
			     RIG_PAGES + page);
	stats = rig_stats(&rig, 0);
	home = rig_stats(&rig, 1);
	cr_expect_geq(stats.evictions_shared, RIG_PAGES - limit_pages());
	cr_expect_eq(stats.evictions_owned, 0);
	cr_expect_eq(stats.pages_sent, 0, "a shared page was sent back");
	cr_expect_eq(home.evictions_shared + home.evictions_owned, 0);
	cr_expect_leq(stats.pages_shared, limit_pages());
	cr_expect_leq(stats.frame_bytes, (RIG_PAGES + limit_pages()) * PANGEA_PAGE_SIZE);
	rig_down(&rig);
}

/* A scan of everything does not drive out the few pages that are used all the time. */
Test(cache, pages_in_use_stay)
{
	unsigned hot = 16;
	struct engine_stats stats;

	cache_up(2, 1, 64);
	for (unsigned page = hot; page < RIG_PAGES; page++) {
		rig_read(&rig, 0, rig_page(1, page));
		for (unsigned i = 0; i < hot; i++)
			rig_read(&rig, 0, rig_page(1, i));
	}
	stats = rig_stats(&rig, 0);
	cr_expect_gt(stats.evictions_shared, RIG_PAGES / 2);
	cr_expect_gt(stats.cache_spared, 0);
	cr_expect_eq(stats.refetches, 0, "%lu of %u pages were fetched again",
		     (unsigned long)stats.refetches, hot);
	rig_down(&rig);
}

static uint64_t faults_of(const struct engine_stats *stats)
{
	return stats->faults_read + stats->faults_write + stats->faults_local;
}

static void pages_read(unsigned pages)
{
	for (unsigned page = 0; page < pages; page++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page)), page);
}

/* Pages that just fit are never evicted. Some are hidden, on trial, as the cache fills: each of these
 * costs one local fault when it is used, and then never again, however often all are used. */
Test(cache, what_fits_stays)
{
	struct engine_stats filled, tried, last;
	unsigned pages;

	cache_up(2, 1, 64);
	pages = (unsigned)limit_pages() - 16;
	for (unsigned page = 0; page < pages; page++)
		rig_write(&rig, 0, rig_page(1, page), page);
	filled = rig_stats(&rig, 0);
	pages_read(pages);
	tried = rig_stats(&rig, 0);
	cr_expect_gt(tried.cache_spared, 0, "no page was on trial");
	cr_expect_leq(faults_of(&tried) - faults_of(&filled), pages / 2);
	for (unsigned round = 0; round < 20; round++)
		pages_read(pages);
	last = rig_stats(&rig, 0);
	cr_expect_eq(faults_of(&last), faults_of(&tried), "pages were hidden again");
	cr_expect_eq(last.cache_spared, tried.cache_spared);
	cr_expect_eq(last.evictions_owned + last.evictions_shared, 0);
	cr_expect_eq(last.msgs_sent, filled.msgs_sent);
	cr_expect_eq(last.cache_pages, pages);
	rig_down(&rig);
}

/* Frames of copies that others took away count too, and go first. */
Test(cache, frames_without_a_copy_go_first)
{
	struct engine_stats stats;

	cache_up(2, 1, 64);
	for (unsigned page = 0; page < limit_pages() / 2; page++) {
		rig_write(&rig, 0, rig_page(1, page), 1);
		rig_write(&rig, 1, rig_page(1, page), 2);
	}
	stats = rig_stats(&rig, 0);
	cr_expect_eq(stats.pages_exclusive + stats.pages_shared, 0);
	cr_expect_eq(stats.cache_pages, limit_pages() / 2);
	for (unsigned page = 0; page < limit_pages() / 2; page++)
		rig_write(&rig, 0, rig_page(1, RIG_PAGES / 2 + page), 3);
	stats = rig_stats(&rig, 0);
	cr_expect_eq(stats.evictions_owned + stats.evictions_shared, 0);
	for (unsigned page = 0; page < limit_pages() / 2; page++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page)), 2);
	cr_expect_not(limit_broken(0));
	rig_down(&rig);
}

/* Slice 0 has these pages of slice 1 for a moment. */
static void pages_lend(unsigned first, unsigned end, unsigned step)
{
	for (unsigned page = first; page < end; page += step) {
		rig_write(&rig, 0, rig_page(1, page), page + 1);
		rig_write(&rig, 1, rig_page(1, page) + 8, page + 2);
	}
}

/* Waits until slice 0 has given back so many frames, while one page goes to and fro. */
static struct engine_stats frames_await(uint64_t returned, unsigned busy_page)
{
	struct engine_stats stats = rig_stats(&rig, 0);

	for (unsigned i = 0; i < 1200 && stats.frames_returned < returned; i++) {
		pages_lend(busy_page, busy_page + 1, 1);
		usleep(50000);
		stats = rig_stats(&rig, 0);
	}
	return stats;
}

/* Lends pages, in rows and single ones; their frames go, but not those of pages in use. */
static void frames_return_check(void)
{
	const unsigned kept = 20, row = 100, single = 100, busy = 500;
	struct engine_stats lent, stats;

	for (unsigned page = 0; page < kept; page++)
		rig_write(&rig, 0, rig_page(1, page), page);
	pages_lend(kept, kept + row, 1);
	pages_lend(kept + row + 1, kept + row + 1 + 2 * single, 2);
	lent = rig_stats(&rig, 0);
	cr_expect_eq(lent.frames_returned, 0);
	cr_expect_eq(lent.frames_stale, row + single);
	cr_expect_eq(lent.cache_pages, kept + row + single);
	stats = frames_await(row + single, busy);
	cr_expect_eq(stats.frames_returned, row + single);
	cr_expect_eq(stats.cache_pages, kept + 1);
	cr_expect_leq(stats.frames_stale, 1);
	/* The busy page's frame came since. */
	cr_expect_eq(lent.frame_bytes - stats.frame_bytes, (row + single - 1) * PANGEA_PAGE_SIZE);
	cr_expect_eq(stats.evictions_owned + stats.evictions_shared, 0);
	for (unsigned page = kept; page < kept + row; page++) {
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page)), page + 1);
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page) + 8), page + 2);
	}
	for (unsigned page = 0; page < kept; page++)
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page)), page);
	rig_down(&rig);
}

/* Frames without a copy go back to the host, though the limit is far. */
Test(cache, frames_without_a_copy_go_back)
{
	cache_up(2, 1, 400);
	frames_return_check();
}

/* The same where all remote pages fit. */
Test(cache, frames_go_back_without_a_limit_that_binds)
{
	rig_init(&rig, 2);
	rig.config.cache_bytes = RIG_SLICE_BYTES;
	rig_up(&rig, 2);
	for (unsigned page = 0; page < pages_all(); page++)
		rig_write(&rig, page / RIG_PAGES, page_gpa(page) + PANGEA_PAGE_SIZE - 8, page);
	frames_return_check();
}

/* Counters that all slices want, while everything else drives pages out. */
static void *count_main(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->rounds; i++) {
		unsigned page = (unsigned)(random_next(w) % pages_all());

		__atomic_fetch_add(rig_word(&rig, w->slice, page_gpa((i % 8) * 300)), 1,
				   __ATOMIC_SEQ_CST);
		rig_read(&rig, w->slice, page_gpa(page));
	}
	return NULL;
}

static void counters_check(unsigned slices, unsigned threads, unsigned rounds)
{
	uint64_t sum = 0;

	cache_up(slices, (threads + slices - 1) / slices, 0);
	workers_run(threads, rounds, count_main);
	for (unsigned k = 0; k < 8; k++)
		sum += rig_read(&rig, 0, page_gpa(k * 300));
	cr_expect_eq(sum, (uint64_t)threads * rounds);
	rig_down(&rig);
}

Test(cache, counters_while_pages_go)
{
	counters_check(3, 6, 2000);
}

Test(cache, counters_with_hold_time_and_turns)
{
	rig_init(&rig, 4);
	rig.config.hold_ns = 20000;
	rig.config.walks_write = true;
	counters_check(4, 4, 500);
}

/* Nothing may go within its hold time: faults wait for its end, and no message ends that wait. */
Test(cache, faults_wait_for_pages_in_hold)
{
	unsigned pages;

	rig_init(&rig, 2);
	rig.config.hold_ns = 50000000;
	cache_up(2, 1, 0);
	pages = (unsigned)limit_pages() * 4;
	for (unsigned page = 0; page < pages; page++) {
		rig_write(&rig, 0, rig_page(1, page), page + 1);
		cr_assert_not(limit_broken(0));
	}
	for (unsigned page = 0; page < pages; page++)
		cr_assert_eq(rig_read(&rig, 1, rig_page(1, page)), page + 1);
	cr_expect_geq(rig_stats(&rig, 0).evictions_owned, pages - limit_pages());
	rig_down(&rig);
}

/* After a slice has gone, no page is given up, and the copies that are here can be used: hidden
 * ones too. */
Test(cache, copies_stay_after_a_loss)
{
	unsigned pages;
	struct engine_stats before, after;

	cache_up(3, 1, 0);
	pages = (unsigned)limit_pages() - 16; /* so many that some are on trial, and none goes */
	for (unsigned page = 0; page < pages; page++)
		rig_write(&rig, 0, rig_page(1, page), page + 1);
	before = rig_stats(&rig, 0);
	engine_destroy(rig.slice[2].engine);
	rig.slice[2].engine = NULL;
	cr_assert(rig_until(&rig.slice[0].lost, 1));
	cr_assert(rig_until(&rig.slice[1].lost, 1));
	cr_assert_eq(before.evictions_owned + before.evictions_shared, 0);
	for (unsigned page = 0; page < pages; page++) {
		cr_assert_eq(rig_read(&rig, 0, rig_page(1, page)), page + 1);
		rig_write(&rig, 0, rig_page(1, page), page * 2);
	}
	after = rig_stats(&rig, 0);
	cr_assert_eq(after.msgs_sent, before.msgs_sent);
	cr_assert_eq(after.evictions_owned + after.evictions_shared, 0);
	rig_down(&rig);
}

static int create_err(unsigned faulters, uint64_t cache_bytes)
{
	struct engine *engine;
	struct engine_config config;
	unsigned port;
	int err;

	rig_init(&rig, 2);
	config = rig.config;
	config.faulters_max = faulters;
	config.cache_bytes = cache_bytes;
	err = engine_create(&config, &port, &engine);
	if (err == -EPERM || err == -ENOSYS)
		cr_skip_test("userfaultfd is not available here");
	if (!err)
		engine_destroy(engine);
	return err;
}

Test(cache, too_small_a_limit_is_refused)
{
	cr_expect_eq(create_err(2, engine_cache_min_bytes(2)), 0);
	cr_expect_eq(create_err(2, engine_cache_min_bytes(2) - 1), -EINVAL);
	cr_expect_eq(create_err(2, 1), -EINVAL);
	cr_expect_eq(create_err(3, engine_cache_min_bytes(2)), -EINVAL);
	cr_expect_eq(create_err(2, 0), 0);
	cr_expect_eq(create_err(2, UINT64_MAX), 0);
}

/* A limit that all remote pages fit in is none. */
Test(cache, a_limit_above_all_memory_is_none)
{
	struct engine_stats stats;

	rig_init(&rig, 2);
	rig.config.cache_bytes = RIG_SLICE_BYTES;
	rig_up(&rig, 2);
	for (unsigned page = 0; page < RIG_PAGES; page++)
		rig_write(&rig, 0, rig_page(1, page), page);
	stats = rig_stats(&rig, 0);
	cr_expect_eq(stats.cache_limit, 0);
	cr_expect_eq(stats.evictions_owned + stats.evictions_shared, 0);
	cr_expect_eq(stats.pages_exclusive, RIG_PAGES);
	rig_down(&rig);
}
