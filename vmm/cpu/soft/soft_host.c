/* SPDX-License-Identifier: Apache-2.0 */
/* The host's features, asked for once. */
#include "vmm/cpu/soft/soft_host.h"

/* Set beside the features once they are known. */
#define KNOWN (UINT64_C(1) << 63)
static_assert(CPU_FEATURES < 63, "the mask has room for KNOWN");

/* Threads that come together find the same. */
static _Atomic uint64_t host;

uint64_t soft_host_features(void)
{
	uint64_t features = atomic_load_explicit(&host, memory_order_relaxed);

	if (!features) {
		features = cpu_features_host() | KNOWN;
		atomic_store_explicit(&host, features, memory_order_relaxed);
	}
	return features & ~KNOWN;
}

void soft_host_limit(uint64_t features)
{
	atomic_store_explicit(&host, (cpu_features_host() & features) | KNOWN,
			      memory_order_relaxed);
}
