/* SPDX-License-Identifier: Apache-2.0 */
/* What begins RDMA and goes beside its messages: round trips, every truncation, every illegal value. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "transport/rdma_wire.h"

static const struct rdma_offer offer = {
	.port = 40001, .slots = RDMA_SLOTS, .mtu = 1024, .token = {1, 2, 3, 250}};
static const struct rdma_request request = {.mtu = 4096, .token = {9, 8, 7, 6}};

Test(rdma_wire, an_offer_round_trips_and_a_short_one_waits)
{
	uint8_t buf[RDMA_OFFER_SIZE];
	struct rdma_offer out;

	rdma_offer_encode(&offer, buf);
	for (size_t len = 0; len < RDMA_OFFER_SIZE; len++)
		cr_assert_eq(rdma_offer_decode(buf, len, &out), -EAGAIN);
	cr_assert_eq(rdma_offer_decode(buf, sizeof(buf), &out), 0);
	cr_assert_eq(out.port, offer.port);
	cr_assert_eq(out.slots, offer.slots);
	cr_assert_eq(out.mtu, offer.mtu);
	cr_assert_eq(memcmp(out.token, offer.token, RDMA_TOKEN_SIZE), 0);
}

Test(rdma_wire, a_request_round_trips_with_zeroes_behind_it_and_a_short_one_is_none)
{
	uint8_t buf[RDMA_REQUEST_SIZE + 24] = {0};
	struct rdma_request out;

	rdma_request_encode(&request, buf);
	for (size_t len = 0; len < RDMA_REQUEST_SIZE; len++)
		cr_assert_eq(rdma_request_decode(buf, len, &out), -PANGEA_EWIRE);
	cr_assert_eq(rdma_request_decode(buf, sizeof(buf), &out), 0);
	cr_assert_eq(out.mtu, request.mtu);
	cr_assert_eq(memcmp(out.token, request.token, RDMA_TOKEN_SIZE), 0);
}

/* The answers when one byte of the head or of a field is another. */
static int offer_with(unsigned at, uint8_t byte)
{
	uint8_t buf[RDMA_OFFER_SIZE];
	struct rdma_offer out;

	rdma_offer_encode(&offer, buf);
	buf[at] = byte;
	return rdma_offer_decode(buf, sizeof(buf), &out);
}

static int request_with(unsigned at, uint8_t byte)
{
	uint8_t buf[RDMA_REQUEST_SIZE];
	struct rdma_request out;

	rdma_request_encode(&request, buf);
	buf[at] = byte;
	return rdma_request_decode(buf, sizeof(buf), &out);
}

Test(rdma_wire, what_cannot_be_in_an_offer_is_refused)
{
	cr_assert_eq(offer_with(0, 'X'), -PANGEA_EPEERMAGIC);
	cr_assert_eq(offer_with(4, 2), -PANGEA_EPEERVERSION);
	cr_assert_eq(offer_with(8, RDMA_SLOTS + 1), -PANGEA_EWIRE);
	cr_assert_eq(offer_with(10, 1), -PANGEA_EWIRE);
	cr_assert_eq(offer_with(12, 1), -PANGEA_EWIRE, "an MTU of 1025");
	cr_assert_eq(offer_with(13, 0), -PANGEA_EWIRE, "an MTU of 0");
	cr_assert_eq(offer_with(13, 32), -PANGEA_EWIRE, "an MTU of 8192");
	cr_assert_eq(offer_with(20, 77), 0, "any token may be");
}

Test(rdma_wire, port_zero_is_refused)
{
	struct rdma_offer none = offer, out;
	uint8_t buf[RDMA_OFFER_SIZE];

	none.port = 0;
	rdma_offer_encode(&none, buf);
	cr_assert_eq(rdma_offer_decode(buf, sizeof(buf), &out), -PANGEA_EWIRE);
}

Test(rdma_wire, what_cannot_be_in_a_request_is_refused)
{
	cr_assert_eq(request_with(3, 0), -PANGEA_EPEERMAGIC);
	cr_assert_eq(request_with(5, 1), -PANGEA_EPEERVERSION);
	cr_assert_eq(request_with(6, 1), -PANGEA_EWIRE);
	cr_assert_eq(request_with(9, 0), -PANGEA_EWIRE);
	cr_assert_eq(request_with(15, 1), -PANGEA_EWIRE);
	cr_assert_eq(request_with(31, 1), 0);
}

Test(rdma_wire, tokens_differ_by_any_bit)
{
	uint8_t a[RDMA_TOKEN_SIZE] = {1}, b[RDMA_TOKEN_SIZE] = {1};

	cr_assert(rdma_token_equal(a, b));
	for (unsigned i = 0; i < RDMA_TOKEN_SIZE * 8; i++) {
		b[i / 8] ^= (uint8_t)(1u << i % 8);
		cr_assert(!rdma_token_equal(a, b));
		b[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

Test(rdma_wire, immediate_data_are_a_number_of_credits)
{
	unsigned credits = 77;

	for (unsigned i = 0; i <= RDMA_SLOTS; i++) {
		cr_assert_eq(rdma_immediate_decode(rdma_immediate_encode(i), &credits), 0);
		cr_assert_eq(credits, i);
	}
	cr_assert_eq(rdma_immediate_decode(RDMA_SLOTS + 1, &credits), -PANGEA_EWIRE);
	cr_assert_eq(rdma_immediate_decode(UINT32_MAX, &credits), -PANGEA_EWIRE);
	cr_assert_eq(rdma_immediate_decode(1u << 31, &credits), -PANGEA_EWIRE);
}

Test(rdma_wire, no_more_credits_come_back_than_were_taken)
{
	unsigned credits = RDMA_SLOTS - 3;

	cr_assert_eq(rdma_credits_add(&credits, 4), -PANGEA_EWIRE);
	cr_assert_eq(credits, RDMA_SLOTS - 3);
	cr_assert_eq(rdma_credits_add(&credits, 3), 0);
	cr_assert_eq(credits, RDMA_SLOTS);
	cr_assert_eq(rdma_credits_add(&credits, 0), 0);
	cr_assert_eq(rdma_credits_add(&credits, 1), -PANGEA_EWIRE);
}

Test(rdma_wire, a_message_is_as_long_as_it_says)
{
	uint8_t buf[WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX] = {0};
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST, .payload_len = 100}, out;

	wire_msg_encode(&msg, buf);
	cr_assert_eq(rdma_message_decode(buf, WIRE_HEADER_SIZE + 100, &out), 0);
	cr_assert_eq(out.payload_len, 100);
	cr_assert_eq(rdma_message_decode(buf, WIRE_HEADER_SIZE + 99, &out), -PANGEA_EWIRELEN);
	cr_assert_eq(rdma_message_decode(buf, WIRE_HEADER_SIZE + 101, &out), -PANGEA_EWIRELEN);
	cr_assert_eq(rdma_message_decode(buf, WIRE_HEADER_SIZE, &out), -PANGEA_EWIRELEN);
	cr_assert_eq(rdma_message_decode(buf, 10, &out), -PANGEA_EWIRELEN);
	buf[0] = 0;
	cr_assert_eq(rdma_message_decode(buf, WIRE_HEADER_SIZE + 100, &out), -PANGEA_EWIRE);
}

Test(rdma_wire, a_work_request_is_named_by_peer_link_and_number)
{
	struct rdma_work work = {.receive = true, .peer = 63, .number = 65535, .link = 0xfedcba98};
	struct rdma_work out = rdma_work_decode(rdma_work_encode(&work));

	cr_assert(out.receive);
	cr_assert_eq(out.peer, 63);
	cr_assert_eq(out.number, 65535);
	cr_assert_eq(out.link, 0xfedcba98);
	work.receive = false;
	work.peer = 0;
	out = rdma_work_decode(rdma_work_encode(&work));
	cr_assert(!out.receive);
	cr_assert_eq(out.peer, 0);
}
