/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a profile's words before a kernel's command line once the machine's shape is known. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

static unsigned vcpus_of(const struct placement *placement)
{
	unsigned vcpus = 0;

	for (unsigned i = 0; i < placement->slices; i++)
		vcpus += placement->slice[i].vcpus;
	return vcpus;
}

int profile_apply(enum control_profile profile, const struct placement *placement,
		  const char *append, struct profile_cmdline *out, char *why)
{
	struct control_profile_word words[CONTROL_PROFILE_WORDS_MAX];
	size_t used = 0;

	out->profile = control_profile_resolve(profile, placement->slices);
	out->words = json_array();
	unsigned count = control_profile_words(out->profile, vcpus_of(placement), append, words);
	for (unsigned i = 0; i < count; i++) {
		used += (size_t)snprintf(out->text + used, sizeof(out->text) - used, "%s ",
					 words[i].text);
		invariant(used < sizeof(out->text));
		invariant(json_array_append_new(out->words,
						message_make("{s:s, s:s}", "word", words[i].text,
							     "why", words[i].why)) == 0);
	}
	if (used + strlen(append) < sizeof(out->text)) {
		strcpy(out->text + used, append);
		return 0;
	}
	json_decref(out->words);
	snprintf(why, CONTROL_WHY_MAX,
		 "the kernel command line is longer than %d bytes with the words of profile %s: "
		 "--profile none leaves them out",
		 CMDLINE_MAX - 1, control_profile_name(out->profile));
	return -EINVAL;
}
