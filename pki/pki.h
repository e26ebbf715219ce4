/* SPDX-License-Identifier: Apache-2.0 */
/* Who is who in a cluster: its certificate authority, certificates with a role and a name, join tokens. */
#ifndef PKI_PKI_H
#define PKI_PKI_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/*
 * A directory of certificates (mode 0700, files 0600), for a member of the cluster:
 *   ca.crt        the cluster's authority
 *   crl.pem       what it has revoked; may be missing: nothing
 *   ROLE.pem      this member's private key and its certificate, in one file so that they fit
 * and besides, for who holds the authority itself:
 *   ca.key        its private key
 *   issued/SERIAL.crt   all that it has signed
 *   tokens/ID           join tokens that were not used yet
 *   lock                one writer at a time
 * Every file is written whole or not at all. Certificates are EC P-256 and say who they are for by a URI:
 * pangea://CLUSTER/ROLE/NAME (RFC 5280, 4.2.1.6). Nothing here is for several threads at a time.
 *
 * Functions return 0, -errno, or what else they name, with a sentence in why (PKI_WHY_MAX bytes).
 */
#define PKI_WHY_MAX 384
/* Certificates, requests and lists in PEM; the list has room for some thousand revocations of what has not
 * expired. */
#define PKI_FILE_MAX (256u << 10)
#define PKI_PEM_MAX  4096u
/* 16 hexadecimal digits. */
#define PKI_SERIAL_MAX 17
#define PKI_URI_MAX    (9 + 3 * (NAME_MAX_LEN + 1) + 1)
/* A SHA-256 in hexadecimal digits. */
#define PKI_PRINT_MAX 65
#define PKI_PATH_MAX  4096

/* Lifetimes, in seconds: the longest, and what is given without a wish. */
#define PKI_DAY_S	 86400
#define PKI_SPAN_MAX_S	 ((int64_t)3650 * PKI_DAY_S)
#define PKI_NODE_SPAN_S	 ((int64_t)90 * PKI_DAY_S)
#define PKI_OTHER_SPAN_S ((int64_t)365 * PKI_DAY_S)
#define PKI_TOKEN_SPAN_S 3600
#define PKI_TOKEN_MAX_S	 ((int64_t)30 * PKI_DAY_S)
/* Tokens that wait to be used. */
#define PKI_TOKENS_MAX 256
/* Certificates begin this much earlier than now, for clocks that are a little behind; a short-lived one
 * a tenth of its life. */
#define PKI_BACKDATE_S 300

enum pki_role {
	PKI_NOBODY,
	PKI_COORDINATOR,
	PKI_NODE,
	PKI_OPERATOR,
	PKI_ROLES,
};

/* Why a peer is none of ours: refusals are counted by it. */
enum pki_verdict {
	PKI_GOOD,
	PKI_STRANGER, /* it shows no certificate */
	PKI_OTHER_CA, /* another authority's, or nobody's */
	PKI_EXPIRED,
	PKI_NOT_YET, /* valid later: somebody's clock is wrong */
	PKI_REVOKED,
	PKI_UNNAMED,	/* the authority's, but without a role and name of this cluster */
	PKI_OTHER_ROLE, /* one that may not do this */
	PKI_TOKEN,	/* its join token is no good */
	PKI_PLAINTEXT,	/* it speaks without TLS */
	PKI_HANDSHAKE,	/* no TLS 1.3 as we speak it */
	PKI_VERDICTS,
};

struct pki_identity {
	char cluster[NAME_MAX_LEN + 1];
	enum pki_role role;
	char name[NAME_MAX_LEN + 1];
	char serial[PKI_SERIAL_MAX];
	int64_t from_s, until_s; /* seconds since 1970 */
};

/* ---- words (pki_words.c) ---- */
/* "coordinator"; static storage. */
const char *pki_role_name(enum pki_role role);
/* Of the three roles that certificates have. 0 or -EINVAL. */
int pki_role_parse(const char *text, enum pki_role *role);
/* "revoked", "expired", ...: for counts; static storage. */
const char *pki_verdict_name(enum pki_verdict verdict);
/* As control_name_valid: [a-z0-9-]{1,63}, not beginning with '-'. */
bool pki_name_valid(const char *name);
/* 16 small hexadecimal digits. */
bool pki_serial_valid(const char *text);
/* cluster, role and name to and from their URI. 0 or -EINVAL. */
int pki_uri_format(const struct pki_identity *id, char uri[PKI_URI_MAX]);
int pki_uri_parse(const char *uri, struct pki_identity *id);
/* "90d", "12h", "30m", "45s" as seconds. 0, -EINVAL, or -ERANGE beyond max_s. */
int pki_span_parse(const char *text, int64_t max_s, int64_t *seconds);
/* "2026-11-30T06:00:00Z" to and from seconds since 1970. 0 or -EINVAL. */
int pki_time_parse(const char *text, int64_t *seconds);
void pki_time_format(int64_t seconds, char out[32]);
int64_t pki_now_s(void);

/* ---- files (pki_files.c) ---- */
/* Where certificates are if nothing is said: $PANGEA_PKI, /etc/pangea/pki for root, else $XDG_CONFIG_HOME/pangea/pki or
 * $HOME/.config/pangea/pki. 0, -ENOENT (no home) or -ENAMETOOLONG. */
int pki_dir_default(char dir[PKI_PATH_MAX]);
/* Makes the directory (and its parents) if it is not there; -EPERM: it is not this user's alone. */
int pki_dir_make(const char *dir, char *why);
/* DIR/NAME; -ENAMETOOLONG. */
int pki_path(const char *dir, const char *name, char path[PKI_PATH_MAX]);
/* Mode 0600, on disk when it returns; what was there stays until then. 0 or -errno. */
int pki_file_write(const char *path, const void *data, size_t len);
/* The same, but -EEXIST if there is one. */
int pki_file_create(const char *path, const void *data, size_t len);
/* All of a regular file and a zero; the caller frees it. secret: -EPERM when others can read it. Also
 * -EFBIG beyond PKI_FILE_MAX. */
int pki_file_read(const char *path, bool secret, char **text, size_t *len);
/* Changes whenever one of the directory's files does: for those who watch them. 0: there is none. */
uint64_t pki_dir_stamp(const char *dir, enum pki_role role);

/* ---- keys, requests, certificates (pki_cert.c) ---- */
EVP_PKEY *pki_key_new(void);
/* PEM texts; the caller frees them. Null without memory. */
char *pki_cert_pem(X509 *cert);
char *pki_request_new(EVP_PKEY *key);
/* The key of a certificate request, which must be signed by it and of a kind we take (EC P-256, Ed25519);
 * whatever else the request wishes is left out. 0, -EINVAL. */
int pki_request_key(const char *pem, EVP_PKEY **key, char *why);
/* One certificate of at most PKI_PEM_MAX characters. 0 or -EINVAL. */
int pki_cert_parse(const char *pem, X509 **cert, char *why);
/* What a certificate says of itself; it is not checked who signed it. 0 or -EINVAL. */
int pki_cert_identity(X509 *cert, struct pki_identity *id);
void pki_cert_print(X509 *cert, char print[PKI_PRINT_MAX]);

/* ---- a member's own (pki_member.c) ---- */
struct pki_member {
	X509 *ca;
	X509_CRL *crl; /* null: none */
	X509 *cert;    /* null: we only know the authority */
	EVP_PKEY *key;
	struct pki_identity self;
};

/* Reads the directory of certificates. Errors, each with a sentence: -ENOENT (no certificate for this role
 * there), -EPERM (others can read the key), -EINVAL (broken, or not for this role). One that is not valid
 * by time is loaded; see pki_member_time. */
int pki_member_load(const char *dir, enum pki_role role, struct pki_member **out, char *why);
/* One that knows the authority alone; takes a reference. Null without memory. */
struct pki_member *pki_member_of(X509 *ca);
void pki_member_free(struct pki_member *member);
/* Writes ca.crt if it is not there, and ROLE.pem. */
int pki_member_store(const char *dir, X509 *ca, EVP_PKEY *key, X509 *cert, char *why);
/* Takes a list of revocations that is the authority's and not older than the one that is there, and
 * writes it. 1: it is new; 0: nothing changed; -EINVAL: it is none. */
int pki_member_crl(const char *dir, struct pki_member *member, const char *pem, char *why);
/*
 * Judges a peer's certificate (null: it showed none) at this time. Its identity is filled in as far as it
 * can be believed: for PKI_GOOD, PKI_EXPIRED, PKI_NOT_YET and PKI_REVOKED. why begins with "its certificate"
 * or "no certificate" and says what mends it.
 */
enum pki_verdict pki_member_judge(const struct pki_member *member, X509 *cert, int64_t now_s,
				  struct pki_identity *id, char *why);
/* The same by time alone: PKI_GOOD, PKI_EXPIRED or PKI_NOT_YET. whose: "its" or "this program's". */
enum pki_verdict pki_time_judge(const struct pki_identity *id, int64_t now_s, const char *whose,
				char *why);
/* A third of its life is left, or less. */
bool pki_renewal_due(const struct pki_identity *id, int64_t now_s);

/* ---- the authority (pki_ca.c, pki_list.c) ---- */
struct pki_ca;

struct pki_wish {
	enum pki_role role;
	const char *name;
	int64_t span_s; /* 0: as usual for the role */
	int64_t from_s; /* 0: now */
	const char *const
		*hosts; /* names and addresses of a coordinator, null at the end; or null */
	X509 *like;	/* an old certificate of the same, whose names it takes over; or null */
};

/* Makes an authority in the directory; -EEXIST: there is one. */
int pki_ca_init(const char *dir, const char *cluster, char *why);
/* -ENOENT: there is none there. */
int pki_ca_open(const char *dir, struct pki_ca **out, char *why);
void pki_ca_free(struct pki_ca *ca);
X509 *pki_ca_cert(const struct pki_ca *ca);
const char *pki_ca_cluster(const struct pki_ca *ca);
/* Signs a certificate for this public key and keeps a copy. */
int pki_ca_sign(struct pki_ca *ca, EVP_PKEY *key, const struct pki_wish *wish, X509 **cert,
		char *why);
/* Makes a key and a certificate and stores them, with ca.crt and crl.pem, in the directory `out`. */
int pki_ca_issue(struct pki_ca *ca, const char *out, const struct pki_wish *wish,
		 struct pki_identity *id, char *why);
/* Revokes what has this serial number, or all that is valid for this name. *count: how many were not
 * revoked yet. -ENOENT: nothing was issued like that. */
int pki_ca_revoke(struct pki_ca *ca, const char *serial_or_name, unsigned *count, char *why);
bool pki_ca_revoked(struct pki_ca *ca, const char *serial);
/* The list of revocations in PEM; the caller frees it. */
int pki_ca_crl(struct pki_ca *ca, char **pem, char *why);
/* All that was issued, the oldest first; a file that is no certificate of ours is left out. */
typedef void pki_issued_fn(void *arg, const struct pki_identity *id, bool revoked);
int pki_ca_list(struct pki_ca *ca, pki_issued_fn *fn, void *arg, char *why);

/* ---- join tokens (pki_token.c) ---- */
#define PKI_TOKEN_TEXT_MAX 160

struct pki_token {
	char print[PKI_PRINT_MAX]; /* of the authority: who joins knows the coordinator by it */
	char id[17];
	char secret[33];
};

struct pki_grant {
	enum pki_role role;
	char name[NAME_MAX_LEN + 1]; /* "": who joins chooses */
	int64_t until_s;
};

/* Makes a token and keeps what it is good for, with a hash of its secret. -ENOSPC: too many wait. */
int pki_token_new(struct pki_ca *ca, const struct pki_grant *grant, char text[PKI_TOKEN_TEXT_MAX],
		  char *why);
int pki_token_parse(const char *text, struct pki_token *token);
/* Takes a token for good, whatever becomes of it: -EACCES, and a sentence for who tried, when it is
 * unknown, used, expired or its secret is wrong (a wrong secret burns nothing). */
int pki_token_burn(struct pki_ca *ca, const char *id, const char *secret, int64_t now_s,
		   struct pki_grant *grant, char *why);

#endif
