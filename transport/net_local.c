/* SPDX-License-Identifier: Apache-2.0 */
/* From a local socket to shared memory: finding a slice of this host, and handing memory over. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "transport/net_parts.h"

socklen_t local_address(const struct sockaddr_storage *tcp, struct sockaddr_un *out)
{
	char name[NET_NAME_MAX];

	address_print(tcp, name, sizeof(name));
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	/* Abstract (the first byte is 0): it is as far to be seen as the TCP port, this network
	 * namespace, leaves no file, and goes with its socket. */
	snprintf(out->sun_path + 1, sizeof(out->sun_path) - 1, "pangea-data/%.80s", name);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(out->sun_path + 1));
}

/* Anyone may take a name first, and without its key learns nothing; but who could read our memory
 * anyway is the only one to call. */
static bool listener_is_ours(int fd, char *why, size_t size)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		snprintf(why, size, "it is not known who listens there: %s", error_text(-errno));
		return false;
	}
	if (cred.uid == geteuid() || cred.uid == 0)
		return true;
	snprintf(why, size, "user %u listens there, and this slice runs as user %u", cred.uid,
		 geteuid());
	return false;
}

int local_call(const struct net_peer *peer, char *why, size_t size)
{
	struct sockaddr_un to;
	socklen_t len = local_address(&peer->address, &to);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		snprintf(why, size, "%s", error_text(-errno));
		return -1;
	}
	if (connect(fd, (struct sockaddr *)&to, len) == 0) {
		if (listener_is_ours(fd, why, size))
			return fd;
	} else if (errno == ECONNREFUSED) {
		snprintf(why, size, "it is not on this host, or not in this network namespace");
	} else {
		snprintf(why, size, "its local socket cannot be reached: %s", error_text(-errno));
	}
	close(fd);
	return -1;
}

static int offer_send(struct conn *conn, int fd)
{
	uint8_t proof[PROOF_SIZE];
	struct iovec iov = {proof, sizeof(proof)};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&msg);

	conn_prove(conn, proof);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	return sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(proof)
		       ? 0
		       : -PANGEA_EPEERLOST;
}

void local_offer(struct conn *conn)
{
	struct shm_ring *rings;
	int fd = shm_memory_create(&rings), err = fd < 0 ? fd : 0;

	if (!err) {
		err = shm_link_create(conn, rings, true);
		if (!err)
			err = offer_send(conn, fd);
		close(fd);
	}
	if (err)
		conn_close_transient(conn, err, "slice %u cannot be given memory to share: %s",
				     conn->peer, error_text(err));
	else
		conn->state = CONN_MAPPING;
}

/* Keeps one descriptor of those that came, and closes what nobody asked for. */
static void descriptors_take(struct conn *conn, struct msghdr *msg)
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(msg); head; head = CMSG_NXTHDR(msg, head)) {
		size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(head) + i * sizeof(fd), sizeof(fd));
			if (conn->memory_fd < 0)
				conn->memory_fd = fd;
			else
				close(fd);
		}
	}
}

ssize_t local_receive(struct conn *conn, void *buf, size_t len)
{
	struct iovec iov = {buf, len};
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(conn->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n >= 0)
		descriptors_take(conn, &msg);
	return n;
}

void local_take(struct conn *conn)
{
	char why[NET_WHY_MAX] = "it sent no memory to share";
	struct shm_ring *rings;
	int err = -PANGEA_EPROTOCOL;

	if (conn->memory_fd >= 0)
		err = shm_memory_open(conn->memory_fd, &rings, why, sizeof(why));
	if (!err && shm_link_create(conn, rings, false) < 0) {
		err = -ENOMEM;
		snprintf(why, sizeof(why), "%s", error_text(err));
	}
	if (err) {
		conn_close(conn, err, "slice %u: %s", conn->peer, why);
		return;
	}
	close(conn->memory_fd);
	conn->memory_fd = -1;
	if (send(conn->fd, "m", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1)
		peer_up(conn);
	else
		conn_close_transient(conn, -PANGEA_EPEERLOST, "slice %u hung up", conn->peer);
}

void local_mapped(struct conn *conn)
{
	char word;
	ssize_t n = recv(conn->fd, &word, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1 && word == 'm')
		peer_up(conn);
	else
		conn_close_transient(conn, -PANGEA_EPEERLOST,
				     "slice %u did not take the memory that it was to share",
				     conn->peer);
}
