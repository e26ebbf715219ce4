/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the kvm engine: its structures, and who calls whom. */
#ifndef VMM_KVM_KVM_PARTS_H
#define VMM_KVM_KVM_PARTS_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/cpu_feature.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/cpu/msr.h"

/* Newer than some distributions' <linux/kvm.h>. */
#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39 /* Linux 6.8 */
#endif

/* Real-time signals below this are the C library's, and programs rarely use the next ones. */
#define KVM_KICK_SIGNAL (SIGRTMIN + 3)

/* Leaves with their subleaves that a guest can be told; our model has about 30. */
#define KVM_CPUID_MAX 96u

#define KVM_IMAGES_MAX 4u

struct kvm_slot {
	uint64_t gpa, size;
};

/* What the vCPUs of a VM share in this process. */
struct kvm_machine {
	/* constant after kvm_vm_create */
	int dev_fd, vm_fd;
	size_t run_size; /* of each vCPU's struct kvm_run mapping */
	uint8_t *ram;
	uint64_t ram_end;
	bool tsc_scaling;
	struct kvm_features features;
	/* any thread */
	_Atomic bool features_warned;
	/* lock */
	pthread_mutex_t lock;
	unsigned slots_count;
	struct kvm_slot slots[2 + KVM_IMAGES_MAX +
			      KVM_PRIVATE_SLOTS_MAX]; /* RAM below and above the hole first */
};

/* guest TSC = hardware ticks + base + the vCPU's own tsc_offset. "host": of the host's TSC. */
struct kvm_tsc {
	/* constant after kvm_tsc_setup */
	uint64_t host_khz, guest_khz;
	bool scaled;	   /* the processor multiplies; else the guest's ticks are the host's */
	bool offset_there; /* KVM_VCPU_TSC_OFFSET */
	/* the vCPU's thread */
	uint64_t anchor_host, anchor_guest; /* scaled: hardware ticks at a moment */
	uint64_t base, applied;		    /* applied: the offset that KVM has */
	uint64_t exit_host;		    /* when the guest was left last; 0: never entered */
	uint64_t checked_host;		    /* when base was last held against the clock */
};

struct kvm_cpu {
	struct vcpu vcpu; /* first */
	/* constant */
	struct vcpu_config config;
	struct kvm_machine *vm;
	int fd;
	/* any thread */
	_Atomic bool kicked;
	_Atomic int inside; /* the thread that is in, or about to enter, KVM_RUN; 0: none */
	/* shared with the kernel; immediate_exit is written by any thread */
	struct kvm_run *run;
	/* the vCPU's thread */
	int tid;   /* the thread whose signal mask was looked at */
	int error; /* of an injection: the next run reports it */
	bool halted, shut_down;
	bool ready; /* interrupt_ready */
	struct kvm_tsc tsc;
	uint64_t tsc_offset, tsc_aux, misc_enable;
	uint64_t features; /* of the CPU model as KVM has it: mask of enum cpu_feature; constant */
};

static inline bool kvm_model_has(const struct kvm_cpu *c, enum cpu_feature feature)
{
	return c->features & CPU_BIT(feature);
}

static inline struct kvm_cpu *kvm_cpu_of(const struct vcpu *v)
{
	return (struct kvm_cpu *)(uintptr_t)v;
}

/* kvm_vm.c */
int kvm_vm_create(uint8_t *ram, uint64_t ram_end, void **out);
int kvm_vm_image_add(void *shared, uint64_t gpa, uint64_t bytes); /* vcpu_ops.image_add */
void kvm_vm_destroy(void *shared);
/* Opens /dev/kvm and checks its version; the descriptor or a negative errno, said in a sentence. */
int kvm_device_open(void);

/* kvm_cpuid.c */
int kvm_features_read(int dev_fd, struct kvm_features *out);
/* VT-x and SVM, as the processor tells. */
bool kvm_host_vmx(void);
bool kvm_host_svm(void);
/* Gives the vCPU the model that config.cpuid tells, as far as the host can. */
int kvm_cpuid_set(struct kvm_cpu *c);

/* kvm_exit.c: serves KVM_RUN's exit. True: *exit is filled, run returns; false: go on. */
bool kvm_exit_handle(struct kvm_cpu *c, struct vcpu_exit *exit);

/* kvm_state.c */
void kvm_state_get(const struct vcpu *v, struct vcpu_state *out);
int kvm_state_set(struct vcpu *v, const struct vcpu_state *state);

/* kvm_tsc.c */
/* Sets the rate and the offset of a new vCPU. -ENOTSUP: not this rate. */
int kvm_tsc_setup(struct kvm_cpu *c);
/* A guest's TSC without offset, as KVM tells it, between two readings of the host's. */
struct kvm_tsc_reading {
	uint64_t before, value, after;
};
/*
 * Whether KVM scales at all. It takes a rate within 250 ppm of the host's (its parameter
 * tsc_tolerance_ppm) without scaling, and says that rate when asked: only the counter tells. Pure.
 */
bool kvm_tsc_scales(const struct kvm_tsc_reading *reading, uint64_t host_khz, uint64_t guest_khz);
/* Gives KVM base and tsc_offset. */
int kvm_tsc_apply(struct kvm_cpu *c);
/* Before each entry: keeps the guest's TSC to the guest's clock, to a microsecond. */
int kvm_tsc_keep(struct kvm_cpu *c);
/* A guest's WRMSR to its TSC. */
int kvm_tsc_write(struct kvm_cpu *c, uint64_t value);

#endif
