/* SPDX-License-Identifier: Apache-2.0 */
/* The words for a machine's shape: which CPUs they name, and that the user's own words win. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "control/control.h"

/* The word of this name (with its '='), "" if there is none. */
static const char *word_of(enum control_profile profile, unsigned vcpus, const char *cmdline,
			   const char *name)
{
	static struct control_profile_word words[CONTROL_PROFILE_WORDS_MAX];
	unsigned count = control_profile_words(profile, vcpus, cmdline, words);

	cr_assert_leq(count, CONTROL_PROFILE_WORDS_MAX);
	for (unsigned i = 0; i < count; i++) {
		cr_expect(words[i].why && *words[i].why, "%s has a reason", words[i].text);
		cr_expect(!strpbrk(words[i].text, " %\""), "%s is one word", words[i].text);
		if (strncmp(words[i].text, name, strlen(name)) == 0)
			return words[i].text;
	}
	return "";
}

Test(kernel_profile, names)
{
	static const char *const names[] = {"none", "plain", "spanning", "auto"};
	enum control_profile profile;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		cr_assert_eq(control_profile_parse(names[i], &profile), 0);
		cr_expect_str_eq(control_profile_name(profile), names[i]);
	}
	cr_expect_lt(control_profile_parse("", &profile), 0);
	cr_expect_lt(control_profile_parse("spannin", &profile), 0);
}

Test(kernel_profile, auto_is_by_the_number_of_slices)
{
	cr_expect_eq(control_profile_resolve(CONTROL_PROFILE_AUTO, 1), CONTROL_PROFILE_PLAIN);
	cr_expect_eq(control_profile_resolve(CONTROL_PROFILE_AUTO, 2), CONTROL_PROFILE_SPANNING);
	cr_expect_eq(control_profile_resolve(CONTROL_PROFILE_NONE, 2), CONTROL_PROFILE_NONE);
	cr_expect_eq(control_profile_resolve(CONTROL_PROFILE_SPANNING, 1),
		     CONTROL_PROFILE_SPANNING);
}

Test(kernel_profile, cpus_of_each_shape)
{
	enum control_profile p = CONTROL_PROFILE_SPANNING;

	cr_expect_str_eq(word_of(p, 2, "", "nohz_full="), "nohz_full=1");
	cr_expect_str_eq(word_of(p, 2, "", "rcu_nocbs="), "rcu_nocbs=0-1");
	cr_expect_str_eq(word_of(p, 4, "", "nohz_full="), "nohz_full=1-3");
	cr_expect_str_eq(word_of(p, 256, "", "nohz_full="), "nohz_full=1-255");
	cr_expect_str_eq(word_of(p, 256, "", "rcu_nocbs="), "rcu_nocbs=0-255");
	/* All memory but one CPU: no others. */
	cr_expect_str_eq(word_of(p, 1, "", "nohz_full="), "");
	cr_expect_str_eq(word_of(p, 1, "", "rcu_nocbs="), "rcu_nocbs=0");
}

/* Only an init that says so will bring the others up. */
Test(kernel_profile, one_cpu_starts_where_init_brings_up_the_others)
{
	enum control_profile p = CONTROL_PROFILE_SPANNING;

	cr_expect_str_eq(word_of(p, 4, "quiet pangea.online", "maxcpus="), "maxcpus=1");
	cr_expect_str_eq(word_of(p, 4, "pangea.online maxcpus=2", "maxcpus="), "");
	cr_expect_str_eq(word_of(p, 4, "quiet", "maxcpus="), "");
	cr_expect_str_eq(word_of(p, 4, "pangea.onlines", "maxcpus="), "");
	cr_expect_str_eq(word_of(CONTROL_PROFILE_PLAIN, 4, "pangea.online", "maxcpus="), "");
}

Test(kernel_profile, plain_is_a_part_of_spanning)
{
	struct control_profile_word words[CONTROL_PROFILE_WORDS_MAX];
	unsigned count = control_profile_words(CONTROL_PROFILE_PLAIN, 4, "", words);

	cr_assert_gt(count, 0);
	for (unsigned i = 0; i < count; i++)
		cr_expect_str_eq(word_of(CONTROL_PROFILE_SPANNING, 4, "", words[i].text),
				 words[i].text);
	cr_expect_str_eq(word_of(CONTROL_PROFILE_PLAIN, 4, "", "nohz_full="), "");
	cr_expect_eq(control_profile_words(CONTROL_PROFILE_NONE, 4, "", words), 0);
}

Test(kernel_profile, the_users_own_words_win)
{
	enum control_profile p = CONTROL_PROFILE_SPANNING;

	cr_expect_str_eq(word_of(p, 4, "quiet nohz_full=2 x", "nohz_full="), "");
	cr_expect_str_eq(word_of(p, 4, "nohz-full=2", "nohz_full="), "", "'-' is '_'");
	cr_expect_str_eq(word_of(p, 4, "\"nohz_full=2\"", "nohz_full="), "");
	cr_expect_str_eq(word_of(p, 4, "nokaslr", "nokaslr"), "");
	cr_expect_neq(*word_of(p, 4, "xnohz_full=2 nohz_fullx nohz", "nohz_full="), 0);
	cr_expect_neq(*word_of(p, 4, "-- nohz_full=2", "nohz_full="), 0, "the first process's");
}
