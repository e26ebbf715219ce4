/* SPDX-License-Identifier: Apache-2.0 */
/* The hottest pages of a VM, from what its slices say of those homed at them: a list and a table.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/symbols.h"

/* So many names stand in a line of the table. */
#define NAMES_SHOWN 3

#define GFN_MAX (GUEST_MEM_MAX >> PAGE_SHIFT << 1)

/* What a slice says of a page, by the keys of its statistics. */
static const char *const counts[] = {"recent_faults", "reads_replicated", "ownership_moves",
				     "ping_pongs", "upgrades"};
#define COUNTS (sizeof(counts) / sizeof(counts[0]))

static uint64_t count_of(const json_t *stats, const char *key)
{
	char why[CONTROL_WHY_MAX];
	uint64_t value = 0;

	(void)control_get_u64(stats, key, 0, INT64_MAX, &value, why);
	return value;
}

static uint64_t slices_sum(const json_t *slices, const char *key)
{
	uint64_t sum = 0;
	json_t *slice;
	size_t i;

	json_array_foreach(slices, i, slice) sum += count_of(json_object_get(slice, "stats"), key);
	return sum;
}

/* One entry of the list; null if the slice's words make no sense. */
static json_t *page_make(const json_t *said, size_t home, const char *node, uint64_t recent)
{
	char why[CONTROL_WHY_MAX];
	uint64_t gfn, value;
	json_t *page, *other = json_object_get(said, "other_slice");

	if (control_get_u64(said, "gfn", 0, GFN_MAX, &gfn, why))
		return NULL;
	page = json_pack("{s:I, s:i, s:s}", "gfn", (json_int_t)gfn, "home_slice", (int)home,
			 "home_node", node);
	for (size_t i = 0; page && i < COUNTS; i++) {
		value = count_of(said, counts[i]);
		json_object_set_new(page, counts[i], json_integer((json_int_t)value));
	}
	if (other && control_get_u64(said, "other_slice", 0, SLICES_MAX - 1, &value, why) == 0)
		json_object_set(page, "other_slice", other);
	value = count_of(said, counts[0]);
	json_object_set_new(page, "share_percent",
			    json_real(recent ? 100.0 * (double)value / (double)recent : 0));
	return page;
}

static int page_compare(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, counts[0]));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, counts[0]));

	return (x < y) - (x > y);
}

/* Those of one slice, behind the `count` that are there. */
static size_t slice_collect(const json_t *slice, size_t home, uint64_t recent, json_t **pages,
			    size_t count)
{
	char why[CONTROL_WHY_MAX];
	json_t *said, *page, *hottest;
	const char *node;
	size_t i;

	if (control_get_name(slice, "node", &node, why) ||
	    control_get_array(json_object_get(slice, "stats"), "hottest", HOT_PAGES_MAX, &hottest,
			      why))
		return count;
	json_array_foreach(hottest, i, said)
	{
		page = page_make(said, home, node, recent);
		if (page)
			pages[count++] = page;
	}
	return count;
}

json_t *hot_pages_list(const json_t *slices)
{
	json_t **pages = calloc(SLICES_MAX * HOT_PAGES_MAX, sizeof(*pages)), *slice;
	uint64_t recent = slices_sum(slices, counts[0]);
	json_t *list = pages ? json_array() : NULL;
	size_t count = 0, i;

	if (list) {
		json_array_foreach(slices, i, slice) if (i < SLICES_MAX) count =
			slice_collect(slice, i, recent, pages, count);
		qsort(pages, count, sizeof(*pages), page_compare);
		for (i = 0; i < count; i++)
			json_array_append_new(list, pages[i]);
	}
	free(pages);
	return list;
}

static json_t *symbol_json(const struct symbol *symbol)
{
	const char type[2] = {symbol->type};
	json_t *named = json_pack("{s:s, s:s, s:I}", "name", symbol->name, "type", type, "bytes",
				  (json_int_t)symbol->bytes);

	if (named && symbol->offset)
		json_object_set_new(named, "offset", json_integer((json_int_t)symbol->offset));
	return named;
}

void hot_pages_name(json_t *list, const struct symbols *symbols)
{
	struct symbol symbol;
	json_t *page, *named;
	size_t i, count;

	json_array_foreach(list, i, page)
	{
		uint64_t gfn = count_of(page, "gfn");

		named = json_array();
		count = symbols_page_count(symbols, gfn);
		for (size_t n = 0; n < count; n++) {
			symbol = symbols_page_get(symbols, gfn, n);
			json_array_append_new(named, symbol_json(&symbol));
		}
		json_object_set_new(page, "symbols", named);
	}
}

static void names_print(FILE *out, const struct symbols *symbols, uint64_t gfn)
{
	struct symbol list[NAMES_SHOWN];
	size_t more, count = symbols_page_first(symbols, gfn, list, NAMES_SHOWN, &more);

	for (size_t i = 0; i < count; i++) {
		fprintf(out, "%s%s", i ? ", " : "  ", list[i].name);
		if (list[i].offset)
			fprintf(out, "+0x%llx", (unsigned long long)list[i].offset);
	}
	if (more)
		fprintf(out, ", +%zu more", more);
}

static void page_print(FILE *out, const json_t *page, const struct symbols *symbols)
{
	json_t *other = json_object_get(page, "other_slice");
	char home[NAME_MAX_LEN + 16], most[16] = "-";

	snprintf(home, sizeof(home), "%llu (%s)", (unsigned long long)count_of(page, "home_slice"),
		 json_string_value(json_object_get(page, "home_node")));
	if (other)
		snprintf(most, sizeof(most), "%lld", (long long)json_integer_value(other));
	fprintf(out, "0x%-10llx %-14s", (unsigned long long)count_of(page, "gfn"), home);
	for (size_t i = 1; i < COUNTS; i++)
		fprintf(out, " %11llu", (unsigned long long)count_of(page, counts[i]));
	fprintf(out, " %10s %6.1f%%", most,
		json_real_value(json_object_get(page, "share_percent")));
	if (symbols)
		names_print(out, symbols, count_of(page, "gfn"));
	fputc('\n', out);
}

void hot_pages_print(FILE *out, const json_t *slices, const json_t *list,
		     const struct symbols *symbols)
{
	json_t *page;
	size_t i;

	fprintf(out,
		"Faults between slices: %llu; reads replicated %llu, ownership moves %llu "
		"(ping-pongs "
		"%llu), upgrades %llu; hot pages %llu\n",
		(unsigned long long)slices_sum(slices, "home_faults"),
		(unsigned long long)slices_sum(slices, "reads_replicated"),
		(unsigned long long)slices_sum(slices, "ownership_moves"),
		(unsigned long long)slices_sum(slices, "ping_pongs"),
		(unsigned long long)slices_sum(slices, "upgrades"),
		(unsigned long long)slices_sum(slices, "hot_pages"));
	fprintf(out, "%-12s %-14s %11s %11s %11s %11s %10s %7s%s\n", "PAGE", "HOME", "REPLICATED",
		"MOVED", "PING-PONGS", "UPGRADES", "MOSTLY-BY", "SHARE",
		symbols ? "  SYMBOLS" : "");
	json_array_foreach(list, i, page) if (i < HOT_PAGES_MAX) page_print(out, page, symbols);
}
