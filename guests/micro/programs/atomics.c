/* SPDX-License-Identifier: Apache-2.0 */
/* atomics: all CPUs count at once by every kind of LOCKed instruction; the sums must be right.
 * Arguments: count= of each CPU, kind and node (300). */
#include <assert.h>

#include "guests/micro/lib/guest.h"

const char guest_name[] = "atomics";

#define COUNT_DEFAULT 300

/* One page on each node; all kinds of counters on it. */
struct counters {
	volatile uint64_t inc, add, xadd, cmpxchg, xadd_sum[CPUS_MAX];
	volatile uint32_t inc32;
	volatile uint16_t inc16;
	volatile uint8_t inc8;
	volatile uint64_t bits; /* one bit a CPU, toggled */
	volatile uint64_t plain, lock_word;
	volatile uint64_t cmpxchg8b;
	volatile uint64_t cmpxchg16b[2] __attribute__((aligned(16)));
};
static_assert(sizeof(struct counters) <= PAGE, "one page");

struct state {
	uint64_t count;
	struct counters *on_node[NODES_MAX];
	struct barrier barrier;
};

static void add_cmpxchg(volatile uint64_t *p)
{
	uint64_t seen = *p;
	bool done;

	do {
		uint64_t next = seen + 1;

		__asm__ volatile("lock cmpxchgq %3, %1\n\tsete %0"
				 : "=q"(done), "+m"(*p), "+a"(seen)
				 : "r"(next)
				 : "memory", "cc");
	} while (!done);
}

static void add_cmpxchg8b(volatile uint64_t *p)
{
	uint64_t seen = *p;
	uint32_t low = (uint32_t)seen, high = (uint32_t)(seen >> 32);
	bool done;

	do {
		uint64_t next = ((uint64_t)high << 32 | low) + 1;

		__asm__ volatile("lock cmpxchg8b %1\n\tsete %0"
				 : "=q"(done), "+m"(*p), "+a"(low), "+d"(high)
				 : "b"((uint32_t)next), "c"((uint32_t)(next >> 32))
				 : "memory", "cc");
	} while (!done);
}

/* Both halves count, in opposite directions. */
static void add_cmpxchg16b(volatile uint64_t *p)
{
	uint64_t low = p[0], high = p[1];
	bool done;

	do {
		__asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
				 : "=q"(done), "+m"(*(volatile unsigned __int128 *)p), "+a"(low),
				   "+d"(high)
				 : "b"(low + 1), "c"(high - 1)
				 : "memory", "cc");
	} while (!done);
}

/* An unLOCKed counter under a lock made of LOCK BTS. */
static void add_locked(volatile uint64_t *lock_word, volatile uint64_t *p)
{
	struct wait w;
	bool held;

	wait_init(&w, "the lock", SPIN_US);
	for (;;) {
		__asm__ volatile("lock btsq $63, %1\n\tsetc %0"
				 : "=q"(held), "+m"(*lock_word)::"memory", "cc");
		if (!held)
			break;
		wait_more(&w);
	}
	*p = *p + 1;
	__asm__ volatile("lock btrq $63, %0" : "+m"(*lock_word)::"memory", "cc");
}

static void counters_add(struct counters *c, unsigned self)
{
	__asm__ volatile("lock incq %0" : "+m"(c->inc)::"memory", "cc");
	__asm__ volatile("lock addq $3, %0" : "+m"(c->add)::"memory", "cc");
	c->xadd_sum[self] += atomic_add_fetch_old(&c->xadd, 1);
	__asm__ volatile("lock incl %0" : "+m"(c->inc32)::"memory", "cc");
	__asm__ volatile("lock incw %0" : "+m"(c->inc16)::"memory", "cc");
	__asm__ volatile("lock incb %0" : "+m"(c->inc8)::"memory", "cc");
	__asm__ volatile("lock btcq %1, %0" : "+m"(c->bits) : "r"((uint64_t)self) : "memory", "cc");
	add_cmpxchg(&c->cmpxchg);
	add_cmpxchg8b(&c->cmpxchg8b);
	if (machine.has_cx16)
		add_cmpxchg16b(c->cmpxchg16b);
	add_locked(&c->lock_word, &c->plain);
}

static void count_all(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	(void)n;
	barrier_wait(&s->barrier);
	for (uint64_t i = 0; i < s->count; i++)
		for (unsigned node = 0; node < machine.nodes; node++)
			counters_add(s->on_node[(node + self) % machine.nodes], self);
}

static void sum_check(unsigned node, const char *kind, uint64_t value, uint64_t expected)
{
	if (value != expected)
		fail("node %u, %s: %lu, not %lu", node, kind, value, expected);
}

static void counters_check(const struct counters *c, unsigned node, uint64_t count)
{
	uint64_t total = count * machine.cpus, sum = 0;
	uint64_t all = machine.cpus == 64 ? ~0ul : (1ul << machine.cpus) - 1;

	for (unsigned i = 0; i < machine.cpus; i++)
		sum += c->xadd_sum[i];
	sum_check(node, "INC", c->inc, total);
	sum_check(node, "ADD", c->add, 3 * total);
	sum_check(node, "XADD", c->xadd, total);
	sum_check(node, "what XADD returned", sum, total * (total - 1) / 2);
	sum_check(node, "INC of 32 bits", c->inc32, (uint32_t)total);
	sum_check(node, "INC of 16 bits", c->inc16, (uint16_t)total);
	sum_check(node, "INC of 8 bits", c->inc8, (uint8_t)total);
	sum_check(node, "BTC", c->bits, count % 2 ? all : 0);
	sum_check(node, "CMPXCHG", c->cmpxchg, total);
	sum_check(node, "CMPXCHG8B", c->cmpxchg8b, total);
	sum_check(node, "a counter under BTS", c->plain, total);
	if (!machine.has_cx16)
		return;
	sum_check(node, "CMPXCHG16B, low", c->cmpxchg16b[0], total);
	sum_check(node, "CMPXCHG16B, high", c->cmpxchg16b[1], -total);
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t start, us;

	s->count = arg_number("count", COUNT_DEFAULT);
	for (unsigned i = 0; i < machine.nodes; i++)
		s->on_node[i] = node_alloc(i, PAGE);
	barrier_init(&s->barrier, machine.cpus);
	start = ticks_now();
	team_run(machine.cpus, count_all, s);
	us = ticks_ns(ticks_now() - start) / 1000;
	for (unsigned i = 0; i < machine.nodes; i++)
		counters_check(s->on_node[i], i, s->count);
	print("%u CPUs, %u nodes, %lu rounds of 11 kinds: all sums right, %lu ms%s\n", machine.cpus,
	      machine.nodes, s->count, us / 1000, machine.has_cx16 ? "" : "; no CMPXCHG16B");
	return 0;
}
