/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting control connections on a TCP port. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "control/uv_internal.h"

static void listener_free(struct control_listener *listener)
{
	if (listener->closed && listener->conns == 0)
		free(listener);
}

static void listener_closed(uv_handle_t *handle)
{
	struct control_listener *listener = handle->data;

	listener->closed = true;
	listener_free(listener);
}

void listener_conn_gone(struct control_listener *listener)
{
	listener->conns--;
	listener_free(listener);
}

static void surplus_closed(uv_handle_t *handle)
{
	free(handle);
}

/* Too many, or no memory: takes the connection off the backlog and closes it. */
static void surplus_drop(struct control_listener *listener)
{
	uv_tcp_t *tcp = calloc(1, sizeof(*tcp));

	if (!tcp)
		return;
	uv_tcp_init(listener->opts.loop, tcp);
	uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)tcp);
	uv_close((uv_handle_t *)tcp, surplus_closed);
}

static void hello_answer(struct control_conn *conn)
{
	int err = conn_begin(conn);

	if (!err)
		err = control_sendf(conn, "{s:s, s:s, s:i, s:s, s:s}", "type", "hello", "magic",
				    CONTROL_MAGIC, "version", CONTROL_VERSION, "role",
				    control_role_name(conn->role), "token", conn->token);
	if (err)
		conn_end(conn, err, error_text(err));
}

static void connection_came(uv_stream_t *stream, int status)
{
	struct control_listener *listener = stream->data;
	struct control_conn *conn;
	int err;

	if (status < 0) {
		log_warn("cannot accept a control connection: %s", error_text(status));
		return;
	}
	conn = listener->conns < CONTROL_CONNS_MAX ? conn_new(&listener->opts) : NULL;
	if (!conn) {
		log_warn("too many control connections: one was closed");
		surplus_drop(listener);
		return;
	}
	conn->listener = listener;
	listener->conns++;
	uv_tcp_init(listener->opts.loop, &conn->h.tcp);
	conn->h.handle.data = conn;
	err = uv_accept(stream, &conn->h.stream);
	if (err) {
		conn_end(conn, err, error_text(err));
		return;
	}
	uv_tcp_nodelay(&conn->h.tcp, 1);
	uv_tcp_keepalive(&conn->h.tcp, 1, 30);
	hello_answer(conn);
}

static struct control_listener *listener_new(const struct control_options *opts)
{
	struct control_listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return NULL;
	listener->opts = *opts;
	if (opts->token) {
		snprintf(listener->token, sizeof(listener->token), "%s", opts->token);
		listener->opts.token = listener->token;
	}
	if (opts->expect_token) {
		snprintf(listener->expect_token, sizeof(listener->expect_token), "%s",
			 opts->expect_token);
		listener->opts.expect_token = listener->expect_token;
	}
	uv_tcp_init(opts->loop, &listener->tcp);
	listener->tcp.data = listener;
	return listener;
}

static int port_get(const struct control_listener *listener, unsigned *port)
{
	struct sockaddr_storage addr;
	int len = sizeof(addr);
	int err = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&addr, &len);

	if (err)
		return err;
	if (addr.ss_family == AF_INET6)
		*port = ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
	else
		*port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
	return 0;
}

int control_listen(const struct control_options *opts, const char *address,
		   struct control_listener **out, unsigned *port)
{
	struct sockaddr_storage addr;
	struct control_listener *listener;
	int err;

	if (control_address_parse(address, &addr) < 0)
		return -EINVAL;
	listener = listener_new(opts);
	if (!listener)
		return -ENOMEM;
	err = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&addr, 0);
	if (!err)
		err = uv_listen((uv_stream_t *)&listener->tcp, 64, connection_came);
	if (!err && port)
		err = port_get(listener, port);
	if (err) {
		control_listener_close(listener);
		return err;
	}
	*out = listener;
	return 0;
}

void control_listener_close(struct control_listener *listener)
{
	uv_close((uv_handle_t *)&listener->tcp, listener_closed);
}
