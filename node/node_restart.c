/* SPDX-License-Identifier: Apache-2.0 */
/* What starting a disk's back end again takes: its files, kept open and locked, and the way by which its slice gets the
 * new connection. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "node/node_devices.h"

struct node_kept *node_kept_new(const struct node_device *device)
{
	struct node_kept *kept = calloc(1, sizeof(*kept));

	if (!kept)
		return NULL;
	kept->device = *device;
	kept->device.slice_fd = kept->device.back_fd = -1;
	kept->device.disk.layers = 0;
	for (unsigned i = 0; i < device->disk.layers; i++) {
		/* A copy holds the same lock (fcntl(2), open file descriptions). */
		int fd = fcntl(device->disk.layer[i].fd, F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			node_kept_free(kept);
			return NULL;
		}
		kept->device.disk.layer[i].fd = fd;
		kept->device.disk.layers++;
	}
	return kept;
}

void node_kept_free(struct node_kept *kept)
{
	if (!kept)
		return;
	if (kept->device.slice_fd >= 0)
		close(kept->device.slice_fd);
	if (kept->device.back_fd >= 0)
		close(kept->device.back_fd);
	node_disk_close(&kept->device.disk);
	free(kept);
}

bool node_kept_again(struct node_kept *kept, uint64_t now_ns)
{
	if (kept->starts == 0 || now_ns - kept->first_ns > NODE_RESTART_S * NS_PER_S) {
		kept->first_ns = now_ns;
		kept->starts = 0;
	}
	return kept->starts++ < NODE_RESTARTS_MAX;
}

int node_handover_open(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0
		       ? -errno
		       : 0;
}

int node_handover_send(int handover, const char *id, int fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec bytes = {.iov_base = (void *)(uintptr_t)id, .iov_len = strlen(id)};
	struct msghdr msg = {.msg_iov = &bytes, .msg_iovlen = 1};

	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.bytes);
		control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
						.cmsg_level = SOL_SOCKET,
						.cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(handover, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}
