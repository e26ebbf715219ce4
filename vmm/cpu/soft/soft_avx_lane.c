/* SPDX-License-Identifier: Apache-2.0 */
/* What AVX and AVX2 have and SSE has not: permutations, broadcasts, halves, masked and gathered memory; and blends. */
#include "vmm/cpu/soft/soft_avx.h"
#include "vmm/cpu/soft/soft_sse4.h"

/* 256 bits as one row of lanes. */
union lanes {
	struct simd_ymm ymm;
	uint8_t u8[32];
	uint16_t u16[16];
	uint32_t u32[8];
	uint64_t u64[4];
};

/* ---- Blends ---------------------------------------------------------------------------------- */

static inline __m128i blend_mask(uint64_t imm, unsigned lanes)
{
	__m128i bit = lanes == 8   ? _mm_set_epi16(128, 64, 32, 16, 8, 4, 2, 1)
		      : lanes == 4 ? _mm_set_epi32(8, 4, 2, 1)
				   : _mm_set_epi32(2, 2, 1, 1);

	if (lanes == 8)
		return _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16((short)imm), bit), bit);
	return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int)imm), bit), bit);
}

AVX_BOTH(vpblendw, simd_select(blend_mask(i->imm, 8), a, b))
AVX_128(vblendps, avx_src128, simd_select(blend_mask(i->imm, 4), a, b))
AVX_256(vblendps, simd_select(blend_mask(high ? i->imm >> 4 : i->imm, 4), a, b))
AVX_128(vblendpd, avx_src128, simd_select(blend_mask(i->imm, 2), a, b))
AVX_256(vblendpd, simd_select(blend_mask(high ? i->imm >> 2 : i->imm, 2), a, b))
AVX_128(vpblendd, avx_src128, simd_select(blend_mask(i->imm, 4), a, b))
AVX_256(vpblendd, simd_select(blend_mask(high ? i->imm >> 4 : i->imm, 4), a, b))

/* By the signs of a register that bits 7:4 of the immediate name; outside of 64-bit mode bit 7 is ignored. */
static inline __m128i mask_register(const struct soft_cpu *c, const struct insn *i, bool high)
{
	unsigned n = (unsigned)i->imm >> 4 & (c->mode == 64 ? 15 : 7);

	return high ? ymm_high(c, n) : xmm_get(c, n);
}
AVX_128(vpblendvb, avx_src128, simd_select(sign_mask8(mask_register(c, i, false)), a, b))
AVX_256(vpblendvb, simd_select(sign_mask8(mask_register(c, i, high)), a, b))
AVX_128(vblendvps, avx_src128, simd_select(sign_mask32(mask_register(c, i, false)), a, b))
AVX_256(vblendvps, simd_select(sign_mask32(mask_register(c, i, high)), a, b))
AVX_128(vblendvpd, avx_src128, simd_select(sign_mask64(mask_register(c, i, false)), a, b))
AVX_256(vblendvpd, simd_select(sign_mask64(mask_register(c, i, high)), a, b))

/* ---- VPTEST, VTESTPS, VTESTPD ---------------------------------------------------------------- */

#define AVX_TEST(name, bits)                                                                       \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = avx_src128(c, i), a = xmm_get(c, i->reg);                              \
		soft_flags_set_arith(                                                              \
			c, (all_zero(bits(_mm_and_si128(a, b))) ? FLAG_ZF : 0) |                   \
				   (all_zero(bits(_mm_andnot_si128(a, b))) ? FLAG_CF : 0));        \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, i->reg);                      \
		__m128i both = _mm_or_si128(bits(_mm_and_si128(a.low, b.low)),                     \
					    bits(_mm_and_si128(a.high, b.high)));                  \
		__m128i rest = _mm_or_si128(bits(_mm_andnot_si128(a.low, b.low)),                  \
					    bits(_mm_andnot_si128(a.high, b.high)));               \
		soft_flags_set_arith(c, (all_zero(both) ? FLAG_ZF : 0) |                           \
						(all_zero(rest) ? FLAG_CF : 0));                   \
		return SOFT_NEXT(c, i);                                                            \
	}
#define WHOLE(v) (v)
AVX_TEST(vptest, WHOLE)
AVX_TEST(vtestps, sign_mask32)
AVX_TEST(vtestpd, sign_mask64)

/* ---- Permutations ---------------------------------------------------------------------------- */

static __attribute__((noinline)) __m128i permute32(__m128i v, __m128i by)
{
	union soft_xmm in, n, out;

	_mm_store_si128((__m128i *)&in, v);
	_mm_store_si128((__m128i *)&n, by);
	for (unsigned k = 0; k < 4; k++)
		out.u32[k] = in.u32[n.u32[k] & 3];
	return _mm_load_si128((const __m128i *)&out);
}

/* Bit 1 of each quadword of by. */
static __attribute__((noinline)) __m128i permute64(__m128i v, __m128i by)
{
	union soft_xmm in, n, out;

	_mm_store_si128((__m128i *)&in, v);
	_mm_store_si128((__m128i *)&n, by);
	for (unsigned k = 0; k < 2; k++)
		out.u64[k] = in.u64[n.u64[k] >> 1 & 1];
	return _mm_load_si128((const __m128i *)&out);
}

static inline __m128i bits_apart(uint64_t imm)
{
	return _mm_set_epi32((int)(imm >> 6), (int)(imm >> 4), (int)(imm >> 2), (int)imm);
}

AVX_BOTH(vpermilps, permute32(a, b))
AVX_BOTH(vpermilpd, permute64(a, b))
AVX_BOTH(vpermilps_imm, permute32(b, bits_apart(i->imm)))

/* Two bits of the immediate, as permute64 has them. */
static inline __m128i quad_bits(uint64_t imm)
{
	return _mm_set_epi64x((long long)(imm & 2), (long long)(imm << 1 & 2));
}
AVX_128(vpermilpd_imm, avx_src128, permute64(b, quad_bits(i->imm)))
AVX_256(vpermilpd_imm, permute64(b, quad_bits(high ? i->imm >> 2 : i->imm)))

/* Across both halves. */
static __attribute__((noinline)) void permute_run(struct soft_cpu *c, const struct insn *i,
						  bool by_register, bool quads)
{
	union lanes in, out, by;

	in.ymm = avx_src256(c, i);
	by.ymm = ymm_get(c, avx_v(i));
	for (unsigned n = 0; n < 4 && quads; n++)
		out.u64[n] = in.u64[i->imm >> (2 * n) & 3];
	for (unsigned n = 0; n < 8 && by_register; n++)
		out.u32[n] = in.u32[by.u32[n] & 7];
	ymm_set(c, i->reg, out.ymm.low, out.ymm.high);
}

AVX_HANDLER(vperm32_256)
{
	avx_check(c, i);
	permute_run(c, i, true, false);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vperm64_256)
{
	avx_check(c, i);
	permute_run(c, i, false, true);
	return SOFT_NEXT(c, i);
}

/* One of four halves, or zero. */
static inline __m128i half_of(struct simd_ymm a, struct simd_ymm b, uint64_t control)
{
	if (control & 8)
		return _mm_setzero_si128();
	return control & 2 ? (control & 1 ? b.high : b.low) : (control & 1 ? a.high : a.low);
}

AVX_HANDLER(vperm2_256)
{
	avx_check(c, i);
	struct simd_ymm b = avx_src256(c, i), a = ymm_get(c, avx_v(i));
	ymm_set(c, i->reg, half_of(a, b, i->imm), half_of(a, b, i->imm >> 4));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vinsert_256)
{
	avx_check(c, i);
	__m128i b = avx_src128(c, i);
	struct simd_ymm a = ymm_get(c, avx_v(i));
	ymm_set(c, i->reg, i->imm & 1 ? a.low : b, i->imm & 1 ? b : a.high);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vextract_256)
{
	avx_check(c, i);
	__m128i v = i->imm & 1 ? ymm_high(c, i->reg) : xmm_get(c, i->reg);
	if (i->flags & INSN_MEM)
		sse_store128(c, i, soft_ea(c, i), v);
	else
		avx_set(c, i->rm, v);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vinsertps_128)
{
	avx_check(c, i);
	uint32_t v = i->flags & INSN_MEM ? soft_load32(c, i, soft_ea(c, i))
					 : c->xmm[i->rm].u32[i->imm >> 6 & 3];
	__m128i put = _mm_set1_epi32((int)v), a = xmm_get(c, avx_v(i));
	a = simd_select(blend_mask(UINT64_C(1) << (i->imm >> 4 & 3), 4), a, put);
	avx_set(c, i->reg, _mm_andnot_si128(blend_mask(i->imm, 4), a));
	return SOFT_NEXT(c, i);
}

/* ---- Broadcasts ------------------------------------------------------------------------------ */

static inline __m128i sse_src8(struct soft_cpu *c, const struct insn *i)
{
	if (i->flags & INSN_MEM)
		return _mm_cvtsi32_si128(soft_load8(c, i, soft_ea(c, i)));
	return xmm_get(c, i->rm);
}

static inline __m128i all8(__m128i v)
{
	v = _mm_unpacklo_epi8(v, v);
	v = _mm_unpacklo_epi16(v, v);
	return _mm_shuffle_epi32(v, 0);
}

static inline __m128i all16(__m128i v)
{
	return _mm_shuffle_epi32(_mm_unpacklo_epi16(v, v), 0);
}

#define AVX_BROADCAST(name, source, expr)                                                          \
	AVX_128(name, source, expr)                                                                \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = source(c, i), v = expr;                                                \
		ymm_set(c, i->reg, v, v);                                                          \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_BROADCAST(vpbroadcastb, sse_src8, all8(b))
AVX_BROADCAST(vpbroadcastw, sse_src16, all16(b))
AVX_BROADCAST(vbroadcast32, sse_src32, _mm_shuffle_epi32(b, 0))
AVX_BROADCAST(vbroadcast64, sse_src64, _mm_unpacklo_epi64(b, b))

AVX_HANDLER(vbroadcast128_256)
{
	avx_check(c, i);
	__m128i v = avx_src128(c, i);
	ymm_set(c, i->reg, v, v);
	return SOFT_NEXT(c, i);
}

/* ---- Masked memory --------------------------------------------------------------------------- */

/* Lanes of a mask's sign are read, or all probed and then written; the others are not touched. */
static inline __attribute__((always_inline)) void
mask_load(struct soft_cpu *c, const struct insn *i, unsigned bytes, bool quads)
{
	const uint64_t linear = soft_ea(c, i);
	union lanes mask, out = {.u64 = {0}};

	mask.ymm = ymm_get(c, avx_v(i));
	for (unsigned n = 0; n < bytes / 4 && !quads; n++)
		if (mask.u32[n] >> 31)
			out.u32[n] = soft_load32(c, i, linear + n * 4u);
	for (unsigned n = 0; n < bytes / 8 && quads; n++)
		if (mask.u64[n] >> 63)
			out.u64[n] = soft_load64(c, i, linear + n * 8u);
	ymm_set(c, i->reg, out.ymm.low, out.ymm.high);
}

static inline __attribute__((always_inline)) void
mask_store(struct soft_cpu *c, const struct insn *i, unsigned bytes, bool quads)
{
	const uint64_t linear = soft_ea(c, i);
	union lanes mask, v;

	mask.ymm = ymm_get(c, avx_v(i));
	v.ymm = ymm_get(c, i->reg);
	for (unsigned n = 0; n < bytes / 4 && !quads; n++)
		if (mask.u32[n] >> 31)
			soft_probe(c, i, linear + n * 4u, 4, true);
	for (unsigned n = 0; n < bytes / 8 && quads; n++)
		if (mask.u64[n] >> 63)
			soft_probe(c, i, linear + n * 8u, 8, true);
	for (unsigned n = 0; n < bytes / 4 && !quads; n++)
		if (mask.u32[n] >> 31)
			soft_store32(c, i, linear + n * 4u, v.u32[n]);
	for (unsigned n = 0; n < bytes / 8 && quads; n++)
		if (mask.u64[n] >> 63)
			soft_store64(c, i, linear + n * 8u, v.u64[n]);
}

#define AVX_MASKED(name, run, bits, quads)                                                         \
	static __attribute__((noinline)) void name##_##bits##_run(struct soft_cpu *c,              \
								  const struct insn *i)            \
	{                                                                                          \
		run(c, i, (bits) / 8, quads);                                                      \
	}                                                                                          \
	AVX_HANDLER(name##_##bits)                                                                 \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		name##_##bits##_run(c, i);                                                         \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_MASKED(vmaskmov32_load, mask_load, 128, false)
AVX_MASKED(vmaskmov32_load, mask_load, 256, false)
AVX_MASKED(vmaskmov64_load, mask_load, 128, true)
AVX_MASKED(vmaskmov64_load, mask_load, 256, true)
AVX_MASKED(vmaskmov32_store, mask_store, 128, false)
AVX_MASKED(vmaskmov32_store, mask_store, 256, false)
AVX_MASKED(vmaskmov64_store, mask_store, 128, true)
AVX_MASKED(vmaskmov64_store, mask_store, 256, true)

/* ---- Gathers --------------------------------------------------------------------------------- */

/* The address of an element: the index register (in i->rm) is a vector. */
static uint64_t gather_linear(struct soft_cpu *c, const struct insn *i, int64_t index)
{
	uint64_t offset = soft_ea_sum(c, i) + ((uint64_t)index << i->scale);

	if (!(i->flags & INSN_EA_SLOW))
		return offset;
	return soft_linear(c, i->seg, i->adsize == 8 ? offset : (uint32_t)offset);
}

/* The mask is all ones or zeroes in each element of the vector, and zero behind it, before anything is read. */
static inline __attribute__((always_inline)) void gather_mask(union lanes *mask, unsigned bytes,
							      bool wide)
{
	for (unsigned n = 0; n < 4 && wide; n++)
		mask->u64[n] = n < bytes / 8 && mask->u64[n] >> 63 ? UINT64_MAX : 0;
	for (unsigned n = 0; n < 8 && !wide; n++)
		mask->u32[n] = n < bytes / 4 && mask->u32[n] >> 31 ? UINT32_MAX : 0;
}

/* Element by element: what is there when one faults stays, and its mask is cleared. */
static inline __attribute__((always_inline)) void
gather_run(struct soft_cpu *c, const struct insn *i, unsigned count, bool wide, bool wide_index)
{
	union lanes index, mask, out;

	index.ymm = ymm_get(c, i->rm);
	mask.ymm = ymm_get(c, avx_v(i));
	out.ymm = ymm_get(c, i->reg);
	gather_mask(&mask, count * (wide || wide_index ? 8 : 4), wide);
	ymm_set(c, avx_v(i), mask.ymm.low, mask.ymm.high);
	for (unsigned n = 0; n < count; n++) {
		int64_t at = wide_index ? (int64_t)index.u64[n] : (int32_t)index.u32[n];

		if (wide ? mask.u64[n] >> 63 : mask.u32[n] >> 31) {
			uint64_t linear = gather_linear(c, i, at);

			if (wide)
				out.u64[n] = soft_load64(c, i, linear);
			else
				out.u32[n] = soft_load32(c, i, linear);
		}
		if (wide)
			mask.u64[n] = 0;
		else
			mask.u32[n] = 0;
		ymm_set(c, i->reg, out.ymm.low, out.ymm.high);
		ymm_set(c, avx_v(i), mask.ymm.low, mask.ymm.high);
	}
	ymm_set(c, avx_v(i), _mm_setzero_si128(), _mm_setzero_si128());
	if (count * (wide ? 8 : 4) <= 16)
		avx_set(c, i->reg,
			count * (wide ? 8 : 4) < 16 ? _mm_move_epi64(out.ymm.low) : out.ymm.low);
}

#define AVX_GATHER(name, bits, count, wide, wide_index)                                            \
	static __attribute__((noinline)) void name##_##bits##_run(struct soft_cpu *c,              \
								  const struct insn *i)            \
	{                                                                                          \
		gather_run(c, i, count, wide, wide_index);                                         \
	}                                                                                          \
	AVX_HANDLER(name##_##bits)                                                                 \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		name##_##bits##_run(c, i);                                                         \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_GATHER(vgather_dd, 128, 4, false, false)
AVX_GATHER(vgather_dd, 256, 8, false, false)
AVX_GATHER(vgather_dq, 128, 2, true, false)
AVX_GATHER(vgather_dq, 256, 4, true, false)
AVX_GATHER(vgather_qd, 128, 2, false, true)
AVX_GATHER(vgather_qd, 256, 4, false, true)
AVX_GATHER(vgather_qq, 128, 2, true, true)
AVX_GATHER(vgather_qq, 256, 4, true, true)

/* ---- Selection ------------------------------------------------------------------------------- */

#define W0			 AVX_W0
#define NV			 AVX_NO_V
#define WIDE(name, flags, needs) {{NULL, avx_##name##_256}, {needs, needs}, flags}
#define AVX2_ROW(name, flags)	 {{avx_##name##_128, avx_##name##_256}, {CPU_AVX2, CPU_AVX2}, flags}

static const struct avx_row rows_0f38[256] = {
	[0x0c] = AVX_FP_ROW(vpermilps, W0),
	[0x0d] = AVX_FP_ROW(vpermilpd, W0),
	[0x0e] = AVX_FP_ROW(vtestps, W0 | NV),
	[0x0f] = AVX_FP_ROW(vtestpd, W0 | NV),
	[0x16] = WIDE(vperm32, W0, CPU_AVX2),
	[0x17] = AVX_FP_ROW(vptest, NV),
	[0x2c] = AVX_FP_ROW(vmaskmov32_load, W0 | AVX_MEM),
	[0x2d] = AVX_FP_ROW(vmaskmov64_load, W0 | AVX_MEM),
	[0x2e] = AVX_FP_ROW(vmaskmov32_store, W0 | AVX_MEM),
	[0x2f] = AVX_FP_ROW(vmaskmov64_store, W0 | AVX_MEM),
	[0x36] = WIDE(vperm32, W0, CPU_AVX2),
	[0x5a] = WIDE(vbroadcast128, W0 | NV | AVX_MEM, CPU_AVX2),
	[0x58] = AVX2_ROW(vbroadcast32, W0 | NV),
	[0x59] = AVX2_ROW(vbroadcast64, W0 | NV),
	[0x78] = AVX2_ROW(vpbroadcastb, W0 | NV),
	[0x79] = AVX2_ROW(vpbroadcastw, W0 | NV),
};

static const struct avx_row rows_0f3a[256] = {
	[0x00] = WIDE(vperm64, AVX_W1 | NV, CPU_AVX2),
	[0x01] = WIDE(vperm64, AVX_W1 | NV, CPU_AVX2),
	[0x02] = AVX2_ROW(vpblendd, W0),
	[0x04] = AVX_FP_ROW(vpermilps_imm, W0 | NV),
	[0x05] = AVX_FP_ROW(vpermilpd_imm, W0 | NV),
	[0x06] = WIDE(vperm2, W0, CPU_AVX),
	[0x0c] = AVX_FP_ROW(vblendps, 0),
	[0x0d] = AVX_FP_ROW(vblendpd, 0),
	[0x0e] = AVX_INT_ROW(vpblendw, 0),
	[0x18] = WIDE(vinsert, W0, CPU_AVX),
	[0x19] = WIDE(vextract, W0 | NV, CPU_AVX),
	[0x21] = AVX_128_ROW(vinsertps, 0),
	[0x38] = WIDE(vinsert, W0, CPU_AVX2),
	[0x39] = WIDE(vextract, W0 | NV, CPU_AVX2),
	[0x46] = WIDE(vperm2, W0, CPU_AVX2),
	[0x4a] = AVX_FP_ROW(vblendvps, W0),
	[0x4b] = AVX_FP_ROW(vblendvpd, W0),
	[0x4c] = AVX_INT_ROW(vpblendvb, W0),
};

/* VBROADCASTSS, SD and F128: of memory they are AVX's. */
static const struct avx_row *broadcast_row(const struct soft_decode *d)
{
	static const struct avx_row memory[3] = {
		AVX_FP_ROW(vbroadcast32, W0 | NV),
		WIDE(vbroadcast64, W0 | NV, CPU_AVX),
		WIDE(vbroadcast128, W0 | NV | AVX_MEM, CPU_AVX),
	};
	static const struct avx_row registers[3] = {
		AVX2_ROW(vbroadcast32, W0 | NV),
		WIDE(vbroadcast64, W0 | NV, CPU_AVX2),
		WIDE(vbroadcast128, W0 | NV | AVX_MEM, CPU_AVX2),
	};

	return d->mod == 3 ? &registers[d->opcode - 0x18] : &memory[d->opcode - 0x18];
}

/* W decides between lanes of 32 and 64 bits. */
static const struct avx_row *wide_row(const struct soft_decode *d)
{
	static const struct avx_row masked[2][2] = {
		{AVX2_ROW(vmaskmov32_load, AVX_MEM), AVX2_ROW(vmaskmov64_load, AVX_MEM)},
		{AVX2_ROW(vmaskmov32_store, AVX_MEM), AVX2_ROW(vmaskmov64_store, AVX_MEM)},
	};
	static const struct avx_row gathers[2][2] = {
		{AVX2_ROW(vgather_dd, AVX_MEM), AVX2_ROW(vgather_dq, AVX_MEM)},
		{AVX2_ROW(vgather_qd, AVX_MEM), AVX2_ROW(vgather_qq, AVX_MEM)},
	};
	const bool wide = d->vex_w;

	if (d->opcode == 0x8c || d->opcode == 0x8e)
		return &masked[d->opcode == 0x8e][wide];
	return &gathers[d->opcode & 1][wide];
}

/* Destination, index and mask of a gather must be three registers; its address has a SIB byte. */
static bool gather_valid(const struct soft_decode *d)
{
	const struct insn *out = d->out;

	return d->rm3 == 4 && out->adsize != 2 && out->reg != out->rm && out->reg != out->opcode &&
	       out->rm != out->opcode;
}

const struct avx_row *avx_lane_row(const struct soft_decode *d, enum fp_prefix prefix)
{
	const struct avx_row *row = NULL;

	if (prefix != FP_66)
		return NULL;
	if (d->map == 3)
		row = &rows_0f3a[d->opcode];
	else if (d->map != 2)
		return NULL;
	else if (d->opcode >= 0x18 && d->opcode <= 0x1a)
		row = broadcast_row(d);
	else if (d->opcode == 0x8c || d->opcode == 0x8e)
		row = wide_row(d);
	else if (d->opcode >= 0x90 && d->opcode <= 0x93)
		row = d->mod != 3 && gather_valid(d) ? wide_row(d) : NULL;
	else
		row = &rows_0f38[d->opcode];
	return row && (row->fn[0] || row->fn[1]) ? row : NULL;
}
