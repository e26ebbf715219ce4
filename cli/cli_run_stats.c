/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what each slice did, at the end of `pangea run --stats`. */
#include <string.h>

#include "cli/run.h"

/* A column: its head and the statistics whose sum it shows. */
static const struct {
	const char *head, *key, *plus;
} columns[] = {
	{"READ-FAULTS", "faults_read", NULL},
	{"WRITE-FAULTS", "faults_write", NULL},
	{"MESSAGES", "messages_sent", "messages_received"},
	{"BYTES-SENT", "bytes_sent", NULL},
	{"BYTES-RECEIVED", "bytes_received", NULL},
	{"PAGES-HELD", "pages_held", NULL},
	{"INSTRUCTIONS", "instructions", NULL},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static void cell_print(const json_t *stats, size_t column)
{
	const json_t *value = json_object_get(stats, columns[column].key);
	const json_t *plus =
		columns[column].plus ? json_object_get(stats, columns[column].plus) : NULL;
	char text[32] = "-";

	if (json_is_integer(value))
		snprintf(text, sizeof(text), "%lld",
			 (long long)(json_integer_value(value) + json_integer_value(plus)));
	fprintf(stderr, " %*s",
		(int)(strlen(columns[column].head) > 11 ? strlen(columns[column].head) : 11), text);
}

void run_stats_print(const json_t *ended)
{
	char why[CONTROL_WHY_MAX], mem[32];
	json_t *slices, *slice;
	const char *node;
	uint64_t vcpus, mem_bytes;
	size_t i;

	if (control_get_array(ended, "slices", SLICES_MAX, &slices, why) < 0)
		return;
	fprintf(stderr, "%5s %-12s %4s %9s", "SLICE", "NODE", "CPUS", "MEMORY");
	for (size_t c = 0; c < COLUMNS; c++)
		fprintf(stderr, " %11s", columns[c].head);
	fputc('\n', stderr);
	json_array_foreach(slices, i, slice)
	{
		if (control_get_name(slice, "node", &node, why) ||
		    control_get_u64(slice, "vcpus", 0, VCPUS_MAX, &vcpus, why) ||
		    control_get_u64(slice, "mem_bytes", 0, GUEST_MEM_MAX, &mem_bytes, why))
			continue;
		control_size_format(mem_bytes, mem, sizeof(mem));
		fprintf(stderr, "%5zu %-12s %4llu %9s", i, node, (unsigned long long)vcpus, mem);
		for (size_t c = 0; c < COLUMNS; c++)
			cell_print(json_object_get(slice, "stats"), c);
		fputc('\n', stderr);
	}
}
