/* SPDX-License-Identifier: Apache-2.0 */
/* Join tokens: what a new machine shows once to get its certificate. */
#include <dirent.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "pki/pki.h"
#include "pki/pki_internal.h"

/*
 * The text: pangea-join-1.PRINT.ID.SECRET, in hexadecimal digits. The file tokens/ID has one line
 *   HASH UNTIL ROLE NAME
 * where HASH is the SHA-256 of the secret (who reads the file cannot use it) and NAME may be "*". It is
 * used by removing it: of two who try, one succeeds.
 */
#define TOKEN_HEAD "pangea-join-1."

static int hex_draw(char *text, size_t bytes)
{
	uint8_t raw[32];

	if (RAND_bytes(raw, (int)bytes) != 1)
		return -EIO;
	for (size_t i = 0; i < bytes; i++)
		snprintf(text + 2 * i, 3, "%02x", raw[i]);
	OPENSSL_cleanse(raw, sizeof(raw));
	return 0;
}

static void secret_hash(const char *secret, char hash[PKI_PRINT_MAX])
{
	uint8_t raw[32] = {0};

	EVP_Digest(secret, strlen(secret), raw, NULL, EVP_sha256(), NULL);
	for (unsigned i = 0; i < sizeof(raw); i++)
		snprintf(hash + (size_t)2 * i, 3, "%02x", raw[i]);
}

static bool hex_is(const char *text, size_t digits)
{
	return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

/* So many digits and then this character; past both, or null. */
static const char *hex_take(const char *text, size_t digits, char end, char *out)
{
	if (strnlen(text, digits + 1) < digits || text[digits] != end)
		return NULL;
	memcpy(out, text, digits);
	out[digits] = 0;
	return hex_is(out, digits) ? text + digits + 1 : NULL;
}

int pki_token_parse(const char *text, struct pki_token *token)
{
	const char *at = text;

	if (strncmp(at, TOKEN_HEAD, strlen(TOKEN_HEAD)) != 0)
		return -EINVAL;
	at = hex_take(at + strlen(TOKEN_HEAD), sizeof(token->print) - 1, '.', token->print);
	at = at ? hex_take(at, sizeof(token->id) - 1, '.', token->id) : NULL;
	at = at ? hex_take(at, sizeof(token->secret) - 1, 0, token->secret) : NULL;
	return at ? 0 : -EINVAL;
}

static int token_path(const struct pki_ca *ca, const char *id, char path[PKI_PATH_MAX])
{
	char name[32];

	snprintf(name, sizeof(name), "tokens/%s", id);
	return pki_ca_path(ca, name, path);
}

/* One line of a token's file; false: it is none. */
static bool line_parse(const char *line, char hash[PKI_PRINT_MAX], struct pki_grant *grant)
{
	char role[16], name[NAME_MAX_LEN + 1], end;
	long long until;

	if (sscanf(line, "%64s %lld %15s %63s%c", hash, &until, role, name, &end) != 5 ||
	    end != '\n' || !hex_is(hash, PKI_PRINT_MAX - 1) ||
	    pki_role_parse(role, &grant->role) < 0)
		return false;
	grant->until_s = until;
	snprintf(grant->name, sizeof(grant->name), "%s", strcmp(name, "*") == 0 ? "" : name);
	return !grant->name[0] || pki_name_valid(grant->name);
}

static int line_read(const char *path, char hash[PKI_PRINT_MAX], struct pki_grant *grant)
{
	size_t len;
	char *text;
	int err = pki_file_read(path, true, &text, &len);

	if (err)
		return err;
	err = line_parse(text, hash, grant) ? 0 : -EINVAL;
	free(text);
	return err;
}

/* Those that have expired are of no use to anybody. */
static int tokens_tidy(struct pki_ca *ca, unsigned *left)
{
	char path[PKI_PATH_MAX], hash[PKI_PRINT_MAX];
	struct pki_grant grant;
	struct dirent *entry;
	DIR *dir;

	*left = 0;
	if (pki_ca_path(ca, "tokens", path) < 0 || !(dir = opendir(path)))
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		if (!hex_is(entry->d_name, 16) || token_path(ca, entry->d_name, path) < 0)
			continue;
		if (line_read(path, hash, &grant) < 0 || grant.until_s < pki_now_s())
			unlink(path);
		else
			(*left)++;
	}
	closedir(dir);
	return 0;
}

int pki_token_new(struct pki_ca *ca, const struct pki_grant *grant, char text[PKI_TOKEN_TEXT_MAX],
		  char *why)
{
	char path[PKI_PATH_MAX], hash[PKI_PRINT_MAX], line[256];
	struct pki_token token;
	unsigned waiting;
	int len, err = tokens_tidy(ca, &waiting);

	if (!err && waiting >= PKI_TOKENS_MAX) {
		snprintf(why, PKI_WHY_MAX,
			 "%u join tokens wait to be used: remove some of %.200s/tokens", waiting,
			 ca->dir);
		return -ENOSPC;
	}
	if (!err)
		err = hex_draw(token.id, 8);
	if (!err)
		err = hex_draw(token.secret, 16);
	if (!err)
		err = token_path(ca, token.id, path);
	if (!err) {
		secret_hash(token.secret, hash);
		len = snprintf(line, sizeof(line), "%s %lld %s %s\n", hash,
			       (long long)grant->until_s, pki_role_name(grant->role),
			       grant->name[0] ? grant->name : "*");
		err = pki_file_create(path, line, (size_t)len);
	}
	if (err) {
		snprintf(why, PKI_WHY_MAX, "cannot write into %.200s/tokens: %s", ca->dir,
			 error_text(err));
		return err;
	}
	pki_cert_print(ca->cert, token.print);
	snprintf(text, PKI_TOKEN_TEXT_MAX, TOKEN_HEAD "%s.%s.%s", token.print, token.id,
		 token.secret);
	return 0;
}

int pki_token_burn(struct pki_ca *ca, const char *id, const char *secret, int64_t now_s,
		   struct pki_grant *grant, char *why)
{
	char path[PKI_PATH_MAX], hash[PKI_PRINT_MAX], want[PKI_PRINT_MAX], at[32];

	snprintf(why, PKI_WHY_MAX,
		 "this join token is unknown or was used already: 'pangea pki token' gives a new "
		 "one");
	if (!hex_is(id, 16) || !hex_is(secret, 32) || token_path(ca, id, path) < 0 ||
	    line_read(path, want, grant) < 0)
		return -EACCES;
	secret_hash(secret, hash);
	/* No word on which half was wrong, and whoever guesses cannot use up other people's tokens. */
	if (CRYPTO_memcmp(hash, want, PKI_PRINT_MAX - 1) != 0)
		return -EACCES;
	if (unlink(path) < 0)
		return -EACCES;
	if (now_s <= grant->until_s)
		return 0;
	pki_time_format(grant->until_s, at);
	snprintf(why, PKI_WHY_MAX,
		 "this join token has expired at %s: 'pangea pki token' gives a new one", at);
	return -EACCES;
}
