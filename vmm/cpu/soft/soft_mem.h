/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory as handlers reach it: effective addresses, TLB fast paths, the stack. */
#ifndef VMM_SOFT_SOFT_MEM_H
#define VMM_SOFT_SOFT_MEM_H

#include <string.h>

#include "base/locked.h"
#include "vmm/cpu/soft/soft.h"
#include "vmm/cpu/soft/soft_parts.h"

/*
 * What holds for every access here (all run on the vCPU's own thread):
 *  - linear comes from soft_ea or is otherwise wrapped to 32 bits outside 64-bit mode;
 *  - a fault leaves through soft_raise..., before any byte was written;
 *  - where accesses must be checked (alignment; limit and type of a segment that is not flat) or
 *    may meet a breakpoint, no fast path hits: see soft_check.c and soft_debug.c;
 *  - the host may block in the access (the page is fetched from another slice), so no lock of
 *    ours may be held over it.
 */

/* Host memory of the guest: other threads and processes write it at any time, at any alignment.
 * One host access each: volatile forbids the compiler to split or repeat it. */
#define SOFT_RACY __attribute__((no_sanitize("thread")))

#define SOFT_HOST_ACCESS(bits)                                                                     \
	struct soft_unaligned##bits {                                                              \
		uint##bits##_t value;                                                              \
	} __attribute__((packed, may_alias));                                                      \
	SOFT_RACY static inline uint##bits##_t soft_host_load##bits(const void *host)              \
	{                                                                                          \
		return ((const volatile struct soft_unaligned##bits *)host)->value;                \
	}                                                                                          \
	SOFT_RACY static inline void soft_host_store##bits(void *host, uint##bits##_t value)       \
	{                                                                                          \
		((volatile struct soft_unaligned##bits *)host)->value = value;                     \
	}
SOFT_HOST_ACCESS(8)
SOFT_HOST_ACCESS(16)
SOFT_HOST_ACCESS(32)
SOFT_HOST_ACCESS(64)
#undef SOFT_HOST_ACCESS

/* ---- Effective addresses --------------------------------------------------------------------- */

static inline uint64_t soft_ea_sum(const struct soft_cpu *c, const struct insn *i)
{
	return c->reg[i->base] + (c->reg[i->index] << i->scale) + (uint64_t)(int64_t)i->disp;
}

/* The offset within the segment, wrapped to the address size (what LEA gives). */
static inline uint64_t soft_ea_offset(const struct soft_cpu *c, const struct insn *i)
{
	uint64_t sum = soft_ea_sum(c, i);

	if (likely(i->adsize == 8))
		return sum;
	return i->adsize == 4 ? (uint32_t)sum : (uint16_t)sum;
}

/* Linear address of an offset in a segment: in 64-bit mode only FS and GS have a base, outside of
 * it the sum wraps at 4 GiB. The access that follows is one of this segment. */
static inline uint64_t soft_linear(struct soft_cpu *c, unsigned seg, uint64_t offset)
{
	if (c->mode == 64)
		return seg >= SEG_FS ? c->seg[seg].base + offset : offset;
	if (unlikely(c->seg_check & (SEG_ARMED | 1u << seg)))
		soft_check_arm(c, seg);
	return (uint32_t)(c->seg[seg].base + offset);
}

static inline uint64_t soft_ea(struct soft_cpu *c, const struct insn *i)
{
	if (likely(!(i->flags & INSN_EA_SLOW)))
		return soft_ea_sum(c, i);
	return soft_linear(c, i->seg, soft_ea_offset(c, i));
}

/* ---- Slow paths (soft_mmu.c): TLB miss, page crossing, MMIO, code pages ---------------------- */

uint64_t soft_load_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size);
void soft_store_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		     uint64_t value);
/* The same for the stack: a non-canonical address raises #SS whatever i is. */
uint64_t soft_stack_load_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			      unsigned size);
void soft_stack_store_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
			   uint64_t value);
void soft_load_bytes_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, void *dst,
			  unsigned n);
void soft_store_bytes_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			   const void *src, unsigned n);
void *soft_write_ptr_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size);
void *soft_lock_ptr_slow(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size);
void soft_lock_end_slow(struct soft_cpu *c);

/* ---- Fast paths ------------------------------------------------------------------------------ */

/* The host address of an access within one page that the TLB array knows; else NULL. The slot is
 * the first byte's, the tag is compared with the last byte's page: a crossing never matches. */
static inline void *soft_tlb_host(const struct soft_tlb_entry *array, uint64_t linear,
				  unsigned size)
{
	const struct soft_tlb_entry *e = &array[(linear >> PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

	if (likely(((linear + size - 1) & LINEAR_PAGE_MASK) == e->tag))
		return (void *)(uintptr_t)(linear + e->addend);
	return NULL;
}

#define SOFT_ACCESS(bits)                                                                          \
	static inline uint##bits##_t soft_load##bits(struct soft_cpu *c, const struct insn *i,     \
						     uint64_t linear)                              \
	{                                                                                          \
		void *host = soft_tlb_host(c->tlb->read, linear, bits / 8);                        \
                                                                                                   \
		if (likely(host))                                                                  \
			return soft_host_load##bits(host);                                         \
		return (uint##bits##_t)soft_load_slow(c, i, linear, bits / 8);                     \
	}                                                                                          \
	static inline void soft_store##bits(struct soft_cpu *c, const struct insn *i,              \
					    uint64_t linear, uint##bits##_t value)                 \
	{                                                                                          \
		void *host = soft_tlb_host(c->tlb->write, linear, bits / 8);                       \
                                                                                                   \
		if (likely(host))                                                                  \
			soft_host_store##bits(host, value);                                        \
		else                                                                               \
			soft_store_slow(c, i, linear, bits / 8, value);                            \
	}
SOFT_ACCESS(8)
SOFT_ACCESS(16)
SOFT_ACCESS(32)
SOFT_ACCESS(64)
#undef SOFT_ACCESS

/* By a size known at run time (1, 2, 4, 8). */
static inline uint64_t soft_load(struct soft_cpu *c, const struct insn *i, uint64_t linear,
				 unsigned size)
{
	switch (size) {
	case 1:
		return soft_load8(c, i, linear);
	case 2:
		return soft_load16(c, i, linear);
	case 4:
		return soft_load32(c, i, linear);
	default:
		return soft_load64(c, i, linear);
	}
}

static inline void soft_store(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			      unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		soft_store8(c, i, linear, (uint8_t)value);
		break;
	case 2:
		soft_store16(c, i, linear, (uint16_t)value);
		break;
	case 4:
		soft_store32(c, i, linear, (uint32_t)value);
		break;
	default:
		soft_store64(c, i, linear, value);
	}
}

/* n <= 512 bytes at any alignment; faults before any byte is written. Not one access: 8 bytes each
 * at most are. */
SOFT_RACY static inline void soft_load_bytes(struct soft_cpu *c, const struct insn *i,
					     uint64_t linear, void *dst, unsigned n)
{
	const void *host = soft_tlb_host(c->tlb->read, linear, n);

	if (likely(host && n == 16)) {
		uint64_t words[2] = {soft_host_load64(host),
				     soft_host_load64((const uint8_t *)host + 8)};

		memcpy(dst, words, 16);
		return;
	}
	soft_load_bytes_slow(c, i, linear, dst, n);
}

SOFT_RACY static inline void soft_store_bytes(struct soft_cpu *c, const struct insn *i,
					      uint64_t linear, const void *src, unsigned n)
{
	void *host = soft_tlb_host(c->tlb->write, linear, n);

	if (likely(host && n == 16)) {
		uint64_t words[2];

		memcpy(words, src, 16);
		soft_host_store64(host, words[0]);
		soft_host_store64((uint8_t *)host + 8, words[1]);
		return;
	}
	soft_store_bytes_slow(c, i, linear, src, n);
}

/*
 * Host pointer for a plain read-modify-write if the access lies in one writable RAM page without
 * code. NULL: the access was probed for write; load and store do it. What the TLB did not know has
 * been asked for for writing, so that the load does not ask for reading first.
 */
static inline void *soft_write_ptr(struct soft_cpu *c, const struct insn *i, uint64_t linear,
				   unsigned size)
{
	void *host = soft_tlb_host(c->tlb->write, linear, size);

	return likely(host) ? host : soft_write_ptr_slow(c, i, linear, size);
}

/*
 * Host pointer for a host atomic, which soft_lock_end must follow: as above, but code pages give
 * one too. NULL: use soft_locked, since the operand crosses a page or a cache line, where the host
 * would take its split lock, or is a device's. An aligned one is within one line: the same look-up
 * that finds its page finds that out.
 */
static inline void *soft_lock_ptr(struct soft_cpu *c, const struct insn *i, uint64_t linear,
				  unsigned size)
{
	const struct soft_tlb_entry *e =
		&c->tlb->write[(linear >> PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

	if (likely((linear & (LINEAR_PAGE_MASK | (size - 1))) == e->tag))
		return (void *)(uintptr_t)(linear + e->addend);
	return soft_lock_ptr_slow(c, i, linear, size);
}

/* After a host atomic by soft_lock_ptr: tells of the store if it hit a page with code. */
static inline void soft_lock_end(struct soft_cpu *c)
{
	if (unlikely(c->lock_size))
		soft_lock_end_slow(c);
}

/*
 * A read-modify-write for which soft_lock_ptr gave no pointer; what was there. Faults before it has
 * done anything. With LOCK (XCHG always) it is atomic against all accesses of all CPUs of the VM if
 * the operand is RAM; a device's registers are read and then written, and others may come between.
 */
uint64_t soft_locked(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		     enum locked_type type, uint64_t operand, uint64_t expected);
/* The same of up to 16 bytes, as the access says; its parts and what was there are filled in. */
void soft_locked_access(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
			struct locked_access *access);

/* Faults now as an access of size bytes (at most a page) would, or not at all. */
void soft_probe(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		bool write);
/* Host pointer valid to the end of the page, *bytes what is left of it; NULL if the page is MMIO
 * or (write) holds code. Faults like an access of one byte. */
uint8_t *soft_host_span(struct soft_cpu *c, const struct insn *i, uint64_t linear, bool write,
			unsigned *bytes);

/* ---- Stack ----------------------------------------------------------------------------------- */

/* The bits of RSP that count: by mode and SS.B. */
static inline uint64_t soft_stack_mask(const struct soft_cpu *c)
{
	if (likely(c->mode == 64))
		return UINT64_MAX;
	return c->seg[SEG_SS].attr & 0x400 ? UINT32_MAX : UINT16_MAX;
}

/* RSP with its counting bits replaced. */
static inline void soft_stack_set(struct soft_cpu *c, uint64_t rsp)
{
	if (likely(c->mode == 64))
		c->reg[RSP] = rsp;
	else if (c->seg[SEG_SS].attr & 0x400)
		c->reg[RSP] = (uint32_t)rsp;
	else
		c->reg[RSP] = (c->reg[RSP] & ~(uint64_t)UINT16_MAX) | (uint16_t)rsp;
}

/* Reads size bytes (2, 4, 8) at RSP + skip, without moving RSP. */
static inline uint64_t soft_stack_load(struct soft_cpu *c, const struct insn *i, uint64_t skip,
				       unsigned size)
{
	uint64_t linear = soft_linear(c, SEG_SS, (c->reg[RSP] + skip) & soft_stack_mask(c));
	void *host = soft_tlb_host(c->tlb->read, linear, size);

	if (unlikely(!host))
		return soft_stack_load_slow(c, i, linear, size);
	if (likely(size == 8))
		return soft_host_load64(host);
	return size == 4 ? soft_host_load32(host) : soft_host_load16(host);
}

/* Writes size bytes at RSP + skip (skip may be negative), without moving RSP. */
static inline void soft_stack_store(struct soft_cpu *c, const struct insn *i, uint64_t skip,
				    unsigned size, uint64_t value)
{
	uint64_t linear = soft_linear(c, SEG_SS, (c->reg[RSP] + skip) & soft_stack_mask(c));
	void *host = soft_tlb_host(c->tlb->write, linear, size);

	if (unlikely(!host))
		soft_stack_store_slow(c, i, linear, size, value);
	else if (likely(size == 8))
		soft_host_store64(host, value);
	else if (size == 4)
		soft_host_store32(host, (uint32_t)value);
	else
		soft_host_store16(host, (uint16_t)value);
}

/* RSP moves last: a fault leaves it alone. */
static inline void soft_push(struct soft_cpu *c, const struct insn *i, unsigned size,
			     uint64_t value)
{
	soft_stack_store(c, i, -(uint64_t)size, size, value);
	soft_stack_set(c, c->reg[RSP] - size);
}

static inline uint64_t soft_pop(struct soft_cpu *c, const struct insn *i, unsigned size)
{
	uint64_t value = soft_stack_load(c, i, 0, size);

	soft_stack_set(c, c->reg[RSP] + size);
	return value;
}

#endif
