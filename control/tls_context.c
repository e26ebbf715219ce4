/* SPDX-License-Identifier: Apache-2.0 */
/* What one side's TLS connections show and believe: read from its directory, and read again. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/tls.h"

/* A certificate of ours and its authority's are 1.3 KiB together. */
#define CHAIN_BYTES_MAX 8192

struct control_tls {
	char dir[PKI_PATH_MAX];
	enum pki_role role; /* PKI_NOBODY: it joins */
	char print[PKI_PRINT_MAX];
	SSL_CTX *ctx;
	struct pki_member *member; /* null: it joins */
};

/* Everybody's certificate is asked for and judged by tls_stream.c; see there why a server goes on. */
static SSL_CTX *context_make(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());

	if (!ctx)
		return NULL;
	SSL_CTX_set_options(ctx,
			    SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_CLEANSE_PLAINTEXT);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_cert_list(ctx, CHAIN_BYTES_MAX);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, tls_stream_verify, NULL);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
	    SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) && SSL_CTX_set_num_tickets(ctx, 0))
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static int context_load(struct control_tls *tls, SSL_CTX **ctx, struct pki_member **member,
			char *why)
{
	int err = pki_member_load(tls->dir, tls->role, member, why);

	if (err)
		return err;
	*ctx = context_make();
	/* The authority goes along: who joins knows it by its fingerprint alone. */
	if (*ctx && SSL_CTX_use_certificate(*ctx, (*member)->cert) == 1 &&
	    SSL_CTX_use_PrivateKey(*ctx, (*member)->key) == 1 &&
	    (tls->role != PKI_COORDINATOR || SSL_CTX_add1_chain_cert(*ctx, (*member)->ca) == 1))
		return 0;
	snprintf(why, PKI_WHY_MAX, "TLS cannot use the certificate in %.200s", tls->dir);
	SSL_CTX_free(*ctx);
	pki_member_free(*member);
	return -EINVAL;
}

int control_tls_new(const char *dir, enum pki_role role, struct control_tls **out, char *why)
{
	struct control_tls *tls = calloc(1, sizeof(*tls));
	int err;

	if (!tls)
		return -ENOMEM;
	tls->role = role;
	snprintf(tls->dir, sizeof(tls->dir), "%s", dir);
	err = context_load(tls, &tls->ctx, &tls->member, why);
	if (err) {
		free(tls);
		return err;
	}
	*out = tls;
	return 0;
}

int control_tls_join(const char *print, struct control_tls **out)
{
	struct control_tls *tls = calloc(1, sizeof(*tls));

	if (!tls)
		return -ENOMEM;
	snprintf(tls->print, sizeof(tls->print), "%s", print);
	tls->ctx = context_make();
	if (!tls->ctx) {
		free(tls);
		return -ENOMEM;
	}
	*out = tls;
	return 0;
}

int control_tls_reload(struct control_tls *tls, char *why)
{
	struct pki_member *member;
	SSL_CTX *ctx;
	int err = context_load(tls, &ctx, &member, why);

	if (err)
		return err;
	/* Connections that stand keep their own reference to the old context. */
	SSL_CTX_free(tls->ctx);
	pki_member_free(tls->member);
	tls->ctx = ctx;
	tls->member = member;
	return 0;
}

void control_tls_free(struct control_tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->ctx);
	pki_member_free(tls->member);
	free(tls);
}

struct pki_member *control_tls_member(const struct control_tls *tls)
{
	return tls->member;
}

const char *control_tls_dir(const struct control_tls *tls)
{
	return tls->dir;
}

SSL *control_tls_ssl(const struct control_tls *tls)
{
	return SSL_new(tls->ctx);
}

enum pki_verdict control_tls_join_judge(const struct control_tls *tls, X509 *cert,
					const STACK_OF(X509) * chain, struct pki_identity *id,
					X509 **ca, char *why)
{
	char print[PKI_PRINT_MAX];
	struct pki_member *member;
	enum pki_verdict verdict;

	for (int i = 0; i < sk_X509_num(chain); i++) {
		X509 *one = sk_X509_value(chain, i);
		pki_cert_print(one, print);
		if (strcmp(print, tls->print) != 0)
			continue;
		member = pki_member_of(one);
		if (!member)
			return PKI_OTHER_CA;
		verdict = pki_member_judge(member, cert, pki_now_s(), id, why);
		if (verdict == PKI_GOOD && !*ca && X509_up_ref(one))
			*ca = one;
		pki_member_free(member);
		return verdict;
	}
	snprintf(why, PKI_WHY_MAX,
		 "its certificate is not of the authority that the join token names: this is "
		 "another cluster, or somebody in between");
	return PKI_OTHER_CA;
}
