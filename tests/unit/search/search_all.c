/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the searches that together reach every row of the protocol's tables, and judges each. */
#include <stdio.h>
#include <stdlib.h>

#include "tools/search/search.h"

#define STATES_MAX 20000000u

/* Those with a depth only reach what takes four slices: all of those would be too many states. */
static const struct search_options searches[] = {
	{.slices = 1, .may = MAY_EVICT | MAY_ZERO | MAY_SPLIT},
	{.slices = 2},
	{.slices = 2, .may = MAY_EVICT | MAY_ZERO | MAY_SPLIT},
	{.slices = 2, .may = MAY_EVICT | MAY_ZERO | MAY_SPLIT | MAY_HOLD | MAY_HOLD_ALL},
	{.slices = 2, .may = MAY_EVICT | MAY_HOLD | MAY_HOLD_ALL | MAY_LOSE, .losses = 1},
	{.slices = 3, .may = MAY_EVICT | MAY_ZERO | MAY_SPLIT},
	{.slices = 3, .may = MAY_EVICT | MAY_HOLD},
	{.slices = 3, .may = MAY_EVICT | MAY_LOSE, .losses = 1},
	{.slices = 3, .may = MAY_LOSE, .losses = 2},
	{.slices = 4, .may = MAY_EVICT, .depth_max = 16},
	{.slices = 2, .pages = 2},
	{.slices = 2,
	 .group = 2,
	 .may = MAY_EVICT | MAY_ZERO | MAY_SPLIT | MAY_HOLD | MAY_HOLD_ALL},
	{.slices = 2, .group = 2, .may = MAY_EVICT | MAY_LOSE, .losses = 1},
	{.slices = 3, .group = 2, .may = MAY_EVICT},
	{.slices = 3, .group = 3, .may = MAY_EVICT | MAY_HOLD},
	{.slices = 3, .group = 3, .may = MAY_LOSE, .losses = 1},
	{.slices = 4, .group = 2, .may = MAY_EVICT, .depth_max = 14},
};

/* What all searches together reached. */
struct reached {
	struct cells cells;
	uint64_t group_invs[PAGE_STATES], group_data;
};

static void reached_add(struct reached *reached, const struct search_result *result)
{
	cells_add(&reached->cells, &result->cells);
	for (unsigned state = 0; state < PAGE_STATES; state++)
		reached->group_invs[state] += result->group_invs[state];
	reached->group_data += result->group_data;
}

static bool cells_judge(const struct search_options *options, const struct search_result *result)
{
	struct cell cell = {0};
	bool begun = false, good = true;
	while (cell_next(&cell, &begun)) {
		char text[96];
		if (!cell_wrong(cell, options, result))
			continue;
		const char *why = cell_unreached(cell, options);
		cell_text(cell, text, sizeof(text));
		printf("%s: %s\n", text, why ? why : "not reached, without an explanation");
		good = false;
	}
	return good;
}

static bool search_one(const struct search_options *which, struct reached *reached)
{
	static struct search_result result;
	struct search_options options = *which;
	options.pages = which->pages ? which->pages : 1;
	options.states_max = STATES_MAX;
	struct search *s = search_new(&options);
	bool ran = s && search_run(s, &result);
	search_free(s);
	if (!ran) {
		printf("no memory\n");
		return false;
	}
	if (options.group > 1)
		printf("groups of %u: ", options.group);
	printf("%u slices, %u pages, may %#x: %u states, %llu transitions, depth %u: %s\n",
	       options.slices, options.pages, options.may, result.states,
	       (unsigned long long)result.transitions, result.depth,
	       result.failure	 ? result.failure
	       : result.complete ? "all visited"
				 : "not all visited");
	fflush(stdout); /* the next one may take a minute */
	reached_add(reached, &result);
	return !result.failure && (result.complete || options.depth_max) &&
	       cells_judge(&options, &result);
}

/* A row that no search reaches is a row that nothing needs. */
static bool cells_all(const struct cells *reached)
{
	struct cell cell = {0};
	bool begun = false, good = true;
	unsigned count = 0;
	for (; cell_next(&cell, &begun); count++) {
		char text[96];
		if (cell_count(reached, cell))
			continue;
		cell_text(cell, text, sizeof(text));
		printf("%s: no search reaches it\n", text);
		good = false;
	}
	printf("%u cells of the tables, %s\n", count, good ? "all of them reached" : "NOT all");
	return good;
}

/* What is no row of the tables, but the code for groups has for it. */
static bool groups_all(const struct reached *reached)
{
	static const enum page_state states[] = {PAGE_I,  PAGE_IS, PAGE_IM, PAGE_S,
						 PAGE_SM, PAGE_SI, PAGE_II};
	bool good = reached->group_data != 0;
	printf("with groups: %llu DATA found SM; INVs found",
	       (unsigned long long)reached->group_data);
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		uint64_t count = reached->group_invs[states[i]];
		printf(" %s %llu times", page_state_name(states[i]), (unsigned long long)count);
		good &= count != 0;
	}
	printf(": %s\n", good ? "all there is" : "NOT all there is");
	return good;
}

/* With an argument only the searches of so many slices and one page, and no judgement of all. */
int main(int argc, char **argv)
{
	static struct reached reached;
	unsigned slices_max = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : WORLD_SLICES;
	bool good = true;
	for (size_t i = 0; i < sizeof(searches) / sizeof(searches[0]); i++) {
		bool all = slices_max == WORLD_SLICES;
		if (all || (searches[i].slices <= slices_max && searches[i].pages <= 1))
			good &= search_one(&searches[i], &reached);
	}
	if (slices_max == WORLD_SLICES)
		good &= cells_all(&reached.cells) & groups_all(&reached);
	return good ? 0 : 1;
}
