/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of one connection through its rings; the socket beside them carries bells and the end. */
#include "transport/shm_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "transport/net_parts.h"

/* Messages of one ring before the loop looks at the others: a ring's worth. */
#define SHM_MESSAGES_PER_TURN SHM_ENTRIES

int shm_link_create(struct conn *conn, struct shm_ring *rings, bool maker)
{
	struct shm_link *link = calloc(1, sizeof(*link));

	if (!link) {
		shm_memory_unmap(rings);
		return -ENOMEM;
	}
	link->rings = rings;
	shm_sender_init(&link->tx, &rings[maker ? 0 : 1]);
	shm_receiver_init(&link->rx, &rings[maker ? 1 : 0]);
	conn->shm = link;
	return 0;
}

void shm_link_destroy(struct conn *conn)
{
	if (!conn->shm)
		return;
	shm_memory_unmap(conn->shm->rings);
	free(conn->shm);
	conn->shm = NULL;
}

/* A full socket holds bells that the peer has not heard yet; its end is noticed by reading. */
static void bell_ring(struct conn *conn)
{
	conn->net->stats.bells_sent++;
	(void)send(conn->fd, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void index_wild(struct conn *conn, const char *which)
{
	conn_close(conn, -PANGEA_EWIRE,
		   "slice %u spoiled the memory that it shares with this one: its %s index is "
		   "none that can be",
		   conn->peer, which);
}

int shm_link_put(struct conn *conn, const uint8_t *header, const void *payload,
		 uint32_t payload_len)
{
	struct shm_sender *tx = &conn->shm->tx;
	int err = shm_put(tx, header, payload, payload_len);

	if (err == -EAGAIN)
		return 0;
	if (err) {
		index_wild(conn, "receiver's");
		return err;
	}
	if (shm_put_wakes(tx))
		bell_ring(conn);
	return 1;
}

void shm_link_await(struct conn *conn)
{
	if (conn->tx.count == 1)
		conn->shm->moved_ms = uv_now(conn->net->config.loop);
	/* If the peer has moved on meanwhile, the loop's next turn finds the room. */
	(void)shm_room_await(&conn->shm->tx, true);
}

static void queue_put(struct conn *conn)
{
	struct send_queue *queue = &conn->tx;

	while (queue->count > 0) {
		struct send_entry *entry = &queue->ring[queue->head];

		if (shm_link_put(conn, entry->header, entry->payload, entry->payload_len) <= 0)
			return;
		send_queue_pop(queue);
		conn->shm->moved_ms = uv_now(conn->net->config.loop);
	}
}

void shm_link_flush(struct conn *conn)
{
	if (conn->tx.count == 0)
		return;
	do {
		queue_put(conn);
		if (conn->state != CONN_UP)
			return;
	} while (shm_room_await(&conn->shm->tx, conn->tx.count > 0) && conn->tx.count > 0);
}

/* Where the payload shall be for its message: there it is, then. NULL: the connection closes. */
static void *payload_place(struct conn *conn, const struct wire_msg *msg,
			   const struct shm_entry *entry)
{
	struct transport_callbacks *cb = &conn->net->config.callbacks;
	void *lies = shm_payload(&conn->shm->rx, entry), *place;

	if (!lies) {
		conn_close(conn, -PANGEA_EWIRE,
			   "slice %u sent nonsense: a payload in slot %llu, which is none",
			   conn->peer, (unsigned long long)entry->slot);
		return NULL;
	}
	place = cb->payload_buffer(cb->ctx, conn->peer, msg, lies);
	if (!place)
		message_refused(conn, msg, -PANGEA_EPROTOCOL);
	else if (place != lies)
		memcpy(place, lies, msg->payload_len);
	return place;
}

static void entry_deliver(struct conn *conn, const struct shm_entry *entry)
{
	struct wire_msg msg;
	void *payload = NULL;

	if (!header_decode(conn, entry->header, &msg))
		return;
	if (msg.payload_len > 0) {
		payload = payload_place(conn, &msg, entry);
		if (!payload)
			return;
	}
	message_deliver(conn, &msg, payload);
}

unsigned shm_link_receive(struct conn *conn)
{
	struct shm_receiver *rx = &conn->shm->rx;
	struct shm_entry entry;
	unsigned n = 0;
	int got = 0;

	while (n < SHM_MESSAGES_PER_TURN && conn->state == CONN_UP &&
	       (got = shm_take(rx, &entry)) > 0) {
		entry_deliver(conn, &entry);
		shm_done(rx);
		n++;
	}
	if (conn->state != CONN_UP)
		return n;
	if (got < 0)
		index_wild(conn, "sender's");
	else if (n > 0 && shm_done_wakes(rx))
		bell_ring(conn);
	return n;
}

void shm_link_event(struct conn *conn)
{
	char bells[64];
	ssize_t n = recv(conn->fd, bells, sizeof(bells), MSG_DONTWAIT);
	int err = n < 0 ? -errno : 0;

	if (err == -EAGAIN || err == -EINTR)
		return;
	/* Its last words are in the ring; it can add none. */
	(void)shm_link_receive(conn);
	if (n > 0 || conn->state != CONN_UP)
		return;
	if (n == 0)
		conn_close(conn, -PANGEA_EPEERLOST, "slice %u closed the connection", conn->peer);
	else
		conn_close(conn, -PANGEA_EPEERLOST, "connection to slice %u lost: %s", conn->peer,
			   error_text(err));
}
