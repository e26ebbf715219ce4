/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One control connection on libuv: hello, messages, a bounded queue, and an orderly end.
 *
 * Timers: one a connection. CONTROL_HELLO_TIMEOUT_MS from its making until the peer's hello;
 * CONTROL_FLUSH_TIMEOUT_MS from our end, or a failed write, until the peer's end.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "control/uv_internal.h"

struct conn_write {
	uv_write_t req;
	struct conn_write *next; /* of early */
	struct control_conn *conn;
	uint8_t *frame;
	size_t len;
};

static void conn_free(struct control_conn *conn)
{
	struct conn_write *write;

	while ((write = conn->early) != NULL) {
		conn->early = write->next;
		control_frame_free(write->frame, write->len);
		free(write);
	}
	if (conn->addrs)
		uv_freeaddrinfo(conn->addrs);
	control_decoder_free(&conn->dec);
	tls_stream_free(conn->stream);
	if (conn->read_buf != conn->stranger_buf)
		free(conn->read_buf);
	free(conn);
}

static void handle_gone(struct control_conn *conn)
{
	if (--conn->handles_open > 0)
		return;
	conn->ops->on_closed(conn, conn->err, conn->why);
	if (conn->listener)
		listener_conn_gone(conn->listener, conn);
	conn_free(conn);
}

static void handle_closed(uv_handle_t *handle)
{
	handle_gone(handle->data);
}

static void why_set(struct control_conn *conn, int err, const char *why)
{
	if (conn->why[0])
		return;
	conn->err = err;
	snprintf(conn->why, sizeof(conn->why), "%s", why);
	control_text_clean(conn->why);
}

void conn_end(struct control_conn *conn, int err, const char *why)
{
	if (conn->state == CONN_CLOSING)
		return;
	why_set(conn, err, why);
	conn->state = CONN_CLOSING;
	/* A handle that is being made again is closing already. */
	if (!conn->reopening)
		uv_close(&conn->h.handle, handle_closed);
	uv_close((uv_handle_t *)&conn->timer, handle_closed);
}

static void timer_fired(uv_timer_t *timer)
{
	struct control_conn *conn = timer->data;

	if (conn->state == CONN_FLUSHING)
		conn_end(conn, conn->err, "closed");
	else if (conn->write_failed)
		conn_end(conn, -PANGEA_EPEERLOST, "connection lost while sending");
	else if (conn->state == CONN_CONNECTING)
		conn_end(conn, -ETIMEDOUT, "no connection within the deadline");
	else
		conn_end(conn, -ETIMEDOUT, "the peer said no hello within the deadline");
}

static void shutdown_done(uv_shutdown_t *req, int status)
{
	struct control_conn *conn = req->data;

	/* The peer's end of stream, or the timer, ends it: closing now could reset the
	 * connection and lose our last words if the peer had sent something unread. */
	if (status < 0 && conn->state == CONN_FLUSHING)
		conn_end(conn, conn->err, "closed");
}

void conn_flush(struct control_conn *conn, int err, const char *why)
{
	if (conn->state >= CONN_FLUSHING)
		return;
	why_set(conn, err, why);
	if (conn->state == CONN_CONNECTING) {
		conn_end(conn, err, why);
		return;
	}
	conn->state = CONN_FLUSHING;
	if (conn->stream)
		conn_tls_end(conn);
	conn->shutdown_req.data = conn;
	uv_timer_start(&conn->timer, timer_fired, CONTROL_FLUSH_TIMEOUT_MS, 0);
	if (uv_shutdown(&conn->shutdown_req, &conn->h.stream, shutdown_done) < 0)
		conn_end(conn, err, why);
}

void control_close(struct control_conn *conn, const char *why)
{
	conn_flush(conn, 0, why);
}

void control_abort(struct control_conn *conn)
{
	conn_end(conn, 0, "aborted");
}

void control_refuse(struct control_conn *conn, int err, const char *why)
{
	char clean[CONTROL_WHY_MAX];

	if (conn->state >= CONN_FLUSHING)
		return;
	/* A reason may quote what the peer sent, which need not be UTF-8. */
	snprintf(clean, sizeof(clean), "%s", why);
	control_text_clean(clean);
	control_sendf(conn, "{s:s, s:s}", "type", "refused", "reason", clean);
	conn_flush(conn, err, clean);
}

static void write_done(uv_write_t *req, int status)
{
	struct conn_write *write = req->data;
	struct control_conn *conn = write->conn;

	conn->queued_bytes -= write->len;
	control_frame_free(write->frame, write->len);
	free(write);
	if (status < 0 && status != UV_ECANCELED && conn->state < CONN_FLUSHING) {
		/* The peer's last words may still wait to be read: the read side ends this. */
		conn->write_failed = true;
		uv_timer_start(&conn->timer, timer_fired, CONTROL_FLUSH_TIMEOUT_MS, 0);
	}
}

/* Takes the write for good if it succeeds. */
static int write_start(struct control_conn *conn, struct conn_write *write)
{
	uv_buf_t buf = uv_buf_init((char *)write->frame, (unsigned)write->len);
	int err = uv_write(&write->req, &conn->h.stream, &buf, 1, write_done);

	if (!err)
		conn->queued_bytes += write->len;
	return err;
}

int conn_raw_send(struct control_conn *conn, uint8_t *data, size_t len)
{
	struct conn_write *write = calloc(1, sizeof(*write));
	int err = -ENOMEM;

	if (write) {
		write->conn = conn;
		write->req.data = write;
		write->frame = data;
		write->len = len;
		err = write_start(conn, write);
	}
	if (err) {
		free(write);
		control_frame_free(data, len);
	}
	return err;
}

/* Whether frames wait: for the connection, or for its handshake. */
static bool frames_wait(const struct control_conn *conn)
{
	return conn->state == CONN_CONNECTING || (conn->stream && !conn->stream->done);
}

/* The frame is taken for good if it succeeds. */
static int frame_send(struct control_conn *conn, uint8_t *frame, size_t len)
{
	int err;

	if (!conn->stream)
		return conn_raw_send(conn, frame, len);
	err = conn_tls_send(conn, frame, len);
	control_frame_free(frame, len);
	return err;
}

static int frame_keep(struct control_conn *conn, uint8_t *frame, size_t len)
{
	struct conn_write *write = calloc(1, sizeof(*write));

	if (!write) {
		control_frame_free(frame, len);
		return -ENOMEM;
	}
	write->conn = conn;
	write->frame = frame;
	write->len = len;
	*conn->early_end = write;
	conn->early_end = &write->next;
	conn->queued_bytes += len;
	return 0;
}

int control_send(struct control_conn *conn, const json_t *msg, const void *blob, size_t len)
{
	uint8_t *frame;
	size_t frame_len;
	int err;

	if (conn->state >= CONN_FLUSHING || conn->write_failed)
		return -EPIPE;
	err = control_frame_encode(msg, blob, len, &frame, &frame_len);
	if (err)
		return err;
	if (conn->queued_bytes + frame_len > CONTROL_QUEUE_MAX) {
		control_frame_free(frame, frame_len);
		return -ENOBUFS;
	}
	return frames_wait(conn) ? frame_keep(conn, frame, frame_len)
				 : frame_send(conn, frame, frame_len);
}

int conn_early_send(struct control_conn *conn)
{
	struct conn_write *write;
	int err = 0;

	while ((write = conn->early) != NULL && !err) {
		conn->early = write->next;
		conn->queued_bytes -= write->len;
		err = frame_send(conn, write->frame, write->len);
		free(write);
	}
	if (!conn->early)
		conn->early_end = &conn->early;
	return err;
}

int control_sendf(struct control_conn *conn, const char *fmt, ...)
{
	va_list ap;
	json_t *msg;
	int err;

	va_start(ap, fmt);
	msg = json_vpack_ex(NULL, 0, fmt, ap);
	va_end(ap);
	err = control_send(conn, msg, NULL, 0);
	json_decref(msg);
	return err;
}

size_t control_queued(const struct control_conn *conn)
{
	return conn->queued_bytes;
}

void *control_user(const struct control_conn *conn)
{
	return conn->user;
}

void control_set_user(struct control_conn *conn, void *user)
{
	conn->user = user;
}

enum control_role control_peer_role(const struct control_conn *conn)
{
	return conn->peer_role;
}

bool control_peer_ended(const struct control_conn *conn)
{
	return conn->ended;
}

static void refused_take(struct control_conn *conn, const json_t *msg)
{
	const char *reason = json_string_value(json_object_get(msg, "reason"));

	conn_end(conn, -EACCES, reason && reason[0] ? reason : "refused without a reason");
}

/* What the hello says is believed as far as the certificate shown says the same. */
static bool role_take(struct control_conn *conn, enum control_role peer)
{
	const char *stranger =
		"it has no certificate yet: a join needs TLS, and who has one does not join";
	enum pki_verdict verdict = conn->stream ? conn->stream->verdict : PKI_GOOD;
	char why[CONTROL_WHY_MAX];

	conn->peer_role = peer;
	if (!conn->over_tcp || (peer == CONTROL_ROLE_JOIN && verdict == PKI_STRANGER))
		return true;
	if (verdict != PKI_GOOD)
		control_refuse_peer(conn, verdict, conn->stream->why);
	else if (peer == CONTROL_ROLE_JOIN)
		control_refuse_peer(conn, PKI_OTHER_ROLE, stranger);
	else if (conn->stream && control_role_check(peer, &conn->stream->peer, why) < 0)
		control_refuse_peer(conn, PKI_OTHER_ROLE, why);
	else
		return true;
	return false;
}

static void hello_take(struct control_conn *conn, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	enum control_role peer;
	int err =
		control_hello_check(msg, conn->has_expect ? conn->expect_token : NULL, &peer, why);

	if (err) {
		control_refuse(conn, err, why);
		return;
	}
	if (!role_take(conn, peer))
		return;
	conn->state = CONN_OPEN;
	if (peer == CONTROL_ROLE_JOIN) {
		/* Still a stranger: with its limits, and its deadline for all that it wants. */
		if (conn->ops->on_open)
			conn->ops->on_open(conn, peer);
		return;
	}
	conn->dec.json_max = CONTROL_JSON_MAX;
	conn->dec.blob_max = CONTROL_BLOB_MAX;
	uv_timer_stop(&conn->timer);
	if (conn->listener)
		listener_conn_known(conn->listener, conn);
	if (conn->ops->on_open)
		conn->ops->on_open(conn, peer);
}

/* roles.c is asked for every message that comes over a network. */
static bool message_allowed(struct control_conn *conn, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];

	if (!conn->over_tcp || control_role_may(conn->peer_role, control_type(msg)))
		return true;
	if (control_type_known(control_type(msg)))
		snprintf(why, sizeof(why), "a %s may not say \"%.40s\"",
			 control_role_name(conn->peer_role), control_type(msg));
	else
		snprintf(why, sizeof(why), "malformed control message: unknown type \"%.40s\"",
			 control_type(msg));
	control_refuse_peer(conn, PKI_OTHER_ROLE, why);
	return false;
}

static bool frame_take(void *arg, json_t *msg, const uint8_t *blob, size_t len)
{
	struct control_conn *conn = arg;

	if (control_is(msg, "refused"))
		refused_take(conn, msg);
	else if (conn->state == CONN_HELLO)
		hello_take(conn, msg);
	else if (message_allowed(conn, msg))
		conn->ops->on_msg(conn, msg, blob, len);
	return conn->state == CONN_OPEN;
}

void conn_stream_ended(struct control_conn *conn, int status)
{
	char why[CONTROL_WHY_MAX];

	if (status != UV_EOF) {
		snprintf(why, sizeof(why), "connection lost: %s", error_text(status));
		conn_end(conn, -PANGEA_EPEERLOST, why);
		return;
	}
	conn->ended = true;
	int err = conn->state == CONN_FLUSHING ? 0 : control_decoder_end(&conn->dec, why);
	if (err)
		conn_end(conn, err, why);
	else
		conn_end(conn, -PANGEA_EPEERLOST, "connection closed by the peer");
}

void conn_take(struct control_conn *conn, const void *data, size_t len)
{
	char why[CONTROL_WHY_MAX];
	int err = control_decoder_feed(&conn->dec, data, len, frame_take, conn, why);

	if (err)
		control_refuse(conn, err, why);
}

static void read_done(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct control_conn *conn = stream->data;

	if (n < 0) {
		conn_stream_ended(conn, (int)n);
		return;
	}
	if (n == 0 || (conn->state != CONN_HELLO && conn->state != CONN_OPEN))
		return; /* flushing: what still comes is thrown away */
	if (conn->stream)
		conn_tls_take(conn, (const uint8_t *)buf->base, (size_t)n);
	else if (!conn->heard && conn->listener && tls_first_byte((uint8_t)buf->base[0]))
		control_refuse_peer(conn, PKI_HANDSHAKE,
				    "it speaks TLS, but this side was started with --plaintext");
	else
		conn_take(conn, buf->base, (size_t)n);
	/* The next reading may be shorter, and leave the rest of a message in sight. */
	explicit_bzero(buf->base, (size_t)n);
	conn->heard = true;
}

static void read_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct control_conn *conn = handle->data;

	(void)size;
	if (conn->state == CONN_OPEN && conn->read_buf == conn->stranger_buf) {
		char *large = malloc(READ_BYTES);
		if (large) {
			conn->read_buf = large;
			conn->read_room = READ_BYTES;
		}
	}
	*buf = uv_buf_init(conn->read_buf, (unsigned)conn->read_room);
}

struct control_conn *conn_new(const struct control_options *opts)
{
	struct control_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->ops = opts->ops;
	conn->user = opts->user;
	conn->role = opts->role;
	conn->has_expect = opts->expect_token != NULL;
	snprintf(conn->token, sizeof(conn->token), "%s", opts->token ? opts->token : "");
	snprintf(conn->expect_token, sizeof(conn->expect_token), "%s",
		 opts->expect_token ? opts->expect_token : "");
	control_decoder_init(&conn->dec);
	conn->dec.json_max = CONTROL_HELLO_MAX;
	conn->dec.blob_max = 0;
	conn->read_buf = conn->stranger_buf;
	conn->read_room = sizeof(conn->stranger_buf);
	conn->early_end = &conn->early;
	if (opts->tls) {
		conn->stream = tls_stream_new(opts->tls, opts->role == CONTROL_ROLE_COORDINATOR);
		if (!conn->stream) {
			free(conn);
			return NULL;
		}
	}
	uv_timer_init(opts->loop, &conn->timer);
	conn->timer.data = conn;
	conn->h.handle.data = conn;
	conn->handles_open = 2;
	uv_timer_start(&conn->timer, timer_fired, CONTROL_HELLO_TIMEOUT_MS, 0);
	return conn;
}

int conn_begin(struct control_conn *conn)
{
	conn->state = CONN_HELLO;
	return uv_read_start(&conn->h.stream, read_alloc, read_done);
}

static int hello_send(struct control_conn *conn)
{
	return control_sendf(conn, "{s:s, s:s, s:i, s:s, s:s}", "type", "hello", "magic",
			     CONTROL_MAGIC, "version", CONTROL_VERSION, "role",
			     control_role_name(conn->role), "token", conn->token);
}

static void connect_next(struct control_conn *conn);

static void handle_reopen(uv_handle_t *handle)
{
	struct control_conn *conn = handle->data;

	conn->reopening = false;
	if (conn->state == CONN_CLOSING) {
		handle_gone(conn);
		return;
	}
	uv_tcp_init(handle->loop, &conn->h.tcp);
	conn->h.handle.data = conn;
	connect_next(conn);
}

/* This address does not answer: the next one of the name, if there is one. */
static void connect_failed(struct control_conn *conn, int status)
{
	char why[CONTROL_WHY_MAX];

	if (conn->addr && conn->addr->ai_next) {
		conn->addr = conn->addr->ai_next;
		conn->reopening = true;
		uv_close(&conn->h.handle, handle_reopen);
		return;
	}
	snprintf(why, sizeof(why), "cannot connect: %s", error_text(status));
	conn_end(conn, status, why);
}

static void connect_done(uv_connect_t *req, int status)
{
	struct control_conn *conn = req->data;

	if (conn->state != CONN_CONNECTING || status == UV_ECANCELED)
		return;
	if (status < 0) {
		connect_failed(conn, status);
		return;
	}
	uv_tcp_nodelay(&conn->h.tcp, 1);
	uv_tcp_keepalive(&conn->h.tcp, 1, 30);
	status = conn_begin(conn);
	if (!status)
		status = conn->stream ? conn_tls_begin(conn) : conn_early_send(conn);
	if (status < 0)
		conn_end(conn, status, error_text(status));
}

static void connect_next(struct control_conn *conn)
{
	int err =
		uv_tcp_connect(&conn->connect_req, &conn->h.tcp, conn->addr->ai_addr, connect_done);

	if (err)
		connect_failed(conn, err);
}

static void name_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
	struct control_conn *conn = req->data;
	char why[CONTROL_WHY_MAX];

	conn->addrs = conn->addr = list;
	if (conn->state == CONN_CONNECTING && (status < 0 || !list)) {
		snprintf(why, sizeof(why), "cannot find that host: %s",
			 status ? uv_strerror(status) : "it has no address");
		conn_end(conn, -ENOENT, why);
	} else if (conn->state == CONN_CONNECTING) {
		connect_next(conn);
	}
	handle_gone(conn);
}

/* For a connection whose maker returns an error: frees it without a call to on_closed. */
static void discard_closed(uv_handle_t *handle)
{
	struct control_conn *conn = handle->data;

	if (--conn->handles_open == 0)
		conn_free(conn);
}

static int conn_discard(struct control_conn *conn, int err)
{
	conn->state = CONN_CLOSING;
	uv_close(&conn->h.handle, discard_closed);
	uv_close((uv_handle_t *)&conn->timer, discard_closed);
	return err;
}

int control_connect(const struct control_options *opts, const char *address,
		    struct control_conn **out)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	char host[CONTROL_HOST_MAX], port[6];
	struct sockaddr_storage addr;
	struct control_conn *conn;
	int err;

	if (control_address_split(address, host, port) < 0)
		return -EINVAL;
	conn = conn_new(opts);
	if (!conn)
		return -ENOMEM;
	uv_tcp_init(opts->loop, &conn->h.tcp);
	conn->over_tcp = true;
	conn->h.handle.data = conn;
	conn->connect_req.data = conn->resolve_req.data = conn;
	err = hello_send(conn);
	if (err)
		return conn_discard(conn, err);
	if (control_address_parse(address, &addr) == 0) {
		err = uv_tcp_connect(&conn->connect_req, &conn->h.tcp, (struct sockaddr *)&addr,
				     connect_done);
	} else {
		err = uv_getaddrinfo(opts->loop, &conn->resolve_req, name_resolved, host, port,
				     &hints);
		conn->handles_open += !err;
	}
	if (err)
		return conn_discard(conn, err);
	*out = conn;
	return 0;
}

int control_open_fd(const struct control_options *opts, int fd, struct control_conn **out)
{
	struct control_conn *conn = conn_new(opts);
	int err;

	if (!conn)
		return -ENOMEM;
	uv_pipe_init(opts->loop, &conn->h.pipe, 0);
	conn->h.handle.data = conn;
	err = uv_pipe_open(&conn->h.pipe, fd);
	if (!err)
		err = conn_begin(conn);
	if (!err)
		err = hello_send(conn);
	if (err)
		return conn_discard(conn, err);
	*out = conn;
	return 0;
}
