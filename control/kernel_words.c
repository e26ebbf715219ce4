/* SPDX-License-Identifier: Apache-2.0 */
/* Words on a Linux kernel's command line: takes them apart, and finds those with which it cannot come up here. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/control.h"

/* Each was tried; what is not here works, or does its own harm only. */
static const struct {
	const char *name, *value; /* value NULL: with any value, or none */
	const char *needs;
} refused[] = {
	{"acpi", "off", "ACPI, which alone tells of its CPUs, interrupts and nodes"},
	{"acpi", "noirq", "ACPI, which alone tells how its interrupts are wired"},
	{"nox2apic", NULL, "x2APICs: its interrupt controllers have no other mode"},
	{"pci", "noacpi", "ACPI, which alone tells how its interrupts are wired"},
	{"clearcpuid", "x2apic", "x2APICs: its interrupt controllers have no other mode"},
	{"clearcpuid", "hypervisor", "a kernel that knows its hypervisor: else it has no x2APICs"},
	{"nopv", NULL, "a kernel that knows its hypervisor: else it has no x2APICs"},
	{"nolapic", NULL, "the local APICs: no other timer or interrupt controller is there"},
	{"disableapic", NULL, "the local APICs: no other timer or interrupt controller is there"},
	{"nolapic_timer", NULL, "the local APICs' timers: there is no other"},
	{"noapictimer", NULL, "the local APICs' timers: there is no other"},
};

/* A word of the command line, as the kernel takes it apart. */
struct word {
	const char *name, *value; /* within the text; value NULL: no '=' */
	size_t name_len, value_len;
};

/*
 * Takes the next word as lib/cmdline.c of Linux does: words end at white space outside of double
 * quotes, the first '=' divides, and quotes around the value or the whole word are no part of it.
 * Returns what follows, or NULL when there is no more word.
 */
static const char *word_next(const char *text, struct word *word)
{
	const char *end, *equals = NULL;
	bool in_quote = false, quoted;

	while (isspace((unsigned char)*text))
		text++;
	if (!*text)
		return NULL;
	quoted = *text == '"';
	if (quoted) {
		text++;
		in_quote = true;
	}
	for (end = text; *end && (in_quote || !isspace((unsigned char)*end)); end++) {
		if (*end == '=' && !equals && end > text)
			equals = end;
		if (*end == '"')
			in_quote = !in_quote;
	}
	*word = (struct word){.name = text, .name_len = (size_t)((equals ? equals : end) - text)};
	if (equals) {
		word->value = equals + 1;
		quoted |= *word->value == '"';
		word->value += *word->value == '"';
		word->value_len = end > word->value ? (size_t)(end - word->value) : 0;
		if (quoted && word->value_len && end[-1] == '"')
			word->value_len--;
	} else if (quoted && word->name_len && end[-1] == '"') {
		word->name_len--;
	}
	return end;
}

/* Names are the same whether written with '-' or '_'. */
static bool name_is(const struct word *word, const char *name)
{
	size_t i;

	for (i = 0; i < word->name_len && name[i]; i++)
		if ((word->name[i] == '-' ? '_' : word->name[i]) != name[i])
			return false;
	return i == word->name_len && !name[i];
}

/* One of the values between commas. */
static bool value_has(const struct word *word, const char *value)
{
	const char *at = word->value, *end = at + word->value_len, *comma;

	for (; at && at <= end; at = comma + 1) {
		comma = memchr(at, ',', (size_t)(end - at));
		if (!comma)
			comma = end;
		if ((size_t)(comma - at) == strlen(value) && memcmp(at, value, strlen(value)) == 0)
			return true;
	}
	return false;
}

int control_kernel_words_check(const char *cmdline, char *why)
{
	struct word word;

	while ((cmdline = word_next(cmdline, &word))) {
		if (!word.value && word.name_len == 2 && memcmp(word.name, "--", 2) == 0)
			return 0; /* the rest is the first process's */
		for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
			const char *value = refused[i].value;

			if (!name_is(&word, refused[i].name) || (value && !value_has(&word, value)))
				continue;
			snprintf(why, CONTROL_WHY_MAX,
				 "the kernel's command line says \"%s%s%s\", but the machine needs "
				 "%s",
				 refused[i].name, value ? "=" : "", value ? value : "",
				 refused[i].needs);
			return -EINVAL;
		}
	}
	return 0;
}

static bool names_equal(const struct word *a, const struct word *b)
{
	if (a->name_len != b->name_len)
		return false;
	for (size_t i = 0; i < a->name_len; i++) {
		char x = a->name[i] == '-' ? '_' : a->name[i];
		char y = b->name[i] == '-' ? '_' : b->name[i];

		if (x != y)
			return false;
	}
	return true;
}

bool control_kernel_words_name(const char *cmdline, const char *text)
{
	struct word word, wanted;

	if (!word_next(text, &wanted))
		return false;
	while ((cmdline = word_next(cmdline, &word))) {
		if (!word.value && word.name_len == 2 && memcmp(word.name, "--", 2) == 0)
			return false;
		if (names_equal(&word, &wanted))
			return true;
	}
	return false;
}
