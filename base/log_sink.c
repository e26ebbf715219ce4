/* SPDX-License-Identifier: Apache-2.0 */
/* Standard error as a place that is written to without blocking, and the count of lines lost. */
#include "base/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * O_NONBLOCK belongs to the open file, which other processes share (a terminal, the daemon's pipe):
 * so a pipe or a terminal is opened once more for ourselves. A regular file is not, since a second
 * opening would have a position of its own.
 */
enum sink_kind {
	SINK_PLAIN,  /* a file */
	SINK_OWN,    /* sink_fd: opened for ourselves */
	SINK_SOCKET, /* has a flag for each call */
	SINK_SHARED  /* could not be opened again: looked at before each write */
};

/* Numbers below are promised to children and to the daemon. */
#define FD_ABOVE 16

static enum sink_kind sink_kind;
static int sink_fd = -1;
static bool sink_journal;
static _Atomic unsigned lines_lost;

static int fd_reopen(void)
{
	int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), high;

	if (fd < 0)
		return -1;
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_ABOVE);
	close(fd);
	return high;
}

/* systemd names the journal's socket by device and inode: standard error may have become something else since. */
static bool journal_is(const struct stat *st)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       dev == (unsigned long long)st->st_dev && ino == (unsigned long long)st->st_ino;
}

bool log_sink_journal(void)
{
	return sink_journal;
}

void log_sink_open(void)
{
	struct stat st;

	if (sink_fd >= 0)
		close(sink_fd);
	sink_fd = -1;
	sink_kind = SINK_PLAIN;
	sink_journal = false;
	if (fstat(STDERR_FILENO, &st) < 0 || S_ISREG(st.st_mode))
		return;
	sink_journal = journal_is(&st);
	if (S_ISSOCK(st.st_mode)) {
		sink_kind = SINK_SOCKET;
		return;
	}
	sink_fd = fd_reopen();
	sink_kind = sink_fd >= 0 ? SINK_OWN : SINK_SHARED;
}

static ssize_t bytes_write(const char *line, size_t len)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};

	switch (sink_kind) {
	case SINK_OWN:
		return write(sink_fd, line, len);
	case SINK_SOCKET:
		return send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	case SINK_SHARED:
		if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
			return -1;
		break;
	case SINK_PLAIN:
		break;
	}
	return write(STDERR_FILENO, line, len);
}

void log_sink_write(const char *line, size_t len)
{
	unsigned lost = atomic_load(&lines_lost);
	char note[64];

	if (lost) {
		int n = snprintf(note, sizeof(note), "%s(%u log lines lost: nobody read them)\n",
				 sink_journal ? "<4>" : "", lost);

		if (bytes_write(note, (size_t)n) > 0)
			atomic_fetch_sub(&lines_lost, lost);
	}
	if (bytes_write(line, len) <= 0)
		atomic_fetch_add(&lines_lost, 1);
}
