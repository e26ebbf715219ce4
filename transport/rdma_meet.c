/* SPDX-License-Identifier: Apache-2.0 */
/* From a proven TCP connection to RDMA: an offer, a connection by its token, and the caller's word. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* The caller decides, so the callee waits longer. */
#define CALLEE_PATIENCE 2
/* An attempt leaves most of the time to connect to what comes after it. */
#define ATTEMPT_SHARE 3

static struct net_peer *peer_of(const struct conn *conn)
{
	return &conn->net->peers[conn->peer];
}

static uint64_t attempt_limit_ms(const struct net *net)
{
	unsigned share_ms = net->config.connect_timeout_ms / ATTEMPT_SHARE;

	return share_ms < RDMA_ATTEMPT_MS ? share_ms : RDMA_ATTEMPT_MS;
}

bool rdma_offers(const struct conn *conn)
{
	return conn->net->rdma && conn->net->rdma->running && !conn->local;
}

/* Does a hello say that its sender takes RDMA? */
static bool hello_takes_rdma(const uint8_t *bytes)
{
	struct wire_hello hello;

	return wire_hello_decode(bytes, WIRE_HELLO_SIZE, &hello) == 0 &&
	       (hello.takes & WIRE_TAKES_RDMA);
}

/* TCP carries this peer's messages, and why; or where only RDMA may, the peer is lost. */
static bool tcp_allowed(struct conn *conn, const char *why)
{
	struct net_peer *peer = peer_of(conn);

	if (why[0])
		snprintf(peer->rdma_why, sizeof(peer->rdma_why), "%s", why);
	if (conn->net->config.wish != TRANSPORT_RDMA)
		return true;
	conn_close(conn, -PANGEA_EPEERFEATURES, "slice %u cannot be reached by RDMA: %s",
		   conn->peer, peer->rdma_why);
	return false;
}

/* There is no attempt. True: the connection closes. */
static bool no_attempt(struct conn *conn)
{
	const struct net *net = conn->net;
	char why[NET_WHY_MAX] = "it offers none (its log says why)";

	if (!hello_takes_rdma(conn->sent))
		snprintf(why, sizeof(why), "%s", net->rdma_why);
	return !tcp_allowed(conn, why);
}

static struct rdma_link *link_create(struct conn *conn)
{
	struct rdma_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->number = ++conn->net->rdma->links;
	conn->rdma = link;
	conn->since_ms = uv_now(conn->net->config.loop);
	return link;
}

static int offer_send(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;
	struct rdma_offer offer = {.port = conn->net->rdma->listen_port,
				   .slots = RDMA_SLOTS,
				   .mtu = conn->net->rdma->mtu};

	invariant(getrandom(link->token, sizeof(link->token), 0) == (ssize_t)sizeof(link->token));
	memcpy(offer.token, link->token, sizeof(offer.token));
	link->mtu = offer.mtu;
	rdma_offer_encode(&offer, link->offer);
	return conn_say(conn, link->offer, RDMA_OFFER_SIZE);
}

bool rdma_meet(struct conn *conn)
{
	if (conn->local)
		return false;
	if (!hello_takes_rdma(conn->sent) || !hello_takes_rdma(conn->hello))
		return no_attempt(conn);
	if (!link_create(conn)) {
		conn_close_transient(conn, -ENOMEM, "%s", error_text(-ENOMEM));
		return true;
	}
	conn->state = CONN_RDMA;
	conn_watch(conn, UV_READABLE);
	if (conn->accepted && offer_send(conn) < 0)
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u hung up", conn->peer);
	return true;
}

static bool word_say(struct conn *conn, char word)
{
	if (conn_say(conn, &word, 1) == 0)
		return true;
	conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u hung up", conn->peer);
	return false;
}

void rdma_meet_failed(struct conn *conn, const char *fmt, ...)
{
	struct net_peer *peer = peer_of(conn);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(peer->rdma_why, sizeof(peer->rdma_why), fmt, ap);
	va_end(ap);
	if (conn->accepted) {
		/* Nobody comes by this token any more; the caller will say what now. */
		conn->rdma->usable = false;
		conn->rdma->token_used = true;
		return;
	}
	rdma_link_destroy(conn);
	if (word_say(conn, RDMA_WORD_NO) && tcp_allowed(conn, ""))
		peer_up(conn);
}

/* The caller: the offer is there, and it goes to that port. */
static void offer_take(struct conn *conn)
{
	struct rdma_net *rdma = conn->net->rdma;
	struct rdma_link *link = conn->rdma;
	struct sockaddr_storage to = peer_of(conn)->address;
	struct rdma_offer offer;
	int err = rdma_offer_decode(link->offer, RDMA_OFFER_SIZE, &offer);

	if (err) {
		conn_close(conn, err, "slice %u made an offer of RDMA that is none: %s", conn->peer,
			   error_text(err));
		return;
	}
	memcpy(link->token, offer.token, sizeof(link->token));
	link->mtu = offer.mtu < rdma->mtu ? offer.mtu : rdma->mtu;
	if (to.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&to)->sin6_port = htons(offer.port);
	else
		((struct sockaddr_in *)&to)->sin_port = htons(offer.port);
	if (rdma_create_id(rdma->events, &link->id, conn, RDMA_PS_TCP) < 0) {
		link->id = NULL;
		rdma_meet_failed(conn, "no connection can be made: %s", error_text(-errno));
	} else if (rdma_resolve_addr(link->id, (struct sockaddr *)&rdma->address,
				     (struct sockaddr *)&to, (int)RDMA_ATTEMPT_MS) < 0) {
		rdma_meet_failed(conn, "its address leads to no RDMA device: %s",
				 error_text(-errno));
	}
}

void rdma_address_resolved(struct conn *conn)
{
	struct rdma_net *rdma = conn->net->rdma;
	struct rdma_cm_id *id;

	if (conn->state != CONN_RDMA || conn->accepted)
		return;
	id = conn->rdma->id;
	if (id->verbs != rdma->verbs || id->port_num != rdma->port)
		rdma_meet_failed(conn, "the way to it leaves by another device or port");
	else if (rdma_resolve_route(id, (int)RDMA_ATTEMPT_MS) < 0)
		rdma_meet_failed(conn, "there is no path to it: %s", error_text(-errno));
}

/* Neither side reads or writes the other's memory, so nothing is reserved for that. */
static struct rdma_conn_param connect_param(const struct rdma_link *link)
{
	return (struct rdma_conn_param){.retry_count = RDMA_RETRIES,
					.rnr_retry_count = RDMA_RNR_TRIES,
					.flow_control = 1,
					.qp_num = link->qp->qp_num};
}

void rdma_route_resolved(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;
	struct rdma_request request;
	struct rdma_conn_param param;
	uint8_t bytes[RDMA_REQUEST_SIZE];
	char why[NET_WHY_MAX];

	if (conn->state != CONN_RDMA || conn->accepted)
		return;
	if (rdma_qp_create(conn, why, sizeof(why)) < 0) {
		rdma_meet_failed(conn, "%s", why);
		return;
	}
	request.mtu = link->mtu;
	memcpy(request.token, link->token, sizeof(request.token));
	rdma_request_encode(&request, bytes);
	param = connect_param(link);
	param.private_data = bytes;
	param.private_data_len = sizeof(bytes);
	if (rdma_connect(link->id, &param) < 0)
		rdma_meet_failed(conn, "it cannot be called: %s", error_text(-errno));
}

/* The callee has accepted: the caller's end is ready with this, and says so. */
void rdma_answered(struct conn *conn)
{
	char why[NET_WHY_MAX];

	if (conn->state != CONN_RDMA || conn->accepted)
		return;
	if (rdma_qp_connect(conn, why, sizeof(why)) < 0)
		rdma_meet_failed(conn, "%s", why);
	else if (rdma_establish(conn->rdma->id) < 0)
		rdma_meet_failed(conn, "the connection was not completed: %s", error_text(-errno));
	else if (word_say(conn, RDMA_WORD_UP))
		peer_up(conn);
}

/* Whose token is it? It is good once, while that connection waits for its caller. */
static struct conn *token_conn(struct net *net, const uint8_t *token)
{
	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn->state == CONN_RDMA && conn->accepted && !conn->rdma->token_used &&
		    rdma_token_equal(conn->rdma->token, token))
			return conn;
	return NULL;
}

static void call_refuse(struct net *net, struct rdma_cm_id *id, const char *why)
{
	struct sockaddr_storage from = {0};
	const struct sockaddr *peer = rdma_get_peer_addr(id);
	char name[NET_NAME_MAX], text[NET_NAME_MAX + 16];

	memcpy(&from, peer,
	       peer->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					   : sizeof(struct sockaddr_in));
	address_print(&from, name, sizeof(name));
	snprintf(text, sizeof(text), "%s by RDMA", name);
	refusal_count(net, text, why);
	rdma_reject(id, NULL, 0);
	rdma_destroy_id(id);
}

/* The link has its id now. 0, or a negative errno and why. */
static int call_accept(struct conn *conn, char *why, size_t size)
{
	struct rdma_conn_param param;
	int err = rdma_qp_create(conn, why, size);

	if (!err)
		err = rdma_qp_connect(conn, why, size);
	if (err)
		return err;
	param = connect_param(conn->rdma);
	if (rdma_accept(conn->rdma->id, &param) == 0)
		return 0;
	err = -errno;
	conn->rdma->usable = false;
	snprintf(why, size, "the call cannot be accepted: %s", error_text(err));
	return err;
}

void rdma_called(struct net *net, struct rdma_cm_id *id, const uint8_t *bytes, size_t len)
{
	struct rdma_request request;
	char why[NET_WHY_MAX];
	struct conn *conn;
	int err = rdma_request_decode(bytes, len, &request);

	if (err) {
		snprintf(why, sizeof(why), "its request is none: %s", error_text(err));
		call_refuse(net, id, why);
		return;
	}
	conn = token_conn(net, request.token);
	if (!conn || request.mtu > conn->rdma->mtu || id->verbs != net->rdma->verbs) {
		call_refuse(net, id,
			    conn ? "it asks for what was not offered"
				 : "it has no token of a slice that is awaited");
		return;
	}
	conn->rdma->token_used = true;
	conn->rdma->mtu = request.mtu;
	conn->rdma->id = id;
	id->context = conn;
	if (call_accept(conn, why, sizeof(why)) == 0)
		return;
	log_warn("slice %u was not accepted by RDMA: %s", conn->peer, why);
	rdma_reject(id, NULL, 0);
	rdma_meet_failed(conn, "%s", why);
}

/* The callee hears what the caller has decided. */
static void word_take(struct conn *conn, char word)
{
	struct net_peer *peer = peer_of(conn);

	if (word == RDMA_WORD_UP && conn->rdma->usable) {
		peer_up(conn);
		if (conn->state == CONN_UP)
			rdma_link_held(conn);
	} else if (word == RDMA_WORD_UP) {
		conn_close(conn, -PANGEA_EPROTOCOL,
			   "slice %u says that RDMA works, and here it does not: %.200s",
			   conn->peer, peer->rdma_why[0] ? peer->rdma_why : "it has not called");
	} else if (word == RDMA_WORD_NO) {
		rdma_link_destroy(conn);
		if (tcp_allowed(conn,
				peer->rdma_why[0]
					? ""
					: "the caller did not come through (its log says why)"))
			peer_up(conn);
	} else {
		conn_close(conn, -PANGEA_EPROTOCOL,
			   "slice %u said neither that RDMA works nor that it does not",
			   conn->peer);
	}
}

static void closed_early(struct conn *conn)
{
	conn_close_transient(conn, -PANGEA_EPEERLOST,
			     "slice %u closed the connection while RDMA was tried", conn->peer);
}

void rdma_meet_event(struct conn *conn)
{
	struct rdma_link *link = conn->rdma;
	bool offered = link->offer_have == RDMA_OFFER_SIZE;
	uint8_t word;
	uint8_t *to = conn->accepted || offered ? &word : link->offer + link->offer_have;
	size_t room = to == &word ? 1 : RDMA_OFFER_SIZE - link->offer_have;
	ssize_t n = conn_hear(conn, to, room);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		closed_early(conn);
	} else if (conn->accepted) {
		word_take(conn, (char)word);
	} else if (offered) {
		conn_close(conn, -PANGEA_EPROTOCOL, "slice %u spoke while RDMA was tried",
			   conn->peer);
	} else {
		link->offer_have += (unsigned)n;
		if (link->offer_have == RDMA_OFFER_SIZE)
			offer_take(conn);
	}
}

static void attempt_late(struct conn *conn, uint64_t ms)
{
	bool offered = conn->rdma->offer_have == RDMA_OFFER_SIZE;

	if (conn->accepted)
		conn_close_transient(conn, -ETIMEDOUT,
				     "slice %u did not say within %llu ms whether RDMA works",
				     conn->peer, (unsigned long long)ms);
	else if (!offered)
		conn_close_transient(conn, -ETIMEDOUT,
				     "slice %u did not say within %llu ms where it is by RDMA",
				     conn->peer, (unsigned long long)ms);
	else
		rdma_meet_failed(conn, "it was not reached within %llu ms", (unsigned long long)ms);
}

void rdma_meet_tick(struct net *net)
{
	uint64_t now_ms = uv_now(net->config.loop), limit_ms = attempt_limit_ms(net);

	for (struct conn *conn = net->conns; conn && !net->closed; conn = conn->next) {
		uint64_t ms = conn->accepted ? CALLEE_PATIENCE * limit_ms : limit_ms;

		if (conn->state == CONN_RDMA && now_ms - conn->since_ms >= ms)
			attempt_late(conn, ms);
	}
}
