/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the protocol core of one slice with a stream of events: faults, messages, losses, timers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "dsm/protocol/protocol_parts.h"
#include "tests/fuzz/fuzz.h"

#define SLICES	 4u
#define REQUESTS 3u
/* Page k is the first of chunk k, homed at slice k % SLICES: one here, the others elsewhere. */
#define PAGES 4u

static const uint8_t homes[PAGES] = {0, 1, 2, 0};

static struct wire_msg msg_read(struct fuzz_input *in, uint32_t epoch)
{
	uint8_t flags = fuzz_byte(in), who = fuzz_byte(in);
	struct wire_msg msg = {
		.type = fuzz_byte(in) % (MSG_COHERENCE_END + 1),
		.flags = flags & 3,
		.requester = who % (SLICES + 1),
		.epoch = epoch - (flags & 0x80 ? 1 : 0),
		.gfn = (uint64_t)(who >> 4) << CHUNK_PAGES_SHIFT,
		.acks = flags & 0x40 ? fuzz_byte(in) % (SLICES + 2) : 0,
		.payload_len = flags & 0x20 ? PANGEA_PAGE_SIZE : 0,
	};
	if (flags & 0x10)
		msg.arg = 1;
	return msg;
}

/* What must hold of one slice's core whatever its peers say. */
static void core_check(const struct protocol *p, const struct protocol_actions *actions, int err)
{
	invariant(err == 0 || err == -EAGAIN || err == -EINVAL || err == -EFAULT ||
		  (err == -EOWNERDEAD && p->frozen));
	/* A frozen slice says nothing but which of its pages are lost, and wakes who has one. */
	for (unsigned i = 0; i < actions->count && p->frozen; i++)
		invariant(actions->list[i].type == ACTION_PAGE_LOST ||
			  actions->list[i].type == ACTION_WAKE);
	invariant(actions->count <= ACTIONS_MAX);
	invariant(p->requests.used <= REQUESTS);
	invariant(p->queues.used <= p->config.requests_total);
	for (unsigned i = 0; i < actions->count; i++) {
		const struct protocol_action *a = &actions->list[i];
		if (a->type == ACTION_SEND || a->type == ACTION_SEND_PAGE) {
			invariant(a->to < SLICES && a->to != p->config.self);
			invariant(a->msg.epoch == p->config.epoch);
		}
		invariant((a->type == ACTION_VIOLATION) == (a->why != NULL));
	}
}

static int event_step(struct protocol *p, struct fuzz_input *in, uint64_t *now_ns,
		      struct protocol_actions *actions)
{
	uint8_t head = fuzz_byte(in);
	struct protocol_event event = {.type = (head & 7) % (EVENT_UNPIN + 1),
				       .from = head >> 3 & 3,
				       .gfn = (uint64_t)(head >> 5) << CHUNK_PAGES_SHIFT,
				       .now_ns = *now_ns};

	*now_ns += 300;
	/* Losses are rare, or nothing else would be left. */
	if (event.type == EVENT_PEER_LOST && fuzz_byte(in) < 0xf0)
		event.type = EVENT_MESSAGE;
	if (event.type == EVENT_MESSAGE) {
		event.msg = msg_read(in, p->config.epoch);
		event.gfn = event.msg.gfn;
		protocol_awaits_page(p, event.from, &event.msg);
	}
	int err = protocol_step(p, &event, actions);

	/* No more pages can be pinned: what the core answers then. */
	return event.type == EVENT_PIN && err == -ENOBUFS ? 0 : err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct protocol_actions actions;
	struct fuzz_input in = {data, data + size};
	uint8_t head = fuzz_byte(&in);
	struct protocol_config config = {.self = head & 1 ? 3 : 0,
					 .slices = SLICES,
					 .epoch = 1,
					 .gfns = ((PAGES - 1) << CHUNK_PAGES_SHIFT) + 1,
					 .home_of_chunk = homes,
					 .hold_ns = head & 2 ? 1000 : 0,
					 .requests_max = REQUESTS};
	size_t bytes = protocol_size(&config);
	void *mem = aligned_alloc(64, bytes);
	uint64_t now_ns = 1;

	invariant(mem);
	memset(mem, 0, bytes);
	struct protocol *p = protocol_init(mem, &config);
	invariant(p);
	while (in.at < in.end) {
		int err = event_step(p, &in, &now_ns, &actions);
		core_check(p, &actions, err);
	}
	free(mem);
	return 0;
}
