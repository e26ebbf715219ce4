/* SPDX-License-Identifier: Apache-2.0 */
/* A peer that speaks RDMA by hand, for tests of what a bad one may do. */
#ifndef TESTS_RDMA_PEER_H
#define TESTS_RDMA_PEER_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "tests/unit/transport/transport_rig.h"
#include "transport/rdma_link.h"

struct rdma_peer {
	struct rig rig;
	unsigned slice;	  /* of the transport under test; the peer plays the other of two */
	int listener, fd; /* TCP */
	struct rdma_offer offer;
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	uint8_t memory[RDMA_LINK_BYTES];
	unsigned got;	    /* messages received */
	unsigned got_words; /* credits in their immediate data */
};

/*
 * Slice 0 of 2 has been called by a raw socket that plays slice 1 and takes RDMA: its offer has come. The
 * wish is slice 0's.
 */
void peer_calls(struct rdma_peer *peer, enum transport_wish wish);
/* The same with what else the test has set in the rig. */
void peer_calls_prepared(struct rdma_peer *peer);
void peer_prepare(struct rdma_peer *peer, enum transport_wish wish);
/* Connects by rdma_cm to the offer's port with this private data: the event that ended it. */
enum rdma_cm_event_type peer_connects(struct rdma_peer *peer, const void *data, size_t len);
/* Its two steps. */
void peer_calls_by_rdma(struct rdma_peer *peer, const void *data, size_t len);
enum rdma_cm_event_type peer_hears(struct rdma_peer *peer);
/* The right private data for the offer. */
void peer_request(const struct rdma_peer *peer, uint8_t out[RDMA_REQUEST_SIZE]);
/* All of it, and slice 0 is up by RDMA. */
void peer_up_by_rdma(struct rdma_peer *peer);

/* Slice 1 of 2 has called a raw listener that plays slice 0, with these bits in its hello. */
void peer_called(struct rdma_peer *peer, enum transport_wish wish, uint32_t takes);
/* Says the offer. */
void peer_offers(struct rdma_peer *peer, const struct rdma_offer *offer);

/* Sends len bytes with this immediate data; with no_immediate, without. */
void peer_sends(struct rdma_peer *peer, const void *bytes, size_t len, uint32_t word);
void peer_sends_plain(struct rdma_peer *peer, const void *bytes, size_t len);
/* A write of no bytes into nobody's memory, with immediate data. */
void peer_writes_nothing(struct rdma_peer *peer);
/* Takes what has come. */
void peer_polls(struct rdma_peer *peer);
void peer_word(struct rdma_peer *peer, char word);
/* Our slice has lost the peer with this code and sentence. */
void peer_is_lost(struct rdma_peer *peer, int err, const char *says);
void peer_pair_destroy(struct rdma_peer *peer);
void peer_end(struct rdma_peer *peer);

#endif
