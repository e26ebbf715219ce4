/* SPDX-License-Identifier: Apache-2.0 */
/* A back end for tests: answers vhost-user's messages, and serves rings a step at a time. */
#include "tests/unit/virtio/fake_back_end.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/vhost/vhost_user.h"
#include "vmm/virtio/virtio_blk.h"

#define REPLY	   5u /* version 1, an answer */
#define NEED_REPLY 8u

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		uint32_t u32[2];
		uint64_t words[5];
		uint8_t bytes[512];
	};
};

struct descriptor {
	uint64_t address;
	uint32_t len;
	uint16_t flags, next;
};

void fake_init(struct fake_back_end *f, uint64_t sectors)
{
	uint32_t block = 512, most = 8;

	memset(f, 0, sizeof(*f));
	f->features = VHOST_USER_F_PROTOCOL_FEATURES | VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX |
		      VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_MQ |
		      VIRTIO_BLK_F_CONFIG_WCE | VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES;
	f->protocol = VHOST_USER_PROTOCOL_MQ | VHOST_USER_PROTOCOL_REPLY_ACK |
		      VHOST_USER_PROTOCOL_CONFIG | 1u << 5 | 1u << 15;
	f->queues = FAKE_QUEUES;
	memcpy(f->config, &sectors, 8);
	memcpy(f->config + 20, &block, 4);
	memset(f->config + 32, 1, 1); /* "write back": to be masked */
	memcpy(f->config + 40, &most, 4);
	memcpy(f->config + 52, &most, 4);
	for (unsigned i = 0; i < FAKE_QUEUES; i++)
		f->ring[i].kick_fd = f->ring[i].call_fd = -1;
}

/* ---- messages ---- */

static void answer(struct fake_back_end *f, struct message *m, uint32_t size)
{
	int files[2] = {f->fd, f->fd};
	union {
		char bytes[CMSG_SPACE(sizeof(files))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov[] = {{m, 12}, {m->bytes, size}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	m->flags = f->fault == FAKE_NO_REPLY_FLAG ? 1 : REPLY;
	m->size = f->fault == FAKE_LONG_ANSWER ? UINT32_MAX : size;
	if (f->fault == FAKE_OTHER_REQUEST)
		m->request++;
	if (f->fault == FAKE_HALF_ANSWER)
		iov[1].iov_len -= 4;
	if (f->fault == FAKE_SENDS_FILES) {
		struct cmsghdr *head;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		head = CMSG_FIRSTHDR(&msg);
		*head = (struct cmsghdr){CMSG_LEN(sizeof(files)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(head), files, sizeof(files));
	}
	(void)sendmsg(f->fd, &msg, MSG_NOSIGNAL);
}

static void number(struct fake_back_end *f, struct message *m, uint64_t value)
{
	m->u64 = value;
	answer(f, m, 8);
}

static void memory_map(struct fake_back_end *f, const struct message *m, int fd)
{
	f->memory_tables++;
	if (m->u32[0] != 1 || fd < 0)
		return;
	f->address = m->words[1];
	f->bytes = m->words[2];
	f->memory = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
}

static struct fake_ring *ring_of(struct fake_back_end *f, const struct message *m)
{
	return &f->ring[m->u32[0] % FAKE_QUEUES];
}

static void setting(struct fake_back_end *f, struct message *m, int fd)
{
	bool refused = f->fault == FAKE_REFUSES_MEMORY && m->request == 5;

	switch (m->request) {
	case 2:
		f->features_set = m->u64;
		break;
	case 5:
		memory_map(f, m, fd);
		break;
	case 8:
		ring_of(f, m)->size = (uint16_t)m->u32[1];
		break;
	case 9:
		ring_of(f, m)->descriptors = m->words[1];
		ring_of(f, m)->device = m->words[2];
		ring_of(f, m)->driver = m->words[3];
		break;
	case 12:
		ring_of(f, m)->kick_fd = fd;
		break;
	case 13:
		ring_of(f, m)->call_fd = fd;
		break;
	case 16:
		f->protocol_set = m->u64;
		break;
	case 18:
		ring_of(f, m)->enabled = m->u32[1];
		break;
	default:
		break;
	}
	if (m->flags & NEED_REPLY)
		number(f, m, refused);
}

/* Returns false when the conversation is over. */
static bool message_serve(struct fake_back_end *f, struct message *m, int fd)
{
	if (f->fault == FAKE_SILENT)
		return true;
	if (f->fault == FAKE_CLOSES)
		return false;
	switch (m->request) {
	case 1:
		number(f, m, f->features);
		break;
	case 15:
		number(f, m, f->protocol);
		break;
	case 17:
		number(f, m, f->queues);
		break;
	case 24:
		if (f->fault == FAKE_NO_CONFIG) {
			answer(f, m, 0);
			break;
		}
		memcpy(m->bytes + 12, f->config, sizeof(f->config));
		answer(f, m, m->size);
		break;
	default:
		setting(f, m, fd);
		break;
	}
	return f->fault != FAKE_HALF_ANSWER;
}

static bool message_receive(struct fake_back_end *f, struct message *m, int *fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {m, 12};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *head;

	*fd = -1;
	if (recvmsg(f->fd, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC) != 12 || m->size > 500)
		return false;
	head = CMSG_FIRSTHDR(&msg);
	if (head)
		memcpy(fd, CMSG_DATA(head), sizeof(*fd));
	return m->size == 0 || recv(f->fd, m->bytes, m->size, MSG_WAITALL) == (ssize_t)m->size;
}

static void *serve(void *arg)
{
	struct fake_back_end *f = arg;
	struct message m;
	int fd;

	while (message_receive(f, &m, &fd))
		if (!message_serve(f, &m, fd)) {
			shutdown(f->fd, SHUT_RDWR);
			break;
		}
	return NULL;
}

int fake_start(struct fake_back_end *f)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	f->fd = ends[0];
	cr_assert_eq(pthread_create(&f->thread, NULL, serve, f), 0);
	return ends[1];
}

void fake_settle(struct fake_back_end *f)
{
	/* Its own reading side alone: the thread sees an end, the front end nothing. */
	shutdown(f->fd, SHUT_RD);
	pthread_join(f->thread, NULL);
}

void fake_close(struct fake_back_end *f)
{
	close(f->fd);
	if (f->memory)
		munmap(f->memory, f->bytes);
	f->memory = NULL;
	for (unsigned i = 0; i < FAKE_QUEUES; i++) {
		if (f->ring[i].kick_fd >= 0)
			close(f->ring[i].kick_fd);
		if (f->ring[i].call_fd >= 0)
			close(f->ring[i].call_fd);
	}
}

/* ---- rings ---- */

static uint8_t *at(const struct fake_back_end *f, uint64_t address, uint64_t len)
{
	cr_assert(address >= f->address && address - f->address <= f->bytes &&
			  len <= f->bytes - (address - f->address),
		  "the back end was given an address that is not its own");
	return f->memory + (address - f->address);
}

static uint16_t *field(const struct fake_back_end *f, uint64_t address)
{
	return (uint16_t *)(void *)at(f, address, 2);
}

static void part_add(const struct fake_back_end *f, const struct descriptor *d, unsigned number,
		     struct fake_request *out)
{
	uint8_t *bytes = at(f, d->address, d->len);

	if (number == 0) {
		cr_assert(d->len == 16 && !(d->flags & 2));
		memcpy(&out->type, bytes, 4);
		memcpy(&out->sector, bytes + 8, 8);
	} else if (!(d->flags & 2)) {
		out->out = out->out ? out->out : bytes;
		out->out_bytes += d->len;
	} else if (!(d->flags & 1)) {
		cr_assert_eq(d->len, 1);
		out->status = bytes;
	} else {
		out->in = out->in ? out->in : bytes;
		out->in_bytes += d->len;
	}
}

bool fake_take(struct fake_back_end *f, unsigned queue, struct fake_request *out)
{
	struct fake_ring *r = &f->ring[queue];
	struct descriptor d;
	unsigned number = 0;

	if (__atomic_load_n(field(f, r->driver + 2), __ATOMIC_ACQUIRE) == r->last_available)
		return false;
	memset(out, 0, sizeof(*out));
	out->head = *field(f, r->driver + 4 + 2u * (r->last_available++ % r->size));
	d = (struct descriptor){.flags = 1, .next = out->head};
	while (d.flags & 1) {
		cr_assert_lt(d.next, r->size);
		cr_assert_lt(number, r->size);
		memcpy(&d, at(f, r->descriptors + 16u * d.next, 16), 16);
		part_add(f, &d, number++, out);
	}
	cr_assert_not_null(out->status);
	return true;
}

bool fake_take_chain(struct fake_back_end *f, unsigned queue, struct fake_chain *out)
{
	struct fake_ring *r = &f->ring[queue];
	struct descriptor d;

	if (__atomic_load_n(field(f, r->driver + 2), __ATOMIC_ACQUIRE) == r->last_available)
		return false;
	memset(out, 0, sizeof(*out));
	out->head = *field(f, r->driver + 4 + 2u * (r->last_available++ % r->size));
	d = (struct descriptor){.flags = 1, .next = out->head};
	while (d.flags & 1) {
		cr_assert(d.next < r->size && out->parts < r->size);
		memcpy(&d, at(f, r->descriptors + 16u * d.next, 16), 16);
		out->part[out->parts].at = at(f, d.address, d.len);
		out->part[out->parts].len = d.len;
		out->part[out->parts++].in = d.flags & 2;
	}
	return true;
}

void fake_step(struct fake_back_end *f, unsigned queue, uint16_t by)
{
	uint16_t *idx = field(f, f->ring[queue].device + 2);

	__atomic_store_n(idx, (uint16_t)(*idx + by), __ATOMIC_RELEASE);
	(void)eventfd_write(f->ring[queue].call_fd, 1);
}

void fake_use(struct fake_back_end *f, unsigned queue, uint32_t id, uint32_t len)
{
	struct fake_ring *r = &f->ring[queue];
	uint16_t idx = *field(f, r->device + 2);
	uint8_t *entry = at(f, r->device + 4 + 8u * (idx % r->size), 8);

	memcpy(entry, &id, 4);
	memcpy(entry + 4, &len, 4);
	fake_step(f, queue, 1);
}

void fake_finish(struct fake_back_end *f, unsigned queue, const struct fake_request *r,
		 uint8_t status, uint8_t fill)
{
	if (r->in)
		memset(r->in, fill, r->in_bytes);
	*r->status = status;
	fake_use(f, queue, r->head, r->in_bytes + 1);
}

uint64_t fake_kicks(struct fake_back_end *f, unsigned queue)
{
	uint64_t kicks = 0;

	/* The front end made it so that this does not wait. */
	return eventfd_read(f->ring[queue].kick_fd, &kicks) == 0 ? kicks : 0;
}
