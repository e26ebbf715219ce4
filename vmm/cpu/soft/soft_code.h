/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages hold decoded code, and how every CPU learns of stores to them (docs/softcpu.md). */
#ifndef VMM_SOFT_SOFT_CODE_H
#define VMM_SOFT_SOFT_CODE_H

#include "vmm/cpu/soft/soft.h"

/* soft_code_page.mark: 0: code was never decoded from this page. Else the upper bits are a ticket,
 * and these say: */
#define CODE_MARKED	  0x1u /* stores to the page must be told */
#define CODE_PENDING	  0x2u /* marked, and its ticket is not known yet */
#define CODE_TICKET_SHIFT 2

/* soft_code_page.gen is even; this is no page's, so a block of it must be compared at each entry. */
#define CODE_GEN_STEP UINT64_C(2)
#define CODE_GEN_NONE UINT64_C(1)

/* soft_cpu.code_seen of a CPU that is outside of guest code. */
#define CODE_PARKED UINT64_MAX

/* The CPU becomes one of the VM's, at create; and stops to be, at destroy, when none of them runs.
 * -ENOSPC: there are VCPUS_MAX. */
int soft_code_join(struct soft_cpu *c);
void soft_code_part(struct soft_cpu *c);

/* All of a CPU's functions here are for its own thread, between two instructions where no other
 * thing is said. */

/* Before the bytes of a page are read to decode or compare them: marks the page, and gives the
 * generation that the bytes are at least of; CODE_GEN_NONE if stores may still go untold. */
uint64_t soft_code_watch(struct soft_cpu *c, uint64_t gfn);
/* May this CPU get a write-TLB entry by which it stores without telling? Within an instruction;
 * the answer is good until the CPU's next soft_code_acknowledge. */
bool soft_code_store_untold(struct soft_cpu *c, uint64_t gfn);
/* After a store to the page (of this CPU, within an instruction): tells of it. */
void soft_code_tell(struct soft_cpu *c, uint64_t gfn);
/* Gives up what this CPU may do untold to pages that are marked by now, and says so. */
void soft_code_acknowledge(struct soft_cpu *c);
/* Before the CPU may store to guest memory, and after it did so last: one that is outside holds
 * nobody up. */
void soft_code_unpark(struct soft_cpu *c);
void soft_code_park(struct soft_cpu *c);

/* Must a store to the page be told? */
static inline bool soft_code_heard(const struct soft_cpu *c, uint64_t gfn)
{
	return atomic_load_explicit(&c->vm->code[gfn].mark, memory_order_relaxed) != 0;
}

static inline bool soft_code_marked(const struct soft_cpu *c, uint64_t gfn)
{
	return atomic_load(&c->vm->code[gfn].mark) & CODE_MARKED;
}

/* vcpu_ops.memory_changed. */
void soft_code_changed(void *shared, uint64_t gpa, uint64_t len);

#endif
