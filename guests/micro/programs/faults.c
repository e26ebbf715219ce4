/* SPDX-License-Identifier: Apache-2.0 */
/* faults: how long CPU 0 waits for a page: untouched at home, or held by a CPU of another node.
 * Arguments: count= pages of each kind (1000). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "faults";

#define COUNT_DEFAULT 1000
#define COUNT_MAX     100000
#define PAGE_WORDS    (PAGE / 8)
/* The words of a page that somebody writes: the holder the first and the last, CPU 0 the other. */
#define WORD_FIRST 0u
#define WORD_OURS  64u
#define WORD_LAST  (PAGE_WORDS - 1)

struct pages {
	uint8_t *start;
	uint64_t salt; /* makes its patterns its own */
};

struct state {
	uint64_t count;
	unsigned holder;     /* the CPU whose node is the remote pages' home */
	struct pages local;  /* CPU 0's own, untouched */
	struct pages shared; /* remote: read, then written */
	struct pages taken;  /* remote: written at once */
	uint64_t *ns;	     /* samples of one kind */
};

static volatile uint64_t *word_of(const struct pages *p, uint64_t page, uint64_t word)
{
	return (volatile uint64_t *)(p->start + page * PAGE) + word;
}

static uint64_t pattern(const struct pages *p, uint64_t page, uint64_t word)
{
	struct random r = {p->salt + page * PAGE_WORDS + word};

	return random_next(&r);
}

static void word_write(const struct pages *p, uint64_t page, uint64_t word)
{
	*word_of(p, page, word) = pattern(p, page, word);
}

static void word_check(const struct pages *p, uint64_t page, uint64_t word)
{
	uint64_t value = *word_of(p, page, word), wanted = pattern(p, page, word);

	if (value != wanted)
		fail("CPU %u reads %lx in page %lu, word %lu, not %lx", cpu_index(), value, page,
		     word, wanted);
}

/* ---- the holder's part: the others sleep meanwhile, and it sleeps while CPU 0 measures ---- */

static void remote_fill(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	(void)n;
	for (uint64_t i = 0; self == s->holder && i < s->count; i++) {
		word_write(&s->shared, i, WORD_FIRST);
		word_write(&s->shared, i, WORD_LAST);
		word_write(&s->taken, i, WORD_FIRST);
		word_write(&s->taken, i, WORD_LAST);
	}
}

static void pages_check(const struct pages *p, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		word_check(p, i, WORD_FIRST);
		word_check(p, i, WORD_OURS);
		word_check(p, i, WORD_LAST);
	}
}

static void remote_check(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	(void)n;
	if (self != s->holder)
		return;
	pages_check(&s->shared, s->count);
	pages_check(&s->taken, s->count);
}

/* ---- CPU 0's part ---- */

static void report(struct state *s, const char *what)
{
	/* Shell's sort, Knuth's steps. */
	uint64_t step = 1;

	while (step < s->count / 3)
		step = 3 * step + 1;
	for (; step; step /= 3) {
		for (uint64_t i = step; i < s->count; i++) {
			uint64_t value = s->ns[i], at = i;

			for (; at >= step && s->ns[at - step] > value; at -= step)
				s->ns[at] = s->ns[at - step];
			s->ns[at] = value;
		}
	}
	print("%-18s %8lu faults: p50 %8lu ns, p99 %8lu ns\n", what, s->count,
	      s->ns[(s->count - 1) / 2], s->ns[(s->count - 1) * 99 / 100]);
}

static void writes_measure(struct state *s, const struct pages *p, const char *what)
{
	for (uint64_t i = 0; i < s->count; i++) {
		volatile uint64_t *word = word_of(p, i, WORD_OURS);
		uint64_t value = pattern(p, i, WORD_OURS), start = ticks_now();

		*word = value;
		s->ns[i] = ticks_ns(ticks_now() - start);
	}
	report(s, what);
}

/* From the last page to the first, since reads that go upwards are asked for ahead. */
static void reads_measure(struct state *s, const struct pages *p, const char *what)
{
	for (uint64_t i = 0; i < s->count; i++) {
		uint64_t page = s->count - 1 - i;
		volatile uint64_t *word = word_of(p, page, WORD_LAST);
		uint64_t wanted = pattern(p, page, WORD_LAST), start = ticks_now(), value = *word;

		s->ns[i] = ticks_ns(ticks_now() - start);
		if (value != wanted)
			fail("page %lu: a remote read gives %lx, not %lx", page, value, wanted);
	}
	report(s, what);
}

static void local_measure(struct state *s)
{
	writes_measure(s, &s->local, "local first touch");
	writes_measure(s, &s->local, "no fault");
	for (uint64_t i = 0; i < s->count; i++)
		word_check(&s->local, i, WORD_OURS);
}

static void remote_measure(struct state *s)
{
	unsigned home = machine.node_of[s->holder];

	s->shared = (struct pages){node_alloc(home, s->count * PAGE), 1ul << 40};
	s->taken = (struct pages){node_alloc(home, s->count * PAGE), 1ul << 41};
	print("pages of node %u, written by its CPU %u before\n", home, s->holder);
	team_run(machine.cpus, remote_fill, s);
	reads_measure(s, &s->shared, "remote read");
	writes_measure(s, &s->shared, "remote upgrade");
	writes_measure(s, &s->taken, "remote write");
	pages_check(&s->taken, s->count);
	team_run(machine.cpus, remote_check, s);
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));

	s->count = arg_number("count", COUNT_DEFAULT);
	if (!s->count || s->count > COUNT_MAX)
		fail("count= must be 1 to %u", COUNT_MAX);
	s->ns = node_alloc(machine.node_of[0], s->count * sizeof(*s->ns));
	memset(s->ns, 0, s->count * sizeof(*s->ns));
	s->local = (struct pages){node_alloc(machine.node_of[0], s->count * PAGE), 0};
	for (unsigned i = machine.cpus - 1; i > 0; i--)
		if (machine.node_of[i] != machine.node_of[0])
			s->holder = i;
	print("TSC %lu Hz%s\n", machine.tsc_hz, machine.tsc_known ? "" : " (a guess)");
	local_measure(s);
	if (s->holder)
		remote_measure(s);
	else
		print("no CPU on another node: no page is remote\n");
	return 0;
}
