/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the names and rows of the core's transition tables, one a line, for agree.py. */
#include <stdio.h>

#include "dsm/protocol/protocol_table.h"

static void slice_names_print(void)
{
#define X(name, text) printf("state slice %s\n", #name);
	SLICE_STATES(X)
#undef X
#define X(name, label, text) printf("event slice %s %s\n", #name, label);
	SLICE_EVENTS(X)
#undef X
#define X(name, text) printf("action slice %s %s\n", #name, text);
	SLICE_ACTIONS(X)
#undef X
}

static void home_names_print(void)
{
#define X(name, text) printf("state home %s\n", #name);
	HOME_STATES(X)
#undef X
#define X(name, label, text) printf("event home %s %s\n", #name, label);
	HOME_EVENTS(X)
#undef X
#define X(name, text) printf("action home %s %s\n", #name, text);
	HOME_ACTIONS(X)
#undef X
}

static const char *slice_event_symbol(unsigned event)
{
#define X(name, label, text) #name,
	static const char *const names[] = {SLICE_EVENTS(X)};
#undef X
	return names[event];
}

static const char *home_event_symbol(unsigned event)
{
#define X(name, label, text) #name,
	static const char *const names[] = {HOME_EVENTS(X)};
#undef X
	return names[event];
}

static void slice_actions_print(uint32_t actions)
{
#define X(name, text) #name,
	static const char *const names[] = {SLICE_ACTIONS(X)};
#undef X
	for (unsigned bit = 0; bit < DO_BITS; bit++)
		if (actions & (1u << bit))
			printf(" %s", names[bit]);
	putchar('\n');
}

static void home_actions_print(uint32_t actions)
{
#define X(name, text) #name,
	static const char *const names[] = {HOME_ACTIONS(X)};
#undef X
	for (unsigned bit = 0; bit < HOME_DO_BITS; bit++)
		if (actions & (1u << bit))
			printf(" %s", names[bit]);
	putchar('\n');
}

static void slice_rows_print(void)
{
	for (unsigned s = 0; s < PAGE_STATES; s++) {
		for (unsigned e = 0; e < SLICE_EVENT_COUNT; e++) {
			const struct protocol_rule *rule = slice_rule(s, e);
			if (!rule)
				continue;
			printf("row slice %s %s %s", page_state_name(s), slice_event_symbol(e),
			       page_state_name(rule->next));
			slice_actions_print(rule->actions);
		}
	}
}

static void home_rows_print(void)
{
	for (unsigned s = 0; s < HOME_STATE_COUNT; s++) {
		for (unsigned e = 0; e < HOME_EVENT_COUNT; e++) {
			const struct protocol_rule *rule = home_rule(s, e);
			if (!rule)
				continue;
			printf("row home %s %s %s", home_state_name(s), home_event_symbol(e),
			       home_state_name(rule->next));
			home_actions_print(rule->actions);
		}
	}
}

int main(void)
{
	slice_names_print();
	home_names_print();
	slice_rows_print();
	home_rows_print();
	return 0;
}
