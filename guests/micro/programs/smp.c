/* SPDX-License-Identifier: Apache-2.0 */
/* smp: every CPU sends interrupts to every CPU, itself included; none may be lost or come twice.
 * Arguments: count= interrupts of each pair (20). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "smp";

#define COUNT_DEFAULT 20

struct matrix {
	uint64_t count;
	uint64_t ns[CPUS_MAX][CPUS_MAX]; /* a sender's row: mean time until it saw the arrival */
};

/* Whose turn it is to send: two senders at once would share vectors beyond 64 CPUs. */
struct state {
	struct matrix matrix;
	struct barrier barrier;
};

/* The next one goes when the last was taken: the APIC merges those that wait. */
static void pair_run(struct matrix *m, unsigned from, unsigned to)
{
	unsigned vector = VECTOR_SENDER + from % VECTORS_SENDERS;
	uint64_t start = ticks_now();
	struct wait w;

	for (uint64_t i = 0; i < m->count; i++) {
		uint32_t before = interrupts_taken(to, vector);

		ipi_send(to, vector);
		wait_init(&w, "an interrupt that was sent", 500);
		while (interrupts_taken(to, vector) == before)
			wait_more(&w);
		if (interrupts_taken(to, vector) != before + 1)
			fail("CPU %u took one interrupt of CPU %u twice", to, from);
	}
	m->ns[from][to] = ticks_ns(ticks_now() - start) / (m->count ? m->count : 1);
}

static void cpu_send_all(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	for (unsigned turn = 0; turn < n; turn++) {
		if (turn == self)
			for (unsigned to = 0; to < n; to++)
				pair_run(&s->matrix, self, to);
		barrier_wait(&s->barrier);
	}
}

/* All at once: the others' and one's own interrupts cross. */
static void cpu_send_ring(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	barrier_wait(&s->barrier);
	for (unsigned step = 1; step <= n; step++)
		pair_run(&s->matrix, self, (self + step) % n);
	barrier_wait(&s->barrier);
}

static void counts_check(const struct matrix *m, unsigned rounds)
{
	for (unsigned to = 0; to < machine.cpus; to++)
		for (unsigned from = 0; from < machine.cpus; from++) {
			uint32_t taken = interrupts_taken(to, VECTOR_SENDER + from);

			if (taken != m->count * rounds)
				fail("CPU %u took %u interrupts of CPU %u, not %lu", to, taken,
				     from, m->count * rounds);
		}
}

static void matrix_print(const struct matrix *m, const char *what)
{
	print("us until an interrupt's arrival is seen, %s; row: sender\n", what);
	for (unsigned from = 0; from < machine.cpus; from++) {
		print("  CPU %2u:", from);
		for (unsigned to = 0; to < machine.cpus; to++)
			print(" %4lu.%lu", m->ns[from][to] / 1000, m->ns[from][to] / 100 % 10);
		print("\n");
	}
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));

	s->matrix.count = arg_number("count", COUNT_DEFAULT);
	barrier_init(&s->barrier, machine.cpus);
	team_run(machine.cpus, cpu_send_all, s);
	counts_check(&s->matrix, 1);
	matrix_print(&s->matrix, "one sender at a time");
	team_run(machine.cpus, cpu_send_ring, s);
	counts_check(&s->matrix, 2);
	matrix_print(&s->matrix, "all send");
	print("%u CPUs, %lu interrupts of each pair, none lost\n", machine.cpus,
	      2 * s->matrix.count);
	return 0;
}
