/* SPDX-License-Identifier: Apache-2.0 */
/* The TCP transport against bad peers and bad luck, played by raw sockets. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/transport/transport_rig.h"

static void assert_says(const char *why, const char *part)
{
	cr_assert(strstr(why, part), "\"%s\" does not say \"%s\"", why, part);
}

/* Slice 1 of 2, connecting to a raw listener that plays slice 0. */
static int listener_rig(struct rig *rig, unsigned timeout_ms)
{
	int fd;

	rig_init(rig, 2, RIG_TCP);
	rig->timeout_ms = timeout_ms;
	fd = raw_listen(&rig->slice[0].port);
	rig_create(rig, 1, NULL);
	rig_connect(rig, 1);
	return fd;
}

/* Slice 0 of 2 up with a raw socket that plays slice 1. */
static int raw_peer_up(struct rig *rig)
{
	struct wire_hello hello;
	uint8_t proof[PROOF_SIZE];
	int fd;

	rig_init(rig, 2, RIG_TCP);
	rig_create(rig, 0, NULL);
	rig_connect(rig, 0);
	fd = raw_connect(rig->slice[0].port);
	hello = rig_hello(rig, 1);
	raw_call(rig, fd, &hello, 0);
	cr_assert(rig_until(rig, &rig->slice[0].ups, 1));
	raw_read(fd, proof, sizeof(proof));
	return fd;
}

static void answer_is(void (*change)(struct wire_hello *), int err, const char *says)
{
	struct wire_hello hello;
	struct rig rig;
	int listener = listener_rig(&rig, 5000), fd = accept(listener, NULL, NULL);

	hello = rig_hello(&rig, 0);
	change(&hello);
	raw_hello(fd, &hello);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], err, "%s", rig.slice[1].lost_why[0]);
	assert_says(rig.slice[1].lost_why[0], says);
	close(fd);
	close(listener);
	rig_destroy(&rig);
}

static void wrong_magic(struct wire_hello *hello)
{
	hello->magic = UINT64_C(0x2f31312050545448); /* "HTTP 11/" */
}

static void wrong_version(struct wire_hello *hello)
{
	hello->version = 9;
}

static void wrong_features(struct wire_hello *hello)
{
	hello->features = 4;
}

static void wrong_encryption(struct wire_hello *hello)
{
	hello->features = WIRE_FEATURE_TLS;
}

static void wrong_vm(struct wire_hello *hello)
{
	hello->vm++;
}

static void wrong_slice(struct wire_hello *hello)
{
	hello->slice = 7;
}

static void wrong_slices(struct wire_hello *hello)
{
	hello->slices = 3;
}

static void wrong_ram_end(struct wire_hello *hello)
{
	hello->ram_end *= 2;
}

static void wrong_epoch(struct wire_hello *hello)
{
	hello->epoch = 2;
}

Test(tcp, each_wrong_answer_is_named)
{
	answer_is(wrong_magic, -PANGEA_EPEERMAGIC, "does not speak Pangea");
	answer_is(wrong_version, -PANGEA_EPEERVERSION, "version 9");
	answer_is(wrong_features, -PANGEA_EPEERFEATURES, "features 0x4");
	answer_is(wrong_encryption, -PANGEA_EPEERFEATURES, "connections are encrypted");
	answer_is(wrong_vm, -PANGEA_EPEERVM, "another virtual machine");
	answer_is(wrong_slice, -PANGEA_EPEERVM, "slice 7 answers");
	answer_is(wrong_slices, -PANGEA_EPEERVM, "3 slices");
	answer_is(wrong_ram_end, -PANGEA_EPEERVM, "0x80000000");
	answer_is(wrong_epoch, -PANGEA_EPEERVM, "epoch 2");
}

Test(tcp, half_a_hello_is_dropped_at_the_deadline)
{
	struct wire_hello hello;
	uint8_t buf[WIRE_HELLO_SIZE];
	struct rig rig;
	int listener = listener_rig(&rig, 150), fd = accept(listener, NULL, NULL);

	hello = rig_hello(&rig, 0);
	wire_hello_encode(&hello, buf);
	raw_write(fd, buf, 20);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -ETIMEDOUT);
	assert_says(rig.slice[1].lost_why[0], "20 of 64 bytes");
	close(fd);
	close(listener);
	rig_destroy(&rig);
}

Test(tcp, a_listener_that_says_nothing_is_dropped_at_the_deadline)
{
	struct rig rig;
	int listener = listener_rig(&rig, 150);

	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -ETIMEDOUT);
	assert_says(rig.slice[1].lost_why[0], "0 of 64 bytes");
	close(listener);
	rig_destroy(&rig);
}

Test(tcp, a_peer_that_hangs_up_during_the_hello_is_tried_again)
{
	struct wire_hello hello;
	struct rig rig;
	int listener = listener_rig(&rig, 5000), fd = accept(listener, NULL, NULL);

	close(fd);
	rig_run_ms(&rig, 100);
	fd = accept(listener, NULL, NULL);
	hello = rig_hello(&rig, 0);
	raw_answer(&rig, fd, &hello, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].ups, 1));
	cr_assert_eq(rig.slice[1].lost[0], 0);
	close(fd);
	close(listener);
	rig_destroy(&rig);
}

Test(tcp, a_peer_that_listens_late_is_found)
{
	struct wire_hello hello;
	struct rig rig;
	unsigned port;
	int listener, fd;

	rig_init(&rig, 2, RIG_TCP);
	listener = raw_bound(&port); /* bound, not listening: connecting is refused */
	rig.slice[0].port = port;
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	rig_run_ms(&rig, 100);
	cr_assert_eq(rig.slice[1].lost[0], 0);
	cr_assert_eq(listen(listener, 8), 0);
	rig_run_ms(&rig, 100);
	fd = accept(listener, NULL, NULL);
	hello = rig_hello(&rig, 0);
	raw_answer(&rig, fd, &hello, 1);
	cr_assert(rig_until(&rig, &rig.slice[1].ups, 1));
	close(fd);
	close(listener);
	rig_destroy(&rig);
}

Test(tcp, strangers_do_not_disturb)
{
	int fds[100], count = 0;
	struct wire_hello hello;
	struct rig rig;

	rig_init(&rig, 2, RIG_TCP);
	rig_create(&rig, 0, NULL);
	rig_connect(&rig, 0);
	for (; count < 90; count++) { /* more than may wait; they stay silent */
		fds[count] = raw_connect(rig.slice[0].port);
		rig_run_ms(&rig, 1);
	}
	fds[count] = raw_connect(rig.slice[0].port);
	raw_write(fds[count++], "GET / HTTP/1.1\r\n\r\n", 18);
	fds[count] = raw_connect(rig.slice[0].port);
	hello = rig_hello(&rig, 1);
	hello.vm = 0;
	raw_hello(fds[count++], &hello);
	fds[count] = raw_connect(rig.slice[0].port);
	hello = rig_hello(&rig, 0); /* nobody calls as the slice itself */
	raw_hello(fds[count++], &hello);
	rig_run_ms(&rig, 50);
	cr_assert_eq(rig.slice[0].ups + rig.slice[0].lost[1], 0);
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[0].ups, 1));
	cr_assert(rig_until(&rig, &rig.slice[1].ups, 1));
	rig_run_ms(&rig, 20);
	for (int i = 0; i < count; i++) {
		uint8_t buf[256];
		ssize_t n;

		/* Everyone was sent away, at the latest when the expected slice had come. */
		while ((n = recv(fds[i], buf, sizeof(buf), 0)) > 0)
			;
		cr_assert(n == 0 || errno == ECONNRESET, "stranger %d: %s", i, strerror(errno));
		close(fds[i]);
	}
	cr_assert_eq(rig_send(&rig, 1, 0, 0, 4096), 0);
	cr_assert(rig_until(&rig, &rig.slice[0].received, 1));
	rig_destroy(&rig);
}

Test(tcp, a_slice_with_the_key_but_another_epoch_is_lost_at_once)
{
	struct wire_hello hello;
	struct rig rig;

	rig_init(&rig, 2, RIG_TCP);
	rig_create(&rig, 0, NULL);
	hello = rig_hello(&rig, 1);
	hello.epoch = 3;
	rig_create(&rig, 1, &hello);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], -PANGEA_EPEERVM);
	assert_says(rig.slice[0].lost_why[1], "epoch 3");
	assert_says(rig.slice[1].lost_why[0], "epoch 1");
	rig_destroy(&rig);
}

Test(tcp, a_port_in_use_is_said)
{
	struct rig rig;
	struct transport_config config;
	static const struct pair_keys keys;
	struct transport *t;
	unsigned port;

	rig_init(&rig, 1, RIG_TCP);
	rig_create(&rig, 0, NULL);
	config = (struct transport_config){
		.loop = &rig.loop, .hello = rig_hello(&rig, 0), .keys = &keys};
	cr_assert_eq(transport_net_create(&config, "127.0.0.1", rig.slice[0].port, &port, &t),
		     -EADDRINUSE);
	cr_assert_eq(transport_net_create(&config, "192.0.2.1", 0, &port, &t), -EADDRNOTAVAIL);
	cr_assert_eq(transport_net_create(&config, "localhost", 0, &port, &t), -EINVAL);
	cr_assert_eq(transport_net_create(&config, "127.0.0.1", 65536, &port, &t), -EINVAL);
	cr_assert_eq(transport_net_create(&config, NULL, 0, &port, &t), -EINVAL);
	rig_destroy(&rig);
}

Test(tcp, an_address_that_does_not_parse_is_refused)
{
	static const char *const bad[] = {
		"", ":1", "127.0.0.1", "127.0.0.1:", "host:1", "127.0.0.1:x", NULL};
	struct rig rig;

	rig_init(&rig, 2, RIG_TCP);
	rig_create(&rig, 1, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *addresses[2] = {bad[i], NULL};

		cr_assert_eq(
			rig.slice[1].transport->ops->connect(rig.slice[1].transport, addresses),
			-EINVAL);
	}
	rig_destroy(&rig);
}

static void header_is_fatal(const struct wire_msg *msg, int err)
{
	uint8_t buf[WIRE_HEADER_SIZE];
	struct rig rig;
	int fd = raw_peer_up(&rig);

	wire_msg_encode(msg, buf);
	raw_write(fd, buf, sizeof(buf));
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], err);
	assert_says(rig.slice[0].lost_why[1], error_text(err));
	cr_assert_eq(rig.slice[0].received, 0);
	close(fd);
	rig_destroy(&rig);
}

Test(tcp, malformed_headers_close_the_connection)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST, .payload_len = WIRE_PAYLOAD_MAX + 1};

	header_is_fatal(&msg, -PANGEA_EWIRELEN);
	msg.payload_len = UINT32_MAX;
	header_is_fatal(&msg, -PANGEA_EWIRELEN);
	msg = (struct wire_msg){.type = 33};
	header_is_fatal(&msg, -PANGEA_EWIRE);
	msg = (struct wire_msg){.type = MSG_GET_S, .payload_len = 4096};
	header_is_fatal(&msg, -PANGEA_EWIRE);
}

Test(tcp, half_a_message_and_the_end_is_a_loss)
{
	static const unsigned lens[] = {1, 31, 32, 33, 500, 4127};
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST, .payload_len = 4096};
	uint8_t buf[WIRE_HEADER_SIZE + 4096] = {0};

	wire_msg_encode(&msg, buf);
	for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct rig rig;
		int fd = raw_peer_up(&rig);

		raw_write(fd, buf, lens[i]);
		rig_run_ms(&rig, 5);
		close(fd);
		cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
		cr_assert_eq(rig.slice[0].lost_err[1], -PANGEA_EPEERLOST);
		assert_says(rig.slice[0].lost_why[1], "in the middle of a message");
		cr_assert_eq(rig.slice[0].received, 0);
		rig_destroy(&rig);
	}
}

Test(tcp, messages_cut_anywhere_are_put_together)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST};
	uint8_t stream[4 * (WIRE_HEADER_SIZE + 700)];
	unsigned len = 0, messages = 0;
	struct rig rig;
	int fd;

	for (unsigned arg = 0; arg < 4; arg++) {
		msg.arg = arg;
		msg.payload_len = arg * 230;
		wire_msg_encode(&msg, stream + len);
		len += WIRE_HEADER_SIZE;
		for (unsigned i = 0; i < msg.payload_len; i++)
			stream[len++] = (uint8_t)(arg * 31 + i * 7 + i / 256);
	}
	fd = raw_peer_up(&rig);
	for (unsigned cut = 1; cut < len; cut += 13) {
		rig.slice[0].next[1] = 0;
		raw_write(fd, stream, cut);
		uv_run(&rig.loop, UV_RUN_NOWAIT);
		raw_write(fd, stream + cut, len - cut);
		messages += 4;
		cr_assert(rig_until(&rig, &rig.slice[0].received, messages));
		cr_assert_eq(rig.slice[0].bad, 0, "cut at %u", cut);
	}
	for (unsigned at = 0; at < len; at++) { /* and a byte at a time */
		if (at == 0)
			rig.slice[0].next[1] = 0;
		raw_write(fd, stream + at, 1);
		uv_run(&rig.loop, UV_RUN_NOWAIT);
	}
	cr_assert(rig_until(&rig, &rig.slice[0].received, messages + 4));
	cr_assert_eq(rig.slice[0].bad, 0);
	close(fd);
	rig_destroy(&rig);
}

Test(tcp, a_reset_is_a_loss)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct rig rig;
	int fd = raw_peer_up(&rig);

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], -PANGEA_EPEERLOST);
	rig_destroy(&rig);
}

Test(tcp, nobody_is_accepted_once_all_have_come)
{
	static const struct pair_keys keys;
	struct rig rig;

	rig_init(&rig, 2, RIG_TCP);
	rig_up(&rig);
	rig_run_ms(&rig, 5);
	struct transport_config config = {
		.loop = &rig.loop, .hello = rig_hello(&rig, 0), .keys = &keys};
	struct transport *t;
	unsigned port;

	/* The port is free again. */
	cr_assert_eq(transport_net_create(&config, "127.0.0.1", rig.slice[0].port, &port, &t), 0);
	t->ops->close(t);
	rig_destroy(&rig);
}
