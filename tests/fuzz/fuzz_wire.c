/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the wire decoder: any bytes; what is taken must encode to the same bytes again. */
#include <string.h>

#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "transport/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_msg msg;
	struct wire_hello hello;
	uint8_t again[WIRE_HELLO_SIZE];

	if (wire_msg_decode(data, size, &msg) == 0) {
		wire_msg_encode(&msg, again);
		invariant(memcmp(again, data, WIRE_HEADER_SIZE) == 0);
		invariant(msg.payload_len <= WIRE_PAYLOAD_MAX);
		invariant(wire_type_name(msg.type));
	}
	if (wire_hello_decode(data, size, &hello) == 0) {
		wire_hello_encode(&hello, again);
		invariant(memcmp(again, data, WIRE_HELLO_SIZE) == 0);
	}
	return 0;
}
