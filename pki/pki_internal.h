/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of pki/ share; nobody else includes this. */
#ifndef PKI_PKI_INTERNAL_H
#define PKI_PKI_INTERNAL_H

#include <openssl/err.h>
#include <openssl/x509.h>

#include "pki/pki.h"

struct pki_ca {
	char dir[PKI_PATH_MAX];
	char cluster[NAME_MAX_LEN + 1];
	X509 *cert;
	EVP_PKEY *key;
};

/* OpenSSL keeps errors for a thread, where TLS would find what was somebody else's. */
static inline void pki_errors_drop(void)
{
	ERR_clear_error();
}

/* The text in a memory BIO, which it frees; the caller frees the text. */
char *pki_bio_text(BIO *bio);
void pki_serial_text(const ASN1_INTEGER *serial, char text[PKI_SERIAL_MAX]);
/* The authority's name for the cluster, from its certificate's common name. 0 or -EINVAL. */
int pki_ca_name(X509 *ca, char cluster[NAME_MAX_LEN + 1]);
/* A list of revocations that this authority has signed; null: it is none, and why says so. */
X509_CRL *pki_crl_parse(const char *pem, X509 *ca, char *why);
int pki_crl_number(X509_CRL *crl, uint64_t *number);
bool pki_crl_has(X509_CRL *crl, X509 *cert);
/* Held while something of the authority's directory is read and written again: a descriptor to close, or
 * -errno. Waits for others, who hold it for milliseconds, up to some seconds. */
int pki_ca_lock(const struct pki_ca *ca, char *why);
/* DIR/NAME of the authority's. */
int pki_ca_path(const struct pki_ca *ca, const char *name, char path[PKI_PATH_MAX]);

#endif
