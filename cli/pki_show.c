/* SPDX-License-Identifier: Apache-2.0 */
/* pangea pki show: what the authority has issued, or, where there is none, what this machine has. */
#include <string.h>
#include <unistd.h>

#include "cli/pki_cmds.h"

static const char *state_word(const struct pki_identity *id, bool revoked)
{
	char why[PKI_WHY_MAX];

	if (revoked)
		return "revoked";
	switch (pki_time_judge(id, pki_now_s(), "its", why)) {
	case PKI_EXPIRED:
		return "expired";
	case PKI_NOT_YET:
		return "not-yet";
	default:
		return "valid";
	}
}

static void entry_add(void *arg, const struct pki_identity *id, bool revoked)
{
	char from[32], until[32];

	pki_time_format(id->from_s, from);
	pki_time_format(id->until_s, until);
	json_array_append_new(arg,
			      json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "serial", id->serial,
					"cluster", id->cluster, "role", pki_role_name(id->role),
					"name", id->name, "from", from, "until", until, "state",
					state_word(id, revoked)));
}

/* What a member has: its own certificates. */
static int own_list(const char *dir, json_t *list)
{
	char name[32], path[PKI_PATH_MAX], why[PKI_WHY_MAX];
	struct pki_member *member;
	struct pki_identity id;

	for (unsigned role = PKI_COORDINATOR; role < PKI_ROLES; role++) {
		snprintf(name, sizeof(name), "%s.pem", pki_role_name((enum pki_role)role));
		if (pki_path(dir, name, path) < 0 || access(path, F_OK) < 0)
			continue;
		if (pki_member_load(dir, (enum pki_role)role, &member, why) < 0) {
			cli_say("%s", why);
			return EXIT_ERROR;
		}
		entry_add(list, &member->self,
			  pki_member_judge(member, member->cert, pki_now_s(), &id, why) ==
				  PKI_REVOKED);
		pki_member_free(member);
	}
	if (json_array_size(list))
		return EXIT_OK;
	cli_say("there are no certificates in %s: 'pangea pki init' or 'pangea join' makes them",
		dir);
	return EXIT_ERROR;
}

static int authority_list(const char *dir, json_t *list)
{
	char why[PKI_WHY_MAX];
	struct pki_ca *ca;
	int err = pki_ca_open(dir, &ca, why);

	if (err) {
		cli_say("%s", why);
		return EXIT_ERROR;
	}
	err = pki_ca_list(ca, entry_add, list, why);
	pki_ca_free(ca);
	if (!err)
		return EXIT_OK;
	cli_say("%s", why);
	return EXIT_ERROR;
}

static void table_print(const json_t *list)
{
	const json_t *entry;
	size_t i;

	printf("%-16s  %-11s  %-20s  %-20s  %s\n", "SERIAL", "ROLE", "NAME", "UNTIL", "STATE");
	json_array_foreach(list, i, entry)
	{
		const char *const keys[] = {"serial", "role", "name", "until", "state"};
		const char *text[5];
		for (unsigned k = 0; k < 5; k++)
			text[k] = json_string_value(json_object_get(entry, keys[k]));
		printf("%-16s  %-11s  %-20s  %-20s  %s\n", text[0], text[1], text[2], text[3],
		       text[4]);
	}
}

int pki_cmd_show(struct pki_options *opts)
{
	json_t *list = json_array();
	char path[PKI_PATH_MAX];
	int code;

	if (pki_path(opts->dir, "ca.key", path) == 0 && access(path, F_OK) == 0)
		code = authority_list(opts->dir, list);
	else
		code = own_list(opts->dir, list);
	if (!code && opts->json) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (!code) {
		table_print(list);
	}
	json_decref(list);
	return fflush(stdout) == 0 ? code : EXIT_ERROR;
}
