/* SPDX-License-Identifier: Apache-2.0 */
/* What the CPU model has of all that Zydis knows, and where processors differ from Zydis. */
#include <assert.h>
#include <string.h>

#include "tests/unit/softdecode/compare.h"

/* CPUID's registers. */
enum {
	A,
	B,
	C,
	D
};

/* clang-format off */
static const struct model_feature features[] = {
	{"FPU", 1, 0, D, 0, true, {ZYDIS_ISA_SET_X87}},
	{"TSC", 1, 0, D, 4, true, {ZYDIS_ISA_SET_INVALID}},
	{"MSR", 1, 0, D, 5, true, {ZYDIS_ISA_SET_INVALID}},
	{"CX8", 1, 0, D, 8, true, {ZYDIS_ISA_SET_INVALID}},
	{"CMOV", 1, 0, D, 15, true, {ZYDIS_ISA_SET_CMOV, ZYDIS_ISA_SET_FCMOV}},
	{"CLFLUSH", 1, 0, D, 19, true, {ZYDIS_ISA_SET_CLFSH}},
	{"MMX", 1, 0, D, 23, true, {ZYDIS_ISA_SET_PENTIUMMMX}},
	{"FXSR", 1, 0, D, 24, true, {ZYDIS_ISA_SET_FXSAVE, ZYDIS_ISA_SET_FXSAVE64}},
	{"SSE", 1, 0, D, 25, true, {ZYDIS_ISA_SET_SSE, ZYDIS_ISA_SET_SSEMXCSR, ZYDIS_ISA_SET_SSE_PREFETCH}},
	{"SSE2", 1, 0, D, 26, true, {ZYDIS_ISA_SET_SSE2, ZYDIS_ISA_SET_SSE2MMX}},
	{"CMPXCHG16B", 1, 0, C, 13, true, {ZYDIS_ISA_SET_CMPXCHG16B}},
	{"SYSCALL", 0x80000001, 0, D, 11, true, {ZYDIS_ISA_SET_INVALID}},
	{"LM", 0x80000001, 0, D, 29, true, {ZYDIS_ISA_SET_LONGMODE}},
	{"LAHF64", 0x80000001, 0, C, 0, true, {ZYDIS_ISA_SET_LAHF}},
	{"PREFETCHW", 0x80000001, 0, C, 8, true, {ZYDIS_ISA_SET_PREFETCH_NOP}},
	{"SSE3", 1, 0, C, 0, false, {ZYDIS_ISA_SET_SSE3, ZYDIS_ISA_SET_SSE3X87}},
	{"PCLMULQDQ", 1, 0, C, 1, false, {ZYDIS_ISA_SET_PCLMULQDQ}},
	{"MONITOR", 1, 0, C, 3, false, {ZYDIS_ISA_SET_MONITOR}},
	{"VMX", 1, 0, C, 5, false, {ZYDIS_ISA_SET_VTX, ZYDIS_ISA_SET_VMFUNC}},
	{"SMX", 1, 0, C, 6, false, {ZYDIS_ISA_SET_SMX}},
	{"SSSE3", 1, 0, C, 9, false, {ZYDIS_ISA_SET_SSSE3, ZYDIS_ISA_SET_SSSE3MMX}},
	{"FMA", 1, 0, C, 12, false, {ZYDIS_ISA_SET_FMA}},
	{"SSE4.1", 1, 0, C, 19, false, {ZYDIS_ISA_SET_SSE4}},
	{"SSE4.2", 1, 0, C, 20, false, {ZYDIS_ISA_SET_SSE42}},
	{"MOVBE", 1, 0, C, 22, false, {ZYDIS_ISA_SET_MOVBE}},
	{"POPCNT", 1, 0, C, 23, false, {ZYDIS_ISA_SET_POPCNT}},
	{"AES", 1, 0, C, 25, false, {ZYDIS_ISA_SET_AES}},
	{"XSAVE", 1, 0, C, 26, false, {ZYDIS_ISA_SET_XSAVE}},
	{"AVX", 1, 0, C, 28, false, {ZYDIS_ISA_SET_AVX, ZYDIS_ISA_SET_AVXAES, ZYDIS_ISA_SET_AVX_GFNI}},
	{"F16C", 1, 0, C, 29, false, {ZYDIS_ISA_SET_F16C}},
	{"RDRAND", 1, 0, C, 30, false, {ZYDIS_ISA_SET_RDRAND}},
	{"FSGSBASE", 7, 0, B, 0, false, {ZYDIS_ISA_SET_RDWRFSGS}},
	{"SGX", 7, 0, B, 2, false, {ZYDIS_ISA_SET_SGX, ZYDIS_ISA_SET_SGX_ENCLV}},
	{"BMI1", 7, 0, B, 3, false, {ZYDIS_ISA_SET_BMI1}},
	{"AVX2", 7, 0, B, 5, false, {ZYDIS_ISA_SET_AVX2, ZYDIS_ISA_SET_AVX2GATHER}},
	{"BMI2", 7, 0, B, 8, false, {ZYDIS_ISA_SET_BMI2}},
	{"INVPCID", 7, 0, B, 10, false, {ZYDIS_ISA_SET_INVPCID}},
	{"RTM", 7, 0, B, 11, false, {ZYDIS_ISA_SET_RTM}},
	{"MPX", 7, 0, B, 14, false, {ZYDIS_ISA_SET_MPX}},
	{"AVX512", 7, 0, B, 16, false, {ZYDIS_ISA_SET_INVALID}},
	{"RDSEED", 7, 0, B, 18, false, {ZYDIS_ISA_SET_RDSEED}},
	{"ADX", 7, 0, B, 19, false, {ZYDIS_ISA_SET_ADOX_ADCX}},
	{"SMAP", 7, 0, B, 20, false, {ZYDIS_ISA_SET_SMAP}},
	{"CLFLUSHOPT", 7, 0, B, 23, false, {ZYDIS_ISA_SET_CLFLUSHOPT}},
	{"CLWB", 7, 0, B, 24, false, {ZYDIS_ISA_SET_CLWB}},
	{"PT", 7, 0, B, 25, false, {ZYDIS_ISA_SET_PT}},
	{"SHA", 7, 0, B, 29, false, {ZYDIS_ISA_SET_SHA}},
	{"PREFETCHWT1", 7, 0, C, 0, false, {ZYDIS_ISA_SET_PREFETCHWT1}},
	{"PKU", 7, 0, C, 3, false, {ZYDIS_ISA_SET_PKU}},
	{"WAITPKG", 7, 0, C, 5, false, {ZYDIS_ISA_SET_WAITPKG}},
	{"CET", 7, 0, C, 7, false, {ZYDIS_ISA_SET_CET}},
	{"GFNI", 7, 0, C, 8, false, {ZYDIS_ISA_SET_GFNI}},
	{"VAES", 7, 0, C, 9, false, {ZYDIS_ISA_SET_VAES}},
	{"VPCLMULQDQ", 7, 0, C, 10, false, {ZYDIS_ISA_SET_VPCLMULQDQ}},
	{"RDPID", 7, 0, C, 22, false, {ZYDIS_ISA_SET_RDPID}},
	{"KEYLOCKER", 7, 0, C, 23, false, {ZYDIS_ISA_SET_KEYLOCKER, ZYDIS_ISA_SET_KEYLOCKER_WIDE}},
	{"CLDEMOTE", 7, 0, C, 25, false, {ZYDIS_ISA_SET_CLDEMOTE}},
	{"MOVDIR", 7, 0, C, 27, false, {ZYDIS_ISA_SET_MOVDIR}},
	{"ENQCMD", 7, 0, C, 29, false, {ZYDIS_ISA_SET_ENQCMD}},
	{"UINTR", 7, 0, D, 5, false, {ZYDIS_ISA_SET_UINTR}},
	{"SERIALIZE", 7, 0, D, 14, false, {ZYDIS_ISA_SET_SERIALIZE}},
	{"TSXLDTRK", 7, 0, D, 16, false, {ZYDIS_ISA_SET_TSX_LDTRK}},
	{"PCONFIG", 7, 0, D, 18, false, {ZYDIS_ISA_SET_PCONFIG}},
	{"AMX", 7, 0, D, 24, false, {ZYDIS_ISA_SET_AMX_TILE, ZYDIS_ISA_SET_AMX_BF16, ZYDIS_ISA_SET_AMX_INT8}},
	{"AVX-VNNI", 7, 1, A, 4, false, {ZYDIS_ISA_SET_AVX_VNNI}},
	{"HRESET", 7, 1, A, 22, false, {ZYDIS_ISA_SET_HRESET}},
	{"XSAVEOPT", 0xd, 1, A, 0, false, {ZYDIS_ISA_SET_XSAVEOPT}},
	{"XSAVEC", 0xd, 1, A, 1, false, {ZYDIS_ISA_SET_XSAVEC}},
	{"XSAVES", 0xd, 1, A, 3, false, {ZYDIS_ISA_SET_XSAVES}},
	{"SVM", 0x80000001, 0, C, 2, false, {ZYDIS_ISA_SET_SVM}},
	{"LZCNT", 0x80000001, 0, C, 5, false, {ZYDIS_ISA_SET_LZCNT}},
	{"SSE4A", 0x80000001, 0, C, 6, false, {ZYDIS_ISA_SET_SSE4A}},
	{"XOP", 0x80000001, 0, C, 11, false, {ZYDIS_ISA_SET_XOP}},
	{"LWP", 0x80000001, 0, C, 15, false, {ZYDIS_ISA_SET_LWP}},
	{"FMA4", 0x80000001, 0, C, 16, false, {ZYDIS_ISA_SET_FMA4}},
	{"TBM", 0x80000001, 0, C, 21, false, {ZYDIS_ISA_SET_TBM}},
	{"MONITORX", 0x80000001, 0, C, 29, false, {ZYDIS_ISA_SET_MONITORX}},
	{"RDTSCP", 0x80000001, 0, D, 27, false, {ZYDIS_ISA_SET_RDTSCP}},
	{"3DNOW", 0x80000001, 0, D, 31, false, {ZYDIS_ISA_SET_AMD3DNOW}},
	{"CLZERO", 0x80000008, 0, B, 0, false, {ZYDIS_ISA_SET_CLZERO}},
	{"INVLPGB", 0x80000008, 0, B, 3, false, {ZYDIS_ISA_SET_AMD_INVLPGB}},
	{"RDPRU", 0x80000008, 0, B, 4, false, {ZYDIS_ISA_SET_RDPRU}},
	{"MCOMMIT", 0x80000008, 0, B, 8, false, {ZYDIS_ISA_SET_MCOMMIT}},
	{"SNP", 0x8000001f, 0, A, 4, false, {ZYDIS_ISA_SET_SNP}},
	{"PADLOCK-RNG", 0xc0000001, 0, D, 2, false, {ZYDIS_ISA_SET_PADLOCK_RNG}},
	{"PADLOCK-ACE", 0xc0000001, 0, D, 6, false, {ZYDIS_ISA_SET_PADLOCK_ACE}},
	{"PADLOCK-PHE", 0xc0000001, 0, D, 10, false, {ZYDIS_ISA_SET_PADLOCK_PHE}},
	{"PADLOCK-PMM", 0xc0000001, 0, D, 12, false, {ZYDIS_ISA_SET_PADLOCK_PMM}},
};
/* clang-format on */

/* Of every x86-64 processor, without a bit of CPUID. */
static const ZydisISASet base_sets[] = {
	ZYDIS_ISA_SET_FAT_NOP,	   ZYDIS_ISA_SET_I186, ZYDIS_ISA_SET_I286PROTECTED,
	ZYDIS_ISA_SET_I286REAL,	   ZYDIS_ISA_SET_I386, ZYDIS_ISA_SET_I486,
	ZYDIS_ISA_SET_I486REAL,	   ZYDIS_ISA_SET_I86,  ZYDIS_ISA_SET_PAUSE,
	ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_ISA_SET_PPRO, ZYDIS_ISA_SET_RDPMC,
};

/* Of other makes or found by other means: TDX by its own leaf, KNC by the model, AMD's forms of
 * SYSCALL by the vendor. */
static const ZydisISASet foreign_sets[] = {
	ZYDIS_ISA_SET_AMD,	ZYDIS_ISA_SET_TDX,	   ZYDIS_ISA_SET_KNCE,
	ZYDIS_ISA_SET_KNCJKBR,	ZYDIS_ISA_SET_KNCSTREAM,   ZYDIS_ISA_SET_KNCV,
	ZYDIS_ISA_SET_KNC_MISC, ZYDIS_ISA_SET_KNC_PF_HINT,
};

#define FEATURES (sizeof(features) / sizeof(features[0]))

const struct model_feature *model_feature(unsigned n)
{
	return n < FEATURES ? &features[n] : NULL;
}

static bool set_listed(const ZydisISASet *sets, size_t count, ZydisISASet set)
{
	for (size_t n = 0; n < count; n++)
		if (sets[n] == set)
			return true;
	return false;
}

static const struct model_feature *set_feature(ZydisISASet set)
{
	for (unsigned n = 0; n < FEATURES; n++)
		if (set != ZYDIS_ISA_SET_INVALID &&
		    set_listed(features[n].sets, MODEL_SETS_MAX, set))
			return &features[n];
	return NULL;
}

#define LISTED(sets, set) set_listed(sets, sizeof(sets) / sizeof((sets)[0]), set)

static bool set_has(ZydisISASet set)
{
	const struct model_feature *f = set_feature(set);

	return f ? f->has : LISTED(base_sets, set);
}

bool model_set_known(ZydisISASet set)
{
	return set_feature(set) || LISTED(base_sets, set) || LISTED(foreign_sets, set) ||
	       strncmp(ZydisISASetGetString(set), "AVX512", 6) == 0;
}

bool model_has(const ZydisDecodedInstruction *z)
{
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || !set_has(z->meta.isa_set))
		return false;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SALC: /* undocumented, gone in 64-bit mode */
	case ZYDIS_MNEMONIC_RSM:  /* there is no system management mode */
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return false;
	default:
		return true;
	}
}

/* What executes though Zydis knows no such instruction of the model, or knows it as another one. */
static const struct explanation {
	const char *handler; /* its name begins so */
	ZydisMnemonic is;    /* what Zydis says; INVALID: nothing, or anything */
	bool legacy, raises; /* outside of 64-bit mode only; the handler raises #UD itself */
	const char *why;
} explanations[] = {
	{"op_rdtscp", ZYDIS_MNEMONIC_RDTSCP, false, true, "#UD, since CPUID does not announce it"},
	{"op_syscall", ZYDIS_MNEMONIC_SYSCALL, true, true, "#UD outside of 64-bit mode, by Intel"},
	{"op_sysret", ZYDIS_MNEMONIC_SYSRET, true, true, "#UD outside of 64-bit mode, by Intel"},
	{"op_swapgs", ZYDIS_MNEMONIC_INVALID, true, true, "#UD outside of 64-bit mode"},
	{"op_mov_from_dr", ZYDIS_MNEMONIC_INVALID, false, true, "#UD for DR8 to DR15"},
	{"op_mov_to_dr", ZYDIS_MNEMONIC_INVALID, false, true, "#UD for DR8 to DR15"},
	{"nop", ZYDIS_MNEMONIC_PREFETCHWT1, false, false, "0F 0D /2 is a hint where PREFETCHW is"},
	{"xchg_rr", ZYDIS_MNEMONIC_PAUSE, false, false, "F3 90 with REX.B is XCHG, on hosts too"},
};

#define EXPLANATIONS (sizeof(explanations) / sizeof(explanations[0]))
static_assert(EXPLANATIONS <= MODEL_EXPLANATIONS_MAX, "the counts' room");

int model_explains(const ZydisDecodedInstruction *z, unsigned mode, const char *handler)
{
	for (unsigned n = 0; n < EXPLANATIONS; n++) {
		const struct explanation *e = &explanations[n];

		if (strncmp(handler, e->handler, strlen(e->handler)) != 0 ||
		    (e->legacy && mode == 64))
			continue;
		if (z ? z->mnemonic == e->is : e->is == ZYDIS_MNEMONIC_INVALID)
			return (int)n;
	}
	return -1;
}

const char *model_explanation(unsigned row, bool *raises)
{
	if (row >= EXPLANATIONS)
		return NULL;
	*raises = explanations[row].raises;
	return explanations[row].why;
}

void model_decoder_init(ZydisDecoder *decoder, unsigned mode)
{
	static const ZydisDecoderMode newer[] = {
		ZYDIS_DECODER_MODE_MPX,	  ZYDIS_DECODER_MODE_CET,      ZYDIS_DECODER_MODE_LZCNT,
		ZYDIS_DECODER_MODE_TZCNT, ZYDIS_DECODER_MODE_WBNOINVD, ZYDIS_DECODER_MODE_CLDEMOTE,
	};

	if (mode == 64)
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else if (mode == 32)
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	for (unsigned n = 0; n < sizeof(newer) / sizeof(newer[0]); n++)
		ZydisDecoderEnableMode(decoder, newer[n], ZYAN_FALSE);
}
