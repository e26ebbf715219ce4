/* SPDX-License-Identifier: Apache-2.0 */
/* What an authority has issued and revoked. */
#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "pki/pki.h"
#include "pki/pki_internal.h"

X509_CRL *pki_crl_parse(const char *pem, X509 *ca, char *why)
{
	BIO *bio = strlen(pem) <= PKI_FILE_MAX ? BIO_new_mem_buf(pem, -1) : NULL;
	X509_CRL *crl = bio ? PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	if (crl && (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(ca)) != 0 ||
		    X509_CRL_verify(crl, X509_get0_pubkey(ca)) != 1)) {
		X509_CRL_free(crl);
		crl = NULL;
	}
	pki_errors_drop();
	if (!crl)
		snprintf(why, PKI_WHY_MAX, "this is no list of revocations of our authority");
	return crl;
}

int pki_crl_number(X509_CRL *crl, uint64_t *number)
{
	ASN1_INTEGER *found = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
	int good = found && ASN1_INTEGER_get_uint64(number, found);

	ASN1_INTEGER_free(found);
	pki_errors_drop();
	return good ? 0 : -EINVAL;
}

bool pki_crl_has(X509_CRL *crl, X509 *cert)
{
	X509_REVOKED *entry;

	return X509_CRL_get0_by_cert(crl, &entry, cert) == 1;
}

/* The list that is there; null and 0: none is. */
static int crl_read(const struct pki_ca *ca, X509_CRL **crl, char *why)
{
	char path[PKI_PATH_MAX], *text;
	size_t len;
	int err = pki_ca_path(ca, "crl.pem", path);

	*crl = NULL;
	if (!err)
		err = pki_file_read(path, false, &text, &len);
	if (err == -ENOENT)
		return 0;
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot read %.200s: %s", path, error_text(err));
		return err;
	}
	*crl = pki_crl_parse(text, ca->cert, why);
	free(text);
	return *crl ? 0 : -EINVAL;
}

/* What the old list has goes into the new one, but for what has expired: that is refused anyway. */
static int entries_copy(X509_CRL *crl, X509_CRL *old, const struct pki_identity *list, size_t count)
{
	STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(old);
	int64_t now_s = pki_now_s();

	for (int i = 0; i < sk_X509_REVOKED_num(entries); i++) {
		X509_REVOKED *entry = sk_X509_REVOKED_value(entries, i), *copy;
		char serial[PKI_SERIAL_MAX];
		bool over = false;
		pki_serial_text(X509_REVOKED_get0_serialNumber(entry), serial);
		/* A day later, for clocks that are behind. */
		for (size_t k = 0; k < count && !over; k++)
			over = strcmp(list[k].serial, serial) == 0 &&
			       list[k].until_s + PKI_DAY_S < now_s;
		if (over)
			continue;
		copy = X509_REVOKED_dup(entry);
		if (!copy || !X509_CRL_add0_revoked(crl, copy)) {
			X509_REVOKED_free(copy);
			return -ENOMEM;
		}
	}
	return 0;
}

/* A list with what the old one has and its number raised; signed later. */
static X509_CRL *crl_next(const struct pki_ca *ca, X509_CRL *old, const struct pki_identity *list,
			  size_t count)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)pki_now_s());
	/* Lists are handed out by us and never fetched: an old one is no sign that one is held back. */
	ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)(pki_now_s() + PKI_SPAN_MAX_S));
	uint64_t last = 0;
	int good = crl && number && now && next;

	if (old)
		pki_crl_number(old, &last);
	good = good && ASN1_INTEGER_set_uint64(number, last + 1) && X509_CRL_set_version(crl, 1) &&
	       X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert)) &&
	       X509_CRL_set1_lastUpdate(crl, now) && X509_CRL_set1_nextUpdate(crl, next) &&
	       X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_REPLACE) == 1 &&
	       (!old || entries_copy(crl, old, list, count) == 0);
	ASN1_INTEGER_free(number);
	ASN1_TIME_free(now);
	ASN1_TIME_free(next);
	if (good)
		return crl;
	X509_CRL_free(crl);
	return NULL;
}

static int crl_sign(const struct pki_ca *ca, X509_CRL *crl)
{
	char path[PKI_PATH_MAX], *text = NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	int err = pki_ca_path(ca, "crl.pem", path);

	if (!bio || !X509_CRL_sort(crl) || !X509_CRL_sign(crl, ca->key, EVP_sha256()) ||
	    !PEM_write_bio_X509_CRL(bio, crl)) {
		BIO_free(bio);
		return -ENOMEM;
	}
	text = pki_bio_text(bio);
	if (!text)
		return -ENOMEM;
	/* Members read no more than this. */
	if (strlen(text) > PKI_FILE_MAX)
		err = -ENOSPC;
	if (!err)
		err = pki_file_write(path, text, strlen(text));
	free(text);
	return err;
}

static int crl_add(X509_CRL *crl, const char *serial)
{
	X509_REVOKED *entry = X509_REVOKED_new();
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)pki_now_s());
	int good = entry && number && now &&
		   ASN1_INTEGER_set_uint64(number, strtoull(serial, NULL, 16)) &&
		   X509_REVOKED_set_serialNumber(entry, number) &&
		   X509_REVOKED_set_revocationDate(entry, now) && X509_CRL_add0_revoked(crl, entry);

	ASN1_INTEGER_free(number);
	ASN1_TIME_free(now);
	if (!good)
		X509_REVOKED_free(entry);
	return good ? 0 : -ENOMEM;
}

static int serial_compare(const void *a, const void *b)
{
	const struct pki_identity *left = a, *right = b;

	if (left->from_s != right->from_s)
		return left->from_s < right->from_s ? -1 : 1;
	return strcmp(left->serial, right->serial);
}

static int issued_read(const struct pki_ca *ca, const char *name, struct pki_identity *id)
{
	char path[PKI_PATH_MAX], file[64], why[PKI_WHY_MAX], *text;
	X509 *cert;
	size_t len;
	int err;

	if (strlen(name) != PKI_SERIAL_MAX - 1 + 4 ||
	    strcmp(name + PKI_SERIAL_MAX - 1, ".crt") != 0)
		return -EINVAL;
	snprintf(file, sizeof(file), "issued/%.20s", name);
	err = pki_ca_path(ca, file, path);
	if (!err)
		err = pki_file_read(path, false, &text, &len);
	if (err)
		return err;
	err = pki_cert_parse(text, &cert, why);
	free(text);
	if (err)
		return err;
	err = pki_cert_identity(cert, id);
	X509_free(cert);
	return err;
}

/* All that was issued, sorted; the caller frees the list. */
static int issued_list(const struct pki_ca *ca, struct pki_identity **list, size_t *count,
		       char *why)
{
	size_t room = 0;
	char path[PKI_PATH_MAX];
	struct dirent *entry;
	int err = pki_ca_path(ca, "issued", path);
	DIR *dir = err ? NULL : opendir(path);

	*list = NULL;
	*count = 0;
	if (!dir) {
		snprintf(why, PKI_WHY_MAX, "cannot read %.200s: %s", path, error_text(-errno));
		return -errno;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (*count == room) {
			room = room ? 2 * room : 64;
			void *more = realloc(*list, room * sizeof(**list));
			if (!more) {
				closedir(dir);
				return -ENOMEM;
			}
			*list = more;
		}
		*count += issued_read(ca, entry->d_name, &(*list)[*count]) == 0;
	}
	closedir(dir);
	if (*count)
		qsort(*list, *count, sizeof(**list), serial_compare);
	return 0;
}

static bool crl_has_serial(X509_CRL *crl, const char *serial)
{
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	X509_REVOKED *entry;
	bool has = crl && number && ASN1_INTEGER_set_uint64(number, strtoull(serial, NULL, 16)) &&
		   X509_CRL_get0_by_serial(crl, &entry, number) == 1;

	ASN1_INTEGER_free(number);
	return has;
}

bool pki_ca_revoked(struct pki_ca *ca, const char *serial)
{
	char why[PKI_WHY_MAX];
	X509_CRL *crl;
	bool revoked = crl_read(ca, &crl, why) < 0 || crl_has_serial(crl, serial);

	X509_CRL_free(crl);
	return revoked;
}

int pki_ca_list(struct pki_ca *ca, pki_issued_fn *fn, void *arg, char *why)
{
	struct pki_identity *list = NULL;
	X509_CRL *crl = NULL;
	size_t count = 0;
	int err = crl_read(ca, &crl, why);

	if (!err)
		err = issued_list(ca, &list, &count, why);
	for (size_t i = 0; i < count && !err; i++)
		fn(arg, &list[i], crl_has_serial(crl, list[i].serial));
	X509_CRL_free(crl);
	free(list);
	return err;
}

static int revoke_locked(struct pki_ca *ca, const char *what, unsigned *count, char *why)
{
	struct pki_identity *list = NULL;
	X509_CRL *old = NULL, *crl = NULL;
	size_t issued = 0, matching = 0;
	int err = crl_read(ca, &old, why);

	if (!err)
		err = issued_list(ca, &list, &issued, why);
	if (!err && !(crl = crl_next(ca, old, list, issued)))
		err = -ENOMEM;
	for (size_t i = 0; i < issued && !err; i++) {
		if (strcmp(list[i].serial, what) != 0 && strcmp(list[i].name, what) != 0)
			continue;
		matching++;
		if (crl_has_serial(crl, list[i].serial))
			continue;
		err = crl_add(crl, list[i].serial);
		(*count)++;
	}
	if (!err && !matching) {
		snprintf(why, PKI_WHY_MAX,
			 "nothing was issued for %.64s: 'pangea pki show' lists names and serial "
			 "numbers",
			 what);
		err = -ENOENT;
	} else if (!err && *count) {
		err = crl_sign(ca, crl);
		if (err)
			snprintf(why, PKI_WHY_MAX, "cannot write %.200s/crl.pem: %s", ca->dir,
				 error_text(err));
	}
	X509_CRL_free(crl);
	X509_CRL_free(old);
	free(list);
	return err;
}

int pki_ca_revoke(struct pki_ca *ca, const char *serial_or_name, unsigned *count, char *why)
{
	int lock = pki_ca_lock(ca, why), err;

	*count = 0;
	if (lock < 0)
		return lock;
	err = revoke_locked(ca, serial_or_name, count, why);
	close(lock);
	return err;
}

int pki_ca_crl(struct pki_ca *ca, char **pem, char *why)
{
	X509_CRL *crl = NULL;
	char path[PKI_PATH_MAX];
	int err = crl_read(ca, &crl, why);
	size_t len;

	/* The first one is empty: members know then that there is a list. */
	if (!err && !crl) {
		crl = crl_next(ca, NULL, NULL, 0);
		err = crl ? crl_sign(ca, crl) : -ENOMEM;
	}
	X509_CRL_free(crl);
	if (!err)
		err = pki_ca_path(ca, "crl.pem", path);
	if (!err)
		err = pki_file_read(path, false, pem, &len);
	if (err)
		snprintf(why, PKI_WHY_MAX, "cannot keep %.200s/crl.pem: %s", ca->dir,
			 error_text(err));
	return err;
}
