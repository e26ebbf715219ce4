/* SPDX-License-Identifier: Apache-2.0 */
/* What TLS is allowed to be here: version 1.3, by a key of the pair, nothing else; and whose key it is. */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/proof.h"
#include "transport/tls_parts.h"

/* RFC 8446, B.4: of the suites with SHA-256, which the keys are for. */
#define AES_128_GCM "TLS_AES_128_GCM_SHA256"
#define CHACHA20    "TLS_CHACHA20_POLY1305_SHA256"

struct tls_link *tls_link_of(const SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

/* A session that was never held: its secret is the key. NULL: no memory. */
static SSL_SESSION *session_of(SSL *ssl, const uint8_t psk[PAIR_KEY_SIZE])
{
	static const unsigned char suite[] = {0x13, 0x01};
	SSL_SESSION *session = SSL_SESSION_new();

	if (session && SSL_SESSION_set1_master_key(session, psk, PAIR_KEY_SIZE) == 1 &&
	    SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, suite)) == 1 &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

/* The caller's side: our key, and its name. */
static int on_use_session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
			  SSL_SESSION **session)
{
	struct tls_link *link = tls_link_of(ssl);

	(void)md;
	*session = session_of(ssl, link->psk);
	*id = (const unsigned char *)link->name;
	*id_len = strlen(link->name);
	return *session != NULL;
}

/* The callee's side: whose key is that? */
static int on_find_session(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
	struct tls_link *link = tls_link_of(ssl);
	const uint8_t *key = NULL;
	uint8_t psk[PAIR_KEY_SIZE];

	link->named = true;
	if (!tls_name_parse(id, id_len, &link->ends))
		snprintf(link->why, sizeof(link->why), "its key has no name that a slice gives");
	else
		key = link->callee.key(link->callee.ctx, &link->ends, link->why);
	if (!key)
		return 0;
	proof_tls_key(key, psk);
	*session = session_of(ssl, psk);
	pair_wipe(psk, sizeof(psk));
	return *session != NULL;
}

static bool hex_read(const char *text, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned byte;

		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return false;
		out[i] = (uint8_t)byte;
	}
	return true;
}

/* The secrets of the records to come: "LABEL client-random secret", where the kernel wants them. */
static void on_secret(const SSL *ssl, const char *line)
{
	static const char *const labels[2] = {"CLIENT_TRAFFIC_SECRET_0 ",
					      "SERVER_TRAFFIC_SECRET_0 "};
	struct tls_link *link = tls_link_of(ssl);
	const char *secret = strrchr(line, ' ');

	for (int i = 0; i < 2 && secret; i++)
		if (strncmp(line, labels[i], strlen(labels[i])) == 0 &&
		    strlen(secret + 1) == 2 * (size_t)TLS_SECRET_SIZE)
			link->secret_have[i] =
				hex_read(secret + 1, link->secrets[i], TLS_SECRET_SIZE);
}

/*
 * The handshake reads no byte too much: what follows it may be the kernel's. Afterwards records come
 * from what was read ahead.
 */
static int bio_read(BIO *bio, char *to, size_t len, size_t *got)
{
	struct tls_link *link = BIO_get_data(bio);
	struct tls_bytes *in = &link->in;
	ssize_t n;

	BIO_clear_retry_flags(bio);
	if (link->fd < 0) {
		*got = in->end - in->at < len ? in->end - in->at : len;
		memcpy(to, in->bytes + in->at, *got);
		in->at += (unsigned)*got;
		if (*got == 0)
			BIO_set_retry_read(bio);
		return *got > 0;
	}
	n = recv(link->fd, to, len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		BIO_set_retry_read(bio);
		return 0;
	}
	link->error = n < 0 ? -errno : n == 0 ? -EPIPE : 0;
	if (n <= 0)
		return 0;
	link->handshake_bytes += (unsigned)n;
	if (link->handshake_bytes > TLS_HANDSHAKE_MAX) {
		snprintf(link->why, sizeof(link->why), "its handshake is longer than %u bytes",
			 TLS_HANDSHAKE_MAX);
		return 0;
	}
	*got = (size_t)n;
	return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *put)
{
	struct tls_link *link = BIO_get_data(bio);
	struct tls_bytes *out = &link->out;

	BIO_clear_retry_flags(bio);
	/* There is room for a record more than is ever made before the last has gone. */
	if (len > sizeof(out->bytes) - out->end)
		return 0;
	memcpy(out->bytes + out->end, from, len);
	out->end += (unsigned)len;
	*put = len;
	return 1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *at)
{
	(void)bio;
	(void)number;
	(void)at;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method_make(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pangea");

	if (method && BIO_meth_set_read_ex(method, bio_read) == 1 &&
	    BIO_meth_set_write_ex(method, bio_write) == 1 &&
	    BIO_meth_set_ctrl(method, bio_ctrl) == 1)
		return method;
	BIO_meth_free(method);
	return NULL;
}

/* A processor without AES instructions is three times as fast with the other suite. */
static const char *suites(void)
{
	return __builtin_cpu_supports("aes") ? AES_128_GCM ":" CHACHA20 : CHACHA20 ":" AES_128_GCM;
}

/* No certificate, ticket, early data, other version or suite: there is one way, or none. */
static bool context_restrict(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_quiet_shutdown(ctx, 1);
	SSL_CTX_set_psk_use_session_callback(ctx, on_use_session);
	SSL_CTX_set_psk_find_session_callback(ctx, on_find_session);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
	       SSL_CTX_set_ciphersuites(ctx, suites()) == 1 &&
	       SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_max_early_data(ctx, 0) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, "X25519") == 1;
}

int tls_context_create(struct tls_context **out)
{
	struct tls_context *context = calloc(1, sizeof(*context));
	int err = -ENOMEM;

	/* The host's openssl.cnf is for programs that speak to the world. */
	if (!context || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		goto fail;
	context->ctx = SSL_CTX_new(TLS_method());
	context->bio = bio_method_make();
	if (!context->ctx || !context->bio)
		goto fail;
	err = -EIO;
	if (!context_restrict(context->ctx))
		goto fail;
	context->kernel = true;
	SSL_CTX_set_keylog_callback(context->ctx, on_secret);
	*out = context;
	return 0;
fail:
	ERR_clear_error();
	tls_context_destroy(context);
	return err;
}

void tls_context_destroy(struct tls_context *context)
{
	if (!context)
		return;
	SSL_CTX_free(context->ctx);
	BIO_meth_free(context->bio);
	free(context);
}

const char *tls_kernel_why(const struct tls_context *context)
{
	return context->why;
}

void tls_kernel_refuse(struct tls_context *context, const char *why)
{
	context->kernel = false;
	SSL_CTX_set_keylog_callback(context->ctx, NULL);
	snprintf(context->why, sizeof(context->why), "%s", why);
}
