/* SPDX-License-Identifier: Apache-2.0 */
/* The kvm CPU engine: vCPUs that the processor runs, and what this host's KVM can give. */
#ifndef VMM_KVM_KVM_H
#define VMM_KVM_KVM_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cpu/vcpu.h"

/*
 * Behind vmm/cpu/vcpu.h like vcpu_soft_ops, and with these particulars:
 *
 * - shared_create opens /dev/kvm, makes the VM and maps guest memory as memslots. Errors, each with
 *   a logged sentence: -ENOENT, -EACCES, -EPERM (/dev/kvm), -ENOTSUP (the kernel's KVM lacks
 *   something), what KVM's calls give.
 * - No in-kernel interrupt controller: APIC accesses come out as MSR exits and go to the bus.
 * - kick sends KVM_KICK_SIGNAL to a thread that is in KVM_RUN, so the process must leave that
 *   signal to this engine and unblocked. One signal at most for each KVM_RUN.
 * - Faults that KVM itself takes on guest memory need a userfaultfd that handles the kernel's
 *   faults (engine_config.kernel_faults). A vCPU that is blocked in such a fault and kicked burns
 *   its CPU until the page comes: page arrival must never depend on that thread.
 * - CPUID: of the feature bits that config.cpuid gives, those that the host cannot give are
 *   dropped, with a warning. Make the VM's model of kvm_supported_features() beforehand.
 * - The vendor that CPUID leaf 0 tells must be one that kvm_vendor_can() accepts, else create gives
 *   -ENOTSUP.
 * - The TSC: config.tsc_hz must be one that kvm_tsc_can() accepts, else create gives -ENOTSUP. It
 * is held to config.clock at entries.
 * - instructions is always 0: unknown.
 */
extern const struct vcpu_ops vcpu_kvm_ops;

/* CPUID's feature words; a set bit: the host can give it to a guest. */
struct kvm_features {
	uint32_t leaf1_ecx, leaf1_edx;
	uint32_t leaf7_ebx, leaf7_ecx, leaf7_edx; /* subleaf 0 */
	uint32_t ext1_ecx, ext1_edx;		  /* 0x80000001 */
	uint32_t ext7_edx;			  /* 0x80000007 */
	unsigned phys_bits;			  /* guest physical address bits */
};

/*
 * What KVM on this host can give (KVM_GET_SUPPORTED_CPUID), together with what this engine itself
 * provides (x2APIC, the hypervisor bit). Any thread; slow: opens /dev/kvm. 0 or negative errno.
 */
int kvm_supported_features(struct kvm_features *out);

/*
 * Whether guests of this vendor's model may run on this host's processor: KVM cannot make one
 * behave as the other (docs/kvm.md). Any thread; fast. A processor with neither VT-x nor SVM (PVM)
 * runs no guest of a kind that would notice.
 */
bool kvm_vendor_can(enum cpu_vendor vendor);

/* The TSC of this host's guests. */
struct kvm_tsc_report {
	uint64_t host_hz;  /* a guest's TSC rate without scaling; whole kHz */
	bool scaling;	   /* the processor can give guests another rate */
	bool offset;	   /* KVM_VCPU_TSC_OFFSET exists */
	bool offset_works; /* and is not ignored by the processor: VT-x or SVM is there */
};

/* Any thread; slow: makes a VM of one vCPU. 0 or negative errno. */
int kvm_tsc_probe(struct kvm_tsc_report *out);
/* 0 if guests of this host can have a TSC of hz, -ENOTSUP if not, other errors of the probe. */
int kvm_tsc_can(uint64_t hz);

/*
 * Adds guest memory outside the coherent memory: gpa and size are multiples of the page size, the
 * range touches neither RAM nor another slot, host is page-aligned memory that outlives the VM.
 * Any thread, before or while vCPUs run (then slow). Errors: -EINVAL, -EEXIST (overlap), -ENOSPC
 * (KVM_PRIVATE_SLOTS_MAX are there), KVM's.
 */
int kvm_vm_private_slot(void *shared, uint64_t gpa, void *host, uint64_t size);

#define KVM_PRIVATE_SLOTS_MAX                                                                      \
	16u /* micro-guests need one or two a vCPU; each costs KVM a search                        \
	     */

#endif
