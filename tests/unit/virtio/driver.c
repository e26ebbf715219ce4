/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of split virtqueues (virtio 1.2, section 2.7), as plain as can be. */
#include "tests/unit/virtio/driver.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "base/limits.h"

#define QUEUE_BYTES (UINT64_C(2) << 20)

struct __attribute__((packed)) descriptor {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

static void changed(void *ctx, uint64_t gpa, uint64_t len)
{
	struct driver_ram *ram = ctx;

	cr_assert(guest_memory_at(&ram->mem, gpa, len));
	ram->changes++;
	ram->changed_bytes += len;
}

void driver_ram_open(struct driver_ram *ram)
{
	uint8_t *all = mmap(NULL, DRIVER_RAM_BYTES + 2 * PANGEA_PAGE_SIZE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	cr_assert(all != MAP_FAILED);
	cr_assert_eq(mprotect(all + PANGEA_PAGE_SIZE, DRIVER_RAM_BYTES, PROT_READ | PROT_WRITE), 0);
	memset(ram, 0, sizeof(*ram));
	ram->mem = (struct guest_memory){.ram = all + PANGEA_PAGE_SIZE,
					 .ram_end = DRIVER_RAM_BYTES,
					 .changed = changed,
					 .ctx = ram};
}

void driver_ram_close(struct driver_ram *ram)
{
	munmap(ram->mem.ram - PANGEA_PAGE_SIZE, DRIVER_RAM_BYTES + 2 * PANGEA_PAGE_SIZE);
}

void *driver_at(const struct guest_memory *mem, uint64_t gpa)
{
	return mem->ram + gpa;
}

void driver_queue_init(struct driver_queue *q, struct guest_memory *mem, unsigned index,
		       uint16_t size, bool event_index)
{
	uint64_t at = PANGEA_PAGE_SIZE + index * QUEUE_BYTES;

	memset(q, 0, sizeof(*q));
	q->mem = mem;
	q->config = (struct virtqueue_config){.size = size,
					      .descriptors = at,
					      .driver = at + PANGEA_PAGE_SIZE,
					      .device = at + 2 * PANGEA_PAGE_SIZE,
					      .event_index = event_index,
					      .indirect = true};
	q->tables = at + 3 * PANGEA_PAGE_SIZE;
	memset(driver_at(mem, at), 0, 3 * PANGEA_PAGE_SIZE);
}

void driver_descriptor(struct driver_queue *q, unsigned index, uint64_t gpa, uint32_t len,
		       uint16_t flags, uint16_t next)
{
	struct descriptor d = {gpa, len, flags, next};

	memcpy(driver_at(q->mem, q->config.descriptors + index * sizeof(d)), &d, sizeof(d));
}

uint16_t *driver_field(const struct driver_queue *q, uint64_t ring, unsigned offset)
{
	return (uint16_t *)driver_at(q->mem, ring + offset);
}

uint16_t *driver_used_event(const struct driver_queue *q)
{
	return driver_field(q, q->config.driver, 4 + 2u * q->config.size);
}

uint16_t *driver_avail_event(const struct driver_queue *q)
{
	return driver_field(q, q->config.device, 4 + 8u * q->config.size);
}

void driver_offer(struct driver_queue *q, uint16_t head)
{
	*driver_field(q, q->config.driver, 4 + 2u * (q->next_available % q->config.size)) = head;
	__atomic_store_n(driver_field(q, q->config.driver, 2), ++q->next_available,
			 __ATOMIC_RELEASE);
}

static uint16_t descriptor_take(struct driver_queue *q)
{
	for (uint16_t i = 0; i < q->config.size; i++)
		if (!q->busy[i]) {
			q->busy[i] = true;
			return i;
		}
	cr_assert_fail("no descriptor is free");
	return 0;
}

static uint16_t add_indirect(struct driver_queue *q, const struct driver_piece *p, unsigned count)
{
	uint16_t head = descriptor_take(q);
	uint64_t table = q->tables + (uint64_t)head * PANGEA_PAGE_SIZE;

	for (unsigned i = 0; i < count; i++) {
		struct descriptor d = {p[i].gpa, p[i].len,
				       (uint16_t)((p[i].in ? DRIVER_F_WRITE : 0u) |
						  (i + 1 < count ? DRIVER_F_NEXT : 0u)),
				       (uint16_t)(i + 1)};

		memcpy(driver_at(q->mem, table + i * sizeof(d)), &d, sizeof(d));
	}
	driver_descriptor(q, head, table, count * (uint32_t)sizeof(struct descriptor),
			  DRIVER_F_INDIRECT, 0);
	q->chained[head] = 1;
	return head;
}

static uint16_t add_chained(struct driver_queue *q, const struct driver_piece *p, unsigned count)
{
	uint16_t head = descriptor_take(q), at = head;

	for (unsigned i = 0; i < count; i++) {
		uint16_t flags = p[i].in ? DRIVER_F_WRITE : 0, next = 0;

		if (i + 1 < count) {
			next = descriptor_take(q);
			flags |= DRIVER_F_NEXT;
		}
		driver_descriptor(q, at, p[i].gpa, p[i].len, flags, next);
		at = next;
	}
	q->chained[head] = (uint16_t)count;
	return head;
}

uint16_t driver_add(struct driver_queue *q, const struct driver_piece *pieces, unsigned count,
		    bool indirect)
{
	uint16_t head = indirect ? add_indirect(q, pieces, count) : add_chained(q, pieces, count);

	driver_offer(q, head);
	return head;
}

static void chain_free(struct driver_queue *q, uint16_t head)
{
	struct descriptor d = {.next = head};

	for (unsigned i = 0; i < q->chained[head]; i++) {
		cr_assert(q->busy[d.next]);
		q->busy[d.next] = false;
		memcpy(&d, driver_at(q->mem, q->config.descriptors + d.next * sizeof(d)),
		       sizeof(d));
	}
	q->chained[head] = 0;
}

bool driver_used(struct driver_queue *q, uint16_t *head, uint32_t *len)
{
	unsigned offset = 4 + 8u * (q->last_used % q->config.size);
	uint16_t idx = __atomic_load_n(driver_field(q, q->config.device, 2), __ATOMIC_ACQUIRE);
	uint32_t id;

	if (idx == q->last_used)
		return false;
	memcpy(&id, driver_at(q->mem, q->config.device + offset), 4);
	memcpy(len, driver_at(q->mem, q->config.device + offset + 4), 4);
	cr_assert_lt(id, q->config.size);
	cr_assert_gt(q->chained[id], 0, "buffer %u was not the device's", id);
	*head = (uint16_t)id;
	chain_free(q, *head);
	q->last_used++;
	return true;
}
