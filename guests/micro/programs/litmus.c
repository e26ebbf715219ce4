/* SPDX-License-Identifier: Apache-2.0 */
/* litmus: runs small racing programs very often and counts their outcomes; fails on one that
 * x86-TSO forbids. The two variables lie on pages of different nodes.
 * Arguments: rounds= of each test (50), 64 iterations each; test= only this one. */
#include "guests/micro/programs/litmus.h"

const char guest_name[] = "litmus";

#define ROUNDS_DEFAULT 50
#define CELLS	       64u
#define CELL_PAGES     4u /* neighbouring iterations use different pages */
#define START_NS       100000u
#define OUTCOMES_MAX   4096u /* six values of two bits */

struct state {
	const struct litmus_test *test;
	uint64_t rounds;
	unsigned order[CPUS_MAX]; /* the CPUs, neighbours on different nodes where possible */
	volatile uint8_t *pages[2][NODES_MAX];
	uint64_t *read[LITMUS_THREADS_MAX][NODES_MAX]; /* what a thread read, by cell */
	uint64_t weak;
	uint32_t counts[OUTCOMES_MAX];
	/* CPU 0 writes before a round */
	struct {
		uint64_t start, gap;
		struct litmus_cell cell[CELLS];
		unsigned round;
	} plan PAGE_ALIGNED;
	struct barrier barrier;
};

/* ---- CPU 0: before and after a round ---- */

/* The variables' homes take turns over all pairs of nodes. */
static void cells_plan(struct state *s)
{
	unsigned round = s->plan.round, node_x = round % machine.nodes;
	unsigned node_y = (node_x + 1 + round / machine.nodes) % machine.nodes;

	for (unsigned i = 0; i < CELLS; i++) {
		unsigned offset = i % CELL_PAGES * PAGE + i / CELL_PAGES * 8;

		s->plan.cell[i].x = (volatile uint64_t *)(s->pages[0][node_x] + offset);
		s->plan.cell[i].y = (volatile uint64_t *)(s->pages[1][node_y] + offset);
		*s->plan.cell[i].x = 0;
		*s->plan.cell[i].y = 0;
	}
}

/* From "as fast as they can" to "every iteration finds its pages settled". */
static void round_plan(struct state *s, unsigned round)
{
	static const uint32_t gap_ns[] = {0, 500, 5000, 50000};

	s->plan.round = round;
	s->plan.gap = ns_ticks(gap_ns[round % 4]);
	cells_plan(s);
	s->plan.start = ticks_now() + ns_ticks(START_NS);
}

static unsigned role_cpu(const struct state *s, unsigned thread)
{
	return s->order[(thread + s->plan.round) % machine.cpus];
}

static uint64_t *role_read(const struct state *s, unsigned thread)
{
	return s->read[thread][machine.node_of[role_cpu(s, thread)]];
}

static void outcome_get(const struct state *s, unsigned cell, struct litmus_outcome *o)
{
	unsigned n = 0;

	*o = (struct litmus_outcome){0};
	for (unsigned t = 0; t < s->test->threads; t++)
		for (unsigned i = 0; i < s->test->regs[t]; i++)
			o->r[n++] = (uint8_t)role_read(s, t)[cell * 2 + i];
	if (s->test->finals) {
		o->x = (uint8_t)*s->plan.cell[cell].x;
		o->y = (uint8_t)*s->plan.cell[cell].y;
	}
}

static void round_count(struct state *s)
{
	struct litmus_outcome o;

	for (unsigned cell = 0; cell < CELLS; cell++) {
		outcome_get(s, cell, &o);
		s->weak += s->test->is_weak(&o);
		s->counts[(o.r[0] & 3u) | (o.r[1] & 3u) << 2 | (o.r[2] & 3u) << 4 |
			  (o.r[3] & 3u) << 6 | (o.x & 3u) << 8 | (o.y & 3u) << 10]++;
	}
}

/* ---- all CPUs ---- */

/* TSCs agree over all slices, so everybody starts an iteration at once without a word. */
static void round_play(const struct state *s, unsigned thread, struct random *r)
{
	litmus_thread *run = s->test->thread[thread];
	uint64_t *read = role_read(s, thread);
	uint64_t delay_max = s->plan.gap ? 2 * s->plan.gap : ns_ticks(200);

	for (unsigned i = 0; i < CELLS; i++) {
		uint64_t at = s->plan.start + i * s->plan.gap + random_next(r) % delay_max;

		while (ticks_now() < at)
			;
		run(s->plan.cell[i], read + i * 2);
	}
}

static void test_play(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;
	struct random r;

	(void)n;
	random_seed(&r, self);
	for (unsigned round = 0; round < s->rounds; round++) {
		if (self == 0)
			round_plan(s, round);
		barrier_wait(&s->barrier);
		for (unsigned t = 0; t < s->test->threads; t++)
			if (role_cpu(s, t) == self)
				round_play(s, t, &r);
		barrier_wait(&s->barrier);
		if (self == 0)
			round_count(s);
	}
}

/* ---- tests ---- */

static void outcome_print(const struct litmus_test *t, unsigned key, uint32_t count)
{
	struct litmus_outcome o = {
		{key & 3, key >> 2 & 3, key >> 4 & 3, key >> 6 & 3}, key >> 8 & 3, key >> 10 & 3};
	unsigned regs = 0;
	char finals[] = "x=0 y=0";

	for (unsigned i = 0; i < t->threads; i++)
		regs += t->regs[i];
	print("  ");
	for (unsigned i = 0; i < regs; i++)
		print("r%u=%u ", i, o.r[i]);
	finals[2] = (char)('0' + o.x);
	finals[6] = (char)('0' + o.y);
	print("%s: %u%s\n", t->finals ? finals : "", count,
	      !t->is_weak(&o)	? ""
	      : t->weak_allowed ? " (weak, allowed)"
				: " (FORBIDDEN)");
}

static void test_run(struct state *s, const struct litmus_test *t)
{
	if (machine.cpus < t->threads) {
		print("%s: needs %u CPUs, left out\n", t->name, t->threads);
		return;
	}
	s->test = t;
	s->weak = 0;
	memset(s->counts, 0, sizeof(s->counts));
	team_run(machine.cpus, test_play, s);
	print("%s: %s; %lu iterations, %s %s: %lu\n", t->name, t->code, s->rounds * CELLS, t->weak,
	      t->weak_allowed ? "allowed" : "forbidden", s->weak);
	for (unsigned key = 0; key < OUTCOMES_MAX; key++)
		if (s->counts[key])
			outcome_print(t, key, s->counts[key]);
	if (s->weak && !t->weak_allowed)
		fail("%s: %s seen %lu times, which x86-TSO forbids", t->name, t->weak, s->weak);
}

/* First the first CPU of each node, then the second, and so on. */
static void order_make(struct state *s)
{
	unsigned used = 0;

	for (unsigned nth = 0; used < machine.cpus; nth++)
		for (unsigned node = 0; node < machine.nodes; node++) {
			int cpu = cpu_on_node(node, nth);

			if (cpu >= 0)
				s->order[used++] = (unsigned)cpu;
		}
}

static void memory_make(struct state *s)
{
	for (unsigned node = 0; node < machine.nodes; node++) {
		s->pages[0][node] = node_alloc(node, CELL_PAGES * PAGE);
		s->pages[1][node] = node_alloc(node, CELL_PAGES * PAGE);
		for (unsigned t = 0; t < LITMUS_THREADS_MAX; t++)
			s->read[t][node] = node_alloc(node, CELLS * 2 * sizeof(uint64_t));
	}
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	char only[32];
	const char *name = arg_text("test", NULL, only, sizeof(only));
	unsigned run = 0;

	s->rounds = arg_number("rounds", ROUNDS_DEFAULT);
	order_make(s);
	memory_make(s);
	barrier_init(&s->barrier, machine.cpus);
	for (unsigned i = 0; i < litmus_tests_count; i++) {
		if (name && !text_equal(name, litmus_tests[i].name))
			continue;
		test_run(s, &litmus_tests[i]);
		run++;
	}
	if (!run)
		fail("there is no test of that name");
	return 0;
}
