/* SPDX-License-Identifier: Apache-2.0 */
/* The file system device: requests and answers are copied whole, and neither driver nor back end is believed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/virtio/driver.h"
#include "tests/unit/virtio/fake_back_end.h"
#include "tests/unit/virtio/fake_bus.h"
#include "vmm/vhost/vhost_user.h"
#include "vmm/virtio/virtio_fs.h"

#define HIGH	    VIRTIO_FS_QUEUE_HIGH
#define REQUEST	    1u
#define HEADER	    40u
#define OUT_HEADER  16u
#define ROUNDS	    3000u
#define CHAIN_BYTES (UINT64_C(4) << 20)

static struct driver_ram ram;
static struct driver_queue queue[2];
static struct virtio bus;
static struct virtio_device device;
static struct fake_back_end back;

static void start(void)
{
	bus.queues = 2;
	bus.features = VIRTIO_F_VERSION_1;
	for (unsigned i = 0; i < 2; i++) {
		driver_queue_init(&queue[i], &ram.mem, i, 256, true);
		cr_assert_eq(virtqueue_init(&bus.queue[i], &queue[i].config, &ram.mem), 0);
	}
	cr_assert_eq(device.ops->start(device.dev, &bus), 0);
	cr_assert_eq(device.ops->work(device.dev, &bus, 3), 0);
}

static int create(const char *tag)
{
	struct virtio_fs_config config = {.name = "fs0", .tag = tag};

	config.fd = fake_start(&back);
	return virtio_fs_create(&config, &device);
}

static void begin(void)
{
	driver_ram_open(&ram);
	fake_init(&back, 0);
	back.queues = 2;
	cr_assert_eq(create("shared"), 0);
	fake_settle(&back);
	start();
}

static void end(void)
{
	device.ops->stop(device.dev, &bus);
	device.ops->destroy(device.dev);
	fake_close(&back);
	driver_ram_close(&ram);
}

static int work(uint32_t notified)
{
	return device.ops->work(device.dev, &bus, notified);
}

/* A request of `out` bytes with its header, and room for `in` bytes, in pieces of at most `piece`. */
static uint16_t offer(unsigned q, uint64_t at, uint32_t unique, uint32_t out, uint32_t in,
		      uint32_t piece)
{
	const uint32_t words[4] = {out, 15, unique, 0};
	struct driver_piece pieces[256];
	unsigned count = 0;
	uint8_t *bytes = driver_at(&ram.mem, at);

	for (uint32_t i = 0; i < out; i++)
		bytes[i] = (uint8_t)(i * 7 + unique);
	memcpy(bytes, words, out < sizeof(words) ? out : sizeof(words));
	memset(bytes + out, 0xee, in);
	for (uint32_t done = 0, len; done < out + in; done += len) {
		uint32_t end_of = done < out ? out : out + in;

		len = end_of - done < piece ? end_of - done : piece;
		cr_assert_lt(count, 256);
		pieces[count++] = (struct driver_piece){at + done, len, done >= out};
	}
	return driver_add(&queue[q], pieces, count, true);
}

static uint32_t word(uint64_t at, unsigned number)
{
	uint32_t value;

	memcpy(&value, (uint8_t *)driver_at(&ram.mem, at) + 4 * number, 4);
	return value;
}

/* All out-bytes of what the back end was given. */
static uint32_t gather(const struct fake_chain *c, uint8_t *out)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < c->parts; i++)
		if (!c->part[i].in) {
			memcpy(out + done, c->part[i].at, c->part[i].len);
			done += c->part[i].len;
		}
	return done;
}

/* Answers with `len` in the header and bytes that are their own place. */
static void answer(unsigned q, const struct fake_chain *c, uint32_t len)
{
	uint32_t done = 0;

	for (unsigned i = 0; i < c->parts; i++)
		for (uint32_t k = 0; c->part[i].in && k < c->part[i].len; k++, done++)
			c->part[i].at[k] =
				done < 4 ? (uint8_t)(len >> 8 * done) : (uint8_t)(done * 3);
	fake_use(&back, q, c->head, 0);
}

/* The driver's next answer must be this one's, of so many bytes. */
static void expect_used(unsigned q, uint16_t head, uint32_t len)
{
	uint16_t got;
	uint32_t bytes;

	cr_assert(driver_used(&queue[q], &got, &bytes), "there is no answer");
	cr_assert_eq(got, head);
	cr_assert_eq(bytes, len, "%u bytes, not %u", bytes, len);
}

static void expect_error(unsigned q, uint16_t head, uint64_t at, uint32_t unique, int error)
{
	expect_used(q, head, OUT_HEADER);
	cr_assert_eq(word(at, 0), OUT_HEADER);
	cr_assert_eq((int32_t)word(at, 1), error);
	cr_assert_eq(word(at, 2), unique);
}

Test(fs, says_what_it_is)
{
	uint8_t space[40];

	begin();
	cr_assert_eq(device.ops->id, VIRTIO_ID_FS);
	cr_assert(device.queues == 2 && device.features == 0 && device.config_size == 40);
	device.ops->config_read(device.dev, 0, 40, space);
	cr_assert_str_eq((char *)space, "shared");
	cr_assert_eq(space[36], 1);
	end();
}

Test(fs, refuses_tags_and_back_ends_that_are_none)
{
	driver_ram_open(&ram);
	for (unsigned i = 0; i < 3; i++) {
		char tag[64] = {0};

		memset(tag, 't', i == 0 ? 0 : i == 1 ? 37 : 36);
		fake_init(&back, 0);
		back.queues = i == 2 ? 1 : 2;
		cr_assert_eq(create(tag), i == 2 ? -PANGEA_EPROTOCOL : -EINVAL);
		fake_settle(&back);
		fake_close(&back);
	}
	driver_ram_close(&ram);
}

Test(fs, requests_and_answers_are_copied)
{
	static const uint32_t shape[][3] = {{HEADER, 16, 4096},
					    {HEADER + 1, 4096, 4096},
					    {HEADER + 4096, 16, 100},
					    {HEADER + 40000, 70000, 4096},
					    {1052672, 1052672, 16384}};
	uint8_t *got = malloc(CHAIN_BYTES);

	begin();
	for (unsigned i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
		uint32_t out = shape[i][0], in = shape[i][1];
		uint16_t head = offer(REQUEST, DRIVER_DATA, i, out, in, shape[i][2]);
		struct fake_chain c;

		cr_assert_eq(work(1u << REQUEST), 0);
		cr_assert(fake_take_chain(&back, REQUEST, &c));
		cr_assert_eq(c.part[0].len, HEADER, "back ends copy the header for itself");
		cr_assert_eq(gather(&c, got), out);
		cr_assert_eq(memcmp(got, driver_at(&ram.mem, DRIVER_DATA), out), 0);
		answer(REQUEST, &c, in);
		cr_assert_eq(work(0), 0);
		expect_used(REQUEST, head, in);
		cr_assert_eq(word(DRIVER_DATA + out, 0), in);
		for (uint32_t k = 4; k < in; k++)
			cr_assert_eq(((uint8_t *)driver_at(&ram.mem, DRIVER_DATA + out))[k],
				     (uint8_t)(k * 3));
	}
	end();
	free(got);
}

Test(fs, what_wants_no_answer_gets_none)
{
	struct fake_chain c;
	uint16_t head;

	begin();
	head = offer(HIGH, DRIVER_DATA, 1, HEADER + 8, 0, 4096);
	cr_assert_eq(work(1u << HIGH), 0);
	cr_assert_not(fake_take_chain(&back, REQUEST, &c));
	cr_assert(fake_take_chain(&back, HIGH, &c));
	fake_use(&back, HIGH, c.head, 0);
	cr_assert_eq(work(0), 0);
	expect_used(HIGH, head, 0);
	end();
}

/* A short answer touches no more than it says; one that cannot be is an error. */
Test(fs, lengths_of_answers_are_judged)
{
	static const uint32_t length[] = {16, 17, 1000, 15, 0, 4097, UINT32_MAX};

	begin();
	for (unsigned i = 0; i < sizeof(length) / sizeof(length[0]); i++) {
		bool good = length[i] >= OUT_HEADER && length[i] <= 4096;
		uint16_t head = offer(REQUEST, DRIVER_DATA, 100 + i, HEADER, 4096, 4096);
		const uint8_t *in = driver_at(&ram.mem, DRIVER_DATA + HEADER);
		struct fake_chain c;

		cr_assert_eq(work(1u << REQUEST), 0);
		cr_assert(fake_take_chain(&back, REQUEST, &c));
		answer(REQUEST, &c, length[i]);
		cr_assert_eq(work(0), 0);
		if (good)
			expect_used(REQUEST, head, length[i]);
		else
			expect_error(REQUEST, head, DRIVER_DATA + HEADER, 100 + i, -EIO);
		for (uint32_t k = good ? length[i] : OUT_HEADER; k < 4096; k++)
			cr_assert_eq(in[k], 0xee, "byte %u was written", k);
	}
	end();
}

Test(fs, requests_that_cannot_be_are_answered_here)
{
	uint32_t longest = VIRTIO_FS_BYTES_MAX;
	struct fake_chain c;
	uint16_t head;

	begin();
	head = offer(REQUEST, DRIVER_DATA, 1, longest + 1, 16, 8192);
	cr_assert_eq(work(1u << REQUEST), 0);
	expect_error(REQUEST, head, DRIVER_DATA + longest + 1, 1, -E2BIG);
	head = offer(REQUEST, DRIVER_DATA, 2, HEADER, longest + 1, 8192);
	cr_assert_eq(work(1u << REQUEST), 0);
	expect_error(REQUEST, head, DRIVER_DATA + HEADER, 2, -E2BIG);
	/* No room for an answer's header, and a header that says another length. */
	head = offer(REQUEST, DRIVER_DATA, 3, HEADER, 15, 8192);
	cr_assert_eq(work(1u << REQUEST), 0);
	expect_used(REQUEST, head, 0);
	head = offer(REQUEST, DRIVER_DATA, 4, HEADER + 8, 64, 8192);
	memset(driver_at(&ram.mem, DRIVER_DATA), 1, 1);
	cr_assert_eq(work(1u << REQUEST), 0);
	expect_error(REQUEST, head, DRIVER_DATA + HEADER + 8, 4, -EINVAL);
	cr_assert_not(fake_take_chain(&back, REQUEST, &c), "the back end saw one of them");
	/* No question at all. */
	offer(REQUEST, DRIVER_DATA, 5, HEADER - 1, 64, 8192);
	cr_assert_eq(work(1u << REQUEST), -PANGEA_EDRIVER);
	end();
}

Test(fs, a_back_end_that_is_lost_is_an_error_for_all)
{
	struct fake_chain c;
	uint16_t head[3];

	begin();
	head[0] = offer(REQUEST, DRIVER_DATA, 1, HEADER, 4096, 4096);
	head[1] = offer(HIGH, DRIVER_DATA + 65536, 2, HEADER, 0, 4096);
	cr_assert_eq(work(3), 0);
	cr_assert(fake_take_chain(&back, REQUEST, &c));
	shutdown(back.fd, SHUT_RDWR);
	cr_assert_eq(work(0), 0);
	expect_error(REQUEST, head[0], DRIVER_DATA + HEADER, 1, -ENOTCONN);
	expect_used(HIGH, head[1], 0);
	head[2] = offer(REQUEST, DRIVER_DATA, 3, HEADER, 4096, 4096);
	cr_assert_eq(work(1u << REQUEST), 0);
	expect_error(REQUEST, head[2], DRIVER_DATA + HEADER, 3, -ENOTCONN);
	end();
}

Test(fs, one_that_says_it_did_what_it_was_not_given_is_lost)
{
	uint16_t head;

	begin();
	head = offer(REQUEST, DRIVER_DATA, 1, HEADER, 4096, 4096);
	cr_assert_eq(work(1u << REQUEST), 0);
	fake_use(&back, REQUEST, 77, 0);
	cr_assert_eq(work(0), 0);
	expect_error(REQUEST, head, DRIVER_DATA + HEADER, 1, -ENOTCONN);
	end();
}

/* What was asked before a reset is never answered into the memory of who comes after it. */
Test(fs, a_reset_comes_between)
{
	struct fake_chain old, c;
	uint16_t head;

	begin();
	offer(REQUEST, DRIVER_DATA, 1, HEADER, 4096, 4096);
	cr_assert_eq(work(1u << REQUEST), 0);
	cr_assert(fake_take_chain(&back, REQUEST, &old));
	device.ops->stop(device.dev, &bus);
	start();
	head = offer(REQUEST, DRIVER_DATA + 65536, 2, HEADER, 4096, 4096);
	cr_assert_eq(work(1u << REQUEST), 0);
	cr_assert_not(fake_take_chain(&back, REQUEST, &c), "it came before the old one's end");
	answer(REQUEST, &old, 4096);
	cr_assert_eq(work(0), 0);
	cr_assert_eq(word(DRIVER_DATA + HEADER, 0), 0xeeeeeeee);
	cr_assert(fake_take_chain(&back, REQUEST, &c));
	answer(REQUEST, &c, 100);
	cr_assert_eq(work(0), 0);
	expect_used(REQUEST, head, 100);
	end();
}

/* More than the arena holds waits, and each is answered once. */
Test(fs, all_of_a_full_queue_are_served)
{
	unsigned answered = 0, taken = 0;
	struct fake_chain c;
	uint16_t head;
	uint32_t len;

	begin();
	for (unsigned i = 0; i < 40; i++)
		offer(REQUEST, DRIVER_DATA + i * (UINT64_C(1) << 20), i, HEADER, 500000, 4096);
	for (unsigned rounds = 0; answered < 40; rounds++) {
		cr_assert_lt(rounds, 100);
		cr_assert_eq(work(rounds ? 0 : 1u << REQUEST), 0);
		while (fake_take_chain(&back, REQUEST, &c)) {
			taken++;
			answer(REQUEST, &c, 500000);
		}
		cr_assert_eq(work(0), 0);
		while (driver_used(&queue[REQUEST], &head, &len)) {
			cr_assert_eq(len, 500000);
			answered++;
		}
	}
	cr_assert_eq(taken, 40);
	end();
}

/* Requests of any shape, and a back end that answers anything in any order. */
Test(fs, nonsense_of_both_sides_is_survived)
{
	struct fake_chain *open = calloc(64, sizeof(*open));
	unsigned opened = 0, offered = 0, answered = 0, seed = 20260101;
	uint16_t head;
	uint32_t len;

	printf("seed %u\n", seed);
	srand(seed);
	begin();
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned q = (unsigned)rand() % 2;

		if (offered - answered < 60) {
			uint32_t out = HEADER + (uint32_t)rand() % (rand() % 8 ? 300 : 70000);
			uint32_t in = (uint32_t)rand() % (rand() % 8 ? 300 : 70000);

			offer(q, DRIVER_DATA + i % 128 * 200000, i, out, in,
			      1000 + (uint32_t)rand() % 5000);
			offered++;
			if (rand() % 8 == 0)
				memset(driver_at(&ram.mem, DRIVER_DATA + i % 128 * 200000), rand(),
				       4);
		}
		cr_assert_eq(work(1u << q), 0);
		for (unsigned k = 0; k < 2 && opened < 64; k++)
			opened += fake_take_chain(&back, k, &open[opened]);
		/* Each queue has a half of the arena, which tells whose a request is. */
		while (opened > 0 && rand() % 3) {
			struct fake_chain *one = &open[(unsigned)rand() % opened];
			unsigned of = one->part[0].at >= back.memory + back.bytes / 2;

			answer(of, one, rand() % 4 ? (uint32_t)rand() % 80000 : (uint32_t)rand());
			*one = open[--opened];
		}
		cr_assert_eq(work(0), 0);
		for (unsigned k = 0; k < 2; k++)
			while (driver_used(&queue[k], &head, &len))
				answered++;
	}
	while (opened > 0) {
		struct fake_chain *one = &open[--opened];

		answer(one->part[0].at >= back.memory + back.bytes / 2, one, 16);
	}
	for (unsigned rounds = 0; answered < offered; rounds++) {
		cr_assert_lt(rounds, 100, "%u of %u are answered", answered, offered);
		cr_assert_eq(work(3), 0);
		for (unsigned k = 0; k < 2; k++) {
			while (fake_take_chain(&back, k, &open[0]))
				answer(k, &open[0], 16);
			while (driver_used(&queue[k], &head, &len))
				answered++;
		}
	}
	end();
	free(open);
}
