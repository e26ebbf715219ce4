/* SPDX-License-Identifier: Apache-2.0 */
/* AES-NI, PCLMULQDQ and SHA: by the host's own instructions, or in C. */
#include "vmm/cpu/soft/soft_crypto.h"
#include "vmm/cpu/soft/soft_simd.h"

#define BOTH(name, ...)                                                                            \
	SIMD_PLAIN(name, sse_src128, crypto_##name(__VA_ARGS__))                                   \
	SIMD_HOST(name, #name)                                                                     \
	SIMD_HOST_REG(name, #name)
BOTH(aesenc, a, b)
BOTH(aesenclast, a, b)
BOTH(aesdec, a, b)
BOTH(aesdeclast, a, b)
BOTH(aesimc, b)
BOTH(sha1nexte, a, b)
BOTH(sha1msg1, a, b)
BOTH(sha1msg2, a, b)
BOTH(sha256msg1, a, b)
BOTH(sha256msg2, a, b)

/* The host's takes XMM0 too. */
SIMD_PLAIN(sha256rnds2, sse_src128, crypto_sha256rnds2(a, b, xmm_get(c, 0)))
static fp_next sse_sha256rnds2_host(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i), a = xmm_get(c, i->reg), message = xmm_get(c, 0);
	__asm__("sha256rnds2 %[b], %[a]" : [a] "+x"(a) : [b] "x"(b), "Yz"(message));
	xmm_set(c, i->reg, a);
	return SOFT_NEXT(c, i);
}

static fp_next sse_sha256rnds2_reg(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = xmm_get(c, i->rm), a = xmm_get(c, i->reg), message = xmm_get(c, 0);
	__asm__("sha256rnds2 %[b], %[a]" : [a] "+x"(a) : [b] "x"(b), "Yz"(message));
	xmm_set(c, i->reg, a);
	return SOFT_NEXT(c, i);
}

/* The immediate of the host's is a constant: a handler each. */
#define SHA1RNDS4(kind)                                                                            \
	SIMD_PLAIN(sha1rnds4_##kind, sse_src128, crypto_sha1rnds4(a, b, kind))                     \
	SIMD_HOST(sha1rnds4_##kind, "sha1rnds4 $" #kind ",")                                       \
	SIMD_HOST_REG(sha1rnds4_##kind, "sha1rnds4 $" #kind ",")
SHA1RNDS4(0)
SHA1RNDS4(1)
SHA1RNDS4(2)
SHA1RNDS4(3)

/* The halves that the immediate chooses come to the low ones first. */
static inline __m128i half_chosen(__m128i v, uint64_t high)
{
	return high ? _mm_unpackhi_epi64(v, v) : v;
}

SIMD_PLAIN(pclmulqdq, sse_src128,
	   crypto_clmul(simd_low64(half_chosen(a, i->imm & 0x01)),
			simd_low64(half_chosen(b, i->imm & 0x10))))
static fp_next sse_pclmulqdq_host(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = half_chosen(sse_src128(c, i), i->imm & 0x10);
	__m128i a = half_chosen(xmm_get(c, i->reg), i->imm & 0x01);
	__asm__("pclmulqdq $0, %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));
	xmm_set(c, i->reg, a);
	return SOFT_NEXT(c, i);
}

/* The round constant goes into the odd doublewords. */
static inline __m128i round_constant(uint64_t imm)
{
	return _mm_set1_epi64x((long long)((imm & 0xff) << 32));
}

SIMD_PLAIN(aeskeygenassist, sse_src128, _mm_xor_si128(crypto_aeskeygen(b), round_constant(i->imm)))
static fp_next sse_aeskeygenassist_host(struct soft_cpu *c, const struct insn *i)
{
	fp_check_sse(c, i);
	__m128i b = sse_src128(c, i);
	__asm__("aeskeygenassist $0, %[b], %[b]" : [b] "+x"(b));
	xmm_set(c, i->reg, _mm_xor_si128(b, round_constant(i->imm)));
	return SOFT_NEXT(c, i);
}

#define HOSTED(name, needs) .plain = sse_##name, .host = sse_##name##_host, .feature = needs
#define ROW(name, needs)    {HOSTED(name, needs), .host_reg = sse_##name##_reg}

/* [opcode - C8] of 0F 38, without a prefix. */
static const struct simd_row sha_rows[6] = {
	ROW(sha1nexte, CPU_SHA),   ROW(sha1msg1, CPU_SHA),   ROW(sha1msg2, CPU_SHA),
	ROW(sha256rnds2, CPU_SHA), ROW(sha256msg1, CPU_SHA), ROW(sha256msg2, CPU_SHA),
};
/* By the immediate. */
static const struct simd_row sha1_rows[4] = {
	ROW(sha1rnds4_0, CPU_SHA),
	ROW(sha1rnds4_1, CPU_SHA),
	ROW(sha1rnds4_2, CPU_SHA),
	ROW(sha1rnds4_3, CPU_SHA),
};
/* [opcode - DB] of 0F 38 66. */
static const struct simd_row aes_rows[5] = {
	ROW(aesimc, CPU_AES), ROW(aesenc, CPU_AES),	ROW(aesenclast, CPU_AES),
	ROW(aesdec, CPU_AES), ROW(aesdeclast, CPU_AES),
};
static const struct simd_row keygen_row = {HOSTED(aeskeygenassist, CPU_AES)};
static const struct simd_row clmul_row = {HOSTED(pclmulqdq, CPU_PCLMULQDQ)};

static const struct simd_row *crypto_row(const struct soft_decode *d)
{
	const enum fp_prefix prefix = fp_prefix_of(d);
	const uint8_t op = d->opcode;

	if (d->map == 2 && prefix == FP_NONE)
		return op >= 0xc8 && op <= 0xcd ? &sha_rows[op - 0xc8] : NULL;
	if (d->map == 2 && prefix == FP_66)
		return op >= 0xdb && op <= 0xdf ? &aes_rows[op - 0xdb] : NULL;
	if (d->map == 3 && prefix == FP_NONE)
		return op == 0xcc ? &sha1_rows[d->out->imm & 3] : NULL;
	if (d->map == 3 && prefix == FP_66)
		return op == 0xdf ? &keygen_row : op == 0x44 ? &clmul_row : NULL;
	return NULL;
}

bool fp_select_crypto(struct soft_decode *d)
{
	const struct simd_row *row = crypto_row(d);

	return row && simd_row_pick(d, row);
}
