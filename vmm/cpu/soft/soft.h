/* SPDX-License-Identifier: Apache-2.0 */
/* The software CPU's inner structures: the CPU, its TLBs, predecoded instructions and blocks. */
#ifndef VMM_SOFT_SOFT_H
#define VMM_SOFT_SOFT_H

#include <assert.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu_feature.h"
#include "base/limits.h"
#include "vmm/cpu/vcpu.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

struct soft_cpu;
struct insn;
struct soft_block;

/*
 * A handler executes one instruction. It computes all, writes memory, then registers and flags, so
 * that a fault (soft_raise, a longjmp) leaves the state as before the instruction. It ends with
 *   return SOFT_NEXT(c, i);   the next instruction of the block follows
 *   return SOFT_LEAVE(c, rip); the block ends here, execution goes on at rip
 * or, for direct branches, through soft_block.h's chaining. Handlers take no address of a local
 * that outlives a call, so that the compiler makes SOFT_NEXT a sibling call.
 */
typedef const struct insn *(*insn_fn)(struct soft_cpu *c, const struct insn *i);

/* Pseudo registers for effective addresses: always zero; the block's own rip (reg[REG_RIP]). */
#define REG_ZERO 16
#define REG_RIP	 17
#define REG_FAR	 18 /* always 2^32: index of RIP-relative addresses whose disp overflowed */

/* insn.flags */
#define INSN_EA_SLOW 0x01 /* segment base, 16- or 32-bit address size: soft_ea_slow */
#define INSN_LOCK    0x02
#define INSN_REX     0x04 /* byte registers 4..7 are SPL, BPL, SIL, DIL */
#define INSN_REP     0x08 /* F3 */
#define INSN_REPNE   0x10 /* F2 */
#define INSN_MEM     0x20 /* the r/m operand is memory */
#define INSN_STACK   0x40 /* base is RSP or RBP: a non-canonical address is #SS, not #GP */

/* One predecoded instruction, half a cache line. */
struct insn {
	insn_fn fn;
	uint64_t imm;	/* immediate, sign-extended; or the branch displacement */
	int32_t disp;	/* of the address; RIP-relative: already relative to the block's start */
	uint8_t len;	/* bytes of the instruction */
	uint8_t off;	/* bytes from the block's start to the instruction's start */
	uint8_t reg;	/* modrm.reg with REX.R (byte forms: H1's byte-register encoding) */
	uint8_t rm;	/* modrm.rm with REX.B if register, or opcode's low bits with REX.B */
	uint8_t base;	/* 0..15, REG_ZERO or REG_RIP */
	uint8_t index;	/* 0..15 or REG_ZERO */
	uint8_t scale;	/* shift 0..3 */
	uint8_t seg;	/* enum vcpu_segment_index that applies (default or prefix) */
	uint8_t opsize; /* 1, 2, 4, 8 */
	uint8_t adsize; /* 2, 4, 8 */
	uint8_t flags;	/* INSN_... */
	uint8_t opcode; /* last opcode byte, for generic handlers (condition codes, x87); of VEX: vvvv */
};
static_assert(sizeof(struct insn) == 32, "two instructions a cache line");

#define BLOCK_INSNS_MAX 32

/* What the decoder knows while it decodes one instruction; the select functions read it. */
struct soft_decode {
	struct insn *out; /* the record being filled; select functions set out->fn */
	uint8_t map;	  /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
	uint8_t opcode;
	uint8_t modrm;		/* valid if has_modrm */
	uint8_t mod, reg3, rm3; /* modrm's raw fields */
	uint8_t rex;		/* 0 or 0x40..0x4f */
	uint8_t mode;		/* 16, 32 or 64: the code segment's */
	uint64_t features;	/* of the CPU model: mask of enum cpu_feature */
	bool has_modrm;
	bool prefix_66, prefix_lock;
	uint8_t prefix_rep;   /* 0, 0xf2 or 0xf3: the last; of VEX its pp, too */
	bool vex;	      /* map, rex (W, R, X, B) and prefixes are those of a VEX prefix */
	bool vex_w;	      /* its W also outside of 64-bit mode */
	uint8_t vex_l, vex_v; /* its vector length (0: 128 bits) and its register vvvv, if vex */
	bool end_block;	      /* set by a select function: nothing may follow in this block */
};

/* Does the CPU model have the feature? */
static inline bool soft_decode_has(const struct soft_decode *d, enum cpu_feature feature)
{
	return d->features & CPU_BIT(feature);
}

/*
 * Select functions of the parts: given a decoded instruction of their opcodes, set out->fn and
 * end_block; return false for #UD. The decoder has parsed prefixes, modrm, displacement and
 * immediate (by its attribute table, which covers every opcode of all three parts).
 */
bool soft_select_system(struct soft_decode *d); /* soft_system*.c */
bool soft_select_fp(struct soft_decode *d);	/* soft_sse*.c, soft_x87*.c */

/*
 * TLB: per access kind, direct-mapped. An entry matches if tag == page of the last byte of the
 * access; then host = linear + addend. A tag that no access matches has one of these two bits set; they
 * lie above the low bits that the look-up of an aligned access compares too (soft_lock_ptr).
 */
#define SOFT_TLB_BITS	 10
#define SOFT_TLB_SIZE	 (1u << SOFT_TLB_BITS)
#define SOFT_TLB_INVALID 0x800u /* the slot is empty */
#define SOFT_TLB_SLOW	 0x400u /* the page is known, its accesses are slow; addend: linear -> gpa */
#define LINEAR_PAGE_MASK (~(uint64_t)0xfff)

struct soft_tlb_entry {
	uint64_t tag;
	uint64_t addend;
};

struct soft_tlb {
	struct soft_tlb_entry read[SOFT_TLB_SIZE];
	struct soft_tlb_entry write[SOFT_TLB_SIZE];
	struct soft_tlb_entry exec[SOFT_TLB_SIZE]; /* addend: linear -> guest physical */
};

/* Banks of a TLB context: supervisor, user, supervisor while EFLAGS.AC lifts SMAP. */
#define TLB_BANK_SUPERVISOR 0
#define TLB_BANK_USER	    1
#define TLB_BANK_LIFTED	    2
#define TLB_BANKS	    3

/* As many process-context identifiers keep their entries: Linux gives out six. */
#define SOFT_TLB_CONTEXTS 6
#define SOFT_PCID_MASK	  0xfffu

/* The entries of one process-context identifier (SDM 3A, 4.10.1); without CR4.PCIDE that of 0 (soft_tlb.c). */
struct soft_tlb_context {
	struct soft_tlb bank[TLB_BANKS];
	/* By bank and array: which slots hold something, and which of them a global page; so that
	 * a flush touches filled slots alone. */
	uint64_t filled[TLB_BANKS][3][SOFT_TLB_SIZE / 64];
	uint64_t global[TLB_BANKS][3][SOFT_TLB_SIZE / 64];
	/* Hash of the 2 MiB regions entered from large pages; a page of 1 GiB was entered. */
	uint64_t large[16];
	bool huge;
	bool used;	     /* its tags are initialised */
	uint16_t pcid;	     /* of the entries that are not global */
	uint64_t salt;	     /* of its short cuts in the block cache, without SALT_USER */
	uint64_t code_acked; /* up to which ticket its entries were given up (soft_code.c) */
	uint64_t entered;    /* when, by the CPU's count of entries */
};

/* soft_cpu.attention: bits set by any thread, cleared by the vCPU. */
#define ATTENTION_KICK	     0x1u
#define ATTENTION_IRQ_WINDOW 0x2u /* own thread: leave when interrupts can be taken */
#define ATTENTION_NMI	     0x4u
#define ATTENTION_CODE	     0x8u /* pages were marked: soft_code_acknowledge */

/* soft_cpu.irq_shadow: who set it. */
#define SHADOW_STI    1
#define SHADOW_MOV_SS 2

/* soft_cpu.leave: why. LEAVE_NO_TRAP holds back the single-step trap of this instruction, LEAVE_STEP
 * makes REP leave after one iteration. */
#define LEAVE_LOOK    1
#define LEAVE_NO_TRAP 2
#define LEAVE_STEP    4

/* RFLAGS bits. */
#define FLAG_CF	    0x0001u
#define FLAG_PF	    0x0004u
#define FLAG_AF	    0x0010u
#define FLAG_ZF	    0x0040u
#define FLAG_SF	    0x0080u
#define FLAG_TF	    0x0100u
#define FLAG_IF	    0x0200u
#define FLAG_DF	    0x0400u
#define FLAG_OF	    0x0800u
#define FLAG_IOPL   0x3000u
#define FLAG_NT	    0x4000u
#define FLAG_RF	    0x10000u
#define FLAG_VM	    0x20000u
#define FLAG_AC	    0x40000u
#define FLAG_VIF    0x80000u
#define FLAG_VIP    0x100000u
#define FLAG_ID	    0x200000u
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* Exceptions. */
enum soft_vector {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_OF = 4,
	VEC_BR = 5,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_DF = 8,
	VEC_TS = 10,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_XM = 19,
};

/* 80-bit register file of the x87; MMX aliases the mantissas. */
struct soft_x87 {
	long double st[8];    /* physical registers R0..R7, not stack-relative */
	uint16_t cw, sw, tag; /* tag: full 16-bit tag word; sw without TOP */
	uint8_t top;
	uint16_t fop;
	uint64_t fip, fdp;
};

union soft_xmm {
	uint8_t u8[16];
	uint16_t u16[8];
	uint32_t u32[4];
	uint64_t u64[2];
	int8_t s8[16];
	int16_t s16[8];
	int32_t s32[4];
	int64_t s64[2];
	float f32[4];
	double f64[2];
} __attribute__((aligned(16)));

/* What is known of a page that code is or was decoded from (soft_code.c). Any thread, atomics. */
struct soft_code_page {
	_Atomic uint64_t mark;	 /* soft_code.h */
	_Atomic uint64_t gen;	 /* stepped after every store that is told */
	_Atomic uint64_t looked; /* gen when its code was last compared or decoded */
};

#define SOFT_IMAGES_MAX 4

/* What all vCPUs of one VM in this process share (soft_vm.c); it outlives them. */
struct soft_vm {
	uint8_t *ram;
	uint64_t ram_end;
	/* Memory that is read and executed, and never written; all of it lies below memory_end. */
	unsigned images;
	struct soft_image {
		uint64_t start, end;
	} image[SOFT_IMAGES_MAX];
	uint64_t memory_end;
	struct soft_code_page *code;  /* by gfn, up to memory_end */
	_Atomic uint64_t code_ticket; /* counts marks of pages */
	/* The vCPUs of this process; a slot is taken at create and given back at destroy. */
	struct soft_cpu *_Atomic cpus[VCPUS_MAX];
	_Atomic unsigned cpus_end; /* one past the last slot ever taken */
	/* Serialises LOCKed accesses that cross a page or cannot use a host atomic. */
	_Atomic uint32_t split_lock;
};

/* One vCPU. All fields are its own thread's, but for attention and code_seen. */
struct soft_cpu {
	struct vcpu vcpu; /* first: the engine interface's view */

	/* Hot: touched by nearly every instruction. */
	uint64_t reg[19];     /* enum vcpu_gpr, REG_ZERO, REG_RIP (the block's start), REG_FAR */
	uint64_t flag_result; /* lazy flags, soft_flags.h */
	uint64_t flag_aux;
	struct soft_tlb *tlb;	  /* soft_tlb_select: the privilege's bank, or the empty one */
	struct soft_block *block; /* being executed */
	uint64_t insn_count;	  /* at block granularity */
	_Atomic uint32_t attention;
	uint32_t leave; /* own thread: nonzero makes soft_exec return at the block's end */
	uint32_t
		lock_size; /* of a LOCKed access under way on a page with code, at lock_gpa; or 0 */
	uint64_t lock_gpa;

	/* Architectural state. */
	uint64_t rip;	 /* valid between blocks only; inside: soft_rip(c, i) */
	uint64_t rflags; /* the non-arithmetic flags (arithmetic bits 0 here), bit 1 set */
	struct vcpu_segment seg[SEG_COUNT], ldtr, tr;
	struct vcpu_table gdtr, idtr;
	uint8_t cpl;
	uint8_t mode; /* 16, 32, 64: code size; 64 only if long mode and CS.L */
	/* What memory accesses are checked for (soft_check.c); zero costs nothing. */
	uint8_t seg_check; /* a bit a segment: its accesses need a look; SEG_ARMED: the next does */
	uint8_t seg_armed; /* the segment of that access */
	uint8_t align_check;
	/* Breakpoints in force, a bit for each of DR0 to DR3 (soft_debug.c). */
	uint8_t break_code, break_data, break_io;
	uint32_t debug_pending; /* DR6 bits of the trap that follows this instruction */
	uint8_t irq_shadow; /* STI/MOV SS: the next instruction runs alone, without interrupts */
	uint8_t nmi_blocked, nmi_pending, halted;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t dr[4], dr6, dr7;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_offset, tsc_aux, misc_enable;
	struct soft_x87 x87;
	uint32_t mxcsr;
	uint32_t mxcsr_run, mxcsr_after; /* operands of the host's LDMXCSR and STMXCSR */
	union soft_xmm xmm[16];
	union soft_xmm ymm_high[16]; /* bits 255:128 of YMM */
	uint64_t xcr0;

	/* Leaving guest code: an exception on its way to delivery. */
	sigjmp_buf escape; /* soft_raise longjmps here (sigsetjmp without mask) */
	struct {
		int vector;		  /* -1: none */
		bool has_error, software; /* software: INT n, INT3, INTO */
		bool resume;		  /* RF is pushed as 1: a fault, which comes back */
		uint32_t error;
		uint64_t rip; /* of the faulting instruction, or the next for traps */
	} exception;
	int delivering;		/* vector whose delivery is under way (faults combine), -1: none */
	uint8_t delivering_hw;	/* it is an exception: a fault may make #DF of it */
	uint8_t delivering_ext; /* it is no INT n: EXT of error codes is set */
	uint8_t irq_window;	/* the machine wants VCPU_EXIT_IRQ_WINDOW */
	int pending_irq;	/* vector injected by the machine, -1: none */
	struct vcpu_exit exit;
	unsigned pause_count;

	struct soft_vm *vm;
	/* Marks of code pages by ticket (soft_code.c): what this CPU has acknowledged, as the others
	 * see it (or CODE_PARKED) and as it knows itself; what all others have. */
	_Atomic uint64_t code_seen;
	uint64_t code_acked, code_trusted;
	struct vcpu_config config;
	bool amd;			  /* the CPU model is AMD's: SYSCALL and SYSENTER differ */
	uint64_t features;		  /* of the CPU model: mask of enum cpu_feature */
	struct soft_cache *cache;	  /* block cache (soft_block.c) */
	struct soft_tlb_context *context; /* CR3's */
	uint64_t tlb_entered;		  /* counts what made another context CR3's */
	/* Stays empty, so that every data access takes the slow path, where it is checked. */
	struct soft_tlb tlb_empty;
	struct soft_tlb_context tlb_context[SOFT_TLB_CONTEXTS];
};

/* Linear addresses have 48 bits, sign-extended. */
static inline bool soft_canonical(uint64_t linear)
{
	return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

/* rip of the instruction i of the running block, and of the one after it. */
static inline uint64_t soft_rip(const struct soft_cpu *c, const struct insn *i)
{
	return c->reg[REG_RIP] + i->off;
}
uint64_t soft_rip_wrap(const struct soft_cpu *c, uint64_t rip); /* to 32 bits by mode */
static inline uint64_t soft_next_rip(const struct soft_cpu *c, const struct insn *i)
{
	uint64_t rip = c->reg[REG_RIP] + i->off + i->len;

	return likely(c->mode == 64) ? rip : soft_rip_wrap(c, rip);
}

/* soft_exception.c: raise from within a handler; the instruction has had no effect. */
_Noreturn void soft_raise(struct soft_cpu *c, const struct insn *i, int vector);
_Noreturn void soft_raise_error(struct soft_cpu *c, const struct insn *i, int vector,
				uint32_t error);
_Noreturn void soft_raise_pf(struct soft_cpu *c, const struct insn *i, uint64_t linear,
			     uint32_t error);

/* Dispatch: sibling calls where the compiler makes them, a call loop in sanitizer/debug builds. */
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SOFT_TAIL_DISPATCH 1
#else
#define SOFT_TAIL_DISPATCH 0
#endif
#if SOFT_TAIL_DISPATCH
#define SOFT_NEXT(c, i) ((i)[1].fn((c), (i) + 1))
#else
#define SOFT_NEXT(c, i) ((void)(c), (i) + 1)
#endif
/* Ends the block: soft_exec goes on at target (checking leave and attention first). */
#define SOFT_LEAVE(c, target) ((c)->rip = (target), (const struct insn *)NULL)

#endif
