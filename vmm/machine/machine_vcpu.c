/* SPDX-License-Identifier: Apache-2.0 */
/* One vCPU's thread: takes events and interrupts from its APIC, runs guest code, sleeps at HLT. */
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "vmm/machine/machine_parts.h"

/* A sleeping vCPU is always woken; this only bounds the damage if that were ever wrong. */
#define SLEEP_MAX_S 60
/* A panic's message may come out as late as this after the panic has stopped the other CPUs. */
#define PANIC_LATE_NS (10 * NS_PER_S)

/* ---- what the CPU engine calls: ctx is the machine, vcpu its number ---- */

static struct machine_vcpu *self_vcpu(void *ctx, unsigned id)
{
	struct machine_vcpu *v = machine_vcpu_find(ctx, id);

	invariant(v);
	return v;
}

static void pio_read(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t *value)
{
	struct machine *m = ctx;

	*value = bus_pio_read(&m->bus, vcpu, port, size);
}

static void pio_write(void *ctx, unsigned vcpu, uint16_t port, unsigned size, uint32_t value)
{
	struct machine *m = ctx;

	bus_pio_write(&m->bus, vcpu, port, size, value);
}

static void mmio_read(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t *value)
{
	struct machine *m = ctx;

	*value = bus_mmio_read(&m->bus, vcpu, gpa, size);
}

static void mmio_write(void *ctx, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
	struct machine *m = ctx;

	bus_mmio_write(&m->bus, vcpu, gpa, size, value);
}

static int msr_read(void *ctx, unsigned vcpu, uint32_t msr, uint64_t *value)
{
	return apic_msr_read(&self_vcpu(ctx, vcpu)->apic, msr, value);
}

static int msr_write(void *ctx, unsigned vcpu, uint32_t msr, uint64_t value)
{
	return apic_msr_write(&self_vcpu(ctx, vcpu)->apic, msr, value);
}

static uint64_t cr8_read(void *ctx, unsigned vcpu)
{
	return apic_cr8_read(&self_vcpu(ctx, vcpu)->apic);
}

static void cr8_write(void *ctx, unsigned vcpu, uint64_t value)
{
	apic_cr8_write(&self_vcpu(ctx, vcpu)->apic, value);
}

static int locked(void *ctx, unsigned vcpu, struct locked_access *access)
{
	struct machine *m = ctx;

	(void)vcpu;
	return m->callbacks.locked(m->callbacks.ctx, access);
}

/* ---- life ---- */

int machine_vcpu_create(struct machine *m, struct machine_vcpu *v, const struct machine_config *c)
{
	struct vcpu_config config = {
		.id = v->id,
		.vcpus = m->shape.vcpus,
		.ram = c->ram,
		.ram_end = m->shape.ram_end,
		.bus = {m, pio_read, pio_write, mmio_read, mmio_write, msr_read, msr_write,
			cr8_read, cr8_write},
		.locked = m->callbacks.locked ? locked : NULL,
		.cpuid = cpuid_read,
		.cpuid_ctx = &m->cpuid,
		.tsc_hz = c->tsc_hz,
		.clock = &m->clock,
		.tsc_origin_ns = c->tsc_origin_ns,
		.shared = m->vcpu_shared,
	};
	int err;

	v->m = m;
	err = apic_init(&v->apic, v->id, m->apic_id[v->id], v->id == 0, &m->apic_env);
	if (err)
		return err;
	err = m->ops->create(&config, &v->cpu);
	if (err)
		apic_destroy(&v->apic);
	return err;
}

void machine_vcpu_destroy(struct machine_vcpu *v)
{
	if (!v->cpu)
		return;
	v->m->ops->destroy(v->cpu);
	apic_destroy(&v->apic);
}

struct machine_vcpu *machine_vcpu_find(struct machine *m, unsigned id)
{
	return id - m->first_vcpu < m->vcpus_count ? &m->vcpus[id - m->first_vcpu] : NULL;
}

/* ---- sleeping and waking ---- */

static void futex_sleep(_Atomic uint32_t *word, uint32_t expected, uint64_t until_ns)
{
	const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
				       .tv_nsec = (long)(until_ns % NS_PER_S)};

	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected, &until, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

/*
 * The news (an IRR bit, an event, stopping) was stored before this is called. vcpu_sleep stores
 * where and then looks for news; this counts the wake and then loads where. All are sequentially
 * consistent: either the sleeper sees the news, or we see the sleeper.
 */
void machine_vcpu_kick(struct machine_vcpu *v)
{
	atomic_fetch_add(&v->wakes, 1);
	switch ((enum vcpu_where)atomic_load(&v->where)) {
	case VCPU_OUTSIDE:
		return;
	case VCPU_RUNNING:
		v->m->ops->kick(v->cpu);
		return;
	case VCPU_ASLEEP:
		syscall(SYS_futex, &v->wakes, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		return;
	}
}

/* Whether a vCPU that does not run has a reason to. */
static bool vcpu_due(struct machine_vcpu *v)
{
	if (atomic_load(&v->m->stopping) || apic_events_pending(&v->apic))
		return true;
	if (!atomic_load(&v->started))
		return false;
	return apic_pending(&v->apic) >= 0 && v->m->ops->interrupt_ready(v->cpu);
}

/*
 * Sleeps until it is kicked, or until its own APIC's timer is due: the timer thread would have to be
 * told of the deadline, wake for it and wake us. What has been left of it is the timer thread's again.
 */
static void timed_sleep(struct machine_vcpu *v, uint32_t wakes)
{
	unsigned slot = v->id - v->m->first_vcpu;
	uint64_t deadline_ns = timer_take(&v->m->timer, slot), now_ns = clock_now_ns();
	uint64_t until_ns = now_ns + SLEEP_MAX_S * NS_PER_S;

	if (deadline_ns < until_ns)
		until_ns = deadline_ns;
	if (now_ns < until_ns)
		futex_sleep(&v->wakes, wakes, until_ns);
	if (deadline_ns == TIMER_OFF)
		return;
	if (clock_now_ns() < deadline_ns) {
		timer_set(&v->m->timer, slot, deadline_ns);
		return;
	}
	atomic_fetch_add_explicit(&v->timer_fires, 1, memory_order_relaxed);
	apic_timer_fire(&v->apic);
}

static void vcpu_sleep(struct machine_vcpu *v)
{
	uint32_t wakes = atomic_load(&v->wakes);

	atomic_store(&v->where, VCPU_ASLEEP);
	if (!vcpu_due(v))
		timed_sleep(v, wakes);
	atomic_store(&v->where, VCPU_OUTSIDE);
}

/* ---- events: INIT, SIPI, NMI ---- */

static void window_want(struct machine_vcpu *v, bool wanted)
{
	if (v->window_wanted == wanted)
		return;
	v->window_wanted = wanted;
	v->m->ops->irq_window(v->cpu, wanted);
}

/* INIT leaves these as they are (SDM 3A, table 10-1). */
static void state_keep(struct vcpu_state *to, const struct vcpu_state *from)
{
	to->tsc_offset = from->tsc_offset;
	to->tsc_aux = from->tsc_aux;
	to->misc_enable = from->misc_enable;
	to->pat = from->pat;
	to->star = from->star;
	to->lstar = from->lstar;
	to->cstar = from->cstar;
	to->sfmask = from->sfmask;
	to->kernel_gs_base = from->kernel_gs_base;
	to->sysenter_cs = from->sysenter_cs;
	to->sysenter_esp = from->sysenter_esp;
	to->sysenter_eip = from->sysenter_eip;
	memcpy(to->fxsave, from->fxsave, sizeof(to->fxsave));
	to->xcr0 = from->xcr0;
	memcpy(to->ymm_high, from->ymm_high, sizeof(to->ymm_high));
}

static void vcpu_failed(struct machine_vcpu *v, const char *what, int err)
{
	char sentence[MACHINE_SENTENCE_MAX];

	snprintf(sentence, sizeof(sentence), "vCPU %u: %s: %s", v->id, what, error_text(err));
	machine_end(v->m, EXIT_ERROR, sentence);
}

/* There is no firmware that the boot CPU could go back to: after INIT it waits like the others. */
static void vcpu_init(struct machine_vcpu *v)
{
	atomic_store(&v->started, false);
	atomic_store(&v->halted, false);
	atomic_store(&v->stopped_ns, 0);
	window_want(v, false);
	apic_reset(&v->apic);
}

static void vcpu_sipi(struct machine_vcpu *v, uint8_t vector)
{
	struct vcpu_state old, state;
	int err;

	if (atomic_load(&v->started))
		return; /* only an INIT makes a CPU listen to it */
	v->m->ops->state_get(v->cpu, &old);
	vcpu_state_sipi(&state, vector);
	state_keep(&state, &old);
	err = v->m->ops->state_set(v->cpu, &state);
	if (err) {
		vcpu_failed(v, "start-up IPI", err);
		return;
	}
	atomic_store(&v->started, true);
}

static void vcpu_events(struct machine_vcpu *v)
{
	uint32_t events = apic_events_take(&v->apic);

	if (events & APIC_EVENT_INIT)
		vcpu_init(v);
	if (events & APIC_EVENT_SIPI)
		vcpu_sipi(v, events >> APIC_EVENT_SIPI_SHIFT & 0xff);
	if ((events & APIC_EVENT_NMI) && atomic_load(&v->started)) {
		v->m->ops->nmi(v->cpu);
		atomic_store(&v->halted, false);
	}
}

/* ---- running ---- */

/* Hands the APIC's next interrupt to the CPU, or asks to be told when the CPU can take it. */
static void vcpu_inject(struct machine_vcpu *v)
{
	int vector = apic_pending(&v->apic);

	if (vector < 0) {
		window_want(v, false);
	} else if (v->m->ops->interrupt_ready(v->cpu)) {
		apic_accept(&v->apic, (uint8_t)vector);
		v->m->ops->interrupt(v->cpu, (uint8_t)vector);
		atomic_fetch_add_explicit(&v->interrupts, 1, memory_order_relaxed);
		window_want(v, false);
	} else {
		window_want(v, true);
	}
}

static void vcpu_shutdown(struct machine_vcpu *v)
{
	char sentence[MACHINE_SENTENCE_MAX];
	struct vcpu_state state;

	v->m->ops->state_get(v->cpu, &state);
	snprintf(sentence, sizeof(sentence),
		 "triple fault on vCPU %u (slice %u): rip 0x%llx cr0 0x%llx cr2 0x%llx cr3 0x%llx",
		 v->id, v->m->self, (unsigned long long)state.rip, (unsigned long long)state.cr0,
		 (unsigned long long)state.cr2, (unsigned long long)state.cr3);
	machine_end(v->m, EXIT_TRIPLE_FAULT, sentence);
}

/* A CPU that halts with interrupts off stays so, but for an NMI or INIT. */
static void vcpu_halted(struct machine_vcpu *v)
{
	atomic_fetch_add_explicit(&v->exits_hlt, 1, memory_order_relaxed);
	atomic_store(&v->halted, true);
	if (!v->m->ops->interrupt_ready(v->cpu))
		atomic_store(&v->stopped_ns, clock_now_ns());
}

/*
 * Has a panic ended the guest, without a reset? Its message proves nothing: anybody can print it,
 * and kdump's kernel starts after it, on one CPU while the others stand halted. So either every CPU
 * of the VM has stopped, or the kernel has said that it gives up and all but the one CPU that
 * waits in its panic() have. CPUs that stopped before the panic (taken offline) say nothing.
 * Of CPUs on other slices nothing is known here: with them only the second can be.
 */
static bool panic_has_ended(const struct machine *m)
{
	bool final, all_here = m->vcpus_count == m->shape.vcpus;
	uint64_t panic_ns = power_panic(&m->devices->power, &final);
	unsigned stopped = 0, running = 0;

	if (!panic_ns || (!final && !all_here))
		return false;
	for (unsigned i = 0; i < m->vcpus_count; i++) {
		uint64_t stopped_ns = atomic_load(&m->vcpus[i].stopped_ns);

		if (!atomic_load(&m->vcpus[i].started))
			continue;
		running += stopped_ns == 0;
		stopped += stopped_ns && stopped_ns + PANIC_LATE_NS >= panic_ns;
	}
	return stopped && (final ? running <= 1 : running == 0);
}

static void panic_look(struct machine *m)
{
	char text[POWER_LINE_MAX + 1];

	if (m->devices && panic_has_ended(m) &&
	    power_panicked(&m->devices->power, text, sizeof(text)))
		machine_end(m, EXIT_PANIC, text);
}

static void vcpu_exited(struct machine_vcpu *v, const struct vcpu_exit *exit)
{
	switch (exit->reason) {
	case VCPU_EXIT_KICKED:
		atomic_fetch_add_explicit(&v->exits_kicked, 1, memory_order_relaxed);
		return;
	case VCPU_EXIT_HLT:
		vcpu_halted(v);
		return;
	case VCPU_EXIT_IRQ_WINDOW:
		window_want(v, false);
		atomic_fetch_add_explicit(&v->exits_irq_window, 1, memory_order_relaxed);
		return;
	case VCPU_EXIT_SHUTDOWN:
		vcpu_shutdown(v);
		return;
	case VCPU_EXIT_ERROR:
		vcpu_failed(v, "the CPU engine failed", exit->error);
		return;
	}
}

/* One round: either runs guest code once, or sleeps until there is a reason to look again. */
static void vcpu_round(struct machine_vcpu *v)
{
	struct vcpu_exit exit = {.reason = VCPU_EXIT_KICKED};

	vcpu_events(v);
	panic_look(v->m);
	if (!atomic_load(&v->started) || (atomic_load(&v->halted) && !vcpu_due(v))) {
		vcpu_sleep(v);
		return;
	}
	/* From here on a kick reaches ops->run, which remembers it; so nothing can be missed. */
	atomic_store(&v->where, VCPU_RUNNING);
	if (!atomic_load(&v->m->stopping) && !apic_events_pending(&v->apic)) {
		atomic_store(&v->halted, false);
		atomic_store(&v->stopped_ns, 0);
		vcpu_inject(v);
		v->m->ops->run(v->cpu, &exit);
	}
	atomic_store(&v->where, VCPU_OUTSIDE);
	if (!atomic_load(&v->m->stopping))
		vcpu_exited(v, &exit);
}

void *machine_vcpu_thread(void *arg)
{
	struct machine_vcpu *v = arg;
	struct machine *m = v->m;

	/* The default slack, 50 us, is half a guest's shortest sleep. */
	prctl(PR_SET_TIMERSLACK, 1000);
	atomic_store(&m->vcpu_tid[v - m->vcpus], (uint32_t)syscall(SYS_gettid));
	while (!atomic_load(&m->stopping))
		vcpu_round(v);
	machine_thread_gone(m);
	return NULL;
}
