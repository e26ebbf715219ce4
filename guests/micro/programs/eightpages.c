/* SPDX-License-Identifier: Apache-2.0 */
/* eightpages: CPU 0 runs two instructions that need six pages each at once, twelve in the loop,
 * while all others steal those pages; it must get on, and nothing may be lost.
 * Arguments: count= rounds of the loop (200). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "eightpages";

#define COUNT_DEFAULT 200

/* Pairs of neighbouring pages; what is used of each pair lies across the boundary. */
enum pair {
	PAIR_LOOP,   /* CALL's own bytes */
	PAIR_VECTOR, /* the address that CALL reads */
	PAIR_STACK,  /* where it pushes */
	PAIR_TARGET, /* MOVSQ's own bytes */
	PAIR_SOURCE,
	PAIR_DEST,
	PAIRS
};
#define PAGES (2 * PAIRS)

/* The thieves' counters on every page, away from what lies at its ends. */
#define COUNTERS_OFFSET 1024

struct state {
	uint8_t *pair[PAIRS];
	uint64_t count;
	volatile uint64_t done PAGE_ALIGNED;
	uint64_t *stolen[CPUS_MAX]; /* rounds of each thief, on its node */
};

static uint8_t *page_of(const struct state *s, unsigned i)
{
	return s->pair[i / 2] + i % 2 * PAGE;
}

static volatile uint64_t *counter_on(const struct state *s, unsigned page, unsigned cpu)
{
	return (volatile uint64_t *)(page_of(s, page) + COUNTERS_OFFSET) + cpu;
}

/* call *(%rbx) with one byte on each side, then: dec %rcx; jnz to the call; ret */
static void loop_write(uint8_t *boundary)
{
	static const uint8_t code[] = {0xff, 0x13, 0x48, 0xff, 0xc9, 0x75, 0xf9, 0xc3};

	memcpy(boundary - 1, code, sizeof(code));
}

/* incq (%rsi); movsq with one byte on each side; sub $8 from %rsi and %rdi; ret */
static void target_write(uint8_t *boundary)
{
	static const uint8_t code[] = {0x48, 0xff, 0x06, 0x48, 0xa5, 0x48, 0x83,
				       0xee, 0x08, 0x48, 0x83, 0xef, 0x08, 0xc3};

	memcpy(boundary - 4, code, sizeof(code));
}

/* Calls the loop on the stack that lies across a boundary: 8 bytes pushed, 4 on each page. */
static void victim_run(const struct state *s)
{
	uint8_t *loop = s->pair[PAIR_LOOP] + PAGE - 1;
	uint8_t *stack = s->pair[PAIR_STACK] + PAGE + 4;
	uint64_t n = s->count, rsp;
	uint8_t *source = s->pair[PAIR_SOURCE] + PAGE - 4, *dest = s->pair[PAIR_DEST] + PAGE - 4;

	__asm__ volatile("movq %%rsp, %[rsp]\n\t"
			 "leaq 8(%[stack]), %%rsp\n\t" /* the loop's own return address */
			 "call *%[loop]\n\t"
			 "movq %[rsp], %%rsp"
			 : [rsp] "=&r"(rsp), "+c"(n), "+S"(source), "+D"(dest)
			 : [stack] "r"(stack), [loop] "r"(loop),
			   "b"(s->pair[PAIR_VECTOR] + PAGE - 4)
			 : "memory", "cc");
}

static void thief_run(struct state *s, unsigned self)
{
	for (unsigned page = self; !s->done; page = (page + 1) % PAGES) {
		page %= PAGES;
		__asm__ volatile("lock incq %0" : "+m"(*counter_on(s, page, self))::"memory", "cc");
		++*s->stolen[self];
	}
}

static void play(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	(void)n;
	if (self) {
		thief_run(s, self);
		return;
	}
	victim_run(s);
	s->done = 1;
}

static uint64_t across(const uint8_t *pair)
{
	uint64_t value;

	memcpy(&value, pair + PAGE - 4, sizeof(value));
	return value;
}

static void result_check(const struct state *s, unsigned cpu)
{
	uint64_t sum = 0;

	for (unsigned page = 0; page < PAGES; page++)
		sum += *counter_on(s, page, cpu);
	if (sum != *s->stolen[cpu])
		fail("CPU %u wrote to the pages %lu times, and %lu are there", cpu, *s->stolen[cpu],
		     sum);
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t start, us, stolen = 0, target;

	s->count = arg_number("count", COUNT_DEFAULT);
	if (!s->count)
		fail("count= must be at least 1");
	for (unsigned i = 0; i < PAIRS; i++)
		s->pair[i] = node_alloc(i % machine.nodes, 2 * PAGE);
	for (unsigned i = 0; i < machine.cpus; i++)
		s->stolen[i] = node_alloc(machine.node_of[i], PAGE);
	loop_write(s->pair[PAIR_LOOP] + PAGE);
	target_write(s->pair[PAIR_TARGET] + PAGE);
	target = (uint64_t)s->pair[PAIR_TARGET] + PAGE - 4;
	memcpy(s->pair[PAIR_VECTOR] + PAGE - 4, &target, sizeof(target));
	start = ticks_now();
	team_run(machine.cpus, play, s);
	us = ticks_ns(ticks_now() - start) / 1000;
	if (across(s->pair[PAIR_SOURCE]) != s->count || across(s->pair[PAIR_DEST]) != s->count)
		fail("%lu rounds, but the source counted %lu and the destination %lu", s->count,
		     across(s->pair[PAIR_SOURCE]), across(s->pair[PAIR_DEST]));
	for (unsigned i = 1; i < machine.cpus; i++) {
		result_check(s, i);
		stolen += *s->stolen[i];
	}
	print("%lu rounds against %u thieves, who wrote %lu times: %lu ms\n", s->count,
	      machine.cpus - 1, stolen, us / 1000);
	return 0;
}
