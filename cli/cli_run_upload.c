/* SPDX-License-Identifier: Apache-2.0 */
/* Sending the kernel and the initrd to the boot node, a few pieces at a time. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/run.h"

/* As the coordinator's limit. */
#define FILE_BYTES_MAX (UINT64_C(512) << 20)

static const char *const file_names[] = {"kernel", "initrd"};

static int file_open(const char *path, const char *what, int *out, uint64_t *bytes)
{
	struct stat st;
	/* Opening a pipe or a device must not wait. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		cli_say("cannot open the %s %s: %s", what, path, error_text(errno));
		return EXIT_IMAGE;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		cli_say("the %s %s is no regular file", what, path);
	} else if (st.st_size == 0) {
		cli_say("the %s %s is empty", what, path);
	} else if ((uint64_t)st.st_size > FILE_BYTES_MAX) {
		cli_say("the %s %s is larger than 512 MiB", what, path);
	} else {
		*out = fd;
		*bytes = (uint64_t)st.st_size;
		return 0;
	}
	close(fd);
	return EXIT_IMAGE;
}

int run_upload_open(struct run_upload *upload, const struct run_options *opts)
{
	memset(upload, 0, sizeof(*upload));
	for (int i = 0; i < RUN_FILES; i++)
		upload->fd[i] = -1;
	for (int i = 0; i < RUN_FILES && opts->path[i]; i++) {
		int code =
			file_open(opts->path[i], file_names[i], &upload->fd[i], &upload->bytes[i]);
		if (code) {
			run_upload_close(upload);
			return code;
		}
	}
	return 0;
}

void run_upload_close(struct run_upload *upload)
{
	for (int i = 0; i < RUN_FILES; i++) {
		if (upload->fd[i] >= 0)
			close(upload->fd[i]);
		upload->fd[i] = -1;
	}
}

static int piece_send(struct run_upload *upload, int which, struct control_conn *conn)
{
	static const size_t piece = CONTROL_UPLOAD_PIECE;
	uint64_t left = upload->bytes[which] - upload->sent[which];
	size_t want = left < piece ? (size_t)left : piece;
	uint8_t *buf = malloc(want);
	ssize_t n = buf ? pread(upload->fd[which], buf, want, (off_t)upload->sent[which]) : -1;
	int err = -EIO;

	if (n > 0) {
		json_t *msg =
			json_pack("{s:s, s:s, s:I}", "type", "file-chunk", "file",
				  file_names[which], "offset", (json_int_t)upload->sent[which]);
		err = control_send(conn, msg, buf, (size_t)n);
		json_decref(msg);
		upload->sent[which] += (uint64_t)n;
		upload->unanswered += (unsigned)n;
	}
	free(buf);
	if (!err || err == -EPIPE) /* a lost connection has its own sentence */
		return 0;
	cli_say("cannot send the %s: %s", file_names[which],
		n == 0 ? "it has become shorter" : error_text(n < 0 ? -errno : err));
	return EXIT_IMAGE;
}

int run_upload_continue(struct run_upload *upload, struct control_conn *conn)
{
	int code = 0;

	for (int i = 0; i < RUN_FILES && !code; i++)
		/* The coordinator ends who has more on its way. */
		while (!code &&
		       upload->unanswered <= CONTROL_UPLOAD_WINDOW - CONTROL_UPLOAD_PIECE &&
		       upload->sent[i] < upload->bytes[i])
			code = piece_send(upload, i, conn);
	return code;
}

void run_upload_answered(struct run_upload *upload, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	unsigned bytes;

	if (control_get_uint(msg, "bytes", 1, CONTROL_UPLOAD_WINDOW, &bytes, why) == 0)
		upload->unanswered -= bytes < upload->unanswered ? bytes : upload->unanswered;
}
