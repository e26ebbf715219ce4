/* SPDX-License-Identifier: Apache-2.0 */
/* SSE4.1's rounding to integers: handlers by the host's instructions, and in C. */
#ifndef VMM_SOFT_SOFT_SSE_ROUND_H
#define VMM_SOFT_SOFT_SSE_ROUND_H

#include "vmm/cpu/soft/soft_fp.h"

fp_next sse_roundps(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundpd(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundss(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundsd(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundps_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundpd_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundss_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_roundsd_host(struct soft_cpu *c, const struct insn *i);

#endif
