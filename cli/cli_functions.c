/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of the guest whose accesses take the most pages from other slices: a list and a table.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/symbols.h"

/* As many lines as hot pages have, and as many again: functions are more. */
#define FUNCTIONS_SHOWN 32
/* Below are the addresses of programs (47 bits), above those of the kernel. */
#define USER_END (UINT64_C(1) << 47)

/* A place of the guest's code: a run of instructions without a branch. */
struct place {
	uint64_t start; /* of its function; without a symbol its own */
	uint64_t address, faults;
	const char *function; /* null: unknown */
};

static uint64_t recent_sum(const json_t *slices)
{
	char why[CONTROL_WHY_MAX];
	uint64_t sum = 0, value;
	json_t *slice;
	size_t i;

	json_array_foreach(slices, i, slice)
	{
		if (control_get_u64(json_object_get(slice, "stats"), "placed_faults", 0, INT64_MAX,
				    &value, why) == 0)
			sum += value;
	}
	return sum;
}

static struct place place_make(uint64_t address, uint64_t faults, const struct symbols *symbols)
{
	struct place place = {address, address, faults, NULL};
	struct symbol symbol;

	if (!symbols)
		return place;
	if (address < USER_END) {
		place.function = "(user)";
		place.start = 0;
		return place;
	}
	symbol = symbols_function(symbols, address);
	if (symbol.name) {
		place.function = symbol.name;
		place.start = address - symbol.offset;
	}
	return place;
}

/* Those of one slice, behind the `count` that are there. */
static size_t places_collect(const json_t *slice, const struct symbols *symbols,
			     struct place *places, size_t count)
{
	char why[CONTROL_WHY_MAX];
	json_t *pairs;

	if (control_get_array(json_object_get(slice, "stats"), "fault_places",
			      (size_t)2 * FAULT_PLACES_MAX, &pairs, why))
		return count;
	for (size_t i = 0; i + 1 < json_array_size(pairs); i += 2) {
		uint64_t address = (uint64_t)json_integer_value(json_array_get(pairs, i));
		json_int_t faults = json_integer_value(json_array_get(pairs, i + 1));

		if (faults > 0 && faults < INT32_MAX)
			places[count++] = place_make(address, (uint64_t)faults, symbols);
	}
	return count;
}

static int place_compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->address > y->address) - (x->address < y->address);
}

static void hex_set(json_t *object, const char *key, uint64_t value)
{
	char text[20];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
	json_object_set_new(object, key, json_string(text));
}

/* One function from its places, those of one address on several slices together. */
static json_t *function_make(const struct place *places, size_t count, uint64_t recent)
{
	json_t *function = json_object(), *list = json_array(), *one;
	uint64_t faults = 0;
	size_t i = 0;

	while (i < count) {
		uint64_t address = places[i].address, sum = 0;

		for (; i < count && places[i].address == address; i++)
			sum += places[i].faults;
		one = json_pack("{s:I}", "faults", (json_int_t)sum);
		hex_set(one, "address", address);
		json_array_append_new(list, one);
		faults += sum;
	}
	if (places->function)
		json_object_set_new(function, "function", json_string(places->function));
	if (places->start)
		hex_set(function, "address", places->start);
	json_object_set_new(function, "recent_faults", json_integer((json_int_t)faults));
	json_object_set_new(function, "share_percent",
			    json_real(recent ? 100.0 * (double)faults / (double)recent : 0));
	json_object_set_new(function, "places", list);
	return function;
}

static int function_compare(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "recent_faults"));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "recent_faults"));

	return (x < y) - (x > y);
}

/* The places, in the order of their functions, as a list of functions. */
static json_t *functions_make(const struct place *places, size_t count, uint64_t recent)
{
	json_t **functions = calloc(count + 1, sizeof(json_t *)), *list = json_array();
	size_t made = 0, first = 0;

	for (size_t i = 1; functions && i <= count; i++) {
		if (i < count && places[i].start == places[first].start)
			continue;
		functions[made++] = function_make(places + first, i - first, recent);
		first = i;
	}
	if (functions)
		qsort(functions, made, sizeof(*functions), function_compare);
	for (size_t i = 0; i < made; i++)
		json_array_append_new(list, functions[i]);
	free(functions);
	return list;
}

json_t *functions_list(const json_t *slices, const struct symbols *symbols)
{
	struct place *places = calloc((size_t)SLICES_MAX * FAULT_PLACES_MAX, sizeof(struct place));
	json_t *slice, *list;
	size_t count = 0, i;

	if (!places)
		return NULL;
	json_array_foreach(slices, i, slice)
	{
		if (i < SLICES_MAX)
			count = places_collect(slice, symbols, places, count);
	}
	qsort(places, count, sizeof(*places), place_compare);
	list = functions_make(places, count, recent_sum(slices));
	free(places);
	return list;
}

static void function_print(FILE *out, const json_t *function)
{
	const char *name = json_string_value(json_object_get(function, "function"));
	const char *address = json_string_value(json_object_get(function, "address"));

	fprintf(out, "%6.1f%% %10lld  %s\n",
		json_real_value(json_object_get(function, "share_percent")),
		(long long)json_integer_value(json_object_get(function, "recent_faults")),
		name ? name : address);
}

void functions_print(FILE *out, const json_t *slices, const json_t *list)
{
	json_t *function;
	size_t i;

	fprintf(out, "Recent faults on other slices' pages by the code of software CPUs: %llu\n",
		(unsigned long long)recent_sum(slices));
	fprintf(out, "%7s %10s  %s\n", "SHARE", "FAULTS", "FUNCTION");
	json_array_foreach(list, i, function)
	{
		if (i < FUNCTIONS_SHOWN)
			function_print(out, function);
	}
}
