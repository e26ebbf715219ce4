/* SPDX-License-Identifier: Apache-2.0 */
/* The console between the machine and the daemon, both ways bounded. */
#include <string.h>

#include "base/log.h"
#include "vmm/main/slice.h"

#define CHUNK 16384
/* Bytes that the guest took before the clients hear of it, while more are waiting. */
#define INPUT_SAY 1024

/* The oldest output; once there is none, what was dropped behind it. */
static size_t chunk_take(struct slice_mailbox *box, uint8_t *chunk, uint64_t *lost)
{
	size_t n;

	pthread_mutex_lock(&box->lock);
	n = box->console_used < CHUNK ? box->console_used : CHUNK;
	memcpy(chunk, box->console, n);
	memmove(box->console, box->console + n, box->console_used - n);
	box->console_used -= n;
	*lost = n ? 0 : box->console_lost;
	if (*lost)
		box->console_lost = 0;
	pthread_cond_broadcast(&box->console_room);
	pthread_mutex_unlock(&box->lock);
	return n;
}

static int chunk_send(struct slice *s, const uint8_t *chunk, size_t n, uint64_t lost)
{
	json_t *msg = json_pack("{sssI}", "type", "console-output", "lost", (json_int_t)lost);
	int err = control_send(s->node, msg, chunk, n);

	json_decref(msg);
	return err;
}

/* Moves buffered output into control messages while the daemon takes them. */
void slice_console_flush(struct slice *s)
{
	static const size_t queue_max = CONTROL_CONSOLE_QUEUE_MAX / 2;
	uint8_t chunk[CHUNK];
	uint64_t lost;

	while (s->node && control_queued(s->node) < queue_max) {
		size_t n = chunk_take(&s->mailbox, chunk, &lost);
		if ((n == 0 && lost == 0) || chunk_send(s, chunk, n, lost) < 0)
			break;
	}
}

/* Tells the clients, once there is something worth a message, that they may send more. */
static void input_taken_say(struct slice *s, size_t taken)
{
	s->input_taken += taken;
	if (!s->node || !s->input_taken || (s->input_used && s->input_taken < INPUT_SAY))
		return;
	control_sendf(s->node, "{sssI}", "type", "console-taken", "bytes",
		      (json_int_t)s->input_taken);
	s->input_taken = 0;
}

void slice_input_offer(struct slice *s)
{
	size_t taken;

	if (!s->machine || !s->input_used)
		return;
	taken = s->hvc ? slice_hvc_input(s, s->input, s->input_used)
		       : machine_console_input(s->machine, s->input, s->input_used);
	memmove(s->input, s->input + taken, s->input_used - taken);
	s->input_used -= taken;
	input_taken_say(s, taken);
}

/* The clients' windows together fit: see SLICE_INPUT_BUFFER. */
void slice_console_input(struct slice *s, const uint8_t *bytes, size_t len)
{
	size_t room = sizeof(s->input) - s->input_used;

	if (!s->machine)
		return;
	if (len > room) {
		log_warn("%zu bytes of console input dropped: more than all windows", len - room);
		len = room;
	}
	memcpy(s->input + s->input_used, bytes, len);
	s->input_used += len;
	slice_input_offer(s);
}
