/* SPDX-License-Identifier: Apache-2.0 */
/* Where guest code faults: exact counts of few places, the frequent ones among many, and decay. */
#include <criterion/criterion.h>
#include <string.h>

#include "vmm/machine/fault_places.h"

#define START (UINT64_C(7) << FAULT_PLACES_HALF_SHIFT)
#define HALF  (UINT64_C(1) << FAULT_PLACES_HALF_SHIFT)
#define CODE  UINT64_C(0xffffffff81000000)

static struct fault_places places;
static struct fault_places_list list;

static void add(uint64_t address, unsigned times, uint64_t now_ns)
{
	while (times--)
		fault_places_add(&places, address, now_ns);
}

static uint64_t faults_of(uint64_t address)
{
	for (unsigned i = 0; i < list.count; i++)
		if (list.place[i].address == address)
			return list.place[i].faults;
	return 0;
}

Test(fault_places, nothing_at_first)
{
	fault_places_list(&places, START, &list);
	cr_expect_eq(list.count, 0);
	cr_expect_eq(list.recent, 0);
}

Test(fault_places, few_places_have_exact_counts)
{
	for (unsigned i = 1; i <= 8; i++)
		add(CODE + i * 12, i, START);
	fault_places_list(&places, START, &list);
	cr_expect_eq(list.recent, 36);
	cr_assert_eq(list.count, 8);
	for (unsigned i = 0; i < 8; i++) {
		cr_expect_eq(list.place[i].address, CODE + (8 - i) * 12);
		cr_expect_eq(list.place[i].faults, 8 - i);
	}
}

Test(fault_places, a_frequent_one_among_ten_thousand_is_found)
{
	for (unsigned i = 0; i < 10000; i++) {
		add(CODE + UINT64_C(16) * i, 1, START);
		if (i % 10 == 0)
			add(CODE + 7, 1, START);
	}
	fault_places_list(&places, START, &list);
	cr_expect_eq(list.recent, 11000);
	cr_expect_eq(list.count, FAULT_PLACES_MAX);
	cr_expect_eq(list.place[0].address, CODE + 7);
	cr_expect_gt(list.place[0].faults, 900);
	cr_expect_leq(list.place[0].faults, 1000);
	/* No other one claims more than it has. */
	for (unsigned i = 1; i < list.count; i++)
		cr_expect_eq(list.place[i].faults, 1);
}

Test(fault_places, faults_count_half_after_a_time)
{
	add(CODE, 100, START);
	fault_places_list(&places, START + HALF, &list);
	cr_expect_eq(faults_of(CODE), 50);
	cr_expect_eq(list.recent, 50);
	add(CODE + 64, 30, START + 2 * HALF);
	fault_places_list(&places, START + 2 * HALF, &list);
	cr_expect_eq(faults_of(CODE), 25);
	cr_expect_eq(list.place[0].address, CODE + 64);
	cr_expect_eq(list.recent, 55);
	fault_places_list(&places, START + 100 * HALF, &list);
	cr_expect_eq(list.count, 0);
	cr_expect_eq(list.recent, 0);
	/* A clock that seems to go back changes nothing. */
	fault_places_list(&places, START, &list);
	cr_expect_eq(list.recent, 55);
}
