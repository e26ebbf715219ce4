/* SPDX-License-Identifier: Apache-2.0 */
/* From a TCP connection to an encrypted one: who may call whom by which key, and who speaks no TLS. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "transport/net_parts.h"

/* Does a key of this name belong here? Its bearer is not known to have it yet. */
static const uint8_t *caller_key(void *ctx, const struct tls_ends *ends, char *why)
{
	struct conn *conn = ctx;
	const struct wire_hello *ours = &conn->net->config.hello;

	if (ends->vm != ours->vm)
		snprintf(why, TLS_WHY_MAX, "%s: it asks for VM %016llx",
			 error_text(-PANGEA_EPEERVM), (unsigned long long)ends->vm);
	else if (ends->epoch != ours->epoch)
		snprintf(why, TLS_WHY_MAX, "the peer is in epoch %u, this slice in epoch %u",
			 ends->epoch, ours->epoch);
	else if (ends->callee != ours->slice)
		snprintf(why, TLS_WHY_MAX, "it asks for slice %u, and this is slice %u",
			 ends->callee, ours->slice);
	else if (ends->caller <= ours->slice || ends->caller >= ours->slices || !conn->net->keys)
		snprintf(why, TLS_WHY_MAX, "slice %u is not expected to call slice %u",
			 ends->caller, ours->slice);
	else
		return conn->net->keys->key[ends->caller];
	return NULL;
}

static void tls_over(struct conn *conn)
{
	int err;

	conn->claimed = tls_ends(conn->tls)->caller;
	conn->encrypted = true;
	err = tls_kernel_take(conn->tls, conn->fd);
	if (err == -EPROTO) {
		conn_close_transient(conn, err, "%s: %s", conn->from,
				     tls_kernel_why(conn->net->tls));
		return;
	}
	if (!err) {
		tls_link_destroy(conn->tls);
		conn->tls = NULL;
	}
	conn->state = CONN_HELLO;
	conn_watch(conn, UV_READABLE);
	if (!conn->accepted)
		hello_begin(conn);
}

static void handshake_go_on(struct conn *conn)
{
	char why[TLS_WHY_MAX];
	int err = tls_handshake(conn->tls, conn->fd, why);

	if (err == -EAGAIN)
		conn_watch(conn, UV_READABLE | (tls_unsent(conn->tls) ? UV_WRITABLE : 0));
	else if (err == 0)
		tls_over(conn);
	else if (err == -PANGEA_EPEERLOST && !conn->accepted)
		conn_close_transient(conn, err, "%s: %s", conn->from, why);
	else
		conn_refuse(conn, err, why);
}

/* TCP can connect a port to itself while nobody listens there yet. */
static bool reached_ourselves(const struct conn *conn)
{
	struct sockaddr_storage here = {0}, there = {0};
	socklen_t here_len = sizeof(here), there_len = sizeof(there);

	return getsockname(conn->fd, (struct sockaddr *)&here, &here_len) == 0 &&
	       getpeername(conn->fd, (struct sockaddr *)&there, &there_len) == 0 &&
	       here_len == there_len && memcmp(&here, &there, here_len) == 0;
}

void tls_begin(struct conn *conn)
{
	const struct wire_hello *ours = &conn->net->config.hello;
	const struct tls_ends ends = {
		.vm = ours->vm, .epoch = ours->epoch, .caller = ours->slice, .callee = conn->peer};

	if (reached_ourselves(conn)) {
		conn_close_transient(conn, -ECONNREFUSED, "slice %u at %s: reached ourselves",
				     conn->peer, conn->from);
		return;
	}
	conn->tls = tls_call(conn->net->tls, &ends, conn->net->keys->key[conn->peer]);
	if (!conn->tls) {
		conn_close(conn, -ENOMEM, "%s", error_text(-ENOMEM));
		return;
	}
	conn->state = CONN_TLS;
	handshake_go_on(conn);
}

/* A caller without TLS, as far as its first bytes tell: it is told in its own language. */
static void plaintext_refuse(struct conn *conn, const uint8_t *bytes, size_t len)
{
	uint8_t hello[WIRE_HELLO_SIZE];
	uint64_t magic = htole64(WIRE_MAGIC);

	if (memcmp(bytes, &magic, len) != 0) {
		conn_refuse(conn, -PANGEA_EPEERMAGIC, "it speaks neither TLS nor Pangea");
		return;
	}
	wire_hello_encode(&conn->net->config.hello, hello);
	(void)conn_say(conn, hello, sizeof(hello));
	conn_refuse(conn, -PANGEA_EPEERFEATURES,
		    "it does not encrypt, and this VM's connections are encrypted (it was started "
		    "without --plaintext-data)");
}

/* The first bytes of a caller, which stay in the socket: only a handshake is worth a TLS object. */
static bool caller_speaks_tls(struct conn *conn)
{
	uint8_t bytes[sizeof(uint64_t)];
	ssize_t n = recv(conn->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		conn_close(conn, -PANGEA_EPEERLOST, "%s said nothing", conn->from);
	else if (bytes[0] == TLS_RECORD_HANDSHAKE)
		return true;
	else
		plaintext_refuse(conn, bytes, (size_t)n);
	return false;
}

void tls_event(struct conn *conn)
{
	const struct tls_callee callee = {.ctx = conn, .key = caller_key};

	if (!conn->tls) {
		if (!caller_speaks_tls(conn))
			return;
		conn->tls = tls_answer(conn->net->tls, &callee);
	}
	if (conn->tls)
		handshake_go_on(conn);
	else
		conn_close(conn, -ENOMEM, "%s", error_text(-ENOMEM));
}
