/* SPDX-License-Identifier: Apache-2.0 */
/* A connection whose messages go by RDMA: its queue pair and slots, and the device that all of them share. */
#ifndef TRANSPORT_RDMA_LINK_H
#define TRANSPORT_RDMA_LINK_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "transport/rdma_wire.h"

struct conn;
struct net;

/*
 * Receives that are posted: one for each message that the peer has a credit for, and 4 for its
 * messages that only give credits back, which take none. Of those at most 2 can be under way: each
 * gives at least RDMA_SLOTS / 2 credits that we do not have before we have taken it, and there are
 * RDMA_SLOTS in all. A third one may close the link, and one is spare. We post a receive again before
 * we use the credits that came with it. So no message ever finds no receive.
 */
#define RDMA_RECEIVES (RDMA_SLOTS + 4u)
/* Messages that are with the device: those with a credit, those without, and some whose end we have
 * not been told yet. */
#define RDMA_SENDS	    40u
#define RDMA_SENDS_MESSAGES 36u
/* Each so many sends the device tells that they are done. */
#define RDMA_SIGNAL_EVERY 8u
/* Header and page, the page at a cache line. */
#define RDMA_SLOT_SIZE	 (64u + WIRE_PAYLOAD_MAX)
#define RDMA_SLOT_HEADER (64u - WIRE_HEADER_SIZE)
#define RDMA_LINK_BYTES	 ((RDMA_SENDS + RDMA_RECEIVES) * RDMA_SLOT_SIZE)
/* An attempt to get from TCP to RDMA may take so long. */
#define RDMA_ATTEMPT_MS 5000u
/* Sent messages get so long to arrive when this side closes. */
#define RDMA_LINGER_MS 2000u
/* A lost packet is sent again after 4.096 us * 2^18 = 1.07 s, 6 times: 7 means for ever on some devices. */
#define RDMA_TIMEOUT   18
#define RDMA_RETRIES   6
#define RDMA_RNR_TRIES 1 /* a receive is always there, so a peer without one is broken */

/* Completions that are looked at together. */
#define RDMA_LOOK 16

/* What arrived before the peer said that the link is up. */
struct rdma_held {
	uint16_t slot;
	uint32_t len;
	uint32_t word; /* immediate data */
};

struct rdma_link {
	/* How it is made (rdma_meet.c). */
	struct rdma_cm_id *id;		/* NULL: none yet, or no more */
	uint8_t offer[RDMA_OFFER_SIZE]; /* as it was sent, or comes */
	unsigned offer_have;
	uint8_t token[RDMA_TOKEN_SIZE];
	bool token_used; /* accepted: somebody has come with it */
	bool usable;	 /* the queue pair may send and receive */
	unsigned mtu;	 /* bytes of a packet */
	/* The queue pair and its memory (rdma_qp.c). */
	uint32_t number; /* among all links there were */
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint8_t *memory; /* slots: first those of sends, then those of receives */
	unsigned inline_max;
	/* Sending (rdma_link.c): counts without end; a send's slot is its count modulo RDMA_SENDS. */
	uint64_t posted, signaled, done;
	unsigned credits;  /* messages that the peer has receives for */
	uint64_t moved_ms; /* loop time when the peer or the device last took something */
	bool lingers;	   /* this side has closed; what was sent is on its way */
	/* Receiving (rdma_receive.c). */
	unsigned owed; /* credits to give back */
	struct rdma_held held[RDMA_RECEIVES];
	unsigned held_count;
};

/* The device that has the data address; one for all links of a transport. */
struct rdma_net {
	struct rdma_event_channel *events;
	struct rdma_cm_id *anchor;   /* bound to the data address: keeps the device open */
	struct rdma_cm_id *listener; /* NULL: nobody is awaited any more */
	struct ibv_context *verbs;   /* the anchor's */
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq; /* of all queue pairs */
	struct sockaddr_storage address;
	uint16_t listen_port;
	unsigned port;	/* of the device */
	int gid_index;	/* -1: as the kernel finds it */
	unsigned mtu;	/* most bytes of a packet */
	uint32_t links; /* made so far */
	/* The loop (rdma_loop.c). */
	uv_poll_t events_poll, cq_poll;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t again;
	uv_timer_t tick;
	bool armed;	    /* the next completion makes an event */
	bool running;	    /* the handles are open */
	unsigned lingering; /* links */
	struct ibv_wc wc[RDMA_LOOK];
	int wc_at, wc_count; /* polled, and not handled yet */
};

/* rdma_device.c */
/*
 * Opens the device that has the address on which this slice listens, if RDMA is allowed and wished for.
 * Without one net->rdma is NULL, and net->rdma_why says why.
 */
void rdma_open(struct net *net, const struct sockaddr_storage *address);
/* Nobody is awaited any more. */
void rdma_listener_close(struct net *net);
/* Frees what rdma_open made; links and handles are gone. */
void rdma_free(struct rdma_net *rdma);

/* rdma_meet.c: from a proven TCP connection to RDMA. */
/* May this hello's connection be asked for RDMA? Both sides say so in theirs. */
bool rdma_offers(const struct conn *conn);
/* The connection is proven. True: RDMA is tried, or the connection closes; false: TCP carries it. */
bool rdma_meet(struct conn *conn);
/* CONN_RDMA: the TCP connection has something, or its end. */
void rdma_meet_event(struct conn *conn);
/* Ends attempts that take too long. */
void rdma_meet_tick(struct net *net);
/* Steps of an attempt (from rdma_events.c). */
void rdma_address_resolved(struct conn *conn);
void rdma_route_resolved(struct conn *conn);
void rdma_answered(struct conn *conn);
/* Somebody connects with this private data; id is taken over. */
void rdma_called(struct net *net, struct rdma_cm_id *id, const uint8_t *bytes, size_t len);
/* The attempt has failed: the other way is gone, or nothing is. */
void rdma_meet_failed(struct conn *conn, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* rdma_events.c */
/* Handles what rdma_cm has to tell. */
void rdma_events(struct net *net);

/* rdma_qp.c */
/* Makes queue pair and slots for the link's id, and posts the receives. 0, or a negative errno and why. */
int rdma_qp_create(struct conn *conn, char *why, size_t size);
/* From here on it receives and sends. */
int rdma_qp_connect(struct conn *conn, char *why, size_t size);
int rdma_receive_post(struct conn *conn, unsigned slot);
/* The link with all that it has; its completions are ignored from now on. */
void rdma_link_destroy(struct conn *conn);

/* rdma_link.c: sending. */
/* Sends a message: 1; 0: there is no room; negative: the connection closes. */
int rdma_link_put(struct conn *conn, const uint8_t *header, const void *payload,
		  uint32_t payload_len);
/* Messages wait in the queue for credits. */
void rdma_link_await(struct conn *conn);
/* Sends what waits, as far as there is room. */
void rdma_link_flush(struct conn *conn);
/* Gives credits back, where much is owed and no message takes them along. */
void rdma_link_give(struct conn *conn);
/* A send has ended, and all before it. */
void rdma_link_sent(struct conn *conn, uint16_t number);
/* This side closes a link that was up. True: something is on its way still, and rdma_linger_end follows. */
bool rdma_linger_begin(struct conn *conn);
void rdma_linger_end(struct conn *conn);

/* rdma_receive.c */
/* What a completion is about: a message that is handed on, or sends that are done, or an end. */
void rdma_completion(struct net *net, const struct ibv_wc *wc);
/* The link is up: hands on what came before. */
void rdma_link_held(struct conn *conn);
/* CONN_UP: the TCP socket beside the queue pair has something, or its end. */
void rdma_link_event(struct conn *conn);

/* rdma_loop.c */
/* The device is open: from now on the loop looks at its completions whenever it goes round. */
int rdma_loop_start(struct net *net);
/* Once nothing lingers. */
void rdma_loop_close(struct net *net);
/* Handles completions: how many messages were handed on, or -ENOTSUP: there is no link. */
int rdma_loop_poll(struct net *net);
/* Handles completions until there are none. */
void rdma_loop_drain(struct net *net);

#endif
