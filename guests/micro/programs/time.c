/* SPDX-License-Identifier: Apache-2.0 */
/* time: a stamp of the TSC goes from CPU to CPU; none may see a stamp from its own future.
 * Arguments: count= rounds over all CPUs (200). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "time";

#define COUNT_DEFAULT 200
#define TURN_SPIN_US  3000

/* Who holds the turn may write; the turn is passed last. */
struct token {
	volatile uint64_t turn;
	volatile uint64_t stamp;
};

struct state {
	struct token *token;
	uint64_t count;
	uint64_t *least[CPUS_MAX]; /* by receiver; by sender: least ticks between the two */
};

static void stamps_pass(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;
	struct token *t = s->token;

	for (uint64_t turn = self; turn < s->count * n; turn += n) {
		unsigned from = (self + n - 1) % n;
		uint64_t now, stamp;
		struct wait w;

		wait_init(&w, "the token", TURN_SPIN_US);
		while (t->turn != turn)
			wait_more(&w);
		stamp = t->stamp;
		now = ticks_now();
		if (now < stamp)
			fail("CPU %u (node %u) reads its TSC %lu ns before the stamp of CPU %u "
			     "(node %u), which it has seen",
			     self, machine.node_of[self], ticks_ns(stamp - now), from,
			     machine.node_of[from]);
		if (turn && now - stamp < s->least[self][from])
			s->least[self][from] = now - stamp;
		t->stamp = ticks_now();
		__asm__ volatile("" ::: "memory");
		t->turn = turn + 1;
	}
}

/* A TSC that stands still would pass everything else. */
static void tsc_check(void)
{
	uint64_t start = ticks_now();

	for (unsigned i = 0; i < 10000; i++)
		if (ticks_now() > start)
			return;
	fail("the TSC stands still");
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));

	tsc_check();
	s->count = arg_number("count", COUNT_DEFAULT);
	s->token = node_alloc(0, PAGE);
	for (unsigned i = 0; i < machine.cpus; i++) {
		s->least[i] = node_alloc(machine.node_of[i], PAGE);
		for (unsigned j = 0; j < machine.cpus; j++)
			s->least[i][j] = ~0ul;
	}
	team_run(machine.cpus, stamps_pass, s);
	for (unsigned i = 0; i < machine.cpus; i++) {
		unsigned from = (i + machine.cpus - 1) % machine.cpus;

		print("CPU %u (node %u) to CPU %u (node %u): a stamp was never younger than %lu "
		      "ns\n",
		      from, machine.node_of[from], i, machine.node_of[i],
		      ticks_ns(s->least[i][from]));
	}
	return 0;
}
