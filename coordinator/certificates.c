/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's part in certificates: its own, revocations, joins and renewals. */
#include <errno.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "coordinator/certificates.h"

static const char no_authority[] = "this coordinator issues no certificates: start it with --ca "
				   "DIR, or make one by 'pangea pki "
				   "issue' and copy its directory";

int certificates_open(struct certificates *certs, const char *dir, const char *ca_dir)
{
	char why[PKI_WHY_MAX] = "no home directory: name one with --pki";
	int err = 0;

	if (dir)
		snprintf(certs->dir, sizeof(certs->dir), "%s", dir);
	else
		err = pki_dir_default(certs->dir);
	if (!err)
		err = control_tls_new(certs->dir, PKI_COORDINATOR, &certs->tls, why);
	if (err == -ENOENT)
		log_error("%s: 'pangea pki init' makes the certificates of a cluster; --plaintext "
			  "goes without, on a network that is trusted",
			  why);
	else if (err)
		log_error("%s", why);
	if (err)
		return err;
	certs->ca_dir = ca_dir;
	err = ca_dir ? pki_ca_open(ca_dir, &certs->ca, why) : 0;
	if (err) {
		log_error("%s", why);
		certificates_close(certs);
		return err;
	}
	certificates_refresh(certs, true);
	return 0;
}

void certificates_close(struct certificates *certs)
{
	control_tls_free(certs->tls);
	pki_ca_free(certs->ca);
	certs->tls = NULL;
	certs->ca = NULL;
}

/* What the authority has revoked is ours to know, too. */
static void revocations_take(struct certificates *certs)
{
	uint64_t stamp = pki_dir_stamp(certs->ca_dir, PKI_NOBODY);
	char why[PKI_WHY_MAX], *pem;

	if (stamp == certs->ca_stamp)
		return;
	certs->ca_stamp = stamp;
	if (pki_ca_crl(certs->ca, &pem, why) < 0) {
		log_error("%s", why);
		return;
	}
	if (pki_member_crl(certs->dir, control_tls_member(certs->tls), pem, why) < 0)
		log_error("%s", why);
	free(pem);
}

static void own_renew(struct certificates *certs)
{
	const struct pki_member *own = control_tls_member(certs->tls);
	struct pki_wish wish = {.role = PKI_COORDINATOR,
				.name = own->self.name,
				.span_s = own->self.until_s - own->self.from_s,
				.like = own->cert};
	struct pki_identity id;
	char why[PKI_WHY_MAX];

	if (!pki_renewal_due(&own->self, pki_now_s()))
		return;
	if (pki_ca_issue(certs->ca, certs->dir, &wish, &id, why) < 0)
		log_error("cannot renew this coordinator's certificate: %s", why);
	else
		log_info("renewed this coordinator's certificate: serial number %s", id.serial);
}

/* Time and revocation of our own: others will refuse us for them. */
static void own_judge(const struct certificates *certs)
{
	const struct pki_member *own = control_tls_member(certs->tls);
	struct pki_identity id;
	char why[PKI_WHY_MAX], until[32];
	enum pki_verdict verdict = pki_member_judge(own, own->cert, pki_now_s(), &id, why);

	pki_time_format(own->self.until_s, until);
	if (verdict == PKI_GOOD)
		log_info("TLS as coordinator %s of cluster %s, certificate %s, valid until %s",
			 own->self.name, own->self.cluster, own->self.serial, until);
	else
		log_warn("this coordinator will be refused: %s", why);
}

bool certificates_refresh(struct certificates *certs, bool asked)
{
	char why[PKI_WHY_MAX];
	uint64_t stamp;

	if (!certs->tls)
		return false;
	if (certs->ca) {
		revocations_take(certs);
		own_renew(certs);
	}
	stamp = pki_dir_stamp(certs->dir, PKI_COORDINATOR);
	if (stamp == certs->stamp && !asked)
		return false;
	certs->stamp = stamp;
	if (control_tls_reload(certs->tls, why) < 0) {
		log_error("the certificates stay as they are: %s", why);
		return false;
	}
	own_judge(certs);
	return true;
}

json_t *certificates_revocations(const struct certificates *certs)
{
	char path[PKI_PATH_MAX], *pem;
	json_t *msg;
	size_t len;

	if (!certs->tls || !control_tls_member(certs->tls)->crl ||
	    pki_path(certs->dir, "crl.pem", path) < 0 || pki_file_read(path, false, &pem, &len) < 0)
		return NULL;
	msg = json_pack("{s:s, s:s}", "type", "revocations", "crl", pem);
	free(pem);
	return msg;
}

struct taken {
	const struct pki_grant *grant;
	bool taken;
};

static void issued_look(void *arg, const struct pki_identity *id, bool revoked)
{
	struct taken *taken = arg;

	if (!revoked && id->role == taken->grant->role && id->until_s >= pki_now_s() &&
	    strcmp(id->name, taken->grant->name) == 0)
		taken->taken = true;
}

/* A token without a name is no way to become somebody who is there. */
static int name_choose(struct certificates *certs, struct pki_grant *grant, const char *wanted,
		       char *why)
{
	struct taken taken = {.grant = grant};
	int err;

	if (grant->name[0] && strcmp(grant->name, wanted) != 0) {
		snprintf(why, PKI_WHY_MAX,
			 "this join token is for %s %s, not for %.63s; it is used up now",
			 pki_role_name(grant->role), grant->name, wanted);
		return -EACCES;
	}
	if (grant->name[0])
		return 0;
	snprintf(grant->name, sizeof(grant->name), "%s", wanted);
	err = pki_ca_list(certs->ca, issued_look, &taken, why);
	if (!err && taken.taken) {
		snprintf(why, PKI_WHY_MAX,
			 "%s %s has a certificate already: choose another --name, or revoke that "
			 "one, or make a token for this name ('pangea pki token --name %s'); this "
			 "token is used up now",
			 pki_role_name(grant->role), wanted, wanted);
		err = -EEXIST;
	}
	return err;
}

static json_t *certificate_give(struct certificates *certs, const char *type, EVP_PKEY *key,
				const struct pki_wish *wish, char *why)
{
	char *pem = NULL, *crl = NULL;
	json_t *msg = NULL;
	X509 *cert;

	if (pki_ca_sign(certs->ca, key, wish, &cert, why) < 0)
		return NULL;
	pem = pki_cert_pem(cert);
	X509_free(cert);
	if (pem && pki_ca_crl(certs->ca, &crl, why) == 0)
		msg = json_pack("{s:s, s:s, s:s}", "type", type, "certificate", pem, "crl", crl);
	free(pem);
	free(crl);
	return msg;
}

json_t *certificates_join(struct certificates *certs, const json_t *msg, char *why)
{
	const char *id, *secret, *name, *csr;
	struct pki_grant grant;
	EVP_PKEY *key;
	json_t *answer = NULL;

	if (!certs->ca) {
		snprintf(why, PKI_WHY_MAX, "%s", no_authority);
		return NULL;
	}
	if (control_get_string(msg, "id", &id, why) ||
	    control_get_string(msg, "secret", &secret, why) ||
	    control_get_name(msg, "name", &name, why) ||
	    control_get_string(msg, "csr", &csr, why) || pki_request_key(csr, &key, why))
		return NULL;
	if (pki_token_burn(certs->ca, id, secret, pki_now_s(), &grant, why) == 0 &&
	    name_choose(certs, &grant, name, why) == 0) {
		struct pki_wish wish = {.role = grant.role, .name = grant.name};
		answer = certificate_give(certs, "joined", key, &wish, why);
		if (answer)
			log_info("%s %s has joined by token %.16s", pki_role_name(grant.role),
				 grant.name, id);
	}
	EVP_PKEY_free(key);
	return answer;
}

json_t *certificates_renew(struct certificates *certs, const struct pki_identity *id,
			   const json_t *msg, char *why)
{
	struct pki_wish wish = {.role = id->role, .name = id->name};
	const char *csr;
	EVP_PKEY *key;
	json_t *answer;

	if (!certs->ca) {
		snprintf(why, PKI_WHY_MAX, "%s", no_authority);
		return NULL;
	}
	if (pki_ca_revoked(certs->ca, id->serial)) {
		snprintf(why, PKI_WHY_MAX, "its certificate was revoked");
		return NULL;
	}
	if (control_get_string(msg, "csr", &csr, why) || pki_request_key(csr, &key, why))
		return NULL;
	wish.span_s = id->until_s - id->from_s;
	answer = certificate_give(certs, "renewed", key, &wish, why);
	EVP_PKEY_free(key);
	if (answer)
		log_info("renewed the certificate of %s %s", pki_role_name(id->role), id->name);
	return answer;
}
