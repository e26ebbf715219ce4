/* SPDX-License-Identifier: Apache-2.0 */
/* Random racy programs: which operations on which words, how close to each other. */
#include "tools/tso/tool.h"

/* Shares of a hundred operations. */
static const struct style {
	uint8_t share[TSO_KINDS]; /* load, store, mfence, xchg, xadd, cmpxchg */
} styles[] = {
	{{40, 35, 5, 8, 8, 4}},	   /* of everything */
	{{50, 50, 0, 0, 0, 0}},	   /* nothing drains the buffers */
	{{40, 30, 30, 0, 0, 0}},   /* much does */
	{{20, 10, 0, 20, 30, 20}}, /* counters and locks */
	{{85, 12, 1, 1, 1, 0}},	   /* many readers */
	{{15, 80, 5, 0, 0, 0}},	   /* many writers */
};

/* As a thread's own pace: none, within a hold time, about a fault, several. */
static const unsigned pauses_ns[] = {0, 2000, 50000, 400000};

static unsigned kind_pick(const struct style *style, uint64_t *random)
{
	unsigned at = random_below(random, 100);

	for (unsigned kind = 0; kind < TSO_KINDS; kind++) {
		if (at < style->share[kind])
			return kind;
		at -= style->share[kind];
	}
	return TSO_LOAD;
}

void program_make(struct program *p, const struct tso_options *o, unsigned thread, unsigned round,
		  struct tso_op *ops)
{
	uint64_t of_round = o->seed * UINT64_C(1000003) + round;
	const struct style *style =
		&styles[random_below(&of_round, sizeof(styles) / sizeof(styles[0]))];
	unsigned words = 1 + random_below(&of_round, o->words);
	unsigned first = random_below(&of_round, o->words);

	p->pause_ns = pauses_ns[random_below(&of_round, 4)];
	p->random = random_splitmix(&of_round) + thread * UINT64_C(0x632be59bd9b4e019);
	p->burst_max = 1 + random_below(&p->random, 6);
	p->count = o->ops + 1;
	for (unsigned i = 0; i < o->ops; i++) {
		unsigned kind = kind_pick(style, &p->random);

		/* Written once: the round, the thread and the place are in the value. */
		ops[i] = (struct tso_op){
			.kind = (uint8_t)kind,
			.word = (uint8_t)((first + random_below(&p->random, words)) % o->words),
			.value = (uint64_t)(round + 1) << 32 | (uint64_t)(thread + 1) << 20 | i};
		/* Sums of numbers of 64 random bits do not meet either. */
		if (kind == TSO_XADD)
			ops[i].value = random_splitmix(&p->random);
	}
	ops[o->ops] = (struct tso_op){.kind = TSO_FENCE};
}
