/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, certificate requests and certificates to and from PEM, and what a certificate says of itself. */
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pki/pki.h"
#include "pki/pki_internal.h"

EVP_PKEY *pki_key_new(void)
{
	return EVP_EC_gen("P-256");
}

char *pki_bio_text(BIO *bio)
{
	char *data, *text = NULL;
	long len = BIO_get_mem_data(bio, &data);

	if (len >= 0)
		text = calloc(1, (size_t)len + 1);
	if (text && len)
		memcpy(text, data, (size_t)len);
	BIO_free(bio);
	return text;
}

char *pki_cert_pem(X509 *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());

	if (!bio || !PEM_write_bio_X509(bio, cert)) {
		BIO_free(bio);
		return NULL;
	}
	return pki_bio_text(bio);
}

char *pki_request_new(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	X509_REQ *req = X509_REQ_new();
	char *text = NULL;

	if (bio && req && X509_REQ_set_pubkey(req, key) && X509_REQ_sign(req, key, EVP_sha256()) &&
	    PEM_write_bio_X509_REQ(bio, req)) {
		text = pki_bio_text(bio);
		bio = NULL;
	}
	BIO_free(bio);
	X509_REQ_free(req);
	return text;
}

/* Kinds whose checks cost little and are strong enough. */
static bool key_kind_good(const EVP_PKEY *key)
{
	char group[32] = "";

	if (EVP_PKEY_is_a(key, "ED25519"))
		return true;
	return EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) &&
	       strcmp(group, "prime256v1") == 0;
}

int pki_request_key(const char *pem, EVP_PKEY **key, char *why)
{
	X509_REQ *req = NULL;
	EVP_PKEY *found;
	BIO *bio;
	int err = -EINVAL;

	snprintf(why, PKI_WHY_MAX, "this is no certificate request");
	if (strlen(pem) > PKI_PEM_MAX)
		return -EINVAL;
	bio = BIO_new_mem_buf(pem, -1);
	req = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	found = req ? X509_REQ_get0_pubkey(req) : NULL;
	if (found && !key_kind_good(found)) {
		snprintf(why, PKI_WHY_MAX,
			 "the certificate request has a key that is neither EC P-256 nor Ed25519");
	} else if (found && X509_REQ_verify(req, found) != 1) {
		snprintf(why, PKI_WHY_MAX, "the certificate request is not signed by its key");
	} else if (found) {
		EVP_PKEY_up_ref(found);
		*key = found;
		err = 0;
	}
	X509_REQ_free(req);
	pki_errors_drop();
	return err;
}

int pki_cert_parse(const char *pem, X509 **cert, char *why)
{
	BIO *bio = strlen(pem) <= PKI_PEM_MAX ? BIO_new_mem_buf(pem, -1) : NULL;

	*cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	pki_errors_drop();
	if (*cert)
		return 0;
	snprintf(why, PKI_WHY_MAX, "this is no certificate");
	return -EINVAL;
}

static int time_seconds(const ASN1_TIME *time, int64_t *seconds)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days, rest, good = epoch && ASN1_TIME_diff(&days, &rest, epoch, time);

	ASN1_TIME_free(epoch);
	if (!good)
		return -EINVAL;
	*seconds = (int64_t)days * PKI_DAY_S + rest;
	return 0;
}

void pki_serial_text(const ASN1_INTEGER *serial, char text[PKI_SERIAL_MAX])
{
	uint64_t number = 0;

	/* One beyond 64 bits is none of ours, and finds nothing. */
	if (!ASN1_INTEGER_get_uint64(&number, serial))
		number = 0;
	snprintf(text, PKI_SERIAL_MAX, "%016llx", (unsigned long long)number);
	pki_errors_drop();
}

/* The one URI among the names; two would be ambiguous. */
static int uri_take(const GENERAL_NAMES *names, struct pki_identity *id)
{
	const ASN1_IA5STRING *uri = NULL;
	char text[PKI_URI_MAX];
	int len;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		if (uri)
			return -EINVAL;
		uri = name->d.uniformResourceIdentifier;
	}
	len = uri ? ASN1_STRING_length(uri) : 0;
	if (len <= 0 || len >= (int)sizeof(text))
		return -EINVAL;
	memcpy(text, ASN1_STRING_get0_data(uri), (size_t)len);
	text[len] = 0;
	/* A zero inside would hide what follows it. */
	return strlen(text) == (size_t)len ? pki_uri_parse(text, id) : -EINVAL;
}

int pki_cert_identity(X509 *cert, struct pki_identity *id)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int err = -EINVAL;

	memset(id, 0, sizeof(*id));
	pki_serial_text(X509_get0_serialNumber(cert), id->serial);
	if (time_seconds(X509_get0_notBefore(cert), &id->from_s) == 0 &&
	    time_seconds(X509_get0_notAfter(cert), &id->until_s) == 0 && names)
		err = uri_take(names, id);
	if (err) {
		id->role = PKI_NOBODY;
		id->name[0] = id->cluster[0] = 0;
	}
	GENERAL_NAMES_free(names);
	pki_errors_drop();
	return err;
}

void pki_cert_print(X509 *cert, char print[PKI_PRINT_MAX])
{
	uint8_t hash[32] = {0};

	X509_digest(cert, EVP_sha256(), hash, NULL);
	for (unsigned i = 0; i < sizeof(hash); i++)
		snprintf(print + (size_t)2 * i, 3, "%02x", hash[i]);
}
