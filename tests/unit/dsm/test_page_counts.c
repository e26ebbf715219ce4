/* SPDX-License-Identifier: Apache-2.0 */
/* What homes learn of their pages: exact counts of known faults, and hot pages among cold ones. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tests/unit/dsm/engine_rig.h"

#define GFNS   (UINT64_C(1) << 20)
#define SELF   2u
#define START  (UINT64_C(1000) << PAGE_COUNTS_HALF_SHIFT)
#define WINDOW ((uint64_t)PAGE_COUNTS_PING_PONG_UNITS << PAGE_COUNTS_UNIT_SHIFT)
#define HALF   (UINT64_C(1) << PAGE_COUNTS_HALF_SHIFT)

static struct page_counts *counts;
static struct rig rig; /* each test runs in a process of its own */

static void begin(void)
{
	counts = page_counts_create(GFNS, SELF);
	cr_assert_not_null(counts);
}

static void end(void)
{
	page_counts_destroy(counts);
}

TestSuite(counts, .init = begin, .fini = end);

static void page_is(uint64_t gfn, uint64_t reads, uint64_t moves, uint64_t ping_pongs,
		    uint64_t upgrades, unsigned owner)
{
	struct page_counts_page page;

	page_counts_page(counts, gfn, &page);
	cr_expect_eq(page.reads, reads, "page %lu: %lu reads", gfn, page.reads);
	cr_expect_eq(page.moves, moves, "page %lu: %lu moves", gfn, page.moves);
	cr_expect_eq(page.ping_pongs, ping_pongs, "page %lu: %lu ping-pongs", gfn, page.ping_pongs);
	cr_expect_eq(page.upgrades, upgrades, "page %lu: %lu upgrades", gfn, page.upgrades);
	cr_expect_eq(page.owner, owner, "page %lu: owner %u", gfn, page.owner);
}

Test(counts, a_page_that_nobody_asked_for_is_its_homes)
{
	struct page_counts_list list;

	page_is(0, 0, 0, 0, 0, SELF);
	page_is(GFNS - 1, 0, 0, 0, 0, SELF);
	page_counts_hottest(counts, START, &list);
	cr_assert_eq(list.count + list.hot_count + list.recent, 0);
}

Test(counts, reads_moves_and_upgrades_are_told_apart)
{
	struct page_counts_totals totals;

	page_counts_read(counts, 7, 0, START);
	page_counts_read(counts, 7, 63, START);
	page_is(7, 2, 0, 0, 0, SELF);
	page_counts_write(counts, 7, 63, true, START + 1);
	page_is(7, 2, 1, 0, 1, 63);
	page_counts_read(counts, 7, SELF, START + 2);
	page_counts_write(counts, 7, 63, true,
			  START + 3); /* nobody else wrote meanwhile: no move */
	page_is(7, 3, 1, 0, 2, 63);
	page_counts_write(counts, 7, 0, false, START + 4);
	page_is(7, 3, 2, 0, 2, 0);
	page_counts_write(counts, 8, 5, false, START + 5);
	page_is(8, 0, 1, 0, 0, 5);
	page_is(7, 3, 2, 0, 2, 0);
	totals = page_counts_totals(counts);
	cr_assert_eq(totals.faults, 7);
	cr_assert_eq(totals.reads, 3);
	cr_assert_eq(totals.moves, 3);
	cr_assert_eq(totals.upgrades, 2);
	cr_assert_eq(totals.ping_pongs, 0);
}

Test(counts, a_ping_pong_is_a_soon_return_to_the_one_that_gave_the_page_up)
{
	uint64_t now_ns = START;

	page_counts_write(counts, 1, 4, false, now_ns);
	page_counts_write(counts, 1, SELF, false, now_ns += WINDOW); /* back to its home */
	page_is(1, 0, 2, 1, 0, SELF);
	page_counts_write(counts, 1, 4, false, now_ns += WINDOW);
	page_is(1, 0, 3, 2, 0, 4);
	page_counts_write(counts, 1, SELF, false,
			  now_ns += WINDOW + (UINT64_C(1) << PAGE_COUNTS_UNIT_SHIFT));
	page_is(1, 0, 4, 2, 0, SELF); /* too late */
	page_counts_write(counts, 1, 5, false, now_ns += 1);
	page_counts_write(counts, 1, 6, false, now_ns += 1);
	page_counts_write(counts, 1, 4, false, now_ns += 1); /* round, not to and fro */
	page_is(1, 0, 7, 2, 0, 4);
	page_counts_write(counts, 1, 6, true, now_ns + 1);
	page_is(1, 0, 8, 3, 1, 6);
}

Test(counts, a_write_alone_takes_the_page_home_and_is_no_fault)
{
	struct page_counts_totals totals;

	page_counts_write_alone(counts, 3, START); /* never shared */
	page_is(3, 0, 0, 0, 0, SELF);
	page_counts_write(counts, 3, 9, false, START);
	page_counts_write_alone(counts, 3, START); /* it was evicted there */
	page_is(3, 0, 1, 0, 0, SELF);
	page_counts_write(counts, 3, 9, false, START);
	page_is(3, 0, 2, 1, 0, 9);
	totals = page_counts_totals(counts);
	cr_assert_eq(totals.faults, 2);
}

Test(counts, counters_stop_at_their_limits_and_spare_their_neighbours)
{
	uint64_t rounds = PAGE_COUNTS_PINGS_MAX + 100;
	struct page_counts_totals totals;

	cr_assert_eq(PAGE_COUNTS_PINGS_MAX, PAGE_COUNTS_GRANTS_MAX);
	page_counts_read(counts, 11, 1, START);
	page_counts_write(counts, 11, 1, false, START);
	for (uint64_t i = 0; i < rounds; i++)
		page_counts_write(counts, 11, i % 2 ? 1 : SELF, true, START);
	page_is(11, 1, rounds + 1, PAGE_COUNTS_PINGS_MAX, PAGE_COUNTS_GRANTS_MAX,
		rounds % 2 ? SELF : 1);
	page_is(10, 0, 0, 0, 0, SELF);
	page_is(12, 0, 0, 0, 0, SELF);
	totals = page_counts_totals(counts);
	cr_assert_eq(totals.ping_pongs, rounds);
	cr_assert_eq(totals.upgrades, rounds);
}

Test(counts, every_pair_of_slices_is_told_apart)
{
	for (unsigned a = 0; a < SLICES_MAX; a++) {
		for (unsigned b = 0; b < SLICES_MAX; b++) {
			uint64_t gfn = 1000 + a * SLICES_MAX + b;

			page_counts_write(counts, gfn, a, false, START);
			page_counts_write(counts, gfn, b, false, START);
			page_is(gfn, 0, (a != SELF) + (b != a), a != SELF && b == SELF, 0, b);
		}
	}
}

/* Random faults on so many cold pages, with some on `hot` after each. */
static void cold_faults(unsigned pages, unsigned rounds, uint64_t hot, unsigned every)
{
	for (unsigned i = 0; i < rounds; i++) {
		page_counts_read(counts, 5000 + (uint64_t)(rand() % (int)pages), 7, START);
		if (hot && i % every == 0)
			page_counts_read(counts, hot, 1 + i / every % 2 * 4, START);
	}
}

Test(counts, a_hot_page_among_ten_thousand_cold_ones_is_found)
{
	struct page_counts_list list;
	struct page_counts_totals totals;

	srand(1);
	cold_faults(10000, 100000, 77, 50); /* one fault in 51 */
	page_counts_hottest(counts, START, &list);
	totals = page_counts_totals(counts);
	cr_assert_eq(totals.faults, 102000);
	cr_assert_eq(list.recent, 102000);
	cr_assert_eq(list.hot_count, 1);
	cr_assert_eq(list.count, HOT_PAGES_MAX);
	cr_assert_eq(list.page[0].gfn, 77);
	cr_assert(list.page[0].hot);
	cr_assert_not(list.page[1].hot);
	/* It came late and lost some to others' account, but never counts more than it had. */
	cr_assert_leq(list.page[0].recent, 2000);
	cr_assert_gt(list.page[0].recent, 1000);
	cr_assert_eq(list.page[0].page.reads, 2000);
	for (unsigned i = 1; i < list.count; i++)
		cr_assert_leq(list.page[i].recent, list.page[i - 1].recent);
}

Test(counts, no_page_is_hot_where_all_are_alike)
{
	struct page_counts_list list;

	srand(2);
	cold_faults(10000, 100000, 0, 1);
	page_counts_hottest(counts, START, &list);
	cr_assert_eq(list.hot_count, 0);
	for (unsigned i = 0; i < list.count; i++)
		cr_assert_leq(list.page[i].recent, list.page[i].page.reads);
}

/* More pages than the table has places: it stays as it is, each of them is counted in its record.
 */
Test(counts, the_table_is_bounded_and_the_records_are_not)
{
	struct page_counts_list list;

	for (unsigned round = 1; round <= 3; round++)
		for (uint64_t gfn = 0; gfn < 100 * PAGE_COUNTS_SETS * PAGE_COUNTS_WAYS; gfn++)
			page_counts_read(counts, gfn, 1, START);
	for (uint64_t gfn = 0; gfn < 100 * PAGE_COUNTS_SETS * PAGE_COUNTS_WAYS; gfn++)
		page_is(gfn, 3, 0, 0, 0, SELF);
	page_counts_hottest(counts, START, &list);
	cr_assert_eq(list.count, HOT_PAGES_MAX);
	cr_assert_eq(list.recent, 3 * 100 * PAGE_COUNTS_SETS * PAGE_COUNTS_WAYS);
	for (unsigned i = 0; i < list.count; i++)
		cr_assert_leq(list.page[i].recent, 3);
}

Test(counts, what_was_hot_goes)
{
	struct page_counts_list list;

	for (unsigned i = 0; i < 1000; i++)
		page_counts_read(counts, 50, 1, START);
	page_counts_hottest(counts, START + HALF, &list);
	cr_assert_eq(list.page[0].recent, 500);
	cr_assert_eq(list.recent, 500);
	for (unsigned i = 0; i < 200; i++)
		page_counts_read(counts, 60, 1, START + 3 * HALF);
	page_counts_hottest(counts, START + 3 * HALF, &list);
	cr_assert_eq(list.recent, 325);
	cr_assert_eq(list.page[0].gfn, 60);
	cr_assert_eq(list.page[1].gfn, 50);
	cr_assert_eq(list.page[1].recent, 125);
	cr_assert_eq(list.hot_count, 2);
	page_counts_read(counts, 70, 1, START + 40 * HALF);
	page_counts_hottest(counts, START + 40 * HALF, &list);
	cr_assert_eq(list.count, 1);
	cr_assert_eq(list.page[0].gfn, 70);
	cr_assert_eq(list.hot_count, 0);
	page_is(50, 1000, 0, 0, 0, SELF); /* what it was is not forgotten */
}

Test(counts, many_faults_that_are_a_small_share_make_no_page_hot)
{
	struct page_counts_list list;

	for (unsigned i = 0; i < 20100; i++)
		page_counts_read(counts, i % 201 ? 60 : 50, 1, START);
	page_counts_hottest(counts, START, &list);
	cr_assert_eq(list.page[1].gfn, 50);
	cr_assert_eq(list.page[1].recent, 100);
	cr_assert_eq(list.hot_count, 1);
}

/* Half a fault is none, whatever the count of the page before it in its place was. */
Test(counts, single_faults_are_gone_after_a_half_life)
{
	struct page_counts_list list;

	for (uint64_t gfn = 0; gfn < 100000; gfn++)
		page_counts_read(counts, gfn, 1, START);
	page_counts_hottest(counts, START + HALF, &list);
	cr_assert_eq(list.count, 0);
	cr_assert_eq(list.recent, 50000);
}

Test(counts, the_other_slice_most_seen_is_the_one_with_most_faults)
{
	struct page_counts_list list;

	for (unsigned i = 0; i < 999; i++) {
		page_counts_read(counts, 1, i % 3 == 0 ? 40 + i % 20 : 33, START);
		page_counts_read(counts, 1, SELF, START); /* the home has no vote */
		page_counts_write(counts, 2, SELF, false, START);
	}
	page_counts_hottest(counts, START, &list);
	cr_assert_eq(list.count, 2);
	cr_assert_eq(list.page[0].gfn, 1);
	cr_assert_eq(list.page[0].other, 33);
	cr_assert_eq(list.page[1].other, PAGE_COUNTS_NOBODY);
}

Test(counts, a_clock_that_steps_back_a_little_does_no_harm)
{
	struct page_counts_list list;

	page_counts_read(counts, 1, 1, START);
	page_counts_read(counts, 1, 1, START - 1);
	page_counts_hottest(counts, START - 1, &list);
	cr_assert_eq(list.page[0].recent, 2);
}

/* ---- from engines ---- */

static struct page_counts_page hot_page(unsigned home, uint64_t gpa)
{
	struct page_counts_list list;

	engine_hot_pages(rig.slice[home].engine, &list);
	for (unsigned i = 0; i < list.count; i++)
		if (list.page[i].gfn == gpa >> PAGE_SHIFT)
			return list.page[i].page;
	return (struct page_counts_page){0};
}

static void hot_is(uint64_t gpa, uint64_t reads, uint64_t moves, uint64_t upgrades, unsigned owner)
{
	struct page_counts_page page = hot_page(1, gpa);

	cr_expect_eq(page.reads, reads, "0x%lx: %lu reads", gpa, page.reads);
	cr_expect_eq(page.moves, moves, "0x%lx: %lu moves", gpa, page.moves);
	cr_expect_eq(page.upgrades, upgrades, "0x%lx: %lu upgrades", gpa, page.upgrades);
	cr_expect_eq(page.owner, owner, "0x%lx: owner %u", gpa, page.owner);
}

static void totals_are(unsigned slice, uint64_t faults, uint64_t reads, uint64_t moves,
		       uint64_t upgrades)
{
	struct engine_stats stats = rig_stats(&rig, slice);

	cr_expect_eq(stats.home_faults, faults, "%lu faults", stats.home_faults);
	cr_expect_eq(stats.reads_replicated, reads, "%lu reads", stats.reads_replicated);
	cr_expect_eq(stats.ownership_moves, moves, "%lu moves", stats.ownership_moves);
	cr_expect_eq(stats.upgrades, upgrades, "%lu upgrades", stats.upgrades);
}

/* Each page its own way, since slices that read and write soon are taken for writers at once. */
Test(page_counts_engine, known_faults_give_exact_counts)
{
	rig_up(&rig, 3);
	rig_read(&rig, 0, rig_page(1, 0)); /* copies, then one of them becomes the owner */
	rig_read(&rig, 2, rig_page(1, 0));
	rig_write(&rig, 2, rig_page(1, 0), 1);
	rig_write(&rig, 0, rig_page(1, 1), 1); /* from owner to owner, by a FWD */
	rig_write(&rig, 2, rig_page(1, 1), 2);
	rig_write(&rig, 1, rig_page(1, 1), 3); /* and to the home */
	rig_write(&rig, 2, rig_page(1, 2), 1); /* the home reads what another owns */
	rig_read(&rig, 1, rig_page(1, 2));
	rig_write(&rig, 1, rig_page(1, 2), 2); /* and has the right to write from its copy */
	rig_write(&rig, 2, rig_page(1, 3), 1); /* a copy from the owner; it upgrades: no move */
	rig_read(&rig, 0, rig_page(1, 3));
	rig_write(&rig, 2, rig_page(1, 3), 2);
	for (unsigned n = 10; n < 100; n++) { /* the home alone */
		rig_read(&rig, 1, rig_page(1, n));
		rig_write(&rig, 1, rig_page(1, n), n);
	}
	totals_are(1, 12, 4, 7, 3);
	hot_is(rig_page(1, 0), 2, 1, 1, 2);
	hot_is(rig_page(1, 1), 0, 3, 0, 1);
	hot_is(rig_page(1, 2), 1, 2, 1, 1);
	hot_is(rig_page(1, 3), 1, 1, 1, 2);
	cr_assert_eq(hot_page(1, rig_page(1, 50)).moves, 0);
	totals_are(0, 0, 0, 0, 0);
	totals_are(2, 0, 0, 0, 0);
	rig_down(&rig);
}

Test(page_counts_engine, a_page_that_two_slices_write_in_turn_is_hot_and_plays_ping_pong)
{
	struct engine_stats stats;
	struct page_counts_list list;
	unsigned rounds = 300;

	rig_up(&rig, 3);
	for (unsigned i = 0; i < rounds; i++) {
		rig_write(&rig, i % 2 ? 2 : 0, rig_page(1, 5), i);
		engine_hot_pages(rig.slice[1].engine, &list); /* while its thread may count */
		cr_assert(list.count == 0 || list.page[0].page.moves <= i + 1);
	}
	for (unsigned n = 10; n < 30; n++)
		rig_write(&rig, 0, rig_page(1, n), n);
	stats = rig_stats(&rig, 1);
	engine_hot_pages(rig.slice[1].engine, &list);
	cr_assert_eq(stats.ownership_moves, rounds + 20);
	cr_assert_gt(stats.ping_pongs, 0);
	cr_assert_leq(stats.ping_pongs, rounds - 2);
	cr_assert_eq(list.hot_count, 1);
	cr_assert_eq(list.page[0].gfn, rig_page(1, 5) >> PAGE_SHIFT);
	cr_assert(list.page[0].hot);
	cr_assert_eq(list.page[0].page.moves, rounds);
	cr_assert_eq(list.page[0].page.ping_pongs, stats.ping_pongs);
	rig_down(&rig);
}
