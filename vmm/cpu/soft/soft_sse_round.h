/* SPDX-License-Identifier: Apache-2.0 */
/* SSE4.1's rounding to integers: handlers by the host's instructions, and in C. */
#ifndef VMM_SOFT_SOFT_SSE_ROUND_H
#define VMM_SOFT_SOFT_SSE_ROUND_H

#include "vmm/cpu/soft/soft_fp.h"

/* The immediate (SDM 2B, ROUNDPD): bits 1:0 a rounding mode, unless bit 2 takes MXCSR's; bit 3: inexact
 * results raise nothing. */
#define ROUND_MXCSR  4u
#define ROUND_SILENT 8u

#define MXCSR_RC_SHIFT 13
#define MXCSR_RC       (3u << MXCSR_RC_SHIFT)

/* As mxcsr_enter; the immediate's mode goes into the MXCSR that the host's instruction runs with. */
static inline void round_enter(struct soft_cpu *c, const struct insn *i)
{
	mxcsr_enter(c);
	if (!(i->imm & ROUND_MXCSR))
		c->mxcsr_run = (c->mxcsr_run & ~MXCSR_RC) | (uint32_t)(i->imm & 3)
								    << MXCSR_RC_SHIFT;
}

/* In C: so many lanes of b rounded, MXCSR's flags added to *raised. */
__m128i sse_round_lanes(const struct soft_cpu *c, const struct insn *i, __m128i b, unsigned singles,
			unsigned doubles, uint32_t *raised);

fp_next sse_roundps(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundpd(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundss(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundsd(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundps_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundpd_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundss_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundsd_host(struct soft_cpu *c, const struct insn *i);

#endif
