/* SPDX-License-Identifier: Apache-2.0 */
/* The features' bits of CPUID, told and read; the models' names. */
#include "base/cpu_feature.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#endif

enum {
	EAX,
	EBX,
	ECX,
	EDX
};

/* SDM 2A, CPUID; APM 3, appendix E. */
static const struct cpu_feature_bit bits[CPU_FEATURES] = {
	[CPU_SSE3] = {"sse3", 1, ECX, 0},
	[CPU_PCLMULQDQ] = {"pclmulqdq", 1, ECX, 1},
	[CPU_SSSE3] = {"ssse3", 1, ECX, 9},
	[CPU_SSE41] = {"sse4.1", 1, ECX, 19},
	[CPU_SSE42] = {"sse4.2", 1, ECX, 20},
	[CPU_MOVBE] = {"movbe", 1, ECX, 22},
	[CPU_POPCNT] = {"popcnt", 1, ECX, 23},
	[CPU_AES] = {"aes", 1, ECX, 25},
	[CPU_RDRAND] = {"rdrand", 1, ECX, 30},
	[CPU_FSGSBASE] = {"fsgsbase", 7, EBX, 0},
	[CPU_BMI1] = {"bmi1", 7, EBX, 3},
	[CPU_SMEP] = {"smep", 7, EBX, 7},
	[CPU_BMI2] = {"bmi2", 7, EBX, 8},
	[CPU_RDSEED] = {"rdseed", 7, EBX, 18},
	[CPU_SMAP] = {"smap", 7, EBX, 20},
	[CPU_SHA] = {"sha", 7, EBX, 29},
	[CPU_UMIP] = {"umip", 7, ECX, 2},
	[CPU_RDPID] = {"rdpid", 7, ECX, 22},
	[CPU_LZCNT] = {"lzcnt", 0x80000001, ECX, 5},
	[CPU_RDTSCP] = {"rdtscp", 0x80000001, EDX, 27},
	[CPU_FMA] = {"fma", 1, ECX, 12},
	[CPU_XSAVE] = {"xsave", 1, ECX, 26},
	[CPU_AVX] = {"avx", 1, ECX, 28},
	[CPU_F16C] = {"f16c", 1, ECX, 29},
	[CPU_AVX2] = {"avx2", 7, EBX, 5},
	[CPU_PCID] = {"pcid", 1, ECX, 17},
	[CPU_INVPCID] = {"invpcid", 7, EBX, 10},
};

int cpu_model_parse(const char *name, uint64_t *features)
{
	static const struct {
		const char *name;
		uint64_t features;
	} models[] = {
		{"v1", CPU_MODEL_V1},
		{"v2", CPU_MODEL_V2},
		{"v3", CPU_MODEL_V3},
		{"max", CPU_FEATURES_MASK},
	};

	for (size_t n = 0; n < sizeof(models) / sizeof(models[0]); n++)
		if (strcmp(name, models[n].name) == 0) {
			*features = models[n].features;
			return 0;
		}
	return -EINVAL;
}

const struct cpu_feature_bit *cpu_feature_bit(unsigned feature)
{
	return &bits[feature];
}

void cpu_features_tell(uint64_t features, uint32_t leaf, uint32_t regs[4])
{
	for (unsigned n = 0; n < CPU_FEATURES; n++)
		if (bits[n].leaf == leaf && (features & CPU_BIT(n)))
			regs[bits[n].reg] |= 1u << bits[n].bit;
}

uint64_t cpu_features_take(uint32_t leaf, const uint32_t regs[4])
{
	uint64_t features = 0;

	for (unsigned n = 0; n < CPU_FEATURES; n++)
		if (bits[n].leaf == leaf && (regs[bits[n].reg] >> bits[n].bit & 1))
			features |= CPU_BIT(n);
	return features;
}

uint64_t cpu_features_read(void (*read)(void *ctx, uint32_t leaf, uint32_t regs[4]), void *ctx)
{
	static const uint32_t leaves[] = {1, 7, 0x80000001};
	uint64_t features = 0;

	for (size_t n = 0; n < sizeof(leaves) / sizeof(leaves[0]); n++) {
		uint32_t regs[4] = {0};

		read(ctx, leaves[n], regs);
		features |= cpu_features_take(leaves[n], regs);
	}
	return features;
}

static void host_read(void *ctx, uint32_t leaf, uint32_t regs[4])
{
	(void)ctx;
#ifdef __x86_64__
	/* False, and zeroes, beyond the processor's last leaf. */
	(void)__get_cpuid_count(leaf, 0, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]);
#else
	(void)leaf;
	(void)regs;
#endif
}

/* What needs the upper halves of YMM: a processor may have it and its kernel not (XCR0 bits 1 and 2). */
#define YMM_FEATURES (CPU_BIT(CPU_AVX) | CPU_BIT(CPU_AVX2) | CPU_BIT(CPU_FMA) | CPU_BIT(CPU_F16C))

static bool ymm_enabled(void)
{
#ifdef __x86_64__
	uint32_t regs[4] = {0}, low, high;

	host_read(NULL, 1, regs);
	if (!(regs[ECX] >> 27 & 1)) /* OSXSAVE */
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & 6) == 6;
#else
	return false;
#endif
}

uint64_t cpu_features_host(void)
{
	uint64_t features = cpu_features_read(host_read, NULL);

	return ymm_enabled() ? features : features & ~YMM_FEATURES;
}

uint64_t cpu_features_soft(void)
{
	return CPU_FEATURES_MASK & (cpu_features_host() | ~CPU_FEATURES_HOSTED);
}

void cpu_features_text(uint64_t features, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (unsigned n = 0; n < CPU_FEATURES; n++) {
		if (!(features & CPU_BIT(n)))
			continue;
		if (used + strlen(bits[n].name) + 3 > size)
			return;
		used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "",
					 bits[n].name);
	}
}
