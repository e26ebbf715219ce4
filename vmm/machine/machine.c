/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a slice's machine: made, started, ended once, stopped, unmade. */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/machine_parts.h"

/* A slower TSC would make Linux's delays coarse; a faster one overflows CPUID 0x15's ratio. */
#define TSC_HZ_MIN UINT64_C(1000000)
#define TSC_HZ_MAX UINT64_C(10000000000)

/* ---- create and destroy ---- */

static bool config_valid(const struct machine_config *c)
{
	const struct vm_shape *shape = c->shape;
	unsigned i, next = 0;

	if (!shape || !c->vcpu_ops || !c->callbacks.on_exit || !c->callbacks.on_console)
		return false;
	if (!shape->slices || shape->slices > SLICES_MAX || c->self >= shape->slices)
		return false;
	if (shape->slices > 1 && (!c->callbacks.post || !c->callbacks.ring))
		return false;
	if (shape->apic_shift > SHAPE_APIC_SHIFT_MAX)
		return false;
	if (!shape->vcpus || shape->vcpus > VCPUS_MAX || !shape->slice[0].vcpus)
		return false;
	for (i = 0; i < shape->slices; i++) {
		if (shape->slice[i].vcpus && shape->slice[i].first_vcpu != next)
			return false;
		if (shape->slice[i].vcpus > shape->vcpus - next ||
		    shape->slice[i].vcpus > 1u << shape->apic_shift)
			return false;
		next += shape->slice[i].vcpus;
	}
	if (c->devices_count > (shape_has_bridge(shape, c->self) ? MACHINE_DEVICES_MAX : 0))
		return false;
	return next == shape->vcpus && c->tsc_hz >= TSC_HZ_MIN && c->tsc_hz <= TSC_HZ_MAX;
}

static void timer_fired(void *ctx, unsigned slot)
{
	struct machine *m = ctx;

	if (slot == MACHINE_SERIAL_SLOT) {
		serial_refill(&m->devices->serial);
		return;
	}
	if (slot == MACHINE_CMOS_SLOT) {
		cmos_wake(&m->devices->cmos);
		return;
	}
	if (slot != MACHINE_TIMER_SLOT) {
		apic_timer_fire(&m->vcpus[slot].apic);
		return;
	}
	machine_post_failed(m);
	machine_end_finish(m);
}

static int remote_post(void *ctx, unsigned slice, const struct wire_msg *msg)
{
	return machine_post(ctx, slice, msg, NULL);
}

static void remote_failed(void *ctx, int err, const char *sentence)
{
	(void)err;
	machine_end(ctx, EXIT_ERROR, sentence);
}

static int vcpus_create(struct machine *m, const struct machine_config *c)
{
	unsigned i;
	int err = 0;

	m->vcpus = calloc(m->vcpus_count + 1, sizeof(*m->vcpus));
	if (!m->vcpus)
		return -ENOMEM;
	if (m->ops->shared_create)
		err = m->ops->shared_create(c->ram, m->shape.ram_end, &m->vcpu_shared);
	if (err)
		goto fail_vcpus;
	err = machine_images_attach(m);
	if (err)
		goto fail_shared;
	for (i = 0; i < m->vcpus_count; i++) {
		m->vcpus[i].id = m->first_vcpu + i;
		err = machine_vcpu_create(m, &m->vcpus[i], c);
		if (err)
			goto fail_created;
	}
	return 0;
fail_created:
	while (i--)
		machine_vcpu_destroy(&m->vcpus[i]);
fail_shared:
	if (m->ops->shared_destroy)
		m->ops->shared_destroy(m->vcpu_shared);
fail_vcpus:
	free(m->vcpus);
	return err;
}

static void vcpus_destroy(struct machine *m)
{
	unsigned i;

	for (i = 0; i < m->vcpus_count; i++)
		machine_vcpu_destroy(&m->vcpus[i]);
	if (m->ops->shared_destroy)
		m->ops->shared_destroy(m->vcpu_shared);
	free(m->vcpus);
}

void machine_page_changed(struct machine *m, uint64_t gfn)
{
	if (m->ops->memory_changed)
		m->ops->memory_changed(m->vcpu_shared, gfn << PAGE_SHIFT, PANGEA_PAGE_SIZE);
}

void machine_faulted(struct machine *m, uint32_t tid, uint64_t now_ns)
{
	uint64_t address;

	if (!m->ops->place || !tid)
		return;
	for (unsigned i = 0; i < m->vcpus_count; i++) {
		if (atomic_load_explicit(&m->vcpu_tid[i], memory_order_relaxed) != tid)
			continue;
		address = m->ops->place(m->vcpus[i].cpu);
		if (address)
			fault_places_add(&m->fault_places, address, now_ns);
		return;
	}
}

void machine_fault_places(const struct machine *m, struct fault_places_list *out)
{
	fault_places_list(&m->fault_places, clock_now_ns(), out);
}

static int threads_init(struct machine *m)
{
	int err = lock_init(&m->threads_lock);

	if (err)
		return err;
	err = lock_cond_init(&m->threads_gone);
	if (err)
		pthread_mutex_destroy(&m->threads_lock);
	return err;
}

static void threads_destroy(struct machine *m)
{
	pthread_cond_destroy(&m->threads_gone);
	pthread_mutex_destroy(&m->threads_lock);
}

/* How many writes a vCPU may have on their way to each slice that serves any. */
static unsigned posted_share(const struct machine *m)
{
	unsigned doors = 0;

	for (unsigned i = 0; i < m->shape.slices; i++)
		doors += i != m->self && shape_has_bridge(&m->shape, i);
	if (doors >= REMOTE_IO_POSTED_MAX)
		return 1;
	return REMOTE_IO_POSTED_MAX / (doors ? doors : 1);
}

/* The devices that are here, and the way to those of other slices. Takes c's devices over, come what may. */
static int io_create(struct machine *m, const struct machine_config *c)
{
	int err;

	m->remote.timeout_ms = REMOTE_IO_TIMEOUT_MS;
	m->remote.posted_max = posted_share(m);
	m->remote.ctx = m;
	m->remote.post = remote_post;
	m->remote.failed = remote_failed;
	err = remote_io_init(&m->remote, m->first_vcpu, m->vcpus_count);
	if (err)
		goto fail_drop;
	err = m->self == 0 ? machine_devices_create(m) : 0;
	if (err)
		goto fail_remote;
	err = shape_has_bridge(&m->shape, m->self) ? machine_pci_create(m, c) : 0;
	if (!err)
		return 0;
	machine_devices_destroy(m);
	remote_io_destroy(&m->remote);
	return err;
fail_remote:
	remote_io_destroy(&m->remote);
fail_drop:
	machine_pci_drop(c, 0);
	return err;
}

static void io_destroy(struct machine *m)
{
	machine_pci_destroy(m);
	machine_devices_destroy(m);
	remote_io_destroy(&m->remote);
}

static void machine_fill(struct machine *m, const struct machine_config *c)
{
	unsigned i, j;

	m->shape = *c->shape;
	m->self = c->self;
	m->ops = c->vcpu_ops;
	m->callbacks = c->callbacks;
	m->debug_exit = c->debug_exit;
	m->cpuid.shape = &m->shape;
	m->cpuid.tsc_hz = c->tsc_hz;
	m->cpuid.vendor = c->vendor;
	m->cpuid.features = c->features;
	m->vcpus_count = m->shape.slice[m->self].vcpus;
	m->first_vcpu = m->vcpus_count ? m->shape.slice[m->self].first_vcpu : 0;
	for (i = 0; i < m->shape.slices; i++)
		for (j = 0; j < m->shape.slice[i].vcpus; j++)
			m->slice_of[m->shape.slice[i].first_vcpu + j] = (uint8_t)i;
	for (i = 0; i < m->shape.vcpus; i++)
		m->apic_id[i] = shape_apic_id(&m->shape, i);
	machine_apic_env(m, &m->apic_env);
}

/* All but the machine's own memory; the configuration's devices are taken over or destroyed. */
static int machine_make(struct machine *m, const struct machine_config *config)
{
	int err = threads_init(m);

	if (err)
		goto fail_drop;
	err = machine_clock_create(m, config);
	if (err)
		goto fail_threads;
	err = timer_init(&m->timer, timer_fired, m);
	if (err)
		goto fail_clock;
	err = io_create(m, config);
	if (err)
		goto fail_io_create;
	err = machine_devices_attach(m);
	if (err)
		goto fail_io;
	err = vcpus_create(m, config);
	if (err)
		goto fail_io;
	return 0;
fail_io:
	io_destroy(m);
fail_io_create:
	timer_destroy(&m->timer);
	machine_clock_destroy(m);
	threads_destroy(m);
	return err;
fail_clock:
	machine_clock_destroy(m);
fail_threads:
	threads_destroy(m);
fail_drop:
	machine_pci_drop(config, 0);
	return err;
}

int machine_create(const struct machine_config *config, struct machine **out)
{
	struct machine *m = NULL;
	int err = -EINVAL;

	if (config_valid(config)) {
		m = calloc(1, sizeof(*m));
		err = m ? 0 : -ENOMEM;
	}
	if (m) {
		machine_fill(m, config);
		if (m->shape.slices > 1 && !(m->pending = calloc(1, sizeof(*m->pending))))
			err = -ENOMEM;
	}
	if (err)
		machine_pci_drop(config, 0);
	else
		err = machine_make(m, config);
	if (err) {
		if (m)
			free(m->pending);
		free(m);
		return err;
	}
	*out = m;
	return 0;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	invariant(!m->threads);
	vcpus_destroy(m);
	io_destroy(m);
	timer_destroy(&m->timer);
	machine_clock_destroy(m);
	threads_destroy(m);
	free(m->pending);
	free(m);
}

/* ---- start ---- */

int machine_start_bsp(struct machine *m, const struct vcpu_state *state)
{
	int err;

	if (m->self != 0 || m->started)
		return -EINVAL;
	err = m->ops->state_set(m->vcpus[0].cpu, state);
	if (!err)
		atomic_store(&m->vcpus[0].started, true);
	return err;
}

void machine_thread_new(struct machine *m)
{
	pthread_mutex_lock(&m->threads_lock);
	m->threads++;
	pthread_mutex_unlock(&m->threads_lock);
}

void machine_thread_gone(struct machine *m)
{
	pthread_mutex_lock(&m->threads_lock);
	m->threads--;
	pthread_cond_signal(&m->threads_gone);
	pthread_mutex_unlock(&m->threads_lock);
}

static int vcpu_thread_start(struct machine *m, struct machine_vcpu *v)
{
	char name[16];
	int err;

	machine_thread_new(m);
	err = pthread_create(&v->thread, NULL, machine_vcpu_thread, v);
	if (err) {
		machine_thread_gone(m);
		return -err;
	}
	v->thread_running = true;
	snprintf(name, sizeof(name), "vcpu %u", v->id);
	pthread_setname_np(v->thread, name);
	return 0;
}

static int threads_start(struct machine *m)
{
	unsigned i;
	int err = timer_start(&m->timer);

	if (!err && m->devices)
		err = serial_output_start(&m->devices->serial);
	if (!err)
		err = machine_pci_start(m);
	for (i = 0; i < m->vcpus_count && !err; i++)
		err = vcpu_thread_start(m, &m->vcpus[i]);
	return err;
}

int machine_start(struct machine *m)
{
	sigset_t all, old;
	int err;

	if (m->started)
		return -EALREADY;
	m->started = true;
	machine_clock_start(m);
	/* Asynchronous signals are for the main thread; the threads inherit the mask. Those that
	 * a fault raises must stay deliverable. */
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = threads_start(m);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

/* ---- end and stop ---- */

void machine_halt(struct machine *m)
{
	unsigned i;

	atomic_store(&m->stopping, true);
	remote_io_abort(&m->remote);
	machine_pci_halt(m);
	for (i = 0; i < m->vcpus_count; i++)
		machine_vcpu_kick(&m->vcpus[i]);
}

/* Slices other than 0 tell slice 0, which tells everybody. A peer that cannot be told is gone. */
static void others_tell(struct machine *m, enum exit_code reason, const char *sentence)
{
	struct wire_msg msg;
	unsigned slice;

	end_encode(reason, sentence, &msg);
	for (slice = 0; slice < m->shape.slices; slice++)
		if (slice != m->self && (m->self == 0 || slice == 0))
			m->callbacks.post(m->callbacks.ctx, slice, &msg, sentence);
}

void machine_ended(struct machine *m, enum exit_code reason, const char *sentence, bool tell)
{
	char panic[POWER_LINE_MAX + 1];

	if (atomic_exchange(&m->ended, true))
		return;
	/* Some kernels reset by triple fault; after a panic message that is a panic as well. */
	if (reason == EXIT_TRIPLE_FAULT && m->devices &&
	    power_panicked(&m->devices->power, panic, sizeof(panic))) {
		reason = EXIT_PANIC;
		sentence = panic;
	}
	machine_halt(m);
	if (tell)
		others_tell(m, reason, sentence);
	m->end_reason = reason;
	snprintf(m->end_sentence, sizeof(m->end_sentence), "%s", sentence);
	atomic_store(&m->end_waits, true);
	/* What is left may wait for a reader of the console, and the engine thread for nobody. */
	if (machine_engine_is_self(m) && timer_set_running(&m->timer, MACHINE_TIMER_SLOT, 0))
		return;
	machine_end_finish(m);
}

void machine_end_finish(struct machine *m)
{
	if (!atomic_exchange(&m->end_waits, false))
		return;
	if (m->devices)
		serial_drain(&m->devices->serial);
	m->callbacks.on_exit(m->callbacks.ctx, m->end_reason, m->end_sentence);
}

void machine_end(struct machine *m, enum exit_code reason, const char *sentence)
{
	machine_ended(m, reason, sentence ? sentence : exit_text(reason), true);
}

/* Waits until no thread of a vCPU or a device is left. */
static int threads_wait(struct machine *m, unsigned timeout_ms)
{
	uint64_t deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
	struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
				 .tv_nsec = (long)(deadline_ns % NS_PER_S)};
	int err = 0;

	pthread_mutex_lock(&m->threads_lock);
	while (m->threads && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&m->threads_gone, &m->threads_lock, &until);
	err = m->threads ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&m->threads_lock);
	return err;
}

int machine_stop(struct machine *m, unsigned timeout_ms)
{
	unsigned i;
	int err;

	machine_halt(m);
	timer_stop(&m->timer);
	machine_end_finish(m); /* if the timer's thread did not come to it */
	err = threads_wait(m, timeout_ms);
	if (err)
		return err;
	for (i = 0; i < m->vcpus_count; i++) {
		if (m->vcpus[i].thread_running)
			pthread_join(m->vcpus[i].thread, NULL);
		m->vcpus[i].thread_running = false;
	}
	machine_pci_join(m);
	if (m->devices)
		serial_output_stop(&m->devices->serial);
	return 0;
}

/* ---- the console and the numbers ---- */

size_t machine_console_input(struct machine *m, const uint8_t *bytes, size_t len)
{
	return m->devices ? serial_input(&m->devices->serial, bytes, len) : 0;
}

static void vcpu_stats(const struct machine_vcpu *v, struct machine_stats *out)
{
	out->instructions += v->m->ops->instructions(v->cpu);
	out->exits_kicked += atomic_load(&v->exits_kicked);
	out->exits_hlt += atomic_load(&v->exits_hlt);
	out->exits_irq_window += atomic_load(&v->exits_irq_window);
	out->interrupts += atomic_load(&v->interrupts);
	out->ipis_local += atomic_load(&v->ipis_local);
	out->ipis_remote += atomic_load(&v->ipis_remote);
	out->timer_fires += atomic_load(&v->timer_fires);
	out->vcpus_started += atomic_load(&v->started);
	out->vcpus_idle += !atomic_load(&v->started) || atomic_load(&v->halted);
}

void machine_stats(struct machine *m, struct machine_stats *out)
{
	unsigned i;

	memset(out, 0, sizeof(*out));
	out->vcpus = m->vcpus_count;
	for (i = 0; i < m->vcpus_count; i++)
		vcpu_stats(&m->vcpus[i], out);
	out->ipis_remote += atomic_load(&m->device_ipis_remote);
	out->timer_fires += timer_fires(&m->timer);
	out->remote_io = remote_io_accesses(&m->remote);
	out->remote_io_served = atomic_load(&m->io_served);
	machine_clock_stats(m, out);
}

int machine_vcpu_state(struct machine *m, unsigned vcpu, struct vcpu_state *out)
{
	struct machine_vcpu *v = machine_vcpu_find(m, vcpu);

	if (!v || v->thread_running)
		return -EINVAL;
	m->ops->state_get(v->cpu, out);
	return 0;
}
