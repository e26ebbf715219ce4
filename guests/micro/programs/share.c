/* SPDX-License-Identifier: Apache-2.0 */
/* share: all CPUs want to write one page for a second; what part of it did each node get?
 * Arguments: seconds= of each mode (1), or ms=; mode= words, xadd, mix or all (all); home= node of
 * the page (0). Shares are printed and not judged: hosts with more threads than cores are unfair.
 */
#include <assert.h>

#include "guests/micro/lib/guest.h"

const char guest_name[] = "share";

#define MS_MAX 60000u
/* Between two looks at the clock, which takes longer than an access. */
#define WRITES_PER_LOOK 16u
/* Nodes' memory begins at like addresses. The page lies further in than the players, so that it has
 * a place of its own in TLBs that are indexed by the page's number. */
#define PAGES_APART 8u
/* All CPUs begin at one time, this long after the first has come. */
#define START_NS 20000000ul
/* One access in so many is a write, where reads and writes are mixed. */
#define MIX_WRITES 4u

/* The page's words. A tag is the number of hand-overs so far, times TAG_NODES, plus the node that
 * has written since the last one. */
#define WORD_TAG    0u
#define WORD_COMMON 8u
#define WORD_OWN    16u /* each CPU's, two to a cache line */
#define OWN_STEP    4u
#define TAG_NODES   64u
static_assert(NODES_MAX <= TAG_NODES, "a node fits a tag");
static_assert((WORD_OWN + CPUS_MAX * OWN_STEP) * 8 <= PAGE, "all words are on one page");

/* What a CPU knows; on its own node. */
struct player {
	uint64_t accesses, written, turns;
	uint64_t tag;	       /* the page's, when it last looked */
	uint64_t since, until; /* it has had the page from .. to .. at least; since 0: not yet */
	uint64_t held, wait_longest;
	uint64_t last_old; /* + 1: what the last XADD returned */
	uint64_t seen[CPUS_MAX];
	struct random random;
};

struct game;
/* Makes one access; was it a write? */
typedef bool game_access(const struct game *g, struct player *me, unsigned self);
typedef void game_check(const struct game *g);

struct game {
	volatile uint64_t *page;
	uint64_t ms, start, end;
	game_access *access;
	struct player *players[CPUS_MAX];
	struct barrier arrived, told;
};

/* One node's, from its CPUs'. */
struct part {
	uint64_t accesses, turns, held, wait_longest;
};

static volatile uint64_t *own_word(const struct game *g, unsigned cpu)
{
	return g->page + WORD_OWN + cpu * OWN_STEP;
}

static void own_add(const struct game *g, struct player *me, unsigned self)
{
	__asm__ volatile("incq %0" : "+m"(*own_word(g, self))::"memory", "cc");
	me->written++;
}

/* Each CPU counts in its own word: nobody waits for anybody but for the page. */
static bool words_access(const struct game *g, struct player *me, unsigned self)
{
	own_add(g, me, self);
	return true;
}

static void words_check(const struct game *g)
{
	for (unsigned i = 0; i < machine.cpus; i++)
		if (*own_word(g, i) != g->players[i]->written)
			fail("CPU %u wrote %lu times, and its word is %lu", i,
			     g->players[i]->written, *own_word(g, i));
}

/* All count in one word. */
static bool xadd_access(const struct game *g, struct player *me, unsigned self)
{
	uint64_t old = atomic_add_fetch_old(g->page + WORD_COMMON, 1);

	if (old < me->last_old)
		fail("CPU %u: XADD returned %lu after %lu", self, old, me->last_old - 1);
	me->last_old = old + 1;
	me->written++;
	return true;
}

static void xadd_check(const struct game *g)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < machine.cpus; i++)
		sum += g->players[i]->written;
	if (g->page[WORD_COMMON] != sum)
		fail("%lu times XADD, and the word is %lu", sum, g->page[WORD_COMMON]);
}

/* Mostly reads of others' words, which never go back. */
static bool mix_access(const struct game *g, struct player *me, unsigned self)
{
	uint64_t r = random_next(&me->random), value;
	unsigned other = (unsigned)(r >> 32) % machine.cpus;

	if (r % MIX_WRITES == 0) {
		own_add(g, me, self);
		return true;
	}
	value = *own_word(g, other);
	if (value < me->seen[other])
		fail("CPU %u read %lu of CPU %u's word after %lu", self, value, other,
		     me->seen[other]);
	me->seen[other] = value;
	return false;
}

/* ---- who has the page ---- */

/* It is here again, after others had it. */
static void turn_begin(struct player *me, uint64_t tag, uint64_t now)
{
	uint64_t waited = now - me->until;

	if (me->since)
		me->held += me->until - me->since;
	if (waited > me->wait_longest)
		me->wait_longest = waited;
	me->since = me->until = now;
	me->tag = tag;
}

/* The tag is not what it was. A hand-over is counted by the node's first CPU that sees it. */
static void turn_note(const struct game *g, struct player *me, unsigned self, uint64_t tag,
		      uint64_t now)
{
	unsigned node = machine.node_of[self];
	uint64_t next = (tag / TAG_NODES + 1) * TAG_NODES + node;

	if (tag && tag % TAG_NODES == node) {
		turn_begin(me, tag, now);
	} else if (__atomic_compare_exchange_n(g->page + WORD_TAG, &tag, next, false,
					       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		me->turns++;
		turn_begin(me, next, now);
	}
}

/* After a write. A plain read of the tag would ask for a copy, if the page went just before: so it
 * is read by a write too. Is the time up? */
static bool player_look(const struct game *g, struct player *me, unsigned self)
{
	uint64_t tag = atomic_add_fetch_old(g->page + WORD_TAG, 0), now;

	if (tag && tag == me->tag && me->written % WRITES_PER_LOOK)
		return false;
	now = ticks_now();
	if (!tag || tag != me->tag)
		turn_note(g, me, self, tag, now);
	else
		me->until = now;
	return now >= g->end;
}

static void start_wait(struct game *g, unsigned self)
{
	struct wait w;

	barrier_wait(&g->arrived);
	if (self == 0) {
		g->start = ticks_now() + ns_ticks(START_NS);
		g->end = g->start + ns_ticks(g->ms * 1000000);
	}
	barrier_wait(&g->told);
	wait_init(&w, "the start", SPIN_US);
	while (ticks_now() < g->start)
		wait_more(&w);
}

static void play(unsigned self, unsigned n, void *arg)
{
	struct game *g = arg;
	struct player *me = g->players[self];

	(void)n;
	start_wait(g, self);
	me->until = ticks_now();
	for (;;) {
		bool wrote = g->access(g, me, self);

		me->accesses++;
		if (wrote && player_look(g, me, self))
			break;
	}
	if (me->since)
		me->held += me->until - me->since;
}

/* ---- what came of it ---- */

static void part_add(struct part *to, const struct player *from)
{
	to->accesses += from->accesses;
	to->turns += from->turns;
	/* Each CPU of a node sees the node's whole time. */
	if (from->held > to->held)
		to->held = from->held;
	if (from->wait_longest > to->wait_longest)
		to->wait_longest = from->wait_longest;
}

/* Thousandths of all, and of the nth part of all. */
static uint64_t share_of(uint64_t part, uint64_t all)
{
	return all ? (part * 1000 + all / 2) / all : 0;
}

static uint64_t fair_of(uint64_t part, uint64_t all)
{
	return share_of(part * machine.nodes, all);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void node_print(const char *mode, unsigned node, const struct part *p,
		       const struct part *all)
{
	uint64_t of[] = {share_of(p->accesses, all->accesses), fair_of(p->accesses, all->accesses),
			 share_of(p->turns, all->turns),       fair_of(p->turns, all->turns),
			 share_of(p->held, all->held),	       fair_of(p->held, all->held)};
	uint64_t wait_us = ticks_ns(p->wait_longest) / 1000;

	print("%-5s node %2u: %10lu accesses %3lu.%lu %%, %3lu.%lu of fair; %7lu hand-overs "
	      "%3lu.%lu %%, %3lu.%lu of fair; %6lu us with it %3lu.%lu %%, %3lu.%lu of fair; "
	      "%6lu us longest without\n",
	      mode, node, p->accesses, of[0] / 10, of[0] % 10, of[1] / 10, of[1] % 10, p->turns,
	      of[2] / 10, of[2] % 10, of[3] / 10, of[3] % 10, ticks_ns(p->held) / 1000, of[4] / 10,
	      of[4] % 10, of[5] / 10, of[5] % 10, wait_us);
}

static void result_print(const struct game *g, const char *mode, unsigned home)
{
	struct part parts[NODES_MAX] = {{0}}, all = {0};
	uint64_t fair[3] = {~0ul, ~0ul, ~0ul};

	for (unsigned i = 0; i < machine.cpus; i++)
		part_add(&parts[machine.node_of[i]], g->players[i]);
	for (unsigned i = 0; i < machine.nodes; i++) {
		all.accesses += parts[i].accesses;
		all.turns += parts[i].turns;
		all.held += parts[i].held;
	}
	for (unsigned i = 0; i < machine.nodes; i++) {
		node_print(mode, i, &parts[i], &all);
		fair[0] = least(fair[0], fair_of(parts[i].accesses, all.accesses));
		fair[1] = least(fair[1], fair_of(parts[i].turns, all.turns));
		fair[2] = least(fair[2], fair_of(parts[i].held, all.held));
	}
	print("%-5s all, home node %u, %lu ms: %lu accesses/s, %lu hand-overs/s; smallest of fair: "
	      "accesses %lu.%lu, hand-overs %lu.%lu, time %lu.%lu %%\n",
	      mode, home, g->ms, all.accesses * 1000 / g->ms, all.turns * 1000 / g->ms,
	      fair[0] / 10, fair[0] % 10, fair[1] / 10, fair[1] % 10, fair[2] / 10, fair[2] % 10);
}

static bool mode_wanted(const char *mode)
{
	char buffer[16];

	return text_equal(arg_text("mode", "all", buffer, sizeof(buffer)), mode);
}

static void game_run(struct game *g, const char *mode, game_access *access, game_check *check,
		     unsigned home)
{
	if (!mode_wanted(mode) && !mode_wanted("all"))
		return;
	g->access = access;
	g->page = (uint64_t *)((uint8_t *)node_alloc(home, PAGES_APART * PAGE) +
			       (PAGES_APART - 1) * PAGE);
	for (unsigned i = 0; i < machine.cpus; i++) {
		g->players[i] = node_alloc(machine.node_of[i], sizeof(struct player));
		random_seed(&g->players[i]->random, i);
	}
	team_run(machine.cpus, play, g);
	check(g);
	result_print(g, mode, home);
}

static void arguments_check(const struct game *g, uint64_t home)
{
	if (!mode_wanted("all") && !mode_wanted("words") && !mode_wanted("xadd") &&
	    !mode_wanted("mix"))
		fail("mode= must be words, xadd, mix or all");
	if (!g->ms || g->ms > MS_MAX)
		fail("ms= must be from 1 to %u", MS_MAX);
	if (home >= machine.nodes)
		fail("home= must be one of %u nodes", machine.nodes);
}

int main(void)
{
	struct game *g = node_alloc(0, sizeof(*g));
	uint64_t home = arg_number("home", 0);

	g->ms = arg_number("ms", arg_number("seconds", 1) * 1000);
	arguments_check(g, home);
	barrier_init(&g->arrived, machine.cpus);
	barrier_init(&g->told, machine.cpus);
	game_run(g, "words", words_access, words_check, (unsigned)home);
	game_run(g, "xadd", xadd_access, xadd_check, (unsigned)home);
	game_run(g, "mix", mix_access, words_check, (unsigned)home);
	return 0;
}
