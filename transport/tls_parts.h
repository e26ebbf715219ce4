/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of TLS share; nobody else includes this. */
#ifndef TRANSPORT_TLS_PARTS_H
#define TRANSPORT_TLS_PARTS_H

#include <openssl/ssl.h>

#include "transport/tls_link.h"

/* Of SHA-256, as all our cipher suites. */
#define TLS_SECRET_SIZE 32u
/* "pangea vm=... epoch=... caller=... callee=...", all numbers in full. */
#define TLS_NAME_MAX 96

struct tls_context {
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	bool kernel;  /* to be tried */
	char why[96]; /* why not */
};

/* Bytes on their way between OpenSSL and the socket. */
struct tls_bytes {
	uint8_t bytes[TLS_PLAIN_MAX + 2 * TLS_RECORD_EXTRA];
	unsigned at, end;
};

struct tls_link {
	struct tls_context *context;
	SSL *ssl;
	struct tls_ends ends;
	struct tls_callee callee;   /* of an accepted connection */
	uint8_t psk[PAIR_KEY_SIZE]; /* of one that we made */
	char name[TLS_NAME_MAX];    /* the key's name, that we give */
	bool called, named;	    /* we made it; a caller has named a key */
	int fd;			    /* while the handshake reads from it, else -1 */
	unsigned handshake_bytes;
	int error; /* of the socket, within the handshake */
	uint8_t secrets
		[2][TLS_SECRET_SIZE]; /* the caller's, the callee's: until the kernel has them */
	bool secret_have[2];
	uint64_t records, rekey_records; /* sent by this key, and at most; 0: no limit */
	char why[TLS_WHY_MAX];		 /* what is wrong, where OpenSSL has no word for it */
	struct tls_bytes in, out;	 /* of the records, encrypted */
	uint8_t plain[TLS_PLAIN_MAX];	 /* one record, before it is */
};

/* tls_context.c: the link behind OpenSSL's object. */
struct tls_link *tls_link_of(const SSL *ssl);
/* tls_names.c: the key's name, and back. False: it is none. */
void tls_name_print(const struct tls_ends *ends, char name[TLS_NAME_MAX]);
bool tls_name_parse(const unsigned char *name, size_t len, struct tls_ends *ends);

#endif
