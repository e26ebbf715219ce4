/* SPDX-License-Identifier: Apache-2.0 */
/* The run: cluster after cluster, round after round, each history judged. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tools/tso/tool.h"

/* Where slices are killed or cut off, a cluster's rounds before that. */
#define ROUNDS_BEFORE 2u

struct run {
	const struct tso_options *o;
	struct tso_totals totals;
	struct cluster cluster;
	uint64_t start_ns, random;
	unsigned round; /* the next */
	enum tso_verdict verdict;
};

static void history_take(struct run *r, struct tso_history *h, uint64_t *initial)
{
	const struct tso_options *o = r->o;
	struct shared *s = r->cluster.s;

	memcpy(initial, s->initial, sizeof(s->initial));
	*h = (struct tso_history){.threads = o->slices * o->threads,
				  .words = o->words,
				  .threads_per_slice = o->threads,
				  .initial = initial};
	for (unsigned t = 0; t < h->threads; t++) {
		struct shared_thread *thread = &s->thread[t];

		h->traces[t] = (struct tso_trace){.ops = s->ops + (size_t)t * tso_ops_room(o),
						  .begun = thread->begun,
						  .done = thread->done,
						  .epilogue = thread->epilogue};
		r->totals.ops += thread->done;
	}
}

static int history_judge(struct run *r)
{
	static const char no_memory[] = "pangea-tso: no memory for the checker\n";
	uint64_t initial[TSO_WORDS_MAX];
	struct tso_result *result = calloc(1, sizeof(*result));
	struct tso_history h;
	int code = TOOL_BROKEN;

	history_take(r, &h, initial);
	if (fault_spoil(r->o->fault, &h, &r->random))
		r->totals.faults_put++;
	if (!result || tso_check(&h, result)) {
		fputs(no_memory, stderr);
		goto out;
	}
	r->totals.events += result->events;
	r->totals.edges += result->edges;
	code = TOOL_HOLDS;
	r->verdict = result->verdict;
	if (r->verdict != TSO_HOLDS) {
		tso_result_print(stderr, &h, result);
		fprintf(stderr,
			"round %u of seed %llu, hold time %llu ns\nrepeat: ", r->cluster.round,
			(unsigned long long)r->o->seed, (unsigned long long)r->cluster.s->hold_ns);
		report_command(stderr, r->o);
		code = TOOL_FAILED;
	}
out:
	free(result);
	return code;
}

/* The next round begins with what this one left: all slices agree on it. */
static void initial_next(struct run *r)
{
	struct shared *s = r->cluster.s;

	for (unsigned w = 0; w < r->o->words; w++)
		s->initial[w] = s->ops[s->thread[0].epilogue + w].result;
}

static bool run_over(const struct run *r)
{
	return r->round >= r->o->rounds ||
	       (r->o->seconds && clock_now_ns() - r->start_ns >= r->o->seconds * NS_PER_S);
}

static int round_run(struct run *r, unsigned nth, bool *torn)
{
	bool disturb = (r->o->kill || r->o->cut) && nth >= ROUNDS_BEFORE;
	int code;

	r->cluster.round = r->round++;
	code = cluster_round(&r->cluster, disturb, torn);
	if (code)
		return code;
	r->totals.rounds++;
	if (*torn)
		return 0;
	code = history_judge(r);
	if (!code)
		initial_next(r);
	return code;
}

/* From its start until a slice or connection is lost, or all is done. */
static int cluster_run(struct run *r)
{
	bool torn = false;
	int code;

	r->cluster = (struct cluster){.o = r->o, .totals = &r->totals, .round = r->round};
	r->cluster.random = random_splitmix(&r->random);
	code = cluster_start(&r->cluster);
	for (unsigned nth = 0; !code && !torn && !run_over(r); nth++)
		code = round_run(r, nth, &torn);
	if (!code)
		code = cluster_end(&r->cluster);
	/* Only now nobody writes there any more. */
	if (!code && torn)
		code = history_judge(r);
	cluster_free(&r->cluster);
	return code;
}

/* What held without the disturbances that were asked for shows nothing of them. */
static int disturbances_check(const struct tso_options *o, const struct tso_totals *t)
{
	const char *missing = NULL;

	if (o->stop && t->stops == 0)
		missing = "no slice was stopped";
	else if ((o->kill || o->cut) && t->kills + t->cuts == 0)
		missing = o->kill ? "no slice was killed" : "no connection was cut";
	if (!missing)
		return TOOL_HOLDS;
	fprintf(stderr, "pangea-tso: %s: more rounds are needed\n", missing);
	return TOOL_BROKEN;
}

int run_all(const struct tso_options *o)
{
	struct run r = {.o = o, .start_ns = clock_now_ns(), .random = o->seed};
	int code = 0;

	while (!code && !run_over(&r))
		code = cluster_run(&r);
	if (code == TOOL_HOLDS || code == TOOL_FAILED)
		report_totals(o, &r.totals, tso_verdict_name(r.verdict),
			      clock_now_ns() - r.start_ns);
	return code == TOOL_HOLDS ? disturbances_check(o, &r.totals) : code;
}
