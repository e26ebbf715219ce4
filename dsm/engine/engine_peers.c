/* SPDX-License-Identifier: Apache-2.0 */
/* The transport's callbacks: messages to the protocol or the machine, peers that come and go. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

static uint8_t *scratch_of(struct engine *e, unsigned peer)
{
	return e->scratch + (size_t)peer * WIRE_PAYLOAD_MAX;
}

/*
 * Page data goes straight into its frame if it is awaited there, and stays awaited until the whole
 * message has come. That holds for DATA and WB. A PUT_M may be overtaken by a FWD while it trickles
 * in, and then the frame must not change: it is taken through the scratch page.
 */
static void *on_payload(void *ctx, unsigned peer, const struct wire_msg *msg, void *lies)
{
	struct engine *e = ctx;
	bool steady = msg->type == MSG_DATA || msg->type == MSG_WB;

	/* A page that is here already is copied once it is known to be taken. */
	if (lies && msg->type < MSG_MACHINE_FIRST)
		return lies;
	if (steady && protocol_awaits_page(e->protocol, peer, msg))
		return pages_frame(e->pages, msg->gfn);
	return scratch_of(e, peer);
}

static int coherence_msg(struct engine *e, unsigned peer, const struct wire_msg *msg, void *payload)
{
	e->spin.heard++;
	/* Awaited now: either it is in the frame already, or it goes there. */
	if (payload && protocol_awaits_page(e->protocol, peer, msg)) {
		uint8_t *frame = pages_frame(e->pages, msg->gfn);

		if (payload != frame)
			memcpy(frame, payload, PANGEA_PAGE_SIZE);
	}
	return engine_message(e, peer, msg);
}

static int on_msg(void *ctx, unsigned peer, const struct wire_msg *msg, void *payload)
{
	struct engine *e = ctx;

	if (e->closing)
		return 0;
	if (msg->type < MSG_MACHINE_FIRST)
		return coherence_msg(e, peer, msg, payload);
	/* From before a change of the VM's members, as the protocol's own messages are dropped. */
	if (msg->epoch != e->epoch)
		return 0;
	return e->config.callbacks.on_machine_msg(e->config.callbacks.ctx, peer, msg, payload);
}

static void on_up(void *ctx, unsigned peer)
{
	struct engine *e = ctx;

	e->peers_up |= UINT64_C(1) << peer;
	atomic_store_explicit(&e->links[peer], (uint8_t)e->transport->ops->link(e->transport, peer),
			      memory_order_relaxed);
	log_debug("slice %u is connected", peer);
	engine_settle(e);
	if (e->peers_up == engine_peers_all(e))
		e->config.callbacks.on_ready(e->config.callbacks.ctx);
}

enum link_kind engine_link(const struct engine *e, unsigned peer)
{
	return (enum link_kind)atomic_load_explicit(&e->links[peer], memory_order_relaxed);
}

static void on_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct engine *e = ctx;

	log_warn("slice %u is lost: %s", peer, why);
	atomic_fetch_or_explicit(&e->peers_lost, UINT64_C(1) << peer, memory_order_relaxed);
	engine_peer_loss(e, peer);
	engine_settle(e);
	e->config.callbacks.on_peer_lost(e->config.callbacks.ctx, peer, err, why);
}

int engine_transport_create(struct engine *e, unsigned *port_out)
{
	struct transport_config config = {
		.loop = &e->loop,
		.hello = {.magic = WIRE_MAGIC,
			  .version = WIRE_VERSION,
			  .features = e->config.plaintext ? 0 : WIRE_FEATURE_TLS,
			  .vm = e->config.vm,
			  .epoch = e->config.epoch,
			  .slice = (uint16_t)e->config.self,
			  .slices = (uint16_t)e->config.slices,
			  .ram_end = e->config.ram_end},
		.callbacks = {.ctx = e,
			      .payload_buffer = on_payload,
			      .on_msg = on_msg,
			      .on_up = on_up,
			      .on_lost = on_lost},
		.connect_timeout_ms = e->config.connect_timeout_ms,
		.silence_ms = e->config.silence_ms,
		.wish = e->config.transport,
		.rdma = e->config.rdma,
		.keys = e->config.keys,
	};
	int err = transport_net_create(&config, e->config.bind_host, e->config.bind_port, port_out,
				       &e->transport);

	e->config.keys = NULL; /* they are the caller's */
	if (err)
		log_error("cannot listen on %s port %u: %s",
			  e->config.bind_host ? e->config.bind_host : "(no address)",
			  e->config.bind_port, error_text(err));
	return err;
}
