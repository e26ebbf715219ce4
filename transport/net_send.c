/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: at once as far as socket, ring or credits go, and a bounded queue for what does not fit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "transport/net_parts.h"

static void entry_free(struct send_entry *entry)
{
	free(entry->copy);
	entry->copy = NULL;
}

void send_queue_free(struct send_queue *queue)
{
	for (unsigned i = 0; i < queue->count; i++)
		entry_free(&queue->ring[(queue->head + i) % NET_QUEUE_MAX]);
	free(queue->ring);
	queue->ring = NULL;
	queue->count = 0;
}

/* Queues a message of which `sent` bytes are gone already. */
static int queue_push(struct send_queue *queue, const uint8_t *header, const void *payload,
		      uint32_t payload_len, bool copy_payload, uint32_t sent)
{
	struct send_entry *entry;

	if (queue->count == NET_QUEUE_MAX)
		return -ENOBUFS;
	if (!queue->ring)
		queue->ring = calloc(NET_QUEUE_MAX, sizeof(*queue->ring));
	if (!queue->ring)
		return -ENOMEM;
	entry = &queue->ring[(queue->head + queue->count) % NET_QUEUE_MAX];
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

void send_queue_pop(struct send_queue *queue)
{
	entry_free(&queue->ring[queue->head]);
	queue->head = (queue->head + 1) % NET_QUEUE_MAX;
	queue->count--;
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
	conn->net->stats.sends_queued++;
	if (conn->shm)
		shm_link_await(conn);
	else if (conn->rdma)
		rdma_link_await(conn);
	else
		conn_watch(conn, UV_READABLE | UV_WRITABLE);
	return 0;
}

/* How much of the message has gone; negative: the connection closes. */
static ssize_t send_now(struct conn *conn, const uint8_t *header, const void *payload,
			uint32_t payload_len)
{
	int put;

	if (conn->tx.count > 0)
		return 0;
	if (!conn->shm && !conn->rdma)
		return tcp_write(conn, header, payload, payload_len);
	put = conn->shm ? shm_link_put(conn, header, payload, payload_len)
			: rdma_link_put(conn, header, payload, payload_len);
	return put <= 0 ? put : (ssize_t)(WIRE_HEADER_SIZE + payload_len);
}

int conn_send(struct conn *conn, const struct wire_msg *msg, const void *payload, bool copy_payload)
{
	struct transport_stats *stats = &conn->net->stats;
	uint8_t header[WIRE_HEADER_SIZE];
	size_t total = WIRE_HEADER_SIZE + msg->payload_len;
	ssize_t sent;

	wire_msg_encode(msg, header);
	stats->msgs_sent++;
	stats->bytes_sent += total;
	sent = send_now(conn, header, payload, msg->payload_len);
	if (sent < 0)
		return -ENOTCONN;
	if ((size_t)sent == total)
		return 0;
	return send_rest_later(conn, header, payload, msg->payload_len, copy_payload,
			       (uint32_t)sent);
}
