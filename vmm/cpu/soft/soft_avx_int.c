/* SPDX-License-Identifier: Apache-2.0 */
/* AVX's and AVX2's packed integers, AES and carry-less multiplication: what SSE's operations compute, in each half. */
#include "vmm/cpu/soft/soft_avx.h"
#include "vmm/cpu/soft/soft_crypto.h"
#include "vmm/cpu/soft/soft_fp_packed.h"
#include "vmm/cpu/soft/soft_sse4.h"
#include "vmm/cpu/soft/soft_ssse3.h"

/* ---- Lane by lane ---------------------------------------------------------------------------- */

#define X(opcode, name, expr) AVX_BOTH(v##name, expr)
PACKED_LANES(X)
SSSE3_LANES(X)
SSSE3_HORIZONTAL(X)
#undef X
#define X(opcode, name, feature, expr) AVX_BOTH(v##name, expr)
SSE4_LANES(X)
#undef X
#define X(opcode, name, op) AVX_BOTH(v##name, op(a, b))
PACKED_UNPACK_LOW(X)
PACKED_PACK(X)
#undef X
#define X(opcode, name, op, low) AVX_BOTH(v##name, op(a, b))
PACKED_UNPACK_HIGH(X)
#undef X
AVX_BOTH(vpunpcklqdq, _mm_unpacklo_epi64(a, b))
AVX_BOTH(vpunpckhqdq, _mm_unpackhi_epi64(a, b))
AVX_BOTH(vpshufb, ssse3_pshufb(a, b))
AVX_128(vphminposuw, avx_src128, least_word(b))

static inline __m128i pshufb_host(__m128i a, __m128i b)
{
	__asm__("pshufb %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));
	return a;
}
AVX_BOTH(vpshufb_host, pshufb_host(a, b))

/* ---- Shifts ---------------------------------------------------------------------------------- */

/* The count is 128 bits wide for both halves. */
#define X(opcode, name, expr)                                                                      \
	AVX_128(v##name, avx_src128, expr)                                                         \
	static inline __m128i half_##name(__m128i a, __m128i b)                                    \
	{                                                                                          \
		return expr;                                                                       \
	}                                                                                          \
	AVX_HANDLER(v##name##_256)                                                                 \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i);                                                      \
		struct simd_ymm v = ymm_get(c, avx_v(i));                                          \
		ymm_set(c, i->reg, half_##name(v.low, b), half_##name(v.high, b));                 \
		return SOFT_NEXT(c, i);                                                            \
	}
PACKED_COUNTED(X)
#undef X

/* 71, 72, 73: vvvv is the destination, modrm.rm the source. */
#define AVX_SHIFT(name, expr)                                                                      \
	static inline __m128i shift_##name(__m128i a, uint64_t imm)                                \
	{                                                                                          \
		__m128i b = _mm_cvtsi32_si128((uint8_t)imm);                                       \
		(void)b;                                                                           \
		return expr;                                                                       \
	}                                                                                          \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		avx_set(c, avx_v(i), shift_##name(xmm_get(c, i->rm), i->imm));                     \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm v = ymm_get(c, i->rm);                                             \
		ymm_set(c, avx_v(i), shift_##name(v.low, i->imm), shift_##name(v.high, i->imm));   \
		return SOFT_NEXT(c, i);                                                            \
	}
#define X(opcode, digit, name, expr) AVX_SHIFT(v##name, expr)
PACKED_SHIFTS(X)
#undef X
AVX_SHIFT(vpsrldq, ssse3_palignr(_mm_setzero_si128(), a, (uint8_t)imm))
AVX_SHIFT(vpslldq, ssse3_palignr(a, _mm_setzero_si128(), (uint8_t)imm < 16 ? 16 - (uint8_t)imm : 0))

/* Each lane by its own count; beyond its width nothing is left, or the sign. */
static __attribute__((noinline)) __m128i shift_each32(__m128i a, __m128i b, unsigned kind)
{
	union soft_xmm v, n;

	_mm_store_si128((__m128i *)&v, a);
	_mm_store_si128((__m128i *)&n, b);
	for (unsigned k = 0; k < 4; k++) {
		unsigned by = n.u32[k] < 32 ? n.u32[k] : 32;

		if (kind == 0)
			v.u32[k] = by < 32 ? v.u32[k] << by : 0;
		else if (kind == 1)
			v.u32[k] = by < 32 ? v.u32[k] >> by : 0;
		else
			v.s32[k] >>= by < 32 ? by : 31;
	}
	return _mm_load_si128((const __m128i *)&v);
}

static __attribute__((noinline)) __m128i shift_each64(__m128i a, __m128i b, unsigned kind)
{
	union soft_xmm v, n;

	_mm_store_si128((__m128i *)&v, a);
	_mm_store_si128((__m128i *)&n, b);
	for (unsigned k = 0; k < 2; k++) {
		uint64_t by = n.u64[k];

		v.u64[k] = by > 63 ? 0 : kind == 0 ? v.u64[k] << by : v.u64[k] >> by;
	}
	return _mm_load_si128((const __m128i *)&v);
}
AVX_BOTH(vpsllvd, shift_each32(a, b, 0))
AVX_BOTH(vpsllvq, shift_each64(a, b, 0))
AVX_BOTH(vpsrlvd, shift_each32(a, b, 1))
AVX_BOTH(vpsrlvq, shift_each64(a, b, 1))
AVX_BOTH(vpsravd, shift_each32(a, b, 2))

/* ---- Shuffles -------------------------------------------------------------------------------- */

static inline uint64_t words_chosen(uint64_t half, uint64_t imm)
{
	uint64_t out = 0;

	for (unsigned n = 0; n < 4; n++)
		out |= (half >> (16 * (imm >> (2 * n) & 3)) & 0xffff) << (16 * n);
	return out;
}

static __attribute__((noinline)) __m128i dwords_chosen(__m128i v, unsigned imm)
{
	union soft_xmm in, out;

	_mm_store_si128((__m128i *)&in, v);
	for (unsigned n = 0; n < 4; n++)
		out.u32[n] = in.u32[imm >> (2 * n) & 3];
	return _mm_load_si128((const __m128i *)&out);
}
AVX_BOTH(vpshufd, dwords_chosen(b, (unsigned)i->imm))
AVX_BOTH(vpshufhw,
	 _mm_set_epi64x((long long)words_chosen(simd_high64(b), i->imm), (long long)simd_low64(b)))
AVX_BOTH(vpshuflw,
	 _mm_set_epi64x((long long)simd_high64(b), (long long)words_chosen(simd_low64(b), i->imm)))
AVX_BOTH(vpalignr, ssse3_palignr(a, b, (uint8_t)i->imm))

/* ---- Wider lanes: 256 bits take a source of 128 or fewer ------------------------------------- */

#define ZERO _mm_setzero_si128()
/* shift: bytes of the source that the low half takes. */
#define AVX_EXTEND(name, source128, source256, shift, expr)                                        \
	static inline __m128i extend_##name(__m128i b)                                             \
	{                                                                                          \
		return expr;                                                                       \
	}                                                                                          \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		avx_set(c, i->reg, extend_##name(source128(c, i)));                                \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = source256(c, i);                                                       \
		ymm_set(c, i->reg, extend_##name(b), extend_##name(_mm_srli_si128(b, shift)));     \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_EXTEND(vpmovsxbw, sse_src64, avx_src128, 8, sign_extend8(b))
AVX_EXTEND(vpmovsxbd, sse_src32, sse_src64, 4, sign_extend16(sign_extend8(b)))
AVX_EXTEND(vpmovsxbq, sse_src16, sse_src32, 2, sign_extend32(sign_extend16(sign_extend8(b))))
AVX_EXTEND(vpmovsxwd, sse_src64, avx_src128, 8, sign_extend16(b))
AVX_EXTEND(vpmovsxwq, sse_src32, sse_src64, 4, sign_extend32(sign_extend16(b)))
AVX_EXTEND(vpmovsxdq, sse_src64, avx_src128, 8, sign_extend32(b))
AVX_EXTEND(vpmovzxbw, sse_src64, avx_src128, 8, _mm_unpacklo_epi8(b, ZERO))
AVX_EXTEND(vpmovzxbd, sse_src32, sse_src64, 4, _mm_unpacklo_epi16(_mm_unpacklo_epi8(b, ZERO), ZERO))
AVX_EXTEND(vpmovzxbq, sse_src16, sse_src32, 2,
	   _mm_unpacklo_epi32(_mm_unpacklo_epi16(_mm_unpacklo_epi8(b, ZERO), ZERO), ZERO))
AVX_EXTEND(vpmovzxwd, sse_src64, avx_src128, 8, _mm_unpacklo_epi16(b, ZERO))
AVX_EXTEND(vpmovzxwq, sse_src32, sse_src64, 4,
	   _mm_unpacklo_epi32(_mm_unpacklo_epi16(b, ZERO), ZERO))
AVX_EXTEND(vpmovzxdq, sse_src64, avx_src128, 8, _mm_unpacklo_epi32(b, ZERO))

/* ---- MPSADBW: the upper half has immediate bits of its own ----------------------------------- */

AVX_128(vmpsadbw, avx_src128, sse_sad(a, b, (unsigned)i->imm & 7))
AVX_256(vmpsadbw, sse_sad(a, b, (unsigned)(high ? i->imm >> 3 : i->imm) & 7))

/* ---- AES, PCLMULQDQ: of 128 bits ------------------------------------------------------------- */

#define AES(name, ...)                                                                             \
	AVX_128(v##name, avx_src128, crypto_##name(__VA_ARGS__))                                   \
	static inline __m128i name##_host(__m128i a, __m128i b)                                    \
	{                                                                                          \
		__asm__(#name " %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));                           \
		return a;                                                                          \
	}                                                                                          \
	AVX_128(v##name##_host, avx_src128, name##_host(a, b))
AES(aesenc, a, b)
AES(aesenclast, a, b)
AES(aesdec, a, b)
AES(aesdeclast, a, b)
AES(aesimc, b)
AVX_128(vaeskeygenassist, avx_src128,
	_mm_xor_si128(crypto_aeskeygen(b), _mm_set1_epi64x((long long)((i->imm & 0xff) << 32))))

static inline __m128i half_chosen(__m128i v, uint64_t high)
{
	return high ? _mm_unpackhi_epi64(v, v) : v;
}

static inline __m128i clmul_host(__m128i a, __m128i b)
{
	__asm__("pclmulqdq $0, %[b], %[a]" : [a] "+x"(a) : [b] "x"(b));
	return a;
}
AVX_128(vpclmulqdq, avx_src128,
	crypto_clmul(simd_low64(half_chosen(a, i->imm & 0x01)),
		     simd_low64(half_chosen(b, i->imm & 0x10))))
AVX_128(vpclmulqdq_host, avx_src128,
	clmul_host(half_chosen(a, i->imm & 0x01), half_chosen(b, i->imm & 0x10)))

/* ---- Selection ------------------------------------------------------------------------------- */

#define INT(name)  AVX_INT_ROW(name, 0)
#define ONE(name)  AVX_INT_ROW(name, AVX_NO_V) /* with one source */
#define EACH(name) {{avx_##name##_128, avx_##name##_256}, {CPU_AVX2, CPU_AVX2}, 0}

static const struct avx_row rows_0f[256] = {
#define X(opcode, name, ...) [opcode] = INT(v##name),
	PACKED_LANES(X) PACKED_COUNTED(X) PACKED_UNPACK_LOW(X) PACKED_PACK(X) PACKED_UNPACK_HIGH(X)
#undef X
		[0x6c] = INT(vpunpcklqdq),
	[0x6d] = INT(vpunpckhqdq),
	[0x70] = ONE(vpshufd),
};

static const struct avx_row shift_rows[3][8] = {
#define X(opcode, digit, name, expr) [opcode - 0x71][digit] = AVX_INT_ROW(v##name, AVX_REG),
	PACKED_SHIFTS(X)
#undef X
		[2][3] = AVX_INT_ROW(vpsrldq, AVX_REG),
	[2][7] = AVX_INT_ROW(vpslldq, AVX_REG),
};

static const struct avx_row rows_0f38[256] = {
#define X(opcode, name, ...) [opcode] = INT(v##name),
	SSSE3_LANES(X) SSSE3_HORIZONTAL(X) SSE4_LANES(X)
#undef X
		[0x00] = INT(vpshufb),
	[0x20] = ONE(vpmovsxbw),
	[0x21] = ONE(vpmovsxbd),
	[0x22] = ONE(vpmovsxbq),
	[0x23] = ONE(vpmovsxwd),
	[0x24] = ONE(vpmovsxwq),
	[0x25] = ONE(vpmovsxdq),
	[0x30] = ONE(vpmovzxbw),
	[0x31] = ONE(vpmovzxbd),
	[0x32] = ONE(vpmovzxbq),
	[0x33] = ONE(vpmovzxwd),
	[0x34] = ONE(vpmovzxwq),
	[0x35] = ONE(vpmovzxdq),
	[0x41] = AVX_128_ROW(vphminposuw, AVX_NO_V),
	[0xdb] = {{avx_vaesimc_128, NULL}, {CPU_AES, CPU_AES}, AVX_NO_V},
	[0xdc] = {{avx_vaesenc_128, NULL}, {CPU_AES, CPU_AES}, 0},
	[0xdd] = {{avx_vaesenclast_128, NULL}, {CPU_AES, CPU_AES}, 0},
	[0xde] = {{avx_vaesdec_128, NULL}, {CPU_AES, CPU_AES}, 0},
	[0xdf] = {{avx_vaesdeclast_128, NULL}, {CPU_AES, CPU_AES}, 0},
};

static const struct avx_row rows_0f3a[256] = {
	[0x0f] = INT(vpalignr),
	[0x42] = INT(vmpsadbw),
	[0x44] = {{avx_vpclmulqdq_128, NULL}, {CPU_PCLMULQDQ, CPU_PCLMULQDQ}, 0},
	[0xdf] = {{avx_vaeskeygenassist_128, NULL}, {CPU_AES, CPU_AES}, AVX_NO_V},
};

/* Those that a host which has them executes itself. */
static const struct avx_row *row_hosted(const struct soft_decode *d)
{
	static const struct avx_row shuffle = INT(vpshufb_host);
	static const struct avx_row aes[5] = {
		{{avx_vaesimc_host_128, NULL}, {CPU_AES, CPU_AES}, AVX_NO_V},
		{{avx_vaesenc_host_128, NULL}, {CPU_AES, CPU_AES}, 0},
		{{avx_vaesenclast_host_128, NULL}, {CPU_AES, CPU_AES}, 0},
		{{avx_vaesdec_host_128, NULL}, {CPU_AES, CPU_AES}, 0},
		{{avx_vaesdeclast_host_128, NULL}, {CPU_AES, CPU_AES}, 0},
	};
	static const struct avx_row clmul = {
		{avx_vpclmulqdq_host_128, NULL}, {CPU_PCLMULQDQ, CPU_PCLMULQDQ}, 0};
	const uint64_t host = soft_host_features();

	if (d->map == 2 && d->opcode == 0x00 && (host & CPU_BIT(CPU_SSSE3)))
		return &shuffle;
	if (d->map == 2 && d->opcode >= 0xdb && d->opcode <= 0xdf && (host & CPU_BIT(CPU_AES)))
		return &aes[d->opcode - 0xdb];
	if (d->map == 3 && d->opcode == 0x44 && (host & CPU_BIT(CPU_PCLMULQDQ)))
		return &clmul;
	return NULL;
}

const struct avx_row *avx_int_row(const struct soft_decode *d, enum fp_prefix prefix)
{
	static const struct avx_row each[3][2] = {
		{EACH(vpsrlvd), EACH(vpsrlvq)},
		{EACH(vpsravd)},
		{EACH(vpsllvd), EACH(vpsllvq)},
	};
	static const struct avx_row absolute[3] = {ONE(vpabsb), ONE(vpabsw), ONE(vpabsd)};
	static const struct avx_row high_words = ONE(vpshufhw), low_words = ONE(vpshuflw);
	const struct avx_row *row = NULL;

	if (d->map == 1 && d->opcode == 0x70 && prefix == FP_F3)
		return &high_words;
	if (d->map == 1 && d->opcode == 0x70 && prefix == FP_F2)
		return &low_words;
	if (prefix != FP_66)
		return NULL;
	if (d->map == 1 && d->opcode >= 0x71 && d->opcode <= 0x73)
		row = &shift_rows[d->opcode - 0x71][d->reg3];
	else if (d->map == 1)
		row = &rows_0f[d->opcode];
	else if (d->map == 2 || d->map == 3)
		row = row_hosted(d);
	if (!row && d->map == 2 && d->opcode >= 0x1c && d->opcode <= 0x1e)
		row = &absolute[d->opcode - 0x1c];
	if (!row && d->map == 2 && d->opcode >= 0x45 && d->opcode <= 0x47)
		row = &each[d->opcode - 0x45][d->vex_w];
	if (!row && d->map == 2)
		row = &rows_0f38[d->opcode];
	if (!row && d->map == 3)
		row = &rows_0f3a[d->opcode];
	return row && row->fn[0] ? row : NULL;
}
