/* SPDX-License-Identifier: Apache-2.0 */
/* Sending over TCP: at once from the caller's memory, and a bounded queue for what does not fit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "transport/tcp_parts.h"

static ssize_t socket_write(int fd, struct iovec *iov, unsigned count)
{
	struct msghdr hdr = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t n;

	do {
		n = sendmsg(fd, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void entry_free(struct send_entry *entry)
{
	free(entry->copy);
	entry->copy = NULL;
}

void send_queue_free(struct send_queue *queue)
{
	for (unsigned i = 0; i < queue->count; i++)
		entry_free(&queue->ring[(queue->head + i) % TCP_QUEUE_MAX]);
	free(queue->ring);
	queue->ring = NULL;
	queue->count = 0;
}

/* Queues a message of which `sent` bytes are gone already. */
static int queue_push(struct send_queue *queue, const uint8_t *header, const void *payload,
		      uint32_t payload_len, bool copy_payload, uint32_t sent)
{
	struct send_entry *entry;

	if (queue->count == TCP_QUEUE_MAX)
		return -ENOBUFS;
	if (!queue->ring)
		queue->ring = calloc(TCP_QUEUE_MAX, sizeof(*queue->ring));
	if (!queue->ring)
		return -ENOMEM;
	entry = &queue->ring[(queue->head + queue->count) % TCP_QUEUE_MAX];
	entry->payload = payload;
	entry->copy = NULL;
	if (copy_payload && payload_len) {
		entry->copy = malloc(payload_len);
		if (!entry->copy)
			return -ENOMEM;
		memcpy(entry->copy, payload, payload_len);
		entry->payload = entry->copy;
	}
	memcpy(entry->header, header, WIRE_HEADER_SIZE);
	entry->payload_len = payload_len;
	entry->sent = sent;
	queue->count++;
	return 0;
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
		entry_free(entry);
		queue->head = (queue->head + 1) % TCP_QUEUE_MAX;
		queue->count--;
	}
}

static void write_failed(struct conn *conn, int err)
{
	conn_close(conn, -PANGEA_EPEERLOST, "sending to slice %u failed: %s", conn->peer,
		   error_text(err));
}

void conn_flush(struct conn *conn)
{
	struct send_queue *queue = &conn->tx;

	while (queue->count > 0) {
		struct iovec iov[2 * TCP_SEND_BATCH];
		unsigned n = 0;
		ssize_t sent;

		for (unsigned i = 0; i < queue->count && i < TCP_SEND_BATCH; i++)
			n += entry_iov(&queue->ring[(queue->head + i) % TCP_QUEUE_MAX], iov + n);
		sent = socket_write(conn->fd, iov, n);
		if (sent == -EAGAIN)
			break;
		if (sent < 0) {
			write_failed(conn, (int)sent);
			return;
		}
		queue_advance(queue, (size_t)sent);
	}
	conn_watch(conn, UV_READABLE | (queue->count ? UV_WRITABLE : 0));
}

static int send_rest_later(struct conn *conn, const uint8_t *header, const void *payload,
			   uint32_t payload_len, bool copy_payload, uint32_t sent)
{
	int err = queue_push(&conn->tx, header, payload, payload_len, copy_payload, sent);

	if (err) {
		conn_close(conn, -ENOBUFS,
			   "slice %u does not read: more than %u messages wait for it", conn->peer,
			   conn->tx.count);
		return -ENOBUFS;
	}
	conn->tcp->stats.sends_queued++;
	conn_watch(conn, UV_READABLE | UV_WRITABLE);
	return 0;
}

int conn_send(struct conn *conn, const struct wire_msg *msg, const void *payload, bool copy_payload)
{
	struct transport_stats *stats = &conn->tcp->stats;
	uint8_t header[WIRE_HEADER_SIZE];
	struct iovec iov[2] = {{header, sizeof(header)}, {(void *)payload, msg->payload_len}};
	size_t total = WIRE_HEADER_SIZE + msg->payload_len;
	ssize_t sent = 0;

	wire_msg_encode(msg, header);
	stats->msgs_sent++;
	stats->bytes_sent += total;
	if (conn->tx.count == 0)
		sent = socket_write(conn->fd, iov, msg->payload_len ? 2 : 1);
	if (sent == -EAGAIN)
		sent = 0;
	if (sent < 0) {
		write_failed(conn, (int)sent);
		return -ENOTCONN;
	}
	if ((size_t)sent == total)
		return 0;
	return send_rest_later(conn, header, payload, msg->payload_len, copy_payload,
			       (uint32_t)sent);
}
