/* SPDX-License-Identifier: Apache-2.0 */
/* storm: every CPU sends interrupts to every other as fast as it can, while all fault on common
 * pages. Nothing may end or stand still, and what is sent afterwards comes.
 * Arguments: count= rounds of each CPU (3000). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "storm";

#define COUNT_DEFAULT 3000
/* Rounds of interrupts between two accesses to a page that others write. */
#define ROUNDS_PER_FAULT 16
#define CALM_SPIN_US	 2000

struct page {
	volatile uint64_t sum PAGE_ALIGNED;
};

struct state {
	uint64_t count;
	struct page *page[CPUS_MAX]; /* by CPU, on its node */
	struct barrier barrier;
};

/* A page of each CPU in turn: most are another node's, and all CPUs write them. */
static void page_count(struct state *s, unsigned self, unsigned n, uint64_t round)
{
	struct page *page = s->page[(self + round / ROUNDS_PER_FAULT) % n];

	(void)atomic_add_fetch_old(&page->sum, 1);
}

static void storm(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	barrier_wait(&s->barrier);
	for (uint64_t round = 0; round < s->count; round++) {
		for (unsigned step = 1; step < n; step++)
			ipi_send((self + step) % n, VECTOR_SENDER + self);
		if (round % ROUNDS_PER_FAULT == 0)
			page_count(s, self, n, round);
	}
	barrier_wait(&s->barrier);
}

/* After the storm: one interrupt of each pair, and its answer. */
static void calm(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	for (unsigned turn = 0; turn < n; turn++) {
		for (unsigned to = 0; turn == self && to < n; to++) {
			uint32_t before = interrupts_taken(self, VECTOR_ECHO);
			struct wait w;

			ipi_send(to, VECTOR_SENDER + self);
			wait_init(&w, "the answer to an interrupt after the storm", CALM_SPIN_US);
			while (interrupts_taken(self, VECTOR_ECHO) == before)
				wait_more(&w);
		}
		barrier_wait(&s->barrier);
	}
}

static uint64_t interrupts_check(const struct state *s)
{
	unsigned n = machine.cpus;
	uint64_t all = 0;

	for (unsigned to = 0; to < n; to++) {
		for (unsigned from = 0; from < n; from++) {
			uint64_t sent = (from == to ? 0 : s->count) + 1; /* the calm's */
			uint32_t taken = interrupts_taken(to, VECTOR_SENDER + from);

			/* Those that find one of their kind waiting are one with it. */
			if (!taken || taken > sent)
				fail("CPU %u took %u of %lu interrupts of CPU %u", to, taken, sent,
				     from);
			all += taken;
		}
	}
	return all;
}

static void sums_check(const struct state *s)
{
	uint64_t sum = 0, rounds = (s->count + ROUNDS_PER_FAULT - 1) / ROUNDS_PER_FAULT;

	for (unsigned i = 0; i < machine.cpus; i++)
		sum += s->page[i]->sum;
	if (sum != machine.cpus * rounds)
		fail("the pages count %lu writes, not %lu", sum, machine.cpus * rounds);
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t taken;

	s->count = arg_number("count", COUNT_DEFAULT);
	if (!s->count)
		fail("count= must be at least 1");
	for (unsigned i = 0; i < machine.cpus; i++)
		s->page[i] = node_alloc(machine.node_of[i], sizeof(struct page));
	barrier_init(&s->barrier, machine.cpus);
	team_run(machine.cpus, storm, s);
	sums_check(s);
	team_run(machine.cpus, calm, s);
	taken = interrupts_check(s);
	print("%u CPUs, %lu interrupts of each pair, %lu taken in all; all sums right\n",
	      machine.cpus, s->count, taken);
	return 0;
}
