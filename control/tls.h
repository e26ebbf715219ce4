/* SPDX-License-Identifier: Apache-2.0 */
/* TLS 1.3 between two sides of a control connection, over bytes in memory: no sockets, no waiting. */
#ifndef CONTROL_TLS_H
#define CONTROL_TLS_H

#include <assert.h>

#include "control/control.h"

static_assert(PKI_WHY_MAX == CONTROL_WHY_MAX, "sentences go from one to the other");

/*
 * A stream takes what came from the network (tls_stream_feed), gives what is to be sent there
 * (tls_stream_output), and between them the plain bytes of both sides. OpenSSL is behind it with memory
 * BIOs, so that the loop's own reads, writes, limits and deadlines stay the only ones.
 *
 * A client judges the server's certificate inside the handshake, and ends it by an alert. A server takes
 * every client to the end of the handshake: only then there is a way to tell it, alone, why it is refused.
 * No session is ever resumed, there is no early data, and no version but 1.3.
 */
struct tls_stream {
	SSL *ssl;
	BIO *in, *out; /* owned by ssl */
	const struct control_tls *tls;
	bool server;
	bool done; /* the handshake is; then the rest is known: */
	enum pki_verdict verdict;
	struct pki_identity peer; /* as far as the verdict lets it be believed */
	char why[PKI_WHY_MAX];	  /* of a verdict that is not good */
	X509 *joined_ca; /* for a side that joins: the authority with the token's fingerprint */
};

/* Null without memory. tls must outlive it. */
struct tls_stream *tls_stream_new(const struct control_tls *tls, bool server);
void tls_stream_free(struct tls_stream *stream);
/* Does this look like the first byte of TLS? No hello of ours in plaintext begins like that. */
bool tls_first_byte(uint8_t byte);
/* Bytes from the peer. 0 or -ENOMEM. */
int tls_stream_feed(struct tls_stream *stream, const void *data, size_t len);
/* Goes on with the handshake: 1 done, 0 more must come, -EKEYREJECTED (verdict and why say it). There may
 * be output whatever it returns. */
int tls_stream_handshake(struct tls_stream *stream);
/* After the handshake. Plain bytes: how many, 0 (more must come), -EPIPE (the peer ended in good order),
 * or -PANGEA_EPEERLOST with a sentence in stream->why. */
int tls_stream_read(struct tls_stream *stream, void *data, size_t room);
/* After the handshake: all of it, or -PANGEA_EPEERLOST. */
int tls_stream_write(struct tls_stream *stream, const void *data, size_t len);
/* Tells the peer that nothing more comes. */
void tls_stream_end(struct tls_stream *stream);
/* What is to be sent: its length, and with it a copy that the caller frees, or null without memory. */
size_t tls_stream_output(struct tls_stream *stream, uint8_t **data);
/* Judges the peer's certificate again, after a reload: the verdict, and its sentence in why. */
enum pki_verdict tls_stream_judge(const struct tls_stream *stream, char *why);

/* Judges in place of OpenSSL's own verification; of a context (SSL_CTX_set_cert_verify_callback). */
int tls_stream_verify(X509_STORE_CTX *ctx, void *arg);

/* ---- what a stream needs of its side (tls_context.c) ---- */
SSL *control_tls_ssl(const struct control_tls *tls);
/* Judges the server that one side meets before it has anything but a token. */
enum pki_verdict control_tls_join_judge(const struct control_tls *tls, X509 *cert,
					const STACK_OF(X509) * chain, struct pki_identity *id,
					X509 **ca, char *why);

#endif
