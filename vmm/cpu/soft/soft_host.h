/* SPDX-License-Identifier: Apache-2.0 */
/* Which newer instructions handlers may execute on the host's processor. */
#ifndef VMM_SOFT_SOFT_HOST_H
#define VMM_SOFT_SOFT_HOST_H

#include <stdint.h>

#include "vmm/cpu/soft/soft.h"

/*
 * An instruction that old hosts lack has two handlers: one executes it on the host, one computes it in C
 * and SSE2. Which of them is settled when the guest's instruction is decoded.
 *
 * The host's features, found at the first call: mask of enum cpu_feature. Any thread.
 */
uint64_t soft_host_features(void);

/* For tests: of the host's features only these are used by what is decoded from now on. Any thread. */
void soft_host_limit(uint64_t features);

/* The handler for a host with the feature, or the other. */
static inline insn_fn soft_host_pick(enum cpu_feature feature, insn_fn host, insn_fn plain)
{
	return soft_host_features() & CPU_BIT(feature) ? host : plain;
}

#endif
