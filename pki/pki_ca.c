/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster's authority: made once, and what it signs. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "pki/pki.h"
#include "pki/pki_internal.h"

/* Others hold the lock for milliseconds. */
#define LOCK_TRIES    200
#define LOCK_PAUSE_NS 25000000L

int pki_ca_path(const struct pki_ca *ca, const char *name, char path[PKI_PATH_MAX])
{
	return pki_path(ca->dir, name, path);
}

int pki_ca_lock(const struct pki_ca *ca, char *why)
{
	char path[PKI_PATH_MAX];
	int fd = pki_ca_path(ca, "lock", path);

	if (fd == 0)
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		snprintf(why, PKI_WHY_MAX, "cannot open %.200s/lock: %s", ca->dir,
			 error_text(-errno));
		return -errno;
	}
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
	}
	close(fd);
	snprintf(why, PKI_WHY_MAX, "another program holds %.200s/lock", ca->dir);
	return -EBUSY;
}

X509 *pki_ca_cert(const struct pki_ca *ca)
{
	return ca->cert;
}

const char *pki_ca_cluster(const struct pki_ca *ca)
{
	return ca->cluster;
}

void pki_ca_free(struct pki_ca *ca)
{
	if (!ca)
		return;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	free(ca);
}

int pki_ca_name(X509 *ca, char cluster[NAME_MAX_LEN + 1])
{
	int len = X509_NAME_get_text_by_NID(X509_get_subject_name(ca), NID_commonName, cluster,
					    NAME_MAX_LEN + 1);

	if (len <= 0 || len > NAME_MAX_LEN || strlen(cluster) != (size_t)len)
		return -EINVAL;
	return pki_name_valid(cluster) ? 0 : -EINVAL;
}

/* ---- what a certificate is made of ---- */

static int extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int good;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509V3_set_ctx_nodb(&ctx);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	good = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return good ? 0 : -EINVAL;
}

static int serial_draw(X509 *cert)
{
	uint64_t serial = 0;

	if (RAND_bytes((unsigned char *)&serial, sizeof(serial)) != 1)
		return -EIO;
	/* Positive, and never zero (RFC 5280, 4.1.2.2). */
	serial = (serial & INT64_MAX) | 1;
	return ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial) ? 0 : -ENOMEM;
}

static int times_set(X509 *cert, int64_t from_s, int64_t until_s)
{
	ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)from_s);
	ASN1_TIME *until = ASN1_TIME_set(NULL, (time_t)until_s);
	int good =
		from && until && X509_set1_notBefore(cert, from) && X509_set1_notAfter(cert, until);

	ASN1_TIME_free(from);
	ASN1_TIME_free(until);
	return good ? 0 : -ENOMEM;
}

static int name_set(X509 *cert, const char *unit, const char *name)
{
	X509_NAME *subject = X509_get_subject_name(cert);

	return X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC,
					  (const unsigned char *)"pangea", -1, -1, 0) &&
			       X509_NAME_add_entry_by_txt(subject, "OU", MBSTRING_ASC,
							  (const unsigned char *)unit, -1, -1, 0) &&
			       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
							  (const unsigned char *)name, -1, -1, 0)
		       ? 0
		       : -ENOMEM;
}

/* ---- the authority itself ---- */

static X509 *root_make(EVP_PKEY *key, const char *cluster)
{
	X509 *cert = X509_new();
	int64_t now_s = pki_now_s();

	if (cert && X509_set_version(cert, X509_VERSION_3) && serial_draw(cert) == 0 &&
	    times_set(cert, now_s - PKI_DAY_S, now_s + PKI_SPAN_MAX_S) == 0 &&
	    name_set(cert, "authority", cluster) == 0 &&
	    X509_set_issuer_name(cert, X509_get_subject_name(cert)) && X509_set_pubkey(cert, key) &&
	    extension_add(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") == 0 &&
	    extension_add(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") == 0 &&
	    extension_add(cert, cert, NID_subject_key_identifier, "hash") == 0 &&
	    X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static int key_write(const char *path, EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int err = -ENOMEM;
	char *data;

	if (bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) {
		long len = BIO_get_mem_data(bio, &data);
		err = pki_file_create(path, data, (size_t)len);
		OPENSSL_cleanse(data, (size_t)len);
	}
	BIO_free(bio);
	return err;
}

static int folders_make(const char *dir)
{
	static const char *const names[] = {"issued", "tokens"};
	char path[PKI_PATH_MAX];

	for (unsigned i = 0; i < 2; i++)
		if (pki_path(dir, names[i], path) < 0 || (mkdir(path, 0700) < 0 && errno != EEXIST))
			return -errno;
	return 0;
}

/* The key comes last: with it the authority is there. */
static int root_write(const char *dir, EVP_PKEY *key, X509 *cert, char *why)
{
	char ca_key[PKI_PATH_MAX], ca_crt[PKI_PATH_MAX], *pem = pki_cert_pem(cert);
	int err = pem ? pki_path(dir, "ca.key", ca_key) : -ENOMEM;

	if (!err)
		err = pki_path(dir, "ca.crt", ca_crt);
	if (!err && (access(ca_key, F_OK) == 0 || access(ca_crt, F_OK) == 0)) {
		snprintf(why, PKI_WHY_MAX,
			 "%.200s belongs to a cluster already: it has a ca.crt or a ca.key", dir);
		free(pem);
		return -EEXIST;
	}
	if (!err)
		err = folders_make(dir);
	if (!err)
		err = pki_file_write(ca_crt, pem, strlen(pem));
	if (!err)
		err = key_write(ca_key, key);
	free(pem);
	if (err)
		snprintf(why, PKI_WHY_MAX, "cannot write into %.200s: %s", dir, error_text(err));
	return err;
}

int pki_ca_init(const char *dir, const char *cluster, char *why)
{
	EVP_PKEY *key;
	X509 *cert;
	struct pki_ca *ca = NULL;
	char *crl = NULL;
	int err;

	if (!pki_name_valid(cluster)) {
		snprintf(why, PKI_WHY_MAX,
			 "a cluster's name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
		return -EINVAL;
	}
	err = pki_dir_make(dir, why);
	if (err)
		return err;
	key = pki_key_new();
	cert = key ? root_make(key, cluster) : NULL;
	if (!cert)
		snprintf(why, PKI_WHY_MAX, "cannot make a key or a certificate");
	err = cert ? root_write(dir, key, cert, why) : -ENOMEM;
	X509_free(cert);
	EVP_PKEY_free(key);
	if (!err)
		err = pki_ca_open(dir, &ca, why);
	if (!err)
		err = pki_ca_crl(ca, &crl, why);
	free(crl);
	pki_ca_free(ca);
	return err;
}

static EVP_PKEY *key_read(const char *path, int *err)
{
	EVP_PKEY *key;
	size_t len;
	char *text;
	BIO *bio;

	*err = pki_file_read(path, true, &text, &len);
	if (*err)
		return NULL;
	bio = BIO_new_mem_buf(text, (int)len);
	key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t)"") : NULL;
	BIO_free(bio);
	OPENSSL_cleanse(text, len);
	free(text);
	pki_errors_drop();
	if (!key)
		*err = -EINVAL;
	return key;
}

static int ca_read(struct pki_ca *ca, char *why)
{
	char path[PKI_PATH_MAX], *text;
	size_t len;
	int err = pki_ca_path(ca, "ca.key", path);

	if (!err)
		ca->key = key_read(path, &err);
	if (!err)
		err = pki_ca_path(ca, "ca.crt", path);
	if (!err)
		err = pki_file_read(path, false, &text, &len);
	if (err == -ENOENT)
		snprintf(why, PKI_WHY_MAX,
			 "there is no authority in %.200s: 'pangea pki init' makes one", ca->dir);
	else if (err)
		snprintf(why, PKI_WHY_MAX, "cannot read %.200s: %s", path,
			 err == -EPERM ? "others can read it: chmod 600 it" : error_text(err));
	if (err)
		return err;
	err = pki_cert_parse(text, &ca->cert, why);
	free(text);
	if (!err && (X509_check_private_key(ca->cert, ca->key) != 1 ||
		     pki_ca_name(ca->cert, ca->cluster) < 0))
		err = -EINVAL;
	pki_errors_drop();
	if (err)
		snprintf(why, PKI_WHY_MAX, "ca.crt and ca.key in %.200s do not fit together",
			 ca->dir);
	return err;
}

int pki_ca_open(const char *dir, struct pki_ca **out, char *why)
{
	struct pki_ca *ca = calloc(1, sizeof(*ca));
	int err;

	if (!ca)
		return -ENOMEM;
	if ((size_t)snprintf(ca->dir, sizeof(ca->dir), "%s", dir) >= sizeof(ca->dir)) {
		snprintf(why, PKI_WHY_MAX, "the directory's name is too long");
		err = -ENAMETOOLONG;
	} else {
		err = ca_read(ca, why);
	}
	if (err) {
		pki_ca_free(ca);
		return err;
	}
	*out = ca;
	return 0;
}

/* ---- what it signs ---- */

static int names_add(struct pki_ca *ca, X509 *cert, const struct pki_wish *wish, char *why)
{
	struct pki_identity id = {.role = wish->role};
	char uri[PKI_URI_MAX], text[2048];
	size_t used;

	snprintf(id.cluster, sizeof(id.cluster), "%s", ca->cluster);
	snprintf(id.name, sizeof(id.name), "%s", wish->name);
	if (!pki_name_valid(wish->name) || pki_uri_format(&id, uri) < 0) {
		snprintf(why, PKI_WHY_MAX, "a name is 1 to 63 of a-z, 0-9 and '-', not first '-'");
		return -EINVAL;
	}
	used = (size_t)snprintf(text, sizeof(text), "URI:%s", uri);
	for (unsigned i = 0; wish->hosts && wish->hosts[i]; i++) {
		const char *host = wish->hosts[i];
		bool address = strspn(host, "0123456789.") == strlen(host) || strchr(host, ':');
		/* A comma would begin another name, an '@' a section of a file. */
		if (!host[0] || strpbrk(host, ",@\"\\ ;=") ||
		    used + strlen(host) + 8 > sizeof(text)) {
			snprintf(why, PKI_WHY_MAX, "\"%.60s\" is no host name or address", host);
			return -EINVAL;
		}
		used += (size_t)snprintf(text + used, sizeof(text) - used, ",%s:%s",
					 address ? "IP" : "DNS", host);
	}
	if (extension_add(cert, ca->cert, NID_subject_alt_name, text) == 0)
		return 0;
	snprintf(why, PKI_WHY_MAX, "the names of hosts cannot stand in a certificate");
	return -EINVAL;
}

/* A renewed coordinator keeps the hosts it is known by. */
static int names_copy(X509 *cert, X509 *like)
{
	int at = X509_get_ext_by_NID(like, NID_subject_alt_name, -1);

	return at >= 0 && X509_add_ext(cert, X509_get_ext(like, at), -1) ? 0 : -EINVAL;
}

static X509 *leaf_make(struct pki_ca *ca, EVP_PKEY *key, const struct pki_wish *wish, char *why)
{
	int64_t usual = wish->role == PKI_NODE ? PKI_NODE_SPAN_S : PKI_OTHER_SPAN_S;
	int64_t span = wish->span_s ? wish->span_s : usual;
	int64_t back = span / 10 < PKI_BACKDATE_S ? span / 10 : PKI_BACKDATE_S;
	int64_t from = wish->from_s ? wish->from_s : pki_now_s() - back, until = from + span;
	const char *use = wish->role == PKI_COORDINATOR ? "serverAuth,clientAuth" : "clientAuth";
	struct pki_identity root;
	X509 *cert = X509_new();

	/* Nothing outlives the authority, whose own time nobody looks at again. */
	pki_cert_identity(ca->cert, &root);
	if (until > root.until_s)
		until = root.until_s;
	snprintf(why, PKI_WHY_MAX, "cannot make a certificate");
	if (cert && X509_set_version(cert, X509_VERSION_3) && serial_draw(cert) == 0 &&
	    times_set(cert, from, until) == 0 &&
	    (wish->like ? names_copy(cert, wish->like) : names_add(ca, cert, wish, why)) == 0 &&
	    name_set(cert, pki_role_name(wish->role), wish->name) == 0 &&
	    X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) &&
	    X509_set_pubkey(cert, key) &&
	    extension_add(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") == 0 &&
	    extension_add(cert, ca->cert, NID_key_usage, "critical,digitalSignature") == 0 &&
	    extension_add(cert, ca->cert, NID_ext_key_usage, use) == 0 &&
	    extension_add(cert, ca->cert, NID_subject_key_identifier, "hash") == 0 &&
	    extension_add(cert, ca->cert, NID_authority_key_identifier, "keyid") == 0 &&
	    X509_sign(cert, ca->key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

/* What cannot be listed later must not be given out: the copy comes first. */
static int copy_keep(struct pki_ca *ca, X509 *cert, char *why)
{
	char serial[PKI_SERIAL_MAX], name[64], path[PKI_PATH_MAX], *pem = pki_cert_pem(cert);
	int err = pem ? 0 : -ENOMEM;

	pki_serial_text(X509_get0_serialNumber(cert), serial);
	snprintf(name, sizeof(name), "issued/%s.crt", serial);
	if (!err)
		err = pki_ca_path(ca, name, path);
	if (!err)
		err = pki_file_create(path, pem, strlen(pem));
	free(pem);
	if (err)
		snprintf(why, PKI_WHY_MAX, "cannot write into %.200s/issued: %s", ca->dir,
			 error_text(err));
	return err;
}

int pki_ca_sign(struct pki_ca *ca, EVP_PKEY *key, const struct pki_wish *wish, X509 **cert,
		char *why)
{
	X509 *made = leaf_make(ca, key, wish, why);
	int err = made ? copy_keep(ca, made, why) : -EINVAL;

	pki_errors_drop();
	if (err) {
		X509_free(made);
		return err;
	}
	*cert = made;
	return 0;
}

static int crl_copy(struct pki_ca *ca, const char *out, char *why)
{
	char path[PKI_PATH_MAX], *pem = NULL;
	int err;

	if (strcmp(ca->dir, out) == 0)
		return 0;
	err = pki_ca_crl(ca, &pem, why);
	if (err)
		return err;
	err = pki_path(out, "crl.pem", path);
	if (!err)
		err = pki_file_write(path, pem, strlen(pem));
	free(pem);
	if (err)
		snprintf(why, PKI_WHY_MAX, "cannot write into %.200s: %s", out, error_text(err));
	return err;
}

int pki_ca_issue(struct pki_ca *ca, const char *out, const struct pki_wish *wish,
		 struct pki_identity *id, char *why)
{
	EVP_PKEY *key = pki_key_new();
	X509 *cert = NULL;
	int err = key ? pki_ca_sign(ca, key, wish, &cert, why) : -ENOMEM;

	if (!key)
		snprintf(why, PKI_WHY_MAX, "cannot make a key");
	if (!err)
		err = pki_member_store(out, ca->cert, key, cert, why);
	if (!err)
		err = crl_copy(ca, out, why);
	if (!err)
		err = pki_cert_identity(cert, id);
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}
