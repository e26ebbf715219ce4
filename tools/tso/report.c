/* SPDX-License-Identifier: Apache-2.0 */
/* What pangea-tso prints at its end, and the command that repeats a run. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "tools/tso/tool.h"

void report_command(FILE *out, const struct tso_options *o)
{
	fprintf(out,
		"pangea-tso --slices %u --threads %u --words %u --pages %u --rounds %u --ops %u "
		"--seed %" PRIu64,
		o->slices, o->threads, o->words, o->pages, o->rounds, o->ops, o->seed);
	if (o->seconds)
		fprintf(out, " --seconds %u", o->seconds);
	fprintf(out, "%s%s%s", o->stop ? " --stop" : "", o->kill ? " --kill" : "",
		o->cut ? " --cut" : "");
	if (o->transport_word)
		fprintf(out, " --transport %s", o->transport_word);
	if (strcmp(o->address, "127.0.0.1") != 0)
		fprintf(out, " --address %s", o->address);
	if (o->fault)
		fprintf(out, " --seed-fault %s", fault_name(o->fault));
	fputc('\n', out);
}

static void totals_json(const struct tso_options *o, const struct tso_totals *t,
			const char *verdict, uint64_t elapsed_ns)
{
	json_t *root = json_pack(
		"{s:s, s:I, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:i, "
		"s:i, s:f, s:f}",
		"verdict", verdict, "seed", (json_int_t)o->seed, "slices", (int)o->slices,
		"threads", (int)o->threads, "rounds", (int)t->rounds, "clusters", (int)t->clusters,
		"operations", (json_int_t)t->ops, "events", (json_int_t)t->events, "edges",
		(json_int_t)t->edges, "faults", (json_int_t)t->faults, "faults_remote",
		(json_int_t)t->faults_remote, "messages", (json_int_t)t->msgs, "stops",
		(int)t->stops, "kills", (int)t->kills, "cuts", (int)t->cuts, "losses_told",
		(int)t->losses, "threads_torn_out", (int)t->stuck, "notice_ms_max",
		(double)t->notice_ns_max / 1e6, "seconds", (double)elapsed_ns / 1e9);

	if (root)
		json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

void report_totals(const struct tso_options *o, const struct tso_totals *t, const char *verdict,
		   uint64_t elapsed_ns)
{
	if (o->json) {
		totals_json(o, t, verdict, elapsed_ns);
		return;
	}
	printf("%s: seed %" PRIu64 ", %u slices x %u threads, %u words on %u pages\n", verdict,
	       o->seed, o->slices, o->threads, o->words, o->pages);
	printf("rounds %u, operations %" PRIu64 ", events %" PRIu64 ", edges %" PRIu64 "\n",
	       t->rounds, t->ops, t->events, t->edges);
	printf("faults taken %" PRIu64 ", of them from other slices %" PRIu64 "; messages %" PRIu64
	       "\n",
	       t->faults, t->faults_remote, t->msgs);
	if (o->stop)
		printf("stops %u\n", t->stops);
	if (o->kill || o->cut)
		printf("clusters %u, kills %u, cuts %u; slices told of a loss %u, the last after "
		       "%.1f ms; threads torn out of a wait %u\n",
		       t->clusters, t->kills, t->cuts, t->losses, (double)t->notice_ns_max / 1e6,
		       t->stuck);
	if (o->fault >= FAULT_THIN_AIR)
		printf("histories spoilt %" PRIu64 "\n", t->faults_put);
	printf("%.2f s\n", (double)elapsed_ns / 1e9);
}
