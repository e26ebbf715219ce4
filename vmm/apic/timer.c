/* SPDX-License-Identifier: Apache-2.0 */
/* The timer thread. It wakes for a deadline or for an earlier one, never to look around. */
#include "vmm/apic/timer.h"

#include <string.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

int timer_init(struct timer *t, void (*fire)(void *ctx, unsigned slot), void *ctx)
{
	unsigned i;
	int err;

	memset(t, 0, sizeof(*t));
	t->fire = fire;
	t->ctx = ctx;
	for (i = 0; i < TIMER_SLOTS_MAX; i++)
		t->deadlines_ns[i] = TIMER_OFF;
	t->wake_ns = TIMER_OFF;
	err = lock_init(&t->lock);
	if (err)
		return err;
	err = lock_cond_init(&t->earlier);
	if (err)
		pthread_mutex_destroy(&t->lock);
	return err;
}

void timer_destroy(struct timer *t)
{
	pthread_cond_destroy(&t->earlier);
	pthread_mutex_destroy(&t->lock);
}

static unsigned slot_earliest(const struct timer *t)
{
	unsigned i, best = 0;

	for (i = 1; i < TIMER_SLOTS_MAX; i++)
		if (t->deadlines_ns[i] < t->deadlines_ns[best])
			best = i;
	return best;
}

/* lock held; returns after a signal or at the deadline. */
static void timer_wait(struct timer *t, uint64_t deadline_ns)
{
	struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
				 .tv_nsec = (long)(deadline_ns % NS_PER_S)};

	t->wake_ns = deadline_ns;
	if (deadline_ns == TIMER_OFF)
		pthread_cond_wait(&t->earlier, &t->lock);
	else
		pthread_cond_timedwait(&t->earlier, &t->lock, &until);
	t->wake_ns = 0; /* awake: it will look at all deadlines before it sleeps again */
}

static void *timer_thread(void *arg)
{
	struct timer *t = arg;

	/* The default slack, 50 us, is half a guest's shortest sleep. */
	prctl(PR_SET_TIMERSLACK, 1000);
	pthread_mutex_lock(&t->lock);
	while (!t->stopping) {
		unsigned slot = slot_earliest(t);
		uint64_t deadline_ns = t->deadlines_ns[slot];

		if (deadline_ns == TIMER_OFF || deadline_ns > clock_now_ns()) {
			timer_wait(t, deadline_ns);
			continue;
		}
		t->deadlines_ns[slot] = TIMER_OFF;
		t->fires++;
		pthread_mutex_unlock(&t->lock);
		t->fire(t->ctx, slot);
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int timer_start(struct timer *t)
{
	int err;

	pthread_mutex_lock(&t->lock);
	err = pthread_create(&t->thread, NULL, timer_thread, t);
	t->thread_running = !err;
	pthread_mutex_unlock(&t->lock);
	if (err)
		return -err;
	pthread_setname_np(t->thread, "timer");
	return 0;
}

void timer_stop(struct timer *t)
{
	if (!t->thread_running) /* written by this caller alone */
		return;
	pthread_mutex_lock(&t->lock);
	t->stopping = true;
	pthread_cond_signal(&t->earlier);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_mutex_lock(&t->lock);
	t->thread_running = false;
	pthread_mutex_unlock(&t->lock);
}

/* lock held. */
static void deadline_set(struct timer *t, unsigned slot, uint64_t deadline_ns)
{
	t->deadlines_ns[slot] = deadline_ns;
	if (deadline_ns < t->wake_ns)
		pthread_cond_signal(&t->earlier);
}

void timer_set(struct timer *t, unsigned slot, uint64_t deadline_ns)
{
	invariant(slot < TIMER_SLOTS_MAX);
	pthread_mutex_lock(&t->lock);
	deadline_set(t, slot, deadline_ns);
	pthread_mutex_unlock(&t->lock);
}

bool timer_set_running(struct timer *t, unsigned slot, uint64_t deadline_ns)
{
	bool running;

	invariant(slot < TIMER_SLOTS_MAX);
	pthread_mutex_lock(&t->lock);
	running = t->thread_running && !t->stopping;
	if (running)
		deadline_set(t, slot, deadline_ns);
	pthread_mutex_unlock(&t->lock);
	return running;
}

uint64_t timer_fires(struct timer *t)
{
	uint64_t fires;

	pthread_mutex_lock(&t->lock);
	fires = t->fires;
	pthread_mutex_unlock(&t->lock);
	return fires;
}
