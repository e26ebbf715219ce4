/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates of a loopback cluster: made when it comes up, removed when it goes down. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cluster.h"

void cluster_pki_path(const char *dir, const char *name, char out[STATE_PATH_MAX + 64])
{
	char path[64];

	snprintf(path, sizeof(path), "pki/%.40s", name);
	state_path(dir, path, out);
}

static int issue(struct pki_ca *ca, const char *out, enum pki_role role, const char *name,
		 char *why)
{
	struct pki_wish wish = {.role = role, .name = name};
	struct pki_identity id;

	return pki_ca_issue(ca, out, &wish, &id, why);
}

int cluster_certificates(const char *dir, unsigned nodes)
{
	char pki[STATE_PATH_MAX + 64], path[STATE_PATH_MAX + 64], name[32], why[PKI_WHY_MAX] = "";
	struct pki_ca *ca = NULL;
	int err;

	state_path(dir, "pki", pki);
	err = pki_ca_init(pki, "loopback", why);
	if (!err)
		err = pki_ca_open(pki, &ca, why);
	if (!err)
		err = issue(ca, pki, PKI_COORDINATOR, "coordinator", why);
	if (!err)
		err = issue(ca, pki, PKI_OPERATOR, "operator", why);
	for (unsigned i = 0; i < nodes && !err; i++) {
		snprintf(name, sizeof(name), "node%u", i);
		cluster_pki_path(dir, name, path);
		err = issue(ca, path, PKI_NODE, name, why);
	}
	pki_ca_free(ca);
	if (!err)
		return 0;
	cli_say("cannot make the cluster's certificates: %s", why);
	return EXIT_ERROR;
}

/* What pki/ writes, also half: certificates, keys, lists; copies and tokens are named by numbers. */
static bool ours(const char *name)
{
	return strstr(name, ".pem") || strstr(name, ".crt") || strstr(name, ".key") ||
	       strcmp(name, "lock") == 0 || strspn(name, "0123456789abcdef") == 16;
}

static void folder_clean(const char *path)
{
	char file[STATE_PATH_MAX + 400];
	struct dirent *entry;
	DIR *dir = opendir(path);

	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL) {
		snprintf(file, sizeof(file), "%s/%.255s", path, entry->d_name);
		if (ours(entry->d_name))
			unlink(file);
	}
	closedir(dir);
	rmdir(path);
}

void cluster_pki_clean(const char *dir)
{
	char path[STATE_PATH_MAX + 64], name[32];

	cluster_pki_path(dir, "issued", path);
	folder_clean(path);
	cluster_pki_path(dir, "tokens", path);
	folder_clean(path);
	for (unsigned i = 0; i < CLUSTER_NODES_MAX; i++) {
		snprintf(name, sizeof(name), "node%u", i);
		cluster_pki_path(dir, name, path);
		folder_clean(path);
	}
	state_path(dir, "pki", path);
	folder_clean(path);
}
