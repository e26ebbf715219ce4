/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the software CPU offer each other: execution, memory, flags, segments. */
#ifndef VMM_SOFT_SOFT_PARTS_H
#define VMM_SOFT_SOFT_PARTS_H

#include "vmm/cpu/soft/soft.h"

/* ---- soft_exec.c, soft_block.c, soft_decode.c (core) ---------------------------------------- */

/*
 * Executes blocks from c->rip until c->leave is nonzero or attention is set at a block's start;
 * then c->rip is the next instruction. Exceptions leave by siglongjmp to c->escape instead.
 */
void soft_exec(struct soft_cpu *c);
/* Executes exactly one instruction, whatever attention says (interrupt shadow, single step). For a
 * REP string instruction: one iteration at least, perhaps the whole. */
void soft_exec_one(struct soft_cpu *c);
/* Makes and frees the block cache of a vCPU. 0 or -ENOMEM. */
int soft_cache_create(struct soft_cpu *c);
void soft_cache_destroy(struct soft_cpu *c);
/* Linear-to-block shortcuts are dropped: the exec TLB or the mode changed. */
void soft_cache_flush_lookup(struct soft_cpu *c);
/* The privilege changed: short cuts are looked up and entered for it; those of the other stay. */
void soft_cache_select(struct soft_cpu *c, bool user);
/* A store of this vCPU to [gpa, gpa+len) hits a page with code_page set: bump its generation, and
 * end the running block after this instruction if it lies there. Called before or after the store
 * by soft_mem's slow path. */
void soft_code_written(struct soft_cpu *c, uint64_t gpa, unsigned len);
/*
 * Decodes one instruction of at most len bytes at bytes for the mode; false if the bytes are too
 * few (more are needed; fewer than 15 given). An invalid opcode decodes to a handler that raises
 * #UD. *end: it must end its block.
 */
bool soft_decode_insn(const uint8_t *bytes, unsigned len, uint8_t mode, struct insn *out,
		      bool *end);

/* ---- soft_flags.h (core): static inline
 * uint64_t soft_flags_get(c)           the whole RFLAGS
 * void soft_flags_set(c, rflags)       the whole RFLAGS (no privilege checks)
 * void soft_flags_set_arith(c, bits)   only CF PF AF ZF SF OF from bits
 * bool soft_cf/zf/sf/of/pf(c)
 */

/* ---- soft_mem.h (system): static inline fast paths over the TLB
 * uint64_t soft_ea(c, i)               linear address of i's memory operand (segment base added)
 * uint64_t soft_ea_offset(c, i)        the same without segment base (LEA; wrapped to adsize)
 * uint8_t/16/32/64 soft_load8/16/32/64(c, i, linear)
 * void soft_store8/16/32/64(c, i, linear, value)
 * void *soft_write_ptr(c, i, linear, size)
 *      host pointer for a plain read-modify-write if the access lies in one RAM page that is
 *      writable and holds no code; else NULL (the page was probed for write: use load + store,
 *      which cannot fault any more)
 * void *soft_lock_ptr(c, i, linear, size)
 *      host pointer for a host atomic on a naturally aligned or in-page RAM operand, code pages
 *      included (their generation is bumped); NULL: crosses a page or is MMIO (take
 *      soft_split_lock(c)/soft_split_unlock(c) around load + store)
 * void soft_load_bytes(c, i, linear, void *dst, n)   n <= 512, any alignment; faults before any
 * byte void soft_store_bytes(c, i, linear, const void *src, n) void soft_probe(c, i, linear, size,
 * bool write)    fault now or not at all uint8_t *soft_host_span(c, i, linear, bool write, unsigned
 * *bytes) host pointer valid to the end of the page (REP MOVS/STOS), *bytes what is left of it;
 *      NULL if the page is MMIO or (write) holds code; faults like an access of one byte
 * Linear addresses: in 64-bit mode a non-canonical one raises #GP(0), or #SS(0) if i->flags has
 * INSN_STACK; outside it they are wrapped to 32 bits by soft_ea.
 * Stack helpers: soft_push(c, i, size, value), soft_pop(c, i, size): use SS base and stack size,
 *      write RSP last.
 */

/* ---- soft_mmu.c (system) ------------------------------------------------------------------- */

/* Guest physical address of the code byte at linear, with this CPU's privilege; raises #PF (fetch)
 * with the exception rip = c->rip. Fills the exec TLB. */
uint64_t soft_fetch_translate(struct soft_cpu *c, uint64_t linear);
/* Flushes: all entries but global ones / all / one page. */
void soft_tlb_flush(struct soft_cpu *c, bool globals);
void soft_tlb_flush_page(struct soft_cpu *c, uint64_t linear);
/* Write-TLB entries of this vCPU for the page become slow ones, since it now holds code. */
void soft_tlb_protect_code(struct soft_cpu *c, uint64_t gfn);
/* Is gpa RAM? Then ram + gpa is its host address. */
static inline bool soft_is_ram(const struct soft_vm *vm, uint64_t gpa)
{
	return gpa < vm->ram_end && (gpa < GPA_HOLE_START || gpa >= GPA_HOLE_END);
}

/* ---- soft_segment.c, soft_run.c (system) ---------------------------------------------------- */

/* Recomputes c->mode, c->cpl's TLB bank and drops look-up shortcuts; after CS, EFER, CR0 change. */
void soft_mode_update(struct soft_cpu *c);
/* A serialising instruction: epoch++. */
static inline void soft_serialise(struct soft_cpu *c)
{
	c->epoch++;
}

/* ---- soft_x87.c, soft_sse.c (fp) ------------------------------------------------------------ */

/* Reset state of x87 and SSE. */
void soft_fp_reset(struct soft_cpu *c);
/* FXSAVE64 image <-> registers (used by FXSAVE/FXRSTOR and by state_get/state_set). */
void soft_fp_save(const struct soft_cpu *c, uint8_t image[512]);
/* -EINVAL if MXCSR has reserved bits. */
int soft_fp_restore(struct soft_cpu *c, const uint8_t image[512]);

#endif
