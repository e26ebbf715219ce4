/* SPDX-License-Identifier: Apache-2.0 */
/* Disturbances of the slices' processes: stops for a while, kill -9, a connection cut. */
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tools/tso/tool.h"

#define STOP_MS_MAX 200u
/* Between two stops: about half the time some slice is stopped. */
#define STOP_PAUSE_MS_MAX 300u

static void slice_continue(struct cluster *c, unsigned i)
{
	if (c->stopped_until_ns[i] && c->pids[i])
		kill(c->pids[i], SIGCONT);
	c->stopped_until_ns[i] = 0;
}

void disturb_continue_all(struct cluster *c)
{
	for (unsigned i = 0; i < c->o->slices; i++)
		slice_continue(c, i);
}

static void stops_step(struct cluster *c, uint64_t now_ns)
{
	unsigned i = random_below(&c->random, c->o->slices);

	for (unsigned k = 0; k < c->o->slices; k++)
		if (c->stopped_until_ns[k] && now_ns >= c->stopped_until_ns[k])
			slice_continue(c, k);
	if (now_ns < c->next_stop_ns || !c->pids[i] || c->stopped_until_ns[i])
		return;
	kill(c->pids[i], SIGSTOP);
	c->totals->stops++;
	c->stopped_until_ns[i] = now_ns + (1 + random_below(&c->random, STOP_MS_MAX)) * NS_PER_MS;
	c->next_stop_ns = now_ns + random_below(&c->random, STOP_PAUSE_MS_MAX * 1000) * 1000ull;
}

static void slice_kill(struct cluster *c)
{
	unsigned victim = random_below(&c->random, c->o->slices);

	c->disturbed_ns = clock_now_ns();
	kill(c->pids[victim], SIGKILL);
	waitpid(c->pids[victim], NULL, 0);
	c->pids[victim] = 0;
	c->killed = victim;
	for (unsigned i = 0; i < c->o->slices; i++)
		c->lost_wanted[i] = i == victim ? 0 : UINT64_C(1) << victim;
	c->totals->kills++;
}

static void connection_cut(struct cluster *c)
{
	unsigned a = random_below(&c->random, c->o->slices);
	unsigned b = (a + 1 + random_below(&c->random, c->o->slices - 1)) % c->o->slices;

	c->s->cut_a = a;
	c->s->cut_b = b;
	c->disturbed_ns = clock_now_ns();
	c->lost_wanted[a] = UINT64_C(1) << b;
	c->lost_wanted[b] = UINT64_C(1) << a;
	atomic_store_explicit(&c->s->cut_wanted, 1, memory_order_release);
	c->totals->cuts++;
}

int disturb_step(struct cluster *c, uint64_t now_ns)
{
	if (c->o->stop)
		stops_step(c, now_ns);
	if (!c->disturb_ns || now_ns < c->disturb_ns)
		return 0;
	c->disturb_ns = 0;
	if (c->o->kill && (!c->o->cut || random_below(&c->random, 2)))
		slice_kill(c);
	else
		connection_cut(c);
	return 0;
}
