/* SPDX-License-Identifier: Apache-2.0 */
/* The search finds every seeded fault, and only faults; its states are exact; its trace is real. */
#include <criterion/criterion.h>
#include <string.h>

#include "tools/search/search.h"

/* Several times what any of the faults needs. */
#define STATES_MAX 50000u

static struct search_result result;

static struct search *run_group(const struct fault *fault, unsigned slices, unsigned group,
				unsigned may)
{
	struct search_options options = {.slices = slices,
					 .pages = 1,
					 .group = group,
					 .may = may,
					 .losses = may & MAY_LOSE ? 1 : 0,
					 .states_max = STATES_MAX,
					 .fault = fault};
	struct search *s = search_new(&options);
	cr_assert(s && search_run(s, &result));
	return s;
}

static struct search *run(const struct fault *fault, unsigned slices, unsigned may)
{
	return run_group(fault, slices, 1, may);
}

Test(search, every_seeded_fault_is_found)
{
	cr_assert_geq(faults_count, 10);
	for (unsigned i = 0; i < faults_count; i++) {
		const struct fault *fault = &faults[i];
		struct search *s = run(fault, fault->slices, fault->may);
		cr_assert(result.failure, "%s is not found", fault->name);
		printf("%-18s %6u states, %2u events: %s\n", fault->name, result.states,
		       search_trace_length(s), result.failure);
		cr_assert_eq(fault_find(fault->name), fault);
		search_free(s);
	}
	cr_assert_null(fault_find("no-such-fault"));
}

/* And when all slices but the home share one bit of the directory. */
Test(search, every_seeded_fault_is_found_with_groups_too)
{
	for (unsigned i = 0; i < faults_count; i++) {
		const struct fault *fault = &faults[i];
		struct search *s = run_group(fault, fault->slices, fault->slices, fault->may);
		cr_assert(result.failure, "%s is not found", fault->name);
		search_free(s);
		s = run_group(NULL, fault->slices, fault->slices, fault->may);
		cr_assert(!result.failure, "%s", result.failure);
		search_free(s);
	}
}

/* As far as the faults above were looked for, at least. */
Test(search, without_a_fault_nothing_fails)
{
	for (unsigned i = 0; i < faults_count; i++) {
		unsigned before = 0;
		while (faults[before].slices != faults[i].slices ||
		       faults[before].may != faults[i].may)
			before++;
		if (before < i)
			continue;
		struct search *s = run(NULL, faults[i].slices, faults[i].may);
		cr_assert(!result.failure, "%s", result.failure);
		cr_assert(result.complete || result.states == STATES_MAX);
		search_free(s);
	}
}

struct lines {
	unsigned count;
	char last[256];
};

static void line_take(void *arg, unsigned number, const char *event, const char *rows)
{
	struct lines *lines = arg;
	cr_assert_eq(number, ++lines->count);
	cr_assert(event[0]);
	snprintf(lines->last, sizeof(lines->last), "%s|%s", event, rows);
}

Test(search, the_trace_is_the_shortest_way_and_names_rows)
{
	struct lines lines = {0};
	struct search *s = run(fault_find("protect-skipped"), 2, 0);
	search_trace(s, line_take, &lines);
	cr_assert_eq(lines.count, search_trace_length(s));
	cr_assert(lines.count == result.depth || lines.count == result.depth + 1);
	cr_assert(strstr(lines.last, "slice "), "%s", lines.last);
	cr_assert(strstr(lines.last, " -> "), "%s", lines.last);
	search_free(s);
}

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static struct move move_random(const struct world *w, uint32_t *random)
{
	struct move m;
	m.type = (uint8_t)(MOVE_READ + random_next(random) % (MOVE_RECEIVE - MOVE_READ + 1));
	/* Else accesses would be most of what happens. */
	if (random_next(random) % 2)
		m.type = MOVE_RECEIVE;
	m.slice = (uint8_t)(random_next(random) % w->slices);
	m.to = (uint8_t)(random_next(random) % w->slices);
	m.page = (uint8_t)(random_next(random) % w->pages);
	return m;
}

/* A state that was encoded is the same world again, byte for byte, and has the same code. */
Test(search, a_decoded_state_is_the_same_world)
{
	static const uint8_t homes[WORLD_PAGES] = {0, 1};
	static struct world w, base, again;
	struct state_parts parts;
	uint8_t bytes[STATE_BYTES_MAX], more[STATE_BYTES_MAX];
	uint32_t random = 4711;
	unsigned moves = 0;
	size_t longest = 0;
	cr_assert(world_init(&base, 3, 2, homes, SEARCH_HOLD_NS, 2));
	state_parts_find(&parts, &base);
	w = again = base;
	while (moves < 20000) {
		struct move m = move_random(&w, &random);
		if (!move_allowed(&w, m))
			continue;
		move_do(&w, m);
		cr_assert(!w.failure, "seed 4711, move %u: %s", moves, w.failure);
		size_t len = state_encode(&w, &base, &parts, bytes);
		cr_assert_gt(len, 0);
		state_decode(&again, &base, &parts, bytes, len);
		cr_assert_eq(memcmp(&again, &w, sizeof(w)), 0, "move %u", moves);
		cr_assert_eq(state_encode(&again, &base, &parts, more), len);
		cr_assert_eq(memcmp(bytes, more, len), 0);
		longest = len > longest ? len : longest;
		moves++;
	}
	printf("seed 4711: %u moves, at most %zu bytes a state\n", moves, longest);
}

/* Places in a pool are all that settling changes: what is settled goes on as what is not. */
Test(search, a_settled_world_goes_on_as_it_would_have)
{
	static const uint8_t homes[WORLD_PAGES] = {0, 1};
	static struct world w, base, settled;
	struct state_parts parts;
	uint8_t bytes[STATE_BYTES_MAX], more[STATE_BYTES_MAX];
	uint32_t random = 4712;
	unsigned moves = 0, different = 0;
	cr_assert(world_init(&base, 2, 2, homes, SEARCH_HOLD_NS, 2));
	state_parts_find(&parts, &base);
	w = settled = base;
	while (moves < 20000) {
		struct move m = move_random(&w, &random);
		if (!move_allowed(&w, m))
			continue;
		state_settle(&settled);
		cr_assert(move_allowed(&settled, m));
		move_do(&w, m);
		move_do(&settled, m);
		cr_assert(!w.failure && !settled.failure, "seed 4712, move %u", moves);
		size_t len = state_encode(&w, &base, &parts, bytes);
		size_t len_more = state_encode(&settled, &base, &parts, more);
		different += len != len_more || memcmp(bytes, more, len) != 0;
		struct world again = w, settled_again = settled;
		state_settle(&again);
		state_settle(&settled_again);
		len = state_encode(&again, &base, &parts, bytes);
		len_more = state_encode(&settled_again, &base, &parts, more);
		cr_assert(len == len_more && memcmp(bytes, more, len) == 0, "move %u", moves);
		moves++;
	}
	/* Else there was nothing to settle, and nothing was shown. */
	cr_assert_gt(different, moves / 10);
	printf("seed 4712: %u moves, after %u of them the worlds differed\n", moves, different);
}

/* A request that a pool has lost is not settled away: the search must come to miss it. */
Test(search, a_pool_that_has_lost_something_is_not_settled)
{
	static const uint8_t homes[WORLD_PAGES] = {0, 1};
	static struct world w, before;
	cr_assert(world_init(&w, 2, 2, homes, 0, 2));
	world_read(&w, 1, 0);
	struct protocol *p = world_protocol(&w, 1);
	cr_assert_eq(p->requests.used, 1);
	p->requests.used = 2;
	before = w;
	state_settle(&w);
	cr_assert_eq(memcmp(&before, &w, sizeof(w)), 0);
	p->requests.used = 1;
	p->requests.fresh = 2;
	before = w;
	state_settle(&w);
	cr_assert_eq(memcmp(&before, &w, sizeof(w)), 0);
}

/* What is known of a small machine by hand: one slice, its own page, and a bit for "was read". */
Test(search, one_slice_alone_has_four_states)
{
	struct search *s = run(NULL, 1, MAY_EVICT);
	cr_assert(result.complete && !result.failure);
	cr_assert_eq(result.states, 4);
	search_free(s);
}

Test(search, limits_end_a_search_and_say_so)
{
	struct search_options options = {.slices = 2, .pages = 2, .states_max = 1000};
	struct search *s = search_new(&options);
	cr_assert(s && search_run(s, &result));
	cr_assert(!result.complete && !result.failure);
	cr_assert_eq(result.states, 1000);
	search_free(s);
	options = (struct search_options){
		.slices = 3, .pages = 1, .states_max = STATES_MAX, .depth_max = 4};
	s = search_new(&options);
	cr_assert(s && search_run(s, &result));
	cr_assert(!result.complete && !result.failure);
	cr_assert_eq(result.depth, 4);
	search_free(s);
	options.slices = WORLD_SLICES + 1;
	cr_assert_null(search_new(&options));
}

static void progress_take(void *arg, const struct search_progress *progress)
{
	struct search_progress *last = arg;
	cr_assert_gt(progress->states, progress->expanded);
	cr_assert(progress->expanded > last->expanded || !last->states);
	cr_assert(progress->states >= last->states && progress->depth >= last->depth);
	*last = *progress;
}

Test(search, a_long_search_tells_how_far_it_is)
{
	struct search_progress last = {0};
	struct search_options options = {.slices = 3,
					 .pages = 1,
					 .states_max = STATES_MAX,
					 .progress = progress_take,
					 .progress_arg = &last};
	struct search *s = search_new(&options);
	cr_assert(s && search_run(s, &result));
	cr_assert(last.expanded >= STATES_MAX / 4 && last.depth > 5);
	search_free(s);
}

Test(search, every_cell_has_a_row_and_is_found_by_it)
{
	struct cell cell = {0}, found;
	bool begun = false;
	unsigned slices = 0, homes = 0;
	while (cell_next(&cell, &begun)) {
		cr_assert(cell_find(cell_rule(cell), &found));
		cr_assert(found.home == cell.home && found.state == cell.state &&
			  found.event == cell.event);
		slices += !cell.home;
		homes += cell.home;
	}
	cr_assert_gt(slices, 50);
	cr_assert_gt(homes, 40);
	struct protocol_rule elsewhere = {.why = "not of the tables"};
	cr_assert(!cell_find(&elsewhere, &found));
}
