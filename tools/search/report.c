/* SPDX-License-Identifier: Apache-2.0 */
/* What pangea-search prints: the trace of a failure, the figures, the cells; as text or as JSON. */
#include <jansson.h>
#include <string.h>

#include "tools/search/tool.h"

/* ---- what both forms need ---- */

static const struct {
	unsigned bit;
	const char *text;
} may_texts[] = {{MAY_EVICT, "evictions"},	    {MAY_ZERO, "zeroes"},
		 {MAY_SPLIT, "split arrivals"},	    {MAY_HOLD, "holds at the home"},
		 {MAY_HOLD_ALL, "holds elsewhere"}, {MAY_LOSE, "a loss"}};
#define MAY_TEXTS (sizeof(may_texts) / sizeof(may_texts[0]))

static void cells_sum(const struct search_result *result, unsigned *reached, unsigned *all)
{
	struct cell cell = {0};
	bool begun = false;
	*reached = *all = 0;
	while (cell_next(&cell, &begun)) {
		*reached += cell_count(&result->cells, cell) != 0;
		*all += 1;
	}
}

int report_exit(const struct tool_options *options, const struct search_result *result)
{
	struct cell cell = {0};
	bool begun = false;
	if (result->failure)
		return TOOL_FAILED;
	while (cell_next(&cell, &begun)) {
		if (cell_wrong(cell, &options->search, result))
			return TOOL_CELLS;
	}
	return result->complete ? TOOL_HOLDS : TOOL_INCOMPLETE;
}

/* ---- as text ---- */

static void line_print(void *arg, unsigned number, const char *event, const char *rows)
{
	(void)arg;
	printf("%4u  %-58s %s%s%s\n", number, event, rows[0] ? "[" : "", rows, rows[0] ? "]" : "");
}

static void header_print(const struct search_options *o)
{
	printf("%u node%s, %u page%s", o->slices, o->slices == 1 ? "" : "s", o->pages,
	       o->pages == 1 ? "" : "s");
	if (o->group > 1)
		printf(", sharers in groups of %u", o->group);
	for (size_t i = 0; i < MAY_TEXTS; i++) {
		if (o->may & may_texts[i].bit)
			printf(", %s", may_texts[i].text);
	}
	if (o->fault)
		printf("; seeded fault: %s", o->fault->text);
	printf("\n");
}

static void failure_print(struct search *s, const struct search_result *result)
{
	printf("FAILED: %s, after %u events, the fewest:\n", result->failure,
	       search_trace_length(s));
	search_trace(s, line_print, NULL);
}

static void cells_print(const struct tool_options *options, const struct search_result *result)
{
	struct cell cell = {0};
	bool begun = false;
	while (cell_next(&cell, &begun)) {
		uint64_t count = cell_count(&result->cells, cell);
		const char *why = cell_unreached(cell, &options->search);
		bool wrong = cell_wrong(cell, &options->search, result);
		char text[96];
		cell_text(cell, text, sizeof(text));
		if (count && wrong)
			printf("  %-28s reached %llu times, though: %s\n", text,
			       (unsigned long long)count, why);
		else if (count && options->cells)
			printf("  %-28s reached %llu times\n", text, (unsigned long long)count);
		else if (!count && wrong)
			printf("  %-28s NOT reached, without an explanation\n", text);
		else if (!count)
			printf("  %-28s not reached: %s\n", text, why ? why : "not yet");
	}
}

static void text_print(const struct tool_options *options, struct search *s,
		       const struct search_result *result, const struct tool_cost *cost)
{
	unsigned reached, all;
	cells_sum(result, &reached, &all);
	header_print(&options->search);
	if (result->failure)
		failure_print(s, result);
	printf("%u states, %llu transitions, %llu of them to rest, up to %u events deep: %s\n",
	       result->states, (unsigned long long)result->transitions,
	       (unsigned long long)result->rests, result->depth,
	       result->failure	  ? "a check FAILED"
	       : result->complete ? "all visited, all checks hold"
				  : "all checks hold so far, NOT all visited");
	printf("%.1f s, %.0f states/s, %.0f MiB at most\n", cost->seconds,
	       cost->seconds > 0 ? result->states / cost->seconds : 0, cost->memory_mib);
	printf("%u of the %u cells of the tables reached\n", reached, all);
	if (!result->failure)
		cells_print(options, result);
}

/* ---- as JSON ---- */

static void line_add(void *arg, unsigned number, const char *event, const char *rows)
{
	json_array_append_new(arg, json_pack("{s:i, s:s, s:s}", "number", (int)number, "event",
					     event, "rows", rows));
}

static json_t *cells_json(const struct tool_options *options, const struct search_result *result)
{
	struct cell cell = {0};
	bool begun = false;
	json_t *list = json_array();
	while (list && cell_next(&cell, &begun)) {
		const char *why = cell_unreached(cell, &options->search);
		json_t *item = json_pack(
			"{s:s, s:s, s:s, s:I, s:s?}", "side", cell.home ? "home" : "slice", "state",
			cell.home ? home_state_name(cell.state) : page_state_name(cell.state),
			"event",
			cell.home ? home_event_name(cell.event) : slice_event_name(cell.event),
			"count", (json_int_t)cell_count(&result->cells, cell), "unreached", why);
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *options_json(const struct search_options *o)
{
	json_t *may = json_array();
	for (size_t i = 0; i < MAY_TEXTS; i++) {
		if (o->may & may_texts[i].bit)
			json_array_append_new(may, json_string(may_texts[i].text));
	}
	return json_pack("{s:i, s:i, s:i, s:o, s:s?}", "nodes", (int)o->slices, "pages",
			 (int)o->pages, "group", (int)o->group, "may", may, "fault",
			 o->fault ? o->fault->name : NULL);
}

static void json_print(const struct tool_options *options, struct search *s,
		       const struct search_result *result, const struct tool_cost *cost)
{
	json_t *trace = json_array();
	unsigned reached, all;
	cells_sum(result, &reached, &all);
	if (result->failure)
		search_trace(s, line_add, trace);
	json_t *report = json_pack(
		"{s:o, s:I, s:I, s:I, s:i, s:b, s:s?, s:f, s:f, s:o, s:i, s:i, s:o}", "options",
		options_json(&options->search), "states", (json_int_t)result->states, "transitions",
		(json_int_t)result->transitions, "rests", (json_int_t)result->rests, "depth",
		(int)result->depth, "complete", result->complete, "failure", result->failure,
		"seconds", cost->seconds, "memory_mib", cost->memory_mib, "trace", trace,
		"cells_reached", (int)reached, "cells_all", (int)all, "cells",
		cells_json(options, result));
	if (!report || json_dumpf(report, stdout, JSON_INDENT(2)) < 0)
		fputs("pangea-search: the report cannot be written\n", stderr);
	putchar('\n');
	json_decref(report);
}

void report_print(const struct tool_options *options, struct search *s,
		  const struct search_result *result, const struct tool_cost *cost)
{
	if (options->json)
		json_print(options, s, result, cost);
	else
		text_print(options, s, result, cost);
}
