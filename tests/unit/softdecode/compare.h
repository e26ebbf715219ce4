/* SPDX-License-Identifier: Apache-2.0 */
/* The software CPU's decoder beside Zydis: one instruction, both opinions, and what differs. */
#ifndef TESTS_UNIT_SOFTDECODE_COMPARE_H
#define TESTS_UNIT_SOFTDECODE_COMPARE_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu_feature.h"
#include "vmm/cpu/soft/soft_int.h"

#define INSN_MAX 15u

/* ---- model.c: what the CPU model has --------------------------------------------------------- */

/* A bit of CPUID, whether every model has it, and the sets of instructions that belong to it. */
struct model_feature {
	const char *name;
	uint32_t leaf, subleaf;
	unsigned reg, bit; /* reg: EAX, EBX, ECX, EDX */
	bool has;
	const char *sets; /* their names in Zydis, with spaces between */
};

/* The n-th feature; NULL behind the last. */
const struct model_feature *model_feature(unsigned n);
/* False if nothing is said about the set: neither a feature nor known to have none. */
bool model_set_known(ZydisISASet set);
/* Whether a model with these features (mask of enum cpu_feature) has it. */
bool model_has_feature(const struct model_feature *f, uint64_t features);
/* True if the model has this instruction; else it must raise #UD. */
bool model_has(const ZydisDecodedInstruction *z, uint64_t features);
/* The row of the table that says why an encoding executes that Zydis calls invalid (z is NULL), not
 * of the model, or another instruction; or -1. */
int model_explains(const ZydisDecodedInstruction *z, unsigned mode, const char *handler);
/* What a row says, NULL behind the last; *raises: the handler raises #UD when it executes. */
const char *model_explanation(unsigned row, bool *raises);
#define MODEL_EXPLANATIONS_MAX 16
/* Switches off what Zydis decodes by newer extensions and the model by what was there before. */
void model_decoder_init(ZydisDecoder *decoder, unsigned mode, uint64_t features);

/* ---- handlers.c: the names of the software CPU's handlers ------------------------------------ */

struct handlers; /* addresses and names, from this program's own symbol table */

/* NULL if the program has no symbols. Freed by handlers_free. */
struct handlers *handlers_load(void);
void handlers_free(struct handlers *h);
/* The name of a handler, or NULL. */
const char *handler_name(const struct handlers *h, insn_fn fn);
/* True if the handler of this name executes what Zydis decoded. */
bool handler_matches(const char *name, const ZydisDecodedInstruction *z, const struct insn *ours);

/* ---- operands.c ------------------------------------------------------------------------------ */

/* What differs between the operands, as a word; NULL: nothing. */
const char *operands_differ(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands,
			    const struct insn *ours);

/* ---- forms.c --------------------------------------------------------------------------------- */

/*
 * Calls visit with INSN_MAX bytes for every opcode of the four legacy maps with every modrm, under
 * each mandatory prefix, in 64-bit mode with REX.W too; and for every opcode of VEX, EVEX and XOP.
 */
void forms_visit(unsigned mode, void (*visit)(void *ctx, const uint8_t *bytes), void *ctx);

/* ---- compare.c ------------------------------------------------------------------------------- */

enum verdict {
	VERDICT_SAME,	   /* both decode it, to the same */
	VERDICT_ABSENT,	   /* not of the model: #UD */
	VERDICT_INVALID,   /* invalid for both */
	VERDICT_EXPLAINED, /* they differ for a reason in model_explains' table */
	VERDICT_DIFFERENT,
	VERDICT_COUNT
};

/* Counts of one run; one thread's. */
struct comparison {
	const struct handlers *handlers;
	ZydisDecoder decoder;
	unsigned mode;
	uint64_t features; /* of the CPU model: mask of enum cpu_feature */
	uint64_t verdicts[VERDICT_COUNT];
	uint64_t explained[MODEL_EXPLANATIONS_MAX]; /* by row of model_explains' table */
	uint64_t absent[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	uint64_t seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	ZydisMnemonic mnemonic; /* of the last instruction, if Zydis knows it */
	int row;		/* of the explanation of the last one, -1: none */
	unsigned length;	/* of the last instruction as Zydis has it; 0: invalid */
	/* The kinds of difference printed already: only the first of each is. */
	struct {
		insn_fn fn;
		const char *what;
		int mnemonic;
	} printed[64];
	unsigned printed_count;
};

/* A run in a mode (16, 32, 64), of a CPU model with these features. */
void comparison_init(struct comparison *c, const struct handlers *handlers, unsigned mode,
		     uint64_t features);
/* Compares at INSN_MAX bytes; prints a difference. */
enum verdict comparison_add(struct comparison *c, const uint8_t *bytes);
/* Prints the counts, and the mnemonics that are not of the model. */
void comparison_print(const struct comparison *c);
/* Differences so far. */
uint64_t comparison_wrong(const struct comparison *c);

#endif
