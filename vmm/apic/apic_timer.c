/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC's timer: one-shot and periodic, counting crystal ticks divided (SDM 3A 11.5.4). */
#include <assert.h>

#include "vmm/apic/apic_parts.h"

#include "base/clock.h"
#include "vmm/boot/layout.h"

#define CRYSTAL_TICK_NS (NS_PER_S / LAYOUT_CRYSTAL_HZ)
static_assert(NS_PER_S % LAYOUT_CRYSTAL_HZ == 0, "a tick is a whole number of nanoseconds");

/* A guest may not keep the host's timer thread busy with a period shorter than this. */
#define PERIOD_MIN_NS 100000u

/* The divisor's exponent: bits 3, 1, 0 of the register; 111 means 1. */
static unsigned divide_shift(uint32_t divide)
{
	return (((divide & 3) | (divide & 8) >> 1) + 1) & 7;
}

static uint64_t tick_ns(const struct apic *a)
{
	return CRYSTAL_TICK_NS << divide_shift(a->timer_divide);
}

static bool periodic(const struct apic *a)
{
	return atomic_load(&a->lvt[0]) & APIC_LVT_PERIODIC;
}

static uint64_t period_ns(const struct apic *a)
{
	uint64_t period = a->timer_initial * tick_ns(a);

	return period < PERIOD_MIN_NS ? PERIOD_MIN_NS : period;
}

static void arm(struct apic *a, uint64_t deadline_ns)
{
	a->timer_armed = deadline_ns != APIC_TIMER_OFF;
	a->timer_deadline_ns = deadline_ns;
	a->env->timer(a->env->ctx, a->vcpu, deadline_ns);
}

/* timer_lock held. */
static uint32_t current_count(const struct apic *a, uint64_t now_ns)
{
	uint64_t tick = tick_ns(a);

	if (!a->timer_armed)
		return 0;
	if (now_ns < a->timer_deadline_ns)
		return (uint32_t)((a->timer_deadline_ns - now_ns + tick - 1) / tick);
	/* Expired, but the timer thread has not come to it yet. */
	if (!periodic(a))
		return 0;
	return a->timer_initial -
	       (uint32_t)((now_ns - a->timer_deadline_ns) / tick % a->timer_initial);
}

void apic_timer_reset(struct apic *a)
{
	pthread_mutex_lock(&a->timer_lock);
	a->timer_initial = 0;
	a->timer_divide = 0;
	if (a->timer_armed)
		arm(a, APIC_TIMER_OFF);
	pthread_mutex_unlock(&a->timer_lock);
}

void apic_timer_initial_write(struct apic *a, uint32_t count)
{
	uint64_t now = a->env->now_ns(a->env->ctx);

	pthread_mutex_lock(&a->timer_lock);
	a->timer_initial = count;
	if (count)
		arm(a, now + count * tick_ns(a));
	else if (a->timer_armed)
		arm(a, APIC_TIMER_OFF);
	pthread_mutex_unlock(&a->timer_lock);
}

static uint32_t register_read(struct apic *a, const uint32_t *value_at)
{
	uint32_t value;

	pthread_mutex_lock(&a->timer_lock);
	value = *value_at;
	pthread_mutex_unlock(&a->timer_lock);
	return value;
}

uint32_t apic_timer_initial_read(struct apic *a)
{
	return register_read(a, &a->timer_initial);
}

uint32_t apic_timer_current(struct apic *a)
{
	uint64_t now = a->env->now_ns(a->env->ctx);
	uint32_t count;

	pthread_mutex_lock(&a->timer_lock);
	count = current_count(a, now);
	pthread_mutex_unlock(&a->timer_lock);
	return count;
}

/* What is left of the count goes on at the new rate. */
void apic_timer_divide_write(struct apic *a, uint32_t divide)
{
	uint64_t now = a->env->now_ns(a->env->ctx);
	uint32_t left;

	pthread_mutex_lock(&a->timer_lock);
	left = current_count(a, now);
	a->timer_divide = divide;
	if (left)
		arm(a, now + left * tick_ns(a));
	pthread_mutex_unlock(&a->timer_lock);
}

uint32_t apic_timer_divide_read(struct apic *a)
{
	return register_read(a, &a->timer_divide);
}

void apic_timer_fire(struct apic *a)
{
	uint64_t now = a->env->now_ns(a->env->ctx), period;
	uint32_t lvt = atomic_load(&a->lvt[0]);
	bool due;

	pthread_mutex_lock(&a->timer_lock);
	/* The guest may have written the count since this was asked for. */
	due = a->timer_armed && now >= a->timer_deadline_ns;
	if (due && periodic(a)) {
		/* Periods that were missed are one interrupt, as on hardware. */
		period = period_ns(a);
		arm(a, a->timer_deadline_ns + ((now - a->timer_deadline_ns) / period + 1) * period);
	} else if (due) {
		a->timer_armed = false;
	} else if (a->timer_armed) {
		arm(a, a->timer_deadline_ns);
	}
	pthread_mutex_unlock(&a->timer_lock);
	if (due && !(lvt & APIC_LVT_MASKED))
		apic_post(a, lvt & 0xff, false);
}
