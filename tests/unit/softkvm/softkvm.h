/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the comparison with /dev/kvm: cases, their generators, the two machines, the judge.
 */
#ifndef TESTS_UNIT_SOFTKVM_SOFTKVM_H
#define TESTS_UNIT_SOFTKVM_SOFTKVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/cpu/vcpu.h"

/* ---- The guest's memory; linear addresses below IMAGE_BYTES are the same --------------------- */

#define RAM_BYTES   0x800000u
#define IMAGE_BYTES 0x2c000u /* what a case can reach: reset before it, compared after it */
#define GPA_IVT	    0x00000u /* of real mode */
#define GPA_GDT	    0x01000u
#define GPA_LDT	    0x02000u
#define GPA_IDT	    0x03000u /* 16-byte gates */
#define GPA_IDT32   0x04000u /* 8-byte gates */
#define GPA_TSS	    0x05004u /* so that its 64-bit fields are aligned */
#define GPA_PML4    0x06000u
#define GPA_PDPT    0x07000u
#define GPA_PD	    0x08000u /* of long mode and PAE: 0..1 GiB */
#define GPA_PT_LOW  0x09000u /* 0..2 MiB: the image, to itself, for all */
#define GPA_PT_ZOO  0x0a000u /* pages of all rights */
#define GPA_PAE	    0x0b000u /* top level of PAE paging */
#define GPA_PD32    0x0c000u /* of 32-bit paging */
#define GPA_PT32    0x0d000u
#define GPA_HALT    0x10000u /* HLT everywhere: stubs (a byte a vector), code, targets */
#define GPA_CODE    0x11000u
#define GPA_TARGETS 0x12000u
#define GPA_STACK   0x18800u /* grows down; all within 16 bits when a segment has base 0x10000 */
#define GPA_FRAME   0x18900u /* frames that far returns pop */
#define GPA_RSP0    0x19800u
#define GPA_IST	    0x1a000u /* IST n ends at + 0x200 * n */
#define GPA_USTACK  0x1b800u
#define GPA_DATA    0x20000u /* operands */
#define DATA_BYTES  0x4000u
#define GPA_FRAMES  0x24000u /* what the zoo's pages map */
#define ZOO_FRAMES  8u
#define GPA_LARGE   0x400000u /* where large pages lead */
#define LARGE_BYTES 0x21000u

/* Linear addresses of the zoo of pages: page n of a region has the rights that zoo_rights says. */
#define ZOO_PAGES     32u
#define ZOO_VA	      0x00400000u /* upper levels allow all */
#define ZOO_VA_REGION 0x00200000u /* the regions after it: see the PD in machine.c */
#define ZOO_REGIONS   8u
#define ABSENT_VA     0x3fe00000u /* no entry in the PD */

/* ---- Descriptors ----------------------------------------------------------------------------- */

#define SEL_KCODE64 0x08u
#define SEL_KDATA   0x10u
#define SEL_UCODE32 0x1bu
#define SEL_UDATA   0x23u
#define SEL_UCODE64 0x2bu
#define SEL_TSS	    0x30u
#define SEL_KCODE32 0x40u
#define SEL_KCODE16 0x48u
#define SEL_DATA16  0x50u
#define SEL_LDT	    0x58u
#define SEL_UCODE16 0x6bu
#define SEL_UDATA16 0x73u
/* SYSCALL's and SYSENTER's groups. */
#define SEL_SYSCALL 0x80u
#define SEL_SYSRET  0x90u
#define SEL_ZOO	    0x100u /* descriptors of all kinds, each with a second half, anew for each case */
#define ZOO_SLOTS   32u
#define GDT_LIMIT   (SEL_ZOO + ZOO_SLOTS * 16 - 1)
#define LDT_LIMIT   (ZOO_SLOTS * 16 - 1)

/* ---- Cases ----------------------------------------------------------------------------------- */

/* Where the code runs. */
enum run_mode {
	MODE_LONG0,   /* 64-bit code, CPL 0 */
	MODE_LONG3,   /* 64-bit code, CPL 3 */
	MODE_COMPAT0, /* 32-bit code in long mode, CPL 0 */
	MODE_COMPAT3,
	MODE_PROT0, /* 32-bit code, no long mode, paging of any kind or none */
	MODE_PROT3,
	MODE_REAL,
	MODE_COUNT
};
#define IN(mode)  (1u << (mode))
#define IN_LONG	  (IN(MODE_LONG0) | IN(MODE_LONG3))
#define IN_CPL0	  (IN(MODE_LONG0) | IN(MODE_COMPAT0) | IN(MODE_PROT0))
#define IN_CPL3	  (IN(MODE_LONG3) | IN(MODE_COMPAT3) | IN(MODE_PROT3))
#define IN_COMPAT (IN(MODE_COMPAT0) | IN(MODE_COMPAT3))
#define IN_LEGACY (IN(MODE_PROT0) | IN(MODE_PROT3))
#define IN_PAGED  (IN_LONG | IN_COMPAT)
#define IN_NARROW (IN_COMPAT | IN_LEGACY)
#define IN_PROT	  (IN_LONG | IN_NARROW)
#define IN_ALL	  (IN_PROT | IN(MODE_REAL))
#define IN_KERNEL (IN_CPL0 | IN(MODE_REAL))

#define CODE_MAX    256u
#define PATCHES_MAX 40u

struct patch {
	uint32_t gpa, size; /* 1..8 bytes */
	uint64_t value;
};

struct form;

struct test_case {
	const struct form *form; /* the last, of a sequence */
	enum run_mode mode;
	uint64_t seed;
	struct vcpu_state in;
	uint64_t cr8;
	uint8_t code[CODE_MAX]; /* at in.rip; HLT follows */
	unsigned len;
	struct patch patch[PATCHES_MAX]; /* of the image */
	unsigned patches;
};

struct rng {
	uint64_t state;
};

struct gen {
	struct rng rng;
	struct test_case *t;
	unsigned cpl;
	unsigned width;	      /* of code: 16, 32, 64 */
	unsigned data, frame; /* next unused operand, from GPA_DATA; from GPA_FRAME */
	unsigned zoo;	      /* which descriptors prevail: enum zoo_kind */
};

enum zoo_kind {
	ZOO_ANY,
	ZOO_CODE,
	ZOO_STACK,
	ZOO_SYSTEM
};

/* A form cannot be part of a sequence (its end is not that of the code). */
#define F_ALONE 0x1u
/* Its cases change page tables: a machine of its own for each, since KVM may keep what it read. */
#define F_FRESH 0x2u

struct form {
	const char *name;
	void (*emit)(struct gen *g, uint32_t arg);
	uint32_t arg;
	unsigned modes; /* IN(mode) */
	unsigned flags;
	unsigned zoo;
};

#define FORMS_MAX 256u

/* ---- random.c -------------------------------------------------------------------------------- */

uint64_t rng_next(struct rng *r);
unsigned rng_below(struct rng *r, unsigned n);
/* True once in n times. */
bool rng_one_in(struct rng *r, unsigned n);
/* Any value, biased towards edges. */
uint64_t value_any(struct rng *r);
/* Canonical or not, mostly near an edge. */
uint64_t address_any(struct rng *r);
uint16_t selector_any(struct gen *g);
/* A selector of code, data or whatever the form needs; plain: one that works. */
uint16_t selector_code(struct gen *g);
uint64_t descriptor_any(struct gen *g);
/* An address in the zoo of pages (or absent); the page's rest has room for size bytes, or not. */
uint64_t zoo_address(struct gen *g, unsigned size);
/* Where a far transfer may go. */
uint64_t target_any(struct gen *g);

/* ---- generate.c ------------------------------------------------------------------------------ */

/* One form, or several in sequence; the same for the same seed. */
void case_generate(struct test_case *t, const struct form *f, enum run_mode mode, uint64_t seed);
void case_sequence(struct test_case *t, const struct form *const *forms, unsigned count,
		   enum run_mode mode, uint64_t seed);

/* The tables' random descriptors, which the seed makes. */
void zoo_fill(const struct test_case *t, uint8_t *ram);

void emit_bytes(struct gen *g, const uint8_t *bytes, unsigned n);
#define EMIT(g, ...)                                                                               \
	emit_bytes(g, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
void emit_imm(struct gen *g, uint64_t value, unsigned size);
/* Register = value, at the code's own width (real mode: 32 bits). */
void emit_load(struct gen *g, unsigned reg, uint64_t value);
/* The address size prefix where [RDI] needs it. */
void emit_memory_prefix(struct gen *g);
/* ModRM with memory operand [RDI], or register rm. */
void emit_modrm_memory(struct gen *g, unsigned reg);
void emit_modrm(struct gen *g, unsigned reg, unsigned rm);
/* Bytes of the image that the case begins with. */
void patch_add(struct gen *g, uint64_t gpa, unsigned size, uint64_t value);
/* A fresh operand (offset by DS's base), a fresh frame (by SS's): GPA, filled with value. */
uint32_t operand_new(struct gen *g, unsigned size, uint64_t value);
uint32_t frame_new(struct gen *g, const uint64_t *values, unsigned count, unsigned size);
/* What the code names them by. */
uint64_t operand_offset(const struct gen *g, uint32_t gpa);
uint64_t frame_offset(const struct gen *g, uint32_t gpa);

/* ---- forms_*.c ------------------------------------------------------------------------------- */

unsigned forms_control(struct form *forms, unsigned count);
unsigned forms_segment(struct form *forms, unsigned count);
unsigned forms_event(struct form *forms, unsigned count);

/* ---- machine.c ------------------------------------------------------------------------------- */

struct machine {
	const struct vcpu_ops *ops;
	uint8_t *ram;
	void *shared;
	struct vcpu *vcpu;
	uint64_t cr8;
};

struct outcome {
	int reason; /* enum vcpu_exit_reason, or -1: the state was refused */
	struct vcpu_state s;
	uint64_t cr8;
};

void machine_open(struct machine *m, const struct vcpu_ops *ops);
void machine_close(struct machine *m);
void machine_run(struct machine *m, const struct test_case *t, struct outcome *out);
/* The state that cases of a mode begin with, before a generator varies it. */
void state_base(struct vcpu_state *s, enum run_mode mode);

/* ---- oracle.c -------------------------------------------------------------------------------- */

/* Who executes privileged code behind /dev/kvm. */
enum oracle {
	ORACLE_EMULATOR, /* no VT-x, no SVM: KVM's instruction emulator; CPL 3 runs natively */
	ORACLE_SVM,
	ORACLE_SVM_TCG, /* SVM that QEMU emulates */
	ORACLE_VMX,
	ORACLE_COUNT
};
#define BY(oracle) (1u << (oracle))
#define BY_ALL	   ((1u << ORACLE_COUNT) - 1)

enum oracle oracle_find(void);
const char *oracle_name(enum oracle oracle);
/* Takes out of the case's first state what this oracle cannot have (and says in oracle_report). */
void oracle_adapt(enum oracle oracle, struct test_case *t);
/* Why this oracle does not execute the form in the mode; NULL: it should. */
const char *oracle_lacks(enum oracle oracle, const struct form *f, enum run_mode mode);
/* Is the difference in this field a known error of the oracle's (or of the model's limits)? Counts.
 */
bool oracle_excuses(enum oracle oracle, const struct test_case *t, const char *field, uint64_t soft,
		    uint64_t kvm, const struct outcome *soft_out, const struct outcome *kvm_out);
/* No rule of the two kinds is about the form: it can be part of a sequence. */
bool oracle_plain(enum oracle oracle, const struct form *f, enum run_mode mode);
/* Prints how many differences each rule excused. */
void oracle_report(void);

/* ---- compare.c ------------------------------------------------------------------------------- */

/* False if the machines differ; then says how if wanted. */
bool outcome_equal(enum oracle oracle, const struct test_case *t,
		   const struct machine *soft_machine, const struct machine *kvm_machine,
		   const struct outcome *soft, const struct outcome *kvm, bool print);
const char *mode_name(enum run_mode mode);

#endif
