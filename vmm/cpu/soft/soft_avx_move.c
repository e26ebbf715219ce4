/* SPDX-License-Identifier: Apache-2.0 */
/* AVX's moves: whole registers, halves, scalars, general registers, masks; VZEROUPPER; MXCSR. */
#include "vmm/cpu/soft/soft_avx.h"

void avx_unavailable(struct soft_cpu *c, const struct insn *i)
{
	if ((~c->cr4 & FP_CR4_OSXSAVE) || (~c->xcr0 & XCR0_SSE_AVX))
		soft_raise(c, i, VEC_UD);
	soft_raise(c, i, VEC_NM);
}

struct simd_ymm avx_load256_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear)
{
	union soft_xmm v[2];

	soft_load_bytes_slow(c, i, linear, v, 32);
	return (struct simd_ymm){_mm_load_si128((const __m128i *)&v[0]),
				 _mm_load_si128((const __m128i *)&v[1])};
}

void avx_store256_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, __m128i low,
		       __m128i high)
{
	union soft_xmm v[2];

	_mm_store_si128((__m128i *)&v[0], low);
	_mm_store_si128((__m128i *)&v[1], high);
	soft_store_bytes_slow(c, i, linear, v, 32);
}

static inline uint64_t ea_aligned(struct soft_cpu *c, const struct insn *i, unsigned size)
{
	uint64_t linear = soft_ea(c, i);

	if (unlikely(linear & (size - 1)))
		soft_raise_error(c, i, VEC_GP, 0);
	return linear;
}

/* ---- Whole registers ------------------------------------------------------------------------- */

/* aligned: #GP for memory that is not. */
static inline fp_next load128(struct soft_cpu *c, const struct insn *i, bool aligned)
{
	avx_check(c, i);
	if (!(i->flags & INSN_MEM))
		avx_set(c, i->reg, xmm_get(c, i->rm));
	else
		avx_set(c, i->reg,
			sse_load128(c, i, aligned ? ea_aligned(c, i, 16) : soft_ea(c, i)));
	return SOFT_NEXT(c, i);
}

static inline fp_next load256(struct soft_cpu *c, const struct insn *i, bool aligned)
{
	avx_check(c, i);
	struct simd_ymm v =
		i->flags & INSN_MEM
			? avx_load256(c, i, aligned ? ea_aligned(c, i, 32) : soft_ea(c, i))
			: ymm_get(c, i->rm);
	ymm_set(c, i->reg, v.low, v.high);
	return SOFT_NEXT(c, i);
}

static inline fp_next store128(struct soft_cpu *c, const struct insn *i, bool aligned)
{
	avx_check(c, i);
	if (!(i->flags & INSN_MEM))
		avx_set(c, i->rm, xmm_get(c, i->reg));
	else
		sse_store128(c, i, aligned ? ea_aligned(c, i, 16) : soft_ea(c, i),
			     xmm_get(c, i->reg));
	return SOFT_NEXT(c, i);
}

static inline fp_next store256(struct soft_cpu *c, const struct insn *i, bool aligned)
{
	avx_check(c, i);
	struct simd_ymm v = ymm_get(c, i->reg);
	if (i->flags & INSN_MEM)
		avx_store256(c, i, aligned ? ea_aligned(c, i, 32) : soft_ea(c, i), v.low, v.high);
	else
		ymm_set(c, i->rm, v.low, v.high);
	return SOFT_NEXT(c, i);
}

#define MOVE(name, function, bits, aligned)                                                        \
	AVX_HANDLER(name##_##bits)                                                                 \
	{                                                                                          \
		return function##bits(c, i, aligned);                                              \
	}
MOVE(vmovu_load, load, 128, false)
MOVE(vmovu_load, load, 256, false)
MOVE(vmova_load, load, 128, true)
MOVE(vmova_load, load, 256, true)
MOVE(vmovu_store, store, 128, false)
MOVE(vmovu_store, store, 256, false)
MOVE(vmova_store, store, 128, true)
MOVE(vmova_store, store, 256, true)

/* ---- Scalars: from memory the rest is zero, from a register it is vvvv's --------------------- */

AVX_HANDLER(vmovss_load)
{
	avx_check(c, i);
	if (i->flags & INSN_MEM) {
		avx_set(c, i->reg, sse_src32(c, i));
		return SOFT_NEXT(c, i);
	}
	avx_set(c, i->reg,
		_mm_castps_si128(_mm_move_ss(_mm_castsi128_ps(xmm_get(c, avx_v(i))),
					     _mm_castsi128_ps(xmm_get(c, i->rm)))));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vmovsd_load)
{
	avx_check(c, i);
	if (i->flags & INSN_MEM) {
		avx_set(c, i->reg, sse_src64(c, i));
		return SOFT_NEXT(c, i);
	}
	avx_set(c, i->reg,
		_mm_castpd_si128(_mm_move_sd(_mm_castsi128_pd(xmm_get(c, avx_v(i))),
					     _mm_castsi128_pd(xmm_get(c, i->rm)))));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vmovss_store)
{
	avx_check(c, i);
	if (i->flags & INSN_MEM) {
		soft_store32(c, i, soft_ea(c, i), c->xmm[i->reg].u32[0]);
		return SOFT_NEXT(c, i);
	}
	avx_set(c, i->rm,
		_mm_castps_si128(_mm_move_ss(_mm_castsi128_ps(xmm_get(c, avx_v(i))),
					     _mm_castsi128_ps(xmm_get(c, i->reg)))));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vmovsd_store)
{
	avx_check(c, i);
	if (i->flags & INSN_MEM) {
		soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[0]);
		return SOFT_NEXT(c, i);
	}
	avx_set(c, i->rm,
		_mm_castpd_si128(_mm_move_sd(_mm_castsi128_pd(xmm_get(c, avx_v(i))),
					     _mm_castsi128_pd(xmm_get(c, i->reg)))));
	return SOFT_NEXT(c, i);
}

/* ---- Halves ---------------------------------------------------------------------------------- */

/* 12, 16: one half from memory or from another register, the other from vvvv. */
AVX_128(vmovlp_load, sse_src64, _mm_unpacklo_epi64(b, _mm_srli_si128(a, 8)))
AVX_128(vmovhp_load, sse_src64, _mm_unpacklo_epi64(a, b))
AVX_128(vmovhlps, avx_src128, _mm_unpackhi_epi64(b, a))
AVX_128(vmovlhps, avx_src128, _mm_unpacklo_epi64(a, b))

AVX_HANDLER(vmovlp_store_128)
{
	avx_check(c, i);
	soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[0]);
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vmovhp_store_128)
{
	avx_check(c, i);
	soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[1]);
	return SOFT_NEXT(c, i);
}

AVX_128(vmovq_load, sse_src64, _mm_move_epi64(b))
AVX_128(vmovddup, sse_src64, _mm_unpacklo_epi64(b, b))
AVX_256(vmovddup, _mm_unpacklo_epi64(b, b))
AVX_BOTH(vmovsldup, _mm_shuffle_epi32(b, _MM_SHUFFLE(2, 2, 0, 0)))
AVX_BOTH(vmovshdup, _mm_shuffle_epi32(b, _MM_SHUFFLE(3, 3, 1, 1)))

AVX_HANDLER(vmovq_store_128)
{
	avx_check(c, i);
	if (i->flags & INSN_MEM)
		soft_store64(c, i, soft_ea(c, i), c->xmm[i->reg].u64[0]);
	else
		avx_set(c, i->rm, _mm_move_epi64(xmm_get(c, i->reg)));
	return SOFT_NEXT(c, i);
}

/* ---- General registers ----------------------------------------------------------------------- */

AVX_HANDLER(vmovd_load_128)
{
	avx_check(c, i);
	uint32_t v =
		i->flags & INSN_MEM ? soft_load32(c, i, soft_ea(c, i)) : (uint32_t)c->reg[i->rm];
	avx_set(c, i->reg, _mm_cvtsi32_si128((int)v));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vmovq_general_load_128)
{
	avx_check(c, i);
	uint64_t v = i->flags & INSN_MEM ? soft_load64(c, i, soft_ea(c, i)) : c->reg[i->rm];
	avx_set(c, i->reg, _mm_cvtsi64_si128((long long)v));
	return SOFT_NEXT(c, i);
}

/* A lane to memory, or zero-extended to a general register. */
#define AVX_EXTRACT(name, bits, lane)                                                              \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		uint##bits##_t v = c->xmm[i->reg].u##bits[(lane)];                                 \
		if (i->flags & INSN_MEM)                                                           \
			soft_store##bits(c, i, soft_ea(c, i), v);                                  \
		else                                                                               \
			c->reg[i->rm] = v;                                                         \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_EXTRACT(vmovd_store, 32, 0)
AVX_EXTRACT(vmovq_general_store, 64, 0)
AVX_EXTRACT(vpextrb, 8, i->imm & 15)
AVX_EXTRACT(vpextrw_store, 16, i->imm & 7)
AVX_EXTRACT(vpextrd, 32, i->imm & 3)
AVX_EXTRACT(vpextrq, 64, i->imm & 1)
AVX_EXTRACT(vextractps, 32, i->imm & 3)

AVX_HANDLER(vpextrw_128)
{
	avx_check(c, i);
	c->reg[i->reg] = c->xmm[i->rm].u16[i->imm & 7];
	return SOFT_NEXT(c, i);
}

/* vvvv with one lane from memory or a general register. */
#define AVX_INSERT(name, bits, lane)                                                               \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		uint##bits##_t v = i->flags & INSN_MEM ? soft_load##bits(c, i, soft_ea(c, i))      \
						       : (uint##bits##_t)c->reg[i->rm];            \
		avx_set(c, i->reg, xmm_get(c, avx_v(i)));                                          \
		c->xmm[i->reg].u##bits[i->imm & (lane)] = v;                                       \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_INSERT(vpinsrb, 8, 15)
AVX_INSERT(vpinsrw, 16, 7)
AVX_INSERT(vpinsrd, 32, 3)
AVX_INSERT(vpinsrq, 64, 1)

/* The signs of the lanes. */
#define AVX_MASK(name, count, low, high)                                                           \
	AVX_HANDLER(name##_128)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = xmm_get(c, i->rm);                                                     \
		c->reg[i->reg] = (uint32_t)(low);                                                  \
		return SOFT_NEXT(c, i);                                                            \
	}                                                                                          \
	AVX_HANDLER(name##_256)                                                                    \
	{                                                                                          \
		avx_check(c, i);                                                                   \
		__m128i b = xmm_get(c, i->rm), t = ymm_high(c, i->rm);                             \
		c->reg[i->reg] = (uint32_t)(low) | (uint32_t)(high) << (count);                    \
		return SOFT_NEXT(c, i);                                                            \
	}
AVX_MASK(vmovmskps, 4, _mm_movemask_ps(_mm_castsi128_ps(b)), _mm_movemask_ps(_mm_castsi128_ps(t)))
AVX_MASK(vmovmskpd, 2, _mm_movemask_pd(_mm_castsi128_pd(b)), _mm_movemask_pd(_mm_castsi128_pd(t)))
AVX_MASK(vpmovmskb, 16, _mm_movemask_epi8(b), _mm_movemask_epi8(t))

/* ---- Others ---------------------------------------------------------------------------------- */

/* In 64-bit mode all sixteen registers, else eight. */
static inline unsigned registers(const struct soft_cpu *c)
{
	return c->mode == 64 ? 16 : 8;
}

AVX_HANDLER(vzeroupper)
{
	avx_check(c, i);
	memset(c->ymm_high, 0, registers(c) * sizeof(c->ymm_high[0]));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vzeroall)
{
	avx_check(c, i);
	memset(c->ymm_high, 0, registers(c) * sizeof(c->ymm_high[0]));
	memset(c->xmm, 0, registers(c) * sizeof(c->xmm[0]));
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vldmxcsr_128)
{
	avx_check(c, i);
	uint32_t v = soft_load32(c, i, soft_ea(c, i));
	if (v & MXCSR_RESERVED)
		soft_raise_error(c, i, VEC_GP, 0);
	c->mxcsr = v;
	return SOFT_NEXT(c, i);
}

AVX_HANDLER(vstmxcsr_128)
{
	avx_check(c, i);
	soft_store32(c, i, soft_ea(c, i), c->mxcsr);
	return SOFT_NEXT(c, i);
}

/* VMASKMOVDQU: as MASKMOVDQU. */
AVX_HANDLER(vmaskmovdqu_128)
{
	avx_check(c, i);
	unsigned mask = (unsigned)_mm_movemask_epi8(xmm_get(c, i->rm));
	uint64_t linear = soft_ea(c, i);

	for (unsigned n = 0; n < 16; n++)
		if (mask >> n & 1)
			soft_probe(c, i, linear + n, 1, true);
	for (unsigned n = 0; n < 16; n++)
		if (mask >> n & 1)
			soft_store8(c, i, linear + n, c->xmm[i->reg].u8[n]);
	return SOFT_NEXT(c, i);
}

/* ---- Selection ------------------------------------------------------------------------------- */

#define MOVED(name, flags) AVX_FP_ROW(name, flags)
#define NV		   AVX_NO_V

static const struct avx_row rows[256][FP_PREFIXES] = {
	[0x10] = {MOVED(vmovu_load, NV), MOVED(vmovu_load, NV),
		  AVX_SCALAR_ROW(vmovss_load, AVX_MEM_NO_V),
		  AVX_SCALAR_ROW(vmovsd_load, AVX_MEM_NO_V)},
	[0x11] = {MOVED(vmovu_store, NV), MOVED(vmovu_store, NV),
		  AVX_SCALAR_ROW(vmovss_store, AVX_MEM_NO_V),
		  AVX_SCALAR_ROW(vmovsd_store, AVX_MEM_NO_V)},
	[0x12] = {AVX_128_ROW(vmovlp_load, AVX_MEM), AVX_128_ROW(vmovlp_load, AVX_MEM),
		  MOVED(vmovsldup, NV), MOVED(vmovddup, NV)},
	[0x13] = {AVX_128_ROW(vmovlp_store, AVX_MEM | NV), AVX_128_ROW(vmovlp_store, AVX_MEM | NV)},
	[0x16] = {AVX_128_ROW(vmovhp_load, AVX_MEM), AVX_128_ROW(vmovhp_load, AVX_MEM),
		  MOVED(vmovshdup, NV)},
	[0x17] = {AVX_128_ROW(vmovhp_store, AVX_MEM | NV), AVX_128_ROW(vmovhp_store, AVX_MEM | NV)},
	[0x28] = {MOVED(vmova_load, NV), MOVED(vmova_load, NV)},
	[0x29] = {MOVED(vmova_store, NV), MOVED(vmova_store, NV)},
	[0x2b] = {MOVED(vmova_store, AVX_MEM | NV), MOVED(vmova_store, AVX_MEM | NV)},
	[0x50] = {MOVED(vmovmskps, AVX_REG | NV), MOVED(vmovmskpd, AVX_REG | NV)},
	[0x6e] = {[FP_66] = AVX_128_ROW(vmovd_load, NV)},
	[0x6f] = {[FP_66] = MOVED(vmova_load, NV), [FP_F3] = MOVED(vmovu_load, NV)},
	[0x7e] = {[FP_66] = AVX_128_ROW(vmovd_store, NV), [FP_F3] = AVX_128_ROW(vmovq_load, NV)},
	[0x7f] = {[FP_66] = MOVED(vmova_store, NV), [FP_F3] = MOVED(vmovu_store, NV)},
	[0xc4] = {[FP_66] = AVX_128_ROW(vpinsrw, 0)},
	[0xc5] = {[FP_66] = AVX_128_ROW(vpextrw, AVX_REG | NV)},
	[0xd6] = {[FP_66] = AVX_128_ROW(vmovq_store, NV)},
	[0xd7] = {[FP_66] = AVX_INT_ROW(vpmovmskb, AVX_REG | NV)},
	[0xe7] = {[FP_66] = MOVED(vmova_store, AVX_MEM | NV)},
	[0xf0] = {[FP_F2] = MOVED(vmovu_load, AVX_MEM | NV)},
	[0xf7] = {[FP_66] = AVX_128_ROW(vmaskmovdqu, AVX_REG | NV)},
};

static const struct avx_row row_vmovhlps = AVX_128_ROW(vmovhlps, AVX_REG);
static const struct avx_row row_vmovlhps = AVX_128_ROW(vmovlhps, AVX_REG);
static const struct avx_row row_movq_load = AVX_128_ROW(vmovq_general_load, NV);
static const struct avx_row row_movq_store = AVX_128_ROW(vmovq_general_store, NV);
static const struct avx_row row_movntdqa = AVX_INT_ROW(vmova_load, AVX_MEM | NV);
static const struct avx_row row_zero = {{avx_vzeroupper, avx_vzeroall}, {CPU_AVX, CPU_AVX}, NV};
static const struct avx_row row_ldmxcsr = AVX_128_ROW(vldmxcsr, AVX_MEM | NV);
static const struct avx_row row_stmxcsr = AVX_128_ROW(vstmxcsr, AVX_MEM | NV);

/* 0F 3A: between SIMD and general registers. */
static const struct avx_row *row_0f3a(const struct soft_decode *d)
{
	static const struct avx_row extract[4] = {
		AVX_128_ROW(vpextrb, NV),
		AVX_128_ROW(vpextrw_store, NV),
		AVX_128_ROW(vpextrd, NV),
		AVX_128_ROW(vextractps, NV),
	};
	static const struct avx_row extract_wide = AVX_128_ROW(vpextrq, NV);
	static const struct avx_row insert[2] = {AVX_128_ROW(vpinsrd, 0), AVX_128_ROW(vpinsrq, 0)};
	static const struct avx_row insert_byte = AVX_128_ROW(vpinsrb, 0);
	const bool wide = d->rex & 8;

	switch (d->opcode) {
	case 0x14 ... 0x17:
		return d->opcode == 0x16 && wide ? &extract_wide : &extract[d->opcode - 0x14];
	case 0x20:
		return &insert_byte;
	case 0x22:
		return &insert[wide];
	default:
		return NULL;
	}
}

/* Where the form of the operand or W decides. */
static const struct avx_row *row_special(const struct soft_decode *d, enum fp_prefix prefix)
{
	const bool wide = d->rex & 8;

	switch (d->opcode) {
	case 0x12:
		return prefix == FP_NONE && d->mod == 3 ? &row_vmovhlps : NULL;
	case 0x16:
		return prefix == FP_NONE && d->mod == 3 ? &row_vmovlhps : NULL;
	case 0x6e:
		return prefix == FP_66 && wide ? &row_movq_load : NULL;
	case 0x7e:
		return prefix == FP_66 && wide ? &row_movq_store : NULL;
	case 0x77:
		return prefix == FP_NONE ? &row_zero : NULL;
	case 0xae:
		return prefix != FP_NONE ? NULL
		       : d->reg3 == 2	 ? &row_ldmxcsr
		       : d->reg3 == 3	 ? &row_stmxcsr
					 : NULL;
	default:
		return NULL;
	}
}

const struct avx_row *avx_move_row(const struct soft_decode *d, enum fp_prefix prefix)
{
	const struct avx_row *row;

	if (d->map == 3)
		return prefix == FP_66 ? row_0f3a(d) : NULL;
	if (d->map == 2 && d->opcode == 0x2a && prefix == FP_66)
		return &row_movntdqa;
	if (d->map != 1)
		return NULL;
	row = row_special(d, prefix);
	if (!row)
		row = &rows[d->opcode][prefix];
	return row->fn[0] ? row : NULL;
}
