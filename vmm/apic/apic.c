/* SPDX-License-Identifier: Apache-2.0 */
/* The local APIC's interrupts: requests, priorities, service, and delivery from any thread. */
#include "vmm/apic/apic.h"

#include <errno.h>
#include <string.h>

#include "base/lock.h"
#include "base/log.h"
#include "vmm/apic/apic_parts.h"

int apic_init(struct apic *a, unsigned vcpu, uint32_t id, bool bsp, const struct apic_env *env)
{
	int err;

	memset(a, 0, sizeof(*a));
	a->vcpu = vcpu;
	a->id = id;
	a->bsp = bsp;
	a->env = env;
	err = lock_init(&a->timer_lock);
	if (err)
		return err;
	apic_reset(a);
	return 0;
}

void apic_destroy(struct apic *a)
{
	pthread_mutex_destroy(&a->timer_lock);
}

void apic_reset(struct apic *a)
{
	unsigned i;

	for (i = 0; i < 4; i++) {
		atomic_store(&a->irr[i], 0);
		atomic_store(&a->tmr[i], 0);
		a->isr[i] = 0;
	}
	for (i = 0; i < APIC_LVTS; i++)
		atomic_store(&a->lvt[i], APIC_LVT_MASKED);
	atomic_store(&a->svr, 0xff);
	atomic_store(&a->esr_pending, 0);
	a->tpr = 0;
	a->esr = 0;
	a->icr = 0;
	apic_timer_reset(a);
}

uint32_t apic_logical_id(uint32_t id)
{
	return (id >> 4) << 16 | 1u << (id & 15);
}

bool apic_matches(uint32_t id, const struct ipi *ipi)
{
	uint32_t logical;

	if (id == ipi->exclude)
		return false;
	if (ipi->dest == IPI_BROADCAST)
		return true;
	if (!ipi->logical)
		return ipi->dest == id;
	logical = apic_logical_id(id);
	return ipi->dest >> 16 == logical >> 16 && (ipi->dest & logical & 0xffff);
}

/* ---- IRR, ISR, priorities ---- */

static int bits_highest(const uint64_t words[4])
{
	int i;

	for (i = 3; i >= 0; i--)
		if (words[i])
			return i * 64 + 63 - __builtin_clzll(words[i]);
	return -1;
}

static int irr_highest(const struct apic *a)
{
	uint64_t words[4];
	unsigned i;

	for (i = 0; i < 4; i++)
		words[i] = atomic_load(&a->irr[i]);
	return bits_highest(words);
}

/* SDM 3A 11.8.3.1: the task priority, or the class of what is in service if that is higher. */
uint32_t apic_ppr(const struct apic *a)
{
	int served = bits_highest(a->isr);
	uint32_t class_served = served < 0 ? 0 : (uint32_t)served & 0xf0;

	return (a->tpr & 0xf0) >= class_served ? a->tpr : class_served;
}

int apic_pending(const struct apic *a)
{
	int vector = irr_highest(a);

	if (vector < 0 || ((uint32_t)vector & 0xf0) <= (apic_ppr(a) & 0xf0))
		return -1;
	return vector;
}

void apic_accept(struct apic *a, uint8_t vector)
{
	uint64_t bit = UINT64_C(1) << (vector & 63);

	atomic_fetch_and(&a->irr[vector >> 6], ~bit);
	a->isr[vector >> 6] |= bit;
}

/* The processor priority fell: something that waited may now be due. */
void apic_recheck(struct apic *a)
{
	if (apic_pending(a) >= 0)
		a->env->kick(a->env->ctx, a->vcpu);
}

void apic_eoi(struct apic *a)
{
	int vector = bits_highest(a->isr);

	if (vector < 0)
		return;
	a->isr[vector >> 6] &= ~(UINT64_C(1) << (vector & 63));
	if (atomic_load(&a->tmr[vector >> 6]) >> (vector & 63) & 1)
		a->env->eoi(a->env->ctx, a->vcpu, (uint8_t)vector);
	apic_recheck(a);
}

/* ---- delivery ---- */

void apic_post(struct apic *a, uint8_t vector, bool level)
{
	uint64_t bit = UINT64_C(1) << (vector & 63);

	if (!(atomic_load(&a->svr) & APIC_SVR_ENABLE))
		return;
	if (vector < APIC_VECTOR_FIRST) {
		apic_error(a, APIC_ESR_RECV_ILLEGAL);
		return;
	}
	/* The trigger mode first: whoever sees the request must see its mode. */
	if (level)
		atomic_fetch_or(&a->tmr[vector >> 6], bit);
	else
		atomic_fetch_and(&a->tmr[vector >> 6], ~bit);
	/* If it was requested already, that request's kick is on its way or was not needed. */
	if (!(atomic_fetch_or(&a->irr[vector >> 6], bit) & bit))
		a->env->kick(a->env->ctx, a->vcpu);
}

void apic_error(struct apic *a, uint32_t bit)
{
	uint32_t lvt = atomic_load(&a->lvt[APIC_LVT_ERROR - APIC_LVT_TIMER]);

	if (atomic_fetch_or(&a->esr_pending, bit) & bit)
		return;
	if (!(lvt & APIC_LVT_MASKED) && (lvt & 0xff) >= APIC_VECTOR_FIRST)
		apic_post(a, lvt & 0xff, false);
}

static void events_change(_Atomic uint32_t *events, uint32_t clear, uint32_t set)
{
	uint32_t old = atomic_load(events);

	while (!atomic_compare_exchange_weak(events, &old, (old & ~clear) | set))
		;
}

void apic_events_add(_Atomic uint32_t *events, const struct ipi *ipi)
{
	uint32_t sipi_vector = 0xffu << APIC_EVENT_SIPI_SHIFT;

	if (ipi->delivery == IPI_NMI)
		events_change(events, 0, APIC_EVENT_NMI);
	else if (ipi->delivery == IPI_INIT) /* a start-up IPI from before is void */
		events_change(events, APIC_EVENT_SIPI | sipi_vector, APIC_EVENT_INIT);
	else if (ipi->delivery == IPI_SIPI)
		events_change(events, sipi_vector,
			      APIC_EVENT_SIPI | (uint32_t)ipi->vector << APIC_EVENT_SIPI_SHIFT);
}

void apic_deliver(struct apic *a, const struct ipi *ipi)
{
	switch ((enum ipi_delivery)ipi->delivery) {
	case IPI_FIXED:
	case IPI_LOWEST:
		apic_post(a, ipi->vector, ipi->level);
		return;
	case IPI_NMI:
	case IPI_INIT:
	case IPI_SIPI:
		apic_events_add(&a->events, ipi);
		a->env->kick(a->env->ctx, a->vcpu);
		return;
	}
	/* ipi_decode and the ICR's check let nothing else through. */
	invariant(!"a delivery mode that exists");
}

uint32_t apic_events_take(struct apic *a)
{
	return atomic_load(&a->events) ? atomic_exchange(&a->events, 0) : 0;
}

bool apic_events_pending(const struct apic *a)
{
	return atomic_load(&a->events) != 0;
}
