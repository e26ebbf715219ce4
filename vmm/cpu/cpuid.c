/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID's answers. Only what the software CPU has and what Linux needs to hear is offered. */
#include "vmm/cpu/cpuid.h"

#include <stddef.h>
#include <string.h>

#include "base/cpu_feature.h"
#include "vmm/boot/layout.h"

/*
 * Intel: the choice wherever no AMD processor runs the VM, since only there Linux believes leaf 0x15 (TSC frequency) and needs no timer to
 * calibrate against. Family 6 model 0x2c (Westmere): no quirk of Linux's for that model touches
 * anything that is not here, and above model 0xe the TSC counts as constant.
 */
#define SIGNATURE_INTEL 0x000206c2u
/*
 * AMD: family 17h model 1 (Zen). Every processor that KVM is likely to meet is this or newer, and
 * what Linux works around for it does no harm on a newer one. Below 17h it would take more pains.
 */
#define SIGNATURE_AMD 0x00800f12u

/* 1.EDX: FPU DE PSE TSC MSR PAE CX8 APIC PGE CMOV PAT CLFLUSH MMX FXSR SSE SSE2. Not MTRR, MCE,
 * HTT, nor SEP: AMD's processors have no SYSENTER in long mode, and one model is for all hosts. */
#define FEATURES_1_EDX                                                                             \
	(1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9 |           \
	 1u << 13 | 1u << 15 | 1u << 16 | 1u << 19 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26)
/* 1.ECX: CX16, x2APIC, hypervisor. Not TSC deadline (bit 24): the timer is the one-shot count. */
#define FEATURES_1_ECX (1u << 13 | 1u << 21 | 1u << 31)
/* 7.EBX: ERMS. 7.EDX: FSRM. They make Linux copy with REP MOVSB, our fastest instruction. */
#define FEATURES_7_EBX (1u << 9)
#define FEATURES_7_EDX (1u << 4)
/* 80000001.EDX: SYSCALL, NX, LM. ECX: LAHF in 64-bit mode, PREFETCHW; AMD: TOPOEXT, so that Linux
 * takes x2APIC ids from leaf 0xb and caches from 8000001d. */
#define FEATURES_EXT_EDX     (1u << 11 | 1u << 20 | 1u << 29)
#define FEATURES_EXT_ECX     (1u << 0 | 1u << 8)
#define FEATURES_EXT_ECX_AMD (1u << 22)

/* 40000001.EAX: MSI_EXT_DEST_ID (I/O APIC and MSI destinations of 15 bits), and nothing of KVM's
 * that would write guest memory behind the coherence protocol or send IPIs by hypercall. */
#define KVM_FEATURES (1u << 15)

#define CLFLUSH_SIZE_8 8u /* 64 bytes */

struct leaf {
	uint32_t leaf, subleaf;
	struct vcpu_cpuid regs; /* eax, ebx, ecx, edx */
};

#define ANY_SUBLEAF UINT32_MAX
#define LLC_LEVEL   3u

/* Leaf 4: type, level; ways, sets. What CPUs share comes from the VM's shape. */
#define CACHE(type, level, ways, sets)                                                             \
	{(type) | (level) << 5 | 1u << 8, ((ways) - 1) << 22 | 63, (sets) - 1, 0}

#define TEXT4(a, b, c, d)                                                                          \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* What is the same for all vCPUs of all VMs of a vendor. */
static const struct leaf leaves_intel[] = {
	{0x0,
	 ANY_SUBLEAF,
	 {CPUID_MAX_BASIC, TEXT4('G', 'e', 'n', 'u'), TEXT4('n', 't', 'e', 'l'),
	  TEXT4('i', 'n', 'e', 'I')}},
	{0x2, ANY_SUBLEAF, {0x0000ff01, 0, 0, 0}},  /* caches: see leaf 4 */
	{0x4, 0, CACHE(1u, 1u, 8u, 64u)},	    /* data, 32 KiB */
	{0x4, 1, CACHE(2u, 1u, 8u, 64u)},	    /* instructions, 32 KiB */
	{0x4, 2, CACHE(3u, 2u, 8u, 512u)},	    /* unified, 256 KiB */
	{0x4, 3, CACHE(3u, LLC_LEVEL, 16u, 8192u)}, /* 8 MiB, shared by the package */
	{0x80000000, ANY_SUBLEAF, {CPUID_MAX_EXTENDED, 0, 0, 0}},
	{0x80000001, ANY_SUBLEAF, {0, 0, FEATURES_EXT_ECX, FEATURES_EXT_EDX}},
};
static const struct leaf leaves_amd[] = {
	{0x0,
	 ANY_SUBLEAF,
	 {CPUID_MAX_BASIC, TEXT4('A', 'u', 't', 'h'), TEXT4('c', 'A', 'M', 'D'),
	  TEXT4('e', 'n', 't', 'i')}},
	{0x80000000, ANY_SUBLEAF, {CPUID_MAX_EXTENDED_AMD, 0, 0, 0}},
	{0x80000001,
	 ANY_SUBLEAF,
	 {SIGNATURE_AMD, 0, FEATURES_EXT_ECX | FEATURES_EXT_ECX_AMD, FEATURES_EXT_EDX}},
	{0x80000005, ANY_SUBLEAF, {0, 0, 32u << 24 | 8u << 16 | 64u, 32u << 24 | 8u << 16 | 64u}},
	{0x8000001d, 0, CACHE(1u, 1u, 8u, 64u)}, /* as leaf 4 */
	{0x8000001d, 1, CACHE(2u, 1u, 8u, 64u)},
	{0x8000001d, 2, CACHE(3u, 2u, 8u, 512u)},
	{0x8000001d, 3, CACHE(3u, LLC_LEVEL, 16u, 8192u)},
};
/* And of both. */
static const struct leaf leaves_common[] = {
	{0x6, ANY_SUBLEAF, {1u << 2, 0, 0, 0}}, /* ARAT: the APIC timer never stops */
	{0x7, 0, {0, FEATURES_7_EBX, 0, FEATURES_7_EDX}},
	{0x40000000,
	 ANY_SUBLEAF,
	 {CPUID_MAX_HYPERVISOR, TEXT4('K', 'V', 'M', 'K'), TEXT4('V', 'M', 'K', 'V'),
	  TEXT4('M', 0, 0, 0)}},
	{0x40000001, ANY_SUBLEAF, {KVM_FEATURES, 0, 0, 0}},
	{0x80000006,
	 ANY_SUBLEAF,
	 {0, 0, 256u << 16 | 6u << 12 | 64u, 16u << 18 | 8u << 12 | 64u}}, /* L2, L3 as above */
	{0x80000007, ANY_SUBLEAF, {0, 0, 0, 1u << 8}},			   /* invariant TSC */
	{0x80000008, ANY_SUBLEAF, {LAYOUT_LINEAR_BITS << 8 | LAYOUT_PHYS_BITS, 0, 0, 0}},
};

static const char brand[48] = "Pangea software x86-64 CPU";

/* Where a vCPU is. */
struct place {
	uint32_t apic_id;
	unsigned slice, shift; /* apic_id >> shift == slice */
	unsigned cores;	       /* of the slice */
};

static struct place place_of(const struct cpuid_model *model, unsigned vcpu)
{
	const struct vm_shape *shape = model->shape;
	struct place place = {.apic_id = vcpu, .slice = vcpu, .cores = 1};

	if (!shape)
		return place;
	place.slice = shape_slice_of_vcpu(shape, vcpu);
	place.apic_id = shape_apic_id(shape, vcpu);
	place.shift = shape->apic_shift;
	place.cores = shape->slice[place.slice].vcpus;
	return place;
}

static void features_read(const struct cpuid_model *model, unsigned vcpu, struct vcpu_cpuid *out)
{
	out->eax = model->vendor == CPU_VENDOR_AMD ? SIGNATURE_AMD : SIGNATURE_INTEL;
	out->ebx = (place_of(model, vcpu).apic_id & 0xff) << 24 | 1u << 16 | CLFLUSH_SIZE_8 << 8;
	out->ecx = FEATURES_1_ECX;
	out->edx = FEATURES_1_EDX;
}

/* Leaf 0xb: a slice is a package, its CPUs are cores of one thread. */
static void topology_read(const struct cpuid_model *model, unsigned vcpu, uint32_t subleaf,
			  struct vcpu_cpuid *out)
{
	struct place place = place_of(model, vcpu);

	out->edx = place.apic_id;
	out->ecx = subleaf & 0xff;
	switch (subleaf) {
	case 0: /* threads */
		out->ebx = 1;
		out->ecx |= 1u << 8;
		return;
	case 1: /* cores */
		out->eax = place.shift;
		out->ebx = place.cores;
		out->ecx |= 2u << 8;
		return;
	default:
		return;
	}
}

/* Leaf 4 and AMD's 8000001d, of which the table has the caches: how many ids share them, and in leaf 4 how many
 * ids of cores a package has. */
static void sharing_add(const struct place *place, uint32_t leaf, struct vcpu_cpuid *out)
{
	uint32_t ids = 1u << place->shift, level = out->eax >> 5 & 7;

	if (level == LLC_LEVEL)
		out->eax |= (ids - 1) << 14;
	if (level && leaf == 0x4)
		out->eax |= (ids < 64 ? ids - 1 : 63) << 26;
}

/* AMD: the id, one thread in each core, one node (the slice) in each package. */
static void amd_topology_read(const struct cpuid_model *model, unsigned vcpu,
			      struct vcpu_cpuid *out)
{
	struct place place = place_of(model, vcpu);

	if (model->vendor != CPU_VENDOR_AMD)
		return;
	out->eax = place.apic_id;
	out->ebx = place.apic_id & ((1u << place.shift) - 1) & 0xff;
	out->ecx = place.slice & 0xff;
}

/*
 * Leaf 0x15: TSC = ECX * EBX / EAX. Linux multiplies ECX in kHz by EBX in 32 bits, so EBX has a
 * limit, and EBX/EAX is the last convergent of the rate's continued fraction within it: exact, or
 * off by less than a millionth (the guest's own kilohertz are coarser).
 */
static void tsc_read(uint64_t tsc_hz, struct vcpu_cpuid *out)
{
	const uint64_t limit = UINT32_MAX / (LAYOUT_CRYSTAL_HZ / 1000);
	uint64_t n = tsc_hz, d = LAYOUT_CRYSTAL_HZ;
	uint64_t p0 = 0, q0 = 1, p1 = 1, q1 = 0; /* the last two convergents */

	while (d) {
		uint64_t a = n / d, p = a * p1 + p0, q = a * q1 + q0, rest = n % d;

		if (p > limit || q > UINT32_MAX)
			break;
		p0 = p1, q0 = q1, p1 = p, q1 = q;
		n = d, d = rest;
	}
	out->eax = (uint32_t)q1;
	out->ebx = (uint32_t)p1;
	out->ecx = LAYOUT_CRYSTAL_HZ;
}

static bool leaf_find(const struct leaf *leaves, size_t count, uint32_t leaf, uint32_t subleaf,
		      struct vcpu_cpuid *out)
{
	for (size_t i = 0; i < count; i++) {
		if (leaves[i].leaf != leaf)
			continue;
		if (leaves[i].subleaf != ANY_SUBLEAF && leaves[i].subleaf != subleaf)
			continue;
		*out = leaves[i].regs;
		return true;
	}
	return false;
}

#define LEAF_FIND(leaves, leaf, subleaf, out)                                                      \
	leaf_find(leaves, sizeof(leaves) / sizeof((leaves)[0]), leaf, subleaf, out)

static void table_read(enum cpu_vendor vendor, uint32_t leaf, uint32_t subleaf,
		       struct vcpu_cpuid *out)
{
	bool found = vendor == CPU_VENDOR_AMD ? LEAF_FIND(leaves_amd, leaf, subleaf, out)
					      : LEAF_FIND(leaves_intel, leaf, subleaf, out);

	if (!found)
		(void)LEAF_FIND(leaves_common, leaf, subleaf, out);
}

/* Leaf 0xd: the XSAVE image, of x87 and SSE (576 bytes with its header), and of AVX (256 behind them). The engines
 * put the size for the parts enabled into EBX of subleaf 0. */
static void xsave_tell(bool avx, uint32_t subleaf, struct vcpu_cpuid *out)
{
	const uint32_t size = avx ? 832 : 576;

	if (subleaf == 0)
		*out = (struct vcpu_cpuid){avx ? 7 : 3, size, size, 0};
	else if (subleaf == 1)
		*out = (struct vcpu_cpuid){1, 0, 0, 0}; /* XSAVEOPT */
	else if (subleaf == 2 && avx)
		*out = (struct vcpu_cpuid){256, 576, 0, 0};
}

static void features_tell(uint64_t features, uint32_t leaf, struct vcpu_cpuid *out)
{
	uint32_t regs[4] = {out->eax, out->ebx, out->ecx, out->edx};

	cpu_features_tell(features, leaf, regs);
	*out = (struct vcpu_cpuid){regs[0], regs[1], regs[2], regs[3]};
}

/* Without the features that only some models have. */
static void base_read(const struct cpuid_model *model, unsigned vcpu, uint32_t leaf,
		      uint32_t subleaf, struct vcpu_cpuid *out)
{
	struct place place;

	switch (leaf) {
	case 0x1:
		features_read(model, vcpu, out);
		return;
	case 0xb:
		topology_read(model, vcpu, subleaf, out);
		return;
	case 0x8000001e:
		amd_topology_read(model, vcpu, out);
		return;
	case 0x15:
		tsc_read(model->tsc_hz, out);
		return;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		memcpy(out, brand + (leaf - 0x80000002) * sizeof(*out), sizeof(*out));
		return;
	default:
		table_read(model->vendor, leaf, subleaf, out);
		place = place_of(model, vcpu);
		if (leaf == 0x4 || leaf == 0x8000001d)
			sharing_add(&place, leaf, out);
		else if (leaf == 0x80000008 && model->vendor == CPU_VENDOR_AMD)
			out->ecx = place.shift << 12 | (place.cores - 1);
		return;
	}
}

void cpuid_read(void *ctx, unsigned vcpu, uint32_t leaf, uint32_t subleaf, struct vcpu_cpuid *out)
{
	const struct cpuid_model *model = ctx;

	memset(out, 0, sizeof(*out));
	base_read(model, vcpu, leaf, subleaf, out);
	if (leaf == 0xd && (model->features & CPU_BIT(CPU_XSAVE)))
		xsave_tell(model->features & CPU_BIT(CPU_AVX), subleaf, out);
	if (leaf != 0x7 || subleaf == 0)
		features_tell(model->features, leaf, out);
}
