/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to back ends that were started again: the daemon hands them over by a socket of their own. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/main/slice.h"
#include "vmm/virtio/virtio_blk.h"

/* One message: the device's id, and a connection or none. */
static ssize_t message_take(int from, char id[SLICE_DEVICE_ID_MAX], int *fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec bytes = {.iov_base = id, .iov_len = SLICE_DEVICE_ID_MAX - 1};
	struct msghdr msg = {.msg_iov = &bytes,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(from, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*fd = -1;
	if (n <= 0)
		return n;
	id[n] = '\0';
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(head), sizeof(*fd));
	return n;
}

static void disk_replace(struct slice *s, const char *id, int fd)
{
	const struct slice_devices *list = &s->config.devices;

	for (unsigned i = 0; i < list->count; i++) {
		if (strcmp(list->list[i].id, id) != 0 || !s->disk[i])
			continue;
		if (virtio_blk_replace(s->disk[i], fd) < 0)
			log_warn("%s: another back end was offered, which it cannot take", id);
		return;
	}
	if (fd >= 0)
		close(fd);
	log_warn("a back end was offered to a device that there is not");
}

static void handover_ready(uv_poll_t *poll, int status, int events)
{
	struct slice *s = poll->data;
	char id[SLICE_DEVICE_ID_MAX];
	ssize_t n = -1;
	int from, fd;

	(void)events;
	if (status < 0 || uv_fileno((uv_handle_t *)poll, &from)) {
		uv_poll_stop(poll);
		return;
	}
	while ((n = message_take(from, id, &fd)) > 0)
		disk_replace(s, id, fd);
	/* The daemon has gone, which its own connection tells. */
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		uv_poll_stop(poll);
}

int slice_handover_open(struct slice *s)
{
	const struct slice_devices *list = &s->config.devices;
	int err;

	for (unsigned i = 0; i < list->count; i++) {
		if (list->list[i].handover < 0)
			continue;
		err = uv_poll_init(&s->loop, &s->handover, list->list[i].handover);
		s->handover.data = s;
		return err ? err : uv_poll_start(&s->handover, UV_READABLE, handover_ready);
	}
	return 0;
}
