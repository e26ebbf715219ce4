/* SPDX-License-Identifier: Apache-2.0 */
/* The forms that came after SSE2, each with the feature that the host must have to be compared. */
#include "tests/unit/softnative/softnative.h"

#include <stdio.h>
#include <string.h>

#include "base/cpu_feature.h"

struct newer_form {
	enum cpu_feature needs;
	struct form form;
};

#define U_BMI	(PF | AF)
#define U_COUNT (OF | SF | PF | AF)

/* An SSE form with 66: of a register or memory. */
#define XMM(needs, name, map, op, flags, imm)                                                      \
	{needs, {name, CLASS_SSE, 0x66, map, op, EXT_R, 0, imm, F_ALIGN | (flags), SP_NONE, 0}}
/* Without a prefix: MMX, or SHA. */
#define MMX(name, map, op, imm)                                                                    \
	{CPU_SSSE3, {name, CLASS_MMX, 0, map, op, EXT_R, 0, imm, 0, SP_NONE, 0}}
#define SHA(name, map, op, imm)                                                                    \
	{CPU_SHA, {name, CLASS_SSE, 0, map, op, EXT_R, 0, imm, F_ALIGN, SP_NONE, 0}}
#define STRING(name, op, flags)                                                                    \
	{CPU_SSE42,                                                                                \
	 {name, CLASS_SSE, 0x66, 3, op, EXT_R, 0, IMM_8, F_ALIGN | (flags), SP_COMPARE, 0}}
#define INT(needs, name, class, prefix, map, op, flags, undefined)                                 \
	{                                                                                          \
		needs,                                                                             \
		{                                                                                  \
			name, class, prefix, map, op, EXT_R, 0, IMM_NONE, flags, SP_NONE,          \
				undefined                                                          \
		}                                                                                  \
	}
#define VEX(needs, name, prefix, op, ext, special, undefined)                                      \
	{                                                                                          \
		needs,                                                                             \
		{                                                                                  \
			name, CLASS_BIT, prefix, 2, op, ext, 0, IMM_NONE, F_VEX | F_W, special,    \
				undefined                                                          \
		}                                                                                  \
	}

static const struct newer_form newer[] = {
	XMM(CPU_SSSE3, "pshufb", 2, 0x00, 0, IMM_NONE),
	XMM(CPU_SSSE3, "phaddw", 2, 0x01, 0, IMM_NONE),
	XMM(CPU_SSSE3, "phaddd", 2, 0x02, 0, IMM_NONE),
	XMM(CPU_SSSE3, "phaddsw", 2, 0x03, 0, IMM_NONE),
	XMM(CPU_SSSE3, "pmaddubsw", 2, 0x04, 0, IMM_NONE),
	XMM(CPU_SSSE3, "phsubw", 2, 0x05, 0, IMM_NONE),
	XMM(CPU_SSSE3, "phsubd", 2, 0x06, 0, IMM_NONE),
	XMM(CPU_SSSE3, "phsubsw", 2, 0x07, 0, IMM_NONE),
	XMM(CPU_SSSE3, "psignb", 2, 0x08, 0, IMM_NONE),
	XMM(CPU_SSSE3, "psignw", 2, 0x09, 0, IMM_NONE),
	XMM(CPU_SSSE3, "psignd", 2, 0x0a, 0, IMM_NONE),
	XMM(CPU_SSSE3, "pmulhrsw", 2, 0x0b, 0, IMM_NONE),
	XMM(CPU_SSE41, "pblendvb", 2, 0x10, 0, IMM_NONE),
	XMM(CPU_SSE41, "blendvps", 2, 0x14, 0, IMM_NONE),
	XMM(CPU_SSE41, "blendvpd", 2, 0x15, 0, IMM_NONE),
	XMM(CPU_SSE41, "ptest", 2, 0x17, 0, IMM_NONE),
	XMM(CPU_SSSE3, "pabsb", 2, 0x1c, 0, IMM_NONE),
	XMM(CPU_SSSE3, "pabsw", 2, 0x1d, 0, IMM_NONE),
	XMM(CPU_SSSE3, "pabsd", 2, 0x1e, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovsxbw", 2, 0x20, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovsxbd", 2, 0x21, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovsxbq", 2, 0x22, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovsxwd", 2, 0x23, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovsxwq", 2, 0x24, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovsxdq", 2, 0x25, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmuldq", 2, 0x28, 0, IMM_NONE),
	XMM(CPU_SSE41, "pcmpeqq", 2, 0x29, 0, IMM_NONE),
	XMM(CPU_SSE41, "movntdqa", 2, 0x2a, F_MEM, IMM_NONE),
	XMM(CPU_SSE41, "packusdw", 2, 0x2b, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovzxbw", 2, 0x30, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovzxbd", 2, 0x31, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovzxbq", 2, 0x32, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovzxwd", 2, 0x33, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovzxwq", 2, 0x34, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmovzxdq", 2, 0x35, 0, IMM_NONE),
	XMM(CPU_SSE42, "pcmpgtq", 2, 0x37, 0, IMM_NONE),
	XMM(CPU_SSE41, "pminsb", 2, 0x38, 0, IMM_NONE),
	XMM(CPU_SSE41, "pminsd", 2, 0x39, 0, IMM_NONE),
	XMM(CPU_SSE41, "pminuw", 2, 0x3a, 0, IMM_NONE),
	XMM(CPU_SSE41, "pminud", 2, 0x3b, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmaxsb", 2, 0x3c, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmaxsd", 2, 0x3d, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmaxuw", 2, 0x3e, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmaxud", 2, 0x3f, 0, IMM_NONE),
	XMM(CPU_SSE41, "pmulld", 2, 0x40, 0, IMM_NONE),
	XMM(CPU_SSE41, "phminposuw", 2, 0x41, 0, IMM_NONE),
	XMM(CPU_SSE41, "roundps", 3, 0x08, 0, IMM_8),
	XMM(CPU_SSE41, "roundpd", 3, 0x09, 0, IMM_8),
	XMM(CPU_SSE41, "roundss", 3, 0x0a, 0, IMM_8),
	XMM(CPU_SSE41, "roundsd", 3, 0x0b, 0, IMM_8),
	XMM(CPU_SSE41, "blendps", 3, 0x0c, 0, IMM_8),
	XMM(CPU_SSE41, "blendpd", 3, 0x0d, 0, IMM_8),
	XMM(CPU_SSE41, "pblendw", 3, 0x0e, 0, IMM_8),
	XMM(CPU_SSSE3, "palignr", 3, 0x0f, 0, IMM_8),
	XMM(CPU_SSE41, "pextrb", 3, 0x14, 0, IMM_8),
	XMM(CPU_SSE41, "pextrw", 3, 0x15, 0, IMM_8),
	XMM(CPU_SSE41, "pextrd", 3, 0x16, F_W, IMM_8),
	XMM(CPU_SSE41, "extractps", 3, 0x17, F_W, IMM_8),
	XMM(CPU_SSE41, "pinsrb", 3, 0x20, 0, IMM_8),
	XMM(CPU_SSE41, "insertps", 3, 0x21, 0, IMM_8),
	XMM(CPU_SSE41, "pinsrd", 3, 0x22, F_W, IMM_8),
	XMM(CPU_SSE41, "dpps", 3, 0x40, F_NANS, IMM_8),
	XMM(CPU_SSE41, "dppd", 3, 0x41, F_NANS, IMM_8),
	XMM(CPU_SSE41, "mpsadbw", 3, 0x42, 0, IMM_8),
	XMM(CPU_PCLMULQDQ, "pclmulqdq", 3, 0x44, 0, IMM_8),
	XMM(CPU_AES, "aesimc", 2, 0xdb, 0, IMM_NONE),
	XMM(CPU_AES, "aesenc", 2, 0xdc, 0, IMM_NONE),
	XMM(CPU_AES, "aesenclast", 2, 0xdd, 0, IMM_NONE),
	XMM(CPU_AES, "aesdec", 2, 0xde, 0, IMM_NONE),
	XMM(CPU_AES, "aesdeclast", 2, 0xdf, 0, IMM_NONE),
	XMM(CPU_AES, "aeskeygenassist", 3, 0xdf, 0, IMM_8),
	STRING("pcmpestrm", 0x60, F_W),
	STRING("pcmpestri", 0x61, F_W),
	STRING("pcmpistrm", 0x62, 0),
	STRING("pcmpistri", 0x63, 0),
	SHA("sha1nexte", 2, 0xc8, IMM_NONE),
	SHA("sha1msg1", 2, 0xc9, IMM_NONE),
	SHA("sha1msg2", 2, 0xca, IMM_NONE),
	SHA("sha256rnds2", 2, 0xcb, IMM_NONE),
	SHA("sha256msg1", 2, 0xcc, IMM_NONE),
	SHA("sha256msg2", 2, 0xcd, IMM_NONE),
	SHA("sha1rnds4", 3, 0xcc, IMM_8),
	MMX("pshufb mm", 2, 0x00, IMM_NONE),
	MMX("phaddw mm", 2, 0x01, IMM_NONE),
	MMX("phaddd mm", 2, 0x02, IMM_NONE),
	MMX("phaddsw mm", 2, 0x03, IMM_NONE),
	MMX("pmaddubsw mm", 2, 0x04, IMM_NONE),
	MMX("phsubw mm", 2, 0x05, IMM_NONE),
	MMX("phsubd mm", 2, 0x06, IMM_NONE),
	MMX("phsubsw mm", 2, 0x07, IMM_NONE),
	MMX("psignb mm", 2, 0x08, IMM_NONE),
	MMX("psignw mm", 2, 0x09, IMM_NONE),
	MMX("psignd mm", 2, 0x0a, IMM_NONE),
	MMX("pmulhrsw mm", 2, 0x0b, IMM_NONE),
	MMX("pabsb mm", 2, 0x1c, IMM_NONE),
	MMX("pabsw mm", 2, 0x1d, IMM_NONE),
	MMX("pabsd mm", 2, 0x1e, IMM_NONE),
	MMX("palignr mm", 3, 0x0f, IMM_8),
	INT(CPU_POPCNT, "popcnt", CLASS_BIT, 0xf3, 1, 0xb8, F_66 | F_W, 0),
	INT(CPU_BMI1, "tzcnt", CLASS_BIT, 0xf3, 1, 0xbc, F_66 | F_W, U_COUNT),
	INT(CPU_LZCNT, "lzcnt", CLASS_BIT, 0xf3, 1, 0xbd, F_66 | F_W, U_COUNT),
	INT(CPU_MOVBE, "movbe r,m", CLASS_MOVE, 0, 2, 0xf0, F_66 | F_W | F_MEM, 0),
	INT(CPU_MOVBE, "movbe m,r", CLASS_MOVE, 0, 2, 0xf1, F_66 | F_W | F_MEM, 0),
	INT(CPU_SSE42, "crc32 r,rm8", CLASS_ALU, 0xf2, 2, 0xf0, F_W | F_BYTE, 0),
	INT(CPU_SSE42, "crc32 r,rm", CLASS_ALU, 0xf2, 2, 0xf1, F_66 | F_W, 0),
	VEX(CPU_BMI1, "andn", 0, 0xf2, EXT_R, SP_VEX_COUNT, U_BMI),
	VEX(CPU_BMI1, "blsr", 0, 0xf3, 1, SP_NONE, U_BMI),
	VEX(CPU_BMI1, "blsmsk", 0, 0xf3, 2, SP_NONE, U_BMI),
	VEX(CPU_BMI1, "blsi", 0, 0xf3, 3, SP_NONE, U_BMI),
	VEX(CPU_BMI1, "bextr", 0, 0xf7, EXT_R, SP_VEX_COUNT, U_BMI | SF),
	VEX(CPU_BMI2, "bzhi", 0, 0xf5, EXT_R, SP_VEX_COUNT, U_BMI),
	VEX(CPU_BMI2, "pext", 0xf3, 0xf5, EXT_R, SP_NONE, 0),
	VEX(CPU_BMI2, "pdep", 0xf2, 0xf5, EXT_R, SP_NONE, 0),
	VEX(CPU_BMI2, "mulx", 0xf2, 0xf6, EXT_R, SP_NONE, 0),
	VEX(CPU_BMI2, "shlx", 0x66, 0xf7, EXT_R, SP_VEX_COUNT, 0),
	VEX(CPU_BMI2, "sarx", 0xf3, 0xf7, EXT_R, SP_VEX_COUNT, 0),
	VEX(CPU_BMI2, "shrx", 0xf2, 0xf7, EXT_R, SP_VEX_COUNT, 0),
	{CPU_BMI2,
	 {"rorx", CLASS_BIT, 0xf2, 3, 0xf0, EXT_R, 0, IMM_8, F_VEX | F_NOVVVV | F_W, SP_NONE, 0}},
};

unsigned forms_newer(struct form *forms, unsigned count)
{
	const uint64_t host = cpu_features_host();
	uint64_t lacking = 0;

	for (unsigned n = 0; n < sizeof(newer) / sizeof(newer[0]); n++)
		if (host & CPU_BIT(newer[n].needs))
			forms[count++] = newer[n].form;
		else
			lacking |= CPU_BIT(newer[n].needs);
	for (unsigned n = 0; n < CPU_FEATURES; n++)
		if (lacking & CPU_BIT(n))
			printf("not compared, since the host has no %s\n",
			       cpu_feature_bit(n)->name);
	return count;
}
