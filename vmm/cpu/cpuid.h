/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU model of a VM, the same for all its CPUs, as CPUID tells it: Intel's way or AMD's. */
#ifndef VMM_CPUID_H
#define VMM_CPUID_H

#include <stdint.h>

#include "vmm/cpu/vcpu.h"
#include "vmm/machine/shape.h"

/* The highest leaves of the three ranges. */
#define CPUID_MAX_BASIC	       0x15u
#define CPUID_MAX_HYPERVISOR   0x40000001u
#define CPUID_MAX_EXTENDED     0x80000008u
#define CPUID_MAX_EXTENDED_AMD 0x8000001eu

/* What differs from VM to VM; constant once made. */
struct cpuid_model {
	const struct vm_shape *shape; /* null: each vCPU is a package, its x2APIC id its number */
	uint64_t tsc_hz;
	enum cpu_vendor vendor;
	uint64_t
		features; /* mask of enum cpu_feature (base/cpu_feature.h), beside what every model has */
};

/*
 * Fits vcpu_config.cpuid: ctx is a struct cpuid_model, vcpu its number. Any thread, no locks,
 * no allocation. The CPUs of a slice are the cores of one package and share its last-level cache. Leaves beyond the maximum of their range give zeroes.
 */
void cpuid_read(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf, struct vcpu_cpuid *out);

#endif
