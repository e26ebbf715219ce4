/* SPDX-License-Identifier: Apache-2.0 */
/* Which CPU engine runs a slice's vCPUs: by wish, by what the host can, and why. */
#ifndef VMM_CPU_CHOICE_H
#define VMM_CPU_CHOICE_H

#include "host/host.h"
#include "vmm/cpu/vcpu.h"

enum cpu_wish {
	CPU_AUTO,
	CPU_KVM,
	CPU_SOFT
};

/* What the guest asks of an engine. */
struct cpu_guest {
	unsigned slices;
	bool linux_kernel; /* its page tables change, and it needs a whole processor; micro-guests
			    * have fixed tables */
	bool force;	   /* the user takes the risk of shadow paging */
};

struct cpu_choice {
	const struct vcpu_ops *ops; /* NULL when refused */
	bool kernel_faults;	    /* what engine_config of this slice needs */
	bool walks_write;	    /* this too */
	char sentence[400];	    /* which and why, or why not */
};

/* "auto", "kvm" or "soft"; -EINVAL else. */
int cpu_wish_parse(const char *text, enum cpu_wish *out);

/* 0, or -ENOTSUP: kvm was asked for, and cannot be or must not be. Pure; any thread. */
int cpu_choose(const struct host_report *host, enum cpu_wish wish, const struct cpu_guest *guest,
	       struct cpu_choice *out);

#endif
