/* SPDX-License-Identifier: Apache-2.0 */
/* What the system files of the software CPU share among themselves: bits, descriptors, events. */
#ifndef VMM_SOFT_SOFT_SYSTEM_H
#define VMM_SOFT_SOFT_SYSTEM_H

#include "vmm/cpu/soft/soft.h"
#include "vmm/cpu/soft/soft_mem.h"
#include "vmm/cpu/soft/soft_parts.h"

/* Control register bits (SDM 3A, 2.5). */
#define CR0_PE	  0x00000001u
#define CR0_MP	  0x00000002u
#define CR0_EM	  0x00000004u
#define CR0_TS	  0x00000008u
#define CR0_ET	  0x00000010u
#define CR0_NE	  0x00000020u
#define CR0_WP	  0x00010000u
#define CR0_AM	  0x00040000u
#define CR0_NW	  0x20000000u
#define CR0_CD	  0x40000000u
#define CR0_PG	  0x80000000u
#define CR0_VALID 0xe005003fu

#define CR4_TSD	     0x00004u
#define CR4_DE	     0x00008u
#define CR4_PSE	     0x00010u
#define CR4_PAE	     0x00020u
#define CR4_PGE	     0x00080u
#define CR4_UMIP     0x00800u
#define CR4_FSGSBASE 0x10000u
#define CR4_PCIDE    0x20000u
#define CR4_OSXSAVE  0x40000u
#define CR4_SMEP     0x100000u
#define CR4_SMAP     0x200000u
/* VME and PVI are accepted and have no effect, like virtual-8086 mode itself. */
#define CR4_VALID 0x7ffu

/* MOV CR3 with CR4.PCIDE: keeps the entries of the PCID. The register does not have it. */
#define CR3_KEEP (UINT64_C(1) << 63)

#define EFER_SCE   0x001u
#define EFER_LME   0x100u
#define EFER_LMA   0x400u
#define EFER_NXE   0x800u
#define EFER_VALID (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

/* Guest physical address width, as CPUID leaf 80000008 tells it. */
#define SOFT_PHYS_BITS 46
#define SOFT_PHYS_MASK ((UINT64_C(1) << SOFT_PHYS_BITS) - 1)

/* Debug registers: DR6's causes, DR7's general detection. */
#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
#define DR7_GD 0x2000u

/* exception.vector of a triple fault: the CPU shuts down. */
#define VEC_TRIPLE_FAULT 256

/* Segment attributes (struct vcpu_segment.attr). */
#define ATTR_TYPE	 0x00fu
#define ATTR_ACCESSED	 0x001u
#define ATTR_WRITABLE	 0x002u /* of data; of code: readable */
#define ATTR_CONFORMING	 0x004u /* of code */
#define ATTR_EXPAND_DOWN 0x004u /* of data */
#define ATTR_CODE	 0x008u
#define ATTR_S		 0x010u /* code or data, not system */
#define ATTR_DPL_SHIFT	 5
#define ATTR_P		 0x080u
#define ATTR_L		 0x200u
#define ATTR_DB		 0x400u

/* System descriptor types. */
#define TYPE_TSS16_FREE 0x1u
#define TYPE_LDT	0x2u
#define TYPE_TSS16_BUSY 0x3u
#define TYPE_TSS_FREE	0x9u
#define TYPE_TSS_BUSY	0xbu
#define TYPE_INT16	0x6u
#define TYPE_TRAP16	0x7u
#define TYPE_INT	0xeu
#define TYPE_TRAP	0xfu

static inline bool soft_protected(const struct soft_cpu *c)
{
	return c->cr0 & CR0_PE;
}

static inline bool soft_long_mode(const struct soft_cpu *c)
{
	return c->efer & EFER_LMA;
}

/* Is an access of size bytes at linear all in one canonical half? */
static inline bool soft_canonical_range(const struct soft_cpu *c, uint64_t linear, unsigned size)
{
	return !soft_long_mode(c) || (soft_canonical(linear) && soft_canonical(linear + size - 1));
}

/* ---- soft_mmu.c, soft_mem.c ------------------------------------------------------------------ */

/* The TLB bank of data accesses by instructions: by the privilege and, with SMAP, EFLAGS.AC. */
static inline unsigned soft_data_bank(const struct soft_cpu *c)
{
	if (c->cpl == 3)
		return TLB_BANK_USER;
	return (c->cr4 & CR4_SMAP) && (c->rflags & FLAG_AC) ? TLB_BANK_LIFTED : TLB_BANK_SUPERVISOR;
}

/*
 * Guest physical address of linear for a data access of the bank's kind. *host: where the
 * page's byte lies, or NULL if the access must be slow (MMIO; a write to a page with code). Raises
 * #PF, or #GP/#SS for a non-canonical address.
 */
uint64_t soft_translate(struct soft_cpu *c, const struct insn *i, uint64_t linear, bool write,
			unsigned bank, uint8_t **host);
/* Accesses with a privilege of their own: the CPU's implicit ones (descriptor tables, TSS, stacks
 * of other privileges) are supervisor accesses whatever CPL is, and SMAP is not lifted for them. size 1, 2, 4, 8. */
uint64_t soft_load_as(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		      unsigned bank);
void soft_store_as(struct soft_cpu *c, const struct insn *i, uint64_t linear, unsigned size,
		   uint64_t value, unsigned bank);
/* Does a LOCKed access to RAM, alone. 0, or a negative code: nothing was done, the VM ends. */
int soft_locked_perform(struct soft_cpu *c, struct locked_access *access);

/* ---- soft_debug.c ---------------------------------------------------------------------------- */

const struct insn *op_mov_from_dr(struct soft_cpu *c, const struct insn *i);
const struct insn *op_mov_to_dr(struct soft_cpu *c, const struct insn *i);

/* ---- soft_exception.c ------------------------------------------------------------------------ */

/* INT n, INT3, INTO: a software interrupt; i is the instruction. */
_Noreturn void soft_raise_software(struct soft_cpu *c, const struct insn *i, int vector);
/* #DB as a fault: DR6 tells the cause, DR6_BD or instruction breakpoints. */
_Noreturn void soft_raise_debug(struct soft_cpu *c, const struct insn *i, uint32_t cause);
/* The debug trap that is due (c->debug_pending) becomes the exception to deliver. */
void soft_debug_trap(struct soft_cpu *c);
/* Leaves run, as if kicked, before the instruction i: it has had no effect. */
_Noreturn void soft_break_off(struct soft_cpu *c, const struct insn *i);
/* Delivers c->exception; the next fault leaves through c->escape as usual. */
void soft_exception_deliver(struct soft_cpu *c);
/* Delivers an external interrupt or NMI before the instruction at c->rip. */
void soft_interrupt_deliver(struct soft_cpu *c, uint8_t vector);

/* ---- soft_segment.c -------------------------------------------------------------------------- */

/* Reads the 8 bytes of a descriptor; false if the selector lies beyond its table. */
bool soft_descriptor_read(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			  uint64_t *raw);
/* The second half of a 16-byte system descriptor: base bits 63:32. */
uint32_t soft_descriptor_high(struct soft_cpu *c, const struct insn *i, uint16_t selector);
uint16_t soft_descriptor_attr(uint64_t raw);
uint32_t soft_descriptor_limit(uint64_t raw);
uint32_t soft_descriptor_base(uint64_t raw);
/* Sets a descriptor's accessed bit in memory, if it is clear. */
void soft_descriptor_access(struct soft_cpu *c, const struct insn *i, uint16_t selector,
			    uint64_t *raw);
/* The register from a checked descriptor. */
void soft_segment_fill(struct vcpu_segment *s, uint16_t selector, uint64_t raw);
/* Flat segments as SYSCALL and SYSENTER make them. */
void soft_segment_flat(struct vcpu_segment *s, uint16_t selector, uint16_t attr);
/* MOV/POP/LDS...: loads a data or stack segment register with all checks of the mode. */
void soft_segment_load(struct soft_cpu *c, const struct insn *i, unsigned seg, uint16_t selector);
/* Checks and reads SS for the privilege cpl; vector #GP or #TS for what is wrong with it. */
void soft_segment_stack(struct soft_cpu *c, const struct insn *i, uint16_t selector, unsigned cpl,
			int vector, struct vcpu_segment *out);

/* Values that a far transfer pushes or pops: a stack pointer of its own, committed at the end. */
struct soft_stack {
	uint64_t base, mask, sp;
	unsigned size;			   /* of one value */
	unsigned bank;			   /* of the TLB */
	const struct vcpu_segment *limits; /* SS, if its limit counts, else NULL */
	uint32_t error;			   /* of #SS beyond it */
};
struct soft_stack soft_stack_current(const struct soft_cpu *c, unsigned size);
void soft_stack_push(struct soft_cpu *c, const struct insn *i, struct soft_stack *s,
		     uint64_t value);
uint64_t soft_stack_pop(struct soft_cpu *c, const struct insn *i, struct soft_stack *s);

/* Loads CS and changes the mode; segment and cpl are checked already. */
void soft_code_commit(struct soft_cpu *c, const struct vcpu_segment *cs, unsigned cpl);

/* ---- soft_far.c ------------------------------------------------------------------------------ */

/* Each of these gives the handler of an opcode that is its own, or NULL; sets d->end_block. */
insn_fn soft_select_far(struct soft_decode *d);

/* ---- soft_system.c and its kin --------------------------------------------------------------- */

/* RFLAGS from value where mask has bits; makes the run loop look if that opens an interrupt window
 * or begins single stepping. */
void soft_rflags_load(struct soft_cpu *c, uint64_t value, uint64_t mask);
/* Raises #GP(0) unless CPL is 0. */
void soft_require_cpl0(struct soft_cpu *c, const struct insn *i);
/* The same if CR4.UMIP is set: SGDT, SIDT, SLDT, SMSW, STR. */
void soft_require_umip(struct soft_cpu *c, const struct insn *i);
/* The operand size of instructions whose default in 64-bit mode is 32 bits, and 64 bits. */
uint8_t soft_operand_size(const struct soft_decode *d);
uint8_t soft_operand_size64(const struct soft_decode *d);
/* The 16-bit r/m operand, register or memory. */
uint16_t soft_rm16(struct soft_cpu *c, const struct insn *i);
/* Writes a general register: 4 bytes zero-extend, 2 and 1 (low byte) leave the rest. */
void soft_reg_write(struct soft_cpu *c, unsigned reg, unsigned size, uint64_t value);

insn_fn soft_select_segment(struct soft_decode *d); /* soft_system_segment.c */
insn_fn soft_select_control(struct soft_decode *d); /* soft_system_control.c */
insn_fn soft_select_invpcid(struct soft_decode *d); /* the same */
insn_fn soft_select_io(struct soft_decode *d);	    /* soft_system_io.c */
insn_fn soft_select_syscall(struct soft_decode *d); /* soft_system_call.c */

/* Control registers, shared by MOV CR, LMSW and state_set. 0, or -EINVAL: #GP. */
int soft_cr0_write(struct soft_cpu *c, uint64_t value);
int soft_cr3_write(struct soft_cpu *c, uint64_t value);
int soft_cr4_write(struct soft_cpu *c, uint64_t value);
/* Does the CPU model have 1 GiB pages? */
bool soft_has_huge_pages(const struct soft_cpu *c);
/* The CR4 bits this CPU model has. */
uint64_t soft_cr4_valid(const struct soft_cpu *c);

/* ---- soft_msr.c ------------------------------------------------------------------------------ */

/* The guest's TSC now. */
uint64_t soft_tsc(const struct soft_cpu *c);
const struct insn *soft_rdmsr(struct soft_cpu *c, const struct insn *i);
const struct insn *soft_wrmsr(struct soft_cpu *c, const struct insn *i);

/* ---- soft_state.c ---------------------------------------------------------------------------- */

void soft_state_get(const struct vcpu *v, struct vcpu_state *out);
int soft_state_set(struct vcpu *v, const struct vcpu_state *state);

/* ---- soft_vm.c ------------------------------------------------------------------------------- */

int soft_vm_create(uint8_t *ram, uint64_t ram_end, void **out);
int soft_vm_image_add(void *shared, uint64_t gpa, uint64_t bytes); /* vcpu_ops.image_add */
void soft_vm_destroy(void *shared);

#endif
