/* SPDX-License-Identifier: Apache-2.0 */
/* The TLS handshake of a connection: without waiting, and with a sentence for how it can fail. */
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "transport/proof.h"
#include "transport/tls_parts.h"

static struct tls_link *link_create(struct tls_context *context)
{
	struct tls_link *link = calloc(1, sizeof(*link));
	BIO *bio = link ? BIO_new(context->bio) : NULL;

	if (!bio || !(link->ssl = SSL_new(context->ctx))) {
		BIO_free(bio);
		free(link);
		ERR_clear_error();
		return NULL;
	}
	link->context = context;
	link->fd = -1;
	BIO_set_data(bio, link);
	BIO_set_init(bio, 1);
	SSL_set_bio(link->ssl, bio, bio);
	SSL_set_app_data(link->ssl, link);
	return link;
}

struct tls_link *tls_call(struct tls_context *context, const struct tls_ends *ends,
			  const uint8_t key[PAIR_KEY_SIZE])
{
	struct tls_link *link = link_create(context);

	if (!link)
		return NULL;
	link->ends = *ends;
	link->called = true;
	proof_tls_key(key, link->psk);
	tls_name_print(ends, link->name);
	/* Who answers with a certificate is believed by nobody. */
	SSL_set_verify(link->ssl, SSL_VERIFY_PEER, NULL);
	SSL_set_connect_state(link->ssl);
	return link;
}

struct tls_link *tls_answer(struct tls_context *context, const struct tls_callee *callee)
{
	struct tls_link *link = link_create(context);

	if (!link)
		return NULL;
	link->callee = *callee;
	SSL_set_accept_state(link->ssl);
	return link;
}

void tls_link_destroy(struct tls_link *link)
{
	if (!link)
		return;
	SSL_free(link->ssl);
	/* Keys, secrets, and pages of the guest. */
	pair_wipe(link, sizeof(*link));
	free(link);
}

const struct tls_ends *tls_ends(const struct tls_link *link)
{
	return &link->ends;
}

/* Why it failed, for who called and for who was called. */
static void failure_explain(const struct tls_link *link, char *why)
{
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_reason_error_string(code);

	if (link->why[0])
		snprintf(why, TLS_WHY_MAX, "%s", link->why);
	else if (link->error)
		snprintf(why, TLS_WHY_MAX, "it ended during the TLS handshake: %s",
			 link->error == -EPIPE ? "the other side closed the connection"
					       : error_text(link->error));
	else if (ERR_GET_REASON(code) == SSL_R_UNSUPPORTED_PROTOCOL)
		snprintf(why, TLS_WHY_MAX, "it speaks an older TLS than 1.3");
	else if (ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER)
		snprintf(why, TLS_WHY_MAX,
			 "it does not speak TLS (was it started with --plaintext-data?)");
	else if (!link->called && !link->named)
		snprintf(why, TLS_WHY_MAX, "it shows no key (TLS: %s)", reason ? reason : "failed");
	else if (!link->called)
		snprintf(why, TLS_WHY_MAX,
			 "it says to be slice %u and does not have its key (TLS: %s)",
			 link->ends.caller, reason ? reason : "failed");
	else
		snprintf(why, TLS_WHY_MAX,
			 "it and this slice do not have the same key (TLS: %s); its log says more",
			 reason ? reason : "failed");
}

static int handshake_fail(struct tls_link *link, int fd, char *why)
{
	int err = link->error ? -PANGEA_EPEERLOST : -PANGEA_EPEERVM;

	failure_explain(link, why);
	ERR_clear_error();
	(void)tls_flush(link, fd); /* its alert */
	return err;
}

/* By a key, and by nothing else. */
static bool handshake_right(const struct tls_link *link)
{
	return SSL_version(link->ssl) == TLS1_3_VERSION && SSL_session_reused(link->ssl) == 1 &&
	       (link->called || link->named);
}

int tls_handshake(struct tls_link *link, int fd, char *why)
{
	int done, err;

	ERR_clear_error();
	link->fd = fd;
	done = SSL_do_handshake(link->ssl);
	link->fd = -1;
	if (done != 1) {
		err = SSL_get_error(link->ssl, done);
		if (err != SSL_ERROR_WANT_READ || link->error || link->why[0])
			return handshake_fail(link, fd, why);
	}
	err = tls_flush(link, fd);
	if (err < 0 && err != -EAGAIN) {
		link->error = err;
		return handshake_fail(link, fd, why);
	}
	if (done != 1 || err)
		return -EAGAIN;
	pair_wipe(link->psk, sizeof(link->psk));
	if (handshake_right(link))
		return 0;
	snprintf(link->why, sizeof(link->why), "its TLS is not by a key of this VM");
	return handshake_fail(link, fd, why);
}
