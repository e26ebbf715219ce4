/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software CPU against the host's processor: random cases of every form of instruction that
 * 64-bit code, and 32-bit code in compatibility mode, at CPL 3 has in the CPU model, each run on
 * both, all state compared.
 *
 * Environment: SOFTNATIVE_CASES, how many; SOFTNATIVE_SEED; SOFTNATIVE_FORM, only forms whose name
 * contains it; SOFTNATIVE_CASE, only the case with this seed (hexadecimal, as printed).
 *
 * Left out, since hosts answer by their own model: CPUID, RDTSC, RDPMC, SYSCALL, INT n but 3, what
 * the host has not, and what hosts have beyond the model (AVX-512, CLFLUSHOPT, PREFETCHWT1), XSAVE, RDRAND, RDSEED,
 * RDPID, RDTSCP, FSGSBASE (not the host's values), loads of FS and GS and FS-relative addresses (the host's thread
 * pointer), other descriptors (LAR, LSL, VERR), near branches with an operand-size prefix and far
 * ones with 64-bit offsets (vendors differ), FOP, FIP and FDP, RF, flags and results that the SDM
 * leaves undefined; in compatibility mode 16-bit addresses (nothing is mapped there), writes
 * through CS (the software CPU checks no data segments), SALC, SYSRET, what a POPA that faults has
 * loaded.
 */
#include "tests/unit/softnative/softnative.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cpu/soft/soft_host.h"

#ifdef __SANITIZE_ADDRESS__
#define CASES_DEFAULT 20000 /* leaving by siglongjmp costs much there */
#else
#define CASES_DEFAULT 1000000
#endif
#define CASES_PER_POOL	 256
#define PRINTED_PER_FORM 3
/* How often the processor may run a case again that differs: what it does itself is the same each time,
 * what an interruption of this process does to it is not (a hypervisor was seen to lose NT). */
#define REPEATS_MAX 8
/* Cases of every form after which each class must have met every kind of event it has. */
#define CASES_TO_COVER 400

static struct form forms[FORMS_MAX];

struct tally {
	unsigned cases, completed, undefined, wrong, repeated;
	struct coverage coverage;
};

struct class_tally {
	unsigned forms, executed, cases, completed, wrong;
	struct coverage coverage;
};

static const char *const class_names[CLASS_COUNT] = {
	"alu",	  "shift", "mul/div", "move", "bit", "stack", "branch",
	"string", "misc",  "fault",   "sse",  "mmx", "x87",   "state",
};

static uint64_t env_number(const char *name, uint64_t otherwise, int base)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, base) : otherwise;
}

static bool form_wanted(const struct form *f)
{
	const char *text = getenv("SOFTNATIVE_FORM");

	return !text || strstr(f->name, text);
}

/* The pool of data depends on the case's seed alone, so that one case can be run again. */
static const uint8_t *pool_get(uint64_t seed)
{
	static uint8_t pool[DATA_BYTES];
	static uint64_t pool_seed;
	struct rng rng = {(seed / CASES_PER_POOL + 1) * UINT64_C(0x9e3779b97f4a7c15)};

	if (pool_seed != rng.state) {
		pool_seed = rng.state;
		data_random(&rng, pool, sizeof(pool));
	}
	return pool;
}

static void case_run(const struct test_case *t, struct tally *tally, bool covered)
{
	struct outcome native = {0}, soft = {0};

	native_run(t, &native);
	soft_run(t, &soft);
	for (unsigned n = 0; n < REPEATS_MAX && !outcome_equal(t, &native, &soft, false); n++) {
		tally->repeated += n == 0;
		memset(&native, 0, sizeof(native));
		native_run(t, &native);
	}
	tally->cases++;
	tally->completed += native.vector == 3;
	/* #UD, or the end of the code page before it. */
	tally->undefined += native.vector == 6 || (native.vector == 14 && (native.error & 0x10));
	if (!outcome_equal(t, &native, &soft, tally->wrong < PRINTED_PER_FORM))
		tally->wrong++;
	if (covered)
		coverage_add(&tally->coverage, t, &native);
}

static void form_run(const struct form *f, unsigned mode, uint64_t seed, struct tally *tally)
{
	static struct test_case t;

	t.mode = mode;
	case_generate(&t, f, seed, pool_get(seed));
	case_run(&t, tally, true);
}

/* A form of which enough cases have run must have completed once, unless it is undefined: a
 * generator that made nothing but faults would compare little. */
static bool form_missed(const struct form *f, const struct tally *t)
{
	if (t->cases < 50 || t->completed || (f->flags & F_FAULT))
		return false;
	if (t->undefined == t->cases && f->class >= CLASS_SSE)
		return false;
	printf("%s: none of %u cases completed\n", f->name, t->cases);
	return true;
}

static void class_print(unsigned class, const struct class_tally *t)
{
	const struct coverage *c = &t->coverage;

	printf("%-8s %4u %4u %8u %8u %8u %7u %6u %7u %7u %7u %7u %6u %6u %6u %03x %6u\n",
	       class_names[class], t->forms, t->executed, t->cases, t->completed, c->memory,
	       c->crossed, c->second, c->absent, c->readonly, c->protection, c->undefined,
	       c->arithmetic, c->split, c->fetch, c->flags, t->wrong);
}

/* Prints a line for each class; what any of them missed counts only where all forms ran often. */
static unsigned classes_report(const struct class_tally *classes, bool all)
{
	struct class_tally sum = {0};
	unsigned missed = 0;

	printf("class    forms run cases  completed memory  x-page  2nd#PF  absent ronly  #GP/#SS  "
	       "#UD  #DE/MF/XM x-code code#PF flags differ\n");
	for (unsigned n = 0; n < CLASS_COUNT; n++) {
		const struct class_tally *t = &classes[n];

		class_print(n, t);
		sum.cases += t->cases;
		coverage_sum(&sum.coverage, &t->coverage);
		if (!all || !coverage_missed(&t->coverage, n))
			continue;
		printf("%s: some kind of fault, crossing or flag was never seen\n", class_names[n]);
		missed++;
	}
	printf("%u cases: %u operands across pages, %u faults at their second page, %u across "
	       "pages of code\n",
	       sum.cases, sum.coverage.crossed, sum.coverage.second, sum.coverage.split);
	return missed;
}

static void class_add(struct class_tally *class, const struct tally *t)
{
	class->forms++;
	class->executed += t->completed != 0;
	class->cases += t->cases;
	class->completed += t->completed;
	class->wrong += t->wrong;
	coverage_sum(&class->coverage, &t->coverage);
}

/* whole: the forms are all there are, and each class must have met all that it has. */
static unsigned tally_report(const struct tally *tallies, unsigned count, bool whole)
{
	struct class_tally classes[CLASS_COUNT] = {0};
	unsigned wrong = 0, repeated = 0;
	bool all = whole;

	for (unsigned n = 0; n < count; n++) {
		all = all && tallies[n].cases >= CASES_TO_COVER;
		if (!tallies[n].cases)
			continue;
		class_add(&classes[forms[n].class], &tallies[n]);
		repeated += tallies[n].repeated;
		wrong += tallies[n].wrong + form_missed(&forms[n], &tallies[n]);
		if (tallies[n].wrong)
			printf("%s: %u of %u cases differ\n", forms[n].name, tallies[n].wrong,
			       tallies[n].cases);
	}
	printf("%u cases differed at first and ran again on the processor\n", repeated);
	return wrong + classes_report(classes, all);
}

/* Rounds over all forms until enough cases have run. */
static void cases_run(unsigned count, unsigned mode, uint64_t cases, uint64_t seed,
		      struct tally *tallies)
{
	uint64_t done = 0, before;

	for (uint64_t round = 0; done < cases; round++) {
		before = done;
		for (unsigned n = 0; n < count; n++) {
			if (!form_wanted(&forms[n]))
				continue;
			form_run(&forms[n], mode, (seed << 40) + round * FORMS_MAX + n,
				 &tallies[n]);
			done++;
		}
		cr_assert_neq(done, before, "no form has that name");
	}
	printf("%u forms, %lu cases, seed %lu\n", count, (unsigned long)done, (unsigned long)seed);
}

/* Skips the test where this machine cannot run the mode: a kernel (or the hypervisor below it) may give
 * processes no 32-bit code segment. */
static void native_require(unsigned mode)
{
	static const struct form form = {.name = "int3"};
	static struct test_case t;
	struct outcome out = {0};

	if (!native_init())
		cr_skip_test("the region of the cases cannot be mapped here");
	t.form = &form;
	t.mode = mode;
	t.len = 1;
	t.code[0] = 0xcc;
	t.in.rip = CODE_VA;
	t.in.rflags = 2;
	t.in.gpr[RSP] = DATA_VA + 0x800;
	*(uint16_t *)(t.in.fx + FX_CW) = 0x37f;
	*(uint32_t *)(t.in.fx + FX_MXCSR) = 0x1f80;
	native_run(&t, &out);
	if (out.vector != 3 || out.image.rip != CODE_VA + 1)
		cr_skip_test("this kernel has no code segment for %u-bit code", mode);
}

/* Single instructions of a mode. */
static void forms_compare(unsigned count, unsigned mode, uint64_t cases, bool whole)
{
	static struct tally tallies[FORMS_MAX];
	uint64_t only = env_number("SOFTNATIVE_CASE", 0, 16);

	cr_assert_leq(count, FORMS_MAX);
	native_require(mode);
	soft_init();
	printf("%u-bit code: ", mode);
	if (only)
		form_run(&forms[only % FORMS_MAX], mode, only, &tallies[only % FORMS_MAX]);
	else
		cases_run(count, mode, cases, env_number("SOFTNATIVE_SEED", 1, 0), tallies);
	soft_destroy();
	cr_assert_eq(tally_report(tallies, count, whole), 0, "the CPUs differ");
}

static void sequences_compare(unsigned count, unsigned mode, uint64_t cases)
{
	static struct test_case t;
	struct tally tally = {0};
	uint64_t seed = env_number("SOFTNATIVE_SEED", 1, 0);

	native_require(mode);
	soft_init();
	t.mode = mode;
	for (uint64_t n = 0; n < cases; n++) {
		sequence_generate(&t, forms, count, (seed << 40) + n, pool_get(seed << 40));
		case_run(&t, &tally, false);
	}
	soft_destroy();
	printf("%u-bit code: %u sequences, %u completed, seed %lu\n", mode, tally.cases,
	       tally.completed, (unsigned long)seed);
	cr_assert_gt(tally.completed, tally.cases / 4);
	cr_assert_eq(tally.wrong, 0, "the CPUs differ");
}

static unsigned forms_all(void)
{
	return forms_newer(forms, forms_fp(forms, forms_int(forms, 0)));
}

Test(softnative, host_and_software_agree)
{
	forms_compare(forms_all(), 64, env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0), true);
}

Test(softnative, sequences_agree)
{
	sequences_compare(forms_all(), 64, env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0));
}

/* A fifth as many in compatibility mode: few forms are its own. */
Test(softnative, compat_mode_agrees)
{
	forms_compare(forms_compat(forms, 0), 32,
		      env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 5, true);
}

Test(softnative, compat_sequences_agree)
{
	sequences_compare(forms_compat(forms, 0), 32,
			  env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 5);
}

/* AVX's forms apart from the others: many are undefined, and each needs as many cases. */
static unsigned avx_require(void)
{
	unsigned count = forms_avx(forms, 0);

	if (!count)
		cr_skip_test("the host's processor has no AVX2, FMA or AES");
	return count;
}

Test(softnative, avx_agrees)
{
	forms_compare(avx_require(), 64, env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 2,
		      false);
}

Test(softnative, avx_agrees_in_compat_mode)
{
	forms_compare(avx_require(), 32, env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 5,
		      false);
}

Test(softnative, avx_sequences_agree)
{
	unsigned count = avx_require();

	sequences_compare(forms_fp(forms, forms_int(forms, count)), 64,
			  env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 5);
}

/* But for FMA and F16C, which no host without them gives. */
Test(softnative, plain_avx_agrees)
{
	unsigned count = avx_require();

	soft_host_limit(CPU_FEATURES_HOSTED);
	forms_compare(count, 64, env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 5, false);
}

/* The handlers for hosts that have none of it, against this one: those of the newer forms. */
Test(softnative, plain_handlers_agree)
{
	unsigned count = forms_newer(forms, 0);

	soft_host_limit(0);
	if (!count)
		cr_skip_test("the host's processor has none of the newer instructions");
	forms_compare(count, 64, env_number("SOFTNATIVE_CASES", CASES_DEFAULT, 0) / 5, false);
}
