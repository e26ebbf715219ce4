/* SPDX-License-Identifier: Apache-2.0 */
/* Links between a VM's slices, in words: of all of them, and of each pair. */
#include "cli/links.h"

#include <stdio.h>

#include "cli/cli.h"

void links_words(const json_t *slices, char out[LINKS_WORDS_MAX])
{
	static const struct {
		const char *key, *word;
	} carriers[] = {{"links_shm", "shm"},
			{"links_rdma", "rdma"},
			{"links_ktls", "tls(kernel)"},
			{"links_tls", "tls"},
			{"links_tcp", "tcp"}};
	size_t used = 0, i;

	snprintf(out, LINKS_WORDS_MAX, "-");
	for (size_t c = 0; c < sizeof(carriers) / sizeof(carriers[0]); c++) {
		const json_t *slice;
		json_int_t links = 0;

		json_array_foreach((json_t *)slices, i, slice) links += json_integer_value(
			json_object_get(json_object_get(slice, "stats"), carriers[c].key));
		if (links)
			used += (size_t)snprintf(out + used, LINKS_WORDS_MAX - used, "%s%s",
						 used ? "+" : "", carriers[c].word);
	}
}

/* As one of the two has measured it; 0: it has not. */
static json_int_t rtt_one(const json_t *slices, size_t from, size_t to)
{
	const json_t *slice = json_array_get(slices, from);

	return json_integer_value(json_array_get(json_object_get(slice, "rtt_ns"), to));
}

/* In nanoseconds. Both measured the same wire: the smaller has less noise in it. 0: unknown. */
static json_int_t rtt_between(const json_t *slices, size_t a, size_t b)
{
	json_int_t x = rtt_one(slices, a, b), y = rtt_one(slices, b, a);

	if (x <= 0 || y <= 0)
		return x > 0 ? x : y > 0 ? y : 0;
	return x < y ? x : y;
}

static long long us_of(json_int_t ns)
{
	return (long long)((ns + 500) / 1000);
}

void links_rtt(const json_t *slices, char out[LINKS_RTT_MAX])
{
	json_int_t least = 0, most = 0;

	for (size_t a = 0; a < json_array_size(slices); a++) {
		for (size_t b = 0; b < a; b++) {
			json_int_t ns = rtt_between(slices, a, b);

			least = ns && (!least || ns < least) ? ns : least;
			most = ns > most ? ns : most;
		}
	}
	if (!most)
		snprintf(out, LINKS_RTT_MAX, "-");
	else if (us_of(least) == us_of(most))
		snprintf(out, LINKS_RTT_MAX, "%lld us", us_of(most));
	else
		snprintf(out, LINKS_RTT_MAX, "%lld-%lld us", us_of(least), us_of(most));
}

static void pair_print(const json_t *slices, size_t a, size_t b)
{
	const json_t *one = json_array_get(slices, a), *other = json_array_get(slices, b);
	const char *word = json_string_value(json_array_get(json_object_get(one, "links"), b));
	json_int_t ns = rtt_between(slices, a, b);
	char why[CONTROL_WHY_MAX], rtt[32] = "-";
	const char *from, *to;

	if (control_get_name(one, "node", &from, why) || control_get_name(other, "node", &to, why))
		return;
	if (ns)
		snprintf(rtt, sizeof(rtt), "%.1f us", (double)ns / 1000);
	printf("  slices %2zu and %2zu  %-11s %12s  %s, %s\n", a, b, word && *word ? word : "-",
	       rtt, from, to);
}

void links_pairs_print(const json_t *slices)
{
	for (size_t a = 0; a < json_array_size(slices); a++)
		for (size_t b = a + 1; b < json_array_size(slices); b++)
			pair_print(slices, a, b);
}
