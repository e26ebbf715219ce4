/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what pki/ reads: join tokens, identities, requests, certificates, lists of revocations. */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pki/pki_internal.h"
#include "tests/fuzz/fuzz.h"

/* An authority whose key nobody has. */
static const char authority[] = "-----BEGIN CERTIFICATE-----\n"
				"MIIBpDCCAUmgAwIBAgIIepR4/WYfKakwCgYIKoZIzj0EAwIwNDEPMA0GA1UECgwG\n"
				"cGFuZ2VhMRIwEAYDVQQLDAlhdXRob3JpdHkxDTALBgNVBAMMBGZ1enowHhcNMjYx\n"
				"MTI5MDcyNjExWhcNMzYxMTI3MDcyNjExWjA0MQ8wDQYDVQQKDAZwYW5nZWExEjAQ\n"
				"BgNVBAsMCWF1dGhvcml0eTENMAsGA1UEAwwEZnV6ejBZMBMGByqGSM49AgEGCCqG\n"
				"SM49AwEHA0IABJkgh3FJH+9bIorXLtUe7BtUlz0K0KNfSUrHSMKFXL7LRjf3SSrv\n"
				"iO/k/R6BdcThfnx2xks/dPs2jUJWi3CgR+OjRTBDMBIGA1UdEwEB/wQIMAYBAf8C\n"
				"AQAwDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBTGZS4pk6gXq0y506jZI6zJV3JP\n"
				"0zAKBggqhkjOPQQDAgNJADBGAiEAxcliXzVAdjBOcJ5ULjNJj+6WGlIkD89qDlBO\n"
				"/55WcJcCIQDWFbOV/s6F/dV3pBVh7C4oZJWqZ0mpM2vQWMAIucuaeQ==\n"
				"-----END CERTIFICATE-----\n";

static void token_read(const char *text)
{
	struct pki_token token;

	if (pki_token_parse(text, &token) < 0)
		return;
	invariant(strlen(token.print) == PKI_PRINT_MAX - 1 && strlen(token.id) == 16 &&
		  strlen(token.secret) == 32);
}

/* What is read must be written the same. */
static void uri_read(const char *text)
{
	struct pki_identity id = {0};
	char uri[PKI_URI_MAX];

	if (pki_uri_parse(text, &id) < 0)
		return;
	invariant(pki_uri_format(&id, uri) == 0 && strcmp(uri, text) == 0);
}

static void request_read(const char *text)
{
	char why[PKI_WHY_MAX];
	EVP_PKEY *key;

	if (pki_request_key(text, &key, why) == 0)
		EVP_PKEY_free(key);
}

static void certificate_read(const char *text, const struct pki_member *member)
{
	char why[PKI_WHY_MAX], print[PKI_PRINT_MAX];
	struct pki_identity id;
	X509 *cert;

	if (pki_cert_parse(text, &cert, why) < 0)
		return;
	pki_cert_print(cert, print);
	if (pki_cert_identity(cert, &id) == 0)
		invariant(pki_name_valid(id.name) && pki_name_valid(id.cluster));
	/* Nobody has the key: only what it once signed may be believed. */
	if (pki_member_judge(member, cert, 0, &id, why) == PKI_GOOD)
		invariant(strcmp(id.cluster, "fuzz") == 0);
	X509_free(cert);
}

static void list_read(const char *text, const struct pki_member *member)
{
	char why[PKI_WHY_MAX];
	uint64_t number;
	X509_CRL *crl = pki_crl_parse(text, member->ca, why);

	if (!crl)
		return;
	pki_crl_number(crl, &number);
	pki_crl_has(crl, member->ca);
	X509_CRL_free(crl);
}

static void words_read(const char *text)
{
	int64_t seconds;
	enum pki_role role;

	if (pki_span_parse(text, PKI_SPAN_MAX_S, &seconds) == 0)
		invariant(seconds > 0 && seconds <= PKI_SPAN_MAX_S);
	pki_time_parse(text, &seconds);
	pki_role_parse(text, &role);
	pki_serial_valid(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pki_member *member;
	struct fuzz_input in = {data, data + size};
	unsigned kind = fuzz_byte(&in);
	size_t len = (size_t)(in.end - in.at);
	char why[PKI_WHY_MAX], *text = calloc(1, len + 1);
	X509 *ca;

	if (!member && pki_cert_parse(authority, &ca, why) == 0) {
		member = pki_member_of(ca);
		X509_free(ca);
	}
	invariant(member && text);
	if (len)
		memcpy(text, in.at, len);
	switch (kind % 6) {
	case 0:
		token_read(text);
		break;
	case 1:
		uri_read(text);
		break;
	case 2:
		request_read(text);
		break;
	case 3:
		certificate_read(text, member);
		break;
	case 4:
		list_read(text, member);
		break;
	default:
		words_read(text);
		break;
	}
	free(text);
	return 0;
}
