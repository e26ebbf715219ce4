/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio console: what is printed comes out once and in order, what is typed comes in, and neither is lost. */
#include <criterion/criterion.h>
#include <poll.h>
#include <string.h>

#include "base/error.h"
#include "tests/unit/virtio/driver.h"
#include "tests/unit/virtio/fake_bus.h"
#include "vmm/virtio/virtio_console.h"

#define RECEIVE	 0u
#define TRANSMIT 1u

static struct driver_ram ram;
static struct driver_queue queue[2];
static struct virtio bus;
static struct virtio_device device;
static struct virtio_console *console;
static uint8_t printed[1 << 20];
static size_t printed_bytes;
static unsigned rooms;

static void output(void *ctx, const uint8_t *bytes, size_t len)
{
	cr_assert_eq(ctx, printed);
	cr_assert(len > 0 && len <= sizeof(printed) - printed_bytes);
	memcpy(printed + printed_bytes, bytes, len);
	printed_bytes += len;
}

static void input_room(void *ctx)
{
	cr_assert_eq(ctx, printed);
	rooms++;
}

static void start(void)
{
	bus.queues = 2;
	for (unsigned i = 0; i < 2; i++) {
		driver_queue_init(&queue[i], &ram.mem, i, 256, true);
		cr_assert_eq(virtqueue_init(&bus.queue[i], &queue[i].config, &ram.mem), 0);
	}
	cr_assert_eq(device.ops->start(device.dev, &bus), 0);
	cr_assert_eq(device.ops->work(device.dev, &bus, 3), 0);
}

static void begin(void)
{
	const struct virtio_console_config config = {
		.name = "console", .ctx = printed, .output = output, .input_room = input_room};

	driver_ram_open(&ram);
	cr_assert_eq(virtio_console_create(&config, &device, &console), 0);
	cr_assert(device.queues == 2 && device.features == 0 && device.config_size == 0);
	cr_assert_eq(device.ops->id, VIRTIO_ID_CONSOLE);
	start();
}

static void end(void)
{
	device.ops->stop(device.dev, &bus);
	device.ops->destroy(device.dev);
	driver_ram_close(&ram);
}

/* Whether the device's thread would wake by itself. */
static bool wakes(void)
{
	struct pollfd fds[VIRTIO_POLL_MAX];
	int timeout_ms = -1;
	unsigned count = device.ops->poll(device.dev, &bus, fds, &timeout_ms);

	return timeout_ms == 0 || poll(fds, count, 0) > 0;
}

static int work(uint32_t notified)
{
	return device.ops->work(device.dev, &bus, notified);
}

/* Gives the device room for input; each buffer lies for itself. */
static void room_give(unsigned count, uint32_t bytes)
{
	static unsigned number;

	for (unsigned i = 0; i < count; i++) {
		struct driver_piece piece = {DRIVER_DATA + (number++ % 1024) * 16384, bytes, true};

		driver_add(&queue[RECEIVE], &piece, 1, false);
	}
}

Test(virtio_console, prints_in_order)
{
	struct driver_piece pieces[] = {{DRIVER_DATA, 5, false}, {DRIVER_DATA + 100, 10000, false}};
	uint16_t head;
	uint32_t len;

	begin();
	memcpy(driver_at(&ram.mem, DRIVER_DATA), "hello", 5);
	for (unsigned i = 0; i < 10000; i++)
		((uint8_t *)driver_at(&ram.mem, DRIVER_DATA + 100))[i] = (uint8_t)(i % 251);
	driver_add(&queue[TRANSMIT], pieces, 2, true);
	driver_add(&queue[TRANSMIT], pieces, 1, false);
	cr_assert_eq(work(1u << TRANSMIT), 0);
	cr_assert_eq(printed_bytes, 10010);
	cr_assert_eq(memcmp(printed, "hello", 5), 0);
	for (unsigned i = 0; i < 10000; i++)
		cr_assert_eq(printed[5 + i], i % 251);
	cr_assert_eq(memcmp(printed + 10005, "hello", 5), 0);
	cr_assert(driver_used(&queue[TRANSMIT], &head, &len));
	cr_assert(driver_used(&queue[TRANSMIT], &head, &len));
	cr_assert_eq(len, 0);
	cr_assert_gt(bus.interrupts[TRANSMIT], 0);
	cr_assert_not(wakes());
	end();
}

Test(virtio_console, hands_over_what_is_typed)
{
	uint16_t head;
	uint32_t len;
	uint64_t first;

	begin();
	room_give(1, 4);
	cr_assert_eq(work(1u << RECEIVE), 0);
	cr_assert_not(driver_used(&queue[RECEIVE], &head, &len), "nothing was typed");
	cr_assert_eq(virtio_console_input(console, (const uint8_t *)"abcdefg", 7), 7);
	cr_assert(wakes());
	cr_assert_eq(work(0), 0);
	memcpy(&first, driver_at(&ram.mem, queue[RECEIVE].config.descriptors), 8);
	cr_assert(driver_used(&queue[RECEIVE], &head, &len));
	cr_assert_eq(len, 4);
	cr_assert_eq(memcmp(driver_at(&ram.mem, first), "abcd", 5), 0);
	cr_assert_not(driver_used(&queue[RECEIVE], &head, &len));
	cr_assert_gt(bus.interrupts[RECEIVE], 0);
	cr_assert_not(wakes(), "it waits for the driver");
	room_give(1, 100);
	cr_assert_eq(work(1u << RECEIVE), 0);
	memcpy(&first, driver_at(&ram.mem, queue[RECEIVE].config.descriptors), 8);
	cr_assert(driver_used(&queue[RECEIVE], &head, &len));
	cr_assert_eq(len, 3);
	cr_assert_eq(memcmp(driver_at(&ram.mem, first), "efg", 4), 0);
	end();
}

/* Input has a limit, and each byte of a long one comes in, once. */
Test(virtio_console, loses_nothing_of_what_is_typed)
{
	static uint8_t typed[100000], seen[100000];
	size_t offered = 0, got = 0, taken;
	unsigned rounds = 0;

	begin();
	for (unsigned i = 0; i < sizeof(typed); i++)
		typed[i] = (uint8_t)(i * 7 + i / 256);
	taken = virtio_console_input(console, typed, sizeof(typed));
	cr_assert_eq(taken, VIRTIO_CONSOLE_INPUT_MAX);
	cr_assert_eq(virtio_console_input(console, typed, 1), 0);
	for (offered = taken; got < sizeof(typed); rounds++) {
		unsigned before = rooms;
		uint16_t head;
		uint32_t len;
		uint64_t at;

		cr_assert_lt(rounds, 1000000);
		room_give(1 + rounds % 3, 1 + rounds % 97);
		cr_assert_eq(work(1u << RECEIVE), 0);
		for (;;) {
			uint16_t used = queue[RECEIVE].last_used;
			uint32_t id;

			memcpy(&id,
			       driver_at(&ram.mem,
					 queue[RECEIVE].config.device + 4 + 8u * (used % 256)),
			       4);
			if (!driver_used(&queue[RECEIVE], &head, &len))
				break;
			memcpy(&at,
			       driver_at(&ram.mem, queue[RECEIVE].config.descriptors + 16u * id),
			       8);
			memcpy(seen + got, driver_at(&ram.mem, at), len);
			got += len;
		}
		if (rooms > before) {
			taken = virtio_console_input(console, typed + offered,
						     sizeof(typed) - offered);
			cr_assert(taken > 0 || offered == sizeof(typed));
			offered += taken;
		}
	}
	cr_assert_eq(offered, sizeof(typed));
	cr_assert_eq(memcmp(seen, typed, sizeof(typed)), 0);
	end();
}

Test(virtio_console, keeps_what_was_typed_across_a_reset)
{
	uint16_t head;
	uint32_t len;

	begin();
	cr_assert_eq(virtio_console_input(console, (const uint8_t *)"xy", 2), 2);
	cr_assert_eq(work(0), 0);
	device.ops->stop(device.dev, &bus);
	start();
	room_give(1, 16);
	cr_assert_eq(work(1u << RECEIVE), 0);
	cr_assert(driver_used(&queue[RECEIVE], &head, &len));
	cr_assert_eq(len, 2);
	end();
}

Test(virtio_console, refuses_buffers_of_the_wrong_kind)
{
	const struct driver_piece in = {DRIVER_DATA, 4, true}, out = {DRIVER_DATA, 4, false};

	begin();
	driver_add(&queue[TRANSMIT], &in, 1, false);
	cr_assert_eq(work(1u << TRANSMIT), -PANGEA_EDRIVER);
	end();
	begin();
	cr_assert_eq(virtio_console_input(console, (const uint8_t *)"x", 1), 1);
	driver_add(&queue[RECEIVE], &out, 1, false);
	cr_assert_eq(work(1u << RECEIVE), -PANGEA_EDRIVER);
	end();
}

/* A driver that prints without end does not keep the device from what is typed. */
Test(virtio_console, takes_turns)
{
	const struct driver_piece piece = {DRIVER_DATA, 8, false};
	uint16_t head;
	uint32_t len;

	begin();
	for (unsigned i = 0; i < 256; i++)
		driver_add(&queue[TRANSMIT], &piece, 1, false);
	cr_assert_eq(work(1u << TRANSMIT), 0);
	cr_assert_eq(printed_bytes, 256 * 8);
	cr_assert(wakes(), "it looks again by itself");
	while (driver_used(&queue[TRANSMIT], &head, &len))
		;
	driver_add(&queue[TRANSMIT], &piece, 1, false);
	cr_assert_eq(work(0), 0);
	cr_assert_eq(printed_bytes, 257 * 8);
	cr_assert_not(wakes());
	end();
}
