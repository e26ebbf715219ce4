/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user's messages: each is sent and answered before the next, with a deadline. */
#include "vmm/vhost/vhost_user.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

/* "Header": request, flags, size of what follows. */
#define FLAG_VERSION	  1u
#define FLAG_VERSION_MASK 3u
#define FLAG_REPLY	  (1u << 2)
#define FLAG_NEED_REPLY	  (1u << 3)

/* "Front-end message types". */
enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24
};

/* Both ends are on one host: numbers are in its own byte order, and no struct has padding. */
union payload {
	uint64_t u64;
	struct {
		uint32_t index, num;
	} state;
	struct {
		uint32_t index, flags;
		uint64_t descriptors, used, available, log;
	} addresses;
	struct {
		uint32_t regions, padding;
		uint64_t guest_address, bytes, user_address, offset;
	} memory;
	struct {
		uint32_t offset, size, flags;
		uint8_t bytes[VHOST_USER_CONFIG_MAX];
	} config;
};

struct header {
	uint32_t request, flags, size;
};

static_assert(sizeof(struct header) == 12, "the header's layout");
static_assert(sizeof(((union payload *)0)->addresses) == 40, "the layout of a ring's addresses");
static_assert(sizeof(((union payload *)0)->memory) == 40, "the layout of a memory table of one");
static_assert(offsetof(union payload, config.bytes) == 12, "the layout of a configuration");

struct message {
	struct header header;
	union payload payload;
	int fd; /* to be sent along, or -1 */
};

static const char *request_name(uint32_t request)
{
	switch ((enum request)request) {
	case GET_FEATURES:
	case SET_FEATURES:
		return "the features";
	case SET_OWNER:
		return "the owner";
	case SET_MEM_TABLE:
		return "the memory";
	case SET_VRING_NUM:
	case SET_VRING_ADDR:
	case SET_VRING_BASE:
	case SET_VRING_KICK:
	case SET_VRING_CALL:
	case SET_VRING_ENABLE:
		return "a queue";
	case GET_PROTOCOL_FEATURES:
	case SET_PROTOCOL_FEATURES:
		return "the protocol features";
	case GET_QUEUE_NUM:
		return "the number of queues";
	case GET_CONFIG:
		return "the configuration";
	}
	return "something";
}

/* ---- bytes, with a deadline ---- */

/* Waits until the socket is ready. */
static int socket_await(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd wait = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now_ns = clock_now_ns();
		int ready;

		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		ready = poll(&wait, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1);
		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return -errno;
	}
}

static int bytes_receive(int fd, void *out, size_t len, uint64_t deadline_ns)
{
	size_t done = 0;

	while (done < len) {
		/* Descriptors that come along, though none should, are dropped: nobody asks for
		 * control data. */
		ssize_t got = recv(fd, (uint8_t *)out + done, len - done, MSG_DONTWAIT);
		int err = 0;

		if (got > 0)
			done += (size_t)got;
		else if (got == 0)
			return -PANGEA_EPEERLOST;
		else if (errno == EAGAIN)
			err = socket_await(fd, POLLIN, deadline_ns);
		else if (errno != EINTR)
			return -PANGEA_EPEERLOST;
		if (err)
			return err;
	}
	return 0;
}

/* A descriptor goes with the first byte. */
static ssize_t piece_send(int fd, void *bytes, size_t len, int file)
{
	struct iovec iov = {bytes, len};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (file >= 0) {
		struct cmsghdr *head;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		head = CMSG_FIRSTHDR(&msg);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &file, sizeof(file));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int message_send(int fd, const struct message *m, uint64_t deadline_ns)
{
	uint8_t bytes[sizeof(m->header) + sizeof(m->payload)];
	size_t done = 0, len = sizeof(m->header) + m->header.size;

	memcpy(bytes, &m->header, sizeof(m->header));
	memcpy(bytes + sizeof(m->header), &m->payload, m->header.size);
	while (done < len) {
		ssize_t sent = piece_send(fd, bytes + done, len - done, done == 0 ? m->fd : -1);
		int err = 0;

		if (sent > 0)
			done += (size_t)sent;
		else if (sent < 0 && errno == EAGAIN)
			err = socket_await(fd, POLLOUT, deadline_ns);
		else if (sent == 0 || errno != EINTR)
			return -PANGEA_EPEERLOST;
		if (err)
			return err;
	}
	return 0;
}

/* The answer to m comes into its payload: exactly `size` bytes. */
static int answer_receive(int fd, struct message *m, uint32_t size, uint64_t deadline_ns)
{
	struct header header;
	int err = bytes_receive(fd, &header, sizeof(header), deadline_ns);

	if (err)
		return err;
	if (header.request != m->header.request || !(header.flags & FLAG_REPLY) ||
	    (header.flags & FLAG_VERSION_MASK) != FLAG_VERSION || header.size != size)
		return -PANGEA_EPROTOCOL;
	return bytes_receive(fd, &m->payload, size, deadline_ns);
}

/* ---- messages ---- */

static int complain(const struct vhost_user *u, const struct message *m, int err)
{
	const char *what = request_name(m->header.request);

	if (err == -ETIMEDOUT)
		log_error("%s: the back end did not answer about %s within %d s", u->name, what,
			  VHOST_USER_ANSWER_MS / 1000);
	else if (err == -PANGEA_EPROTOCOL)
		log_error("%s: the back end's answer about %s is none that can be", u->name, what);
	else
		log_error("%s: the back end closed the connection when asked about %s", u->name,
			  what);
	return err;
}

/* Asks for something; `reply` bytes come. */
static int ask(const struct vhost_user *u, struct message *m, enum request request, uint32_t size,
	       uint32_t reply)
{
	uint64_t deadline_ns = clock_now_ns() + VHOST_USER_ANSWER_MS * NS_PER_MS;
	int err;

	m->header = (struct header){request, FLAG_VERSION, size};
	m->fd = -1;
	err = message_send(u->fd, m, deadline_ns);
	if (!err)
		err = answer_receive(u->fd, m, reply, deadline_ns);
	return err ? complain(u, m, err) : 0;
}

/* Says something; with REPLY_ACK the back end says whether it could do it. */
static int tell(const struct vhost_user *u, struct message *m, enum request request, uint32_t size,
		int fd)
{
	uint64_t deadline_ns = clock_now_ns() + VHOST_USER_ANSWER_MS * NS_PER_MS;
	bool answered = u->protocol & VHOST_USER_PROTOCOL_REPLY_ACK;
	int err;

	m->header = (struct header){request, FLAG_VERSION | (answered ? FLAG_NEED_REPLY : 0), size};
	m->fd = fd;
	err = message_send(u->fd, m, deadline_ns);
	if (!err && answered)
		err = answer_receive(u->fd, m, sizeof(m->payload.u64), deadline_ns);
	if (err)
		return complain(u, m, err);
	if (answered && m->payload.u64 != 0) {
		log_error("%s: the back end refuses %s", u->name, request_name(request));
		return -PANGEA_EPROTOCOL;
	}
	return 0;
}

static int number_ask(const struct vhost_user *u, enum request request, uint64_t *out)
{
	struct message m;
	int err = ask(u, &m, request, 0, sizeof(m.payload.u64));

	*out = err ? 0 : m.payload.u64;
	return err;
}

static int number_tell(const struct vhost_user *u, enum request request, uint64_t value, int fd)
{
	struct message m = {.payload.u64 = value};

	return tell(u, &m, request, sizeof(m.payload.u64), fd);
}

static int state_tell(const struct vhost_user *u, enum request request, unsigned index,
		      uint32_t num)
{
	struct message m = {.payload.state = {index, num}};

	return tell(u, &m, request, sizeof(m.payload.state), -1);
}

/* ---- what is said ---- */

static int protocol_agree(struct vhost_user *u, uint64_t needed)
{
	uint64_t offered, wanted = needed | VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_REPLY_ACK;
	int err = number_ask(u, GET_PROTOCOL_FEATURES, &offered);

	if (err)
		return err;
	if (needed & ~offered) {
		log_error("%s: the back end lacks protocol features 0x%llx", u->name,
			  (unsigned long long)(needed & ~offered));
		return -PANGEA_EPROTOCOL;
	}
	err = number_tell(u, SET_PROTOCOL_FEATURES, offered & wanted, -1);
	u->protocol = offered & wanted;
	return err;
}

static int begin(struct vhost_user *u, uint64_t needed)
{
	struct message m = {0};
	uint64_t queues = 1;
	int err = tell(u, &m, SET_OWNER, 0, -1);

	if (!err)
		err = number_ask(u, GET_FEATURES, &u->features);
	if (err)
		return err;
	if (!(u->features & VHOST_USER_F_PROTOCOL_FEATURES)) {
		log_error("%s: the back end has no protocol features", u->name);
		return -PANGEA_EPROTOCOL;
	}
	u->features &= ~VHOST_USER_F_PROTOCOL_FEATURES;
	err = protocol_agree(u, needed);
	if (!err && (u->protocol & VHOST_USER_PROTOCOL_MQ))
		err = number_ask(u, GET_QUEUE_NUM, &queues);
	if (err)
		return err;
	if (queues == 0) {
		log_error("%s: the back end has no queues", u->name);
		return -PANGEA_EPROTOCOL;
	}
	u->queues = queues < UINT16_MAX ? (unsigned)queues : UINT16_MAX;
	return 0;
}

int vhost_user_open(struct vhost_user *u, const char *name, int fd, uint64_t needed)
{
	int err;

	*u = (struct vhost_user){.name = name, .fd = fd};
	err = begin(u, needed);
	if (err)
		vhost_user_close(u);
	return err;
}

void vhost_user_close(struct vhost_user *u)
{
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}

int vhost_user_features_set(struct vhost_user *u, uint64_t features)
{
	return number_tell(u, SET_FEATURES,
			   (features & u->features) | VHOST_USER_F_PROTOCOL_FEATURES, -1);
}

int vhost_user_config_get(struct vhost_user *u, void *out, uint32_t size)
{
	struct message m = {.payload.config = {.size = size}};
	uint32_t len = offsetof(union payload, config.bytes) + size;
	int err;

	invariant(size > 0 && size <= VHOST_USER_CONFIG_MAX);
	err = ask(u, &m, GET_CONFIG, len, len);
	if (err)
		return err;
	if (m.payload.config.offset != 0 || m.payload.config.size != size)
		return complain(u, &m, -PANGEA_EPROTOCOL);
	memcpy(out, m.payload.config.bytes, size);
	return 0;
}

int vhost_user_memory_set(struct vhost_user *u, int fd, uint64_t address, uint64_t bytes)
{
	struct message m = {.payload.memory = {.regions = 1,
					       .guest_address = address,
					       .bytes = bytes,
					       .user_address = address}};

	return tell(u, &m, SET_MEM_TABLE, sizeof(m.payload.memory), fd);
}

int vhost_user_ring_start(struct vhost_user *u, const struct vhost_user_ring *ring)
{
	struct message m = {.payload.addresses = {.index = ring->index,
						  .descriptors = ring->descriptors,
						  .used = ring->device,
						  .available = ring->driver}};
	int err = state_tell(u, SET_VRING_NUM, ring->index, ring->size);

	if (!err)
		err = state_tell(u, SET_VRING_BASE, ring->index, 0);
	if (!err)
		err = tell(u, &m, SET_VRING_ADDR, sizeof(m.payload.addresses), -1);
	if (!err)
		err = number_tell(u, SET_VRING_CALL, ring->index, ring->call_fd);
	if (!err)
		err = number_tell(u, SET_VRING_KICK, ring->index, ring->kick_fd);
	if (!err)
		err = state_tell(u, SET_VRING_ENABLE, ring->index, 1);
	return err;
}

bool vhost_user_lives(const struct vhost_user *u)
{
	uint8_t byte;
	ssize_t got = recv(u->fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_PEEK);

	return got < 0 && (errno == EAGAIN || errno == EINTR);
}
