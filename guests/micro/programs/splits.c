/* SPDX-License-Identifier: Apache-2.0 */
/* splits: all CPUs count by LOCKed instructions whose operands cross a page or a cache line, beside
 * aligned ones on the words these overlap; all sums must be right.
 * Arguments: count= of each CPU, place and node (30). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "splits";

#define COUNT_DEFAULT 30
#define LINE	      64u

/* Where an operand of eight bytes begins: across the boundary of two pages, and of lines. */
static const unsigned places[] = {PAGE - 4, PAGE - 1, PAGE - 7, LINE - 4, 2 * PAGE - LINE - 3};
#define PLACES (sizeof(places) / sizeof(places[0]))

/* What is done to a word. */
enum kind {
	KIND_ADD,
	KIND_COMPARE,
	KIND_BITS,
	KIND_EXCHANGE,
	KIND_FOUR, /* bytes */
	KIND_TWO,
	KINDS
};

struct state {
	uint64_t count;
	uint8_t *on_node[NODES_MAX]; /* a pair for each kind and place: none overlap */
	uint64_t taken[CPUS_MAX];    /* what XCHG gave, less what it put */
	struct barrier barrier;
};

static uint8_t *pages_of(const struct state *s, unsigned node, enum kind kind, unsigned place)
{
	unsigned k = 0;

	while (places[k] != place)
		k++;
	return s->on_node[node] + (kind * PLACES + k) * 2 * PAGE;
}

/* The first byte behind the boundary that a place is before. */
static unsigned boundary_of(unsigned place)
{
	return (place + LINE - 1) / LINE * LINE;
}

/* 10 in all. */
static void add_ten(uint8_t *p)
{
	uint64_t old = 4;

	__asm__ volatile("lock incq (%0)" ::"r"(p) : "memory", "cc");
	__asm__ volatile("lock addq $7, (%0)" ::"r"(p) : "memory", "cc");
	__asm__ volatile("lock subq $3, (%0)" ::"r"(p) : "memory", "cc");
	__asm__ volatile("lock decq (%0)" ::"r"(p) : "memory", "cc");
	__asm__ volatile("stc; lock adcq $2, (%0)" ::"r"(p) : "memory", "cc");
	__asm__ volatile("stc; lock sbbq $0, (%0)" ::"r"(p) : "memory", "cc");
	__asm__ volatile("lock xaddq %0, (%1)" : "+r"(old) : "r"(p) : "memory", "cc");
}

static void add_compare(uint8_t *p)
{
	uint64_t seen = 0;
	bool done;

	do {
		uint64_t next = seen + 1;

		__asm__ volatile("lock cmpxchgq %3, (%2)\n\tsete %0"
				 : "=q"(done), "+a"(seen)
				 : "r"(p), "r"(next)
				 : "memory", "cc");
	} while (!done);
}

static void add_compare8(uint8_t *p)
{
	uint32_t low = 0, high = 0;
	bool done;

	do {
		uint64_t next = ((uint64_t)high << 32 | low) + 1;

		__asm__ volatile("lock cmpxchg8b (%3)\n\tsete %0"
				 : "=q"(done), "+a"(low), "+d"(high)
				 : "r"(p), "b"((uint32_t)next), "c"((uint32_t)(next >> 32))
				 : "memory", "cc");
	} while (!done);
}

/* The CPU's own bit is clear before and after. */
static void bit_turn(uint8_t *p, uint64_t self)
{
	bool was, is;

	__asm__ volatile("lock btsq %2, (%1)\n\tsetc %0"
			 : "=q"(was)
			 : "r"(p), "r"(self)
			 : "memory", "cc");
	__asm__ volatile("lock btrq %2, (%1)\n\tsetc %0"
			 : "=q"(is)
			 : "r"(p), "r"(self)
			 : "memory", "cc");
	if (was || !is)
		fail("CPU %lu: another one changed its bit", self);
	__asm__ volatile("lock orq %1, (%0)" ::"r"(p), "r"(1ul << self) : "memory", "cc");
	__asm__ volatile("lock andq %1, (%0)" ::"r"(p), "r"(~(1ul << self)) : "memory", "cc");
	__asm__ volatile("lock btcq %1, (%0)" ::"r"(p), "r"(self) : "memory", "cc");
	__asm__ volatile("lock xorq %1, (%0)" ::"r"(p), "r"(1ul << self) : "memory", "cc");
}

/* The bytes of the aligned words that no operand above covers, so that nothing carries into one. */
static void plain_turn(uint8_t *boundary)
{
	__asm__ volatile("lock xorq $1, (%0)" ::"r"(boundary - 8) : "memory", "cc");
	__asm__ volatile("lock btcq $63, (%0)" ::"r"(boundary) : "memory", "cc");
}

static void place_count(struct state *s, unsigned node, unsigned place, unsigned self, uint64_t i)
{
	unsigned boundary = boundary_of(place);
	uint64_t value = (i + 1) * 1000 + self;

	add_ten(pages_of(s, node, KIND_ADD, place) + place);
	plain_turn(pages_of(s, node, KIND_ADD, place) + boundary);
	add_compare(pages_of(s, node, KIND_COMPARE, place) + place);
	add_compare8(pages_of(s, node, KIND_COMPARE, place) + place);
	bit_turn(pages_of(s, node, KIND_BITS, place) + place, self);
	s->taken[self] -= value;
	__asm__ volatile("xchgq %0, (%1)"
			 : "+r"(value)
			 : "r"(pages_of(s, node, KIND_EXCHANGE, place) + place)
			 : "memory");
	s->taken[self] += value;
	__asm__ volatile("lock incl (%0)" ::"r"(pages_of(s, node, KIND_FOUR, place) + boundary - 2)
			 : "memory", "cc");
	__asm__ volatile("lock incw (%0)" ::"r"(pages_of(s, node, KIND_TWO, place) + boundary - 1)
			 : "memory", "cc");
}

static void count_all(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	(void)n;
	barrier_wait(&s->barrier);
	for (uint64_t i = 0; i < s->count; i++)
		for (unsigned k = 0; k < machine.nodes * PLACES; k++)
			place_count(s, (k + self) % machine.nodes, places[k / machine.nodes], self,
				    i);
}

static void expect(const struct state *s, unsigned node, unsigned k, enum kind kind, int64_t at,
		   uint64_t mask, uint64_t expected)
{
	uint64_t value;

	__builtin_memcpy(&value, pages_of(s, node, kind, places[k]) + at, sizeof(value));
	if ((value & mask) != expected)
		fail("node %u, operand at %u, kind %d: %lx, not %lx", node, places[k], (int)kind,
		     value & mask, expected);
}

/* Adds what is left in XCHG's words to what was taken. */
static uint64_t exchanged(const struct state *s, unsigned node, unsigned k)
{
	uint64_t value;

	__builtin_memcpy(&value, pages_of(s, node, KIND_EXCHANGE, places[k]) + places[k],
			 sizeof(value));
	return value;
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t start, us, total, sum = 0;

	s->count = arg_number("count", COUNT_DEFAULT);
	total = s->count * machine.cpus;
	for (unsigned i = 0; i < machine.nodes; i++)
		s->on_node[i] = node_alloc(i, KINDS * PLACES * 2 * PAGE);
	barrier_init(&s->barrier, machine.cpus);
	start = ticks_now();
	team_run(machine.cpus, count_all, s);
	us = ticks_ns(ticks_now() - start) / 1000;
	for (unsigned k = 0; k < machine.nodes * PLACES; k++) {
		unsigned node = k % machine.nodes, at = k / machine.nodes;
		unsigned boundary = boundary_of(places[at]);

		expect(s, node, at, KIND_ADD, places[at], ~0ul, 10 * total);
		expect(s, node, at, KIND_ADD, boundary - 8, 1, total % 2);
		expect(s, node, at, KIND_ADD, boundary, 1ul << 63, total % 2 << 63);
		expect(s, node, at, KIND_COMPARE, places[at], ~0ul, 2 * total);
		expect(s, node, at, KIND_BITS, places[at], ~0ul, 0);
		expect(s, node, at, KIND_FOUR, boundary - 2, 0xffffffff, (uint32_t)total);
		expect(s, node, at, KIND_TWO, boundary - 1, 0xffff, (uint16_t)total);
		sum += exchanged(s, node, at);
	}
	for (unsigned i = 0; i < machine.cpus; i++)
		sum += s->taken[i];
	if (sum)
		fail("XCHG: %ld more came out than went in", sum);
	print("%u CPUs, %u nodes, %lu rounds: all sums right, %lu ms\n", machine.cpus,
	      machine.nodes, s->count, us / 1000);
	return 0;
}
