/* SPDX-License-Identifier: Apache-2.0 */
/* Making the connections to all peers: attempts, the deadline, and what becomes of each peer. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/tcp_parts.h"

/* Parses "host:port" or "[host]:port", numeric; name resolution would block the loop. */
static int address_parse(const char *text, struct tcp_peer *peer)
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

static bool peer_pending(const struct tcp_peer *peer)
{
	return peer->state == PEER_WAITING || peer->state == PEER_OPENING;
}

/* Closes what is no longer needed: the listener once no higher slice is awaited, the timers. */
static void tcp_settle(struct tcp *tcp)
{
	bool callers = false, pending = false;

	for (unsigned i = 0; i < tcp->config.hello.slices; i++) {
		pending |= peer_pending(&tcp->peers[i]);
		callers |= i > tcp->config.hello.slice && peer_pending(&tcp->peers[i]);
	}
	if (!callers)
		tcp_listener_close(tcp);
	if (!pending) {
		uv_timer_stop(&tcp->retry_timer);
		uv_timer_stop(&tcp->deadline_timer);
	}
}

static void peer_lost(struct tcp *tcp, unsigned index, int err, const char *why)
{
	tcp->peers[index].state = PEER_LOST;
	tcp->config.callbacks.on_lost(tcp->config.callbacks.ctx, index, err, why);
	if (!tcp->closed)
		tcp_settle(tcp);
}

void peer_up(struct conn *conn)
{
	struct tcp *tcp = conn->tcp;

	conn->state = CONN_UP;
	tcp->peers[conn->peer].state = PEER_UP;
	tcp->config.callbacks.on_up(tcp->config.callbacks.ctx, conn->peer);
	if (!tcp->closed)
		tcp_settle(tcp);
}

void peer_conn_closed(struct conn *conn)
{
	struct tcp *tcp = conn->tcp;
	struct tcp_peer *peer = &tcp->peers[conn->peer];

	if (peer->conn != conn)
		return;
	peer->conn = NULL;
	if (conn->transient && uv_is_active((uv_handle_t *)&tcp->deadline_timer)) {
		peer->state = PEER_WAITING;
		snprintf(peer->why, sizeof(peer->why), "%s", conn->why);
		return;
	}
	peer_lost(tcp, conn->peer, conn->err, conn->why);
}

/* One attempt to reach a lower slice; a failure leaves it waiting for the next. */
static void peer_attempt(struct tcp *tcp, unsigned index)
{
	struct tcp_peer *peer = &tcp->peers[index];
	int fd = socket(peer->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? -errno : 0;

	if (!err && connect(fd, (struct sockaddr *)&peer->address, peer->address_len) < 0 &&
	    errno != EINPROGRESS)
		err = -errno;
	if (!err) {
		peer->conn = conn_create(tcp, fd, false, index);
		err = peer->conn ? 0 : -ENOMEM;
		fd = -1;
	}
	if (fd >= 0)
		close(fd);
	if (err)
		snprintf(peer->why, sizeof(peer->why), "slice %u cannot be reached: %s", index,
			 error_text(err));
	else
		peer->state = PEER_OPENING;
}

static void peers_attempt(struct tcp *tcp)
{
	for (unsigned i = 0; i < tcp->config.hello.slice; i++)
		if (tcp->peers[i].state == PEER_WAITING)
			peer_attempt(tcp, i);
}

static void on_retry(uv_timer_t *timer)
{
	struct tcp *tcp = timer->data;

	peers_attempt(tcp);
	if (tcp->accept_paused)
		tcp_accept_start(tcp);
}

/* The sentence for a peer that was not up in time. */
static void lateness_explain(struct tcp *tcp, unsigned index, char *why)
{
	struct tcp_peer *peer = &tcp->peers[index];
	unsigned ms = tcp->config.connect_timeout_ms;

	if (peer->conn && peer->conn->state == CONN_HELLO)
		snprintf(why, TCP_WHY_MAX,
			 "slice %u at %s sent only %u of %u bytes of its hello within %u ms", index,
			 peer->name, peer->conn->hello_have, WIRE_HELLO_SIZE, ms);
	else if (peer->conn)
		snprintf(why, TCP_WHY_MAX, "slice %u at %s does not answer within %u ms", index,
			 peer->name, ms);
	else if (peer->why[0])
		snprintf(why, TCP_WHY_MAX, "no connection within %u ms: %.200s", ms, peer->why);
	else if (tcp->refused[0])
		snprintf(why, TCP_WHY_MAX, "slice %u did not connect within %u ms (refused %.180s)",
			 index, ms, tcp->refused);
	else
		snprintf(why, TCP_WHY_MAX, "slice %u did not connect within %u ms", index, ms);
}

static void on_deadline(uv_timer_t *timer)
{
	struct tcp *tcp = timer->data;
	char why[TCP_WHY_MAX];

	for (unsigned i = 0; i < tcp->config.hello.slices && !tcp->closed; i++) {
		struct tcp_peer *peer = &tcp->peers[i];

		if (!peer_pending(peer))
			continue;
		lateness_explain(tcp, i, why);
		if (peer->conn)
			conn_close(peer->conn, -ETIMEDOUT, "%s", why);
		else
			peer_lost(tcp, i, -ETIMEDOUT, why);
	}
}

int tcp_connect(struct transport *t, const char *const *addresses)
{
	struct tcp *tcp = (struct tcp *)t;
	const struct wire_hello *hello = &tcp->config.hello;

	if (tcp->connecting)
		return -EALREADY;
	for (unsigned i = 0; i < hello->slice; i++) {
		int err = address_parse(addresses[i], &tcp->peers[i]);

		if (err)
			return err;
	}
	tcp->connecting = true;
	for (unsigned i = 0; i < hello->slices; i++)
		if (i != hello->slice)
			tcp->peers[i].state = PEER_WAITING;
	uv_update_time(tcp->config.loop);
	uv_timer_start(&tcp->deadline_timer, on_deadline, tcp->config.connect_timeout_ms, 0);
	uv_timer_start(&tcp->retry_timer, on_retry, TCP_RETRY_MS, TCP_RETRY_MS);
	tcp_accept_start(tcp);
	peers_attempt(tcp);
	tcp_settle(tcp);
	return 0;
}
