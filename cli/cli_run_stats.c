/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what each slice did, at the end of `pangea run --stats`. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/run.h"

/* A column: its head and the statistics whose sum it shows. */
static const struct column {
	const char *head, *key, *plus;
	bool cache; /* shown if remote pages were limited */
} columns[] = {
	{"READ-FAULTS", "faults_read", NULL, false},
	{"WRITE-FAULTS", "faults_write", NULL, false},
	{"MESSAGES", "messages_sent", "messages_received", false},
	{"BYTES-SENT", "bytes_sent", NULL, false},
	{"BYTES-RECEIVED", "bytes_received", NULL, false},
	{"PAGES-HELD", "pages_held", NULL, false},
	{"REPLICATED", "reads_replicated", NULL, false},
	{"MOVED", "ownership_moves", NULL, false},
	{"PING-PONGS", "ping_pongs", NULL, false},
	{"CACHE-LIMIT", "cache_limit", NULL, true},
	{"CACHE-MOST", "cache_pages_max", NULL, true},
	{"EVICTED-READ", "evictions_shared", NULL, true},
	{"EVICTED-WRITTEN", "evictions_owned", NULL, true},
	{"REFETCHED", "refetches", NULL, true},
	{"INSTRUCTIONS", "instructions", NULL, false},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* Did any slice have a limit on remote pages? */
static bool cache_limited(const json_t *slices)
{
	json_t *slice;
	size_t i;

	json_array_foreach(slices, i, slice)
	{
		const json_t *stats = json_object_get(slice, "stats");
		if (json_integer_value(json_object_get(stats, "cache_limit")) > 0)
			return true;
	}
	return false;
}

static void cell_print(const json_t *stats, const struct column *column)
{
	const json_t *value = json_object_get(stats, column->key);
	const json_t *plus = column->plus ? json_object_get(stats, column->plus) : NULL;
	char text[32] = "-";

	if (json_is_integer(value))
		snprintf(text, sizeof(text), "%lld",
			 (long long)(json_integer_value(value) + json_integer_value(plus)));
	fprintf(stderr, " %*s", (int)(strlen(column->head) > 11 ? strlen(column->head) : 11), text);
}

static void heads_print(bool cache)
{
	fprintf(stderr, "%5s %-12s %4s %9s", "SLICE", "NODE", "CPUS", "MEMORY");
	for (size_t c = 0; c < COLUMNS; c++)
		if (cache || !columns[c].cache)
			fprintf(stderr, " %11s", columns[c].head);
	fputc('\n', stderr);
}

/* Where slices have faulted on each other's pages. */
static void hot_print(const json_t *slices)
{
	json_t *list = hot_pages_list(slices);

	if (json_array_size(list) > 0)
		hot_pages_print(stderr, slices, list, NULL);
	json_decref(list);
}

void run_stats_print(const json_t *ended)
{
	char why[CONTROL_WHY_MAX], mem[32];
	json_t *slices, *slice;
	const char *node;
	uint64_t vcpus, mem_bytes;
	bool cache;
	size_t i;

	if (control_get_array(ended, "slices", SLICES_MAX, &slices, why) < 0)
		return;
	cache = cache_limited(slices);
	heads_print(cache);
	json_array_foreach(slices, i, slice)
	{
		if (control_get_name(slice, "node", &node, why) ||
		    control_get_u64(slice, "vcpus", 0, VCPUS_MAX, &vcpus, why) ||
		    control_get_u64(slice, "mem_bytes", 0, GUEST_MEM_MAX, &mem_bytes, why))
			continue;
		control_size_format(mem_bytes, mem, sizeof(mem));
		fprintf(stderr, "%5zu %-12s %4llu %9s", i, node, (unsigned long long)vcpus, mem);
		for (size_t c = 0; c < COLUMNS; c++)
			if (cache || !columns[c].cache)
				cell_print(json_object_get(slice, "stats"), &columns[c]);
		fputc('\n', stderr);
	}
	hot_print(slices);
}

int run_stats_write(FILE *out, const json_t *ended)
{
	json_t *hottest = hot_pages_list(json_object_get(ended, "slices"));
	json_t *all = json_pack(
		"{s:O?, s:O?, s:O?, s:O?, s:o?}", "vm", json_object_get(ended, "vm"), "code",
		json_object_get(ended, "code"), "reason", json_object_get(ended, "reason"),
		"slices", json_object_get(ended, "slices"), "hottest", hottest);
	/* Of a VM that was started again the file has the last life; a pipe, which cannot be emptied, has all. */
	bool empty = ftruncate(fileno(out), 0) == 0 && fseek(out, 0, SEEK_SET) == 0;
	int err = all ? json_dumpf(all, out, JSON_INDENT(2)) : -1;

	(void)empty;
	json_decref(all);
	return err || fputc('\n', out) < 0 || fflush(out) ? -EIO : 0;
}
