/* SPDX-License-Identifier: Apache-2.0 */
/* The authority and its certificates: made, judged, revoked, renewed; files that are broken or not ours. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "tests/unit/pki/pki_rig.h"

#define NODE_WISH(n) (&(struct pki_wish){.role = PKI_NODE, .name = (n)})

static struct pki_member *member_of(struct rig *rig, const char *dir, enum pki_role role)
{
	struct pki_member *member;

	cr_assert_eq(pki_member_load(dir, role, &member, rig->why), 0, "%s", rig->why);
	return member;
}

Test(pki, words)
{
	struct pki_identity id = {.cluster = "c", .role = PKI_NODE, .name = "n-1"}, back;
	char uri[PKI_URI_MAX], at[32];
	int64_t seconds;

	cr_assert_eq(pki_uri_format(&id, uri), 0);
	cr_expect_str_eq(uri, "pangea://c/node/n-1");
	cr_assert_eq(pki_uri_parse(uri, &back), 0);
	cr_expect(strcmp(back.cluster, "c") == 0 && back.role == PKI_NODE &&
		  strcmp(back.name, "n-1") == 0);
	static const char *const bad[] = {"",
					  "pangea://",
					  "pangea://c/node",
					  "pangea://c/node/",
					  "pangea://c/king/n",
					  "pangea://c/nobody/n",
					  "pangea://c/node/n/x",
					  "pangea://C/node/n",
					  "http://c/node/n",
					  "pangea://c/node/n/",
					  "pangea:///node/n",
					  "pangea://c//n",
					  "pangea://c/node/-n"};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(pki_uri_parse(bad[i], &back), -EINVAL, "%s", bad[i]);
	cr_expect_eq(pki_span_parse("90d", PKI_SPAN_MAX_S, &seconds), 0);
	cr_expect_eq(seconds, 90 * 86400);
	cr_expect_eq(pki_span_parse("3651d", PKI_SPAN_MAX_S, &seconds), -ERANGE);
	cr_expect_eq(pki_span_parse("0s", PKI_SPAN_MAX_S, &seconds), -ERANGE);
	static const char *const spans[] = {"", "9", "d", "9w", "9dd", "-9d", "99999999999s"};
	for (unsigned i = 0; i < sizeof(spans) / sizeof(spans[0]); i++)
		cr_expect_eq(pki_span_parse(spans[i], PKI_SPAN_MAX_S, &seconds), -EINVAL, "%s",
			     spans[i]);
	cr_assert_eq(pki_time_parse("2026-11-30T06:00:00Z", &seconds), 0);
	pki_time_format(seconds, at);
	cr_expect_str_eq(at, "2026-11-30T06:00:00Z");
	cr_expect_eq(pki_time_parse("2026-11-30", &seconds), -EINVAL);
}

Test(pki, an_authority_is_made_once)
{
	struct rig rig;
	struct stat st;
	char path[128];

	rig_open(&rig);
	cr_expect_eq(pki_ca_init(rig.dir, "cluster-1", rig.why), -EEXIST);
	cr_expect(strstr(rig.why, "belongs to a cluster already"), "%s", rig.why);
	cr_expect_eq(pki_ca_init(rig.top, "No Name", rig.why), -EINVAL);
	static const char *const names[] = {"ca.key", "ca.crt", "crl.pem"};
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", rig.dir, names[i]);
		cr_assert_eq(stat(path, &st), 0);
		cr_expect_eq(st.st_mode & 0777, 0600);
	}
	cr_assert_eq(stat(rig.dir, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0700);
	rig_close(&rig);
}

Test(pki, a_certificate_says_who_it_is_for)
{
	const char *const hosts[] = {"one.example", "192.0.2.1", "2001:db8::1", NULL};
	struct pki_wish wish = {.role = PKI_COORDINATOR, .name = "c0", .hosts = hosts};
	struct pki_identity id;
	struct pki_member *member;
	struct rig rig;

	rig_open(&rig);
	const char *dir = rig_issue(&rig, "c0", &wish, &id);
	member = member_of(&rig, dir, PKI_COORDINATOR);
	cr_expect_str_eq(member->self.cluster, "cluster-1");
	cr_expect_str_eq(member->self.name, "c0");
	cr_expect_str_eq(member->self.serial, id.serial);
	cr_expect_eq(member->self.until_s - member->self.from_s, PKI_OTHER_SPAN_S);
	cr_expect_eq(X509_check_host(member->cert, "one.example", 0, 0, NULL), 1);
	cr_expect_eq(X509_check_ip_asc(member->cert, "2001:db8::1", 0), 1);
	cr_expect_eq(X509_check_host(member->cert, "two.example", 0, 0, NULL), 0);
	/* Renewed, it keeps the hosts. */
	struct pki_wish again = {.role = PKI_COORDINATOR, .name = "c0", .like = member->cert};
	dir = rig_issue(&rig, "c0", &again, &id);
	pki_member_free(member);
	member = member_of(&rig, dir, PKI_COORDINATOR);
	cr_expect_eq(X509_check_host(member->cert, "one.example", 0, 0, NULL), 1);
	pki_member_free(member);
	/* What would end a name and begin another is none. */
	static const char *const bad[] = {"a,URI:pangea://cluster-1/operator/x", "a b", "@sect", "",
					  "1.2.3"};
	for (unsigned i = 0; i < 5; i++) {
		const char *const one[] = {bad[i], NULL};
		wish.hosts = one;
		cr_expect_lt(pki_ca_issue(rig.ca, rig.top, &wish, &id, rig.why), 0, "%s", bad[i]);
	}
	rig_close(&rig);
}

Test(pki, judgements)
{
	struct pki_identity id, node;
	struct pki_member *own, *other;
	int64_t now_s = pki_now_s();
	struct rig rig, foreign;

	rig_open(&rig);
	rig_open(&foreign);
	own = member_of(&rig, rig_issue(&rig, "a", NODE_WISH("a"), &node), PKI_NODE);
	other = member_of(&foreign, rig_issue(&foreign, "a", NODE_WISH("a"), &id), PKI_NODE);
	cr_expect_eq(pki_member_judge(own, own->cert, now_s, &id, rig.why), PKI_GOOD);
	cr_expect_str_eq(id.name, "a");
	cr_expect_eq(pki_member_judge(own, NULL, now_s, &id, rig.why), PKI_STRANGER);
	/* Another authority of the same name and cluster is another one. */
	cr_expect_eq(pki_member_judge(own, other->cert, now_s, &id, rig.why), PKI_OTHER_CA);
	cr_expect_eq(id.role, PKI_NOBODY);
	/* The authority itself is nobody. */
	cr_expect_neq(pki_member_judge(own, own->ca, now_s, &id, rig.why), PKI_GOOD);
	cr_expect_eq(pki_member_judge(own, own->cert, node.until_s + 1, &id, rig.why), PKI_EXPIRED);
	cr_expect(strstr(rig.why, "has expired: it was valid until"), "%s", rig.why);
	cr_expect_eq(pki_member_judge(own, own->cert, node.until_s, &id, rig.why), PKI_GOOD);
	cr_expect_eq(pki_member_judge(own, own->cert, node.from_s, &id, rig.why), PKI_GOOD);
	cr_expect_eq(pki_member_judge(own, own->cert, node.from_s - 1, &id, rig.why), PKI_NOT_YET);
	cr_expect(strstr(rig.why, "this clock says") && strstr(rig.why, "set the clock"), "%s",
		  rig.why);
	pki_member_free(own);
	pki_member_free(other);
	rig_close(&rig);
	rig_close(&foreign);
}

static void count(void *arg, const struct pki_identity *id, bool revoked)
{
	unsigned *counts = arg;

	(void)id;
	counts[revoked]++;
}

Test(pki, revocations)
{
	unsigned revoked, counts[2] = {0};
	struct pki_identity a, b, id;
	struct pki_member *member;
	char dir[160], *crl, *old;
	struct rig rig;

	rig_open(&rig);
	snprintf(dir, sizeof(dir), "%s", rig_issue(&rig, "a", NODE_WISH("a"), &a));
	rig_issue(&rig, "b", NODE_WISH("b"), &b);
	rig_issue(&rig, "b", NODE_WISH("b"), &b);
	cr_assert_eq(pki_ca_crl(rig.ca, &old, rig.why), 0);
	cr_expect_eq(pki_ca_revoke(rig.ca, "c", &revoked, rig.why), -ENOENT);
	cr_expect_eq(pki_ca_revoke(rig.ca, a.serial, &revoked, rig.why), 0);
	cr_expect_eq(revoked, 1);
	cr_expect_eq(pki_ca_revoke(rig.ca, a.serial, &revoked, rig.why), 0);
	cr_expect_eq(revoked, 0);
	cr_expect_eq(pki_ca_revoke(rig.ca, "b", &revoked, rig.why), 0);
	cr_expect_eq(revoked, 2);
	cr_expect(pki_ca_revoked(rig.ca, a.serial));
	cr_expect_eq(pki_ca_list(rig.ca, count, counts, rig.why), 0);
	cr_expect(counts[0] == 0 && counts[1] == 3);
	/* A member learns it, and does not forget it again. */
	member = member_of(&rig, dir, PKI_NODE);
	cr_expect_eq(pki_member_judge(member, member->cert, pki_now_s(), &id, rig.why), PKI_GOOD);
	cr_assert_eq(pki_ca_crl(rig.ca, &crl, rig.why), 0);
	cr_expect_eq(pki_member_crl(dir, member, crl, rig.why), 1);
	cr_expect_eq(pki_member_judge(member, member->cert, pki_now_s(), &id, rig.why),
		     PKI_REVOKED);
	cr_expect(strstr(rig.why, a.serial), "%s", rig.why);
	cr_expect_eq(pki_member_crl(dir, member, crl, rig.why), 0);
	cr_expect_eq(pki_member_crl(dir, member, old, rig.why), 0);
	cr_expect_eq(pki_member_crl(dir, member, "nonsense", rig.why), -EINVAL);
	pki_member_free(member);
	member = member_of(&rig, dir, PKI_NODE);
	cr_expect_eq(pki_member_judge(member, member->cert, pki_now_s(), &id, rig.why),
		     PKI_REVOKED);
	pki_member_free(member);
	free(crl);
	free(old);
	rig_close(&rig);
}

/* The list does not grow for ever: what has expired leaves it, and is refused for that. */
Test(pki, what_has_expired_leaves_the_list)
{
	struct pki_wish old = {.role = PKI_NODE, .name = "old", .span_s = 1000};
	struct pki_identity gone, b;
	unsigned count;
	struct rig rig;

	rig_open(&rig);
	old.from_s = pki_now_s() - 3 * PKI_DAY_S;
	rig_issue(&rig, "old", &old, &gone);
	rig_issue(&rig, "b", NODE_WISH("b"), &b);
	cr_assert_eq(pki_ca_revoke(rig.ca, "old", &count, rig.why), 0);
	cr_expect(pki_ca_revoked(rig.ca, gone.serial));
	cr_assert_eq(pki_ca_revoke(rig.ca, "b", &count, rig.why), 0);
	cr_expect_not(pki_ca_revoked(rig.ca, gone.serial));
	cr_expect(pki_ca_revoked(rig.ca, b.serial));
	rig_close(&rig);
}

Test(pki, nothing_outlives_the_authority)
{
	struct pki_wish wish = {.role = PKI_NODE, .name = "n", .span_s = PKI_SPAN_MAX_S};
	struct pki_identity id, root;
	struct rig rig;

	rig_open(&rig);
	wish.from_s = pki_now_s() + 100 * PKI_DAY_S;
	rig_issue(&rig, "n", &wish, &id);
	pki_cert_identity(pki_ca_cert(rig.ca), &root);
	cr_expect_eq(id.until_s, root.until_s);
	rig_close(&rig);
}

Test(pki, another_authoritys_list_is_none)
{
	struct pki_member *member;
	struct pki_identity id;
	struct rig rig, foreign;
	char *crl;

	rig_open(&rig);
	rig_open(&foreign);
	const char *dir = rig_issue(&rig, "a", NODE_WISH("a"), &id);
	member = member_of(&rig, dir, PKI_NODE);
	cr_assert_eq(pki_ca_crl(foreign.ca, &crl, rig.why), 0);
	cr_expect_eq(pki_member_crl(dir, member, crl, rig.why), -EINVAL);
	free(crl);
	pki_member_free(member);
	rig_close(&rig);
	rig_close(&foreign);
}

Test(pki, files_that_are_no_good)
{
	struct pki_member *member;
	struct pki_identity id;
	char dir[160], path[200];
	struct rig rig;

	rig_open(&rig);
	snprintf(dir, sizeof(dir), "%s", rig_issue(&rig, "a", NODE_WISH("a"), &id));
	snprintf(path, sizeof(path), "%s/node.pem", dir);
	cr_expect_eq(pki_member_load(dir, PKI_OPERATOR, &member, rig.why), -ENOENT);
	/* A node's certificate under the name of an operator's. */
	char other[200];
	snprintf(other, sizeof(other), "%s/operator.pem", dir);
	cr_assert_eq(link(path, other), 0);
	cr_expect_eq(pki_member_load(dir, PKI_OPERATOR, &member, rig.why), -EINVAL);
	cr_expect(strstr(rig.why, "node a, of no operator"), "%s", rig.why);
	chmod(path, 0644);
	cr_expect_eq(pki_member_load(dir, PKI_NODE, &member, rig.why), -EPERM);
	chmod(path, 0600);
	cr_assert_eq(truncate(path, 300), 0);
	cr_expect_eq(pki_member_load(dir, PKI_NODE, &member, rig.why), -EINVAL);
	cr_assert_eq(truncate(path, PKI_FILE_MAX + 1), 0);
	cr_expect_eq(pki_member_load(dir, PKI_NODE, &member, rig.why), -EFBIG);
	unlink(path);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_expect_eq(pki_member_load(dir, PKI_NODE, &member, rig.why), -EINVAL);
	rig_close(&rig);
}

Test(pki, requests)
{
	EVP_PKEY *key = pki_key_new(), *found,
		 *weak = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	char *good = pki_request_new(key), *bad = pki_request_new(weak), why[PKI_WHY_MAX];

	cr_assert_eq(pki_request_key(good, &found, why), 0, "%s", why);
	cr_expect_eq(EVP_PKEY_eq(found, key), 1);
	EVP_PKEY_free(found);
	cr_expect_eq(pki_request_key(bad, &found, why), -EINVAL);
	cr_expect(strstr(why, "neither EC P-256 nor Ed25519"), "%s", why);
	/* Another signature than its key's. */
	good[strlen(good) / 2] = good[strlen(good) / 2] == 'A' ? 'B' : 'A';
	cr_expect_eq(pki_request_key(good, &found, why), -EINVAL);
	cr_expect_eq(pki_request_key("", &found, why), -EINVAL);
	free(good);
	free(bad);
	EVP_PKEY_free(key);
	EVP_PKEY_free(weak);
}

Test(pki, renewal_comes_well_before_the_end)
{
	struct pki_identity id = {.from_s = 1000, .until_s = 1900};

	cr_expect_not(pki_renewal_due(&id, 1599));
	cr_expect(pki_renewal_due(&id, 1600));
	cr_expect(pki_renewal_due(&id, 5000));
}
