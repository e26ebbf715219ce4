/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving over TCP: headers in batches into a small stage, page data straight into its frame. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "transport/net_parts.h"

/* A header with a payload: asks where it goes. False: the connection closes. */
static bool payload_begin(struct conn *conn)
{
	struct transport_callbacks *cb = &conn->net->config.callbacks;
	struct receiver *rx = &conn->rx;

	rx->payload = cb->payload_buffer(cb->ctx, conn->peer, &rx->msg, NULL);
	rx->payload_got = 0;
	if (!rx->payload)
		message_refused(conn, &rx->msg, -PANGEA_EPROTOCOL);
	return rx->payload != NULL;
}

static void payload_end(struct conn *conn)
{
	struct receiver *rx = &conn->rx;
	struct wire_msg msg = rx->msg;
	void *payload = rx->payload;

	rx->payload = NULL;
	message_deliver(conn, &msg, payload);
}

/* Takes payload bytes that came along in the stage; returns how many. */
static unsigned payload_from_stage(struct conn *conn, const uint8_t *bytes, unsigned have)
{
	struct receiver *rx = &conn->rx;
	uint32_t need = rx->msg.payload_len - rx->payload_got;
	unsigned take = have < need ? have : need;

	memcpy(rx->payload + rx->payload_got, bytes, take);
	rx->payload_got += take;
	if (rx->payload_got == rx->msg.payload_len)
		payload_end(conn);
	return take;
}

/* Decodes the header at bytes and delivers it, or begins its payload. */
static bool header_take(struct conn *conn, const uint8_t *bytes)
{
	struct receiver *rx = &conn->rx;

	if (!header_decode(conn, bytes, &rx->msg))
		return false;
	if (rx->msg.payload_len > 0)
		return payload_begin(conn);
	struct wire_msg msg = rx->msg;

	message_deliver(conn, &msg, NULL);
	return true;
}

/* Consumes what the stage holds. */
static void stage_parse(struct conn *conn)
{
	struct receiver *rx = &conn->rx;
	unsigned at = 0;

	while (conn->state == CONN_UP && at < rx->have) {
		if (rx->payload) {
			at += payload_from_stage(conn, rx->stage + at, rx->have - at);
		} else if (rx->have - at >= WIRE_HEADER_SIZE) {
			if (!header_take(conn, rx->stage + at))
				return;
			at += WIRE_HEADER_SIZE;
		} else {
			break;
		}
	}
	rx->have -= at;
	memmove(rx->stage, rx->stage + at, rx->have);
}

/*
 * One read: the rest of a payload straight to its place with the next headers behind it, or
 * headers alone. *asked: how much there was room for. Without more: only what TLS has read already.
 */
static ssize_t receive_once(struct conn *conn, bool more, size_t *asked)
{
	struct receiver *rx = &conn->rx;
	struct iovec iov[2];
	int count = 0;
	ssize_t n;

	if (rx->payload)
		iov[count++] = (struct iovec){rx->payload + rx->payload_got,
					      rx->msg.payload_len - rx->payload_got};
	iov[count++] = (struct iovec){rx->stage + rx->have, TCP_STAGE_SIZE - rx->have};
	*asked = iov[0].iov_len + (count == 2 ? iov[1].iov_len : 0);
	if (conn->tls)
		return tls_read(conn->tls, conn->fd, iov, count, more);
	do {
		n = readv(conn->fd, iov, count);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void receive_account(struct conn *conn, size_t got)
{
	struct receiver *rx = &conn->rx;

	if (rx->payload) {
		uint32_t need = rx->msg.payload_len - rx->payload_got;
		uint32_t take = got < need ? (uint32_t)got : need;

		rx->payload_got += take;
		got -= take;
		rx->have += (unsigned)got;
		if (rx->payload_got == rx->msg.payload_len)
			payload_end(conn);
	} else {
		rx->have += (unsigned)got;
	}
	stage_parse(conn);
}

static void receive_ended(struct conn *conn, ssize_t n)
{
	bool half = conn->rx.have > 0 || conn->rx.payload;

	if (n == 0)
		conn_close(conn, -PANGEA_EPEERLOST, "slice %u closed the connection%s", conn->peer,
			   half ? " in the middle of a message" : "");
	else if (conn->encrypted && (n == -EBADMSG || n == -EIO))
		conn_close(conn, -PANGEA_EWIRE,
			   "slice %u sent, or somebody on the way made, a record that is none of "
			   "this connection",
			   conn->peer);
	else
		conn_close(conn, -PANGEA_EPEERLOST, "connection to slice %u lost: %s", conn->peer,
			   error_text((int)n));
}

void tcp_receive(struct conn *conn)
{
	for (int turn = 0; conn->state == CONN_UP; turn++) {
		bool more = turn < TCP_READS_PER_TURN;
		size_t asked;
		ssize_t n;

		/* What TLS has read ahead of us no event will tell. */
		if (!more && !conn->tls)
			return;
		n = receive_once(conn, more, &asked);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			receive_ended(conn, n);
			return;
		}
		receive_account(conn, (size_t)n);
		/* A short read emptied the socket: no second call to be told so. */
		if ((size_t)n < asked)
			return;
	}
}
