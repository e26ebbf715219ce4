/* SPDX-License-Identifier: Apache-2.0 */
/* What two slices say to each other to begin RDMA, and beside each message over it. No I/O, no device. */
#ifndef TRANSPORT_RDMA_WIRE_H
#define TRANSPORT_RDMA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/wire.h"

#define RDMA_MAGIC	  0x414d4452u /* "RDMA", little-endian */
#define RDMA_WIRE_VERSION 1u
#define RDMA_TOKEN_SIZE	  16u
#define RDMA_OFFER_SIZE	  32u
#define RDMA_REQUEST_SIZE 32u
/* Messages under way in one direction: what a burst of some for each CPU takes, and 300 KiB a link. */
#define RDMA_SLOTS 32u
/* Path MTUs that RDMA has. */
#define RDMA_MTU_MIN 256u
#define RDMA_MTU_MAX 4096u

/* The word of the caller over the first connection, once it knows. */
#define RDMA_WORD_UP 'y' /* messages go by RDMA from now on, both ways */
#define RDMA_WORD_NO 'n' /* it did not work, and nothing has been said by RDMA */

/*
 * The callee's offer, over the connection that has shown both keys: where to connect, and by which
 * token, which is good for one connection. RDMA_OFFER_SIZE bytes: magic, version (16 bits), port
 * (16), slots (16), 16 zero bits, MTU (32), token.
 */
struct rdma_offer {
	uint16_t port;	/* of rdma_cm, at the callee's data address */
	uint16_t slots; /* receives that it has ready for messages */
	uint32_t mtu;	/* most bytes of a packet */
	uint8_t token[RDMA_TOKEN_SIZE];
};

/*
 * The caller's request, the private data of rdma_cm's. RDMA_REQUEST_SIZE bytes: magic, version (16
 * bits), 16 zero bits, MTU (32), 32 zero bits, token.
 */
struct rdma_request {
	uint32_t mtu; /* that both use, unless the path has a smaller one */
	uint8_t token[RDMA_TOKEN_SIZE];
};

void rdma_offer_encode(const struct rdma_offer *offer, uint8_t *buf);
/*
 * Reads len bytes. 0; -EAGAIN: it is short; -PANGEA_EPEERMAGIC, -PANGEA_EPEERVERSION; -PANGEA_EWIRE:
 * something in it can not be.
 */
int rdma_offer_decode(const uint8_t *buf, size_t len, struct rdma_offer *offer);
void rdma_request_encode(const struct rdma_request *request, uint8_t *buf);
/* The same; a short one is -PANGEA_EWIRE, and what is behind it is not looked at: rdma_cm adds zeroes. */
int rdma_request_decode(const uint8_t *buf, size_t len, struct rdma_request *request);
/* Compares in constant time. */
bool rdma_token_equal(const uint8_t a[RDMA_TOKEN_SIZE], const uint8_t b[RDMA_TOKEN_SIZE]);

/*
 * The 32 bits of immediate data beside each message: how many credits its sender gives back. A message
 * without bytes does only that.
 */
uint32_t rdma_immediate_encode(unsigned credits);
/* 0 or -PANGEA_EWIRE: no such word. */
int rdma_immediate_decode(uint32_t word, unsigned *credits);
/* Adds what was given back. -PANGEA_EWIRE: more than can have been taken. */
int rdma_credits_add(unsigned *credits, unsigned given);

/* What a message that came must be: its header, and the length that the header says. */
int rdma_message_decode(const uint8_t *buf, size_t len, struct wire_msg *msg);

/*
 * Which work request a completion is about. Completions of a link that is gone still come, so they
 * name no memory but a peer's link by its number among all there were.
 */
struct rdma_work {
	bool receive;
	uint8_t peer;
	uint16_t number; /* receive: its slot; send: its count */
	uint32_t link;
};
uint64_t rdma_work_encode(const struct rdma_work *work);
struct rdma_work rdma_work_decode(uint64_t id);

/* Is it a path MTU? */
bool rdma_mtu_valid(uint32_t bytes);

#endif
