/* SPDX-License-Identifier: Apache-2.0 */
/* The device's side of a virtqueue: what it takes, what it refuses, when it interrupts. */
#include <criterion/criterion.h>
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "base/limits.h"
#include "tests/unit/virtio/driver.h"
#include "vmm/virtio/virtqueue.h"

static struct driver_ram ram;
static struct driver_queue driver;
static struct virtqueue queue;
static struct virtqueue_chain chain;

static void begin(uint16_t size, bool event_index)
{
	driver_ram_open(&ram);
	driver_queue_init(&driver, &ram.mem, 0, size, event_index);
	cr_assert_eq(virtqueue_init(&queue, &driver.config, &ram.mem), 0);
}

/* One descriptor, made available as it is. */
static int pop_one(uint64_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	begin(8, false);
	driver_descriptor(&driver, 0, gpa, len, flags, next);
	driver_offer(&driver, 0);
	return virtqueue_pop(&queue, &chain);
}

Test(guest_memory, has_a_hole)
{
	uint8_t *base = (uint8_t *)(UINT64_C(1) << 40); /* never touched */
	struct guest_memory mem = {.ram = base, .ram_end = GPA_HOLE_END + 8 * PANGEA_PAGE_SIZE};

	cr_assert_eq(guest_memory_at(&mem, 0, 1), base);
	cr_assert_eq(guest_memory_at(&mem, 0, GPA_HOLE_START), base);
	cr_assert_null(guest_memory_at(&mem, 0, GPA_HOLE_START + 1));
	cr_assert_eq(guest_memory_at(&mem, GPA_HOLE_START - 4, 4), base + GPA_HOLE_START - 4);
	cr_assert_null(guest_memory_at(&mem, GPA_HOLE_START - 4, 5));
	cr_assert_null(guest_memory_at(&mem, GPA_HOLE_START, 1));
	cr_assert_null(guest_memory_at(&mem, GPA_HOLE_END - 1, 2));
	cr_assert_eq(guest_memory_at(&mem, GPA_HOLE_END, 8 * PANGEA_PAGE_SIZE),
		     base + GPA_HOLE_END);
	cr_assert_null(guest_memory_at(&mem, GPA_HOLE_END, 8 * PANGEA_PAGE_SIZE + 1));
	cr_assert_null(guest_memory_at(&mem, mem.ram_end, 1));
	cr_assert_null(guest_memory_at(&mem, UINT64_MAX, 1));
	cr_assert_null(guest_memory_at(&mem, GPA_HOLE_END, UINT64_MAX));
	mem.ram_end = 3 * PANGEA_PAGE_SIZE;
	cr_assert_eq(guest_memory_at(&mem, PANGEA_PAGE_SIZE, 2 * PANGEA_PAGE_SIZE),
		     base + PANGEA_PAGE_SIZE);
	cr_assert_null(guest_memory_at(&mem, PANGEA_PAGE_SIZE, 2 * PANGEA_PAGE_SIZE + 1));
	cr_assert_null(guest_memory_at(&mem, GPA_HOLE_END, 1));
}

Test(guest_memory, images_are_for_reading)
{
	const struct shape_image image[] = {{.start = 0x40000000, .end = 0x40200000},
					    {.start = 0x80000000, .end = 0x80200000}};
	uint8_t *base = (uint8_t *)(UINT64_C(1) << 40); /* never touched */
	struct guest_memory mem = {.ram = base, .ram_end = 0x100000, .images = 2, .image = image};

	cr_assert_eq(guest_memory_readable(&mem, 0, 0x100000), base);
	cr_assert_null(guest_memory_readable(&mem, 0, 0x100001));
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(guest_memory_readable(&mem, image[i].start, 0x200000),
			     base + image[i].start);
		cr_assert_null(guest_memory_readable(&mem, image[i].start, 0x200001));
		cr_assert_null(guest_memory_readable(&mem, image[i].start - 1, 2));
		cr_assert_null(guest_memory_readable(&mem, image[i].end, 1));
		cr_assert_null(guest_memory_readable(&mem, image[i].start + 1, UINT64_MAX));
		cr_assert_null(guest_memory_at(&mem, image[i].start, 1));
	}
}

/* An image behind the driver's memory; the mapping is the test's own. */
static void image_map(struct shape_image *image)
{
	uint64_t start = DRIVER_RAM_BYTES + 2 * PANGEA_PAGE_SIZE;
	uint8_t *base = mmap(NULL, start + PANGEA_PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	cr_assert_neq(base, MAP_FAILED);
	memset(base + start, 0x3c, PANGEA_PAGE_SIZE);
	cr_assert_eq(mprotect(base + start, PANGEA_PAGE_SIZE, PROT_READ), 0);
	*image = (struct shape_image){.start = start, .end = start + PANGEA_PAGE_SIZE};
	ram.mem.ram = base;
	ram.mem.images = 1;
	ram.mem.image = image;
}

Test(virtqueue, sends_from_an_image_and_drops_what_is_for_it)
{
	const uint8_t bytes[] = {1, 2, 3, 4};
	struct shape_image image;
	uint8_t got[8];

	driver_ram_open(&ram);
	image_map(&image);
	driver_queue_init(&driver, &ram.mem, 0, 8, false);
	cr_assert_eq(virtqueue_init(&queue, &driver.config, &ram.mem), 0);
	driver_add(&driver,
		   (const struct driver_piece[]){{image.start + 8, 8, false},
						 {DRIVER_DATA, 2, true},
						 {image.start, 2, true}},
		   3, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_expect(chain.refused);
	cr_expect_eq(virtqueue_read(&chain, 0, got, sizeof(got)), sizeof(got));
	cr_expect_eq(got[0], 0x3c);
	cr_expect_eq(virtqueue_write(&queue, &chain, 0, bytes, 4), 4);
	cr_expect_eq(memcmp(driver_at(&ram.mem, DRIVER_DATA), bytes, 2), 0);
	cr_expect_eq(ram.mem.ram[image.start], 0x3c);
	virtqueue_push(&queue, chain.head, 4);
	/* One that only sends is as any other. */
	driver_add(&driver, &(const struct driver_piece){image.start, 16, false}, 1, true);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_expect_not(chain.refused);
	virtqueue_push(&queue, chain.head, 0);
	/* Beyond its end there is nothing. */
	driver_add(&driver, &(const struct driver_piece){image.end - 8, 16, false}, 1, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, rings_and_tables_do_not_lie_in_an_image)
{
	struct virtqueue_config config;
	struct shape_image image;

	driver_ram_open(&ram);
	image_map(&image);
	driver_queue_init(&driver, &ram.mem, 0, 8, false);
	config = driver.config;
	config.descriptors = image.start;
	cr_expect_eq(virtqueue_init(&queue, &config, &ram.mem), -EINVAL);
	cr_assert_eq(virtqueue_init(&queue, &driver.config, &ram.mem), 0);
	driver_descriptor(&driver, 0, image.start, 32, DRIVER_F_INDIRECT, 0);
	driver_offer(&driver, 0);
	cr_expect_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_rings_that_cannot_be)
{
	struct virtqueue_config good, bad;

	begin(8, true);
	good = driver.config;
	for (unsigned size = 0; size <= UINT16_MAX; size++) {
		bool fits = size && size <= VIRTQUEUE_SIZE_MAX && (size & (size - 1)) == 0;

		bad = good;
		bad.size = (uint16_t)size;
		cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), fits ? 0 : -EINVAL, "%u",
			     size);
	}
	bad = good, bad.descriptors += 8;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	bad = good, bad.driver += 1;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	bad = good, bad.device += 2;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	/* The last bytes of RAM: the rings with their event fields just fit, or just do not. */
	bad = good, bad.descriptors = DRIVER_RAM_BYTES - 8 * 16;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), 0);
	bad.descriptors += 16;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	bad = good, bad.driver = DRIVER_RAM_BYTES - (6 + 2 * 8);
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), 0);
	bad.driver += 2;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	bad = good, bad.device = DRIVER_RAM_BYTES - 72;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), 0);
	bad.device += 4;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	bad.device = GPA_HOLE_START;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
	bad.device = UINT64_MAX - 3;
	cr_assert_eq(virtqueue_init(&queue, &bad, &ram.mem), -EINVAL);
}

static void chain_takes_its_way(bool indirect)
{
	const struct driver_piece pieces[] = {{DRIVER_DATA, 16, false},
					      {DRIVER_DATA + 4090, 100, false},
					      {DRIVER_DATA + 9000, 7, true},
					      {DRIVER_DATA + 20000, 5000, true}};
	uint8_t out[116], in[5007];
	uint16_t head;
	uint32_t len;

	begin(8, false);
	for (unsigned i = 0; i < 16; i++)
		ram.mem.ram[DRIVER_DATA + i] = (uint8_t)i;
	for (unsigned i = 0; i < 100; i++)
		ram.mem.ram[DRIVER_DATA + 4090 + i] = (uint8_t)(16 + i);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 0);
	head = driver_add(&driver, pieces, 4, indirect);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 0);
	cr_assert_eq(queue.inflight, 1);
	cr_assert_eq(chain.head, head);
	cr_assert(chain.out_count == 2 && chain.in_count == 2);
	cr_assert(chain.out_bytes == 116 && chain.in_bytes == 5007);
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_eq(chain.segment[i].gpa, pieces[i].gpa);
		cr_assert_eq(chain.segment[i].base, ram.mem.ram + pieces[i].gpa);
		cr_assert_eq(chain.segment[i].len, pieces[i].len);
	}
	cr_assert_eq(virtqueue_read(&chain, 0, out, 200), 116);
	for (unsigned i = 0; i < 116; i++)
		cr_assert_eq(out[i], i);
	cr_assert_eq(virtqueue_read(&chain, 10, out, 10), 10);
	cr_assert(out[0] == 10 && out[9] == 19);
	cr_assert_eq(virtqueue_read(&chain, 115, out, 10), 1);
	cr_assert_eq(virtqueue_read(&chain, 116, out, 10), 0);
	memset(in, 0xab, sizeof(in));
	ram.changed_bytes = 0;
	cr_assert_eq(virtqueue_write(&queue, &chain, 3, in, 5007), 5004);
	cr_assert_eq(ram.changed_bytes, 5004);
	cr_assert_eq(virtqueue_write(&queue, &chain, 5007, in, 1), 0);
	cr_assert(ram.mem.ram[DRIVER_DATA + 9002] == 0 && ram.mem.ram[DRIVER_DATA + 9003] == 0xab);
	cr_assert_eq(ram.mem.ram[DRIVER_DATA + 9007], 0);
	cr_assert_eq(ram.mem.ram[DRIVER_DATA + 24999], 0xab);
	cr_assert_eq(ram.mem.ram[DRIVER_DATA + 25000], 0);
	virtqueue_push(&queue, chain.head, 5007);
	cr_assert_eq(queue.inflight, 0);
	cr_assert(driver_used(&driver, &head, &len));
	cr_assert(head == chain.head && len == 5007);
	cr_assert_not(driver_used(&driver, &head, &len));
}

Test(virtqueue, takes_a_chain)
{
	chain_takes_its_way(false);
}

Test(virtqueue, takes_an_indirect_chain)
{
	chain_takes_its_way(true);
}

/* Section 2.7.5.3.2: direct descriptors, then one that stands for a table, at any address. */
Test(virtqueue, takes_a_chain_that_ends_in_a_table)
{
	uint64_t table = DRIVER_DATA + 3;
	uint64_t gpa = DRIVER_DATA + 512;
	uint32_t len = 20;
	uint16_t flags = DRIVER_F_WRITE;

	begin(8, false);
	memcpy(driver_at(&ram.mem, table), &gpa, 8);
	memcpy(driver_at(&ram.mem, table + 8), &len, 4);
	memcpy(driver_at(&ram.mem, table + 12), &flags, 2);
	driver_descriptor(&driver, 5, DRIVER_DATA + 256, 10, DRIVER_F_NEXT, 2);
	/* Its own writable flag is to be ignored. */
	driver_descriptor(&driver, 2, table, 16, DRIVER_F_INDIRECT | DRIVER_F_WRITE, 9);
	driver_offer(&driver, 5);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_assert(chain.head == 5 && chain.out_count == 1 && chain.in_count == 1);
	cr_assert(chain.segment[1].gpa == gpa && chain.in_bytes == 20);
}

Test(virtqueue, takes_the_longest_chain)
{
	struct driver_piece pieces[VIRTQUEUE_SEGMENTS_MAX];

	begin(VIRTQUEUE_SIZE_MAX, false);
	for (unsigned i = 0; i < VIRTQUEUE_SEGMENTS_MAX; i++)
		pieces[i] = (struct driver_piece){DRIVER_DATA + i * 8192, 1, i > 100};
	driver_add(&driver, pieces, VIRTQUEUE_SEGMENTS_MAX, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_assert(chain.out_count == 101 && chain.in_count == VIRTQUEUE_SEGMENTS_MAX - 101);
	virtqueue_push(&queue, chain.head, 0);
	/* With a direct one before a full table it is too long. */
	memset(driver.busy, 0, sizeof(driver.busy));
	driver_add(&driver, pieces, VIRTQUEUE_SEGMENTS_MAX, true);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	virtqueue_push(&queue, chain.head, 0);
	driver_descriptor(&driver, 7, DRIVER_DATA, 1, DRIVER_F_NEXT, 0);
	driver_offer(&driver, 7);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

/* ---- what is no buffer ---- */

Test(virtqueue, refuses_heads_beyond_the_queue)
{
	begin(8, false);
	driver_offer(&driver, 8);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
	cr_assert_eq(queue.inflight, 0);
}

Test(virtqueue, refuses_descriptors_beyond_the_queue)
{
	cr_assert_eq(pop_one(DRIVER_DATA, 1, DRIVER_F_NEXT, 8), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_DATA, 1, DRIVER_F_NEXT, 0xffff), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_loops)
{
	cr_assert_eq(pop_one(DRIVER_DATA, 1, DRIVER_F_NEXT, 0), -PANGEA_EDRIVER);
	begin(8, false);
	for (uint16_t i = 0; i < 8; i++)
		driver_descriptor(&driver, i, DRIVER_DATA, 1, DRIVER_F_NEXT, (i + 1) % 8);
	driver_offer(&driver, 3);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_loops_in_a_table)
{
	struct driver_piece pieces[3] = {
		{DRIVER_DATA, 1, false}, {DRIVER_DATA, 1, false}, {DRIVER_DATA, 1, false}};
	uint16_t flags = DRIVER_F_NEXT, next = 1, head;

	begin(8, false);
	head = driver_add(&driver, pieces, 3, true);
	memcpy(driver_at(&ram.mem, driver.tables + head * 4096 + 2 * 16 + 12), &flags, 2);
	memcpy(driver_at(&ram.mem, driver.tables + head * 4096 + 2 * 16 + 14), &next, 2);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
	/* The table ends before the queue does. */
	next = 3;
	memcpy(driver_at(&ram.mem, driver.tables + head * 4096 + 2 * 16 + 14), &next, 2);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_what_is_not_in_ram)
{
	cr_assert_eq(pop_one(DRIVER_RAM_BYTES, 1, 0, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_RAM_BYTES - 1, 2, 0, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_RAM_BYTES - 1, 1, 0, 0), 1);
	cr_assert_eq(pop_one(GPA_HOLE_START, 1, 0, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(UINT64_MAX, UINT32_MAX, 0, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_RAM_BYTES, 16, DRIVER_F_INDIRECT, 0), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_empty_and_huge_ones)
{
	struct driver_piece pieces[] = {{0, VIRTQUEUE_CHAIN_BYTES_MAX, false}, {0, 1, true}};

	static_assert(VIRTQUEUE_CHAIN_BYTES_MAX == DRIVER_RAM_BYTES, "one segment is all of RAM");
	cr_assert_eq(pop_one(DRIVER_DATA, 0, 0, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(0, VIRTQUEUE_CHAIN_BYTES_MAX, 0, 0), 1);
	begin(8, false);
	driver_add(&driver, pieces, 2, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_readable_behind_writable)
{
	struct driver_piece pieces[] = {{DRIVER_DATA, 1, true}, {DRIVER_DATA, 1, false}};

	begin(8, false);
	driver_add(&driver, pieces, 2, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_tables_that_are_none)
{
	cr_assert_eq(pop_one(DRIVER_DATA, 0, DRIVER_F_INDIRECT, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_DATA, 15, DRIVER_F_INDIRECT, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_DATA, 257 * 16, DRIVER_F_INDIRECT, 0), -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(DRIVER_DATA, 0xfffffff0u, DRIVER_F_INDIRECT, 0), -PANGEA_EDRIVER);
	/* Both flags; a table in a table (the descriptor points to itself); not negotiated. */
	cr_assert_eq(pop_one(DRIVER_DATA, 16, DRIVER_F_INDIRECT | DRIVER_F_NEXT, 1),
		     -PANGEA_EDRIVER);
	cr_assert_eq(pop_one(driver.config.descriptors, 16, DRIVER_F_INDIRECT, 0), -PANGEA_EDRIVER);
	begin(8, false);
	queue.config.indirect = false;
	driver_add(&driver, (struct driver_piece[]){{DRIVER_DATA, 1, false}}, 1, true);
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

Test(virtqueue, refuses_more_buffers_than_it_has)
{
	begin(4, false);
	for (uint16_t i = 0; i < 4; i++) {
		driver_descriptor(&driver, i, DRIVER_DATA, 1, 0, 0);
		driver_offer(&driver, i);
	}
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	driver_offer(&driver, 0); /* five, though the first was not given back */
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
	virtqueue_push(&queue, 0, 0);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	/* An index that went backwards. */
	begin(4, false);
	*driver_field(&driver, driver.config.driver, 2) = 0xffff;
	cr_assert_eq(virtqueue_pop(&queue, &chain), -PANGEA_EDRIVER);
}

/* ---- order, and who tells whom ---- */

Test(virtqueue, goes_round_for_long)
{
	const struct driver_piece piece = {DRIVER_DATA, 8, true};
	uint16_t head;
	uint32_t len, seen = 0;

	begin(4, true);
	for (unsigned i = 0; i < 70000; i++) {
		unsigned count = 1 + i % 4;

		for (unsigned k = 0; k < count; k++)
			driver_add(&driver, &piece, 1, i % 2);
		for (unsigned k = 0; k < count; k++) {
			cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
			if (i % 7 == 0) {
				virtqueue_unpop(&queue);
				cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
			}
			virtqueue_push(&queue, chain.head, i);
		}
		cr_assert_eq(virtqueue_pop(&queue, &chain), 0);
		while (driver_used(&driver, &head, &len)) {
			cr_assert_eq(len, i);
			seen++;
		}
	}
	cr_assert_eq(seen, 70000 / 4 * 10);
}

Test(virtqueue, asks_to_be_told)
{
	const struct driver_piece piece = {DRIVER_DATA, 8, true};

	begin(8, true);
	driver_add(&driver, &piece, 1, false);
	driver_add(&driver, &piece, 1, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_assert_eq(*driver_avail_event(&driver), 0, "there was more to come");
	ram.changes = 0;
	cr_assert_eq(virtqueue_pop(&queue, &chain), 0);
	cr_assert_eq(*driver_avail_event(&driver), 2);
	cr_assert_eq(ram.changes, 1);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 0);
	cr_assert_eq(ram.changes, 1, "it was asked for already");
	/* Without the feature the field is none. */
	begin(8, false);
	driver_add(&driver, &piece, 1, false);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
	cr_assert_eq(virtqueue_pop(&queue, &chain), 0);
	cr_assert_eq(*driver_avail_event(&driver), 0);
}

static void push_some(unsigned count)
{
	const struct driver_piece piece = {DRIVER_DATA, 8, true};
	uint16_t head;
	uint32_t len;

	for (unsigned i = 0; i < count; i++) {
		driver_add(&driver, &piece, 1, false);
		cr_assert_eq(virtqueue_pop(&queue, &chain), 1);
		virtqueue_push(&queue, chain.head, 0);
		cr_assert(driver_used(&driver, &head, &len));
	}
}

Test(virtqueue, interrupts_by_event)
{
	begin(8, true);
	cr_assert_not(virtqueue_interrupt_wanted(&queue), "nothing was pushed");
	push_some(1); /* used_event is 0: entry 0 is what it waits for */
	cr_assert(virtqueue_interrupt_wanted(&queue));
	cr_assert_not(virtqueue_interrupt_wanted(&queue));
	push_some(2); /* entries 1 and 2 */
	cr_assert_not(virtqueue_interrupt_wanted(&queue));
	*driver_used_event(&driver) = 5;
	push_some(2); /* 3 and 4 */
	cr_assert_not(virtqueue_interrupt_wanted(&queue));
	push_some(3); /* 5, 6 and 7 */
	cr_assert(virtqueue_interrupt_wanted(&queue));
	/* Across the end of the numbers. */
	for (unsigned i = 8; i < 65534; i++)
		push_some(1);
	*driver_used_event(&driver) = 1;
	(void)virtqueue_interrupt_wanted(&queue);
	push_some(3); /* 65534, 65535 and 0 */
	cr_assert_not(virtqueue_interrupt_wanted(&queue));
	push_some(1);
	cr_assert(virtqueue_interrupt_wanted(&queue));
}

Test(virtqueue, interrupts_by_flag)
{
	begin(8, false);
	push_some(3);
	cr_assert(virtqueue_interrupt_wanted(&queue));
	cr_assert_not(virtqueue_interrupt_wanted(&queue));
	*driver_field(&driver, driver.config.driver, 0) = 1;
	push_some(1);
	cr_assert_not(virtqueue_interrupt_wanted(&queue));
}

/* ---- a driver that writes while the device reads ---- */

static _Atomic bool flipping;

static void *flip(void *arg)
{
	uint64_t *gpa = arg;

	while (atomic_load(&flipping)) {
		__atomic_store_n(gpa, UINT64_MAX - 64, __ATOMIC_RELAXED);
		__atomic_store_n(gpa, DRIVER_DATA, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* What was checked is what is used, whatever stands in the ring by then. */
Test(virtqueue, reads_an_address_once)
{
	unsigned taken = 0, refused = 0;
	pthread_t thread;

	begin(2, false);
	driver_descriptor(&driver, 0, DRIVER_DATA, 8, 0, 0);
	atomic_store(&flipping, true);
	cr_assert_eq(
		pthread_create(&thread, NULL, flip, driver_at(&ram.mem, driver.config.descriptors)),
		0);
	driver_offer(&driver, 0);
	for (unsigned i = 0; i < 10000000 && (i < 300000 || !taken || !refused); i++) {
		int got = virtqueue_pop(&queue, &chain);

		if (got == 1) {
			cr_assert_eq(chain.segment[0].gpa, DRIVER_DATA);
			cr_assert_eq(chain.segment[0].base, ram.mem.ram + DRIVER_DATA);
			virtqueue_unpop(&queue);
			taken++;
		} else {
			cr_assert_eq(got, -PANGEA_EDRIVER);
			refused++;
		}
	}
	atomic_store(&flipping, false);
	pthread_join(thread, NULL);
	cr_assert(taken && refused, "%u taken, %u refused", taken, refused);
}
