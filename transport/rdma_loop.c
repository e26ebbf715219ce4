/* SPDX-License-Identifier: Apache-2.0 */
/* How the loop sleeps beside a completion queue: it asks for an event, looks once more, and looks when it wakes. */
#include <errno.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* Completions that are handled before the loop looks at its other handles. */
#define COMPLETIONS_PER_TURN 256
/* How often a peer that takes nothing is looked at, in parts of the silence that ends it. */
#define SILENCE_PARTS 8

static bool conn_by_rdma(const struct conn *conn)
{
	return conn->rdma && conn->state == CONN_UP;
}

/* Is there a completion that was not handled? */
static bool completions_look(struct rdma_net *rdma)
{
	if (rdma->wc_at == rdma->wc_count) {
		rdma->wc_at = 0;
		rdma->wc_count = ibv_poll_cq(rdma->cq, RDMA_LOOK, rdma->wc);
		/* A queue that cannot be read has nothing; its links are found by their silence. */
		if (rdma->wc_count < 0)
			rdma->wc_count = 0;
	}
	return rdma->wc_at < rdma->wc_count;
}

/* True: there may be more. */
static bool completions_handle(struct net *net, unsigned limit)
{
	struct rdma_net *rdma = net->rdma;

	for (unsigned i = 0; i < limit; i++) {
		if (!completions_look(rdma))
			return false;
		rdma_completion(net, &rdma->wc[rdma->wc_at++]);
	}
	return true;
}

void rdma_loop_drain(struct net *net)
{
	/* All that can be there now, and once more what may come meanwhile. */
	(void)completions_handle(net, 2 * (unsigned)net->rdma->cq->cqe);
}

static bool links_present(const struct net *net)
{
	return net->rdma && net->rdma->links > 0 && net->stats.links_rdma > 0;
}

int rdma_loop_poll(struct net *net)
{
	uint64_t before = net->stats.msgs_received;

	if (net->closed || !links_present(net))
		return -ENOTSUP;
	(void)completions_handle(net, COMPLETIONS_PER_TURN);
	return (int)(net->stats.msgs_received - before);
}

static void on_again(uv_idle_t *idle)
{
	(void)idle; /* Its presence keeps the loop from sleeping. */
}

/* Asked once, told once: an event comes with the next completion that is added. */
static void event_arm(struct rdma_net *rdma)
{
	if (!rdma->armed)
		rdma->armed = ibv_req_notify_cq(rdma->cq, 0) == 0;
}

/*
 * Before the loop waits. First the event is asked for, then the queue is looked at: a completion that
 * came before is found by the look, one that comes after makes the event. While the loop does not wait
 * nothing is asked for, and no completion costs an interrupt.
 */
static void on_prepare(uv_prepare_t *prepare)
{
	struct net *net = prepare->data;
	struct rdma_net *rdma = net->rdma;
	bool sleep = uv_backend_timeout(net->config.loop) != 0;

	if (rdma->links == 0)
		return;
	if (sleep) {
		event_arm(rdma);
		sleep = !completions_look(rdma) && rdma->armed;
	}
	/* Whoever kept the loop awake may have done with that in his own turn before it sleeps. */
	if (!sleep)
		invariant(uv_idle_start(&rdma->again, on_again) == 0);
}

/* After it has waited. */
static void on_check(uv_check_t *check)
{
	struct net *net = check->data;

	uv_idle_stop(&net->rdma->again);
	if (net->rdma->links > 0)
		(void)completions_handle(net, COMPLETIONS_PER_TURN);
}

/* The event only wakes: on_check looks at the queue in the same turn. */
static void on_cq_event(uv_poll_t *poll, int status, int events)
{
	struct net *net = poll->data;
	struct rdma_net *rdma = net->rdma;
	struct ibv_cq *cq;
	void *context;

	(void)status;
	(void)events;
	while (ibv_get_cq_event(rdma->channel, &cq, &context) == 0) {
		ibv_ack_cq_events(cq, 1);
		rdma->armed = false;
	}
}

static void on_cm_event(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	rdma_events(poll->data);
}

/* Does something of this link wait for the peer, or for the device's word about the peer? */
static bool link_waits(const struct conn *conn)
{
	return conn->tx.count > 0 || conn->rdma->signaled != conn->rdma->done;
}

/* The rule that TCP has for a peer that acknowledges nothing. */
static void on_tick(uv_timer_t *timer)
{
	struct net *net = timer->data;
	uint64_t now_ms = uv_now(net->config.loop);

	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn_by_rdma(conn) && link_waits(conn) &&
		    now_ms - conn->rdma->moved_ms >= net->config.silence_ms)
			conn_close(conn, -PANGEA_EPEERLOST,
				   "slice %u has taken nothing over RDMA for %u ms, and %u "
				   "messages wait for it",
				   conn->peer, net->config.silence_ms, conn->tx.count);
}

static void handles_init(struct net *net)
{
	struct rdma_net *rdma = net->rdma;
	uv_loop_t *loop = net->config.loop;
	unsigned tick_ms = net->config.silence_ms / SILENCE_PARTS + 1;

	invariant(uv_prepare_init(loop, &rdma->prepare) == 0);
	invariant(uv_check_init(loop, &rdma->check) == 0);
	invariant(uv_idle_init(loop, &rdma->again) == 0);
	invariant(uv_timer_init(loop, &rdma->tick) == 0);
	rdma->events_poll.data = rdma->cq_poll.data = rdma->prepare.data = rdma->check.data =
		rdma->again.data = rdma->tick.data = net;
	net->handles += 6;
	rdma->running = true;
	invariant(uv_poll_start(&rdma->events_poll, UV_READABLE, on_cm_event) == 0);
	invariant(uv_poll_start(&rdma->cq_poll, UV_READABLE, on_cq_event) == 0);
	invariant(uv_prepare_start(&rdma->prepare, on_prepare) == 0);
	invariant(uv_check_start(&rdma->check, on_check) == 0);
	invariant(uv_timer_start(&rdma->tick, on_tick, tick_ms, tick_ms) == 0);
}

static void on_handle_closed(uv_handle_t *handle)
{
	net_handle_closed(handle->data);
}

int rdma_loop_start(struct net *net)
{
	struct rdma_net *rdma = net->rdma;
	int err = uv_poll_init(net->config.loop, &rdma->events_poll, rdma->events->fd);

	if (err)
		return err;
	err = uv_poll_init(net->config.loop, &rdma->cq_poll, rdma->channel->fd);
	if (!err) {
		handles_init(net);
		return 0;
	}
	rdma->events_poll.data = net;
	net->handles++;
	uv_close((uv_handle_t *)&rdma->events_poll, on_handle_closed);
	return err;
}

static void handles_close(struct rdma_net *rdma)
{
	rdma->running = false;
	uv_close((uv_handle_t *)&rdma->events_poll, on_handle_closed);
	uv_close((uv_handle_t *)&rdma->cq_poll, on_handle_closed);
	uv_close((uv_handle_t *)&rdma->prepare, on_handle_closed);
	uv_close((uv_handle_t *)&rdma->check, on_handle_closed);
	uv_close((uv_handle_t *)&rdma->again, on_handle_closed);
	uv_close((uv_handle_t *)&rdma->tick, on_handle_closed);
}

/* What was sent had its time to arrive. */
static void on_linger_over(uv_timer_t *timer)
{
	struct net *net = timer->data;

	for (struct conn *conn = net->conns; conn; conn = conn->next)
		rdma_linger_end(conn);
}

void rdma_loop_close(struct net *net)
{
	struct rdma_net *rdma = net->rdma;

	if (!rdma || !rdma->running || !net->closed)
		return;
	if (rdma->lingering == 0)
		handles_close(rdma);
	else
		invariant(uv_timer_start(&rdma->tick, on_linger_over, RDMA_LINGER_MS, 0) == 0);
}
