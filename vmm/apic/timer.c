/* SPDX-License-Identifier: Apache-2.0 */
/* The timer thread. It wakes for a deadline or for an earlier one, never to look around. */
#include "vmm/apic/timer.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

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
	t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (t->fd < 0)
		return -errno;
	err = lock_init(&t->lock);
	if (err)
		close(t->fd);
	return err;
}

void timer_destroy(struct timer *t)
{
	close(t->fd);
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

/* lock held. A deadline that has passed makes fd readable at once; 0 would disarm it. */
static void wake_set(struct timer *t, uint64_t wake_ns)
{
	bool off = wake_ns == TIMER_OFF;
	struct itimerspec when = {.it_value = {.tv_sec = off ? 0 : (time_t)(wake_ns / NS_PER_S),
					       .tv_nsec = off ? 0 : (long)(wake_ns % NS_PER_S)}};

	if (!off && wake_ns == 0)
		when.it_value.tv_nsec = 1;
	t->wake_ns = wake_ns;
	invariant(timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

/* lock held; returns at the deadline, or at one that was set meanwhile. */
static void timer_wait(struct timer *t, uint64_t deadline_ns)
{
	uint64_t times;
	ssize_t n;

	wake_set(t, deadline_ns);
	pthread_mutex_unlock(&t->lock);
	do {
		n = read(t->fd, &times, sizeof(times));
	} while (n < 0 && errno == EINTR);
	invariant(n == sizeof(times));
	pthread_mutex_lock(&t->lock);
	t->wake_ns = 0;
}

static void *timer_thread(void *arg)
{
	struct timer *t = arg;

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
	wake_set(t, 1);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_mutex_lock(&t->lock);
	t->thread_running = false;
	pthread_mutex_unlock(&t->lock);
}

/* lock held. An awake thread looks at all slots before it sleeps. */
static void deadline_set(struct timer *t, unsigned slot, uint64_t deadline_ns)
{
	t->deadlines_ns[slot] = deadline_ns;
	if (deadline_ns < t->wake_ns)
		wake_set(t, deadline_ns);
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

uint64_t timer_take(struct timer *t, unsigned slot)
{
	uint64_t deadline_ns;

	invariant(slot < TIMER_SLOTS_MAX);
	pthread_mutex_lock(&t->lock);
	deadline_ns = t->deadlines_ns[slot];
	t->deadlines_ns[slot] = TIMER_OFF;
	/* The thread would wake for nothing. */
	if (deadline_ns != TIMER_OFF && t->wake_ns == deadline_ns && !t->stopping)
		wake_set(t, t->deadlines_ns[slot_earliest(t)]);
	pthread_mutex_unlock(&t->lock);
	return deadline_ns;
}

uint64_t timer_fires(struct timer *t)
{
	uint64_t fires;

	pthread_mutex_lock(&t->lock);
	fires = t->fires;
	pthread_mutex_unlock(&t->lock);
	return fires;
}
