/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes both ends of a shared ring while its memory is written by somebody who means no good. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "transport/shm_ring.h"

static struct shm_ring ring;

static uint32_t word_read(struct fuzz_input *in)
{
	uint32_t word = 0;

	for (unsigned i = 0; i < 4; i++)
		word = word << 8 | fuzz_byte(in);
	return word;
}

static void put(struct shm_sender *tx, struct fuzz_input *in)
{
	static const uint8_t payload[WIRE_PAYLOAD_MAX] = {1};
	uint8_t header[WIRE_HEADER_SIZE];
	int err;

	memset(header, fuzz_byte(in), sizeof(header));
	err = shm_put(tx, header, payload, fuzz_byte(in) % 2 ? WIRE_PAYLOAD_MAX : 0);
	invariant(err == 0 || err == -EAGAIN || err == -PANGEA_EWIRE);
	invariant(tx->head - tx->tail <= SHM_ENTRIES);
	if (err == 0)
		(void)shm_put_wakes(tx);
	else if (err == -EAGAIN)
		(void)shm_room_await(tx, true);
}

static void take(struct shm_receiver *rx)
{
	struct shm_entry entry;
	struct wire_msg msg;
	uint8_t page[WIRE_PAYLOAD_MAX];
	int got = shm_take(rx, &entry);

	invariant(got == 0 || got == 1 || got == -PANGEA_EWIRE);
	if (got != 1)
		return;
	if (wire_msg_decode(entry.header, WIRE_HEADER_SIZE, &msg) == 0 && msg.payload_len > 0) {
		const uint8_t *lies = shm_payload(rx, &entry);

		if (lies) {
			invariant(lies >= ring.slots[0] && lies <= ring.slots[SHM_SLOTS - 1]);
			memcpy(page, lies, msg.payload_len);
		}
	}
	shm_done(rx);
	(void)shm_done_wakes(rx);
}

static void scribble(struct fuzz_input *in)
{
	uint8_t where = fuzz_byte(in);
	uint32_t word = word_read(in);

	if (where < 64)
		ring.head = word;
	else if (where < 128)
		ring.tail = word;
	else if (where < 136)
		ring.sleeps = word;
	else if (where < 144)
		ring.waits = word;
	else
		ring.entries[word % SHM_ENTRIES][where % SHM_ENTRY_WORDS] =
			(uint64_t)word << 32 | word_read(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, data + size};
	struct shm_sender tx;
	struct shm_receiver rx;

	memset(&ring, 0, sizeof(ring) - sizeof(ring.slots));
	shm_sender_init(&tx, &ring);
	shm_receiver_init(&rx, &ring);
	while (in.at < in.end) {
		switch (fuzz_byte(&in) % 4) {
		case 0:
			put(&tx, &in);
			break;
		case 1:
			take(&rx);
			break;
		case 2:
			(void)shm_sleep(&rx);
			shm_awake(&rx);
			break;
		default:
			scribble(&in);
			break;
		}
	}
	return 0;
}
