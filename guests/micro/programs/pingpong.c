/* SPDX-License-Identifier: Apache-2.0 */
/* pingpong: two CPUs, of different nodes if there are such, hand one page to and fro.
 * Arguments: count= hand-overs of each kind (1000); spin= us of waiting before it sleeps between
 * looks (500): more where every CPU has a core of its own. */
#include "guests/micro/lib/guest.h"

const char guest_name[] = "pingpong";

#define COUNT_DEFAULT	1000
#define SPIN_US_DEFAULT 500
#define OTHER_WORD	256 /* in the middle of the page: another cache line, the same page */

struct game;
typedef void game_play(const struct game *g, unsigned side);

struct game {
	volatile uint64_t *page;
	uint64_t count;
	unsigned spin_us;
	unsigned cpu[2];
	game_play *play;
	struct barrier barrier;
};

static void turn_wait(const struct game *g, volatile uint64_t *word, uint64_t value)
{
	struct wait w;

	wait_init(&w, "its turn", g->spin_us);
	while (*word != value)
		wait_more(&w);
}

/* One word counts; each side adds 1 when it is its turn. */
static void same_word(const struct game *g, unsigned side)
{
	for (uint64_t i = side; i < g->count; i += 2) {
		turn_wait(g, g->page, i);
		*g->page = i + 1;
	}
	turn_wait(g, g->page, g->count);
}

/* Each side writes its own word and waits for the other's. */
static void different_words(const struct game *g, unsigned side)
{
	volatile uint64_t *mine = g->page + side * OTHER_WORD;
	volatile uint64_t *other = g->page + (1 - side) * OTHER_WORD;

	for (uint64_t i = 1; i <= g->count / 2; i++) {
		if (side == 1)
			turn_wait(g, other, i);
		*mine = i;
		if (side == 0)
			turn_wait(g, other, i);
	}
}

/* Nobody waits: each adds to its own word, and none may be lost. */
static void false_sharing(const struct game *g, unsigned side)
{
	volatile uint64_t *mine = g->page + side * OTHER_WORD;

	for (uint64_t i = 0; i < g->count / 2; i++)
		*mine = *mine + 1;
	if (*mine != g->count / 2)
		fail("CPU %u wrote %lu times and reads %lu", g->cpu[side], g->count / 2, *mine);
}

static void game_player(unsigned self, unsigned n, void *arg)
{
	struct game *g = arg;

	(void)n;
	for (unsigned side = 0; side < 2; side++) {
		if (self != g->cpu[side])
			continue;
		barrier_wait(&g->barrier);
		g->play(g, side);
	}
}

static void game_run(struct game *g, const char *what, game_play *play, unsigned home)
{
	char us[24];
	uint64_t start, ns;

	g->page = node_alloc(home, PAGE);
	g->play = play;
	start = ticks_now();
	team_run(machine.cpus, game_player, g);
	ns = ticks_ns(ticks_now() - start);
	print("%-16s CPU %u (node %u), CPU %u (node %u), home node %u, page 0x%lx: %8lu /s, %10s "
	      "us\n",
	      what, g->cpu[0], machine.node_of[g->cpu[0]], g->cpu[1], machine.node_of[g->cpu[1]],
	      home, (uint64_t)g->page / PAGE, g->count * 1000000000ul / (ns ? ns : 1),
	      milli_text(us, ns / g->count));
}

static void games_run(struct game *g)
{
	for (unsigned home = 0; home < machine.nodes; home++) {
		game_run(g, "same word", same_word, home);
		game_run(g, "different words", different_words, home);
		game_run(g, "no turns", false_sharing, home);
	}
}

int main(void)
{
	struct game *g = node_alloc(0, sizeof(*g));

	g->count = arg_number("count", COUNT_DEFAULT) & ~1ul;
	g->spin_us = (unsigned)arg_number("spin", SPIN_US_DEFAULT);
	if (machine.cpus < 2) {
		print("one CPU: nobody to hand the page to\n");
		return 0;
	}
	if (!g->count)
		fail("count= must be at least 2");
	barrier_init(&g->barrier, 2);
	g->cpu[1] = 1;
	for (unsigned i = machine.cpus - 1; i > 0; i--)
		if (machine.node_of[i] != machine.node_of[0])
			g->cpu[1] = i;
	games_run(g);
	return 0;
}
