/* SPDX-License-Identifier: Apache-2.0 */
/* One instruction by both decoders, and the counts of a run. */
#include "tests/unit/softdecode/compare.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* One instruction and the two opinions of it. */
struct pair {
	const uint8_t *bytes;
	struct insn ours;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	bool valid, zydis_valid;
	const char *name; /* of our handler */
};

void comparison_init(struct comparison *c, const struct handlers *handlers, unsigned mode,
		     uint64_t features)
{
	memset(c, 0, sizeof(*c));
	c->handlers = handlers;
	c->mode = mode;
	c->features = features;
	model_decoder_init(&c->decoder, mode, features);
}

/* True for the first difference of its kind, while there is room to remember kinds. */
static bool difference_new(struct comparison *c, const struct pair *p, const char *what)
{
	const int mnemonic = p->zydis_valid ? (int)p->z.mnemonic : -1;

	for (unsigned n = 0; n < c->printed_count; n++)
		if (c->printed[n].fn == p->ours.fn && c->printed[n].what == what &&
		    c->printed[n].mnemonic == mnemonic)
			return false;
	if (c->printed_count == sizeof(c->printed) / sizeof(c->printed[0]))
		return false;
	c->printed[c->printed_count].fn = p->ours.fn;
	c->printed[c->printed_count].what = what;
	c->printed[c->printed_count++].mnemonic = mnemonic;
	return true;
}

static enum verdict different(struct comparison *c, const struct pair *p, const char *what)
{
	c->verdicts[VERDICT_DIFFERENT]++;
	if (!difference_new(c, p, what))
		return VERDICT_DIFFERENT;
	printf("mode %u:", c->mode);
	for (unsigned n = 0; n < INSN_MAX; n++)
		printf(" %02x", p->bytes[n]);
	printf(": %s: %s length %u; ours %s length %u\n", what,
	       p->zydis_valid ? ZydisMnemonicGetString(p->z.mnemonic) : "(invalid)",
	       p->zydis_valid ? p->z.length : 0, p->name ? p->name : "?", p->ours.len);
	return VERDICT_DIFFERENT;
}

/* A difference, unless the table explains it. */
static enum verdict explain(struct comparison *c, const struct pair *p, const char *what)
{
	c->row = p->name ? model_explains(p->zydis_valid ? &p->z : NULL, c->mode, p->name) : -1;
	if (c->row < 0)
		return different(c, p, what);
	c->explained[c->row]++;
	return VERDICT_EXPLAINED;
}

static enum verdict both_valid(struct comparison *c, const struct pair *p)
{
	const char *what;

	if (p->ours.len != p->z.length)
		return different(c, p, "length");
	if (!p->name || !handler_matches(p->name, &p->z, &p->ours))
		return explain(c, p, "instruction");
	what = operands_differ(&p->z, p->operands, &p->ours);
	if (what)
		return different(c, p, what);
	c->seen[p->z.mnemonic]++;
	return VERDICT_SAME;
}

static enum verdict judge(struct comparison *c, const struct pair *p)
{
	c->row = -1;
	if (p->zydis_valid && model_has(&p->z, c->features))
		return p->valid ? both_valid(c, p) : different(c, p, "not implemented");
	if (p->valid)
		return explain(c, p, "executes");
	if (!p->zydis_valid)
		return VERDICT_INVALID;
	c->absent[p->z.mnemonic]++;
	return VERDICT_ABSENT;
}

enum verdict comparison_add(struct comparison *c, const uint8_t *bytes)
{
	struct pair p = {.bytes = bytes};
	enum verdict verdict;
	bool end;

	cr_assert(soft_decode_insn(bytes, INSN_MAX, (uint8_t)c->mode, c->features, &p.ours, &end));
	p.valid = p.ours.fn != soft_op_ud;
	p.name = handler_name(c->handlers, p.ours.fn);
	/* Fifteen bytes that are all prefixes: #GP, which is as invalid. */
	if (p.name && strcmp(p.name, "op_too_long") == 0)
		p.valid = false;
	p.zydis_valid = ZYAN_SUCCESS(
		ZydisDecoderDecodeFull(&c->decoder, bytes, INSN_MAX, &p.z, p.operands));
	c->length = p.zydis_valid ? p.z.length : 0;
	c->mnemonic = p.zydis_valid ? p.z.mnemonic : ZYDIS_MNEMONIC_INVALID;
	verdict = judge(c, &p);
	if (verdict != VERDICT_DIFFERENT)
		c->verdicts[verdict]++;
	return verdict;
}

uint64_t comparison_wrong(const struct comparison *c)
{
	return c->verdicts[VERDICT_DIFFERENT];
}

void comparison_print(const struct comparison *c)
{
	uint64_t sum = 0;
	unsigned mnemonics = 0;

	for (unsigned n = 0; n < VERDICT_COUNT; n++)
		sum += c->verdicts[n];
	for (unsigned n = 0; n <= ZYDIS_MNEMONIC_MAX_VALUE; n++)
		mnemonics += c->seen[n] != 0;
	printf("mode %u: %lu compared: %lu the same (%u mnemonics), %lu not of the model, "
	       "%lu invalid, %lu explained, %lu different\n",
	       c->mode, sum, c->verdicts[VERDICT_SAME], mnemonics, c->verdicts[VERDICT_ABSENT],
	       c->verdicts[VERDICT_INVALID], c->verdicts[VERDICT_EXPLAINED],
	       c->verdicts[VERDICT_DIFFERENT]);
	for (unsigned n = 0; n < MODEL_EXPLANATIONS_MAX; n++) {
		bool raises;

		if (c->explained[n])
			printf("  %8lu explained: %s\n", c->explained[n],
			       model_explanation(n, &raises));
	}
}
