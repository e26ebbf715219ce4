/* SPDX-License-Identifier: Apache-2.0 */
/* One TLS connection over bytes in memory: handshake, judgement, plain bytes in and out. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "control/tls.h"

bool tls_first_byte(uint8_t byte)
{
	/* change_cipher_spec to application_data (RFC 8446, 5.1) */
	return byte >= 20 && byte <= 23;
}

static void judge(struct tls_stream *stream, X509 *cert, const STACK_OF(X509) * chain)
{
	struct pki_member *member = control_tls_member(stream->tls);

	stream->verdict =
		member ? pki_member_judge(member, cert, pki_now_s(), &stream->peer, stream->why)
		       : control_tls_join_judge(stream->tls, cert, chain, &stream->peer,
						&stream->joined_ca, stream->why);
	if (stream->server || stream->verdict != PKI_GOOD || stream->peer.role == PKI_COORDINATOR)
		return;
	stream->verdict = PKI_OTHER_ROLE;
	snprintf(stream->why, sizeof(stream->why),
		 "its certificate is that of %s %s: nobody speaks for a coordinator who is none",
		 pki_role_name(stream->peer.role), stream->peer.name);
}

int tls_stream_verify(X509_STORE_CTX *ctx, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_stream *stream = SSL_get_app_data(ssl);

	(void)arg;
	judge(stream, X509_STORE_CTX_get0_cert(ctx), X509_STORE_CTX_get0_untrusted(ctx));
	if (stream->server || stream->verdict == PKI_GOOD) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	X509_STORE_CTX_set_error(ctx, stream->verdict == PKI_EXPIRED   ? X509_V_ERR_CERT_HAS_EXPIRED
				      : stream->verdict == PKI_REVOKED ? X509_V_ERR_CERT_REVOKED
								       : X509_V_ERR_CERT_UNTRUSTED);
	return 0;
}

struct tls_stream *tls_stream_new(const struct control_tls *tls, bool server)
{
	struct tls_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->tls = tls;
	stream->server = server;
	stream->verdict = PKI_STRANGER;
	stream->ssl = control_tls_ssl(tls);
	stream->in = BIO_new(BIO_s_mem());
	stream->out = BIO_new(BIO_s_mem());
	if (!stream->ssl || !stream->in || !stream->out) {
		BIO_free(stream->in);
		BIO_free(stream->out);
		SSL_free(stream->ssl);
		free(stream);
		return NULL;
	}
	/* An empty memory BIO says "later", not "the end". */
	BIO_set_mem_eof_return(stream->in, -1);
	BIO_set_mem_eof_return(stream->out, -1);
	SSL_set_bio(stream->ssl, stream->in, stream->out);
	SSL_set_app_data(stream->ssl, stream);
	if (server)
		SSL_set_accept_state(stream->ssl);
	else
		SSL_set_connect_state(stream->ssl);
	return stream;
}

void tls_stream_free(struct tls_stream *stream)
{
	if (!stream)
		return;
	SSL_free(stream->ssl);
	X509_free(stream->joined_ca);
	free(stream);
}

int tls_stream_feed(struct tls_stream *stream, const void *data, size_t len)
{
	size_t taken;

	if (len == 0)
		return 0;
	return BIO_write_ex(stream->in, data, len, &taken) && taken == len ? 0 : -ENOMEM;
}

/* OpenSSL's words for what went wrong last. */
static const char *reason_words(void)
{
	const char *words = ERR_reason_error_string(ERR_peek_last_error());

	return words ? words : "it broke off";
}

static int handshake_failed(struct tls_stream *stream)
{
	int reason = ERR_GET_REASON(ERR_peek_last_error());

	/* Our own judgement has its sentence already. */
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && stream->verdict != PKI_GOOD) {
		ERR_clear_error();
		return -EKEYREJECTED;
	}
	stream->verdict = PKI_HANDSHAKE;
	if (reason > SSL_AD_REASON_OFFSET)
		snprintf(stream->why, sizeof(stream->why),
			 "the other side ended the TLS handshake: %.100s", reason_words());
	else
		snprintf(stream->why, sizeof(stream->why),
			 "the TLS handshake failed: %.100s (only TLS 1.3 is spoken here)",
			 reason_words());
	ERR_clear_error();
	return -EKEYREJECTED;
}

int tls_stream_handshake(struct tls_stream *stream)
{
	int done;

	invariant(!stream->done);
	ERR_clear_error();
	done = SSL_do_handshake(stream->ssl);
	if (done != 1) {
		int error = SSL_get_error(stream->ssl, done);
		return error == SSL_ERROR_WANT_READ ? 0 : handshake_failed(stream);
	}
	/* A server's callback is not called for a client without a certificate. */
	if (!SSL_get0_peer_certificate(stream->ssl))
		judge(stream, NULL, NULL);
	stream->done = true;
	if (stream->server || stream->verdict == PKI_GOOD)
		return 1;
	return -EKEYREJECTED;
}

int tls_stream_read(struct tls_stream *stream, void *data, size_t room)
{
	size_t got;
	int error;

	ERR_clear_error();
	if (SSL_read_ex(stream->ssl, data, room, &got))
		return (int)got;
	error = SSL_get_error(stream->ssl, 0);
	if (error == SSL_ERROR_WANT_READ)
		return 0;
	if (error == SSL_ERROR_ZERO_RETURN)
		return -EPIPE;
	snprintf(stream->why, sizeof(stream->why), "the TLS connection broke: %.100s",
		 reason_words());
	ERR_clear_error();
	return -PANGEA_EPEERLOST;
}

int tls_stream_write(struct tls_stream *stream, const void *data, size_t len)
{
	size_t taken;

	ERR_clear_error();
	/* A memory BIO takes everything. */
	if (SSL_write_ex(stream->ssl, data, len, &taken) && taken == len)
		return 0;
	ERR_clear_error();
	return -PANGEA_EPEERLOST;
}

void tls_stream_end(struct tls_stream *stream)
{
	if (stream->done)
		SSL_shutdown(stream->ssl);
	ERR_clear_error();
}

size_t tls_stream_output(struct tls_stream *stream, uint8_t **data)
{
	size_t len = BIO_ctrl_pending(stream->out), got = 0;

	*data = NULL;
	if (len == 0)
		return 0;
	*data = malloc(len);
	if (*data && (!BIO_read_ex(stream->out, *data, len, &got) || got != len)) {
		free(*data);
		*data = NULL;
	}
	return len;
}

enum pki_verdict tls_stream_judge(const struct tls_stream *stream, char *why)
{
	struct pki_member *member = control_tls_member(stream->tls);
	struct pki_identity id;

	return member ? pki_member_judge(member, SSL_get0_peer_certificate(stream->ssl),
					 pki_now_s(), &id, why)
		      : PKI_GOOD;
}
