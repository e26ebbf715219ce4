/* SPDX-License-Identifier: Apache-2.0 */
/* Sending by RDMA: slots, credits, and the end of what was sent. */
#include "transport/rdma_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "transport/net_parts.h"

static uint8_t *send_slot(const struct rdma_link *link, uint64_t number)
{
	return link->memory + number % RDMA_SENDS * RDMA_SLOT_SIZE + RDMA_SLOT_HEADER;
}

static unsigned sends_open(const struct rdma_link *link)
{
	return (unsigned)(link->posted - link->done);
}

static uint64_t now_ms(const struct conn *conn)
{
	return uv_now(conn->net->config.loop);
}

/*
 * Gives the next send's slot, with len bytes in it, to the device. It says when one in RDMA_SIGNAL_EVERY
 * is done; sends end in their order. There is always one that it will tell about among so many.
 */
static int slot_post(struct conn *conn, uint32_t len, bool signal)
{
	struct rdma_link *link = conn->rdma;
	struct rdma_work work = {.peer = (uint8_t)conn->peer,
				 .number = (uint16_t)link->posted,
				 .link = link->number};
	struct ibv_sge sge = {.addr = (uintptr_t)send_slot(link, link->posted),
			      .length = len,
			      .lkey = link->mr->lkey};
	struct ibv_send_wr wr = {.wr_id = rdma_work_encode(&work),
				 .sg_list = &sge,
				 .num_sge = len ? 1 : 0,
				 .opcode = IBV_WR_SEND_WITH_IMM,
				 .imm_data = htonl(rdma_immediate_encode(link->owed))},
			   *bad;
	int err;

	signal |= link->posted + 1 - link->signaled >= RDMA_SIGNAL_EVERY;
	if (signal)
		wr.send_flags |= IBV_SEND_SIGNALED;
	if (len && len <= link->inline_max)
		wr.send_flags |= IBV_SEND_INLINE;
	err = -ibv_post_send(link->qp, &wr, &bad);
	if (err) {
		conn_close(conn, -PANGEA_EPEERLOST, "sending to slice %u over RDMA failed: %s",
			   conn->peer, error_text(err));
		return err;
	}
	if (link->signaled == link->done)
		link->moved_ms = now_ms(conn);
	link->posted++;
	if (signal)
		link->signaled = link->posted;
	link->owed = 0;
	return 0;
}

int rdma_link_put(struct conn *conn, const uint8_t *header, const void *payload,
		  uint32_t payload_len)
{
	struct rdma_link *link = conn->rdma;
	uint8_t *slot = send_slot(link, link->posted);
	int err;

	/* The last places are for giving credits back, so that two full sides cannot wait for
	 * each other. */
	if (link->credits == 0 || sends_open(link) >= RDMA_SENDS_MESSAGES)
		return 0;
	memcpy(slot, header, WIRE_HEADER_SIZE);
	if (payload_len)
		memcpy(slot + WIRE_HEADER_SIZE, payload, payload_len);
	err = slot_post(conn, WIRE_HEADER_SIZE + payload_len, false);
	if (err)
		return err;
	link->credits--;
	return 1;
}

void rdma_link_await(struct conn *conn)
{
	if (conn->tx.count == 1)
		conn->rdma->moved_ms = now_ms(conn);
}

void rdma_link_flush(struct conn *conn)
{
	struct send_queue *queue = &conn->tx;

	while (queue->count > 0 && conn->state == CONN_UP) {
		struct send_entry *entry = &queue->ring[queue->head];

		if (rdma_link_put(conn, entry->header, entry->payload, entry->payload_len) <= 0)
			return;
		send_queue_pop(queue);
	}
}

void rdma_link_give(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;

	if (conn->state == CONN_UP && link->owed >= RDMA_SLOTS / 2 && sends_open(link) < RDMA_SENDS)
		(void)slot_post(conn, 0, false);
}

/* What was sent is with the peer once this is. */
static void last_post(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;

	if (link->signaled != link->posted && sends_open(link) < RDMA_SENDS)
		(void)slot_post(conn, 0, true);
}

void rdma_link_sent(struct conn *conn, uint16_t number)
{
	struct rdma_link *link = conn->rdma;
	uint16_t more = (uint16_t)(number + 1 - link->done);

	/* The device's own word, which no peer has. */
	if (more > sends_open(link))
		return;
	link->done += more;
	link->moved_ms = now_ms(conn);
	if (!link->lingers)
		return;
	last_post(conn);
	if (sends_open(link) == 0)
		rdma_linger_end(conn);
}

bool rdma_linger_begin(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;

	if (sends_open(link) == 0)
		return false;
	link->lingers = true;
	conn->net->rdma->lingering++;
	last_post(conn);
	return true;
}

void rdma_linger_end(struct conn *conn)
{
	struct net *net = conn->net;

	if (!conn->rdma || !conn->rdma->lingers)
		return;
	conn->rdma->lingers = false;
	conn_handle_close(conn);
	if (--net->rdma->lingering == 0)
		rdma_loop_close(net);
}
