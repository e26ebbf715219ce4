/* SPDX-License-Identifier: Apache-2.0 */
/* The transport's interface: ordered messages between the slices of one VM, behind an ops table. */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include <uv.h>

#include "base/limits.h"
#include "base/pair_keys.h"
#include "transport/rdma.h"
#include "transport/wire.h"
#include "transport/wish.h"

struct transport;

/* How long a peer may be silent when nobody says otherwise. */
#define TRANSPORT_SILENCE_MS 30000

/*
 * What the owner of a transport (the DSM engine) gives it. All callbacks run on the loop's thread,
 * in which every transport function must be called too.
 */
struct transport_callbacks {
	void *ctx;
	/*
	 * A header with a payload has arrived: where do its payload_len bytes go? lies is where
	 * they are, in memory that came with them (a slot of a shared ring, a registered buffer),
	 * or NULL: they are still to come. Returns
	 * - a buffer of at least msg->payload_len bytes that stays valid until on_msg or on_lost
	 *   for this peer: the frame in the alias mapping if the page is awaited, else a scratch
	 *   buffer. The transport puts the bytes there before on_msg;
	 * - or lies itself: on_msg gets it, reads there what it wants, and keeps no pointer, for
	 *   the peer has the place again when on_msg returns. The peer may also write there
	 *   meanwhile, so this is for bytes that nobody checks (pages), never for what is parsed;
	 * - or NULL, which refuses the message; the connection is then closed with
	 *   -PANGEA_EPROTOCOL.
	 */
	void *(*payload_buffer)(void *ctx, unsigned peer, const struct wire_msg *msg, void *lies);
	/*
	 * A whole message has arrived; payload is what payload_buffer returned, or NULL. Returns 0,
	 * or a negative code that closes the connection (on_lost follows with that code). The
	 * header is a copy of the owner's own, checked by wire_msg_decode, whatever carried it.
	 */
	int (*on_msg)(void *ctx, unsigned peer, const struct wire_msg *msg, void *payload);
	/* Hellos were exchanged with this peer; messages may be sent to it. */
	void (*on_up)(void *ctx, unsigned peer);
	/*
	 * The connection to the peer ended or could not be made; err is why, and why is a sentence
	 * for people. Called once a peer; nothing more arrives from it.
	 */
	void (*on_lost)(void *ctx, unsigned peer, int err, const char *why);
};

/* Counters since creation: the loop's thread's. */
struct transport_stats {
	uint64_t msgs_sent, msgs_received;
	uint64_t bytes_sent, bytes_received; /* headers and payloads */
	uint64_t sends_queued; /* socket or ring was full, or credits were out: the rest waited */
	uint64_t bells_sent;   /* system calls that woke a peer which slept beside its ring */
	/* Peers that came up, by what carries their messages: TCP in clear, shared memory, TLS in user
	 * space, TLS whose records the kernel makes and opens, RDMA. */
	uint64_t links_tcp, links_shm, links_tls, links_ktls, links_rdma;
	uint64_t refused; /* callers that were sent away: strangers, and those without their key */
};

struct transport_config {
	uv_loop_t *loop; /* borrowed; outlives the transport */
	/* Ours; slice and slices say who we are among how many. With WIRE_FEATURE_TLS connections
	 * between hosts are encrypted; without it what is said there can be read and changed. */
	struct wire_hello hello;
	const struct pair_keys *keys; /* copied; of transport_net_create */
	struct transport_callbacks callbacks;
	unsigned connect_timeout_ms; /* from transport_connect to on_up, for all peers */
	/* A peer whose host acknowledges nothing for so long (TCP), or that takes nothing from a
	 * full ring (shared memory), or gives no credits back (RDMA), is lost; 0: TRANSPORT_SILENCE_MS. */
	unsigned silence_ms;
	enum transport_wish wish; /* of transport_net_create */
	struct rdma_option rdma;  /* of transport_net_create */
};

struct transport_ops {
	const char *name;
	/*
	 * Tells where the peers are and starts to make the connections: this slice connects to
	 * every lower slice and accepts from every higher one. addresses[slice] is "host:port"
	 * (own entry unused), copied. Each peer ends in on_up or, within connect_timeout_ms, in
	 * on_lost. Returns 0 or a negative code (-EINVAL: an address does not parse).
	 */
	int (*connect)(struct transport *t, const char *const *addresses);
	/*
	 * Sends one message; payload is msg->payload_len bytes or NULL. The header is copied. The
	 * payload is not copied unless copy_payload: it must stay unchanged until it has gone,
	 * which the protocol guarantees for page frames (docs/protocol.md, "Frames in flight").
	 * Order to one peer is kept. Returns 0; -ENOTCONN if the peer is not up; -ENOBUFS when
	 * the peer's queue is over its limit (the peer does not read: the connection is closed and
	 * on_lost follows from the loop, never from within send).
	 */
	int (*send)(struct transport *t, unsigned peer, const struct wire_msg *msg,
		    const void *payload, bool copy_payload);
	/* Messages that wait for the peer's socket, its ring or its credits; 0 too if it is not up. */
	unsigned (*backlog)(const struct transport *t, unsigned peer);
	/*
	 * Closes the connection to a peer that did what it must not; why is a sentence. on_lost
	 * follows from the loop, never from within, with err. Nothing if it is not up.
	 */
	void (*refuse)(struct transport *t, unsigned peer, int err, const char *why);
	/*
	 * Hands on what has arrived in memory, by on_msg, without a system call: a bounded number of
	 * messages. Returns how many; -ENOTSUP if no peer's messages come that way. Nobody needs to
	 * call it, for the loop does the same whenever it goes round: it is for an owner that would
	 * rather look again for a while than sleep. How long that pays, the owner knows. Not from
	 * within a callback of the transport.
	 */
	int (*poll)(struct transport *t);
	const struct transport_stats *(*stats)(const struct transport *t);
	/* What carries the messages to a peer, from on_up on; LINK_NONE if it is not up. */
	enum link_kind (*link)(const struct transport *t, unsigned peer);
	/* Closes every connection; the memory is freed when the loop has run the close callbacks.
	 * No callback after this returns. */
	void (*close)(struct transport *t);
};

/* Every implementation's struct begins with this. */
struct transport {
	const struct transport_ops *ops;
};

/*
 * Between processes (net.c): TCP, shared memory with peers of this host, and RDMA where both have a
 * device, as config->wish says (docs/transport.md). Listens on bind_host at port (0: any free), and
 * on a local socket of that name; *port_out gets the port. Errors: -EADDRINUSE, -EADDRNOTAVAIL,
 * -EINVAL (host is not a numeric address), -ENOMEM.
 */
int transport_net_create(const struct transport_config *config, const char *bind_host,
			 unsigned port, unsigned *port_out, struct transport **out);

/*
 * In-process (inproc.c), for tests and benchmarks: transports on one hub, each in any thread with
 * its own loop, reach each other by slice index; addresses are ignored. The hub outlives them.
 */
struct inproc_hub;
int inproc_hub_create(unsigned slices, struct inproc_hub **out);
void inproc_hub_destroy(struct inproc_hub *hub);
int transport_inproc_create(const struct transport_config *config, struct inproc_hub *hub,
			    struct transport **out);

#endif
