/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs of what begins RDMA and goes beside its messages: every value that cannot be is refused. */
#include "transport/rdma_wire.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "base/error.h"
#include "transport/little_endian.h"

#define TOKEN_AT 16

static void head_encode(uint8_t *buf)
{
	put32(buf, RDMA_MAGIC);
	put16(buf + 4, RDMA_WIRE_VERSION);
}

static int head_decode(const uint8_t *buf)
{
	if (get32(buf) != RDMA_MAGIC)
		return -PANGEA_EPEERMAGIC;
	return get16(buf + 4) == RDMA_WIRE_VERSION ? 0 : -PANGEA_EPEERVERSION;
}

bool rdma_mtu_valid(uint32_t bytes)
{
	return bytes >= RDMA_MTU_MIN && bytes <= RDMA_MTU_MAX && (bytes & (bytes - 1)) == 0;
}

void rdma_offer_encode(const struct rdma_offer *offer, uint8_t *buf)
{
	head_encode(buf);
	put16(buf + 6, offer->port);
	put16(buf + 8, offer->slots);
	put16(buf + 10, 0);
	put32(buf + 12, offer->mtu);
	memcpy(buf + TOKEN_AT, offer->token, RDMA_TOKEN_SIZE);
}

int rdma_offer_decode(const uint8_t *buf, size_t len, struct rdma_offer *offer)
{
	int err;

	if (len < RDMA_OFFER_SIZE)
		return -EAGAIN;
	err = head_decode(buf);
	if (err)
		return err;
	offer->port = get16(buf + 6);
	offer->slots = get16(buf + 8);
	offer->mtu = get32(buf + 12);
	memcpy(offer->token, buf + TOKEN_AT, RDMA_TOKEN_SIZE);
	/* Both sides have the same number of slots, or they are of different versions. */
	return offer->port && offer->slots == RDMA_SLOTS && get16(buf + 10) == 0 &&
			       rdma_mtu_valid(offer->mtu)
		       ? 0
		       : -PANGEA_EWIRE;
}

void rdma_request_encode(const struct rdma_request *request, uint8_t *buf)
{
	head_encode(buf);
	put16(buf + 6, 0);
	put32(buf + 8, request->mtu);
	put32(buf + 12, 0);
	memcpy(buf + TOKEN_AT, request->token, RDMA_TOKEN_SIZE);
}

int rdma_request_decode(const uint8_t *buf, size_t len, struct rdma_request *request)
{
	int err;

	if (len < RDMA_REQUEST_SIZE)
		return -PANGEA_EWIRE;
	err = head_decode(buf);
	if (err)
		return err;
	request->mtu = get32(buf + 8);
	memcpy(request->token, buf + TOKEN_AT, RDMA_TOKEN_SIZE);
	return get16(buf + 6) == 0 && get32(buf + 12) == 0 && rdma_mtu_valid(request->mtu)
		       ? 0
		       : -PANGEA_EWIRE;
}

bool rdma_token_equal(const uint8_t a[RDMA_TOKEN_SIZE], const uint8_t b[RDMA_TOKEN_SIZE])
{
	return CRYPTO_memcmp(a, b, RDMA_TOKEN_SIZE) == 0;
}

uint32_t rdma_immediate_encode(unsigned credits)
{
	return credits;
}

int rdma_immediate_decode(uint32_t word, unsigned *credits)
{
	if (word > RDMA_SLOTS)
		return -PANGEA_EWIRE;
	*credits = word;
	return 0;
}

int rdma_credits_add(unsigned *credits, unsigned given)
{
	if (given > RDMA_SLOTS - *credits)
		return -PANGEA_EWIRE;
	*credits += given;
	return 0;
}

int rdma_message_decode(const uint8_t *buf, size_t len, struct wire_msg *msg)
{
	int err = wire_msg_decode(buf, len, msg);

	if (err == -EAGAIN)
		return -PANGEA_EWIRELEN;
	if (err)
		return err;
	return len == WIRE_HEADER_SIZE + (size_t)msg->payload_len ? 0 : -PANGEA_EWIRELEN;
}

uint64_t rdma_work_encode(const struct rdma_work *work)
{
	return (uint64_t)work->receive << 63 | (uint64_t)work->peer << 48 |
	       (uint64_t)work->number << 32 | work->link;
}

struct rdma_work rdma_work_decode(uint64_t id)
{
	return (struct rdma_work){.receive = id >> 63,
				  .peer = (uint8_t)(id >> 48),
				  .number = (uint16_t)(id >> 32),
				  .link = (uint32_t)id};
}
