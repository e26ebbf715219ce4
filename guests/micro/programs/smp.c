/* SPDX-License-Identifier: Apache-2.0 */
/* smp: every CPU sends interrupts to every CPU, itself included; none may be lost or come twice.
 * Arguments: count= interrupts of each pair and round (20). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "smp";

#define COUNT_DEFAULT 20
#define ECHO_SPIN_US  2000

struct state {
	uint64_t count;
	uint64_t *ns[CPUS_MAX]; /* by sender, on its node; by receiver: mean round trip */
	struct barrier barrier;
};

/*
 * The receiver's handler answers, so both ways are seen without a shared page. The next one goes
 * when the last was answered: the APIC merges those that wait.
 */
static void pair_run(struct state *s, unsigned from, unsigned to)
{
	uint64_t start = ticks_now();
	struct wait w;

	for (uint64_t i = 0; i < s->count; i++) {
		uint32_t before = interrupts_taken(from, VECTOR_ECHO);

		ipi_send(to, VECTOR_SENDER + from);
		wait_init(&w, "the answer to an interrupt", ECHO_SPIN_US);
		while (interrupts_taken(from, VECTOR_ECHO) == before)
			wait_more(&w);
	}
	s->ns[from][to] = ticks_ns(ticks_now() - start) / s->count;
}

static void send_in_turn(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	for (unsigned turn = 0; turn < n; turn++) {
		for (unsigned to = 0; turn == self && to < n; to++)
			pair_run(s, self, to);
		barrier_wait(&s->barrier);
	}
}

/* All at once: the others' and one's own interrupts cross. */
static void send_at_once(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	barrier_wait(&s->barrier);
	for (unsigned step = 1; step <= n; step++)
		pair_run(s, self, (self + step) % n);
}

static void counts_check(const struct state *s, unsigned rounds)
{
	unsigned n = machine.cpus;

	for (unsigned to = 0; to < n; to++) {
		for (unsigned from = 0; from < n; from++) {
			uint32_t taken = interrupts_taken(to, VECTOR_SENDER + from);

			if (taken != s->count * rounds)
				fail("CPU %u took %u interrupts of CPU %u, not %lu", to, taken,
				     from, s->count * rounds);
		}
		if (interrupts_taken(to, VECTOR_ECHO) != s->count * rounds * n)
			fail("CPU %u took %u answers, not %lu", to,
			     interrupts_taken(to, VECTOR_ECHO), s->count * rounds * n);
	}
}

static void matrix_print(const struct state *s, const char *what)
{
	print("round trip of an interrupt, us, %s; row: sender\n", what);
	for (unsigned from = 0; from < machine.cpus; from++) {
		print("  CPU %2u node %u:", from, machine.node_of[from]);
		for (unsigned to = 0; to < machine.cpus; to++)
			print(" %4lu.%lu", s->ns[from][to] / 1000, s->ns[from][to] / 100 % 10);
		print("\n");
	}
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));

	s->count = arg_number("count", COUNT_DEFAULT);
	if (!s->count)
		fail("count= must be at least 1");
	for (unsigned i = 0; i < machine.cpus; i++)
		s->ns[i] = node_alloc(machine.node_of[i], PAGE);
	barrier_init(&s->barrier, machine.cpus);
	team_run(machine.cpus, send_in_turn, s);
	counts_check(s, 1);
	matrix_print(s, "one sender at a time");
	team_run(machine.cpus, send_at_once, s);
	counts_check(s, 2);
	matrix_print(s, "all send at once");
	print("%u CPUs, %lu interrupts of each pair, none lost\n", machine.cpus, 2 * s->count);
	return 0;
}
