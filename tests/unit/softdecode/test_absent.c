/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the CPU model has not: CPUID does not announce it, each of its instructions raises #UD when
 * it is executed, and docs/softcpu.md lists it. What it has, CPUID announces.
 */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/softcore/flat.h"
#include "tests/unit/softdecode/compare.h"
#include "vmm/cpu/cpuid.h"
#include "vmm/cpu/soft/soft_parts.h"

#define TSC_HZ 1000000000
/* The first version of Zydis that the tables are not for. */
#define ZYDIS_TABLES_UNTIL UINT64_C(0x0004000200000000)

static struct flat flat;
/* Models with nothing of what is newer, and with all that there is. */
static const uint64_t models[] = {CPU_MODEL_V1, CPU_FEATURES_MASK};
#define MODELS (sizeof(models) / sizeof(models[0]))
static struct cpuid_model cpuid = {.tsc_hz = TSC_HZ};

static void cpu_make(uint64_t features)
{
	flat_make(&flat);
	flat.cpu[0]->features = features;
	cpuid.features = features;
}

/* The CPU in ring 0 with all of SSE switched on, and the CPUID that VMs have. */
static void cpu_prepare(unsigned mode)
{
	struct soft_cpu *c = flat.cpu[0];

	flat_reset_mode(&flat, 0, FLAT_CODE, mode);
	c->config.cpuid = cpuid_read;
	c->config.cpuid_ctx = &cpuid;
	c->cr4 |= 0x600; /* OSFXSR, OSXMMEXCPT */
	if (cpuid.features) {
		c->cr4 |= 0x40000; /* OSXSAVE */
		c->xcr0 = 7;
	}
	c->efer |= 0x1; /* SCE */
}

/* Executes one instruction; the exception it raises, or -1. */
static int execute(const uint8_t *bytes, unsigned mode)
{
	struct soft_cpu *c = flat.cpu[0];

	cpu_prepare(mode);
	flat_put(&flat, FLAT_CODE, bytes, INSN_MAX);
	c->exception.vector = -1;
	if (!sigsetjmp(c->escape, 0))
		soft_exec_one(c);
	return c->exception.vector;
}

/* ---- Every instruction that is not of the model ---------------------------------------------- */

struct absence {
	struct comparison c;
	unsigned executed, wrong;
};

static void absent_execute(struct absence *a, const uint8_t *bytes, const char *name)
{
	int vector = execute(bytes, a->c.mode);

	a->executed++;
	if (vector == VEC_UD)
		return;
	printf("mode %u: %02x %02x %02x %02x (%s): vector %d instead of #UD\n", a->c.mode, bytes[0],
	       bytes[1], bytes[2], bytes[3], name, vector);
	a->wrong++;
}

/* The first encoding of each mnemonic in each mode is executed, and of each explained #UD. */
static void absent_visit(void *ctx, const uint8_t *bytes)
{
	struct absence *a = ctx;
	const enum verdict verdict = comparison_add(&a->c, bytes);
	bool raises = false;

	if (verdict == VERDICT_ABSENT && a->c.absent[a->c.mnemonic] == 1)
		absent_execute(a, bytes, ZydisMnemonicGetString(a->c.mnemonic));
	if (verdict == VERDICT_EXPLAINED && a->c.explained[a->c.row] == 1 &&
	    model_explanation((unsigned)a->c.row, &raises) && raises)
		absent_execute(a, bytes, "explained");
}

static unsigned absent_in_mode(struct absence *a, const struct handlers *handlers, unsigned mode)
{
	unsigned mnemonics = 0;

	comparison_init(&a->c, handlers, mode, cpuid.features);
	a->executed = a->wrong = 0;
	forms_visit(mode, absent_visit, a);
	for (unsigned n = 0; n <= ZYDIS_MNEMONIC_MAX_VALUE; n++)
		mnemonics += a->c.absent[n] != 0;
	printf("mode %u: %u mnemonics not of the model, %u encodings executed\n", mode, mnemonics,
	       a->executed);
	return a->wrong;
}

Test(softabsent, every_absent_instruction_raises_ud)
{
	static struct absence a;
	struct handlers *handlers = handlers_load();
	unsigned wrong = 0;

	cr_assert_not_null(handlers, "the program has no symbols");
	for (unsigned n = 0; n < MODELS; n++) {
		cpu_make(models[n]);
		wrong += absent_in_mode(&a, handlers, 64);
		cr_assert_gt(a.executed, 500, "so few are not all");
		wrong += absent_in_mode(&a, handlers, 32);
		wrong += absent_in_mode(&a, handlers, 16);
		flat_free(&flat);
	}
	handlers_free(handlers);
	cr_assert_eq(wrong, 0);
}

/* A check of the check: what is of the model does not raise #UD here. */
Test(softabsent, present_instructions_execute)
{
	static const uint8_t cases[][INSN_MAX] = {
		{0x90},
		{0x0f, 0x58, 0xc1},		/* addps */
		{0x66, 0x0f, 0xfe, 0xc1},	/* paddd */
		{0x0f, 0xa2},			/* cpuid */
		{0x0f, 0x01, 0xf8},		/* swapgs */
		{0x0f, 0x18, 0x00},		/* prefetchnta */
		{0x66, 0x0f, 0x38, 0x00, 0xc1}, /* pshufb */
		{0xf3, 0x0f, 0xb8, 0xc1},	/* popcnt */
		{0xc4, 0xe2, 0x70, 0xf2, 0xc2}, /* andn */
		{0x0f, 0xc7, 0xf0},		/* rdrand */
		{0x0f, 0x01, 0xcb},		/* stac */
	};

	cpu_make(CPU_FEATURES_MASK);
	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++)
		cr_expect_eq(execute(cases[n], 64), -1, "case %u", n);
	flat_free(&flat);
}

/* ---- CPUID ----------------------------------------------------------------------------------- */

static bool cpuid_bit_read(const struct model_feature *f)
{
	struct vcpu_cpuid r;
	const uint32_t *regs[] = {&r.eax, &r.ebx, &r.ecx, &r.edx};

	cpuid_read(&cpuid, 0, f->leaf, f->subleaf, &r);
	return *regs[f->reg] >> f->bit & 1;
}

Test(softabsent, cpuid_announces_what_there_is)
{
	const struct model_feature *f;

	for (unsigned m = 0; m < MODELS; m++) {
		cpuid.features = models[m];
		for (unsigned n = 0; (f = model_feature(n)); n++)
			cr_expect_eq(cpuid_bit_read(f), model_has_feature(f, models[m]),
				     "%s: CPUID of model %u says %d", f->name, m,
				     cpuid_bit_read(f));
	}
}

/* Every set of Zydis' that instructions were found of is in the table, or has no CPUID bit. A newer Zydis may
 * know more: what they are the tables cannot say, and none of them may execute (above). */
Test(softabsent, every_set_has_a_feature)
{
	if (ZydisGetVersion() >= ZYDIS_TABLES_UNTIL)
		cr_skip("the tables are of Zydis 4.1 and older ones");
	for (int set = 1; set <= ZYDIS_ISA_SET_MAX_VALUE; set++)
		cr_expect(model_set_known((ZydisISASet)set), "%s", ZydisISASetGetString(set));
}

/* ---- The page -------------------------------------------------------------------------------- */

static char *page_read(void)
{
	FILE *f = fopen(SOFTCPU_PAGE, "r");
	static char text[65536];
	size_t n;

	cr_assert_not_null(f, SOFTCPU_PAGE);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

/* A row "| NAME | ... | yes or no |" for each feature. */
Test(softabsent, page_lists_every_feature)
{
	static const char registers[] = "ABCD";
	const char *page = page_read();
	const struct model_feature *f;
	char row[128];

	for (unsigned n = 0; (f = model_feature(n)); n++) {
		snprintf(row, sizeof(row), "| %s | %x%s.E%cX[%u] | %s |", f->name, f->leaf,
			 f->leaf == 7 || f->leaf == 0xd || f->leaf == 0x14 || f->leaf == 0x19
				 ? f->subleaf ? ".1" : ".0"
				 : "",
			 registers[f->reg], f->bit,
			 model_has_feature(f, CPU_FEATURES_MASK) ? "yes" : "no");
		cr_expect_not_null(strstr(page, row), "missing: %s", row);
	}
}
