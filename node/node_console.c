/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Console output on its way from a slice to the coordinator, and into the log that keeps it all.
 *
 * Whoever drops output says how much in the next console-output's "lost"; what is written for people
 * has a mark there (control_console_mark). The log is the daemon's own: no network stands between
 * it and the slice. Two files of LOG_BYTES_MAX, the newer and the older, bound it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "node/node.h"

#define LOG_BYTES_MAX (64u << 20)

static void log_path(const struct node_slice *slice, const char *end, char out[4096 + 80])
{
	snprintf(out, 4096 + 80, "%s/%s.console%s", slice->node->opts.console_dir, slice->vm, end);
}

static void log_fail(struct node_slice *slice, int err)
{
	log_warn("VM %s: no log of its console: %s", slice->vm, error_text(err));
	console_log_close(slice);
}

void console_log_open(struct node_slice *slice)
{
	char path[4096 + 80];

	slice->log_fd = -1;
	slice->log_bytes = 0;
	if (!slice->node->opts.console_dir || slice->index != 0)
		return;
	log_path(slice, "", path);
	slice->log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (slice->log_fd < 0)
		log_fail(slice, -errno);
}

void console_log_close(struct node_slice *slice)
{
	if (slice->log_fd >= 0)
		close(slice->log_fd);
	slice->log_fd = -1;
}

static void log_turn(struct node_slice *slice)
{
	char path[4096 + 80], old[4096 + 80];

	console_log_close(slice);
	log_path(slice, "", path);
	log_path(slice, ".old", old);
	if (rename(path, old) < 0)
		log_warn("cannot rename %s: %s", path, error_text(-errno));
	console_log_open(slice);
}

static void log_write(struct node_slice *slice, const void *data, size_t len)
{
	const char *bytes = data;

	if (slice->log_fd >= 0 && slice->log_bytes + len > LOG_BYTES_MAX)
		log_turn(slice);
	while (len && slice->log_fd >= 0) {
		ssize_t n = write(slice->log_fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_fail(slice, n < 0 ? -errno : -EIO);
			return;
		}
		bytes += n;
		len -= (size_t)n;
		slice->log_bytes += (uint64_t)n;
	}
}

/* Its offset tells what was dropped before it. */
static void output_send(struct node_slice *slice, const void *data, size_t len)
{
	json_t *msg = json_pack("{s:s, s:I}", "type", "console-output", "offset",
				(json_int_t)(slice->console_bytes - len));

	slice_sign(slice, msg);
	link_send(slice->node, msg, data, len);
	slice->console_lost = 0;
}

void console_lost_send(struct node_slice *slice)
{
	if (slice->console_lost)
		output_send(slice, NULL, 0);
}

int console_relay(struct node_slice *slice, const json_t *msg, const uint8_t *data, size_t len,
		  char *why)
{
	struct node_daemon *node = slice->node;
	/* Once behind, it has to catch up by half: a gap for every message would help nobody. */
	size_t limit =
		slice->console_lost ? CONTROL_CONSOLE_QUEUE_MAX / 2 : CONTROL_CONSOLE_QUEUE_MAX;
	char mark[CONTROL_MARK_MAX];
	uint64_t lost = 0;
	int err = 0;

	if (json_object_get(msg, "lost"))
		err = control_get_u64(msg, "lost", 0, INT64_MAX / 2, &lost, why);
	if (err)
		return err;
	if (lost)
		log_write(slice, mark, control_console_mark(lost, mark));
	log_write(slice, data, len);
	if (slice->orphan)
		return 0;
	console_keep(slice, lost, data, len);
	slice->console_lost += lost;
	if (!slice->console_open)
		return 0; /* what is kept is sent when the link is there again */
	if (node->conn && control_queued(node->conn) <= limit)
		output_send(slice, data, len);
	else
		slice->console_lost += len;
	return 0;
}
