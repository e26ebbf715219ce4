/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the control API: what nodes and clients say to the coordinator, in any order. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/coordinator_state.h"
#include "tests/fuzz/fuzz.h"

/*
 * An input is lines: a digit is the peer, a letter what happens to it: N and C open it as a node
 * and as a client, M is a message whose JSON follows, X closes it, T lets seconds pass by the
 * digit. The first VM's incarnation is 1, the second's 2.
 */
static void line_run(struct coordinator *co, const char *line, size_t len, uint64_t *now_ms,
		     uint64_t *runs)
{
	struct coordinator_actions out = {0};
	struct coordinator_event event = {.why = "closed"};
	json_t *msg = NULL;

	if (len < 2)
		return;
	event.peer = 1 + (unsigned)(line[0] - '0') % 10;
	switch (line[1]) {
	case 'N':
	case 'C':
		event.type = COORDINATOR_OPENED;
		event.role = line[1] == 'N' ? CONTROL_ROLE_NODE : CONTROL_ROLE_CLI;
		break;
	case 'X':
		event.type = COORDINATOR_CLOSED;
		break;
	case 'T':
		event.type = COORDINATOR_TICK;
		*now_ms += 1000 * event.peer;
		break;
	default:
		event.type = COORDINATOR_MESSAGE;
		event.blob = (const uint8_t *)line;
		event.blob_len = len < 16 ? len : 16;
		msg = json_loadb(line + 2, len - 2, 0, NULL);
		/* The codec gives objects with a type only. */
		if (!json_is_string(json_object_get(msg, "type"))) {
			json_decref(msg);
			return;
		}
	}
	*runs += event.type == COORDINATOR_MESSAGE && control_is(msg, "run");
	event.fresh_incarnation = event.fresh_owner = *runs;
	event.now_ms = *now_ms;
	event.msg = msg;
	coordinator_step(co, &event, &out);
	coordinator_actions_free(&out);
	free(out.list);
	json_decref(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct coordinator *co = coordinator_new();
	const char *at = (const char *)data, *end = at + size;
	uint64_t now_ms = 1000, runs = 0;

	while (co && at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = newline ? (size_t)(newline - at) : (size_t)(end - at);
		line_run(co, at, len, &now_ms, &runs);
		at += len + 1;
	}
	if (co)
		coordinator_free(co);
	return 0;
}
