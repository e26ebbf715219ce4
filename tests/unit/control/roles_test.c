/* SPDX-License-Identifier: Apache-2.0 */
/* What each role may do, cell by cell, written down a second time: role by role, as a user would ask. */
#include <criterion/criterion.h>
#include <string.h>

#include "control/control.h"

#define WORDS_MAX 64

/* All that this role may say; nothing else. */
static const struct {
	enum control_role role;
	const char *may[WORDS_MAX];
} roles[] = {
	{CONTROL_ROLE_NODE,
	 {"register", "files-stored", "files-failed", "file-ack", "slice-listening",
	  "slice-connected", "slice-started", "slice-stats", "slice-exit", "slice-gone",
	  "slice-silent", "slice-devices", "console-output", "console-taken", "renew", "heartbeat",
	  "leaving"}},
	{CONTROL_ROLE_CLI,
	 {"nodes", "vms", "run", "stop", "button", "reset", "console", "inspect", "logs", "rm",
	  "detach", "attach", "file-chunk", "console-input", "renew", "heartbeat", "leaving"}},
	{CONTROL_ROLE_COORDINATOR,
	 {"file-chunk",	    "console-input", "file-ack",   "console-output", "registered",
	  "files-begin",    "vm-forget",     "vm-record",  "slice-start",    "slice-connect",
	  "slice-run",	    "slice-stop",    "slice-kill", "slice-forget",   "console-from",
	  "error",	    "nodes-list",    "vms-list",   "run-placed",     "vm-state",
	  "vm-engines",	    "vm-links",	     "vm-waiting", "vm-warning",     "vm-ended",
	  "button-pressed", "slice-button",  "attached",   "detached",	     "console-attached",
	  "console-credit", "vm-inspected",  "log",	   "vm-removed",     "renewed",
	  "revocations",    "joined",	     "heartbeat"}},
	{CONTROL_ROLE_JOIN, {"join", "heartbeat"}},
	{CONTROL_ROLE_VMM, {NULL}},
};

static bool listed(const char *const *words, const char *word)
{
	for (unsigned i = 0; i < WORDS_MAX && words[i]; i++)
		if (strcmp(words[i], word) == 0)
			return true;
	return false;
}

Test(roles, every_cell)
{
	unsigned cells = 0;

	for (unsigned from = 0; from < sizeof(roles) / sizeof(roles[0]); from++) {
		for (unsigned i = 0; i < WORDS_MAX && roles[from].may[i]; i++) {
			const char *word = roles[from].may[i];
			cr_expect(control_type_known(word), "%s is not in the table", word);
			for (unsigned r = 0; r < sizeof(roles) / sizeof(roles[0]); r++, cells++)
				cr_expect_eq(control_role_may(roles[r].role, word),
					     listed(roles[r].may, word), "%s by %s", word,
					     control_role_name(roles[r].role));
		}
	}
	cr_expect_gt(cells, 250);
}

Test(roles, what_is_in_no_cell_nobody_may)
{
	static const char *const words[] = {"",		 "x",	"hello",     "refused",
					    "registers", "Run", "slice-beat"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		cr_expect_not(control_type_known(words[i]));
		for (unsigned r = CONTROL_ROLE_NODE; r <= CONTROL_ROLE_JOIN; r++)
			cr_expect_not(control_role_may((enum control_role)r, words[i]));
	}
}

/* Which certificate goes with which hello: the diagonal, and nothing beside it. */
Test(roles, every_certificate_with_every_hello)
{
	static const enum pki_role needed[] = {
		[CONTROL_ROLE_NODE] = PKI_NODE,
		[CONTROL_ROLE_CLI] = PKI_OPERATOR,
		[CONTROL_ROLE_COORDINATOR] = PKI_COORDINATOR,
		[CONTROL_ROLE_VMM] = PKI_NOBODY,
		[CONTROL_ROLE_JOIN] = PKI_NOBODY,
	};
	char why[CONTROL_WHY_MAX];

	for (unsigned hello = CONTROL_ROLE_NODE; hello <= CONTROL_ROLE_JOIN; hello++) {
		for (unsigned role = PKI_NOBODY; role < PKI_ROLES; role++) {
			struct pki_identity id = {.role = (enum pki_role)role, .name = "someone"};
			bool good = needed[hello] != PKI_NOBODY && needed[hello] == id.role;
			why[0] = 0;
			cr_expect_eq(control_role_check((enum control_role)hello, &id, why),
				     good ? 0 : -EACCES);
			cr_expect_eq(why[0] != 0, !good);
		}
	}
}

Test(roles, a_node_registers_under_its_own_name)
{
	struct pki_identity id = {.role = PKI_NODE, .name = "alpha"};
	json_t *own = json_pack("{s:s, s:s}", "type", "register", "name", "alpha");
	json_t *other = json_pack("{s:s, s:s}", "type", "register", "name", "beta");
	json_t *none = json_pack("{s:s, s:i}", "type", "register", "name", 1);
	char why[CONTROL_WHY_MAX];

	cr_expect_eq(control_name_check(own, &id, why), 0);
	cr_expect_eq(control_name_check(other, &id, why), -EACCES);
	cr_expect(strstr(why, "node beta") && strstr(why, "node alpha"), "%s", why);
	cr_expect_eq(control_name_check(none, &id, why), -EACCES);
	json_decref(own);
	json_decref(other);
	json_decref(none);
}
