/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what begins RDMA and goes beside its messages: any bytes; what is taken encodes to the same again. */
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "transport/rdma_wire.h"

static void begin(const uint8_t *data, size_t size)
{
	struct rdma_offer offer;
	struct rdma_request request;
	uint8_t again[RDMA_OFFER_SIZE];

	if (rdma_offer_decode(data, size, &offer) == 0) {
		invariant(offer.port && rdma_mtu_valid(offer.mtu));
		rdma_offer_encode(&offer, again);
		invariant(memcmp(again, data, RDMA_OFFER_SIZE) == 0);
	}
	if (rdma_request_decode(data, size, &request) == 0) {
		invariant(rdma_mtu_valid(request.mtu));
		rdma_request_encode(&request, again);
		invariant(memcmp(again, data, RDMA_REQUEST_SIZE) == 0);
	}
}

/* A link's credits, while the other side says what it likes. */
static void credits(struct fuzz_input in)
{
	unsigned have = RDMA_SLOTS, given;

	while (in.at < in.end) {
		uint32_t word = fuzz_byte(&in);

		if (word >= 128)
			word |= (uint32_t)fuzz_byte(&in) << 24;
		if (word < 64 && have > 0)
			have--;
		else if (rdma_immediate_decode(word, &given) == 0)
			(void)rdma_credits_add(&have, given);
		invariant(have <= RDMA_SLOTS);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_msg msg;

	begin(data, size);
	credits((struct fuzz_input){data, data + size});
	if (rdma_message_decode(data, size, &msg) == 0)
		invariant(size == WIRE_HEADER_SIZE + msg.payload_len);
	return 0;
}
