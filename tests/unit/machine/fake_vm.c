/* SPDX-License-Identifier: Apache-2.0 */
/* The fake CPU and the fake VM. A CPU's run is a call of its guest function, and a wait for kicks.
 */
#include "fake_vm.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/apic/apic.h"
#include "vmm/boot/layout.h"

/* ---- the CPU ---- */

static struct fake_cpu *fake_of(const struct vcpu *v)
{
	return (struct fake_cpu *)(uintptr_t)v;
}

static int fake_shared_create(uint8_t *ram, uint64_t ram_end, void **out)
{
	struct fake_vm *vm = (void *)ram; /* this fake's RAM is the VM itself */

	cr_assert_eq(ram_end, vm->shape.ram_end);
	atomic_fetch_add(&vm->shared_made, 1);
	*out = vm;
	return 0;
}

static void fake_shared_destroy(void *shared)
{
	atomic_fetch_sub(&((struct fake_vm *)shared)->shared_made, 1);
}

static int fake_create(const struct vcpu_config *config, struct vcpu **out)
{
	struct fake_cpu *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		return -ENOMEM;
	c->vcpu.ops = &fake_ops;
	c->vcpu.id = config->id;
	c->config = *config;
	c->vm = config->shared;
	c->pending_irq = -1;
	vcpu_state_reset(&c->state);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->kick_cond, &attr);
	pthread_condattr_destroy(&attr);
	c->vm->cpu[config->id] = c;
	*out = &c->vcpu;
	return 0;
}

static void fake_destroy(struct vcpu *v)
{
	struct fake_cpu *c = fake_of(v);

	c->vm->cpu[v->id] = NULL;
	pthread_cond_destroy(&c->kick_cond);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static bool fake_ready(const struct vcpu *v)
{
	struct fake_cpu *c = fake_of(v);

	return atomic_load(&c->interrupts_on) && c->pending_irq < 0;
}

static void fake_irq_take(struct fake_cpu *c)
{
	unsigned n = atomic_load(&c->irqs);

	if (c->pending_irq < 0)
		return;
	atomic_store(&c->irq_log[n % FAKE_IRQS], (uint8_t)c->pending_irq);
	c->pending_irq = -1;
	atomic_store(&c->irqs, n + 1);
	fake_wrmsr(c, MSR_X2APIC_FIRST + APIC_EOI, 0);
}

/* Waits until kicked, or until an interrupt can be taken that was asked for. */
static enum vcpu_exit_reason fake_spin(struct fake_cpu *c)
{
	uint64_t until_ns = clock_now_ns() + FAKE_DEADLINE * NS_PER_MS;
	struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S)};
	int err = 0;

	pthread_mutex_lock(&c->lock);
	while (!c->kicked && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&c->kick_cond, &c->lock, &until);
	c->kicked = false;
	pthread_mutex_unlock(&c->lock);
	return VCPU_EXIT_KICKED;
}

static void fake_run(struct vcpu *v, struct vcpu_exit *exit)
{
	struct fake_cpu *c = fake_of(v);

	atomic_fetch_add(&c->runs, 1);
	fake_irq_take(c);
	exit->error = -EIO;
	exit->reason = c->vm->guest[v->id](c);
	if (exit->reason != VCPU_EXIT_KICKED)
		return;
	if (c->window && fake_ready(v))
		exit->reason = VCPU_EXIT_IRQ_WINDOW;
	else
		exit->reason = fake_spin(c);
}

static void fake_interrupt(struct vcpu *v, uint8_t vector)
{
	struct fake_cpu *c = fake_of(v);

	cr_assert(fake_ready(v), "injected into a CPU that is not ready");
	c->pending_irq = vector;
}

static void fake_window(struct vcpu *v, bool wanted)
{
	fake_of(v)->window = wanted;
}

static void fake_nmi(struct vcpu *v)
{
	atomic_fetch_add(&fake_of(v)->nmis, 1);
}

static void fake_kick(struct vcpu *v)
{
	struct fake_cpu *c = fake_of(v);

	atomic_fetch_add(&c->kicks, 1);
	pthread_mutex_lock(&c->lock);
	c->kicked = true;
	pthread_cond_signal(&c->kick_cond);
	pthread_mutex_unlock(&c->lock);
}

static void fake_state_get(const struct vcpu *v, struct vcpu_state *out)
{
	*out = fake_of(v)->state;
}

static int fake_state_set(struct vcpu *v, const struct vcpu_state *state)
{
	if (state->rflags == UINT64_MAX)
		return -EINVAL;
	fake_of(v)->state = *state;
	fake_of(v)->pending_irq = -1;
	return 0;
}

static uint64_t fake_instructions(const struct vcpu *v)
{
	return atomic_load(&fake_of(v)->runs);
}

const struct vcpu_ops fake_ops = {
	.name = "fake",
	.shared_create = fake_shared_create,
	.shared_destroy = fake_shared_destroy,
	.create = fake_create,
	.destroy = fake_destroy,
	.run = fake_run,
	.interrupt_ready = fake_ready,
	.interrupt = fake_interrupt,
	.irq_window = fake_window,
	.nmi = fake_nmi,
	.kick = fake_kick,
	.state_get = fake_state_get,
	.state_set = fake_state_set,
	.instructions = fake_instructions,
};

void fake_out(struct fake_cpu *c, uint16_t port, uint8_t value)
{
	c->config.bus.pio_write(c->config.bus.ctx, c->vcpu.id, port, 1, value);
}

uint8_t fake_in(struct fake_cpu *c, uint16_t port)
{
	uint32_t value;

	c->config.bus.pio_read(c->config.bus.ctx, c->vcpu.id, port, 1, &value);
	return (uint8_t)value;
}

void fake_wrmsr(struct fake_cpu *c, uint32_t msr, uint64_t value)
{
	int err = c->config.bus.msr_write(c->config.bus.ctx, c->vcpu.id, msr, value);

	cr_assert_eq(err, 0, "wrmsr %x %llx", msr, (unsigned long long)value);
}

/* ---- slices and what joins them ---- */

static void slice_exit(void *ctx, enum exit_code reason, const char *sentence)
{
	struct fake_slice *s = ctx;

	pthread_mutex_lock(&s->lock);
	s->exits++;
	s->reason = reason;
	snprintf(s->sentence, sizeof(s->sentence), "%s", sentence);
	pthread_mutex_unlock(&s->lock);
}

static void slice_console(void *ctx, const uint8_t *bytes, size_t len)
{
	struct fake_slice *s = ctx;

	pthread_mutex_lock(&s->lock);
	while (s->console_stuck)
		pthread_cond_wait(&s->more, &s->lock);
	cr_assert_leq(s->console_len + len, FAKE_CONSOLE);
	memcpy(s->console + s->console_len, bytes, len);
	s->console_len += len;
	pthread_mutex_unlock(&s->lock);
}

static void slice_ring(void *ctx)
{
	struct fake_slice *s = ctx;

	pthread_mutex_lock(&s->lock);
	s->rung = true;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->lock);
}

static int slice_post(void *ctx, unsigned to, const struct wire_msg *msg, const void *payload)
{
	struct fake_slice *from = ctx, *s = &from->vm->slice[to];
	struct fake_queued *q;
	int err;

	cr_assert_lt(to, from->vm->shape.slices);
	cr_assert_leq(msg->payload_len, sizeof(q->payload));
	pthread_mutex_lock(&s->lock);
	err = s->post_error;
	if (!err && s->count == FAKE_QUEUE)
		err = -ENOBUFS;
	if (!err) {
		q = &s->queue[(s->first + s->count++) % FAKE_QUEUE];
		q->from = from->self;
		q->msg = *msg;
		if (msg->payload_len)
			memcpy(q->payload, payload, msg->payload_len);
		pthread_cond_broadcast(&s->more);
	}
	pthread_mutex_unlock(&s->lock);
	return err;
}

/* The slices whose queue has room for what need not be sent now. */
static uint64_t slices_ready(struct fake_vm *vm, unsigned self)
{
	uint64_t ready = 0;

	for (unsigned i = 0; i < vm->shape.slices; i++) {
		struct fake_slice *s = &vm->slice[i];

		if (i == self)
			continue;
		pthread_mutex_lock(&s->lock);
		ready |= (uint64_t)(s->count < FAKE_QUEUE / 2) << i;
		pthread_mutex_unlock(&s->lock);
	}
	return ready;
}

/* Like the engine: a few at a time. */
static void slice_pull(struct fake_slice *s)
{
	uint64_t all = (UINT64_C(1) << s->vm->shape.slices) - 1 - (UINT64_C(1) << s->self), ready;
	struct wire_msg msg;
	unsigned to;

	for (unsigned i = 0; i < 16; i++) {
		ready = slices_ready(s->vm, s->self);
		if (!machine_next_post(s->machine, ready, &to, &msg)) {
			if (ready != all)
				slice_ring(s); /* there may be more, for one that is full */
			return;
		}
		atomic_fetch_add(&s->pulled, 1);
		cr_assert_eq(slice_post(s, to, &msg, NULL), 0);
	}
	slice_ring(s);
}

/* Stands for the engine thread. */
static void *slice_thread(void *arg)
{
	struct fake_slice *s = arg;
	struct fake_queued q;
	int err;

	pthread_mutex_lock(&s->lock);
	while (!s->stopping) {
		if (s->rung && !s->silent) {
			s->rung = false;
			pthread_mutex_unlock(&s->lock);
			slice_pull(s);
			pthread_mutex_lock(&s->lock);
		}
		if (s->stopping || (s->rung && !s->silent))
			continue;
		if (!s->count || s->held) {
			pthread_cond_wait(&s->more, &s->lock);
			continue;
		}
		q = s->queue[s->first];
		s->first = (s->first + 1) % FAKE_QUEUE;
		s->count--;
		pthread_mutex_unlock(&s->lock);
		err = machine_msg(s->machine, q.from, &q.msg, q.payload);
		atomic_fetch_add(&s->handled, 1);
		if (q.msg.type == MSG_MACHINE_IO_REPLY)
			atomic_fetch_add(&s->answered, 1);
		pthread_mutex_lock(&s->lock);
		if (err)
			s->msg_error = err;
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void slice_new(struct fake_vm *vm, unsigned self)
{
	struct fake_slice *s = &vm->slice[self];
	struct machine_config config = {
		.shape = &vm->shape,
		.self = self,
		.vcpu_ops = &fake_ops,
		.ram = (uint8_t *)vm,
		.tsc_hz = LAYOUT_TSC_HZ,
		.devices = vm->device,
		.devices_count = self == vm->device_slice && vm->device,
		.callbacks = {s, slice_exit, slice_console, NULL, slice_post, slice_ring}};

	s->vm = vm;
	s->self = self;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->more, NULL);
	cr_assert_eq(machine_create(&config, &s->machine), 0);
	cr_assert_eq(pthread_create(&s->thread, NULL, slice_thread, s), 0);
}

struct fake_vm *fake_vm_new(unsigned slices, const unsigned *vcpus, fake_guest guest)
{
	return fake_vm_new_device(slices, vcpus, guest, NULL, 0);
}

struct fake_vm *fake_vm_new_device(unsigned slices, const unsigned *vcpus, fake_guest guest,
				   const struct virtio_device *device, unsigned slice)
{
	struct fake_vm *vm = calloc(1, sizeof(*vm));
	unsigned i;

	cr_assert(vm && slices <= FAKE_SLICES);
	vm->device = device;
	vm->device_slice = slice;
	vm->shape.bridges = slice ? UINT64_C(1) << slice : 0;
	vm->shape.slices = slices;
	vm->shape.ram_end = 64u << 20;
	vm->shape.apic_shift = 3;
	for (i = 0; i < slices; i++) {
		vm->shape.slice[i].first_vcpu = vm->shape.vcpus;
		vm->shape.slice[i].vcpus = vcpus[i];
		vm->shape.vcpus += vcpus[i];
	}
	cr_assert_leq(vm->shape.vcpus, FAKE_VCPUS);
	for (i = 0; i < FAKE_VCPUS; i++)
		vm->guest[i] = guest;
	for (i = 0; i < slices; i++)
		slice_new(vm, i);
	return vm;
}

void fake_vm_start(struct fake_vm *vm)
{
	struct vcpu_state state;
	unsigned i;

	vcpu_state_reset(&state);
	state.rip = 0x1000200;
	cr_assert_eq(machine_start_bsp(vm->slice[0].machine, &state), 0);
	for (i = 0; i < vm->shape.slices; i++)
		cr_assert_eq(machine_start(vm->slice[i].machine), 0);
}

void fake_vm_free(struct fake_vm *vm)
{
	unsigned i;

	for (i = 0; i < vm->shape.slices; i++)
		cr_assert_eq(machine_stop(vm->slice[i].machine, FAKE_DEADLINE), 0);
	for (i = 0; i < vm->shape.slices; i++) {
		struct fake_slice *s = &vm->slice[i];

		pthread_mutex_lock(&s->lock);
		s->stopping = true;
		pthread_cond_broadcast(&s->more);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
		cr_assert_eq(s->msg_error, 0, "slice %u refused a message: %d", i, s->msg_error);
	}
	for (i = 0; i < vm->shape.slices; i++) {
		machine_destroy(vm->slice[i].machine);
		pthread_cond_destroy(&vm->slice[i].more);
		pthread_mutex_destroy(&vm->slice[i].lock);
	}
	cr_assert_eq(atomic_load(&vm->shared_made), 0);
	free(vm);
}

unsigned fake_exits(struct fake_vm *vm, unsigned slice)
{
	struct fake_slice *s = &vm->slice[slice];
	unsigned exits;

	pthread_mutex_lock(&s->lock);
	exits = s->exits;
	pthread_mutex_unlock(&s->lock);
	return exits;
}

void fake_post(struct fake_vm *vm, unsigned from, unsigned to, const struct wire_msg *msg)
{
	cr_assert_eq(slice_post(&vm->slice[from], to, msg, NULL), 0);
}

static void switch_set(struct fake_slice *s, bool *which, bool value)
{
	pthread_mutex_lock(&s->lock);
	*which = value;
	pthread_cond_broadcast(&s->more);
	pthread_mutex_unlock(&s->lock);
}

void fake_hold(struct fake_vm *vm, unsigned slice, bool held)
{
	switch_set(&vm->slice[slice], &vm->slice[slice].held, held);
}

void fake_silence(struct fake_vm *vm, unsigned slice, bool silent)
{
	switch_set(&vm->slice[slice], &vm->slice[slice].silent, silent);
}

void fake_console_stick(struct fake_vm *vm, unsigned slice, bool stuck)
{
	switch_set(&vm->slice[slice], &vm->slice[slice].console_stuck, stuck);
}
