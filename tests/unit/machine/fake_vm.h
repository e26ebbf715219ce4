/* SPDX-License-Identifier: Apache-2.0 */
/* Whole machines without an engine: a fake CPU whose guest code is C, and slices joined by queues.
 */
#ifndef TESTS_UNIT_MACHINE_FAKE_VM_H
#define TESTS_UNIT_MACHINE_FAKE_VM_H

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "vmm/machine/machine.h"

#define FAKE_SLICES   4u
#define FAKE_VCPUS    8u
#define FAKE_QUEUE    256u
#define FAKE_IRQS     64u
#define FAKE_CONSOLE  512u
#define FAKE_DEADLINE 10000u /* ms that a test waits for what must happen */

struct fake_vm;

extern const struct vcpu_ops fake_ops;

struct fake_cpu {
	struct vcpu vcpu;
	struct vcpu_config config;
	struct fake_vm *vm;
	pthread_mutex_t lock;
	pthread_cond_t kick_cond;
	bool kicked; /* lock */
	/* the guest's registers, so to speak: its thread's, but for the atomics */
	struct vcpu_state state;
	_Atomic bool interrupts_on;
	int pending_irq;
	bool window;
	unsigned step; /* for the guest function's own use */
	_Atomic unsigned irqs, nmis, runs, kicks;
	_Atomic uint8_t irq_log[FAKE_IRQS];
};

/*
 * Guest code: called whenever the CPU runs and has taken its interrupts. Returns VCPU_EXIT_HLT,
 * SHUTDOWN or ERROR for that exit, VCPU_EXIT_KICKED to spin until kicked.
 */
typedef enum vcpu_exit_reason (*fake_guest)(struct fake_cpu *c);

struct fake_queued {
	unsigned from;
	struct wire_msg msg;
	uint8_t payload[256];
};

struct fake_slice {
	struct fake_vm *vm;
	unsigned self;
	struct machine *machine;
	/* lock */
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct fake_queued queue[FAKE_QUEUE];
	unsigned first, count;
	bool stopping, held; /* held: messages stay in the queue */
	bool rung;	     /* machine_next_post has something */
	bool silent;	     /* the bell is not heard: as if the engine thread never ran */
	_Atomic unsigned handled, pulled; /* messages taken in; taken from machine_next_post */
	_Atomic unsigned answered; /* of those handled: answers to accesses of devices elsewhere */
	int post_error;		   /* what posting to this slice gives */
	pthread_t thread;
	int msg_error; /* of machine_msg, the last that failed */
	/* lock: callbacks */
	unsigned exits;
	enum exit_code reason;
	char sentence[512];
	bool console_stuck; /* its reader does not read: on_console waits */
	char console[FAKE_CONSOLE];
	size_t console_len;
};

struct fake_vm {
	struct vm_shape shape;
	fake_guest guest[FAKE_VCPUS];
	struct fake_cpu *cpu[FAKE_VCPUS];
	struct fake_slice slice[FAKE_SLICES];
	_Atomic unsigned shared_made;
	const struct virtio_device *device; /* or NULL */
	unsigned device_slice;		    /* whose it is */
};

/* A VM of this many slices with vcpus[i] CPUs each; guests are set, nothing is started. */
struct fake_vm *fake_vm_new(unsigned slices, const unsigned *vcpus, fake_guest guest);
/* The same with a device of a slice, which must leave guest memory alone: there is none. */
struct fake_vm *fake_vm_new_device(unsigned slices, const unsigned *vcpus, fake_guest guest,
				   const struct virtio_device *device, unsigned slice);
/* Gives vCPU 0 a state and starts all machines. */
void fake_vm_start(struct fake_vm *vm);
/* Stops and destroys everything; fails the test if a thread does not come back. */
void fake_vm_free(struct fake_vm *vm);

/* The CPU's way to the machine, for guest code. */
void fake_out(struct fake_cpu *c, uint16_t port, uint8_t value);
uint8_t fake_in(struct fake_cpu *c, uint16_t port);
void fake_wrmsr(struct fake_cpu *c, uint32_t msr, uint64_t value);

unsigned fake_exits(struct fake_vm *vm, unsigned slice);
void fake_hold(struct fake_vm *vm, unsigned slice, bool held);
/* A message from one slice to another, as if its machine had posted it. */
void fake_post(struct fake_vm *vm, unsigned from, unsigned to, const struct wire_msg *msg);
/* Whether the slice's bell is heard, and whether its console is read. */
void fake_silence(struct fake_vm *vm, unsigned slice, bool silent);
void fake_console_stick(struct fake_vm *vm, unsigned slice, bool stuck);

/* Waits for something that another thread brings about. */
#define fake_until(cond)                                                                           \
	do {                                                                                       \
		unsigned fake_ms = 0;                                                              \
		while (!(cond)) {                                                                  \
			cr_assert_lt(fake_ms, FAKE_DEADLINE, "waited in vain: " #cond);            \
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);                   \
			fake_ms++;                                                                 \
		}                                                                                  \
	} while (0)

#endif
