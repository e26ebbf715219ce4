/* SPDX-License-Identifier: Apache-2.0 */
/* The TSO checker on histories written by hand: what x86-TSO allows, forbids, and what clocks add.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tso/check.h"

#define OPS_MAX 16

/*
 * A history in a line: threads are separated by '|', operations by spaces. x=1 stores, x?1 is a
 * load that found 1, F a fence, x!1:2 an XCHG that found 1 and stored 2, x+5:1 an XADD of 5 that
 * found 1, x~1:2:3 a CMPXCHG that stores 2 where it expects 1, and found 3. @3-5: from 3 to 5 us by
 * the clock. A thread that begins with % had not ended its last operation. E: what follows began
 * when all else had ended.
 */
struct line {
	struct tso_history h;
	struct tso_op ops[4][OPS_MAX];
	uint64_t initial[4];
};

static char *op_read(char *at, struct tso_op *op)
{
	op->word = (uint8_t)(*at - 'w');
	switch (at[1]) {
	case '=':
		op->kind = TSO_STORE;
		op->value = strtoull(at + 2, &at, 10);
		return at;
	case '?':
		op->kind = TSO_LOAD;
		op->result = strtoull(at + 2, &at, 10);
		return at;
	case '!':
		op->kind = TSO_XCHG;
		op->result = strtoull(at + 2, &at, 10);
		op->value = strtoull(at + 1, &at, 10);
		return at;
	case '+':
		op->kind = TSO_XADD;
		op->value = strtoull(at + 2, &at, 10);
		op->result = strtoull(at + 1, &at, 10);
		return at;
	case '~':
		op->kind = TSO_CMPXCHG;
		op->expect = strtoull(at + 2, &at, 10);
		op->value = strtoull(at + 1, &at, 10);
		op->result = strtoull(at + 1, &at, 10);
		return at;
	default:
		cr_assert_fail("no operation: %s", at);
	}
	return at;
}

static void thread_read(struct line *l, char *at)
{
	struct tso_trace *t = &l->h.traces[l->h.threads];
	bool ended = true;

	*t = (struct tso_trace){.ops = l->ops[l->h.threads++], .epilogue = TSO_NO_EPILOGUE};
	while (*at) {
		struct tso_op *op = &t->ops[t->begun];

		if (*at == ' ') {
			at++;
		} else if (*at == '%') {
			ended = false;
			at++;
		} else if (*at == 'E') {
			t->epilogue = t->begun;
			at++;
		} else if (*at == '@') {
			t->ops[t->begun - 1].begin_ns = strtoull(at + 1, &at, 10) * 1000;
			t->ops[t->begun - 1].end_ns = strtoull(at + 1, &at, 10) * 1000;
		} else {
			*op = (struct tso_op){.kind = TSO_FENCE};
			at = *at == 'F' ? at + 1 : op_read(at, op);
			t->begun++;
		}
	}
	t->done = ended ? t->begun : t->begun - 1;
}

static void line_read(struct line *l, const char *text)
{
	char copy[256], *rest = copy;

	memset(l, 0, sizeof(*l));
	snprintf(copy, sizeof(copy), "%s", text);
	l->h.words = 4;
	l->h.threads_per_slice = 1;
	l->h.initial = l->initial;
	for (char *thread = strsep(&rest, "|"); thread; thread = strsep(&rest, "|"))
		thread_read(l, thread);
}

static void judge(const char *text, enum tso_verdict wanted)
{
	struct line l;
	struct tso_result r;

	line_read(&l, text);
	cr_assert_eq(tso_check(&l.h, &r), 0);
	if (r.verdict != TSO_HOLDS)
		tso_result_print(stderr, &l.h, &r);
	cr_assert_eq(r.verdict, wanted, "\"%s\" is judged %s, not %s", text,
		     tso_verdict_name(r.verdict), tso_verdict_name(wanted));
	cr_assert((r.verdict == TSO_HOLDS) == (r.lines_count == 0));
}

struct row {
	const char *text;
	enum tso_verdict wanted;
};

static void judge_all(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		judge(rows[i].text, rows[i].wanted);
}

#define JUDGE(...)                                                                                 \
	do {                                                                                       \
		const struct row rows[] = {__VA_ARGS__};                                           \
		judge_all(rows, sizeof(rows) / sizeof(rows[0]));                                   \
	} while (0)

Test(tso, store_buffering_is_allowed_unless_fenced)
{
	JUDGE({"x=1 y?0 | y=1 x?0", TSO_HOLDS}, {"x=1 F y?0 | y=1 x?0", TSO_HOLDS},
	      {"x=1 F y?0 | y=1 F x?0", TSO_ORDER}, {"x=1 z!0:5 y?0 | y=1 F x?0", TSO_ORDER},
	      {"x!0:1 y?0 | y+1:0 x?0", TSO_ORDER},
	      /* A CMPXCHG that fails fences, too. */
	      {"x=1 z~7:8:0 y?0 | y=1 F x?0", TSO_ORDER},
	      /* Each sees its own store early. */
	      {"x=1 x?1 y?0 | y=1 y?1 x?0", TSO_HOLDS});
}

Test(tso, messages_pass_in_order)
{
	JUDGE({"x=1 y=1 | y?1 x?0", TSO_ORDER}, {"x=1 y=1 | y?1 x?1", TSO_HOLDS},
	      {"x=1 y=1 | y?0 x?1", TSO_HOLDS}, {"x=1 y=1 | y?1 z=1 | z?1 x?0", TSO_ORDER});
}

Test(tso, loads_do_not_pass_stores_before)
{
	JUDGE({"x?1 y=1 | y?1 x=1", TSO_ORDER}, {"x?0 y=1 | y?1 x=1", TSO_HOLDS});
}

Test(tso, all_see_one_order_of_writes)
{
	JUDGE({"x=1 | y=1 | x?1 y?0 | y?1 x?0", TSO_ORDER},
	      {"x=1 | y=1 | x?1 y?0 | y?1 x?1", TSO_HOLDS},
	      {"x=1 y=2 | y=1 x=2 | E x?1 y?1", TSO_ORDER},
	      {"x=1 y=2 | y=1 x=2 | E x?2 y?2", TSO_HOLDS},
	      /* S: the store is overwritten by one that it must come after. */
	      {"x=2 y=1 | y?1 x=1 | E x?2", TSO_ORDER});
}

Test(tso, a_word_alone_is_coherent)
{
	JUDGE({"x=1 | x?1 x?0", TSO_COHERENCE}, {"x=1 x=2 | x?2 x?1", TSO_COHERENCE},
	      {"x=1 | x=2 | x?1 x?2 | x?2 x?1", TSO_COHERENCE}, {"x=1 x?0", TSO_COHERENCE},
	      {"x?1 x=1", TSO_COHERENCE}, {"x=1 x?2 | x=2 x?2 x?1", TSO_COHERENCE},
	      {"x=1 | x=2 | x?1 x?2 | x?1 x?2", TSO_HOLDS});
}

Test(tso, updates_are_atomic)
{
	JUDGE({"x!0:1 | x!0:2", TSO_COHERENCE}, {"x!0:1 | x!1:2", TSO_HOLDS},
	      {"x+5:0 | x+7:5 | x?12", TSO_HOLDS}, {"x+5:0 | x+7:0", TSO_COHERENCE},
	      {"x~0:1:0 | x~0:2:0", TSO_COHERENCE}, {"x~0:1:0 | x~0:2:1", TSO_HOLDS},
	      /* A store came between the read and the write. */
	      {"x!0:1 | x=2 x?1 | x?2 x?1", TSO_COHERENCE}, {"x!0:1 | x=2 | E x?2", TSO_HOLDS},
	      {"x!0:1 | x=2 F | E x?1 ", TSO_COHERENCE});
}

Test(tso, values_come_from_somewhere_once)
{
	JUDGE({"x=1 | x?3", TSO_THIN_AIR}, {"x=1 | y?1", TSO_THIN_AIR}, {"x=1 | x=1", TSO_TWICE},
	      {"x=1 | y=1", TSO_HOLDS});
}

Test(tso, final_reads_see_the_end)
{
	JUDGE({"x=1 F | E x?0", TSO_COHERENCE}, {"x=1 F | E x?1 | E x?1", TSO_HOLDS},
	      {"x=1 F | x=2 F | E x?1 | E x?2", TSO_COHERENCE});
}

Test(tso, the_clock_forbids_stale_reads)
{
	JUDGE({"x=1 @1-2 F @2-3 | x?0 @4-5", TSO_STALE},
	      /* Without a fence the store may wait in its buffer. */
	      {"x=1 @1-2 | x?0 @4-5", TSO_HOLDS}, {"x=1 @1-2 F @2-6 | x?0 @4-5", TSO_HOLDS},
	      {"x?1 @1-2 | x=1 @3-4", TSO_STALE},
	      /* Two readers, one after the other. */
	      {"x=1 @1-9 | x?1 @2-3 | x?0 @4-5", TSO_STALE},
	      {"x=1 @1-9 | x?0 @2-3 | x?1 @4-5", TSO_HOLDS},
	      /* What a thread read of its own buffer says nothing of others. */
	      {"x=1 @1-2 x?1 @2-3 | x?0 @4-5", TSO_HOLDS},
	      {"x=1 @1-2 F @2-3 x?1 @3-4 | x?0 @5-6", TSO_STALE},
	      /* Writes in an order that only the clock tells. */
	      {"x!0:1 @1-2 | x=2 @3-4 F @4-5 | x?1 @6-7", TSO_STALE});
}

Test(tso, the_clock_and_several_words)
{
	JUDGE({"x?0 @5-6 y=1 @6-7 | x=1 @1-9 z=1 @2-9 | z?1 @3-4", TSO_LATE},
	      {"x?1 @5-6 y=1 @6-7 | x=1 @1-9 z=1 @2-9 | z?1 @3-4", TSO_HOLDS});
}

Test(tso, what_had_not_ended_may_have_happened)
{
	JUDGE({"%x=1 | x?1", TSO_HOLDS}, {"%x=1 | x?0", TSO_HOLDS},
	      {"%x=1 | x?1 x?0", TSO_COHERENCE}, {"%x!0:1 | x?1", TSO_HOLDS},
	      {"%x+5:0 | x=2 x?7", TSO_HOLDS}, {"%x+5:0 | x=2 x?8", TSO_THIN_AIR},
	      {"%x+5:0 | %x+6:0 | x=2 x?13", TSO_HOLDS}, {"%x~3:4:0 | x?4", TSO_HOLDS},
	      {"x=1 %y=1 | y?1 x?0", TSO_ORDER}, {"%x+5:0 | x=2 x!2:3 x?7", TSO_COHERENCE});
}
