/* SPDX-License-Identifier: Apache-2.0 */
/* The console between the machine and the daemon, both ways bounded. */
#include <string.h>

#include "vmm/main/slice.h"

#define CHUNK 16384

/* Moves buffered output into control messages while the daemon takes them. */
void slice_console_flush(struct slice *s)
{
	static const size_t queue_max = CONTROL_CONSOLE_QUEUE_MAX / 2;
	struct slice_mailbox *box = &s->mailbox;
	uint8_t chunk[CHUNK];
	json_t *msg = json_pack("{ss}", "type", "console-output");

	while (msg && s->node && control_queued(s->node) < queue_max) {
		pthread_mutex_lock(&box->lock);
		size_t n = box->console_used < CHUNK ? box->console_used : CHUNK;
		memcpy(chunk, box->console, n);
		memmove(box->console, box->console + n, box->console_used - n);
		box->console_used -= n;
		pthread_cond_broadcast(&box->console_room);
		pthread_mutex_unlock(&box->lock);
		if (n == 0 || control_send(s->node, msg, chunk, n) < 0)
			break;
	}
	json_decref(msg);
}

static void input_offer(struct slice *s)
{
	size_t taken = machine_console_input(s->machine, s->input, s->input_used);

	memmove(s->input, s->input + taken, s->input_used - taken);
	s->input_used -= taken;
	if (s->input_used)
		uv_timer_start(&s->input_timer, slice_input_retry, SLICE_INPUT_RETRY_MS, 0);
}

void slice_input_retry(uv_timer_t *timer)
{
	struct slice *s = timer->data;

	if (s->machine)
		input_offer(s);
}

/* What does not fit is lost, as on a real line without flow control. */
void slice_console_input(struct slice *s, const uint8_t *bytes, size_t len)
{
	size_t room = sizeof(s->input) - s->input_used;

	if (!s->machine)
		return;
	if (len > room)
		len = room;
	memcpy(s->input + s->input_used, bytes, len);
	s->input_used += len;
	input_offer(s);
}
