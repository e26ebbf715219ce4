/* SPDX-License-Identifier: Apache-2.0 */
/* Roles, names, URIs, lifetimes and times as words. No I/O but for the clock. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pki/pki.h"

#define SCHEME "pangea://"

static const char *const role_names[PKI_ROLES] = {
	[PKI_NOBODY] = "nobody",
	[PKI_COORDINATOR] = "coordinator",
	[PKI_NODE] = "node",
	[PKI_OPERATOR] = "operator",
};

static const char *const verdict_names[PKI_VERDICTS] = {
	[PKI_GOOD] = "good",
	[PKI_STRANGER] = "without a certificate",
	[PKI_OTHER_CA] = "of another authority",
	[PKI_EXPIRED] = "expired",
	[PKI_NOT_YET] = "not yet valid",
	[PKI_REVOKED] = "revoked",
	[PKI_UNNAMED] = "without a role",
	[PKI_OTHER_ROLE] = "of another role or name",
	[PKI_TOKEN] = "with a bad join token",
	[PKI_PLAINTEXT] = "without TLS",
	[PKI_HANDSHAKE] = "lost in the TLS handshake",
};

const char *pki_role_name(enum pki_role role)
{
	return role < PKI_ROLES ? role_names[role] : "?";
}

const char *pki_verdict_name(enum pki_verdict verdict)
{
	return verdict < PKI_VERDICTS ? verdict_names[verdict] : "?";
}

int pki_role_parse(const char *text, enum pki_role *role)
{
	for (unsigned i = PKI_COORDINATOR; i < PKI_ROLES; i++) {
		if (strcmp(text, role_names[i]) == 0) {
			*role = (enum pki_role)i;
			return 0;
		}
	}
	return -EINVAL;
}

bool pki_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_MAX_LEN || name[0] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

bool pki_serial_valid(const char *text)
{
	return strlen(text) == PKI_SERIAL_MAX - 1 &&
	       strspn(text, "0123456789abcdef") == PKI_SERIAL_MAX - 1;
}

int pki_uri_format(const struct pki_identity *id, char uri[PKI_URI_MAX])
{
	if (!pki_name_valid(id->cluster) || !pki_name_valid(id->name) || id->role == PKI_NOBODY ||
	    id->role >= PKI_ROLES)
		return -EINVAL;
	snprintf(uri, PKI_URI_MAX, SCHEME "%s/%s/%s", id->cluster, role_names[id->role], id->name);
	return 0;
}

/* The piece up to a slash or the end; the next piece, or null. */
static const char *piece_take(const char *text, char piece[NAME_MAX_LEN + 1])
{
	size_t len = strcspn(text, "/");

	piece[0] = 0;
	if (len <= NAME_MAX_LEN) {
		memcpy(piece, text, len);
		piece[len] = 0;
	}
	return text[len] ? text + len + 1 : NULL;
}

int pki_uri_parse(const char *uri, struct pki_identity *id)
{
	char role[NAME_MAX_LEN + 1];
	const char *rest;

	if (strncmp(uri, SCHEME, strlen(SCHEME)) != 0)
		return -EINVAL;
	rest = piece_take(uri + strlen(SCHEME), id->cluster);
	rest = rest ? piece_take(rest, role) : NULL;
	if (!rest || piece_take(rest, id->name) || pki_role_parse(role, &id->role) < 0)
		return -EINVAL;
	return pki_name_valid(id->cluster) && pki_name_valid(id->name) ? 0 : -EINVAL;
}

int pki_span_parse(const char *text, int64_t max_s, int64_t *seconds)
{
	static const struct {
		char letter;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', PKI_DAY_S}};
	size_t digits = strspn(text, "0123456789");
	int64_t number = 0;

	if (digits == 0 || digits > 10 || !text[digits] || text[digits + 1])
		return -EINVAL;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (text[i] - '0');
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (text[digits] != units[i].letter)
			continue;
		*seconds = number * units[i].seconds;
		return number > 0 && *seconds <= max_s ? 0 : -ERANGE;
	}
	return -EINVAL;
}

int pki_time_parse(const char *text, int64_t *seconds)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

	if (!end || *end)
		return -EINVAL;
	*seconds = timegm(&tm);
	return *seconds > 0 ? 0 : -EINVAL;
}

void pki_time_format(int64_t seconds, char out[32])
{
	time_t at = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&at, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "%lld s", (long long)seconds);
}

int64_t pki_now_s(void)
{
	return (int64_t)time(NULL);
}
