/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software CPU's privileged instructions against /dev/kvm: random small programs, most at CPL
 * 0, each run on both, all state compared.
 *
 * Environment: SOFTKVM_CASES, how many; SOFTKVM_SEED; SOFTKVM_FORM, only forms whose name contains
 * it; SOFTKVM_MODE, only that mode; SOFTKVM_CASE, only the case with this seed (hexadecimal, as
 * printed); SOFTKVM_TRACE, name each case before it runs, for a KVM that does not survive one;
 * SOFTKVM_FORCE, run although QEMU emulates the processor.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/softkvm/softkvm.h"
#include "vmm/cpu/kvm/kvm.h"

#ifdef __SANITIZE_ADDRESS__
#define CASES_DEFAULT 4000 /* leaving by siglongjmp costs much there */
#else
#define CASES_DEFAULT 20000
#endif
#define CASES_FRESH	  8 /* of a form whose cases take a machine each */
#define PRINTED_PER_FORM  2
#define SEQUENCES_PRINTED 20
/* In seeds: a sequence, not a form alone. */
#define SEQUENCE_SEED (UINT64_C(1) << 43)
#define REFUSED_MAX   12 /* cases that KVM did not execute, before a form is given up */

static struct form forms[FORMS_MAX];

struct tally {
	unsigned cases, wrong, refused;
};
static struct tally tallies[FORMS_MAX][MODE_COUNT];

struct rig {
	struct machine soft, kvm;
	enum oracle oracle;
};

/* Before any test runner starts: a machine without KVM, or with one that would fall over, skips all
 * of them. */
__attribute__((constructor)) static void skip_without_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skipped: cannot open /dev/kvm: %s\n", strerror(errno));
		fflush(stdout);
		_exit(EXIT_SKIP);
	}
	close(fd);
	if (oracle_find() == ORACLE_SVM_TCG && !getenv("SOFTKVM_FORCE")) {
		printf("skipped: QEMU, which emulates SVM here, does not survive these cases "
		       "(\"invalid "
		       "tss type\", crashes); SOFTKVM_FORCE runs them all the same\n");
		fflush(stdout);
		_exit(EXIT_SKIP);
	}
}

static uint64_t env_number(const char *name, uint64_t otherwise, int base)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, base) : otherwise;
}

static void rig_open(struct rig *rig)
{
	rig->oracle = oracle_find();
	machine_open(&rig->soft, &vcpu_soft_ops);
	machine_open(&rig->kvm, &vcpu_kvm_ops);
}

static void rig_close(struct rig *rig)
{
	machine_close(&rig->kvm);
	machine_close(&rig->soft);
}

static void case_run(struct rig *rig, struct test_case *t, struct tally *tally)
{
	struct outcome soft, kvm;
	bool print =
		tally->wrong < (t->seed & SEQUENCE_SEED ? SEQUENCES_PRINTED : PRINTED_PER_FORM);

	if (getenv("SOFTKVM_TRACE"))
		fprintf(stderr, "%s %s %lx\n", t->form->name, mode_name(t->mode),
			(unsigned long)t->seed);
	oracle_adapt(rig->oracle, t);
	machine_run(&rig->kvm, t, &kvm);
	if (kvm.reason == VCPU_EXIT_ERROR) {
		tally->refused++;
		return;
	}
	machine_run(&rig->soft, t, &soft);
	tally->cases++;
	if (!outcome_equal(rig->oracle, t, &rig->soft, &rig->kvm, &soft, &kvm, print))
		tally->wrong++;
}

static bool form_wanted(const struct rig *rig, const struct form *f, enum run_mode mode)
{
	const char *name = getenv("SOFTKVM_FORM"), *in = getenv("SOFTKVM_MODE");

	return (f->modes & IN(mode)) && (!name || strstr(f->name, name)) &&
	       (!in || strcmp(in, mode_name(mode)) == 0) && !oracle_lacks(rig->oracle, f, mode);
}

/* A machine of its own for the case. */
static void case_run_fresh(struct test_case *t, struct tally *tally)
{
	struct rig fresh;

	rig_open(&fresh);
	case_run(&fresh, t, tally);
	rig_close(&fresh);
}

static void form_run(struct rig *rig, unsigned form, enum run_mode mode, uint64_t seed)
{
	static struct test_case t;
	struct tally *tally = &tallies[form][mode];

	if (tally->refused >= REFUSED_MAX && !tally->cases)
		return;
	case_generate(&t, &forms[form], mode, seed);
	if (!(forms[form].flags & F_FRESH))
		case_run(rig, &t, tally);
	else if (tally->cases < CASES_FRESH)
		case_run_fresh(&t, tally);
}

/* The seed names form and mode, so that a case can be run again by it alone. */
static uint64_t seed_of(uint64_t seed, uint64_t round, unsigned form, enum run_mode mode)
{
	return seed << 44 | round << 16 | form << 4 | mode;
}

static void round_run(struct rig *rig, unsigned count, uint64_t seed, uint64_t round)
{
	for (unsigned n = 0; n < count; n++)
		for (unsigned mode = 0; mode < MODE_COUNT; mode++)
			if (form_wanted(rig, &forms[n], mode))
				form_run(rig, n, mode, seed_of(seed, round, n, mode));
}

static struct tally tally_total(unsigned count)
{
	struct tally total = {0};

	for (unsigned n = 0; n < count; n++)
		for (unsigned mode = 0; mode < MODE_COUNT; mode++) {
			total.cases += tallies[n][mode].cases;
			total.wrong += tallies[n][mode].wrong;
			total.refused += tallies[n][mode].refused;
		}
	return total;
}

/* ---- Report ---------------------------------------------------------------------------------- */

/* Forms by mode that are not compared here, and why; each reason once. */
static unsigned lacks_print(enum oracle oracle, unsigned count)
{
	const char *before = NULL;
	unsigned lacked = 0;

	for (unsigned mode = 0; mode < MODE_COUNT; mode++)
		for (unsigned n = 0; n < count; n++) {
			const char *reason = oracle_lacks(oracle, &forms[n], mode);

			if (!(forms[n].modes & IN(mode)) || !reason)
				continue;
			if (before != reason)
				printf("\nnot compared, %s: %s:", mode_name(mode), reason);
			printf(" %s", forms[n].name);
			before = reason;
			lacked++;
		}
	printf("%s", lacked ? "\n" : "");
	return lacked;
}

/* A form that KVM executed in no case, and that is not known for it, is as bad as one that differs.
 */
static unsigned tallies_print(unsigned count, unsigned *compared)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < count; n++)
		for (unsigned mode = 0; mode < MODE_COUNT; mode++) {
			const struct tally *t = &tallies[n][mode];

			*compared += t->cases != 0;
			wrong += t->wrong || (t->refused && !t->cases);
			if (t->wrong || t->refused)
				printf("%s, %s: %u cases, %u differ, %u that KVM did not execute\n",
				       forms[n].name, mode_name(mode), t->cases, t->wrong,
				       t->refused);
		}
	return wrong;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static unsigned forms_all(void)
{
	unsigned count = forms_event(forms, forms_segment(forms, forms_control(forms, 0)));

	cr_assert_leq(count, FORMS_MAX);
	return count;
}

Test(softkvm, forms_agree, .timeout = 280)
{
	unsigned count = forms_all(), wrong, compared = 0, lacked;
	uint64_t cases = env_number("SOFTKVM_CASES", CASES_DEFAULT, 0), before = UINT64_MAX;
	uint64_t seed = env_number("SOFTKVM_SEED", 1, 0), only = env_number("SOFTKVM_CASE", 0, 16);
	struct tally total = {0};
	struct rig rig;

	rig_open(&rig);
	if (only && !(only & SEQUENCE_SEED))
		form_run(&rig, only >> 4 & 0xfff, only & 0xf, only);
	for (uint64_t round = 0; !only && total.cases < cases && total.cases != before; round++) {
		before = total.cases;
		round_run(&rig, count, seed, round);
		total = tally_total(count);
	}
	rig_close(&rig);
	oracle_report();
	lacked = lacks_print(rig.oracle, count);
	wrong = tallies_print(count, &compared);
	printf("%s: %u cases, seed %lu; %u forms by mode compared, %u not (above), %u cases that "
	       "it did not execute\n",
	       oracle_name(rig.oracle), tally_total(count).cases, (unsigned long)seed, compared,
	       lacked, tally_total(count).refused);
	cr_assert(compared || (only & SEQUENCE_SEED), "no form has that name");
	cr_assert_eq(wrong, 0, "the CPUs differ");
}

/* Which forms a sequence in this mode is made of. */
static unsigned forms_plain(enum oracle oracle, unsigned count, enum run_mode mode,
			    const struct form **plain)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		if ((forms[i].modes & IN(mode)) && !(forms[i].flags & (F_ALONE | F_FRESH)) &&
		    oracle_plain(oracle, &forms[i], mode))
			plain[n++] = &forms[i];
	return n;
}

static void sequence_run(struct rig *rig, unsigned count, uint64_t seed, struct tally *tally)
{
	static const struct form *plain[FORMS_MAX];
	static struct test_case t;
	enum run_mode mode = seed & 0xf;
	unsigned n = forms_plain(rig->oracle, count, mode, plain);

	if (!n)
		return;
	case_sequence(&t, plain, n, mode, seed);
	case_run(rig, &t, tally);
}

Test(softkvm, sequences_agree, .timeout = 280)
{
	unsigned count = forms_all();
	uint64_t cases = env_number("SOFTKVM_CASES", CASES_DEFAULT, 0) / 2;
	uint64_t seed = env_number("SOFTKVM_SEED", 1, 0), only = env_number("SOFTKVM_CASE", 0, 16);
	struct tally tally = {0};
	struct rig rig;

	if (getenv("SOFTKVM_FORM"))
		cr_skip_test("there are no sequences of one form");
	rig_open(&rig);
	if (only & SEQUENCE_SEED)
		sequence_run(&rig, count, only, &tally);
	for (uint64_t n = 0; !only && n < cases; n++)
		sequence_run(&rig, count,
			     seed << 44 | SEQUENCE_SEED | (n / MODE_COUNT) << 4 | n % MODE_COUNT,
			     &tally);
	rig_close(&rig);
	oracle_report();
	printf("%s: %u sequences, seed %lu, %u differ, %u that it did not execute\n",
	       oracle_name(rig.oracle), tally.cases, (unsigned long)seed, tally.wrong,
	       tally.refused);
	cr_assert(only || tally.cases > cases / 2);
	cr_assert_eq(tally.wrong, 0, "the CPUs differ");
}
