/* SPDX-License-Identifier: Apache-2.0 */
/* How the loop sleeps beside rings: it says so to the peers, looks once more, and looks when it wakes. */
#include <errno.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/net_parts.h"

/* How often a peer that takes nothing is looked at, in parts of the silence that ends it. */
#define SILENCE_PARTS 8

static bool conn_shared(const struct conn *conn)
{
	return conn->shm && conn->state == CONN_UP;
}

static int rings_look(struct net *net)
{
	int n = 0;

	/* A connection stays in the list until the loop closes its handle, not from within. */
	for (struct conn *conn = net->conns; conn && !net->closed; conn = conn->next) {
		if (!conn_shared(conn))
			continue;
		shm_link_flush(conn);
		if (conn_shared(conn))
			n += (int)shm_link_receive(conn);
	}
	return n;
}

int shm_loop_poll(struct net *net)
{
	return net->shm_started ? rings_look(net) : -ENOTSUP;
}

static void on_again(uv_idle_t *idle)
{
	(void)idle; /* Its presence keeps the loop from sleeping. */
}

/* Before the loop waits. Of what is in a ring by now, or free in one, no bell will tell. */
static void on_prepare(uv_prepare_t *prepare)
{
	struct net *net = prepare->data;
	/* Else bells would cost the peers a system call for nothing. */
	bool sleep = uv_backend_timeout(net->config.loop) != 0;

	for (struct conn *conn = net->conns; conn && sleep; conn = conn->next) {
		if (!conn_shared(conn))
			continue;
		sleep &= shm_sleep(&conn->shm->rx);
		if (conn->tx.count > 0)
			sleep &= !shm_room_await(&conn->shm->tx, true);
	}
	/* Whoever kept the loop awake may have done with that in his own turn before it sleeps. */
	if (!sleep)
		invariant(uv_idle_start(&net->shm_again, on_again) == 0);
}

/* After it has waited. */
static void on_check(uv_check_t *check)
{
	struct net *net = check->data;

	uv_idle_stop(&net->shm_again);
	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn_shared(conn))
			shm_awake(&conn->shm->rx);
	(void)rings_look(net);
}

/* The rule that TCP has for a peer that acknowledges nothing. */
static void on_silence(uv_timer_t *timer)
{
	struct net *net = timer->data;
	uint64_t now_ms = uv_now(net->config.loop);

	for (struct conn *conn = net->conns; conn; conn = conn->next)
		if (conn_shared(conn) && conn->tx.count > 0 &&
		    now_ms - conn->shm->moved_ms >= net->config.silence_ms)
			conn_close(conn, -PANGEA_EPEERLOST,
				   "slice %u has taken nothing for %u ms, and %u messages wait for "
				   "it",
				   conn->peer, net->config.silence_ms, conn->tx.count);
}

void shm_loop_start(struct net *net)
{
	uv_loop_t *loop = net->config.loop;
	unsigned look_ms = net->config.silence_ms / SILENCE_PARTS + 1;

	if (net->shm_started)
		return;
	net->shm_started = true;
	invariant(uv_prepare_init(loop, &net->shm_prepare) == 0);
	invariant(uv_check_init(loop, &net->shm_check) == 0);
	invariant(uv_idle_init(loop, &net->shm_again) == 0);
	invariant(uv_timer_init(loop, &net->shm_silence) == 0);
	net->shm_prepare.data = net->shm_check.data = net->shm_again.data = net->shm_silence.data =
		net;
	net->handles += 4;
	invariant(uv_prepare_start(&net->shm_prepare, on_prepare) == 0);
	invariant(uv_check_start(&net->shm_check, on_check) == 0);
	invariant(uv_timer_start(&net->shm_silence, on_silence, look_ms, look_ms) == 0);
}

static void on_handle_closed(uv_handle_t *handle)
{
	net_handle_closed(handle->data);
}

void shm_loop_close(struct net *net)
{
	if (!net->shm_started)
		return;
	uv_close((uv_handle_t *)&net->shm_prepare, on_handle_closed);
	uv_close((uv_handle_t *)&net->shm_check, on_handle_closed);
	uv_close((uv_handle_t *)&net->shm_again, on_handle_closed);
	uv_close((uv_handle_t *)&net->shm_silence, on_handle_closed);
}
