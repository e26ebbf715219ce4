/* SPDX-License-Identifier: Apache-2.0 */
/* Test (b): a token goes round all CPUs through shared memory. */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "selftest.h"

/* After so many looks the CPU is offered to others; after so many offers the thread sleeps a
 * little, since with fewer host cores than CPUs it may spin on the very core its neighbour needs.
 */
#define SPINS_BEFORE_YIELD  256
#define YIELDS_BEFORE_SLEEP 4
#define SLEEP_NS	    50000

struct token {
	struct team *team;
	unsigned rounds;
	_Atomic uint64_t *value; /* on a page of its own; who holds it is value % size */
	uint64_t *taken; /* what each member counted; beside the token, so both pages move */
};

static void token_await(const struct token *t, uint64_t mine)
{
	for (unsigned tries = 1; atomic_load_explicit(t->value, memory_order_acquire) != mine;
	     tries++) {
		__builtin_ia32_pause();
		if (tries % SPINS_BEFORE_YIELD != 0)
			continue;
		sched_yield();
		if (tries / SPINS_BEFORE_YIELD % YIELDS_BEFORE_SLEEP == 0)
			nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
	}
}

static void token_work(void *arg, unsigned i)
{
	struct token *t = arg;
	for (unsigned round = 0; round < t->rounds; round++) {
		uint64_t mine = (uint64_t)round * t->team->size + i;
		token_await(t, mine);
		/* Plain words that every member writes in turn: only the token orders them. */
		t->taken[0] += i + 1;
		t->taken[1] = t->taken[1] * 31 + i;
		atomic_store_explicit(t->value, mine + 1, memory_order_release);
	}
}

static const char *token_verdict(const struct token *t)
{
	uint64_t sum = 0, chain = 0;
	for (unsigned round = 0; round < t->rounds; round++)
		for (unsigned i = 0; i < t->team->size; i++) {
			sum += i + 1;
			chain = chain * 31 + i;
		}
	if (atomic_load(t->value) != (uint64_t)t->rounds * t->team->size)
		return "token: it was lost on its way";
	if (t->taken[0] != sum || t->taken[1] != chain)
		return "token: stores made under it were lost or came out of order";
	return NULL;
}

const char *token_test(struct team *team, const struct options *opt)
{
	struct token t = {.team = team, .rounds = opt->rounds};
	void *pages = topology_map(team->topo, 2 * PAGE_SIZE, NODE_ANY);
	if (!pages)
		return "token: no memory";
	t.value = pages;
	t.taken = (void *)((char *)pages + PAGE_SIZE);
	uint64_t start = now_ns();
	team_run(team, token_work, &t);
	double us = (double)(now_ns() - start) / 1e3;
	const char *why = token_verdict(&t);
	printf("  token  %4u rounds of %u CPUs    %8.1f us a hand-over             %s\n",
	       opt->rounds, team->size, us / ((double)opt->rounds * team->size),
	       why ? "FAIL" : "ok");
	return why;
}
