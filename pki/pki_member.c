/* SPDX-License-Identifier: Apache-2.0 */
/* A member's own key and certificate, and its judgement of others'. */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "pki/pki.h"
#include "pki/pki_internal.h"

void pki_member_free(struct pki_member *member)
{
	if (!member)
		return;
	X509_free(member->ca);
	X509_CRL_free(member->crl);
	X509_free(member->cert);
	EVP_PKEY_free(member->key);
	free(member);
}

struct pki_member *pki_member_of(X509 *ca)
{
	struct pki_member *member = calloc(1, sizeof(*member));

	if (member && X509_up_ref(ca))
		member->ca = ca;
	return member;
}

static int ca_load(const char *dir, struct pki_member *member, char *why)
{
	char path[PKI_PATH_MAX], *text = NULL;
	size_t len;
	int err = pki_path(dir, "ca.crt", path);

	if (!err)
		err = pki_file_read(path, false, &text, &len);
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot read %.200s/ca.crt: %s", dir, error_text(err));
		return err;
	}
	err = pki_cert_parse(text, &member->ca, why);
	free(text);
	if (!err && X509_check_ca(member->ca) != 1)
		err = -EINVAL;
	if (err)
		snprintf(why, PKI_WHY_MAX, "%.200s/ca.crt is no authority's certificate", dir);
	return err;
}

static int crl_load(const char *dir, struct pki_member *member, char *why)
{
	char path[PKI_PATH_MAX], *text = NULL;
	size_t len;
	int err = pki_path(dir, "crl.pem", path);

	if (!err)
		err = pki_file_read(path, false, &text, &len);
	if (err == -ENOENT)
		return 0;
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot read %.200s/crl.pem: %s", dir, error_text(err));
		return err;
	}
	member->crl = pki_crl_parse(text, member->ca, why);
	free(text);
	if (member->crl)
		return 0;
	snprintf(why, PKI_WHY_MAX, "%.200s/crl.pem is no list of revocations of its ca.crt", dir);
	return -EINVAL;
}

/* The key and the certificate lie in one file: they are of one make, or not there. */
static int own_parse(const char *text, size_t len, struct pki_member *member)
{
	BIO *bio = BIO_new_mem_buf(text, (int)len);

	if (!bio)
		return -ENOMEM;
	member->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t)"");
	BIO_free(bio);
	bio = BIO_new_mem_buf(text, (int)len);
	member->cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	pki_errors_drop();
	if (!member->key || !member->cert || X509_check_private_key(member->cert, member->key) != 1)
		return -EINVAL;
	return 0;
}

static int own_load(const char *dir, enum pki_role role, struct pki_member *member, char *why)
{
	char name[32], path[PKI_PATH_MAX], *text = NULL;
	size_t len;
	int err;

	snprintf(name, sizeof(name), "%s.pem", pki_role_name(role));
	err = pki_path(dir, name, path);
	if (!err)
		err = pki_file_read(path, true, &text, &len);
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot use %.200s/%s: %s", dir, name,
			 err == -EPERM ? "others can read this key: chmod 600 it"
				       : error_text(err));
		return err;
	}
	err = own_parse(text, len, member);
	OPENSSL_cleanse(text, len);
	free(text);
	if (err)
		snprintf(why, PKI_WHY_MAX, "%.200s/%s has no private key with its certificate", dir,
			 name);
	return err;
}

static int own_check(const char *dir, enum pki_role role, struct pki_member *member, char *why)
{
	struct pki_identity id;
	char reason[PKI_WHY_MAX];
	enum pki_verdict verdict = pki_member_judge(member, member->cert, pki_now_s(), &id, reason);

	/* Time and revocation are the peers' to judge: whoever is refused shall hear it from them. */
	if (verdict != PKI_GOOD && verdict != PKI_EXPIRED && verdict != PKI_NOT_YET &&
	    verdict != PKI_REVOKED) {
		snprintf(why, PKI_WHY_MAX,
			 "%.100s/%s.pem does not fit the ca.crt beside it: %.200s", dir,
			 pki_role_name(role), reason);
		return -EINVAL;
	}
	if (id.role != role) {
		snprintf(why, PKI_WHY_MAX, "%.200s/%s.pem is the certificate of %s %s, of no %s",
			 dir, pki_role_name(role), pki_role_name(id.role), id.name,
			 pki_role_name(role));
		return -EINVAL;
	}
	member->self = id;
	return 0;
}

int pki_member_load(const char *dir, enum pki_role role, struct pki_member **out, char *why)
{
	struct pki_member *member = calloc(1, sizeof(*member));
	int err;

	if (!member)
		return -ENOMEM;
	err = own_load(dir, role, member, why);
	if (!err)
		err = ca_load(dir, member, why);
	if (!err)
		err = crl_load(dir, member, why);
	if (!err)
		err = own_check(dir, role, member, why);
	pki_errors_drop();
	if (err) {
		pki_member_free(member);
		return err;
	}
	*out = member;
	return 0;
}

static int own_write(const char *path, EVP_PKEY *key, X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	int err = -ENOMEM;
	char *data;

	if (!bio)
		bio = BIO_new(BIO_s_mem());
	if (bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) &&
	    PEM_write_bio_X509(bio, cert)) {
		long len = BIO_get_mem_data(bio, &data);
		err = pki_file_write(path, data, (size_t)len);
		OPENSSL_cleanse(data, (size_t)len);
	}
	BIO_free(bio);
	return err;
}

int pki_member_store(const char *dir, X509 *ca, EVP_PKEY *key, X509 *cert, char *why)
{
	char name[32], path[PKI_PATH_MAX], *pem;
	struct pki_identity id;
	int err = pki_dir_make(dir, why);

	if (err)
		return err;
	pem = pki_cert_pem(ca);
	err = pem && pki_cert_identity(cert, &id) == 0 ? pki_path(dir, "ca.crt", path) : -EINVAL;
	if (!err && access(path, F_OK) < 0)
		err = pki_file_write(path, pem, strlen(pem));
	free(pem);
	if (!err) {
		snprintf(name, sizeof(name), "%s.pem", pki_role_name(id.role));
		err = pki_path(dir, name, path);
	}
	if (!err)
		err = own_write(path, key, cert);
	if (err)
		snprintf(why, PKI_WHY_MAX, "cannot write into %.200s: %s", dir, error_text(err));
	return err;
}

int pki_member_crl(const char *dir, struct pki_member *member, const char *pem, char *why)
{
	uint64_t number = 0, old = 0;
	char path[PKI_PATH_MAX];
	X509_CRL *crl = pki_crl_parse(pem, member->ca, why);
	int err;

	if (!crl)
		return -EINVAL;
	if (pki_crl_number(crl, &number) < 0 ||
	    (member->crl && pki_crl_number(member->crl, &old) == 0 && number <= old)) {
		X509_CRL_free(crl);
		return 0;
	}
	err = pki_path(dir, "crl.pem", path);
	if (!err)
		err = pki_file_write(path, pem, strlen(pem));
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot write %.200s/crl.pem: %s", dir, error_text(err));
		X509_CRL_free(crl);
		return err;
	}
	X509_CRL_free(member->crl);
	member->crl = crl;
	return 1;
}

/* Signed by our authority, as X.509 wants it; time is looked at elsewhere, where it has a sentence. */
static bool chain_good(const struct pki_member *member, X509 *cert)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	bool good = false;

	if (store && ctx && X509_STORE_add_cert(store, member->ca) &&
	    X509_STORE_set_flags(store, X509_V_FLAG_NO_CHECK_TIME) &&
	    X509_STORE_CTX_init(ctx, store, cert, NULL))
		good = X509_verify_cert(ctx) == 1 && X509_check_ca(cert) == 0;
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	pki_errors_drop();
	return good;
}

enum pki_verdict pki_time_judge(const struct pki_identity *id, int64_t now_s, const char *whose,
				char *why)
{
	char now[32], at[32];

	pki_time_format(now_s, now);
	if (now_s < id->from_s) {
		pki_time_format(id->from_s, at);
		snprintf(why, PKI_WHY_MAX,
			 "%s certificate is not valid yet: this clock says %s, the certificate is "
			 "valid from %s: set the clock",
			 whose, now, at);
		return PKI_NOT_YET;
	}
	if (now_s <= id->until_s)
		return PKI_GOOD;
	pki_time_format(id->until_s, at);
	snprintf(why, PKI_WHY_MAX,
		 "%s certificate has expired: it was valid until %s, this clock says %s: issue a "
		 "new one ('pangea pki issue', 'pangea join'), or set the clock",
		 whose, at, now);
	return PKI_EXPIRED;
}

enum pki_verdict pki_member_judge(const struct pki_member *member, X509 *cert, int64_t now_s,
				  struct pki_identity *id, char *why)
{
	char cluster[NAME_MAX_LEN + 1];

	memset(id, 0, sizeof(*id));
	if (!cert) {
		snprintf(why, PKI_WHY_MAX,
			 "no certificate was shown: 'pangea join' or 'pangea pki issue' gets one");
		return PKI_STRANGER;
	}
	if (!chain_good(member, cert)) {
		snprintf(why, PKI_WHY_MAX,
			 "its certificate is not of this cluster's authority: it is for another "
			 "cluster, or an old one");
		return PKI_OTHER_CA;
	}
	if (pki_cert_identity(cert, id) < 0 || pki_ca_name(member->ca, cluster) < 0 ||
	    strcmp(cluster, id->cluster) != 0) {
		memset(id, 0, sizeof(*id));
		snprintf(why, PKI_WHY_MAX, "its certificate names no role of this cluster");
		return PKI_UNNAMED;
	}
	if (member->crl && pki_crl_has(member->crl, cert)) {
		snprintf(why, PKI_WHY_MAX, "its certificate (%s %s, serial number %s) was revoked",
			 pki_role_name(id->role), id->name, id->serial);
		return PKI_REVOKED;
	}
	return pki_time_judge(id, now_s, "its", why);
}

bool pki_renewal_due(const struct pki_identity *id, int64_t now_s)
{
	return (id->until_s - now_s) * 3 <= id->until_s - id->from_s;
}
