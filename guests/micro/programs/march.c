/* SPDX-License-Identifier: Apache-2.0 */
/* march: every CPU writes a pattern into every free page of RAM, and other CPUs read it back.
 * Arguments: pages= of the free ones, evenly spread (all); words= of each page (8, at most 512);
 * passes= (one a CPU, so that each CPU writes and reads every page); rest_ms= that CPU 0 waits then, the
 * others asleep (0). */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "march";

#define WORDS_DEFAULT 8
#define PAGE_WORDS    (PAGE / 8)
#define WORD_STEP     197u /* odd: visits all words of a page before it repeats */

struct state {
	uint64_t free_pages, pages, words, passes;
	struct barrier barrier;
};

static volatile uint64_t *page_nth(const struct state *s, uint64_t nth)
{
	return (volatile uint64_t *)page_free_at(nth * s->free_pages / s->pages);
}

static uint64_t pattern(const volatile uint64_t *word, uint64_t pass)
{
	struct random r = {(uint64_t)word * 0x2545f4914f6cdd1dul + pass};

	return random_next(&r);
}

static void page_write(const struct state *s, uint64_t nth, uint64_t pass)
{
	volatile uint64_t *page = page_nth(s, nth);

	for (uint64_t i = 0; i < s->words; i++) {
		volatile uint64_t *word = page + (nth + pass + i * WORD_STEP) % PAGE_WORDS;

		*word = pattern(word, pass);
	}
}

static void page_check(const struct state *s, uint64_t nth, uint64_t pass, unsigned writer)
{
	volatile uint64_t *page = page_nth(s, nth);

	for (uint64_t i = 0; i < s->words; i++) {
		volatile uint64_t *word = page + (nth + pass + i * WORD_STEP) % PAGE_WORDS;
		uint64_t value = *word;

		if (value != pattern(word, pass))
			fail("pass %lu: CPU %u reads %lx at %lx, CPU %u wrote %lx", pass,
			     cpu_index(), value, (uint64_t)word, writer, pattern(word, pass));
	}
}

/* Part p of the pages is written by CPU p + pass and read by the one after it. */
static void march(unsigned self, unsigned n, void *arg)
{
	struct state *s = arg;

	for (uint64_t pass = 0; pass < s->passes; pass++) {
		unsigned part = (unsigned)((self + n - pass % n) % n), before = (part + n - 1) % n;

		for (uint64_t i = part; i < s->pages; i += n)
			page_write(s, i, pass);
		barrier_wait(&s->barrier);
		for (uint64_t i = before; i < s->pages; i += n)
			page_check(s, i, pass, (unsigned)((before + pass) % n));
		barrier_wait(&s->barrier);
	}
}

static void rest(uint64_t ms)
{
	uint64_t until = ticks_now() + ns_ticks(ms * 1000000);
	struct wait w;

	wait_init(&w, "the end of the rest", 0);
	while (ticks_now() < until)
		wait_more(&w);
}

int main(void)
{
	struct state *s = node_alloc(0, sizeof(*s));
	uint64_t start = ticks_now(), us;

	s->free_pages = pages_free_count();
	s->pages = arg_number("pages", s->free_pages);
	s->words = arg_number("words", WORDS_DEFAULT);
	s->passes = arg_number("passes", machine.cpus);
	if (!s->pages || s->pages > s->free_pages)
		s->pages = s->free_pages;
	if (!s->words || s->words > PAGE_WORDS)
		s->words = PAGE_WORDS;
	barrier_init(&s->barrier, machine.cpus);
	team_run(machine.cpus, march, s);
	us = ticks_ns(ticks_now() - start) / 1000;
	print("%lu of %lu free pages, %lu words each, %lu passes, %u CPUs: %lu ms\n", s->pages,
	      s->free_pages, s->words, s->passes, machine.cpus, us / 1000);
	rest(arg_number("rest_ms", 0));
	return 0;
}
