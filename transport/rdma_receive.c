/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving by RDMA: completions become messages, credits, ends of sends, or the end of the link. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "transport/net_parts.h"

/* The connection that a completion is of, or NULL: its link is gone. */
static struct conn *work_conn(const struct net *net, const struct rdma_work *work)
{
	struct conn *conn = work->peer < SLICES_MAX ? net->peers[work->peer].conn : NULL;

	return conn && conn->rdma && conn->rdma->number == work->link ? conn : NULL;
}

static void link_broken(struct conn *conn, const struct ibv_wc *wc)
{
	const char *what = ibv_wc_status_str(wc->status);

	if (conn->state == CONN_RDMA)
		rdma_meet_failed(conn, "the queue pair failed: %s", what);
	else if (wc->status == IBV_WC_LOC_LEN_ERR)
		conn_close(conn, -PANGEA_EWIRELEN,
			   "slice %u sent a message that is longer than any may be", conn->peer);
	else if (wc->status == IBV_WC_RETRY_EXC_ERR || wc->status == IBV_WC_RNR_RETRY_EXC_ERR)
		conn_close(conn, -PANGEA_EPEERLOST, "slice %u does not answer over RDMA: %s",
			   conn->peer, what);
	else
		conn_close(conn, -PANGEA_EPEERLOST, "the RDMA connection to slice %u failed: %s",
			   conn->peer, what);
}

static void nonsense(struct conn *conn, const char *what)
{
	conn_close(conn, -PANGEA_EWIRE, "slice %u sent nonsense over RDMA: %s", conn->peer, what);
}

/* Where the payload shall be for its message: there it is, then. NULL: the connection closes. */
static void *payload_place(struct conn *conn, const struct wire_msg *msg, uint8_t *lies)
{
	struct transport_callbacks *cb = &conn->net->config.callbacks;
	void *place = cb->payload_buffer(cb->ctx, conn->peer, msg, lies);

	if (!place)
		message_refused(conn, msg, -PANGEA_EPROTOCOL);
	else if (place != lies)
		memcpy(place, lies, msg->payload_len);
	return place;
}

static void slot_deliver(struct conn *conn, uint8_t *slot, uint32_t len)
{
	struct wire_msg msg = {0};
	void *payload = NULL;
	int err = rdma_message_decode(slot, len, &msg);

	if (err) {
		conn_close(conn, err, "slice %u sent nonsense: %s (type %u, length %u in %u bytes)",
			   conn->peer, error_text(err), msg.type, msg.payload_len, len);
		return;
	}
	if (msg.payload_len > 0) {
		payload = payload_place(conn, &msg, slot + WIRE_HEADER_SIZE);
		if (!payload)
			return;
	}
	message_deliver(conn, &msg, payload);
}

/* The slot's message is done with: it is the peer's again. */
static void slot_return(struct conn *conn, unsigned slot, bool message)
{
	int err;

	if (conn->state != CONN_UP)
		return;
	err = rdma_receive_post(conn, slot);
	if (err)
		conn_close(conn, -PANGEA_EPEERLOST, "receiving from slice %u over RDMA failed: %s",
			   conn->peer, error_text(err));
	else
		conn->rdma->owed += message;
}

static void credits_take(struct conn *conn, unsigned given)
{
	if (given == 0 || conn->state != CONN_UP)
		return;
	if (rdma_credits_add(&conn->rdma->credits, given) < 0) {
		nonsense(conn, "more credits than there are");
		return;
	}
	conn->rdma->moved_ms = uv_now(conn->net->config.loop);
	rdma_link_flush(conn);
}

static void arrived(struct conn *conn, const struct rdma_held *it)
{
	uint8_t *slot =
		conn->rdma->memory + (RDMA_SENDS + it->slot) * RDMA_SLOT_SIZE + RDMA_SLOT_HEADER;
	unsigned given;

	if (rdma_immediate_decode(ntohl(it->word), &given) < 0) {
		nonsense(conn, "its immediate data are none");
		return;
	}
	if (it->len > 0)
		slot_deliver(conn, slot, it->len);
	/* First a receive for what the credits may bring (rdma_link.h). */
	slot_return(conn, it->slot, it->len > 0);
	credits_take(conn, given);
	rdma_link_give(conn);
}

static void receive_completed(struct conn *conn, unsigned slot, const struct ibv_wc *wc)
{
	struct rdma_link *link = conn->rdma;
	struct rdma_held it = {(uint16_t)slot, wc->byte_len, wc->imm_data};

	if (wc->opcode != IBV_WC_RECV || !(wc->wc_flags & IBV_WC_WITH_IMM)) {
		nonsense(conn, "a message that is no send with immediate data");
		return;
	}
	if (conn->state == CONN_UP)
		arrived(conn, &it);
	else if (conn->state == CONN_RDMA && link->held_count < RDMA_RECEIVES)
		link->held[link->held_count++] = it;
}

void rdma_link_held(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;

	for (unsigned i = 0; i < link->held_count && conn->state == CONN_UP; i++)
		arrived(conn, &link->held[i]);
	link->held_count = 0;
}

void rdma_completion(struct net *net, const struct ibv_wc *wc)
{
	struct rdma_work work = rdma_work_decode(wc->wr_id);
	struct conn *conn = work_conn(net, &work);

	if (!conn || (conn->state == CONN_CLOSING && !conn->rdma->lingers))
		return;
	if (wc->status != IBV_WC_SUCCESS) {
		if (conn->rdma->lingers)
			rdma_linger_end(conn);
		else
			link_broken(conn, wc);
		return;
	}
	if (work.receive) {
		receive_completed(conn, work.number, wc);
		return;
	}
	rdma_link_sent(conn, work.number);
	if (conn->state == CONN_UP) {
		rdma_link_flush(conn);
		rdma_link_give(conn);
	}
}

/* Nothing is said there any more; its end is the peer's. */
void rdma_link_event(struct conn *conn)
{
	char byte;
	ssize_t n = recv(conn->fd, &byte, 1, MSG_DONTWAIT);
	int err = n < 0 ? -errno : 0;

	if (err == -EAGAIN || err == -EINTR)
		return;
	/* Its last words have arrived, for it closes when they have. */
	rdma_loop_drain(conn->net);
	if (conn->state != CONN_UP)
		return;
	if (n == 0)
		conn_close(conn, -PANGEA_EPEERLOST, "slice %u closed the connection", conn->peer);
	else if (n > 0)
		conn_close(conn, -PANGEA_EPROTOCOL,
			   "slice %u spoke on its TCP connection, beside RDMA", conn->peer);
	else
		conn_close(conn, -PANGEA_EPEERLOST, "connection to slice %u lost: %s", conn->peer,
			   error_text(err));
}
