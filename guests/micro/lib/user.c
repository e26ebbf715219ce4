/* SPDX-License-Identifier: Apache-2.0 */
/* The program's life at CPL3: start of the other CPUs, teams, printing, the result. */
#include "guests/micro/lib/kernel.h"

#define LINE_MAX   512
#define START_US   20
#define EXIT_FAILS 1

/* CPU 0 writes; the others read when they are woken. */
static struct {
	volatile uint32_t generation;
	unsigned n;
	team_work *work;
	void *arg;
} team PAGE_ALIGNED;

static struct lock console_lock PAGE_ALIGNED;
static volatile uint32_t failed PAGE_ALIGNED;

unsigned cpu_index(void)
{
	return cpu_self()->index;
}

int cpu_on_node(unsigned node, unsigned nth)
{
	for (unsigned i = 0; i < machine.cpus; i++)
		if (machine.node_of[i] == node && nth-- == 0)
			return (int)i;
	return -1;
}

uint32_t interrupts_taken(unsigned cpu, unsigned vector)
{
	return cpus[cpu]->taken[vector];
}

void ipi_send(unsigned cpu, unsigned vector)
{
	call(CALL_IPI, cpu, vector);
}

/* ---- printing and the result ---- */

void print(const char *fmt, ...)
{
	char line[LINE_MAX];
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	len = text_format(line, sizeof(line), fmt, ap);
	va_end(ap);
	lock_take(&console_lock);
	call(CALL_WRITE, (uint64_t)line, len);
	lock_drop(&console_lock);
}

/* The first to fail speaks, and does not wait for a lock that a hanging CPU may hold. */
void fail(const char *fmt, ...)
{
	char line[LINE_MAX];
	va_list ap;
	size_t len;

	while (atomic_exchange32(&failed, 1))
		call(CALL_NAP, 1000, 0);
	call(CALL_WRITE, (uint64_t)"\n", 1);
	call(CALL_WRITE, (uint64_t)guest_name, strlen(guest_name));
	call(CALL_WRITE, (uint64_t)": FAIL ", 7);
	va_start(ap, fmt);
	len = text_format(line, sizeof(line), fmt, ap);
	va_end(ap);
	line[len] = '\n';
	call(CALL_WRITE, (uint64_t)line, len + 1);
	call(CALL_EXIT, EXIT_FAILS, 0);
	__builtin_unreachable();
}

char *milli_text(char *out, uint64_t thousandths)
{
	unsigned long whole = thousandths / 1000;
	char digits[24];
	size_t n = 0, used = 0;

	do {
		digits[n++] = (char)('0' + whole % 10);
		whole /= 10;
	} while (whole);
	while (n)
		out[used++] = digits[--n];
	out[used++] = '.';
	out[used++] = (char)('0' + thousandths / 100 % 10);
	out[used++] = (char)('0' + thousandths / 10 % 10);
	out[used++] = (char)('0' + thousandths % 10);
	out[used] = '\0';
	return out;
}

/* ---- teams ---- */

/* Where every CPU but 0 lives: asleep at CPL0 until work comes. */
void user_team(void)
{
	struct cpu *self = cpu_self();
	uint32_t seen = 0;

	self->online = 1;
	for (;;) {
		uint32_t wakes = self->taken[VECTOR_WAKE];

		if (team.generation == seen) {
			call(CALL_IDLE, VECTOR_WAKE, wakes);
			continue;
		}
		seen = team.generation;
		if (self->index < team.n)
			team.work(self->index, team.n, team.arg);
		__asm__ volatile("" ::: "memory");
		self->done = seen;
	}
}

void team_run(unsigned n, team_work *work, void *arg)
{
	struct wait w;
	uint32_t generation = team.generation + 1;

	team.n = n;
	team.work = work;
	team.arg = arg;
	__asm__ volatile("" ::: "memory");
	team.generation = generation;
	for (unsigned i = 1; i < n; i++)
		ipi_send(i, VECTOR_WAKE);
	work(0, n, arg);
	for (unsigned i = 1; i < n; i++) {
		wait_init(&w, "the end of the team's work", SPIN_US);
		while (cpus[i]->done != generation)
			wait_more(&w);
	}
	__asm__ volatile("" ::: "memory");
}

/* ---- the start ---- */

static void cpus_start(void)
{
	struct wait w;

	for (unsigned i = 1; i < machine.cpus; i++) {
		call(CALL_START, i, 0);
		wait_init(&w, "the start of a CPU", START_US);
		while (!cpus[i]->online)
			wait_more(&w);
	}
}

void user_main(void)
{
	cpus_start();
	if (main() != 0)
		fail("the program gave no reason");
	print("%s: PASS\n", guest_name);
	call(CALL_EXIT, 0, 0);
	__builtin_unreachable();
}
