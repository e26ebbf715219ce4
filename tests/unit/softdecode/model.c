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
static const struct model_feature rows[] = {
	{"FPU", 1, 0, D, 0, true, "X87"},
	{"TSC", 1, 0, D, 4, true, ""},
	{"MSR", 1, 0, D, 5, true, ""},
	{"CX8", 1, 0, D, 8, true, ""},
	{"CMOV", 1, 0, D, 15, true, "CMOV FCMOV FCOMI"},
	{"CLFLUSH", 1, 0, D, 19, true, "CLFSH"},
	{"MMX", 1, 0, D, 23, true, "PENTIUMMMX"},
	{"FXSR", 1, 0, D, 24, true, "FXSAVE FXSAVE64"},
	{"SSE", 1, 0, D, 25, true, "SSE SSEMXCSR SSE_PREFETCH"},
	{"SSE2", 1, 0, D, 26, true, "SSE2 SSE2MMX"},
	{"CMPXCHG16B", 1, 0, C, 13, true, "CMPXCHG16B"},
	{"SYSCALL", 0x80000001, 0, D, 11, true, ""},
	{"LM", 0x80000001, 0, D, 29, true, "LONGMODE"},
	{"LAHF64", 0x80000001, 0, C, 0, true, "LAHF"},
	{"PREFETCHW", 0x80000001, 0, C, 8, true, "PREFETCH_NOP"},
	{"SSE3", 1, 0, C, 0, false, "SSE3 SSE3X87"},
	{"PCLMULQDQ", 1, 0, C, 1, false, "PCLMULQDQ"},
	{"MONITOR", 1, 0, C, 3, false, "MONITOR"},
	{"VMX", 1, 0, C, 5, false, "VTX VMFUNC"},
	{"SMX", 1, 0, C, 6, false, "SMX"},
	{"SSSE3", 1, 0, C, 9, false, "SSSE3 SSSE3MMX"},
	{"FMA", 1, 0, C, 12, false, "FMA"},
	{"PCID", 1, 0, C, 17, false, ""},
	{"SSE4.1", 1, 0, C, 19, false, "SSE4"},
	{"SSE4.2", 1, 0, C, 20, false, "SSE42"},
	{"MOVBE", 1, 0, C, 22, false, "MOVBE"},
	{"POPCNT", 1, 0, C, 23, false, "POPCNT"},
	{"AES", 1, 0, C, 25, false, "AES"},
	{"XSAVE", 1, 0, C, 26, false, "XSAVE"},
	{"AVX", 1, 0, C, 28, false, "AVX AVXAES"},
	{"F16C", 1, 0, C, 29, false, "F16C"},
	{"RDRAND", 1, 0, C, 30, false, "RDRAND"},
	{"FSGSBASE", 7, 0, B, 0, false, "RDWRFSGS"},
	{"SGX", 7, 0, B, 2, false, "SGX SGX_ENCLV"},
	{"BMI1", 7, 0, B, 3, false, "BMI1"},
	{"AVX2", 7, 0, B, 5, false, "AVX2 AVX2GATHER"},
	{"BMI2", 7, 0, B, 8, false, "BMI2"},
	{"INVPCID", 7, 0, B, 10, false, "INVPCID"},
	{"RTM", 7, 0, B, 11, false, "RTM"},
	{"MPX", 7, 0, B, 14, false, "MPX"},
	{"AVX512", 7, 0, B, 16, false, ""},
	{"RDSEED", 7, 0, B, 18, false, "RDSEED"},
	{"ADX", 7, 0, B, 19, false, "ADOX_ADCX"},
	{"SMEP", 7, 0, B, 7, false, ""},
	{"SMAP", 7, 0, B, 20, false, "SMAP"},
	{"PCOMMIT", 7, 0, B, 22, false, "PCOMMIT"},
	{"CLFLUSHOPT", 7, 0, B, 23, false, "CLFLUSHOPT"},
	{"CLWB", 7, 0, B, 24, false, "CLWB"},
	{"PT", 7, 0, B, 25, false, "PT"},
	{"SHA", 7, 0, B, 29, false, "SHA"},
	{"PREFETCHWT1", 7, 0, C, 0, false, "PREFETCHWT1"},
	{"UMIP", 7, 0, C, 2, false, ""},
	{"PKU", 7, 0, C, 3, false, "PKU"},
	{"WAITPKG", 7, 0, C, 5, false, "WAITPKG"},
	{"CET", 7, 0, C, 7, false, "CET"},
	{"GFNI", 7, 0, C, 8, false, "GFNI AVX_GFNI"},
	{"VAES", 7, 0, C, 9, false, "VAES"},
	{"VPCLMULQDQ", 7, 0, C, 10, false, "VPCLMULQDQ"},
	{"RDPID", 7, 0, C, 22, false, "RDPID"},
	{"KEYLOCKER", 7, 0, C, 23, false, "KEYLOCKER KEYLOCKER_WIDE"},
	{"CLDEMOTE", 7, 0, C, 25, false, "CLDEMOTE"},
	{"MOVDIR", 7, 0, C, 27, false, "MOVDIR"},
	{"ENQCMD", 7, 0, C, 29, false, "ENQCMD"},
	{"UINTR", 7, 0, D, 5, false, "UINTR"},
	{"SERIALIZE", 7, 0, D, 14, false, "SERIALIZE"},
	{"TSXLDTRK", 7, 0, D, 16, false, "TSX_LDTRK"},
	{"PCONFIG", 7, 0, D, 18, false, "PCONFIG"},
	{"AMX", 7, 0, D, 24, false, "AMX_TILE AMX_BF16 AMX_INT8 AMX_FP16"},
	{"SHA512", 7, 1, A, 0, false, "SHA512"},
	{"SM3", 7, 1, A, 1, false, "SM3"},
	{"SM4", 7, 1, A, 2, false, "SM4"},
	{"RAO-INT", 7, 1, A, 3, false, "RAO_INT"},
	{"AVX-VNNI", 7, 1, A, 4, false, "AVX_VNNI"},
	{"WRMSRNS", 7, 1, A, 19, false, "WRMSRNS"},
	{"HRESET", 7, 1, A, 22, false, "HRESET"},
	{"AVX-IFMA", 7, 1, A, 23, false, "AVX_IFMA"},
	{"MSRLIST", 7, 1, A, 27, false, "MSRLIST"},
	{"PBNDKB", 7, 1, B, 1, false, "PBNDKB"},
	{"AVX-VNNI-INT8", 7, 1, D, 4, false, "AVX_VNNI_INT8"},
	{"AVX-NE-CONVERT", 7, 1, D, 5, false, "AVX_NE_CONVERT"},
	{"AVX-VNNI-INT16", 7, 1, D, 10, false, "AVX_VNNI_INT16"},
	{"XSAVEOPT", 0xd, 1, A, 0, false, "XSAVEOPT"},
	{"XSAVEC", 0xd, 1, A, 1, false, "XSAVEC"},
	{"XSAVES", 0xd, 1, A, 3, false, "XSAVES"},
	{"SVM", 0x80000001, 0, C, 2, false, "SVM"},
	{"LZCNT", 0x80000001, 0, C, 5, false, "LZCNT"},
	{"SSE4A", 0x80000001, 0, C, 6, false, "SSE4A"},
	{"XOP", 0x80000001, 0, C, 11, false, "XOP"},
	{"LWP", 0x80000001, 0, C, 15, false, "LWP"},
	{"FMA4", 0x80000001, 0, C, 16, false, "FMA4"},
	{"TBM", 0x80000001, 0, C, 21, false, "TBM"},
	{"MONITORX", 0x80000001, 0, C, 29, false, "MONITORX"},
	{"RDTSCP", 0x80000001, 0, D, 27, false, "RDTSCP"},
	{"3DNOW", 0x80000001, 0, D, 31, false, "AMD3DNOW"},
	{"CLZERO", 0x80000008, 0, B, 0, false, "CLZERO"},
	{"INVLPGB", 0x80000008, 0, B, 3, false, "AMD_INVLPGB"},
	{"RDPRU", 0x80000008, 0, B, 4, false, "RDPRU"},
	{"MCOMMIT", 0x80000008, 0, B, 8, false, "MCOMMIT"},
	{"SNP", 0x8000001f, 0, A, 4, false, "SNP"},
	{"PADLOCK-RNG", 0xc0000001, 0, D, 2, false, "PADLOCK_RNG"},
	{"PADLOCK-ACE", 0xc0000001, 0, D, 6, false, "PADLOCK_ACE"},
	{"PADLOCK-PHE", 0xc0000001, 0, D, 10, false, "PADLOCK_PHE"},
	{"PADLOCK-PMM", 0xc0000001, 0, D, 12, false, "PADLOCK_PMM"},
};
/* clang-format on */

/* Of every x86-64 processor, without a bit of CPUID. ICACHE_PREFETCH has a bit (7.1.EDX[14]), but its encodings
 * are hints, which do nothing, everywhere. */
static const char base_sets[] = "FAT_NOP I186 I286PROTECTED I286REAL I386 I486 I486REAL I86 PAUSE "
				"PENTIUMREAL PPRO RDPMC ICACHE_PREFETCH";

/* Of other makes or found by other means: TDX by its own leaf, KNC by the model, AMD's forms of
 * SYSCALL by the vendor. */
static const char foreign_sets[] = "AMD TDX KNCE KNCJKBR KNCSTREAM KNCV KNC_MISC KNC_PF_HINT";

#define FEATURES (sizeof(rows) / sizeof(rows[0]))

const struct model_feature *model_feature(unsigned n)
{
	return n < FEATURES ? &rows[n] : NULL;
}

/* What the tables say about a set of Zydis'. */
struct set_row {
	bool known, base;
	const struct model_feature *feature;
};

static bool word_listed(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = words; (at = strstr(at, word)); at += len)
		if ((at == words || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return true;
	return false;
}

static struct set_row set_look_up(const char *name)
{
	struct set_row row = {.base = word_listed(base_sets, name)};

	for (unsigned n = 0; n < FEATURES && !row.feature; n++)
		if (word_listed(rows[n].sets, name))
			row.feature = &rows[n];
	row.known = row.base || row.feature || word_listed(foreign_sets, name) ||
		    strncmp(name, "AVX512", 6) == 0;
	return row;
}

/* By name, since each version of Zydis has more of them; looked up once. */
static const struct set_row *set_row(ZydisISASet set)
{
	static struct set_row by_set[ZYDIS_ISA_SET_MAX_VALUE + 1];
	static bool filled;

	for (int n = 1; !filled && n <= ZYDIS_ISA_SET_MAX_VALUE; n++)
		by_set[n] = set_look_up(ZydisISASetGetString((ZydisISASet)n));
	filled = true;
	return &by_set[set];
}

bool model_has_feature(const struct model_feature *f, uint64_t features)
{
	if (f->has)
		return true;
	if (f->leaf == 0xd && f->subleaf == 1 && f->bit == 0) /* XSAVEOPT comes with XSAVE */
		return features & CPU_BIT(CPU_XSAVE);
	for (unsigned n = 0; n < CPU_FEATURES; n++) {
		const struct cpu_feature_bit *bit = cpu_feature_bit(n);

		if (bit->leaf == f->leaf && f->subleaf == 0 && bit->reg == f->reg &&
		    bit->bit == f->bit)
			return features & CPU_BIT(n);
	}
	return false;
}

static bool set_has(ZydisISASet set, uint64_t features)
{
	const struct set_row *row = set_row(set);

	return row->feature ? model_has_feature(row->feature, features) : row->base;
}

/* There is no VEX in 16-bit code. */
static bool encoding_known(const ZydisDecodedInstruction *z)
{
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return z->machine_mode != ZYDIS_MACHINE_MODE_LEGACY_16;
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

bool model_set_known(ZydisISASet set)
{
	return set_row(set)->known;
}

bool model_has(const ZydisDecodedInstruction *z, uint64_t features)
{
	if (!encoding_known(z) || !set_has(z->meta.isa_set, features))
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

void model_decoder_init(ZydisDecoder *decoder, unsigned mode, uint64_t features)
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
	ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_LZCNT,
			       features & CPU_BIT(CPU_LZCNT) ? ZYAN_TRUE : ZYAN_FALSE);
	ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_TZCNT,
			       features & CPU_BIT(CPU_BMI1) ? ZYAN_TRUE : ZYAN_FALSE);
}
