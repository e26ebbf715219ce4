/* SPDX-License-Identifier: Apache-2.0 */
/* A local APIC in x2APIC mode: pending and served interrupts, IPIs, and its timer. */
#ifndef VMM_APIC_H
#define VMM_APIC_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/cpu/msr.h"
#include "vmm/machine/machine_msg.h"

#define APIC_BASE_BSP	  (1u << 8)
#define APIC_BASE_EXTD	  (1u << 10)
#define APIC_BASE_ENABLE  (1u << 11)
#define APIC_VECTOR_FIRST 16u /* 0..15 are illegal */

/* Registers, as offsets from MSR 0x800 (SDM 3A, table 11-6). */
enum apic_register {
	APIC_ID = 0x02,
	APIC_VERSION = 0x03,
	APIC_TPR = 0x08,
	APIC_PPR = 0x0a,
	APIC_EOI = 0x0b,
	APIC_LDR = 0x0d,
	APIC_SVR = 0x0f,
	APIC_ISR = 0x10, /* eight each */
	APIC_TMR = 0x18,
	APIC_IRR = 0x20,
	APIC_ESR = 0x28,
	APIC_ICR = 0x30,
	APIC_LVT_TIMER = 0x32,
	APIC_LVT_THERMAL = 0x33,
	APIC_LVT_PERF = 0x34,
	APIC_LVT_LINT0 = 0x35,
	APIC_LVT_LINT1 = 0x36,
	APIC_LVT_ERROR = 0x37,
	APIC_TIMER_INITIAL = 0x38,
	APIC_TIMER_CURRENT = 0x39,
	APIC_TIMER_DIVIDE = 0x3e,
	APIC_SELF_IPI = 0x3f
};
#define APIC_LVTS 6u

#define APIC_SVR_ENABLE	  (1u << 8)
#define APIC_LVT_MASKED	  (1u << 16)
#define APIC_LVT_PERIODIC (1u << 17)

#define APIC_ESR_SEND_ILLEGAL (1u << 5)
#define APIC_ESR_RECV_ILLEGAL (1u << 6)

/* Events beside interrupts, taken by apic_events_take; SIPI's vector is in bits 8..15. */
#define APIC_EVENT_NMI	      1u
#define APIC_EVENT_INIT	      2u
#define APIC_EVENT_SIPI	      4u
#define APIC_EVENT_SIPI_SHIFT 8u

/* No deadline: apic_env.timer is to disarm. */
#define APIC_TIMER_OFF UINT64_MAX

/* What the APIC needs of the machine. kick may come from any thread, the others from the vCPU's
 * (timer: from the timer thread too). None may call back into the APIC, kick excepted. */
struct apic_env {
	void *ctx;
	uint64_t (*now_ns)(void *ctx);
	/* There is something new for this vCPU: an interrupt or an event. */
	void (*kick)(void *ctx, unsigned vcpu);
	/* The vCPU sends an interrupt; ipi->dest may well be itself. */
	void (*ipi)(void *ctx, unsigned vcpu, const struct ipi *ipi);
	/* A level-triggered interrupt was ended. */
	void (*eoi)(void *ctx, unsigned vcpu, uint8_t vector);
	/* apic_timer_fire is wanted at deadline_ns; replaces any earlier wish. */
	void (*timer)(void *ctx, unsigned vcpu, uint64_t deadline_ns);
};

struct apic {
	/* constant */
	const struct apic_env *env;
	unsigned vcpu; /* as env's functions get it */
	uint32_t id;   /* x2APIC id */
	bool bsp;
	/* any thread */
	_Atomic uint64_t irr[4], tmr[4];
	_Atomic uint32_t events;
	_Atomic uint32_t svr, lvt[APIC_LVTS]; /* written by the vCPU's thread alone */
	_Atomic uint32_t esr_pending;
	/* the vCPU's thread */
	uint64_t isr[4];
	uint32_t tpr, esr;
	uint64_t icr;
	/* timer_lock */
	pthread_mutex_t timer_lock;
	uint32_t timer_initial, timer_divide;
	bool timer_armed;
	uint64_t timer_deadline_ns;
};

/* In the state after reset: x2APIC mode, software-disabled, all LVTs masked. env must outlive it.
 */
int apic_init(struct apic *a, unsigned vcpu, uint32_t id, bool bsp, const struct apic_env *env);
void apic_destroy(struct apic *a);
/* INIT: all but the id and the mode goes back to the reset state. vCPU thread. */
void apic_reset(struct apic *a);

/* Whether the APIC with this id is meant by the interrupt. Any thread. */
bool apic_matches(uint32_t id, const struct ipi *ipi);
/* The logical x2APIC id (SDM 3A 11.12.10.2): cluster id >> 4, bit id & 15. */
uint32_t apic_logical_id(uint32_t id);
/* Delivers an interrupt that is meant for this APIC, and kicks the vCPU if it is news. Any
 * thread; lock-free. A software-disabled APIC takes only NMI, INIT and SIPI. */
void apic_deliver(struct apic *a, const struct ipi *ipi);

/* Adds an NMI, INIT or SIPI to a word of events as an APIC keeps them; others change nothing. Any
 * thread. */
void apic_events_add(_Atomic uint32_t *events, const struct ipi *ipi);

/* The events since the last call, all at once; INIT comes before SIPI. vCPU thread. */
uint32_t apic_events_take(struct apic *a);
/* Whether apic_events_take would give something; any thread. */
bool apic_events_pending(const struct apic *a);

/* The vector to inject next, or -1: the highest requested one above the processor priority. vCPU
 * thread. */
int apic_pending(const struct apic *a);
/* The interrupt is being injected: IRR -> ISR. vCPU thread; vector is what apic_pending gave. */
void apic_accept(struct apic *a, uint8_t vector);

/* APIC_BASE and 0x800..0x8ff. 0, or -EINVAL for #GP. vCPU thread. */
int apic_msr_read(struct apic *a, uint32_t msr, uint64_t *value);
int apic_msr_write(struct apic *a, uint32_t msr, uint64_t value);
uint64_t apic_cr8_read(const struct apic *a);
void apic_cr8_write(struct apic *a, uint64_t value);

/* The timer thread, or the vCPU's while it sleeps: the deadline asked for has passed, perhaps. */
void apic_timer_fire(struct apic *a);

#endif
