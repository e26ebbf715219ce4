/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's certificate: read at the start and when its files change, renewed over the connection that
 * stands, long before it expires. VMs do not notice: a connection keeps what it was made with.
 *
 * Timers: none of its own. The heartbeat asks every HEARTBEAT_MS; the files are looked at every
 * WATCH_TICKS of them, and a renewal without an answer is asked for again after RENEW_TICKS.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "node/node.h"

#define WATCH_TICKS 2
#define RENEW_TICKS 10

static void own_judge(const struct node_daemon *node)
{
	const struct pki_member *own = control_tls_member(node->tls);
	struct pki_identity id;
	char why[PKI_WHY_MAX], until[32];

	pki_time_format(own->self.until_s, until);
	if (pki_member_judge(own, own->cert, pki_now_s(), &id, why) == PKI_GOOD)
		log_info("TLS as node %s of cluster %s, certificate %s, valid until %s",
			 own->self.name, own->self.cluster, own->self.serial, until);
	else
		log_warn("this node will be refused: %s", why);
}

int certificate_open(struct node_daemon *node)
{
	char why[PKI_WHY_MAX] = "no home directory: name one with --pki", dir[PKI_PATH_MAX] = "";
	int err = 0;

	if (node->opts.plaintext)
		return 0;
	if (node->opts.pki_dir)
		snprintf(dir, sizeof(dir), "%s", node->opts.pki_dir);
	else
		err = pki_dir_default(dir);
	if (!err)
		err = control_tls_new(dir, PKI_NODE, &node->tls, why);
	if (err == -ENOENT)
		log_error("%s: 'pangea join TOKEN --coordinator HOST:PORT' gets a certificate; "
			  "--plaintext goes without, on a network that is trusted",
			  why);
	else if (err)
		log_error("%s", why);
	return err;
}

void certificate_close(struct node_daemon *node)
{
	control_tls_free(node->tls);
	EVP_PKEY_free(node->renew_key);
}

static void reload(struct node_daemon *node)
{
	char why[PKI_WHY_MAX];

	if (control_tls_reload(node->tls, why) < 0) {
		log_error("the certificate stays as it is: %s", why);
		return;
	}
	own_judge(node);
	if (node->conn)
		control_recheck(node->conn);
}

void certificate_reload(struct node_daemon *node, bool asked)
{
	uint64_t stamp;

	if (!node->tls)
		return;
	stamp = pki_dir_stamp(control_tls_dir(node->tls), PKI_NODE);
	if (stamp == node->pki_stamp && !asked)
		return;
	node->pki_stamp = stamp;
	reload(node);
}

static void renew_ask(struct node_daemon *node)
{
	char *csr;

	if (!node->renew_key)
		node->renew_key = pki_key_new();
	csr = node->renew_key ? pki_request_new(node->renew_key) : NULL;
	if (csr)
		link_send(node, json_pack("{s:s, s:s}", "type", "renew", "csr", csr), NULL, 0);
	else
		log_error("cannot make a key for a new certificate");
	free(csr);
	node->renew_ticks = RENEW_TICKS;
}

void certificate_tick(struct node_daemon *node)
{
	if (!node->tls)
		return;
	if (node->renew_ticks)
		node->renew_ticks--;
	if (++node->watch_ticks % WATCH_TICKS == 0)
		certificate_reload(node, false);
	if (node->registered && !node->renew_ticks &&
	    pki_renewal_due(&control_tls_member(node->tls)->self, pki_now_s()))
		renew_ask(node);
}

/* It must be ours in all that counts, or the old one would be lost for nothing. */
static int renewed_check(const struct node_daemon *node, X509 *cert, char *why)
{
	const struct pki_member *own = control_tls_member(node->tls);
	struct pki_identity id;

	snprintf(why, PKI_WHY_MAX, "it is for another key");
	if (!node->renew_key || X509_check_private_key(cert, node->renew_key) != 1)
		return -EINVAL;
	if (pki_member_judge(own, cert, pki_now_s(), &id, why) != PKI_GOOD)
		return -EINVAL;
	snprintf(why, PKI_WHY_MAX, "it is that of %s %s", pki_role_name(id.role), id.name);
	return id.role == PKI_NODE && strcmp(id.name, own->self.name) == 0 ? 0 : -EINVAL;
}

void certificate_renewed(struct node_daemon *node, const json_t *msg)
{
	char why[PKI_WHY_MAX];
	const char *pem;
	X509 *cert = NULL;
	int err = node->tls ? control_get_string(msg, "certificate", &pem, why) : -EINVAL;

	if (!node->tls)
		return;
	if (!err)
		err = pki_cert_parse(pem, &cert, why);
	if (!err)
		err = renewed_check(node, cert, why);
	if (!err)
		err = pki_member_store(control_tls_dir(node->tls),
				       control_tls_member(node->tls)->ca, node->renew_key, cert,
				       why);
	X509_free(cert);
	if (err) {
		log_error("the new certificate is of no use: %s", why);
		return;
	}
	EVP_PKEY_free(node->renew_key);
	node->renew_key = NULL;
	certificate_reload(node, true);
}

void certificate_revocations(struct node_daemon *node, const json_t *msg)
{
	char why[PKI_WHY_MAX];
	const char *pem;
	int news;

	if (!node->tls)
		return;
	news = control_get_string(msg, "crl", &pem, why);
	if (!news)
		news = pki_member_crl(control_tls_dir(node->tls), control_tls_member(node->tls),
				      pem, why);
	if (news < 0)
		log_warn("the list of revocations is of no use: %s", why);
	if (news > 0 && node->conn)
		control_recheck(node->conn);
}
