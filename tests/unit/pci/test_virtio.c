/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device by its registers: negotiation, queues, interrupts, resets, and drivers that break rules. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/pci/pci_driver.h"
#include "vmm/virtio/virtio_rng.h"

#define FEATURE_OWN 1u
#define CONFIG_SIZE 12u

/* ---- a device that echoes, and says what was done to it ---- */

struct echo {
	_Atomic unsigned starts, stops, destroys;
	_Atomic uint64_t features;
	_Atomic bool blocks; /* work holds on until this is false */
	int start_error;
};

static void echo_config(void *dev, unsigned offset, unsigned size, uint8_t *out)
{
	(void)dev;
	for (unsigned i = 0; i < size; i++)
		out[i] = (uint8_t)(0xa0 + offset + i);
}

static int echo_start(void *dev, struct virtio *v)
{
	struct echo *e = dev;

	atomic_fetch_add(&e->starts, 1);
	atomic_store(&e->features, virtio_features(v));
	return e->start_error;
}

static int echo_work(void *dev, struct virtio *v, uint32_t notified)
{
	struct echo *e = dev;
	struct virtqueue_chain chain;
	uint8_t bytes[64];
	int got = 0;

	while (atomic_load(&e->blocks))
		usleep(1000);
	for (unsigned i = 0; i < 2; i++) {
		struct virtqueue *q = virtio_queue(v, i);

		if (!(notified >> i & 1))
			continue;
		while (q && (got = virtqueue_pop(q, &chain)) == 1) {
			uint32_t len = virtqueue_read(&chain, 0, bytes, sizeof(bytes));

			virtqueue_push(q, chain.head, virtqueue_write(q, &chain, 0, bytes, len));
		}
		if (got < 0)
			return got;
		if (q)
			virtio_interrupt(v, i);
	}
	return 0;
}

static void echo_stop(void *dev, struct virtio *v)
{
	struct echo *e = dev;

	(void)v;
	atomic_fetch_add(&e->stops, 1);
}

static void echo_destroy(void *dev)
{
	struct echo *e = dev;

	atomic_fetch_add(&e->destroys, 1);
}

static struct echo echo;

static struct virtio_device echo_device(void)
{
	static const struct virtio_ops ops = {.name = "echo",
					      .id = 60,
					      .config_read = echo_config,
					      .start = echo_start,
					      .work = echo_work,
					      .stop = echo_stop,
					      .destroy = echo_destroy};

	return (struct virtio_device){.ops = &ops,
				      .dev = &echo,
				      .name = "echo",
				      .features = FEATURE_OWN,
				      .queues = 2,
				      .queue_size = 64,
				      .config_size = CONFIG_SIZE};
}

static struct pci_driver *echo_new(void)
{
	const struct virtio_device device = echo_device();

	return pci_driver_new(&device);
}

#define BUFFER(n) (DRIVER_DATA + (uint64_t)(n) * 0x1000)

static void echo_round(struct pci_driver *d, unsigned queue, uint16_t head, const char *text)
{
	uint32_t len = (uint32_t)strlen(text) + 1, written;
	struct pci_buffer b = {BUFFER(0), BUFFER(1), len, 64};
	uint16_t used;

	memset(d->ram + BUFFER(1), 0, 64);
	memcpy(d->ram + BUFFER(0), text, len);
	pci_driver_put(d, queue, head, &b, true);
	pci_driver_await(d, queue, &used, &written);
	cr_assert_eq(used, head);
	cr_assert_eq(written, len);
	cr_assert_str_eq((char *)d->ram + BUFFER(1), text);
}

/* ---- what goes well ---- */

Test(virtio, a_buffer_goes_there_and_back)
{
	struct pci_driver *d = echo_new();

	cr_assert_eq(pci_driver_features_offered(d), FEATURE_OWN | VIRTIO_F_VERSION_1 |
							     VIRTIO_F_EVENT_IDX |
							     VIRTIO_F_INDIRECT_DESC);
	cr_assert(pci_driver_up(d, FEATURE_OWN | VIRTIO_F_VERSION_1));
	echo_round(d, 0, 0, "first");
	echo_round(d, 1, 2, "second");
	pci_driver_until(atomic_load(&d->interrupts[0]) == 1 &&
			 atomic_load(&d->interrupts[1]) == 1);
	cr_assert_eq(atomic_load(&echo.features), FEATURE_OWN | VIRTIO_F_VERSION_1);
	cr_assert_eq(pci_driver_read(d, d->isr, 1), 1);
	cr_assert_eq(pci_driver_read(d, d->isr, 1), 0, "reading it acknowledges");
	pci_driver_free(d);
	cr_assert_eq(atomic_load(&echo.starts), 1);
	cr_assert_eq(atomic_load(&echo.stops), 1);
	cr_assert_eq(atomic_load(&echo.destroys), 1);
}

Test(virtio, buffers_that_are_there_at_the_start_need_no_notification)
{
	struct pci_driver *d = echo_new();
	struct pci_buffer b = {BUFFER(0), BUFFER(1), 4, 4};
	uint32_t written;
	uint16_t head;

	atomic_store(&echo.blocks, true);
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_put(d, 0, 4, &b, false);
	atomic_store(&echo.blocks, false);
	pci_driver_await(d, 0, &head, &written);
	cr_assert_eq(head, 4);
	pci_driver_free(d);
}

Test(virtio, a_reset_makes_a_device_as_new)
{
	struct pci_driver *d = echo_new();

	for (unsigned round = 1; round <= 3; round++) {
		cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
		echo_round(d, 0, 0, "again");
		pci_driver_reset(d);
		cr_assert_eq(atomic_load(&echo.stops), round);
		pci_driver_write(d, d->common + 0x16, 2, 0);
		cr_assert_eq(pci_driver_read(d, d->common + 0x1c, 2), 0, "no queue is enabled");
		cr_assert_eq(pci_driver_read(d, d->common + 0x18, 2), 64,
			     "its size is the largest again");
		cr_assert_eq(pci_driver_read(d, d->common + 0x1a, 2), 0xffff, "no vector");
	}
	pci_driver_free(d);
}

/* The status register reads 0 only when nothing of guest memory is touched any more. */
Test(virtio, a_reset_is_seen_when_it_is_over)
{
	struct pci_driver *d = echo_new();

	atomic_store(&echo.blocks, true);
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_until(atomic_load(&echo.starts) == 1);
	pci_driver_write(d, d->common + 0x14, 1, 0);
	usleep(20000);
	cr_assert_neq(pci_driver_status(d), 0);
	cr_assert_eq(atomic_load(&echo.stops), 0);
	atomic_store(&echo.blocks, false);
	pci_driver_until(pci_driver_status(d) == 0);
	cr_assert_eq(atomic_load(&echo.stops), 1);
	pci_driver_free(d);
}

Test(virtio, the_configuration_is_read_and_changes)
{
	struct pci_driver *d = echo_new();
	uint32_t generation;

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	cr_assert_eq(pci_driver_read(d, d->config, 4), 0xa3a2a1a0);
	cr_assert_eq(pci_driver_read(d, d->config + CONFIG_SIZE - 1, 1), 0xa0 + CONFIG_SIZE - 1);
	cr_assert_eq(pci_driver_read(d, d->config + CONFIG_SIZE - 1, 2), 0,
		     "half of it is behind the end");
	generation = pci_driver_read(d, d->common + 0x15, 1);
	virtio_config_changed(d->device);
	cr_assert_eq(atomic_load(&d->interrupts[VIRTIO_QUEUES_MAX]), 1);
	cr_assert_neq(pci_driver_read(d, d->common + 0x15, 1), generation);
	cr_assert_eq(pci_driver_read(d, d->isr, 1), 2);
	pci_driver_free(d);
}

/* Section 4.1.4.9: everything in the BAR can be reached through configuration space. */
Test(virtio, the_window_in_configuration_space)
{
	struct pci_driver *d = echo_new();
	unsigned at = pci_ecam_read(&d->bus, (1u << 15) + PCI_CAPS, 1);

	while (pci_ecam_read(&d->bus, (1u << 15) + at + 3, 1) != 5)
		at = pci_ecam_read(&d->bus, (1u << 15) + at + 1, 1);
	at += 1u << 15;
	pci_ecam_write(&d->bus, at + 4, 1, 0);
	pci_ecam_write(&d->bus, at + 8, 4, d->config);
	pci_ecam_write(&d->bus, at + 12, 4, 4);
	cr_assert_eq(pci_ecam_read(&d->bus, at + 16, 4), 0xa3a2a1a0);
	pci_ecam_write(&d->bus, at + 8, 4, d->common + 0x14);
	pci_ecam_write(&d->bus, at + 12, 4, 1);
	pci_ecam_write(&d->bus, at + 16, 1, VIRTIO_STATUS_ACKNOWLEDGE);
	cr_assert_eq(pci_driver_status(d), VIRTIO_STATUS_ACKNOWLEDGE);
	/* What leads nowhere does nothing. */
	pci_ecam_write(&d->bus, at + 8, 4, UINT32_MAX);
	pci_ecam_read(&d->bus, at + 16, 4);
	pci_ecam_write(&d->bus, at + 12, 4, 3);
	pci_ecam_write(&d->bus, at + 16, 4, 0);
	pci_ecam_write(&d->bus, at + 12, 4, 0);
	pci_ecam_read(&d->bus, at + 16, 4);
	cr_assert_eq(pci_driver_status(d), VIRTIO_STATUS_ACKNOWLEDGE);
	pci_driver_free(d);
}

/* ---- drivers that break rules ---- */

Test(virtio, features_that_are_not_offered_are_refused)
{
	struct pci_driver *d = echo_new();

	cr_assert_not(pci_driver_up(d, VIRTIO_F_VERSION_1 | 2));
	cr_assert_not(pci_driver_up(d, FEATURE_OWN), "without VERSION_1");
	pci_driver_write(d, d->common + 0x14, 1, pci_driver_status(d) | VIRTIO_STATUS_DRIVER_OK);
	cr_assert_not(pci_driver_status(d) & VIRTIO_STATUS_DRIVER_OK, "not without FEATURES_OK");
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_free(d);
}

Test(virtio, a_queue_outside_of_memory_needs_a_reset)
{
	struct pci_driver *d = echo_new();

	pci_driver_reset(d);
	pci_driver_write(d, d->common + 0x08, 4, 1);
	pci_driver_write(d, d->common + 0x0c, 4, 1);
	pci_driver_write(d, d->common + 0x14, 1, 0xb);
	pci_driver_write(d, d->common + 0x16, 2, 0);
	pci_driver_write(d, d->common + 0x24, 4, 0xffff);
	pci_driver_write(d, d->common + 0x1c, 2, 1);
	pci_driver_write(d, d->common + 0x14, 1, 0xf);
	pci_driver_until(pci_driver_status(d) & VIRTIO_STATUS_NEEDS_RESET);
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	echo_round(d, 0, 0, "alive");
	pci_driver_free(d);
}

Test(virtio, nonsense_in_a_ring_needs_a_reset)
{
	struct pci_driver *d = echo_new();
	struct pci_buffer b = {DRIVER_RAM_BYTES - 2, BUFFER(1), 4, 4};

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	echo_round(d, 0, 0, "before");
	pci_driver_put(d, 0, 2, &b, true);
	pci_driver_until(pci_driver_status(d) & VIRTIO_STATUS_NEEDS_RESET);
	pci_driver_until(atomic_load(&d->interrupts[VIRTIO_QUEUES_MAX]) == 1);
	cr_assert_eq(atomic_load(&echo.stops), 1);
	pci_driver_write(d, d->notify, 2, 0); /* no harm */
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	echo_round(d, 0, 0, "after");
	pci_driver_free(d);
}

Test(virtio, a_device_that_cannot_start)
{
	struct pci_driver *d;

	echo.start_error = -EIO;
	d = echo_new();
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_until(pci_driver_status(d) & VIRTIO_STATUS_NEEDS_RESET);
	pci_driver_free(d);
}

Test(virtio, registers_of_what_is_not_there)
{
	struct pci_driver *d = echo_new();

	pci_driver_reset(d);
	pci_driver_write(d, d->common + 0x16, 2, 2);
	cr_assert_eq(pci_driver_read(d, d->common + 0x18, 2), 0, "no third queue");
	pci_driver_write(d, d->common + 0x1c, 2, 1);
	pci_driver_write(d, d->common + 0x16, 2, 0xffff);
	pci_driver_write(d, d->common + 0x20, 4, 1);
	pci_driver_write(d, d->common + 0x16, 2, 0);
	cr_assert_eq(pci_driver_read(d, d->common + 0x20, 4), 0);
	pci_driver_write(d, d->common + 0x18, 2, 65);
	cr_assert_eq(pci_driver_read(d, d->common + 0x18, 2), 64,
		     "a size that is too large or no power of two");
	pci_driver_write(d, d->common + 0x1a, 2, 3);
	cr_assert_eq(pci_driver_read(d, d->common + 0x1a, 2), 0xffff, "there are three vectors");
	pci_driver_write(d, d->common + 0x10, 2, 9);
	cr_assert_eq(pci_driver_read(d, d->common + 0x10, 2), 0xffff);
	pci_driver_write(d, d->notify + 2 * d->notify_stride, 2, 2);
	for (uint32_t at = 0; at + 4 <= VIRTIO_PCI_BAR_SIZE; at += 4)
		pci_driver_read(d, at, 4);
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	echo_round(d, 1, 0, "alive");
	pci_driver_free(d);
}

Test(virtio, queues_that_are_in_use_do_not_change)
{
	struct pci_driver *d = echo_new();

	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_write(d, d->common + 0x16, 2, 0);
	pci_driver_write(d, d->common + 0x20, 4, 0x1000);
	pci_driver_write(d, d->common + 0x18, 2, 2);
	pci_driver_write(d, d->common + 0x1c, 2, 0);
	cr_assert_eq(pci_driver_read(d, d->common + 0x20, 4), d->queue[0].config.descriptors);
	cr_assert_eq(pci_driver_read(d, d->common + 0x18, 2), PCI_DRIVER_QUEUE_SIZE);
	cr_assert_eq(pci_driver_read(d, d->common + 0x1c, 2), 1);
	echo_round(d, 0, 0, "alive");
	pci_driver_free(d);
}

Test(virtio, devices_that_cannot_be)
{
	struct virtio_env env = {0};
	struct virtio_device device = echo_device();
	struct virtio *out;

	device.queues = VIRTIO_QUEUES_MAX + 1;
	cr_assert_eq(virtio_create(&device, &env, &out), -EINVAL);
	device = echo_device();
	device.queue_size = 48;
	cr_assert_eq(virtio_create(&device, &env, &out), -EINVAL);
	device = echo_device();
	device.config_size = VIRTIO_CONFIG_MAX + 1;
	cr_assert_eq(virtio_create(&device, &env, &out), -EINVAL);
	cr_assert_eq(atomic_load(&echo.destroys), 3, "they are taken over all the same");
}

/* ---- random numbers ---- */

Test(virtio, random_numbers)
{
	struct virtio_device device;
	struct pci_buffer b = {.in_gpa = BUFFER(0), .in_len = 64};
	unsigned zeroes = 0;
	uint32_t written;
	struct pci_driver *d;
	uint16_t head;

	virtio_rng_device(&device);
	d = pci_driver_new(&device);
	cr_assert(pci_driver_up(d, VIRTIO_F_VERSION_1));
	pci_driver_put(d, 0, 0, &b, true);
	pci_driver_await(d, 0, &head, &written);
	cr_assert_eq(written, 64);
	for (unsigned i = 0; i < 64; i++)
		zeroes += d->ram[BUFFER(0) + i] == 0;
	cr_assert_lt(zeroes, 16, "64 random bytes have 16 zeroes once in 10^24 times");
	b.in_len = 4096;
	pci_driver_put(d, 0, 0, &b, true);
	pci_driver_await(d, 0, &head, &written);
	cr_assert(written > 0 && written <= 4096);
	pci_driver_free(d);
}
