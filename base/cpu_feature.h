/* SPDX-License-Identifier: Apache-2.0 */
/* What a CPU model may have beyond a processor of 2003: a number for each feature, its bit of CPUID, the named models. */
#ifndef BASE_CPU_FEATURE_H
#define BASE_CPU_FEATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of the leaves (SDM 2A, CPUID). A set of them is a mask: CPU_BIT(feature). The numbers go over the
 * control channel, so new ones come at the end. */
enum cpu_feature {
	CPU_SSE3,
	CPU_PCLMULQDQ,
	CPU_SSSE3,
	CPU_SSE41,
	CPU_SSE42,
	CPU_MOVBE,
	CPU_POPCNT,
	CPU_AES,
	CPU_RDRAND,
	CPU_FSGSBASE,
	CPU_BMI1,
	CPU_SMEP,
	CPU_BMI2,
	CPU_RDSEED,
	CPU_SMAP,
	CPU_SHA,
	CPU_UMIP,
	CPU_RDPID,
	CPU_LZCNT,
	CPU_RDTSCP,
	CPU_FMA,
	CPU_XSAVE,
	CPU_AVX,
	CPU_F16C,
	CPU_AVX2,
	CPU_PCID,
	CPU_INVPCID,
	CPU_FEATURES
};
#define CPU_BIT(feature)  (UINT64_C(1) << (feature))
#define CPU_FEATURES_MASK (CPU_BIT(CPU_FEATURES) - 1)

/* The levels of the x86-64 psABI. What they have that is not here, every model has. */
#define CPU_MODEL_V1 UINT64_C(0)
#define CPU_MODEL_V2                                                                               \
	(CPU_BIT(CPU_SSE3) | CPU_BIT(CPU_SSSE3) | CPU_BIT(CPU_SSE41) | CPU_BIT(CPU_SSE42) |        \
	 CPU_BIT(CPU_POPCNT))
#define CPU_MODEL_V3                                                                               \
	(CPU_MODEL_V2 | CPU_BIT(CPU_AVX) | CPU_BIT(CPU_AVX2) | CPU_BIT(CPU_BMI1) |                 \
	 CPU_BIT(CPU_BMI2) | CPU_BIT(CPU_F16C) | CPU_BIT(CPU_FMA) | CPU_BIT(CPU_LZCNT) |           \
	 CPU_BIT(CPU_MOVBE) | CPU_BIT(CPU_XSAVE))

/* What the software CPU gives on this host: all, but for what only a host can compute that has it. */
#define CPU_FEATURES_HOSTED (CPU_BIT(CPU_FMA) | CPU_BIT(CPU_F16C))
uint64_t cpu_features_soft(void);

/* The models by name: "v1", "v2", "v3"; "max": all that the VM's hosts can give, a mask of all. 0, or
 * -EINVAL. Any thread. */
int cpu_model_parse(const char *name, uint64_t *features);

/* Where CPUID tells of a feature. */
struct cpu_feature_bit {
	const char *name;
	uint32_t leaf; /* subleaf 0 */
	uint8_t reg;   /* 0 to 3: EAX, EBX, ECX, EDX */
	uint8_t bit;
};

/* Any thread; feature is less than CPU_FEATURES; static. */
const struct cpu_feature_bit *cpu_feature_bit(unsigned feature);

/* Sets the bits of one leaf (subleaf 0) that the set has in EAX, EBX, ECX, EDX. Any thread. */
void cpu_features_tell(uint64_t features, uint32_t leaf, uint32_t regs[4]);

/* The features that the registers of a leaf (subleaf 0) tell of. Any thread. */
uint64_t cpu_features_take(uint32_t leaf, const uint32_t regs[4]);

/* All leaves by a callback, which gives zeroes for what it does not know. */
uint64_t cpu_features_read(void (*read)(void *ctx, uint32_t leaf, uint32_t regs[4]), void *ctx);

/* The set that user programs can use here: the processor tells of it, and its kernel keeps the registers. Any thread. */
uint64_t cpu_features_host(void);

/* The names of a set with ", " between, as many as there is room for. */
void cpu_features_text(uint64_t features, char *out, size_t size);

#endif
