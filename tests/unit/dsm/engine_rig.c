/* SPDX-License-Identifier: Apache-2.0 */
/* The rig for engine tests. */
#include "tests/unit/dsm/engine_rig.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/proof.h"

static void on_ready(void *ctx)
{
	struct rig_slice *slice = ctx;

	atomic_fetch_add(&slice->ready, 1);
}

static int on_machine_msg(void *ctx, unsigned from, const struct wire_msg *msg, const void *payload)
{
	struct rig_slice *slice = ctx;
	unsigned n = slice->received;

	if (n < RIG_POSTS) {
		slice->msgs[n] = *msg;
		slice->from[n] = from;
		slice->first_byte[n] = payload ? *(const uint8_t *)payload : 0;
	}
	atomic_store(&slice->received, n + 1);
	return 0;
}

static void on_peer_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct rig_slice *slice = ctx;

	slice->lost_peer = peer;
	slice->lost_err = err;
	snprintf(slice->lost_why, sizeof(slice->lost_why), "%s", why);
	atomic_fetch_add(&slice->lost, 1);
}

/* What carries the messages where the test does not say: shared memory, or what the environment says. */
static enum transport_wish wish_default(void)
{
	const char *word = getenv("RIG_TRANSPORT");
	enum transport_wish wish = TRANSPORT_AUTO;

	if (word)
		cr_assert_eq(transport_wish_parse(word, &wish), 0);
	return wish;
}

void rig_init(struct rig *rig, unsigned slices)
{
	/* For engines that are not made by rig_create: any key, the same for all. */
	static const struct pair_keys zero;

	memset(rig, 0, sizeof(*rig));
	rig->slices = slices;
	for (unsigned i = 0; i < slices; i++)
		rig->ranges[i] =
			(struct engine_range){i, i * RIG_SLICE_BYTES, (i + 1) * RIG_SLICE_BYTES};
	rig->config = (struct engine_config){
		.slices = slices,
		.vm = UINT64_C(0xfeedface12345678),
		.keys = &zero,
		.plaintext = true, /* raw peers speak it; pages_travel has TLS */
		.epoch = 1,
		.ram_end = slices * RIG_SLICE_BYTES,
		.ranges = rig->ranges,
		.ranges_count = slices,
		.bind_host = "127.0.0.1",
		.connect_timeout_ms = 10000,
		.transport = wish_default(),
		.faulters_max = 8,
		.callbacks = {.on_ready = on_ready,
			      .on_machine_msg = on_machine_msg,
			      .on_peer_lost = on_peer_lost},
	};
}

static void keys_of(const struct rig *rig, unsigned i, struct pair_keys *keys)
{
	static const uint8_t secret[PAIR_SECRET_SIZE] = "engine_rig";

	pair_keys_derive(secret, rig->config.vm, rig->config.epoch, i, rig->slices, keys);
}

void rig_create(struct rig *rig, unsigned i)
{
	struct rig_slice *slice = &rig->slice[i];
	struct engine_config config = rig->config;
	struct pair_keys keys;
	int err;

	slice->rig = rig;
	slice->index = i;
	config.self = i;
	config.callbacks.ctx = slice;
	keys_of(rig, i, &keys);
	config.keys = &keys;
	err = engine_create(&config, &slice->port, &slice->engine);
	if (err == -EPERM || err == -ENOSYS)
		cr_skip_test("userfaultfd is not available here");
	cr_assert_eq(err, 0);
	cr_assert_eq(engine_start(slice->engine), 0);
}

void rig_connect(struct rig *rig, unsigned i)
{
	char text[RIG_SLICES_MAX][32];
	const char *addresses[RIG_SLICES_MAX];

	for (unsigned j = 0; j < RIG_SLICES_MAX; j++) {
		snprintf(text[j], sizeof(text[j]), "127.0.0.1:%u", rig->slice[j].port);
		addresses[j] = text[j];
	}
	cr_assert_eq(engine_connect(rig->slice[i].engine, addresses), 0);
}

void rig_up(struct rig *rig, unsigned slices)
{
	if (rig->slices == 0)
		rig_init(rig, slices);
	for (unsigned i = 0; i < slices; i++)
		rig_create(rig, i);
	for (unsigned i = 0; i < slices; i++)
		rig_connect(rig, i);
	for (unsigned i = 0; i < slices; i++)
		cr_assert(rig_until(&rig->slice[i].ready, 1), "slice %u is not ready", i);
}

void rig_down(struct rig *rig)
{
	for (unsigned i = 0; i < rig->slices; i++)
		if (rig->slice[i].engine)
			engine_destroy(rig->slice[i].engine);
}

bool rig_until(const _Atomic unsigned *counter, unsigned value)
{
	uint64_t deadline_ns = clock_now_ns() + 20 * NS_PER_S;

	while (atomic_load(counter) < value) {
		if (clock_now_ns() > deadline_ns)
			return false;
		usleep(500);
	}
	return true;
}

uint64_t *rig_word(struct rig *rig, unsigned i, uint64_t gpa)
{
	return (uint64_t *)(void *)(engine_ram(rig->slice[i].engine) + gpa);
}

uint64_t rig_read(struct rig *rig, unsigned i, uint64_t gpa)
{
	return __atomic_load_n(rig_word(rig, i, gpa), __ATOMIC_SEQ_CST);
}

void rig_write(struct rig *rig, unsigned i, uint64_t gpa, uint64_t value)
{
	__atomic_store_n(rig_word(rig, i, gpa), value, __ATOMIC_SEQ_CST);
}

uint64_t rig_page(unsigned home, unsigned n)
{
	return home * RIG_SLICE_BYTES + (uint64_t)n * PANGEA_PAGE_SIZE;
}

struct engine_stats rig_stats(struct rig *rig, unsigned i)
{
	struct engine_stats last, now;

	engine_stats(rig->slice[i].engine, &now);
	do {
		last = now;
		usleep(20000);
		engine_stats(rig->slice[i].engine, &now);
	} while (memcmp(&last, &now, sizeof(now)) != 0);
	return now;
}

int rig_raw_join(const struct rig *rig, unsigned self)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)rig->slice[0].port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wire_hello hello = {.magic = WIRE_MAGIC,
				   .version = WIRE_VERSION,
				   .vm = rig->config.vm,
				   .epoch = 1,
				   .slice = (uint16_t)self,
				   .slices = (uint16_t)rig->slices,
				   .ram_end = rig->config.ram_end};
	struct timeval limit = {.tv_sec = 20};
	uint8_t ours[WIRE_HELLO_SIZE], theirs[WIRE_HELLO_SIZE], proof[PROOF_SIZE];
	struct pair_keys keys;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	wire_hello_encode(&hello, ours);
	cr_assert_eq(send(fd, ours, sizeof(ours), MSG_NOSIGNAL), (ssize_t)sizeof(ours));
	cr_assert_eq(recv(fd, theirs, sizeof(theirs), MSG_WAITALL), (ssize_t)sizeof(theirs));
	keys_of(rig, self, &keys);
	proof_make(keys.key[0], PROVER_CALLER_TCP, ours, theirs, proof);
	cr_assert_eq(send(fd, proof, sizeof(proof), MSG_NOSIGNAL), (ssize_t)sizeof(proof));
	cr_assert_eq(recv(fd, proof, sizeof(proof), MSG_WAITALL), (ssize_t)sizeof(proof));
	return fd;
}
