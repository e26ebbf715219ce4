/* SPDX-License-Identifier: Apache-2.0 */
/* SSE and SSE2 floating-point arithmetic and comparisons, by the host's own instructions. */
#include "vmm/cpu/soft/soft_fp.h"

/*
 * Each operation runs as one asm block between loading the guest's MXCSR (all masked) and reading
 * the flags, so that the compiler can move nothing in or out.
 */
static bool denormal32(uint32_t v)
{
	return !(v & 0x7f800000u) && (v & 0x007fffffu);
}

static bool denormal64(uint64_t v)
{
	return !(v & UINT64_C(0x7ff0000000000000)) && (v & UINT64_C(0x000fffffffffffff));
}

uint32_t mxcsr_tiny(enum fp_lanes lanes, __m128i result)
{
	union soft_xmm r;
	bool tiny = false;

	_mm_store_si128((__m128i *)&r, result);
	switch (lanes) {
	case LANES_NONE:
		break;
	case LANES_SS:
		tiny = denormal32(r.u32[0]);
		break;
	case LANES_PS:
		for (unsigned n = 0; n < 4; n++)
			tiny |= denormal32(r.u32[n]);
		break;
	case LANES_SD:
		tiny = denormal64(r.u64[0]);
		break;
	case LANES_PD:
		tiny = denormal64(r.u64[0]) || denormal64(r.u64[1]);
		break;
	}
	return tiny ? 0x10 : 0;
}

#define SSE_ARITH(name, op, source, lanes)                                                         \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		uint32_t tiny = 0;                                                                 \
		fp_check_sse(c, i);                                                                \
		__m128i b = source(c, i), a = xmm_get(c, i->reg);                                  \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN op MXCSR_END                                          \
				 : [a] "+x"(a), MXCSR_OUTPUTS(c)                                   \
				 : [b] "x"(b), MXCSR_OPERANDS(c));                                 \
		if (lanes != LANES_NONE && unlikely(!(c->mxcsr & MXCSR_MASK_UE)))                  \
			tiny = mxcsr_tiny(lanes, a);                                               \
		mxcsr_leave(c, i, tiny);                                                           \
		xmm_set(c, i->reg, a);                                                             \
		return SOFT_NEXT(c, i);                                                            \
	}

#define SSE_ARITH4(name, lanes_like)                                                               \
	SSE_ARITH(name##ps, #name "ps %[b], %[a]", sse_src128, lanes_like##PS)                     \
	SSE_ARITH(name##pd, #name "pd %[b], %[a]", sse_src128, lanes_like##PD)                     \
	SSE_ARITH(name##ss, #name "ss %[b], %[a]", sse_src32, lanes_like##SS)                      \
	SSE_ARITH(name##sd, #name "sd %[b], %[a]", sse_src64, lanes_like##SD)
#define NEVER_PS LANES_NONE
#define NEVER_PD LANES_NONE
#define NEVER_SS LANES_NONE
#define NEVER_SD LANES_NONE

SSE_ARITH4(add, LANES_)
SSE_ARITH4(sub, LANES_)
SSE_ARITH4(mul, LANES_)
SSE_ARITH4(div, LANES_)
SSE_ARITH4(min, NEVER_)
SSE_ARITH4(max, NEVER_)
SSE_ARITH4(sqrt, NEVER_)
SSE_ARITH(rcpps, "rcpps %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(rcpss, "rcpss %[b], %[a]", sse_src32, LANES_NONE)
SSE_ARITH(rsqrtps, "rsqrtps %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(rsqrtss, "rsqrtss %[b], %[a]", sse_src32, LANES_NONE)
SSE_ARITH(cvtsd2ss, "cvtsd2ss %[b], %[a]", sse_src64, LANES_SS)
SSE_ARITH(cvtss2sd, "cvtss2sd %[b], %[a]", sse_src32, LANES_NONE)
SSE_ARITH(cvtpd2ps, "cvtpd2ps %[b], %[a]", sse_src128, LANES_PS)
SSE_ARITH(cvtps2pd, "cvtps2pd %[b], %[a]", sse_src64, LANES_NONE)
SSE_ARITH(cvtdq2ps, "cvtdq2ps %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(cvtps2dq, "cvtps2dq %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(cvttps2dq, "cvttps2dq %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(cvtpd2dq, "cvtpd2dq %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(cvttpd2dq, "cvttpd2dq %[b], %[a]", sse_src128, LANES_NONE)
SSE_ARITH(cvtdq2pd, "cvtdq2pd %[b], %[a]", sse_src64, LANES_NONE)

/* CMPxx: the predicate is the host instruction's immediate, so one handler each. */
#define SSE_COMPARE(predicate)                                                                     \
	SSE_ARITH(cmpps_##predicate, "cmpps $" #predicate ", %[b], %[a]", sse_src128, LANES_NONE)  \
	SSE_ARITH(cmppd_##predicate, "cmppd $" #predicate ", %[b], %[a]", sse_src128, LANES_NONE)  \
	SSE_ARITH(cmpss_##predicate, "cmpss $" #predicate ", %[b], %[a]", sse_src32, LANES_NONE)   \
	SSE_ARITH(cmpsd_##predicate, "cmpsd $" #predicate ", %[b], %[a]", sse_src64, LANES_NONE)
SSE_COMPARE(0)
SSE_COMPARE(1)
SSE_COMPARE(2)
SSE_COMPARE(3)
SSE_COMPARE(4)
SSE_COMPARE(5)
SSE_COMPARE(6)
SSE_COMPARE(7)

/* COMISx, UCOMISx: ZF PF CF tell, OF SF AF are cleared. */
#define SSE_COMI(name, source)                                                                     \
	static fp_next sse_##name(struct soft_cpu *c, const struct insn *i)                        \
	{                                                                                          \
		bool zf, pf, cf;                                                                   \
		fp_check_sse(c, i);                                                                \
		__m128i b = source(c, i), a = xmm_get(c, i->reg);                                  \
		mxcsr_enter(c);                                                                    \
		__asm__ volatile(MXCSR_BEGIN #name " %[b], %[a]" MXCSR_END                         \
				 : MXCSR_OUTPUTS(c), "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf)         \
				 : [a] "x"(a), [b] "x"(b), MXCSR_OPERANDS(c));                     \
		mxcsr_leave(c, i, 0);                                                              \
		soft_flags_set_arith(c, (zf ? FLAG_ZF : 0) | (pf ? FLAG_PF : 0) |                  \
						(cf ? FLAG_CF : 0));                               \
		return SOFT_NEXT(c, i);                                                            \
	}
SSE_COMI(comiss, sse_src32)
SSE_COMI(comisd, sse_src64)
SSE_COMI(ucomiss, sse_src32)
SSE_COMI(ucomisd, sse_src64)

#define FOUR(name) {sse_##name##ps, sse_##name##pd, sse_##name##ss, sse_##name##sd}
static const insn_fn arith_table[256][FP_PREFIXES] = {
	[0x2e] = {sse_ucomiss, sse_ucomisd},
	[0x2f] = {sse_comiss, sse_comisd},
	[0x51] = FOUR(sqrt),
	[0x52] = {sse_rsqrtps, NULL, sse_rsqrtss},
	[0x53] = {sse_rcpps, NULL, sse_rcpss},
	[0x58] = FOUR(add),
	[0x59] = FOUR(mul),
	[0x5a] = {sse_cvtps2pd, sse_cvtpd2ps, sse_cvtss2sd, sse_cvtsd2ss},
	[0x5b] = {sse_cvtdq2ps, sse_cvtps2dq, sse_cvttps2dq},
	[0x5c] = FOUR(sub),
	[0x5d] = FOUR(min),
	[0x5e] = FOUR(div),
	[0x5f] = FOUR(max),
	[0xe6] = {NULL, sse_cvttpd2dq, sse_cvtdq2pd, sse_cvtpd2dq},
};

#define COMPARE_ROW(p) {sse_cmpps_##p, sse_cmppd_##p, sse_cmpss_##p, sse_cmpsd_##p}
static const insn_fn compare_table[8][FP_PREFIXES] = {
	COMPARE_ROW(0), COMPARE_ROW(1), COMPARE_ROW(2), COMPARE_ROW(3),
	COMPARE_ROW(4), COMPARE_ROW(5), COMPARE_ROW(6), COMPARE_ROW(7),
};

bool fp_select_arith(struct soft_decode *d)
{
	enum fp_prefix prefix = fp_prefix_of(d);
	insn_fn fn = arith_table[d->opcode][prefix];

	if (d->opcode == 0xc2)
		fn = compare_table[d->out->imm & 7][prefix];
	if (!fn)
		return false;
	d->out->fn = fn;
	return true;
}
