/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: its handle, its events, its end. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

void address_print(const struct sockaddr_storage *address, char *out, size_t size)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
		snprintf(out, size, "[%s]:%u", host, ntohs(v6->sin6_port));
		return;
	}
	inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
	snprintf(out, size, "%s:%u", host, ntohs(v4->sin_port));
}

static void option_set(int fd, int level, int option, int value)
{
	/* A kernel that refuses one of these still transports; only slower, or noticing later. */
	if (setsockopt(fd, level, option, &value, sizeof(value)) < 0)
		log_debug("socket option %d: %s", option, error_text(-errno));
}

/* Established connections: unacknowledged data or an unanswered probe for silence_ms means lost. */
static void socket_tune(int fd, unsigned silence_ms)
{
	option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 3);
	option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 2);
	option_set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
	option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)silence_ms);
	/* A page in answer to a request is a burst that must not be paced, as BBR would. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0 &&
	    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) < 0)
		log_debug("congestion control stays as it is: %s", error_text(-errno));
}

void net_handle_closed(struct net *net)
{
	if (--net->handles > 0)
		return;
	net_keys_forget(net);
	tls_context_destroy(net->tls);
	rdma_free(net->rdma);
	free(net);
}

static void conn_unlink(struct conn *conn)
{
	struct conn **at = &conn->net->conns;

	while (*at != conn)
		at = &(*at)->next;
	*at = conn->next;
}

static void on_conn_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct net *net = conn->net;

	close(conn->fd);
	conn_unlink(conn);
	if (conn->accepted && conn->peer == SLICES_MAX)
		net->strangers--;
	if (!net->closed && conn->peer < SLICES_MAX)
		peer_conn_closed(conn);
	send_queue_free(&conn->tx);
	shm_link_destroy(conn);
	rdma_link_destroy(conn);
	tls_link_destroy(conn->tls);
	if (conn->memory_fd >= 0)
		close(conn->memory_fd);
	free(conn);
	net_handle_closed(net);
}

enum link_kind conn_link(const struct conn *conn)
{
	if (conn->shm)
		return LINK_SHM;
	if (conn->rdma)
		return LINK_RDMA;
	if (!conn->encrypted)
		return LINK_TCP;
	return conn->tls ? LINK_TLS : LINK_KTLS;
}

void conn_up(struct conn *conn)
{
	struct transport_stats *stats = &conn->net->stats;
	uint64_t *const counts[LINK_KINDS] = {
		[LINK_TCP] = &stats->links_tcp,	  [LINK_SHM] = &stats->links_shm,
		[LINK_TLS] = &stats->links_tls,	  [LINK_KTLS] = &stats->links_ktls,
		[LINK_RDMA] = &stats->links_rdma,
	};

	conn->state = CONN_UP;
	++*counts[conn_link(conn)];
	if (conn->shm)
		shm_loop_start(conn->net);
}

void conn_handle_close(struct conn *conn)
{
	uv_close((uv_handle_t *)&conn->poll, on_conn_closed);
}

static void close_begin(struct conn *conn, int err, bool transient, const char *fmt, va_list ap)
{
	if (conn->state == CONN_CLOSING)
		return;
	conn->was_up = conn->state == CONN_UP;
	conn->state = CONN_CLOSING;
	conn->err = err;
	conn->transient = transient;
	vsnprintf(conn->why, sizeof(conn->why), fmt, ap);
	/* What a socket has taken arrives without us; what a queue pair has, only while it is there. */
	if (conn->rdma && conn->was_up && conn->net->closed && rdma_linger_begin(conn))
		return;
	conn_handle_close(conn);
}

void conn_close(struct conn *conn, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	close_begin(conn, err, false, fmt, ap);
	va_end(ap);
}

void conn_close_transient(struct conn *conn, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	close_begin(conn, err, true, fmt, ap);
	va_end(ap);
}

/* connect() has ended. */
static void connect_event(struct conn *conn)
{
	socklen_t len = sizeof(int);
	int err = 0;

	if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err)
		conn_close_transient(conn, -err, "slice %u at %s: %s", conn->peer, conn->from,
				     error_text(-err));
	else if (conn->net->tls && !conn->local)
		tls_begin(conn);
	else
		hello_begin(conn);
}

static void up_event(struct conn *conn, int status, int events)
{
	if (conn->shm)
		shm_link_event(conn);
	else if (conn->rdma)
		rdma_link_event(conn);
	else if (status == 0 && (events & UV_WRITABLE))
		tcp_flush(conn);
	if (!conn->shm && !conn->rdma && (status < 0 || (events & UV_READABLE)))
		tcp_receive(conn);
	/* After an error the handle is stopped: what the socket still held has been read. */
	if (status < 0 && conn->state == CONN_UP)
		conn_close(conn, -PANGEA_EPEERLOST, "connection to slice %u lost", conn->peer);
}

/* Before it is known who the other side is, and what carries its messages. */
static void meeting_event(struct conn *conn, int status)
{
	if (conn->state == CONN_TLS)
		tls_event(conn);
	else if (conn->state == CONN_HELLO)
		hello_receive(conn);
	else if (conn->state == CONN_PROOF)
		proof_receive(conn);
	else
		rdma_meet_event(conn);
	/* What TLS read together with the hello no event will tell. */
	if (conn->state == CONN_RDMA && conn->tls)
		rdma_meet_event(conn);
	if (conn->state == CONN_UP && conn->tls && !conn->rdma)
		tcp_receive(conn);
	if (status < 0)
		conn_close_transient(conn, -PANGEA_EPEERLOST,
				     "%s closed the connection during its hello", conn->from);
}

static void on_conn_event(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;

	switch (conn->state) {
	case CONN_CONNECTING:
		connect_event(conn);
		break;
	case CONN_TLS:
	case CONN_HELLO:
	case CONN_PROOF:
	case CONN_RDMA:
		meeting_event(conn, status);
		break;
	case CONN_MAPPING:
		local_mapped(conn);
		break;
	case CONN_UP:
		up_event(conn, status, events);
		break;
	case CONN_CLOSING:
		/* The other side has gone, too. */
		rdma_linger_end(conn);
		break;
	}
}

void conn_watch(struct conn *conn, int events)
{
	if (conn->events == events || conn->state == CONN_CLOSING)
		return;
	conn->events = events;
	invariant(uv_poll_start(&conn->poll, events, on_conn_event) == 0);
}

static void peer_name(struct conn *conn)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);

	if (conn->local)
		snprintf(conn->from, sizeof(conn->from), "%.80s on this host",
			 conn->accepted ? "a process" : conn->net->peers[conn->peer].name);
	else if (!conn->accepted)
		snprintf(conn->from, sizeof(conn->from), "%s", conn->net->peers[conn->peer].name);
	else if (getpeername(conn->fd, (struct sockaddr *)&address, &len) == 0)
		address_print(&address, conn->from, sizeof(conn->from));
	else
		snprintf(conn->from, sizeof(conn->from), "a peer that went away");
}

struct conn *conn_create(struct net *net, int fd, bool local, bool accepted, unsigned peer)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn || uv_poll_init(net->config.loop, &conn->poll, fd) < 0) {
		free(conn);
		close(fd);
		return NULL;
	}
	conn->net = net;
	conn->poll.data = conn;
	conn->fd = fd;
	conn->local = local;
	conn->state = !accepted ? CONN_CONNECTING : net->tls && !local ? CONN_TLS : CONN_HELLO;
	conn->since_ms = uv_now(net->config.loop);
	conn->claimed = SLICES_MAX;
	conn->memory_fd = -1;
	conn->accepted = accepted;
	conn->peer = peer;
	conn->next = net->conns;
	net->conns = conn;
	net->handles++;
	net->strangers += accepted;
	if (!local)
		socket_tune(fd, net->config.silence_ms);
	peer_name(conn);
	conn_watch(conn, accepted ? UV_READABLE : UV_WRITABLE);
	return conn;
}
