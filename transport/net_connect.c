/* SPDX-License-Identifier: Apache-2.0 */
/* Making the connections to all peers: attempts, the deadline, and what becomes of each peer. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* Parses "host:port" or "[host]:port", numeric; name resolution would block the loop. */
static int address_parse(const char *text, struct net_peer *peer)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *info;
	const char *colon = text ? strrchr(text, ':') : NULL;
	char host[64];
	size_t len;

	if (!colon || colon == text || !colon[1])
		return -EINVAL;
	len = (size_t)(colon - text);
	if (text[0] == '[' && len >= 2 && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	if (getaddrinfo(host, colon + 1, &hints, &info) != 0)
		return -EINVAL;
	memcpy(&peer->address, info->ai_addr, info->ai_addrlen);
	peer->address_len = info->ai_addrlen;
	freeaddrinfo(info);
	address_print(&peer->address, peer->name, sizeof(peer->name));
	return 0;
}

static bool peer_pending(const struct net_peer *peer)
{
	return peer->state == PEER_WAITING || peer->state == PEER_OPENING;
}

/* Closes what is no longer needed: the listener once no higher slice is awaited, the timers. */
static void net_settle(struct net *net)
{
	bool callers = false, pending = false;

	for (unsigned i = 0; i < net->config.hello.slices; i++) {
		pending |= peer_pending(&net->peers[i]);
		callers |= i > net->config.hello.slice && peer_pending(&net->peers[i]);
	}
	if (!callers)
		net_listeners_close(net);
	if (!pending) {
		uv_timer_stop(&net->retry_timer);
		uv_timer_stop(&net->deadline_timer);
		net_keys_forget(net);
	}
}

static void peer_lost(struct net *net, unsigned index, int err, const char *why)
{
	net->peers[index].state = PEER_LOST;
	net->config.callbacks.on_lost(net->config.callbacks.ctx, index, err, why);
	if (!net->closed)
		net_settle(net);
}

static void rdma_log(const struct conn *conn)
{
	log_info("slice %u is reached over RDMA, in packets of up to %u bytes", conn->peer,
		 conn->rdma->mtu);
	if (conn->encrypted)
		log_warn("slice %u: what is said can be read and changed on the way: RDMA does not "
			 "encrypt",
			 conn->peer);
}

/* Why nothing better than TCP carries this link, as far as it was tried. */
static void tcp_log(const struct conn *conn)
{
	const struct net_peer *peer = &conn->net->peers[conn->peer];
	const char *rdma = peer->rdma_why;

	if (peer->local_why[0])
		log_info("slice %u is reached over TCP: %s", conn->peer, peer->local_why);
	if (rdma[0])
		log_info("slice %u is reached over TCP: RDMA: %s", conn->peer, rdma);
}

/* What carries this link, and why not something better. */
static void carrier_log(const struct conn *conn)
{
	const struct net *net = conn->net;

	if (conn->local)
		return;
	if (conn->rdma)
		rdma_log(conn);
	else
		tcp_log(conn);
	if (!conn->encrypted)
		log_warn("slice %u: what is said can be read and changed on the way "
			 "(--plaintext-data)",
			 conn->peer);
	else if (conn->rdma)
		return;
	else if (conn->tls)
		log_info("slice %u: TLS 1.3 in user space: %s", conn->peer,
			 tls_kernel_why(net->tls));
	else
		log_info("slice %u: TLS 1.3 in the kernel", conn->peer);
}

void peer_proven(struct conn *conn)
{
	if (!rdma_meet(conn))
		peer_up(conn);
}

void peer_up(struct conn *conn)
{
	struct net *net = conn->net;
	struct net_peer *peer = &net->peers[conn->peer];

	conn_up(conn);
	peer->state = PEER_UP;
	carrier_log(conn);
	net->config.callbacks.on_up(net->config.callbacks.ctx, conn->peer);
	if (!net->closed)
		net_settle(net);
}

/* A call of ours over a local socket; NULL: there is none, and the peer's local_why says why. */
static struct conn *local_attempt(struct net *net, unsigned index)
{
	struct net_peer *peer = &net->peers[index];
	int fd = local_call(peer, peer->local_why, sizeof(peer->local_why));
	struct conn *conn = fd < 0 ? NULL : conn_create(net, fd, true, false, index);

	if (fd >= 0 && !conn)
		snprintf(peer->local_why, sizeof(peer->local_why), "%s", error_text(-ENOMEM));
	return conn;
}

/* A call of ours over TCP; a negative code: there is none. */
static int tcp_attempt(struct net *net, unsigned index)
{
	struct net_peer *peer = &net->peers[index];
	int err,
		fd = socket(peer->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&peer->address, peer->address_len) < 0 &&
	    errno != EINPROGRESS) {
		err = -errno;
		close(fd);
		return err;
	}
	peer->conn = conn_create(net, fd, false, false, index);
	return peer->conn ? 0 : -ENOMEM;
}

/* One attempt to reach a lower slice; a failure leaves it waiting for the next. */
static void peer_attempt(struct net *net, unsigned index)
{
	struct net_peer *peer = &net->peers[index];
	enum transport_wish wish = net->config.wish;
	const char *why = peer->local_why;
	int err = 0;

	if (wish == TRANSPORT_SHM || (wish == TRANSPORT_AUTO && !peer->local_failed))
		peer->conn = local_attempt(net, index);
	if (!peer->conn && wish != TRANSPORT_SHM) {
		err = tcp_attempt(net, index);
		why = error_text(err);
	}
	if (peer->conn)
		peer->state = PEER_OPENING;
	else
		snprintf(peer->why, sizeof(peer->why), "slice %u cannot be reached: %.200s", index,
			 why);
}

/* By shared memory it did not work; there is TCP still, unless the peer itself is the wrong one. */
static bool attempt_was_local(const struct conn *conn)
{
	return conn->local && conn->err != -PANGEA_EPEERVM && !conn->accepted && !conn->was_up &&
	       conn->net->config.wish == TRANSPORT_AUTO &&
	       uv_is_active((const uv_handle_t *)&conn->net->deadline_timer);
}

void peer_conn_closed(struct conn *conn)
{
	struct net *net = conn->net;
	struct net_peer *peer = &net->peers[conn->peer];

	if (peer->conn != conn)
		return;
	peer->conn = NULL;
	if (attempt_was_local(conn)) {
		peer->state = PEER_WAITING;
		peer->local_failed = true;
		snprintf(peer->local_why, sizeof(peer->local_why), "%s", conn->why);
		peer_attempt(net, conn->peer);
		return;
	}
	if (conn->transient && uv_is_active((uv_handle_t *)&net->deadline_timer)) {
		peer->state = PEER_WAITING;
		snprintf(peer->why, sizeof(peer->why), "%s", conn->why);
		return;
	}
	peer_lost(net, conn->peer, conn->err, conn->why);
}

static void peers_attempt(struct net *net)
{
	for (unsigned i = 0; i < net->config.hello.slice; i++)
		if (net->peers[i].state == PEER_WAITING)
			peer_attempt(net, i);
}

static void on_retry(uv_timer_t *timer)
{
	struct net *net = timer->data;

	peers_attempt(net);
	net_strangers_tick(net);
	rdma_meet_tick(net);
	if (net->accept_paused)
		net_accept_start(net);
}

/* The sentence for a peer that was not up in time. */
static void lateness_explain(struct net *net, unsigned index, char *why)
{
	struct net_peer *peer = &net->peers[index];
	unsigned ms = net->config.connect_timeout_ms;

	if (peer->conn && peer->conn->state == CONN_MAPPING)
		snprintf(why, NET_WHY_MAX,
			 "slice %u did not say within %u ms that it has the memory to share", index,
			 ms);
	else if (peer->conn && peer->conn->state == CONN_RDMA)
		snprintf(why, NET_WHY_MAX, "slice %u at %s was not reached by RDMA within %u ms",
			 index, peer->name, ms);
	else if (peer->conn && peer->conn->state == CONN_TLS)
		snprintf(why, NET_WHY_MAX,
			 "slice %u at %s did not end its TLS handshake within %u ms", index,
			 peer->name, ms);
	else if (peer->conn && peer->conn->state == CONN_PROOF)
		snprintf(why, NET_WHY_MAX,
			 "slice %u at %s did not prove within %u ms that it has its key", index,
			 peer->name, ms);
	else if (peer->conn && peer->conn->state == CONN_HELLO)
		snprintf(why, NET_WHY_MAX,
			 "slice %u at %s sent only %u of %u bytes of its hello within %u ms", index,
			 peer->name, peer->conn->hello_have, WIRE_HELLO_SIZE, ms);
	else if (peer->conn)
		snprintf(why, NET_WHY_MAX, "slice %u at %s does not answer within %u ms", index,
			 peer->name, ms);
	else if (peer->why[0])
		snprintf(why, NET_WHY_MAX, "no connection within %u ms: %.200s", ms, peer->why);
	else if (net->refused[0])
		snprintf(why, NET_WHY_MAX, "slice %u did not connect within %u ms (refused %.180s)",
			 index, ms, net->refused);
	else
		snprintf(why, NET_WHY_MAX, "slice %u did not connect within %u ms", index, ms);
}

static void on_deadline(uv_timer_t *timer)
{
	struct net *net = timer->data;
	char why[NET_WHY_MAX];

	for (unsigned i = 0; i < net->config.hello.slices && !net->closed; i++) {
		struct net_peer *peer = &net->peers[i];

		if (!peer_pending(peer))
			continue;
		lateness_explain(net, i, why);
		if (peer->conn)
			conn_close(peer->conn, -ETIMEDOUT, "%s", why);
		else
			peer_lost(net, i, -ETIMEDOUT, why);
	}
}

int net_connect(struct transport *t, const char *const *addresses)
{
	struct net *net = (struct net *)t;
	const struct wire_hello *hello = &net->config.hello;

	if (net->connecting)
		return -EALREADY;
	for (unsigned i = 0; i < hello->slice; i++) {
		int err = address_parse(addresses[i], &net->peers[i]);

		if (err)
			return err;
	}
	net->connecting = true;
	for (unsigned i = 0; i < hello->slices; i++)
		if (i != hello->slice)
			net->peers[i].state = PEER_WAITING;
	uv_update_time(net->config.loop);
	uv_timer_start(&net->deadline_timer, on_deadline, net->config.connect_timeout_ms, 0);
	uv_timer_start(&net->retry_timer, on_retry, NET_RETRY_MS, NET_RETRY_MS);
	net_accept_start(net);
	peers_attempt(net);
	net_settle(net);
	return 0;
}
