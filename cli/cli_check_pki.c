/* SPDX-License-Identifier: Apache-2.0 */
/* What `pangea check` says of certificates: which are there, and until when. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/check.h"

static void found_add(struct host_item *item, const char *text)
{
	size_t used = strlen(item->found);

	snprintf(item->found + used, sizeof(item->found) - used, "%s%s", used ? ", " : "", text);
}

static void trouble(struct host_item *item, enum host_matters matters, const char *why,
		    const char *mend)
{
	if (item->matters >= matters)
		return;
	item->matters = matters;
	snprintf(item->sentence, sizeof(item->sentence), "%.319s", why);
	snprintf(item->mend, sizeof(item->mend), "%.199s", mend);
}

/* One role's certificate, if there is one. */
static bool role_look(struct host_item *item, const char *dir, enum pki_role role)
{
	char name[32], path[PKI_PATH_MAX], why[PKI_WHY_MAX], text[96], until[32];
	struct pki_member *member;
	struct pki_identity id;

	snprintf(name, sizeof(name), "%s.pem", pki_role_name(role));
	if (pki_path(dir, name, path) < 0 || access(path, F_OK) < 0)
		return false;
	if (pki_member_load(dir, role, &member, why) < 0) {
		found_add(item, name);
		trouble(item, HOST_REFUSE, why, "");
		return true;
	}
	pki_time_format(member->self.until_s, until);
	snprintf(text, sizeof(text), "%s until %.10s", pki_role_name(role), until);
	found_add(item, text);
	if (pki_member_judge(member, member->cert, pki_now_s(), &id, why) != PKI_GOOD)
		trouble(item, HOST_REFUSE, why, "");
	else if (pki_renewal_due(&id, pki_now_s()))
		trouble(item, HOST_WARN,
			"less than a third of a certificate's life is left; daemons renew theirs "
			"by "
			"themselves while they are connected",
			role == PKI_OPERATOR ? "pangea pki renew" : "");
	pki_member_free(member);
	return true;
}

void check_certificates(const char *given, struct host_item *item)
{
	char dir[PKI_PATH_MAX];
	bool any = false;

	*item = (struct host_item){.name = "certificates", .matters = HOST_OK};
	if (given)
		snprintf(dir, sizeof(dir), "%s", given);
	else if (pki_dir_default(dir) < 0)
		dir[0] = 0;
	for (unsigned role = PKI_COORDINATOR; role < PKI_ROLES && dir[0]; role++)
		any |= role_look(item, dir, (enum pki_role)role);
	if (!any) {
		snprintf(item->found, sizeof(item->found), "none");
		trouble(item, HOST_NOTE,
			"this machine belongs to no cluster yet: 'pangea pki init' begins one, "
			"'pangea "
			"join' enters one, and 'pangea cluster up --loopback' makes its own",
			"");
	} else if (item->matters == HOST_OK) {
		snprintf(
			item->sentence, sizeof(item->sentence),
			"control connections are TLS, and this machine can show who it is (%.200s)",
			dir);
	}
}
