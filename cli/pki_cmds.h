/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `pangea pki` share. */
#ifndef CLI_PKI_CMDS_H
#define CLI_PKI_CMDS_H

#include "cli/cli.h"

#define PKI_HOSTS_MAX 16

struct pki_options {
	struct cli_target target;
	char dir[PKI_PATH_MAX];
	char **args; /* after the command's name */
	const char *cluster, *name, *out;
	const char *host[PKI_HOSTS_MAX + 1]; /* null at the end */
	int hosts;
	enum pki_role role;
	int64_t span_s, from_s; /* 0: as usual */
	bool json;
};

extern const char pki_usage[];

/* Each returns the exit code, having said why. */
int pki_cmd_init(struct pki_options *opts);
int pki_cmd_token(struct pki_options *opts);
int pki_cmd_issue(struct pki_options *opts);
int pki_cmd_revoke(struct pki_options *opts);
int pki_cmd_show(struct pki_options *opts);
int pki_cmd_renew(struct pki_options *opts);

#endif
