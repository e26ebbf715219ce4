/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process transport: slices of one process talk through mutexed rings on a hub. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "transport/transport.h"

/* As over TCP: a receiver that lets so many messages wait no longer reads. */
#define INPROC_QUEUE_MAX 4096u
/* Messages taken out of a ring under one lock, and delivered outside of it. */
#define INPROC_BATCH 16u

/* One message on its way; the header is encoded, so the codec's checks hold here too. */
struct inproc_entry {
	uint8_t header[WIRE_HEADER_SIZE];
	uint8_t *payload; /* owned copy, or NULL */
};

/* The direction from one slice to another. */
struct inproc_link {
	struct inproc_entry *ring; /* INPROC_QUEUE_MAX entries, made when first needed */
	unsigned head, count;
	bool ended; /* no more will be put in; what is in is still delivered */
};

enum inproc_peer_state {
	INPROC_UNUSED,
	INPROC_WAITING,
	INPROC_UP,
	INPROC_LOST
};

struct inproc {
	struct transport transport;
	struct transport_config config;
	struct inproc_hub *hub;
	struct transport_stats stats;
	uv_async_t async;
	uv_timer_t deadline_timer;
	unsigned handles;
	bool closed;
	enum inproc_peer_state peers[SLICES_MAX];
	int lost_err[SLICES_MAX]; /* ours to report, when we ended the link */
	/* Under the hub's lock: */
	bool connected; /* connect was called */
};

struct inproc_hub {
	pthread_mutex_t lock; /* guards everything below, and `connected` of the ports */
	unsigned slices;
	struct inproc *ports[SLICES_MAX]; /* NULL: not there yet, or gone */
	bool gone[SLICES_MAX];
	struct inproc_link *links; /* [from * slices + to] */
};

static struct inproc_link *link_of(struct inproc_hub *hub, unsigned from, unsigned to)
{
	return &hub->links[from * hub->slices + to];
}

int inproc_hub_create(unsigned slices, struct inproc_hub **out)
{
	struct inproc_hub *hub;

	if (slices < 1 || slices > SLICES_MAX)
		return -EINVAL;
	hub = calloc(1, sizeof(*hub));
	if (!hub)
		return -ENOMEM;
	hub->links = calloc((size_t)slices * slices, sizeof(*hub->links));
	if (!hub->links) {
		free(hub);
		return -ENOMEM;
	}
	hub->slices = slices;
	pthread_mutex_init(&hub->lock, NULL);
	*out = hub;
	return 0;
}

static void link_free(struct inproc_link *link)
{
	for (unsigned i = 0; i < link->count; i++)
		free(link->ring[(link->head + i) % INPROC_QUEUE_MAX].payload);
	free(link->ring);
}

void inproc_hub_destroy(struct inproc_hub *hub)
{
	for (unsigned i = 0; i < hub->slices * hub->slices; i++)
		link_free(&hub->links[i]);
	pthread_mutex_destroy(&hub->lock);
	free(hub->links);
	free(hub);
}

/* With the hub's lock held: makes a slice's loop look at its links. */
static void port_wake(struct inproc_hub *hub, unsigned slice)
{
	if (hub->ports[slice])
		uv_async_send(&hub->ports[slice]->async);
}

/* With the lock held: neither direction carries anything new. */
static void links_end(struct inproc_hub *hub, unsigned a, unsigned b)
{
	link_of(hub, a, b)->ended = true;
	link_of(hub, b, a)->ended = true;
	port_wake(hub, a);
	port_wake(hub, b);
}

static void peer_end(struct inproc *port, unsigned peer, int err)
{
	struct inproc_hub *hub = port->hub;

	if (port->lost_err[peer] == 0)
		port->lost_err[peer] = err;
	pthread_mutex_lock(&hub->lock);
	links_end(hub, port->config.hello.slice, peer);
	pthread_mutex_unlock(&hub->lock);
}

static int link_push(struct inproc_link *link, const struct wire_msg *msg, const void *payload)
{
	struct inproc_entry *entry;

	if (link->ended)
		return -ENOTCONN;
	if (link->count == INPROC_QUEUE_MAX)
		return -ENOBUFS;
	if (!link->ring)
		link->ring = calloc(INPROC_QUEUE_MAX, sizeof(*link->ring));
	if (!link->ring)
		return -ENOMEM;
	entry = &link->ring[(link->head + link->count) % INPROC_QUEUE_MAX];
	entry->payload = NULL;
	if (msg->payload_len) {
		entry->payload = malloc(msg->payload_len);
		if (!entry->payload)
			return -ENOMEM;
		memcpy(entry->payload, payload, msg->payload_len);
	}
	wire_msg_encode(msg, entry->header);
	link->count++;
	return 0;
}

static int inproc_send(struct transport *t, unsigned peer, const struct wire_msg *msg,
		       const void *payload, bool copy_payload)
{
	struct inproc *port = (struct inproc *)t;
	struct inproc_hub *hub = port->hub;
	int err;

	(void)copy_payload; /* always copied: the reader's loop runs whenever it likes */
	if (peer >= hub->slices || port->closed || port->peers[peer] != INPROC_UP)
		return -ENOTCONN;
	pthread_mutex_lock(&hub->lock);
	err = link_push(link_of(hub, port->config.hello.slice, peer), msg, payload);
	if (!err)
		port_wake(hub, peer);
	pthread_mutex_unlock(&hub->lock);
	if (err == -ENOBUFS || err == -ENOMEM) {
		peer_end(port, peer, -ENOBUFS);
		return -ENOBUFS;
	}
	if (err)
		return err;
	port->stats.msgs_sent++;
	port->stats.bytes_sent += WIRE_HEADER_SIZE + msg->payload_len;
	return 0;
}

static unsigned inproc_backlog(const struct transport *t, unsigned peer)
{
	const struct inproc *port = (const struct inproc *)t;
	struct inproc_hub *hub = port->hub;
	unsigned count;

	if (peer >= hub->slices || port->closed || port->peers[peer] != INPROC_UP)
		return 0;
	pthread_mutex_lock(&hub->lock);
	count = link_of(hub, port->config.hello.slice, peer)->count;
	pthread_mutex_unlock(&hub->lock);
	return count;
}

static void inproc_refuse(struct transport *t, unsigned peer, int err, const char *why)
{
	struct inproc *port = (struct inproc *)t;

	(void)why; /* peer_lost says err's text */
	if (peer < port->hub->slices && !port->closed && port->peers[peer] == INPROC_UP)
		peer_end(port, peer, err);
}

static enum link_kind inproc_link(const struct transport *t, unsigned peer)
{
	(void)t;
	(void)peer;
	return LINK_NONE;
}

static const struct transport_stats *inproc_stats(const struct transport *t)
{
	return &((const struct inproc *)t)->stats;
}

static void peer_lost(struct inproc *port, unsigned peer, int err)
{
	char why[96];

	port->peers[peer] = INPROC_LOST;
	snprintf(why, sizeof(why), "slice %u: %s", peer, error_text(err));
	port->config.callbacks.on_lost(port->config.callbacks.ctx, peer, err, why);
}

/* Do two slices belong to one VM? The hub's lock is held. */
static bool hellos_fit(const struct wire_hello *a, const struct wire_hello *b)
{
	return a->vm == b->vm && a->epoch == b->epoch && a->slices == b->slices &&
	       a->ram_end == b->ram_end;
}

/* A peer that is awaited: is it there now? */
static void peer_meet(struct inproc *port, unsigned peer)
{
	struct inproc_hub *hub = port->hub;
	bool there = false, gone, fits = true;

	pthread_mutex_lock(&hub->lock);
	gone = hub->gone[peer];
	if (hub->ports[peer] && hub->ports[peer]->connected) {
		there = true;
		fits = hellos_fit(&port->config.hello, &hub->ports[peer]->config.hello);
	}
	pthread_mutex_unlock(&hub->lock);
	if (gone) {
		peer_lost(port, peer, -PANGEA_EPEERLOST);
	} else if (!fits) {
		peer_lost(port, peer, -PANGEA_EPEERVM);
	} else if (there) {
		port->peers[peer] = INPROC_UP;
		port->config.callbacks.on_up(port->config.callbacks.ctx, peer);
	}
}

static unsigned link_take(struct inproc *port, unsigned peer, struct inproc_entry *batch,
			  bool *ended)
{
	struct inproc_hub *hub = port->hub;
	struct inproc_link *link = link_of(hub, peer, port->config.hello.slice);
	unsigned n = 0;

	pthread_mutex_lock(&hub->lock);
	while (link->count > 0 && n < INPROC_BATCH) {
		batch[n++] = link->ring[link->head];
		link->head = (link->head + 1) % INPROC_QUEUE_MAX;
		link->count--;
	}
	*ended = link->ended && link->count == 0;
	if (link->count > 0)
		uv_async_send(&port->async);
	pthread_mutex_unlock(&hub->lock);
	return n;
}

static int entry_deliver(struct inproc *port, unsigned peer, const struct inproc_entry *entry)
{
	struct transport_callbacks *cb = &port->config.callbacks;
	struct wire_msg msg;
	void *payload = NULL;
	int err = wire_msg_decode(entry->header, WIRE_HEADER_SIZE, &msg);

	if (err)
		return err;
	if (msg.payload_len) {
		payload = cb->payload_buffer(cb->ctx, peer, &msg, entry->payload);
		if (!payload)
			return -PANGEA_EPROTOCOL;
		if (payload != entry->payload)
			memcpy(payload, entry->payload, msg.payload_len);
	}
	port->stats.msgs_received++;
	port->stats.bytes_received += WIRE_HEADER_SIZE + msg.payload_len;
	return cb->on_msg(cb->ctx, peer, &msg, payload);
}

static void peer_receive(struct inproc *port, unsigned peer)
{
	struct inproc_entry batch[INPROC_BATCH];
	bool ended;
	unsigned n = link_take(port, peer, batch, &ended);

	for (unsigned i = 0; i < n; i++) {
		if (!port->closed && port->lost_err[peer] == 0) {
			int err = entry_deliver(port, peer, &batch[i]);

			if (err < 0)
				peer_end(port, peer, err);
		}
		free(batch[i].payload);
	}
	if (port->closed)
		return;
	if (port->lost_err[peer])
		peer_lost(port, peer, port->lost_err[peer]);
	else if (ended)
		peer_lost(port, peer, -PANGEA_EPEERLOST);
}

static void peers_look(struct inproc *port)
{
	for (unsigned i = 0; i < port->hub->slices && !port->closed; i++) {
		if (port->peers[i] == INPROC_WAITING)
			peer_meet(port, i);
		if (!port->closed && port->peers[i] == INPROC_UP)
			peer_receive(port, i);
	}
}

static void on_wake(uv_async_t *async)
{
	peers_look(async->data);
}

static int inproc_poll(struct transport *t)
{
	struct inproc *port = (struct inproc *)t;
	uint64_t before = port->stats.msgs_received;

	peers_look(port);
	return (int)(port->stats.msgs_received - before);
}

static void on_deadline(uv_timer_t *timer)
{
	struct inproc *port = timer->data;

	for (unsigned i = 0; i < port->hub->slices && !port->closed; i++)
		if (port->peers[i] == INPROC_WAITING)
			peer_lost(port, i, -ETIMEDOUT);
}

static int inproc_connect(struct transport *t, const char *const *addresses)
{
	struct inproc *port = (struct inproc *)t;
	struct inproc_hub *hub = port->hub;

	(void)addresses;
	for (unsigned i = 0; i < hub->slices; i++)
		if (i != port->config.hello.slice)
			port->peers[i] = INPROC_WAITING;
	pthread_mutex_lock(&hub->lock);
	port->connected = true;
	for (unsigned i = 0; i < hub->slices; i++)
		port_wake(hub, i);
	pthread_mutex_unlock(&hub->lock);
	uv_update_time(port->config.loop);
	return uv_timer_start(&port->deadline_timer, on_deadline, port->config.connect_timeout_ms,
			      0);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct inproc *port = handle->data;

	if (--port->handles == 0)
		free(port);
}

static void inproc_close(struct transport *t)
{
	struct inproc *port = (struct inproc *)t;
	struct inproc_hub *hub = port->hub;
	unsigned self = port->config.hello.slice;

	if (port->closed)
		return;
	port->closed = true;
	pthread_mutex_lock(&hub->lock);
	hub->ports[self] = NULL;
	hub->gone[self] = true;
	for (unsigned i = 0; i < hub->slices; i++)
		links_end(hub, self, i);
	pthread_mutex_unlock(&hub->lock);
	uv_close((uv_handle_t *)&port->async, on_handle_closed);
	uv_close((uv_handle_t *)&port->deadline_timer, on_handle_closed);
}

static const struct transport_ops inproc_ops = {
	.name = "inproc",
	.connect = inproc_connect,
	.send = inproc_send,
	.backlog = inproc_backlog,
	.refuse = inproc_refuse,
	.poll = inproc_poll,
	.stats = inproc_stats,
	.link = inproc_link,
	.close = inproc_close,
};

int transport_inproc_create(const struct transport_config *config, struct inproc_hub *hub,
			    struct transport **out)
{
	unsigned self = config->hello.slice;
	struct inproc *port;

	if (self >= hub->slices || config->hello.slices != hub->slices || hub->ports[self])
		return -EINVAL;
	port = calloc(1, sizeof(*port));
	if (!port)
		return -ENOMEM;
	port->transport.ops = &inproc_ops;
	port->config = *config;
	port->hub = hub;
	port->handles = 2;
	if (uv_async_init(config->loop, &port->async, on_wake) < 0) {
		free(port);
		return -ENOMEM;
	}
	invariant(uv_timer_init(config->loop, &port->deadline_timer) == 0);
	port->async.data = port;
	port->deadline_timer.data = port;
	pthread_mutex_lock(&hub->lock);
	hub->ports[self] = port;
	pthread_mutex_unlock(&hub->lock);
	*out = &port->transport;
	return 0;
}
