/* SPDX-License-Identifier: Apache-2.0 */
/* The sub-commands of `pangea pki` that make, issue, revoke and renew; pki_show.c lists. */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "cli/pki_cmds.h"

static int failed(const char *why)
{
	cli_say("%s", why);
	return EXIT_ERROR;
}

static void issued_say(const struct pki_identity *id, const char *dir)
{
	char until[32];

	pki_time_format(id->until_s, until);
	printf("%s %s: certificate %s, valid until %s, in %s\n", pki_role_name(id->role), id->name,
	       id->serial, until, dir);
}

static int issue(struct pki_ca *ca, const char *dir, const struct pki_wish *wish, char *why)
{
	struct pki_identity id;
	int err = pki_ca_issue(ca, dir, wish, &id, why);

	if (!err)
		issued_say(&id, dir);
	return err;
}

int pki_cmd_init(struct pki_options *opts)
{
	struct pki_wish coordinator = {.role = PKI_COORDINATOR,
				       .name = "coordinator",
				       .span_s = opts->span_s,
				       .hosts = opts->host};
	struct pki_wish operator_wish = {
		.role = PKI_OPERATOR, .name = "operator", .span_s = opts->span_s};
	char why[PKI_WHY_MAX], print[PKI_PRINT_MAX];
	struct pki_ca *ca = NULL;
	int err = pki_ca_init(opts->dir, opts->cluster, why);

	if (!err)
		err = pki_ca_open(opts->dir, &ca, why);
	if (!err) {
		pki_cert_print(pki_ca_cert(ca), print);
		printf("cluster %s: authority %s\n", opts->cluster, print);
		err = issue(ca, opts->dir, &coordinator, why);
	}
	if (!err)
		err = issue(ca, opts->dir, &operator_wish, why);
	pki_ca_free(ca);
	if (err)
		return failed(why);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

int pki_cmd_token(struct pki_options *opts)
{
	int64_t span_s = opts->span_s ? opts->span_s : PKI_TOKEN_SPAN_S;
	struct pki_grant grant = {.role = opts->role, .until_s = pki_now_s() + span_s};
	char why[PKI_WHY_MAX], text[PKI_TOKEN_TEXT_MAX];
	struct pki_ca *ca;
	int err;

	if (span_s > PKI_TOKEN_MAX_S)
		return cli_usage("pangea pki", "a token lives for at most 30d");
	snprintf(grant.name, sizeof(grant.name), "%s", opts->name ? opts->name : "");
	err = pki_ca_open(opts->dir, &ca, why);
	if (err)
		return failed(why);
	err = pki_token_new(ca, &grant, text, why);
	pki_ca_free(ca);
	if (err)
		return failed(why);
	puts(text);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

int pki_cmd_issue(struct pki_options *opts)
{
	struct pki_wish wish = {.name = opts->args[1],
				.span_s = opts->span_s,
				.from_s = opts->from_s,
				.hosts = opts->host};
	char why[PKI_WHY_MAX];
	struct pki_ca *ca;
	int err;

	if (pki_role_parse(opts->args[0], &wish.role) < 0)
		return cli_usage("pangea pki", "a role is coordinator, node or operator");
	if (!pki_name_valid(wish.name))
		return cli_usage("pangea pki",
				 "a name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
	if (!opts->out)
		return cli_usage("pangea pki", "issue needs --out DIR");
	err = pki_ca_open(opts->dir, &ca, why);
	if (err)
		return failed(why);
	err = issue(ca, opts->out, &wish, why);
	pki_ca_free(ca);
	if (err)
		return failed(why);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

int pki_cmd_revoke(struct pki_options *opts)
{
	char why[PKI_WHY_MAX];
	struct pki_ca *ca;
	unsigned count;
	int err;

	if (!pki_name_valid(opts->args[0]))
		return cli_usage("pangea pki", "\"%.70s\" is no name and no serial number",
				 opts->args[0]);
	err = pki_ca_open(opts->dir, &ca, why);
	if (err)
		return failed(why);
	err = pki_ca_revoke(ca, opts->args[0], &count, why);
	pki_ca_free(ca);
	if (err)
		return failed(why);
	printf("revoked %u certificate%s; a coordinator with --ca %s goes by it within seconds\n",
	       count, count == 1 ? "" : "s", opts->dir);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

static int renewed_store(const struct pki_options *opts, EVP_PKEY *key, const json_t *answer,
			 char *why)
{
	struct pki_member *member;
	struct pki_identity id;
	X509 *cert = NULL;
	const char *pem;
	int err = pki_member_load(opts->dir, PKI_OPERATOR, &member, why);

	if (err)
		return err;
	err = control_get_string(answer, "certificate", &pem, why);
	if (!err)
		err = pki_cert_parse(pem, &cert, why);
	if (!err && (pki_member_judge(member, cert, pki_now_s(), &id, why) != PKI_GOOD ||
		     X509_check_private_key(cert, key) != 1)) {
		snprintf(why, PKI_WHY_MAX, "the coordinator's answer is of no use");
		err = -EINVAL;
	}
	if (!err)
		err = pki_member_store(opts->dir, member->ca, key, cert, why);
	if (!err)
		issued_say(&id, opts->dir);
	X509_free(cert);
	pki_member_free(member);
	return err;
}

int pki_cmd_renew(struct pki_options *opts)
{
	EVP_PKEY *key = pki_key_new();
	char *csr = key ? pki_request_new(key) : NULL, why[PKI_WHY_MAX];
	json_t *question = json_pack("{s:s, s:s}", "type", "renew", "csr", csr ? csr : ""), *answer;
	int code;

	opts->target.pki = opts->dir;
	code = csr ? cli_target_resolve(&opts->target) : EXIT_ERROR;
	if (!code)
		code = client_ask(&opts->target, question, "renewed", CLI_REPLY_MS, &answer, false);
	if (!code) {
		if (renewed_store(opts, key, answer, why) < 0)
			code = failed(why);
		json_decref(answer);
	}
	json_decref(question);
	free(csr);
	EVP_PKEY_free(key);
	return code;
}
