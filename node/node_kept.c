/* SPDX-License-Identifier: Apache-2.0 */
/* The newest console output of a slice, by its offset in all of it: a lost link loses none. */
#include <stdlib.h>
#include <string.h>

#include "node/node.h"

/* One message: as much as the coordinator's ring takes. */
#define PIECE_BYTES 65536u

static void piece_send(struct node_slice *slice, uint64_t offset, const uint8_t *data, size_t len)
{
	json_t *msg =
		json_pack("{s:s, s:I}", "type", "console-output", "offset", (json_int_t)offset);

	slice_sign(slice, msg);
	link_send(slice->node, msg, data, len);
}

static void kept_add(struct node_slice *slice, const uint8_t *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		size_t at = (size_t)((slice->console_bytes + done) % CONSOLE_KEPT_BYTES);
		size_t n =
			CONSOLE_KEPT_BYTES - at < len - done ? CONSOLE_KEPT_BYTES - at : len - done;
		memcpy(slice->console + at, data + done, n);
		done += n;
	}
}

void console_keep(struct node_slice *slice, uint64_t lost, const uint8_t *data, size_t len)
{
	slice->console_bytes += lost;
	if (lost)
		slice->console_gap = slice->console_bytes;
	if (!slice->console)
		slice->console = malloc(CONSOLE_KEPT_BYTES);
	if (slice->console)
		kept_add(slice, data, len);
	else
		slice->console_gap = slice->console_bytes + len;
	slice->console_bytes += len;
}

void console_from(struct node_slice *slice, uint64_t offset)
{
	uint64_t kept = slice->console_bytes < CONSOLE_KEPT_BYTES ? slice->console_bytes
								  : CONSOLE_KEPT_BYTES;
	uint64_t first = slice->console_bytes - kept;

	if (first < slice->console_gap)
		first = slice->console_gap;

	slice->console_open = true;
	if (!slice->console)
		return;
	for (uint64_t at = offset < first ? first : offset; at < slice->console_bytes;) {
		size_t start = (size_t)(at % CONSOLE_KEPT_BYTES), n = CONSOLE_KEPT_BYTES - start;
		n = n < PIECE_BYTES ? n : PIECE_BYTES;
		n = n < slice->console_bytes - at ? n : (size_t)(slice->console_bytes - at);
		piece_send(slice, at, slice->console + start, n);
		at += n;
	}
}
