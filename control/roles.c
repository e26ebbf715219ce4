/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each role may do: the one table of it. A connection's role is that of the certificate shown on it;
 * without TLS (--plaintext) it is what the peer says, and then only the token stands before it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"

#define NODE	    (1u << CONTROL_ROLE_NODE)
#define OPERATOR    (1u << CONTROL_ROLE_CLI)
#define COORDINATOR (1u << CONTROL_ROLE_COORDINATOR)
#define JOINER	    (1u << CONTROL_ROLE_JOIN)

/* Message, and who may send it. What is not here nobody may. A slice (role vmm) speaks to its daemon
 * alone, over a socket that it inherits; node/node_check.c has what it may say. */
static const struct {
	const char *type;
	unsigned from;
} table[] = {
	/* an operator runs, watches and stops VMs, and looks */
	{"nodes", OPERATOR},
	{"vms", OPERATOR},
	{"run", OPERATOR},
	{"stop", OPERATOR},
	{"button", OPERATOR},
	{"reset", OPERATOR},
	{"console", OPERATOR},
	{"inspect", OPERATOR},
	{"logs", OPERATOR},
	{"rm", OPERATOR},
	{"detach", OPERATOR},
	{"attach", OPERATOR},
	/* a file and what is typed go from the operator to the coordinator, and on to the node */
	{"file-chunk", OPERATOR | COORDINATOR},
	{"image-chunk", OPERATOR | COORDINATOR},
	{"console-input", OPERATOR | COORDINATOR},
	/* a node offers what it has, and reports of its slices */
	{"register", NODE},
	{"files-stored", NODE},
	{"files-failed", NODE},
	{"slice-listening", NODE},
	{"slice-connected", NODE},
	{"slice-started", NODE},
	{"slice-stats", NODE},
	{"slice-exit", NODE},
	{"slice-gone", NODE},
	{"slice-silent", NODE},
	{"slice-devices", NODE},
	{"image-have", NODE},
	{"image-stored", NODE},
	{"image-busy", NODE},
	{"image-failed", NODE},
	{"console-taken", NODE},
	/* the coordinator hands these on to the operator */
	{"file-ack", NODE | COORDINATOR},
	{"image-ack", NODE | COORDINATOR},
	{"console-output", NODE | COORDINATOR},
	/* a coordinator orders nodes */
	{"registered", COORDINATOR},
	{"files-begin", COORDINATOR},
	{"image-want", COORDINATOR},
	{"vm-forget", COORDINATOR},
	{"vm-record", COORDINATOR},
	{"slice-start", COORDINATOR},
	{"slice-connect", COORDINATOR},
	{"slice-run", COORDINATOR},
	{"slice-stop", COORDINATOR},
	{"slice-button", COORDINATOR},
	{"slice-kill", COORDINATOR},
	{"slice-forget", COORDINATOR},
	{"console-from", COORDINATOR},
	/* and answers operators */
	{"error", COORDINATOR},
	{"nodes-list", COORDINATOR},
	{"vms-list", COORDINATOR},
	{"run-placed", COORDINATOR},
	{"image-send", COORDINATOR},
	{"vm-state", COORDINATOR},
	{"vm-engines", COORDINATOR},
	{"vm-links", COORDINATOR},
	{"vm-waiting", COORDINATOR},
	{"vm-warning", COORDINATOR},
	{"vm-ended", COORDINATOR},
	{"button-pressed", COORDINATOR},
	{"attached", COORDINATOR},
	{"detached", COORDINATOR},
	{"console-attached", COORDINATOR},
	{"vm-inspected", COORDINATOR},
	{"log", COORDINATOR},
	{"vm-removed", COORDINATOR},
	{"console-credit", COORDINATOR},
	/* certificates: who has one may have it renewed; who has none needs a token */
	{"renew", NODE | OPERATOR},
	{"renewed", COORDINATOR},
	{"revocations", COORDINATOR},
	{"join", JOINER},
	{"joined", COORDINATOR},
	/* everybody */
	{"heartbeat", NODE | OPERATOR | COORDINATOR | JOINER},
	{"leaving", NODE | OPERATOR},
};

/* Whose certificate a side must show to be what its hello says. */
static enum pki_role role_needed(enum control_role role)
{
	switch (role) {
	case CONTROL_ROLE_NODE:
		return PKI_NODE;
	case CONTROL_ROLE_CLI:
		return PKI_OPERATOR;
	case CONTROL_ROLE_COORDINATOR:
		return PKI_COORDINATOR;
	case CONTROL_ROLE_VMM:
	case CONTROL_ROLE_JOIN:
		break;
	}
	return PKI_NOBODY;
}

bool control_role_may(enum control_role role, const char *type)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].type, type) == 0)
			return table[i].from & (1u << role);
	return false;
}

bool control_type_known(const char *type)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].type, type) == 0)
			return true;
	return false;
}

int control_role_check(enum control_role role, const struct pki_identity *id, char *why)
{
	enum pki_role needed = role_needed(role);

	if (needed == PKI_NOBODY) {
		snprintf(why, CONTROL_WHY_MAX, "nobody is a %s on this connection",
			 control_role_name(role));
		return -EACCES;
	}
	if (id->role == needed)
		return 0;
	snprintf(why, CONTROL_WHY_MAX,
		 "its certificate is that of %s %s, who is no %s: what a role may do is in its "
		 "certificate",
		 pki_role_name(id->role), id->name, pki_role_name(needed));
	return -EACCES;
}

int control_name_check(const json_t *msg, const struct pki_identity *id, char *why)
{
	const char *name = json_string_value(json_object_get(msg, "name"));

	if (name && strcmp(name, id->name) == 0)
		return 0;
	snprintf(why, CONTROL_WHY_MAX,
		 "it would register as node %.63s, but its certificate is that of node %s: leave "
		 "out "
		 "--name, or get a certificate for that name",
		 name ? name : "?", id->name);
	return -EACCES;
}
