/* SPDX-License-Identifier: Apache-2.0 */
/* The wire codec: round trips, every truncation, every illegal field. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "transport/wire.h"

static struct wire_msg msg_of(unsigned type)
{
	struct wire_msg msg = {.type = (uint8_t)type,
			       .requester = 7,
			       .epoch = 0x01020304,
			       .gfn = UINT64_C(0x1122334455)};

	if (type == MSG_DATA || type == MSG_WB || type == MSG_PUT_M)
		msg.payload_len = WIRE_PAYLOAD_MAX;
	if (type == MSG_DATA || type == MSG_GRANT)
		msg.acks = 3;
	return msg;
}

static int decode(const struct wire_msg *msg, struct wire_msg *out)
{
	uint8_t buf[WIRE_HEADER_SIZE];

	wire_msg_encode(msg, buf);
	return wire_msg_decode(buf, sizeof(buf), out);
}

static int decode_err(const struct wire_msg *msg)
{
	struct wire_msg out;

	return decode(msg, &out);
}

static struct wire_hello hello_valid(void)
{
	return (struct wire_hello){.magic = WIRE_MAGIC,
				   .version = WIRE_VERSION,
				   .features = WIRE_FEATURES,
				   .vm = UINT64_C(0x8877665544332211),
				   .epoch = 5,
				   .slice = 2,
				   .slices = 4,
				   .ram_end = UINT64_C(5) << 30};
}

Test(wire, every_coherence_message_round_trips)
{
	for (unsigned type = 1; type < MSG_COHERENCE_END; type++) {
		struct wire_msg msg = msg_of(type), out;

		memset(&out, 0xee, sizeof(out));
		cr_assert_eq(decode(&msg, &out), 0, "type %u", type);
		cr_assert_eq(memcmp(&msg, &out, sizeof(msg)), 0, "type %u", type);
	}
}

Test(wire, random_machine_messages_round_trip)
{
	unsigned seed = 20240607;

	cr_log_info("seed %u", seed);
	srand(seed);
	for (int i = 0; i < 10000; i++) {
		struct wire_msg msg = {0}, out;

		msg.type = (uint8_t)(MSG_MACHINE_FIRST + rand() % (256 - MSG_MACHINE_FIRST));
		msg.flags = (uint8_t)rand();
		msg.requester = (uint16_t)rand();
		msg.epoch = (uint32_t)rand() << 1;
		msg.gfn = (uint64_t)rand() << 33 | (uint64_t)rand();
		msg.arg = (uint64_t)rand() << 33 | (uint64_t)rand();
		msg.acks = (uint16_t)rand();
		msg.payload_len = (uint32_t)rand() % (WIRE_PAYLOAD_MAX + 1);
		cr_assert_eq(decode(&msg, &out), 0);
		cr_assert_eq(memcmp(&msg, &out, sizeof(msg)), 0);
	}
}

Test(wire, header_layout_is_as_documented)
{
	struct wire_msg msg = {.type = 0x41,
			       .flags = 0x42,
			       .requester = 0x4443,
			       .epoch = 0x48474645,
			       .gfn = UINT64_C(0x504f4e4d4c4b4a49),
			       .arg = UINT64_C(0x5857565554535251),
			       .acks = 0x5a59,
			       .reserved = 0x5c5b,
			       .payload_len = 0x605f5e5d};
	uint8_t buf[WIRE_HEADER_SIZE];

	wire_msg_encode(&msg, buf);
	for (unsigned i = 0; i < WIRE_HEADER_SIZE; i++)
		cr_assert_eq(buf[i], 0x41 + i, "offset %u", i);
}

Test(wire, every_truncation_of_a_header_asks_for_more)
{
	struct wire_msg msg = msg_of(MSG_DATA), out;
	uint8_t buf[WIRE_HEADER_SIZE];

	wire_msg_encode(&msg, buf);
	for (size_t len = 0; len < WIRE_HEADER_SIZE; len++) {
		uint8_t *exact = malloc(len ? len : 1); /* a read beyond it is caught by ASan */

		memcpy(exact, buf, len);
		cr_assert_eq(wire_msg_decode(exact, len, &out), -EAGAIN, "len %zu", len);
		free(exact);
	}
}

Test(wire, unknown_types_are_refused)
{
	for (unsigned type = 0; type <= UINT8_MAX; type++) {
		struct wire_msg msg = msg_of(type);
		bool known = (type >= 1 && type < MSG_COHERENCE_END) || type >= MSG_MACHINE_FIRST;

		cr_assert_eq(decode_err(&msg), known ? 0 : -PANGEA_EWIRE, "type %u", type);
	}
}

Test(wire, reserved_flags_are_refused)
{
	for (unsigned type = 1; type < MSG_COHERENCE_END; type++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct wire_msg msg = msg_of(type);
			bool page = msg.payload_len != 0;
			bool legal = (bit == 0 && page) || (bit == 1 && type == MSG_DATA);

			msg.flags = (uint8_t)(1u << bit);
			if (msg.flags & MSG_FLAG_ZERO)
				msg.payload_len = 0;
			cr_assert_eq(decode_err(&msg), legal ? 0 : -PANGEA_EWIRE, "type %u bit %u",
				     type, bit);
		}
	}
}

Test(wire, reserved_fields_are_refused)
{
	for (unsigned type = 1; type < MSG_COHERENCE_END; type++) {
		struct wire_msg msg = msg_of(type);

		msg.reserved = 1;
		cr_assert_eq(decode_err(&msg), -PANGEA_EWIRE);
		msg = msg_of(type);
		msg.arg = 1;
		cr_assert_eq(decode_err(&msg),
			     type == MSG_GET_S || type == MSG_GET_M ? 0 : -PANGEA_EWIRE);
		msg = msg_of(type);
		msg.acks = 1;
		cr_assert_eq(decode_err(&msg),
			     type == MSG_DATA || type == MSG_GRANT ? 0 : -PANGEA_EWIRE);
	}
	struct wire_msg machine = msg_of(MSG_MACHINE_FIRST);

	machine.reserved = 0x8000;
	cr_assert_eq(decode_err(&machine), -PANGEA_EWIRE);
}

/* A message for several pages: requests, and DATA of zeroes that names no ACKs. */
Test(wire, runs_are_of_few_kinds_and_bounded)
{
	struct wire_msg msg = msg_of(MSG_DATA), out;

	msg.flags = MSG_FLAG_ZERO | MSG_FLAG_EXCLUSIVE;
	msg.payload_len = 0;
	msg.acks = 0;
	msg.arg = WIRE_RUN_MAX - 1;
	cr_assert_eq(decode(&msg, &out), 0);
	cr_assert_eq(out.arg, WIRE_RUN_MAX - 1);
	msg.arg = WIRE_RUN_MAX;
	cr_assert_eq(decode_err(&msg), -PANGEA_EWIRE);
	msg.arg = UINT64_MAX;
	cr_assert_eq(decode_err(&msg), -PANGEA_EWIRE);
	msg.arg = 1;
	msg.acks = 1;
	cr_assert_eq(decode_err(&msg), -PANGEA_EWIRE);
	msg = msg_of(MSG_GET_M);
	msg.arg = WIRE_RUN_MAX;
	cr_assert_eq(decode_err(&msg), -PANGEA_EWIRE);
}

Test(wire, payload_lengths_are_checked)
{
	static const uint32_t lens[] = {0, 1, 4095, 4096, 4097, 65536, UINT32_MAX};

	for (unsigned type = 1; type < MSG_COHERENCE_END; type++) {
		bool page = msg_of(type).payload_len != 0;

		for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
			struct wire_msg msg = msg_of(type);
			int want = lens[i] == (page ? 4096 : 0) ? 0 : -PANGEA_EWIRE;

			msg.payload_len = lens[i];
			if (lens[i] > WIRE_PAYLOAD_MAX)
				want = -PANGEA_EWIRELEN;
			cr_assert_eq(decode_err(&msg), want, "type %u len %u", type, lens[i]);
		}
	}
	struct wire_msg both = msg_of(MSG_DATA);

	both.flags = MSG_FLAG_ZERO;
	cr_assert_eq(decode_err(&both), -PANGEA_EWIRE);
	struct wire_msg machine = msg_of(MSG_MACHINE_FIRST);

	machine.payload_len = WIRE_PAYLOAD_MAX + 1;
	cr_assert_eq(decode_err(&machine), -PANGEA_EWIRELEN);
}

Test(wire, hello_round_trips_and_every_truncation_asks_for_more)
{
	struct wire_hello hello = hello_valid(), out;
	uint8_t buf[WIRE_HELLO_SIZE];

	memset(&out, 0xee, sizeof(out));
	wire_hello_encode(&hello, buf);
	cr_assert_eq(memcmp(buf, "PANGEA01", 8), 0);
	cr_assert_eq(wire_hello_decode(buf, sizeof(buf), &out), 0);
	cr_assert_eq(memcmp(&hello, &out, sizeof(hello)), 0);
	for (size_t len = 0; len < WIRE_HELLO_SIZE; len++) {
		uint8_t *exact = malloc(len ? len : 1);

		memcpy(exact, buf, len);
		cr_assert_eq(wire_hello_decode(exact, len, &out), -EAGAIN, "len %zu", len);
		free(exact);
	}
}

Test(wire, each_wrong_byte_of_the_magic_is_seen_at_once)
{
	struct wire_hello hello = hello_valid(), out;
	uint8_t buf[WIRE_HELLO_SIZE];

	wire_hello_encode(&hello, buf);
	for (size_t at = 0; at < 8; at++) {
		buf[at] ^= 0x20;
		for (size_t len = 0; len <= WIRE_HELLO_SIZE; len++)
			cr_assert_eq(wire_hello_decode(buf, len, &out),
				     len > at ? -PANGEA_EPEERMAGIC : -EAGAIN);
		buf[at] ^= 0x20;
	}
}

static int hello_err(const struct wire_hello *hello)
{
	uint8_t buf[WIRE_HELLO_SIZE];
	struct wire_hello out;

	wire_hello_encode(hello, buf);
	return wire_hello_decode(buf, sizeof(buf), &out);
}

Test(wire, wrong_version_features_and_reserved_are_named)
{
	struct wire_hello hello = hello_valid();

	hello.version = WIRE_VERSION + 1;
	cr_assert_eq(hello_err(&hello), -PANGEA_EPEERVERSION);
	hello.version = 0;
	cr_assert_eq(hello_err(&hello), -PANGEA_EPEERVERSION);
	hello = hello_valid();
	hello.features = WIRE_FEATURES + 1;
	cr_assert_eq(hello_err(&hello), -PANGEA_EPEERFEATURES);
	hello = hello_valid();
	hello.reserved = 1;
	cr_assert_eq(hello_err(&hello), -PANGEA_EWIRE);
	hello = hello_valid();
	hello.takes = WIRE_TAKES + 1;
	cr_assert_eq(hello_err(&hello), -PANGEA_EWIRE);
}

Test(wire, types_have_names)
{
	cr_assert_str_eq(wire_type_name(MSG_GET_S), "GET_S");
	cr_assert_str_eq(wire_type_name(MSG_PUT_ACK), "PUT_ACK");
	cr_assert_str_eq(wire_type_name(MSG_MACHINE_FIRST), "MACHINE");
	cr_assert_str_eq(wire_type_name(255), "MACHINE");
	cr_assert_str_eq(wire_type_name(0), "?");
	cr_assert_str_eq(wire_type_name(MSG_COHERENCE_END), "?");
	cr_assert_str_eq(wire_type_name(256), "?");
}
