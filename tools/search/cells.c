/* SPDX-License-Identifier: Apache-2.0 */
/* The cells of the transition tables: which were reached, and why a search does not reach one. */
#include "base/log.h"
#include "tools/search/search.h"

const struct protocol_rule *cell_rule(struct cell cell)
{
	if (cell.home)
		return home_rule((enum home_state)cell.state, (enum home_event)cell.event);
	return slice_rule((enum page_state)cell.state, (enum slice_event)cell.event);
}

static unsigned events_of(bool home)
{
	return home ? HOME_EVENT_COUNT : SLICE_EVENT_COUNT;
}

bool cell_next(struct cell *cell, bool *begun)
{
	if (*begun)
		cell->event++;
	*begun = true;
	for (;;) {
		if (cell->event >= events_of(cell->home)) {
			cell->event = 0;
			cell->state++;
		}
		if (cell->state >= (cell->home ? (unsigned)HOME_STATE_COUNT : PAGE_STATES)) {
			if (cell->home)
				return false;
			*cell = (struct cell){.home = true};
		}
		if (cell_rule(*cell))
			return true;
		cell->event++;
	}
}

/* A table is one array, and its first cell has a row: a row's place in the array is its cell. */
static bool cell_find_in(const struct protocol_rule *rule, bool home, unsigned states,
			 struct cell *cell)
{
	const struct protocol_rule *first = cell_rule((struct cell){.home = home});
	invariant(first);
	uintptr_t bytes = (uintptr_t)rule - (uintptr_t)first;
	size_t index = bytes / sizeof(*rule);
	unsigned events = events_of(home);
	if ((uintptr_t)rule < (uintptr_t)first || index >= states * events)
		return false;
	*cell = (struct cell){home, (unsigned)(index / events), (unsigned)(index % events)};
	return true;
}

bool cell_find(const struct protocol_rule *rule, struct cell *cell)
{
	return cell_find_in(rule, false, PAGE_STATES, cell) ||
	       cell_find_in(rule, true, HOME_STATE_COUNT, cell);
}

static uint64_t *cell_at(struct cells *cells, struct cell cell)
{
	return cell.home ? &cells->home[cell.state][cell.event]
			 : &cells->slice[cell.state][cell.event];
}

void cells_count(struct cells *cells, const struct world_rows *rows)
{
	for (unsigned i = 0; i < rows->count; i++) {
		struct cell cell;
		if (cell_find(rows->list[i], &cell))
			(*cell_at(cells, cell))++;
	}
}

uint64_t cell_count(const struct cells *cells, struct cell cell)
{
	return cell.home ? cells->home[cell.state][cell.event]
			 : cells->slice[cell.state][cell.event];
}

void cells_add(struct cells *cells, const struct cells *more)
{
	struct cell cell = {0};
	bool begun = false;
	while (cell_next(&cell, &begun))
		*cell_at(cells, cell) += cell_count(more, cell);
}

void cell_text(struct cell cell, char *out, size_t size)
{
	if (cell.home)
		snprintf(out, size, "home %s: %s", home_state_name((enum home_state)cell.state),
			 home_event_name((enum home_event)cell.event));
	else
		snprintf(out, size, "slice %s: %s", page_state_name((enum page_state)cell.state),
			 slice_event_name((enum slice_event)cell.event));
}

/* ---- why a cell is not reached ---- */

/* What the directory must know of sharers: each of them, or only in which groups there may be some.
 */
enum sharers {
	SHARERS_EITHER,
	SHARERS_KNOWN,
	SHARERS_GROUPS
};

/* What a search must have for a cell: so many slices, and what may happen. */
struct need {
	uint8_t slices, may;
	const char *why; /* of the slices, where it is not plain; or null */
	enum sharers sharers;
};

#define ANY 0xffu

struct need_row {
	uint8_t state, event; /* or ANY */
	struct need need;
};

#define ROW(state, event, slices_, may_, ...)                                                      \
	{                                                                                          \
		PAGE_##state, SLICE_##event,                                                       \
		{                                                                                  \
			.slices = slices_, .may = may_, .why = __VA_ARGS__                         \
		}                                                                                  \
	}
#define PAGE_ANY  ANY
#define SLICE_ANY ANY

static const char home_keeps[] = "with two slices only the home waits for ACKs, and never evicts";
static const char two_sharers[] = "takes two sharers beside the writer";

/* The slice side: what all rows that match a cell ask for. */
static const struct need_row slice_needs[] = {
	ROW(ANY, EVICT, 2, MAY_EVICT, NULL), ROW(ANY, HELD, 2, MAY_HOLD, NULL),
	ROW(ANY, FWD_S, 2, 0, NULL),	     ROW(ANY, FWD_M, 2, 0, NULL),
	ROW(ANY, INV, 2, 0, NULL),	     ROW(ANY, DATA_S, 2, 0, NULL),
	ROW(ANY, DATA_M, 2, 0, NULL),	     ROW(ANY, DATA_M_ACKS, 2, 0, NULL),
	ROW(ANY, GRANT, 3, 0, two_sharers),  ROW(ANY, GRANT_ACKS, 2, 0, NULL),
	ROW(ANY, ACK, 3, 0, two_sharers),    ROW(ANY, ACK_LAST, 2, 0, NULL),
	ROW(IS, FAULT_READ, 2, 0, NULL),     ROW(IS, FAULT_WRITE, 2, 0, NULL),
	ROW(IM, FAULT_READ, 2, 0, NULL),     ROW(IM, FAULT_WRITE, 2, 0, NULL),
	ROW(IMA, ANY, 2, 0, NULL),	     ROW(IMA, EVICT, 3, MAY_EVICT, home_keeps),
	ROW(SM, FAULT_READ, 2, 0, NULL),     ROW(SM, FAULT_WRITE, 2, 0, NULL),
	ROW(SMA, ANY, 2, 0, NULL),	     ROW(SMA, EVICT, 3, MAY_EVICT, home_keeps),
	ROW(MI, ANY, 2, MAY_EVICT, NULL),    ROW(SI, ANY, 2, MAY_EVICT, NULL),
	ROW(II, ANY, 2, MAY_EVICT, NULL),
};
#undef ROW

#define ROW(state, event, slices_, may_, ...)                                                      \
	{                                                                                          \
		HOME_##state, HOME_EVENT_##event,                                                  \
		{                                                                                  \
			.slices = slices_, .may = may_, .why = __VA_ARGS__                         \
		}                                                                                  \
	}

static const char third_party[] = "takes a third slice beside requester and home";
static const char late_put[] = "takes a third slice, whose PUT is late";
static const char fourth_put[] = "takes home, owner, requester, and one whose PUT is late";

/* The home side: one of the rows of a cell is enough; a cell without a row needs one slice. */
static const struct need_row home_needs[] = {
	ROW(S, GET_S, 2, 0, NULL),
	ROW(S, GET_M_OTHERS, 2, 0, NULL),
	ROW(S, GET_M_OWN, 2, 0, NULL),
	ROW(S, PUT_M_LATE, 3, MAY_EVICT, late_put),
	ROW(S, PUT_S, 2, MAY_EVICT, NULL, .sharers = SHARERS_KNOWN),
	ROW(S, PUT_S_LATE, 3, MAY_EVICT, late_put),
	ROW(S, PUT_S_LATE, 2, MAY_EVICT, NULL, .sharers = SHARERS_GROUPS),
	ROW(O, GET_S, 3, 0, third_party),
	ROW(O, GET_S_NEAR, 2, 0, NULL),
	ROW(O, GET_S_OWN, 2, 0, NULL),
	ROW(O, GET_M, 2, 0, NULL),
	ROW(O, GET_M_OWN, 2, 0, NULL),
	ROW(O, PUT_M, 2, MAY_EVICT, NULL),
	ROW(O, PUT_M_LATE, 3, MAY_EVICT, late_put),
	ROW(O, PUT_S_LATE, 3, MAY_EVICT, late_put),
	ROW(SD, GET_S, 3, 0, third_party),
	ROW(SD, GET_M, 3, 0, third_party),
	ROW(SD, DONE, 2, 0, NULL),
	ROW(SD, PUT_M_FWD, 2, MAY_EVICT, NULL),
	ROW(SD, PUT_M_LATE, 3, MAY_EVICT, late_put),
	ROW(SD, PUT_S_FWD, 3, MAY_EVICT, third_party),
	ROW(SD, PUT_S_LATE, 3, MAY_EVICT, late_put),
	ROW(OD, GET_S, 3, 0, third_party),
	ROW(OD, GET_S, 2, MAY_EVICT, NULL, .sharers = SHARERS_GROUPS),
	ROW(OD, GET_M, 2, 0, NULL),
	ROW(OD, DONE, 2, 0, NULL),
	ROW(OD, PUT_M_FWD, 2, MAY_EVICT, NULL),
	ROW(OD, PUT_M_LATE, 3, MAY_EVICT, late_put),
	ROW(OD, PUT_S_LATE, 2, MAY_EVICT, NULL),
	ROW(SH, GET_S, 3, MAY_HOLD, third_party),
	ROW(SH, GET_M, 3, MAY_HOLD, third_party),
	ROW(SH, OWN, 2, 0, NULL),
	ROW(SH, PUT_M_LATE, 3, MAY_HOLD | MAY_EVICT, late_put),
	ROW(SH, PUT_S_LATE, 3, MAY_HOLD | MAY_EVICT, late_put),
	ROW(OH, GET_S, 3, MAY_HOLD, third_party),
	ROW(OH, GET_M, 3, MAY_HOLD, third_party),
	ROW(OH, OWN, 2, 0, NULL),
	ROW(OH, OWN_OTHERS, 3, 0, two_sharers),
	ROW(OH, PUT_M_LATE, 3, MAY_HOLD | MAY_EVICT, late_put),
	ROW(OH, PUT_S_LATE, 3, MAY_HOLD | MAY_EVICT, late_put),
	ROW(SW, GET_S, 3, 0, third_party),
	ROW(SW, GET_M, 3, 0, third_party),
	ROW(SW, DONE, 3, 0, third_party),
	ROW(SW, WB, 3, 0, third_party),
	ROW(SW, PUT_M_FWD, 3, MAY_EVICT, third_party),
	ROW(SW, PUT_M_LATE, 4, MAY_EVICT, fourth_put),
	ROW(SW, PUT_S_LATE, 4, MAY_EVICT, fourth_put),
	ROW(SB, GET_S, 3, 0, third_party),
	ROW(SB, GET_M, 3, 0, third_party),
	ROW(SB, WB, 3, 0, third_party),
	ROW(SB, PUT_M_FWD, 3, MAY_EVICT, third_party),
	ROW(SB, PUT_M_LATE, 4, MAY_EVICT, fourth_put),
	ROW(SB, PUT_S, 3, MAY_EVICT, third_party, .sharers = SHARERS_KNOWN),
	ROW(SB, PUT_S_LATE, 4, MAY_EVICT, fourth_put),
	ROW(SB, PUT_S_LATE, 3, MAY_EVICT, third_party, .sharers = SHARERS_GROUPS),
};
#undef ROW

/* What of its needs the search does not have; null: nothing. */
static const char *need_unmet(const struct need *need, const struct search_options *options)
{
	unsigned missing = need->may & ~options->may;
	bool groups = options->group > 1;
	if (need->sharers == SHARERS_KNOWN && groups)
		return "a directory of groups does not know who shares";
	if (need->sharers == SHARERS_GROUPS && !groups)
		return "the sharers are in no groups in this search";
	if (missing & MAY_HOLD)
		return "nothing is held in this search";
	if (missing & MAY_EVICT)
		return "nothing is evicted in this search";
	if (options->slices < need->slices)
		return need->why ? need->why : "takes more slices";
	return NULL;
}

static const char *slice_unreached(struct cell cell, const struct search_options *options)
{
	for (size_t i = 0; i < sizeof(slice_needs) / sizeof(slice_needs[0]); i++) {
		const struct need_row *row = &slice_needs[i];
		if ((row->state != ANY && row->state != cell.state) ||
		    (row->event != ANY && row->event != cell.event))
			continue;
		const char *why = need_unmet(&row->need, options);
		if (why)
			return why;
	}
	return NULL;
}

static const char *home_unreached(struct cell cell, const struct search_options *options)
{
	const char *first = NULL;
	for (size_t i = 0; i < sizeof(home_needs) / sizeof(home_needs[0]); i++) {
		const struct need_row *row = &home_needs[i];
		if (row->state != cell.state || row->event != cell.event)
			continue;
		const char *why = need_unmet(&row->need, options);
		if (!why)
			return NULL;
		first = first ? first : why;
	}
	return first;
}

const char *cell_unreached(struct cell cell, const struct search_options *options)
{
	return cell.home ? home_unreached(cell, options) : slice_unreached(cell, options);
}

bool cell_wrong(struct cell cell, const struct search_options *options,
		const struct search_result *result)
{
	bool reached = cell_count(&result->cells, cell) != 0;
	if (options->fault || result->failure || (!reached && !result->complete))
		return false;
	return reached == (cell_unreached(cell, options) != NULL);
}
