/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that speaks RDMA by hand. */
#include "tests/unit/transport/rdma_peer.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An attempt waits for the device's retries at most. */
#define EVENT_LIMIT_MS 20000

static struct sockaddr_in host_address(const struct rdma_peer *peer, unsigned port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	cr_assert_eq(inet_pton(AF_INET, peer->rig.host, &at.sin_addr), 1);
	return at;
}

void peer_prepare(struct rdma_peer *peer, enum transport_wish wish)
{
	memset(peer, 0, sizeof(*peer));
	rig_init(&peer->rig, 2, RIG_RDMA);
	peer->rig.wish = wish;
	peer->listener = peer->fd = -1;
}

void peer_calls_prepared(struct rdma_peer *peer)
{
	struct wire_hello hello = rig_hello(&peer->rig, 1);
	struct timeval limit = {.tv_sec = 10};
	uint8_t bytes[PROOF_SIZE + RDMA_OFFER_SIZE];
	struct sockaddr_in to;

	rig_create(&peer->rig, 0, NULL);
	rig_connect(&peer->rig, 0);
	to = host_address(peer, peer->rig.slice[0].port);
	peer->fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(peer->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	cr_assert_eq(connect(peer->fd, (struct sockaddr *)&to, sizeof(to)), 0);
	hello.takes = WIRE_TAKES_RDMA;
	raw_call(&peer->rig, peer->fd, &hello, 0);
	raw_await(&peer->rig, peer->fd, sizeof(bytes));
	raw_read(peer->fd, bytes, sizeof(bytes));
	cr_assert_eq(rdma_offer_decode(bytes + PROOF_SIZE, RDMA_OFFER_SIZE, &peer->offer), 0);
}

void peer_calls(struct rdma_peer *peer, enum transport_wish wish)
{
	peer_prepare(peer, wish);
	peer_calls_prepared(peer);
}

void peer_called(struct rdma_peer *peer, enum transport_wish wish, uint32_t takes)
{
	struct wire_hello hello;
	struct sockaddr_in at;
	socklen_t len = sizeof(at);

	peer_prepare(peer, wish);
	peer->slice = 1;
	at = host_address(peer, 0);
	peer->listener = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(peer->listener, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(listen(peer->listener, 8), 0);
	cr_assert_eq(getsockname(peer->listener, (struct sockaddr *)&at, &len), 0);
	peer->rig.slice[0].port = ntohs(at.sin_port);
	rig_create(&peer->rig, 1, NULL);
	rig_connect(&peer->rig, 1);
	peer->fd = accept(peer->listener, NULL, NULL);
	cr_assert_geq(peer->fd, 0);
	hello = rig_hello(&peer->rig, 0);
	hello.takes = takes;
	raw_answer(&peer->rig, peer->fd, &hello, 1);
}

void peer_offers(struct rdma_peer *peer, const struct rdma_offer *offer)
{
	uint8_t bytes[RDMA_OFFER_SIZE];

	rdma_offer_encode(offer, bytes);
	raw_write(peer->fd, bytes, sizeof(bytes));
}

enum rdma_cm_event_type peer_hears(struct rdma_peer *peer)
{
	enum rdma_cm_event_type type;
	struct rdma_cm_event *event;

	for (unsigned ms = 0; rdma_get_cm_event(peer->events, &event) < 0; ms++) {
		cr_assert_lt(ms, EVENT_LIMIT_MS, "no event");
		rig_run_ms(&peer->rig, 1);
	}
	type = event->event;
	rdma_ack_cm_event(event);
	return type;
}

static uint8_t *slot_of(struct rdma_peer *peer, unsigned number)
{
	return peer->memory + (size_t)number * RDMA_SLOT_SIZE;
}

static void receive_post(struct rdma_peer *peer, unsigned number)
{
	struct ibv_sge sge = {(uintptr_t)slot_of(peer, number), RDMA_SLOT_SIZE, peer->mr->lkey};
	struct ibv_recv_wr wr = {.wr_id = number, .sg_list = &sge, .num_sge = 1}, *bad;

	cr_assert_eq(ibv_post_recv(peer->id->qp, &wr, &bad), 0);
}

static void pair_create(struct rdma_peer *peer)
{
	struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_RC,
					.cap = {.max_send_wr = 64,
						.max_recv_wr = RDMA_RECEIVES,
						.max_send_sge = 1,
						.max_recv_sge = 1}};

	peer->cq = ibv_create_cq(peer->id->verbs, 256, NULL, NULL, 0);
	cr_assert(peer->cq);
	attr.send_cq = attr.recv_cq = peer->cq;
	cr_assert_eq(rdma_create_qp(peer->id, NULL, &attr), 0);
	peer->mr = ibv_reg_mr(peer->id->pd, peer->memory, sizeof(peer->memory),
			      IBV_ACCESS_LOCAL_WRITE);
	cr_assert(peer->mr);
	for (unsigned i = 0; i < RDMA_RECEIVES; i++)
		receive_post(peer, i);
}

static void id_drop(struct rdma_peer *peer)
{
	if (!peer->id)
		return;
	if (peer->id->qp)
		rdma_destroy_qp(peer->id);
	if (peer->mr)
		ibv_dereg_mr(peer->mr);
	if (peer->cq)
		ibv_destroy_cq(peer->cq);
	rdma_destroy_id(peer->id);
	peer->id = NULL;
	peer->mr = NULL;
	peer->cq = NULL;
}

void peer_calls_by_rdma(struct rdma_peer *peer, const void *data, size_t len)
{
	struct sockaddr_in to = host_address(peer, peer->offer.port), from = host_address(peer, 0);
	struct rdma_conn_param param = {.private_data = data,
					.private_data_len = (uint8_t)len,
					.retry_count = 6,
					.rnr_retry_count = 1};

	id_drop(peer);
	if (!peer->events) {
		peer->events = rdma_create_event_channel();
		cr_assert(peer->events);
		fcntl(peer->events->fd, F_SETFL, O_NONBLOCK);
	}
	cr_assert_eq(rdma_create_id(peer->events, &peer->id, NULL, RDMA_PS_TCP), 0);
	cr_assert_eq(
		rdma_resolve_addr(peer->id, (struct sockaddr *)&from, (struct sockaddr *)&to, 5000),
		0);
	cr_assert_eq(peer_hears(peer), RDMA_CM_EVENT_ADDR_RESOLVED);
	cr_assert_eq(rdma_resolve_route(peer->id, 5000), 0);
	cr_assert_eq(peer_hears(peer), RDMA_CM_EVENT_ROUTE_RESOLVED);
	pair_create(peer);
	cr_assert_eq(rdma_connect(peer->id, &param), 0);
}

enum rdma_cm_event_type peer_connects(struct rdma_peer *peer, const void *data, size_t len)
{
	peer_calls_by_rdma(peer, data, len);
	return peer_hears(peer);
}

void peer_request(const struct rdma_peer *peer, uint8_t out[RDMA_REQUEST_SIZE])
{
	struct rdma_request request = {.mtu = peer->offer.mtu};

	memcpy(request.token, peer->offer.token, sizeof(request.token));
	rdma_request_encode(&request, out);
}

void peer_word(struct rdma_peer *peer, char word)
{
	raw_write(peer->fd, &word, 1);
}

void peer_up_by_rdma(struct rdma_peer *peer)
{
	uint8_t request[RDMA_REQUEST_SIZE];

	peer_request(peer, request);
	cr_assert_eq(peer_connects(peer, request, sizeof(request)), RDMA_CM_EVENT_ESTABLISHED);
	peer_word(peer, RDMA_WORD_UP);
	cr_assert(rig_until(&peer->rig, &peer->rig.slice[0].ups, 1));
}

static void send_post(struct rdma_peer *peer, const void *bytes, size_t len,
		      enum ibv_wr_opcode opcode, uint32_t word)
{
	uint8_t *slot = slot_of(peer, RDMA_RECEIVES);
	struct ibv_sge sge = {(uintptr_t)slot, (uint32_t)len, peer->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &sge,
				 .num_sge = len ? 1 : 0,
				 .opcode = opcode,
				 .send_flags = IBV_SEND_SIGNALED,
				 .imm_data = htonl(word)},
			   *bad;

	/* The slot is used again at once: each send of a test ends before the next one begins, or is as it. */
	if (len)
		memcpy(slot, bytes, len);
	cr_assert_eq(ibv_post_send(peer->id->qp, &wr, &bad), 0);
}

void peer_sends(struct rdma_peer *peer, const void *bytes, size_t len, uint32_t word)
{
	send_post(peer, bytes, len, IBV_WR_SEND_WITH_IMM, word);
}

void peer_sends_plain(struct rdma_peer *peer, const void *bytes, size_t len)
{
	send_post(peer, bytes, len, IBV_WR_SEND, 0);
}

void peer_writes_nothing(struct rdma_peer *peer)
{
	send_post(peer, NULL, 0, IBV_WR_RDMA_WRITE_WITH_IMM, 0);
}

void peer_polls(struct rdma_peer *peer)
{
	struct ibv_wc wc;

	while (ibv_poll_cq(peer->cq, 1, &wc) > 0) {
		if (wc.status != IBV_WC_SUCCESS || wc.opcode != IBV_WC_RECV)
			continue;
		peer->got += wc.byte_len > 0;
		peer->got_words += ntohl(wc.imm_data);
		receive_post(peer, (unsigned)wc.wr_id);
	}
}

void peer_is_lost(struct rdma_peer *peer, int err, const char *says)
{
	struct rig_slice *slice = &peer->rig.slice[peer->slice];
	unsigned other = 1 - peer->slice;

	for (int tries = 0; tries < 3 && !slice->lost[other]; tries++)
		(void)rig_until(&peer->rig, &slice->lost[other], 1);
	cr_assert_eq(slice->lost[other], 1, "it is not lost");
	cr_assert_eq(slice->lost_err[other], err, "%s", slice->lost_why[other]);
	cr_assert(strstr(slice->lost_why[other], says), "\"%s\" does not say \"%s\"",
		  slice->lost_why[other], says);
}

void peer_pair_destroy(struct rdma_peer *peer)
{
	rdma_destroy_qp(peer->id);
}

void peer_end(struct rdma_peer *peer)
{
	id_drop(peer);
	if (peer->events)
		rdma_destroy_event_channel(peer->events);
	if (peer->fd >= 0)
		close(peer->fd);
	if (peer->listener >= 0)
		close(peer->listener);
	rig_destroy(&peer->rig);
}
