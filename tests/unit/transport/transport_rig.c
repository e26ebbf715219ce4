/* SPDX-License-Identifier: Apache-2.0 */
/* The rig for transport tests. */
#include "tests/unit/transport/transport_rig.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void *on_payload(void *ctx, unsigned peer, const struct wire_msg *msg, void *lies)
{
	struct rig_slice *slice = ctx;

	cr_assert_leq(msg->payload_len, WIRE_PAYLOAD_MAX);
	if (slice->refuse_payload)
		return NULL;
	/* Either is as good; so both are tried. */
	return lies && msg->arg % 2 ? lies : slice->payload[peer];
}

static uint8_t pattern(uint64_t arg, unsigned at)
{
	return (uint8_t)(arg * 31 + at * 7 + at / 256);
}

static int on_msg(void *ctx, unsigned peer, const struct wire_msg *msg, void *payload)
{
	struct rig_slice *slice = ctx;
	const uint8_t *bytes = payload;

	cr_assert_eq(slice->lost[peer], 0, "a message after on_lost");
	slice->last = *msg;
	slice->received++;
	if (msg->arg != slice->next[peer])
		slice->bad++;
	slice->next[peer] = msg->arg + 1;
	for (unsigned i = 0; i < msg->payload_len; i++)
		if (bytes[i] != pattern(msg->arg, i)) {
			slice->bad++;
			break;
		}
	if (slice->close_in_msg) {
		slice->transport->ops->close(slice->transport);
		slice->transport = NULL;
	}
	return slice->on_msg_answer;
}

static void on_up(void *ctx, unsigned peer)
{
	struct rig_slice *slice = ctx;

	cr_assert_eq(slice->lost[peer], 0, "up after lost");
	cr_assert_eq(slice->up[peer]++, 0, "up twice");
	slice->ups++;
}

static void on_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct rig_slice *slice = ctx;

	cr_assert(!slice->in_send, "on_lost from within send");
	cr_assert_eq(slice->lost[peer], 0, "on_lost twice");
	cr_assert_lt(err, 0);
	cr_assert(why && *why);
	slice->lost[peer]++;
	slice->lost_err[peer] = err;
	snprintf(slice->lost_why[peer], sizeof(slice->lost_why[peer]), "%s", why);
}

const char *rig_rdma_address(void)
{
	return getenv("PANGEA_TEST_RDMA_ADDRESS");
}

static bool kind_is_rdma(enum rig_kind kind)
{
	return kind == RIG_RDMA || kind == RIG_RDMA_TLS;
}

unsigned rig_last_words(enum rig_kind kind)
{
	/* RDMA's are those that there are credits for; what waits in the queue goes with its slice. */
	return kind_is_rdma(kind) ? 32 : 100;
}

static enum transport_wish kind_wish(enum rig_kind kind)
{
	if (kind_is_rdma(kind))
		return TRANSPORT_RDMA;
	return kind == RIG_SHM ? TRANSPORT_SHM : TRANSPORT_TCP;
}

void rig_init(struct rig *rig, unsigned slices, enum rig_kind kind)
{
	if (kind_is_rdma(kind) && !rig_rdma_address())
		cr_skip_test("no RDMA device: PANGEA_TEST_RDMA_ADDRESS names no address of one");
	memset(rig, 0, sizeof(*rig));
	cr_assert_eq(uv_loop_init(&rig->loop), 0);
	rig->slices = slices;
	rig->timeout_ms = 5000;
	rig->wish = kind_wish(kind);
	rig->encrypted = kind == RIG_TLS || kind == RIG_RDMA_TLS;
	rig->host = kind_is_rdma(kind) ? rig_rdma_address() : "127.0.0.1";
	rig->rdma = (struct rdma_option){.allowed = kind_is_rdma(kind), .gid_index = -1};
	memset(rig->secret, 7, sizeof(rig->secret));
	if (kind == RIG_INPROC)
		cr_assert_eq(inproc_hub_create(slices, &rig->hub), 0);
}

struct wire_hello rig_hello(const struct rig *rig, unsigned i)
{
	return (struct wire_hello){.magic = WIRE_MAGIC,
				   .version = WIRE_VERSION,
				   .features = rig->encrypted ? WIRE_FEATURE_TLS : 0,
				   .vm = RIG_VM,
				   .epoch = 1,
				   .slice = (uint16_t)i,
				   .slices = (uint16_t)rig->slices,
				   .ram_end = UINT64_C(1) << 30};
}

void rig_create(struct rig *rig, unsigned i, const struct wire_hello *hello)
{
	struct rig_slice *slice = &rig->slice[i];
	struct pair_keys keys;
	struct transport_config config = {.loop = &rig->loop,
					  .keys = &keys,
					  .hello = hello ? *hello : rig_hello(rig, i),
					  .connect_timeout_ms = rig->timeout_ms,
					  .silence_ms = rig->silence_ms,
					  .wish = rig->wish,
					  .rdma = rig->rdma,
					  .callbacks = {.ctx = slice,
							.payload_buffer = on_payload,
							.on_msg = on_msg,
							.on_up = on_up,
							.on_lost = on_lost}};

	pair_keys_derive(rig->secret, RIG_VM, 1, i, RIG_SLICES, &keys);
	slice->rig = rig;
	if (rig->hub)
		cr_assert_eq(transport_inproc_create(&config, rig->hub, &slice->transport), 0);
	else
		cr_assert_eq(transport_net_create(&config, rig->host, 0, &slice->port,
						  &slice->transport),
			     0);
}

void rig_connect(struct rig *rig, unsigned i)
{
	char text[RIG_SLICES][64];
	const char *addresses[RIG_SLICES];

	for (unsigned j = 0; j < RIG_SLICES; j++) {
		snprintf(text[j], sizeof(text[j]), "%s:%u", rig->host, rig->slice[j].port);
		addresses[j] = text[j];
	}
	cr_assert_eq(rig->slice[i].transport->ops->connect(rig->slice[i].transport, addresses), 0);
}

void rig_up(struct rig *rig)
{
	for (unsigned i = 0; i < rig->slices; i++)
		rig_create(rig, i, NULL);
	for (unsigned i = 0; i < rig->slices; i++)
		rig_connect(rig, i);
	for (unsigned i = 0; i < rig->slices; i++)
		cr_assert(rig_until(rig, &rig->slice[i].ups, rig->slices - 1));
}

static void on_guard(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

bool rig_until(struct rig *rig, const unsigned *counter, unsigned value)
{
	bool expired = false;
	uv_timer_t guard;

	uv_update_time(&rig->loop);
	uv_timer_init(&rig->loop, &guard);
	guard.data = &expired;
	uv_timer_start(&guard, on_guard, 10000, 0);
	while (!expired && *counter < value)
		uv_run(&rig->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&rig->loop, UV_RUN_NOWAIT);
	return *counter >= value;
}

void rig_run_ms(struct rig *rig, unsigned ms)
{
	bool expired = false;
	uv_timer_t guard;

	uv_update_time(&rig->loop);
	uv_timer_init(&rig->loop, &guard);
	guard.data = &expired;
	uv_timer_start(&guard, on_guard, ms, 0);
	while (!expired)
		uv_run(&rig->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&guard, NULL);
	uv_run(&rig->loop, UV_RUN_NOWAIT);
}

int rig_send(struct rig *rig, unsigned from, unsigned to, uint64_t arg, unsigned payload_len)
{
	struct rig_slice *slice = &rig->slice[from];
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST, .arg = arg, .payload_len = payload_len};
	uint8_t payload[WIRE_PAYLOAD_MAX];
	int err;

	for (unsigned i = 0; i < payload_len; i++)
		payload[i] = pattern(arg, i);
	slice->in_send = true;
	err = slice->transport->ops->send(slice->transport, to, &msg, payload, true);
	slice->in_send = false;
	return err;
}

void rig_destroy(struct rig *rig)
{
	for (unsigned i = 0; i < RIG_SLICES; i++)
		if (rig->slice[i].transport)
			rig->slice[i].transport->ops->close(rig->slice[i].transport);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&rig->loop), 0, "a handle was left open");
	if (rig->hub)
		inproc_hub_destroy(rig->hub);
}

int raw_connect(unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = 10};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_geq(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

int raw_listen(unsigned *port)
{
	int fd = raw_bound(port);

	cr_assert_eq(listen(fd, 8), 0);
	return fd;
}

int raw_bound(unsigned *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

void raw_write(int fd, const void *bytes, size_t len)
{
	cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

void raw_hello(int fd, const struct wire_hello *hello)
{
	uint8_t buf[WIRE_HELLO_SIZE];

	wire_hello_encode(hello, buf);
	raw_write(fd, buf, sizeof(buf));
}

void raw_read(int fd, void *bytes, size_t len)
{
	cr_assert_eq(recv(fd, bytes, len, MSG_WAITALL), (ssize_t)len);
}

void rig_key(const struct rig *rig, unsigned i, unsigned j, uint8_t key[PAIR_KEY_SIZE])
{
	struct pair_keys keys;

	pair_keys_derive(rig->secret, RIG_VM, 1, i, RIG_SLICES, &keys);
	memcpy(key, keys.key[j], PAIR_KEY_SIZE);
}

void raw_await(struct rig *rig, int fd, size_t len)
{
	uint8_t bytes[256];

	for (unsigned ms = 0; recv(fd, bytes, len, MSG_PEEK | MSG_DONTWAIT) < (ssize_t)len; ms++) {
		cr_assert_lt(ms, 10000, "nothing came");
		rig_run_ms(rig, 1);
	}
}

void raw_answer(struct rig *rig, int fd, const struct wire_hello *hello, unsigned caller)
{
	uint8_t theirs[WIRE_HELLO_SIZE], ours[WIRE_HELLO_SIZE];
	uint8_t key[PAIR_KEY_SIZE], proof[PROOF_SIZE];

	raw_await(rig, fd, sizeof(theirs));
	raw_read(fd, theirs, sizeof(theirs));
	wire_hello_encode(hello, ours);
	raw_write(fd, ours, sizeof(ours));
	raw_await(rig, fd, sizeof(proof));
	raw_read(fd, proof, sizeof(proof));
	rig_key(rig, caller, hello->slice, key);
	cr_assert(proof_right(key, PROVER_CALLER_TCP, theirs, ours, proof));
	proof_make(key, PROVER_CALLEE_TCP, theirs, ours, proof);
	raw_write(fd, proof, sizeof(proof));
}

void raw_call(struct rig *rig, int fd, const struct wire_hello *hello, unsigned callee)
{
	uint8_t theirs[WIRE_HELLO_SIZE], ours[WIRE_HELLO_SIZE];
	uint8_t key[PAIR_KEY_SIZE], proof[PROOF_SIZE];

	wire_hello_encode(hello, ours);
	raw_write(fd, ours, sizeof(ours));
	raw_await(rig, fd, sizeof(theirs));
	raw_read(fd, theirs, sizeof(theirs));
	rig_key(rig, hello->slice, callee, key);
	proof_make(key, PROVER_CALLER_TCP, ours, theirs, proof);
	raw_write(fd, proof, sizeof(proof));
}
