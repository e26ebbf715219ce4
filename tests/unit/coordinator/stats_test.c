/* SPDX-License-Identifier: Apache-2.0 */
/* What slices report of themselves: counters and hottest pages come through, and within limits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/coordinator/world.h"

/* Slice 1 of vm1 reports the counter `a` and these hottest pages (JSON). */
static void report(struct world *world, const char *hottest)
{
	json_t *list = json_loads(hottest, JSON_DECODE_ANY, NULL);

	cr_assert_not_null(list);
	world_say(world, 2, "{s:s, s:s, s:i, s:i, s:o}", "type", "slice-stats", "vm", "vm1",
		  "slice", 1, "a", 7, "hottest", list);
}

/* Slice 1's statistics as a client gets them. */
static const json_t *stats(struct world *world)
{
	const json_t *vms, *slices;

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s}", "type", "vms");
	vms = json_object_get(world_last(world, 11, "vms-list")->msg, "vms");
	slices = json_object_get(json_array_get(vms, 0), "slices");
	return json_object_get(json_array_get(slices, 1), "stats");
}

static bool stats_are(struct world *world, const char *json)
{
	json_t *want = json_loads(json, 0, NULL);
	bool same = json_equal(want, stats(world));

	json_decref(want);
	return same;
}

Test(stats, counters_and_pages_come_through)
{
	struct world *world = world_at(STEP_RUNNING);

	report(world, "[{\"gfn\": 5, \"ping_pongs\": 3}, {\"gfn\": 6}]");
	cr_expect(stats_are(world, "{\"a\": 7, \"hottest\": [{\"gfn\": 5, \"ping_pongs\": 3}, "
				   "{\"gfn\": 6}]}"));
	world_free(world);
}

Test(stats, what_is_no_integer_is_left_out)
{
	struct world *world = world_at(STEP_RUNNING);

	report(world, "[{\"gfn\": 5, \"name\": \"x\", \"list\": [1]}, 4, [1, 2]]");
	cr_expect(stats_are(world, "{\"a\": 7, \"hottest\": [{\"gfn\": 5}, {}, {}]}"));
	world_free(world);
}

Test(stats, the_last_report_counts)
{
	struct world *world = world_at(STEP_RUNNING);

	report(world, "[{\"gfn\": 5}]");
	report(world, "[]");
	cr_expect(stats_are(world, "{\"a\": 7, \"hottest\": []}"));
	world_free(world);
}

/* The VM whose slice says this ends, with a sentence. */
static void ended(const char *hottest, const char *why)
{
	struct world *world = world_at(STEP_RUNNING);

	report(world, hottest);
	cr_expect(strstr(world_end(world), why), "%s", world_text(world, 10, "vm-ended", "reason"));
	world_free(world);
}

Test(stats, a_list_that_is_none_or_too_long_ends_the_vm)
{
	ended("3", "is missing or no array");
	ended("[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", "has 17 entries, at most 16");
	ended("[{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9}]",
	      "more than 8 statistics");
}

/* Slice 1 of vm1 reports where in the guest's code it faults. */
static void places_report(struct world *world, json_t *places)
{
	world_say(world, 2, "{s:s, s:s, s:i, s:o}", "type", "slice-stats", "vm", "vm1", "slice", 1,
		  "fault_places", places);
}

Test(stats, fault_places_come_through)
{
	struct world *world = world_at(STEP_RUNNING);

	places_report(world, json_pack("[I, i]", INT64_MIN, 3));
	cr_expect(stats_are(world, "{\"fault_places\": [-9223372036854775808, 3]}"));
	world_free(world);
}

static void places_end(json_t *places, const char *why)
{
	struct world *world = world_at(STEP_RUNNING);

	places_report(world, places);
	cr_expect(strstr(world_end(world), why), "%s", world_text(world, 10, "vm-ended", "reason"));
	world_free(world);
}

Test(stats, fault_places_that_are_none_or_too_many_end_the_vm)
{
	json_t *many = json_array();

	for (unsigned i = 0; i <= 2 * FAULT_PLACES_MAX; i++)
		json_array_append_new(many, json_integer(1));
	places_end(many, "has 129 entries, at most 128");
	places_end(json_pack("[i, s]", 1, "x"), "more than integers");
	places_end(json_object(), "is missing or no array");
}

/* The longest that all slices of two full VMs may report still fits into one message. */
Test(stats, the_longest_list_fits_into_a_message)
{
	json_t *page = json_object(), *pages = json_array(), *one = json_object(),
	       *all = json_array(), *places = json_array();
	char key[41];

	for (int i = 0; i < 64; i++) {
		snprintf(key, sizeof(key), "%040d", i);
		json_object_set_new(one, key, json_integer(INT64_MIN));
		if (i < 8)
			json_object_set_new(page, key, json_integer(INT64_MIN));
	}
	for (unsigned i = 0; i < HOT_PAGES_MAX; i++)
		json_array_append(pages, page);
	json_object_set_new(one, "hottest", pages);
	for (unsigned i = 0; i < 2 * FAULT_PLACES_MAX; i++)
		json_array_append_new(places, json_integer(INT64_MIN));
	json_object_set_new(one, "fault_places", places);
	for (unsigned i = 0; i < 2 * SLICES_MAX; i++)
		json_array_append(all, one);
	/* Half a kilobyte for all else that is said of a slice. */
	cr_expect_leq(json_dumpb(all, NULL, 0, JSON_COMPACT) + 2 * SLICES_MAX * 512,
		      CONTROL_JSON_MAX);
	json_decref(all);
	json_decref(one);
	json_decref(page);
}
