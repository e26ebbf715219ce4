/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP transport: creation, the ops table, the end. The parts are in tcp_*.c. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "transport/tcp_parts.h"

/* The connection to a peer that is up, or NULL. */
static struct conn *conn_up(const struct tcp *tcp, unsigned peer)
{
	struct conn *conn;

	if (peer >= tcp->config.hello.slices || tcp->closed)
		return NULL;
	conn = tcp->peers[peer].conn;
	return conn && conn->state == CONN_UP ? conn : NULL;
}

static int tcp_send(struct transport *t, unsigned peer, const struct wire_msg *msg,
		    const void *payload, bool copy_payload)
{
	struct conn *conn = conn_up((struct tcp *)t, peer);

	return conn ? conn_send(conn, msg, payload, copy_payload) : -ENOTCONN;
}

static unsigned tcp_backlog(const struct transport *t, unsigned peer)
{
	const struct conn *conn = conn_up((const struct tcp *)t, peer);

	return conn ? conn->tx.count : 0;
}

static void tcp_refuse(struct transport *t, unsigned peer, int err, const char *why)
{
	struct conn *conn = conn_up((struct tcp *)t, peer);

	if (conn)
		conn_close(conn, err, "slice %u was refused: %s", peer, why);
}

static const struct transport_stats *tcp_stats(const struct transport *t)
{
	return &((const struct tcp *)t)->stats;
}

static void on_timer_closed(uv_handle_t *handle)
{
	tcp_handle_closed(handle->data);
}

static void timers_close(struct tcp *tcp)
{
	uv_close((uv_handle_t *)&tcp->retry_timer, on_timer_closed);
	uv_close((uv_handle_t *)&tcp->deadline_timer, on_timer_closed);
}

static void tcp_close(struct transport *t)
{
	struct tcp *tcp = (struct tcp *)t;

	if (tcp->closed)
		return;
	tcp->closed = true;
	for (struct conn *conn = tcp->conns; conn; conn = conn->next)
		conn_close(conn, -ECANCELED, "this slice closed the connection");
	tcp_listener_close(tcp);
	timers_close(tcp);
}

static const struct transport_ops tcp_ops = {
	.name = "tcp",
	.connect = tcp_connect,
	.send = tcp_send,
	.backlog = tcp_backlog,
	.refuse = tcp_refuse,
	.stats = tcp_stats,
	.close = tcp_close,
};

static bool config_valid(const struct transport_config *config)
{
	const struct wire_hello *hello = &config->hello;

	return hello->slices >= 1 && hello->slices <= SLICES_MAX && hello->slice < hello->slices;
}

int transport_tcp_create(const struct transport_config *config, const char *bind_host,
			 unsigned port, unsigned *port_out, struct transport **out)
{
	struct tcp *tcp;
	int err;

	if (!config_valid(config))
		return -EINVAL;
	tcp = calloc(1, sizeof(*tcp));
	if (!tcp)
		return -ENOMEM;
	tcp->transport.ops = &tcp_ops;
	tcp->config = *config;
	if (!tcp->config.silence_ms)
		tcp->config.silence_ms = TRANSPORT_SILENCE_MS;
	err = tcp_listen(tcp, bind_host, port, port_out);
	if (err) {
		free(tcp);
		return err;
	}
	invariant(uv_timer_init(config->loop, &tcp->retry_timer) == 0);
	invariant(uv_timer_init(config->loop, &tcp->deadline_timer) == 0);
	tcp->retry_timer.data = tcp;
	tcp->deadline_timer.data = tcp;
	tcp->handles += 2;
	*out = &tcp->transport;
	return 0;
}
