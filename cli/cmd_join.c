/* SPDX-License-Identifier: Apache-2.0 */
/* pangea join: this machine makes a key, shows a join token, and gets its certificate. */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
	"Usage: pangea join TOKEN --coordinator HOST:PORT [OPTION]...\n"
	"Gets this machine's certificate. TOKEN is what 'pangea pki token' printed, or '-' for a "
	"line on\n"
	"standard input. The private key is made here and does not leave this machine.\n"
	"\n"
	"  --coordinator HOST:PORT  the coordinator (or $PANGEA_COORDINATOR)\n"
	"  --name NAME              the name to join under (the token's, else the host's)\n"
	"  --pki DIR                where the certificate goes (or $PANGEA_PKI; /etc/pangea/pki "
	"for root,\n"
	"                           else ~/.config/pangea/pki)\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 joined; 1 an error; 2 wrong usage; 3 no coordinator; 6 refused.\n";

enum {
	OPT_NAME = OPT_OWN,
};

static const struct option longs[] = {
	{"coordinator", required_argument, NULL, OPT_COORDINATOR},
	{"name", required_argument, NULL, OPT_NAME},
	{"pki", required_argument, NULL, OPT_PKI},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

struct join {
	struct cli_target target;
	struct pki_token token;
	char name[NAME_MAX_LEN + 1];
	EVP_PKEY *key;
	char *csr;
	X509 *ca; /* the coordinator's, which has the token's fingerprint */
	json_t *answer;
};

static void join_open(struct client *client)
{
	struct join *join = client->user;
	X509 *ca = control_peer_authority(client->conn);

	if (ca && !join->ca && X509_up_ref(ca))
		join->ca = ca;
	control_sendf(client->conn, "{s:s, s:s, s:s, s:s, s:s}", "type", "join", "id",
		      join->token.id, "secret", join->token.secret, "name", join->name, "csr",
		      join->csr);
}

static void join_msg(struct client *client, json_t *msg, const uint8_t *blob, size_t len)
{
	struct join *join = client->user;

	(void)blob;
	(void)len;
	if (!control_is(msg, "joined"))
		return;
	join->answer = json_incref(msg);
	client_finish(client, EXIT_OK);
}

/* Asks the coordinator; the answer is in join->answer. */
static int join_ask(struct join *join)
{
	static const struct client_ops ops = {.on_open = join_open, .on_msg = join_msg};
	struct client client = {.ops = &ops, .user = join, .role = CONTROL_ROLE_JOIN};
	int code;

	if (control_tls_join(join->token.print, &client.tls) < 0)
		return EXIT_ERROR;
	uv_loop_init(&client.loop);
	client_deadline(&client, CLI_REPLY_MS);
	code = client_run(&client, &join->target);
	uv_loop_close(&client.loop);
	control_tls_free(client.tls);
	return code;
}

/* It must be of the authority that was met, and for our key. */
static int certificate_check(const struct join *join, X509 *cert, struct pki_identity *id,
			     char *why)
{
	struct pki_member *member = pki_member_of(join->ca);
	enum pki_verdict verdict =
		member ? pki_member_judge(member, cert, pki_now_s(), id, why) : PKI_UNNAMED;

	pki_member_free(member);
	if (verdict != PKI_GOOD)
		return -EINVAL;
	snprintf(why, PKI_WHY_MAX, "its certificate is for another key");
	return X509_check_private_key(cert, join->key) == 1 ? 0 : -EINVAL;
}

static int answer_store(struct join *join, struct pki_identity *id, char *why)
{
	const char *dir = join->target.pki_dir, *pem, *crl;
	struct pki_member *member = NULL;
	X509 *cert = NULL;
	int err = control_get_string(join->answer, "certificate", &pem, why);

	if (!err)
		err = control_get_string(join->answer, "crl", &crl, why);
	if (!err)
		err = pki_cert_parse(pem, &cert, why);
	if (!err)
		err = certificate_check(join, cert, id, why);
	if (!err)
		err = pki_member_store(dir, join->ca, join->key, cert, why);
	if (!err)
		err = pki_member_load(dir, id->role, &member, why);
	if (!err && pki_member_crl(dir, member, crl, why) < 0)
		err = -EINVAL;
	pki_member_free(member);
	X509_free(cert);
	return err;
}

/* One directory, one cluster: what is there must not be mixed with another's. */
static int place_check(const struct join *join)
{
	char path[PKI_PATH_MAX], why[PKI_WHY_MAX], print[PKI_PRINT_MAX] = "", *text;
	X509 *ca = NULL;
	size_t len;
	int err;

	if (pki_dir_make(join->target.pki_dir, why) < 0) {
		cli_say("%s", why);
		return EXIT_ERROR;
	}
	err = pki_path(join->target.pki_dir, "ca.crt", path);
	if (!err)
		err = pki_file_read(path, false, &text, &len);
	if (err == -ENOENT)
		return 0;
	if (!err) {
		err = pki_cert_parse(text, &ca, why);
		free(text);
	}
	if (!err)
		pki_cert_print(ca, print);
	X509_free(ca);
	if (strcmp(print, join->token.print) == 0)
		return 0;
	cli_say("%s belongs to another cluster: name another directory with --pki, or remove it",
		join->target.pki_dir);
	return EXIT_ERROR;
}

static int join_run(struct join *join)
{
	char why[PKI_WHY_MAX], until[32];
	struct pki_identity id;
	int code = place_check(join);

	if (code)
		return code;
	join->key = pki_key_new();
	join->csr = join->key ? pki_request_new(join->key) : NULL;
	if (!join->csr) {
		cli_say("cannot make a key");
		return EXIT_ERROR;
	}
	code = join_ask(join);
	if (code)
		return code;
	if (!join->ca || answer_store(join, &id, why) < 0) {
		cli_say("the coordinator's answer is of no use: %s",
			join->ca ? why : "no authority");
		return EXIT_ERROR;
	}
	pki_time_format(id.until_s, until);
	printf("joined cluster %s as %s %s, certificate valid until %s, in %s\n", id.cluster,
	       pki_role_name(id.role), id.name, until, join->target.pki_dir);
	return fflush(stdout) == 0 ? EXIT_OK : EXIT_ERROR;
}

static int token_take(const char *text, struct pki_token *token)
{
	char line[PKI_TOKEN_TEXT_MAX + 2];

	if (strcmp(text, "-") == 0) {
		if (!fgets(line, sizeof(line), stdin))
			return cli_usage("pangea join", "there is no token on standard input");
		line[strcspn(line, "\r\n")] = 0;
		text = line;
	}
	return pki_token_parse(text, token) == 0
		       ? 0
		       : cli_usage("pangea join",
				   "this is no join token: 'pangea pki token' prints one");
}

static int options_take(struct join *join, int argc, char **argv)
{
	const char *name = NULL, *address;
	char host[CONTROL_HOST_MAX], port[6];
	int opt, code;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (opt == OPT_NAME) {
			name = optarg;
			continue;
		}
		code = cli_common_option(&join->target, opt, argv[0], usage);
		if (code >= 0)
			return code;
	}
	if (argc - optind != 1)
		return cli_usage(argv[0], "needs a join token");
	address =
		join->target.coordinator ? join->target.coordinator : getenv("PANGEA_COORDINATOR");
	if (!address || control_address_split(address, host, port) < 0)
		return cli_usage(argv[0], "needs --coordinator HOST:PORT");
	snprintf(join->target.address, sizeof(join->target.address), "%s", address);
	if (name && !control_name_valid(name))
		return cli_usage(argv[0], "--name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
	if (name)
		snprintf(join->name, sizeof(join->name), "%s", name);
	code = token_take(argv[optind], &join->token);
	if (code)
		return code;
	code = cli_pki_dir(join->target.pki, join->target.pki_dir);
	return code ? code : -1;
}

int cmd_join(int argc, char **argv)
{
	struct join join = {0};
	int code;

	control_host_name(join.name);
	code = options_take(&join, argc, argv);
	if (code < 0)
		code = join_run(&join);
	json_decref(join.answer);
	X509_free(join.ca);
	EVP_PKEY_free(join.key);
	free(join.csr);
	return code;
}
