/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's inner structures, shared by machine*.c and nobody else. */
#ifndef VMM_MACHINE_PARTS_H
#define VMM_MACHINE_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/apic/apic.h"
#include "vmm/machine/bus.h"
#include "vmm/clock/clock_sync.h"
#include "vmm/devices/cmos.h"
#include "vmm/cpu/cpuid.h"
#include "vmm/devices/debug_exit.h"
#include "vmm/apic/ioapic.h"
#include "vmm/machine/machine.h"
#include "vmm/devices/power.h"
#include "vmm/machine/remote_io.h"
#include "vmm/devices/serial.h"
#include "vmm/apic/timer.h"

/* Where a vCPU's thread is; says how to reach it. */
enum vcpu_where {
	VCPU_OUTSIDE, /* about to look for work, or gone */
	VCPU_RUNNING, /* in, or about to enter, ops->run: kick it */
	VCPU_ASLEEP   /* in, or about to enter, the futex: wake it */
};

struct machine_vcpu {
	/* constant */
	struct machine *m;
	unsigned id; /* its number in the VM */
	struct vcpu *cpu;
	/* any thread, as apic.h says */
	struct apic apic;
	/* any thread: the wake word, incremented by every kick, is the futex */
	_Atomic uint32_t wakes;
	_Atomic int where;
	/* written by the vCPU's thread, read by statistics */
	_Atomic bool started; /* runs; else it waits for SIPI */
	_Atomic bool halted;
	_Atomic uint64_t stopped_ns; /* since when it is halted with interrupts off; 0: it is not */
	_Atomic uint64_t exits_kicked, exits_hlt, exits_irq_window, interrupts;
	_Atomic uint64_t timer_fires; /* of its own timer, in its own sleep */
	_Atomic uint64_t ipis_local, ipis_remote;
	/* the vCPU's thread */
	bool window_wanted;
	/* machine_start and machine_stop's caller */
	pthread_t thread;
	bool thread_running;
};

/* What waits to be sent to a vCPU of another slice (machine_pending.c); any thread. */
struct pending_vcpu {
	_Atomic uint64_t fixed[4], level[4]; /* by vector; level: the trigger mode */
	_Atomic uint32_t events;	     /* as apic.h's */
};

struct machine_pending {
	_Atomic uint64_t dirty[VCPUS_MAX / 64]; /* vCPUs that something may wait for */
	_Atomic uint64_t eois[4];		/* by vector: for slice 0 */
	unsigned next_vcpu;			/* the engine thread's: whose turn it is */
	struct pending_vcpu vcpu[VCPUS_MAX];
};

/* The last sentence of a VM, as on_exit gets it. */
#define MACHINE_END_MAX 512u

/* Slice 0's devices. */
struct machine_devices {
	struct ioapic ioapic;
	struct serial serial;
	struct cmos cmos;
	struct power power;
	struct debug_exit debug_exit;
};

struct machine {
	/* constant after machine_create */
	struct vm_shape shape;
	unsigned self;
	const struct vcpu_ops *ops;
	struct machine_callbacks callbacks;
	struct cpuid_model cpuid;
	uint8_t slice_of[VCPUS_MAX];
	uint32_t apic_id[VCPUS_MAX];
	void *vcpu_shared;
	unsigned first_vcpu, vcpus_count;
	bool debug_exit;
	_Atomic bool image_stored; /* a store to an image was logged */
	struct machine_vcpu *vcpus;
	struct apic_env apic_env;
	struct bus bus;			 /* what the vCPUs here reach */
	struct bus served;		 /* what other slices may ask for: devices that are here */
	struct machine_devices *devices; /* slice 0 */
	struct machine_pci *pci;	 /* slices with a host bridge */
	struct remote_io remote;	 /* the way to other slices' devices */
	struct machine_pending *pending; /* with other slices */
	struct timer timer;
	struct guest_clock clock; /* read by any thread; written under clock_lock */
	/* any thread */
	_Atomic bool ended;	/* on_exit was or is being called */
	_Atomic bool stopping;	/* vCPU threads leave */
	_Atomic bool end_waits; /* console and on_exit are still to come, from the fields behind */
	enum exit_code end_reason;
	char end_sentence[MACHINE_END_MAX];
	_Atomic bool engine_known; /* engine_thread is set */
	_Atomic pthread_t engine_thread;
	_Atomic int post_error;
	_Atomic unsigned post_error_slice;
	_Atomic uint64_t io_served;
	struct {
		_Atomic uint64_t best_ns; /* written before answers */
		_Atomic unsigned answers;
	} ping[SLICES_MAX];
	_Atomic uint64_t device_ipis_remote;
	/* Of this slice's vCPUs, 0: its thread does not run yet; together, since each fault looks. */
	_Atomic uint32_t vcpu_tid[VCPUS_MAX];
	struct fault_places fault_places; /* the engine thread adds */
	/* clock_lock */
	pthread_mutex_t clock_lock;
	struct clock_sync clock_sync;
	unsigned burst_left; /* pings of the open burst that are not answered */
	bool clock_running;  /* guest code may read the clock: no steps */
	/* main thread */
	bool started;
	/* threads_lock */
	pthread_mutex_t threads_lock;
	pthread_cond_t threads_gone; /* CLOCK_MONOTONIC */
	unsigned threads;	     /* of vCPUs and devices, that have not left */
};

/* machine_vcpu.c */
int machine_vcpu_create(struct machine *m, struct machine_vcpu *v, const struct machine_config *c);
void machine_vcpu_destroy(struct machine_vcpu *v);
void *machine_vcpu_thread(void *arg);
/* Something is new for the vCPU: brings it out of ops->run or out of its sleep. Any thread. */
void machine_vcpu_kick(struct machine_vcpu *v);
/* The local vCPU of this number, or NULL. */
struct machine_vcpu *machine_vcpu_find(struct machine *m, unsigned id);

/* machine_route.c: apic_env's functions (ctx is the machine), and messages. */
void machine_apic_env(struct machine *m, struct apic_env *env);
/* Sends an interrupt to the APICs it is meant for; from is the sending vCPU or NULL for a device.
 * Any thread, with device locks held or not. */
void machine_ipi(struct machine *m, struct machine_vcpu *from, const struct ipi *ipi);
/*
 * Posts a message. A lost one would hang the guest: failures end the VM, from the timer thread,
 * since the caller may hold a device's lock. -ENOTCONN is left to whoever watches the peers.
 */
int machine_post(struct machine *m, unsigned to, const struct wire_msg *msg, const void *payload);
/* The timer thread's part of that, if there is anything. */
void machine_post_failed(struct machine *m);
/* Is this the engine thread, as far as a message has come from it? */
bool machine_engine_is_self(const struct machine *m);

/* machine_pending.c: any thread, but see machine_next_post. The bell is the caller's to ring. */
/* An interrupt for a vCPU of another slice. */
void machine_pending_add(struct machine *m, unsigned vcpu, const struct ipi *ipi);
/* A level-triggered vector was ended on a slice that is not 0. */
void machine_pending_eoi(struct machine *m, uint8_t vector);

/* machine_clock.c */
int machine_clock_create(struct machine *m, const struct machine_config *c);
void machine_clock_destroy(struct machine *m);
/* Guest code may run from now on. */
void machine_clock_start(struct machine *m);
void machine_clock_stats(struct machine *m, struct machine_stats *out);
/* PING or PONG; engine thread. */
int machine_ping_msg(struct machine *m, unsigned from, const struct wire_msg *msg);

/* machine_devices.c: slice 0's platform; attach on all slices. */
int machine_devices_create(struct machine *m);
void machine_devices_destroy(struct machine *m);
int machine_devices_attach(struct machine *m);
/*
 * Registers of a device of slice owner: dev and its ops are behind them there, for the vCPUs and for other slices; the
 * way to the owner elsewhere (far's, with the owner's door for a device). -EINVAL or -ENOSPC as the bus says.
 */
int machine_ports_claim(struct machine *m, unsigned owner, uint16_t first, unsigned count,
			const struct bus_ops *ops, void *dev);
int machine_mmio_claim(struct machine *m, unsigned owner, uint64_t first, uint64_t count,
		       const struct bus_ops *ops, void *dev, const struct bus_ops *far);
/* machine_images.c: the images on the bus, and in the CPU engine; before its first CPU. */
int machine_images_attach(struct machine *m);

/* machine_pci.c: this slice's PCI bus and its devices, if it has a host bridge; attach on all slices. Takes c's devices
 * over, come what may. */
struct machine_pci;
int machine_pci_create(struct machine *m, const struct machine_config *c);
void machine_pci_destroy(struct machine *m);
/* Destroys c's devices from this one on: nobody takes them over. */
void machine_pci_drop(const struct machine_config *c, unsigned first);
int machine_pci_attach(struct machine *m);
int machine_pci_start(struct machine *m);
/* Any thread; does not block. These do nothing where there is no bridge. */
void machine_pci_halt(struct machine *m);
/* When all threads have gone. */
void machine_pci_join(struct machine *m);

/* machine.c: a thread that machine_stop waits for begins, and ends. */
void machine_thread_new(struct machine *m);
void machine_thread_gone(struct machine *m);
/* machine.c: the end, told to the other slices or (if it came from them) not. */
void machine_ended(struct machine *m, enum exit_code reason, const char *sentence, bool tell);
/* The last console output, and on_exit, if the end was left to another thread. May block. */
void machine_end_finish(struct machine *m);
/* The timer's slot for the machine's own deadlines. */
#define MACHINE_TIMER_SLOT VCPUS_MAX
/* The timer's slot for the serial line. */
#define MACHINE_SERIAL_SLOT (VCPUS_MAX + 1)
/* The timer's slot for the CMOS clock. */
#define MACHINE_CMOS_SLOT (VCPUS_MAX + 2)

#endif
