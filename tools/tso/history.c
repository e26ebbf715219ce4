/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of a history as text. */
#include "tools/tso/history.h"

#include <inttypes.h>

const char *tso_kind_name(unsigned kind)
{
	static const char *const names[TSO_KINDS] = {"load", "store", "mfence",
						     "xchg", "xadd",  "cmpxchg"};

	return kind < TSO_KINDS ? names[kind] : "?";
}

static void what_print(FILE *out, const struct tso_op *op, bool done)
{
	fprintf(out, "%s", tso_kind_name(op->kind));
	if (op->kind == TSO_FENCE)
		return;
	fprintf(out, " w%u", op->word);
	if (op->kind == TSO_CMPXCHG)
		fprintf(out, " if 0x%" PRIx64, op->expect);
	if (op->kind != TSO_LOAD)
		fprintf(out, " %s 0x%" PRIx64, op->kind == TSO_XADD ? "+=" : ":=", op->value);
	if (!done)
		fputs(" (not ended)", out);
	else if (op->kind != TSO_STORE)
		fprintf(out, " found 0x%" PRIx64, op->result);
}

static void time_print(FILE *out, uint64_t ns, uint64_t base_ns)
{
	if (ns < base_ns)
		fputs("?", out);
	else
		fprintf(out, "%" PRIu64 ".%03u", (ns - base_ns) / 1000,
			(unsigned)((ns - base_ns) % 1000));
}

void tso_op_print(FILE *out, const struct tso_history *h, unsigned thread, unsigned index,
		  uint64_t base_ns)
{
	if (thread == h->threads) {
		fprintf(out, "at first: w%u = 0x%" PRIx64, index, h->initial[index]);
		return;
	}
	const struct tso_op *op = &h->traces[thread].ops[index];

	fprintf(out, "slice %u thread %u #%u: ", thread / h->threads_per_slice,
		thread % h->threads_per_slice, index);
	what_print(out, op, index < h->traces[thread].done);
	fputs(" [", out);
	time_print(out, op->begin_ns, base_ns);
	fputs(" .. ", out);
	time_print(out, op->end_ns, base_ns);
	fputs(" us]", out);
}
