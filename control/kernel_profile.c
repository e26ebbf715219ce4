/* SPDX-License-Identifier: Apache-2.0 */
/* Words that a Linux gets on its command line for the shape of its machine, each with its reason. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/control.h"

static const char *const names[] = {
	[CONTROL_PROFILE_NONE] = "none",
	[CONTROL_PROFILE_PLAIN] = "plain",
	[CONTROL_PROFILE_SPANNING] = "spanning",
	[CONTROL_PROFILE_AUTO] = "auto",
};

/* In place of %s in a word: CPUs. */
enum cpus {
	CPUS_NONE, /* there is no %s */
	CPUS_ALL,
	CPUS_OTHERS, /* all but CPU 0, which does what any one CPU can do for all */
};

struct rule {
	const char *word;
	const char *asked; /* only where the command line has this word; NULL: always */
	enum cpus cpus;
	const char *why;
};

/* For any machine. */
static const struct rule plain[] = {
	{"tsc=reliable", NULL, CPUS_NONE,
	 "the machine keeps one time on all CPUs, and a test between hosts would measure the "
	 "network"},
	{"no_timer_check", NULL, CPUS_NONE, "there is no PIT whose interrupt could be checked"},
	{"reboot=acpi", NULL, CPUS_NONE, "Linux would ask EFI, which is not there"},
	{"nowatchdog", NULL, CPUS_NONE, "a CPU may rest for seconds when its host does"},
	{"rcupdate.rcu_cpu_stall_timeout=300", NULL, CPUS_NONE, "likewise"},
};

/* For one of several slices: docs/performance.md has what each is worth. */
static const struct rule spanning[] = {
	{"nokaslr", NULL, CPUS_NONE,
	 "at a random address the kernel may lie in another node's memory"},
	{"numa_balancing=disable", NULL, CPUS_NONE,
	 "it samples and moves pages at the price of an access of nanoseconds"},
	{"transparent_hugepage=never", NULL, CPUS_NONE,
	 "merging pages writes to many that nobody asked for"},
	{"sysctl.vm.compaction_proactiveness=0", NULL, CPUS_NONE,
	 "each node's kcompactd would wake a CPU there twice a second"},
	{"nohz_full=%s", NULL, CPUS_OTHERS,
	 "ticks, timers and housekeeping of the kernel's stay on CPU 0's node"},
	{"rcu_nocbs=%s", NULL, CPUS_ALL,
	 "what RCU frees is freed by a thread, not on each CPU in turn"},
	{"skew_tick=1", NULL, CPUS_NONE, "ticks at the same time write to the same pages"},
	{"workqueue.power_efficient=1", NULL, CPUS_NONE,
	 "work that any CPU can do does not wake another node's"},
	{"relax_domain_level=3", NULL, CPUS_NONE,
	 "a CPU that falls idle does not take tasks from other nodes"},
	{"maxcpus=1", "pangea.online", CPUS_NONE,
	 "while the kernel starts, the ticks of other nodes' CPUs would take its pages to and fro; "
	 "its "
	 "init brings them up (pangea.online)"},
};

int control_profile_parse(const char *name, enum control_profile *out)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		*out = (enum control_profile)i;
		return 0;
	}
	return -EINVAL;
}

const char *control_profile_name(enum control_profile profile)
{
	return names[profile];
}

struct filling {
	const char *cmdline;
	unsigned vcpus, count;
	struct control_profile_word *words;
};

static void rules_take(struct filling *f, const struct rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct control_profile_word *out = &f->words[f->count];
		char cpus[16] = "", *percent;
		unsigned first = rules[i].cpus == CPUS_OTHERS;

		if (rules[i].asked && !control_kernel_words_name(f->cmdline, rules[i].asked))
			continue;
		if (rules[i].cpus != CPUS_NONE && f->vcpus <= first)
			continue; /* nobody is meant */
		snprintf(cpus, sizeof(cpus), first + 1 < f->vcpus ? "%u-%u" : "%u", first,
			 f->vcpus - 1);
		snprintf(out->text, sizeof(out->text), "%s", rules[i].word);
		percent = strchr(out->text, '%');
		if (percent)
			snprintf(percent, sizeof(out->text) - (size_t)(percent - out->text), "%s",
				 cpus);
		out->why = rules[i].why;
		f->count += !control_kernel_words_name(f->cmdline, out->text);
	}
}

enum control_profile control_profile_resolve(enum control_profile profile, unsigned slices)
{
	if (profile != CONTROL_PROFILE_AUTO)
		return profile;
	return slices > 1 ? CONTROL_PROFILE_SPANNING : CONTROL_PROFILE_PLAIN;
}

unsigned control_profile_words(enum control_profile profile, unsigned vcpus, const char *cmdline,
			       struct control_profile_word *words)
{
	struct filling f = {cmdline, vcpus, 0, words};

	static_assert(sizeof(plain) / sizeof(plain[0]) + sizeof(spanning) / sizeof(spanning[0]) <=
			      CONTROL_PROFILE_WORDS_MAX,
		      "the caller's array has room");
	if (profile == CONTROL_PROFILE_PLAIN || profile == CONTROL_PROFILE_SPANNING)
		rules_take(&f, plain, sizeof(plain) / sizeof(plain[0]));
	if (profile == CONTROL_PROFILE_SPANNING)
		rules_take(&f, spanning, sizeof(spanning) / sizeof(spanning[0]));
	return f.count;
}
