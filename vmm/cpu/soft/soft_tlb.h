/* SPDX-License-Identifier: Apache-2.0 */
/* Where an entry lies in a bank of the TLB. */
#ifndef VMM_SOFT_SOFT_TLB_H
#define VMM_SOFT_SOFT_TLB_H

#include "vmm/cpu/soft/soft.h"

enum tlb_kind {
	TLB_READ,
	TLB_WRITE,
	TLB_EXEC
};

static inline struct soft_tlb_entry *tlb_array(struct soft_tlb *t, enum tlb_kind kind)
{
	return kind == TLB_READ ? t->read : kind == TLB_WRITE ? t->write : t->exec;
}

static inline unsigned tlb_slot(uint64_t linear)
{
	return (linear >> PAGE_SHIFT) & (SOFT_TLB_SIZE - 1);
}

#endif
