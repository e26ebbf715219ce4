/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory against bad peers and bad luck, played by raw local sockets; and the choice of it. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/transport/transport_rig.h"
#include "transport/shm_ring.h"

#define BYTES (2 * sizeof(struct shm_ring))
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

static void assert_says(const char *why, const char *part)
{
	cr_assert(strstr(why, part), "\"%s\" does not say \"%s\"", why, part);
}

static socklen_t local_name(unsigned port, struct sockaddr_un *out)
{
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)snprintf(out->sun_path + 1, sizeof(out->sun_path) - 1,
					    "pangea-data/127.0.0.1:%u", port));
}

static int local_listen(unsigned port)
{
	struct sockaddr_un at;
	socklen_t len = local_name(port, &at);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(listen(fd, 8), 0);
	return fd;
}

static int local_connect(unsigned port)
{
	struct sockaddr_un to;
	socklen_t len = local_name(port, &to);
	struct timeval limit = {.tv_sec = 10};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, len), 0);
	return fd;
}

/* Sends these bytes with these descriptors. */
static void bytes_with(int socket_fd, const void *bytes, size_t len, const int *fds, unsigned count)
{
	struct iovec iov = {(void *)bytes, len};
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (count) {
		struct cmsghdr *head;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		head = CMSG_FIRSTHDR(&msg);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	}
	cr_assert_eq(sendmsg(socket_fd, &msg, MSG_NOSIGNAL), (ssize_t)len);
}

/* Reads so many bytes, and the descriptor with them. */
static int bytes_read(int socket_fd, void *bytes, size_t len)
{
	struct iovec iov = {bytes, len};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	int fd = -1;

	cr_assert_eq(recvmsg(socket_fd, &msg, MSG_WAITALL), (ssize_t)len);
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Plays slice 0, called by slice 1: hellos both ways, the caller's proof, and ours with these
 * descriptors. */
static void answer_with(struct rig *rig, int fd, const int *fds, unsigned count)
{
	uint8_t theirs[WIRE_HELLO_SIZE], ours[WIRE_HELLO_SIZE], proof[PROOF_SIZE];
	uint8_t key[PAIR_KEY_SIZE];
	struct wire_hello hello = rig_hello(rig, 0);

	raw_await(rig, fd, sizeof(theirs));
	cr_assert_eq(bytes_read(fd, theirs, sizeof(theirs)), -1);
	wire_hello_encode(&hello, ours);
	raw_write(fd, ours, sizeof(ours));
	raw_await(rig, fd, sizeof(proof));
	cr_assert_eq(bytes_read(fd, proof, sizeof(proof)), -1);
	rig_key(rig, 0, 1, key);
	cr_assert(proof_right(key, PROVER_CALLER_LOCAL, theirs, ours, proof));
	proof_make(key, PROVER_CALLEE_LOCAL, theirs, ours, proof);
	bytes_with(fd, proof, sizeof(proof), fds, count);
}

/* Plays slice 1 that calls slice 0, up to its proof. */
static void call_prove(struct rig *rig, int fd)
{
	uint8_t theirs[WIRE_HELLO_SIZE], ours[WIRE_HELLO_SIZE], proof[PROOF_SIZE];
	uint8_t key[PAIR_KEY_SIZE];
	struct wire_hello hello = rig_hello(rig, 1);

	wire_hello_encode(&hello, ours);
	raw_write(fd, ours, sizeof(ours));
	raw_await(rig, fd, sizeof(theirs));
	cr_assert_eq(bytes_read(fd, theirs, sizeof(theirs)), -1, "before it is known who calls");
	rig_key(rig, 0, 1, key);
	proof_make(key, PROVER_CALLER_LOCAL, ours, theirs, proof);
	raw_write(fd, proof, sizeof(proof));
}

static int memory_make(size_t bytes, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* A raw peer with its end of the memory. */
struct raw {
	struct rig rig;
	int listener, fd;
	unsigned slice; /* of the transport under test */
	struct shm_ring *rings;
	struct shm_sender tx;
	struct shm_receiver rx;
};

/* Slice 1 of 2 has called a raw listener that plays slice 0. */
static void called(struct raw *raw, unsigned timeout_ms, enum transport_wish wish)
{
	memset(raw, 0, sizeof(*raw));
	rig_init(&raw->rig, 2, RIG_SHM);
	raw->rig.wish = wish;
	raw->rig.timeout_ms = timeout_ms;
	raw->slice = 1;
	close(raw_bound(&raw->rig.slice[0].port)); /* nobody listens there on TCP */
	raw->listener = local_listen(raw->rig.slice[0].port);
	rig_create(&raw->rig, 1, NULL);
	rig_connect(&raw->rig, 1);
	raw->fd = accept(raw->listener, NULL, NULL);
	cr_assert_geq(raw->fd, 0);
}

static void raw_map(struct raw *raw, int memory, bool maker)
{
	raw->rings = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	cr_assert_neq(raw->rings, MAP_FAILED);
	close(memory);
	shm_sender_init(&raw->tx, &raw->rings[maker ? 0 : 1]);
	shm_receiver_init(&raw->rx, &raw->rings[maker ? 1 : 0]);
}

/* The same, and the link is up; it says so by its word. */
static void called_up(struct raw *raw)
{
	int memory = memory_make(BYTES, SEALS);
	char word = 0;

	called(raw, 5000, TRANSPORT_SHM);
	answer_with(&raw->rig, raw->fd, &memory, 1);
	cr_assert(rig_until(&raw->rig, &raw->rig.slice[1].ups, 1));
	cr_assert_eq(recv(raw->fd, &word, 1, MSG_WAITALL), 1);
	cr_assert_eq(word, 'm');
	raw_map(raw, memory, true);
}

/* A raw socket has called slice 0 of 2, as slice 1. */
static int calling(struct raw *raw)
{
	uint8_t proof[PROOF_SIZE];

	memset(raw, 0, sizeof(*raw));
	rig_init(&raw->rig, 2, RIG_SHM);
	raw->listener = -1;
	rig_create(&raw->rig, 0, NULL);
	rig_connect(&raw->rig, 0);
	raw->fd = local_connect(raw->rig.slice[0].port);
	call_prove(&raw->rig, raw->fd);
	raw_await(&raw->rig, raw->fd, sizeof(proof));
	return bytes_read(raw->fd, proof, sizeof(proof));
}

static void raw_end(struct raw *raw)
{
	if (raw->rings)
		munmap(raw->rings, BYTES);
	if (raw->fd >= 0)
		close(raw->fd);
	if (raw->listener >= 0)
		close(raw->listener);
	rig_destroy(&raw->rig);
}

static void raw_put(struct raw *raw, const struct wire_msg *msg, uint64_t slot)
{
	uint8_t header[WIRE_HEADER_SIZE], payload[WIRE_PAYLOAD_MAX] = {0};
	uint32_t at = raw->tx.head % SHM_ENTRIES;

	wire_msg_encode(msg, header);
	cr_assert_eq(shm_put(&raw->tx, header, payload, 0), 0);
	raw->tx.ring->entries[at][WIRE_HEADER_SIZE / 8] = slot;
	raw_write(raw->fd, "!", 1);
}

static void lost_with(struct raw *raw, int err, const char *says)
{
	struct rig_slice *slice = &raw->rig.slice[raw->slice];
	unsigned peer = 1 - raw->slice;

	cr_assert(rig_until(&raw->rig, &slice->lost[peer], 1));
	cr_assert_eq(slice->lost_err[peer], err, "%s", slice->lost_why[peer]);
	assert_says(slice->lost_why[peer], says);
}

static void memory_refused(int memory, int more, int err, const char *says)
{
	int fds[2] = {memory, more};
	struct raw raw;

	called(&raw, 5000, TRANSPORT_SHM);
	answer_with(&raw.rig, raw.fd, fds, memory < 0 ? 0 : more < 0 ? 1 : 2);
	lost_with(&raw, err, says);
	cr_assert_eq(raw.rig.slice[1].ups, 0);
	if (memory >= 0)
		close(memory);
	if (more >= 0)
		close(more);
	raw_end(&raw);
}

static int descriptors_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

Test(shm, memory_that_could_be_taken_away_is_refused)
{
	int before, file, huge, pipes[2];
	char path[] = "/tmp/shm-test-XXXXXX";

	memory_refused(-1, -1, -PANGEA_EPROTOCOL, "sent no memory");
	before = descriptors_open(); /* libuv has its own by now */
	memory_refused(memory_make(BYTES, F_SEAL_SEAL), -1, -PANGEA_EPROTOCOL, "not sealed");
	memory_refused(memory_make(BYTES, F_SEAL_SEAL | F_SEAL_GROW), -1, -PANGEA_EPROTOCOL,
		       "not sealed");
	memory_refused(memory_make(BYTES, F_SEAL_SHRINK | F_SEAL_GROW), -1, -PANGEA_EPROTOCOL,
		       "not sealed");
	memory_refused(memory_make(BYTES - 1, SEALS), -1, -PANGEA_EPROTOCOL, "bytes, not");
	memory_refused(memory_make(0, SEALS), -1, -PANGEA_EPROTOCOL, "has 0 bytes");
	memory_refused(memory_make(BYTES + 4096, SEALS), -1, -PANGEA_EPROTOCOL, "bytes, not");
	/* Of two the first counts, and the second is closed. */
	memory_refused(memory_make(4096, SEALS), memory_make(BYTES, SEALS), -PANGEA_EPROTOCOL,
		       "has 4096 bytes");
	memory_refused(memory_make(BYTES, SEALS | F_SEAL_WRITE), -1, -EPERM, "cannot map");
	cr_assert_eq(pipe(pipes), 0);
	memory_refused(pipes[0], pipes[1], -PANGEA_EPROTOCOL, "no memory file");
	file = mkstemp(path);
	cr_assert_geq(file, 0);
	unlink(path);
	cr_assert_eq(ftruncate(file, (off_t)BYTES), 0);
	memory_refused(file, -1, -PANGEA_EPROTOCOL, "it shares is no");
	huge = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	if (huge >= 0)
		memory_refused(huge, -1, -PANGEA_EPROTOCOL, "no memory file");
	cr_assert_eq(descriptors_open(), before, "a descriptor was left open");
}

Test(shm, what_is_offered_is_sealed)
{
	struct raw raw;
	int memory = calling(&raw);

	cr_assert_geq(memory, 0);
	cr_assert_lt(ftruncate(memory, 0), 0);
	cr_assert_lt(ftruncate(memory, (off_t)BYTES * 2), 0);
	cr_assert_eq(fcntl(memory, F_GET_SEALS) & SEALS, SEALS);
	cr_assert_eq(raw.rig.slice[0].ups, 0, "before it is known to be mapped");
	raw_map(&raw, memory, false);
	raw_write(raw.fd, "m", 1);
	cr_assert(rig_until(&raw.rig, &raw.rig.slice[0].ups, 1));
	raw_end(&raw);
}

Test(shm, who_does_not_take_the_memory_is_awaited_further)
{
	struct raw raw;
	int memory = calling(&raw);

	close(memory);
	close(raw.fd);
	rig_run_ms(&raw.rig, 10);
	cr_assert_eq(raw.rig.slice[0].ups + raw.rig.slice[0].lost[1], 0);
	rig_create(&raw.rig, 1, NULL);
	rig_connect(&raw.rig, 1);
	cr_assert(rig_until(&raw.rig, &raw.rig.slice[0].ups, 1));
	raw.fd = -1;
	raw_end(&raw);
}

Test(shm, memory_that_is_not_taken_in_time_is_said)
{
	struct raw raw;

	memset(&raw, 0, sizeof(raw));
	rig_init(&raw.rig, 2, RIG_SHM);
	raw.rig.timeout_ms = 150;
	raw.listener = -1;
	rig_create(&raw.rig, 0, NULL);
	rig_connect(&raw.rig, 0);
	raw.fd = local_connect(raw.rig.slice[0].port);
	call_prove(&raw.rig, raw.fd);
	lost_with(&raw, -ETIMEDOUT, "has the memory to share");
	raw_end(&raw);
}

static void head_is_fatal(uint32_t head)
{
	struct raw raw;

	called_up(&raw);
	raw.tx.ring->head = head;
	raw_write(raw.fd, "!", 1);
	lost_with(&raw, -PANGEA_EWIRE, "sender's index");
	cr_assert_eq(raw.rig.slice[1].received, 0);
	raw_end(&raw);
}

static void tail_is_fatal(uint32_t tail)
{
	struct raw raw;

	called_up(&raw);
	raw.rx.ring->tail = tail;
	cr_assert_eq(rig_send(&raw.rig, 1, 0, 0, 4096), -ENOTCONN);
	cr_assert_eq(raw.rig.slice[1].lost[0], 0, "from the loop, never from within");
	lost_with(&raw, -PANGEA_EWIRE, "receiver's index");
	raw_end(&raw);
}

Test(shm, wild_indexes_end_the_link)
{
	static const uint32_t wild[] = {SHM_ENTRIES + 1, 0x80000000, UINT32_MAX};

	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		head_is_fatal(wild[i]);
		tail_is_fatal(wild[i]);
	}
	tail_is_fatal(1); /* more than was ever sent */
}

static void header_is_fatal(const struct wire_msg *msg, uint64_t slot, int err, const char *says)
{
	struct raw raw;

	called_up(&raw);
	raw_put(&raw, msg, slot);
	lost_with(&raw, err, says);
	cr_assert_eq(raw.rig.slice[1].received, 0);
	raw_end(&raw);
}

Test(shm, malformed_headers_end_the_link)
{
	struct wire_msg msg = {0};

	/* As if the index had been published before the header: nothing, or half of one. */
	header_is_fatal(&msg, 0, -PANGEA_EWIRE, "nonsense");
	msg = (struct wire_msg){.type = MSG_DATA, .flags = MSG_FLAG_EXCLUSIVE};
	header_is_fatal(&msg, 0, -PANGEA_EWIRE, "nonsense");
	msg = (struct wire_msg){.type = MSG_MACHINE_FIRST, .payload_len = WIRE_PAYLOAD_MAX + 1};
	header_is_fatal(&msg, 0, -PANGEA_EWIRELEN, "nonsense");
	msg.payload_len = 4096;
	header_is_fatal(&msg, SHM_SLOTS, -PANGEA_EWIRE, "which is none");
	header_is_fatal(&msg, UINT64_MAX, -PANGEA_EWIRE, "which is none");
}

Test(shm, last_words_arrive_and_the_end_is_noticed_at_once)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST};
	struct raw raw;

	called_up(&raw);
	for (msg.arg = 0; msg.arg < 50; msg.arg++)
		raw_put(&raw, &msg, 0);
	close(raw.fd);
	raw.fd = -1;
	lost_with(&raw, -PANGEA_EPEERLOST, "closed the connection");
	cr_assert_eq(raw.rig.slice[1].received, 50);
	cr_assert_eq(raw.rig.slice[1].bad, 0);
	raw_end(&raw);
}

/* Takes one message as its receiver would; the number must be `arg`. */
static bool raw_take(struct raw *raw, uint64_t arg)
{
	struct shm_entry entry;
	struct wire_msg msg;

	if (shm_take(&raw->rx, &entry) != 1)
		return false;
	cr_assert_eq(wire_msg_decode(entry.header, sizeof(entry.header), &msg), 0);
	cr_assert_eq(msg.arg, arg);
	shm_done(&raw->rx);
	if (shm_done_wakes(&raw->rx))
		raw_write(raw->fd, "!", 1);
	return true;
}

Test(shm, a_full_ring_that_is_emptied_slowly_loses_nothing)
{
	const struct transport_stats *stats;
	struct raw raw;
	unsigned taken = 0, turns = 0;

	called_up(&raw);
	for (unsigned i = 0; i < 2000; i++)
		cr_assert_eq(rig_send(&raw.rig, 1, 0, i, i % 3 ? 0 : 4096), 0);
	stats = raw.rig.slice[1].transport->ops->stats(raw.rig.slice[1].transport);
	cr_assert_gt(stats->sends_queued, 0);
	cr_assert_gt(raw.rig.slice[1].transport->ops->backlog(raw.rig.slice[1].transport, 0), 0);
	while (taken < 2000 && turns++ < 100000) {
		if (raw_take(&raw, taken))
			taken++;
		else
			uv_run(&raw.rig.loop, UV_RUN_ONCE);
	}
	cr_assert_eq(taken, 2000);
	cr_assert_eq(raw.rig.slice[1].transport->ops->backlog(raw.rig.slice[1].transport, 0), 0);
	raw_end(&raw);
}

Test(shm, who_takes_nothing_for_too_long_is_lost)
{
	struct raw raw;
	int memory = memory_make(BYTES, SEALS);

	memset(&raw, 0, sizeof(raw));
	rig_init(&raw.rig, 2, RIG_SHM);
	raw.rig.silence_ms = 200;
	raw.slice = 1;
	close(raw_bound(&raw.rig.slice[0].port));
	raw.listener = local_listen(raw.rig.slice[0].port);
	rig_create(&raw.rig, 1, NULL);
	rig_connect(&raw.rig, 1);
	raw.fd = accept(raw.listener, NULL, NULL);
	answer_with(&raw.rig, raw.fd, &memory, 1);
	cr_assert(rig_until(&raw.rig, &raw.rig.slice[1].ups, 1));
	for (unsigned i = 0; i < SHM_ENTRIES; i++)
		cr_assert_eq(rig_send(&raw.rig, 1, 0, i, 0), 0);
	rig_run_ms(&raw.rig, 500);
	cr_assert_eq(raw.rig.slice[1].lost[0], 0, "nothing waits, so nothing is missed");
	cr_assert_eq(rig_send(&raw.rig, 1, 0, SHM_ENTRIES, 0), 0);
	lost_with(&raw, -PANGEA_EPEERLOST, "has taken nothing for 200 ms");
	close(memory);
	raw_end(&raw);
}

Test(shm, an_awake_receiver_is_not_rung)
{
	const struct transport_stats *stats;
	struct raw raw;

	called_up(&raw);
	stats = raw.rig.slice[1].transport->ops->stats(raw.rig.slice[1].transport);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(rig_send(&raw.rig, 1, 0, i, 0), 0);
	cr_assert_eq(stats->bells_sent, 0);
	raw.rx.tail = 10;
	cr_assert(shm_sleep(&raw.rx));
	for (unsigned i = 10; i < 20; i++)
		cr_assert_eq(rig_send(&raw.rig, 1, 0, i, 0), 0);
	cr_assert_eq(stats->bells_sent, 1, "one bell wakes");
	raw_end(&raw);
}

Test(shm, polling_takes_what_is_there)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST};
	struct transport *t;
	struct raw raw;

	called_up(&raw);
	t = raw.rig.slice[1].transport;
	cr_assert_eq(t->ops->poll(t), 0);
	for (msg.arg = 0; msg.arg < 3; msg.arg++)
		raw_put(&raw, &msg, 0);
	cr_assert_eq(t->ops->poll(t), 3);
	cr_assert_eq(raw.rig.slice[1].received, 3);
	raw_end(&raw);
}

/* --- The choice. --- */

static void links_are(struct rig *rig, unsigned slice, unsigned tcp, unsigned shm)
{
	const struct transport_stats *stats =
		rig->slice[slice].transport->ops->stats(rig->slice[slice].transport);

	cr_assert_eq(stats->links_tcp, tcp);
	cr_assert_eq(stats->links_shm, shm);
}

Test(shm, auto_takes_it_on_one_host)
{
	struct rig rig;

	rig_init(&rig, 3, RIG_SHM);
	rig.wish = TRANSPORT_AUTO;
	rig_up(&rig);
	for (unsigned i = 0; i < 3; i++)
		links_are(&rig, i, 0, 2);
	rig_destroy(&rig);
}

Test(shm, auto_takes_tcp_where_no_local_socket_is)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_TCP);
	rig_create(&rig, 0, NULL);
	rig.wish = TRANSPORT_AUTO;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].ups, 1));
	links_are(&rig, 1, 1, 0);
	cr_assert_eq(rig.slice[1].transport->ops->poll(rig.slice[1].transport), -ENOTSUP);
	rig_destroy(&rig);
}

/* Slice 1 tries shared memory, which the raw listener spoils, and then TCP, where slice 0 is. */
static void auto_falls_back(bool answer, int memory)
{
	struct rig rig;
	int listener, fd;

	rig_init(&rig, 2, RIG_TCP);
	rig_create(&rig, 0, NULL);
	listener = local_listen(rig.slice[0].port);
	rig.wish = TRANSPORT_AUTO;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	fd = accept(listener, NULL, NULL);
	cr_assert_geq(fd, 0);
	if (answer)
		answer_with(&rig, fd, &memory, memory >= 0);
	else
		close(fd);
	cr_assert(rig_until(&rig, &rig.slice[1].ups, 1));
	cr_assert(rig_until(&rig, &rig.slice[0].ups, 1));
	links_are(&rig, 1, 1, 0);
	cr_assert_eq(rig_send(&rig, 1, 0, 0, 4096), 0);
	cr_assert(rig_until(&rig, &rig.slice[0].received, 1));
	if (answer)
		close(fd);
	if (memory >= 0)
		close(memory);
	close(listener);
	rig_destroy(&rig);
}

Test(shm, auto_takes_tcp_after_a_failure)
{
	auto_falls_back(false, -1);
	auto_falls_back(true, -1);
	auto_falls_back(true, memory_make(BYTES, 0));
}

Test(shm, a_slice_of_another_epoch_is_lost_at_once)
{
	struct wire_hello hello;
	struct rig rig;

	rig_init(&rig, 2, RIG_SHM);
	rig.wish = TRANSPORT_AUTO;
	rig_create(&rig, 0, NULL);
	hello = rig_hello(&rig, 1);
	hello.epoch = 3;
	rig_create(&rig, 1, &hello);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	assert_says(rig.slice[0].lost_why[1], "epoch 3");
	assert_says(rig.slice[1].lost_why[0], "epoch 1");
	rig_destroy(&rig);
}

Test(shm, without_tcp_a_peer_elsewhere_is_lost_with_a_reason)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_SHM);
	rig.timeout_ms = 100;
	close(raw_bound(&rig.slice[0].port));
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -ETIMEDOUT);
	assert_says(rig.slice[1].lost_why[0], "not on this host");
	rig_destroy(&rig);
}

/* Another user's process: it ends by itself only if a caller says something. */
static pid_t other_user_listen(unsigned port)
{
	int ready[2];
	char byte;
	pid_t pid;

	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = setuid(65533) == 0 ? local_listen(port) : -1;

		(void)!write(ready[1], "r", 1);
		for (;;) {
			int caller = accept(fd, NULL, NULL);

			if (caller < 0 || recv(caller, &byte, 1, MSG_WAITALL) != 0)
				_exit(1);
			close(caller);
		}
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	return pid;
}

Test(shm, a_name_that_another_user_took_is_told_nothing)
{
	struct rig rig;
	unsigned port;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip_test("a socket of another user can be made by root only");
	close(raw_bound(&port));
	pid = other_user_listen(port);
	rig_init(&rig, 2, RIG_SHM);
	rig.timeout_ms = 100;
	rig.slice[0].port = port;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	assert_says(rig.slice[1].lost_why[0], "user 65533 listens there");
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status), "something was said to it");
	rig_destroy(&rig);
}
