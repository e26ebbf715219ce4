/* SPDX-License-Identifier: Apache-2.0 */
/* Starts, stops and kills qemu-storage-daemon. */
#include "tests/unit/virtio/storage.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define DAEMON	"/usr/bin/qemu-storage-daemon"
#define START_S 20

void storage_open(struct storage *s)
{
	memset(s, 0, sizeof(*s));
	if (access(DAEMON, X_OK) != 0)
		cr_skip_test("no " DAEMON ": deploy/setup installs it");
	snprintf(s->folder, sizeof(s->folder), "/tmp/pangea-blk-XXXXXX");
	cr_assert_not_null(mkdtemp(s->folder));
}

static int file_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void storage_close(struct storage *s)
{
	storage_kill(s, SIGKILL);
	storage_reap(s);
	nftw(s->folder, file_remove, 8, FTW_DEPTH | FTW_PHYS);
}

void storage_disk(struct storage *s, uint64_t bytes, uint8_t fill)
{
	static uint8_t block[65536];
	int fd;

	snprintf(s->disk, sizeof(s->disk), "%s/disk", s->folder);
	fd = open(s->disk, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	memset(block, fill, sizeof(block));
	for (uint64_t done = 0; fill && done < bytes; done += sizeof(block))
		cr_assert_eq(write(fd, block, sizeof(block)), (ssize_t)sizeof(block));
	cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

static void daemon_run(const struct storage *s, const char *blockdev, bool writable,
		       unsigned queues)
{
	char node[512], export[512];

	snprintf(node, sizeof(node), "node-name=top,%s", blockdev);
	snprintf(export, sizeof(export),
		 "type=vhost-user-blk,id=e0,node-name=top,writable=%s,num-queues=%u,"
		 "addr.type=unix,addr.path=%s/socket",
		 writable ? "on" : "off", queues, s->folder);
	/* A test that dies leaves none behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl(DAEMON, DAEMON, "--blockdev", node, "--export", export, (char *)NULL);
	_exit(127);
}

int storage_start(struct storage *s, const char *blockdev, bool writable, unsigned queues)
{
	uint64_t deadline_ns = clock_now_ns() + START_S * NS_PER_S;
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s/socket", s->folder);
	unlink(to.sun_path);
	s->pid = fork();
	cr_assert_geq(s->pid, 0);
	if (s->pid == 0)
		daemon_run(s, blockdev, writable, queues);
	while (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
		cr_assert_eq(waitpid(s->pid, NULL, WNOHANG), 0, "the storage daemon has ended");
		cr_assert_lt(clock_now_ns(), deadline_ns, "the storage daemon does not listen");
		usleep(10000);
	}
	return fd;
}

void storage_kill(struct storage *s, int signal)
{
	if (s->pid > 0)
		kill(s->pid, signal);
}

void storage_reap(struct storage *s)
{
	if (s->pid > 0)
		waitpid(s->pid, NULL, 0);
	s->pid = 0;
}
