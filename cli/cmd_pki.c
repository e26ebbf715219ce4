/* SPDX-License-Identifier: Apache-2.0 */
/* pangea pki: the cluster's authority and its certificates: made, issued, revoked, shown. */
#include <stdlib.h>
#include <string.h>

#include "cli/pki_cmds.h"

const char pki_usage[] =
	"Usage: pangea pki init [--cluster NAME] [--host HOST]... [OPTION]...\n"
	"       pangea pki token [--role ROLE] [--name NAME] [--lifetime TIME] [OPTION]...\n"
	"       pangea pki issue ROLE NAME --out DIR [--lifetime TIME] [--host HOST]... "
	"[OPTION]...\n"
	"       pangea pki revoke NAME|SERIAL [OPTION]...\n"
	"       pangea pki show [--json] [OPTION]...\n"
	"       pangea pki renew [OPTION]...\n"
	"Makes a cluster's authority, with certificates of a coordinator and an operator; prints a "
	"token by\n"
	"which a machine joins once; issues a certificate by hand; revokes; lists all that was "
	"issued;\n"
	"renews this operator's certificate. ROLE is coordinator, node or operator.\n"
	"\n"
	"  --pki DIR                the directory of certificates (or $PANGEA_PKI; /etc/pangea/pki "
	"for\n"
	"                           root, else ~/.config/pangea/pki)\n"
	"  --cluster NAME           the cluster's name (pangea)\n"
	"  --host HOST              a name or address of the coordinator, to stand in its "
	"certificate\n"
	"  --role ROLE              what the token is good for (node)\n"
	"  --name NAME              whom it is good for (anybody new)\n"
	"  --lifetime TIME          as 45s, 30m, 12h or 90d (a token 1h, a node 90d, others 365d)\n"
	"  --from TIME              the beginning, as 2026-11-30T06:00:00Z (now)\n"
	"  --out DIR                where an issued certificate goes, with its private key\n"
	"  --json                   show as JSON\n"
	"  --coordinator HOST:PORT, --state-dir DIR   whom renew asks\n"
	"  --help, --version\n";

enum {
	OPT_CLUSTER = OPT_OWN,
	OPT_HOST,
	OPT_ROLE,
	OPT_NAME,
	OPT_LIFETIME,
	OPT_FROM,
	OPT_OUT,
	OPT_JSON,
};

static const struct option longs[] = {
	{"pki", required_argument, NULL, OPT_PKI},
	{"coordinator", required_argument, NULL, OPT_COORDINATOR},
	{"state-dir", required_argument, NULL, OPT_STATE_DIR},
	{"cluster", required_argument, NULL, OPT_CLUSTER},
	{"host", required_argument, NULL, OPT_HOST},
	{"role", required_argument, NULL, OPT_ROLE},
	{"name", required_argument, NULL, OPT_NAME},
	{"lifetime", required_argument, NULL, OPT_LIFETIME},
	{"from", required_argument, NULL, OPT_FROM},
	{"out", required_argument, NULL, OPT_OUT},
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

static const struct {
	const char *name;
	int args;
	int (*run)(struct pki_options *opts);
} commands[] = {
	{"init", 0, pki_cmd_init},     {"token", 0, pki_cmd_token}, {"issue", 2, pki_cmd_issue},
	{"revoke", 1, pki_cmd_revoke}, {"show", 0, pki_cmd_show},   {"renew", 0, pki_cmd_renew},
};

static int option_take(struct pki_options *opts, int opt, const char *command)
{
	switch (opt) {
	case OPT_CLUSTER:
		opts->cluster = optarg;
		return -1;
	case OPT_HOST:
		if (opts->hosts == PKI_HOSTS_MAX)
			return cli_usage(command, "at most %d --host", PKI_HOSTS_MAX);
		opts->host[opts->hosts++] = optarg;
		return -1;
	case OPT_ROLE:
		if (pki_role_parse(optarg, &opts->role) < 0 || opts->role == PKI_COORDINATOR)
			return cli_usage(command, "--role is node or operator");
		return -1;
	case OPT_NAME:
		if (!pki_name_valid(optarg))
			return cli_usage(command,
					 "--name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
		opts->name = optarg;
		return -1;
	case OPT_LIFETIME:
		if (pki_span_parse(optarg, PKI_SPAN_MAX_S, &opts->span_s) < 0)
			return cli_usage(command, "--lifetime is a time from 1s to 3650d, as 12h");
		return -1;
	case OPT_FROM:
		if (pki_time_parse(optarg, &opts->from_s) < 0)
			return cli_usage(command, "--from is a time as 2026-11-30T06:00:00Z");
		return -1;
	case OPT_OUT:
		opts->out = optarg;
		return -1;
	case OPT_JSON:
		opts->json = true;
		return -1;
	default:
		return cli_common_option(&opts->target, opt, command, pki_usage);
	}
}

int cmd_pki(int argc, char **argv)
{
	struct pki_options opts = {.cluster = "pangea", .role = PKI_NODE};
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		code = option_take(&opts, opt, argv[0]);
		if (code >= 0)
			return code;
	}
	if (optind == argc)
		return cli_usage(argv[0], "needs init, token, issue, revoke, show or renew");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[optind], commands[i].name) != 0)
			continue;
		if (argc - optind - 1 != commands[i].args)
			return cli_usage(argv[0], "%s takes %d argument%s", commands[i].name,
					 commands[i].args, commands[i].args == 1 ? "" : "s");
		opts.args = argv + optind + 1;
		/* A loopback cluster's are in its state directory. */
		if (opts.target.state_dir && !opts.target.pki) {
			snprintf(opts.dir, sizeof(opts.dir), "%s/pki", opts.target.state_dir);
			return commands[i].run(&opts);
		}
		code = cli_pki_dir(opts.target.pki, opts.dir);
		return code ? code : commands[i].run(&opts);
	}
	return cli_usage(argv[0], "there is no \"%.40s\"", argv[optind]);
}
