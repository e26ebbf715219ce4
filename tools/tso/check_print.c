/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts and contradictions as text, a line for each event. */
#include "tools/tso/check.h"

static const struct {
	const char *name, *text;
} verdicts[TSO_VERDICTS] = {
	[TSO_HOLDS] = {"holds", "holds"},
	[TSO_TWICE] = {"twice", "a value was written twice, so that reads cannot be told apart"},
	[TSO_THIN_AIR] = {"thin-air", "a value was read that nobody wrote"},
	[TSO_COHERENCE] = {"coherence", "one word's reads and writes have no order"},
	[TSO_ORDER] = {"tso", "the words' reads and writes have no order that x86-TSO allows"},
	[TSO_STALE] = {"linearizability", "one word's reads and writes have no order that agrees "
					  "with the clock (not linearizable)"},
	[TSO_LATE] = {"tso-clock", "the words' reads and writes have no order that x86-TSO allows "
				   "and that agrees with the clock"},
};

const char *tso_verdict_text(enum tso_verdict verdict)
{
	return verdicts[verdict].text;
}

const char *tso_verdict_name(enum tso_verdict verdict)
{
	return verdicts[verdict].name;
}

static const char *edge_text(enum edge_kind kind)
{
	switch (kind) {
	case EDGE_PO:
		return "comes before, in program order,";
	case EDGE_SYNC:
		return "had ended, like all threads, before";
	case EDGE_RF:
		return "was read by";
	case EDGE_CO:
		return "was overwritten by";
	case EDGE_FR:
		return "read what was overwritten by";
	case EDGE_TIME:
		return "had ended, by the clock, before";
	}
	return "?";
}

/* Times count from the first of the lines. */
static uint64_t base_of(const struct tso_history *h, const struct tso_result *r)
{
	uint64_t base_ns = UINT64_MAX;

	for (unsigned i = 0; i < r->lines_count; i++) {
		const struct tso_line *line = &r->lines[i];

		if (line->thread == h->threads)
			continue;
		uint64_t begin_ns = h->traces[line->thread].ops[line->index].begin_ns;

		base_ns = begin_ns < base_ns ? begin_ns : base_ns;
	}
	return base_ns;
}

void tso_result_print(FILE *out, const struct tso_history *h, const struct tso_result *r)
{
	bool cycle = r->verdict > TSO_THIN_AIR;
	uint64_t base_ns = base_of(h, r);

	fprintf(out, "FAILED: %s\n", tso_verdict_text(r->verdict));
	for (unsigned i = 0; i < r->lines_count; i++) {
		const struct tso_line *line = &r->lines[i];

		fputs("  ", out);
		tso_op_print(out, h, line->thread, line->index, base_ns);
		if (cycle)
			fprintf(out, "  -- %s", edge_text(line->kind));
		if (line->why_thread != TSO_NO_EPILOGUE) {
			fputs(" (since it came before ", out);
			tso_op_print(out, h, line->why_thread, line->why_index, base_ns);
			fputs(", which did not read it)", out);
		}
		fputc('\n', out);
	}
	if (cycle)
		fputs("  the first again\n", out);
}
