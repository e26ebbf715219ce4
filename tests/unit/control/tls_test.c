/* SPDX-License-Identifier: Apache-2.0 */
/* Control connections over TLS: who is let in, who is refused and what both sides are told, limits. */
#include <signal.h>
#include <sys/socket.h>

#include <openssl/ssl.h>

#include "base/error.h"
#include "control/tls.h"
#include "tests/unit/pki/pki_rig.h"

/* What one side saw. */
struct side {
	struct control_conn *conn;
	unsigned opened, msgs, closed;
	size_t blob_bytes;
	char name[NAME_MAX_LEN + 1]; /* in the peer's certificate */
	int err;
	char why[CONTROL_WHY_MAX];
};

static void side_open(struct control_conn *conn, enum control_role peer)
{
	struct side *side = control_user(conn);
	const struct pki_identity *id = control_peer_identity(conn);

	cr_expect_eq(peer, control_peer_role(conn));
	side->conn = conn;
	side->opened++;
	snprintf(side->name, sizeof(side->name), "%s", id ? id->name : "");
}

static void side_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct side *side = control_user(conn);

	(void)msg;
	(void)blob;
	side->msgs++;
	side->blob_bytes += len;
}

static void side_closed(struct control_conn *conn, int err, const char *why)
{
	struct side *side = control_user(conn);

	side->closed++;
	side->conn = NULL;
	side->err = err;
	snprintf(side->why, sizeof(side->why), "%s", why);
}

static const struct control_ops side_ops = {side_open, side_msg, side_closed};

struct pair {
	struct rig rig;
	uv_loop_t loop;
	struct side server, client;
	struct control_tls *server_tls, *client_tls;
	struct control_listener *listener;
	unsigned port;
	bool late;
	struct control_deadline *guard;
};

static void guard_fired(void *arg)
{
	struct pair *pair = arg;

	pair->late = true;
	pair->guard = NULL;
	uv_stop(&pair->loop);
}

static void until(struct pair *pair, const unsigned *what, unsigned n)
{
	pair->guard = control_deadline_start(&pair->loop, 30000, guard_fired, pair);
	while (*what < n && !pair->late)
		uv_run(&pair->loop, UV_RUN_ONCE);
	control_deadline_cancel(&pair->guard);
	cr_assert_not(pair->late, "nothing within 30 s");
}

static struct control_tls *tls_of(struct pair *pair, const char *dir, const struct pki_wish *wish)
{
	struct pki_identity id;
	struct control_tls *tls;

	dir = rig_issue(&pair->rig, dir, wish, &id);
	cr_assert_eq(control_tls_new(dir, wish->role, &tls, pair->rig.why), 0, "%s", pair->rig.why);
	return tls;
}

/* A coordinator with this certificate; null: in plaintext. */
static struct pair *pair_new(const struct pki_wish *server)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	signal(SIGPIPE, SIG_IGN);
	rig_open(&pair->rig);
	uv_loop_init(&pair->loop);
	if (server)
		pair->server_tls = tls_of(pair, "server", server);
	struct control_options opts = {.loop = &pair->loop,
				       .ops = &side_ops,
				       .user = &pair->server,
				       .role = CONTROL_ROLE_COORDINATOR,
				       .tls = pair->server_tls};
	cr_assert_eq(control_listen(&opts, "127.0.0.1:0", &pair->listener, &pair->port), 0);
	return pair;
}

static const struct pki_wish coordinator = {.role = PKI_COORDINATOR, .name = "c"};
static const struct pki_wish operator_wish = {.role = PKI_OPERATOR, .name = "ann"};

static void pair_connect(struct pair *pair, enum control_role role)
{
	struct control_options opts = {.loop = &pair->loop,
				       .ops = &side_ops,
				       .user = &pair->client,
				       .role = role,
				       .tls = pair->client_tls};
	char address[32];

	snprintf(address, sizeof(address), "127.0.0.1:%u", pair->port);
	cr_assert_eq(control_connect(&opts, address, &pair->client.conn), 0);
}

static void pair_free(struct pair *pair)
{
	if (pair->client.conn)
		control_abort(pair->client.conn);
	control_listener_close(pair->listener);
	uv_run(&pair->loop, UV_RUN_DEFAULT);
	cr_expect_eq(uv_loop_close(&pair->loop), 0);
	control_tls_free(pair->client_tls);
	control_tls_free(pair->server_tls);
	rig_close(&pair->rig);
	free(pair);
}

Test(tls, both_know_each_other)
{
	struct pair *pair = pair_new(&coordinator);
	uint8_t *blob = calloc(1, CONTROL_BLOB_MAX);
	json_t *msg = json_pack("{s:s}", "type", "heartbeat");

	pair->client_tls = tls_of(pair, "client", &operator_wish);
	pair_connect(pair, CONTROL_ROLE_CLI);
	/* Before there is a connection, and more than a stranger's buffers. */
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(control_send(pair->client.conn, msg, blob, CONTROL_BLOB_MAX), 0);
	until(pair, &pair->server.msgs, 8);
	cr_expect_eq(pair->server.blob_bytes, (size_t)8 * CONTROL_BLOB_MAX);
	cr_expect_str_eq(pair->server.name, "ann");
	cr_expect_str_eq(pair->client.name, "c");
	cr_assert_eq(control_send(pair->server.conn, msg, blob, 1000), 0);
	until(pair, &pair->client.msgs, 1);
	/* What was sent before the close still arrives. */
	cr_assert_eq(control_send(pair->client.conn, msg, blob, 77), 0);
	control_close(pair->client.conn, "done");
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->server.msgs, 9);
	cr_expect_eq(pair->client.err, 0);
	json_decref(msg);
	free(blob);
	pair_free(pair);
}

/* A limit on what waits, as without TLS; all that was taken arrives. */
Test(tls, queue_has_a_limit)
{
	struct pair *pair = pair_new(&coordinator);
	uint8_t *blob = calloc(1, CONTROL_BLOB_MAX);
	json_t *msg = json_pack("{s:s}", "type", "heartbeat");
	unsigned sent = 0;
	int err = 0;

	pair->client_tls = tls_of(pair, "client", &operator_wish);
	pair_connect(pair, CONTROL_ROLE_CLI);
	until(pair, &pair->client.opened, 1);
	while (sent < 1000 && !err) {
		err = control_send(pair->client.conn, msg, blob, CONTROL_BLOB_MAX);
		sent += !err;
	}
	cr_expect_eq(err, -ENOBUFS);
	until(pair, &pair->server.msgs, sent);
	cr_expect_eq(pair->server.blob_bytes, (size_t)sent * CONTROL_BLOB_MAX);
	json_decref(msg);
	free(blob);
	pair_free(pair);
}

/* Refused by the coordinator, in a sentence that reaches the peer, and counted. */
static void expect_refused(struct pair *pair, enum pki_verdict verdict, const char *text)
{
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->client.err, -EACCES, "%s", pair->client.why);
	cr_expect(strstr(pair->client.why, text), "%s", pair->client.why);
	cr_expect(strstr(pair->server.why, text), "%s", pair->server.why);
	cr_expect_eq(pair->server.err, -EKEYREJECTED);
	cr_expect_eq(pair->server.msgs, 0);
	for (unsigned i = 0; i < PKI_VERDICTS; i++)
		cr_expect_eq(control_listener_refused(pair->listener, (enum pki_verdict)i),
			     i == (unsigned)verdict, "count %u", i);
}

Test(tls, refuses_by_time)
{
	struct pki_wish past = {.role = PKI_OPERATOR, .name = "ann", .span_s = 500};
	struct pki_wish future = {.role = PKI_OPERATOR, .name = "ann"};
	struct pair *pair = pair_new(&coordinator);

	past.from_s = pki_now_s() - 1000;
	pair->client_tls = tls_of(pair, "client", &past);
	pair_connect(pair, CONTROL_ROLE_CLI);
	expect_refused(pair, PKI_EXPIRED, "its certificate has expired: it was valid until");
	cr_expect_eq(pair->server.opened, 0);
	pair_free(pair);

	pair = pair_new(&coordinator);
	future.from_s = pki_now_s() + 5000;
	pair->client_tls = tls_of(pair, "client", &future);
	pair_connect(pair, CONTROL_ROLE_CLI);
	expect_refused(pair, PKI_NOT_YET, "set the clock");
	pair_free(pair);
}

Test(tls, refuses_a_stranger)
{
	struct pair *pair = pair_new(&coordinator);
	char print[PKI_PRINT_MAX];

	pki_cert_print(pki_ca_cert(pair->rig.ca), print);
	cr_assert_eq(control_tls_join(print, &pair->client_tls), 0);
	pair_connect(pair, CONTROL_ROLE_CLI);
	expect_refused(pair, PKI_STRANGER, "no certificate was shown");
	cr_expect_eq(pair->server.opened, 0);
	pair_free(pair);
}

Test(tls, refuses_what_was_revoked)
{
	struct pair *pair = pair_new(&coordinator);
	char path[160], *crl, why[PKI_WHY_MAX];
	unsigned count;

	pair->client_tls = tls_of(pair, "client", &operator_wish);
	pair_connect(pair, CONTROL_ROLE_CLI);
	until(pair, &pair->server.opened, 1);
	cr_assert_eq(pki_ca_revoke(pair->rig.ca, "ann", &count, why), 0);
	cr_assert_eq(pki_ca_crl(pair->rig.ca, &crl, why), 0);
	snprintf(path, sizeof(path), "%s/server/crl.pem", pair->rig.top);
	cr_assert_eq(pki_file_write(path, crl, strlen(crl)), 0);
	free(crl);
	/* The connection that stands. */
	control_recheck(pair->server.conn);
	cr_expect_eq(control_listener_refused(pair->listener, PKI_REVOKED), 0);
	cr_assert_eq(control_tls_reload(pair->server_tls, why), 0, "%s", why);
	control_recheck(pair->server.conn);
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->client.err, -EACCES);
	cr_expect_eq(pair->server.err, -EKEYREVOKED);
	cr_expect(strstr(pair->client.why, "operator ann"), "%s", pair->client.why);
	/* And the next one. */
	memset(&pair->client, 0, sizeof(pair->client));
	memset(&pair->server, 0, sizeof(pair->server));
	pair_connect(pair, CONTROL_ROLE_CLI);
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect(strstr(pair->client.why, "was revoked"), "%s", pair->client.why);
	cr_expect_eq(pair->server.opened, 0);
	cr_expect_eq(control_listener_refused(pair->listener, PKI_REVOKED), 2);
	pair_free(pair);
}

Test(tls, refuses_another_role)
{
	static const struct {
		enum pki_role shown;
		enum control_role said;
		const char *text;
	} cases[] = {
		{PKI_OPERATOR, CONTROL_ROLE_NODE, "that of operator x, who is no node"},
		{PKI_NODE, CONTROL_ROLE_CLI, "that of node x, who is no operator"},
		{PKI_COORDINATOR, CONTROL_ROLE_CLI, "that of coordinator x, who is no operator"},
		{PKI_OPERATOR, CONTROL_ROLE_VMM, "nobody is a vmm on this connection"},
		{PKI_OPERATOR, CONTROL_ROLE_JOIN, "who has one does not join"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pki_wish wish = {.role = cases[i].shown, .name = "x"};
		struct pair *pair = pair_new(&coordinator);
		pair->client_tls = tls_of(pair, "client", &wish);
		pair_connect(pair, cases[i].said);
		expect_refused(pair, PKI_OTHER_ROLE, cases[i].text);
		cr_expect_eq(pair->server.opened, 0);
		pair_free(pair);
	}
}

Test(tls, refuses_a_message_of_another_role)
{
	struct pair *pair = pair_new(&coordinator);

	pair->client_tls = tls_of(pair, "client", &operator_wish);
	pair_connect(pair, CONTROL_ROLE_CLI);
	cr_assert_eq(control_sendf(pair->client.conn, "{s:s}", "type", "slice-exit"), 0);
	expect_refused(pair, PKI_OTHER_ROLE, "a cli may not say \"slice-exit\"");
	pair_free(pair);
}

/* Who joins is let in for that alone, and stays a stranger. */
Test(tls, a_joiner_is_a_stranger)
{
	struct pair *pair = pair_new(&coordinator);
	char print[PKI_PRINT_MAX], *large = calloc(1, CONTROL_HELLO_MAX + 1);

	memset(large, 'x', CONTROL_HELLO_MAX);
	pki_cert_print(pki_ca_cert(pair->rig.ca), print);
	cr_assert_eq(control_tls_join(print, &pair->client_tls), 0);
	pair_connect(pair, CONTROL_ROLE_JOIN);
	until(pair, &pair->server.opened, 1);
	until(pair, &pair->client.opened, 1);
	cr_expect_str_eq(pair->server.name, "");
	cr_expect(control_peer_authority(pair->client.conn));
	cr_assert_eq(control_sendf(pair->client.conn, "{s:s, s:s}", "type", "join", "csr", large),
		     0);
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->server.msgs, 0);
	cr_expect(strstr(pair->client.why, "beyond the limit"), "%s", pair->client.why);
	free(large);
	pair_free(pair);
}

/* The client's own judgement: nothing is sent to a coordinator that is none. */
static void expect_distrusted(struct pair *pair, const char *text)
{
	pair_connect(pair, CONTROL_ROLE_CLI);
	cr_assert_eq(control_sendf(pair->client.conn, "{s:s}", "type", "nodes"), 0);
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->client.err, -EKEYREJECTED);
	cr_expect(strstr(pair->client.why, text), "%s", pair->client.why);
	cr_expect_eq(pair->client.opened, 0);
	cr_expect_eq(pair->server.opened, 0);
	cr_expect_eq(pair->server.msgs, 0);
	cr_expect_eq(control_listener_refused(pair->listener, PKI_HANDSHAKE), 1);
	cr_expect(strstr(pair->server.why, "the other side ended the TLS handshake"), "%s",
		  pair->server.why);
}

Test(tls, nobody_speaks_for_a_coordinator_who_is_none)
{
	const struct pki_wish node = {.role = PKI_NODE, .name = "n"};
	struct pair *pair = pair_new(&node);

	pair->client_tls = tls_of(pair, "client", &operator_wish);
	expect_distrusted(pair, "that of node n: nobody speaks for a coordinator who is none");
	pair_free(pair);
}

Test(tls, a_coordinator_of_another_cluster)
{
	struct pair *pair = pair_new(&coordinator);
	struct pki_identity id;
	struct rig foreign;
	char print[PKI_PRINT_MAX];

	rig_open(&foreign);
	const char *dir = rig_issue(&foreign, "client", &operator_wish, &id);
	cr_assert_eq(control_tls_new(dir, PKI_OPERATOR, &pair->client_tls, foreign.why), 0);
	expect_distrusted(pair, "not of this cluster's authority");
	pair_free(pair);
	/* The same for who knows the fingerprint alone. */
	pair = pair_new(&coordinator);
	pki_cert_print(pki_ca_cert(foreign.ca), print);
	cr_assert_eq(control_tls_join(print, &pair->client_tls), 0);
	expect_distrusted(pair, "not of the authority that the join token names");
	pair_free(pair);
	rig_close(&foreign);
}

Test(tls, a_coordinator_out_of_its_time)
{
	struct pki_wish past = coordinator;

	past.from_s = pki_now_s() - 1000;
	past.span_s = 500;
	struct pair *pair = pair_new(&past);
	pair->client_tls = tls_of(pair, "client", &operator_wish);
	expect_distrusted(pair, "its certificate has expired");
	pair_free(pair);
}

Test(tls, plaintext_is_told_so)
{
	struct pair *pair = pair_new(&coordinator);

	pair_connect(pair, CONTROL_ROLE_CLI);
	expect_refused(pair, PKI_PLAINTEXT, "speaks TLS alone");
	pair_free(pair);
	/* The other way round. */
	pair = pair_new(NULL);
	pair->client_tls = tls_of(pair, "client", &operator_wish);
	pair_connect(pair, CONTROL_ROLE_CLI);
	until(pair, &pair->client.closed, 1);
	until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->client.err, -EKEYREJECTED);
	cr_expect(strstr(pair->client.why, "the coordinator speaks without TLS"), "%s",
		  pair->client.why);
	cr_expect_eq(control_listener_refused(pair->listener, PKI_HANDSHAKE), 1);
	cr_expect_eq(pair->server.opened, 0);
	pair_free(pair);
}

/* ---- a stream against an OpenSSL of the test's own: what no program of ours would do ---- */

struct raw {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
};

static void raw_open(struct raw *raw, int version, const struct pki_member *member)
{
	raw->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(raw->ctx, version);
	if (member) {
		SSL_CTX_use_certificate(raw->ctx, member->cert);
		SSL_CTX_use_PrivateKey(raw->ctx, member->key);
	}
	raw->ssl = SSL_new(raw->ctx);
	raw->in = BIO_new(BIO_s_mem());
	raw->out = BIO_new(BIO_s_mem());
	SSL_set_bio(raw->ssl, raw->in, raw->out);
	SSL_set_connect_state(raw->ssl);
}

static void raw_close(struct raw *raw)
{
	SSL_free(raw->ssl);
	SSL_CTX_free(raw->ctx);
}

/* Some rounds of both; the stream's last word. */
static int shake(struct raw *raw, struct tls_stream *stream)
{
	int done = 0;

	for (unsigned i = 0; i < 8 && done == 0; i++) {
		uint8_t buf[8192], *out;
		int n;
		size_t len;
		SSL_do_handshake(raw->ssl);
		while ((n = BIO_read(raw->out, buf, sizeof(buf))) > 0)
			cr_assert_eq(tls_stream_feed(stream, buf, (size_t)n), 0);
		done = tls_stream_handshake(stream);
		while ((len = tls_stream_output(stream, &out)) > 0) {
			BIO_write(raw->in, out, (int)len);
			free(out);
		}
	}
	return done;
}

Test(tls, a_client_of_another_authority)
{
	struct pair *pair = pair_new(&coordinator);
	struct tls_stream *stream = tls_stream_new(pair->server_tls, true);
	struct pki_member *member;
	struct pki_identity id;
	struct rig foreign;
	struct raw raw;

	rig_open(&foreign);
	const char *dir = rig_issue(&foreign, "x", &operator_wish, &id);
	cr_assert_eq(pki_member_load(dir, PKI_OPERATOR, &member, foreign.why), 0);
	raw_open(&raw, TLS1_3_VERSION, member);
	cr_expect_eq(shake(&raw, stream), 1);
	cr_expect_eq(stream->verdict, PKI_OTHER_CA);
	cr_expect_eq(stream->peer.role, PKI_NOBODY);
	raw_close(&raw);
	tls_stream_free(stream);
	pki_member_free(member);
	rig_close(&foreign);
	pair_free(pair);
}

Test(tls, an_old_version_is_refused)
{
	struct pair *pair = pair_new(&coordinator);
	struct tls_stream *stream = tls_stream_new(pair->server_tls, true);
	struct raw raw;

	raw_open(&raw, TLS1_2_VERSION, NULL);
	cr_expect_eq(shake(&raw, stream), -EKEYREJECTED);
	cr_expect_eq(stream->verdict, PKI_HANDSHAKE);
	cr_expect(strstr(stream->why, "only TLS 1.3 is spoken here"), "%s", stream->why);
	raw_close(&raw);
	tls_stream_free(stream);
	pair_free(pair);
}

Test(tls, no_session_is_resumed_and_a_changed_record_ends_it)
{
	struct pair *pair = pair_new(&coordinator);
	struct tls_stream *stream = tls_stream_new(pair->server_tls, true);
	uint8_t buf[512];
	struct raw raw;
	int n;

	raw_open(&raw, TLS1_3_VERSION, NULL);
	cr_expect_eq(shake(&raw, stream), 1);
	cr_expect_eq(stream->verdict, PKI_STRANGER);
	SSL_read(raw.ssl, buf, sizeof(buf)); /* where tickets would come */
	cr_expect_eq(SSL_SESSION_is_resumable(SSL_get0_session(raw.ssl)), 0);
	cr_assert_eq(SSL_write(raw.ssl, "hello", 5), 5);
	n = BIO_read(raw.out, buf, sizeof(buf));
	cr_assert_gt(n, 10);
	buf[n - 1] ^= 1;
	cr_assert_eq(tls_stream_feed(stream, buf, (size_t)n), 0);
	cr_expect_eq(tls_stream_read(stream, buf, sizeof(buf)), -PANGEA_EPEERLOST);
	raw_close(&raw);
	tls_stream_free(stream);
	pair_free(pair);
}
