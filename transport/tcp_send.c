/* SPDX-License-Identifier: Apache-2.0 */
/* Sending over TCP: from the caller's memory, as much as the socket takes. */
#include <errno.h>

#include "base/error.h"
#include "transport/net_parts.h"

static ssize_t socket_write(struct conn *conn, struct iovec *iov, unsigned count)
{
	struct msghdr hdr = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t n;

	if (conn->tls)
		return tls_write(conn->tls, conn->fd, iov, count);
	do {
		n = sendmsg(conn->fd, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Adds what is left of an entry to iov; returns how many elements that took (1 or 2). */
static unsigned entry_iov(struct send_entry *entry, struct iovec *iov)
{
	unsigned n = 0;
	uint32_t payload_sent = 0;

	if (entry->sent < WIRE_HEADER_SIZE)
		iov[n++] =
			(struct iovec){entry->header + entry->sent, WIRE_HEADER_SIZE - entry->sent};
	else
		payload_sent = entry->sent - WIRE_HEADER_SIZE;
	if (payload_sent < entry->payload_len)
		iov[n++] = (struct iovec){(void *)(entry->payload + payload_sent),
					  entry->payload_len - payload_sent};
	return n;
}

static void queue_advance(struct send_queue *queue, size_t bytes)
{
	while (bytes > 0) {
		struct send_entry *entry = &queue->ring[queue->head];
		uint32_t left = WIRE_HEADER_SIZE + entry->payload_len - entry->sent;

		if (bytes < left) {
			entry->sent += (uint32_t)bytes;
			return;
		}
		bytes -= left;
		send_queue_pop(queue);
	}
}

static void write_failed(struct conn *conn, int err)
{
	conn_close(conn, -PANGEA_EPEERLOST, "sending to slice %u failed: %s", conn->peer,
		   error_text(err));
}

/* A record that is made and has not gone is waited for like a message. */
static void tcp_watch(struct conn *conn)
{
	bool waits = conn->tx.count > 0 || (conn->tls && tls_unsent(conn->tls));

	conn_watch(conn, UV_READABLE | (waits ? UV_WRITABLE : 0));
}

void tcp_flush(struct conn *conn)
{
	struct send_queue *queue = &conn->tx;

	if (conn->tls && tls_unsent(conn->tls)) {
		int err = tls_flush(conn->tls, conn->fd);

		if (err < 0 && err != -EAGAIN) {
			write_failed(conn, err);
			return;
		}
	}
	while (queue->count > 0) {
		struct iovec iov[2 * TCP_SEND_BATCH];
		unsigned n = 0;
		ssize_t sent;

		for (unsigned i = 0; i < queue->count && i < TCP_SEND_BATCH; i++)
			n += entry_iov(&queue->ring[(queue->head + i) % NET_QUEUE_MAX], iov + n);
		sent = socket_write(conn, iov, n);
		if (sent == -EAGAIN)
			break;
		if (sent < 0) {
			write_failed(conn, (int)sent);
			return;
		}
		queue_advance(queue, (size_t)sent);
	}
	tcp_watch(conn);
}

ssize_t tcp_write(struct conn *conn, const uint8_t *header, const void *payload,
		  uint32_t payload_len)
{
	struct iovec iov[2] = {{(void *)header, WIRE_HEADER_SIZE}, {(void *)payload, payload_len}};
	ssize_t sent = socket_write(conn, iov, payload_len ? 2 : 1);

	if (sent == -EAGAIN)
		return 0;
	if (sent < 0)
		write_failed(conn, (int)sent);
	else if (conn->tls && tls_unsent(conn->tls))
		tcp_watch(conn);
	return sent;
}
