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
/* Executes exactly one instruction, whatever attention says (interrupt shadow, single step, RF). Of a
 * REP string instruction: one iteration if c->leave says LEAVE_STEP, else perhaps the whole. */
void soft_exec_one(struct soft_cpu *c);
/* Makes and frees the block cache of a vCPU. 0 or -ENOMEM. */
int soft_cache_create(struct soft_cpu *c);
void soft_cache_destroy(struct soft_cpu *c);
/* Linear-to-block shortcuts are dropped: the exec TLB or the mode changed. */
void soft_cache_flush_lookup(struct soft_cpu *c);
/* The same of one context; and after another one became CR3's. */
void soft_cache_flush_context(struct soft_cpu *c, struct soft_tlb_context *t);
void soft_cache_enter_context(struct soft_cpu *c);
/* The privilege changed: short cuts are looked up and entered for it; those of the other stay. */
void soft_cache_select(struct soft_cpu *c, bool user);
/* After a store of this vCPU to [gpa, gpa+len) where soft_code_heard: tells of it, and ends the
 * running block after this instruction if its bytes are hit. */
void soft_code_written(struct soft_cpu *c, uint64_t gpa, unsigned len);
/* The running block ends after this instruction. */
void soft_block_stop(struct soft_cpu *c);
/*
 * Decodes one instruction of at most len bytes at bytes for the mode and the features of the CPU model
 * (mask of enum cpu_feature); false if the bytes are too few (more are needed; fewer than 15 given). An
 * invalid opcode decodes to a handler that raises #UD. *end: it must end its block.
 */
bool soft_decode_insn(const uint8_t *bytes, unsigned len, uint8_t mode, uint64_t features,
		      struct insn *out, bool *end);

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
 *      host pointer for a host atomic on a RAM operand within a cache line, code pages included;
 *      soft_lock_end(c) must follow the atomic. NULL: soft_locked does it
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

/* ---- soft_check.c, soft_debug.c (system) ----------------------------------------------------- */

/* c->seg_check: beside the bits of enum vcpu_segment_index. */
#define SEG_ARMED 0x80u

/* c->tlb for the privilege, or the empty bank if data accesses are checked. */
void soft_tlb_select(struct soft_cpu *c);
/* The access that follows is one of segment seg: checked, if the segment needs it. */
void soft_check_arm(struct soft_cpu *c, unsigned seg);
/* Which segments need a look outside of 64-bit mode; after any of them, CR0.PE or the mode changed.
 */
void soft_check_segments(struct soft_cpu *c);
/* Whether alignment is checked; after CR0.AM, EFLAGS.AC or the privilege changed. */
void soft_check_alignment(struct soft_cpu *c);
/* Raises #GP, #SS or #AC for an access by linear address; for slow paths. */
void soft_check_access(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		       bool write);
/* An access of the current privilege that no segment register names. */
void soft_check_aligned(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size);
/* Offset and size within the limit, type fit for it; raises vector(error). */
void soft_check_segment(struct soft_cpu *c, const struct insn *i, const struct vcpu_segment *s,
			uint32_t offset, unsigned size, bool write, int vector, uint32_t error);

/* Raises #GP(0), or #SS(0) if i addresses the stack, unless the whole access is canonical: before
 * any page of it is looked at. */
void soft_check_canonical(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size);

/* Takes DR0 to DR3, DR7 and CR4.DE into force. */
void soft_debug_update(struct soft_cpu *c);
/* Is there a data breakpoint in the page? Such a page has no fast TLB entry. */
bool soft_debug_page(const struct soft_cpu *c, uint64_t linear);
/* A data access, or one to a port: if it meets a breakpoint the instruction is the block's last and
 * the trap follows it. Call only if break_data, or break_io, is not zero. */
void soft_debug_data(struct soft_cpu *c, uint64_t linear, unsigned size, bool write);
void soft_debug_port(struct soft_cpu *c, uint16_t port, unsigned size);
/* Raises #DB if an instruction breakpoint stands at linear and may fire; else tells whether the page
 * holds one, so that each of its instructions must be looked at. Call only if break_code. */
bool soft_debug_fetch(struct soft_cpu *c, uint64_t linear);

/* ---- soft_mmu.c (system) ------------------------------------------------------------------- */

/* Guest physical address of the code byte at linear, with this CPU's privilege; raises #PF (fetch)
 * with the exception rip = c->rip. Fills the exec TLB. */
uint64_t soft_fetch_translate(struct soft_cpu *c, uint64_t linear);

/* ---- soft_tlb.c (system) --------------------------------------------------------------------- */

/* Before anything else of the TLB: the context of PCID 0 is CR3's. */
void soft_tlb_init(struct soft_cpu *c);
/* After CR3 or CR4.PCIDE changed: the context of its PCID becomes the one that is looked up and filled. keep: with what it
 * had of this PCID; else only with global entries. */
void soft_tlb_enter(struct soft_cpu *c, unsigned pcid, bool keep);
/* All entries of all contexts; globals: those of global pages, too. */
void soft_tlb_flush(struct soft_cpu *c, bool globals);
/* INVLPG: one page, in all contexts. */
void soft_tlb_flush_page(struct soft_cpu *c, uint64_t linear);
/* INVPCID: what is not global of one PCID; and of that one page. */
void soft_tlb_flush_pcid(struct soft_cpu *c, unsigned pcid);
void soft_tlb_flush_pcid_page(struct soft_cpu *c, unsigned pcid, uint64_t linear);
/* Write-TLB entries of this vCPU for pages that are marked as code become slow ones: at once in CR3's context, and before
 * they are used in the others. */
void soft_tlb_protect_code(struct soft_cpu *c);

/* ---- soft_mmu.c (system) ------------------------------------------------------------------- */

/* Is gpa RAM? Then ram + gpa is its host address. */
static inline bool soft_is_ram(const struct soft_vm *vm, uint64_t gpa)
{
	return gpa < vm->ram_end && (gpa < GPA_HOLE_START || gpa >= GPA_HOLE_END);
}
/* Is gpa RAM or in an image? Then ram + gpa is where it is loaded from. Not for stores. */
static inline bool soft_is_memory(const struct soft_vm *vm, uint64_t gpa)
{
	if (soft_is_ram(vm, gpa))
		return true;
	for (unsigned i = 0; i < vm->images; i++)
		if (gpa >= vm->image[i].start && gpa < vm->image[i].end)
			return true;
	return false;
}

/* ---- soft_segment.c, soft_run.c (system) ---------------------------------------------------- */

/* Recomputes c->mode, c->cpl's TLB bank and drops look-up shortcuts; after CS, EFER, CR0 change. */
void soft_mode_update(struct soft_cpu *c);
/* ---- soft_fsgsbase.c (system) ---------------------------------------------------------------- */

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: F3 0F AE /0 to /3 of registers. */
bool soft_select_fsgsbase(struct soft_decode *d);

/* ---- soft_xsave.c (system) ------------------------------------------------------------------- */

/* Of 0F 01 D0 and D1; of 0F AE /4 to /6 with memory. NULL: no such instruction. */
insn_fn soft_select_xcr(const struct soft_decode *d);
insn_fn soft_select_xsave(const struct soft_decode *d);
/* Can XCR0 be this in the CPU model? */
bool soft_xcr0_valid(const struct soft_cpu *c, uint64_t value);

/* ---- soft_x87.c, soft_sse.c (fp) ------------------------------------------------------------ */

/* Reset state of x87 and SSE. */
void soft_fp_reset(struct soft_cpu *c);
/* FXSAVE64 image <-> registers (used by FXSAVE/FXRSTOR and by state_get/state_set). */
void soft_fp_save(const struct soft_cpu *c, uint8_t image[512]);
/* -EINVAL if MXCSR has reserved bits. */
int soft_fp_restore(struct soft_cpu *c, const uint8_t image[512]);

#endif
