/* SPDX-License-Identifier: Apache-2.0 */
/* SSE4.2's string comparisons: handlers by the host's instruction, and in C. */
#ifndef VMM_SOFT_SOFT_SSE_STRING_H
#define VMM_SOFT_SOFT_SSE_STRING_H

#include "vmm/cpu/soft/soft_fp.h"

fp_next sse_pcmpestrm(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpestri(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpistrm(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpistri(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpestrm_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpestri_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpistrm_host(struct soft_cpu *c, const struct insn *i);
fp_next sse_pcmpistri_host(struct soft_cpu *c, const struct insn *i);

#endif
