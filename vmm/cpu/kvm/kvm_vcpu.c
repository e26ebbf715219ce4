/* SPDX-License-Identifier: Apache-2.0 */
/* KVM as a CPU engine: a vCPU's life, its run loop, injected events, and kicks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/error.h"
#include "base/log.h"
#include "vmm/cpu/kvm/kvm_parts.h"

/* ---- life ---- */

static void kvm_destroy(struct vcpu *v)
{
	struct kvm_cpu *c = kvm_cpu_of(v);

	if (!c)
		return;
	if (c->run)
		munmap(c->run, c->vm->run_size);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

static int vcpu_open(struct kvm_cpu *c)
{
	void *run;
	int err;

	c->fd = ioctl(c->vm->vm_fd, KVM_CREATE_VCPU, (unsigned long)c->vcpu.id);
	if (c->fd < 0) {
		err = -errno;
		log_error("KVM cannot make vCPU %u: %s", c->vcpu.id, error_text(err));
		return err;
	}
	run = mmap(NULL, c->vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (run == MAP_FAILED) {
		err = -errno;
		log_error("cannot map vCPU %u's shared page: %s", c->vcpu.id, error_text(err));
		return err;
	}
	c->run = run;
	return 0;
}

/* KVM's own devices (its clock, its IPIs) write guest memory behind the coherence protocol, or stop
 * at this host's border: the model does not offer them, and so they must not answer. */
static int paravirtual_forbid(const struct kvm_cpu *c)
{
	struct kvm_enable_cap enable = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};
	int err;

	if (ioctl(c->fd, KVM_ENABLE_CAP, &enable) == 0)
		return 0;
	err = -errno;
	log_error("KVM does not switch its paravirtual features off: %s", error_text(err));
	return err;
}

static int vcpu_setup(struct kvm_cpu *c)
{
	struct vcpu_state reset;
	int err = vcpu_open(c);

	if (!err)
		err = paravirtual_forbid(c);
	if (!err)
		err = kvm_cpuid_set(c);
	if (!err)
		err = kvm_tsc_setup(c);
	if (err)
		return err;
	vcpu_state_reset(&reset);
	err = kvm_state_set(&c->vcpu, &reset);
	if (err)
		log_error("KVM refuses the reset state of vCPU %u: %s", c->vcpu.id,
			  error_text(err));
	return err;
}

static int kvm_create(const struct vcpu_config *config, struct vcpu **out)
{
	struct kvm_cpu *c;
	int err;

	if (!config->shared || !config->cpuid || !config->tsc_hz)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->vcpu.ops = &vcpu_kvm_ops;
	c->vcpu.id = config->id;
	c->config = *config;
	c->vm = config->shared;
	c->fd = -1;
	err = vcpu_setup(c);
	if (err)
		kvm_destroy(&c->vcpu);
	else
		*out = &c->vcpu;
	return err;
}

/* ---- kicks ---- */

/*
 * A kick stores kicked and immediate_exit, then loads inside; the vCPU's thread stores inside, then
 * enters KVM_RUN, which loads immediate_exit. All are sequentially consistent, so either KVM_RUN
 * sees the request or the kick sees the thread, and its signal ends KVM_RUN. Outside of KVM_RUN no
 * signal is sent, and between two takes of the kick at most one: a signal that waits for a thread
 * blocked in one of KVM's own page faults makes that thread spin.
 */
static void kvm_kick(struct vcpu *v)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	int tid;

	if (atomic_exchange(&c->kicked, true))
		return;
	__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	tid = atomic_load(&c->inside);
	if (tid)
		syscall(SYS_tgkill, getpid(), tid, KVM_KICK_SIGNAL);
}

/* In this order: a kick that comes between the two is taken now, and one after them sets both. */
static bool kick_taken(struct kvm_cpu *c)
{
	__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	return atomic_exchange(&c->kicked, false);
}

/* The thread that runs the vCPU must hear the kick; machines start it with any mask. */
static void thread_prepare(struct kvm_cpu *c)
{
	int tid = (int)syscall(SYS_gettid);
	sigset_t set;

	if (tid == c->tid)
		return;
	sigemptyset(&set);
	sigaddset(&set, KVM_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	c->tid = tid;
}

/* ---- running ---- */

/* The APIC's task priority is the machine's; KVM keeps a copy, which MOV CR8 uses. */
static void cr8_from_kvm(struct kvm_cpu *c, uint64_t before)
{
	if (c->run->cr8 != before)
		c->config.bus.cr8_write(c->config.bus.ctx, c->vcpu.id, c->run->cr8);
}

/* One KVM_RUN: 0 with an exit reason, or a negative errno. */
static int guest_enter(struct kvm_cpu *c)
{
	uint64_t cr8 = c->config.bus.cr8_read(c->config.bus.ctx, c->vcpu.id);
	int err = kvm_tsc_keep(c);

	if (err)
		return err;
	c->run->cr8 = cr8;
	atomic_store(&c->inside, c->tid);
	if (ioctl(c->fd, KVM_RUN, 0) < 0)
		err = -errno;
	c->tsc.exit_host = __rdtsc();
	atomic_store(&c->inside, 0);
	c->ready = c->run->ready_for_interrupt_injection && c->run->if_flag;
	cr8_from_kvm(c, cr8);
	return err;
}

/* A halted or shut-down vCPU does not enter the guest. */
static void idle_exit(struct kvm_cpu *c, struct vcpu_exit *exit)
{
	if (c->shut_down)
		exit->reason = VCPU_EXIT_SHUTDOWN;
	else if (kick_taken(c))
		exit->reason = VCPU_EXIT_KICKED;
	else if (c->run->request_interrupt_window && c->ready)
		exit->reason = VCPU_EXIT_IRQ_WINDOW;
	else
		exit->reason = VCPU_EXIT_HLT;
}

static void enter_failed(const struct kvm_cpu *c, int err, struct vcpu_exit *exit)
{
	if (err == -EFAULT)
		log_error("vCPU %u: KVM cannot reach guest memory: its page faults need a "
			  "userfaultfd that handles the kernel's faults too (exit reason %u)",
			  c->vcpu.id, c->run->exit_reason);
	else
		log_error("vCPU %u: KVM_RUN failed: %s", c->vcpu.id, error_text(err));
	exit->reason = VCPU_EXIT_ERROR;
	exit->error = err;
}

/*
 * A kick needs no look before KVM_RUN: immediate_exit makes that return at once, and only after it
 * has completed the instruction whose exit was served last. So when run returns, nothing is half
 * done, and the state may be read and set.
 */
static void kvm_run_loop(struct vcpu *v, struct vcpu_exit *exit)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	int err;

	thread_prepare(c);
	*exit = (struct vcpu_exit){.reason = VCPU_EXIT_KICKED};
	for (;;) {
		if (c->error) {
			enter_failed(c, c->error, exit);
			return;
		}
		if (c->halted || c->shut_down) {
			idle_exit(c, exit);
			return;
		}
		err = guest_enter(c);
		if (err == -EINTR) {
			if (kick_taken(c))
				return;
		} else if (err) {
			enter_failed(c, err, exit);
			return;
		} else if (kvm_exit_handle(c, exit)) {
			return;
		}
	}
}

/* ---- events ---- */

static bool kvm_interrupt_ready(const struct vcpu *v)
{
	return kvm_cpu_of(v)->ready;
}

static void kvm_interrupt(struct vcpu *v, uint8_t vector)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	struct kvm_interrupt irq = {.irq = vector};

	if (ioctl(c->fd, KVM_INTERRUPT, &irq) < 0)
		c->error = -errno;
	c->ready = false;
	c->halted = false;
}

static void kvm_irq_window(struct vcpu *v, bool wanted)
{
	kvm_cpu_of(v)->run->request_interrupt_window = wanted;
}

/* A halted vCPU sleeps on while it cannot take the NMI. */
static void kvm_nmi(struct vcpu *v)
{
	struct kvm_cpu *c = kvm_cpu_of(v);
	struct kvm_vcpu_events events;

	if (ioctl(c->fd, KVM_GET_VCPU_EVENTS, &events) < 0 || ioctl(c->fd, KVM_NMI, 0) < 0)
		c->error = -errno;
	else if (!events.nmi.masked)
		c->halted = false;
}

static uint64_t kvm_instructions(const struct vcpu *v)
{
	(void)v;
	return 0;
}

const struct vcpu_ops vcpu_kvm_ops = {
	.name = "kvm",
	.shared_create = kvm_vm_create,
	.shared_destroy = kvm_vm_destroy,
	.image_add = kvm_vm_image_add,
	.create = kvm_create,
	.destroy = kvm_destroy,
	.run = kvm_run_loop,
	.interrupt_ready = kvm_interrupt_ready,
	.interrupt = kvm_interrupt,
	.irq_window = kvm_irq_window,
	.nmi = kvm_nmi,
	.kick = kvm_kick,
	.state_get = kvm_state_get,
	.state_set = kvm_state_set,
	.instructions = kvm_instructions,
};
