/* SPDX-License-Identifier: Apache-2.0 */
/* Encrypted connections against those that must not have one: strangers, wrong keys, the wrong slice, old
 * and plain ways to speak, what was recorded; and records that somebody changed on the way. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/transport/transport_rig.h"
#include "transport/tls_link.h"

static void assert_says(const char *why, const char *part)
{
	cr_assert(strstr(why, part), "\"%s\" does not say \"%s\"", why, part);
}

static const struct transport_stats *stats_of(struct rig *rig, unsigned i)
{
	return rig->slice[i].transport->ops->stats(rig->slice[i].transport);
}

/* Slice 0 of `slices`, which awaits the others. */
static void callee_rig(struct rig *rig, unsigned slices)
{
	rig_init(rig, slices, RIG_TLS);
	rig_create(rig, 0, NULL);
	rig_connect(rig, 0);
}

/* Runs the loop until slice 0 has sent so many callers away. */
static void refused_until(struct rig *rig, uint64_t count)
{
	for (unsigned ms = 0; stats_of(rig, 0)->refused < count; ms += 5) {
		cr_assert_lt(ms, 10000, "nobody was refused");
		rig_run_ms(rig, 5);
	}
	cr_assert_eq(stats_of(rig, 0)->refused, count);
	cr_assert_eq(rig->slice[0].ups, 0);
}

/* Who should come comes, whatever happened before. */
static void peer_comes(struct rig *rig)
{
	memset(rig->secret, 7, sizeof(rig->secret));
	rig_create(rig, 1, NULL);
	rig_connect(rig, 1);
	cr_assert(rig_until(rig, &rig->slice[0].ups, 1));
	cr_assert(rig_until(rig, &rig->slice[1].ups, 1));
	cr_assert_eq(stats_of(rig, 0)->links_tls + stats_of(rig, 0)->links_ktls, 1);
	cr_assert_eq(stats_of(rig, 0)->links_tcp, 0);
	cr_assert_eq(rig_send(rig, 1, 0, 0, 4096), 0);
	cr_assert(rig_until(rig, &rig->slice[0].received, 1));
	cr_assert_eq(rig->slice[0].bad, 0);
}

/* Nobody but the right one, within this time; and why. */
static void late_peer_is_told(struct rig *rig, const char *says)
{
	cr_assert(rig_until(rig, &rig->slice[0].lost[1], 1));
	cr_assert_eq(rig->slice[0].lost_err[1], -ETIMEDOUT);
	assert_says(rig->slice[0].lost_why[1], says);
}

/* --- TLS callers of all kinds, played with OpenSSL. --- */

/* What the caller's callback gives; set before each handshake (a test is a process of its own). */
static struct {
	char name[96];
	uint8_t key[PAIR_KEY_SIZE];
} shown;

static int show_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len,
		    SSL_SESSION **session)
{
	static const unsigned char suite[] = {0x13, 0x01};

	(void)md;
	*session = SSL_SESSION_new();
	cr_assert_eq(SSL_SESSION_set1_master_key(*session, shown.key, PAIR_KEY_SIZE), 1);
	cr_assert_eq(SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, suite)), 1);
	cr_assert_eq(SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION), 1);
	*id = (const unsigned char *)shown.name;
	*len = strlen(shown.name);
	return 1;
}

static SSL *ssl_connect(struct rig *rig, bool key, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;

	cr_assert(ctx);
	if (version)
		cr_assert_eq(SSL_CTX_set_max_proto_version(ctx, version), 1);
	if (key)
		SSL_CTX_set_psk_use_session_callback(ctx, show_key);
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	cr_assert(ssl);
	SSL_set_fd(ssl, raw_connect(rig->slice[0].port));
	SSL_set_connect_state(ssl);
	return ssl;
}

/* The handshake of a blocking socket, while the loop runs between its flights: does it succeed? */
static bool ssl_shakes_hands(struct rig *rig, SSL *ssl)
{
	struct timeval brief = {.tv_usec = 5000};
	int done = 0;

	setsockopt(SSL_get_fd(ssl), SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof(brief));
	for (unsigned n = 0; n < 200; n++) {
		done = SSL_do_handshake(ssl);
		if (done == 1 || SSL_get_error(ssl, done) != SSL_ERROR_WANT_READ)
			break;
		rig_run_ms(rig, 2);
	}
	return done == 1;
}

static void ssl_end(SSL *ssl)
{
	close(SSL_get_fd(ssl));
	SSL_free(ssl);
}

static void show(const struct rig *rig, const char *name, unsigned i, unsigned j)
{
	uint8_t key[PAIR_KEY_SIZE];

	snprintf(shown.name, sizeof(shown.name), "%s", name);
	rig_key(rig, i, j, key);
	proof_tls_key(key, shown.key);
}

/* A caller with a key of this name; slice 0 of 3 sends it away and says this. */
static void name_is_refused(const char *name, unsigned i, unsigned j, const char *says)
{
	struct rig rig;
	SSL *ssl;

	rig_init(&rig, 3, RIG_TLS);
	rig.timeout_ms = 300;
	rig_create(&rig, 0, NULL);
	rig_connect(&rig, 0);
	show(&rig, name, i, j);
	ssl = ssl_connect(&rig, true, 0);
	cr_assert_not(ssl_shakes_hands(&rig, ssl), "%s", name);
	refused_until(&rig, 1);
	late_peer_is_told(&rig, says);
	ssl_end(ssl);
	rig_destroy(&rig);
}

Test(tls, a_key_is_good_for_its_own_ends_alone)
{
	name_is_refused("pangea vm=1234567890abcdee epoch=1 caller=1 callee=0", 1, 0,
			"asks for VM 1234567890abcdee");
	name_is_refused("pangea vm=1234567890abcdef epoch=2 caller=1 callee=0", 1, 0,
			"in epoch 2, this slice in epoch 1");
	name_is_refused("pangea vm=1234567890abcdef epoch=1 caller=2 callee=1", 1, 2,
			"asks for slice 1, and this is slice 0");
	name_is_refused("pangea vm=1234567890abcdef epoch=1 caller=0 callee=0", 1, 0,
			"slice 0 is not expected");
	name_is_refused("pangea vm=1234567890abcdef epoch=1 caller=3 callee=0", 3, 0,
			"slice 3 is not expected");
	/* Slice 1 has this key of slice 0, and of slice 2's only its own with it. */
	name_is_refused("pangea vm=1234567890abcdef epoch=1 caller=2 callee=0", 1, 0,
			"says to be slice 2 and does not have its key");
	name_is_refused("pangea vm=1234567890abcdef epoch=1 caller=2 callee=0", 1, 2,
			"says to be slice 2 and does not have its key");
	name_is_refused("pangea vm=1234567890ABCDEF epoch=1 caller=1 callee=0", 1, 0, "no name");
	name_is_refused("pangea vm=1234567890abcdef epoch=01 caller=1 callee=0", 1, 0, "no name");
	name_is_refused("pangea vm=1234567890abcdef epoch=1 caller=1 callee=0 ", 1, 0, "no name");
	name_is_refused("x", 1, 0, "no name");
}

Test(tls, who_has_slice_1_s_key_cannot_say_to_be_slice_2)
{
	struct wire_hello hello;
	uint8_t bytes[WIRE_HELLO_SIZE];
	struct rig rig;
	SSL *ssl;

	callee_rig(&rig, 3);
	show(&rig, "pangea vm=1234567890abcdef epoch=1 caller=1 callee=0", 1, 0);
	ssl = ssl_connect(&rig, true, 0);
	cr_assert(ssl_shakes_hands(&rig, ssl));
	cr_assert_eq(SSL_session_reused(ssl), 1);
	hello = rig_hello(&rig, 2);
	wire_hello_encode(&hello, bytes);
	cr_assert_eq(SSL_write(ssl, bytes, sizeof(bytes)), (int)sizeof(bytes));
	refused_until(&rig, 1);
	ssl_end(ssl);
	peer_comes(&rig);
	rig_destroy(&rig);
}

Test(tls, a_stranger_without_a_key_is_refused)
{
	struct rig rig;
	SSL *ssl;

	rig_init(&rig, 2, RIG_TLS);
	rig.timeout_ms = 500;
	rig_create(&rig, 0, NULL);
	rig_connect(&rig, 0);
	ssl = ssl_connect(&rig, false, 0);
	cr_assert_not(ssl_shakes_hands(&rig, ssl));
	refused_until(&rig, 1);
	late_peer_is_told(&rig, "shows no key");
	ssl_end(ssl);
	rig_destroy(&rig);
}

Test(tls, an_older_tls_is_refused)
{
	struct rig rig;
	SSL *ssl;

	rig_init(&rig, 2, RIG_TLS);
	rig.timeout_ms = 500;
	rig_create(&rig, 0, NULL);
	rig_connect(&rig, 0);
	ssl = ssl_connect(&rig, false, TLS1_2_VERSION);
	cr_assert_not(ssl_shakes_hands(&rig, ssl));
	refused_until(&rig, 1);
	late_peer_is_told(&rig, "an older TLS than 1.3");
	ssl_end(ssl);
	rig_destroy(&rig);
}

Test(tls, a_slice_of_another_secret_is_refused_and_told)
{
	struct rig rig;

	callee_rig(&rig, 2);
	rig.secret[5] ^= 1;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -PANGEA_EPEERVM);
	assert_says(rig.slice[1].lost_why[0], "do not have the same key");
	refused_until(&rig, 1);
	rig.slice[1].transport->ops->close(rig.slice[1].transport);
	rig_run_ms(&rig, 5);
	memset(&rig.slice[1], 0, sizeof(rig.slice[1]));
	peer_comes(&rig);
	rig_destroy(&rig);
}

/* --- Other languages. --- */

Test(tls, a_plain_hello_is_refused_and_told_why)
{
	struct wire_hello hello, answer;
	uint8_t bytes[WIRE_HELLO_SIZE];
	struct rig rig;
	int fd;

	callee_rig(&rig, 2);
	fd = raw_connect(rig.slice[0].port);
	hello = rig_hello(&rig, 1);
	raw_hello(fd, &hello);
	refused_until(&rig, 1);
	raw_read(fd, bytes, sizeof(bytes));
	cr_assert_eq(wire_hello_decode(bytes, sizeof(bytes), &answer), 0);
	cr_assert_eq(answer.features, WIRE_FEATURE_TLS);
	close(fd);
	fd = raw_connect(rig.slice[0].port);
	raw_write(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	refused_until(&rig, 2);
	close(fd);
	peer_comes(&rig);
	rig_destroy(&rig);
}

/* Slice 1 is started with --plaintext by mistake, or by somebody: both sides say so, and neither yields. */
static void policies_differ(bool callee_encrypts, const char *caller_says)
{
	struct rig rig;

	rig_init(&rig, 2, callee_encrypts ? RIG_TLS : RIG_TCP);
	rig.timeout_ms = 1000;
	rig_create(&rig, 0, NULL);
	rig.encrypted = !callee_encrypts;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	assert_says(rig.slice[1].lost_why[0], caller_says);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	assert_says(rig.slice[0].lost_why[1],
		    callee_encrypts ? "it does not encrypt" : "it encrypts");
	cr_assert_eq(rig.slice[0].ups + rig.slice[1].ups, 0);
	cr_assert_geq(stats_of(&rig, 0)->refused, 1);
	rig_destroy(&rig);
}

Test(tls, there_is_no_way_down_to_plaintext)
{
	policies_differ(true, "the peer's connections are encrypted");
	policies_differ(false, "does not speak TLS");
}

/* --- Somebody on the way. --- */

/* Slice 1's connection to slice 0 goes through these two sockets. */
struct middle {
	struct rig rig;
	int listener, caller, callee;
	unsigned port;
	uint8_t kept[16384]; /* what the caller said */
	size_t kept_len;
	uint8_t flip; /* of the next bytes from the caller, the last is changed so */
};

static void middle_start(struct middle *m)
{
	memset(m, 0, sizeof(*m));
	rig_init(&m->rig, 2, RIG_TLS);
	rig_create(&m->rig, 0, NULL);
	m->port = m->rig.slice[0].port;
	m->listener = raw_listen(&m->rig.slice[0].port);
	rig_connect(&m->rig, 0);
	rig_create(&m->rig, 1, NULL);
	rig_connect(&m->rig, 1);
	m->caller = accept(m->listener, NULL, NULL);
	m->callee = raw_connect(m->port);
	cr_assert_geq(m->caller, 0);
}

static void middle_carry(struct middle *m, int from, int to)
{
	uint8_t bytes[8192];
	ssize_t n = recv(from, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n <= 0)
		return;
	if (from == m->caller) {
		bytes[n - 1] ^= m->flip;
		m->flip = 0;
		cr_assert_leq(m->kept_len + (size_t)n, sizeof(m->kept));
		memcpy(m->kept + m->kept_len, bytes, (size_t)n);
		m->kept_len += (size_t)n;
	}
	(void)send(to, bytes, (size_t)n, MSG_NOSIGNAL);
}

/* Carries on until *counter is reached. */
static void middle_until(struct middle *m, const unsigned *counter, unsigned value)
{
	for (unsigned ms = 0; *counter < value; ms++) {
		cr_assert_lt(ms, 5000, "it never came");
		middle_carry(m, m->caller, m->callee);
		middle_carry(m, m->callee, m->caller);
		rig_run_ms(&m->rig, 1);
	}
}

static void middle_end(struct middle *m)
{
	close(m->listener);
	close(m->caller);
	close(m->callee);
	rig_destroy(&m->rig);
}

static bool bytes_have(const uint8_t *bytes, size_t len, const void *part, size_t part_len)
{
	return memmem(bytes, len, part, part_len) != NULL;
}

Test(tls, nothing_is_said_in_clear)
{
	uint64_t magic = WIRE_MAGIC;
	uint8_t page[64], key[PAIR_KEY_SIZE];
	struct middle m;

	middle_start(&m);
	middle_until(&m, &m.rig.slice[0].ups, 1);
	middle_until(&m, &m.rig.slice[1].ups, 1);
	cr_assert_eq(rig_send(&m.rig, 1, 0, 0, 4096), 0);
	middle_until(&m, &m.rig.slice[0].received, 1);
	cr_assert_eq(m.rig.slice[0].bad, 0);
	for (unsigned i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(i * 7);
	cr_assert_gt(m.kept_len, 4096);
	cr_assert_not(bytes_have(m.kept, m.kept_len, page, sizeof(page)));
	cr_assert_not(bytes_have(m.kept, m.kept_len, &magic, sizeof(magic)));
	rig_key(&m.rig, 0, 1, key);
	cr_assert_not(bytes_have(m.kept, m.kept_len, key, sizeof(key)));
	middle_end(&m);
}

Test(tls, a_record_that_was_changed_ends_the_link)
{
	struct middle m;

	middle_start(&m);
	middle_until(&m, &m.rig.slice[0].ups, 1);
	middle_until(&m, &m.rig.slice[1].ups, 1);
	cr_assert_eq(rig_send(&m.rig, 1, 0, 0, 4096), 0);
	m.flip = 1;
	middle_until(&m, &m.rig.slice[0].lost[1], 1);
	cr_assert_eq(m.rig.slice[0].lost_err[1], -PANGEA_EWIRE);
	assert_says(m.rig.slice[0].lost_why[1], "none of this connection");
	cr_assert_eq(m.rig.slice[0].received, 0);
	middle_end(&m);
}

/* Sends all that a caller said to a slice that awaits it: it gets nowhere. */
Test(tls, what_was_recorded_is_of_no_use)
{
	struct middle m;
	struct rig again;
	int fd;

	middle_start(&m);
	middle_until(&m, &m.rig.slice[0].ups, 1);
	middle_until(&m, &m.rig.slice[1].ups, 1);
	cr_assert_eq(rig_send(&m.rig, 1, 0, 0, 64), 0);
	middle_until(&m, &m.rig.slice[0].received, 1);
	callee_rig(&again, 2); /* the same VM, slice and key */
	fd = raw_connect(again.slice[0].port);
	(void)send(fd, m.kept, m.kept_len, MSG_NOSIGNAL);
	refused_until(&again, 1);
	cr_assert_eq(again.slice[0].received, 0);
	close(fd);
	peer_comes(&again);
	rig_destroy(&again);
	middle_end(&m);
}

/* --- Floods and silence. --- */

Test(tls, strangers_in_any_number_do_not_disturb)
{
	static const uint8_t start[] = {TLS_RECORD_HANDSHAKE, 3, 1, 2, 0, 1};
	int fds[200];
	struct rig rig;

	callee_rig(&rig, 2);
	for (unsigned i = 0; i < 200; i++) {
		fds[i] = raw_connect(rig.slice[0].port);
		if (i % 2)
			raw_write(fds[i], start, sizeof(start)); /* half a handshake */
		if (i % 8 == 0)
			rig_run_ms(&rig, 1);
	}
	rig_run_ms(&rig, 20);
	cr_assert_eq(rig.slice[0].ups + rig.slice[0].lost[1], 0);
	peer_comes(&rig);
	for (unsigned i = 0; i < 200; i++)
		close(fds[i]);
	rig_destroy(&rig);
}

Test(tls, a_handshake_without_end_is_cut_off)
{
	uint8_t record[5 + 2048] = {TLS_RECORD_HANDSHAKE, 3, 1, 8, 0, 1, 0, 0xff, 0};
	struct rig rig;
	int fd;

	rig_init(&rig, 2, RIG_TLS);
	rig.timeout_ms = 1000;
	rig_create(&rig, 0, NULL);
	rig_connect(&rig, 0);
	fd = raw_connect(rig.slice[0].port);
	for (unsigned i = 0; i < 4; i++) {
		(void)send(fd, record, sizeof(record), MSG_NOSIGNAL);
		memset(record + 5, 0, 4);
	}
	refused_until(&rig, 1);
	late_peer_is_told(&rig, "handshake is longer than");
	close(fd);
	rig_destroy(&rig);
}

Test(tls, a_listener_that_answers_nothing_is_dropped_at_the_deadline)
{
	struct rig rig;
	int listener;

	rig_init(&rig, 2, RIG_TLS);
	rig.timeout_ms = 150;
	listener = raw_listen(&rig.slice[0].port);
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -ETIMEDOUT);
	assert_says(rig.slice[1].lost_why[0], "did not end its TLS handshake");
	close(listener);
	rig_destroy(&rig);
}

Test(tls, a_callee_with_a_certificate_instead_of_the_key_is_not_believed)
{
	struct rig rig;
	int listener, fd;
	uint8_t hello[512];

	rig_init(&rig, 2, RIG_TLS);
	listener = raw_listen(&rig.slice[0].port);
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	fd = accept(listener, NULL, NULL);
	raw_await(&rig, fd, 100);
	/* The name of the key is in the caller's hello, for all to see; the key is not. */
	cr_assert_gt(recv(fd, hello, sizeof(hello), 0), 100);
	cr_assert(bytes_have(hello, sizeof(hello), "caller=1 callee=0", 17));
	raw_write(fd, "\x15\x03\x03\x00\x02\x02\x28", 7); /* handshake_failure */
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -PANGEA_EPEERVM);
	close(fd);
	close(listener);
	rig_destroy(&rig);
}

/* --- A link alone. --- */

static const uint8_t *any_key(void *ctx, const struct tls_ends *ends, char *why)
{
	(void)ends;
	(void)why;
	return ctx;
}

/* Two ends of a connection, whose handshake is over. */
static void links_up(struct tls_context *context, int fds[2], struct tls_link *links[2])
{
	static uint8_t key[PAIR_KEY_SIZE] = {42};
	const struct tls_ends ends = {.vm = 1, .epoch = 2, .caller = 3, .callee = 1};
	const struct tls_callee callee = {.ctx = key, .key = any_key};
	int done[2] = {-EAGAIN, -EAGAIN};
	char why[TLS_WHY_MAX] = "";

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	links[0] = tls_call(context, &ends, key);
	links[1] = tls_answer(context, &callee);
	for (unsigned n = 0; n < 10 && (done[0] || done[1]); n++)
		for (unsigned i = 0; i < 2; i++)
			if (done[i])
				done[i] = tls_handshake(links[i], fds[i], why);
	cr_assert(!done[0] && !done[1], "%s", why);
	cr_assert_eq(tls_ends(links[1])->caller, 3);
	cr_assert_eq(tls_ends(links[1])->callee, 1);
}

Test(tls, keys_are_replaced_and_nothing_is_lost)
{
	struct tls_context *context;
	struct tls_link *links[2];
	int fds[2];

	cr_assert_eq(tls_context_create(&context), 0);
	links_up(context, fds, links);
	tls_rekey_allow(links[0], 3);
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t got = 0;
		struct iovec out = {&i, sizeof(i)}, in = {&got, sizeof(got)};

		cr_assert_eq(tls_write(links[0], fds[0], &out, 1), (ssize_t)sizeof(i));
		cr_assert_eq(tls_read(links[1], fds[1], &in, 1, true), (ssize_t)sizeof(got));
		cr_assert_eq(got, i);
		/* The other direction has its own keys. */
		cr_assert_eq(tls_write(links[1], fds[1], &out, 1), (ssize_t)sizeof(i));
		cr_assert_eq(tls_read(links[0], fds[0], &in, 1, true), (ssize_t)sizeof(got));
	}
	tls_link_destroy(links[0]);
	tls_link_destroy(links[1]);
	tls_context_destroy(context);
	close(fds[0]);
	close(fds[1]);
}

/* A page that is cut at any place, and many at once in both directions. */
Test(tls, records_cut_anywhere_are_put_together)
{
	struct middle m;
	unsigned sent = 0;

	middle_start(&m);
	middle_until(&m, &m.rig.slice[0].ups, 1);
	middle_until(&m, &m.rig.slice[1].ups, 1);
	for (unsigned cut = 1; cut < 4150; cut += 97) {
		uint8_t bytes[8192];
		ssize_t n;

		cr_assert_eq(rig_send(&m.rig, 1, 0, sent++, 4096), 0);
		n = recv(m.caller, bytes, sizeof(bytes), 0);
		cr_assert_gt(n, 4096 + WIRE_HEADER_SIZE);
		raw_write(m.callee, bytes, cut);
		uv_run(&m.rig.loop, UV_RUN_NOWAIT);
		raw_write(m.callee, bytes + cut, (size_t)n - cut);
		cr_assert(rig_until(&m.rig, &m.rig.slice[0].received, sent));
		cr_assert_eq(m.rig.slice[0].bad, 0, "cut at %u", cut);
	}
	middle_end(&m);
}
