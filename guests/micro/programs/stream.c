/* SPDX-License-Identifier: Apache-2.0 */
/* stream: CPU 0 goes through memory from page to page: its own, untouched; another node's, written
 * there. Arguments: mib= of each (16). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "stream";

#define MIB_DEFAULT 16
#define MIB_MAX	    4096
#define MIB	    (1ul << 20)
#define PAGE_WORDS  (PAGE / 8)

struct state {
	uint64_t words;
	unsigned holder; /* the CPU that writes; 0: all are on one node */
	uint64_t *remote;
};

static uint64_t pattern(uint64_t at)
{
	return (at + 1) * 0x9e3779b97f4a7c15ul;
}

static void remote_fill(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	(void)n;
	for (uint64_t i = 0; self == s->holder && i < s->words; i++)
		s->remote[i] = pattern(i);
}

static void report(const char *what, uint64_t words, uint64_t ticks)
{
	uint64_t ns = ticks_ns(ticks), pages = words / PAGE_WORDS;

	print("%-24s %6lu pages: %8lu ns a page, %6lu MiB/s\n", what, pages, ns / pages,
	      ns ? words * 8 * 1000 / MIB * 1000000 / ns : 0);
}

/* A word of each page: what is left over is the memory's own speed. */
static void pages_touch(const char *what, uint64_t *start, uint64_t words)
{
	uint64_t began = ticks_now();

	for (uint64_t i = 0; i < words; i += PAGE_WORDS)
		*(volatile uint64_t *)&start[i] = i;
	report(what, words, ticks_now() - began);
	for (uint64_t i = 0; i < words; i += PAGE_WORDS)
		if (start[i] != i)
			fail("page %lu has %lx", i / PAGE_WORDS, start[i]);
}

/* By the page: what is left over is a copy's time. */
static void pages_read(const char *what, const struct state *s, uint64_t *to)
{
	uint64_t began = ticks_now();

	for (uint64_t i = 0; i < s->words; i += PAGE_WORDS)
		memcpy(&to[i], &s->remote[i], PAGE);
	report(what, s->words, ticks_now() - began);
	for (uint64_t i = 0; i < s->words; i++)
		if (to[i] != pattern(i))
			fail("word %lu of another node's memory is %lx, not %lx", i, to[i],
			     pattern(i));
}

int main(void)
{
	uint64_t mib = arg_number("mib", MIB_DEFAULT);
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t *own;

	if (!mib || mib > MIB_MAX)
		fail("mib= must be 1 to %u", MIB_MAX);
	s->words = mib * MIB / 8;
	for (unsigned i = machine.cpus - 1; i > 0; i--)
		if (machine.node_of[i] != machine.node_of[0])
			s->holder = i;
	own = node_alloc(machine.node_of[0], mib * MIB);
	pages_touch("own first touch", own, s->words);
	if (!s->holder) {
		print("no CPU on another node: no page is remote\n");
		return 0;
	}
	pages_touch("another's first touch", node_alloc(machine.node_of[s->holder], mib * MIB),
		    s->words);
	s->remote = node_alloc(machine.node_of[s->holder], mib * MIB);
	team_run(machine.cpus, remote_fill, s);
	pages_read("remote read", s, own);
	pages_read("read again", s, own);
	return 0;
}
