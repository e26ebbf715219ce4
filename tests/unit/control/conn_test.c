/* SPDX-License-Identifier: Apache-2.0 */
/* Control connections over loopback: hello, refusals, garbage, limits, orderly and broken ends. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "control/control.h"

/* What one side saw. */
struct side {
	struct control_conn *conn;
	unsigned opened, msgs, closed;
	enum control_role peer;
	size_t blob_bytes;
	int err;
	char why[CONTROL_WHY_MAX];
	unsigned reply_count;	  /* answers each message this many times */
	const char *close_on_msg; /* closes with this reason on the first message */
};

static void side_open(struct control_conn *conn, enum control_role peer)
{
	struct side *side = control_user(conn);

	side->conn = conn;
	side->peer = peer;
	side->opened++;
}

static void side_msg(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len)
{
	struct side *side = control_user(conn);

	side->msgs++;
	side->blob_bytes += len;
	for (unsigned i = 0; i < side->reply_count; i++)
		cr_expect_eq(control_send(conn, msg, blob, len), 0);
	if (side->close_on_msg)
		control_close(conn, side->close_on_msg);
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
	uv_loop_t loop;
	struct side server, client;
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

static struct control_options side_options(struct pair *pair, struct side *side)
{
	return (struct control_options){
		.loop = &pair->loop, .ops = &side_ops, .user = side, .role = CONTROL_ROLE_CLI};
}

static struct pair *pair_new(const char *token)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&pair->loop);
	struct control_options opts = side_options(pair, &pair->server);
	opts.role = CONTROL_ROLE_COORDINATOR;
	opts.expect_token = token;
	cr_assert_eq(control_listen(&opts, "127.0.0.1:0", &pair->listener, &pair->port), 0);
	return pair;
}

static void pair_connect(struct pair *pair, const char *token)
{
	struct control_options opts = side_options(pair, &pair->client);
	char address[32];

	opts.token = token;
	snprintf(address, sizeof(address), "127.0.0.1:%u", pair->port);
	cr_assert_eq(control_connect(&opts, address, &pair->client.conn), 0);
}

/* Runs the loop until *what is at least n. */
static void pair_until(struct pair *pair, const unsigned *what, unsigned n)
{
	pair->guard = control_deadline_start(&pair->loop, 20000, guard_fired, pair);
	while (*what < n && !pair->late)
		uv_run(&pair->loop, UV_RUN_ONCE);
	control_deadline_cancel(&pair->guard);
	cr_assert_not(pair->late, "nothing within 20 s");
}

static void pair_free(struct pair *pair)
{
	if (pair->client.conn)
		control_abort(pair->client.conn);
	control_listener_close(pair->listener);
	uv_run(&pair->loop, UV_RUN_DEFAULT);
	cr_expect_eq(uv_loop_close(&pair->loop), 0);
	free(pair);
}

static int raw_connect(struct pair *pair)
{
	struct sockaddr_storage addr;
	char address[32];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address, sizeof(address), "127.0.0.1:%u", pair->port);
	control_address_parse(address, &addr);
	cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(struct sockaddr_in)), 0);
	return fd;
}

Test(conn, messages_and_orderly_close)
{
	struct pair *pair = pair_new("secret");
	uint8_t blob[1000] = {1};
	json_t *msg = json_pack("{s:s}", "type", "heartbeat");

	pair->server.reply_count = 1;
	pair_connect(pair, "secret");
	cr_assert_eq(control_send(pair->client.conn, msg, blob, sizeof(blob)), 0);
	pair_until(pair, &pair->client.msgs, 1);
	cr_expect_eq(pair->client.peer, CONTROL_ROLE_COORDINATOR);
	cr_expect_eq(pair->server.peer, CONTROL_ROLE_CLI);
	cr_expect_eq(pair->client.blob_bytes, 1000);
	/* What was sent before the close still arrives. */
	cr_assert_eq(control_send(pair->client.conn, msg, NULL, 0), 0);
	control_close(pair->client.conn, "done");
	cr_expect_eq(control_send(pair->client.conn, msg, NULL, 0), -EPIPE);
	pair_until(pair, &pair->client.closed, 1);
	pair_until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->server.msgs, 2);
	cr_expect_eq(pair->client.err, 0);
	cr_expect_str_eq(pair->client.why, "done");
	cr_expect_eq(pair->server.err, -PANGEA_EPEERLOST);
	json_decref(msg);
	pair_free(pair);
}

Test(conn, refuses_a_wrong_token)
{
	struct pair *pair = pair_new("secret");

	pair_connect(pair, "guess");
	pair_until(pair, &pair->client.closed, 1);
	pair_until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->client.err, -EACCES);
	cr_expect_str_eq(pair->client.why, "wrong token");
	cr_expect_eq(pair->server.opened, 0);
	pair_free(pair);
}

Test(conn, refuses_garbage_with_a_sentence)
{
	struct pair *pair = pair_new(NULL);
	int fd = raw_connect(pair);
	char answer[1024] = "";
	ssize_t n, used = 0;

	cr_assert_eq(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	shutdown(fd, SHUT_WR);
	pair_until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->server.err, -PANGEA_EWIRELEN);
	while ((n = read(fd, answer + used, sizeof(answer) - 1 - (size_t)used)) > 0)
		used += n;
	cr_expect(memmem(answer, (size_t)used, "refused", 7));
	cr_expect(memmem(answer, (size_t)used, "beyond the limit", 16));
	close(fd);
	pair_free(pair);
}

Test(conn, refuses_a_wrong_magic_and_version)
{
	static const char *const bad[] = {
		"{\"type\":\"hello\",\"magic\":\"other\",\"version\":1,\"role\":\"cli\"}",
		"{\"type\":\"hello\",\"magic\":\"pangea\",\"version\":9,\"role\":\"cli\"}",
	};
	static const int want[] = {-PANGEA_EPEERMAGIC, -PANGEA_EPEERVERSION};

	for (int i = 0; i < 2; i++) {
		struct pair *pair = pair_new(NULL);
		uint8_t head[8] = {(uint8_t)strlen(bad[i])};
		int fd = raw_connect(pair);
		cr_assert_eq(write(fd, head, 8), 8);
		cr_assert_gt(write(fd, bad[i], strlen(bad[i])), 0);
		shutdown(fd, SHUT_WR);
		pair_until(pair, &pair->server.closed, 1);
		cr_expect_eq(pair->server.err, want[i]);
		cr_expect_eq(pair->server.opened, 0);
		close(fd);
		pair_free(pair);
	}
}

Test(conn, half_a_message)
{
	struct pair *pair = pair_new(NULL);
	int fd = raw_connect(pair);

	cr_assert_eq(write(fd, "\x40\0\0\0\0\0\0\0{\"type\"", 15), 15);
	close(fd);
	pair_until(pair, &pair->server.closed, 1);
	cr_expect(pair->server.err == -PANGEA_ECONTROL || pair->server.err == -PANGEA_EPEERLOST);
	pair_free(pair);
}

Test(conn, silence_has_a_deadline)
{
	struct pair *pair = pair_new(NULL);
	int fd = raw_connect(pair);

	pair_until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->server.err, -ETIMEDOUT);
	cr_expect(strstr(pair->server.why, "no hello"));
	close(fd);
	pair_free(pair);
}

Test(conn, nobody_listens)
{
	struct pair *pair = pair_new(NULL);
	struct control_options opts = side_options(pair, &pair->client);
	struct control_listener *second;
	char address[32];

	snprintf(address, sizeof(address), "127.0.0.1:%u", pair->port);
	cr_expect_eq(control_listen(&opts, address, &second, NULL), -EADDRINUSE);
	cr_expect_eq(control_listen(&opts, "nonsense", &second, NULL), -EINVAL);
	cr_expect_eq(control_connect(&opts, "nonsense", &pair->client.conn), -EINVAL);
	/* Port 1 on loopback: nobody listens there. */
	cr_assert_eq(control_connect(&opts, "127.0.0.1:1", &pair->client.conn), 0);
	pair_until(pair, &pair->client.closed, 1);
	cr_expect_eq(pair->client.err, -ECONNREFUSED);
	cr_expect(strstr(pair->client.why, "cannot connect"));
	pair_free(pair);
}

Test(conn, queue_has_a_limit)
{
	struct pair *pair = pair_new(NULL);
	uint8_t *blob = calloc(1, CONTROL_BLOB_MAX);
	json_t *msg = json_pack("{s:s}", "type", "heartbeat");
	unsigned sent = 0;
	int err = 0;

	pair_connect(pair, NULL);
	while (sent < 1000 &&
	       (err = control_send(pair->client.conn, msg, blob, CONTROL_BLOB_MAX)) == 0)
		sent++;
	cr_expect_eq(err, -ENOBUFS);
	cr_expect_leq(control_queued(pair->client.conn), CONTROL_QUEUE_MAX);
	pair_until(pair, &pair->server.msgs, sent);
	cr_expect_eq(pair->server.blob_bytes, (size_t)sent * CONTROL_BLOB_MAX);
	cr_expect_eq(control_sendf(pair->client.conn, "{s:s}", "type", "heartbeat"), 0);
	json_decref(msg);
	free(blob);
	pair_free(pair);
}

/* The peer's last words are read even when our own writes already fail. */
Test(conn, last_words_over_a_socketpair)
{
	struct pair *pair = pair_new(NULL);
	struct control_options opts = side_options(pair, &pair->client);
	struct control_options other = side_options(pair, &pair->server);
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	cr_assert_eq(control_open_fd(&opts, fds[0], &pair->client.conn), 0);
	cr_assert_eq(control_open_fd(&other, fds[1], &pair->server.conn), 0);
	pair_until(pair, &pair->server.opened, 1);
	pair_until(pair, &pair->client.opened, 1);
	cr_assert_eq(control_sendf(pair->server.conn, "{s:s}", "type", "bye"), 0);
	control_abort(pair->server.conn);
	/* The other end is closed already, which only the loop can tell us. */
	cr_assert_eq(control_sendf(pair->client.conn, "{s:s}", "type", "late"), 0);
	pair_until(pair, &pair->client.closed, 1);
	pair_until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->client.msgs, 1);
	cr_expect_eq(pair->client.err, -PANGEA_EPEERLOST);
	pair_free(pair);
}

Test(conn, close_inside_a_message)
{
	struct pair *pair = pair_new(NULL);

	pair->server.close_on_msg = "enough";
	pair_connect(pair, NULL);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(control_sendf(pair->client.conn, "{s:s}", "type", "heartbeat"), 0);
	pair_until(pair, &pair->client.closed, 1);
	pair_until(pair, &pair->server.closed, 1);
	cr_expect_eq(pair->server.msgs, 1);
	cr_expect_str_eq(pair->server.why, "enough");
	pair_free(pair);
}
