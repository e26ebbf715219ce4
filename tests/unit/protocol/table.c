/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the transition tables as docs/protocol.md shows them, or checks that it does. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dsm/protocol/protocol_table.h"

#define TEXT_MAX   (1u << 18)
#define MARK_BEGIN "<!-- tables: printed by protocol_table --print -->\n"
#define MARK_END   "<!-- end of tables -->\n"

struct text {
	size_t len;
	char bytes[TEXT_MAX];
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int len = vsnprintf(t->bytes + t->len, TEXT_MAX - t->len, fmt, args);
	va_end(args);
	if (len < 0 || (size_t)len >= TEXT_MAX - t->len)
		abort();
	t->len += (size_t)len;
}

static void add_actions(struct text *t, uint32_t actions, unsigned bits,
			const char *(*text)(unsigned bit))
{
	const char *separator = "";
	for (unsigned bit = 0; bit < bits; bit++) {
		if (actions & (1u << bit)) {
			add(t, "%s%s", separator, text(bit));
			separator = "; ";
		}
	}
	if (!actions)
		add(t, "-");
}

static void add_slice_tables(struct text *t)
{
	add(t, "\n### The slice side\n\n| state | meaning |\n|---|---|\n");
	for (unsigned s = 0; s < PAGE_STATES; s++)
		add(t, "| %s | %s |\n", page_state_name(s), page_state_text(s));
	add(t, "\n| event | meaning |\n|---|---|\n");
	for (unsigned e = 0; e < SLICE_EVENT_COUNT; e++)
		add(t, "| %s | %s |\n", slice_event_name(e), slice_event_text(e));
	add(t, "\n| state | event | next | actions, in order | why |\n|---|---|---|---|---|\n");
	for (unsigned s = 0; s < PAGE_STATES; s++) {
		for (unsigned e = 0; e < SLICE_EVENT_COUNT; e++) {
			const struct protocol_rule *rule = slice_rule(s, e);
			if (!rule)
				continue;
			add(t, "| %s | %s | %s | ", page_state_name(s), slice_event_name(e),
			    page_state_name(rule->next));
			add_actions(t, rule->actions, DO_BITS, slice_action_text);
			add(t, " | %s |\n", rule->why);
		}
	}
}

static void add_home_tables(struct text *t)
{
	add(t, "\n### The home side\n\n| state | meaning |\n|---|---|\n");
	for (unsigned s = 0; s < HOME_STATE_COUNT; s++)
		add(t, "| %s | %s |\n", home_state_name(s), home_state_text(s));
	add(t, "\n| event | meaning |\n|---|---|\n");
	for (unsigned e = 0; e < HOME_EVENT_COUNT; e++)
		add(t, "| %s | %s |\n", home_event_name(e), home_event_text(e));
	add(t, "\n| state | event | next | actions, in order | why |\n|---|---|---|---|---|\n");
	for (unsigned s = 0; s < HOME_STATE_COUNT; s++) {
		for (unsigned e = 0; e < HOME_EVENT_COUNT; e++) {
			const struct protocol_rule *rule = home_rule(s, e);
			if (!rule)
				continue;
			add(t, "| %s | %s | %s | ", home_state_name(s), home_event_name(e),
			    home_state_name(rule->next));
			add_actions(t, rule->actions, HOME_DO_BITS, home_action_text);
			add(t, " | %s |\n", rule->why);
		}
	}
}

static bool text_read(struct text *t, const char *path)
{
	FILE *file = fopen(path, "r");
	if (!file)
		return false;
	t->len = fread(t->bytes, 1, TEXT_MAX - 1, file);
	bool ok = !ferror(file) && t->len < TEXT_MAX - 1;
	t->bytes[t->len] = '\0';
	fclose(file);
	return ok;
}

/* Says the first line that differs. */
static void difference_print(const char *doc, const char *code)
{
	size_t line = 0;
	for (size_t i = 0; doc[i] && doc[i] == code[i]; i++) {
		if (doc[i] == '\n')
			line = i + 1;
	}
	printf("the document says: %.*s\nthe code says:     %.*s\n", (int)strcspn(doc + line, "\n"),
	       doc + line, (int)strcspn(code + line, "\n"), code + line);
}

static int check(const struct text *code, struct text *doc, const char *path)
{
	if (!text_read(doc, path)) {
		printf("%s cannot be read\n", path);
		return 1;
	}
	char *begin = strstr(doc->bytes, MARK_BEGIN);
	char *end = begin ? strstr(begin, MARK_END) : NULL;
	if (!end) {
		printf("%s has no tables\n", path);
		return 1;
	}
	begin += strlen(MARK_BEGIN);
	*end = '\0';
	if (strcmp(begin, code->bytes) != 0) {
		difference_print(begin, code->bytes);
		return 1;
	}
	printf("%s has the tables of the code\n", path);
	return 0;
}

int main(int argc, char **argv)
{
	static struct text code, doc;
	add_slice_tables(&code);
	add_home_tables(&code);
	add(&code, "\n");
	if (argc == 2 && strcmp(argv[1], "--print") == 0) {
		fputs(code.bytes, stdout);
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "--check") == 0)
		return check(&code, &doc, argv[2]);
	fprintf(stderr, "usage: %s --print | --check FILE\n", argv[0]);
	return 1;
}
