/* SPDX-License-Identifier: Apache-2.0 */
/* The words that a guest's kernel gets for its machine: which set is asked for, and what came of it. */
#include <string.h>
#include <unistd.h>

#include "cli/run.h"

/* Documentation/arch/x86/boot.rst: the setup header's magic. */
#define BZIMAGE_MAGIC_AT 0x202
#define BZIMAGE_MAGIC	 "HdrS"

int run_profile_option(struct run_options *opts, const char *name, const char *command)
{
	enum control_profile profile;

	if (control_profile_parse(name, &profile) < 0)
		return cli_usage(command,
				 "--profile is auto, spanning, plain or none, not \"%.20s\"", name);
	opts->profile = name;
	return -1;
}

const char *run_profile_choose(const struct run_options *opts, int kernel_fd)
{
	char magic[sizeof(BZIMAGE_MAGIC) - 1];

	if (opts->profile)
		return opts->profile;
	/* An ELF kernel may be anything: a micro-guest takes such words for its arguments. */
	if (opts->guest ||
	    pread(kernel_fd, magic, sizeof(magic), BZIMAGE_MAGIC_AT) != sizeof(magic) ||
	    memcmp(magic, BZIMAGE_MAGIC, sizeof(magic)) != 0)
		return control_profile_name(CONTROL_PROFILE_NONE);
	return control_profile_name(CONTROL_PROFILE_AUTO);
}

void run_profile_say(const json_t *placed)
{
	char why[CONTROL_WHY_MAX], text[CONTROL_WHY_MAX];
	const char *profile, *word, *reason;
	json_t *words, *one;
	size_t i;

	if (!json_object_get(placed, "words") ||
	    control_get_name(placed, "profile", &profile, why) ||
	    control_get_array(placed, "words", CONTROL_PROFILE_WORDS_MAX, &words, why))
		return;
	json_array_foreach(words, i, one)
	{
		if (control_get_string(one, "word", &word, why) ||
		    control_get_string(one, "why", &reason, why))
			continue;
		snprintf(text, sizeof(text), "profile %s: %.63s: %.150s", profile, word, reason);
		control_text_clean(text);
		cli_say("%s", text);
	}
}
