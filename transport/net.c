/* SPDX-License-Identifier: Apache-2.0 */
/* The transport between processes, by TCP, shared memory or RDMA: creation, the ops table, the end. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "transport/net_parts.h"

/* The connection to a peer that is up, or NULL. */
static struct conn *peer_conn(const struct net *net, unsigned peer)
{
	struct conn *conn;

	if (peer >= net->config.hello.slices || net->closed)
		return NULL;
	conn = net->peers[peer].conn;
	return conn && conn->state == CONN_UP ? conn : NULL;
}

static int net_send(struct transport *t, unsigned peer, const struct wire_msg *msg,
		    const void *payload, bool copy_payload)
{
	struct conn *conn = peer_conn((struct net *)t, peer);

	return conn ? conn_send(conn, msg, payload, copy_payload) : -ENOTCONN;
}

static unsigned net_backlog(const struct transport *t, unsigned peer)
{
	const struct conn *conn = peer_conn((const struct net *)t, peer);

	return conn ? conn->tx.count : 0;
}

static void net_refuse(struct transport *t, unsigned peer, int err, const char *why)
{
	struct conn *conn = peer_conn((struct net *)t, peer);

	if (conn)
		conn_close(conn, err, "slice %u was refused: %s", peer, why);
}

static int net_poll(struct transport *t)
{
	struct net *net = (struct net *)t;
	int shared = shm_loop_poll(net), rdma = rdma_loop_poll(net);

	if (shared < 0 || rdma < 0)
		return shared < 0 ? rdma : shared;
	return shared + rdma;
}

static const struct transport_stats *net_stats(const struct transport *t)
{
	return &((const struct net *)t)->stats;
}

static enum link_kind net_link(const struct transport *t, unsigned peer)
{
	const struct conn *conn = peer_conn((const struct net *)t, peer);

	return conn ? conn_link(conn) : LINK_NONE;
}

static void on_timer_closed(uv_handle_t *handle)
{
	net_handle_closed(handle->data);
}

static void timers_close(struct net *net)
{
	uv_close((uv_handle_t *)&net->retry_timer, on_timer_closed);
	uv_close((uv_handle_t *)&net->deadline_timer, on_timer_closed);
}

static void net_close(struct transport *t)
{
	struct net *net = (struct net *)t;

	if (net->closed)
		return;
	net->closed = true;
	for (struct conn *conn = net->conns; conn; conn = conn->next)
		conn_close(conn, -ECANCELED, "this slice closed the connection");
	net_listeners_close(net);
	timers_close(net);
	shm_loop_close(net);
	rdma_loop_close(net);
}

static const struct transport_ops net_ops = {
	.name = "net",
	.connect = net_connect,
	.send = net_send,
	.backlog = net_backlog,
	.refuse = net_refuse,
	.poll = net_poll,
	.stats = net_stats,
	.link = net_link,
	.close = net_close,
};

static bool config_valid(const struct transport_config *config)
{
	const struct wire_hello *hello = &config->hello;

	return hello->slices >= 1 && hello->slices <= SLICES_MAX && hello->slice < hello->slices &&
	       config->keys;
}

/* What this slice proves itself with. */
static int secrets_take(struct net *net)
{
	net->keys = net_keys_keep(net->config.keys);
	if (!net->keys)
		return -ENOMEM;
	if (!(net->config.hello.features & WIRE_FEATURE_TLS))
		return 0;
	return tls_context_create(&net->tls);
}

/* What is beside TCP. The socket is bound: its name is known. */
static void extras_open(struct net *net)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);

	invariant(getsockname(net->listeners[0].fd, (struct sockaddr *)&address, &len) == 0);
	rdma_open(net, &address);
}

int transport_net_create(const struct transport_config *config, const char *bind_host,
			 unsigned port, unsigned *port_out, struct transport **out)
{
	struct net *net;
	int err;

	if (!config_valid(config))
		return -EINVAL;
	net = calloc(1, sizeof(*net));
	if (!net)
		return -ENOMEM;
	net->transport.ops = &net_ops;
	net->config = *config;
	if (!net->config.silence_ms)
		net->config.silence_ms = TRANSPORT_SILENCE_MS;
	err = secrets_take(net);
	if (!err)
		err = net_listen(net, bind_host, port, port_out);
	if (err) {
		net_keys_forget(net);
		tls_context_destroy(net->tls);
		free(net);
		return err;
	}
	net->config.keys = NULL; /* they are the caller's */
	extras_open(net);
	invariant(uv_timer_init(config->loop, &net->retry_timer) == 0);
	invariant(uv_timer_init(config->loop, &net->deadline_timer) == 0);
	net->retry_timer.data = net;
	net->deadline_timer.data = net;
	net->handles += 2;
	*out = &net->transport;
	return 0;
}
