/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets that peers call; they close once every expected slice has. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* Accepts of one event, before the loop looks at its other handles. */
#define ACCEPTS_PER_TURN 16

static int socket_bind(const struct addrinfo *info)
{
	int one = 1, err;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* A restarted slice may take its port back from connections in TIME_WAIT. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	    bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, NET_STRANGERS_MAX) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static unsigned port_of(const struct sockaddr_storage *address)
{
	return ntohs(address->ss_family == AF_INET6
			     ? ((const struct sockaddr_in6 *)address)->sin6_port
			     : ((const struct sockaddr_in *)address)->sin_port);
}

/* Takes the socket over, also on failure. */
static int listener_open(struct net *net, struct listener *listener, int fd, bool local)
{
	int err = uv_poll_init(net->config.loop, &listener->poll, fd);

	if (err) {
		close(fd);
		return err;
	}
	listener->net = net;
	listener->fd = fd;
	listener->local = local;
	listener->open = true;
	listener->poll.data = listener;
	net->handles++;
	return 0;
}

static int tcp_listen(struct net *net, const char *host, unsigned port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *info;
	char service[16];
	int fd;

	if (!host || port > UINT16_MAX)
		return -EINVAL;
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &info) != 0)
		return -EINVAL;
	fd = socket_bind(info);
	freeaddrinfo(info);
	return fd < 0 ? fd : listener_open(net, &net->listeners[0], fd, false);
}

/* A local socket beside the TCP port, of the same name. */
static int local_listen(struct net *net, const struct sockaddr_storage *tcp)
{
	struct sockaddr_un at;
	socklen_t len = local_address(tcp, &at);
	int err, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, NET_STRANGERS_MAX) == 0)
		return listener_open(net, &net->listeners[1], fd, true);
	err = -errno;
	close(fd);
	return err;
}

int net_listen(struct net *net, const char *host, unsigned port, unsigned *port_out)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	int err = tcp_listen(net, host, port);

	if (err)
		return err;
	/* The socket is bound: its name is known. */
	invariant(getsockname(net->listeners[0].fd, (struct sockaddr *)&address, &len) == 0);
	*port_out = port_of(&address);
	if (net->config.wish == TRANSPORT_TCP || net->config.wish == TRANSPORT_RDMA)
		return 0;
	err = local_listen(net, &address);
	if (err)
		log_warn("slices of this host will not reach slice %u by shared memory: %s",
			 net->config.hello.slice, error_text(err));
	return 0;
}

/* Room for one more: the caller that has been silent for longest goes. */
static void stranger_drop_oldest(struct net *net)
{
	struct conn *oldest = NULL;

	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn->accepted && conn->peer == SLICES_MAX && conn->state != CONN_CLOSING)
			oldest = conn;
	if (oldest)
		conn_close(oldest, -ENOBUFS, "too many connections that do not say who they are");
}

void net_strangers_tick(struct net *net)
{
	uint64_t now_ms = uv_now(net->config.loop);

	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn->accepted && conn->peer == SLICES_MAX &&
		    now_ms - conn->since_ms >= NET_STRANGER_MS)
			conn_close(conn, -ETIMEDOUT, "it did not say and prove in time who it is");
}

static void accept_failed(struct listener *listener, int err)
{
	log_warn("cannot accept a connection: %s", error_text(err));
	uv_poll_stop(&listener->poll);
	listener->net->accept_paused = true;
}

static void on_caller(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;
	struct net *net = listener->net;

	(void)status;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && listener->open; i++) {
		int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0) {
			accept_failed(listener, -errno);
			return;
		}
		if (net->strangers >= NET_STRANGERS_MAX)
			stranger_drop_oldest(net);
		if (!conn_create(net, fd, listener->local, true, SLICES_MAX))
			log_warn("cannot serve a connection: %s", error_text(-ENOMEM));
	}
}

void net_accept_start(struct net *net)
{
	net->accept_paused = false;
	for (unsigned i = 0; i < 2; i++)
		if (net->listeners[i].open)
			invariant(uv_poll_start(&net->listeners[i].poll, UV_READABLE, on_caller) ==
				  0);
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;

	close(listener->fd);
	net_handle_closed(listener->net);
}

void net_listeners_close(struct net *net)
{
	if (net->listeners_closed)
		return;
	net->listeners_closed = true;
	rdma_listener_close(net);
	for (unsigned i = 0; i < 2; i++) {
		struct listener *listener = &net->listeners[i];

		if (listener->open)
			uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
		listener->open = false;
	}
	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn->accepted && conn->peer == SLICES_MAX)
			conn_close(conn, -ECANCELED, "every slice has connected");
}
