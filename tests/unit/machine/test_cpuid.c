/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID: what Linux decides by, the topology, and that unknown leaves are zero. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cpu/cpuid.h"
#include "vmm/boot/layout.h"

static struct cpuid_model model = {.tsc_hz = LAYOUT_TSC_HZ};

static struct vcpu_cpuid get(unsigned vcpu, uint32_t leaf, uint32_t subleaf)
{
	struct vcpu_cpuid out;

	memset(&out, 0xee, sizeof(out));
	cpuid_read(&model, vcpu, leaf, subleaf, &out);
	return out;
}

static bool zero(struct vcpu_cpuid c)
{
	return !(c.eax | c.ebx | c.ecx | c.edx);
}

static void text(struct vcpu_cpuid c, uint32_t a, uint32_t b, uint32_t d, const char *expected)
{
	char out[13] = {0};

	(void)c;
	memcpy(out, &a, 4);
	memcpy(out + 4, &b, 4);
	memcpy(out + 8, &d, 4);
	cr_assert_str_eq(out, expected);
}

/* AMD's model: what Linux decides by there. */
Test(cpuid, amd)
{
	struct vcpu_cpuid c;
	unsigned i;

	model.vendor = CPU_VENDOR_AMD;
	c = get(0, 0, 0);
	text(c, c.ebx, c.edx, c.ecx, "AuthenticAMD");
	cr_expect_eq(vcpu_vendor(&c), CPU_VENDOR_AMD);
	cr_expect_eq(get(0, 1, 0).eax, 0x00800f12);
	cr_expect_eq(get(0, 0x80000001, 0).eax, 0x00800f12);
	cr_expect(get(0, 0x80000001, 0).ecx & 1u << 22, "TOPOEXT: what follows counts");
	cr_expect_eq(get(0, 0x80000000, 0).eax, 0x8000001e);
	cr_expect_eq(get(0, 0x80000007, 0).edx, 1u << 8);
	cr_expect(zero(get(0, 0x4, 0)), "Intel's leaf");
	for (i = 0; i < 4; i++)
		cr_expect_eq(get(0, 0x8000001d, i).eax & 0x1f, i < 3 ? i + 1 : 3, "cache %u", i);
	cr_expect(zero(get(0, 0x8000001d, 4)));
	/* x2APIC ids beyond a byte. */
	cr_expect_eq(get(199, 0x8000001e, 0).eax, 199);
	cr_expect_eq(get(199, 0xb, 0).edx, 199);
	model.vendor = CPU_VENDOR_INTEL;
	c = get(0, 0, 0);
	cr_expect_eq(vcpu_vendor(&c), CPU_VENDOR_INTEL);
	cr_expect(zero(get(199, 0x8000001e, 0)));
}

Test(cpuid, identity)
{
	struct vcpu_cpuid c = get(0, 0, 0);
	char brand[49] = {0};
	unsigned i;

	cr_assert_eq(c.eax, 0x15);
	text(c, c.ebx, c.edx, c.ecx, "GenuineIntel");
	c = get(0, 0x40000000, 0);
	cr_assert_eq(c.eax, 0x40000001);
	text(c, c.ebx, c.ecx, c.edx, "KVMKVMKVM");
	c = get(0, 0x40000001, 0);
	cr_assert_eq(c.eax, 1u << 15, "MSI_EXT_DEST_ID and nothing else");
	cr_assert(!c.ebx && !c.ecx && !c.edx);
	for (i = 0; i < 3; i++) {
		c = get(0, 0x80000002 + i, 0);
		memcpy(brand + 16 * i, &c, 16);
	}
	cr_assert_str_eq(brand, "Pangea software x86-64 CPU");
	c = get(0, 1, 0);
	cr_assert_eq(c.eax >> 8 & 0xf, 6);
	cr_assert_geq(((c.eax >> 12 & 0xf0) | (c.eax >> 4 & 0xf)), 0x0e);
}

/* arch/x86/kernel/verify_cpu.S and asm/required-features.h. */
Test(cpuid, what_linux_requires)
{
	static const unsigned edx[] = {0, 3, 4, 5, 6, 8, 9, 13, 15, 16, 24, 25, 26};
	struct vcpu_cpuid c = get(3, 1, 0);
	size_t i;

	for (i = 0; i < sizeof(edx) / sizeof(edx[0]); i++)
		cr_assert(c.edx >> edx[i] & 1, "1.EDX.%u", edx[i]);
	cr_assert(c.ecx >> 21 & 1, "x2APIC");
	cr_assert(c.ecx >> 31 & 1, "hypervisor");
	cr_assert(c.ecx >> 13 & 1, "CMPXCHG16B");
	cr_assert_not(c.ecx >> 24 & 1, "no TSC deadline");
	cr_assert_not(c.ecx >> 3 & 1, "no MONITOR");
	cr_assert_not(c.ecx >> 26 & 1, "no XSAVE");
	cr_assert_eq(c.ebx >> 24, 3);
	cr_assert_eq(c.ebx >> 8 & 0xff, 8, "CLFLUSH line");
	c = get(0, 0x80000001, 0);
	cr_assert_eq(c.edx & 0x20100800, 0x20100800u, "LM, NX, SYSCALL");
	cr_assert_eq(get(0, 0x80000008, 0).eax, 0x302e);
	cr_assert_eq(get(0, 0x80000007, 0).edx, 1u << 8);
	cr_assert_eq(get(0, 6, 0).eax, 1u << 2);
	c = get(0, 7, 0);
	cr_assert_eq(c.ebx, 1u << 9);
	cr_assert_eq(c.edx, 1u << 4);
}

Test(cpuid, tsc_frequency)
{
	static const uint64_t rates[] = {1000000000, 2100000000, 2596124000, 2095078000,
					 3700000000, 4200001000, 999999999,  1234567};
	struct vcpu_cpuid c = get(0, 0x15, 0);
	struct cpuid_model other = model;
	size_t i;

	cr_assert_eq(c.eax, 1);
	cr_assert_eq(c.ebx, 40);
	cr_assert_eq(c.ecx, 25000000);
	for (i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		other.tsc_hz = rates[i];
		cpuid_read(&other, 0, 0x15, 0, &c);
		cr_assert(c.eax && c.ebx);
		/* As Linux's native_calibrate_tsc does it: kHz, in 32 bits. */
		cr_assert_leq((uint64_t)(c.ecx / 1000) * c.ebx, UINT32_MAX);
		uint32_t khz = c.ecx / 1000 * c.ebx / c.eax;
		cr_assert_leq(labs((long)khz - (long)(rates[i] / 1000)), 1, "%u kHz", khz);
		uint64_t hz = (uint64_t)c.ecx * c.ebx / c.eax;
		cr_assert_leq(labs((long)hz - (long)rates[i]), (long)(rates[i] / 1000000),
			      "%lu Hz for %lu", (unsigned long)hz, (unsigned long)rates[i]);
	}
}

Test(cpuid, one_core_a_package)
{
	static const unsigned ids[] = {0, 1, 17, 199};
	unsigned i, level;

	for (i = 0; i < 4; i++) {
		for (level = 0; level < 4; level++) {
			struct vcpu_cpuid c = get(ids[i], 0xb, level);

			cr_assert_eq(c.edx, ids[i]);
			cr_assert_eq(c.ecx & 0xff, level);
			cr_assert_eq(c.eax, 0, "no bits of the id below the package");
			cr_assert_eq(c.ebx, level < 2 ? 1u : 0u);
			cr_assert_eq(c.ecx >> 8, level < 2 ? level + 1 : 0u);
		}
	}
	for (level = 0; level < 4; level++)
		cr_assert_eq(get(0, 4, level).eax >> 14, 0, "no cache is shared");
	cr_assert(zero(get(0, 4, 4)));
}

/* The shift that takes an id to the group of this many ids. */
static unsigned order_of(unsigned ids)
{
	unsigned shift = 0;

	while (1u << shift < ids)
		shift++;
	return shift;
}

/* As Linux reads them: package and last-level cache of a CPU by its x2APIC id and the leaves' shifts. */
Test(cpuid, a_slice_is_a_package_with_one_last_level_cache)
{
	static const unsigned vcpus[] = {4, 1, 12, 2};
	static const uint64_t mem[] = {HOME_CHUNK_SIZE, HOME_CHUNK_SIZE, 0, 0};
	struct vm_shape shape;
	unsigned slice = 0;

	cr_assert_eq(shape_init(&shape, 4, vcpus, mem), 0);
	model.shape = &shape;
	for (int vendor = 0; vendor < 2; vendor++) {
		model.vendor = vendor ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
		for (unsigned i = 0; i < shape.vcpus; i++) {
			uint32_t id = shape_apic_id(&shape, i), caches = vendor ? 0x8000001d : 4;
			struct vcpu_cpuid core = get(i, 0xb, 1);

			slice = shape_slice_of_vcpu(&shape, i);
			cr_expect_eq(core.edx, id);
			cr_expect_eq(get(i, 1, 0).ebx >> 24, id & 0xff);
			cr_expect_eq(id >> core.eax, slice, "package");
			cr_expect_eq(core.ebx, vcpus[slice]);
			cr_expect_eq(get(i, 0xb, 0).eax, 0, "one thread a core");
			for (unsigned level = 0; level < 3; level++)
				cr_expect_eq(get(i, caches, level).eax >> 14 & 0xfff, 0);
			cr_expect_eq(id >> order_of((get(i, caches, 3).eax >> 14 & 0xfff) + 1),
				     slice, "last-level cache");
			if (!vendor)
				continue;
			cr_expect_eq(id >> (get(i, 0x80000008, 0).ecx >> 12 & 0xf), slice);
			cr_expect_eq((get(i, 0x80000008, 0).ecx & 0xff) + 1, vcpus[slice]);
			cr_expect_eq(get(i, 0x8000001e, 0).eax, id);
			cr_expect_eq(get(i, 0x8000001e, 0).ecx, slice, "node");
			cr_expect(get(i, 0x80000006, 0).edx, "there is a cache of level 3");
		}
	}
	model.vendor = CPU_VENDOR_INTEL;
	model.shape = NULL;
}

Test(cpuid, unknown_leaves_are_zero)
{
	static const uint32_t leaves[] = {0x3,	      0x5,	  0x8,	      0xa,
					  0xd,	      0x14,	  0x16,	      0x1f,
					  0x40000002, 0x40000100, 0x4000ff00, 0x80000005,
					  0x8000000a, 0x8fffffff, 0xc0000000, 0xffffffff};
	size_t i;

	for (i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
		cr_assert(zero(get(0, leaves[i], 0)), "leaf %x", leaves[i]);
	cr_assert(zero(get(0, 7, 1)));
	cr_assert(zero(get(0, 0xd, 1)));
}
