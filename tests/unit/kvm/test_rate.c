/* SPDX-License-Identifier: Apache-2.0 */
/* Whether KVM scales a guest's TSC, found by the counter's own value and not by what KVM says. */
#include <criterion/criterion.h>

#include "vmm/cpu/kvm/kvm_parts.h"

#define HOST_KHZ 2600000u
/* Ten minutes, and 800 ns of reading. */
#define HOST_TSC (UINT64_C(600000) * HOST_KHZ)
#define TOOK	 2080u

static bool scales(uint64_t host_tsc, uint64_t value, uint64_t guest_khz)
{
	struct kvm_tsc_reading r = {host_tsc, value, host_tsc + TOOK};

	return kvm_tsc_scales(&r, HOST_KHZ, guest_khz);
}

static uint64_t scaled(uint64_t host_tsc, uint64_t guest_khz)
{
	return (uint64_t)((unsigned __int128)host_tsc * guest_khz / HOST_KHZ);
}

Test(kvm_rate, within_the_tolerance_the_counter_tells)
{
	/* 1, 100 and 249 ppm away, faster and slower: KVM does not scale by default. */
	static const int khz[] = {3, -3, 260, -260, 647, -647};

	for (unsigned i = 0; i < sizeof(khz) / sizeof(khz[0]); i++) {
		uint64_t guest_khz = (uint64_t)((int64_t)HOST_KHZ + khz[i]);

		cr_expect_not(scales(HOST_TSC, HOST_TSC + TOOK / 2, guest_khz), "%d", khz[i]);
		/* A host whose administrator has set the tolerance to 0. */
		cr_expect(scales(HOST_TSC, scaled(HOST_TSC + TOOK / 2, guest_khz), guest_khz), "%d",
			  khz[i]);
	}
}

Test(kvm_rate, beyond_it)
{
	cr_expect(scales(HOST_TSC, scaled(HOST_TSC + TOOK / 2, 1000000), 1000000));
	cr_expect(scales(HOST_TSC, scaled(HOST_TSC + TOOK / 2, 2601300), 2601300));
	/* One that ignored the rate. */
	cr_expect_not(scales(HOST_TSC, HOST_TSC + TOOK / 2, 2601300));
}

/* Where the value says nothing, KVM's own rule. */
Test(kvm_rate, a_host_that_has_just_started)
{
	cr_expect_not(scales(1000, 1500, HOST_KHZ + 3));
	cr_expect(scales(1000, 1500, HOST_KHZ + 2600));
	cr_expect_not(scales(HOST_TSC, 7, HOST_KHZ + 600));
	cr_expect(scales(HOST_TSC, 7, 1000000));
}
