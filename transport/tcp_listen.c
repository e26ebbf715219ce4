/* SPDX-License-Identifier: Apache-2.0 */
/* The listening socket of the TCP transport; it closes once every expected slice has called. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/tcp_parts.h"

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
	    bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, TCP_STRANGERS_MAX) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int port_of(int fd, unsigned *port)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	*port = ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
						    : ((struct sockaddr_in *)&address)->sin_port);
	return 0;
}

int tcp_listen(struct tcp *tcp, const char *host, unsigned port, unsigned *port_out)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *info;
	char service[16];
	int fd, err;

	if (!host || port > UINT16_MAX)
		return -EINVAL;
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &info) != 0)
		return -EINVAL;
	fd = socket_bind(info);
	freeaddrinfo(info);
	if (fd < 0)
		return fd;
	err = port_of(fd, port_out);
	if (!err)
		err = uv_poll_init(tcp->config.loop, &tcp->listen_poll, fd);
	if (err) {
		close(fd);
		return err;
	}
	tcp->listen_fd = fd;
	tcp->listen_poll.data = tcp;
	tcp->handles++;
	return 0;
}

/* Room for one more: the caller that has been silent for longest goes. */
static void stranger_drop_oldest(struct tcp *tcp)
{
	struct conn *oldest = NULL;

	for (struct conn *conn = tcp->conns; conn; conn = conn->next)
		if (conn->accepted && conn->peer == SLICES_MAX && conn->state == CONN_HELLO)
			oldest = conn;
	if (oldest)
		conn_close(oldest, -ENOBUFS, "too many connections that do not say who they are");
}

static void on_caller(uv_poll_t *poll, int status, int events)
{
	struct tcp *tcp = poll->data;

	(void)status;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && !tcp->listener_closing; i++) {
		int fd = accept4(tcp->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0) {
			log_warn("cannot accept a connection: %s", error_text(-errno));
			uv_poll_stop(&tcp->listen_poll);
			tcp->accept_paused = true;
			return;
		}
		if (tcp->strangers >= TCP_STRANGERS_MAX)
			stranger_drop_oldest(tcp);
		if (!conn_create(tcp, fd, true, SLICES_MAX))
			log_warn("cannot serve a connection: %s", error_text(-ENOMEM));
	}
}

void tcp_accept_start(struct tcp *tcp)
{
	tcp->accept_paused = false;
	if (!tcp->listener_closing)
		invariant(uv_poll_start(&tcp->listen_poll, UV_READABLE, on_caller) == 0);
}

static void on_listener_closed(uv_handle_t *handle)
{
	struct tcp *tcp = handle->data;

	close(tcp->listen_fd);
	tcp_handle_closed(tcp);
}

void tcp_listener_close(struct tcp *tcp)
{
	if (tcp->listener_closing)
		return;
	tcp->listener_closing = true;
	uv_close((uv_handle_t *)&tcp->listen_poll, on_listener_closed);
	for (struct conn *conn = tcp->conns; conn; conn = conn->next)
		if (conn->accepted && conn->peer == SLICES_MAX)
			conn_close(conn, -ECANCELED, "every slice has connected");
}
