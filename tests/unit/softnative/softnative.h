/* SPDX-License-Identifier: Apache-2.0 */
/* The differential test's parts: forms, the cases made of them, and the two CPUs that run them. */
#ifndef TESTS_UNIT_SOFTNATIVE_SOFTNATIVE_H
#define TESTS_UNIT_SOFTNATIVE_SOFTNATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/cpu/vcpu.h"

/*
 * Both CPUs see the same linear addresses: two pages of code, two writable pages of data and a
 * read-only one, absent pages around each. All below 2 GiB, so that every form of address reaches
 * them.
 */
#define REGION_VA    UINT64_C(0x30000000)
#define REGION_BYTES UINT64_C(0x20000)
#define CODE_VA	     (REGION_VA + 0x2000)
#define CODE_BYTES   0x2000u
#define DATA_VA	     (REGION_VA + 0x10000)
#define DATA_BYTES   0x2000u
#define READONLY_VA  (DATA_VA + DATA_BYTES)
#define CODE_MAX     256 /* of a sequence; a single instruction has 15 at most */
#define PAGE_BYTES   0x1000u
#define GS_BASE	     (DATA_VA - 0x1230)
#define USER_CS	     0x33
#define USER_CS_32   0x23 /* compatibility mode */
#define USER_SS	     0x2b

#define CF 0x001u
#define PF 0x004u
#define AF 0x010u
#define ZF 0x040u
#define SF 0x080u
#define DF 0x400u
#define OF 0x800u

enum form_class {
	CLASS_ALU,
	CLASS_SHIFT,
	CLASS_MULDIV,
	CLASS_MOVE,
	CLASS_BIT,
	CLASS_STACK,
	CLASS_BRANCH,
	CLASS_STRING,
	CLASS_MISC,
	CLASS_FAULT, /* privileged or invalid at CPL 3 */
	CLASS_SSE,
	CLASS_MMX,
	CLASS_X87,
	CLASS_STATE, /* FXSAVE, MXCSR, fences */
	CLASS_COUNT
};

/* form.flags */
#define F_REG	 0x001u /* only with a register r/m */
#define F_MEM	 0x002u /* only with a memory r/m */
#define F_66	 0x004u /* has a 16-bit form */
#define F_W	 0x008u /* has a 64-bit form */
#define F_LOCK	 0x010u /* LOCK allowed with memory */
#define F_BYTE	 0x020u
#define F_ALIGN	 0x040u	 /* 16-byte operands: mostly aligned */
#define F_STACK	 0x080u	 /* uses RSP */
#define F_D64	 0x100u	 /* 64 bits without REX.W */
#define F_PLUS	 0x200u	 /* register in the opcode's low bits */
#define F_FAULT	 0x400u	 /* never completes */
#define F_VEX	 0x1000u /* with a VEX prefix of three bytes */
#define F_NOVVVV 0x2000u /* and no operand in vvvv */
#define F_VEX_L	 0x8000u /* with a vector length of 256 bits, too */
#define F_VEX_W0 0x10000u
#define F_VEX_W1 0x20000u
#define F_NANS	 0x4000u /* which of two NaNs a sum is, is up to the processor */
#define F_NOSIB	 0x800u	 /* no address-size prefix and no memory through it */

enum form_imm {
	IMM_NONE,
	IMM_8,
	IMM_16,
	IMM_Z, /* 2 or 4 bytes */
	IMM_V, /* 2, 4 or 8 bytes */
	IMM_ENTER,
	IMM_REL8,
	IMM_REL32,
	IMM_MOFFS,
	IMM_FAR /* 4 bytes and a selector */
};

/* What a form needs besides random registers. */
enum form_special {
	SP_NONE,
	SP_SHIFT, /* CL, 1 or imm8 */
	SP_ROTATE,
	SP_SHIFT_TWO, /* SHLD, SHRD */
	SP_BIT_REG,   /* BT r/m, r: a bit offset that stays in the data */
	SP_DIV,
	SP_IDIV,
	SP_CMPXCHG,
	SP_CMPXCHG_PAIR,
	SP_JUMP_IND,
	SP_JUMP_FAR,
	SP_RET,
	SP_RETF,
	SP_IRET,
	SP_POPF,
	SP_FRAME, /* RBP lies in the data */
	SP_STRING,
	SP_REPEAT, /* CMPS, SCAS: both REP prefixes differ */
	SP_XLAT,
	SP_SREG_LOAD,
	SP_MASKMOV,
	SP_FXSAVE,
	SP_FXRSTOR,
	SP_LDMXCSR,
	SP_FNSTENV,
	SP_FNSAVE,
	SP_FLDENV,
	SP_FRSTOR,
	SP_LOAD80,
	SP_LOADBCD,
	SP_BOUND,
	SP_POPA,
	SP_PUSH_SREG,
	SP_POP_SREG,
	SP_LOAD_FAR,  /* LES, LDS */
	SP_COMPARE,   /* PCMPxSTRx: short strings of few characters */
	SP_VEX_COUNT, /* a count or a field in vvvv */
	SP_GATHER     /* the index of the address is a vector */
};

#define EXT_R	 (-1) /* modrm.reg is a register */
#define EXT_NONE (-2) /* no modrm */
#define EXT_FULL (-3) /* modrm is given: form.modrm */

struct form {
	char name[28];
	enum form_class class;
	uint8_t prefix; /* mandatory: 0, 0x66, 0xf2, 0xf3 */
	uint8_t map;	/* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
	uint8_t opcode;
	int8_t ext;
	uint8_t modrm;
	enum form_imm imm;
	uint32_t flags;
	enum form_special special;
	uint32_t undefined; /* flags that the SDM leaves undefined */
};

#define FORMS_MAX 4096

/* Append to forms; return the new count. */
unsigned forms_int(struct form *forms, unsigned count);
unsigned forms_fp(struct form *forms, unsigned count);
/* Those that this host's processor has; tells what it has not. */
unsigned forms_newer(struct form *forms, unsigned count);
/* AVX's, AVX2's, FMA's and F16C's; the same. */
unsigned forms_avx(struct form *forms, unsigned count);
/* The forms of compatibility mode: those of the others that exist there, and its own. */
unsigned forms_compat(struct form *forms, unsigned count);

/* The registers a case begins and ends with. */
struct image {
	uint64_t gpr[16]; /* enum vcpu_gpr */
	uint64_t rip, rflags;
	_Alignas(16) uint8_t fx[512];
	uint8_t ymm[16][16]; /* upper halves */
};

/* Offsets in fx. */
#define FX_CW	 0
#define FX_SW	 2
#define FX_TAG	 4
#define FX_MXCSR 24
#define FX_ST	 32
#define FX_XMM	 160

struct outcome {
	struct image image;
	int vector; /* 3: the trap behind the instruction */
	uint32_t error;
	uint64_t cr2;
};

struct blank { /* a range of data not compared */
	uint32_t offset, bytes;
};

struct test_case {
	const struct form *form;
	unsigned mode; /* 64, or 32: compatibility mode */
	uint64_t seed;
	uint8_t code[CODE_MAX];
	unsigned len;
	struct image in;
	uint8_t data[DATA_BYTES];
	uint32_t undefined;
	unsigned opsize;
	uint64_t target; /* of the memory operand */
	struct blank blank[4];
	unsigned blanks;
	bool wide; /* the host makes several accesses: which of them faults is its own matter */
};

/* values.c: biased random values. */
struct rng {
	uint64_t state;
};
uint64_t rng_next(struct rng *r);
unsigned rng_below(struct rng *r, unsigned n);
uint64_t value_int(struct rng *r);
uint64_t value_lane(struct rng *r); /* 64 bits of floating point or integers */
void value_f80(struct rng *r, uint8_t out[10]);
void value_bcd(struct rng *r, uint8_t out[10]);
uint32_t value_mxcsr(struct rng *r);
uint16_t value_cw(struct rng *r);
void image_random(struct rng *r, struct image *image);
void data_random(struct rng *r, uint8_t *data, size_t bytes);
void fx_random(struct rng *r, uint8_t fx[512]);

/* generate.c: a case of the form in t->mode; deterministic in seed. */
struct generator {
	struct rng rng;
	struct test_case *t;
	const struct form *form;
	const uint8_t *pool; /* random data to begin with */
	bool wide, half, lock, ad32, gs, long_vector;
	uint8_t rep;
	uint8_t rex_bits;
	bool rex;
	bool registers_only;
	bool absolute; /* addresses take no register: a sequence may have changed it */
	bool memory, rip_relative;
	unsigned reg, rm, vvvv;
	unsigned vector_index; /* of SP_GATHER */
	uint16_t reserved;     /* registers that no address may use */
	unsigned disp_at;      /* of a RIP-relative displacement in code; 0: none */
	uint64_t imm;
};
void case_generate(struct test_case *t, const struct form *form, uint64_t seed,
		   const uint8_t *pool);
/* A case of several instructions, chosen among those for which form_plain holds, half of them with
 * memory operands; t->form is the last one. */
void sequence_generate(struct test_case *t, const struct form *forms, unsigned count, uint64_t seed,
		       const uint8_t *pool);
bool form_plain(const struct form *f, bool memory);
/* A place in the data (or beyond its edges) for an operand. */
uint64_t target_random(struct rng *r, bool aligned);
/* An address in the code pages that holds a trap. */
uint64_t trap_random(struct generator *g);

/* special.c: before the encoding (registers to keep, immediates), and after it (their values). */
void special_before(struct generator *g);
void special_after(struct generator *g);

/* native.c: false if the host cannot map the region. */
bool native_init(void);
void native_run(const struct test_case *t, struct outcome *out);

/* soft.c */
void soft_init(void);
void soft_run(const struct test_case *t, struct outcome *out);
const uint8_t *soft_data(void);
void soft_destroy(void);

/* coverage.c: what cases of single instructions reached on the host. */
struct coverage {
	unsigned memory;	   /* with a memory operand */
	unsigned crossed;	   /* completed, the operand on two pages */
	unsigned second;	   /* #PF at the second page of the operand */
	unsigned absent, readonly; /* #PF of data */
	unsigned protection;	   /* #GP, #SS: non-canonical, misaligned, privileged */
	unsigned undefined;	   /* #UD */
	unsigned arithmetic;	   /* #DE, #MF, #XM */
	unsigned split;		   /* completed, the instruction on two pages */
	unsigned fetch;		   /* #PF of the code, at its second page */
	uint32_t flags;		   /* status flags that changed */
};
void coverage_add(struct coverage *cov, const struct test_case *t, const struct outcome *native);
void coverage_sum(struct coverage *sum, const struct coverage *cov);
/* How many kinds of event that instructions of this class have were never seen. */
unsigned coverage_missed(const struct coverage *cov, enum form_class class);

/* operands.c: what an instruction may touch, as an independent decoder says. */
struct span {
	uint64_t first, last;
	bool read, written;
};
#define SPANS_MAX 4
/* The memory operands of the case's one instruction with these registers; with all, every iteration of
 * a REP prefix, else only the next one. Returns how many. */
unsigned operand_spans(const struct test_case *t, const struct image *image, bool all,
		       struct span spans[SPANS_MAX]);
/* Whether both are faults of data that this instruction may raise, so that which one comes is the
 * processor's choice: it has several accesses (of two operands, or of two pages), and nothing says in
 * which order they are made. The registers are compared elsewhere. */
bool fault_order_free(const struct test_case *t, const struct outcome *native,
		      const struct outcome *soft);

/* vendor.c: where processors differ from each other, and so may the host from the software CPU. */
/* Which of the two events comes is the processor's own matter: nothing else is compared then. */
bool vendor_vector_free(const struct test_case *t, const struct outcome *native,
			const struct outcome *soft);
/* Makes in soft what the host has made, where it may be either. */
void vendor_settle(const struct test_case *t, const struct outcome *native, struct outcome *soft);
/* Whether the byte at address may have been stored, or not, by the instruction that failed. */
bool vendor_stored(const struct test_case *t, const struct outcome *soft, uint64_t address);

/* compare.c: false if they differ; then prints the case if wanted. The data of both is compared in
 * place. */
bool outcome_equal(const struct test_case *t, const struct outcome *native,
		   const struct outcome *soft, bool print);

#endif
