/* SPDX-License-Identifier: Apache-2.0 */
/* Join tokens: good once, for a while, for whom they name. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "tests/unit/pki/pki_rig.h"

static struct pki_token token_make(struct rig *rig, const struct pki_grant *grant)
{
	char text[PKI_TOKEN_TEXT_MAX];
	struct pki_token token;

	cr_assert_eq(pki_token_new(rig->ca, grant, text, rig->why), 0, "%s", rig->why);
	cr_assert_eq(pki_token_parse(text, &token), 0, "%s", text);
	return token;
}

Test(token, good_once)
{
	struct pki_grant grant = {.role = PKI_NODE, .name = "n", .until_s = pki_now_s() + 60}, got;
	struct pki_token token;
	char print[PKI_PRINT_MAX];
	struct rig rig;

	rig_open(&rig);
	token = token_make(&rig, &grant);
	pki_cert_print(pki_ca_cert(rig.ca), print);
	cr_expect_str_eq(token.print, print);
	cr_expect_eq(pki_token_burn(rig.ca, token.id, token.secret, pki_now_s(), &got, rig.why), 0);
	cr_expect(got.role == PKI_NODE && strcmp(got.name, "n") == 0);
	cr_expect_eq(pki_token_burn(rig.ca, token.id, token.secret, pki_now_s(), &got, rig.why),
		     -EACCES);
	cr_expect(strstr(rig.why, "was used already"), "%s", rig.why);
	rig_close(&rig);
}

Test(token, a_wrong_secret_burns_nothing)
{
	struct pki_grant grant = {.role = PKI_OPERATOR, .until_s = pki_now_s() + 60}, got;
	char wrong[33] = "00000000000000000000000000000000";
	struct pki_token token;
	struct rig rig;

	rig_open(&rig);
	token = token_make(&rig, &grant);
	cr_expect_eq(pki_token_burn(rig.ca, token.id, wrong, pki_now_s(), &got, rig.why), -EACCES);
	cr_expect_eq(pki_token_burn(rig.ca, token.id, "", pki_now_s(), &got, rig.why), -EACCES);
	cr_expect_eq(pki_token_burn(rig.ca, "../ca.key", token.secret, pki_now_s(), &got, rig.why),
		     -EACCES);
	cr_expect_eq(pki_token_burn(rig.ca, token.id, token.secret, pki_now_s(), &got, rig.why), 0);
	cr_expect_str_eq(got.name, "");
	rig_close(&rig);
}

Test(token, expires)
{
	struct pki_grant grant = {.role = PKI_NODE, .until_s = pki_now_s() + 60}, got;
	struct pki_token token;
	struct rig rig;

	rig_open(&rig);
	token = token_make(&rig, &grant);
	cr_expect_eq(
		pki_token_burn(rig.ca, token.id, token.secret, grant.until_s + 1, &got, rig.why),
		-EACCES);
	cr_expect(strstr(rig.why, "has expired at"), "%s", rig.why);
	/* And is gone for good, whatever the clock says next. */
	cr_expect_eq(pki_token_burn(rig.ca, token.id, token.secret, pki_now_s(), &got, rig.why),
		     -EACCES);
	rig_close(&rig);
}

Test(token, what_lies_on_disk_cannot_be_used)
{
	struct pki_grant grant = {.role = PKI_NODE, .until_s = pki_now_s() + 60};
	struct pki_token token;
	char path[160], *text;
	struct rig rig;
	size_t len;

	rig_open(&rig);
	token = token_make(&rig, &grant);
	snprintf(path, sizeof(path), "%s/tokens/%s", rig.dir, token.id);
	cr_assert_eq(pki_file_read(path, true, &text, &len), 0);
	cr_expect_null(strstr(text, token.secret));
	free(text);
	rig_close(&rig);
}

Test(token, texts_that_are_none)
{
	struct pki_grant grant = {.role = PKI_NODE, .until_s = pki_now_s() + 60};
	char text[PKI_TOKEN_TEXT_MAX + 1], cut[PKI_TOKEN_TEXT_MAX];
	struct pki_token token;
	struct rig rig;

	rig_open(&rig);
	cr_assert_eq(pki_token_new(rig.ca, &grant, text, rig.why), 0);
	for (size_t len = 0; len < strlen(text); len++) {
		memcpy(cut, text, len);
		cut[len] = 0;
		cr_expect_eq(pki_token_parse(cut, &token), -EINVAL, "%s", cut);
	}
	strcat(text, "0");
	cr_expect_eq(pki_token_parse(text, &token), -EINVAL);
	cr_expect_eq(pki_token_parse("pangea-join-2.x", &token), -EINVAL);
	rig_close(&rig);
}

Test(token, they_have_a_limit_and_the_old_ones_go)
{
	struct pki_grant grant = {.role = PKI_NODE, .until_s = pki_now_s() - 1};
	char text[PKI_TOKEN_TEXT_MAX];
	struct rig rig;

	rig_open(&rig);
	/* Expired ones do not count. */
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(pki_token_new(rig.ca, &grant, text, rig.why), 0);
	grant.until_s = pki_now_s() + 600;
	for (unsigned i = 0; i < PKI_TOKENS_MAX; i++)
		cr_assert_eq(pki_token_new(rig.ca, &grant, text, rig.why), 0, "%u: %s", i, rig.why);
	cr_expect_eq(pki_token_new(rig.ca, &grant, text, rig.why), -ENOSPC);
	rig_close(&rig);
}
